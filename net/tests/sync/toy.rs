//! A store in memory that admits changes as the real one does: causes first, each once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use timebus_identity::{PublicKey, Signed};
use timebus_net::sync::{Cursor, Past, Remote, Replica, ReplicaError, Stored, Tip};
use timebus_store::change::Change;
use timebus_store::ids::{ChangeId, TimelineId};

use crate::dag::{Author, Place, change};

/// What the bytes of a change that is refused for good begin with, behind its header.
pub(crate) const REFUSED_BODY: &[u8] = b"refuse me";

pub(crate) struct Entry {
    pub(crate) a: u64,
    pub(crate) id: ChangeId,
    pub(crate) record: Vec<u8>,
    pub(crate) deps: Vec<ChangeId>,
    author: PublicKey,
    seq: u64,
    lamport: u64,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    index: HashMap<ChangeId, usize>,
    heads: Vec<ChangeId>,
    /// Each author's changes, and those that another one of his follows.
    chains: BTreeMap<PublicKey, BTreeSet<(u64, ChangeId)>>,
    followed: HashSet<ChangeId>,
}

impl Log {
    fn entry(&self, id: &ChangeId) -> Option<&Entry> {
        self.index.get(id).map(|at| &self.entries[*at])
    }

    fn place(&self, id: &ChangeId) -> Place {
        let entry = self.entry(id).expect("a change that is here");
        Place { id: entry.id, seq: entry.seq, lamport: entry.lamport }
    }

    pub(crate) fn tips_of(&self, author: &PublicKey) -> Vec<(Tip, u64)> {
        let Some(chain) = self.chains.get(author) else { return Vec::new() };
        let tips = chain.iter().filter(|(_, id)| !self.followed.contains(id));
        tips.map(|(seq, id)| (Tip { author: *author, seq: *seq, id: *id }, self.entry(id).expect("here").a)).take(16).collect()
    }
}

pub(crate) struct Toy {
    pub(crate) incarnation: [u8; 16],
    pub(crate) space: PublicKey,
    pub(crate) logs: Vec<(TimelineId, Log)>,
    pub(crate) cursors: BTreeMap<(PublicKey, TimelineId), Cursor>,
    /// Shared by all timelines, so that numbers have gaps.
    next_a: u64,
    /// Whether signatures are checked.
    pub(crate) strict: bool,
    /// Authors of whom nothing is taken.
    pub(crate) held: HashSet<PublicKey>,
    /// Spaces that get nothing.
    pub(crate) banned: HashSet<PublicKey>,
}

impl Toy {
    pub(crate) fn new(space: PublicKey, incarnation: u8) -> Self {
        Self {
            incarnation: [incarnation; 16],
            space,
            logs: Vec::new(),
            cursors: BTreeMap::new(),
            next_a: 1,
            strict: false,
            held: HashSet::new(),
            banned: HashSet::new(),
        }
    }

    pub(crate) fn t(&self, timeline: &TimelineId) -> Option<u32> {
        self.logs.iter().position(|(other, _)| other == timeline).map(|t| t as u32)
    }

    pub(crate) fn log(&self, timeline: &TimelineId) -> Option<&Log> {
        self.t(timeline).map(|t| &self.logs[t as usize].1)
    }

    pub(crate) fn ids(&self, timeline: &TimelineId) -> BTreeSet<ChangeId> {
        self.log(timeline).map_or_else(BTreeSet::new, |log| log.index.keys().copied().collect())
    }

    fn log_mut(&mut self, timeline: &TimelineId) -> &mut Log {
        let t = self.t(timeline).unwrap_or_else(|| {
            self.logs.push((*timeline, Log::default()));
            self.logs.len() as u32 - 1
        });
        &mut self.logs[t as usize].1
    }

    /// Writes on top of everything, or of something chosen.
    pub(crate) fn write(&mut self, author: &Author, timeline: TimelineId, on: Option<&[ChangeId]>, prev: Option<ChangeId>, body: Vec<u8>) -> Vec<u8> {
        let log = self.log_mut(&timeline);
        let heads: Vec<Place> = on.unwrap_or(&log.heads).iter().map(|id| log.place(id)).collect();
        let prev = prev.or_else(|| log.tips_of(&author.key).last().map(|(tip, _)| tip.id)).map(|id| log.place(&id));
        let record = change(author, timeline, prev, &heads, body);
        assert_eq!(self.admit(&record), Ok(true), "an own change");
        record
    }

    /// Takes a change in. False if it was here; the ids it lacks if it cannot be.
    pub(crate) fn admit(&mut self, record: &[u8]) -> Result<bool, Vec<ChangeId>> {
        let signed = Change::decode(record).expect("a change");
        let change = signed.content();
        let header = change.header();
        let a = self.next_a;
        let log = self.log_mut(&header.timeline);
        if log.index.contains_key(&change.id()) {
            return Ok(false);
        }
        let deps: Vec<ChangeId> = header.deps().copied().collect();
        let missing: Vec<ChangeId> = deps.iter().filter(|id| !log.index.contains_key(*id)).copied().collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        log.index.insert(change.id(), log.entries.len());
        log.heads.retain(|head| !deps.contains(head));
        log.heads.push(change.id());
        log.followed.extend(header.prev);
        log.chains.entry(header.author).or_default().insert((header.seq, change.id()));
        let (author, seq, lamport) = (header.author, header.seq, header.lamport);
        log.entries.push(Entry { a, id: change.id(), record: record.to_vec(), deps, author, seq, lamport });
        self.next_a += 1;
        Ok(true)
    }

    /// What the driver does with changes that came.
    pub(crate) fn store(&mut self, ticket: u64, changes: Vec<Signed<Change>>) -> Stored {
        let mut stored = Stored { ticket, ..Stored::default() };
        for signed in changes {
            let id = signed.content().id();
            let mut record = Vec::new();
            signed.content().write(signed.signature(), &mut record);
            if self.strict && signed.clone().verify().is_err() {
                stored.bad_signatures.push(id);
            } else if signed.content().body_bytes().starts_with(REFUSED_BODY) {
                stored.refused.push(id);
            } else if self.held.contains(&signed.content().header().author) {
                stored.held.push(id);
            } else {
                match self.admit(&record) {
                    Ok(_) => stored.admitted.push(id),
                    Err(missing) => stored.pending.push((id, missing)),
                }
            }
        }
        stored
    }

    pub(crate) fn is_by(&self, timeline: &TimelineId, id: &ChangeId, author: &PublicKey) -> bool {
        self.log(timeline).and_then(|log| log.entry(id)).is_some_and(|entry| entry.author == *author)
    }

    fn of(&self, t: u32) -> Result<&Log, ReplicaError> {
        self.logs.get(t as usize).map(|(_, log)| log).ok_or_else(|| ReplicaError("no such timeline".into()))
    }
}

struct Set {
    arrivals: HashSet<u64>,
    first_outside: u64,
}

impl Past for Set {
    fn contains(&self, a: u64) -> bool {
        self.arrivals.contains(&a)
    }

    fn first_outside(&self) -> u64 {
        self.first_outside
    }
}

impl Replica for Toy {
    fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    fn may_sync(&self, remote: &Remote, _: &PublicKey, timeline: &TimelineId) -> Result<bool, ReplicaError> {
        Ok(!self.banned.contains(&remote.space) && self.t(timeline).is_some())
    }

    fn readable(&self, _: &PublicKey) -> Result<Vec<TimelineId>, ReplicaError> {
        Ok(Vec::new())
    }

    fn statements(&self) -> u64 {
        0
    }

    fn resume(&self, remote: &Remote, timeline: &TimelineId) -> Result<Option<Cursor>, ReplicaError> {
        Ok(self.cursors.get(&(remote.space, *timeline)).copied())
    }

    fn local(&self, _: &PublicKey, timeline: &TimelineId) -> Result<Option<u32>, ReplicaError> {
        Ok(self.t(timeline))
    }

    fn heads(&self, t: u32, max: usize) -> Result<Vec<ChangeId>, ReplicaError> {
        Ok(self.of(t)?.heads.iter().rev().take(max).copied().collect())
    }

    fn end(&self, t: u32) -> Result<u64, ReplicaError> {
        Ok(self.of(t)?.entries.last().map_or(0, |entry| entry.a))
    }

    fn find(&self, t: u32, id: &ChangeId) -> Result<Option<u64>, ReplicaError> {
        Ok(self.of(t)?.entry(id).map(|entry| entry.a))
    }

    fn tips(&self, t: u32, after: Option<&Tip>, max: usize) -> Result<Vec<Tip>, ReplicaError> {
        let log = self.of(t)?;
        let all = log.chains.keys().flat_map(|author| log.tips_of(author)).map(|(tip, _)| tip);
        Ok(all.filter(|tip| after.is_none_or(|after| tip > after)).take(max).collect())
    }

    fn bytes(&self, t: u32) -> Result<u64, ReplicaError> {
        Ok(self.of(t)?.entries.iter().map(|entry| entry.record.len() as u64).sum())
    }

    fn tips_of(&self, t: u32, author: &PublicKey) -> Result<Vec<(Tip, u64)>, ReplicaError> {
        Ok(self.of(t)?.tips_of(author))
    }

    fn at(&self, t: u32, author: &PublicKey, seq: u64) -> Result<Option<ChangeId>, ReplicaError> {
        let chain = self.of(t)?.chains.get(author);
        Ok(chain.and_then(|chain| chain.range((seq, ChangeId([0; 32]))..).next()).filter(|(found, _)| *found == seq).map(|(_, id)| *id))
    }

    fn arrivals(&self, t: u32, from: u64, max: usize) -> Result<Vec<(u64, ChangeId)>, ReplicaError> {
        let entries = &self.of(t)?.entries;
        let first = entries.partition_point(|entry| entry.a < from);
        Ok(entries[first..].iter().take(max).map(|entry| (entry.a, entry.id)).collect())
    }

    fn record(&self, t: u32, a: u64) -> Result<Vec<u8>, ReplicaError> {
        let entries = &self.of(t)?.entries;
        let at = entries.binary_search_by_key(&a, |entry| entry.a).map_err(|_| ReplicaError("no such change".into()))?;
        Ok(entries[at].record.clone())
    }

    fn past(&self, t: u32, changes: &[u64]) -> Result<Box<dyn Past>, ReplicaError> {
        let log = self.of(t)?;
        let mut arrivals = HashSet::new();
        let mut queue: Vec<u64> = changes.to_vec();
        while let Some(a) = queue.pop() {
            if arrivals.insert(a) {
                let at = log.entries.binary_search_by_key(&a, |entry| entry.a).map_err(|_| ReplicaError("no such change".into()))?;
                queue.extend(log.entries[at].deps.iter().filter_map(|dep| log.entry(dep)).map(|entry| entry.a));
            }
        }
        let first_outside = log.entries.iter().map(|entry| entry.a).find(|a| !arrivals.contains(a)).unwrap_or(u64::MAX);
        let last = log.entries.last().map_or(0, |entry| entry.a);
        Ok(Box::new(Set { arrivals, first_outside: first_outside.min(last + 1) }))
    }
}
