//! A store: one home folder, its change log, its tables, and the threads that write them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::time::Duration;

use timebus_identity::{Keys, KeysError, PublicKey, SecretKey, Signature};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::auth::Rights;
use crate::blobs::collect::{Collected, Retention, Use, collect};
use crate::blobs::{BlobHash, Blobs, Lease, Limits, references};
use crate::change::{Body, Change};
use crate::codec::DecodeError;
use crate::feed::{Feed, Feeds};
use crate::fold::Bodies;
use crate::grant::{Actions, Audience, Genesis, Grant, Revoke, Scope, Timelines};
use crate::ids::{ChangeId, GrantId, OpId, TimelineId};
use crate::keyspace::{Committed, Layered, Rows, Table, Tables};
use crate::log::{Appender, Item, LogReader, Place};
use crate::node::{Node, node_key};
use crate::objects::{ObjectId, Texts, creator, load_text, text_at};
use crate::op::Op;
use crate::path::Path;
use crate::pipeline::{APPLIED, AUTH, Pipeline, Space, decode_applied};
use crate::quarantine::{self, HiddenChange, Preview};
use crate::summary::{Summary, summary};
use crate::text::{TextObject, TextVersion};
use crate::tree::{CONFLICT_PAGE, Tree};
use crate::update::Update;
use crate::value::Value;
use crate::view::View;
use crate::writer::{
    Action, Decider, Group, Job, Named, Offered, Request, Statement, Syncer, WriteError, Written, names_at, resolve_at, text_version,
};

/// The disk or what is on it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The tables could not be read or written.
    #[error("the index failed")]
    Index(#[source] fjall::Error),
    /// A file could not be read or written.
    #[error("a file of the store failed: {0}")]
    Io(#[from] std::io::Error),
    /// A row or record is not what it should be; `timebus fsck` says more.
    #[error("damaged data in {table}; run `timebus fsck`")]
    Damaged {
        /// Where.
        table: &'static str,
    },
    /// So much of a text was edited at once that finding out what it was then takes too long.
    #[error("the text is too entangled to be shown as it was then")]
    TextBusy,
    /// A row is not in its format; `timebus fsck` says more.
    #[error("a damaged row; run `timebus fsck`")]
    Row(#[from] DecodeError),
}

impl From<fjall::Error> for StorageError {
    fn from(error: fjall::Error) -> Self {
        Self::Index(error)
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another timebus", .0.display())]
    InUse(PathBuf),
    /// There is a change log and no keys; new ones would make another space of it.
    #[error("{} has a change log but no keys: put the folder `keys` back from a backup, or recover them with the kit", .0.display())]
    NoKeys(PathBuf),
    /// The keys are not usable.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The disk or what is on it failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How a store is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of table blocks kept in memory. Default 32 MiB; more makes reads of large trees faster.
    pub cache_bytes: u64,
    /// Bytes of recent rows kept in memory. Default 32 MiB; more makes writing faster and starting slower.
    pub memtable_bytes: u64,
    /// Requests that may wait to be written. Default 8 192; more use memory, fewer make bursts wait outside.
    pub requests_max: usize,
    /// Steps of merging, of 20 ns each, that one text may take while everything else waits; with more it is parked and
    /// merged beside. Default 5 000 000; more lets an entangled text hold others up, fewer park texts that are not.
    pub text_steps_max: u64,
    /// How much of blobs may be kept. Default as much as the disk takes.
    pub blobs: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * 1024 * 1024,
            memtable_bytes: 32 * 1024 * 1024,
            requests_max: 8192,
            text_steps_max: crate::objects::STEPS_MAX,
            blobs: Limits::default(),
        }
    }
}

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub struct Stats {
    changes: AtomicU64,
    log_bytes: AtomicU64,
    syncs: AtomicU64,
    sync_us: AtomicU64,
}

impl Stats {
    pub(crate) fn synced(&self, changes: u64, bytes: u64, took: Duration) {
        self.changes.fetch_add(changes, Ordering::Relaxed);
        self.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// Changes written to the log.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Bytes written to the log.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// Syncs of the log.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Microseconds spent in them.
    #[must_use]
    pub fn sync_us(&self) -> u64 {
        self.sync_us.load(Ordering::Relaxed)
    }
}

/// Told around the moment at which new state becomes visible to readers.
pub trait Observer: Send + Sync {
    /// New state is about to be visible.
    fn begin(&self);
    /// It is; these are the changes.
    fn end(&self, updates: &[Arc<Update>]);
}

pub(crate) struct Inner {
    pub(crate) tables: Tables,
    pub(crate) own: Space,
    pub(crate) device: SecretKey,
    /// The spaces held here and what is stated in them.
    held: RwLock<BTreeMap<PublicKey, (Space, Stated)>>,
    /// How often something was stated.
    statements: AtomicU64,
    /// The arrival number of the last change that is visible.
    arrived: watch::Sender<u64>,
    /// Counts up whenever rights in some space may be others.
    restated: watch::Sender<u64>,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) stats: Stats,
    log: LogReader,
    published: RwLock<Arc<Committed>>,
    observer: Mutex<Option<Arc<dyn Observer>>>,
}

/// What is stated in a space.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    rights: Arc<Rights>,
    /// Its mounted timelines with their local numbers.
    mounted: Arc<[(TimelineId, u32)]>,
}

impl Stated {
    pub(crate) fn of(pipeline: &Pipeline, space: Space) -> Self {
        Self { rights: Arc::new(pipeline.rights(space.auth()).clone()), mounted: pipeline.mounted(space).into() }
    }

    fn number(&self, timeline: &TimelineId) -> Option<u32> {
        self.mounted.iter().find(|(id, _)| id == timeline).map(|(_, t)| *t)
    }
}

impl Inner {
    /// Makes committed state visible and tells subscribers.
    pub(crate) fn publish(&self, stated: BTreeMap<Space, Option<Stated>>, updates: &[Arc<Update>], last: u64) {
        let observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = &observer {
            observer.begin();
        }
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.tables.snapshot());
        let restated = !stated.is_empty();
        if restated {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            held.extend(stated.into_iter().filter_map(|(space, stated)| Some((space.key, (space, stated?)))));
            self.statements.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(observer) = &observer {
            observer.end(updates);
        }
        self.arrived.send_modify(|arrived| *arrived = last.max(*arrived));
        self.feeds.publish(updates);
        if restated {
            self.restated.send_modify(|count| *count += 1);
        }
    }
}

/// The halves of an opened store, and what they talk through. Threads drive them, or an [`Engine`].
///
/// [`Engine`]: crate::engine::Engine
pub(crate) struct Parts {
    pub(crate) inner: Arc<Inner>,
    pub(crate) decider: Decider,
    pub(crate) syncer: Syncer,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) job_queue: mpsc::Receiver<Job>,
    pub(crate) groups: mpsc::Receiver<Group>,
}

impl Parts {
    pub(crate) fn new(tables: Tables, pipeline: Pipeline, log: LogReader, appender: Appender, device: SecretKey, is_barred: bool) -> Self {
        let own = pipeline.space_of(AUTH);
        let inner = Arc::new(Inner {
            published: RwLock::new(Arc::new(tables.snapshot())),
            tables,
            own,
            device,
            held: RwLock::new(pipeline.spaces().map(|space| (space.key, (space, Stated::of(&pipeline, space)))).collect()),
            statements: AtomicU64::new(0),
            arrived: watch::Sender::new(pipeline.next_a() - 1),
            restated: watch::Sender::new(0),
            feeds: Arc::default(),
            stats: Stats::default(),
            log,
            observer: Mutex::new(None),
        });
        let (jobs, job_queue) = mpsc::channel();
        let (to_syncer, groups) = mpsc::sync_channel(1);
        let decider = Decider::new(Arc::clone(&inner), pipeline, is_barred, to_syncer);
        let syncer = Syncer { inner: Arc::clone(&inner), appender, bytes: 0, to_decider: jobs.clone() };
        Self { inner, decider, syncer, jobs, job_queue, groups }
    }
}

/// What was found and done while opening.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Changes that were in the log and not in the tables.
    pub replayed: u64,
    /// Stretches of the log that are damaged.
    pub damaged: Vec<crate::log::Damage>,
    /// Bytes at the end of the log that were never acknowledged and are cut off.
    pub torn_bytes: u64,
    /// Whether the tables were made anew, and why.
    pub rebuilt: Option<String>,
    /// Whether this home got a new device key, because it is a copy or lost changes.
    pub new_device: bool,
}

/// An open store. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    jobs: mpsc::Sender<Job>,
    waiting: Arc<Semaphore>,
    threads: Arc<Threads>,
    opened: Arc<Opened>,
    home: Arc<FilePath>,
    blobs: Option<Blobs>,
}

struct Threads {
    jobs: mpsc::Sender<Job>,
    handles: Mutex<Vec<std::thread::JoinHandle<()>>>,
    inner: Arc<Inner>,
    home: PathBuf,
    _lock: Option<std::fs::File>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Stop);
        let handles = std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in handles {
            let _ = handle.join();
        }
        if self.inner.tables.is_failing() {
            distrust(&self.home, "a part of the index could not be read");
        }
        if let Err(error) = self.inner.tables.flush() {
            tracing::warn!(%error, "the index was not flushed; the next start replays the log");
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.inner.own.key)
    }
}

/// A path's version, value and more, read at one moment.
#[derive(Debug)]
pub struct Reading {
    /// The subtree.
    pub tree: Tree,
    /// Its version.
    pub version: Vec<String>,
}

/// A place that names a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobPlace {
    /// In which space.
    pub space: Space,
    /// In which of its timelines.
    pub timeline: TimelineId,
    /// Where in it.
    pub path: Path,
    /// By whose key.
    pub author: PublicKey,
    /// Its length, as the writer said.
    pub len: u64,
    /// Whether it does so now; else an older version did.
    pub is_visible: bool,
}

/// Takes the lock that keeps a second process out. It is free again when the file is dropped.
///
/// # Errors
///
/// [`OpenError::InUse`], [`OpenError::Storage`].
pub fn lock_home(home: &FilePath) -> Result<std::fs::File, OpenError> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(StorageError::from)?;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(home.join("lock"))
        .map_err(StorageError::from)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(home.to_owned())),
        Err(error) => Err(StorageError::Io(error.into()).into()),
    }
}

impl Store {
    /// Opens the store in a home folder, and makes one where there is none. `lock` is from [`lock_home`];
    /// `now_ms` is Unix time.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(home: &FilePath, lock: std::fs::File, config: &Config, now_ms: u64, progress: &mut dyn FnMut(u64)) -> Result<Self, OpenError> {
        let log_folder = home.join("log");
        let log = LogReader::new(&log_folder);
        let has_keys = home.join("keys/space").exists();
        if !has_keys && !log.segments().map_err(StorageError::from)?.is_empty() {
            return Err(OpenError::NoKeys(home.to_owned()));
        }
        let mut keys = Keys::create_or_open(&home.join("keys"))?;
        let mut opened = Opened::default();
        let attempt = |opened: &mut Opened, progress: &mut dyn FnMut(u64)| -> Result<_, OpenError> {
            let tables = open_tables(home, config, &log, opened)?;
            let rows = Layered::new(tables.snapshot(), None);
            let mut bodies = Bodies::new(log.clone());
            bodies.texts = Texts::new(config.text_steps_max);
            let mut pipeline = Pipeline::new(rows, bodies, keys.space())?;
            let end = replay(&mut pipeline, &tables, &log, opened, progress)?;
            Ok((tables, pipeline, end))
        };
        let (tables, mut pipeline, end) = match attempt(&mut opened, progress) {
            Err(OpenError::Storage(error @ (StorageError::Index(_) | StorageError::Damaged { .. } | StorageError::Row(_))))
                if opened.rebuilt.is_none() =>
            {
                // The tables are damaged, and they can be made anew.
                put_aside(home, &format!("the index is damaged: {error}"), &mut opened)?;
                attempt(&mut opened, progress)?
            }
            result => result?,
        };
        let blobs = Blobs::open(&home.join("blobs"), config.blobs.clone()).map_err(StorageError::from)?;
        let mut appender = Appender::open(&log_folder, end).map_err(StorageError::from)?;
        // A rotation that was cut short when the new root had been written.
        if keys.rotation()?.is_some_and(|(root, _)| pipeline.rights(AUTH).root() == root.public()) {
            keys.finish_rotation()?;
        }
        // A home that lost changes, or is a copy of another, must not go on in its old chain. The mark outlives a
        // crash in the middle, and stays as long as the root key is not there to grant a new device key.
        let mark = home.join(NEW_DEVICE_MARK);
        let renew = keys.is_copy() || mark.exists();
        if renew && keys.root().is_some() {
            keys.renew_device()?;
            opened.new_device = true;
        }
        let signers = Signers { root: keys.root(), next_hash: keys.next_hash(), device: keys.device() };
        found(&signers, &mut pipeline, &tables, &mut appender, now_ms)?;
        if opened.new_device && mark.exists() {
            std::fs::remove_file(&mark).map_err(StorageError::from)?;
        }
        let device = SecretKey::from_seed(*keys.device().seed());
        let is_barred = renew && !opened.new_device;
        let Parts { inner, mut decider, syncer, jobs, job_queue, groups } = Parts::new(tables, pipeline, log, appender, device, is_barred);
        let (resumer, lent) = mpsc::channel::<Box<crate::objects::Lent>>();
        decider.resumer = Some(resumer);
        let merged = jobs.clone();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).stack_size(16 * 1024 * 1024).spawn(run).map_err(StorageError::from)
        };
        // Ends when the decider does, or one text later: nobody waits for it, and it holds nothing but that text.
        let merge = move || {
            let mut turns = crate::turns::Turns::new();
            loop {
                let now = std::time::Instant::now();
                if let Some((name, text)) = turns.take(now) {
                    let text: Box<crate::objects::Lent> = text;
                    let text = text.resume();
                    turns.took(std::time::Instant::now(), name, now.elapsed());
                    let _ = merged.send(Job::Resumed(Box::new(text)));
                    continue;
                }
                let next = match turns.next() {
                    Some(at) => lent.recv_timeout(at.saturating_duration_since(now)),
                    None => lent.recv().map_err(Into::into),
                };
                match next {
                    Ok(text) => turns.add(now, text.name(), text),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        drop(spawn("merge", Box::new(merge))?);
        let handles = vec![spawn("decide", Box::new(move || decider.run(&job_queue)))?, spawn("sync", Box::new(move || syncer.run(&groups)))?];
        let threads =
            Threads { jobs: jobs.clone(), handles: Mutex::new(handles), inner: Arc::clone(&inner), home: home.to_owned(), _lock: Some(lock) };
        Ok(Self {
            inner,
            jobs,
            waiting: Arc::new(Semaphore::new(config.requests_max)),
            threads: Arc::new(threads),
            opened: Arc::new(opened),
            home: home.into(),
            blobs: Some(blobs),
        })
    }

    /// A handle to a store whose halves are driven by an [`Engine`].
    ///
    /// [`Engine`]: crate::engine::Engine
    pub(crate) fn handle(inner: Arc<Inner>, jobs: mpsc::Sender<Job>, opened: Opened, requests_max: usize) -> Self {
        let threads = Threads { jobs: jobs.clone(), handles: Mutex::default(), inner: Arc::clone(&inner), home: PathBuf::new(), _lock: None };
        Self {
            inner,
            jobs,
            waiting: Arc::new(Semaphore::new(requests_max)),
            threads: Arc::new(threads),
            opened: Arc::new(opened),
            home: FilePath::new("").into(),
            blobs: None,
        }
    }

    /// The key of the own space.
    #[must_use]
    pub fn space(&self) -> PublicKey {
        self.inner.own.key
    }

    /// The own space.
    #[must_use]
    pub fn own(&self) -> Space {
        self.inner.own
    }

    fn stated(&self, key: &PublicKey) -> Option<(Space, Stated)> {
        self.inner.held.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// A space that is held here.
    #[must_use]
    pub fn held(&self, key: &PublicKey) -> Option<Space> {
        self.stated(key).map(|(space, _)| space)
    }

    /// All spaces that are held here.
    #[must_use]
    pub fn spaces(&self) -> Vec<Space> {
        self.inner.held.read().unwrap_or_else(PoisonError::into_inner).values().map(|(space, _)| *space).collect()
    }

    /// What is stated about rights in a space that is held here.
    #[must_use]
    pub fn rights(&self, key: &PublicKey) -> Option<Arc<Rights>> {
        self.stated(key).map(|(_, stated)| stated.rights)
    }

    /// How often something was stated, in any space, since the store was opened.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.inner.statements.load(Ordering::Acquire)
    }

    /// A space with the timeline that a path is in: `main`, or the one that is mounted at the path or above. Whatever is
    /// asked or written at the path is asked of that.
    #[must_use]
    pub fn at(&self, space: Space, path: &Path) -> Space {
        let held = self.inner.held.read().unwrap_or_else(PoisonError::into_inner);
        let found = held.get(&space.key).and_then(|(_, stated)| stated.number(&stated.rights.mount_of(path)?.timeline));
        found.map_or(space.unmounted(), |t| space.with(t))
    }

    /// A space with each of its timelines of values: `main`, and those that are mounted and show.
    #[must_use]
    pub fn shown(&self, key: PublicKey) -> Vec<Space> {
        let Some((space, stated)) = self.stated(&key) else { return Vec::new() };
        let mounted = stated.rights.shown().filter_map(|mount| stated.number(&mount.timeline)).map(|t| space.with(t));
        [space].into_iter().chain(mounted).collect()
    }

    /// A notice as it goes to an inbox, signed with the key that this home writes with.
    #[must_use]
    pub fn sign_notice(&self, notice: &Change) -> Vec<u8> {
        crate::writer::encode_own(notice, &self.inner.device)
    }

    /// Local number of a timeline of a space that is held here.
    #[must_use]
    pub fn number_of(&self, space: &PublicKey, timeline: &TimelineId) -> Option<u32> {
        let (space, stated) = self.stated(space)?;
        match *timeline {
            id if id == TimelineId::named(&space.key, "auth") => Some(space.auth()),
            id if id == TimelineId::named(&space.key, "main") => Some(space.main()),
            _ => stated.number(timeline),
        }
    }

    /// The timelines of values of a space: local numbers and ids, `main` first.
    #[must_use]
    pub fn values(&self, space: Space) -> Vec<(u32, TimelineId)> {
        let mounted = self.stated(&space.key).map_or_else(Vec::new, |(_, stated)| stated.mounted.iter().map(|(id, t)| (*t, *id)).collect());
        std::iter::once((space.unmounted().main(), TimelineId::named(&space.key, "main"))).chain(mounted).collect()
    }

    /// All timelines that are held here, with their space and local number.
    #[must_use]
    pub(crate) fn timelines(&self) -> Vec<(PublicKey, TimelineId, u32)> {
        let held = self.inner.held.read().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for (key, (space, stated)) in held.iter() {
            let space = space.unmounted();
            all.extend([("auth", space.auth()), ("main", space.main())].map(|(name, t)| (*key, TimelineId::named(key, name), t)));
            all.extend(stated.mounted.iter().map(|(id, t)| (*key, *id, *t)));
        }
        all
    }

    /// The timeline of values that a [`Space`] looks at.
    #[must_use]
    pub fn timeline(&self, space: Space) -> TimelineId {
        let mounted = self.stated(&space.key).and_then(|(_, stated)| stated.mounted.iter().find(|(_, t)| *t == space.main()).map(|(id, _)| *id));
        mounted.unwrap_or_else(|| TimelineId::named(&space.key, "main"))
    }

    /// The arrival number of the last change that is visible, now and whenever it grows.
    #[must_use]
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.inner.arrived.subscribe()
    }

    /// Counts up whenever rights in some space may be others, so that whoever was let in by them is looked at again.
    #[must_use]
    pub fn restatements(&self) -> watch::Receiver<u64> {
        self.inner.restated.subscribe()
    }

    /// Has whoever was let in looked at again, for reasons that are not stated in a space.
    pub fn recheck_rights(&self) {
        self.inner.restated.send_modify(|count| *count += 1);
    }

    /// The key that this home writes with.
    #[must_use]
    pub fn device(&self) -> PublicKey {
        self.inner.device.public()
    }

    /// Whether a key is one of the owner's devices, or the root itself.
    #[must_use]
    pub fn is_own_device(&self, key: &PublicKey) -> bool {
        *key == self.space() || self.rights(&self.space()).is_some_and(|rights| rights.devices().any(|device| device == *key))
    }

    /// Whether what a key wrote in a space was written by one of the owner's devices: this one, or one of the own space,
    /// also if it is none any more.
    #[must_use]
    pub fn is_by_owner(&self, space: &PublicKey, author: &PublicKey) -> bool {
        let own = self.space();
        *author == self.device() || *space == own && (*author == own || self.rights(&own).is_some_and(|rights| rights.was_device(author)))
    }

    /// The home folder; empty for a store in memory.
    #[must_use]
    pub fn home(&self) -> &FilePath {
        &self.home
    }

    /// The blobs of this home; `None` for a store in memory.
    #[must_use]
    pub fn blobs(&self) -> Option<&Blobs> {
        self.blobs.as_ref()
    }

    /// What refers to a blob.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn use_of(&self, hash: &BlobHash) -> Result<Use, StorageError> {
        let rows = self.snapshot();
        let mut found = Use::Nothing;
        for reference in references(&*rows, hash) {
            if reference?.is_visible {
                return Ok(Use::Visible);
            }
            found = Use::History;
        }
        Ok(found)
    }

    /// Where a blob is named.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn places_of(&self, rows: &Committed, hash: &BlobHash) -> Result<Vec<BlobPlace>, StorageError> {
        let mut found = Vec::new();
        self.is_named_where(rows, hash, |place| {
            found.push(place);
            false
        })?;
        Ok(found)
    }

    /// Whether a blob is named at a place that `fits`. Looks no further than the first one that does.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn is_named_where(&self, rows: &Committed, hash: &BlobHash, mut fits: impl FnMut(BlobPlace) -> bool) -> Result<bool, StorageError> {
        let all = |space: Space| self.timelines_of(&space.key).into_iter().map(move |(timeline, t)| (t, (space, timeline)));
        let timelines: HashMap<u32, (Space, TimelineId)> = self.spaces().into_iter().flat_map(all).collect();
        let mut bodies = Bodies::new(self.inner.log.clone());
        for reference in references(rows, hash) {
            let reference = reference?;
            let Some((space, timeline)) = timelines.get(&reference.t) else { continue };
            let change = summary(rows, reference.t, reference.a)?;
            let id = OpId { change: change.id, index: reference.index };
            if let Some((path, write)) = bodies.write_at(rows, reference.t, id)?
                && let crate::value::Value::Blob { len, .. } = write.value
            {
                let (space, timeline, author, is_visible) = (*space, *timeline, change.author, reference.is_visible);
                if fits(BlobPlace { space, timeline, path, author, len, is_visible }) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// All blobs that visible values of a space name.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn named_blobs(&self, rows: &Committed, space: &PublicKey) -> Result<Vec<BlobHash>, StorageError> {
        let mut found = Vec::new();
        for t in self.values_of(space) {
            found.extend(crate::blobs::named_in(rows, t)?);
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The timelines of a space that hold values, with their local numbers.
    #[must_use]
    pub fn timelines_of(&self, space: &PublicKey) -> Vec<(TimelineId, u32)> {
        let Some((held, stated)) = self.stated(space) else { return Vec::new() };
        let main = (TimelineId::named(space, "main"), held.unmounted().main());
        std::iter::once(main).chain(stated.mounted.iter().map(|(id, t)| (*id, *t))).collect()
    }

    fn values_of(&self, space: &PublicKey) -> Vec<u32> {
        self.timelines_of(space).into_iter().map(|(_, t)| t).collect()
    }

    /// Removes blobs that nothing has referred to for long enough. Reads every name in the folder.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn collect_blobs(&self, retention: Retention, now_ms: u64) -> Result<Collected, StorageError> {
        match &self.blobs {
            Some(blobs) => collect(blobs, retention, now_ms, &|hash| self.use_of(hash)),
            None => Ok(Collected::default()),
        }
    }

    /// Keeps the blobs that an action refers to.
    fn lease(&self, action: &Action) -> Vec<Lease> {
        let Some(blobs) = &self.blobs else { return Vec::new() };
        let mut leases = Vec::new();
        match action {
            Action::Put(json) | Action::Merge(json) | Action::Post { value: json, .. } => {
                crate::plan::blobs_named(json, &mut |hash| leases.push(blobs.lease(hash)));
            }
            Action::PutValue(crate::value::Value::Blob { hash, .. }) => leases.push(blobs.lease(BlobHash::from_bytes(*hash))),
            _ => {}
        }
        leases
    }

    /// What was found and done while opening.
    #[must_use]
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Counters since the store was opened.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// Bytes of the tables on disk.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.inner.tables.disk_bytes()
    }

    /// Lets the next start make the index anew from the log.
    pub fn distrust_index(&self, reason: &str) {
        distrust(&self.home, reason);
    }

    /// Whether a part of the index could not be read since the start.
    #[must_use]
    pub fn is_index_failing(&self) -> bool {
        self.inner.tables.is_failing()
    }

    /// Why the next start makes the index anew, if it does.
    #[must_use]
    pub fn distrust(&self) -> Option<String> {
        std::fs::read_to_string(self.home.join(OLD_INDEX_MARK)).ok().filter(|_| !self.home.as_os_str().is_empty())
    }

    /// Tells an observer whenever new state becomes visible.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        *self.inner.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    /// Carries out a request. When it answers, and unless the request said otherwise, the change is on disk.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was written then.
    pub async fn write(&self, request: Request) -> Result<Written, WriteError> {
        let _permit = self.waiting.acquire().await.map_err(|_| WriteError::Closing)?;
        let _leases = self.lease(&request.action);
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Write(Box::new(request), reply)).map_err(|_| WriteError::Closing)?;
        answer.await.map_err(|_| WriteError::Closing)?
    }

    /// Says something about the rights in the own space in the name of a root key, and takes these grants back; what they
    /// brought about so far keeps its effect. When it answers, that is on disk.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was said then. [`WriteError::NoAuthority`] if the key is no root, and does not become it.
    pub async fn say_as_root(&self, root: &SecretKey, ops: Vec<Op>, revoked: Vec<GrantId>, time_ms: u64) -> Result<(), WriteError> {
        let _permit = self.waiting.acquire().await.map_err(|_| WriteError::Closing)?;
        let (reply, answer) = oneshot::channel();
        let root = SecretKey::from_seed(*root.seed());
        self.jobs.send(Job::Root(Box::new((root, ops, revoked)), time_ms, reply)).map_err(|_| WriteError::Closing)?;
        answer.await.map_err(|_| WriteError::Closing)?.map(drop)
    }

    /// Signs what a guardian agrees to: the message of [`crate::grant::Succeed`], and nothing else.
    #[must_use]
    pub fn sign_succession(&self, message: &[u8]) -> Signature {
        self.inner.device.sign(message)
    }

    /// Says something about the rights in the own space. When it answers, that is on disk.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was said then.
    pub async fn state(&self, statement: Statement, time_ms: u64) -> Result<Vec<GrantId>, WriteError> {
        self.state_in(None, statement, time_ms).await
    }

    /// Says something about the rights in a space, the own one if not said.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was said then.
    pub async fn state_in(&self, space: Option<Space>, statement: Statement, time_ms: u64) -> Result<Vec<GrantId>, WriteError> {
        let _permit = self.waiting.acquire().await.map_err(|_| WriteError::Closing)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::State(Box::new((space, None, statement)), time_ms, reply)).map_err(|_| WriteError::Closing)?;
        answer.await.map_err(|_| WriteError::Closing)?
    }

    /// Says something about the rights in a space, in the name of a grant of this device that is in force. What the grant
    /// does not allow has no effect.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was said then.
    pub async fn state_as(&self, space: Space, cap: GrantId, statement: Statement, time_ms: u64) -> Result<Vec<GrantId>, WriteError> {
        let _permit = self.waiting.acquire().await.map_err(|_| WriteError::Closing)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::State(Box::new((Some(space), Some(cap), statement)), time_ms, reply)).map_err(|_| WriteError::Closing)?;
        answer.await.map_err(|_| WriteError::Closing)?
    }

    /// Changes of which something has no effect because of somebody's right, the latest last.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn hidden(&self, space: Space, max: usize) -> Result<Vec<HiddenChange>, StorageError> {
        let rows = self.snapshot();
        match self.rights(&space.key) {
            Some(rights) => quarantine::hidden(&rows, self.log(), &rights, &self.values(space), max),
            None => Ok(Vec::new()),
        }
    }

    /// Gives a hidden change its effect back. See [`Statement::Keep`].
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub async fn keep(&self, space: Space, change: ChangeId, time_ms: u64) -> Result<(), WriteError> {
        self.state_in(Some(space), Statement::Keep(change), time_ms).await.map(drop)
    }

    /// What taking grants back would do, if this device may.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn preview_revoke(&self, space: Space, grants: &[GrantId], cascade: bool, keep: bool) -> Result<Preview, WriteError> {
        let rights = self.rights(&space.key).ok_or(WriteError::NoAuthority { space: space.key })?;
        let device = self.device();
        let ops: Vec<Op> = grants.iter().map(|grant| Op::Revoke(Revoke { grant: *grant, cascade, keep: Vec::new() })).collect();
        let cap = rights.cap_to_state(&device, &ops).ok_or(WriteError::NoAuthority { space: space.key })?;
        let rows = (*self.snapshot()).clone();
        let keys = (space.key, device, cap);
        Ok(quarantine::preview(rows, self.log(), &rights, (space.auth(), &self.values(space)), keys, grants, (cascade, keep))?)
    }

    /// Offers changes that others made. Those that are admitted are on disk when it answers.
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub async fn offer(&self, changes: Vec<timebus_identity::Verified<Change>>) -> Result<Offered, WriteError> {
        let _permit = self.waiting.acquire().await.map_err(|_| WriteError::Closing)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Offer(changes, reply)).map_err(|_| WriteError::Closing)?;
        answer.await.map_err(|_| WriteError::Closing)?
    }

    /// Waits until everything asked for so far is on disk, and answers where the log ends then.
    ///
    /// # Errors
    ///
    /// [`WriteError::Closing`].
    pub async fn fence(&self) -> Result<Place, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Fence(reply)).map_err(|_| WriteError::Closing)?;
        answer.await.map_err(|_| WriteError::Closing)
    }

    /// The state that readers see, which stays the same while it is held.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Committed> {
        Arc::clone(&self.inner.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The feed of a path. Open it before reading the snapshot that it continues.
    #[must_use]
    pub fn feed(&self, space: Space, path: &Path) -> Arc<Feed> {
        self.inner.feeds.open(space, path)
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
        let named = resolve_at(rows, space.main(), path, versions, |_, _, agent, seq| Ok(text.find_version(agent, seq)))?;
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

    /// What is at a path, for whoever does not ask for its version, which takes longer to find out.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn tree(&self, rows: &Committed, space: Space, path: &Path) -> Result<Tree, StorageError> {
        Tree::load(rows, space.main(), path, CONFLICT_PAGE)
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
        resolve_at(rows, t, path, versions, |rows, object, agent, seq| {
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
        Ok(is_whole && Node::load(rows, &node_key(space.main(), &path.key()))?.touch == wanted)
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

    /// Reads the log.
    #[must_use]
    pub fn log(&self) -> &LogReader {
        &self.inner.log
    }

    /// Closes the store if this is its last handle: everything acknowledged is on disk, and the next start
    /// replays nothing.
    pub fn close(self) {
        drop(self);
    }

    /// Whether other handles exist.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.threads) > 1
    }
}

/// Says that this home needs a new device key before it writes.
const NEW_DEVICE_MARK: &str = "needs-device";

/// Says that the tables are damaged, or were made from a log that has been mended since: the next start makes them anew.
const OLD_INDEX_MARK: &str = "index.old";

/// Opens the tables; if that is not possible, or if they know more than the log, they are put aside and made anew.
fn open_tables(home: &FilePath, config: &Config, log: &LogReader, opened: &mut Opened) -> Result<Tables, OpenError> {
    let open = || Tables::open(&home.join("index"), config.cache_bytes, config.memtable_bytes);
    let mark = home.join(OLD_INDEX_MARK);
    if let Ok(reason) = std::fs::read_to_string(&mark) {
        if home.join("index").exists() {
            put_aside(home, reason.trim(), opened)?;
        }
        let tables = open()?;
        std::fs::remove_file(&mark).map_err(StorageError::from)?;
        return Ok(tables);
    }
    let reason = match open() {
        Ok(tables) => {
            if let Some(table) = tables.straggler()? {
                format!("rows of the table {} are missing", table.name())
            } else if let Some(reason) = ahead_of_log(&tables, log)? {
                let mark = std::fs::File::create(home.join(NEW_DEVICE_MARK)).map_err(StorageError::from)?;
                mark.sync_all().map_err(StorageError::from)?;
                reason
            } else {
                return Ok(tables);
            }
        }
        Err(error) => format!("the index could not be opened: {error:?}"),
    };
    put_aside(home, &reason, opened)?;
    Ok(open()?)
}

/// Lets the next start make the tables in a home anew; a store in memory has none.
fn distrust(home: &FilePath, reason: &str) {
    let mark = home.join(OLD_INDEX_MARK);
    if home.as_os_str().is_empty() || mark.exists() {
        return;
    }
    tracing::error!(reason, "the index is made anew at the next start");
    let written = std::fs::File::create(&mark).and_then(|mut file| {
        use std::io::Write as _;
        file.write_all(reason.as_bytes())?;
        file.sync_all()
    });
    if let Err(error) = written {
        tracing::error!(%error, "that could not be written down; remove the folder `index` before the next start");
    }
}

/// Moves the tables out of the way.
fn put_aside(home: &FilePath, reason: &str, opened: &mut Opened) -> Result<(), OpenError> {
    tracing::warn!(reason, "making the index anew from the change log");
    let mut aside = home.join("index.damaged");
    for number in 1.. {
        if !aside.exists() {
            break;
        }
        aside = home.join(format!("index.damaged.{number}"));
    }
    std::fs::rename(home.join("index"), &aside).map_err(StorageError::from)?;
    opened.rebuilt = Some(reason.to_owned());
    Ok(())
}

/// Whether the tables hold changes that the log does not.
pub(crate) fn ahead_of_log(tables: &Tables, log: &LogReader) -> Result<Option<String>, StorageError> {
    let rows = tables.snapshot();
    let Some(row) = rows.get(Table::Meta, APPLIED)? else { return Ok(None) };
    let (next_a, end) = decode_applied(&row)?;
    let Some(a) = next_a.checked_sub(1) else { return Ok(None) };
    // Numbers go over all timelines, so it is not known in which one the last change is.
    for t in crate::pipeline::timelines(&rows) {
        if let Some(row) = rows.get(Table::Change, &crate::summary::change_key(t, a))? {
            let last = Summary::decode(&row)?;
            return Ok(match log.read(last.place) {
                Ok(record)
                    if record.end == end && record.a == a && Change::decode(&record.payload).is_ok_and(|change| change.content().id() == last.id) =>
                {
                    None
                }
                Ok(_) => Some("the change log is another one".to_owned()),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::NotFound) => {
                    Some("the change log ends earlier than it did".to_owned())
                }
                Err(error) => return Err(error.into()),
            });
        }
    }
    Ok(None)
}

/// Commits what was taken in from the log.
fn commit(pipeline: &mut Pipeline, tables: &Tables) -> Result<(), StorageError> {
    let sealed = pipeline.rows.seal();
    pipeline.bodies.seal();
    tables.commit(&sealed)?;
    pipeline.rows.rebase(tables.snapshot());
    pipeline.bodies.synced();
    Ok(())
}

/// Whether a record that was found behind damage is one that was written there.
fn is_genuine(record: &crate::log::Record, next_a: u64, lost_bytes: u64) -> bool {
    let lost_max = lost_bytes / crate::log::record_bytes(0) + 1;
    record.a >= next_a && record.a - next_a <= lost_max && Change::decode(&record.payload).is_ok_and(|change| change.verify().is_ok())
}

/// Rows staged at once while the log is replayed.
const REPLAY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Takes in what is in the log and not in the tables. Answers where the log ends.
pub(crate) fn replay(
    pipeline: &mut Pipeline,
    tables: &Tables,
    log: &LogReader,
    opened: &mut Opened,
    progress: &mut dyn FnMut(u64),
) -> Result<Place, StorageError> {
    let mut end = pipeline.next_place();
    let mut torn: Option<crate::log::Damage> = None;
    // Behind damage, what looks like a record may be part of a change's body, put there to be found. So from there
    // on signatures are checked, and no more numbers are skipped than records can have been lost.
    let mut is_damaged = false;
    let mut lost_bytes = 0;
    for item in log.walk(end)? {
        match item? {
            Item::Damaged(damage) => {
                is_damaged = true;
                lost_bytes += damage.bytes;
                opened.damaged.extend(torn.replace(damage));
            }
            Item::Record(record) if is_damaged && !is_genuine(&record, pipeline.next_a(), lost_bytes) => {
                let bytes = record.end.offset - record.place.offset;
                lost_bytes += bytes;
                opened.damaged.extend(torn.replace(crate::log::Damage { place: record.place, bytes }));
            }
            Item::Record(record) => {
                opened.damaged.extend(torn.take());
                pipeline.skip_to(record.a, record.place);
                end = record.end;
                let Ok(change) = Change::decode(&record.payload) else {
                    opened.damaged.push(crate::log::Damage { place: record.place, bytes: record.end.offset - record.place.offset });
                    continue;
                };
                let change = change.content();
                if !pipeline.is_held(change.header()) {
                    // The first change of its space was damaged, so nobody can tell which space it is.
                    opened.damaged.push(crate::log::Damage { place: record.place, bytes: record.end.offset - record.place.offset });
                    pipeline.skip_to(record.a + 1, record.end);
                    continue;
                }
                if pipeline.knows(&change.id())? {
                    pipeline.skip_to(record.a + 1, record.end);
                    continue;
                }
                pipeline.take(change, None, record.payload.len())?;
                opened.replayed += 1;
                progress(opened.replayed);
                if pipeline.rows.staged.bytes() > REPLAY_BYTES_MAX {
                    commit(pipeline, tables)?;
                }
            }
        }
    }
    // Damage with nothing good behind it is a record that was being written and never acknowledged.
    if let Some(torn) = torn {
        opened.torn_bytes = torn.bytes;
    }
    commit(pipeline, tables)?;
    Ok(end)
}

/// The keys that a store makes its first statement with.
pub(crate) struct Signers<'a> {
    /// Of the space, unless it is kept elsewhere.
    pub(crate) root: Option<&'a SecretKey>,
    /// Hash of the root key that may come next.
    pub(crate) next_hash: [u8; 32],
    pub(crate) device: &'a SecretKey,
}

/// The statement of a root that makes a key one of the owner's devices.
#[must_use]
pub fn device_grant(device: &PublicKey) -> Op {
    Op::Grant(Grant {
        audience: Audience::Key(*device),
        scope: Scope::everything(),
        timelines: Timelines::All,
        actions: Actions::ALL,
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 7,
        label: "device".into(),
    })
}

/// Makes sure that the space has its first statement and this device its grant, if the root key is here.
pub(crate) fn found(keys: &Signers<'_>, pipeline: &mut Pipeline, tables: &Tables, appender: &mut Appender, now_ms: u64) -> Result<(), StorageError> {
    let device = keys.device.public();
    if pipeline.rights(AUTH).device_grant(&device).is_some() {
        return Ok(());
    }
    // A root key that is none, or not yet as far as is known here, could say nothing that counts.
    let Some(root) = keys.root.filter(|root| root.public() == pipeline.rights(AUTH).root()) else { return Ok(()) };
    let mut ops = Vec::new();
    if pipeline.rights(AUTH).genesis().is_none() {
        ops.push(Op::Genesis(Genesis { next: Some(keys.next_hash), guardians: None }));
    }
    ops.push(device_grant(&device));
    let change = pipeline.author(AUTH, root.public(), None, now_ms, &Body { ops, ..Body::default() })?;
    let taken = pipeline.take(&change, None, change.encoded_len())?;
    use timebus_identity::Signable as _;
    let mut payload = Vec::new();
    change.write(&root.sign(&change.signing_message()), &mut payload);
    let mut bytes = Vec::new();
    crate::log::frame(taken.a, &payload, &mut bytes);
    appender.write(taken.place, &bytes)?;
    appender.sync()?;
    commit(pipeline, tables)
}
