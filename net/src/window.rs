//! The part of a value that a reader or a subscriber asked for: how deep, and which of its members.
//!
//! What lies deeper stands there as a marker, `{"@more": values}`, with `"@list": true` where it is a list. A window
//! is cut the same way from what is there now, which is read no further than needed, and from an old version.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;

use timebus_identity::PublicKey;
use timebus_store::json::Json;
use timebus_store::keyspace::Committed;
use timebus_store::node::{Node, node_key};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::tree::{Shape, Tree, child_names_after, child_names_before, members_after, members_before};
use timebus_store::update::{Edit, Step};
use timebus_store::value::Value;

use crate::target::Query;

/// Most members of one page, if the caller does not say.
const PAGE_DEFAULT: usize = 1000;
/// Places where two pages differ; with more of them the new page as a whole is shorter.
const EDITS_MAX: usize = 512;
/// How far the elements of a list are looked for at its other end: a window on the last elements moves when
/// something is appended.
const SHIFT_MAX: usize = 64;
/// Members that one search looks at, some 100 ms of work; the next page goes on behind them.
const SEARCHED_MAX: usize = 10_000;

/// Members of a value, one after the other.
type Members<'a> = Box<dyn Iterator<Item = Result<(Box<str>, Tree), StorageError>> + 'a>;
/// The members of a page, and the name of the last of them if there are more.
type Found = (Vec<(String, Json)>, Option<String>);

/// What to show of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    /// Levels that are shown; everything when absent.
    pub(crate) depth: Option<u32>,
    /// Members shown; [`PAGE_DEFAULT`] when absent.
    pub(crate) limit: Option<u32>,
    /// The page begins behind this name or, in a list, index.
    pub(crate) after: Option<String>,
    /// The page ends before this name or index.
    pub(crate) before: Option<String>,
    /// Whether the page is the end of the listing, or of what is before [`Window::before`].
    pub(crate) is_last: bool,
    /// Only members in whose texts all of these are, in small letters.
    pub(crate) words: Vec<String>,
}

/// A value as a window shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) json: Json,
    /// What `after` is on the next page or, from the end on, `before`, if there is one.
    pub(crate) next: Option<String>,
    /// Elements of a list before those that are shown.
    pub(crate) skipped: usize,
}

impl Window {
    /// The window of a request; `None` when it asks for the whole value.
    pub(crate) fn of(query: &Query) -> Option<Self> {
        let window = Self {
            depth: query.depth,
            limit: query.last.or(query.limit).or(query.first),
            after: query.after.clone(),
            before: query.before.clone(),
            is_last: query.last.is_some() || query.before.is_some(),
            words: query.words.clone(),
        };
        (window != Self::default()).then_some(window)
    }

    /// The header that names where the next page begins.
    pub(crate) fn next_header(&self) -> &'static str {
        if self.is_last { "next-before" } else { "next-after" }
    }

    fn wanted(&self) -> usize {
        self.limit.map_or(PAGE_DEFAULT, |limit| limit as usize)
    }

    /// What is there now; `None` where nothing is.
    pub(crate) fn read(&self, store: &Store, rows: &Committed, at: Space, path: &Path) -> Result<Option<Page>, StorageError> {
        let space = at.key;
        let key = node_key(at.main(), &path.key());
        let node = Node::load(rows, &key)?;
        if node.count() == 0 && node.below == 0 {
            return Ok(None);
        }
        if self.depth == Some(0) {
            return Ok(outline(store, rows, at, path)?.map(|json| Page { json, next: None, skipped: 0 }));
        }
        if let Some(elements) = store.elements(rows, at, path)? {
            let page = self.elements(elements.len(), |number| {
                let Ok(element) = path.join(Segment::Element(elements[number])) else { return Ok(None) };
                if self.depth == Some(1) && self.words.is_empty() {
                    return outline(store, rows, at, &element);
                }
                Ok(self.member(&store.tree(rows, at, &element)?, &space))
            });
            return page.map(Some);
        }
        if node.below == 0 || node.loose || is_list(&node, rows, &key)? {
            return Ok(self.cut(&store.tree(rows, at, path)?, &space));
        }
        let (members, next) = if self.depth == Some(1) && self.words.is_empty() {
            let names: Box<dyn Iterator<Item = Result<Box<str>, StorageError>>> = if self.is_last {
                Box::new(child_names_before(rows, at.main(), path, self.before.as_deref()))
            } else {
                Box::new(child_names_after(rows, at.main(), path, self.after.as_deref()))
            };
            self.page(names.map(|name| -> Result<_, StorageError> {
                let name = name?;
                let child = path.join(Segment::Name(name.clone())).ok();
                let json = child.map(|child| outline(store, rows, at, &child)).transpose()?.flatten();
                Ok((name.into(), json))
            }))?
        } else {
            let members: Members<'_> = if self.is_last {
                Box::new(members_before(rows, at.main(), path, self.before.as_deref()))
            } else {
                Box::new(members_after(rows, at.main(), path, self.after.as_deref()))
            };
            self.page(members.map(|member| member.map(|(name, tree)| (name.into(), self.member(&tree, &space)))))?
        };
        Ok(Some(Page { json: Json::Object(members.into_iter().collect()), next, skipped: 0 }))
    }

    /// The same of a tree; `None` where nothing is.
    pub(crate) fn cut(&self, tree: &Tree, space: &PublicKey) -> Option<Page> {
        let whole = |json| Page { json, next: None, skipped: 0 };
        if self.depth == Some(0) {
            return shown(tree, self.depth, space).map(whole);
        }
        match tree.shape() {
            Shape::Absent => None,
            Shape::Scalar => tree.to_json(space).map(whole),
            Shape::List => {
                let Ok(page) = self.elements(tree.elements.len(), |at| Ok::<_, Infallible>(self.member(&tree.elements[at].1, space)));
                Some(page)
            }
            Shape::Object => {
                let range = if self.is_last {
                    (Bound::Unbounded, self.before.as_deref().map_or(Bound::Unbounded, Bound::Excluded))
                } else {
                    (self.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
                };
                let members = tree.names.range::<str, _>(range).map(|(name, child)| (name.to_string(), self.member(child, space)));
                let (members, next) = if self.is_last { self.take(members.rev()) } else { self.take(members) };
                Some(Page { json: Json::Object(members.into_iter().collect()), next, skipped: 0 })
            }
        }
    }

    /// The page of a list of so many elements, each as it is shown, if it is.
    fn elements<E>(&self, total: usize, shown: impl Fn(usize) -> Result<Option<Json>, E>) -> Result<Page, E> {
        let index = |text: &String| text.parse::<usize>().unwrap_or(usize::MAX);
        let (from, to) = match (self.is_last, &self.after, &self.before) {
            (true, _, before) => (0, before.as_ref().map_or(total, index).min(total)),
            (false, after, _) => (after.as_ref().map_or(0, |after| index(after).saturating_add(1)).min(total), total),
        };
        let elements = (from..to).map(|at| -> Result<_, E> { Ok((at.to_string(), shown(at)?)) });
        let (mut items, next) = if self.is_last { self.page(elements.rev())? } else { self.page(elements)? };
        if self.is_last {
            items.reverse();
        }
        let skipped = items.first().map_or(from, |(at, _)| index(at));
        Ok(Page { json: Json::Array(items.into_iter().map(|(_, item)| item).collect()), next, skipped })
    }

    /// The members of a page out of all on one side of it, nearest first, and the name of the last of them if there are more.
    fn page<E>(&self, members: impl Iterator<Item = Result<(String, Option<Json>), E>>) -> Result<Found, E> {
        let wanted = self.wanted();
        let mut shown = Vec::new();
        let mut last = None;
        for (looked_at, member) in members.enumerate() {
            if shown.len() == wanted || looked_at == SEARCHED_MAX.max(wanted) {
                return Ok((shown, last));
            }
            let (name, json) = member?;
            shown.extend(json.map(|json| (name.clone(), json)));
            last = Some(name);
        }
        Ok((shown, None))
    }

    /// As [`Window::page`], of members that are in memory.
    fn take(&self, members: impl Iterator<Item = (String, Option<Json>)>) -> (Vec<(String, Json)>, Option<String>) {
        let Ok(page) = self.page(members.map(Ok::<_, Infallible>));
        page
    }

    /// A member as it is shown, if it is.
    fn member(&self, tree: &Tree, space: &PublicKey) -> Option<Json> {
        if !self.words.is_empty() {
            let mut missing: Vec<&str> = self.words.iter().map(String::as_str).collect();
            strike(&tree.to_json(space)?, &mut missing);
            if !missing.is_empty() {
                return None;
            }
        }
        shown(tree, self.depth.map(|depth| depth - 1), space)
    }
}

/// Takes out of `words` those that are in a text of a value.
fn strike(json: &Json, words: &mut Vec<&str>) {
    match json {
        Json::String(text) => {
            let text = text.to_lowercase();
            words.retain(|word| !text.contains(word));
        }
        Json::Array(items) => items.iter().for_each(|item| strike(item, words)),
        Json::Object(members) => members.values().for_each(|value| strike(value, words)),
        _ => {}
    }
}

/// Whether a list wins at a node.
fn is_list(node: &Node, rows: &Committed, key: &[u8]) -> Result<bool, StorageError> {
    Ok(node.winner(rows, key)?.is_some_and(|write| write.value == Value::List))
}

/// A node that is not looked into: its value, or how much is below it.
fn outline(store: &Store, rows: &Committed, at: Space, path: &Path) -> Result<Option<Json>, StorageError> {
    let key = node_key(at.main(), &path.key());
    let node = Node::load(rows, &key)?;
    if node.below == 0 || node.loose {
        return Ok(shown(&store.tree(rows, at, path)?, Some(0), &at.key));
    }
    Ok(Some(marker(node.below, is_list(&node, rows, &key)?)))
}

/// Stands for so many values that are not looked into.
fn marker(values: u64, is_list: bool) -> Json {
    let mut members = BTreeMap::from([(MORE.to_owned(), Json::Int(i64::try_from(values).unwrap_or(i64::MAX)))]);
    if is_list {
        members.insert("@list".to_owned(), Json::Bool(true));
    }
    Json::Object(members)
}

/// The member that makes an object a marker.
const MORE: &str = "@more";

/// A tree down to a depth.
fn shown(tree: &Tree, depth: Option<u32>, space: &PublicKey) -> Option<Json> {
    if tree.names.is_empty() && tree.elements.is_empty() {
        return tree.to_json(space);
    }
    let is_list = tree.shape() == Shape::List;
    if depth == Some(0) {
        let mut below = Vec::new();
        tree.writes_below(&mut below);
        return Some(marker(below.len() as u64, is_list));
    }
    let depth = depth.map(|depth| depth - 1);
    Some(if is_list {
        Json::Array(tree.elements.iter().filter_map(|(_, element)| shown(element, depth, space)).collect())
    } else {
        Json::Object(tree.names.iter().filter_map(|(name, child)| Some((name.to_string(), shown(child, depth, space)?))).collect())
    })
}

/// The place on a page that shows what is at some steps below the watched path, if it is a marker.
pub(crate) fn marker_at(page: &Page, depth: Option<u32>, steps: &[Step]) -> Option<(Vec<Step>, Json)> {
    let mut steps = steps.get(..depth? as usize)?.to_vec();
    if let Some(Step::Index(index)) = steps.first_mut() {
        *index = index.checked_sub(page.skipped)?;
    }
    let mut at = &page.json;
    for step in &steps {
        at = match (step, at) {
            (Step::Key(name), Json::Object(members)) => members.get(&**name)?,
            (Step::Index(index), Json::Array(items)) => items.get(*index)?,
            _ => return None,
        };
    }
    matches!(at, Json::Object(members) if members.contains_key(MORE)).then(|| (steps, at.clone()))
}

/// What turns what was there into what is there, in order. `None` when the new value as a whole says it better.
pub(crate) fn changes(before: Option<&Json>, after: Option<&Json>) -> Option<Vec<(Vec<Step>, Edit)>> {
    match (before, after) {
        (None, None) => Some(Vec::new()),
        (None, Some(after)) => Some(vec![(Vec::new(), Edit::Put(after.clone()))]),
        (Some(_), None) => Some(vec![(Vec::new(), Edit::Delete)]),
        (Some(before), Some(after)) => edits(before, after),
    }
}

/// What turns one value into another, in order. `None` when the other one as a whole says it better.
fn edits(before: &Json, after: &Json) -> Option<Vec<(Vec<Step>, Edit)>> {
    let mut out = Vec::new();
    walk(before, after, &mut Vec::new(), &mut out).then_some(out)
}

fn walk(before: &Json, after: &Json, steps: &mut Vec<Step>, out: &mut Vec<(Vec<Step>, Edit)>) -> bool {
    if before == after {
        return true;
    }
    match (before, after) {
        (Json::Object(old), Json::Object(new)) if has_paths(old) && has_paths(new) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                steps.push(Step::Key(name.as_str().into()));
                match (old.get(name), new.get(name)) {
                    (Some(old), Some(new)) => {
                        if !walk(old, new, steps, out) {
                            return false;
                        }
                    }
                    (None, Some(new)) => out.push((steps.clone(), Edit::Put(new.clone()))),
                    (_, None) => out.push((steps.clone(), Edit::Delete)),
                }
                steps.pop();
            }
        }
        (Json::Array(old), Json::Array(new)) => {
            if !walk_items(old, new, steps, out) {
                return false;
            }
        }
        _ => out.push((steps.clone(), Edit::Put(after.clone()))),
    }
    out.len() <= EDITS_MAX
}

/// Whether the members of an object have paths. Others, and what only looks like an object, change as a whole.
fn has_paths(members: &BTreeMap<String, Json>) -> bool {
    members.keys().all(|name| !name.starts_with('@') && Segment::name(name).is_ok())
}

fn walk_items(old: &[Json], new: &[Json], steps: &mut Vec<Step>, out: &mut Vec<(Vec<Step>, Edit)>) -> bool {
    let shorter = old.len().min(new.len());
    let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let tail = old.iter().rev().zip(new.iter().rev()).take(shorter - head).take_while(|(old, new)| old == new).count();
    let splice = |start, end, items: &[Json]| Edit::Splice { start, end, items: items.to_vec() };
    if head + tail == shorter {
        out.push((steps.clone(), splice(head, old.len() - tail, &new[head..new.len() - tail])));
        return true;
    }
    // Some went at the front and others came at the end, or the other way round.
    for gone in 1..old.len().min(SHIFT_MAX) {
        let kept = old.len() - gone;
        if kept <= new.len() && old[gone..] == new[..kept] {
            out.push((steps.clone(), splice(0, gone, &[])));
            if new.len() > kept {
                out.push((steps.clone(), splice(kept, kept, &new[kept..])));
            }
            return true;
        }
    }
    for come in 1..new.len().min(SHIFT_MAX) {
        let kept = new.len() - come;
        if kept <= old.len() && new[come..] == old[..kept] {
            if old.len() > kept {
                out.push((steps.clone(), splice(kept, old.len(), &[])));
            }
            out.push((steps.clone(), splice(0, 0, &new[..come])));
            return true;
        }
    }
    if old.len() == new.len() {
        for at in head..old.len() - tail {
            steps.push(Step::Index(at));
            let fits = walk(&old[at], &new[at], steps, out);
            steps.pop();
            if !fits {
                return false;
            }
        }
    } else {
        out.push((steps.clone(), splice(head, old.len() - tail, &new[head..new.len() - tail])));
    }
    true
}

/// Memory that a value takes, roughly.
pub(crate) fn weight(json: &Json) -> usize {
    32 + match json {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(weight).sum(),
        Json::Object(members) => members.iter().map(|(name, value)| 32 + name.len() + weight(value)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use timebus_store::store::{Config, lock_home};
    use timebus_store::writer::{Action, Condition, Request};

    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes(), timebus_store::json::Limits::default()).expect("JSON")
    }

    /// What somebody has who had `json` and was told `edits`.
    fn apply(mut json: Json, edits: Vec<(Vec<Step>, Edit)>) -> Json {
        for (mut steps, edit) in edits {
            let last = if matches!(edit, Edit::Splice { .. }) { None } else { steps.pop() };
            let mut at = &mut json;
            for step in &steps {
                at = match (step, at) {
                    (Step::Key(name), Json::Object(members)) => members.get_mut(&**name).expect("a member"),
                    (Step::Index(index), Json::Array(items)) => items.get_mut(*index).expect("an element"),
                    (step, at) => panic!("{step:?} in {at:?}"),
                };
            }
            match (last, edit, at) {
                (Some(Step::Key(name)), Edit::Put(value), Json::Object(members)) => drop(members.insert(name.into(), value)),
                (Some(Step::Key(name)), Edit::Delete, Json::Object(members)) => drop(members.remove(&*name).expect("a member")),
                (Some(Step::Index(index)), Edit::Put(value), Json::Array(items)) => items[index] = value,
                (None, Edit::Splice { start, end, items: new }, Json::Array(items)) => drop(items.splice(start..end, new)),
                (None, Edit::Put(value), at) => *at = value,
                (last, edit, at) => panic!("{edit:?} at {last:?} in {at:?}"),
            }
        }
        json
    }

    fn told(before: &str, after: &str) -> Vec<(Vec<Step>, Edit)> {
        let found = edits(&json(before), &json(after)).expect("few edits");
        assert_eq!(apply(json(before), found.clone()), json(after), "{before} to {after}");
        found
    }

    #[test]
    fn a_window_that_moves_on_tells_what_went_and_what_came() {
        let splice = |start, end, items: &str| {
            let Json::Array(items) = json(items) else { panic!("a list") };
            (Vec::new(), Edit::Splice { start, end, items })
        };
        assert_eq!(told("[1,2,3]", "[2,3,4]"), [splice(0, 1, "[]"), splice(2, 2, "[4]")]);
        assert_eq!(told("[1,2,3]", "[0,1,2]"), [splice(2, 3, "[]"), splice(0, 0, "[0]")]);
        assert_eq!(told("[1,2]", "[1,2,3]"), [splice(2, 2, "[3]")]);
        assert_eq!(told("[1,2,3]", "[1,3]"), [splice(1, 2, "[]")]);
        assert_eq!(told("[1,1,1]", "[1,1]"), [splice(2, 3, "[]")]);
    }

    #[test]
    fn what_changed_inside_an_element_is_told_there() {
        let found = told(r#"{"l":[{"a":1,"b":2},3,4]}"#, r#"{"l":[{"a":1,"b":5},3,6]}"#);
        assert_eq!(found[0], (vec![Step::Key("l".into()), Step::Index(0), Step::Key("b".into())], Edit::Put(Json::Int(5))));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn markers_and_odd_objects_change_as_a_whole() {
        for (before, after) in [(r#"{"@more":1}"#, r#"{"@more":2}"#), (r#"{"":1}"#, r#"{"":2}"#), (r#"{"a/b":1,"c":1}"#, r#"{"a/b":1,"c":2}"#)] {
            assert_eq!(told(before, after), [(Vec::new(), Edit::Put(json(after)))]);
        }
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![Just(Json::Null), (0..4_i64).prop_map(Json::Int), "[ab]{0,2}".prop_map(Json::String)];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
                proptest::collection::btree_map("[abc]|@more|", inner, 0..5).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn edits_make_the_new_value_of_the_old_one(before in any_json(), after in any_json()) {
            if let Some(found) = edits(&before, &after) {
                prop_assert_eq!(apply(before, found), after);
            }
        }
    }

    /// Windows on a value of a few members, whose names or indexes are small numbers.
    fn windows() -> impl Iterator<Item = Window> {
        let numbers = || [None, Some(0), Some(2), Some(9)];
        let limits = || [None, Some(1), Some(3)];
        let depths = [None, Some(0), Some(1), Some(2)];
        let words = [Vec::new(), vec!["b".to_owned()]];
        words.into_iter().flat_map(move |words| {
            depths.into_iter().flat_map(move |depth| {
                let words = words.clone();
                limits().into_iter().flat_map(move |limit| {
                    let words = words.clone();
                    numbers().into_iter().flat_map(move |number| {
                        let edge = number.map(|number: u32| number.to_string());
                        let after = Window { depth, limit, after: edge.clone(), words: words.clone(), ..Window::default() };
                        [after.clone(), Window { after: None, before: edge, is_last: true, ..after }]
                    })
                })
            })
        })
    }

    async fn write(store: &Store, path: Path, action: Action) {
        let request =
            Request { space: None, path, action, parents: None, label: None, condition: Condition::None, time_ms: 1, durable: true, may_name: None };
        // What is done to what is not there is refused.
        let _ = store.write(request).await;
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

        /// Pages are read in other ways than the whole, of lists and of objects.
        #[test]
        fn a_page_is_the_slice_of_the_whole(deeds in proptest::collection::vec((0..12_usize, 0..8_usize), 1..10), is_list in any::<bool>()) {
            let home = tempfile::tempdir().expect("a temporary folder");
            let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let all = Path::parse("/all").expect("a path");
            let windows: Vec<Window> = windows().collect();
            let first = if is_list { r#"["a", {"b": ["b", 2]}, 3, []]"# } else { r#"{"0": "a", "1": {"b": ["b", 2]}, "3": 3, "4": {}}"# };
            runtime.block_on(write(&store, all.clone(), Action::Put(json(first))));
            for (which, deed) in deeds {
                let rows = store.snapshot();
                let tree = store.tree(&rows, store.own(), &all).expect("read");
                let element = tree.elements.get(which % tree.elements.len().max(1)).map(|(id, _)| Segment::Element(*id));
                let member = all.join(element.unwrap_or_else(|| Segment::name(&which.to_string()).expect("a name"))).expect("fits");
                let value = json([r#""b""#, r#"{"b": "b", "c": {}}"#, "[[]]"][which % 3]);
                // A name below a list never shows, but counts as more that is there.
                let is_list = store.tree(&rows, store.own(), &member).is_ok_and(|tree| matches!(tree.to_json(&store.space()), Some(Json::Array(_))));
                let deed = async {
                    match deed {
                        4 if is_list => {}
                        0..=2 => write(&store, all.clone(), Action::Post { name: which.to_string(), value }).await,
                        3 => write(&store, member, Action::Delete).await,
                        4 => write(&store, member.join(Segment::name("b").expect("a name")).expect("fits"), Action::Put(value)).await,
                        5 => write(&store, member, Action::Put(value)).await,
                        6 => write(&store, all.clone(), Action::Undo { version: None }).await,
                        _ => {
                            // Some go elsewhere, and one comes between them.
                            let mut whole = tree.to_json(&store.space()).unwrap_or(Json::Null);
                            if let Json::Array(items) = &mut whole {
                                items.reverse();
                                items.insert(which.min(items.len()), value);
                            }
                            write(&store, all.clone(), Action::Put(whole)).await;
                        }
                    }
                };
                runtime.block_on(deed);
                let now = store.snapshot();
                for rows in [&now, &rows] {
                    let tree = store.tree(rows, store.own(), &all).expect("read");
                    for window in &windows {
                        let page = window.read(&store, rows, store.own(), &all).expect("read");
                        prop_assert_eq!(page, window.cut(&tree, &store.space()), "{:?} of {:?}", window, tree.to_json(&store.space()));
                    }
                }
            }
        }
    }
}
