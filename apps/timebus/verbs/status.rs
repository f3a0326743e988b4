//! status: how the peer is.

use indicatif::{DecimalBytes, HumanCount};

use crate::Context;
use crate::client::{Home, Request, open};
use crate::clock::span;
use crate::value::{Json, compact, items, member, number, string, text};

pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let mut status = client.json(Request::get("/.sys/status")).await?;
    let running = session.is_running().cloned();
    let network = match running {
        Some(_) => Some((client.json(Request::get("/.sys/peers")).await?, client.json(Request::get("/.sys/spaces")).await?)),
        None => None,
    };
    let out = context.out;
    if out.json {
        if let Json::Object(members) = &mut status {
            members.insert("running".into(), Json::Bool(running.is_some()));
            if let Some((Json::Object(mut peers), Json::Object(spaces))) = network {
                peers.extend(spaces);
                members.insert("network".into(), Json::Object(peers));
            }
            members.insert("pid".into(), running.map_or(Json::Null, |running| Json::Int(running.pid.into())));
        }
        return Ok(out.line(compact(&status))?);
    }
    let count = |name| number(&status, name).unwrap_or(0);
    match &running {
        Some(running) => {
            out.line(format!("running      {}   for {}   process {}", running.http, span(count("uptime_ms")), running.pid))?;
        }
        None => out.line(format!("not running  start it with `{}`", context.home.command("up")))?,
    }
    out.line(format!("you are      {}   ({})", text(&status, "name").unwrap_or("?"), text(&status, "id").unwrap_or("?")))?;
    out.line(format!("node         {}   for --node, as in `timebus follow KEY --node KEY --at ADDR`", super::id::node(context, &status)?))?;
    out.line(format!("home         {}", context.home.folder().display()))?;
    out.line(format!(
        "changes      {}   log {}   index {}",
        HumanCount(count("changes")),
        DecimalBytes(count("log_bytes")),
        DecimalBytes(count("index_bytes"))
    ))?;
    if running.is_some() {
        out.line(format!("subscribers  {}   connections {}", count("subscriptions"), count("connections")))?;
    }
    if let Some((peers, spaces)) = &network {
        let addresses: Vec<&str> = items(peers, "addresses").iter().filter_map(string).collect();
        out.line(match addresses.as_slice() {
            [] => "reached at   nowhere: this peer is offline".to_owned(),
            addresses => format!("reached at   {}", addresses.join("  ")),
        })?;
        for (at, line) in super::peers::summary(peers, spaces).into_iter().enumerate() {
            out.line(format!("{}{line}", if at == 0 { "peers        " } else { "             " }))?;
        }
    }
    for note in text(&status, "lost").map(str::to_owned).into_iter().chain(notes(&status)) {
        out.line(format!("note         {note}"))?;
    }
    Ok(())
}

/// What was remarkable when the store was opened, in words.
pub(crate) fn notes(status: &Json) -> Vec<String> {
    let Some(opened) = member(status, "opened") else { return Vec::new() };
    let mut notes = Vec::new();
    if let Some(reason) = text(opened, "rebuilt") {
        notes.push(format!("the index was made anew from the change log: {reason}"));
    }
    let again: Vec<&str> = items(opened, "again").iter().filter_map(string).collect();
    if !again.is_empty() {
        notes.push(format!("what nobody took was written again, in the name of rights that allow it: {}", again.join(", ")));
    }
    if member(opened, "new_device") == Some(&Json::Bool(true)) {
        notes.push("this home is a copy or was restored, so it got a device key of its own".to_owned());
    }
    if number(opened, "torn_bytes").unwrap_or(0) > 0 {
        notes.push("the end of the change log was cut off: a write that was interrupted and never acknowledged".to_owned());
    }
    match number(opened, "damaged").unwrap_or(0) {
        0 => {}
        count => notes.push(format!("{count} stretches of the change log are damaged; `timebus fsck --repair` fetches what others have of them")),
    }
    let scrubbed = member(status, "scrub").and_then(|scrub| number(scrub, "damaged")).unwrap_or(0);
    if scrubbed > 0 && number(opened, "damaged").unwrap_or(0) == 0 {
        let text = "stretches of the change log were found damaged while the peer ran; `timebus fsck --repair` fetches what others have of them";
        notes.push(format!("{scrubbed} {text}"));
    }
    if let Some(reason) = text(status, "index_old") {
        notes.push(format!("the index is made anew at the next start: {reason}"));
    }
    notes
}
