//! Inboxes over HTTP: `/.drop/…` and `/@<space>/.drop`, and the parts of `/.sys` about notices and references.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, Signed, human_name};
use timebus_store::change::Change;
use timebus_store::inbox::{Inbox, LeaveError};
use timebus_store::json::{Json, Limits};
use timebus_store::notice::{Notice, Pointer};
use timebus_store::path::Path;

use crate::authority::{Verb, who_are_you};
use crate::body::Body;
use crate::computed::{self, Source, is_stream};
use crate::node::book::Book;
use crate::node::outbox::{Outbox, Sent, Standing};
use crate::node::{Event, Node};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::refs::{Shown, Trust};
use crate::remote::{may_fetch, space_of};
use crate::route::{bad_path, storage_problem};
use crate::sys::network::{bad, find_space, find_space_for, network, read, stopped};
use crate::sys::{answer_json, to_serde};
use crate::target::Query;
use crate::who::{Who, now_ms};

/// How long leaving a notice waits for their peer to have it.
const PATIENCE: Duration = Duration::from_millis(1500);
/// References of one answer, if nothing is said, and at most.
const REFS_DEFAULT: usize = 100;
const REFS_MAX: usize = 1000;
/// Notices to one space of which is told how they are, those sent last.
const STANDINGS_MAX: usize = 256;
/// Spaces that can be chosen as an index.
const INDEXES_MAX: usize = 64;

/// The inbox that a request target is in, and the path below; `None` if it is in none.
pub(crate) fn place(segments: &[String]) -> Option<(Option<&str>, &[String])> {
    match segments {
        [first, rest @ ..] if first == ".drop" => Some((None, rest)),
        [space, second, rest @ ..] if second == ".drop" && space.starts_with('@') && !space.starts_with("@@") => Some((Some(&space[1..]), rest)),
        _ => None,
    }
}

/// Answers a request for an inbox.
pub(crate) async fn answer(
    peer: &Peer,
    head: &http::request::Parts,
    who: &Who,
    space: Option<&str>,
    rest: &[String],
    body: Bytes,
) -> Result<Response<Body>, Problem> {
    let verb = if matches!(head.method, Method::GET | Method::HEAD) { Verb::Read } else { Verb::Write };
    let space = match space {
        Some(name) if may_fetch(who) => space_of(peer, who, name, verb, &inbox_path(rest)?).await?,
        // What the owner calls others is for him to know.
        Some(name) => name.parse().unwrap_or_else(|_| PublicKey::from_bytes([0; 32])),
        None => peer.space(),
    };
    may(peer, who, verb, &space, rest)?;
    let is_own = space == peer.space();
    match (&head.method, rest) {
        (&Method::GET | &Method::HEAD, rest) if is_own => {
            let source = Source::Drop(rest.to_vec());
            if is_stream(head) {
                return computed::subscribe(peer, who, head, source).await;
            }
            computed::get(peer, who, &source).await
        }
        (&Method::GET | &Method::HEAD, _) => {
            Err(Problem::new(StatusCode::FORBIDDEN, "inbox", "you may not see this", "an inbox is for its owner to read; others leave notices in it"))
        }
        (&Method::POST, []) => leave(peer, who, space, &body, false).await,
        (&Method::DELETE, []) if !is_own || !body.is_empty() => leave(peer, who, space, &body, true).await,
        (&Method::DELETE, [who, rest @ ..]) if is_own && rest.len() <= 1 => {
            let who: PublicKey = who.parse().map_err(|_| bad(format!("{who:?} is no key")))?;
            let inbox = peer.inbox()?;
            let count = inbox
                .throw_out(|author, slot, _| *author == who && rest.first().is_none_or(|wanted| wanted == slot))
                .map_err(|error| disk(&error))?;
            if count == 0 {
                return Err(Problem::new(StatusCode::NOT_FOUND, "absent", "there is nothing here", "no such notice is in the inbox"));
            }
            Ok(answer_json(&json!({ "removed": count })))
        }
        _ => Err(Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            "this does not go with an inbox",
            "notices are left by POST and taken back by DELETE",
        )
        .with_fix("POST /@<space>/.drop with {\"kind\",\"target\",\"source\"}")),
    }
}

fn disk(error: &std::io::Error) -> Problem {
    Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", "the inbox could not be written", error.to_string())
}

/// Whether inboxes are anything for somebody here, whosever they are.
pub(crate) fn is_for(who: &Who) -> Result<(), Problem> {
    match who {
        Who::Anyone => Err(who_are_you("notices are signed: by the owner of the peer that they are given to")),
        Who::Signed { is_owner: false, .. } => {
            Err(Problem::new(StatusCode::FORBIDDEN, "inbox", "this is not your peer", "an inbox is used through a peer of one's own"))
        }
        Who::Owner | Who::Signed { .. } | Who::App(_) => Ok(()),
    }
}

/// Whether somebody may do this with an inbox.
fn may(peer: &Peer, who: &Who, verb: Verb, space: &PublicKey, rest: &[String]) -> Result<(), Problem> {
    is_for(who)?;
    who.may(peer, verb, space, &inbox_path(rest)?)
}

/// Where in a space an inbox is, and what is below it.
fn inbox_path(rest: &[String]) -> Result<Path, Problem> {
    Path::from_text_segments(std::iter::once(".drop").chain(rest.iter().map(String::as_str))).map_err(|error| bad_path(&error))
}

/// What is in the inbox of this peer, or below a sender and a slot; `None` if there is nothing.
pub(crate) async fn left(peer: &Peer, who: &Who, rest: &[String]) -> Result<Option<Serde>, Problem> {
    may(peer, who, Verb::Read, &peer.space(), rest)?;
    let (peer, rest) = (peer.clone(), rest.to_vec());
    let look = move || {
        let inbox = peer.inbox()?;
        confirm(&peer, &inbox)?;
        let path: Vec<&str> = rest.iter().map(String::as_str).collect();
        let mut found = inbox.json(&path).map(|json| to_serde(&json));
        if path.is_empty() {
            let quiet = crate::lists::quiet(peer.store()).map_err(|error| storage_problem(&error))?;
            leave_out(&mut found, &quiet);
        }
        Ok(found)
    };
    tokio::task::spawn_blocking(look).await.map_err(|error| bad(error.to_string()))?
}

/// Takes notices of some people out of a list of all. Asked for by name they are still there.
fn leave_out(all: &mut Option<Serde>, quiet: &BTreeSet<PublicKey>) {
    let Some(senders) = all.as_mut().and_then(Serde::as_object_mut).filter(|_| !quiet.is_empty()) else { return };
    let is_quiet = |key: &str| key.parse::<PublicKey>().is_ok_and(|key| quiet.contains(&key));
    let space = |notice: &Serde| notice["source"].as_str().and_then(Pointer::parse).map(|source| source.space);
    senders.retain(|sender, slots| {
        let notices = slots.as_object_mut();
        let left = notices.map(|notices| {
            notices.retain(|_, notice| !space(notice).is_some_and(|space| quiet.contains(&space)));
            notices.len()
        });
        !is_quiet(sender) && left != Some(0)
    });
}

/// Finds out what can be found out about notices.
fn confirm(peer: &Peer, inbox: &Inbox) -> Result<(), Problem> {
    peer.refs.judge(peer.store(), inbox).map_err(|error| storage_problem(&error))
}

/// Leaves a notice in an inbox, or takes it back.
async fn leave(peer: &Peer, who: &Who, space: PublicKey, body: &Bytes, is_gone: bool) -> Result<Response<Body>, Problem> {
    let malformed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "notice", "this is no notice", detail);
    let limits = Limits { bytes_max: 2 * timebus_store::notice::NOTICE_BYTES_MAX, ..Limits::default() };
    let json = Json::parse(body, limits).map_err(|error| malformed(error.to_string()))?;
    let notice = Notice::from_json(&json).map_err(|error| malformed(error.to_string()))?;
    if notice.target.space != space {
        return Err(malformed(format!("the target is in the space {}, and this is the inbox of {space}", notice.target.space)));
    }
    let store = peer.store();
    if notice.source.space != store.space() {
        return Err(Problem::new(StatusCode::FORBIDDEN, "notice", "this is not yours to say", "the source of a notice is in the sender's own space"));
    }
    let (now, for_owner) = (now_ms(), who.is_owner());
    let slot = notice.slot();
    let is_own = space == store.space();
    // To others another identity of the owner is what any key is: what is left there goes nowhere, and nobody is asked for it.
    let to = if !for_owner && peer.is_family(&space) { crate::remote::stand_in(peer, &space) } else { space };
    let before = match is_own {
        true => 0,
        false => {
            let slot = slot.clone();
            let clock = move |node: &Node| (node.outbox().find(&to, &slot).map_or(0, |sent| sent.clock), node.outbox().has_room(for_owner));
            let (clock, room) = network(peer)?.ask(clock).await.map_err(stopped)?;
            room.map_err(|error| Problem::new(StatusCode::TOO_MANY_REQUESTS, "outbox", "the outbox is full", error.to_string()))?;
            clock
        }
    };
    crate::route::charge_beside(peer, who, body.len() as u64)?;
    let clock = now.max(before + 1);
    let change = notice.change(store.device(), clock, now, is_gone).ok_or_else(|| malformed("it cannot be put into a change".to_owned()))?;
    let bytes = store.sign_notice(&change);
    if is_own {
        let inbox = peer.inbox()?;
        let left = tokio::task::spawn_blocking(move || {
            let change = Change::decode(&bytes).ok().map(Signed::verify)?.ok()?;
            inbox.leave(&[change], now).pop()
        });
        match left.await.map_err(|error| malformed(error.to_string()))? {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(refused(&error)),
            None => return Err(malformed("it could not be signed".to_owned())),
        }
        return Ok(answer_json(&json!({"id": change.id().to_string(), "space": space.to_string(), "slot": slot, "state": "delivered"})));
    }
    let sent = Sent::new(&change, to, slot.clone(), to_serde(&notice.to_json()), is_gone, now, &bytes);
    let network = network(peer)?;
    let mut changed = network.changed();
    network.wish(Event::Leave(Box::new(sent))).await.map_err(stopped)?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (standing, reach) = loop {
        changed.borrow_and_update();
        let slot = slot.clone();
        let look = move |node: &Node| (node.outbox().find(&to, &slot).cloned(), node.reach(&to));
        let (standing, reach) = network.ask(look).await.map_err(stopped)?;
        let is_settled = standing.as_ref().is_none_or(|sent| !matches!(sent.standing, Standing::Waiting { problem: None }));
        // Who is not linked is not waited for.
        if is_settled || !reach.0 || tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
            break (standing, reach);
        }
    };
    let mut answer = standing.map(|sent| describe(&sent, reach)).unwrap_or_default();
    let status = match answer["state"].as_str() {
        Some("delivered") => StatusCode::OK,
        Some("refused") => StatusCode::CONFLICT,
        _ => StatusCode::ACCEPTED,
    };
    (answer["space"], answer["name"]) = (space.to_string().into(), human_name(&space).into());
    let mut response = answer_json(&answer);
    *response.status_mut() = status;
    Ok(response)
}

fn refused(error: &LeaveError) -> Problem {
    match error {
        LeaveError::Io(error) => disk(error),
        error => Problem::new(StatusCode::CONFLICT, "inbox", "the notice was not taken", error.to_string()),
    }
}

/// A notice that was sent, and how it is, for people.
fn describe(sent: &Sent, (is_linked, seen_ms, next_try_ms): (bool, u64, u64)) -> Serde {
    let mut value = serde_json::to_value(sent).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.remove("change");
    }
    if matches!(sent.standing, Standing::Waiting { .. }) {
        value["connected"] = is_linked.into();
        value["seen_ms"] = seen_ms.into();
        value["next_try_ms"] = next_try_ms.into();
    }
    value
}

/// What a target of the form `/.sys/refs/…` is about.
async fn target(peer: &Peer, who: &Who, rest: &[&str]) -> Result<Pointer, Problem> {
    let (space, rest) = match rest.split_first() {
        Some((first, rest)) if first.starts_with('@') && !first.starts_with("@@") => (find_space_for(peer, who, first).await?, rest),
        _ => (peer.space(), rest),
    };
    Ok(Pointer { space, path: Path::from_text_segments(rest.iter().copied()).map_err(|error| bad_path(&error))? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhoWanted {
    who: String,
}

/// Answers a part of `/.sys` about notices and references; `None` if it is no such part.
pub(crate) async fn sys(
    peer: &Peer,
    head: &http::request::Parts,
    who: &Who,
    rest: &[&str],
    body: &Bytes,
    query: &Query,
) -> Option<Result<Response<Body>, Problem>> {
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let answer = match rest {
        ["refs", rest @ ..] if reads => refs(peer, who, rest, query).await,
        ["indexes"] if reads => trust(peer).await.map(|trust| answer_json(&indexes(&trust.indexes))),
        ["indexes"] if head.method == Method::POST => choose(peer, body, true).await,
        ["indexes", "remove"] if head.method == Method::POST => choose(peer, body, false).await,
        ["outbox"] if reads => outbox(peer).await,
        ["synced", space, ".drop"] if reads && space.starts_with('@') => standings(peer, who, &space[1..]).await,
        ["inbox"] if reads => inbox(peer).await,
        ["inbox"] if head.method == Method::POST => close(peer, body),
        ["inbox", "purge"] if head.method == Method::POST => purge(peer, body).await,
        _ => return None,
    };
    Some(answer)
}

async fn inbox(peer: &Peer) -> Result<Response<Body>, Problem> {
    let inbox = peer.inbox()?;
    confirm(peer, &inbox)?;
    let quiet = crate::lists::quiet(peer.store()).map_err(|error| storage_problem(&error))?;
    Ok(answer_json(&summary(&inbox, &quiet, &People::now(peer).await)))
}

async fn refs(peer: &Peer, who: &Who, rest: &[&str], query: &Query) -> Result<Response<Body>, Problem> {
    let target = target(peer, who, rest).await?;
    let trust = trust(peer).await?;
    let limit = query.limit.map_or(REFS_DEFAULT, |limit| limit as usize).min(REFS_MAX);
    let (peer, who, kind, after) = (peer.clone(), who.clone(), query.kind.clone(), query.after.clone());
    let look = move || -> Result<Json, Problem> {
        let mut all = peer.refs.about(peer.store(), &*peer.inbox()?, &target, &trust).map_err(|error| storage_problem(&error))?;
        // What is kept apart is for those who may read it there.
        let is_apart = |source: &Pointer| peer.store().rights(&source.space).is_some_and(|rights| rights.mount_of(&source.path).is_some());
        if !who.is_owner() {
            let reads = |source: &Pointer| who.may(&peer, Verb::Read, &source.space, &source.path).is_ok();
            all.retain(|shown| !is_apart(&shown.source) || reads(&shown.source));
            // That something points there is for whoever may ask; what it says, for those who may read it where it is.
            all.iter_mut().filter(|shown| !reads(&shown.source)).for_each(|shown| shown.body = None);
        }
        Ok(page(&target, &all, kind.as_deref(), after.as_deref(), limit))
    };
    let page = tokio::task::spawn_blocking(look).await.map_err(|error| bad(error.to_string()))??;
    Ok(answer_json(&to_serde(&page)))
}

fn page(target: &Pointer, all: &[Shown], kind: Option<&str>, after: Option<&str>, limit: usize) -> Json {
    let counts = crate::refs::count(all.iter());
    let mut confirmed = crate::refs::count(all.iter().filter(|shown| shown.is_confirmed));
    counts.keys().for_each(|kind| *confirmed.entry(kind.clone()).or_default() += 0);
    let text = |text: &dyn std::fmt::Display| Json::String(text.to_string());
    let object = |members: Vec<(&str, Json)>| Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    let numbers = |counts: BTreeMap<String, i64>| Json::Object(counts.into_iter().map(|(kind, count)| (kind, Json::Int(count))).collect());
    let wanted: Vec<&Shown> = all.iter().filter(|shown| kind.is_none_or(|kind| *shown.kind == *kind)).collect();
    let begin = after.map_or(0, |after| wanted.iter().position(|shown| shown.source.to_string() == after).map_or(0, |at| at + 1));
    let slice = &wanted[begin.min(wanted.len())..];
    let refs: Vec<Json> = slice
        .iter()
        .take(limit)
        .map(|shown| {
            let mut members = vec![
                ("space", text(&shown.source.space)),
                ("source", text(&shown.source)),
                ("kind", text(&shown.kind)),
                ("at_ms", Json::Int(shown.at_ms as i64)),
                ("from", Json::Array(shown.from.iter().map(|from| text(from)).collect())),
                ("confirmed", Json::Bool(shown.is_confirmed)),
            ];
            members.extend(shown.body.clone().map(|body| ("body", body)));
            object(members)
        })
        .collect();
    let mut members = vec![("target", text(target)), ("counts", numbers(counts)), ("confirmed", numbers(confirmed)), ("refs", Json::Array(refs))];
    if slice.len() > limit
        && let Some(last) = slice.get(limit.saturating_sub(1))
    {
        members.push(("next_after", text(&last.source)));
    }
    object(members)
}

fn indexes_file(peer: &Peer) -> std::path::PathBuf {
    peer.store().home().join("indexes.json")
}

async fn trust(peer: &Peer) -> Result<Trust, Problem> {
    let indexes = std::fs::read(indexes_file(peer)).ok().and_then(|bytes| serde_json::from_slice::<Vec<String>>(&bytes).ok()).unwrap_or_default();
    let indexes = indexes.iter().filter_map(|key| key.parse().ok()).collect();
    let blocked = match peer.network() {
        Some(network) => network.ask(|node| node.book().blocked.clone()).await.map_err(stopped)?,
        None => Book::load(&peer.store().home().join("peers.json")).unwrap_or_default().blocked,
    };
    let quiet = crate::lists::quiet(peer.store()).map_err(|error| storage_problem(&error))?;
    Ok(Trust { indexes, blocked: blocked.into_iter().chain(quiet).collect() })
}

fn indexes(all: &[PublicKey]) -> Serde {
    json!({ "indexes": all.iter().map(|key| json!({"space": key.to_string(), "name": human_name(key)})).collect::<Vec<_>>() })
}

/// Chooses a space as an index, or no longer.
async fn choose(peer: &Peer, body: &Bytes, is_chosen: bool) -> Result<Response<Body>, Problem> {
    let who = find_space(peer, &read::<WhoWanted>(body)?.who).await?;
    let mut all = trust(peer).await?.indexes;
    all.retain(|key| *key != who);
    if is_chosen {
        all.push(who);
    }
    if all.len() > INDEXES_MAX {
        return Err(bad(format!("{INDEXES_MAX} spaces at most can be an index")));
    }
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    crate::files::write_whole(&indexes_file(peer), &serde_json::to_vec(&texts).unwrap_or_default()).map_err(|error| disk(&error))?;
    Ok(answer_json(&indexes(&all)))
}

async fn outbox(peer: &Peer) -> Result<Response<Body>, Problem> {
    let all = match peer.network() {
        Some(network) => {
            let look = |node: &Node| -> Vec<Serde> {
                let reach = |sent: &Sent| sent.space.parse().map_or((false, 0, 0), |space| node.reach(&space));
                node.outbox().list().into_iter().map(|sent| describe(sent, reach(sent))).collect()
            };
            network.ask(look).await.map_err(stopped)?
        }
        None => {
            let outbox = Outbox::load(&peer.store().home().join("outbox.json")).map_err(|error| disk(&error))?;
            outbox.list().into_iter().map(|sent| describe(sent, (false, 0, 0))).collect()
        }
    };
    let people = People::now(peer).await;
    let family: BTreeMap<String, PublicKey> =
        peer.family().iter().map(|one| (crate::remote::stand_in(peer, &one.space()).to_string(), one.space())).collect();
    let named = all.into_iter().map(|mut sent| {
        if let Some(own) = sent["space"].as_str().and_then(|space| family.get(space)) {
            sent["space"] = own.to_string().into();
        }
        sent["name"] = sent["space"].as_str().and_then(|space| space.parse().ok()).map(|space| people.name(&space)).into();
        sent
    });
    Ok(answer_json(&json!({ "notices": named.collect::<Vec<Serde>>() })))
}

/// How the notices are that were sent to a space, by their ids: whether a peer of that space has them on its disk.
async fn standings(peer: &Peer, who: &Who, space: &str) -> Result<Response<Body>, Problem> {
    let space = match who {
        Who::App(_) => space_of(peer, who, space, Verb::Write, &inbox_path(&[])?).await?,
        _ => find_space_for(peer, who, space).await?,
    };
    may(peer, who, Verb::Write, &space, &[])?;
    let is_apart = !who.is_owner() && peer.is_family(&space);
    let space = if is_apart { crate::remote::stand_in(peer, &space) } else { space }.to_string();
    let look = move |node: &Node| -> BTreeMap<String, Standing> {
        let latest = node.outbox().list().into_iter().rev().filter(|sent| sent.space == space).take(STANDINGS_MAX);
        latest.map(|sent| (sent.id.clone(), sent.standing.clone())).collect()
    };
    let notices = network(peer)?.ask(look).await.map_err(stopped)?;
    Ok(answer_json(&json!({ "notices": notices })))
}

/// All that is there but what comes of some people, which is only counted.
fn summary(inbox: &Inbox, quiet: &BTreeSet<PublicKey>, people: &People) -> Serde {
    let (bytes, senders) = inbox.size();
    let all = inbox.list();
    let shown: Vec<_> = all.iter().filter(|kept| !quiet.contains(&kept.author) && !quiet.contains(&kept.notice.source.space)).collect();
    json!({
        "left_out": all.len() - shown.len(),
        "closed": inbox.is_closed(),
        "bytes": bytes,
        "bytes_max": timebus_store::inbox::INBOX_BYTES_MAX,
        "sender_bytes_max": timebus_store::inbox::SENDER_BYTES_MAX,
        "senders": senders,
        "notices": shown.into_iter().map(|kept| {
            let mut value = to_serde(&kept.to_json());
            let space = kept.notice.source.space;
            // Whoever writes of a space that is not his has not its owner's name.
            let is_his = people.is_his(&kept.author, &space);
            value["name"] = if is_his { people.name(&space) } else { human_name(&space) }.into();
            value["space"] = space.to_string().into();
            value["slot"] = kept.slot.to_string().into();
            value
        }).collect::<Vec<_>>(),
    })
}

fn close(peer: &Peer, body: &Bytes) -> Result<Response<Body>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        closed: bool,
    }
    let Wanted { closed } = read(body)?;
    peer.inbox()?.close(closed).map_err(|error| disk(&error))?;
    Ok(answer_json(&json!({ "closed": closed })))
}

/// Throws out everything of one sender, by his space or his key.
async fn purge(peer: &Peer, body: &Bytes) -> Result<Response<Body>, Problem> {
    let who = find_space(peer, &read::<WhoWanted>(body)?.who).await?;
    let inbox = peer.inbox()?;
    let is_his = |author: &PublicKey, notice: Option<&Notice>| *author == who || notice.is_some_and(|notice| notice.source.space == who);
    let authors: Vec<PublicKey> = inbox.list().iter().filter(|kept| is_his(&kept.author, Some(&kept.notice))).map(|kept| kept.author).collect();
    let count = inbox
        .throw_out(|author, _, notice| is_his(author, notice) || (notice.is_none() && authors.contains(author)))
        .map_err(|error| disk(&error))?;
    Ok(answer_json(&json!({"who": who.to_string(), "removed": count})))
}
