//! What a patch replaces: the value of a `Content-Range` header.

use std::fmt;
use std::ops::Range;

use super::HEADER_BYTES_MAX;
use crate::versions::print_ascii_json;

/// Steps of a JSON range: as many as a path has segments, and one for the splice.
pub const STEPS_MAX: usize = 32 + 1;

/// What surrounds a header value. Other white space may belong to a key.
pub(super) const BLANKS: [char; 2] = [' ', '\t'];

/// What a patch replaces: the value of a `Content-Range` header.
///
/// `Display` prints it in the form every client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// A place in a JSON value. No steps mean the whole value.
    Json(Vec<Step>),
    /// Code points of a text.
    Text(Span),
}

/// One step of a JSON range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `.name` or `["name"]`. Statebus writes array indices so too: see [`Step::index`].
    Key(String),
    /// `[3]` or, from the end, `[-1]`.
    Index(Position),
    /// `[1:2]`: replaces a run of elements; always the last step.
    Splice(Span),
}

/// A half-open run of elements or code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub start: Position,
    /// Where it ends; not before `start` if both count from the same side.
    pub end: Position,
}

/// A place between elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// That many from the start.
    Start(u64),
    /// That many from the end: `-0` is the end itself.
    End(u64),
}

/// Why a `Content-Range` was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RangeError {
    /// Only `json` and `text` have a meaning here.
    #[error("unknown range unit {unit:?}; known are json and text")]
    UnknownUnit {
        /// The first word, shortened.
        unit: String,
    },
    /// Not a path of the grammar, or no `[start:end]`.
    #[error("cannot read the range at byte {at}")]
    Syntax {
        /// Where in the header value.
        at: usize,
    },
    /// A number above 2⁶⁴ − 1.
    #[error("number in the range is too large")]
    NumberTooLarge,
    /// The end lies before the start.
    #[error("range ends before it starts")]
    Backwards,
    /// A step behind a splice.
    #[error("a splice can only be the last step")]
    StepBehindSplice,
    /// More than [`STEPS_MAX`].
    #[error("range has more than {STEPS_MAX} steps")]
    TooManySteps,
    /// More than [`HEADER_BYTES_MAX`].
    #[error("range has {bytes} bytes, more than {HEADER_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl ContentRange {
    /// Parses a header value: `json ["a"].b[3]`, `json .list[1:2]`, `text [0:-0]`.
    ///
    /// # Errors
    ///
    /// A [`RangeError`].
    pub fn parse(header: &str) -> Result<Self, RangeError> {
        if header.len() > HEADER_BYTES_MAX {
            return Err(RangeError::TooLong { bytes: header.len() });
        }
        let header = header.trim_end_matches(BLANKS);
        let trimmed = header.trim_start_matches(BLANKS);
        let (unit, rest) = trimmed.split_once(BLANKS).unwrap_or((trimmed, ""));
        let rest = rest.trim_start_matches(BLANKS);
        match unit {
            "json" => parse_steps(header, rest).map(Self::Json),
            "text" => parse_text(header, rest).map(Self::Text),
            _ => Err(RangeError::UnknownUnit { unit: unit.chars().take(32).collect() }),
        }
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(steps) => f.write_str(&print_json_range(steps)),
            Self::Text(span) => write!(f, "text {span}"),
        }
    }
}

impl Step {
    /// The step as a place in an array, for when an array is what it meets: `[1]`, and `["1"]`.
    pub fn index(&self) -> Option<Position> {
        match self {
            Self::Index(position) => Some(*position),
            Self::Key(key) if key == "0" || !key.starts_with('0') => parse_digits(key)?.ok().map(Position::Start),
            Self::Key(_) | Self::Splice(_) => None,
        }
    }
}

impl Position {
    /// The offset from the start in something of `len` elements; `None` outside of `0..=len`.
    pub fn resolve(self, len: u64) -> Option<u64> {
        match self {
            Self::Start(offset) => (offset <= len).then_some(offset),
            Self::End(offset) => len.checked_sub(offset),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(offset) => write!(f, "{offset}"),
            Self::End(offset) => write!(f, "-{offset}"),
        }
    }
}

impl Span {
    /// The offsets from the start; `None` if it does not lie within `len` elements.
    pub fn resolve(self, len: u64) -> Option<Range<u64>> {
        let (start, end) = (self.start.resolve(len)?, self.end.resolve(len)?);
        (start <= end).then_some(start..end)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:{}]", self.start, self.end)
    }
}

/// Prints a whole `Content-Range` value, `json ["a"]["b"][3]`: keys always quoted, ASCII only.
pub fn print_json_range(steps: &[Step]) -> String {
    let mut out = "json ".to_owned();
    for step in steps {
        match step {
            Step::Key(key) => {
                out.push('[');
                print_ascii_json(&mut out, key);
                out.push(']');
            }
            Step::Index(position) => out.push_str(&format!("[{position}]")),
            Step::Splice(span) => out.push_str(&span.to_string()),
        }
    }
    out
}

fn parse_text(header: &str, rest: &str) -> Result<Span, RangeError> {
    let syntax = || syntax_at(header, rest);
    let inner = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(syntax)?;
    let (start, end) = inner.split_once(':').ok_or_else(syntax)?;
    parse_span(start, end).unwrap_or_else(|| Err(syntax()))
}

fn parse_steps(header: &str, mut rest: &str) -> Result<Vec<Step>, RangeError> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == STEPS_MAX {
            return Err(RangeError::TooManySteps);
        }
        if matches!(steps.last(), Some(Step::Splice(_))) {
            return Err(RangeError::StepBehindSplice);
        }
        let syntax = || syntax_at(header, rest);
        let (step, behind) = if let Some(quoted) = rest.strip_prefix('[').filter(is_quoted) {
            let end = closing_quote(quoted).ok_or_else(syntax)?;
            let (key, behind) = quoted.split_at(end + 1);
            let key = serde_json::from_str(key).map_err(|_| syntax())?;
            (Step::Key(key), behind.strip_prefix(']').ok_or_else(syntax)?)
        } else if let Some(bracket) = rest.strip_prefix('[') {
            let (inner, behind) = bracket.split_once(']').ok_or_else(syntax)?;
            let step = match inner.split_once(':') {
                Some((start, end)) => parse_span(start, end).map(|span| span.map(Step::Splice)),
                None => parse_position(inner).map(|position| position.map(Step::Index)),
            };
            (step.unwrap_or_else(|| Err(syntax()))?, behind)
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (key, behind) = name.split_at(end);
            if key.is_empty() {
                return Err(syntax());
            }
            (Step::Key(key.to_owned()), behind)
        };
        steps.push(step);
        rest = behind;
    }
    Ok(steps)
}

fn is_quoted(text: &&str) -> bool {
    text.starts_with('"')
}

/// Where the string that opens `text` closes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    let at = text.bytes().skip(1).position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    Some(at + 1)
}

fn syntax_at(header: &str, rest: &str) -> RangeError {
    RangeError::Syntax { at: header.len() - rest.len() }
}

/// `None` if these are no numbers.
pub(super) fn parse_span(start: &str, end: &str) -> Option<Result<Span, RangeError>> {
    let (start, end) = (parse_position(start)?, parse_position(end)?);
    Some(start.and_then(|start| {
        let end = end?;
        match (start, end) {
            (Position::Start(a), Position::Start(b)) if a > b => Err(RangeError::Backwards),
            (Position::End(a), Position::End(b)) if a < b => Err(RangeError::Backwards),
            _ => Ok(Span { start, end }),
        }
    }))
}

/// `None` if this is no number.
fn parse_position(text: &str) -> Option<Result<Position, RangeError>> {
    let text = text.trim_matches(BLANKS);
    Some(match text.strip_prefix('-') {
        Some(digits) => parse_digits(digits)?.map(Position::End),
        None => parse_digits(text)?.map(Position::Start),
    })
}

/// `None` if these are no digits.
pub(super) fn parse_digits(digits: &str) -> Option<Result<u64, RangeError>> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().map_err(|_| RangeError::NumberTooLarge))
}
