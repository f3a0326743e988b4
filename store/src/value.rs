//! What a path can hold.

use std::sync::Arc;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{ChangeId, OpId};
use crate::json::Json;
use crate::notice::Pointer;
use crate::objects::ObjectId;
use crate::path::{Path, Segment};
use timebus_identity::PublicKey;

/// Largest [`Value::Bytes`] and [`Value::Opaque`]; anything larger is a blob. Keeps rows small enough to scan.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Largest integer magnitude: what every JSON reader keeps exactly (2^53 − 1).
pub const INT_MAX: i64 = (1 << 53) - 1;
/// Deepest nesting inside a [`Value::Opaque`].
pub const OPAQUE_DEPTH_MAX: usize = 32;
/// Longest media type.
pub const MIME_BYTES_MAX: usize = 127;
/// Longest string: what fits a change body beside its other fields.
pub const STRING_BYTES_MAX: usize = 1024 * 1024 - 4096;

/// Media types that take one byte. The order is part of the format: append only.
const MIMES: [&str; 20] = [
    "application/octet-stream",
    "text/plain; charset=utf-8",
    "text/markdown; charset=utf-8",
    "text/html; charset=utf-8",
    "text/css; charset=utf-8",
    "text/javascript; charset=utf-8",
    "text/csv; charset=utf-8",
    "application/json",
    "application/pdf",
    "application/wasm",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/svg+xml",
    "audio/mpeg",
    "audio/ogg",
    "video/mp4",
    "video/webm",
    "font/woff2",
];

/// A media type: printable ASCII, 1 to [`MIME_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mime(Box<str>);

impl Mime {
    /// Takes a media type; `None` when it is empty, too long or not printable ASCII.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=MIME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        fits.then(|| Self(text.into()))
    }

    /// `text/plain; charset=utf-8`.
    #[must_use]
    pub fn plain_text() -> Self {
        Self(MIMES[1].into())
    }

    /// `text/markdown; charset=utf-8`.
    #[must_use]
    pub fn markdown() -> Self {
        Self(MIMES[2].into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the bytes are text, which JSON shows as a string.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.0.starts_with("text/")
    }

    fn encode(&self, out: &mut Writer) {
        match MIMES.iter().position(|known| *known == &*self.0) {
            Some(at) => out.var(at as u64 + 1),
            None => {
                out.var(0);
                out.bytes(self.0.as_bytes());
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let invalid = DecodeError::Invalid { field: "media type" };
        match input.count(MIMES.len(), "media type")? {
            0 => {
                let text = input.text(MIME_BYTES_MAX, "media type")?;
                if MIMES.contains(&text) {
                    return Err(invalid);
                }
                Self::new(text).ok_or(invalid)
            }
            at => Ok(Self(MIMES[at - 1].into())),
        }
    }
}

/// One value, as an op writes it. The kinds and their tags are pinned in `FORMAT.md`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// JSON `null`.
    Null,
    /// JSON `true` and `false`.
    Bool(bool),
    /// An integer of at most [`INT_MAX`] magnitude.
    Int(i64),
    /// A finite number that is not an [`Value::Int`].
    Float(f64),
    /// A string that is replaced whole.
    String(Box<str>),
    /// At most [`INLINE_BYTES_MAX`] bytes with a media type.
    Bytes {
        /// What the bytes are.
        mime: Mime,
        /// The bytes.
        bytes: Box<[u8]>,
    },
    /// An array or object kept whole, because its keys cannot be path segments.
    Opaque(Json),
    /// An object is here, even when it is empty.
    Map,
    /// A text that merges; its content comes by text ops.
    Text {
        /// What the text is.
        mime: Mime,
        /// What it holds: filled in where it is read, and no part of the encoding.
        content: Option<Arc<TextContent>>,
    },
    /// A number that adds up; this is where it starts, and where it is read, what it has come to.
    Counter(i64),
    /// A list; its elements are one segment below.
    List,
    /// Bytes of any size, kept outside the change log under their hash.
    Blob {
        /// BLAKE3 of the content.
        hash: [u8; 32],
        /// Length of the content.
        len: u64,
        /// What the content is.
        mime: Mime,
    },
    /// A pointer to another path.
    Link {
        /// Whose space.
        space: PublicKey,
        /// Where in it.
        path: Path,
    },
}

/// What a text holds when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextContent {
    /// Which text it is: several writes can stand for one.
    pub object: ObjectId,
    /// Its characters.
    pub text: String,
    /// Whether edits are here that are not merged yet, because that takes long.
    pub parked: bool,
}

impl Value {
    /// A text, as it is written.
    #[must_use]
    pub fn text(mime: Mime) -> Self {
        Self::Text { mime, content: None }
    }

    /// What it points at, as a link or as a string of the form `/@<key>/path`.
    #[must_use]
    pub fn pointer(&self) -> Option<Pointer> {
        match self {
            Self::String(text) => Pointer::parse(text),
            Self::Link { space, path } => Some(Pointer { space: *space, path: path.clone() }),
            _ => None,
        }
    }

    /// Whether a node with this value may have nodes below without a conflict.
    #[must_use]
    pub fn is_container(&self) -> bool {
        matches!(self, Self::Map | Self::List)
    }

    /// The entity tag of a value that is named by its content.
    #[must_use]
    pub fn content_tag(&self) -> Option<String> {
        match self {
            Self::Blob { hash, .. } => Some(timebus_identity::z32::encode(hash)),
            _ => None,
        }
    }

    /// Appends the canonical encoding.
    pub fn encode(&self, out: &mut Writer) {
        match self {
            Self::Null => out.u8(0),
            Self::Bool(false) => out.u8(1),
            Self::Bool(true) => out.u8(2),
            Self::Int(n) => {
                out.u8(3);
                out.zigzag(*n);
            }
            Self::Float(n) => {
                out.u8(4);
                out.raw(&n.to_le_bytes());
            }
            Self::String(text) => {
                out.u8(5);
                out.bytes(text.as_bytes());
            }
            Self::Bytes { mime, bytes } => {
                out.u8(6);
                mime.encode(out);
                out.bytes(bytes);
            }
            Self::Opaque(json) => {
                out.u8(7);
                encode_json(json, out);
            }
            Self::Map => out.u8(8),
            Self::Text { mime, .. } => {
                out.u8(9);
                mime.encode(out);
            }
            Self::Counter(start) => {
                out.u8(10);
                out.zigzag(*start);
            }
            Self::List => out.u8(11),
            Self::Blob { hash, len, mime } => {
                out.u8(12);
                out.raw(hash);
                out.var(*len);
                mime.encode(out);
            }
            Self::Link { space, path } => {
                out.u8(13);
                out.raw(space.as_bytes());
                encode_path(path, out);
            }
        }
    }

    /// Reads one value.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("value kind")? {
            0 => Self::Null,
            1 => Self::Bool(false),
            2 => Self::Bool(true),
            3 => Self::Int(decode_int(input)?),
            4 => Self::Float(decode_float(input)?),
            5 => Self::String(input.text(STRING_BYTES_MAX, "string")?.into()),
            6 => Self::Bytes { mime: Mime::decode(input)?, bytes: input.bytes(INLINE_BYTES_MAX, "bytes")?.into() },
            7 => {
                // No more is looked at than is allowed, so what is built stays in proportion.
                let allowed = &input.rest()[..input.rest().len().min(INLINE_BYTES_MAX)];
                let mut limited = Reader::new(allowed);
                let json = decode_json(&mut limited, OPAQUE_DEPTH_MAX)?;
                let len = allowed.len() - limited.rest().len();
                input.raw(len, "opaque value")?;
                if !matches!(json, Json::Array(_) | Json::Object(_)) {
                    return Err(DecodeError::Invalid { field: "opaque value" });
                }
                Self::Opaque(json)
            }
            8 => Self::Map,
            9 => Self::text(Mime::decode(input)?),
            10 => Self::Counter(decode_int(input)?),
            11 => Self::List,
            12 => Self::Blob { hash: input.array("blob hash")?, len: input.var(1 << 48, "blob length")?, mime: Mime::decode(input)? },
            13 => Self::Link { space: PublicKey::from_bytes(input.array("link space")?), path: decode_path(input)? },
            _ => return Err(DecodeError::Invalid { field: "value kind" }),
        })
    }
}

fn decode_int(input: &mut Reader<'_>) -> Result<i64, DecodeError> {
    let n = input.zigzag("integer")?;
    if n.unsigned_abs() > INT_MAX as u64 {
        return Err(DecodeError::TooLarge { field: "integer", found: n.unsigned_abs(), max: INT_MAX as u64 });
    }
    Ok(n)
}

fn decode_float(input: &mut Reader<'_>) -> Result<f64, DecodeError> {
    let n = f64::from_le_bytes(input.array("float")?);
    match Json::number(n) {
        Some(Json::Float(_)) => Ok(n),
        _ => Err(DecodeError::Invalid { field: "float" }),
    }
}

/// Writes the body of an opaque value: the scalar tags of [`Value`], 6 for an array, 7 for an object.
fn encode_json(json: &Json, out: &mut Writer) {
    match json {
        Json::Null => out.u8(0),
        Json::Bool(b) => out.u8(1 + u8::from(*b)),
        Json::Int(n) => {
            out.u8(3);
            out.zigzag(*n);
        }
        Json::Float(n) => {
            out.u8(4);
            out.raw(&n.to_le_bytes());
        }
        Json::String(text) => {
            out.u8(5);
            out.bytes(text.as_bytes());
        }
        Json::Array(items) => {
            out.u8(6);
            out.var(items.len() as u64);
            items.iter().for_each(|item| encode_json(item, out));
        }
        Json::Object(members) => {
            out.u8(7);
            out.var(members.len() as u64);
            for (key, value) in members {
                out.bytes(key.as_bytes());
                encode_json(value, out);
            }
        }
    }
}

fn decode_json(input: &mut Reader<'_>, depth: usize) -> Result<Json, DecodeError> {
    let deeper =
        || depth.checked_sub(1).ok_or(DecodeError::TooLarge { field: "nesting", found: OPAQUE_DEPTH_MAX as u64 + 1, max: OPAQUE_DEPTH_MAX as u64 });
    Ok(match input.u8("JSON kind")? {
        0 => Json::Null,
        1 => Json::Bool(false),
        2 => Json::Bool(true),
        3 => Json::Int(decode_int(input)?),
        4 => Json::Float(decode_float(input)?),
        5 => Json::String(input.text(INLINE_BYTES_MAX, "string")?.to_owned()),
        6 => {
            let depth = deeper()?;
            let count = input.count(INLINE_BYTES_MAX, "array length")?;
            let mut items = Vec::new();
            for _ in 0..count {
                items.push(decode_json(input, depth)?);
            }
            Json::Array(items)
        }
        7 => {
            let depth = deeper()?;
            let count = input.count(INLINE_BYTES_MAX, "object size")?;
            let mut members = std::collections::BTreeMap::new();
            for _ in 0..count {
                let key = input.text(INLINE_BYTES_MAX, "object key")?;
                if members.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= key) {
                    return Err(DecodeError::Order { field: "object keys" });
                }
                let value = decode_json(input, depth)?;
                members.insert(key.to_owned(), value);
            }
            Json::Object(members)
        }
        _ => return Err(DecodeError::Invalid { field: "JSON kind" }),
    })
}

/// Bytes that an opaque value takes in a change; `None` when it nests too deep.
#[must_use]
pub fn opaque_len(json: &Json) -> Option<usize> {
    let mut out = Writer::new();
    encode_json(json, &mut out);
    let bytes = out.into_bytes();
    decode_json(&mut Reader::new(&bytes), OPAQUE_DEPTH_MAX).ok().map(|_| bytes.len())
}

fn encode_path(path: &Path, out: &mut Writer) {
    out.var(path.segments().len() as u64);
    for segment in path.segments() {
        match segment {
            Segment::Name(name) => {
                out.u8(0);
                out.bytes(name.as_bytes());
            }
            Segment::Element(id) => {
                out.u8(1);
                out.raw(id.change.as_bytes());
                out.var(u64::from(id.index));
            }
        }
    }
}

fn decode_path(input: &mut Reader<'_>) -> Result<Path, DecodeError> {
    let invalid = |_| DecodeError::Invalid { field: "path" };
    let count = input.count(Path::SEGMENTS_MAX, "path segments")?;
    let mut segments = Vec::with_capacity(count);
    for _ in 0..count {
        segments.push(match input.u8("segment kind")? {
            0 => Segment::name(input.text(Path::SEGMENT_BYTES_MAX, "segment")?).map_err(invalid)?,
            1 => Segment::Element(OpId { change: ChangeId(input.array("element")?), index: input.var(u64::from(u32::MAX), "element index")? as u32 }),
            _ => return Err(DecodeError::Invalid { field: "segment kind" }),
        });
    }
    Path::new(segments).map_err(invalid)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            (-INT_MAX..=INT_MAX).prop_map(Json::Int),
            any::<f64>().prop_filter_map("finite", Json::number),
            ".{0,8}".prop_map(Json::String),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
                prop::collection::btree_map(".{0,4}", inner, 0..5).prop_map(Json::Object),
            ]
        })
    }

    pub(crate) fn value() -> impl Strategy<Value = Value> {
        let mime = prop_oneof![Just(Mime::plain_text()), "[ -~]{1,20}".prop_filter_map("valid", |s| Mime::new(&s))];
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-INT_MAX..=INT_MAX).prop_map(Value::Int),
            any::<f64>().prop_filter_map("no integer", |n| matches!(Json::number(n), Some(Json::Float(_))).then_some(Value::Float(n))),
            ".{0,20}".prop_map(|s| Value::String(s.into())),
            (mime.clone(), any::<Vec<u8>>()).prop_map(|(mime, bytes)| Value::Bytes { mime, bytes: bytes.into() }),
            json().prop_filter_map("container", |j| matches!(j, Json::Array(_) | Json::Object(_)).then_some(Value::Opaque(j))),
            Just(Value::Map),
            Just(Value::text(Mime::markdown())),
            (-INT_MAX..=INT_MAX).prop_map(Value::Counter),
            Just(Value::List),
            (any::<[u8; 32]>(), 0..1u64 << 48, mime).prop_map(|(hash, len, mime)| Value::Blob { hash, len, mime }),
            (any::<[u8; 32]>(), "(/[a-z@]{1,3}){0,3}").prop_filter_map("path", |(space, path)| {
                Some(Value::Link { space: PublicKey::from_bytes(space), path: Path::parse(&format!("{path}/")).ok()? })
            }),
        ]
    }

    proptest! {
        #[test]
        fn values_round_trip(value in value()) {
            let mut out = Writer::new();
            value.encode(&mut out);
            let bytes = out.into_bytes();
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(Value::decode(&mut input), Ok(value.clone()));
            prop_assert_eq!(input.finish(), Ok(()));
        }

        #[test]
        fn accepted_bytes_are_canonical(bytes: Vec<u8>) {
            let mut input = Reader::new(&bytes);
            if let Ok(value) = Value::decode(&mut input) {
                let mut out = Writer::new();
                value.encode(&mut out);
                prop_assert_eq!(out.into_bytes(), &bytes[..bytes.len() - input.rest().len()]);
            }
        }
    }

    #[test]
    fn refuses_second_spellings() {
        let bad: [&[u8]; 5] = [
            &[4, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f],              // 1.0 as a float
            &[4, 0, 0, 0, 0, 0, 0, 0, 0x80],                 // -0
            &[6, 0, 16, b'a', b'p', b'p', b'l', b'i', b'c'], // cut
            &[7, 7, 2, 1, b'b', 0, 1, b'a', 0],              // keys out of order
            &[7, 0],                                         // a scalar is not opaque
        ];
        for bytes in bad {
            assert!(Value::decode(&mut Reader::new(bytes)).is_err(), "{bytes:?}");
        }
    }
}
