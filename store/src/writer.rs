//! The writing half of the store: one thread decides, one thread makes durable.
//!
//! The decider takes requests one by one, works out their ops against everything decided before, and stages
//! rows. Meanwhile the syncer signs, appends and syncs the group before, commits its rows and tells everybody.
//! So a sync, which takes milliseconds on real disks, is shared by all requests that came in during the one before.

use std::sync::Arc;
use std::time::Duration;

use timebus_identity::{PublicKey, SecretKey, Signed, Verified};
use tokio::sync::oneshot;

use crate::auth::CapError;
use crate::blobs::BlobHash;
use crate::change::{Change, PARENTS_MAX};
use crate::grant::Grant;
use crate::ids::{ChangeId, GrantId};
use crate::json::Json;
use crate::log::Place;
use crate::objects::{Lent, TextName};
use crate::op::Op;
use crate::path::Path;
use crate::pipeline::{Refusal, Space};
use crate::plan::PlanError;
use crate::store::StorageError;
use crate::value::{Mime, Value};

mod decider;
mod moving;
mod requests;
mod statements;
mod syncer;
mod texts;
mod version;

pub(crate) use decider::Decider;
pub use moving::MoveError;
pub use requests::is_reserved;
pub(crate) use syncer::{Group, Syncer, encode_own};
pub use texts::{Named, TextEdits, TextError, resolve_at, session_of, text_version};
pub use version::{NAMES_MAX, names, names_at, resolve};

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
    /// Takes what is at the path to another one of the same timeline, where nothing is. Of values that stand side by side the one
    /// goes that shows; what was before stays in the history of where it was.
    Move {
        /// Where to.
        to: Path,
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
pub fn version_tag<S: AsRef<str>>(version: &[S]) -> String {
    let mut hasher = blake3::Hasher::new();
    for name in version.iter().map(AsRef::as_ref) {
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
    /// The name that the caller gives the new version. Among those of one path it is his: where another one has it already, the
    /// change has none, and is known to him by it all the same.
    pub label: Option<String>,
    /// Under which condition.
    pub condition: Condition,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Whether to answer only when it is on disk.
    pub durable: bool,
    /// What it may name; if not said, anything. For those on whose behalf this device writes.
    pub may_name: Option<MayName>,
}

/// What a request may name that is not of who signs the change, and how much it may write.
#[derive(Clone, Debug, Default)]
pub struct MayName {
    /// The blobs that it may name where they were not named before: nobody gets at content by its hash alone.
    pub blobs: Vec<BlobHash>,
    /// At which names it may not point at anything, if there are some: where a pointer says something of who signs.
    pub points_not_at: Option<fn(&str) -> bool>,
    /// What it may not write or remove, at and below, also where it may all around it.
    pub keeps_off: Vec<Path>,
    /// Who asks.
    pub asker: Asker,
    /// The key that whoever asks signs with, if he has one: the changes say so, to all who read them.
    pub behalf: Option<PublicKey>,
    /// Bytes of changes that it may write, roughly, if that is bounded: a short patch can copy a large value many times.
    pub bytes_max: Option<u64>,
}

/// Somebody else than the owner on whose behalf this device writes. Names that he gives to versions are his: what others called so
/// has nothing to do with what he wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asker(pub(crate) [u8; Self::BYTES]);

impl Asker {
    pub(crate) const BYTES: usize = 16;

    /// Of somebody who is of a kind and has a name among those.
    #[must_use]
    pub fn of(kind: &str, name: &[u8]) -> Self {
        let hash = timebus_identity::hash("asker", &[kind.as_bytes(), &[0], name]);
        Self(*hash.first_chunk().expect("a hash is longer"))
    }
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
    /// It would write more than it may: so many bytes.
    #[error("this would write {0} bytes, and may not")]
    TooMuch(u64),
    /// The edits of a text, or the addition to a counter, cannot be made.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The value cannot be written.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The patch does not fit the value.
    #[error("the patch does not fit what is there: {0}")]
    Patch(String),
    /// It is not taken to another path.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// The change took what is here from elsewhere, and its opposite at the new path alone would leave it nowhere.
    #[error("the change took what is at {to} there from {from}")]
    Moved {
        /// Where it was.
        from: Path,
        /// Where it is.
        to: Path,
    },
    /// This home has no key that may write.
    #[error("this device may not write to the space")]
    NoKey,
    /// No grant of another's space lets this device write there.
    #[error("no grant of the space {space} lets this device write at {path}")]
    NoGrant {
        /// Whose space.
        space: PublicKey,
        /// Where.
        path: Path,
    },
    /// The grants that let this device do it there have ended, or have no room left. Nobody would take it.
    #[error("what this device was granted in the space {space} does not reach for this")]
    Limit {
        /// Whose space.
        space: PublicKey,
        /// Of the best grant.
        source: CapError,
    },
    /// No grant of this device lets it say this about rights.
    #[error("no grant lets this device say this about the rights in the space {space}")]
    NoAuthority {
        /// Whose space.
        space: PublicKey,
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
    /// It points at something where it may not: see [`MayName::points_not_at`].
    #[error("a pointer that is called {0} is the word of who signs it")]
    Points(Box<str>),
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
    /// Answers also as soon as it was decided: with the bytes that it writes, none if it is refused, and how long
    /// that took.
    Write(Box<Request>, oneshot::Sender<Result<Written, WriteError>>, oneshot::Sender<(Option<u64>, Duration)>),
    Offer(Vec<Verified<Change>>, oneshot::Sender<Result<Offered, WriteError>>),
    State(Box<(Option<Space>, Option<GrantId>, Statement)>, u64, oneshot::Sender<Result<Vec<GrantId>, WriteError>>),
    /// A root key says this, and takes these grants back.
    Root(Box<(SecretKey, Vec<Op>, Vec<GrantId>)>, u64, oneshot::Sender<Result<Vec<GrantId>, WriteError>>),
    /// Answers with the place behind the last durable record while nothing is being written.
    Fence(oneshot::Sender<Place>),
    Synced(Result<(), syncer::Failure>),
    /// It is the turn of a text that has too much to merge: whoever merges such asks for it.
    Lend(TextName),
    /// A text that had too much to merge was merged beside.
    Resumed(Box<Lent>),
    Stop,
}

/// What whoever merges texts beside is told.
pub(crate) enum Parked {
    /// One waits for its turn.
    Waits(TextName),
    /// Answers [`Job::Lend`]; nothing if there is no need any more.
    Lent(Option<Box<Lent>>),
}

/// Checks the signatures of changes that came from outside.
///
/// # Errors
///
/// The number of the first change whose signature is wrong.
pub fn verify_all(changes: Vec<Signed<Change>>) -> Result<Vec<Verified<Change>>, usize> {
    changes.into_iter().enumerate().map(|(at, change)| change.verify().map_err(|_| at)).collect()
}
