//! What is asked of a text: its characters and versions, and what edits mean in it.

use std::collections::BTreeSet;
use std::ops::Range;

use timebus_identity::PublicKey;

use super::agents::{EventName, change_of};
use super::budget::Budget;
use super::diff::edits_between;
use super::object::{Known, TextDraft, TextObject, TextUpdate, VersionError, patches};
use super::ops::{Ops, Slot};
use super::{TextVersion, count_events};
use crate::ids::ChangeId;
use crate::op::TextEdit;

/// Up to which number a session of this device goes on; others may say any.
const SEQ_MAX: u64 = u64::MAX / 2;

impl TextObject {
    /// The merged text.
    #[must_use]
    pub fn text(&self) -> String {
        self.merge.rope().to_string()
    }

    /// Bytes of the merged text.
    pub(crate) fn len_bytes(&self) -> usize {
        self.merge.rope().len_bytes()
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

    /// The last op of a session of an author, as far as it is known: its change, and the number of its last event.
    #[must_use]
    pub fn last_of(&self, author: &PublicKey, agent: &str) -> Option<(ChangeId, u64)> {
        let whose = (*self.authors.get(author)?, Some(self.agents.number(agent)?));
        let record = self.ops.record(*self.tips.get(&whose)?.last()?);
        Some((record.change, record.seq))
    }

    /// Who has the events of this name, if they are claimed once.
    #[must_use]
    pub fn author_of(&self, agent: &str) -> Option<PublicKey> {
        self.author_keys.get(self.agents.author(agent)? as usize).copied()
    }

    /// What is known of the events `agent-seq_first` and following, which edits are said to be.
    #[must_use]
    pub fn known(&self, agent: &str, seq_first: u64, edits: &[TextEdit]) -> Known {
        let mut seq = seq_first;
        let mut last = None;
        // Behind it nobody's events have this name: mostly all of these.
        let end = if change_of(agent).is_some() { u64::MAX } else { self.next_seq(agent) };
        let end = end.min(seq_first.saturating_add(edits_events(edits)));
        for (at, edit) in edits.iter().enumerate() {
            let chars: Vec<char> = edit.ins.chars().collect();
            for event in 0..edit.del + chars.len() as u64 {
                let said = match event.checked_sub(edit.del) {
                    None => (edit.pos + edit.del - event - 1, None),
                    Some(put) => (edit.pos + put, Some(chars[put as usize])),
                };
                match self.find_event(agent, seq) {
                    // A hole would leave events behind it that stand on nothing.
                    None if (seq + 1..end).any(|later| self.find_event(agent, later).is_some()) => {
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
        // Whoever says a number near the end leaves none for what comes.
        let has_room = self.ops.agents[agent as usize].next_seq <= SEQ_MAX;
        let mut last = self.tips.iter().filter(|((_, session), _)| *session == Some(agent)).flat_map(|(_, tips)| tips);
        has_room && !self.ops.agents[agent as usize].clashed && last.all(|slot| self.merge.has(*slot))
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
