//! `/.sys/timelines`: paths of the own space that are kept apart, so that each can be read by whom it is granted to.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_store::auth::{Mount, Rights};
use timebus_store::grant::{Actions, Audience};
use timebus_store::json::Json;
use timebus_store::op::{Op, PathStep};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::writer::{Action, Condition, Request, Statement};

use super::network::{bad, read};
use super::rights::{place, rights_of};
use crate::body::Body;
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{bad_path, storage_problem, write_problem};
use crate::sys::answer_json;
use crate::who::now_ms;
use crate::words::quoted;

/// Answers a part of `/.sys` that concerns timelines; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<http::Response<Body>, Problem>> {
    let answer = match (method, rest) {
        (&Method::GET | &Method::HEAD, ["timelines", path @ ..]) => list(peer, path).await,
        (&Method::POST, ["timelines"]) => make(peer, body).await,
        (&Method::POST, ["timelines", "remove"]) => remove(peer, body).await,
        _ => return None,
    };
    Some(answer.map(|value| answer_json(&value)))
}

/// Everybody beside the owner who may read a timeline.
fn readers(people: &People, rights: &Rights, mount: &Mount) -> Vec<Serde> {
    let now = now_ms();
    let mut readers = Vec::new();
    for (id, held) in rights.grants() {
        let grant = &held.grant;
        let ends = grant.not_after_ms > 0 && now > grant.not_after_ms;
        let reads = grant.actions.contains(Actions::READ) || grant.actions.contains(Actions::SYNC);
        if !held.is_live() || ends || !reads || !grant.timelines.contains(&mount.timeline, &timebus_store::ids::TimelineId([0; 32])) {
            continue;
        }
        let (who, name) = match grant.audience {
            Audience::Anyone => ("anyone".to_owned(), "anyone".to_owned()),
            Audience::Key(key) if rights.device_grant(&key).is_some() => continue,
            Audience::Key(key) => (key.to_string(), people.audience(&grant.audience)),
        };
        let can = if grant.actions.contains(Actions::WRITE) { "write" } else { "read" };
        readers.push(json!({"who": who, "name": name, "can": can, "grant": id.to_string(), "label": grant.label}));
    }
    readers.sort_by_key(ToString::to_string);
    readers
}

/// Who beside the owner may read a timeline, in words.
pub(super) fn readers_words(people: &People, rights: &Rights, mount: &Mount) -> String {
    let mut names: Vec<String> = readers(people, rights, mount).iter().filter_map(|reader| reader["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    let who = if names.is_empty() { "nobody else".to_owned() } else { crate::words::join(&names) };
    format!("{} is kept apart: beside its owner {who} may read it", mount.path)
}

fn describe(people: &People, rights: &Rights, mount: &Mount) -> Serde {
    json!({
        "path": mount.path.to_string(),
        "timeline": mount.timeline.to_string(),
        "mount": mount.id().to_string(),
        "by": mount.author.to_string(),
        "at_ms": mount.time_ms,
        "readers": readers(people, rights, mount),
    })
}

/// What is kept apart at and below a path, and whether this device may read it.
async fn list(peer: &Peer, path: &[&str]) -> Result<Serde, Problem> {
    let (space, path) = place(peer, path).await?;
    let rights = rights_of(peer, space)?;
    let (people, device) = (People::now(peer).await, peer.store().device());
    let is_own = rights.device_grant(&device).is_some();
    let told = |mount: &Mount| {
        let mut value = describe(&people, &rights, mount);
        value["reads"] = (is_own || !rights.may(&device, Actions::READ, &mount.timeline, now_ms()).is_empty()).into();
        value
    };
    let all: Vec<Serde> = rights.shown().filter(|mount| path.contains(&mount.path)).map(told).collect();
    Ok(json!({ "timelines": all }))
}

fn own_rights(store: &Store) -> Result<std::sync::Arc<Rights>, Problem> {
    store.rights(&store.space()).ok_or_else(|| bad("the own space has no rights yet"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    path: String,
    /// Whether what is there goes along.
    #[serde(default, rename = "move")]
    moves: bool,
    /// Whether the space shows nothing at the path to those who read what is above.
    #[serde(default)]
    hidden: bool,
}

fn conflict(title: &str, detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "timeline", title, detail)
}

/// Gives a path a timeline of its own.
async fn make(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let Wanted { path, moves, hidden } = read(body)?;
    let path = Path::parse(&path).map_err(|error| bad_path(&error))?;
    let steps: Option<Vec<PathStep>> = path.segments().iter().map(step).collect();
    let steps = steps.filter(|steps| !steps.is_empty()).ok_or_else(|| bad("what is kept apart is a path of names below the root"))?;
    if matches!(path.segments().first(), Some(Segment::Name(first)) if first.starts_with('.')) {
        return Err(bad(format!("{path} belongs to the system")));
    }
    let store = peer.store();
    let people = People::now(peer).await;
    let mounted = |rights: &Rights| rights.shown().find(|mount| mount.path == path).map(|mount| describe(&people, rights, mount));
    if mounted(&*own_rights(store)?).is_some() {
        return Err(conflict("this path is kept apart already", format!("{path} has a timeline of its own"))
            .with_fix("`timebus private` lists such paths and who may read them"));
    }
    if moves {
        alone(store, &path)?;
    }
    let outer = store.at(store.own(), &path);
    let before = store.read(&store.snapshot(), outer, &path).map_err(|error| storage_problem(&error))?;
    let content = before.tree.to_json(&store.space());
    if content.is_some() && !moves {
        return Err(conflict("something is here already", format!("what is at {path} was written for all who may read around it")).with_fix(
            format!(
                "`timebus private {} --move` takes it along as it is now; whoever had it keeps what he had, and its history stays where it was",
                quoted(&path.to_string())
            ),
        ));
    }
    let mount = Op::Mount { path: steps, mode: timebus_store::auth::mounts::MODE_DAG, params: Box::default() };
    store.state(Statement::Ops(vec![mount]), now_ms()).await.map_err(|error| write_problem(&error))?;
    let inner = store.at(store.own(), &path);
    // First it is there as well, then it is no longer here: a crash in between loses nothing.
    if let Some(content) = content {
        write(store, inner, &path, Action::Put(content), None).await?;
    }
    if !hidden {
        write(store, outer, &path, Action::Put(pointer(&path)), Some(before.version)).await?;
    } else if !before.tree.is_absent() {
        write(store, outer, &path, Action::Delete, Some(before.version)).await?;
    }
    let answer = mounted(&*own_rights(store)?);
    answer.ok_or_else(|| conflict("the path is not kept apart", format!("somebody took the timeline of {path} back at once")))
}

/// Takes the timeline of a path back, and all that was granted of it.
async fn remove(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let Wanted { path, moves, .. } = read(body)?;
    let path = Path::parse(&path).map_err(|error| bad_path(&error))?;
    let store = peer.store();
    let grants = own_rights(store)?.unmount(&path);
    if grants.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "timeline", "this path is not kept apart", format!("{path} has no timeline of its own"))
            .with_fix("`timebus private` lists those that have"));
    }
    if moves {
        alone(store, &path)?;
    }
    let inner = store.at(store.own(), &path);
    let content = store.read(&store.snapshot(), inner, &path).map_err(|error| storage_problem(&error))?.tree.to_json(&store.space());
    if content.is_some() && !moves {
        return Err(conflict("something is here", format!("what is at {path} would show no more")).with_fix(format!(
            "`timebus private {} --undo --move` puts it where all who may read around it can read it too",
            quoted(&path.to_string())
        )));
    }
    let revoke = Statement::Revoke { grants, cascade: true, keep: true };
    // First it is there as well, then it is no longer here: a crash in between loses nothing.
    let outer = path.parent().map_or(store.own(), |parent| store.at(store.own(), &parent));
    let is_moved = content.is_some();
    if let Some(content) = content {
        write(store, outer, &path, Action::Put(content), None).await?;
    }
    store.state(revoke, now_ms()).await.map_err(|error| write_problem(&error))?;
    let left = store.read(&store.snapshot(), outer, &path).map_err(|error| storage_problem(&error))?;
    match () {
        () if is_moved => {}
        () if left.tree.to_json(&store.space()) == Some(pointer(&path)) => write(store, outer, &path, Action::Delete, Some(left.version)).await?,
        () => {}
    }
    Ok(json!({"path": path.to_string(), "removed": true}))
}

/// Refuses what would take along a part of the path that is kept apart itself: what shows there is not of this timeline.
fn alone(store: &Store, path: &Path) -> Result<(), Problem> {
    let rights = own_rights(store)?;
    let Some(inner) = rights.shown().find(|mount| mount.path != *path && path.contains(&mount.path)) else { return Ok(()) };
    let detail = format!("{} below it has a timeline of its own, which does not go along", inner.path);
    let fix = "leave it as it is; or first make that path a part of this one, which lets all read it who read around it, for good";
    Err(conflict("something below this path is kept apart", detail).with_fix(fix))
}

fn step(segment: &Segment) -> Option<PathStep> {
    match segment {
        Segment::Name(name) => Some(PathStep::Name(name.clone())),
        Segment::Element(_) => None,
    }
}

/// What is shown to those who read above: that there is something, and where.
fn pointer(path: &Path) -> Json {
    Json::Object([("link".to_owned(), Json::String(path.to_string()))].into())
}

async fn write(store: &Store, space: Space, path: &Path, action: Action, parents: Option<Vec<String>>) -> Result<(), Problem> {
    // A version without names is that of a path at which never was anything.
    let parents = parents.filter(|parents| !parents.is_empty());
    let (label, condition) = (None, Condition::None);
    let request =
        Request { space: Some(space), path: path.clone(), action, parents, label, condition, time_ms: now_ms(), durable: true, may_name: None };
    store.write(request).await.map(drop).map_err(|error| write_problem(&error))
}
