//! What an app's own origin serves: its files, `/sdk.js`, and the few questions that a page asks about itself. Values and
//! the parts of the system that it was given go the way of all requests, with the app's token.
//!
//! A page gets its token by `POST /.sys/token`. No other origin can: a page of another one cannot read the answer, its
//! `Origin` is another, and a name that leads here by DNS is no name of ours. No other user of the machine can either:
//! the socket has to be of a program of the owner, or the page shows a code that the owner was given to open it with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use timebus_identity::human_name;

use crate::apps::{App, bundle};
use crate::body::{Body, header_value, read_body};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::route::Installed;
use crate::server::Link;
use crate::sys::answer_json;
use crate::target::Target;
use crate::who::{Who, foreign_origin, is_same_origin, text};

/// Longest wait of a page for another version of its files; then it asks again.
const RELOAD_WAIT: Duration = Duration::from_secs(25);
/// A code and what JSON needs around it.
const BODY_BYTES_MAX: usize = 1024;

/// The app of a host.
pub(crate) fn find(peer: &Peer, alias: &str) -> Result<Arc<App>, Problem> {
    peer.apps().find(alias).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "app", "no such app", format!("no app is installed as {alias}"))
            .with_fix("`timebus app ls` shows what is installed, `timebus app install` adds to it")
    })
}

/// Answers what a page asks about its app; `None` for what goes the way of all requests.
pub(crate) fn is_own_question(target: &Target) -> bool {
    matches!(target.segments.as_slice(), [sys, name] if sys == ".sys" && matches!(name.as_str(), "token" | "app" | "reload"))
}

/// Answers a question of [`is_own_question`].
pub(crate) async fn question(
    peer: &Peer,
    link: &Link,
    app: &App,
    who: &Who,
    head: &Parts,
    body: Incoming,
    target: &Target,
) -> Result<Response<Body>, Problem> {
    let name = target.segments.get(1).map_or("", String::as_str);
    if (&head.method, name) == (&Method::POST, "token") {
        return token(peer, link, app, head, body).await;
    }
    if !matches!(who, Who::App(_)) {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "who", "who are you?", "this is for pages of the app").with_fix("send the app's token"));
    }
    match (&head.method, name) {
        (&Method::GET, "app") => Ok(answer_json(&about(peer, app))),
        (&Method::GET, "reload") => Ok(reload(peer, app, target.query.after.as_deref()).await),
        _ => Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this method is not known here", "ask with GET; for the token, with POST")),
    }
}

/// Gives the token to a page of the app.
async fn token(peer: &Peer, link: &Link, app: &App, head: &Parts, body: Incoming) -> Result<Response<Body>, Problem> {
    // Browsers say the origin of every POST.
    if !head.headers.contains_key(header::ORIGIN) || !is_same_origin(head) {
        return Err(foreign_origin());
    }
    #[derive(Default, Deserialize)]
    struct Wanted {
        code: Option<String>,
    }
    let body = read_body(body, BODY_BYTES_MAX).await?;
    let code = serde_json::from_slice::<Wanted>(&body).unwrap_or_default().code;
    let is_invited = code.is_some_and(|code| peer.apps().redeem_code(&app.record.alias, &code));
    if !is_invited && !link.is_owner() {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "who", "who are you?", "the browser does not run as the owner of this peer")
            .with_fix("open the app from the peer's own pages, or with the link of `timebus app open`"));
    }
    Ok(answer_json(&json!({"token": app.token.text().as_str(), "app": about(peer, app)})))
}

/// What a page may know of itself.
fn about(peer: &Peer, app: &App) -> serde_json::Value {
    json!({
        "alias": app.record.alias,
        "name": app.record.name,
        "version": app.record.version,
        "is_dev": app.record.is_dev,
        "space": app.space.to_string(),
        "me": peer.space().to_string(),
        "my_name": crate::people::profile_name(peer.store(), &peer.space()).unwrap_or_else(|| human_name(&peer.space())),
        "pages": peer.pages_url(),
        "given": app.record.given,
    })
}

/// Answers when the app has another version than the page knows, or after a while.
async fn reload(peer: &Peer, app: &App, known: Option<&str>) -> Response<Body> {
    let mut changed = peer.apps().changed.subscribe();
    let mut stopped = peer.stop.subscribe();
    let alias = app.record.alias.clone();
    let version = || peer.apps().find(&alias).map(|app| app.record.version.clone());
    let wait = async { while version().as_deref() == known && changed.changed().await.is_ok() {} };
    tokio::select! {
        _ = tokio::time::timeout(RELOAD_WAIT, wait) => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    answer_json(&json!({ "version": version() }))
}

/// A file of the app's origin.
pub(crate) fn file(peer: &Peer, app: &App, head: &Parts, target: &Target) -> Result<Response<Body>, Problem> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "files of an app do not change", "values are at /@<space>/…"));
    }
    let path = target.segments.join("/");
    if path == "sdk.js" || path.starts_with("sdk/") {
        let sdk = peer.config.gui.and_then(|find| find(&path)).ok_or_else(|| absent(&path))?;
        let version = env!("CARGO_PKG_VERSION");
        return Ok(answer(head, &format!("sdk-{version}-{}", sdk.bytes.len()), sdk.mime, Bytes::from_static(sdk.bytes), None));
    }
    let bundle = app.bundle().map_err(|detail| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "app", "the app is damaged", detail)
            .with_fix("install it again; what it wrote is not touched")
    })?;
    let entry = &bundle.manifest.entry;
    let is_document = matches!(head.headers.get("sec-fetch-dest").map(HeaderValue::as_bytes), Some(b"document"));
    let name = match path.as_str() {
        "" => entry.as_str(),
        path if bundle.file(path).is_some() => path,
        // Places within an app have addresses of their own.
        path if is_document && !path.contains('.') => entry.as_str(),
        path => return Err(absent(path)),
    };
    let (Some(bytes), Some(mime)) = (bundle.file(name), bundle::mime(name)) else { return Err(absent(name)) };
    let policy = mime.starts_with("text/html").then(|| bundle::policy(bytes, &app.record.network));
    Ok(answer(head, &app.record.version, mime, bytes.clone(), policy))
}

fn absent(path: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "absent", "there is nothing here", format!("the app has no file {path:?}; values are at /@<space>/…"))
}

fn answer(head: &Parts, version: &str, mime: &'static str, bytes: Bytes, policy: Option<String>) -> Response<Body> {
    let etag = format!("\"{version}\"");
    let is_known = text(&head.headers, header::IF_NONE_MATCH).is_some_and(|known| known.split(',').any(|known| known.trim() == etag));
    let mut response = Response::new(if is_known { Body::empty() } else { Body::ready(bytes) });
    response.extensions_mut().insert(Installed);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.extend(header_value(&etag).map(|etag| (header::ETAG, etag)));
    headers.extend(policy.and_then(|policy| header_value(&policy)).map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    response
}

/// What every answer of an app's origin carries, whatever it is.
pub(crate) fn guard(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    // What is no page of the app runs nothing and is shown in no frame.
    let nothing = HeaderValue::from_static(crate::route::NOTHING);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    headers.insert("origin-agent-cluster", HeaderValue::from_static("?1"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Names of hosts can carry words, too.
    headers.insert("x-dns-prefetch-control", HeaderValue::from_static("off"));
    response
}
