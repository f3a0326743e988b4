//! Notices: what a stranger may leave in somebody's inbox, a pointer from something of his to something of theirs.
//!
//! A notice is a signed change of kind drop that stands alone: it builds on nothing, nothing builds on it, and it needs
//! no grant. It fills one slot of its author, which is named by its content; a later one in the same slot replaces it,
//! and an empty one takes it back. Later means a greater Lamport clock, for which authors take the time. So inboxes on
//! several peers agree, whatever arrives where and when, and everything can be thrown away without breaking anything.

use timebus_identity::{PublicKey, Verified, hash, z32};

use crate::change::{Body, Change, Header, Kind, LAMPORT_MAX, OVERHEAD_BYTES};
use crate::ids::{ChangeId, TimelineId};
use crate::json::Json;
use crate::op::{Op, PathStep};
use crate::path::Path;
use crate::value::Value;

/// Largest notice as JSON: a pointer and a few words.
pub const NOTICE_BYTES_MAX: usize = 4096;
/// Longest kind.
pub const KIND_BYTES_MAX: usize = 32;
/// What all slots are below.
pub const DROP: &str = ".drop";

/// Something in one space that points at something in another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    /// The space.
    pub space: PublicKey,
    /// The path in it.
    pub path: Path,
}

/// Says that something points at something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What for: `like`, `reply`, `mention`, `follow`, `repost`, `quote`, or another word.
    pub kind: Box<str>,
    /// What is pointed at.
    pub target: Pointer,
    /// What points.
    pub source: Pointer,
    /// A few words that come with it.
    pub body: Option<Json>,
}

/// Why something is no notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// It is not as JSON has to be.
    #[error("a notice is an object with kind, target and source, and maybe body; {0}")]
    Form(String),
    /// It is too large.
    #[error("a notice has {NOTICE_BYTES_MAX} bytes at most, this one has {0}")]
    TooLarge(usize),
    /// It is for another inbox.
    #[error("the target is not in the space whose inbox this is")]
    Elsewhere,
    /// The change is none that carries a notice.
    #[error("this change is no notice")]
    Change,
}

impl Pointer {
    /// Parses `/@<key>/path`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (key, path) = text.strip_prefix("/@").map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
        Some(Self { space: key.parse().ok()?, path: Path::parse(&format!("/{path}")).ok()? })
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_root() { write!(f, "/@{}", self.space) } else { write!(f, "/@{}{}", self.space, self.path) }
    }
}

/// Whether a word can be the kind of a notice.
#[must_use]
pub fn is_kind(kind: &str) -> bool {
    (1..=KIND_BYTES_MAX).contains(&kind.len()) && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl Notice {
    /// Reads `{"kind","target","source","body"?}`.
    ///
    /// # Errors
    ///
    /// [`NoticeError`].
    pub fn from_json(json: &Json) -> Result<Self, NoticeError> {
        let form = |what: &str| NoticeError::Form(what.to_owned());
        let Json::Object(members) = json else { return Err(form("this is none")) };
        if let Some(other) = members.keys().find(|key| !matches!(key.as_str(), "kind" | "target" | "source" | "body")) {
            return Err(NoticeError::Form(format!("{other:?} is none of these")));
        }
        let text = |name: &str| match members.get(name) {
            Some(Json::String(text)) => Ok(text.as_str()),
            _ => Err(NoticeError::Form(format!("{name} is missing or no text"))),
        };
        let pointer =
            |name: &str| Pointer::parse(text(name)?).ok_or_else(|| NoticeError::Form(format!("{name} is not /@<key of 52 characters>/path")));
        let kind = text("kind")?;
        if !is_kind(kind) {
            return Err(NoticeError::Form(format!("kind is a word of 1 to {KIND_BYTES_MAX} letters a-z, digits and -")));
        }
        let notice = Self { kind: kind.into(), target: pointer("target")?, source: pointer("source")?, body: members.get("body").cloned() };
        let mut bytes = Vec::new();
        notice.to_json().write(&mut bytes);
        if bytes.len() > NOTICE_BYTES_MAX { Err(NoticeError::TooLarge(bytes.len())) } else { Ok(notice) }
    }

    /// The same as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let texts = [("kind", self.kind.to_string()), ("target", self.target.to_string()), ("source", self.source.to_string())];
        let texts = texts.into_iter().map(|(name, text)| (name.to_owned(), Json::String(text)));
        Json::Object(texts.chain(self.body.clone().map(|body| ("body".to_owned(), body))).collect())
    }

    /// The slot that it fills: one for each space that points, target and kind.
    #[must_use]
    pub fn slot(&self) -> String {
        let digest =
            hash("slot", &[self.source.space.as_bytes(), self.target.space.as_bytes(), &self.target.path.key(), b"\0", self.kind.as_bytes()]);
        z32::encode(&digest[..16])
    }

    /// The change by which `author` leaves it, or takes it back; still to be signed. `clock` has to be greater than that
    /// of everything he left in this slot before: the time will do.
    #[must_use]
    pub fn change(&self, author: PublicKey, clock: u64, time_ms: u64, is_gone: bool) -> Option<Change> {
        let path = [DROP.to_owned(), author.to_string(), self.slot()].map(|name| PathStep::Name(name.into())).to_vec();
        let op = match is_gone {
            true => Op::Del { path, preds: Vec::new() },
            false => Op::Set { path, value: Value::Opaque(self.to_json()), preds: Vec::new() },
        };
        let body: std::sync::Arc<[u8]> = Body { ops: vec![op], ..Body::default() }.encode().into();
        let header = Header {
            kind: Kind::Drop,
            timeline: TimelineId::named(&self.target.space, "drop"),
            author,
            seq: 1,
            prev: None,
            cap: None,
            parents: Vec::new(),
            lamport: clock.clamp(1, LAMPORT_MAX),
            time_ms,
            cum: OVERHEAD_BYTES + body.len() as u64,
            body_len: body.len() as u64,
            body_root: *blake3::hash(&body).as_bytes(),
            encryption: None,
        };
        Change::new(header, body).ok()
    }
}

/// A change that was found to be a notice.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// The change.
    pub id: ChangeId,
    /// Who signed it.
    pub author: PublicKey,
    /// Its slot.
    pub slot: Box<str>,
    /// Of two in one slot, the one with the greater clock counts.
    pub clock: u64,
    /// `None` if what was there is taken back.
    pub notice: Option<Notice>,
}

impl Left {
    /// Checks that a signed change is a notice for the inbox of a space.
    ///
    /// # Errors
    ///
    /// [`NoticeError`].
    pub fn check(space: &PublicKey, change: &Verified<Change>) -> Result<Self, NoticeError> {
        let header = change.header();
        let alone = header.seq == 1 && header.parents.is_empty() && header.cap.is_none() && header.encryption.is_none();
        if header.kind != Kind::Drop || header.timeline != TimelineId::named(space, "drop") || !alone {
            return Err(NoticeError::Change);
        }
        let body = Body::decode(change.body_bytes()).map_err(|_| NoticeError::Change)?;
        let [op] = &body.ops[..] else { return Err(NoticeError::Change) };
        let plain = Body { ops: body.ops.clone(), ..Body::default() };
        let Some([PathStep::Name(top), PathStep::Name(author), PathStep::Name(slot)]) = op.path() else { return Err(NoticeError::Change) };
        if plain != body || **top != *DROP || **author != header.author.to_string() || slot.len() != 26 {
            return Err(NoticeError::Change);
        }
        let notice = match op {
            Op::Del { preds, .. } if preds.is_empty() => None,
            Op::Set { value: Value::Opaque(json), preds, .. } if preds.is_empty() => Some(Notice::from_json(json)?),
            _ => return Err(NoticeError::Change),
        };
        if let Some(notice) = &notice {
            if notice.target.space != *space {
                return Err(NoticeError::Elsewhere);
            }
            if notice.slot() != **slot {
                return Err(NoticeError::Change);
            }
        }
        Ok(Self { id: change.id(), author: header.author, slot: slot.clone(), clock: header.lamport, notice })
    }
}
