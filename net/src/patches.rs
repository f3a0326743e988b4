//! Braid patches: the ranges they replace, the body of a request with several of them, and the
//! updates of a subscription stream (braid.md §1.3 and §1.4).
//!
//! Reading is lenient where clients differ (LF or CRLF, blank lines, header case) and strict where
//! leniency could change which bytes are meant. Writing is what the oldest stock client can parse:
//! a parse error there ends the subscription without a retry.
//!
//! Deliberately not: deciding whether ranges fit. Only the document at `Parents` can tell, so
//! positions that count from its end stay as they are until [`Position::resolve`].

use crate::accept::Mime;
use crate::signature::print_digest;
use crate::versions::{print_ascii_json, print_versions};
use bytes::Bytes;
use std::fmt;
use std::ops::Range;

/// Patches in one request (threats.md H14).
pub const PATCHES_MAX: usize = 4096;

/// Bytes of one patch's header block. A JSON range names at most 1 024 key bytes, six times that
/// when all are escaped.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Steps of a JSON range: as many as a path has segments, and one for the splice.
pub const STEPS_MAX: usize = 32 + 1;

/// What surrounds a header value. Other white space may belong to a key.
const BLANKS: [char; 2] = [' ', '\t'];

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

/// A range and what comes in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// What is replaced.
    pub range: ContentRange,
    /// The new text, or JSON. In a JSON range empty content deletes the field.
    pub content: Bytes,
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

/// Why a body with several patches was refused. Patches are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchesError {
    /// More than [`PATCHES_MAX`].
    #[error("{count} patches are announced, more than {PATCHES_MAX}")]
    TooMany {
        /// The number in `Patches`.
        count: usize,
    },
    /// The body ends inside a patch.
    #[error("body ends inside patch {patch}")]
    Truncated {
        /// Which one.
        patch: usize,
    },
    /// No empty line within [`HEADER_BYTES_MAX`].
    #[error("headers of patch {patch} have more than {HEADER_BYTES_MAX} bytes")]
    HeadersTooLong {
        /// Which one.
        patch: usize,
    },
    /// A line that is not `name: value`, or not UTF-8, or has control characters.
    #[error("cannot read a header of patch {patch}")]
    BadHeader {
        /// Which one.
        patch: usize,
    },
    /// `Content-Length` or `Content-Range` is missing.
    #[error("patch {patch} has no {header}")]
    MissingHeader {
        /// Which one.
        patch: usize,
        /// The header.
        header: &'static str,
    },
    /// A header that must be there once is there twice.
    #[error("patch {patch} has two {header}")]
    DoubleHeader {
        /// Which one.
        patch: usize,
        /// The header.
        header: &'static str,
    },
    /// Not digits.
    #[error("Content-Length of patch {patch} is not a number")]
    BadLength {
        /// Which one.
        patch: usize,
    },
    /// The `Content-Range` cannot be read.
    #[error("bad Content-Range in patch {patch}")]
    BadRange {
        /// Which one.
        patch: usize,
        /// Why.
        source: RangeError,
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

/// Parses the body of a request with `Patches: count`. Contents share the body's memory.
///
/// Bytes behind the last patch are ignored, as all servers do.
///
/// # Errors
///
/// A [`PatchesError`].
pub fn parse_patches(body: &Bytes, count: usize) -> Result<Vec<Patch>, PatchesError> {
    if count > PATCHES_MAX {
        return Err(PatchesError::TooMany { count });
    }
    let mut patches = Vec::new();
    let mut at = 0;
    for patch in 1..=count {
        at += body[at..].iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
        let (headers, behind) = parse_headers(patch, body, at)?;
        let end = behind.checked_add(headers.content_bytes).filter(|&end| end <= body.len()).ok_or(PatchesError::Truncated { patch })?;
        patches.push(Patch { range: headers.range, content: body.slice(behind..end) });
        at = end;
    }
    Ok(patches)
}

/// One update of a subscription stream.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The version the update leads to.
    pub version: &'a [String],
    /// The version it starts from: what this stream was sent last, or nothing for the root.
    pub parents: &'a [String],
    /// SHA-256 of the whole new representation. Only if `version` is the tip: clients that compute
    /// another one stop for good.
    pub repr_sha256: Option<[u8; 32]>,
    /// What the update brings.
    pub body: UpdateBody<'a>,
}

/// What an update brings.
#[derive(Clone, Copy, Debug)]
pub enum UpdateBody<'a> {
    /// The whole representation.
    Snapshot {
        /// Its media type.
        content_type: &'a Mime,
        /// Its bytes.
        content: &'a [u8],
    },
    /// What changed, in coordinates of the document at `parents`.
    Patches(&'a [Patch]),
}

/// Appends one update. It has exactly one of `Content-Length` and `Patches`, whatever is in it.
pub fn write_update(out: &mut Vec<u8>, update: &Update<'_>) {
    write_head(out, "200 OK", update.version, update.parents);
    if let Some(digest) = &update.repr_sha256 {
        write_header(out, "Repr-Digest", &print_digest(digest));
    }
    match update.body {
        UpdateBody::Snapshot { content_type, content } => {
            write_header(out, "Content-Type", content_type.as_str());
            write_header(out, "Content-Length", &content.len().to_string());
            write_content(out, content);
        }
        UpdateBody::Patches([patch]) => write_patch(out, patch),
        UpdateBody::Patches(patches) => {
            let count = patches.len();
            let content_type = format!("application/http-patches; count={count}");
            write_header(out, "Content-Type", &content_type);
            write_header(out, "Patches", &count.to_string());
            out.extend_from_slice(b"\r\n");
            for patch in patches {
                write_patch(out, patch);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the update that says the resource is gone: 404 inside the stream.
pub fn write_deleted(out: &mut Vec<u8>, version: &[String], parents: &[String]) {
    write_head(out, "404 Not Found", version, parents);
    write_header(out, "Content-Length", "0");
    write_content(out, b"");
}

/// The status line comes first because some clients take a first header that begins with "e" for
/// something else; an empty `Parents` keeps its space because they swallow the next line without.
fn write_head(out: &mut Vec<u8>, status: &str, version: &[String], parents: &[String]) {
    out.extend_from_slice(format!("HTTP {status}\r\n").as_bytes());
    write_header(out, "Version", &print_versions(version));
    write_header(out, "Parents", &print_versions(parents));
}

fn write_patch(out: &mut Vec<u8>, patch: &Patch) {
    write_header(out, "Content-Length", &patch.content.len().to_string());
    write_header(out, "Content-Range", &patch.range.to_string());
    write_content(out, &patch.content);
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
}

fn write_content(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n\r\n");
}

struct PatchHeaders {
    content_bytes: usize,
    range: ContentRange,
}

/// Reads a header block from `at` on, and returns where the content begins.
fn parse_headers(patch: usize, body: &[u8], at: usize) -> Result<(PatchHeaders, usize), PatchesError> {
    let block = &body[at..body.len().min(at + HEADER_BYTES_MAX)];
    let mut length = None;
    let mut range = None;
    let mut from = 0;
    loop {
        let Some(line_bytes) = block[from..].iter().position(|&byte| byte == b'\n') else {
            return Err(if block.len() == HEADER_BYTES_MAX { PatchesError::HeadersTooLong { patch } } else { PatchesError::Truncated { patch } });
        };
        let line = &block[from..from + line_bytes];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        from += line_bytes + 1;
        if line.is_empty() {
            break;
        }
        let (name, value) = split_header(line).ok_or(PatchesError::BadHeader { patch })?;
        let (slot, header) = match name.to_ascii_lowercase().as_str() {
            "content-length" => (&mut length, "Content-Length"),
            "content-range" => (&mut range, "Content-Range"),
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(PatchesError::DoubleHeader { patch, header });
        }
    }
    let missing = |header| PatchesError::MissingHeader { patch, header };
    let length = length.ok_or_else(|| missing("Content-Length"))?;
    let range = range.ok_or_else(|| missing("Content-Range"))?;
    // A length that no machine word holds is certainly longer than the body.
    let content_bytes = parse_digits(length)
        .ok_or(PatchesError::BadLength { patch })?
        .ok()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or(PatchesError::Truncated { patch })?;
    let range = ContentRange::parse(range).map_err(|source| PatchesError::BadRange { patch, source })?;
    let headers = PatchHeaders { content_bytes, range };
    Ok((headers, at + from))
}

fn split_header(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    if line.chars().any(|c| c.is_ascii_control() && c != '\t') {
        return None;
    }
    let (name, value) = line.split_once(':')?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (!name.is_empty() && name.bytes().all(legal)).then_some((name, value.trim_matches(BLANKS)))
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
fn parse_span(start: &str, end: &str) -> Option<Result<Span, RangeError>> {
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
fn parse_digits(digits: &str) -> Option<Result<u64, RangeError>> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().map_err(|_| RangeError::NumberTooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::captured_values;
    use proptest::prelude::*;

    fn key(text: &str) -> Step {
        Step::Key(text.to_owned())
    }

    fn span(start: Position, end: Position) -> Span {
        Span { start, end }
    }

    fn text_range(start: u64, end: u64) -> ContentRange {
        ContentRange::Text(span(Position::Start(start), Position::Start(end)))
    }

    #[test]
    fn reads_json_ranges() {
        use Position::{End, Start};
        let table: &[(&str, &[Step])] = &[
            ("json", &[]),
            ("json ", &[]),
            ("json .a.b", &[key("a"), key("b")]),
            ("json a.b", &[key("a"), key("b")]),
            ("json  [\"a\"].b[3] ", &[key("a"), key("b"), Step::Index(Start(3))]),
            ("json [\"list\"][\"1\"]", &[key("list"), key("1")]),
            ("json [1:2]", &[Step::Splice(span(Start(1), Start(2)))]),
            ("json .l[-0:-0]", &[key("l"), Step::Splice(span(End(0), End(0)))]),
            ("json [-2:-1]", &[Step::Splice(span(End(2), End(1)))]),
            ("json [0:-0]", &[Step::Splice(span(Start(0), End(0)))]),
            ("json [-1]", &[Step::Index(End(1))]),
            ("json [-0]", &[Step::Index(End(0))]),
            ("json [\"a\\\"]b\"]", &[key("a\"]b")]),
            ("json [\"a\\\\\"].b", &[key("a\\"), key("b")]),
            ("json [\"\\ud83d\\ude00\"]", &[key("😀")]),
            ("json [\"\"]", &[key("")]),
            ("json .hello world]", &[key("hello world]")]),
            ("json [\"a\"]b", &[key("a"), key("b")]),
        ];
        for (header, steps) in table {
            assert_eq!(ContentRange::parse(header), Ok(ContentRange::Json(steps.to_vec())), "{header}");
        }
    }

    #[test]
    fn reads_text_ranges() {
        use Position::{End, Start};
        assert_eq!(ContentRange::parse("text [0:1]"), Ok(text_range(0, 1)));
        assert_eq!(ContentRange::parse(" text  [ 3 : 3 ] "), Ok(text_range(3, 3)));
        assert_eq!(ContentRange::parse("text [-0:-0]"), Ok(ContentRange::Text(span(End(0), End(0)))));
        assert_eq!(ContentRange::parse("text [2:-1]"), Ok(ContentRange::Text(span(Start(2), End(1)))));
    }

    #[test]
    fn reads_captured_ranges() {
        for value in captured_values("content-range") {
            let range = ContentRange::parse(&value).expect(&value);
            assert_eq!(ContentRange::parse(&range.to_string()), Ok(range));
        }
    }

    #[test]
    fn refuses_bad_ranges() {
        use RangeError as E;
        let deep = format!("json {}", ".a".repeat(STEPS_MAX + 1));
        let long = format!("json .{}", "a".repeat(HEADER_BYTES_MAX));
        let unit = |unit: &str| E::UnknownUnit { unit: unit.into() };
        let table = [
            ("", unit("")),
            ("bytes 0-5/10", unit("bytes")),
            ("yjs-text (a-1:b-2)", unit("yjs-text")),
            ("JSON .a", unit("JSON")),
            ("text[0:1]", unit("text[0:1]")),
            ("text", E::Syntax { at: 4 }),
            ("text 0:1", E::Syntax { at: 5 }),
            ("text [0:1", E::Syntax { at: 5 }),
            ("text [0]", E::Syntax { at: 5 }),
            ("text [0:+1]", E::Syntax { at: 5 }),
            ("text [0:1:2]", E::Syntax { at: 5 }),
            ("text [0:1][2:3]", E::Syntax { at: 5 }),
            ("text [:]", E::Syntax { at: 5 }),
            ("text [2:1]", E::Backwards),
            ("text [-1:-2]", E::Backwards),
            ("text [0:18446744073709551616]", E::NumberTooLarge),
            ("json .", E::Syntax { at: 5 }),
            ("json .a..b", E::Syntax { at: 7 }),
            ("json []", E::Syntax { at: 5 }),
            ("json [a]", E::Syntax { at: 5 }),
            ("json [\"a]", E::Syntax { at: 5 }),
            ("json [\"a\"", E::Syntax { at: 5 }),
            ("json .x[\"a\"x]", E::Syntax { at: 7 }),
            ("json [\"\\x\"]", E::Syntax { at: 5 }),
            ("json [\"\\ud83d\"]", E::Syntax { at: 5 }),
            ("json [1:2][3]", E::StepBehindSplice),
            ("json [99999999999999999999]", E::NumberTooLarge),
            (&deep, E::TooManySteps),
            (&long, E::TooLong { bytes: HEADER_BYTES_MAX + 6 }),
        ];
        for (header, expected) in table {
            assert_eq!(ContentRange::parse(header), Err(expected), "{header}");
        }
    }

    #[test]
    fn resolves_positions() {
        use Position::{End, Start};
        assert_eq!(span(End(0), End(0)).resolve(5), Some(5..5));
        assert_eq!(span(Start(1), End(1)).resolve(5), Some(1..4));
        assert_eq!(span(Start(5), Start(5)).resolve(5), Some(5..5));
        assert_eq!(span(Start(0), Start(6)).resolve(5), None);
        assert_eq!(span(End(6), End(0)).resolve(5), None);
        assert_eq!(span(Start(4), End(3)).resolve(5), None, "crossed");
    }

    #[test]
    fn takes_quoted_indices_for_arrays() {
        assert_eq!(key("1").index(), Some(Position::Start(1)));
        assert_eq!(key("0").index(), Some(Position::Start(0)));
        for other in ["", "01", "-1", "a", "99999999999999999999", "1.0"] {
            assert_eq!(key(other).index(), None, "{other}");
        }
    }

    /// The request of braid.md §1.3, as stock clients send it.
    const TWO_PATCHES: &str =
        concat!("content-length: 1\r\ncontent-range: text [0:1]\r\n\r\nJ\r\n\r\n", "content-length: 1\r\ncontent-range: text [11:11]\r\n\r\n!\r\n",);

    fn patches(body: &str, count: usize) -> Result<Vec<Patch>, PatchesError> {
        parse_patches(&Bytes::copy_from_slice(body.as_bytes()), count)
    }

    fn two() -> Vec<Patch> {
        vec![
            Patch { range: text_range(0, 1), content: Bytes::from_static(b"J") },
            Patch { range: text_range(11, 11), content: Bytes::from_static(b"!") },
        ]
    }

    #[test]
    fn reads_bodies_of_both_generations() {
        assert_eq!(TWO_PATCHES.len(), 106, "as captured");
        assert_eq!(patches(TWO_PATCHES, 2), Ok(two()));
        assert_eq!(patches(&TWO_PATCHES.replace("\r\n", "\n"), 2), Ok(two()));
        assert_eq!(patches(&format!("\r\n\n{TWO_PATCHES}rubbish"), 2), Ok(two()));
        assert_eq!(patches(TWO_PATCHES, 1), Ok(two()[..1].to_vec()));
        assert_eq!(patches("rubbish", 0), Ok(vec![]));
        let extra = "X-Other: 1\nContent-Range:json .a\nContent-Length:0\n\n";
        assert_eq!(patches(extra, 1), Ok(vec![Patch { range: ContentRange::Json(vec![key("a")]), content: Bytes::new() }]));
        // The content is counted in bytes, and may look like anything.
        let odd = "Content-Length: 8\r\nContent-Range: text [0:0]\r\n\r\n😀\r\n\r\n";
        let content = patches(odd, 1).expect("one patch")[0].content.clone();
        assert_eq!(&content[..], "😀\r\n\r\n".as_bytes());
    }

    #[test]
    fn refuses_bad_bodies() {
        use PatchesError as E;
        let range = "Content-Range: text [0:0]\r\n";
        let missing = |header| E::MissingHeader { patch: 1, header };
        let double = |header| E::DoubleHeader { patch: 1, header };
        let table = [
            (String::new(), E::Truncated { patch: 1 }),
            ("\r\n\r\n".into(), E::Truncated { patch: 1 }),
            (format!("{range}Content-Length: 2\r\n\r\nx"), E::Truncated { patch: 1 }),
            (format!("{range}Content-Length: 99999999999999999999\r\n\r\nx"), E::Truncated { patch: 1 }),
            (format!("{range}Content-Length: {}\r\n\r\nx", u64::MAX), E::Truncated { patch: 1 }),
            (format!("{range}Content-Length: 1"), E::Truncated { patch: 1 }),
            (format!("{range}\r\n"), missing("Content-Length")),
            ("Content-Length: 0\r\n\r\n".into(), missing("Content-Range")),
            (format!("{range}{range}\r\n"), double("Content-Range")),
            ("Content-Length: 0\r\ncontent-length: 5\r\n\r\n".into(), double("Content-Length")),
            (format!("{range}Content-Length: -1\r\n\r\n"), E::BadLength { patch: 1 }),
            (format!("{range}Content-Length: +1\r\n\r\n"), E::BadLength { patch: 1 }),
            (format!("{range}Content-Length:\r\n\r\n"), E::BadLength { patch: 1 }),
            ("rubbish\r\n\r\n".into(), E::BadHeader { patch: 1 }),
            ("a b: c\r\n\r\n".into(), E::BadHeader { patch: 1 }),
            ("a: b\rc\r\n\r\n".into(), E::BadHeader { patch: 1 }),
            (format!("{}\n", "a".repeat(9000)), E::HeadersTooLong { patch: 1 }),
            ("a: b\n".repeat(9000), E::HeadersTooLong { patch: 1 }),
            ("Content-Length: 0\r\nContent-Range: x\r\n\r\n".into(), E::BadRange { patch: 1, source: RangeError::UnknownUnit { unit: "x".into() } }),
        ];
        for (body, expected) in table {
            assert_eq!(patches(&body, 1), Err(expected), "{body:.80}");
        }
        assert_eq!(patches(TWO_PATCHES, 3), Err(E::Truncated { patch: 3 }));
        assert_eq!(patches("", 4097), Err(E::TooMany { count: 4097 }));
    }

    fn ids(list: &[&str]) -> Vec<String> {
        list.iter().map(|&id| id.to_owned()).collect()
    }

    fn update(version: &[&str], parents: &[&str], body: UpdateBody<'_>) -> String {
        let mut out = Vec::new();
        write_update(&mut out, &Update { version: &ids(version), parents: &ids(parents), repr_sha256: None, body });
        String::from_utf8(out).expect("the contents are UTF-8")
    }

    #[test]
    fn writes_a_snapshot() {
        let snapshot = UpdateBody::Snapshot { content_type: &Mime::TEXT, content: b"Jello world!" };
        assert_eq!(
            update(&["alice-8"], &[], snapshot),
            concat!(
                "HTTP 200 OK\r\n",
                "Version: \"alice-8\"\r\n",
                "Parents: \r\n",
                "Content-Type: text/plain; charset=utf-8\r\n",
                "Content-Length: 12\r\n",
                "\r\n",
                "Jello world!\r\n",
                "\r\n",
            )
        );
    }

    #[test]
    fn writes_the_digest_of_the_tip() {
        let mut out = Vec::new();
        write_update(
            &mut out,
            &Update { version: &ids(&["b", "a"]), parents: &[], repr_sha256: Some([0; 32]), body: UpdateBody::Patches(&two()[..1]) },
        );
        let text = String::from_utf8(out).expect("UTF-8");
        assert!(text.starts_with(concat!(
            "HTTP 200 OK\r\nVersion: \"a\", \"b\"\r\nParents: \r\n",
            "Repr-Digest: sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\r\n",
            "Content-Length: 1\r\n",
        )));
    }

    #[test]
    fn writes_one_patch_inline() {
        let patch = [Patch { range: text_range(0, 0), content: Bytes::from("😀é") }];
        assert_eq!(
            update(&["bob-1"], &["alice-8"], UpdateBody::Patches(&patch)),
            concat!(
                "HTTP 200 OK\r\n",
                "Version: \"bob-1\"\r\n",
                "Parents: \"alice-8\"\r\n",
                "Content-Length: 6\r\n",
                "Content-Range: text [0:0]\r\n",
                "\r\n",
                "😀é\r\n",
                "\r\n",
            )
        );
    }

    #[test]
    fn writes_several_patches() {
        assert_eq!(
            update(&["bob-5"], &["bob-1"], UpdateBody::Patches(&two())),
            concat!(
                "HTTP 200 OK\r\n",
                "Version: \"bob-5\"\r\n",
                "Parents: \"bob-1\"\r\n",
                "Content-Type: application/http-patches; count=2\r\n",
                "Patches: 2\r\n",
                "\r\n",
                "Content-Length: 1\r\n",
                "Content-Range: text [0:1]\r\n",
                "\r\n",
                "J\r\n",
                "\r\n",
                "Content-Length: 1\r\n",
                "Content-Range: text [11:11]\r\n",
                "\r\n",
                "!\r\n",
                "\r\n",
                "\r\n",
            )
        );
    }

    #[test]
    fn writes_a_deletion() {
        let mut out = Vec::new();
        write_deleted(&mut out, &ids(&["a-2"]), &ids(&["a-1"]));
        assert_eq!(
            String::from_utf8(out).as_deref(),
            Ok(concat!("HTTP 404 Not Found\r\n", "Version: \"a-2\"\r\n", "Parents: \"a-1\"\r\n", "Content-Length: 0\r\n", "\r\n", "\r\n\r\n",))
        );
    }

    /// What a client made of one update: status line, headers, and either a body or patches.
    type Seen = (String, Vec<(String, String)>, Result<Bytes, Vec<Patch>>);

    /// A client that frames the stream by the rules of braid.md §1.4.
    fn read_stream(stream: &Bytes) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut at = 0;
        loop {
            while stream.get(at).is_some_and(|byte| b"\r\n".contains(byte)) {
                at += 1;
            }
            if at == stream.len() {
                return seen;
            }
            let head_bytes = stream[at..].windows(4).position(|window| window == b"\r\n\r\n").expect("a complete head");
            let head = std::str::from_utf8(&stream[at..at + head_bytes]).expect("ASCII");
            let inline_at = at;
            at += head_bytes + 4;
            let mut lines = head.split("\r\n");
            let status = lines.next().expect("a status line").to_owned();
            assert!(status.starts_with("HTTP "));
            let headers: Vec<(String, String)> =
                lines.map(|line| line.split_once(": ").expect("a header")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let header = |wanted: &str| {
                let found = headers.iter().find(|(name, _)| name == wanted);
                found.map(|(_, value)| value.clone())
            };
            assert!(header("Version").is_some() && header("Parents").is_some());
            let content = match (header("Content-Length"), header("Patches")) {
                (Some(length), None) => {
                    let end = at + length.parse::<usize>().expect("a length");
                    let content = stream.slice(at..end);
                    at = end;
                    match header("Content-Range") {
                        None => Ok(content),
                        Some(range) => Err(vec![Patch { range: ContentRange::parse(&range).expect("a range"), content }]),
                    }
                }
                (None, Some(count)) => {
                    let count = count.parse().expect("a count");
                    let rest = stream.slice(at..);
                    let patches = parse_patches(&rest, count).expect("patches");
                    if let Some(last) = patches.last() {
                        at = last.content.as_ptr() as usize - stream.as_ptr() as usize;
                        at += last.content.len();
                    }
                    Err(patches)
                }
                _ => panic!("both or neither length at {inline_at}"),
            };
            seen.push((status, headers, content));
        }
    }

    fn any_position() -> impl Strategy<Value = Position> {
        prop_oneof![(0u64..50).prop_map(Position::Start), (0u64..50).prop_map(Position::End),]
    }

    fn any_span() -> impl Strategy<Value = Span> {
        (any_position(), any_position()).prop_filter_map("backwards", |(start, end)| parse_span(&start.to_string(), &end.to_string())?.ok())
    }

    fn any_range() -> impl Strategy<Value = ContentRange> {
        let step = prop_oneof![".{0,8}".prop_map(Step::Key), any_position().prop_map(Step::Index),];
        let steps = (prop::collection::vec(step, 0..5), prop::option::of(any_span()));
        prop_oneof![
            any_span().prop_map(ContentRange::Text),
            steps.prop_map(|(mut steps, splice)| {
                steps.extend(splice.map(Step::Splice));
                ContentRange::Json(steps)
            }),
        ]
    }

    fn any_patch() -> impl Strategy<Value = Patch> {
        (any_range(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(range, content)| Patch { range, content: Bytes::from(content) })
    }

    proptest! {
        #[test]
        fn a_printed_range_is_read_as_it_was(range in any_range()) {
            let printed = range.to_string();
            prop_assert!(printed.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            prop_assert_eq!(ContentRange::parse(&printed), Ok(range));
        }

        #[test]
        fn no_range_panics(header in "(json|text)? ?([.a1\\[\\]\":\\\\ -]|\\PC){0,30}") {
            let _ = ContentRange::parse(&header);
        }

        #[test]
        fn no_body_panics(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..100),
                "(Content-Length: [0-9]{0,3}\r?\n|Content-Range: text \\[0:1\\]\n|\r|\n|.){0,12}"
                    .prop_map(String::into_bytes),
            ],
            count in 0usize..4,
        ) {
            let _ = parse_patches(&Bytes::from(body), count);
        }

        #[test]
        fn a_client_reads_what_was_written(
            updates in prop::collection::vec(
                (prop::collection::vec(any_patch(), 0..4), any::<bool>()),
                0..6,
            ),
        ) {
            let mut out = Vec::new();
            for (patches, whole) in &updates {
                let body = if *whole {
                    UpdateBody::Snapshot {
                        content_type: &Mime::JSON,
                        content: b"\r\n\r\nPatches: 1\r\n",
                    }
                } else {
                    UpdateBody::Patches(patches)
                };
                let (version, parents) = (ids(&["b-1", "é"]), ids(&[]));
                let update = Update {
                    version: &version,
                    parents: &parents,
                    repr_sha256: None,
                    body,
                };
                write_update(&mut out, &update);
                out.extend_from_slice(b"\r\n"); // a heartbeat
            }
            write_deleted(&mut out, &[], &[]);
            let seen = read_stream(&Bytes::from(out));
            prop_assert_eq!(seen.len(), updates.len() + 1);
            for ((status, _, content), (patches, whole)) in seen.iter().zip(&updates) {
                prop_assert_eq!(status, "HTTP 200 OK");
                match content {
                    Ok(body) => prop_assert!(*whole && &body[..] == b"\r\n\r\nPatches: 1\r\n"),
                    Err(seen) => prop_assert!(!whole && seen == patches),
                }
            }
            prop_assert_eq!(&seen[updates.len()].0, "HTTP 404 Not Found");
        }
    }
}
