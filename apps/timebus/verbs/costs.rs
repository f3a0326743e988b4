//! held, allow, limits, top: what others may keep here, and what they cost.

use anyhow::Result;
use indicatif::DecimalBytes;
use serde_json::json;

use crate::Context;
use crate::cli::{Allow, Limits};
use crate::client::{Client, Home, JSON, Request, open};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::printable;
use crate::standing::table;
use crate::value::{Json, compact, items, number, text};

pub(crate) async fn held(context: &Context) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let answer = client.json(Request::get("/.sys/held")).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    let held = items(&answer, "held");
    if held.is_empty() {
        out.note("nothing waits for your word");
        return Ok(());
    }
    let row = |one| vec![printable(text(one, "id").unwrap_or("?")), printable(text(one, "says").unwrap_or("?"))];
    table(&held.iter().map(row).collect::<Vec<_>>()).iter().try_for_each(|line| out.line(line))?;
    out.note(format!("answer with `{}`", context.home.command("allow ID once|up to 1GB|never")));
    Ok(())
}

pub(crate) async fn allow(context: &Context, args: Allow) -> Result<()> {
    let words: Vec<&str> = args.answer.iter().map(String::as_str).collect();
    let answer = match words.as_slice() {
        ["once"] => json!("once"),
        ["never"] => json!("never"),
        ["up", "to", size] | [size] => json!(crate::amounts::bytes(size).map_err(Failure::usage)?),
        _ => return Err(Failure::usage("the answer is once, never, or up to SIZE").into()),
    };
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let request = Request::post("/.sys/allow").body(JSON, json!({"id": args.id, "answer": answer}).to_string())?;
    let told = client.json(request).await?;
    let name = printable(text(&told, "name").unwrap_or("?"));
    context.out.result(&serde_json::from_str::<serde_json::Value>(&compact(&told))?, || match words.as_slice() {
        ["never"] => {
            let undo = context.home.command(&format!("limits {} 1GB", quoted_text(text(&told, "name").unwrap_or("WHO"))));
            format!("{name} can bring nothing more here, and is not told; `{undo}` takes that back")
        }
        _ => format!("{name} may keep {} here in all", DecimalBytes(number(&told, "bytes_max").unwrap_or(0))),
    })
}

pub(crate) async fn limits(context: &Context, args: Limits) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let (who, size) = match (args.who, args.size) {
        (None, _) => return list(context, &mut client).await,
        (Some(who), None) => return one(context, &mut client, &who).await,
        (Some(who), Some(size)) => (who, size),
    };
    let request = Request::post("/.sys/limits").body(JSON, json!({"who": who, "bytes": size}).to_string())?;
    let told = client.json(request).await?;
    let name = printable(text(&told, "who").unwrap_or("?"));
    let now = client.json(Request::post("/.sys/limits").body(JSON, json!({"who": who}).to_string())?).await?;
    let used = number(&now, "bytes").unwrap_or(0);
    context.out.result(&json!({"who": name, "bytes_max": size, "bytes": used}), || match used > size {
        true => format!("{name} may keep {} here in all, and keeps {} already: nothing more of {name} comes", DecimalBytes(size), DecimalBytes(used)),
        false => format!("{name} may keep {} here in all", DecimalBytes(size)),
    })
}

/// How much one may keep here.
async fn one(context: &Context, client: &mut Client, who: &str) -> Result<()> {
    let told = client.json(Request::post("/.sys/limits").body(JSON, json!({"who": who}).to_string())?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&told))?);
    }
    let name = printable(text(&told, "who").unwrap_or("?"));
    let used = number(&told, "bytes").unwrap_or(0);
    let Some(max) = number(&told, "bytes_max") else { return Ok(out.line(format!("{name} keep {} here, without a limit", DecimalBytes(used)))?) };
    let said = if matches!(crate::value::member(&told, "said"), Some(Json::Bool(true))) { "as you said" } else { "if you say nothing else" };
    let over = if used > max { ": nothing more comes" } else { "" };
    out.line(format!("{name} keeps {} here, and may keep {} in all, {said}{over}", DecimalBytes(used), DecimalBytes(max)))?;
    out.note(format!("`{}` says how much", context.home.command(&format!("limits {} SIZE", quoted_text(who)))));
    Ok(())
}

async fn list(context: &Context, client: &mut Client) -> Result<()> {
    let answer = client.json(Request::get("/.sys/costs")).await?;
    let limited: Vec<&Json> = items(&answer, "costs").iter().filter(|cost| number(cost, "bytes_max").is_some()).collect();
    let out = context.out;
    if out.json {
        let limits: Vec<serde_json::Value> = limited
            .iter()
            .map(|cost| {
                let part = |name| text(cost, name).unwrap_or_default();
                let bytes = |name| number(cost, name);
                json!({"key": part("key"), "name": part("name"), "relation": part("relation"), "bytes": bytes("bytes"),
                    "bytes_max": bytes("bytes_max")})
            })
            .collect();
        return Ok(out.line(json!({ "limits": limits }).to_string())?);
    }
    let mut rows = vec![["WHO", "KEEPS HERE", "MAY KEEP"].map(str::to_owned).to_vec()];
    for cost in limited {
        let bytes = |name| DecimalBytes(number(cost, name).unwrap_or(0)).to_string();
        rows.push(vec![called(cost), bytes("bytes"), bytes("bytes_max")]);
    }
    table(&rows).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}

/// Whom a cost is about, and what he is to the owner.
fn called(cost: &Json) -> String {
    format!("{} ({})", printable(text(cost, "name").unwrap_or("?")), text(cost, "relation").unwrap_or("?"))
}

pub(crate) async fn top(context: &Context) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let answer = client.json(Request::get("/.sys/costs")).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    let mut rows = vec![["WHO", "KEEPS HERE", "OF", "CHANGES", "REQUESTS", "FILES HERE", "FILES GIVEN", "BYTES IN, OUT"].map(str::to_owned).to_vec()];
    for cost in items(&answer, "costs") {
        let bytes = |name| DecimalBytes(number(cost, name).unwrap_or(0)).to_string();
        let count = |name| number(cost, name).unwrap_or(0).to_string();
        let of = number(cost, "bytes_max").map_or_else(|| "-".to_owned(), |max| DecimalBytes(max).to_string());
        // What is written for somebody over HTTP has a limit of its own.
        let of = match number(cost, "http_bytes_max") {
            Some(max) if number(cost, "bytes_max") != Some(max) => format!("{of}, {} by HTTP", DecimalBytes(max)),
            _ => of,
        };
        let (files, traffic) = ([bytes("file_bytes"), bytes("given_bytes")], format!("{}, {}", bytes("received"), bytes("sent")));
        let [here, given] = files;
        rows.push(vec![called(cost), bytes("bytes"), of, count("changes"), count("requests"), here, given, traffic]);
    }
    table(&rows).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}
