//! PUT, PATCH, POST and DELETE.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use timebus_store::json::{Json, Limits, Pos, Step as JsonStep};
use timebus_store::pipeline::Space;
use timebus_store::value::{INLINE_BYTES_MAX, Mime, Value};
use timebus_store::writer::{Action, Condition, Request, WriteError, Written};

use crate::accept::Mime as Media;
use crate::body::Body;
use crate::cache::canonical;
use crate::etag;
use crate::patches::{ContentRange, Patch, Position, Step, parse_patches};
use crate::problem::Problem;
use crate::read::{etag as version_etag, insert, versions};
use crate::route::{Ask, write_problem};
use crate::versions::print_versions;
use crate::who::{now_ms, text};

/// Most values that one request may write. While it is decided, each takes about 2 kB whatever its size: 64 MiB of
/// zeros would take more memory than most machines have, and would keep everybody else waiting for an hour.
pub(crate) const VALUES_MAX: usize = 250_000;

/// What a body may take when it is JSON.
fn limits(bytes_max: usize) -> Limits {
    Limits { bytes_max, values_max: VALUES_MAX, ..Limits::default() }
}

/// Carries out a request that writes.
pub(crate) async fn answer(ask: Ask, body: Bytes) -> Result<Response<Body>, Problem> {
    if ask.query.inc.is_some() {
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "counter", "counters are not there yet", "this version keeps no counters"));
    }
    if text(&ask.head.headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/timebus-ops")) {
        return crate::sys::take_changes(&ask, &body).await;
    }
    let action = action(&ask, &body)?;
    let request = request(&ask, action)?;
    let label = request.label.clone();
    let path = request.path.clone();
    let durable = request.durable;
    let creates = ask.head.method == Method::POST;
    match ask.peer.store.write(request).await {
        Ok(written) => Ok(done(&ask.space, &written, creates, durable)),
        Err(error @ WriteError::Condition { .. }) => {
            let mut response = crate::body::refuse(&write_problem(&error));
            if let WriteError::Condition { version, .. } = &error {
                insert(response.headers_mut(), "version", &print_versions(version));
            }
            Ok(response)
        }
        Err(error) => {
            tracing::debug!(%path, ?label, %error, "a write was refused");
            let mut response = crate::body::refuse(&write_problem(&error));
            if let WriteError::UnknownVersion(missing) = &error {
                insert(response.headers_mut(), "version", &print_versions(missing));
            }
            Ok(response)
        }
    }
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

/// Everything of a request but what it does.
fn request(ask: &Ask, action: Action) -> Result<Request, Problem> {
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
    let prefer_async =
        headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok()).any(|prefer| prefer.split(',').any(|p| p.trim() == "respond-async"));
    Ok(Request {
        space: Some(ask.space),
        path: ask.path.clone(),
        action,
        parents: versions(headers, "parents")?,
        label,
        condition: condition(ask)?,
        time_ms: now_ms(),
        durable: !prefer_async,
    })
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
            Err(problem) if problem.status == StatusCode::PAYLOAD_TOO_LARGE => Err(problem),
            Err(problem) => Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "the body is not JSON", problem.detail)
                .with_fix("JSON strings need quotes: -d '\"hello\"'; for text send -H 'Content-Type: text/plain', for a file its media type")),
        },
        _ if is_json => Ok(Action::Put(json(ask, body)?)),
        _ => {
            let mime = keepable(kind.unwrap_or_default(), body)?;
            Ok(Action::PutValue(Value::Bytes { mime, bytes: body.to_vec().into() }))
        }
    }
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
    let mut out = Vec::with_capacity(patches.len());
    let mut values_left = VALUES_MAX;
    for patch in patches {
        let ContentRange::Json(steps) = &patch.range else {
            return Err(bad("text ranges apply to mergeable texts, which this version does not keep yet".to_owned()));
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

/// Values, those that hold others counted too.
fn values(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(values).sum(),
        Json::Object(members) => members.values().map(values).sum(),
        _ => 0,
    }
}

fn json_step(step: &Step) -> JsonStep {
    let pos = |position: Position| match position {
        Position::Start(at) => Pos::FromStart(at),
        Position::End(at) => Pos::FromEnd(at),
    };
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
    // Digits and letters in ASCII order keep the order of the numbers they write.
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijkmnpqrstuvwx";
    let mut name: Vec<u8> = (0..11).rev().map(|at| DIGITS[(us >> (5 * at)) as usize & 31]).collect();
    name.extend(timebus_identity::random_bytes::<4>().iter().map(|byte| DIGITS[usize::from(byte & 31)]));
    String::from_utf8(name).unwrap_or_default()
}
