//! What came after what: events in a topological order, kept as runs.
//!
//! An event is one character put in or taken out. Its number is its place in the order; a run is a stretch of events
//! each of which stands on the one before it alone.

use std::collections::BinaryHeap;

use super::budget::{Budget, OverBudget};

/// Place of an event in a graph's order.
pub(crate) type Event = u32;

/// No event.
pub(crate) const NONE: Event = u32::MAX;

/// Most events of one graph: half of the numbers, since the other half names text from before a tracker's start.
pub(crate) const EVENTS_MAX: u32 = 1 << 31;

/// Events from the first number up to, not with, the second.
pub(crate) type Span = (Event, Event);

#[derive(Clone, Copy, Debug)]
struct Run {
    start: Event,
    end: Event,
    parents_at: u32,
    parents_count: u32,
    /// Every event from here to the start of the run is an ancestor of the run.
    reach: Event,
}

/// A graph of events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    runs: Vec<Run>,
    /// Parents of the runs, one after the other.
    parents: Vec<Event>,
    frontier: Vec<Event>,
    /// Stretches of cuts, first and last of each, ascending. A cut is a place in the order such that everything from
    /// there on comes after everything before it; there is always one at 0.
    cuts: Vec<(Event, Event)>,
}

impl Graph {
    /// Number that the next event gets.
    pub(crate) fn end(&self) -> Event {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// The events nothing builds on, ascending.
    pub(crate) fn frontier(&self) -> &[Event] {
        &self.frontier
    }

    /// The last cut that is in the version of these events, of which none is before another.
    pub(crate) fn cut_in(&self, heads: &[Event]) -> Event {
        if heads == self.frontier {
            return self.end();
        }
        let Some(top) = heads.last().copied() else { return 0 };
        // What comes after the cut comes after all that is before it. Else the heads must be all that is there.
        let at = self.cuts.partition_point(|(first, _)| *first <= top + 1);
        match self.cuts[..at].last() {
            None => 0,
            Some((first, last)) if *first <= top => {
                let whole = top < *last && heads.len() == 1;
                (*last).min(top + u32::from(whole))
            }
            Some((first, _)) if self.is_version_at(*first, heads) => *first,
            Some(_) => at.checked_sub(2).map_or(0, |at| self.cuts[at].1.min(top)),
        }
    }

    /// The version at a cut.
    pub(crate) fn heads_at(&self, cut: Event) -> Vec<Event> {
        if cut == self.end() {
            return self.frontier.clone();
        }
        let run = &self.runs[self.run_index(cut)];
        if run.start == cut { self.parents_of(run).to_vec() } else { vec![cut - 1] }
    }

    fn is_version_at(&self, cut: Event, heads: &[Event]) -> bool {
        if cut == self.end() {
            return self.frontier == heads;
        }
        let run = &self.runs[self.run_index(cut)];
        if run.start == cut { self.parents_of(run) == heads } else { heads == [cut - 1] }
    }

    /// Appends events on top of `parents`, which are ascending and none of which is before another. Says whether they
    /// stand on the whole frontier.
    pub(crate) fn append(&mut self, parents: &[Event], count: u32) -> bool {
        let start = self.end();
        let end = start + count;
        let whole = parents == self.frontier;
        let continues = parents.len() == 1 && start > 0 && parents[0] == start - 1;
        match self.runs.last_mut() {
            Some(run) if continues => run.end = end,
            _ => {
                let mut reach = start;
                while reach > 0 && parents.contains(&(reach - 1)) {
                    reach = self.runs[self.run_index(reach - 1)].reach;
                }
                let parents_at = self.parents.len() as u32;
                self.parents.extend_from_slice(parents);
                self.runs.push(Run { start, end, parents_at, parents_count: parents.len() as u32, reach });
            }
        }
        if whole {
            match self.cuts.last_mut() {
                Some((_, last)) if *last == start => *last = end,
                _ => self.cuts.push((start, end)),
            }
            self.frontier.clear();
        } else {
            let cut = self.cut_in(parents);
            self.keep_cuts(cut);
            self.frontier.retain(|head| !parents.contains(head));
        }
        self.frontier.push(end - 1);
        whole
    }

    /// Forgets the cuts after this one.
    fn keep_cuts(&mut self, cut: Event) {
        while let Some((first, last)) = self.cuts.last_mut() {
            if *first > cut {
                self.cuts.pop();
                continue;
            }
            *last = cut.min(*last);
            break;
        }
    }

    /// Forgets all events from `end` on, where `frontier` is the version before it.
    pub(crate) fn truncate(&mut self, end: Event, frontier: Vec<Event>) {
        while let Some(run) = self.runs.last_mut() {
            if run.start >= end {
                self.parents.truncate(run.parents_at as usize);
                self.runs.pop();
                continue;
            }
            run.end = run.end.min(end);
            break;
        }
        self.frontier = frontier;
        self.keep_cuts(end);
    }

    fn run_index(&self, event: Event) -> usize {
        self.runs.partition_point(|run| run.end <= event)
    }

    fn parents_of(&self, run: &Run) -> &[Event] {
        &self.parents[run.parents_at as usize..(run.parents_at + run.parents_count) as usize]
    }

    /// Whether `event` is one of `heads` or before one of them.
    pub(crate) fn contains(&self, heads: &[Event], event: Event, budget: &mut Budget) -> Result<bool, OverBudget> {
        let mut queue = BinaryHeap::new();
        for head in heads {
            if *head == event {
                return Ok(true);
            }
            if *head > event {
                queue.push(*head);
            }
        }
        while let Some(head) = queue.pop() {
            budget.take(1)?;
            let run = &self.runs[self.run_index(head)];
            if run.reach <= event {
                return Ok(true);
            }
            while queue.peek().is_some_and(|other| *other >= run.start) {
                queue.pop();
            }
            for parent in self.parents_of(run) {
                if *parent == event {
                    return Ok(true);
                }
                if *parent > event {
                    queue.push(*parent);
                }
            }
        }
        Ok(false)
    }

    /// The events among these that are not before another, ascending.
    pub(crate) fn reduce(&self, heads: &mut Vec<Event>, budget: &mut Budget) -> Result<(), OverBudget> {
        heads.sort_unstable();
        heads.dedup();
        if heads.len() < 2 || *heads == self.frontier {
            return Ok(());
        }
        let first = heads[0];
        let mut left = heads.len();
        let mut kept = Vec::with_capacity(left);
        // Event, and whether it was reached from a later one.
        let mut queue: BinaryHeap<(Event, bool)> = heads.iter().map(|head| (*head, false)).collect();
        while left > 0 {
            let Some((event, reached)) = queue.pop() else { break };
            budget.take(1)?;
            if !reached {
                kept.push(event);
                left -= 1;
            }
            let run = &self.runs[self.run_index(event)];
            if run.reach <= first {
                break;
            }
            while let Some((_, reached)) = queue.peek().copied().filter(|(other, _)| *other >= run.start) {
                queue.pop();
                left -= usize::from(!reached);
            }
            queue.extend(self.parents_of(run).iter().filter(|parent| **parent >= first).map(|parent| (*parent, true)));
        }
        kept.reverse();
        *heads = kept;
        Ok(())
    }

    /// What is at or before `a` only and what is at or before `b` only, both latest first.
    pub(crate) fn diff(&self, a: &[Event], b: &[Event], budget: &mut Budget) -> Result<(Vec<Span>, Vec<Span>), OverBudget> {
        const A: u8 = 1;
        const B: u8 = 2;
        const BOTH: u8 = 3;
        let (mut only_a, mut only_b) = (Vec::new(), Vec::new());
        if let ([a], [b]) = (a, b) {
            if a == b {
                return Ok((only_a, only_b));
            }
            let run = &self.runs[self.run_index(*a.max(b))];
            if run.start <= *a.min(b) {
                if a > b {
                    only_a.push((b + 1, a + 1))
                } else {
                    only_b.push((a + 1, b + 1))
                }
                return Ok((only_a, only_b));
            }
        }
        let mut queue: BinaryHeap<(Event, u8)> = a.iter().map(|head| (*head, A)).chain(b.iter().map(|head| (*head, B))).collect();
        let mut single = queue.len();
        let mut emit = |start: Event, end: Event, flag: u8| {
            if start == end {
                return;
            }
            let list = match flag {
                A => &mut only_a,
                B => &mut only_b,
                _ => return,
            };
            match list.last_mut() {
                Some((first, _)) if *first == end => *first = start,
                _ => list.push((start, end)),
            }
        };
        while single > 0 {
            let Some((mut at, mut flag)) = queue.pop() else { break };
            single -= usize::from(flag != BOTH);
            budget.take(1)?;
            let run = &self.runs[self.run_index(at)];
            while let Some((other, other_flag)) = queue.peek().copied().filter(|(other, _)| *other >= run.start) {
                queue.pop();
                single -= usize::from(other_flag != BOTH);
                if other_flag | flag != flag {
                    emit(other + 1, at + 1, flag);
                    at = other;
                    flag |= other_flag;
                }
            }
            emit(run.start, at + 1, flag);
            for parent in self.parents_of(run) {
                queue.push((*parent, flag));
                single += usize::from(flag != BOTH);
            }
        }
        Ok((only_a, only_b))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Numbers that a seed repeats.
    fn dice(state: &mut u64, below: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*state >> 33) % below.max(1) as u64) as usize
    }

    #[test]
    fn knows_what_is_before_what() {
        for seed in 0..500 {
            let mut state = seed;
            let mut graph = Graph::default();
            let mut before: Vec<BTreeSet<Event>> = Vec::new();
            let mut budget = Budget::unlimited();
            for _ in 0..12 {
                let mut parents: Vec<Event> = Vec::new();
                for _ in 0..dice(&mut state, 4) {
                    if !before.is_empty() {
                        parents.push(if dice(&mut state, 2) == 0 { before.len() as u32 - 1 } else { dice(&mut state, before.len()) as u32 });
                    }
                }
                let mut closure = BTreeSet::new();
                for parent in &parents {
                    closure.extend(&before[*parent as usize]);
                }
                graph.reduce(&mut parents, &mut budget).expect("unlimited");
                let minimal: Vec<Event> = closure
                    .iter()
                    .copied()
                    .filter(|event| !closure.iter().any(|other| other != event && before[*other as usize].contains(event)))
                    .collect();
                assert_eq!(parents, minimal, "seed {seed}");
                let whole = closure.len() == before.len();
                let count = 1 + dice(&mut state, 3) as u32;
                assert_eq!(graph.append(&parents, count), whole, "seed {seed}");
                for _ in 0..count {
                    closure.insert(before.len() as u32);
                    before.push(closure.clone());
                }
            }
            let all: Vec<Event> = (0..before.len() as u32).collect();
            for a in &all {
                for b in &all {
                    let heads = [*a];
                    assert_eq!(graph.contains(&heads, *b, &mut budget), Ok(before[*a as usize].contains(b)), "seed {seed}");
                    let (only_a, only_b) = graph.diff(&heads, &[*b], &mut budget).expect("unlimited");
                    let set = |spans: &[Span]| spans.iter().flat_map(|(start, end)| *start..*end).collect::<BTreeSet<Event>>();
                    assert_eq!(set(&only_a), &before[*a as usize] - &before[*b as usize], "seed {seed}, {a} {b}");
                    assert_eq!(set(&only_b), &before[*b as usize] - &before[*a as usize], "seed {seed}, {a} {b}");
                    assert!(only_a.windows(2).all(|pair| pair[0].0 >= pair[1].1), "latest first");
                }
            }
            // The heads of any version, and the cut in it.
            let cuts: Vec<Event> = (0..=all.len() as u32)
                .filter(|cut| (*cut..all.len() as u32).all(|event| (0..*cut).all(|other| before[event as usize].contains(&other))))
                .collect();
            for _ in 0..30 {
                let mut heads: Vec<Event> = (0..1 + dice(&mut state, 3)).map(|_| dice(&mut state, all.len()) as u32).collect();
                if dice(&mut state, 5) == 0 {
                    heads = graph.frontier().to_vec();
                }
                graph.reduce(&mut heads, &mut budget).expect("unlimited");
                let within: BTreeSet<Event> = heads.iter().flat_map(|head| before[*head as usize].clone()).collect();
                let cut = graph.cut_in(&heads);
                let expected = cuts.iter().copied().filter(|cut| (0..*cut).all(|event| within.contains(&event))).max();
                assert_eq!(Some(cut), expected, "seed {seed}, {heads:?}");
                let at_cut: BTreeSet<Event> = graph.heads_at(cut).iter().flat_map(|head| before[*head as usize].clone()).collect();
                assert_eq!(at_cut, (0..cut).collect(), "seed {seed}, {heads:?}");
            }
        }
    }
}
