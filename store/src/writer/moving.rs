//! Taking something to another path: one change, which writes it there and removes it where it was.

use std::collections::BTreeSet;

use super::requests::{Called, check_reserved};
use super::{Action, Decider, MayName, Request, WriteError, Written, names_at, texts};
use crate::blobs::BlobHash;
use crate::fold::Bodies;
use crate::json::Json;
use crate::keyspace::{Rows, Table};
use crate::list::Order;
use crate::node::{Node, node_key};
use crate::op::Op;
use crate::path::{Path, Segment};
use crate::pipeline::{Space, chain_prefix};
use crate::plan::Plan;
use crate::store::StorageError;
use crate::summary::summary;
use crate::tree::{Shape, Tree};
use crate::value::Value;
use crate::view::{View, back};

/// Why nothing was taken to another path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// Nothing goes to itself or below itself, and the root stays where it is.
    #[error("{from} cannot be taken to {to}")]
    Below {
        /// What was to go.
        from: Path,
        /// Where to.
        to: Path,
    },
    /// Elements have their place in their list.
    #[error("elements of lists are moved in their list")]
    Element,
    /// As long as it is made, nothing else is written.
    #[error("{count} values are at {from}, and {VALUES_MAX} at most go at once")]
    TooMany {
        /// What was to go.
        from: Path,
        /// Values there.
        count: u64,
    },
    /// Only one of them shows, and would go.
    #[error("several values stand at {0} side by side, of which one shows")]
    Several(Path),
    /// What is put below a list or a value does not show.
    #[error("a list or a value stands at {0}, and what is put below it does not show")]
    Covered(Path),
}

/// Writes what a tree shows to another path, where nothing is.
fn copy(plan: &mut Plan<'_>, path: &Path, tree: &Tree, space: &timebus_identity::PublicKey) -> Result<(), WriteError> {
    match tree.shape() {
        Shape::Absent => Ok(()),
        Shape::Scalar => Ok(plan.restore(path, tree.writes.first().map(|write| write.value.clone()), &[])?),
        Shape::List => match tree.to_json(space) {
            Some(json) => Ok(plan.put(path, &Tree::default(), &json)?),
            None => Ok(()),
        },
        Shape::Object => {
            // An object without members is a value.
            if tree.names.values().all(Tree::is_absent) {
                return Ok(plan.put(path, &Tree::default(), &crate::json::Json::Object(Default::default()))?);
            }
            for (name, child) in &tree.names {
                let there = Segment::name(name).and_then(|name| path.join(name));
                let there = there.map_err(|error| WriteError::Patch(error.to_string()))?;
                copy(plan, &there, child, space)?;
            }
            Ok(())
        }
    }
}

/// Values that one change moves: as long as it is made nothing else is written.
const VALUES_MAX: u64 = 10_000;

/// The first path at or below one where more stands than shows.
fn crowded(path: &Path, tree: &Tree) -> Option<Path> {
    if tree.is_conflict() {
        return Some(path.clone());
    }
    let names = tree.names.iter().map(|(name, child)| (Segment::Name(name.clone()), child));
    let mut below = names.chain(tree.elements.iter().map(|(id, child)| (Segment::Element(*id), child)));
    below.find_map(|(segment, child)| crowded(&path.join(segment).ok()?, child))
}

/// The first path above one that shows as something that has no names.
fn cover(rows: &impl Rows, t: u32, path: &Path) -> Result<Option<Path>, StorageError> {
    let above: Vec<Path> = std::iter::successors(path.parent(), Path::parent).collect();
    for at in above.into_iter().rev() {
        let t_key = node_key(t, &at.key());
        let node = Node::load(rows, &t_key)?;
        let covers = match node.winner(rows, &t_key)?.map(|write| write.value) {
            Some(Value::List) => true,
            Some(Value::Map) => false,
            Some(_) => node.below == 0,
            None => node.loose && Tree::load(rows, t, &at, usize::MAX)?.shape() == Shape::List,
        };
        if covers {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The parts of the run that a change is one of, in order; a change that is no part is alone.
fn run_of(rows: &impl Rows, t: u32, a: u64) -> Result<Vec<u64>, StorageError> {
    let own = summary(rows, t, a)?;
    let Some((number, count)) = own.part else { return Ok(vec![a]) };
    let mut last = a;
    for row in rows.scan(Table::Chain, &chain_prefix(t, &own.author, own.seq + (count - number)), None) {
        let end = row?.0.last_chunk::<8>().map_or(0, |end| u64::from_be_bytes(*end));
        if back(rows, t, end, count - number)? == Some(a) {
            last = end;
        }
    }
    let mut run = vec![last];
    while (run.len() as u64) < count
        && let Some(before) = back(rows, t, run[run.len() - 1], 1)?
    {
        run.push(before);
    }
    run.reverse();
    Ok(run)
}

impl Decider {
    /// Works out and stages what moving does.
    pub(super) fn decide_move(&mut self, request: Request) -> Result<Written, WriteError> {
        let Request { space, path: from, action, time_ms, may_name, .. } = request;
        let called = Called::not(may_name.as_ref());
        let Action::Move { to } = &action else { return Err(WriteError::Absent(from)) };
        let space = space.unwrap_or_else(|| self.pipeline.at(self.inner.own, &from));
        let t = space.main();
        for path in [&from, to] {
            check_reserved(path, &action)?;
        }
        if from.is_root() || to.is_root() || from.contains(to) {
            return Err(MoveError::Below { from, to: to.clone() }.into());
        }
        let is_element = |path: &Path| path.segments().iter().any(|segment| matches!(segment, Segment::Element(_)));
        if is_element(&from) || is_element(to) {
            return Err(MoveError::Element.into());
        }
        // Whoever may write at both, by one right: it is one change.
        let there = self.caps(space, to)?;
        let mut caps = self.caps(space, &from)?;
        caps.retain(|cap| there.contains(cap));
        if caps.is_empty() {
            return Err(WriteError::NoGrant { space: space.key, path: to.clone() });
        }
        self.merge_heads(t, &caps, time_ms)?;
        // What is kept apart is in a timeline of its own, and a change in one.
        let rights = self.pipeline.rights(t);
        let below = [&from, to].into_iter().find_map(|path| rights.mounts_below(path).map(|mount| mount.path.clone()).next());
        let is_apart = rights.timeline_of(&from) != rights.timeline_of(to);
        if let Some(mount) = below.or(is_apart.then(|| to.clone())) {
            return Err(WriteError::Spans { path: from, mount });
        }
        let rows = &self.pipeline.rows;
        let count = Node::load(rows, &node_key(t, &from.key()))?.below;
        if count > VALUES_MAX {
            return Err(MoveError::TooMany { from, count }.into());
        }
        let tree = Tree::load(rows, t, &from, usize::MAX)?;
        if tree.is_absent() {
            return Err(WriteError::Absent(from));
        }
        let t_key = node_key(t, &to.key());
        let node = Node::load(rows, &t_key)?;
        if node.count() > 0 || node.below > 0 {
            let version = names_at(rows, t, &t_key, &node)?;
            return Err(WriteError::Condition { path: to.clone(), version });
        }
        // Nothing is left behind without a word, or put where nobody sees it.
        if let Some(at) = crowded(&from, &tree) {
            return Err(MoveError::Several(at).into());
        }
        if let Some(at) = cover(rows, t, to)? {
            return Err(MoveError::Covered(at).into());
        }
        let draft = texts::drafter(rows, &mut self.pipeline.bodies.texts, t, self.inner.device.public(), to.clone(), None);
        let mut plan = Plan::new(space.key, move |list| Order::load(rows, t, list).unwrap_or_default(), draft);
        copy(&mut plan, to, &tree, &space.key)?;
        plan.delete(&from, &tree);
        if let Some(may_name) = may_name {
            super::requests::check_keeps_off(&plan, &may_name, space.key)?;
            let MayName { points_not_at, blobs, .. } = may_name;
            if let Some(is_word) = points_not_at
                && let Some(name) = plan.pointers().find(|name| is_word(name))
            {
                return Err(WriteError::Points(name.into()));
            }
            let others: BTreeSet<BlobHash> = plan.blobs().filter(|hash| !blobs.contains(hash)).collect();
            if !others.is_empty() {
                return Err(WriteError::Names(others.into_iter().collect()));
            }
        }
        let bodies = plan.into_bodies()?;
        let last = self.stage(t, bodies, &caps, called, None, time_ms)?;
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        Ok(Written { version, change: Some(last), created: None, existed: false, durable: true })
    }

    /// From where to where a change took what is at a path, if it did. Whoever takes it back at the new path alone has it nowhere.
    pub(super) fn taken_from(&mut self, space: Space, path: &Path, a: u64) -> Result<Option<(Path, Path)>, WriteError> {
        let t = space.main();
        let (rows, bodies) = (&self.pipeline.rows, &mut self.pipeline.bodies);
        let run = run_of(rows, t, a)?;
        let (mut gone, mut made) = (BTreeSet::new(), Vec::new());
        for a in &run {
            let loaded = bodies.load(rows, t, *a)?;
            let (own, body) = &*loaded;
            for op in &body.ops {
                match op {
                    Op::Del { path, .. } => gone.extend(Bodies::resolve_path(own, body, path)),
                    Op::Set { path, preds, .. } if preds.is_empty() => made.extend(Bodies::resolve_path(own, body, path)),
                    Op::Set { .. } => return Ok(None),
                    _ => {}
                }
            }
        }
        // One thing is gone, and what was made is new.
        let (Some(from), true, Some(first)) = (gone.first(), gone.len() == 1, made.first()) else { return Ok(None) };
        if path.contains(from) {
            return Ok(None);
        }
        let (first_part, last_part) = (run[0], run[run.len() - 1]);
        let mut show = |path: &Path, view: &View| -> Result<_, StorageError> {
            let write_of = |a, index| {
                let id = crate::ids::OpId { change: summary(rows, t, a)?.id, index };
                bodies.write_at(rows, t, id)?.map(|(_, write)| write).ok_or(StorageError::Damaged { table: Table::History.name() })
            };
            Ok(Tree::load_at(rows, t, path, view, usize::MAX, write_of)?.to_json(&space.key))
        };
        let (before, after) = (View::before(rows, t, first_part)?, View::of(rows, t, &[last_part])?);
        let meets = |to: &Path| (to.contains(path) || path.contains(to)) && made.iter().all(|made| to.contains(made));
        let places: Vec<Path> = std::iter::successors(Some(first.clone()), Path::parent).filter(|to| !to.is_root() && meets(to)).collect();
        let Some(went) = (if places.is_empty() { None } else { show(from, &before)? }) else { return Ok(None) };
        // What is above the new place is not read, however much is there: what came there first was at the same place below the old one.
        for to in places.into_iter().filter(|to| has(&went, &first.segments()[to.segments().len()..])) {
            if show(&to, &after)?.as_ref() == Some(&went) {
                return Ok(Some((from.clone(), to)));
            }
        }
        Ok(None)
    }
}

/// Whether something can be in a value at these segments below it; of elements of a list that is not known.
fn has(json: &Json, below: &[Segment]) -> bool {
    match (json, below) {
        (_, []) => true,
        (Json::Object(members), [Segment::Name(name), rest @ ..]) => members.get(&**name).is_some_and(|member| has(member, rest)),
        (Json::Array(_), [Segment::Element(_), ..]) => true,
        _ => false,
    }
}
