//! Links: ordered, reliable streams of frames between two peers, whatever carries them.
//!
//! A driver makes a [`door`], opens an [`endpoint::Endpoint`] behind it, and gets a [`Link`] for everybody who comes
//! in ([`Arrivals::accept`]) and for everybody it calls ([`endpoint::Endpoint::dial`]). What carries a link is one of
//!
//! - iroh (`quic`): one stream of an iroh connection, direct, over the LAN or through a relay;
//! - [`websocket`]: a websocket on loopback or behind TLS.
//!
//! Deliberately not: nothing in here knows what a frame means, and nothing retries. That both sides are who they say
//! is shown inside the frames, by signatures over [`LinkSender::binding`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use timebus_identity::PublicKey;
use tokio::sync::watch;

pub mod address;
mod arrivals;
mod dial;
pub mod endpoint;
mod lan;
mod queue;
mod quic;
pub mod relay;
pub mod websocket;

pub use arrivals::{Arrivals, Door, Slot, door};
pub use dial::{Answer, DialError, Tried};

pub use crate::places::Standing;
use arrivals::Seat;
use queue::Outbox;

/// Largest frame: a change of 1 MiB and 2 112 bytes, with what a frame says about it.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024 + 8 * 1024;
/// Frames that were sent and not taken by the transport yet. A frame that is larger waits until nothing else does.
pub const SEND_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a reason to close.
pub const CLOSE_TEXT_BYTES_MAX: usize = 200;
/// How long a closed link goes on to deliver what was sent before.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing may be heard of the other side. Together with [`KEEP_ALIVE`] below the 30 s that are promised.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How often an idle side says that it is there.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Everything is well.
pub const CODE_DONE: u8 = 0;
/// The other side broke the protocol.
pub const CODE_PROTOCOL: u8 = 1;
/// There is no room for the link.
pub const CODE_BUSY: u8 = 4;

/// What a stranger is told whose link is closed for somebody else.
const PUT_OUT: &str = "the room was needed for somebody else";

/// One connection to another peer.
///
/// It is closed when it, or its receiving half, is dropped.
#[derive(Debug)]
pub struct Link {
    sender: LinkSender,
    receiver: LinkReceiver,
}

/// The sending half of a [`Link`], and what is known about the link. Clones share it.
#[derive(Clone)]
pub struct LinkSender(Arc<Shared>);

/// The receiving half of a [`Link`]. Dropping it closes the link.
pub struct LinkReceiver {
    shared: Arc<Shared>,
    source: Source,
    /// Whether everything was received.
    over: bool,
}

/// Why a link is no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// This side closed it.
    #[error("closed by this side{}", because(*code, text))]
    Here {
        /// As in the protocol's Close.
        code: u8,
        /// For people.
        text: String,
    },
    /// The other side closed it.
    #[error("closed by the other side{}", because(*code, text))]
    There {
        /// As in the protocol's Close.
        code: u8,
        /// For people, and from a stranger.
        text: String,
    },
    /// The other side is gone, or the network between.
    #[error("nothing was heard of the other side for too long")]
    Silent,
    /// The other side announced a frame of a length that no frame has.
    #[error("a frame of {len} bytes; 1 to {FRAME_BYTES_MAX} are allowed")]
    FrameLength {
        /// The length announced.
        len: u64,
    },
    /// The transport failed.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Why a frame was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No frame is that long, or empty.
    #[error("a frame of {len} bytes; 1 to {FRAME_BYTES_MAX} can be sent")]
    FrameLength {
        /// Its length.
        len: usize,
    },
    /// The link is no more.
    #[error("the link has ended")]
    Ended(#[source] Ended),
}

/// The way that frames take now, for people. It may change: a link that began on a relay goes direct when it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// An address of this machine or the local network.
    Lan(SocketAddr),
    /// Another address.
    Direct(SocketAddr),
    /// A relay, with its URL.
    Relay(String),
    /// A websocket to this host, or from it.
    Websocket(String),
    /// Not known, as of a link that has ended.
    Unknown,
}

/// What both halves and the tasks of a link know.
struct Shared {
    remote: Option<PublicKey>,
    binding: [u8; 32],
    initiator: bool,
    carrier: Carrier,
    outbox: Outbox,
    closing: watch::Sender<Option<(u8, String)>>,
    ended: watch::Sender<Option<Ended>>,
    carried: Carried,
    seat: Seat,
}

/// Bytes of all frames that came and were sent.
#[derive(Debug, Default)]
struct Carried {
    received: AtomicU64,
    sent: AtomicU64,
}

/// What carries a link.
enum Carrier {
    Quic(iroh::endpoint::Connection),
    Websocket(websocket::Pulse),
}

/// Where received frames come from.
enum Source {
    Stream(quic::FrameReader),
    Queue(queue::Inbox),
}

impl Link {
    fn new(shared: Arc<Shared>, source: Source) -> Self {
        Self { sender: LinkSender(Arc::clone(&shared)), receiver: LinkReceiver { shared, source, over: false } }
    }

    /// Both halves.
    #[must_use]
    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }

    /// The sending half, which knows everything about the link.
    #[must_use]
    pub fn sender(&self) -> &LinkSender {
        &self.sender
    }

    /// See [`LinkSender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&self, frame: Vec<u8>) -> Result<(), SendError> {
        self.sender.send(frame).await
    }

    /// See [`LinkReceiver::recv`].
    pub async fn recv(&mut self) -> Option<Vec<u8>> {
        self.receiver.recv().await
    }

    /// See [`LinkSender::close`].
    pub fn close(&self, code: u8, text: &str) {
        self.sender.close(code, text);
    }
}

/// What is known about a link.
impl std::ops::Deref for Link {
    type Target = LinkSender;

    fn deref(&self) -> &LinkSender {
        &self.sender
    }
}

impl LinkSender {
    /// The other side's node key, which the transport has checked; `None` for a websocket, which checks none.
    #[must_use]
    pub fn remote(&self) -> Option<PublicKey> {
        self.0.remote
    }

    /// What ties signatures to this link: the same on both sides, and for iroh on no other link.
    ///
    /// For iroh the TLS exporter of RFC 5705, for a websocket the BLAKE3 hash of the `Host` that it was opened with.
    #[must_use]
    pub fn binding(&self) -> &[u8; 32] {
        &self.0.binding
    }

    /// Whether this side called the other. It has to be the first to send.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        self.0.initiator
    }

    /// The way that frames take now.
    #[must_use]
    pub fn way(&self) -> Way {
        match &self.0.carrier {
            Carrier::Quic(connection) => quic::way(connection),
            Carrier::Websocket(pulse) => Way::Websocket(pulse.host().to_owned()),
        }
    }

    /// How long there and back takes, if that was measured.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        match &self.0.carrier {
            Carrier::Quic(connection) => quic::round_trip(connection),
            Carrier::Websocket(pulse) => pulse.round_trip(),
        }
    }

    /// The iroh connection below, for streams beside that of the frames. The other side allows none until it raises
    /// its limit; close the link, not the connection.
    #[must_use]
    pub fn connection(&self) -> Option<&iroh::endpoint::Connection> {
        match &self.0.carrier {
            Carrier::Quic(connection) => Some(connection),
            Carrier::Websocket(_) => None,
        }
    }

    /// Sends a frame, waiting while [`SEND_BYTES_MAX`] bytes are under way to the transport.
    ///
    /// Frames arrive in the order in which they were sent. When the future is dropped the frame is not sent.
    ///
    /// # Errors
    ///
    /// [`SendError::FrameLength`]; [`SendError::Ended`] once the link has ended or was closed.
    pub async fn send(&self, frame: Vec<u8>) -> Result<(), SendError> {
        if !is_frame_length(frame.len()) {
            return Err(SendError::FrameLength { len: frame.len() });
        }
        let len = frame.len() as u64;
        match self.0.outbox.send(frame).await {
            Ok(()) => {
                self.0.carried.sent.fetch_add(len, Relaxed);
                Ok(())
            }
            Err(queue::Closed) => Err(SendError::Ended(self.0.why_ended())),
        }
    }

    /// Bytes of all frames that came and were sent, whatever is in them.
    #[must_use]
    pub fn carried(&self) -> (u64, u64) {
        (self.0.carried.received.load(Relaxed), self.0.carried.sent.load(Relaxed))
    }

    /// How many bytes can be sent now without waiting.
    #[must_use]
    pub fn room(&self) -> usize {
        self.0.outbox.room()
    }

    /// Waits until so many bytes can be sent without waiting, at most [`SEND_BYTES_MAX`]; `false` if that will never
    /// be, since the link has ended.
    pub async fn has_room(&self, bytes: usize) -> bool {
        self.0.outbox.has_room(bytes).await
    }

    /// Says who the other side is, as far as is known now: others may need the room of a link that they opened. `false` if there is
    /// none for such as him, and the link is to be closed, or if somebody else has it already.
    #[must_use]
    pub fn stand(&self, standing: Standing) -> bool {
        self.0.seat.stand(standing)
    }

    /// Ends the link: what was sent before is delivered if that takes less than [`CLOSE_TIMEOUT`], then the other
    /// side is told `code` and `text`. Only the first call counts.
    pub fn close(&self, code: u8, text: &str) {
        self.0.close(code, text);
    }

    /// Why the link has ended; `None` while it has not.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.0.ended.borrow().clone()
    }

    /// Waits until the link has ended and says why.
    pub async fn until_ended(&self) -> Ended {
        let mut ended = self.0.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(Ended::Silent),
            Err(_) => self.0.why_ended(),
        }
    }
}

impl LinkReceiver {
    /// The next frame, 1 to [`FRAME_BYTES_MAX`] bytes; `None` when the link was closed or has ended, see
    /// [`LinkSender::ended`].
    ///
    /// Dropping the future loses nothing. While this is not called, the other side is held back.
    pub async fn recv(&mut self) -> Option<Vec<u8>> {
        if self.over {
            return None;
        }
        let mut closing = self.shared.closing.subscribe();
        let received = tokio::select! {
            biased;
            _ = closing.wait_for(Option::is_some) => None,
            received = self.source.next() => Some(received),
        };
        match received {
            Some(Ok(Some(frame))) => {
                self.shared.carried.received.fetch_add(frame.len() as u64, Relaxed);
                return Some(frame);
            }
            // The tasks of the link say why.
            None | Some(Ok(None)) => {}
            Some(Err(why)) => {
                if let Ended::FrameLength { .. } = why {
                    self.shared.close(CODE_PROTOCOL, &why.to_string());
                }
                self.shared.end(why);
            }
        }
        self.over = true;
        None
    }

    /// What is known about the link.
    #[must_use]
    pub fn sender(&self) -> LinkSender {
        LinkSender(Arc::clone(&self.shared))
    }
}

impl Drop for LinkReceiver {
    fn drop(&mut self) {
        self.shared.close(CODE_DONE, "");
    }
}

impl Source {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Ended> {
        match self {
            Self::Stream(reader) => reader.next().await,
            Self::Queue(inbox) => Ok(inbox.next().await),
        }
    }
}

impl Shared {
    fn new(remote: Option<PublicKey>, binding: [u8; 32], initiator: bool, carrier: Carrier, outbox: Outbox, slot: Option<&Slot>) -> Arc<Self> {
        let (closing, ended) = (watch::Sender::new(None), watch::Sender::new(None));
        Arc::new(Self { remote, binding, initiator, carrier, outbox, closing, ended, carried: Carried::default(), seat: Slot::seat(slot) })
    }

    fn close(&self, code: u8, text: &str) {
        self.closing.send_if_modified(|closing| {
            let is_first = closing.is_none();
            if is_first {
                *closing = Some((code, shortened(text, CLOSE_TEXT_BYTES_MAX).to_owned()));
            }
            is_first
        });
        self.outbox.close();
    }

    /// Notes why the link has ended, unless that is known, and lets nobody wait any more.
    fn end(&self, why: Ended) {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            if is_first {
                *ended = Some(why);
            }
            is_first
        });
        self.outbox.close();
    }

    fn why_ended(&self) -> Ended {
        if let Some(ended) = &*self.ended.borrow() {
            return ended.clone();
        }
        let (code, text) = self.closing.borrow().clone().unwrap_or_default();
        Ended::Here { code, text }
    }

    /// Waits until this side wants to close, and then for as long as delivering the rest may take.
    async fn until_overdue(&self) {
        let mut closing = self.closing.subscribe();
        if closing.wait_for(Option::is_some).await.is_err() {
            return;
        }
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    }
}

impl Way {
    /// The way to an address.
    #[must_use]
    pub fn to(address: SocketAddr) -> Self {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if is_local(address.ip()) { Self::Lan(address) } else { Self::Direct(address) }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lan(address) => write!(f, "lan {address}"),
            Self::Direct(address) => write!(f, "direct {address}"),
            Self::Relay(url) => write!(f, "relay {url}"),
            Self::Websocket(host) => write!(f, "websocket {host}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.ended();
        f.debug_struct("Link").field("remote", &self.0.remote).field("way", &self.way()).field("ended", &ended).finish()
    }
}

impl fmt::Debug for LinkReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sender().fmt(f)
    }
}

fn is_frame_length(len: usize) -> bool {
    (1..=FRAME_BYTES_MAX).contains(&len)
}

/// Whether an address is one of this machine or of the local network.
fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The beginning of a text, in whole characters.
fn shortened(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn because(code: u8, text: &str) -> String {
    match (code, text) {
        (CODE_DONE, "") => String::new(),
        (_, "") => format!(" (code {code})"),
        (_, text) => format!(": {} (code {code})", text.escape_debug()),
    }
}

#[cfg(test)]
mod tests;
