//! Links over the peer's websocket.

use timebus_identity::Token;
use timebus_store::store::{Config, Store, lock_home};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use futures_util::SinkExt as _;

use super::*;
use crate::peer::{Peer, PeerConfig};

/// A peer that serves HTTP, and links if it has a door.
struct Served {
    peer: Peer,
    port: u16,
    _home: tempfile::TempDir,
}

impl Served {
    async fn start(hosts: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        let peer = Peer::new(store, Token::generate(), PeerConfig { hosts, ..PeerConfig::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(crate::server::serve(peer.clone(), vec![listener], std::future::pending()));
        Self { peer, port, _home: home }
    }

    fn open(&self, links_max: usize) -> Arrivals {
        let (door, arrivals) = door(links_max);
        self.peer.open_door(door);
        arrivals
    }

    fn address(&self) -> Address {
        format!("ws://127.0.0.1:{}", self.port).parse().expect("an address")
    }

    /// The answer to a handshake from this machine, and the socket.
    async fn upgrade(&self, host: &str) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the peer listens");
        let head = handshake(&mut stream, host).await;
        (head, stream)
    }
}

/// Asks for a websocket, and gives back the head of the answer.
async fn handshake(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str) -> String {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: timebus.peer.v1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.expect("a whole answer"));
    }
    String::from_utf8_lossy(&head).into_owned()
}

impl Drop for Served {
    fn drop(&mut self) {
        self.peer.stop();
    }
}

async fn link(served: &Served, arrivals: &mut Arrivals) -> (Link, Link) {
    let caller = Place::new().await;
    let here = soon(caller.endpoint.dial(None, &[served.address()])).await.unwrap_or_else(|error| panic!("{error}"));
    here.send(b"\0hello".to_vec()).await.expect("a new link");
    let mut there = soon(arrivals.accept()).await.expect("somebody comes");
    assert_eq!(receive(&mut there).await, b"\0hello");
    (here, there)
}

#[tokio::test]
async fn frames_go_both_ways_over_a_websocket() {
    let served = Served::start(&[]).await;
    let mut arrivals = served.open(4);
    let (mut here, mut there) = link(&served, &mut arrivals).await;
    let sent = frames(&[1, 125, 126, 65535, 65536, SEND_BYTES_MAX + 1, FRAME_BYTES_MAX, 1]);
    for (from, to) in [(0, 1), (1, 0)] {
        let mut ends = [&mut here, &mut there];
        let sender = ends[from].sender().clone();
        let sending = async {
            for frame in sent.clone() {
                sender.send(frame).await.expect("an open link");
            }
        };
        let receiving = async {
            for frame in &sent {
                assert!(receive(ends[to]).await == *frame, "a frame of {} bytes", frame.len());
            }
        };
        tokio::join!(sending, receiving);
    }
    assert_eq!(here.binding(), &websocket::binding(&format!("127.0.0.1:{}", served.port)));
    assert_eq!(here.binding(), there.binding());
    assert_eq!((here.remote(), here.is_initiator(), there.is_initiator()), (None, true, false));
    assert_eq!(here.way().to_string(), format!("websocket 127.0.0.1:{}", served.port));
    soon(async {
        while here.round_trip().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    there.close(8, "going away");
    assert_eq!(soon(here.recv()).await, None);
    assert_eq!(here.ended(), Some(Ended::There { code: 8, text: "going away".into() }));
    assert_eq!(soon(there.until_ended()).await, Ended::Here { code: 8, text: "going away".into() });
}

#[tokio::test]
async fn what_was_sent_before_closing_a_websocket_arrives() {
    let served = Served::start(&[]).await;
    let mut arrivals = served.open(4);
    let (here, mut there) = link(&served, &mut arrivals).await;
    for at in 0..50 {
        here.send(vec![at; 5_000]).await.expect("an open link");
    }
    drop(here);
    for at in 0..50 {
        assert_eq!(receive(&mut there).await[0], at);
    }
    assert_eq!(soon(there.recv()).await, None);
    assert_eq!(there.ended(), Some(Ended::There { code: 0, text: String::new() }));
}

#[tokio::test]
async fn a_reader_that_stops_holds_a_websocket_back() {
    let served = Served::start(&[]).await;
    let mut arrivals = served.open(4);
    let (here, mut there) = link(&served, &mut arrivals).await;
    const LEN: usize = 64 * 1024;
    let mut sent = 0;
    // Sockets of the loopback interface hold up to some MiB of their own.
    while let Ok(result) = tokio::time::timeout(Duration::from_secs(1), here.send(vec![7; LEN])).await {
        result.expect("an open link");
        sent += 1;
        assert!(sent * LEN < 32 * 1024 * 1024, "{sent} frames and no end");
    }
    for _ in 0..sent {
        assert_eq!(receive(&mut there).await.len(), LEN);
    }
    assert!(soon(here.has_room(SEND_BYTES_MAX)).await);
}

/// A proxy that ends TLS for `localhost`, and its certificate.
async fn proxy_with_tls(served: &Served, listener: TcpListener) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().to_vec();
    let key = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.clone().into()], key.into()).expect("they fit");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let port = served.port;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut outside) = acceptor.accept(stream).await else { continue };
            let mut inside = TcpStream::connect(("127.0.0.1", port)).await.expect("the peer listens");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut outside, &mut inside).await });
        }
    });
    certificate
}

#[tokio::test]
async fn behind_a_proxy_with_tls_the_name_outside_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let host = format!("localhost:{}", listener.local_addr().expect("bound").port());
    let served = Served::start(&[&host]).await;
    let mut arrivals = served.open(4);
    let certificate = proxy_with_tls(&served, listener).await;
    let address: Address = format!("wss://{host}").parse().expect("an address");

    let trusting = Place::with(EndpointConfig { authorities: vec![certificate], ..config() }).await;
    let here = soon(trusting.endpoint.dial(None, std::slice::from_ref(&address))).await.unwrap_or_else(|error| panic!("{error}"));
    here.send(b"\0hello".to_vec()).await.expect("a new link");
    let mut there = soon(arrivals.accept()).await.expect("somebody comes");
    assert_eq!(receive(&mut there).await, b"\0hello");
    assert_eq!((here.binding(), there.binding()), (&websocket::binding(&host), &websocket::binding(&host)));

    let careful = Place::new().await;
    let error = soon(careful.endpoint.dial(None, &[address])).await.expect_err("nobody vouches for the certificate").to_string();
    assert!(error.contains("TLS") && error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn without_a_driver_a_link_is_refused_with_a_reason() {
    let served = Served::start(&[]).await;
    let caller = Place::new().await;
    let error = soon(caller.endpoint.dial(None, &[served.address()])).await.expect_err("nobody takes links").to_string();
    assert!(error.contains("no room"), "{error}");
}

#[tokio::test]
async fn a_websocket_frame_that_is_too_long_is_refused() {
    let served = Served::start(&[]).await;
    let mut arrivals = served.open(4);
    let host = format!("127.0.0.1:{}", served.port);
    let (_, stream) = served.upgrade(&host).await;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::binary(vec![0, 1])).await.expect("sent");
    let mut there = soon(arrivals.accept()).await.expect("a link");
    assert_eq!(receive(&mut there).await, [0, 1]);
    socket.send(Message::binary(vec![0; FRAME_BYTES_MAX + 1])).await.expect("sent");
    assert_eq!(soon(there.recv()).await, None);
    assert_eq!(there.ended(), Some(Ended::FrameLength { len: FRAME_BYTES_MAX as u64 + 1 }));
}

#[tokio::test]
async fn a_socket_that_is_cut_is_broken() {
    let served = Served::start(&[]).await;
    let mut arrivals = served.open(4);
    let (_, stream) = served.upgrade(&format!("127.0.0.1:{}", served.port)).await;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::binary(vec![0, 1])).await.expect("sent");
    let mut there = soon(arrivals.accept()).await.expect("a link");
    assert_eq!(receive(&mut there).await, [0, 1]);
    drop(socket);
    assert_eq!(soon(there.recv()).await, None);
    assert!(matches!(there.ended(), Some(Ended::Broken(_))), "{:?}", there.ended());
}

#[tokio::test(start_paused = true)]
async fn a_websocket_that_falls_silent_is_noticed_within_30_s() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let socket = WebSocketStream::from_raw_socket(ours, Role::Client, Some(websocket::config())).await;
    let mut link = websocket::start(socket, "peer.example", true, None);
    let began = tokio::time::Instant::now();
    assert_eq!(link.recv().await, None);
    assert_eq!(link.ended(), Some(Ended::Silent));
    assert!(began.elapsed() <= Duration::from_secs(30), "{:?}", began.elapsed());
    drop(theirs);
}

#[tokio::test(start_paused = true)]
async fn two_idle_ends_of_a_websocket_stay() {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let ours = WebSocketStream::from_raw_socket(ours, Role::Client, Some(websocket::config())).await;
    let theirs = WebSocketStream::from_raw_socket(theirs, Role::Server, Some(websocket::config())).await;
    let here = websocket::start(ours, "peer.example", true, None);
    let mut there = websocket::start(theirs, "peer.example", false, None);
    let idle = Duration::from_secs(3600);
    assert!(tokio::time::timeout(idle, there.recv()).await.is_err(), "{:?}", there.ended());
    // Not even when one of them does not read what it has.
    for _ in 0..4 {
        here.send(vec![1; SEND_BYTES_MAX / 2]).await.expect("an open link");
    }
    assert!(tokio::time::timeout(idle, here.until_ended()).await.is_err(), "{:?}", here.ended());
    assert_eq!(there.recv().await.map(|frame| frame.len()), Some(SEND_BYTES_MAX / 2));
}

/// The answer to a handshake that comes from another machine, and the socket.
async fn from_elsewhere(served: &Served, host: &str) -> (String, tokio::io::DuplexStream) {
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let ends = (SocketAddr::from(([192, 0, 2, 1], served.port)), SocketAddr::from(([192, 0, 2, 9], 50000)));
    tokio::spawn(crate::server::serve_between(served.peer.clone(), theirs, ends));
    let head = handshake(&mut ours, host).await;
    (head, ours)
}

#[tokio::test]
async fn who_has_no_token_may_begin_a_link_and_nothing_else() {
    let served = Served::start(&["peer.example:443"]).await;
    let (answer, _) = from_elsewhere(&served, "peer.example").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "without a door nobody gets in: {answer}");
    let mut arrivals = served.open(1);
    for host in ["localhost", "127.0.0.1", "app.localhost"] {
        let (answer, _) = from_elsewhere(&served, &format!("{host}:{}", served.port)).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "loopback names are for this machine: {answer}");
    }
    let (answer, _) = from_elsewhere(&served, "other.example").await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");

    let (answer, stream) = from_elsewhere(&served, "peer.example").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let (second, _) = from_elsewhere(&served, "peer.example").await;
    assert!(second.starts_with("HTTP/1.1 101"), "whoever comes gets in, to say who he is: {second}");
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let mut there = soon(arrivals.accept()).await.expect("a link");
    socket.send(Message::text("{\"id\":1,\"get\":\"/\"}")).await.expect("sent");
    assert_eq!(soon(there.recv()).await, None, "no answer, and no more frames");
    assert!(matches!(there.ended(), Some(Ended::Broken(_))), "{:?}", there.ended());
    drop((there, socket));
    drop(soon(arrivals.accept()).await.expect("the second"));

    let (answer, stream) = soon(async {
        loop {
            let (answer, stream) = from_elsewhere(&served, "peer.example").await;
            if answer.starts_with("HTTP/1.1 101") {
                return (answer, stream);
            }
        }
    })
    .await;
    assert!(!answer.is_empty());
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::binary(vec![0, 5])).await.expect("sent");
    let mut there = soon(arrivals.accept()).await.expect("a link");
    assert_eq!(receive(&mut there).await, [0, 5]);
    assert_eq!(there.binding(), &websocket::binding("peer.example"));
}
