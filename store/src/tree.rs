//! A subtree as its readers see it: the visible writes, put together by name and in list order.

use std::collections::BTreeMap;

use crate::ids::OpId;
use crate::json::Json;
use crate::keyspace::{Rows, Table};
use crate::list::Order;
use crate::node::{Entry, Node, Write, list_of_element, node_key, split_history_key};
use crate::objects::fill;
use crate::path::{Path, Segment};
use crate::plan::members_of;
use crate::store::StorageError;
use crate::summary::{find, summary};
use crate::value::Value;
use crate::view::View;

mod members;

pub use members::{child_names, child_names_after, child_names_before, members_after, members_before, members_up_to};

/// Most concurrent writes of one slot that are read at once.
pub const CONFLICT_PAGE: usize = 100;

/// A node and what is below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The visible writes here, the winner first.
    pub writes: Vec<Write>,
    /// What is below, by name.
    pub names: BTreeMap<Box<str>, Tree>,
    /// The list whose elements show here.
    pub list: Option<OpId>,
    /// Its visible elements in order.
    pub elements: Vec<(OpId, Tree)>,
    /// Visible writes below that do not show: elements of other lists.
    pub hidden: Vec<Write>,
    /// Whether more is below than was read.
    pub partial: bool,
}

/// What a node looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing is here.
    Absent,
    /// A value without parts.
    Scalar,
    /// Names and values.
    Object,
    /// Elements in order.
    List,
}

impl Tree {
    /// Reads the subtree at `path` as it is now, with at most `writes_max` concurrent writes of one slot.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn load(rows: &impl Rows, t: u32, path: &Path, writes_max: usize) -> Result<Self, StorageError> {
        let key = path.key();
        let prefix = node_key(t, &key);
        let node = Node::load(rows, &prefix)?;
        if node.below == 0 {
            let mut writes = node.visible(rows, &prefix, writes_max)?;
            fill(rows, t, None, &mut writes)?;
            let list = writes.first().filter(|write| write.value == Value::List).map(|write| write.id);
            return Ok(Self { writes, list, ..Self::default() });
        }
        let mut builder = Builder::new(rows, t, key.len(), None);
        add_now(&mut builder, &prefix, writes_max)?;
        builder.finish(&prefix)
    }

    /// As [`Tree::load`], but only as much as merging `patch` can touch: the slots on the way to what it names,
    /// and what is there. Nodes of which more exists are marked [`Tree::partial`].
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn load_for_merge(rows: &impl Rows, t: u32, path: &Path, patch: &Json, space: &timebus_identity::PublicKey) -> Result<Self, StorageError> {
        let key = path.key();
        let mut builder = Builder::new(rows, t, key.len(), None);
        let mut open = vec![(path.clone(), patch)];
        while let Some((path, patch)) = open.pop() {
            let t_key = node_key(t, &path.key());
            let node = Node::load(rows, &t_key)?;
            let list = node.loose || node.winner(rows, &t_key)?.is_some_and(|write| write.value == Value::List);
            let Some(members) = members_of(patch, &path, space).filter(|_| !list) else {
                add_now(&mut builder, &t_key, usize::MAX)?;
                continue;
            };
            let raw = builder.raw(&t_key[4..])?;
            raw.partial = node.below > 0;
            raw.writes = node.visible(rows, &t_key, usize::MAX)?;
            fill(rows, t, None, &mut raw.writes)?;
            for (name, value) in members {
                open.extend(Segment::name(name).ok().and_then(|segment| path.join(segment).ok()).map(|child| (child, value)));
            }
        }
        builder.finish(&node_key(t, &key))
    }

    /// Reads the subtree at `path` as the writers of a view saw it. `write_of` finds a write by arrival number
    /// and op index.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn load_at(
        rows: &impl Rows,
        t: u32,
        path: &Path,
        view: &View,
        writes_max: usize,
        mut write_of: impl FnMut(u64, u32) -> Result<Write, StorageError>,
    ) -> Result<Self, StorageError> {
        let key = path.key();
        let prefix = node_key(t, &key);
        let mut builder = Builder::new(rows, t, key.len(), Some(view));
        History { rows, t, view, writes_max, counted: Default::default() }.add(&mut builder, &prefix, &prefix, &mut write_of)?;
        builder.finish(&prefix)
    }

    /// The visible writes of one node, without what is below, as the writers of a view saw it.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn slot_at(
        rows: &impl Rows,
        t: u32,
        path: &Path,
        view: &View,
        mut write_of: impl FnMut(u64, u32) -> Result<Write, StorageError>,
    ) -> Result<Vec<Write>, StorageError> {
        let key = path.key();
        let t_key = node_key(t, &key);
        let own: Vec<u8> = t_key.iter().copied().chain([0]).collect();
        let mut builder = Builder::new(rows, t, key.len(), Some(view));
        History { rows, t, view, writes_max: CONFLICT_PAGE, counted: Default::default() }.add(&mut builder, &t_key, &own, &mut write_of)?;
        Ok(builder.root.writes)
    }

    /// As [`Tree::load_at`], but only as much as merging `patch` can touch.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn load_at_for_merge(
        rows: &impl Rows,
        t: u32,
        path: &Path,
        patch: &Json,
        space: &timebus_identity::PublicKey,
        view: &View,
        mut write_of: impl FnMut(u64, u32) -> Result<Write, StorageError>,
    ) -> Result<Self, StorageError> {
        let key = path.key();
        let mut builder = Builder::new(rows, t, key.len(), Some(view));
        let mut history = History { rows, t, view, writes_max: usize::MAX, counted: Default::default() };
        let mut open = vec![(path.clone(), patch)];
        while let Some((path, patch)) = open.pop() {
            let t_key = node_key(t, &path.key());
            let Some(members) = members_of(patch, &path, space) else {
                history.add(&mut builder, &t_key, &t_key, &mut write_of)?;
                continue;
            };
            let own: Vec<u8> = t_key.iter().copied().chain([0]).collect();
            history.add(&mut builder, &t_key, &own, &mut write_of)?;
            let raw = builder.raw(&t_key[4..])?;
            if raw.writes.first().is_some_and(|write| write.value != Value::Map) {
                history.add(&mut builder, &t_key, &t_key, &mut write_of)?;
                continue;
            }
            // Names begin behind the elements of lists.
            let below: Vec<u8> = t_key.iter().copied().chain([1]).collect();
            let more = rows.scan(Table::History, &t_key, Some(&below)).next().transpose()?.is_some();
            builder.raw(&t_key[4..])?.partial = more;
            for (name, value) in members {
                open.extend(Segment::name(name).ok().and_then(|segment| path.join(segment).ok()).map(|child| (child, value)));
            }
        }
        builder.finish(&node_key(t, &key))
    }

    /// Whether nothing is here.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.shape() == Shape::Absent
    }

    /// What it looks like from outside.
    #[must_use]
    pub fn shape(&self) -> Shape {
        if self.list.is_some() {
            return Shape::List;
        }
        if !self.names.is_empty() || self.partial {
            return Shape::Object;
        }
        match self.writes.first().map(|write| &write.value) {
            None => Shape::Absent,
            Some(Value::Map) => Shape::Object,
            Some(Value::List) => Shape::List,
            Some(_) => Shape::Scalar,
        }
    }

    /// Whether several writers' values meet here without one having seen the other.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        let Some(winner) = self.writes.first() else { return false };
        let below = !self.names.is_empty() || self.list.is_some();
        self.writes[1..].iter().any(|write| write.value != winner.value || winner.value == Value::List)
            || (below && self.writes.iter().any(|write| !write.value.is_container()))
            || !self.hidden.is_empty()
    }

    /// Nodes in conflict, here and below.
    #[must_use]
    pub fn conflicts(&self) -> usize {
        usize::from(self.is_conflict()) + self.children().map(Tree::conflicts).sum::<usize>()
    }

    /// The subtrees one step below that show.
    pub fn children(&self) -> impl Iterator<Item = &Tree> {
        self.names.values().chain(self.elements.iter().map(|(_, tree)| tree))
    }

    /// Every visible write here and below, shown or not.
    pub fn all_writes<'a>(&'a self, into: &mut Vec<&'a Write>) {
        into.extend(&self.writes);
        into.extend(&self.hidden);
        self.children().for_each(|child| child.all_writes(into));
    }

    /// Every visible write strictly below.
    pub fn writes_below<'a>(&'a self, into: &mut Vec<&'a Write>) {
        into.extend(&self.hidden);
        self.children().for_each(|child| child.all_writes(into));
    }
}

/// Adds all nodes of a subtree as they are now.
fn add_now<R: Rows>(builder: &mut Builder<'_, R>, prefix: &[u8], writes_max: usize) -> Result<(), StorageError> {
    for row in builder.rows.scan(Table::Node, prefix, None) {
        let (t_key, value) = row?;
        let node = Node::decode(&value)?;
        if node.count() > 0 {
            builder.add(&t_key[4..], node.visible(builder.rows, &t_key, writes_max)?)?;
        }
    }
    Ok(())
}

/// Folds the history of nodes under a view.
struct History<'a, R> {
    rows: &'a R,
    t: u32,
    view: &'a View,
    writes_max: usize,
    /// Whether changes count in the view, as far as that was asked.
    counted: std::collections::HashMap<u64, bool>,
}

impl<R: Rows> History<'_, R> {
    /// Adds the nodes whose rows begin with `prefix`, which is the key of `root` or, for that node alone, its own rows.
    fn add(
        &mut self,
        builder: &mut Builder<'_, R>,
        root: &[u8],
        prefix: &[u8],
        write_of: &mut impl FnMut(u64, u32) -> Result<Write, StorageError>,
    ) -> Result<(), StorageError> {
        let mut at: Vec<u8> = root.to_vec();
        let mut entries: Vec<(u64, u32, Entry)> = Vec::new();
        for row in self.rows.scan(Table::History, prefix, None) {
            let (history_key, value) = row?;
            let (t_key, a, index) = split_history_key(&history_key).ok_or(StorageError::Damaged { table: Table::History.name() })?;
            if t_key != at {
                self.settle(builder, &at, &mut entries, write_of)?;
                at = t_key.to_vec();
            }
            let counts = match self.counted.get(&a) {
                Some(counts) => *counts,
                None => *self.counted.entry(a).or_insert(self.view.counts(self.rows, self.t, a)?),
            };
            let entry = Entry::decode(&value)?;
            if counts && !entry.hidden {
                entries.push((a, index, entry));
            }
        }
        self.settle(builder, &at, &mut entries, write_of)
    }

    fn settle(
        &self,
        builder: &mut Builder<'_, R>,
        at: &[u8],
        entries: &mut Vec<(u64, u32, Entry)>,
        write_of: &mut impl FnMut(u64, u32) -> Result<Write, StorageError>,
    ) -> Result<(), StorageError> {
        let dead: std::collections::HashSet<(u64, u32)> = entries.iter().flat_map(|(_, _, entry)| entry.preds.iter().copied()).collect();
        let mut writes = Vec::new();
        for (a, index, entry) in entries.drain(..) {
            if entry.writes && !dead.contains(&(a, index)) {
                writes.push(write_of(a, index)?);
            }
        }
        if !writes.is_empty() {
            writes.sort_by_key(|write| std::cmp::Reverse(write.stamp()));
            writes.truncate(self.writes_max);
            builder.add(&at[4..], writes)?;
        }
        Ok(())
    }
}

/// Puts a tree together from nodes.
struct Builder<'a, R> {
    rows: &'a R,
    t: u32,
    /// Length of the root's key.
    base: usize,
    /// Whose positions of list elements count; everybody's when absent.
    view: Option<&'a View>,
    root: Raw,
}

/// A tree before lists are put in order.
#[derive(Default)]
struct Raw {
    writes: Vec<Write>,
    names: BTreeMap<Box<str>, Raw>,
    elements: BTreeMap<OpId, Raw>,
    partial: bool,
}

impl<'a, R: Rows> Builder<'a, R> {
    fn new(rows: &'a R, t: u32, base: usize, view: Option<&'a View>) -> Self {
        Self { rows, t, base, view, root: Raw::default() }
    }

    fn add(&mut self, key: &[u8], mut writes: Vec<Write>) -> Result<(), StorageError> {
        fill(self.rows, self.t, self.view, &mut writes)?;
        self.raw(key)?.writes = writes;
        Ok(())
    }

    fn raw(&mut self, key: &[u8]) -> Result<&mut Raw, StorageError> {
        let mut node = &mut self.root;
        let mut rest = &key[self.base..];
        while !rest.is_empty() {
            let (segment, tail) = Segment::split_key(rest).ok_or(StorageError::Damaged { table: Table::Node.name() })?;
            node = match segment {
                Segment::Name(name) => node.names.entry(name).or_default(),
                Segment::Element(id) => node.elements.entry(id).or_default(),
            };
            rest = tail;
        }
        Ok(node)
    }

    fn finish(self, t_key: &[u8]) -> Result<Tree, StorageError> {
        settle(self.rows, self.t, self.view, self.root, &mut t_key.to_vec())
    }
}

/// Decides which list shows and in which order. `t_key` is the node's key, given back as it was.
fn settle(rows: &impl Rows, t: u32, view: Option<&View>, raw: Raw, t_key: &mut Vec<u8>) -> Result<Tree, StorageError> {
    let Raw { writes, names, elements, partial } = raw;
    let mut tree = Tree { writes, partial, ..Tree::default() };
    let len = t_key.len();
    for (name, child) in names {
        let segment = Segment::Name(name);
        segment.push_key(t_key);
        let child = settle(rows, t, view, child, t_key)?;
        t_key.truncate(len);
        if child.is_absent() {
            child.all_writes_owned(&mut tree.hidden);
        } else if let Segment::Name(name) = segment {
            tree.names.insert(name, child);
        }
    }
    let winner = tree.writes.first();
    let winner_list = winner.filter(|write| write.value == Value::List).map(|write| write.id);
    if elements.is_empty() && winner_list.is_none() {
        return Ok(tree);
    }
    let mut by_list: BTreeMap<Option<OpId>, BTreeMap<OpId, Tree>> = BTreeMap::new();
    for (id, raw) in elements {
        Segment::Element(id).push_key(t_key);
        let list = match raw.writes.iter().find_map(|write| write.list) {
            Some(list) => Some(list),
            None => list_of_element(rows, t, t_key, &id)?,
        };
        let child = settle(rows, t, view, raw, t_key)?;
        t_key.truncate(len);
        if child.is_absent() {
            child.all_writes_owned(&mut tree.hidden);
        } else {
            by_list.entry(list).or_default().insert(id, child);
        }
    }
    // Without a winning list, elements that outlived their list show as the greatest one, unless names do.
    let structure = !tree.names.is_empty() || tree.writes.first().is_some_and(|write| write.value == Value::Map);
    tree.list = match winner_list {
        None if !structure => greatest(rows, t, by_list.keys().flatten())?,
        winner => winner,
    };
    if let Some(list) = tree.list {
        for (_, child) in std::mem::take(&mut tree.names) {
            child.all_writes_owned(&mut tree.hidden);
        }
        if let Some(mut elements) = by_list.remove(&Some(list)) {
            let order = Order::load(rows, t, &list)?;
            let shown = match view {
                None => order.elements(),
                Some(view) => order.elements_in(|position| match find(rows, &position.id.change)? {
                    Some((_, a)) => view.counts(rows, t, a),
                    None => Ok(false),
                })?,
            };
            for id in shown {
                tree.elements.extend(elements.remove(&id).map(|child| (id, child)));
            }
            // Elements that nobody of the view had inserted, below which somebody wrote.
            elements.into_values().for_each(|child| child.all_writes_owned(&mut tree.hidden));
        }
    }
    for child in by_list.into_values().flat_map(BTreeMap::into_values) {
        child.all_writes_owned(&mut tree.hidden);
    }
    Ok(tree)
}

/// The list with the greatest stamp.
fn greatest<'a>(rows: &impl Rows, t: u32, lists: impl Iterator<Item = &'a OpId>) -> Result<Option<OpId>, StorageError> {
    let mut best: Option<(u64, OpId)> = None;
    for list in lists {
        if let Some((_, a)) = find(rows, &list.change)? {
            best = best.max(Some((summary(rows, t, a)?.lamport, *list)));
        }
    }
    Ok(best.map(|(_, list)| list))
}

impl Tree {
    fn all_writes_owned(self, into: &mut Vec<Write>) {
        into.extend(self.writes);
        into.extend(self.hidden);
        self.names.into_values().chain(self.elements.into_iter().map(|(_, tree)| tree)).for_each(|child| child.all_writes_owned(into));
    }
}

/// How values are shown.
#[derive(Clone, Copy, Debug)]
pub struct Show<'a> {
    /// Links into this space are written without it.
    pub space: &'a timebus_identity::PublicKey,
    /// Whether nodes in conflict show every value.
    pub all: bool,
}

impl Tree {
    /// Appends the JSON form; an absent tree appends nothing and answers `false`.
    pub fn write_json(&self, show: Show<'_>, out: &mut Vec<u8>) -> bool {
        if self.is_absent() {
            return false;
        }
        if show.all && self.is_conflict() {
            self.write_conflict(show, out);
        } else {
            self.write_winner(show, out);
        }
        true
    }

    fn write_winner(&self, show: Show<'_>, out: &mut Vec<u8>) {
        match self.shape() {
            Shape::Absent => {}
            Shape::Scalar => {
                if let Some(write) = self.writes.first() {
                    write_value(&write.value, show.space, out);
                }
            }
            Shape::Object => {
                out.push(b'{');
                for (at, (name, child)) in self.names.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    crate::json::write_string(name, out);
                    out.push(b':');
                    child.write_json(show, out);
                }
                out.push(b'}');
            }
            Shape::List => {
                out.push(b'[');
                for (at, (_, child)) in self.elements.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    child.write_json(show, out);
                }
                out.push(b']');
            }
        }
    }

    fn write_conflict(&self, show: Show<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"@conflict\":[");
        let structure = matches!(self.shape(), Shape::Object | Shape::List);
        if structure {
            out.extend_from_slice(b"{\"value\":");
            self.write_winner(show, out);
            out.push(b'}');
        }
        let others = self.writes.iter().filter(|write| !(structure && write.value.is_container()));
        for (at, write) in others.enumerate() {
            if structure || at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"value\":");
            write_value(&write.value, show.space, out);
            out.extend_from_slice(format!(",\"id\":\"{}\",\"lamport\":{}}}", write.id, write.lamport).as_bytes());
        }
        out.extend_from_slice(b"]}");
    }

    /// The JSON form as a value; `None` when absent.
    #[must_use]
    pub fn to_json(&self, space: &timebus_identity::PublicKey) -> Option<Json> {
        match self.shape() {
            Shape::Absent => None,
            Shape::Scalar => self.writes.first().map(|write| value_json(&write.value, space)),
            Shape::Object => {
                Some(Json::Object(self.names.iter().filter_map(|(name, child)| Some((name.to_string(), child.to_json(space)?))).collect()))
            }
            Shape::List => Some(Json::Array(self.elements.iter().filter_map(|(_, child)| child.to_json(space)).collect())),
        }
    }
}

/// The JSON form of one value.
#[must_use]
pub fn value_json(value: &Value, own_space: &timebus_identity::PublicKey) -> Json {
    let object = |members: [(&str, Json); 2]| Json::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    match value {
        Value::Null => Json::Null,
        Value::Text { content, .. } => Json::String(content.as_ref().map_or_else(String::new, |content| content.text.clone())),
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) | Value::Counter(n) => Json::Int(*n),
        Value::Float(n) => Json::Float(*n),
        Value::String(text) => Json::String(text.to_string()),
        Value::Opaque(json) => json.clone(),
        Value::Map => Json::Object(BTreeMap::new()),
        Value::List => Json::Array(Vec::new()),
        Value::Bytes { mime, bytes } => match std::str::from_utf8(bytes) {
            Ok(text) if mime.is_text() => Json::String(text.to_owned()),
            _ => object([("@bytes", Json::String(base64(bytes))), ("@type", Json::String(mime.as_str().to_owned()))]),
        },
        Value::Blob { hash, len, mime } => {
            let Json::Object(mut members) =
                object([("@blob", Json::String(timebus_identity::z32::encode(hash))), ("@type", Json::String(mime.as_str().to_owned()))])
            else {
                return Json::Null;
            };
            members.insert("@bytes_total".to_owned(), Json::number(*len as f64).unwrap_or(Json::Null));
            Json::Object(members)
        }
        Value::Link { space, path } => {
            let target = if space == own_space { path.to_string() } else { format!("/@{space}{path}") };
            Json::Object([("link".to_owned(), Json::String(target))].into())
        }
    }
}

fn write_value(value: &Value, own_space: &timebus_identity::PublicKey, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => crate::json::write_string(text, out),
        Value::Text { content: Some(content), .. } => crate::json::write_string(&content.text, out),
        other => value_json(other, own_space).write(out),
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
