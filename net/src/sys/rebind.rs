//! The part of `/.sys` about contacts who lost every key and begin again under a new one.
//!
//! Nothing that such a person can sign proves who he was. So those who know him say it: at `/profile/vouched/<old space>` of
//! his own space each says which space it is now. Here these statements are counted for the owner's contacts, told in
//! words, and nothing more: names and everything that hangs on them move when the owner says so, and move back when he
//! takes that back. He says it once: a move is an entry in `/lists/moved` of his own space, and on each of his devices the
//! name goes by the list of those who are followed, and the room that the contact has there goes with it. Where his
//! contacts name several new keys, nothing can be moved before they agree, or before he has vouched for one of them
//! himself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name};
use timebus_store::auth::Rights;
use timebus_store::json::Json;
use timebus_store::node::{Node, node_key};
use timebus_store::path::{Path, Segment};
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::summary;
use timebus_store::tree::{Tree, child_names};
use timebus_store::value::Value;
use timebus_store::writer::{Action, Condition, Request, WriteError};

use crate::ledger::{Ledger, Payer};
use crate::lists::{self, List};
use crate::network::Network;
use crate::node::Event;
use crate::node::book::{Book, PETNAME_BYTES_MAX};
use crate::peer::{Peer, lock};
use crate::people::People;
use crate::problem::Problem;
use crate::route::{storage_problem, write_problem};
use crate::sys::network::{bad, check_petname, find_space, network, read, stopped};
use crate::who::now_ms;
use crate::words::{counted, join};

/// Where a space says who somebody is now.
const VOUCHED: &str = "/profile/vouched";
/// Most statements of one space that are looked at.
const STATEMENTS_MAX: usize = 1024;
/// Most values of one statement, when several meet there.
const SIDES_MAX: usize = 16;
/// Most names like "bob (before)" that are tried.
const BEFORE_MAX: usize = 1024;

/// Answers a part of `/.sys` about contacts with new keys; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<Serde, Problem>> {
    Some(match (method, rest) {
        (&Method::GET | &Method::HEAD, ["rebind"]) => list(peer).await,
        (&Method::POST, ["vouch"]) => vouch(peer, body).await,
        (&Method::POST, ["rebind"]) => rebind(peer, body).await,
        _ => return None,
    })
}

/// Who says of a contact that he is somebody now.
#[derive(Debug, Default)]
struct Said {
    /// Contacts.
    by: BTreeSet<PublicKey>,
    /// Whether the owner does himself.
    own: bool,
}

/// What is said of one contact, by the space that he is said to be now.
type Claims = BTreeMap<PublicKey, Said>;

/// All that is said, by contact.
struct Vouched(BTreeMap<PublicKey, Claims>);

impl Vouched {
    /// What the owner and his contacts say now.
    fn now(peer: &Peer, people: &People, book: &Book) -> Result<Self, StorageError> {
        let own = peer.space();
        let mut all: BTreeMap<PublicKey, Claims> = BTreeMap::new();
        for space in peer.store().spaces().into_iter().map(|space| space.key) {
            // A community is nobody's friend, and who is no contact can say what he likes.
            if space != own && (!people.is_friend(&space) || book.communities.contains_key(&space)) {
                continue;
            }
            for (of, now) in statements(peer, &space)? {
                // Of himself everybody could say anything.
                if space == of || space == now || of == now || of == own {
                    continue;
                }
                let said = all.entry(of).or_default().entry(now).or_default();
                if space == own {
                    said.own = true;
                } else {
                    said.by.insert(space);
                }
            }
        }
        Ok(Self(all))
    }

    /// What is said of one contact.
    fn of(&self, space: &PublicKey) -> Option<&Claims> {
        self.0.get(space)
    }
}

/// The new key that the claims agree on: the owner's own word, or else the only one that his contacts name.
fn agreed(claims: &Claims) -> Option<PublicKey> {
    let own: Vec<PublicKey> = claims.iter().filter(|(_, said)| said.own).map(|(now, _)| *now).collect();
    match (own.as_slice(), claims.len()) {
        ([now], _) => Some(*now),
        ([], 1) => claims.keys().next().copied(),
        _ => None,
    }
}

/// What a space says of others: who each is now.
fn statements(peer: &Peer, space: &PublicKey) -> Result<Vec<(PublicKey, PublicKey)>, StorageError> {
    let store = peer.store();
    let (Some(held), Some(rights), Ok(path)) = (store.held(space), store.rights(space), Path::parse(VOUCHED)) else { return Ok(Vec::new()) };
    let at = store.at(held, &path);
    let rows = store.snapshot();
    let mut found = Vec::new();
    // However much somebody puts there, so many names are looked at and nothing below them.
    for name in child_names(&*rows, at.main(), &path).take(STATEMENTS_MAX) {
        let name = name?;
        let (Ok(of), Ok(child)) = (name.parse::<PublicKey>(), path.join(Segment::Name(name))) else { continue };
        let t_key = node_key(at.main(), &child.key());
        for write in Node::load(&*rows, &t_key)?.visible(&*rows, &t_key, SIDES_MAX)? {
            let Value::String(now) = &write.value else { continue };
            let Ok(now) = now.parse::<PublicKey>() else { continue };
            // Members who may write there say nothing for the owner.
            if is_owner(&rights, &summary(&*rows, at.main(), write.a)?.author) {
                found.push((of, now));
            }
        }
    }
    Ok(found)
}

fn is_owner(rights: &Rights, key: &PublicKey) -> bool {
    rights.root() == *key || rights.was_device(key)
}

/// What hangs on a contact on all devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    petname: Option<String>,
    #[serde(default)]
    is_followed: bool,
    #[serde(default)]
    is_muted: bool,
    #[serde(default)]
    is_blocked: bool,
}

/// A contact whose name moved to a new key, and how both were before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    from: PublicKey,
    to: PublicKey,
    name: String,
    at_ms: u64,
    from_before: Kept,
    to_before: Kept,
}

impl Move {
    /// What the entry of the list says beside the old key.
    fn entry(&self) -> BTreeMap<String, Json> {
        let before = serde_json::to_string(&(&self.from_before, &self.to_before)).unwrap_or_default();
        let entry = [("to", self.to.to_string()), ("name", self.name.clone()), ("before", before)];
        entry.into_iter().map(|(name, value)| (name.to_owned(), Json::String(value))).collect()
    }

    fn read(from: PublicKey, entry: &Tree) -> Option<Self> {
        let value = |name: &str| entry.names.get(name)?.writes.first().map(|write| &write.value);
        let text = |name: &str| if let Some(Value::String(text)) = value(name) { Some(text.as_ref()) } else { None };
        let at_ms = if let Some(Value::Int(at)) = value("at") { u64::try_from(*at).unwrap_or(0) } else { 0 };
        // The owner writes it, by his other devices too; so what is odd is damaged, and of no use.
        let (from_before, to_before) = serde_json::from_str(text("before")?).ok()?;
        let is_name = |name: &&str| name.len() <= PETNAME_BYTES_MAX;
        Some(Self { from, to: text("to")?.parse().ok()?, name: text("name").filter(is_name)?.to_owned(), at_ms, from_before, to_before })
    }
}

/// The moves, the latest last.
fn moves(store: &Store) -> Result<Vec<Move>, StorageError> {
    let found = lists::read_with(store, List::Moved, Clone::clone)?.unwrap_or_default();
    let mut moves: Vec<Move> = found.into_iter().filter_map(|(from, entry)| Move::read(from, &entry)).collect();
    moves.sort_by_key(|one| (one.at_ms, one.from));
    Ok(moves)
}

/// A move that this device has followed, and what room the new key had here before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    from: String,
    to: String,
    limit: Option<u64>,
    never: bool,
}

/// Has the room that somebody has on this device go with his name, and back with it. How much it is each device has for itself.
fn settle(store: &Store, ledger: &Ledger) -> Result<(), StorageError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = lock(&ONE_AT_A_TIME);
    let file = store.home().join("moved.json");
    let before: Vec<Done> = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let moves = moves(store)?;
    let is = |one: &Move, done: &Done| one.from.to_string() == done.from && one.to.to_string() == done.to;
    let (mut done, gone): (Vec<Done>, Vec<Done>) = before.iter().cloned().partition(|done| moves.iter().any(|one| is(one, done)));
    for gone in gone {
        if let Ok(to) = gone.to.parse() {
            ledger.set(&Payer::Key(to), gone.limit, gone.never);
        }
    }
    for one in &moves {
        if !done.iter().any(|done| is(one, done)) {
            let (limit, never) = ledger.settings_of(&Payer::Key(one.to));
            done.push(Done { from: one.from.to_string(), to: one.to.to_string(), limit, never });
            let (limit, never) = ledger.settings_of(&Payer::Key(one.from));
            ledger.set(&Payer::Key(one.to), limit, never);
        }
    }
    if done != before {
        let saved = serde_json::to_vec_pretty(&done).map_err(std::io::Error::other).and_then(|bytes| crate::files::write_whole(&file, &bytes));
        if let Err(error) = saved {
            tracing::error!(%error, "moved.json was not written");
        }
    }
    Ok(())
}

/// Follows what other devices of the owner move, for as long as this one takes part in a network.
pub(crate) fn follow(store: &Store, network: &Network) {
    let (store, ledger) = (store.clone(), Arc::clone(network.ledger()));
    let (mut arrivals, mut ends) = (store.arrivals(), network.changed());
    tokio::spawn(async move {
        loop {
            if let Err(error) = settle(&store, &ledger) {
                tracing::warn!(%error, "the list of those whose name moved could not be read");
            }
            tokio::select! {
                arrived = arrivals.changed() => if arrived.is_err() { return },
                // The network was left.
                _ = async { while ends.changed().await.is_ok() {} } => return,
            }
        }
    });
}

async fn book_of(peer: &Peer) -> Book {
    match peer.network() {
        Some(network) => network.ask(|node| node.book().clone()).await.unwrap_or_default(),
        None => Book::load(&peer.store().home().join("peers.json")).unwrap_or_default(),
    }
}

fn short(key: &PublicKey) -> String {
    key.to_string().chars().take(8).collect()
}

/// "river-otter-61 (k7f3q2ab…)": what somebody can read to another over the phone.
fn called(key: &PublicKey) -> String {
    format!("{} ({}…)", human_name(key), short(key))
}

/// "3 of your contacts say bob is now river-otter-61 (k7f3q2ab…)".
fn says(people: &People, name: &str, now: &PublicKey, said: &Said) -> String {
    let names: Vec<String> = said.by.iter().map(|by| people.name(by)).collect();
    let new = called(now);
    match (said.own, names.len()) {
        (true, 0) => format!("you say {name} is now {new}"),
        (true, count) => format!("you and {} say {name} is now {new}: {}", counted(count, "contact"), join(&names)),
        (false, 1) => format!("1 of your contacts says {name} is now {new}: {}", names[0]),
        (false, count) => format!("{count} of your contacts say {name} is now {new}: {}", join(&names)),
    }
}

/// What there is to tell of one contact; nothing of most.
fn describe(people: &People, vouched: &Vouched, moves: &[Move], space: &PublicKey) -> Option<Serde> {
    let moved = moves.iter().rev().find(|one| one.from == *space);
    let is_done = |now: &PublicKey| moved.is_some_and(|one| one.to == *now);
    let claims = vouched.of(space);
    if moved.is_none() && claims.is_none_or(BTreeMap::is_empty) {
        return None;
    }
    let name = people.name(space);
    let all: Vec<(&PublicKey, &Said)> = claims.into_iter().flatten().collect();
    let now = claims.and_then(agreed);
    let disputed = all.len() > 1 && now.is_none();
    let mut words: Vec<String> = all.iter().filter(|(key, _)| !is_done(key)).map(|(key, said)| says(people, &name, key, said)).collect();
    if disputed {
        words.push("they do not agree, so nothing can be moved: ask him by voice, and vouch for the right one yourself".to_owned());
    }
    if let Some(one) = moved {
        let new = called(&one.to);
        words.insert(0, format!("until {} this was {}, who is {new} now", crate::words::day(one.at_ms), one.name));
    }
    let claims: Vec<Serde> = all
        .iter()
        .map(|(key, said)| {
            let by: Vec<Serde> = said.by.iter().map(|by| json!({"key": by.to_string(), "name": people.name(by)})).collect();
            json!({"key": key.to_string(), "name": human_name(key), "by": by, "you": said.own, "says": says(people, &name, key, said)})
        })
        .collect();
    Some(json!({
        "space": space.to_string(),
        "name": name,
        "says": words,
        "disputed": disputed,
        "now": now.filter(|now| !is_done(now)).map(|now| now.to_string()),
        "claims": claims,
        "moved": moved.map(|one| json!({"to": one.to.to_string(), "name": one.name, "at_ms": one.at_ms})),
    }))
}

/// All contacts of whom something is said.
pub(crate) async fn all(peer: &Peer) -> Result<BTreeMap<PublicKey, Serde>, Problem> {
    let people = People::now(peer).await;
    let book = book_of(peer).await;
    let vouched = Vouched::now(peer, &people, &book).map_err(|error| storage_problem(&error))?;
    let moves = moves(peer.store()).map_err(|error| storage_problem(&error))?;
    let known = vouched.0.keys().copied().chain(moves.iter().map(|one| one.from));
    let known: BTreeSet<PublicKey> = known.filter(|space| people.is_contact(space)).collect();
    Ok(known.into_iter().filter_map(|space| Some((space, describe(&people, &vouched, &moves, &space)?))).collect())
}

/// The same for a list of spaces. Whoever is not in it any more since his name moved is told of where the name went.
pub(crate) async fn of_listed(peer: &Peer, listed: &BTreeSet<PublicKey>) -> Result<BTreeMap<PublicKey, Serde>, Problem> {
    let (mut told, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = all(peer).await?.into_iter().partition(|(space, _)| listed.contains(space));
    for mut one in gone.into_values() {
        let moved = one["moved"].clone();
        let Some(to) = moved["to"].as_str().and_then(|to| to.parse::<PublicKey>().ok()) else { continue };
        let day = crate::words::day(moved["at_ms"].as_u64().unwrap_or_default());
        let (name, old) = (moved["name"].as_str().unwrap_or_default(), one["name"].as_str().unwrap_or_default());
        one["says"] = json!([format!("until {day} {name} was the key that you call {old} now")]);
        (one["now"], one["disputed"]) = (Serde::Null, false.into());
        told.entry(to).or_insert(one);
    }
    Ok(told)
}

async fn list(peer: &Peer) -> Result<Serde, Problem> {
    let people = People::now(peer).await;
    let own = statements(peer, &peer.space()).map_err(|error| storage_problem(&error))?;
    let own: Vec<Serde> = own
        .iter()
        .map(|(of, now)| json!({"space": of.to_string(), "name": people.name(of), "now": now.to_string(), "now_name": human_name(now)}))
        .collect();
    Ok(json!({"contacts": all(peer).await?.into_values().collect::<Vec<_>>(), "vouched": own}))
}

/// A contact by name or key: a space, whether or not it is here.
async fn contact(peer: &Peer, who: &str) -> Result<PublicKey, Problem> {
    match find_space(peer, who).await {
        Ok(space) => Ok(space),
        Err(problem) => People::now(peer).await.find(who).ok().and_then(|person| person.space).ok_or(problem),
    }
}

/// Says, or does not say any more, in the own space who a contact is now.
async fn vouch(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: String,
        /// The space that he is now; without it, nothing is said of him any more.
        now: Option<String>,
        /// Whether the owner has asked him.
        #[serde(default)]
        confirm: bool,
    }
    let Wanted { who, now, confirm } = read(body)?;
    let of = contact(peer, &who).await?;
    let now = match now {
        Some(text) => {
            let name = text.strip_prefix('@').unwrap_or(&text);
            Some(match name.parse::<PublicKey>() {
                Ok(key) => key,
                Err(_) => find_space(peer, name).await?,
            })
        }
        None => None,
    };
    if of == peer.space() || now == Some(peer.space()) || now == Some(of) {
        return Err(bad("you vouch for somebody else, and for a key that he did not have before"));
    }
    if now.is_some_and(|now| peer.is_family(&now)) {
        return Err(crate::personas::is_own(&now.unwrap_or(of)));
    }
    let name = People::now(peer).await.name(&of);
    if confirm || now.is_none() {
        say(peer, &of, now).await?;
    }
    Ok(json!({
        "space": of.to_string(),
        "name": name,
        "now": now.map(|now| now.to_string()),
        "now_name": now.as_ref().map(human_name),
        "said": confirm && now.is_some(),
    }))
}

async fn say(peer: &Peer, of: &PublicKey, now: Option<PublicKey>) -> Result<(), Problem> {
    let bad_path = |error| crate::route::bad_path(&error);
    let path = Path::parse(VOUCHED).map_err(bad_path)?.join(Segment::name(&of.to_string()).map_err(bad_path)?).map_err(bad_path)?;
    let action = now.map_or(Action::Delete, |now| Action::Put(Json::String(now.to_string())));
    let space = Some(peer.store().at(peer.store().own(), &path));
    let request =
        Request { space, path, action, parents: None, label: None, condition: Condition::None, time_ms: now_ms(), durable: true, may_name: None };
    match peer.store().write(request).await {
        Ok(_) | Err(WriteError::Absent(_)) => Ok(()),
        Err(error) => Err(write_problem(&error)),
    }
}

/// How a contact is kept here.
fn look(peer: &Peer, book: &Book, space: &PublicKey) -> Result<Kept, Problem> {
    let is_on = |list| lists::has(peer.store(), list, space).map_err(|error| storage_problem(&error));
    Ok(Kept {
        petname: book.petnames.get(space).cloned(),
        is_followed: book.following.contains_key(space),
        is_muted: is_on(List::Muted)?,
        is_blocked: is_on(List::Blocked)?,
    })
}

/// Keeps a contact so.
async fn put(peer: &Peer, network: &Network, space: PublicKey, before: &Kept, kept: &Kept) -> Result<(), Problem> {
    let failed = |error| write_problem(&error);
    if before.petname != kept.petname {
        network.wish(Event::Petname { space, name: kept.petname.clone().unwrap_or_default() }).await.map_err(stopped)?;
    }
    if before.is_followed != kept.is_followed {
        let event = if kept.is_followed { Event::Follow { space, via: Vec::new() } } else { Event::Unfollow { space } };
        network.wish(event).await.map_err(stopped)?;
    }
    if before.is_blocked != kept.is_blocked {
        network.wish(Event::Block { who: space, is_blocked: kept.is_blocked }).await.map_err(stopped)?;
        lists::set(peer.store(), List::Blocked, &space, kept.is_blocked).await.map_err(failed)?;
    }
    if before.is_muted != kept.is_muted {
        lists::set(peer.store(), List::Muted, &space, kept.is_muted).await.map_err(failed)?;
    }
    Ok(())
}

/// Moves what hangs on a contact to his new key, or back.
async fn rebind(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: String,
        /// The key that the owner was shown.
        to: Option<String>,
        /// Whether he wants it.
        #[serde(default)]
        confirm: bool,
        /// Take it back.
        #[serde(default)]
        undo: bool,
    }
    let Wanted { who, to, confirm, undo: back } = read(body)?;
    let network = network(peer)?;
    let from = contact(peer, &who).await?;
    if back {
        return undo(peer, network, &from).await;
    }
    let people = People::now(peer).await;
    let book = book_of(peer).await;
    let vouched = Vouched::now(peer, &people, &book).map_err(|error| storage_problem(&error))?;
    let name = people.name(&from);
    let moves = moves(peer.store()).map_err(|error| storage_problem(&error))?;
    let told = describe(&people, &vouched, &moves, &from);
    let Some(claims) = vouched.of(&from) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "rebind",
            "nobody says that he has a new key",
            format!("none of your contacts says who {name} is now"),
        )
        .with_fix(format!("if you know it yourself, say so first: timebus vouch {name} KEY")));
    };
    let Some(now) = agreed(claims) else {
        let all: Vec<String> = claims.iter().map(|(key, said)| says(&people, &name, key, said)).collect();
        return Err(Problem::new(StatusCode::CONFLICT, "rebind", "your contacts do not agree who he is now", all.join("; "))
            .with_fix(format!("ask him by voice what his new key is called, then: timebus vouch {name} KEY")));
    };
    let mut answer =
        json!({"space": from.to_string(), "name": name, "to": now.to_string(), "to_name": human_name(&now), "moved": false, "told": told});
    if !confirm {
        return Ok(answer);
    }
    // What he confirms is what he was shown, and not what came meanwhile.
    if to.as_deref() != Some(&*now.to_string()) {
        let detail = format!("the key that is vouched for is {now}");
        return Err(Problem::new(StatusCode::CONFLICT, "rebind", "this is not the key that your contacts name", detail)
            .with_fix("look again, then confirm the key that is shown"));
    }
    if moves.iter().any(|one| one.from == from && one.to == now) {
        answer["moved"] = true.into();
        return Ok(answer);
    }
    let (from_before, to_before) = (look(peer, &book, &from)?, look(peer, &book, &now)?);
    // A name that others chose may be none that can be used here.
    let called = from_before.petname.clone().or_else(|| to_before.petname.clone()).unwrap_or_else(|| name.clone());
    let old = free_name(peer, &book, &called, &from);
    let from_after = Kept { petname: Some(old.clone()), is_followed: false, ..from_before.clone() };
    let to_after = Kept { petname: Some(called.clone()), is_followed: from_before.is_followed || to_before.is_followed, ..from_before.clone() };
    let one = Move { from, to: now, name: called.clone(), at_ms: now_ms(), from_before: from_before.clone(), to_before: to_before.clone() };
    // First what takes it back, then the move: after a crash in between it can be taken back, or asked for again.
    lists::put(peer.store(), List::Moved, &from, Some(one.entry())).await.map_err(|error| write_problem(&error))?;
    settle(peer.store(), peer.ledger()).map_err(|error| storage_problem(&error))?;
    put(peer, network, from, &from_before, &from_after).await?;
    if check_petname(peer, now, &called).await.is_ok() {
        put(peer, network, now, &to_before, &to_after).await?;
    } else {
        put(peer, network, now, &to_before, &Kept { petname: to_before.petname.clone(), ..to_after }).await?;
    }
    answer["moved"] = true.into();
    answer["before"] = old.clone().into();
    answer["notes"] = notes(peer, &from, &called, &old).into();
    Ok(answer)
}

/// What does not move by itself.
fn notes(peer: &Peer, from: &PublicKey, called: &str, old: &str) -> Vec<String> {
    let mut notes = vec![format!("what the old key shared stays readable as {old}; it is not followed any more")];
    let Some(rights) = peer.store().rights(&peer.space()) else { return notes };
    let theirs = peer.store().rights(from);
    let is_his = |key: &PublicKey| key == from || theirs.as_ref().is_some_and(|rights| rights.was_device(key));
    let granted = rights.grants().filter(|(_, held)| held.is_live()).filter(|(_, held)| match &held.grant.audience {
        timebus_store::grant::Audience::Key(key) => is_his(key),
        timebus_store::grant::Audience::Anyone => false,
    });
    let count = granted.count();
    if count > 0 {
        notes.push(format!(
            "{} of your space {} for his old keys, which somebody may have found: `timebus revoke '{old}'` takes them back, and \
             `timebus invite` or `timebus grant PATH {called}` gives the new key what you want it to have",
            counted(count, "grant"),
            if count == 1 { "is" } else { "are" },
        ));
    }
    notes
}

/// "bob (before)", or what is free like it.
fn free_name(peer: &Peer, book: &Book, called: &str, of: &PublicKey) -> String {
    let cut = &called[..called.floor_char_boundary(PETNAME_BYTES_MAX - 16)];
    let is_free = |name: &String| book.named(name).is_none_or(|other| other == *of) && peer.persona(name).is_none();
    let mut names = std::iter::once(format!("{cut} (before)")).chain((2..=BEFORE_MAX).map(|n| format!("{cut} (before {n})")));
    names.find(is_free).unwrap_or_else(|| short(of))
}

async fn undo(peer: &Peer, network: &Network, who: &PublicKey) -> Result<Serde, Problem> {
    let mut moves = moves(peer.store()).map_err(|error| storage_problem(&error))?;
    let Some(at) = moves.iter().rposition(|one| one.from == *who || one.to == *who) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "rebind", "nothing was moved", "no name was moved from this key or to it")
            .with_fix("`timebus rebind` lists what was moved"));
    };
    let one = moves.remove(at);
    let (from, to) = (one.from, one.to);
    let book = book_of(peer).await;
    // The name is free before it goes back.
    put(peer, network, to, &look(peer, &book, &to)?, &one.to_before).await?;
    put(peer, network, from, &look(peer, &book, &from)?, &one.from_before).await?;
    lists::put(peer.store(), List::Moved, &from, None).await.map_err(|error| write_problem(&error))?;
    settle(peer.store(), peer.ledger()).map_err(|error| storage_problem(&error))?;
    Ok(json!({"space": from.to_string(), "name": one.name, "to": to.to_string(), "to_name": human_name(&to), "moved": false, "undone": true}))
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::store::{Config, lock_home};

    use super::*;

    /// A move is read as it was written, and the room goes with it once and back once, whatever is said between.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_room_goes_with_the_name_and_back() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let ledger = Ledger::open(&home.path().join("limits.json"));
        let [from, to] = [1, 2].map(|n| SecretKey::from_seed([n; 32]).public());
        let room = |who: PublicKey| ledger.settings_of(&Payer::Key(who));
        ledger.set(&Payer::Key(from), Some(5), true);
        ledger.set(&Payer::Key(to), Some(7), false);
        let kept = |name: &str| Kept { petname: Some(name.to_owned()), is_followed: true, is_muted: true, is_blocked: false };
        let mut one = Move { from, to, name: "bob".to_owned(), at_ms: 0, from_before: kept("bob"), to_before: Kept::default() };
        lists::put(&store, List::Moved, &from, Some(one.entry())).await.expect("written");
        let read = moves(&store).expect("read");
        one.at_ms = read[0].at_ms;
        assert!(one.at_ms > 0 && read == [one.clone()], "{read:?}");
        settle(&store, &ledger).expect("read");
        assert_eq!(room(to), (Some(5), true));
        // What the owner says of the new one afterwards stays.
        ledger.set(&Payer::Key(to), Some(6), false);
        settle(&store, &ledger).expect("read");
        assert_eq!((room(to), room(from)), ((Some(6), false), (Some(5), true)));
        lists::put(&store, List::Moved, &from, None).await.expect("written");
        settle(&store, &ledger).expect("read");
        assert_eq!((room(to), room(from)), ((Some(7), false), (Some(5), true)));
        // An entry that is none moves nothing.
        one.to_before.petname = Some("x".repeat(3));
        let odd = [("to", "nobody"), ("name", "bob"), ("before", "{}")].map(|(name, value)| (name.to_owned(), Json::String(value.to_owned())));
        lists::put(&store, List::Moved, &from, Some(odd.into())).await.expect("written");
        assert_eq!(moves(&store).expect("read"), []);
    }

    fn key(n: u8) -> PublicKey {
        PublicKey::from_bytes([n; 32])
    }

    fn said(by: &[u8], own: bool) -> Said {
        Said { by: by.iter().map(|n| key(*n)).collect(), own }
    }

    #[test]
    fn several_new_keys_are_a_dispute_that_only_the_owners_word_ends() {
        type Case = (Vec<(u8, Said)>, Option<u8>);
        let table: [Case; 6] = [
            (vec![], None),
            (vec![(1, said(&[10], false))], Some(1)),
            // However many say the one, whoever says the other may be the only one who knows.
            (vec![(1, said(&[10, 11, 12], false)), (2, said(&[13], false))], None),
            (vec![(1, said(&[10, 11], false)), (2, said(&[], true))], Some(2)),
            (vec![(1, said(&[10], true)), (2, said(&[13], false))], Some(1)),
            (vec![(1, said(&[], true)), (2, said(&[], true))], None),
        ];
        for (claims, expected) in table {
            let claims: Claims = claims.into_iter().map(|(n, said)| (key(n), said)).collect();
            assert_eq!(agreed(&claims), expected.map(key), "{claims:?}");
        }
    }
}
