//! Where a value lives.

use std::fmt;
use std::sync::Arc;

use crate::ids::OpId;

/// One step of a [`Path`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A name: 1 to 255 bytes of UTF-8 without control characters or `/`, and neither `.` nor `..`.
    Name(Box<str>),
    /// An element of a list, named by the op that inserted it. Its text form is `@<op id>`.
    Element(OpId),
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Element(id) => write!(f, "@{id:?}"),
        }
    }
}

/// Why a text is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A text form does not begin with `/`.
    #[error("a path begins with /")]
    NoSlash,
    /// Two slashes follow each other.
    #[error("a path has no empty segments")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("a segment must not be {0:?}")]
    Dots(String),
    /// A segment has a control character or a slash.
    #[error("a segment must not contain {0:?}")]
    Character(char),
    /// A segment is too long.
    #[error("a segment is {0} bytes long, at most {max} are allowed", max = Path::SEGMENT_BYTES_MAX)]
    SegmentTooLong(usize),
    /// There are too many segments.
    #[error("a path has at most {max} segments", max = Path::SEGMENTS_MAX)]
    TooDeep,
    /// The whole path is too long.
    #[error("a path is at most {max} bytes long", max = Path::KEY_BYTES_MAX)]
    TooLong,
    /// A segment begins with one `@` and is no element id.
    #[error("a segment that begins with @ is a list element (@<op id>); write @@ for a name that begins with @")]
    Element,
}

/// Where a value lives: names behind slashes, as in `/profile/name`. The root is `/`.
///
/// Invariants: at most [`Path::SEGMENTS_MAX`] segments, every name valid, and [`Path::key`] at most
/// [`Path::KEY_BYTES_MAX`] bytes. Source: design of the path grammar in `FORMAT.md`. Clones share the segments: a path
/// goes from the request through the change to everybody who is told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Arc<[Segment]>);

impl Path {
    /// Most segments of a path; bounds recursion everywhere.
    pub const SEGMENTS_MAX: usize = 32;
    /// Most bytes of one name.
    pub const SEGMENT_BYTES_MAX: usize = 255;
    /// Most bytes of [`Path::key`]; bounds the keys of every table.
    pub const KEY_BYTES_MAX: usize = 1024;

    /// The root, `/`.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes segments that are each valid.
    ///
    /// # Errors
    ///
    /// [`PathError::TooDeep`], [`PathError::TooLong`].
    pub fn new(segments: Vec<Segment>) -> Result<Self, PathError> {
        if segments.len() > Self::SEGMENTS_MAX {
            return Err(PathError::TooDeep);
        }
        let path = Self(segments.into());
        if path.key_len() > Self::KEY_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        Ok(path)
    }

    /// Parses the text form of whole segments that are already percent-decoded: `@<op id>` is a list element,
    /// `@@x` the name `@x`.
    ///
    /// # Errors
    ///
    /// The first [`PathError`] met.
    pub fn from_text_segments<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PathError> {
        Self::new(texts.into_iter().map(Segment::parse).collect::<Result<_, _>>()?)
    }

    /// Parses the text form, as in `/profile/name`. A trailing slash is ignored.
    ///
    /// # Errors
    ///
    /// The first [`PathError`] met.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let inner = text.strip_prefix('/').ok_or(PathError::NoSlash)?;
        if inner.is_empty() {
            return Ok(Self::root());
        }
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        Self::from_text_segments(inner.split('/'))
    }

    /// The segments, from the root.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path one segment below.
    ///
    /// # Errors
    ///
    /// [`PathError::TooDeep`], [`PathError::TooLong`].
    pub fn join(&self, segment: Segment) -> Result<Self, PathError> {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        Self::new(segments)
    }

    /// The path one segment up; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.split_last().map(|(_, rest)| Self(rest.into()))
    }

    /// Whether `self` is `other` or above it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The bytes that order paths as a tree is walked, parents first: "is a prefix of" on keys is "is above or
    /// equal" on paths.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.key_len());
        for segment in self.segments() {
            segment.push_key(&mut key);
        }
        key
    }

    fn key_len(&self) -> usize {
        self.0
            .iter()
            .map(|segment| match segment {
                Segment::Name(name) => name.len() + 1,
                Segment::Element(id) => ELEMENT_HEX + index_hex_len(id.index) + 2,
            })
            .sum()
    }

    /// The path whose [`Path::key`] is `key`.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let mut segments = Vec::new();
        let mut rest = key;
        while !rest.is_empty() {
            let (segment, tail) = Segment::split_key(rest)?;
            segments.push(segment);
            rest = tail;
        }
        Self::new(segments).ok()
    }
}

/// Hex digits of a change id in a key.
const ELEMENT_HEX: usize = 64;

/// First byte of an element segment in a key; no name begins with it.
const ELEMENT_MARK: u8 = 1;

fn index_varint(index: u32) -> Vec<u8> {
    let mut out = crate::codec::Writer::new();
    out.var(u64::from(index));
    out.into_bytes()
}

fn index_hex_len(index: u32) -> usize {
    2 * index_varint(index).len()
}

fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

fn parse_hex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?)).collect()
}

impl Segment {
    /// A valid name.
    ///
    /// # Errors
    ///
    /// The first [`PathError`] met.
    pub fn name(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::EmptySegment);
        }
        if text == "." || text == ".." {
            return Err(PathError::Dots(text.to_owned()));
        }
        if text.len() > Path::SEGMENT_BYTES_MAX {
            return Err(PathError::SegmentTooLong(text.len()));
        }
        if let Some(bad) = text.chars().find(|&c| c < ' ' || c == '\u{7f}' || c == '/') {
            return Err(PathError::Character(bad));
        }
        Ok(Self::Name(text.into()))
    }

    /// Parses the text form of one segment.
    ///
    /// # Errors
    ///
    /// The first [`PathError`] met.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        match text.strip_prefix('@') {
            None => Self::name(text),
            Some(rest) if rest.starts_with('@') => Self::name(rest),
            Some(rest) => rest.parse().map(Self::Element).map_err(|_| PathError::Element),
        }
    }

    /// Appends the key form: a name's bytes, or `01 ‖ hex`, then `00`.
    pub fn push_key(&self, key: &mut Vec<u8>) {
        match self {
            Self::Name(name) => key.extend_from_slice(name.as_bytes()),
            Self::Element(id) => {
                key.push(ELEMENT_MARK);
                push_hex(id.change.as_bytes(), key);
                push_hex(&index_varint(id.index), key);
            }
        }
        key.push(0);
    }

    /// Takes the first segment off a key; `None` when the bytes are no key.
    #[must_use]
    pub fn split_key(key: &[u8]) -> Option<(Self, &[u8])> {
        let end = key.iter().position(|&b| b == 0)?;
        let (raw, tail) = (&key[..end], &key[end + 1..]);
        if raw.first() == Some(&ELEMENT_MARK) {
            let change = parse_hex(raw.get(1..=ELEMENT_HEX)?)?.try_into().ok()?;
            let index = parse_hex(&raw[1 + ELEMENT_HEX..])?;
            let mut reader = crate::codec::Reader::new(&index);
            let index = u32::try_from(reader.var(u64::from(u32::MAX), "index").ok()?).ok()?;
            reader.finish().ok()?;
            return Some((Self::Element(OpId { change: crate::ids::ChangeId(change), index }), tail));
        }
        Some((Self::name(std::str::from_utf8(raw).ok()?).ok()?, tail))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) if name.starts_with('@') => write!(f, "@{name}"),
            Self::Name(name) => f.write_str(name),
            Self::Element(id) => write!(f, "@{id}"),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChangeId;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_no_path() {
        for bad in ["", "a", "//", "/a//b", "/.", "/a/..", "/a\0", "/a\u{7f}", "/@x", "/@", &format!("/{}", "x".repeat(256)), &"/a".repeat(33)] {
            assert!(Path::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Path::parse("/a/").map(|p| p.to_string()), Ok("/a".into()));
    }

    #[test]
    fn at_signs_are_escaped_in_names_only() {
        let path = Path::parse("/@@alice").expect("valid");
        assert_eq!(path.segments(), [Segment::Name("@alice".into())]);
        assert_eq!(path.to_string(), "/@@alice");
    }

    fn segment() -> impl Strategy<Value = Segment> {
        prop_oneof![
            "[^/\\x00-\\x1f\\x7f]{1,8}".prop_filter_map("valid", |s| Segment::name(&s).ok()),
            (any::<[u8; 32]>(), any::<u32>()).prop_map(|(c, index)| Segment::Element(OpId { change: ChangeId(c), index })),
        ]
    }

    proptest! {
        #[test]
        fn text_and_key_round_trip(segments in prop::collection::vec(segment(), 0..8)) {
            let path = Path::new(segments).expect("short");
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path.clone()));
            prop_assert_eq!(Path::from_key(&path.key()), Some(path.clone()));
            prop_assert_eq!(path.key().len(), path.key_len());
        }

        #[test]
        fn a_text_that_parses_prints_back(text in "/[@a./%\\PC]{0,12}") {
            if let Ok(path) = Path::parse(&text) {
                let shown = path.to_string();
                prop_assert_eq!(shown.trim_end_matches('/'), text.trim_end_matches('/'));
            }
        }

        #[test]
        fn keys_keep_prefixes(a in prop::collection::vec(segment(), 0..4), b in prop::collection::vec(segment(), 0..4)) {
            let (a, b) = (Path::new(a).expect("short"), Path::new(b).expect("short"));
            prop_assert_eq!(a.contains(&b), b.key().starts_with(&a.key()));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            if let Some(path) = Path::from_key(&bytes) {
                prop_assert_eq!(path.key(), bytes);
            }
        }
    }
}
