//! Sockets: accepts connections, speaks HTTP/1.1 and HTTP/2 on one port, and hands requests to `route`.

use std::convert::Infallible;
use std::future::Future;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;

use crate::host::HostList;
use crate::peer::{Counted, Peer};
use crate::places::{Place, Places, Room, Standing};
use crate::unread::Unread;
use crate::who::Who;

/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Most bytes of a request head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long a request head may take, and an idle connection may stay.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the first request head of a connection may take: nobody has a reason to be slow there.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is looked at until it has been silent for [`HEAD_TIMEOUT`].
const SILENCE_TICKS: u32 = 4;
/// Streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// Of the places for connections, so many parts of [`PARTS`] are for strangers who stay, as on a websocket. The others are for
/// those who have proven who they are, and for who may.
const STRANGERS_PARTS: usize = 3;
const PARTS: usize = 4;
/// Connections from one address of those who have not proven who they are.
const STRANGERS_OF_ONE_MAX: usize = 256;
/// How long it is waited until the next connection is accepted where one could not be, twice as long each time.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(50);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often that is told.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(60);
/// How long open requests may go on when the peer stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a request comes from.
#[derive(Debug)]
pub(crate) struct Link {
    /// Our end and theirs; `None` inside the process, where only the owner is.
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
    owner: OnceLock<bool>,
    /// The names that the peer answers to.
    pub(crate) hosts: Arc<HostList>,
    /// The app whose own port this is.
    pub(crate) app: Option<Arc<str>>,
    /// What was made for its streams and was not read yet.
    pub(crate) unread: Arc<Unread>,
    /// Requests that came and writes that went through.
    signs: AtomicU64,
    /// Requests that are being answered.
    busy: Arc<AtomicU64>,
    /// What the connection counts in for as long as it is open, also when it became a websocket.
    place: Option<Place>,
    is_proven: AtomicBool,
    _counted: Counted,
}

impl Link {
    fn new(peer: &Peer, ends: Option<(SocketAddr, SocketAddr)>) -> Self {
        let counted = Counted::new(peer, |counters| &counters.connections);
        let (owner, unread, signs, busy, is_proven) = Default::default();
        Self { ends, owner, hosts: peer.hosts(), app: None, unread, signs, busy, place: None, is_proven, _counted: counted }
    }

    /// Finds a place for the connection. Nobody waits for one: who is connected and was not heard of leaves, and for the owner's
    /// programs on this machine there is always one.
    fn seated(mut self, places: &Places) -> Option<Self> {
        let from = self.ends.map(|(_, from)| from.ip());
        let is_near = from.is_some_and(|from| from.to_canonical().is_loopback());
        self.place = Some(match is_near && places.is_crowded() && self.is_owner() {
            true => places.owner(&self.busy),
            false => places.come(from, &self.busy)?,
        });
        Some(self)
    }

    /// Whether the other end is a program of the user who runs this peer. Where others reach it by a name that says nothing: a proxy
    /// is such a program, too, and speaks for everybody.
    pub(crate) fn is_owner(&self) -> bool {
        let Some((local, peer)) = self.ends else { return true };
        if let Some(is_owner) = self.owner.get() {
            return *is_owner;
        }
        let may_be = !self.hosts.is_reached() && peer.ip().to_canonical().is_loopback() && crate::owner::current_uid().is_some();
        let whose = may_be.then(|| crate::owner::socket_owner(local, peer)).transpose();
        let is_owner = match whose {
            Ok(whose) => whose.is_some_and(|whose| whose == crate::owner::current_uid()),
            // As when nothing can be opened: with the next request it may be known.
            Err(error) => {
                tracing::debug!(%error, "it cannot be found out whose program a connection is");
                return false;
            }
        };
        if let Some(place) = self.place.as_ref().filter(|_| is_owner) {
            place.stand(Standing::Own);
        }
        *self.owner.get_or_init(|| is_owner)
    }

    /// Somebody proved that he may do something here: by a token, or by the signature of a key that has rights.
    pub(crate) fn prove(&self) {
        if let Some(place) = &self.place
            && !self.is_proven.swap(true, Ordering::Relaxed)
            && self.owner.get() != Some(&true)
        {
            place.stand(Standing::Known);
        }
    }

    /// Whether there is room for somebody who wants to stay, as on a websocket.
    pub(crate) fn stays(&self, who: &Who) -> bool {
        let is_stranger = matches!(who, Who::Anyone | Who::Signed { .. }) && !self.is_proven.load(Ordering::Relaxed);
        !is_stranger || self.is_owner() || self.place.as_ref().is_none_or(|place| place.stand(Standing::Reader))
    }

    /// Waits until the place of the connection is somebody else's.
    pub(crate) async fn put_out(&self) {
        match &self.place {
            Some(place) => place.put_out().await,
            None => std::future::pending().await,
        }
    }
}

/// Serves a peer until `stop` ends or [`Peer::stop`] is called.
///
/// # Errors
///
/// When a listener has no address.
pub async fn serve(peer: Peer, listeners: Vec<TcpListener>, stop: impl Future<Output = ()>) -> std::io::Result<()> {
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    peer.listen(&addresses)?;
    let max = peer.config.connections_max;
    let places = Places::new(Room { readers_max: max / PARTS * STRANGERS_PARTS, strangers_of_one_max: STRANGERS_OF_ONE_MAX, ..Room::of(max) });
    let graceful = GracefulShutdown::new();
    let mut stopped = peer.stop.subscribe();
    let scrubbing = tokio::spawn(crate::scrub::run(peer.clone()));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(crate::ends::keep(peer.clone()));
    tasks.spawn(crate::blobs::collect(peer.clone()));
    tasks.spawn(crate::blobs::wishes::keep(peer.clone()));
    tasks.spawn(crate::community::keeping::keep(peer.clone()));
    tasks.spawn(crate::community::holding::keep(peer.clone()));
    tasks.spawn(crate::dht::keep(peer.clone()));
    let (accepted, mut incoming) = tokio::sync::mpsc::channel(64);
    let accept = |listener: TcpListener, app: Option<Arc<str>>| {
        let accepted = accepted.clone();
        async move {
            let mut failing = Failing::default();
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => {
                        failing.is_over();
                        if accepted.send((stream, from, app.clone())).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        let (pause, is_told) = failing.again(tokio::time::Instant::now());
                        if is_told {
                            tracing::warn!(%error, "connections cannot be accepted");
                        }
                        tokio::time::sleep(pause).await;
                    }
                }
            }
        }
    };
    for listener in listeners {
        tasks.spawn(accept(listener, None));
    }
    let mut app_ports = peer.app_ports().await;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = stopped.wait_for(|stop| *stop) => break,
            Some((listener, alias)) = app_ports.recv() => {
                tasks.spawn(accept(listener, Some(alias)));
            }
            Some((stream, from, app)) = incoming.recv() => {
                let _ = stream.set_nodelay(true);
                let Ok(local) = stream.local_addr() else { continue };
                let link = Link { app, ..Link::new(&peer, Some((local, from))) };
                let Some(link) = link.seated(&places) else { continue };
                let watcher = graceful.watcher();
                let peer = peer.clone();
                tokio::spawn(async move {
                    connection(peer, stream, link, Some(watcher)).await;
                });
            }
        }
    }
    tasks.shutdown().await;
    drop(incoming);
    peer.stop();
    scrubbing.abort();
    let goodbyes = async {
        graceful.shutdown().await;
        // Websockets have left HTTP, but hold their place until they said goodbye.
        places.until_empty().await;
    };
    let _ = tokio::time::timeout(STOP_TIMEOUT, goodbyes).await;
    Ok(())
}

/// That no connection can be accepted, as when too many files are open.
#[derive(Debug, Default)]
struct Failing {
    pause: Duration,
    told: Option<tokio::time::Instant>,
}

impl Failing {
    /// After how long it is tried again, and whether it is told: once in a while.
    fn again(&mut self, now: tokio::time::Instant) -> (Duration, bool) {
        self.pause = (self.pause * 2).clamp(ACCEPT_PAUSE_MIN, ACCEPT_PAUSE_MAX);
        let is_told = self.told.is_none_or(|told| now.duration_since(told) >= ACCEPT_TOLD_EVERY);
        if is_told {
            self.told = Some(now);
        }
        (self.pause, is_told)
    }

    fn is_over(&mut self) {
        self.pause = Duration::ZERO;
    }
}

/// Serves one connection inside the process to the owner.
pub async fn serve_owner(peer: Peer, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let link = Link::new(&peer, None);
    connection(peer, io, link, None).await;
}

/// Serves one connection as if it were between two other addresses.
#[cfg(test)]
pub(crate) async fn serve_between(peer: Peer, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, ends: (SocketAddr, SocketAddr)) {
    let link = Link::new(&peer, Some(ends));
    connection(peer, io, link, None).await;
}

async fn connection(
    peer: Peer,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    link: Link,
    watcher: Option<hyper_util::server::graceful::Watcher>,
) {
    let link = Arc::new(link);
    let service = {
        let link = Arc::clone(&link);
        service_fn(move |request| {
            // Most answers are there already. The others are boxed, since what hyper keeps per connection has room for
            // the largest future.
            if let Some(response) = crate::route::answer_now(&peer, &link, &request) {
                return Either::Left(std::future::ready(Ok::<_, Infallible>(response)));
            }
            let (busy, peer, link) = (Busy::new(&link), peer.clone(), Arc::clone(&link));
            Either::Right(Box::pin(async move { Ok(crate::route::answer(peer, link, request).await.map(|body| body.holding(busy))) }))
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        // No `header_read_timeout`: it makes and drops a timer for every request. `silence` does the same.
        .max_headers(HEADERS_MAX)
        // No `pipeline_flush`: with it hyper never flushes its answer to a malformed head.
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    let io = Watched { io, link: Arc::clone(&link) };
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    let result = match watcher {
        Some(watcher) => {
            tokio::select! {
                result = watcher.watch(serving) => result,
                () = until_unwanted(&link) => Ok(()),
            }
        }
        None => serving.await,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Ends when a connection has been silent for too long, or somebody else needs its place.
async fn until_unwanted(link: &Link) {
    tokio::select! {
        () = silence(link) => {}
        () = link.put_out() => tracing::debug!("a connection made room for another"),
    }
}

/// Ends when a connection has been silent for too long: no request, and nothing that the other side takes. Bytes of a
/// head that does not end are silence.
async fn silence(link: &Link) {
    tokio::time::sleep(FIRST_HEAD_TIMEOUT).await;
    let mut last = 0;
    let mut silent = if link.signs.load(Ordering::Relaxed) == 0 { SILENCE_TICKS } else { 0 };
    while silent < SILENCE_TICKS {
        tokio::time::sleep(HEAD_TIMEOUT / SILENCE_TICKS).await;
        let signs = link.signs.load(Ordering::Relaxed);
        silent = if signs == last && link.busy.load(Ordering::Relaxed) == 0 { silent + 1 } else { 0 };
        last = signs;
    }
}

/// A request that is being answered, until its answer was handed to the connection.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Link>);

impl Busy {
    fn new(link: &Arc<Link>) -> Self {
        link.busy.fetch_add(1, Ordering::Relaxed);
        link.signs.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(link))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that says when the other side takes something.
pub(crate) struct Watched<S> {
    io: S,
    link: Arc<Link>,
}

impl<S> Watched<S> {
    pub(crate) fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S> Watched<S> {
    fn wrote(&self, result: &Poll<std::io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.link.signs.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use timebus_identity::Token;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::net::TcpStream;

    use super::*;
    use crate::peer::PeerConfig;
    use crate::whose::tests::open;

    const REFUSED: &str = "GET /x HTTP/1.1\r\nHost: localhost:80\r\nOrigin: http://evil.example\r\n\r\n";

    fn peer(home: &tempfile::TempDir, connections_max: usize) -> Peer {
        Peer::new(open(home.path()), Token::generate(), PeerConfig { connections_max, ..PeerConfig::default() })
    }

    /// Somebody at an address, if there is a place for him.
    fn come(peer: &Peer, places: &Places, from: [u8; 4]) -> Option<DuplexStream> {
        let ends = (SocketAddr::from(([192, 0, 2, 9], 80)), SocketAddr::from((from, 1234)));
        let link = Link::new(peer, Some(ends)).seated(places)?;
        let (theirs, ours) = tokio::io::duplex(1 << 16);
        let (peer, graceful) = (peer.clone(), GracefulShutdown::new());
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            connection(peer, ours, link, Some(watcher)).await;
            drop(graceful);
        });
        Some(theirs)
    }

    /// The status of the answer; `None` if the connection is closed.
    async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Option<u16> {
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        head.split(' ').nth(1)?.parse().ok()
    }

    #[test]
    fn that_nothing_can_be_accepted_is_tried_ever_more_seldom_and_told_once_a_minute() {
        let (mut failing, began) = (Failing::default(), tokio::time::Instant::now());
        let (mut at, mut told) = (Duration::ZERO, Vec::new());
        let mut pauses = Vec::new();
        while at < Duration::from_secs(150) {
            let (pause, is_told) = failing.again(began + at);
            if is_told {
                told.push(at.as_secs());
            }
            pauses.push(pause.as_millis());
            at += pause;
        }
        assert_eq!((told, &pauses[..6]), (vec![0, 60, 120], &[50, 100, 200, 400, 800, 1000][..]));
        failing.is_over();
        assert_eq!(failing.again(began + at), (ACCEPT_PAUSE_MIN, false), "it comes and goes");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn strangers_do_not_keep_the_owner_out() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(&home, 8);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve(peer.clone(), vec![listener], std::future::pending()));
        // Each asks once, and stays as long as it may.
        let mut crowd = Vec::new();
        for _ in 0..40 {
            let mut stream = TcpStream::connect(address).await.expect("the peer listens");
            let request = REFUSED.replace("localhost:80", &address.to_string());
            crowd.push((ask(&mut stream, &request).await, stream));
        }
        assert!(crowd.iter().all(|(status, _)| status.is_some_and(|status| status >= 400)));
        let mut owner = TcpStream::connect(address).await.expect("the peer listens");
        let status = ask(&mut owner, &format!("GET /.sys/status HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
        assert_eq!(status, Some(200));
        peer.stop();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn names_of_apps_are_for_this_machine_alone() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(&home, 8);
        peer.listen(&[SocketAddr::from(([127, 0, 0, 1], 80))]).expect("an address");
        let places = Places::new(Room::of(8));
        for (from, expected) in [([127, 0, 0, 1], 404), ([192, 0, 2, 2], 421)] {
            let mut stream = come(&peer, &places, from).expect("there is room");
            assert_eq!(ask(&mut stream, "GET / HTTP/1.1\r\nHost: board.localhost:80\r\n\r\n").await, Some(expected), "{from:?}");
            assert_eq!(ask(&mut stream, REFUSED).await, Some(401), "{from:?}");
        }
        // In a container it is the machine around it that comes from elsewhere.
        let lists = ["localhost", "ada.example"].map(|name| crate::host::HostList::new(80, &[name.to_owned()]).expect("a name"));
        assert_eq!(lists.map(|list| list.is_local()), [true, false]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_proves_who_he_is_stays_and_strangers_make_room() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(&home, 32);
        peer.listen(&[SocketAddr::from(([127, 0, 0, 1], 80))]).expect("an address");
        let places = Places::new(Room::of(32));
        let mut owner = come(&peer, &places, [192, 0, 2, 1]).expect("there is room");
        let token = peer.token.text();
        let token = token.as_str();
        let request = format!("GET /.sys/status HTTP/1.1\r\nHost: localhost:80\r\nAuthorization: Bearer {token}\r\n\r\n");
        assert_eq!(ask(&mut owner, &request).await, Some(200));
        let mut crowd = Vec::new();
        for _ in 0..100 {
            let mut one = come(&peer, &places, [192, 0, 2, 1]).expect("another one leaves");
            assert!(ask(&mut one, REFUSED).await.is_some());
            crowd.push(one);
        }
        assert_eq!(places.taken(), 34);
        assert_eq!(crowd[0].read(&mut [0]).await.unwrap_or(0), 0, "it was closed");
        assert_eq!(ask(&mut owner, &request).await, Some(200));
        // Who comes from elsewhere is served, although they go on coming.
        let mut visitor = come(&peer, &places, [192, 0, 2, 2]).expect("there is room");
        crowd.extend((0..100).map(|_| come(&peer, &places, [192, 0, 2, 1]).expect("another one leaves")));
        assert!(ask(&mut visitor, REFUSED).await.is_some());
    }
}
