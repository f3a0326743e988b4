//! What a session begins with, what it is told, and what it answers.

use std::collections::BTreeSet;

use bytes::Bytes;
use timebus_identity::{PublicKey, Signed};
use timebus_store::blobs::BlobHash;
use timebus_store::change::{Change, ChangeError, Head};
use timebus_store::codec::DecodeError;
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::path::Path;

use crate::record::PeerRecord;
use crate::sync::frame::{Code, Feature, Provider, Redemption, Seat, Taking, Wants};
use crate::sync::handshake::{Binding, Prove, Remote, Role};
use crate::sync::replica::{Cursor, ReplicaError};

/// What a session says of its peer, and how it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The space that the peer calls its own.
    pub space: PublicKey,
    /// What the peer calls itself; what is over 64 bytes is left out.
    pub name: String,
    /// Where the peer can be dialled; the first 8 of at most 128 bytes each are named.
    pub addresses: Vec<String>,
    /// Bytes of changes that are taken before any is given back, for each channel. Default 256 KiB; more is faster over
    /// long distances and lets a peer make us hold more.
    pub window_bytes: u64,
    /// Bytes more that all channels of the link share: one that is opened gets half of what the others left, so that the
    /// few that carry much do so without waiting. Default none.
    pub extra_bytes: u64,
    /// What this peer can do beyond version 1.0; ascending by id. Default nothing.
    pub features: Vec<Feature>,
    /// Whether nothing but answers is sent on a channel before [`Input::Turn`] says so. Default no.
    pub waits_for_turn: bool,
    /// Minor and patch version, which say what to expect and forbid nothing.
    pub version: (u64, u64),
}

impl Config {
    /// The defaults, for a peer of this space.
    #[must_use]
    pub fn new(space: PublicKey) -> Self {
        let (name, addresses, features) = (String::new(), Vec::new(), Vec::new());
        Self { space, name, addresses, window_bytes: 256 * 1024, extra_bytes: 0, features, waits_for_turn: false, version: (0, 0) }
    }
}

/// What a session begins with.
pub struct Start {
    /// How it runs.
    pub config: Config,
    /// Who dialled.
    pub role: Role,
    /// What ties it to its connection.
    pub binding: Binding,
    /// Own node key; zeros on a websocket.
    pub node: PublicKey,
    /// The other's node key, as the transport proved it; zeros on a websocket.
    pub remote_node: PublicKey,
    /// Fresh randomness.
    pub nonce: [u8; 32],
    /// Signs for the keys to be proven.
    pub prove: Prove,
    /// Milliseconds of any clock that goes forward.
    pub now_ms: u64,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Start({:?})", self.role)
    }
}

/// What the other side has of a timeline, and what it is to be sent, as it says.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What it is to be sent.
    pub wants: Wants,
    /// Whether others wait there already for what it sends.
    pub is_busy: bool,
    /// How many bytes of changes it has.
    pub bytes: u64,
    /// Its heads, or some of them.
    pub heads: Vec<ChangeId>,
    /// Whether it has more than these.
    pub has_more: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A frame came.
    Frame(Bytes),
    /// A timeline is to be synced. Before [`Output::Ready`] it waits for that; of one that is synced already nothing is
    /// said.
    Open {
        /// The space.
        space: PublicKey,
        /// The timeline.
        timeline: TimelineId,
        /// Whether the other side is to send nothing of it before [`Input::Feed`] says so.
        is_resting: bool,
    },
    /// The other side is to know what is here of a timeline, and what it is to send.
    Feed {
        /// The timeline.
        timeline: TimelineId,
        /// What it is to send.
        wants: Wants,
        /// Whether others wait already for what we send.
        is_busy: bool,
    },
    /// Whether it is the other side's turn to be sent what it has not of a timeline. It is unless this says otherwise.
    Turn {
        /// The timeline.
        timeline: TimelineId,
        /// Whether it is.
        is_turn: bool,
        /// How many bytes it is sent at first; more with all that it deals with. What is on its way to somebody who meanwhile
        /// gets it from elsewhere keeps all others waiting.
        dose: u64,
    },
    /// A timeline is no longer to be synced.
    CloseChannel {
        /// The timeline.
        timeline: TimelineId,
        /// Why.
        code: Code,
    },
    /// The link is to end.
    Close {
        /// Why.
        code: Code,
        /// Seconds after which the other side may try again; 0 says nothing.
        retry_after_s: u64,
    },
    /// What became of [`Output::Store`].
    Stored(Stored),
    /// Changes of a timeline came into the store, from wherever. After [`Input::Stored`] it need not be said.
    Appended {
        /// The timeline.
        timeline: TimelineId,
    },
    /// These changes are to be fetched again, whatever the store says: their records are damaged. What comes of them is
    /// told with [`Output::Fetched`]; of a timeline that is not synced on this link nothing comes.
    Fetch {
        /// The timeline.
        timeline: TimelineId,
        /// The changes; at most 256.
        ids: Vec<ChangeId>,
    },
    /// The transport takes so many bytes now.
    Writable {
        /// How many.
        bytes: u64,
    },
    /// The time of the last [`Output::SetTimer`] has come. Earlier does no harm.
    Timer,
    /// A token is to be handed in.
    Redeem {
        /// The token.
        token: [u8; 16],
        /// The device that asks; one of the proven keys.
        device: PublicKey,
    },
    /// Nothing more of these authors is to be taken over this link, if the other side knows how to leave it out; how much
    /// there is of them is told with [`Output::Weighed`].
    Hold {
        /// The timeline.
        timeline: TimelineId,
        /// The authors.
        authors: Vec<PublicKey>,
    },
    /// Answers [`Output::Redeem`].
    RedeemAnswer(RedeemAnswer),
    /// Notices are to be handed in for the inbox of a space; answered with [`Output::Took`].
    Put {
        /// The space.
        space: PublicKey,
        /// The notices as signed; at most 16.
        notices: Vec<Bytes>,
    },
    /// Answers [`Output::Put`].
    Took {
        /// The space.
        space: PublicKey,
        /// What became of each.
        results: Vec<(ChangeId, Taking)>,
    },
    /// The other side is to know who looks at a path here, if it may read there; with nobody, it is asked who does there.
    Presence {
        /// The path's timeline.
        timeline: TimelineId,
        /// The path.
        path: Path,
        /// Who; strictly ascending by name, at most 64.
        seats: Vec<Seat>,
    },
    /// The other side is to know where peers are: records as signed; at most 16.
    Records(Vec<Bytes>),
    /// The other side is to be asked where peers are; at most 16 keys, ascending. It may answer with [`Output::Records`].
    AskRecords(Vec<PublicKey>),
    /// The other side is to be asked which of these files of a space it holds whole; at most 256, ascending.
    AskFiles(PublicKey, Vec<BlobHash>),
    /// The other side is to know that these files of a space are here, of those that it asked for.
    Files(PublicKey, Vec<BlobHash>),
    /// The other side is to know who else holds a timeline.
    Providers {
        /// The timeline.
        timeline: TimelineId,
        /// The others; at most 8.
        providers: Vec<Provider>,
    },
}

/// What became of changes. Each of them is in one of the lists.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Which changes.
    pub ticket: u64,
    /// Durable, or known before.
    pub admitted: Vec<ChangeId>,
    /// What a change builds on and is not here; no ids if it waits for statements of the space's `auth` timeline.
    pub pending: Vec<(ChangeId, Vec<ChangeId>)>,
    /// Refused for good.
    pub refused: Vec<ChangeId>,
    /// Not taken for now: their authors have no room here.
    pub held: Vec<ChangeId>,
    /// Whose signature was no good.
    pub bad_signatures: Vec<ChangeId>,
}

/// What became of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeemAnswer {
    /// What became of it.
    pub result: Redemption,
    /// The space that was joined, or zeros.
    pub space: PublicKey,
    /// For people; at most 200 bytes.
    pub text: String,
}

/// What to do, in order.
#[derive(Debug)]
pub enum Output {
    /// Send this frame.
    Send(Bytes),
    /// Check the signatures of these changes, offer them to the store in this order, make them durable, and answer with
    /// [`Input::Stored`]. Tickets are worked on in order.
    Store {
        /// Names them.
        ticket: u64,
        /// The space.
        space: PublicKey,
        /// The timeline.
        timeline: TimelineId,
        /// The changes.
        changes: Vec<Signed<Change>>,
    },
    /// Both sides proved who they are.
    Ready(Remote),
    /// Both sides agreed to sync a timeline.
    Opened {
        /// The space.
        space: PublicKey,
        /// The timeline.
        timeline: TimelineId,
        /// Whether the other side asked first.
        by_remote: bool,
        /// What the other side is to be sent.
        wants: Wants,
        /// What it was told to send.
        asked: Wants,
    },
    /// The other side said what it has of a timeline, and what it is to be sent.
    Fed {
        /// The timeline.
        timeline: TimelineId,
        /// What it said.
        standing: Standing,
    },
    /// The other side does not sync a timeline that we asked for.
    Denied {
        /// The timeline.
        timeline: TimelineId,
        /// Why.
        code: Code,
        /// Seconds after which to try again; 0 says nothing.
        retry_after_s: u64,
    },
    /// The other side asked for a timeline of a space, of which it says that it has some, and it was refused: by what is known here
    /// it may not have it.
    InVain {
        /// The space.
        space: PublicKey,
    },
    /// A timeline is no longer synced on this link.
    Closed {
        /// The timeline.
        timeline: TimelineId,
        /// Why.
        code: Code,
        /// Seconds after which to try again; 0 says nothing.
        retry_after_s: u64,
    },
    /// All that the other side had when the timeline was opened is here and durable.
    CaughtUp {
        /// The timeline.
        timeline: TimelineId,
        /// False if some of it was refused.
        complete: bool,
    },
    /// The other side takes nothing more of these authors, before its owner has said so.
    NotTaken {
        /// The timeline.
        timeline: TimelineId,
        /// The authors.
        authors: Vec<PublicKey>,
    },
    /// How far those are of whom nothing is taken: heads, whose signatures are still to be checked, and who built on each.
    Weighed {
        /// The space.
        space: PublicKey,
        /// The timeline.
        timeline: TimelineId,
        /// The heads.
        heads: Vec<(Signed<Head>, BTreeSet<PublicKey>)>,
    },
    /// Remember this for this peer and timeline, instead of what was told before; `Replica::resume` asks for it.
    Resume {
        /// The timeline.
        timeline: TimelineId,
        /// What is here of the other's log.
        cursor: Option<Cursor>,
    },
    /// Changes that [`Input::Fetch`] asked for. Their signatures are not checked.
    Fetched {
        /// The changes.
        changes: Vec<Signed<Change>>,
    },
    /// The other side has all that arrived here up to this number, durably.
    Delivered {
        /// The timeline.
        timeline: TimelineId,
        /// The arrival number.
        upto: u64,
    },
    /// The other side hands in a token: answer with [`Input::RedeemAnswer`].
    Redeem {
        /// The token.
        token: [u8; 16],
        /// The device that asks; it was proven.
        device: PublicKey,
    },
    /// The other side answered [`Input::Redeem`].
    Redeemed(RedeemAnswer),
    /// The other side hands in notices: check them, keep them, and answer with [`Input::Took`].
    Put {
        /// For the inbox of this space.
        space: PublicKey,
        /// The notices, whose signatures are still to be checked.
        notices: Vec<Signed<Change>>,
    },
    /// The other side answered [`Input::Put`].
    Took {
        /// The space.
        space: PublicKey,
        /// What became of each.
        results: Vec<(ChangeId, Taking)>,
    },
    /// Somebody looks at a path at the other side, or it asks who does here.
    Presence {
        /// The path's timeline, in which the other side may read.
        timeline: TimelineId,
        /// The path.
        path: Path,
        /// Who; with nobody, it is asked.
        seats: Vec<Seat>,
    },
    /// The other side says where peers are. Signatures are still to be checked.
    Records(Vec<Signed<PeerRecord>>),
    /// The other side asks where peers are: answer with [`Input::Records`], or not at all.
    AskRecords(Vec<PublicKey>),
    /// The other side asks which of these files of a space are here whole: answer with [`Input::Files`], or not at all.
    AskFiles(PublicKey, Vec<BlobHash>),
    /// The other side says that it holds these files of a space.
    Files(PublicKey, Vec<BlobHash>),
    /// Others hold a timeline, says the other side.
    Providers {
        /// The timeline.
        timeline: TimelineId,
        /// The others.
        providers: Vec<Provider>,
    },
    /// The other side did something that it should not. 64 points are a ban of 10 minutes.
    Penalty {
        /// How bad.
        points: u32,
        /// What.
        fault: Fault,
    },
    /// Call with [`Input::Timer`] at this time, instead of any time set before.
    SetTimer {
        /// On the clock of `now_ms`.
        at_ms: u64,
    },
    /// Send what was handed over, and end the connection. Nothing comes after this.
    End(End),
}

/// What the other side did wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A frame that is none.
    #[error("a malformed frame")]
    Frame(#[source] DecodeError),
    /// A change that is none.
    #[error("a malformed change")]
    Change(#[source] ChangeError),
    /// A peer record that is none.
    #[error("a malformed peer record")]
    Record(#[source] DecodeError),
    /// A rule of the protocol was broken.
    #[error("{0}")]
    Rule(&'static str),
    /// It did not prove who it is.
    #[error("a signature of the session that does not fit")]
    Proof,
    /// So many changes were not signed by their authors.
    #[error("{0} changes with bad signatures")]
    BadSignatures(u32),
    /// Changes that it named, or that what it sent builds on, did not come.
    #[error("changes that were named were withheld")]
    Withheld,
    /// More than is taken.
    #[error("a flood of changes out of order, tips or questions")]
    Flood,
    /// Thousands of its changes were refused.
    #[error("thousands of changes that no peer admits")]
    Refused,
    /// Many tokens were tried.
    #[error("too many tokens")]
    Tokens,
}

impl Fault {
    /// How bad it is; 64 points are a ban of 10 minutes.
    #[must_use]
    pub fn points(&self) -> u32 {
        match self {
            Self::Frame(_) | Self::Change(_) | Self::Record(_) | Self::Rule(_) | Self::Proof | Self::Refused => 64,
            Self::BadSignatures(count) => (*count).min(64),
            Self::Withheld => 8,
            Self::Flood | Self::Tokens => 16,
        }
    }
}

/// Why a link ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// We were asked to end it.
    Asked(Code),
    /// The other side ended it.
    Remote {
        /// Why.
        code: Code,
        /// Seconds after which to try again; 0 says nothing.
        retry_after_s: u64,
        /// For people.
        text: String,
    },
    /// The other side broke the rules; [`Output::Penalty`] said how.
    Fault,
    /// The other side speaks another version, or needs a feature that we lack.
    Unsupported(String),
    /// The other side did not prove who it is in time.
    Timeout,
    /// The store could not be read.
    Store(ReplicaError),
}

/// What went over a link so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes that were sent.
    pub changes_sent: u64,
    /// Changes that came.
    pub changes_received: u64,
    /// Of these, those that were here already or on their way.
    pub duplicates: u64,
    /// Of these, those that the store has now.
    pub admitted: u64,
    /// Of these, those that were refused for good.
    pub refused: u64,
    /// Times that changes were asked for by name.
    pub needs_sent: u64,
    /// Bytes of frames that were sent.
    pub bytes_sent: u64,
    /// Bytes of frames that came.
    pub bytes_received: u64,
    /// Most bytes of changes that were not given back at any moment, over all channels.
    pub unacked_max: u64,
}
