//! A link over one stream of an iroh connection: each frame behind its length, 4 bytes little-endian.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use iroh::TransportAddr;
use iroh::endpoint::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt};
use timebus_identity::PublicKey;

use super::arrivals::put_out;
use super::queue::{Inbox, queue};
use super::{CLOSE_TIMEOUT, CODE_BUSY, Carrier, Ended, Link, PUT_OUT, Shared, Slot, Source, Way, is_frame_length, shortened};

/// Says which version of the protocol is spoken; TLS checks that both sides mean the same.
pub(super) const ALPN: &[u8] = b"timebus/1";
/// Begins a second name in the list of protocols, which says whom the caller wants: addresses are handed on, and it
/// happens that another peer has got one. That one is silent, so that the caller's other addresses have their chance;
/// if it answered with its key, the whole call would be over.
const CALLED: &[u8] = b"timebus/1 to ";
/// Random bytes behind that; then as many of the hash of them and the node key. Who does not know the key learns
/// nothing, and cannot tell two calls to one peer from calls to two.
const CALLED_BYTES: usize = 8;
/// What the binding of a link is derived with, see RFC 5705. The context is empty.
const EXPORTER_LABEL: &[u8] = b"timebus/1 session";
/// Before each frame.
const LENGTH_BYTES: usize = 4;
/// Small frames are written together up to so many bytes.
const BATCH_BYTES: usize = 16 * 1024;
/// Read from the stream at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Set aside for a frame before any byte of it has come; what it really has is set aside when it comes.
const FRAME_BYTES_AT_FIRST: usize = 64 * 1024;

/// The name of a protocol that nobody speaks: it says to whom a call goes.
pub(super) fn called(node: &[u8; 32], salt: [u8; CALLED_BYTES]) -> Vec<u8> {
    let hash = timebus_identity::hash("called node", &[&salt, node]);
    [CALLED, &salt, &hash[..CALLED_BYTES]].concat()
}

/// Whether a caller wants somebody else, by the names of protocols that it sent.
pub(super) fn is_for_another(node: &[u8; 32], names: impl Iterator<Item = impl AsRef<[u8]>>) -> bool {
    let mut called_by = names.filter(|name| name.as_ref().starts_with(CALLED));
    let Some(name) = called_by.next() else { return false };
    let salt = name.as_ref()[CALLED.len()..].first_chunk();
    salt.is_none_or(|salt| name.as_ref() != called(node, *salt))
}

/// Makes a link of a stream that was opened or accepted.
pub(super) fn start(connection: Connection, (send, recv): (SendStream, RecvStream), initiator: bool, slot: Option<Slot>) -> Result<Link, Ended> {
    let mut binding = [0; 32];
    if connection.export_keying_material(&mut binding, EXPORTER_LABEL, b"").is_err() {
        return Err(Ended::Broken("TLS has no exporter".to_owned()));
    }
    let remote = PublicKey::from_bytes(*connection.remote_id().as_bytes());
    let (outbox, inbox) = queue();
    let shared = Shared::new(Some(remote), binding, initiator, Carrier::Quic(connection.clone()), outbox, slot.as_ref());
    let reader = FrameReader { stream: recv, connection: connection.clone(), chunk: Bytes::new(), head: Vec::new(), frame: None };
    tokio::spawn(carry(Arc::clone(&shared), connection, send, inbox, slot));
    Ok(Link::new(shared, Source::Stream(reader)))
}

/// Writes frames until the link ends, and ends it.
async fn carry(shared: Arc<Shared>, connection: Connection, mut stream: SendStream, mut inbox: Inbox, slot: Option<Slot>) {
    tokio::select! {
        () = write(&mut stream, &mut inbox) => {}
        () = shared.until_overdue() => {}
        () = put_out(slot.as_ref()) => shared.close(CODE_BUSY, PUT_OUT),
        error = connection.closed() => shared.end(ended(&error)),
    }
    let (code, text) = shared.closing.borrow().clone().unwrap_or_default();
    connection.close(VarInt::from(u32::from(code)), text.as_bytes());
    shared.end(Ended::Here { code, text });
    drop(slot);
}

/// Writes frames as long as there are any, and waits until the other side has them all.
///
/// That the stream fails is told by the connection.
async fn write(stream: &mut SendStream, inbox: &mut Inbox) {
    let mut batch = Vec::new();
    while let Some(first) = inbox.next_queued().await {
        let mut queued = Vec::new();
        let mut next = Some(first);
        while let Some(item) = next {
            let len = u32::try_from(item.frame.len()).expect("the length was checked when it was sent");
            batch.extend_from_slice(&len.to_le_bytes());
            batch.extend_from_slice(&item.frame);
            queued.push(item);
            next = if batch.len() < BATCH_BYTES { inbox.try_next_queued() } else { None };
        }
        if stream.write_chunk(Bytes::from(std::mem::take(&mut batch))).await.is_err() {
            return std::future::pending().await;
        }
    }
    if stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}

/// Takes a stream apart into frames.
pub(super) struct FrameReader {
    stream: RecvStream,
    connection: Connection,
    /// Read and not used yet.
    chunk: Bytes,
    /// What has come of the length of the next frame.
    head: Vec<u8>,
    /// What has come of the next frame, and its length.
    frame: Option<(Vec<u8>, usize)>,
}

impl FrameReader {
    /// The next frame; `None` when the link has ended and it is known why. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Ended> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(CHUNK_BYTES).await {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) => return Err(self.finished().await),
                Err(ReadError::ConnectionLost(error)) => return Err(ended(&error)),
                Err(error) => return Err(Ended::Broken(error.to_string())),
            }
        }
    }

    /// A frame out of what was read; `None` if more has to be read first.
    fn take(&mut self) -> Result<Option<Vec<u8>>, Ended> {
        if self.frame.is_none() {
            let wanted = (LENGTH_BYTES - self.head.len()).min(self.chunk.len());
            self.head.extend_from_slice(&self.chunk[..wanted]);
            self.chunk.advance(wanted);
            let Some(len) = self.head.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
            let len = u32::from_le_bytes(*len);
            let bytes = usize::try_from(len).unwrap_or(usize::MAX);
            if !is_frame_length(bytes) {
                return Err(Ended::FrameLength { len: u64::from(len) });
            }
            self.head.clear();
            self.frame = Some((Vec::with_capacity(bytes.min(FRAME_BYTES_AT_FIRST)), bytes));
        }
        let Some((frame, len)) = &mut self.frame else { return Ok(None) };
        let wanted = (*len - frame.len()).min(self.chunk.len());
        frame.extend_from_slice(&self.chunk[..wanted]);
        self.chunk.advance(wanted);
        let is_whole = frame.len() == *len;
        Ok(if is_whole { self.frame.take().map(|(frame, _)| frame) } else { None })
    }

    /// Why the other side sends no more, which it says right after.
    async fn finished(&self) -> Ended {
        if self.frame.is_some() || !self.head.is_empty() {
            return Ended::Broken("it was cut inside a frame".to_owned());
        }
        match tokio::time::timeout(CLOSE_TIMEOUT, self.connection.closed()).await {
            Ok(error) => ended(&error),
            Err(_) => Ended::There { code: 0, text: String::new() },
        }
    }
}

/// What the end of a connection means for its link.
pub(super) fn ended(error: &ConnectionError) -> Ended {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let text = String::from_utf8_lossy(&close.reason);
            Ended::There {
                code: u8::try_from(close.error_code.into_inner()).unwrap_or(u8::MAX),
                text: shortened(&text, super::CLOSE_TEXT_BYTES_MAX).to_owned(),
            }
        }
        ConnectionError::TimedOut => Ended::Silent,
        ConnectionError::Reset => Ended::Broken("the other side was started anew".to_owned()),
        other => Ended::Broken(other.to_string()),
    }
}

/// The way that a connection takes now.
pub(super) fn way(connection: &Connection) -> Way {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next());
    match path.as_ref().map(|path| path.remote_addr()) {
        Some(TransportAddr::Ip(address)) => Way::to(*address),
        Some(TransportAddr::Relay(url)) => Way::Relay(url.to_string()),
        _ => Way::Unknown,
    }
}

/// How long there and back takes on that way.
pub(super) fn round_trip(connection: &Connection) -> Option<Duration> {
    let paths = connection.paths();
    let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
    Some(path.rtt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_whom_it_is_for() {
        let names = |node: u8| [ALPN.to_vec(), called(&[node; 32], [5; CALLED_BYTES])];
        assert!(!is_for_another(&[1; 32], names(1).iter()));
        assert!(is_for_another(&[1; 32], names(2).iter()));
        assert!(!is_for_another(&[1; 32], [ALPN].iter()), "who names nobody may mean us");
        assert!(is_for_another(&[1; 32], [CALLED].iter()));
        assert_ne!(names(1)[1], called(&[1; 32], [6; CALLED_BYTES]));
    }
}
