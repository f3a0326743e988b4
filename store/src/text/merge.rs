//! From ops to text: each op is carried over to the merged text of all ops before it.

use std::borrow::Cow;
use std::cmp::Ordering;

use jumprope::JumpRope;

use super::TEXT_CHARS_MAX;
use super::budget::{Budget, OverBudget};
use super::graph::{EVENTS_MAX, Event, Graph, NONE};
use super::ops::{Ops, Slot};
use super::order::by_branch;
use super::tracker::{Names, Tracker};

/// Characters that a step puts in or takes out of a text in one stretch, where nothing else was done meanwhile.
const PLAIN_CHARS: u64 = 16;

/// A part of an op in the order of merging.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: Event,
    slot: Slot,
    /// Its first event in the op.
    from: u32,
    /// Characters of the version after it.
    len_after: u32,
}

/// An edit of the merged text: at `pos`, `del` characters out and the text at these bytes of step `ins` in.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) pos: u32,
    pub(crate) del: u32,
    pub(crate) ins: String,
}

/// What became of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is in the text.
    Merged,
    /// It does not fit the text it was made on, or stands on an op without effect.
    NoEffect,
}

/// A merge from some version on: the whole text, or what is needed to see what came after a version.
#[derive(Clone, Debug)]
pub(crate) struct Merge {
    graph: Graph,
    pieces: Vec<Piece>,
    /// First event of each op here.
    first: Vec<Event>,
    /// Op, first event in it, number here: parts of ops that are not here from their start on.
    tails: Vec<(Slot, u32, Event)>,
    /// Whether ops that are not here came before.
    partial: bool,
    len: u32,
    rope: Option<JumpRope>,
    hot: Option<Hot>,
    /// Whether a window may be put in another order before it is replayed.
    reorder: bool,
}

/// A tracker that may be used again.
#[derive(Clone, Debug)]
struct Hot {
    /// It starts at this cut.
    cut: Event,
    /// It has consumed what is before this event; that begins a piece.
    fed: Event,
    tracker: Tracker,
}

/// Agents whose names have decided something.
#[derive(Debug, Default)]
pub(crate) struct Ties {
    bits: Vec<u64>,
}

impl Ties {
    fn mark(&mut self, agent: u32) {
        let word = agent as usize / 64;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (agent % 64);
    }

    /// These agents.
    pub(crate) fn agents(&self) -> impl Iterator<Item = usize> {
        let words = self.bits.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit))
    }
}

struct Namer<'a> {
    ops: &'a Ops,
    pieces: &'a [Piece],
    /// The op at hand, whose events have no piece yet.
    current: (Event, Slot),
    name: Cow<'a, str>,
    tied: &'a mut Ties,
}

impl Namer<'_> {
    fn slot(&self, event: Event) -> Slot {
        if event >= self.current.0 {
            return self.current.1;
        }
        let at = self.pieces.partition_point(|piece| piece.start <= event);
        self.pieces[at.saturating_sub(1)].slot
    }
}

impl Names for Namer<'_> {
    fn compare_to(&mut self, other: Event) -> Ordering {
        let other = self.slot(other);
        let (mine, theirs) = (self.ops.record(self.current.1).agent, self.ops.record(other).agent);
        self.tied.mark(mine);
        self.tied.mark(theirs);
        let by_name = (*self.name).cmp(&*self.ops.name(other));
        by_name.then_with(|| self.ops.compare_numbers(self.current.1, other))
    }
}

impl Merge {
    /// A merge of everything, from the empty text on.
    pub(crate) fn whole() -> Self {
        Self {
            graph: Graph::default(),
            pieces: Vec::new(),
            first: Vec::new(),
            tails: Vec::new(),
            partial: false,
            len: 0,
            rope: Some(JumpRope::new()),
            hot: None,
            reorder: true,
        }
    }

    /// A merge that goes on from a version of `len` characters and keeps no text.
    fn from_version(len: u32) -> Self {
        Self { partial: true, len, rope: None, reorder: false, ..Self::whole() }
    }

    /// Characters of the merged text.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The merged text.
    pub(crate) fn rope(&self) -> &JumpRope {
        static EMPTY: std::sync::LazyLock<JumpRope> = std::sync::LazyLock::new(JumpRope::new);
        self.rope.as_ref().unwrap_or(&EMPTY)
    }

    /// Whether an op is in the text.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.first.get(slot as usize).is_some_and(|first| *first != NONE)
    }

    /// Spans held for the merge under way.
    pub(crate) fn spans(&self) -> usize {
        self.hot.as_ref().map_or(0, |hot| hot.tracker.spans())
    }

    /// The ops in the order they were merged.
    pub(crate) fn order(&self) -> impl Iterator<Item = Slot> {
        self.pieces.iter().map(|piece| piece.slot)
    }

    /// Characters of the version after each op of [`Merge::order`].
    pub(crate) fn lens(&self) -> impl Iterator<Item = u32> {
        self.pieces.iter().map(|piece| piece.len_after)
    }

    /// The number here of an op's event (from 0).
    fn event(&self, slot: Slot, event: u32) -> Option<Event> {
        if let Some((_, from, start)) = self.tails.iter().rev().find(|(tail, from, _)| *tail == slot && *from <= event) {
            return Some(start + event - from);
        }
        self.first.get(slot as usize).filter(|first| **first != NONE).map(|first| first + event)
    }

    /// Op and event (from 0) of a number.
    fn place(&self, event: Event) -> (Slot, u32) {
        let at = self.pieces.partition_point(|piece| piece.start <= event).saturating_sub(1);
        let piece = &self.pieces[at];
        (piece.slot, piece.from + event - piece.start)
    }

    /// The events nothing builds on: op and event (from 0).
    pub(crate) fn frontier(&self) -> Vec<(Slot, u32)> {
        self.graph.frontier().iter().map(|event| self.place(*event)).collect()
    }

    /// The numbers of a version's events; `None` if one of them is not in the text.
    fn events(&self, version: &[(Slot, u32)], budget: &mut Budget) -> Result<Option<Vec<Event>>, OverBudget> {
        let Some(mut events) = version.iter().map(|(slot, event)| self.event(*slot, *event)).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        self.graph.reduce(&mut events, budget)?;
        Ok(Some(events))
    }

    /// Characters of the version at a cut.
    fn len_at(&self, ops: &Ops, cut: Event) -> u32 {
        if cut == self.graph.end() {
            return self.len;
        }
        let at = self.pieces.partition_point(|piece| piece.start <= cut).saturating_sub(1);
        let piece = self.pieces[at];
        let end = self.pieces.get(at + 1).map_or(self.graph.end(), |next| next.start);
        let after = ops.growth(piece.slot, piece.from + cut - piece.start, piece.from + end - piece.start);
        // What comes from a damaged snapshot need not fit.
        (i64::from(piece.len_after) - after).clamp(0, TEXT_CHARS_MAX as i64) as u32
    }

    /// Merges ops that arrived in this order; `moved` takes what each does to the merged text. Ends early when the
    /// budget does: then the number says how many of `order` were dealt with.
    pub(crate) fn merge(
        &mut self,
        ops: &Ops,
        order: &[Slot],
        tied: &mut Ties,
        moved: &mut Vec<Moved>,
        budget: &mut Budget,
    ) -> (usize, Result<(), OverBudget>) {
        for (at, slot) in order.iter().enumerate() {
            match self.merge_piece(ops, *slot, 0, ops.record(*slot).events, tied, budget) {
                Ok((_, edits)) => moved.extend(edits),
                Err(over) => return (at, Err(over)),
            }
        }
        (order.len(), Ok(()))
    }

    /// Merges events `from..to` of an op. On an error nothing has changed but that the next merge may take longer.
    fn merge_piece(
        &mut self,
        ops: &Ops,
        slot: Slot,
        from: u32,
        to: u32,
        tied: &mut Ties,
        budget: &mut Budget,
    ) -> Result<(Fate, Vec<Moved>), OverBudget> {
        budget.take(1)?;
        let Some(mut parents) = self.parents(ops, slot, from) else { return Ok((Fate::NoEffect, Vec::new())) };
        let count = to - from;
        if count > EVENTS_MAX - self.graph.end() {
            return Err(OverBudget { taken: budget.taken() });
        }
        let max = TEXT_CHARS_MAX as u32;
        if parents == self.graph.frontier() {
            budget.take(ops.edits(slot).len() as u64 + u64::from(count) / PLAIN_CHARS)?;
            if !ops.fits(slot, from, to, self.len, max) {
                return Ok((Fate::NoEffect, Vec::new()));
            }
            let moved: Vec<Moved> = plain(ops, slot, from, to);
            let len_after = (i64::from(self.len) + ops.growth(slot, from, to)) as u32;
            self.note(slot, from, to, &parents, len_after);
            self.apply(&moved);
            // Feeding it all that would cost more than starting anew.
            self.hot = self.hot.take().filter(|hot| self.pieces_since(hot.fed) <= hot.tracker.spans());
            return Ok((Fate::Merged, moved));
        }
        let cut = self.graph.cut_in(&parents);
        let mut hot = match self.hot.take().filter(|hot| hot.cut <= cut && self.pieces_since(hot.fed) <= self.pieces_since(cut)) {
            Some(hot) => hot,
            None => {
                if self.reorder {
                    self.reorder_after(ops, cut);
                    parents = self.parents(ops, slot, from).unwrap_or(parents);
                }
                Hot { cut, fed: cut, tracker: Tracker::new(self.graph.heads_at(cut), self.len_at(ops, cut)) }
            }
        };
        self.feed(ops, &mut hot, tied, budget)?;
        hot.tracker.go_to(&self.graph, &parents, budget)?;
        if !ops.fits(slot, from, to, hot.tracker.shown(), max) {
            self.hot = Some(hot);
            return Ok((Fate::NoEffect, Vec::new()));
        }
        let start = self.graph.end();
        let moved = self.consume(ops, &mut hot.tracker, (slot, from, to), start, tied, budget)?;
        let len_after = hot.tracker.shown();
        self.note(slot, from, to, &parents, len_after);
        hot.fed = self.graph.end();
        self.hot = Some(hot);
        self.apply(&moved);
        Ok((Fate::Merged, moved))
    }

    /// Pieces that begin at or after an event.
    fn pieces_since(&self, event: Event) -> usize {
        self.pieces.len() - self.pieces.partition_point(|piece| piece.start < event)
    }

    /// What a part of an op stands on here; `None` if that has no effect.
    fn parents(&self, ops: &Ops, slot: Slot, from: u32) -> Option<Vec<Event>> {
        let mut events = Vec::with_capacity(ops.parents(slot).len());
        self.parents_into(ops, slot, from, &mut events).then_some(events)
    }

    /// The same into a list that can be used again; says whether it has an effect.
    fn parents_into(&self, ops: &Ops, slot: Slot, from: u32, events: &mut Vec<Event>) -> bool {
        events.clear();
        if from > 0 {
            events.extend(self.event(slot, from - 1));
            return true;
        }
        for (parent, event) in ops.parents(slot) {
            match self.event(*parent, *event) {
                Some(event) => events.push(event),
                None if self.partial => {}
                None => return false,
            }
        }
        events.sort_unstable();
        true
    }

    /// Carries a part of an op, whose first event gets the number `start`, over to the merged text.
    fn consume(
        &self,
        ops: &Ops,
        tracker: &mut Tracker,
        (slot, from, to): (Slot, u32, u32),
        start: Event,
        tied: &mut Ties,
        budget: &mut Budget,
    ) -> Result<Vec<Moved>, OverBudget> {
        if !ops.fits(slot, from, to, tracker.shown(), u32::MAX) {
            // Only what comes from a damaged snapshot does not fit where it once did.
            return Err(OverBudget { taken: budget.taken() });
        }
        let mut names = Namer { ops, pieces: &self.pieces, current: (start, slot), name: ops.name(slot), tied };
        let mut moved = Vec::new();
        let mut gone = Vec::new();
        let mut event = start;
        for step in ops.steps(slot, from, to) {
            if step.del > 0 {
                tracker.delete(event, step.del, step.del_pos, &mut gone, budget)?;
                event += step.del;
                moved.extend(gone.drain(..).map(|(pos, del)| Moved { pos, del, ins: String::new() }));
            }
            if step.chars > 0 {
                let pos = tracker.insert(event, step.chars, step.ins_pos, &mut names, budget)?;
                event += step.chars;
                moved.push(Moved { pos, del: 0, ins: step.ins.to_owned() });
            }
        }
        tracker.now_at(event - 1);
        Ok(moved)
    }

    /// Lets a tracker consume all that is merged.
    fn feed(&self, ops: &Ops, hot: &mut Hot, tied: &mut Ties, budget: &mut Budget) -> Result<(), OverBudget> {
        let from = hot.fed;
        let first = self.pieces.partition_point(|piece| piece.start < from);
        let end_of = |at: usize| self.pieces.get(at).map_or(self.graph.end(), |next| next.start);
        // A cut may be inside of an op.
        if let Some(piece) = first.checked_sub(1).map(|at| self.pieces[at]).filter(|_| from < end_of(first)) {
            let (part, to) = (piece.from + from - piece.start, piece.from + end_of(first) - piece.start);
            self.consume(ops, &mut hot.tracker, (piece.slot, part, to), from, tied, budget)?;
        }
        for (at, piece) in self.pieces.iter().enumerate().skip(first) {
            let Some(parents) = self.parents(ops, piece.slot, piece.from) else { continue };
            hot.tracker.go_to(&self.graph, &parents, budget)?;
            let to = piece.from + end_of(at + 1) - piece.start;
            self.consume(ops, &mut hot.tracker, (piece.slot, piece.from, to), piece.start, tied, budget)?;
        }
        hot.fed = self.graph.end();
        Ok(())
    }

    /// Puts the ops after a cut in an order that replays fast.
    fn reorder_after(&mut self, ops: &Ops, from: Event) {
        let first = self.pieces.partition_point(|piece| piece.start < from);
        let mut slots: Vec<Slot> = self.pieces[first..].iter().map(|piece| piece.slot).collect();
        slots.sort_unstable();
        let order = by_branch(ops, &slots);
        if order.iter().eq(self.pieces[first..].iter().map(|piece| &piece.slot)) {
            return;
        }
        let lens: Vec<(Slot, u32)> = {
            let mut lens: Vec<_> = self.pieces[first..].iter().map(|piece| (piece.slot, piece.len_after)).collect();
            lens.sort_unstable();
            lens
        };
        // An op that the cut is in the middle of stays where it is.
        let end = self.pieces[first].start;
        let frontier = if end == from { self.graph.heads_at(from) } else { vec![end - 1] };
        self.graph.truncate(end, frontier);
        self.pieces.truncate(first);
        for slot in order {
            let parents = self.parents(ops, slot, 0).unwrap_or_default();
            let len_after = lens.binary_search_by_key(&slot, |(slot, _)| *slot).map_or(0, |at| lens[at].1);
            self.note(slot, 0, ops.record(slot).events, &parents, len_after);
        }
    }

    /// Writes down that a part of an op is in the text.
    fn note(&mut self, slot: Slot, from: u32, to: u32, parents: &[Event], len_after: u32) {
        let start = self.graph.end();
        self.graph.append(parents, to - from);
        self.pieces.push(Piece { start, slot, from, len_after });
        if from > 0 {
            self.tails.push((slot, from, start));
            return;
        }
        if self.first.len() <= slot as usize {
            self.first.resize(slot as usize + 1, NONE);
        }
        self.first[slot as usize] = start;
    }

    /// Takes an op as merged without looking: for text that was stored with its ops.
    pub(crate) fn restore(&mut self, ops: &Ops, slot: Slot, len_after: u32, parents: &mut Vec<Event>) -> bool {
        let events = ops.record(slot).events;
        let fits = !self.has(slot) && events <= EVENTS_MAX - self.graph.end() && self.parents_into(ops, slot, 0, parents);
        if fits {
            self.note(slot, 0, events, parents, len_after);
        }
        fits
    }

    /// Takes a text as what the restored ops give.
    pub(crate) fn restore_text(&mut self, text: &str) {
        let rope = JumpRope::from(text);
        self.len = rope.len_chars() as u32;
        self.rope = Some(rope);
    }

    fn apply(&mut self, moved: &[Moved]) {
        for edit in moved {
            let chars = match &mut self.rope {
                Some(rope) => {
                    let (pos, end) = (edit.pos as usize, (edit.pos + edit.del) as usize);
                    // It fits, unless the text comes from a damaged snapshot.
                    let end = end.min(rope.len_chars());
                    if pos < end {
                        rope.remove(pos..end);
                    }
                    if !edit.ins.is_empty() {
                        rope.insert(pos.min(rope.len_chars()), &edit.ins);
                    }
                    rope.len_chars() as u32
                }
                None => self.len.saturating_sub(edit.del) + edit.ins.chars().count() as u32,
            };
            self.len = chars;
        }
    }

    /// The parts of the ops that are at or before a version, and those that are not, from a cut on; each part is op,
    /// first event, end.
    fn parts(&self, heads: &[Event], from: Event, budget: &mut Budget) -> Result<(Vec<Part>, Vec<Part>), OverBudget> {
        let (_, mut inside) = self.graph.diff(&self.graph.heads_at(from), heads, budget)?;
        inside.reverse();
        let (mut within, mut beyond) = (Vec::new(), Vec::new());
        let mut at = self.pieces.partition_point(|piece| piece.start <= from).saturating_sub(1);
        let mut event = from;
        let mut spans = inside.into_iter().peekable();
        while event < self.graph.end() {
            budget.take(1)?;
            let piece = self.pieces[at];
            let end = self.pieces.get(at + 1).map_or(self.graph.end(), |next| next.start);
            if event >= end {
                at += 1;
                continue;
            }
            while spans.next_if(|(_, stop)| *stop <= event).is_some() {}
            let (list, stop) = match spans.peek() {
                Some((start, stop)) if *start <= event => (&mut within, end.min(*stop)),
                Some((start, _)) => (&mut beyond, end.min(*start)),
                None => (&mut beyond, end),
            };
            list.push((piece.slot, piece.from + event - piece.start, piece.from + stop - piece.start));
            event = stop;
        }
        Ok((within, beyond))
    }

    /// Puts parts in an order that merges fast. Parts that begin inside an op come first: each stands only on what
    /// was merged before.
    fn parts_by_branch(ops: &Ops, parts: Vec<Part>) -> Vec<Part> {
        let (mut order, mut rest): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|(_, from, _)| *from > 0);
        rest.sort_unstable();
        let slots: Vec<Slot> = rest.iter().map(|(slot, ..)| *slot).collect();
        order.extend(by_branch(ops, &slots).iter().filter_map(|slot| slots.binary_search(slot).ok().map(|at| rest[at])));
        order
    }

    /// What must be done to the text of a version to get the merged text; `None` if the version is not here.
    pub(crate) fn since(&self, ops: &Ops, version: &[(Slot, u32)], budget: &mut Budget) -> Result<Option<Vec<Moved>>, OverBudget> {
        let Some(heads) = self.events(version, budget)? else { return Ok(None) };
        if heads == self.graph.frontier() {
            return Ok(Some(Vec::new()));
        }
        let cut = self.graph.cut_in(&heads);
        let (within, beyond) = self.parts(&heads, cut, budget)?;
        let mut merge = Self::from_version(self.len_at(ops, cut));
        merge.take_parts(ops, within, budget)?;
        Ok(Some(merge.take_parts(ops, beyond, budget)?))
    }

    /// The parts of ops that a version lacks, in the order they were merged; `None` if the version is not here.
    pub(crate) fn lacking(&self, version: &[(Slot, u32)], budget: &mut Budget) -> Result<Option<Vec<Part>>, OverBudget> {
        let Some(heads) = self.events(version, budget)? else { return Ok(None) };
        Ok(Some(self.parts(&heads, self.graph.cut_in(&heads), budget)?.1))
    }

    /// What an op that was not merged would do to the merged text; `None` if it would have no effect.
    pub(crate) fn preview(&self, ops: &Ops, slot: Slot, budget: &mut Budget) -> Result<Option<Vec<Moved>>, OverBudget> {
        let Some(parents) = self.parents(ops, slot, 0) else { return Ok(None) };
        let cut = self.graph.cut_in(&parents);
        let (_, parts) = self.parts(&self.graph.heads_at(cut), cut, budget)?;
        let mut merge = Self::from_version(self.len_at(ops, cut));
        merge.take_parts(ops, parts, budget)?;
        let (fate, moved) = merge.merge_piece(ops, slot, 0, ops.record(slot).events, &mut Ties::default(), budget)?;
        Ok((fate == Fate::Merged).then_some(moved))
    }

    /// The text of a version; `None` if it is not here.
    pub(crate) fn text_at(&self, ops: &Ops, version: &[(Slot, u32)], budget: &mut Budget) -> Result<Option<String>, OverBudget> {
        let Some(heads) = self.events(version, budget)? else { return Ok(None) };
        let (within, _) = self.parts(&heads, 0, budget)?;
        let mut merge = Self { reorder: false, ..Self::whole() };
        merge.take_parts(ops, within, budget)?;
        Ok(Some(merge.rope().to_string()))
    }

    fn take_parts(&mut self, ops: &Ops, parts: Vec<Part>, budget: &mut Budget) -> Result<Vec<Moved>, OverBudget> {
        let mut all = Vec::new();
        for (slot, from, to) in Self::parts_by_branch(ops, parts) {
            let (fate, moved) = self.merge_piece(ops, slot, from, to, &mut Ties::default(), budget)?;
            if fate == Fate::NoEffect {
                // It was merged before: only what comes from a damaged snapshot does not fit again.
                return Err(OverBudget { taken: budget.taken() });
            }
            all.extend(moved);
        }
        Ok(all)
    }
}

/// Op, first event, end.
pub(crate) type Part = (Slot, u32, u32);

/// An op's edits as they are.
fn plain(ops: &Ops, slot: Slot, from: u32, to: u32) -> Vec<Moved> {
    ops.steps(slot, from, to).map(|step| Moved { pos: step.pos(), del: step.del, ins: step.ins.to_owned() }).collect()
}
