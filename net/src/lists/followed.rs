//! Whom the owner follows, and what he calls them, on all his devices.
//!
//! The node of each device has its own list of spaces that it keeps, the book; the list in the space is what the devices
//! agree on. What was added, renamed or taken off on one side since the two were compared last goes to the other side; when
//! both did something to the same entry, the list has it. A name that means somebody else here waits until it is free, and
//! stays in the list meanwhile. Before they are compared, the names of contacts with new keys go where the owner said
//! ([`moved`]), in whichever order the entries come.

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
use crate::node::book::{Book, by_key, is_petname};

/// How long changes are collected before the two are compared.
const PAUSE: Duration = Duration::from_millis(200);
/// The file that remembers what each of them said last.
const FILE: &str = "followed.json";

/// The spaces that are followed, and what each is called.
type Followed = BTreeMap<PublicKey, Option<String>>;

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
fn compare(list: &Followed, node: &Followed, last: &Last, is_taken: impl Fn(&PublicKey, &str) -> bool) -> Lacks {
    let mut lacks = Lacks::default();
    let keys: BTreeSet<&PublicKey> = list.keys().chain(node.keys()).collect();
    for key in keys {
        let (listed, known) = (list.get(key), node.get(key));
        if listed == known {
            continue;
        }
        // A name that means somebody else here stays his, and whoever is listed under it has here what name he has.
        let name = listed.and_then(Option::as_deref);
        let is_masked = name.is_some_and(|name| is_taken(key, name));
        // What is listed and was followed here only since then has what name was left here, which nobody chose for it.
        let is_heard = listed.is_some() && last.of(key).is_none();
        if known != last.of(key) && listed == last.list.get(key) && !is_heard {
            lacks.list.push((*key, known.cloned()));
        } else if is_masked && known.is_none() {
            lacks.node.push((*key, Some(None)));
        } else if !is_masked {
            // Also when it was told and is not known yet.
            lacks.node.push((*key, listed.cloned()));
        }
    }
    lacks
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
    let list = super::read_with(store, List::Followed, name_of)?.unwrap_or_default();
    let (now, events, writes) = step(list, &book, last, &store.space());
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
fn step(mut list: Followed, book: &Book, last: &Last, own: &PublicKey) -> (Last, Vec<Event>, Wanted) {
    let mut node = known(book);
    // A device that joined follows the owner's space in its book, which is nobody's choice.
    list.remove(own);
    node.remove(own);
    let is_taken = |space: &PublicKey, name: &str| book.named(name).is_some_and(|other| other != *space);
    let lacks = compare(&list, &node, last, is_taken);
    let mut events = Vec::new();
    let mut told = BTreeMap::new();
    for (space, wanted) in lacks.node {
        told.insert(space, wanted.clone().map(|name| name.or_else(|| book.petnames.get(&space).cloned())));
        match wanted {
            None => events.push(Event::Unfollow { space }),
            Some(name) => {
                events.extend(name.map(|name| Event::Petname { space, name }));
                if !book.following.contains_key(&space) {
                    events.push(Event::Follow { space, via: Vec::new() });
                }
            }
        }
    }
    for (space, wanted) in &lacks.list {
        match wanted {
            Some(name) => drop(list.insert(*space, name.clone())),
            None => drop(list.remove(space)),
        }
    }
    (Last { list, node, told }, events, lacks.list)
}

fn known(book: &Book) -> Followed {
    book.following.keys().map(|space| (*space, book.petnames.get(space).cloned())).collect()
}

/// The name in an entry of the list.
fn name_of(entry: &Tree) -> Option<String> {
    match &entry.names.get("name")?.writes.first()?.value {
        Value::String(name) if is_petname(name) => Some(name.to_string()),
        _ => None,
    }
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
            let lacks = compare(&list_now, &node_now, &last, |_, _| false);
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
        let (last, events, writes) = step(followed("a:alice"), &book, &Last::default(), &key('x'));
        assert!(events.len() == 2 && writes.is_empty());
        book.following.insert(key('a'), Follow { since_ms: 1, via: vec![] });
        book.petnames.insert(key('a'), "ada".to_owned());
        let (_, events, writes) = step(followed("a:alice"), &book, &last, &key('x'));
        assert!(events.is_empty());
        assert_eq!(writes, [(key('a'), Some(Some("ada".to_owned())))]);
        // After a stop the node may not have heard it, and the list has it.
        let stopped = Last { told: BTreeMap::new(), ..last };
        let (_, _, writes) = step(followed("a:alice"), &Book::default(), &stopped, &key('x'));
        assert_eq!(writes, []);
    }

    /// A name that is not free here is neither given to whoever is listed under it nor taken from the list, also when it
    /// becomes free at once, and whatever name was left here from before.
    #[test]
    fn a_name_that_waits_stays_in_the_list() {
        for left in ["n", "n:left"] {
            let (listed, taken) = (followed("n:bob o:bob"), |space: &PublicKey, name: &str| name == "bob" && *space != key('o'));
            let lacks = compare(&listed, &followed("o:bob"), &Last { list: followed("o:bob"), node: followed("o:bob"), ..Last::default() }, taken);
            assert_eq!((lacks.list, lacks.node), (vec![], vec![(key('n'), Some(None))]));
            let heard = Last { list: listed.clone(), node: followed("o:bob"), ..Last::default() };
            let here = followed(&format!("{left} o:bob"));
            assert_eq!(compare(&listed, &here, &heard, taken), Lacks::default());
            let freed = followed(&format!("{left} o:rob"));
            for last in [heard, Last { list: listed.clone(), node: here, ..Last::default() }] {
                let lacks = compare(&listed, &freed, &last, |_, _| false);
                assert!(lacks.node.contains(&(key('n'), Some(Some("bob".to_owned())))), "{left}: {lacks:?}");
                assert_eq!(lacks.list, [(key('o'), Some(Some("rob".to_owned())))], "{left}");
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

        fn list(&self) -> Followed {
            let mut sorted: Vec<&Write> = self.writes.iter().collect();
            sorted.sort_by_key(|(at, _)| *at);
            let mut list = Followed::new();
            for (_, entry) in sorted {
                match entry {
                    Entry::Followed(who, Some(name)) => drop(list.insert(*who, name.clone())),
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
            let (last, events, writes) = step(self.list(), &self.book, &self.last, &key('x'));
            for event in events {
                match event {
                    Event::Unfollow { space } => drop(self.book.following.remove(&space)),
                    Event::Follow { space, .. } => drop(self.book.following.insert(space, Follow { since_ms: 1, via: vec![] })),
                    Event::Petname { space, name } => drop(self.book.petnames.insert(space, name)),
                    _ => panic!("another event"),
                }
            }
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
            (self.book.petnames.clone(), known(&self.book), self.list())
        }
    }

    /// Until nobody has anything new for the other.
    fn settle(devices: &mut [Device; 2]) {
        for _ in 0..20 {
            let before = devices.clone().map(|device| (device.writes.len(), device.book));
            devices.iter_mut().for_each(Device::even_out);
            for (from, to) in [(0, 1), (1, 0)] {
                for write in devices[from].writes.clone() {
                    devices[to].hear(&write);
                }
            }
            if devices.clone().map(|device| (device.writes.len(), device.book)) == before {
                return;
            }
        }
        panic!("they never agree: {:?} {:?}", devices[0].shows(), devices[1].shows());
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
}
