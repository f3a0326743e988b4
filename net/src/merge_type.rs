//! How a Braid client merges, as `Merge-Type` says.

use http::{HeaderMap, StatusCode};

use crate::problem::Problem;
use crate::who::text;

/// Who brings edits of a text together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeType {
    /// We do; the client's own version and every update it is sent are one line of time.
    Simpleton,
    /// The client does, from the edits as they were made.
    Dt,
}

impl MergeType {
    /// Reads the header. Names of how other values merge are known, but ask for nothing.
    ///
    /// # Errors
    ///
    /// 400 for others.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(header) = headers.get("merge-type") else { return Ok(None) };
        match text(headers, "merge-type").map(str::trim) {
            Some("simpleton") => Ok(Some(Self::Simpleton)),
            Some("dt") => Ok(Some(Self::Dt)),
            Some("timebus" | "aww") => Ok(None),
            _ => Err(Problem::new(StatusCode::BAD_REQUEST, "merge-type", "this merge type is not known", format!("{header:?} is not known here"))
                .with_fix("texts know simpleton and dt; other values need no Merge-Type")),
        }
    }

    /// As the header has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simpleton => "simpleton",
            Self::Dt => "dt",
        }
    }
}

/// The answer to a client that names how texts merge, where something else is.
pub(crate) fn no_text() -> Problem {
    let detail = "the value at this path is no text that merges, and Merge-Type names how texts merge";
    Problem::new(StatusCode::NOT_ACCEPTABLE, "no-text", "there is no text here", detail)
        .with_fix("PUT with Content-Type: text/plain makes a text; other values are read without Merge-Type")
}
