//! Which writes refer to a blob: rows of [`Table::Blob`] by blob, and those that are visible in [`Table::Named`] by timeline;
//! written with the state that they follow from.

use super::BlobHash;
use crate::keyspace::{Rows, Staged, Table};
use crate::node::Write;
use crate::store::StorageError;
use crate::value::Value;

/// A write that refers to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// In which timeline.
    pub t: u32,
    /// By which change.
    pub a: u64,
    /// By which of its ops.
    pub index: u32,
    /// Whether the write is visible; else it is history.
    pub is_visible: bool,
}

/// `hash ‖ t ‖ a ‖ index`.
pub(crate) fn reference_key(hash: &[u8; 32], t: u32, a: u64, index: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(48);
    key.extend_from_slice(hash);
    key.extend_from_slice(&t.to_be_bytes());
    key.extend_from_slice(&a.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// `t ‖ hash ‖ a ‖ index`.
fn named_key(hash: &[u8; 32], t: u32, a: u64, index: u32) -> Vec<u8> {
    let mut key = reference_key(hash, t, a, index);
    key[..36].rotate_right(4);
    key
}

/// Remembers what a write refers to, if it refers to a blob.
pub(crate) fn stage(staged: &mut Staged, t: u32, write: &Write, is_visible: bool) {
    let Value::Blob { hash, .. } = &write.value else { return };
    staged.put(Table::Blob, reference_key(hash, t, write.a, write.id.index), vec![u8::from(is_visible)]);
    let named = named_key(hash, t, write.a, write.id.index);
    match is_visible {
        true => staged.put(Table::Named, named, Vec::new()),
        false => staged.delete(Table::Named, named),
    }
}

/// All writes that refer to a blob.
pub fn references<'a, R: Rows>(rows: &'a R, hash: &BlobHash) -> impl Iterator<Item = Result<Reference, StorageError>> + use<'a, R> {
    rows.scan(Table::Blob, hash.as_bytes(), None).map(|row| {
        let (key, value) = row?;
        let damaged = || StorageError::Damaged { table: Table::Blob.name() };
        let (rest, index) = key.split_last_chunk::<4>().ok_or_else(damaged)?;
        let (rest, a) = rest.split_last_chunk::<8>().ok_or_else(damaged)?;
        let (_, t) = rest.split_last_chunk::<4>().ok_or_else(damaged)?;
        Ok(Reference {
            t: u32::from_be_bytes(*t),
            a: u64::from_be_bytes(*a),
            index: u32::from_be_bytes(*index),
            is_visible: value.first() == Some(&1),
        })
    })
}

/// All blobs that visible writes of a timeline refer to, each once, in order. Reads a row for each such write.
///
/// # Errors
///
/// [`StorageError`].
pub fn named_in(rows: &impl Rows, t: u32) -> Result<Vec<BlobHash>, StorageError> {
    let mut found: Vec<BlobHash> = Vec::new();
    for row in rows.scan(Table::Named, &t.to_be_bytes(), None) {
        let (key, _) = row?;
        // The table has a row of another kind, which is shorter.
        let Some((hash, _)) = key[4..].split_first_chunk::<32>().filter(|(_, rest)| rest.len() == 12) else { continue };
        if found.last().is_none_or(|last| last.as_bytes() != hash) {
            found.push(BlobHash::from_bytes(*hash));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use fjall::Slice;

    use super::*;
    use crate::ids::{ChangeId, OpId};
    use crate::keyspace::{Committed, Scan, Tables};
    use crate::value::Mime;

    fn write(content: u64, a: u64) -> Write {
        let value = Value::Blob { hash: hash(content), len: 1, mime: Mime::new("image/png").expect("a media type") };
        Write { lamport: a, id: OpId { change: ChangeId([0; 32]), index: 0 }, list: None, a, value }
    }

    fn hash(content: u64) -> [u8; 32] {
        *blake3::hash(&content.to_be_bytes()).as_bytes()
    }

    fn hashes(contents: impl IntoIterator<Item = u64>) -> Vec<BlobHash> {
        let mut hashes: Vec<BlobHash> = contents.into_iter().map(|content| BlobHash::from_bytes(hash(content))).collect();
        hashes.sort_unstable();
        hashes
    }

    fn tables(folder: &std::path::Path) -> Tables {
        Tables::open(folder, 64 << 20, 64 << 20).expect("new tables")
    }

    fn commit(tables: &Tables, writes: impl IntoIterator<Item = (u32, Write, bool)>) {
        let mut staged = Staged::default();
        writes.into_iter().for_each(|(t, write, is_visible)| stage(&mut staged, t, &write, is_visible));
        tables.commit(&staged).expect("written");
    }

    /// Counts the rows that are read.
    struct Counted(Committed, Cell<usize>);

    impl Rows for Counted {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StorageError> {
            self.1.set(self.1.get() + 1);
            self.0.get(table, key)
        }

        fn scan<'a>(&'a self, table: Table, prefix: &[u8], from: Option<&[u8]>) -> Scan<'a> {
            Box::new(self.0.scan(table, prefix, from).inspect(|_| self.1.set(self.1.get() + 1)))
        }
    }

    #[test]
    fn what_a_timeline_names_costs_no_more_than_there_is_of_it() {
        let temp = tempfile::tempdir().expect("a folder");
        let tables = tables(temp.path());
        commit(&tables, (0..1000).map(|number| (7, write(number, number), true)));
        // Two write the same, one of which goes, and one is history.
        let own = [(8, write(1, 1), true), (8, write(1, 2), true), (8, write(2, 3), true), (8, write(3, 4), false), (9, write(9, 5), true)];
        commit(&tables, own);
        commit(&tables, [(8, write(1, 1), false), (8, write(4, 6), true), (8, write(2, 3), false)]);
        let rows = Counted(tables.snapshot(), Cell::new(0));
        assert_eq!((named_in(&rows, 8).expect("reads"), rows.1.get()), (hashes([1, 4]), 2));
        assert_eq!(named_in(&rows, 9).expect("reads"), hashes([9]));
        assert_eq!(named_in(&rows, 7).expect("reads"), hashes(0..1000));
        assert!(named_in(&rows, 6).expect("reads").is_empty() && named_in(&rows, u32::MAX).expect("reads").is_empty());
        let seen = references(&rows, &hashes([1])[0]).map(|reference| reference.expect("reads")).filter(|reference| reference.t == 8);
        assert_eq!(seen.map(|reference| (reference.a, reference.is_visible)).collect::<Vec<_>>(), [(1, false), (2, true)]);
    }

    /// As it was done before: a look at all that anybody names.
    fn by_whole_table(rows: &impl Rows, t: u32) -> Vec<BlobHash> {
        let mut found: Vec<BlobHash> = Vec::new();
        for row in rows.scan(Table::Blob, &[], None) {
            let (key, value) = row.expect("reads");
            let Some((hash, rest)) = key.split_first_chunk::<32>().filter(|(_, rest)| rest.len() == 16) else { continue };
            if rest.starts_with(&t.to_be_bytes()) && value.first() == Some(&1) && found.last().is_none_or(|last| last.as_bytes() != hash) {
                found.push(BlobHash::from_bytes(*hash));
            }
        }
        found
    }

    /// `cargo test -p timebus-store --lib -- --ignored --nocapture what_it_costs`
    #[test]
    #[ignore = "prints how long it takes; nothing is asserted of that"]
    fn what_it_costs_to_find_what_a_timeline_names() {
        let temp = tempfile::tempdir().expect("a folder");
        let tables = tables(temp.path());
        for from in (0..200_000).step_by(10_000) {
            commit(&tables, (from..from + 10_000).map(|number| (7, write(number, number), true)));
        }
        commit(&tables, (0..20).map(|number| (8, write(number, number), true)));
        let rows = tables.snapshot();
        let began = std::time::Instant::now();
        let before = by_whole_table(&rows, 8);
        let whole = began.elapsed();
        let began = std::time::Instant::now();
        let after = named_in(&rows, 8).expect("reads");
        let keyed = began.elapsed();
        assert_eq!(after, before);
        let ratio = whole.as_secs_f64() / keyed.as_secs_f64();
        eprintln!("20 files of a timeline among 200 000: whole table {whole:?}, by its key {keyed:?}, {ratio:.0} times faster");
    }
}
