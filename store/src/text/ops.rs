//! The ops of one text, kept compactly: what was said, not what came of it.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ids::ChangeId;
use crate::op::TextEdit;

/// Place of an op in the order of arrival.
pub(crate) type Slot = u32;

/// Bytes of a name that is a change's id in base64url: no session may choose one.
const CHANGE_NAME_BYTES: usize = 43;

/// Ops by op, in the order of arrival.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotLists {
    /// Op, and where its list ends.
    ends: Vec<(Slot, u32)>,
    slots: Vec<Slot>,
}

impl SlotLists {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds the list of an op behind all others; says whether that is where it belongs.
    pub(crate) fn push(&mut self, slot: Slot, list: impl IntoIterator<Item = Slot>) -> bool {
        if self.ends.last().is_some_and(|(last, _)| *last >= slot) {
            return false;
        }
        self.slots.extend(list);
        self.ends.push((slot, self.slots.len() as u32));
        true
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&[Slot]> {
        let at = self.ends.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        Some(self.list(at))
    }

    fn list(&self, at: usize) -> &[Slot] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        &self.slots[start as usize..self.ends[at].1 as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &[Slot])> {
        self.ends.iter().enumerate().map(|(at, (slot, _))| (*slot, self.list(at)))
    }
}

/// One edit: at `pos`, `del` characters out and `chars` in, which begin at byte `at` of all that was put in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit {
    pub(crate) pos: u32,
    pub(crate) del: u32,
    pub(crate) chars: u32,
    pub(crate) at: u64,
}

/// One op.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) change: ChangeId,
    pub(crate) author: u32,
    pub(crate) agent: u32,
    /// Number of its last event under its agent's name.
    pub(crate) seq: u64,
    /// How many events it is.
    pub(crate) events: u32,
    edits_at: u32,
    parents_at: u32,
    /// Number of its first event in the graph of all valid ops.
    pub(crate) start: u32,
    /// Whether it counts (rights may come and go).
    pub(crate) effective: bool,
}

impl Record {
    /// Number of its first event under its agent's name.
    pub(crate) fn seq_first(&self) -> u64 {
        self.seq + 1 - u64::from(self.events)
    }
}

/// A session's name.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) name: Box<str>,
    /// Its events were claimed twice: each of its changes is a session of its own.
    pub(crate) clashed: bool,
    /// Its name has decided something.
    pub(crate) tied: bool,
    /// One more than the highest number of an event.
    pub(crate) next_seq: u64,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ops {
    pub(crate) records: Vec<Record>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) edits: Vec<Edit>,
    /// Op and event (from 0) that each op stands on; none of an op's is before another.
    parents: Vec<(Slot, u32)>,
    pub(crate) inserted: String,
}

/// A part of an edit: first `del` characters at `del_pos` out, then `ins` in at `ins_pos`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) del_pos: u32,
    pub(crate) del: u32,
    pub(crate) ins_pos: u32,
    pub(crate) ins: &'a str,
    pub(crate) chars: u32,
}

impl Step<'_> {
    /// Where it is done; if it takes out and puts in, both are at one place.
    pub(crate) fn pos(&self) -> u32 {
        if self.del > 0 { self.del_pos } else { self.ins_pos }
    }
}

impl Ops {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn record(&self, slot: Slot) -> &Record {
        &self.records[slot as usize]
    }

    /// Adds an op with edits that were checked: positions fit 32 bits, and events are fewer than 2^31.
    pub(crate) fn push(&mut self, record: Record, parents: &[(Slot, u32)], edits: &[TextEdit]) -> Slot {
        let mut at = self.inserted.len() as u64;
        let mut compact = Vec::with_capacity(edits.len());
        for edit in edits {
            self.inserted.push_str(&edit.ins);
            compact.push(Edit { pos: edit.pos as u32, del: edit.del as u32, chars: edit.ins.chars().count() as u32, at });
            at += edit.ins.len() as u64;
        }
        self.push_edits(record, parents, &compact)
    }

    /// Adds an op whose text is there already.
    pub(crate) fn push_edits(&mut self, mut record: Record, parents: &[(Slot, u32)], edits: &[Edit]) -> Slot {
        record.edits_at = self.edits.len() as u32;
        record.parents_at = self.parents.len() as u32;
        self.parents.extend_from_slice(parents);
        self.edits.extend_from_slice(edits);
        self.records.push(record);
        self.records.len() as Slot - 1
    }

    /// Adds a name.
    pub(crate) fn push_agent(&mut self, name: &str) -> u32 {
        // A name that reads like a change's could be chosen to equal one: it is never anybody's session.
        self.agents.push(Agent { name: name.into(), clashed: named_change(name).is_some(), tied: false, next_seq: 0 });
        self.agents.len() as u32 - 1
    }

    /// Takes the op added last away again.
    pub(crate) fn pop(&mut self) {
        if let Some(record) = self.records.pop() {
            let inserted = self.edits.get(record.edits_at as usize).map_or(self.inserted.len(), |edit| edit.at as usize);
            self.inserted.truncate(inserted);
            self.edits.truncate(record.edits_at as usize);
            self.parents.truncate(record.parents_at as usize);
        }
    }

    /// A record whose places are filled in by [`Ops::push`].
    pub(crate) fn new_record(change: ChangeId, author: u32, agent: u32, seq: u64, events: u32, start: u32) -> Record {
        Record { change, author, agent, seq, events, edits_at: 0, parents_at: 0, start, effective: true }
    }

    /// What an op stands on.
    pub(crate) fn parents(&self, slot: Slot) -> &[(Slot, u32)] {
        let end = self.records.get(slot as usize + 1).map_or(self.parents.len(), |next| next.parents_at as usize);
        &self.parents[self.record(slot).parents_at as usize..end]
    }

    fn edits_end(&self, slot: Slot) -> usize {
        self.records.get(slot as usize + 1).map_or(self.edits.len(), |next| next.edits_at as usize)
    }

    /// An op's edits.
    pub(crate) fn edits(&self, slot: Slot) -> &[Edit] {
        &self.edits[self.record(slot).edits_at as usize..self.edits_end(slot)]
    }

    /// What an edit of this op puts in; `at` is its place among the op's edits.
    pub(crate) fn text_of(&self, slot: Slot, at: usize) -> &str {
        let place = self.record(slot).edits_at as usize + at;
        let end = self.edits.get(place + 1).map_or(self.inserted.len(), |next| next.at as usize);
        &self.inserted[self.edits[place].at as usize..end]
    }

    /// The parts of an op's edits that are its events from `from` up to, not with, `to`.
    pub(crate) fn steps(&self, slot: Slot, from: u32, to: u32) -> impl Iterator<Item = Step<'_>> {
        let mut passed = 0;
        self.edits(slot).iter().enumerate().filter_map(move |(at, edit)| {
            let (start, count) = (passed, edit.del + edit.chars);
            passed += count;
            let a = from.clamp(start, start + count) - start;
            let b = to.clamp(start, start + count) - start;
            if a == b {
                return None;
            }
            let (del_from, del_to) = (a.min(edit.del), b.min(edit.del));
            let (ins_from, ins_to) = (a.max(edit.del) - edit.del, b.max(edit.del) - edit.del);
            let mut ins = self.text_of(slot, at);
            if ins_from > 0 || ins_to < edit.chars {
                ins = chars_between(ins, ins_from as usize, ins_to as usize);
            }
            Some(Step { del_pos: edit.pos + edit.del - del_to, del: del_to - del_from, ins_pos: edit.pos + ins_from, ins, chars: ins_to - ins_from })
        })
    }

    /// Whether an op's edits fit a text of `len` characters at every step, and leave at most `max`.
    pub(crate) fn fits(&self, slot: Slot, from: u32, to: u32, len: u32, max: u32) -> bool {
        let mut len = u64::from(len);
        for step in self.steps(slot, from, to) {
            if u64::from(step.del_pos) + u64::from(step.del) > len {
                return false;
            }
            len -= u64::from(step.del);
            if u64::from(step.ins_pos) > len {
                return false;
            }
            len += u64::from(step.chars);
        }
        len <= u64::from(max)
    }

    /// How many characters longer (or shorter) a part of an op makes the text.
    pub(crate) fn growth(&self, slot: Slot, from: u32, to: u32) -> i64 {
        self.steps(slot, from, to).map(|step| i64::from(step.chars) - i64::from(step.del)).sum()
    }

    /// The name that decides where an op's characters go among concurrent ones.
    pub(crate) fn name(&self, slot: Slot) -> std::borrow::Cow<'_, str> {
        let record = self.record(slot);
        let agent = &self.agents[record.agent as usize];
        if agent.clashed { change_name(&record.change).into() } else { (&*agent.name).into() }
    }

    /// Compares what decides between two ops of one name.
    pub(crate) fn compare_numbers(&self, a: Slot, b: Slot) -> Ordering {
        let (a, b) = (self.record(a), self.record(b));
        (a.seq_first(), a.change).cmp(&(b.seq_first(), b.change))
    }
}

/// The name of a change that is a session of its own.
pub(crate) fn change_name(change: &ChangeId) -> String {
    URL_SAFE_NO_PAD.encode(change.as_bytes())
}

/// The change that such a name names.
pub(crate) fn named_change(name: &str) -> Option<ChangeId> {
    if name.len() != CHANGE_NAME_BYTES {
        return None;
    }
    URL_SAFE_NO_PAD.decode(name).ok()?.try_into().ok().map(ChangeId)
}

/// The characters of a text from one up to, not with, another.
pub(crate) fn chars_between(text: &str, from: usize, to: usize) -> &str {
    let mut places = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let start = places.nth(from).unwrap_or(text.len());
    let end = if to > from { places.nth(to - from - 1).unwrap_or(text.len()) } else { start };
    &text[start..end]
}
