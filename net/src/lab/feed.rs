//! A popular feed: many peers want all that one of them has posted, over slow lines, and then each new post at once.
//!
//! Deliberately not: nobody cheats here and nothing is lost on the way; the other labs show what happens then.

use serde::Serialize;

use super::world::{Deed, World};

/// Most readers of a lab: each has a store in memory.
pub const READERS_MAX: usize = 2_000;
/// How many times as long as it must take at best they may take, and how much longer, before we stop.
const PATIENCE: u64 = 30;
const PATIENCE_MS: u64 = 120_000;
/// Between two posts.
const PAUSE_MS: u64 = 2_000;
/// How long those who are behind at the end may take to come after.
const LAST_MS: u64 = 60_000;

/// One origin and its readers.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Everything that is left to chance comes from this number.
    pub seed: u64,
    /// How many read. Default 100.
    pub readers: usize,
    /// What the origin has posted before they come. Default 2000.
    pub posts: usize,
    /// Bytes of a post. Default 5000.
    pub post_bytes: usize,
    /// Posts while they are there. Default 20.
    pub live: usize,
    /// Bytes in a second that the origin sends. Default 1 MB.
    pub origin_up: u64,
    /// Bytes in a second that each reader sends. Default 1 MB.
    pub up: u64,
    /// Bytes in a second that each peer receives. Default 12.5 MB.
    pub down: u64,
    /// Milliseconds from one peer to another. Default 25.
    pub delay_ms: u64,
    /// Over how many milliseconds they come. Default 1000.
    pub arrive_ms: u64,
    /// How many of a hundred readers give nothing to others. Default none.
    pub free_riders: u64,
    /// How many of a hundred go for 10 s, once while they have not everything and once while there are posts. Default none.
    pub churn: u64,
    /// How many of a hundred have lines that carry an eighth. Default none.
    pub slow: u64,
    /// How many of a hundred do not say from whom they want what; with all of them the origin does not either. Default none.
    pub old: u64,
}

impl Crowd {
    /// The defaults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            readers: 100,
            posts: 2000,
            post_bytes: 5000,
            live: 20,
            origin_up: 1_000_000,
            up: 1_000_000,
            down: 12_500_000,
            delay_ms: 25,
            arrive_ms: 1000,
            free_riders: 0,
            churn: 0,
            slow: 0,
            old: 0,
        }
    }

    /// The time below which no way of sending so many bytes to all is, in milliseconds: the origin sends them once, each
    /// receives them, and all together send what all receive.
    #[must_use]
    pub fn bound_ms(&self, bytes: u64) -> u64 {
        let all_up = self.origin_up + self.up * self.readers as u64;
        let ms = |bytes: u64, per_s: u64| bytes.saturating_mul(1000) / per_s.max(1);
        ms(bytes, self.origin_up).max(ms(bytes, self.down)).max(ms(bytes * self.readers as u64, all_up))
    }
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What it came from.
    pub seed: u64,
    /// Readers.
    pub readers: usize,
    /// Bytes of all changes that there were before they came.
    pub bytes: u64,
    /// In milliseconds, how long it must take at best until all have these.
    pub bound_ms: u64,
    /// How long it took half of them, each from when he came.
    pub median_ms: u64,
    /// How long until all had it, from when the first came.
    pub all_ms: u64,
    /// The same by the bound.
    pub times_bound: f64,
    /// How often the origin sent all of it.
    pub origin_copies: f64,
    /// How often a reader received all of it, on average.
    pub reader_copies: f64,
    /// Posts while they were there.
    pub posts: usize,
    /// In milliseconds, after how long half of the readers had a post.
    pub post_median_ms: u64,
    /// The same of 99 of 100.
    pub post_p99_ms: u64,
    /// The same of all.
    pub post_max_ms: u64,
    /// How often the origin sent a post, on average.
    pub post_origin_copies: f64,
    /// How often a reader received a post, on average.
    pub post_reader_copies: f64,
    /// Readers who did not get everything.
    pub left_out: usize,
    /// What should not have been.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Whether everybody got everything and nothing went wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.left_out == 0 && self.problems.is_empty()
    }
}

/// What the numbers of a crowd cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a feed has 1 to {READERS_MAX} readers, posts of 1 to 100000 bytes, and lines that carry something")]
pub struct CrowdError;

/// Runs it. `at` is told how many readers have everything.
///
/// # Errors
///
/// [`CrowdError`]. What goes wrong inside is in [`Outcome`].
pub fn run(crowd: &Crowd, at: impl Fn(usize)) -> Result<Outcome, CrowdError> {
    let lines = [crowd.origin_up, crowd.up, crowd.down];
    if !(1..=READERS_MAX).contains(&crowd.readers) || crowd.posts == 0 || !(1..=100_000).contains(&crowd.post_bytes) || lines.contains(&0) {
        return Err(CrowdError);
    }
    let mut world = World::of(crowd);
    let bytes = world.write_history(crowd);
    let bound_ms = crowd.bound_ms(bytes);
    let begun_ms = world.now_ms;
    let came: Vec<u64> = (0..=crowd.readers).map(|_| begun_ms + world.draw(crowd.arrive_ms)).collect();
    let mut leavers = Vec::new();
    for (peer, came_ms) in came.iter().enumerate().skip(1) {
        world.at(*came_ms, Deed::Come(peer));
        if world.draws(crowd.churn) {
            leavers.push(peer);
            let at_ms = came_ms + world.draw(bound_ms);
            world.at(at_ms, Deed::Leave(peer));
        }
    }
    let have = |world: &World, mark: usize| world.marks()[mark].seen_ms.iter().skip(1).filter(|seen| seen.is_some()).count();
    let until_ms = begun_ms + PATIENCE * bound_ms + PATIENCE_MS;
    while have(&world, 0) < crowd.readers && world.now_ms < until_ms {
        world.run(world.now_ms + 100);
        at(have(&world, 0));
    }
    let mut times: Vec<u64> = (1..=crowd.readers).filter_map(|peer| Some(world.marks()[0].seen_ms[peer]?.saturating_sub(came[peer]))).collect();
    times.sort_unstable();
    let first_ms = came[1..].iter().min().copied().unwrap_or(begun_ms);
    let all_ms = world.marks()[0].seen_ms.iter().skip(1).flatten().max().copied().unwrap_or(first_ms).saturating_sub(first_ms);
    let traffic = |world: &World| {
        let received: u64 = world.lines()[1..].iter().map(|line| line.changes_received).sum();
        (world.lines()[0].changes_sent as f64, received as f64 / crowd.readers as f64)
    };
    let mut lacking: Vec<usize> = (1..=crowd.readers).filter(|peer| world.marks()[0].seen_ms[*peer].is_none()).collect();
    // What is still on its way comes first.
    world.run(world.now_ms + PAUSE_MS);
    let synced = traffic(&world);
    let mut away = Vec::new();
    for number in 0..crowd.live {
        if number == crowd.live / 2 {
            for peer in &leavers {
                world.at(world.now_ms, Deed::Leave(*peer));
            }
            away.clone_from(&leavers);
        }
        world.post(crowd.post_bytes);
        world.run(world.now_ms + PAUSE_MS);
    }
    let limit_ms = world.now_ms + LAST_MS;
    let is_over = |world: &World| (1..world.marks().len()).all(|mark| have(world, mark) >= crowd.readers);
    while !is_over(&world) && world.now_ms < limit_ms {
        world.run(world.now_ms + 100);
    }
    let posted = traffic(&world);
    let mut latencies = Vec::new();
    for mark in &world.marks()[1..] {
        for peer in 1..=crowd.readers {
            match mark.seen_ms[peer] {
                // Who was away has it when he is back.
                Some(seen_ms) if !away.contains(&peer) => latencies.push(seen_ms.saturating_sub(mark.at_ms)),
                Some(_) => {}
                None => lacking.push(peer),
            }
        }
    }
    latencies.sort_unstable();
    lacking.sort_unstable();
    lacking.dedup();
    let of = |all: &[u64], part: usize| all.get((all.len() * part / 100).min(all.len().saturating_sub(1))).copied().unwrap_or(0);
    let live_bytes = (crowd.live.max(1) * crowd.post_bytes) as f64 * (bytes as f64 / (crowd.posts * crowd.post_bytes) as f64);
    Ok(Outcome {
        seed: crowd.seed,
        readers: crowd.readers,
        bytes,
        bound_ms,
        median_ms: of(&times, 50),
        all_ms,
        times_bound: all_ms as f64 / bound_ms.max(1) as f64,
        origin_copies: synced.0 / bytes.max(1) as f64,
        reader_copies: synced.1 / bytes.max(1) as f64,
        posts: crowd.live,
        post_median_ms: of(&latencies, 50),
        post_p99_ms: of(&latencies, 99),
        post_max_ms: of(&latencies, 100),
        post_origin_copies: (posted.0 - synced.0) / live_bytes,
        post_reader_copies: (posted.1 - synced.1) / live_bytes,
        left_out: lacking.len(),
        problems: world.problems,
    })
}
