//! What is directly below a path: its names, and its members with all that is below them.

use fjall::Slice;

use super::{Builder, CONFLICT_PAGE, Tree};
use crate::keyspace::{Committed, Rows, Scan, Table};
use crate::node::{Node, node_key};
use crate::path::{Path, Segment};
use crate::store::StorageError;

/// The names directly below a path that have visible writes, in order.
pub fn child_names<'a, R: Rows>(rows: &'a R, t: u32, path: &Path) -> impl Iterator<Item = Result<Box<str>, StorageError>> + use<'a, R> {
    child_names_after(rows, t, path, None)
}

/// As [`child_names`], those behind a name. What is below each name is skipped, not read.
pub fn child_names_after<'a, R: Rows>(
    rows: &'a R,
    t: u32,
    path: &Path,
    after: Option<&str>,
) -> impl Iterator<Item = Result<Box<str>, StorageError>> + use<'a, R> {
    let prefix = node_key(t, &path.key());
    let mut from = behind(&prefix, after);
    std::iter::from_fn(move || {
        loop {
            let row = match rows.scan(Table::Node, &prefix, Some(&from)).next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            let damaged = || StorageError::Damaged { table: Table::Node.name() };
            let Some((segment, tail)) = Segment::split_key(&row.0[prefix.len()..]) else { return Some(Err(damaged())) };
            let child = row.0[..row.0.len() - tail.len()].to_vec();
            from = child.clone();
            if let Some(last) = from.last_mut() {
                *last = 1;
            }
            let Segment::Name(name) = segment else { continue };
            match Node::load(rows, &child) {
                Ok(node) if node.count() > 0 || node.below > 0 => return Some(Ok(name)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

/// As [`child_names`], those before a name, the last one first. What is below each name is skipped, not read.
pub fn child_names_before<'a>(
    rows: &'a Committed,
    t: u32,
    path: &Path,
    before: Option<&str>,
) -> impl Iterator<Item = Result<Box<str>, StorageError>> + use<'a> {
    let prefix = node_key(t, &path.key());
    let mut before = before.map(|name| name_key(&prefix, name));
    std::iter::from_fn(move || {
        loop {
            let row = match rows.scan_back(Table::Node, &prefix, before.as_deref()).next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            // The node itself comes first in order.
            if row.0.len() == prefix.len() {
                return None;
            }
            let damaged = || StorageError::Damaged { table: Table::Node.name() };
            let Some((segment, tail)) = Segment::split_key(&row.0[prefix.len()..]) else { return Some(Err(damaged())) };
            // Elements of lists stand before all names.
            let Segment::Name(name) = segment else { return None };
            let child = row.0[..row.0.len() - tail.len()].to_vec();
            let node = Node::load(rows, &child);
            before = Some(child);
            match node {
                Ok(node) if node.count() > 0 || node.below > 0 => return Some(Ok(name)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

/// The members behind a name, in order, each with all that is below it. One walk over the rows: where everything is wanted,
/// many times faster than the names and then a tree for each.
pub fn members_after<'a>(
    rows: &'a Committed,
    t: u32,
    path: &Path,
    after: Option<&str>,
) -> impl Iterator<Item = Result<(Box<str>, Tree), StorageError>> + use<'a> {
    let prefix = node_key(t, &path.key());
    let scan = rows.scan(Table::Node, &prefix, Some(&behind(&prefix, after)));
    Members { rows, t, scan, prefix, held: None, below_max: u64::MAX }.filter_map(whole)
}

/// All members, in order, each with all that is below it; without, where that is more than so many visible writes.
pub fn members_up_to<'a>(rows: &'a Committed, t: u32, path: &Path, below_max: u64) -> impl Iterator<Item = Result<Member, StorageError>> + use<'a> {
    let prefix = node_key(t, &path.key());
    let scan = rows.scan(Table::Node, &prefix, Some(&behind(&prefix, None)));
    Members { rows, t, scan, prefix, held: None, below_max }
}

/// A member of which nothing is left out.
fn whole(member: Result<Member, StorageError>) -> Option<Result<(Box<str>, Tree), StorageError>> {
    member.map(|(name, tree)| tree.map(|tree| (name, tree))).transpose()
}

/// As [`members_after`], those before a name, the last one first.
pub fn members_before<'a>(
    rows: &'a Committed,
    t: u32,
    path: &Path,
    before: Option<&str>,
) -> impl Iterator<Item = Result<(Box<str>, Tree), StorageError>> + use<'a> {
    let prefix = node_key(t, &path.key());
    let before = before.map(|name| name_key(&prefix, name));
    let scan = rows.scan_back(Table::Node, &prefix, before.as_deref());
    Members { rows, t, scan, prefix, held: None, below_max: u64::MAX }.filter_map(whole)
}

/// The key of what has a name below a node.
fn name_key(prefix: &[u8], name: &str) -> Vec<u8> {
    [prefix, name.as_bytes(), &[0]].concat()
}

/// Where the walk over members behind a name begins, or over all of them.
fn behind(prefix: &[u8], after: Option<&str>) -> Vec<u8> {
    match after {
        // Behind the name and all below it: its key with the closing 0 raised to 1.
        Some(name) => [prefix, name.as_bytes(), &[1]].concat(),
        // Behind the node itself and its list elements, whose keys begin with 1.
        None => [prefix, &[2]].concat(),
    }
}

/// A walk over the rows below a node, in either direction, that makes a tree of those of each member.
struct Members<'a> {
    rows: &'a Committed,
    t: u32,
    scan: Scan<'a>,
    /// The key of the node.
    prefix: Vec<u8>,
    /// The first row of the next member.
    held: Option<(Slice, Slice)>,
    /// Of a member with more visible writes below nothing is read but that, where the walk goes forward.
    below_max: u64,
}

/// A name, and what is below it if anything shows.
type Member = (Box<str>, Option<Tree>);

impl Members<'_> {
    /// The next row, unless the members are at their end.
    fn row(&mut self) -> Option<Result<(Slice, Slice), StorageError>> {
        self.held.take().map(Ok).or_else(|| self.scan.next())
    }

    /// The member that a row belongs to, and the length of its key; `None` for the node itself and for elements of lists.
    fn member_of(&self, t_key: &[u8]) -> Result<Option<(Box<str>, usize)>, StorageError> {
        let below = &t_key[self.prefix.len()..];
        if below.is_empty() {
            return Ok(None);
        }
        let (segment, tail) = Segment::split_key(below).ok_or(StorageError::Damaged { table: Table::Node.name() })?;
        Ok(match segment {
            Segment::Name(name) => Some((name, t_key.len() - tail.len())),
            Segment::Element(_) => None,
        })
    }

    fn read(&mut self) -> Result<Option<Member>, StorageError> {
        while let Some(row) = self.row() {
            let mut row = row?;
            let Some((name, len)) = self.member_of(&row.0)? else { continue };
            let key = row.0[..len].to_vec();
            let mut builder = Builder::new(self.rows, self.t, len - 4, None);
            loop {
                let node = Node::decode(&row.1)?;
                if node.below > self.below_max && row.0.len() == len {
                    let behind = [&key[..len - 1], &[1]].concat();
                    self.scan = self.rows.scan(Table::Node, &self.prefix, Some(&behind));
                    return Ok(Some((name, None)));
                }
                if node.count() > 0 {
                    builder.add(&row.0[4..], node.visible(self.rows, &row.0, CONFLICT_PAGE)?)?;
                }
                match self.scan.next().transpose()? {
                    Some(next) if next.0.starts_with(&key) => row = next,
                    next => {
                        self.held = next;
                        break;
                    }
                }
            }
            let tree = builder.finish(&key)?;
            if !tree.is_absent() {
                return Ok(Some((name, Some(tree))));
            }
        }
        Ok(None)
    }
}

impl Iterator for Members<'_> {
    type Item = Result<Member, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
