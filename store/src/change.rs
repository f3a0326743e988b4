//! The signed unit: a header that says where a change stands, and a body of ops that says what it does.

use std::sync::Arc;

use timebus_identity::{PublicKey, Signable, Signature, Signed, Verified, hash};

use crate::codec::{DecodeError, Reader, Writer};
use crate::grant::decode_ascending;
use crate::ids::{ChangeId, GrantId, TimelineId};
use crate::op::{Op, OpCodec};

/// The only header version so far.
pub const VERSION: u8 = 1;
/// Most parents of a change beside `prev`. A writer with more heads merges them in steps.
pub const PARENTS_MAX: usize = 32;
/// Largest body. A larger request is a run of changes.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Most changes that a body refers to.
pub const REFERENCES_MAX: usize = 4096;
/// Most ops of a body.
pub const OPS_MAX: usize = 65_536;
/// Largest Lamport clock; far beyond what honest writers reach.
pub const LAMPORT_MAX: u64 = 1 << 48;
/// Bytes that a change counts for beside its body.
pub const OVERHEAD_BYTES: u64 = 512;
/// Longest public name of a change.
pub const LABEL_BYTES_MAX: usize = 80;
/// Most changes of one run: 64 MiB of bodies, and some for badly filled parts.
pub const PARTS_MAX: u64 = 256;
/// Upper bound of an encoded header.
pub const HEADER_BYTES_MAX: usize = 2048;
/// Length of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// Upper bound of an encoded change.
pub const CHANGE_BYTES_MAX: usize = HEADER_BYTES_MAX + SIGNATURE_BYTES + BODY_BYTES_MAX;

/// What kind of timeline a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Values.
    Data,
    /// Rights.
    Auth,
    /// An inbox.
    Drop,
}

/// Says how an encrypted body was encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Which key.
    pub epoch: [u8; 16],
    /// Nonce of the cipher.
    pub nonce: [u8; 24],
}

/// The signed part of a change. Fields and limits are pinned in `FORMAT.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What kind of timeline.
    pub kind: Kind,
    /// Which timeline; commits to the space.
    pub timeline: TimelineId,
    /// The device that wrote it.
    pub author: PublicKey,
    /// 1, 2, 3… per timeline and author.
    pub seq: u64,
    /// The author's change before this one; present from `seq` 2 on.
    pub prev: Option<ChangeId>,
    /// The grant in whose name it is written; absent for a root key.
    pub cap: Option<GrantId>,
    /// The frontier it was made on, without `prev`; strictly ascending.
    pub parents: Vec<ChangeId>,
    /// 1 + the greatest of `prev` and `parents`; recomputed by everybody.
    pub lamport: u64,
    /// Unix milliseconds, as the author says; never trusted.
    pub time_ms: u64,
    /// Bytes of the author's chain so far.
    pub cum: u64,
    /// Length of the body.
    pub body_len: u64,
    /// BLAKE3 of the body.
    pub body_root: [u8; 32],
    /// How the body is encrypted, if it is.
    pub encryption: Option<Encryption>,
}

impl Header {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.u8(match self.kind {
            Kind::Data => 0,
            Kind::Auth => 1,
            Kind::Drop => 2,
        });
        out.raw(self.timeline.as_bytes());
        out.raw(self.author.as_bytes());
        out.var(self.seq);
        out.flag(self.prev.is_some());
        if let Some(prev) = &self.prev {
            out.raw(prev.as_bytes());
        }
        out.flag(self.cap.is_some());
        if let Some(cap) = &self.cap {
            out.raw(cap.as_bytes());
        }
        encode_ids(&self.parents, &mut out);
        out.var(self.lamport);
        out.var(self.time_ms);
        out.var(self.cum);
        out.var(self.body_len);
        out.raw(&self.body_root);
        out.var(u64::from(self.encryption.is_some()));
        if let Some(encryption) = &self.encryption {
            out.raw(&encryption.epoch);
            out.raw(&encryption.nonce);
        }
        out.into_bytes()
    }

    /// Reads a header and leaves what follows.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met.
    pub fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if input.u8("version")? != VERSION {
            return Err(DecodeError::Invalid { field: "version" });
        }
        let kind = match input.u8("kind")? {
            0 => Kind::Data,
            1 => Kind::Auth,
            2 => Kind::Drop,
            _ => return Err(DecodeError::Invalid { field: "kind" }),
        };
        let timeline = TimelineId(input.array("timeline")?);
        let author = PublicKey::from_bytes(input.array("author")?);
        let seq = input.var(LAMPORT_MAX, "seq")?;
        let prev = if input.flag("prev")? { Some(ChangeId(input.array("prev")?)) } else { None };
        if seq == 0 || prev.is_some() != (seq > 1) {
            return Err(DecodeError::Invalid { field: "prev" });
        }
        let cap = if input.flag("cap")? { Some(GrantId(input.array("cap")?)) } else { None };
        let parents = decode_ascending(input, PARENTS_MAX, "parents", ChangeId)?;
        if prev.is_some_and(|prev| parents.contains(&prev)) {
            return Err(DecodeError::Invalid { field: "parents" });
        }
        let lamport = input.var(LAMPORT_MAX, "lamport")?;
        let time_ms = input.var(u64::MAX, "time")?;
        let cum = input.var(u64::MAX, "cumulative bytes")?;
        let body_len = input.var(BODY_BYTES_MAX as u64, "body length")?;
        let body_root = input.array("body root")?;
        let encryption = match input.var(1, "flags")? {
            0 => None,
            _ => Some(Encryption { epoch: input.array("key epoch")?, nonce: input.array("nonce")? }),
        };
        Ok(Self { kind, timeline, author, seq, prev, cap, parents, lamport, time_ms, cum, body_len, body_root, encryption })
    }

    /// Everything the change directly stands on.
    pub fn deps(&self) -> impl Iterator<Item = &ChangeId> {
        self.prev.iter().chain(&self.parents)
    }
}

fn encode_ids(ids: &[ChangeId], out: &mut Writer) {
    out.var(ids.len() as u64);
    ids.iter().for_each(|id| out.raw(id.as_bytes()));
}

/// One change of a request that was too large for one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which part, from 1.
    pub number: u64,
    /// Of how many.
    pub count: u64,
    /// The first part; absent in the first part itself.
    pub first: Option<ChangeId>,
}

/// What a change does.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Body {
    /// The public name of the version, if its writer chose one.
    pub label: Option<Box<str>>,
    /// What the writer had seen; absent means everything before the change.
    pub base: Option<Vec<ChangeId>>,
    /// Which part of a larger request, if it is one.
    pub part: Option<Part>,
    /// Changes that the ops refer to, strictly ascending.
    pub references: Vec<ChangeId>,
    /// The effects, in order.
    pub ops: Vec<Op>,
}

impl Body {
    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.flag(self.label.is_some());
        if let Some(label) = &self.label {
            out.bytes(label.as_bytes());
        }
        out.flag(self.base.is_some());
        if let Some(base) = &self.base {
            encode_ids(base, &mut out);
        }
        out.flag(self.part.is_some());
        if let Some(part) = &self.part {
            out.var(part.number);
            out.var(part.count);
            if let Some(first) = &part.first {
                out.raw(first.as_bytes());
            }
        }
        encode_ids(&self.references, &mut out);
        out.var(self.ops.len() as u64);
        let mut codec = OpCodec::new(self.references.len() as u32);
        for op in &self.ops {
            codec.encode(op, &mut out);
        }
        out.into_bytes()
    }

    /// Reads a whole body.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let label = if input.flag("label")? { Some(input.text(LABEL_BYTES_MAX, "label")?.into()) } else { None };
        let base = if input.flag("base")? { Some(decode_ascending(&mut input, PARENTS_MAX, "base", ChangeId)?) } else { None };
        let part = if input.flag("part")? {
            let number = input.var(PARTS_MAX, "part number")?;
            let count = input.var(PARTS_MAX, "part count")?;
            if number == 0 || count < 2 || number > count {
                return Err(DecodeError::Invalid { field: "part" });
            }
            let first = if number > 1 { Some(ChangeId(input.array("first part")?)) } else { None };
            Some(Part { number, count, first })
        } else {
            None
        };
        let references = decode_ascending(&mut input, REFERENCES_MAX, "references", ChangeId)?;
        let count = input.count(OPS_MAX, "ops")?;
        let mut codec = OpCodec::new(references.len() as u32);
        let mut ops = Vec::new();
        for _ in 0..count {
            ops.push(codec.decode(&mut input)?);
        }
        input.finish()?;
        Ok(Self { label, base, part, references, ops })
    }
}

/// A header with its id and the bytes of its body: what is signed, stored and sent.
#[derive(Clone, Debug)]
pub struct Change {
    id: ChangeId,
    header: Header,
    header_bytes: Vec<u8>,
    body_bytes: Arc<[u8]>,
}

/// Why bytes are not a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The header is not canonical.
    #[error("the header is malformed")]
    Header(#[source] DecodeError),
    /// The bytes end before the body does, or go on after it.
    #[error("the body is {found} bytes long, the header says {expected}")]
    BodyLength {
        /// What the header says.
        expected: u64,
        /// What is there.
        found: usize,
    },
    /// The body is not the one that was signed.
    #[error("the body does not hash to what the header says")]
    BodyHash,
}

impl Change {
    /// Puts a header and the body it describes together.
    ///
    /// # Errors
    ///
    /// [`ChangeError::BodyLength`], [`ChangeError::BodyHash`].
    pub fn new(header: Header, body_bytes: Arc<[u8]>) -> Result<Self, ChangeError> {
        if header.body_len != body_bytes.len() as u64 {
            return Err(ChangeError::BodyLength { expected: header.body_len, found: body_bytes.len() });
        }
        if header.body_root != *blake3::hash(&body_bytes).as_bytes() {
            return Err(ChangeError::BodyHash);
        }
        Ok(Self::of_own_body(header, body_bytes))
    }

    /// As [`Change::new`], for a header that was just made for this body.
    pub(crate) fn of_own_body(header: Header, body_bytes: Arc<[u8]>) -> Self {
        let header_bytes = header.encode();
        let id = ChangeId(hash("change", &[&header_bytes]));
        Self { id, header, header_bytes, body_bytes }
    }

    /// Reads `header ‖ signature ‖ body`.
    ///
    /// # Errors
    ///
    /// The first [`ChangeError`] met.
    pub fn decode(bytes: &[u8]) -> Result<Signed<Self>, ChangeError> {
        let mut input = Reader::new(bytes);
        let header = Header::decode(&mut input).map_err(ChangeError::Header)?;
        let signature = input.array::<SIGNATURE_BYTES>("signature").map_err(ChangeError::Header)?;
        let change = Self::new(header, input.rest().into())?;
        Ok(Signed::new(change, Signature::from_bytes(signature)))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> ChangeId {
        self.id
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of its header, which are what is signed.
    #[must_use]
    pub fn header_bytes(&self) -> &[u8] {
        &self.header_bytes
    }

    /// The bytes of its body; [`Body::decode`] reads them.
    #[must_use]
    pub fn body_bytes(&self) -> &Arc<[u8]> {
        &self.body_bytes
    }

    /// Bytes that [`Change::write`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.header_bytes.len() + SIGNATURE_BYTES + self.body_bytes.len()
    }

    /// Appends `header ‖ signature ‖ body`, which [`Change::decode`] reads.
    pub fn write(&self, signature: &Signature, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header_bytes);
        out.extend_from_slice(signature.as_bytes());
        out.extend_from_slice(&self.body_bytes);
    }
}

/// The signed part of a change without its body: it says how long the body is, and how many bytes and changes of its author
/// lead up to it.
///
/// What is signed is the same as of the [`Change`] itself: a header and its body have one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    id: ChangeId,
    header: Header,
}

impl Head {
    /// Most bytes of `header ‖ signature`.
    pub const BYTES_MAX: usize = HEADER_BYTES_MAX + SIGNATURE_BYTES;

    /// Reads `header ‖ signature`.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met.
    pub fn decode(bytes: &[u8]) -> Result<Signed<Self>, DecodeError> {
        let mut input = Reader::new(bytes);
        let header = Header::decode(&mut input)?;
        let signature = input.array::<SIGNATURE_BYTES>("signature")?;
        input.finish()?;
        let id = ChangeId(hash("change", &[&bytes[..bytes.len() - SIGNATURE_BYTES]]));
        Ok(Signed::new(Self { id, header }, Signature::from_bytes(signature)))
    }

    /// That of a change that came whole.
    #[must_use]
    pub fn of(change: &Signed<Change>) -> Signed<Self> {
        let content = change.content();
        Signed::new(Self { id: content.id, header: content.header.clone() }, *change.signature())
    }

    /// The part of a change's bytes that is `header ‖ signature`; `None` of what is no change.
    #[must_use]
    pub fn part_of(record: &[u8]) -> Option<&[u8]> {
        let mut input = Reader::new(record);
        Header::decode(&mut input).ok()?;
        record.get(..record.len() - input.rest().len() + SIGNATURE_BYTES)
    }

    /// The name of the change.
    #[must_use]
    pub fn id(&self) -> ChangeId {
        self.id
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }
}

/// A change as it is stored and sent.
#[must_use]
pub fn encode(change: &Verified<Change>) -> Vec<u8> {
    let mut out = Vec::with_capacity(change.header_bytes.len() + SIGNATURE_BYTES + change.body_bytes.len());
    change.write(change.signature(), &mut out);
    out
}

fn signing_message(id: &ChangeId) -> Vec<u8> {
    let mut message = b"timebus.v1 change sig\0".to_vec();
    message.extend_from_slice(id.as_bytes());
    message
}

impl Signable for Change {
    fn author(&self) -> PublicKey {
        self.header.author
    }

    fn signing_message(&self) -> Vec<u8> {
        signing_message(&self.id)
    }
}

impl Signable for Head {
    fn author(&self) -> PublicKey {
        self.header.author
    }

    fn signing_message(&self) -> Vec<u8> {
        signing_message(&self.id)
    }
}
