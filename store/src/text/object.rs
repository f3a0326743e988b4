//! One text: which ops are valid, and the text they give.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use timebus_identity::PublicKey;

use super::agents::{Agents, EventName};
use super::budget::{Budget, OverBudget};
use super::diff::edits_between;
use super::graph::{EVENTS_MAX, Event, Graph};
use super::merge::{Merge, Moved, Ties};
use super::ops::{Ops, Slot, SlotLists};
use super::order::by_branch;
use super::{AGENTS_PER_AUTHOR_MAX, TextVersion, count_events};
use crate::ids::ChangeId;
use crate::op::{TEXT_AGENT_BYTES_MAX, TextEdit};

/// Most entries of a base: what the codec admits, too.
const BASE_MAX: usize = 32;

/// No op.
pub(crate) const NO_SLOT: Slot = u32::MAX;
/// More than one op.
pub(crate) const FORKED: Slot = u32::MAX - 1;

/// A `Text` op of an admitted change, with its references resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextOp {
    /// The change that holds it; of its ops on this text only the first counts.
    pub change: ChangeId,
    /// Who signed it.
    pub author: PublicKey,
    /// What the edits stand on, without entries that name the text's creator.
    pub base: TextVersion,
    /// Name of the editing session.
    pub agent: Box<str>,
    /// Number of the op's last event in that session.
    pub seq: u64,
    /// The edits, each on top of the ones before.
    pub edits: Vec<TextEdit>,
}

/// What a local edit becomes when a change is written: the fields of [`crate::op::Op::Text`], unresolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextDraft {
    /// What the edits stand on.
    pub base: TextVersion,
    /// Name of the editing session.
    pub agent: Box<str>,
    /// Number of the last event.
    pub seq: u64,
    /// The edits.
    pub edits: Vec<TextEdit>,
}

/// An op, or the rest of one that a version has the beginning of, as clients of Braid that merge themselves take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextUpdate {
    /// The change that holds it.
    pub change: ChangeId,
    /// The name of its last event; the others count down from there.
    pub name: EventName,
    /// The names of what it stands on; none is the empty text.
    pub parents: Vec<EventName>,
    /// The edits as they were made on that, each on top of the ones before.
    pub edits: Vec<TextEdit>,
}

/// Why an op has no effect, now and for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoEffect {
    /// The change has an op on this text already.
    #[error("the change has a text op on this text already")]
    Second,
    /// No edits, or too many.
    #[error("a text op has 1 to {} edits", crate::op::TEXT_EDITS_MAX)]
    EditCount,
    /// An edit that does nothing.
    #[error("an edit neither takes out nor puts in anything")]
    EmptyEdit,
    /// A position that no text has.
    #[error("an edit reaches beyond what any text holds")]
    OutOfRange,
    /// A name that cannot be used.
    #[error("the session's name cannot be used")]
    Agent,
    /// The number of the last event is lower than the number of events.
    #[error("the last event's number is too low for so many events")]
    Seq,
    /// A base entry that is no valid op on this text, or an event that it does not have.
    #[error("the base names something that is no event of this text")]
    Base,
    /// A base outside the past of the change.
    #[error("the base is not in the change's past")]
    OutsidePast,
    /// The session's op before is not in what this one stands on.
    #[error("the session would be concurrent with itself")]
    OwnRule,
    /// The text has had 2^31 events: this peer cannot number more. The only answer that may differ between peers.
    #[error("the text has had too many events")]
    Full,
    /// Too many sessions of one author at once.
    #[error("more than {AGENTS_PER_AUTHOR_MAX} sessions of one author at once")]
    TooManyAgents,
}

/// Why nothing can be said about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// An event that is not in the text: unknown here, or without effect.
    #[error("the version names an event that is not in the text")]
    Unknown,
    /// An edit does not fit the version it is made on.
    #[error("an edit does not fit the text of its version")]
    DoesNotFit,
    /// It would take too long.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

/// What merging did to the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Edits that a watcher applies, in order, to the text it had.
    pub patches: Vec<TextEdit>,
    /// The budget ran out: the text is as good as it was, and ops wait.
    pub parked: bool,
}

/// What was found out about a valid op.
struct Checked {
    events: u32,
    heads: Vec<Event>,
    own_before: Vec<Slot>,
    session_before: Vec<Slot>,
    own_heads: Vec<Slot>,
}

/// What is known of the events that edits are said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// None of them; the edits are new.
    New,
    /// All of them, and they are these.
    Same,
    /// The first ones, up to the event named last; what is left of the edits stands on that.
    Begun {
        /// The last event that is known.
        last: (ChangeId, u64),
        /// The edits that are new.
        rest: Vec<TextEdit>,
    },
    /// Some of them are other ones.
    Other,
}

/// One text.
#[derive(Clone, Debug)]
pub struct TextObject {
    pub(crate) ops: Ops,
    pub(crate) agents: Agents,
    pub(crate) by_change: HashMap<ChangeId, Slot>,
    pub(crate) authors: HashMap<PublicKey, u32>,
    pub(crate) author_keys: Vec<PublicKey>,
    /// What came after what, of all valid ops.
    pub(crate) graph: Graph,
    /// By author, and by author and session: the ops that none of his later ones comes after in the order of changes.
    pub(crate) tips: BTreeMap<(u32, Option<u32>), Vec<Slot>>,
    /// By op, for the author and for the session: the op of theirs that it came after.
    pub(crate) before: Vec<[Slot; 2]>,
    /// The same, where that is more than one: only somebody who forks his own chain makes such.
    pub(crate) forks: BTreeMap<(Slot, usize), Vec<Slot>>,
    /// The author's ops that nothing of his builds on as text, where that is not the op alone.
    pub(crate) heads: SlotLists,
    pub(crate) merge: Merge,
    /// Valid ops that count and are not merged yet, in order of arrival.
    pub(crate) waiting: Vec<Slot>,
    pub(crate) rebuild: bool,
    pub(crate) parked: bool,
}

impl Default for TextObject {
    fn default() -> Self {
        Self::new()
    }
}

impl TextObject {
    /// An empty text.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ops: Ops::default(),
            agents: Agents::default(),
            by_change: HashMap::new(),
            authors: HashMap::new(),
            author_keys: Vec::new(),
            graph: Graph::default(),
            tips: BTreeMap::new(),
            before: Vec::new(),
            forks: BTreeMap::new(),
            heads: SlotLists::default(),
            merge: Merge::whole(),
            waiting: Vec::new(),
            rebuild: false,
            parked: false,
        }
    }

    /// Takes an op and, if it is valid, keeps it for the next [`TextObject::merge`]. Ops come in any order in which none
    /// comes before one of its change's past. `in_past` says whether a change is in the past of the op's change.
    ///
    /// # Errors
    ///
    /// [`NoEffect`]: the op is invalid on every peer, for ever.
    pub fn admit(&mut self, op: &TextOp, in_past: impl Fn(&ChangeId) -> bool) -> Result<(), NoEffect> {
        self.admit_as(op, true, in_past)
    }

    /// As [`TextObject::admit`], and says whether the op counts, see [`TextObject::set_effective`].
    ///
    /// # Errors
    ///
    /// [`NoEffect`].
    pub fn admit_as(&mut self, op: &TextOp, effective: bool, in_past: impl Fn(&ChangeId) -> bool) -> Result<(), NoEffect> {
        let Checked { events, heads, own_before, session_before, own_heads } = self.check(op, in_past)?;
        // Valid: from here on it is written down.
        let author = self.authors.get(&op.author).copied().unwrap_or_else(|| self.new_author(op.author));
        let agent = self.agents.intern(&mut self.ops, &op.agent);
        let next_seq = &mut self.ops.agents[agent as usize].next_seq;
        *next_seq = op.seq.saturating_add(1).max(*next_seq);
        let parents: Vec<(Slot, u32)> = heads.iter().map(|event| self.slot_of(*event)).collect();
        let mut record = Ops::new_record(op.change, author, agent, op.seq, events, self.graph.end());
        record.effective = effective;
        self.graph.append(&heads, events);
        let slot = self.ops.push(record, &parents, &op.edits);
        self.by_change.insert(op.change, slot);
        self.before.push([NO_SLOT; 2]);
        self.link((author, None), slot, own_before);
        self.link((author, Some(agent)), slot, session_before);
        if !own_heads.is_empty() {
            self.heads.push(slot, own_heads.into_iter().chain([slot]));
        }
        if effective {
            self.count(slot);
        }
        Ok(())
    }

    /// Whether [`TextObject::admit`] would take an op.
    ///
    /// # Errors
    ///
    /// [`NoEffect`].
    pub fn would_admit(&self, op: &TextOp, in_past: impl Fn(&ChangeId) -> bool) -> Result<(), NoEffect> {
        self.check(op, in_past).map(drop)
    }

    fn check(&self, op: &TextOp, in_past: impl Fn(&ChangeId) -> bool) -> Result<Checked, NoEffect> {
        if self.by_change.contains_key(&op.change) {
            return Err(NoEffect::Second);
        }
        let events = count_events(&op.edits)?;
        // `ROOT` is what diamond-types calls the start.
        if &*op.agent == "ROOT" || op.agent.len() > TEXT_AGENT_BYTES_MAX {
            return Err(NoEffect::Agent);
        }
        if op.seq < u64::from(events) - 1 || op.seq == u64::MAX {
            return Err(NoEffect::Seq);
        }
        let parents = self.base_events(&op.base)?;
        if !op.base.iter().all(|(change, _)| in_past(change)) {
            return Err(NoEffect::OutsidePast);
        }
        // Unlimited: peers must agree on validity, and it is linear in runs of events at worst.
        let mut budget = Budget::unlimited();
        let mut heads = parents;
        self.graph.reduce(&mut heads, &mut budget).map_err(|_| NoEffect::Base)?;
        if events > EVENTS_MAX - self.graph.end() {
            return Err(NoEffect::Full);
        }

        let author = self.authors.get(&op.author).copied();
        let agent = self.agents.number(&op.agent);
        let mut own_before = Vec::new();
        let mut session_before = Vec::new();
        let mut own_heads = Vec::new();
        if let Some(author) = author {
            own_before = self.last_before((author, None), &in_past);
            if let Some(agent) = agent {
                session_before = self.last_before((author, Some(agent)), &in_past);
                for slot in &session_before {
                    if !self.graph.contains(&heads, self.last_event(*slot), &mut budget).unwrap_or(false) {
                        return Err(NoEffect::OwnRule);
                    }
                }
            }
            let mut open = Vec::new();
            for slot in &own_before {
                for head in self.heads.get(*slot).unwrap_or(std::slice::from_ref(slot)) {
                    let event = self.last_event(*head);
                    if !self.graph.contains(&heads, event, &mut budget).unwrap_or(false) {
                        open.push(event);
                    }
                }
            }
            self.graph.reduce(&mut open, &mut budget).map_err(|_| NoEffect::Base)?;
            if open.len() + 1 > AGENTS_PER_AUTHOR_MAX {
                return Err(NoEffect::TooManyAgents);
            }
            own_heads = open.iter().map(|event| self.slot_of(*event).0).collect();
        }

        Ok(Checked { events, heads, own_before, session_before, own_heads })
    }

    /// Notes that a valid op counts.
    fn count(&mut self, slot: Slot) {
        // A name that has decided nothing so far can be changed without anybody seeing it.
        if self.agents.claim(&mut self.ops, slot) && self.ops.agents[self.ops.record(slot).agent as usize].tied {
            self.rebuild = true;
        }
        self.waiting.push(slot);
    }

    fn new_author(&mut self, key: PublicKey) -> u32 {
        let author = self.author_keys.len() as u32;
        self.author_keys.push(key);
        self.authors.insert(key, author);
        author
    }

    /// The numbers of a base's events in the graph of valid ops.
    pub(super) fn base_events(&self, base: &[(ChangeId, u64)]) -> Result<Vec<Event>, NoEffect> {
        if base.len() > BASE_MAX {
            return Err(NoEffect::Base);
        }
        base.iter()
            .map(|(change, event)| {
                let record = self.ops.record(*self.by_change.get(change)?);
                (1..=u64::from(record.events)).contains(event).then(|| record.start + *event as u32 - 1)
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(NoEffect::Base)
    }

    pub(super) fn last_event(&self, slot: Slot) -> Event {
        let record = self.ops.record(slot);
        record.start + record.events - 1
    }

    /// Op and event in it (from 0) of a number in the graph of valid ops.
    pub(super) fn slot_of(&self, event: Event) -> (Slot, u32) {
        let slot = self.ops.records.partition_point(|record| record.start <= event).saturating_sub(1);
        (slot as Slot, event - self.ops.records[slot].start)
    }

    /// The last ops of an author, or of a session of his, in the past of a change.
    fn last_before(&self, whose: (u32, Option<u32>), in_past: &impl Fn(&ChangeId) -> bool) -> Vec<Slot> {
        let mut found = Vec::new();
        let Some(tips) = self.tips.get(&whose) else { return found };
        let mut stack = tips.clone();
        let mut passed = BTreeSet::new();
        while let Some(slot) = stack.pop() {
            if in_past(&self.ops.record(slot).change) {
                if !found.contains(&slot) {
                    found.push(slot);
                }
            } else if passed.insert(slot) {
                let kind = usize::from(whose.1.is_some());
                match self.before[slot as usize][kind] {
                    NO_SLOT => {}
                    FORKED => stack.extend(self.forks.get(&(slot, kind)).into_iter().flatten()),
                    before => stack.push(before),
                }
            }
        }
        found
    }

    /// Writes down which ops of its author or session an op came after.
    fn link(&mut self, whose: (u32, Option<u32>), slot: Slot, before: Vec<Slot>) {
        let tips = self.tips.entry(whose).or_default();
        tips.retain(|tip| !before.contains(tip));
        tips.push(slot);
        let kind = usize::from(whose.1.is_some());
        self.before[slot as usize][kind] = match before.as_slice() {
            [] => NO_SLOT,
            [one] => *one,
            _ => {
                self.forks.insert((slot, kind), before);
                FORKED
            }
        };
    }

    /// Merges the ops that wait. A parked text merges nothing: see [`TextObject::resume`].
    pub fn merge(&mut self, budget: &mut Budget) -> Merged {
        if self.parked {
            return Merged { patches: Vec::new(), parked: true };
        }
        self.resume(budget)
    }

    /// Takes an op and merges it: [`TextObject::admit`] and [`TextObject::merge`].
    ///
    /// # Errors
    ///
    /// [`NoEffect`].
    pub fn apply(&mut self, op: &TextOp, in_past: impl Fn(&ChangeId) -> bool, budget: &mut Budget) -> Result<Merged, NoEffect> {
        self.admit(op, in_past)?;
        Ok(self.merge(budget))
    }

    /// Merges the ops that wait, also after the text was parked. On success it is parked no more.
    pub fn resume(&mut self, budget: &mut Budget) -> Merged {
        if self.rebuild {
            return self.rebuild(budget);
        }
        let order = by_branch(&self.ops, &self.waiting);
        let (mut tied, mut moved) = (Ties::default(), Vec::new());
        let (done, result) = self.merge.merge(&self.ops, &order, &mut tied, &mut moved, budget);
        self.waiting = order[done..].to_vec();
        self.waiting.sort_unstable();
        self.note_ties(&tied);
        self.parked = result.is_err();
        Merged { patches: patches(moved), parked: self.parked }
    }

    /// Takes over what was merged of a copy of this text, to which ops were added since. Says whether it fits: which ops
    /// count must not have been decided anew meanwhile.
    pub fn take_over(&mut self, other: Self) -> bool {
        let known = other.ops.len();
        if known > self.ops.len() || !other.ops.records.iter().zip(&self.ops.records).all(|(a, b)| (a.change, a.effective) == (b.change, b.effective))
        {
            return false;
        }
        // A name that decided something there may have clashed here meanwhile.
        let mut rebuild = other.rebuild;
        for (mine, theirs) in self.ops.agents.iter_mut().zip(&other.ops.agents) {
            rebuild |= mine.clashed != theirs.clashed && (theirs.tied || mine.tied);
            mine.tied |= theirs.tied;
        }
        self.waiting.retain(|slot| *slot as usize >= known || other.waiting.contains(slot));
        self.merge = other.merge;
        self.parked = other.parked;
        self.rebuild = rebuild;
        true
    }

    /// Merges everything again, beside the text that is served meanwhile.
    fn rebuild(&mut self, budget: &mut Budget) -> Merged {
        let slots: Vec<Slot> = (0..self.ops.len() as Slot).filter(|slot| self.ops.record(*slot).effective).collect();
        let mut merge = Merge::whole();
        let (mut tied, mut moved) = (Ties::default(), Vec::new());
        let (_, result) = merge.merge(&self.ops, &by_branch(&self.ops, &slots), &mut tied, &mut moved, budget);
        self.parked = result.is_err();
        if self.parked {
            return Merged { patches: Vec::new(), parked: true };
        }
        let (old, new) = (self.text(), merge.rope().to_string());
        self.merge = merge;
        self.note_ties(&tied);
        self.waiting.clear();
        self.rebuild = false;
        Merged { patches: edits_between(&old, &new), parked: false }
    }

    fn note_ties(&mut self, tied: &Ties) {
        for agent in tied.agents() {
            self.ops.agents[agent].tied = true;
        }
    }

    /// Says which of the ops taken so far count: rights were given or taken back. The text follows at the next
    /// [`TextObject::merge`].
    pub fn set_effective(&mut self, changes: &[(ChangeId, bool)]) {
        let mut changed = false;
        for (change, effective) in changes {
            if let Some(slot) = self.by_change.get(change) {
                let record = &mut self.ops.records[*slot as usize];
                changed |= record.effective != *effective;
                record.effective = *effective;
            }
        }
        if !changed {
            return;
        }
        self.agents.reset(&mut self.ops);
        self.waiting.clear();
        for slot in 0..self.ops.len() as Slot {
            if self.ops.record(slot).effective {
                self.count(slot);
            }
        }
        self.rebuild = true;
    }
}

/// Joins what belongs together: typing, and replacing.
pub(super) fn patches(moved: Vec<Moved>) -> Vec<TextEdit> {
    let mut out: Vec<(u64, u64, String, u64)> = Vec::new();
    for edit in moved {
        let (pos, del, chars) = (u64::from(edit.pos), u64::from(edit.del), edit.ins.chars().count() as u64);
        match out.last_mut() {
            Some((at, gone, ins, count)) if *at + *count == pos => {
                *gone += del;
                ins.push_str(&edit.ins);
                *count += chars;
            }
            // Backspace.
            Some((at, gone, ins, _)) if ins.is_empty() && chars == 0 && pos + del == *at => {
                *at = pos;
                *gone += del;
            }
            _ => out.push((pos, del, edit.ins, chars)),
        }
    }
    out.into_iter().filter(|(_, del, ins, _)| *del > 0 || !ins.is_empty()).map(|(pos, del, ins, _)| TextEdit { pos, del, ins: ins.into() }).collect()
}
