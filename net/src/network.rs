//! The peer among other peers: links come and go, frames go in and out of a [`Node`], and changes between it and the
//! store.
//!
//! One task owns the node. Each link has a task that reads, one that writes and one that checks and stores, so that a
//! slow disk or a slow peer holds up nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use timebus_identity::{Keys, PublicKey, SecretKey, Signed, Verified};
use timebus_store::blobs::BlobHash;
use timebus_store::change::Change;
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::inbox::Inbox;
use timebus_store::store::Store;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::blobs::fetch::Fetcher;
use crate::devices::instead;
use crate::dht::Pointer;
use crate::invites::Invites;
use crate::ledger::Ledger;
use crate::link::address::Address;
use crate::link::endpoint::{BindError, Endpoint, EndpointConfig};
use crate::link::{Door, door};
use crate::node::book::{Book, BookError};
use crate::node::outbox::Outbox;
use crate::node::{Config as NodeConfig, Event, Heard, Node, SpaceState, SpaceStatus};
use crate::who::now_ms;

mod authors;
mod driver;
mod storing;

use driver::{Clock, Driver};

/// Events that wait for the node; who has more to say waits too.
const EVENTS_MAX: usize = 1024;

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
    /// Of a peer that is stopping.
    #[cfg(test)]
    pub(crate) fn of_nobody() -> Self {
        Self(mpsc::channel(1).0.downgrade())
    }

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
            strangers: Arc::default(),
        };
        let handing_on = tokio::spawn(hand_on(driver.store.clone(), root, Arc::clone(&invites)));
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
        self.blobs.save_given().await;
    }
}

/// Sees to it that other devices of the owner may do in the spaces of others what this one may, and that what others may do here
/// goes over to new devices of theirs, whenever something was stated anywhere.
async fn hand_on(store: Store, root: Option<Arc<SecretKey>>, invites: Arc<Invites>) {
    let mut arrived = store.arrivals();
    let mut seen = None;
    let mut gone = Vec::new();
    loop {
        let now = store.statements();
        if seen.replace(now) != Some(now) {
            if let Some(root) = &root {
                crate::devices::admit_this(&store, root).await;
            }
            if store.spaces().len() > 1
                && let Err(error) = crate::devices::sign_in(&store).await
            {
                tracing::warn!(%error, "this device could not say whose it is");
            }
            crate::devices::hand_on(&store).await;
            // There may be a new device.
            if let Err(error) = invites.tell_devices().await {
                tracing::warn!(%error, "other devices of the owner were not told who took invites");
            }
            gone = instead::gone(&store);
            instead::give_back(&store).await;
        }
        // Whose such a device is may be clear only when something came that it wrote.
        instead::follow(&store, &gone).await;
        if arrived.changed().await.is_err() {
            return;
        }
    }
}
