//! Progress on stderr, for people who wait.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

/// A progress bar, or nothing when nobody is looking.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Counts things, of which there are `total` if that is known.
    pub(crate) fn things(out: Output, what: &'static str, total: Option<u64>) -> Self {
        let known = "{msg:15} {wide_bar} {human_pos}/{human_len}  {elapsed}, {eta} left";
        Self::new(out, what, total, known, "{msg:15} {spinner} {human_pos}  {per_sec}, {elapsed}")
    }

    /// Counts bytes, of which there are `total` if that is known.
    pub(crate) fn bytes(out: Output, what: &'static str, total: Option<u64>) -> Self {
        let known = "{msg:15} {wide_bar} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}, {eta} left";
        Self::new(out, what, total, known, "{msg:15} {spinner} {decimal_bytes}  {decimal_bytes_per_sec}, {elapsed}")
    }

    fn new(out: Output, what: &'static str, total: Option<u64>, known: &str, unknown: &str) -> Self {
        if !out.shows_progress() {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total), known),
            None => (ProgressBar::no_length(), unknown),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
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
        self.0.reset_eta();
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
