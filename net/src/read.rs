//! GET and HEAD.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use timebus_store::json::write_string;
use timebus_store::keyspace::Committed;
use timebus_store::node::Write;
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::tree::{Shape, Show, Tree};
use timebus_store::value::Value;

use crate::accept::{Mime, negotiate};
use crate::authority::Verb;
use crate::blobs::serve::{Wanted, from_others, media_headers, ranged, serve};
use crate::body::{Body, Cut, header_value};
use crate::cache::{Answer, canonical};
use crate::etag::Condition;
use crate::merge_type::{MergeType, no_text};
use crate::patches::ContentRange;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{Ask, storage_problem, write_problem};
use crate::target::View;
use crate::versions::{parse_versions, print_versions};
use crate::who::text;
use crate::window::{Page, Window};

/// Whether nothing in the headers asks for more than the value as it is now.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    for name in headers.keys() {
        match name.as_str() {
            "host" | "user-agent" | "connection" | "accept-encoding" | "accept-language" | "authorization" | "cache-control" => {}
            "accept" => {
                if !matches!(headers.get(name).map(HeaderValue::as_bytes), Some(b"*/*" | b"application/json")) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

/// Whether a kept answer is in the form that a plain request asks for: texts and files have one of their own.
pub(crate) fn fits(headers: &HeaderMap, answer: &Answer) -> bool {
    let is_json = |headers: &HeaderMap, name| headers.get(name).is_some_and(|value| value == "application/json");
    !is_json(headers, header::ACCEPT) || is_json(&answer.headers, header::CONTENT_TYPE)
}

/// An answer from the cache.
pub(crate) fn ready(answer: &Answer) -> Response<Body> {
    let mut response = Response::new(Body::ready(answer.body.clone()));
    *response.headers_mut() = answer.headers.clone();
    response
}

/// Subtrees with more visible writes than this are streamed, not put together in memory.
const STREAM_FROM: u64 = 20_000;

/// Subtrees with more visible writes than this are read beside the threads that serve sockets.
const BLOCKING_FROM: u64 = 500;

pub(crate) async fn get(ask: Ask) -> Result<Response<Body>, Problem> {
    let epoch = ask.peer.cache.epoch();
    let (others, reader) = (ask.peer.others(), ask.reader);
    let work = async move {
        let looked = look(&ask).await;
        (ask, looked)
    };
    let (ask, looked) = others.in_turn(reader, work).await?;
    let Looked { response, is_plain } = looked?;
    let mut response = from_others(&ask, response).await?;
    // What is kept is given to those who take anything and to those who take JSON, and to the owner alone: others are shown less.
    let is_plain = is_plain && ask.who.is_owner();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if is_plain && is_json && response.status() == StatusCode::OK {
        let raw = ask.head.uri.path();
        if raw == canonical(&ask.space, &ask.path)
            && let Body::Ready(Some(body)) = response.body()
        {
            ask.peer.cache.keep(epoch, raw, Arc::new(Answer { headers: response.headers().clone(), body: body.clone() }));
        }
    }
    if let Body::Ready(Some(bytes)) = response.body_mut() {
        others.room(reader, bytes.len())?;
        *bytes = others.keep(reader, std::mem::take(bytes));
    }
    Ok(response)
}

/// An answer, but for what others have of it.
struct Looked {
    response: Response<Body>,
    /// Whether it is what everybody gets who asks for nothing more than the value.
    is_plain: bool,
}

impl From<Response<Body>> for Looked {
    fn from(response: Response<Body>) -> Self {
        Self { response, is_plain: false }
    }
}

async fn look(ask: &Ask) -> Result<Looked, Problem> {
    if let Some(source) = crate::computed::Source::at(ask.space, &ask.path) {
        return crate::computed::get(&ask.peer, &ask.who, &source).await.map(Looked::from);
    }
    let store = ask.peer.store.clone();
    let rows = store.snapshot();
    if accepts(&ask.head.headers, "application/timebus-ops") {
        // A change may hold more than what is at one path: whatever is in its timeline.
        ask.who.may(&ask.peer, Verb::Read, &ask.space.key, &Path::root())?;
        let rights = store.rights(&ask.space.key);
        if let Some(mount) = rights.as_ref().and_then(|rights| rights.mount_of(&ask.path)) {
            ask.who.may(&ask.peer, Verb::Read, &ask.space.key, &mount.path)?;
        }
        return crate::sys::raw_changes(ask).map(Looked::from);
    }
    let headers = &ask.head.headers;
    MergeType::of(headers)?;
    if headers.contains_key("version") || headers.contains_key("parents") {
        return historic(ask, &rows).map(Looked::from);
    }
    if ask.query.view == View::Meta {
        let people = People::known_to(&ask.peer, &ask.who).await;
        return meta(ask, &people, &rows).map(Looked::from);
    }
    let offers = [Mime::JSON, Mime::NDJSON, Mime::TEXT];
    if negotiate(text(headers, header::ACCEPT), &offers).is_some_and(|mime| *mime == Mime::NDJSON) {
        return lines(ask, rows).map(Looked::from);
    }
    if let Some(window) = Window::of(&ask.query) {
        let version = store.version(&rows, ask.space, &ask.path).map_err(|error| storage_problem(&error))?;
        let key = timebus_store::node::node_key(ask.space.main(), &ask.path.key());
        let below = timebus_store::node::Node::load(&*rows, &key).map_err(|error| storage_problem(&error))?.below;
        // A long list is read once.
        let (window, found) = if window.words.is_empty() && below <= BLOCKING_FROM {
            let found = window.read(&store, &rows, ask.space, &ask.path);
            (window, found)
        } else {
            let (space, path) = (ask.space, ask.path.clone());
            tokio::task::spawn_blocking(move || {
                let found = window.read(&store, &rows, space, &path);
                (window, found)
            })
            .await
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the store failed", error.to_string()))?
        };
        return Ok(page(ask, &window, found.map_err(|error| storage_problem(&error))?, &version).into());
    }
    let node = timebus_store::node::Node::load(&*rows, &timebus_store::node::node_key(ask.space.main(), &ask.path.key()))
        .map_err(|error| storage_problem(&error))?;
    if node.below > STREAM_FROM && ask.query.view == View::Value && !headers.contains_key(header::RANGE) {
        return stream(ask, rows).map(Looked::from);
    }
    let reading = if node.below > BLOCKING_FROM {
        let path = ask.path.clone();
        let rows = Arc::clone(&rows);
        let space = ask.space;
        tokio::task::spawn_blocking(move || store.read(&rows, space, &path))
            .await
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the store failed", error.to_string()))?
    } else {
        store.read(&rows, ask.space, &ask.path)
    };
    let reading = reading.map_err(|error| storage_problem(&error))?;
    // What has a media type of its own, and is asked for as JSON, is not what others ask for.
    let has_own =
        matches!(reading.tree.writes.first().map(|write| &write.value), Some(Value::Text { .. } | Value::Bytes { .. } | Value::Blob { .. }));
    let is_plain = is_plain(headers) && ask.head.uri.query().is_none() && !(has_own && headers.contains_key(header::ACCEPT));
    let response = value(ask, &reading.tree, &reading.version)?;
    Ok(Looked { response, is_plain })
}

/// An entity tag for a version.
pub(crate) fn etag(version: &[String]) -> String {
    format!("\"{}\"", timebus_store::writer::version_tag(version))
}

fn absent(path: &Path) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "absent", "there is nothing here", format!("nothing is at {path}"))
        .with_fix(format!("PUT {path} writes a value"))
}

/// Answers with a value in the form that the caller likes best.
fn value(ask: &Ask, tree: &Tree, version: &[String]) -> Result<Response<Body>, Problem> {
    let headers = &ask.head.headers;
    let version_header = print_versions(version);
    let merge = MergeType::of(headers)?;
    let text_shown = crate::watch::text::text_of(tree);
    if merge.is_some() && text_shown.is_none() && !tree.is_absent() {
        return Err(no_text());
    }
    if let Some(kind) = merge
        && tree.is_absent()
    {
        // To who edits texts, one that nobody has written to yet is empty.
        let mut response = Response::new(Body::ready(Bytes::new()));
        let out = response.headers_mut();
        insert(out, "version", &version_header);
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        text_headers(out, Some(kind), "");
        return Ok(response);
    }
    if tree.is_absent() {
        let problem = absent(&ask.path);
        let mut response = crate::body::refuse(&problem);
        insert(response.headers_mut(), "version", &version_header);
        return Ok(response);
    }
    let wanted = Wanted::of(ask, tree);
    let tag = wanted.as_ref().map_or_else(|| etag(version), Wanted::tag);
    let mut response = Response::new(Body::empty());
    let out = response.headers_mut();
    insert(out, "version", &version_header);
    insert(out, header::ETAG.as_str(), &tag);
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    out.insert(header::VARY, HeaderValue::from_static("accept, version, parents, subscribe, authorization"));
    out.insert("accept-subscribe", HeaderValue::from_static("true"));
    // Here, so that what is kept of an answer has them, too.
    crate::route::add_policies(out);
    let conflicts = tree.conflicts();
    if conflicts > 0 {
        out.insert("conflicts", HeaderValue::from(conflicts));
    }
    if let Some(condition) = text(headers, header::IF_NONE_MATCH) {
        let condition = Condition::parse(condition)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "condition", "If-None-Match is malformed", error.to_string()))?;
        if condition.matches_weak(tag.trim_matches('"')) || condition.matches_version(version) || condition == Condition::Any {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
    }
    if let Some(Write { value: Value::Text { content: Some(content), .. }, .. }) = tree.writes.first()
        && content.parked
    {
        response.headers_mut().insert("text-parked", HeaderValue::from_static("1"));
    }
    if let Some((_, text)) = text_shown {
        text_headers(response.headers_mut(), merge, text);
    }
    if let Some(wanted) = wanted {
        return serve(ask, response, &wanted);
    }
    let space = ask.space.key;
    let all = ask.query.view == View::All;
    if !all
        && tree.shape() == Shape::Scalar
        && let Some(write) = tree.writes.first()
        && let Some((mime, bytes)) = media(&write.value, headers)
    {
        return Ok(serve_media(ask, response, &tag, mime, bytes));
    }
    response.headers_mut().remove("repr-digest");
    let mut body = Vec::new();
    if let Some(range) = text(headers, header::RANGE).and_then(|range| range.strip_prefix("json")) {
        return json_range(tree, &space, range, response);
    }
    tree.write_json(Show { space: &space, all }, &mut body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Body::ready(body);
    Ok(response)
}

/// What Braid clients that edit texts look for.
fn text_headers(out: &mut HeaderMap, merge: Option<MergeType>, text: &str) {
    out.insert("merge-type", HeaderValue::from_static(merge.unwrap_or(MergeType::Simpleton).name()));
    out.insert("accept-subscribe", HeaderValue::from_static("true"));
    insert(out, "repr-digest", &crate::signature::print_digest(&crate::watch::sha256(text)));
}

/// The bytes of a value that has a media type of its own, or of a string asked for as text.
fn media(value: &Value, headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let accept = text(headers, header::ACCEPT);
    match value {
        Value::Bytes { mime, bytes } => {
            let own = Mime::parse(mime.as_str()).unwrap_or(Mime::BYTES);
            let offers = [own.clone(), Mime::JSON];
            let chosen = negotiate(accept, &offers).unwrap_or(&own);
            (*chosen == own).then(|| (mime.as_str().to_owned(), bytes.to_vec()))
        }
        Value::Text { mime, content } => {
            let own = Mime::parse(mime.as_str()).unwrap_or(Mime::TEXT);
            let offers = [own.clone(), Mime::JSON];
            let chosen = negotiate(accept, &offers).unwrap_or(&own);
            let text = content.as_ref().map_or("", |content| &content.text);
            (*chosen == own).then(|| (mime.as_str().to_owned(), text.as_bytes().to_vec()))
        }
        Value::String(string) => {
            let offers = [Mime::JSON, Mime::TEXT];
            (negotiate(accept, &offers) == Some(&Mime::TEXT)).then(|| (Mime::TEXT.as_str().to_owned(), string.as_bytes().to_vec()))
        }
        _ => None,
    }
}

/// Stored media is served so that a browser shows it but never runs it.
fn serve_media(ask: &Ask, mut response: Response<Body>, tag: &str, mime: String, bytes: Vec<u8>) -> Response<Body> {
    media_headers(ask, response.headers_mut(), &mime);
    if let Some(range) = ranged(&ask.head, tag, &mut response, bytes.len() as u64) {
        *response.body_mut() = Body::ready(Bytes::from(bytes).slice(range.start as usize..range.end as usize));
    }
    response
}

/// A part of a JSON value: `Range: json ["list"][0:10]`.
fn json_range(tree: &Tree, space: &timebus_identity::PublicKey, range: &str, mut response: Response<Body>) -> Result<Response<Body>, Problem> {
    use timebus_store::json::Json;
    let header_text = format!("json {}", range.trim_start_matches([' ', '=']));
    let bad = |detail: String| Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", "this part does not exist", detail);
    let range = ContentRange::parse(&header_text).map_err(|error| bad(error.to_string()))?;
    let ContentRange::Json(steps) = &range else { return Err(bad("only json ranges apply here".to_owned())) };
    let mut at = tree.to_json(space).unwrap_or(Json::Null);
    for step in steps {
        let array_len = if let Json::Array(items) = &at { items.len() as u64 } else { 0 };
        at = match (step, at) {
            (crate::patches::Step::Key(key), Json::Object(mut members)) => members.remove(key).ok_or_else(|| bad(format!("no member {key:?}")))?,
            (crate::patches::Step::Splice(span), Json::Array(items)) => {
                let span = span.resolve(array_len).ok_or_else(|| bad(format!("the array has {array_len} elements")))?;
                Json::Array(items.into_iter().skip(span.start as usize).take((span.end - span.start) as usize).collect())
            }
            (step, Json::Array(mut items)) => {
                let index = step.index().and_then(|index| index.resolve(array_len)).filter(|index| *index < array_len);
                let index = index.ok_or_else(|| bad(format!("the array has {array_len} elements")))?;
                items.swap_remove(index as usize)
            }
            _ => return Err(bad("the value has no such part".to_owned())),
        };
    }
    let mut body = Vec::new();
    at.write(&mut body);
    let headers = response.headers_mut();
    insert(headers, header::CONTENT_RANGE.as_str(), &range.to_string());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    *response.body_mut() = Body::ready(body);
    Ok(response)
}

/// A version header of a request.
pub(crate) fn versions(headers: &HeaderMap, name: &str) -> Result<Option<Vec<String>>, Problem> {
    headers
        .get(name)
        .map(|value| {
            parse_versions(value.as_bytes())
                .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "versions", format!("the {name} header is malformed"), error.to_string()))
        })
        .transpose()
}

/// The value at an old version, or what changed since.
fn historic(ask: &Ask, rows: &Committed) -> Result<Response<Body>, Problem> {
    let store = &ask.peer.store.asked_by(ask.who.asker());
    let current = store.version(rows, ask.space, &ask.path).map_err(|error| storage_problem(&error))?;
    let version = versions(&ask.head.headers, "version")?;
    let at = |versions: &[String]| store.read_at(rows, ask.space, &ask.path, versions).map_err(|error| write_problem(&error));
    let tree = match &version {
        Some(version) => at(version)?,
        None => store.read(rows, ask.space, &ask.path).map_err(|error| storage_problem(&error))?.tree,
    };
    let space = ask.space.key;
    let window = Window::of(&ask.query);
    let shown = version.as_deref().unwrap_or(&current);
    let mut response = match (versions(&ask.head.headers, "parents")?, window) {
        (None, None) => value(ask, &tree, shown)?,
        (None, Some(window)) => page(ask, &window, window.cut(&tree, &space), shown),
        (Some(parents), None) if crate::watch::text::is_text(&tree) => {
            let mut out = Vec::new();
            let merge = MergeType::of(&ask.head.headers)?;
            let missing = |error| write_problem(&error);
            if merge == Some(MergeType::Dt) && version.is_none() {
                crate::watch::write_runs_since(store, rows, (ask.space, &ask.path), &mut out, &parents).map_err(missing)?;
            } else {
                let edits = match &version {
                    None => crate::watch::text::edits_since(store, rows, ask.space, &ask.path, &parents).map_err(missing)?,
                    Some(_) => crate::watch::text::edits_from(&at(&parents)?, &tree),
                };
                crate::watch::text::write_braid(&mut out, &tree, edits.as_deref(), shown, &parents);
            }
            let mut response = Response::new(Body::ready(out));
            *response.status_mut() = multiresponse();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/http-history"));
            response
        }
        (Some(parents), window) => {
            // The difference as one update, in the form that subscribers get.
            let json = |tree: &Tree| match &window {
                Some(window) => window.cut(tree, &space).map(|page| page.json),
                None => tree.to_json(&space),
            };
            let mut out = Vec::new();
            crate::watch::write_difference(&mut out, json(&at(&parents)?).as_ref(), json(&tree).as_ref(), shown, &parents);
            let mut response = Response::new(Body::ready(out));
            *response.status_mut() = multiresponse();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/http-history"));
            response
        }
    };
    insert(response.headers_mut(), "current-version", &print_versions(&current));
    Ok(response)
}

pub(crate) fn multiresponse() -> StatusCode {
    StatusCode::from_u16(209).unwrap_or(StatusCode::OK)
}

/// Sets a header from text; what cannot be a header is left out.
pub(crate) fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Some(value)) = (http::HeaderName::from_bytes(name.as_bytes()), header_value(value)) {
        headers.insert(name, value);
    }
}

fn accepts(headers: &HeaderMap, mime: &str) -> bool {
    text(headers, header::ACCEPT).is_some_and(|accept| accept.contains(mime))
}

/// Calls `each` for every leaf: a visible value without parts, or an empty container.
pub(crate) fn leaves(tree: &Tree, path: &Path, each: &mut dyn FnMut(&Path, &Tree)) {
    let mut empty = true;
    for (name, child) in &tree.names {
        empty = false;
        if let Ok(path) = path.join(Segment::Name(name.clone())) {
            leaves(child, &path, each);
        }
    }
    for (id, child) in &tree.elements {
        empty = false;
        if let Ok(path) = path.join(Segment::Element(*id)) {
            leaves(child, &path, each);
        }
    }
    if empty && !tree.is_absent() {
        each(path, tree);
    }
}

/// Subtrees at or below `path` that are small enough to be put together, in order. Calls back with each.
pub(crate) fn pieces(
    store: &Store,
    rows: &Committed,
    space: Space,
    path: &Path,
    each: &mut dyn FnMut(&Path, Piece) -> bool,
) -> Result<bool, timebus_store::store::StorageError> {
    use timebus_store::node::{Node, node_key};
    let key = node_key(space.main(), &path.key());
    let node = Node::load(rows, &key)?;
    let winner_is_list = node.winner(rows, &key)?.is_some_and(|write: Write| write.value == Value::List);
    if node.below <= STREAM_FROM || winner_is_list || node.loose {
        return Ok(each(path, Piece::Tree(Box::new(store.read(rows, space, path)?.tree))));
    }
    if !each(path, Piece::Open) {
        return Ok(false);
    }
    for member in timebus_store::tree::members_up_to(rows, space.main(), path, STREAM_FROM) {
        let (name, tree) = member?;
        let Ok(child) = path.join(Segment::Name(name)) else { continue };
        let goes_on = match tree {
            Some(tree) => each(&child, Piece::Tree(Box::new(tree))),
            None => pieces(store, rows, space, &child, each)?,
        };
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(each(path, Piece::Close))
}

/// A stretch of a large subtree.
pub(crate) enum Piece {
    /// A whole subtree.
    Tree(Box<Tree>),
    /// An object begins whose members come one by one.
    Open,
    /// It ends.
    Close,
}

/// Bytes after which a stream hands over what it has.
const CHUNK_BYTES: usize = 64 * 1024;

/// Runs `produce` beside the async threads and streams what it writes; it waits while the socket takes no more.
pub(crate) fn produce(run: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> bool) + Send + 'static) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(4);
    tokio::task::spawn_blocking(move || run(&mut |chunk| sender.blocking_send(chunk.into()).is_ok()));
    produced(receiver)
}

/// The same for whoever asks.
pub(crate) fn produce_for(ask: &Ask, run: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> bool) + Send + 'static) -> Result<Body, Problem> {
    let Some(reader) = ask.reader else { return Ok(produce(run)) };
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let is_whole = ask.peer.others().write_long(reader, sender, run)?;
    let end = futures_util::stream::poll_fn(move |_| std::task::Poll::Ready((!is_whole.load(Ordering::Acquire)).then_some(Err(Cut)))).take(1);
    Ok(Body::Stream(Box::pin(chunks(receiver).map(Ok).chain(end))))
}

fn produced(receiver: tokio::sync::mpsc::Receiver<Bytes>) -> Body {
    Body::stream(chunks(receiver))
}

fn chunks(receiver: tokio::sync::mpsc::Receiver<Bytes>) -> impl Stream<Item = Bytes> + Send {
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((chunk, receiver))
    })
}

/// A large value as JSON, member by member.
fn stream(ask: &Ask, rows: Arc<Committed>) -> Result<Response<Body>, Problem> {
    let store = ask.peer.store.clone();
    let version = store.version(&rows, ask.space, &ask.path).map_err(|error| storage_problem(&error))?;
    let path = ask.path.clone();
    let root = path.segments().len();
    let space = ask.space;
    let body = produce_for(ask, move |send| {
        let mut out: Vec<u8> = Vec::new();
        let mut first = vec![true];
        let result = pieces(&store, &rows, space, &path, &mut |at, piece| {
            let mark = out.len();
            if !matches!(piece, Piece::Close) && at.segments().len() > root {
                let parent_first = first.last_mut();
                if !parent_first.as_deref().copied().unwrap_or(true) {
                    out.push(b',');
                }
                if let Some(Segment::Name(name)) = at.segments().last() {
                    write_string(name, &mut out);
                }
                out.push(b':');
            }
            let shown = match piece {
                Piece::Tree(tree) => tree.write_json(Show { space: &space.key, all: false }, &mut out),
                Piece::Open => {
                    out.push(b'{');
                    true
                }
                Piece::Close => {
                    first.pop();
                    out.push(b'}');
                    return out.len() < CHUNK_BYTES || send(std::mem::take(&mut out));
                }
            };
            if !shown {
                out.truncate(mark);
                return true;
            }
            if let Some(parent_first) = first.last_mut() {
                *parent_first = false;
            }
            if out.last() == Some(&b'{') && out.len() > mark {
                first.push(true);
            }
            out.len() < CHUNK_BYTES || send(std::mem::take(&mut out))
        });
        if result.is_ok() {
            send(out);
        }
    })?;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    insert(headers, "version", &print_versions(&version));
    insert(headers, header::ETAG.as_str(), &etag(&version));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// One `{"path","value"}` a line for each leaf.
fn lines(ask: &Ask, rows: Arc<Committed>) -> Result<Response<Body>, Problem> {
    let store = ask.peer.store.clone();
    let version = store.version(&rows, ask.space, &ask.path).map_err(|error| storage_problem(&error))?;
    let path = ask.path.clone();
    let space = ask.space;
    let body = produce_for(ask, move |send| {
        let mut out: Vec<u8> = Vec::new();
        let result = pieces(&store, &rows, space, &path, &mut |at, piece| {
            let Piece::Tree(tree) = piece else { return true };
            let mut open = true;
            leaves(&tree, at, &mut |at, leaf| {
                out.extend_from_slice(b"{\"path\":");
                write_string(&at.to_string(), &mut out);
                out.extend_from_slice(b",\"value\":");
                leaf.write_json(Show { space: &space.key, all: false }, &mut out);
                out.extend_from_slice(b"}\n");
                if out.len() >= CHUNK_BYTES {
                    open &= send(std::mem::take(&mut out));
                }
            });
            open
        });
        if result.is_ok() {
            send(out);
        }
    })?;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    insert(headers, "version", &print_versions(&version));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Who wrote which leaf when, one a line.
fn meta(ask: &Ask, people: &People, rows: &Committed) -> Result<Response<Body>, Problem> {
    let reading = ask.peer.store.read(rows, ask.space, &ask.path).map_err(|error| storage_problem(&error))?;
    let space = ask.space.key;
    let mut out = Vec::new();
    let mut failed = None;
    leaves(&reading.tree, &ask.path, &mut |at, leaf| {
        for write in &leaf.writes {
            match timebus_store::summary::summary(rows, ask.space.main(), write.a) {
                Ok(own) => {
                    let mut line = serde_json::json!({
                        "path": at.to_string(),
                        "value": crate::sys::to_serde(&timebus_store::tree::value_json(&write.value, &space)),
                        "version": own.name(),
                    });
                    people.tell_writer(&own, &mut line);
                    out.extend_from_slice(line.to_string().as_bytes());
                    out.push(b'\n');
                }
                Err(error) => failed = Some(error),
            }
        }
    });
    if let Some(error) = failed {
        return Err(storage_problem(&error));
    }
    let mut response = Response::new(Body::ready(out));
    insert(response.headers_mut(), "version", &print_versions(&reading.version));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// A listing page: what a window shows.
fn page(ask: &Ask, window: &Window, found: Option<Page>, version: &[String]) -> Response<Body> {
    let Some(Page { json, next, .. }) = found else {
        let mut response = crate::body::refuse(&absent(&ask.path));
        insert(response.headers_mut(), "version", &print_versions(version));
        return response;
    };
    let mut out = Vec::new();
    json.write(&mut out);
    let mut response = Response::new(Body::ready(out));
    let headers = response.headers_mut();
    insert(headers, "version", &print_versions(version));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(next) = next {
        insert(headers, window.next_header(), &crate::target::encode_parameter(&next));
    }
    response
}
