//! Taking something to another path: one change, which writes it there and removes it where it was.

use std::collections::BTreeSet;

use super::requests::check_reserved;
use super::{Action, Decider, MayName, Request, WriteError, Written, names_at, texts};
use crate::blobs::BlobHash;
use crate::list::Order;
use crate::node::{Node, node_key};
use crate::path::{Path, Segment};
use crate::plan::Plan;
use crate::tree::{Shape, Tree};

/// Writes what a tree shows to another path, where nothing is. Of values that stand side by side the one goes that shows.
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

impl Decider {
    /// Works out and stages what moving does.
    pub(super) fn decide_move(&mut self, request: Request) -> Result<Written, WriteError> {
        let Request { space, path: from, action, time_ms, may_name, .. } = request;
        let Action::Move { to } = &action else { return Err(WriteError::Absent(from)) };
        let space = space.unwrap_or_else(|| self.pipeline.at(self.inner.own, &from));
        let t = space.main();
        for path in [&from, to] {
            check_reserved(path, &action)?;
        }
        if from.is_root() || to.is_root() || from.contains(to) {
            return Err(WriteError::Patch(format!("{from} cannot be taken to {to}")));
        }
        let is_element = |path: &Path| path.segments().iter().any(|segment| matches!(segment, Segment::Element(_)));
        if is_element(&from) || is_element(to) {
            return Err(WriteError::Patch("elements of lists are moved in their list".to_owned()));
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
        let below = Node::load(rows, &node_key(t, &from.key()))?.below;
        if below > VALUES_MAX {
            return Err(WriteError::Patch(format!("{below} values are below {from}, and {VALUES_MAX} at most are moved at once")));
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
        let draft = texts::drafter(rows, &mut self.pipeline.bodies.texts, t, self.inner.device.public(), to.clone(), None);
        let mut plan = Plan::new(space.key, move |list| Order::load(rows, t, list).unwrap_or_default(), draft);
        copy(&mut plan, to, &tree, &space.key)?;
        plan.delete(&from, &tree);
        if let Some(MayName { points_not_at, blobs, .. }) = may_name {
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
        let last = self.stage(t, bodies, &caps, None, None, time_ms)?;
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        Ok(Written { version, change: Some(last), created: None, existed: false, durable: true })
    }
}
