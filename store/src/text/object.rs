//! One text: which ops are valid, and the text they give.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use timebus_identity::PublicKey;

use super::agents::{Agents, EventName, change_of};
use super::budget::{Budget, OverBudget};
use super::diff::edits_between;
use super::graph::{EVENTS_MAX, Event, Graph};
use super::merge::{Merge, Moved, Ties};
use super::ops::{Ops, Slot};
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
    pub(crate) heads: BTreeMap<Slot, Vec<Slot>>,
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
            heads: BTreeMap::new(),
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
            self.heads.insert(slot, own_heads.into_iter().chain([slot]).collect());
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
                for head in self.heads.get(slot).map_or(std::slice::from_ref(slot), Vec::as_slice) {
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
    fn base_events(&self, base: &[(ChangeId, u64)]) -> Result<Vec<Event>, NoEffect> {
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

    fn last_event(&self, slot: Slot) -> Event {
        let record = self.ops.record(slot);
        record.start + record.events - 1
    }

    /// Op and event in it (from 0) of a number in the graph of valid ops.
    fn slot_of(&self, event: Event) -> (Slot, u32) {
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

    /// The merged text.
    #[must_use]
    pub fn text(&self) -> String {
        self.merge.rope().to_string()
    }

    /// Characters (Unicode scalar values) of the merged text.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.merge.len().into()
    }

    /// Whether the merged text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.merge.len() == 0
    }

    /// Characters of the merged text from one position up to another, as far as there are any.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> String {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        self.merge.rope().slice_chars(start as usize..end as usize).collect()
    }

    /// Whether work was put off; the text served is the last good one.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.parked
    }

    /// Valid ops known, merged or not.
    #[must_use]
    pub fn op_count(&self) -> usize {
        self.ops.len()
    }

    /// Spans held for the merge under way, each some 40 bytes; 0 while nobody edits concurrently.
    #[must_use]
    pub fn spans_held(&self) -> usize {
        self.merge.spans()
    }

    /// Whether an op is in the merged text.
    #[must_use]
    pub fn has_merged(&self, change: &ChangeId) -> bool {
        self.by_change.get(change).is_some_and(|slot| self.merge.has(*slot))
    }

    /// Whether a change has a valid op on this text.
    #[must_use]
    pub fn has(&self, change: &ChangeId) -> bool {
        self.by_change.contains_key(change)
    }

    /// The version of the merged text, sorted.
    #[must_use]
    pub fn version(&self) -> TextVersion {
        let mut version: TextVersion =
            self.merge.frontier().iter().map(|(slot, event)| (self.ops.record(*slot).change, u64::from(*event) + 1)).collect();
        version.sort_unstable();
        version
    }

    /// What clients call an event (from 1) of a change.
    #[must_use]
    pub fn event_name(&self, change: &ChangeId, event: u64) -> Option<EventName> {
        let slot = *self.by_change.get(change)?;
        let record = self.ops.record(slot);
        (1..=u64::from(record.events))
            .contains(&event)
            .then(|| EventName { agent: self.ops.name(slot).into_owned(), seq: record.seq_first() + event - 1 })
    }

    /// The event that clients call so: change and event (from 1).
    #[must_use]
    pub fn find_event(&self, agent: &str, seq: u64) -> Option<(ChangeId, u64)> {
        if let Some(change) = change_of(agent) {
            let record = self.ops.record(*self.by_change.get(&change)?);
            let named = self.ops.agents[record.agent as usize].clashed && (record.seq_first()..=record.seq).contains(&seq);
            return named.then(|| (change, seq - record.seq_first() + 1));
        }
        let (slot, event) = self.agents.find(&self.ops, agent, seq)?;
        Some((self.ops.record(slot).change, u64::from(event) + 1))
    }

    /// As [`TextObject::find_event`]; without an event if it is the last of its change, which stands for all of it.
    #[must_use]
    pub fn find_version(&self, agent: &str, seq: u64) -> Option<(ChangeId, Option<u64>)> {
        let (change, event) = self.find_event(agent, seq)?;
        Some((change, Some(event).filter(|event| self.events_of(&change) != Some(*event))))
    }

    /// How many events an op has.
    #[must_use]
    pub fn events_of(&self, change: &ChangeId) -> Option<u64> {
        Some(self.ops.record(*self.by_change.get(change)?).events.into())
    }

    /// The lowest number that nobody's events have under this name or beyond.
    #[must_use]
    pub fn next_seq(&self, agent: &str) -> u64 {
        self.agents.number(agent).map_or(0, |agent| self.ops.agents[agent as usize].next_seq)
    }

    /// What is known of the events `agent-seq_first` and following, which edits are said to be.
    #[must_use]
    pub fn known(&self, agent: &str, seq_first: u64, edits: &[TextEdit]) -> Known {
        let mut seq = seq_first;
        let mut last = None;
        for (at, edit) in edits.iter().enumerate() {
            let chars: Vec<char> = edit.ins.chars().collect();
            for event in 0..edit.del + chars.len() as u64 {
                let said = match event.checked_sub(edit.del) {
                    None => (edit.pos + edit.del - event - 1, None),
                    Some(put) => (edit.pos + put, Some(chars[put as usize])),
                };
                match self.find_event(agent, seq) {
                    // A hole would leave events behind it that stand on nothing.
                    None if (seq + 1..=seq_first + edits_events(edits) - 1).any(|later| self.find_event(agent, later).is_some()) => {
                        return Known::Other;
                    }
                    None => {
                        let Some(last) = last else { return Known::New };
                        let mut rest = Vec::with_capacity(edits.len() - at);
                        let put = event.saturating_sub(edit.del);
                        let del = edit.del.saturating_sub(event);
                        rest.push(TextEdit { pos: edit.pos + put, del, ins: chars[put as usize..].iter().collect::<String>().into() });
                        rest.extend_from_slice(&edits[at + 1..]);
                        return Known::Begun { last, rest };
                    }
                    Some((change, number)) if self.event(&change, number) == Some(said) => last = Some((change, number)),
                    Some(_) => return Known::Other,
                }
                seq += 1;
            }
        }
        Known::Same
    }

    /// An event (from 1) of an op: where, and what it puts in, if it does not take out.
    fn event(&self, change: &ChangeId, number: u64) -> Option<(u64, Option<char>)> {
        let slot = *self.by_change.get(change)?;
        let event = u32::try_from(number.checked_sub(1)?).ok()?;
        let step = self.ops.steps(slot, event, event + 1).next()?;
        Some(if step.del > 0 { (step.del_pos.into(), None) } else { (step.ins_pos.into(), step.ins.chars().next()) })
    }

    /// The events that nothing else of some changes builds on, whatever they stand on: what somebody had who had these
    /// changes and all that they stand on.
    #[must_use]
    pub fn version_within(&self, mut has: impl FnMut(&ChangeId) -> bool) -> TextVersion {
        let mut version = TextVersion::new();
        let mut queue: Vec<Slot> = self.merge.frontier().iter().map(|(slot, _)| *slot).collect();
        let mut passed = BTreeSet::new();
        while let Some(slot) = queue.pop() {
            if !passed.insert(slot) {
                continue;
            }
            let record = self.ops.record(slot);
            if self.merge.has(slot) && has(&record.change) {
                version.push((record.change, record.events.into()));
            } else {
                queue.extend(self.ops.parents(slot).iter().map(|(parent, _)| *parent));
            }
        }
        version.sort_unstable();
        version
    }

    /// An op as clients take it that merge themselves.
    #[must_use]
    pub fn update_of(&self, change: &ChangeId) -> Option<TextUpdate> {
        let slot = *self.by_change.get(change)?;
        Some(self.update((slot, 0, self.ops.record(slot).events)))
    }

    fn update(&self, (slot, from, to): (Slot, u32, u32)) -> TextUpdate {
        let name =
            |slot: Slot, event: u32| EventName { agent: self.ops.name(slot).into_owned(), seq: self.ops.record(slot).seq_first() + u64::from(event) };
        TextUpdate {
            change: self.ops.record(slot).change,
            name: name(slot, to - 1),
            parents: if from > 0 {
                vec![name(slot, from - 1)]
            } else {
                self.ops.parents(slot).iter().map(|(parent, event)| name(*parent, *event)).collect()
            },
            edits: self
                .ops
                .steps(slot, from, to)
                .map(|step| TextEdit { pos: step.pos().into(), del: step.del.into(), ins: step.ins.into() })
                .collect(),
        }
    }

    /// Edits that take an op back, made on the version after it alone; `None` if it is not in the text.
    ///
    /// # Errors
    ///
    /// [`VersionError`].
    pub fn inverse_of(&self, change: &ChangeId, budget: &mut Budget) -> Result<Option<Vec<TextEdit>>, VersionError> {
        let Some(slot) = self.by_change.get(change).copied().filter(|slot| self.merge.has(*slot)) else { return Ok(None) };
        let before: TextVersion =
            self.ops.parents(slot).iter().map(|(parent, event)| (self.ops.record(*parent).change, u64::from(*event) + 1)).collect();
        let before = self.text_at(&before, budget)?;
        let after = self.text_at(&[(*change, self.ops.record(slot).events.into())], budget)?;
        Ok(Some(edits_between(&after, &before)))
    }

    /// Memory taken, roughly.
    #[must_use]
    pub fn memory(&self) -> usize {
        1024 + self.ops.len() * 320 + self.ops.edits.len() * 24 + self.ops.inserted.len() + self.merge.rope().len_bytes() * 2 + self.spans_held() * 40
    }

    fn resolve(&self, version: &[(ChangeId, u64)]) -> Result<Vec<(Slot, u32)>, VersionError> {
        version
            .iter()
            .map(|(change, event)| {
                let slot = *self.by_change.get(change)?;
                (1..=u64::from(self.ops.record(slot).events)).contains(event).then(|| (slot, *event as u32 - 1))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(VersionError::Unknown)
    }

    /// The edits that make the text of a version into the merged text.
    ///
    /// # Errors
    ///
    /// [`VersionError`].
    pub fn patches_since(&self, version: &[(ChangeId, u64)], budget: &mut Budget) -> Result<Vec<TextEdit>, VersionError> {
        let moved = self.merge.since(&self.ops, &self.resolve(version)?, budget)?;
        Ok(patches(moved.ok_or(VersionError::Unknown)?))
    }

    /// The ops, and parts of ops, that a version lacks, in an order in which nothing comes before what it stands on.
    ///
    /// # Errors
    ///
    /// [`VersionError`].
    pub fn updates_since(&self, version: &[(ChangeId, u64)], budget: &mut Budget) -> Result<Vec<TextUpdate>, VersionError> {
        let parts = self.merge.lacking(&self.resolve(version)?, budget)?.ok_or(VersionError::Unknown)?;
        Ok(parts.into_iter().map(|part| self.update(part)).collect())
    }

    /// The text of a version.
    ///
    /// # Errors
    ///
    /// [`VersionError`].
    pub fn text_at(&self, version: &[(ChangeId, u64)], budget: &mut Budget) -> Result<String, VersionError> {
        self.merge.text_at(&self.ops, &self.resolve(version)?, budget)?.ok_or(VersionError::Unknown)
    }

    /// What edits made on an old version are on the merged text; `agent` and `seq` (of the last event) decide between
    /// characters put in at one place.
    ///
    /// # Errors
    ///
    /// [`VersionError`].
    pub fn transform(
        &mut self,
        version: &[(ChangeId, u64)],
        agent: &str,
        seq: u64,
        edits: &[TextEdit],
        budget: &mut Budget,
    ) -> Result<Vec<TextEdit>, VersionError> {
        let mut parents = self.base_events(version).map_err(|_| VersionError::Unknown)?;
        self.graph.reduce(&mut parents, budget)?;
        let events = count_events(edits).map_err(|_| VersionError::DoesNotFit)?;
        if seq < u64::from(events) - 1 || seq == u64::MAX {
            return Err(VersionError::DoesNotFit);
        }
        if !self.resolve(version)?.iter().all(|(slot, _)| self.merge.has(*slot)) {
            return Err(VersionError::Unknown);
        }
        let parents: Vec<(Slot, u32)> = parents.iter().map(|event| self.slot_of(*event)).collect();
        let known = self.agents.number(agent);
        let number = known.unwrap_or_else(|| self.ops.push_agent(agent));
        let record = Ops::new_record(ChangeId([0; 32]), u32::MAX, number, seq, events, self.graph.end());
        let slot = self.ops.push(record, &parents, edits);
        let moved = self.merge.preview(&self.ops, slot, budget);
        self.ops.pop();
        if known.is_none() {
            self.ops.agents.pop();
        }
        Ok(patches(moved?.ok_or(VersionError::DoesNotFit)?))
    }

    /// Whether a session may go on under its name: its events are claimed once, and all of its ops are in the merged
    /// text. Otherwise take a new name: an op that builds on one without effect has none either.
    #[must_use]
    pub fn is_usable(&self, agent: &str) -> bool {
        let Some(agent) = self.agents.number(agent) else { return change_of(agent).is_none() };
        let mut last = self.tips.iter().filter(|((_, session), _)| *session == Some(agent)).flat_map(|(_, tips)| tips);
        !self.ops.agents[agent as usize].clashed && last.all(|slot| self.merge.has(*slot))
    }

    /// Makes edits of the merged text into an op's fields. `None` if there is nothing to do, an edit does not fit, or
    /// the name cannot be used ([`TextObject::is_usable`]).
    #[must_use]
    pub fn draft_edits(&self, agent: &str, edits: Vec<TextEdit>) -> Option<TextDraft> {
        if !self.is_usable(agent) {
            return None;
        }
        let events = count_events(&edits).ok()?;
        let mut len = self.len();
        for edit in &edits {
            if edit.pos > len || edit.del > len - edit.pos {
                return None;
            }
            len = len - edit.del + edit.ins.chars().count() as u64;
        }
        let seq = self.next_seq(agent).checked_add(u64::from(events) - 1)?;
        (len <= super::TEXT_CHARS_MAX).then(|| TextDraft { base: self.version(), agent: agent.into(), seq, edits })
    }

    /// Makes a whole new text into an op's fields. `None` if nothing differs, or it is too long.
    #[must_use]
    pub fn draft_text(&self, agent: &str, new: &str) -> Option<TextDraft> {
        self.draft_edits(agent, edits_between(&self.text(), new))
    }

    /// UTF-16 code units before a character of the merged text, as JavaScript counts.
    #[must_use]
    pub fn utf16_of(&self, pos: u64) -> u64 {
        self.merge.rope().chars_to_wchars(pos.min(self.len()) as usize) as u64
    }

    /// Characters before a UTF-16 code unit of the merged text; the middle of a character counts as its start.
    #[must_use]
    pub fn pos_of_utf16(&self, units: u64) -> u64 {
        let units = units.min(self.merge.rope().len_wchars() as u64);
        self.merge.rope().wchars_to_chars(units as usize) as u64
    }
}

fn edits_events(edits: &[TextEdit]) -> u64 {
    edits.iter().map(|edit| edit.del + edit.ins.chars().count() as u64).sum()
}

/// Joins what belongs together: typing, and replacing.
fn patches(moved: Vec<Moved>) -> Vec<TextEdit> {
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
