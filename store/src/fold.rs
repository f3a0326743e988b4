//! From changes to state: what each op of an admitted change does to the tables.
//!
//! A write is visible until an op lists it among its predecessors; nothing else decides. So the state is a
//! function of the set of changes, whatever the order in which they came. Ops that are not valid (no such
//! path, predecessor elsewhere, reference outside the change's past) have no effect and reject nothing.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use timebus_identity::PublicKey;

use crate::auth::Reach;
use crate::change::{Body, Change};
use crate::ids::{ChangeId, OpId};
use crate::keyspace::{Layered, Rows, Table};
use crate::list::at_hand::Lists;
use crate::list::{Position, position_key};
use crate::log::LogReader;
use crate::node::{
    Entry, Node, Touch, Write, Writes, history_key, history_prefix, list_of_element, node_key, remove, split_history_key, visible_write,
};
use crate::objects::{ObjectId, Texts};
use crate::op::{Op, OpRef, PathStep, TextEdit};
use crate::path::{Path, Segment};
use crate::store::StorageError;
use crate::summary::{Summary, find, summary};
use crate::tree::Shape;
use crate::value::Value;
use crate::view::{View, back, ends_within};
use crate::vouch::{Scopes, ends_of, has_effect};

mod objects;

/// Decoded bodies kept at hand: those that recent ops referred to.
const BODIES_MAX: usize = 64;
/// Branches of which it is kept at hand what is before their last change: as many as grow side by side, as they come from others.
const BRANCHES_MAX: usize = 64;

/// A change as the fold needs it.
pub type KnownChange = Arc<(Summary, Body)>;

/// Reads bodies of changes, keeping a few.
#[derive(Debug)]
pub struct Bodies {
    log: LogReader,
    kept: HashMap<(u32, u64), KnownChange>,
    /// Bodies that are not in the log yet: of the group at hand, and of the group that is being synced.
    unsynced: [HashMap<(u32, u64), KnownChange>; 2],
    /// The one that was applied last is the last.
    latest: VecDeque<Latest>,
    /// Texts at hand.
    pub(crate) texts: Texts,
    /// Lists at hand.
    pub(crate) lists: Lists,
}

/// What is before a change that was applied just now, of those that do not stand on all that had arrived. A long branch
/// comes change by change, each on top of the one before, so that is soon known of the next one too.
#[derive(Debug)]
struct Latest {
    t: u32,
    a: u64,
    past: View,
    /// Whether its writer had seen all of it.
    is_view: bool,
}

impl Bodies {
    /// Reads from this log.
    #[must_use]
    pub fn new(log: LogReader) -> Self {
        Self { log, kept: HashMap::new(), unsynced: Default::default(), latest: VecDeque::new(), texts: Texts::default(), lists: Lists::default() }
    }

    /// Makes a body known that is not in the log yet.
    pub fn insert(&mut self, t: u32, a: u64, body: KnownChange) {
        self.unsynced[0].insert((t, a), body);
    }

    /// The group at hand is being synced.
    pub fn seal(&mut self) {
        self.unsynced[1] = std::mem::take(&mut self.unsynced[0]);
    }

    /// The group that was being synced is in the log.
    pub fn synced(&mut self) {
        self.unsynced[1].clear();
    }

    /// Forgets everything that may not be in the log.
    pub fn reset(&mut self) {
        self.kept.clear();
        self.unsynced = Default::default();
        self.latest.clear();
        self.texts.clear();
        self.lists.clear();
    }

    /// Everything before a change that stands on these.
    fn past_of(&mut self, rows: &impl Rows, t: u32, deps: &[u64]) -> Result<View, StorageError> {
        let known = self.latest.iter().rposition(|latest| latest.t == t && deps.contains(&latest.a));
        let Some(Latest { a, mut past, .. }) = known.and_then(|at| self.latest.remove(at)) else { return View::past_of(rows, t, deps) };
        past.insert(a);
        past.add_past(rows, t, deps)?;
        Ok(past)
    }

    /// Keeps at hand what is before a change.
    fn keep_latest(&mut self, latest: Latest) {
        if self.latest.len() >= BRANCHES_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(latest);
    }

    /// The summary and body of a change. An unreadable body counts as empty: its ops have no effect anywhere.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn load(&mut self, rows: &impl Rows, t: u32, a: u64) -> Result<KnownChange, StorageError> {
        let known = [&self.unsynced[0], &self.unsynced[1], &self.kept].into_iter().find_map(|bodies| bodies.get(&(t, a)));
        if let Some(body) = known {
            return Ok(Arc::clone(body));
        }
        let change = self.record(rows, t, a)?;
        let body = Arc::new((summary(rows, t, a)?, Body::decode(change.body_bytes()).unwrap_or_default()));
        if self.kept.len() >= BODIES_MAX {
            self.kept.clear();
        }
        self.kept.insert((t, a), Arc::clone(&body));
        Ok(body)
    }

    /// A change as the log has it.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn record(&self, rows: &impl Rows, t: u32, a: u64) -> Result<Change, StorageError> {
        let record = self.log.read(summary(rows, t, a)?.place)?;
        let signed = Change::decode(&record.payload).map_err(|_| StorageError::Damaged { table: "change log" })?;
        Ok(signed.content().clone())
    }

    /// The id that a reference inside a body means.
    pub(crate) fn resolve(own: &Summary, body: &Body, reference: OpRef) -> Option<OpId> {
        let change = match reference.change.checked_sub(1) {
            None => own.id,
            Some(at) => *body.references.get(at as usize)?,
        };
        Some(OpId { change, index: reference.index })
    }

    /// The path in a body, with its references resolved.
    pub(crate) fn resolve_path(own: &Summary, body: &Body, steps: &[PathStep]) -> Option<Path> {
        let segments = steps.iter().map(|step| {
            Some(match step {
                PathStep::Name(name) => Segment::Name(name.clone()),
                PathStep::Element(reference) => Segment::Element(Self::resolve(own, body, *reference)?),
            })
        });
        Path::new(segments.collect::<Option<_>>()?).ok()
    }

    /// The paths that the ops of a change name: where it wrote, and what it removed or moved as a whole.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn named_by(&mut self, rows: &impl Rows, t: u32, a: u64) -> Result<Vec<Path>, StorageError> {
        let loaded = self.load(rows, t, a)?;
        let (own, body) = &*loaded;
        let mut paths = Vec::new();
        for (index, op) in body.ops.iter().enumerate() {
            let made = match op {
                Op::Ins { .. } => u32::try_from(index).ok().map(|index| OpId { change: own.id, index }),
                Op::Move { elem, .. } => Self::resolve(own, body, *elem),
                Op::Text { obj, .. } | Op::Inc { obj, .. } => Self::resolve(own, body, *obj),
                _ => None,
            };
            let path = match (made, op.path()) {
                (Some(made), _) => self.write_at(rows, t, made)?.map(|(path, _)| path),
                (None, Some(steps)) => Self::resolve_path(own, body, steps),
                (None, None) => None,
            };
            paths.extend(path);
        }
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    /// The path that a write was made at, and its value; `None` when there is no such write.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn write_at(&mut self, rows: &impl Rows, t: u32, id: OpId) -> Result<Option<(Path, Write)>, StorageError> {
        let mut tail: Vec<Segment> = Vec::new();
        let mut write: Option<Write> = None;
        let mut id = id;
        // Each step goes from an element to its list, which is one segment up.
        for _ in 0..=Path::SEGMENTS_MAX {
            let Some((found, a)) = find(rows, &id.change)? else { return Ok(None) };
            if found != t {
                return Ok(None);
            }
            let loaded = self.load(rows, t, a)?;
            let (own, body) = &*loaded;
            let make = |value: &Value, list| Write { lamport: own.lamport, a, id, list, value: value.clone() };
            match body.ops.get(id.index as usize) {
                Some(Op::Set { path, value, .. }) => {
                    let Some(path) = Self::resolve_path(own, body, path) else { return Ok(None) };
                    let write = write.unwrap_or_else(|| make(value, None));
                    let segments = path.segments().iter().cloned().chain(tail.into_iter().rev()).collect();
                    return Ok(Path::new(segments).ok().map(|path| (path, write)));
                }
                Some(Op::Ins { list, value, .. }) => {
                    let Some(list) = Self::resolve(own, body, *list) else { return Ok(None) };
                    write.get_or_insert_with(|| make(value, Some(list)));
                    tail.push(Segment::Element(id));
                    id = list;
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// What one change, or one run of changes, did.
#[derive(Debug, Default)]
pub struct Effect {
    /// Paths at which something changed, with what the nodes on the way there looked like before.
    pub touched: BTreeMap<Path, Touched>,
    /// Versions after it, as arrival numbers, of the nodes by key; those left out are this change alone.
    pub versions: BTreeMap<Vec<u8>, Vec<u64>>,
    /// Nodes by key whose versions are too many changes to be told with each of them.
    pub many: BTreeSet<Vec<u8>>,
}

/// What happened at one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Whether an op moved this list element.
    pub moved: bool,
    /// Where nothing but a text was edited: which, and how.
    pub text: Option<(ObjectId, Vec<TextEdit>)>,
    /// The highest path that looks different in kind now (from its shape before to its shape after), if any.
    pub reshaped: Option<(usize, Option<Shape>, Option<Shape>)>,
}

/// A node while a change is applied to it.
struct Loaded {
    node: Node,
    before: Option<Shape>,
    /// Whether an op of the change at hand had an effect here or below.
    touched: bool,
    /// Whether older ops here or below were hidden, or show again.
    flipped: bool,
}

/// How a node looks; `None` when only the whole node tells.
fn outline(node: &Node, winner: Option<&Value>) -> Option<Shape> {
    if node.below > 0 {
        return match winner {
            _ if node.loose => None,
            Some(Value::List) => Some(Shape::List),
            _ => Some(Shape::Object),
        };
    }
    Some(match winner {
        None => Shape::Absent,
        Some(Value::Map) => Shape::Object,
        Some(Value::List) => Shape::List,
        Some(_) => Shape::Scalar,
    })
}

/// What happened below the nodes on the way to some path, that they do not know yet. Most ops of a change are at paths
/// side by side, which have the same nodes above.
struct Above {
    /// The nodes: from the root to this path.
    parent: Box<[Segment]>,
    /// Whether the path below is that of an element of a list.
    is_element: bool,
    /// By how many there are more visible writes below.
    visible: i64,
    /// Whether one became visible.
    shows: bool,
}

/// Applies changes to the tables under preparation.
pub struct Fold<'a> {
    rows: &'a mut Layered,
    bodies: &'a mut Bodies,
    t: u32,
    nodes: BTreeMap<Vec<u8>, Loaded>,
    above: Option<Above>,
    effect: Effect,
    /// Changes with ops that were hidden, and with ops that show again.
    hidden: BTreeSet<u64>,
    revealed: BTreeSet<u64>,
    /// Whether older ops are looked at again, so that nodes are not touched by a new change.
    settling: bool,
}

impl<'a> Fold<'a> {
    /// Begins with a timeline.
    pub fn new(rows: &'a mut Layered, bodies: &'a mut Bodies, t: u32) -> Self {
        Self {
            rows,
            bodies,
            t,
            nodes: BTreeMap::new(),
            above: None,
            effect: Effect::default(),
            hidden: BTreeSet::new(),
            revealed: BTreeSet::new(),
            settling: false,
        }
    }

    /// Applies a change whose summary is already in the tables. Ops at paths outside `shows`, if it is there, are
    /// remembered and have no effect.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn apply(&mut self, a: u64, loaded: &(Summary, Body), reach: &Reach, shows: Option<&Scopes>) -> Result<(), StorageError> {
        let (own, body) = loaded;
        let right = &Right { reach, shows };
        // A writer who claims to have seen what is not in its past is not believed.
        if body.base.as_ref().map(Vec::len) != own.base.as_ref().map(Vec::len) {
            return Ok(());
        }
        let seen = Seen::new(self.rows, self.bodies, self.t, a, own)?;
        for (index, op) in body.ops.iter().enumerate() {
            let id = OpId { change: own.id, index: index as u32 };
            self.apply_op(a, own, body, id, op, right, &seen)?;
        }
        if let Some(past) = seen.past {
            self.bodies.keep_latest(Latest { t: self.t, a, past, is_view: own.base.is_none() });
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the change, its parts and what it may do belong to every op")]
    fn apply_op(&mut self, a: u64, own: &Summary, body: &Body, id: OpId, op: &Op, right: &Right<'_>, seen: &Seen) -> Result<(), StorageError> {
        match op {
            Op::Set { path, value, preds } => {
                let Some(path) = Bodies::resolve_path(own, body, path) else { return Ok(()) };
                if !right.reach.covers(&path, &own.author) {
                    return Ok(());
                }
                let hidden = right.hides(&path, &own.author);
                let Some(list) = self.check_elements(own, seen, id, &path)? else { return Ok(()) };
                let t_key = node_key(self.t, &path.key());
                let mut replaced = Vec::new();
                for pred in preds {
                    let Some(pred) = Bodies::resolve(own, body, *pred) else { continue };
                    if let Some((pred_a, lamport)) = seen.find(self.rows, self.t, own, id, pred)?
                        && self.is_write_at(&t_key, pred_a, pred)?
                    {
                        if !hidden {
                            self.kill(&path, &t_key, lamport, pred)?;
                        }
                        replaced.push((pred_a, pred.index));
                    }
                }
                self.make_object(own, seen, id, &path, value)?;
                let write = Write { lamport: own.lamport, a, id, list, value: value.clone() };
                self.show(&path, t_key, write, None, replaced, hidden)?;
            }
            Op::Del { path, preds } => {
                let Some(path) = Bodies::resolve_path(own, body, path) else { return Ok(()) };
                let mut replaced: BTreeMap<Path, Vec<(u64, u32)>> = BTreeMap::new();
                for pred in preds {
                    let Some(pred) = Bodies::resolve(own, body, *pred) else { continue };
                    let Some((pred_a, lamport)) = seen.find(self.rows, self.t, own, id, pred)? else { continue };
                    let Some((at, _)) = self.bodies.write_at(self.rows, self.t, pred)? else { continue };
                    let t_key = node_key(self.t, &at.key());
                    let covered = right.reach.covers(&at, &own.author);
                    if path.contains(&at) && covered && self.is_write_at(&t_key, pred_a, pred)? {
                        if !right.hides(&at, &own.author) {
                            self.kill(&at, &t_key, lamport, pred)?;
                        }
                        replaced.entry(at).or_default().push((pred_a, pred.index));
                    }
                }
                for (at, preds) in replaced {
                    let entry = Entry { writes: false, list: None, preds, hidden: right.hides(&at, &own.author) };
                    self.rows.staged.put(Table::History, history_key(&node_key(self.t, &at.key()), a, id.index), entry.encode());
                }
            }
            Op::Ins { list, at, side, value } => {
                let Some(list) = Bodies::resolve(own, body, *list) else { return Ok(()) };
                let Some((list_a, _)) = seen.find(self.rows, self.t, own, id, list)? else { return Ok(()) };
                let Some((path, made)) = self.bodies.write_at(self.rows, self.t, list)? else { return Ok(()) };
                if !self.is_write_at(&node_key(self.t, &path.key()), list_a, list)? {
                    return Ok(());
                }
                let Ok(path) = path.join(Segment::Element(id)) else { return Ok(()) };
                if made.value != Value::List || !right.reach.covers(&path, &own.author) {
                    return Ok(());
                }
                let Some(anchor) = self.check_anchor(own, body, seen, id, &list, *at)? else { return Ok(()) };
                let position = Position { id, lamport: own.lamport, at: anchor, side: *side, element: id, hidden: false };
                self.rows.staged.put(Table::Position, position_key(self.t, &list, &id), position.encode());
                self.bodies.lists.inserted(self.t, &list, &position);
                self.make_object(own, seen, id, &path, value)?;
                let write = Write { lamport: own.lamport, a, id, list: Some(list), value: value.clone() };
                let hidden = right.hides(&path, &own.author);
                self.show(&path, node_key(self.t, &path.key()), write, Some(list), Vec::new(), hidden)?;
            }
            Op::Move { elem, at, side } => {
                let Some(element) = Bodies::resolve(own, body, *elem) else { return Ok(()) };
                let Some((element_a, _)) = seen.find(self.rows, self.t, own, id, element)? else { return Ok(()) };
                let Some((path, made)) = self.bodies.write_at(self.rows, self.t, element)? else { return Ok(()) };
                if !self.is_write_at(&node_key(self.t, &path.key()), element_a, element)? {
                    return Ok(());
                }
                let Some(list) = made.list else { return Ok(()) };
                if !right.reach.covers(&path, &own.author) {
                    return Ok(());
                }
                let hidden = right.hides(&path, &own.author);
                let Some(anchor) = self.check_anchor(own, body, seen, id, &list, *at)? else { return Ok(()) };
                let position = Position { id, lamport: own.lamport, at: anchor, side: *side, element, hidden };
                self.rows.staged.put(Table::Position, position_key(self.t, &list, &id), position.encode());
                self.bodies.lists.inserted(self.t, &list, &position);
                let t_key = node_key(self.t, &path.key());
                let entry = Entry { writes: false, list: None, preds: Vec::new(), hidden };
                self.rows.staged.put(Table::History, history_key(&t_key, a, id.index), entry.encode());
                if !hidden {
                    self.touch(&path, &t_key, 0)?;
                    self.effect.touched.entry(path).or_default().moved = true;
                }
            }
            Op::Inc { obj, delta } => self.apply_inc(own, body, id, (*obj, *delta), right, seen)?,
            Op::Text { .. } => self.apply_text(own, body, id, op, right, seen)?,
            // Mounts and statements about rights have folds of their own.
            Op::Mount { .. } | Op::Link { .. } | Op::Grant(_) | Op::Revoke(_) | Op::Genesis(_) | Op::Succeed(_) | Op::Unknown { .. } => {}
        }
        Ok(())
    }

    /// Checks that every element on the way to a path was inserted there before `op`. Answers the list that the
    /// last segment belongs to, if it is an element; `None` when an element does not exist.
    fn check_elements(&mut self, own: &Summary, seen: &Seen, op: OpId, path: &Path) -> Result<Option<Option<OpId>>, StorageError> {
        let mut t_key = self.t.to_be_bytes().to_vec();
        let mut list = None;
        for segment in path.segments() {
            segment.push_key(&mut t_key);
            list = None;
            if let Segment::Element(id) = segment {
                if seen.past(self.rows, self.t, own, op, *id)?.is_none() {
                    return Ok(None);
                }
                list = list_of_element(self.rows, self.t, &t_key, id)?;
                if list.is_none() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(list))
    }

    fn check_anchor(
        &mut self,
        own: &Summary,
        body: &Body,
        seen: &Seen,
        op: OpId,
        list: &OpId,
        at: Option<OpRef>,
    ) -> Result<Option<Option<OpId>>, StorageError> {
        let Some(at) = at else { return Ok(Some(None)) };
        let Some(anchor) = Bodies::resolve(own, body, at) else { return Ok(None) };
        let known = seen.past(self.rows, self.t, own, op, anchor)?.is_some()
            && self.rows.get(Table::Position, &position_key(self.t, list, &anchor))?.is_some();
        Ok(known.then_some(Some(anchor)))
    }

    fn is_write_at(&mut self, t_key: &[u8], a: u64, id: OpId) -> Result<bool, StorageError> {
        if let Writes::One(write) = &self.node(t_key)?.node.writes
            && write.id == id
        {
            return Ok(true);
        }
        Ok(match self.rows.get(Table::History, &history_key(t_key, a, id.index))? {
            Some(row) => Entry::decode(&row)?.writes,
            None => false,
        })
    }

    fn node(&mut self, t_key: &[u8]) -> Result<&mut Loaded, StorageError> {
        if !self.nodes.contains_key(t_key) {
            let node = Node::load(self.rows, t_key)?;
            if node == Node::default() {
                self.rows.node_made(t_key);
            }
            let winner = node.winner(self.rows, t_key)?;
            let before = outline(&node, winner.as_ref().map(|write| &write.value));
            self.nodes.insert(t_key.to_vec(), Loaded { node, before, touched: false, flipped: false });
        }
        Ok(self.nodes.get_mut(t_key).expect("inserted above"))
    }

    /// Takes a write away, if it is still visible.
    fn kill(&mut self, path: &Path, t_key: &[u8], lamport: u64, id: OpId) -> Result<(), StorageError> {
        self.leave(path)?;
        let mut node = std::mem::take(&mut self.node(t_key)?.node);
        if let Some(write) = visible_write(&node, self.rows, t_key, lamport, &id)? {
            crate::blobs::stage(&mut self.rows.staged, self.t, &write, false);
        }
        let was_list = matches!(&node.writes, Writes::One(write) if write.value == Value::List) || matches!(node.writes, Writes::Many(_));
        let removed = remove(&mut node, self.rows, t_key, lamport, id);
        let loaded = self.node(t_key)?;
        loaded.node = node;
        let removed = removed?;
        if removed && was_list && loaded.node.below > 0 {
            loaded.node.loose = true;
        }
        self.effect.touched.entry(path.clone()).or_default().text = None;
        self.touch(path, t_key, if removed { -1 } else { 0 })
    }

    /// Makes a new write visible and remembers it.
    fn show(
        &mut self,
        path: &Path,
        t_key: Vec<u8>,
        write: Write,
        made_in: Option<OpId>,
        preds: Vec<(u64, u32)>,
        hidden: bool,
    ) -> Result<(), StorageError> {
        let entry = Entry { writes: true, list: made_in, preds, hidden };
        self.rows.staged.put(Table::History, history_key(&t_key, write.a, write.id.index), entry.encode());
        if hidden {
            crate::blobs::stage(&mut self.rows.staged, self.t, &write, false);
            return Ok(());
        }
        self.insert(path, t_key, write)
    }

    fn insert(&mut self, path: &Path, t_key: Vec<u8>, write: Write) -> Result<(), StorageError> {
        self.leave(path)?;
        self.node(&t_key)?;
        let loaded = self.nodes.get_mut(&t_key).expect("loaded above");
        // Which of several writes wins decides whether elements below show.
        let lists = write.value == Value::List || matches!(&loaded.node.writes, Writes::One(other) if other.value == Value::List);
        loaded.node.loose |= loaded.node.below > 0 && (lists || matches!(loaded.node.writes, Writes::Many(_)));
        crate::blobs::stage(&mut self.rows.staged, self.t, &write, true);
        loaded.node.insert(&mut self.rows.staged, &t_key, write);
        self.effect.touched.entry(path.clone()).or_default().text = None;
        self.touch(path, &t_key, 1)
    }

    /// Counts a write in or out at all nodes above.
    fn touch(&mut self, path: &Path, t_key: &[u8], visible: i64) -> Result<(), StorageError> {
        self.leave(path)?;
        let settling = self.settling;
        let loaded = self.node(t_key)?;
        loaded.touched |= !settling;
        loaded.flipped |= settling;
        let Some((last, parent)) = path.segments().split_last() else { return Ok(()) };
        let is_element = matches!(last, Segment::Element(_));
        let above = self.above.get_or_insert_with(|| Above { parent: parent.into(), is_element, visible: 0, shows: false });
        above.visible += visible;
        above.shows |= visible > 0;
        Ok(())
    }

    /// Tells the nodes above what happened below, unless `path` lies beside what was looked at last.
    fn leave(&mut self, path: &Path) -> Result<(), StorageError> {
        let is_beside = |above: &Above| {
            path.segments()
                .split_last()
                .is_some_and(|(last, parent)| *above.parent == *parent && above.is_element == matches!(last, Segment::Element(_)))
        };
        if self.above.as_ref().is_some_and(is_beside) { Ok(()) } else { self.tell_above() }
    }

    fn tell_above(&mut self) -> Result<(), StorageError> {
        let Some(Above { parent, is_element, visible, shows }) = self.above.take() else { return Ok(()) };
        let settling = self.settling;
        let mut t_key = self.t.to_be_bytes().to_vec();
        for depth in 0..=parent.len() {
            let next = parent.get(depth);
            let is_element = next.map_or(is_element, |segment| matches!(segment, Segment::Element(_)));
            let loaded = self.node(&t_key)?;
            loaded.touched |= !settling;
            loaded.flipped |= settling;
            loaded.node.below = loaded.node.below.saturating_add_signed(visible);
            if is_element && shows && !matches!(&loaded.node.writes, Writes::One(write) if write.value == Value::List) {
                loaded.node.loose = true;
            }
            if let Some(segment) = next {
                segment.push_key(&mut t_key);
            }
        }
        Ok(())
    }

    /// Remembers that a part of a run has had its effect.
    pub fn remember(&mut self, a: u64, own: &Summary) {
        self.rows.staged.put(Table::Change, crate::summary::change_key(self.t, a).to_vec(), own.encode());
    }

    /// Looks again at changes for which it may be decided otherwise now whether their ops have an effect.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn flip(&mut self, changes: &BTreeSet<u64>) -> Result<(), StorageError> {
        let mut parts: BTreeSet<u64> = BTreeSet::new();
        for a in changes {
            // A run has the effect that its last part has.
            match summary(self.rows, self.t, *a)?.part {
                None => drop(parts.insert(*a)),
                Some((number, count)) if number == count => {
                    for steps in 0..count {
                        parts.extend(back(self.rows, self.t, *a, steps)?);
                    }
                }
                Some(_) => {}
            }
        }
        let mut paths: BTreeSet<Path> = BTreeSet::new();
        let mut texts = objects::Flips::new();
        for a in parts {
            let loaded = self.bodies.load(self.rows, self.t, a)?;
            // The summary beside the body may be from before the run was complete.
            let ends = ends_of(self.rows, self.t, a, &summary(self.rows, self.t, a)?)?;
            for (index, op) in loaded.1.ops.iter().enumerate() {
                for path in self.paths_of(&loaded, index, op)? {
                    let hidden = !has_effect(self.rows, self.t, &ends, &path, &loaded.0.author)?;
                    let key = history_key(&node_key(self.t, &path.key()), a, index as u32);
                    let Some(mut entry) = self.rows.get(Table::History, &key)?.map(|row| Entry::decode(&row)).transpose()? else { continue };
                    if entry.hidden == hidden {
                        continue;
                    }
                    entry.hidden = hidden;
                    self.rows.staged.put(Table::History, key, entry.encode());
                    let flipped = if hidden { &mut self.hidden } else { &mut self.revealed };
                    flipped.extend(&ends);
                    if matches!(op, Op::Text { .. } | Op::Inc { .. }) {
                        self.flip_object(&loaded.0, &loaded.1, (a, index as u32), op, hidden, &mut texts)?;
                    }
                    if matches!(op, Op::Move { .. }) {
                        self.flip_move(&loaded, index, op, hidden)?;
                        self.effect.touched.entry(path.clone()).or_default().moved = true;
                    }
                    paths.insert(path);
                }
            }
        }
        for (object, (path, changes)) in texts {
            self.bodies.texts.flip(self.rows, self.t, &object, path.key(), &changes)?;
        }
        self.tell_above()?;
        self.settling = true;
        for path in paths {
            self.settle(&path)?;
        }
        self.tell_above()?;
        self.settling = false;
        Ok(())
    }

    /// Where an op may have had an effect.
    fn paths_of(&mut self, loaded: &(Summary, Body), index: usize, op: &Op) -> Result<Vec<Path>, StorageError> {
        let (own, body) = loaded;
        let ids: Vec<OpId> = match op {
            Op::Set { path, .. } => return Ok(Bodies::resolve_path(own, body, path).into_iter().collect()),
            Op::Ins { .. } => vec![OpId { change: own.id, index: index as u32 }],
            Op::Del { preds, .. } => preds.iter().filter_map(|pred| Bodies::resolve(own, body, *pred)).collect(),
            Op::Move { elem, .. } => Bodies::resolve(own, body, *elem).into_iter().collect(),
            Op::Text { .. } | Op::Inc { .. } => return Ok(self.object_path(own, body, op)?.map(|made| made.path).into_iter().collect()),
            _ => Vec::new(),
        };
        let mut paths = BTreeSet::new();
        for id in ids {
            paths.extend(self.bodies.write_at(self.rows, self.t, id)?.map(|(path, _)| path));
        }
        Ok(paths.into_iter().collect())
    }

    /// Hides or shows a position that a move made.
    fn flip_move(&mut self, loaded: &(Summary, Body), index: usize, op: &Op, hidden: bool) -> Result<(), StorageError> {
        let (own, body) = loaded;
        let Op::Move { elem, .. } = op else { return Ok(()) };
        let Some(element) = Bodies::resolve(own, body, *elem) else { return Ok(()) };
        let Some(list) = self.bodies.write_at(self.rows, self.t, element)?.and_then(|(_, made)| made.list) else { return Ok(()) };
        let id = OpId { change: own.id, index: index as u32 };
        let key = position_key(self.t, &list, &id);
        if let Some(row) = self.rows.get(Table::Position, &key)? {
            let position = Position { hidden, ..Position::decode(id, &row)? };
            self.rows.staged.put(Table::Position, key, position.encode());
        }
        Ok(())
    }

    /// Works out from its history what is visible at a path.
    fn settle(&mut self, path: &Path) -> Result<(), StorageError> {
        let t_key = node_key(self.t, &path.key());
        let mut written: BTreeSet<(u64, u32)> = BTreeSet::new();
        let mut dead: HashSet<(u64, u32)> = HashSet::new();
        for row in self.rows.scan(Table::History, &history_prefix(&t_key), None) {
            let (key, value) = row?;
            let (_, a, index) = split_history_key(&key).ok_or(StorageError::Damaged { table: Table::History.name() })?;
            let entry = Entry::decode(&value)?;
            if !entry.hidden {
                if entry.writes {
                    written.insert((a, index));
                }
                dead.extend(entry.preds);
            }
        }
        let node = self.node(&t_key)?.node.clone();
        for write in node.visible(self.rows, &t_key, usize::MAX)? {
            let at = (write.a, write.id.index);
            if dead.contains(&at) || !written.remove(&at) {
                self.kill(path, &t_key, write.lamport, write.id)?;
            }
        }
        for (a, index) in written.into_iter().filter(|at| !dead.contains(at)) {
            let id = OpId { change: summary(self.rows, self.t, a)?.id, index };
            let found = self.bodies.write_at(self.rows, self.t, id)?;
            let (_, write) = found.ok_or(StorageError::Damaged { table: Table::History.name() })?;
            self.insert(path, t_key.clone(), write)?;
        }
        self.effect.touched.entry(path.clone()).or_default().text = None;
        self.touch(path, &t_key, 0)
    }

    /// The greatest changes, by view, with an op that has an effect at or below a path.
    fn version_of(&self, t_key: &[u8], ends: &mut HashMap<u64, Vec<u64>>) -> Result<Vec<u64>, StorageError> {
        let mut touched: BTreeSet<u64> = BTreeSet::new();
        for row in self.rows.scan(Table::History, t_key, None) {
            let (key, value) = row?;
            let (_, a, _) = split_history_key(&key).ok_or(StorageError::Damaged { table: Table::History.name() })?;
            if Entry::decode(&value)?.hidden {
                continue;
            }
            match ends.entry(a) {
                MapEntry::Occupied(known) => touched.extend(known.get()),
                MapEntry::Vacant(new) => touched.extend(&*new.insert(ends_of(self.rows, self.t, a, &summary(self.rows, self.t, a)?)?)),
            }
        }
        let mut version: Vec<u64> = Vec::new();
        let mut seen = View::default();
        for a in touched.into_iter().rev() {
            if !seen.contains(a) {
                seen.join(View::of(self.rows, self.t, &[a])?);
                version.push(a);
            }
        }
        version.reverse();
        Ok(version)
    }

    /// Writes all nodes back, on top of which `a` now stands, if a change was applied.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn finish(mut self, a: Option<u64>) -> Result<Effect, StorageError> {
        self.tell_above()?;
        let mut view: Option<View> = None;
        let mut ends: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut reshaped: BTreeMap<Vec<u8>, (Option<Shape>, Option<Shape>)> = BTreeMap::new();
        for (t_key, loaded) in std::mem::take(&mut self.nodes) {
            let Loaded { mut node, before, touched, flipped } = loaded;
            if !touched && !flipped {
                continue;
            }
            // What was not among the greatest leaves the greatest as they are when it goes.
            if flipped && (!self.revealed.is_empty() || node.touch.has_any(self.rows, &t_key, &self.hidden)?) {
                let version = self.version_of(&t_key, &mut ends)?;
                node.touch.replace(self.rows, &t_key, version)?;
            } else if let Some(a) = a.filter(|_| touched) {
                if !node.touch.is(&[]) && !node.touch.is(&[a]) {
                    let known = self.bodies.latest.back().filter(|latest| latest.t == self.t && latest.a == a && latest.is_view);
                    // The change itself is among the greatest whether it is in the view or not.
                    if known.is_none() && view.is_none() {
                        view = Some(View::of(self.rows, self.t, &[a])?);
                    }
                    if let Some(seen) = known.map(|latest| &latest.past).or(view.as_ref()) {
                        node.touch.advance(self.rows, &t_key, seen, a)?;
                    }
                } else {
                    node.touch = Touch::Here(vec![a]);
                }
            }
            if node.below == 0 {
                node.loose = false;
            }
            let winner = node.winner(self.rows, &t_key)?;
            let after = outline(&node, winner.as_ref().map(|write| &write.value));
            if after != before || after.is_none() {
                reshaped.insert(t_key[4..].to_vec(), (before, after));
            }
            match &node.touch {
                Touch::Here(touch) if a.is_some_and(|a| *touch == [a]) => {}
                Touch::Here(touch) => drop(self.effect.versions.insert(t_key[4..].to_vec(), touch.clone())),
                Touch::Many { .. } => drop(self.effect.many.insert(t_key[4..].to_vec())),
            }
            self.rows.staged.put(Table::Node, t_key, node.encode());
        }
        if !reshaped.is_empty() {
            for (path, touched) in &mut self.effect.touched {
                let mut key = Vec::new();
                for depth in 0..=path.segments().len() {
                    if let Some((before, after)) = reshaped.get(&key) {
                        touched.reshaped = Some((depth, *before, *after));
                        break;
                    }
                    if let Some(segment) = path.segments().get(depth) {
                        segment.push_key(&mut key);
                    }
                }
            }
        }
        Ok(self.effect)
    }
}

/// Paths that belong to the system or to other timelines, where an op of `main` has no effect.
#[must_use]
pub fn is_reserved(path: &Path) -> bool {
    matches!(path.segments().first(), Some(Segment::Name(name)) if matches!(&**name, ".sys" | ".auth" | ".drop"))
}

/// Where the ops of a change count.
struct Right<'a> {
    /// Where its cap allows them.
    reach: &'a Reach,
    /// Of a change that is not rooted, where they have an effect.
    shows: Option<&'a Scopes>,
}

impl Right<'_> {
    fn hides(&self, path: &Path, author: &PublicKey) -> bool {
        self.shows.is_some_and(|shows| !shows.cover(path, author))
    }
}

/// What a change may refer to.
#[derive(Debug)]
pub(crate) struct Seen {
    a: u64,
    /// Its base's view; `None` when that is everything before it.
    view: Option<View>,
    /// Everything before it; `None` when that is all that had arrived.
    past: Option<View>,
}

impl Seen {
    fn new(rows: &Layered, bodies: &mut Bodies, t: u32, a: u64, own: &Summary) -> Result<Self, StorageError> {
        let past = if own.total { None } else { Some(bodies.past_of(rows, t, &own.deps)?) };
        let view = match &own.base {
            Some(base) => Some(View::of(rows, t, base)?),
            None => None,
        };
        Ok(Self { a, view, past })
    }

    /// For questions about the past alone.
    pub(crate) fn of_past(rows: &impl Rows, t: u32, a: u64, own: &Summary) -> Result<Self, StorageError> {
        let past = if own.total { None } else { Some(View::past_of(rows, t, &own.deps)?) };
        Ok(Self { a, view: None, past })
    }

    /// Whether another change is before `op`, which is of `own`.
    pub(crate) fn has(&self, rows: &impl Rows, t: u32, own: &Summary, op: OpId, change: &ChangeId) -> Result<bool, StorageError> {
        Ok(*change != own.id && self.past(rows, t, own, op, OpId { change: *change, index: 0 })?.is_some())
    }

    /// Arrival number and Lamport clock of the change that holds `id`, if that was before `op`, which is of `own`.
    fn past(&self, rows: &impl Rows, t: u32, own: &Summary, op: OpId, id: OpId) -> Result<Option<(u64, u64)>, StorageError> {
        if id.change == own.id {
            return Ok((id.index < op.index).then_some((self.a, own.lamport)));
        }
        let Some((found, a)) = find(rows, &id.change)? else { return Ok(None) };
        if found != t || a >= self.a || self.past.as_ref().is_some_and(|past| !past.contains(a)) {
            return Ok(None);
        }
        let other = summary(rows, t, a)?;
        let same_run = match (own.part, other.part) {
            (Some((at, count)), Some((number, of))) if of == count && number < at => back(rows, t, self.a, at - number)? == Some(a),
            _ => false,
        };
        // A part counts for others once the last part of its run is in their past.
        let in_past = |last| last < self.a && self.past.as_ref().is_none_or(|past| past.contains(last));
        let counts = same_run || ends_within(rows, t, a, &other, in_past)?;
        Ok(counts.then_some((a, other.lamport)))
    }

    /// As [`Seen::past`], and the writer had seen it.
    fn find(&self, rows: &Layered, t: u32, own: &Summary, op: OpId, id: OpId) -> Result<Option<(u64, u64)>, StorageError> {
        let found = self.past(rows, t, own, op, id)?;
        Ok(found.filter(|(a, _)| *a == self.a || self.view.as_ref().is_none_or(|view| view.contains(*a))))
    }
}
