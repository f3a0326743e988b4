//! Lists that were read: which elements show, in order. So a page of a list of any length costs what the page costs.
//!
//! What is known of a list is of one moment. Elements that were touched since are looked at when it is read again; where one came
//! anywhere but at the end, or moved, all of it is read again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Order, Position, position_key};
use crate::ids::OpId;
use crate::keyspace::{Rows, Table};
use crate::node::{Node, node_key};
use crate::op::Side;
use crate::path::{Path, Segment};
use crate::store::StorageError;
use crate::tree::{CONFLICT_PAGE, Tree};
use crate::update::Update;

/// Lists that are known.
const LISTS_MAX: usize = 64;
/// Elements of all of them together, each of 36 bytes.
const ELEMENTS_MAX: usize = 1 << 18;
/// Elements of one list that are looked at again one by one; with more, all of it is read.
const TOUCHED_MAX: usize = 1024;

/// What a list shows at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) elements: Arc<Vec<OpId>>,
    /// A position behind which nothing that shows stands.
    last: Option<OpId>,
}

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) t: u32,
    pub(crate) path: Path,
    pub(crate) list: OpId,
}

/// The lists that were read last.
#[derive(Debug, Default)]
pub(crate) struct Known {
    lists: HashMap<Place, List>,
    /// Counts uses, so that what was used longest ago goes first.
    uses: u64,
}

#[derive(Debug)]
struct List {
    used: u64,
    /// Up to which arrival number what is known is true.
    upto: u64,
    /// Absent while it is read.
    shown: Option<Shown>,
    /// Elements that changes touched since, with the arrival number of the last of those.
    touched: BTreeMap<OpId, u64>,
}

/// What is known of a list as of some moment.
#[derive(Debug)]
pub(crate) enum Look {
    /// What it showed at this arrival number, and elements that may show otherwise since.
    Known(u64, Shown, Vec<OpId>),
    /// Nothing.
    Unknown,
}

impl Known {
    /// Changes did this, and will be visible at once.
    pub(crate) fn touched(&mut self, updates: &[Arc<Update>]) {
        if self.lists.is_empty() {
            return;
        }
        // What a merged text holds decides about nothing here.
        for update in updates.iter().filter(|update| update.a < u64::MAX) {
            let t = update.space.main();
            self.lists.retain(|place, list| {
                if place.t != t {
                    return true;
                }
                let depth = place.path.segments().len();
                for path in update.touched.iter().filter(|path| place.path.contains(path)) {
                    // Names below a list do not show.
                    if let Some(Segment::Element(id)) = path.segments().get(depth) {
                        list.touched.insert(*id, update.a);
                    }
                }
                let is_moved = || update.moved.iter().any(|path| path.segments().len() == depth + 1 && place.path.contains(path));
                list.touched.len() <= TOUCHED_MAX && !update.touched.iter().any(|path| path.contains(&place.path)) && !is_moved()
            });
        }
    }

    /// What is known of a list for whoever looks at it as of an arrival number.
    pub(crate) fn look(&mut self, place: &Place, upto: u64) -> Look {
        self.uses += 1;
        match self.lists.get_mut(place) {
            Some(List { used, upto: of, shown: Some(shown), touched }) if *of <= upto => {
                *used = self.uses;
                Look::Known(*of, shown.clone(), touched.keys().copied().collect())
            }
            _ => Look::Unknown,
        }
    }

    /// A list is going to be read as of an arrival number, which is the last that is visible: from now on what touches it is
    /// taken note of.
    pub(crate) fn begin(&mut self, place: &Place, upto: u64) {
        let list = List { used: self.uses, upto, shown: None, touched: BTreeMap::new() };
        if self.lists.get(place).is_none_or(|known| known.upto < upto) {
            self.lists.insert(place.clone(), list);
            self.make_room();
        }
    }

    /// What a list showed as of an arrival number: it was known as of `before`, or was begun to be read as of that.
    pub(crate) fn keep(&mut self, place: &Place, before: u64, upto: u64, shown: Shown) {
        let Some(known) = self.lists.get_mut(place).filter(|known| known.upto == before) else { return };
        known.touched.retain(|_, a| *a > upto);
        (known.upto, known.shown) = (upto, Some(shown));
        self.make_room();
    }

    fn make_room(&mut self) {
        let elements = |list: &List| list.shown.as_ref().map_or(0, |shown| shown.elements.len());
        while self.lists.len() > LISTS_MAX || self.lists.values().map(elements).sum::<usize>() > ELEMENTS_MAX {
            let oldest = self.lists.iter().min_by_key(|(_, list)| list.used).map(|(place, _)| place.clone());
            oldest.and_then(|place| self.lists.remove(&place));
        }
    }
}

impl Shown {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub(crate) fn read(rows: &impl Rows, place: &Place) -> Result<Self, StorageError> {
        let order = Order::load(rows, place.t, &place.list)?;
        let mut shown: HashSet<OpId> = HashSet::new();
        let t_key = node_key(place.t, &place.path.key());
        let mut above: Option<Vec<u8>> = None;
        for row in rows.scan(Table::Node, &t_key, None) {
            let (key, value) = row?;
            // What is below an element says nothing that its own row does not.
            if key.len() == t_key.len() || above.as_ref().is_some_and(|above| key.starts_with(above)) {
                continue;
            }
            let damaged = || StorageError::Damaged { table: Table::Node.name() };
            let (Segment::Element(id), tail) = Segment::split_key(&key[t_key.len()..]).ok_or_else(damaged)? else { break };
            let own = key.len() - tail.len();
            let node = if tail.is_empty() { Node::decode(&value)? } else { Node::load(rows, &key[..own])? };
            if shows(rows, place, &node, id)? {
                shown.insert(id);
            }
            above = Some(key[..own].to_vec());
        }
        let mut elements = order.elements();
        elements.retain(|id| shown.contains(id));
        Ok(Self { elements: Arc::new(elements), last: order.last() })
    }

    /// The same after some elements were touched; `None` when only reading all of it tells.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub(crate) fn again(mut self, rows: &impl Rows, place: &Place, touched: &[OpId]) -> Result<Option<Self>, StorageError> {
        let known: HashSet<OpId> = self.elements.iter().filter(|id| touched.binary_search(id).is_ok()).copied().collect();
        let mut gone: HashSet<OpId> = HashSet::new();
        // Positions that may be new, by what they stand right of, and whether something shows there.
        let mut came: HashMap<Option<OpId>, Vec<(bool, OpId)>> = HashMap::new();
        let mut open = 0;
        for id in touched {
            let mut t_key = node_key(place.t, &place.path.key());
            Segment::Element(*id).push_key(&mut t_key);
            let is_shown = shows(rows, place, &Node::load(rows, &t_key)?, *id)?;
            match (known.contains(id), is_shown) {
                (true, true) => {}
                (true, false) => drop(gone.insert(*id)),
                // It may be of another list, or have been here before.
                (false, _) => {
                    let Some(row) = rows.get(Table::Position, &position_key(place.t, &place.list, id))? else { continue };
                    let position = Position::decode(*id, &row)?;
                    open += usize::from(is_shown);
                    if position.side == Side::Right {
                        came.entry(position.at).or_default().push((is_shown, *id));
                    }
                }
            }
        }
        let elements = Arc::make_mut(&mut self.elements);
        if !gone.is_empty() {
            elements.retain(|id| !gone.contains(id));
        }
        // Of several at one place only the order tells which comes first; one that does not show makes no difference.
        while let Some((is_shown, id)) = came.remove(&self.last).and_then(|next| next.into_iter().max()) {
            self.last = Some(id);
            if is_shown {
                elements.push(id);
                open -= 1;
            }
        }
        Ok((open == 0).then_some(self))
    }
}

/// Whether something shows at an element of a list, or below.
fn shows(rows: &impl Rows, place: &Place, node: &Node, id: OpId) -> Result<bool, StorageError> {
    if node.count() > 0 || node.below == 0 {
        return Ok(node.count() > 0);
    }
    let Ok(path) = place.path.join(Segment::Element(id)) else { return Ok(false) };
    Ok(!Tree::load(rows, place.t, &path, CONFLICT_PAGE)?.is_absent())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::json::{Json, Limits};
    use crate::keyspace::{Committed, Scan};
    use crate::store::{Config, Store, lock_home};
    use crate::writer::{Action, Condition, Request};

    /// Rows, and how many of them were looked at.
    struct Counted<'a>(&'a Committed, Cell<usize>);

    impl Rows for Counted<'_> {
        fn get(&self, table: Table, key: &[u8]) -> Result<Option<fjall::Slice>, StorageError> {
            self.1.set(self.1.get() + 1);
            self.0.get(table, key)
        }

        fn scan<'a>(&'a self, table: Table, prefix: &[u8], from: Option<&[u8]>) -> Scan<'a> {
            Box::new(self.0.scan(table, prefix, from).inspect(|_| self.1.set(self.1.get() + 1)))
        }
    }

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes(), Limits::default()).expect("JSON")
    }

    async fn write(store: &Store, path: &Path, action: Action) {
        let (condition, path) = (Condition::None, path.clone());
        let request = Request { space: None, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
        store.write(request).await.expect("written");
    }

    #[tokio::test]
    async fn what_came_or_went_at_a_list_is_found_without_reading_it() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store");
        let path = Path::parse("/list").expect("a path");
        let elements = |store: &Store| store.elements(&store.snapshot(), store.own(), &path).expect("read").expect("a list");
        write(&store, &path, Action::Put(Json::Array((0..500).map(Json::Int).collect()))).await;
        let first = elements(&store);
        assert_eq!(first.len(), 500);
        write(&store, &Path::parse("/else").expect("a path"), Action::Put(json("1"))).await;
        assert!(Arc::ptr_eq(&first, &elements(&store)), "nothing has happened to it");

        let (rows, t) = (store.snapshot(), store.own().main());
        let list = Node::load(&*rows, &node_key(t, &path.key())).and_then(|node| node.winner(&*rows, &node_key(t, &path.key()))).expect("read");
        let place = Place { t, path: path.clone(), list: list.expect("a list").id };
        let before = Shown::read(&*rows, &place).expect("read");
        write(&store, &path, Action::Post { name: String::new(), value: json(r#"{"a": [1]}"#) }).await;
        write(&store, &path.join(Segment::Element(first[7])).expect("fits"), Action::Delete).await;
        let after = elements(&store);
        let came = *after.last().expect("an element");
        assert!(after.len() == 500 && !first.contains(&came) && !after.contains(&first[7]));
        let rows = store.snapshot();
        let counted = Counted(&rows, Cell::new(0));
        let mut touched = [came, first[7], first[8]];
        touched.sort_unstable();
        let again = before.again(&counted, &place, &touched).expect("read").expect("it came at the end");
        assert_eq!(again.elements, after);
        assert!(counted.1.get() < 10, "{} rows were looked at", counted.1.get());
        assert_eq!(Shown::read(&*rows, &place).expect("read").elements, after);

        // In the middle only the order tells.
        let mut all: Vec<Json> = (0..500).filter(|n| *n != 7).map(Json::Int).collect();
        all.push(json(r#"{"a": [1]}"#));
        all.insert(3, Json::Int(-1));
        all.swap(10, 20);
        write(&store, &path, Action::Put(Json::Array(all))).await;
        let rows = store.snapshot();
        assert_eq!(elements(&store), Shown::read(&*rows, &place).expect("read").elements);
        assert_eq!(elements(&store).len(), 501);
    }
}
