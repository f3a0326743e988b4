//! What went wrong, told to the person who typed the command.

use std::fmt;

use serde_json::{Value, json};

/// Refused, or absent.
pub(crate) const REFUSED: u8 = 1;
/// The command was not understood.
pub(crate) const USAGE: u8 = 2;
/// No peer answers.
pub(crate) const UNREACHABLE: u8 = 3;
/// Somebody else wrote meanwhile.
pub(crate) const CONFLICT: u8 = 4;

/// Why a verb did not do what it was asked, and what to do next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// The HTTP status, when it was a peer that refused.
    pub(crate) status: Option<u16>,
    /// The kind that the peer said, as in `blob-paused`.
    pub(crate) kind: Option<String>,
    /// One line. Empty when everything was said already.
    pub(crate) title: String,
    /// More about it.
    pub(crate) detail: Option<String>,
    /// What to do next.
    pub(crate) fix: Option<String>,
    /// Who took back that it might be read, in words.
    pub(crate) taken_back: Option<Box<str>>,
}

impl Failure {
    fn new(code: u8, title: impl Into<String>) -> Self {
        Self { code, title: title.into(), ..Self::default() }
    }

    pub(crate) fn refused(title: impl Into<String>) -> Self {
        Self::new(REFUSED, title)
    }

    pub(crate) fn usage(title: impl Into<String>) -> Self {
        Self::new(USAGE, title)
    }

    pub(crate) fn unreachable(title: impl Into<String>) -> Self {
        Self::new(UNREACHABLE, title)
    }

    /// Nothing to say: the output has told it.
    pub(crate) fn told() -> Self {
        Self::new(REFUSED, "")
    }

    pub(crate) fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// What a peer answered with an error status. The body is `application/problem+json`, or something else.
    pub(crate) fn of_answer(status: u16, body: &[u8]) -> Self {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let part = |name: &str| problem.get(name).and_then(Value::as_str).map(str::to_owned);
        let code = match status {
            409 | 412 => CONFLICT,
            // Somebody else's data that nobody can be reached for, or that is on its way.
            503 | 504 => UNREACHABLE,
            _ => REFUSED,
        };
        let title = part("title").unwrap_or_else(|| match status {
            404 => "there is nothing there".to_owned(),
            _ => format!("the peer answered with status {status}"),
        });
        let kind = part("type").and_then(|kind| Some(kind.rsplit_once('/')?.1.to_owned()));
        let taken_back = problem.pointer("/taken_back/says").and_then(Value::as_str).map(Box::from);
        Self { code, status: Some(status), kind, title, detail: part("detail"), fix: part("fix"), taken_back }
    }

    /// The failure inside an error, or one made of its messages.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if let Some(failure) = error.downcast_ref::<Self>() {
            return failure.clone();
        }
        let mut causes = error.chain().map(ToString::to_string);
        let title = causes.next().unwrap_or_default();
        let rest: Vec<String> = causes.filter(|cause| !title.contains(cause)).collect();
        let detail = (!rest.is_empty()).then(|| rest.join(": "));
        Self { code: REFUSED, title, detail, ..Self::default() }
    }

    /// The form for programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({"error": {"status": self.status, "title": self.title, "detail": self.detail, "fix": self.fix}})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        // A detail that only repeats the title in other words is still worth its line.
        if let Some(detail) = self.detail.as_deref().filter(|detail| *detail != self.title) {
            write!(f, "\n       {}", detail.replace('\n', "\n       "))?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n   fix {}", fix.replace('\n', "\n       "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_status() {
        for (status, code) in [(404, REFUSED), (403, REFUSED), (409, CONFLICT), (412, CONFLICT), (500, REFUSED), (504, UNREACHABLE)] {
            assert_eq!(Failure::of_answer(status, b"").code, code, "{status}");
        }
    }

    #[test]
    fn reads_what_the_peer_says() {
        let body = br#"{"type":"about:blank","title":"no","detail":"because","fix":"try again"}"#;
        let failure = Failure::of_answer(403, body);
        assert_eq!(failure.to_string(), "no\n       because\n   fix try again");
        assert_eq!(failure.to_json()["error"]["status"], 403);
    }

    #[test]
    fn tells_causes_once() {
        let cause = std::io::Error::other("disk full");
        let error = anyhow::Error::from(cause).context("could not write a.txt");
        let failure = Failure::of(&error);
        assert_eq!((failure.title.as_str(), failure.detail.as_deref()), ("could not write a.txt", Some("disk full")));
        assert_eq!(Failure::of(&Failure::told().into()), Failure::told());
    }
}
