//! HTTP/2 as clients must not speak it: raw frames against a real peer.
//!
//! Most cases are the ones of h2spec 2.6, under the section of RFC 9113 (or 7541) that they come from; the floods are
//! attacks that have names. After each of them an honest client is answered.

use std::time::Duration;

use timebus_identity::Token;
use timebus_net::peer::{Peer, PeerConfig};
use timebus_store::store::{Config, Store, lock_home};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(20);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const NONE: u8 = 0;
/// Of SETTINGS and PING.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
/// Of a request without a body.
const WHOLE: u8 = END_STREAM | END_HEADERS;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Payload of the ping that follows what should be harmless, or end the connection.
const STILL_HERE: [u8; 8] = *b"stillon?";
/// Stream of the request that follows what should harm one stream only. Resets go out before its answer, not before
/// the answer to a ping.
const LAST_STREAM: u32 = 10_001;

struct Running {
    peer: Peer,
    port: u16,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    _home: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, Token::generate(), PeerConfig::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let serving = tokio::spawn(timebus_net::server::serve(peer.clone(), vec![listener], std::future::pending()));
        Self { peer, port, serving, _home: home }
    }

    async fn stop(self) {
        self.peer.stop();
        let _ = tokio::time::timeout(TIMEOUT, self.serving).await;
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the peer listens");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    /// A connection on which both sides have sent their settings.
    async fn open(&self) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(&[PREFACE, &frame(SETTINGS, NONE, 0, b"")].concat()).await.expect("written");
        loop {
            match read_frame(&mut stream).await.expect("settings") {
                Frame { kind: SETTINGS, flags: ACK, .. } => return stream,
                Frame { kind: SETTINGS, .. } => stream.write_all(&frame(SETTINGS, ACK, 0, b"")).await.expect("written"),
                _ => {}
            }
        }
    }

    /// The head of a request for the status, with more fields behind it.
    fn head(&self, more: &[u8]) -> Vec<u8> {
        [&[0x82, 0x86][..], &self.path_and_authority(), more].concat()
    }

    /// The head of a request that waits for a body.
    fn put(&self, more: &[u8]) -> Vec<u8> {
        [&field(2, "PUT")[..], &[0x86], &field(4, "/a"), &field(1, &format!("127.0.0.1:{}", self.port)), more].concat()
    }

    fn path_and_authority(&self) -> Vec<u8> {
        [field(4, "/.sys/status"), field(1, &format!("127.0.0.1:{}", self.port))].concat()
    }

    /// An honest request is answered.
    async fn honest(&self) {
        let asking = async {
            let mut stream = self.open().await;
            stream.write_all(&frame(HEADERS, WHOLE, 1, &self.head(b""))).await.expect("written");
            loop {
                let frame = read_frame(&mut stream).await.expect("an answer");
                if frame.kind == HEADERS {
                    assert_eq!(frame.payload.first(), Some(&0x88), "status 200: {frame:?}");
                    return;
                }
            }
        };
        tokio::time::timeout(TIMEOUT, asking).await.expect("the peer is alive");
    }

    /// What becomes of a connection that sends this and `last` behind it.
    async fn end_of(&self, bytes: &[u8], last: &[u8]) -> End {
        let ending = async {
            let (mut reading, mut writing) = self.open().await.into_split();
            let write = async {
                // The peer may hang up before everything is sent.
                let _ = writing.write_all(bytes).await;
                let _ = writing.write_all(last).await;
                writing
            };
            tokio::join!(write, read_end(&mut reading)).1
        };
        tokio::time::timeout(TIMEOUT, ending).await.expect("the peer does something about it")
    }
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The peer says goodbye with an error.
    Away(u32),
    /// The peer resets a stream.
    Reset(u32),
    /// The peer refuses the request: the class of the status.
    Refused,
    /// The peer answers what was sent last: it did not mind.
    Fine,
    /// The peer just hangs up.
    Closed,
}

async fn read_frame(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(len).expect("24 bits")];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind: head[3], flags: head[4], stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload })
}

async fn read_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> End {
    while let Some(frame) = read_frame(stream).await {
        let code = |at: usize| frame.payload[at..].first_chunk::<4>().map_or(0, |code| u32::from_be_bytes(*code));
        match frame.kind {
            GOAWAY if code(4) != 0 => return End::Away(code(4)),
            RST_STREAM if code(0) != 0 => return End::Reset(code(0)),
            PING if frame.flags == ACK && frame.payload == STILL_HERE => return End::Fine,
            HEADERS if frame.stream == LAST_STREAM => return End::Fine,
            // 200 is one byte; 201 and 204 are the other statuses that are no refusal.
            HEADERS if !matches!(frame.payload.first(), Some(0x88 | 0x89)) => return End::Refused,
            _ => {}
        }
    }
    End::Closed
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field with a name from the static table, not to be remembered.
fn field(name: u8, value: &str) -> Vec<u8> {
    [&[name, u8::try_from(value.len()).expect("short")], value.as_bytes()].concat()
}

/// A header field with a name of its own.
fn named(name: &str, value: &str) -> Vec<u8> {
    [&[0, u8::try_from(name.len()).expect("short")], name.as_bytes(), &[u8::try_from(value.len()).expect("short")], value.as_bytes()].concat()
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// What the RFC asks for.
enum Expected {
    /// Error of the whole connection, with one of these codes or, as h2 likes it, the general one.
    Connection(&'static [u32]),
    /// Error of one stream: a reset, or more than that. A malformed request may be answered with a status.
    Stream(&'static [u32]),
    /// Nothing happens.
    Fine,
}
use Expected::{Connection, Fine, Stream};

async fn check(running: Running, cases: Vec<(&str, Vec<u8>, Expected)>) {
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases {
        let last = match expected {
            Stream(_) => frame(HEADERS, WHOLE, LAST_STREAM, &running.head(b"")),
            Connection(_) | Fine => frame(PING, NONE, 0, &STILL_HERE),
        };
        let end = running.end_of(&bytes, &last).await;
        let good = match (&expected, end) {
            (Connection(codes), End::Away(code)) => codes.contains(&code) || code == PROTOCOL_ERROR,
            (Stream(codes), End::Away(code)) => codes.contains(&code) || code == PROTOCOL_ERROR,
            (Stream(codes), End::Reset(code)) => codes.contains(&code),
            (Stream(_), End::Refused) => true,
            (Fine, End::Fine) => true,
            _ => false,
        };
        if !good {
            wrong.push(format!("{name}: {end:?}"));
        }
        running.honest().await;
    }
    running.stop().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_bad_preface_is_no_http2() {
    let running = Running::start().await;
    for bad in [&b"INVALID CONNECTION PREFACE\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        let mut stream = running.connect().await;
        stream.write_all(bad).await.expect("written");
        let mut answer = Vec::new();
        let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer))
            .await
            .unwrap_or_else(|_| panic!("the peer does not hang up on {:?}: {answer:?}", String::from_utf8_lossy(bad)));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(read.is_err() || answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.contains("\0\0\0\x01"), "{answer:?}");
        running.honest().await;
    }
    // §3.4: what follows the preface is SETTINGS.
    let mut stream = running.connect().await;
    stream.write_all(&[PREFACE, &frame(PING, NONE, 0, &STILL_HERE)].concat()).await.expect("written");
    let end = tokio::time::timeout(TIMEOUT, read_end(&mut stream)).await.expect("the peer hangs up");
    assert!(matches!(end, End::Away(PROTOCOL_ERROR) | End::Closed | End::Fine), "{end:?}");
    drop(stream);
    running.stop().await;
}

#[tokio::test]
async fn takes_what_it_need_not_know() {
    let running = Running::start().await;
    let head = running.head(b"");
    let cases = vec![
        ("4.1 unknown frame", frame(0x16, 0xff, 0, b"whatever"), Fine),
        ("4.1 unknown flags", frame(PING, 0x16, 0, &[1; 8]), Fine),
        ("4.1 reserved bit", frame(PING, NONE, 1 << 31, &[1; 8]), Fine),
        ("6.5.2 unknown setting", frame(SETTINGS, NONE, 0, &setting(0xff, 1)), Fine),
        ("6.5.3 many settings", frame(SETTINGS, NONE, 0, &[setting(4, 100), setting(4, 1)].concat()), Fine),
        ("6.7 answer to no ping", frame(PING, ACK, 0, &[1; 8]), Fine),
        ("6.3 priority of an idle stream", frame(PRIORITY, NONE, 5, &[0, 0, 0, 3, 16]), Fine),
        ("5.1 priority of a closed stream", [frame(HEADERS, WHOLE, 1, &head), frame(PRIORITY, NONE, 1, &[0, 0, 0, 3, 16])].concat(), Fine),
        ("5.1 window of a closed stream", [frame(HEADERS, WHOLE, 1, &head), frame(WINDOW_UPDATE, NONE, 1, &[0, 0, 0, 1])].concat(), Fine),
        ("6.2 padded and prioritised", frame(HEADERS, WHOLE | PADDED | WITH_PRIORITY, 1, &[&[3, 0, 0, 0, 0, 16][..], &head, &[0; 3]].concat()), Fine),
        (
            "6.10 head in parts",
            [frame(HEADERS, END_STREAM, 1, &head[..5]), frame(CONTINUATION, NONE, 1, &head[5..9]), frame(CONTINUATION, END_HEADERS, 1, &head[9..])]
                .concat(),
            Fine,
        ),
    ];
    check(running, cases).await;
}

#[tokio::test]
async fn refuses_frames_of_a_wrong_size() {
    let running = Running::start().await;
    let head = running.head(b"");
    let open = |bytes: Vec<u8>| [frame(HEADERS, END_HEADERS, 1, &running.put(b"")), bytes].concat();
    let cases = vec![
        ("4.2 DATA", open(frame(DATA, NONE, 1, &[0; 16_385])), Stream(&[FRAME_SIZE_ERROR])),
        ("4.2 HEADERS", frame(HEADERS, WHOLE, 1, &[&head[..], &[0x40; 16_384]].concat()), Connection(&[FRAME_SIZE_ERROR])),
        ("4.2 a length that nobody has", [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 100]].concat(), Connection(&[FRAME_SIZE_ERROR])),
        ("6.3 PRIORITY", [frame(PRIORITY, NONE, 1, &[0; 4])].concat(), Stream(&[FRAME_SIZE_ERROR])),
        ("6.4 RST_STREAM", open(frame(RST_STREAM, NONE, 1, &[0; 3])), Connection(&[FRAME_SIZE_ERROR])),
        ("6.5 SETTINGS", frame(SETTINGS, NONE, 0, &[0; 3]), Connection(&[FRAME_SIZE_ERROR])),
        ("6.5 acknowledged SETTINGS", frame(SETTINGS, ACK, 0, &[0]), Connection(&[FRAME_SIZE_ERROR])),
        ("6.7 PING", frame(PING, NONE, 0, &[0; 6]), Connection(&[FRAME_SIZE_ERROR])),
        ("6.9 WINDOW_UPDATE", frame(WINDOW_UPDATE, NONE, 0, &[0, 0, 1]), Connection(&[FRAME_SIZE_ERROR])),
    ];
    check(running, cases).await;
}

#[tokio::test]
async fn refuses_frames_on_a_wrong_stream() {
    let running = Running::start().await;
    let head = running.head(b"");
    let put = || frame(HEADERS, END_HEADERS, 1, &running.put(b""));
    let whole = |stream| frame(HEADERS, WHOLE, stream, &head);
    let reset = || frame(RST_STREAM, NONE, 1, &CANCEL.to_be_bytes());
    let window = |stream| frame(WINDOW_UPDATE, NONE, stream, &[0, 0, 0, 1]);
    let many = (0..600).map(|n| frame(HEADERS, END_HEADERS, 1 + 2 * n, &running.put(b""))).collect::<Vec<_>>().concat();
    let cases = vec![
        ("5.1 DATA, idle", frame(DATA, END_STREAM, 1, b"x"), Connection(&[PROTOCOL_ERROR])),
        ("5.1 RST_STREAM, idle", reset(), Connection(&[PROTOCOL_ERROR])),
        ("5.1 WINDOW_UPDATE, idle", window(1), Connection(&[PROTOCOL_ERROR])),
        ("5.1 CONTINUATION, idle", frame(CONTINUATION, END_HEADERS, 1, &head), Connection(&[PROTOCOL_ERROR])),
        ("5.1 DATA, half closed", [whole(1), frame(DATA, END_STREAM, 1, b"x")].concat(), Stream(&[STREAM_CLOSED])),
        ("5.1 HEADERS, half closed", [whole(1), whole(1)].concat(), Stream(&[STREAM_CLOSED, PROTOCOL_ERROR])),
        ("5.1 CONTINUATION, half closed", [whole(1), frame(CONTINUATION, END_HEADERS, 1, &head)].concat(), Connection(&[PROTOCOL_ERROR])),
        ("5.1 DATA, reset", [put(), reset(), frame(DATA, END_STREAM, 1, b"x")].concat(), Stream(&[STREAM_CLOSED])),
        ("5.1 HEADERS, reset", [put(), reset(), whole(1)].concat(), Stream(&[STREAM_CLOSED, PROTOCOL_ERROR])),
        ("5.1 CONTINUATION, reset", [put(), reset(), frame(CONTINUATION, END_HEADERS, 1, &head)].concat(), Connection(&[PROTOCOL_ERROR])),
        ("5.1.1 even", whole(2), Connection(&[PROTOCOL_ERROR])),
        ("5.1.1 smaller than before", [whole(5), whole(3)].concat(), Connection(&[PROTOCOL_ERROR, STREAM_CLOSED])),
        ("5.1.2 too many at once", many, Stream(&[PROTOCOL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM])),
        ("6.1 DATA on 0", frame(DATA, END_STREAM, 0, b"x"), Connection(&[PROTOCOL_ERROR])),
        ("6.2 HEADERS on 0", whole(0), Connection(&[PROTOCOL_ERROR])),
        ("6.3 PRIORITY on 0", frame(PRIORITY, NONE, 0, &[0, 0, 0, 1, 16]), Connection(&[PROTOCOL_ERROR])),
        ("6.4 RST_STREAM on 0", frame(RST_STREAM, NONE, 0, &[0, 0, 0, 8]), Connection(&[PROTOCOL_ERROR])),
        ("6.5 SETTINGS on 1", frame(SETTINGS, NONE, 1, &setting(3, 1)), Connection(&[PROTOCOL_ERROR])),
        ("6.7 PING on 1", frame(PING, NONE, 1, &[0; 8]), Connection(&[PROTOCOL_ERROR])),
        ("6.8 GOAWAY on 1", frame(GOAWAY, NONE, 1, &[0; 8]), Connection(&[PROTOCOL_ERROR])),
        (
            "6.10 CONTINUATION on 0",
            [frame(HEADERS, END_STREAM, 1, &head[..5]), frame(CONTINUATION, END_HEADERS, 0, &head[5..])].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        ("8.4 a push by a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &head].concat()), Connection(&[PROTOCOL_ERROR])),
    ];
    check(running, cases).await;
}

#[tokio::test]
async fn refuses_heads_that_are_interrupted_or_unreadable() {
    let running = Running::start().await;
    let head = running.head(b"");
    let begun = || frame(HEADERS, END_STREAM, 1, &head[..5]);
    let behind = |bytes: Vec<u8>| [begun(), bytes].concat();
    let block = |block: &[u8]| frame(HEADERS, WHOLE, 1, block);
    let with = |more: &[u8]| block(&running.head(more));
    let cases = vec![
        ("4.3 PRIORITY between", behind(frame(PRIORITY, NONE, 1, &[0, 0, 0, 3, 16])), Connection(&[PROTOCOL_ERROR])),
        ("4.3 HEADERS of another between", behind(frame(HEADERS, WHOLE, 3, &head)), Connection(&[PROTOCOL_ERROR])),
        ("6.2 DATA between", behind(frame(DATA, END_STREAM, 1, b"x")), Connection(&[PROTOCOL_ERROR])),
        ("5.5 unknown frame between", behind(frame(0x16, NONE, 1, b"x")), Connection(&[PROTOCOL_ERROR])),
        ("6.10 CONTINUATION of another between", behind(frame(CONTINUATION, END_HEADERS, 3, &head[5..])), Connection(&[PROTOCOL_ERROR])),
        (
            "6.10 CONTINUATION behind the end",
            [frame(HEADERS, END_HEADERS, 1, &running.put(b"")), frame(CONTINUATION, END_HEADERS, 1, &head)].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "6.1 more padding than frame",
            [frame(HEADERS, END_HEADERS, 1, &running.put(b"")), frame(DATA, END_STREAM | PADDED, 1, &[9, 1, 2])].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        ("6.2 more padding than frame", frame(HEADERS, WHOLE | PADDED, 1, &[&[200][..], &head].concat()), Connection(&[PROTOCOL_ERROR])),
        ("5.3.1 depends on itself", frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &[&[0, 0, 0, 1, 16][..], &head].concat()), Stream(&[PROTOCOL_ERROR])),
        ("HPACK 2.3.3 index beyond the tables", with(&[0xc6]), Connection(&[COMPRESSION_ERROR])),
        ("HPACK 2.3.3 name beyond the tables", with(&[0x7e, 1, b'x']), Connection(&[COMPRESSION_ERROR])),
        ("HPACK 4.2 table size behind fields", with(&[0x21]), Connection(&[COMPRESSION_ERROR])),
        ("HPACK 5.1 endless number", with(&[&[0xff][..], &[0xff; 12]].concat()), Connection(&[COMPRESSION_ERROR])),
        ("HPACK 5.2 long padding", with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"), Connection(&[COMPRESSION_ERROR])),
        ("HPACK 5.2 padding of zeros", with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"), Connection(&[COMPRESSION_ERROR])),
        ("HPACK 5.2 end of string", with(b"\x00\x85\xf2\xb2\x4a\x87\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"), Connection(&[COMPRESSION_ERROR])),
        ("HPACK 6.1 index 0", with(&[0x80]), Connection(&[COMPRESSION_ERROR])),
        ("HPACK 6.3 table larger than allowed", block(&[&[0x3f, 0xe1, 0xff, 0x3f][..], &head].concat()), Connection(&[COMPRESSION_ERROR])),
        ("HPACK cut inside a field", with(&[0x00, 0x05, b'x']), Connection(&[COMPRESSION_ERROR])),
    ];
    check(running, cases).await;
}

#[tokio::test]
async fn refuses_malformed_requests() {
    let running = Running::start().await;
    let rest = running.path_and_authority();
    let request = |fields: &[&[u8]]| frame(HEADERS, WHOLE, 1, &fields.concat());
    let with = |more: Vec<u8>| frame(HEADERS, WHOLE, 1, &running.head(&more));
    let body = |length: &str, data: Vec<u8>| [frame(HEADERS, END_HEADERS, 1, &running.put(&named("content-length", length))), data].concat();
    let trailers = |flags, fields: Vec<u8>| [frame(HEADERS, END_HEADERS, 1, &running.put(b"")), frame(HEADERS, flags, 1, &fields)].concat();
    let cases = vec![
        ("8.1 trailers that do not end", trailers(END_HEADERS, named("x", "y")), Stream(&[PROTOCOL_ERROR])),
        ("8.2.1 upper case", with(named("X-Upper", "x")), Stream(&[PROTOCOL_ERROR])),
        ("8.2.1 line break in a value", with(named("x", "a\r\nb: c")), Stream(&[PROTOCOL_ERROR])),
        ("8.2.1 NUL in a value", with(named("x", "a\0b")), Stream(&[PROTOCOL_ERROR])),
        ("8.2.1 colon in a name", with(named("x:y", "a")), Stream(&[PROTOCOL_ERROR])),
        ("8.2.2 connection", with(named("connection", "keep-alive")), Stream(&[PROTOCOL_ERROR])),
        ("8.2.2 transfer-encoding", with(named("transfer-encoding", "chunked")), Stream(&[PROTOCOL_ERROR])),
        ("8.2.2 te", with(named("te", "trailers, deflate")), Stream(&[PROTOCOL_ERROR])),
        ("8.3 unknown pseudo field", with(named(":test", "x")), Stream(&[PROTOCOL_ERROR])),
        ("8.3 pseudo field of answers", with(vec![0x88]), Stream(&[PROTOCOL_ERROR])),
        ("8.3 pseudo field in trailers", trailers(WHOLE, vec![0x82]), Stream(&[PROTOCOL_ERROR])),
        ("8.3 pseudo field behind others", request(&[&[0x82, 0x86], &named("x", "y"), &rest]), Stream(&[PROTOCOL_ERROR])),
        ("8.3.1 empty path", request(&[&[0x82, 0x86], &field(4, "")]), Stream(&[PROTOCOL_ERROR])),
        ("8.3.1 no method", request(&[&[0x86], &rest]), Stream(&[PROTOCOL_ERROR])),
        ("8.3.1 no scheme", request(&[&[0x82], &rest]), Stream(&[PROTOCOL_ERROR])),
        ("8.3.1 no path", request(&[&[0x82, 0x86]]), Stream(&[PROTOCOL_ERROR])),
        ("8.3.1 two methods", request(&[&[0x82, 0x82, 0x86], &rest]), Stream(&[PROTOCOL_ERROR])),
        ("8.3.1 two schemes", request(&[&[0x82, 0x86, 0x86], &rest]), Stream(&[PROTOCOL_ERROR])),
        ("8.3.1 two paths", request(&[&[0x82, 0x86, 0x84], &rest]), Stream(&[PROTOCOL_ERROR])),
        ("two authorities", with(named("host", "evil.example")), Stream(&[PROTOCOL_ERROR])),
        ("no authority", request(&[&[0x82, 0x86, 0x84]]), Stream(&[PROTOCOL_ERROR])),
        ("8.1.1 shorter than content-length", body("5", frame(DATA, END_STREAM, 1, b"abc")), Stream(&[PROTOCOL_ERROR])),
        (
            "8.1.1 longer than content-length",
            body("1", [frame(DATA, NONE, 1, b"ab"), frame(DATA, END_STREAM, 1, b"c")].concat()),
            Stream(&[PROTOCOL_ERROR]),
        ),
        ("content-length is no number", body("-1", frame(DATA, END_STREAM, 1, b"a")), Stream(&[PROTOCOL_ERROR])),
    ];
    check(running, cases).await;
}

#[tokio::test]
async fn refuses_bad_settings_and_windows() {
    let running = Running::start().await;
    let settings = |id, value| frame(SETTINGS, NONE, 0, &setting(id, value));
    let window = |stream, more: u32| frame(WINDOW_UPDATE, NONE, stream, &more.to_be_bytes());
    let max = (1 << 31) - 1;
    let open = |bytes: Vec<u8>| [frame(HEADERS, END_HEADERS, 1, &running.put(b"")), bytes].concat();
    let cases = vec![
        ("6.5.2 ENABLE_PUSH", settings(2, 2), Connection(&[PROTOCOL_ERROR])),
        ("6.5.2 INITIAL_WINDOW_SIZE", settings(4, 1 << 31), Connection(&[FLOW_CONTROL_ERROR])),
        ("6.5.2 MAX_FRAME_SIZE, small", settings(5, 16_383), Connection(&[PROTOCOL_ERROR])),
        ("6.5.2 MAX_FRAME_SIZE, large", settings(5, 1 << 24), Connection(&[PROTOCOL_ERROR])),
        ("6.9 nothing, connection", window(0, 0), Connection(&[PROTOCOL_ERROR])),
        ("6.9 nothing, stream", open(window(1, 0)), Stream(&[PROTOCOL_ERROR])),
        ("6.9.1 overflow, connection", [window(0, max), window(0, max)].concat(), Connection(&[FLOW_CONTROL_ERROR])),
        ("6.9.1 overflow, stream", open([window(1, max), window(1, max)].concat()), Stream(&[FLOW_CONTROL_ERROR])),
        ("6.9.2 overflow by setting", open([window(1, max - 70_000), settings(4, max)].concat()), Stream(&[FLOW_CONTROL_ERROR])),
        // We are sent more than we said we would take.
        (
            "6.9 more than our window",
            open((0..200).flat_map(|_| frame(DATA, NONE, 1, &[b' '; 16_384])).collect()),
            Stream(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]),
        ),
    ];
    check(running, cases).await;
}

/// Sends `bytes` again and again while nothing is read, until the peer hangs up, takes no more for a second, or has
/// taken `bytes_max`. Says how many it took.
async fn flood(running: &Running, first: &[u8], mut next: impl FnMut(u32) -> Vec<u8>, bytes_max: usize) -> usize {
    let mut stream = running.open().await;
    let mut taken = first.len();
    let mut pending = first.to_vec();
    for round in 0.. {
        if pending.len() < 16 * 1024 {
            pending.extend(next(round));
            continue;
        }
        match tokio::time::timeout(Duration::from_secs(1), stream.write_all(&pending)).await {
            Ok(Ok(())) => taken += pending.len(),
            Ok(Err(_)) | Err(_) => break,
        }
        pending.clear();
        if taken > bytes_max {
            break;
        }
    }
    // Beside the one who does not read, others are served.
    running.honest().await;
    taken
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// What the floods together may cost in memory: buffers of sockets and streams, and what the allocator keeps.
const FLOOD_BYTES_MAX: usize = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_floods() {
    const MIB: usize = 1024 * 1024;
    let running = Running::start().await;
    running.honest().await;
    let before = resident_bytes();
    let head = running.head(b"");
    let mut report = Vec::new();
    let mut note = |name: &str, taken: usize| report.push(format!("{name}: {} KiB taken, {} KiB resident", taken / 1024, resident_bytes() / 1024));

    let reset = |round: u32| [frame(HEADERS, WHOLE, 1 + 2 * round, &head), frame(RST_STREAM, NONE, 1 + 2 * round, &CANCEL.to_be_bytes())].concat();
    let taken = flood(&running, b"", reset, 16 * MIB).await;
    note("rapid reset (CVE-2023-44487)", taken);
    assert!(taken < 16 * MIB, "rapid reset goes on for ever");

    let bad = |round: u32| [frame(HEADERS, END_HEADERS, 1 + 2 * round, &head), frame(WINDOW_UPDATE, NONE, 1 + 2 * round, &[0; 4])].concat();
    let taken = flood(&running, b"", bad, 16 * MIB).await;
    note("made you reset (CVE-2025-8671)", taken);
    assert!(taken < 16 * MIB, "made you reset goes on for ever");

    let more = |_| frame(CONTINUATION, NONE, 1, &named("x-more", &"y".repeat(100)));
    let taken = flood(&running, &frame(HEADERS, END_STREAM, 1, &head), more, 16 * MIB).await;
    note("CONTINUATION flood (CVE-2024-27316)", taken);
    assert!(taken < 16 * MIB, "a head without end");

    let taken = flood(&running, &frame(HEADERS, END_STREAM, 1, &head), |_| frame(CONTINUATION, NONE, 1, b""), 4 * MIB).await;
    note("empty CONTINUATION flood (CVE-2019-9518)", taken);
    assert!(taken < 4 * MIB, "empty frames without end");

    let taken = flood(&running, b"", |_| frame(SETTINGS, NONE, 0, &setting(4, 65_535)), 64 * MIB).await;
    note("SETTINGS flood (CVE-2019-9515)", taken);
    assert!(taken < 64 * MIB, "acknowledgements pile up");

    let taken = flood(&running, b"", |_| frame(PING, NONE, 0, &[7; 8]), 64 * MIB).await;
    note("PING flood (CVE-2019-9512)", taken);
    assert!(taken < 64 * MIB, "answers pile up");

    // These cost the peer only the reading.
    let taken = flood(&running, b"", |round| frame(PRIORITY, NONE, 1 + 2 * (round % 1000), &[0, 0, 0, 0, 16]), 4 * MIB).await;
    note("PRIORITY flood (CVE-2019-9513)", taken);
    let taken = flood(&running, &frame(HEADERS, END_HEADERS, 1, &head), |_| frame(DATA, NONE, 1, b""), 4 * MIB).await;
    note("empty DATA flood (CVE-2019-9518)", taken);

    // One long field, remembered, then named by one byte as often as fits.
    let long = "z".repeat(100);
    let bomb = [&running.head(b"")[..], &[0x40, 1, b'x', 100], long.as_bytes(), &[0xbe; 15_000]].concat();
    let taken = flood(&running, b"", |round| frame(HEADERS, WHOLE, 1 + 2 * round, &bomb), 8 * MIB).await;
    note("header bomb (CVE-2016-6581)", taken);

    // Requests whose answers nobody lets through.
    let closed = frame(SETTINGS, NONE, 0, &setting(4, 0));
    let taken =
        flood(&running, &closed, |round| if round < 255 { frame(HEADERS, WHOLE, 1 + 2 * round, &head) } else { frame(PING, NONE, 0, &[7; 8]) }, MIB)
            .await;
    note("no window (CVE-2019-9517)", taken);

    eprintln!("{report:#?}");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < FLOOD_BYTES_MAX, "{} MiB more than before", grown / MIB);
    running.stop().await;
}
