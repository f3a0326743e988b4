//! The part of `/.sys` about contacts who lost every key and begin again under a new one.
//!
//! Nothing that such a person can sign proves who he was. So those who know him say it: at `/profile/vouched/<old space>` of
//! his own space each says which space it is now. Here these statements are counted for the owner's contacts, told in
//! words, and nothing more: names and everything that hangs on them move when the owner says so, and move back when he
//! takes that back. Where his contacts name several new keys, nothing can be moved before they agree, or before he has
//! vouched for one of them himself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name};
use timebus_store::auth::Rights;
use timebus_store::json::Json;
use timebus_store::node::{Node, node_key};
use timebus_store::path::{Path, Segment};
use timebus_store::store::StorageError;
use timebus_store::summary::summary;
use timebus_store::tree::child_names;
use timebus_store::value::Value;
use timebus_store::writer::{Action, Condition, Request, WriteError};

use crate::ledger::Payer;
use crate::lists::{self, List};
use crate::network::Network;
use crate::node::Event;
use crate::node::book::{Book, PETNAME_BYTES_MAX};
use crate::peer::Peer;
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
/// Most moves that are remembered; the first of more cannot be taken back any more.
const MOVES_MAX: usize = 1024;

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

/// What hangs on a contact here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    petname: Option<String>,
    #[serde(default)]
    is_followed: bool,
    #[serde(default)]
    is_muted: bool,
    #[serde(default)]
    is_blocked: bool,
    /// Bytes that he may keep here, if the owner said so.
    limit: Option<u64>,
    /// Whether his requests are not wanted.
    #[serde(default)]
    never: bool,
}

/// A contact whose name moved to a new key, and how both were before.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Move {
    from: String,
    to: String,
    name: String,
    at_ms: u64,
    from_before: Kept,
    to_before: Kept,
}

fn file_of(peer: &Peer) -> PathBuf {
    peer.store().home().join("rebinds.json")
}

fn moves(peer: &Peer) -> Vec<Move> {
    let Ok(bytes) = std::fs::read(file_of(peer)) else { return Vec::new() };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::error!(%error, "rebinds.json is damaged; it is put aside as rebinds.json.damaged");
        let _ = std::fs::rename(file_of(peer), file_of(peer).with_extension("json.damaged"));
        Vec::new()
    })
}

fn save(peer: &Peer, moves: &[Move]) -> Result<(), Problem> {
    let saved = serde_json::to_vec_pretty(moves).map_err(std::io::Error::other).and_then(|bytes| crate::files::write_whole(&file_of(peer), &bytes));
    saved.map_err(|error| Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", "the disk does not take it", error.to_string()))
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
    let moved = moves.iter().rev().find(|one| one.from == space.to_string());
    let is_done = |now: &PublicKey| moved.is_some_and(|one| one.to == now.to_string());
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
        let new = one.to.parse().as_ref().map(called).unwrap_or_default();
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
        "moved": moved.map(|one| json!({"to": one.to, "name": one.name, "at_ms": one.at_ms})),
    }))
}

/// All contacts of whom something is said.
pub(crate) async fn all(peer: &Peer) -> Result<BTreeMap<PublicKey, Serde>, Problem> {
    let people = People::now(peer).await;
    let book = book_of(peer).await;
    let vouched = Vouched::now(peer, &people, &book).map_err(|error| storage_problem(&error))?;
    let moves = moves(peer);
    let known = vouched.0.keys().copied().chain(moves.iter().filter_map(|one| one.from.parse().ok()));
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
    let (limit, never) = peer.ledger().settings_of(&Payer::Key(*space));
    Ok(Kept {
        petname: book.petnames.get(space).cloned(),
        is_followed: book.following.contains_key(space),
        is_muted: is_on(List::Muted)?,
        is_blocked: is_on(List::Blocked)?,
        limit,
        never,
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
    peer.ledger().set(&Payer::Key(space), kept.limit, kept.never);
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
    let mut moves = moves(peer);
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
    if moves.iter().any(|one| one.from == from.to_string() && one.to == now.to_string()) {
        answer["moved"] = true.into();
        return Ok(answer);
    }
    let (from_before, to_before) = (look(peer, &book, &from)?, look(peer, &book, &now)?);
    // A name that others chose may be none that can be used here.
    let called = from_before.petname.clone().or_else(|| to_before.petname.clone()).unwrap_or_else(|| name.clone());
    let old = free_name(peer, &book, &called, &from);
    let from_after = Kept { petname: Some(old.clone()), is_followed: false, ..from_before.clone() };
    let to_after = Kept { petname: Some(called.clone()), is_followed: from_before.is_followed || to_before.is_followed, ..from_before.clone() };
    let spare = (moves.len() + 1).saturating_sub(MOVES_MAX);
    moves.drain(..spare);
    moves.push(Move {
        from: from.to_string(),
        to: now.to_string(),
        name: called.clone(),
        at_ms: now_ms(),
        from_before: from_before.clone(),
        to_before: to_before.clone(),
    });
    // First what takes it back, then the move: after a crash in between it can be taken back, or asked for again.
    save(peer, &moves)?;
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
    let mut names = std::iter::once(format!("{cut} (before)")).chain((2..=MOVES_MAX).map(|n| format!("{cut} (before {n})")));
    names.find(is_free).unwrap_or_else(|| short(of))
}

async fn undo(peer: &Peer, network: &Network, who: &PublicKey) -> Result<Serde, Problem> {
    let mut moves = moves(peer);
    let key = who.to_string();
    let Some(at) = moves.iter().rposition(|one| one.from == key || one.to == key) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "rebind", "nothing was moved", "no name was moved from this key or to it")
            .with_fix("`timebus rebind` lists what was moved"));
    };
    let one = moves.remove(at);
    let damaged = |_| bad("rebinds.json names what is no key");
    let (from, to): (PublicKey, PublicKey) = (one.from.parse().map_err(damaged)?, one.to.parse().map_err(damaged)?);
    let book = book_of(peer).await;
    // The name is free before it goes back.
    put(peer, network, to, &look(peer, &book, &to)?, &one.to_before).await?;
    put(peer, network, from, &look(peer, &book, &from)?, &one.from_before).await?;
    save(peer, &moves)?;
    Ok(json!({"space": one.from, "name": one.name, "to": one.to, "to_name": human_name(&to), "moved": false, "undone": true}))
}

#[cfg(test)]
mod tests {
    use super::*;

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
