//! What a change looks like to subscribers: patches that turn the JSON they had into the JSON they get.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use timebus_identity::PublicKey;

use crate::fold::Effect;
use crate::ids::{ChangeId, OpId};
use crate::json::Json;
use crate::keyspace::Rows;
use crate::list::Order;
use crate::list::at_hand::Lists;
use crate::node::{Node, Writes, list_of_element, node_key};
use crate::objects::{ObjectId, creator};
use crate::op::TextEdit;
use crate::path::{Path, Segment};
use crate::pipeline::Space;
use crate::store::StorageError;
use crate::text::TextUpdate;
use crate::tree::{CONFLICT_PAGE, Shape, Tree};
use crate::value::Value;
use crate::writer::Asker;

/// Most patches of one update; beyond that, a snapshot is cheaper to read.
pub const PATCHES_MAX: usize = 1024;

/// One step from a value to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Key(Box<str>),
    /// An element of an array.
    Index(usize),
}

/// What happened at one place.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// There is a value now, a new one or another one.
    Put(Json),
    /// There is none any more.
    Delete,
    /// There is a text, the one that was there, and these are its edits, each on top of the ones before.
    Text(Vec<TextEdit>),
    /// In an array, elements `start` up to `end` became these.
    Splice {
        /// First element replaced.
        start: usize,
        /// First element kept behind.
        end: usize,
        /// What stands there now.
        items: Vec<Json>,
    },
}

/// One place and what happened there.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Where.
    pub path: Path,
    /// The same place in JSON terms, from the root.
    pub steps: Vec<Step>,
    /// Who watches a path of fewer segments does not see it, and skips the patch: names below a list do not show,
    /// nor do elements of a list that lost. Mostly 0.
    pub shown_from: usize,
    /// What.
    pub edit: Edit,
}

/// One change, as subscribers see it.
#[derive(Clone, Debug)]
pub struct Update {
    /// The space that it is in.
    pub space: Space,
    /// Arrival number of the change; `u64::MAX` for what has to be read again, whatever was read.
    pub a: u64,
    /// Its id.
    pub id: ChangeId,
    /// Its public name.
    pub name: Box<str>,
    /// Who wrote it.
    pub author: PublicKey,
    /// Who asked its author for it, as that says: see [`crate::behalf`].
    pub behalf: Option<PublicKey>,
    /// Unix milliseconds, as the author said.
    pub time_ms: u64,
    /// What it did, in order; `None` when only reading again tells.
    pub patches: Option<Vec<Patch>>,
    /// What it said about texts, as clients take it that merge themselves; of a run, the last part's.
    pub texts: Vec<(Path, TextUpdate)>,
    /// Paths where something changed.
    pub touched: Vec<Path>,
    /// Those of them that are elements of lists and stand elsewhere now.
    pub moved: Vec<Path>,
    /// Versions after it by key of the path; those left out are this change alone.
    pub versions: BTreeMap<Vec<u8>, Vec<Box<str>>>,
    /// Keys of paths whose versions are too many changes to be told with each of them: whoever watches them reads again.
    pub unnamed: BTreeSet<Vec<u8>>,
    /// For whom this device wrote it just now, the owner or somebody else, and what he called it. Others may call it otherwise.
    pub asked: Option<(Option<Asker>, Box<str>)>,
}

impl Update {
    /// The version of a path that this update touched, after it; nothing if it has to be read.
    #[must_use]
    pub fn version(&self, key: &[u8]) -> Vec<Box<str>> {
        if self.unnamed.contains(key) {
            return Vec::new();
        }
        self.versions.get(key).cloned().unwrap_or_else(|| vec![self.name.clone()])
    }

    /// The same for whoever watches a path whose version is not told: something to be read again.
    #[must_use]
    pub(crate) fn unnamed(&self) -> Self {
        let (patches, texts, versions) = (None, Vec::new(), BTreeMap::new());
        Self { a: u64::MAX, patches, texts, versions, ..self.clone() }
    }

    /// Memory taken, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let json = |json: &Json| {
            let mut bytes = Vec::new();
            json.write(&mut bytes);
            bytes.len()
        };
        let edit = |edit: &Edit| match edit {
            Edit::Put(value) => json(value),
            Edit::Delete => 0,
            Edit::Text(edits) => edits.iter().map(|edit| 48 + edit.ins.len()).sum(),
            Edit::Splice { items, .. } => items.iter().map(json).sum(),
        };
        let text = |update: &TextUpdate| update.edits.iter().map(|edit| 48 + edit.ins.len()).sum::<usize>();
        self.texts.iter().map(|(_, update)| 256 + text(update)).sum::<usize>()
            + 256
            + 128 * (self.touched.len() + self.moved.len())
            + self.patches.iter().flatten().map(|patch| 256 + 2 * edit(&patch.edit)).sum::<usize>()
    }
}

/// Works out what a change did, in the state right after it. `None` when reading again is cheaper.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn patches(rows: &impl Rows, t: u32, space: &PublicKey, effect: &Effect, known: &mut Lists) -> Result<Option<Vec<Patch>>, StorageError> {
    if effect.touched.len() > 4 * PATCHES_MAX {
        return Ok(None);
    }
    // The places to tell anew, and whether something came or went there.
    let mut roots: BTreeMap<Path, bool> = BTreeMap::new();
    let mut lists: BTreeMap<Path, Vec<(OpId, Change)>> = BTreeMap::new();
    let mut texts: Vec<(Path, Edit)> = Vec::new();
    for (path, touched) in &effect.touched {
        if let Some((object, edits)) = &touched.text
            && touched.reshaped.is_none()
            && !touched.moved
        {
            if shows(rows, t, path, object)? {
                texts.push((path.clone(), Edit::Text(edits.clone())));
            }
            continue;
        }
        let (depth, after) = match touched.reshaped {
            Some((depth, before, after)) => (depth, Some((before, after))),
            None => (path.segments().len(), None),
        };
        let mut segments = path.segments().to_vec();
        segments.truncate(depth);
        let structural = match after {
            // What only the whole node can tell is there at least.
            Some((Some(Shape::Absent), _)) => Some(Change::In),
            Some((_, Some(Shape::Absent))) => Some(Change::Out),
            None if touched.moved => Some(Change::Moved),
            _ => None,
        };
        if let (Some(change), Some(Segment::Element(id))) = (structural, segments.last()) {
            let id = *id;
            segments.pop();
            let changes = lists.entry(Path::new(segments).unwrap_or_default()).or_default();
            if !changes.iter().any(|(other, _)| *other == id) {
                changes.push((id, change));
            }
        } else {
            *roots.entry(Path::new(segments).unwrap_or_default()).or_default() |= after.is_some();
        }
    }
    let all: Vec<Path> = roots.keys().cloned().collect();
    roots.retain(|root, _| !all.iter().any(|other| other != root && other.contains(root)));
    let mut winners = HashMap::new();
    let mut out = Vec::new();
    for (path, changes) in lists {
        // Lists come before those inside them.
        if roots.keys().any(|root| root.contains(&path)) {
            continue;
        }
        // Where elements changed beside those that came, went or moved, the list is told anew.
        let inside = roots.len();
        roots.retain(|root, _| !path.contains(root));
        let edit = if roots.len() == inside { splice(rows, t, space, &path, &changes, known)? } else { None };
        match edit {
            Some(edit) => out.push(path_patch(rows, t, path, edit, &mut winners, known)?),
            None => drop(roots.insert(path, false)),
        }
    }
    for (path, edit) in texts {
        // What is told as a whole anyway has the edits in it.
        if !roots.keys().any(|root| root.contains(&path)) {
            out.push(path_patch(rows, t, path, edit, &mut winners, known)?);
        }
    }
    if roots.len() + out.len() > PATCHES_MAX {
        return Ok(None);
    }
    for (root, reshaped) in roots {
        let edit = match Tree::load(rows, t, &root, CONFLICT_PAGE)?.to_json(space) {
            Some(json) => Edit::Put(json),
            None if reshaped => Edit::Delete,
            // Nothing was here and nothing is.
            None => continue,
        };
        out.push(path_patch(rows, t, root, edit, &mut winners, known)?);
    }
    Ok(Some(out))
}

/// Whether a text is what shows at a path.
fn shows(rows: &impl Rows, t: u32, path: &Path, object: &ObjectId) -> Result<bool, StorageError> {
    let t_key = node_key(t, &path.key());
    let node = Node::load(rows, &t_key)?;
    let winner = if node.below == 0 { node.winner(rows, &t_key)? } else { None };
    Ok(match winner {
        Some(write) => creator(rows, t, &write.id)?.is_some_and(|made| made.object == *object),
        None => false,
    })
}

/// How many segments a path must have for its readers to see this one.
fn shown_from(rows: &impl Rows, t: u32, path: &Path, winners: &mut HashMap<Vec<u8>, Option<OpId>>) -> Result<usize, StorageError> {
    let mut t_key = node_key(t, &[]);
    let mut from = 0;
    for (depth, segment) in path.segments().iter().enumerate() {
        let list = match winners.get(&t_key) {
            Some(list) => *list,
            None => {
                let winner = Node::load(rows, &t_key)?.winner(rows, &t_key)?;
                let list = winner.filter(|write| write.value == Value::List).map(|write| write.id);
                winners.insert(t_key.clone(), list);
                list
            }
        };
        segment.push_key(&mut t_key);
        let shows = match (list, segment) {
            (Some(list), Segment::Element(id)) => list_of_element(rows, t, &t_key, id)? == Some(list),
            (Some(_), Segment::Name(_)) => false,
            (None, _) => true,
        };
        if !shows {
            from = depth + 1;
        }
    }
    Ok(from)
}

/// What happened to a list element as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    In,
    Out,
    Moved,
}

/// The one stretch of a list that changed, if there is one and no element changed beside it.
fn splice(
    rows: &impl Rows,
    t: u32,
    space: &PublicKey,
    path: &Path,
    changes: &[(OpId, Change)],
    known: &mut Lists,
) -> Result<Option<Edit>, StorageError> {
    if let Some(edit) = known_splice(rows, t, space, path, changes, known)? {
        return Ok(Some(edit));
    }
    let tree = Tree::load(rows, t, path, CONFLICT_PAGE)?;
    let Some(list) = tree.list else { return Ok(None) };
    known.read(rows, t, path, &list, tree.elements.iter().map(|(id, _)| *id).collect())?;
    match changes {
        [(_, Change::In), ..] if changes.iter().all(|(_, change)| *change == Change::In) => {
            let at = |id: &OpId| tree.elements.iter().position(|(other, _)| other == id);
            let Some(places) = changes.iter().map(|(id, _)| at(id)).collect::<Option<Vec<_>>>() else { return Ok(None) };
            let (Some(first), Some(last)) = (places.iter().min(), places.iter().max()) else { return Ok(None) };
            if last - first + 1 != places.len() {
                return Ok(None);
            }
            let items = tree.elements[*first..=*last].iter().filter_map(|(_, element)| element.to_json(space)).collect();
            Ok(Some(Edit::Splice { start: *first, end: *first, items }))
        }
        [(gone, Change::Out)] => {
            let shown: std::collections::HashSet<OpId> = tree.elements.iter().map(|(id, _)| *id).collect();
            let order = Order::load(rows, t, &list)?.elements();
            let before = order.iter().take_while(|id| *id != gone).filter(|id| shown.contains(id)).count();
            Ok(Some(Edit::Splice { start: before, end: before + 1, items: Vec::new() }))
        }
        _ => Ok(None),
    }
}

/// The same of a list at hand, which is not read.
fn known_splice(
    rows: &impl Rows,
    t: u32,
    space: &PublicKey,
    path: &Path,
    changes: &[(OpId, Change)],
    known: &mut Lists,
) -> Result<Option<Edit>, StorageError> {
    let Writes::One(list) = Node::load(rows, &node_key(t, &path.key()))?.writes else { return Ok(None) };
    if list.value != Value::List {
        return Ok(None);
    }
    if let [(gone, Change::Out)] = changes {
        let start = known.removed(t, &list.id, gone);
        return Ok(start.map(|start| Edit::Splice { start, end: start + 1, items: Vec::new() }));
    }
    if !changes.iter().all(|(_, change)| *change == Change::In) {
        return Ok(None);
    }
    let came: Vec<OpId> = changes.iter().map(|(id, _)| *id).collect();
    let Some((start, came)) = known.appended(t, &list.id, &came) else { return Ok(None) };
    let mut items = Vec::with_capacity(came.len());
    for id in came {
        let element = path.join(Segment::Element(id)).map(|path| Tree::load(rows, t, &path, CONFLICT_PAGE));
        items.extend(element.ok().transpose()?.and_then(|tree| tree.to_json(space)));
    }
    Ok(Some(Edit::Splice { start, end: start, items }))
}

fn path_patch(
    rows: &impl Rows,
    t: u32,
    path: Path,
    edit: Edit,
    winners: &mut HashMap<Vec<u8>, Option<OpId>>,
    known: &Lists,
) -> Result<Patch, StorageError> {
    let steps = steps_known(rows, t, &path, known)?;
    let shown_from = shown_from(rows, t, &path, winners)?;
    Ok(Patch { path, steps, shown_from, edit })
}

/// A path in JSON terms: elements become indexes.
///
/// # Errors
///
/// [`StorageError`].
pub fn steps(rows: &impl Rows, t: u32, path: &Path) -> Result<Vec<Step>, StorageError> {
    steps_known(rows, t, path, &Lists::default())
}

fn steps_known(rows: &impl Rows, t: u32, path: &Path, known: &Lists) -> Result<Vec<Step>, StorageError> {
    let mut out = Vec::with_capacity(path.segments().len());
    let mut key = Vec::new();
    for segment in path.segments() {
        match segment {
            Segment::Name(name) => out.push(Step::Key(name.clone())),
            Segment::Element(id) => out.push(Step::Index(index_of(rows, t, &key, id, known)?)),
        }
        segment.push_key(&mut key);
    }
    Ok(out)
}

/// Place of an element among those of its list that show.
fn index_of(rows: &impl Rows, t: u32, list_key: &[u8], id: &OpId, known: &Lists) -> Result<usize, StorageError> {
    let mut element_key = list_key.to_vec();
    Segment::Element(*id).push_key(&mut element_key);
    let Some(list) = list_of_element(rows, t, &node_key(t, &element_key), id)? else { return Ok(0) };
    if let Some(index) = known.index_of(t, &list, id) {
        return Ok(index);
    }
    let mut index = 0;
    for element in Order::load(rows, t, &list)?.elements() {
        if element == *id {
            break;
        }
        let mut key = list_key.to_vec();
        Segment::Element(element).push_key(&mut key);
        let node = Node::load(rows, &node_key(t, &key))?;
        index += usize::from(node.count() > 0 || node.below > 0);
    }
    Ok(index)
}
