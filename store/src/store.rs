//! A store: one home folder, its change log, its tables, and the threads that write them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::time::Duration;

use timebus_identity::{PublicKey, SecretKey, Signature};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::auth::Rights;
use crate::blobs::{Blobs, Lease};
use crate::change::Change;
use crate::codec::DecodeError;
use crate::feed::{Feed, Feeds};
use crate::grant::{Revoke, Succeed};
use crate::ids::{ChangeId, GrantId, TimelineId};
use crate::keyspace::{Committed, Tables};
use crate::list::shown::Known;
use crate::log::{Appender, LogReader, Place};
use crate::op::Op;
use crate::path::Path;
use crate::pipeline::{AUTH, Pipeline, Space};
use crate::quarantine::{self, HiddenChange, Preview};
use crate::traces::Traces;
use crate::update::Update;
use crate::writer::{Asker, Decider, Group, Job, Offered, Request, Statement, Syncer, WriteError, Written};

mod files;
mod open;
mod reading;

pub use files::{BlobPlace, Places};
pub use open::{Config, OpenError, Opened, device_grant, lock_home};
use open::{OLD_INDEX_MARK, distrust};
pub(crate) use open::{Signers, ahead_of_log, found, replay};
pub use reading::Reading;

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
    /// The lists that were read last.
    lists: Mutex<Known>,
    pub(crate) stats: Stats,
    log: LogReader,
    published: RwLock<Arc<Committed>>,
    /// Once they were asked for.
    traces: Mutex<Option<Traces>>,
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
    /// What is known of lists. While it is held nothing becomes visible.
    fn lists(&self) -> MutexGuard<'_, Known> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes committed state visible and tells subscribers.
    pub(crate) fn publish(
        &self,
        stated: BTreeMap<Space, Option<Stated>>,
        wrote: BTreeSet<(PublicKey, PublicKey)>,
        updates: &[Arc<Update>],
        last: u64,
    ) {
        let observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = &observer {
            observer.begin();
        }
        let mut lists = self.lists();
        lists.touched(updates);
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(self.tables.snapshot());
        drop(lists);
        let restated = !stated.is_empty();
        let rights: Vec<(PublicKey, Arc<Rights>)> =
            stated.iter().filter_map(|(space, stated)| Some((space.key, Arc::clone(&stated.as_ref()?.rights)))).collect();
        if restated {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            held.extend(stated.into_iter().filter_map(|(space, stated)| Some((space.key, (space, stated?)))));
            self.statements.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(traces) = self.traces.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            rights.iter().for_each(|(space, rights)| traces.learn(*space, rights));
            traces.add(wrote);
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
            traces: Mutex::new(None),
            tables,
            own,
            device,
            held: RwLock::new(pipeline.spaces().map(|space| (space.key, (space, Stated::of(&pipeline, space)))).collect()),
            statements: AtomicU64::new(0),
            arrived: watch::Sender::new(pipeline.next_a() - 1),
            restated: watch::Sender::new(0),
            feeds: Arc::default(),
            lists: Mutex::default(),
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

/// A write that is decided on, and not on disk yet if it is to be.
#[derive(Debug)]
pub struct Begun {
    /// Bytes of the changes that it makes, roughly. `None` if it is refused, which [`done`](Self::done) says at once.
    pub bytes: Option<u64>,
    /// How long it took to decide, in which no other request was decided.
    pub took: Duration,
    answer: oneshot::Receiver<Result<Written, WriteError>>,
    _permit: OwnedSemaphorePermit,
    _leases: Vec<Lease>,
}

impl Begun {
    /// What became of it.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was written then.
    pub async fn done(self) -> Result<Written, WriteError> {
        self.answer.await.map_err(|_| WriteError::Closing)?
    }
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
    /// Who reads, if not the owner.
    asker: Option<Asker>,
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

impl Store {
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
            asker: None,
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

    /// The spaces held here in which a grant, in force or not, is for a key; in order.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn granted_to(&self, key: &PublicKey) -> Result<Vec<PublicKey>, StorageError> {
        self.traces(|traces| traces.granted_to(key))
    }

    /// The spaces held here in which a key wrote something; in order.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn wrote_in(&self, key: &PublicKey) -> Result<Vec<PublicKey>, StorageError> {
        self.traces(|traces| traces.wrote_in(key))
    }

    fn traces<T>(&self, of: impl FnOnce(&Traces) -> T) -> Result<T, StorageError> {
        let mut traces = self.inner.traces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(traces) = &*traces {
            return Ok(of(traces));
        }
        // What becomes visible meanwhile waits, and is taken in behind it.
        let held = self.inner.held.read().unwrap_or_else(PoisonError::into_inner).clone();
        let timelines = self.timelines().into_iter().map(|(space, _, t)| (t, space)).collect();
        let mut now = Traces::of(&self.snapshot(), &timelines)?;
        held.iter().for_each(|(space, (_, stated))| now.learn(*space, &stated.rights));
        Ok(of(traces.insert(now)))
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

    /// The same for everything that is mounted where a path is, the timeline that shows first. Devices that mount
    /// something at one path without knowing of each other make a timeline each, and only one of them shows.
    #[must_use]
    pub fn at_all(&self, space: Space, path: &Path) -> Vec<Space> {
        let first = self.at(space, path);
        let held = self.inner.held.read().unwrap_or_else(PoisonError::into_inner);
        let beside = held.get(&space.key).into_iter().flat_map(|(_, stated)| {
            let place = stated.rights.mount_of(path).map(|mount| mount.path.clone());
            let beside = stated.rights.mounts().filter(move |mount| mount.is_live() && Some(&mount.path) == place.as_ref());
            beside.filter_map(move |mount| stated.number(&mount.timeline)).map(move |t| space.with(t))
        });
        std::iter::once(first).chain(beside.filter(|other| *other != first)).collect()
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
    pub fn timelines(&self) -> Vec<(PublicKey, TimelineId, u32)> {
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
        *key == self.space() || self.rights(&self.space()).is_some_and(|rights| rights.device_grant(key).is_some())
    }

    /// Whether what a key wrote was written by one of the owner's devices: this one, or another one. A home that was restored has
    /// another key than before, and what it wrote is the owner's still. What a device wrote that was thrown out is so in the own
    /// space alone, where nothing of it counts that it wrote later; elsewhere whoever stole it could go on as the owner.
    #[must_use]
    pub fn is_by_owner(&self, author: &PublicKey, is_in_own: impl FnOnce() -> bool) -> bool {
        let was_device = || self.rights(&self.space()).is_some_and(|rights| rights.was_device(author));
        *author == self.device() || self.is_own_device(author) || was_device() && is_in_own()
    }

    /// The home folder; empty for a store in memory.
    #[must_use]
    pub fn home(&self) -> &FilePath {
        &self.home
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
        self.begin(request).await?.done().await
    }

    /// The same in two steps: answers when it is decided what the request does, which is what keeps other requests waiting.
    ///
    /// # Errors
    ///
    /// [`WriteError::Closing`]; all others when it is [`done`](Begun::done).
    pub async fn begin(&self, request: Request) -> Result<Begun, WriteError> {
        let permit = Arc::clone(&self.waiting).acquire_owned().await.map_err(|_| WriteError::Closing)?;
        let leases = self.lease(&request.action);
        let (reply, answer) = oneshot::channel();
        let (decided, is_decided) = oneshot::channel();
        self.jobs.send(Job::Write(Box::new(request), reply, decided)).map_err(|_| WriteError::Closing)?;
        let (bytes, took) = is_decided.await.map_err(|_| WriteError::Closing)?;
        Ok(Begun { bytes, took, answer, _permit: permit, _leases: leases })
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

    /// Signs, with this device's key, that a space has a new root.
    #[must_use]
    pub fn sign_succession(&self, succeed: &Succeed) -> Signature {
        self.inner.device.sign(&succeed.signing_message())
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

    /// How often something changed for readers that is no new change, as a text that was merged further: what was read before that is
    /// old. Look at it before the snapshot.
    #[must_use]
    pub fn told_again(&self) -> u64 {
        self.inner.feeds.again()
    }

    /// The feed of a path. Open it before reading the snapshot that it continues.
    #[must_use]
    pub fn feed(&self, space: Space, path: &Path) -> Arc<Feed> {
        self.inner.feeds.open(space, path)
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
