//! The tables of derived state: which exist, what their keys and values are, and how rows are read while a
//! group of changes is still being prepared.
//!
//! Everything here can be rebuilt from the change log. `t` is the local number of a timeline (4 bytes,
//! big-endian), `a` the local arrival number of a change (8 bytes, big-endian), `key` a [`crate::path::Path::key`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, Readable, Slice, Snapshot};

pub use memory::{COMMITS_LOST_MAX, MemoryTables};
pub use staged::Staged;

use self::memory::MemorySnapshot;
use crate::pipeline::APPLIED;
use crate::store::StorageError;

mod memory;
mod staged;

/// One table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Key: `ChangeId` (32). Value: `t` (4), `a` (8).
    Index,
    /// Key: `t ‖ a`. Value: [`crate::summary::Summary`].
    Change,
    /// Key: `t ‖ author (32) ‖ seq (8) ‖ a`. Value: empty.
    Chain,
    /// Key: `t ‖ key`. Value: [`crate::node::Node`].
    Node,
    /// Key: `t ‖ key ‖ 00 ‖ a ‖ op index (4)`. Value: [`crate::node::Entry`]: every op at a path, ever.
    History,
    /// Key: `t ‖ key ‖ 00 ‖ ¬stamp`. Value: [`crate::node::Write`]: the visible writes of a node that has more than one.
    Live,
    /// Key: `t ‖ key ‖ 00 ‖ a`. Value: empty: the version of a node, where it is very many changes.
    Touch,
    /// Key: `t ‖ list op id ‖ position op id`. Value: [`crate::list::Position`].
    Position,
    /// Key: `t ‖ label ‖ 00 ‖ a`. Value: empty, or flags, as the change says of itself: 4 it was made for somebody else than its author's
    /// owner, whose mark follows; 2 it was to have this label, which another one of its path has. Of older versions: 1 as 4, and for whom.
    Label,
    /// Key: a name, or a name and a number. Value: counters and frontiers, see [`crate::store`].
    Meta,
    /// Key: `t ‖ a` of a change that is not rooted. Value: scopes in which it has an effect, see [`crate::vouch`].
    Unrooted,
    /// Key: `t ‖ kind ‖ …`. Value: what texts and counters hold, see [`crate::objects`].
    Object,
    /// Key: `hash (32) ‖ t ‖ a ‖ op index (4)` of a write that refers to a blob. Value: 1 if it is visible, else 0.
    Blob,
    /// Key: `t ‖ hash (32) ‖ a ‖ op index (4)` of a visible write that refers to a blob. Value: empty.
    Named,
}

impl Table {
    /// Every table, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Index,
        Self::Change,
        Self::Chain,
        Self::Node,
        Self::History,
        Self::Live,
        Self::Touch,
        Self::Position,
        Self::Label,
        Self::Meta,
        Self::Unrooted,
        Self::Object,
        Self::Blob,
        Self::Named,
    ];

    /// The table's name on disk; the number is the version of its format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "index-1",
            Self::Change => "change-4",
            Self::Chain => "chain-1",
            Self::Node => "node-1",
            Self::History => "history-1",
            Self::Live => "live-1",
            Self::Touch => "touch-1",
            Self::Position => "position-1",
            Self::Label => "label-1",
            Self::Meta => "meta-1",
            Self::Unrooted => "unrooted-2",
            Self::Object => "object-1",
            Self::Blob => "blob-1",
            Self::Named => "named-1",
        }
    }
}

/// Key, in every table, of a copy of the row [`APPLIED`], written in the same batch. No other key begins like it, but
/// an id in [`Table::Index`], which is longer.
const MARK: &[u8] = b"\xff\xff\xff\xffapplied";

/// The open tables: on disk, or in memory for simulations.
#[derive(Clone)]
pub struct Tables(Medium);

#[derive(Clone)]
enum Medium {
    Disk(Disk),
    Memory(MemoryTables),
}

#[derive(Clone)]
struct Disk {
    /// Whether a part of it could not be read.
    is_failing: Arc<AtomicBool>,
    folder: Arc<FilePath>,
    database: Database,
    keyspaces: [Keyspace; Table::ALL.len()],
}

impl Disk {
    /// Takes note of what could not be read.
    fn noted<T>(&self, read: Result<T, fjall::Error>) -> Result<T, StorageError> {
        if read.is_err() {
            self.is_failing.store(true, Ordering::Relaxed);
        }
        Ok(read?)
    }
}

impl Tables {
    /// Opens or creates all tables in `folder`.
    ///
    /// # Errors
    ///
    /// [`StorageError::Index`].
    pub fn open(folder: &FilePath, cache_bytes: u64, memtable_bytes: u64) -> Result<Self, StorageError> {
        empty_journals(folder)?;
        let database = Database::builder(folder).cache_size(cache_bytes).max_journaling_size((4 * memtable_bytes).max(64 * 1024 * 1024)).open()?;
        let mut keyspaces = Vec::with_capacity(Table::ALL.len());
        for table in Table::ALL {
            // Point lookups dominate everywhere but in history, where ranges do.
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes / 4);
            keyspaces.push(database.keyspace(table.name(), options)?);
        }
        let keyspaces = keyspaces.try_into().unwrap_or_else(|_| unreachable!("one keyspace for each table"));
        Ok(Self(Medium::Disk(Disk { is_failing: Arc::default(), folder: folder.into(), database, keyspaces })))
    }

    /// Goes on with tables in memory.
    #[must_use]
    pub fn in_memory(tables: MemoryTables) -> Self {
        Self(Medium::Memory(tables))
    }

    /// Whether a part of them could not be read.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        matches!(&self.0, Medium::Disk(disk) if disk.is_failing.load(Ordering::Relaxed))
    }

    /// One consistent view of all tables.
    #[must_use]
    pub fn snapshot(&self) -> Committed {
        Committed(match &self.0 {
            Medium::Disk(disk) => Moment::Disk(disk.clone(), disk.database.snapshot()),
            Medium::Memory(tables) => Moment::Memory(tables.snapshot()),
        })
    }

    /// Writes staged rows in one atomic batch. Not synced: the change log is the truth.
    ///
    /// # Errors
    ///
    /// [`StorageError::Index`].
    pub fn commit(&self, staged: &Staged) -> Result<(), StorageError> {
        let applied = staged.get(Table::Meta, APPLIED).and_then(Option::as_ref);
        let disk = match &self.0 {
            Medium::Disk(disk) => disk,
            Medium::Memory(tables) => {
                tables.commit(staged, MARK, applied);
                return Ok(());
            }
        };
        let mut batch = disk.database.batch();
        if let Some(applied) = applied {
            for keyspace in &disk.keyspaces {
                batch.insert(keyspace, MARK, applied.clone());
            }
        }
        for table in Table::ALL {
            let keyspace = &disk.keyspaces[table as usize];
            // In order, so that each finds its place near the one before.
            let mut rows: Vec<_> = staged.rows(table).collect();
            rows.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in rows {
                match value {
                    Some(value) => batch.insert(keyspace, key.clone(), value.clone()),
                    None => batch.remove(keyspace, key.clone()),
                }
            }
        }
        Ok(batch.commit()?)
    }

    /// A table that is not as far as the others. A damaged index may open without complaint and lack the rows of one
    /// table, or the last ones.
    ///
    /// # Errors
    ///
    /// [`StorageError::Index`].
    pub fn straggler(&self) -> Result<Option<Table>, StorageError> {
        let rows = self.snapshot();
        let applied = rows.get(Table::Meta, APPLIED)?;
        for table in Table::ALL {
            if rows.get(table, MARK)? != applied {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    /// Moves everything from memory and journal into tables, so that the next start replays nothing. Nothing may be
    /// committed afterwards.
    ///
    /// # Errors
    ///
    /// [`StorageError::Index`], [`StorageError::Io`].
    pub fn flush(&self) -> Result<(), StorageError> {
        let Medium::Disk(disk) = &self.0 else { return Ok(()) };
        for keyspace in &disk.keyspaces {
            keyspace.rotate_memtable()?;
        }
        while disk.keyspaces.iter().any(|keyspace| keyspace.tree.sealed_memtable_count() > 0) {
            // Fails once the thread that writes the tables has failed, as on a full disk: it would be waited for for ever.
            disk.database.persist(fjall::PersistMode::Buffer)?;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        disk.database.persist(fjall::PersistMode::SyncAll)?;
        std::fs::File::create(flushed_mark(&disk.folder))?.sync_all()?;
        Ok(())
    }

    /// Bytes on disk; of tables in memory, bytes of rows.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        match &self.0 {
            Medium::Disk(disk) => disk.database.disk_space().unwrap_or(0),
            Medium::Memory(tables) => tables.bytes(),
        }
    }
}

/// Says that the tables hold all that the journals do. Fjall reads up to 64 MB of them at a start to find that out, row
/// by row, which takes longer than everything else together.
fn flushed_mark(folder: &FilePath) -> PathBuf {
    folder.join("flushed")
}

/// Empties journals that a flush made superfluous. They have to be there still: fjall counts on from the rows of the
/// tables only if there is one. The mark goes first: with it, newer journals would not be read.
fn empty_journals(folder: &FilePath) -> std::io::Result<()> {
    let mark = flushed_mark(folder);
    match std::fs::remove_file(&mark) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        removed => removed?,
    }
    std::fs::File::open(folder)?.sync_all()?;
    for file in std::fs::read_dir(folder)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "jnl") {
            std::fs::OpenOptions::new().write(true).open(file)?.set_len(0)?;
        }
    }
    Ok(())
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tables")
    }
}

/// Something that rows can be read from.
pub trait Rows {
    /// One row.
    ///
    /// # Errors
    ///
    /// [`StorageError::Index`].
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StorageError>;

    /// Rows whose key begins with `prefix` and is at least `from`, in key order.
    fn scan<'a>(&'a self, table: Table, prefix: &[u8], from: Option<&[u8]>) -> Scan<'a>;
}

/// An ordered walk over rows.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<(Slice, Slice), StorageError>> + 'a>;

/// Rows as of one moment.
#[derive(Clone)]
pub struct Committed(Moment);

#[derive(Clone)]
enum Moment {
    Disk(Disk, Snapshot),
    Memory(MemorySnapshot),
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Committed")
    }
}

impl Rows for Committed {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StorageError> {
        match &self.0 {
            Moment::Disk(disk, snapshot) => disk.noted(snapshot.get(&disk.keyspaces[table as usize], key)),
            Moment::Memory(rows) => Ok(rows.get(table, key)),
        }
    }

    fn scan<'a>(&'a self, table: Table, prefix: &[u8], from: Option<&[u8]>) -> Scan<'a> {
        let (disk, keyspace, snapshot) = match &self.0 {
            Moment::Disk(disk, snapshot) => (disk, &disk.keyspaces[table as usize], snapshot),
            Moment::Memory(rows) => return rows.scan(table, prefix, from),
        };
        let iter = match from {
            Some(from) if from > prefix => match prefix_end(prefix) {
                Some(end) => snapshot.range(keyspace, from.to_vec()..end),
                None => snapshot.range(keyspace, from.to_vec()..),
            },
            _ => snapshot.prefix(keyspace, prefix),
        };
        Box::new(iter.map(|guard| disk.noted(guard.into_inner())))
    }
}

impl Committed {
    /// Rows whose key begins with `prefix` and is less than `before`, the greatest key first.
    pub fn scan_back<'a>(&'a self, table: Table, prefix: &[u8], before: Option<&[u8]>) -> Scan<'a> {
        let (disk, keyspace, snapshot) = match &self.0 {
            Moment::Disk(disk, snapshot) => (disk, &disk.keyspaces[table as usize], snapshot),
            Moment::Memory(rows) => {
                // Tables in memory are small.
                let mut found: Vec<_> = rows.scan(table, prefix, None).collect();
                found.retain(|row| row.as_ref().map_or(true, |(key, _)| before.is_none_or(|before| **key < *before)));
                return Box::new(found.into_iter().rev());
            }
        };
        let iter = match before {
            Some(before) => snapshot.range(keyspace, prefix.to_vec()..before.to_vec()),
            None => snapshot.prefix(keyspace, prefix),
        };
        Box::new(iter.rev().map(|guard| disk.noted(guard.into_inner())))
    }
}

/// The first key that is greater than every key with this prefix.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

/// Rows of one table kept at hand by a [`Layered`]. They are forgotten all at once when there are more.
const HOT_ROWS_MAX: usize = 65_536;
/// Largest subtree whose keys are kept.
const SUBTREE_ROWS_MAX: usize = 64;
/// Subtrees whose keys are kept; they are forgotten all at once when there are more.
const SUBTREES_MAX: usize = 20_000;
/// Larger rows are not kept.
const HOT_ROW_BYTES_MAX: usize = 1024;

/// Rows under preparation: the group at hand over the group that is being synced over what is committed.
///
/// Whoever writes reads the same few rows again and again (the nodes on the way to a path, the summaries of
/// recent changes), so those that were handed out and those that were read are kept too. Nobody else writes the tables,
/// so they stay true.
#[derive(Debug)]
pub struct Layered {
    committed: Committed,
    syncing: Option<Arc<Staged>>,
    hot: RefCell<[HashMap<Slice, Option<Slice>>; Table::ALL.len()]>,
    /// Keys of all nodes at and below a path, of small subtrees that were scanned before. Rows of nodes are
    /// never deleted, so the list is true until a node is made there.
    subtrees: RefCell<HashMap<Slice, Arc<[Slice]>>>,
    /// Where new rows go.
    pub staged: Staged,
}

/// Whether rows of a table are read again soon after.
fn is_hot(table: Table) -> bool {
    matches!(table, Table::Index | Table::Change | Table::Node | Table::Meta)
}

impl Layered {
    /// Nothing staged yet.
    #[must_use]
    pub fn new(committed: Committed, syncing: Option<Arc<Staged>>) -> Self {
        Self { committed, syncing, hot: RefCell::default(), subtrees: RefCell::default(), staged: Staged::default() }
    }

    /// Hands out what was staged; it stays readable until [`Layered::rebase`].
    pub fn seal(&mut self) -> Arc<Staged> {
        let sealed = Arc::new(std::mem::take(&mut self.staged));
        self.syncing = Some(Arc::clone(&sealed));
        for table in Table::ALL.into_iter().filter(|table| is_hot(*table)) {
            let hot = &mut self.hot.get_mut()[table as usize];
            if hot.len() > HOT_ROWS_MAX {
                hot.clear();
            }
            for (key, value) in sealed.rows(table) {
                if value.as_ref().is_some_and(|value| value.len() > HOT_ROW_BYTES_MAX) {
                    hot.remove(key);
                } else {
                    hot.insert(key.clone(), value.clone());
                }
            }
        }
        sealed
    }

    /// Goes on over a newer committed state, in which what was sealed is contained.
    pub fn rebase(&mut self, committed: Committed) {
        self.committed = committed;
        self.syncing = None;
    }

    /// Says that a node is made whose row did not exist.
    pub fn node_made(&mut self, t_key: &[u8]) {
        let subtrees = self.subtrees.get_mut();
        if subtrees.is_empty() {
            return;
        }
        for (at, _) in t_key.iter().enumerate().skip(4).filter(|(_, byte)| **byte == 0) {
            subtrees.remove(&t_key[..=at]);
        }
        subtrees.remove(&t_key[..4]);
    }

    /// All rows of a subtree of nodes. Small subtrees that are read again are not searched for again.
    ///
    /// # Errors
    ///
    /// [`StorageError::Index`].
    fn subtree(&self, prefix: &[u8]) -> Result<Option<Vec<(Slice, Slice)>>, StorageError> {
        let known = self.subtrees.borrow().get(prefix).cloned();
        if let Some(keys) = known {
            let mut rows = Vec::with_capacity(keys.len());
            for key in keys.iter() {
                rows.extend(self.get(Table::Node, key)?.map(|value| (key.clone(), value)));
            }
            return Ok(Some(rows));
        }
        let mut rows = Vec::new();
        for row in self.scan_all(Table::Node, prefix, None) {
            rows.push(row?);
            if rows.len() > SUBTREE_ROWS_MAX {
                return Ok(None);
            }
        }
        let mut subtrees = self.subtrees.borrow_mut();
        if subtrees.len() > SUBTREES_MAX {
            subtrees.clear();
        }
        subtrees.insert(prefix.into(), rows.iter().map(|(key, _)| key.clone()).collect());
        Ok(Some(rows))
    }

    fn scan_all<'a>(&'a self, table: Table, prefix: &[u8], from: Option<&[u8]>) -> Scan<'a> {
        let below = self.committed.scan(table, prefix, from);
        let middle: Scan<'a> = match &self.syncing {
            Some(syncing) => merge(below, syncing.range(table, prefix, from)),
            None => below,
        };
        merge(middle, self.staged.range(table, prefix, from))
    }

    /// Goes on over the committed state alone: what was sealed did not come to be.
    pub fn abandon(&mut self, committed: Committed) {
        *self = Self::new(committed, None);
    }
}

impl Rows for Layered {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>, StorageError> {
        if let Some(value) = self.staged.get(table, key) {
            return Ok(value.clone());
        }
        let hot = &mut self.hot.borrow_mut()[table as usize];
        if let Some(value) = hot.get(key) {
            return Ok(value.clone());
        }
        if let Some(value) = self.syncing.as_ref().and_then(|syncing| syncing.get(table, key)) {
            return Ok(value.clone());
        }
        if !is_hot(table) {
            return self.committed.get(table, key);
        }
        let value = self.committed.get(table, key)?;
        if value.as_ref().is_none_or(|value| value.len() <= HOT_ROW_BYTES_MAX) {
            if hot.len() > HOT_ROWS_MAX {
                hot.clear();
            }
            hot.insert(key.into(), value.clone());
        }
        Ok(value)
    }

    fn scan<'a>(&'a self, table: Table, prefix: &[u8], from: Option<&[u8]>) -> Scan<'a> {
        if table == Table::Node && from.is_none() && prefix.len() > 4 {
            match self.subtree(prefix) {
                Ok(Some(rows)) => return Box::new(rows.into_iter().map(Ok)),
                Ok(None) => {}
                Err(error) => return Box::new(std::iter::once(Err(error))),
            }
        }
        self.scan_all(table, prefix, from)
    }
}

/// Lays staged rows over others.
fn merge<'a>(below: Scan<'a>, above: impl Iterator<Item = (&'a Slice, &'a Option<Slice>)> + 'a) -> Scan<'a> {
    let mut below = below.peekable();
    let mut above = above.peekable();
    Box::new(std::iter::from_fn(move || {
        loop {
            let take_above = match (below.peek(), above.peek()) {
                (_, None) => return below.next(),
                (None | Some(Err(_)), Some(_)) => true,
                (Some(Ok((low, _))), Some((high, _))) => {
                    if low < *high {
                        return below.next();
                    }
                    if low == *high {
                        below.next();
                    }
                    true
                }
            };
            debug_assert!(take_above);
            if let Some((key, Some(value))) = above.next() {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }))
}
