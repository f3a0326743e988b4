//! The peer among other peers: links come and go, frames go in and out of a [`Node`], and changes between it and the
//! store.
//!
//! One task owns the node. Each link has a task that reads, one that writes and one that checks and stores, so that a
//! slow disk or a slow peer holds up nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use timebus_identity::{Keys, PublicKey, SecretKey, Signed, Verified, random_bytes};
use timebus_store::blobs::BlobHash;
use timebus_store::change::{Change, Head};
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::inbox::{Inbox, LeaveError};
use timebus_store::pipeline::Refusal;
use timebus_store::store::Store;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::blobs::fetch::{Fetcher, is_frame};
use crate::dht::Pointer;
use crate::held::Held;
use crate::invites::{Invites, RedeemError};
use crate::ledger::{Author, Ledger, Relation};
use crate::link::address::Address;
use crate::link::endpoint::{BindError, Endpoint, EndpointConfig};
use crate::link::{Arrivals, Door, Link, LinkReceiver, LinkSender, SEND_BYTES_MAX, door};
use crate::node::book::{Book, BookError};
use crate::node::outbox::Outbox;
use crate::node::{Act, Config as NodeConfig, Event, Heard, LinkId, Node, SpaceState, SpaceStatus};
use crate::sync::frame::{Redemption, Taking};
use crate::sync::{Binding, RedeemAnswer, Role, Stored};
use crate::who::now_ms;
use crate::whose::spaces_of;

/// Events that wait for the node; who has more to say waits too.
const EVENTS_MAX: usize = 1024;
/// How long changes of the book wait to be written together.
const SAVE_DELAY: Duration = Duration::from_millis(500);
/// Changes whose signatures are checked by one thread at a time; fewer are not worth the way there.
const CHECK_CHUNK: usize = 64;
/// Frames of one link whose changes were checked and are being written, and as many that wait for that: while some are
/// on their way to the disk, the next are checked. What a link holds in all is limited by its credit.
const STORING_MAX: usize = 16;

/// Changes that were fetched again and wait for whoever asked.
const FETCHED_MAX: usize = 512;
/// Changes asked for at once, one Need.
const FETCH_MAX: usize = 256;

/// News of who looks at what elsewhere that wait to be looked at; of more, the oldest are left out.
const HEARD_MAX: usize = 256;

/// How a peer takes part in the network.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Sockets, relays, LAN.
    pub endpoint: EndpointConfig,
    /// What the peer calls itself. Default its human name.
    pub name: String,
    /// Links that others may open at once. Default 256; each costs up to 4 MiB while it is busy.
    pub links_max: usize,
}

/// Why a peer cannot take part in the network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No sockets.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// What was remembered of other peers cannot be read.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The invites cannot be read.
    #[error("the invites could not be read")]
    Invites(#[source] io::Error),
    /// The inbox cannot be read.
    #[error("the inbox could not be read")]
    Inbox(#[source] io::Error),
    /// What waits to be delivered cannot be read.
    #[error("outbox.json could not be read; move it away to start with an empty one")]
    Outbox(#[source] io::Error),
}

/// The network has been left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer is stopping")]
pub struct Stopped;

/// A machine, a space, and files of it that the machine says it holds.
pub(crate) type Holding = (PublicKey, PublicKey, Vec<BlobHash>);

type Question = Box<dyn FnOnce(&Node) + Send>;

enum Command {
    Event(Event),
    Save(oneshot::Sender<()>),
    Ask(Question),
    /// What was held back may be asked for again.
    Again,
    Leave(oneshot::Sender<()>),
}

/// A peer's part in the network. Clones share it.
#[derive(Clone)]
pub struct Network {
    commands: mpsc::Sender<Command>,
    changed: watch::Receiver<u64>,
    fetched: broadcast::Sender<Signed<Change>>,
    heard: broadcast::Sender<Heard>,
    holdings: broadcast::Sender<Holding>,
    endpoint: Endpoint,
    door: Door,
    invites: Arc<Invites>,
    ledger: Arc<Ledger>,
    inbox: Arc<Inbox>,
    blobs: Fetcher,
    node_key: Arc<SecretKey>,
}

/// Asks the node and tells it what happened, without keeping the network alive.
#[derive(Clone, Debug)]
pub(crate) struct Asker(mpsc::WeakSender<Command>);

impl Asker {
    /// Says that something happened.
    pub(crate) fn tell(&self, event: Event) {
        if let Some(commands) = self.0.upgrade() {
            tokio::spawn(async move { drop(commands.send(Command::Event(event)).await) });
        }
    }

    /// Says that things happened, in order; `None` when the peer stops.
    pub(crate) async fn tell_all(&self, events: Vec<Event>) -> Option<()> {
        let commands = self.0.upgrade()?;
        for event in events {
            commands.send(Command::Event(event)).await.ok()?;
        }
        Some(())
    }

    /// Asks the node; `None` when the peer stops.
    pub(crate) async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Node) -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |node: &Node| drop(reply.send(question(node))));
        self.0.upgrade()?.send(Command::Ask(question)).await.ok()?;
        answer.await.ok()
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({:?})", self.endpoint)
    }
}

impl Network {
    /// Takes part in the network.
    ///
    /// # Errors
    ///
    /// [`NetworkError`].
    pub async fn join(store: Store, keys: &Keys, config: NetworkConfig) -> Result<Self, NetworkError> {
        let file = store.home().join("peers.json");
        let mut book = Book::load(&file)?;
        let inbox = Inbox::open(&store.home().join("inbox"), store.space(), timebus_store::inbox::Limits::default()).map_err(NetworkError::Inbox)?;
        let inbox = Arc::new(inbox);
        let outbox_file = store.home().join("outbox.json");
        let outbox = Outbox::load(&outbox_file).map_err(NetworkError::Outbox)?;
        let invites = Arc::new(Invites::open(&store.home().join("invites"), store.clone()).map_err(NetworkError::Invites)?);
        let ledger = Arc::new(Ledger::open(&store.home().join("limits.json")));
        let device = SecretKey::from_seed(*keys.device().seed());
        let root = keys.root().map(|root| Arc::new(SecretKey::from_seed(*root.seed())));
        let node = timebus_identity::node_key(&device);
        if book.pointer.as_ref().and_then(Pointer::node) != Some(node.public()) {
            // It is said to nobody before the owner says yes; but then the root key may be gone from here.
            let root = root.as_ref().filter(|root| root.public() == store.space());
            let pointer = root.and_then(|root| Pointer::sign(root, &node, now_ms()));
            if book.pointer != pointer {
                book.pointer = pointer;
                book.save(&file)?;
            }
        }
        let (door, arrivals) = door(config.links_max);
        let is_offline = config.endpoint.is_offline;
        let endpoint = Endpoint::bind(&node, config.endpoint, door.clone()).await?;
        for relay in book.relays.iter().filter_map(|url| url.parse().ok()) {
            endpoint.allow_relay(relay);
        }
        if book.public == Some(true) {
            endpoint.use_public(true).await;
        }
        let node_key = Arc::new(SecretKey::from_seed(*node.seed()));
        let (commands, queue) = mpsc::channel(EVENTS_MAX);
        let (changes, changed) = watch::channel(0);
        let blobs = Fetcher::start(store.clone(), Asker(commands.downgrade()));
        let fetched = broadcast::Sender::new(FETCHED_MAX);
        let heard = broadcast::Sender::new(HEARD_MAX);
        let holdings = broadcast::Sender::new(HEARD_MAX);
        let node_config = NodeConfig {
            node: node.public(),
            space: store.space(),
            device: device.public(),
            name: config.name,
            is_offline,
            links_max: config.links_max,
            has_feeds: true,
        };
        let driver = Driver {
            node: Node::new(node_config, book, outbox),
            store,
            device: Arc::new(device),
            root: root.clone(),
            incarnation: keys.incarnation(),
            endpoint: endpoint.clone(),
            invites: Arc::clone(&invites),
            ledger: Arc::clone(&ledger),
            inbox: Arc::clone(&inbox),
            file,
            outbox_file,
            is_outbox_new: false,
            commands: commands.clone(),
            links: BTreeMap::new(),
            next_link: 1,
            calls: JoinSet::new(),
            changes,
            fetched: fetched.clone(),
            heard: heard.clone(),
            holdings: holdings.clone(),
            timer: None,
            save: None,
            clock: Clock::new(),
            blobs: blobs.clone(),
        };
        let handing_on = tokio::spawn(hand_on(driver.store.clone(), root));
        tokio::spawn(async move {
            driver.run(queue, arrivals).await;
            handing_on.abort();
        });
        Ok(Self { commands, changed, fetched, heard, holdings, endpoint, door, invites, ledger, inbox, blobs, node_key })
    }

    /// What gets and gives blobs.
    pub(crate) fn blobs(&self) -> &Fetcher {
        &self.blobs
    }

    /// Tells the node what happened, without keeping the network alive.
    pub(crate) fn asker(&self) -> Asker {
        Asker(self.commands.downgrade())
    }

    /// Who looks at what at other peers.
    pub(crate) fn heard(&self) -> broadcast::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// The key that this peer's records are signed with.
    pub(crate) fn node_key(&self) -> &SecretKey {
        &self.node_key
    }

    /// What other machines say that they hold.
    pub(crate) fn holdings(&self) -> broadcast::Receiver<Holding> {
        self.holdings.subscribe()
    }

    /// This peer's place on the network.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where links of other transports come in.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// What others may cost here.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Asks again for what was held back.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub(crate) async fn again(&self) -> Result<(), Stopped> {
        self.commands.send(Command::Again).await.map_err(|_| Stopped)
    }

    /// The invites that were given out.
    #[must_use]
    pub fn invites(&self) -> &Arc<Invites> {
        &self.invites
    }

    /// The inbox of the own space.
    #[must_use]
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Tells whenever peers or spaces are another way than they were.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Says that something happened, or what the owner wants.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn tell(&self, event: Event) -> Result<(), Stopped> {
        self.commands.send(Command::Event(event)).await.map_err(|_| Stopped)
    }

    /// The same for what the owner wants, which is not forgotten from then on, whatever happens.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn wish(&self, event: Event) -> Result<(), Stopped> {
        self.tell(event).await?;
        let (reply, written) = oneshot::channel();
        self.commands.send(Command::Save(reply)).await.map_err(|_| Stopped)?;
        written.await.map_err(|_| Stopped)
    }

    /// Asks the node, behind everything that was told before.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Node) -> T + Send + 'static) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |node: &Node| drop(reply.send(question(node))));
        self.commands.send(Command::Ask(question)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// Gets what is new in a space, and waits until it is all here, until it is clear that it cannot be had, or until
    /// the time is over. Answers how it is then.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn visit(&self, space: PublicKey, patience: Duration) -> Result<SpaceStatus, Stopped> {
        let mut changed = self.changed();
        self.tell(Event::Visit { space }).await?;
        let deadline = Instant::now() + patience;
        loop {
            changed.borrow_and_update();
            let status = self.ask(move |node| node.space(&space)).await?;
            let is_over = !matches!(status.state, SpaceState::Loading | SpaceState::Connecting);
            if is_over || tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                return Ok(status);
            }
        }
    }

    /// Fetches changes again from those who sync their timeline with us. Answers what came within the time, checked.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn fetch(&self, timeline: TimelineId, ids: &[ChangeId], patience: Duration) -> Result<Vec<Verified<Change>>, Stopped> {
        let mut came = Vec::new();
        if !self.ask(Node::has_links).await? {
            return Ok(came);
        }
        let mut fetched = self.fetched.subscribe();
        for some in ids.chunks(FETCH_MAX) {
            let mut wanted: BTreeSet<ChangeId> = some.iter().copied().collect();
            self.tell(Event::Fetch { timeline, ids: some.to_vec() }).await?;
            let deadline = Instant::now() + patience;
            while !wanted.is_empty() {
                let change = match tokio::time::timeout_at(deadline, fetched.recv()).await {
                    Ok(Ok(change)) => change,
                    Ok(Err(broadcast::error::RecvError::Lagged(_))) => continue,
                    Ok(Err(broadcast::error::RecvError::Closed)) => return Err(Stopped),
                    Err(_) => break,
                };
                let id = change.content().id();
                if wanted.contains(&id)
                    && let Ok(good) = change.verify()
                {
                    wanted.remove(&id);
                    came.push(good);
                }
            }
        }
        Ok(came)
    }

    /// The owner allows public relays from now on, or no longer; that is remembered.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn allow_public(&self, is_allowed: bool) -> Result<(), Stopped> {
        self.wish(Event::Public { is_allowed }).await?;
        self.endpoint.use_public(is_allowed).await;
        Ok(())
    }

    /// The owner allows the public DHT from now on, or no longer; that is remembered.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn allow_public_dht(&self, is_allowed: bool) -> Result<(), Stopped> {
        self.wish(Event::PublicDht { is_allowed }).await
    }

    /// The owner takes an invite: the relays among these addresses may be contacted from now on.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    pub async fn allow_relays(&self, addresses: &[String]) -> Result<(), Stopped> {
        let parsed = addresses.iter().filter_map(|address| address.parse::<Address>().ok());
        let relays: Vec<_> = parsed.filter_map(|address| if let Address::Relay(url) = address { Some(url) } else { None }).collect();
        if relays.is_empty() {
            return Ok(());
        }
        let texts = relays.iter().map(ToString::to_string).collect();
        relays.into_iter().for_each(|relay| self.endpoint.allow_relay(relay));
        self.wish(Event::Relays(texts)).await
    }

    /// Leaves the network: others are told, and what is remembered is written.
    pub async fn leave(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Leave(reply)).await.is_ok() {
            let _ = answer.await;
        }
        self.endpoint.close().await;
    }
}

/// Unix time that does not go back while the peer runs, whatever is done to the clock.
struct Clock {
    began_ms: u64,
    began: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { began_ms: now_ms(), began: Instant::now() }
    }

    fn now_ms(&self) -> u64 {
        self.began_ms + self.began.elapsed().as_millis() as u64
    }

    fn at(&self, at_ms: u64) -> Instant {
        self.began + Duration::from_millis(at_ms.saturating_sub(self.began_ms))
    }
}

/// Changes that came, and who wrote them as far as that is known.
struct ToStore {
    ticket: u64,
    space: PublicKey,
    timeline: TimelineId,
    changes: Vec<Signed<Change>>,
    authors: BTreeMap<PublicKey, Author>,
    /// Heads of changes that are held back, and who built on each.
    weights: Vec<(Signed<Head>, BTreeSet<PublicKey>)>,
}

/// What is kept of a link; its tasks end when this is dropped.
struct Running {
    frames: mpsc::UnboundedSender<Bytes>,
    to_store: mpsc::UnboundedSender<ToStore>,
    sender: LinkSender,
    _tasks: JoinSet<()>,
}

struct Driver {
    node: Node,
    store: Store,
    device: Arc<SecretKey>,
    /// The root key of the own space, if it is on this disk.
    root: Option<Arc<SecretKey>>,
    incarnation: [u8; 16],
    endpoint: Endpoint,
    invites: Arc<Invites>,
    ledger: Arc<Ledger>,
    inbox: Arc<Inbox>,
    file: PathBuf,
    outbox_file: PathBuf,
    is_outbox_new: bool,
    commands: mpsc::Sender<Command>,
    links: BTreeMap<LinkId, Running>,
    next_link: LinkId,
    calls: JoinSet<(PublicKey, Result<Link, String>)>,
    changes: watch::Sender<u64>,
    fetched: broadcast::Sender<Signed<Change>>,
    heard: broadcast::Sender<Heard>,
    holdings: broadcast::Sender<Holding>,
    timer: Option<Instant>,
    save: Option<Instant>,
    clock: Clock,
    blobs: Fetcher,
}

impl Driver {
    async fn run(mut self, mut queue: mpsc::Receiver<Command>, mut arrivals: Arrivals) {
        let mut arrived = self.store.arrivals();
        let mut addresses = self.endpoint.watch_addresses();
        self.handle(Event::Addresses(texts(&self.endpoint.addresses())));
        let far = Duration::from_secs(24 * 3600);
        loop {
            let timer = self.timer.unwrap_or_else(|| Instant::now() + far);
            let save = self.save.unwrap_or_else(|| Instant::now() + far);
            tokio::select! {
                command = queue.recv() => match command {
                    Some(Command::Event(event)) => self.handle(event),
                    Some(Command::Ask(question)) => question(&self.node),
                    Some(Command::Save(reply)) => {
                        self.write_book();
                        let _ = reply.send(());
                    }
                    Some(Command::Again) => {
                        // The next link begins without what this one has refused.
                        let links: Vec<LinkId> = self.links.keys().copied().collect();
                        links.into_iter().for_each(|link| self.handle(Event::StoreFailed { link }));
                    }
                    Some(Command::Leave(reply)) => {
                        self.handle(Event::Stop);
                        self.write_book();
                        let _ = reply.send(());
                        return;
                    }
                    None => return,
                },
                Some(link) = arrivals.accept() => self.up(link, None),
                Some(called) = self.calls.join_next() => match called {
                    Ok((node, Ok(link))) => self.up(link, Some(node)),
                    Ok((node, Err(why))) => self.handle(Event::NotReached { node, why }),
                    Err(_) => {}
                },
                Ok(()) = arrived.changed() => {
                    arrived.borrow_and_update();
                    self.handle(Event::Arrived);
                }
                Ok(()) = addresses.changed() => {
                    let now = texts(&addresses.borrow_and_update());
                    self.handle(Event::Addresses(now));
                }
                () = tokio::time::sleep_until(timer) => {
                    self.timer = None;
                    self.handle(Event::Timer);
                }
                () = tokio::time::sleep_until(save) => self.write_book(),
            }
        }
    }

    /// What is known of whoever signs with a key.
    fn author(&self, key: &PublicKey) -> Author {
        author_of(&self.store, self.node.book(), self.invites.guest(key), key)
    }

    fn write_book(&mut self) {
        self.save = None;
        if let Err(error) = self.node.book().save(&self.file) {
            tracing::error!(%error, "what is known of other peers was not written");
        }
        if std::mem::take(&mut self.is_outbox_new)
            && let Err(error) = self.node.outbox().save(&self.outbox_file)
        {
            tracing::error!(%error, "what waits to be delivered was not written");
        }
    }

    fn up(&mut self, link: Link, called: Option<PublicKey>) {
        let name = self.next_link;
        self.next_link += 1;
        let (sender, receiver) = link.split();
        self.blobs.up(name, sender.clone());
        let (frames, frame_queue) = mpsc::unbounded_channel();
        let (to_store, store_queue) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(read(name, receiver, self.commands.clone(), self.blobs.clone()));
        tasks.spawn(write(name, sender.clone(), frame_queue, self.commands.clone()));
        tasks.spawn(keep(name, self.store.clone(), Arc::clone(&self.ledger), store_queue, self.commands.clone()));
        let device = Arc::clone(&self.device);
        // Who gets a space back by its root key has no other right in it yet. On websockets peers are told apart by their
        // keys, and devices of one owner must not look like one.
        let root = self.root.clone().filter(|_| sender.remote().is_some());
        let prove = move |message: &[u8]| {
            let keys = std::iter::once(&device).chain(&root);
            keys.map(|key| (key.public(), key.sign(message))).collect()
        };
        let event = Event::LinkUp {
            link: name,
            // A websocket that we called is the peer that we called, or it cannot prove it below.
            node: sender.remote(),
            role: if sender.is_initiator() { Role::Initiator } else { Role::Responder },
            binding: Binding(*sender.binding()),
            nonce: random_bytes(),
            prove: Box::new(prove),
            way: sender.way().to_string(),
        };
        if let Some(node) = called.filter(|_| sender.remote().is_none()) {
            tracing::debug!(?node, "reached by websocket");
        }
        self.links.insert(name, Running { frames, to_store, sender, _tasks: tasks });
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        let now_ms = self.clock.now_ms();
        if let Event::LinkDown { link, .. } = &event {
            self.blobs.down(*link);
        }
        let held = Held::now(&self.store, self.incarnation, now_ms).letting_in(&self.node.book().agreed);
        let acts = self.node.handle(now_ms, event, &held);
        for act in acts {
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send { link, bytes } => {
                if let Some(running) = self.links.get(&link) {
                    let _ = running.frames.send(bytes);
                }
            }
            Act::Store { link, ticket, space, timeline, changes } => {
                let authors: BTreeSet<PublicKey> = changes.iter().map(|change| change.content().header().author).chain([space]).collect();
                let authors = self.ledger.authors(&self.store, authors, |author| self.author(author));
                if let Some(running) = self.links.get(&link) {
                    let _ = running.to_store.send(ToStore { ticket, space, timeline, changes, authors, weights: Vec::new() });
                }
            }
            Act::Weigh { link, space, timeline, heads } => {
                let authors: BTreeSet<PublicKey> =
                    heads.iter().flat_map(|(head, by)| by.iter().copied().chain([head.content().header().author])).collect();
                let authors = self.ledger.authors(&self.store, authors, |author| self.author(author));
                if let Some(running) = self.links.get(&link) {
                    let _ = running.to_store.send(ToStore { ticket: 0, space, timeline, changes: Vec::new(), authors, weights: heads });
                }
            }
            Act::Fetched { changes } => {
                for change in changes {
                    // Nobody may be waiting for it any more.
                    let _ = self.fetched.send(change);
                }
            }
            Act::AskFiles { link, space, files } => {
                let (store, commands) = (self.store.clone(), self.commands.clone());
                tokio::task::spawn_blocking(move || {
                    let files = crate::community::holding::held_of(&store, &space, files).unwrap_or_default();
                    let _ = commands.blocking_send(Command::Event(Event::Files { link, space, files }));
                });
            }
            Act::Files { node, space, files } => {
                // Nobody may be asking any more.
                let _ = self.holdings.send((node, space, files));
            }
            Act::Presence(heard) => {
                // Nobody may be looking here.
                let _ = self.heard.send(heard);
            }
            Act::Call { node, addresses } => {
                let endpoint = self.endpoint.clone();
                let addresses: Vec<Address> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
                self.calls.spawn(async move { (node, endpoint.dial(Some(&node), &addresses).await.map_err(|error| error.to_string())) });
            }
            Act::Close { link, code, text } => {
                if let Some(running) = self.links.remove(&link) {
                    self.blobs.down(link);
                    tokio::spawn(close(running, code, text));
                }
            }
            Act::Redeem { link, token, device, mut remote } => {
                remote.space = guest_of(&self.store, self.node.book(), &device, remote.space);
                let (invites, commands, now) = (Arc::clone(&self.invites), self.commands.clone(), self.clock.now_ms());
                let space = self.store.space();
                tokio::spawn(async move {
                    let answer = match invites.redeem(token, device, &remote, now).await {
                        Ok(space) => RedeemAnswer { result: Redemption::Granted, space, text: String::new() },
                        Err(RedeemError::Invalid) => {
                            RedeemAnswer { result: Redemption::Invalid, space: PublicKey::from_bytes([0; 32]), text: String::new() }
                        }
                        Err(error) => RedeemAnswer { result: Redemption::Busy, space, text: error.to_string() },
                    };
                    let _ = commands.send(Command::Event(Event::RedeemAnswer { link, answer })).await;
                });
            }
            Act::Notices { link, notices, .. } => {
                let (inbox, commands, now_ms) = (Arc::clone(&self.inbox), self.commands.clone(), self.clock.now_ms());
                tokio::task::spawn_blocking(move || {
                    let space = inbox.space();
                    let results = take_notices(&inbox, notices, now_ms);
                    let _ = commands.blocking_send(Command::Event(Event::Took { link, space, results }));
                });
            }
            Act::SaveOutbox => {
                self.is_outbox_new = true;
                self.save.get_or_insert_with(|| Instant::now() + SAVE_DELAY);
            }
            Act::Sign(record) => {
                let (key, commands) = (timebus_identity::node_key(&self.device), self.commands.clone());
                let Ok(record) = Verified::sign(*record, &key) else { return };
                tokio::spawn(async move { drop(commands.send(Command::Event(Event::Signed(Box::new(record)))).await) });
            }
            Act::Save => {
                self.save.get_or_insert_with(|| Instant::now() + SAVE_DELAY);
            }
            Act::Timer { at_ms } => self.timer = Some(self.clock.at(at_ms)),
            Act::Changed => self.changes.send_modify(|count| *count += 1),
        }
    }
}

/// Checks and keeps notices.
fn take_notices(inbox: &Inbox, notices: Vec<Signed<Change>>, now_ms: u64) -> Vec<(ChangeId, Taking)> {
    let mut results = Vec::with_capacity(notices.len());
    let mut good = Vec::with_capacity(notices.len());
    for notice in notices {
        let id = notice.content().id();
        match notice.verify() {
            Ok(notice) => good.push(notice),
            Err(_) => results.push((id, Taking::Refused)),
        }
    }
    let left = inbox.leave(&good, now_ms);
    results.extend(good.iter().map(|notice| notice.id()).zip(left.into_iter().map(|left| match left {
        Ok(_) => Taking::Kept,
        Err(LeaveError::Closed) => Taking::NotHere,
        Err(LeaveError::Full { .. }) => Taking::Full,
        Err(LeaveError::Io(error)) => {
            tracing::error!(%error, "a notice was not kept");
            Taking::Busy
        }
        Err(error) => {
            tracing::debug!(%error, "a notice was refused");
            Taking::Refused
        }
    })));
    results
}

/// Sees to it that other devices of the owner may do in the spaces of others what this one may, whenever something was
/// stated anywhere.
async fn hand_on(store: Store, root: Option<Arc<SecretKey>>) {
    let mut arrived = store.arrivals();
    let mut seen = None;
    loop {
        let now = store.statements();
        if seen.replace(now) != Some(now) {
            if let Some(root) = &root {
                crate::devices::admit_this(&store, root).await;
            }
            crate::devices::hand_on(&store).await;
        }
        if arrived.changed().await.is_err() {
            return;
        }
    }
}

fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// Lets what was sent go out, then closes.
async fn close(running: Running, code: u8, text: String) {
    let Running { frames, sender, to_store, mut _tasks } = running;
    drop((frames, to_store));
    // The writer ends when everything is handed over, the others with it.
    let flushed = async { while _tasks.len() > 1 && _tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(crate::link::CLOSE_TIMEOUT, flushed).await;
    sender.close(code, &text);
    sender.until_ended().await;
}

/// Hands on what comes in.
async fn read(link: LinkId, mut receiver: LinkReceiver, commands: mpsc::Sender<Command>, blobs: Fetcher) {
    while let Some(frame) = receiver.recv().await {
        if is_frame(&frame) {
            blobs.frame(link, frame.into()).await;
            continue;
        }
        if commands.send(Command::Event(Event::Frame { link, bytes: frame.into() })).await.is_err() {
            return;
        }
    }
    let why = receiver.sender().until_ended().await.to_string();
    let _ = commands.send(Command::Event(Event::LinkDown { link, why })).await;
}

/// Sends what is to go out, and says when more may come. The queue holds no more than the node was told is taken.
async fn write(link: LinkId, sender: LinkSender, mut frames: mpsc::UnboundedReceiver<Bytes>, commands: mpsc::Sender<Command>) {
    while let Some(frame) = frames.recv().await {
        if sender.send(frame.into()).await.is_err() {
            return;
        }
        if !frames.is_empty() {
            continue;
        }
        if !sender.has_room(SEND_BYTES_MAX / 2).await {
            return;
        }
        let bytes = sender.room() as u64;
        if commands.send(Command::Event(Event::Writable { link, bytes })).await.is_err() {
            return;
        }
    }
}

/// What was checked and is to be stored.
struct Checked {
    stored: Stored,
    space: PublicKey,
    timeline: TimelineId,
    changes: Vec<Verified<Change>>,
    authors: BTreeMap<PublicKey, Author>,
}

/// Checks and stores what came, in order. Checking goes on while what was checked before is on its way to the disk.
async fn keep(link: LinkId, store: Store, ledger: Arc<Ledger>, mut queue: mpsc::UnboundedReceiver<ToStore>, commands: mpsc::Sender<Command>) {
    let (checked, to_offer) = mpsc::channel(STORING_MAX);
    let (checking_store, checking_ledger, checking_commands) = (store.clone(), Arc::clone(&ledger), commands.clone());
    let checking = async move {
        while let Some(ToStore { ticket, space, timeline, changes, authors, weights }) = queue.recv().await {
            if !weights.is_empty() {
                let (store, ledger) = (checking_store.clone(), Arc::clone(&checking_ledger));
                let lent = tokio::task::spawn_blocking(move || weigh(&store, &ledger, &space, weights, &authors)).await.unwrap_or(false);
                // What was held back is asked for again with the next link.
                if lent && checking_commands.send(Command::Event(Event::StoreFailed { link })).await.is_err() {
                    return;
                }
                continue;
            }
            let mut stored = Stored { ticket, ..Stored::default() };
            let changes = check(changes, &mut stored.bad_signatures).await;
            if checked.send(Checked { stored, space, timeline, changes, authors }).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(checking, offer(link, store, ledger, to_offer, commands));
}

/// Checks heads and remembers how much there is. Whether somebody who built on what they name has room for that.
fn weigh(
    store: &Store,
    ledger: &Ledger,
    space: &PublicKey,
    heads: Vec<(Signed<Head>, BTreeSet<PublicKey>)>,
    authors: &BTreeMap<PublicKey, Author>,
) -> bool {
    let author = |key: &PublicKey| authors.get(key).cloned().unwrap_or(Author { person: *key, relation: Relation::Stranger });
    let mut lent = false;
    for (head, by) in heads {
        let Ok(head) = head.verify() else { continue };
        match ledger.weigh(store, space, &head, &by, author, now_ms()) {
            Ok(now_lent) => lent |= now_lent,
            Err(error) => tracing::error!(%error, "what is held back could not be counted"),
        }
    }
    // Whoever watches what waits is told.
    store.recheck_rights();
    lent
}

/// Hands what was checked, and the owner has room for, to the store, and tells what became of it, in order.
async fn offer(link: LinkId, store: Store, ledger: Arc<Ledger>, mut checked: mpsc::Receiver<Checked>, commands: mpsc::Sender<Command>) {
    let mut offers = FuturesOrdered::new();
    let mut is_open = true;
    while is_open || !offers.is_empty() {
        let (mut stored, timeline, held, by, result) = tokio::select! {
            next = checked.recv(), if is_open && offers.len() < STORING_MAX => {
                match next {
                    Some(Checked { stored, space, timeline, changes, authors }) => {
                        let author = |key: &PublicKey| authors.get(key).cloned().unwrap_or(Author { person: *key, relation: Relation::Stranger });
                        let by: BTreeMap<ChangeId, PublicKey> = changes.iter().map(|change| (change.id(), change.header().author)).collect();
                        let sorted = ledger.sort(&store, &space, changes, author, now_ms());
                        let store = store.clone();
                        offers.push_back(async move {
                            let (result, held) = match sorted {
                                Ok((good, held)) => (store.offer(good).await, held),
                                Err(error) => (Err(error.into()), Vec::new()),
                            };
                            (stored, timeline, held, by, result)
                        });
                    }
                    None => is_open = false,
                }
                continue;
            }
            Some(done) = offers.next() => done,
        };
        match result {
            Ok(offered) => {
                let uncounted = offered.known.iter().copied().chain(offered.refused.iter().map(Refusal::change));
                ledger.recount(uncounted.filter_map(|id| by.get(&id).copied()));
                crate::held::tell(&mut stored, offered);
                if !held.is_empty() {
                    let authors: BTreeSet<PublicKey> = held.iter().map(|(_, author)| *author).collect();
                    stored.held.extend(held.into_iter().map(|(id, _)| id));
                    // Whoever watches what waits is told.
                    store.recheck_rights();
                    let authors = authors.into_iter().collect();
                    if commands.send(Command::Event(Event::HeldBack { link, timeline, authors })).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                // What came is asked for again with the next link.
                tracing::error!(%error, "changes of another peer were not stored");
                let _ = commands.send(Command::Event(Event::StoreFailed { link })).await;
                return;
            }
        }
        if commands.send(Command::Event(Event::Stored { link, stored })).await.is_err() {
            return;
        }
    }
}

/// What is known of whoever signs with a key. `guest` is whose device it is by its own word, if it took an invite: that counts
/// only of somebody who is not known here, since of others it shows in their spaces.
fn author_of(store: &Store, book: &Book, guest: Option<PublicKey>, key: &PublicKey) -> Author {
    if store.is_own_device(key) {
        return Author { person: store.space(), relation: Relation::Own };
    }
    let is_friend = |who: &PublicKey| is_friend(book, who);
    let spaces = spaces_of(store, key, false);
    let of_space = spaces.iter().copied().find(is_friend).or(spaces.first().copied());
    let said = guest.filter(|space| store.rights(space).is_none() && !is_friend(space));
    let person = of_space.or(said).unwrap_or(*key);
    let relation = if is_friend(&person) {
        Relation::Friend
    } else if guest.is_some() {
        Relation::Invited
    } else {
        Relation::Stranger
    };
    Author { person, relation }
}

/// Whose device it is that takes an invite, by what it says: of whom something is known nobody says just so that he is he.
fn guest_of(store: &Store, book: &Book, device: &PublicKey, said: PublicKey) -> PublicKey {
    let is_known = said == store.space() || is_friend(book, &said) || store.rights(&said).is_some();
    if is_known && !spaces_of(store, device, false).contains(&said) { *device } else { said }
}

fn is_friend(book: &Book, who: &PublicKey) -> bool {
    book.petnames.contains_key(who) || book.following.contains_key(who)
}

/// Checks signatures beside the threads that serve sockets.
async fn check(changes: Vec<Signed<Change>>, bad: &mut Vec<ChangeId>) -> Vec<Verified<Change>> {
    let mut rest = changes.into_iter();
    let mut tasks = Vec::new();
    loop {
        let chunk: Vec<Signed<Change>> = rest.by_ref().take(CHECK_CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        let check = move || -> Vec<_> {
            chunk
                .into_iter()
                .map(|change| {
                    let id = change.content().id();
                    change.verify().map_err(|_| id)
                })
                .collect()
        };
        tasks.push(tokio::task::spawn_blocking(check));
    }
    let mut good = Vec::new();
    for task in tasks {
        for checked in task.await.unwrap_or_default() {
            match checked {
                Ok(change) => good.push(change),
                Err(id) => bad.push(id),
            }
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use timebus_store::store::{Config, lock_home};

    use super::*;

    /// A guest says that he is somebody whom the owner knows, to have his room.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_guest_is_nobody_who_is_known_by_his_own_word() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store");
        let [guest, friend, unknown] = [1, 2, 3].map(|n| SecretKey::from_seed([n; 32]).public());
        let mut book = Book::default();
        book.petnames.insert(friend, "bob".to_owned());
        let author = |said| author_of(&store, &book, said, &guest);
        for said in [friend, store.space()] {
            assert_eq!(author(Some(said)), Author { person: guest, relation: Relation::Invited });
        }
        // Who is not known here is whose device he says that he is, if he is the first who says so.
        assert_eq!(author(Some(unknown)), Author { person: unknown, relation: Relation::Invited });
        assert_eq!(author(None), Author { person: guest, relation: Relation::Stranger });
        let whose = [friend, store.space(), unknown].map(|said| guest_of(&store, &book, &guest, said));
        assert_eq!(whose, [guest, guest, unknown], "and that is what is written down of him");
        assert_eq!(guest_of(&store, &book, &store.device(), store.space()), store.space());
        assert_eq!(author_of(&store, &book, None, &friend), Author { person: friend, relation: Relation::Friend });
    }
}
