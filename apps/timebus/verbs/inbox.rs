//! inbox and refs: what others leave for you, what you leave for them, and who points at what.

use indicatif::DecimalBytes;
use serde_json::json;

use crate::Context;
use crate::cli::{Inbox, InboxVerb, Refs};
use crate::client::{Client, Home, JSON, Request, open, open_running};
use crate::clock::{now_ms, span};
use crate::failure::Failure;
use crate::output::printable;
use crate::standing::{short, table};
use crate::value::{Json, compact, counted, items, member, number, text};
use crate::verbs::peers::find;

pub(crate) async fn run(context: &Context, args: Inbox) -> anyhow::Result<()> {
    match args.verb.unwrap_or(InboxVerb::Ls) {
        InboxVerb::Ls => list(context).await,
        InboxVerb::Sent => sent(context).await,
        InboxVerb::Send { kind, target, source, body, undo } => {
            let (_session, mut client) = open_running(context).await?;
            send(context, &mut client, &kind, &target, &source, body.as_deref(), undo).await
        }
        InboxVerb::Rm { who, slot } => {
            let (session, mut client) = open(context, Home::MustExist).await?;
            let (who, slot) = whole(&mut client, who, slot).await?;
            let answer = client.json(Request::new(hyper::Method::DELETE, format!("/.drop/{who}/{slot}"))).await?;
            session.close().await;
            context.out.result(&json!({"removed": number(&answer, "removed")}), || "removed; nothing of it is on disk any more".to_owned())
        }
        InboxVerb::Purge { who } => {
            let (session, mut client) = open(context, Home::MustExist).await?;
            let answer = client.json(Request::post("/.sys/inbox/purge").body(JSON, json!({"who": who.trim_start_matches('@')}).to_string())?).await?;
            session.close().await;
            let removed = number(&answer, "removed").unwrap_or(0);
            context.out.result(&json!({"who": text(&answer, "who"), "removed": removed}), || match removed {
                0 => "nothing of theirs was there".to_owned(),
                count => format!("{} removed; `timebus block` keeps more from coming", counted(count as usize, "notice")),
            })
        }
        InboxVerb::Open => close(context, false).await,
        InboxVerb::Close => close(context, true).await,
    }
}

async fn close(context: &Context, closed: bool) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    client.json(Request::post("/.sys/inbox").body(JSON, json!({ "closed": closed }).to_string())?).await?;
    session.close().await;
    context.out.result(&json!({ "closed": closed }), || match closed {
        true => "nobody can leave you notices any more; what is there stays".to_owned(),
        false => "anybody who reaches this peer may leave you notices, up to 64 kB each".to_owned(),
    })
}

/// The key and the slot of a notice of which the beginning of each is given, or the sender's name.
async fn whole(client: &mut Client, who: String, slot: String) -> anyhow::Result<(String, String)> {
    let inbox = client.json(Request::get("/.sys/inbox")).await?;
    let name = who.trim_start_matches('@');
    let is_meant = |notice: &&Json| {
        let is_his = text(notice, "name") == Some(name) || text(notice, "from").is_some_and(|from| from.starts_with(name));
        is_his && text(notice, "slot").is_some_and(|known| known.starts_with(&slot))
    };
    if items(&inbox, "notices").iter().any(|notice| text(notice, "from") == Some(name) && text(notice, "slot") == Some(&slot)) {
        return Ok((who, slot));
    }
    let mut found = items(&inbox, "notices").iter().filter(is_meant);
    match (found.next(), found.next()) {
        (Some(notice), None) => {
            let part = |name| text(notice, name).unwrap_or_default().to_owned();
            Ok((part("from"), part("slot")))
        }
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("several notices of {name} have a slot that begins with {slot}")).fix("write more of it").into())
        }
        // Of somebody who was muted it is not listed.
        (None, _) => Ok((who, slot)),
    }
}

/// What somebody says with a notice, in one line.
fn says(notice: &Json) -> String {
    const SHOWN_MAX: usize = 60;
    let Some(body) = member(notice, "body").filter(|body| **body != Json::Null) else { return "-".to_owned() };
    let line = printable(&crate::value::string(body).map_or_else(|| compact(body), ToOwned::to_owned));
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Where something is, without the own space before it.
fn pointer(json: &Json, name: &str, own: &str) -> String {
    let whole = printable(text(json, name).unwrap_or("?"));
    if let Some(path) = whole.strip_prefix("/@").and_then(|rest| rest.strip_prefix(own)).filter(|path| path.starts_with('/')) {
        return path.to_owned();
    }
    match whole.strip_prefix("/@").and_then(|rest| rest.split_once('/')) {
        Some((key, path)) => format!("@{}/{path}", short(key)),
        None => whole,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let inbox = client.json(Request::get("/.sys/inbox")).await?;
    let own = text(&client.json(Request::get("/.sys/status")).await?, "id").unwrap_or_default().to_owned();
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&inbox))?);
    }
    let notices = items(&inbox, "notices");
    let left_out = match number(&inbox, "left_out").unwrap_or(0) {
        0 => String::new(),
        count => format!("; {count} more of those whom you muted or blocked"),
    };
    let state = if member(&inbox, "closed") == Some(&Json::Bool(true)) { ", closed" } else { "" };
    let state = format!("{state}{left_out}");
    if notices.is_empty() {
        out.note(format!("nobody has left you anything{state}"));
        return Ok(());
    }
    let head = ["WHEN", "KIND", "FROM", "ABOUT", "SAYS", "TRUE", "REMOVE BY"].map(str::to_owned).to_vec();
    let now = now_ms();
    let row = |notice: &Json| {
        let truth = match member(notice, "confirmed") {
            Some(Json::Bool(true)) => "yes",
            Some(Json::Bool(false)) => "NO",
            _ => "cannot tell",
        };
        vec![
            format!("{} ago", span(now.saturating_sub(number(notice, "at_ms").unwrap_or(now)))),
            printable(text(notice, "kind").unwrap_or("?")),
            printable(text(notice, "name").unwrap_or("?")),
            pointer(notice, "target", &own),
            says(notice),
            truth.to_owned(),
            format!("{} {}", short(text(notice, "from").unwrap_or("?")), short(text(notice, "slot").unwrap_or("?"))),
        ]
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(notices.iter().map(row)).collect();
    table(&rows).iter().try_for_each(|line| out.line(line))?;
    if notices.iter().any(|notice| !matches!(member(notice, "confirmed"), Some(Json::Bool(_)))) {
        let follow = context.home.command("follow KEY");
        out.note(format!("cannot tell: what it points from is in a space of which this peer has nothing, or not all; `{follow}` fetches it"));
    }
    let bytes = DecimalBytes(number(&inbox, "bytes").unwrap_or(0));
    out.note(format!(
        "{} from {}, {bytes}{state}",
        counted(notices.len(), "notice"),
        counted(number(&inbox, "senders").unwrap_or(0) as usize, "sender")
    ));
    Ok(())
}

/// How a notice that was sent is, in words.
fn standing(sent: &Json) -> String {
    let seen = match number(sent, "seen_ms").unwrap_or(0) {
        0 => "never met".to_owned(),
        at => format!("last seen {} ago", span(now_ms().saturating_sub(at))),
    };
    match (text(sent, "state"), text(sent, "problem")) {
        (Some("delivered"), _) => "delivered".to_owned(),
        (Some("refused"), problem) => format!("refused: {}", problem.unwrap_or("no reason was given")),
        (_, Some(problem)) => format!("waiting: {problem}"),
        (_, None) if member(sent, "connected") == Some(&Json::Bool(true)) => "waiting: being handed over".to_owned(),
        (_, None) => format!("waiting for them, {seen}"),
    }
}

async fn sent(context: &Context) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let outbox = client.json(Request::get("/.sys/outbox")).await?;
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&outbox))?);
    }
    let all = items(&outbox, "notices");
    if all.is_empty() {
        out.note("you have left nobody anything");
        return Ok(());
    }
    let head = ["KIND", "ABOUT", "STATE"].map(str::to_owned).to_vec();
    let row = |sent: &Json| {
        let notice = member(sent, "notice").cloned().unwrap_or(Json::Null);
        let gone = if member(sent, "is_gone") == Some(&Json::Bool(true)) { " (taken back)" } else { "" };
        let about = pointer(&notice, "target", "?");
        let about = match (text(sent, "name"), about.strip_prefix('@').and_then(|about| about.split_once('/'))) {
            (Some(name), Some((_, path))) => format!("@{}/{path}", printable(name)),
            _ => about,
        };
        vec![format!("{}{gone}", printable(text(&notice, "kind").unwrap_or("?"))), about, standing(sent)]
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(all.iter().map(row)).collect();
    table(&rows).iter().try_for_each(|line| out.line(line))?;
    Ok(())
}

/// A path with the key of its space in front.
async fn absolute(client: &mut Client, path: &str) -> anyhow::Result<(String, String)> {
    let trimmed = path.trim_start_matches('/');
    let (space, rest) = match trimmed.strip_prefix('@') {
        Some(rest) => {
            let (who, rest) = rest.split_once('/').unwrap_or((rest, ""));
            (find(client, who).await?, rest.to_owned())
        }
        None => (text(&client.json(Request::get("/.sys/status")).await?, "id").unwrap_or_default().to_owned(), trimmed.to_owned()),
    };
    if space.len() != 52 {
        return Err(Failure::usage(format!("nobody is known by the name {space:?}")).fix("write @KEY/path with the key of their space").into());
    }
    Ok((format!("/@{space}/{rest}"), space))
}

async fn send(context: &Context, client: &mut Client, kind: &str, target: &str, source: &str, body: Option<&str>, undo: bool) -> anyhow::Result<()> {
    let (target, space) = absolute(client, target).await?;
    let (source, _) = absolute(client, source).await?;
    let mut notice = json!({"kind": kind, "target": target, "source": source});
    if let Some(body) = body {
        notice["body"] = serde_json::from_str(body).unwrap_or_else(|_| body.into());
    }
    let method = if undo { hyper::Method::DELETE } else { hyper::Method::POST };
    let answer = client.json(Request::new(method, format!("/@{space}/.drop")).body(JSON, notice.to_string())?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    out.line(standing(&answer))?;
    if text(&answer, "state") == Some("waiting") {
        out.note(format!("your peer goes on trying by itself; `{}` tells how it is", context.home.command("inbox sent")));
    }
    Ok(())
}

pub(crate) async fn refs(context: &Context, args: Refs) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let mut request = Request::get(args.path.below("/.sys/refs")).query("limit", args.limit);
    if let Some(kind) = &args.kind {
        request = request.query("kind", kind);
    }
    let found = client.json(request).await?;
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&found))?);
    }
    let refs = items(&found, "refs");
    if let (Some(Json::Object(counts)), Some(confirmed)) = (member(&found, "counts"), member(&found, "confirmed")) {
        if counts.is_empty() {
            out.note("nothing is known that points there");
        }
        for kind in counts.keys() {
            let (all, seen) = (number(member(&found, "counts").unwrap_or(&Json::Null), kind).unwrap_or(0), number(confirmed, kind).unwrap_or(0));
            out.line(format!("{kind}  {all}, {seen} of them seen here with own eyes"))?;
        }
    }
    let head = ["KIND", "WHERE", "KNOWN FROM"].map(str::to_owned).to_vec();
    let row = |shown: &Json| {
        let from: Vec<String> = items(shown, "from").iter().filter_map(crate::value::string).map(printable).collect();
        vec![printable(text(shown, "kind").unwrap_or("?")), pointer(shown, "source", "?"), from.join(", ")]
    };
    if !refs.is_empty() {
        out.line("")?;
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(refs.iter().map(row)).collect();
        table(&rows).iter().try_for_each(|line| out.line(line))?;
    }
    Ok(())
}
