//! What is visible at one path.
//!
//! A node usually has no or one visible write, which stands in its row. With more, which is a conflict, all of
//! them are rows of [`Table::Live`] in the order in which they win, so that a slot with 100 000 concurrent values
//! costs one row per value and its winner is still the first row of a scan. So it is with a version of very many changes,
//! of a wall where everybody wrote who knew of nobody else: it is rows of [`Table::Touch`].

use std::collections::BTreeSet;

use fjall::Slice;

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{ChangeId, OpId};
use crate::keyspace::{Layered, Rows, Staged, Table};
use crate::store::StorageError;
use crate::value::Value;
use crate::view::{View, advance};

/// A write that nothing has replaced yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Lamport clock of its change.
    pub lamport: u64,
    /// Arrival number of its change.
    pub a: u64,
    /// The op.
    pub id: OpId,
    /// The list it was inserted into, for a list element.
    pub list: Option<OpId>,
    /// What it wrote.
    pub value: Value,
}

impl Write {
    /// What decides which of several writes wins: the greatest stamp.
    #[must_use]
    pub fn stamp(&self) -> (u64, OpId) {
        (self.lamport, self.id)
    }

    fn encode(&self, out: &mut Writer) {
        out.var(self.lamport);
        out.var(self.a);
        encode_op_id(&self.id, out);
        out.flag(self.list.is_some());
        if let Some(list) = &self.list {
            encode_op_id(list, out);
        }
        self.value.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lamport: input.var(u64::MAX, "lamport")?,
            a: input.var(u64::MAX, "arrival")?,
            id: decode_op_id(input)?,
            list: if input.flag("list")? { Some(decode_op_id(input)?) } else { None },
            value: Value::decode(input)?,
        })
    }
}

pub(crate) fn encode_op_id(id: &OpId, out: &mut Writer) {
    out.raw(id.change.as_bytes());
    out.var(u64::from(id.index));
}

pub(crate) fn decode_op_id(input: &mut Reader<'_>) -> Result<OpId, DecodeError> {
    Ok(OpId { change: ChangeId(input.array("change")?), index: input.var(u64::from(u32::MAX), "op index")? as u32 })
}

/// The visible writes of a node.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Writes {
    /// None.
    #[default]
    None,
    /// One, here.
    One(Write),
    /// So many, at least two, in [`Table::Live`].
    Many(u64),
}

/// Most changes of a version that stand in the row of its node, which is written anew with each change.
pub const TOUCH_MAX: usize = 128;

/// The version of a node: arrival numbers of the greatest changes, by view, that touched it or something below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    /// These, ascending.
    Here(Vec<u64>),
    /// More, in [`Table::Touch`].
    Many {
        /// How many.
        count: u64,
        /// None of them arrived before this.
        first: u64,
    },
}

impl Default for Touch {
    fn default() -> Self {
        Self::Here(Vec::new())
    }
}

impl Touch {
    /// All of them, ascending.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn all(&self, rows: &impl Rows, t_key: &[u8]) -> Result<Vec<u64>, StorageError> {
        match self {
            Self::Here(touch) => Ok(touch.clone()),
            Self::Many { first, .. } => Self::scan(rows, t_key, *first, u64::MAX),
        }
    }

    /// Those that are rows, of a stretch of arrival numbers.
    fn scan(rows: &impl Rows, t_key: &[u8], from: u64, to: u64) -> Result<Vec<u64>, StorageError> {
        let found = rows.scan(Table::Touch, &live_prefix(t_key), Some(&touch_key(t_key, from)));
        let found = found.map(|row| Ok(row?.0.last_chunk::<8>().map_or(0, |a| u64::from_be_bytes(*a))));
        found.take_while(|a| a.as_ref().map_or(true, |a| *a <= to)).collect()
    }

    /// Whether it is these changes, ascending. Many are not written down to be compared with few.
    #[must_use]
    pub fn is(&self, changes: &[u64]) -> bool {
        matches!(self, Self::Here(touch) if touch == changes)
    }

    /// Whether a change is one of them.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn has(&self, rows: &impl Rows, t_key: &[u8], a: u64) -> Result<bool, StorageError> {
        match self {
            Self::Here(touch) => Ok(touch.binary_search(&a).is_ok()),
            Self::Many { .. } => Ok(rows.get(Table::Touch, &touch_key(t_key, a))?.is_some()),
        }
    }

    /// Whether any of some changes is one of them. It costs as much as there are of the fewer.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn has_any(&self, rows: &impl Rows, t_key: &[u8], changes: &BTreeSet<u64>) -> Result<bool, StorageError> {
        match self {
            Self::Many { count, .. } if changes.len() as u64 <= *count => {
                for a in changes {
                    if self.has(rows, t_key, *a)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Ok(self.all(rows, t_key)?.iter().any(|a| changes.contains(a))),
        }
    }

    /// Puts others, ascending, in the place of all.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn replace(&mut self, rows: &mut Layered, t_key: &[u8], touch: Vec<u64>) -> Result<(), StorageError> {
        if matches!(self, Self::Many { .. }) {
            for a in self.all(rows, t_key)? {
                rows.staged.delete(Table::Touch, touch_key(t_key, a));
            }
        }
        *self = Self::Here(touch);
        self.spill(rows, t_key);
        Ok(())
    }

    /// Puts a change on top: those that its view has go, it comes. It costs what goes, however many stay.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn advance(&mut self, rows: &mut Layered, t_key: &[u8], view: &View, a: u64) -> Result<(), StorageError> {
        let (mut count, mut first) = match self {
            Self::Here(touch) => {
                advance(touch, view, a);
                self.spill(rows, t_key);
                return Ok(());
            }
            Self::Many { count, first } => (*count, *first),
        };
        let mut gone = Vec::new();
        for (from, to) in view.stretches() {
            if to < first || (from, to) == (a, a) {
                continue;
            }
            gone.extend(Self::scan(rows, t_key, from.max(first), to)?);
            if from <= first {
                first = to + 1;
            }
        }
        if (view.single().len() as u64) < count {
            for single in view.single() {
                if self.has(rows, t_key, *single)? {
                    gone.push(*single);
                }
            }
        } else {
            let all = Self::scan(rows, t_key, first, u64::MAX)?;
            gone.extend(all.into_iter().filter(|one| view.single().contains(one)));
        }
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|one| *one != a);
        for one in &gone {
            rows.staged.delete(Table::Touch, touch_key(t_key, *one));
        }
        count = count.saturating_sub(gone.len() as u64) + u64::from(!self.has(rows, t_key, a)?);
        rows.staged.put(Table::Touch, touch_key(t_key, a), Vec::new());
        *self = Self::Many { count, first: first.min(a) };
        if count <= TOUCH_MAX as u64 / 2 {
            let all = self.all(rows, t_key)?;
            self.replace(rows, t_key, all)?;
        }
        Ok(())
    }

    /// Has more than fit the row of the node be rows of their own.
    fn spill(&mut self, rows: &mut Layered, t_key: &[u8]) {
        if let Self::Here(touch) = self
            && touch.len() > TOUCH_MAX
        {
            for a in &*touch {
                rows.staged.put(Table::Touch, touch_key(t_key, *a), Vec::new());
            }
            *self = Self::Many { count: touch.len() as u64, first: touch[0] };
        }
    }
}

/// The row of one path.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Node {
    /// Visible writes at this path.
    pub writes: Writes,
    /// Number of visible writes strictly below.
    pub below: u64,
    /// Whether list elements may show here although no list wins; then only a look at the whole node tells.
    pub loose: bool,
    /// The path's version.
    pub touch: Touch,
}

impl Node {
    /// Visible writes at this path.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.writes {
            Writes::None => 0,
            Writes::One(_) => 1,
            Writes::Many(count) => *count,
        }
    }

    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.var(self.below);
        out.u8(u8::from(self.loose) | u8::from(matches!(self.touch, Touch::Many { .. })) << 1);
        out.var(self.count());
        if let Writes::One(write) = &self.writes {
            write.encode(&mut out);
        }
        match &self.touch {
            Touch::Here(touch) => {
                out.var(touch.len() as u64);
                touch.iter().for_each(|a| out.var(*a));
            }
            Touch::Many { count, first } => {
                out.var(*count);
                out.var(*first);
            }
        }
        out.into_bytes()
    }

    /// Reads a row's value.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met: the row is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let below = input.var(u64::MAX, "below")?;
        let flags = input.u8("node")?;
        if flags >= 1 << 2 {
            return Err(DecodeError::Invalid { field: "node" });
        }
        let loose = flags & 1 != 0;
        let writes = match input.var(u64::MAX, "writes")? {
            0 => Writes::None,
            1 => Writes::One(Write::decode(&mut input)?),
            count => Writes::Many(count),
        };
        let touch = match flags & 2 {
            0 => Touch::Here((0..input.count(TOUCH_MAX, "touch")?).map(|_| input.var(u64::MAX, "arrival")).collect::<Result<_, _>>()?),
            _ => Touch::Many { count: input.var(u64::MAX, "touch")?, first: input.var(u64::MAX, "arrival")? },
        };
        input.finish()?;
        Ok(Self { writes, below, loose, touch })
    }

    /// Reads the node at `t ‖ key`; a path never touched is an empty node.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn load(rows: &impl Rows, t_key: &[u8]) -> Result<Self, StorageError> {
        Ok(match rows.get(Table::Node, t_key)? {
            Some(row) => Self::decode(&row)?,
            None => Self::default(),
        })
    }

    /// The visible writes, the winner first, at most `max`.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn visible(&self, rows: &impl Rows, t_key: &[u8], max: usize) -> Result<Vec<Write>, StorageError> {
        match &self.writes {
            Writes::None => Ok(Vec::new()),
            Writes::One(write) => Ok(vec![write.clone()]),
            Writes::Many(_) => rows.scan(Table::Live, &live_prefix(t_key), None).take(max).map(|row| decode_live(&row?.1)).collect(),
        }
    }

    /// The write that wins.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn winner(&self, rows: &impl Rows, t_key: &[u8]) -> Result<Option<Write>, StorageError> {
        Ok(self.visible(rows, t_key, 1)?.pop())
    }

    /// The path's version, ascending.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn version(&self, rows: &impl Rows, t_key: &[u8]) -> Result<Vec<u64>, StorageError> {
        self.touch.all(rows, t_key)
    }

    /// Makes a write visible.
    pub fn insert(&mut self, staged: &mut Staged, t_key: &[u8], write: Write) {
        self.writes = match std::mem::take(&mut self.writes) {
            Writes::None => Writes::One(write),
            Writes::One(other) => {
                stage_live(staged, t_key, &other);
                stage_live(staged, t_key, &write);
                Writes::Many(2)
            }
            Writes::Many(count) => {
                stage_live(staged, t_key, &write);
                Writes::Many(count + 1)
            }
        };
    }
}

/// Takes a visible write away; says whether it was visible.
///
/// # Errors
///
/// [`StorageError`].
pub fn remove(node: &mut Node, rows: &mut crate::keyspace::Layered, t_key: &[u8], lamport: u64, id: OpId) -> Result<bool, StorageError> {
    match &node.writes {
        Writes::One(write) if write.id == id => node.writes = Writes::None,
        Writes::Many(count) => {
            let count = *count;
            let key = live_key(t_key, lamport, &id);
            if rows.get(Table::Live, &key)?.is_none() {
                return Ok(false);
            }
            rows.staged.delete(Table::Live, key);
            node.writes = if count == 2 {
                let (key, last) =
                    rows.scan(Table::Live, &live_prefix(t_key), None).next().ok_or(StorageError::Damaged { table: Table::Live.name() })??;
                rows.staged.delete(Table::Live, key.to_vec());
                Writes::One(decode_live(&last)?)
            } else {
                Writes::Many(count - 1)
            };
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A visible write of a node.
///
/// # Errors
///
/// [`StorageError`].
pub fn visible_write(node: &Node, rows: &impl Rows, t_key: &[u8], lamport: u64, id: &OpId) -> Result<Option<Write>, StorageError> {
    match &node.writes {
        Writes::One(write) if write.id == *id => Ok(Some(write.clone())),
        Writes::Many(_) => rows.get(Table::Live, &live_key(t_key, lamport, id))?.map(|row| decode_live(&row)).transpose(),
        _ => Ok(None),
    }
}

fn live_prefix(t_key: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(t_key.len() + 45);
    key.extend_from_slice(t_key);
    key.push(0);
    key
}

fn touch_key(t_key: &[u8], a: u64) -> Vec<u8> {
    let mut key = live_prefix(t_key);
    key.extend(a.to_be_bytes());
    key
}

fn live_key(t_key: &[u8], lamport: u64, id: &OpId) -> Vec<u8> {
    let mut key = live_prefix(t_key);
    key.extend(lamport.to_be_bytes().map(|b| !b));
    key.extend(id.change.as_bytes().map(|b| !b));
    key.extend(id.index.to_be_bytes().map(|b| !b));
    key
}

fn stage_live(staged: &mut Staged, t_key: &[u8], write: &Write) {
    let mut out = Writer::new();
    write.encode(&mut out);
    staged.put(Table::Live, live_key(t_key, write.lamport, &write.id), out.into_bytes());
}

fn decode_live(row: &Slice) -> Result<Write, StorageError> {
    let mut input = Reader::new(row);
    let write = Write::decode(&mut input)?;
    input.finish()?;
    Ok(write)
}

/// One op at a path, as [`Table::History`] keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whether it writes a value; else it only removes.
    pub writes: bool,
    /// For an insertion into a list, the list.
    pub list: Option<OpId>,
    /// The writes at this path that it replaces: arrival number and op index.
    pub preds: Vec<(u64, u32)>,
    /// Whether it has no effect, because its writer's right was taken back and nobody entitled built on it.
    pub hidden: bool,
}

impl Entry {
    /// The row's value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(u8::from(self.writes) | u8::from(self.hidden) << 1);
        out.flag(self.list.is_some());
        if let Some(list) = &self.list {
            encode_op_id(list, &mut out);
        }
        for (a, index) in &self.preds {
            out.var(*a);
            out.var(u64::from(*index));
        }
        out.into_bytes()
    }

    /// Reads a row's value.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met: the row is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let flags = input.u8("entry")?;
        if flags >= 1 << 2 {
            return Err(DecodeError::Invalid { field: "entry" });
        }
        let list = if input.flag("list")? { Some(decode_op_id(&mut input)?) } else { None };
        let mut preds = Vec::new();
        while !input.rest().is_empty() {
            preds.push((input.var(u64::MAX, "arrival")?, input.var(u64::from(u32::MAX), "op index")? as u32));
        }
        Ok(Self { writes: flags & 1 != 0, list, preds, hidden: flags & 2 != 0 })
    }
}

/// `t ‖ key`.
#[must_use]
pub fn node_key(t: u32, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + key.len());
    out.extend_from_slice(&t.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// What the keys of the rows of [`Table::History`] of one path begin with.
#[must_use]
pub fn history_prefix(t_key: &[u8]) -> Vec<u8> {
    live_prefix(t_key)
}

/// `t ‖ key ‖ 00 ‖ a ‖ index`.
#[must_use]
pub fn history_key(t_key: &[u8], a: u64, index: u32) -> Vec<u8> {
    let mut key = live_prefix(t_key);
    key.extend(a.to_be_bytes());
    key.extend(index.to_be_bytes());
    key
}

/// Splits a key of [`Table::History`] into `t ‖ key`, arrival number and op index.
#[must_use]
pub fn split_history_key(key: &[u8]) -> Option<(&[u8], u64, u32)> {
    let (rest, index) = key.split_last_chunk::<4>()?;
    let (rest, a) = rest.split_last_chunk::<8>()?;
    let t_key = rest.strip_suffix(&[0])?;
    Some((t_key, u64::from_be_bytes(*a), u32::from_be_bytes(*index)))
}

/// The list that the element at `t ‖ key` was inserted into; `None` when there was no such insertion.
///
/// # Errors
///
/// [`StorageError`].
pub fn list_of_element(rows: &impl Rows, t: u32, t_key: &[u8], element: &OpId) -> Result<Option<OpId>, StorageError> {
    let Some((found, a)) = crate::summary::find(rows, &element.change)? else { return Ok(None) };
    if found != t {
        return Ok(None);
    }
    match rows.get(Table::History, &history_key(t_key, a, element.index))? {
        Some(row) => Ok(Entry::decode(&row)?.list),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::ids::ChangeId;
    use crate::keyspace::{Committed, Layered, MemoryTables, Scan, Tables};

    /// Rows, and how many of them were looked at.
    struct Counted(Committed, Cell<usize>);

    impl Rows for Counted {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<fjall::Slice>, StorageError> {
            self.1.set(self.1.get() + 1);
            self.0.get(table, key)
        }

        fn scan<'a>(&'a self, table: Table, prefix: &[u8], from: Option<&[u8]>) -> Scan<'a> {
            Box::new(self.0.scan(table, prefix, from).inspect(|_| self.1.set(self.1.get() + 1)))
        }
    }

    fn write(number: u64) -> Write {
        let mut change = [0; 32];
        change[..8].copy_from_slice(&number.to_be_bytes());
        Write { lamport: number % 7, a: number, id: OpId { change: ChangeId(change), index: 0 }, list: None, value: Value::Int(number as i64) }
    }

    /// Whatever views those who wrote had, many changes are what few of them would be.
    #[test]
    fn a_version_of_many_changes_is_the_one_that_a_list_of_them_is() {
        let seed = Cell::new(14u64);
        let below = |end: u64| {
            seed.set(seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
            (seed.get() >> 33) % end
        };
        let tables = Tables::in_memory(MemoryTables::default());
        let (key, mut touch, mut list) = (node_key(0, b"wall"), Touch::default(), Vec::new());
        let mut layered = Layered::new(tables.snapshot(), None);
        let (mut spilled, mut gathered) = (0, 0);
        for a in 1..6000u64 {
            // Most have seen nothing, some a part, few nearly all.
            let upto = if below(1000) == 0 { a } else { below(5) * below(a) / 5 * below(2) * below(2) };
            let less = (0..below(4)).map(|_| below(upto + 1)).map(|first| (first, upto.min(first + below(300)))).collect();
            let more = (0..below(3) * below(3) * below(80)).map(|_| below(a)).chain([a]).collect();
            let view = View::of_parts(upto, less, more);
            let was_here = matches!(touch, Touch::Here(_));
            touch.advance(&mut layered, &key, &view, a).expect("memory does not fail");
            advance(&mut list, &view, a);
            assert_eq!(touch.all(&layered, &key).expect("read"), list, "after {a}: {view:?}");
            match (&touch, was_here) {
                (Touch::Many { .. }, true) => spilled += 1,
                (Touch::Here(_), false) => gathered += 1,
                _ => {}
            }
            let node = Node { touch: touch.clone(), loose: a % 2 == 0, ..Node::default() };
            assert_eq!(Node::decode(&node.encode()).expect("its own row"), node);
            assert!(node.encode().len() <= 1024);
            if a % 500 == 0 {
                let sealed = layered.seal();
                tables.commit(&sealed).expect("memory does not fail");
                layered.rebase(tables.snapshot());
            }
        }
        assert!(spilled > 1 && gathered > 0, "{spilled} {gathered}");
        touch.replace(&mut layered, &key, vec![7]).expect("memory does not fail");
        assert_eq!(layered.scan(Table::Touch, &[], None).count(), 0, "nothing is left behind");
    }

    /// Everybody writes at one path at once, to drown what is there. Reading it looks at a page, and taking one away at one.
    #[test]
    fn a_hundred_thousand_values_at_one_path_cost_a_page() {
        const MANY: u64 = 100_000;
        let tables = Tables::in_memory(MemoryTables::default());
        let (key, mut node, mut staged) = (node_key(0, b"slot"), Node::default(), Staged::default());
        for number in 0..MANY {
            node.insert(&mut staged, &key, write(number));
        }
        staged.put(Table::Node, key.clone(), node.encode());
        tables.commit(&staged).expect("memory does not fail");
        let rows = Counted(tables.snapshot(), Cell::new(0));
        let read = Node::load(&rows, &key).expect("read");
        assert_eq!((&read, read.count()), (&node, MANY));
        let winner = read.winner(&rows, &key).expect("read").expect("there are many");
        // Of the greatest clock the greatest id.
        assert_eq!(winner, write((0..MANY).rfind(|number| number % 7 == 6).expect("one")));
        let page = read.visible(&rows, &key, 100).expect("read");
        assert!(page.len() == 100 && page[0] == winner && page.is_sorted_by(|one, next| one.stamp() > next.stamp()));
        assert!(visible_write(&read, &rows, &key, 3, &write(3).id).expect("read").is_some());
        assert!(rows.1.get() <= 110, "{} rows were looked at", rows.1.get());
        let mut layered = Layered::new(tables.snapshot(), None);
        assert!(remove(&mut node, &mut layered, &key, winner.lamport, winner.id).expect("read"));
        assert_eq!(node.count(), MANY - 1);
        assert!(layered.staged.bytes() < 1000, "one row goes");
    }
}
