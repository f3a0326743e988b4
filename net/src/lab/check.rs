//! What must be the same at all peers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use timebus_identity::PublicKey;
use timebus_store::ids::ChangeId;
use timebus_store::path::{Path, Segment};
use timebus_store::store::{StorageError, Store};
use timebus_store::tree::Tree;

/// The changes of a space that are here, of both timelines.
pub(super) fn changes(store: &Store, space: &PublicKey) -> Result<BTreeSet<ChangeId>, StorageError> {
    let Some(space) = store.held(space) else { return Ok(BTreeSet::new()) };
    let rows = store.snapshot();
    let auth = store.changes(&rows, space.auth(), 0);
    auth.chain(store.changes(&rows, space.main(), 0)).map(|change| Ok(change?.1.id)).collect()
}

/// The same without those of some authors.
pub(super) fn changes_but(store: &Store, space: &PublicKey, of: &BTreeSet<PublicKey>) -> Result<BTreeSet<ChangeId>, StorageError> {
    let Some(space) = store.held(space) else { return Ok(BTreeSet::new()) };
    let rows = store.snapshot();
    let all = store.changes(&rows, space.auth(), 0).chain(store.changes(&rows, space.main(), 0));
    let others = all.filter(|change| change.as_ref().map_or(true, |(_, own)| !of.contains(&own.author)));
    others.map(|change| Ok(change?.1.id)).collect()
}

/// All changes that are here.
pub(super) fn everything(store: &Store) -> Result<Vec<ChangeId>, StorageError> {
    let mut all = Vec::new();
    for space in store.spaces() {
        all.extend(changes(store, &space.key)?);
    }
    Ok(all)
}

/// Everything that can be seen of a space, by content, in one text.
pub(super) fn state(store: &Store, space: &PublicKey) -> Result<String, StorageError> {
    let Some(space) = store.held(space) else { return Ok(String::new()) };
    let rows = store.snapshot();
    let mut out = String::new();
    let rights = store.rights(&space.key);
    let grants: BTreeMap<_, _> = rights.iter().flat_map(|rights| rights.grants()).map(|(id, held)| (*id, held.chain)).collect();
    // Writing to a string does not fail.
    let _ = writeln!(out, "{grants:?}");
    let mut queue = vec![(Path::root(), Tree::load(&*rows, space.main(), &Path::root(), usize::MAX)?)];
    while let Some((path, tree)) = queue.pop() {
        let text = |write: &timebus_store::node::Write| format!("{}={:?}", write.id, write.value);
        let writes: Vec<String> = tree.writes.iter().map(text).collect();
        let hidden: BTreeSet<String> = tree.hidden.iter().map(text).collect();
        let version = store.version(&rows, space, &path)?;
        let elements: Vec<_> = tree.elements.iter().map(|(id, _)| *id).collect();
        let _ = writeln!(out, "{path}\t{writes:?}\t{:?}\t{elements:?}\t{hidden:?}\t{version:?}", tree.list);
        let names = tree.names.into_iter().map(|(name, child)| (Segment::Name(name), child));
        let elements = tree.elements.into_iter().map(|(id, child)| (Segment::Element(id), child));
        for (segment, child) in names.chain(elements) {
            // A path that is here is short enough.
            queue.extend(path.join(segment).ok().map(|path| (path, child)));
        }
    }
    Ok(out)
}

/// A short name of a state.
pub(super) fn digest(state: &str) -> String {
    timebus_identity::z32::encode(&blake3::hash(state.as_bytes()).as_bytes()[..5])
}
