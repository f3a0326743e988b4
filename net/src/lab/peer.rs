//! One peer of the lab: the real store on a disk in memory, the real node, and what they wait for.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use timebus_identity::{PublicKey, SecretKey, Signed, Verified, hash, node_key};
use timebus_store::change::Change;
use timebus_store::engine::{Engine, MemoryHome};
use timebus_store::feed::{Feed, Next};
use timebus_store::ids::{ChangeId, GrantId, TimelineId};
use timebus_store::keyspace::{Rows as _, Table};
use timebus_store::pipeline::Space;
use timebus_store::store::{Config as StoreConfig, StorageError, Store};
use timebus_store::summary::{change_key, summary};
use timebus_store::writer::{Offered, Request, Statement, WriteError, Written};

use super::evil::Evil;
use crate::ledger::{Author, Ledger, Relation, Sorted};
use crate::node::book::Book;
use crate::node::outbox::Outbox;
use crate::node::{Config as NodeConfig, LinkId, Node};
use crate::sync::Stored;

/// Changes that came in one frame, with their number.
pub(super) struct Ticket {
    pub(super) number: u64,
    pub(super) space: PublicKey,
    pub(super) timeline: TimelineId,
    pub(super) changes: Vec<Signed<Change>>,
}

/// Changes that the store is looking at, with who wrote them.
pub(super) struct Offering {
    pub(super) stored: Stored,
    pub(super) timeline: TimelineId,
    pub(super) by: BTreeMap<ChangeId, PublicKey>,
    /// Those of whom something was held back.
    pub(super) held: BTreeSet<PublicKey>,
    pub(super) answer: Answer<Offered>,
}

/// Whose space it is that a device is of.
pub(super) type People = BTreeMap<PublicKey, PublicKey>;

/// Something that a store is working on.
pub(super) type Answer<T> = Pin<Box<dyn Future<Output = Result<T, WriteError>>>>;

/// Entries of a feed that are read at once.
const ENTRIES: usize = 256;

/// Whoever runs a lab inside a runtime would else be asked to yield to it, and a lab waits for nobody.
pub(super) fn answer<T>(future: impl Future<Output = Result<T, WriteError>> + 'static) -> Answer<T> {
    Box::pin(tokio::task::unconstrained(future))
}

pub(super) fn poll<T>(answer: &mut Answer<T>) -> Option<Result<T, WriteError>> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// A subscriber to all of one space, who checks that causes come before what they cause.
pub(super) struct Subscriber {
    space: Space,
    feed: Arc<Feed>,
    next: u64,
    last_a: u64,
    /// What it was told or had read, with everything that lies before it. None of it may be told from now on.
    past: HashSet<u64>,
    pub(super) told: u64,
}

impl Subscriber {
    fn new(store: &Store, space: Space) -> Self {
        let feed = store.feed(space, &timebus_store::path::Path::root());
        let next = feed.end();
        let rows = store.snapshot();
        let past: HashSet<u64> = store.changes(&rows, space.main(), 0).filter_map(|change| Some(change.ok()?.0)).collect();
        let last_a = past.iter().copied().max().unwrap_or(0);
        Self { space, feed, next, last_a, past, told: 0 }
    }

    /// Reads what is new. Answers what is wrong with it.
    fn read(&mut self, store: &Store) -> Result<Option<String>, StorageError> {
        loop {
            let entries = match self.feed.from(self.next, ENTRIES) {
                Next::Entries(entries) if entries.is_empty() => return Ok(None),
                Next::Entries(entries) => entries,
                Next::Behind(_) => {
                    *self = Self::new(store, self.space);
                    return Ok(None);
                }
            };
            let rows = store.snapshot();
            let t = self.space.main();
            for entry in entries {
                self.next = entry.number + 1;
                self.told += 1;
                let update = &entry.update;
                // A text was merged further, by nobody's change.
                if update.a == u64::MAX {
                    continue;
                }
                if update.a <= self.last_a {
                    return Ok(Some(format!("a subscriber was told of {} after what arrived later", update.id)));
                }
                self.last_a = update.a;
                if self.past.contains(&update.a) {
                    return Ok(Some(format!("a subscriber was told of {} after what builds on it", update.id)));
                }
                // What changed because of rights is told under the number of the statement.
                let is_right = rows.get(Table::Change, &change_key(t, update.a))?.is_none();
                let mut open = if is_right { Vec::new() } else { vec![update.a] };
                while let Some(a) = open.pop() {
                    if self.past.insert(a) {
                        open.extend(summary(&*rows, t, a)?.deps);
                    }
                }
            }
        }
    }
}

/// An invite that was given out.
#[derive(Clone, Debug)]
pub(super) struct Invite {
    /// What grants that come of it are called.
    pub(super) label: String,
    pub(super) uses_max: u64,
    /// Whether who takes it may write to the wall.
    pub(super) may_write: bool,
    pub(super) is_revoked: bool,
}

/// What runs while a peer is up, and is lost when it crashes.
pub(super) struct Up {
    pub(super) engine: Engine,
    pub(super) node: Node,
    pub(super) writes: Vec<(PublicKey, bool, Answer<Written>)>,
    pub(super) statements: Vec<Answer<Vec<GrantId>>>,
    /// Tokens that are being redeemed, and over which link they came.
    pub(super) redeems: Vec<(LinkId, Answer<Vec<GrantId>>)>,
    /// Changes that came over a link and wait for those before them.
    pub(super) to_offer: BTreeMap<LinkId, VecDeque<Ticket>>,
    pub(super) offers: BTreeMap<LinkId, Offering>,
    /// Changes that others gave and that are not stored.
    pub(super) taken_bytes: usize,
    pub(super) is_syncing: bool,
    pub(super) timer_ms: Option<u64>,
    pub(super) is_saving: bool,
    pub(super) arrived: u64,
    pub(super) subscribers: Vec<Subscriber>,
}

/// A peer.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) home: MemoryHome,
    node: PublicKey,
    /// What of the address book is on disk.
    pub(super) book: Book,
    /// What others may cost, if it keeps count of that; on disk.
    pub(super) ledger: Option<Ledger>,
    /// The invites that it gave out, by their secrets; on disk.
    pub(super) invites: BTreeMap<[u8; 16], Invite>,
    pub(super) up: Option<Up>,
    /// Counts starts.
    pub(super) life: u64,
    /// Whether it says from whom it wants what is new.
    pub(super) has_feeds: bool,
    /// Whether somebody subscribes to what it holds.
    pub(super) is_watched: bool,
    /// How far its clock is off.
    pub(super) skew_ms: i64,
    /// How long its disk takes to sync.
    pub(super) sync_ms: u64,
    pub(super) evil: Option<Evil>,
    /// Whether its disk has failed, so that it takes no writes until it is started again.
    pub(super) is_broken: bool,
    /// What its store showed last, so that nothing of it may be gone after a crash.
    pub(super) shown: Vec<ChangeId>,
    pub(super) told: u64,
    pub(super) admitted: u64,
    pub(super) refused: u64,
    pub(super) crashes: u64,
    pub(super) writes: u64,
    pub(super) failed_writes: u64,
}

/// A few small caches: a lab has many stores.
fn store_config() -> StoreConfig {
    StoreConfig::default()
}

impl Peer {
    pub(super) fn new(name: &'static str, seed: u64, number: usize, device_of: Option<PublicKey>) -> Self {
        let key = |what: &str| SecretKey::from_seed(hash("lab key", &[&seed.to_be_bytes(), &(number as u64).to_be_bytes(), what.as_bytes()]));
        let home = match device_of {
            Some(space) => MemoryHome::of_device(space, key("device")),
            None => MemoryHome::new(key("root"), &key("next"), key("device")),
        };
        let node = node_key(home.device()).public();
        Self {
            name,
            home,
            node,
            ledger: None,
            invites: BTreeMap::new(),
            book: Book::default(),
            up: None,
            life: 0,
            has_feeds: true,
            is_watched: true,
            skew_ms: 0,
            sync_ms: 3,
            evil: None,
            is_broken: false,
            shown: Vec::new(),
            told: 0,
            admitted: 0,
            refused: 0,
            crashes: 0,
            writes: 0,
            failed_writes: 0,
        }
    }

    pub(super) fn space(&self) -> PublicKey {
        self.home.space()
    }

    pub(super) fn device(&self) -> PublicKey {
        self.home.device().public()
    }

    pub(super) fn node_key(&self) -> PublicKey {
        self.node
    }

    /// Names its log.
    pub(super) fn incarnation(&self) -> [u8; 16] {
        let mut incarnation = [0; 16];
        incarnation.copy_from_slice(&self.device().as_bytes()[..16]);
        incarnation
    }

    pub(super) fn store(&self) -> Option<Store> {
        self.up.as_ref().map(|up| up.engine.store().clone())
    }

    /// Starts it, on what is on its disk.
    pub(super) fn start(&mut self, now_ms: u64) -> Result<(), String> {
        let engine = Engine::open(&mut self.home, &store_config(), now_ms).map_err(|error| format!("{} does not start: {error}", self.name))?;
        let config = NodeConfig {
            node: self.node_key(),
            space: self.space(),
            device: self.device(),
            name: self.name.to_owned(),
            is_offline: false,
            links_max: 256,
            has_feeds: self.has_feeds,
        };
        self.life += 1;
        self.ledger = self.ledger.take().map(Ledger::again);
        let arrived = *engine.store().arrivals().borrow();
        self.up = Some(Up {
            engine,
            node: Node::new(config, self.book.clone(), Outbox::default()),
            writes: Vec::new(),
            statements: Vec::new(),
            redeems: Vec::new(),
            to_offer: BTreeMap::new(),
            offers: BTreeMap::new(),
            taken_bytes: 0,
            is_syncing: false,
            timer_ms: None,
            is_saving: false,
            arrived,
            subscribers: Vec::new(),
        });
        self.subscribe();
        Ok(())
    }

    /// Subscribes to every space that is here.
    fn subscribe(&mut self) {
        let Some(up) = self.up.as_mut().filter(|_| self.is_watched) else { return };
        let store = up.engine.store();
        for space in store.spaces() {
            if !up.subscribers.iter().any(|subscriber| subscriber.space == space) {
                up.subscribers.push(Subscriber::new(store, space));
            }
        }
    }

    /// Lets the subscribers read. Answers what is wrong.
    pub(super) fn read_feeds(&mut self) -> Option<String> {
        self.subscribe();
        let up = self.up.as_mut()?;
        let store = up.engine.store().clone();
        for subscriber in &mut up.subscribers {
            let before = subscriber.told;
            match subscriber.read(&store) {
                Ok(None) => {}
                Ok(Some(problem)) => return Some(problem),
                Err(error) => return Some(error.to_string()),
            }
            self.told += subscriber.told.saturating_sub(before);
        }
        None
    }

    pub(super) fn write(&mut self, request: Request, space: PublicKey) {
        let Some(store) = self.store() else { return };
        let Some(up) = &mut self.up else { return };
        let durable = request.durable;
        up.writes.push((space, durable, answer(async move { store.write(request).await })));
    }

    pub(super) fn state(&mut self, statement: Statement, time_ms: u64) {
        let Some(store) = self.store() else { return };
        let Some(up) = &mut self.up else { return };
        up.statements.push(answer(async move { store.state(statement, time_ms).await }));
    }

    /// What somebody is who signs with a key: the owner himself, or a friend.
    pub(super) fn author(space: PublicKey, people: &People, key: &PublicKey) -> Author {
        let person = people.get(key).copied().unwrap_or(*key);
        Author { person, relation: if person == space { Relation::Own } else { Relation::Friend } }
    }

    /// Begins to store what came over links, as far as there is room for it: one offer of each link at a time, as the real
    /// driver does.
    pub(super) fn begin_offers(&mut self, people: &People, now_ms: u64) {
        let (Some(store), own) = (self.store(), self.space()) else { return };
        let Some(up) = &mut self.up else { return };
        for (link, queue) in &mut up.to_offer {
            if up.offers.contains_key(link) {
                continue;
            }
            let Some(Ticket { number, space, timeline, changes }) = queue.pop_front() else { continue };
            let mut stored = Stored { ticket: number, ..Stored::default() };
            let mut good: Vec<Verified<Change>> = Vec::with_capacity(changes.len());
            for change in changes {
                up.taken_bytes = up.taken_bytes.saturating_sub(change.content().encoded_len());
                let id = change.content().id();
                match change.verify() {
                    Ok(change) => good.push(change),
                    Err(_) => stored.bad_signatures.push(id),
                }
            }
            let by = good.iter().map(|change| (change.id(), change.header().author)).collect();
            let author = |key: &PublicKey| Self::author(own, people, key);
            let sorted: Result<Sorted, StorageError> = match &self.ledger {
                Some(ledger) => ledger.sort(&store, &space, good, author, now_ms),
                None => Ok((good, Vec::new())),
            };
            let (answer, left) = match sorted {
                Ok((good, left)) => {
                    let store = store.clone();
                    (answer(async move { store.offer(good).await }), left)
                }
                Err(error) => (answer(async move { Err(error.into()) }), Vec::new()),
            };
            stored.held.extend(left.iter().map(|(id, _)| *id));
            let held = left.into_iter().map(|(_, author)| author).collect();
            up.offers.insert(*link, Offering { stored, timeline, by, held, answer });
        }
    }
}
