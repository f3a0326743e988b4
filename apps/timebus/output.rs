//! The one place that prints: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal as _, Write as _};

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

/// Sends logs to stderr. `RUST_LOG` says which, else `default`.
pub(crate) fn log(default: &str, format: LogFormat) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
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
    fn terminals_get_no_control_characters() {
        assert_eq!(printable("a\u{1b}[2Jb\n\tc\u{9b}"), "a\u{fffd}[2Jb\n\tc\u{fffd}");
    }
}
