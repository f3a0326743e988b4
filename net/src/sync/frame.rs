//! The frames of a link: what is in them, and how much at most. Their bytes are in `encoding`.

use bytes::Bytes;
use timebus_identity::{PublicKey, Signature};
use timebus_store::blobs::BlobHash;
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::path::Path;

use crate::sync::replica::{Cursor, Tip};

mod encoding;

/// The version that must be equal.
pub const MAJOR: u64 = 1;
/// Largest frame: the largest change and the fields around it.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024 + 8 * 1024;
/// Most features in a Hello.
pub const FEATURES_MAX: usize = 32;
/// Most keys that one side proves: its devices of a lifetime, and its root.
pub const KEYS_MAX: usize = 16;
/// Longest name of a peer.
pub const NAME_BYTES_MAX: usize = 64;
/// Most addresses of a peer.
pub const ADDRESSES_MAX: usize = 8;
/// Longest address.
pub const ADDRESS_BYTES_MAX: usize = 128;
/// Most heads that are named; who has more says so, and sends tips.
pub const HEADS_MAX: usize = 64;
/// Most tips of a page, so that a page is less than 75 KiB.
pub const TIPS_MAX: usize = 1000;
/// Most tips of one author that are named: only who forks his chain has several.
pub const TIPS_PER_AUTHOR_MAX: usize = 16;
/// Most changes that are asked for at once.
pub const NEED_IDS_MAX: usize = 256;
/// Most changes that the asker says he has.
pub const NEED_HAVE_MAX: usize = 64;
/// Most changes of a frame.
pub const CHANGES_MAX: usize = 4096;
/// Longest text for people.
pub const TEXT_BYTES_MAX: usize = 200;
/// Most other holders that are named.
pub const PROVIDERS_MAX: usize = 8;
/// The feature of peers that hand in and take notices.
pub const NOTICES: u64 = 1;
/// Most notices of a frame.
pub const NOTICES_MAX: usize = 16;
/// The feature of peers that tell each other where peers are.
pub const RECORDS: u64 = 3;
/// Most records of a frame.
pub const RECORDS_OF_FRAME_MAX: usize = 16;
/// Most keys that are asked for at once.
pub const ASKED_MAX: usize = 16;
/// Largest notice in a frame: header, signature and body.
pub const NOTICE_FRAME_BYTES_MAX: usize = 8 * 1024;
/// The feature of peers that tell each other which files of a space they hold.
pub const HOLDINGS: u64 = 4;
/// Most files of a frame.
pub const FILES_MAX: usize = 256;
/// The feature of peers that say of whom they want what is new of a timeline, and tell the others only that there is some.
pub const FEEDS: u64 = 5;
/// Most changes that are named with it: heads, and what the other side named last.
pub const FEED_HEADS_MAX: usize = 32;
/// The feature of peers that tell each other who looks at what.
pub const PRESENCE: u64 = 2;
/// Most seats of a frame: as many as there are at one path.
pub const SEATS_MAX: usize = 64;
/// Largest value of a seat, as JSON.
pub const SEAT_BYTES_MAX: usize = 1024;
/// The feature of peers that tell how much waits of somebody of whom the other side takes nothing more.
pub const WEIGHS: u64 = 7;
/// Most authors, changes and heads of a frame, of each.
pub const WEIGHED_MAX: usize = 64;
/// Largest channel number: far more than a link lives to open.
pub const CHANNEL_MAX: u64 = u32::MAX as u64;

/// One message of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of each side.
    Hello(Hello),
    /// The second frame of each side: who it is.
    Auth(Auth),
    /// Asks to sync a timeline.
    Open(Open),
    /// Agrees.
    Opened(Opened),
    /// What the sender has, author by author.
    Tips {
        /// The channel.
        channel: u64,
        /// Whether more pages follow.
        page: Page,
        /// Strictly ascending.
        tips: Vec<Tip>,
    },
    /// Asks for changes by name.
    Need {
        /// The channel.
        channel: u64,
        /// What is asked for; strictly ascending.
        ids: Vec<ChangeId>,
        /// What the asker has; strictly ascending. What lies before these need not be sent.
        have: Vec<ChangeId>,
    },
    /// Changes, each after those it builds on.
    Changes {
        /// The channel.
        channel: u64,
        /// What they are sent for.
        part: Part,
        /// All that arrived at the sender up to this number was sent by now, or the receiver had it.
        upto: u64,
        /// `header ‖ signature ‖ body` each.
        changes: Vec<Bytes>,
    },
    /// Gives credit back.
    Ack(Ack),
    /// Everything the sender had was sent; what follows is new.
    Live {
        /// The channel.
        channel: u64,
        /// As in [`Frame::Changes`].
        upto: u64,
    },
    /// Ends a channel or the link.
    Close(Close),
    /// Hands in the token of an invite.
    Redeem {
        /// The token.
        token: [u8; 16],
        /// The device that asks; one of the keys that were proven.
        device: PublicKey,
    },
    /// Answers [`Frame::Redeem`].
    Redeemed {
        /// What became of it.
        result: Redemption,
        /// The space that was joined, or zeros.
        space: PublicKey,
        /// For people.
        text: String,
    },
    /// What the sender has now, and whether it is to be sent what else there is.
    Feed {
        /// The channel.
        channel: u64,
        /// What is to be sent to it.
        wants: Wants,
        /// Whether others wait already for what it sends.
        is_busy: bool,
        /// Whether it has more heads than are named.
        more: bool,
        /// How many bytes of changes it has, as far as that is quickly told: who has more is asked first.
        bytes: u64,
        /// Its heads; strictly ascending.
        heads: Vec<ChangeId>,
    },
    /// Names others who hold a timeline.
    Providers {
        /// The channel.
        channel: u64,
        /// The others.
        providers: Vec<Provider>,
    },
    /// Says where peers are: records as signed.
    Records(Vec<Bytes>),
    /// Asks where peers are, by node key or space; strictly ascending.
    AskRecords(Vec<PublicKey>),
    /// Asks which of these files of a space the other side holds whole.
    AskFiles {
        /// The space that names them.
        space: PublicKey,
        /// Their hashes, ascending; 1 to [`FILES_MAX`].
        files: Vec<BlobHash>,
    },
    /// Answers: those it holds, of the files that were asked for.
    Files {
        /// The space that names them.
        space: PublicKey,
        /// Their hashes, ascending; up to [`FILES_MAX`].
        files: Vec<BlobHash>,
    },
    /// Hands in notices for the inbox of a space.
    Put {
        /// The space.
        space: PublicKey,
        /// `header ‖ signature ‖ body` each.
        notices: Vec<Bytes>,
    },
    /// Says who looks at a path at the sender's, and what others see of him. Nobody asks who looks there at the receiver's.
    Presence {
        /// The channel of the path's timeline.
        channel: u64,
        /// The path.
        path: Path,
        /// Who; strictly ascending by name.
        seats: Vec<Seat>,
    },
    /// Says of whom the sender takes no changes for now, asks how much there is of them, and answers that. None of the lists
    /// has more than [`WEIGHED_MAX`] entries, and one at least has some.
    Weigh {
        /// The channel.
        channel: u64,
        /// Of these authors nothing more is to be sent but the heads of their latest changes; strictly ascending.
        authors: Vec<PublicKey>,
        /// Of these changes the heads are wanted; strictly ascending.
        ids: Vec<ChangeId>,
        /// What the receiver asked for: `header ‖ signature` each.
        heads: Vec<Bytes>,
    },
    /// Answers [`Frame::Put`].
    Took {
        /// The space.
        space: PublicKey,
        /// What became of each, by the id of its change.
        results: Vec<(ChangeId, Taking)>,
    },
}

/// The first frame of each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Must be equal.
    pub major: u64,
    /// Tells what else to expect.
    pub minor: u64,
    /// Of no meaning to the protocol.
    pub patch: u64,
    /// Strictly ascending by id.
    pub features: Vec<Feature>,
    /// The largest frame that the sender takes; at least [`FRAME_BYTES_MAX`].
    pub frame_bytes_max: u64,
    /// Fresh randomness.
    pub nonce: [u8; 32],
}

/// Something beyond the version that a peer can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its number.
    pub id: u64,
    /// Whether its peer must know it too.
    pub required: bool,
}

/// Who the sender is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Its own space.
    pub space: PublicKey,
    /// The keys it holds, with what each signed; strictly ascending by key, at least one.
    pub proofs: Vec<(PublicKey, Signature)>,
    /// What it calls itself.
    pub name: String,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
}

/// Asks to sync a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// A number never used before on this link; odd from the initiator of the link, even from the other.
    pub channel: u64,
    /// The space.
    pub space: PublicKey,
    /// The timeline.
    pub timeline: TimelineId,
    /// 0: whole changes. 1: the same, but none before a [`Frame::Feed`] says so; only after both named [`FEEDS`].
    pub mode: u8,
    /// What the sender has.
    pub holding: Holding,
    /// Bytes of Changes that it takes before it gave any back.
    pub credit: u64,
}

/// Agrees to sync a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The channel of the Open.
    pub channel: u64,
    /// What the sender has.
    pub holding: Holding,
    /// Bytes of Changes that it takes before it gave any back.
    pub credit: u64,
    /// How the opener learns what the sender lacks.
    pub lacks: Lacks,
}

/// What one side has of a timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Changes that nothing builds on; strictly ascending.
    pub heads: Vec<ChangeId>,
    /// Whether there are more than these.
    pub more: bool,
    /// Names the sender's log.
    pub incarnation: [u8; 16],
    /// The last number in it.
    pub end: u64,
    /// What the sender has of the receiver's log.
    pub cursor: Option<Cursor>,
}

/// How the other side learns what the sender lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacks {
    /// From the tips that follow.
    TipsFollow,
    /// Nothing: all heads that were named to it are known.
    Nothing,
    /// From the cursor in its [`Holding`].
    AfterCursor,
}

/// Whether more pages of tips follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// More follow.
    More,
    /// This is the last one.
    Last,
    /// There are no pages: the sender has all heads that were named to it, and lacks nothing. The list is empty.
    LacksNothing,
}

/// What changes are sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// They are next in the sender's log.
    Stream,
    /// They answer a Need, and more follow.
    Answer,
    /// They answer a Need and nothing more follows. Only here the list may be empty.
    AnswerEnds,
}

/// Gives credit back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The channel.
    pub channel: u64,
    /// Bytes of Changes frames that were dealt with.
    pub bytes: u64,
    /// Up to this number the receiver's log is durable at the sender of this frame; 0 unknown.
    pub durable: u64,
    /// As `upto` in [`Frame::Changes`].
    pub upto: u64,
}

/// Ends a channel or the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The channel; 0 is the link.
    pub channel: u64,
    /// Why.
    pub code: Code,
    /// Seconds after which it makes sense to try again; 0 says nothing.
    pub retry_after_s: u64,
    /// For people.
    pub text: String,
}

/// Why something ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It is no longer wanted.
    Done,
    /// The other side broke the rules.
    Protocol,
    /// A version, feature or mode that is not known.
    Unsupported,
    /// Not held here, or not for you.
    NotHere,
    /// Not now.
    Busy,
    /// Not you, for a while.
    Banned,
    /// More than is taken.
    TooMuch,
    /// What was asked for is not there.
    NotFound,
    /// The peer stops.
    Going,
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redemption {
    /// A grant was issued.
    Granted,
    /// Unknown, used up or expired, told alike.
    Invalid,
    /// The owner has to confirm.
    Later,
    /// Too many try.
    Busy,
}

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It is in the inbox, or a later one is, durably.
    Kept,
    /// There is no such inbox here, or it is not for you; told alike.
    NotHere,
    /// Its sender has no room left there.
    Full,
    /// It is none that could be kept.
    Refused,
    /// Not now.
    Busy,
}

/// What one side of a channel is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wants {
    /// Nothing but answers to what it asks for: it has it from others, and is told what there is.
    Nothing,
    /// What is new, like the rest.
    News,
    /// Everything: from here it has it, and from nobody else.
    All,
}

/// Somebody who holds a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its node key.
    pub node: PublicKey,
    /// Where it can be dialled.
    pub addresses: Vec<String>,
}

/// Somebody's place at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Tells it from others of the same peer.
    pub name: [u8; 8],
    /// What others see, as JSON; `None` when he is gone.
    pub value: Option<Bytes>,
}

#[cfg(test)]
mod tests;
