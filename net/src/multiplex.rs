//! Braid multiplexing 1.0: many answers over one connection, for browsers, which allow six connections to an origin.
//!
//! A client opens a *multiplexer* under a name of its own and then sends GETs with `Multiplex-Through`. Each is answered
//! at once with 293, and its real answer goes down the multiplexer in pieces. The name is all that a request knows, so a
//! multiplexer carries only what its maker asks for; to everybody else it does not exist.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::sync::{mpsc, watch};

use crate::body::{Body, PIECE_BYTES};
use crate::peer::{OriginCount, Peer, lock};
use crate::problem::Problem;
use crate::read::insert;
use crate::who::{Principal, text};

/// Where multiplexers are made and ended.
const PREFIX: &str = "/.well-known/multiplexer/";
/// What is spoken here.
const VERSION: &str = "1.0";
/// Longest name of a multiplexer or of a request in one; clients draw 12 characters.
const NAME_BYTES_MAX: usize = 64;
/// Requests in one multiplexer: as many as one HTTP/2 connection has streams.
const REQUESTS_MAX: usize = 256;
/// Multiplexers of one principal: pages that he has open.
const MULTIPLEXERS_MAX: usize = 256;
/// Pieces that wait for a slow reader; then the answers are not asked for more.
const PIECES_MAX: usize = 16;
/// A request may come before the multiplexer that it names, since the two go over different connections.
const RACE: Duration = Duration::from_millis(100);
/// How often a line end says that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// All multiplexers that are open.
#[derive(Debug)]
pub(crate) struct Multiplexers {
    open: Mutex<HashMap<String, Weak<Multiplexer>>>,
    /// Counts those that were opened.
    opened: watch::Sender<u64>,
}

impl Default for Multiplexers {
    fn default() -> Self {
        Self { open: Mutex::default(), opened: watch::Sender::new(0) }
    }
}

/// One connection that carries many answers.
#[derive(Debug)]
struct Multiplexer {
    maker: Principal,
    pieces: mpsc::Sender<Bytes>,
    /// Requests that are being answered; who takes one out says that it is over.
    requests: Mutex<HashMap<String, tokio::task::AbortHandle>>,
}

impl Drop for Multiplexer {
    fn drop(&mut self) {
        for task in lock(&self.requests).values() {
            task.abort();
        }
    }
}

/// What a request says about multiplexing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Through {
    multiplexer: String,
    request: String,
}

impl Through {
    /// Reads `Multiplex-Through`, if it is there.
    ///
    /// # Errors
    ///
    /// 400 for another version, and for what are no names.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(through) = headers.get("multiplex-through") else { return Ok(None) };
        check_version(headers)?;
        let names = through.to_str().ok().and_then(|through| through.strip_prefix(PREFIX)).and_then(|names| names.split_once('/'));
        match names {
            Some((multiplexer, request)) if is_name(multiplexer) && is_name(request) => {
                Ok(Some(Self { multiplexer: multiplexer.to_owned(), request: request.to_owned() }))
            }
            _ => Err(bad_name("Multiplex-Through", &format!("{PREFIX}<multiplexer>/<request>"))),
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn bad_name(what: &str, form: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "multiplex", format!("{what} is malformed"), format!("it is {form}"))
        .with_fix(format!("names have at most {NAME_BYTES_MAX} letters, digits, - and _"))
}

fn check_version(headers: &HeaderMap) -> Result<(), Problem> {
    match text(headers, "multiplex-version") {
        Some(VERSION) => Ok(()),
        other => {
            let detail = format!("Multiplex-Version is {:?}, and here {VERSION} is spoken", other.unwrap_or_default());
            Err(Problem::new(StatusCode::BAD_REQUEST, "multiplex", "this version of multiplexing is not known", detail))
        }
    }
}

/// The name of the multiplexer that a request opens, with that of the request in it that it ends. Pages open one with a
/// method of its own, other clients with a POST.
pub(crate) fn name<'a>(method: &Method, path: &'a str) -> Option<&'a str> {
    match method.as_str() {
        "MULTIPLEX" => Some(path.strip_prefix(PREFIX).unwrap_or_else(|| path.trim_start_matches('/'))),
        "POST" | "DELETE" => path.strip_prefix(PREFIX),
        _ => None,
    }
}

/// Opens a multiplexer: the answer is the connection that carries all others.
///
/// # Errors
///
/// 400 for malformed requests, 409 in the words that clients look for, 429.
pub(crate) fn open(peer: &Peer, maker: Principal, headers: &HeaderMap, name: &str, origin: Option<OriginCount>) -> Result<Response<Body>, Problem> {
    check_version(headers)?;
    if !is_name(name) {
        return Err(bad_name("the name", &format!("{PREFIX}<multiplexer>")));
    }
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let multiplexer = Arc::new(Multiplexer { maker, pieces, requests: Mutex::default() });
    {
        let mut open = lock(&peer.multiplexers.open);
        open.retain(|_, other| other.strong_count() > 0);
        let of_maker = open.values().filter_map(Weak::upgrade).filter(|other| other.maker == multiplexer.maker).count();
        if of_maker >= MULTIPLEXERS_MAX {
            let detail = format!("one principal may have {MULTIPLEXERS_MAX} open");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "multiplex", "too many multiplexers", detail));
        }
        match open.entry(name.to_owned()) {
            Entry::Occupied(_) => return Ok(taken("Multiplexer already exists")),
            Entry::Vacant(entry) => entry.insert(Arc::downgrade(&multiplexer)),
        };
    }
    peer.multiplexers.opened.send_modify(|count| *count += 1);
    let mut response = Response::new(Body::stream(futures_util::stream::once(async { Bytes::from_static(b"\r\n") }).chain(
        futures_util::stream::unfold((received, peer.stop.subscribe(), (multiplexer, origin)), |(mut received, mut stopped, held)| async move {
            let piece = tokio::select! {
                piece = received.recv() => piece?,
                _ = stopped.wait_for(|stop| *stop) => return None,
                () = tokio::time::sleep(HEARTBEAT) => Bytes::from_static(b"\r\n"),
            };
            Some((piece, (received, stopped, held)))
        }),
    )));
    marked(response.headers_mut());
    response.headers_mut().insert("incremental", HeaderValue::from_static("?1"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Ends a request in a multiplexer.
///
/// # Errors
///
/// 400 for malformed requests.
pub(crate) fn end(peer: &Peer, maker: &Principal, headers: &HeaderMap, names: &str) -> Result<Response<Body>, Problem> {
    check_version(headers)?;
    let form = format!("{PREFIX}<multiplexer>/<request>");
    let (name, request) = names.split_once('/').filter(|(a, b)| is_name(a) && is_name(b)).ok_or_else(|| bad_name("the path", &form))?;
    let Some(multiplexer) = find(peer, maker, name) else { return Ok(missing(StatusCode::NOT_FOUND, "bad-multiplexer", name)) };
    match lock(&multiplexer.requests).remove(request) {
        Some(task) => task.abort(),
        None => return Ok(missing(StatusCode::NOT_FOUND, "bad-request", request)),
    }
    let mut response = Response::new(Body::empty());
    marked(response.headers_mut());
    Ok(response)
}

fn find(peer: &Peer, maker: &Principal, name: &str) -> Option<Arc<Multiplexer>> {
    lock(&peer.multiplexers.open).get(name).and_then(Weak::upgrade).filter(|multiplexer| multiplexer.maker == *maker)
}

/// Answers a request through a multiplexer. `real` is what the answer would have been without one.
pub(crate) async fn answer(
    peer: &Peer,
    maker: &Principal,
    through: Through,
    real: impl Future<Output = Response<Body>> + Send + 'static,
) -> Response<Body> {
    let mut opened = peer.multiplexers.opened.subscribe();
    let wait = async {
        loop {
            opened.borrow_and_update();
            if let Some(multiplexer) = find(peer, maker, &through.multiplexer) {
                return multiplexer;
            }
            if opened.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let Ok(multiplexer) = tokio::time::timeout(RACE, wait).await else {
        return missing(StatusCode::FAILED_DEPENDENCY, "bad-multiplexer", &through.multiplexer);
    };
    let request = through.request.clone();
    let weak = Arc::downgrade(&multiplexer);
    let mut requests = lock(&multiplexer.requests);
    if requests.contains_key(&request) {
        return taken("Request already multiplexed");
    }
    if requests.len() >= REQUESTS_MAX {
        let detail = format!("one multiplexer may have {REQUESTS_MAX}");
        return crate::body::refuse(&Problem::new(StatusCode::TOO_MANY_REQUESTS, "multiplex", "too many requests in this multiplexer", detail));
    }
    let pieces = multiplexer.pieces.clone();
    // It cannot end before its handle is among the requests, which are locked.
    let task = tokio::spawn({
        let request = request.clone();
        async move {
            let _ = carry(&pieces, &request, real.await).await;
            if let Some(multiplexer) = weak.upgrade() {
                lock(&multiplexer.requests).remove(&request);
            }
        }
    });
    requests.insert(request, task.abort_handle());
    drop(requests);
    let mut response = Response::new(Body::ready(Bytes::from_static(b"Ok.")));
    *response.status_mut() = StatusCode::from_u16(293).unwrap_or(StatusCode::OK);
    marked(response.headers_mut());
    insert(response.headers_mut(), "multiplex-through", &format!("{PREFIX}{}/{}", through.multiplexer, through.request));
    response
}

/// Sends an answer down a multiplexer, piece by piece.
async fn carry(pieces: &mpsc::Sender<Bytes>, request: &str, response: Response<Body>) -> Result<(), mpsc::error::SendError<Bytes>> {
    pieces.send(format!("start response {request}\r\n").into()).await?;
    let (head, body) = response.into_parts();
    let phrase = head.extensions.get::<hyper::ext::ReasonPhrase>().map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned());
    let phrase = phrase.unwrap_or_else(|| head.status.canonical_reason().unwrap_or("Unknown").to_owned());
    let mut first = format!("HTTP/1.1 {} {phrase}\r\n", head.status.as_u16()).into_bytes();
    for (name, value) in &head.headers {
        first.extend_from_slice(name.as_str().as_bytes());
        first.extend_from_slice(b": ");
        first.extend_from_slice(value.as_bytes());
        first.extend_from_slice(b"\r\n");
    }
    first.extend_from_slice(b"\r\n");
    pieces.send(framed(request, &first)).await?;
    match body {
        Body::Ready(None) => {}
        Body::Ready(Some(mut bytes)) => {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                pieces.send(framed(request, &piece)).await?;
            }
        }
        Body::Stream(mut stream) => {
            while let Some(Ok(bytes)) = stream.next().await {
                if !bytes.is_empty() {
                    pieces.send(framed(request, &bytes)).await?;
                }
            }
        }
    }
    pieces.send(format!("close response {request}\r\n").into()).await
}

fn framed(request: &str, bytes: &[u8]) -> Bytes {
    let mut out = format!("{} bytes for response {request}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.into()
}

fn marked(headers: &mut HeaderMap) {
    headers.insert("multiplex-version", HeaderValue::from_static(VERSION));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// A name is taken; clients look at the text.
fn taken(error: &str) -> Response<Body> {
    let mut response = Response::new(Body::ready(Bytes::from(format!("{{\"error\":\"{error}\"}}\n"))));
    *response.status_mut() = StatusCode::CONFLICT;
    marked(response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn missing(status: StatusCode, header: &str, name: &str) -> Response<Body> {
    let problem = Problem::new(status, "multiplex", "this is not open", format!("nothing named {name} is open here"));
    let mut response = crate::body::refuse(&problem.with_fix(format!("open a multiplexer with POST {PREFIX}<name>")));
    marked(response.headers_mut());
    insert(response.headers_mut(), header, name);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(text: &'static str, version: Option<&'static str>) -> Result<Option<Through>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert("multiplex-through", HeaderValue::from_static(text));
        if let Some(version) = version {
            headers.insert("multiplex-version", HeaderValue::from_static(version));
        }
        Through::of(&headers)
    }

    #[test]
    fn reads_names_and_nothing_else() {
        assert_eq!(Through::of(&HeaderMap::new()), Ok(None));
        let read = through("/.well-known/multiplexer/a-Z_0/r1", Some("1.0")).expect("well-formed");
        assert_eq!(read, Some(Through { multiplexer: "a-Z_0".into(), request: "r1".into() }));
        for bad in [
            "",
            "/a/b",
            "/.well-known/multiplexer/a",
            "/.well-known/multiplexer/a/",
            "/.well-known/multiplexer/a/b/c",
            "/.well-known/multiplexer/a/b c",
        ] {
            assert_eq!(through(bad, Some("1.0")).expect_err(bad).status, StatusCode::BAD_REQUEST);
        }
        assert_eq!(name(&Method::POST, "/.well-known/multiplexer/a"), Some("a"));
        assert_eq!(name(&Method::GET, "/.well-known/multiplexer/a"), None);
        assert!(through("/.well-known/multiplexer/a/b", None).is_err());
        assert!(through("/.well-known/multiplexer/a/b", Some("2.0")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics_and_what_is_read_names_two_things(rest in "(/[.]well-known/multiplexer/)?[a/_%. -]{0,70}") {
            let mut headers = HeaderMap::new();
            headers.insert("multiplex-through", HeaderValue::from_str(&rest).expect("ASCII"));
            headers.insert("multiplex-version", HeaderValue::from_static(VERSION));
            if let Ok(Some(Through { multiplexer, request })) = Through::of(&headers) {
                proptest::prop_assert!(is_name(&multiplexer) && is_name(&request));
                proptest::prop_assert_eq!(format!("{PREFIX}{multiplexer}/{request}"), rest);
            }
        }
    }
}
