//! A text with all of its ops as bytes, so that opening it merges nothing. `FORMAT.md` beside this file pins them.
//!
//! The bytes are a cache: what is damaged or old is thrown away, and the text merged again from the change log.

use std::collections::BTreeMap;

use timebus_identity::PublicKey;

use super::budget::Budget;
use super::graph::EVENTS_MAX;
use super::merge::Merge;
use super::object::{FORKED, NO_SLOT, TextObject};
use super::ops::{Edit, Ops, Slot};
use super::{AGENTS_PER_AUTHOR_MAX, TEXT_CHARS_MAX};
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::ChangeId;
use crate::op::{TEXT_AGENT_BYTES_MAX, TEXT_EDITS_MAX};

/// Version of the bytes.
const VERSION: u8 = 1;
/// The version and the hash of what follows it.
const HEADER_BYTES: usize = 1 + 32;
/// Bytes of an op and of an edit, roughly: what a snapshot makes room for.
const OP_BYTES: usize = 56;
const EDIT_BYTES: usize = 8;
/// UTF-8 takes at most so many bytes a character.
const TEXT_BYTES_MAX: usize = TEXT_CHARS_MAX as usize * 4;

/// Why bytes are no snapshot: merge the text again from its ops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// They are of another version.
    #[error("the snapshot has version {found}, this program writes {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// Bytes have changed since they were written.
    #[error("the snapshot's hash does not fit its bytes")]
    Damaged,
    /// They break a rule of the format.
    #[error("the snapshot is malformed")]
    Malformed(#[from] DecodeError),
}

const INVALID: SnapshotError = SnapshotError::Malformed(DecodeError::Invalid { field: "text snapshot" });

fn body(bytes: &[u8]) -> Result<&[u8], SnapshotError> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else { return Err(SnapshotError::Damaged) };
    if header[0] != VERSION {
        return Err(SnapshotError::Version { found: header[0] });
    }
    if blake3::hash(body).as_bytes() != &header[1..] {
        return Err(SnapshotError::Damaged);
    }
    Ok(body)
}

impl TextObject {
    /// The text of a snapshot, without decoding its ops.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`].
    pub fn text_of_snapshot(bytes: &[u8]) -> Result<&str, SnapshotError> {
        Ok(Reader::new(body(bytes)?).text(TEXT_BYTES_MAX, "text")?)
    }

    /// Everything that [`TextObject::decode`] needs.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let rope = self.merge.rope();
        // All of it in one piece that need not grow, or what is there already is copied again and again.
        let room = rope.len_bytes() + self.ops.inserted.len() + self.ops.len() * OP_BYTES + self.ops.edits.len() * EDIT_BYTES;
        let mut out = Writer::with_capacity(HEADER_BYTES + room);
        out.raw(&[VERSION]);
        out.raw(&[0; HEADER_BYTES - 1]);
        self.encode_text(&mut out);
        out.flag(self.rebuild);
        out.flag(self.parked);
        out.var(self.author_keys.len() as u64);
        self.author_keys.iter().for_each(|key| out.raw(key.as_bytes()));
        out.var(self.ops.agents.len() as u64);
        for agent in &self.ops.agents {
            out.bytes(agent.name.as_bytes());
            out.flag(agent.tied);
        }
        out.bytes(self.ops.inserted.as_bytes());
        self.encode_ops(&mut out);
        for (slot, kind) in self.forks.keys() {
            let slots = &self.forks[&(*slot, *kind)];
            out.var(u64::from(*slot) * 2 + *kind as u64);
            encode_slots(slots, &mut out);
        }
        for (slot, heads) in self.heads.iter() {
            out.var(u64::from(slot));
            encode_slots(heads, &mut out);
        }
        encode_slots(&self.waiting, &mut out);
        let mut last = (-1, 0);
        let order: Vec<(Slot, u32)> = self.merge.order().zip(self.merge.lens()).collect();
        out.var(order.len() as u64);
        for (slot, len) in order {
            out.zigzag(i64::from(slot) - last.0 - 1);
            out.zigzag(i64::from(len) - last.1);
            last = (i64::from(slot), i64::from(len));
        }
        let mut bytes = out.into_bytes();
        let hash = blake3::hash(&bytes[HEADER_BYTES..]);
        bytes[1..HEADER_BYTES].copy_from_slice(hash.as_bytes());
        bytes
    }

    /// Writes the merged text, as it is and without a copy of it.
    pub(crate) fn encode_text(&self, out: &mut Writer) {
        let rope = self.merge.rope();
        out.var(rope.len_bytes() as u64);
        rope.substrings().for_each(|part| out.raw(part.as_bytes()));
    }

    fn encode_ops(&self, out: &mut Writer) {
        out.var(self.ops.len() as u64);
        out.var(self.forks.len() as u64);
        out.var(self.heads.len() as u64);
        for record in &self.ops.records {
            out.raw(record.change.as_bytes());
        }
        let mut next_seq = vec![0; self.ops.agents.len()];
        let mut last_pos = 0;
        for slot in 0..self.ops.len() as Slot {
            let record = self.ops.record(slot);
            out.var(u64::from(record.author));
            out.var(u64::from(record.agent));
            out.zigzag(record.seq_first().wrapping_sub(next_seq[record.agent as usize]) as i64);
            next_seq[record.agent as usize] = record.seq + 1;
            let parents = self.ops.parents(slot);
            out.var(parents.len() as u64 * 2 + u64::from(record.effective));
            for (parent, event) in parents {
                out.var(u64::from(slot - parent));
                out.var(u64::from(self.ops.record(*parent).events - 1 - event));
            }
            for before in self.before[slot as usize] {
                out.var(match before {
                    NO_SLOT => 0,
                    FORKED => 1,
                    before => u64::from(slot - before) + 1,
                });
            }
            out.var(self.ops.edits(slot).len() as u64);
            for (at, edit) in self.ops.edits(slot).iter().enumerate() {
                out.zigzag(i64::from(edit.pos) - last_pos);
                out.var(u64::from(edit.del));
                out.var(self.ops.text_of(slot, at).len() as u64);
                last_pos = i64::from(edit.pos) + i64::from(edit.chars);
            }
        }
    }

    /// A text from its snapshot.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; whatever the bytes are, nothing panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut input = Reader::new(body(bytes)?);
        let text = input.text(TEXT_BYTES_MAX, "text")?;
        if text.chars().count() as u64 > TEXT_CHARS_MAX {
            return Err(INVALID);
        }
        let mut object = Self::new();
        object.rebuild = input.flag("rebuild")?;
        object.parked = input.flag("parked")?;
        for _ in 0..input.count(usize::MAX >> 1, "authors")? {
            let key = PublicKey::from_bytes(input.array("author")?);
            object.authors.insert(key, object.author_keys.len() as u32);
            object.author_keys.push(key);
        }
        for at in 0..input.count(usize::MAX >> 1, "sessions")? {
            let name = input.text(TEXT_AGENT_BYTES_MAX, "session")?;
            let agent = object.agents.intern(&mut object.ops, name);
            if agent as usize != at {
                return Err(INVALID);
            }
            object.ops.agents[at].tied = input.flag("tied")?;
        }
        let (forks, heads) = object.decode_ops(&mut input)?;
        object.decode_links(&mut input, forks, heads)?;
        object.decode_merge(&mut input, text)?;
        input.finish()?;
        Ok(object)
    }

    /// Reads the ops; returns how many forks and heads follow.
    fn decode_ops(&mut self, input: &mut Reader<'_>) -> Result<(usize, usize), SnapshotError> {
        let inserted = input.text(usize::MAX >> 1, "inserted text")?;
        let count = input.count(EVENTS_MAX as usize, "ops")?;
        let forks = input.count(count * 2, "forks")?;
        let heads = input.count(count, "heads")?;
        let mut changes = Reader::new(input.raw(count * 32, "changes")?);
        let mut taken = 0usize;
        let mut next_seq = vec![0u64; self.ops.agents.len()];
        let mut last_pos = 0i64;
        let mut edits: Vec<Edit> = Vec::new();
        let mut parents: Vec<(Slot, u32)> = Vec::new();
        let mut heads_of: Vec<u32> = Vec::new();
        let mut budget = Budget::unlimited();
        // As many ids have been read: no count that was made up gets here.
        self.by_change.reserve(count);
        self.before.reserve(count);
        self.ops.records.reserve(count);
        self.ops.inserted.push_str(inserted);
        for slot in 0..count as Slot {
            let change = ChangeId(changes.array("change")?);
            let author = input.var(u64::from(u32::MAX), "author")? as u32;
            let agent = input.var(u64::from(u32::MAX), "session")? as u32;
            if author as usize >= self.author_keys.len() || agent as usize >= self.ops.agents.len() {
                return Err(INVALID);
            }
            let seq_first = next_seq[agent as usize].wrapping_add(input.zigzag("seq")? as u64);
            let counts = input.var(u64::from(u32::MAX), "parents")?;
            parents.clear();
            for _ in 0..counts / 2 {
                let back = input.var(slot.into(), "parent")? as u32;
                let (parent, event) = (slot - back, input.var(u64::from(u32::MAX), "parent event")? as u32);
                let events = if back == 0 { 0 } else { self.ops.record(parent).events };
                if event >= events {
                    return Err(INVALID);
                }
                parents.push((parent, events - 1 - event));
            }
            let mut before = [NO_SLOT; 2];
            for link in &mut before {
                *link = match input.var(u64::from(slot) + 1, "link")? {
                    0 => NO_SLOT,
                    1 => FORKED,
                    back => slot + 1 - back as u32,
                };
            }
            edits.clear();
            let mut events = 0u64;
            for _ in 0..input.count(TEXT_EDITS_MAX, "edits")? {
                let pos = u64::try_from(last_pos.saturating_add(input.zigzag("position")?)).map_err(|_| INVALID)?;
                let del = input.var(EVENTS_MAX.into(), "deletion")?;
                let bytes = input.var(u64::from(u32::MAX), "insertion")? as usize;
                let ins = inserted.get(taken..taken.saturating_add(bytes)).ok_or(INVALID)?;
                let at = taken as u64;
                taken += bytes;
                let chars = ins.chars().count() as u64;
                events += del + chars;
                if pos > u64::from(EVENTS_MAX) || del + chars == 0 {
                    return Err(INVALID);
                }
                last_pos = (pos + chars) as i64;
                edits.push(Edit { pos: pos as u32, del: del as u32, chars: chars as u32, at });
            }
            let seq = seq_first.checked_add(events.wrapping_sub(1)).filter(|seq| *seq < u64::MAX && events > 0).ok_or(INVALID)?;
            next_seq[agent as usize] = seq + 1;
            if events > u64::from(EVENTS_MAX - self.graph.end()) || self.by_change.insert(change, slot).is_some() {
                return Err(INVALID);
            }
            heads_of.clear();
            heads_of.extend(parents.iter().map(|(parent, event)| self.ops.record(*parent).start + event));
            self.graph.reduce(&mut heads_of, &mut budget).map_err(|_| INVALID)?;
            if heads_of.len() != parents.len() {
                return Err(INVALID);
            }
            let mut record = Ops::new_record(change, author, agent, seq, events as u32, self.graph.end());
            record.effective = counts % 2 == 1;
            self.graph.append(&heads_of, events as u32);
            let known = &mut self.ops.agents[agent as usize].next_seq;
            *known = (*known).max(seq + 1);
            self.ops.push_edits(record, &parents, &edits);
            self.before.push(before);
            if self.ops.record(slot).effective {
                self.agents.claim(&mut self.ops, slot);
            }
        }
        if inserted.len() != taken {
            return Err(INVALID);
        }
        Ok((forks, heads))
    }

    fn decode_links(&mut self, input: &mut Reader<'_>, forks: usize, heads: usize) -> Result<(), SnapshotError> {
        let count = self.ops.len();
        for _ in 0..forks {
            let key = input.count(count * 2, "fork")?;
            let slots = decode_slots(input, count)?;
            self.forks.insert(((key / 2) as Slot, key % 2), slots);
        }
        for _ in 0..heads {
            let slot = input.count(count, "head")? as Slot;
            let slots = decode_slots(input, count)?;
            if slots.len() > AGENTS_PER_AUTHOR_MAX {
                return Err(INVALID);
            }
            if !self.heads.push(slot, slots) {
                return Err(INVALID);
            }
        }
        let mut tips: BTreeMap<(u32, Option<u32>), Vec<Slot>> = BTreeMap::new();
        for kind in [0, 1] {
            let mut built_on = vec![false; count];
            for slot in (0..count as Slot).rev() {
                let record = self.ops.record(slot);
                let before = match &self.before[slot as usize][kind] {
                    &NO_SLOT => &[],
                    &FORKED => self.forks.get(&(slot, kind)).ok_or(INVALID)?.as_slice(),
                    one => std::slice::from_ref(one),
                };
                for before in before {
                    if *before >= slot {
                        return Err(INVALID);
                    }
                    let other = self.ops.record(*before);
                    if other.author != record.author || (kind == 1 && other.agent != record.agent) {
                        return Err(INVALID);
                    }
                    built_on[*before as usize] = true;
                }
                if !built_on[slot as usize] {
                    tips.entry((record.author, (kind == 1).then_some(record.agent))).or_default().push(slot);
                }
            }
        }
        self.tips = tips;
        Ok(())
    }

    fn decode_merge(&mut self, input: &mut Reader<'_>, text: &str) -> Result<(), SnapshotError> {
        let count = self.ops.len();
        self.waiting = decode_slots(input, count)?;
        let mut merge = Merge::whole();
        let mut last = (-1i64, 0i64);
        let mut parents = Vec::new();
        for _ in 0..input.count(count, "merged ops")? {
            let slot = last.0.saturating_add(input.zigzag("merged op")?).saturating_add(1);
            let len = last.1.saturating_add(input.zigzag("length")?);
            if !(0..count as i64).contains(&slot)
                || !(0..=TEXT_CHARS_MAX as i64).contains(&len)
                || !merge.restore(&self.ops, slot as Slot, len as u32, &mut parents)
            {
                return Err(INVALID);
            }
            last = (slot, len);
        }
        merge.restore_text(text);
        if self.waiting.iter().any(|slot| merge.has(*slot)) || !self.waiting.is_sorted_by(|a, b| a < b) {
            return Err(INVALID);
        }
        self.merge = merge;
        Ok(())
    }
}

fn encode_slots(slots: &[Slot], out: &mut Writer) {
    out.var(slots.len() as u64);
    slots.iter().for_each(|slot| out.var(u64::from(*slot)));
}

fn decode_slots(input: &mut Reader<'_>, count: usize) -> Result<Vec<Slot>, SnapshotError> {
    let mut slots = Vec::new();
    for _ in 0..input.count(count, "slots")? {
        let slot = input.var(count as u64, "slot")?;
        if slot >= count as u64 {
            return Err(INVALID);
        }
        slots.push(slot as Slot);
    }
    Ok(slots)
}
