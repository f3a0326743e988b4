//! The merge: events since a critical version, with what each of them did, able to go to any version among them.
//!
//! This is the event graph walker of Gentle and Kleppmann, with the order of concurrent insertions that
//! diamond-types has: two characters at one place go by what they were put after, then by what they were put
//! before, then by name. Nothing here looks at characters themselves.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::budget::{Budget, OverBudget};
use super::graph::{EVENTS_MAX, Event, Graph, NONE, Span};
use super::spans::{Chars, Cursor, PLANES, SpanId, Spans};

/// Events on the way to a version from which on it is worth keeping the old version at hand, too.
const FORK_EVENTS_MIN: u32 = 64;

/// Who wins at one place: compares the names of ops.
pub(crate) trait Names {
    /// How the name of the op at hand compares to that of the op with this event.
    fn compare_to(&mut self, other: Event) -> Ordering;
}

/// What some events did, in their order.
#[derive(Clone, Copy, Debug)]
struct Deed {
    start: Event,
    len: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Put in the characters of the same numbers.
    Put,
    /// Took out the characters from this one on.
    Took(u32),
    /// Took out the characters up to this one, last first.
    TookBack(u32),
}

/// The walker's state.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    spans: Spans,
    /// Where the characters put in by an event are: the last entry at or before it.
    index: BTreeMap<Event, SpanId>,
    deeds: Vec<Deed>,
    /// The version that each plane of `spans` shows: all at or before these.
    at: [Vec<Event>; PLANES],
}

impl Tracker {
    /// A tracker that starts at a version of `len` characters.
    pub(crate) fn new(at: Vec<Event>, len: u32) -> Self {
        let mut tracker = Self { spans: Spans::new(), index: BTreeMap::new(), deeds: Vec::new(), at: Default::default() };
        tracker.at[0] = at;
        if len > 0 {
            let id = tracker.spans.insert(tracker.spans.start(), Chars::new(EVENTS_MAX, len, NONE, NONE, [1; PLANES]));
            tracker.index.insert(EVENTS_MAX, id);
        }
        tracker
    }

    /// Says that it now shows the version after `event`, which was consumed last.
    pub(crate) fn now_at(&mut self, event: Event) {
        let at = &mut self.at[self.spans.now()];
        at.clear();
        at.push(event);
    }

    /// Goes to another version.
    pub(crate) fn go_to(&mut self, graph: &Graph, to: &[Event], budget: &mut Budget) -> Result<(), OverBudget> {
        let planes = self.spans.planes();
        if let Some(plane) = (0..planes).find(|plane| self.at[*plane] == to) {
            self.spans.turn_to(plane);
            return Ok(());
        }
        let length = |spans: &[Span]| spans.iter().map(|(start, end)| end - start).fold(0, u32::saturating_add);
        let mut nearest: Option<(u32, usize, Vec<Span>, Vec<Span>)> = None;
        // Mostly the version shown last is near enough, and the others need not be looked at.
        let now = self.spans.now();
        for plane in (0..planes).map(|turn| (now + turn) % planes) {
            let (back, forth) = graph.diff(&self.at[plane], to, budget)?;
            let far = length(&back).saturating_add(length(&forth));
            if nearest.as_ref().is_none_or(|(best, ..)| far < *best) {
                nearest = Some((far, plane, back, forth));
            }
            if far < FORK_EVENTS_MIN {
                break;
            }
        }
        let Some((far, mut plane, back, forth)) = nearest else { return Ok(()) };
        if far >= FORK_EVENTS_MIN && planes < PLANES {
            budget.take(self.spans.len() as u64)?;
            self.spans.fork_plane(plane);
            plane = self.spans.now();
        }
        self.spans.turn_to(plane);
        self.at[plane] = to.to_vec();
        for span in &back {
            self.step(*span, false, budget)?;
        }
        for span in forth.iter().rev() {
            self.step(*span, true, budget)?;
        }
        Ok(())
    }

    /// Characters that the version shows.
    pub(crate) fn shown(&self) -> u32 {
        self.spans.shown()
    }

    /// Spans kept: what its memory is proportional to.
    pub(crate) fn spans(&self) -> usize {
        self.spans.len()
    }

    /// Puts `len` characters in at `pos` of the version it shows. Returns where that is in the merged text.
    pub(crate) fn insert(&mut self, event: Event, len: u32, pos: u32, names: &mut impl Names, budget: &mut Budget) -> Result<u32, OverBudget> {
        budget.take(1)?;
        let (left, mut cursor) = if pos == 0 {
            (NONE, self.spans.start())
        } else {
            let (id, cursor, offset) = self.spans.find(pos - 1);
            let chars = *self.spans.chars(id);
            let left = chars.start + offset;
            if offset + 1 < chars.len {
                let rest = self.split(id, offset + 1);
                (left, self.spans.cursor(rest))
            } else {
                let cursor = self.spans.after(cursor);
                if chars.start + chars.len == event && !chars.gone && self.spans.only_here(id) {
                    let right = self.right_of(cursor, budget)?;
                    let next = self.spans.at(&mut cursor.clone()).map_or(NONE, |id| self.spans.chars(id).start);
                    if right == chars.right && next == right {
                        let before = self.spans.kept_before(cursor);
                        self.spans.extend(id, len);
                        self.push_put(event, len);
                        return Ok(before);
                    }
                }
                (left, cursor)
            }
        };
        let right = self.right_of(cursor, budget)?;
        cursor = self.place(left, right, cursor, names, budget)?;
        let before = self.spans.kept_before(cursor);
        let mut state = [0; PLANES];
        state[self.spans.now()] = 1;
        let id = self.spans.insert(cursor, Chars::new(event, len, left, right, state));
        self.index.insert(event, id);
        self.push_put(event, len);
        Ok(before)
    }

    /// The first character from a place on that the version knows of.
    fn right_of(&self, mut cursor: Cursor, budget: &mut Budget) -> Result<Event, OverBudget> {
        while let Some(id) = self.spans.at(&mut cursor) {
            if self.spans.state(id) > 0 {
                return Ok(self.spans.chars(id).start);
            }
            budget.take(1)?;
            cursor = self.spans.after(cursor);
        }
        Ok(NONE)
    }

    /// Where among characters that the version does not know a new one goes.
    fn place(&self, left: Event, right: Event, start: Cursor, names: &mut impl Names, budget: &mut Budget) -> Result<Cursor, OverBudget> {
        let mut cursor = start;
        // Where to go if what follows turns out to stand to the right of us.
        let mut candidate: Option<Cursor> = None;
        while let Some(id) = self.spans.at(&mut cursor) {
            let other = self.spans.chars(id);
            if other.start == right {
                break;
            }
            budget.take(1)?;
            match self.compare_left(other.left, left) {
                Ordering::Less => break,
                Ordering::Greater => {}
                Ordering::Equal if other.right == right => {
                    if names.compare_to(other.start) == Ordering::Less {
                        break;
                    }
                    candidate = None;
                }
                Ordering::Equal => {
                    if self.is_before(other.right, right) {
                        candidate = candidate.or(Some(cursor));
                    } else {
                        candidate = None;
                    }
                }
            }
            cursor = self.spans.after(cursor);
        }
        Ok(candidate.unwrap_or(cursor))
    }

    /// Compares the places of two characters of which each, or the start, is on the left of a span.
    fn compare_left(&self, a: Event, b: Event) -> Ordering {
        if a == b {
            Ordering::Equal
        } else if a == NONE || (b != NONE && self.char_before(a, b)) {
            Ordering::Less
        } else {
            Ordering::Greater
        }
    }

    /// Whether `a` stands before `b`, where none is the end.
    fn is_before(&self, a: Event, b: Event) -> bool {
        a != b && a != NONE && (b == NONE || self.char_before(a, b))
    }

    fn char_before(&self, a: Event, b: Event) -> bool {
        let ((a_id, a_offset), (b_id, b_offset)) = (self.locate(a), self.locate(b));
        if a_id == b_id { a_offset < b_offset } else { self.spans.before(a_id, b_id) }
    }

    /// The span of a character, and how far into it.
    fn locate(&self, event: Event) -> (SpanId, u32) {
        self.index.range(..=event).next_back().map_or((0, 0), |(start, id)| (*id, event - start))
    }

    fn split(&mut self, id: SpanId, len: u32) -> SpanId {
        let rest = self.spans.split(id, len);
        self.index.insert(self.spans.chars(rest).start, rest);
        rest
    }

    fn push_put(&mut self, event: Event, len: u32) {
        match self.deeds.last_mut() {
            Some(Deed { start, len: have, kind: Kind::Put }) if *start + *have == event => *have += len,
            _ => self.deeds.push(Deed { start: event, len, kind: Kind::Put }),
        }
    }

    /// Takes `len` characters at `pos` of the version it shows out, last first. Adds what that takes out of the
    /// merged text to `out`: position and count, each after the ones before.
    pub(crate) fn delete(&mut self, event: Event, len: u32, pos: u32, out: &mut Vec<(u32, u32)>, budget: &mut Budget) -> Result<(), OverBudget> {
        let mut taken: Vec<(Event, u32)> = Vec::new();
        let mut left = len;
        while left > 0 {
            budget.take(1)?;
            let (mut id, _, offset) = self.spans.find(pos);
            if offset > 0 {
                id = self.split(id, offset);
            }
            if self.spans.chars(id).len > left {
                self.split(id, left);
            }
            let chars = *self.spans.chars(id);
            if !chars.gone {
                let before = self.spans.kept_before(self.spans.cursor(id));
                match out.last_mut() {
                    Some((at, count)) if *at == before => *count += chars.len,
                    _ => out.push((before, chars.len)),
                }
            }
            self.spans.change(id, self.spans.state(id) + 1, true);
            match taken.last_mut() {
                Some((start, count)) if *start + *count == chars.start => *count += chars.len,
                _ => taken.push((chars.start, chars.len)),
            }
            left -= chars.len;
        }
        let mut event = event;
        for (start, count) in taken.into_iter().rev() {
            self.push_took(event, start, count);
            event += count;
        }
        Ok(())
    }

    /// Notes that `len` characters from `first` on were taken out, last first.
    fn push_took(&mut self, event: Event, first: Event, len: u32) {
        let last = first + len - 1;
        if let Some(deed) = self.deeds.last_mut().filter(|deed| deed.start + deed.len == event) {
            match deed.kind {
                Kind::TookBack(end) if end + 1 - deed.len == last + 1 => {
                    deed.len += len;
                    return;
                }
                Kind::TookBack(end) if deed.len == 1 && len == 1 && end + 1 == first => {
                    *deed = Deed { start: deed.start, len: 2, kind: Kind::Took(end) };
                    return;
                }
                Kind::Took(begin) if len == 1 && begin + deed.len == first => {
                    deed.len += 1;
                    return;
                }
                _ => {}
            }
        }
        self.deeds.push(Deed { start: event, len, kind: Kind::TookBack(last) });
    }

    /// Does events again or takes them back.
    fn step(&mut self, (start, end): Span, forth: bool, budget: &mut Budget) -> Result<(), OverBudget> {
        let first = self.deeds.partition_point(|deed| deed.start + deed.len <= start);
        let last = self.deeds.partition_point(|deed| deed.start < end);
        for at in first..last {
            // Backwards, so that a character is put back before it is unmade.
            let deed = self.deeds[if forth { at } else { first + last - 1 - at }];
            let from = start.max(deed.start) - deed.start;
            let to = end.min(deed.start + deed.len) - deed.start;
            let (chars, delta) = match deed.kind {
                Kind::Put => (deed.start + from, 0),
                Kind::Took(begin) => (begin + from, 1),
                Kind::TookBack(last) => (last + 1 - to, 1),
            };
            self.shift(chars, to - from, delta, forth, budget)?;
        }
        Ok(())
    }

    /// Changes the state of `len` characters from `start` on.
    fn shift(&mut self, mut start: Event, mut len: u32, delta: u32, forth: bool, budget: &mut Budget) -> Result<(), OverBudget> {
        while len > 0 {
            budget.take(1)?;
            let (mut id, offset) = self.locate(start);
            if offset > 0 {
                id = self.split(id, offset);
            }
            if self.spans.chars(id).len > len {
                self.split(id, len);
            }
            let chars = *self.spans.chars(id);
            let state = match (delta, forth) {
                (0, true) => 1,
                (0, false) => 0,
                (_, true) => self.spans.state(id) + 1,
                (_, false) => self.spans.state(id).saturating_sub(1),
            };
            self.spans.change(id, state, chars.gone);
            start += chars.len;
            len -= chars.len;
        }
        Ok(())
    }
}
