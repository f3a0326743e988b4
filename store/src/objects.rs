//! Texts and counters: values whose content comes by ops of their own.
//!
//! A write of such a value says that an *object* is at its path. Mostly each write makes an object of its own. But what
//! is written where its writer had seen nothing yet is one object for the whole path: so two people who begin a text, or
//! count, at one path without knowing of each other, share it from the start.
//!
//! An object's rows are made for those who read: what a text holds is one row with its characters, written now and then,
//! and a row for each op since (the *tail*), with what it did to them. So reading merges nothing, and a keystroke does
//! not write the text. Whoever needs the ops, to merge more or to look back, loads the row with all of them beside it
//! and takes in the tail. The texts that were edited last are kept loaded ([`Texts`]).
//!
//! Deliberately not: deciding which ops count, which is the fold's, and how they merge, which is [`crate::text`]'s.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jumprope::JumpRope;

use crate::codec::{DecodeError, Reader, Writer};
use crate::fold::Seen;
use crate::ids::{ChangeId, OpId};
use crate::keyspace::{Layered, Rows, Scan, Table};
use crate::node::Write;
use crate::op::{TEXT_AGENT_BYTES_MAX, TEXT_EDITS_MAX, TextEdit, UNKNOWN_BYTES_MAX};
use crate::path::Path;
use crate::store::StorageError;
use crate::summary::{find, summary};
use crate::text::{Budget, TEXT_CHARS_MAX, TextObject, TextOp, TextVersion, VersionError};
use crate::value::{INT_MAX, TextContent, Value};
use crate::view::View;

/// Ops in a tail before the text is written again: what a start after a crash, and whoever reads, has to go through.
pub const TAIL_OPS_MAX: usize = 256;
/// Bytes of a tail before the text is written again; of a large text half of it, or all that comes of one would be written with the
/// square of its size.
pub const TAIL_BYTES_MAX: usize = 256 * 1024;
/// Memory for loaded texts. One that is larger is loaded alone.
const AT_HAND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Steps that a text can have saved up, some 100 ms: beyond that it is parked, and nothing else waits for it.
pub const STEPS_MAX: u64 = 5_000_000;
/// Each op brings this part of them along, some 2 ms; what is not used is saved up for the next ones.
const STEPS_SHARE: u64 = 50;
/// Steps that finding out what a text was at a version may take, some 1 s.
const READ_STEPS_MAX: u64 = 50_000_000;
/// What is before the characters of a text in its row, at most.
const CONTENT_HEAD_BYTES: usize = 16;
/// Parts of an object's rows.
const CONTENT: u8 = 0;
const OPS: u8 = 1;
const TAIL: u8 = 2;
const NAME: u8 = 3;
const SAVED: u8 = 4;

/// Names a text or counter in its timeline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 36]);

impl std::fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ObjectId({})", &timebus_identity::z32::encode(&self.0)[..6])
    }
}

impl ObjectId {
    /// The object that an op makes for itself.
    #[must_use]
    pub fn of(op: &OpId) -> Self {
        let mut id = [0; 36];
        id[..32].copy_from_slice(op.change.as_bytes());
        id[32..].copy_from_slice(&op.index.to_be_bytes());
        Self(id)
    }

    /// The object of everybody who writes at a path, whose key this is, without having seen a write there.
    #[must_use]
    pub fn of_path(kind: Kind, key: &[u8]) -> Self {
        let mut id = [0xff; 36];
        let context = match kind {
            Kind::Text => "text",
            Kind::Counter => "counter",
        };
        id[..32].copy_from_slice(&timebus_identity::hash(context, &[key]));
        Self(id)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 36] {
        &self.0
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A counter.
    Counter,
}

impl Kind {
    /// The kind of object that a value stands for.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Text { .. } => Some(Self::Text),
            Value::Counter(_) => Some(Self::Counter),
            _ => None,
        }
    }
}

/// A write that stands for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creator {
    /// What it stands for.
    pub kind: Kind,
    /// Which one.
    pub object: ObjectId,
    /// Where it was written.
    pub path: Path,
}

fn creator_key(t: u32, op: &OpId) -> Vec<u8> {
    [&t.to_be_bytes()[..], &[0], ObjectId::of(op).as_bytes()].concat()
}

/// The object that an op made; `None` if it made none.
///
/// # Errors
///
/// [`StorageError`].
pub fn creator(rows: &impl Rows, t: u32, op: &OpId) -> Result<Option<Creator>, StorageError> {
    let Some(row) = rows.get(Table::Object, &creator_key(t, op))? else { return Ok(None) };
    let damaged = || StorageError::Damaged { table: Table::Object.name() };
    let (head, key) = row.split_at_checked(37).ok_or_else(damaged)?;
    let kind = match head[0] {
        9 => Kind::Text,
        10 => Kind::Counter,
        _ => return Err(damaged()),
    };
    let object = ObjectId(head[1..].try_into().map_err(|_| damaged())?);
    Ok(Some(Creator { kind, object, path: Path::from_key(key).ok_or_else(damaged)? }))
}

/// Writes down which object an op made.
pub(crate) fn put_creator(rows: &mut Layered, t: u32, op: &OpId, kind: Kind, object: ObjectId, key: &[u8]) {
    let tag = match kind {
        Kind::Text => 9,
        Kind::Counter => 10,
    };
    rows.staged.put(Table::Object, creator_key(t, op), [&[tag], &object.as_bytes()[..], key].concat());
}

fn object_key(t: u32, object: &ObjectId, part: u8) -> Vec<u8> {
    [&t.to_be_bytes()[..], &[1], object.as_bytes(), &[part]].concat()
}

fn tail_key(t: u32, object: &ObjectId, part: u8, a: u64, index: u32) -> Vec<u8> {
    [&object_key(t, object, part)[..], &a.to_be_bytes(), &index.to_be_bytes()].concat()
}

/// Arrival number and op index at the end of a key.
fn tail_place(key: &[u8]) -> Result<(u64, u32), StorageError> {
    let place = key.split_last_chunk::<4>().and_then(|(rest, index)| Some((rest.last_chunk::<8>()?, index)));
    let (a, index) = place.ok_or(StorageError::Damaged { table: Table::Object.name() })?;
    Ok((u64::from_be_bytes(*a), u32::from_be_bytes(*index)))
}

/// An op of a tail.
#[derive(Debug)]
struct Tail {
    /// Whether the text is parked after it.
    parked: bool,
    /// Whether it counts.
    counts: bool,
    edits: Vec<TextEdit>,
    /// What it did to the text, if that is not its edits.
    moved: Option<Vec<TextEdit>>,
    agent: Box<str>,
    seq: u64,
    base: TextVersion,
}

fn encode_edits(edits: &[TextEdit], out: &mut Writer) {
    out.var(edits.len() as u64);
    for edit in edits {
        out.var(edit.pos);
        out.var(edit.del);
        out.bytes(edit.ins.as_bytes());
    }
}

fn decode_edits(input: &mut Reader<'_>) -> Result<Vec<TextEdit>, DecodeError> {
    // What one op does to a text may be more edits than it has, one for each character.
    (0..input.count(TEXT_CHARS_MAX as usize, "edits")?)
        .map(|_| {
            Ok(TextEdit {
                pos: input.var(TEXT_CHARS_MAX, "position")?,
                del: input.var(TEXT_CHARS_MAX, "deletion")?,
                ins: input.text(4 * TEXT_CHARS_MAX as usize, "insertion")?.into(),
            })
        })
        .collect()
}

impl Tail {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(u8::from(self.parked) | u8::from(self.counts) << 1 | u8::from(self.moved.is_some()) << 2);
        encode_edits(&self.edits, &mut out);
        if let Some(moved) = &self.moved {
            encode_edits(moved, &mut out);
        }
        out.bytes(self.agent.as_bytes());
        out.var(self.seq);
        out.var(self.base.len() as u64);
        for (change, event) in &self.base {
            out.raw(change.as_bytes());
            out.var(*event);
        }
        out.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let flags = input.u8("tail")?;
        let edits = decode_edits(&mut input)?;
        let moved = if flags & 4 != 0 { Some(decode_edits(&mut input)?) } else { None };
        let agent = input.text(TEXT_AGENT_BYTES_MAX, "text agent")?.into();
        let seq = input.var(u64::MAX, "text seq")?;
        let base = (0..input.count(32, "text base")?).map(|_| Ok((ChangeId(input.array("change")?), input.var(u64::MAX, "text event")?)));
        let base = base.collect::<Result<_, DecodeError>>()?;
        input.finish()?;
        debug_assert!(edits.len() <= TEXT_EDITS_MAX && edits.iter().all(|edit| edit.ins.len() <= UNKNOWN_BYTES_MAX));
        Ok(Self { parked: flags & 1 != 0, counts: flags & 2 != 0, edits, moved, agent, seq, base })
    }
}

/// The ops of a text since it was written as a whole. It begins behind those before, since stepping over rows that were
/// deleted takes as long as reading them.
fn tail_of<'a>(rows: &'a impl Rows, t: u32, object: &ObjectId) -> Result<Scan<'a>, StorageError> {
    let all = object_key(t, object, TAIL);
    let from = saved_of(rows, t, object)?.map(|(a, index)| tail_key(t, object, TAIL, a, index));
    Ok(rows.scan(Table::Object, &all, from.as_deref()))
}

/// An op behind which all of a tail is.
fn saved_of(rows: &impl Rows, t: u32, object: &ObjectId) -> Result<Option<(u64, u32)>, StorageError> {
    let row = rows.get(Table::Object, &object_key(t, object, SAVED))?;
    row.map(|row| tail_place(&row)).transpose()
}

/// What a text holds now.
///
/// # Errors
///
/// [`StorageError`].
pub fn read_text(rows: &impl Rows, t: u32, object: &ObjectId) -> Result<TextContent, StorageError> {
    let mut content = TextContent { object: *object, text: String::new(), parked: false };
    if let Some(row) = rows.get(Table::Object, &object_key(t, object, CONTENT))? {
        let mut input = Reader::new(&row);
        content.parked = input.flag("parked")?;
        content.text = input.text(4 * TEXT_CHARS_MAX as usize, "text")?.to_owned();
    }
    let mut rope: Option<JumpRope> = None;
    for row in tail_of(rows, t, object)? {
        let tail = Tail::decode(&row?.1)?;
        content.parked = tail.parked;
        let rope = rope.get_or_insert_with(|| JumpRope::from(content.text.as_str()));
        for edit in tail.moved.unwrap_or(tail.edits) {
            let len = rope.len_chars();
            let (start, end) = ((edit.pos as usize).min(len), ((edit.pos + edit.del) as usize).min(len));
            rope.remove(start..end);
            rope.insert(start, &edit.ins);
        }
    }
    if let Some(rope) = rope {
        content.text = rope.to_string();
    }
    Ok(content)
}

/// Puts into writes what the objects hold that they stand for: now, or as the writers of a view saw it.
///
/// # Errors
///
/// [`StorageError`].
pub fn fill(rows: &impl Rows, t: u32, view: Option<&View>, writes: &mut [Write]) -> Result<(), StorageError> {
    for write in writes {
        let Some(kind) = Kind::of(&write.value) else { continue };
        let Some(creator) = creator(rows, t, &write.id)? else { continue };
        debug_assert_eq!(kind, creator.kind);
        match &mut write.value {
            Value::Text { content, .. } => {
                *content = Some(Arc::new(match view {
                    None => read_text(rows, t, &creator.object)?,
                    Some(view) => text_within(rows, t, &creator.object, view)?,
                }));
            }
            Value::Counter(number) => *number = clamp(i128::from(*number) + count(rows, t, &creator.object, view)?),
            _ => {}
        }
    }
    Ok(())
}

/// What a text held for the writers of a view.
fn text_within(rows: &impl Rows, t: u32, object: &ObjectId, view: &View) -> Result<TextContent, StorageError> {
    let text = load_text(rows, t, object)?;
    let version = version_within(rows, t, &text, view)?;
    Ok(TextContent { object: *object, text: text_at(&text, &version)?, parked: text.is_parked() })
}

/// The text of a version that is in it.
///
/// # Errors
///
/// [`StorageError`].
pub fn text_at(text: &TextObject, version: &[(ChangeId, u64)]) -> Result<String, StorageError> {
    if text.version() == version {
        return Ok(text.text());
    }
    // It was merged before, so it can be merged again.
    text.text_at(version, &mut Budget::steps(READ_STEPS_MAX)).map_err(|error| match error {
        VersionError::OverBudget(_) => StorageError::TextBusy,
        _ => StorageError::Damaged { table: Table::Object.name() },
    })
}

/// The version of a text that a view has.
///
/// # Errors
///
/// [`StorageError`].
pub fn version_within(rows: &impl Rows, t: u32, text: &TextObject, view: &View) -> Result<TextVersion, StorageError> {
    let failed = RefCell::new(None);
    let version = text.version_within(|change| {
        let counts = find(rows, change).and_then(|found| match found {
            Some((_, a)) => view.counts(rows, t, a),
            None => Ok(false),
        });
        counts.unwrap_or_else(|error| {
            failed.replace(Some(error));
            true
        })
    });
    failed.into_inner().map_or(Ok(version), Err)
}

/// A text with all of its ops.
///
/// # Errors
///
/// [`StorageError`].
pub fn load_text(rows: &impl Rows, t: u32, object: &ObjectId) -> Result<TextObject, StorageError> {
    Ok(Loaded::load(rows, t, object)?.text)
}

/// The largest number that JSON readers keep exactly bounds what is shown, not what is counted.
fn clamp(number: i128) -> i64 {
    number.clamp(-i128::from(INT_MAX), i128::from(INT_MAX)) as i64
}

/// One addition to a counter: whether it counts, and how much.
fn decode_addition(row: &[u8]) -> Result<(bool, i64), DecodeError> {
    let mut input = Reader::new(row);
    let addition = (input.flag("counts")?, input.zigzag("delta")?);
    input.finish()?;
    Ok(addition)
}

/// What was added to a counter.
fn count(rows: &impl Rows, t: u32, object: &ObjectId, view: Option<&View>) -> Result<i128, StorageError> {
    let Some(view) = view else { return count_now(rows, t, object) };
    let mut sum = 0;
    for row in rows.scan(Table::Object, &object_key(t, object, TAIL), None) {
        let (key, value) = row?;
        let (counts, delta) = decode_addition(&value)?;
        if counts && view.counts(rows, t, tail_place(&key)?.0)? {
            sum += i128::from(delta);
        }
    }
    Ok(sum)
}

fn count_now(rows: &impl Rows, t: u32, object: &ObjectId) -> Result<i128, StorageError> {
    Ok(match rows.get(Table::Object, &object_key(t, object, CONTENT))? {
        Some(row) => i128::from_be_bytes(row.as_ref().try_into().map_err(|_| StorageError::Damaged { table: Table::Object.name() })?),
        None => 0,
    })
}

/// Writes down an addition to a counter, or that one counts now or no longer.
pub(crate) fn put_addition(
    rows: &mut Layered,
    t: u32,
    object: &ObjectId,
    (a, index): (u64, u32),
    delta: i64,
    counts: bool,
) -> Result<(), StorageError> {
    let key = tail_key(t, object, TAIL, a, index);
    let counted = rows.get(Table::Object, &key)?.map(|row| decode_addition(&row)).transpose()?.is_some_and(|(counts, _)| counts);
    let mut out = Writer::new();
    out.flag(counts);
    out.zigzag(delta);
    rows.staged.put(Table::Object, key, out.into_bytes());
    // Fewer than 2^64 additions of 64 bits cannot leave 128.
    let sum = count_now(rows, t, object)? + i128::from(delta) * (i128::from(counts) - i128::from(counted));
    rows.staged.put(Table::Object, object_key(t, object, CONTENT), sum.to_be_bytes().to_vec());
    Ok(())
}

/// What clients call a change at the text's path, where the change says no name of its own.
///
/// # Errors
///
/// [`StorageError`].
pub fn event_name(rows: &impl Rows, t: u32, object: &ObjectId, a: u64) -> Result<Option<String>, StorageError> {
    let row = rows.get(Table::Object, &tail_key(t, object, NAME, a, 0))?;
    Ok(row.and_then(|row| std::str::from_utf8(&row).ok().map(str::to_owned)))
}

/// Key of the row that says that a text is parked.
fn parked_key(t: u32, object: &ObjectId) -> Vec<u8> {
    [&t.to_be_bytes()[..], &[2], object.as_bytes()].concat()
}

/// A text and what of it is only in the tail.
#[derive(Debug)]
struct Loaded {
    text: TextObject,
    tail: Vec<(u64, u32)>,
    tail_bytes: usize,
    /// What the row says behind which all of the tail is.
    saved: Option<(u64, u32)>,
    /// Steps that merging may still take.
    steps: u64,
    /// When it was used last.
    used: u64,
    memory: usize,
    /// Key of the path that it is at, once that was said.
    key: Vec<u8>,
    /// Whether a row says that it is parked.
    is_marked: bool,
    /// Whether somebody merges a copy of it.
    is_lent: bool,
    /// How often it was decided anew which of its ops count.
    flips: u64,
}

impl Loaded {
    fn load(rows: &impl Rows, t: u32, object: &ObjectId) -> Result<Self, StorageError> {
        let damaged = || StorageError::Damaged { table: Table::Object.name() };
        let mut text = match rows.get(Table::Object, &object_key(t, object, OPS))? {
            Some(row) => TextObject::decode(&row).map_err(|_| damaged())?,
            None => TextObject::new(),
        };
        let (mut tail, mut tail_bytes) = (Vec::new(), 0);
        for row in tail_of(rows, t, object)? {
            let (key, value) = row?;
            let (a, index) = tail_place(&key)?;
            let op = Tail::decode(&value)?;
            let own = summary(rows, t, a)?;
            let seen = Seen::of_past(rows, t, a, &own)?;
            let counts = op.counts;
            let id = OpId { change: own.id, index };
            let op = TextOp { change: own.id, author: own.author, base: op.base, agent: op.agent, seq: op.seq, edits: op.edits };
            let result = asking(|ask| text.admit_as(&op, counts, |change| ask(seen.has(rows, t, &own, id, change))))?;
            result.map_err(|_| damaged())?;
            // All of it was merged before; when that takes too long, the text is written as a whole.
            text.merge(&mut Budget::unlimited());
            tail.push((a, index));
            tail_bytes += value.len();
        }
        let (memory, is_marked) = (text.memory(), text.is_parked());
        let saved = saved_of(rows, t, object)?;
        Ok(Self { text, tail, tail_bytes, saved, steps: 0, used: 0, memory, key: Vec::new(), is_marked, is_lent: false, flips: 0 })
    }

    /// Writes the text and its ops, so that the tail is empty.
    fn save(&mut self, rows: &mut Layered, t: u32, object: &ObjectId) {
        let mut content = Writer::with_capacity(self.text.len_bytes() + CONTENT_HEAD_BYTES);
        content.flag(self.text.is_parked());
        self.text.encode_text(&mut content);
        rows.staged.put(Table::Object, object_key(t, object, CONTENT), content.into_bytes());
        rows.staged.put(Table::Object, object_key(t, object, OPS), self.text.encode());
        self.saved = self.saved.max(self.tail.iter().max().copied());
        if let Some((a, index)) = self.saved.filter(|_| !self.tail.is_empty()) {
            rows.staged.put(Table::Object, object_key(t, object, SAVED), [&a.to_be_bytes()[..], &index.to_be_bytes()].concat());
        }
        for (a, index) in self.tail.drain(..) {
            rows.staged.delete(Table::Object, tail_key(t, object, TAIL, a, index));
        }
        self.tail_bytes = 0;
        if self.text.is_parked() != self.is_marked {
            self.is_marked = self.text.is_parked();
            match self.is_marked {
                true => rows.staged.put(Table::Object, parked_key(t, object), self.key.clone()),
                false => rows.staged.delete(Table::Object, parked_key(t, object)),
            }
        }
    }
}

/// Names a text.
pub(crate) type TextName = (u32, ObjectId);

/// A parked text, lent to whoever has time to merge it.
#[derive(Debug)]
pub(crate) struct Lent {
    t: u32,
    object: ObjectId,
    text: TextObject,
    flips: u64,
}

impl Lent {
    /// Which text it is.
    pub(crate) fn name(&self) -> TextName {
        (self.t, self.object)
    }

    /// Merges what can be merged in [`RESUME_STEPS_MAX`].
    pub(crate) fn resume(mut self) -> Self {
        self.text.resume(&mut Budget::steps(RESUME_STEPS_MAX));
        self
    }
}

/// Lets something ask questions that can fail, where it only takes answers.
fn asking<T>(run: impl FnOnce(&dyn Fn(Result<bool, StorageError>) -> bool) -> T) -> Result<T, StorageError> {
    let failed = RefCell::new(None);
    let answer = run(&|answer| {
        answer.unwrap_or_else(|error| {
            failed.replace(Some(error));
            false
        })
    });
    failed.into_inner().map_or(Ok(answer), Err)
}

/// Loaded texts.
#[derive(Debug)]
pub struct Texts {
    loaded: HashMap<TextName, Loaded>,
    memory: usize,
    clock: u64,
    /// Texts that have more to merge than was allowed, and that nobody merges.
    parked: BTreeSet<TextName>,
    /// Those of them whose names were given to somebody who merges each in its turn.
    named: BTreeSet<TextName>,
    /// Steps that a text can have saved up.
    steps_max: u64,
}

impl Default for Texts {
    fn default() -> Self {
        Self::new(STEPS_MAX)
    }
}

/// A text is merged in vain no further than this, some 10 s; after that it stays parked until an op comes or goes.
const RESUME_STEPS_MAX: u64 = 500_000_000;

impl Texts {
    /// None yet. A text merges in so many steps at most while everything else waits.
    #[must_use]
    pub fn new(steps_max: u64) -> Self {
        Self { loaded: HashMap::new(), memory: 0, clock: 0, parked: BTreeSet::new(), named: BTreeSet::new(), steps_max }
    }

    /// Forgets everything: what was staged did not come to be.
    pub fn clear(&mut self) {
        *self = Self::new(self.steps_max);
    }

    fn at_hand(&mut self, rows: &impl Rows, t: u32, object: &ObjectId) -> Result<&mut Loaded, StorageError> {
        self.clock += 1;
        if !self.loaded.contains_key(&(t, *object)) {
            let mut loaded = Loaded::load(rows, t, object)?;
            loaded.steps = self.steps_max;
            self.memory += loaded.memory;
            self.loaded.insert((t, *object), loaded);
        }
        let loaded = self.loaded.get_mut(&(t, *object)).expect("loaded above");
        loaded.used = self.clock;
        Ok(loaded)
    }

    /// Remembers the parked texts of a timeline.
    pub(crate) fn find_parked(&mut self, rows: &impl Rows, t: u32) -> Result<(), StorageError> {
        for row in rows.scan(Table::Object, &[&t.to_be_bytes()[..], &[2]].concat(), None) {
            let (key, _) = row?;
            let object = key.last_chunk::<36>().ok_or(StorageError::Damaged { table: Table::Object.name() })?;
            self.parked.insert((t, ObjectId(*object)));
        }
        Ok(())
    }

    /// Names a parked text that was not named yet, for somebody who has it lent to him when its turn comes: what is lent is a copy, so
    /// there is to be one at a time.
    pub(crate) fn next_parked(&mut self) -> Option<TextName> {
        std::iter::from_fn(|| self.parked.pop_first()).find(|name| self.named.insert(*name))
    }

    /// A copy of a text that was named, if it is parked still, for somebody who merges it and gives it to [`Texts::give_back`].
    pub(crate) fn lend(&mut self, rows: &mut Layered, (t, object): TextName) -> Result<Option<Lent>, StorageError> {
        self.named.remove(&(t, object));
        let loaded = self.at_hand(&*rows, t, &object)?;
        if let Some(key) = rows.get(Table::Object, &parked_key(t, &object))?.filter(|_| loaded.key.is_empty()) {
            loaded.key = key.to_vec();
        }
        let is_free = loaded.text.is_parked() && !loaded.is_lent;
        let lent = is_free.then(|| Lent { t, object, text: loaded.text.clone(), flips: loaded.flips });
        loaded.is_lent |= is_free;
        self.settle(rows, t, &object);
        Ok(lent)
    }

    /// Takes over what was merged of a lent text. Answers where it is, if it shows something else now.
    pub(crate) fn give_back(&mut self, rows: &mut Layered, lent: Lent) -> Result<Option<(u32, Path)>, StorageError> {
        let Lent { t, object, text, flips } = lent;
        // What was lent from a state that did not come to be is worth nothing.
        let Some(loaded) = self.loaded.get_mut(&(t, object)).filter(|loaded| loaded.is_lent) else { return Ok(None) };
        loaded.is_lent = false;
        let before = loaded.text.version();
        let is_done = !text.is_parked();
        let fits = loaded.flips == flips && loaded.text.take_over(text);
        if fits {
            loaded.text.resume(&mut Budget::steps(self.steps_max));
            loaded.steps = 0;
            loaded.save(rows, t, &object);
        }
        let changed = fits && loaded.text.version() != before;
        if loaded.text.is_parked() && (is_done || !fits) {
            self.parked.insert((t, object));
        }
        let path = Path::from_key(&loaded.key);
        self.settle(rows, t, &object);
        Ok(path.filter(|_| changed).map(|path| (t, path)))
    }

    /// A text with all of its ops.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn text(&mut self, rows: &impl Rows, t: u32, object: &ObjectId) -> Result<&mut TextObject, StorageError> {
        Ok(&mut self.at_hand(rows, t, object)?.text)
    }

    /// Takes an op of the change `a`. Answers what it did to the text, or `None` if it is not valid.
    pub(crate) fn take(
        &mut self,
        rows: &mut Layered,
        t: u32,
        Creator { object, path, .. }: &Creator,
        (a, index): (u64, u32),
        (op, counts): (TextOp, bool),
        in_past: impl Fn(&Layered, &ChangeId) -> Result<bool, StorageError>,
    ) -> Result<Option<Vec<TextEdit>>, StorageError> {
        let steps_max = self.steps_max;
        let loaded = self.at_hand(&*rows, t, object)?;
        if loaded.key.is_empty() {
            loaded.key = path.key();
        }
        let result = asking(|ask| loaded.text.admit_as(&op, counts, |change| ask(in_past(rows, change))))?;
        if let Err(error) = result {
            tracing::debug!(change = ?op.change, %error, "a text op has no effect");
            return Ok(None);
        }
        let was_parked = loaded.text.is_parked();
        loaded.steps = (loaded.steps + steps_max / STEPS_SHARE).min(steps_max);
        let mut budget = Budget::steps(loaded.steps);
        let merged = loaded.text.merge(&mut budget);
        loaded.steps = loaded.steps.saturating_sub(budget.taken());
        let moved = (!counts || merged.patches != op.edits).then(|| merged.patches.clone());
        let tail = Tail { parked: merged.parked, counts, edits: op.edits, moved, agent: op.agent, seq: op.seq, base: op.base };
        let row = tail.encode();
        // The parts of a run have their effect together, so those of others may have come in between.
        if loaded.saved.is_some_and(|saved| (a, index) <= saved) {
            loaded.saved = None;
            rows.staged.delete(Table::Object, object_key(t, object, SAVED));
        }
        loaded.tail.push((a, index));
        loaded.tail_bytes += row.len();
        rows.staged.put(Table::Object, tail_key(t, object, TAIL, a, index), row);
        // What is in a tail merges when it is loaded.
        let tail_bytes_max = usize::try_from(loaded.text.len() / 2).map_or(TAIL_BYTES_MAX, |half| half.max(TAIL_BYTES_MAX));
        let is_full = loaded.tail.len() >= TAIL_OPS_MAX || loaded.tail_bytes >= tail_bytes_max;
        if is_full || was_parked != merged.parked {
            loaded.save(rows, t, object);
        }
        self.settle(rows, t, object);
        if merged.parked {
            self.parked.insert((t, *object));
        }
        Ok(Some(merged.patches))
    }

    /// Some changes' ops count now, or no longer.
    pub(crate) fn flip(
        &mut self,
        rows: &mut Layered,
        t: u32,
        object: &ObjectId,
        key: Vec<u8>,
        changes: &[(ChangeId, bool)],
    ) -> Result<(), StorageError> {
        let steps_max = self.steps_max;
        let loaded = self.at_hand(&*rows, t, object)?;
        loaded.key = key;
        loaded.flips += 1;
        loaded.text.set_effective(changes);
        let parked = loaded.text.resume(&mut Budget::steps(steps_max)).parked;
        loaded.save(rows, t, object);
        self.settle(rows, t, object);
        if parked {
            self.parked.insert((t, *object));
        }
        Ok(())
    }

    /// Counts what a text takes, and lets go of those that were not used for long.
    fn settle(&mut self, rows: &mut Layered, t: u32, object: &ObjectId) {
        if let Some(loaded) = self.loaded.get_mut(&(t, *object)) {
            let memory = loaded.text.memory();
            self.memory = self.memory + memory - loaded.memory;
            loaded.memory = memory;
        }
        if self.memory <= AT_HAND_BYTES_MAX {
            return;
        }
        let mut by_use: Vec<_> = self.loaded.iter().map(|(name, loaded)| (loaded.used, *name)).collect();
        by_use.sort_unstable();
        by_use.pop();
        for (_, name) in by_use {
            if self.memory <= AT_HAND_BYTES_MAX / 2 {
                break;
            }
            if self.loaded.get(&name).is_some_and(|loaded| loaded.is_lent) {
                continue;
            }
            if let Some(mut loaded) = self.loaded.remove(&name) {
                if !loaded.tail.is_empty() {
                    loaded.save(rows, name.0, &name.1);
                }
                self.memory -= loaded.memory;
            }
        }
    }

    /// Writes what is only in tails, so that the next start has none to go through.
    pub(crate) fn save(&mut self, rows: &mut Layered) {
        for ((t, object), loaded) in &mut self.loaded {
            if !loaded.tail.is_empty() {
                loaded.save(rows, *t, object);
            }
        }
    }
}

/// Writes down what clients call a change at a text's path.
pub(crate) fn put_event_name(rows: &mut Layered, t: u32, object: &ObjectId, a: u64, name: &str) {
    rows.staged.put(Table::Object, tail_key(t, object, NAME, a, 0), name.as_bytes().to_vec());
}

#[cfg(test)]
mod tests {
    use timebus_identity::PublicKey;

    use super::*;
    use crate::keyspace::{MemoryTables, Tables};

    /// The parts of a run have their effect when the last of them comes; others may have come, and the text been written
    /// as a whole, in between.
    #[test]
    fn an_op_that_has_its_effect_late_is_read_too() {
        let tables = Tables::in_memory(MemoryTables::default());
        let mut rows = Layered::new(tables.snapshot(), None);
        let path = Path::parse("/doc").expect("a path");
        let made = Creator { kind: Kind::Text, object: ObjectId::of_path(Kind::Text, &path.key()), path };
        let mut texts = Texts::default();
        let last = 100 + TAIL_OPS_MAX as u64;
        for a in (100..last).chain([5]) {
            let mut change = [0; 32];
            change[..8].copy_from_slice(&a.to_be_bytes());
            let edits = vec![TextEdit { pos: 0, del: 0, ins: "x".into() }];
            let author = PublicKey::from_bytes([1; 32]);
            let op = TextOp { change: ChangeId(change), author, base: TextVersion::new(), agent: format!("s{a}").into(), seq: 0, edits };
            let done = texts.take(&mut rows, 0, &made, (a, 0), (op, true), |_, _| Ok(false)).expect("read");
            assert!(done.is_some(), "{a} is valid");
        }
        assert!(saved_of(&rows, 0, &made.object).expect("read").is_none(), "the tail may be anywhere");
        assert_eq!(read_text(&rows, 0, &made.object).expect("read").text.len(), TAIL_OPS_MAX + 1);
    }

    /// Of many texts that are slow to merge each waits by its name, and none is copied before it is its turn.
    #[test]
    fn a_parked_text_is_named_once_and_lent_once() {
        let tables = Tables::in_memory(MemoryTables::default());
        let mut rows = Layered::new(tables.snapshot(), None);
        let mut texts = Texts::new(0);
        let mut number = 0;
        let mut edit = |texts: &mut Texts, rows: &mut Layered, path: &str| {
            number += 1;
            let path = Path::parse(path).expect("a path");
            let made = Creator { kind: Kind::Text, object: ObjectId::of_path(Kind::Text, &path.key()), path };
            let op = TextOp {
                change: ChangeId([number; 32]),
                author: PublicKey::from_bytes([number; 32]),
                base: TextVersion::new(),
                agent: format!("s{number}").into(),
                seq: 0,
                edits: vec![TextEdit { pos: 0, del: 0, ins: "x".into() }],
            };
            texts.take(rows, 0, &made, (number.into(), 0), (op, true), |_, _| Ok(false)).expect("read").expect("valid");
            (0, made.object)
        };
        let [one, other] = ["/one", "/other"].map(|path| edit(&mut texts, &mut rows, path));
        let named: BTreeSet<TextName> = [texts.next_parked(), texts.next_parked()].into_iter().flatten().collect();
        assert_eq!(named, BTreeSet::from([one, other]));
        edit(&mut texts, &mut rows, "/one");
        assert_eq!(texts.next_parked(), None, "it waits already");
        let lent = texts.lend(&mut rows, one).expect("read").expect("it is parked");
        assert!(texts.lend(&mut rows, one).expect("read").is_none(), "somebody has it");
        assert!(texts.give_back(&mut rows, lent.resume()).expect("read").is_some(), "it shows something else");
        assert!(texts.lend(&mut rows, one).expect("read").is_none() && texts.lend(&mut rows, other).expect("read").is_some());
    }

    /// A large text that somebody puts comes in many ops.
    #[test]
    fn what_is_written_for_a_text_is_a_few_times_its_size() {
        const OPS_COUNT: u64 = 128;
        const CHARS: u64 = 64 * 1024;
        let tables = Tables::in_memory(MemoryTables::default());
        let mut rows = Layered::new(tables.snapshot(), None);
        let path = Path::parse("/doc").expect("a path");
        let made = Creator { kind: Kind::Text, object: ObjectId::of_path(Kind::Text, &path.key()), path };
        let mut texts = Texts::default();
        let (mut base, mut len, mut written) = (TextVersion::new(), 0, 0);
        for a in 0..OPS_COUNT {
            let mut change = [0; 32];
            change[..8].copy_from_slice(&a.to_be_bytes());
            let edits = vec![TextEdit { pos: 0, del: 0, ins: "x".repeat(CHARS as usize).into() }];
            let (change, author, seq) = (ChangeId(change), PublicKey::from_bytes([1; 32]), (a + 1) * CHARS - 1);
            let op = TextOp { change, author, base, agent: "s".into(), seq, edits };
            assert!(texts.take(&mut rows, 0, &made, (a, 0), (op, true), |_, _| Ok(true)).expect("read").is_some(), "{a} is valid");
            base = vec![(change, CHARS)];
            let now = rows.get(Table::Object, &object_key(0, &made.object, CONTENT)).expect("read").map_or(0, |row| row.len());
            if now != len {
                (len, written) = (now, written + now as u64);
            }
        }
        assert!(written <= 3 * OPS_COUNT * CHARS, "{written} bytes were written");
        assert_eq!(read_text(&rows, 0, &made.object).expect("read").text.len() as u64, OPS_COUNT * CHARS);
    }
}
