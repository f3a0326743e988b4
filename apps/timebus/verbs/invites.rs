//! invites: what was given out, who took it, and taking it back.

use std::collections::BTreeMap;

use serde_json::json;

use crate::Context;
use crate::cli::{Invites, InvitesAction};
use crate::client::{Client, JSON, Request, open_running};
use crate::clock::utc;
use crate::failure::Failure;
use crate::output::printable;
use crate::standing::{short, table};
use crate::value::{Json, compact, counted, items, member, number, text};
use crate::verbs::invite::{until, writing};

pub(crate) async fn run(context: &Context, args: Invites) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    match args.action {
        None if args.tree => tree(context, &mut client, args.of.as_deref()).await,
        None => list(context, &mut client).await,
        Some(InvitesAction::Revoke { id, grants }) => revoke(context, &mut client, &id, grants).await,
    }
}

async fn list(context: &Context, client: &mut Client) -> anyhow::Result<()> {
    let all = client.json(Request::get("/.sys/invites")).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&all))?);
    }
    let invites = items(&all, "invites");
    if invites.is_empty() {
        out.note(format!("no invites; `{}` makes one", context.home.command("invite")));
    }
    let rows: Vec<Vec<String>> = invites.iter().map(row).collect();
    for (line, invite) in table(&rows).into_iter().zip(invites) {
        out.line(line)?;
        // The first level of the tree; those who came may have invited others.
        for taken in items(invite, "redeemed") {
            let part = |name| printable(text(taken, name).unwrap_or("?"));
            let at = utc(number(taken, "at_ms").unwrap_or(0));
            let name = text(taken, "called").map_or_else(|| part("name"), printable);
            out.line(format!("└── {name}   space {}   device {}   {at}", short(&part("space")), short(&part("device"))))?;
        }
    }
    Ok(())
}

/// Shows who came by whom.
async fn tree(context: &Context, client: &mut Client, of: Option<&str>) -> anyhow::Result<()> {
    let all = client.json(Request::post("/.sys/invites/tree").body(JSON, json!({"space": of}).to_string())?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&all))?);
    }
    let mut children: BTreeMap<Option<&str>, Vec<&Json>> = BTreeMap::new();
    for grant in items(&all, "grants") {
        children.entry(text(grant, "parent")).or_default().push(grant);
    }
    for of in children.values_mut() {
        of.sort_by_key(|grant| number(grant, "at_ms"));
    }
    let mut lines = Vec::new();
    branch(&children, None, "", &mut lines);
    lines.into_iter().try_for_each(|line| out.line(line))?;
    Ok(())
}

fn branch(children: &BTreeMap<Option<&str>, Vec<&Json>>, parent: Option<&str>, indent: &str, lines: &mut Vec<String>) {
    let own = children.get(&parent).map(Vec::as_slice).unwrap_or_default();
    for (at, grant) in own.iter().enumerate() {
        let is_last = at + 1 == own.len();
        let (turn, below) = match (parent, is_last) {
            (None, _) => ("", ""),
            (_, true) => ("└── ", "    "),
            (_, false) => ("├── ", "│   "),
        };
        let flag = |name| member(grant, name) == Some(&Json::Bool(true));
        let what = match (flag("is_owner"), text(grant, "label").and_then(|label| label.strip_prefix("invite:"))) {
            (true, _) => "a device of the owner".to_owned(),
            (false, Some(invite)) => format!("by invite {}", short(invite)),
            (false, None) => printable(text(grant, "label").unwrap_or_default()),
        };
        let gone = if flag("live") { "" } else { "   taken back" };
        let name = printable(text(grant, "name").unwrap_or("everybody"));
        lines.push(format!("{indent}{turn}{name}   {what}   {}{gone}", utc(number(grant, "at_ms").unwrap_or(0))));
        // A grant is handed on from one that was there before, so this ends.
        branch(children, text(grant, "grant"), &format!("{indent}{below}"), lines);
    }
}

fn row(invite: &Json) -> Vec<String> {
    let part = |name| printable(text(invite, name).unwrap_or("?"));
    let path = part("path");
    // Where it leads, if not into the own space.
    let of = text(invite, "space_name").map_or_else(String::new, |name| format!(" of {}", printable(name)));
    let reading = match member(invite, "only") {
        Some(Json::Bool(true)) => format!("read {path}{of} alone"),
        _ => format!("read all{of} that is not kept apart"),
    };
    let may = match text(invite, "role") {
        Some("write") => format!("{reading}, and {}", writing(&path, number(invite, "bytes_max"))),
        Some("device") => "be a device of yours".to_owned(),
        Some("member") => format!("be a member{of}"),
        _ => reading,
    };
    let state = match text(invite, "state") {
        Some("open") => format!("open {}", until(invite)),
        other => other.unwrap_or("?").to_owned(),
    };
    let uses = format!("taken {} of {}", number(invite, "uses").unwrap_or(0), number(invite, "uses_max").unwrap_or(0));
    vec![short(&part("id")), state, uses, may, part("note")]
}

async fn revoke(context: &Context, client: &mut Client, wanted: &str, grants: bool) -> anyhow::Result<()> {
    let all = client.json(Request::get("/.sys/invites")).await?;
    let found: Vec<&str> = items(&all, "invites").iter().filter_map(|invite| text(invite, "id")).filter(|id| id.starts_with(wanted)).collect();
    let id = match found.as_slice() {
        [id] => *id,
        [] => {
            return Err(Failure::refused(format!("there is no invite {wanted}"))
                .fix(format!("`{}` lists them", context.home.command("invites")))
                .into());
        }
        more => return Err(Failure::usage(format!("{} begin with {wanted}", counted(more.len(), "invite"))).fix("write more of the id").into()),
    };
    let body = json!({"id": id, "grants": grants}).to_string();
    let revoked = client.json(Request::post("/.sys/invites/revoke").body(JSON, body)?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&revoked))?);
    }
    out.line(format!("{} can be taken by nobody any more", short(id)))?;
    let taken = items(&revoked, "redeemed").len();
    match (taken, grants) {
        (0, _) => {}
        (taken, true) => out.note(format!("{} who took it get nothing new from now on; what they have, they keep", taken)),
        (taken, false) => out.note(format!(
            "{taken} who took it keep what it gave them; `{}` takes that, too",
            context.home.command(&format!("invites revoke {} --grants", short(id)))
        )),
    }
    Ok(())
}
