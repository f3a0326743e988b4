//! How many pieces are under way from here at once, to all together: enough that the own line never waits, and so few
//! that what is said beside them comes soon.
//!
//! Nobody says how fast a line is. A reader says when a piece has arrived, and how much longer that took than it takes at
//! best tells how much waits on the line. At first twice as much is tried in each round, until something waits; from then
//! on a little more where nothing waits, and a little less where much does. A reader that is slow for once makes little
//! difference: a line that is not full is worse than one that is too full.

use std::collections::{BTreeMap, BTreeSet};

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
/// How often it is looked who is behind.
pub(super) const LOOK_MS: u64 = 500;
/// After this time, or twice what says that the line is full, a piece that others overtook takes no room from them any more: it
/// is its reader who is slow, or says nothing. While nobody says anything at all, that is so for one piece each time.
const BEHIND_MS_MIN: u64 = 1000;
/// The same as long as nothing has arrived yet, and it is not known how slow the own line is.
const BEHIND_MS_FIRST: u64 = 2500;
/// What a link that is behind has under way at most.
const OF_BEHIND_MAX: usize = 4;
/// After this time a reader that told of nothing is sent nothing more.
const SILENT_MS: u64 = 10_000;
/// After this time a piece does not count as under way any more; then one more is tried.
const TIMEOUT_MS: u64 = 30_000;

/// Pieces on their way to readers.
#[derive(Debug)]
pub(super) struct Flying {
    sent: BTreeMap<(LinkId, BlobHash, u32), Sent>,
    max: f64,
    /// Whether the line was never full yet.
    is_trying: bool,
    reduced_ms: u64,
    /// How long a piece takes to each link at best.
    best_ms: BTreeMap<LinkId, u64>,
    /// Links that told of nothing for long: until they do they get one at a time, beside what all others get.
    silent: BTreeSet<LinkId>,
    /// How many are under way to those who tell in time when they arrive.
    count: usize,
    /// When the latest one was sent of those that have arrived.
    overtaken_ms: u64,
    /// When one arrived last; later, if one was given up since none did.
    landed_ms: u64,
    looked_ms: u64,
}

/// A piece on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at_ms: u64,
    /// It takes no room from others.
    is_behind: bool,
}

impl Default for Flying {
    fn default() -> Self {
        Self {
            sent: BTreeMap::new(),
            max: FIRST,
            is_trying: true,
            reduced_ms: 0,
            best_ms: BTreeMap::new(),
            silent: BTreeSet::new(),
            count: 0,
            overtaken_ms: 0,
            landed_ms: 0,
            looked_ms: 0,
        }
    }
}

impl Flying {
    /// When to look who is behind, if anything is under way.
    pub(super) fn next_ms(&self) -> Option<u64> {
        (!self.sent.is_empty()).then_some(self.looked_ms + LOOK_MS)
    }

    /// Whether one more can be sent to anybody.
    pub(super) fn has_room(&self) -> bool {
        (self.count as f64) < self.max
    }

    /// How many fit on the line together.
    pub(super) fn room(&self) -> usize {
        self.max as usize
    }

    /// Whether a link does not tell in time of what it is sent.
    pub(super) fn is_behind(&self, link: LinkId) -> bool {
        self.silent.contains(&link) || self.to(link).any(|sent| sent.is_behind)
    }

    /// Whether one more can be sent to a link.
    pub(super) fn has_room_to(&self, link: LinkId) -> bool {
        let max = match self.silent.contains(&link) {
            true => 1,
            // Of whom nothing is known yet nothing more is risked.
            false if self.to(link).any(|sent| sent.is_behind) => self.best_ms.get(&link).map_or(1, |_| OF_BEHIND_MAX),
            false => OF_LINK_MAX,
        };
        self.to(link).take(max).count() < max
    }

    /// What is under way to a link.
    fn to(&self, link: LinkId) -> impl Iterator<Item = &Sent> {
        let none = BlobHash::from_bytes([0; 32]);
        self.sent.range((link, none, 0)..).take_while(move |((to, ..), _)| *to == link).map(|(_, sent)| sent)
    }

    pub(super) fn sent(&mut self, link: LinkId, hash: BlobHash, piece: u32, now_ms: u64) {
        if self.sent.is_empty() {
            // Nobody could say anything before.
            (self.looked_ms, self.landed_ms) = (now_ms, now_ms);
        }
        self.sent.insert((link, hash, piece), Sent { at_ms: now_ms, is_behind: false });
        self.recount();
    }

    /// Counts anew what takes room from all.
    fn recount(&mut self) {
        self.count = self.sent.iter().filter(|((link, ..), sent)| !sent.is_behind && !self.silent.contains(link)).count();
    }

    /// It was not sent after all.
    pub(super) fn take_back(&mut self, link: LinkId, hash: BlobHash, piece: u32) {
        self.sent.remove(&(link, hash, piece));
        self.recount();
    }

    /// A link will not tell when what it was sent of a blob arrives.
    pub(super) fn given_up(&mut self, link: LinkId, hash: BlobHash) {
        self.sent.retain(|(to, of, _), _| (*to, *of) != (link, hash));
        self.recount();
    }

    pub(super) fn gone(&mut self, link: LinkId) {
        self.best_ms.remove(&link);
        self.silent.remove(&link);
        self.sent.retain(|(to, ..), _| *to != link);
        self.recount();
    }

    /// Forgets what nobody told about, and notes who is behind, if it is time to.
    pub(super) fn look(&mut self, now_ms: u64) {
        if now_ms < self.looked_ms + LOOK_MS {
            return;
        }
        self.looked_ms = now_ms;
        let age_ms = |sent: &Sent| now_ms.saturating_sub(sent.at_ms);
        self.sent.retain(|_, sent| age_ms(sent) < TIMEOUT_MS);
        let silent = self.sent.iter().filter(|(_, sent)| age_ms(sent) >= SILENT_MS);
        self.silent.extend(silent.map(|((link, ..), _)| *link));
        // Who is fastest says what the own line takes.
        let best_ms = self.best_ms.values().min();
        let behind_ms = best_ms.map_or(BEHIND_MS_FIRST, |best_ms| (2 * (2 * best_ms + FULL_MS)).clamp(BEHIND_MS_MIN, SILENT_MS));
        let overtaken_ms = self.overtaken_ms;
        self.sent.values_mut().filter(|sent| age_ms(sent) >= behind_ms && sent.at_ms < overtaken_ms).for_each(|sent| sent.is_behind = true);
        if now_ms.saturating_sub(self.landed_ms) >= behind_ms {
            let counted = self.sent.iter_mut().filter(|((link, ..), sent)| !sent.is_behind && !self.silent.contains(link));
            if let Some((_, oldest)) = counted.filter(|(_, sent)| age_ms(sent) >= behind_ms).min_by_key(|(_, sent)| sent.at_ms) {
                oldest.is_behind = true;
                // It goes to the next one, who may say nothing, too.
                self.landed_ms = now_ms + BEHIND_MS_MIN - behind_ms;
            }
        }
        self.recount();
    }

    /// A reader says that pieces have arrived.
    pub(super) fn landed(&mut self, link: LinkId, hash: BlobHash, pieces: &[(u32, u32)], now_ms: u64) {
        let under_way = self.sent.range((link, hash, 0)..=(link, hash, u32::MAX)).map(|(key, _)| *key);
        let is_told = |piece: u32| pieces.iter().any(|(start, end)| (*start..*end).contains(&piece));
        let arrived: Vec<_> = under_way.filter(|(_, _, piece)| is_told(*piece)).collect();
        let was_full = self.count as f64 + 1.0 >= self.max;
        if arrived.is_empty() {
            return;
        }
        self.silent.remove(&link);
        self.landed_ms = now_ms;
        for key in arrived {
            let Some(Sent { at_ms: sent_ms, is_behind }) = self.sent.remove(&key) else { continue };
            self.overtaken_ms = self.overtaken_ms.max(sent_ms);
            let took_ms = now_ms.saturating_sub(sent_ms);
            let best_ms = self.best_ms.entry(link).or_insert(took_ms);
            *best_ms = (*best_ms).min(took_ms);
            if is_behind {
                // That says nothing about the own line.
            } else if took_ms > 2 * *best_ms + FULL_MS {
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
        self.recount();
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
        flying.look(BEHIND_MS_FIRST - 1);
        assert!(!flying.has_room());
        flying.look(SILENT_MS);
        assert!(flying.has_room() && !flying.has_room_to(1) && flying.has_room_to(2));
        flying.look(TIMEOUT_MS - LOOK_MS);
        assert!(!flying.has_room_to(1) && flying.next_ms().is_some());
        flying.look(TIMEOUT_MS);
        assert!(flying.next_ms().is_none() && flying.has_room_to(1));
        flying.sent(1, HASH, 7, TIMEOUT_MS);
        assert!(!flying.has_room_to(1), "one at a time");
        flying.landed(1, HASH, &[(7, 8)], TIMEOUT_MS + 1);
        flying.sent(1, HASH, 8, TIMEOUT_MS + 1);
        assert!(flying.has_room_to(1) && flying.has_room());
        flying.take_back(1, HASH, 8);
        assert!(flying.next_ms().is_none());
    }

    #[test]
    fn who_comes_later_does_not_wait_for_those_who_say_nothing() {
        let mut flying = Flying::default();
        flying.sent(1, HASH, 0, 0);
        flying.sent(2, HASH, 1, 0);
        assert!(!flying.has_room());
        flying.look(BEHIND_MS_FIRST);
        assert!(flying.has_room() && flying.has_room_to(3) && [1, 2].iter().filter(|link| flying.has_room_to(**link)).count() == 1);
        // Now it is tried with one: as soon as that has come, neither of them takes any room.
        flying.sent(3, HASH, 2, BEHIND_MS_FIRST);
        assert!(!flying.has_room(), "it may be the own line");
        flying.landed(3, HASH, &[(2, 3)], BEHIND_MS_FIRST + 10);
        flying.look(BEHIND_MS_FIRST + LOOK_MS);
        assert_eq!(flying.count, 0);
        assert!(!flying.has_room_to(1) && !flying.has_room_to(2), "nor do they get more before they say something");
    }

    #[test]
    fn who_tells_late_takes_no_room_and_does_not_slow_down_the_others() {
        let mut flying = Flying { max: 8.0, is_trying: false, ..Flying::default() };
        let (mut now_ms, mut piece, mut held) = (0, 0, 0);
        // Link 1 tells after 9 s, and link 2 after 50 ms; whoever has room is sent the next one.
        let mut landings = std::collections::BTreeSet::new();
        let mut came = [0, 0];
        while now_ms < 60_000 {
            for link in [1, 2, 2, 2] {
                if flying.has_room() && flying.has_room_to(link) && landings.iter().filter(|(_, to, _)| *to == 2).count() < 4 {
                    flying.sent(link, HASH, piece, now_ms);
                    landings.insert((now_ms + if link == 1 { 9000 } else { 50 }, link, piece));
                    piece += 1;
                }
            }
            while let Some((at_ms, link, piece)) = landings.pop_first() {
                if at_ms > now_ms {
                    landings.insert((at_ms, link, piece));
                    break;
                }
                flying.landed(link, HASH, &[(piece, piece + 1)], now_ms);
                came[link as usize - 1] += 1;
            }
            flying.look(now_ms);
            held += u32::from(!flying.has_room());
            now_ms += 10;
        }
        assert!(flying.max >= 8.0, "the line was never full: {}", flying.max);
        assert!(came[1] > 20 * came[0] && came[1] > 3000 && held < 1000, "{came:?}, {held}");
    }

    #[test]
    fn a_slow_line_is_not_taken_for_slow_readers() {
        // A piece takes 2 s, and eight readers tell at once.
        let mut flying = Flying::default();
        let (mut now_ms, mut free_ms, mut piece, mut most) = (0, 0, 0, 0);
        let mut landings = std::collections::VecDeque::new();
        while now_ms < 120_000 {
            for link in 0..8 {
                if flying.has_room() && flying.has_room_to(link) {
                    flying.sent(link, HASH, piece, now_ms);
                    free_ms = u64::max(free_ms, now_ms) + 2000;
                    landings.push_back((free_ms, link, piece));
                    piece += 1;
                }
            }
            while let Some((_, link, piece)) = landings.pop_front_if(|(at_ms, ..)| *at_ms <= now_ms) {
                flying.landed(link, HASH, &[(piece, piece + 1)], now_ms);
            }
            flying.look(now_ms);
            most = most.max(landings.len());
            now_ms += 10;
        }
        assert!(most <= 5 && piece >= 60, "{most} wait for the line at once, {piece} sent");
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
