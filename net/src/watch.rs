//! Subscriptions: a snapshot, then every change, as Braid updates, server-sent events or JSON lines.
//!
//! A subscriber is a position in the feed of its path. Updates are written once per feed and form; what differs
//! between subscribers (the parents, the number of the watch) is put in front. Who falls behind what the feed
//! keeps gets one snapshot.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use timebus_identity::PublicKey;
use timebus_store::feed::{Entry, Feed, Next, Signal, Version};
use timebus_store::json::{Json, write_string};
use timebus_store::keyspace::{Committed, Rows, Table};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::{APPLIED, Space, decode_applied};
use timebus_store::store::{StorageError, Store};
use timebus_store::tree::Show;
use timebus_store::update::{Edit, Patch, Step, Update};

use crate::accept::Mime;
use crate::body::Body;
use crate::computed::Source;
use crate::merge_type::MergeType;
use crate::others::Reader;
use crate::patches::{self, UpdateBody, write_deleted, write_update};
use crate::peer::{Counted, Of, OriginCount, Peer};
use crate::presence::{Seat, counted_as};
use crate::problem::Problem;
use crate::read::{insert, multiresponse, versions};
use crate::route::{Ask, page_origin, storage_problem, write_problem};
use crate::senders::{Client, Sender};
use crate::versions::print_versions;
use crate::who::{Who, text};
use crate::window::{Window, changes, marker_at};

mod braid;
mod events;
mod merging;
mod snapshots;
pub(crate) mod text;
mod view;

use braid::{NOTHING, braid_tail, braid_update, write_braid_edits};
pub(crate) use braid::{difference, write_difference};
pub(crate) use events::{MORE, around_event, write_event};
use events::{lines_tails, with_parents, write_edit, write_names};
pub(crate) use merging::{sha256, write_runs_since};
use snapshots::Snapshot;
pub(crate) use snapshots::Snapshots;
pub(crate) use view::Views;
use view::{Shown, View};

/// Forms in which a feed keeps what it wrote: whole, and without the parents, which some subscribers need other
/// ones of.
const BRAID: usize = 0;
const LINES: usize = 1;
const BRAID_TAIL: usize = 2;
const LINES_TAIL: usize = 3;
const FRAMES: usize = 4;
const DT: usize = 5;
/// Most updates that go out in one piece.
const BATCH: usize = 256;
/// A piece that is this long goes out as it is: what waits for a slow reader should be little.
const PIECE_BYTES: usize = 64 * 1024;

/// How often rights are looked at that may end by themselves.
pub(crate) const RECHECK: Duration = Duration::from_secs(20);

/// The form of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl Form {
    /// Where a feed keeps events in this form, and for which watches.
    fn slot(self) -> Option<(usize, u64)> {
        match self {
            Self::Lines => Some((LINES, 0)),
            Self::Watch(id) => Some((FRAMES, id)),
            Self::Braid | Self::Events => None,
        }
    }
}

/// Answers a GET with a stream.
pub(crate) async fn subscribe(ask: Ask) -> Result<Response<Body>, Problem> {
    if let Some(source) = Source::at(ask.space, &ask.path) {
        let counted = ask.reader.map(|reader| reader.count_stream(&ask.peer)).transpose()?;
        let answer = crate::computed::subscribe(&ask.peer, &ask.who, &ask.head, source).await;
        return answer.map(|answer| answer.map(|body| body.holding(counted)));
    }
    let headers = &ask.head.headers;
    let form = stream_form(headers);
    if headers.contains_key("version") {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "versions", "a subscription has no Version", "send Parents to go on from a version"));
    }
    if !ask.query.words.is_empty() {
        let detail = "what a search finds is not told as it changes";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "match", "a subscription takes no match", detail).with_fix("GET it without subscribing"));
    }
    let merge = MergeType::of(headers)?.filter(|_| form == Form::Braid && Window::of(&ask.query).is_none());
    let from = match text(headers, "last-event-id") {
        Some(id) if form == Form::Events => Some(id.split(' ').filter(|id| !id.is_empty()).map(str::to_owned).collect()),
        _ => versions(headers, "parents")?,
    };
    let heartbeat = text(headers, "heartbeats").and_then(heartbeat_s).map(Duration::from_secs_f64);
    let origin = page_origin(&ask.head).map(|origin| ask.peer.count_origin(Of::Subscriptions, &origin)).transpose()?;
    let client = (form == Form::Braid).then(|| Client::of(headers, ask.who.principal())).flatten();
    let is_whole = form == Form::Braid && wants_wholes(headers);
    if ask.head.method != http::Method::HEAD {
        ask.unread.room_to_begin().await?;
    }
    let (others, reader) = (ask.peer.others(), ask.reader);
    let work = async move {
        let (who, space, path, window) = (&ask.who, ask.space, &ask.path, Window::of(&ask.query));
        let watch = Watch::start(&ask.peer, Start { who, reader, space, path, form, client, merge, is_whole, from, window, origin });
        (ask, watch)
    };
    let (ask, watch) = others.in_turn(reader, work).await?;
    let watch = watch?;
    let first = ask.unread.wait(watch.first.iter().map(Bytes::len).sum());
    // Without a sign of life now and then, a subscriber who is gone would not be noticed.
    let pause = heartbeat.or(match form {
        Form::Events => Some(Duration::from_secs(15)),
        Form::Braid => Some(Duration::from_secs(60)),
        Form::Lines | Form::Watch(_) => None,
    });
    let mut response = Response::new(Body::empty());
    let current = print_versions(&watch.version);
    let next = watch.window.as_ref().and_then(|(view, shown)| Some((view.window.next_header(), shown.page.as_ref()?.next.clone()?)));
    let headers = response.headers_mut();
    if let Some((name, next)) = next {
        insert(headers, name, &crate::target::encode_parameter(&next));
    }
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
            insert(headers, "repr-type", watch.media.as_deref().unwrap_or("application/json"));
            if let (Some(heartbeats), true) = (ask.head.headers.get("heartbeats"), heartbeat.is_some()) {
                headers.insert("heartbeats", heartbeats.clone());
            }
            if let Some(kind) = merge {
                headers.insert("merge-type", HeaderValue::from_static(kind.name()));
                headers.insert("editable", HeaderValue::from_static("true"));
            }
            *response.status_mut() = multiresponse();
        }
    }
    if ask.head.method == http::Method::HEAD {
        return Ok(response);
    }
    let restated = watch.is_guest().then(|| ask.peer.store.restatements());
    let stream = Stream { changed: watch.feed.watch(), stopped: ask.peer.stop.subscribe(), restated, heartbeat: pause, is_over: false, watch };
    let stream = futures_util::stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((bytes, stream))
    });
    *response.body_mut() = Body::stream(ask.unread.paced(Box::pin(stream), first));
    Ok(response)
}

/// Whether a Braid client knows no patches: statebus asks for JSON and says nothing else of itself, and what it makes of
/// a patch is nothing.
fn wants_wholes(headers: &HeaderMap) -> bool {
    text(headers, header::ACCEPT) == Some("application/json")
        && !["peer", "parents", "merge-type", "heartbeats"].iter().any(|name| headers.contains_key(*name))
}

/// The form of a stream that a request asks for.
pub(crate) fn stream_form(headers: &http::HeaderMap) -> Form {
    let accept = text(headers, header::ACCEPT).unwrap_or_default();
    if accept.starts_with("text/event-stream") {
        Form::Events
    } else if accept.contains("application/x-ndjson") {
        Form::Lines
    } else {
        Form::Braid
    }
}

/// What a subscriber is told last.
pub(crate) fn farewell(form: Form, problem: &Problem) -> Bytes {
    let mut out = Vec::new();
    // A Braid client asks again and gets the reason then.
    if form != Form::Braid {
        write_event(form, None::<&[String]>, &mut out, |out| {
            // By a fault of this program, or since he may not see it any more.
            let why = if problem.status.is_server_error() { "failed" } else { "revoked" };
            out.extend_from_slice(format!("\"closed\":\"{why}\",\"detail\":").as_bytes());
            write_string(&problem.detail, out);
        });
    }
    out.into()
}

/// Seconds of a `Heartbeats` header: the number that it begins with.
fn heartbeat_s(header: &str) -> Option<f64> {
    let end = header.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(header.len());
    let seconds: f64 = header[..end].parse().ok()?;
    (0.1..=3600.0).contains(&seconds).then_some(seconds)
}

/// A subscription that is the body of an answer.
struct Stream {
    watch: Watch,
    changed: tokio::sync::watch::Receiver<u64>,
    stopped: tokio::sync::watch::Receiver<bool>,
    /// Tells when rights changed, to those who need some.
    restated: Option<tokio::sync::watch::Receiver<u64>>,
    heartbeat: Option<Duration>,
    is_over: bool,
}

/// Why a subscription ends.
pub(crate) enum End {
    /// The subscriber has no right to it any more.
    Closed(Problem),
    /// The store failed.
    Failed(StorageError),
}

impl From<StorageError> for End {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

/// What a subscription begins with.
pub(crate) struct Start<'a> {
    pub(crate) who: &'a Who,
    pub(crate) reader: Option<Reader>,
    pub(crate) space: Space,
    pub(crate) path: &'a Path,
    pub(crate) form: Form,
    /// The Braid client that asks, if it says who it is.
    pub(crate) client: Option<Client>,
    /// How it merges, if it edits a text.
    pub(crate) merge: Option<MergeType>,
    /// Whether it gets the whole value after each change.
    pub(crate) is_whole: bool,
    /// What it has already.
    pub(crate) from: Option<Vec<String>>,
    pub(crate) window: Option<Window>,
    pub(crate) origin: Option<OriginCount>,
}

/// One subscription.
pub(crate) struct Watch {
    peer: Peer,
    /// Who watches, unless it is the owner.
    guest: Option<Who>,
    reader: Option<Reader>,
    path: Path,
    form: Form,
    /// The Braid client that subscribed, if it said who it is.
    client: Option<Client>,
    /// How it merges, if it edits a text.
    merge: Option<MergeType>,
    /// Whether it gets the whole value after each change.
    is_whole: bool,
    /// Whether there is nothing more to come: the client has to begin anew.
    is_over: bool,
    /// What the subscriber looks through, and what it was shown through that.
    window: Option<(Arc<View>, Arc<Shown>)>,
    feed: Arc<Feed>,
    /// Number of the next entry of the feed.
    number: u64,
    /// Changes up to here were in the last snapshot.
    upto: u64,
    /// How often something had been told by then that has to be read again.
    again: u64,
    /// The version sent last.
    version: Version,
    /// The media type of what was there at the last snapshot, if it was a text.
    media: Option<Box<str>>,
    /// What is to be sent before anything else.
    first: VecDeque<Bytes>,
    /// Where others see the subscriber, and it sees them.
    seat: Option<Seat>,
    _counted: (Counted, [Option<OriginCount>; 2]),
}

/// The version after a change, for whoever asked for it: he knows the change by the name that he gave it.
fn called(entry: &Entry) -> Version {
    let Some((_, name)) = entry.update.asked.as_ref().filter(|(_, name)| *name != entry.update.name) else { return Arc::clone(&entry.version) };
    entry.version.iter().map(|one| if *one == entry.update.name { name.clone() } else { one.clone() }).collect()
}

impl Watch {
    /// Begins with a snapshot, or with what changed since versions that the subscriber has.
    pub(crate) fn start(peer: &Peer, start: Start<'_>) -> Result<Self, Problem> {
        let Start { who, reader, space, path, form, client, merge, is_whole, from, window, origin } = start;
        who.may_look(peer, space, path)?;
        let of_reader = reader.map(|reader| reader.count_stream(peer)).transpose()?;
        let feed = peer.store.feed(space, path);
        let number = feed.end();
        let mut watch = Self {
            peer: peer.clone(),
            guest: (!who.is_owner()).then(|| who.clone()),
            reader,
            path: path.clone(),
            form,
            client,
            merge,
            is_whole,
            is_over: false,
            window: window.map(|window| (peer.views.open(space, path, window), Arc::default())),
            number,
            upto: 0,
            again: 0,
            version: Arc::new([]),
            media: None,
            first: VecDeque::new(),
            seat: None,
            feed,
            _counted: (Counted::new(peer, |counters| &counters.subscriptions), [origin, of_reader]),
        };
        watch.again = peer.store.told_again();
        let rows = peer.store.snapshot();
        let mut out = Vec::new();
        let failed = |error: StorageError| storage_problem(&error);
        let is_snapshot = merge.is_none() && from.is_none();
        match (merge, from) {
            (Some(kind), from) => watch.begin_merging(&rows, &mut out, kind, from)?,
            (None, None) => match watch.shared(&rows).map_err(failed)? {
                Some(shared) => watch.first.push_back(shared),
                None => watch.write_snapshot(&rows, &mut out, None).map_err(failed)?,
            },
            (None, Some(from)) => watch.write_resume(&rows, &mut out, from)?,
        }
        if !out.is_empty() {
            peer.others().room(reader, out.len())?;
            let first = watch.kept(std::mem::take(&mut out));
            watch.first.push_back(if is_snapshot { watch.share(first) } else { first });
        }
        watch.write_caught_up(&mut out);
        if !out.is_empty() {
            watch.first.push_back(out.into());
        }
        Ok(watch)
    }

    /// What was made, counted if it is not for the owner.
    fn kept(&self, out: Vec<u8>) -> Bytes {
        if self.reader.is_some() { self.peer.others().keep(self.reader, out.into()) } else { out.into() }
    }

    /// What others are sent as a snapshot who watch the same, if that is what the state has.
    fn shared(&mut self, rows: &Committed) -> Result<Option<Bytes>, StorageError> {
        if self.window.is_some() {
            return Ok(None);
        }
        let upto = applied(rows)?;
        let again = self.peer.store.told_again();
        let is_new = |shared: &snapshots::Shared| (shared.upto, shared.again) == (upto, again);
        let Some(shared) = self.peer.snapshots.find(&self.snapshot_key()).filter(is_new) else { return Ok(None) };
        self.upto = upto;
        self.version = Arc::clone(&shared.version);
        self.media.clone_from(&shared.media);
        Ok(Some(Bytes::from_owner(shared)))
    }

    /// Shares a snapshot with who comes before it was read.
    fn share(&self, text: Bytes) -> Bytes {
        if self.window.is_some() {
            return text;
        }
        let snapshot = Snapshot { upto: self.upto, again: self.again, version: Arc::clone(&self.version), media: self.media.clone(), text };
        self.peer.snapshots.share(self.snapshot_key(), snapshot)
    }

    fn snapshot_key(&self) -> snapshots::Key {
        (self.feed.space, self.path.clone(), self.form, self.reader.into())
    }

    /// Raises a signal when [`Watch::take`] may have something new.
    pub(crate) fn signal(&self, signal: &Arc<Signal>) {
        self.feed.signal(signal);
    }

    /// The own space of the peer that is watched.
    pub(crate) fn own(&self) -> PublicKey {
        self.peer.space()
    }

    /// Says to others who watch the path what they see of the subscriber, and shows them to it from now on.
    pub(crate) fn be_present(&mut self, by: PublicKey, value: Option<&Json>, signal: &Arc<Signal>) -> Result<(), Problem> {
        let counted = || if by == self.own() { by } else { counted_as(&self.peer.store, self.feed.space, &by) };
        let counted = if self.seat.is_none() { counted() } else { by };
        let seat = self.seat.get_or_insert_with(|| self.peer.presences.enter(self.feed.space, &self.path, (by, counted), signal));
        seat.set(value)
    }

    /// Whether what it begins with still waits.
    pub(crate) fn is_new(&self) -> bool {
        !self.first.is_empty()
    }

    /// Whether there may be something to take.
    pub(crate) fn has_news(&self) -> bool {
        self.is_new() || self.feed.is_ahead_of(self.number) || self.seat.as_ref().is_some_and(Seat::has_news)
    }

    /// Whether the subscriber may no longer watch. Asked when rights changed; what is new is not told before either.
    pub(crate) fn closed(&self) -> Option<Problem> {
        let who = self.guest.as_ref()?;
        who.may_look(&self.peer, self.feed.space, &self.path).err()
    }

    /// Whether rights have to be looked at now and then.
    pub(crate) fn is_guest(&self) -> bool {
        self.guest.is_some()
    }

    /// What a subscriber is told last.
    pub(crate) fn farewell(&self, problem: &Problem) -> Bytes {
        farewell(self.form, problem)
    }

    /// What is new, if anything is.
    ///
    /// # Errors
    ///
    /// [`End`] when there is nothing more to come.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, End> {
        loop {
            if let Some(problem) = self.closed() {
                return Err(End::Closed(problem));
            }
            let taken = self.take_news()?;
            // Of many updates none may be for the subscriber.
            if taken.is_some() || self.is_over || !self.feed.is_ahead_of(self.number) {
                return Ok(taken);
            }
        }
    }

    fn take_news(&mut self) -> Result<Option<Bytes>, StorageError> {
        if let Some(first) = self.first.pop_front() {
            return Ok(Some(first));
        }
        if let Some(seat) = self.seat.as_mut().filter(|seat| seat.has_news()) {
            let mut news = Vec::new();
            if seat.write_news(&mut news) {
                let mut out = Vec::new();
                write_event::<&str>(self.form, None, &mut out, |out| out.extend_from_slice(&news));
                return Ok(Some(out.into()));
            }
        }
        let entries = match self.feed.from(self.number, BATCH) {
            Next::Behind(count) => {
                self.peer.counters.behind.fetch_add(1, Ordering::Relaxed);
                if self.merge.is_some() {
                    return self.remerge().map(Some);
                }
                return self.resnapshot(Some(count)).map(Some);
            }
            Next::Entries(entries) if entries.is_empty() => return Ok(None),
            Next::Entries(entries) => entries,
        };
        if let Some(kind) = self.merge {
            return self.take_merging(kind, entries);
        }
        if self.is_whole {
            self.number = entries.last().map_or(self.number, |last| last.number + 1);
            let is_news = entries.iter().any(|entry| entry.update.a > self.upto);
            return if is_news { self.resnapshot(None).map(Some) } else { Ok(None) };
        }
        if let Some((view, shown)) = &self.window {
            let (view, shown) = (Arc::clone(view), Arc::clone(shown));
            return self.look_again(&view, &shown, &entries);
        }
        let mut out = Vec::new();
        let mut delivered = 0;
        for entry in entries {
            if out.len() >= PIECE_BYTES {
                break;
            }
            self.number = entry.number + 1;
            if entry.update.a <= self.upto {
                continue;
            }
            if self.is_own(&entry) {
                self.version = called(&entry);
                continue;
            }
            let (path, braid) = (&self.path, self.form == Form::Braid);
            let tail = entry.form(if braid { BRAID_TAIL } else { LINES_TAIL }, |entry| {
                let text_after = |at: &Path| text::text_after(&self.peer.store, &entry.update, at);
                let written = if braid { braid_tail(&entry.update, path, text_after) } else { lines_tails(&entry.update, path, &entry.version) };
                written.unwrap_or_else(|| RESNAPSHOT.to_vec())
            });
            if tail.as_ref() == RESNAPSHOT {
                let snapshot = self.resnapshot(None)?;
                if out.is_empty() {
                    return Ok(Some(snapshot));
                }
                out.extend_from_slice(&snapshot);
                break;
            }
            if tail.is_empty() {
                continue;
            }
            delivered += 1;
            // Most subscribers were sent what the feed had before, and then the parents are the same for all.
            let shared = entry.before.as_ref().filter(|before| Arc::ptr_eq(before, &self.version) || **before == self.version);
            if braid {
                match shared {
                    Some(before) => out.extend_from_slice(&entry.form(BRAID, |entry| braid_update(&entry.version, before, &tail))),
                    None => out.extend_from_slice(&braid_update(&entry.version, &self.version, &tail)),
                }
            } else {
                let write = |out: &mut Vec<u8>, parents: &Version| {
                    let lines = with_parents(parents, &tail);
                    let mut lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).peekable();
                    while let Some(line) = lines.next() {
                        // Only the last message of a change completes its version: nobody may resume from there before.
                        let completes = lines.peek().is_none().then_some(&*entry.version);
                        write_event(self.form, completes, out, |out| out.extend_from_slice(line));
                    }
                };
                match (shared, self.form.slot()) {
                    // Whoever comes first chooses which watches share what was written: most have the same number.
                    (Some(before), Some((slot, id))) => {
                        let shared = entry.form(slot, |_| {
                            let mut whole = id.to_le_bytes().to_vec();
                            write(&mut whole, before);
                            whole
                        });
                        match shared.split_first_chunk() {
                            Some((own, events)) if *own == id.to_le_bytes() => out.extend_from_slice(events),
                            _ => write(&mut out, before),
                        }
                    }
                    _ => write(&mut out, &self.version),
                }
            }
            self.version = Arc::clone(&entry.version);
        }
        self.peer.counters.deliveries.fetch_add(delivered, Ordering::Relaxed);
        Ok((!out.is_empty()).then(|| self.kept(out)))
    }

    /// Whether the subscriber made this change itself, here and upon all that it was told. Then it has what came of it.
    fn is_own(&self, entry: &Entry) -> bool {
        self.is_of_client(entry).is_some_and(|sender| sender.parents.iter().eq(self.version.iter().map(|name| &**name)))
    }

    /// Whether the subscriber made this change itself, here.
    fn is_of_client(&self, entry: &Entry) -> Option<Arc<Sender>> {
        // What has to be read again need not be that change alone.
        let client = self.client.as_ref().filter(|_| !entry.version.is_empty())?;
        let (_, name) = entry.update.asked.as_ref().filter(|(asker, _)| *asker == client.asker())?;
        self.peer.senders.of(self.feed.space.key, name, client, &self.path)
    }

    /// The store, for whoever watches.
    fn store(&self) -> Store {
        self.peer.store.asked_by(self.guest.as_ref().and_then(Who::asker))
    }

    /// What is new in the window.
    fn look_again(&mut self, view: &Arc<View>, shown: &Arc<Shown>, entries: &[Arc<Entry>]) -> Result<Option<Bytes>, StorageError> {
        let Some(last) = entries.last() else { return Ok(None) };
        self.number = last.number + 1;
        let rows = self.peer.store.snapshot();
        let now = view.look(&self.peer.store, &rows)?;
        let before = match &shown.page {
            None if shown.is_heavy => match self.store().read_at(&rows, self.feed.space, &self.path, &texts(&self.version)) {
                Ok(tree) => Arc::new(Shown { page: view.window.cut(&tree, &self.feed.space.key), ..Shown::default() }),
                Err(_) => return self.resnapshot(None).map(Some),
            },
            _ => Arc::clone(shown),
        };
        let told = view.told(&before, &now);
        let Some(told) = &*told else { return self.resnapshot(None).map(Some) };
        let mut told = std::borrow::Cow::Borrowed(told);
        // A change below what is shown leaves no trace but the number of values, and maybe not even that.
        let mut places = BTreeSet::new();
        let entries: Vec<&Arc<Entry>> = entries.iter().filter(|entry| entry.update.a > self.upto).collect();
        if let (Some(depth), Some(page)) = (view.window.depth, &now.page) {
            let from = self.path.segments().len();
            let touched = entries.iter().flat_map(|entry| &entry.update.touched);
            for path in touched.filter(|path| self.path.contains(path) && path.segments().len() > from + depth as usize) {
                places.extend(Path::new(path.segments()[..from + depth as usize].to_vec()).ok());
                if places.len() > MARKS_MAX {
                    return self.resnapshot(None).map(Some);
                }
            }
            for place in places {
                let steps = timebus_store::update::steps(&*rows, self.feed.space.main(), &place)?;
                let Some((steps, marker)) = marker_at(page, Some(depth), &steps[from..]) else { continue };
                if !told.iter().any(|(other, _)| steps.starts_with(other)) {
                    told.to_mut().push((steps, Edit::Put(marker)));
                }
            }
        }
        self.window = Some((Arc::clone(view), now.light()));
        if told.is_empty() {
            return Ok(None);
        }
        let mut out = Vec::new();
        let parents = Arc::clone(&self.version);
        let author = if let [entry] = &entries[..] { Some(&*entry.update) } else { None };
        self.write_edits(&mut out, &told, now.json(), &now.version, &parents, author);
        self.version = Arc::clone(&now.version);
        self.peer.counters.deliveries.fetch_add(1, Ordering::Relaxed);
        Ok(Some(self.kept(out)))
    }

    /// Writes what turns what the subscriber has into `value`, as one update. In Braid no edits are the whole value.
    fn write_edits(
        &self,
        out: &mut Vec<u8>,
        edits: &[(Vec<Step>, Edit)],
        value: Option<&Json>,
        version: &[Box<str>],
        parents: &[Box<str>],
        author: Option<&Update>,
    ) {
        if self.form == Form::Braid {
            return write_braid_edits(out, edits, value, version, parents);
        }
        for (number, (steps, edit)) in edits.iter().enumerate() {
            let is_last = number + 1 == edits.len();
            write_event(self.form, is_last.then_some(version), out, |out| {
                out.extend_from_slice(b"\"parents\":");
                write_names(parents, out);
                out.push(b',');
                // Elements are told by their place alone.
                let mut path = self.path.clone();
                for step in steps {
                    match step {
                        Step::Key(name) => path = path.join(Segment::Name(name.clone())).unwrap_or(path),
                        Step::Index(_) => break,
                    }
                }
                write_edit(out, &path, steps, edit);
                out.extend_from_slice(b",\"version\":");
                write_names(version, out);
                if let Some(update) = author {
                    events::write_author(out, update);
                }
                if !is_last {
                    out.extend_from_slice(MORE);
                }
            });
        }
    }

    /// Reads everything again.
    fn resnapshot(&mut self, behind: Option<u64>) -> Result<Bytes, StorageError> {
        self.number = self.feed.end();
        self.again = self.peer.store.told_again();
        let rows = self.peer.store.snapshot();
        if behind.is_none()
            && let Some(shared) = self.shared(&rows)?
        {
            return Ok(shared);
        }
        let mut out = Vec::new();
        self.write_snapshot(&rows, &mut out, behind)?;
        let made = self.kept(out);
        Ok(if behind.is_none() { self.share(made) } else { made })
    }

    fn write_snapshot(&mut self, rows: &Committed, out: &mut Vec<u8>, behind: Option<u64>) -> Result<(), StorageError> {
        self.upto = applied(rows)?;
        let mut json = Vec::new();
        self.media = None;
        let (present, version) = match &mut self.window {
            Some((view, shown)) => {
                let now = view.look(&self.peer.store, rows)?;
                if let Some(value) = now.json() {
                    value.write(&mut json);
                }
                *shown = now.light();
                (now.page.is_some(), Arc::clone(&now.version))
            }
            None => {
                let reading = self.peer.store.read(rows, self.feed.space, &self.path)?;
                let space = self.feed.space.key;
                let version = boxed(&reading.version);
                if let Some((media, _)) = text::text_of(&reading.tree) {
                    self.media = Some(media.into());
                    if self.form == Form::Braid {
                        text::write_braid(out, &reading.tree, None, &reading.version, &[]);
                        self.version = version;
                        return Ok(());
                    }
                }
                (reading.tree.write_json(Show { space: &space, all: false }, &mut json), version)
            }
        };
        match self.form {
            Form::Braid if present => write_update(
                out,
                &patches::Update {
                    version: &texts(&version),
                    parents: &[],
                    repr_sha256: None,
                    body: UpdateBody::Snapshot { content_type: &Mime::JSON, content: &json },
                },
            ),
            Form::Braid => write_deleted(out, &texts(&version), &[], NOTHING),
            form => {
                if let Some(count) = behind {
                    write_event(form, Some(&*self.version), out, |out| {
                        out.extend_from_slice(format!("\"behind\":{count}").as_bytes());
                    });
                }
                write_event(form, Some(&*version), out, |out| {
                    out.extend_from_slice(b"\"snapshot\":");
                    out.extend_from_slice(if present { &json } else { b"null" });
                    if !present {
                        out.extend_from_slice(b",\"absent\":true");
                    }
                    out.extend_from_slice(b",\"version\":");
                    write_names(&version, out);
                });
            }
        }
        self.version = version;
        Ok(())
    }

    /// What changed since the subscriber's version; all there is when that is not known any more.
    fn write_resume(&mut self, rows: &Committed, out: &mut Vec<u8>, from: Vec<String>) -> Result<(), Problem> {
        let failed = |error: StorageError| storage_problem(&error);
        let store = self.store();
        let before = match store.is_current(rows, self.feed.space, &self.path, &from) {
            Ok(true) => {
                if let Some((view, shown)) = &mut self.window {
                    *shown = view.look(&store, rows).map_err(failed)?.light();
                }
                self.upto = applied(rows).map_err(failed)?;
                self.version = boxed(&from);
                return Ok(());
            }
            Ok(false) => store.read_at(rows, self.feed.space, &self.path, &from),
            Err(error) => Err(error),
        };
        let before = match before {
            Ok(before) => before,
            Err(error) if self.form == Form::Braid => return Err(write_problem(&error)),
            // Other forms say so by sending a snapshot.
            Err(_) => return self.write_snapshot(rows, out, None).map_err(failed),
        };
        self.upto = applied(rows).map_err(failed)?;
        let space = self.feed.space.key;
        let (before, after, version) = match &mut self.window {
            Some((view, shown)) => {
                let now = view.look(&store, rows).map_err(failed)?;
                *shown = now.light();
                (view.window.cut(&before, &space).map(|page| page.json), now.json().cloned(), Arc::clone(&now.version))
            }
            None => {
                let reading = store.read(rows, self.feed.space, &self.path).map_err(failed)?;
                if let Some((media, _)) = text::text_of(&reading.tree) {
                    self.media = Some(media.into());
                    let edits = text::edits_since(&store, rows, self.feed.space, &self.path, &from).map_err(|error| write_problem(&error))?;
                    let version = boxed(&reading.version);
                    match edits {
                        Some(edits) if self.form == Form::Braid => text::write_braid(out, &reading.tree, Some(&edits), &reading.version, &from),
                        Some(edits) if edits.is_empty() => {}
                        Some(edits) => self.write_edits(out, &[(Vec::new(), Edit::Text(edits))], None, &version, &boxed(&from), None),
                        None => return self.write_snapshot(rows, out, None).map_err(failed),
                    }
                    self.version = version;
                    return Ok(());
                }
                (before.to_json(&space), reading.tree.to_json(&space), boxed(&reading.version))
            }
        };
        match changes(before.as_ref(), after.as_ref()) {
            Some(edits) => self.write_edits(out, &edits, after.as_ref(), &version, &boxed(&from), None),
            None if self.form == Form::Braid => write_braid_edits(out, &[], after.as_ref(), &version, &boxed(&from)),
            None => return self.write_snapshot(rows, out, None).map_err(failed),
        }
        self.version = version;
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

/// Most places below which something changed that are told one by one; with more, everything is.
const MARKS_MAX: usize = 64;

impl Stream {
    /// What to send next; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changed.borrow_and_update();
            if *self.stopped.borrow() || self.is_over || self.watch.is_over {
                return None;
            }
            match self.watch.take() {
                Ok(Some(bytes)) => return Some(bytes),
                Ok(None) => {}
                Err(End::Closed(problem)) => {
                    self.is_over = true;
                    return Some(self.watch.farewell(&problem)).filter(|farewell| !farewell.is_empty());
                }
                Err(End::Failed(error)) => {
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
            let restated = async {
                match &mut self.restated {
                    // A right may also end by itself.
                    Some(restated) => drop(tokio::time::timeout(RECHECK, restated.changed()).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = restated => {}
                stopped = self.stopped.wait_for(|stop| *stop) => {
                    drop(stopped);
                    return None;
                }
                () = beat => {
                    return Some(Bytes::from_static(if self.watch.form == Form::Events { b":\n\n" } else { b"\r\n" }));
                }
            }
        }
    }
}

/// Stands in a feed for an update that only a snapshot can tell.
const RESNAPSHOT: &[u8] = b"!";

/// The latest change that a state has.
fn applied(rows: &Committed) -> Result<u64, StorageError> {
    match rows.get(Table::Meta, APPLIED)? {
        Some(row) => Ok(decode_applied(&row)?.0.saturating_sub(1)),
        None => Ok(0),
    }
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
        // Nothing below a text shows.
        Edit::Text(_) => Some(None),
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

fn texts(names: &[Box<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn boxed(names: &[String]) -> Version {
    names.iter().map(|name| name.as_str().into()).collect()
}
