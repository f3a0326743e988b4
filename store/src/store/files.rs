//! The blobs of a store: what names them, and which may go.

use std::collections::HashMap;

use timebus_identity::PublicKey;

use super::{StorageError, Store};
use crate::blobs::collect::{Collected, Retention, Use, collect};
use crate::blobs::{BlobHash, Blobs, Lease, references};
use crate::fold::Bodies;
use crate::ids::{OpId, TimelineId};
use crate::keyspace::Committed;
use crate::path::Path;
use crate::pipeline::Space;
use crate::summary::summary;
use crate::writer::Action;

/// A place that names a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobPlace {
    /// In which space.
    pub space: Space,
    /// In which of its timelines.
    pub timeline: TimelineId,
    /// Where in it.
    pub path: Path,
    /// By whose key.
    pub author: PublicKey,
    /// Its length, as the writer said.
    pub len: u64,
    /// Whether it does so now; else an older version did.
    pub is_visible: bool,
}

impl Store {
    /// The blobs of this home; `None` for a store in memory.
    #[must_use]
    pub fn blobs(&self) -> Option<&Blobs> {
        self.blobs.as_ref()
    }

    /// What refers to a blob.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn use_of(&self, hash: &BlobHash) -> Result<Use, StorageError> {
        let rows = self.snapshot();
        let mut found = Use::Nothing;
        for reference in references(&*rows, hash) {
            if reference?.is_visible {
                return Ok(Use::Visible);
            }
            found = Use::History;
        }
        Ok(found)
    }

    /// Where a blob is named.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn places_of(&self, rows: &Committed, hash: &BlobHash) -> Result<Vec<BlobPlace>, StorageError> {
        let mut found = Vec::new();
        self.is_named_where(rows, hash, |place| {
            found.push(place);
            false
        })?;
        Ok(found)
    }

    /// Whether a blob is named at a place that `fits`. Looks no further than the first one that does.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn is_named_where(&self, rows: &Committed, hash: &BlobHash, mut fits: impl FnMut(BlobPlace) -> bool) -> Result<bool, StorageError> {
        let all = |space: Space| self.timelines_of(&space.key).into_iter().map(move |(timeline, t)| (t, (space, timeline)));
        let timelines: HashMap<u32, (Space, TimelineId)> = self.spaces().into_iter().flat_map(all).collect();
        let mut bodies = Bodies::new(self.inner.log.clone());
        for reference in references(rows, hash) {
            let reference = reference?;
            let Some((space, timeline)) = timelines.get(&reference.t) else { continue };
            let change = summary(rows, reference.t, reference.a)?;
            let id = OpId { change: change.id, index: reference.index };
            if let Some((path, write)) = bodies.write_at(rows, reference.t, id)?
                && let crate::value::Value::Blob { len, .. } = write.value
            {
                let (space, timeline, author, is_visible) = (*space, *timeline, change.author, reference.is_visible);
                if fits(BlobPlace { space, timeline, path, author, len, is_visible }) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// All blobs that visible values of a space name.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn named_blobs(&self, rows: &Committed, space: &PublicKey) -> Result<Vec<BlobHash>, StorageError> {
        let mut found = Vec::new();
        for t in self.values_of(space) {
            found.extend(crate::blobs::named_in(rows, t)?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Removes blobs that nothing has referred to for long enough. Reads every name in the folder.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn collect_blobs(&self, retention: Retention, now_ms: u64) -> Result<Collected, StorageError> {
        match &self.blobs {
            Some(blobs) => collect(blobs, retention, now_ms, &|hash| self.use_of(hash)),
            None => Ok(Collected::default()),
        }
    }

    /// Keeps the blobs that an action refers to.
    pub(super) fn lease(&self, action: &Action) -> Vec<Lease> {
        let Some(blobs) = &self.blobs else { return Vec::new() };
        let mut leases = Vec::new();
        match action {
            Action::Put(json) | Action::Merge(json) | Action::Post { value: json, .. } => {
                crate::plan::blobs_named(json, &mut |hash| leases.push(blobs.lease(hash)));
            }
            Action::PutValue(crate::value::Value::Blob { hash, .. }) => leases.push(blobs.lease(BlobHash::from_bytes(*hash))),
            _ => {}
        }
        leases
    }
}
