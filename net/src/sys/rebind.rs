//! The part of `/.sys` about contacts who lost every key and begin again under a new one.
//!
//! Nothing that such a person can sign proves who he was. So those who know him say it: at `/profile/vouched/<old space>` of
//! his own space each says which space it is now. Here these statements are counted for the owner's contacts, told in
//! words, and nothing more: names and everything that hangs on them move when the owner says so, and move back when he
//! takes that back, on all his devices ([`moved`]). Where his contacts name several new keys, nothing can be moved before
//! they agree, or before he has vouched for one of them himself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
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

use crate::lists::{self, List, moved};
use crate::network::Network;
use crate::node::Event;
use crate::node::book::{Book, Kept, Moved};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{storage_problem, write_problem};
use crate::sys::network::{bad, find_space, network, read, stopped};
use crate::who::now_ms;
use crate::words::{counted, join};

/// Where a space says who somebody is now.
const VOUCHED: &str = "/profile/vouched";
/// Most statements of one space that are looked at.
const STATEMENTS_MAX: usize = 1024;
/// Most values of one statement, when several meet there.
const SIDES_MAX: usize = 16;

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
        // Whose words the owner does not want to hear says nothing of others either.
        let quiet = lists::quiet(peer.store())?;
        let mut all: BTreeMap<PublicKey, Claims> = BTreeMap::new();
        for space in peer.store().spaces().into_iter().map(|space| space.key) {
            // A community is nobody's friend, and who is no contact can say what he likes.
            if space != own && (!people.is_friend(&space) || quiet.contains(&space) || book.communities.contains_key(&space)) {
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

/// All moves, by the old keys, and when each was confirmed.
type Moves = BTreeMap<PublicKey, (u64, Moved)>;

fn moves(peer: &Peer) -> Result<Moves, Problem> {
    moved::all(peer.store()).map_err(|error| storage_problem(&error))
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
fn describe(people: &People, vouched: &Vouched, moves: &Moves, space: &PublicKey) -> Option<Serde> {
    let moved = moves.get(space);
    let is_done = |now: &PublicKey| moved.is_some_and(|(_, one)| one.to == *now);
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
    if let Some((at_ms, one)) = moved {
        words.insert(0, format!("until {} this was {}, who is {} now", crate::words::day(*at_ms), one.name, called(&one.to)));
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
        "moved": moved.map(|(at_ms, one)| json!({"to": one.to.to_string(), "name": one.name, "at_ms": at_ms})),
    }))
}

/// All contacts of whom something is said.
pub(crate) async fn all(peer: &Peer) -> Result<BTreeMap<PublicKey, Serde>, Problem> {
    let people = People::now(peer).await;
    let book = book_of(peer).await;
    let vouched = Vouched::now(peer, &people, &book).map_err(|error| storage_problem(&error))?;
    let moves = moves(peer)?;
    let known = vouched.0.keys().chain(moves.keys()).copied();
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

/// Has a contact muted and blocked so.
async fn hush(peer: &Peer, network: &Network, space: PublicKey, kept: &Kept) -> Result<(), Problem> {
    for (list, is_on) in [(List::Muted, kept.is_muted), (List::Blocked, kept.is_blocked)] {
        if lists::has(peer.store(), list, &space).map_err(|error| storage_problem(&error))? == is_on {
            continue;
        }
        if list == List::Blocked {
            network.wish(Event::Block { who: space, is_blocked: is_on }).await.map_err(stopped)?;
        }
        lists::set(peer.store(), list, &space, is_on).await.map_err(|error| write_problem(&error))?;
    }
    Ok(())
}

/// Says in the list that a name moves, or moves back, and has it done here at once.
async fn shift(peer: &Peer, network: &Network, from: PublicKey, one: Option<Moved>) -> Result<(), Problem> {
    moved::put(peer.store(), &from, one.as_ref()).await.map_err(|error| write_problem(&error))?;
    // Where it is not the last of those that follow each other, those behind it are done again.
    let moves = moved::in_order(moves(peer)?);
    for event in moved::events(moved::lacks(&moves, &book_of(peer).await)) {
        network.wish(event).await.map_err(stopped)?;
    }
    peer.ledger().settle(moves.into_iter().map(|(from, one)| (from, one.to)));
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
    let moves = moves(peer)?;
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
    if let Some((_, one)) = moves.get(&from) {
        if one.to == now {
            answer["moved"] = true.into();
            return Ok(answer);
        }
        let detail = format!("its name went to {}", called(&one.to));
        return Err(Problem::new(StatusCode::CONFLICT, "rebind", "the name of this key was moved already", detail)
            .with_fix(format!("take that back first: timebus rebind {from} --undo")));
    }
    // Else each of them would be where the name goes on from.
    if moved::end_of(&moves, now) == Some(from) {
        let detail = format!("the name of {} went to {name} before", called(&now));
        return Err(Problem::new(StatusCode::CONFLICT, "rebind", "the name of the new key went to this one", detail)
            .with_fix(format!("take that back: timebus rebind {now} --undo")));
    }
    let (from_before, to_before) = (look(peer, &book, &from)?, look(peer, &book, &now)?);
    // A name that others chose may be one of the owner's own.
    let is_given = from_before.petname.is_some() || to_before.petname.is_some();
    if !is_given && peer.persona(&name).is_some() {
        let detail = format!("one of your personas is called {name}");
        return Err(Problem::new(StatusCode::CONFLICT, "name", "this name is taken", detail)
            .with_fix(format!("call him something else first: timebus follow {from} --as NAME")));
    }
    let hushed = from_before.clone();
    let called = from_before.petname.clone().or_else(|| to_before.petname.clone()).unwrap_or(name);
    hush(peer, network, now, &hushed).await?;
    shift(peer, network, from, Some(Moved { to: now, name: called.clone(), from_before, to_before })).await?;
    let old = book_of(peer).await.petnames.get(&from).cloned().unwrap_or_else(|| short(&from));
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

async fn undo(peer: &Peer, network: &Network, who: &PublicKey) -> Result<Serde, Problem> {
    let latest = moved::in_order(moves(peer)?).into_iter().rfind(|(from, one)| from == who || one.to == *who);
    let Some((from, one)) = latest else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "rebind", "nothing was moved", "no name was moved from this key or to it")
            .with_fix("`timebus rebind` lists what was moved"));
    };
    hush(peer, network, one.to, &one.to_before).await?;
    hush(peer, network, from, &one.from_before).await?;
    shift(peer, network, from, None).await?;
    Ok(json!({
        "space": from.to_string(),
        "name": one.name,
        "to": one.to.to_string(),
        "to_name": human_name(&one.to),
        "moved": false,
        "undone": true,
    }))
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
