//! Requests of this peer's own users, made into changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use timebus_identity::PublicKey;
use tokio::sync::oneshot;

use super::syncer::{Entry, Reply};
use super::version::{ids_of, is_of_many, same_version};
use super::{Action, Asker, Condition, Decider, MayName, Request, WriteError, Written, names_at, texts, version_tag};
use crate::asked::Asked;
use crate::auth::OWN_WORDS;
use crate::blobs::BlobHash;
use crate::change::{Body, Change, OVERHEAD_BYTES, PARENTS_MAX, Part};
use crate::ids::{ChangeId, GrantId, OpId};
use crate::json::Json;
use crate::keyspace::{Rows as _, Table};
use crate::list::Order;
use crate::node::{Entry as HistoryEntry, Node, Writes, node_key, split_history_key};
use crate::path::{Path, Segment};
use crate::pipeline::{AUTH, Labelled, Pipeline, Space, Whom, labelled};
use crate::plan::{Plan, PlannedBody, Target};
use crate::store::StorageError;
use crate::summary::{find, summary};
use crate::tree::Tree;
use crate::value::Value;
use crate::view::View;

/// Refuses what touches what a request has to keep off.
pub(super) fn check_keeps_off(plan: &Plan<'_>, may_name: &MayName, space: PublicKey) -> Result<(), WriteError> {
    match may_name.keeps_off.iter().find(|path| plan.touches(path)) {
        Some(path) => Err(WriteError::NoGrant { space, path: path.clone() }),
        None => Ok(()),
    }
}

impl Decider {
    pub(super) fn write(
        &mut self,
        request: Request,
        reply: oneshot::Sender<Result<Written, WriteError>>,
        decided: oneshot::Sender<(Option<u64>, Duration)>,
    ) {
        let durable = request.durable;
        (self.bytes_max, self.bytes) = (request.may_name.as_ref().and_then(|may_name| may_name.bytes_max), 0);
        let began = Instant::now();
        let result = self.decide(request);
        let _ = decided.send((result.is_ok().then_some(self.bytes), began.elapsed()));
        match result {
            Ok(written) if durable && (written.change.is_some() || self.syncing || !self.group.entries.is_empty()) => {
                self.group.replies.push(Reply::Written(reply, written));
            }
            Ok(mut written) => {
                written.durable = durable || written.change.is_none();
                let _ = reply.send(Ok(written));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    /// The grants in whose name this device may write at a path, the best first; one at least.
    pub(super) fn caps(&mut self, space: Space, path: &Path) -> Result<Vec<GrantId>, WriteError> {
        if space.is_own() {
            return self.own_caps();
        }
        if self.is_barred {
            return Err(WriteError::NoKey);
        }
        let found = self.pipeline.rights(space.auth()).guest_grants(&self.inner.device.public(), path);
        if found.is_empty() { Err(WriteError::NoGrant { space: space.key, path: path.clone() }) } else { Ok(found) }
    }

    /// Stages changes in the name of the first of some grants that allows all of them, by the rule by which everybody else
    /// will take or refuse them: a change that nobody takes would end this device's chain. Answers the id of the last.
    pub(super) fn take_allowed(
        &mut self,
        t: u32,
        caps: &[GrantId],
        mut make: impl FnMut(&mut Pipeline, GrantId) -> Result<Vec<(Change, Body)>, StorageError>,
    ) -> Result<ChangeId, WriteError> {
        let mut best = None;
        for cap in caps {
            let made = make(&mut self.pipeline, *cap)?;
            match made.iter().try_for_each(|(change, _)| self.pipeline.check_cap(t, change)) {
                Ok(()) => {
                    let last = made.last().map_or(ChangeId([0; 32]), |(change, _)| change.id());
                    for (change, body) in made {
                        self.take(Entry::Own(change), Some(body))?;
                    }
                    // This device may have forked its chain itself, if its home was copied.
                    self.settle()?;
                    return Ok(last);
                }
                Err(source) => best = best.or(Some(source)),
            }
        }
        let space = self.pipeline.space_of(t).key;
        Err(best.map_or(WriteError::NoKey, |source| WriteError::Limit { space, source }))
    }

    /// What is the owner's own word below a path of a space of somebody else, and the grants of this device that are for that, too.
    fn words_below(&self, space: Space, path: &Path) -> Vec<(Path, Vec<GrantId>)> {
        if space.is_own() || !path.is_root() {
            return Vec::new();
        }
        let rights = self.pipeline.rights(space.auth());
        let words = OWN_WORDS.iter().filter_map(|word| path.join(Segment::name(word).ok()?).ok());
        words.map(|word| (word.clone(), rights.guest_grants(&self.inner.device.public(), &word))).collect()
    }

    /// Works out and stages what a request does.
    pub(super) fn decide(&mut self, request: Request) -> Result<Written, WriteError> {
        if let Some(reason) = &self.read_only {
            return Err(WriteError::ReadOnly(Arc::clone(reason)));
        }
        match request.action {
            Action::PutText { .. } | Action::EditText(_) => return self.decide_text(request),
            Action::Inc(_) => return self.decide_inc(request),
            Action::Move { .. } => return self.decide_move(request),
            _ => {}
        }
        let Request { space, path, action, parents, label, condition, time_ms, may_name, .. } = request;
        let (asker, behalf) = whom(may_name.as_ref());
        let space = space.unwrap_or_else(|| self.pipeline.at(self.inner.own, &path));
        let t = space.main();
        let mut caps = self.caps(space, &path)?;
        check_reserved(&path, &action)?;
        self.merge_heads(t, &caps, time_ms)?;
        let rows = &self.pipeline.rows;
        let t_key = node_key(t, &path.key());
        let node = Node::load(rows, &t_key)?;
        let existed = node.count() > 0 || node.below > 0;
        let taken = self.labelled(t, label.as_deref())?;
        if let Some(label) = &label {
            for a in self.of_asker(t, label, &taken, asker)? {
                match self.repeats(space, &path, a, &action)? {
                    Repeats::All => return self.replay(t, &path, a, existed),
                    Repeats::Part => return Err(WriteError::LabelTaken(label.clone())),
                    Repeats::Nothing => {}
                }
            }
        }
        let wanted = label.clone();
        let label = self.unless_taken(t, &path, label, &taken)?;
        let rows = &self.pipeline.rows;
        let version = names_at(rows, t, &t_key, &node)?;
        let label = label.filter(|label| !version.contains(label));
        let content = node.winner(rows, &t_key)?.and_then(|write| write.value.content_tag());
        check_condition(&condition, existed, &version, content, &path, |wanted| {
            same_version(wanted, &version, rows, t, &node, &t_key).unwrap_or(false)
        })?;
        let base = match parents {
            None => None,
            Some(parents) if parents == version && version.iter().any(|name| is_of_many(name)) => None,
            Some(parents) => {
                let named = self.resolve_at(t, &path, asker, &parents)?;
                // Who has seen all there is at the path may as well have seen everything else.
                let is_partial = named.iter().any(|name| name.event.is_some());
                Some(texts::base_of(&named)?).filter(|base| is_partial || !node.touch.is(base))
            }
        };
        let (target, action) = if base.is_none() { self.narrow(t, path.clone(), action)? } else { (path.clone(), action) };
        let tree = match &base {
            None => match &action {
                Action::Merge(patch) => Tree::load_for_merge(&self.pipeline.rows, t, &target, patch, &space.key)?,
                // A new child of an object has nothing to do with the others.
                Action::Post { .. } if !node.loose && !matches!(&node.writes, Writes::One(write) if write.value == Value::List) => {
                    let holds = node.below > 0
                        || matches!(&node.writes, Writes::None)
                        || matches!(&node.writes, Writes::One(write) if write.value == Value::Map);
                    if !holds {
                        return Err(WriteError::NotACollection(path));
                    }
                    Tree::default()
                }
                // Nor has a new element with those before it.
                Action::Post { .. }
                    if let Writes::One(write) = &node.writes
                        && write.value == Value::List =>
                {
                    Tree { list: Some(write.id), ..Tree::default() }
                }
                Action::Undo { .. } => Tree::default(),
                _ => Tree::load(&self.pipeline.rows, t, &target, usize::MAX)?,
            },
            Some(base) => load_at(&mut self.pipeline, t, &path, base, &action, &space.key)?,
        };
        let mounts: Vec<Path> = self.pipeline.rights(t).mounts_below(&path).map(|mount| mount.path.clone()).collect();
        let words = self.words_below(space, &path);
        let (plan, created) = match action {
            Action::Undo { version } => (self.plan_undo(space, &path, asker, version)?, None),
            action => {
                let view = base.as_ref().map(|base| View::of(&self.pipeline.rows, t, base)).transpose()?;
                self.plan(space, &target, &tree, action, view)?
            }
        };
        if let Some(mount) = mounts.into_iter().find(|mount| plan.touches(mount)) {
            return Err(WriteError::Spans { path, mount });
        }
        for (word, of_word) in words.into_iter().filter(|(word, _)| plan.touches(word)) {
            caps.retain(|cap| of_word.contains(cap));
            if caps.is_empty() {
                return Err(WriteError::NoGrant { space: space.key, path: word });
            }
        }
        if let Some(may_name) = may_name {
            check_keeps_off(&plan, &may_name, space.key)?;
            if let Some(is_word) = may_name.points_not_at
                && let Some(name) = plan.pointers().find(|name| is_word(name))
            {
                return Err(WriteError::Points(name.into()));
            }
            let mut others: Vec<BlobHash> = plan.blobs().filter(|hash| !may_name.blobs.contains(hash)).collect();
            others.sort_unstable();
            others.dedup();
            if !others.is_empty() {
                return Err(WriteError::Names(others));
            }
        }
        let bodies = plan.into_bodies()?;
        if bodies.is_empty() && label.is_none() {
            return Ok(Written { version, change: None, created: None, existed, durable: true });
        }
        let base_ids = base.as_ref().map(|base| ids_of(&self.pipeline.rows, t, base)).transpose()?;
        let last = self.stage(t, bodies, &caps, Called { name: label, wanted, asker, behalf }, base_ids, time_ms)?;
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        let created = match created {
            Some(Created::Name(path)) => Some(path),
            Some(Created::Element(number)) => path.join(Segment::Element(OpId { change: last, index: number as u32 })).ok(),
            None => None,
        };
        Ok(Written { version, change: Some(last), created, existed, durable: true })
    }

    /// Where one splice names members of objects on its way, goes there, so that no more is read than is changed.
    fn narrow(&self, t: u32, mut path: Path, action: Action) -> Result<(Path, Action), StorageError> {
        let Action::Splice(mut splices) = action else { return Ok((path, action)) };
        let [(steps, content)] = &mut splices[..] else { return Ok((path, Action::Splice(splices))) };
        let rows = &self.pipeline.rows;
        let mut taken = 0;
        for step in steps.iter() {
            let crate::json::Step::Key(name) = step else { break };
            let t_key = node_key(t, &path.key());
            let node = Node::load(rows, &t_key)?;
            let winner = node.winner(rows, &t_key)?;
            let object = winner.is_none_or(|write| write.value == Value::Map) && node.below > 0 && !node.loose;
            let Some(child) = Segment::name(name).ok().filter(|_| object).and_then(|segment| path.join(segment).ok()) else { break };
            path = child;
            taken += 1;
        }
        steps.drain(..taken);
        if !steps.is_empty() {
            return Ok((path, Action::Splice(splices)));
        }
        let here = node_key(t, &path.key());
        let node = Node::load(rows, &here)?;
        Ok(match content.take() {
            Some(value) => (path, Action::Put(value)),
            // Removing what is not there is no error for a patch.
            None if node.count() == 0 && node.below == 0 => (path, Action::Splice(vec![(Vec::new(), None)])),
            None => (path, Action::Delete),
        })
    }

    /// A change stands on at most so many others; what is left over is brought together by changes without ops.
    pub(super) fn merge_heads(&mut self, t: u32, caps: &[GrantId], time_ms: u64) -> Result<(), WriteError> {
        let author = self.inner.device.public();
        if self.pipeline.heads(t) <= PARENTS_MAX {
            return Ok(());
        }
        // What has no effect is built on by nobody, and stays a head.
        let parents = self.pipeline.parents(t, &author)?;
        for (number, some) in (1..).zip(parents.chunks(PARENTS_MAX)) {
            if number * PARENTS_MAX >= parents.len() {
                break;
            }
            self.take_allowed(t, caps, |pipeline, cap| {
                let body = Body::default();
                Ok(vec![(pipeline.author_on(t, author, Some(cap), time_ms, &body, some)?, body)])
            })?;
        }
        Ok(())
    }

    fn plan(
        &mut self,
        space: Space,
        path: &Path,
        tree: &Tree,
        action: Action,
        view: Option<View>,
    ) -> Result<(Plan<'_>, Option<Created>), WriteError> {
        let (t, space) = (space.main(), space.key);
        let rows = &self.pipeline.rows;
        let bodies = &mut self.pipeline.bodies;
        // Who has seen everything appends behind everything.
        let last = match (&action, tree.list) {
            (Action::Post { .. }, Some(list)) if view.is_none() => bodies.lists.last(rows, t, &list)?,
            _ => None,
        };
        let seen = view.clone();
        let draft = texts::drafter(rows, &mut bodies.texts, t, self.inner.device.public(), path.clone(), view);
        let order = move |list: &OpId| {
            let order = Order::load(rows, t, list).unwrap_or_default();
            let Some(view) = &seen else { return order };
            // What cannot be read fails where it is needed.
            let has = |a| view.counts(rows, t, a).unwrap_or(true);
            order.seen_by(|id| find(rows, &id.change).ok().flatten().is_some_and(|(_, a)| has(a)))
        };
        let mut plan = Plan::new(space, order, draft);
        let mut created = None;
        let patch = |error: &dyn std::fmt::Display| WriteError::Patch(error.to_string());
        match action {
            Action::Put(json) => plan.put(path, tree, &json)?,
            Action::PutValue(value) => plan.put_value(path, tree, value),
            Action::Delete if tree.is_absent() => return Err(WriteError::Absent(path.clone())),
            Action::Delete => plan.delete(path, tree),
            Action::Merge(json) => plan.merge(path, tree, &json)?,
            Action::JsonPatch(ops) => {
                let mut json = tree.to_json(&space).ok_or_else(|| WriteError::Absent(path.clone()))?;
                crate::json::apply_json_patch(&mut json, &ops).map_err(|error| patch(&error))?;
                plan.put_patched(path, tree, &json)?;
            }
            Action::Splice(splices) => {
                let mut json = tree.to_json(&space);
                for (steps, content) in splices {
                    if steps.is_empty() {
                        json = content;
                        continue;
                    }
                    let target = json.get_or_insert_with(|| Json::Object(Default::default()));
                    crate::json::apply_splice(target, &steps, content).map_err(|error| patch(&error))?;
                }
                match json {
                    Some(json) => plan.put_patched(path, tree, &json)?,
                    None => plan.delete(path, tree),
                }
            }
            // These have functions of their own.
            Action::Undo { .. } | Action::PutText { .. } | Action::EditText(_) | Action::Inc(_) | Action::Move { .. } => {}
            Action::Post { name, value } => match tree.list {
                Some(list) => created = Some(Created::Element(plan.append(path, tree, list, last, &value)?)),
                None => {
                    let segment = Segment::name(&name).map_err(|error| patch(&error))?;
                    let child = path.join(segment).map_err(|error| patch(&error))?;
                    plan.put(&child, &Tree::default(), &value)?;
                    created = Some(Created::Name(child));
                }
            },
        }
        Ok((plan, created))
    }

    /// Plans the inverse of a change.
    fn plan_undo(&mut self, space: Space, path: &Path, asker: Option<Asker>, version: Option<String>) -> Result<Plan<'_>, WriteError> {
        let t = space.main();
        let wanted = match version {
            Some(version) => self.resolve_at(t, path, asker, &[version])?.first().map(|name| name.a),
            None => None,
        };
        let (rows, bodies) = (&self.pipeline.rows, &mut self.pipeline.bodies);
        let mut did: Vec<Path> = Vec::new();
        let mut latest = wanted.unwrap_or(0);
        for row in rows.scan(Table::History, &node_key(t, &path.key()), None) {
            let (key, value) = row?;
            let Some((t_key, a, _)) = split_history_key(&key) else { continue };
            if wanted.is_none() && a > latest {
                latest = a;
                did.clear();
            }
            let entry = HistoryEntry::decode(&value).map_err(StorageError::from)?;
            if a == latest
                && !entry.hidden
                && (entry.writes || !entry.preds.is_empty())
                && let Some(at) = Path::from_key(&t_key[4..])
                && did.last() != Some(&at)
            {
                did.push(at);
            }
        }
        let inverses = if latest == 0 { Vec::new() } else { texts::inverses(rows, bodies, (t, latest), path, &self.inner.device.public())? };
        if did.is_empty() && inverses.is_empty() {
            return Err(WriteError::Absent(path.clone()));
        }
        if let Some((from, to)) = self.taken_from(space, path, latest)? {
            return Err(WriteError::Moved { from, to });
        }
        let (rows, bodies, space) = (&self.pipeline.rows, &mut self.pipeline.bodies, space.key);
        let view = View::before(rows, t, latest)?;
        let mut write_of = |a, index| {
            let id = OpId { change: summary(rows, t, a)?.id, index };
            bodies.write_at(rows, t, id)?.map(|(_, write)| write).ok_or(StorageError::Damaged { table: Table::History.name() })
        };
        let draft = texts::new_drafter(self.inner.device.public(), path.clone());
        let mut plan = Plan::new(space, move |list| Order::load(rows, t, list).unwrap_or_default(), draft);
        let mut whole: Option<Path> = None;
        for at in did {
            if whole.as_ref().is_some_and(|whole| whole.contains(&at)) {
                continue;
            }
            let t_key = node_key(t, &at.key());
            let visible = Node::load(rows, &t_key)?.visible(rows, &t_key, usize::MAX)?;
            let (ours, others): (Vec<_>, Vec<_>) = visible.into_iter().partition(|write| write.a == latest);
            let before = Tree::slot_at(rows, t, &at, &view, &mut write_of)?.into_iter().next();
            let comes_back = before.filter(|_| others.is_empty()).map(|write| write.value);
            if comes_back == Some(Value::List) {
                // A list that is made again is another one, so its elements have to be made again too.
                let old = Tree::load_at(rows, t, &at, &view, usize::MAX, &mut write_of)?;
                if let Some(json) = old.to_json(&space) {
                    plan.put(&at, &Tree::load(rows, t, &at, usize::MAX)?, &json)?;
                }
                whole = Some(at);
            } else if !ours.is_empty() || comes_back.is_some() {
                plan.restore(&at, comes_back, &ours)?;
            }
        }
        for inverse in inverses {
            match inverse {
                texts::Inverse::Text(made, draft) => plan.push_text(Target::Known(made), draft),
                texts::Inverse::Inc(made, delta) => plan.push_inc(Target::Known(made), delta),
                texts::Inverse::Move { list, element, before } => plan.move_element(&list, element, Some(&before)),
            }
        }
        Ok(plan)
    }

    /// Makes changes of bodies and stages them, all or none. Answers the id of the last, which is called as said, and says for whom it
    /// was made: so it is known when it is asked for again, and when it is told.
    pub(super) fn stage(
        &mut self,
        t: u32,
        bodies: Vec<PlannedBody>,
        caps: &[GrantId],
        called: Called,
        base: Option<Vec<ChangeId>>,
        time_ms: u64,
    ) -> Result<ChangeId, WriteError> {
        let Called { name, wanted, asker, behalf } = called;
        let asked = wanted.as_ref().and_then(|wanted| Asked::of(&self.inner.device, asker.as_ref(), wanted, name.as_deref()));
        let count = bodies.len().max(1) as u64;
        self.bytes = bodies.iter().map(PlannedBody::bytes).sum::<u64>() + count * OVERHEAD_BYTES;
        if self.bytes_max.is_some_and(|bytes_max| self.bytes > bytes_max) {
            return Err(WriteError::TooMuch(std::mem::take(&mut self.bytes)));
        }
        let planned: Vec<Option<PlannedBody>> = if bodies.is_empty() { vec![None] } else { bodies.into_iter().map(Some).collect() };
        let author = self.inner.device.public();
        let last = self.take_allowed(t, caps, |pipeline, cap| {
            let mut made: Vec<(usize, ChangeId)> = Vec::new();
            let mut changes: Vec<(Change, Body)> = Vec::new();
            for (number, planned) in (1..).zip(&planned) {
                let (first, mut body) = planned.clone().map_or_else(Default::default, |planned| planned.finish(&made));
                let before = changes.last().map(|(change, _)| change);
                body.base = match before {
                    Some(before) => Some(vec![before.id()]),
                    None => base.clone(),
                };
                body.ops.extend(behalf.as_ref().map(crate::behalf::to_op));
                if number == count {
                    body.label = name.as_deref().map(Into::into);
                    body.ops.extend(asked.iter().map(Asked::to_op));
                }
                if count > 1 {
                    body.part = Some(Part { number, count, first: made.first().map(|(_, id)| *id) });
                }
                let change = match before {
                    Some(before) => Pipeline::author_next(before, &body)?,
                    None => pipeline.author(t, author, Some(cap), time_ms, &body)?,
                };
                made.push((first, change.id()));
                changes.push((change, body));
            }
            Ok(changes)
        })?;
        if let Some(wanted) = wanted {
            // Nobody was told yet.
            for update in self.group.updates.iter_mut().rev().take_while(|update| update.id == last).filter_map(Arc::get_mut) {
                update.asked = Some((asker, wanted.as_str().into()));
            }
        }
        Ok(last)
    }

    /// The changes with a label, if there is one.
    pub(super) fn labelled(&self, t: u32, label: Option<&str>) -> Result<Vec<Labelled>, StorageError> {
        label.map_or_else(|| Ok(Vec::new()), |label| labelled(&self.pipeline.rows, t, label))
    }

    /// Those of them that whoever asks may have made: of this device for the same one, and, if the owner asks, of his other
    /// devices. A name that somebody else gave to something is no business of who asks: it neither has what he writes pass
    /// for written, nor keeps him from writing it.
    fn of_asker(&self, t: u32, label: &str, labelled: &[Labelled], asker: Option<Asker>) -> Result<Vec<u64>, StorageError> {
        let device = &self.inner.device;
        let own = device.public();
        let mut found = Vec::new();
        for one in labelled {
            let author = summary(&self.pipeline.rows, t, one.a)?.author;
            let is_owners = || asker.is_none() && one.whom == Whom::Owner && self.pipeline.rights(AUTH).was_device(&author);
            let is_his = if author == own { one.is_for(device, asker.as_ref(), label) } else { is_owners() };
            if is_his {
                found.push(one.a);
            }
        }
        Ok(found)
    }

    /// The first of them that did something at a path.
    pub(super) fn known_here(
        &self,
        t: u32,
        path: &Path,
        label: Option<&str>,
        labelled: &[Labelled],
        asker: Option<Asker>,
    ) -> Result<Option<u64>, StorageError> {
        for a in self.of_asker(t, label.unwrap_or_default(), labelled, asker)? {
            if texts::did_something(&self.pipeline.rows, t, path, a)? {
                return Ok(Some(a));
            }
        }
        Ok(None)
    }

    /// A label, unless a version of the path has it already: two with one name would be taken for one.
    pub(super) fn unless_taken(&self, t: u32, path: &Path, label: Option<String>, taken: &[Labelled]) -> Result<Option<String>, StorageError> {
        for one in taken {
            if texts::did_something(&self.pipeline.rows, t, path, one.a)? {
                return Ok(None);
            }
        }
        Ok(label)
    }

    /// Answers a request that was carried out before.
    fn replay(&mut self, t: u32, path: &Path, a: u64, existed: bool) -> Result<Written, WriteError> {
        let t_key = node_key(t, &path.key());
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        Ok(Written { version, change: Some(summary(&self.pipeline.rows, t, a)?.id), created: None, existed, durable: true })
    }

    /// How much of what an action asks for at a path a change of the same name did that whoever asks may have made.
    fn repeats(&mut self, space: Space, path: &Path, a: u64, action: &Action) -> Result<Repeats, WriteError> {
        let t = space.main();
        let named = self.pipeline.bodies.named_by(&self.pipeline.rows, t, a)?;
        if named.iter().any(|at| !path.contains(at)) {
            // A request names elements by their number, and that is another one's now.
            return Ok(match named.iter().any(|at| path.contains(at)) {
                _ if named.iter().all(|at| is_like(path, at)) => Repeats::All,
                true => Repeats::Part,
                false => Repeats::Nothing,
            });
        }
        // What was written where, if nothing was to be done, is not known.
        let differs = if named.is_empty() { Repeats::Nothing } else { Repeats::Part };
        match action {
            Action::Post { .. } | Action::Undo { .. } if named.is_empty() => return Ok(Repeats::Nothing),
            Action::Post { .. } | Action::Undo { .. } | Action::JsonPatch(_) | Action::Splice(_) => return Ok(Repeats::All),
            _ => {}
        }
        // Asked for once more right after it, nothing would be left to do.
        let base = vec![a];
        let tree = load_at(&mut self.pipeline, t, path, &base, action, &space.key)?;
        let view = Some(View::of(&self.pipeline.rows, t, &base)?);
        let is_same = match self.plan(space, path, &tree, action.clone(), view) {
            Ok((plan, _)) => plan.into_bodies()?.is_empty(),
            Err(WriteError::Absent(_)) => matches!(action, Action::Delete),
            Err(error) => return Err(error),
        };
        Ok(if is_same { Repeats::All } else { differs })
    }
}

/// What a change is called, and for whom that is so.
pub(super) struct Called {
    /// Its public name.
    pub(super) name: Option<String>,
    /// What whoever asked for it called it.
    pub(super) wanted: Option<String>,
    /// Who that was, if not the owner.
    pub(super) asker: Option<Asker>,
    /// The key that he signs with, if he has one.
    pub(super) behalf: Option<PublicKey>,
}

impl Called {
    /// Nothing in particular.
    pub(super) fn not(may_name: Option<&MayName>) -> Self {
        let (asker, behalf) = whom(may_name);
        Self { name: None, wanted: None, asker, behalf }
    }
}

/// Who asks, if not the owner, and the key that he signs with if he has one.
pub(super) fn whom(may_name: Option<&MayName>) -> (Option<Asker>, Option<PublicKey>) {
    (may_name.map(|may_name| may_name.asker), may_name.and_then(|may_name| may_name.behalf))
}

/// How much of a request was carried out before under the name that it gives its version.
enum Repeats {
    /// All of it.
    All,
    /// Something else at the same path: the name is taken.
    Part,
    /// Nothing: that was another one, at another path.
    Nothing,
}

/// Whether a path leads to the other one or above it, if elements of lists are not told apart. False without any.
fn is_like(path: &Path, other: &Path) -> bool {
    let (own, other) = (path.segments(), other.segments());
    let is_same = |(one, other): (&Segment, &Segment)| matches!((one, other), (Segment::Element(_), Segment::Element(_))) || one == other;
    own.iter().any(|segment| matches!(segment, Segment::Element(_))) && other.len() >= own.len() && own.iter().zip(other).all(is_same)
}

/// Names at the top that begin with a dot belong to the system; some of them hold data of the space.
fn is_free(name: &str) -> bool {
    !name.starts_with('.') || matches!(name, ".apps" | ".prog" | ".time")
}

/// Whether a path is the system's, so that no request writes there.
#[must_use]
pub fn is_reserved(path: &Path) -> bool {
    matches!(path.segments().first(), Some(Segment::Name(name)) if !is_free(name))
}

pub(super) fn check_reserved(path: &Path, action: &Action) -> Result<(), WriteError> {
    let refused = match (path.segments().first(), action) {
        (Some(_), _) => is_reserved(path),
        (None, Action::Put(Json::Object(members)) | Action::Merge(Json::Object(members))) => members.keys().any(|name| !is_free(name)),
        _ => false,
    };
    if refused { Err(WriteError::Reserved(path.clone())) } else { Ok(()) }
}

enum Created {
    Name(Path),
    Element(usize),
}

/// Checks a request's condition against the version that its path has; `is_same` says whether names mean that one.
pub(super) fn check_condition(
    condition: &Condition,
    existed: bool,
    version: &[String],
    content_tag: Option<String>,
    path: &Path,
    is_same: impl FnOnce(&[String]) -> bool,
) -> Result<(), WriteError> {
    let holds = match condition {
        Condition::None => true,
        Condition::Present => existed,
        Condition::Absent => !existed,
        Condition::Match { version: wanted, tags } => {
            tags.contains(&version_tag(version))
                || content_tag.is_some_and(|tag| tags.contains(&tag))
                || wanted.as_ref().is_some_and(|wanted| is_same(wanted))
        }
    };
    if holds { Ok(()) } else { Err(WriteError::Condition { path: path.clone(), version: version.to_vec() }) }
}

fn load_at(
    pipeline: &mut Pipeline,
    t: u32,
    path: &Path,
    base: &[u64],
    action: &Action,
    space: &timebus_identity::PublicKey,
) -> Result<Tree, StorageError> {
    let view = View::of(&pipeline.rows, t, base)?;
    let (rows, bodies) = (&pipeline.rows, &mut pipeline.bodies);
    let write_of = |a, index| {
        let id = OpId { change: summary(rows, t, a)?.id, index };
        bodies.write_at(rows, t, id)?.map(|(_, write)| write).ok_or(StorageError::Damaged { table: Table::History.name() })
    };
    match action {
        Action::Merge(patch) => Tree::load_at_for_merge(rows, t, path, patch, space, &view, write_of),
        _ => Tree::load_at(rows, t, path, &view, usize::MAX, write_of),
    }
}
