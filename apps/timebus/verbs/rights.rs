//! grant, grants, revoke, why, why-hidden, quarantine: who may do what.

use anyhow::Result;
use serde_json::json;

use crate::Context;
use crate::cli::{Asked, Grant, Grants, May, Quarantine, QuarantineAction, Revoke, Why, WhyHidden};
use crate::client::{Home, JSON, Request, open};
use crate::clock::utc;
use crate::failure::Failure;
use crate::output::printable;
use crate::standing::{short, table};
use crate::target::{Target, encode};
use crate::value::{Json, compact, counted, items, member, number, text};

impl Asked {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Moderate => "moderate",
            Self::Shown => "shown",
        }
    }
}

impl May {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Moderate => "moderate",
        }
    }
}

/// Lines of words in an answer.
fn lines<'a>(answer: &'a Json, name: &str) -> impl Iterator<Item = String> + use<'a> {
    items(answer, name).iter().filter_map(|line| match line {
        Json::String(line) => Some(printable(line)),
        _ => None,
    })
}

fn is_true(answer: &Json, name: &str) -> bool {
    member(answer, name) == Some(&Json::Bool(true))
}

pub(crate) async fn grant(context: &Context, args: Grant) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let body = json!({
        "who": args.who,
        "path": args.path.to_string(),
        "can": args.can.word(),
        "bytes_max": args.quota.unwrap_or(0),
        "until_ms": args.until.unwrap_or(0),
        "depth": args.depth,
        "preview": args.preview,
    });
    let answer = client.json(Request::post("/.sys/grant").body(JSON, body.to_string())?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    for line in lines(&answer, "says") {
        out.line(line)?;
    }
    for note in lines(&answer, "notes") {
        out.line(format!("note: {note}"))?;
    }
    match (args.preview, number(&answer, "new")) {
        (_, Some(0)) => out.note("he may already; nothing was added"),
        (true, _) => out.note("nothing was granted; leave --preview out to do it"),
        (false, _) => out.note(format!("`{}` takes it back", context.home.command(&format!("revoke {} {}", args.who, args.path)))),
    }
    Ok(())
}

pub(crate) async fn grants(context: &Context, args: Grants) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let answer = client.json(Request::get(args.path.below("/.sys/grants"))).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    let mut rows = vec![["GRANT", "WHO MAY WHAT", "GIVEN BY", "SINCE", ""].map(str::to_owned).to_vec()];
    for grant in items(&answer, "grants") {
        let is_live = is_true(grant, "live") && !is_true(grant, "ended");
        if !is_live && !args.all {
            continue;
        }
        let part = |name| printable(text(grant, name).unwrap_or("?"));
        let state = if is_live { String::new() } else { format!("not in force: {}", lines(grant, "why").collect::<Vec<_>>().join(", ")) };
        rows.push(vec![short(&part("id")), part("says"), part("by_name"), utc(number(grant, "time_ms").unwrap_or(0)), state]);
    }
    table(&rows).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}

pub(crate) async fn revoke(context: &Context, args: Revoke) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let body = json!({
        "what": args.what,
        "path": args.path.to_string(),
        "cascade": args.cascade,
        "keep": !args.drop_unseen,
        "preview": args.preview,
        "with_invite": args.with_invite,
    });
    let answer = client.json(Request::post("/.sys/revoke").body(JSON, body.to_string())?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    for line in lines(&answer, "says") {
        out.line(line)?;
    }
    if !args.cascade && !items(&answer, "stay").is_empty() {
        out.note("--cascade takes back what those have, too, who came in that way");
    }
    if args.preview {
        out.note("nothing was taken back; leave --preview out to do it");
    } else if number(&answer, "hidden").is_some_and(|count| count > 0) {
        out.note(format!("`{}` lists what is hidden, and keeps what should not be", context.home.command("quarantine")));
    }
    Ok(())
}

pub(crate) async fn why(context: &Context, args: Why) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let mut request = Request::get(args.path.below(&format!("/.sys/why/{}", args.can.word())));
    if let Some(who) = &args.who {
        request = request.query("as", encode(who));
    }
    let answer = client.json(request).await?;
    let out = context.out;
    let allowed = is_true(&answer, "allowed");
    if out.json {
        out.line(compact(&answer))?;
    } else {
        let mut says = lines(&answer, "says");
        if let Some(first) = says.next() {
            out.line(first)?;
        }
        for line in says {
            out.line(format!("  {line}"))?;
        }
        if let Some(fix) = text(&answer, "fix") {
            out.note(format!("to change that: `{}`", printable(fix)));
        }
        if let Some(ask) = member(&answer, "ask") {
            let part = |name| printable(text(ask, name).unwrap_or_default());
            if text(ask, "command").is_some() {
                out.note(format!("to change that, ask {} for it: `{}`", part("who"), part("command")));
            }
        }
    }
    if allowed { Ok(()) } else { Err(Failure::told().into()) }
}

pub(crate) async fn why_hidden(context: &Context, args: WhyHidden) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let target: Target = args.what.parse().map_err(|error| Failure::usage(format!("{:?} is no path and no id: {error}", args.what)))?;
    let answer = client.json(Request::get(target.below("/.sys/why-hidden"))).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    for line in lines(&answer, "says") {
        out.line(line)?;
    }
    if let Some(change) = items(&answer, "changes").first() {
        let id = short(&printable(text(change, "id").unwrap_or("ID")));
        match args.what.strip_prefix('@').or_else(|| args.what.strip_prefix("/@")) {
            Some(_) => out.note(format!("whoever may moderate there gives it its effect back: `timebus quarantine keep {id}`")),
            None => out.note(format!("`{}` gives it its effect back", context.home.command(&format!("quarantine keep {id}")))),
        }
    }
    Ok(())
}

pub(crate) async fn quarantine(context: &Context, args: Quarantine) -> Result<()> {
    let (_session, mut client) = open(context, Home::MustExist).await?;
    let out = context.out;
    let path = match args.action {
        None => Target::root(),
        Some(QuarantineAction::Ls { path }) => path,
        Some(QuarantineAction::Keep { id, path }) => {
            let request = Request::post(path.below("/.sys/quarantine")).body(JSON, json!({"keep": id}).to_string())?;
            let answer = client.json(request).await?;
            if out.json {
                return Ok(out.line(compact(&answer))?);
            }
            let shown = number(&answer, "shown").unwrap_or(0);
            out.line(format!("{} now counts", counted(usize::try_from(shown).unwrap_or(usize::MAX), "change")))?;
            return Ok(());
        }
    };
    let answer = client.json(Request::get(path.below("/.sys/quarantine"))).await?;
    if out.json {
        return Ok(out.line(compact(&answer))?);
    }
    let changes = items(&answer, "changes");
    if changes.is_empty() {
        out.note("nothing is hidden");
        return Ok(());
    }
    let mut rows = vec![["CHANGE", "BY", "WRITTEN", "AT", "WHY"].map(str::to_owned).to_vec()];
    for change in changes {
        let part = |name| printable(text(change, name).unwrap_or("?"));
        let list = |name: &str| lines(change, name).collect::<Vec<_>>().join(", ");
        rows.push(vec![short(&part("id")), part("name"), utc(number(change, "time_ms").unwrap_or(0)), list("paths"), list("why")]);
    }
    table(&rows).iter().try_for_each(|line| out.line(line.trim_end()))?;
    Ok(())
}
