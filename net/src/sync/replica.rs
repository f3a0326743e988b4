//! What a session reads of the store.

use std::fmt;

use timebus_identity::PublicKey;
use timebus_store::change::Header;
use timebus_store::codec::Reader;
use timebus_store::ids::{ChangeId, TimelineId};

use crate::sync::handshake::Remote;

/// A place in somebody's log: everything of one timeline that arrived there up to and with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which log.
    pub incarnation: [u8; 16],
    /// The arrival number.
    pub upto: u64,
}

/// A change that no other change of its author follows. Ordered by author, then `seq`, then id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tip {
    /// Who wrote it.
    pub author: PublicKey,
    /// Its place in the author's chain, from 1.
    pub seq: u64,
    /// The change.
    pub id: ChangeId,
}

/// The store could not be read; the link ends, and this says why.
#[derive(Debug, thiserror::Error)]
#[error("the store could not be read")]
pub struct ReplicaError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A set of changes of one timeline, named by arrival number, that is closed under "is built on".
pub trait Past: Send {
    /// Whether the change that arrived as `a` is in it.
    fn contains(&self, a: u64) -> bool;

    /// No number below this one is outside of it. A hint where to begin to look: 1 is always right.
    fn first_outside(&self) -> u64;
}

impl fmt::Debug for dyn Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Past({}..)", self.first_outside())
    }
}

/// One moment of the store, as a session sees it.
///
/// All answers within one call of [`Session::handle`] are about the same moment. From one call to the next changes only
/// come: what is here stays here under the same number, and what comes later gets a higher one. Everything that is
/// seen through this is durable. `t` is the local number of a timeline and `a` a local arrival number: ascending
/// within a timeline, from 1, with or without gaps.
///
/// [`Session::handle`]: crate::sync::Session::handle
pub trait Replica {
    /// Names this log; another one after a restored backup.
    fn incarnation(&self) -> [u8; 16];

    /// Whether a timeline is held here and this peer may have it. Takes as long for a timeline that is not here as for
    /// one that is not for this peer.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn may_sync(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<bool, ReplicaError>;

    /// Up to which arrival number this peer may have a timeline that it may have: who was let in once may know by what
    /// right that ended, and nothing that was stated later.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn until(&self, _remote: &Remote, _space: &PublicKey, _timeline: &TimelineId) -> Result<u64, ReplicaError> {
        Ok(u64::MAX)
    }

    /// The spaces whose device a key is or was, as far as is known here.
    fn spaces_of(&self, _key: &PublicKey) -> Vec<PublicKey> {
        Vec::new()
    }

    /// Whether anything is granted to a key in a space that is here.
    fn is_member(&self, _key: &PublicKey) -> bool {
        false
    }

    /// The timelines of values of a space that this peer itself may have, as far as is known here; none if nothing is.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn readable(&self, space: &PublicKey) -> Result<Vec<TimelineId>, ReplicaError>;

    /// Another number whenever something was stated about the rights in a space.
    fn statements(&self) -> u64;

    /// What was last told by [`Output::Resume`] for this peer and timeline.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    ///
    /// [`Output::Resume`]: crate::sync::Output::Resume
    fn resume(&self, remote: &Remote, timeline: &TimelineId) -> Result<Option<Cursor>, ReplicaError>;

    /// The local number of a timeline, if any change of it was ever here.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn local(&self, space: &PublicKey, timeline: &TimelineId) -> Result<Option<u32>, ReplicaError>;

    /// The changes that nothing builds on, at most `max`, the latest first.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn heads(&self, t: u32, max: usize) -> Result<Vec<ChangeId>, ReplicaError>;

    /// The highest arrival number in the timeline, or 0.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn end(&self, t: u32) -> Result<u64, ReplicaError>;

    /// The arrival number of a change of this timeline.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn find(&self, t: u32, id: &ChangeId) -> Result<Option<u64>, ReplicaError>;

    /// Tips in ascending order, those behind `after`, at most `max`. No more than 16 of one author.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn tips(&self, t: u32, after: Option<&Tip>, max: usize) -> Result<Vec<Tip>, ReplicaError>;

    /// How many bytes the changes of a timeline take, with what each counts for beside its body; of many authors as far as
    /// that is quickly told.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn bytes(&self, t: u32) -> Result<u64, ReplicaError>;

    /// The tips of one author with their arrival numbers, ascending by `seq`; at most 16.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn tips_of(&self, t: u32, author: &PublicKey) -> Result<Vec<(Tip, u64)>, ReplicaError>;

    /// A change at a place in an author's chain; any of them if he forked it.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn at(&self, t: u32, author: &PublicKey, seq: u64) -> Result<Option<ChangeId>, ReplicaError>;

    /// Changes in the order of arrival, from number `from` on, at most `max`.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn arrivals(&self, t: u32, from: u64, max: usize) -> Result<Vec<(u64, ChangeId)>, ReplicaError>;

    /// `header ‖ signature ‖ body` of the change that arrived as `a`.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn record(&self, t: u32, a: u64) -> Result<Vec<u8>, ReplicaError>;

    /// Who wrote the change that arrived as `a`.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn author(&self, t: u32, a: u64) -> Result<PublicKey, ReplicaError> {
        let record = self.record(t, a)?;
        let head = Header::decode(&mut Reader::new(&record)).map_err(|error| ReplicaError(Box::new(error)))?;
        Ok(head.author)
    }

    /// These changes and everything before them.
    ///
    /// # Errors
    ///
    /// [`ReplicaError`].
    fn past(&self, t: u32, changes: &[u64]) -> Result<Box<dyn Past>, ReplicaError>;
}
