//! Who is told about which change.
//!
//! Everybody who watches one path shares a [`Feed`]: the latest updates that touch the path, each once. A
//! subscriber is a position in it and costs nothing while nothing happens. A feed forgets old updates; who comes
//! too late for them reads a snapshot instead.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::watch;

use crate::path::Path;
use crate::update::Update;

/// Most updates that a feed keeps.
pub const ENTRIES_MAX: usize = 4096;
/// Most memory that a feed keeps, roughly.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Forms in which updates are sent.
pub const FORMS: usize = 5;

/// The names of a version, shared by everybody who was sent it.
pub type Version = Arc<[Box<str>]>;

/// An update in a feed.
#[derive(Debug)]
pub struct Entry {
    /// Its number in the feed.
    pub number: u64,
    /// What happened.
    pub update: Arc<Update>,
    /// The version of the feed's path after it.
    pub version: Version,
    /// The version after the entry before, if the feed has seen one.
    pub before: Option<Version>,
    forms: [OnceLock<Bytes>; FORMS],
}

impl Entry {
    /// The update in one form, made once for everybody.
    pub fn form(&self, form: usize, make: impl FnOnce(&Self) -> Vec<u8>) -> Bytes {
        self.forms[form].get_or_init(|| make(self).into()).clone()
    }
}

/// Wakes one task for any number of feeds, without a place in a queue for each.
#[derive(Debug, Default)]
pub struct Signal {
    /// Whether the task was woken and has not looked yet.
    is_raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    /// Wakes this task at whatever comes from now on. Look at the feeds after this.
    pub fn listen(&self, waker: &Waker) {
        let mut own = lock(&self.waker);
        if own.as_ref().is_none_or(|own| !own.will_wake(waker)) {
            *own = Some(waker.clone());
        }
        drop(own);
        self.is_raised.store(false, Ordering::SeqCst);
    }

    fn raise(&self) {
        if !self.is_raised.swap(true, Ordering::SeqCst)
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }
}

#[derive(Debug, Default)]
struct Recent {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Number of the next entry.
    next: u64,
    /// The version after the latest entry.
    version: Option<Version>,
}

/// The latest updates of one path.
#[derive(Debug)]
pub struct Feed {
    /// What is watched.
    pub path: Path,
    key: Vec<u8>,
    recent: Mutex<Recent>,
    latest: watch::Sender<u64>,
    /// [`Feed::end`] when somebody was told last.
    announced: AtomicU64,
    /// By address, which nobody else gets while a weak reference is here.
    signals: Mutex<HashMap<usize, Weak<Signal>>>,
    registry: Weak<Feeds>,
}

/// What a subscriber finds when it looks.
#[derive(Debug)]
pub enum Next {
    /// These, in order; none when there is nothing new.
    Entries(Vec<Arc<Entry>>),
    /// So many updates are gone; read a snapshot.
    Behind(u64),
}

impl Feed {
    /// The entries from `number` on, at most `max`.
    #[must_use]
    pub fn from(&self, number: u64, max: usize) -> Next {
        let recent = lock(&self.recent);
        let oldest = recent.next - recent.entries.len() as u64;
        if number < oldest {
            return Next::Behind(oldest - number);
        }
        let skip = (number - oldest) as usize;
        Next::Entries(recent.entries.iter().skip(skip).take(max).cloned().collect())
    }

    /// Number that the next entry will have.
    #[must_use]
    pub fn end(&self) -> u64 {
        lock(&self.recent).next
    }

    /// Whether entries from `number` on were announced.
    #[must_use]
    pub fn is_ahead_of(&self, number: u64) -> bool {
        self.announced.load(Ordering::SeqCst) > number
    }

    /// Raises a signal when entries come, as long as somebody holds it.
    pub fn signal(&self, signal: &Arc<Signal>) {
        let mut signals = lock(&self.signals);
        if signals.len() == signals.capacity() {
            signals.retain(|_, signal| signal.strong_count() > 0);
        }
        signals.insert(Arc::as_ptr(signal).addr(), Arc::downgrade(signal));
    }

    /// Tells when entries come: its value is [`Feed::end`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Key of the path.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    fn push(&self, update: &Arc<Update>, bytes: usize) {
        let mut recent = lock(&self.recent);
        let version: Version = update.version(&self.key).into();
        let before = recent.version.replace(Arc::clone(&version));
        let entry = Entry { number: recent.next, update: Arc::clone(update), version, before, forms: Default::default() };
        recent.next += 1;
        recent.bytes += bytes;
        recent.entries.push_back(Arc::new(entry));
        while recent.entries.len() > ENTRIES_MAX || (recent.bytes > BYTES_MAX && recent.entries.len() > 1) {
            let gone = recent.entries.pop_front().map_or(0, |gone| gone.update.bytes());
            recent.bytes = recent.bytes.saturating_sub(gone);
        }
    }

    /// Tells everybody that entries came.
    fn announce(&self) {
        let end = lock(&self.recent).next;
        self.announced.store(end, Ordering::SeqCst);
        self.latest.send_replace(end);
        let mut is_gone = false;
        let mut signals = lock(&self.signals);
        for signal in signals.values() {
            match signal.upgrade() {
                Some(signal) => signal.raise(),
                None => is_gone = true,
            }
        }
        if is_gone {
            signals.retain(|_, signal| signal.strong_count() > 0);
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            let mut feeds = lock(&registry.feeds);
            if feeds.get(&self.key).is_some_and(|feed| feed.strong_count() == 0) {
                feeds.remove(&self.key);
            }
            registry.count.store(feeds.len(), Ordering::Release);
        }
    }
}

/// All feeds that somebody watches.
#[derive(Debug, Default)]
pub struct Feeds {
    feeds: Mutex<BTreeMap<Vec<u8>, Weak<Feed>>>,
    count: AtomicUsize,
}

impl Feeds {
    /// Whether somebody watches something.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// The feed of a path, which exists as long as somebody holds it.
    #[must_use]
    pub fn open(self: &Arc<Self>, path: &Path) -> Arc<Feed> {
        let key = path.key();
        let mut feeds = lock(&self.feeds);
        if let Some(feed) = feeds.get(&key).and_then(Weak::upgrade) {
            return feed;
        }
        let feed = Arc::new(Feed {
            path: path.clone(),
            key: key.clone(),
            recent: Mutex::default(),
            latest: watch::Sender::new(0),
            announced: AtomicU64::new(0),
            signals: Mutex::default(),
            registry: Arc::downgrade(self),
        });
        feeds.insert(key, Arc::downgrade(&feed));
        self.count.store(feeds.len(), Ordering::Release);
        feed
    }

    /// Hands updates to everybody who watches a path that they touch, each once for all of them: who is woken finds
    /// everything that became visible together.
    pub fn publish(&self, updates: &[Arc<Update>]) {
        if !self.is_watched() {
            return;
        }
        let mut all: BTreeMap<*const Feed, Arc<Feed>> = BTreeMap::new();
        for update in updates {
            let found = self.watching(update);
            let bytes = update.bytes();
            found.values().for_each(|feed| feed.push(update, bytes));
            all.extend(found);
        }
        all.values().for_each(|feed| feed.announce());
    }

    /// The feeds of paths that an update touches.
    fn watching(&self, update: &Update) -> BTreeMap<*const Feed, Arc<Feed>> {
        let mut found: BTreeMap<*const Feed, Arc<Feed>> = BTreeMap::new();
        {
            let feeds = lock(&self.feeds);
            let roots = update.patches.iter().flatten().map(|patch| &patch.path).chain(&update.touched);
            for path in roots {
                let mut key = Vec::new();
                let mut above = vec![0];
                for segment in path.segments() {
                    segment.push_key(&mut key);
                    above.push(key.len());
                }
                let own = above.iter().filter_map(|len| feeds.get(&key[..*len]));
                let below = feeds.range(key.clone()..).take_while(|(other, _)| other.starts_with(&key)).map(|(_, feed)| feed);
                for feed in own.chain(below).filter_map(Weak::upgrade) {
                    found.insert(Arc::as_ptr(&feed), feed);
                }
            }
        }
        found
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
