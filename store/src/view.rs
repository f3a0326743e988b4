//! What a version means: the set of changes its writer had seen.
//!
//! `view(c) = {c} ∪ view(base(c))`, and where a change has no base, its view is everything before it. A view is
//! kept as "all that arrived up to here" plus single changes, because most changes were made on top of all that
//! was here.

use std::collections::{BTreeSet, BinaryHeap, HashSet};

use crate::keyspace::{Rows, Table};
use crate::pipeline::chain_prefix;
use crate::store::StorageError;
use crate::summary::{Summary, summary};

/// A set of changes of one timeline, closed under "had seen".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Everything that arrived up to and with this.
    upto: Option<u64>,
    /// Everything that arrived up to and with this,
    almost_upto: Option<u64>,
    /// but these: first and last of each stretch.
    less: Vec<(u64, u64)>,
    /// And these.
    more: BTreeSet<u64>,
}

/// How a change was reached: whether its writer's base counts, or its whole past.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Reach {
    View,
    Past,
}

impl View {
    /// Everything that arrived up to and with `a`.
    #[must_use]
    pub fn upto(a: Option<u64>) -> Self {
        Self { upto: a, almost_upto: a, less: Vec::new(), more: BTreeSet::new() }
    }

    /// What the writers of these changes had seen, and the changes themselves.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn of(rows: &impl Rows, t: u32, changes: &[u64]) -> Result<Self, StorageError> {
        Self::reach(rows, t, changes, Reach::View, |_| false)
    }

    /// What the writer of the change that arrived as `a` had seen.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn before(rows: &impl Rows, t: u32, a: u64) -> Result<Self, StorageError> {
        let own = summary(rows, t, a)?;
        match &own.base {
            Some(base) => Self::of(rows, t, base),
            None if own.total => Ok(Self::upto(a.checked_sub(1))),
            None => Self::past_of(rows, t, &own.deps),
        }
    }

    /// These changes and everything before them.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn past_of(rows: &impl Rows, t: u32, changes: &[u64]) -> Result<Self, StorageError> {
        Self::reach(rows, t, changes, Reach::Past, |_| false)
    }

    /// Puts these changes in and everything before them. It has all that is before what it has.
    pub(crate) fn add_past(&mut self, rows: &impl Rows, t: u32, changes: &[u64]) -> Result<(), StorageError> {
        let rest: Vec<u64> = changes.iter().copied().filter(|a| !self.contains(*a)).collect();
        if !rest.is_empty() {
            let added = Self::reach(rows, t, &rest, Reach::Past, |a| self.contains(a))?;
            self.join(added);
        }
        Ok(())
    }

    /// `has` says what need not be looked at, nor what is before it.
    fn reach(rows: &impl Rows, t: u32, changes: &[u64], reach: Reach, has: impl Fn(u64) -> bool) -> Result<Self, StorageError> {
        let mut view = Self::default();
        // Latest first: once a change whose past is everything before it is met, nothing earlier matters.
        let mut queue: BinaryHeap<(u64, Reach)> = changes.iter().map(|a| (*a, reach)).collect();
        let mut seen = HashSet::new();
        while let Some((a, reach)) = queue.pop() {
            if view.has_stretch(a) || has(a) || !seen.insert((a, reach)) {
                continue;
            }
            let Summary { total, except, deps, base, .. } = summary(rows, t, a)?;
            match base {
                Some(base) if reach == Reach::View => {
                    view.more.insert(a);
                    queue.extend(base.into_iter().map(|a| (a, Reach::View)));
                }
                _ if total || !except.is_empty() => view.add_stretch(a, &except),
                _ => {
                    view.more.insert(a);
                    queue.extend(deps.into_iter().map(|a| (a, Reach::Past)));
                }
            }
        }
        view.upto = view.everything();
        let more = std::mem::take(&mut view.more);
        view.more = more.into_iter().filter(|a| !view.has_stretch(*a)).collect();
        Ok(view)
    }

    /// What arrived up to and with `upto` but for some stretches, and single ones.
    #[cfg(test)]
    pub(crate) fn of_parts(upto: u64, less: Vec<(u64, u64)>, more: BTreeSet<u64>) -> Self {
        let mut view = Self { upto: None, almost_upto: Some(upto), less, more };
        view.upto = view.everything();
        view
    }

    /// Puts a change in whose own view or past is in it already.
    pub(crate) fn insert(&mut self, a: u64) {
        if !self.contains(a) {
            self.more.insert(a);
        }
    }

    /// Up to which arrival number everything is in it, if that is known.
    #[must_use]
    pub fn everything_upto(&self) -> Option<u64> {
        self.upto
    }

    /// Stretches of arrival numbers, ascending, of which everything is in it.
    #[must_use]
    pub fn stretches(&self) -> Vec<(u64, u64)> {
        let Some(upto) = self.almost_upto else { return Vec::new() };
        let mut less = self.less.clone();
        less.sort_unstable();
        let (mut found, mut next) = (Vec::new(), 0);
        for (first, last) in less {
            if next < first {
                found.push((next, first - 1));
            }
            next = next.max(last + 1);
        }
        if next <= upto {
            found.push((next, upto));
        }
        found
    }

    /// What is in it beside the stretches.
    #[must_use]
    pub fn single(&self) -> &BTreeSet<u64> {
        &self.more
    }

    /// Puts all in that another one has.
    pub(crate) fn join(&mut self, mut other: Self) {
        if self.more.len() < other.more.len() {
            std::mem::swap(self, &mut other);
        }
        self.more.extend(std::mem::take(&mut other.more));
        let of_other = other.almost_upto.map(|upto| (upto, other.less));
        let own = self.almost_upto.take().map(|upto| (upto, std::mem::take(&mut self.less)));
        let (greater, less) = if own > of_other { (own, of_other) } else { (of_other, own) };
        for (upto, less) in [greater, less].into_iter().flatten() {
            self.add_stretch(upto, &less);
        }
        self.upto = self.everything();
    }

    fn everything(&self) -> Option<u64> {
        match self.less.iter().map(|(first, _)| *first).min() {
            Some(first) => first.checked_sub(1),
            None => self.almost_upto,
        }
    }

    /// Whether the change that arrived as `a` is in it.
    #[must_use]
    pub fn contains(&self, a: u64) -> bool {
        self.has_stretch(a) || self.more.contains(&a)
    }

    /// Whether the ops of the change that arrived as `a` count in it: those of a part of a run only together with
    /// the run's last part.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn counts(&self, rows: &impl Rows, t: u32, a: u64) -> Result<bool, StorageError> {
        Ok(self.contains(a) && ends_within(rows, t, a, &summary(rows, t, a)?, |last| self.contains(last))?)
    }

    /// Adds all that arrived up to and with `a`, but these. Called with the greatest `a` first.
    fn add_stretch(&mut self, a: u64, except: &[(u64, u64)]) {
        if self.almost_upto.is_none() {
            self.almost_upto = Some(a);
            self.less = except.to_vec();
            return;
        }
        let mut less = Vec::new();
        for (first, last) in std::mem::take(&mut self.less) {
            if last > a {
                less.push((first.max(a + 1), last));
            }
            for (from, to) in except {
                let (from, to) = (first.max(*from), last.min(a).min(*to));
                if from <= to {
                    less.push((from, to));
                }
            }
        }
        self.less = less;
    }

    fn has_stretch(&self, a: u64) -> bool {
        self.almost_upto.is_some_and(|upto| a <= upto) && !self.less.iter().any(|(first, last)| (*first..=*last).contains(&a))
    }
}

/// Whether the last part of a complete run that a change is a part of is among some changes. A change that is no
/// part, or is the last one, is its own end.
///
/// # Errors
///
/// [`StorageError`].
pub fn ends_within(rows: &impl Rows, t: u32, a: u64, own: &Summary, within: impl Fn(u64) -> bool) -> Result<bool, StorageError> {
    let Some((number, count)) = own.part.filter(|(number, count)| number < count) else { return Ok(true) };
    for row in rows.scan(Table::Chain, &chain_prefix(t, &own.author, own.seq + (count - number)), None) {
        let last = row?.0.last_chunk::<8>().map_or(0, |last| u64::from_be_bytes(*last));
        let end = summary(rows, t, last)?;
        if !within(last) || !end.folded || end.part != Some((count, count)) {
            continue;
        }
        // The author may have forked his chain: only the way back shows that it is the same run.
        if back(rows, t, last, count - number)? == Some(a) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The change so many steps before this one in its author's chain.
///
/// # Errors
///
/// [`StorageError`].
pub fn back(rows: &impl Rows, t: u32, a: u64, steps: u64) -> Result<Option<u64>, StorageError> {
    let mut at = a;
    for _ in 0..steps {
        match summary(rows, t, at)? {
            Summary { seq, deps, .. } if seq > 1 && !deps.is_empty() => at = deps[0],
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Puts a change on top of a frontier: those it had seen go, it comes.
pub fn advance(frontier: &mut Vec<u64>, view: &View, a: u64) {
    frontier.retain(|other| !view.contains(*other));
    if let Err(at) = frontier.binary_search(&a) {
        frontier.insert(at, a);
    }
}
