//! export: a subtree as a file or folder.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::json;

use crate::Context;
use crate::cli::{Export, Format};
use crate::client::{Answer, Home, JSON, Request, Session, open};
use crate::clock::span;
use crate::downloads::Note;
use crate::failure::Failure;
use crate::folder::{Laid, Layout, Written, has_content, lay_out, outlet, through_no_link, write};
use crate::output::Output;
use crate::pieces::is_name;
use crate::pretty::Pretty;
use crate::progress::Progress;
use crate::target::{Target, Versions, segment};
use crate::transfer::{Line, download};
use crate::value::{Json, compact, counted, file, parse};
use crate::verbs::explain;
use crate::verbs::import::format_of;

pub(crate) async fn run(context: &Context, args: Export) -> anyhow::Result<()> {
    let began = Instant::now();
    let to_stdout = args.target.as_os_str() == "-";
    let format = match args.format {
        Some(format) => format,
        None if to_stdout => Format::Json,
        None => format_of(&args.target, args.target.is_dir() || has_final_slash(&args.target)).ok_or_else(|| {
            Failure::usage(format!("what should {} be?", args.target.display())).fix("say --format json, --format ndjson or --format dir")
        })?,
    };
    if to_stdout && format == Format::Dir {
        return Err(Failure::usage("a folder cannot go to standard output").fix("name a folder, or say --format json").into());
    }
    let (mut session, mut client) = open(context, Home::MustExist).await?;
    let request = Request::get(args.path.encoded()).header("accept", JSON)?.versions("version", args.at.as_ref())?;
    let answer = client.send(request).await.map_err(|error| explain(error, &args.path))?;
    let version = answer.version();
    let (mut skipped, mut left) = (Vec::new(), 0);
    let (files, values) = match format {
        Format::Dir => {
            let json = read(context.out, answer).await?;
            let files;
            (files, left, skipped) = write_folder(context, &mut session, &args, &json).await?;
            (files, None)
        }
        Format::Json => {
            let mut file = Written::begin(&args.target)?;
            write_json(context.out, answer, &mut |bytes| file.write_all(bytes).context("could not write the export")).await?;
            file.finish(false)?;
            if to_stdout {
                return Ok(());
            }
            (1, None)
        }
        Format::Ndjson => {
            let json = read(context.out, answer).await?;
            let mut lines = Vec::new();
            list_leaves(&json, "", &mut lines);
            let count = lines.len();
            let text = lines.concat();
            if let Some(mut outlet) = outlet(&args.target)? {
                outlet.write_all(text.as_bytes()).and_then(|()| outlet.flush()).context("could not write the export")?;
            } else {
                write(&args.target, text.as_bytes())?;
            }
            if to_stdout {
                return Ok(());
            }
            (1, Some(count))
        }
    };
    let json = json!({
        "path": args.path.to_string(),
        "target": args.target.display().to_string(),
        "version": version.list(),
        "files": files,
        "values": values,
        "left": left,
        "skipped": skipped,
        "elapsed_ms": began.elapsed().as_millis() as u64,
    });
    context.out.result(&json, || {
        let what = match values {
            Some(values) => counted(values, "value"),
            None => counted(files, "file"),
        };
        let left = match left {
            0 => String::new(),
            left if left == files => ", all of them left as they were".to_owned(),
            left => format!(", {left} of them left as they were"),
        };
        format!("exported {} to {}: {what} in {}{left}", args.path, args.target.display(), span(began.elapsed().as_millis() as u64))
    })
}

fn has_final_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Streams a value as JSON laid out for people; what is not JSON becomes a JSON string or is refused.
async fn write_json(out: Output, mut answer: Answer, sink: &mut (dyn FnMut(&[u8]) -> anyhow::Result<()> + Send)) -> anyhow::Result<()> {
    if answer.mime() != JSON {
        return sink(&crate::folder::json_file(&read(out, answer).await?));
    }
    let progress = Progress::bytes(out, "exporting", answer.length());
    let mut pretty = Pretty::default();
    while let Some(piece) = answer.next().await? {
        let mut text = Vec::with_capacity(piece.len() * 2);
        pretty.push(&piece, &mut text);
        sink(&text)?;
        progress.add(piece.len() as u64);
    }
    sink(b"\n")
}

/// Reads a whole value.
async fn read(out: Output, mut answer: Answer) -> anyhow::Result<Json> {
    let mime = answer.mime().to_owned();
    let progress = Progress::bytes(out, "reading", answer.length());
    let mut bytes = Vec::new();
    while let Some(piece) = answer.next().await? {
        bytes.extend_from_slice(&piece);
        progress.add(piece.len() as u64);
    }
    progress.done();
    if mime == JSON {
        return parse(&bytes).context("the peer's answer is not JSON");
    }
    match String::from_utf8(bytes) {
        Ok(text) if mime.starts_with("text/") => Ok(Json::String(text)),
        _ => Err(Failure::refused(format!("this is one file of type {mime}")).fix("timebus get PATH -o FILE").into()),
    }
}

/// One `{"path","value"}` a line for every value without names below it.
fn list_leaves(json: &Json, path: &str, lines: &mut Vec<String>) {
    match json {
        Json::Object(members) if !members.is_empty() && file(json).is_none() && members.keys().all(|name| is_name(name)) => {
            for (name, value) in members {
                list_leaves(value, &format!("{path}/{}", segment(name)), lines);
            }
        }
        value => {
            let path = if path.is_empty() { "/" } else { path };
            lines.push(format!("{{\"path\":{},\"value\":{}}}\n", json!(path), compact(value)));
        }
    }
}

/// Writes a tree as files. Answers how many, how many of them were right already, and what had no place.
async fn write_folder(context: &Context, session: &mut Session, args: &Export, json: &Json) -> anyhow::Result<(usize, usize, Vec<String>)> {
    let Some(Layout { laid, hidden, skipped }) = lay_out(json, &args.target) else {
        let text = match json {
            Json::Object(_) => format!("{} has names that no file can have", args.path),
            _ => format!("{} is one value, which is no folder", args.path),
        };
        return Err(Failure::refused(text).fix("say --format json").into());
    };
    for skipped in &skipped {
        context.out.note(format!("skipped  {skipped}"));
    }
    if let Some(first) = hidden.first() {
        let others = if hidden.len() > 1 { format!(" and {} more", hidden.len() - 1) } else { String::new() };
        context.out.note(format!("hidden   {first}{others}: names that begin with a dot, which few programs show and some act on"));
    }
    let progress = Arc::new(Progress::things(context.out, "writing", Some(laid.len() as u64)));
    let (mut files, mut left) = (0, 0);
    let mut fetches = VecDeque::new();
    for laid in laid {
        let (Laid::Folder(path) | Laid::File(path, _) | Laid::Fetch(path, ..)) = &laid;
        through_no_link(&args.target, path).with_context(|| format!("could not write {}", path.display()))?;
        match laid {
            Laid::Folder(path) => std::fs::create_dir_all(&path).with_context(|| format!("could not make the folder {}", path.display()))?,
            Laid::File(path, bytes) => {
                left += usize::from(!write(&path, &bytes)?);
                files += 1;
            }
            Laid::Fetch(path, names, content) => {
                // What is there already need not come again.
                if let Some((hash, len)) = content {
                    let at = path.clone();
                    if tokio::task::spawn_blocking(move || has_content(&at, &hash, len)).await? {
                        (files, left) = (files + 1, left + 1);
                        progress.add(1);
                        continue;
                    }
                }
                fetches.push_back((path, names.iter().fold(args.path.clone(), |target, name| target.child(name))));
                continue;
            }
        }
        progress.add(1);
    }
    let count = fetches.len();
    let missing = fetch_files(context, session, args, fetches, &progress).await?;
    let Some((first, why)) = missing.first() else { return Ok((files + count, left, skipped)) };
    let others = if missing.len() > 1 { format!(", and {} more", missing.len() - 1) } else { String::new() };
    let failure = Failure::of(why);
    Err(Failure { title: format!("{} of {} did not come", missing.len(), counted(files + count, "file")), ..failure.clone() }
        .detail(format!("{first}: {}{others}", failure.title))
        .fix("the same command again gets them, when somebody who has them is there")
        .into())
}

/// Files that are got at once.
const AT_ONCE: usize = 8;

/// Gets files into their places, some at once. Answers those that nobody who is there has; anything else ends it.
async fn fetch_files(
    context: &Context,
    session: &mut Session,
    args: &Export,
    fetches: VecDeque<(PathBuf, Target)>,
    progress: &Arc<Progress>,
) -> anyhow::Result<Vec<(Target, anyhow::Error)>> {
    let others = (1..AT_ONCE.min(fetches.len())).map_while(|_| session.another()).collect::<Vec<_>>();
    let queue = Arc::new(Mutex::new(fetches));
    let mut working = tokio::task::JoinSet::new();
    for mut session in others {
        let (context, at, queue, progress) = (context.clone(), args.at.clone(), Arc::clone(&queue), Arc::clone(progress));
        working.spawn(async move { fetch_some(&context, &mut session, at.as_ref(), &queue, &progress).await });
    }
    let mut missing = fetch_some(context, session, args.at.as_ref(), &queue, progress).await?;
    while let Some(done) = working.join_next().await {
        missing.extend(done.context("a download was lost")??);
    }
    Ok(missing)
}

async fn fetch_some(
    context: &Context,
    session: &mut Session,
    at: Option<&Versions>,
    queue: &Mutex<VecDeque<(PathBuf, Target)>>,
    progress: &Progress,
) -> anyhow::Result<Vec<(Target, anyhow::Error)>> {
    let mut missing = Vec::new();
    loop {
        let next = queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front();
        let Some((path, target)) = next else { return Ok(missing) };
        let request = Request::get(target.encoded()).versions("version", at)?;
        let mut note = Note::begin(&context.home, &target, at, &path)?;
        match download(Output { json: true }, &mut Line::new(session), &request, &path, &mut note).await {
            Ok(got) if got.mime == JSON => {
                let text = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
                write(&path, &crate::folder::json_file(&parse(&text)?))?;
            }
            Ok(_) => {}
            Err(error) if matches!(Failure::of(&error).status, Some(503 | 504)) => missing.push((target, error)),
            Err(error) => return Err(error),
        }
        progress.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_are_listed_with_paths_from_the_export() {
        let json = parse(br#"{"a":{"@b":1,"c":[{"d":2}]},"e":{},"f":{"x/y":1}}"#).expect("JSON");
        let mut lines = Vec::new();
        list_leaves(&json, "", &mut lines);
        let expected = [
            r#"{"path":"/a/@@b","value":1}"#,
            r#"{"path":"/a/c","value":[{"d":2}]}"#,
            r#"{"path":"/e","value":{}}"#,
            r#"{"path":"/f","value":{"x/y":1}}"#,
        ];
        assert_eq!(lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>(), expected);
    }
}
