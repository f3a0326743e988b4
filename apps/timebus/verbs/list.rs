//! ls and tree.

use std::collections::BTreeMap;

use serde_json::json;
use timebus_net::target::encode_parameter;

use crate::Context;
use crate::cli::{Ls, TreeArgs};
use crate::client::{Client, Home, JSON, Request, open};
use crate::failure::Failure;
use crate::output::printable;
use crate::target::{Target, Versions};
use crate::value::{Json, brief, compact, counted, file, items, member, number, text};
use crate::verbs::{explain_reading, of_before, say_before};

/// Names asked for at once.
const PAGE: u32 = 1000;
/// Deeper than any path.
const DEPTH_MAX: u32 = 64;
/// Characters of a value in a listing.
const VALUE_CHARS_MAX: usize = 60;

/// What is below a path, to some depth, page by page put together.
struct Listing {
    json: Json,
    version: Versions,
    /// Who took it back, if it is of before.
    before: Option<serde_json::Value>,
}

impl Listing {
    /// The member of a line of JSON that says so.
    fn before_json(&self) -> String {
        self.before.as_ref().map_or_else(String::new, |before| format!(",\"taken_back\":{before}"))
    }
}

/// Which members are listed.
#[derive(Default)]
struct Wanted<'a> {
    /// So many, from the end on.
    last: Option<u32>,
    /// In whose texts these words are.
    words: Option<&'a str>,
}

async fn read(client: &mut Client, path: &Target, depth: u32, wanted: &Wanted<'_>) -> anyhow::Result<Listing> {
    let mut whole: Option<Listing> = None;
    let mut next: Option<String> = None;
    loop {
        let got = whole.as_ref().map_or(0, |whole| entries(&whole.json).len());
        let mut request = Request::get(path.encoded()).header("accept", JSON)?.query("depth", depth);
        request = match wanted.last {
            Some(last) => request.query("last", last.saturating_sub(u32::try_from(got).unwrap_or(u32::MAX))),
            None => request.query("limit", PAGE),
        };
        if let Some(next) = &next {
            request = request.query(if wanted.last.is_some() { "before" } else { "after" }, next);
        }
        if let Some(words) = wanted.words {
            request = request.query("match", encode_parameter(words));
        }
        let answer = match client.send(request).await {
            Ok(answer) => answer,
            Err(error) => return Err(explain_reading(client, error, path).await),
        };
        let (version, before) = (answer.version(), of_before(&answer));
        next = answer.header("next-after").or(answer.header("next-before")).map(str::to_owned);
        let bytes = answer.bytes().await?;
        if bytes.is_empty() {
            return Err(absent(path).into());
        }
        let json = crate::value::parse(&bytes)?;
        match (&mut whole, json) {
            (Some(Listing { json: Json::Object(members), .. }), Json::Object(more)) => members.extend(more),
            (Some(Listing { json: Json::Array(items), .. }), Json::Array(mut more)) => {
                if wanted.last.is_some() {
                    std::mem::swap(items, &mut more);
                }
                items.extend(more);
            }
            (whole, json) => *whole = Some(Listing { json, version, before }),
        }
        let whole = whole.as_ref().expect("a page was just put there");
        let is_enough = wanted.last.is_some_and(|last| entries(&whole.json).len() >= last as usize);
        if next.is_none() || is_enough {
            break;
        }
    }
    whole.ok_or_else(|| absent(path).into())
}

fn absent(path: &Target) -> Failure {
    let mut failure = Failure::refused(format!("there is nothing at {path}"));
    failure.status = Some(404);
    failure
}

/// A fresh home has an empty tree, which is not the same as a path where nothing is.
async fn read_or_empty(client: &mut Client, path: &Target, depth: u32, wanted: &Wanted<'_>) -> anyhow::Result<Listing> {
    let found = match read(client, path, depth, wanted).await {
        // Who is known to nobody has no space that could be empty.
        Err(error)
            if path.is_whole()
                && Failure::of(&error).title != "nobody is known by this name"
                && matches!(Failure::of(&error).status, Some(403 | 404)) =>
        {
            let given = add_given(client, path, depth, Json::Object(BTreeMap::new())).await;
            return match entries(&given).is_empty() && Failure::of(&error).status == Some(403) {
                true => Err(error),
                false => Ok(Listing { json: given, version: Versions::new(Vec::new()), before: None }),
            };
        }
        found => found?,
    };
    // Who looks for the last ones, or for words, looks in what was written there.
    if wanted.last.is_some() || wanted.words.is_some() {
        return Ok(found);
    }
    Ok(Listing { json: add_given(client, path, depth, found.json).await, ..found })
}

/// Adds those paths of somebody else's space that are kept apart and were given to this device: whoever may read nothing
/// around them sees no pointer that leads there.
async fn add_given(client: &mut Client, path: &Target, depth: u32, json: Json) -> Json {
    let Json::Object(mut members) = json else { return json };
    let told = match path.split().0 {
        Some(_) => client.json(Request::get(path.below("/.sys/timelines"))).await.ok(),
        None => None,
    };
    let above = path.split().1;
    for apart in told.iter().flat_map(|told| items(told, "timelines")) {
        let Some(Ok(at)) = text(apart, "path").map(str::parse::<Target>) else { continue };
        let names = at.names_below(&above);
        if member(apart, "reads") != Some(&Json::Bool(true)) || names.is_empty() || members.contains_key(&names[0]) {
            continue;
        }
        let whole = names.iter().fold(path.clone(), |path, name| path.child(name));
        let deeper = depth.saturating_sub(u32::try_from(names.len()).unwrap_or(u32::MAX));
        let Ok(found) = Box::pin(read(client, &whole, deeper, &Wanted::default())).await else { continue };
        let is_cut = depth < u32::try_from(names.len()).unwrap_or(u32::MAX);
        let inner = if is_cut { Json::Object([("@more".to_owned(), Json::Int(1))].into()) } else { found.json };
        let shown = if is_cut { &names[..1] } else { &names[..] };
        let value = shown[1..].iter().rev().fold(inner, |value, name| Json::Object([(name.clone(), value)].into()));
        members.insert(names[0].clone(), value);
    }
    Json::Object(members)
}

/// How much is below a node that was not looked into.
fn below(json: &Json) -> Option<u64> {
    match json {
        Json::Object(members) if members.len() == 1 + usize::from(members.contains_key("@list")) => number(json, "@more"),
        _ => None,
    }
}

fn entries(json: &Json) -> Vec<(String, &Json)> {
    match json {
        Json::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Json::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    }
}

pub(crate) async fn ls(context: &Context, args: Ls) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    // Who looks for words sees them.
    let depth = if args.words.is_some() { DEPTH_MAX } else { 1 };
    let listing = read_or_empty(&mut client, &args.path, depth, &Wanted { last: args.last, words: args.words.as_deref() }).await?;
    let entries = entries(&listing.json);
    let out = context.out;
    if out.json {
        // Numbers keep their spelling, so values are written by the store's own printer.
        let shown: Vec<String> = entries
            .iter()
            .map(|(name, value)| match below(value) {
                Some(below) => json!({"name": name, "below": below}).to_string(),
                None => format!("{{\"name\":{},\"value\":{}}}", json!(name), compact(value)),
            })
            .collect();
        let (path, version) = (json!(args.path.to_string()), json!(listing.version.list()));
        let before = listing.before_json();
        return Ok(out.line(format!("{{\"path\":{path},\"version\":{version}{before},\"entries\":[{}]}}", shown.join(",")))?);
    }
    say_before(out, listing.before.as_ref());
    if !matches!(listing.json, Json::Object(_) | Json::Array(_)) {
        return Ok(out.line(printable(&compact(&listing.json)))?);
    }
    if entries.is_empty() {
        out.note(match &args.words {
            Some(words) => format!("nothing right below {} has {words:?} in it", args.path),
            None => format!("nothing is below {}", args.path),
        });
    }
    let width = entries.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(40);
    for (name, value) in entries {
        let line = match below(value) {
            Some(below) => format!("{:<width$}  {}", format!("{name}/"), counted(below as usize, "value")),
            None => format!("{name:<width$}  {}", brief(value, VALUE_CHARS_MAX)),
        };
        out.line(printable(&line))?;
    }
    Ok(())
}

pub(crate) async fn tree(context: &Context, args: TreeArgs) -> anyhow::Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let listing = read_or_empty(&mut client, &args.path, args.depth.unwrap_or(DEPTH_MAX), &Wanted::default()).await?;
    let out = context.out;
    if out.json {
        let (path, version) = (json!(args.path.to_string()), json!(listing.version.list()));
        let before = listing.before_json();
        return Ok(out.line(format!("{{\"path\":{path},\"version\":{version}{before},\"tree\":{}}}", compact(&listing.json)))?);
    }
    say_before(out, listing.before.as_ref());
    let mut lines = vec![match &listing.json {
        Json::Object(_) | Json::Array(_) => args.path.to_string(),
        value => format!("{}  {}", args.path, brief(value, VALUE_CHARS_MAX)),
    }];
    draw(&listing.json, "", &mut lines);
    lines.iter().try_for_each(|line| out.line(printable(line)))?;
    Ok(())
}

fn draw(json: &Json, indent: &str, lines: &mut Vec<String>) {
    let entries = entries(json);
    let last = entries.len().saturating_sub(1);
    for (at, (name, value)) in entries.into_iter().enumerate() {
        let (branch, below_it) = if at == last { ("└── ", "    ") } else { ("├── ", "│   ") };
        let text = match (below(value), value) {
            (Some(below), _) => format!("  … {}", counted(below as usize, "value")),
            (None, value) if file(value).is_some() => format!("  {}", brief(value, VALUE_CHARS_MAX)),
            (None, Json::Object(members)) if !members.is_empty() => String::new(),
            (None, Json::Array(items)) if !items.is_empty() => format!("  [{}]", items.len()),
            (None, value) => format!("  {}", brief(value, VALUE_CHARS_MAX)),
        };
        lines.push(format!("{indent}{branch}{name}{text}"));
        if below(value).is_none() && file(value).is_none() {
            draw(value, &format!("{indent}{below_it}"), lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_trees() {
        let json = crate::value::parse(br#"{"a":{"b":1,"c":{"@more":3}},"d":["x"],"e":{}}"#).expect("JSON");
        let mut lines = Vec::new();
        draw(&json, "", &mut lines);
        let expected = ["├── a", "│   ├── b  1", "│   └── c  … 3 values", "├── d  [1]", "│   └── 0  \"x\"", "└── e  {}"];
        assert_eq!(lines, expected);
    }
}
