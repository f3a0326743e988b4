//! How the socket treats frames, good and bad: the cases of the Autobahn test suite that say something, as raw bytes,
//! and the suite itself for whoever has it.
//!
//! They speak to `/.echo`, which sends messages back and exists only here. Handshake, limits, loop and goodbye are
//! the ones of every other socket.

use std::path::Path;
use std::time::Duration;

use timebus_identity::Token;
use timebus_store::store::{Config, Store, lock_home};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::MESSAGE_BYTES_MAX;
use crate::peer::{Peer, PeerConfig};

/// Where messages come back.
pub(super) const ECHO: &str = "/.echo";

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(20);

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The bit of a message's last frame.
const FIN: u8 = 0x80;

const NORMAL: Seen = Seen::Closed(Some(1000));
const PROTOCOL: Seen = Seen::Closed(Some(1002));
const NOT_UTF8: Seen = Seen::Closed(Some(1007));
const TOO_LARGE: Seen = Seen::Closed(Some(1009));

/// What the peer sent.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// The end, with the code of the close frame if it had one.
    Closed(Option<u16>),
}

struct Running {
    peer: Peer,
    port: u16,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    _home: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(PeerConfig::default()).await
    }

    async fn start_with(config: PeerConfig) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, Token::generate(), config);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let serving = tokio::spawn(crate::server::serve(peer.clone(), vec![listener], std::future::pending()));
        Self { peer, port, serving, _home: home }
    }

    async fn stop(self) {
        self.peer.stop();
        let _ = tokio::time::timeout(TIMEOUT, self.serving).await;
    }

    async fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the peer listens");
        stream.set_nodelay(true).expect("a socket");
        let request = format!(
            "GET {ECHO} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.port
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole answer"));
        }
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the key of RFC 6455 §1.3: {head}");
        stream
    }

    /// Sends chunks, each with a write of its own, and collects what comes back until the end.
    async fn exchange(&self, chunks: &[Vec<u8>]) -> Vec<Seen> {
        let (reading, mut writing) = self.connect().await.into_split();
        let write = async {
            for chunk in chunks {
                // A peer that has closed already does not read the rest.
                if writing.write_all(chunk).await.is_err() {
                    break;
                }
            }
            writing
        };
        let both = async { tokio::join!(write, read_all(reading)).1 };
        tokio::time::timeout(TIMEOUT, both).await.expect("the peer ends the connection")
    }
}

async fn read_all(mut stream: tokio::net::tcp::OwnedReadHalf) -> Vec<Seen> {
    let mut seen = Vec::new();
    loop {
        match read_frame(&mut stream).await {
            Some((first, payload)) => seen.push(match first {
                0x81 => Seen::Text(payload),
                0x82 => Seen::Binary(payload),
                0x8a => Seen::Pong(payload),
                0x88 => {
                    let code = payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                    seen.push(Seen::Closed(code));
                    assert_eq!(read_frame(&mut stream).await, None, "a frame follows the close frame");
                    return seen;
                }
                other => panic!("unexpected frame {other:#x}"),
            }),
            None => {
                seen.push(Seen::Closed(None));
                return seen;
            }
        }
    }
}

/// The first byte and the payload of the next frame; `None` at the end of the connection.
async fn read_frame(stream: &mut tokio::net::tcp::OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let second = stream.read_u8().await.ok()?;
    assert!(second < 0x80, "frames to a client are not masked");
    let len = match second {
        126 => u64::from(stream.read_u16().await.ok()?),
        127 => stream.read_u64().await.ok()?,
        len => u64::from(len),
    };
    let mut payload = vec![0; usize::try_from(len).expect("small")];
    stream.read_exact(&mut payload).await.ok()?;
    Some((first, payload))
}

/// A frame as clients send it, with any first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![first];
    match payload.len() {
        len @ ..126 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// Each byte in a write of its own.
fn by_byte(frame: &[u8]) -> Vec<Vec<u8>> {
    frame.iter().map(|byte| vec![*byte]).collect()
}

/// Text whose characters have one to four bytes.
const KOSME: &[u8] = "κόσμε𝄞!".as_bytes();

fn text(payload: &[u8]) -> Seen {
    Seen::Text(payload.to_vec())
}

fn pong(payload: &[u8]) -> Seen {
    Seen::Pong(payload.to_vec())
}

/// What it is called, what is sent in pieces, and what is seen.
type Case<'a> = (&'a str, Vec<Vec<u8>>, Vec<Seen>);

/// Runs cases one after the other. Those that leave the socket open are closed as a client would.
async fn check(cases: Vec<Case<'_>>) {
    let running = Running::start().await;
    for (name, mut chunks, mut expected) in cases {
        if !expected.iter().any(|seen| matches!(seen, Seen::Closed(_))) {
            chunks.push(close(1000, b""));
            expected.push(NORMAL);
        }
        assert_eq!(running.exchange(&chunks).await, expected, "{name}");
    }
    running.stop().await;
}

#[tokio::test]
async fn sends_messages_back_whatever_their_length() {
    let mut cases = Vec::new();
    for len in [0, 125, 126, 127, 128, 65535, 65536] {
        let payload = vec![b'*'; len];
        cases.push(("1.1 text", vec![frame(FIN | TEXT, &payload)], vec![text(&payload)]));
        let payload = vec![0xfe; len];
        cases.push(("1.2 binary", vec![frame(FIN | BINARY, &payload)], vec![Seen::Binary(payload.clone())]));
        let chops = frame(FIN | BINARY, &payload).chunks(997).map(<[u8]>::to_vec).collect();
        cases.push(("1.2.8 chopped", chops, vec![Seen::Binary(payload)]));
    }
    cases.push(("by byte", by_byte(&frame(FIN | TEXT, KOSME)), vec![text(KOSME)]));
    check(cases).await;
}

#[tokio::test]
async fn answers_pings_in_order_and_takes_unasked_pongs() {
    let full = [0xfe; 125];
    let ten: Vec<Vec<u8>> = (0..10).map(|n| frame(FIN | PING, &[n])).collect();
    check(vec![
        ("2.1 empty", vec![frame(FIN | PING, b"")], vec![pong(b"")]),
        ("2.2 text", vec![frame(FIN | PING, b"Hello, world!")], vec![pong(b"Hello, world!")]),
        ("2.4 binary of 125", vec![frame(FIN | PING, &full)], vec![pong(&full)]),
        ("2.5 too long", vec![frame(FIN | PING, &[0xfe; 126])], vec![PROTOCOL]),
        ("2.6 by byte", by_byte(&frame(FIN | PING, &full)), vec![pong(&full)]),
        ("2.8 unasked pong", vec![frame(FIN | PONG, b"unasked")], vec![]),
        ("2.9 pong, ping", vec![frame(FIN | PONG, b"x"), frame(FIN | PING, b"y")], vec![pong(b"y")]),
        ("2.10 ten", vec![ten.concat()], (0..10).map(|n| pong(&[n])).collect()),
        ("2.11 ten by byte", by_byte(&ten.concat()), (0..10).map(|n| pong(&[n])).collect()),
        ("pong too long", vec![frame(FIN | PONG, &[0; 126])], vec![PROTOCOL]),
    ])
    .await;
}

#[tokio::test]
async fn refuses_reserved_bits_reserved_opcodes_and_unmasked_frames() {
    let hello = || frame(FIN | TEXT, b"hello");
    let mut cases = Vec::new();
    for bits in 1..8u8 {
        for opcode in [TEXT, BINARY, PING, PONG, CLOSE] {
            let bad = frame(FIN | bits << 4 | opcode, b"");
            cases.push(("3 reserved bits", vec![hello(), bad, frame(FIN | PING, b"")], vec![text(b"hello"), PROTOCOL]));
        }
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [&b""[..], b"reserved"] {
            let bad = frame(FIN | opcode, payload);
            cases.push(("4 reserved opcode", vec![hello(), bad, frame(FIN | PING, b"")], vec![text(b"hello"), PROTOCOL]));
        }
    }
    cases.push(("unmasked", vec![vec![FIN | TEXT, 2, b'h', b'i']], vec![PROTOCOL]));
    check(cases).await;
}

#[tokio::test]
async fn puts_fragments_together_and_refuses_stray_ones() {
    let first = || frame(TEXT, b"frag");
    let last = || frame(FIN | CONTINUATION, b"ment");
    let ping = || frame(FIN | PING, b"ping");
    let whole = || text(b"fragment");
    let empty = || frame(CONTINUATION, b"");
    check(vec![
        ("5.1 fragmented ping", vec![frame(PING, b"a"), frame(FIN | CONTINUATION, b"b")], vec![PROTOCOL]),
        ("5.2 fragmented pong", vec![frame(PONG, b"a"), frame(FIN | CONTINUATION, b"b")], vec![PROTOCOL]),
        ("fragmented close", vec![frame(CLOSE, &1000u16.to_be_bytes())], vec![PROTOCOL]),
        ("5.3 two", vec![first(), last()], vec![whole()]),
        ("5.4 two in one write", vec![[first(), last()].concat()], vec![whole()]),
        ("5.5 two by byte", by_byte(&[first(), last()].concat()), vec![whole()]),
        ("5.6 ping between", vec![first(), ping(), last()], vec![pong(b"ping"), whole()]),
        ("5.8 ping between, by byte", by_byte(&[first(), ping(), last()].concat()), vec![pong(b"ping"), whole()]),
        ("5.9 nothing to continue", vec![last(), frame(FIN | TEXT, b"x")], vec![PROTOCOL]),
        ("5.12 nothing to continue", vec![frame(CONTINUATION, b"x"), frame(FIN | TEXT, b"x")], vec![PROTOCOL]),
        ("5.15 continued twice", vec![first(), last(), frame(CONTINUATION, b"x")], vec![whole(), PROTOCOL]),
        ("5.18 begun twice", vec![first(), frame(FIN | TEXT, b"x")], vec![PROTOCOL]),
        ("begun twice with another kind", vec![first(), frame(FIN | BINARY, b"x")], vec![PROTOCOL]),
        ("5.19 pings between five", vec![first(), empty(), ping(), empty(), ping(), last()], vec![pong(b"ping"), pong(b"ping"), whole()]),
        ("6.1.2 empty ones", vec![frame(TEXT, b""), empty(), frame(FIN | CONTINUATION, b"")], vec![text(b"")]),
        ("6.1.3 almost empty ones", vec![frame(TEXT, b""), frame(CONTINUATION, b"x"), frame(FIN | CONTINUATION, b"")], vec![text(b"x")]),
        ("7.1.6 closed inside", vec![frame(BINARY, &[0; 262_144]), close(1000, b"")], vec![NORMAL]),
    ])
    .await;
}

#[tokio::test]
async fn refuses_text_that_is_not_utf8_as_soon_as_it_is_seen() {
    let mut cases = vec![
        ("6.2.1 valid", vec![frame(FIN | TEXT, KOSME)], vec![text(KOSME)]),
        ("6.3.1 surrogate", vec![frame(FIN | TEXT, b"\xce\xba\xed\xa0\x80edited")], vec![NOT_UTF8]),
        ("6.4.1 second of three fragments", vec![frame(TEXT, KOSME), frame(CONTINUATION, b"\xf4\x90\x80\x80")], vec![NOT_UTF8]),
        ("6.4.2 cut inside the character", vec![frame(TEXT, b"\xce\xba\xf4"), frame(CONTINUATION, b"\x90")], vec![NOT_UTF8]),
        ("6.6.1 half a character at the end", vec![frame(FIN | TEXT, b"\xce")], vec![NOT_UTF8]),
        ("half a character in the last fragment", vec![frame(TEXT, b"a"), frame(FIN | CONTINUATION, b"\xe1\xbd")], vec![NOT_UTF8]),
        ("binary may be anything", vec![frame(FIN | BINARY, b"\xff\xfe")], vec![Seen::Binary(b"\xff\xfe".to_vec())]),
    ];
    // 6.2.3: every way to cut a text into fragments of one byte.
    let last = KOSME.len() - 1;
    let pieces = KOSME.iter().enumerate().map(|(at, byte)| {
        let opcode = if at == 0 { TEXT } else { CONTINUATION };
        frame(opcode | if at == last { FIN } else { 0 }, &[*byte])
    });
    cases.push(("6.2.3 fragments of one byte", pieces.collect(), vec![text(KOSME)]));
    // 6.5 to 6.22: the borders of what is a character.
    for good in
        ["\0", "\u{7f}", "\u{80}", "\u{7ff}", "\u{800}", "\u{d7ff}", "\u{e000}", "\u{fdd0}", "\u{fffe}", "\u{ffff}", "\u{10000}", "\u{10ffff}"]
    {
        cases.push(("6.7 and on: valid", vec![frame(FIN | TEXT, good.as_bytes())], vec![text(good.as_bytes())]));
    }
    let bad: [&[u8]; 16] = [
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xc3",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfe",
        b"\xff",
    ];
    for bytes in bad {
        cases.push(("6.14 and on: invalid", vec![frame(FIN | TEXT, bytes)], vec![NOT_UTF8]));
    }
    check(cases).await;
}

#[tokio::test]
async fn closes_as_it_was_closed() {
    let full = vec![b'*'; 123];
    let mut cases = vec![
        ("7.1.1 after a message", vec![frame(FIN | TEXT, b"x"), close(1000, b"")], vec![text(b"x"), NORMAL]),
        ("7.1.2 twice", vec![close(1000, b""), close(1000, b"")], vec![NORMAL]),
        ("7.1.3 then a ping", vec![close(1000, b""), frame(FIN | PING, b"")], vec![NORMAL]),
        ("7.1.4 then a text", vec![close(1000, b""), frame(FIN | TEXT, b"x")], vec![NORMAL]),
        ("7.3.1 without code", vec![frame(FIN | CLOSE, b"")], vec![Seen::Closed(None)]),
        ("7.3.2 half a code", vec![frame(FIN | CLOSE, b"\x03")], vec![PROTOCOL]),
        ("7.3.4 reason", vec![close(1000, b"Hello World!")], vec![NORMAL]),
        ("7.3.5 longest reason", vec![close(1000, &full)], vec![NORMAL]),
        ("7.3.6 longer reason", vec![close(1000, &[b'*'; 124])], vec![PROTOCOL]),
        ("7.5.1 reason is not UTF-8", vec![close(1000, b"\xce\xba\xed\xa0\x80")], vec![NOT_UTF8]),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push(("7.7 valid code", vec![close(code, b"")], vec![Seen::Closed(Some(code))]));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push(("7.9 invalid code", vec![close(code, b"")], vec![PROTOCOL]));
    }
    check(cases).await;
}

#[tokio::test]
async fn takes_large_messages_and_refuses_larger_ones() {
    let large = vec![b'*'; MESSAGE_BYTES_MAX];
    let fragments = |len: usize| -> Vec<Vec<u8>> {
        let count = large.len().div_ceil(len);
        large
            .chunks(len)
            .enumerate()
            .map(|(at, chunk)| frame(if at == 0 { BINARY } else { CONTINUATION } | if at + 1 == count { FIN } else { 0 }, chunk))
            .collect()
    };
    let mut claims_much = vec![FIN | BINARY, 0x80 | 127];
    claims_much.extend_from_slice(&u64::MAX.to_be_bytes());
    claims_much.extend_from_slice(&[0; 4]);
    let mut too_many = fragments(1 << 20);
    if let Some(last) = too_many.last_mut() {
        last[0] = CONTINUATION;
    }
    too_many.push(frame(FIN | CONTINUATION, b"x"));
    check(vec![
        ("9.1.6 text of 16 MiB", vec![frame(FIN | TEXT, &large)], vec![text(&large)]),
        ("9.4 fragments of 4 KiB", fragments(4096), vec![Seen::Binary(large.clone())]),
        ("one byte more", vec![frame(FIN | BINARY, &vec![0; MESSAGE_BYTES_MAX + 1])], vec![TOO_LARGE]),
        ("one byte more in fragments", too_many, vec![TOO_LARGE]),
        ("a length that nobody has", vec![claims_much], vec![TOO_LARGE]),
    ])
    .await;
}

/// A message in fragments of one length.
fn fragments(kind: u8, payload: &[u8], len: usize) -> Vec<Vec<u8>> {
    let last = payload.len().div_ceil(len).max(1) - 1;
    let pieces = payload.chunks(len).enumerate();
    pieces.map(|(at, chunk)| frame(if at == 0 { kind } else { CONTINUATION } | if at == last { FIN } else { 0 }, chunk)).collect()
}

/// Whoever takes nothing of what waits for him is gone, or wants the peer to keep it for ever.
#[tokio::test]
async fn who_takes_nothing_for_the_time_of_a_heartbeat_is_let_go() {
    let running = Running::start_with(PeerConfig { heartbeat_s: 1, ..PeerConfig::default() }).await;
    let mut stream = running.connect().await;
    let large = frame(FIN | BINARY, &vec![7; MESSAGE_BYTES_MAX]);
    // More than systems keep for both sides; nothing of what comes back is read.
    let write = async { while stream.write_all(&large).await.is_ok() {} };
    tokio::time::timeout(TIMEOUT, write).await.expect("the peer ends the connection");
    running.stop().await;
}

/// The suite's performance cases as what they say beside numbers: whatever the fragments and the pieces on the wire, the
/// same message comes back.
#[tokio::test]
async fn length_fragments_and_pieces_do_not_change_a_message() {
    // Characters of two bytes, so that fragments and pieces cut through some.
    let long = "ä".repeat(512 * 1024).into_bytes();
    let mut cases = Vec::new();
    for len in [64 * 1024, 256 * 1024, 1024 * 1024] {
        cases.push(("9.1 text", vec![frame(FIN | TEXT, &long[..len])], vec![text(&long[..len])]));
        cases.push(("9.2 binary", vec![frame(FIN | BINARY, &long[..len])], vec![Seen::Binary(long[..len].to_vec())]));
    }
    for len in [63, 256, 1023, 4096, 16_383, 65_536, 262_143] {
        cases.push(("9.3 text in fragments", vec![fragments(TEXT, &long, len).concat()], vec![text(&long)]));
        cases.push(("9.4 binary in fragments", vec![fragments(BINARY, &long, len).concat()], vec![Seen::Binary(long.clone())]));
    }
    for len in [61, 128, 257, 512, 1021, 2048] {
        let pieces = |kind: u8| frame(FIN | kind, &long[..256 * 1024]).chunks(len).map(<[u8]>::to_vec).collect::<Vec<_>>();
        cases.push(("9.5 text in pieces", pieces(TEXT), vec![text(&long[..256 * 1024])]));
        cases.push(("9.6 binary in pieces", pieces(BINARY), vec![Seen::Binary(long[..256 * 1024].to_vec())]));
    }
    for len in [0, 16, 64, 256, 1024, 4096] {
        let many = |kind: u8| (0..300).map(|_| frame(FIN | kind, &long[..len])).collect::<Vec<_>>();
        cases.push(("9.7 many texts", many(TEXT), vec![text(&long[..len]); 300]));
        cases.push(("9.8 many binaries", vec![many(BINARY).concat()], vec![Seen::Binary(long[..len].to_vec()); 300]));
    }
    cases.push(("10.1.1 fragments of 1 300", fragments(TEXT, &[b'*'; 65_536], 1300), vec![text(&[b'*'; 65_536])]));
    check(cases).await;
}

/// 6.2.4 and on: a text of all lengths of characters, cut into two fragments and into two pieces at every place.
#[tokio::test]
async fn a_text_may_be_cut_anywhere() {
    let whole = "a\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}z".as_bytes();
    let mut cases = Vec::new();
    for at in 0..=whole.len() {
        let (head, tail) = whole.split_at(at);
        cases.push(("two fragments", vec![frame(TEXT, head), frame(FIN | CONTINUATION, tail)], vec![text(whole)]));
        let sent = frame(FIN | TEXT, whole);
        let (head, tail) = sent.split_at(at + 1);
        cases.push(("two pieces", vec![head.to_vec(), tail.to_vec()], vec![text(whole)]));
    }
    // The same without the last byte of a character, which only the end of the message shows.
    for at in [2, 4, 7, 10, 14] {
        cases.push(("a character cut off", vec![frame(FIN | TEXT, &whole[..at])], vec![NOT_UTF8]));
    }
    check(cases).await;
}

/// The Autobahn test suite, which needs Python 2.7 (`pip install autobahntestsuite==0.8.2`). `TIMEBUS_WSTEST` is the
/// program `wstest`, which `.ci/run` installs; `TIMEBUS_WSTEST_CASES` may name fewer cases, as in `1.*,6.4.*`.
#[tokio::test(flavor = "multi_thread")]
async fn passes_the_autobahn_test_suite() {
    let Some(program) = std::env::var_os("TIMEBUS_WSTEST") else {
        eprintln!("skipped: no TIMEBUS_WSTEST");
        return;
    };
    let running = Running::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases = std::env::var("TIMEBUS_WSTEST_CASES").unwrap_or_else(|_| "*".to_owned());
    let spec = serde_json::json!({
        "outdir": folder.path().join("reports"),
        "servers": [{ "agent": "timebus", "url": format!("ws://127.0.0.1:{}{ECHO}", running.port) }],
        "cases": cases.split(',').collect::<Vec<_>>(),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    let file = folder.path().join("spec.json");
    std::fs::write(&file, spec.to_string()).expect("written");
    let status = tokio::task::spawn_blocking(move || {
        std::process::Command::new(program).arg("-m").arg("fuzzingclient").arg("-s").arg(file).stdout(std::process::Stdio::null()).status()
    });
    let status = status.await.expect("no panic").expect("wstest runs");
    assert!(status.success(), "{status}");
    running.stop().await;
    let (counts, failed) = read_report(&folder.path().join("reports/index.json"));
    eprintln!("{counts:?}");
    assert!(failed.is_empty(), "{failed:#?}");
}

/// How many cases ended how, and those that should not have.
fn read_report(file: &Path) -> (std::collections::BTreeMap<String, usize>, Vec<String>) {
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("a report")).expect("JSON");
    let mut counts = std::collections::BTreeMap::new();
    let mut failed = Vec::new();
    for (case, result) in report["timebus"].as_object().expect("our results") {
        let how = |name: &str| result[name].as_str().expect("a text").to_owned();
        let (behavior, ending) = (how("behavior"), how("behaviorClose"));
        // Compression is an extension that the peer does not offer; without it these cases are not run.
        let compression = case.starts_with("12.") || case.starts_with("13.");
        let good = match behavior.as_str() {
            "OK" | "INFORMATIONAL" => ending == "OK" || ending == "INFORMATIONAL",
            // 6.4.3 and 6.4.4 would like a text refused before its frame is there as a whole.
            "NON-STRICT" => case.starts_with("6.4."),
            "UNIMPLEMENTED" => compression,
            _ => false,
        };
        if !good {
            failed.push(format!("{case}: {behavior}, {ending}"));
        }
        *counts.entry(behavior).or_default() += 1;
    }
    (counts, failed)
}
