//! A link over a websocket: each frame is one binary message.
//!
//! TLS below a websocket ends at whatever proxy stands before the peer, so nothing of it can be bound to; what the
//! other side's key is has to be shown by the frames.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::arrivals::put_out;
use super::queue::{Inbox, Outbox, queue};
use super::{
    CLOSE_TIMEOUT, CODE_BUSY, CODE_DONE, CODE_PROTOCOL, Carrier, Ended, FRAME_BYTES_MAX, KEEP_ALIVE, Link, PUT_OUT, SILENCE_MAX, Shared, Slot,
    Source, is_frame_length, shortened,
};
use crate::peer::lock;

/// Codes of the link in a close frame begin here: websockets leave 4000 to 4999 to their users.
const CLOSE_CODES: u16 = 4000;
/// Bytes of the reason in a close frame (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;
/// Kept per socket for reading and for writing.
const BUFFER_BYTES: usize = 16 * 1024;

/// The settings of a socket that carries nothing but a link. Lengths are checked before there is memory for them.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(BUFFER_BYTES + 2 * FRAME_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
}

/// What the signatures of a link over a websocket are bound to.
#[must_use]
pub fn binding(host: &str) -> [u8; 32] {
    *blake3::hash(host.as_bytes()).as_bytes()
}

/// Signs of life of a socket.
pub(super) struct Pulse {
    host: Arc<str>,
    beat: Arc<Beat>,
}

struct Beat {
    born: Instant,
    /// When something was heard last, and whether anybody listens: who is kept from reading hears nothing.
    heard: Mutex<Heard>,
    /// Nanoseconds; 0 while not known.
    round_trip: AtomicU64,
}

struct Heard {
    at: Instant,
    is_listening: bool,
}

impl Pulse {
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        match self.beat.round_trip.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

/// Makes a link of a socket whose `Host` is known.
pub(crate) fn start<S>(socket: WebSocketStream<S>, host: &str, initiator: bool, slot: Option<Slot>) -> Link
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (outbox, queued) = queue();
    let (received, inbox) = queue();
    let now = Instant::now();
    let beat = Arc::new(Beat { born: now, heard: Mutex::new(Heard { at: now, is_listening: true }), round_trip: AtomicU64::new(0) });
    let pulse = Pulse { host: host.into(), beat: Arc::clone(&beat) };
    let shared = Shared::new(None, binding(host), initiator, Carrier::Websocket(pulse), outbox, slot.as_ref());
    tokio::spawn(carry(Arc::clone(&shared), socket, beat, queued, received, slot));
    Link::new(shared, Source::Queue(inbox))
}

/// Reads and writes frames until the link ends, and ends it.
async fn carry<S>(shared: Arc<Shared>, socket: WebSocketStream<S>, beat: Arc<Beat>, mut queued: Inbox, received: Outbox, slot: Option<Slot>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = socket.split();
    let why = tokio::select! {
        why = write(&mut sink, &mut queued, &beat, &shared) => why,
        why = read(&mut stream, &received, &beat) => why,
        () = until_silent(&beat) => Ended::Silent,
        () = shared.until_overdue() => shared.why_ended(),
        () = put_out(slot.as_ref()) => {
            shared.close(CODE_BUSY, PUT_OUT);
            shared.why_ended()
        }
    };
    shared.end(why.clone());
    received.close();
    let (code, text) = match &why {
        Ended::Here { code, text } => (*code, text.clone()),
        Ended::FrameLength { .. } => (CODE_PROTOCOL, why.to_string()),
        _ => (CODE_DONE, String::new()),
    };
    let reason = shortened(&text, REASON_BYTES_MAX).to_owned();
    let frame = CloseFrame { code: CloseCode::from(CLOSE_CODES + u16::from(code)), reason: reason.into() };
    let goodbye = async {
        let _ = sink.send(Message::Close(Some(frame))).await;
        // Read on until the other side has answered, so that it sees the reason and no reset.
        while let Some(Ok(_)) = stream.next().await {}
    };
    if !matches!(why, Ended::Silent | Ended::Broken(_)) {
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }
    drop(slot);
}

/// Writes frames and signs of life, until the link is closed and all of them are written.
async fn write<W>(sink: &mut W, queued: &mut Inbox, beat: &Beat, shared: &Shared) -> Ended
where
    W: Sink<Message, Error = Error> + Unpin,
{
    let mut ticks = tokio::time::interval(KEEP_ALIVE);
    let written = loop {
        let written = tokio::select! {
            biased;
            _ = ticks.tick() => {
                let now = u64::try_from(beat.born.elapsed().as_nanos()).unwrap_or(u64::MAX);
                sink.send(Message::Ping(Bytes::copy_from_slice(&now.to_le_bytes()))).await
            }
            next = queued.next_queued() => match next {
                None => break Ok(()),
                Some(next) => feed_all(sink, queued, next).await,
            },
        };
        if written.is_err() {
            break written;
        }
    };
    match written {
        Ok(()) => shared.why_ended(),
        // Reading tells more than that nothing can be written.
        Err(_) => std::future::pending().await,
    }
}

/// Writes a frame and those behind it, and flushes once. Each one's room is free when the socket has taken it.
async fn feed_all<W>(sink: &mut W, queued: &mut Inbox, first: super::queue::Queued) -> Result<(), Error>
where
    W: Sink<Message, Error = Error> + Unpin,
{
    let mut next = Some(first);
    while let Some(mut item) = next {
        sink.feed(Message::Binary(std::mem::take(&mut item.frame).into())).await?;
        drop(item);
        next = queued.try_next_queued();
    }
    sink.flush().await
}

/// Reads frames and hands them on, until there are no more.
async fn read<R>(stream: &mut R, received: &Outbox, beat: &Beat) -> Ended
where
    R: Stream<Item = Result<Message, Error>> + Unpin,
{
    loop {
        let message = stream.next().await;
        lock(&beat.heard).at = Instant::now();
        match message {
            Some(Ok(Message::Binary(frame))) => {
                if let Err(ended) = hand_on(frame.into(), received, beat).await {
                    return ended;
                }
            }
            Some(Ok(Message::Pong(sent))) => {
                if let Ok(sent) = <[u8; 8]>::try_from(&*sent) {
                    let now = u64::try_from(beat.born.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    // Zero means unknown; nothing is faster than a nanosecond.
                    beat.round_trip.store(now.saturating_sub(u64::from_le_bytes(sent)).max(1), Ordering::Relaxed);
                }
            }
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Text(_))) => return Ended::Broken("a text came where only frames may".to_owned()),
            Some(Ok(Message::Close(frame))) => return closed(frame.as_ref()),
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { size, .. }))) => {
                return Ended::FrameLength { len: u64::try_from(size).unwrap_or(u64::MAX) };
            }
            Some(Err(error)) => return Ended::Broken(error.to_string()),
            None => return Ended::Broken("the other side hung up".to_owned()),
        }
    }
}

/// Gives a frame to who receives, waiting while he does not. Meanwhile nothing is read.
async fn hand_on(frame: Vec<u8>, received: &Outbox, beat: &Beat) -> Result<(), Ended> {
    if !is_frame_length(frame.len()) {
        return Err(Ended::FrameLength { len: u64::try_from(frame.len()).unwrap_or(u64::MAX) });
    }
    lock(&beat.heard).is_listening = false;
    let taken = received.send(frame).await;
    *lock(&beat.heard) = Heard { at: Instant::now(), is_listening: true };
    match taken {
        Ok(()) => Ok(()),
        // Nobody receives: the link is being closed, and writing says when that is done.
        Err(super::queue::Closed) => std::future::pending().await,
    }
}

/// What a close frame says.
fn closed(frame: Option<&CloseFrame>) -> Ended {
    let (code, text) = frame.map_or((1005, ""), |frame| (u16::from(frame.code), frame.reason.as_str()));
    let text = text.to_owned();
    match code.checked_sub(CLOSE_CODES).and_then(|code| u8::try_from(code).ok()) {
        Some(code) => Ended::There { code, text },
        None if text.is_empty() => Ended::Broken(format!("the websocket was closed with code {code}")),
        None => Ended::Broken(format!("the websocket was closed with code {code}: {}", text.escape_debug())),
    }
}

/// Waits until nothing was heard for too long although somebody listened.
async fn until_silent(beat: &Beat) {
    loop {
        let deadline = match &*lock(&beat.heard) {
            Heard { at, is_listening: true } => *at + SILENCE_MAX,
            Heard { is_listening: false, .. } => Instant::now() + SILENCE_MAX,
        };
        if deadline <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}
