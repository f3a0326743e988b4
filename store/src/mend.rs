//! Mending the change log: what is damaged is told apart, and put back where it stood once somebody has it.
//!
//! A [`Gap`] is a stretch of the log that is no record. What stood there is known from the index, or because changes
//! behind it build on it. The changes themselves are fetched by id from whoever has them, by whoever uses this; they
//! prove themselves by hash and signature. [`fill`] writes them where they stood, under the numbers that they had, so
//! that whoever remembers how far he has read this log need not read it again.
//!
//! Deliberately not here: no network.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use timebus_identity::{PublicKey, Verified};

use crate::change::Change;
use crate::ids::{ChangeId, TimelineId};
use crate::keyspace::{Committed, Rows as _, Table};
use crate::log::{Damage, Form, Item, LogReader, Place, framed};
use crate::store::{StorageError, Store};
use crate::summary::{Summary, change_key, find, summary};

/// Most changes that are looked for at once; with more, a backup is the better way.
pub const LOST_MAX: usize = 65_536;

/// A change that is not in the log any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its id.
    pub change: ChangeId,
    /// The space it is in.
    pub space: PublicKey,
    /// The timeline it is in.
    pub timeline: TimelineId,
    /// Where it stood and under which number, if the index knows.
    known: Option<(Place, u64)>,
    /// It came before all of these numbers: changes that build on it.
    below: u64,
}

/// A stretch of the log that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it is.
    pub damage: Damage,
    /// Number of the record before it, 0 for none.
    pub after: u64,
    /// Number of the record behind it; `None` if nothing is.
    pub before: Option<u64>,
}

/// What is wrong with a log.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Stretches that are damaged.
    pub gaps: Vec<Gap>,
    /// The changes that are known to be missing.
    pub lost: Vec<Lost>,
    /// Of these, some that are in the log further on, because they were fetched in another way.
    pub elsewhere: BTreeMap<ChangeId, Place>,
    /// Records that were read.
    pub records: u64,
}

/// Reads the log up to a place and finds out what is missing.
///
/// # Errors
///
/// [`StorageError`].
pub fn examine(store: &Store, end: Place) -> Result<Findings, StorageError> {
    let rows = store.snapshot();
    let mut found = Findings::default();
    let mut after = 0;
    // What builds on something, the least number of it.
    let mut built_on: BTreeMap<ChangeId, (TimelineId, u64)> = BTreeMap::new();
    let mut open: Option<Gap> = None;
    for item in store.log().walk(Place::START)? {
        match item? {
            Item::Damaged(damage) if damage.place < end => {
                found.gaps.extend(open.take());
                open = Some(Gap { damage, after, before: None });
            }
            Item::Record(record) if record.place < end => {
                found.records += 1;
                if let Some(mut gap) = open.take() {
                    gap.before = Some(record.a);
                    found.gaps.push(gap);
                }
                after = after.max(record.a);
                let Ok(change) = Change::decode(&record.payload) else { continue };
                let header = change.content().header();
                for dep in header.deps() {
                    let is_before = match find(&*rows, dep)? {
                        Some((t, a)) => summary(&*rows, t, a)?.place < record.place,
                        None => false,
                    };
                    if !is_before && built_on.len() < LOST_MAX {
                        built_on.entry(*dep).or_insert((header.timeline, record.a));
                    }
                }
            }
            _ => break,
        }
    }
    found.gaps.extend(open);
    if found.gaps.is_empty() {
        return Ok(found);
    }
    let timelines = store.timelines();
    for (change, (timeline, below)) in built_on {
        let Some((space, ..)) = timelines.iter().find(|(_, id, _)| *id == timeline) else { continue };
        found.lost.push(Lost { change, space: *space, timeline, known: None, below });
        if let Some((t, a)) = find(&*rows, &change)? {
            found.elsewhere.insert(change, summary(&*rows, t, a)?.place);
        }
    }
    known_to_index(&rows, &mut found, &timelines)?;
    found.lost.truncate(LOST_MAX);
    Ok(found)
}

/// Adds what the index knows to have stood in a gap.
fn known_to_index(rows: &Committed, found: &mut Findings, timelines: &[(PublicKey, TimelineId, u32)]) -> Result<(), StorageError> {
    let mut seen: BTreeSet<ChangeId> = BTreeSet::new();
    for (space, timeline, t) in timelines.iter().copied() {
        for gap in &found.gaps {
            let from = change_key(t, gap.after + 1);
            for row in rows.scan(Table::Change, &t.to_be_bytes(), Some(&from)) {
                let (key, value) = row?;
                let a = key.last_chunk::<8>().map_or(0, |a| u64::from_be_bytes(*a));
                if gap.before.is_some_and(|before| a >= before) || found.lost.len() >= LOST_MAX {
                    break;
                }
                let own = Summary::decode(&value)?;
                let from = gap.damage.place;
                let is_inside =
                    own.place.segment == from.segment && own.place.offset >= from.offset && own.place.offset < from.offset + gap.damage.bytes;
                if is_inside && seen.insert(own.id) {
                    found.lost.retain(|lost| lost.change != own.id);
                    found.lost.push(Lost { change: own.id, space, timeline, known: Some((own.place, a)), below: u64::MAX });
                }
            }
        }
    }
    Ok(())
}

/// Adds what fetched changes build on and that is missing, too: it was known to nobody but them. Answers whether there is
/// more to fetch.
///
/// # Errors
///
/// [`StorageError`].
pub fn deepen(store: &Store, found: &mut Findings, fetched: &BTreeMap<ChangeId, Verified<Change>>) -> Result<bool, StorageError> {
    let rows = store.snapshot();
    let mut listed: BTreeSet<ChangeId> = found.lost.iter().map(|lost| lost.change).collect();
    let mut more = Vec::new();
    for lost in found.lost.iter().filter(|lost| lost.known.is_none()) {
        let Some(change) = fetched.get(&lost.change) else { continue };
        for dep in change.header().deps() {
            if find(&*rows, dep)?.is_none() && listed.len() < LOST_MAX && listed.insert(*dep) {
                more.push(Lost { change: *dep, ..lost.clone() });
            }
        }
    }
    let is_more = !more.is_empty();
    found.lost.extend(more);
    Ok(is_more)
}

/// What was put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// Changes that stand in the log again.
    pub changes: Vec<ChangeId>,
    /// Whether the index has to be made anew, because it was made without them.
    pub is_index_old: bool,
}

/// Puts changes back where they stood.
///
/// A gap whose changes are all known by the index is filled one by one. Any other is filled from its beginning, as far
/// as what is known to belong into it goes.
///
/// # Errors
///
/// Of the file system.
pub fn fill(log: &LogReader, found: &Findings, fetched: &BTreeMap<ChangeId, Verified<Change>>) -> io::Result<Filled> {
    let mut filled = Filled::default();
    let mut homeless: Vec<(&Lost, &Verified<Change>)> = Vec::new();
    for lost in &found.lost {
        let Some(change) = fetched.get(&lost.change) else { continue };
        match lost.known {
            Some((place, a)) => {
                if let Some(bytes) = as_it_was(a, change, room_at(found, place)) {
                    log.patch(place, &bytes)?;
                    filled.changes.push(lost.change);
                }
            }
            None => homeless.push((lost, change)),
        }
    }
    // Causes first: what a change builds on has a smaller clock.
    homeless.sort_by_key(|(lost, change)| (change.header().lamport, lost.change));
    for gap in &found.gaps {
        let is_known = found.lost.iter().any(|lost| lost.known.is_some_and(|(_, a)| a > gap.after && gap.before.is_none_or(|before| a < before)));
        if is_known {
            continue;
        }
        // In the form that fills the gap: a log may be older than packed records.
        let mut placed = place(gap, &homeless, Form::of);
        if placed.0.len() as u64 != gap.damage.bytes {
            let plain = place(gap, &homeless, Form::plain);
            placed = if plain.0.len() as u64 == gap.damage.bytes { plain } else { placed };
        }
        let (bytes, changes) = placed;
        homeless.retain(|(lost, _)| !changes.contains(&lost.change));
        filled.changes.extend(changes);
        if !bytes.is_empty() {
            log.patch(gap.damage.place, &bytes)?;
            filled.is_index_old = true;
        }
    }
    Ok(filled)
}

/// The records of the changes that fit a gap, in one form, and which changes these are.
fn place(gap: &Gap, homeless: &[(&Lost, &Verified<Change>)], form: impl Fn(&Change) -> Form) -> (Vec<u8>, Vec<ChangeId>) {
    let room = gap.before.map_or(u64::MAX, |before| before - gap.after - 1);
    let (mut bytes, mut changes) = (Vec::new(), Vec::new());
    for (lost, change) in homeless {
        let a = gap.after + 1 + changes.len() as u64;
        let before = bytes.len();
        if a - gap.after <= room && lost.below > a {
            form(change).frame(a, change, change.signature(), &mut bytes);
            if bytes.len() as u64 <= gap.damage.bytes {
                changes.push(lost.change);
            } else {
                bytes.truncate(before);
            }
        }
    }
    (bytes, changes)
}

/// Bytes from a place in a gap to what is known to come next.
fn room_at(found: &Findings, place: Place) -> u64 {
    let ends = found.gaps.iter().map(|gap| Place { offset: gap.damage.place.offset + gap.damage.bytes, ..gap.damage.place });
    let next = found.lost.iter().filter_map(|lost| lost.known.map(|(place, _)| place));
    let next = ends.chain(next).filter(|next| next.segment == place.segment && next.offset > place.offset).min();
    next.map_or(0, |next| next.offset - place.offset)
}

/// The record of a change, in the form that it had there: the one that fills the room, else the one that fits.
fn as_it_was(a: u64, change: &Verified<Change>, room: u64) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    Form::plain(change).frame(a, change, change.signature(), &mut plain);
    let forms = [framed(a, change), plain];
    let is_full = |record: &&Vec<u8>| record.len() as u64 == room;
    forms.iter().find(is_full).or_else(|| forms.iter().find(|record| record.len() as u64 <= room)).cloned()
}
