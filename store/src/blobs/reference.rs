//! Which writes refer to a blob: rows of [`Table::Blob`], written with the state that they follow from.

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

/// Remembers what a write refers to, if it refers to a blob.
pub(crate) fn stage(staged: &mut Staged, t: u32, write: &Write, is_visible: bool) {
    if let Value::Blob { hash, .. } = &write.value {
        staged.put(Table::Blob, reference_key(hash, t, write.a, write.id.index), vec![u8::from(is_visible)]);
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

/// All blobs that visible writes of a timeline refer to, each once. Reads the whole table.
///
/// # Errors
///
/// [`StorageError`].
pub fn named_in(rows: &impl Rows, t: u32) -> Result<Vec<BlobHash>, StorageError> {
    let mut found: Vec<BlobHash> = Vec::new();
    for row in rows.scan(Table::Blob, &[], None) {
        let (key, value) = row?;
        // The table has a row of another kind, which is shorter.
        let Some((hash, rest)) = key.split_first_chunk::<32>().filter(|(_, rest)| rest.len() == 16) else { continue };
        if rest.starts_with(&t.to_be_bytes()) && value.first() == Some(&1) && found.last().is_none_or(|last| last.as_bytes() != hash) {
            found.push(BlobHash::from_bytes(*hash));
        }
    }
    Ok(found)
}
