//! PUT, PATCH, POST and DELETE.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use timebus_store::blobs::BlobHash;
use timebus_store::ids::TimelineId;
use timebus_store::json::{Json, Limits, Pos, Step as JsonStep};
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::text::TEXT_CHARS_MAX;
use timebus_store::value::{INLINE_BYTES_MAX, Mime, Value};
use timebus_store::writer::{Action, Condition, Request, TextEdits, WriteError, Written, resolve};

use crate::accept::Mime as Media;
use crate::authority::Verb;
use crate::behalf;
use crate::body::Body;
use crate::cache::canonical;
use crate::etag;
use crate::merge_type::MergeType;
use crate::patches::{ContentRange, Patch, Position, Step, parse_patches};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::read::{etag as version_etag, insert, versions};
use crate::route::{Ask, storage_problem, write_problem};
use crate::senders::{Client, Sender};
use crate::signature::{DigestError, content_digest_matches, parse_digest};
use crate::versions::print_versions;
use crate::who::{now_ms, text};

/// What becomes of a device that was thrown out.
pub(crate) const LOST: &str = "what is here can be read; for a device of yours begin with a new folder: `timebus --home FOLDER recover`, or \
                    `timebus devices add` on another device";

/// What a failed write is to whoever asked this peer for it.
pub(crate) fn refused(peer: &Peer, error: &WriteError) -> Problem {
    let problem = write_problem(error);
    match error {
        WriteError::NoKey if crate::sys::is_lost(peer) => problem.with_fix(LOST),
        _ => problem,
    }
}

/// Most values that one request may write. While it is decided, each takes about 2 kB whatever its size: 64 MiB of
/// zeros would take more memory than most machines have, and would keep everybody else waiting for an hour.
pub(crate) const VALUES_MAX: usize = 250_000;

/// What a body may take when it is JSON.
fn limits(bytes_max: usize) -> Limits {
    Limits { bytes_max, values_max: VALUES_MAX, ..Limits::default() }
}

/// Carries out a request that writes.
pub(crate) async fn answer(ask: Ask, body: Bytes) -> Result<Response<Body>, Problem> {
    if text(&ask.head.headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/timebus-ops")) {
        return crate::sys::take_changes(&ask, &body).await;
    }
    let make = || {
        let request = request(&ask, action(&ask, &body)?, None)?;
        check_digest(&ask, &body, &request)?;
        Ok(request)
    };
    let request = make()?;
    carry_out(&ask, request, body.len(), make).await
}

/// The same once it is clear what is to be done, with content that came with the request.
pub(crate) async fn perform(ask: Ask, action: Action, brought: BlobHash) -> Result<Response<Body>, Problem> {
    let make = || request(&ask, action.clone(), Some(brought));
    let request = make()?;
    carry_out(&ask, request, 0, make).await
}

/// Writes, and makes the request again for as long as it waits for what it builds on: so many bytes meanwhile.
async fn carry_out(ask: &Ask, request: Request, bytes: usize, make: impl Fn() -> Result<Request, Problem>) -> Result<Response<Body>, Problem> {
    let label = request.label.clone();
    let path = request.path.clone();
    let durable = request.durable;
    let creates = ask.head.method == Method::POST && ask.query.inc.is_none();
    let waits = request.parents.is_some();
    crate::community::check_rules(&ask.peer.store, &request)?;
    if let (Some(label), Some(parents)) = (&label, &request.parents)
        && let Some(client) = Client::of(&ask.head.headers, ask.who.principal())
    {
        ask.peer.senders.remember(ask.space.key, label, Sender { client, path: path.clone(), parents: parents.clone() });
    }
    let result = match behalf::write(&ask.peer, &ask.who, (ask.reader, &ask.sent), request).await? {
        Err(WriteError::UnknownVersion(_)) if waits => crate::waiting::write(ask, bytes, make).await?,
        result => result,
    };
    match result {
        Ok(written) => {
            let mut response = done(&ask.space, &written, creates, durable);
            if prefers(ask, "arrival")
                && let Some((at, log)) = arrival(&ask.peer.store, ask.space, &written)
            {
                insert(response.headers_mut(), "arrival", &format!("{at} {log}"));
            }
            if ask.query.inc.is_some() {
                show_number(ask, &mut response)?;
            }
            Ok(response)
        }
        Err(error @ WriteError::Condition { .. }) => Ok(condition_fails(&error)),
        Err(error) => {
            tracing::debug!(%path, ?label, %error, "a write was refused");
            let mut problem = refused(&ask.peer, &error);
            // What the owner calls others is his to know.
            if ask.who.is_owner() {
                problem = crate::people::People::now(&ask.peer).await.named(problem, &ask.space.key);
            }
            Err(match error {
                WriteError::NoGrant { .. } => match crate::community::whom_to_ask(&ask.peer.store, ask.space, &path) {
                    Some(fix) => problem.with_fix(fix),
                    None => problem,
                },
                _ => problem,
            })
        }
    }
}

/// Answers an addition with what the counter has come to.
fn show_number(ask: &Ask, response: &mut Response<Body>) -> Result<(), Problem> {
    let store = &ask.peer.store;
    if ask.who.may(&ask.peer, Verb::Read, &ask.space.key, &ask.path).is_err() {
        return Ok(());
    }
    let reading = store.read(&store.snapshot(), ask.space, &ask.path).map_err(|error| storage_problem(&error))?;
    let mut number = Vec::new();
    if let Some(json) = reading.tree.to_json(&ask.space.key) {
        json.write(&mut number);
    }
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Body::ready(number);
    Ok(())
}

/// Whether a request has a preference (RFC 7240).
fn prefers(ask: &Ask, wish: &str) -> bool {
    let mut wishes = ask.head.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    wishes.any(|other| other.trim() == wish)
}

/// Where a change stands among those of its timeline that came here, and which timeline that is: for who compares it with
/// `/.sys/synced`.
pub(crate) fn arrival(store: &Store, space: Space, written: &Written) -> Option<(u64, TimelineId)> {
    let change = written.change?.to_string();
    let at = resolve(&*store.snapshot(), space.main(), &[change]).ok()?.pop()?;
    Some((at, store.timeline(space)))
}

fn done(space: &Space, written: &Written, creates: bool, durable: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    insert(headers, "version", &print_versions(&written.version));
    insert(headers, header::ETAG.as_str(), &version_etag(&written.version));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    if !durable && !written.durable {
        headers.insert("preference-applied", HeaderValue::from_static("respond-async"));
    }
    if creates {
        if let Some(created) = &written.created {
            insert(headers, header::LOCATION.as_str(), &canonical(space, created));
        }
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

/// Checks that a write leads to the state that its digest names, upon the version that it was made on. A Braid client
/// that computes another digest has lost its way, and stops when it is told so. Where the state is put together here in
/// a way of our own, as JSON is, there is nothing to compare.
fn check_digest(ask: &Ask, body: &Bytes, request: &Request) -> Result<(), Problem> {
    let headers = &ask.head.headers;
    let Some(digest) = text(headers, "repr-digest") else { return Ok(()) };
    let malformed = |error: DigestError| Problem::new(StatusCode::BAD_REQUEST, "digest", "Repr-Digest is malformed", error.to_string());
    let wanted = match parse_digest(digest) {
        Ok(wanted) => wanted,
        Err(DigestError::NoSha256) => return Ok(()),
        Err(error) => return Err(malformed(error)),
    };
    let is_whole = ask.head.method == Method::PUT && !headers.contains_key("patches") && !headers.contains_key(header::CONTENT_RANGE);
    if is_whole && !content_digest_matches(digest, body).map_err(malformed)? {
        return Err(digest_differs("the body"));
    }
    let Action::EditText(TextEdits::Ranges(ranges)) = &request.action else { return Ok(()) };
    let (store, rows) = (&ask.peer.store.asked_by(ask.who.asker()), ask.peer.store.snapshot());
    let before = match &request.parents {
        // What is not known yet is waited for, and looked at then.
        Some(parents) => match store.read_at(&rows, ask.space, &ask.path, parents) {
            Ok(tree) => tree,
            Err(WriteError::UnknownVersion(_)) => return Ok(()),
            Err(error) => return Err(write_problem(&error)),
        },
        None => store.read(&rows, ask.space, &ask.path).map_err(|error| storage_problem(&error))?.tree,
    };
    let before = crate::watch::text::text_of(&before).map_or("", |(_, text)| text);
    match crate::watch::text::with_ranges(before, ranges) {
        Some(after) if crate::watch::sha256(&after) != wanted => Err(digest_differs("the text with these edits")),
        _ => Ok(()),
    }
}

/// The answer to a client whose state is not what it thinks it is.
pub(crate) fn digest_differs(what: &str) -> Problem {
    let status = StatusCode::from_u16(550).unwrap_or(StatusCode::BAD_REQUEST);
    Problem::new(status, "digest", "this is not the state that Repr-Digest names", format!("{what} has another SHA-256; nothing was written"))
        .with_fix("read the path again and build on what you get")
}

/// Everything of a request but what it does.
fn request(ask: &Ask, action: Action, brought: Option<BlobHash>) -> Result<Request, Problem> {
    let headers = &ask.head.headers;
    let label = match versions(headers, "version")? {
        None => None,
        Some(names) => match <[String; 1]>::try_from(names) {
            Ok([name]) if name.len() <= timebus_store::change::LABEL_BYTES_MAX && !name.is_empty() => Some(name),
            _ => {
                return Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "versions",
                    "a new version has one name",
                    "Version must hold exactly one id of at most 80 bytes",
                ));
            }
        },
    };
    let prefer_async = prefers(ask, "respond-async");
    Ok(Request {
        space: Some(ask.space),
        path: ask.path.clone(),
        action,
        parents: versions(headers, "parents")?,
        label,
        condition: condition(ask)?,
        time_ms: now_ms(),
        durable: !prefer_async,
        may_name: behalf::may_name(&ask.who, ask.space, brought),
    })
}

fn condition_fails(error: &WriteError) -> Response<Body> {
    let mut response = crate::body::refuse(&write_problem(error));
    if let WriteError::Condition { version, .. } = error {
        insert(response.headers_mut(), "version", &print_versions(version));
    }
    response
}

/// The answer to who brings something large for a path where something is and nothing may be, or the other way round: before he has
/// sent it. What a condition says of versions is looked at when it is written.
pub(crate) async fn fails_already(ask: &Ask) -> Result<Option<Response<Body>>, Problem> {
    let condition = condition(ask)?;
    // What is said again, by its name, is done already; and a guest is told when it is his turn.
    let is_said_later = ask.head.headers.contains_key("version") || ask.reader.is_some();
    if is_said_later || !matches!(condition, Condition::Absent | Condition::Present) {
        return Ok(None);
    }
    let (store, space, path) = (ask.peer.store.clone(), ask.space, ask.path.clone());
    // All that is below the path need not be read for that.
    let looked = crate::blobs::beside(move || {
        let rows = store.snapshot();
        let holds = store.is_anything_at(&rows, space, &path)? == matches!(condition, Condition::Present);
        if holds { Ok(None) } else { store.version(&rows, space, &path).map(Some) }
    });
    let version = looked.await?.map_err(|error: StorageError| storage_problem(&error))?;
    Ok(version.map(|version| condition_fails(&WriteError::Condition { path: ask.path.clone(), version })))
}

fn condition(ask: &Ask) -> Result<Condition, Problem> {
    let headers = &ask.head.headers;
    let bad = |name: &str, error: &dyn std::fmt::Display| {
        Problem::new(StatusCode::BAD_REQUEST, "condition", format!("{name} is malformed"), error.to_string())
    };
    if let Some(value) = text(headers, header::IF_MATCH) {
        return match etag::Condition::parse(value).map_err(|error| bad("If-Match", &error))? {
            etag::Condition::Any => Ok(Condition::Present),
            condition @ etag::Condition::Tags(_) => {
                let version = condition.version();
                let tags = match condition {
                    etag::Condition::Tags(tags) => tags.into_iter().filter(|tag| !tag.weak).map(|tag| tag.opaque).collect(),
                    etag::Condition::Any => Vec::new(),
                };
                Ok(Condition::Match { version, tags })
            }
        };
    }
    if let Some(value) = text(headers, header::IF_NONE_MATCH) {
        return match etag::Condition::parse(value).map_err(|error| bad("If-None-Match", &error))? {
            etag::Condition::Any => Ok(Condition::Absent),
            etag::Condition::Tags(_) => Err(bad("If-None-Match", &"writes take only `If-None-Match: *`")),
        };
    }
    Ok(Condition::None)
}

/// What the body asks for, by method, headers and media type.
fn action(ask: &Ask, body: &Bytes) -> Result<Action, Problem> {
    let headers = &ask.head.headers;
    let merge = MergeType::of(headers)?;
    if let Some(delta) = ask.query.inc {
        if ask.head.method != Method::POST {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "counter", "only POST adds to a counter", "inc is no parameter of this method"));
        }
        return Ok(Action::Inc(delta));
    }
    if ask.head.method == Method::DELETE {
        if headers.contains_key("put-mode") {
            return Err(Problem::new(
                StatusCode::NOT_IMPLEMENTED,
                "put-mode",
                "there is no Put-Mode here",
                "a DELETE removes what the caller had seen; what others add meanwhile without knowing of it survives",
            )
            .with_fix("delete again what was added since"));
        }
        return Ok(Action::Delete);
    }
    if ask.head.method != Method::POST {
        if let Some(count) = text(headers, "patches") {
            let malformed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "patches", "the patches are malformed", detail);
            let count = count.trim().parse().map_err(|_| malformed(format!("Patches: {count:?} is not a number")))?;
            let patches = parse_patches(body, count).map_err(|error| malformed(error.to_string()))?;
            return splices(&patches);
        }
        if let Some(range) = text(headers, header::CONTENT_RANGE) {
            let range = ContentRange::parse(range)
                .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "range", "Content-Range is malformed", error.to_string()))?;
            return splices(&[Patch { range, content: body.clone() }]);
        }
    }
    if merge.is_some() && ask.head.method != Method::POST {
        return whole_text(ask, body);
    }
    let kind = text(headers, header::CONTENT_TYPE);
    let media = match kind {
        Some(kind) => Some(
            Media::parse(kind)
                .map_err(|error| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Content-Type is malformed", error.to_string()))?,
        ),
        None => None,
    };
    let essence = media.as_ref().map_or("", Media::essence);
    let is_json = essence == "application/json" || essence.ends_with("+json");
    match (&ask.head.method, essence) {
        (&Method::PATCH, "application/json-patch+json") => Ok(Action::JsonPatch(json(ask, body)?)),
        (&Method::PATCH, _) if is_json || essence.is_empty() || essence == FORM => Ok(Action::Merge(json(ask, body)?)),
        (&Method::PATCH, other) => {
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "this patch format is not known", format!("{other} is no patch"))
                .with_fix("send application/merge-patch+json, application/json-patch+json, or a Content-Range header"))
        }
        (&Method::POST, _) if is_json || essence.is_empty() || essence == FORM => {
            Ok(Action::Post { name: time_sorted_id(), value: json(ask, body)? })
        }
        (&Method::POST, _) => {
            let mime = keepable(kind.unwrap_or_default(), body)?;
            if mime.is_text()
                && let Ok(text) = std::str::from_utf8(body)
            {
                return Ok(Action::Post { name: time_sorted_id(), value: Json::String(text.to_owned()) });
            }
            // As bytes inside of a larger value are written.
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(body);
            let members = [("@bytes", encoded), ("@type", mime.as_str().to_owned())];
            let members = members.map(|(name, text)| (name.to_owned(), Json::String(text)));
            Ok(Action::Post { name: time_sorted_id(), value: Json::Object(members.into()) })
        }
        (_, "" | FORM) => match json(ask, body) {
            Ok(value) => Ok(Action::Put(value)),
            // What is JSON, and cannot be kept, says itself what to do.
            Err(problem) if problem.status == StatusCode::PAYLOAD_TOO_LARGE || problem.fix.is_some() => Err(problem),
            Err(problem) => Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "the body is not JSON", problem.detail)
                .with_fix("JSON strings need quotes: -d '\"hello\"'; for text send -H 'Content-Type: text/plain', for a file its media type")),
        },
        _ if is_json => Ok(Action::Put(json(ask, body)?)),
        (_, "text/plain" | "text/markdown") => {
            let mime = if essence == "text/plain" { Mime::plain_text() } else { Mime::markdown() };
            Ok(Action::PutText { mime, text: whole(body)? })
        }
        _ => {
            let mime = keepable(kind.unwrap_or_default(), body)?;
            Ok(Action::PutValue(Value::Bytes { mime, bytes: body.to_vec().into() }))
        }
    }
}

/// A whole text, from a client that says how texts merge: it stays what kind of text it is.
fn whole_text(ask: &Ask, body: &Bytes) -> Result<Action, Problem> {
    let store = &ask.peer.store;
    let reading = store.read(&store.snapshot(), ask.space, &ask.path).map_err(|error| storage_problem(&error))?;
    let said = text(&ask.head.headers, header::CONTENT_TYPE).unwrap_or_default();
    let shown = crate::watch::text::text_of(&reading.tree).map_or(said, |(mime, _)| mime);
    let mime = if shown.trim_start().starts_with("text/markdown") { Mime::markdown() } else { Mime::plain_text() };
    Ok(Action::PutText { mime, text: whole(body)? })
}

/// All of a text that merges, if it is not too long for one.
fn whole(body: &Bytes) -> Result<String, Problem> {
    let text = utf8(body)?;
    let chars = text.chars().count() as u64;
    if chars > TEXT_CHARS_MAX {
        let detail = format!("a text that merges has {TEXT_CHARS_MAX} characters at most, and this one has {chars}");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the text is too long", detail)
            .with_fix("send it as a file, which does not merge: with Content-Type: application/octet-stream, or `timebus put PATH @FILE`"));
    }
    Ok(text.to_owned())
}

fn utf8(body: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(body)
        .map_err(|_| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "this text cannot be kept", "the text is not UTF-8"))
}

/// What `curl -d` says the body is.
const FORM: &str = "application/x-www-form-urlencoded";

fn json(ask: &Ask, body: &Bytes) -> Result<Json, Problem> {
    Json::parse(body, limits(ask.peer.config.body_bytes_max)).map_err(|error| {
        let problem = Problem::new(StatusCode::BAD_REQUEST, "json", "the body is not JSON that can be kept", error.to_string());
        match error.flaw {
            timebus_store::json::Flaw::TooMany { .. } => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "these are too many values for one request", error.to_string())
                    .with_fix("write smaller parts: a PATCH adds to what is there; `timebus import` does that")
            }
            timebus_store::json::Flaw::InexactNumber { .. } => problem.with_fix("send the number as a string"),
            timebus_store::json::Flaw::DuplicateKey { .. } => problem.with_fix("name every key of an object once"),
            _ => problem,
        }
    })
}

/// Under which media type a body can be kept.
fn keepable(kind: &str, body: &Bytes) -> Result<Mime, Problem> {
    let unsupported = |detail: &str| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "this media type cannot be kept", detail);
    let mut kind = kind.trim().to_owned();
    if kind.starts_with("text/") {
        if std::str::from_utf8(body).is_err() {
            return Err(unsupported("the text is not UTF-8"));
        }
        if !kind.contains("charset") {
            kind.push_str("; charset=utf-8");
        }
    }
    let mime = Mime::new(&kind).ok_or_else(|| unsupported("a media type has at most 127 printable characters"))?;
    if body.len() > INLINE_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "the file is too large",
            format!("files of up to {INLINE_BYTES_MAX} bytes can be kept so far, this one has {}", body.len()),
        ));
    }
    Ok(mime)
}

/// Braid range patches as splices of JSON.
fn splices(patches: &[Patch]) -> Result<Action, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "patch", "the patch cannot be applied", detail);
    if patches.iter().any(|patch| matches!(patch.range, ContentRange::Text(_))) {
        return text_ranges(patches);
    }
    let mut out = Vec::with_capacity(patches.len());
    let mut values_left = VALUES_MAX;
    for patch in patches {
        let ContentRange::Json(steps) = &patch.range else {
            return Err(bad("a request has ranges of json or of text, not both".to_owned()));
        };
        let steps = steps.iter().map(json_step).collect();
        let content = if patch.content.is_empty() {
            None
        } else {
            let limits = Limits { values_max: values_left, ..Limits::default() };
            Some(Json::parse(&patch.content, limits).map_err(|error| bad(error.to_string()))?)
        };
        values_left -= content.as_ref().map_or(0, values).min(values_left);
        out.push((steps, content));
    }
    Ok(Action::Splice(out))
}

/// Braid range patches of a text. Their ranges are those of the text that the caller saw.
fn text_ranges(patches: &[Patch]) -> Result<Action, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "patch", "the patch cannot be applied", detail);
    let mut ranges = Vec::with_capacity(patches.len());
    for patch in patches {
        let ContentRange::Text(span) = &patch.range else { return Err(bad("a request has ranges of json or of text, not both")) };
        let content = std::str::from_utf8(&patch.content).map_err(|_| bad("what is put into a text is UTF-8"))?;
        ranges.push((pos(span.start), pos(span.end), content.to_owned()));
    }
    Ok(Action::EditText(TextEdits::Ranges(ranges)))
}

fn pos(position: Position) -> Pos {
    match position {
        Position::Start(at) => Pos::FromStart(at),
        Position::End(at) => Pos::FromEnd(at),
    }
}

/// Values, those that hold others counted too.
fn values(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(values).sum(),
        Json::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

fn json_step(step: &Step) -> JsonStep {
    match step {
        Step::Key(key) => JsonStep::Key(key.clone()),
        Step::Index(Position::Start(at)) => JsonStep::Index(i64::try_from(*at).unwrap_or(i64::MAX)),
        Step::Index(Position::End(0)) => JsonStep::End,
        Step::Index(Position::End(at)) => JsonStep::Index(i64::try_from(*at).map_or(i64::MIN, |at| -at)),
        Step::Splice(span) => JsonStep::Splice { start: pos(span.start), end: pos(span.end) },
    }
}

/// A name for a new child: names made later sort behind, and two made in one millisecond differ.
pub(crate) fn time_sorted_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST_US: AtomicU64 = AtomicU64::new(0);
    let now_us = now_ms() * 1000;
    // The clock may stand still or go back; names do not.
    let us = if LAST_US.fetch_max(now_us, Ordering::AcqRel) < now_us { now_us } else { LAST_US.fetch_add(1, Ordering::AcqRel) + 1 };
    let random = timebus_identity::random_bytes::<TIE_DIGITS>();
    digits_of_time(us).chain(random.iter().map(|byte| char::from(DIGITS[usize::from(byte & 31)]))).collect()
}

/// Digits and letters in ASCII order keep the order of the numbers that they write.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijkmnpqrstuvwx";
/// Digits of the microseconds at the beginning of such a name, and of what tells two of one moment apart.
const TIME_DIGITS: usize = 11;
const TIE_DIGITS: usize = 4;

fn digits_of_time(us: u64) -> impl Iterator<Item = char> {
    (0..TIME_DIGITS).rev().map(move |at| char::from(DIGITS[(us >> (5 * at)) as usize & 31]))
}

/// What is behind all names of [`time_sorted_id`] that were made before a time in Unix milliseconds, and before all others.
pub(crate) fn first_id_at(ms: u64) -> String {
    digits_of_time(ms.saturating_mul(1000)).collect()
}

/// Whether a name may be from [`time_sorted_id`].
pub(crate) fn is_time_sorted_id(name: &str) -> bool {
    name.len() == TIME_DIGITS + TIE_DIGITS && name.bytes().all(|digit| DIGITS.contains(&digit))
}
