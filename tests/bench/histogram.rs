//! Latencies, counted in buckets: small, quick to fill and to add up, right to 2 %.

use std::time::Duration;

/// Buckets for each doubling; 32 of them keep a quantile within 1/64 of the truth.
const STEPS: usize = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Enough doublings for half an hour in nanoseconds; longer waits count as that.
const DOUBLINGS: usize = 37;

/// How often each latency was seen.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * DOUBLINGS] }
    }
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn add(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
    }

    /// Counts everything `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// The latency that `share` (0 to 1) of all counted stayed under; `None` when empty.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return Some(Duration::from_nanos(middle(index)));
            }
        }
        None
    }
}

/// The first [`STEPS`] buckets are one nanosecond wide, the rest double every [`STEPS`].
fn bucket(nanos: u64) -> usize {
    let doubling = (u64::BITS - nanos.leading_zeros()).saturating_sub(STEP_BITS + 1);
    let step = (nanos >> doubling) as usize;
    (step + doubling as usize * STEPS).min(STEPS * DOUBLINGS - 1)
}

fn middle(index: usize) -> u64 {
    if index < 2 * STEPS {
        return index as u64;
    }
    let doubling = index / STEPS - 1;
    let step = (index % STEPS + STEPS) as u64;
    (step << doubling) + (1 << doubling) / 2
}
