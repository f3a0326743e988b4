//! How many pieces are under way from here at once, to all together: enough that the own line never waits, and so few
//! that what is said beside them comes soon.
//!
//! Nobody says how fast a line is. A reader says when a piece has arrived, and how much longer that took than it takes at
//! best tells how much waits on the line. At first twice as much is tried in each round, until something waits; from then
//! on a little more where nothing waits, and a little less where much does. A reader that is slow for once makes little
//! difference: a line that is not full is worse than one that is too full.

use std::collections::BTreeMap;

use timebus_store::blobs::BlobHash;

use super::exchange::LinkId;

/// Pieces of one link under way from disk to network, or on it.
const OF_LINK_MAX: usize = 32;
/// The same of all links, at first and at most: 32 MiB.
const FIRST: f64 = 2.0;
const LEAST: f64 = 2.0;
const MOST: f64 = 256.0;
/// A piece that arrives so much later than it takes at its best says that the line is full.
const FULL_MS: u64 = 400;
/// What is left of the room when the line is full; once for all that was under way together.
const LESS: f64 = 0.85;
/// After this time a piece whose arrival nobody told takes no room from others any more, and its reader is sent nothing more.
const SILENT_MS: u64 = 10_000;
/// After this time it does not count as under way any more; then one more is tried.
const TIMEOUT_MS: u64 = 30_000;

/// Pieces on their way to readers.
#[derive(Debug)]
pub(super) struct Flying {
    /// When each was sent.
    sent_ms: BTreeMap<(LinkId, BlobHash, u32), u64>,
    max: f64,
    /// Whether the line was never full yet.
    is_trying: bool,
    reduced_ms: u64,
    /// How long a piece takes to each link at best.
    best_ms: BTreeMap<LinkId, u64>,
    /// Links that did not tell in time of what they were sent, with how many of that are still counted: until they do they get one
    /// at a time, beside what all others get.
    silent: BTreeMap<LinkId, usize>,
}

impl Default for Flying {
    fn default() -> Self {
        Self { sent_ms: BTreeMap::new(), max: FIRST, is_trying: true, reduced_ms: 0, best_ms: BTreeMap::new(), silent: BTreeMap::new() }
    }
}

impl Flying {
    pub(super) fn is_empty(&self) -> bool {
        self.sent_ms.is_empty()
    }

    /// Whether one more can be sent to anybody.
    pub(super) fn has_room(&self) -> bool {
        (self.count() as f64) < self.max
    }

    /// How many are under way to those who tell when they arrive.
    fn count(&self) -> usize {
        self.sent_ms.len() - self.silent.values().sum::<usize>()
    }

    /// How many fit on the line together.
    pub(super) fn room(&self) -> usize {
        self.max as usize
    }

    /// Whether one more can be sent to a link.
    pub(super) fn has_room_to(&self, link: LinkId) -> bool {
        self.silent.get(&link).map_or_else(|| self.to(link).take(OF_LINK_MAX).count() < OF_LINK_MAX, |count| *count == 0)
    }

    /// What is under way to a link, and since when.
    fn to(&self, link: LinkId) -> impl Iterator<Item = u64> {
        let none = BlobHash::from_bytes([0; 32]);
        self.sent_ms.range((link, none, 0)..).take_while(move |((to, ..), _)| *to == link).map(|(_, sent_ms)| *sent_ms)
    }

    pub(super) fn sent(&mut self, link: LinkId, hash: BlobHash, piece: u32, now_ms: u64) {
        self.sent_ms.insert((link, hash, piece), now_ms);
        self.recount(link);
    }

    /// Counts anew what is under way to a link that is silent.
    fn recount(&mut self, link: LinkId) {
        if self.silent.contains_key(&link) {
            let count = self.to(link).count();
            self.silent.insert(link, count);
        }
    }

    /// It was not sent after all.
    pub(super) fn take_back(&mut self, link: LinkId, hash: BlobHash, piece: u32) {
        self.sent_ms.remove(&(link, hash, piece));
        self.recount(link);
    }

    /// A link will not tell when what it was sent of a blob arrives.
    pub(super) fn given_up(&mut self, link: LinkId, hash: BlobHash) {
        self.sent_ms.retain(|(to, of, _), _| (*to, *of) != (link, hash));
        self.recount(link);
    }

    pub(super) fn gone(&mut self, link: LinkId) {
        self.best_ms.remove(&link);
        self.silent.remove(&link);
        self.sent_ms.retain(|(to, ..), _| *to != link);
    }

    /// Forgets what nobody told about, and notes who is silent.
    pub(super) fn expire(&mut self, now_ms: u64) {
        self.sent_ms.retain(|_, sent_ms| now_ms.saturating_sub(*sent_ms) < TIMEOUT_MS);
        let late = self.sent_ms.iter().filter(|(_, sent_ms)| now_ms.saturating_sub(**sent_ms) >= SILENT_MS);
        let late: Vec<LinkId> = late.map(|((link, ..), _)| *link).collect();
        self.silent.extend(late.into_iter().map(|link| (link, 0)));
        self.silent.keys().copied().collect::<Vec<_>>().into_iter().for_each(|link| self.recount(link));
    }

    /// A reader says that pieces have arrived.
    pub(super) fn landed(&mut self, link: LinkId, hash: BlobHash, pieces: &[(u32, u32)], now_ms: u64) {
        let under_way = self.sent_ms.range((link, hash, 0)..=(link, hash, u32::MAX)).map(|(key, _)| *key);
        let is_told = |piece: u32| pieces.iter().any(|(start, end)| (*start..*end).contains(&piece));
        let arrived: Vec<_> = under_way.filter(|(_, _, piece)| is_told(*piece)).collect();
        let was_full = self.count() as f64 + 1.0 >= self.max;
        if !arrived.is_empty() {
            self.silent.remove(&link);
        }
        for key in arrived {
            let Some(sent_ms) = self.sent_ms.remove(&key) else { continue };
            let took_ms = now_ms.saturating_sub(sent_ms);
            let best_ms = self.best_ms.entry(link).or_insert(took_ms);
            *best_ms = (*best_ms).min(took_ms);
            if took_ms > 2 * *best_ms + FULL_MS {
                self.is_trying = false;
                if sent_ms >= self.reduced_ms {
                    self.max = (self.max * LESS).max(LEAST);
                    self.reduced_ms = now_ms;
                }
            } else if took_ms > *best_ms + FULL_MS / 2 {
                self.is_trying = false;
            } else if was_full {
                let more = if self.is_trying { 1.0 } else { 1.0 / self.max };
                self.max = (self.max + more).min(MOST);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: BlobHash = BlobHash::from_bytes([1; 32]);

    /// Sends over a line that takes a piece every so often and delays each; how many are under way at once in the end.
    fn settles(piece_ms: u64, delay_ms: u64, rounds: u32) -> (f64, u64) {
        let mut flying = Flying::default();
        let (mut now_ms, mut free_ms, mut sent, mut landed) = (0, 0, 0, 0);
        let mut arrivals = std::collections::VecDeque::new();
        while landed < rounds {
            while flying.has_room() {
                flying.sent(u64::from(sent % 8), HASH, sent, now_ms);
                free_ms = u64::max(free_ms, now_ms) + piece_ms;
                arrivals.push_back((free_ms + delay_ms, sent));
                sent += 1;
            }
            let Some((at_ms, piece)) = arrivals.pop_front() else { break };
            now_ms = at_ms;
            flying.landed(u64::from(piece % 8), HASH, &[(piece, piece + 1)], now_ms);
            landed += 1;
        }
        (flying.max, now_ms)
    }

    #[test]
    fn a_line_is_full_soon_however_long_it_is() {
        for (piece_ms, delay_ms) in [(131, 40), (131, 600), (131, 2000), (10, 100), (10, 400), (1000, 40)] {
            let (max, took_ms) = settles(piece_ms, delay_ms, 256);
            let best_ms = 256 * piece_ms + delay_ms;
            assert!(took_ms < best_ms * 13 / 10 + 4 * delay_ms, "{piece_ms} ms a piece, {delay_ms} ms away: {took_ms} instead of {best_ms}");
            let waits_ms = max * piece_ms as f64 - delay_ms as f64;
            let waits_ms_max = (2 * delay_ms + 2 * FULL_MS + 12 * piece_ms) as f64;
            assert!(waits_ms < waits_ms_max, "{piece_ms} ms a piece, {delay_ms} ms away: {max} at once, of which {waits_ms} ms wait");
        }
    }

    #[test]
    fn what_nobody_told_about_is_forgotten() {
        let mut flying = Flying::default();
        (0..FIRST as u32).for_each(|piece| flying.sent(1, HASH, piece, 0));
        assert!(!flying.has_room());
        flying.expire(SILENT_MS - 1);
        assert!(!flying.has_room());
        flying.expire(SILENT_MS);
        assert!(flying.has_room() && !flying.has_room_to(1) && flying.has_room_to(2));
        flying.expire(TIMEOUT_MS - 1);
        assert!(!flying.has_room_to(1) && !flying.is_empty());
        flying.expire(TIMEOUT_MS);
        assert!(flying.is_empty() && flying.has_room_to(1));
        flying.sent(1, HASH, 7, TIMEOUT_MS);
        assert!(!flying.has_room_to(1), "one at a time");
        flying.landed(1, HASH, &[(7, 8)], TIMEOUT_MS + 1);
        flying.sent(1, HASH, 8, TIMEOUT_MS + 1);
        assert!(flying.has_room_to(1) && flying.has_room());
        flying.take_back(1, HASH, 8);
        assert!(flying.is_empty());
    }

    #[test]
    fn one_link_does_not_get_everything() {
        let mut flying = Flying { max: MOST, ..Flying::default() };
        (0..OF_LINK_MAX as u32).for_each(|piece| flying.sent(1, HASH, piece, 0));
        assert!(flying.has_room() && !flying.has_room_to(1) && flying.has_room_to(0) && flying.has_room_to(2));
        flying.gone(1);
        assert!(flying.has_room_to(1));
    }
}
