//! Progress on stderr, for people who wait.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

use crate::output::Output;

/// Over how long a speed is measured.
const WINDOW: Duration = Duration::from_secs(5);
/// How often.
const MEASURE_EVERY: Duration = Duration::from_millis(100);

/// How fast something goes: over the last seconds, and whatever was there when it began.
#[derive(Debug, Default)]
struct Speed(VecDeque<(Instant, u64)>);

impl Speed {
    /// So much is there already, and came at no speed.
    fn begin(&mut self, now: Instant, count: u64) {
        self.0.clear();
        self.0.push_back((now, count));
    }

    /// So much is there now; answers how much came in a second.
    fn at(&mut self, now: Instant, count: u64) -> f64 {
        if self.0.back().is_none_or(|(last, _)| now.saturating_duration_since(*last) >= MEASURE_EVERY) {
            self.0.push_back((now, count));
        }
        while self.0.len() > 1 && now.saturating_duration_since(self.0[0].0) > WINDOW {
            self.0.pop_front();
        }
        let (since, before) = self.0[0];
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        if seconds == 0.0 { 0.0 } else { count.saturating_sub(before) as f64 / seconds }
    }
}

/// A progress bar, or nothing when nobody is looking.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar, Arc<Mutex<Speed>>);

impl Progress {
    /// Counts things, of which there are `total` if that is known.
    pub(crate) fn things(out: Output, what: &'static str, total: Option<u64>) -> Self {
        let known = "{msg:15} {wide_bar} {human_pos}/{human_len}  {elapsed}, {eta} left";
        Self::new(out, what, total, known, "{msg:15} {spinner} {human_pos}  {per_sec}, {elapsed}")
    }

    /// Counts bytes, of which there are `total` if that is known.
    pub(crate) fn bytes(out: Output, what: &'static str, total: Option<u64>) -> Self {
        let known = "{msg:15} {wide_bar} {decimal_bytes}/{decimal_total_bytes}  {speed}, {left} left";
        Self::new(out, what, total, known, "{msg:15} {spinner} {decimal_bytes}  {speed}, {elapsed}")
    }

    fn new(out: Output, what: &'static str, total: Option<u64>, known: &str, unknown: &str) -> Self {
        if !out.shows_progress() {
            return Self(ProgressBar::hidden(), Arc::default());
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), known),
            None => (ProgressBar::no_length(), unknown),
        };
        let speed = Arc::<Mutex<Speed>>::default();
        let measure =
            |state: &ProgressState, speed: &Mutex<Speed>| speed.lock().unwrap_or_else(PoisonError::into_inner).at(Instant::now(), state.pos());
        let (of_speed, of_rest) = (Arc::clone(&speed), Arc::clone(&speed));
        if let Ok(style) = ProgressStyle::with_template(template) {
            let told = move |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{}/s", DecimalBytes(measure(state, &of_speed) as u64));
            };
            let left = move |state: &ProgressState, out: &mut dyn Write| {
                let rest = state.len().unwrap_or(0).saturating_sub(state.pos()) as f64;
                let speed = measure(state, &of_rest);
                let _ = match rest == 0.0 || speed > 0.0 {
                    true => write!(out, "{:#}", HumanDuration(Duration::from_secs((rest / speed.max(1.0)) as u64))),
                    false => write!(out, "?"),
                };
            };
            bar.set_style(style.with_key("speed", told).with_key("left", left));
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar, speed)
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.inc(count);
    }

    pub(crate) fn set(&self, count: u64) {
        self.0.set_position(count);
    }

    /// So much is there already, and came at no speed.
    pub(crate) fn begin_at(&self, count: u64) {
        self.0.set_position(count);
        self.1.lock().unwrap_or_else(PoisonError::into_inner).begin(Instant::now(), count);
    }

    /// So much more is there than was known, and came at no speed.
    pub(crate) fn skip(&self, count: u64) {
        self.begin_at(self.0.position() + count);
    }

    /// The bar itself, for who has more to say beside it.
    pub(crate) fn bar(&self) -> ProgressBar {
        self.0.clone()
    }

    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // An error message must not land behind the bar.
        self.done();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_came_at_no_speed() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut speed = Speed::default();
        speed.begin(start, 33_000_000);
        assert_eq!(speed.at(start, 33_000_000), 0.0);
        assert_eq!(speed.at(after(500), 38_000_000), 10_000_000.0);
        assert_eq!(speed.at(after(1000), 43_000_000), 10_000_000.0);
        // What was long ago counts no more.
        assert_eq!(speed.at(after(4000), 43_000_000), 2_500_000.0);
        assert_eq!(speed.at(after(9000), 43_000_000), 0.0);
    }
}
