//! What people are told of peers and spaces.

use std::collections::BTreeSet;

use serde::Serialize;
use timebus_identity::PublicKey;
use timebus_store::ids::TimelineId;

use super::book::Contact;
use super::feeds::Feed;
use super::{Call, LinkId, Linked, Node, core, id_of};
use crate::blobs::fetch::named;

/// How a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum PeerState {
    /// There is a link.
    Connected {
        /// The way it takes.
        way: String,
        /// Bytes received over it.
        received: u64,
        /// Bytes sent over it.
        sent: u64,
    },
    /// It is being called.
    Calling,
    /// It was not reached.
    Unreachable {
        /// Why.
        problem: String,
        /// When it is called again; Unix milliseconds.
        next_try_ms: u64,
    },
    /// Nothing is wanted of it.
    Idle,
    /// The owner does not talk to it.
    Blocked,
    /// It broke the rules and is not talked to for a while.
    Banned {
        /// Until when; Unix milliseconds.
        until_ms: u64,
    },
}

/// A peer, as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct PeerStatus {
    /// Its key.
    pub id: String,
    /// What the owner calls its space.
    pub petname: Option<String>,
    /// What is remembered of it.
    #[serde(flatten)]
    pub contact: Contact,
    /// How it is.
    #[serde(flatten)]
    pub state: PeerState,
}

/// How a space of somebody else is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum SpaceState {
    /// What comes is here at once.
    Live {
        /// From how many peers.
        peers: usize,
    },
    /// It is coming.
    Loading,
    /// Whoever has it is being called, or looked for.
    Connecting,
    /// We wrote more than whoever has it takes before its owner has said so.
    Waiting,
    /// Whoever has it does not give it to us.
    Denied,
    /// Nobody who has it can be reached.
    Unreachable {
        /// When one of them was connected last; Unix milliseconds, 0 for never.
        seen_ms: u64,
        /// When the next of them is called; Unix milliseconds.
        next_try_ms: u64,
        /// What the last call said.
        problem: String,
    },
    /// Nobody is known who has it.
    Unknown,
    /// This peer calls nobody.
    Offline,
}

/// Somebody who is connected and syncs something of a space.
#[derive(Clone, Debug)]
pub struct Giver {
    /// What he is called.
    pub name: String,
    /// The keys that he has shown to be his.
    pub keys: Vec<PublicKey>,
    /// Whether all that he has of it is here.
    pub is_level: bool,
}

/// Who gives a space, and how it is here if none of them has anything of it.
#[derive(Clone, Debug)]
pub struct Givers {
    /// The timelines of values that it consists of here.
    pub needed: Vec<TimelineId>,
    /// Those who are connected, first the one from whom what is new comes.
    pub all: Vec<Giver>,
    /// How it is without them.
    pub without: SpaceState,
}

/// A space of somebody else, as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceStatus {
    /// Its key.
    pub space: String,
    /// What the owner calls it.
    pub petname: Option<String>,
    /// Whether it is followed; else it is only read now and then.
    pub is_followed: bool,
    /// Whether it is a community that the owner is in.
    pub is_community: bool,
    /// What became of an invite that leads there: waiting, or why it was refused.
    pub invite: Option<String>,
    /// Whether that invite is still to be answered.
    pub is_waiting: bool,
    /// Who gives it, in words: first the one from whom what is new comes, then how many others have it too. `None` if there is
    /// no link to anybody who does.
    pub from: Option<String>,
    /// When a machine of whoever has it was connected last, or is; Unix milliseconds, 0 for never.
    pub owner_seen_ms: u64,
    /// Whether one is now.
    pub owner_connected: bool,
    /// Whether somebody who is connected does not give what it consists of to this peer.
    #[serde(skip)]
    pub is_refused: bool,
    /// Who gives it. That somebody syncs it does not say that he may have it.
    #[serde(skip)]
    pub givers: Givers,
    /// How it is here.
    #[serde(flatten)]
    pub state: SpaceState,
}

impl Node {
    /// The keys that the peer of a link has shown to be its own.
    pub(crate) fn keys_on(&self, link: LinkId) -> &[PublicKey] {
        self.links.get(&link).and_then(|linked| linked.remote.as_ref()).map_or(&[], |remote| &remote.keys)
    }

    /// Whether a space is known to come by way of the peer of a link.
    pub(crate) fn is_via(&self, link: LinkId, space: &PublicKey) -> bool {
        let id = self.links.get(&link).and_then(|linked| linked.remote.as_ref().map(|remote| id_of(remote, linked.node)));
        id.is_some_and(|id| self.book.following.get(space).is_some_and(|follow| follow.via.contains(&id)))
    }

    /// Whoever carries a link tells what went over it, with what is none of the node's.
    pub(crate) fn carried(&mut self, link: LinkId, carried: (u64, u64)) {
        if let Some(linked) = self.links.get_mut(&link) {
            linked.carried = carried;
        }
    }

    /// Everybody who is known.
    #[must_use]
    pub fn peers(&self, now_ms: u64) -> Vec<PeerStatus> {
        let state = |id: &PublicKey| {
            let linked = self.links.values().find(|linked| linked.remote.as_ref().is_some_and(|remote| id_of(remote, linked.node) == *id));
            if let Some(linked) = linked {
                let (counters, (received, sent)) = (linked.session.counters(), linked.carried);
                let (received, sent) = (counters.bytes_received.max(received), counters.bytes_sent.max(sent));
                return PeerState::Connected { way: linked.way.clone(), received, sent };
            }
            if self.is_blocked(id) {
                return PeerState::Blocked;
            }
            if let Some(until) = self.bans.get(id).filter(|until| **until > now_ms) {
                return PeerState::Banned { until_ms: *until };
            }
            match self.calls.get(id) {
                Some(call) if call.is_calling => PeerState::Calling,
                Some(Call { problem: Some(problem), next_ms, .. }) => PeerState::Unreachable { problem: problem.clone(), next_try_ms: *next_ms },
                _ => PeerState::Idle,
            }
        };
        let petname = |contact: &Contact| contact.space.and_then(|space| self.book.petnames.get(&space).cloned());
        let status = |(id, contact): (&PublicKey, &Contact)| PeerStatus {
            id: id.to_string(),
            petname: petname(contact),
            contact: contact.clone(),
            state: state(id),
        };
        self.book.contacts.iter().map(status).collect()
    }

    /// Whether there is a link to a peer both sides of which have proven who they are.
    #[must_use]
    pub fn is_connected(&self, id: &PublicKey) -> bool {
        self.links.values().any(|linked| linked.remote.as_ref().is_some_and(|remote| id_of(remote, linked.node) == *id))
    }

    /// A link to such a peer.
    #[must_use]
    pub fn link_to(&self, id: &PublicKey) -> Option<LinkId> {
        let is_it = |linked: &Linked| linked.remote.as_ref().is_some_and(|remote| id_of(remote, linked.node) == *id);
        self.links.iter().find(|(_, linked)| is_it(linked)).map(|(link, _)| *link)
    }

    /// All spaces of others that are wanted.
    #[must_use]
    pub fn spaces(&self) -> Vec<SpaceStatus> {
        let wanted = self.wanted().into_iter().filter(|space| *space != self.config.space);
        wanted.map(|space| self.space(&space)).collect()
    }

    /// Up to which arrival number some other peer has a timeline on its disk, as far as was said since the start.
    #[must_use]
    pub fn delivered(&self, timeline: &TimelineId) -> u64 {
        self.delivered.get(timeline).copied().unwrap_or(0)
    }

    /// How somebody can be reached to whom a notice is to go: whether there is a link, when he was seen last, when he is called
    /// again; Unix milliseconds, 0 for never.
    #[must_use]
    pub fn reach(&self, space: &PublicKey) -> (bool, u64, u64) {
        let holders = self.holders(space);
        let seen = holders.iter().filter_map(|id| self.book.contacts.get(id)).map(|contact| contact.seen_ms).max().unwrap_or(0);
        let next = holders.iter().filter_map(|id| self.calls.get(id)).map(|call| call.next_ms).min().unwrap_or(0);
        (holders.iter().any(|id| self.is_linked(id)), seen, next)
    }

    /// How one space of somebody else is here.
    #[must_use]
    pub fn space(&self, space: &PublicKey) -> SpaceStatus {
        let invite = self.book.joins.get(space).map(|join| join.refused.clone().unwrap_or_else(|| "waiting for an answer".to_owned()));
        let needed = self.needed(space);
        let is_refused = self.is_refused(space, &needed);
        let all = self.givers(space, &needed);
        let of_owner = || self.book.contacts.iter().filter(|(_, contact)| contact.space == Some(*space));
        SpaceStatus {
            space: space.to_string(),
            petname: self.book.petnames.get(space).cloned(),
            is_followed: self.book.following.contains_key(space),
            is_community: self.book.communities.contains_key(space),
            invite,
            is_waiting: self.is_joining(space),
            from: from(&all),
            owner_seen_ms: of_owner().map(|(_, contact)| contact.seen_ms).max().unwrap_or(0),
            owner_connected: of_owner().any(|(id, _)| self.is_linked(id)),
            is_refused,
            state: self.space_state(space, &needed, &all, is_refused),
            givers: Givers { without: self.state_without(space, is_refused), needed: needed[1..].to_vec(), all },
        }
    }

    /// Whether all that the peer of a link has of a timeline is here.
    fn is_caught_up(&self, link: LinkId, linked: &Linked, timeline: &TimelineId) -> bool {
        let is_level = || self.feeds.get(timeline).is_some_and(|feed| feed.is_level(link));
        linked.channels.get(timeline).is_some_and(|channel| channel.is_caught_up || is_level())
    }

    /// Who is connected and syncs something of what a space consists of.
    fn givers(&self, space: &PublicKey, needed: &[TimelineId]) -> Vec<Giver> {
        let [auth, main] = core(space);
        let source = needed.get(1).and_then(|timeline| self.feeds.get(timeline)).and_then(Feed::source);
        let mut all: Vec<(bool, Giver)> = Vec::new();
        for (link, linked) in &self.links {
            let Some(remote) = &linked.remote else { continue };
            // Who gives nothing may ask all the same.
            let gives = |timeline: &TimelineId| linked.channels.contains_key(timeline) && !linked.denied.contains_key(timeline);
            if !needed.iter().chain([&auth, &main]).any(gives) {
                continue;
            }
            let is_level = needed.iter().all(|timeline| self.is_caught_up(*link, linked, timeline)) && needed.iter().skip(1).all(gives);
            let own = || if remote.name.is_empty() { id_of(remote, linked.node).to_string().chars().take(8).collect() } else { remote.name.clone() };
            let name = self.book.petnames.get(&remote.space).cloned().unwrap_or_else(own);
            all.push((Some(*link) != source, Giver { name, keys: remote.keys.clone(), is_level }));
        }
        all.sort_by(|(one, giver), (two, other)| (one, &giver.name).cmp(&(two, &other.name)));
        all.into_iter().map(|(_, giver)| giver).collect()
    }

    /// What a space consists of here: rights, and what may be read, everything that is not kept apart, or else what is.
    fn needed(&self, space: &PublicKey) -> Vec<TimelineId> {
        let (plan, core) = (self.plan_of(space), core(space));
        if plan.contains(&core[1]) { core.to_vec() } else { plan }
    }

    /// Whether somebody refuses what a space consists of. Of what is followed only who may have it does: that others do not give it
    /// says nothing, as they have nothing of it.
    fn is_refused(&self, space: &PublicKey, needed: &[TimelineId]) -> bool {
        let follow = self.book.following.get(space);
        let may_have = |linked: &Linked| {
            let Some(follow) = follow else { return true };
            let id = linked.remote.as_ref().map(|remote| id_of(remote, linked.node)).or(linked.node);
            let is_his = linked.remote.as_ref().is_some_and(|remote| remote.space == *space);
            let is_asked = |id: &PublicKey| self.book.joins.get(space).is_some_and(|join| join.node == *id);
            let has = |id: &PublicKey| self.holders.get(space).is_some_and(|holders| holders.contains(id));
            // Another device of the owner has what he follows.
            let is_own = linked.remote.as_ref().is_some_and(|remote| remote.space == self.config.space);
            is_his || is_own || follow.via.is_empty() || id.is_some_and(|id| follow.via.contains(&id) || is_asked(&id) || has(&id))
        };
        let denies = |linked: &Linked| needed.iter().skip(1).any(|timeline| linked.denied.contains_key(timeline));
        self.links.values().any(|linked| denies(linked) && may_have(linked))
    }

    fn space_state(&self, space: &PublicKey, needed: &[TimelineId], all: &[Giver], is_denied: bool) -> SpaceState {
        let [auth, main] = core(space);
        let gives = |linked: &Linked, timeline: &TimelineId| linked.channels.contains_key(timeline) && !linked.denied.contains_key(timeline);
        let is_open = |timeline: &TimelineId| self.links.values().any(|linked| gives(linked, timeline));
        // What others write there comes all the same.
        if self.links.values().any(|linked| linked.waiting.contains(&main)) {
            return SpaceState::Waiting;
        }
        let live = all.iter().filter(|giver| giver.is_level).count();
        if live > 0 {
            return SpaceState::Live { peers: live };
        }
        // Who may not read it may still hear what is stated there.
        if needed[1..].iter().any(is_open) || !is_denied && is_open(&auth) {
            return SpaceState::Loading;
        }
        self.state_without(space, is_denied)
    }

    /// How a space is as long as nobody is connected who gives it.
    fn state_without(&self, space: &PublicKey, is_denied: bool) -> SpaceState {
        if self.config.is_offline {
            return SpaceState::Offline;
        }
        let mut via: Vec<PublicKey> = self.book.following.get(space).map_or_else(Vec::new, |follow| follow.via.clone());
        via.extend(self.book.contacts.iter().filter(|(_, contact)| contact.space == Some(*space)).map(|(id, _)| *id));
        via.extend(self.by_record(*space));
        via.extend(self.holders.get(space).into_iter().flatten().filter(|id| self.book.contacts.contains_key(id)));
        if via.is_empty() && !is_denied {
            let is_sought = self.visits.contains_key(space) && self.looked_for.as_ref().is_some_and(|keys| !keys.contains(space));
            return if is_sought { SpaceState::Connecting } else { SpaceState::Unknown };
        }
        let is_asking = self.book.joins.get(space).is_some_and(|join| join.token.is_some() && self.is_linked(&join.node));
        let is_connecting =
            is_asking || via.iter().any(|id| self.calls.get(id).is_some_and(|call| call.is_calling) || (self.is_linked(id) && !is_denied));
        if is_connecting {
            return SpaceState::Connecting;
        }
        if is_denied {
            return SpaceState::Denied;
        }
        let calls: Vec<&Call> = via.iter().filter_map(|id| self.calls.get(id)).collect();
        SpaceState::Unreachable {
            seen_ms: via.iter().filter_map(|id| self.book.contacts.get(id)).map(|contact| contact.seen_ms).max().unwrap_or(0),
            next_try_ms: calls.iter().map(|call| call.next_ms).min().unwrap_or(0),
            problem: calls.iter().find_map(|call| call.problem.clone()).unwrap_or_default(),
        }
    }
}

/// Who gives a space, in words. Of somebody with several machines it is enough to say once that it comes from him.
pub(crate) fn from(all: &[Giver]) -> Option<String> {
    let mut told = BTreeSet::new();
    let names: Vec<String> = all.iter().map(|giver| giver.name.clone()).filter(|name| told.insert(name.clone())).collect();
    (!names.is_empty()).then(|| named(&names))
}
