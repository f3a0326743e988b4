//! Changes that came before what they build on.

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::{PublicKey, Signed};
use timebus_store::change::Change;
use timebus_store::ids::ChangeId;

use crate::sync::replica::ReplicaError;

/// Most changes that wait on one link: an honest peer sends causes first, so only a fork or a lie makes some wait.
pub(crate) const CHANGES_MAX: usize = 256;
/// Most bytes of them: twice the largest change.
pub(crate) const BYTES_MAX: usize = 2 * 1024 * 1024 + 8 * 1024;

/// The changes of one link that wait.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: BTreeMap<ChangeId, Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    channel: u64,
    change: Signed<Change>,
    /// What it waits for; empty if it waits for statements of another timeline.
    missing: Vec<ChangeId>,
}

impl Pending {
    pub(crate) fn contains(&self, id: &ChangeId) -> bool {
        self.waiting.contains_key(id)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether some of a channel wait.
    pub(crate) fn any_of(&self, channel: u64) -> bool {
        self.waiting.values().any(|waiting| waiting.channel == channel)
    }

    /// Keeps a change. False if there is no room.
    pub(crate) fn insert(&mut self, channel: u64, change: Signed<Change>, missing: Vec<ChangeId>) -> bool {
        let bytes = change.content().encoded_len();
        if self.waiting.len() >= CHANGES_MAX || self.bytes + bytes > BYTES_MAX {
            return false;
        }
        self.bytes += bytes;
        self.waiting.insert(change.content().id(), Waiting { channel, change, missing });
        true
    }

    fn remove(&mut self, id: &ChangeId) -> Option<Waiting> {
        let waiting = self.waiting.remove(id)?;
        self.bytes -= waiting.change.content().encoded_len();
        Some(waiting)
    }

    /// Takes out those of a channel that need not wait any more, causes first. With `rights_changed` those that wait
    /// for statements are tried too.
    pub(crate) fn take_ready(
        &mut self,
        channel: u64,
        rights_changed: bool,
        is_here: impl Fn(&ChangeId) -> Result<bool, ReplicaError>,
    ) -> Result<Vec<Signed<Change>>, ReplicaError> {
        let mut ready = Vec::new();
        let mut released: BTreeSet<ChangeId> = BTreeSet::new();
        // Each round releases what waited only for the round before; a round that releases nothing is the last.
        loop {
            let mut round = Vec::new();
            for (id, waiting) in self.waiting.iter_mut().filter(|(_, waiting)| waiting.channel == channel) {
                if waiting.missing.is_empty() && !rights_changed {
                    continue;
                }
                let mut still = Vec::new();
                for missing in waiting.missing.drain(..) {
                    if !released.contains(&missing) && !is_here(&missing)? {
                        still.push(missing);
                    }
                }
                waiting.missing = still;
                if waiting.missing.is_empty() {
                    round.push(*id);
                }
            }
            if round.is_empty() {
                return Ok(ready);
            }
            for id in round {
                ready.extend(self.remove(&id).map(|waiting| waiting.change));
                released.insert(id);
            }
        }
    }

    /// Drops those that wait for one of these, and those that wait for them; with their authors.
    pub(crate) fn drop_above(&mut self, roots: impl IntoIterator<Item = ChangeId>) -> Vec<(ChangeId, PublicKey)> {
        let mut gone: BTreeSet<ChangeId> = roots.into_iter().collect();
        let mut dropped = Vec::new();
        loop {
            let round: Vec<ChangeId> =
                self.waiting.iter().filter(|(_, waiting)| waiting.missing.iter().any(|id| gone.contains(id))).map(|(id, _)| *id).collect();
            if round.is_empty() {
                return dropped;
            }
            for id in round {
                gone.insert(id);
                dropped.extend(self.remove(&id).map(|waiting| (id, waiting.change.content().header().author)));
            }
        }
    }

    /// Drops those of a channel.
    pub(crate) fn drop_channel(&mut self, channel: u64) {
        self.waiting.retain(|_, waiting| waiting.channel != channel);
        self.bytes = self.waiting.values().map(|waiting| waiting.change.content().encoded_len()).sum();
    }
}
