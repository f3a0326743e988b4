//! A whole connection: HTTP/1.1, HTTP/2 and the websocket, on a real peer in memory.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use timebus_identity::Token;
use timebus_net::peer::{Peer, PeerConfig};
use timebus_store::store::{Config, Store, lock_home};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// How long a client may be kept from sending or reading.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer may take to see that a client is gone.
const GONE: Duration = Duration::from_secs(1);
/// An unanswered client hangs up after this long. A slow machine only makes the target see less.
const QUIET: Duration = Duration::from_millis(3);
/// A connection is followed by an honest one each so many.
const HONEST_EVERY: u64 = 64;

/// Panics anywhere in the process: those of the peer's tasks and threads reach nobody else.
static PANICS: AtomicUsize = AtomicUsize::new(0);

struct Running {
    runtime: tokio::runtime::Runtime,
    peer: Peer,
    connections: u64,
    _home: tempfile::TempDir,
}

thread_local! {
    static RUNNING: RefCell<Running> = RefCell::new(Running::start());
}

/// A folder that is not on a disk where there is such a place.
pub(crate) fn memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

/// What a client sends before it closes. A first byte below 0x20 says what is sent before that: 1 a websocket
/// handshake, 2 the preface of HTTP/2.
pub(crate) fn connection(data: &[u8]) -> bool {
    let (before, data) = match data.split_first() {
        Some((1, rest)) => (HANDSHAKE, rest),
        Some((2, rest)) => (PREFACE, rest),
        _ => (&b""[..], data),
    };
    RUNNING.with_borrow_mut(|running| {
        let panics = PANICS.load(Ordering::SeqCst);
        let answer = running.exchange(&[before, data].concat());
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 500"), "{answer}");
        running.connections += 1;
        if running.connections.is_multiple_of(HONEST_EVERY) {
            let answer = running.exchange(b"GET /.sys/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            assert!(answer.starts_with(b"HTTP/1.1 200"), "an honest request: {}", String::from_utf8_lossy(&answer));
        }
        assert_eq!(PANICS.load(Ordering::SeqCst), panics, "the peer panicked");
        answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.1 101")
    })
}

const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

impl Running {
    fn start() -> Self {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            told(panic);
        }));
        let home = memory_folder();
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let peer = Peer::new(store, Token::from_bytes([7; 32]), PeerConfig::default());
        Self { runtime, peer, connections: 0, _home: home }
    }

    fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let peer = self.peer.clone();
        self.runtime.block_on(async {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let serving = tokio::spawn(timebus_net::server::serve_owner(peer, theirs));
            let answer = tokio::time::timeout(TIMEOUT, talk(ours, bytes)).await;
            let answer = answer.unwrap_or_else(|_| panic!("a connection does not end"));
            // A subscription with more bytes waiting behind its request sees only with its next heartbeat that nobody
            // is there any more; nothing else may outlive its client.
            let stop = serving.abort_handle();
            match tokio::time::timeout(GONE, serving).await {
                Ok(ended) => ended.expect("a panic"),
                Err(_) => {
                    let request = String::from_utf8_lossy(bytes).to_ascii_lowercase();
                    assert!(request.contains("subscribe") || request.contains("text/event-stream"), "a connection outlives its client");
                    stop.abort();
                }
            }
            answer
        })
    }
}

/// Sends everything, takes what comes until nothing does for a moment, and hangs up.
async fn talk(stream: DuplexStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let write = async {
        let _ = writing.write_all(bytes).await;
    };
    let mut answer = Vec::new();
    let read = async {
        let mut part = [0; 4096];
        while let Ok(Ok(len @ 1..)) = tokio::time::timeout(QUIET, reading.read(&mut part)).await {
            // The start says how it went; the rest may be long.
            if answer.len() < 64 * 1024 {
                answer.extend_from_slice(&part[..len]);
            }
        }
    };
    tokio::join!(write, read);
    answer
}
