//! What a session sees: the store, and what is remembered of other logs.

use std::collections::BTreeSet;

use timebus_identity::PublicKey;
use timebus_store::ids::{ChangeId, TimelineId};

use super::book::Book;
use super::id_of;
use crate::sync::{Cursor, Past, Remote, Replica, ReplicaError, Tip};

/// The store, and what is remembered of other logs.
pub(super) struct World<'a> {
    pub(super) store: &'a dyn Replica,
    pub(super) book: &'a Book,
    /// Spaces that take more than their share.
    pub(super) shut: &'a BTreeSet<PublicKey>,
}

impl Replica for World<'_> {
    fn incarnation(&self) -> [u8; 16] {
        self.store.incarnation()
    }

    fn until(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<u64, ReplicaError> {
        self.store.until(remote, space, timeline)
    }

    fn may_sync(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<bool, ReplicaError> {
        let is_shut = self.book.blocked.contains(space) || (self.shut.contains(space) && !self.book.following.contains_key(space));
        Ok(!is_shut && self.store.may_sync(remote, space, timeline)?)
    }

    fn spaces_of(&self, key: &PublicKey) -> Vec<PublicKey> {
        self.store.spaces_of(key)
    }

    fn is_member(&self, key: &PublicKey) -> bool {
        self.store.is_member(key)
    }

    fn readable(&self, space: &PublicKey) -> Result<Vec<TimelineId>, ReplicaError> {
        self.store.readable(space)
    }

    fn statements(&self) -> u64 {
        self.store.statements()
    }

    fn resume(&self, remote: &Remote, timeline: &TimelineId) -> Result<Option<Cursor>, ReplicaError> {
        let node = (*remote.node.as_bytes() != [0; 32]).then_some(remote.node);
        Ok(self.book.cursor(&id_of(remote, node), timeline))
    }

    fn local(&self, space: &PublicKey, timeline: &TimelineId) -> Result<Option<u32>, ReplicaError> {
        self.store.local(space, timeline)
    }

    fn heads(&self, t: u32, max: usize) -> Result<Vec<ChangeId>, ReplicaError> {
        self.store.heads(t, max)
    }

    fn end(&self, t: u32) -> Result<u64, ReplicaError> {
        self.store.end(t)
    }

    fn find(&self, t: u32, id: &ChangeId) -> Result<Option<u64>, ReplicaError> {
        self.store.find(t, id)
    }

    fn tips(&self, t: u32, after: Option<&Tip>, max: usize) -> Result<Vec<Tip>, ReplicaError> {
        self.store.tips(t, after, max)
    }

    fn bytes(&self, t: u32) -> Result<u64, ReplicaError> {
        self.store.bytes(t)
    }

    fn tips_of(&self, t: u32, author: &PublicKey) -> Result<Vec<(Tip, u64)>, ReplicaError> {
        self.store.tips_of(t, author)
    }

    fn at(&self, t: u32, author: &PublicKey, seq: u64) -> Result<Option<ChangeId>, ReplicaError> {
        self.store.at(t, author, seq)
    }

    fn arrivals(&self, t: u32, from: u64, max: usize) -> Result<Vec<(u64, timebus_store::ids::ChangeId)>, ReplicaError> {
        self.store.arrivals(t, from, max)
    }

    fn record(&self, t: u32, a: u64) -> Result<Vec<u8>, ReplicaError> {
        self.store.record(t, a)
    }

    fn author(&self, t: u32, a: u64) -> Result<PublicKey, ReplicaError> {
        self.store.author(t, a)
    }

    fn past(&self, t: u32, changes: &[u64]) -> Result<Box<dyn Past>, ReplicaError> {
        self.store.past(t, changes)
    }
}
