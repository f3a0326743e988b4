//! The websocket: many watches and requests on one socket, in JSON that a person can type.
//!
//! A page has to send `{"auth":"<token>"}` first; a program of the owner does not. A socket is one task: it reads
//! a message, or writes what a watch or a finished request has for it, and while the other side takes nothing it
//! reads nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{AbortHandle, BoxStream, FuturesUnordered, SelectAll};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use timebus_store::feed::Signal;
use timebus_store::json::{Json, Limits, write_string};
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::tree::{Show, Tree};
use timebus_store::value::Mime;
use timebus_store::writer::{Action, Condition, Request, TextEdits};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::authority::{Verb, who_are_you};
use crate::behalf;
use crate::body::Body;
use crate::computed::{Computed, Source};
use crate::host::HostKind;
use crate::link::address::is_loopback_host;
use crate::link::{Door, Slot};
use crate::others::Reader;
use crate::peer::{Of, OriginCount, Peer};
use crate::personas;
use crate::problem::Problem;
use crate::remote::{PATIENCE, Stay, may_fetch, reach_space, space_of, stay};
use crate::route::{pace, write_problem};
use crate::server::Link;
use crate::watch::{End as WatchEnd, Form, RECHECK, Start, Watch};
use crate::who::{Principal, Who, authority, check_token, foreign_origin, identify, is_browser, is_same_origin, now_ms, text};
use crate::window::Window;
use crate::write::VALUES_MAX;

mod frame;
mod message;
mod wire;

use frame::{PING, write_frame};
pub(crate) use frame::{write_text, write_text_head};
use message::Fields;
use wire::{Now, Wire};

/// The protocol that pages have to ask for.
const PROTOCOL: &str = "timebus.v1";
/// The protocol that peers ask for, who begin a link.
pub(crate) const PEER_PROTOCOL: &str = "timebus.peer.v1";
/// How long a page may take to say who it is.
const AUTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Watches of one socket: a page that shows what hundreds of people write.
const WATCHES_MAX: usize = 1024;
/// Requests of one socket that are not answered yet; more are read later.
const PENDING_MAX: usize = 256;
/// Largest message.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest message of a guest, and of who has not said who he is: it is kept until all of it has come.
const GUEST_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const NOBODY_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Watches of values that are worked out of one socket that is neither the owner's nor an app's.
const GUEST_COMPUTED_MAX: usize = 16;
/// The largest message that a caller may send.
fn message_bytes_max(who: &Who) -> usize {
    match who {
        Who::Owner | Who::Signed { is_owner: true, .. } | Who::App(_) => MESSAGE_BYTES_MAX,
        Who::Signed { .. } => GUEST_MESSAGE_BYTES_MAX,
        Who::Anyone => NOBODY_MESSAGE_BYTES_MAX,
    }
}

/// What a page is told that does not say who it is.
const UNAUTHORIZED: &str = "send {\"auth\":\"<token>\"} first";
/// From this time on a message had to wait for the other side to take it.
const WAITED: Duration = Duration::from_secs(1);
/// Kept per socket for what comes in; more is there while a message comes.
const BUFFER_BYTES: usize = 128;
/// Put together before it is written.
const BATCH_BYTES: usize = 64 * 1024;
/// How long a goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a request asks for a websocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    text(headers, header::UPGRADE).is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

/// Answers the handshake and serves the socket beside it.
pub(crate) fn upgrade(
    peer: &Peer,
    link: &Arc<Link>,
    kind: &HostKind,
    mut head: http::request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "websocket", "this is not a websocket handshake", detail);
    let browser = is_browser(&head.headers);
    let mut origin = None;
    if browser {
        if !is_same_origin(&head) || !head.headers.contains_key(header::ORIGIN) {
            return Err(foreign_origin());
        }
        let name = text(&head.headers, header::ORIGIN).unwrap_or_default();
        origin = Some(peer.count_origin(Of::Connections, name)?);
    }
    let asks_for = |protocol: &str| {
        text(&head.headers, "sec-websocket-protocol").is_some_and(|protocols| protocols.split(',').any(|asked| asked.trim() == protocol))
    };
    // A peer needs no token: its frames say who it is.
    let is_peer = !browser && asks_for(PEER_PROTOCOL);
    let who = identify(peer, link, kind, &head)?;
    who.allows_body(b"")?;
    // A peer has its place among links, and a page says in its first message who it is.
    let is_told_later = is_peer || browser && matches!(who, Who::Anyone);
    if !is_told_later && !link.stays(&who) {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "connections",
            "there is no room for more strangers",
            "too many of them are connected",
        )
        .with_fix("come back later; the owner, and who has a token or signs, is let in"));
    }
    // Room for a link is taken before it has said anything.
    let room = if is_peer { Some(room(peer, link, &head)?) } else { None };
    if head.method != http::Method::GET || text(&head.headers, "sec-websocket-version") != Some("13") {
        return Err(bad("send GET with Sec-WebSocket-Version: 13"));
    }
    let key = head.headers.get("sec-websocket-key").ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    let accept = derive_accept_key(key.as_bytes());
    let asked = asks_for(PROTOCOL);
    if browser && !asked {
        return Err(bad("a page has to ask for the subprotocol timebus.v1"));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(accept) = crate::body::header_value(&accept) {
        headers.insert("sec-websocket-accept", accept);
    }
    if is_peer {
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(PEER_PROTOCOL));
    } else if asked {
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(PROTOCOL));
    }
    drop(body);
    let Some(upgrading) = head.extensions.remove::<hyper::upgrade::OnUpgrade>() else {
        return Err(bad("this connection cannot become a websocket"));
    };
    if let Some((door, slot)) = room {
        let host = authority(&head).to_owned();
        tokio::spawn(async move {
            let Ok(upgraded) = upgrading.await else { return };
            let config = Some(crate::link::websocket::config());
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, config).await;
            door.enter(crate::link::websocket::start(socket, &host, false, Some(slot))).await;
        });
        return Ok(response);
    }
    #[cfg(test)]
    let is_echo = head.uri.path() == tests::ECHO;
    // A page says who it is in its first message, if it did not in the handshake.
    let silent = browser && matches!(who, Who::Anyone);
    let (peer, link, kind) = (peer.clone(), Arc::clone(link), kind.clone());
    tokio::spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let wire = Wire::new(upgraded);
        let held = Held { link, origin };
        // The rest is a task of its own, so that an open socket does not pay for the handshake.
        tokio::spawn(
            Box::new(Socket::new(
                peer,
                wire,
                Caller { who, kind, silent },
                held,
                #[cfg(test)]
                is_echo,
            ))
            .serve(),
        );
    });
    Ok(response)
}

/// Room for the link that a peer wants to begin.
///
/// Loopback names are only believed on this machine: what a link is bound to is the name, so a name that everybody
/// has must not be used from elsewhere.
fn room(peer: &Peer, link: &Link, head: &http::request::Parts) -> Result<(Door, Slot), Problem> {
    let refused = |detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "links", "no link can begin here", detail);
    let door = peer.door().ok_or_else(|| refused("this peer takes no part in the network"))?;
    let (host, _) = crate::host::split_port(authority(head));
    let is_near = link.ends.is_some_and(|(_, from)| from.ip().to_canonical().is_loopback());
    if (is_loopback_host(host) || host.ends_with(".localhost")) && !is_near {
        let detail = "call this peer by a name that it was given with --host";
        return Err(Problem::new(StatusCode::FORBIDDEN, "host", "this name is for this machine alone", detail));
    }
    let from = link.ends.map(|(_, from)| from.ip());
    let slot = door.slot(from).ok_or_else(|| refused("this peer has no room for more links of other peers"))?;
    Ok((door, slot))
}

/// What an open socket counts in.
struct Held {
    link: Arc<Link>,
    origin: Option<OriginCount>,
}

/// Who a socket is from.
struct Caller {
    who: Who,
    /// Where it was opened.
    kind: HostKind,
    /// Whether he still has to say who he is.
    silent: bool,
}

struct Socket {
    peer: Peer,
    who: Who,
    kind: HostKind,
    /// Ready when rights changed, or may have ended; for those who need some.
    restated: Option<BoxFuture<'static, ()>>,
    wire: Wire,
    protocol: WebSocketContext,
    /// Each with what keeps the space of somebody else open meanwhile.
    watches: Vec<(u64, Watch, Option<Stay>)>,
    /// Watches of values that are worked out, and what ends each; `None` says that one has ended.
    computed: SelectAll<BoxStream<'static, (u64, Option<Vec<Bytes>>)>>,
    computing: Vec<(u64, AbortHandle, Counts)>,
    /// Raised when a watch may have something.
    signal: Arc<Signal>,
    pending: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Watches of spaces that are being fetched first, and of values that are being worked out.
    coming: Vec<u64>,
    /// Whether a turn is waited for, or taken, in which something is read for whoever is neither the owner nor an app. What he
    /// says next is read when that is done: so all of it is answered in order, and he is made nothing while he reads nothing.
    is_reading: bool,
    /// Until when a page has to say who it is; `None` once it has.
    authorized_by: Option<Pin<Box<tokio::time::Sleep>>>,
    stopped: BoxFuture<'static, (CloseCode, &'static str)>,
    ticks: tokio::time::Interval,
    heard: tokio::time::Instant,
    /// Whether the other side takes nothing now. Who reads slowly answers a ping only after all that came before it, and is not taken
    /// for dead; who takes nothing at all for as long as between signs of life is.
    blocked: Option<Blocked>,
    /// Whether what came made no sense, so that nothing more is read.
    is_broken: bool,
    held: Held,
    #[cfg(test)]
    is_echo: bool,
}

/// Since when the other side does not take all that waits.
struct Blocked {
    since: tokio::time::Instant,
    /// When it took something last, and how much it had taken then.
    last: tokio::time::Instant,
    taken: u64,
}

/// Why a socket ends: with a goodbye, or without one.
type End = Option<(CloseCode, &'static str)>;

/// What a request that took time has come to.
enum Done {
    /// This is the answer.
    Say(Vec<u8>),
    /// The space that the message with this id names is here, or at least known: this peer can act on the message.
    Reached(u64, Peer, Fields),
    /// A watch of a value that is worked out can begin.
    Watching(u64, Box<Computed>, Counts),
    /// A watch cannot begin.
    Refused(u64, Problem),
    /// What was read in a turn: a message.
    Read(u64, Result<Bytes, Problem>),
    /// The same: what a watch begins with.
    Begun(u64, Result<Box<Watch>, Problem>, Option<Stay>),
}

/// A watch, as it is counted of the web origin and of whoever asks.
type Counts = [Option<OriginCount>; 2];

/// What to do after a message.
enum Next {
    Go,
    Say(Vec<u8>),
    End(CloseCode, &'static str),
}

impl Socket {
    fn new(peer: Peer, wire: Wire, caller: Caller, held: Held, #[cfg(test)] is_echo: bool) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes_max(&caller.who)))
            .max_frame_size(Some(message_bytes_max(&caller.who)));
        let pause = Duration::from_secs(peer.config.heartbeat_s) / 2;
        let mut stopped = peer.stop.subscribe();
        let link = Arc::clone(&held.link);
        Self {
            wire,
            protocol: WebSocketContext::new(Role::Server, Some(config)),
            watches: Vec::new(),
            computed: SelectAll::new(),
            computing: Vec::new(),
            signal: Arc::default(),
            pending: FuturesUnordered::new(),
            coming: Vec::new(),
            is_reading: false,
            restated: restated(&peer, !caller.who.is_owner()),
            who: caller.who,
            kind: caller.kind,
            authorized_by: caller.silent.then(|| Box::pin(tokio::time::sleep(AUTH_TIMEOUT))),
            stopped: Box::pin(async move {
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => (CloseCode::Away, "the peer is stopping"),
                    () = link.put_out() => (CloseCode::Again, "somebody else needs the place"),
                }
            }),
            ticks: tokio::time::interval_at(tokio::time::Instant::now() + pause, pause),
            heard: tokio::time::Instant::now(),
            blocked: None,
            is_broken: false,
            peer,
            held,
            #[cfg(test)]
            is_echo,
        }
    }

    async fn serve(mut self: Box<Self>) {
        if let Some((code, reason)) = std::future::poll_fn(|cx| self.poll(cx)).await {
            let goodbye = std::future::poll_fn(|cx| self.poll_goodbye(cx, code, reason));
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
        }
    }

    /// Does what can be done now, in this order: write what waits, answer, tell what is new, and only when all that is
    /// written, read.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.signal.listen(cx.waker());
        if let Poll::Ready(end) = self.stopped.as_mut().poll(cx) {
            return Poll::Ready(Some(end));
        }
        loop {
            while self.restated.as_mut().is_some_and(|restated| restated.as_mut().poll(cx).is_ready()) {
                self.restated = restated(&self.peer, !self.who.is_owner());
                self.recheck();
            }
            match self.wire.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    if self.blocked.take().is_some_and(|blocked| blocked.since.elapsed() >= WAITED) {
                        self.heard = tokio::time::Instant::now();
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => {
                    let (now, taken) = (tokio::time::Instant::now(), self.wire.taken());
                    let blocked = self.blocked.get_or_insert(Blocked { since: now, last: now, taken });
                    if blocked.taken != taken {
                        (blocked.last, blocked.taken) = (now, taken);
                    }
                    if blocked.last.elapsed() > Duration::from_secs(self.peer.config.heartbeat_s) {
                        return Poll::Ready(None);
                    }
                    if self.ticks.poll_tick(cx).is_pending() {
                        return Poll::Pending;
                    }
                    continue;
                }
            }
            self.gather(cx);
            if !self.wire.is_flushed() {
                continue;
            }
            if self.pending.len() < PENDING_MAX && !self.is_reading {
                match self.protocol.read(&mut Now { wire: &mut self.wire, cx }) {
                    Ok(message) => {
                        self.heard = tokio::time::Instant::now();
                        match self.take(message) {
                            Next::Go => {}
                            Next::Say(reply) => self.say(&reply),
                            Next::End(code, reason) => return Poll::Ready(Some((code, reason))),
                        }
                        continue;
                    }
                    Err(SocketError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    // The goodbye of both sides was said and only has to be written; nothing follows it.
                    Err(SocketError::ConnectionClosed) if !self.wire.is_flushed() => {
                        self.watches.clear();
                        self.computed.clear();
                        self.pending.clear();
                        continue;
                    }
                    Err(error) => {
                        self.is_broken = true;
                        return Poll::Ready(close_reason(&error));
                    }
                }
                if !self.wire.is_flushed() {
                    continue;
                }
            }
            if let Some(deadline) = &mut self.authorized_by
                && deadline.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Some((CloseCode::Policy, UNAUTHORIZED)));
            }
            if self.ticks.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            // What he says next is not read while he waits for his turn.
            if self.is_reading {
                self.heard = tokio::time::Instant::now();
            }
            if self.heard.elapsed() > Duration::from_secs(self.peer.config.heartbeat_s) {
                return Poll::Ready(None);
            }
            let mut ping = Vec::new();
            write_frame(&mut ping, PING, |_| ());
            self.wire.push(ping.into());
        }
    }

    /// Takes answers and news until there is enough to write.
    fn gather(&mut self, cx: &mut Context<'_>) {
        while !self.pending.is_empty()
            && self.wire.waiting_bytes() < BATCH_BYTES
            && let Poll::Ready(Some(done)) = self.pending.poll_next_unpin(cx)
        {
            let reply = match done {
                Done::Say(reply) => Some(reply),
                Done::Reached(id, _, message) if message.is_watch() && !self.has_come(id) => None,
                Done::Reached(id, peer, message) => self.act(&peer, id, message).unwrap_or_else(|problem| Some(error(Some(id), &problem))),
                Done::Watching(id, watch, counted) if self.has_come(id) => {
                    self.begin(id, *watch, counted).err().map(|problem| error(Some(id), &problem))
                }
                Done::Watching(..) => None,
                Done::Refused(id, problem) => {
                    self.has_come(id);
                    Some(error(Some(id), &problem))
                }
                Done::Read(id, read) => {
                    self.is_reading = false;
                    read.map(|message| self.wire.push(message)).err().map(|problem| error(Some(id), &problem))
                }
                Done::Begun(id, begun, stay) => {
                    self.is_reading = false;
                    begun.map(|watch| self.tell(id, *watch, stay)).err().map(|problem| error(Some(id), &problem))
                }
            };
            if let Some(reply) = reply {
                self.say(&reply);
            }
            // What a watch begins with is written before another one begins, or all would be kept that come at once.
            if self.watches.iter().any(|(_, watch, _)| watch.is_new()) {
                break;
            }
        }
        while self.wire.waiting_bytes() < BATCH_BYTES
            && let Poll::Ready(Some((id, news))) = self.computed.poll_next_unpin(cx)
        {
            match news {
                Some(pieces) => pieces.into_iter().for_each(|bytes| self.wire.push(bytes)),
                None => self.computing.retain(|(other, ..)| *other != id),
            }
        }
        for at in 0..self.watches.len() {
            let (id, watch, _) = &mut self.watches[at];
            if !watch.has_news() {
                continue;
            }
            match watch.take() {
                Ok(bytes) => self.wire.push(bytes.unwrap_or_default()),
                Err(WatchEnd::Closed(problem)) => {
                    let (_, watch, _) = self.watches.remove(at);
                    return self.wire.push(watch.farewell(&problem));
                }
                Err(WatchEnd::Failed(error)) => {
                    tracing::error!(%error, "a subscription ended");
                    let closed = format!("{{\"id\":{id},\"closed\":\"the store failed\"}}");
                    self.watches.remove(at);
                    return self.say(closed.as_bytes());
                }
            }
            if self.wire.waiting_bytes() >= BATCH_BYTES {
                // The others come first next time.
                self.watches.rotate_left(at + 1);
                return;
            }
        }
    }

    /// Whether a watch that could not begin at once may begin now, as nobody has ended it meanwhile.
    fn has_come(&mut self, id: u64) -> bool {
        let at = self.coming.iter().position(|coming| *coming == id);
        at.map(|at| self.coming.swap_remove(at)).is_some()
    }

    /// Ends the watches that the caller has no right to any more.
    fn recheck(&mut self) {
        let mut farewells = Vec::new();
        self.watches.retain(|(_, watch, _)| match watch.closed() {
            None => true,
            Some(problem) => {
                farewells.push(watch.farewell(&problem));
                false
            }
        });
        farewells.into_iter().for_each(|farewell| self.wire.push(farewell));
    }

    fn say(&mut self, reply: &[u8]) {
        self.wire.push(framed(reply).into());
    }

    /// Says why it ends and reads on until the other side has answered, so that it sees the reason and no reset.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>, code: CloseCode, reason: &'static str) -> Poll<()> {
        let mut now = Now { wire: &mut self.wire, cx };
        let _ = self.protocol.close(&mut now, Some(CloseFrame { code, reason: reason.into() }));
        loop {
            match self.wire.poll_flush(cx) {
                Poll::Ready(Ok(())) if self.is_broken => return Poll::Ready(()),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                _ => {}
            }
            match self.protocol.read(&mut Now { wire: &mut self.wire, cx }) {
                Ok(_) => {}
                Err(SocketError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    fn take(&mut self, message: Message) -> Next {
        #[cfg(test)]
        if self.is_echo && (message.is_text() || message.is_binary()) {
            let mut out = Vec::new();
            let first = if message.is_text() { frame::TEXT } else { frame::BINARY };
            write_frame(&mut out, first, |out| out.extend_from_slice(&message.into_data()));
            self.wire.push(out.into());
            return Next::Go;
        }
        let bytes = match &message {
            Message::Text(message) => message.as_bytes(),
            Message::Binary(_) => {
                return Next::End(CloseCode::Unsupported, "binary frames are for peers, which ask for the subprotocol timebus.peer.v1");
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_) => return Next::Go,
        };
        let json = match Json::parse(bytes, Limits { bytes_max: MESSAGE_BYTES_MAX, values_max: VALUES_MAX, ..Limits::default() }) {
            Ok(Json::Object(members)) => members,
            Ok(_) => return Next::Say(error(None, &Problem::new(StatusCode::BAD_REQUEST, "json", "not a message", "a message is a JSON object"))),
            Err(problem) => {
                return Next::Say(error(None, &Problem::new(StatusCode::BAD_REQUEST, "json", "not JSON", problem.to_string())));
            }
        };
        let mut message = Fields(json);
        if let Some(token) = message.take_text("auth") {
            // That a page is of our own origin was checked before there was a socket.
            return match check_token(&self.peer, &token, &self.kind, self.held.origin.is_some()) {
                Ok(who) => {
                    self.authorized_by = None;
                    self.held.link.prove();
                    self.restated = restated(&self.peer, !who.is_owner());
                    let max = Some(message_bytes_max(&who));
                    self.protocol.set_config(|config| (config.max_message_size, config.max_frame_size) = (max, max));
                    self.who = who;
                    Next::Say(b"{\"auth\":true}".to_vec())
                }
                Err(problem) => Next::Say(error(None, &problem)),
            };
        }
        if self.authorized_by.is_some() {
            return Next::End(CloseCode::Policy, UNAUTHORIZED);
        }
        let id = match message.0.remove("id") {
            Some(Json::Int(id)) if id >= 0 => id as u64,
            _ => {
                let problem = Problem::new(
                    StatusCode::BAD_REQUEST,
                    "message",
                    "the message has no id",
                    "every message has an id, a number that the answer carries",
                )
                .with_fix("for example {\"id\":1,\"watch\":\"/notes\"}");
                return Next::Say(error(None, &problem));
            }
        };
        if let Err(problem) = pace(&self.peer, &self.who) {
            return Next::Say(error(Some(id), &problem));
        }
        let mut peer = self.peer.clone();
        let first = message.space_named().map(|name| format!("@{name}"));
        if let Some((_, persona)) = personas::named(&peer, &self.who, first.as_deref()) {
            message = match message.behind_space() {
                Ok(message) => message,
                Err(problem) => return Next::Say(error(Some(id), &problem)),
            };
            peer = persona;
        }
        if let Some(name) = message.space_named().filter(|_| may_fetch(&self.who)) {
            if message.is_watch() {
                self.coming.push(id);
            }
            // For an app nothing is fetched before it is known that it may read it, and that is asked below.
            let (who, fetch, wanted) = (self.who.clone(), self.who.is_owner(), message.wanted());
            self.pending.push(Box::pin(async move {
                let reached = async {
                    let (verb, path) = wanted?;
                    let key = space_of(&peer, &who, &name, verb, &path).await?;
                    reach_space(&peer, key, PATIENCE, fetch).await
                };
                match reached.await {
                    Ok((space, _)) => {
                        let message = message.with_key(&space.key);
                        Done::Reached(id, peer, message)
                    }
                    Err(problem) => Done::Refused(id, problem),
                }
            }));
            return Next::Go;
        }
        match self.act(&peer, id, message) {
            Ok(reply) => reply.map_or(Next::Go, Next::Say),
            Err(problem) => Next::Say(error(Some(id), &problem)),
        }
    }

    fn act(&mut self, peer: &Peer, id: u64, mut message: Fields) -> Result<Option<Vec<u8>>, Problem> {
        if let Some(source) = message.take_source("watch", &peer.space())? {
            message.finish()?;
            return self.compute(peer, id, source).map(|()| None);
        }
        if let Some(source) = message.take_source("get", &peer.space())? {
            message.finish()?;
            self.look(peer, id, source);
            return Ok(None);
        }
        if let Some(path) = message.take_path("watch", peer, &self.who, Verb::Read)? {
            let from = message.take_versions("from")?;
            let window = message.take_window()?;
            message.finish()?;
            return self.watch(peer, id, path, from, window);
        }
        if message.0.remove("unwatch").is_some() {
            message.finish()?;
            self.watches.retain(|(other, _, _)| *other != id);
            for (_, ends, _) in self.computing.extract_if(.., |(other, ..)| *other == id) {
                ends.abort();
            }
            self.coming.retain(|coming| *coming != id);
            return Ok(Some(format!("{{\"id\":{id},\"unwatched\":true}}").into_bytes()));
        }
        if let Some(value) = message.0.remove("presence") {
            message.finish()?;
            let value = Some(value).filter(|value| *value != Json::Null);
            let Some((_, watch, _)) = self.watches.iter_mut().find(|(other, _, _)| *other == id) else {
                let detail = format!("no watch of this socket has the id {id}");
                return Err(Problem::new(StatusCode::NOT_FOUND, "presence", "there is no such watch", detail).with_fix("watch the path first"));
            };
            let by = match self.who.principal() {
                Some(Principal::Key(key)) => key,
                Some(Principal::Owner | Principal::App(_)) => watch.own(),
                None => return Err(who_are_you("others are told whose key stands for a presence")),
            };
            watch.be_present(by, value.as_ref(), &self.signal)?;
            return Ok(None);
        }
        if let Some(path) = message.take_path("get", peer, &self.who, Verb::Read)? {
            let at = message.take_versions("version")?;
            let window = message.take_window()?;
            message.finish()?;
            if let Some(source) = Source::at(path.0, &path.1) {
                self.look(peer, id, source);
                return Ok(None);
            }
            let Some(reader) = self.reader() else { return get(&peer.store.asked_by(self.who.asker()), id, path, at, window).map(Some) };
            let (peer, store) = (peer.clone(), peer.store.asked_by(self.who.asker()));
            self.is_reading = true;
            self.pending.push(Box::pin(async move {
                let others = peer.others();
                let work = {
                    let others = peer.others();
                    async move {
                        let message = get(&store, id, path, at, window)?;
                        others.room(Some(reader), message.len())?;
                        Ok::<_, Problem>(others.keep(Some(reader), framed(&message).into()))
                    }
                };
                Done::Read(id, others.in_turn(Some(reader), work).await.flatten())
            }));
            return Ok(None);
        }
        let bytes = if self.who.payer().is_some() { message.bytes() } else { 0 };
        let value = message.0.remove("value");
        let needed = || value.clone().ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "message", "the value is missing", "add \"value\""));
        let ((space, path), action) = if let Some(path) = message.take_path("put", peer, &self.who, Verb::Write)? {
            (path, Action::Put(needed()?))
        } else if let Some(path) = message.take_path("patch", peer, &self.who, Verb::Write)? {
            (path, Action::Merge(needed()?))
        } else if let Some(path) = message.take_path("post", peer, &self.who, Verb::Write)? {
            (path, Action::Post { name: crate::write::time_sorted_id(), value: needed()? })
        } else if let Some(path) = message.take_path("edit", peer, &self.who, Verb::Write)? {
            (path, Action::EditText(TextEdits::Sequence(message.take_edits()?)))
        } else if let Some(path) = message.take_path("text", peer, &self.who, Verb::Write)? {
            let Json::String(text) = needed()? else {
                return Err(Problem::new(StatusCode::BAD_REQUEST, "message", "the value is no text", "a text is a string"));
            };
            let mime = match message.take_text("type").as_deref() {
                None | Some("text/plain") => Mime::plain_text(),
                Some("text/markdown") => Mime::markdown(),
                Some(other) => {
                    let detail = format!("{other} is neither text/plain nor text/markdown");
                    return Err(Problem::new(StatusCode::BAD_REQUEST, "message", "this is no kind of text", detail));
                }
            };
            (path, Action::PutText { mime, text })
        } else if let Some(path) = message.take_path("inc", peer, &self.who, Verb::Write)? {
            match message.0.remove("by") {
                None => (path, Action::Inc(1)),
                Some(Json::Int(delta)) => (path, Action::Inc(delta)),
                Some(_) => return Err(Problem::new(StatusCode::BAD_REQUEST, "message", "by is malformed", "it is a whole number")),
            }
        } else if let Some(path) = message.take_path("delete", peer, &self.who, Verb::Write)? {
            (path, Action::Delete)
        } else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "message",
                "nothing to do",
                "a message has one of watch, unwatch, get, put, patch, post, text, edit, inc, delete",
            ));
        };
        let label = message.take_text("version");
        let parents = message.take_versions("parents")?;
        let durable = message.0.remove("async") != Some(Json::Bool(true));
        let says_at = message.0.remove("at") == Some(Json::Bool(true));
        message.finish()?;
        let writing = peer.quiet.begin()?;
        crate::route::is_wanted(peer, &self.who, &space.key)?;
        let may_name = behalf::may_name(&self.who, space, None);
        let request = Request { space: Some(space), path, action, parents, label, condition: Condition::None, time_ms: now_ms(), durable, may_name };
        crate::community::check_rules(peer.store(), &request)?;
        let (peer, who, reader) = (peer.clone(), self.who.clone(), self.reader());
        let mut coming = peer.others().coming(reader);
        coming.more(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let sent = std::sync::Arc::new(coming);
        self.pending.push(Box::pin(async move {
            let _writing = writing;
            let written = behalf::write(&peer, &who, (reader, &Some(sent)), request).await;
            let reply = match written.and_then(|written| written.map_err(|problem| write_problem(&problem))) {
                Ok(written) => {
                    let mut out = format!("{{\"id\":{id},\"ok\":true,\"version\":[").into_bytes();
                    for (at, name) in written.version.iter().enumerate() {
                        if at > 0 {
                            out.push(b',');
                        }
                        write_string(name, &mut out);
                    }
                    out.push(b']');
                    if let Some(created) = &written.created {
                        out.extend_from_slice(b",\"created\":");
                        write_string(&created.to_string(), &mut out);
                    }
                    if let Some((at, log)) = says_at.then(|| crate::write::arrival(peer.store(), space, &written)).flatten() {
                        out.extend_from_slice(format!(",\"at\":{at},\"log\":\"{log}\"").as_bytes());
                    }
                    out.extend_from_slice(format!(",\"durable\":{}}}", written.durable).as_bytes());
                    out
                }
                Err(problem) => error(Some(id), &problem),
            };
            Done::Say(reply)
        }));
        Ok(None)
    }

    fn watch(
        &mut self,
        peer: &Peer,
        id: u64,
        (space, path): (Space, Path),
        from: Option<Vec<String>>,
        window: Option<Window>,
    ) -> Result<Option<Vec<u8>>, Problem> {
        self.has_room(id)?;
        if let Some(source) = Source::at(space, &path) {
            return self.compute(peer, id, source).map(|()| None);
        }
        let counted = self.held.origin.as_ref().map(|origin| origin.also(Of::Subscriptions)).transpose()?;
        let (reader, who, peer) = (self.reader(), self.who.clone(), peer.clone());
        let stay = if space.key == peer.space() { None } else { stay(&peer, space.key) };
        let others = peer.others();
        let start = move || {
            let (who, path, form) = (&who, &path, Form::Watch(id));
            let start = Start { who, reader, space, path, form, client: None, merge: None, is_whole: false, from, window, origin: counted };
            Watch::start(&peer, start)
        };
        if reader.is_none() {
            self.tell(id, start()?, stay);
            return Ok(None);
        }
        self.is_reading = true;
        self.pending.push(Box::pin(async move {
            let begun = others.in_turn(reader, async move { start().map(Box::new) }).await.flatten();
            Done::Begun(id, begun, stay)
        }));
        Ok(None)
    }

    /// Tells what a watch has from now on.
    fn tell(&mut self, id: u64, watch: Watch, stay: Option<Stay>) {
        watch.signal(&self.signal);
        self.watches.push((id, watch, stay));
    }

    /// Whoever is at the other end, if it is neither the owner nor an app of his.
    fn reader(&self) -> Option<Reader> {
        Reader::of(&self.peer, &self.who, self.held.link.ends)
    }

    /// Whether one more watch can begin, with this id.
    fn has_room(&self, id: u64) -> Result<(), Problem> {
        if self.watches.iter().any(|(other, _, _)| *other == id) || self.computing.iter().any(|(other, ..)| *other == id) {
            return Err(Problem::new(StatusCode::CONFLICT, "watch", "this id is in use", "another watch of this socket has the id"));
        }
        if self.watches.len() + self.computing.len() + self.coming.len() >= WATCHES_MAX {
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "watch", "too many watches", format!("one socket may have {WATCHES_MAX}")));
        }
        Ok(())
    }

    /// Watches a value that is worked out, once it was worked out for the first time.
    fn compute(&mut self, peer: &Peer, id: u64, source: Source) -> Result<(), Problem> {
        self.has_room(id)?;
        if self.who.is_guest() && self.computing.len() + self.coming.len() >= GUEST_COMPUTED_MAX {
            let detail = format!("one socket of a guest may have {GUEST_COMPUTED_MAX} of what is worked out, as /.auth");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "watch", "too many watches", detail));
        }
        let of_origin = self.held.origin.as_ref().map(|origin| origin.also(Of::Subscriptions)).transpose()?;
        let of_reader = self.reader().map(|reader| reader.count_stream(peer)).transpose()?;
        let counted = [of_origin, of_reader];
        self.coming.push(id);
        let (peer, who) = (peer.clone(), self.who.clone());
        self.pending.push(Box::pin(async move {
            match Computed::start(&peer, &who, source, Form::Watch(id)).await {
                Ok(watch) => Done::Watching(id, Box::new(watch), counted),
                Err(problem) => Done::Refused(id, problem),
            }
        }));
        Ok(())
    }

    fn begin(&mut self, id: u64, watch: Computed, counted: Counts) -> Result<(), Problem> {
        self.has_room(id)?;
        let news = watch.stream().map(move |bytes| (id, Some(bytes))).chain(futures_util::stream::once(async move { (id, None) }));
        let (news, ends) = futures_util::stream::abortable(news);
        self.computed.push(news.boxed());
        self.computing.push((id, ends, counted));
        Ok(())
    }

    /// Reads a value that is worked out.
    fn look(&mut self, peer: &Peer, id: u64, source: Source) {
        let (peer, who, reader) = (peer.clone(), self.who.clone(), self.reader());
        self.pending.push(Box::pin(async move {
            let others = peer.others();
            Done::Say(match others.in_turn(reader, async move { source.read(&peer, &who).await }).await.flatten() {
                Ok(Some(value)) => format!("{{\"id\":{id},\"value\":{value}}}").into_bytes(),
                Ok(None) => format!("{{\"id\":{id},\"absent\":true}}").into_bytes(),
                Err(problem) => error(Some(id), &problem),
            })
        }));
    }
}

/// Reads what is at a path.
fn get(store: &Store, id: u64, (space, path): (Space, Path), at: Option<Vec<String>>, window: Option<Window>) -> Result<Vec<u8>, Problem> {
    let failed = |problem| crate::route::storage_problem(&problem);
    let rows = store.snapshot();
    let mut json = Vec::new();
    let mut whole = |tree: &Tree| tree.write_json(Show { space: &space.key, all: false }, &mut json);
    let next_name = if window.as_ref().is_some_and(|window| window.is_last) { "next_before" } else { "next_after" };
    let (page, present, version) = match (at, window) {
        (Some(version), window) => {
            let tree = store.read_at(&rows, space, &path, &version).map_err(|problem| write_problem(&problem))?;
            let page = window.as_ref().and_then(|window| window.cut(&tree, &space.key));
            let present = if window.is_some() { page.is_some() } else { whole(&tree) };
            (page, present, version)
        }
        (None, None) => {
            let reading = store.read(&rows, space, &path).map_err(failed)?;
            (None, whole(&reading.tree), reading.version)
        }
        (None, Some(window)) => {
            let page = window.read(store, &rows, space, &path).map_err(failed)?;
            let present = page.is_some();
            (page, present, store.version(&rows, space, &path).map_err(failed)?)
        }
    };
    let mut out = format!("{{\"id\":{id},").into_bytes();
    if let Some(page) = &page {
        page.json.write(&mut json);
    }
    out.extend_from_slice(if present { b"\"value\":" } else { b"\"absent\":true" });
    out.extend_from_slice(&json);
    if let Some(next) = page.and_then(|page| page.next) {
        out.extend_from_slice(format!(",\"{next_name}\":").as_bytes());
        write_string(&next, &mut out);
    }
    out.extend_from_slice(b",\"version\":[");
    for (at, name) in version.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(name, &mut out);
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

/// A message, as it is written.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 10);
    write_text(&mut out, |out| out.extend_from_slice(message));
    out
}

/// Waits for rights to change, or for a while after which they may have ended, if that makes a difference.
fn restated(peer: &Peer, is_wanted: bool) -> Option<BoxFuture<'static, ()>> {
    let mut restatements = is_wanted.then(|| peer.store().restatements())?;
    Some(Box::pin(async move { drop(tokio::time::timeout(RECHECK, restatements.changed()).await) }))
}

fn error(id: Option<u64>, problem: &Problem) -> Vec<u8> {
    let mut message = serde_json::json!({
        "error": { "status": problem.status.as_u16(), "title": problem.title, "detail": problem.detail }
    });
    for (name, value) in &problem.extra {
        message["error"][name] = value.clone();
    }
    if let Some(fix) = &problem.fix {
        message["error"]["fix"] = fix.as_str().into();
    }
    if let Some(id) = id {
        message["id"] = id.into();
    }
    message.to_string().into_bytes()
}

/// What a broken socket is told, where it can be told anything.
fn close_reason(error: &SocketError) -> Option<(CloseCode, &'static str)> {
    match error {
        SocketError::Capacity(_) => Some((CloseCode::Size, "the message is too large")),
        SocketError::Utf8(_) => Some((CloseCode::Invalid, "the message is not UTF-8")),
        SocketError::Protocol(_) => Some((CloseCode::Protocol, "the frame is malformed")),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
