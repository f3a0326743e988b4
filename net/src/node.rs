//! Whom to call, what to sync with whom, and what people are told about it.
//!
//! A [`Node`] has a [`Session`] for each link and a [`Book`] of what is to be remembered. What happens goes in as an
//! [`Event`]; what is to be done comes out as [`Act`]s, in order.
//!
//! Deliberately not here: no socket, no clock, no disk, no randomness, so that a simulator runs it as it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use timebus_identity::PublicKey;
use timebus_store::ids::{ChangeId, TimelineId};

use crate::link::Standing;
use crate::sync::frame::{Code, FEEDS, Feature, HOLDINGS, NOTICES, PRESENCE, RECORDS, Redemption, WEIGHS};
use crate::sync::{Config as SessionConfig, Input, Remote, Replica, Role, Session, Start};

pub mod book;
mod calls;
pub mod clocks;
mod event;
mod feeds;
pub mod introductions;
mod joining;
mod knocks;
mod known;
mod lookup;
mod notices;
pub mod outbox;
mod outputs;
mod placing;
pub mod records;
mod spaces;
mod standing;
mod status;

use book::{Book, Join, RELAYS_MAX, Source};
pub use event::{Act, Event, Heard};
use feeds::Feed;
use introductions::CROWDED_S;
use knocks::Knocks;
use lookup::By;
pub use lookup::{Found, Teller};
use outbox::Outbox;
pub(crate) use placing::was_there;
pub use placing::{Holds, Placing};
use spaces::core;
pub(crate) use status::from;
pub use status::{Giver, Givers, PeerState, PeerStatus, SpaceState, SpaceStatus};

/// Milliseconds until the second call of a peer that was not reached; it doubles from call to call.
const RETRY_MS: u64 = 1_000;
/// Most milliseconds between two calls of a peer.
const RETRY_MS_MAX: u64 = 5 * 60_000;
/// A link that lasted so long was a good one: after it the peer is called again at once.
const GOOD_LINK_MS: u64 = 10_000;
/// Milliseconds until a timeline is asked for again that a peer did not give, in the end.
const DENIED_MS: u64 = 60_000;
/// The same at first; it doubles with each time. Who comes with a new device may be let in as soon as it is known whose it is.
const DENIED_FIRST_MS: u64 = 2_000;
/// How long a space that was read stays open, so that the next reading is fresh.
pub(crate) const VISIT_MS: u64 = 10 * 60_000;
/// How long more peers are called for something large that is fetched, without being told again.
pub(crate) const GATHER_MS: u64 = 90_000;
/// Guests and peers whose address was typed that are called again and again, those seen last; others call us, or are
/// called when the owner wants it.
const CALLED_BACK_MAX: usize = 64;
/// Bytes of changes that the channels of one link may have under way beyond the least that each has. Half of it is what
/// the first channel gets: 10 000 small changes go over it without waiting for an answer.
const LINK_EXTRA_BYTES: u64 = 16 * 1024 * 1024;
/// The same for all links together; later ones get what is left.
const EXTRA_BYTES: u64 = 64 * 1024 * 1024;
/// How long changes are looked for that are damaged here.
const FETCH_MS: u64 = 30_000;

/// How long a machine is called of which something is wanted.
const SEEK_MS: u64 = 2 * 60_000;

/// Names a link.
pub type LinkId = u64;

/// Who this peer is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its node key.
    pub node: PublicKey,
    /// Its own space.
    pub space: PublicKey,
    /// The key that it signs changes with.
    pub device: PublicKey,
    /// What it calls itself.
    pub name: String,
    /// Whether it calls nobody.
    pub is_offline: bool,
    /// Links that others may open at once. When nearly all are taken, newcomers are told who else has what they want, and
    /// sent there.
    pub links_max: usize,
    /// Whether it says from whom it wants what is new of a timeline. Peers of before that do not.
    pub has_feeds: bool,
}

/// A timeline on a link.
#[derive(Debug)]
struct Channel {
    space: PublicKey,
    is_caught_up: bool,
}

/// A link and what goes over it.
struct Linked {
    session: Session,
    node: Option<PublicKey>,
    /// Whom this peer called, where a websocket answered.
    callee: Option<PublicKey>,
    /// Whether it showed that it is he.
    is_callee: bool,
    /// What it was told that the owner is called.
    called: String,
    role: Role,
    way: String,
    remote: Option<Remote>,
    channels: BTreeMap<TimelineId, Channel>,
    /// Timelines that were not given, with the time at which they are asked for again.
    denied: BTreeMap<TimelineId, (PublicKey, u64)>,
    /// How often each of them was not given, one time after the other.
    refusals: BTreeMap<TimelineId, u32>,
    /// Spaces for which it asked in vain, though it says that it has some of them.
    missed: BTreeSet<PublicKey>,
    /// Timelines into which we brought more than the other side takes before its owner has said so.
    waiting: BTreeSet<TimelineId>,
    timer_ms: Option<u64>,
    /// Tokens that were handed in, and when one is again.
    redeems: u32,
    redeem_ms: Option<u64>,
    points: u32,
    up_ms: u64,
    /// When notices may be handed in again; `None` while an answer is awaited.
    hand_in_ms: Option<u64>,
    /// What of [`EXTRA_BYTES`] was lent to it.
    extra_bytes: u64,
    /// Who the other side is, if it opened the link, as was told to where links come in.
    standing: Standing,
    /// Bytes that came and were sent over it in all.
    carried: (u64, u64),
}

/// A peer that is to be called.
#[derive(Debug, Default)]
struct Call {
    is_calling: bool,
    attempts: u32,
    next_ms: u64,
    problem: Option<String>,
}

/// All links, calls and wishes of one peer.
pub struct Node {
    config: Config,
    addresses: Vec<String>,
    book: Book,
    outbox: Outbox,
    links: BTreeMap<LinkId, Linked>,
    calls: BTreeMap<PublicKey, Call>,
    knocks: Knocks,
    bans: BTreeMap<PublicKey, u64>,
    /// Up to which arrival number some other peer has what is here on its disk, as far as was said since the start.
    delivered: BTreeMap<TimelineId, u64>,
    /// Spaces that are read, and until when they stay open.
    visits: BTreeMap<PublicKey, u64>,
    /// Those for which the public DHT was asked; `None` while nobody asks it.
    looked_for: Option<BTreeSet<PublicKey>>,
    /// Spaces of which something large is fetched, and until when.
    gathering: BTreeMap<PublicKey, u64>,
    /// Changes that are fetched again, and until when.
    fetches: BTreeMap<TimelineId, (Vec<ChangeId>, u64)>,
    /// The machines of the members of communities that the owner is in, by their spaces.
    members: BTreeMap<PublicKey, BTreeSet<PublicKey>>,
    /// What those communities say of where things are to be.
    placing: BTreeMap<PublicKey, Placing>,
    /// The machines that may have a space that is read, of members of communities.
    holders: BTreeMap<PublicKey, Vec<PublicKey>>,
    /// What is held of their spaces.
    holds: Holds,
    /// Until when visits of those last, by that alone and by others.
    held: BTreeMap<PublicKey, (u64, u64)>,
    /// Machines that something is wanted of for now, and until when.
    seeks: BTreeMap<PublicKey, u64>,
    /// Who told of records that came since the start.
    told: BTreeMap<PublicKey, Teller>,
    /// Peers whose last record was of a time that has not come, how far that was ahead when they said it themselves, and when that was.
    ahead: BTreeMap<PublicKey, (u64, u64)>,
    /// From whom what is new of a timeline comes, and to whom it goes.
    feeds: BTreeMap<TimelineId, Feed>,
    /// The timelines that are wanted of each space that is.
    plans: BTreeMap<PublicKey, Vec<TimelineId>>,
    /// [`Replica::statements`] when those were made.
    statements: u64,
    timer_ms: Option<u64>,
    /// What the owner says in his space that he is called.
    profile: Option<String>,
    is_stopping: bool,
    /// Inputs for sessions that came up while others were dealt with.
    inputs: VecDeque<(LinkId, Input)>,
    is_performing: bool,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({} links)", self.links.len())
    }
}

/// New roots of one space that a guardian's peer lets in; of more the latest.
const AGREED_MAX: usize = 8;

/// What a peer is remembered by: its node key, or on a websocket the first of its keys.
fn id_of(remote: &Remote, node: Option<PublicKey>) -> PublicKey {
    node.or_else(|| remote.keys.first().copied()).unwrap_or(remote.space)
}

impl Node {
    /// A node without links, which goes on with what it remembers.
    #[must_use]
    pub fn new(config: Config, book: Book, outbox: Outbox) -> Self {
        Self {
            config,
            addresses: Vec::new(),
            book,
            outbox,
            links: BTreeMap::new(),
            calls: BTreeMap::new(),
            knocks: Knocks::default(),
            bans: BTreeMap::new(),
            delivered: BTreeMap::new(),
            visits: BTreeMap::new(),
            looked_for: None,
            gathering: BTreeMap::new(),
            fetches: BTreeMap::new(),
            members: BTreeMap::new(),
            placing: BTreeMap::new(),
            holders: BTreeMap::new(),
            holds: Holds::default(),
            held: BTreeMap::new(),
            seeks: BTreeMap::new(),
            told: BTreeMap::new(),
            ahead: BTreeMap::new(),
            feeds: BTreeMap::new(),
            plans: BTreeMap::new(),
            statements: 0,
            timer_ms: None,
            profile: None,
            is_stopping: false,
            inputs: VecDeque::new(),
            is_performing: false,
        }
    }

    /// Whether anybody is linked.
    #[must_use]
    pub fn has_links(&self) -> bool {
        !self.links.is_empty()
    }

    /// What this peer calls itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The owner says in his space that he is called so. Answers whether that is new.
    pub fn know_profile(&mut self, name: Option<String>) -> bool {
        let differs = self.profile != name;
        self.profile = name;
        differs
    }

    /// What a peer is told that the owner is called, beyond what this peer calls itself: whoever gave him an invite learns it, as
    /// the owner was told when he took it.
    fn name_for(&self, node: &PublicKey) -> Option<&String> {
        let is_host = self.book.joins.values().any(|join| join.node == *node)
            || self.book.contacts.get(node).is_some_and(|contact| contact.source == Source::Invite);
        self.profile.as_ref().filter(|_| is_host)
    }

    /// What is remembered.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Notices that were sent.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Takes one event and answers what to do, in order. `now_ms` is Unix time that does not go back.
    pub fn handle(&mut self, now_ms: u64, event: Event, store: &dyn Replica) -> Vec<Act> {
        let mut acts = Vec::new();
        match event {
            Event::LinkUp { link, node, called: callee, role, binding, nonce, prove, way } => {
                // On a websocket nobody has shown yet that he is whom this peer called.
                let callee = callee.filter(|_| node.is_none());
                let refused = node.and_then(|node| self.refusal(&node, now_ms));
                if let Some((code, text)) = refused.or_else(|| self.is_stopping.then(|| (8, "this peer stops".to_owned()))) {
                    acts.push(Act::Close { link, code, text });
                    callee.into_iter().for_each(|callee| self.unreached(callee, None, now_ms));
                    return acts;
                }
                let zero = PublicKey::from_bytes([0; 32]);
                let mut config = SessionConfig::new(self.config.space);
                config.name.clone_from(node.and_then(|node| self.name_for(&node)).unwrap_or(&self.config.name));
                let lent: u64 = self.links.values().map(|linked| linked.extra_bytes).sum();
                let extra_bytes = (EXTRA_BYTES - lent.min(EXTRA_BYTES)).min(LINK_EXTRA_BYTES);
                let called = config.name.clone();
                config.extra_bytes = extra_bytes;
                config.addresses = self.addresses.iter().take(crate::sync::frame::ADDRESSES_MAX).cloned().collect();
                let features = [NOTICES, PRESENCE, RECORDS, HOLDINGS].into_iter().chain(self.config.has_feeds.then_some(FEEDS)).chain([WEIGHS]);
                config.features = features.map(|id| Feature { id, required: false }).collect();
                config.waits_for_turn = self.config.has_feeds;
                let own = if node.is_some() { self.config.node } else { zero };
                let start = Start { config, role, binding, node: own, remote_node: node.unwrap_or(zero), nonce, prove, now_ms };
                let (session, outputs) = Session::new(start);
                let linked = Linked {
                    session,
                    node,
                    callee,
                    is_callee: false,
                    called,
                    role,
                    way,
                    remote: None,
                    channels: BTreeMap::new(),
                    denied: BTreeMap::new(),
                    refusals: BTreeMap::new(),
                    missed: BTreeSet::new(),
                    waiting: BTreeSet::new(),
                    timer_ms: None,
                    redeems: 0,
                    redeem_ms: None,
                    points: 0,
                    up_ms: now_ms,
                    hand_in_ms: Some(0),
                    extra_bytes,
                    standing: Standing::Nobody,
                    carried: (0, 0),
                };
                self.links.insert(link, linked);
                self.perform(link, outputs, now_ms, store, &mut acts);
            }
            Event::Frame { link, bytes } => self.drive(link, Input::Frame(bytes), now_ms, store, &mut acts),
            Event::Writable { link, bytes } => self.drive(link, Input::Writable { bytes }, now_ms, store, &mut acts),
            Event::Stored { link, stored } => self.drive(link, Input::Stored(stored), now_ms, store, &mut acts),
            Event::RedeemAnswer { link, answer } => {
                if answer.result == Redemption::Granted
                    && let Some(linked) = self.links.get(&link)
                    && let Some(remote) = &linked.remote
                {
                    self.book.meet(id_of(remote, linked.node), Source::Guest, &[], now_ms);
                    acts.push(Act::Save);
                    self.stand(link, store, &mut acts);
                }
                self.drive(link, Input::RedeemAnswer(answer), now_ms, store, &mut acts);
            }
            Event::NoRoom { link } => self.drive(link, Input::Close { code: Code::Busy, retry_after_s: CROWDED_S }, now_ms, store, &mut acts),
            Event::StoreFailed { link } => self.drive(link, Input::Close { code: Code::Busy, retry_after_s: 0 }, now_ms, store, &mut acts),
            Event::HeldBack { link, timeline, authors } if self.links.get(&link).is_some_and(|linked| linked.session.is_agreed(WEIGHS)) => {
                self.drive(link, Input::Hold { timeline, authors }, now_ms, store, &mut acts);
            }
            Event::HeldBack { link, timeline, authors } => {
                // Who does not know how to leave out his own is told to wait. Who hands on what others wrote cannot help it.
                let own = self
                    .links
                    .get(&link)
                    .and_then(|linked| linked.remote.as_ref())
                    .is_some_and(|remote| authors.iter().any(|author| remote.keys.contains(author)));
                if own {
                    self.drive(link, Input::CloseChannel { timeline, code: Code::TooMuch }, now_ms, store, &mut acts);
                    let space = self.space_of(&timeline);
                    if let (Some(space), Some(linked)) = (space, self.links.get_mut(&link)) {
                        linked.channels.remove(&timeline);
                        linked.denied.insert(timeline, (space, now_ms + DENIED_MS));
                    }
                    acts.push(Act::Changed);
                }
            }
            Event::LinkDown { link, why } => self.link_down(link, Some(why), now_ms, &mut acts),
            Event::NotReached { node, why } => {
                self.unreached(node, Some(why), now_ms);
                acts.push(Act::Changed);
                self.ask_around(node, now_ms, store, &mut acts);
            }
            Event::Fetch { timeline, ids } => {
                // Who is about to sync it with us is asked then.
                self.fetches.insert(timeline, (ids.clone(), now_ms + FETCH_MS));
                let open: Vec<LinkId> =
                    self.links.iter().filter(|(_, linked)| linked.channels.contains_key(&timeline)).map(|(link, _)| *link).collect();
                for link in open {
                    self.drive(link, Input::Fetch { timeline, ids: ids.clone() }, now_ms, store, &mut acts);
                }
            }
            Event::Presence { timeline, path, seats } => {
                let links = self.links.iter().filter(|(_, linked)| linked.channels.contains_key(&timeline));
                let open: Vec<LinkId> = links.map(|(link, _)| *link).collect();
                for link in open {
                    let (path, seats) = (path.clone(), seats.clone());
                    self.drive(link, Input::Presence { timeline, path, seats }, now_ms, store, &mut acts);
                }
            }
            Event::Arrived => {
                let open: Vec<(LinkId, TimelineId)> =
                    self.links.iter().flat_map(|(link, linked)| linked.channels.keys().map(|timeline| (*link, *timeline))).collect();
                for (link, timeline) in open {
                    self.drive(link, Input::Appended { timeline }, now_ms, store, &mut acts);
                }
                self.learn_spaces(store, &mut acts);
                self.plan_again(now_ms, store, &mut acts);
                self.feeds_grew(now_ms, store);
            }
            Event::Timer => self.timer_ms = None,
            Event::Addresses(addresses) => {
                self.addresses = addresses;
                // Another network may reach whom the last one did not.
                for call in self.calls.values_mut().filter(|call| !call.is_calling) {
                    (call.next_ms, call.attempts) = (now_ms, 0);
                }
                self.renew_record(now_ms, &mut acts);
            }
            Event::Signed(record) => self.own_record(*record, now_ms, store, &mut acts),
            Event::Find { who } => self.ask_around(who, now_ms, store, &mut acts),
            Event::Follow { space, via } => {
                self.begin(space, &via, now_ms, store, &mut acts);
                acts.extend([Act::Save, Act::Changed]);
            }
            Event::Unfollow { space } => {
                self.end(space, now_ms, store, &mut acts);
                acts.extend([Act::Save, Act::Changed]);
            }
            Event::Moved { from, moved } => {
                if let Some(spaces) = self.book.shift(from, moved.as_deref(), now_ms) {
                    for space in spaces {
                        if self.book.following.contains_key(&space) {
                            self.begin(space, &[], now_ms, store, &mut acts);
                        } else {
                            self.end(space, now_ms, store, &mut acts);
                        }
                    }
                    acts.extend([Act::Save, Act::Changed]);
                }
            }
            Event::Visit { space } => self.visit(space, now_ms, store, &mut acts),
            Event::Hold(holds) => self.hold(*holds, now_ms, store, &mut acts),
            Event::Gather { space } => {
                self.gathering.insert(space, now_ms + GATHER_MS);
            }
            Event::Call { node, addresses } => {
                self.book.meet(node, Source::Typed, &addresses, now_ms);
                let call = self.calls.entry(node).or_default();
                (call.next_ms, call.attempts) = (now_ms, 0);
                acts.extend([Act::Save, Act::Changed]);
            }
            Event::Join { space, node, addresses, token } => {
                self.follow(space, Source::Invite, &[(node, addresses)], now_ms);
                let token = Some(format!("{:032x}", u128::from_be_bytes(token)));
                self.book.joins.insert(space, Join { node, token, refused: None, since_ms: now_ms });
                let name = self.name_for(&node).unwrap_or(&self.config.name).clone();
                let ready = self.links.iter().filter(|(_, linked)| linked.node == Some(node));
                let ready: Vec<(LinkId, bool)> = ready.map(|(link, linked)| (*link, linked.called == name)).collect();
                for (link, is_called_so) in ready {
                    match is_called_so {
                        true => self.redeem(link, now_ms, store, &mut acts),
                        // What the owner is called is said as a link begins, and who invited him is told more: so another one begins.
                        false => self.drive(link, Input::Close { code: Code::Busy, retry_after_s: 0 }, now_ms, store, &mut acts),
                    }
                }
                let call = self.calls.entry(node).or_default();
                (call.next_ms, call.attempts) = (now_ms, 0);
                acts.extend([Act::Save, Act::Changed]);
            }
            // It is said as a link begins.
            Event::Renamed => {
                let is_old = |linked: &Linked| linked.node.and_then(|node| self.name_for(&node)).is_some_and(|name| *name != linked.called);
                let old: Vec<LinkId> = self.links.iter().filter(|(_, linked)| is_old(linked)).map(|(link, _)| *link).collect();
                for link in old {
                    self.drive(link, Input::Close { code: Code::Busy, retry_after_s: 0 }, now_ms, store, &mut acts);
                }
            }
            Event::Agree { space, root } => {
                let agreed = self.book.agreed.entry(space).or_default();
                let root = root.to_string();
                agreed.retain(|known| *known != root);
                agreed.push(root);
                // Who asks in earnest needs no more than a few attempts.
                let spare = agreed.len().saturating_sub(AGREED_MAX);
                agreed.drain(..spare);
                acts.push(Act::Save);
            }
            Event::Block { who, is_blocked } => {
                self.book.blocked.retain(|blocked| *blocked != who);
                if is_blocked {
                    self.book.blocked.push(who);
                    let is_his = |linked: &Linked| is_theirs(linked, &who) || linked.remote.iter().any(|remote| self.is_unwanted(remote, store));
                    let theirs: Vec<LinkId> = self.links.iter().filter(|(_, linked)| is_his(linked)).map(|(link, _)| *link).collect();
                    for link in theirs {
                        self.drive(link, Input::Close { code: Code::Done, retry_after_s: 0 }, now_ms, store, &mut acts);
                    }
                }
                acts.extend([Act::Save, Act::Changed]);
            }
            Event::Leave(sent) => {
                let space = sent.space.parse::<PublicKey>().ok();
                self.outbox.send(*sent);
                let holders = space.map(|space| self.holders(&space)).unwrap_or_default();
                for call in holders {
                    if let Some(call) = self.calls.get_mut(&call).filter(|call| !call.is_calling) {
                        (call.next_ms, call.attempts) = (now_ms, 0);
                    }
                }
                for linked in self.links.values_mut().filter(|linked| linked.remote.as_ref().map(|remote| remote.space) == space) {
                    linked.hand_in_ms = linked.hand_in_ms.map(|_| now_ms);
                }
                self.hand_in(now_ms, store, &mut acts);
                acts.extend([Act::SaveOutbox, Act::Changed]);
            }
            Event::Took { link, space, results } => self.drive(link, Input::Took { space, results }, now_ms, store, &mut acts),
            Event::Blame { link, points, why } => self.blame(link, points, why, now_ms, store, &mut acts),
            Event::Petname { space, name } => {
                if name.is_empty() {
                    self.book.petnames.remove(&space);
                } else {
                    self.book.petnames.insert(space, name);
                }
                acts.extend([Act::Save, Act::Changed]);
            }
            Event::Community { space, membership } => {
                let is_known = self.book.communities.get(&space) == membership.as_ref();
                match membership {
                    Some(membership) => drop(self.book.communities.insert(space, membership)),
                    None => {
                        self.book.communities.remove(&space);
                        self.book.handing.remove(&space);
                    }
                }
                if !is_known {
                    self.renew_record(now_ms, &mut acts);
                    acts.extend([Act::Save, Act::Changed]);
                }
            }
            Event::HandOver { space, handing } => {
                match handing.filter(|_| self.book.communities.contains_key(&space)) {
                    Some(handing) => drop(self.book.handing.insert(space, handing)),
                    None => drop(self.book.handing.remove(&space)),
                }
                acts.extend([Act::Save, Act::Changed]);
            }
            Event::AskFiles { node, space, files } => {
                let link = self.links.iter().find(|(_, linked)| linked.node == Some(node) && linked.session.is_agreed(HOLDINGS));
                if let Some(link) = link.map(|(link, _)| *link) {
                    self.drive(link, Input::AskFiles(space, files), now_ms, store, &mut acts);
                }
            }
            Event::Files { link, space, files } => self.drive(link, Input::Files(space, files), now_ms, store, &mut acts),
            Event::Learned { dht, record } => self.records_came(By::Dht(dht), vec![*record], now_ms, store, &mut acts),
            Event::LookedFor { keys, is_on } => {
                let before = self.looked_for.take();
                self.looked_for = is_on.then(|| before.into_iter().flatten().chain(keys).filter(|key| self.visits.contains_key(key)).collect());
                acts.push(Act::Changed);
            }
            Event::Seek { nodes } => {
                let own = self.config.node;
                for node in nodes.into_iter().filter(|node| *node != own) {
                    if self.seeks.insert(node, now_ms + SEEK_MS).is_none() && !self.is_linked(&node) {
                        self.ask_around(node, now_ms, store, &mut acts);
                        let call = self.calls.entry(node).or_default();
                        if !call.is_calling {
                            (call.next_ms, call.attempts) = (now_ms, 0);
                        }
                    }
                }
            }
            Event::Placing { space, placing } => drop(self.placing.insert(space, placing)),
            Event::Members { space, nodes } => self.members_are(space, nodes, now_ms, store, &mut acts),
            Event::Public { is_allowed } => {
                self.book.public = Some(is_allowed);
                acts.extend([Act::Save, Act::Changed]);
            }
            Event::PublicDht { is_allowed } => {
                self.book.public_dht = Some(is_allowed);
                acts.extend([Act::Save, Act::Changed]);
            }
            Event::Relays(relays) => {
                let room = RELAYS_MAX.saturating_sub(self.book.relays.len());
                self.book.relays.extend(relays.into_iter().take(room));
                acts.push(Act::Save);
            }
            Event::Stop => {
                self.is_stopping = true;
                for link in self.links.keys().copied().collect::<Vec<_>>() {
                    self.drive(link, Input::Close { code: Code::Going, retry_after_s: 0 }, now_ms, store, &mut acts);
                }
            }
        }
        if !self.is_stopping {
            self.feed(now_ms, store, &mut acts);
            self.keep_time(now_ms, store, &mut acts);
        }
        acts
    }

    /// Why a peer is not talked to, if it is not.
    fn refusal(&self, id: &PublicKey, now_ms: u64) -> Option<(u8, String)> {
        if self.book.blocked.contains(id) {
            return Some((3, String::new()));
        }
        let until = self.bans.get(id).filter(|until| **until > now_ms)?;
        Some((5, format!("not for another {} s", (until - now_ms).div_ceil(1000))))
    }

    /// Links to peers that sync a timeline, with what they are called.
    #[must_use]
    pub fn links_of(&self, timeline: &TimelineId) -> Vec<(LinkId, String)> {
        let of = self.links.iter().filter(|(_, linked)| linked.channels.contains_key(timeline));
        of.filter_map(|(link, _)| Some((*link, self.name_of(*link)?))).collect()
    }

    /// What the owner calls whoever is on the other side of a link, or else what he calls himself.
    #[must_use]
    pub fn name_of(&self, link: LinkId) -> Option<String> {
        let linked = self.links.get(&link)?;
        let remote = linked.remote.as_ref()?;
        let is_his = self.book.contacts.get(&id_of(remote, linked.node)).is_some_and(|contact| contact.space == Some(remote.space));
        let petname = self.book.petnames.get(&remote.space).filter(|_| is_his).cloned();
        let own = || if remote.name.is_empty() { timebus_identity::human_name(&remote.space) } else { remote.name.clone() };
        Some(petname.unwrap_or_else(own))
    }

    /// Who is on the other side of a link, if that is proven.
    #[must_use]
    pub fn remote(&self, link: LinkId) -> Option<Remote> {
        self.links.get(&link)?.remote.clone()
    }

    /// Whether the owner wants nothing to do with whoever signs with a key, or with the space whose device it is.
    fn is_blocked_key(&self, key: &PublicKey, store: &dyn Replica) -> bool {
        let blocked = &self.book.blocked;
        !blocked.is_empty() && (blocked.contains(key) || store.spaces_of(key).iter().any(|space| blocked.contains(space)))
    }

    /// The same of a peer: whose it is, its keys tell, whatever it says itself.
    fn is_unwanted(&self, remote: &Remote, store: &dyn Replica) -> bool {
        self.book.blocked.contains(&remote.space) || remote.keys.iter().any(|key| self.is_blocked_key(key, store))
    }

    /// Whose a connected peer is may be stated only after it came.
    fn learn_spaces(&mut self, store: &dyn Replica, acts: &mut Vec<Act>) {
        for linked in self.links.values() {
            let Some(remote) = &linked.remote else { continue };
            if let Some(contact) = self.book.contacts.get_mut(&id_of(remote, linked.node))
                && contact.space.is_none()
                && speaks_for(remote, &remote.space, store)
            {
                contact.space = Some(remote.space);
                acts.extend([Act::Save, Act::Changed]);
            }
        }
    }

    /// Both sides of a link have proven who they are.
    fn ready(&mut self, link: LinkId, remote: Remote, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let Some(linked) = self.links.get_mut(&link) else { return };
        let id = id_of(&remote, linked.node);
        let role = linked.role;
        linked.remote = Some(remote.clone());
        self.answered(link, &remote, now_ms, store);
        if self.refusal(&id, now_ms).is_some() || self.is_unwanted(&remote, store) {
            return self.drive(link, Input::Close { code: Code::NotHere, retry_after_s: 0 }, now_ms, store, acts);
        }
        // Both may have called at the same time. Both keep the link that the smaller key opened. Who calls while there
        // has been a link for longer has lost that one, and knows it before we do.
        let is_same = |other: &Linked| other.remote.as_ref().is_some_and(|remote| id_of(remote, other.node) == id);
        let others: Vec<(LinkId, Role, u64)> = self
            .links
            .iter()
            .filter(|(other, linked)| **other != link && is_same(linked))
            .map(|(other, linked)| (*other, linked.role, linked.up_ms))
            .collect();
        for (other, other_role, up_ms) in others {
            let ours_wins = self.config.node < id;
            let is_old = now_ms.saturating_sub(up_ms) >= GOOD_LINK_MS;
            let keeps_new = is_old || other_role == role || (role == Role::Initiator) == ours_wins;
            self.drive(if keeps_new { other } else { link }, Input::Close { code: Code::Done, retry_after_s: 0 }, now_ms, store, acts);
            if !keeps_new {
                return;
            }
        }
        let addresses = believable(&remote.addresses);
        let contact = self.book.meet(id, Source::Came, &addresses, now_ms);
        contact.name.clone_from(&remote.name);
        contact.keys.clone_from(&remote.keys);
        // Who says that a space is his of which it is known that it is not, is nobody's.
        contact.space = Some(remote.space).filter(|space| speaks_for(&remote, space, store));
        contact.seen_ms = now_ms;
        if role == Role::Initiator
            && let Some(way) = self.links.get(&link).map(|linked| linked.way.as_str())
        {
            self.knocks.proven(way, &self.book.contacts, &remote.keys);
        }
        self.calls.remove(&id);
        acts.extend([Act::Save, Act::Changed]);
        self.stand(link, store, acts);
        self.redeem(link, now_ms, store, acts);
        self.open_wanted(link, now_ms, store, acts);
        self.hand_in(now_ms, store, acts);
        self.exchange_records(link, now_ms, store, acts);
    }
}

/// Whether a peer is one of a space, for whom this is no matter of belief: it proved the space's own key, or what is stated there
/// says so.
fn proves(remote: &Remote, space: &PublicKey, store: &dyn Replica) -> bool {
    let is_known = store.local(space, &core(space)[0]).is_ok_and(|t| t.is_some());
    remote.keys.contains(space) || is_known && speaks_for(remote, space, store)
}

/// Whether a peer is one of a space, as far as that can be told: by what is stated there, or else by its own word.
fn speaks_for(remote: &Remote, space: &PublicKey, store: &dyn Replica) -> bool {
    let is_known = store.local(space, &core(space)[0]).is_ok_and(|t| t.is_some());
    remote.space == *space && (!is_known || store.may_sync(remote, space, &TimelineId::named(space, "drop")).unwrap_or(false))
}

/// Whether somebody has a right in a space now, and not only had one.
fn is_in(remote: &Remote, space: &PublicKey, store: &dyn Replica) -> bool {
    let [auth, _] = core(space);
    store.may_sync(remote, space, &auth).unwrap_or(false) && store.until(remote, space, &auth).is_ok_and(|until| until == u64::MAX)
}

/// Whether a link is with a peer that one of whose keys this is.
fn is_theirs(linked: &Linked, who: &PublicKey) -> bool {
    linked.node == Some(*who) || linked.remote.as_ref().is_some_and(|remote| remote.space == *who || remote.keys.contains(who))
}

/// The addresses that others may tell us. `ws://` is for this machine alone: whoever names such a one would have us
/// knock at programs of our own.
fn believable(addresses: &[String]) -> Vec<String> {
    addresses.iter().filter(|address| !address.starts_with("ws://")).cloned().collect()
}
