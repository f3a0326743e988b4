//! find, public-dht: where somebody is, as far as anybody who may be asked knows, and who may be.

use serde_json::json;

use crate::Context;
use crate::cli::{Find, PublicDht, Switch};
use crate::client::{Home, JSON, Request, open, open_running};
use crate::clock::{now_ms, span};
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

pub(crate) async fn public_dht(context: &Context, args: PublicDht) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let told = match args.answer {
        None => client.json(Request::get("/.sys/public-dht")).await?,
        Some(answer) => {
            let body = json!({"allowed": answer == Switch::On}).to_string();
            client.json(Request::post("/.sys/public-dht").body(JSON, body)?).await?
        }
    };
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&told))?);
    }
    out.line(standing(&told, now_ms()))?;
    if member(&told, "allowed") == Some(&Json::Bool(true)) {
        out.line("whoever has your key can see where you are, and those who answer there see whom you look for")?;
    }
    Ok(())
}

/// How the public DHT is here, in words.
pub(super) fn standing(told: &Json, now: u64) -> String {
    let is = |name| member(told, name) == Some(&Json::Bool(true));
    if !is("allowed") {
        return "off: the public DHT is asked nothing and told nothing".to_owned();
    }
    if !is("possible") {
        return "on, but not for this run: the peer was started with --no-public or --offline".to_owned();
    }
    if let Some(problem) = text(told, "problem") {
        return format!("on, but {}", printable(problem));
    }
    let said = items(told, "said");
    let Some(last) = said.iter().filter_map(|said| number(said, "at_ms")).max() else {
        return "on: it has not been told yet where you are".to_owned();
    };
    // The key of the space is said only by a machine that had the root key once.
    let by = if said.len() > 1 { "the key of your space, and of this machine" } else { "the key of this machine; not by that of your space" };
    format!("on: it was told {} ago where you are, for who has {by}", span(now.saturating_sub(last)))
}

/// Whether a way led to whom was looked for.
fn is_found(way: &Json) -> bool {
    member(way, "found") == Some(&Json::Bool(true))
}
