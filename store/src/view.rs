//! What a version means: the set of changes its writer had seen.
//!
//! `view(c) = {c} ∪ view(base(c))`, and where a change has no base, its view is everything before it. A view is
//! kept as "all that arrived up to here" plus single changes, because most changes were made on top of all that
//! was here.

use std::collections::{BTreeSet, BinaryHeap, HashSet};

use crate::keyspace::Rows;
use crate::store::StorageError;
use crate::summary::{Summary, summary};

/// A set of changes of one timeline, closed under "had seen".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Everything that arrived up to and with this.
    upto: Option<u64>,
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
        Self { upto: a, more: BTreeSet::new() }
    }

    /// What the writers of these changes had seen, and the changes themselves.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn of(rows: &impl Rows, t: u32, changes: &[u64]) -> Result<Self, StorageError> {
        Self::reach(rows, t, changes, Reach::View)
    }

    /// These changes and everything before them.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn past_of(rows: &impl Rows, t: u32, changes: &[u64]) -> Result<Self, StorageError> {
        Self::reach(rows, t, changes, Reach::Past)
    }

    fn reach(rows: &impl Rows, t: u32, changes: &[u64], reach: Reach) -> Result<Self, StorageError> {
        let mut view = Self::default();
        // Latest first: once a change whose past is everything before it is met, nothing earlier matters.
        let mut queue: BinaryHeap<(u64, Reach)> = changes.iter().map(|a| (*a, reach)).collect();
        let mut seen = HashSet::new();
        while let Some((a, reach)) = queue.pop() {
            if view.upto.is_some_and(|upto| a <= upto) || !seen.insert((a, reach)) {
                continue;
            }
            let Summary { total, deps, base, .. } = summary(rows, t, a)?;
            match base {
                Some(base) if reach == Reach::View => {
                    view.more.insert(a);
                    queue.extend(base.into_iter().map(|a| (a, Reach::View)));
                }
                _ if total => view.upto = view.upto.max(Some(a)),
                _ => {
                    view.more.insert(a);
                    queue.extend(deps.into_iter().map(|a| (a, Reach::Past)));
                }
            }
        }
        if let Some(upto) = view.upto {
            view.more = view.more.split_off(&(upto + 1));
        }
        Ok(view)
    }

    /// Whether the change that arrived as `a` is in it.
    #[must_use]
    pub fn contains(&self, a: u64) -> bool {
        self.upto.is_some_and(|upto| a <= upto) || self.more.contains(&a)
    }
}

/// Puts a change on top of a frontier: those it had seen go, it comes.
pub fn advance(frontier: &mut Vec<u64>, view: &View, a: u64) {
    frontier.retain(|other| !view.contains(*other));
    if let Err(at) = frontier.binary_search(&a) {
        frontier.insert(at, a);
    }
}
