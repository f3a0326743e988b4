//! The one place that prints: results on stdout, everything else on stderr.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::cli::LogFormat;
use crate::failure::Failure;

/// What the program is called in messages.
pub(crate) const PROGRAM: &str = "timebus";

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// For programs: JSON on stdout, errors as JSON on stderr, nothing else on either.
    pub(crate) json: bool,
}

impl Output {
    /// Prints bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().lock().write_all(bytes)
    }

    /// Makes sure that everything printed so far has arrived.
    pub(crate) fn flush(self) -> io::Result<()> {
        io::stdout().lock().flush()
    }

    /// Prints a line.
    pub(crate) fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        let mut line = text.as_ref().to_owned();
        line.push('\n');
        self.bytes(line.as_bytes())
    }

    /// Prints a result: one line of JSON for programs, else what `human` says.
    pub(crate) fn result(self, json: &impl Serialize, human: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json {
            self.line(serde_json::to_string(json)?)?;
        } else {
            let text = human();
            if !text.is_empty() {
                self.line(text)?;
            }
        }
        Ok(())
    }

    /// Tells people something beside the result. Programs do not get it.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
        }
    }

    /// Prints what went wrong.
    pub(crate) fn failure(self, failure: &Failure) {
        if failure.title.is_empty() {
            return;
        }
        let mut stderr = io::stderr().lock();
        let _ = match self.json {
            true => writeln!(stderr, "{}", failure.to_json()),
            false => writeln!(stderr, "error: {failure}"),
        };
    }

    /// Whether progress may be drawn.
    pub(crate) fn shows_progress(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Whether stdout is looked at by a person.
    pub(crate) fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }
}

/// Whether an error only says that the reader of our output has gone, as `head` does.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(is_pipe)
}

/// Makes text that others wrote harmless for a terminal: control characters become visible ones.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Lines of the log that are kept for whoever asks the peer what it said.
const RECENT_LINES_MAX: usize = 500;
/// Bytes of one such line; the rest is cut off.
const RECENT_LINE_BYTES_MAX: usize = 2000;

static RECENT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// What was logged lately, the oldest first.
pub(crate) fn recent() -> Vec<String> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Where logs go: to stderr, and into memory without colours.
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = plain(text.trim_end());
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT_LINES_MAX {
            recent.pop_front();
        }
        recent.push_back(line);
        drop(recent);
        io::stderr().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A line without the escapes that colour it, and not too long.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find('m').map_or(rest.len(), |end| at + end + 1);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out.truncate(out.floor_char_boundary(RECENT_LINE_BYTES_MAX));
    printable(&out)
}

/// Sends logs to stderr. `RUST_LOG` says which, else `default`.
pub(crate) fn log(default: &str, format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Log);
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match format {
        LogFormat::Text => builder.with_ansi(colours).with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_without_colours() {
        assert_eq!(plain("\u{1b}[2m12:00\u{1b}[0m \u{1b}[32mINFO\u{1b}[0m hello"), "12:00 INFO hello");
        assert_eq!(plain("cut \u{1b}[3"), "cut ");
        assert_eq!(plain(&"ä".repeat(3000)).len(), RECENT_LINE_BYTES_MAX);
    }

    #[test]
    fn terminals_get_no_control_characters() {
        assert_eq!(printable("a\u{1b}[2Jb\n\tc\u{9b}"), "a\u{fffd}[2Jb\n\tc\u{fffd}");
    }
}
