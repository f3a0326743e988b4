//! This peer's place on the network: an iroh endpoint with what the user allows, and calls to others.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use iroh::endpoint::{BindOpts, IdleTimeout, Incoming, IncomingAddr, PortmapperConfig, QuicTransportConfig, VarInt, presets};
use iroh::tls::CaTlsConfig;
use iroh::{EndpointAddr, RelayConfig, RelayMap, RelayMode, RelayUrl, TransportAddr, Watcher as _};
use timebus_identity::{PublicKey, SecretKey};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::address::Address;
use super::lan::LanLookup;
use super::{CODE_BUSY, Door, Ended, FRAME_BYTES_MAX, KEEP_ALIVE, Link, PUT_OUT, SILENCE_MAX, Slot, quic};
use crate::peer::lock;
use crate::places::{Places, Room};

/// The mDNS service of peers that belong to no community of their own.
pub const LAN_SERVICE: &str = "timebus";
/// Handshakes of strangers under way; who comes meanwhile takes the place of one that takes long.
const HANDSHAKES_MAX: usize = 64;
/// From so many on, who comes first has to show that its address is its own.
const HANDSHAKES_TRUSTED: usize = 16;
/// How long a stranger may take until its first frame.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that a connection may have under way to us, all streams together. With what we hold to send, a connection
/// costs less than 4 MiB.
const RECEIVE_BYTES_MAX: u32 = 2 * 1024 * 1024;
/// Bytes that iroh keeps until the other side has them: 50 Mbit/s at 100 ms.
const UNACKNOWLEDGED_BYTES_MAX: u64 = 640 * 1024;

/// How a peer uses the network.
///
/// The default contacts nobody beyond the local network.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Open no socket at all: nobody is called, nobody comes in. Default off.
    pub is_offline: bool,
    /// Relays that belong to nobody in particular. They are used only after the user said yes, see
    /// [`Endpoint::use_public`]; they learn this peer's addresses and whom it talks to through them. `None` for none
    /// ever. Default those of n0.
    pub public_relays: Option<Vec<RelayUrl>>,
    /// First nodes of the public DHT, as host:port. It hears where this peer is and whom it looks for, so it is used only after the user
    /// said yes, see [`crate::dht`]. `None` for never. Default those of BitTorrent.
    pub public_dht: Option<Vec<String>>,
    /// Relays of our own; the nearest of them becomes one of our addresses. Default none.
    pub relays: Vec<RelayUrl>,
    /// Where to listen, at most one address a family. Default every interface.
    pub bind: Vec<SocketAddr>,
    /// The UDP port to have if it is free and `bind` is empty, so that addresses last; 0 for any. Default 0.
    pub port: u16,
    /// The mDNS service name under which peers on the local network find each other, at most 15 characters; `None`
    /// for not at all. Default [`LAN_SERVICE`].
    pub lan: Option<String>,
    /// Use UDP sockets. Off, only relays are used, and others do not learn our addresses. Default on.
    pub is_direct: bool,
    /// More addresses where this peer can be reached, as a forwarded port or a websocket behind a proxy. Default none.
    pub advertise: Vec<Address>,
    /// Certificate authorities (DER) trusted for relays and websockets beside the usual ones. Default none.
    pub authorities: Vec<Vec<u8>>,
    /// How long a call may take. Default 10 s.
    pub dial_timeout: Duration,
    /// How long nothing may be heard on a link of iroh. Default [`SILENCE_MAX`]; the lower value of both sides counts.
    pub silence_max: Duration,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            is_offline: false,
            public_relays: Some(RelayMode::Default.relay_map().urls()),
            public_dht: Some(mainline::DEFAULT_BOOTSTRAP_NODES.map(str::to_owned).to_vec()),
            relays: Vec::new(),
            bind: Vec::new(),
            port: 0,
            lan: Some(LAN_SERVICE.to_owned()),
            is_direct: true,
            advertise: Vec::new(),
            authorities: Vec::new(),
            dial_timeout: Duration::from_secs(10),
            silence_max: SILENCE_MAX,
        }
    }
}

/// Why an endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// More than one address for IPv4 or for IPv6.
    #[error("cannot listen at {0}: one address for IPv4 and one for IPv6 are possible")]
    Addresses(SocketAddr),
    /// A time limit is out of range.
    #[error("{0:?} is no time limit for silence")]
    Silence(Duration),
    /// The sockets could not be had.
    #[error("could not open UDP sockets: {0}")]
    Sockets(String),
}

/// A place on the network. Clones share it; it is closed when the last is dropped, or by [`Endpoint::close`].
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

pub(super) struct Inner {
    node: PublicKey,
    /// Nothing when offline.
    pub(super) iroh: Option<iroh::Endpoint>,
    pub(super) config: EndpointConfig,
    /// What calls are made with: the other side may open no stream.
    pub(super) calling: QuicTransportConfig,
    /// Relays that may be contacted.
    relays_allowed: Mutex<BTreeSet<RelayUrl>>,
    addresses: watch::Receiver<Vec<Address>>,
    lan: Option<LanLookup>,
    lan_problem: Option<String>,
    tasks: Vec<AbortHandle>,
}

/// How a relay of ours is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayHealth {
    /// Its URL.
    pub url: String,
    /// Whether we are connected, so that others reach us through it.
    pub is_connected: bool,
    /// What went wrong last.
    pub problem: Option<String>,
}

impl Endpoint {
    /// Opens the endpoint of a node key. Links that others open go through `door`.
    ///
    /// # Errors
    ///
    /// [`BindError`]. That the LAN cannot be searched is none, see [`Endpoint::lan_problem`].
    pub async fn bind(key: &SecretKey, config: EndpointConfig, door: Door) -> Result<Self, BindError> {
        let (addresses_sender, addresses) = watch::channel(config.advertise.clone());
        let accepting = transport(config.silence_max, 1)?;
        let calling = transport(config.silence_max, 0)?;
        let relays_allowed = Mutex::new(config.relays.iter().cloned().collect());
        let mut inner =
            Inner { node: key.public(), iroh: None, calling, relays_allowed, addresses, lan: None, lan_problem: None, tasks: Vec::new(), config };
        if inner.config.is_offline {
            return Ok(Self(Arc::new(inner)));
        }
        let bound = match bind(key, &inner.config, accepting.clone(), inner.config.port).await {
            // The port is a wish.
            Err(BindError::Sockets(_)) if inner.config.port != 0 && inner.config.bind.is_empty() => bind(key, &inner.config, accepting, 0).await?,
            bound => bound?,
        };
        if let Some(service) = inner.config.lan.as_deref().filter(|_| inner.config.is_direct) {
            match (LanLookup::start(service, bound.id()), bound.address_lookup()) {
                (Ok(lan), Ok(lookup)) => {
                    lookup.add(lan.clone());
                    inner.lan = Some(lan);
                }
                (Ok(_), Err(error)) => inner.lan_problem = Some(super::lan::in_words(&format!("{error:#}"))),
                (Err(problem), _) => inner.lan_problem = Some(problem),
            }
        }
        if let Some(problem) = &inner.lan_problem {
            tracing::info!("peers on the local network are not found by themselves: {problem}");
        }
        let accepting = tokio::spawn(accept(bound.clone(), door));
        let watching = tokio::spawn(watch_addresses(bound.clone(), inner.config.advertise.clone(), addresses_sender));
        inner.tasks = vec![accepting.abort_handle(), watching.abort_handle()];
        inner.iroh = Some(bound);
        Ok(Self(Arc::new(inner)))
    }

    /// The key by which others call this peer.
    #[must_use]
    pub fn node(&self) -> PublicKey {
        self.0.node
    }

    /// Where others can call this peer now: sockets, relay, and what was configured.
    #[must_use]
    pub fn addresses(&self) -> Vec<Address> {
        self.0.addresses.borrow().clone()
    }

    /// The same, and when it changes.
    #[must_use]
    pub fn watch_addresses(&self) -> watch::Receiver<Vec<Address>> {
        self.0.addresses.clone()
    }

    /// The sockets it listens on.
    #[must_use]
    pub fn sockets(&self) -> Vec<SocketAddr> {
        self.0.iroh.as_ref().map_or_else(Vec::new, iroh::Endpoint::bound_sockets)
    }

    /// Why peers on the local network cannot be found, if they cannot.
    #[must_use]
    pub fn lan_problem(&self) -> Option<&str> {
        self.0.lan_problem.as_deref()
    }

    /// Where a peer says on the local network that it is, if it does within the time. `None` if that is not asked.
    pub async fn nearby(&self, node: &PublicKey, patience: Duration) -> Option<Vec<Address>> {
        let lan = self.0.lan.as_ref()?;
        let id = iroh::EndpointId::from_bytes(node.as_bytes()).ok()?;
        Some(lan.find(id, patience).await.into_iter().map(Address::Direct).collect())
    }

    /// How the relays are that others may reach us through.
    #[must_use]
    pub fn relays(&self) -> Vec<RelayHealth> {
        let Some(iroh) = &self.0.iroh else { return Vec::new() };
        let health = |status: iroh::endpoint::RelayStatus| RelayHealth {
            url: status.url().to_string(),
            is_connected: status.is_connected(),
            problem: status.auth_denied_reason().map(str::to_owned).or_else(|| status.last_error().map(|error| format!("{error:#}"))),
        };
        iroh.home_relay_status().get().into_iter().map(health).collect()
    }

    /// Allows to contact a relay for calls to peers that are there, as when the user takes an invite that names it.
    pub fn allow_relay(&self, url: RelayUrl) {
        lock(&self.0.relays_allowed).insert(url);
    }

    /// Uses the public relays from now on, so that others reach this peer from everywhere, or no longer. No name service
    /// or the like is asked in either case.
    pub async fn use_public(&self, yes: bool) {
        let Some(iroh) = &self.0.iroh else { return };
        let own = &self.0.config.relays;
        let defaults = RelayMode::Default.relay_map();
        for url in self.0.config.public_relays.iter().flatten().filter(|url| !own.contains(url)) {
            if yes {
                self.allow_relay(url.clone());
                let config = defaults.get(url).unwrap_or_else(|| Arc::new(RelayConfig::new(url.clone(), None)));
                iroh.insert_relay(url.clone(), config).await;
            } else {
                lock(&self.0.relays_allowed).remove(url);
                iroh.remove_relay(url).await;
            }
        }
    }

    /// Whether there are public relays that may be used if the user says so.
    #[must_use]
    pub fn has_public(&self) -> bool {
        self.0.iroh.is_some() && self.0.config.public_relays.as_ref().is_some_and(|relays| !relays.is_empty())
    }

    /// The first nodes of the public DHT, if that may be used once the user says so.
    #[must_use]
    pub fn public_dht(&self) -> Option<&[String]> {
        self.0.config.public_dht.as_deref().filter(|first| self.0.iroh.is_some() && !first.is_empty())
    }

    /// Calls a peer: all its addresses at once, and wherever it is found on the local network. The first that answers
    /// with the right key counts; nothing waits for the internet while a nearer address works.
    ///
    /// Without `node` only websockets can be called. Relays that nobody allowed are left out.
    ///
    /// # Errors
    ///
    /// [`super::DialError`], which says what was tried.
    pub async fn dial(&self, node: Option<&PublicKey>, addresses: &[Address]) -> Result<Link, super::DialError> {
        super::dial::dial(&self.0, node, addresses).await
    }

    /// Closes all links of iroh at once and frees the sockets. Waits until the other sides know, about 3 s at most.
    pub async fn close(&self) {
        for task in &self.0.tasks {
            task.abort();
        }
        if let Some(iroh) = &self.0.iroh {
            iroh.close().await;
        }
    }
}

impl Inner {
    pub(super) fn node(&self) -> PublicKey {
        self.node
    }

    /// Whether a relay may be contacted.
    pub(super) fn allows(&self, relay: &RelayUrl) -> bool {
        lock(&self.relays_allowed).contains(relay)
    }

    /// Whether peers can be found that have no known address.
    pub(super) fn searches(&self) -> bool {
        self.config.lan.is_some() && self.config.is_direct && self.lan_problem.is_none()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("node", &self.0.node).field("sockets", &self.sockets()).finish()
    }
}

/// How connections behave.
fn transport(silence_max: Duration, streams_max: u32) -> Result<QuicTransportConfig, BindError> {
    let silence = IdleTimeout::try_from(silence_max).map_err(|_| BindError::Silence(silence_max))?;
    if silence_max.is_zero() {
        return Err(BindError::Silence(silence_max));
    }
    let keep_alive = KEEP_ALIVE.min(silence_max / 4);
    let config = QuicTransportConfig::builder()
        .max_idle_timeout(Some(silence))
        .keep_alive_interval(keep_alive)
        .default_path_keep_alive_interval(keep_alive)
        .max_concurrent_bidi_streams(VarInt::from(streams_max))
        .max_concurrent_uni_streams(VarInt::from(0u32))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from(u32::try_from(FRAME_BYTES_MAX).unwrap_or(RECEIVE_BYTES_MAX)))
        .receive_window(VarInt::from(RECEIVE_BYTES_MAX))
        .send_window(UNACKNOWLEDGED_BYTES_MAX);
    Ok(config.build())
}

async fn bind(key: &SecretKey, config: &EndpointConfig, transport: QuicTransportConfig, port: u16) -> Result<iroh::Endpoint, BindError> {
    // An empty map contacts nobody; with it, calls can be made through relays that are allowed later.
    let relays = RelayMap::empty();
    relays.extend(&RelayMap::from_iter(config.relays.iter().cloned()));
    let authorities = config.authorities.iter().map(|der| der.clone().into());
    let mut builder = iroh::Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(key.seed()))
        .alpns(vec![quic::ALPN.to_vec()])
        .transport_config(transport)
        .ca_tls_config(CaTlsConfig::default().with_extra_roots(authorities))
        .relay_mode(RelayMode::Custom(relays))
        .portmapper_config(PortmapperConfig::Disabled);
    if !config.is_direct || !config.bind.is_empty() {
        builder = builder.clear_ip_transports();
    }
    if config.is_direct {
        for address in &config.bind {
            builder = builder.bind_addr(*address).map_err(|_| BindError::Addresses(*address))?;
        }
        if config.bind.is_empty() && port != 0 {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let optional = BindOpts::default().set_is_required(false);
            builder = builder.bind_addr(v4).map_err(|_| BindError::Addresses(v4))?;
            builder = builder.bind_addr_with_opts(v6, optional).map_err(|_| BindError::Addresses(v6))?;
        }
    }
    builder.bind().await.map_err(|error| BindError::Sockets(format!("{error:#}")))
}

/// Tells the addresses of an endpoint whenever they change.
async fn watch_addresses(endpoint: iroh::Endpoint, advertise: Vec<Address>, sender: watch::Sender<Vec<Address>>) {
    let mut stream = endpoint.watch_addr().stream();
    drop(endpoint);
    while let Some(found) = stream.next().await {
        let addresses = all_addresses(&found, &advertise);
        sender.send_if_modified(|known| {
            let is_new = *known != addresses;
            *known = addresses;
            is_new
        });
    }
}

fn all_addresses(found: &EndpointAddr, advertise: &[Address]) -> Vec<Address> {
    let mut all: BTreeSet<Address> = advertise.iter().cloned().collect();
    all.extend(found.addrs.iter().filter_map(|address| match address {
        TransportAddr::Ip(address) => Some(Address::Direct(*address)),
        TransportAddr::Relay(url) => Some(Address::Relay(url.clone())),
        _ => None,
    }));
    all.into_iter().collect()
}

/// Lets others in, until the endpoint is closed. Its handshakes end with it.
async fn accept(endpoint: iroh::Endpoint, door: Door) {
    let handshakes = Places::new(Room::of(HANDSHAKES_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(_) = tasks.join_next() => continue,
        };
        let Some(incoming) = incoming else { return };
        let names = incoming.decrypt().and_then(|hello| hello.alpns());
        if names.is_some_and(|names| quic::is_for_another(endpoint.id().as_bytes(), names.map_while(Result::ok))) {
            incoming.ignore();
            continue;
        }
        if handshakes.taken() >= HANDSHAKES_TRUSTED && !incoming.remote_addr_validated() {
            let _ = incoming.retry();
            continue;
        }
        let from = match incoming.remote_addr() {
            IncomingAddr::Ip(from) => Some(from.ip()),
            _ => None,
        };
        let (Some(place), Some(slot)) = (handshakes.come(from, &Arc::default()), door.slot(from)) else {
            incoming.refuse();
            continue;
        };
        let door = door.clone();
        tasks.spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(incoming, slot));
            let begun = tokio::select! {
                begun = handshake => begun,
                () = place.put_out() => return,
            };
            match begun {
                Ok(Ok(link)) => {
                    // A driver that has no time for new links is busy.
                    let sender = link.sender().clone();
                    if tokio::time::timeout(HANDSHAKE_TIMEOUT, door.enter(link)).await.is_err() {
                        sender.close(CODE_BUSY, "no time for new links");
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "somebody did not get in"),
                Err(_) => tracing::debug!("somebody took too long to get in"),
            }
            drop(place);
        });
    }
}

async fn handshake(incoming: Incoming, slot: Slot) -> Result<Link, Ended> {
    let begun = async {
        let connection = incoming.await.map_err(|error| Ended::Broken(format!("{error:#}")))?;
        let streams = connection.accept_bi().await.map_err(|error| quic::ended(&error))?;
        Ok::<_, Ended>((connection, streams))
    };
    let (connection, streams) = tokio::select! {
        begun = begun => begun?,
        () = slot.put_out() => return Err(Ended::Here { code: CODE_BUSY, text: PUT_OUT.to_owned() }),
    };
    quic::start(connection, streams, false, Some(slot))
}
