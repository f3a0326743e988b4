//! A relay of one's own: a server that carries packets between peers that cannot reach each other directly. It cannot
//! read them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use iroh::EndpointId;
use iroh_relay::server::{Access, AccessControl, ClientRateLimit, ClientRequest, ConnectionId, Limits, Server, ServerConfig};
use timebus_identity::PublicKey;

/// Keys that were checked and are remembered, 56 bytes each.
const KEYS_REMEMBERED: usize = 16 * 1024;

/// How a relay serves.
#[derive(Clone, Debug)]
pub struct RelayConfig {
    /// Where to listen, for HTTP without TLS.
    pub listen: SocketAddr,
    /// Peers connected at once. Default 1 024; each costs about 100 kB while it is busy.
    pub peers_max: usize,
    /// Bytes a second taken from each peer; `None` for as many as come. Default 4 MiB.
    pub peer_bytes_per_s: Option<NonZeroU32>,
    /// Node keys that may use the relay; empty for everybody. Default empty.
    pub allow: Vec<PublicKey>,
}

impl RelayConfig {
    /// A relay for everybody at this address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, peers_max: 1024, peer_bytes_per_s: NonZeroU32::new(4 * 1024 * 1024), allow: Vec::new() }
    }
}

/// Why a relay does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The socket could not be had, or something else before it.
    #[error("could not start a relay at {listen}: {problem}")]
    Start {
        /// Where it was to listen.
        listen: SocketAddr,
        /// What went wrong.
        problem: String,
    },
    /// It had been running.
    #[error("the relay stopped: {0}")]
    Stopped(String),
}

/// A running relay. It ends when dropped, or by [`Relay::stop`].
#[derive(Debug)]
pub struct Relay {
    server: Server,
    address: SocketAddr,
    guests: Arc<Guests>,
}

impl Relay {
    /// Starts a relay.
    ///
    /// # Errors
    ///
    /// [`RelayError::Start`].
    pub async fn start(config: RelayConfig) -> Result<Self, RelayError> {
        let listen = config.listen;
        let failed = |problem: String| RelayError::Start { listen, problem };
        let allow = config.allow.iter().map(|key| *key.as_bytes()).collect();
        let guests = Arc::new(Guests { allow, peers_max: config.peers_max, peers: AtomicUsize::new(0) });
        let mut limits = Limits::default();
        limits.client_rx = config.peer_bytes_per_s.map(ClientRateLimit::new);
        let mut relay = iroh_relay::server::RelayConfig::new(listen);
        relay.key_cache_capacity = Some(KEYS_REMEMBERED);
        relay.limits = limits;
        relay.access = Arc::new(Porter(Arc::clone(&guests)));
        let mut server = ServerConfig::default();
        server.relay = Some(relay);
        let server = Server::spawn(server).await.map_err(|error| failed(format!("{error:#}")))?;
        let address = server.http_addr().ok_or_else(|| failed("it has no address".to_owned()))?;
        Ok(Self { server, address, guests })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Peers that are connected.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.guests.peers.load(Ordering::Relaxed)
    }

    /// Waits until the relay ends by itself, which it does not if all is well.
    pub async fn failed(&mut self) -> RelayError {
        RelayError::Stopped(match self.server.join().await {
            Ok(Ok(())) => "no reason was given".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        })
    }

    /// Disconnects everybody and frees the socket.
    ///
    /// # Errors
    ///
    /// [`RelayError::Stopped`] if it had failed.
    pub async fn stop(self) -> Result<(), RelayError> {
        self.server.shutdown().await.map_err(|error| RelayError::Stopped(format!("{error:#}")))
    }
}

/// Who is there, and who may be.
#[derive(Debug)]
struct Guests {
    allow: BTreeSet<[u8; 32]>,
    peers_max: usize,
    peers: AtomicUsize,
}

#[derive(Debug)]
struct Porter(Arc<Guests>);

impl AccessControl for Porter {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let guests = &self.0;
        let deny = |reason: &str| Access::Deny { reason: Some(reason.to_owned()) };
        if !guests.allow.is_empty() && !guests.allow.contains(request.endpoint_id().as_bytes()) {
            return deny("this relay is not for your node key");
        }
        let one_more = |peers| (peers < guests.peers_max).then_some(peers + 1);
        match guests.peers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Access::Allow,
            Err(_) => deny("this relay has no room for more peers"),
        }
    }

    fn on_disconnect(&self, _: EndpointId, _: ConnectionId) {
        self.0.peers.fetch_sub(1, Ordering::Relaxed);
    }
}
