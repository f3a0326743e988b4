//! The parts of `/.sys` about the owner's personas, and about which spaces say that they are one person's.
//!
//! Two spaces are linked when each says so, at `/profile/also/<key of the other>`, by a device of its owner: one side alone
//! proves nothing, since anybody can say that he is somebody.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name};
use timebus_store::auth::Rights;
use timebus_store::json::Json;
use timebus_store::path::{Path, Segment};
use timebus_store::store::StorageError;
use timebus_store::summary::summary;
use timebus_store::writer::{Action, Condition, Request, WriteError};

use crate::authority::Verb;
use crate::peer::Peer;
use crate::personas::{PersonaError, Seed};
use crate::problem::Problem;
use crate::route::{not_held, storage_problem, write_problem};
use crate::sys::network::{find_person, find_space, read};
use crate::who::{Who, now_ms};

/// Where a space says who else its owner is.
const ALSO: &str = "/profile/also";
/// Most links of one space that are looked at.
const LINKS_MAX: usize = 256;

/// Answers a part of `/.sys` about personas; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<Serde, Problem>> {
    Some(match (method, rest) {
        (&Method::GET | &Method::HEAD, ["personas"]) => list(peer),
        (&Method::POST, ["personas"]) => create(peer, body).await,
        (&Method::POST, ["personas", "link"]) => link(peer, body).await,
        (&Method::POST, ["personas", "remove"]) => remove(peer, body).await,
        (&Method::GET | &Method::HEAD, ["links"]) => links(peer, peer.space()).await,
        (&Method::GET | &Method::HEAD, ["links", who]) => match find_person(peer, who).await {
            Ok(space) => links(peer, space).await,
            Err(problem) => Err(problem),
        },
        _ => return None,
    })
}

/// The keys that a space says are its owner's, too.
fn claims(peer: &Peer, space: &PublicKey) -> Result<BTreeSet<PublicKey>, StorageError> {
    let store = peer.store();
    let (Some(held), Some(rights), Ok(path)) = (store.held(space), store.rights(space), Path::parse(ALSO)) else { return Ok(BTreeSet::new()) };
    let at = store.at(held, &path);
    let rows = store.snapshot();
    let tree = store.tree(&rows, at, &path)?;
    let mut found = BTreeSet::new();
    for (name, below) in tree.names.iter().take(LINKS_MAX) {
        // Members who may write there say nothing for the owner.
        let by = below.writes.first().map(|write| summary(&*rows, at.main(), write.a)).transpose()?.map(|own| own.author);
        if let (Some(by), Ok(key)) = (by, name.parse::<PublicKey>())
            && is_owner(&rights, &by)
            && key != *space
        {
            found.insert(key);
        }
    }
    Ok(found)
}

fn is_owner(rights: &Rights, key: &PublicKey) -> bool {
    rights.root() == *key || rights.was_device(key)
}

/// How two spaces of the owner stand to each other.
fn standing(front: &Peer, persona: &Peer) -> Result<&'static str, StorageError> {
    let ours = claims(front, &front.space())?.contains(&persona.space());
    let theirs = claims(persona, &persona.space())?.contains(&front.space());
    Ok(match (ours, theirs) {
        (true, true) => "linked",
        (false, false) => "apart",
        _ => "half",
    })
}

fn describe(front: &Peer, name: &str, persona: &Peer) -> Result<Serde, Problem> {
    let space = persona.space();
    let apps: Vec<String> = persona.apps().all().iter().map(|app| app.record.alias.clone()).collect();
    Ok(json!({
        "name": name,
        "id": space.to_string(),
        "human_name": human_name(&space),
        "device": persona.store().device().to_string(),
        "node": persona.network().map(|network| network.endpoint().node().to_string()),
        "addresses": persona.network().map(|network| network.endpoint().addresses().iter().map(ToString::to_string).collect::<Vec<_>>()),
        "link": standing(front, persona).map_err(|error| storage_problem(&error))?,
        "apps": apps,
    }))
}

fn list(peer: &Peer) -> Result<Serde, Problem> {
    let all: Vec<Serde> = peer.all_personas().iter().map(|(name, persona)| describe(peer, name, persona)).collect::<Result<_, _>>()?;
    Ok(json!({"personas": all, "closed": peer.closed_personas()}))
}

fn refused(error: &PersonaError) -> Problem {
    let detail = error.to_string();
    let (status, fix) = match error {
        PersonaError::Name(_) => (StatusCode::BAD_REQUEST, "choose a short name that only you see"),
        PersonaError::Taken(_) => (StatusCode::CONFLICT, "choose another name; `timebus personas` lists them"),
        PersonaError::TooMany => (StatusCode::CONFLICT, "remove one that you do not need"),
        PersonaError::Nested => (StatusCode::CONFLICT, "ask without the persona in front"),
        PersonaError::Cold => (StatusCode::FORBIDDEN, "type the words of your kit with --kit, or give it a kit of its own with --own-kit"),
        PersonaError::OtherWords | PersonaError::Words(_) => (StatusCode::FORBIDDEN, "nothing was made; look at the words again"),
        _ => (StatusCode::INSUFFICIENT_STORAGE, "`timebus doctor` looks into it"),
    };
    Problem::new(status, "persona-new", "there is no new persona", detail).with_fix(fix)
}

async fn create(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        name: String,
        /// The 48 words of the owner's kit, where the root key is not on the disk.
        words: Option<String>,
        /// Whether it gets a kit of its own.
        #[serde(default)]
        own_kit: bool,
    }
    let Wanted { name, words, own_kit } = read(body)?;
    if let Ok(other) = find_space(peer, &name).await {
        let detail = format!("you call the space {other} ({}) so", human_name(&other));
        return Err(Problem::new(StatusCode::CONFLICT, "name", "this name is taken", detail).with_fix("choose another name"));
    }
    let seed = match (own_kit, words) {
        (true, _) => Seed::Apart,
        (false, Some(words)) => Seed::Words(words),
        (false, None) => Seed::Root,
    };
    let persona = peer.new_persona(&name, seed).await.map_err(|error| refused(&error))?;
    describe(peer, &name, &persona)
}

fn of_name(peer: &Peer, name: &str) -> Result<Peer, Problem> {
    let name = name.strip_prefix('@').unwrap_or(name);
    peer.persona(name).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "persona-name", "there is no such persona", format!("none of your personas is called {name}"))
            .with_fix("`timebus personas` lists them")
    })
}

/// Says, or does not say any more, in both spaces that they are one person's.
async fn link(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        name: String,
        #[serde(default = "yes")]
        linked: bool,
    }
    fn yes() -> bool {
        true
    }
    let Wanted { name, linked } = read(body)?;
    let persona = of_name(peer, &name)?;
    say(peer, &persona.space(), linked).await?;
    say(&persona, &peer.space(), linked).await?;
    describe(peer, &name, &persona)
}

async fn say(peer: &Peer, other: &PublicKey, linked: bool) -> Result<(), Problem> {
    let also = Path::parse(ALSO).map_err(|error| crate::route::bad_path(&error))?;
    let name = Segment::name(&other.to_string()).map_err(|error| crate::route::bad_path(&error))?;
    let path = also.join(name).map_err(|error| crate::route::bad_path(&error))?;
    let action = if linked { Action::Put(Json::Bool(true)) } else { Action::Delete };
    let space = Some(peer.store().at(peer.store().own(), &path));
    let request =
        Request { space, path, action, parents: None, label: None, condition: Condition::None, time_ms: now_ms(), durable: true, may_name: None };
    match peer.store().write(request).await {
        Ok(_) | Err(WriteError::Absent(_)) => Ok(()),
        Err(error) => Err(write_problem(&error)),
    }
}

async fn remove(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        name: String,
    }
    let Wanted { name } = read(body)?;
    if peer.remove_persona(&name).await.map_err(|error| refused(&error))? {
        return Ok(json!({ "removed": name }));
    }
    of_name(peer, &name).map(|_| json!({ "removed": name }))
}

/// Whether a space is here, fetched if need be.
async fn is_seen(peer: &Peer, key: &PublicKey) -> bool {
    let at = [format!("@{key}")];
    *key == peer.space() || crate::remote::reach(peer, &HeaderMap::new(), &at, &Who::Owner, Verb::Read).await.is_ok()
}

/// Who a space says its owner is, too, and whether those say the same.
async fn links(peer: &Peer, space: PublicKey) -> Result<Serde, Problem> {
    let failed = |error: StorageError| storage_problem(&error);
    if !is_seen(peer, &space).await {
        return Err(not_held(&space.to_string()));
    }
    let mut all = Vec::new();
    for key in claims(peer, &space).map_err(failed)? {
        // Of the owner's own, what the other says is known without asking anybody.
        let sibling = peer.family().into_iter().find(|other| space == peer.space() && other.space() == key);
        let state = match sibling {
            Some(sibling) if claims(&sibling, &key).map_err(failed)?.contains(&space) => "linked",
            Some(_) => "claimed",
            None if !is_seen(peer, &key).await => "unknown",
            None if claims(peer, &key).map_err(failed)?.contains(&space) => "linked",
            None => "claimed",
        };
        all.push(json!({"space": key.to_string(), "name": human_name(&key), "state": state}));
    }
    Ok(json!({"space": space.to_string(), "name": human_name(&space), "links": all}))
}
