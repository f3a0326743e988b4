//! peers, follow, unfollow, block, unblock: other people's peers and spaces.

use indicatif::DecimalBytes;
use serde_json::json;
use timebus_identity::PublicKey;

use crate::Context;
use crate::cli::{Follow, Peers, PeersAction, Unfollow};
use crate::client::{Client, Home, JSON, Request, open, open_running};
use crate::clock::{now_ms, span};
use crate::failure::Failure;
use crate::home::quoted_text;
use crate::output::printable;
use crate::standing::{called, of_peer, of_space, short, table};
use crate::value::{Json, compact, counted, items, member, number, text};

pub(crate) async fn run(context: &Context, args: &Peers) -> anyhow::Result<()> {
    match &args.action {
        None => list(context, args).await,
        Some(PeersAction::Name { who, name }) => self::name(context, who, name).await,
    }
}

/// Calls somebody so.
async fn name(context: &Context, who: &str, name: &str) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let key = find(&mut client, who).await?;
    let named = client.json(Request::post("/.sys/petname").body(JSON, json!({"who": key, "name": name}).to_string())?).await?;
    let json = json!({"space": text(&named, "space"), "petname": text(&named, "petname").filter(|name| !name.is_empty())});
    context.out.result(&json, || match name {
        "" => format!("{} has no name of yours any more", printable(who)),
        name => format!("{} is called {}", printable(who), printable(name)),
    })
}

async fn list(context: &Context, args: &Peers) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let out = context.out;
    let peers = client.json(Request::get("/.sys/peers")).await?;
    let spaces = client.json(Request::get("/.sys/spaces")).await?;
    if out.json {
        let (Json::Object(mut peers), Json::Object(spaces)) = (peers, spaces) else {
            return Err(Failure::refused("the peer's answer is malformed").into());
        };
        peers.extend(spaces);
        return Ok(out.line(compact(&Json::Object(peers)))?);
    }
    let now = now_ms();
    // Anybody who reaches this peer can call it, once and with any number of keys.
    let is_passing =
        |peer: &&Json| text(peer, "source") == Some("came") && text(peer, "state") != Some("connected") && text(peer, "petname").is_none();
    let (passing, known): (Vec<&Json>, Vec<&Json>) = items(&peers, "peers").iter().partition(|peer| !args.all && is_passing(peer));
    let (gone, known): (Vec<&Json>, Vec<&Json>) = known.into_iter().partition(|peer| !args.all && is_gone(peer));
    if known.is_empty() {
        out.note(format!("nobody is known yet; `{}` lets somebody in", context.home.command("invite")));
    } else {
        let head = ["PEER", "ID", "STATE", "WAY", "SEEN", "BYTES IN, OUT"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(known.into_iter().map(|peer| row(peer, now))).collect();
        table(&rows).iter().try_for_each(|line| out.line(line))?;
    }
    if !passing.is_empty() {
        out.note(format!("{} who only called here and left: --all shows them", counted(passing.len(), "stranger")));
    }
    if !gone.is_empty() {
        let machines = counted(gone.len(), "machine");
        out.note(format!("{machines} not met for 30 days, or since their owners linked others: --all shows them"));
    }
    if let Some(says) = member(&peers, "clock").and_then(|clock| text(clock, "says")) {
        out.note(printable(says));
    }
    let wanted = items(&spaces, "spaces");
    if !wanted.is_empty() {
        let head = ["SPACE", "ID", "HERE"].map(str::to_owned).to_vec();
        let row = |space: &Json| {
            let kept = if member(space, "is_followed") == Some(&Json::Bool(true)) { "" } else { "   (read now and then; not followed)" };
            vec![called(space), short(text(space, "space").unwrap_or("?")), format!("{}{kept}", of_space(space, now))]
        };
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(wanted.iter().map(row)).collect();
        out.line("")?;
        table(&rows).iter().try_for_each(|line| out.line(line))?;
        let said: Vec<String> = wanted.iter().filter_map(|space| member(space, "rebind")).flat_map(super::rebind::says).collect();
        if !said.is_empty() {
            out.line("")?;
            said.iter().try_for_each(|line| out.line(line))?;
            out.note(format!("`{}` tells what can be done about it", context.home.command("rebind")));
        }
    }
    Ok(())
}

/// Whether a machine is one that nobody waits for.
pub(crate) fn is_gone(peer: &Json) -> bool {
    member(peer, "gone") == Some(&Json::Bool(true))
}

fn row(peer: &Json, now: u64) -> Vec<String> {
    let is_connected = text(peer, "state") == Some("connected");
    let seen = match number(peer, "seen_ms") {
        _ if is_connected => "now".to_owned(),
        None | Some(0) => "never".to_owned(),
        Some(seen) => format!("{} ago", span(now.saturating_sub(seen))),
    };
    let bytes = |name| DecimalBytes(number(peer, name).unwrap_or(0)).to_string();
    let (way, bytes) = match is_connected {
        true => (printable(text(peer, "way").unwrap_or_default()), format!("{}, {}", bytes("received"), bytes("sent"))),
        false => ("-".to_owned(), "-".to_owned()),
    };
    let own = if member(peer, "own") == Some(&Json::Bool(true)) { " (yours)" } else { "" };
    vec![format!("{}{own}", called(peer)), short(text(peer, "id").unwrap_or("?")), of_peer(peer, now), way, seen, bytes]
}

/// The key of a peer or space by what people may call it; else what was typed, for the peer to judge.
pub(crate) async fn find(client: &mut Client, who: &str) -> anyhow::Result<String> {
    let name = who.strip_prefix('@').unwrap_or(who);
    if name.parse::<PublicKey>().is_ok() {
        return Ok(name.to_owned());
    }
    let peers = client.json(Request::get("/.sys/peers")).await?;
    let spaces = client.json(Request::get("/.sys/spaces")).await?;
    let mut found: Vec<String> = Vec::new();
    for (list, key) in [(items(&spaces, "spaces"), "space"), (items(&peers, "peers"), "id")] {
        for status in list {
            // The owner's own names come before what others call themselves.
            if text(status, "petname") == Some(name) {
                return Ok(text(status, "space").or(text(status, key)).unwrap_or(name).to_owned());
            }
            let is_key = |part: &str| name.len() >= 4 && text(status, part).is_some_and(|key| key.starts_with(name));
            if text(status, "name") == Some(name) || is_key("space") {
                found.extend(text(status, "space").or(text(status, key)).map(str::to_owned));
            } else if is_key("id") {
                found.extend(text(status, "id").map(str::to_owned));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Ok(name.to_owned()),
        more => Err(Failure::usage(format!("{name:?} can be {} different ones", more.len()))
            .detail(more.iter().map(|key| known_as(key, items(&peers, "peers"))).collect::<Vec<_>>().join("\n"))
            .fix("write the key of the one you mean")
            .into()),
    }
}

/// A key with what else tells whose it is.
fn known_as(key: &str, peers: &[Json]) -> String {
    let human = key.parse::<PublicKey>().map_or_else(|_| String::new(), |key| timebus_identity::human_name(&key));
    let his = |part: &str| peers.iter().find(|peer| text(peer, "space").or(text(peer, "id")) == Some(key)).and_then(|peer| text(peer, part));
    let name = his("name").map_or_else(String::new, |name| format!(", {}", printable(name)));
    let says = his("says").map_or_else(String::new, |says| format!(", calls himself {}", printable(says)));
    let node = his("id").map_or_else(String::new, |id| format!(", {} in `timebus peers`", short(id)));
    format!("{key}   {human}{name}{says}{node}")
}

pub(crate) async fn follow(context: &Context, args: Follow) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let who = find(&mut client, &args.who).await?;
    let node = args.node.map(|node| node.to_string());
    let body = json!({"who": who, "node": node, "addresses": args.at, "petname": args.name}).to_string();
    let status = client.json(Request::post("/.sys/follow").body(JSON, body)?).await?;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&status))?);
    }
    let space = text(&status, "space").unwrap_or_default();
    out.line(format!("following {}: {}", called(&status), of_space(&status, now_ms())))?;
    let name = text(&status, "petname").unwrap_or(space);
    out.note(format!("look at it with `{}`", context.home.command(&format!("ls {}", crate::home::quoted_text(&format!("@{name}"))))));
    Ok(())
}

pub(crate) async fn unfollow(context: &Context, args: Unfollow) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let who = find(&mut client, &args.who).await?;
    let answer = client.json(Request::post("/.sys/unfollow").body(JSON, json!({"who": who}).to_string())?).await?;
    let json = json!({"unfollowed": text(&answer, "unfollowed")});
    context.out.result(&json, || format!("{} is not followed any more; what is here of it stays", printable(&args.who)))
}

pub(crate) async fn block(context: &Context, who: &str, blocked: bool) -> anyhow::Result<()> {
    let (_session, mut client) = open_running(context).await?;
    let key = find(&mut client, who).await?;
    let answer = client.json(Request::post("/.sys/block").body(JSON, json!({"who": key, "blocked": blocked}).to_string())?).await?;
    let json = json!({"who": text(&answer, "who"), "blocked": blocked});
    context.out.result(&json, || match blocked {
        true => format!("{} is blocked; `{}` undoes it", printable(who), context.home.command(&format!("unblock {}", short(&key)))),
        false => format!("{} is not blocked any more", printable(who)),
    })
}

pub(crate) async fn mute(context: &Context, who: Option<&str>) -> anyhow::Result<()> {
    if let Some(who) = who {
        return set_mute(context, who, true).await;
    }
    let (session, mut client) = open(context, Home::MustExist).await?;
    let lists = client.json(Request::get("/.sys/lists")).await?;
    session.close().await;
    let out = context.out;
    if out.json {
        return Ok(out.line(compact(&lists))?);
    }
    let all = ["muted", "blocked"].map(|list| (list, items(&lists, list)));
    for (list, one) in all.iter().flat_map(|(list, who)| who.iter().map(move |one| (list, one))) {
        let part = |name| text(one, name).unwrap_or("?");
        out.line(format!("{list:<8} {}   {}", printable(part("name")), part("who")))?;
    }
    if all.iter().all(|(_, who)| who.is_empty()) {
        out.note("you hear everybody");
    }
    Ok(())
}

pub(crate) async fn set_mute(context: &Context, who: &str, muted: bool) -> anyhow::Result<()> {
    let (session, mut client) = open(context, Home::MustExist).await?;
    let answer = client.json(Request::post("/.sys/mute").body(JSON, json!({"who": who, "muted": muted}).to_string())?).await;
    session.close().await;
    let json = json!({"who": text(&answer?, "who"), "muted": muted});
    context.out.result(&json, || match muted {
        true => format!("{} is muted; `{}` undoes it", printable(who), context.home.command(&format!("unmute {}", quoted_text(who)))),
        false => format!("{} is heard again", printable(who)),
    })
}

/// What of the network goes into `status`.
pub(crate) fn summary(peers: &Json, spaces: &Json) -> Vec<String> {
    let known = items(peers, "peers");
    let connected: Vec<String> = known.iter().filter(|peer| text(peer, "state") == Some("connected")).map(called).collect();
    let mut lines = vec![match connected.len() {
        0 => format!("nobody connected, {} known", known.len()),
        count => format!("{} connected of {} known: {}", count, known.len(), connected.join(", ")),
    }];
    let wanted = items(spaces, "spaces");
    if !wanted.is_empty() {
        let live = wanted.iter().filter(|space| text(space, "state") == Some("live")).count();
        lines.push(format!("{} of others, {live} live", counted(wanted.len(), "space")));
    }
    lines
}
