//! The one who publishes: updates that say when they were sent, over one connection.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;

use crate::connection::{Connection, Endpoint, Protocol, number};
use crate::peer::Peer;
use crate::subscriber::{BINARY, SUBJECT, Subscriber, TOPIC, frame};

/// Length of an update, as much as the documents of the other scenarios.
pub(crate) const UPDATE_BYTES: usize = 200;

/// Time since the first call: publisher and subscribers are one process, so they share it.
pub(crate) fn clock() -> Duration {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    EPOCH.elapsed()
}

/// What is published: text that fits a JSON string as well as a line.
pub(crate) struct Update {
    /// The first one is 1.
    pub(crate) number: u64,
    /// When it was published, on [`clock`].
    pub(crate) at: Duration,
    /// No more will come.
    pub(crate) last: bool,
}

impl Update {
    /// How each begins, and nothing else does.
    pub(crate) const MARK: &[u8] = b"update ";

    /// `update 00000042 0000000123456789 0 xxxx`.
    fn text(&self) -> String {
        let (number, nanos, last) = (self.number, self.at.as_nanos(), u8::from(self.last));
        let head = format!("update {number:08} {nanos:016} {last} ");
        format!("{head:x<UPDATE_BYTES$}")
    }

    /// Reads what [`Update::text`] wrote; more may follow.
    pub(crate) fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let field = |from: usize, to: usize| number(text.get(from..to)?, 10).map(|number| number as u64);
        let bad = || format!("bad update {:?}", String::from_utf8_lossy(text));
        let whole = text.get(..UPDATE_BYTES).is_some_and(|text| text[35..].iter().all(|byte| *byte == b'x'));
        ensure!(whole, bad());
        Ok(Self {
            number: field(7, 15).with_context(bad)?,
            at: Duration::from_nanos(field(16, 32).with_context(bad)?),
            last: field(33, 34).with_context(bad)? == 1,
        })
    }
}

/// An open connection for publishing.
pub(crate) enum Publisher {
    /// PUT over HTTP or PUBLISH to Redis, which are answered.
    Answered { endpoint: Endpoint, connection: Connection },
    /// NATS' PUB or a change to a Yjs map, which are not. What comes back is thrown away.
    Silent { peer: Peer, stream: OwnedWriteHalf },
}

impl Publisher {
    /// Connects.
    pub(crate) async fn open(peer: Peer, address: SocketAddr) -> anyhow::Result<Self> {
        let protocol = match peer {
            Peer::Redis => Protocol::Redis,
            Peer::Nats | Peer::YWebsocket => {
                let stream = Subscriber::connect(peer, address).await?.into_stream();
                let (mut incoming, stream) = stream.into_split();
                // Ends with the connection.
                tokio::task::spawn_local(async move {
                    let mut nothing = vec![0; 64 * 1024];
                    while incoming.read(&mut nothing).await.is_ok_and(|count| count > 0) {}
                });
                return Ok(Self::Silent { peer, stream });
            }
            _ => Protocol::HttpAsync,
        };
        let endpoint = Endpoint { address, protocol };
        let connection = Connection::open(endpoint).await?;
        Ok(Self::Answered { endpoint, connection })
    }

    /// Publishes `count` updates from `first` on, sent in one piece, and waits for the answers.
    pub(crate) async fn publish(&mut self, first: u64, count: u64, last: bool) -> anyhow::Result<()> {
        let at = clock();
        let mut bytes = Vec::new();
        for number in first..first + count {
            let text = Update { number, at, last }.text();
            let length = text.len();
            match self {
                Self::Answered { endpoint, .. } if endpoint.protocol == Protocol::Redis => {
                    let topic = TOPIC.len();
                    let command = format!("*3\r\n$7\r\nPUBLISH\r\n${topic}\r\n{TOPIC}\r\n${length}\r\n{text}\r\n");
                    bytes.extend_from_slice(command.as_bytes());
                }
                Self::Answered { endpoint, .. } => {
                    endpoint.put_request(TOPIC, format!("\"{text}\"").as_bytes(), &mut bytes);
                }
                Self::Silent { peer: Peer::Nats, .. } => {
                    let command = format!("PUB {SUBJECT} {length}\r\n{text}\r\n");
                    bytes.extend_from_slice(command.as_bytes());
                }
                Self::Silent { .. } => {
                    bytes.extend_from_slice(&frame(BINARY, &yjs_update(number - 1, &text)));
                }
            }
        }
        match self {
            Self::Answered { connection, .. } => connection.pipeline(&bytes, count as usize).await,
            Self::Silent { stream, .. } => Ok(stream.write_all(&bytes).await?),
        }
    }
}

/// A y-websocket message that sets `k` in the map `m` to `text`, as the client 1 would at `clock`.
///
/// Yjs' update format 1: one client with one item whose content is one value, no deletions.
fn yjs_update(clock: u64, text: &str) -> Vec<u8> {
    const CONTENT_ANY: u8 = 8;
    const HAS_KEY: u8 = 0x20;
    const HAS_LEFT_NEIGHBOUR: u8 = 0x80;
    const STRING: u8 = 119;
    let mut update = vec![1, 1, 1];
    varint(clock, &mut update);
    if let Some(previous) = clock.checked_sub(1) {
        update.extend([CONTENT_ANY | HAS_KEY | HAS_LEFT_NEIGHBOUR, 1]);
        varint(previous, &mut update);
    } else {
        // The first one names the map and the key; later ones take them from their neighbour.
        update.extend([CONTENT_ANY | HAS_KEY, 1, 1, b'm', 1, b'k']);
    }
    update.extend([1, STRING]);
    varint(text.len() as u64, &mut update);
    update.extend_from_slice(text.as_bytes());
    update.push(0);
    // Sync protocol, an update.
    let mut message = vec![0, 2];
    varint(update.len() as u64, &mut message);
    message.extend(update);
    message
}

fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}
