//! log, diff, blame, conflicts and undo.

use serde_json::json;
use timebus_net::target::encode_parameter;

use crate::Context;
use crate::cli::{Blame, Conflicts, Diff, Log, Undo};
use crate::client::{Client, Home, Request, open};
use crate::clock::utc;
use crate::failure::Failure;
use crate::output::printable;
use crate::target::{Target, Versions};
use crate::value::{Json, brief, compact, counted, items, member, number, text, versions};

/// Changes asked for at once.
const PAGE: usize = 200;
/// Paths of a change that are shown.
const PATHS_SHOWN: usize = 3;
/// Characters of a value in a line.
const VALUE_CHARS_MAX: usize = 60;

pub(crate) async fn log(context: &Context, args: Log) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let out = context.out;
    let limit = if args.limit == 0 { usize::MAX } else { args.limit };
    let mut after = args.after.and_then(|versions| versions.list().last().cloned());
    let mut shown = 0;
    while shown < limit {
        let wanted = PAGE.min(limit - shown);
        let page = changes(&mut client, &args.path, wanted, after.as_deref()).await?;
        for change in &page {
            match out.json {
                true => out.line(compact(change))?,
                false => out.line(printable(&describe(change)))?,
            }
        }
        shown += page.len();
        after = page.last().and_then(version_of);
        if page.len() < wanted || after.is_none() {
            break;
        }
        if shown == limit && !out.json {
            out.note(format!("older ones: {}", context.home.command(&format!("log {} --limit 0", args.path))));
        }
    }
    if shown == 0 {
        out.note(format!("nothing has been written at {}", args.path));
    }
    Ok(())
}

/// The changes to a path, newest first.
async fn changes(client: &mut Client, path: &Target, limit: usize, after: Option<&str>) -> anyhow::Result<Vec<Json>> {
    let mut request = Request::get(path.below("/.sys/log")).query("limit", limit);
    if let Some(after) = after {
        request = request.query("after", encode_parameter(after));
    }
    let page = client.json(request).await?;
    Ok(items(&page, "changes").to_vec())
}

/// Who wrote something; where a device signed it for whoever asked for it over HTTP, that and who says so.
fn writer(change: &Json) -> &str {
    text(change, "writer").or_else(|| text(change, "author_name")).unwrap_or("?")
}

/// A path in which the elements of lists have short names: `/todo/@4ccim3….2`.
fn short(path: &str) -> String {
    const CHARS: usize = 7;
    let segment = |segment: &str| match segment.split_once('.') {
        Some((id, number)) if id.starts_with('@') && !id.starts_with("@@") && id.is_ascii() && id.len() > CHARS => {
            format!("{}….{number}", &id[..CHARS])
        }
        _ => segment.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn version_of(change: &Json) -> Option<String> {
    versions(member(change, "version")).into_iter().next()
}

fn describe(change: &Json) -> String {
    let paths = items(change, "paths");
    let total = number(change, "paths_total").map_or(paths.len(), |total| total as usize);
    let as_text = |path: &Json| if let Json::String(path) = path { Some(short(path)) } else { None };
    let mut shown: Vec<String> = paths.iter().take(PATHS_SHOWN).filter_map(as_text).collect();
    if total > shown.len() {
        shown.push(format!("and {} more", total - shown.len()));
    }
    let version = version_of(change).unwrap_or_default();
    let time = number(change, "time_ms").map(utc).unwrap_or_default();
    format!("{version}  {time}  {}  {}", writer(change), shown.join(", "))
}

pub(crate) async fn diff(context: &Context, args: Diff) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let from = match args.from {
        Some(from) => from,
        None => {
            let latest = changes(&mut client, &args.path, 1, None).await?;
            let Some(latest) = latest.first() else {
                return Err(Failure::refused(format!("nothing has been written at {}", args.path)).into());
            };
            Versions::new(versions(member(latest, "parents")))
        }
    };
    let request = Request::get(args.path.below("/.sys/diff")).header("parents", &from.header())?;
    let diff = client.json(request.versions("version", args.to.as_ref())?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&diff))?);
    }
    let changes = items(&diff, "changes");
    if changes.is_empty() {
        out.note("no difference");
    }
    for change in changes {
        let path = short(text(change, "path").unwrap_or("?"));
        // An absent side is told from a null by its member being there.
        for (sign, side) in [("-", "before"), ("+", "after")] {
            if let Some(value) = member(change, side) {
                out.line(printable(&format!("{sign} {path}  {}", compact(value))))?;
            }
        }
    }
    Ok(())
}

pub(crate) async fn blame(context: &Context, args: Blame) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let mut lines = client.send(Request::get(args.path.encoded()).query("view", "meta")).await?.lines();
    let out = context.out;
    let mut is_empty = true;
    while let Some(line) = lines.next().await? {
        is_empty = false;
        if out.json {
            out.bytes(&line)?;
            out.line("")?;
            continue;
        }
        let leaf = crate::value::parse(&line)?;
        let time = number(&leaf, "time_ms").map(utc).unwrap_or_default();
        let value = member(&leaf, "value").map(|value| brief(value, VALUE_CHARS_MAX)).unwrap_or_default();
        let (author, path) = (writer(&leaf), short(text(&leaf, "path").unwrap_or("?")));
        out.line(printable(&format!("{author}  {time}  {path}  {value}")))?;
    }
    match is_empty {
        true => Err(Failure::refused(format!("there is nothing at {}", args.path)).into()),
        false => Ok(()),
    }
}

pub(crate) async fn conflicts(context: &Context, args: Conflicts) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let found = client.json(Request::get(args.path.below("/.sys/conflicts"))).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&found))?);
    }
    let conflicts = items(&found, "conflicts");
    // As it is written to: without its space a path is one of the own space.
    let space = args.path.split().0.map_or_else(String::new, |space| format!("@{space}"));
    if conflicts.is_empty() {
        out.note("no conflicts");
    }
    for conflict in conflicts {
        out.line(printable(&format!("{space}{}", short(text(conflict, "path").unwrap_or("?")))))?;
        for (at, value) in items(conflict, "values").iter().enumerate() {
            let mark = if at == 0 { "shown " } else { "beside" };
            let time = number(value, "time_ms").map(utc).unwrap_or_default();
            let shown = member(value, "value").map(|value| brief(value, VALUE_CHARS_MAX)).unwrap_or_default();
            out.line(printable(&format!("  {mark}  {}  {time}  {shown}", writer(value))))?;
        }
    }
    if !conflicts.is_empty() {
        out.note(format!("{}; writing a value at its path settles it", counted(conflicts.len(), "conflict")));
    }
    Ok(())
}

pub(crate) async fn undo(context: &Context, args: Undo) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let body = match &args.version {
        None => json!({}),
        Some(version) => match version.list() {
            [version] => json!({"version": version}),
            _ => return Err(Failure::usage("one change at a time can be taken back").into()),
        },
    };
    let request = Request::post(args.path.below("/.sys/undo")).body(crate::client::JSON, body.to_string())?;
    let answer = client.send(request).await.map_err(|error| nothing_to_undo(context, error, &args.path))?;
    let version = answer.version();
    let json = json!({"path": args.path.to_string(), "version": version.list()});
    context.out.result(&json, || format!("undone at {}  version {version}", args.path))
}

/// Says what to do where nothing was ever changed.
fn nothing_to_undo(context: &Context, error: anyhow::Error, path: &Target) -> anyhow::Error {
    let mut failure = Failure::of(&error);
    if failure.status != Some(404) {
        return error;
    }
    failure.title = format!("there is nothing to undo at {path}");
    failure.detail = None;
    failure.fix = Some(match path.is_whole() {
        true => "write something first".to_owned(),
        false => format!("`{}` lists what was changed, and where", context.home.command("log /")),
    });
    failure.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_fit_a_line() {
        let change = br#"{"version":"v1","author_name":"river-otter-61","time_ms":0,"paths":["/a","/b","/c","/d"],"paths_total":9}"#;
        let change = crate::value::parse(change).expect("JSON");
        assert_eq!(describe(&change), "v1  1970-01-01 00:00:00Z  river-otter-61  /a, /b, /c, and 6 more");
    }

    #[test]
    fn elements_of_lists_get_short_names() {
        assert_eq!(short("/a/@4ccim3w1wbd8xe.2/b.c"), "/a/@4ccim3….2/b.c");
        assert_eq!(short("/@@alice.example/x"), "/@@alice.example/x");
    }
}
