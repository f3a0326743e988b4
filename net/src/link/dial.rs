//! Calling a peer, and saying why it did not work.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderValue, StatusCode, header};
use iroh::endpoint::{ConnectError, ConnectOptions, ConnectWithOptsError, ConnectingError, ConnectionError, TransportErrorCode};
use iroh::{EndpointAddr, EndpointId, TransportAddr};
use timebus_identity::PublicKey;
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::address::{Address, WebsocketAddress};
use super::endpoint::Inner;
use super::{Ended, Link, quic, websocket};

/// Addresses tried of one peer; who says more has the rest left out.
const ADDRESSES_MAX: usize = 16;
/// How much later websockets are called than iroh, which is faster and proves more.
const WEBSOCKET_DELAY: Duration = Duration::from_millis(500);
/// How long a network is asked why nothing came back.
const PROBE_TIMEOUT: Duration = Duration::from_millis(300);
/// The alert of TLS for a protocol that the other side does not speak (RFC 7301).
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;

/// Why a call did not lead to a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The user wants no network.
    #[error("this peer is offline; start it without --offline to call others")]
    Offline,
    /// It would be a call to oneself.
    #[error("this is our own key")]
    Ourselves,
    /// No key is like this.
    #[error("{0} is no node key")]
    BadKey(PublicKey),
    /// There is nowhere to call.
    #[error("{}", no_address(node.as_ref(), *searched))]
    NoAddress {
        /// Who was called.
        node: Option<PublicKey>,
        /// Whether it was searched for.
        searched: bool,
    },
    /// Nothing that was tried worked.
    #[error("no address of the peer worked{}", lines(tried))]
    Failed {
        /// All that was tried.
        tried: Vec<Tried>,
    },
}

/// What came of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The address; `None` for wherever the peer was found by searching.
    pub address: Option<Address>,
    /// What it said.
    pub answer: Answer,
}

/// What an address said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Answer {
    /// Nothing came back.
    #[error("no answer within {} s: the peer is not running, or is elsewhere now, or a firewall is between", .0.as_secs_f32())]
    Silence(Duration),
    /// The machine is there, but nothing listens.
    #[error("nothing listens there")]
    NothingThere,
    /// This machine knows no way there.
    #[error("there is no network that leads there")]
    NoRoute,
    /// Somebody else is there.
    #[error("another peer is there")]
    AnotherKey,
    /// Something else is there.
    #[error("something is there that does not speak timebus/1")]
    AnotherProtocol,
    /// It has too many connections.
    #[error("the peer has no room for us now")]
    Busy,
    /// It let us in and closed.
    #[error("{0}")]
    Ended(Ended),
    /// A relay that was not asked.
    #[error("left out, since you have not allowed this relay")]
    NotAllowed,
    /// A websocket was not opened.
    #[error("refused with HTTP status {0}")]
    Http(u16),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "{address}: {}", self.answer),
            None => write!(f, "as found on the network: {}", self.answer),
        }
    }
}

fn lines(tried: &[Tried]) -> String {
    tried.iter().map(|tried| format!("\n{tried}")).collect()
}

fn no_address(node: Option<&PublicKey>, searched: bool) -> String {
    let Some(node) = node else { return "no address was given".to_owned() };
    let found = if searched { ", and it was not found on the network" } else { "" };
    format!("no address of {node} is known{found}; ask its owner for a new invite")
}

/// Calls a peer at all of its addresses.
pub(super) async fn dial(endpoint: &Inner, node: Option<&PublicKey>, addresses: &[Address]) -> Result<Link, DialError> {
    let Some(iroh) = &endpoint.iroh else { return Err(DialError::Offline) };
    if node == Some(&endpoint.node()) {
        return Err(DialError::Ourselves);
    }
    let id = match node {
        Some(node) => Some(EndpointId::from_bytes(node.as_bytes()).map_err(|_| DialError::BadKey(*node))?),
        None => None,
    };
    let mut tried = Vec::new();
    let mut targets = Vec::new();
    let mut sockets = Vec::new();
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match address {
            Address::Websocket(host) => sockets.push(host.clone()),
            Address::Relay(url) if !endpoint.allows(url) => tried.push(Tried { address: Some(address.clone()), answer: Answer::NotAllowed }),
            Address::Direct(_) | Address::Relay(_) => targets.push(address.clone()),
        }
    }
    let id = id.filter(|_| !targets.is_empty() || endpoint.searches());
    if id.is_none() && sockets.is_empty() {
        return Err(if tried.is_empty() { DialError::NoAddress { node: node.copied(), searched: false } } else { DialError::Failed { tried } });
    }
    let timeout = endpoint.config.dial_timeout;
    let mut calls = FuturesUnordered::new();
    if let Some(id) = id {
        calls.push(call(endpoint, iroh, id, targets.clone(), timeout).boxed());
    }
    let delay = if id.is_some() { WEBSOCKET_DELAY } else { Duration::ZERO };
    for host in &sockets {
        calls.push(call_websocket(iroh, host, delay, timeout).boxed());
    }
    while let Some(result) = calls.next().await {
        match result {
            Ok(link) => return Ok(link),
            Err(failed) => tried.extend(failed),
        }
    }
    if tried.is_empty() {
        return Err(DialError::NoAddress { node: node.copied(), searched: true });
    }
    Err(DialError::Failed { tried })
}

/// Calls a peer by iroh, which tries all addresses at once and searches for more.
async fn call(endpoint: &Inner, iroh: &iroh::Endpoint, id: EndpointId, targets: Vec<Address>, timeout: Duration) -> Result<Link, Vec<Tried>> {
    let transports = targets.iter().filter_map(|address| match address {
        Address::Direct(address) => Some(TransportAddr::Ip(*address)),
        Address::Relay(url) => Some(TransportAddr::Relay(url.clone())),
        Address::Websocket(_) => None,
    });
    let address = EndpointAddr::from_parts(id, transports);
    let called = quic::called(id.as_bytes(), timebus_identity::random_bytes());
    let options = ConnectOptions::new().with_transport_config(endpoint.calling.clone()).with_additional_alpns(vec![called]);
    let connecting = async {
        let connection = iroh.connect_with_opts(address, quic::ALPN, options).await?.await?;
        let streams = connection.open_bi().await?;
        Ok::<_, ConnectError>((connection, streams))
    };
    let answer = match tokio::time::timeout(timeout, connecting).await {
        Ok(Ok((connection, streams))) => match quic::start(connection, streams, true, None) {
            Ok(link) => return Ok(link),
            Err(ended) => Answer::Ended(ended),
        },
        Ok(Err(error)) => match answer(&error, timeout) {
            Some(answer) => answer,
            // Nobody knows an address.
            None => return Err(Vec::new()),
        },
        Err(_) => Answer::Silence(timeout),
    };
    if let Answer::Silence(_) = answer {
        let asked = targets.into_iter().map(|address| why_silent(address, timeout));
        let mut tried: Vec<Tried> = futures_util::future::join_all(asked).await;
        if tried.is_empty() {
            tried.push(Tried { address: None, answer });
        }
        return Err(tried);
    }
    // Which of several addresses it was is not known.
    match <[Address; 1]>::try_from(targets) {
        Ok([address]) => Err(vec![Tried { address: Some(address), answer }]),
        Err(targets) if targets.is_empty() => Err(vec![Tried { address: None, answer }]),
        Err(targets) => Err(targets.into_iter().map(|address| Tried { address: Some(address), answer: answer.clone() }).collect()),
    }
}

/// What an error of iroh means; `None` if there was nowhere to call.
fn answer(error: &ConnectError, timeout: Duration) -> Option<Answer> {
    let connection = match error {
        ConnectError::Connect { source: ConnectWithOptsError::NoAddress { .. }, .. } => return None,
        ConnectError::Connecting { source: ConnectingError::ConnectionError { source, .. }, .. } | ConnectError::Connection { source, .. } => source,
        other => return Some(Answer::Other(format!("{other:#}"))),
    };
    let no_protocol = TransportErrorCode::crypto(ALERT_NO_APPLICATION_PROTOCOL as u8);
    Some(match connection {
        ConnectionError::TimedOut => Answer::Silence(timeout),
        ConnectionError::ConnectionClosed(close) if close.error_code == no_protocol => Answer::AnotherProtocol,
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => Answer::Busy,
        ConnectionError::VersionMismatch => Answer::AnotherProtocol,
        // Of all that TLS checks, only the key can be wrong between two that speak the same protocol.
        ConnectionError::TransportError(error) if (0x100..0x200).contains(&u64::from(error.code)) => Answer::AnotherKey,
        other => Answer::Ended(quic::ended(other)),
    })
}

/// Asks the network why nothing came back from an address: UDP says more to who has but one partner.
async fn why_silent(address: Address, timeout: Duration) -> Tried {
    let answer = match &address {
        Address::Direct(socket) => probe(*socket).await.unwrap_or(Answer::Silence(timeout)),
        Address::Relay(_) => Answer::Other(format!("no answer through this relay within {} s", timeout.as_secs_f32())),
        Address::Websocket(_) => Answer::Silence(timeout),
    };
    Tried { address: Some(address), answer }
}

async fn probe(address: SocketAddr) -> Option<Answer> {
    let any = if address.is_ipv4() { SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)) } else { SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)) };
    let asking = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        // One byte is no QUIC packet; whoever listens there drops it.
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 16]).await
    };
    match tokio::time::timeout(PROBE_TIMEOUT, asking).await {
        Ok(Err(error)) => of_io(&error),
        Ok(Ok(_)) | Err(_) => None,
    }
}

fn of_io(error: &io::Error) -> Option<Answer> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Answer::NothingThere),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable | io::ErrorKind::InvalidInput => {
            Some(Answer::NoRoute)
        }
        _ => None,
    }
}

/// Calls a peer by a websocket.
async fn call_websocket(iroh: &iroh::Endpoint, host: &WebsocketAddress, delay: Duration, timeout: Duration) -> Result<Link, Vec<Tried>> {
    tokio::time::sleep(delay).await;
    let answer = match tokio::time::timeout(timeout, open_websocket(iroh, host)).await {
        Ok(Ok(link)) => return Ok(link),
        Ok(Err(answer)) => answer,
        Err(_) => Answer::Silence(timeout),
    };
    Err(vec![Tried { address: Some(Address::Websocket(host.clone())), answer }])
}

async fn open_websocket(iroh: &iroh::Endpoint, host: &WebsocketAddress) -> Result<Link, Answer> {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let of_connect = |error: io::Error| of_io(&error).unwrap_or_else(|| Answer::Other(error.to_string()));
    let stream = TcpStream::connect((name, host.port())).await.map_err(of_connect)?;
    let _ = stream.set_nodelay(true);
    let authority = host.authority();
    let mut request = format!("ws://{authority}/").into_client_request().map_err(|error| Answer::Other(error.to_string()))?;
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("timebus"));
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(crate::websocket::PEER_PROTOCOL));
    if !host.is_tls() {
        return upgrade(request, stream, &authority).await;
    }
    let mut tls = iroh.tls_config().clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let server = ServerName::try_from(name.to_owned()).map_err(|error| Answer::Other(error.to_string()))?;
    let stream = TlsConnector::from(std::sync::Arc::new(tls)).connect(server, stream).await;
    upgrade(request, stream.map_err(|error| Answer::Other(format!("TLS: {error}")))?, &authority).await
}

async fn upgrade<S>(request: http::Request<()>, stream: S, authority: &str) -> Result<Link, Answer>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    match tokio_tungstenite::client_async_with_config(request, stream, Some(websocket::config())).await {
        Ok((socket, _)) => Ok(websocket::start(socket, authority, true, None)),
        Err(SocketError::Http(response)) if response.status() == StatusCode::SERVICE_UNAVAILABLE => Err(Answer::Busy),
        Err(SocketError::Http(response)) => Err(Answer::Http(response.status().as_u16())),
        Err(error) => Err(Answer::Other(error.to_string())),
    }
}
