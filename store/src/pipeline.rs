//! The one place where changes enter the state: admission, numbering and folding, one after another.
//!
//! A [`Pipeline`] works on rows that are not committed yet. It is driven by the writer thread for new changes and
//! by the opening of the store for changes that are in the log and not in the tables.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use timebus_identity::{PublicKey, SecretKey};

use crate::asked::{Asked, Mark, mark};
use crate::auth::{CapError, Changed, Rights};
use crate::change::{Body, Change, Header, Kind, LAMPORT_MAX, OVERHEAD_BYTES, PARENTS_MAX};
use crate::codec::{Reader, Writer};
use crate::fold::{Bodies, Effect, Fold, KnownChange};
use crate::ids::{ChangeId, GrantId, TimelineId};
use crate::keyspace::{Layered, Rows, Table};
use crate::log::{Place, allot};
use crate::op::Op;
use crate::path::Path;
use crate::quarantine::{concerned, keep_list, suppose};
use crate::store::StorageError;
use crate::summary::{EXCEPT_MAX, Summary, change_key, find, summary};
use crate::tips::heads;
use crate::view::View;
use crate::vouch::{Judge, ends_of, oldest_unrooted, unrooted};
use crate::writer::Asker;

/// Local number of the own space's `auth` timeline.
pub const AUTH: u32 = 0;
/// Local number of the own space's `main` timeline.
pub const MAIN: u32 = 1;
/// Most hidden changes that are looked for beside a new one; with more, questions about the past take longer.
const BESIDE_MAX: usize = 65_536;
/// Arrival numbers whose heads are in one row: as many as somebody makes who forks his chain again and again, and not all of
/// them are to be written anew with each change.
const HEADS_STRETCH: u64 = 1024;
/// Local numbers that each space has: `auth`, `main`, and two that later timelines may use.
const TIMELINES: u32 = 4;
/// Local number of the first mounted timeline; from here on they are numbered as they become known, whatever their space.
const MOUNTED: u32 = 1 << 31;

/// Whether a local number is that of an `auth` timeline.
#[must_use]
pub fn is_auth(t: u32) -> bool {
    t < MOUNTED && t % TIMELINES == AUTH
}

/// A space that is held here, and one of its timelines of values: `main`, or one that is mounted at the path that
/// somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space {
    /// Its key.
    pub key: PublicKey,
    /// Its place among the spaces held here; the own space is the first, 0.
    number: u32,
    /// Local number of the timeline of values.
    values: u32,
}

impl Space {
    /// The `number`-th space held here, with its `main`.
    #[must_use]
    pub fn new(key: PublicKey, number: u32) -> Self {
        Self { key, number, values: number * TIMELINES + MAIN }
    }

    /// The same space, with another of its timelines of values.
    #[must_use]
    pub(crate) fn with(self, values: u32) -> Self {
        Self { values, ..self }
    }

    /// The same space, with its `main`.
    #[must_use]
    pub fn unmounted(self) -> Self {
        Self::new(self.key, self.number)
    }

    /// Local number of its `auth` timeline.
    #[must_use]
    pub fn auth(&self) -> u32 {
        self.number * TIMELINES + AUTH
    }

    /// Local number of the timeline of values that is looked at: `main`, unless [`Store::at`] found another one.
    ///
    /// [`Store::at`]: crate::store::Store::at
    #[must_use]
    pub fn main(&self) -> u32 {
        self.values
    }

    /// Whether it is the space of this home.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.number == 0
    }
}

/// Why a change was not admitted. Every peer decides the same way, except for what is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Fetch these first, then offer the change again.
    #[error("change {change} builds on {} changes we do not have", missing.len())]
    Pending {
        /// The change.
        change: ChangeId,
        /// What it builds on.
        missing: Vec<ChangeId>,
    },
    /// The timeline is not one of ours, or the change's kind is not the timeline's.
    #[error("change {change} is of timeline {timeline}, which is not held here")]
    Timeline {
        /// The change.
        change: ChangeId,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// The place in the author's chain does not follow from `prev`.
    #[error("seq, cumulative bytes or Lamport clock of change {0} do not follow from what it builds on")]
    Chain(ChangeId),
    /// The statement that would allow it is not here. Offer the change again when more of `auth` is.
    #[error("change {change} is in the name of a right that is not known here")]
    Rights {
        /// The change.
        change: ChangeId,
        /// Why.
        #[source]
        source: CapError,
    },
    /// The cap does not allow it.
    #[error("change {change} is not allowed")]
    Cap {
        /// The change.
        change: ChangeId,
        /// Why.
        #[source]
        source: CapError,
    },
}

impl Refusal {
    /// The change that was not admitted.
    #[must_use]
    pub fn change(&self) -> ChangeId {
        match self {
            Self::Pending { change, .. }
            | Self::Timeline { change, .. }
            | Self::Chain(change)
            | Self::Rights { change, .. }
            | Self::Cap { change, .. } => *change,
        }
    }
}

/// A timeline: its frontier, and what the next header needs.
#[derive(Clone, Debug)]
struct Line {
    id: TimelineId,
    /// Number of its space.
    space: u32,
    /// The lowest `seq` with two changes, of the authors that have one; in timelines of values.
    forks: HashMap<PublicKey, u64>,
    /// The first change that is not rooted, if there is one; in timelines of values.
    oldest_unrooted: Option<u64>,
    /// The changes nothing builds on yet: arrival number, id, Lamport clock.
    heads: Vec<(u64, ChangeId, u64)>,
    /// Whether the tables have all of them in one row, as they had before.
    heads_in_one_row: bool,
    /// The last change of each author that was asked for.
    tips: HashMap<PublicKey, Option<Tip>>,
    /// What to build on instead of heads that have no effect, as far as nothing of ours builds on it yet.
    instead: HashMap<u64, Vec<(u64, ChangeId, u64)>>,
    /// What was met on the way to them.
    met: HashSet<u64>,
}

impl Line {
    fn new(id: TimelineId, space: u32) -> Self {
        Self {
            id,
            space,
            forks: HashMap::new(),
            oldest_unrooted: None,
            heads: Vec::new(),
            heads_in_one_row: false,
            tips: HashMap::new(),
            instead: HashMap::new(),
            met: HashSet::new(),
        }
    }

    /// Takes those of some changes, or all, out of the heads that something builds on now. Answers which were heads.
    fn build_on(&mut self, deps: &[u64], all: bool) -> Vec<u64> {
        if all {
            return std::mem::take(&mut self.heads).into_iter().map(|(a, ..)| a).collect();
        }
        let mut found = Vec::new();
        for dep in deps {
            if let Ok(at) = self.heads.binary_search_by_key(dep, |(a, ..)| *a) {
                self.heads.remove(at);
                found.push(*dep);
            }
        }
        found
    }
}

/// An author's last change.
#[derive(Clone, Copy, Debug)]
struct Tip {
    id: ChangeId,
    a: u64,
    seq: u64,
    lamport: u64,
    cum: u64,
}

/// What is kept at hand of a space.
#[derive(Debug)]
struct Held {
    space: Space,
    rights: Rights,
}

/// Takes changes in.
#[derive(Debug)]
pub struct Pipeline {
    /// The tables, with what was taken in since the last commit.
    pub rows: Layered,
    /// Bodies at hand.
    pub bodies: Bodies,
    /// The spaces, by number.
    spaces: Vec<Held>,
    /// The timelines, by local number.
    lines: BTreeMap<u32, Line>,
    /// Local numbers of the timelines.
    timelines: HashMap<TimelineId, u32>,
    /// Authors of whom it was learnt that they forked their chains further down than was known, by timeline, with the last change
    /// that showed that, until [`Pipeline::settle`].
    unsettled: BTreeMap<u32, (u64, BTreeSet<PublicKey>)>,
    next_a: u64,
    next_place: Place,
}

/// A change that was taken in.
#[derive(Debug)]
pub struct Taken {
    /// In which timeline.
    pub t: u32,
    /// Its arrival number.
    pub a: u64,
    /// Where its record goes.
    pub place: Place,
    /// What it, or the run it completes, did, by timeline of values. Nothing for a part of a run that is not complete; a
    /// statement about rights may hide values, or show them again, in several timelines.
    pub effects: Vec<(u32, Effect)>,
}

impl Pipeline {
    /// Goes on from the state in the tables.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn new(rows: Layered, bodies: Bodies, own: PublicKey) -> Result<Self, StorageError> {
        let mut pipeline = Self {
            rows,
            bodies,
            spaces: Vec::new(),
            lines: BTreeMap::new(),
            timelines: HashMap::new(),
            unsettled: BTreeMap::new(),
            next_a: 1,
            next_place: Place::START,
        };
        pipeline.hold(own);
        pipeline.reset()?;
        Ok(pipeline)
    }

    /// Forgets everything that is not in the tables, and reads the rest from there.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn reset(&mut self) -> Result<(), StorageError> {
        self.rows.staged = crate::keyspace::Staged::default();
        self.bodies.reset();
        self.unsettled.clear();
        (self.next_a, self.next_place) = match self.rows.get(Table::Meta, APPLIED)? {
            Some(row) => decode_applied(&row)?,
            None => (1, Place::START),
        };
        let own = self.spaces[0].space.key;
        self.spaces.clear();
        self.lines.clear();
        self.timelines.clear();
        self.hold(own);
        let rows: Vec<_> = self.rows.scan(Table::Meta, SPACES, None).collect::<Result<_, _>>()?;
        for (key, value) in rows {
            let damaged = || StorageError::Damaged { table: Table::Meta.name() };
            let number = key.last_chunk::<4>().map(|number| u32::from_be_bytes(*number)).ok_or_else(damaged)?;
            let space = PublicKey::from_bytes(value.as_ref().try_into().map_err(|_| damaged())?);
            if number != self.spaces.len() as u32 {
                return Err(damaged());
            }
            self.hold(space);
        }
        let rows: Vec<_> = self.rows.scan(Table::Meta, MOUNTS, None).collect::<Result<_, _>>()?;
        for (key, value) in rows {
            let damaged = || StorageError::Damaged { table: Table::Meta.name() };
            let t = key.last_chunk::<4>().map(|t| u32::from_be_bytes(*t)).ok_or_else(damaged)?;
            let (space, id) = value.split_first_chunk::<4>().ok_or_else(damaged)?;
            let (space, id) = (u32::from_be_bytes(*space), TimelineId(id.try_into().map_err(|_| damaged())?));
            if t != self.next_mounted() || space as usize >= self.spaces.len() {
                return Err(damaged());
            }
            self.add_line(t, id, space);
        }
        let all: Vec<u32> = self.lines.keys().copied().collect();
        for t in all {
            for a in heads(&self.rows, t)? {
                let head = summary(&self.rows, t, a)?;
                self.line(t).heads.push((a, head.id, head.lamport));
            }
            self.line(t).heads_in_one_row = self.rows.get(Table::Meta, &heads_prefix(t))?.is_some();
            if is_auth(t) {
                continue;
            }
            let forks = forks(&self.rows, t)?;
            self.line(t).forks.extend(forks);
            self.line(t).oldest_unrooted = oldest_unrooted(&self.rows, t)?;
        }
        for number in 0..self.spaces.len() {
            let space = self.spaces[number].space;
            // The statements of a space are few; they are folded anew at every start.
            let changes: Vec<u64> = self
                .rows
                .scan(Table::Change, &space.auth().to_be_bytes(), None)
                .map(|row| Ok(row?.0.last_chunk::<8>().map_or(0, |a| u64::from_be_bytes(*a))))
                .collect::<Result<_, StorageError>>()?;
            let mut statements = Vec::with_capacity(changes.len());
            for a in changes {
                let record = self.bodies.record(&self.rows, space.auth(), a)?;
                let body = Body::decode(record.body_bytes()).unwrap_or_default();
                statements.push((record.id(), record.header().clone(), body));
            }
            self.spaces[number].rights.learn_all(statements);
        }
        Ok(())
    }

    /// Gives a space a number.
    fn hold(&mut self, key: PublicKey) -> Space {
        let space = Space::new(key, self.spaces.len() as u32);
        self.add_line(space.auth(), TimelineId::named(&key, "auth"), space.number);
        self.add_line(space.main(), TimelineId::named(&key, "main"), space.number);
        self.spaces.push(Held { space, rights: Rights::new(key) });
        space
    }

    fn add_line(&mut self, t: u32, id: TimelineId, space: u32) {
        self.timelines.insert(id, t);
        self.lines.insert(t, Line::new(id, space));
    }

    fn next_mounted(&self) -> u32 {
        self.lines.last_key_value().map_or(MOUNTED, |(t, _)| (t + 1).max(MOUNTED))
    }

    /// Gives numbers to the timelines that a statement mounts.
    fn mount(&mut self, number: u32, id: &ChangeId) {
        let rights = &self.spaces[number as usize].rights;
        let mut made: Vec<_> = rights.mounts().filter(|mount| mount.op.change == *id).map(|mount| (mount.op, mount.timeline)).collect();
        made.sort_unstable();
        for (_, timeline) in made {
            let t = self.next_mounted();
            self.rows.staged.put(Table::Meta, mount_key(t), [&number.to_be_bytes()[..], timeline.as_bytes()].concat());
            self.add_line(t, timeline, number);
        }
    }

    /// The mounted timelines of a space with their local numbers, those too that do not show.
    #[must_use]
    pub fn mounted(&self, space: Space) -> Vec<(TimelineId, u32)> {
        self.lines.range(MOUNTED..).filter(|(_, line)| line.space == space.number).map(|(t, line)| (line.id, *t)).collect()
    }

    /// Local numbers of the timelines of values of a space.
    pub(crate) fn values(&self, space: Space) -> Vec<u32> {
        let main = space.unmounted().main();
        [main].into_iter().chain(self.mounted(space).into_iter().map(|(_, t)| t)).collect()
    }

    /// A space with the timeline that a path is in.
    #[must_use]
    pub fn at(&self, space: Space, path: &Path) -> Space {
        let mount = self.rights(space.auth()).mount_of(path);
        let t = mount.and_then(|mount| self.timelines.get(&mount.timeline));
        t.map_or(space.unmounted(), |t| space.with(*t))
    }

    /// The spaces held here; the own one first.
    pub fn spaces(&self) -> impl Iterator<Item = Space> + '_ {
        self.spaces.iter().map(|held| held.space)
    }

    /// The space that a timeline belongs to.
    #[must_use]
    pub fn space_of(&self, t: u32) -> Space {
        self.spaces[self.number_of(t)].space
    }

    /// The number of the space that a timeline belongs to.
    fn number_of(&self, t: u32) -> usize {
        if t < MOUNTED { (t / TIMELINES) as usize } else { self.lines.get(&t).map_or(0, |line| line.space as usize) }
    }

    /// The statements of the space that a timeline belongs to.
    #[must_use]
    pub fn rights(&self, t: u32) -> &Rights {
        &self.spaces[self.number_of(t)].rights
    }

    fn line(&mut self, t: u32) -> &mut Line {
        self.lines.get_mut(&t).expect("numbers are given out with their lines")
    }

    /// The first change of a timeline that is not rooted.
    fn oldest(&self, t: u32) -> Option<u64> {
        self.lines.get(&t).and_then(|line| line.oldest_unrooted)
    }

    /// Where the next record goes.
    #[must_use]
    pub fn next_place(&self) -> Place {
        self.next_place
    }

    /// The arrival number of the next change.
    #[must_use]
    pub fn next_a(&self) -> u64 {
        self.next_a
    }

    /// Skips damaged bytes of the log.
    pub fn skip_to(&mut self, a: u64, place: Place) {
        self.next_a = self.next_a.max(a);
        self.next_place = place;
    }

    /// How many changes nothing builds on yet.
    #[must_use]
    pub fn heads(&self, t: u32) -> usize {
        self.lines.get(&t).map_or(0, |line| line.heads.len())
    }

    fn tip(&mut self, t: u32, author: &PublicKey) -> Result<Option<Tip>, StorageError> {
        if let Some(tip) = self.line(t).tips.get(author) {
            return Ok(*tip);
        }
        let tip = match self.rows.get(Table::Meta, &tip_key(t, author))? {
            Some(row) => {
                let a = u64::from_be_bytes(row.as_ref().try_into().map_err(|_| StorageError::Damaged { table: Table::Meta.name() })?);
                let Summary { id, seq, lamport, cum, .. } = summary(&self.rows, t, a)?;
                Some(Tip { id, a, seq, lamport, cum })
            }
            None => None,
        };
        self.line(t).tips.insert(*author, tip);
        Ok(tip)
    }

    /// What a new change is made on top of: the heads, and where one has no effect, what is before it. Building on it
    /// would bring it back.
    pub(crate) fn heads_in_effect(&mut self, t: u32) -> Result<Vec<(u64, ChangeId, u64)>, StorageError> {
        let heads = self.line(t).heads.clone();
        let Some(oldest) = self.oldest(t) else { return Ok(heads) };
        let mut found = Vec::with_capacity(heads.len());
        let mut instead = std::mem::take(&mut self.line(t).instead);
        let mut met = std::mem::take(&mut self.line(t).met);
        for head in heads {
            if !instead.contains_key(&head.0) {
                let shows = head.0 < oldest || unrooted(&self.rows, t, head.0)?.is_none();
                let before = if shows { None } else { self.judge(t, |judge, _| judge.before_hidden(head.0, &instead, &mut met))? };
                match before {
                    Some(before) => drop(instead.insert(head.0, before)),
                    None => found.push(head),
                }
            }
            found.extend(instead.get(&head.0).into_iter().flatten());
        }
        let line = self.line(t);
        (line.instead, line.met) = (instead, met);
        Ok(found)
    }

    /// What a new change of an author would be made on top of that is not his own, in order of arrival.
    pub(crate) fn parents(&mut self, t: u32, author: &PublicKey) -> Result<Vec<(u64, ChangeId, u64)>, StorageError> {
        let tip = self.tip(t, author)?;
        let mut heads = self.heads_in_effect(t)?;
        heads.retain(|(a, ..)| tip.is_none_or(|tip| *a != tip.a));
        heads.sort_unstable();
        heads.dedup();
        Ok(heads)
    }

    /// Makes a change on top of everything that is here and has an effect.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn author(&mut self, t: u32, author: PublicKey, cap: Option<GrantId>, time_ms: u64, body: &Body) -> Result<Change, StorageError> {
        let parents = self.parents(t, &author)?;
        self.author_on(t, author, cap, time_ms, body, &parents)
    }

    /// Makes a change on top of these, or as many of them as one can be made on, and of the author's last one.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub(crate) fn author_on(
        &mut self,
        t: u32,
        author: PublicKey,
        cap: Option<GrantId>,
        time_ms: u64,
        body: &Body,
        parents: &[(u64, ChangeId, u64)],
    ) -> Result<Change, StorageError> {
        let body_bytes = encoded(body)?;
        let tip = self.tip(t, &author)?;
        let timeline = self.line(t).id;
        let mut parents: Vec<(ChangeId, u64)> = parents.iter().map(|(_, id, lamport)| (*id, *lamport)).collect();
        parents.sort_unstable();
        parents.truncate(PARENTS_MAX);
        let newest = parents.iter().map(|(_, lamport)| *lamport).chain(tip.map(|tip| tip.lamport)).max();
        let body_len = body_bytes.len() as u64;
        let header = Header {
            kind: if is_auth(t) { Kind::Auth } else { Kind::Data },
            timeline,
            author,
            seq: tip.map_or(1, |tip| tip.seq + 1),
            prev: tip.map(|tip| tip.id),
            cap,
            parents: parents.into_iter().map(|(id, _)| id).collect(),
            lamport: newest.map_or(1, |lamport| lamport + 1),
            time_ms,
            cum: tip.map_or(0, |tip| tip.cum) + OVERHEAD_BYTES + body_len,
            body_len,
            body_root: *blake3::hash(&body_bytes).as_bytes(),
            encryption: None,
        };
        Ok(Change::of_own_body(header, body_bytes))
    }

    /// Makes a change on top of one that [`Pipeline::author`] made and that need not be taken in yet.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn author_next(before: &Change, body: &Body) -> Result<Change, StorageError> {
        let body_bytes = encoded(body)?;
        let body_len = body_bytes.len() as u64;
        let last = before.header();
        let header = Header {
            seq: last.seq + 1,
            prev: Some(before.id()),
            parents: Vec::new(),
            lamport: last.lamport + 1,
            cum: last.cum + OVERHEAD_BYTES + body_len,
            body_len,
            body_root: *blake3::hash(&body_bytes).as_bytes(),
            ..last.clone()
        };
        Ok(Change::of_own_body(header, body_bytes))
    }

    /// Checks that the grant that a change of a timeline held here is in the name of allows it: the rule A7 of `FORMAT.md`.
    ///
    /// # Errors
    ///
    /// [`CapError`].
    pub fn check_cap(&self, t: u32, change: &Change) -> Result<(), CapError> {
        let (rights, header) = (self.rights(t), change.header());
        match header.kind {
            Kind::Auth => rights.check_statements(header, change.body_bytes()),
            _ => rights.check(header),
        }
        .map(drop)
    }

    /// Checks that a change may be admitted: the rules A3 to A7 of `FORMAT.md`. Signature and hash were checked
    /// by whoever made the [`Change`].
    ///
    /// # Errors
    ///
    /// Outside, [`StorageError`]; inside, [`Refusal`].
    pub fn check(&mut self, change: &Change) -> Result<Result<(), Refusal>, StorageError> {
        let header = change.header();
        let elsewhere = Err(Refusal::Timeline { change: change.id(), timeline: header.timeline });
        let Some(t) = self.timelines.get(&header.timeline).copied() else {
            // The first change of a space is its root's, in `auth`. So the space is known by it.
            return Ok(if begins_space(header) { Ok(()) } else { elsewhere });
        };
        if header.kind != if is_auth(t) { Kind::Auth } else { Kind::Data } {
            return Ok(elsewhere);
        }
        let mut missing = Vec::new();
        let mut lamport = 0;
        let mut prev = None;
        for dep in header.deps() {
            match find(&self.rows, dep)? {
                Some((found, a)) if found == t => {
                    let known = summary(&self.rows, t, a)?;
                    lamport = lamport.max(known.lamport);
                    if header.prev == Some(*dep) {
                        prev = Some(known);
                    }
                }
                Some(_) => return Ok(Err(Refusal::Chain(change.id()))),
                None => missing.push(*dep),
            }
        }
        if !missing.is_empty() {
            return Ok(Err(Refusal::Pending { change: change.id(), missing }));
        }
        let own = OVERHEAD_BYTES + header.body_len;
        let follows = match (&prev, header.prev) {
            (Some(prev), Some(_)) => prev.author == header.author && header.seq == prev.seq + 1 && header.cum == prev.cum.saturating_add(own),
            (None, None) => header.seq == 1 && header.cum == own,
            _ => false,
        };
        if !follows || header.lamport != lamport + 1 || header.lamport > LAMPORT_MAX {
            return Ok(Err(Refusal::Chain(change.id())));
        }
        match self.check_cap(t, change) {
            Ok(()) => {}
            // The statement that it needs may come yet; which change has it cannot be told from the grant's id.
            Err(source) if source.is_pending() => return Ok(Err(Refusal::Rights { change: change.id(), source })),
            Err(source) => return Ok(Err(Refusal::Cap { change: change.id(), source })),
        }
        Ok(Ok(()))
    }

    /// Whether the timeline of a change is held here, or begins with it.
    #[must_use]
    pub fn is_held(&self, header: &Header) -> bool {
        self.timelines.contains_key(&header.timeline) || begins_space(header)
    }

    /// Whether a change is here already.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn knows(&self, id: &ChangeId) -> Result<bool, StorageError> {
        Ok(find(&self.rows, id)?.is_some())
    }

    /// Takes an admitted change in: numbers it, remembers it, and folds it or the run it completes. Before anything is read or
    /// committed [`Pipeline::settle`] has to be called, once for as many as come together.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn take(&mut self, change: &Change, body: Option<Body>, payload_len: usize) -> Result<Taken, StorageError> {
        let (place, next) = allot(self.next_place, payload_len);
        self.next_place = next;
        let a = self.next_a;
        self.next_a += 1;
        let header = change.header();
        let t = match self.timelines.get(&header.timeline) {
            Some(t) => *t,
            None if !begins_space(header) => return Err(StorageError::Damaged { table: "change log" }),
            None => {
                let space = self.hold(header.author);
                self.rows.staged.put(Table::Meta, space_key(space.number), header.author.as_bytes().to_vec());
                space.auth()
            }
        };
        // What is encrypted cannot be read here, so it has no effect here.
        let encrypted = header.encryption.is_some();
        let body = body.unwrap_or_else(|| if encrypted { Body::default() } else { Body::decode(change.body_bytes()).unwrap_or_default() });
        let mut deps = Vec::new();
        for dep in header.deps() {
            deps.extend(find(&self.rows, dep)?.map(|(_, a)| a));
        }
        let line = self.line(t);
        // What it stands on was damaged in the log. It is taken to have seen all that came before, so that what
        // it and those after it replaced or removed does not come back.
        let has_seen_all = deps.len() < header.deps().count();
        let built_on = line.build_on(&deps, has_seen_all);
        line.instead.values_mut().for_each(|before| before.retain(|(a, ..)| !deps.contains(a)));
        let total = line.heads.is_empty();
        self.tip(t, &header.author)?;
        let is_tip = self.line(t).tips.get(&header.author).copied().flatten().is_none_or(|tip| tip.seq < header.seq);
        let fork = !is_tip && self.rows.scan(Table::Chain, &chain_prefix(t, &header.author, header.seq), None).next().is_some();
        // What forks a chain where it was forked before, or further up, changes nothing for others.
        let fork = fork && forked(&self.rows, t, &header.author)?.is_none_or(|seq| header.seq < seq);
        let is_rooted = !fork
            && self.line(t).forks.get(&header.author).is_none_or(|seq| header.seq < *seq)
            && self.rights(t).rooted(&header.author, header.cap.as_ref());
        let except = if total { Vec::new() } else { self.beside(t, a, &deps, is_rooted)? };
        let base = match &body.base {
            Some(ids) => {
                // Only what lies in its past: what else is here depends on the order of arrival.
                let past = if total { View::upto(Some(a)) } else { View::past_of(&self.rows, t, &deps)? };
                let mut base = Vec::new();
                for id in ids {
                    base.extend(find(&self.rows, id)?.filter(|(found, a)| *found == t && past.contains(*a)).map(|(_, a)| a));
                }
                Some(base)
            }
            None => None,
        };
        let refs = if is_auth(t) { Vec::new() } else { self.named(t, a, &deps, total, &body)? };
        let line = self.line(t);
        line.heads.push((a, change.id(), header.lamport));
        let own = Summary {
            id: change.id(),
            place,
            author: header.author,
            cap: header.cap,
            seq: header.seq,
            lamport: header.lamport,
            time_ms: header.time_ms,
            cum: header.cum,
            deps,
            refs,
            base,
            total,
            except,
            part: body.part.map(|part| (part.number, part.count)),
            folded: false,
            label: body.label.clone(),
            behalf: crate::behalf::in_body(&body).filter(|key| *key != header.author),
        };
        if is_tip {
            line.tips.insert(header.author, Some(Tip { id: own.id, a, seq: own.seq, lamport: own.lamport, cum: own.cum }));
        }
        self.stage_heads(t, &[&built_on[..], &[a]].concat());
        let staged = &mut self.rows.staged;
        if is_tip {
            staged.put(Table::Meta, tip_key(t, &header.author), a.to_be_bytes().to_vec());
        }
        if fork {
            staged.put(Table::Meta, fork_key(t, &header.author), header.seq.to_be_bytes().to_vec());
        }
        staged.put(Table::Meta, APPLIED.to_vec(), encode_applied(self.next_a, self.next_place));
        staged.put(Table::Index, change.id().as_bytes().to_vec(), [&t.to_be_bytes()[..], &a.to_be_bytes()].concat());
        staged.put(Table::Change, change_key(t, a).to_vec(), own.encode());
        staged.put(Table::Chain, chain_key(t, &header.author, header.seq, a), Vec::new());
        if let Some(key) = &own.behalf {
            staged.put(Table::Meta, behalf_key(t, key, a), Vec::new());
        }
        let asked = Asked::in_body(&body);
        if let Some(label) = &own.label {
            let mark = asked.as_ref().filter(|asked| asked.wanted.is_none()).and_then(|asked| asked.mark);
            staged.put(Table::Label, label_key(t, label, a), label_row(mark, false));
        }
        if let Some((wanted, mark)) = asked.and_then(|asked| Some((asked.wanted?, asked.mark))) {
            staged.put(Table::Label, label_key(t, &wanted, a), label_row(mark, true));
        }
        let effects = if is_auth(t) {
            let number = self.number_of(t);
            let root = self.spaces[number].rights.root();
            let changed = self.spaces[number].rights.learn(own.id, header, &body);
            self.mount(number as u32, &own.id);
            if changed.is_empty() { Vec::new() } else { self.reconsider(number, root, &changed)? }
        } else {
            if fork {
                self.line(t).forks.insert(header.author, header.seq);
                let (last, authors) = self.unsettled.entry(t).or_default();
                *last = a;
                authors.insert(header.author);
            }
            let flips = self.judge(t, |judge, oldest| judge.add(a, &own, oldest))?;
            if !flips.is_empty() {
                self.line(t).instead.clear();
                self.line(t).met.clear();
            }
            self.fold(t, a, header, own, body, &flips)?.map(|effect| (t, effect)).into_iter().collect()
        };
        Ok(Taken { t, a, place, effects })
    }

    /// Whether [`Pipeline::settle`] has nothing to do.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Hides what has no effect any more since its author forked his chain. That looks at all that came after it, and whoever forks
    /// his chain does so as often as he likes: so it is done once for all that comes together. Answers what it did, and the
    /// timeline and number of the last change that was the cause.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn settle(&mut self) -> Result<Vec<(u32, u64, Effect)>, StorageError> {
        let mut effects = Vec::new();
        while let Some((t, (last, authors))) = self.unsettled.pop_first() {
            let effect = self.look_again(t, &authors)?;
            effects.extend(effect.map(|effect| (t, last, effect)));
        }
        Ok(effects)
    }

    /// Decides anew what has an effect in a timeline where something changed for these authors.
    fn look_again(&mut self, t: u32, authors: &BTreeSet<PublicKey>) -> Result<Option<Effect>, StorageError> {
        let end = self.next_a;
        let flips = self.judge(t, |judge, _| judge.again(authors, end))?;
        self.line(t).instead.clear();
        self.line(t).met.clear();
        if flips.is_empty() {
            return Ok(None);
        }
        let mut fold = Fold::new(&mut self.rows, &mut self.bodies, t);
        fold.flip(&flips)?;
        Ok(Some(fold.finish(None)?))
    }

    /// Writes down which of some changes nothing builds on, and that of others something does now.
    fn stage_heads(&mut self, t: u32, changed: &[u64]) {
        let line = self.lines.get_mut(&t).expect("numbers are given out with their lines");
        let mut stretches: BTreeSet<u64> = changed.iter().map(|a| a / HEADS_STRETCH).collect();
        if std::mem::take(&mut line.heads_in_one_row) {
            self.rows.staged.delete(Table::Meta, heads_prefix(t));
            stretches.extend(line.heads.iter().map(|(a, ..)| a / HEADS_STRETCH));
        }
        for stretch in stretches {
            let from = line.heads.partition_point(|(a, ..)| a / HEADS_STRETCH < stretch);
            let heads = line.heads[from..].iter().map(|(a, ..)| *a).take_while(|a| a / HEADS_STRETCH == stretch);
            let row: Vec<u8> = heads.flat_map(u64::to_be_bytes).collect();
            let key = [&heads_prefix(t)[..], &stretch.to_be_bytes()].concat();
            match row.is_empty() {
                true => self.rows.staged.delete(Table::Meta, key),
                false => self.rows.staged.put(Table::Meta, key, row),
            }
        }
    }

    /// The changes in the past of a change that its body names, its deps left out; of parts of runs the last ones.
    fn named(&mut self, t: u32, a: u64, deps: &[u64], total: bool, body: &Body) -> Result<Vec<u64>, StorageError> {
        let mut named = BTreeSet::new();
        let mut past: Option<View> = total.then(|| View::upto(a.checked_sub(1)));
        for id in &body.references {
            let Some((_, found)) = find(&self.rows, id)?.filter(|(found, at)| *found == t && !deps.contains(at)) else { continue };
            if past.is_none() {
                past = Some(View::past_of(&self.rows, t, deps)?);
            }
            let Some(past) = &past else { continue };
            if !past.contains(found) {
                continue;
            }
            let own = summary(&self.rows, t, found)?;
            let ends = ends_of(&self.rows, t, found, &own)?;
            named.extend(ends.into_iter().filter(|end| past.contains(*end) && !deps.contains(end)));
        }
        Ok(named.into_iter().collect())
    }

    /// What has arrived and is not in the past of a change, as far as that is soon said. What is hidden would stay beside all that is
    /// made for ever, and all would have to be walked through to know what is before what.
    fn beside(&mut self, t: u32, a: u64, deps: &[u64], is_rooted: bool) -> Result<Vec<(u64, u64)>, StorageError> {
        let heads = self.lines.get(&t).map_or(&[][..], |line| &line.heads);
        if let [dep] = *deps {
            let before = summary(&self.rows, t, dep)?;
            if before.total || !before.except.is_empty() {
                let mut except = before.except;
                // What came last is a head as long as nothing is made on top of it.
                let gap = heads.last().filter(|(last, ..)| *last > dep).map(|_| (dep + 1, a - 1));
                match (except.last_mut(), gap) {
                    (Some((_, last)), Some((first, to))) if *last + 1 == first => *last = to,
                    (_, gap) => except.extend(gap),
                }
                if except.len() <= EXCEPT_MAX {
                    return Ok(except);
                }
            }
        }
        let Some(oldest) = self.oldest(t).filter(|_| is_rooted) else { return Ok(Vec::new()) };
        // A head that shows is built on sooner or later, and then all that it was beside is. What came last shows more often
        // than not.
        for (head, ..) in heads.iter().rev() {
            if *head < oldest || unrooted(&self.rows, t, *head)?.is_none() {
                return Ok(Vec::new());
            }
        }
        let past = View::past_of(&self.rows, t, deps)?;
        let mut missing: BTreeSet<u64> = BTreeSet::new();
        let mut queue: Vec<u64> = heads.iter().map(|(head, ..)| *head).collect();
        while let Some(head) = queue.pop() {
            if missing.len() > BESIDE_MAX {
                return Ok(Vec::new());
            }
            if !past.contains(head) && missing.insert(head) {
                queue.extend(summary(&self.rows, t, head)?.deps);
            }
        }
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for a in missing {
            match stretches.last_mut() {
                Some((_, last)) if *last + 1 == a => *last = a,
                _ => stretches.push((a, a)),
            }
        }
        Ok(if stretches.len() > EXCEPT_MAX { Vec::new() } else { stretches })
    }

    /// Asks which changes in a timeline of values have an effect, and remembers the first that is not rooted.
    fn judge<T>(&mut self, t: u32, ask: impl FnOnce(&mut Judge<'_>, Option<u64>) -> Result<T, StorageError>) -> Result<T, StorageError> {
        let Held { space, rights } = &self.spaces[self.number_of(t)];
        let main = self.lines.get(&space.main()).map_or_else(|| TimelineId::named(&space.key, "main"), |line| line.id);
        let line = self.lines.get_mut(&t).expect("numbers are given out with their lines");
        let mut judge = Judge { rows: &mut self.rows, rights, t, timeline: line.id, main, forks: &line.forks };
        let answer = ask(&mut judge, line.oldest_unrooted)?;
        if !self.rows.staged.is_untouched(Table::Unrooted) {
            line.oldest_unrooted = oldest_unrooted(&self.rows, t)?;
        }
        Ok(answer)
    }

    /// The changes to keep by a revocation that is about to be made, so that everything that shows goes on showing.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub(crate) fn keep_list(&mut self, space: Space, author: PublicKey, cap: Option<GrantId>, ops: Vec<Op>) -> Result<Vec<ChangeId>, StorageError> {
        let heads = self.line(space.auth()).heads.iter().map(|(_, id, _)| *id).collect();
        let (after, changed) = suppose(self.rights(space.auth()), &space.key, author, cap, heads, ops);
        let authors = concerned(&after, &changed);
        let mut keep = Vec::new();
        for t in self.values(space) {
            keep.extend(self.judge(t, |judge, _| keep_list(judge, &authors, &changed.dead))?);
        }
        keep.sort_unstable();
        Ok(keep)
    }

    /// Hides, or shows again, what a statement about rights has decided.
    fn reconsider(&mut self, number: usize, root: PublicKey, changed: &Changed) -> Result<Vec<(u32, Effect)>, StorageError> {
        let Held { space, rights } = &self.spaces[number];
        let space = *space;
        let mut authors = concerned(rights, changed);
        if changed.root {
            authors.extend(rights.root_states().iter().map(|state| state.root).chain([root]));
        }
        let mut effects = Vec::new();
        for t in self.values(space) {
            let effect = self.look_again(t, &authors)?;
            effects.extend(effect.map(|effect| (t, effect)));
        }
        Ok(effects)
    }

    /// Applies a change, or the run that it completes, and looks at `flips` again.
    fn fold(&mut self, t: u32, a: u64, header: &Header, own: Summary, body: Body, flips: &BTreeSet<u64>) -> Result<Option<Effect>, StorageError> {
        let reach = self.rights(t).check(header).ok();
        let part = body.part;
        let loaded = Arc::new((own, body));
        self.bodies.insert(t, a, Arc::clone(&loaded));
        let run = match part {
            None => vec![(a, loaded)],
            Some(part) if part.number < part.count => Vec::new(),
            Some(part) => self.run_of(t, a, loaded, part.count)?.unwrap_or_default(),
        };
        if run.is_empty() && flips.is_empty() {
            return Ok(None);
        }
        let shows = match self.oldest(t) {
            Some(_) => unrooted(&self.rows, t, a)?,
            None => None,
        };
        let mut fold = Fold::new(&mut self.rows, &mut self.bodies, t);
        if let Some(reach) = reach {
            for (a, loaded) in &run {
                fold.apply(*a, loaded, &reach, shows.as_ref())?;
            }
        }
        for (a, loaded) in run.iter().filter(|(_, loaded)| loaded.0.part.is_some()) {
            let own = Summary { folded: true, ..loaded.0.clone() };
            fold.remember(*a, &own);
        }
        fold.flip(flips)?;
        Ok(Some(fold.finish((!run.is_empty()).then_some(a))?))
    }

    /// The parts of the run that ends with a change, in order, that had no effect yet; `None` when it is no run.
    /// Parts follow each other in one author's chain, and each names the first.
    fn run_of(&mut self, t: u32, a: u64, last: KnownChange, count: u64) -> Result<Option<Vec<(u64, KnownChange)>>, StorageError> {
        let first = last.1.part.and_then(|part| part.first);
        let mut run = vec![(a, last)];
        for number in (1..count).rev() {
            let Some((_, next)) = run.last() else { return Ok(None) };
            let Some(a) = next.0.deps.first().copied().filter(|_| next.0.seq > 1) else { return Ok(None) };
            let (author, seq) = (next.0.author, next.0.seq);
            let loaded = self.bodies.load(&self.rows, t, a)?;
            let (own, body) = &*loaded;
            // The parts before it are all that each part builds on, and all are in the name of one grant.
            let fits = own.author == author
                && own.seq + 1 == seq
                && own.cap == next.0.cap
                && next.0.base.as_deref() == Some(&[a])
                && body.part.is_some_and(|part| part.number == number && part.count == count && (number == 1 || part.first == first))
                && (number > 1 || Some(own.id) == first);
            if !fits {
                return Ok(None);
            }
            run.push((a, loaded));
        }
        run.reverse();
        let mut open = Vec::with_capacity(run.len());
        for (a, loaded) in run {
            if !summary(&self.rows, t, a)?.folded {
                open.push((a, loaded));
            }
        }
        Ok(Some(open))
    }
}

/// The bytes of a body. Nothing is written that could not be read: what the planner estimated is checked here.
fn encoded(body: &Body) -> Result<Arc<[u8]>, StorageError> {
    let bytes: Arc<[u8]> = body.encode().into();
    if bytes.len() > crate::change::BODY_BYTES_MAX || Body::decode(&bytes).is_err() {
        return Err(StorageError::Damaged { table: "a change of our own" });
    }
    Ok(bytes)
}

/// Key of the row that says how far the log is in the tables.
pub const APPLIED: &[u8] = b"applied";

fn encode_applied(next_a: u64, place: Place) -> Vec<u8> {
    let mut out = Writer::new();
    out.var(next_a);
    out.var(u64::from(place.segment));
    out.var(place.offset);
    out.into_bytes()
}

/// Reads the row [`APPLIED`]: the next arrival number, and the place behind the last record.
///
/// # Errors
///
/// [`StorageError::Damaged`].
pub fn decode_applied(row: &[u8]) -> Result<(u64, Place), StorageError> {
    let mut input = Reader::new(row);
    let a = input.var(u64::MAX, "arrival")?;
    let place = Place { segment: input.var(u64::from(u32::MAX), "segment")? as u32, offset: input.var(u64::MAX, "offset")? };
    input.finish()?;
    Ok((a, place))
}

/// What the keys of the rows begin with that number the spaces beside the own one.
const SPACES: &[u8] = b"space";

/// What the keys of the rows begin with that number the mounted timelines.
const MOUNTS: &[u8] = b"mount";

/// Local numbers of all timelines, and maybe of some that are not there.
pub(crate) fn timelines(rows: &impl Rows) -> Vec<u32> {
    let spaces = rows.scan(Table::Meta, SPACES, None).count() as u32 + 1;
    let mounts = rows.scan(Table::Meta, MOUNTS, None).count() as u32;
    (0..spaces * TIMELINES).chain(MOUNTED..MOUNTED + mounts).collect()
}

fn mount_key(t: u32) -> Vec<u8> {
    [MOUNTS, &t.to_be_bytes()].concat()
}

fn space_key(number: u32) -> Vec<u8> {
    [SPACES, &number.to_be_bytes()].concat()
}

/// Whether a change can be the first that is known of a space.
fn begins_space(header: &Header) -> bool {
    header.kind == Kind::Auth && header.cap.is_none() && header.seq == 1 && header.timeline == TimelineId::named(&header.author, "auth")
}

/// What the keys of the rows begin with that name the heads of a timeline: those of [`HEADS_STRETCH`] arrival numbers each. One
/// row of all of them, as there was before, has just this for its key.
pub(crate) fn heads_prefix(t: u32) -> Vec<u8> {
    [b"heads".as_slice(), &t.to_be_bytes()].concat()
}

/// What the keys of the rows begin with that hold each author's last change.
pub(crate) fn tip_prefix(t: u32) -> Vec<u8> {
    [b"tip".as_slice(), &t.to_be_bytes()].concat()
}

fn tip_key(t: u32, author: &PublicKey) -> Vec<u8> {
    [&tip_prefix(t)[..], author.as_bytes()].concat()
}

/// What the keys of the rows begin with that name the changes of a timeline which were made on somebody's behalf.
pub(crate) fn behalf_prefix(t: u32, key: &PublicKey) -> Vec<u8> {
    [b"behalf".as_slice(), &t.to_be_bytes(), key.as_bytes()].concat()
}

fn behalf_key(t: u32, key: &PublicKey, a: u64) -> Vec<u8> {
    [&behalf_prefix(t, key)[..], &a.to_be_bytes()].concat()
}

fn fork_prefix(t: u32) -> Vec<u8> {
    [b"fork".as_slice(), &t.to_be_bytes()].concat()
}

/// The lowest `seq` with two changes, of the authors of a timeline that have one.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn forks(rows: &impl Rows, t: u32) -> Result<HashMap<PublicKey, u64>, StorageError> {
    let damaged = || StorageError::Damaged { table: Table::Meta.name() };
    rows.scan(Table::Meta, &fork_prefix(t), None)
        .map(|row| {
            let (key, seq) = row?;
            let author = key.last_chunk::<32>().ok_or_else(damaged)?;
            let seq = seq.as_ref().try_into().map_err(|_| damaged())?;
            Ok((PublicKey::from_bytes(*author), u64::from_be_bytes(seq)))
        })
        .collect()
}

fn fork_key(t: u32, author: &PublicKey) -> Vec<u8> {
    [&fork_prefix(t)[..], author.as_bytes()].concat()
}

/// The lowest `seq` that an author signed two changes with, in one timeline.
///
/// # Errors
///
/// [`StorageError`].
pub fn forked(rows: &impl Rows, t: u32, author: &PublicKey) -> Result<Option<u64>, StorageError> {
    let Some(row) = rows.get(Table::Meta, &fork_key(t, author))? else { return Ok(None) };
    let seq = row.as_ref().try_into().map_err(|_| StorageError::Damaged { table: Table::Meta.name() })?;
    Ok(Some(u64::from_be_bytes(seq)))
}

fn chain_key(t: u32, author: &PublicKey, seq: u64, a: u64) -> Vec<u8> {
    [&chain_prefix(t, author, seq)[..], &a.to_be_bytes()].concat()
}

/// What the keys of an author's changes with one `seq` begin with.
#[must_use]
pub fn chain_prefix(t: u32, author: &PublicKey, seq: u64) -> Vec<u8> {
    [&author_prefix(t, author)[..], &seq.to_be_bytes()].concat()
}

/// What the keys of an author's changes begin with.
pub(crate) fn author_prefix(t: u32, author: &PublicKey) -> Vec<u8> {
    [&t.to_be_bytes()[..], author.as_bytes()].concat()
}

/// Key of a change's public name.
#[must_use]
pub fn label_key(t: u32, label: &str, a: u64) -> Vec<u8> {
    [&t.to_be_bytes()[..], label.as_bytes(), &[0], &a.to_be_bytes()].concat()
}

/// A change that carries a public name, or was to carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Its arrival number.
    pub a: u64,
    /// For whom its author made it, as he says.
    pub whom: Whom,
    /// Whether it has no name, since another one of its path has this.
    pub is_in_vain: bool,
}

/// For whom a device made a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Its owner.
    Owner,
    /// Somebody else, by the mark that the device made for him.
    Marked(Mark),
    /// Somebody else, in a row of an older version, which wrote nothing of that into the log.
    Asker(Asker),
}

impl Labelled {
    /// Whether a device made it, which it did, for this one, under the name that it was found by.
    #[must_use]
    pub fn is_for(&self, device: &SecretKey, asker: Option<&Asker>, label: &str) -> bool {
        match (&self.whom, asker) {
            (Whom::Owner, None) => true,
            (Whom::Marked(of), Some(asker)) => *of == mark(device, asker, label),
            (Whom::Asker(of), Some(asker)) => of == asker,
            _ => false,
        }
    }
}

/// What the row of a public name holds: flags, and with [`FOR_OTHER`] or [`MARKED`] for whom it was made.
const FOR_OTHER: u8 = 1;
/// Whoever asked for the change called it so, and it has no name, since another one of its path has that.
const IN_VAIN: u8 = 2;
/// As [`FOR_OTHER`], as the log says it.
const MARKED: u8 = 4;

fn label_row(mark: Option<Mark>, is_in_vain: bool) -> Vec<u8> {
    let flags = (u8::from(mark.is_some()) * MARKED) | (u8::from(is_in_vain) * IN_VAIN);
    let row = if flags == 0 { Vec::new() } else { vec![flags] };
    mark.iter().fold(row, |row, mark| [&row[..], mark].concat())
}

/// The changes that carry a public name, or were to carry it here, in order of arrival.
///
/// # Errors
///
/// [`StorageError`].
pub fn labelled(rows: &impl Rows, t: u32, label: &str) -> Result<Vec<Labelled>, StorageError> {
    let prefix = [&t.to_be_bytes()[..], label.as_bytes(), &[0]].concat();
    rows.scan(Table::Label, &prefix, None)
        .filter_map(|row| match row {
            Ok((key, value)) if key.len() == prefix.len() + 8 => {
                let flags = value.first().copied().unwrap_or(0);
                let who = value.get(1..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
                let whom = match flags & (FOR_OTHER | MARKED) {
                    0 => Whom::Owner,
                    FOR_OTHER => Whom::Asker(Asker(who)),
                    _ => Whom::Marked(who),
                };
                key.last_chunk::<8>().map(|a| Ok(Labelled { a: u64::from_be_bytes(*a), whom, is_in_vain: flags & IN_VAIN != 0 }))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}
