//! A peer: a store and everything that serving it needs to know.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use http::StatusCode;
use timebus_identity::{PublicKey, Token, random_bytes, z32};
use timebus_store::inbox::Inbox;
use timebus_store::store::Store;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::app_token::AppTokens;
use crate::apps::{App, Apps};
use crate::cache::Cache;
use crate::host::HostList;
use crate::ledger::Ledger;
use crate::multiplex::Multiplexers;
use crate::others::Others;
use crate::personas::Personas;
use crate::presence::Presences;
use crate::problem::Problem;
use crate::senders::Senders;
use crate::used::Used;
use crate::waiting::Waiting;
use crate::watch::{Snapshots, Views};

/// A file of the pages that a browser gets.
#[derive(Clone, Copy, Debug)]
pub struct GuiFile {
    /// Media type.
    pub mime: &'static str,
    /// Content.
    pub bytes: &'static [u8],
}

/// How a peer is served.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// What tells this program from another one of the same version, in a word. Default nothing.
    pub build: Option<String>,
    /// Names beside `localhost` and the loopback addresses that the peer answers to. Default none.
    pub hosts: Vec<String>,
    /// Connections at once, but for those of the owner on this machine. Default 4 096; each idle one costs about 10 kB.
    pub connections_max: usize,
    /// Connections of one web origin at once. Default 1 024.
    pub origin_connections_max: usize,
    /// Subscriptions of one web origin at once, over all its connections. Default 2 048: a page that shows what hundreds of
    /// people write, in several windows.
    pub origin_subscriptions_max: usize,
    /// Subscriptions of nobody in particular at once to one address, for what anyone may read. Default 256: a household, or a
    /// program in front of the peer that many ask through.
    pub address_subscriptions_max: usize,
    /// Subscriptions of one guest's key at once, over all his connections. Default 2 048, as many as two sockets may have.
    pub key_subscriptions_max: usize,
    /// Largest request body in bytes. Default 64 MiB; a JSON body takes several times that while it is read.
    pub body_bytes_max: usize,
    /// Bytes of other people's files that are kept once they were fetched, with those of all personas. Default 1 GB; those that are
    /// used least for their size go first, and where the disk has room the one that was read last stays beside them for some hours.
    pub cached_files_bytes_max: u64,
    /// About how often one machine of a community is asked to show a piece of a file that it says it holds. Default a minute; each
    /// time costs both 128 KiB. Nothing is asked where it is zero.
    pub spot_check_every: Duration,
    /// Memory for ready answers. Default 32 MiB.
    pub cache_bytes: usize,
    /// Seconds without a sign of life after which a subscriber's websocket is closed. Default 60.
    pub heartbeat_s: u64,
    /// The pages: a function from a path below `/.gui/` to a file; the empty path is the start page.
    pub gui: Option<fn(&str) -> Option<GuiFile>>,
    /// What the program has said lately, in lines, the oldest first. Default nothing.
    pub output: Option<fn() -> Vec<String>>,
    /// Apps that ship with the program. Default none.
    pub apps: &'static [crate::apps::BuiltIn],
    /// Where the program itself is, for those who are invited and have none. Default: it is not handed out.
    pub program: Option<std::path::PathBuf>,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            build: None,
            hosts: Vec::new(),
            connections_max: 4096,
            origin_connections_max: 1024,
            origin_subscriptions_max: 2048,
            address_subscriptions_max: 256,
            key_subscriptions_max: 2048,
            body_bytes_max: 64 * 1024 * 1024,
            cached_files_bytes_max: crate::blobs::cache::CACHE_BYTES_MAX,
            spot_check_every: Duration::from_secs(60),
            cache_bytes: 32 * 1024 * 1024,
            heartbeat_s: 60,
            gui: None,
            output: None,
            apps: &[],
            program: None,
        }
    }
}

/// Counters since the peer was started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests answered, by class of status: 2xx, 3xx, 4xx, 5xx.
    pub answers: [AtomicU64; 4],
    /// Connections open.
    pub connections: AtomicI64,
    /// Subscriptions open.
    pub subscriptions: AtomicI64,
    /// Updates sent to subscribers.
    pub deliveries: AtomicU64,
    /// Subscribers that were too slow and got a snapshot instead.
    pub behind: AtomicU64,
}

/// A store, served. Clones share it.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

/// What the clones of a [`Peer`] share; opaque outside this crate.
pub struct Inner {
    pub(crate) store: Store,
    pub(crate) token: Token,
    pub(crate) config: PeerConfig,
    pub(crate) cache: Arc<Cache>,
    pub(crate) views: Arc<Views>,
    pub(crate) snapshots: Snapshots,
    others: Arc<Others>,
    pub(crate) multiplexers: Multiplexers,
    pub(crate) presences: Arc<Presences>,
    pub(crate) senders: Senders,
    pub(crate) works: crate::computed::Works,
    pub(crate) waiting: Waiting,
    app_tokens: AppTokens,
    ledger: Arc<Ledger>,
    pub(crate) counters: Counters,
    pub(crate) started: Instant,
    pub(crate) addresses: RwLock<Vec<SocketAddr>>,
    hosts: RwLock<Arc<HostList>>,
    logins: Mutex<HashMap<String, Instant>>,
    origins: Mutex<HashMap<(Of, String), usize>>,
    pub(crate) used: Used,
    pub(crate) stop: tokio::sync::watch::Sender<bool>,
    pub(crate) quiet: crate::quiet::Quiet,
    apps: Apps,
    app_ports: AppPorts,
    door: RwLock<Option<crate::link::Door>>,
    network: std::sync::OnceLock<crate::network::Network>,
    /// The inbox of a peer that takes no part in the network.
    inbox: Mutex<Option<Arc<Inbox>>>,
    pub(crate) refs: crate::refs::Refs,
    pub(crate) uploads: crate::blobs::resume::Uploads,
    /// Other identities of the owner's of which apps believe that they are followed, as they do of any key.
    pub(crate) pretended: crate::personas::Pretended,
    /// How much each request that waits for the owner was when it was shown last.
    pub(crate) shown_held: Mutex<std::collections::BTreeMap<String, u64>>,
    pub(crate) uses: Arc<crate::blobs::cache::Uses>,
    /// Bytes of files of others that were kept when they were looked through last.
    pub(crate) cached: AtomicU64,
    pub(crate) scrub: crate::scrub::Scrub,
    /// What others are still to get of what was held for communities.
    pub(crate) handing: tokio::sync::watch::Sender<BTreeMap<PublicKey, crate::community::holding::leaving::Left>>,
    pub(crate) personas: Personas,
    pub(crate) dhts: crate::dht::Dhts,
}

/// A port of one app, and its alias.
pub(crate) type AppPort = (TcpListener, Arc<str>);

/// Ports of single apps.
struct AppPorts {
    /// Those that are open. There is one per app at most, so the channel below is bounded by [`crate::apps::APPS_MAX`].
    open: Mutex<HashMap<String, u16>>,
    listeners: mpsc::UnboundedSender<AppPort>,
    waiting: Mutex<Option<mpsc::UnboundedReceiver<AppPort>>>,
}

impl Default for AppPorts {
    fn default() -> Self {
        let (listeners, waiting) = mpsc::unbounded_channel();
        Self { open: Mutex::default(), listeners, waiting: Mutex::new(Some(waiting)) }
    }
}

/// How long a login link works.
const LOGIN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Most login links at once.
const LOGINS_MAX: usize = 64;
/// Files that one guest, and all whom one member let in, bring at once: each takes room on the disk before it is known how much.
const GUEST_UPLOADS_MAX: usize = 8;

impl std::ops::Deref for Peer {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Peer({:?})", self.0.store)
    }
}

impl Peer {
    /// Serves a store to whoever has `token`, and to others as they have rights.
    #[must_use]
    pub fn new(store: Store, token: Token, config: PeerConfig) -> Self {
        let cache = Arc::new(Cache::new(config.cache_bytes));
        store.observe(Arc::clone(&cache) as Arc<dyn timebus_store::store::Observer>);
        let ledger = Arc::new(Ledger::open(&store.home().join("limits.json")));
        let app_tokens = AppTokens::default();
        let apps = Apps::open(store.home(), &app_tokens);
        let pretended = crate::personas::Pretended::open(store.home());
        let peer = Self(Arc::new(Inner {
            store,
            token,
            config,
            cache,
            views: Arc::default(),
            snapshots: Snapshots::default(),
            others: Arc::default(),
            multiplexers: Multiplexers::default(),
            presences: Arc::default(),
            senders: Senders::default(),
            works: crate::computed::Works::default(),
            waiting: Waiting::default(),
            app_tokens,
            ledger,
            counters: Counters::default(),
            started: Instant::now(),
            addresses: RwLock::default(),
            hosts: RwLock::new(Arc::new(HostList::default())),
            logins: Mutex::default(),
            origins: Mutex::default(),
            used: Used::default(),
            stop: tokio::sync::watch::Sender::new(false),
            quiet: crate::quiet::Quiet::default(),
            apps,
            app_ports: AppPorts::default(),
            door: RwLock::default(),
            network: std::sync::OnceLock::new(),
            inbox: Mutex::default(),
            refs: crate::refs::Refs::default(),
            uploads: crate::blobs::resume::Uploads::default(),
            pretended,
            shown_held: Mutex::default(),
            uses: Arc::default(),
            cached: AtomicU64::default(),
            scrub: crate::scrub::Scrub::default(),
            handing: tokio::sync::watch::Sender::default(),
            personas: Personas::default(),
            dhts: crate::dht::Dhts::default(),
        }));
        let weak = peer.weak();
        peer.0.apps.beside(move || {
            let family = Self::of_weak(&weak).map(|peer| peer.family()).unwrap_or_default();
            family.iter().flat_map(|peer| peer.apps().aliases()).collect()
        });
        crate::sys::apps::renew(&peer);
        peer
    }

    /// A handle that does not keep the peer.
    pub(crate) fn weak(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    /// The peer of a handle, as long as there is one.
    pub(crate) fn of_weak(weak: &Weak<Inner>) -> Option<Self> {
        weak.upgrade().map(Self)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The space that is served at `/`.
    #[must_use]
    pub fn space(&self) -> PublicKey {
        self.0.store.space()
    }

    /// What apps are known by.
    #[must_use]
    pub fn app_tokens(&self) -> &AppTokens {
        &self.0.app_tokens
    }

    /// What others may cost here, and do.
    pub(crate) fn ledger(&self) -> &Ledger {
        self.network().map_or(&self.0.ledger, |network| network.ledger())
    }

    /// What reading costs that others than the owner ask for; a persona shares it with its peer.
    pub(crate) fn others(&self) -> Arc<Others> {
        self.front().map_or_else(|| Arc::clone(&self.0.others), |front| Arc::clone(&front.0.others))
    }

    /// A code that a browser can exchange for a token once, within a quarter of an hour.
    #[must_use]
    pub fn login_code(&self) -> String {
        let code = z32::encode(&random_bytes::<20>());
        let mut logins = lock(&self.0.logins);
        logins.retain(|_, made| made.elapsed() < LOGIN_LIFETIME);
        if logins.len() < LOGINS_MAX {
            logins.insert(code.clone(), Instant::now());
        }
        code
    }

    /// Uses a login code up; says whether it was good.
    pub(crate) fn redeem_login(&self, code: &str) -> bool {
        lock(&self.0.logins).remove(code).is_some_and(|made| made.elapsed() < LOGIN_LIFETIME)
    }

    /// The installed apps.
    pub(crate) fn apps(&self) -> &Apps {
        &self.0.apps
    }

    /// A configured name as others write it: with this peer's port, unless the name has one.
    pub(crate) fn public_host(&self, name: &str) -> String {
        let port = self.0.addresses.read().unwrap_or_else(PoisonError::into_inner).first().map_or(80, SocketAddr::port);
        match crate::host::split_port(name) {
            (name, Some("80" | "443")) => name.to_owned(),
            (_, Some(_)) => name.to_owned(),
            (name, None) if port == 80 => name.to_owned(),
            (name, None) => format!("{name}:{port}"),
        }
    }

    /// Where an app is opened.
    pub(crate) fn app_url(&self, alias: &str) -> String {
        // A persona is served where the peer is that it is one of.
        let front = self.front();
        let addresses = front.as_ref().unwrap_or(self).0.addresses.read().unwrap_or_else(PoisonError::into_inner);
        match addresses.first().map_or(80, SocketAddr::port) {
            80 => format!("http://{alias}.localhost/"),
            port => format!("http://{alias}.localhost:{port}/"),
        }
    }

    /// Where the owner's pages are; none for a persona, which has no pages of its own.
    pub(crate) fn pages_url(&self) -> Option<String> {
        let addresses = self.0.addresses.read().unwrap_or_else(PoisonError::into_inner);
        let port = addresses.first().map_or(80, SocketAddr::port);
        self.front().is_none().then(|| if port == 80 { "http://localhost/".to_owned() } else { format!("http://localhost:{port}/") })
    }

    /// The port that an app has for itself; opened if there is none yet.
    pub(crate) async fn app_port(&self, app: &App) -> std::io::Result<u16> {
        let alias = &app.record.alias;
        if let Some(port) = lock(&self.0.app_ports.open).get(alias) {
            return Ok(*port);
        }
        // What a browser keeps, it keeps for a port, so an app has the same one whenever that is free.
        let listener = match app.record.port {
            Some(port) => TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await,
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        };
        let port = listener.local_addr()?.port();
        lock(&self.0.app_ports.open).insert(alias.clone(), port);
        if app.record.port != Some(port) {
            self.0.apps.set_port(alias, port)?;
        }
        let front = self.front();
        let _ = front.as_ref().unwrap_or(self).0.app_ports.listeners.send((listener, alias.as_str().into()));
        Ok(port)
    }

    /// Ports of single apps, for the serving loop: those that were open before, and those that are opened later.
    pub(crate) async fn app_ports(&self) -> mpsc::UnboundedReceiver<AppPort> {
        let personas = self.all_personas().into_iter().map(|(_, persona)| persona);
        for peer in std::iter::once(self.clone()).chain(personas) {
            for app in peer.0.apps.all() {
                if app.record.port.is_some()
                    && let Err(error) = peer.app_port(&app).await
                {
                    tracing::warn!(%error, app = %app.record.alias, "an app has no port of its own now");
                }
            }
        }
        // Whoever serves a peer a second time gets no ports: they are the first one's.
        lock(&self.0.app_ports.waiting).take().unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    /// Says that this peer takes part in a network, once.
    pub fn enter(&self, network: crate::network::Network) {
        self.open_door(network.door());
        crate::presence::tell_others(&self.0.presences, self.store(), &network);
        crate::lists::follow(self.store(), &network);
        crate::lists::followed::share(self.store(), &network);
        let _ = self.0.network.set(network);
    }

    /// The inbox of the own space.
    pub(crate) fn inbox(&self) -> Result<Arc<Inbox>, Problem> {
        if let Some(network) = self.network() {
            return Ok(Arc::clone(network.inbox()));
        }
        let mut inbox = lock(&self.0.inbox);
        if inbox.is_none() {
            let opened = Inbox::open(&self.store().home().join("inbox"), self.space(), timebus_store::inbox::Limits::default());
            let failed =
                |error: std::io::Error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the inbox could not be read", error.to_string());
            *inbox = Some(Arc::new(opened.map_err(failed)?));
        }
        inbox.clone().ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the inbox could not be read", "it was closed"))
    }

    /// This peer's part in the network, if it takes part.
    #[must_use]
    pub fn network(&self) -> Option<&crate::network::Network> {
        self.0.network.get()
    }

    /// Lets links of other peers in by websocket, through this door. Without one they are refused.
    pub fn open_door(&self, door: crate::link::Door) {
        *self.0.door.write().unwrap_or_else(PoisonError::into_inner) = Some(door);
    }

    /// Where links go.
    pub(crate) fn door(&self) -> Option<crate::link::Door> {
        self.0.door.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names that the peer answers to.
    pub(crate) fn hosts(&self) -> Arc<HostList> {
        Arc::clone(&self.0.hosts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says where the peer listens.
    pub(crate) fn listen(&self, addresses: &[SocketAddr]) -> std::io::Result<()> {
        let port = addresses.first().map_or(0, SocketAddr::port);
        let hosts = HostList::new(port, &self.0.config.hosts).map_err(std::io::Error::other)?;
        *self.0.hosts.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(hosts);
        *self.0.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
        Ok(())
    }

    /// Counts something of a web origin.
    ///
    /// # Errors
    ///
    /// The answer when the origin has too many of them.
    pub(crate) fn count_origin(&self, of: Of, origin: &str) -> Result<OriginCount, Problem> {
        let (max, status, what) = match of {
            Of::Connections => (self.0.config.origin_connections_max, StatusCode::SERVICE_UNAVAILABLE, "connections"),
            Of::Subscriptions => (self.0.config.origin_subscriptions_max, StatusCode::TOO_MANY_REQUESTS, "subscriptions"),
            Of::Streams => (self.0.config.address_subscriptions_max, StatusCode::TOO_MANY_REQUESTS, "subscriptions"),
            Of::KeyStreams => (self.0.config.key_subscriptions_max, StatusCode::TOO_MANY_REQUESTS, "subscriptions"),
            Of::Uploads => (GUEST_UPLOADS_MAX, StatusCode::TOO_MANY_REQUESTS, "uploads"),
        };
        let mut origins = lock(&self.0.origins);
        let counted = (of, origin.to_owned());
        let count = origins.get(&counted).copied().unwrap_or_default();
        if count >= max {
            return Err(Problem::new(
                status,
                what,
                format!("too many {what}"),
                format!("one web origin, address, or guest with those whom he let in, may have {max} at once"),
            ));
        }
        origins.insert(counted.clone(), count + 1);
        Ok(OriginCount { peer: self.clone(), counted })
    }

    /// Works until it is done, or the peer stops.
    pub(crate) async fn until_stopped(&self, work: impl Future<Output = ()>) {
        let mut stopped = self.stop.subscribe();
        tokio::select! {
            () = work => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    /// Asks the serving loop to end.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
        for (_, persona) in self.all_personas() {
            persona.stop();
        }
    }

    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.0.counters.answers[class].fetch_add(1, Ordering::Relaxed);
    }
}

/// What is counted of a web origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    Connections,
    Subscriptions,
    /// Subscriptions of nobody in particular, of an address in place of an origin.
    Streams,
    /// Those of a guest, of his key in place of an origin.
    KeyStreams,
    /// Files that are being brought by guests, of a key in place of an origin.
    Uploads,
}

/// Something of a web origin, counted while this is held.
#[derive(Debug)]
pub(crate) struct OriginCount {
    peer: Peer,
    counted: (Of, String),
}

impl OriginCount {
    /// Counts something else of the same origin.
    pub(crate) fn also(&self, of: Of) -> Result<Self, Problem> {
        self.peer.count_origin(of, &self.counted.1)
    }
}

impl Drop for OriginCount {
    fn drop(&mut self) {
        let mut origins = lock(&self.peer.0.origins);
        if let Some(count) = origins.get_mut(&self.counted) {
            *count -= 1;
            if *count == 0 {
                origins.remove(&self.counted);
            }
        }
    }
}

/// Counts something in for as long as it is held.
#[derive(Debug)]
pub(crate) struct Counted {
    peer: Peer,
    which: fn(&Counters) -> &AtomicI64,
}

impl Counted {
    pub(crate) fn new(peer: &Peer, which: fn(&Counters) -> &AtomicI64) -> Self {
        which(&peer.counters).fetch_add(1, Ordering::Relaxed);
        Self { peer: peer.clone(), which }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.peer.counters).fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
