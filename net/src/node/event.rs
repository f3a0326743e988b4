//! What a node is told, and what it answers.

use std::collections::BTreeSet;

use bytes::Bytes;
use timebus_identity::{PublicKey, Signed, Verified};
use timebus_store::blobs::BlobHash;
use timebus_store::change::{Change, Head};
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::path::Path;

use super::LinkId;
use super::book::Moved;
use super::outbox::Sent;
use super::placing::{Holds, Placing};
use crate::community::{HandOver, Membership};
use crate::dht::DhtId;
use crate::link::Standing;
use crate::record::PeerRecord;
use crate::sync::frame::{Seat, Taking};
use crate::sync::{Binding, Prove, RedeemAnswer, Remote, Role, Stored};

/// Who looks at a path at another peer.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The path's timeline, in which that peer may read.
    pub timeline: TimelineId,
    /// The path.
    pub path: Path,
    /// Whose peer it is, if his space is here and says so; else its key.
    pub by: PublicKey,
    /// The key that the peer has proven.
    pub device: PublicKey,
    /// Who; with nobody, it is asked who looks there here.
    pub seats: Vec<Seat>,
}

/// Something happened.
pub enum Event {
    /// There is a link.
    LinkUp {
        /// Its name from now on.
        link: LinkId,
        /// The other's node key, as the transport proved it; `None` on a websocket.
        node: Option<PublicKey>,
        /// Whom this peer called, if it opened the link.
        called: Option<PublicKey>,
        /// Who called.
        role: Role,
        /// What ties a session to it.
        binding: Binding,
        /// Fresh randomness.
        nonce: [u8; 32],
        /// Signs for the keys of this peer.
        prove: Prove,
        /// The way it takes, for people.
        way: String,
    },
    /// A frame came.
    Frame {
        /// On which link.
        link: LinkId,
        /// The frame.
        bytes: Bytes,
    },
    /// A link takes so many bytes now.
    Writable {
        /// Which link.
        link: LinkId,
        /// How many.
        bytes: u64,
    },
    /// There is no room for a link that somebody opened who is known no better, see [`Act::Stand`].
    NoRoom {
        /// Which link.
        link: LinkId,
    },
    /// The store takes nothing now, so nothing is to be read over this link.
    StoreFailed {
        /// Which link.
        link: LinkId,
    },
    /// Changes of these authors, that came over a link, were held back until the owner says more.
    HeldBack {
        /// Which link.
        link: LinkId,
        /// The timeline.
        timeline: TimelineId,
        /// Their authors.
        authors: Vec<PublicKey>,
    },
    /// A link is no more.
    LinkDown {
        /// Which link.
        link: LinkId,
        /// Why, for people.
        why: String,
    },
    /// A call did not lead to a link.
    NotReached {
        /// Who was called.
        node: PublicKey,
        /// Why, for people.
        why: String,
    },
    /// What became of [`Act::Store`].
    Stored {
        /// Which link asked.
        link: LinkId,
        /// What became of it.
        stored: Stored,
    },
    /// These changes are damaged here: whoever syncs the timeline with us is asked for them.
    Fetch {
        /// The timeline.
        timeline: TimelineId,
        /// The changes; at most 256.
        ids: Vec<ChangeId>,
    },
    /// Whoever syncs the timeline with us and may read there is told who looks at a path here; with nobody, he is asked.
    Presence {
        /// The path's timeline.
        timeline: TimelineId,
        /// The path.
        path: Path,
        /// Who; strictly ascending by name, at most 64.
        seats: Vec<Seat>,
    },
    /// The log has grown, or rights have changed.
    Arrived,
    /// The time of [`Act::Timer`] has come.
    Timer,
    /// Where this peer can be called now.
    Addresses(Vec<String>),
    /// The owner wants to have a space, and everything new in it.
    Follow {
        /// Which.
        space: PublicKey,
        /// Who may have it, and where they are.
        via: Vec<(PublicKey, Vec<String>)>,
    },
    /// The owner is called something else now. See [`super::Node::know_profile`].
    Renamed,
    /// The owner agreed, as a guardian, that a space has a new root.
    Agree {
        /// Which.
        space: PublicKey,
        /// Its new root.
        root: PublicKey,
    },
    /// The owner does not want it any more.
    Unfollow {
        /// Which.
        space: PublicKey,
    },
    /// Somebody reads a space.
    Visit {
        /// Which.
        space: PublicKey,
    },
    /// What is held of the spaces of members of communities is this from now on.
    Hold(Box<Holds>),
    /// Something large of a space is fetched: it comes sooner from many.
    Gather {
        /// Which.
        space: PublicKey,
    },
    /// The owner wants a peer to be called now.
    Call {
        /// Who.
        node: PublicKey,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// The owner took an invite.
    Join {
        /// Where it leads.
        space: PublicKey,
        /// Who gave it.
        node: PublicKey,
        /// Where that peer may be.
        addresses: Vec<String>,
        /// The secret.
        token: [u8; 16],
    },
    /// Answers [`Act::Redeem`].
    RedeemAnswer {
        /// Which link asked.
        link: LinkId,
        /// The answer.
        answer: RedeemAnswer,
    },
    /// The owner does not want to have to do with a peer or a space any more, or again.
    Block {
        /// A node key, a device key or a space.
        who: PublicKey,
        /// Whether it is blocked from now on.
        is_blocked: bool,
    },
    /// The owner leaves a notice in somebody's inbox.
    Leave(Box<Sent>),
    /// What became of [`Act::Notices`].
    Took {
        /// Which link asked.
        link: LinkId,
        /// For which inbox.
        space: PublicKey,
        /// What became of each.
        results: Vec<(ChangeId, Taking)>,
    },
    /// The owner calls a space by a name; an empty one takes the name away.
    Petname {
        /// Which.
        space: PublicKey,
        /// The name.
        name: String,
    },
    /// The owner says that a contact has a new key, to which his name goes; or takes it back.
    Moved {
        /// The old key.
        from: PublicKey,
        /// The new one, and how both were; `None` takes it back.
        moved: Option<Box<Moved>>,
    },
    /// The owner is a member of a community, or no longer.
    Community {
        /// Which.
        space: PublicKey,
        /// What he is there.
        membership: Option<Membership>,
    },
    /// What this peer held for a community goes to others, or no longer.
    HandOver {
        /// Which.
        space: PublicKey,
        /// How, as long as it goes on.
        handing: Option<HandOver>,
    },
    /// These are the machines of the members of a community that the owner is in.
    Members {
        /// Which.
        space: PublicKey,
        /// Their node keys.
        nodes: Vec<PublicKey>,
    },
    /// What a community that the owner is in says of where things are to be.
    Placing {
        /// Which.
        space: PublicKey,
        /// That.
        placing: Placing,
    },
    /// A machine is to be asked which of these files of a space it holds, if it is connected.
    AskFiles {
        /// Its node key.
        node: PublicKey,
        /// The space that names them.
        space: PublicKey,
        /// Their hashes, ascending; at most 256.
        files: Vec<BlobHash>,
    },
    /// Answers [`Act::AskFiles`].
    Files {
        /// On which link.
        link: LinkId,
        /// The space that names them.
        space: PublicKey,
        /// Those that are here.
        files: Vec<BlobHash>,
    },
    /// A DHT has this record, unchecked.
    Learned {
        /// Which.
        dht: DhtId,
        /// The record.
        record: Box<Signed<PeerRecord>>,
    },
    /// The public DHT was asked for these keys: what it has of them was told before.
    LookedFor {
        /// Them.
        keys: Vec<PublicKey>,
        /// Whether it is asked for others who are missed, too.
        is_on: bool,
    },
    /// Something is wanted of these machines: they are called for a while.
    Seek {
        /// Their node keys.
        nodes: Vec<PublicKey>,
    },
    /// The owner allows public relays, or no longer.
    Public {
        /// Whether.
        is_allowed: bool,
    },
    /// The owner allows that the public DHT hears where he is and whom he looks for, or no longer.
    PublicDht {
        /// Whether.
        is_allowed: bool,
    },
    /// The owner allows relays that an invite names.
    Relays(Vec<String>),
    /// A peer broke the rules of something that runs beside the sessions.
    Blame {
        /// On which link.
        link: LinkId,
        /// How much.
        points: u32,
        /// How.
        why: &'static str,
    },
    /// The own record, as [`Act::Sign`] asked for.
    Signed(Box<Verified<PeerRecord>>),
    /// The owner wants to know where somebody is, by his space or node key.
    Find {
        /// Who.
        who: PublicKey,
    },
    /// This peer stops.
    Stop,
}

/// What to do.
pub enum Act {
    /// Send a frame.
    Send {
        /// Over which link.
        link: LinkId,
        /// The frame.
        bytes: Bytes,
    },
    /// Check, admit and keep changes, and say what became of them.
    Store {
        /// Which link asks.
        link: LinkId,
        /// Names them.
        ticket: u64,
        /// The space that they are of.
        space: PublicKey,
        /// The timeline that they are of.
        timeline: TimelineId,
        /// The changes.
        changes: Vec<Signed<Change>>,
    },
    /// Check heads of changes that are held back, remember how much there is, and see whether those who built on them have
    /// room for it: then the link is to begin anew, as with [`Event::StoreFailed`].
    Weigh {
        /// Which link told.
        link: LinkId,
        /// The space.
        space: PublicKey,
        /// The timeline.
        timeline: TimelineId,
        /// The heads, and who built on each.
        heads: Vec<(Signed<Head>, BTreeSet<PublicKey>)>,
    },
    /// These came of [`Event::Fetch`], unchecked.
    Fetched {
        /// The changes.
        changes: Vec<Signed<Change>>,
    },
    /// Call a peer.
    Call {
        /// Who.
        node: PublicKey,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// The peer that opened a link is this, as far as is known now. If there is no room for such as it, [`Event::NoRoom`] follows.
    Stand {
        /// Which.
        link: LinkId,
        /// What it is.
        standing: Standing,
    },
    /// Close a link, after what was sent.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        code: u8,
        /// Why, for people.
        text: String,
    },
    /// Somebody hands in the token of an invite.
    Redeem {
        /// On which link.
        link: LinkId,
        /// The token.
        token: [u8; 16],
        /// For which device.
        device: PublicKey,
        /// Who.
        remote: Remote,
    },
    /// Somebody hands in notices for the own inbox: check and keep them, and say what became of them.
    Notices {
        /// On which link.
        link: LinkId,
        /// The notices.
        notices: Vec<Signed<Change>>,
        /// Who.
        remote: Remote,
    },
    /// Somebody who may have a space asks which of these files, that it may name, are here whole.
    AskFiles {
        /// On which link.
        link: LinkId,
        /// The space.
        space: PublicKey,
        /// Their hashes.
        files: Vec<BlobHash>,
    },
    /// A machine says that it holds these files of a space.
    Files {
        /// Its node key.
        node: PublicKey,
        /// The space.
        space: PublicKey,
        /// Their hashes.
        files: Vec<BlobHash>,
    },
    /// Somebody looks at a path at another peer, or it asks who does here.
    Presence(Heard),
    /// Sign the own record with the node key, and say so with [`Event::Signed`].
    Sign(Box<PeerRecord>),
    /// The book has changed.
    Save,
    /// The outbox has changed.
    SaveOutbox,
    /// Come back with [`Event::Timer`] at this time, instead of any time said before.
    Timer {
        /// On the clock of `now_ms`.
        at_ms: u64,
    },
    /// What [`Node::peers`](super::Node::peers) or [`Node::spaces`](super::Node::spaces) tell has changed.
    Changed,
}
