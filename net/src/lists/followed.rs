//! Whom the owner follows, and what he calls them, on all his devices.
//!
//! The node of each device has its own list of spaces that it keeps, the book; the list in the space is what the devices
//! agree on. What was added, renamed or taken off on one side since the two were compared last goes to the other side; when
//! both did something to the same entry, the list has it. Before they are compared, the names of contacts with new keys go
//! where the owner said ([`moved`]), in whichever order the entries come.
//!
//! Names are those of the list on all devices, whatever was heard when. Of several who are listed under one name that one has it
//! who was listed so first; the others have none until it is free, and stay in the list. Who is not followed, and has such a name
//! here still, has it no more. What the old keys of contacts are called who have new ones follows from the moves alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timebus_identity::PublicKey;
use timebus_store::json::Json;
use timebus_store::store::Store;
use timebus_store::tree::Tree;
use timebus_store::value::Value;
use timebus_store::writer::WriteError;

use super::{List, moved};
use crate::ledger::Ledger;
use crate::network::{Asker, Network};
use crate::node::Event;
use crate::node::book::{Book, Moved, by_key, is_name_before, is_petname, name_before};

/// How long changes are collected before the two are compared.
const PAUSE: Duration = Duration::from_millis(200);
/// The file that remembers what each of them said last.
const FILE: &str = "followed.json";

/// The spaces that are followed, and what each is called.
type Followed = BTreeMap<PublicKey, Option<String>>;

/// The same as the list has it, with when each was written there; Unix milliseconds.
type Listed = BTreeMap<PublicKey, (Option<String>, i64)>;

/// What each side said when they were compared last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    #[serde(with = "by_key")]
    list: Followed,
    #[serde(with = "by_key")]
    node: Followed,
    /// What the node was told then, and says since, unless it was stopped before it had written that down.
    #[serde(skip)]
    told: BTreeMap<PublicKey, Option<Option<String>>>,
}

impl Last {
    /// What the node said last of a space, or was told.
    fn of(&self, space: &PublicKey) -> Option<&Option<String>> {
        self.told.get(space).map_or_else(|| self.node.get(space), Option::as_ref)
    }
}

/// Spaces to follow under a name, or not any more.
type Wanted = Vec<(PublicKey, Option<Option<String>>)>;

/// What one side lacks of the other.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lacks {
    node: Wanted,
    list: Wanted,
}

/// Compares what the list and the node say, with what each said last.
fn compare(list: &Followed, node: &Followed, last: &Last) -> Lacks {
    let mut lacks = Lacks::default();
    let keys: BTreeSet<&PublicKey> = list.keys().chain(node.keys()).collect();
    for key in keys {
        let (listed, known) = (list.get(key), node.get(key));
        if listed == known {
            continue;
        }
        // What is listed and was followed here only since then has what name was left here, which nobody chose for it.
        let is_heard = listed.is_some() && last.of(key).is_none();
        if known != last.of(key) && listed == last.list.get(key) && !is_heard {
            lacks.list.push((*key, known.cloned()));
        } else {
            // Also when it was told and is not known yet.
            lacks.node.push((*key, listed.cloned()));
        }
    }
    lacks
}

/// What the list says, where a name is that of whoever was listed under it first.
fn shown(listed: &Listed) -> Followed {
    let mut first: BTreeMap<&str, (i64, &PublicKey)> = BTreeMap::new();
    for (space, (name, at)) in listed {
        if let Some(name) = name {
            let has = first.entry(name).or_insert((*at, space));
            *has = (*has).min((*at, space));
        }
    }
    let name_of = |space: &PublicKey, name: &Option<String>| name.clone().filter(|name| first[name.as_str()].1 == space);
    listed.iter().map(|(space, (name, _))| (*space, name_of(space, name))).collect()
}

/// What those are to be called whom nobody follows: the old keys of contacts with new ones; and who was such a one, or has a name
/// that is somebody else's by the list, nothing any more.
fn left_over(list: &Followed, book: &Book, moves: &[(PublicKey, Moved)], own: &PublicKey) -> BTreeMap<PublicKey, String> {
    let mut taken: BTreeSet<String> = list.values().flatten().cloned().collect();
    // What the old ones are called for: a name that came to a key goes on from there.
    let mut names: BTreeMap<PublicKey, String> = BTreeMap::new();
    let mut old = Vec::new();
    for (from, moved) in moves {
        let name = names.get(from).unwrap_or(&moved.name).clone();
        if !list.contains_key(from) && from != own {
            old.push((*from, name.clone()));
        }
        names.entry(moved.to).or_insert(name);
    }
    let is_old = |space: &PublicKey| old.iter().any(|(from, _)| from == space);
    let others = book.petnames.iter().filter(|(space, _)| !list.contains_key(*space) && !is_old(space) && *space != own);
    let (gone, stay): (Vec<_>, Vec<_>) = others.partition(|(_, name)| taken.contains(*name) || is_name_before(name));
    let mut called: BTreeMap<PublicKey, String> = gone.into_iter().map(|(space, _)| (*space, String::new())).collect();
    taken.extend(stay.into_iter().map(|(_, name)| name.clone()));
    for (space, name) in old {
        let name = name_before(&name, &space, |name| is_petname(name) && !taken.contains(name));
        taken.insert(name.clone());
        called.insert(space, name);
    }
    called
}

/// Keeps the list of the own space and that of the node the same, for as long as both are there.
pub(crate) fn share(store: &Store, network: &Network) {
    let (store, asker, ledger) = (store.clone(), network.asker(), Arc::clone(network.ledger()));
    let (mut arrivals, mut changed) = (store.arrivals(), network.changed());
    tokio::spawn(async move {
        let mut last = remembered(&store);
        if let Err(error) = moved::adopt(&store).await {
            tracing::warn!(%error, "names that moved are not in the list yet");
        }
        loop {
            match even_out(&store, &asker, &ledger, &last).await {
                Ok(Some(now)) => {
                    if now != last
                        && let Err(error) = remember(&store, &now)
                    {
                        tracing::warn!(%error, "{FILE} was not written");
                    }
                    last = now;
                }
                Ok(None) => return,
                // As on a device that has no rights yet, or none any more.
                Err(error) => tracing::debug!(%error, "the list of those who are followed was not read or written"),
            }
            let is_over = tokio::select! {
                arrived = arrivals.changed() => arrived.is_err(),
                changed = changed.changed() => changed.is_err(),
            };
            if is_over {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
}

/// Tells each side what it lacks, and answers what they said; `None` when the network was left.
async fn even_out(store: &Store, asker: &Asker, ledger: &Ledger, last: &Last) -> Result<Option<Last>, WriteError> {
    // The book first: whoever moves a name writes the list first.
    let Some(mut book) = asker.ask(|node| node.book().clone()).await else { return Ok(None) };
    let moves = moved::in_order(moved::all(store)?);
    let told = moved::lacks(&moves, &book);
    if !told.is_empty() {
        if asker.tell_all(moved::events(told)).await.is_none() {
            return Ok(None);
        }
        let Some(now) = asker.ask(|node| node.book().clone()).await else { return Ok(None) };
        book = now;
    }
    ledger.settle(moves.iter().map(|(from, moved)| (*from, moved.to)));
    let list = super::read_with(store, List::Followed, entry)?.unwrap_or_default();
    let (now, events, writes) = step(list, &book, last, &moves, &store.space());
    if asker.tell_all(events).await.is_none() {
        return Ok(None);
    }
    for (space, wanted) in writes {
        let entry = wanted.map(|name| name.map(|name| ("name".to_owned(), Json::String(name))).into_iter().collect());
        super::put(store, List::Followed, &space, entry).await?;
    }
    Ok(Some(now))
}

/// What is remembered of both, and what is to be told to the node and written in the list.
fn step(mut listed: Listed, book: &Book, last: &Last, moves: &[(PublicKey, Moved)], own: &PublicKey) -> (Last, Vec<Event>, Wanted) {
    let mut node = known(book);
    // A device that joined follows the owner's space in its book, which is nobody's choice.
    listed.remove(own);
    node.remove(own);
    let mut list = shown(&listed);
    let lacks = compare(&list, &node, last);
    for (space, wanted) in &lacks.list {
        match wanted {
            Some(name) => drop(list.insert(*space, name.clone())),
            None => drop(list.remove(space)),
        }
    }
    let mut events = Vec::new();
    for (space, name) in left_over(&list, book, moves, own) {
        if book.petnames.get(&space).map_or("", String::as_str) != name {
            events.push(Event::Petname { space, name });
        }
    }
    let mut told = BTreeMap::new();
    for (space, wanted) in lacks.node {
        match &wanted {
            None => events.push(Event::Unfollow { space }),
            Some(name) => {
                if book.petnames.get(&space) != name.as_ref() {
                    events.push(Event::Petname { space, name: name.clone().unwrap_or_default() });
                }
                if !book.following.contains_key(&space) {
                    events.push(Event::Follow { space, via: Vec::new() });
                }
            }
        }
        told.insert(space, wanted);
    }
    (Last { list, node, told }, events, lacks.list)
}

fn known(book: &Book) -> Followed {
    book.following.keys().map(|space| (*space, book.petnames.get(space).cloned())).collect()
}

/// The name in an entry of the list, and when that was written.
fn entry(entry: &Tree) -> (Option<String>, i64) {
    let value = |name: &str| Some(&entry.names.get(name)?.writes.first()?.value);
    let name = match value("name") {
        Some(Value::String(name)) if is_petname(name) => Some(name.to_string()),
        _ => None,
    };
    (name, if let Some(Value::Int(at)) = value("at") { *at } else { 0 })
}

fn remembered(store: &Store) -> Last {
    let read = || serde_json::from_slice(&std::fs::read(store.home().join(FILE)).ok()?).ok();
    read().unwrap_or_default()
}

fn remember(store: &Store, last: &Last) -> std::io::Result<()> {
    crate::files::write_whole(&store.home().join(FILE), &serde_json::to_vec(last).map_err(std::io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use timebus_identity::SecretKey;

    use super::*;
    use crate::node::book::{Follow, Kept, Moved};

    /// Spaces by letters, each with its name behind a colon.
    fn followed(text: &str) -> Followed {
        let entry = |word: &str| {
            let (who, name) = word.split_once(':').unwrap_or((word, ""));
            let space = SecretKey::from_seed([who.as_bytes()[0]; 32]).public();
            (space, Some(name.to_owned()).filter(|name| !name.is_empty()))
        };
        text.split_whitespace().map(entry).collect()
    }

    #[test]
    fn what_one_side_did_goes_to_the_other() {
        // List and node, what each had said before, and what both say after they were told.
        for (list, node, list_before, node_before, both) in [
            ("", "a:ada", "", "", "a:ada"),
            ("a:ada", "", "", "", "a:ada"),
            ("", "a:ada b", "a:ada b", "a:ada b", ""),
            ("a:ada", "", "a:ada", "a:ada", ""),
            ("a:ada", "a:countess", "a:ada", "a:ada", "a:countess"),
            ("a:countess", "a:ada", "a:ada", "a:ada", "a:countess"),
            // Both did something: the list has it.
            ("a:ada", "a:countess", "a", "a", "a:ada"),
            ("", "a:countess", "a:ada", "a:ada", ""),
            // As it was before there was a list.
            ("a:ada", "b", "", "", "a:ada b"),
            // The node was told, and has not heard; then the owner ends it before it was looked at again.
            ("a:countess", "a:ada", "a:countess", "a:ada", "a:countess"),
            ("a:countess", "", "a:countess", "a:ada", ""),
        ] {
            let last = Last { list: followed(list_before), node: followed(node_before), told: BTreeMap::new() };
            let (mut list_now, mut node_now) = (followed(list), followed(node));
            let lacks = compare(&list_now, &node_now, &last);
            for (to, what) in [(&mut list_now, lacks.list), (&mut node_now, lacks.node)] {
                for (space, wanted) in what {
                    match wanted {
                        Some(name) => drop(to.insert(space, name)),
                        None => drop(to.remove(&space)),
                    }
                }
            }
            assert_eq!((&list_now, &node_now), (&followed(both), &followed(both)), "{list} and {node}, before {list_before} and {node_before}");
        }
    }

    /// The owner calls somebody something else in the moment in which this device has heard of him.
    #[test]
    fn what_was_heard_a_moment_ago_can_be_renamed() {
        let mut book = Book::default();
        let (last, events, writes) = step(listed("a:alice"), &book, &Last::default(), &[], &key('x'));
        assert!(events.len() == 2 && writes.is_empty());
        book.following.insert(key('a'), Follow { since_ms: 1, via: vec![] });
        book.petnames.insert(key('a'), "ada".to_owned());
        let (_, events, writes) = step(listed("a:alice"), &book, &last, &[], &key('x'));
        assert!(events.is_empty());
        assert_eq!(writes, [(key('a'), Some(Some("ada".to_owned())))]);
        // After a stop the node may not have heard it, and the list has it.
        let stopped = Last { told: BTreeMap::new(), ..last };
        let (_, _, writes) = step(listed("a:alice"), &Book::default(), &stopped, &[], &key('x'));
        assert_eq!(writes, []);
    }

    /// The list as one says it, each entry written later than the one before.
    fn listed(text: &str) -> Listed {
        let words = text.split_whitespace().zip(1..);
        words.flat_map(|(word, at)| followed(word).into_iter().map(move |(space, name)| (space, (name, at)))).collect()
    }

    /// Two devices called somebody bob without knowing of each other. Whoever was listed so first has the name on both, and the
    /// other one when it is free; neither is taken from the list.
    #[test]
    fn of_two_who_are_listed_under_one_name_the_first_has_it() {
        for (first, second) in [('o', 'n'), ('n', 'o')] {
            let both = listed(&format!("{first}:bob {second}:bob"));
            let one = |who: char| (key(who), Some("bob".to_owned()));
            assert_eq!(shown(&both), BTreeMap::from([one(first), (key(second), None)]));
            for here in [first, second] {
                let mut book = Book::default();
                book.following.insert(key(here), Follow { since_ms: 1, via: vec![] });
                book.petnames.insert(key(here), "bob".to_owned());
                let mut last = Last { list: known(&book), node: known(&book), ..Last::default() };
                for (list, name) in [(&both, ("bob", None)), (&listed(&format!("{first}:rob {second}:bob")), ("rob", Some("bob")))] {
                    let (now, events, writes) = step(list.clone(), &book, &last, &[], &key('x'));
                    assert_eq!(writes, []);
                    take(&mut book, events);
                    last = now;
                    let called = |who| book.petnames.get(&key(who)).map(String::as_str);
                    assert_eq!((called(first), called(second)), (Some(name.0), name.1));
                    assert_eq!(book.following.len(), 2);
                }
                assert_eq!(step(listed(&format!("{first}:rob {second}:bob")), &book, &last, &[], &key('x')).1.len(), 0);
            }
        }
    }

    /// Somebody is not followed any more and kept his name here, which means somebody else now.
    #[test]
    fn who_is_listed_has_his_name_and_who_is_left_over_has_it_no_more() {
        let mut book = Book::default();
        book.petnames.insert(key('o'), "bob".to_owned());
        book.petnames.insert(key('c'), "carol".to_owned());
        let (last, events, writes) = step(listed("n:bob"), &book, &Last::default(), &[], &key('x'));
        take(&mut book, events);
        assert_eq!(writes, []);
        let called = |who| book.petnames.get(&key(who)).map(String::as_str);
        assert_eq!(['o', 'n', 'c'].map(called), [None, Some("bob"), Some("carol")]);
        let (_, events, writes) = step(listed("n:bob"), &book, &last, &[], &key('x'));
        assert!(events.is_empty() && writes.is_empty());
        // Nor does anybody keep a name by the list that he has there no more.
        let (_, events, _) = step(listed("n"), &book, &last, &[], &key('x'));
        take(&mut book, events);
        assert_eq!(book.petnames.get(&key('n')), None);
    }

    /// Does what a node does with these events.
    fn take(book: &mut Book, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Unfollow { space } => drop(book.following.remove(&space)),
                Event::Follow { space, .. } => drop(book.following.insert(space, Follow { since_ms: 1, via: vec![] })),
                Event::Petname { space, name } if name.is_empty() => drop(book.petnames.remove(&space)),
                Event::Petname { space, name } => drop(book.petnames.insert(space, name)),
                _ => panic!("another event"),
            }
        }
    }

    fn key(letter: char) -> PublicKey {
        SecretKey::from_seed([u8::try_from(letter).expect("a letter"); 32]).public()
    }

    /// One entry of a list, written or taken off; the one that wins is the latest.
    #[derive(Clone, Debug)]
    enum Entry {
        Followed(PublicKey, Option<Option<String>>),
        /// With the time that the clock of the device said.
        Moved(PublicKey, Option<(u64, Moved)>),
    }

    type Write = ((u64, usize), Entry);

    /// A device: its book, and as much of the lists as it has heard of.
    #[derive(Clone, Default)]
    struct Device {
        name: usize,
        /// What its clock says when something is confirmed.
        clock: u64,
        book: Book,
        last: Last,
        writes: Vec<Write>,
    }

    impl Device {
        fn moves(&self) -> Vec<(PublicKey, Moved)> {
            let mut sorted: Vec<&Write> = self.writes.iter().collect();
            sorted.sort_by_key(|(at, _)| *at);
            let mut moves = BTreeMap::new();
            for (_, entry) in sorted {
                match entry {
                    Entry::Moved(from, Some(moved)) => drop(moves.insert(*from, moved.clone())),
                    Entry::Moved(from, None) => drop(moves.remove(from)),
                    Entry::Followed(..) => {}
                }
            }
            moved::in_order(moves)
        }

        fn list(&self) -> Listed {
            let mut sorted: Vec<&Write> = self.writes.iter().collect();
            sorted.sort_by_key(|(at, _)| *at);
            let mut list = Listed::new();
            for ((clock, _), entry) in sorted {
                match entry {
                    Entry::Followed(who, Some(name)) => drop(list.insert(*who, (name.clone(), *clock as i64))),
                    Entry::Followed(who, None) => drop(list.remove(who)),
                    Entry::Moved(..) => {}
                }
            }
            list
        }

        fn write(&mut self, entry: Entry) {
            let clock = self.writes.iter().map(|((clock, _), _)| *clock).max().unwrap_or(0) + 1;
            self.writes.push(((clock, self.name), entry));
        }

        /// What the owner confirms or takes back here.
        fn shift(&mut self, from: PublicKey, moved: Option<Moved>) {
            self.write(Entry::Moved(from, moved.map(|moved| (self.clock, moved))));
            self.shift_all();
        }

        fn shift_all(&mut self) {
            for (from, moved) in moved::lacks(&self.moves(), &self.book) {
                self.book.shift(from, moved.as_ref(), 1);
            }
        }

        /// How a space is kept here.
        fn kept(&self, space: PublicKey) -> Kept {
            let is_followed = self.book.following.contains_key(&space);
            Kept { petname: self.book.petnames.get(&space).cloned(), is_followed, ..Kept::default() }
        }

        /// The owner confirms here that somebody has a new key.
        fn rebind(&mut self, from: PublicKey, to: PublicKey) {
            let (from_before, to_before) = (self.kept(from), self.kept(to));
            let name = from_before.petname.clone().unwrap_or_else(|| "river-otter".to_owned());
            self.shift(from, Some(Moved { to, name, from_before, to_before }));
            self.even_out();
        }

        fn even_out(&mut self) {
            self.shift_all();
            let (last, events, writes) = step(self.list(), &self.book, &self.last, &self.moves(), &key('x'));
            take(&mut self.book, events);
            writes.into_iter().for_each(|(who, wanted)| self.write(Entry::Followed(who, wanted)));
            self.last = last;
        }

        fn hear(&mut self, write: &Write) {
            if !self.writes.iter().any(|(at, _)| *at == write.0) {
                self.writes.push(write.clone());
                self.even_out();
            }
        }

        /// What the owner sees: who is called what, and who is followed.
        fn shows(&self) -> (BTreeMap<PublicKey, String>, Followed, Followed) {
            (self.book.petnames.clone(), known(&self.book), shown(&self.list()))
        }
    }

    /// Until nobody has anything new for the other.
    fn settle<const N: usize>(devices: &mut [Device; N]) {
        for _ in 0..20 {
            let before = devices.clone().map(|device| (device.writes.len(), device.book));
            devices.iter_mut().for_each(Device::even_out);
            for (from, to) in (0..N).flat_map(|from| (0..N).map(move |to| (from, to))) {
                for write in devices[from].writes.clone() {
                    devices[to].hear(&write);
                }
            }
            if devices.clone().map(|device| (device.writes.len(), device.book)) == before {
                return;
            }
        }
        panic!("they never agree: {:?}", devices.each_ref().map(Device::shows));
    }

    fn orders(count: usize) -> Vec<Vec<usize>> {
        if count == 0 {
            return vec![vec![]];
        }
        let shorter = orders(count - 1);
        (0..count)
            .flat_map(|at| {
                shorter.iter().map(move |order| {
                    let mut order = order.clone();
                    order.insert(at, count - 1);
                    order
                })
            })
            .collect()
    }

    /// Somebody has a new key. One device confirms it, the other hears of it in every order, and either takes it back; with
    /// nobody, the old, the new or both of them followed and named before.
    #[test]
    fn a_name_goes_to_a_new_key_and_back_on_all_devices_in_every_order() {
        let (old, new) = (key('o'), key('n'));
        for begun in ["o:bob", "o:bob n", "o:bob n:fresh", "o:bob c:carol", "o", "n:fresh"] {
            let mut devices = [0, 1].map(|name| Device { name, ..Device::default() });
            for (space, name) in followed(begun) {
                devices[0].book.following.insert(space, Follow { since_ms: 1, via: vec![] });
                devices[0].book.petnames.extend(name.map(|name| (space, name)));
            }
            settle(&mut devices);
            let before = devices[0].shows();
            assert_eq!(before, devices[1].shows(), "{begun}");
            let kept = |space| Kept { petname: before.0.get(&space).cloned(), is_followed: before.1.contains_key(&space), ..Kept::default() };
            let (from_before, to_before) = (kept(old), kept(new));
            let name = from_before.petname.clone().or(to_before.petname.clone()).unwrap_or_else(|| "bobby".to_owned());
            let moved = Moved { to: new, name: name.clone(), from_before, to_before };
            // First there, then back on either device; `told` acts, and the other one hears.
            let mut worlds = vec![devices];
            let mut count = 0;
            for (told, moved) in [(0, Some(&moved)), (0, None), (0, Some(&moved)), (1, None)] {
                let mut next: Vec<[Device; 2]> = Vec::new();
                for world in worlds {
                    let mut world = world;
                    let known = world[told].writes.len();
                    world[told].shift(old, moved.cloned());
                    world[told].even_out();
                    let heard = world[told].writes[known..].to_vec();
                    for order in orders(heard.len()) {
                        let mut world = world.clone();
                        for at in order {
                            world[1 - told].hear(&heard[at]);
                        }
                        settle(&mut world);
                        count += 1;
                        let shows = world[0].shows();
                        assert_eq!(shows, world[1].shows(), "{begun}");
                        if moved.is_some() {
                            assert_eq!((shows.0.get(&new), shows.1.contains_key(&old)), (Some(&name), false), "{begun}: {shows:?}");
                            assert_eq!(shows.0.get(&old), Some(&format!("{name} (before)")), "{begun}: {shows:?}");
                            assert_eq!(shows.1, shows.2, "{begun}: {shows:?}");
                        } else {
                            assert_eq!(shows, before, "{begun}");
                        }
                        if !next.iter().any(|known| known.each_ref().map(|device| &device.last) == world.each_ref().map(|device| &device.last)) {
                            next.push(world);
                        }
                    }
                }
                worlds = next;
            }
            assert!(count >= 4, "{begun}: {count}");
        }
    }

    /// Somebody has a new key, and another one before a device has heard of the first: the name is with the last, and comes
    /// back from there, whatever the keys and however much the other device hears at once.
    #[test]
    fn a_name_that_went_on_is_with_the_last_key() {
        let last = key('m');
        let (o, n) = (key('o'), key('n'));
        for (old, new) in [(o.min(n), o.max(n)), (o.max(n), o.min(n))] {
            let mut devices = [0, 1].map(|name| Device { name, ..Device::default() });
            devices[0].book.following.insert(old, Follow { since_ms: 1, via: vec![] });
            devices[0].book.petnames.insert(old, "bob".to_owned());
            settle(&mut devices);
            let before = devices[0].shows();
            let mut worlds = vec![devices];
            for steps in [[(old, Some(new)), (new, Some(last))], [(new, None), (old, None)]] {
                let mut next: Vec<[Device; 2]> = Vec::new();
                for mut world in worlds {
                    let known = world[0].writes.len();
                    for (from, to) in steps {
                        match to {
                            Some(to) => world[0].rebind(from, to),
                            None => {
                                world[0].shift(from, None);
                                world[0].even_out();
                            }
                        }
                    }
                    let heard = world[0].writes[known..].to_vec();
                    // Each bit says whether the device looks at the lists behind that entry.
                    for pauses in 0..1_u32 << (heard.len() - 1) {
                        let mut world = world.clone();
                        for (at, write) in heard.iter().enumerate() {
                            world[1].writes.push(write.clone());
                            if pauses >> at & 1 == 1 {
                                world[1].even_out();
                            }
                        }
                        settle(&mut world);
                        let shows = world[0].shows();
                        assert_eq!(shows, world[1].shows(), "{steps:?} {pauses:b} {heard:?}");
                        if steps[0].1.is_some() {
                            assert_eq!(shows.0.get(&last).map(String::as_str), Some("bob"), "{pauses:b} {shows:?}");
                            assert_eq!(shows.1.keys().collect::<Vec<_>>(), [&last], "{pauses:b} {shows:?}");
                        } else {
                            assert_eq!(shows, before, "{pauses:b}");
                        }
                        if !next.iter().any(|known| known.each_ref().map(|device| &device.last) == world.each_ref().map(|device| &device.last)) {
                            next.push(world);
                        }
                    }
                }
                worlds = next;
            }
        }
    }

    /// The entries of two moves come in any order, as from two devices: the name is where the last move says.
    #[test]
    fn a_move_that_is_heard_late_is_done_before_those_after_it() {
        let last = key('m');
        let (o, n) = (key('o'), key('n'));
        for (old, new) in [(o, n), (n, o)] {
            let mut book = Book::default();
            book.following.insert(old, Follow { since_ms: 1, via: vec![] });
            book.petnames.insert(old, "bob".to_owned());
            let bob = Kept { petname: Some("bob".to_owned()), is_followed: true, ..Kept::default() };
            let moved = |to| Moved { to, name: "bob".to_owned(), from_before: bob.clone(), to_before: Kept::default() };
            let moves = [(old, moved(new)), (new, moved(last))];
            for heard in [&moves[1..], &moves[..], &moves[..1], &[]] {
                for (from, moved) in moved::lacks(heard, &book) {
                    book.shift(from, moved.as_ref(), 1);
                }
                let at = heard.last().map_or(old, |(_, moved)| moved.to);
                let is_whole = heard.len() != 1 || at == new;
                assert!(!is_whole || book.named("bob") == Some(at) && book.following.keys().eq([&at]), "{heard:?}: {book:?}");
            }
        }
    }

    /// Two devices on which a person is called bob.
    fn pair(person: PublicKey) -> [Device; 2] {
        let mut devices = [0, 1].map(|name| Device { name, ..Device::default() });
        devices[0].book.following.insert(person, Follow { since_ms: 1, via: vec![] });
        devices[0].book.petnames.insert(person, "bob".to_owned());
        settle(&mut devices);
        devices
    }

    /// Each of two devices confirms one of two moves that follow each other, by a clock that is wrong against the other one:
    /// the second is told of the first, or of nothing. The name is with the last key, in every order in which the entries come.
    #[test]
    fn moves_that_follow_each_other_do_so_whatever_the_clocks_say() {
        let (o, n, last) = (key('o'), key('n'), key('m'));
        for (old, new) in [(o, n), (n, o)] {
            for (clocks, is_told) in [([1, 2], true), ([2, 1], true), ([1, 2], false), ([2, 1], false)] {
                let mut devices = pair(old);
                for (device, clock) in devices.iter_mut().zip(clocks) {
                    device.clock = clock;
                }
                let known = devices[0].writes.len();
                devices[0].rebind(old, new);
                if is_told {
                    settle(&mut devices);
                }
                devices[1].rebind(new, last);
                // Whoever hears them all from the beginning on hears them in any order.
                let said = devices.iter().flat_map(|device| device.writes[known..].iter().filter(|(at, _)| at.1 == device.name));
                let heard: Vec<Write> = said.filter(|(_, entry)| matches!(entry, Entry::Moved(..))).cloned().collect();
                assert_eq!(heard.len(), 2);
                settle(&mut devices);
                for device in &devices {
                    let shows = device.shows();
                    assert_eq!(shows.0.get(&last).map(String::as_str), Some("bob"), "{clocks:?} {is_told}: {shows:?}");
                    assert_eq!(device.moves().iter().map(|(from, _)| *from).collect::<Vec<_>>(), [old, new], "{clocks:?} {is_told}");
                }
                for order in orders(heard.len()) {
                    let mut third = Device { name: 2, ..pair(old)[0].clone() };
                    for at in order {
                        third.hear(&heard[at]);
                    }
                    assert_eq!(third.book.named("bob"), Some(last), "{clocks:?} {is_told}: {:?}", third.shows());
                }
            }
        }
    }

    /// What is done on one of the devices.
    #[derive(Clone, Debug)]
    enum Deed {
        /// A name moves from one key to another.
        Move(usize, usize),
        Back(usize),
        Call(usize, usize),
        Follow(usize),
        Unfollow(usize),
        /// The other devices hear as many of the entries as the bits say, one after the other or all at once.
        Hear(u64, bool),
    }

    fn deeds() -> impl Strategy<Value = Vec<(usize, u64, Deed)>> {
        let deed = prop_oneof![
            4 => (0..KEYS, 0..KEYS).prop_map(|(from, to)| Deed::Move(from, to)),
            2 => (0..KEYS).prop_map(Deed::Back),
            1 => (0..KEYS, 0..3_usize).prop_map(|(who, name)| Deed::Call(who, name)),
            1 => (0..KEYS).prop_map(Deed::Follow),
            1 => (0..KEYS).prop_map(Deed::Unfollow),
            4 => (any::<u64>(), any::<bool>()).prop_map(|(bits, is_slow)| Deed::Hear(bits, is_slow)),
        ];
        prop::collection::vec((0..3_usize, 0..9_u64, deed), 1..14)
    }

    const KEYS: usize = 4;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the owner does on which of three devices, and whenever each hears of it: in the end they agree.
        #[test]
        fn all_devices_agree_in_the_end(deeds in deeds(), letters in Just(['o', 'n', 'm', 'p']).prop_shuffle(), begun in 0..3_usize) {
            let keys = letters.map(key);
            let mut devices: [Device; 3] = [0, 1, 2].map(|name| Device { name, ..Device::default() });
            for (nth, name) in [(0, "bob"), (1, "ann")].into_iter().take(begun) {
                devices[0].book.following.insert(keys[nth], Follow { since_ms: 1, via: vec![] });
                devices[0].book.petnames.insert(keys[nth], name.to_owned());
            }
            settle(&mut devices);
            for (at, clock, deed) in deeds {
                let device = &mut devices[at];
                device.clock = clock;
                match deed {
                    Deed::Move(from, to) => {
                        let moves: BTreeMap<PublicKey, (u64, Moved)> = device.moves().into_iter().map(|(from, moved)| (from, (0, moved))).collect();
                        // As the owner is told: what has moved does not move again, and nothing goes in a circle.
                        if !moves.contains_key(&keys[from]) && moved::end_of(&moves, keys[to]) != Some(keys[from]) {
                            device.rebind(keys[from], keys[to]);
                        }
                    }
                    Deed::Back(from) => {
                        device.shift(keys[from], None);
                        device.even_out();
                    }
                    Deed::Call(who, name) => {
                        let name = ["bob", "ann", "eve"][name];
                        if device.book.following.contains_key(&keys[who]) && device.book.named(name).is_none() {
                            device.book.petnames.insert(keys[who], name.to_owned());
                        }
                        device.even_out();
                    }
                    Deed::Follow(who) => {
                        device.book.following.entry(keys[who]).or_insert(Follow { since_ms: 1, via: vec![] });
                        device.even_out();
                    }
                    Deed::Unfollow(who) => {
                        device.book.following.remove(&keys[who]);
                        device.even_out();
                    }
                    Deed::Hear(bits, is_slow) => {
                        let all: Vec<Write> = devices.iter().flat_map(|device| device.writes.clone()).collect();
                        let mut rest = bits;
                        let device = &mut devices[at];
                        for write in all {
                            let is_heard = rest & 1 == 1;
                            rest = rest.rotate_right(1);
                            if is_heard && !device.writes.iter().any(|(at, _)| *at == write.0) {
                                device.writes.push(write);
                                if is_slow {
                                    device.even_out();
                                }
                            }
                        }
                        device.even_out();
                    }
                }
            }
            settle(&mut devices);
            let (list, moves) = (shown(&devices[0].list()), devices[0].moves());
            for device in &devices {
                prop_assert_eq!((&shown(&device.list()), &device.moves()), (&list, &moves));
                // Who is followed has the name that the list says, and nobody else has that.
                prop_assert_eq!(&known(&device.book), &list);
                let names: BTreeSet<&String> = device.book.petnames.values().collect();
                prop_assert_eq!(names.len(), device.book.petnames.len(), "{:?}", device.book.petnames);
            }
            // What the old keys are called follows from the moves.
            for (from, _) in moves.iter().filter(|(from, _)| !list.contains_key(from)) {
                let names = devices.each_ref().map(|device| device.book.petnames.get(from));
                prop_assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
            }
        }
    }
}
