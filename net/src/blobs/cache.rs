//! How much of other people's files is kept: a budget, and what goes first when it is used up.
//!
//! What the own space names, and what the owner himself wrote into the space of somebody else, is not part of this: it
//! may be the only copy; nor is what the owner pinned. All else came from somebody who has it, and can come again.

use std::collections::HashMap;
use std::sync::Mutex;

use timebus_store::blobs::{BlobHash, references};
use timebus_store::keyspace::Committed;
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::summary;

use super::wishes::Wishes;
use crate::peer::lock;

/// Bytes of files of others that are kept. Default 1 GiB.
pub(crate) const CACHE_BYTES_MAX: u64 = 1 << 30;
/// Files whose uses are counted; more than that were not used for long.
const COUNTED_MAX: usize = 100_000;

/// How often files were read, here or by others.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<HashMap<BlobHash, u32>>);

impl Uses {
    /// Counts one.
    pub(crate) fn count(&self, hash: BlobHash) {
        let mut uses = lock(&self.0);
        if uses.len() >= COUNTED_MAX {
            uses.clear();
        }
        let count = uses.entry(hash).or_default();
        *count = count.saturating_add(1);
    }
}

/// Removes files of others until they fit the budget: first those that were used least for their size. Answers how many
/// bytes went.
///
/// # Errors
///
/// [`StorageError`]; what was removed so far is gone.
pub(crate) fn trim(store: &Store, uses: &Uses, wishes: &Wishes, bytes_max: u64) -> Result<u64, StorageError> {
    let Some(blobs) = store.blobs() else { return Ok(0) };
    let rows = store.snapshot();
    let mut of_others = Vec::new();
    let mut total = 0;
    for (hash, len) in blobs.list()? {
        if !is_ours(store, &rows, &hash)? {
            total += len;
            of_others.push((hash, len));
        }
    }
    if total <= bytes_max {
        return Ok(0);
    }
    let counts = lock(&uses.0).clone();
    least_first(&mut of_others, &counts);
    let mut gone = 0;
    for (hash, len) in of_others {
        if total - gone <= bytes_max {
            break;
        }
        if !wishes.is_pinned(store, &rows, &hash)? && blobs.remove(&hash)? {
            gone += len;
        }
    }
    Ok(gone)
}

/// Sorts files by how often each was used for each byte that it takes: the least goes first.
fn least_first(files: &mut [(BlobHash, u64)], counts: &HashMap<BlobHash, u32>) {
    let worth = |(hash, len): &(BlobHash, u64)| f64::from(counts.get(hash).copied().unwrap_or(0) + 1) / (*len).max(1) as f64;
    files.sort_by(|one, other| worth(one).total_cmp(&worth(other)));
}

/// Whether a file may have to come from here.
fn is_ours(store: &Store, rows: &Committed, hash: &BlobHash) -> Result<bool, StorageError> {
    let own: Vec<u32> = store.timelines_of(&store.space()).into_iter().map(|(_, t)| t).collect();
    let mut is_named = false;
    for reference in references(rows, hash) {
        let reference = reference?;
        is_named = true;
        if own.contains(&reference.t) || store.is_own_device(&summary(rows, reference.t, reference.a)?.author) {
            return Ok(true);
        }
    }
    // What nothing names yet somebody is about to.
    Ok(!is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_and_little_used_goes_first() {
        let hash = |number: u8| BlobHash::from_bytes([number; 32]);
        let mut files = vec![(hash(1), 10), (hash(2), 1000), (hash(3), 1000), (hash(4), 0)];
        least_first(&mut files, &HashMap::from([(hash(2), 50)]));
        assert_eq!(files.iter().map(|(hash, _)| hash.as_bytes()[0]).collect::<Vec<_>>(), [3, 2, 1, 4]);
    }
}
