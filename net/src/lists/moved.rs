//! Contacts who have new keys, as the owner confirmed it on one of his devices: an entry at `/lists/moved/<old key>` of his
//! own space for each, so that all his devices follow it, and any takes it back by taking it off.

use std::collections::BTreeMap;

use timebus_identity::PublicKey;
use timebus_store::json::Json;
use timebus_store::store::{StorageError, Store};
use timebus_store::tree::Tree;
use timebus_store::value::Value;
use timebus_store::writer::WriteError;

use super::List;
use crate::node::Event;
use crate::node::book::{Book, Moved};

/// All moves, by the old keys, and when each was confirmed; Unix milliseconds.
pub(crate) fn all(store: &Store) -> Result<BTreeMap<PublicKey, (u64, Moved)>, StorageError> {
    let found = super::read_with(store, List::Moved, parse)?.unwrap_or_default();
    Ok(found.into_iter().filter_map(|(from, moved)| Some((from, moved?))).collect())
}

/// Says that a contact has a new key, or not any more.
pub(crate) async fn put(store: &Store, from: &PublicKey, moved: Option<&Moved>) -> Result<(), WriteError> {
    let entry = moved.map(|moved| {
        let before = serde_json::to_string(&(&moved.from_before, &moved.to_before)).unwrap_or_default();
        let entry = [("to", moved.to.to_string()), ("name", moved.name.clone()), ("before", before)];
        entry.into_iter().map(|(name, value)| (name.to_owned(), Json::String(value))).collect()
    });
    super::put(store, List::Moved, from, entry).await
}

/// What the owner wrote, on whichever device; what is odd there is damaged, and moves nothing.
fn parse(entry: &Tree) -> Option<(u64, Moved)> {
    let value = |name: &str| entry.names.get(name)?.writes.first().map(|write| &write.value);
    let text = |name: &str| if let Some(Value::String(text)) = value(name) { Some(text.as_ref()) } else { None };
    let at_ms = if let Some(Value::Int(at)) = value("at") { u64::try_from(*at).unwrap_or(0) } else { 0 };
    let (from_before, to_before) = serde_json::from_str(text("before")?).ok()?;
    Some((at_ms, Moved { to: text("to")?.parse().ok()?, name: text("name")?.to_owned(), from_before, to_before }))
}

/// What the node is to be told, so that its book has the names where the list says.
pub(super) fn lacks(moves: &BTreeMap<PublicKey, Moved>, book: &Book) -> Vec<(PublicKey, Option<Moved>)> {
    let gone = book.moved.keys().filter(|from| !moves.contains_key(from)).map(|from| (*from, None));
    let new = moves.iter().filter(|(from, moved)| book.moved.get(from) != Some(moved)).map(|(from, moved)| (*from, Some(moved.clone())));
    gone.chain(new).collect()
}

/// The same as events.
pub(super) fn events(lacks: Vec<(PublicKey, Option<Moved>)>) -> Vec<Event> {
    lacks.into_iter().map(|(from, moved)| Event::Moved { from, moved: moved.map(Box::new) }).collect()
}
