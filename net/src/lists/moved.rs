//! Contacts who have new keys, as the owner confirmed it on one of his devices: an entry at `/lists/moved/<old key>` of his
//! own space for each, so that all his devices follow it, and any takes it back by taking it off.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use timebus_identity::PublicKey;
use timebus_store::json::Json;
use timebus_store::store::{StorageError, Store};
use timebus_store::tree::Tree;
use timebus_store::value::Value;
use timebus_store::writer::WriteError;

use super::List;
use crate::node::Event;
use crate::node::book::{Book, Moved};

/// Where moves are in homes that have no list of them.
const FILE: &str = "rebinds.json";

/// All moves, by the old keys, and when each was confirmed; Unix milliseconds.
pub(crate) fn all(store: &Store) -> Result<BTreeMap<PublicKey, (u64, Moved)>, StorageError> {
    let found = super::read_with(store, List::Moved, parse)?.unwrap_or_default();
    Ok(found.into_iter().filter_map(|(from, moved)| Some((from, moved?))).collect())
}

/// Says that a contact has a new key, or not any more.
pub(crate) async fn put(store: &Store, from: &PublicKey, moved: Option<&Moved>) -> Result<(), WriteError> {
    super::put(store, List::Moved, from, moved.map(entry)).await
}

fn entry(moved: &Moved) -> BTreeMap<String, Json> {
    let before = serde_json::to_string(&(&moved.from_before, &moved.to_before)).unwrap_or_default();
    let entry = [("to", moved.to.to_string()), ("name", moved.name.clone()), ("before", before)];
    entry.into_iter().map(|(name, value)| (name.to_owned(), Json::String(value))).collect()
}

/// Puts the moves into the list that a home without one has in a file of its own; once.
pub(super) async fn adopt(store: &Store) -> Result<(), WriteError> {
    #[derive(Deserialize)]
    struct Old {
        from: String,
        at_ms: i64,
        #[serde(flatten)]
        moved: Moved,
    }
    let file = store.home().join(FILE);
    let Ok(bytes) = std::fs::read(&file) else { return Ok(()) };
    let moves: Vec<Old> = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::error!(%error, "{FILE} is damaged; it is put aside");
        Vec::new()
    });
    for Old { from, at_ms, moved } in moves {
        let Ok(from) = from.parse::<PublicKey>() else { continue };
        if !super::has(store, List::Moved, &from)? {
            let at = ("at".to_owned(), Json::Int(at_ms));
            super::put(store, List::Moved, &from, Some(entry(&moved).into_iter().chain([at]).collect())).await?;
        }
    }
    if let Err(error) = std::fs::rename(&file, file.with_extension("json.moved")) {
        tracing::warn!(%error, "{FILE} is read again at the next start");
    }
    Ok(())
}

/// What the owner wrote, on whichever device; what is odd there is damaged, and moves nothing.
fn parse(entry: &Tree) -> Option<(u64, Moved)> {
    let value = |name: &str| entry.names.get(name)?.writes.first().map(|write| &write.value);
    let text = |name: &str| if let Some(Value::String(text)) = value(name) { Some(text.as_ref()) } else { None };
    let at_ms = if let Some(Value::Int(at)) = value("at") { u64::try_from(*at).unwrap_or(0) } else { 0 };
    let (from_before, to_before) = serde_json::from_str(text("before")?).ok()?;
    Some((at_ms, Moved { to: text("to")?.parse().ok()?, name: text("name")?.to_owned(), from_before, to_before }))
}

/// The same in the order in which they follow each other: what goes on from a key is behind all that comes to it, whatever the
/// clocks of those devices say on which it was confirmed. Only what has nothing to do with each other, or leads in a circle, is
/// in order of these.
pub(crate) fn in_order(mut moves: BTreeMap<PublicKey, (u64, Moved)>) -> Vec<(PublicKey, Moved)> {
    let mut coming: BTreeMap<PublicKey, usize> = BTreeMap::new();
    for (_, moved) in moves.values() {
        *coming.entry(moved.to).or_default() += 1;
    }
    let (mut waiting, mut ready) = (BTreeSet::new(), BTreeSet::new());
    for (from, (at_ms, _)) in &moves {
        if coming.contains_key(from) {
            waiting.insert((*at_ms, *from))
        } else {
            ready.insert((*at_ms, *from))
        };
    }
    let mut sorted = Vec::with_capacity(moves.len());
    // When all that is left leads in circles, the first of them begins.
    while let Some((_, from)) = ready.pop_first().or_else(|| waiting.pop_first()) {
        let Some((_, moved)) = moves.remove(&from) else { continue };
        if let Some(count) = coming.get_mut(&moved.to) {
            *count -= 1;
            if *count == 0
                && let Some((at_ms, _)) = moves.get(&moved.to)
                && waiting.remove(&(*at_ms, moved.to))
            {
                ready.insert((*at_ms, moved.to));
            }
        }
        sorted.push((from, moved));
    }
    sorted
}

/// Where a name that comes to a key is by these moves: with the key after which none goes on, or `None` where they lead in a
/// circle.
pub(crate) fn end_of(moves: &BTreeMap<PublicKey, (u64, Moved)>, mut key: PublicKey) -> Option<PublicKey> {
    for _ in 0..=moves.len() {
        let Some((_, moved)) = moves.get(&key) else { return Some(key) };
        key = moved.to;
    }
    None
}

/// Which of the moves that are done are to be taken back, and which to be done then, so that all that are wanted are done; each
/// in order. What goes on from a key comes back there before it comes back from it. What was done too early is done again: it goes
/// on from a key, or comes to the same one, to which something else had not come yet. With `is_both`, taking one back makes the
/// old key, too, what it was when that was confirmed, so those that came to it are done again.
pub(crate) fn steps<'a, K: Ord, T: PartialEq>(
    wanted: &'a [(K, T)],
    done: &'a BTreeMap<K, T>,
    is_both: bool,
    to: impl Fn(&T) -> &K,
) -> (Vec<&'a K>, Vec<&'a (K, T)>) {
    let is_done = |(from, one): &(K, T)| done.get(from) == Some(one);
    let mut anyway: BTreeSet<&K> = BTreeSet::new();
    let (again, mut left) = loop {
        let (mut again, mut reached) = (BTreeSet::new(), BTreeSet::new());
        let mut left: BTreeMap<&K, &T> = done.iter().collect();
        for entry in wanted {
            let (from, to) = (&entry.0, to(&entry.1));
            if !is_done(entry) || anyway.contains(from) || reached.contains(from) || reached.contains(to) {
                again.insert(from);
                reached.insert(to);
            } else {
                left.remove(from);
            }
        }
        let before = anyway.len();
        let came = wanted.iter().filter(|(from, one)| is_both && !again.contains(from) && left.contains_key(to(one)));
        anyway.extend(came.map(|(from, _)| from));
        if anyway.len() == before {
            break (again, left);
        }
    };
    let mut back = Vec::new();
    // Any of those that lead in a circle.
    while let Some(from) = left.iter().find(|(_, one)| !left.contains_key(to(one))).or_else(|| left.iter().next()).map(|(from, _)| *from) {
        left.remove(from);
        back.push(from);
    }
    (back, wanted.iter().filter(|(from, _)| again.contains(from)).collect())
}

/// What the node is to be told, so that its book has the names where the list says. The moves are in order.
pub(crate) fn lacks(moves: &[(PublicKey, Moved)], book: &Book) -> Vec<(PublicKey, Option<Moved>)> {
    let (back, due) = steps(moves, &book.moved, true, |moved| &moved.to);
    let back = back.into_iter().map(|from| (*from, None));
    back.chain(due.into_iter().map(|(from, moved)| (*from, Some(moved.clone())))).collect()
}

/// The same as events.
pub(crate) fn events(lacks: Vec<(PublicKey, Option<Moved>)>) -> Vec<Event> {
    lacks.into_iter().map(|(from, moved)| Event::Moved { from, moved: moved.map(Box::new) }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use timebus_identity::SecretKey;
    use timebus_store::store::{Config, lock_home};

    use super::*;
    use crate::node::book::{Follow, Kept};

    fn key(n: u8) -> PublicKey {
        SecretKey::from_seed([n; 32]).public()
    }

    /// A home in which a name moved twice before there was a list; the book has the names where they went.
    #[tokio::test(flavor = "multi_thread")]
    async fn moves_in_a_file_go_into_the_list_once() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store");
        let kept = |name: Option<&str>| serde_json::json!({"petname": name, "is_followed": name.is_some(), "limit": null, "never": false});
        let one = |from: u8, to: u8, at_ms: u64| {
            let (from, to) = (key(from).to_string(), key(to).to_string());
            serde_json::json!({"from": from, "to": to, "name": "bob", "at_ms": at_ms, "from_before": kept(Some("bob")), "to_before": kept(None)})
        };
        std::fs::write(home.path().join(FILE), serde_json::json!([one(1, 2, 5), one(2, 3, 6)]).to_string()).expect("written");
        adopt(&store).await.expect("taken over");
        let moves = all(&store).expect("read");
        let told: Vec<_> = moves.iter().map(|(from, (at_ms, moved))| (*from, *at_ms, moved.to, moved.from_before.petname.as_deref())).collect();
        let mut expected = [(key(1), 5, key(2), Some("bob")), (key(2), 6, key(3), Some("bob"))];
        expected.sort();
        assert_eq!(told, expected);
        let mut book = Book::default();
        for (n, name) in [(1, "bob (before)"), (2, "bob (before 2)"), (3, "bob")] {
            book.petnames.insert(key(n), name.to_owned());
        }
        let before = book.petnames.clone();
        for (from, moved) in lacks(&in_order(moves), &book) {
            book.shift(from, moved.as_ref(), 1);
        }
        assert_eq!((book.petnames, book.moved.len()), (before, 2), "nothing moves again");
        // What is taken back stays so.
        put(&store, &key(1), None).await.expect("taken back");
        adopt(&store).await.expect("nothing to do");
        assert_eq!(all(&store).expect("read").len(), 1);
        // So does what is in the list when it was not noticed that the file had been read.
        std::fs::write(home.path().join(FILE), serde_json::json!([one(2, 4, 7)]).to_string()).expect("written");
        adopt(&store).await.expect("taken over");
        assert_eq!(all(&store).expect("read")[&key(2)].1.to, key(3));
    }

    /// A device that hears of moves.
    #[derive(Default)]
    struct Device {
        heard: BTreeMap<PublicKey, (u64, Moved)>,
        book: Book,
    }

    impl Device {
        fn hear(&mut self, from: PublicKey, moved: &(u64, Moved)) {
            self.heard.insert(from, moved.clone());
            self.settle();
        }

        fn settle(&mut self) {
            for (from, moved) in lacks(&in_order(self.heard.clone()), &self.book) {
                self.book.shift(from, moved.as_ref(), 1);
            }
        }

        /// What its owner confirms.
        fn confirm(&mut self, from: PublicKey, to: PublicKey, at_ms: u64) -> (u64, Moved) {
            let book = &self.book;
            let kept =
                |space| Kept { petname: book.petnames.get(&space).cloned(), is_followed: book.following.contains_key(&space), ..Kept::default() };
            let (from_before, to_before) = (kept(from), kept(to));
            let name = from_before.petname.clone().unwrap_or_else(|| timebus_identity::human_name(&from));
            let moved = (at_ms, Moved { to, name, from_before, to_before });
            self.hear(from, &moved);
            moved
        }
    }

    /// Devices on which a key is called bob.
    fn devices<const N: usize>(bob: PublicKey) -> [Device; N] {
        [(); N].map(|()| {
            let mut device = Device::default();
            device.book.following.insert(bob, Follow { since_ms: 1, via: vec![] });
            device.book.petnames.insert(bob, "bob".to_owned());
            device
        })
    }

    /// Who confirmed the second move did not know the first.
    #[test]
    fn a_name_comes_back_to_where_it_came_from() {
        let keys = [1, 2, 3].map(key);
        let [mut one, mut other] = devices(keys[0]);
        let first = one.confirm(keys[0], keys[1], 1);
        let second = other.confirm(keys[1], keys[2], 2);
        one.hear(keys[1], &second);
        other.hear(keys[0], &first);
        for mut device in [one, other] {
            assert_eq!(device.book.named("bob"), Some(keys[2]));
            device.heard.remove(&keys[1]);
            device.settle();
            assert_eq!(device.book.named("bob"), Some(keys[1]), "{:?}", device.book.petnames);
            assert!(device.book.following.keys().eq([&keys[1]]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Somebody has one new key after the other. Whichever of these moves is confirmed first and on which device, by whatever
        /// clocks, and whenever each hears of which: in the end all have his name for the last key.
        #[test]
        fn a_name_is_with_the_last_key_on_all_devices(
            deeds in prop::collection::vec((0..3_usize, 0..4_usize, 0..9_u64, 0..4096_u32), 1..10),
            letters in Just([1_u8, 2, 3, 4, 5]).prop_shuffle(),
        ) {
            let keys = letters.map(key);
            let mut devices: [Device; 3] = devices(keys[0]);
            let mut said: Vec<(PublicKey, (u64, Moved))> = Vec::new();
            for (at, link, at_ms, heard) in deeds {
                if !said.iter().any(|(from, _)| *from == keys[link]) {
                    let moved = devices[at].confirm(keys[link], keys[link + 1], at_ms);
                    said.push((keys[link], moved));
                }
                for (nth, (from, moved)) in said.iter().enumerate() {
                    for (device, of) in devices.iter_mut().zip(0..) {
                        if heard >> (nth * 3 + of) & 1 == 1 {
                            device.hear(*from, moved);
                        }
                    }
                }
            }
            let last = end_of(&said.iter().cloned().collect(), keys[0]).expect("no circle");
            for device in &mut devices {
                said.iter().for_each(|(from, moved)| device.hear(*from, moved));
                prop_assert_eq!(device.book.named("bob"), Some(last), "{:?}", device.book.petnames);
                let is_end = |key: &PublicKey| !said.iter().any(|(from, _)| from == key);
                prop_assert!(device.book.following.contains_key(&last) && device.book.following.keys().all(is_end));
            }
        }
    }
}
