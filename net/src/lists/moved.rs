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
        let Ok(from) = from.parse() else { continue };
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

/// The same in order of time.
pub(crate) fn in_order(moves: BTreeMap<PublicKey, (u64, Moved)>) -> Vec<(PublicKey, Moved)> {
    let mut sorted: Vec<_> = moves.into_iter().collect();
    sorted.sort_by_key(|(_, (at_ms, _))| *at_ms);
    sorted.into_iter().map(|(from, (_, moved))| (from, moved)).collect()
}

/// Which of the moves that are done are to be taken back, and which to be done then, so that all that are wanted are done; each
/// in order. What goes on from a key comes back there before it comes back from it. It goes on again where that was done
/// before it had come there.
pub(crate) fn steps<'a, K: Ord, T: PartialEq>(
    wanted: &'a [(K, T)],
    done: &'a BTreeMap<K, T>,
    to: impl Fn(&T) -> &K,
) -> (Vec<&'a K>, Vec<&'a (K, T)>) {
    let (mut due, mut kept, mut reached) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for entry in wanted {
        if reached.contains(&entry.0) || done.get(&entry.0) != Some(&entry.1) {
            due.push(entry);
            reached.insert(to(&entry.1));
        } else {
            kept.insert(&entry.0);
        }
    }
    let mut left: BTreeMap<&K, &T> = done.iter().filter(|(from, _)| !kept.contains(from)).collect();
    let mut back = Vec::new();
    // Any of those that lead in a circle.
    while let Some(from) = left.iter().find(|(_, one)| !left.contains_key(to(one))).or_else(|| left.iter().next()).map(|(from, _)| *from) {
        left.remove(from);
        back.push(from);
    }
    (back, due)
}

/// What the node is to be told, so that its book has the names where the list says. The moves are in order of time.
pub(super) fn lacks(moves: &[(PublicKey, Moved)], book: &Book) -> Vec<(PublicKey, Option<Moved>)> {
    let (back, due) = steps(moves, &book.moved, |moved| &moved.to);
    let back = back.into_iter().map(|from| (*from, None));
    back.chain(due.into_iter().map(|(from, moved)| (*from, Some(moved.clone())))).collect()
}

/// The same as events.
pub(super) fn events(lacks: Vec<(PublicKey, Option<Moved>)>) -> Vec<Event> {
    lacks.into_iter().map(|(from, moved)| Event::Moved { from, moved: moved.map(Box::new) }).collect()
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::store::{Config, lock_home};

    use super::*;

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
    }
}
