//! How JSON is kept: as one value or as a node with others below, and the objects that stand for values JSON has no form for.

use std::collections::BTreeMap;

use timebus_identity::PublicKey;

use super::{Plan, PlanError, PlanPath, PlanStep, STRING_BYTES_MAX};
use crate::json::Json;
use crate::path::{Path, Segment};
use crate::value::{INLINE_BYTES_MAX, Mime, Value, opaque_len};

pub(super) enum Kind<'j> {
    Value(Value),
    Object(&'j BTreeMap<String, Json>),
    Array(&'j [Json]),
}

/// Bytes of a list element in a path's key, at most.
pub(super) const ELEMENT_KEY_BYTES: usize = 1 + 64 + 10 + 1;

/// How much deeper and longer a path may get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    segments: usize,
    bytes: usize,
}

impl Room {
    pub(super) fn of(path: &Path) -> Self {
        Self { segments: Path::SEGMENTS_MAX - path.segments().len(), bytes: Path::KEY_BYTES_MAX - path.key().len() }
    }

    pub(super) fn below(self, bytes: usize) -> Self {
        Self { segments: self.segments.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    /// Whether the direct members can be path segments here. Members further down decide for themselves.
    pub(super) fn holds(self, json: &Json) -> bool {
        let longest = match json {
            Json::Object(members) => {
                if members.keys().any(|key| Segment::name(key).is_err()) {
                    return false;
                }
                members.keys().map(|key| key.len() + 1).max().unwrap_or(0)
            }
            Json::Array(items) if !items.is_empty() => ELEMENT_KEY_BYTES,
            _ => 0,
        };
        longest == 0 || (self.segments > 0 && longest <= self.bytes)
    }
}

impl Plan<'_> {
    /// How a JSON value is kept: as one value, or as a node with others below.
    pub(super) fn kind_of<'j>(&self, json: &'j Json, room: Room, path: &PlanPath) -> Result<Kind<'j>, PlanError> {
        Ok(match json {
            Json::Null => Kind::Value(Value::Null),
            Json::Bool(b) => Kind::Value(Value::Bool(*b)),
            Json::Int(n) => Kind::Value(Value::Int(*n)),
            Json::Float(n) => Kind::Value(Value::Float(*n)),
            Json::String(text) if text.len() > STRING_BYTES_MAX => return Err(PlanError::StringTooLarge(text.len())),
            Json::String(text) => Kind::Value(Value::String(text.as_str().into())),
            Json::Object(members) => {
                if let Some(value) = special(members, &self.space) {
                    Kind::Value(value)
                } else if room.holds(json) {
                    Kind::Object(members)
                } else {
                    Kind::Value(opaque(json, path)?)
                }
            }
            Json::Array(items) => {
                if room.holds(json) {
                    Kind::Array(items)
                } else {
                    Kind::Value(opaque(json, path)?)
                }
            }
        })
    }
}

/// The members that a patch merges one by one at a path; `None` when it replaces what is there, or is merged whole.
pub(crate) fn members_of<'j>(patch: &'j Json, path: &Path, space: &PublicKey) -> Option<&'j BTreeMap<String, Json>> {
    match patch {
        Json::Object(members) if !members.is_empty() && special(members, space).is_none() && Room::of(path).holds(patch) => Some(members),
        _ => None,
    }
}

fn opaque(json: &Json, path: &PlanPath) -> Result<Value, PlanError> {
    match opaque_len(json) {
        Some(len) if len <= INLINE_BYTES_MAX => Ok(Value::Opaque(json.clone())),
        _ => {
            let at = path.iter().map(|step| match step {
                PlanStep::Name(name) => format!("/{name}"),
                PlanStep::Element(_) => "/@…".to_owned(),
            });
            Err(PlanError::OpaqueTooLarge { at: at.collect() })
        }
    }
}

/// The objects that stand for values JSON has no form for: those, and only those, that are printed back the same.
fn special(members: &BTreeMap<String, Json>, space: &PublicKey) -> Option<Value> {
    let value = match members.len() {
        1 => special_link(members, space),
        2 => special_bytes(members),
        3 => special_blob(members),
        _ => None,
    }?;
    let same = matches!(crate::tree::value_json(&value, space), Json::Object(shown) if shown == *members);
    same.then_some(value)
}

fn member<'j>(members: &'j BTreeMap<String, Json>, key: &str) -> Option<&'j str> {
    match members.get(key) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    }
}

fn special_link(members: &BTreeMap<String, Json>, space: &PublicKey) -> Option<Value> {
    let target = member(members, "link")?;
    let (space, path) = match target.strip_prefix("/@").filter(|rest| !rest.starts_with('@')) {
        Some(rest) => {
            let (key, path) = rest.split_once('/')?;
            (key.parse().ok()?, Path::parse(&format!("/{path}")).ok()?)
        }
        None => (*space, Path::parse(target).ok()?),
    };
    Some(Value::Link { space, path })
}

fn special_bytes(members: &BTreeMap<String, Json>) -> Option<Value> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(member(members, "@bytes")?).ok()?;
    let mime = Mime::new(member(members, "@type")?)?;
    (bytes.len() <= INLINE_BYTES_MAX).then(|| Value::Bytes { mime, bytes: bytes.into() })
}

fn special_blob(members: &BTreeMap<String, Json>) -> Option<Value> {
    let hash = timebus_identity::z32::decode_32(member(members, "@blob")?).ok()?;
    let Some(Json::Int(len)) = members.get("@bytes_total") else { return None };
    let len = u64::try_from(*len).ok().filter(|len| *len <= 1 << 48)?;
    Some(Value::Blob { hash, len, mime: Mime::new(member(members, "@type")?)? })
}

/// Calls back with every blob that JSON names.
pub(crate) fn blobs_named(json: &Json, each: &mut dyn FnMut(crate::blobs::BlobHash)) {
    match json {
        Json::Array(items) => items.iter().for_each(|item| blobs_named(item, each)),
        Json::Object(members) => {
            if let Some(hash) = member(members, "@blob").and_then(crate::blobs::BlobHash::parse) {
                each(hash);
            }
            members.values().for_each(|value| blobs_named(value, each));
        }
        _ => {}
    }
}
