//! The writing half of the store: one thread decides, one thread makes durable.
//!
//! The decider takes requests one by one, works out their ops against everything decided before, and stages
//! rows. Meanwhile the syncer signs, appends and syncs the group before, commits its rows and tells everybody.
//! So a sync, which takes milliseconds on real disks, is shared by all requests that came in during the one before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};

use timebus_identity::{SecretKey, Signed, Verified};
use tokio::sync::oneshot;

use crate::blobs::BlobHash;
use crate::change::{self, Change, PARENTS_MAX, Part};
use crate::grant::{Audience, Grant, Revoke};
use crate::ids::{ChangeId, GrantId, OpId};
use crate::json::Json;
use crate::keyspace::{Rows, Staged, Table};
use crate::list::Order;
use crate::log::{Appender, Place, frame};
use crate::node::{Entry as HistoryEntry, Node, Writes, node_key, split_history_key};
use crate::objects::{Lent, ObjectId, creator, event_name};
use crate::op::Op;
use crate::path::{Path, Segment};
use crate::pipeline::{AUTH, Pipeline, Refusal, Space, is_auth, labelled};
use crate::plan::{Plan, PlanError, Target};
use crate::store::{Inner, Stated, StorageError};
use crate::summary::{find, summary};
use crate::tree::Tree;
use crate::update::{Update, patches};
use crate::value::{Mime, Value};
use crate::view::View;

mod texts;

pub use texts::{Named, TextEdits, TextError, resolve_at, session_of, text_version};

/// What a request does at its path.
#[derive(Clone, Debug)]
pub enum Action {
    /// Replaces what the caller saw by JSON.
    Put(Json),
    /// Replaces what the caller saw by a value that JSON has no form for.
    PutValue(Value),
    /// Replaces what the caller saw by a text that merges. If it is one of this kind, it is edited.
    PutText {
        /// What the text is.
        mime: Mime,
        /// Its characters.
        text: String,
    },
    /// Edits the text that the caller saw; where nothing is, a new one.
    EditText(TextEdits),
    /// Adds to a counter; where nothing is, to a new one that begins at 0.
    Inc(i64),
    /// Removes what the caller saw.
    Delete,
    /// Merges a patch (RFC 7396).
    Merge(Json),
    /// Applies operations (RFC 6902).
    JsonPatch(Json),
    /// Replaces parts, in order; no content removes.
    Splice(Vec<(Vec<crate::json::Step>, Option<Json>)>),
    /// Appends to a list, or adds a child of this name to anything else.
    Post {
        /// Name of the child, unless the path holds a list.
        name: String,
        /// The value.
        value: Json,
    },
    /// Takes back what one change did at and below the path, as far as nobody has changed it since: what it wrote
    /// goes, and what it replaced comes back where nothing else is.
    Undo {
        /// Which change; the latest one there if not said.
        version: Option<String>,
    },
}

/// Under which condition a request is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    #[default]
    None,
    /// If something is there.
    Present,
    /// If nothing is there.
    Absent,
    /// If the path's version is this one, or has one of these tags (see [`version_tag`]).
    Match {
        /// A version, by names.
        version: Option<Vec<String>>,
        /// Tags of versions.
        tags: Vec<String>,
    },
}

/// A short name for a version of a path, for entity tags.
#[must_use]
pub fn version_tag(version: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for name in version {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    timebus_identity::z32::encode(&hasher.finalize().as_bytes()[..15])
}

/// A request to write.
#[derive(Clone, Debug)]
pub struct Request {
    /// In which space and which of its timelines, as [`Store::at`] says; if not said, where the path is in the own one.
    ///
    /// [`Store::at`]: crate::store::Store::at
    pub space: Option<Space>,
    /// Where.
    pub path: Path,
    /// What.
    pub action: Action,
    /// What the caller had seen; absent means everything.
    pub parents: Option<Vec<String>>,
    /// The name that the caller gives the new version.
    pub label: Option<String>,
    /// Under which condition.
    pub condition: Condition,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Whether to answer only when it is on disk.
    pub durable: bool,
    /// The blobs that it may name where they were not named before; if not said, any. For those on whose behalf this
    /// device writes and who must not get at content by its hash alone.
    pub may_name: Option<Vec<BlobHash>>,
}

/// What is said about the rights in a space.
#[derive(Clone, Debug)]
pub enum Statement {
    /// All of these.
    Ops(Vec<Op>),
    /// These grants are taken back. What their holders wrote and nobody here has seen will have no effect.
    Revoke {
        /// Which.
        grants: Vec<GrantId>,
        /// Whether everything handed on from them goes too, seen or not.
        cascade: bool,
        /// Whether what is here and has an effect keeps it, also where nobody else has gone on with it.
        keep: bool,
    },
    /// This change, which the right of its author hides, has its effect all the same, with what it was made on top of
    /// in the name of the same grant.
    Keep(ChangeId),
    /// This grant, unless its audience has one with this label already, and only while fewer keys than this have one.
    /// So an invite is used up exactly as often as it says, whoever races and whatever crashes.
    Redeem {
        /// The grant.
        grant: Grant,
        /// How many keys may have one with its label.
        uses_max: u64,
    },
}

/// What a request did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The path's version now.
    pub version: Vec<String>,
    /// The change that was made; `None` when nothing had to change.
    pub change: Option<ChangeId>,
    /// Where the value went, when the store chose the name.
    pub created: Option<Path>,
    /// Whether something was there before.
    pub existed: bool,
    /// Whether it is on disk.
    pub durable: bool,
}

/// Why a request was not carried out. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The caller builds on versions that are not here.
    #[error("version {} is not known here", .0.join(", "))]
    UnknownVersion(Vec<String>),
    /// The caller builds on more versions than one change can.
    #[error("one change builds on {PARENTS_MAX} versions at most, these are {0}")]
    TooManyParents(usize),
    /// The condition does not hold.
    #[error("the version of {path} is another one")]
    Condition {
        /// Where.
        path: Path,
        /// The version it has.
        version: Vec<String>,
    },
    /// The name is taken by a version with other content.
    #[error("version {0} exists with other content")]
    LabelTaken(String),
    /// There is nothing to remove or to patch.
    #[error("there is nothing at {0}")]
    Absent(Path),
    /// Only objects and lists can be added to.
    #[error("{0} holds a value that nothing can be added to")]
    NotACollection(Path),
    /// The path is the system's.
    #[error("{0} belongs to the system")]
    Reserved(Path),
    /// The edits of a text, or the addition to a counter, cannot be made.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The value cannot be written.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The patch does not fit the value.
    #[error("the patch does not fit what is there: {0}")]
    Patch(String),
    /// This home has no key that may write.
    #[error("this device may not write to the space")]
    NoKey,
    /// No grant of another's space lets this device write there.
    #[error("no grant of the space {space} lets this device write at {path}")]
    NoGrant {
        /// Whose space.
        space: timebus_identity::PublicKey,
        /// Where.
        path: Path,
    },
    /// No grant of this device lets it say this about rights.
    #[error("no grant lets this device say this about the rights in the space {space}")]
    NoAuthority {
        /// Whose space.
        space: timebus_identity::PublicKey,
    },
    /// The change is not hidden by a right that was taken back.
    #[error("change {0} is not here, or no right that was taken back hides it")]
    CannotKeep(ChangeId),
    /// It would change what another timeline shows.
    #[error("this would also change {mount}, which is kept apart from {path}")]
    Spans {
        /// Where.
        path: Path,
        /// What is mounted below.
        mount: Path,
    },
    /// It names blobs that it may not: see [`Request::may_name`].
    #[error("it refers to content by hash: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Names(Vec<BlobHash>),
    /// As many keys as may have a grant of this label have one.
    #[error("the invite is used up")]
    UsedUp,
    /// The disk refused; nothing more is written until the store is opened again, or has space again.
    #[error("the store takes no writes: {0}")]
    ReadOnly(Arc<str>),
    /// The store is being closed.
    #[error("the store is closing")]
    Closing,
    /// The tables could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What became of offered changes.
#[derive(Debug, Default)]
pub struct Offered {
    /// Those that were new and are on disk.
    pub admitted: Vec<ChangeId>,
    /// Those that were here already.
    pub known: Vec<ChangeId>,
    /// Those that were not admitted.
    pub refused: Vec<Refusal>,
}

/// Work for the deciding thread.
pub(crate) enum Job {
    Write(Box<Request>, oneshot::Sender<Result<Written, WriteError>>),
    Offer(Vec<Verified<Change>>, oneshot::Sender<Result<Offered, WriteError>>),
    State(Box<(Option<Space>, Option<GrantId>, Statement)>, u64, oneshot::Sender<Result<Vec<GrantId>, WriteError>>),
    /// A root key says this, and takes these grants back.
    Root(Box<(SecretKey, Vec<Op>, Vec<GrantId>)>, u64, oneshot::Sender<Result<Vec<GrantId>, WriteError>>),
    /// Answers with the place behind the last durable record while nothing is being written.
    Fence(oneshot::Sender<Place>),
    Synced(Result<(), Failure>),
    /// A text that had too much to merge was merged beside.
    Resumed(Box<Lent>),
    Stop,
}

/// Why a group did not become durable.
pub(crate) struct Failure {
    message: Arc<str>,
    /// Whether the log was brought back to where it was, so that later writes may be tried.
    recovered: bool,
}

enum Reply {
    Written(oneshot::Sender<Result<Written, WriteError>>, Written),
    Offered(oneshot::Sender<Result<Offered, WriteError>>, Offered),
    Stated(oneshot::Sender<Result<Vec<GrantId>, WriteError>>, Vec<GrantId>),
}

/// A change on its way to the log.
enum Entry {
    Own(Change),
    Other(Verified<Change>),
}

/// What becomes durable at once.
#[derive(Default)]
pub(crate) struct Group {
    entries: Vec<(Place, u64, Entry)>,
    updates: Vec<Arc<Update>>,
    replies: Vec<Reply>,
    staged: Arc<Staged>,
    /// Spaces that statements were made in, with what holds after them.
    stated: BTreeMap<Space, Option<Stated>>,
    /// Where the log stands without this group.
    start: Place,
}

/// Most changes that become durable at once; bounds how long a sync takes.
const GROUP_CHANGES_MAX: usize = 4096;
/// Most staged rows, in bytes, before the decider waits for the syncer.
const GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The deciding thread.
pub(crate) struct Decider {
    pub(crate) inner: Arc<Inner>,
    pub(crate) pipeline: Pipeline,
    /// Whether this home may not write, because it is a copy of another and its root key is not here.
    pub(crate) is_barred: bool,
    /// The grant in whose name this device writes to the own space, once it was looked for.
    pub(crate) own_cap: Option<GrantId>,
    pub(crate) to_syncer: SyncSender<Group>,
    pub(crate) group: Group,
    pub(crate) syncing: bool,
    pub(crate) read_only: Option<Arc<str>>,
    /// Jobs that wait for the syncer because the group at hand is full. As few as there are requests that wait.
    pub(crate) aside: VecDeque<Job>,
    pub(crate) fences: Vec<oneshot::Sender<Place>>,
    pub(crate) stopping: bool,
    /// Who merges texts that have too much to merge; without anybody, whoever drives this does.
    pub(crate) resumer: Option<Sender<Box<Lent>>>,
}

impl Decider {
    /// Goes on from what is in the tables.
    pub(crate) fn new(inner: Arc<Inner>, mut pipeline: Pipeline, is_barred: bool, to_syncer: SyncSender<Group>) -> Self {
        let group = Group { start: pipeline.next_place(), ..Group::default() };
        for t in crate::pipeline::timelines(&pipeline.rows) {
            if let Err(error) = pipeline.bodies.texts.find_parked(&pipeline.rows, t) {
                tracing::warn!(%error, "parked texts stay so until somebody edits them");
            }
        }
        Self {
            inner,
            pipeline,
            is_barred,
            own_cap: None,
            to_syncer,
            group,
            syncing: false,
            read_only: None,
            aside: VecDeque::new(),
            fences: Vec::new(),
            stopping: false,
            resumer: None,
        }
    }

    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        while !self.is_stopped() {
            let job = if self.may_dispatch() {
                // The syncer is free: send what is here as soon as nobody else is waiting to join.
                match self.next_aside().map_or_else(|| jobs.try_recv(), Ok) {
                    Ok(job) => {
                        if self.is_full() {
                            self.dispatch();
                        }
                        job
                    }
                    Err(TryRecvError::Empty) => {
                        self.dispatch();
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => Job::Stop,
                }
            } else {
                match self.next_aside().map_or_else(|| jobs.recv(), Ok) {
                    Ok(job) => job,
                    Err(_) => Job::Stop,
                }
            };
            self.take_job(job);
        }
        // The next start has then no texts to put together.
        if self.read_only.is_none() {
            self.pipeline.bodies.texts.save(&mut self.pipeline.rows);
            let rest = self.pipeline.rows.seal();
            if let Err(error) = self.inner.tables.commit(&rest) {
                tracing::warn!(%error, "texts were not saved; the next reader puts them together");
            }
        }
    }

    /// A job that was put aside and can be done now.
    pub(crate) fn next_aside(&mut self) -> Option<Job> {
        if self.syncing && self.is_full() { None } else { self.aside.pop_front() }
    }

    /// Does one job, as far as it can be done before it is durable.
    pub(crate) fn take_job(&mut self, job: Job) {
        match job {
            job @ (Job::Write(..) | Job::Offer(..) | Job::State(..) | Job::Root(..)) if self.syncing && self.is_full() => self.aside.push_back(job),
            Job::Write(request, reply) => self.write(*request, reply),
            Job::Offer(changes, reply) => self.offer(changes, reply),
            Job::State(stated, time_ms, reply) => self.state(*stated, time_ms, reply),
            Job::Root(said, time_ms, reply) => {
                let (root, ops, revoked) = *said;
                match self.say_as_root(&root, ops, revoked, time_ms) {
                    Ok(()) => self.group.replies.push(Reply::Stated(reply, Vec::new())),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Job::Fence(reply) => self.fences.push(reply),
            Job::Synced(result) => self.synced(result),
            Job::Resumed(lent) => self.resumed(*lent),
            Job::Stop => self.stopping = true,
        }
        if let Some(resumer) = self.resumer.clone()
            && let Some(lent) = self.lend()
        {
            let _ = resumer.send(lent);
        }
        if self.is_settled() {
            let place = self.pipeline.next_place();
            self.fences.drain(..).for_each(|fence| {
                let _ = fence.send(place);
            });
        }
    }

    /// A text that has too much to merge, for whoever has time.
    pub(crate) fn lend(&mut self) -> Option<Box<Lent>> {
        if self.stopping {
            return None;
        }
        let lent = self.pipeline.bodies.texts.lend(&self.pipeline.rows);
        lent.unwrap_or_else(|error| {
            tracing::error!(%error, "a text cannot be merged");
            None
        })
        .map(Box::new)
    }

    /// Takes a text back that was merged beside.
    fn resumed(&mut self, lent: Lent) {
        if self.read_only.is_some() || self.stopping {
            return;
        }
        if let Err(error) = self.take_back(lent) {
            tracing::error!(%error, "a merged text cannot be taken over");
        }
    }

    fn take_back(&mut self, lent: Lent) -> Result<(), StorageError> {
        let Pipeline { rows, bodies, .. } = &mut self.pipeline;
        let Some((t, path)) = bodies.texts.give_back(rows, lent)? else { return Ok(()) };
        let rows = &self.pipeline.rows;
        let t_key = node_key(t, &path.key());
        let node = Node::load(rows, &t_key)?;
        let Some(a) = node.touch.last() else { return Ok(()) };
        let own = summary(rows, t, *a)?;
        let version = names_at(rows, t, &t_key, &node)?.into_iter().map(Into::into).collect();
        self.group.updates.push(Arc::new(Update {
            space: self.pipeline.space_of(t).with(t),
            // Later than all that anybody has read: it has to be read again.
            a: u64::MAX,
            id: own.id,
            name: own.name().into(),
            author: own.author,
            time_ms: own.time_ms,
            patches: None,
            texts: Vec::new(),
            versions: BTreeMap::from([(path.key(), version)]),
            touched: vec![path],
        }));
        Ok(())
    }

    /// Whether nothing waits to become durable.
    fn is_settled(&self) -> bool {
        self.may_rest() && self.aside.is_empty()
    }

    fn may_rest(&self) -> bool {
        self.idle() && self.group.entries.is_empty() && self.group.replies.is_empty() && self.group.updates.is_empty()
    }

    /// Whether there is something to make durable, and the syncer is free.
    pub(crate) fn may_dispatch(&self) -> bool {
        self.idle() && !self.may_rest()
    }

    /// Whether the group at hand takes no more before it is dispatched.
    pub(crate) fn is_full(&self) -> bool {
        self.group.entries.len() >= GROUP_CHANGES_MAX || self.pipeline.rows.staged.bytes() >= GROUP_BYTES_MAX
    }

    fn is_stopped(&self) -> bool {
        self.stopping && self.is_settled()
    }

    fn idle(&self) -> bool {
        !self.syncing
    }

    /// Hands the group at hand to the syncer, which has to be free.
    pub(crate) fn dispatch(&mut self) {
        let mut group = std::mem::take(&mut self.group);
        group.staged = self.pipeline.rows.seal();
        for (space, rights) in &mut group.stated {
            *rights = Some(Stated::of(&self.pipeline, *space));
        }
        self.pipeline.bodies.seal();
        self.group.start = self.pipeline.next_place();
        self.syncing = true;
        // The syncer lives as long as this thread: it ends when `to_syncer` is dropped.
        let _ = self.to_syncer.send(group);
    }

    fn synced(&mut self, result: Result<(), Failure>) {
        self.syncing = false;
        let committed = self.inner.tables.snapshot();
        self.pipeline.bodies.synced();
        if result.is_ok() {
            self.pipeline.rows.rebase(committed);
            return;
        }
        self.pipeline.rows.abandon(committed);
        if let Err(failure) = result {
            // What was decided on top of the lost group is lost with it.
            for reply in std::mem::take(&mut self.group).replies {
                fail(reply, &failure.message);
            }
            self.read_only = (!failure.recovered).then(|| Arc::clone(&failure.message));
            self.own_cap = None;
            if let Err(error) = self.pipeline.reset() {
                self.read_only = Some(error.to_string().into());
            }
            self.group.start = self.pipeline.next_place();
        }
    }

    fn write(&mut self, request: Request, reply: oneshot::Sender<Result<Written, WriteError>>) {
        let durable = request.durable;
        match self.decide(request) {
            Ok(written) if durable && (written.change.is_some() || self.syncing || !self.group.entries.is_empty()) => {
                self.group.replies.push(Reply::Written(reply, written));
            }
            Ok(mut written) => {
                written.durable = durable || written.change.is_none();
                let _ = reply.send(Ok(written));
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }

    /// The grant in whose name this device writes at a path.
    fn cap(&mut self, space: Space, path: &Path) -> Result<GrantId, WriteError> {
        if space.is_own() {
            return self.own_cap();
        }
        if self.is_barred {
            return Err(WriteError::NoKey);
        }
        let found = self.pipeline.rights(space.auth()).writer_grant(&self.inner.device.public(), path);
        found.ok_or_else(|| WriteError::NoGrant { space: space.key, path: path.clone() })
    }

    /// The grant that makes this device one of the owner's.
    fn own_cap(&mut self) -> Result<GrantId, WriteError> {
        if self.is_barred {
            return Err(WriteError::NoKey);
        }
        if self.own_cap.is_none() {
            self.own_cap = self.pipeline.rights(AUTH).device_grant(&self.inner.device.public());
        }
        self.own_cap.ok_or(WriteError::NoKey)
    }

    /// The grant in whose name this device can say something about rights: the named one, or whichever allows it.
    fn statement_cap(&mut self, space: Space, named: Option<GrantId>, ops: &[Op]) -> Result<GrantId, WriteError> {
        if self.is_barred {
            return Err(WriteError::NoKey);
        }
        if let Some(cap) = named {
            let audience = Audience::Key(self.inner.device.public());
            let found = self.pipeline.rights(space.auth()).grant(&cap);
            let is_ours = found.is_some_and(|held| held.is_live() && held.grant.audience == audience);
            return if is_ours { Ok(cap) } else { Err(WriteError::NoGrant { space: space.key, path: Path::root() }) };
        }
        let own = if space.is_own() { Some(self.own_cap()?) } else { None };
        let rights = self.pipeline.rights(space.auth());
        if let Some(own) = own.filter(|own| ops.iter().all(|op| rights.may_state(own, op))) {
            return Ok(own);
        }
        let found = rights.cap_to_state(&self.inner.device.public(), ops);
        found.ok_or(WriteError::NoAuthority { space: space.key })
    }

    fn state(&mut self, stated: (Option<Space>, Option<GrantId>, Statement), time_ms: u64, reply: oneshot::Sender<Result<Vec<GrantId>, WriteError>>) {
        let (space, cap, statement) = stated;
        match self.make_statement(space.unwrap_or(self.inner.own), cap, statement, time_ms) {
            Ok(grants) => self.group.replies.push(Reply::Stated(reply, grants)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Stages a statement, in the name of a grant if one is named. Answers its grants.
    fn make_statement(&mut self, space: Space, named: Option<GrantId>, statement: Statement, time_ms: u64) -> Result<Vec<GrantId>, WriteError> {
        if let Some(reason) = &self.read_only {
            return Err(WriteError::ReadOnly(Arc::clone(reason)));
        }
        let ops = match statement {
            Statement::Ops(ops) => ops,
            Statement::Revoke { grants, cascade, keep } => {
                let revoke = |keep: &[ChangeId]| {
                    grants.iter().map(|grant| Op::Revoke(Revoke { grant: *grant, cascade, keep: keep.to_vec() })).collect::<Vec<_>>()
                };
                let cap = self.statement_cap(space, named, &revoke(&[]))?;
                let keep = if keep { self.pipeline.keep_list(space, self.inner.device.public(), Some(cap), revoke(&[]))? } else { Vec::new() };
                revoke(&keep)
            }
            Statement::Keep(change) => {
                let timelines = self.pipeline.values(space);
                let cap = crate::quarantine::cap_of(&self.pipeline.rows, &change, |t| timelines.contains(&t))?;
                let grant = cap.filter(|cap| !self.pipeline.rights(space.auth()).is_live(cap)).ok_or(WriteError::CannotKeep(change))?;
                vec![Op::Revoke(Revoke { grant, cascade: false, keep: vec![change] })]
            }
            Statement::Redeem { grant, uses_max } => {
                let alike: Vec<(GrantId, Audience)> = self
                    .pipeline
                    .rights(space.auth())
                    .grants()
                    .filter(|(_, held)| held.grant.label == grant.label)
                    .map(|(id, held)| (*id, held.grant.audience))
                    .collect();
                if let Some((id, _)) = alike.iter().find(|(_, audience)| *audience == grant.audience) {
                    return Ok(vec![*id]);
                }
                if alike.len() as u64 >= uses_max {
                    return Err(WriteError::UsedUp);
                }
                vec![Op::Grant(grant)]
            }
        };
        let cap = self.statement_cap(space, named, &ops)?;
        let body = crate::change::Body { ops, ..Default::default() };
        let author = self.inner.device.public();
        let change = self.pipeline.author(space.auth(), author, Some(cap), time_ms, &body)?;
        let id = change.id();
        let grants = (0u32..).zip(&body.ops).filter(|(_, op)| matches!(op, Op::Grant(_))).map(|(index, _)| OpId { change: id, index }.grant());
        let grants = grants.collect();
        self.take(Entry::Own(change), Some(body))?;
        Ok(grants)
    }

    /// Stages what a root key says. A new root says first by what right it is one.
    fn say_as_root(&mut self, root: &SecretKey, mut ops: Vec<Op>, revoked: Vec<GrantId>, time_ms: u64) -> Result<(), WriteError> {
        if let Some(reason) = &self.read_only {
            return Err(WriteError::ReadOnly(Arc::clone(reason)));
        }
        let space = self.inner.own;
        // What the new root has not seen is dead, and one change stands on so many others only.
        if self.pipeline.heads(space.auth()) > PARENTS_MAX {
            let cap = self.own_cap()?;
            self.merge_heads(space.auth(), cap, time_ms)?;
        }
        if !revoked.is_empty() {
            let revoke = |keep: &[ChangeId]| {
                revoked.iter().map(|grant| Op::Revoke(Revoke { grant: *grant, cascade: false, keep: keep.to_vec() })).collect::<Vec<_>>()
            };
            let supposed = [&ops[..], &revoke(&[])].concat();
            let keep = self.pipeline.keep_list(space, root.public(), None, supposed)?;
            ops.extend(revoke(&keep));
        }
        let body = crate::change::Body { ops, ..Default::default() };
        let change = self.pipeline.author(space.auth(), root.public(), None, time_ms, &body)?;
        let refused = || WriteError::NoAuthority { space: space.key };
        if self.pipeline.check(&change)?.is_err() {
            return Err(refused());
        }
        let change = Verified::sign(change, root).map_err(|_| refused())?;
        self.take(Entry::Other(change), Some(body))?;
        Ok(())
    }

    /// Works out and stages what a request does.
    fn decide(&mut self, request: Request) -> Result<Written, WriteError> {
        if let Some(reason) = &self.read_only {
            return Err(WriteError::ReadOnly(Arc::clone(reason)));
        }
        match request.action {
            Action::PutText { .. } | Action::EditText(_) => return self.decide_text(request),
            Action::Inc(_) => return self.decide_inc(request),
            _ => {}
        }
        let Request { space, path, action, parents, label, condition, time_ms, may_name, .. } = request;
        let space = space.unwrap_or_else(|| self.pipeline.at(self.inner.own, &path));
        let t = space.main();
        let cap = self.cap(space, &path)?;
        check_reserved(&path, &action)?;
        self.merge_heads(t, cap, time_ms)?;
        let rows = &self.pipeline.rows;
        let t_key = node_key(t, &path.key());
        let node = Node::load(rows, &t_key)?;
        let existed = node.count() > 0 || node.below > 0;
        if let Some(label) = &label {
            let taken = labelled(rows, t, label)?;
            if let Some(a) = taken.first() {
                return self.replay(space, &path, *a, label, &action, existed);
            }
        }
        let version = names_at(rows, t, &t_key, &node)?;
        let content = node.winner(rows, &t_key)?.and_then(|write| write.value.content_tag());
        check_condition(&condition, existed, &version, content, &path, |wanted| {
            same_version(wanted, &version, rows, t, &node.touch).unwrap_or(false)
        })?;
        let base = match parents {
            None => None,
            Some(parents) => {
                let named = self.resolve_at(t, &path, &parents)?;
                // Who has seen all there is at the path may as well have seen everything else.
                let is_partial = named.iter().any(|name| name.event.is_some());
                Some(texts::base_of(&named)?).filter(|base| is_partial || *base != node.touch)
            }
        };
        let (target, action) = if base.is_none() { self.narrow(t, path.clone(), action)? } else { (path.clone(), action) };
        let tree = match &base {
            None => match &action {
                Action::Merge(patch) => Tree::load_for_merge(&self.pipeline.rows, t, &target, patch, &space.key)?,
                // A new child of an object has nothing to do with the others.
                Action::Post { .. } if !node.loose && !matches!(&node.writes, Writes::One(write) if write.value == Value::List) => {
                    let holds = node.below > 0
                        || matches!(&node.writes, Writes::None)
                        || matches!(&node.writes, Writes::One(write) if write.value == Value::Map);
                    if !holds {
                        return Err(WriteError::NotACollection(path));
                    }
                    Tree::default()
                }
                Action::Undo { .. } => Tree::default(),
                _ => Tree::load(&self.pipeline.rows, t, &target, usize::MAX)?,
            },
            Some(base) => load_at(&mut self.pipeline, t, &path, base, &action, &space.key)?,
        };
        let mounts: Vec<Path> = self.pipeline.rights(t).mounts_below(&path).map(|mount| mount.path.clone()).collect();
        let (plan, created) = match action {
            Action::Undo { version } => (self.plan_undo(space, &path, version)?, None),
            action => {
                let view = base.as_ref().map(|base| View::of(&self.pipeline.rows, t, base)).transpose()?;
                self.plan(space, &target, &tree, action, view)?
            }
        };
        if let Some(mount) = mounts.into_iter().find(|mount| plan.touches(mount)) {
            return Err(WriteError::Spans { path, mount });
        }
        if let Some(may_name) = may_name {
            let mut others: Vec<BlobHash> = plan.blobs().filter(|hash| !may_name.contains(hash)).collect();
            others.sort_unstable();
            others.dedup();
            if !others.is_empty() {
                return Err(WriteError::Names(others));
            }
        }
        let bodies = plan.into_bodies()?;
        if bodies.is_empty() && label.is_none() {
            return Ok(Written { version, change: None, created: None, existed, durable: true });
        }
        let base_ids = base.as_ref().map(|base| ids_of(&self.pipeline.rows, t, base)).transpose()?;
        let last = self.stage(t, bodies, cap, label, base_ids, time_ms)?;
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        let created = match created {
            Some(Created::Name(path)) => Some(path),
            Some(Created::Element(number)) => path.join(Segment::Element(OpId { change: last, index: number as u32 })).ok(),
            None => None,
        };
        Ok(Written { version, change: Some(last), created, existed, durable: true })
    }

    /// Where one splice names members of objects on its way, goes there, so that no more is read than is changed.
    fn narrow(&self, t: u32, mut path: Path, action: Action) -> Result<(Path, Action), StorageError> {
        let Action::Splice(mut splices) = action else { return Ok((path, action)) };
        let [(steps, content)] = &mut splices[..] else { return Ok((path, Action::Splice(splices))) };
        let rows = &self.pipeline.rows;
        let mut taken = 0;
        for step in steps.iter() {
            let crate::json::Step::Key(name) = step else { break };
            let t_key = node_key(t, &path.key());
            let node = Node::load(rows, &t_key)?;
            let winner = node.winner(rows, &t_key)?;
            let object = winner.is_none_or(|write| write.value == Value::Map) && node.below > 0 && !node.loose;
            let Some(child) = Segment::name(name).ok().filter(|_| object).and_then(|segment| path.join(segment).ok()) else { break };
            path = child;
            taken += 1;
        }
        steps.drain(..taken);
        if !steps.is_empty() {
            return Ok((path, Action::Splice(splices)));
        }
        let here = node_key(t, &path.key());
        let node = Node::load(rows, &here)?;
        Ok(match content.take() {
            Some(value) => (path, Action::Put(value)),
            // Removing what is not there is no error for a patch.
            None if node.count() == 0 && node.below == 0 => (path, Action::Splice(vec![(Vec::new(), None)])),
            None => (path, Action::Delete),
        })
    }

    /// A change stands on at most so many others; what is left over is brought together by changes without ops.
    fn merge_heads(&mut self, t: u32, cap: GrantId, time_ms: u64) -> Result<(), WriteError> {
        while self.pipeline.heads(t) > PARENTS_MAX {
            let body = crate::change::Body::default();
            let author = self.inner.device.public();
            let change = self.pipeline.author(t, author, Some(cap), time_ms, &body)?;
            self.take(Entry::Own(change), Some(body))?;
        }
        Ok(())
    }

    fn plan(
        &mut self,
        space: Space,
        path: &Path,
        tree: &Tree,
        action: Action,
        view: Option<View>,
    ) -> Result<(Plan<'_>, Option<Created>), WriteError> {
        let (t, space) = (space.main(), space.key);
        let rows = &self.pipeline.rows;
        let seen = view.clone();
        let draft = texts::drafter(rows, &mut self.pipeline.bodies.texts, t, self.inner.device.public(), path.clone(), view);
        let order = move |list: &OpId| {
            let order = Order::load(rows, t, list).unwrap_or_default();
            let Some(view) = &seen else { return order };
            // What cannot be read fails where it is needed.
            let has = |a| view.counts(rows, t, a).unwrap_or(true);
            order.seen_by(|id| find(rows, &id.change).ok().flatten().is_some_and(|(_, a)| has(a)))
        };
        let mut plan = Plan::new(space, order, draft);
        let mut created = None;
        let patch = |error: &dyn std::fmt::Display| WriteError::Patch(error.to_string());
        match action {
            Action::Put(json) => plan.put(path, tree, &json)?,
            Action::PutValue(value) => plan.put_value(path, tree, value),
            Action::Delete if tree.is_absent() => return Err(WriteError::Absent(path.clone())),
            Action::Delete => plan.delete(path, tree),
            Action::Merge(json) => plan.merge(path, tree, &json)?,
            Action::JsonPatch(ops) => {
                let mut json = tree.to_json(&space).ok_or_else(|| WriteError::Absent(path.clone()))?;
                crate::json::apply_json_patch(&mut json, &ops).map_err(|error| patch(&error))?;
                plan.put_patched(path, tree, &json)?;
            }
            Action::Splice(splices) => {
                let mut json = tree.to_json(&space);
                for (steps, content) in splices {
                    if steps.is_empty() {
                        json = content;
                        continue;
                    }
                    let target = json.get_or_insert_with(|| Json::Object(Default::default()));
                    crate::json::apply_splice(target, &steps, content).map_err(|error| patch(&error))?;
                }
                match json {
                    Some(json) => plan.put_patched(path, tree, &json)?,
                    None => plan.delete(path, tree),
                }
            }
            // These have functions of their own.
            Action::Undo { .. } | Action::PutText { .. } | Action::EditText(_) | Action::Inc(_) => {}
            Action::Post { name, value } => match plan.append(path, tree, &value)? {
                Some(number) => created = Some(Created::Element(number)),
                None => {
                    let segment = Segment::name(&name).map_err(|error| patch(&error))?;
                    let child = path.join(segment).map_err(|error| patch(&error))?;
                    plan.put(&child, &Tree::default(), &value)?;
                    created = Some(Created::Name(child));
                }
            },
        }
        Ok((plan, created))
    }

    /// Plans the inverse of a change.
    fn plan_undo(&mut self, space: Space, path: &Path, version: Option<String>) -> Result<Plan<'_>, WriteError> {
        let (t, space) = (space.main(), space.key);
        let wanted = match version {
            Some(version) => self.resolve_at(t, path, &[version])?.first().map(|name| name.a),
            None => None,
        };
        let (rows, bodies) = (&self.pipeline.rows, &mut self.pipeline.bodies);
        let mut did: Vec<Path> = Vec::new();
        let mut latest = wanted.unwrap_or(0);
        for row in rows.scan(Table::History, &node_key(t, &path.key()), None) {
            let (key, value) = row?;
            let Some((t_key, a, _)) = split_history_key(&key) else { continue };
            if wanted.is_none() && a > latest {
                latest = a;
                did.clear();
            }
            let entry = HistoryEntry::decode(&value).map_err(StorageError::from)?;
            if a == latest
                && !entry.hidden
                && (entry.writes || !entry.preds.is_empty())
                && let Some(at) = Path::from_key(&t_key[4..])
                && did.last() != Some(&at)
            {
                did.push(at);
            }
        }
        let inverses = if latest == 0 { Vec::new() } else { texts::inverses(rows, bodies, (t, latest), path, &self.inner.device.public())? };
        if did.is_empty() && inverses.is_empty() {
            return Err(WriteError::Absent(path.clone()));
        }
        let own = summary(rows, t, latest)?;
        let view = match &own.base {
            Some(base) => View::of(rows, t, base)?,
            None if own.total => View::upto(latest.checked_sub(1)),
            None => View::past_of(rows, t, &own.deps)?,
        };
        let mut write_of = |a, index| {
            let id = OpId { change: summary(rows, t, a)?.id, index };
            bodies.write_at(rows, t, id)?.map(|(_, write)| write).ok_or(StorageError::Damaged { table: Table::History.name() })
        };
        let draft = texts::new_drafter(self.inner.device.public(), path.clone());
        let mut plan = Plan::new(space, move |list| Order::load(rows, t, list).unwrap_or_default(), draft);
        let mut whole: Option<Path> = None;
        for at in did {
            if whole.as_ref().is_some_and(|whole| whole.contains(&at)) {
                continue;
            }
            let t_key = node_key(t, &at.key());
            let visible = Node::load(rows, &t_key)?.visible(rows, &t_key, usize::MAX)?;
            let (ours, others): (Vec<_>, Vec<_>) = visible.into_iter().partition(|write| write.a == latest);
            let before = Tree::slot_at(rows, t, &at, &view, &mut write_of)?.into_iter().next();
            let comes_back = before.filter(|_| others.is_empty()).map(|write| write.value);
            if comes_back == Some(Value::List) {
                // A list that is made again is another one, so its elements have to be made again too.
                let old = Tree::load_at(rows, t, &at, &view, usize::MAX, &mut write_of)?;
                if let Some(json) = old.to_json(&space) {
                    plan.put(&at, &Tree::load(rows, t, &at, usize::MAX)?, &json)?;
                }
                whole = Some(at);
            } else if !ours.is_empty() || comes_back.is_some() {
                plan.restore(&at, comes_back, &ours)?;
            }
        }
        for inverse in inverses {
            match inverse {
                texts::Inverse::Text(made, draft) => plan.push_text(Target::Known(made), draft),
                texts::Inverse::Inc(made, delta) => plan.push_inc(Target::Known(made), delta),
                texts::Inverse::Move { list, element, before } => plan.move_element(&list, element, Some(&before)),
            }
        }
        Ok(plan)
    }

    /// Makes changes of bodies and stages them. Answers the id of the last.
    fn stage(
        &mut self,
        t: u32,
        bodies: Vec<crate::plan::PlannedBody>,
        cap: GrantId,
        label: Option<String>,
        base: Option<Vec<ChangeId>>,
        time_ms: u64,
    ) -> Result<ChangeId, WriteError> {
        let count = bodies.len().max(1) as u64;
        let mut made: Vec<(usize, ChangeId)> = Vec::new();
        let planned: Vec<Option<_>> = if bodies.is_empty() { vec![None] } else { bodies.into_iter().map(Some).collect() };
        for (at, planned) in planned.into_iter().enumerate() {
            let (first, mut body) = planned.map_or_else(Default::default, |planned| planned.finish(&made));
            let number = at as u64 + 1;
            let previous = made.last().map(|(_, id)| *id);
            body.base = match previous {
                Some(previous) => Some(vec![previous]),
                None => base.clone(),
            };
            if number == count {
                body.label = label.as_deref().map(Into::into);
            }
            if count > 1 {
                body.part = Some(Part { number, count, first: made.first().map(|(_, id)| *id) });
            }
            let author = self.inner.device.public();
            let change = self.pipeline.author(t, author, Some(cap), time_ms, &body)?;
            made.push((first, change.id()));
            self.take(Entry::Own(change), Some(body))?;
        }
        Ok(made.last().map_or(ChangeId([0; 32]), |(_, id)| *id))
    }

    fn take(&mut self, entry: Entry, body: Option<crate::change::Body>) -> Result<(), StorageError> {
        let change = match &entry {
            Entry::Own(change) => change,
            Entry::Other(change) => change,
        };
        let taken = self.pipeline.take(change, body, change.encoded_len())?;
        if is_auth(taken.t) {
            self.group.stated.insert(self.pipeline.space_of(taken.t), None);
            self.own_cap = None;
        }
        for (t, effect) in taken.effects {
            // A change is told whatever it did; a statement only if it hid something, or showed it again.
            if is_auth(taken.t) && effect.touched.is_empty() {
                continue;
            }
            let space = self.pipeline.space_of(t).with(t);
            let rows = &self.pipeline.rows;
            let own = summary(rows, taken.t, taken.a)?;
            let patches = if self.inner.feeds.is_watched() { patches(rows, t, &space.key, &effect)? } else { None };
            let mut versions = BTreeMap::new();
            for (key, touch) in &effect.versions {
                versions.insert(key.clone(), names(rows, t, touch)?.into_iter().map(Into::into).collect());
            }
            // At a text's path its readers' names are used.
            for path in effect.touched.iter().filter(|(_, touched)| touched.text.is_some()).map(|(path, _)| path) {
                let t_key = node_key(t, &path.key());
                let node = Node::load(rows, &t_key)?;
                versions.insert(path.key(), names_at(rows, t, &t_key, &node)?.into_iter().map(Into::into).collect());
            }
            let mut texts = Vec::new();
            for (path, touched) in effect.touched.iter().filter(|_| patches.is_some()) {
                if let Some((object, _)) = &touched.text {
                    let text = self.pipeline.bodies.texts.text(rows, t, object)?;
                    texts.extend(text.update_of(&own.id).map(|update| (path.clone(), update)));
                }
            }
            self.group.updates.push(Arc::new(Update {
                space,
                texts,
                a: taken.a,
                id: own.id,
                name: own.name().into(),
                author: own.author,
                time_ms: own.time_ms,
                patches,
                touched: effect.touched.into_keys().collect(),
                versions,
            }));
        }
        self.group.entries.push((taken.place, taken.a, entry));
        Ok(())
    }

    /// Answers a request that names a version that exists: done before if it is the same, else refused.
    fn replay(&mut self, space: Space, path: &Path, a: u64, label: &str, action: &Action, existed: bool) -> Result<Written, WriteError> {
        let t = space.main();
        let loaded = self.pipeline.bodies.load(&self.pipeline.rows, t, a)?;
        let (own, body) = &*loaded;
        // The values that a request writes are in its ops, whatever they were compared with.
        if let Action::Put(json) = action
            && !matches!(json, Json::Object(_) | Json::Array(_))
        {
            let wrote = body.ops.iter().find_map(|op| match op {
                Op::Set { value, .. } => Some(crate::tree::value_json(value, &space.key)),
                _ => None,
            });
            if wrote.as_ref().is_some_and(|wrote| wrote != json) {
                return Err(WriteError::LabelTaken(label.to_owned()));
            }
        }
        let t_key = node_key(t, &path.key());
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        Ok(Written { version, change: Some(own.id), created: None, existed, durable: true })
    }

    fn offer(&mut self, changes: Vec<Verified<Change>>, reply: oneshot::Sender<Result<Offered, WriteError>>) {
        if let Some(reason) = &self.read_only {
            let _ = reply.send(Err(WriteError::ReadOnly(Arc::clone(reason))));
            return;
        }
        let mut offered = Offered::default();
        for change in changes {
            let id = change.id();
            match self.admit(change) {
                Ok(Ok(true)) => offered.admitted.push(id),
                Ok(Ok(false)) => offered.known.push(id),
                Ok(Err(refusal)) => offered.refused.push(refusal),
                Err(error) => {
                    let _ = reply.send(Err(error.into()));
                    return;
                }
            }
        }
        if !offered.admitted.is_empty() || self.syncing || !self.group.entries.is_empty() {
            self.group.replies.push(Reply::Offered(reply, offered));
        } else {
            let _ = reply.send(Ok(offered));
        }
    }

    fn admit(&mut self, change: Verified<Change>) -> Result<Result<bool, Refusal>, StorageError> {
        if self.pipeline.knows(&change.id())? {
            return Ok(Ok(false));
        }
        if let Err(refusal) = self.pipeline.check(&change)? {
            return Ok(Err(refusal));
        }
        self.take(Entry::Other(change), None)?;
        Ok(Ok(true))
    }
}

/// Names at the top that begin with a dot belong to the system; some of them hold data of the space.
fn check_reserved(path: &Path, action: &Action) -> Result<(), WriteError> {
    let is_free = |name: &str| !name.starts_with('.') || matches!(name, ".apps" | ".prog" | ".time");
    let refused = match (path.segments().first(), action) {
        (Some(Segment::Name(name)), _) => !is_free(name),
        (None, Action::Put(Json::Object(members)) | Action::Merge(Json::Object(members))) => members.keys().any(|name| !is_free(name)),
        _ => false,
    };
    if refused { Err(WriteError::Reserved(path.clone())) } else { Ok(()) }
}

enum Created {
    Name(Path),
    Element(usize),
}

fn fail(reply: Reply, message: &Arc<str>) {
    let error = || WriteError::ReadOnly(Arc::clone(message));
    match reply {
        Reply::Written(reply, _) => drop(reply.send(Err(error()))),
        Reply::Offered(reply, _) => drop(reply.send(Err(error()))),
        Reply::Stated(reply, _) => drop(reply.send(Err(error()))),
    }
}

/// The public names of changes, sorted.
///
/// # Errors
///
/// [`StorageError`].
pub fn names(rows: &impl Rows, t: u32, touch: &[u64]) -> Result<Vec<String>, StorageError> {
    let mut names = touch.iter().map(|a| Ok(summary(rows, t, *a)?.name())).collect::<Result<Vec<_>, StorageError>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The version of a node, as its readers call it: an event of a text is named as its session counts.
///
/// # Errors
///
/// [`StorageError`].
pub fn names_at(rows: &impl Rows, t: u32, t_key: &[u8], node: &Node) -> Result<Vec<String>, StorageError> {
    let mut names = Vec::with_capacity(node.touch.len());
    let mut text: Option<Option<ObjectId>> = None;
    for a in &node.touch {
        let own = summary(rows, t, *a)?;
        if own.label.is_some() {
            names.push(own.name());
            continue;
        }
        if text.is_none() {
            let winner = if node.below == 0 { node.winner(rows, t_key)? } else { None };
            let made = winner.filter(|write| matches!(write.value, Value::Text { .. }));
            text = Some(match made {
                Some(write) => creator(rows, t, &write.id)?.map(|made| made.object),
                None => None,
            });
        }
        let event = text.flatten().map(|object| event_name(rows, t, &object, *a)).transpose()?.flatten();
        names.push(event.unwrap_or_else(|| own.name()));
    }
    names.sort_unstable();
    Ok(names)
}

/// The ids of changes, sorted.
fn ids_of(rows: &impl Rows, t: u32, changes: &[u64]) -> Result<Vec<ChangeId>, StorageError> {
    let mut ids = changes.iter().map(|a| Ok(summary(rows, t, *a)?.id)).collect::<Result<Vec<_>, StorageError>>()?;
    ids.sort_unstable();
    Ok(ids)
}

/// Checks a request's condition against the version that its path has; `is_same` says whether names mean that one.
fn check_condition(
    condition: &Condition,
    existed: bool,
    version: &[String],
    content_tag: Option<String>,
    path: &Path,
    is_same: impl FnOnce(&[String]) -> bool,
) -> Result<(), WriteError> {
    let holds = match condition {
        Condition::None => true,
        Condition::Present => existed,
        Condition::Absent => !existed,
        Condition::Match { version: wanted, tags } => {
            tags.contains(&version_tag(version))
                || content_tag.is_some_and(|tag| tags.contains(&tag))
                || wanted.as_ref().is_some_and(|wanted| is_same(wanted))
        }
    };
    if holds { Ok(()) } else { Err(WriteError::Condition { path: path.clone(), version: version.to_vec() }) }
}

/// Finds versions by id or public name.
///
/// # Errors
///
/// [`WriteError::UnknownVersion`] with all that are unknown or ambiguous.
pub fn resolve(rows: &impl Rows, t: u32, versions: &[String]) -> Result<Vec<u64>, WriteError> {
    let mut found = Vec::with_capacity(versions.len());
    let mut unknown = Vec::new();
    for version in versions {
        let by_label = labelled(rows, t, version)?;
        let by_id = match version.parse::<ChangeId>() {
            Ok(id) => find(rows, &id)?.filter(|(found, _)| *found == t).map(|(_, a)| a),
            Err(_) => None,
        };
        match (by_id, &by_label[..]) {
            (Some(a), _) => found.push(a),
            (None, [a]) => found.push(*a),
            _ => unknown.push(version.clone()),
        }
    }
    if unknown.is_empty() { Ok(found) } else { Err(WriteError::UnknownVersion(unknown)) }
}

fn same_version(wanted: &[String], version: &[String], rows: &impl Rows, t: u32, touch: &[u64]) -> Result<bool, WriteError> {
    let mut sorted = wanted.to_vec();
    sorted.sort_unstable();
    if sorted == version {
        return Ok(true);
    }
    let mut found = resolve(rows, t, wanted)?;
    found.sort_unstable();
    Ok(found == touch)
}

fn load_at(
    pipeline: &mut Pipeline,
    t: u32,
    path: &Path,
    base: &[u64],
    action: &Action,
    space: &timebus_identity::PublicKey,
) -> Result<Tree, StorageError> {
    let view = View::of(&pipeline.rows, t, base)?;
    let (rows, bodies) = (&pipeline.rows, &mut pipeline.bodies);
    let write_of = |a, index| {
        let id = OpId { change: summary(rows, t, a)?.id, index };
        bodies.write_at(rows, t, id)?.map(|(_, write)| write).ok_or(StorageError::Damaged { table: Table::History.name() })
    };
    match action {
        Action::Merge(patch) => Tree::load_at_for_merge(rows, t, path, patch, space, &view, write_of),
        _ => Tree::load_at(rows, t, path, &view, usize::MAX, write_of),
    }
}

/// The syncing thread.
pub(crate) struct Syncer {
    pub(crate) inner: Arc<Inner>,
    pub(crate) appender: Appender,
    /// Bytes written since the last sync.
    pub(crate) bytes: u64,
    pub(crate) to_decider: Sender<Job>,
}

impl Syncer {
    pub(crate) fn run(mut self, groups: &Receiver<Group>) {
        loop {
            let received = match self.inner.feeds.due() {
                None => groups.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => groups.recv_timeout(at.saturating_duration_since(std::time::Instant::now())),
            };
            let group = match received {
                Ok(group) => group,
                Err(RecvTimeoutError::Timeout) => {
                    self.inner.feeds.announce_due();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let result = self.append(&group).and_then(|()| self.sync(&group)).and_then(|()| self.commit(&group));
            if !self.finish(group, result) {
                return;
            }
        }
    }

    /// Writes the records of a group to the log.
    pub(crate) fn append(&mut self, group: &Group) -> Result<(), StorageError> {
        let mut buffer = Vec::new();
        let mut start: Option<Place> = None;
        for (place, a, entry) in &group.entries {
            if let Some(begun) = start
                && (begun.segment != place.segment || buffer.len() > 8 * 1024 * 1024)
            {
                self.appender.write(begun, &buffer)?;
                self.bytes += buffer.len() as u64;
                buffer.clear();
                start = None;
            }
            start.get_or_insert(*place);
            let payload = match entry {
                Entry::Own(change) => encode_own(change, &self.inner.device),
                Entry::Other(change) => change::encode(change),
            };
            frame(*a, &payload, &mut buffer);
        }
        if let Some(begun) = start {
            self.appender.write(begun, &buffer)?;
            self.bytes += buffer.len() as u64;
        }
        Ok(())
    }

    /// Makes the records of a group durable.
    pub(crate) fn sync(&mut self, group: &Group) -> Result<(), StorageError> {
        if group.entries.is_empty() {
            return Ok(());
        }
        let began = std::time::Instant::now();
        self.appender.sync()?;
        self.inner.stats.synced(group.entries.len() as u64, std::mem::take(&mut self.bytes), began.elapsed());
        Ok(())
    }

    /// Commits the rows of a group.
    pub(crate) fn commit(&mut self, group: &Group) -> Result<(), StorageError> {
        self.inner.tables.commit(&group.staged)
    }

    /// Tells everybody what became of a group. Answers whether there is still a decider.
    pub(crate) fn finish(&mut self, group: Group, result: Result<(), StorageError>) -> bool {
        let outcome = match result {
            Ok(()) => {
                let last = group.entries.last().map_or(0, |(_, a, _)| *a);
                self.inner.publish(group.stated, &group.updates, last);
                for reply in group.replies {
                    match reply {
                        Reply::Written(reply, written) => drop(reply.send(Ok(written))),
                        Reply::Offered(reply, offered) => drop(reply.send(Ok(offered))),
                        Reply::Stated(reply, grants) => drop(reply.send(Ok(grants))),
                    }
                }
                Ok(())
            }
            Err(error) => {
                let message: Arc<str> = error.to_string().into();
                tracing::error!(%error, "the disk refused a write");
                // Out of space: cut off what was half written, and later writes may be tried. Any other
                // failure leaves the file in a state nobody knows, so it is not written again.
                let full = matches!(&error, StorageError::Io(error) if is_full(error));
                let recovered = full && self.appender.rewind(group.start).is_ok();
                self.bytes = 0;
                for reply in group.replies {
                    fail(reply, &message);
                }
                Err(Failure { message, recovered })
            }
        };
        self.to_decider.send(Job::Synced(outcome)).is_ok()
    }
}

pub(crate) fn encode_own(change: &Change, device: &SecretKey) -> Vec<u8> {
    use timebus_identity::Signable as _;
    let signature = device.sign(&change.signing_message());
    let mut out = Vec::with_capacity(change.encoded_len());
    change.write(&signature, &mut out);
    out
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge)
}

/// Checks the signatures of changes that came from outside.
///
/// # Errors
///
/// The number of the first change whose signature is wrong.
pub fn verify_all(changes: Vec<Signed<Change>>) -> Result<Vec<Verified<Change>>, usize> {
    changes.into_iter().enumerate().map(|(at, change)| change.verify().map_err(|_| at)).collect()
}
