//! Peers that lie.

use std::cell::RefCell;

use timebus_identity::PublicKey;
use timebus_net::sync::{Cursor, Past, Remote, Replica, ReplicaError, Tip};
use timebus_store::ids::{ChangeId, TimelineId};

use crate::dice::Dice;
use crate::toy::Toy;

/// A store that says now and then what is not so.
pub(crate) struct Lying<'a> {
    toy: &'a Toy,
    dice: RefCell<&'a mut Dice>,
}

impl<'a> Lying<'a> {
    pub(crate) fn new(toy: &'a Toy, dice: &'a mut Dice) -> Self {
        Self { toy, dice: RefCell::new(dice) }
    }

    fn lies(&self, percent: u64) -> bool {
        self.dice.borrow_mut().percent(percent)
    }

    fn id(&self) -> ChangeId {
        ChangeId(self.dice.borrow_mut().bytes())
    }
}

impl Replica for Lying<'_> {
    fn incarnation(&self) -> [u8; 16] {
        self.toy.incarnation
    }

    fn may_sync(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<bool, ReplicaError> {
        self.toy.may_sync(remote, space, timeline)
    }

    fn resume(&self, remote: &Remote, timeline: &TimelineId) -> Result<Option<Cursor>, ReplicaError> {
        if self.lies(50) {
            let upto = self.dice.borrow_mut().any() % 100;
            let incarnation = if self.lies(50) { [1; 16] } else { remote.keys[0].as_bytes()[..16].try_into().expect("16 bytes") };
            return Ok(Some(Cursor { incarnation, upto }));
        }
        self.toy.resume(remote, timeline)
    }

    fn local(&self, space: &PublicKey, timeline: &TimelineId) -> Result<Option<u32>, ReplicaError> {
        self.toy.local(space, timeline)
    }

    fn heads(&self, t: u32, max: usize) -> Result<Vec<ChangeId>, ReplicaError> {
        let mut heads = self.toy.heads(t, max)?;
        if self.lies(50) {
            heads.pop();
        }
        if self.lies(50) {
            heads.push(self.id());
        }
        Ok(heads)
    }

    fn end(&self, t: u32) -> Result<u64, ReplicaError> {
        Ok(if self.lies(30) { 0 } else { self.toy.end(t)? })
    }

    fn find(&self, t: u32, id: &ChangeId) -> Result<Option<u64>, ReplicaError> {
        Ok(if self.lies(10) { None } else { self.toy.find(t, id)? })
    }

    fn tips(&self, t: u32, after: Option<&Tip>, max: usize) -> Result<Vec<Tip>, ReplicaError> {
        let mut tips = self.toy.tips(t, after, max)?;
        for tip in &mut tips {
            if self.lies(40) {
                tip.id = self.id();
            }
            if self.lies(40) {
                tip.seq = 1 + self.dice.borrow_mut().any() % 200;
            }
        }
        tips.sort();
        tips.dedup();
        Ok(tips)
    }

    fn tips_of(&self, t: u32, author: &PublicKey) -> Result<Vec<(Tip, u64)>, ReplicaError> {
        self.toy.tips_of(t, author)
    }

    fn at(&self, t: u32, author: &PublicKey, seq: u64) -> Result<Option<ChangeId>, ReplicaError> {
        Replica::at(self.toy, t, author, seq)
    }

    fn arrivals(&self, t: u32, from: u64, max: usize) -> Result<Vec<(u64, ChangeId)>, ReplicaError> {
        let mut rows = self.toy.arrivals(t, from, max)?;
        // Withholds some, whatever builds on them.
        rows.retain(|_| !self.lies(20));
        Ok(rows)
    }

    fn record(&self, t: u32, a: u64) -> Result<Vec<u8>, ReplicaError> {
        let mut record = self.toy.record(t, a)?;
        if self.lies(2) {
            let at = self.dice.borrow_mut().below(record.len());
            record[at] ^= 1;
        }
        Ok(record)
    }

    fn past(&self, t: u32, changes: &[u64]) -> Result<Box<dyn Past>, ReplicaError> {
        self.toy.past(t, changes)
    }
}
