//! Authors of whom one side takes nothing for now: what they wrote is not sent, and the other side learns from the signed
//! heads of their latest changes how much it is.
//!
//! A head commits to how many changes and bytes lead up to it, so one says what a thousand would. It is never stored: a
//! change without its body cannot be handed on, shown, or counted by others, and whoever has the changes keeps them. What
//! somebody else builds on such changes cannot be had without them; so the head of what it builds on is asked for too, and
//! above it is decided whether who built on it brings them.

use std::collections::BTreeSet;

use bytes::Bytes;
use timebus_identity::{PublicKey, Signed};
use timebus_store::change::Head;
use timebus_store::ids::ChangeId;

use super::{Channel, Halt, REFUSED_MAX, Shared};
use crate::sync::frame::{Code, Frame, WEIGHED_MAX};
use crate::sync::replica::{Replica, ReplicaError};
use crate::sync::session::{Fault, Output};

/// Authors that the other side of a channel may take nothing of, and those of whom we do not.
const AUTHORS_MAX: usize = 1024;
/// Heads, about 500 bytes each, and changes that others built on, that are remembered in the life of a link.
const KEPT_MAX: usize = 4096;
/// Bytes of changes that are read for one frame of heads: a change is read whole, and may be 1 MiB.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Milliseconds between two frames that say how much there is.
const PAUSE_MS: u64 = 1000;

impl Channel {
    /// Takes nothing more of these authors, and asks how much there is.
    pub(crate) fn hold(&mut self, authors: Vec<PublicKey>, shared: &mut Shared) {
        self.forget_cursor(shared);
        let mut authors: Vec<PublicKey> = authors.into_iter().filter(|author| !self.held.contains(author)).take(WEIGHED_MAX).collect();
        authors.sort_unstable();
        authors.dedup();
        if !authors.is_empty() && self.held.len() < AUTHORS_MAX {
            self.held.extend(&authors);
            shared.say(&Frame::Weigh { channel: self.number, authors, ids: Vec::new(), heads: Vec::new() });
        }
    }

    /// The other side takes nothing more of these authors, and asks how much there is of them, and before some changes.
    pub(crate) fn weigh(&mut self, authors: &[PublicKey], ids: &[ChangeId], shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let Some(t) = self.t.filter(|_| self.shows_all()) else { return Ok(()) };
        if !authors.is_empty() && self.not_taken.len() < AUTHORS_MAX {
            self.not_taken.extend(authors);
            self.to_weigh.extend(authors);
            shared.out.push(Output::NotTaken { timeline: self.timeline, authors: authors.to_vec() });
        }
        let (mut heads, mut read) = (Vec::new(), 0);
        for id in ids {
            if let Some(a) = self.find(id, replica)?
                && read < READ_BYTES_MAX
            {
                heads.extend(head(t, a, &mut read, replica)?);
            }
        }
        if !heads.is_empty() {
            shared.say(&Frame::Weigh { channel: self.number, authors: Vec::new(), ids: Vec::new(), heads });
        }
        Ok(())
    }

    /// Whether the other side does not take what arrived here as `a`. Then it is told how much there is.
    pub(crate) fn leaves_out(&mut self, t: u32, a: u64, replica: &dyn Replica) -> Result<bool, ReplicaError> {
        if self.not_taken.is_empty() {
            return Ok(false);
        }
        let author = replica.author(t, a)?;
        let is_left = self.not_taken.contains(&author);
        if is_left {
            self.to_weigh.insert(author);
        }
        Ok(is_left)
    }

    /// When [`Channel::say_weights`] has something to say.
    pub(crate) fn weigh_ms(&self) -> Option<u64> {
        (!self.to_weigh.is_empty()).then(|| self.weighed_ms + PAUSE_MS)
    }

    /// Says how much there is of those of whom nothing is taken, now and then.
    pub(crate) fn say_weights(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let Some(t) = self.t.filter(|_| self.weigh_ms().is_some_and(|at| at <= shared.now_ms)) else { return Ok(()) };
        self.weighed_ms = shared.now_ms;
        let authors: Vec<PublicKey> = self.to_weigh.iter().take(WEIGHED_MAX).copied().collect();
        let (mut heads, mut read) = (Vec::new(), 0);
        for author in authors {
            if read >= READ_BYTES_MAX {
                break;
            }
            self.to_weigh.remove(&author);
            // Of a chain that was forked, the longest branch.
            if let Some((_, a)) = replica.tips_of(t, &author)?.last() {
                heads.extend(head(t, *a, &mut read, replica)?);
            }
        }
        if !heads.is_empty() && self.shows_all() {
            shared.say(&Frame::Weigh { channel: self.number, authors: Vec::new(), ids: Vec::new(), heads });
        }
        Ok(())
    }

    /// Heads came, whose signatures are still to be checked.
    pub(crate) fn weighed(&mut self, heads: &[Bytes], shared: &mut Shared, replica: &dyn Replica) -> Result<(), Halt> {
        let mut all = Vec::new();
        for bytes in heads {
            let head = Head::decode(bytes).map_err(|error| Halt::Link(Fault::Frame(error)))?;
            let (id, header) = (head.content().id(), head.content().header());
            if header.timeline != self.timeline {
                return Err(Halt::Link(Fault::Rule("the head of a change of another timeline")));
            }
            let by = self.builders.remove(&id);
            // What nobody asked for is left alone.
            if by.is_none() && !self.held.contains(&header.author) {
                continue;
            }
            if self.find(&id, replica)?.is_none() && !self.is_near(&id, shared) {
                self.keep_head(&head, shared);
                let above = self.hold_back(id, id, shared)?;
                self.built_on(id, above, shared);
            }
            all.push((head, by.unwrap_or_default()));
        }
        self.tell_weights(all, shared);
        Ok(())
    }

    /// A change that is not taken for now, nor what builds on it, whose authors are answered. It is held back for the sake of
    /// `cause`: itself, or one that it builds on. Who sent it did nothing wrong.
    pub(crate) fn hold_back(&mut self, id: ChangeId, cause: ChangeId, shared: &mut Shared) -> Result<BTreeSet<PublicKey>, Halt> {
        self.forget_cursor(shared);
        let above = shared.pending.drop_above([id]);
        let by: BTreeSet<PublicKey> = above.iter().map(|(_, author)| *author).collect();
        for id in above.into_iter().map(|(id, _)| id).chain([id]) {
            if shared.refused.insert(id) {
                shared.held.insert(id);
            }
            if id != cause && shared.held.contains(&id) {
                self.held_for.entry(id).or_insert(cause);
            }
            self.wanted.remove(&id);
        }
        if shared.held.len() > REFUSED_MAX {
            return Err(Halt::Channel(Code::TooMuch, None));
        }
        Ok(by)
    }

    /// Others built on what is not taken.
    pub(crate) fn built_on(&mut self, id: ChangeId, by: BTreeSet<PublicKey>, shared: &mut Shared) {
        if by.is_empty() {
            return;
        }
        if let Some(head) = self.held_heads.get(&id).cloned() {
            self.tell_weights(vec![(head, by)], shared);
        } else if let Some(known) = self.builders.get_mut(&id) {
            known.extend(by);
        } else if shared.kept < KEPT_MAX {
            shared.kept += 1;
            self.builders.insert(id, by);
        }
    }

    pub(crate) fn keep_head(&mut self, head: &Signed<Head>, shared: &mut Shared) {
        if shared.kept < KEPT_MAX {
            shared.kept += 1;
            self.held_heads.insert(head.content().id(), head.clone());
        }
    }

    fn tell_weights(&self, heads: Vec<(Signed<Head>, BTreeSet<PublicKey>)>, shared: &mut Shared) {
        if !heads.is_empty() {
            shared.out.push(Output::Weighed { space: self.space, timeline: self.timeline, heads });
        }
    }

    /// Named changes did not come because nothing is taken of their authors: asks for their heads instead.
    pub(crate) fn ask_heads(&mut self, ids: Vec<ChangeId>, shared: &mut Shared) -> Result<(), Halt> {
        for id in &ids {
            let above = self.hold_back(*id, *id, shared)?;
            self.built_on(*id, above, shared);
        }
        let mut ids: Vec<ChangeId> = ids.into_iter().filter(|id| self.builders.contains_key(id)).collect();
        ids.sort_unstable();
        ids.truncate(WEIGHED_MAX);
        if !ids.is_empty() {
            shared.say(&Frame::Weigh { channel: self.number, authors: Vec::new(), ids, heads: Vec::new() });
        }
        Ok(())
    }
}

fn head(t: u32, a: u64, read: &mut usize, replica: &dyn Replica) -> Result<Option<Bytes>, ReplicaError> {
    let record = replica.record(t, a)?;
    *read += record.len();
    Ok(Head::part_of(&record).map(Bytes::copy_from_slice))
}
