//! Changes of this home that nobody else takes, and what they wrote.
//!
//! A home once signed changes beyond what its grants in spaces of others allow: when what may be written was used up, or when the
//! grant had ended. It kept them, everybody else refuses them for ever, and with them all that its chain goes on to. No other home
//! holds any of them, so this one gives them up, too: when the tables are made anew from the log they are passed over, the chain
//! goes on from the last change that others take, and what the given up ones show here is written again.

use std::collections::HashSet;
use std::sync::mpsc;

use tokio::sync::oneshot;

use super::{Opened, Request, StorageError};
use crate::json::Json;
use crate::keyspace::{Layered, Rows, Table};
use crate::path::{Path, Segment};
use crate::pipeline::{Pipeline, Space};
use crate::summary::{Summary, summary};
use crate::tree::{Shape, Tree};
use crate::value::Value;
use crate::writer::{Action, Condition, Job};

/// Key of the row that says that no such change is in the tables.
const NONE_UNTAKEN: &[u8] = b"limits";

/// Remembers that no such change is in the tables.
pub(crate) fn note_none(rows: &mut Layered) {
    rows.staged.put(Table::Meta, NONE_UNTAKEN.to_vec(), Vec::new());
}

/// Such changes, and requests that write again what they show here.
#[derive(Debug, Default)]
pub(crate) struct Untaken {
    /// How many.
    pub(crate) changes: usize,
    /// What they show.
    pub(crate) again: Vec<Request>,
}

impl Untaken {
    /// Why the tables are made anew.
    pub(crate) fn reason(&self) -> String {
        let changes = self.changes;
        format!("{changes} changes in spaces of others are beyond what was granted there, so nobody takes them; they are given up")
    }

    /// Asks for what they show to be written again, before anything else is.
    pub(crate) fn write_again(self, jobs: &mpsc::Sender<Job>, opened: &mut Opened) {
        for request in self.again {
            opened.again.extend(request.space.map(|space| (space.key, request.path.clone())));
            // What is no longer allowed is not written again, and nobody waits for the answer.
            let _ = jobs.send(Job::Write(Box::new(request), oneshot::channel().0));
        }
    }
}

/// Looks for such changes, unless it is known that there are none.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn untaken(pipeline: &mut Pipeline, now_ms: u64) -> Result<Untaken, StorageError> {
    let mut found = Untaken::default();
    if pipeline.rows.get(Table::Meta, NONE_UNTAKEN)?.is_some() {
        return Ok(found);
    }
    let others: Vec<Space> = pipeline.spaces().filter(|space| !space.is_own()).collect();
    for space in others {
        found.changes += untaken_in(pipeline, space.auth())?.len();
        for t in pipeline.values(space) {
            let changes = untaken_in(pipeline, t)?;
            found.changes += changes.len();
            let mut paths: Vec<Path> = Vec::new();
            // What is beyond a limit itself shows nowhere, not even here.
            for (a, _) in changes.into_iter().filter(|(_, is_beyond)| !is_beyond) {
                paths.extend(pipeline.bodies.named_by(&pipeline.rows, t, a)?.into_iter().filter_map(|path| named_part(&path)));
            }
            paths.sort();
            paths.dedup();
            for path in paths {
                let tree = Tree::load(&pipeline.rows, t, &path, usize::MAX)?;
                let Some(action) = again(&tree, &space) else { continue };
                let (space, condition, parents, label, may_name) = (Some(space.with(t)), Condition::None, None, None, None);
                found.again.push(Request { space, path, action, parents, label, condition, time_ms: now_ms, durable: true, may_name });
            }
        }
    }
    Ok(found)
}

/// Such changes of a timeline: those beyond what their grant allows, for which that is said, and those that stand on them.
fn untaken_in(pipeline: &Pipeline, t: u32) -> Result<Vec<(u64, bool)>, StorageError> {
    let (rows, rights) = (&pipeline.rows, pipeline.rights(t));
    let mut found = Vec::new();
    let mut known: HashSet<u64> = HashSet::new();
    for row in rows.scan(Table::Change, &t.to_be_bytes(), None) {
        let (key, value) = row?;
        let Some(a) = key.last_chunk::<8>().map(|a| u64::from_be_bytes(*a)) else { continue };
        let own = Summary::decode(&value)?;
        let before = if own.seq > 1 { own.deps.first() } else { None };
        let before = before.map(|prev| summary(rows, t, *prev)).transpose()?.map_or(0, |prev| prev.cum);
        let is_beyond = own.cap.is_some_and(|cap| rights.check_limits(&cap, own.cum, own.cum - before.min(own.cum), own.time_ms).is_err());
        if is_beyond || own.deps.iter().any(|dep| known.contains(dep)) {
            known.insert(a);
            found.push((a, is_beyond));
        }
    }
    Ok(found)
}

/// A path up to where it goes into a list, which is written as a whole.
fn named_part(path: &Path) -> Option<Path> {
    let names = path.segments().iter().take_while(|segment| matches!(segment, Segment::Name(_)));
    Path::new(names.cloned().collect()).ok()
}

/// Writes what is at a path, and not what is below it.
fn again(tree: &Tree, space: &Space) -> Option<Action> {
    let json = || tree.to_json(&space.key);
    match (tree.shape(), tree.writes.first().map(|write| &write.value)) {
        (Shape::Absent, _) => Some(Action::Delete),
        (Shape::Scalar, Some(Value::Text { mime, .. })) => match json()? {
            Json::String(text) => Some(Action::PutText { mime: mime.clone(), text }),
            _ => None,
        },
        (Shape::Scalar, Some(value @ (Value::Bytes { .. } | Value::Blob { .. } | Value::Link { .. }))) => Some(Action::PutValue(value.clone())),
        (Shape::Object, _) if !tree.names.is_empty() => None,
        _ => json().map(Action::Put),
    }
}

#[cfg(test)]
mod tests;
