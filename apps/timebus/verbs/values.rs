//! get, put, patch, post and rm.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use hyper::Method;
use serde_json::json;

use crate::Context;
use crate::cli::{Conditions, Get, Inc, Mv, Patch, Post, Put, Rm, View};
use crate::client::{Answer, Home, JSON, Request, Session, open};
use crate::clock::span;
use crate::downloads::Note;
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::{Output, printable};
use crate::pretty::Pretty;
use crate::progress::Progress;
use crate::target::Target;
use crate::transfer::{LARGE_BYTES, Line, download, upload};
use crate::verbs::{explain, explain_reading, of_before, say_before};

const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
/// Bytes of a file that is shown as base64 in a line of JSON; of a larger one only the size is.
const BASE64_BYTES_MAX: u64 = 1024 * 1024;
const BYTES: &str = "application/octet-stream";

pub(crate) async fn get(context: &Context, args: Get) -> anyhow::Result<()> {
    let (mut session, mut client) = open(context, Home::MustExist).await?;
    let mut request = Request::get(args.path.encoded()).versions("version", args.at.as_ref())?;
    if let Some(file) = &args.output {
        return match get_file(context, &mut session, &args, &request, file).await {
            Err(error) => Err(explain_reading(&mut client, error, &args.path).await),
            got => got,
        };
    }
    if let Some(view) = args.view {
        let name = match view {
            View::All => "all",
            View::Raw => "raw",
            View::Meta => "meta",
        };
        request = request.query("view", name);
    }
    let answer = match client.send(request).await {
        Ok(answer) => answer,
        Err(error) => return Err(explain_reading(&mut client, error, &args.path).await),
    };
    let out = context.out;
    let before = of_before(&answer);
    show(out, &args, answer).await?;
    say_before(out, before.as_ref());
    Ok(())
}

async fn show(out: Output, args: &Get, answer: Answer) -> anyhow::Result<()> {
    match (args.view, answer.mime()) {
        (Some(View::Raw), _) => stream(out, answer).await,
        (Some(View::Meta), _) => stream(out, answer).await,
        _ if out.json => describe(out, &args.path, answer).await,
        (_, mime) if is_json(mime) => {
            let (mut pretty, mut answer) = (Pretty::default(), answer);
            while let Some(piece) = answer.next().await? {
                let mut text = Vec::with_capacity(piece.len() * 2);
                pretty.push(&piece, &mut text);
                out.bytes(&text)?;
            }
            Ok(out.line("")?)
        }
        (_, mime) if mime.starts_with("text/") && out.is_terminal() => {
            let text = printable(&String::from_utf8_lossy(&answer.bytes().await?));
            out.bytes(text.as_bytes())?;
            if !text.ends_with('\n') {
                out.line("")?;
            }
            Ok(())
        }
        (_, mime) if !mime.starts_with("text/") && out.is_terminal() => {
            let title = format!("{} is a file of type {mime}, which a terminal cannot show", args.path);
            let name = args.path.name().unwrap_or("file");
            Err(Failure::refused(title).fix(format!("timebus get {} -o {}", quoted_text(&args.path.to_string()), quoted_text(name))).into())
        }
        _ => stream(out, answer).await,
    }
}

/// Gets a value into a file, going on with what an earlier try has got.
async fn get_file(context: &Context, session: &mut Session, args: &Get, request: &Request, file: &Path) -> anyhow::Result<()> {
    let began = std::time::Instant::now();
    let mut note = Note::begin(&context.home, &args.path, args.at.as_ref(), file)?;
    let mut line = Line::new(session);
    let done = download(context.out, &mut line, request, file, &mut note).await?;
    let json = json!({
        "path": args.path.to_string(),
        "file": file.display().to_string(),
        "type": done.mime,
        "version": done.version.list(),
        "bytes": done.bytes,
        "resumed_at": done.resumed_at,
        "source": done.source,
        "sources": done.sources.iter().filter_map(|source| serde_json::from_str(&crate::value::compact(source)).ok()).collect::<Vec<serde_json::Value>>(),
        "taken_back": done.before,
        "elapsed_ms": began.elapsed().as_millis() as u64,
    });
    say_before(context.out, done.before.as_ref());
    context.out.result(&json, || {
        let source = done.source.as_ref().map_or_else(String::new, |source| format!(": {}", printable(source)));
        let size = indicatif::DecimalBytes(done.bytes);
        format!("saved {} as {}: {size} in {}{source}", args.path, file.display(), span(began.elapsed().as_millis() as u64))
    })
}

fn is_json(mime: &str) -> bool {
    mime == JSON || mime.ends_with("+json")
}

async fn stream(out: Output, mut answer: Answer) -> anyhow::Result<()> {
    while let Some(piece) = answer.next().await? {
        out.bytes(&piece)?;
    }
    Ok(out.flush()?)
}

/// Prints a value with what is known about it, as one line of JSON, without holding it in memory.
async fn describe(out: Output, path: &Target, mut answer: Answer) -> anyhow::Result<()> {
    let mime = answer.mime().to_owned();
    let mut head = json!({
        "path": path.to_string(),
        "version": answer.version().list(),
        "conflicts": answer.conflicts(),
        "type": mime,
    });
    if let Some(before) = of_before(&answer) {
        head["taken_back"] = before;
    }
    let head = head.to_string();
    out.bytes(head.trim_end_matches('}').as_bytes())?;
    if is_json(&mime) {
        out.bytes(b",\"value\":")?;
        while let Some(piece) = answer.next().await? {
            out.bytes(&piece)?;
        }
    } else {
        // What would be a wall of letters is left where it is; whoever wants it names a file.
        if let Some(bytes) = answer.length().filter(|bytes| *bytes > BASE64_BYTES_MAX && !mime.starts_with("text/")) {
            out.bytes(format!(",\"bytes\":{bytes}}}\n").as_bytes())?;
            out.flush()?;
            out.note(format!("`timebus get {} -o FILE` gets it", quoted_text(&path.to_string())));
            return Ok(());
        }
        let bytes = answer.bytes().await?;
        let value = match String::from_utf8(bytes) {
            Ok(text) if mime.starts_with("text/") => format!(",\"value\":{}", json!(text)),
            Ok(text) => format!(",\"base64\":{}", json!(base64::engine::general_purpose::STANDARD.encode(text))),
            Err(error) => format!(",\"base64\":{}", json!(base64::engine::general_purpose::STANDARD.encode(error.as_bytes()))),
        };
        out.bytes(value.as_bytes())?;
    }
    Ok(out.line("}")?)
}

pub(crate) async fn put(context: &Context, args: Put) -> anyhow::Result<()> {
    if let Some((file, mime)) = large_file(&args) {
        return put_file(context, &args, &file, &mime).await;
    }
    let value = read_value(&args.value)?;
    let of_name = value.file.as_deref().and_then(|file| crate::media::of_name(Path::new(file)));
    let mime = match (args.text, args.mime, of_name) {
        (true, _, Some(mime)) if mime.starts_with("text/") => mime.to_owned(),
        (true, _, _) => "text/plain".to_owned(),
        (false, Some(mime), _) => mime,
        (false, None, Some(mime)) => mime.to_owned(),
        // A file that is no text cannot be JSON either.
        (false, None, None) if value.file.is_some() && std::str::from_utf8(&value.bytes).is_err() => BYTES.to_owned(),
        (false, None, None) => JSON.to_owned(),
    };
    if mime == JSON {
        check_json(&value, "put", &args.path)?;
    }
    let (_session, mut client) = open(context, Home::MayBegin).await?;
    let mut request = with_conditions(Request::new(Method::PUT, args.path.encoded()), &args.conditions)?;
    if args.if_absent {
        request = request.header("if-none-match", "*")?;
    }
    let answer = client.send(request.body(&mime, value.bytes)?).await.map_err(|error| explain(error, &args.path))?;
    wrote(context.out, "saved", &args.path, &answer)
}

/// The file of a value that is too large to be sent as one piece, and its media type. JSON always is one piece.
fn large_file(args: &Put) -> Option<(PathBuf, String)> {
    let file = PathBuf::from(args.value.strip_prefix('@').filter(|rest| !rest.starts_with('@'))?);
    let about = std::fs::metadata(&file).ok().filter(std::fs::Metadata::is_file)?;
    let mime = args.mime.as_deref().or_else(|| crate::media::of_name(&file));
    let mime = match mime {
        _ if args.text => "text/plain",
        Some(mime) => mime,
        None if begins_as_text(&file) => JSON,
        None => BYTES,
    };
    (about.len() >= LARGE_BYTES && !is_json(mime)).then(|| (file, mime.to_owned()))
}

/// Whether the first bytes of a file are text, so that it may be JSON.
fn begins_as_text(file: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(4096).read_to_end(&mut head));
    // A character may be cut at the end.
    read.is_ok() && std::str::from_utf8(&head).map_or_else(|error| error.error_len().is_none(), |_| true)
}

async fn put_file(context: &Context, args: &Put, file: &Path, mime: &str) -> anyhow::Result<()> {
    let mut session = Session::open(context, Home::MayBegin).await?;
    let mut request = with_conditions(Request::new(Method::PUT, args.path.encoded()), &args.conditions)?;
    if args.if_absent {
        request = request.header("if-none-match", "*")?;
    }
    let progress = Progress::bytes(context.out, "putting", std::fs::metadata(file).ok().map(|about| about.len()));
    let mut line = Line::new(&mut session);
    let answer = upload(&mut line, request, mime, file, &progress).await.map_err(|error| explain(error, &args.path))?;
    progress.done();
    wrote(context.out, "saved", &args.path, &answer)
}

pub(crate) async fn patch(context: &Context, args: Patch) -> anyhow::Result<()> {
    let value = read_value(&args.patch)?;
    let mut request = with_conditions(Request::new(Method::PATCH, args.path.encoded()), &args.conditions)?;
    let mime = match args.range {
        Some(range) => {
            let range = range.trim();
            let is_text = range.starts_with("text ");
            let range = if is_text || range.starts_with("json ") { range.to_owned() } else { format!("json {range}") };
            request = request.header("content-range", &range)?;
            if is_text { "text/plain" } else { JSON }
        }
        None if value.bytes.trim_ascii_start().starts_with(b"[") => JSON_PATCH,
        None => MERGE_PATCH,
    };
    if mime != "text/plain" {
        check_json(&value, "patch", &args.path)?;
    }
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let answer = client.send(request.body(mime, value.bytes)?).await.map_err(|error| explain(error, &args.path))?;
    wrote(context.out, "changed", &args.path, &answer)
}

pub(crate) async fn mv(context: &Context, args: &Mv) -> anyhow::Result<()> {
    let ((from_space, from), (to_space, to)) = (args.from.split(), args.to.split());
    if from_space != to_space {
        let fix = "`timebus get FROM`, `timebus put TO`, then `timebus rm FROM`; of files `get -o FILE` and `put TO @FILE`";
        return Err(Failure::usage(format!("{} and {} are in two spaces, and a move is one change in one", args.from, args.to)).fix(fix).into());
    }
    let (session, mut client) = open(context, Home::MustExist).await?;
    let request = Request::post(args.from.below("/.sys/move")).body(JSON, json!({"to": to.to_string()}).to_string())?;
    let moved = client.json(request).await.map_err(|error| explain(error, &args.from));
    session.close().await;
    let moved = moved?;
    let json =
        json!({"from": args.from.to_string(), "to": args.to.to_string(), "version": crate::value::versions(crate::value::member(&moved, "version"))});
    context.out.result(&json, || format!("moved {} to {}; its history stays at {from}, where `undo` brings it back", args.from, args.to))
}

pub(crate) async fn post(context: &Context, args: Post) -> anyhow::Result<()> {
    let value = read_value(&args.value)?;
    check_json(&value, "post", &args.path)?;
    let (_session, mut client) = open(context, Home::MayBegin).await?;
    let answer = client.send(Request::post(args.path.encoded()).body(JSON, value.bytes)?).await?;
    let created = answer.header("location").map(decoded);
    match created.map(|path| path.parse::<Target>()) {
        Some(Ok(path)) => wrote(context.out, "saved", &path, &answer),
        _ => wrote(context.out, "added to", &args.path, &answer),
    }
}

pub(crate) async fn inc(context: &Context, args: Inc) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MayBegin).await?;
    let request = Request::post(args.path.encoded()).query("inc", args.by);
    let answer = client.send(request).await.map_err(|error| explain(error, &args.path))?;
    let version = answer.version();
    let crate::value::Json::Int(number) = crate::value::parse(&answer.bytes().await?)? else {
        return Err(Failure::refused(format!("{} holds no number any more", args.path)).into());
    };
    let json = json!({"path": args.path.to_string(), "value": number, "version": version.list()});
    context.out.result(&json, || number.to_string())
}

pub(crate) async fn rm(context: &Context, args: Rm) -> anyhow::Result<()> {
    if args.path.is_whole() && !args.yes {
        let fix = format!("if that is what you want: timebus rm {} --yes", quoted_text(&args.path.to_string()));
        return Err(Failure::usage("this would remove everything").fix(fix).into());
    }
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let request = with_conditions(Request::new(Method::DELETE, args.path.encoded()), &args.conditions)?;
    let answer = client.send(request).await.map_err(|error| explain(error, &args.path))?;
    wrote(context.out, "removed", &args.path, &answer)
}

fn with_conditions(request: Request, conditions: &Conditions) -> anyhow::Result<Request> {
    let request = request.versions("parents", conditions.parents.as_ref())?;
    request.versions("if-match", conditions.if_version.as_ref())
}

fn wrote(out: Output, what: &str, path: &Target, answer: &Answer) -> anyhow::Result<()> {
    let version = answer.version();
    let json = json!({"path": path.to_string(), "version": version.list()});
    out.result(&json, || format!("{what} {path}  version {version}"))
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value from the command line.
struct Value {
    bytes: Vec<u8>,
    /// The file that it was read from.
    file: Option<String>,
    /// Whether it stood on the command line itself.
    is_typed: bool,
}

/// Reads what `VALUE`, `@FILE` or `-` stands for.
fn read_value(argument: &str) -> anyhow::Result<Value> {
    if argument == "-" {
        let mut bytes = Vec::new();
        if std::io::stdin().is_terminal() {
            Output { json: false }.note("reading standard input; end it with Ctrl-D");
        }
        std::io::stdin().lock().read_to_end(&mut bytes).context("could not read standard input")?;
        return Ok(Value { bytes, file: None, is_typed: false });
    }
    match argument.strip_prefix('@') {
        Some(escaped) if escaped.starts_with('@') => Ok(Value { bytes: escaped.into(), file: None, is_typed: true }),
        Some(file) => {
            let bytes = std::fs::read(file).map_err(|error| {
                Failure::usage(format!("could not read {file:?}"))
                    .detail(error)
                    .fix("a value that begins with @ names a file; write @@ for a text that begins with @")
            })?;
            Ok(Value { bytes, file: Some(file.to_owned()), is_typed: false })
        }
        None => Ok(Value { bytes: argument.into(), file: None, is_typed: true }),
    }
}

/// Refuses what is not JSON before a peer is bothered, with the command that would work.
fn check_json(value: &Value, verb: &str, path: &Target) -> anyhow::Result<()> {
    let Err(error) = crate::value::parse(&value.bytes) else { return Ok(()) };
    let path = quoted_text(&path.to_string());
    let text = String::from_utf8_lossy(&value.bytes);
    // Whoever forgets the quotes of a string does not begin it like this.
    let is_meant_as_json = text.trim_start().starts_with(['{', '[', '"']);
    let fix = match verb {
        "put" if value.is_typed && !is_meant_as_json => {
            let quoted = quoted_text(&json!(text).to_string());
            format!(
                "a string needs its quotes: timebus put {path} {quoted}\nas text, without them:   timebus put {path} --text {}",
                quoted_text(&text)
            )
        }
        "put" => "mend it; or, for a text add --text, for another file --type MIME".to_owned(),
        verb if value.is_typed && !is_meant_as_json => {
            format!("a string needs its quotes: timebus {verb} {path} {}", quoted_text(&json!(text).to_string()))
        }
        _ => "mend it".to_owned(),
    };
    let title = match &value.file {
        Some(file) => format!("{file} is not JSON that can be kept"),
        None => "the value is not JSON that can be kept".to_owned(),
    };
    Err(Failure::usage(title).detail(error).fix(fix).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_from_three_places() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let file = temp.path().join("a.json");
        std::fs::write(&file, "[1]").expect("a file");
        assert_eq!(read_value("7").expect("typed").bytes, b"7");
        assert_eq!(read_value("@@me").expect("typed").bytes, b"@me");
        assert_eq!(read_value(&format!("@{}", file.display())).expect("a file").bytes, b"[1]");
        let missing = read_value("@/does/not/exist").map(|_| ()).expect_err("no such file");
        assert_eq!(Failure::of(&missing).code, crate::failure::USAGE);
    }

    #[test]
    fn a_string_without_quotes_gets_the_command_that_works() {
        let value = read_value("it's me").expect("typed");
        let path = "/notes/hi".parse().expect("a path");
        let error = check_json(&value, "put", &path).expect_err("not JSON");
        let fix = Failure::of(&error).fix.expect("a fix");
        assert!(fix.contains(r#"timebus put /notes/hi '"it'\''s me"'"#), "{fix}");
        assert!(fix.contains(r"--text 'it'\''s me'"), "{fix}");
    }

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(decoded("/a%20b/%C3%A9/100%"), "/a b/é/100%");
    }
}
