//! find: where somebody is, as far as anybody who is connected knows.

use serde_json::json;

use crate::Context;
use crate::cli::Find;
use crate::client::{Home, JSON, Request, open};
use crate::output::printable;
use crate::value::{Json, compact, items, member, number, string, text};

pub(crate) async fn run(context: &Context, args: Find) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let request = Request::post("/.sys/find").body(JSON, json!({"who": args.who}).to_string())?;
    let found = client.json(request).await?;
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&found))?);
    }
    let nodes = items(&found, "nodes");
    for node in nodes {
        let is_connected = matches!(member(node, "connected"), Some(Json::Bool(true)));
        let name = member(node, "book").and_then(|book| text(book, "name")).filter(|name| !name.is_empty());
        let key = printable(text(node, "node").unwrap_or("?"));
        out.line(format!("{key}  {}{}", name.map_or_else(String::new, printable), if is_connected { "  connected" } else { "" }))?;
        let list = |of: &Json, name| items(of, name).iter().filter_map(string).map(printable).collect::<Vec<_>>().join(", ");
        if let Some(record) = member(node, "record").filter(|record| !matches!(record, Json::Null)) {
            out.line(format!("  says     {}", list(record, "addresses")))?;
            out.line(format!("  signed   as number {}", number(record, "seq").unwrap_or(0)))?;
        }
        if let Some(book) = member(node, "book").filter(|book| !matches!(book, Json::Null)) {
            out.line(format!("  known    {}", list(book, "addresses")))?;
        }
    }
    let ways = items(&found, "ways");
    if nodes.is_empty() && !ways.iter().any(is_found) {
        out.note("nothing is known of where that is");
    }
    out.note("looked for, in this order:");
    for way in ways {
        let mark = if is_found(way) { "found" } else { "-" };
        out.note(format!("  {:<16} {mark:<6} {}", printable(text(way, "way").unwrap_or("?")), printable(text(way, "words").unwrap_or(""))));
    }
    Ok(())
}

/// Whether a way led to whom was looked for.
fn is_found(way: &Json) -> bool {
    member(way, "found") == Some(&Json::Bool(true))
}
