//! Reading: values, texts and changes as they are now or were at a version.

use std::collections::BTreeMap;
use std::sync::Arc;

use timebus_identity::PublicKey;

use super::{StorageError, Store};
use crate::fold::Bodies;
use crate::ids::OpId;
use crate::keyspace::{Committed, Rows as _, Table};
use crate::list::shown::{Look, Place, Shown};
use crate::node::{Node, Write, Writes, node_key};
use crate::objects::{ObjectId, creator, load_text, text_at};
use crate::path::Path;
use crate::pipeline::{APPLIED, Space, decode_applied};
use crate::summary::{Summary, summary};
use crate::text::{TextObject, TextVersion};
use crate::tree::{CONFLICT_PAGE, Tree};
use crate::value::Value;
use crate::view::View;
use crate::writer::{Asker, Named, WriteError, names_at, resolve_at, text_version};

/// A path's version, value and more, read at one moment.
#[derive(Debug)]
pub struct Reading {
    /// The subtree.
    pub tree: Tree,
    /// Its version.
    pub version: Vec<String>,
}

/// The latest change that a state has.
fn applied(rows: &Committed) -> Result<u64, StorageError> {
    Ok(rows.get(Table::Meta, APPLIED)?.map(|row| decode_applied(&row)).transpose()?.map_or(0, |(next, _)| next.saturating_sub(1)))
}

impl Store {
    /// The same store, for somebody else than the owner: names of versions are first of all what he called so.
    #[must_use]
    pub fn asked_by(&self, asker: Option<Asker>) -> Self {
        Self { asker, ..self.clone() }
    }

    /// The version of a path.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn version(&self, rows: &Committed, space: Space, path: &Path) -> Result<Vec<String>, StorageError> {
        let t_key = node_key(space.main(), &path.key());
        names_at(rows, space.main(), &t_key, &Node::load(rows, &t_key)?)
    }

    /// The text at a path with all of its ops, for whoever merges or looks back; `None` if no text shows there.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn text(&self, rows: &Committed, space: Space, path: &Path) -> Result<Option<TextObject>, StorageError> {
        let t = space.main();
        let t_key = node_key(t, &path.key());
        let node = Node::load(rows, &t_key)?;
        let winner = if node.below == 0 { node.winner(rows, &t_key)? } else { None };
        let made = match winner.filter(|write| matches!(write.value, Value::Text { .. })) {
            Some(write) => creator(rows, t, &write.id)?,
            None => None,
        };
        made.map(|made| load_text(rows, t, &made.object)).transpose()
    }

    /// The version of the text at a path that names stand for.
    ///
    /// # Errors
    ///
    /// [`WriteError::UnknownVersion`], [`WriteError::Storage`].
    pub fn text_version(
        &self,
        rows: &Committed,
        space: Space,
        path: &Path,
        text: &TextObject,
        versions: &[String],
    ) -> Result<TextVersion, WriteError> {
        let named =
            resolve_at(rows, space.main(), path, (&self.inner.device, self.asker), versions, |_, _, agent, seq| Ok(text.find_version(agent, seq)))?;
        Ok(text_version(rows, space.main(), text, &named)?)
    }

    /// What is at a path.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn read(&self, rows: &Committed, space: Space, path: &Path) -> Result<Reading, StorageError> {
        Ok(Reading { tree: self.tree(rows, space, path)?, version: self.version(rows, space, path)? })
    }

    /// Whether something is at or below a path, as [`Condition::Absent`] and [`Condition::Present`] ask. It costs the same whatever is
    /// there.
    ///
    /// [`Condition::Absent`]: crate::writer::Condition::Absent
    /// [`Condition::Present`]: crate::writer::Condition::Present
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn is_anything_at(&self, rows: &Committed, space: Space, path: &Path) -> Result<bool, StorageError> {
        let node = Node::load(rows, &node_key(space.main(), &path.key()))?;
        Ok(node.count() > 0 || node.below > 0)
    }

    /// What is at a path, for whoever does not ask for its version, which takes longer to find out.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn tree(&self, rows: &Committed, space: Space, path: &Path) -> Result<Tree, StorageError> {
        Tree::load(rows, space.main(), path, CONFLICT_PAGE)
    }

    /// The elements of the list at a path that show, in order, of a state that was published; `None` if what is there is no list,
    /// or somebody disagrees about that. A list that was read before is not read again but for what changed.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn elements(&self, rows: &Committed, space: Space, path: &Path) -> Result<Option<Arc<Vec<OpId>>>, StorageError> {
        let t = space.main();
        let Writes::One(Write { value: Value::List, id: list, .. }) = Node::load(rows, &node_key(t, &path.key()))?.writes else { return Ok(None) };
        let place = Place { t, path: path.clone(), list };
        let upto = applied(rows)?;
        let look = self.inner.lists().look(&place, upto);
        if let Look::Known(before, shown, touched) = look {
            if touched.is_empty() {
                return Ok(Some(shown.elements));
            }
            if let Some(shown) = shown.again(rows, &place, &touched)? {
                self.inner.lists().keep(&place, before, upto, shown.clone());
                return Ok(Some(shown.elements));
            }
        }
        let mut lists = self.inner.lists();
        // What touched it between this state and the newest one nobody took note of.
        if applied(&self.snapshot())? == upto {
            lists.begin(&place, upto);
        }
        drop(lists);
        let shown = Shown::read(rows, &place)?;
        self.inner.lists().keep(&place, upto, upto, shown.clone());
        Ok(Some(shown.elements))
    }

    /// What was at a path at versions, as their writers saw it.
    ///
    /// # Errors
    ///
    /// [`WriteError::UnknownVersion`], [`WriteError::Storage`].
    pub fn read_at(&self, rows: &Committed, space: Space, path: &Path, versions: &[String]) -> Result<Tree, WriteError> {
        let t = space.main();
        let named = self.resolve_at(rows, space, path, versions)?;
        let view = View::of(rows, t, &named.iter().map(|name| name.a).collect::<Vec<_>>())?;
        let mut bodies = Bodies::new(self.inner.log.clone());
        let mut tree = Tree::load_at(rows, t, path, &view, CONFLICT_PAGE, |a, index| {
            let id = OpId { change: summary(rows, t, a)?.id, index };
            let write = bodies.write_at(rows, t, id)?;
            write.map(|(_, write)| write).ok_or(StorageError::Damaged { table: Table::History.name() })
        })?;
        // Who edits a text need not have seen who began it, and then its version is a version all the same.
        if tree.is_absent()
            && !named.is_empty()
            && let Some(text) = self.text(rows, space, path)?
        {
            let version = text_version(rows, t, &text, &named)?;
            let mut now = self.read(rows, space, path)?.tree;
            if !version.is_empty()
                && let Some(Value::Text { content: Some(content), .. }) = now.writes.first_mut().map(|write| &mut write.value)
            {
                Arc::make_mut(content).text = text_at(&text, &version)?;
                now.writes.truncate(1);
                return Ok(now);
            }
        }
        // A view knows whole changes; the version of a text may be inside one.
        for write in &mut tree.writes {
            if let Value::Text { content: Some(content), .. } = &mut write.value
                && named.iter().any(|name| name.event.is_some())
            {
                let text = load_text(rows, t, &content.object)?;
                let version = text_version(rows, t, &text, &named)?;
                Arc::make_mut(content).text = text_at(&text, &version)?;
            }
        }
        Ok(tree)
    }

    /// Finds versions by what readers of a path call them.
    fn resolve_at(&self, rows: &Committed, space: Space, path: &Path, versions: &[String]) -> Result<Vec<Named>, WriteError> {
        let t = space.main();
        let mut texts: BTreeMap<ObjectId, TextObject> = BTreeMap::new();
        resolve_at(rows, t, path, (&self.inner.device, self.asker), versions, |rows, object, agent, seq| {
            if !texts.contains_key(object) {
                texts.insert(*object, load_text(rows, t, object)?);
            }
            Ok(texts[object].find_version(agent, seq))
        })
    }

    /// Whether versions name exactly what is at a path now.
    ///
    /// # Errors
    ///
    /// [`WriteError::UnknownVersion`], [`WriteError::Storage`].
    pub fn is_current(&self, rows: &Committed, space: Space, path: &Path, versions: &[String]) -> Result<bool, WriteError> {
        let named = self.resolve_at(rows, space, path, versions)?;
        let mut wanted: Vec<u64> = named.iter().map(|name| name.a).collect();
        wanted.sort_unstable();
        let is_whole = named.iter().all(|name| name.event.is_none());
        let t_key = node_key(space.main(), &path.key());
        Ok(is_whole && Node::load(rows, &t_key)?.version(rows, &t_key)? == wanted)
    }

    /// A change as signed, by its arrival number in a timeline.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn record(&self, rows: &Committed, t: u32, a: u64) -> Result<Vec<u8>, StorageError> {
        Ok(self.inner.log.read(summary(rows, t, a)?.place)?.payload)
    }

    /// The changes of a timeline in order of arrival, from an arrival number on.
    pub fn changes<'a>(&self, rows: &'a Committed, t: u32, from: u64) -> impl Iterator<Item = Result<(u64, Summary), StorageError>> + use<'a> {
        let key = crate::summary::change_key(t, from);
        rows.scan(Table::Change, &t.to_be_bytes(), Some(&key)).map(|row| {
            let (key, value) = row?;
            let a = key.last_chunk::<8>().map_or(0, |a| u64::from_be_bytes(*a));
            Ok((a, Summary::decode(&value)?))
        })
    }

    /// The changes of a timeline that had an effect, latest first, from before an arrival number on, with the
    /// paths that their ops name.
    pub fn latest<'a>(
        &self,
        rows: &'a Committed,
        t: u32,
        before: Option<u64>,
    ) -> impl Iterator<Item = Result<(u64, Summary, Vec<Path>), StorageError>> + use<'a> {
        let mut bodies = Bodies::new(self.inner.log.clone());
        let before = before.map(|a| crate::summary::change_key(t, a));
        let found = rows.scan_back(Table::Change, &t.to_be_bytes(), before.as_ref().map(|key| &key[..]));
        found.filter_map(move |row| {
            let read = || {
                let (key, value) = row?;
                let a = key.last_chunk::<8>().map_or(0, |a| u64::from_be_bytes(*a));
                let own = Summary::decode(&value)?;
                let counts = own.part.is_none() || own.folded;
                let paths = if counts { bodies.named_by(rows, t, a)? } else { Vec::new() };
                Ok((!paths.is_empty()).then_some((a, own, paths)))
            };
            read().transpose()
        })
    }

    /// The changes of a timeline that some device says it made on somebody's behalf, if `is_meant` says so of that device, and that
    /// had an effect, latest first, with the paths that their ops name.
    pub fn made_for<'a>(
        &self,
        rows: &'a Committed,
        t: u32,
        key: &PublicKey,
        is_meant: impl Fn(&PublicKey) -> bool + 'a,
    ) -> impl Iterator<Item = Result<(u64, Summary, Vec<Path>), StorageError>> + 'a {
        let mut bodies = Bodies::new(self.inner.log.clone());
        rows.scan_back(Table::Meta, &crate::pipeline::behalf_prefix(t, key), None).filter_map(move |row| {
            let read = || {
                let a = row?.0.last_chunk::<8>().map_or(0, |a| u64::from_be_bytes(*a));
                let own = summary(rows, t, a)?;
                let counts = (own.part.is_none() || own.folded) && is_meant(&own.author);
                let paths = if counts { bodies.named_by(rows, t, a)? } else { Vec::new() };
                Ok((!paths.is_empty()).then_some((a, own, paths)))
            };
            read().transpose()
        })
    }
}
