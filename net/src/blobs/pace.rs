//! How many bytes of pieces may go in a time: a token bucket, with time as argument.
//!
//! Who is slowed down asks for less, or sends later what was asked for; nothing that comes is thrown away.

use serde::{Deserialize, Serialize};
use timebus_store::blobs::partial::PIECE_BYTES;

/// The least speed that can be set: a piece in eight seconds. With less, whoever waits for one would give up.
pub const BYTES_PER_S_MIN: u64 = 16_000;
/// The greatest, more than any line has, so that nothing overflows.
pub const BYTES_PER_S_MAX: u64 = 1_000_000_000_000;
/// What gathers while nothing goes, beside the room for one piece, in time.
const GATHERED_MS: u64 = 250;

/// Bytes a second of pieces that are given to others and asked of them; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speeds {
    /// Given to others.
    pub up: Option<u64>,
    /// Asked of others.
    pub down: Option<u64>,
}

/// Room for pieces that comes with time.
///
/// Invariant: a speed is between [`BYTES_PER_S_MIN`] and [`BYTES_PER_S_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    bytes_per_s: Option<u64>,
    /// Thousandths of bytes that may go, and since when that is so.
    room: u64,
    at_ms: u64,
}

impl Pace {
    /// Sets the speed from now on. What gathered before is not more than would have gathered at this one.
    pub(super) fn set(&mut self, bytes_per_s: Option<u64>, now_ms: u64) {
        self.gather(now_ms);
        let was_free = self.bytes_per_s.is_none();
        self.bytes_per_s = bytes_per_s.map(|bytes_per_s| bytes_per_s.clamp(BYTES_PER_S_MIN, BYTES_PER_S_MAX));
        self.at_ms = now_ms;
        self.room = if was_free { PIECE_BYTES * 1000 } else { self.room.min(self.room_max()) };
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.bytes_per_s.is_some()
    }

    /// Whether one more piece may go.
    pub(super) fn has_room(&mut self, now_ms: u64) -> bool {
        self.gather(now_ms);
        !self.is_limited() || self.room >= PIECE_BYTES * 1000
    }

    /// So many bytes go.
    pub(super) fn take(&mut self, bytes: u64) {
        self.room = self.room.saturating_sub(bytes.saturating_mul(1000));
    }

    /// So many bytes did not go after all.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.room = self.room.saturating_add(bytes.saturating_mul(1000)).min(self.room_max());
    }

    /// When one more piece may go, if that is not now.
    pub(super) fn ready_ms(&self, now_ms: u64) -> Option<u64> {
        let missing = (PIECE_BYTES * 1000).saturating_sub(self.room);
        let at_ms = self.at_ms + missing.div_ceil(self.bytes_per_s?);
        Some(at_ms).filter(|at_ms| *at_ms > now_ms)
    }

    fn gather(&mut self, now_ms: u64) {
        if let Some(bytes_per_s) = self.bytes_per_s {
            let came = now_ms.saturating_sub(self.at_ms).saturating_mul(bytes_per_s);
            self.room = self.room.saturating_add(came).min(self.room_max());
        }
        self.at_ms = self.at_ms.max(now_ms);
    }

    fn room_max(&self) -> u64 {
        self.bytes_per_s.map_or(0, |bytes_per_s| PIECE_BYTES * 1000 + GATHERED_MS * bytes_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes pieces as soon as they may go, for a time; when each went.
    fn taken(pace: &mut Pace, from_ms: u64, until_ms: u64) -> Vec<u64> {
        let (mut now_ms, mut taken) = (from_ms, Vec::new());
        while now_ms < until_ms {
            while pace.has_room(now_ms) {
                pace.take(PIECE_BYTES);
                taken.push(now_ms);
            }
            now_ms = pace.ready_ms(now_ms).expect("later");
        }
        taken
    }

    #[test]
    fn as_much_goes_as_was_said_and_never_much_at_once() {
        for bytes_per_s in [BYTES_PER_S_MIN, 100_000, 1_000_000, 100_000_000, 10_000_000_000] {
            let mut pace = Pace::default();
            pace.set(Some(bytes_per_s), 5000);
            let taken = taken(&mut pace, 5000, 65_000);
            let bytes = taken.len() as u64 * PIECE_BYTES;
            assert!(bytes <= 60 * bytes_per_s + 2 * PIECE_BYTES + bytes_per_s / 4, "{bytes} bytes in a minute at {bytes_per_s}");
            assert!(bytes + 2 * PIECE_BYTES + bytes_per_s / 100 > 60 * bytes_per_s, "{bytes} bytes in a minute at {bytes_per_s}");
            // After a pause not more than a quarter of a second has gathered, and a piece.
            assert!(pace.has_room(600_000));
            let at_once = std::iter::from_fn(|| pace.has_room(600_000).then(|| pace.take(PIECE_BYTES))).count() as u64;
            assert!(at_once * PIECE_BYTES <= PIECE_BYTES + bytes_per_s / 4, "{at_once} pieces at once at {bytes_per_s}");
        }
    }

    #[test]
    fn small_pieces_take_what_they_are_and_what_did_not_go_is_given_back() {
        let mut pace = Pace::default();
        assert!(!pace.is_limited() && pace.has_room(0) && pace.ready_ms(0).is_none());
        pace.set(Some(100_000), 0);
        pace.take(5000);
        assert!(!pace.has_room(0) && pace.ready_ms(0) == Some(50), "50 ms at 100 bytes a millisecond");
        pace.give_back(5000);
        assert!(pace.has_room(0) && pace.ready_ms(0).is_none());
        (0..100).for_each(|_| pace.give_back(PIECE_BYTES));
        assert_eq!(taken(&mut pace, 0, 1).len(), 1, "25 kB beside one piece");
    }

    #[test]
    fn a_new_speed_holds_at_once() {
        let mut pace = Pace::default();
        pace.set(Some(100_000_000), 0);
        assert!(pace.has_room(10_000));
        pace.set(Some(100_000), 10_000);
        assert_eq!(taken(&mut pace, 10_000, 10_001).len(), 1);
        pace.set(Some(1), 10_000);
        assert_eq!(pace.bytes_per_s, Some(BYTES_PER_S_MIN), "nobody is kept waiting for ever");
        pace.set(None, 20_000);
        assert!((0..1000).all(|_| pace.has_room(20_000)) && pace.ready_ms(20_000).is_none());
        pace.set(Some(100_000), 20_000);
        assert_eq!(taken(&mut pace, 20_000, 20_001).len(), 1);
    }
}
