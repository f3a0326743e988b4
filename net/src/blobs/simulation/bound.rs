//! What could be reached with the lines that were there: a time that no way of sharing beats, given who came, left and sent.

use super::line::PIECE_WIRE_BYTES;

/// Lines that could send, over time.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// When lines came, or went, and how many of those who want the blob and send something.
    changes: Vec<(u64, i64)>,
}

/// What is asked about them.
pub(super) struct Task {
    /// When the first one wanted it.
    pub(super) first_us: u64,
    /// Who wants it.
    pub(super) peers: u32,
    /// Pieces of it.
    pub(super) pieces: u32,
    /// Bytes a second of the origin.
    pub(super) origin_up: u64,
    /// Bytes a second of each other.
    pub(super) up: u64,
    /// Bytes a second into each.
    pub(super) down: u64,
    /// The least time from one to another.
    pub(super) delay_us: u64,
}

impl Lines {
    /// So many more can send from now on; less than 0 if they go. In the order of time.
    pub(super) fn change(&mut self, at_us: u64, count: i64) {
        self.changes.push((at_us, count));
    }

    /// The shortest time in milliseconds, from when the first one wanted it.
    ///
    /// It counts what the cable takes for a piece; that nobody sends before he wants it and has a piece, and that at most twice
    /// as many have one after the time that one takes from one to another; that who is away or sends nothing does not
    /// help; and that the piece which the origin sends last has yet to go round.
    pub(super) fn shortest_ms(&self, task: &Task) -> u64 {
        let fastest = task.up.max(task.origin_up).min(task.down).max(1);
        let hop_us = (PIECE_WIRE_BYTES * 1_000_000 / fastest + task.delay_us).max(1);
        let needed = f64::from(task.pieces) * f64::from(task.peers) * PIECE_WIRE_BYTES as f64;
        let last_us = u64::from(task.pieces) * PIECE_WIRE_BYTES * 1_000_000 / task.origin_up.max(1);
        let rounds = u64::from((task.peers + 1).div_ceil(2).next_power_of_two().trailing_zeros());
        let reads_us = u64::from(task.pieces) * PIECE_WIRE_BYTES * 1_000_000 / task.down.max(1);
        self.sent_us(task, hop_us, needed).max(last_us + rounds * hop_us).max(reads_us) / 1000
    }

    /// After which time the lines have carried so many bytes.
    fn sent_us(&self, task: &Task, hop_us: u64, needed: f64) -> u64 {
        let (mut sent, mut at_us, mut there) = (0.0, task.first_us, 0i64);
        let mut changes = self.changes.iter().peekable();
        loop {
            while let Some((_, count)) = changes.next_if(|(change_us, _)| *change_us <= at_us) {
                there += count;
            }
            let hops = (at_us - task.first_us) / hop_us;
            let holders = if hops < 40 { (1i64 << hops) - 1 } else { i64::MAX };
            let rate = task.origin_up as f64 + there.clamp(0, holders) as f64 * task.up as f64;
            let next_hop_us = if hops < 40 { task.first_us + (hops + 1) * hop_us } else { u64::MAX };
            let until_us = changes.peek().map_or(u64::MAX, |(change_us, _)| *change_us).min(next_hop_us);
            let carries = rate * (until_us - at_us) as f64 / 1e6;
            if until_us == u64::MAX || sent + carries >= needed {
                return at_us - task.first_us + ((needed - sent) / rate.max(1.0) * 1e6) as u64;
            }
            (sent, at_us) = (sent + carries, until_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> Task {
        Task { first_us: 5_000_000, peers: 4, pieces: 100, origin_up: PIECE_WIRE_BYTES, up: PIECE_WIRE_BYTES, down: u64::MAX / 2, delay_us: 0 }
    }

    #[test]
    fn the_origin_alone_sends_everything_to_each() {
        let lines = Lines::default();
        assert_eq!(lines.shortest_ms(&task()), 400_000);
        // Who goes at once is as if he was not there.
        let mut lines = Lines::default();
        lines.change(5_000_000, 4);
        lines.change(5_000_001, -4);
        assert_eq!(lines.shortest_ms(&task()), 400_000);
    }

    #[test]
    fn the_last_piece_of_the_origin_goes_round() {
        let mut lines = Lines::default();
        lines.change(5_000_000, 4);
        // 100 s for all to leave the origin, the last of them to one of four; then it and the origin send it to two, and to the last.
        assert_eq!(lines.shortest_ms(&task()), 102_000);
    }

    #[test]
    fn who_is_away_for_a_time_does_not_help_then() {
        let lines_with = |away_us: u64| {
            let mut lines = Lines::default();
            lines.change(5_000_000, 4);
            if away_us > 0 {
                lines.change(25_000_000, -4);
                lines.change(25_000_000 + away_us, 4);
            }
            lines.shortest_ms(&task())
        };
        // 92 of 400 are sent when all go, and 192 when they are back, who send the rest with the origin.
        assert_eq!((lines_with(0), lines_with(100_000_000)), (102_000, 161_600));
        let slow = Task { origin_up: 2 * PIECE_WIRE_BYTES, ..task() };
        assert_eq!(Lines::default().shortest_ms(&slow), 200_000);
    }
}
