//! From a request to the code that answers it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use timebus_identity::PublicKey;
use timebus_store::auth::CapError;
use timebus_store::path::{Path, PathError};
use timebus_store::pipeline::Space;
use timebus_store::store::StorageError;
use timebus_store::writer::{TextError, WriteError};

use crate::apps::{App, origin};
use crate::authority::{Verb, who_are_you};
use crate::body::{Body, read_body, read_counted, refuse};
use crate::host::HostKind;
use crate::ledger::Payer;
use crate::multiplex::{self, Through};
use crate::others::{Coming, Reader};
use crate::peer::{Of, Peer};
use crate::problem::Problem;
use crate::quiet::Writing;
use crate::server::Link;
use crate::target::{Query, Target, TargetError};
use crate::unread::Unread;
use crate::who::{Who, authority, check_host, foreign_origin, identify, is_browser, is_same_origin, now_ms, text};
use crate::words::{day, short, size};
use crate::{blobs, personas, program, read, remote, sys, watch, websocket, write};

/// A request whose head was checked.
pub(crate) struct Ask {
    pub(crate) peer: Peer,
    pub(crate) head: http::request::Parts,
    pub(crate) who: Who,
    pub(crate) space: Space,
    pub(crate) path: Path,
    pub(crate) query: Query,
    pub(crate) unread: Arc<Unread>,
    /// Whoever asks, if it is neither the owner nor an app of his.
    pub(crate) reader: Option<Reader>,
    /// What he sent, which is counted until it is carried out.
    pub(crate) sent: Option<Arc<Coming>>,
}

/// The answer to the most common request, that of the owner for a value that was asked for before and has not changed.
/// It is made without waiting for anything; other requests get `None`.
pub(crate) fn answer_now(peer: &Peer, link: &Link, request: &Request<Incoming>) -> Option<Response<Body>> {
    let headers = request.headers();
    if request.method() != Method::GET || headers.contains_key(header::AUTHORIZATION) || !read::is_plain(headers) {
        return None;
    }
    let kept = peer.cache.find(request.uri().path_and_query()?.as_str()).filter(|kept| read::fits(headers, kept))?;
    let is_ours = matches!(check_host(link, request.version(), request.uri(), headers), Ok(HostKind::Root));
    if !is_ours || !link.is_owner() {
        return None;
    }
    peer.answered(StatusCode::OK.as_u16());
    Some(read::ready(&kept))
}

/// Answers one request.
pub(crate) async fn answer(peer: Peer, link: Arc<Link>, request: Request<Incoming>) -> Response<Body> {
    let is_head = request.method() == Method::HEAD;
    let response = Box::pin(dispatch(&peer, &link, request)).await;
    finish(&peer, is_head, response)
}

/// What every answer has.
fn finish(peer: &Peer, is_head: bool, response: Result<Response<Body>, Problem>) -> Response<Body> {
    let mut response = response.unwrap_or_else(|problem| refuse(&problem));
    peer.answered(response.status().as_u16());
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR && peer.store().is_index_failing() {
        peer.store().distrust_index("a part of the index could not be read");
    }
    // The reason phrases that Braid clients' users see; other statuses have their own.
    let phrase: Option<&'static [u8]> = match response.status().as_u16() {
        209 => Some(b"Multiresponse"),
        293 => Some(b"Responded via multiplexer"),
        309 => Some(b"Version Unknown Here"),
        550 => Some(b"Repr-Digest Mismatch"),
        _ => None,
    };
    if let Some(phrase) = phrase {
        response.extensions_mut().insert(hyper::ext::ReasonPhrase::from_static(phrase));
    }
    add_policies(response.headers_mut());
    if is_head && let Body::Ready(bytes) = response.body_mut() {
        // A HEAD says how long the body would be and leaves it out.
        if let Some(bytes) = bytes.take() {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        }
    }
    response
}

async fn dispatch(peer: &Peer, link: &Arc<Link>, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let kind = check_host(link, head.version, &head.uri, &head.headers)?;
    let is_for_code = is_for_code(&head.headers);
    if is_service_worker(&head.headers) {
        return Err(no_service_worker());
    }
    match &kind {
        HostKind::Root => serve(peer, link, &kind, head, body, None).await.and_then(|response| code_is_installed(response, is_for_code, false)),
        HostKind::App(alias) => {
            // The page of a persona's app is served by the persona, and knows of nobody else.
            let peer = &peer.peer_of_app(alias);
            let answer = match origin::find(peer, alias) {
                Ok(app) => serve(peer, link, &kind, head, body, Some(app)).await,
                Err(problem) => Err(problem),
            };
            let is_socket = |response: &Response<Body>| response.status() == StatusCode::SWITCHING_PROTOCOLS;
            Ok(match answer {
                Ok(response) if is_socket(&response) => response,
                Ok(response) => origin::guard(code_is_installed(response, is_for_code, true).unwrap_or_else(|problem| refuse(&problem))),
                Err(problem) => origin::guard(refuse(&problem)),
            })
        }
    }
}

/// Adds what every answer says to browsers, unless it says something else: what is no page of ours runs nothing, is shown in no frame,
/// and tells nobody where its reader comes from.
pub(crate) fn add_policies(headers: &mut http::HeaderMap) {
    const POLICIES: [(&str, &str); 6] = [
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        ("content-security-policy", NOTHING),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("origin-agent-cluster", "?1"),
    ];
    for (name, value) in POLICIES {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// The policy of all that has none of its own.
pub(crate) const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// Marks a file that was installed, or came with the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Installed;

/// Whether a page asks for something that is to answer in the place of this peer from then on.
fn is_service_worker(headers: &http::HeaderMap) -> bool {
    headers.contains_key("service-worker") || headers.get("sec-fetch-dest").is_some_and(|dest| dest == "serviceworker")
}

/// A worker of that kind would serve pages without the policies that hold what an app may do to its card, and outlive the app.
fn no_service_worker() -> Problem {
    let detail = "what a page is, and may do, is said by this peer each time it is opened";
    Problem::new(StatusCode::FORBIDDEN, "service-worker", "there are no service workers here", detail)
        .with_fix("pages work without a line as they are: they come from the peer on this machine; `new Worker` runs something beside a page")
}

/// Whether a page asks for something to run it, or to look like it says.
fn is_for_code(headers: &http::HeaderMap) -> bool {
    const CODE: [&[u8]; 9] =
        [b"script", b"style", b"worker", b"sharedworker", b"serviceworker", b"audioworklet", b"paintworklet", b"xslt", b"manifest"];
    headers.get("sec-fetch-dest").is_some_and(|dest| CODE.contains(&dest.as_bytes()))
}

/// Values are served from the origins of pages, and policies say "what is of this origin may run". So that it is only what was
/// installed, nothing else is given to those who would run it, and none of it is called a script where apps are.
fn code_is_installed(mut response: Response<Body>, is_for_code: bool, is_app: bool) -> Result<Response<Body>, Problem> {
    if response.extensions().get::<Installed>().is_some() {
        return Ok(response);
    }
    if is_for_code && response.status().is_success() {
        let detail = "values are no scripts, styles or workers of a page, whatever their media type";
        return Err(Problem::new(StatusCode::FORBIDDEN, "code", "this is data and is not run", detail)
            .with_fix("publish it as a file of an app: `timebus app new`"));
    }
    let kind = text(response.headers(), header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let is_code = ["javascript", "ecmascript", "jscript", "livescript", "text/css"].iter().any(|word| kind.contains(word));
    if is_app && is_code {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    Ok(response)
}

/// Answers a request to the peer itself, or to the origin of an app.
async fn serve(
    peer: &Peer,
    link: &Arc<Link>,
    kind: &HostKind,
    head: http::request::Parts,
    body: Incoming,
    app: Option<Arc<App>>,
) -> Result<Response<Body>, Problem> {
    if websocket::is_upgrade(&head.headers) {
        return websocket::upgrade(peer, link, kind, head, body);
    }
    let who = identify(peer, link, kind, &head)?;
    pace(peer, &who)?;
    if matches!(head.method, Method::GET | Method::HEAD)
        && let Some(through) = Through::of(&head.headers)?
    {
        let maker = who.principal().ok_or_else(|| who_are_you("a multiplexer is its maker's alone"))?;
        let is_head = head.method == Method::HEAD;
        let real = {
            let (peer, link) = (peer.clone(), Arc::clone(link));
            async move {
                let is_app = app.is_some();
                let response = Box::pin(carry_out(&peer, &link, who, head, body, app)).await;
                let response = finish(&peer, is_head, response);
                if is_app { origin::guard(response) } else { response }
            }
        };
        return Ok(multiplex::answer(peer, &maker, through, real).await);
    }
    carry_out(peer, link, who, head, body, app).await
}

/// Does what somebody asks for.
async fn carry_out(
    peer: &Peer,
    link: &Arc<Link>,
    who: Who,
    head: http::request::Parts,
    body: Incoming,
    app: Option<Arc<App>>,
) -> Result<Response<Body>, Problem> {
    let raw = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if head.method == Method::GET && who.is_owner() && read::is_plain(&head.headers) {
        // The common case first: what was asked for before and has not changed.
        if let Some(answer) = peer.cache.find(raw).filter(|kept| read::fits(&head.headers, kept)) {
            return Ok(read::ready(&answer));
        }
    }
    if let Some(name) = multiplex::name(&head.method, head.uri.path()) {
        if is_browser(&head.headers) && !is_same_origin(&head) {
            return Err(foreign_origin());
        }
        let maker = who.principal().ok_or_else(|| who_are_you("a multiplexer is its maker's alone"))?;
        if head.method == Method::DELETE {
            return multiplex::end(peer, &maker, &head.headers, name);
        }
        let origin = page_origin(&head).map(|origin| peer.count_origin(Of::Connections, &origin)).transpose()?;
        return multiplex::open(peer, maker, &head.headers, name, origin);
    }
    let target = Target::parse(raw).map_err(|error| bad_target(&error))?;
    // What others bring as slowly as they may does not keep a peer from being restarted: see [`begin_for_guest`].
    let may_write = crate::quiet::may_write(&head.method, &target.segments);
    let _writing = match may_write && !who.is_guest() {
        true => Some(peer.quiet.begin()?),
        false if may_write => peer.quiet.look().map(|()| None)?,
        false => None,
    };
    let first = target.segments.first().map(String::as_str);
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    if !reads && let Some(coding) = coding(&head.headers) {
        return Ok(not_coded(&coding));
    }
    if let Some(app) = &app {
        if origin::is_own_question(&target) {
            return Box::pin(origin::question(peer, link, app, &who, &head, body, &target)).await;
        }
        let is_value = first.is_some_and(|first| first.starts_with('@'));
        if !is_value && first != Some(".sys") && head.method != Method::OPTIONS {
            return origin::file(peer, app, &head, &target);
        }
    }
    if app.is_none() && program::is_wanted(&target) {
        return program::answer(peer, &head).await;
    }
    let is_page = app.is_none() && (first == Some(".gui") || reads && (matches!(first, None | Some("favicon.ico")) || wants_page(&head)));
    if is_page && let Some(page) = sys::gui(peer, &target, &head) {
        return Ok(page);
    }
    if app.is_none()
        && let Some((name, persona)) = personas::named(peer, &who, first)
        && let Some(uri) = personas::behind(&head.uri)
    {
        personas::check(&target.segments[1..])?;
        let mut head = head;
        head.uri = uri;
        let response = as_persona(&persona, link, who, head, body).await;
        return response.map(|response| personas::answered(response, &name));
    }
    if first == Some(".sys") {
        let rest = target.segments[1..].to_vec();
        if let [uploads, id] = &rest[..]
            && uploads == "uploads"
        {
            return Box::pin(blobs::resume::answer(peer, who, head, body, id)).await;
        }
        return Box::pin(sys::answer(peer, who, head, body, &rest, target.query)).await;
    }
    if let Some(edit) = sys::edit_of_rights(&head.method, &target.segments) {
        return Box::pin(sys::edit_rights(peer, &who, head, body, edit)).await;
    }
    if head.method == Method::OPTIONS {
        // No origin is granted anything here, so nothing is said that would allow one.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOW));
        return Ok(response);
    }
    if is_browser(&head.headers) && !is_same_origin(&head) && !(reads && matches!(who, Who::Anyone)) {
        return Err(if matches!(who, Who::Anyone) { who_are_you("a page of another origin may change nothing") } else { foreign_origin() });
    }
    let verb = if reads { Verb::Read } else { Verb::Write };
    if let Some((space, rest)) = crate::drop::place(&target.segments) {
        crate::drop::is_for(&who)?;
        let body = if reads { bytes::Bytes::new() } else { read_body(body, crate::sys::BODY_BYTES_MAX).await? };
        who.allows_body(&body)?;
        return Box::pin(crate::drop::answer(peer, &head, &who, space, rest, body)).await;
    }
    let (space, path, state) = remote::reach(peer, &head.headers, &target.segments, &who, verb).await?;
    let unread = Arc::clone(&link.unread);
    let reader = Reader::of(peer, &who, link.ends);
    let mut ask = Ask { peer: peer.clone(), head, who, space, path, query: target.query, unread, reader, sent: None };
    let key = ask.space.key;
    let told = remote::may_fetch(&ask.who).then(|| (ask.space, ask.path.clone()));
    let response = match ask.head.method {
        Method::GET | Method::HEAD => {
            ask.who.allows_body(b"")?;
            if ask.head.headers.contains_key("subscribe") || wants_events(&ask.head) {
                let answer = Box::pin(watch::subscribe(ask)).await;
                if state.is_some() { answer.map(|answer| remote::keep_open(peer, key, answer)) } else { answer }
            } else {
                read::get(ask).await
            }
        }
        Method::PUT if blobs::resume::is_begin(&ask.head) => Box::pin(blobs::resume::begin(ask, body)).await,
        _ if blobs::resume::is_begin(&ask.head) => Err(blobs::resume::begins_by_put()),
        Method::PUT | Method::POST if blobs::upload::is_file(&ask.head) => Box::pin(blobs::upload::take(ask, body)).await,
        Method::PUT | Method::PATCH | Method::POST | Method::DELETE => {
            ask.peer.others().has_time(ask.reader)?;
            let mut coming = ask.peer.others().coming(ask.reader);
            let body = read_counted(body, ask.peer.config.body_bytes_max, Some(&mut coming)).await?;
            ask.sent = Some(Arc::new(coming));
            ask.who.allows_body(&body)?;
            let _writing = begin_for_guest(&ask)?;
            is_wanted(&ask.peer, &ask.who, &ask.space.key)?;
            Box::pin(write::answer(ask, body)).await
        }
        _ => {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this method is not known here", format!("use one of {ALLOW}"));
            let mut response = refuse(&problem);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOW));
            Ok(response)
        }
    };
    let is_elsewhere = state.is_some();
    let response = match state {
        Some(state) => response.map(|response| remote::mark(response, &state, &timebus_identity::human_name(&key))),
        None => response,
    };
    // Who may do less than he could before is told, and nobody else.
    match told.filter(|_| is_elsewhere) {
        Some((space, path)) => crate::over::mark(peer, space, &path, response, reads).await,
        None => response,
    }
}

/// In which way a body is coded, if it is.
fn coding(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = all.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_ascii_lowercase());
    codings.find(|coding| !matches!(&coding[..], "" | "identity"))
}

/// The answer to who sends something compressed: it would be kept as it came, and be garbage to whoever reads it.
fn not_coded(coding: &str) -> Response<Body> {
    let problem = Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "content-encoding",
        "bodies are taken as they are",
        format!("this one comes with Content-Encoding: {coding}"),
    );
    let mut response = refuse(&problem.with_fix("send it without Content-Encoding"));
    response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    response
}

/// Begins what somebody else than the owner and his apps asks for, once it is known that he may, and all of it is here.
pub(crate) fn begin_for_guest(ask: &Ask) -> Result<Option<Writing>, Problem> {
    ask.who.is_guest().then(|| ask.peer.quiet.begin()).transpose()
}

/// Has a persona do it.
fn as_persona<'a>(
    persona: &'a Peer,
    link: &'a Arc<Link>,
    who: Who,
    head: http::request::Parts,
    body: Incoming,
) -> BoxFuture<'a, Result<Response<Body>, Problem>> {
    Box::pin(carry_out(persona, link, who, head, body, None))
}

/// After how many milliseconds a request that came too early does not: `Retry-After` says it in seconds.
pub(crate) const WAIT_MS: &str = "wait_ms";

/// The answer to a request that came too early.
pub(crate) fn too_fast(detail: String, wait_ms: u64) -> Problem {
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate", "not so fast", detail);
    problem.with_fix(format!("ask again in {wait_ms} ms")).with(WAIT_MS, wait_ms)
}

/// Counts a request of a guest or an app; the answer to one that comes too early.
pub(crate) fn pace(peer: &Peer, who: &Who) -> Result<(), Problem> {
    let Some(payer) = who.payer() else { return Ok(()) };
    peer.ledger().request(&payer, now_ms()).map_err(|wait_ms| {
        let detail = match &payer {
            Payer::Key(_) => "this key asks more often than is answered".to_owned(),
            Payer::App(alias) => format!("the app {alias} asks more often than is answered"),
        };
        too_fast(detail, wait_ms)
    })
}

/// Refuses whatever a guest or an app is to have this peer write of whom the owner wants nothing more. How much it is shows when it is
/// decided.
pub(crate) fn is_wanted(peer: &Peer, who: &Who, space: &PublicKey) -> Result<(), Problem> {
    room_for(peer, who, space, 0)
}

/// Asks the owner, if there is no room for what a guest or an app is to have this peer write.
pub(crate) fn room_for(peer: &Peer, who: &Who, space: &PublicKey, bytes: u64) -> Result<(), Problem> {
    let Some(payer) = who.payer() else { return Ok(()) };
    let hosts = peer.ledger().hosts(peer.store(), space, &payer);
    peer.ledger().room_for(&payer, &hosts, bytes, now_ms()).map_err(|id| over_budget(peer, &id))
}

/// Counts what a guest or an app brings that this peer does not write itself, if the owner has room for it.
pub(crate) fn charge(peer: &Peer, who: &Who, space: &PublicKey, bytes: u64) -> Result<(), Problem> {
    let Some(payer) = who.payer() else { return Ok(()) };
    let hosts = peer.ledger().hosts(peer.store(), space, &payer);
    peer.ledger().charge(&payer, &hosts, bytes, now_ms()).map_err(|id| over_budget(peer, &id))
}

/// Counts what an app has this peer keep beside values: whom it follows, and what it sends.
pub(crate) fn charge_beside(peer: &Peer, who: &Who, bytes: u64) -> Result<(), Problem> {
    charge(peer, who, &peer.space(), bytes)
}

/// Asks the owner, if there is no room for a file that a guest or an app wants to bring, before any of it is taken.
pub(crate) fn ask_room(peer: &Peer, who: &Who, space: &PublicKey, bytes: u64) -> Result<(), Problem> {
    let Some(payer) = who.payer() else { return Ok(()) };
    let hosts = peer.ledger().hosts(peer.store(), space, &payer);
    peer.ledger().ask_file(&payer, &hosts, bytes, now_ms()).map_err(|id| over_budget(peer, &id))
}

/// The answer to who had this peer write as much for him as the owner has allowed.
pub(crate) fn over_budget(peer: &Peer, id: &str) -> Problem {
    peer.store().recheck_rights();
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "held", "this is more than you may keep here", "the owner of this peer was asked for more room")
        .with_fix(format!("wait until the owner says yes: timebus allow {id}"))
        .with("request", id)
}

const ALLOW: &str = "GET, HEAD, PUT, PATCH, POST, DELETE, OPTIONS";

/// Whether a browser wants to show the answer as a page.
fn wants_page(head: &http::request::Parts) -> bool {
    let document = matches!(head.headers.get("sec-fetch-dest").map(HeaderValue::as_bytes), Some(b"document"));
    document
        && text(&head.headers, header::ACCEPT).is_some_and(|accept| accept.contains("text/html"))
        && !head.uri.query().is_some_and(|query| query.contains("view=raw"))
}

/// The web origin that a browser asks from.
pub(crate) fn page_origin(head: &http::request::Parts) -> Option<String> {
    match text(&head.headers, header::ORIGIN) {
        Some(origin) => Some(origin.to_owned()),
        // A page of our own origin says so in other ways when it only reads.
        None => is_browser(&head.headers).then(|| format!("http://{}", authority(head))),
    }
}

fn wants_events(head: &http::request::Parts) -> bool {
    text(&head.headers, header::ACCEPT).is_some_and(|accept| accept.starts_with("text/event-stream"))
}

/// The key of the space and the path in it that segments name: `@key` in front names a space, else it is the own one.
/// Whether the space is here is another question, and not everybody may ask it.
pub(crate) fn locate<'a>(peer: &Peer, segments: impl IntoIterator<Item = &'a str>) -> Result<(PublicKey, Path), Problem> {
    let mut texts = segments.into_iter().peekable();
    let mut space = peer.space();
    if let Some(name) = texts.peek().and_then(|first| first.strip_prefix('@'))
        && !name.starts_with('@')
        && !name.contains('.')
    {
        space = name.parse().map_err(|_| not_held(name))?;
        texts.next();
    }
    let path = Path::from_text_segments(texts).map_err(|error| bad_path(&error))?;
    Ok((space, path))
}

/// The answer about a space that is not here.
pub(crate) fn not_held(name: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "space", "this space is not held here", format!("nobody here knows the space {name}"))
}

fn bad_target(error: &TargetError) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "path", "this is not a path", error.to_string()).with_fix(error.fix())
}

pub(crate) fn bad_path(error: &PathError) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "path", "this is not a path", error.to_string())
}

/// What a failed write is to the caller.
pub(crate) fn write_problem(error: &WriteError) -> Problem {
    use timebus_store::plan::PlanError;
    let detail = error.to_string();
    match error {
        WriteError::UnknownVersion(missing) => Problem::new(version_unknown(), "version", "a version is not known here", detail)
            .with("versions", missing.as_slice())
            .with_fix("read the path again and build on the version that you get"),
        WriteError::TooManyParents(_) => Problem::new(StatusCode::BAD_REQUEST, "versions", "too many parents", detail),
        WriteError::Condition { .. } => Problem::new(StatusCode::PRECONDITION_FAILED, "condition", "the condition does not hold", detail),
        WriteError::LabelTaken(_) => Problem::new(StatusCode::CONFLICT, "version-taken", "this version exists already", detail)
            .with_fix("choose another name for the new version"),
        WriteError::Absent(_) => Problem::new(StatusCode::NOT_FOUND, "absent", "there is nothing here", detail),
        WriteError::NotACollection(_) => Problem::new(StatusCode::CONFLICT, "no-collection", "nothing can be added here", detail)
            .with_fix("POST adds to objects and lists; PUT replaces the value"),
        WriteError::Reserved(path) => {
            let is_of_rights = matches!(path.segments().first(), Some(timebus_store::path::Segment::Name(first)) if **first == *".auth");
            let problem = Problem::new(StatusCode::FORBIDDEN, "reserved", "this path is the system's", detail);
            if is_of_rights {
                problem.with_fix(
                    "POST /.auth/grants gives a right and DELETE /.auth/grants/ID takes one back, as `timebus grant` and `timebus revoke` do",
                )
            } else {
                problem
            }
        }
        WriteError::Text(error) => text_problem(error, detail),
        WriteError::Plan(PlanError::TextTooBusy) => text_problem(&TextError::Busy, detail),
        WriteError::Plan(PlanError::StringTooLarge(_) | PlanError::RequestTooLarge | PlanError::TextTooLong) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the value is too large", detail)
        }
        WriteError::Plan(_) => Problem::new(StatusCode::BAD_REQUEST, "value", "the value cannot be kept", detail),
        WriteError::Patch(_) => Problem::new(StatusCode::BAD_REQUEST, "patch", "the patch does not fit", detail),
        WriteError::NoGrant { .. } => Problem::new(StatusCode::FORBIDDEN, "rights", "you may not write here", detail)
            .with_fix("ask the owner of the space for a grant that covers this path"),
        WriteError::Limit { source, .. } => limit_problem(source),
        WriteError::NoAuthority { .. } => Problem::new(StatusCode::FORBIDDEN, "rights", "you may not say this about rights", detail).with_fix(
            "only who gave a right, who stands above him, a device of the owner, or a moderator of a plain member's place can take it; \
             `timebus grants` shows who that is",
        ),
        WriteError::CannotKeep(_) => Problem::new(StatusCode::NOT_FOUND, "quarantine", "there is nothing to keep", detail)
            .with_fix("`timebus quarantine` lists what is hidden"),
        WriteError::Spans { .. } => Problem::new(StatusCode::CONFLICT, "spans", "this spans paths that are kept apart", detail)
            .with_fix("write each part by a request of its own; `timebus private` lists the paths that are kept apart"),
        WriteError::Names(named) => crate::blobs::named::problem(named),
        WriteError::Move(_) | WriteError::Moved { .. } => Problem::new(StatusCode::CONFLICT, "move", "this cannot be moved", detail),
        WriteError::Points(name) => {
            let detail = format!("what you write here is signed by this peer, and a pointer called {name} would be its owner's like or answer");
            Problem::new(StatusCode::FORBIDDEN, "word", "this would be said in the owner's name", detail)
                .with_fix("say it in your own space, by a peer of your own: `timebus join` with an invite makes it a guest here")
        }
        WriteError::UsedUp => Problem::new(StatusCode::GONE, "invite", "the invite is used up", detail),
        WriteError::NoKey => Problem::new(StatusCode::FORBIDDEN, "device", "this device may not write", detail).with_fix(
            "this home is no device of its space: a copy whose root key is cold, or taken out as lost; `timebus kit --recover` makes it one",
        ),
        WriteError::ReadOnly(_) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", "the disk takes no writes", detail)
            .with_fix("free space or replace the disk, then start the peer again; everything acknowledged is safe and readable"),
        WriteError::Closing => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "closing", "the peer is stopping", detail),
        WriteError::Storage(error) => storage_problem(error),
        _ => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the store failed", detail).with_fix("run `timebus fsck`"),
    }
}

/// What a grant does not reach for, and what then.
fn limit_problem(error: &CapError) -> Problem {
    let (title, detail) = match error {
        CapError::Bytes { grant, max, found } => {
            let [max, found] = [*max, *found].map(size);
            let grant = grant.to_string();
            ("what you may write here is used up", format!("grant {} allows {max} in all, and this would make it {found}", short(&grant)))
        }
        CapError::ChangeBytes { grant, max, found } => {
            let [max, found] = [*max, *found].map(size);
            let grant = grant.to_string();
            ("this is more than you may write at once", format!("grant {} allows {max} at once, and this is {found}", short(&grant)))
        }
        CapError::Ended { grant, at_ms } => {
            let grant = grant.to_string();
            ("what you may do here has ended", format!("grant {} ended on {}", short(&grant), day(*at_ms)))
        }
        other => ("you may not do this here", other.to_string()),
    };
    Problem::new(StatusCode::FORBIDDEN, "limit", title, format!("{detail}; nothing was written"))
        .with_fix("ask whoever gave it for more: `timebus why write PATH` names him, and the command that he has to run")
}

fn text_problem(error: &TextError, detail: String) -> Problem {
    match error {
        TextError::NotAText(_) => Problem::new(StatusCode::CONFLICT, "no-text", "this is a JSON value, not a text", detail)
            .with_fix("PUT with Content-Type: text/plain makes it a text that several people can edit"),
        TextError::NotACounter(_) => {
            Problem::new(StatusCode::CONFLICT, "no-counter", "there is no counter here", detail).with_fix("count at a path where nothing is")
        }
        TextError::Range { .. } => Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", "the edit does not fit the text", detail)
            .with_fix("positions count characters (Unicode scalar values) of the text at Parents"),
        TextError::TooFewEvents { .. } => Problem::new(StatusCode::BAD_REQUEST, "versions", "the version's number is too low", detail),
        TextError::Refused { .. } => Problem::new(StatusCode::CONFLICT, "session", "the session cannot make this edit", detail)
            .with_fix("name in Parents the session's own last version, or begin a session of another name"),
        _ => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "text-busy", "the text is busy", detail),
    }
}

pub(crate) fn storage_problem(error: &StorageError) -> Problem {
    if matches!(error, StorageError::TextBusy) {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "text-busy", "the text is busy", error.to_string());
    }
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the store failed", error.to_string()).with_fix("run `timebus fsck`")
}

/// The status that Braid clients know for "I do not have that version".
pub(crate) fn version_unknown() -> StatusCode {
    StatusCode::from_u16(309).unwrap_or(StatusCode::CONFLICT)
}
