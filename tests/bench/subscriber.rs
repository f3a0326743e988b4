//! One subscriber: subscribes in its server's way and takes updates out of the bytes that come.

use std::ops::Range;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::connection::{find, number};
use crate::peer::Peer;

/// What subscribers read at once at most, and at first the longest message they take.
const READ_BYTES: usize = 16 * 1024;
/// No message we cause is longer; a server that claims one has lost count.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Where the updates go: a path, a channel, a subject or a document.
pub(crate) const TOPIC: &str = "/bench/fan";
/// NATS allows no slash in a subject to mean anything, so it has a name of its own.
pub(crate) const SUBJECT: &str = "bench.fan";

/// Websocket frames we meet.
const TEXT: u8 = 1;
/// See [`frame`].
pub(crate) const BINARY: u8 = 2;
const PING: u8 = 9;
const PONG: u8 = 10;
const CLOSE: u8 = 8;

/// A connection that gets updates.
pub(crate) struct Subscriber {
    stream: TcpStream,
    peer: Peer,
    received: Vec<u8>,
    /// Where in `received` the bytes begin that no message was made of yet, and where they end.
    unread: Range<usize>,
}

/// One message of any protocol.
enum Message {
    /// May carry an update.
    Data(Range<usize>),
    Ping(Range<usize>),
    Closed(Range<usize>),
    Other,
}

impl Subscriber {
    /// Connects and subscribes; every update published from now on will come.
    pub(crate) async fn subscribe(peer: Peer, address: std::net::SocketAddr) -> anyhow::Result<Self> {
        if peer == Peer::Timebus {
            return Self::watch(address, TOPIC).await;
        }
        let mut subscriber = Self::connect(peer, address).await?;
        match peer {
            Peer::Redis => {
                subscriber.send(format!("SUBSCRIBE {TOPIC}\r\n").as_bytes()).await?;
                subscriber.wait_for(b"subscribe").await?;
            }
            Peer::Nats => {
                // The answer to the PING comes when the SUB was taken.
                subscriber.send(format!("SUB {SUBJECT} 1\r\nPING\r\n").as_bytes()).await?;
                subscriber.wait_for(b"PONG").await?;
            }
            // Connecting subscribes; it says so by starting to sync.
            Peer::YWebsocket => subscriber.wait_for(&[0, 0]).await?,
            Peer::Hyper | Peer::Etcd | Peer::Timebus => bail!("{peer} has no subscriptions here"),
        }
        Ok(subscriber)
    }

    /// Connects to timebus and watches a path.
    pub(crate) async fn watch(address: std::net::SocketAddr, path: &str) -> anyhow::Result<Self> {
        let mut subscriber = Self::connect(Peer::Timebus, address).await?;
        subscriber.send(&frame(TEXT, format!("{{\"id\":1,\"watch\":\"{path}\"}}").as_bytes())).await?;
        subscriber.wait_for(b"\"caught_up\":true").await?;
        Ok(subscriber)
    }

    /// Connects without subscribing, as a publisher does.
    pub(crate) async fn connect(peer: Peer, address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("could not connect")?;
        stream.set_nodelay(true)?;
        let mut subscriber = Self { stream, peer, received: vec![0; READ_BYTES], unread: 0..0 };
        match peer {
            Peer::Nats => {
                subscriber.head(b"\r\n").await?;
                subscriber.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").await?;
            }
            Peer::Timebus => subscriber.upgrade("/", "timebus.v1").await?,
            Peer::YWebsocket => subscriber.upgrade(TOPIC, "").await?,
            Peer::Hyper | Peer::Etcd | Peer::Redis => {}
        }
        Ok(subscriber)
    }

    /// Sends bytes that are a message of the protocol already.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// The bare stream, for a publisher that makes nothing of what comes.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Hands each update that came to `take`, in order; waits for bytes if there is none.
    pub(crate) async fn updates(&mut self, mut take: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut idle = true;
        while let Some((message, end)) = self.message()? {
            idle = false;
            match message {
                Message::Data(range) => take(&self.received[range])?,
                Message::Ping(range) => self.pong(range).await?,
                Message::Closed(range) => {
                    bail!("closed: {}", String::from_utf8_lossy(&self.received[range]))
                }
                Message::Other => {}
            }
            self.unread.start = end;
        }
        if idle {
            self.fill().await?;
        }
        Ok(())
    }

    /// Waits for a message with `mark` in it.
    async fn wait_for(&mut self, mark: &[u8]) -> anyhow::Result<()> {
        let mut came = false;
        while !came {
            let look = |message: &[u8]| {
                came |= find(message, mark).is_some();
                let text = String::from_utf8_lossy(message);
                ensure!(!text.contains("\"error\""), "subscribing failed: {text}");
                Ok(())
            };
            let mark = String::from_utf8_lossy(mark);
            self.updates(look).await.with_context(|| format!("while waiting for {mark:?}"))?;
        }
        Ok(())
    }

    async fn upgrade(&mut self, path: &str, subprotocol: &str) -> anyhow::Result<()> {
        let offer = match subprotocol {
            "" => String::new(),
            _ => format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"),
        };
        let address = self.stream.peer_addr()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
        );
        self.send(request.as_bytes()).await?;
        let head = self.head(b"\r\n\r\n").await?;
        ensure!(head.starts_with("HTTP/1.1 101"), "no websocket: {head}");
        let agreed = head.to_ascii_lowercase().contains(&subprotocol.to_ascii_lowercase());
        ensure!(agreed, "subprotocol {subprotocol} not agreed to: {head}");
        Ok(())
    }

    /// Reads to the end of the first line or head, which `mark` ends, and returns it.
    async fn head(&mut self, mark: &[u8]) -> anyhow::Result<String> {
        loop {
            let unread = &self.received[self.unread.clone()];
            if let Some(at) = find(unread, mark) {
                let head = String::from_utf8_lossy(&unread[..at]).into_owned();
                self.unread.start += at + mark.len();
                return Ok(head);
            }
            self.fill().await.context("while waiting for the first answer")?;
        }
    }

    /// Reads once, behind what is unread.
    async fn fill(&mut self) -> anyhow::Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.received.len() {
            self.received.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.unread.end == self.received.len() {
                ensure!(self.received.len() < MESSAGE_BYTES_MAX, "a message without end");
                self.received.resize(self.unread.end * 2, 0);
            }
        }
        let count = self.stream.read(&mut self.received[self.unread.end..]).await?;
        ensure!(count > 0, "the server closed the connection");
        self.unread.end += count;
        Ok(())
    }

    /// The next whole message and where it ends.
    fn message(&self) -> anyhow::Result<Option<(Message, usize)>> {
        let bytes = &self.received[self.unread.clone()];
        let found = match self.peer {
            Peer::Redis => redis_message(bytes)?,
            Peer::Nats => nats_message(bytes)?,
            _ => websocket_message(bytes)?,
        };
        let from = self.unread.start;
        let moved = |range: Range<usize>| from + range.start..from + range.end;
        Ok(found.map(|(message, end)| {
            let message = match message {
                Message::Data(range) => Message::Data(moved(range)),
                Message::Ping(range) => Message::Ping(moved(range)),
                Message::Closed(range) => Message::Closed(moved(range)),
                Message::Other => Message::Other,
            };
            (message, from + end)
        }))
    }

    async fn pong(&mut self, payload: Range<usize>) -> anyhow::Result<()> {
        let answer = match self.peer {
            Peer::Nats => b"PONG\r\n".to_vec(),
            _ => frame(PONG, &self.received[payload]),
        };
        self.send(&answer).await
    }
}

/// A client's websocket frame. Its mask is zero: it hides nothing here and costs nothing.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => frame.push(MASKED | length as u8),
        length => {
            let length = u16::try_from(length).expect("we send no frame over 64 KiB");
            frame.push(MASKED | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Takes a server's websocket frame apart, looking at nothing but its head.
fn websocket_message(bytes: &[u8]) -> anyhow::Result<Option<(Message, usize)>> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    ensure!(second & 0x80 == 0, "a masked frame from the server");
    let (length, start) = match second {
        126 => match bytes.get(2..4) {
            Some(length) => (length.iter().fold(0, |sum, byte| sum << 8 | *byte as usize), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(length) => (length.iter().fold(0, |sum, byte| sum << 8 | *byte as usize), 10),
            None => return Ok(None),
        },
        length => (length as usize, 2),
    };
    ensure!(length <= MESSAGE_BYTES_MAX, "a frame of {length} bytes");
    let range = start..start + length;
    let end = range.end;
    if bytes.len() < end {
        return Ok(None);
    }
    let message = match first & 0x0f {
        TEXT | BINARY => Message::Data(range),
        PING => Message::Ping(range),
        CLOSE => Message::Closed(range),
        _ => Message::Other,
    };
    Ok(Some((message, end)))
}

/// Takes one of Redis' pushed arrays apart: a kind, a channel, and a text or a number.
fn redis_message(bytes: &[u8]) -> anyhow::Result<Option<(Message, usize)>> {
    let mut at = 0;
    let mut parts = 1;
    while parts > 0 {
        let Some(length) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let line = &bytes[at..at + length];
        at += length + 2;
        parts -= 1;
        match line.split_first() {
            Some((b'*', count)) => parts += number(count, 10).context("bad array")?,
            Some((b'$', length)) => at += number(length, 10).context("bad length")? + 2,
            Some((b':', _)) => {}
            _ => bail!("{}", String::from_utf8_lossy(line)),
        }
        if at > bytes.len() {
            return Ok(None);
        }
    }
    Ok(Some((Message::Data(0..at), at)))
}

/// Takes one line from NATS apart, with the payload behind it if there is one.
fn nats_message(bytes: &[u8]) -> anyhow::Result<Option<(Message, usize)>> {
    let Some(length) = find(bytes, b"\r\n") else {
        return Ok(None);
    };
    let (line, start) = (&bytes[..length], length + 2);
    if line.starts_with(b"MSG ") {
        let size = line.rsplit(|byte| *byte == b' ').next().and_then(|size| number(size, 10));
        let end = start + size.context("MSG without a size")? + 2;
        return Ok((bytes.len() >= end).then_some((Message::Data(start..end - 2), end)));
    }
    let message = match line {
        b"PING" => Message::Ping(0..0),
        b"PONG" => Message::Data(0..length),
        _ if line.starts_with(b"-ERR") => Message::Closed(0..length),
        _ => Message::Other,
    };
    Ok(Some((message, start)))
}
