//! The request target: what a client wrote after the method, as path segments and a typed query.
//!
//! The only place where paths are percent-decoded. Each part is decoded exactly once and checked
//! afterwards, so that no spelling of a path reaches the store by another road (design.md §1.2,
//! threats.md H12; RFC 9112 §3.2.1 for the origin form). What a segment starting with `.`, `@` or
//! `@@` means is decided by others: here they are text.

use std::fmt::Write as _;

/// Segments of one path: 32 that the store allows, one for `@space` and one for a system prefix.
pub const SEGMENTS_MAX: usize = 32 + 2;

/// Bytes of one decoded segment: the store's own limit, checked here for a better message.
pub const SEGMENT_BYTES_MAX: usize = 255;

/// Bytes of a raw target. The longest legal path is 34 × 256 × 3 = 26 112 bytes when every byte is
/// escaped; the rest is room for a query.
pub const TARGET_BYTES_MAX: usize = 32 * 1024;

/// Words looked for at once: each is looked for in every text.
const WORDS_MAX: usize = 16;

/// Bytes of one of them.
const WORD_BYTES_MAX: usize = 256;

/// How much of a bad part is quoted in an error: enough to recognise it, too little to fill a log.
const QUOTED_CHARS_MAX: usize = 64;

/// A parsed and checked request target.
///
/// Invariant: at most [`SEGMENTS_MAX`] segments; each has 1 to [`SEGMENT_BYTES_MAX`] bytes, is not
/// `.` or `..`, and holds no `/` and no control character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The names between the slashes, decoded. Empty for `/`.
    pub segments: Vec<String>,
    /// What followed the `?`.
    pub query: Query,
    /// Whether a slash followed the last segment. False for `/`.
    pub trailing_slash: bool,
}

/// The parameters of a request, by their names in surface.md §2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Levels below the path that are listed.
    pub depth: Option<u32>,
    /// Children on one page.
    pub limit: Option<u32>,
    /// The page starts behind the child of this name.
    pub after: Option<String>,
    /// The page ends before the child of this name.
    pub before: Option<String>,
    /// Only children in whose texts all of these are, in small letters.
    pub words: Vec<String>,
    /// Only that many children, from the first on.
    pub first: Option<u32>,
    /// Only that many children, up to the last.
    pub last: Option<u32>,
    /// Which side of the value is asked for.
    pub view: View,
    /// The step by which `POST` moves a counter.
    pub inc: Option<i64>,
    /// Whose rights are asked about.
    pub who: Option<String>,
    /// Only references of this kind.
    pub kind: Option<String>,
}

/// Which side of a value is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// The value.
    #[default]
    Value,
    /// Every concurrent value.
    All,
    /// Who wrote what when.
    Meta,
    /// The stored bytes, sandboxed.
    Raw,
}

/// Why a request target was refused. Segments are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// An absolute URI, `*`, or a host and port.
    #[error("request target does not start with a slash")]
    NotOriginForm,
    /// More than [`TARGET_BYTES_MAX`].
    #[error("request target has {bytes} bytes, more than {TARGET_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A `#` that was not escaped.
    #[error("request target has a fragment")]
    Fragment,
    /// More than [`SEGMENTS_MAX`].
    #[error("path has {count} segments, more than {SEGMENTS_MAX}")]
    TooManySegments {
        /// How many there are.
        count: usize,
    },
    /// Two slashes in a row.
    #[error("segment {segment} is empty")]
    EmptySegment {
        /// Which one.
        segment: usize,
    },
    /// More than [`SEGMENT_BYTES_MAX`] after decoding.
    #[error("segment {segment} has {bytes} bytes, more than {SEGMENT_BYTES_MAX}")]
    SegmentTooLong {
        /// Which one.
        segment: usize,
        /// Its decoded length.
        bytes: usize,
    },
    /// `.` or `..`, however it was written.
    #[error("segment {segment} is a dot segment")]
    DotSegment {
        /// Which one.
        segment: usize,
    },
    /// `%2F`.
    #[error("segment {segment} holds an escaped slash")]
    SlashInSegment {
        /// Which one.
        segment: usize,
    },
    /// U+0000 to U+001F, or U+007F.
    #[error("segment {segment} holds the control character U+{code:04X}")]
    ControlCharacter {
        /// Which one.
        segment: usize,
        /// The character.
        code: u32,
    },
    /// A `%` without two hex digits behind it.
    #[error("{escape:?} is not a percent escape")]
    BadEscape {
        /// The percent sign and up to two characters behind it.
        escape: String,
    },
    /// The escapes do not decode to UTF-8, or to an overlong form of it.
    #[error("{part:?} does not decode to UTF-8")]
    NotUtf8 {
        /// The part of the target as it was sent, shortened.
        part: String,
    },
    /// Refused, so that a typing error does not silently do nothing.
    #[error("unknown query parameter {name:?}")]
    UnknownParameter {
        /// Its name, shortened.
        name: String,
    },
    /// The same name twice.
    #[error("query parameter {name} appears twice")]
    DuplicateParameter {
        /// Its name.
        name: &'static str,
    },
    /// Not a whole number in range.
    #[error("query parameter {name} is not a number in its range: {value:?}")]
    BadNumber {
        /// Its name.
        name: &'static str,
        /// What was sent, shortened.
        value: String,
    },
    /// Words to look for, of which there are none, too many or too long ones.
    #[error("query parameter match has to hold 1 to {WORDS_MAX} words of at most {WORD_BYTES_MAX} bytes")]
    BadWords,
    /// Not one of the four views.
    #[error("unknown view {value:?}")]
    UnknownView {
        /// What was sent, shortened.
        value: String,
    },
}

impl TargetError {
    /// What the client can do about it, in one sentence for people.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NotOriginForm => "send the path alone, as in GET /notes/hi",
            Self::TooLong { .. } => "use a shorter path, or send the data in the body",
            Self::Fragment => "write # in a name as %23",
            Self::TooManySegments { .. } => "put fewer levels into one path",
            Self::EmptySegment { .. } => "remove the doubled slash",
            Self::SegmentTooLong { .. } => "use a shorter name, or put the text into the value",
            Self::DotSegment { .. } => "write the path without . and .. segments",
            Self::SlashInSegment { .. } => "a name cannot contain a slash; use another character",
            Self::ControlCharacter { .. } => "use a name without control characters",
            Self::BadEscape { .. } => "write a percent sign as %25",
            Self::NotUtf8 { .. } => "encode names as UTF-8 before percent-encoding them",
            Self::UnknownParameter { .. } => "known parameters are depth, limit, after, before, first, last, match, view, inc, as and kind",
            Self::DuplicateParameter { .. } => "send the parameter once",
            Self::BadNumber { .. } => "send decimal digits; only inc may be negative, with a - in front",
            Self::BadWords => "send the words with spaces between them, as in match=hello+world",
            Self::UnknownView { .. } => "use view=value, view=all, view=meta or view=raw",
        }
    }
}

impl Target {
    /// Parses a target in origin form, as in `/notes/caf%C3%A9?depth=1`.
    ///
    /// # Errors
    ///
    /// A [`TargetError`] for everything that is not exactly one path of the store.
    pub fn parse(raw: &str) -> Result<Self, TargetError> {
        if raw.len() > TARGET_BYTES_MAX {
            return Err(TargetError::TooLong { bytes: raw.len() });
        }
        if raw.contains('#') {
            return Err(TargetError::Fragment);
        }
        let (path, query) = raw.split_once('?').unwrap_or((raw, ""));
        let inner = path.strip_prefix('/').ok_or(TargetError::NotOriginForm)?;
        let (inner, trailing_slash) = match inner.strip_suffix('/') {
            // `//` is an empty segment, not a root with a trailing slash.
            Some("") => return Err(TargetError::EmptySegment { segment: 1 }),
            Some(rest) => (rest, true),
            None => (inner, false),
        };
        let segments = if inner.is_empty() {
            Vec::new()
        } else {
            let count = inner.split('/').count();
            if count > SEGMENTS_MAX {
                return Err(TargetError::TooManySegments { count });
            }
            inner.split('/').enumerate().map(|(index, part)| decode_segment(index + 1, part)).collect::<Result<_, _>>()?
        };
        Ok(Self { segments, query: Query::parse(query)?, trailing_slash })
    }
}

impl Query {
    /// Parses what follows the `?`. A `+` is a space, as browsers' `URLSearchParams` write it.
    ///
    /// # Errors
    ///
    /// A [`TargetError`] for unknown, doubled and unreadable parameters.
    pub fn parse(raw: &str) -> Result<Self, TargetError> {
        let mut query = Self::default();
        let mut view = None;
        let mut words = None;
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode_text(&name.replace('+', " "))?;
            let value = decode_text(&value.replace('+', " "))?;
            match name.as_str() {
                "depth" => set(&mut query.depth, "depth", number("depth", &value)?)?,
                "limit" => set(&mut query.limit, "limit", number("limit", &value)?)?,
                "after" => set(&mut query.after, "after", value)?,
                "before" => set(&mut query.before, "before", value)?,
                "match" => set(&mut words, "match", words_of(&value)?)?,
                "first" => set(&mut query.first, "first", number("first", &value)?)?,
                "last" => set(&mut query.last, "last", number("last", &value)?)?,
                "view" => set(&mut view, "view", View::parse(&value)?)?,
                "kind" => set(&mut query.kind, "kind", value)?,
                "inc" => set(&mut query.inc, "inc", signed_number("inc", &value)?)?,
                "as" => set(&mut query.who, "as", value)?,
                _ => {
                    return Err(TargetError::UnknownParameter { name: shorten(&name) });
                }
            }
        }
        query.view = view.unwrap_or_default();
        query.words = words.unwrap_or_default();
        Ok(query)
    }
}

/// The words of a search: what is between spaces, in small letters.
fn words_of(value: &str) -> Result<Vec<String>, TargetError> {
    let words: Vec<String> = value.split_whitespace().map(str::to_lowercase).collect();
    let fits = (1..=WORDS_MAX).contains(&words.len()) && words.iter().all(|word| word.len() <= WORD_BYTES_MAX);
    if fits { Ok(words) } else { Err(TargetError::BadWords) }
}

impl View {
    fn parse(value: &str) -> Result<Self, TargetError> {
        match value {
            "value" => Ok(Self::Value),
            "all" => Ok(Self::All),
            "meta" => Ok(Self::Meta),
            "raw" => Ok(Self::Raw),
            _ => Err(TargetError::UnknownView { value: shorten(value) }),
        }
    }
}

/// Prints the one canonical spelling of a path, with a leading and without a trailing slash.
///
/// Unescaped are the characters RFC 3986 allows in a segment; all other bytes become upper-case
/// escapes. For segments that [`Target::parse`] gave, parsing the result gives them back.
pub fn encode_path<S: AsRef<str>>(segments: &[S]) -> String {
    if segments.is_empty() {
        return "/".to_owned();
    }
    let mut out = String::new();
    for segment in segments {
        out.push('/');
        for &byte in segment.as_ref().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                out.push(char::from(byte));
            } else {
                write!(out, "%{byte:02X}").expect("a String takes everything");
            }
        }
    }
    out
}

/// Prints the value of a query parameter such that [`Target::parse`] reads it back.
pub fn encode_parameter(text: &str) -> String {
    let mut out = String::new();
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
    }
    out
}

fn decode_segment(segment: usize, part: &str) -> Result<String, TargetError> {
    if part.is_empty() {
        return Err(TargetError::EmptySegment { segment });
    }
    let bytes = decode_bytes(part)?;
    if bytes.contains(&b'/') {
        return Err(TargetError::SlashInSegment { segment });
    }
    if bytes.len() > SEGMENT_BYTES_MAX {
        return Err(TargetError::SegmentTooLong { segment, bytes: bytes.len() });
    }
    let text = String::from_utf8(bytes).map_err(|_| TargetError::NotUtf8 { part: shorten(part) })?;
    if let Some(control) = text.chars().find(char::is_ascii_control) {
        return Err(TargetError::ControlCharacter { segment, code: u32::from(control) });
    }
    if text == "." || text == ".." {
        return Err(TargetError::DotSegment { segment });
    }
    Ok(text)
}

fn decode_text(part: &str) -> Result<String, TargetError> {
    String::from_utf8(decode_bytes(part)?).map_err(|_| TargetError::NotUtf8 { part: shorten(part) })
}

fn decode_bytes(part: &str) -> Result<Vec<u8>, TargetError> {
    let mut out = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes().iter();
    let mut at = 0;
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            at += 1;
            continue;
        }
        let mut digit = || rest.next().and_then(|&byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(TargetError::BadEscape { escape: part.get(at..).unwrap_or("%").chars().take(3).collect() });
        };
        out.push((high * 16 + low) as u8);
        at += 3;
    }
    Ok(out)
}

fn set<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), TargetError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(TargetError::DuplicateParameter { name }),
    }
}

fn number(name: &'static str, value: &str) -> Result<u32, TargetError> {
    // Rust would also take a leading plus sign.
    if value.starts_with('+') {
        return Err(bad_number(name, value));
    }
    value.parse().map_err(|_| bad_number(name, value))
}

fn signed_number(name: &'static str, value: &str) -> Result<i64, TargetError> {
    if value.starts_with('+') {
        return Err(bad_number(name, value));
    }
    value.parse().map_err(|_| bad_number(name, value))
}

fn bad_number(name: &'static str, value: &str) -> TargetError {
    TargetError::BadNumber { name, value: shorten(value) }
}

fn shorten(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    /// A file of the shared test data, or `None` with a note on a machine without it.
    pub(crate) fn data_file(name: &str) -> Option<PathBuf> {
        let folder =
            std::env::var_os("TIMEBUS_DATA").map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")), PathBuf::from);
        let file = folder.join(name);
        if !file.exists() {
            eprintln!("skipped: no data ({})", file.display());
            return None;
        }
        Some(file)
    }

    /// The values of one header in all captures of Braid clients and servers.
    pub(crate) fn captured_values(header: &str) -> Vec<String> {
        let Some(folder) = data_file("04-protocol/braid-captures") else {
            return Vec::new();
        };
        let mut values = Vec::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
            // The captures show line ends as text.
            for line in String::from_utf8_lossy(&bytes).lines() {
                let line = line.trim_end_matches("\\r\\n");
                match line.split_once(": ") {
                    Some((name, value)) if name.eq_ignore_ascii_case(header) => {
                        values.push(value.to_owned());
                    }
                    _ => {}
                }
            }
        }
        assert!(!values.is_empty(), "no {header} in the captures");
        values
    }

    fn segments(raw: &str) -> Result<Vec<String>, TargetError> {
        Target::parse(raw).map(|target| target.segments)
    }

    #[test]
    fn splits_then_decodes_once() {
        assert_eq!(segments("/"), Ok(vec![]));
        assert_eq!(segments("/notes/caf%C3%A9"), Ok(vec!["notes".into(), "café".into()]));
        assert_eq!(segments("/a%252Fb"), Ok(vec!["a%2Fb".into()]), "decoded once");
        assert_eq!(segments("/a+b"), Ok(vec!["a+b".into()]));
        assert_eq!(segments("/@@x/.sys/..."), Ok(vec!["@@x".into(), ".sys".into(), "...".into()]));
    }

    #[test]
    fn tells_a_trailing_slash() {
        for (raw, expected) in [("/", false), ("/a", false), ("/a/", true), ("/a/?", true)] {
            assert_eq!(Target::parse(raw).map(|t| t.trailing_slash), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn refuses_each_kind_of_bad_path() {
        use TargetError as E;
        let long = format!("/{}", "x".repeat(256));
        let deep = "/x".repeat(35);
        let huge = format!("/{}", "x".repeat(TARGET_BYTES_MAX));
        let table: &[(&str, E)] = &[
            ("", E::NotOriginForm),
            ("*", E::NotOriginForm),
            ("a", E::NotOriginForm),
            ("http://localhost:7007/a", E::NotOriginForm),
            ("?depth=1", E::NotOriginForm),
            ("/a#b", E::Fragment),
            ("//", E::EmptySegment { segment: 1 }),
            ("//a", E::EmptySegment { segment: 1 }),
            ("/a//", E::EmptySegment { segment: 2 }),
            ("/a//b", E::EmptySegment { segment: 2 }),
            ("/.", E::DotSegment { segment: 1 }),
            ("/a/..", E::DotSegment { segment: 2 }),
            ("/a/%2e%2E/b", E::DotSegment { segment: 2 }),
            ("/.%2e/", E::DotSegment { segment: 1 }),
            ("/a%2Fb", E::SlashInSegment { segment: 1 }),
            ("/%2f", E::SlashInSegment { segment: 1 }),
            ("/a%00", E::ControlCharacter { segment: 1, code: 0 }),
            ("/a/%7f", E::ControlCharacter { segment: 2, code: 0x7f }),
            ("/a\u{1}", E::ControlCharacter { segment: 1, code: 1 }),
            ("/%", E::BadEscape { escape: "%".into() }),
            ("/é%4", E::BadEscape { escape: "%4".into() }),
            ("/a%u00e9", E::BadEscape { escape: "%u0".into() }),
            ("/%+1", E::BadEscape { escape: "%+1".into() }),
            ("/%C0%AF", E::NotUtf8 { part: "%C0%AF".into() }),
            ("/%ED%A0%80", E::NotUtf8 { part: "%ED%A0%80".into() }),
            (&long, E::SegmentTooLong { segment: 1, bytes: 256 }),
            (&deep, E::TooManySegments { count: 35 }),
            (&huge, E::TooLong { bytes: TARGET_BYTES_MAX + 1 }),
        ];
        for (raw, expected) in table {
            let error = Target::parse(raw).expect_err(raw);
            assert_eq!(&error, expected, "{raw}");
            assert!(!error.fix().is_empty() && !error.to_string().is_empty());
        }
        assert!(Target::parse(&format!("/{}", "x".repeat(255))).is_ok());
        assert!(Target::parse(&"/x".repeat(34)).is_ok());
    }

    #[test]
    fn reads_every_parameter() {
        let target = Target::parse("/a?depth=2&limit=10&after=x+%2B%26y&before=b&match=Hello++W%C3%96RLD&first=1&last=2&view=all&inc=-5&as=bob")
            .expect("a legal target");
        assert_eq!(
            target.query,
            Query {
                depth: Some(2),
                limit: Some(10),
                after: Some("x +&y".into()),
                before: Some("b".into()),
                words: vec!["hello".into(), "wörld".into()],
                first: Some(1),
                last: Some(2),
                view: View::All,
                inc: Some(-5),
                who: Some("bob".into()),
                kind: None
            }
        );
        assert_eq!(Target::parse("/a?").expect("an empty query").query, Query::default());
    }

    #[test]
    fn refuses_bad_parameters() {
        use TargetError as E;
        let number = |name, value: &str| E::BadNumber { name, value: value.into() };
        let many = format!("match={}", "x+".repeat(WORDS_MAX + 1));
        let table: &[(&str, E)] = &[
            ("dept=1", E::UnknownParameter { name: "dept".into() }),
            ("Depth=1", E::UnknownParameter { name: "Depth".into() }),
            ("=1", E::UnknownParameter { name: "".into() }),
            ("depth=1&depth=1", E::DuplicateParameter { name: "depth" }),
            ("view=all&view=value", E::DuplicateParameter { name: "view" }),
            ("depth", number("depth", "")),
            ("depth=-1", number("depth", "-1")),
            ("depth=%2B1", number("depth", "+1")),
            ("first=4294967296", number("first", "4294967296")),
            ("inc=1.5", number("inc", "1.5")),
            ("inc=%2B1", number("inc", "+1")),
            ("inc=9223372036854775808", number("inc", "9223372036854775808")),
            ("view=", E::UnknownView { value: "".into() }),
            ("after=%zz", E::BadEscape { escape: "%zz".into() }),
            ("match=", E::BadWords),
            (&many, E::BadWords),
            ("after=%ff", E::NotUtf8 { part: "%ff".into() }),
        ];
        for (raw, expected) in table {
            assert_eq!(Query::parse(raw).as_ref(), Err(expected), "{raw}");
        }
    }

    #[test]
    fn decodes_what_the_url_standard_encodes() {
        let Some(file) = data_file("04-protocol/percent-encoding.json") else {
            return;
        };
        let text = std::fs::read_to_string(file).expect("a readable file");
        let cases: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a JSON list");
        let mut checked = 0;
        for case in &cases {
            let (Some(input), Some(output)) = (case["input"].as_str(), case["output"]["utf-8"].as_str()) else {
                continue;
            };
            checked += 1;
            let parsed = segments(&format!("/{output}"));
            if input.chars().any(|c| c.is_ascii_control()) {
                assert!(matches!(parsed, Err(TargetError::ControlCharacter { .. })));
            } else {
                assert_eq!(parsed, Ok(vec![input.to_owned()]));
            }
        }
        assert!(checked > 3, "the file has another form than expected");
    }

    #[test]
    fn no_traversal_string_leaves_its_place() {
        let Some(file) = data_file("04-protocol/attack-strings/deep_traversal.txt") else {
            return;
        };
        let bytes = std::fs::read(file).expect("a readable file");
        let mut refused = 0;
        for line in String::from_utf8_lossy(&bytes).lines() {
            let raw = format!("/files/{}", line.replace("{FILE}", "etc/passwd"));
            match Target::parse(&raw) {
                Err(_) => refused += 1,
                Ok(target) => {
                    assert_eq!(target.segments[0], "files", "{raw}");
                    assert_sound(&target);
                }
            }
            // Plain climbing is never anything but an error.
            let climbs =
                raw.split(['?', '#']).next().is_some_and(|path| path.split('/').any(|part| part.to_ascii_lowercase().replace("%2e", ".") == ".."));
            assert!(!climbs || Target::parse(&raw).is_err(), "{raw}");
        }
        assert!(refused > 400, "only {refused} of the strings were refused");
    }

    fn assert_sound(target: &Target) {
        assert!(target.segments.len() <= SEGMENTS_MAX);
        for segment in &target.segments {
            assert!((1..=SEGMENT_BYTES_MAX).contains(&segment.len()));
            assert!(!segment.contains('/') && segment != "." && segment != "..");
            assert!(!segment.chars().any(|c| c.is_ascii_control()));
        }
        let printed = encode_path(&target.segments);
        assert_eq!(segments(&printed).as_ref(), Ok(&target.segments));
    }

    proptest! {
        #[test]
        fn no_text_panics_or_breaks_the_invariant(raw in "/?([%/?&=.@#a2eE0fFc]|\\PC){0,40}") {
            if let Ok(target) = Target::parse(&raw) {
                assert_sound(&target);
            }
        }

        #[test]
        fn printing_and_parsing_agree(
            path in prop::collection::vec("[^/\\x00-\\x1f\\x7f]{1,12}", 0..8),
        ) {
            prop_assume!(path.iter().all(|s| s != "." && s != ".."));
            let printed = encode_path(&path);
            prop_assert!(printed.is_ascii());
            prop_assert_eq!(segments(&printed), Ok(path));
        }
    }
}
