//! Versions by the names that clients know them by.

use super::{WriteError, version_tag};
use crate::ids::ChangeId;
use crate::keyspace::Rows;
use crate::node::Node;
use crate::objects::{ObjectId, creator, event_name};
use crate::pipeline::labelled;
use crate::store::StorageError;
use crate::summary::{find, summary};
use crate::value::Value;

/// The public names of changes, sorted.
///
/// # Errors
///
/// [`StorageError`].
pub fn names(rows: &impl Rows, t: u32, touch: &[u64]) -> Result<Vec<String>, StorageError> {
    let mut names = touch.iter().map(|a| Ok(summary(rows, t, *a)?.name())).collect::<Result<Vec<_>, StorageError>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Most names of a version: of more, that nobody has gone on from, all together have one, by which they are known as long as nothing
/// is added. Whoever is told a version can say it.
pub const NAMES_MAX: usize = 64;
/// What the names of so many begin with.
const MANY: &str = "=";

/// Whether a name is that of many changes.
pub(super) fn is_of_many(name: &str) -> bool {
    name.starts_with(MANY)
}

/// The changes that a name of many stands for; `None` if it is not what is at the path now.
pub(super) fn many(rows: &impl Rows, t: u32, t_key: &[u8], name: &str) -> Result<Option<Vec<u64>>, StorageError> {
    let node = Node::load(rows, t_key)?;
    let now = names_at(rows, t, t_key, &node)?;
    Ok(if now == [name] { Some(node.version(rows, t_key)?) } else { None })
}

/// The version of a node, as its readers call it: an event of a text is named as its session counts. At most [`NAMES_MAX`] names.
///
/// # Errors
///
/// [`StorageError`].
pub fn names_at(rows: &impl Rows, t: u32, t_key: &[u8], node: &Node) -> Result<Vec<String>, StorageError> {
    let touch = node.version(rows, t_key)?;
    let mut names = Vec::with_capacity(touch.len());
    let mut text: Option<Option<ObjectId>> = None;
    for a in &touch {
        let own = summary(rows, t, *a)?;
        if own.label.is_some() {
            names.push(own.name());
            continue;
        }
        if text.is_none() {
            let winner = if node.below == 0 { node.winner(rows, t_key)? } else { None };
            let made = winner.filter(|write| matches!(write.value, Value::Text { .. }));
            text = Some(match made {
                Some(write) => creator(rows, t, &write.id)?.map(|made| made.object),
                None => None,
            });
        }
        let event = text.flatten().map(|object| event_name(rows, t, &object, *a)).transpose()?.flatten();
        names.push(event.unwrap_or_else(|| own.name()));
    }
    names.sort_unstable();
    Ok(if names.len() > NAMES_MAX { vec![format!("{MANY}{}", version_tag(&names))] } else { names })
}

/// The ids of changes, sorted.
pub(super) fn ids_of(rows: &impl Rows, t: u32, changes: &[u64]) -> Result<Vec<ChangeId>, StorageError> {
    let mut ids = changes.iter().map(|a| Ok(summary(rows, t, *a)?.id)).collect::<Result<Vec<_>, StorageError>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Finds versions by id or public name.
///
/// # Errors
///
/// [`WriteError::UnknownVersion`] with all that are unknown or ambiguous.
pub fn resolve(rows: &impl Rows, t: u32, versions: &[String]) -> Result<Vec<u64>, WriteError> {
    let mut found = Vec::with_capacity(versions.len());
    let mut unknown = Vec::new();
    for version in versions {
        let by_label = labelled(rows, t, version)?;
        let by_id = match version.parse::<ChangeId>() {
            Ok(id) => find(rows, &id)?.filter(|(found, _)| *found == t).map(|(_, a)| a),
            Err(_) => None,
        };
        match (by_id, &by_label[..]) {
            (Some(a), _) => found.push(a),
            (None, [one]) => found.push(one.a),
            _ => unknown.push(version.clone()),
        }
    }
    if unknown.is_empty() { Ok(found) } else { Err(WriteError::UnknownVersion(unknown)) }
}

pub(super) fn same_version(wanted: &[String], version: &[String], rows: &impl Rows, t: u32, node: &Node, t_key: &[u8]) -> Result<bool, WriteError> {
    let mut sorted = wanted.to_vec();
    sorted.sort_unstable();
    if sorted == version {
        return Ok(true);
    }
    let mut found = resolve(rows, t, wanted)?;
    found.sort_unstable();
    Ok(found == node.version(rows, t_key)?)
}
