//! One effect inside a change.

use crate::codec::{DecodeError, Reader, Writer};
use crate::grant::{Genesis, Grant, Revoke, Succeed};
use crate::path::{Path, Segment};
use crate::value::Value;

/// Most edits of one text op; bounds the work of checking it.
pub const TEXT_EDITS_MAX: usize = 65_536;
/// Longest name of a text agent: what clients of diamond-types accept.
pub const TEXT_AGENT_BYTES_MAX: usize = 49;
/// Most bytes of an op that this version does not know.
pub const UNKNOWN_BYTES_MAX: usize = 1024 * 1024;

/// An op, named from inside a body: op `index` of the change that is `change`-th in the body's table of
/// references, where 0 is the change itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpRef {
    /// 0 for this change, else 1 + place in the table.
    pub change: u32,
    /// Place of the op in that change.
    pub index: u32,
}

/// A segment as a body writes it: elements are named by [`OpRef`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// A name, as in [`Segment::Name`].
    Name(Box<str>),
    /// A list element, named by the op that inserted it.
    Element(OpRef),
}

/// Which side of its anchor a list element stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Before everything below the anchor.
    Left,
    /// After the anchor.
    Right,
}

/// One change of a text: at `pos`, take out `del` characters, put in `ins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextEdit {
    /// Unicode scalar values before the edit.
    pub pos: u64,
    /// Unicode scalar values taken out.
    pub del: u64,
    /// What is put in.
    pub ins: Box<str>,
}

/// One effect. Tags and fields are pinned in `FORMAT.md`.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Writes a value over the writes listed.
    Set {
        /// Where.
        path: Vec<PathStep>,
        /// What.
        value: Value,
        /// The writes at this path that the author saw; they are replaced.
        preds: Vec<OpRef>,
    },
    /// Removes the writes listed, at and below a path.
    Del {
        /// Where.
        path: Vec<PathStep>,
        /// The writes that the author saw there; they are removed.
        preds: Vec<OpRef>,
    },
    /// Adds to a counter.
    Inc {
        /// The op that made the counter.
        obj: OpRef,
        /// How much.
        delta: i64,
    },
    /// Edits a text.
    Text {
        /// The op that made the text.
        obj: OpRef,
        /// What the edits stand on: changes with the number of the event in them.
        base: Vec<(u32, u64)>,
        /// Name of the editing session.
        agent: Box<str>,
        /// Number of this op's last event.
        seq: u64,
        /// The edits, in order.
        edits: Vec<TextEdit>,
    },
    /// Inserts an element into a list.
    Ins {
        /// The op that made the list.
        list: OpRef,
        /// The position it stands at; `None` is the list's start.
        at: Option<OpRef>,
        /// On which side of it.
        side: Side,
        /// The element's value.
        value: Value,
    },
    /// Moves an element of a list.
    Move {
        /// The op that inserted it.
        elem: OpRef,
        /// The position it goes to; `None` is the list's start.
        at: Option<OpRef>,
        /// On which side of it.
        side: Side,
    },
    /// Shows another timeline below a path.
    Mount {
        /// Where.
        path: Vec<PathStep>,
        /// 0 DAG, 1 DROP, 2 SEQ.
        mode: u8,
        /// What the mode needs; opaque here.
        params: Box<[u8]>,
    },
    /// Says that this change came after one elsewhere.
    Link {
        /// The other space.
        space: [u8; 32],
        /// Its timeline.
        timeline: [u8; 32],
        /// The change there.
        change: [u8; 32],
    },
    /// Gives a right.
    Grant(Grant),
    /// Takes a right back.
    Revoke(Revoke),
    /// The first statement of a space.
    Genesis(Genesis),
    /// Names the next root key.
    Succeed(Succeed),
    /// An op of a later version: kept, without effect.
    Unknown {
        /// Its tag.
        tag: u8,
        /// Its fields.
        bytes: Box<[u8]>,
    },
}

const TAGS_KNOWN: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 18, 19];

impl Op {
    /// The path that the op writes, where it names one.
    #[must_use]
    pub fn path(&self) -> Option<&[PathStep]> {
        match self {
            Self::Set { path, .. } | Self::Del { path, .. } | Self::Mount { path, .. } => Some(path),
            _ => None,
        }
    }
}

/// Writes and reads a body's ops. Paths are written as the difference to the previous path of the body, so an
/// import of a deep tree does not repeat its names.
#[derive(Debug, Default)]
pub(crate) struct OpCodec {
    previous: Vec<PathStep>,
    references: u32,
}

impl OpCodec {
    /// A codec for a body with `references` entries in its table.
    pub(crate) fn new(references: u32) -> Self {
        Self { previous: Vec::new(), references }
    }

    /// Appends `length ‖ tag ‖ fields`.
    pub(crate) fn encode(&mut self, op: &Op, out: &mut Writer) {
        let mut op_out = Writer::new();
        self.encode_fields(op, &mut op_out);
        out.bytes(&op_out.into_bytes());
    }

    fn encode_fields(&mut self, op: &Op, out: &mut Writer) {
        match op {
            Op::Set { path, value, preds } => {
                out.u8(1);
                self.encode_path(path, out);
                value.encode(out);
                encode_refs(preds, out);
            }
            Op::Del { path, preds } => {
                out.u8(2);
                self.encode_path(path, out);
                encode_refs(preds, out);
            }
            Op::Inc { obj, delta } => {
                out.u8(3);
                encode_ref(*obj, out);
                out.zigzag(*delta);
            }
            Op::Text { obj, base, agent, seq, edits } => {
                out.u8(4);
                encode_ref(*obj, out);
                out.var(base.len() as u64);
                for (change, event) in base {
                    out.var(u64::from(*change));
                    out.var(*event);
                }
                out.bytes(agent.as_bytes());
                out.var(*seq);
                out.var(edits.len() as u64);
                for edit in edits {
                    out.var(edit.pos);
                    out.var(edit.del);
                    out.bytes(edit.ins.as_bytes());
                }
            }
            Op::Ins { list, at, side, value } => {
                out.u8(5);
                encode_ref(*list, out);
                encode_place(*at, *side, out);
                value.encode(out);
            }
            Op::Move { elem, at, side } => {
                out.u8(6);
                encode_ref(*elem, out);
                encode_place(*at, *side, out);
            }
            Op::Mount { path, mode, params } => {
                out.u8(7);
                self.encode_path(path, out);
                out.u8(*mode);
                out.bytes(params);
            }
            Op::Link { space, timeline, change } => {
                out.u8(8);
                out.raw(space);
                out.raw(timeline);
                out.raw(change);
            }
            Op::Grant(grant) => {
                out.u8(16);
                grant.encode(out);
            }
            Op::Revoke(revoke) => {
                out.u8(17);
                revoke.encode(out);
            }
            Op::Genesis(genesis) => {
                out.u8(18);
                genesis.encode(out);
            }
            Op::Succeed(succeed) => {
                out.u8(19);
                succeed.encode(out);
            }
            Op::Unknown { tag, bytes } => {
                out.u8(*tag);
                out.raw(bytes);
            }
        }
    }

    /// Reads `length ‖ tag ‖ fields`.
    pub(crate) fn decode(&mut self, input: &mut Reader<'_>) -> Result<Op, DecodeError> {
        let mut fields = Reader::new(input.bytes(UNKNOWN_BYTES_MAX, "op")?);
        let op = self.decode_fields(&mut fields)?;
        fields.finish()?;
        Ok(op)
    }

    fn decode_fields(&mut self, input: &mut Reader<'_>) -> Result<Op, DecodeError> {
        Ok(match input.u8("op tag")? {
            1 => Op::Set { path: self.decode_path(input)?, value: Value::decode(input)?, preds: self.decode_refs(input)? },
            2 => Op::Del { path: self.decode_path(input)?, preds: self.decode_refs(input)? },
            3 => Op::Inc { obj: self.decode_ref(input)?, delta: input.zigzag("delta")? },
            4 => self.decode_text(input)?,
            5 => {
                let list = self.decode_ref(input)?;
                let (at, side) = self.decode_place(input)?;
                Op::Ins { list, at, side, value: Value::decode(input)? }
            }
            6 => {
                let elem = self.decode_ref(input)?;
                let (at, side) = self.decode_place(input)?;
                Op::Move { elem, at, side }
            }
            7 => Op::Mount { path: self.decode_path(input)?, mode: input.u8("mount mode")?, params: input.bytes(4096, "mount parameters")?.into() },
            8 => Op::Link { space: input.array("space")?, timeline: input.array("timeline")?, change: input.array("change")? },
            16 => Op::Grant(Grant::decode(input)?),
            17 => Op::Revoke(Revoke::decode(input)?),
            18 => Op::Genesis(Genesis::decode(input)?),
            19 => Op::Succeed(Succeed::decode(input)?),
            tag => {
                debug_assert!(!TAGS_KNOWN.contains(&tag));
                let bytes = input.rest();
                input.raw(bytes.len(), "op")?;
                Op::Unknown { tag, bytes: bytes.into() }
            }
        })
    }

    fn decode_text(&self, input: &mut Reader<'_>) -> Result<Op, DecodeError> {
        let obj = self.decode_ref(input)?;
        let count = input.count(32, "text base")?;
        let mut base: Vec<(u32, u64)> = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = (self.decode_change(input)?, input.var(u64::MAX, "text event")?);
            if base.last().is_some_and(|last| *last >= entry) {
                return Err(DecodeError::Order { field: "text base" });
            }
            base.push(entry);
        }
        let agent = input.text(TEXT_AGENT_BYTES_MAX, "text agent")?.into();
        let seq = input.var(u64::MAX, "text seq")?;
        let count = input.count(TEXT_EDITS_MAX, "text edits")?;
        let mut edits = Vec::new();
        for _ in 0..count {
            edits.push(TextEdit {
                pos: input.var(u64::MAX, "text position")?,
                del: input.var(u64::MAX, "text deletion")?,
                ins: input.text(UNKNOWN_BYTES_MAX, "text insertion")?.into(),
            });
        }
        Ok(Op::Text { obj, base, agent, seq, edits })
    }

    fn encode_path(&mut self, path: &[PathStep], out: &mut Writer) {
        let shared = path.iter().zip(&self.previous).take_while(|(a, b)| a == b).count();
        out.var(shared as u64);
        out.var((path.len() - shared) as u64);
        for step in &path[shared..] {
            match step {
                PathStep::Name(name) => {
                    out.u8(0);
                    out.bytes(name.as_bytes());
                }
                PathStep::Element(id) => {
                    out.u8(1);
                    encode_ref(*id, out);
                }
            }
        }
        self.previous = path.to_vec();
    }

    fn decode_path(&mut self, input: &mut Reader<'_>) -> Result<Vec<PathStep>, DecodeError> {
        let invalid = DecodeError::Invalid { field: "path" };
        let shared = input.count(self.previous.len(), "shared segments")?;
        let more = input.count(Path::SEGMENTS_MAX - shared.min(Path::SEGMENTS_MAX), "path segments")?;
        let mut path = self.previous[..shared].to_vec();
        for at in 0..more {
            let step = match input.u8("segment kind")? {
                0 => match Segment::name(input.text(Path::SEGMENT_BYTES_MAX, "segment")?) {
                    Ok(Segment::Name(name)) => PathStep::Name(name),
                    _ => return Err(invalid),
                },
                1 => PathStep::Element(self.decode_ref(input)?),
                _ => return Err(invalid),
            };
            // A segment that could have been shared would be a second spelling.
            if at == 0 && self.previous.get(shared) == Some(&step) {
                return Err(DecodeError::Invalid { field: "shared segments" });
            }
            path.push(step);
        }
        self.previous.clone_from(&path);
        Ok(path)
    }

    fn decode_change(&self, input: &mut Reader<'_>) -> Result<u32, DecodeError> {
        Ok(input.var(u64::from(self.references), "reference")? as u32)
    }

    fn decode_ref(&self, input: &mut Reader<'_>) -> Result<OpRef, DecodeError> {
        Ok(OpRef { change: self.decode_change(input)?, index: input.var(u64::from(u32::MAX), "op index")? as u32 })
    }

    fn decode_refs(&self, input: &mut Reader<'_>) -> Result<Vec<OpRef>, DecodeError> {
        let count = input.count(UNKNOWN_BYTES_MAX, "predecessors")?;
        let mut refs: Vec<OpRef> = Vec::new();
        for _ in 0..count {
            let next = self.decode_ref(input)?;
            if refs.last().is_some_and(|last| *last >= next) {
                return Err(DecodeError::Order { field: "predecessors" });
            }
            refs.push(next);
        }
        Ok(refs)
    }

    fn decode_place(&self, input: &mut Reader<'_>) -> Result<(Option<OpRef>, Side), DecodeError> {
        let at = if input.flag("list anchor")? { Some(self.decode_ref(input)?) } else { None };
        let side = if input.flag("list side")? { Side::Right } else { Side::Left };
        Ok((at, side))
    }
}

fn encode_ref(id: OpRef, out: &mut Writer) {
    out.var(u64::from(id.change));
    out.var(u64::from(id.index));
}

fn encode_refs(refs: &[OpRef], out: &mut Writer) {
    out.var(refs.len() as u64);
    refs.iter().for_each(|id| encode_ref(*id, out));
}

fn encode_place(at: Option<OpRef>, side: Side, out: &mut Writer) {
    out.flag(at.is_some());
    if let Some(at) = at {
        encode_ref(at, out);
    }
    out.flag(side == Side::Right);
}
