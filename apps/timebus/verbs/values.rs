//! get, put, patch, post and rm.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use hyper::Method;
use serde_json::json;

use crate::Context;
use crate::cli::{Conditions, Get, Inc, Mv, Patch, Post, Put, Rm, View};
use crate::client::{Answer, Client, Home, JSON, Request, Session, open};
use crate::clock::span;
use crate::downloads::Note;
use crate::failure::Failure;
use crate::folder::{is_standard, outlet};
use crate::home::quoted_text;
use crate::output::{Output, printable};
use crate::pretty::Pretty;
use crate::progress::Progress;
use crate::target::{Target, encode};
use crate::transfer::{LARGE_BYTES, Line, download, upload};
use crate::value::{Json, items, number, text};
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
        let got = match outlet(file)? {
            Some(outlet) => get_through(context, &mut client, &args, request, (outlet, file)).await,
            None => get_file(context, &mut session, &args, &request, file).await,
        };
        return match got {
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

/// Gets a value, as it is, into what takes its bytes as they come.
async fn get_through(
    context: &Context,
    client: &mut Client,
    args: &Get,
    request: Request,
    (mut outlet, file): (Box<dyn std::io::Write + Send>, &Path),
) -> anyhow::Result<()> {
    let mut answer = client.send(request).await?;
    let (before, mime, version) = (of_before(&answer), answer.mime().to_owned(), answer.version());
    let mut bytes = 0;
    while let Some(piece) = answer.next().await? {
        outlet.write_all(&piece).with_context(|| format!("could not write all of {}", args.path))?;
        bytes += piece.len() as u64;
    }
    outlet.flush()?;
    say_before(context.out, before.as_ref());
    if is_standard(file) {
        return Ok(());
    }
    let json = json!({
        "path": args.path.to_string(),
        "file": file.display().to_string(),
        "type": mime,
        "version": version.list(),
        "bytes": bytes,
        "taken_back": before,
    });
    context.out.result(&json, || format!("wrote {} to {}: {}", args.path, file.display(), indicatif::DecimalBytes(bytes)))
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
    let before = reached(&mut client, &args.path).await;
    let answer = client.send(request.body(&mime, value.bytes)?).await.map_err(|error| explain(error, &args.path))?;
    wrote_there(context, &mut client, "saved", (&args.path, before), &answer).await
}

/// How long a write to a space of somebody else is followed: whoever does not take it says so as soon as he hears of it.
const FOLLOWED_FOR: Duration = Duration::from_secs(1);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Up to which change others have a space of somebody else; nothing where no peer runs.
async fn reached(client: &mut Client, path: &Target) -> Option<u64> {
    let space = path.split().0?;
    // Nobody is called for it.
    let request = Request::get(format!("/.sys/synced/@{}", encode(space))).header("prefer", "wait=0").ok()?;
    let synced = client.json(request).await.ok()?;
    number(&synced, "upto")
}

/// Tells of a write, and whether it waits until the owner of the space accepts it. `before`: how far others had the space before it.
async fn wrote_there(
    context: &Context,
    client: &mut Client,
    what: &str,
    (path, before): (&Target, Option<u64>),
    answer: &Answer,
) -> anyhow::Result<()> {
    let whom = path.split().0.filter(|_| before.is_some());
    let waits = match whom {
        Some(space) => waits(client, path, space, before).await,
        None => false,
    };
    let (Some(space), true) = (whom, waits) else { return wrote(context.out, what, path, answer) };
    let version = answer.version();
    let json = json!({"path": path.to_string(), "version": version.list(), "waits": true});
    context.out.result(&json, || format!("{what} here; waits for {space}  {path}  version {version}"))?;
    context.out.note(format!("it is more than you may keep there: `timebus held` shows {space} that it waits"));
    Ok(())
}

async fn waits(client: &mut Client, path: &Target, space: &str, before: Option<u64>) -> bool {
    let began = Instant::now();
    loop {
        let spaces = client.json(Request::get("/.sys/spaces")).await.ok();
        let is_it = |one: &&Json| text(one, "petname").is_some_and(|name| name.eq_ignore_ascii_case(space)) || text(one, "space") == Some(space);
        let state = spaces.as_ref().and_then(|spaces| items(spaces, "spaces").iter().find(is_it)).and_then(|one| text(one, "state"));
        match state {
            Some("waiting") => return true,
            Some("live") if began.elapsed() < FOLLOWED_FOR && reached(client, path).await <= before => tokio::time::sleep(LOOK_EVERY).await,
            _ => return false,
        }
    }
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
    let before = match args.path.split().0 {
        Some(_) => reached(&mut session.connect().await?, &args.path).await,
        None => None,
    };
    let progress = Progress::bytes(context.out, "putting", std::fs::metadata(file).ok().map(|about| about.len()));
    let mut line = Line::new(&mut session);
    let answer = upload(&mut line, request, mime, file, &progress).await.map_err(|error| explain(error, &args.path))?;
    progress.done();
    wrote_there(context, &mut session.connect().await?, "saved", (&args.path, before), &answer).await
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
    // The peer knows which names and keys are one space.
    let to = match (args.from.split(), args.to.split()) {
        ((from_space, _), (to_space, to)) if from_space == to_space => to.to_string(),
        (_, (None, to)) => format!("/@me{to}"),
        (_, (Some(_), _)) => args.to.to_string(),
    };
    let (session, mut client) = open(context, Home::MustExist).await?;
    let request = Request::post(args.from.below("/.sys/move")).body(JSON, json!({"to": to}).to_string())?;
    let moved = client.json(request).await.map_err(|error| explain(error, &args.from));
    session.close().await;
    let moved = moved?;
    let json =
        json!({"from": args.from.to_string(), "to": args.to.to_string(), "version": crate::value::versions(crate::value::member(&moved, "version"))});
    context.out.result(&json, || format!("moved {0} to {1}; its history stays at {0}, where `undo` brings it back", args.from, args.to))
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
    let Json::Int(number) = crate::value::parse(&answer.bytes().await?)? else {
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
