//! Who is told about which change.
//!
//! Everybody who watches one path shares a [`Feed`]: the latest updates that touch the path, each once. A
//! subscriber is a position in it and costs nothing while nothing happens. A feed forgets old updates; who comes
//! too late for them reads a snapshot instead.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::node::node_key;
use crate::path::Path;
use crate::pipeline::Space;
use crate::update::Update;

/// Most updates that a feed keeps.
pub const ENTRIES_MAX: usize = 4096;
/// Most memory that a feed keeps, roughly.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long telling one subscriber takes, roughly. Whoever was told is not told again before the others were: so
/// under load each gets more at once, which costs all of them less.
pub const TELLING: Duration = Duration::from_micros(4);
/// Forms in which updates are sent.
pub const FORMS: usize = 6;

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

    /// Wakes the task that listens, if it was not woken since.
    pub fn raise(&self) {
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
    /// In which space.
    pub space: Space,
    /// What is watched.
    pub path: Path,
    key: Vec<u8>,
    recent: Mutex<Recent>,
    latest: watch::Sender<u64>,
    /// [`Feed::end`] when somebody was told last.
    announced: AtomicU64,
    /// When it may be announced again, and whether that is to be done.
    pace: Mutex<(Option<Instant>, bool)>,
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

    /// Tells everybody that entries came, now or, when they were told just before, later: when, if so and if nobody
    /// knows yet.
    fn announce_in_time(&self, now: Instant) -> Option<Instant> {
        let mut pace = lock(&self.pace);
        if self.announced.load(Ordering::SeqCst) == self.end() {
            return None;
        }
        if let Some(at) = pace.0.filter(|at| *at > now) {
            return (!std::mem::replace(&mut pace.1, true)).then_some(at);
        }
        let told = self.announce();
        *pace = (Some(now + TELLING * u32::try_from(told).unwrap_or(u32::MAX)), false);
        None
    }

    /// Tells everybody that entries came; how many they are.
    fn announce(&self) -> usize {
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
        signals.len() + self.latest.receiver_count()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            let mut feeds = lock(&registry.feeds);
            let key = node_key(self.space.main(), &self.key);
            if feeds.get(&key).is_some_and(|feed| feed.strong_count() == 0) {
                feeds.remove(&key);
            }
            registry.count.store(feeds.len(), Ordering::Release);
        }
    }
}

/// All feeds that somebody watches.
#[derive(Debug, Default)]
pub struct Feeds {
    /// By `t ‖ key`.
    feeds: Mutex<BTreeMap<Vec<u8>, Weak<Feed>>>,
    count: AtomicUsize,
    /// How often something was told that has to be read again, whatever was read.
    again: AtomicU64,
    /// Feeds to be announced, each once.
    due: Mutex<Vec<(Instant, Arc<Feed>)>>,
}

impl Feeds {
    /// How often something changed that is no new change: what was read before that is old, whatever came up to it.
    #[must_use]
    pub fn again(&self) -> u64 {
        self.again.load(Ordering::Acquire)
    }

    /// Whether somebody watches something.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// The feed of a path, which exists as long as somebody holds it.
    #[must_use]
    pub fn open(self: &Arc<Self>, space: Space, path: &Path) -> Arc<Feed> {
        let key = path.key();
        let t_key = node_key(space.main(), &key);
        let mut feeds = lock(&self.feeds);
        if let Some(feed) = feeds.get(&t_key).and_then(Weak::upgrade) {
            return feed;
        }
        let feed = Arc::new(Feed {
            space,
            path: path.clone(),
            key,
            recent: Mutex::default(),
            latest: watch::Sender::new(0),
            announced: AtomicU64::new(0),
            pace: Mutex::default(),
            signals: Mutex::default(),
            registry: Arc::downgrade(self),
        });
        feeds.insert(t_key, Arc::downgrade(&feed));
        self.count.store(feeds.len(), Ordering::Release);
        feed
    }

    /// Hands updates to everybody who watches a path that they touch, each once for all of them: who is woken finds
    /// everything that became visible together.
    pub fn publish(&self, updates: &[Arc<Update>]) {
        let again = updates.iter().filter(|update| update.a == u64::MAX || !update.unnamed.is_empty()).count();
        if again > 0 {
            self.again.fetch_add(again as u64, Ordering::Release);
        }
        if !self.is_watched() {
            return;
        }
        let mut all: BTreeMap<*const Feed, Arc<Feed>> = BTreeMap::new();
        for update in updates {
            let found = self.watching(update);
            let bytes = update.bytes();
            let again = (!update.unnamed.is_empty()).then(|| Arc::new(update.unnamed()));
            for feed in found.values() {
                match again.as_ref().filter(|_| update.unnamed.contains(&feed.key)) {
                    Some(again) => feed.push(again, bytes),
                    None => feed.push(update, bytes),
                }
            }
            all.extend(found);
        }
        self.announce(all.into_values());
    }

    /// When [`Feeds::announce_due`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        lock(&self.due).iter().map(|(at, _)| *at).min()
    }

    /// Tells those about what came who were told of something else too short a time ago.
    pub fn announce_due(&self) {
        self.announce(std::iter::empty());
    }

    fn announce(&self, feeds: impl Iterator<Item = Arc<Feed>>) {
        let now = Instant::now();
        let mut due = lock(&self.due);
        let late: Vec<Arc<Feed>> = due.extract_if(.., |(at, _)| *at <= now).map(|(_, feed)| feed).collect();
        for feed in late.into_iter().chain(feeds) {
            if let Some(at) = feed.announce_in_time(now) {
                due.push((at, feed));
            }
        }
    }

    /// The feeds of paths that an update touches.
    fn watching(&self, update: &Update) -> BTreeMap<*const Feed, Arc<Feed>> {
        let mut found: BTreeMap<*const Feed, Arc<Feed>> = BTreeMap::new();
        {
            let feeds = lock(&self.feeds);
            let roots = update.patches.iter().flatten().map(|patch| &patch.path).chain(&update.touched);
            for path in roots {
                let mut key = node_key(update.space.main(), &[]);
                let mut above = vec![key.len()];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ChangeId;

    fn own() -> Space {
        Space::new(timebus_identity::PublicKey::from_bytes([0; 32]), 0)
    }

    fn update(a: u64, path: &Path) -> Arc<Update> {
        let author = timebus_identity::PublicKey::from_bytes([7; 32]);
        let (name, versions) = (a.to_string().into(), BTreeMap::new());
        Arc::new(Update {
            space: own(),
            a,
            id: ChangeId([a as u8; 32]),
            name,
            author,
            behalf: None,
            time_ms: 0,
            patches: None,
            texts: Vec::new(),
            touched: vec![path.clone()],
            moved: Vec::new(),
            versions,
            unnamed: std::collections::BTreeSet::new(),
            asked: None,
        })
    }

    #[test]
    fn whoever_was_told_is_told_the_next_ones_together_and_later() {
        let feeds = Arc::new(Feeds::default());
        let path = Path::parse("/x").expect("a path");
        let feed = feeds.open(own(), &path);
        let signals: Vec<Arc<Signal>> = (0..100).map(|_| Arc::default()).collect();
        signals.iter().for_each(|signal| feed.signal(signal));
        let now = Instant::now();
        let due = now + 100 * TELLING;
        feed.push(&update(1, &path), 1);
        feed.push(&update(2, &path), 1);
        assert!(!feed.is_ahead_of(0));
        assert_eq!(feed.announce_in_time(now), None);
        assert!(feed.is_ahead_of(1), "the first ones are told at once");
        assert!(signals.iter().all(|signal| signal.is_raised.load(Ordering::SeqCst)));
        feed.push(&update(3, &path), 1);
        assert_eq!(feed.announce_in_time(now), Some(due));
        feed.push(&update(4, &path), 1);
        assert_eq!(feed.announce_in_time(due - Duration::from_nanos(1)), None, "that is known");
        assert_eq!((feed.end(), feed.is_ahead_of(2)), (4, false));
        assert_eq!(feed.announce_in_time(due), None);
        assert!(feed.is_ahead_of(3));
        // Nothing is left to tell.
        assert_eq!(feed.announce_in_time(due), None);
    }

    #[test]
    fn those_who_are_gone_are_forgotten() {
        let feeds = Arc::new(Feeds::default());
        let path = Path::parse("/x").expect("a path");
        let feed = feeds.open(own(), &path);
        for _ in 0..1000 {
            feed.signal(&Arc::default());
        }
        assert!(lock(&feed.signals).len() < 10);
    }
}
