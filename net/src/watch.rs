//! Subscriptions: a snapshot, then every change, as Braid updates, server-sent events or JSON lines.
//!
//! A subscriber is a position in the feed of its path. Updates are written once per feed and form; what differs
//! between subscribers (the parents, the number of the watch) is put in front. Who falls behind what the feed
//! keeps gets one snapshot.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use timebus_identity::PublicKey;
use timebus_store::feed::{Feed, Next, Version};
use timebus_store::json::{Json, write_string};
use timebus_store::keyspace::{Committed, Rows, Table};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::{APPLIED, Space, decode_applied};
use timebus_store::store::StorageError;
use timebus_store::tree::{Show, Tree};
use timebus_store::update::{Edit, Patch, Step, Update};

use crate::accept::Mime;
use crate::body::Body;
use crate::patches::{self, ContentRange, Position, Span, UpdateBody, write_deleted, write_update};
use crate::peer::{Counted, Peer};
use crate::problem::Problem;
use crate::read::{insert, multiresponse, versions};
use crate::route::{Ask, storage_problem, write_problem};
use crate::versions::print_versions;
use crate::who::text;

/// Forms in which a feed keeps what it wrote: whole, and without the parents, which some subscribers need other
/// ones of.
const BRAID: usize = 0;
const LINES: usize = 1;
const BRAID_TAIL: usize = 2;
const LINES_TAIL: usize = 3;
/// Most updates that go out in one piece.
const BATCH: usize = 256;
/// Updates whose parts differ in more places than this are sent as snapshots.
const DIFFERENCE_MAX: usize = 512;

/// The form of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Braid-HTTP.
    Braid,
    /// `text/event-stream`.
    Events,
    /// One JSON object a line; the vocabulary of the websocket.
    Lines,
    /// Messages of a websocket, for the watch of this number.
    Watch(u64),
}

/// Answers a GET with a stream.
pub(crate) fn subscribe(ask: Ask) -> Result<Response<Body>, Problem> {
    let headers = &ask.head.headers;
    let accept = text(headers, header::ACCEPT).unwrap_or_default();
    let form = if accept.starts_with("text/event-stream") {
        Form::Events
    } else if accept.contains("application/x-ndjson") {
        Form::Lines
    } else {
        Form::Braid
    };
    if headers.contains_key("version") {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "versions", "a subscription has no Version", "send Parents to go on from a version"));
    }
    if let Some(kind) = text(headers, "merge-type")
        && !matches!(kind, "timebus" | "aww")
    {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "merge-type", "this merge type is not known", format!("{kind:?} is not there yet")));
    }
    let from = match text(headers, "last-event-id") {
        Some(id) if form == Form::Events => Some(id.split(' ').filter(|id| !id.is_empty()).map(str::to_owned).collect()),
        _ => versions(headers, "parents")?,
    };
    let heartbeat = text(headers, "heartbeats").and_then(heartbeat_s).map(Duration::from_secs_f64);
    let mut watch = Watch::start(&ask.peer, ask.space, &ask.path, form, from)?;
    // Without a sign of life now and then, a subscriber who is gone would not be noticed.
    watch.heartbeat = heartbeat.or(match form {
        Form::Events => Some(Duration::from_secs(15)),
        Form::Braid => Some(Duration::from_secs(60)),
        Form::Lines | Form::Watch(_) => None,
    });
    let mut response = Response::new(Body::empty());
    let current = print_versions(&watch.version);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform, no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    insert(headers, "current-version", &current);
    match form {
        Form::Events => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        }
        Form::Lines | Form::Watch(_) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        }
        Form::Braid => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/http-history"));
            headers.insert("subscribe", HeaderValue::from_static("true"));
            headers.insert("accept-subscribe", HeaderValue::from_static("true"));
            headers.insert("repr-type", HeaderValue::from_static("application/json"));
            if let (Some(heartbeats), true) = (ask.head.headers.get("heartbeats"), heartbeat.is_some()) {
                headers.insert("heartbeats", heartbeats.clone());
            }
            if let Some(kind) = ask.head.headers.get("merge-type") {
                headers.insert("merge-type", kind.clone());
            }
            *response.status_mut() = multiresponse();
        }
    }
    if ask.head.method == http::Method::HEAD {
        return Ok(response);
    }
    *response.body_mut() = Body::Stream(Box::pin(futures_util::stream::unfold(watch, |mut watch| async move {
        let bytes = watch.next().await?;
        Some((bytes, watch))
    })));
    Ok(response)
}

/// Seconds of a `Heartbeats` header: the number that it begins with.
fn heartbeat_s(header: &str) -> Option<f64> {
    let end = header.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(header.len());
    let seconds: f64 = header[..end].parse().ok()?;
    (0.1..=3600.0).contains(&seconds).then_some(seconds)
}

/// One subscription.
pub(crate) struct Watch {
    peer: Peer,
    space: Space,
    path: Path,
    form: Form,
    feed: Arc<Feed>,
    changed: tokio::sync::watch::Receiver<u64>,
    stopped: tokio::sync::watch::Receiver<bool>,
    /// Number of the next entry of the feed.
    number: u64,
    /// Changes up to here were in the last snapshot.
    upto: u64,
    /// The version sent last.
    version: Version,
    /// What is to be sent before anything else.
    first: VecDeque<Bytes>,
    pub(crate) heartbeat: Option<Duration>,
    _counted: Counted,
}

impl Watch {
    /// Begins with a snapshot, or with what changed since versions that the subscriber has.
    pub(crate) fn start(peer: &Peer, space: Space, path: &Path, form: Form, from: Option<Vec<String>>) -> Result<Self, Problem> {
        let feed = peer.store.feed(space, path);
        let changed = feed.watch();
        let number = feed.end();
        let mut watch = Self {
            peer: peer.clone(),
            space,
            path: path.clone(),
            form,
            changed,
            stopped: peer.stop.subscribe(),
            number,
            upto: 0,
            version: Arc::new([]),
            first: VecDeque::new(),
            heartbeat: None,
            feed,
            _counted: Counted::new(peer, |counters| &counters.subscriptions),
        };
        let rows = peer.store.snapshot();
        let mut out = Vec::new();
        match from {
            None => watch.write_snapshot(&rows, &mut out, None).map_err(|error| storage_problem(&error))?,
            Some(from) => watch.write_resume(&rows, &mut out, from)?,
        }
        watch.write_caught_up(&mut out);
        if !out.is_empty() {
            watch.first.push_back(out.into());
        }
        Ok(watch)
    }

    /// What to send next; `None` when the stream is over.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.pop_front() {
            return Some(first);
        }
        loop {
            self.changed.borrow_and_update();
            if *self.stopped.borrow() {
                return None;
            }
            match self.take() {
                Ok(Some(bytes)) => return Some(bytes),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "a subscription ended");
                    return None;
                }
            }
            let beat = async {
                match self.heartbeat {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                stopped = self.stopped.wait_for(|stop| *stop) => {
                    drop(stopped);
                    return None;
                }
                () = beat => {
                    return Some(Bytes::from_static(if self.form == Form::Events { b":\n\n" } else { b"\r\n" }));
                }
            }
        }
    }

    /// What is new, if anything is.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, StorageError> {
        let entries = match self.feed.from(self.number, BATCH) {
            Next::Behind(count) => {
                self.peer.counters.behind.fetch_add(1, Ordering::Relaxed);
                return self.resnapshot(Some(count)).map(Some);
            }
            Next::Entries(entries) if entries.is_empty() => return Ok(None),
            Next::Entries(entries) => entries,
        };
        let mut out = Vec::new();
        for entry in entries {
            self.number = entry.number + 1;
            if entry.update.a <= self.upto {
                continue;
            }
            let (path, braid) = (&self.path, self.form == Form::Braid);
            let tail = entry.form(if braid { BRAID_TAIL } else { LINES_TAIL }, |entry| {
                let written = if braid { braid_tail(&entry.update, path) } else { lines_tails(&entry.update, path, &entry.version) };
                written.unwrap_or_else(|| RESNAPSHOT.to_vec())
            });
            if tail.as_ref() == RESNAPSHOT {
                out.extend_from_slice(&self.resnapshot(None)?);
                break;
            }
            if tail.is_empty() {
                continue;
            }
            self.peer.counters.deliveries.fetch_add(1, Ordering::Relaxed);
            // Most subscribers were sent what the feed had before, and then the parents are the same for all.
            let shared = entry.before.as_ref().filter(|before| Arc::ptr_eq(before, &self.version) || **before == self.version);
            if braid {
                match shared {
                    Some(before) => out.extend_from_slice(&entry.form(BRAID, |entry| braid_update(&entry.version, before, &tail))),
                    None => out.extend_from_slice(&braid_update(&entry.version, &self.version, &tail)),
                }
            } else {
                let lines = match shared {
                    Some(before) => entry.form(LINES, |_| with_parents(before, &tail)),
                    None => with_parents(&self.version, &tail).into(),
                };
                let mut lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).peekable();
                while let Some(line) = lines.next() {
                    // Only the last message of a change completes its version: nobody may resume from there before.
                    let completes = lines.peek().is_none().then_some(&*entry.version);
                    write_event(self.form, completes, &mut out, |out| out.extend_from_slice(line));
                }
            }
            self.version = Arc::clone(&entry.version);
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// Reads everything again.
    fn resnapshot(&mut self, behind: Option<u64>) -> Result<Bytes, StorageError> {
        self.number = self.feed.end();
        let rows = self.peer.store.snapshot();
        let mut out = Vec::new();
        self.write_snapshot(&rows, &mut out, behind)?;
        Ok(out.into())
    }

    fn write_snapshot(&mut self, rows: &Committed, out: &mut Vec<u8>, behind: Option<u64>) -> Result<(), StorageError> {
        self.upto = applied(rows)?;
        let reading = self.peer.store.read(rows, self.space, &self.path)?;
        let space = self.space.key;
        let mut json = Vec::new();
        let present = reading.tree.write_json(Show { space: &space, all: false }, &mut json);
        match self.form {
            Form::Braid if present => write_update(
                out,
                &patches::Update {
                    version: &reading.version,
                    parents: &[],
                    repr_sha256: None,
                    body: UpdateBody::Snapshot { content_type: &Mime::JSON, content: &json },
                },
            ),
            Form::Braid => write_deleted(out, &reading.version, &[]),
            form => {
                if let Some(count) = behind {
                    write_event(form, Some(&*self.version), out, |out| {
                        out.extend_from_slice(format!("\"behind\":{count}").as_bytes());
                    });
                }
                write_event(form, Some(&*reading.version), out, |out| {
                    out.extend_from_slice(b"\"snapshot\":");
                    out.extend_from_slice(if present { &json } else { b"null" });
                    if !present {
                        out.extend_from_slice(b",\"absent\":true");
                    }
                    out.extend_from_slice(b",\"version\":");
                    write_names(&reading.version, out);
                });
            }
        }
        self.version = boxed(&reading.version);
        Ok(())
    }

    /// What changed since the subscriber's version; all there is when that is not known any more.
    fn write_resume(&mut self, rows: &Committed, out: &mut Vec<u8>, from: Vec<String>) -> Result<(), Problem> {
        let failed = |error: StorageError| storage_problem(&error);
        let store = self.peer.store.clone();
        let before = match store.is_current(rows, self.space, &self.path, &from) {
            Ok(true) => {
                self.upto = applied(rows).map_err(failed)?;
                self.version = boxed(&from);
                return Ok(());
            }
            Ok(false) => store.read_at(rows, self.space, &self.path, &from),
            Err(error) => Err(error),
        };
        let before = match before {
            Ok(before) => before,
            Err(error) if self.form == Form::Braid => return Err(write_problem(&error)),
            // Other forms say so by sending a snapshot.
            Err(_) => return self.write_snapshot(rows, out, None).map_err(failed),
        };
        self.upto = applied(rows).map_err(failed)?;
        let reading = store.read(rows, self.space, &self.path).map_err(failed)?;
        let space = self.space.key;
        match self.form {
            Form::Braid => write_difference(out, &self.space.key, &before, &reading.tree, &reading.version, &from),
            form => {
                let edits = difference(before.to_json(&space).as_ref(), reading.tree.to_json(&space).as_ref());
                let Some(edits) = edits else { return self.write_snapshot(rows, out, None).map_err(failed) };
                let count = edits.len();
                for (number, (steps, value)) in edits.into_iter().enumerate() {
                    let is_last = number + 1 == count;
                    write_event(form, is_last.then_some(&*reading.version), out, |out| {
                        out.extend_from_slice(b"\"parents\":");
                        write_names(&from, out);
                        out.push(b',');
                        let mut path = self.path.clone();
                        for step in &steps {
                            if let Step::Key(name) = step
                                && let Ok(longer) = path.join(Segment::Name(name.clone()))
                            {
                                path = longer;
                            }
                        }
                        out.extend_from_slice(if value.is_some() { b"\"put\":" } else { b"\"delete\":" });
                        write_string(&path.to_string(), out);
                        if let Some(value) = &value {
                            out.extend_from_slice(b",\"value\":");
                            value.write(out);
                        }
                        out.extend_from_slice(b",\"version\":");
                        write_names(&reading.version, out);
                        if !is_last {
                            out.extend_from_slice(MORE);
                        }
                    });
                }
            }
        }
        self.version = boxed(&reading.version);
        Ok(())
    }

    fn write_caught_up(&self, out: &mut Vec<u8>) {
        match self.form {
            // A Braid client knows from Current-Version in the head.
            Form::Braid => {}
            form => write_event(form, Some(&*self.version), out, |out| {
                // When coming back made no difference, only this tells which version that is now.
                out.extend_from_slice(b"\"caught_up\":true,\"version\":");
                write_names(&self.version, out);
            }),
        }
    }
}

/// Says that the next message belongs to the same change.
const MORE: &[u8] = b",\"more\":true";

/// Stands in a feed for an update that only a snapshot can tell.
const RESNAPSHOT: &[u8] = b"!";

/// The latest change that a state has.
fn applied(rows: &Committed) -> Result<u64, StorageError> {
    match rows.get(Table::Meta, APPLIED)? {
        Some(row) => Ok(decode_applied(&row)?.0.saturating_sub(1)),
        None => Ok(0),
    }
}

fn write_names<S: AsRef<str>>(names: &[S], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(name.as_ref(), out);
    }
    out.push(b']');
}

/// Writes one JSON object in the form's framing, with the version that it completes.
fn write_event<S: AsRef<str>>(form: Form, version: Option<&[S]>, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
    if form == Form::Events {
        // Names of versions have no spaces or line ends when they are ids; others cannot be resumed from here.
        let id = version.map(|version| version.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" "));
        if let Some(id) = id.filter(|id| !id.contains(['\n', '\r', '\0'])) {
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(id.as_bytes());
            out.push(b'\n');
        }
        out.extend_from_slice(b"data: ");
    }
    out.push(b'{');
    if let Form::Watch(id) = form {
        // The number of the watch comes first, so that whoever reads by hand sees it.
        use std::io::Write as _;
        let _ = write!(out, "\"id\":{id},");
    }
    members(out);
    out.push(b'}');
    out.extend_from_slice(if form == Form::Events { b"\n\n" } else { b"\n" });
}

/// A patch as somebody who watches `path` sees it: steps from there and what happened. `None` when only reading
/// again tells, `Some(None)` when nothing happened there.
fn relative<'a>(patch: &'a Patch, path: &Path) -> Option<Option<(&'a [Step], std::borrow::Cow<'a, Edit>)>> {
    use std::borrow::Cow;
    let depth = path.segments().len();
    if path.contains(&patch.path) {
        if depth < patch.shown_from {
            return Some(None);
        }
        return Some(Some((&patch.steps[depth..], Cow::Borrowed(&patch.edit))));
    }
    if !patch.path.contains(path) {
        return Some(None);
    }
    match &patch.edit {
        // What no longer shows from above may still be there for those who look at it.
        Edit::Delete | Edit::Splice { .. } => None,
        Edit::Put(value) => {
            let mut at = Some(value);
            for segment in &path.segments()[patch.path.segments().len()..] {
                at = match (segment, at) {
                    (Segment::Name(name), Some(Json::Object(members))) => members.get(&**name),
                    (Segment::Element(_), Some(_)) | (Segment::Name(_), Some(Json::Array(_))) => return None,
                    _ => None,
                };
            }
            let edit = at.map_or(Edit::Delete, |value| Edit::Put(value.clone()));
            Some(Some((&[], Cow::Owned(edit))))
        }
    }
}

fn boxed(names: &[String]) -> Version {
    names.iter().map(|name| name.as_str().into()).collect()
}

/// A whole Braid update.
fn braid_update(version: &[Box<str>], parents: &[Box<str>], tail: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP 200 OK\r\nVersion: {}\r\nParents: {}\r\n", print_versions(version), print_versions(parents)).into_bytes();
    out.extend_from_slice(tail);
    out
}

/// Puts the parents in front of each line.
fn with_parents(parents: &[Box<str>], tail: &[u8]) -> Vec<u8> {
    let mut head = b"\"parents\":".to_vec();
    write_names(parents, &mut head);
    head.push(b',');
    let mut out = Vec::with_capacity(tail.len() + head.len());
    for line in tail.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(&head);
        out.extend_from_slice(line);
    }
    out
}

/// The part of a Braid update behind its versions.
fn braid_tail(update: &Update, path: &Path) -> Option<Vec<u8>> {
    let mut parts = Vec::new();
    for patch in update.patches.as_ref()? {
        if let Some((steps, edit)) = relative(patch, path)? {
            let mut content = Vec::new();
            let mut steps: Vec<patches::Step> = steps.iter().map(braid_step).collect();
            match &*edit {
                Edit::Put(value) if steps.is_empty() => {
                    value.write(&mut content);
                    let mut out = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", content.len()).into_bytes();
                    out.extend_from_slice(&content);
                    out.extend_from_slice(b"\r\n\r\n");
                    return Some(out);
                }
                // A resource that is gone needs another status line; a snapshot says it.
                Edit::Delete if steps.is_empty() => return None,
                Edit::Put(value) => value.write(&mut content),
                Edit::Delete => {}
                Edit::Splice { start, end, items } => {
                    steps.push(patches::Step::Splice(Span { start: Position::Start(*start as u64), end: Position::Start(*end as u64) }));
                    Json::Array(items.clone()).write(&mut content);
                }
            }
            parts.push(patches::Patch { range: ContentRange::Json(steps), content: content.into() });
        }
    }
    if parts.is_empty() {
        return Some(Vec::new());
    }
    let mut whole = Vec::new();
    write_update(&mut whole, &patches::Update { version: &[], parents: &[], repr_sha256: None, body: UpdateBody::Patches(&parts) });
    // The versions differ between subscribers and stand in front of this.
    let head = b"HTTP 200 OK\r\nVersion: \r\nParents: \r\n";
    whole.starts_with(head).then(|| whole.split_off(head.len()))
}

fn braid_step(step: &Step) -> patches::Step {
    match step {
        Step::Key(key) => patches::Step::Key(key.to_string()),
        Step::Index(index) => patches::Step::Index(Position::Start(*index as u64)),
    }
}

/// The members behind `parents` of the events that an update makes, one a line.
fn lines_tails(update: &Update, path: &Path, version: &Version) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for patch in update.patches.as_ref()? {
        let Some((steps, edit)) = relative(patch, path)? else { continue };
        if !out.is_empty() {
            out.extend_from_slice(MORE);
            out.push(b'\n');
        }
        let at = if path.contains(&patch.path) { &patch.path } else { path };
        let (verb, value) = match &*edit {
            Edit::Put(value) => ("put", Some(value.clone())),
            Edit::Delete => ("delete", None),
            Edit::Splice { items, .. } => ("splice", Some(Json::Array(items.clone()))),
        };
        out.extend_from_slice(format!("\"{verb}\":").as_bytes());
        write_string(&at.to_string(), &mut out);
        if let Edit::Splice { start, end, .. } = &*edit {
            out.extend_from_slice(format!(",\"start\":{start},\"end\":{end}").as_bytes());
        }
        if let Some(value) = value {
            out.extend_from_slice(b",\"value\":");
            value.write(&mut out);
        }
        if steps.iter().any(|step| matches!(step, Step::Index(_))) {
            out.extend_from_slice(b",\"at\":[");
            for (number, step) in steps.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                match step {
                    Step::Key(name) => write_string(name, &mut out),
                    Step::Index(index) => out.extend_from_slice(index.to_string().as_bytes()),
                }
            }
            out.push(b']');
        }
        out.extend_from_slice(b",\"version\":");
        write_names(version, &mut out);
        out.extend_from_slice(format!(",\"by\":\"{}\",\"time_ms\":{}", update.author, update.time_ms).as_bytes());
    }
    Some(out)
}

/// Where two values differ, by steps: the new value, or `None` where there is none any more. `None` when there
/// are too many places.
pub(crate) fn difference(before: Option<&Json>, after: Option<&Json>) -> Option<Vec<(Vec<Step>, Option<Json>)>> {
    fn walk(before: Option<&Json>, after: Option<&Json>, steps: &mut Vec<Step>, out: &mut Vec<(Vec<Step>, Option<Json>)>) -> bool {
        if before == after {
            return true;
        }
        // Objects with names that are no segments are kept whole, and only paths can say where something changed.
        let has_paths = |members: &std::collections::BTreeMap<String, Json>| members.keys().all(|name| Segment::name(name).is_ok());
        if let (Some(Json::Object(old)), Some(Json::Object(new))) = (before, after)
            && has_paths(old)
            && has_paths(new)
        {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                steps.push(Step::Key(name.as_str().into()));
                let fits = walk(old.get(name), new.get(name), steps, out);
                steps.pop();
                if !fits {
                    return false;
                }
            }
            return true;
        }
        out.push((steps.clone(), after.cloned()));
        out.len() <= DIFFERENCE_MAX
    }
    let mut out = Vec::new();
    walk(before, after, &mut Vec::new(), &mut out).then_some(out)
}

/// Writes what turned one tree into another as a Braid update.
pub(crate) fn write_difference(out: &mut Vec<u8>, space: &PublicKey, before: &Tree, after: &Tree, version: &[String], parents: &[String]) {
    let after = after.to_json(space);
    let edits = difference(before.to_json(space).as_ref(), after.as_ref());
    let snapshot = |out: &mut Vec<u8>, value: &Json| {
        let mut content = Vec::new();
        value.write(&mut content);
        let body = UpdateBody::Snapshot { content_type: &Mime::JSON, content: &content };
        write_update(out, &patches::Update { version, parents, repr_sha256: None, body });
    };
    match (&after, edits) {
        (None, _) => write_deleted(out, version, parents),
        (Some(value), None) => snapshot(out, value),
        (Some(value), Some(edits)) if edits.iter().any(|(steps, _)| steps.is_empty()) => snapshot(out, value),
        (Some(_), Some(edits)) => {
            let parts: Vec<patches::Patch> = edits
                .into_iter()
                .map(|(steps, value)| {
                    let mut content = Vec::new();
                    if let Some(value) = value {
                        value.write(&mut content);
                    }
                    patches::Patch { range: ContentRange::Json(steps.iter().map(braid_step).collect()), content: content.into() }
                })
                .collect();
            write_update(out, &patches::Update { version, parents, repr_sha256: None, body: UpdateBody::Patches(&parts) });
        }
    }
}
