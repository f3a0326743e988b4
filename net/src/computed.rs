//! Values that are worked out and not stored, read and watched like others: what is stated about rights, `/.auth` of a
//! space; the inbox, `/.drop`; and every part of `/.sys` that is JSON.
//!
//! A watcher gets a snapshot, and then what differs whenever something changed that such values are made of. The version of
//! such a value is a tag of its content.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_all;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value as Serde, json};
use timebus_store::auth::Rights;
use timebus_store::grant::{Audience, Timelines};
use timebus_store::json::write_string;
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::accept::Mime;
use crate::authority::{Verb, is_statements};
use crate::body::Body;
use crate::patches::{around_snapshot, write_deleted};
use crate::peer::{Of, Peer, lock};
use crate::problem::Problem;
use crate::read::{insert, multiresponse};
use crate::route::page_origin;
use crate::target::Query;
use crate::versions::print_versions;
use crate::watch::{Form, MORE, RECHECK, around_event, farewell, stream_form, write_event};
use crate::who::{Who, text};
use crate::words::{action_words, scope_path};

/// Places in which two values differ; with more of them, all is told again.
const EDITS_MAX: usize = 512;
/// Shortest time between two looks at one value, so that a busy store is not looked through for every change.
const PAUSE: Duration = Duration::from_millis(30);
/// Looking takes one part in so many of the time at most.
const SHARE: u32 = 10;

/// Bytes of what is worked out that are kept for those who watch it, as JSON; with more, nobody but the owner begins to watch.
const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Changes of one value that are remembered for those who have not been told yet, and of each but the latest so many bytes.
const STEPS_MAX: usize = 16;
const STEP_BYTES_MAX: usize = 64 * 1024;

/// A value that is worked out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// What is stated about rights in a space, at a path that begins with `.auth`.
    Auth(Space, Path),
    /// Notices that were left here: all, or below the names of a sender and a slot.
    Drop(Vec<String>),
    /// A part of the system, by the names behind `.sys`.
    Sys(Vec<String>, Query),
}

impl Source {
    /// The value that is worked out at a path of a space, if one is.
    pub(crate) fn at(space: Space, path: &Path) -> Option<Self> {
        is_statements(path).then(|| Self::Auth(space, path.clone()))
    }

    /// The value that is worked out at a path outside of all spaces.
    pub(crate) fn beside(segments: &[String], query: &Query) -> Option<Self> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            ".sys" => Some(Self::Sys(rest.to_vec(), query.clone())),
            ".drop" => Some(Self::Drop(rest.to_vec())),
            _ => None,
        }
    }

    fn path(&self) -> String {
        let names = |names: &[String]| names.iter().map(|name| format!("/{name}")).collect::<String>();
        match self {
            Self::Auth(_, path) => path.to_string(),
            Self::Drop(rest) => format!("/.drop{}", names(rest)),
            Self::Sys(rest, _) => format!("/.sys{}", names(rest)),
        }
    }

    /// What of it is worked out as a whole, and the names of the part in that.
    fn parts(&self) -> (Self, Vec<String>) {
        match self {
            Self::Auth(space, path) => {
                let whole = Path::new(path.segments()[..1].to_vec()).unwrap_or_else(|_| path.clone());
                (Self::Auth(*space, whole), path.segments()[1..].iter().map(ToString::to_string).collect())
            }
            other => (other.clone(), Vec::new()),
        }
    }

    /// Whether somebody may see it, as far as that can be told before it is worked out.
    fn allows(&self, peer: &Peer, who: &Who) -> Result<(), Problem> {
        match self {
            Self::Auth(space, path) => who.may(peer, Verb::Read, &space.key, path),
            Self::Sys(rest, _) => who.may_sys(peer, Verb::Read, rest),
            Self::Drop(_) => Ok(()),
        }
    }

    /// What is there for somebody now; `None` where nothing is.
    ///
    /// # Errors
    ///
    /// He may not see it, or it cannot be worked out.
    pub(crate) async fn read(&self, peer: &Peer, who: &Who) -> Result<Option<Serde>, Problem> {
        self.allows(peer, who)?;
        self.work_out(peer, who).await
    }

    /// The same without asking whether he may see what all see alike who may.
    async fn work_out(&self, peer: &Peer, who: &Who) -> Result<Option<Serde>, Problem> {
        match self {
            Self::Auth(space, path) => {
                let mut value = peer.store().rights(&space.key).map_or(Serde::Null, |rights| statements(&rights));
                for segment in path.segments().iter().skip(1) {
                    let Segment::Name(name) = segment else { return Ok(None) };
                    let Some(below) = value.get_mut(&**name) else { return Ok(None) };
                    value = below.take();
                }
                Ok(Some(value))
            }
            Self::Drop(rest) => crate::drop::left(peer, who, rest).await,
            Self::Sys(rest, query) => {
                let (head, ()) = http::Request::new(()).into_parts();
                let response = match crate::sys::act(peer, who, &head, rest, query, &Bytes::new()).await {
                    Err(problem) if problem.status == StatusCode::NOT_FOUND && problem.kind == "absent" => return Ok(None),
                    response => response?,
                };
                if response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
                    let detail = format!("{} is not JSON", self.path());
                    return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "stream", "this cannot be watched", detail).with_fix("read it with a GET"));
                }
                let bytes = response.into_body().collect().await.map_err(|error| crate::sys::network::bad(error.to_string()))?.to_bytes();
                serde_json::from_slice(&bytes).map(Some).map_err(|error| crate::sys::network::bad(error.to_string()))
            }
        }
    }
}

/// What is stated about rights in a space.
pub(crate) fn statements(rights: &Rights) -> Serde {
    let mut grants = Map::new();
    for (id, held) in rights.grants() {
        let grant = &held.grant;
        let timelines = match &grant.timelines {
            Timelines::Main => json!("main"),
            Timelines::All => json!("all"),
            Timelines::Only(ids) => ids.iter().map(ToString::to_string).collect(),
        };
        let value = json!({
            "for": match &grant.audience { Audience::Anyone => "anyone".to_owned(), Audience::Key(key) => key.to_string() },
            "can": action_words(grant.actions),
            "path": scope_path(&grant.scope),
            "deep": grant.scope.deep,
            "timelines": timelines,
            "bytes_max": grant.bytes_max,
            "change_bytes_max": grant.change_bytes_max,
            "not_after_ms": grant.not_after_ms,
            "depth": grant.depth,
            "label": &*grant.label,
            "by": held.author.to_string(),
            "parent": held.parent.map(|parent| parent.to_string()),
            "time_ms": held.time_ms,
            "live": held.is_live(),
        });
        grants.insert(id.to_string(), value);
    }
    let mut revocations = Map::new();
    for one in rights.revocations() {
        let value = json!({
            "grant": one.revoke.grant.to_string(),
            "cascade": one.revoke.cascade,
            "keep": one.revoke.keep.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "by": one.author.to_string(),
            "issuer": one.issuer.map(|issuer| issuer.to_string()),
            "time_ms": one.time_ms,
            "effective": one.is_effective(),
        });
        revocations.insert(one.op.to_string(), value);
    }
    let mut roots = Map::new();
    for state in rights.root_states() {
        let value = json!({
            "key": state.root.to_string(),
            "first": state.from.is_none(),
            "guardians": state.plan.guardians.as_ref().map(|(needed, keys)| {
                json!({"needed": needed, "keys": keys.iter().map(ToString::to_string).collect::<Vec<_>>()})
            }),
            "prepared": state.plan.next.is_some(),
        });
        roots.insert(timebus_identity::z32::encode(&state.id), value);
    }
    let disputed: Vec<String> = rights.disputed().map(|state| state.root.to_string()).collect();
    json!({"root": rights.root().to_string(), "disputed": disputed, "roots": roots, "grants": grants, "revocations": revocations})
}

fn tag(value: &Option<Serde>) -> String {
    tag_of(&value.as_ref().map(ToString::to_string).unwrap_or_default())
}

/// The tag of a value, by its JSON.
fn tag_of(json: &str) -> String {
    timebus_store::writer::version_tag(&[json])
}

/// Whether a request is for a stream.
pub(crate) fn is_stream(head: &http::request::Parts) -> bool {
    let headers = &head.headers;
    head.method == Method::GET
        && (headers.contains_key("subscribe") || text(headers, header::ACCEPT).is_some_and(|accept| accept.starts_with("text/event-stream")))
}

/// Answers a GET or HEAD.
pub(crate) async fn get(peer: &Peer, who: &Who, source: &Source) -> Result<Response<Body>, Problem> {
    let value = source.read(peer, who).await?;
    let version = [tag(&value)];
    let absent = || Problem::new(StatusCode::NOT_FOUND, "absent", "there is nothing here", format!("nothing is at {}", source.path()));
    let value = value.ok_or_else(absent)?;
    let mut response = Response::new(Body::ready(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("accept-subscribe", HeaderValue::from_static("true"));
    insert(headers, "version", &print_versions(&version));
    Ok(response)
}

/// Answers a GET with a stream.
pub(crate) async fn subscribe(peer: &Peer, who: &Who, head: &http::request::Parts, source: Source) -> Result<Response<Body>, Problem> {
    let form = stream_form(&head.headers);
    let counted = page_origin(head).map(|origin| peer.count_origin(Of::Subscriptions, &origin)).transpose()?;
    let watch = Computed::start(peer, who, source, form).await?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform, no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    match form {
        Form::Events => drop(headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))),
        Form::Lines | Form::Watch(_) => drop(headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))),
        Form::Braid => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/http-history"));
            headers.insert("subscribe", HeaderValue::from_static("true"));
            *response.status_mut() = multiresponse();
        }
    }
    *response.body_mut() = Body::stream(watch.stream().flat_map(futures_util::stream::iter)).holding(counted);
    Ok(response)
}

/// What is worked out for those who watch it: once for all who are told the same.
#[derive(Debug, Default)]
pub(crate) struct Works {
    all: Mutex<Vec<Weak<Work>>>,
    /// Bytes of what is kept, as JSON.
    bytes: Arc<AtomicUsize>,
}

/// One value that is worked out, whenever something changed that it is made of, as long as somebody watches it.
#[derive(Debug)]
struct Work {
    source: Source,
    who: Who,
    state: watch::Receiver<State>,
    /// Counts those who began to watch: what they are told first is no older than that.
    asked: watch::Sender<u64>,
    /// How many watch it who are no guests. As long as there is one, it has no guest's share of the time, whoever began it.
    hosts: Arc<AtomicUsize>,
    task: tokio::task::AbortHandle,
}

/// Somebody watches who is no guest.
#[derive(Debug)]
struct Hosted(Arc<AtomicUsize>);

impl Drop for Hosted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    /// How many of those who asked it is new enough for.
    answered: u64,
    now: Option<Result<Arc<Now>, Problem>>,
}

/// What a value is now.
#[derive(Debug)]
struct Now {
    /// Counts what it was.
    number: u64,
    value: Option<Serde>,
    /// What led here, the latest last.
    steps: VecDeque<Arc<Step>>,
    /// As JSON, with its tag: all of it, or what is at some names in it, as far as somebody asked.
    texts: Mutex<BTreeMap<Vec<String>, (Bytes, String)>>,
    bytes: Arc<AtomicUsize>,
}

/// What changed at once; `None` if that is too much to be told one by one.
#[derive(Debug)]
struct Step {
    edits: Option<Vec<Edit>>,
    bytes: usize,
}

/// JSON that is counted as long as somebody has it.
struct Counted {
    json: String,
    bytes: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        self.json.as_bytes()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.json.len(), Ordering::Relaxed);
    }
}

/// Whether two are told the same.
fn is_same(one: &Who, other: &Who) -> bool {
    match (one, other) {
        // The same app may have been allowed something else.
        (Who::App(one), Who::App(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.principal() == other.principal(),
    }
}

impl Works {
    /// Whether there is no room for what somebody else than the owner wants to have kept.
    fn is_full(&self, who: &Who) -> bool {
        !who.is_owner() && self.bytes.load(Ordering::Relaxed) >= KEPT_BYTES_MAX
    }

    /// How many are worked out for guests alone.
    fn of_guests(&self) -> u32 {
        lock(&self.all).iter().filter_map(Weak::upgrade).filter(|work| work.is_for_guests()).count() as u32
    }

    fn join(&self, peer: &Peer, who: &Who, source: &Source) -> Result<Arc<Work>, Problem> {
        let mut all = lock(&self.all);
        all.retain(|work| work.strong_count() > 0);
        let fits = |work: &Work| {
            // Whoever may see what is stated about rights sees the same.
            work.source == *source && (matches!(source, Source::Auth(..)) || is_same(&work.who, who)) && !work.has_failed()
        };
        if let Some(work) = all.iter().filter_map(Weak::upgrade).find(|work| fits(work)) {
            return Ok(work);
        }
        let work = Arc::new(Work::start(peer, who, source)?);
        all.push(Arc::downgrade(&work));
        Ok(work)
    }
}

impl Work {
    fn start(peer: &Peer, who: &Who, source: &Source) -> Result<Self, Problem> {
        let store = peer.store();
        let mut wakes = vec![store.restatements()];
        if !matches!(source, Source::Auth(..)) {
            wakes.extend([store.arrivals(), peer.inbox()?.changes()]);
            wakes.extend(peer.network().map(|network| network.changed()));
        }
        let (told, state) = watch::channel(State::default());
        let (asked, asks) = watch::channel(0);
        let hosts = Arc::new(AtomicUsize::new(0));
        let working = keep_working(peer.clone(), who.clone(), source.clone(), wakes, asks, told, Arc::clone(&hosts));
        let task = tokio::spawn(working).abort_handle();
        Ok(Self { source: source.clone(), who: who.clone(), state, asked, hosts, task })
    }

    /// Whether nobody gets anything new from it: it cannot be read, or working it out has ended with a panic.
    fn has_failed(&self) -> bool {
        self.state.has_changed().is_err() || matches!(self.state.borrow().now, Some(Err(_)))
    }

    fn is_for_guests(&self) -> bool {
        self.hosts.load(Ordering::Relaxed) == 0
    }

    /// Counts somebody who watches it from now on.
    fn hosted(&self, who: &Who) -> Option<Hosted> {
        (!who.is_guest()).then(|| {
            self.hosts.fetch_add(1, Ordering::Relaxed);
            Hosted(Arc::clone(&self.hosts))
        })
    }

    /// Waits until what is known is no older than this.
    async fn fresh(&self) -> Result<(), Problem> {
        let (mut state, mut number) = (self.state.clone(), 0);
        self.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        let is_done = |state: &State| state.answered >= number || matches!(state.now, Some(Err(_)));
        match state.wait_for(is_done).await.map(|state| state.now.clone()) {
            Ok(Some(Err(problem))) => Err(problem),
            Ok(_) => Ok(()),
            Err(_) => Err(broken()),
        }
    }
}

/// The answer to who waits for what is worked out no more, by a fault of this program.
fn broken() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "watch", "this cannot be watched any more", "working it out ended with a fault of this program")
        .with_fix("watch it again; what happened is in the log of the peer")
}

impl Drop for Work {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Works a value out, and again whenever something changed that it is made of, until it cannot be read any more.
async fn keep_working(
    peer: Peer,
    who: Who,
    source: Source,
    mut wakes: Vec<watch::Receiver<u64>>,
    mut asks: watch::Receiver<u64>,
    told: watch::Sender<State>,
    hosts: Arc<AtomicUsize>,
) {
    let mut last: Option<Arc<Now>> = None;
    loop {
        // What comes from here on is for the next time.
        let answered = *asks.borrow_and_update();
        for wake in &mut wakes {
            wake.borrow_and_update();
        }
        let begun = Instant::now();
        let value = match source.work_out(&peer, &who).await {
            Ok(value) => value,
            Err(problem) => {
                told.send_modify(|state| state.now = Some(Err(problem)));
                return;
            }
        };
        let now = Now::after(last.as_ref(), value, &peer.works.bytes);
        told.send_modify(|state| {
            state.answered = answered;
            state.now = Some(Ok(Arc::clone(&now)));
        });
        last = Some(now);
        let (took, ended) = (begun.elapsed(), Instant::now());
        let mut rests = true;
        loop {
            let changes = select_all(wakes.iter_mut().map(|wake| Box::pin(wake.changed())));
            tokio::select! {
                _ = changes => break,
                // Rights may also end by themselves.
                () = tokio::time::sleep(RECHECK) => break,
                asked = asks.changed() => {
                    if asked.is_err() {
                        return;
                    }
                }
            }
            if wakes.iter().any(|wake| wake.has_changed().unwrap_or(true)) {
                break;
            }
            // What is made of files that are ours alone wakes nobody.
            if matches!(source, Source::Sys(..)) && !who.is_guest() {
                rests = false;
                break;
            }
            let answered = *asks.borrow_and_update();
            told.send_modify(|state| state.answered = answered);
        }
        loop {
            // All that is worked out for guests alone has one share of the time, until somebody else waits for it, too.
            let until = ended + rest(took, rests, &hosts, peer.works.of_guests());
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                asked = asks.changed() => {
                    if asked.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// How long something rests that took so long to work out, if so many things are worked out for guests alone.
fn rest(took: Duration, rests: bool, hosts: &AtomicUsize, of_guests: u32) -> Duration {
    let together = if hosts.load(Ordering::Relaxed) == 0 { of_guests.max(1) } else { 1 };
    if rests { PAUSE.max(took * SHARE * together) } else { PAUSE }
}

impl Now {
    /// The value after another one: that one, if it is the same.
    fn after(last: Option<&Arc<Self>>, value: Option<Serde>, bytes: &Arc<AtomicUsize>) -> Arc<Self> {
        let new = |number, value, steps| Arc::new(Self { number, value, steps, texts: Mutex::default(), bytes: Arc::clone(bytes) });
        let Some(last) = last else { return new(0, value, VecDeque::new()) };
        let mut edits = Vec::new();
        differ(&mut Vec::new(), last.value.as_ref(), value.as_ref(), &mut edits);
        if edits.is_empty() {
            return Arc::clone(last);
        }
        // Of what is long only the latest is kept, which is as long as what it made at most.
        let mut steps = last.steps.clone();
        if steps.back().is_some_and(|step| step.bytes > STEP_BYTES_MAX) {
            steps.clear();
        }
        if steps.len() == STEPS_MAX {
            steps.pop_front();
        }
        let size = edits.iter().map(|(names, value)| names.len() * 64 + value.as_ref().map_or(0, |value| value.to_string().len())).sum();
        steps.push_back(Arc::new(Step { edits: Some(edits).filter(|edits| edits.len() <= EDITS_MAX), bytes: size }));
        new(last.number + 1, value, steps)
    }

    /// What is at these names in it.
    fn at(&self, names: &[String]) -> Option<&Serde> {
        below(self.value.as_ref(), names)
    }

    /// That as JSON, and the tag of it.
    fn text(&self, names: &[String]) -> (Bytes, String) {
        let mut texts = lock(&self.texts);
        if let Some(known) = texts.get(names) {
            return known.clone();
        }
        let json = self.at(names).map(ToString::to_string);
        let tag = tag_of(json.as_deref().unwrap_or_default());
        let json = json.unwrap_or_else(|| "null".to_owned());
        self.bytes.fetch_add(json.len(), Ordering::Relaxed);
        let text = (Bytes::from_owner(Counted { json, bytes: Arc::clone(&self.bytes) }), tag);
        // Nobody makes room for what is not there.
        if self.at(names).is_some() {
            texts.insert(names.to_vec(), text.clone());
        }
        text
    }

    /// What changed at these names since it was what had a number; `None` if that is not known any more, or is too much.
    fn since(&self, number: u64, names: &[String]) -> Option<Vec<Edit>> {
        let missed = usize::try_from(self.number - number).ok().filter(|missed| *missed <= self.steps.len())?;
        let mut out = Vec::new();
        for step in self.steps.iter().skip(self.steps.len() - missed) {
            for (steps, value) in step.edits.as_ref()? {
                if let Some(rest) = steps.strip_prefix(names) {
                    out.push((rest.to_vec(), value.clone()));
                } else if let Some(rest) = names.strip_prefix(&steps[..]) {
                    out.push((Vec::new(), below(value.as_ref(), rest).cloned()));
                }
            }
        }
        Some(out).filter(|edits| edits.len() <= EDITS_MAX)
    }
}

fn below<'a>(value: Option<&'a Serde>, names: &[String]) -> Option<&'a Serde> {
    names.iter().try_fold(value?, |value, name| value.get(name.as_str()))
}

/// Somebody who watches such a value. He keeps nothing of it but the tag of what he was told.
pub(crate) struct Computed {
    peer: Peer,
    who: Who,
    source: Source,
    form: Form,
    /// Goes on as long as somebody has it.
    _work: Arc<Work>,
    _hosted: Option<Hosted>,
    state: watch::Receiver<State>,
    /// Tells when rights changed.
    restated: watch::Receiver<u64>,
    /// The names of what he watches, in what was worked out.
    names: Vec<String>,
    told: Told,
}

#[derive(Clone, PartialEq, Eq)]
enum Told {
    Nothing,
    /// What had this number, and this tag.
    Upto(u64, String),
    /// That there is nothing more to come.
    End,
}

impl Computed {
    /// Begins; the first thing of the stream is a snapshot.
    ///
    /// # Errors
    ///
    /// The value cannot be read, or there is no room for more of them.
    pub(crate) async fn start(peer: &Peer, who: &Who, source: Source, form: Form) -> Result<Self, Problem> {
        let restated = peer.store().restatements();
        source.allows(peer, who)?;
        if peer.works.is_full(who) {
            let detail = format!("{KEPT_BYTES_MAX} bytes of what is worked out are kept for those who watch it");
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "watch", "too much is watched", detail).with_fix("try again later, or GET it"));
        }
        let (whole, names) = source.parts();
        let work = peer.works.join(peer, who, &whole)?;
        let hosted = work.hosted(who);
        work.fresh().await?;
        let state = work.state.clone();
        Ok(Self { peer: peer.clone(), who: who.clone(), source, form, _work: work, _hosted: hosted, state, restated, names, told: Told::Nothing })
    }

    /// The snapshot, and then what is new whenever something is, in pieces that belong together.
    pub(crate) fn stream(self) -> impl Stream<Item = Vec<Bytes>> + Send {
        let stop = self.peer.stop.subscribe();
        futures_util::stream::unfold((self, stop), |(mut watch, mut stop)| async move {
            let news = tokio::select! {
                news = watch.news() => news?,
                _ = stop.wait_for(|stops| *stops) => return None,
            };
            Some((news, (watch, stop)))
        })
    }

    async fn news(&mut self) -> Option<Vec<Bytes>> {
        if self.told == Told::End {
            return None;
        }
        loop {
            let mut has_ended = false;
            if self.told != Told::Nothing {
                tokio::select! {
                    // It goes on as long as somebody watches it, as this one does, unless working it out ended with a panic.
                    changed = self.state.changed() => has_ended = changed.is_err(),
                    restated = self.restated.changed() => drop(restated),
                    // A right may also end by itself.
                    () = tokio::time::sleep(RECHECK) => {}
                }
            }
            while self.peer.works.is_full(&self.who) {
                tokio::time::sleep(PAUSE).await;
            }
            let now = self.source.allows(&self.peer, &self.who).and_then(|()| self.state.borrow_and_update().now.clone().transpose());
            let now = match now {
                Ok(_) if has_ended => Err(broken()),
                now => now,
            };
            let now = match now {
                Ok(Some(now)) => now,
                Ok(None) => continue,
                Err(problem) => {
                    self.told = Told::End;
                    let last = farewell(self.form, &problem);
                    return (!last.is_empty()).then(|| vec![last]);
                }
            };
            let news = match &self.told {
                Told::Upto(number, before) => {
                    let Some(news) = difference(self.form, &self.source.path(), &now, &self.names, *number, before) else {
                        self.told = Told::Upto(now.number, before.clone());
                        continue;
                    };
                    news
                }
                _ => self.first(&now),
            };
            self.told = Told::Upto(now.number, now.text(&self.names).1);
            return Some(news);
        }
    }

    fn first(&self, now: &Now) -> Vec<Bytes> {
        let mut out = snapshot(self.form, now, &self.names);
        if self.form != Form::Braid {
            let (version, mut bytes) = ([now.text(&self.names).1], Vec::new());
            write_event(self.form, Some(&version[..]), &mut bytes, |out| {
                out.extend_from_slice(format!("\"caught_up\":true,\"version\":[\"{}\"]", version[0]).as_bytes());
            });
            out.push(bytes.into());
        }
        out
    }
}

/// What leads to a value from what it was when it had this number and tag; `None` if it is the same.
fn difference(form: Form, path: &str, now: &Now, names: &[String], number: u64, before: &str) -> Option<Vec<Bytes>> {
    let edits = now.since(number, names);
    if edits.as_ref().is_some_and(Vec::is_empty) || now.text(names).1 == before {
        return None;
    }
    match edits.filter(|_| form != Form::Braid) {
        Some(edits) => {
            let mut bytes = Vec::new();
            write_edits(form, path, edits, before, &now.text(names).1, &mut bytes);
            Some(vec![bytes.into()])
        }
        None => Some(snapshot(form, now, names)),
    }
}

/// Writes what leads from one value at a path to another, by their tags.
fn write_edits(form: Form, path: &str, edits: Vec<Edit>, before: &str, now: &str, out: &mut Vec<u8>) {
    let version = [now];
    let last = edits.len().saturating_sub(1);
    for (number, (steps, value)) in edits.into_iter().enumerate() {
        // Who goes on from here goes on behind the last of them.
        write_event(form, (number == last).then_some(&version[..]), out, |out| {
            out.extend_from_slice(if value.is_some() { b"\"put\":" } else { b"\"delete\":" });
            let below: String = steps.iter().map(|name| format!("/{name}")).collect();
            write_string(&format!("{path}{below}"), out);
            if steps.iter().any(|name| name.is_empty() || name.contains('/')) {
                out.extend_from_slice(format!(",\"at\":{}", json!(steps)).as_bytes());
            }
            if let Some(value) = value {
                out.extend_from_slice(b",\"value\":");
                out.extend_from_slice(value.to_string().as_bytes());
            }
            out.extend_from_slice(format!(",\"version\":[\"{now}\"],\"parents\":[\"{before}\"]").as_bytes());
            if number < last {
                out.extend_from_slice(MORE);
            }
        });
    }
}

/// All that is there now; what is long is in a piece that all share who are sent it.
fn snapshot(form: Form, now: &Now, names: &[String]) -> Vec<Bytes> {
    let (text, tag) = now.text(names);
    let is_there = now.at(names).is_some();
    if form == Form::Braid && is_there {
        let (before, behind) = around_snapshot(&[tag], &Mime::JSON, text.len());
        return vec![before.into(), text, Bytes::from_static(behind)];
    }
    if form == Form::Braid {
        let mut out = Vec::new();
        write_deleted(&mut out, &[tag], &[], b"null");
        return vec![out.into()];
    }
    let absent = if is_there { "" } else { ",\"absent\":true" };
    let behind = format!("{absent},\"version\":[\"{tag}\"]");
    let (before, behind) = around_event(form, &tag, "\"snapshot\":", text.len(), &behind);
    vec![before.into(), text, behind.into()]
}

/// Puts and deletes that lead from one value to another: the names on the way to a place, and what is there then.
type Edit = (Vec<String>, Option<Serde>);

fn differ(steps: &mut Vec<String>, before: Option<&Serde>, after: Option<&Serde>, out: &mut Vec<Edit>) {
    match (before, after) {
        (Some(Serde::Object(before)), Some(Serde::Object(after))) => {
            let added = after.keys().filter(|name| !before.contains_key(*name));
            for name in before.keys().chain(added) {
                steps.push(name.clone());
                differ(steps, before.get(name), after.get(name), out);
                steps.pop();
            }
        }
        (before, after) if before == after => {}
        (_, after) => out.push((steps.clone(), after.cloned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_lead_from_one_value_to_the_other() {
        let mut edits = Vec::new();
        let (before, after) = (json!({"a": 1, "b": {"c": 2, "d": 3}, "e": []}), json!({"a": 1, "b": {"c": 4, "f": null}, "e": [1]}));
        differ(&mut Vec::new(), Some(&before), Some(&after), &mut edits);
        edits.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [(vec!["b", "c"], Some(json!(4))), (vec!["b", "d"], None), (vec!["b", "f"], Some(Serde::Null)), (vec!["e"], Some(json!([1])))];
        assert_eq!(edits, expected.map(|(steps, value)| (steps.into_iter().map(str::to_owned).collect(), value)));
    }
    fn chain(values: impl IntoIterator<Item = Option<Serde>>) -> Arc<Now> {
        let bytes = Arc::default();
        values.into_iter().fold(None, |last: Option<Arc<Now>>, value| Some(Now::after(last.as_ref(), value, &bytes))).expect("one")
    }

    fn text(pieces: Option<Vec<Bytes>>) -> String {
        String::from_utf8(pieces.unwrap_or_default().concat()).expect("text")
    }

    fn told(form: Form, before: Option<Serde>, now: Option<Serde>) -> String {
        let tag = tag(&before);
        text(difference(form, "/.drop", &chain([before, now]), &[], 0, &tag))
    }

    #[test]
    fn only_the_last_of_several_edits_completes_the_version() {
        let (before, now) = (Some(json!({"a": 1, "b/c": 2, "d": 3})), Some(json!({"a": 2, "b/c": 3})));
        let lines = told(Form::Lines, before.clone(), now.clone());
        let events: Vec<Serde> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let (version, parents) = (json!([tag(&now)]), json!([tag(&before)]));
        assert_eq!(
            events,
            [
                json!({"put": "/.drop/a", "value": 2, "version": version, "parents": parents, "more": true}),
                json!({"put": "/.drop/b/c", "at": ["b/c"], "value": 3, "version": version, "parents": parents, "more": true}),
                json!({"delete": "/.drop/d", "version": version, "parents": parents}),
            ]
        );
        // Who is cut off in between has to hear all of it again.
        let events = told(Form::Events, before, now.clone());
        assert_eq!(events.matches("id: ").count(), 1, "{events}");
        assert!(events.rsplit("\n\n").nth(1).is_some_and(|last| last.starts_with(&format!("id: {}\n", tag(&now)))), "{events}");
    }

    #[test]
    fn what_differs_much_or_has_gone_is_told_as_a_whole() {
        let many = |number: usize| Some((0..number).map(|name| (name.to_string(), json!(name))).collect::<Serde>());
        assert_eq!(told(Form::Lines, Some(json!({})), many(EDITS_MAX)).lines().count(), EDITS_MAX);
        let whole = told(Form::Lines, Some(json!({})), many(EDITS_MAX + 1));
        assert!(whole.starts_with("{\"snapshot\":{") && whole.lines().count() == 1, "{whole}");
        let gone: Serde = serde_json::from_str(&text(Some(snapshot(Form::Lines, &chain([None]), &[])))).expect("JSON");
        assert_eq!(gone, json!({"snapshot": null, "absent": true, "version": [tag(&None)]}));
    }
    #[test]
    fn a_part_is_told_what_changed_in_it_since_it_was_told() {
        let values = [json!({"a": {"x": 1}, "b": 1}), json!({"a": {"x": 2}, "b": 1}), json!({"a": {"x": 2}, "b": 2}), json!({"b": 2})];
        let tag_of = |at: usize| tag(&values[at].get("a").cloned());
        let now = chain(values.iter().cloned().map(Some));
        let names = ["a".to_owned()];
        let since = |number: u64, before: &str| text(difference(Form::Lines, "/.auth/a", &now, &names, number, before));
        let events: Vec<Serde> = since(0, &tag_of(0)).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let (version, parents) = (json!([tag(&None)]), json!([tag_of(0)]));
        assert_eq!(
            events,
            [
                json!({"put": "/.auth/a/x", "value": 2, "version": version, "parents": parents, "more": true}),
                json!({"delete": "/.auth/a", "version": version, "parents": parents}),
            ]
        );
        assert_eq!(since(2, &tag_of(2)).lines().count(), 1);
        assert_eq!(since(3, &tag(&None)), "");
        // What goes with all around it.
        let told = text(difference(Form::Lines, "/.auth/a/x", &now, &["a", "x"].map(str::to_owned), 2, "x"));
        assert!(told.starts_with("{\"delete\":\"/.auth/a/x\""), "{told}");
        // Nothing of it changed in between.
        assert_eq!(text(difference(Form::Lines, "/", &chain(values[1..3].iter().cloned().map(Some)), &names, 0, "x")), "");
        // Who was told too long ago, or of too much, is told all.
        let counted = chain((0..=STEPS_MAX as u64 + 1).map(|n| Some(json!({ "n": n }))));
        let news = |number: u64| text(difference(Form::Lines, "/", &counted, &[], number, "x"));
        assert!(news(0).starts_with("{\"snapshot\":") && news(1).starts_with("{\"put\":"), "{} {}", news(0), news(1));
        let large = chain([json!(0), json!("x".repeat(STEP_BYTES_MAX)), json!(1)].map(Some));
        assert!(text(difference(Form::Lines, "/", &large, &[], 0, "x")).starts_with("{\"snapshot\":1"));
        assert!(text(difference(Form::Lines, "/", &large, &[], 1, "x")).starts_with("{\"put\":"));
    }

    #[test]
    fn what_is_long_stands_in_an_event_as_if_it_was_written_there() {
        let value = Some(json!({"a": "x".repeat(70_000)}));
        let version = [tag(&value)];
        for form in [Form::Lines, Form::Events, Form::Watch(7)] {
            let mut expected = Vec::new();
            write_event(form, Some(&version[..]), &mut expected, |out| {
                out.extend_from_slice(format!("\"snapshot\":{},\"version\":[\"{}\"]", json!(value), version[0]).as_bytes());
            });
            assert!(snapshot(form, &chain([value.clone()]), &[]).concat() == expected, "{form:?}");
        }
        let (mut expected, content) = (Vec::new(), json!(value).to_string());
        let body = crate::patches::UpdateBody::Snapshot { content_type: &Mime::JSON, content: content.as_bytes() };
        let update = crate::patches::Update { version: &version, parents: &[], repr_sha256: None, body };
        crate::patches::write_update(&mut expected, &update);
        assert!(snapshot(Form::Braid, &chain([value.clone()]), &[]).concat() == expected);
    }

    fn peer(home: &std::path::Path) -> Peer {
        let config = timebus_store::store::Config::default();
        let store = timebus_store::store::Store::open(home, timebus_store::store::lock_home(home).expect("a free home"), &config, 1, &mut |_| {});
        Peer::new(store.expect("a new store"), timebus_identity::Token::generate(), crate::peer::PeerConfig::default())
    }

    /// Many sockets watch the same, and each kept all of it and worked it out for itself.
    #[tokio::test(flavor = "multi_thread")]
    async fn it_is_kept_once_for_all_who_are_told_the_same() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(home.path());
        let own = peer.store().own();
        let auth = |path: &str| Source::Auth(own, Path::parse(path).expect("a path"));
        let mut watches = Vec::new();
        for path in ["/.auth", "/.auth", "/.auth/grants"] {
            watches.push(Computed::start(&peer, &Who::Owner, auth(path), Form::Lines).await.expect("may"));
        }
        let sys = Source::Sys(vec!["costs".to_owned()], Query::default());
        watches.push(Computed::start(&peer, &Who::Owner, sys, Form::Lines).await.expect("may"));
        assert_eq!(lock(&peer.works.all).iter().filter(|work| work.strong_count() > 0).count(), 2);
        let mut firsts = Vec::new();
        for watch in &mut watches {
            firsts.push(watch.news().await.expect("a snapshot"));
        }
        assert_eq!(firsts[0][1].as_ptr(), firsts[1][1].as_ptr(), "and one text for both");
        let kept: usize = [0, 2, 3].map(|at: usize| firsts[at][1].len()).into_iter().sum();
        assert_eq!(peer.works.bytes.load(Ordering::Relaxed), kept);
        // Who comes while it is full, and is not the owner, watches nothing new.
        peer.works.bytes.fetch_add(KEPT_BYTES_MAX, Ordering::Relaxed);
        let key = *timebus_identity::SecretKey::from_seed([7; 32]).public().as_bytes();
        let guest = Who::Signed { signer: crate::signature::Signer::of(key), is_owner: false };
        assert!(peer.works.is_full(&guest) && !peer.works.is_full(&Who::Owner));
        peer.works.bytes.fetch_sub(KEPT_BYTES_MAX, Ordering::Relaxed);
        drop((watches, firsts));
        let is_empty = || peer.works.bytes.load(Ordering::Relaxed) == 0;
        while !is_empty() {
            tokio::task::yield_now().await;
        }
        peer.stop();
    }

    /// Its watchers would look again and again at what does not come.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_ends_with_a_panic_ends_for_its_watchers() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(home.path());
        let auth = || Source::Auth(peer.store().own(), Path::parse("/.auth").expect("a path"));
        let mut watch = Computed::start(&peer, &Who::Owner, auth(), Form::Lines).await.expect("may");
        watch.news().await.expect("a snapshot");
        watch._work.task.abort();
        let last = watch.news().await.expect("a farewell").concat();
        let last = String::from_utf8_lossy(&last);
        assert!(last.starts_with("{\"closed\":\"failed\""), "{last}");
        assert!(watch.news().await.is_none());
        // Who comes then has another one, though this one is still there.
        let mut other = Computed::start(&peer, &Who::Owner, auth(), Form::Braid).await.expect("may");
        assert!(!Arc::ptr_eq(&watch._work, &other._work));
        let mut third = Computed::start(&peer, &Who::Owner, auth(), Form::Braid).await.expect("may");
        let (one, two) = (other.news().await.expect("a snapshot"), third.news().await.expect("a snapshot"));
        assert_eq!((one[1].as_ptr(), one.concat()), (two[1].as_ptr(), two.concat()), "one content for all");
        peer.stop();
    }

    /// What a guest began to watch has his share of the time. The owner waits no longer for it for that.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_owner_gets_his_share_of_the_time_also_of_what_a_guest_began() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(home.path());
        let secret = timebus_identity::SecretKey::from_seed([7; 32]);
        crate::whose::tests::grant_key(peer.store(), secret.public(), timebus_store::grant::Actions::ALL).await;
        let guest = Who::Signed { signer: crate::signature::Signer::of(*secret.public().as_bytes()), is_owner: false };
        let auth = || Source::Auth(peer.store().own(), Path::parse("/.auth").expect("a path"));
        let first = Computed::start(&peer, &guest, auth(), Form::Lines).await.expect("may");
        assert!(first._work.is_for_guests() && peer.works.of_guests() == 1);
        let owner = Computed::start(&peer, &Who::Owner, auth(), Form::Lines).await.expect("may");
        assert!(Arc::ptr_eq(&first._work, &owner._work));
        assert!(!first._work.is_for_guests() && peer.works.of_guests() == 0);
        drop(owner);
        assert!(first._work.is_for_guests());
        peer.stop();
    }

    #[test]
    fn nobody_else_waits_for_the_rest_that_guests_have_to_take() {
        let hosts = Arc::new(AtomicUsize::new(0));
        assert!(rest(Duration::from_secs(60), true, &hosts, 100) >= Duration::from_secs(60_000));
        hosts.fetch_add(1, Ordering::Relaxed);
        assert_eq!(rest(Duration::from_secs(1), true, &hosts, 100), Duration::from_secs(10));
        assert_eq!(rest(Duration::from_secs(1), false, &hosts, 100), PAUSE);
    }
}
