//! What belongs to this peer only: `/.sys/…`, raw changes, and the pages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, Signed, human_name};
use timebus_store::change::{CHANGE_BYTES_MAX, Change};
use timebus_store::ids::TimelineId;
use timebus_store::json::Json;
use timebus_store::keyspace::{Committed, Rows as _, Table};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::{Refusal, Space};
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::{Summary, summary};
use timebus_store::tree::value_json;
use timebus_store::update::Step;
use timebus_store::writer::{Action, Condition, MoveError, Request, WriteError, resolve, verify_all};

use crate::authority::Verb;
use crate::body::{Body, read_body};
use crate::computed::{self, Source, is_stream};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::read::{insert, versions};
use crate::route::{Ask, storage_problem, write_problem};
use crate::target::{Query, Target, View};
use crate::watch::difference;
use crate::who::{Who, foreign_origin, is_browser, is_same_origin, now_ms, text};

/// What `/.sys` has to read.
const PARTS: [&str; 30] = [
    "status",
    "metrics",
    "blobs",
    "kept",
    "log",
    "conflicts",
    "diff",
    "peers",
    "spaces",
    "rebind",
    "communities",
    "invites",
    "devices",
    "guardians",
    "timelines",
    "personas",
    "links",
    "lists",
    "apps",
    "grants",
    "quarantine",
    "held",
    "costs",
    "inbox",
    "outbox",
    "refs",
    "indexes",
    "output",
    "synced",
    "tips",
];
/// Largest body of a request to the system.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;
/// Authors of one timeline whose tips are told.
const TIPS_MAX: usize = 100_000;
/// Entries of a listing, if the caller does not say.
const ENTRIES_DEFAULT: usize = 100;

/// For how long nothing new is to be taken; 0 for no longer.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Quiet {
    seconds: u64,
}

impl Default for Quiet {
    fn default() -> Self {
        Self { seconds: crate::quiet::QUIET_MAX.as_secs() }
    }
}

/// A page or a file of one, or nothing if this is no request for one.
pub(crate) fn gui(peer: &Peer, target: &Target, head: &http::request::Parts) -> Option<Response<Body>> {
    let find = peer.config.gui?;
    let name = match target.segments.split_first() {
        Some((first, rest)) if first == ".gui" => rest.join("/"),
        // Programs that ask for the root want its value; pages come only to those who can show them.
        _ if text(&head.headers, header::ACCEPT).is_some_and(|accept| accept.contains("text/html")) => String::new(),
        _ => return None,
    };
    let file = find(&name)?;
    let mut response = Response::new(Body::ready(file.bytes));
    response.extensions_mut().insert(crate::route::Installed);
    let headers = response.headers_mut();
    insert(headers, header::CONTENT_TYPE.as_str(), file.mime);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    );
    headers.insert("origin-agent-cluster", HeaderValue::from_static("?1"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(response)
}

pub(crate) mod apps;
pub(crate) mod communities;
mod costs;
mod files;
mod find;
pub(crate) mod network;
mod personas;
mod placement;
mod raw;
mod rebind;
mod revoke;
mod rights;
mod shown;
mod succession;
mod timelines;
mod why;

pub(crate) use rights::is_since;
pub(crate) use why::is_lost;

/// Answers `/.sys/…`.
pub(crate) async fn answer(
    peer: &Peer,
    who: Who,
    head: http::request::Parts,
    body: Incoming,
    rest: &[String],
    query: Query,
) -> Result<Response<Body>, Problem> {
    let name = rest.first().map_or("", String::as_str);
    if is_browser(&head.headers) && !is_same_origin(&head) {
        return Err(foreign_origin());
    }
    if (&head.method, name) == (&Method::POST, "login") {
        return login(peer, body).await;
    }
    let writes = head.method == Method::POST;
    if is_stream(&head) {
        return computed::subscribe(peer, &who, &head, Source::Sys(rest.to_vec(), query)).await;
    }
    who.may_sys(peer, verb(&head), rest)?;
    let bytes_max = if name == "apps" { apps::BODY_BYTES_MAX } else { BODY_BYTES_MAX };
    let body = if writes { read_body(body, bytes_max).await? } else { Bytes::new() };
    who.allows_body(&body)?;
    act(peer, &who, &head, rest, &query, &body).await
}

/// Edits what is stated about rights where it is read, if that is asked for. Giving takes what `/.sys/grant` takes, and taking back what
/// `/.sys/revoke` does beside the grant, which the path names.
pub(crate) fn edit_of_rights(method: &Method, segments: &[String]) -> Option<(&'static str, serde_json::Map<String, Serde>)> {
    let (space, rest) = match segments {
        [space, rest @ ..] if space.starts_with('@') => (format!("/{space}"), rest),
        rest => (String::new(), rest),
    };
    let names: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (method, names.as_slice()) {
        (&Method::POST, [".auth", "grants"]) => Some(("grant", [("space".to_owned(), space.into())].into_iter().collect())),
        (&Method::DELETE, [".auth", "grants", id]) => {
            let path = if space.is_empty() { "/".to_owned() } else { space };
            Some(("revoke", [("what".to_owned(), (*id).into()), ("path".to_owned(), path.into())].into_iter().collect()))
        }
        _ => None,
    }
}

/// Answers such an edit.
pub(crate) async fn edit_rights(
    peer: &Peer,
    who: &Who,
    mut head: http::request::Parts,
    body: Incoming,
    (part, said): (&'static str, serde_json::Map<String, Serde>),
) -> Result<Response<Body>, Problem> {
    if is_browser(&head.headers) && !is_same_origin(&head) {
        return Err(foreign_origin());
    }
    let rest = [part.to_owned()];
    who.may_sys(peer, Verb::Write, &rest)?;
    let body = read_body(body, BODY_BYTES_MAX).await?;
    who.allows_body(&body)?;
    let mut asked: serde_json::Map<String, Serde> = if body.is_empty() { serde_json::Map::new() } else { network::read(&body)? };
    for (name, value) in said {
        if name == "space" {
            let path = asked.get("path").and_then(Serde::as_str).unwrap_or_default();
            let path = format!("{}/{}", value.as_str().unwrap_or_default(), path.trim_start_matches('/'));
            asked.insert("path".to_owned(), path.into());
        } else {
            asked.insert(name, value);
        }
    }
    head.method = Method::POST;
    act(peer, who, &head, &rest, &Query::default(), &Bytes::from(Serde::from(asked).to_string())).await
}

fn verb(head: &http::request::Parts) -> Verb {
    if matches!(head.method, Method::GET | Method::HEAD) { Verb::Read } else { Verb::Write }
}

/// Answers somebody who may ask this, and whose body was read.
pub(crate) async fn act(
    peer: &Peer,
    who: &Who,
    head: &http::request::Parts,
    rest: &[String],
    query: &Query,
    body: &Bytes,
) -> Result<Response<Body>, Problem> {
    let (name, tail) = rest.split_first().map_or(("", rest), |(name, tail)| (name.as_str(), tail));
    let verb = verb(head);
    let (reads, writes) = (verb == Verb::Read, head.method == Method::POST);
    let at = || async { crate::remote::reach(peer, &head.headers, tail, who, verb).await.map(|(space, path, _)| (space, path)) };
    let parts: Vec<&str> = rest.iter().map(String::as_str).collect();
    if let Some(answer) = apps::answer(peer, &head.method, &parts, body).await {
        return answer;
    }
    if let Some(answer) = network::answer(peer, who, &head.method, &parts, body).await {
        let is_secret = |problem: &Problem| problem.kind == crate::personas::IS_OWN && !who.is_owner();
        return answer.map_err(|problem| if is_secret(&problem) { crate::route::not_held("of this key") } else { problem });
    }
    if let Some(answer) = personas::answer(peer, &head.method, &parts, body).await {
        return answer.map(|value| answer_json(&value));
    }
    if let Some(answer) = timelines::answer(peer, &head.method, &parts, body).await {
        return answer;
    }
    if reads && parts == ["held"] && head.headers.contains_key(header::HOST) && !is_browser(&head.headers) {
        costs::shown(peer);
    }
    if let Some(answer) = costs::answer(peer, &head.method, &parts, body).await {
        return answer.map(|value| answer_json(&value));
    }
    if let Some(answer) = rebind::answer(peer, &head.method, &parts, body).await {
        return answer.map(|value| answer_json(&value));
    }
    if let Some(answer) = succession::answer(peer, &head.method, &parts, body).await {
        return answer.map(|value| answer_json(&value));
    }
    if let Some(answer) = files::answer(peer, &head.method, &parts, body).await {
        return answer.map(|value| answer_json(&value));
    }
    if let Some(answer) = communities::answer(peer, &head.method, &parts, query, body).await {
        return answer.map(|value| answer_json(&value));
    }
    if let Some(answer) = rights_of_persona(peer, who, head, &parts, query, body).await {
        return answer.map(|value| answer_json(&value));
    }
    if let Some(answer) = rights::answer(peer, &head.method, &parts, query, body).await {
        return answer.map(|value| answer_json(&value));
    }
    if let Some(answer) = crate::drop::sys(peer, head, who, &parts, body, query).await {
        return answer;
    }
    match name {
        "" if reads => Ok(answer_json(&json!({ "links": PARTS }))),
        "status" if reads => status(peer).await.map(|status| answer_json(&status)),
        "metrics" if reads => metrics(peer),
        "tips" if reads => tips(peer).map(|tips| answer_json(&tips)),
        "synced" if reads => {
            let (space, _) = at().await?;
            network::synced(peer, space).await.map(|synced| answer_json(&synced))
        }
        "log" if reads => {
            let (space, path) = at().await?;
            log(peer, &People::known_to(peer, who).await, space, &path, query)
        }
        "conflicts" if reads => {
            let (space, path) = at().await?;
            conflicts(peer, &People::known_to(peer, who).await, space, &path)
        }
        "diff" if reads => at().await.and_then(|(space, path)| diff(&peer.store.asked_by(who.asker()), space, &path, head)),
        "output" if reads => Ok(answer_json(&json!({ "lines": peer.config.output.map(|lines| lines()).unwrap_or_default() }))),
        "backup" if reads => crate::backup::stream(peer).await,
        "fsck" if writes => crate::fsck::fsck(peer, body).await,
        "move" if writes => {
            let (space, path) = at().await?;
            let (place, answer) = take_to(peer, who, space, path, body).await;
            match crate::remote::may_fetch(who) {
                true => crate::over::mark(peer, space, &place, answer, false).await,
                false => answer,
            }
        }
        "undo" if writes => {
            let (space, path) = at().await?;
            undo(peer, (space, &path), tail.first(), body).await
        }
        "login-code" if writes => Ok(answer_json(&json!({ "code": peer.login_code() }))),
        "quiet" if writes => {
            let Quiet { seconds } = if body.is_empty() { Quiet::default() } else { network::read(body)? };
            let writing = crate::quiet::be_quiet(peer, Some(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs));
            Ok(answer_json(&json!({ "writing": writing })))
        }
        "down" if writes => {
            peer.stop();
            Ok(answer_json(&json!({"stopping": true})))
        }
        "problems" if reads => Ok(answer_json(&json!({"see": "the title and detail of the answer that named this"}))),
        _ => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "sys",
            "there is no such part of the system",
            format!("/.sys/{name} does not exist or takes another method"),
        )
        .with_fix(format!("parts to GET are {}; net/PROTOCOL.md says what each takes", PARTS.join(", ")))),
    }
}

pub(crate) fn answer_json(value: &Serde) -> Response<Body> {
    let mut response = Response::new(Body::ready(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The same value for serde.
pub(crate) fn to_serde(json: &Json) -> Serde {
    match json {
        Json::Null => Serde::Null,
        Json::Bool(b) => Serde::Bool(*b),
        Json::Int(n) => Serde::from(*n),
        Json::Float(n) => Serde::from(*n),
        Json::String(text) => Serde::from(text.as_str()),
        Json::Array(items) => items.iter().map(to_serde).collect(),
        Json::Object(members) => Serde::Object(members.iter().map(|(key, value)| (key.clone(), to_serde(value))).collect()),
    }
}

/// Exchanges a login code for the owner's token.
async fn login(peer: &Peer, body: Incoming) -> Result<Response<Body>, Problem> {
    let body = read_body(body, BODY_BYTES_MAX).await?;
    let code = serde_json::from_slice::<Serde>(&body).ok().and_then(|body| body.get("code")?.as_str().map(str::to_owned));
    match code {
        Some(code) if peer.redeem_login(&code) => Ok(answer_json(&json!({"token": peer.token.text().as_str()}))),
        _ => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "login",
            "this login link was used or is too old",
            "a link works once, for a quarter of an hour",
        )
        .with_fix("`timebus up` prints a new one")),
    }
}

async fn status(peer: &Peer) -> Result<Serde, Problem> {
    let lost = if why::is_lost(peer) { why::lost(peer, &People::now(peer).await) } else { None };
    let store = peer.store();
    let rows = store.snapshot();
    let changes = rows
        .get(Table::Meta, timebus_store::pipeline::APPLIED)
        .and_then(|row| row.map(|row| timebus_store::pipeline::decode_applied(&row)).transpose())
        .map_err(|error| storage_problem(&error))?;
    let (next, place) = changes.unwrap_or_default();
    let opened = store.opened();
    let addresses = peer.addresses.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let space = peer.space();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "build": peer.config.build,
        "id": space.to_string(),
        "name": human_name(&space),
        "device": store.device().to_string(),
        "node": peer.network().map(|network| network.endpoint().node().to_string()),
        "lost": lost,
        "uptime_ms": peer.started.elapsed().as_millis() as u64,
        "http": addresses.iter().map(|address| format!("http://{address}")).collect::<Vec<_>>(),
        "home": store.home().display().to_string(),
        "changes": next.saturating_sub(1),
        "log_bytes": u64::from(place.segment.saturating_sub(1)) * timebus_store::log::SEGMENT_BYTES + place.offset,
        "index_bytes": store.index_bytes(),
        "subscriptions": peer.counters.subscriptions.load(Ordering::Relaxed),
        "connections": peer.counters.connections.load(Ordering::Relaxed),
        "opened": {
            "replayed": opened.replayed,
            "torn_bytes": opened.torn_bytes,
            "damaged": opened.damaged.len(),
            "rebuilt": opened.rebuilt,
            "new_device": opened.new_device,
        },
        "scrub": peer.scrub.status(),
        "index_old": store.distrust(),
    }))
}

/// How far the chain of each author has come in each timeline of the own space: who has all of this has all that is here.
fn tips(peer: &Peer) -> Result<Serde, Problem> {
    let (store, space) = (peer.store(), peer.space());
    let rows = store.snapshot();
    let mounts = store.rights(&space).map_or_else(Vec::new, |rights| rights.shown().map(|mount| mount.timeline).collect());
    let mut all = BTreeMap::new();
    for timeline in ["auth", "main"].map(|name| TimelineId::named(&space, name)).into_iter().chain(mounts) {
        let Some(t) = store.number_of(&space, &timeline) else { continue };
        let mut authors: BTreeMap<String, u64> = BTreeMap::new();
        for tip in timebus_store::tips::tips(&*rows, t, None, TIPS_MAX).map_err(|error| storage_problem(&error))? {
            let seq = authors.entry(tip.author.to_string()).or_default();
            *seq = tip.seq.max(*seq);
        }
        all.insert(timeline.to_string(), authors);
    }
    Ok(json!({ "timelines": all }))
}

/// The counters in the text format of Prometheus.
fn metrics(peer: &Peer) -> Result<Response<Body>, Problem> {
    let stats = peer.store().stats();
    let counters = &peer.counters;
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
        out.push_str(&format!("# HELP timebus_{name} {help}\n# TYPE timebus_{name} {kind}\n"));
        for (labels, value) in values {
            out.push_str(&format!("timebus_{name}{labels} {value}\n"));
        }
    };
    metric("changes_total", "counter", "Changes written to the log.", &[("", stats.changes())]);
    metric("log_bytes_total", "counter", "Bytes written to the log.", &[("", stats.log_bytes())]);
    metric("log_syncs_total", "counter", "Syncs of the log; changes per sync is the figure to drive up.", &[("", stats.syncs())]);
    metric("log_sync_microseconds_total", "counter", "Time spent in syncs of the log.", &[("", stats.sync_us())]);
    let answers: Vec<u64> = counters.answers.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let labels = ["{class=\"2xx\"}", "{class=\"3xx\"}", "{class=\"4xx\"}", "{class=\"5xx\"}"];
    let answers: Vec<(&str, u64)> = labels.into_iter().zip(answers).collect();
    metric("http_answers_total", "counter", "Requests answered.", &answers);
    let gauge = |count: &std::sync::atomic::AtomicI64| u64::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
    metric("connections", "gauge", "Connections open.", &[("", gauge(&counters.connections))]);
    metric("subscriptions", "gauge", "Subscriptions open.", &[("", gauge(&counters.subscriptions))]);
    metric("deliveries_total", "counter", "Updates sent to subscribers.", &[("", counters.deliveries.load(Ordering::Relaxed))]);
    metric("behind_total", "counter", "Times a slow subscriber got a snapshot instead of updates.", &[("", counters.behind.load(Ordering::Relaxed))]);
    metric("index_bytes", "gauge", "Bytes of the index on disk.", &[("", peer.store().index_bytes())]);
    metric("uptime_seconds", "gauge", "Time since the start.", &[("", peer.started.elapsed().as_secs())]);
    let mut response = Response::new(Body::ready(out));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    Ok(response)
}

/// Paths at or below `path` by the change that touched them.
pub(crate) fn touched(rows: &Committed, t: u32, path: &Path) -> Result<BTreeMap<u64, Vec<Path>>, StorageError> {
    let mut found: BTreeMap<u64, Vec<Path>> = BTreeMap::new();
    for row in rows.scan(Table::History, &timebus_store::node::node_key(t, &path.key()), None) {
        let (key, _) = row?;
        let Some((t_key, a, _)) = timebus_store::node::split_history_key(&key) else { continue };
        if let Some(at) = Path::from_key(&t_key[4..]) {
            let paths = found.entry(a).or_default();
            if paths.last() != Some(&at) {
                paths.push(at);
            }
        }
    }
    Ok(found)
}

/// What is asked about rights at a path of a persona's, which it knows of itself.
async fn rights_of_persona(
    peer: &Peer,
    who: &Who,
    head: &http::request::Parts,
    parts: &[&str],
    query: &Query,
    body: &Bytes,
) -> Option<Result<serde_json::Value, Problem>> {
    let at = match parts {
        ["why", ..] => 2,
        ["grants" | "why-hidden" | "quarantine", ..] => 1,
        _ => return None,
    };
    let (_, persona) = crate::personas::named(peer, who, parts.get(at).copied())?;
    let parts = [&parts[..at], &parts[at + 1..]].concat();
    rights::answer(&persona, &head.method, &parts, query, body).await
}

fn describe(people: &People, t: u32, own: &Summary, rows: &Committed) -> Result<Serde, StorageError> {
    let parents = own.base.as_ref().unwrap_or(&own.deps);
    let parents = parents.iter().map(|a| Ok(summary(rows, t, *a)?.name())).collect::<Result<Vec<_>, StorageError>>()?;
    let mut told = json!({ "version": own.name(), "id": own.id.to_string(), "parents": parents });
    people.tell_writer(own, &mut told);
    Ok(told)
}

/// Changes with the paths that they touched.
type Found<'a> = Box<dyn Iterator<Item = Result<(u64, Summary, Vec<Path>), StorageError>> + 'a>;

/// The changes that touched a subtree, newest first.
fn log(peer: &Peer, people: &People, space: Space, path: &Path, query: &Query) -> Result<Response<Body>, Problem> {
    let rows = peer.store().snapshot();
    let failed = |error: StorageError| storage_problem(&error);
    let limit = query.limit.map_or(ENTRIES_DEFAULT, |limit| limit as usize);
    let before = match &query.after {
        Some(version) => resolve(&*rows, space.main(), std::slice::from_ref(version)).map_err(|error| write_problem(&error))?.first().copied(),
        None => None,
    };
    /// Paths named for one change; more are counted.
    const PATHS_MAX: usize = 20;
    let mut changes = Vec::new();
    // Every change touches the root, so the latest ones are found without looking at all of them.
    let found: Found = if path.is_root() {
        Box::new(peer.store().latest(&rows, space.main(), before))
    } else {
        let found = touched(&rows, space.main(), path).map_err(failed)?.into_iter().rev();
        let found = found.filter(move |(a, _)| before.is_none_or(|before| *a < before));
        Box::new(found.map(|(a, paths)| Ok((a, summary(&*rows, space.main(), a)?, paths))))
    };
    for change in found.take(limit) {
        let (_, own, paths) = change.map_err(failed)?;
        let mut entry = describe(people, space.main(), &own, &rows).map_err(failed)?;
        entry["paths"] = paths.iter().take(PATHS_MAX).map(ToString::to_string).collect();
        entry["paths_total"] = paths.len().into();
        if query.view == View::Raw
            && let Ok(record) = peer.store().log().read(own.place)
            && let Ok(signed) = Change::decode(&record.payload)
        {
            entry["raw"] = raw::change(signed.content(), &space.key);
        }
        changes.push(entry);
    }
    Ok(answer_json(&json!({ "changes": changes })))
}

/// Where several values meet, and whose they are.
fn conflicts(peer: &Peer, people: &People, space: Space, path: &Path) -> Result<Response<Body>, Problem> {
    let rows = peer.store().snapshot();
    let failed = |error: StorageError| storage_problem(&error);
    let tree = peer.store().read(&rows, space, path).map_err(failed)?.tree;
    let mut found = Vec::new();
    let mut stack = vec![(path.clone(), &tree)];
    while let Some((at, node)) = stack.pop() {
        if node.is_conflict() {
            let mut values = Vec::new();
            for write in node.writes.iter().chain(&node.hidden) {
                let own = summary(&*rows, space.main(), write.a).map_err(failed)?;
                let mut told = json!({ "value": to_serde(&value_json(&write.value, &space.key)), "id": write.id.to_string() });
                people.tell_writer(&own, &mut told);
                values.push(told);
            }
            found.push(json!({ "path": at.to_string(), "values": values }));
        }
        for (name, child) in node.names.iter().rev() {
            stack.extend(at.join(Segment::Name(name.clone())).ok().map(|at| (at, child)));
        }
        for (id, child) in node.elements.iter().rev() {
            stack.extend(at.join(Segment::Element(*id)).ok().map(|at| (at, child)));
        }
    }
    Ok(answer_json(&json!({ "conflicts": found })))
}

/// What differs between two versions.
fn diff(store: &Store, space: Space, path: &Path, head: &http::request::Parts) -> Result<Response<Body>, Problem> {
    let rows = store.snapshot();
    let failed = |error: StorageError| storage_problem(&error);
    let Some(from) = versions(&head.headers, "parents")? else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "versions", "from which version?", "send Parents with the version to compare with"));
    };
    let before = store.read_at(&rows, space, path, &from).map_err(|error| write_problem(&error))?.to_json(&space.key);
    let (to, after) = match versions(&head.headers, "version")? {
        Some(to) => {
            let tree = store.read_at(&rows, space, path, &to).map_err(|error| write_problem(&error))?;
            (to, tree.to_json(&space.key))
        }
        None => {
            let reading = store.read(&rows, space, path).map_err(failed)?;
            (reading.version, reading.tree.to_json(&space.key))
        }
    };
    let edits = difference(before.as_ref(), after.as_ref())
        .ok_or_else(|| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "diff", "too many differences", "compare smaller subtrees"))?;
    let changes: Vec<Serde> = edits
        .into_iter()
        .map(|(steps, value)| {
            let mut at = path.clone();
            let mut old = before.as_ref();
            for step in &steps {
                if let Step::Key(name) = step {
                    old = match old {
                        Some(Json::Object(members)) => members.get(&**name),
                        _ => None,
                    };
                    if let Ok(longer) = at.join(Segment::Name(name.clone())) {
                        at = longer;
                    }
                }
            }
            let mut change = json!({ "path": at.to_string() });
            if let Some(old) = old {
                change["before"] = to_serde(old);
            }
            if let Some(value) = &value {
                change["after"] = to_serde(value);
            }
            change
        })
        .collect();
    Ok(answer_json(&json!({ "from": from, "to": to, "changes": changes })))
}

/// Takes what is at a path to another one of the same space, by one change. Answers also which of the two it was about.
async fn take_to(peer: &Peer, who: &Who, space: Space, path: Path, body: &[u8]) -> (Path, Result<Response<Body>, Problem>) {
    let to = match target_of(peer, who, space, body).await {
        Ok(to) => to,
        Err(problem) => return (path, Err(problem)),
    };
    if let Err(problem) = who.may(peer, Verb::Read, &space.key, &path).and_then(|()| who.may(peer, Verb::Write, &space.key, &to)) {
        return (path, Err(problem));
    }
    let request = Request {
        space: Some(space),
        path: path.clone(),
        action: Action::Move { to: to.clone() },
        parents: None,
        label: None,
        condition: Condition::None,
        time_ms: now_ms(),
        durable: true,
        may_name: None,
    };
    let error = match peer.store().write(request).await {
        Ok(written) => {
            let mut response = answer_json(&json!({ "to": to.to_string(), "version": written.version }));
            insert(response.headers_mut(), "version", &crate::versions::print_versions(&written.version));
            return (path, Ok(response));
        }
        Err(error) => error,
    };
    let problem = match &error {
        WriteError::Condition { .. } => Problem::new(StatusCode::CONFLICT, "taken", "something is there already", format!("{to} is taken"))
            .with_fix("choose another path, or remove what is there first"),
        WriteError::Spans { .. } => {
            let detail = format!("{path} and {to} are not both in one timeline: one of them, or something below, is kept apart");
            Problem::new(StatusCode::CONFLICT, "spans", "this spans paths that are kept apart", detail)
                .with_fix("read it there and write it here, then remove it: who may read it changes with that; `timebus private` lists such paths")
        }
        WriteError::Move(error) => move_problem(error),
        other => crate::write::refused(peer, other),
    };
    let place = if let WriteError::NoGrant { path, .. } = error { path } else { path };
    (place, Err(problem))
}

/// Where something is to go, which may be said with its space.
async fn target_of(peer: &Peer, who: &Who, space: Space, body: &[u8]) -> Result<Path, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        to: String,
    }
    let Wanted { to } = serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "json", "the body is not what this takes", error.to_string()))?;
    let (named, to) = split_space(&to);
    if let Some(name) = named {
        let other = match name {
            "me" => Ok(peer.space()),
            name if crate::remote::may_fetch(who) => network::find_space_for(peer, who, name).await,
            name => name.parse().map_err(|_| crate::route::not_held(name)),
        };
        // Whoever is known by no name is another one than the owner.
        let is_other = match other {
            Ok(other) => other != space.key,
            Err(_) if space.is_own() => true,
            Err(problem) => return Err(problem),
        };
        if is_other {
            return Err(Problem::new(StatusCode::CONFLICT, "spaces", "these are in two spaces", "a move is one change in one space")
                .with_fix("`timebus get FROM`, `timebus put TO`, then `timebus rm FROM`; of files `get -o FILE` and `put TO @FILE`"));
        }
    }
    Path::parse(to).map_err(|error| crate::route::bad_path(&error))
}

/// The space that a path names, as in `/@alice/notes`, and the path in it.
fn split_space(path: &str) -> (Option<&str>, &str) {
    let first = path.strip_prefix('/').map_or("", |path| &path[..path.find('/').unwrap_or(path.len())]);
    match &path[path.len().min(1 + first.len())..] {
        _ if !is_space(first) => (None, path),
        "" => (Some(&first[1..]), "/"),
        rest => (Some(&first[1..]), rest),
    }
}

/// Whether the first part of a path names a space.
fn is_space(first: &str) -> bool {
    first.starts_with('@') && !first.starts_with("@@") && !first.contains('.')
}

/// Why something is not taken to another path, and what then.
fn move_problem(error: &MoveError) -> Problem {
    let (status, kind, title, fix) = match error {
        MoveError::Below { .. } => (StatusCode::BAD_REQUEST, "move", "this cannot go there", "choose a path that is neither at nor below what goes"),
        MoveError::Element => (StatusCode::BAD_REQUEST, "move", "this cannot go there", "move the list, or patch it: a JSON patch has `move`"),
        MoveError::TooMany { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "move", "this is too much to go at once", "move its parts one by one; `timebus ls PATH` lists them")
        }
        MoveError::Several(_) => (
            StatusCode::CONFLICT,
            "several",
            "more stands here than shows, and only that would go",
            "`timebus conflicts PATH` shows what stands there; writing a value at its path settles it",
        ),
        MoveError::Covered(_) => (StatusCode::CONFLICT, "covered", "nobody would see it there", "choose a path that is below no list and no value"),
        _ => (StatusCode::CONFLICT, "move", "this cannot go there", "choose another path"),
    };
    Problem::new(status, kind, title, error.to_string()).with_fix(fix)
}

/// Writes the inverse of a change: what it replaced comes back, what others did since stays.
async fn undo(peer: &Peer, (space, path): (Space, &Path), of: Option<&String>, body: &[u8]) -> Result<Response<Body>, Problem> {
    let version = if body.is_empty() {
        None
    } else {
        let body: Serde =
            serde_json::from_slice(body).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "json", "the body is not JSON", error.to_string()))?;
        body.get("version").and_then(Serde::as_str).map(str::to_owned)
    };
    let action = Action::Undo { version };
    let request = Request {
        space: Some(space),
        path: path.clone(),
        action,
        parents: None,
        label: None,
        condition: Condition::None,
        time_ms: now_ms(),
        durable: true,
        may_name: None,
    };
    // As it is typed: without its space a path is one of the own space.
    let of = of.filter(|of| is_space(of)).map_or_else(String::new, |of| format!("/{of}"));
    let written = peer.store().write(request).await.map_err(|error| match &error {
        WriteError::Moved { from, to } => {
            Problem::new(StatusCode::CONFLICT, "moved", "this came from elsewhere, and would be nowhere", error.to_string()).with_fix(format!(
                "`timebus mv {of}{to} {of}{from}` takes it back; `timebus undo {of}{from}` brings it back there, and it stays here, too"
            ))
        }
        other => crate::write::refused(peer, other),
    })?;
    let mut response = answer_json(&json!({ "version": written.version, "changed": written.change.is_some() }));
    insert(response.headers_mut(), "version", &crate::versions::print_versions(&written.version));
    Ok(response)
}

/// Raw signed changes that touched a subtree, and all statements about rights before them: for each
/// `length (4, LE) ‖ change`.
pub(crate) fn raw_changes(ask: &Ask) -> Result<Response<Body>, Problem> {
    let store = ask.peer.store().clone();
    let rows = store.snapshot();
    let (space, path) = (ask.space, ask.path.clone());
    let everything = path.is_root();
    let wanted = if everything { BTreeMap::new() } else { touched(&rows, space.main(), &path).map_err(|error| storage_problem(&error))? };
    let body = crate::read::produce_for(ask, move |send| {
        let mut out = Vec::new();
        for t in [space.auth(), space.main()] {
            for change in store.changes(&rows, t, 0) {
                let Ok((a, own)) = change else { return };
                if t == space.main() && !everything && !wanted.contains_key(&a) {
                    continue;
                }
                let Ok(record) = store.log().read(own.place) else { return };
                out.extend_from_slice(&(record.payload.len() as u32).to_le_bytes());
                out.extend_from_slice(&record.payload);
                if out.len() > 256 * 1024 && !send(std::mem::take(&mut out)) {
                    return;
                }
            }
        }
        send(out);
    })?;
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/timebus-ops"));
    Ok(response)
}

/// Takes changes in that somebody else made.
pub(crate) async fn take_changes(ask: &Ask, body: &[u8]) -> Result<Response<Body>, Problem> {
    let malformed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "changes", "these are not changes", detail);
    let mut changes: Vec<Signed<Change>> = Vec::new();
    let mut rest = body;
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize;
        if len > CHANGE_BYTES_MAX {
            return Err(malformed(format!("change {} is {len} bytes long", changes.len())));
        }
        let (change, tail) = tail.split_at_checked(len).ok_or_else(|| malformed(format!("change {} ends too early", changes.len())))?;
        changes.push(Change::decode(change).map_err(|error| malformed(format!("change {}: {error}", changes.len())))?);
        rest = tail;
    }
    if !rest.is_empty() {
        return Err(malformed("bytes follow the last change".to_owned()));
    }
    // A guest may bring what belongs here and nothing else: every change that is kept takes room.
    if !ask.who.is_owner() {
        let is_here = |change: &Signed<Change>| ask.peer.store().number_of(&ask.space.key, &change.content().header().timeline).is_some();
        if let Some(at) = changes.iter().position(|change| !is_here(change)) {
            return Err(Problem::new(StatusCode::FORBIDDEN, "rights", "this belongs elsewhere", format!("change {at} is of another space")));
        }
        // It is his budget that they count in, whoever made them.
        let is_his = |change: &Signed<Change>| Some(change.content().header().author) == ask.who.guest();
        if let Some(at) = changes.iter().position(|change| !is_his(change)) {
            let detail = format!("change {at} was made by another key than the one that signed this request");
            return Err(Problem::new(StatusCode::FORBIDDEN, "rights", "this is of somebody else", detail));
        }
    }
    let verified = tokio::task::spawn_blocking(move || verify_all(changes)).await.map_err(|error| malformed(error.to_string()))?;
    let verified = verified.map_err(|at| malformed(format!("the signature of change {at} is wrong")))?;
    crate::route::charge(&ask.peer, &ask.who, &ask.space.key, (body.len() as u64).saturating_add(timebus_store::change::OVERHEAD_BYTES))?;
    let authors: BTreeSet<PublicKey> = verified.iter().map(|change| change.header().author).collect();
    let offered = ask.peer.store().offer(verified).await.map_err(|error| write_problem(&error))?;
    // What came this way was not counted as what comes from peers is.
    ask.peer.ledger().recount(authors);
    let refused: Vec<Serde> = offered
        .refused
        .iter()
        .map(|refusal| match refusal {
            Refusal::Pending { change, missing } => {
                json!({ "change": change.to_string(), "missing": missing.iter().map(ToString::to_string).collect::<Vec<_>>() })
            }
            other => json!({ "reason": other.to_string() }),
        })
        .collect();
    Ok(answer_json(&json!({ "admitted": offered.admitted.len(), "known": offered.known.len(), "refused": refused })))
}
