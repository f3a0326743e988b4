//! Many peers that want one blob at once, and what they could do at best.
//!
//! Each of them has an [`Exchange`](super::exchange::Exchange), the one that real peers have, and comes to know others by
//! the rules of [`crate::node::introductions`]; only lines, disks and time are simulated. Everything happens in the order of
//! its time, from a seed, so that a run can be repeated.
//!
//! A line carries what goes over it in turns of 16 KiB, one link after the other, so that all have the same of it, and
//! what is sent over one link stays in order.
//!
//! Some may give nothing, say nothing, or claim what they do not have; how the others fare is what counts.
//!
//! Deliberately not: no rights, no spaces, no forged bytes; `lab` has those.

use super::pace::Speeds;
use super::pieces::Pieces;

mod bound;
mod line;
mod world;

use world::World;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Crowd {
    /// Where everything random comes from.
    pub seed: u64,
    /// Peers that want the blob.
    pub peers: u32,
    /// Bytes of the blob.
    pub bytes: u64,
    /// Bytes a second that the origin sends.
    pub origin_up: u64,
    /// Bytes a second that each other peer sends.
    pub up: u64,
    /// Bytes a second that each peer receives.
    pub down: u64,
    /// Milliseconds from one peer to another, at most; at least half of it.
    pub delay_ms: u64,
    /// Links that each peer lets others open.
    pub links_max: usize,
    /// Milliseconds over which the peers come to know each other, before any of them wants the blob.
    pub meet_ms: u64,
    /// Milliseconds over which they begin to want it, from then on.
    pub arrive_ms: u64,
    /// Of a thousand peers, how many send nothing.
    pub free_riders: u32,
    /// Of a thousand peers, how many take what they get without ever saying what has come, and give nothing.
    pub mute: u32,
    /// Of a thousand peers, how many say that they have nearly all of it, and give nothing.
    pub liars: u32,
    /// Of a thousand peers, how many leave as soon as they have all of it.
    pub leavers: u32,
    /// Of a thousand peers, how many are gone for a while before they have it.
    pub churn: u32,
    /// Whether it is read in order while it comes, as `timebus get` does.
    pub reads: bool,
    /// Whether who reads it cannot wait, as who plays a film.
    pub plays: bool,
    /// How fast the origin is told to be, whatever its line takes.
    pub origin_limits: Speeds,
    /// The same of each other peer.
    pub limits: Speeds,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            seed: 1,
            peers: 16,
            bytes: 32 << 20,
            origin_up: 1_000_000,
            up: 1_000_000,
            down: 12_500_000,
            delay_ms: 20,
            links_max: 256,
            meet_ms: 5000,
            arrive_ms: 0,
            free_riders: 0,
            mute: 0,
            liars: 0,
            leavers: 0,
            churn: 0,
            reads: true,
            plays: false,
            origin_limits: Speeds::default(),
            limits: Speeds::default(),
        }
    }
}

/// What has to be there until a film begins.
const BEGINNING_BYTES: u64 = 4 << 20;
/// What has to be there until whoever reads all of it sees that it comes.
const FIRST_BYTES: u64 = 1 << 20;

/// How a run went for those who are honest.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Milliseconds until all had it, counted from when the first one wanted it.
    pub all_ms: u64,
    /// Milliseconds in which half of them had it, counted from when each wanted it.
    pub median_ms: u64,
    /// The same for 95 of 100.
    pub most_ms: u64,
    /// The same for the last one.
    pub last_ms: u64,
    /// The same until the last one had the first 4 MiB.
    pub began_ms: u64,
    /// The same until the last one had the first MiB.
    pub first_ms: u64,
    /// Below what [`Outcome::all_ms`] cannot be.
    pub bound_ms: u64,
    /// The same with the lines that were there: without those of who was away, sent nothing or had nothing yet, and with what
    /// the cable takes for each piece.
    pub lines_ms: u64,
    /// Bytes of pieces that the origin sent, as so many times the blob.
    pub origin_copies: f64,
    /// Pieces that came twice to one peer, of a thousand.
    pub wasted: u64,
    /// Bytes of frames other than pieces, of a thousand that were sent.
    pub talk: u64,
    /// Links that a peer had at the end, on average.
    pub links: f64,
    /// Peers that did not get it.
    pub left_out: u32,
    /// Times that an honest peer was taken for one that breaks the rules; must be none.
    pub blamed: u32,
    /// Things that happened.
    pub events: u64,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The simulated time, in milliseconds.
    pub now_ms: u64,
    /// Pieces that are where they are wanted.
    pub pieces: u64,
    /// Pieces that are to be.
    pub pieces_total: u64,
}

impl Crowd {
    /// The time below which nobody can be, if all are to have it: the origin has to send everything once, who comes last has to receive it, and
    /// what all receive somebody has to send.
    #[must_use]
    pub fn bound_ms(&self) -> u64 {
        let givers = f64::from(self.peers) * f64::from(1000_u32.saturating_sub(self.free_riders + self.mute + self.liars)) / 1000.0;
        let bytes = self.bytes as f64;
        let all_up = self.origin_up as f64 + givers * self.up as f64;
        let seconds = [bytes / self.origin_up as f64, bytes / self.down as f64, f64::from(self.peers) * bytes / all_up];
        (seconds.into_iter().fold(0.0, f64::max) * 1000.0) as u64
    }
}

/// Runs it to the end, and says now and then how far it is.
pub fn run(crowd: &Crowd, mut told: impl FnMut(Progress)) -> Outcome {
    let mut world = World::new(crowd);
    while let Some(progress) = world.go_on() {
        told(progress);
    }
    world.outcome()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::introductions;

    #[test]
    fn the_bound_is_the_slowest_of_three() {
        let crowd = Crowd { peers: 4, bytes: 1_000_000, origin_up: 1000, up: 1000, down: 10_000, ..Crowd::default() };
        assert_eq!(crowd.bound_ms(), 1_000_000, "the origin sends it once");
        assert_eq!(Crowd { down: 500, ..crowd.clone() }.bound_ms(), 2_000_000, "each receives it");
        assert_eq!(Crowd { peers: 9, up: 0, ..crowd.clone() }.bound_ms(), 9_000_000, "the origin sends it to each");
        assert_eq!(Crowd { peers: 20, free_riders: 500, ..crowd }.bound_ms(), 20_000_000 / 11, "half of them help");
    }

    #[test]
    fn everybody_gets_it_whatever_the_others_do() {
        let crowd = Crowd { peers: 30, bytes: 4 << 20, arrive_ms: 5000, free_riders: 200, leavers: 500, churn: 200, ..Crowd::default() };
        let mut last = None;
        let outcome = run(&crowd, |progress| last = Some(progress));
        assert_eq!((outcome.left_out, outcome.blamed), (0, 0), "{outcome:?}");
        assert_eq!(last.map(|progress| progress.pieces), last.map(|progress| progress.pieces_total));
        assert!(outcome.all_ms >= outcome.lines_ms && outcome.lines_ms > outcome.bound_ms, "nobody is faster than is possible: {outcome:?}");
        assert!(outcome.median_ms <= outcome.most_ms && outcome.most_ms <= outcome.last_ms, "{outcome:?}");
        assert_eq!(run(&crowd, |_| {}), outcome, "the same seed, the same run");
    }

    #[test]
    fn who_is_told_to_be_slow_is_like_one_whose_line_is() {
        let crowd = Crowd { peers: 12, bytes: 4 << 20, origin_up: 250_000, up: 1_000_000, ..Crowd::default() };
        let outcome = |crowd: &Crowd| {
            let outcome = run(crowd, |_| {});
            assert_eq!((outcome.left_out, outcome.blamed), (0, 0), "{outcome:?}");
            outcome
        };
        let slow = |up| Speeds { up: Some(up), down: None };
        let (line, told) = (outcome(&crowd), outcome(&Crowd { origin_up: 10_000_000, origin_limits: slow(250_000), ..crowd.clone() }));
        let all_ms = told.all_ms as f64;
        assert!(all_ms > 0.95 * crowd.bound_ms() as f64, "no faster than it was told: {told:?}");
        assert!(all_ms < 1.1 * line.all_ms as f64 && told.origin_copies < 1.1, "{told:?}, and by its line {line:?}");
        assert!(told.wasted < 20 && told.talk < 2 * line.talk.max(10), "{told:?}, and by its line {line:?}");
        // So are the others, and what they may not send the origin does.
        let crowd = Crowd { up: 100_000, origin_up: 1_000_000, ..crowd };
        let (line, told) = (outcome(&crowd), outcome(&Crowd { up: 10_000_000, limits: slow(100_000), ..crowd.clone() }));
        assert!(told.all_ms as f64 > 0.9 * crowd.bound_ms() as f64, "{told:?}");
        assert!((told.all_ms as f64) < 1.25 * line.all_ms as f64, "{told:?}, and by their lines {line:?}");
    }

    #[test]
    fn who_asks_slowly_gets_it_as_fast_as_he_asks_and_wastes_nothing() {
        let limits = Speeds { up: None, down: Some(200_000) };
        let crowd = Crowd { peers: 8, bytes: 4 << 20, origin_up: 10_000_000, up: 10_000_000, limits, ..Crowd::default() };
        let outcome = run(&crowd, |_| {});
        assert_eq!((outcome.left_out, outcome.blamed), (0, 0), "{outcome:?}");
        let at_least_ms = crowd.bytes * 1000 / 200_000;
        assert!((at_least_ms..at_least_ms * 11 / 10).contains(&(outcome.last_ms + 1000)), "{outcome:?}, and at least {at_least_ms} ms");
        assert!(outcome.wasted < 10 && outcome.origin_copies < 1.5, "{outcome:?}");
    }

    #[test]
    fn those_who_know_the_origin_last_hear_of_others() {
        let crowd = Crowd { peers: 60, bytes: 1 << 20, links_max: 16, ..Crowd::default() };
        let outcome = run(&crowd, |_| {});
        assert_eq!(outcome.left_out, 0, "{outcome:?}");
        assert!(outcome.origin_copies < 1.2, "who was sent away has it from others: {outcome:?}");
    }

    #[test]
    fn a_crowd_takes_not_much_longer_than_a_few() {
        let times = |peers: u32| {
            let outcome = run(&Crowd { peers, bytes: 8 << 20, ..Crowd::default() }, |_| {});
            assert_eq!((outcome.left_out, outcome.blamed), (0, 0), "{outcome:?}");
            assert!(outcome.origin_copies < 1.07, "{outcome:?}");
            outcome.all_ms as f64 / outcome.lines_ms as f64
        };
        let (few, many) = (times(8), times(48));
        assert!(few < 1.15 && many < 1.42, "{few} and {many} times what the lines could");
    }

    /// A picture that ten thousand want at once. One in ten gives nothing, some are gone for a while, and many leave as soon as they have it.
    #[test]
    fn ten_thousand_at_once_all_get_it_whatever_some_of_them_do() {
        let seed = std::env::var("TIMEBUS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let crowd =
            Crowd { seed, peers: 10_000, bytes: 128 * 1024, links_max: 64, free_riders: 100, leavers: 300, churn: 20, liars: 10, ..Crowd::default() };
        let began = std::time::Instant::now();
        let outcome = run(&crowd, |_| {});
        eprintln!("seed {seed}, {:?}: {outcome:?}", began.elapsed());
        assert_eq!((outcome.left_out, outcome.blamed), (0, 0), "seed {seed}: {outcome:?}");
        assert!(
            outcome.all_ms >= outcome.lines_ms && outcome.lines_ms >= outcome.bound_ms,
            "nobody is faster than is possible, seed {seed}: {outcome:?}"
        );
        // Who was gone for ten seconds has it some seconds after he is back. With so few links one in a hundred is sent away by all whom he
        // was told of, and has it when he may come back to them.
        let [times, most] = [outcome.median_ms, outcome.most_ms].map(|ms| ms as f64 / outcome.lines_ms as f64);
        assert!(times < 3.0 && most < 4.0, "seed {seed}: {times} and {most} times what the lines could: {outcome:?}");
        let again_ms = introductions::CROWDED_S * 1000;
        assert!(outcome.all_ms < 10 * outcome.lines_ms + 20_000 + again_ms, "seed {seed}: {outcome:?}");
        assert!(outcome.origin_copies < 65.0, "the first one serves few of them, seed {seed}: {outcome:?}");
    }

    fn played(crowd: &Crowd) -> Outcome {
        let crowd = Crowd { plays: true, ..crowd.clone() };
        let outcome = run(&crowd, |_| {});
        assert_eq!((outcome.left_out, outcome.blamed), (0, 0), "{outcome:?}");
        outcome
    }

    #[test]
    fn a_film_begins_long_before_it_is_whole_also_where_several_play_it() {
        let film = Crowd { bytes: 40 << 20, ..Crowd::default() };
        let alone = played(&Crowd { peers: 1, ..film.clone() });
        let at_least_ms = BEGINNING_BYTES * 1000 / film.origin_up;
        assert!((at_least_ms..at_least_ms * 3 / 2).contains(&alone.began_ms), "{alone:?}");
        for peers in [2, 4, 12] {
            let outcome = played(&Crowd { peers, ..film.clone() });
            assert!(outcome.began_ms < 3 * at_least_ms, "{peers} play it: {outcome:?}");
            assert!(outcome.origin_copies < 1.5 && outcome.all_ms < 2 * alone.all_ms, "{peers} play it: {outcome:?}");
        }
    }

    /// As by a plain GET, without a range.
    #[test]
    fn who_reads_all_of_it_soon_has_the_beginning_also_where_many_do() {
        for peers in [2, 4, 12] {
            let crowd = Crowd { peers, bytes: 40 << 20, ..Crowd::default() };
            let outcome = run(&crowd, |_| {});
            assert_eq!((outcome.left_out, outcome.blamed), (0, 0), "{outcome:?}");
            let at_least_ms = FIRST_BYTES * 1000 / crowd.origin_up;
            assert!(outcome.first_ms < 4 * at_least_ms, "{peers} read it: {outcome:?}");
            assert!(outcome.origin_copies < 1.1, "{peers} read it: {outcome:?}");
        }
    }

    #[test]
    fn those_who_say_nothing_hold_nobody_up() {
        let crowd = Crowd { peers: 12, bytes: 8 << 20, ..Crowd::default() };
        let honest = run(&crowd, |_| {});
        let mute = run(&Crowd { mute: 400, ..crowd.clone() }, |_| {});
        assert_eq!((mute.left_out, mute.blamed), (0, 0), "{mute:?}");
        assert!(mute.all_ms < 2 * honest.all_ms, "{mute:?}, and without them {honest:?}");
    }

    #[test]
    fn those_who_claim_what_they_do_not_have_hold_nobody_up() {
        for seed in 1..4 {
            let crowd = Crowd { peers: 12, bytes: 8 << 20, seed, ..Crowd::default() };
            let honest = run(&crowd, |_| {});
            let liars = run(&Crowd { liars: 300, ..crowd.clone() }, |_| {});
            assert_eq!((liars.left_out, liars.blamed), (0, 0), "{liars:?}");
            assert!(liars.all_ms < 3 * honest.all_ms && liars.origin_copies < 3.0, "{liars:?}, and without them {honest:?}");
        }
    }
}
