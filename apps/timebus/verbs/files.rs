//! files: how much is kept, what is pinned, what is on its way, from whom and how fast.

use anyhow::Context as _;
use indicatif::DecimalBytes;
use serde_json::json;

use crate::Context;
use crate::amounts::Speed;
use crate::cli::{Answer, Files, FilesVerb};
use crate::client::{Home, JSON, Request, open};
use crate::downloads::{self, Begun};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::printable;
use crate::standing::table;
use crate::value::{Json, compact, counted, items, member, number, parse, text};

pub(crate) async fn run(context: &Context, args: Files) -> anyhow::Result<()> {
    match args.verb.unwrap_or(FilesVerb::Ls) {
        FilesVerb::Ls => list(context).await,
        FilesVerb::Pin { path } => pin(context, "pin", &path).await,
        FilesVerb::Unpin { path } => pin(context, "unpin", &path).await,
        FilesVerb::Pause { which } => say(context, "pause", &which).await,
        FilesVerb::Resume { which } => say(context, "resume", &which).await,
        FilesVerb::Cancel { which } => say(context, "cancel", &which).await,
        FilesVerb::Free { path, history, preview } => free(context, path.as_ref(), history, preview).await,
        FilesVerb::Limit { up, down } => limit(context, up, down).await,
        FilesVerb::Share { who, share } => self::share(context, &who, share).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let told = client.json(Request::get("/.sys/blobs")).await?;
    session.close().await;
    let out = context.out;
    let begun = downloads::begun(&context.home).context("could not read which downloads were begun")?;
    if out.json {
        let mut told: serde_json::Value = serde_json::from_str(&compact(&told))?;
        told["downloads"] = begun.iter().map(|begun| describe(context, begun)).collect();
        return Ok(out.line(told.to_string())?);
    }
    let size = |of: &Json, name| DecimalBytes(number(of, name).unwrap_or(0)).to_string();
    out.line(format!("kept       {}; of files of others up to {}, and what is pinned", size(&told, "bytes"), size(&told, "cache_bytes_max")))?;
    if let Some(limits) = member(&told, "limits").filter(|limits| is_limited(limits)) {
        out.line(format!("limited    {}", limits_say(limits)))?;
    }
    if let Some(given) = member(&told, "given").filter(|given| number(given, "bytes").unwrap_or(0) > 0) {
        let speed =
            number(given, "bytes_per_s").filter(|speed| *speed > 0).map_or_else(String::new, |_| format!(", now {}/s", size(given, "bytes_per_s")));
        out.line(format!(
            "given      {} to others, since {}{speed}",
            size(given, "bytes"),
            crate::clock::utc(number(given, "since_ms").unwrap_or(0))
        ))?;
    }
    let name = |of: &Json, name| printable(text(of, name).unwrap_or("?"));
    if let Some(problem) = text(&told, "problem") {
        let problem = printable(problem);
        out.line(format!(
            "kept back  all files of others, as what you said of them is not known: {problem}; mend it, or move it away, and start the peer again"
        ))?;
    }
    for back in items(&told, "kept_back") {
        out.line(format!("kept back  files of {} do not go on to others from here", name(back, "name")))?;
    }
    let mut rows = Vec::new();
    for pin in items(&told, "pins") {
        let files = number(pin, "files").unwrap_or(0);
        rows.push(vec!["pinned".to_owned(), name(pin, "path"), {
            let problem =
                text(pin, "problem").map_or_else(String::new, |problem| format!("; what is missing cannot be kept: {}", printable(problem)));
            format!("{}, {} of {}{problem}", counted(files as usize, "file"), size(pin, "bytes_here"), size(pin, "bytes_total"))
        }]);
    }
    for upload in items(&told, "uploads") {
        let total = number(upload, "bytes_total").map_or_else(String::new, |bytes| format!(" of {}", DecimalBytes(bytes)));
        let path = text(upload, "path").unwrap_or("?");
        let cancel = context.home.command(&format!("files cancel {}", quoted_text(path)));
        let since = crate::clock::utc(number(upload, "changed_ms").unwrap_or(0));
        let here = size(upload, "bytes_here");
        let how = match member(upload, "is_refused") == Some(&Json::Bool(true)) {
            true => format!("all of its {here} have come, and the value was refused; the same upload tries again, `{cancel}` gives it up"),
            false => format!("{here}{total} have come, the last {since}; the same upload goes on there, `{cancel}` gives it up"),
        };
        rows.push(vec!["upload".to_owned(), printable(path), printable(&how)]);
    }
    for transfer in items(&told, "transfers") {
        let state = text(transfer, "state").unwrap_or("?");
        let readers = number(transfer, "readers").unwrap_or(0);
        let here = format!("{} of {}", size(transfer, "bytes_here"), size(transfer, "bytes_total"));
        let again = begun.iter().find(|begun| is_same(begun, transfer)).map_or_else(String::new, |begun| {
            format!("; `{}` goes on writing {}", begun.download.again(&context.home), begun.download.file.display())
        });
        let how = match (state, readers) {
            ("coming", _) => {
                let left = number(transfer, "left_ms").filter(|left| *left >= 1000);
                let left = left.map_or_else(String::new, |left| format!(", {} left", crate::clock::span(left)));
                let from = items(transfer, "sources");
                let from = if from.len() > 1 { format!(" ({})", shares(from)) } else { String::new() };
                format!("{here} {}{left}{from}{again}", name(transfer, "text"))
            }
            ("going", 0) if number(transfer, "bytes_given").unwrap_or(0) == 0 => continue,
            ("going", readers) => {
                let given = match number(transfer, "given_per_s").unwrap_or(0) {
                    0 => String::new(),
                    _ => format!(", {}/s", size(transfer, "given_per_s")),
                };
                let one = |to: &Json| format!("{} {}, who has {}", size(to, "bytes"), name(to, "name"), size(to, "has_bytes"));
                let to = items(transfer, "given_to").iter().map(one).collect::<Vec<_>>();
                let to = if to.is_empty() { String::new() } else { format!(": {}", to.join("; ")) };
                format!("{} given{given}, {} may take it from here{to}", size(transfer, "bytes_given"), counted(readers as usize, "other"))
            }
            ("waiting", _) => match text(transfer, "problem") {
                Some(problem) => format!("{here}, and cannot be kept: {}", printable(problem)),
                None => format!("{here}, nobody who is there gives more{again}"),
            },
            _ => here,
        };
        let path = text(transfer, "path").or_else(|| text(transfer, "hash")).unwrap_or("?");
        rows.push(vec![printable(state), printable(path), how]);
    }
    for came in items(&told, "came") {
        let path = text(came, "path").or_else(|| text(came, "hash")).unwrap_or("?");
        let (took, at) = (number(came, "took_ms").unwrap_or(0), crate::clock::utc(number(came, "at_ms").unwrap_or(0)));
        let last: u64 = items(came, "sources").iter().filter_map(|source| number(source, "bytes")).sum();
        let total = number(came, "bytes_total").unwrap_or(0);
        let part = if last < total { format!("the last {} of ", DecimalBytes(last)) } else { String::new() };
        let how = format!("{part}{} in {}, {at}: {}", DecimalBytes(total), crate::clock::span(took), shares(items(came, "sources")));
        rows.push(vec!["came".to_owned(), printable(path), printable(&how)]);
    }
    // What comes is told as that, and once.
    let comes = |begun: &Begun| items(&told, "transfers").iter().any(|transfer| is_same(begun, transfer));
    for begun in begun.iter().filter(|begun| !begun.is_running && !comes(begun)) {
        let total = begun.download.bytes_total.map_or_else(String::new, |bytes| format!(" of {}", DecimalBytes(bytes)));
        let here = format!("{}{total} are beside {}", DecimalBytes(begun.bytes_here), begun.download.file.display());
        let (again, path) = (begun.download.again(&context.home), &begun.download.path);
        let cancel = context.home.command(&format!("files cancel {}", quoted_text(path)));
        rows.push(vec!["cut off".to_owned(), printable(path), printable(&format!("{here}; `{again}` goes on, `{cancel}` removes that"))]);
    }
    table(&rows).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}

/// How much came from whom.
pub(crate) fn shares(sources: &[Json]) -> String {
    let one =
        |source: &Json| format!("{} from {}", DecimalBytes(number(source, "bytes").unwrap_or(0)), printable(text(source, "name").unwrap_or("?")));
    sources.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Whether a download that was cut off is of a file that comes.
fn is_same(begun: &Begun, transfer: &Json) -> bool {
    let comes = matches!(text(transfer, "state"), Some("coming" | "waiting"));
    comes && !begun.is_running && begun.download.hash.as_deref().is_some_and(|hash| text(transfer, "hash") == Some(hash))
}

/// A download into a file, for programs.
fn describe(context: &Context, begun: &Begun) -> serde_json::Value {
    let Begun { download, bytes_here, is_running, .. } = begun;
    json!({
        "path": download.path,
        "file": download.file.display().to_string(),
        "hash": download.hash,
        "bytes_total": download.bytes_total,
        "bytes_here": bytes_here,
        "state": if *is_running { "coming" } else { "cut off" },
        "resume": download.again(&context.home),
    })
}

async fn pin(context: &Context, verb: &str, path: &crate::target::Target) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let request = Request::post(format!("/.sys/blobs/{verb}")).body(JSON, json!({"path": path.to_string()}).to_string())?;
    let told = client.json(request).await?;
    let there = client.send(Request::get(path.encoded()).header("accept", JSON)?.query("depth", 1).query("limit", 1)).await;
    let is_nothing = there.is_err_and(|error| Failure::of(&error).status == Some(404));
    session.close().await;
    if verb == "pin" && is_nothing {
        context.out.note(format!("nothing is at {path} yet, as far as is known here"));
    }
    context.out.result(&serde_json::from_str::<serde_json::Value>(&compact(&told))?, || {
        let path = printable(text(&told, "path").unwrap_or("?"));
        match verb {
            "pin" => format!("{path}: all files there are fetched and stay here, also those to come"),
            _ => format!("{path}: files there make room for others again"),
        }
    })
}

/// Says what is wanted of files.
async fn say(context: &Context, verb: &str, which: &str) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let request = Request::post(format!("/.sys/blobs/{verb}")).body(JSON, json!({"which": which}).to_string())?;
    let answer = client.json(request).await;
    session.close().await;
    let mut gone = Vec::new();
    // Where the peer refuses, nothing goes here either; of what was only cut off on the way from there it knows nothing.
    let is_known = |answer: &anyhow::Result<Json>| answer.as_ref().err().is_none_or(|error| Failure::of(error).status == Some(404));
    if verb == "cancel" && is_known(&answer) {
        let hashes: Vec<&str> = answer.iter().flat_map(|told| items(told, "files")).filter_map(|file| text(file, "hash")).collect();
        gone = downloads::cancel(&context.home, which, &hashes).context("could not remove what had come of downloads")?;
    }
    let told = match answer {
        // The peer knows of none, or has it whole; what was cut off was the way from there.
        Err(error) if !gone.is_empty() && Failure::of(&error).status == Some(404) => parse(br#"{"files":[],"unpinned":false}"#)?,
        answer => answer?,
    };
    let mut json: serde_json::Value = serde_json::from_str(&compact(&told))?;
    if verb == "cancel" {
        json["downloads"] = gone.iter().map(|begun| describe(context, begun)).collect();
    }
    context.out.result(&json, || {
        let how = match verb {
            "pause" => "paused; what has come is kept",
            "resume" => "goes on, to its end",
            _ => "does not come, and what had come is gone",
        };
        let size = |file: &Json, name| DecimalBytes(number(file, name).unwrap_or(0));
        let line = |file: &Json| {
            let path = printable(text(file, "path").unwrap_or("?"));
            if verb == "cancel" && number(file, "bytes_own").unwrap_or(0) > 0 {
                let own = size(file, "bytes_own");
                return format!(
                    "{path}: nothing more of it comes; {own} of {} stay, which were put in here and may be all there is",
                    size(file, "bytes_total")
                );
            }
            format!("{path}: {how} ({} of {} here)", size(file, "bytes_here"), size(file, "bytes_total"))
        };
        let mut lines: Vec<String> = items(&told, "files").iter().map(line).collect();
        lines.extend(items(&told, "uploads").iter().map(|upload| {
            format!(
                "{}: the upload is given up, and the {} that had come are gone",
                printable(text(upload, "path").unwrap_or("?")),
                size(upload, "bytes_here")
            )
        }));
        lines.extend(gone.iter().map(|begun| {
            let file = printable(&begun.download.file.display().to_string());
            format!("{}: the {} that had come of {file} are gone", printable(&begun.download.path), DecimalBytes(begun.bytes_here))
        }));
        if matches!(member(&told, "unpinned"), Some(Json::Bool(true))) {
            lines.push("this path is not pinned any more".to_owned());
        }
        lines.join("\n")
    })
}

async fn free(context: &Context, path: Option<&crate::target::Target>, history: bool, preview: bool) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let body = json!({"path": path.map(ToString::to_string), "history": history, "preview": preview}).to_string();
    let told = client.json(Request::post("/.sys/blobs/free").body(JSON, body)?).await;
    session.close().await;
    let told = told?;
    let at = path.map_or_else(String::new, |path| format!(" at {path}"));
    context.out.result(&serde_json::from_str::<serde_json::Value>(&compact(&told))?, || {
        let files = number(&told, "files").unwrap_or(0);
        let what = format!("{}, {}", counted(files as usize, "file"), DecimalBytes(number(&told, "bytes").unwrap_or(0)));
        if history {
            return match (files, preview) {
                (0, _) => "nothing that was removed or replaced is here any more".to_owned(),
                (_, true) => format!("{what} that were removed or replaced would go; nothing brings them back then"),
                (_, false) => format!("{what} that were removed or replaced are gone, and cannot be taken back"),
            };
        }
        match (files, preview) {
            (0, _) => format!("no file of others{at} is here but what is pinned, placed here by a community, or yours in other ways"),
            (_, true) => format!("{what} of others{at} would go; they come again when they are read, from whoever has them"),
            (_, false) => format!("{what} of others{at} are gone from here; they come again when they are read, from whoever has them"),
        }
    })
}

fn is_limited(limits: &Json) -> bool {
    number(limits, "up").or(number(limits, "down")).is_some()
}

/// Limits, for people.
fn limits_say(limits: &Json) -> String {
    let speed = |way| number(limits, way).map_or_else(|| "as fast as the line is".to_owned(), |bytes| format!("{}/s", DecimalBytes(bytes)));
    format!("to others {}, from others {}", speed("up"), speed("down"))
}

async fn limit(context: &Context, up: Option<Speed>, down: Option<Speed>) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let mut said = serde_json::Map::new();
    for (way, speed) in [("up", up), ("down", down)] {
        let bytes = speed.map(|speed| match speed {
            Speed::Bytes(bytes) => json!(bytes),
            Speed::Unlimited => json!(null),
        });
        said.extend(bytes.map(|bytes| (way.to_owned(), bytes)));
    }
    // Where nothing is said nothing changes, and the answer is how it is.
    let request = Request::post("/.sys/blobs/limit").body(JSON, serde_json::Value::Object(said).to_string())?;
    let told = client.json(request).await?;
    session.close().await;
    context.out.result(&serde_json::from_str::<serde_json::Value>(&compact(&told))?, || format!("files go {}", limits_say(&told)))
}

async fn share(context: &Context, who: &str, share: Answer) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let share = matches!(share, Answer::Yes);
    let request = Request::post("/.sys/blobs/share").body(JSON, json!({"space": who, "share": share}).to_string())?;
    let told = client.json(request).await?;
    session.close().await;
    context.out.result(&serde_json::from_str::<serde_json::Value>(&compact(&told))?, || {
        let name = printable(text(&told, "name").unwrap_or("?"));
        let offered = number(&told, "offered").filter(|bytes| *bytes > 0).map(DecimalBytes);
        match (share, offered) {
            (true, _) => format!("whoever may read files of {name} can get them from here"),
            (false, None) => format!("files of {name} do not go on to others from here"),
            (false, Some(bytes)) => {
                format!("files of {name} do not go on to others from here; the {bytes} that you offered it do not count as long as that is so")
            }
        }
    })
}
