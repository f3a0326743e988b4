//! The websocket: many watches and requests on one socket, in JSON that a person can type.
//!
//! A page has to send `{"auth":"<token>"}` first; a program of the owner does not. A socket is one task: it reads
//! a message, or writes what a watch or a finished request has for it, and while the other side takes nothing it
//! reads nothing.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{AbortHandle, Abortable, FuturesUnordered, SelectAll};
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use timebus_store::json::{Json, Limits, write_string};
use timebus_store::path::Path;
use timebus_store::tree::{Show, Tree};
use timebus_store::writer::{Action, Condition, Request};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::body::Body;
use crate::peer::{OriginCount, Peer};
use crate::problem::Problem;
use crate::route::{bad_path, resolve, write_problem};
use crate::server::Link;
use crate::target::Query;
use crate::watch::{Form, Watch};
use crate::who::{check_token, foreign_origin, identify, is_browser, is_same_origin, now_ms, text};
use crate::window::Window;

/// The protocol that pages have to ask for.
const PROTOCOL: &str = "timebus.v1";
/// How long a page may take to say who it is.
const AUTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Watches of one socket.
const WATCHES_MAX: usize = 256;
/// Requests of one socket that are not answered yet; more are read later.
const PENDING_MAX: usize = 256;
/// Largest message.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// From this time on a message had to wait for the other side to take it.
const WAITED: Duration = Duration::from_secs(1);
/// Kept per socket for reading and for writing.
const BUFFER_BYTES: usize = 4 * 1024;

/// Whether a request asks for a websocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    text(headers, header::UPGRADE).is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

/// Answers the handshake and serves the socket beside it.
pub(crate) fn upgrade(peer: &Peer, link: &Link, head: http::request::Parts, body: Incoming) -> Result<Response<Body>, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "websocket", "this is not a websocket handshake", detail);
    let browser = is_browser(&head.headers);
    let mut origin = None;
    if browser {
        if !is_same_origin(&head) || !head.headers.contains_key(header::ORIGIN) {
            return Err(foreign_origin());
        }
        let name = text(&head.headers, header::ORIGIN).unwrap_or_default();
        origin = Some(peer.count_origin(name).ok_or_else(|| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "connections",
                "too many connections",
                "this web origin has all the connections it may have",
            )
        })?);
    }
    let who = identify(peer, link, &head)?;
    if !browser && !who.is_owner() {
        return Err(who.denied());
    }
    if head.method != http::Method::GET || text(&head.headers, "sec-websocket-version") != Some("13") {
        return Err(bad("send GET with Sec-WebSocket-Version: 13"));
    }
    let key = head.headers.get("sec-websocket-key").ok_or_else(|| bad("Sec-WebSocket-Key is missing"))?;
    let accept = derive_accept_key(key.as_bytes());
    let asked = text(&head.headers, "sec-websocket-protocol").is_some_and(|protocols| protocols.split(',').any(|p| p.trim() == PROTOCOL));
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
    if asked {
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(PROTOCOL));
    }
    let peer = peer.clone();
    let request = http::Request::from_parts(head, body);
    let (mut head, body) = request.into_parts();
    let upgrading = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
    drop(body);
    tokio::spawn(async move {
        let Some(upgrading) = upgrading else { return };
        let Ok(upgraded) = upgrading.await else { return };
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(2 * MESSAGE_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let authorized = who.is_owner();
        Socket { peer, head, authorized, watches: SelectAll::new(), handles: HashMap::new(), pending: FuturesUnordered::new(), _origin: origin }
            .serve(socket)
            .await;
    });
    Ok(response)
}

type WatchStream = Pin<Box<Abortable<Pin<Box<dyn Stream<Item = Bytes> + Send>>>>>;

struct Socket {
    peer: Peer,
    head: http::request::Parts,
    authorized: bool,
    watches: SelectAll<WatchStream>,
    handles: HashMap<u64, AbortHandle>,
    pending: FuturesUnordered<BoxFuture<'static, Vec<u8>>>,
    _origin: Option<OriginCount>,
}

/// What to do after a message.
enum Next {
    Go,
    Say(Vec<u8>),
    End(CloseCode, &'static str),
    /// What foreign test suites ask for: the message back. Exists in unit tests only.
    #[cfg(test)]
    Echo(Message),
}

impl Socket {
    async fn serve<S>(mut self, mut socket: WebSocketStream<S>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let heartbeat = Duration::from_secs(self.peer.config.heartbeat_s);
        let mut ticks = tokio::time::interval(heartbeat / 2);
        ticks.reset();
        let mut heard = tokio::time::Instant::now();
        // Whether something was sent since then. Who reads slowly answers a ping only after all that came before
        // it, and is not taken for dead; TCP notices those who are.
        let mut owing = false;
        let deadline = tokio::time::sleep(AUTH_TIMEOUT);
        tokio::pin!(deadline);
        let mut stopped = self.peer.stop.subscribe();
        let ended = loop {
            let result = tokio::select! {
                message = socket.next(), if self.pending.len() < PENDING_MAX => {
                    heard = tokio::time::Instant::now();
                    owing = false;
                    match message {
                        None => return,
                        Some(Err(error)) => break close_reason(&error),
                        Some(Ok(message)) => match self.take(message) {
                            Next::Go => Ok(()),
                            Next::Say(reply) => send_lines(&mut socket, &reply, &mut heard).await,
                            Next::End(code, reason) => break Some((code, reason)),
                            #[cfg(test)]
                            Next::Echo(message) => socket.send(message).await,
                        },
                    }
                }
                Some(bytes) = self.watches.next(), if !self.watches.is_empty() => send_lines(&mut socket, &bytes, &mut heard).await,
                Some(reply) = self.pending.next(), if !self.pending.is_empty() => send_lines(&mut socket, &reply, &mut heard).await,
                () = &mut deadline, if !self.authorized => break Some((CloseCode::Policy, "send {\"auth\":\"<token>\"} first")),
                _ = ticks.tick() => {
                    if !owing && heard.elapsed() > heartbeat {
                        return;
                    }
                    socket.send(Message::Ping(Bytes::new())).await
                }
                () = until_stopped(&mut stopped) => break Some((CloseCode::Away, "the peer is stopping")),
            };
            if result.is_err() {
                return;
            }
        };
        if let Some((code, reason)) = ended {
            let frame = CloseFrame { code, reason: reason.into() };
            let goodbye = async {
                let _ = socket.close(Some(frame)).await;
                // Read on until the other side has answered, so that it sees the reason and no reset.
                while let Some(Ok(_)) = socket.next().await {}
            };
            let _ = tokio::time::timeout(Duration::from_secs(2), goodbye).await;
        }
    }

    fn take(&mut self, message: Message) -> Next {
        #[cfg(test)]
        if self.head.uri.path() == tests::ECHO && (message.is_text() || message.is_binary()) {
            return Next::Echo(message);
        }
        let bytes = match &message {
            Message::Text(message) => message.as_bytes(),
            Message::Binary(_) => return Next::End(CloseCode::Unsupported, "binary frames are for peers, which this version does not speak yet"),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) | Message::Close(_) => return Next::Go,
        };
        let json = match Json::parse(bytes, Limits { bytes_max: MESSAGE_BYTES_MAX, ..Limits::default() }) {
            Ok(Json::Object(members)) => members,
            Ok(_) => return Next::Say(error(None, &Problem::new(StatusCode::BAD_REQUEST, "json", "not a message", "a message is a JSON object"))),
            Err(problem) => {
                return Next::Say(error(None, &Problem::new(StatusCode::BAD_REQUEST, "json", "not JSON", problem.to_string())));
            }
        };
        let mut message = Fields(json);
        if let Some(token) = message.take_text("auth") {
            return match check_token(&self.peer, &token, &self.head) {
                Ok(_) => {
                    self.authorized = true;
                    Next::Say(b"{\"auth\":true}".to_vec())
                }
                Err(problem) => Next::Say(error(None, &problem)),
            };
        }
        if !self.authorized {
            return Next::End(CloseCode::Policy, "send {\"auth\":\"<token>\"} first");
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
        match self.act(id, message) {
            Ok(reply) => reply.map_or(Next::Go, Next::Say),
            Err(problem) => Next::Say(error(Some(id), &problem)),
        }
    }

    fn act(&mut self, id: u64, mut message: Fields) -> Result<Option<Vec<u8>>, Problem> {
        if let Some(path) = message.take_path("watch", &self.peer)? {
            let from = message.take_versions("from")?;
            let window = message.take_window()?;
            message.finish()?;
            return self.watch(id, &path, from, window);
        }
        if message.0.remove("unwatch").is_some() {
            message.finish()?;
            if let Some(handle) = self.handles.remove(&id) {
                handle.abort();
            }
            return Ok(Some(format!("{{\"id\":{id},\"unwatched\":true}}").into_bytes()));
        }
        if let Some(path) = message.take_path("get", &self.peer)? {
            let at = message.take_versions("version")?;
            let window = message.take_window()?;
            message.finish()?;
            return self.get(id, &path, at, window).map(Some);
        }
        let value = message.0.remove("value");
        let needed = || value.clone().ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "message", "the value is missing", "add \"value\""));
        let (path, action) = if let Some(path) = message.take_path("put", &self.peer)? {
            (path, Action::Put(needed()?))
        } else if let Some(path) = message.take_path("patch", &self.peer)? {
            (path, Action::Merge(needed()?))
        } else if let Some(path) = message.take_path("post", &self.peer)? {
            (path, Action::Post { name: crate::write::time_sorted_id(), value: needed()? })
        } else if let Some(path) = message.take_path("delete", &self.peer)? {
            (path, Action::Delete)
        } else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "message",
                "nothing to do",
                "a message has one of watch, unwatch, get, put, patch, post, delete",
            ));
        };
        let label = message.take_text("version");
        let parents = message.take_versions("parents")?;
        let durable = message.0.remove("async") != Some(Json::Bool(true));
        message.finish()?;
        let request = Request { path, action, parents, label, condition: Condition::None, time_ms: now_ms(), durable };
        let store = self.peer.store().clone();
        self.pending.push(Box::pin(async move {
            match store.write(request).await {
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
                    out.extend_from_slice(format!(",\"durable\":{}}}", written.durable).as_bytes());
                    out
                }
                Err(problem) => error(Some(id), &write_problem(&problem)),
            }
        }));
        Ok(None)
    }

    fn watch(&mut self, id: u64, path: &Path, from: Option<Vec<String>>, window: Option<Window>) -> Result<Option<Vec<u8>>, Problem> {
        if self.handles.contains_key(&id) {
            return Err(Problem::new(StatusCode::CONFLICT, "watch", "this id is in use", "another watch of this socket has the id"));
        }
        if self.handles.len() >= WATCHES_MAX {
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "watch", "too many watches", format!("one socket may have {WATCHES_MAX}")));
        }
        let watch = Watch::start(&self.peer, path, Form::Watch(id), from, window)?;
        let stream: Pin<Box<dyn Stream<Item = Bytes> + Send>> = Box::pin(futures_util::stream::unfold(watch, |mut watch| async move {
            let bytes = watch.next().await?;
            Some((bytes, watch))
        }));
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.insert(id, handle);
        self.watches.push(Box::pin(Abortable::new(stream, registration)));
        Ok(None)
    }

    fn get(&self, id: u64, path: &Path, at: Option<Vec<String>>, window: Option<Window>) -> Result<Vec<u8>, Problem> {
        let (store, space) = (self.peer.store(), self.peer.space());
        let failed = |problem| crate::route::storage_problem(&problem);
        let rows = store.snapshot();
        let mut json = Vec::new();
        let mut whole = |tree: &Tree| tree.write_json(Show { space: &space, all: false }, &mut json);
        let (page, present, version) = match (at, window) {
            (Some(version), window) => {
                let tree = store.read_at(&rows, path, &version).map_err(|problem| write_problem(&problem))?;
                let page = window.as_ref().and_then(|window| window.cut(&tree, &space));
                let present = if window.is_some() { page.is_some() } else { whole(&tree) };
                (page, present, version)
            }
            (None, None) => {
                let reading = store.read(&rows, path).map_err(failed)?;
                (None, whole(&reading.tree), reading.version)
            }
            (None, Some(window)) => {
                let page = window.read(store, &rows, path).map_err(failed)?;
                let present = page.is_some();
                (page, present, store.version(&rows, path).map_err(failed)?)
            }
        };
        let mut out = format!("{{\"id\":{id},").into_bytes();
        if let Some(page) = &page {
            page.json.write(&mut json);
        }
        out.extend_from_slice(if present { b"\"value\":" } else { b"\"absent\":true" });
        out.extend_from_slice(&json);
        if let Some(next) = page.and_then(|page| page.next) {
            out.extend_from_slice(b",\"next_after\":");
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
}

/// Members of a message that are not used yet.
struct Fields(std::collections::BTreeMap<String, Json>);

impl Fields {
    fn take_text(&mut self, name: &str) -> Option<String> {
        match self.0.get(name) {
            Some(Json::String(_)) => match self.0.remove(name) {
                Some(Json::String(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    fn take_path(&mut self, name: &str, peer: &Peer) -> Result<Option<Path>, Problem> {
        let Some(text) = self.take_text(name) else { return Ok(None) };
        // `/@<key>/a` as in a request target, where names need escapes that there are none of here.
        let path = match text.strip_prefix('/').filter(|rest| rest.starts_with('@')) {
            Some(rest) => {
                let rest = rest.strip_suffix('/').unwrap_or(rest);
                resolve(peer, &rest.split('/').map(str::to_owned).collect::<Vec<_>>())?
            }
            None => Path::parse(&text).map_err(|error| bad_path(&error))?,
        };
        Ok(Some(path))
    }

    fn take_count(&mut self, name: &str) -> Result<Option<u32>, Problem> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Json::Int(count)) if u32::try_from(count).is_ok() => Ok(u32::try_from(count).ok()),
            Some(_) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, "message", format!("{name} is malformed"), "it is a whole number, at most 4294967295"))
            }
        }
    }

    /// `depth`, `first`, `last`, `limit` and `after`, as in the query of a GET.
    fn take_window(&mut self) -> Result<Option<Window>, Problem> {
        let query = Query {
            depth: self.take_count("depth")?,
            first: self.take_count("first")?,
            last: self.take_count("last")?,
            limit: self.take_count("limit")?,
            after: match self.0.get("after") {
                // In a list, names are places.
                Some(Json::Int(_)) => self.take_count("after")?.map(|place| place.to_string()),
                _ => self.take_text("after"),
            },
            ..Query::default()
        };
        Ok(Window::of(&query))
    }

    fn take_versions(&mut self, name: &str) -> Result<Option<Vec<String>>, Problem> {
        let bad = || Problem::new(StatusCode::BAD_REQUEST, "versions", format!("{name} is malformed"), "a version is a string or a list of strings");
        match self.0.remove(name) {
            None => Ok(None),
            Some(Json::String(version)) => Ok(Some(vec![version])),
            Some(Json::Array(items)) if items.len() <= crate::versions::IDS_MAX => items
                .into_iter()
                .map(|item| if let Json::String(version) = item { Ok(version) } else { Err(bad()) })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(bad()),
        }
    }

    fn finish(self) -> Result<(), Problem> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "message",
                "the message has a member that is not known",
                format!("{name:?} means nothing here"),
            )),
        }
    }
}

fn error(id: Option<u64>, problem: &Problem) -> Vec<u8> {
    let mut message = serde_json::json!({
        "error": { "status": problem.status.as_u16(), "title": problem.title, "detail": problem.detail }
    });
    if let Some(fix) = &problem.fix {
        message["error"]["fix"] = fix.as_str().into();
    }
    if let Some(id) = id {
        message["id"] = id.into();
    }
    message.to_string().into_bytes()
}

/// Sends each line as a message of its own and all of them at once. Whoever takes what had to wait is alive, even if
/// the answer to a ping is still behind all that.
async fn send_lines<S>(socket: &mut WebSocketStream<S>, lines: &[u8], heard: &mut tokio::time::Instant) -> Result<(), SocketError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let began = tokio::time::Instant::now();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && *line != b"\r") {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        socket.feed(Message::text(line)).await?;
    }
    socket.flush().await?;
    if began.elapsed() >= WAITED {
        *heard = tokio::time::Instant::now();
    }
    Ok(())
}

async fn until_stopped(stopped: &mut tokio::sync::watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
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
