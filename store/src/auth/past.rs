//! What came before what in the `auth` timeline.
//!
//! Only few changes are ever asked for their past. Those of a root key keep one bit for every change that was here before
//! them. Those that revoke in the name of a grant are asked for nothing but what was said by those whom it concerns, and
//! keep that: guests say as much as they like, and each keeps no more for it than they said.

use std::collections::{HashMap, VecDeque};

use crate::ids::ChangeId;

/// Changes of the `auth` timeline, numbered as they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Dag {
    entries: Vec<Entry>,
    numbers: HashMap<ChangeId, u32>,
    /// Whole pasts of the last changes that were asked for a part of theirs: the next one stands on one of them, most often.
    recent: VecDeque<(u32, Past)>,
}

/// How many whole pasts are at hand that nobody keeps.
const RECENT_MAX: usize = 8;

#[derive(Clone, Debug)]
struct Entry {
    deps: Box<[u32]>,
    past: Option<Past>,
    /// The part of its past that it is asked for, if it keeps no more: numbers, ascending.
    part: Option<Box<[u32]>>,
}

/// A set of changes that is closed under "before".
#[derive(Clone, Debug)]
pub(super) struct Past(Box<[u64]>);

impl Past {
    /// Whether a change is in it.
    pub(super) fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn insert(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }
}

impl Dag {
    /// The past of a change that keeps it.
    pub(super) fn past(&self, number: u32) -> Option<&Past> {
        self.entries.get(number as usize)?.past.as_ref()
    }

    /// Whether a change is here.
    pub(super) fn knows(&self, id: &ChangeId) -> bool {
        self.numbers.contains_key(id)
    }

    /// Numbers a change. One whose dependencies are not all here (they were damaged on disk) is taken to have seen
    /// everything that came before it.
    pub(super) fn push<'a>(&mut self, id: ChangeId, deps: impl Iterator<Item = &'a ChangeId>, keep_past: bool) -> u32 {
        let number = self.entries.len() as u32;
        let deps: Option<Box<[u32]>> = deps.map(|dep| self.numbers.get(dep).copied()).collect();
        let deps = deps.unwrap_or_else(|| (0..number).collect());
        let past = keep_past.then(|| self.past_of(&deps));
        self.entries.push(Entry { deps, past, part: None });
        self.numbers.insert(id, number);
        number
    }

    /// Has a change keep which of some others, given in ascending order, are in its past.
    pub(super) fn keep(&mut self, number: u32, others: &[u32]) {
        if others.is_empty() {
            return;
        }
        let past = self.past_of(self.deps(number));
        let part: Box<[u32]> = others.iter().copied().filter(|other| past.contains(*other)).collect();
        let is_shorter = part.len() < 2 * past.0.len();
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        if let Some(entry) = self.entries.get_mut(number as usize) {
            match is_shorter {
                true => {
                    entry.part = Some(part);
                    self.recent.push_back((number, past));
                }
                false => entry.past = Some(past),
            }
        }
    }

    /// Bytes that are kept of pasts.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        let of = |entry: &Entry| entry.past.as_ref().map_or(0, |past| 8 * past.0.len()) + entry.part.as_ref().map_or(0, |part| 4 * part.len());
        self.entries.iter().map(of).sum()
    }

    /// The changes that one stands on directly.
    pub(super) fn deps(&self, number: u32) -> &[u32] {
        self.entries.get(number as usize).map_or(&[], |entry| &entry.deps)
    }

    /// Whether `earlier` is in the past of `later`, which keeps its past or that part of it.
    pub(super) fn is_before(&self, earlier: u32, later: u32) -> bool {
        let Some(entry) = self.entries.get(later as usize) else { return false };
        match (&entry.past, &entry.part) {
            (Some(past), _) => past.contains(earlier),
            (None, Some(part)) => part.binary_search(&earlier).is_ok(),
            (None, None) => false,
        }
    }

    /// The past of a change with these dependencies; `None` when one of them is not here.
    pub(super) fn past_of_ids<'a>(&self, deps: impl Iterator<Item = &'a ChangeId>) -> Option<Past> {
        let deps: Option<Box<[u32]>> = deps.map(|dep| self.numbers.get(dep).copied()).collect();
        Some(self.past_of(&deps?))
    }

    /// The past of a change, whether it keeps it or not.
    pub(super) fn past_of_number(&self, number: u32) -> Past {
        self.past_of(self.deps(number))
    }

    fn past_of(&self, deps: &[u32]) -> Past {
        let mut past = Past(vec![0; self.entries.len().div_ceil(64)].into());
        let mut queue = deps.to_vec();
        while let Some(number) = queue.pop() {
            if past.contains(number) {
                continue;
            }
            past.insert(number);
            let Some(entry) = self.entries.get(number as usize) else { continue };
            let is_recent = self.recent.front().is_some_and(|(first, _)| *first <= number);
            let at_hand = || self.recent.iter().find(|(recent, _)| is_recent && *recent == number).map(|(_, past)| past);
            match entry.past.as_ref().or_else(at_hand) {
                Some(known) => past.0.iter_mut().zip(&known.0).for_each(|(word, known)| *word |= known),
                None => queue.extend_from_slice(&entry.deps),
            }
        }
        past
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_what_is_reached() {
        let id = |n: u8| ChangeId([n; 32]);
        let mut dag = Dag::default();
        dag.push(id(0), [].iter(), false);
        dag.push(id(1), [id(0)].iter(), true);
        dag.push(id(2), [id(0)].iter(), false);
        dag.push(id(3), [id(2)].iter(), true);
        dag.push(id(4), [id(1), id(3)].iter(), true);
        let before = |later: u32| (0..5).filter(|earlier| dag.is_before(*earlier, later)).collect::<Vec<_>>();
        assert_eq!(before(1), [0]);
        assert_eq!(before(3), [0, 2]);
        assert_eq!(before(4), [0, 1, 2, 3]);
        let past = dag.past_of_ids([id(3)].iter()).expect("all are here");
        assert!(past.contains(0) && past.contains(3) && !past.contains(1) && !past.contains(200));
        assert!(dag.past_of_ids([id(9)].iter()).is_none());
    }

    #[test]
    fn a_part_of_the_past_is_as_good_as_the_whole_for_what_is_in_it() {
        let id = |n: u8| ChangeId([n; 32]);
        let mut dag = Dag::default();
        dag.push(id(0), [].iter(), false);
        dag.push(id(1), [id(0)].iter(), false);
        dag.push(id(2), [id(0)].iter(), false);
        dag.push(id(3), [id(1)].iter(), false);
        dag.keep(3, &[1, 2]);
        dag.push(id(4), [id(3), id(2)].iter(), true);
        assert_eq!([0, 1, 2].map(|earlier| dag.is_before(earlier, 3)), [false, true, false], "0 was not asked for");
        assert_eq!([0, 1, 2, 3].map(|earlier| dag.is_before(earlier, 4)), [true; 4]);
        assert_eq!(dag.kept_bytes(), 4 + 8);
    }

    #[test]
    fn what_stands_on_damage_saw_everything() {
        let id = |n: u8| ChangeId([n; 32]);
        let mut dag = Dag::default();
        dag.push(id(0), [].iter(), false);
        dag.push(id(1), [id(9)].iter(), true);
        assert!(dag.is_before(0, 1));
    }
}
