//! The blobs of a store: what names them, and which may go.

use std::collections::HashMap;

use timebus_identity::PublicKey;

use super::open::{LACKING_MARK, SHORTER};
use super::{StorageError, Store};
use crate::blobs::collect::{Collected, Retention, Use, collect};
use crate::blobs::{BlobHash, Blobs, Lease, references};
use crate::fold::Bodies;
use crate::ids::{OpId, TimelineId};
use crate::keyspace::{Committed, Table};
use crate::path::Path;
use crate::pipeline::Space;
use crate::summary::summary;
use crate::tree::Tree;
use crate::value::Value;
use crate::view::View;
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

/// Looks for the places of blobs.
#[derive(Debug)]
pub struct Places<'a> {
    rows: &'a Committed,
    timelines: HashMap<u32, (Space, TimelineId)>,
    bodies: Bodies,
}

impl Places<'_> {
    /// Where a blob is named.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn of(&mut self, hash: &BlobHash) -> Result<Vec<BlobPlace>, StorageError> {
        let mut found = Vec::new();
        self.is_named_where(hash, |place| {
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
    pub fn is_named_where(&mut self, hash: &BlobHash, mut fits: impl FnMut(BlobPlace) -> bool) -> Result<bool, StorageError> {
        let rows = self.rows;
        for reference in references(rows, hash) {
            let reference = reference?;
            let Some((space, timeline)) = self.timelines.get(&reference.t) else { continue };
            let change = summary(rows, reference.t, reference.a)?;
            let id = OpId { change: change.id, index: reference.index };
            if let Some((path, write)) = self.bodies.write_at(rows, reference.t, id)?
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
        self.places(rows).of(hash)
    }

    /// Whether a blob is named at a place that `fits`. Looks no further than the first one that does.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn is_named_where(&self, rows: &Committed, hash: &BlobHash, fits: impl FnMut(BlobPlace) -> bool) -> Result<bool, StorageError> {
        self.places(rows).is_named_where(hash, fits)
    }

    /// To look for the places of many blobs: what names several of them is read once.
    #[must_use]
    pub fn places<'a>(&self, rows: &'a Committed) -> Places<'a> {
        let all = |space: Space| self.timelines_of(&space.key).into_iter().map(move |(timeline, t)| (t, (space, timeline)));
        Places { rows, timelines: self.spaces().into_iter().flat_map(all).collect(), bodies: Bodies::new(self.inner.log.clone()) }
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

    /// Removes blobs that nothing has referred to for long enough, and parts that are old, unless the owner wants the rest: then
    /// they `stay`. As long as the log lacks something, what was put in here stays. Reads every name in the folder.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn collect_blobs(
        &self,
        retention: Retention,
        now_ms: u64,
        stays: &dyn Fn(&BlobHash) -> Result<bool, StorageError>,
    ) -> Result<Collected, StorageError> {
        let Some(blobs) = &self.blobs else { return Ok(Collected::default()) };
        let lacks = self.log_lacks();
        let use_of = |hash: &BlobHash| match self.use_of(hash)? {
            // What came from others can come again.
            Use::Nothing if lacks && !blobs.came_from_others(hash) => Ok(Use::Unknown),
            found => Ok(found),
        };
        collect(blobs, retention, now_ms, &use_of, stays)
    }

    /// Removes blobs that only older versions refer to before their time, or only counts them: those that devices of the owner put into
    /// his own space, as of all else it may be that a write is hidden and no older one. Answers how many there are, and their bytes.
    /// While the log lacks something none goes. What goes is noted with the time.
    ///
    /// # Errors
    ///
    /// [`StorageError`]; what was removed so far is gone.
    pub fn drop_history(&self, is_preview: bool, now_ms: u64) -> Result<(u64, u64), StorageError> {
        let (mut count, mut bytes) = (0, 0);
        let Some(blobs) = self.blobs.as_ref().filter(|_| !self.log_lacks()) else { return Ok((0, 0)) };
        for (hash, len) in blobs.list()? {
            let is_history = || -> Result<bool, StorageError> {
                let is_older = |place: &BlobPlace| !place.is_visible && place.space.is_own() && self.is_own_device(&place.author);
                Ok(matches!(self.use_of(&hash)?, Use::History) && self.places_of(&self.snapshot(), &hash)?.iter().all(is_older))
            };
            if is_history()? && (is_preview || blobs.remove_if(&hash, is_history)?) {
                (count, bytes) = (count + 1, bytes + len);
                if !is_preview {
                    blobs.note_gone(&hash, now_ms)?;
                }
            }
        }
        Ok((count, bytes))
    }

    /// The blobs that were at a path of a timeline before one of its changes.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn blobs_before(&self, rows: &Committed, space: Space, path: &Path, a: u64) -> Result<Vec<(BlobHash, u64)>, StorageError> {
        let t = space.main();
        let view = View::before(rows, t, a)?;
        let mut bodies = Bodies::new(self.inner.log.clone());
        let writes = Tree::slot_at(rows, t, path, &view, |a, index| {
            let id = OpId { change: summary(rows, t, a)?.id, index };
            bodies.write_at(rows, t, id)?.map(|(_, write)| write).ok_or(StorageError::Damaged { table: Table::History.name() })
        })?;
        let blob = |value: &Value| if let Value::Blob { hash, len, .. } = value { Some((BlobHash::from_bytes(*hash), *len)) } else { None };
        Ok(writes.iter().filter_map(|write| blob(&write.value)).collect())
    }

    /// Whether the index was made from a log that is damaged, or ends earlier than it did: then it is not known of every file
    /// what names it.
    #[must_use]
    pub fn log_lacks(&self) -> bool {
        !self.home.as_os_str().is_empty() && self.home.join(LACKING_MARK).exists()
    }

    /// Says that nothing in the log is damaged any more, and all of it stands in the index. What a log lost that became shorter
    /// nothing here tells; so that counts only if the owner asked for it to be mended.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn log_is_whole(&self, is_mended: bool) -> std::io::Result<()> {
        let mark = self.home.join(LACKING_MARK);
        if !self.log_lacks() || !is_mended && std::fs::read_to_string(&mark)? == SHORTER {
            return Ok(());
        }
        std::fs::remove_file(mark)
    }

    /// Keeps the blobs that an action refers to.
    pub(super) fn lease(&self, action: &Action) -> Vec<Lease> {
        let Some(blobs) = &self.blobs else { return Vec::new() };
        let mut leases = Vec::new();
        match action {
            Action::Put(json) | Action::Merge(json) | Action::Post { value: json, .. } => {
                crate::plan::blobs_named(json, &mut |hash| leases.push(blobs.lease(hash)));
            }
            Action::Undo { .. } => leases.push(blobs.lease_all()),
            Action::PutValue(Value::Blob { hash, .. }) => leases.push(blobs.lease(BlobHash::from_bytes(*hash))),
            _ => {}
        }
        leases
    }
}
