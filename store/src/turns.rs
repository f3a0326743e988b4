//! Whose turn it is to be merged beside everything else: none may take more than its share of the time.
//!
//! A text that took long rests before its next turn, so that whoever feeds it keeps no processor busy. Others need not
//! wait for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A text rests so many times as long as it took: it gets two seconds a minute.
const REST: u32 = 29;

/// Work that waits, by what it is for.
#[derive(Debug)]
pub(crate) struct Turns<K, T> {
    rests_until: HashMap<K, Instant>,
    waiting: Vec<(Instant, K, T)>,
}

impl<K: Clone + Eq + Hash, T> Turns<K, T> {
    pub(crate) fn new() -> Self {
        Self { rests_until: HashMap::new(), waiting: Vec::new() }
    }

    /// When something that waits has its turn.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.iter().map(|(at, ..)| *at).min()
    }

    /// Lets something wait for its turn, which may be now.
    pub(crate) fn add(&mut self, now: Instant, name: K, work: T) {
        let at = self.rests_until.get(&name).copied().unwrap_or(now);
        self.waiting.push((at, name, work));
    }

    /// What has its turn.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(K, T)> {
        let at = self.waiting.iter().position(|(at, ..)| *at <= now)?;
        let (_, name, work) = self.waiting.remove(at);
        Some((name, work))
    }

    /// Remembers how long something took.
    pub(crate) fn took(&mut self, now: Instant, name: K, took: Duration) {
        self.rests_until.retain(|_, until| *until > now);
        self.rests_until.insert(name, now + took * REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_rests_and_nothing_else_waits() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut turns = Turns::new();
        turns.add(start, "slow", 1);
        assert_eq!((turns.next(), turns.take(start)), (Some(start), Some(("slow", 1))));
        turns.took(after(10), "slow", Duration::from_secs(10));
        turns.add(after(11), "slow", 2);
        turns.add(after(12), "fast", 3);
        assert_eq!(turns.take(after(12)), Some(("fast", 3)));
        assert_eq!((turns.take(after(12)), turns.next()), (None, Some(after(300))));
        assert_eq!(turns.take(after(300)), Some(("slow", 2)));
        turns.took(after(300), "other", Duration::ZERO);
        turns.add(after(301), "slow", 4);
        assert_eq!(turns.take(after(301)), Some(("slow", 4)), "it has rested");
    }
}
