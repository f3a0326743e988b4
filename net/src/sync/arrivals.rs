//! A set of arrival numbers that takes little room when they stand side by side.

use std::collections::BTreeMap;

/// Most ranges kept for one channel: 1 MiB. Beyond that the lowest are forgotten, and those changes are sent to a
/// peer that has them.
const RANGES_MAX: usize = 16_384;

/// A set of arrival numbers.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// First and last number of each range.
    ranges: BTreeMap<u64, u64>,
}

impl Arrivals {
    /// Adds a number.
    pub(crate) fn insert(&mut self, a: u64) {
        if self.contains(a) {
            return;
        }
        let mut last = a;
        if let Some(end) = a.checked_add(1).and_then(|next| self.ranges.remove(&next)) {
            last = end;
        }
        let before = self.ranges.range_mut(..a).next_back().filter(|(_, end)| **end + 1 == a);
        match before {
            Some((_, end)) => *end = last,
            None => drop(self.ranges.insert(a, last)),
        }
        if self.ranges.len() > RANGES_MAX {
            self.ranges.pop_first();
        }
    }

    /// Whether a number is in it.
    pub(crate) fn contains(&self, a: u64) -> bool {
        self.ranges.range(..=a).next_back().is_some_and(|(_, end)| a <= *end)
    }

    /// Forgets ranges that lie wholly below `a`.
    pub(crate) fn forget_below(&mut self, a: u64) {
        while self.ranges.first_key_value().is_some_and(|(_, end)| *end < a) {
            self.ranges.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn neighbours_are_one_range() {
        let mut set = Arrivals::default();
        for a in [5, 7, 6, 9, 8, 1] {
            set.insert(a);
        }
        assert_eq!(set.ranges, BTreeMap::from([(1, 1), (5, 9)]));
        set.forget_below(6);
        assert_eq!(set.ranges, BTreeMap::from([(5, 9)]));
    }

    #[test]
    fn scattered_numbers_do_not_pile_up() {
        let mut set = Arrivals::default();
        (0..3 * RANGES_MAX as u64).for_each(|n| set.insert(2 * n));
        assert_eq!(set.ranges.len(), RANGES_MAX);
        assert!(set.contains(6 * RANGES_MAX as u64 - 2) && !set.contains(0));
    }

    proptest! {
        #[test]
        fn holds_what_was_put_in(numbers in prop::collection::vec(0u64..64, 0..64)) {
            let mut set = Arrivals::default();
            numbers.iter().for_each(|a| set.insert(*a));
            let model: BTreeSet<u64> = numbers.into_iter().collect();
            prop_assert!((0..64).all(|a| set.contains(a) == model.contains(&a)));
        }
    }
}
