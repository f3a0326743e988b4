//! The parts of `/.sys` about what others cost: what waits for the owner's word, limits, and who costs what.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::ids::TimelineId;
use timebus_store::store::StorageError;

use crate::blobs::beside;
use crate::blobs::given::Given;
use crate::community::Rules;
use crate::ledger::{Answer, Cost, Held, Payer, Relation, Unsaid};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::storage_problem;
use crate::sys::network::{bad, read};
use crate::words::{counted, size};

/// Answers a part of `/.sys` about costs; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<Serde, Problem>> {
    Some(match (method, rest) {
        (&Method::GET | &Method::HEAD, ["held"]) => held(peer).await,
        (&Method::POST, ["allow"]) => allow(peer, body).await,
        (&Method::POST, ["limits"]) => limit(peer, body).await,
        (&Method::GET | &Method::HEAD, ["costs"]) => costs(peer).await,
        _ => return None,
    })
}

/// Whether a key is a community's, and nobody's.
fn is_community(peer: &Peer, key: &PublicKey) -> bool {
    let store = peer.store();
    store.held(key).is_some_and(|space| matches!(Rules::of(store, &store.snapshot(), space), Ok(Some(_))))
}

/// The space that what waits is for; none for what is brought by HTTP.
pub(super) fn space_of(peer: &Peer, held: &Held) -> Option<PublicKey> {
    let has = |space: &PublicKey| {
        let auth = TimelineId::named(space, "auth");
        let values = peer.store().timelines_of(space).into_iter().map(|(timeline, _)| timeline);
        values.chain([auth]).any(|timeline| timeline.to_string() == held.timeline)
    };
    peer.store().spaces().into_iter().map(|space| space.key).find(has)
}

fn describe(peer: &Peer, people: &People, id: &str, held: &Held) -> Serde {
    let who = match Payer::parse(&held.who) {
        Some(Payer::Key(key)) => people.name(&key),
        Some(Payer::App(alias)) => format!("the app {alias}"),
        None => held.who.clone(),
    };
    let space = space_of(peer, held);
    let place = match space {
        Some(space) if space == peer.space() => "your space".to_owned(),
        Some(space) => format!("the space of {}", people.name(&space)),
        None if held.relation == Relation::App => "what it keeps for you".to_owned(),
        None => "your space, by HTTP".to_owned(),
    };
    let count = |count: u64, thing| counted(usize::try_from(count).unwrap_or(usize::MAX), thing);
    let what = match (held.files, space) {
        (0, _) => format!("{} in {}", size(held.bytes), count(held.changes, "change")),
        // What is brought by HTTP is the file itself.
        (files, None) => format!("{} in {}", size(held.file_bytes), count(files, "file")),
        (files, Some(_)) => {
            let names = if held.changes == 1 { "which names" } else { "which name" };
            format!("{} in {}, {names} {} of {}", size(held.bytes), count(held.changes, "change"), count(files, "file"), size(held.file_bytes))
        }
    };
    let about = if held.is_whole { "" } else { "at least " };
    // It may ask for room after room, and what it asks for is beside what it has.
    let refused = match held.used {
        _ if !held.is_http() => String::new(),
        0 => "; that was refused, and has to be sent again".to_owned(),
        used => format!(", beside {} that were written already; that was refused, and has to be sent again", size(used)),
    };
    let says = format!("{who}: {about}{what}, for {place}{refused}");
    let mut value = serde_json::to_value(held).unwrap_or_default();
    value["id"] = id.into();
    value["name"] = who.into();
    value["space"] = space.map(|space| space.to_string()).into();
    value["says"] = says.into();
    value
}

/// Remembers how much it is that waits: a program of the owner's asked, and shows it. A page says itself what it shows.
pub(super) fn shown(peer: &Peer) {
    *crate::peer::lock(&peer.shown_held) = peer.ledger().held().into_iter().map(|(id, held)| (id, held.bytes)).collect();
}

/// What waits for the owner's word.
async fn held(peer: &Peer) -> Result<Serde, Problem> {
    let people = People::now(peer).await;
    let held = peer.ledger().held();
    let all: Vec<Serde> = held.iter().map(|(id, held)| describe(peer, &people, id, held)).collect();
    Ok(json!({ "held": all }))
}

async fn allow(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        id: String,
        /// `once`, `never`, or a number of bytes.
        answer: Serde,
        /// How much it was when the owner said `once`; if not said, when it was last shown.
        bytes: Option<u64>,
    }
    let Wanted { id, answer, bytes } = read(body)?;
    let shown =
        || crate::peer::lock(&peer.shown_held).range(id.clone()..).next().filter(|(known, _)| known.starts_with(&id)).map(|(_, bytes)| *bytes);
    let answer = match (answer.as_str(), answer.as_u64()) {
        (Some("once"), _) => Answer::Once(bytes.or_else(shown).unwrap_or(0)),
        (Some("never"), _) => Answer::Never,
        (_, Some(bytes)) => Answer::UpTo(bytes),
        _ => return Err(bad("an answer is \"once\", \"never\" or a number of bytes")),
    };
    let people = People::now(peer).await;
    let found = match peer.ledger().allow(peer.store(), &id, answer) {
        Ok(found) => found,
        Err(Unsaid::Unknown) => {
            let detail = format!("nothing that waits is called {id}, or several are");
            return Err(Problem::new(StatusCode::NOT_FOUND, "held", "there is no such request", detail).with_fix("`timebus held` lists what waits"));
        }
        Err(Unsaid::More(now)) => {
            let told = describe(peer, &people, &id, &now);
            crate::peer::lock(&peer.shown_held).retain(|known, _| !known.starts_with(&id));
            let known = peer.ledger().held().into_iter().find(|(known, _)| known.starts_with(&id));
            crate::peer::lock(&peer.shown_held).extend(known.map(|(known, _)| (known, now.bytes)));
            let detail = format!("it is {}", told["says"].as_str().unwrap_or_default());
            return Err(Problem::new(StatusCode::CONFLICT, "held-more", "this is more than you were shown", detail)
                .with_fix(format!("say the same again if that is what you mean, or how much at most: timebus allow {id} up to 1GB"))
                .with("bytes", now.bytes));
        }
    };
    // What is said of one of his keys is meant of him.
    if let (Answer::UpTo(_) | Answer::Never, Some(Payer::Key(key))) = (answer, Payer::parse(&found.who))
        && let Ok(person) = people.find(&key.to_string())
    {
        for key in person.space.into_iter().chain(person.keys).filter(|other| *other != key) {
            match answer {
                Answer::UpTo(bytes) => peer.ledger().limit(&Payer::Key(key), bytes),
                _ => peer.ledger().set(&Payer::Key(key), peer.ledger().settings_of(&Payer::Key(key)).0, true),
            }
        }
    }
    peer.store().recheck_rights();
    if answer != Answer::Never
        && let Some(network) = peer.network()
    {
        let _ = network.again().await;
    }
    let mut value = describe(peer, &people, &id, &found);
    value["bytes_max"] = Payer::parse(&found.who).map_or(0, |who| peer.ledger().limit_of(&who, found.relation)).into();
    Ok(value)
}

async fn limit(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: String,
        /// Nothing to hear how much it is.
        bytes: Option<u64>,
    }
    let Wanted { who, bytes } = read(body)?;
    if let Some(app @ Payer::App(alias)) = &Payer::parse(&who) {
        if peer.apps().find(alias).is_none() && !peer.ledger().app_costs().contains_key(alias) {
            return Err(Problem::new(StatusCode::NOT_FOUND, "app", "there is no such app", format!("no app is installed as {alias}"))
                .with_fix("`timebus app ls` shows what is installed"));
        }
        let Some(bytes) = bytes else {
            let used = peer.ledger().app_costs().get(alias).map_or(0, |cost| cost.bytes);
            return Ok(limit_now(peer, &who, app, Relation::App, used));
        };
        peer.ledger().limit(app, bytes);
        return Ok(json!({"who": who, "bytes_max": bytes}));
    }
    let people = People::now(peer).await;
    let (name, keys) = match (people.find(&who), people.find_space(&who)) {
        // Also those keys that are his by his own word alone: they are counted apart, so that nobody says so to have the room of another.
        (Ok(person), _) => (person.name, person.space.into_iter().chain(person.keys).collect()),
        // None of his devices is known, and what he keeps is counted by his space.
        (Err(_), Ok(Some(space))) => (people.name(&space), vec![space]),
        (Err(problem), _) => return Err(problem),
    };
    let Some(bytes) = bytes else {
        let Some(first) = keys.first() else { return Err(bad("a limit is for somebody, and not for everybody")) };
        let costs = peer.ledger().costs(peer.store()).map_err(|error| storage_problem(&error))?;
        let his = |key: &&PublicKey| keys.contains(key) || people.space_of(key) == Some(*first);
        let of: BTreeSet<PublicKey> = costs.keys().filter(his).copied().collect();
        let sum = |bytes: fn(&Cost) -> u64| of.iter().filter_map(|key| costs.get(key)).map(bytes).sum::<u64>();
        let (used, by_others) = (sum(|cost| cost.bytes), sum(|cost| cost.http_bytes));
        let mut told = limit_now(peer, &name, &Payer::Key(*first), people.relation(first), used);
        if let Some((wrote, left)) = by_http(peer, &of).filter(|_| by_others == used && !told["bytes_max"].is_null()) {
            told["bytes_max"] = wrote.saturating_add(left).into();
        }
        return Ok(told);
    };
    for key in keys {
        peer.ledger().limit(&Payer::Key(key), bytes);
    }
    if let Some(network) = peer.network() {
        let _ = network.again().await;
    }
    Ok(json!({"who": name, "bytes_max": bytes}))
}

/// How much somebody may keep here, and does.
fn limit_now(peer: &Peer, name: &str, payer: &Payer, relation: Relation, used: u64) -> Serde {
    let (said, never) = peer.ledger().settings_of(payer);
    let max = if relation == Relation::Own { Serde::Null } else { peer.ledger().limit_of(payer, relation).into() };
    json!({"who": name, "bytes": used, "bytes_max": max, "said": said.is_some() || never})
}

/// Bytes on this disk of the files, whole or not, that each space names now; what several name counts for each.
async fn files_of(peer: &Peer) -> Result<BTreeMap<PublicKey, u64>, Problem> {
    let store = peer.store().clone();
    let files = beside(move || -> Result<_, StorageError> {
        let Some(blobs) = store.blobs() else { return Ok(BTreeMap::new()) };
        let here: HashMap<BlobHash, u64> = blobs.partials()?.into_iter().chain(blobs.list()?).collect();
        let (rows, mut files) = (store.snapshot(), BTreeMap::new());
        for space in store.spaces() {
            let bytes: u64 = store.named_blobs(&rows, &space.key)?.iter().filter_map(|hash| here.get(hash)).sum();
            if bytes > 0 {
                files.insert(space.key, bytes);
            }
        }
        Ok(files)
    });
    files.await?.map_err(|error| storage_problem(&error))
}

/// How much this peer wrote for somebody with these keys who asked it to over HTTP, if it did, and how much more it may: what he keeps
/// by a peer of his own counts apart.
pub(super) fn by_http(peer: &Peer, keys: &BTreeSet<PublicKey>) -> Option<(u64, u64)> {
    let ledger = peer.ledger();
    let payers: Vec<Payer> = keys.iter().copied().map(Payer::Key).filter(|payer| ledger.wrote_for(payer) > 0).collect();
    let left = |payer: &Payer| ledger.room(payer, &ledger.hosts(peer.store(), &peer.space(), payer));
    let left = payers.iter().map(left).max()?;
    Some((payers.iter().map(|payer| ledger.wrote_for(payer)).sum(), left))
}

/// Who costs what.
async fn costs(peer: &Peer) -> Result<Serde, Problem> {
    let people = People::now(peer).await;
    let (mut all, mut keys): (BTreeMap<PublicKey, Cost>, BTreeMap<PublicKey, BTreeSet<PublicKey>>) = Default::default();
    for (key, cost) in peer.ledger().costs(peer.store()).map_err(|error| storage_problem(&error))? {
        let of = people.space_of(&key).unwrap_or(key);
        keys.entry(of).or_default().insert(key);
        let person = all.entry(of).or_default();
        person.bytes += cost.bytes;
        person.http_bytes += cost.http_bytes;
        person.changes += cost.changes;
        person.requests += cost.requests;
    }
    let files = files_of(peer).await?;
    let mut given: BTreeMap<PublicKey, u64> = BTreeMap::new();
    for (key, bytes) in super::files::given(peer, Given::to) {
        *given.entry(people.space_of(&key).unwrap_or(key)).or_default() += bytes;
    }
    for person in files.keys().chain(given.keys()) {
        all.entry(*person).or_default();
    }
    let links = match peer.network() {
        Some(network) => network.ask(|node| node.peers(crate::who::now_ms())).await.map(|peers| serde_json::to_value(peers).unwrap_or_default()),
        None => Ok(Serde::Null),
    };
    let links = links.unwrap_or_default();
    let mut costs: Vec<Serde> = all
        .into_iter()
        .map(|(person, cost)| {
            let name = people.name(&person);
            let relation = people.relation(&person);
            let mut value = serde_json::to_value(&cost).unwrap_or_default();
            let of_peer = |peer: &&Serde| peer["space"] == person.to_string();
            let traffic = |part: &str| links.as_array().into_iter().flatten().filter(of_peer).filter_map(|peer| peer[part].as_u64()).sum::<u64>();
            value["key"] = person.to_string().into();
            value["name"] = name.into();
            value["relation"] = if is_community(peer, &person) { "community".into() } else { serde_json::to_value(relation).unwrap_or_default() };
            value["bytes_max"] = if relation == Relation::Own { Serde::Null } else { peer.ledger().limit_of(&Payer::Key(person), relation).into() };
            if let Some((wrote, left)) = keys.get(&person).and_then(|keys| by_http(peer, keys)).filter(|_| relation != Relation::Own) {
                let max = wrote.saturating_add(left);
                value["http_bytes_max"] = max.into();
                // Who writes by no peer of his own has this limit alone.
                if cost.bytes == cost.http_bytes {
                    value["bytes_max"] = max.into();
                }
            }
            value["file_bytes"] = files.get(&person).copied().unwrap_or(0).into();
            value["given_bytes"] = given.get(&person).copied().unwrap_or(0).into();
            value["received"] = traffic("received").into();
            value["sent"] = traffic("sent").into();
            value
        })
        .collect();
    for (alias, cost) in peer.ledger().app_costs() {
        let mut value = serde_json::to_value(&cost).unwrap_or_default();
        let app = Payer::App(alias.clone());
        value["key"] = app.name().into();
        value["name"] = alias.into();
        value["relation"] = serde_json::to_value(Relation::App).unwrap_or_default();
        value["bytes_max"] = peer.ledger().limit_of(&app, Relation::App).into();
        value["file_bytes"] = 0.into();
        value["given_bytes"] = 0.into();
        value["received"] = 0.into();
        value["sent"] = 0.into();
        costs.push(value);
    }
    let takes = |cost: &Serde| cost["bytes"].as_u64().unwrap_or(0).saturating_add(cost["file_bytes"].as_u64().unwrap_or(0));
    costs.sort_by_key(|cost| std::cmp::Reverse(takes(cost)));
    Ok(json!({ "costs": costs }))
}
