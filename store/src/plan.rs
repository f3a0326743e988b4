//! From a request to ops: what has to be written so that the tree the caller saw becomes what he asked for.
//!
//! A PUT is compared with what was visible in its base. Leaves that stay the same produce no op, so a whole
//! document that was read earlier does not undo what others changed in the meantime; what the caller had not
//! seen is not touched.

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::PublicKey;

use crate::change::BODY_BYTES_MAX;
use crate::ids::OpId;
use crate::json::Json;
use crate::list::Order;
use crate::node::Write;
use crate::op::{Side, TextEdit};
use crate::path::{Path, Segment};
use crate::text::{TEXT_CHARS_MAX, TextDraft, TextVersion, edits_between};
use crate::tree::Tree;
use crate::value::{INLINE_BYTES_MAX, Mime, Value};

mod arrays;
mod bodies;
mod values;

use arrays::{gaps, moves};
pub use bodies::PlannedBody;
use bodies::{events, in_parts};
use values::{ELEMENT_KEY_BYTES, Kind, Room};
pub(crate) use values::{blobs_named, members_of};

/// Why a value cannot be written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A string does not fit a change.
    #[error("a string of {0} bytes is too large (at most {STRING_BYTES_MAX})")]
    StringTooLarge(usize),
    /// An object or array that has to be kept whole is too large for that.
    #[error("at {at}: an object with keys that cannot be path segments is kept whole and may take {INLINE_BYTES_MAX} bytes, this one takes more")]
    OpaqueTooLarge {
        /// Where.
        at: String,
    },
    /// A text has too many characters.
    #[error("a text has at most {TEXT_CHARS_MAX} characters")]
    TextTooLong,
    /// What was edited is so old, or so entangled, that working out what the edits mean now takes too long.
    #[error("bringing the edits to the newest version of the text takes too long; read it again and edit that")]
    TextTooBusy,
    /// The text could not be read.
    #[error("a text could not be read: {0}")]
    TextUnreadable(String),
    /// The whole request is too large.
    #[error("one request may write {REQUEST_BYTES_MAX} bytes at most")]
    RequestTooLarge,
}

/// Largest string that is planned: it has to fit a body beside its path and predecessors.
pub const STRING_BYTES_MAX: usize = BODY_BYTES_MAX - 256 * 1024;
/// Predecessors that one op lists; with the elements of its path they have to fit a body's table of references.
const PREDS_MAX: usize = 3500;

/// Most bytes of ops that one request may need.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An op that exists, or one that this request will make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Exists.
    Known(OpId),
    /// The n-th op of the request.
    New(usize),
}

/// A path whose elements may not exist yet.
type PlanPath = Vec<PlanStep>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum PlanStep {
    Name(Box<str>),
    Element(Target),
}

#[derive(Clone, Debug)]
enum PlannedOp {
    Set { path: PlanPath, value: Value, preds: Vec<OpId> },
    Del { path: PlanPath, preds: Vec<OpId> },
    Ins { list: Target, at: Option<Target>, side: Side, value: Value },
    Move { element: OpId, at: Option<Target>, side: Side },
    Inc { made: Target, delta: i64 },
    Text { made: Target, stands: Stands, agent: Box<str>, seq: u64, edits: Vec<TextEdit> },
}

/// What edits of a text stand on.
#[derive(Clone, Debug)]
enum Stands {
    On(TextVersion),
    /// The op of this number, which has so many events.
    After(usize, u64),
}

/// Makes edits of a text, as the caller saw it, into the fields of an op. The text is named by a write that stands for
/// it; one that this request makes has none.
pub type Drafter<'a> = Box<dyn FnMut(Option<&OpId>, Vec<TextEdit>) -> Result<Option<TextDraft>, PlanError> + 'a>;

/// Ops that were decided on, before they are put into bodies.
pub struct Plan<'a> {
    space: PublicKey,
    /// Orders lists: answers the positions of a list that exists.
    order: Box<dyn FnMut(&OpId) -> Order + 'a>,
    draft: Drafter<'a>,
    ops: Vec<PlannedOp>,
    /// From this depth on, a value that shows as the JSON asked for stays what it is: a text stays a text.
    keep_from: usize,
}

impl std::fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.ops).finish()
    }
}

fn plan_path(path: &Path) -> PlanPath {
    path.segments()
        .iter()
        .map(|segment| match segment {
            Segment::Name(name) => PlanStep::Name(name.clone()),
            Segment::Element(id) => PlanStep::Element(Target::Known(*id)),
        })
        .collect()
}

fn ids(writes: &[&Write]) -> Vec<OpId> {
    writes.iter().map(|write| write.id).collect()
}

fn joined(path: &PlanPath, step: PlanStep) -> PlanPath {
    let mut path = path.clone();
    path.push(step);
    path
}

impl<'a> Plan<'a> {
    /// Nothing planned yet.
    pub fn new(space: PublicKey, order: impl FnMut(&OpId) -> Order + 'a, draft: Drafter<'a>) -> Self {
        Self { space, order: Box::new(order), draft, ops: Vec::new(), keep_from: 0 }
    }

    /// Whether nothing has to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Replaces what is at `path`, of which the caller saw `tree`, by a JSON value.
    ///
    /// # Errors
    ///
    /// [`PlanError`].
    pub fn put(&mut self, path: &Path, tree: &Tree, json: &Json) -> Result<(), PlanError> {
        self.keep_from = path.segments().len() + 1;
        self.put_json(&plan_path(path), tree, json, Room::of(path))
    }

    /// As [`Plan::put`], for JSON that was made by patching what shows at `path`.
    ///
    /// # Errors
    ///
    /// [`PlanError`].
    pub fn put_patched(&mut self, path: &Path, tree: &Tree, json: &Json) -> Result<(), PlanError> {
        self.keep_from = 0;
        self.put_json(&plan_path(path), tree, json, Room::of(path))
    }

    /// Takes writes back and puts a value in their place, if there was one.
    ///
    /// # Errors
    ///
    /// [`PlanError`].
    pub fn restore(&mut self, at: &Path, value: Option<Value>, writes: &[Write]) -> Result<(), PlanError> {
        let path = plan_path(at);
        let preds = ids(&writes.iter().collect::<Vec<_>>());
        match value {
            // A text that is made again is another one, which begins with what the old one held.
            Some(Value::Text { mime, content }) => {
                self.ops.push(PlannedOp::Set { path, value: Value::text(mime), preds });
                let made = Target::New(self.ops.len() - 1);
                self.begin_text(made, content.map_or_else(String::new, |content| content.text.clone()))?;
            }
            Some(value) => self.ops.push(PlannedOp::Set { path, value, preds }),
            None => self.delete_writes(path, &writes.iter().collect::<Vec<_>>()),
        }
        Ok(())
    }

    /// Moves an element of a list behind the position `before`, or to its beginning.
    pub fn move_element(&mut self, list: &OpId, element: OpId, before: Option<&OpId>) {
        let (at, side) = (self.order)(list).place_after(before);
        self.ops.push(PlannedOp::Move { element, at: at.map(Target::Known), side });
    }

    /// Replaces what is at `path`, of which the caller saw `tree`, by a text. One of the same kind is edited.
    ///
    /// # Errors
    ///
    /// [`PlanError`].
    pub fn put_text(&mut self, path: &Path, tree: &Tree, mime: &Mime, text: &str) -> Result<(), PlanError> {
        if text.chars().count() as u64 > TEXT_CHARS_MAX {
            return Err(PlanError::TextTooLong);
        }
        if matches!(tree.writes.first(), Some(Write { value: Value::Text { mime: known, .. }, .. }) if known == mime)
            && self.edit_text(&plan_path(path), tree, text)?
        {
            return Ok(());
        }
        let made = self.make(path, tree, Value::text(mime.clone()));
        self.begin_text(made, text.to_owned())
    }

    /// Makes the text that shows at a node into another one; says whether one shows.
    fn edit_text(&mut self, path: &PlanPath, tree: &Tree, text: &str) -> Result<bool, PlanError> {
        let Some(write @ Write { value: Value::Text { content: Some(content), .. }, .. }) = tree.writes.first() else { return Ok(false) };
        if tree.shape() != crate::tree::Shape::Scalar {
            return Ok(false);
        }
        // What is beside it goes; other writes of the same text are the text.
        let mut others: Vec<&Write> = tree.hidden.iter().collect();
        let same = |write: &Write| matches!(&write.value, Value::Text { content: Some(other), .. } if other.object == content.object);
        others.extend(tree.writes.iter().filter(|write| !same(write)));
        self.delete_writes(path.clone(), &others);
        let edits = edits_between(&content.text, text);
        if let Some(draft) = (self.draft)(Some(&write.id), edits)? {
            self.push_text(Target::Known(write.id), draft);
        }
        Ok(true)
    }

    /// Removes what the caller saw beside a text.
    pub fn delete_beside(&mut self, path: &Path, writes: &[Write]) {
        self.delete_writes(plan_path(path), &writes.iter().collect::<Vec<_>>());
    }

    /// Fills a text that this request makes.
    fn begin_text(&mut self, made: Target, text: String) -> Result<(), PlanError> {
        if !text.is_empty() {
            let edits = vec![TextEdit { pos: 0, del: 0, ins: text.into() }];
            if let Some(draft) = (self.draft)(None, edits)? {
                self.push_text(made, draft);
            }
        }
        Ok(())
    }

    /// Edits a text that exists, or that the op of a number makes.
    pub fn push_text(&mut self, made: Target, draft: TextDraft) {
        let TextDraft { base, agent, seq, edits } = draft;
        let parts = in_parts(edits);
        let mut left: u64 = parts.iter().flatten().map(events).sum();
        let mut stands = Stands::On(base);
        for edits in parts {
            let count: u64 = edits.iter().map(events).sum();
            left -= count;
            self.ops.push(PlannedOp::Text { made, stands, agent: agent.clone(), seq: seq - left, edits });
            stands = Stands::After(self.ops.len() - 1, count);
        }
    }

    /// Writes a text or counter over what the caller saw. Answers the op that makes it.
    pub fn make(&mut self, path: &Path, tree: &Tree, value: Value) -> Target {
        let path = plan_path(path);
        let mut below = Vec::new();
        tree.writes_below(&mut below);
        self.delete_writes(path.clone(), &below);
        Target::New(self.set(&path, tree, value))
    }

    /// Adds to a counter that exists, or that the op of a number makes.
    pub fn push_inc(&mut self, made: Target, delta: i64) {
        self.ops.push(PlannedOp::Inc { made, delta });
    }

    /// Replaces what is at `path`, of which the caller saw `tree`, by a value without parts.
    pub fn put_value(&mut self, path: &Path, tree: &Tree, value: Value) {
        self.put_scalar(&plan_path(path), tree, value);
    }

    /// Removes what the caller saw at `path`.
    pub fn delete(&mut self, path: &Path, tree: &Tree) {
        self.delete_tree(plan_path(path), tree);
    }

    /// Merges a patch (RFC 7396) into what the caller saw at `path`.
    ///
    /// # Errors
    ///
    /// [`PlanError`].
    pub fn merge(&mut self, path: &Path, tree: &Tree, patch: &Json) -> Result<(), PlanError> {
        self.merge_json(&plan_path(path), tree, patch, Room::of(path))
    }

    /// Appends an element to the list that shows at a node, behind its position `last`; or where the node's elements end, if
    /// that is not said. Answers the number of the op, which names the element.
    ///
    /// # Errors
    ///
    /// [`PlanError`].
    pub fn append(&mut self, path: &Path, tree: &Tree, list: OpId, last: Option<OpId>, json: &Json) -> Result<usize, PlanError> {
        let (at, side) = match last {
            Some(last) => (Some(last), Side::Right),
            None => {
                let order = (self.order)(&list);
                let last = tree.elements.last().and_then(|(id, _)| order.position_of(id));
                order.place_after(last.as_ref())
            }
        };
        let number = self.ops.len();
        self.insert(&plan_path(path), Target::Known(list), at.map(Target::Known), side, json, Room::of(path))?;
        Ok(number)
    }

    fn delete_tree(&mut self, path: PlanPath, tree: &Tree) {
        let mut writes = Vec::new();
        tree.all_writes(&mut writes);
        self.delete_writes(path, &writes);
    }

    fn delete_writes(&mut self, path: PlanPath, writes: &[&Write]) {
        // A body's table of references is limited, and so is what one op may list.
        let mut rest = ids(writes);
        rest.sort_unstable();
        for chunk in rest.chunks(PREDS_MAX) {
            self.ops.push(PlannedOp::Del { path: path.clone(), preds: chunk.to_vec() });
        }
    }

    fn put_scalar(&mut self, path: &PlanPath, tree: &Tree, value: Value) {
        let mut below = Vec::new();
        tree.writes_below(&mut below);
        self.delete_writes(path.clone(), &below);
        if let [write] = &tree.writes[..]
            && write.value == value
        {
            return;
        }
        self.set(path, tree, value);
    }

    /// Writes a slot over everything the caller saw there. Answers the number of the op.
    fn set(&mut self, path: &PlanPath, tree: &Tree, value: Value) -> usize {
        let writes: Vec<&Write> = tree.writes.iter().collect();
        let (replaced, more) = writes.split_at(writes.len().min(PREDS_MAX));
        self.delete_writes(path.clone(), more);
        self.ops.push(PlannedOp::Set { path: path.clone(), value, preds: ids(replaced) });
        self.ops.len() - 1
    }

    fn put_json(&mut self, path: &PlanPath, tree: &Tree, json: &Json, room: Room) -> Result<(), PlanError> {
        match self.kind_of(json, room, path)? {
            Kind::Value(Value::String(text)) if matches!(tree.writes.first(), Some(Write { value: Value::Text { .. }, .. })) => {
                if !self.edit_text(path, tree, &text)? {
                    self.put_scalar(path, tree, Value::String(text));
                }
                Ok(())
            }
            Kind::Value(value) => {
                let shows_same = path.len() >= self.keep_from
                    && matches!(&tree.writes[..], [write] if crate::tree::value_json(&write.value, &self.space) == *json)
                    && tree.shape() == crate::tree::Shape::Scalar;
                if !shows_same {
                    self.put_scalar(path, tree, value);
                }
                Ok(())
            }
            Kind::Object(members) => self.put_object(path, tree, members, room),
            Kind::Array(items) => self.put_array(path, tree, items, room),
        }
    }

    /// Makes the slot hold a map marker and nothing else.
    fn mark_map(&mut self, path: &PlanPath, tree: &Tree) {
        if tree.writes.is_empty() || tree.writes.iter().any(|write| write.value != Value::Map) {
            self.set(path, tree, Value::Map);
        }
    }

    fn delete_elements(&mut self, path: &PlanPath, tree: &Tree) {
        let mut gone: Vec<&Write> = tree.hidden.iter().collect();
        tree.elements.iter().for_each(|(_, element)| element.all_writes(&mut gone));
        self.delete_writes(path.clone(), &gone);
    }

    fn put_object(&mut self, path: &PlanPath, tree: &Tree, members: &BTreeMap<String, Json>, room: Room) -> Result<(), PlanError> {
        self.mark_map(path, tree);
        self.delete_elements(path, tree);
        for (name, child) in &tree.names {
            if !members.contains_key(&**name) {
                self.delete_tree(joined(path, PlanStep::Name(name.clone())), child);
            }
        }
        let absent = Tree::default();
        for (name, value) in members {
            let child = tree.names.get(name.as_str()).unwrap_or(&absent);
            self.put_json(&joined(path, PlanStep::Name(name.as_str().into())), child, value, room.below(name.len() + 1))?;
        }
        Ok(())
    }

    fn merge_json(&mut self, path: &PlanPath, tree: &Tree, patch: &Json, room: Room) -> Result<(), PlanError> {
        let Json::Object(members) = patch else { return self.put_json(path, tree, patch, room) };
        let whole = matches!(tree.writes.first().map(|write| &write.value), Some(Value::Opaque(_))) && tree.names.is_empty() && !tree.partial;
        if whole || matches!(self.kind_of(patch, room, path)?, Kind::Value(_)) {
            // What is kept whole is merged whole.
            let mut merged = tree.to_json(&self.space).unwrap_or(Json::Null);
            crate::json::merge_patch(&mut merged, patch);
            return self.put_json(path, tree, &merged, room);
        }
        if tree.shape() != crate::tree::Shape::Object {
            self.mark_map(path, tree);
            self.delete_elements(path, tree);
        }
        let absent = Tree::default();
        for (name, value) in members {
            let child = tree.names.get(name.as_str()).unwrap_or(&absent);
            let child_path = joined(path, PlanStep::Name(name.as_str().into()));
            match value {
                Json::Null => self.delete_tree(child_path, child),
                _ => self.merge_json(&child_path, child, value, room.below(name.len() + 1))?,
            }
        }
        Ok(())
    }

    fn put_array(&mut self, path: &PlanPath, tree: &Tree, items: &[Json], room: Room) -> Result<(), PlanError> {
        let winner = tree.writes.first().filter(|write| write.value == Value::List && tree.list == Some(write.id));
        let Some(winner) = winner else {
            let mut below = Vec::new();
            tree.writes_below(&mut below);
            self.delete_writes(path.clone(), &below);
            let list = Target::New(self.set(path, tree, Value::List));
            return self.insert_run(path, list, None, Side::Right, items, room);
        };
        let list = winner.id;
        let losers: Vec<&Write> = tree.writes[1..].iter().chain(&tree.hidden).collect();
        self.delete_writes(path.clone(), &losers);
        let old: Vec<Option<Json>> = tree.elements.iter().map(|(_, element)| element.to_json(&self.space)).collect();
        let order = (self.order)(&list);
        let gaps = gaps(&old, items);
        let moved = moves(&old, items, &gaps);
        let leaves: BTreeSet<usize> = moved.values().copied().collect();
        // The position after which the next new element goes, as the walk goes along the old elements.
        let mut before: Option<OpId> = None;
        for gap in gaps {
            if let Some(kept) = gap.old.start.checked_sub(1) {
                before = order.position_of(&tree.elements[kept].0).or(before);
            }
            let mut replaced = tree.elements[gap.old.clone()].iter().zip(gap.old).filter(|(_, at)| !leaves.contains(at)).map(|(old, _)| old);
            // Behind what was put here last.
            let mut last: Option<usize> = None;
            for at in gap.new {
                let from = moved.get(&at).map(|from| tree.elements[*from].0);
                if from.is_none()
                    && let Some((id, element)) = replaced.next()
                {
                    let element_path = joined(path, PlanStep::Element(Target::Known(*id)));
                    self.put_json(&element_path, element, &items[at], room.below(ELEMENT_KEY_BYTES))?;
                    (before, last) = (order.position_of(id).or(before), None);
                    continue;
                }
                let (place, side) = match last {
                    Some(number) => (Some(Target::New(number)), Side::Right),
                    None => {
                        let (place, side) = order.place_after(before.as_ref());
                        (place.map(Target::Known), side)
                    }
                };
                last = Some(self.ops.len());
                match from {
                    Some(element) => self.ops.push(PlannedOp::Move { element, at: place, side }),
                    None => self.insert(path, Target::Known(list), place, side, &items[at], room)?,
                }
            }
            for (id, element) in replaced {
                self.delete_tree(joined(path, PlanStep::Element(Target::Known(*id))), element);
            }
        }
        Ok(())
    }

    /// Inserts elements that follow each other.
    fn insert_run(&mut self, path: &PlanPath, list: Target, at: Option<Target>, side: Side, items: &[Json], room: Room) -> Result<(), PlanError> {
        let (mut at, mut side) = (at, side);
        for item in items {
            let number = self.ops.len();
            self.insert(path, list, at, side, item, room)?;
            (at, side) = (Some(Target::New(number)), Side::Right);
        }
        Ok(())
    }

    fn insert(&mut self, path: &PlanPath, list: Target, at: Option<Target>, side: Side, item: &Json, room: Room) -> Result<(), PlanError> {
        let room = room.below(ELEMENT_KEY_BYTES);
        let number = self.ops.len();
        let element = joined(path, PlanStep::Element(Target::New(number)));
        match self.kind_of(item, room, &element)? {
            Kind::Value(value) => self.ops.push(PlannedOp::Ins { list, at, side, value }),
            Kind::Object(members) => {
                self.ops.push(PlannedOp::Ins { list, at, side, value: Value::Map });
                for (name, value) in members {
                    self.put_json(&joined(&element, PlanStep::Name(name.as_str().into())), &Tree::default(), value, room.below(name.len() + 1))?;
                }
            }
            Kind::Array(items) => {
                self.ops.push(PlannedOp::Ins { list, at, side, value: Value::List });
                self.insert_run(&element, Target::New(number), None, Side::Right, items, room)?;
            }
        }
        Ok(())
    }

    /// Whether something is written or removed at a path or below.
    #[must_use]
    pub fn touches(&self, path: &Path) -> bool {
        let shares = |steps: &PlanPath| {
            path.segments().iter().zip(steps).all(|(segment, step)| match (segment, step) {
                (Segment::Name(name), PlanStep::Name(other)) => name == other,
                (Segment::Element(id), PlanStep::Element(Target::Known(other))) => id == other,
                _ => false,
            })
        };
        self.ops.iter().any(|op| match op {
            PlannedOp::Set { path: at, .. } => at.len() >= path.segments().len() && shares(at),
            // It names what it removes by the writes, at and below its own path.
            PlannedOp::Del { path: at, .. } => shares(at),
            PlannedOp::Ins { .. } | PlannedOp::Move { .. } | PlannedOp::Inc { .. } | PlannedOp::Text { .. } => false,
        })
    }

    /// The names at which it points at something.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.ops.iter().filter_map(|op| match op {
            PlannedOp::Set { path, value, .. } if value.pointer().is_some() => match path.last() {
                Some(PlanStep::Name(name)) => Some(&**name),
                _ => None,
            },
            _ => None,
        })
    }

    /// The blobs that its ops name.
    pub fn blobs(&self) -> impl Iterator<Item = crate::blobs::BlobHash> {
        self.ops.iter().filter_map(|op| match op {
            PlannedOp::Set { value: Value::Blob { hash, .. }, .. } | PlannedOp::Ins { value: Value::Blob { hash, .. }, .. } => {
                Some(crate::blobs::BlobHash::from_bytes(*hash))
            }
            _ => None,
        })
    }
}
