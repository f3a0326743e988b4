//! Finding each other: what this peer says about itself, what it tells of others, and whom it asks when somebody cannot be
//! reached where he was.
//!
//! Looked in is, in this order: the address book with what invites said, the own network (the endpoint does that on
//! every call), then what the peers that one is connected to know, and what members of a common community do, who hold
//! each other's records and hand on what is new of them. Last come the DHTs that the owner takes part in, [`crate::dht`].

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::{PublicKey, Signed, Verified};

use super::book::{Contact, Source};
use super::clocks::is_lately;
use super::introductions::VIA_MAX;
use super::records::Taken;
use super::{Act, Node, believable, id_of, is_in, proves};
use crate::dht::DhtId;
use crate::record::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, COMMUNITIES_MAX, NODES_MAX, PeerRecord};
use crate::sync::frame::{ASKED_MAX, RECORDS, RECORDS_OF_FRAME_MAX};
use crate::sync::{Input, Remote, Replica};

use super::LinkId;

/// What a record costs that its peer did not sign.
const FORGED_POINTS: u32 = 64;
/// Peers with a wrong clock that are named.
const AHEAD_MAX: usize = 64;

/// Members whose records one member is asked for on a new link, in frames of [`ASKED_MAX`].
const ASKED_OF_MEMBER_MAX: usize = 4 * ASKED_MAX;

/// Who told where somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// He himself.
    Himself,
    /// A peer that is connected.
    Connected(PublicKey),
    /// A member of a community that all three are in.
    Member {
        /// Which.
        space: PublicKey,
        /// The member's machine.
        node: PublicKey,
    },
    /// A DHT.
    Dht(DhtId),
}

/// By which way records have come.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Over a link.
    Link(LinkId),
    /// From a DHT.
    Dht(DhtId),
}

/// What is known of where somebody is.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Peers by that key, or of that space, as the book has them.
    pub contacts: Vec<(PublicKey, Contact, bool)>,
    /// Their own words.
    pub records: Vec<Verified<PeerRecord>>,
    /// Who told of these, by node key; of those that were remembered from before the start nobody did.
    pub told: BTreeMap<PublicKey, Teller>,
    /// How many peers can be asked for more.
    pub asked: usize,
    /// How many of them are members of a common community, by that.
    pub members: BTreeMap<PublicKey, usize>,
}

impl Node {
    /// What is known of where somebody is, by his space or node key.
    #[must_use]
    pub fn find(&self, key: &PublicKey) -> Found {
        let is_meant = |id: &PublicKey, contact: &Contact| id == key || contact.space == Some(*key);
        let contacts = self.book.contacts.iter().filter(|(id, contact)| is_meant(id, contact));
        let records: Vec<Verified<PeerRecord>> = self.records_of(key).cloned().collect();
        let told = records.iter().filter_map(|record| Some((record.node, *self.told.get(&record.node)?))).collect();
        let asked = self.askable_for(key);
        let in_common = |space: &PublicKey, nodes: &BTreeSet<PublicKey>| {
            let linked = self.links.iter().filter(|(link, linked)| asked.contains(link) && linked.node.is_some_and(|node| nodes.contains(&node)));
            (nodes.contains(key) || self.records_of(key).any(|record| nodes.contains(&record.node))).then(|| (*space, linked.count()))
        };
        Found {
            contacts: contacts.map(|(id, contact)| (*id, contact.clone(), self.is_linked(id))).collect(),
            records,
            told,
            asked: asked.len(),
            members: self.members.iter().filter_map(|(space, nodes)| in_common(space, nodes)).collect(),
        }
    }

    /// What this peer says of itself.
    #[must_use]
    pub fn own_word(&self) -> Option<&Verified<PeerRecord>> {
        self.book.records.of(&self.config.node)
    }

    /// Members of a community who are not reached where they were, or of whom nothing is known; those first of whom was heard
    /// longest ago.
    #[must_use]
    pub fn lost_members(&self, space: &PublicKey) -> Vec<PublicKey> {
        let is_lost = |node: &&PublicKey| {
            let is_missed = self.calls.get(node).is_some_and(|call| call.problem.is_some());
            !self.is_linked(node) && (is_missed || self.book.records.of(node).is_none())
        };
        let mut lost: Vec<PublicKey> = self.members.get(space).into_iter().flatten().filter(is_lost).copied().collect();
        lost.sort_by_key(|node| self.book.records.of(node).map_or(0, |record| record.seq));
        lost
    }

    /// Peers that are to be called and were not reached, and spaces that are followed of which nobody is.
    fn missed(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = self.callees();
        keys.retain(|id| self.calls.get(id).is_some_and(|call| call.problem.is_some()));
        keys.extend(self.book.following.keys().filter(|space| !self.is_reached(space)));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The same, and spaces that the owner reads now: whom a public DHT is asked for, since he said yes to that. It is asked last: for
    /// a space that is followed not before all were called in vain from whom it comes, or `had_time` says that addresses which are
    /// known, and the local network, had their time.
    #[must_use]
    pub fn sought(&self, had_time: bool) -> Vec<PublicKey> {
        let is_missed = |id: &PublicKey| self.calls.get(id).is_some_and(|call| call.problem.is_some());
        let may_come = |space: &PublicKey| {
            let via = self.book.following.get(space).map_or(&[][..], |follow| &follow.via[..]);
            !had_time && (via.is_empty() || !via.iter().all(is_missed))
        };
        let mut keys = self.missed();
        let is_read = |space: &&PublicKey| !self.held.contains_key(space) && **space != self.config.space && !self.is_reached(space);
        keys.extend(self.visits.keys().filter(is_read));
        keys.retain(|key| !self.book.following.contains_key(key) || !may_come(key));
        keys.retain(|key| !self.is_blocked(key));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Other machines of the owners of these spaces, as those say of themselves that were called in vain: these may be on, and each says
    /// in a public DHT where it is, but only one of them by the key of the space. With the space that each has to be of.
    #[must_use]
    pub fn mirrors_of(&self, spaces: &[PublicKey]) -> BTreeMap<PublicKey, PublicKey> {
        let mut mirrors = BTreeMap::new();
        for space in spaces {
            let is_away = |record: &&Verified<PeerRecord>| self.calls.get(&record.node).is_some_and(|call| call.problem.is_some());
            for record in self.book.records.of_space(*space).filter(is_away) {
                let others = record.mirrors.iter().chain(&record.inbox).filter(|node| **node != record.node && **node != self.config.node);
                let missed = others.filter(|node| !self.is_linked(node) && !self.is_blocked(node));
                mirrors.extend(missed.map(|node| (*node, *space)));
            }
        }
        mirrors
    }

    fn is_reached(&self, space: &PublicKey) -> bool {
        self.links.values().any(|linked| linked.channels.values().any(|channel| channel.space == *space))
    }

    /// Peers that say in their records that a space is theirs.
    pub(super) fn by_record(&self, space: PublicKey) -> impl Iterator<Item = PublicKey> {
        let known = self.book.records.of_space(space).map(|record| record.node).filter(|node| self.book.contacts.contains_key(node));
        known.take(VIA_MAX)
    }

    /// Whether a machine is one of a member of a community that the owner is in.
    pub(super) fn is_member(&self, node: &PublicKey) -> bool {
        self.members.values().any(|nodes| nodes.contains(node))
    }

    /// A community that two machines are in, and the owner.
    fn in_common(&self, one: &PublicKey, other: &PublicKey) -> Option<PublicKey> {
        self.members.iter().find(|(_, nodes)| nodes.contains(one) && nodes.contains(other)).map(|(space, _)| *space)
    }

    /// The members whose records one of them is asked for: first those of whom nothing is known, then those last heard of
    /// longest ago. Who is linked tells by himself.
    fn sought_members(&self, node: &PublicKey) -> Vec<PublicKey> {
        let fellows = self.members.values().filter(|nodes| nodes.contains(node)).flatten();
        let sought: BTreeSet<(u64, PublicKey)> = fellows
            .filter(|fellow| *fellow != node && !self.is_linked(fellow))
            .map(|fellow| (self.book.records.of(fellow).map_or(0, |record| record.seq), *fellow))
            .collect();
        sought.into_iter().take(ASKED_OF_MEMBER_MAX).map(|(_, fellow)| fellow).collect()
    }

    fn records_of(&self, key: &PublicKey) -> impl Iterator<Item = &Verified<PeerRecord>> {
        let of_space = self.book.records.of_space(*key).filter(move |record| record.node != *key);
        self.book.records.of(key).into_iter().chain(of_space)
    }

    /// Has this peer's own record signed, if what it says is not what is so any more.
    pub(super) fn renew_record(&self, now_ms: u64, acts: &mut Vec<Act>) {
        let addresses: Vec<String> =
            believable(&self.addresses).into_iter().filter(|address| address.len() <= ADDRESS_BYTES_MAX).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() && self.book.records.of(&self.config.node).is_none() {
            return;
        }
        let is_device = |contact: &Contact| contact.source == Source::Device || contact.space == Some(self.config.space);
        let devices =
            self.book.contacts.iter().filter(|(id, contact)| is_device(contact) && !contact.addresses.is_empty() && **id != self.config.node);
        let mirrors: Vec<PublicKey> = devices.map(|(id, _)| *id).take(NODES_MAX - 1).collect();
        let mut inbox = mirrors.clone();
        inbox.push(self.config.node);
        inbox.sort_unstable();
        // Whoever hears where this peer is hears of those that the owner wants to be known for.
        let told = self.book.communities.iter().filter(|(_, membership)| membership.told);
        let communities = told.map(|(space, _)| *space).take(COMMUNITIES_MAX).collect();
        let own = PeerRecord { node: self.config.node, space: self.config.space, seq: 1, addresses, mirrors, inbox, communities };
        acts.extend(self.book.records.next_own(own, now_ms).map(|record| Act::Sign(Box::new(record))));
    }

    /// Who the members of a community are: those who are connected are asked where the others are.
    pub(super) fn members_are(&mut self, space: PublicKey, nodes: Vec<PublicKey>, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let nodes: BTreeSet<PublicKey> = nodes.into_iter().filter(|node| *node != self.config.node).collect();
        if nodes.is_empty() {
            self.members.remove(&space);
            self.placing.remove(&space);
            return;
        }
        let known = self.members.insert(space, nodes.clone()).unwrap_or_default();
        if known == nodes {
            return;
        }
        acts.push(Act::Changed);
        let unknown: Vec<PublicKey> = nodes.iter().filter(|node| self.book.records.of(node).is_none() && !self.is_linked(node)).copied().collect();
        let fellows: Vec<LinkId> =
            self.links.iter().filter(|(_, linked)| linked.node.is_some_and(|node| nodes.contains(&node))).map(|(link, _)| *link).collect();
        for link in fellows {
            self.ask(link, unknown.clone(), now_ms, store, acts);
        }
    }

    /// Asks for records of these, in as many frames as it takes.
    fn ask(&mut self, link: LinkId, mut keys: Vec<PublicKey>, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        if !self.links.get(&link).is_some_and(|linked| linked.session.is_agreed(RECORDS)) {
            return;
        }
        keys.truncate(ASKED_OF_MEMBER_MAX);
        for keys in keys.chunks_mut(ASKED_MAX) {
            keys.sort_unstable();
            self.drive(link, Input::AskRecords(keys.to_vec()), now_ms, store, acts);
        }
    }

    /// The own record was signed: all who are connected hear of it.
    pub(super) fn own_record(&mut self, record: Verified<PeerRecord>, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        if record.node != self.config.node || self.book.records.take_own(record, now_ms) != Taken::New {
            return;
        }
        acts.push(Act::Save);
        let agreed: Vec<LinkId> = self.links.iter().filter(|(_, linked)| linked.session.is_agreed(RECORDS)).map(|(link, _)| *link).collect();
        for link in agreed {
            self.tell_own_record(link, now_ms, store, acts);
        }
    }

    fn tell_own_record(&mut self, link: LinkId, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let own = self.book.records.of(&self.config.node).map(PeerRecord::encode_verified);
        if let Some(own) = own {
            self.drive(link, Input::Records(vec![own.into()]), now_ms, store, acts);
        }
    }

    /// The other side of a link is known: it hears where this peer is, and is asked for those that are not reached.
    pub(super) fn exchange_records(&mut self, link: LinkId, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.renew_record(now_ms, acts);
        self.tell_own_record(link, now_ms, store, acts);
        if let Some(node) = self.links.get(&link).and_then(|linked| linked.node) {
            let sought = self.sought_members(&node);
            self.ask(link, sought, now_ms, store, acts);
        }
        if !self.askable().contains(&link) {
            return;
        }
        let mut keys = self.missed();
        keys.truncate(ASKED_MAX);
        if !keys.is_empty() {
            self.drive(link, Input::AskRecords(keys), now_ms, store, acts);
        }
    }

    /// Links to peers that are asked where others are: not those that came by themselves, who would learn whom one looks for.
    fn askable(&self) -> Vec<LinkId> {
        let is_known = |id: &PublicKey| self.book.contacts.get(id).is_some_and(|contact| contact.source > Source::Came);
        let of = |(link, linked): (&LinkId, &super::Linked)| {
            let id = id_of(linked.remote.as_ref()?, linked.node);
            (linked.session.is_agreed(RECORDS) && is_known(&id)).then_some(*link)
        };
        self.links.iter().filter_map(of).collect()
    }

    /// The same, and members of communities that he is in, who know that anyway.
    fn askable_for(&self, key: &PublicKey) -> Vec<LinkId> {
        let mut links = self.askable();
        let nodes: Vec<PublicKey> = std::iter::once(*key).chain(self.records_of(key).map(|record| record.node)).collect();
        let is_fellow = |node: &PublicKey| nodes.iter().any(|sought| self.in_common(node, sought).is_some());
        let fellows = self.links.iter().filter(|(_, linked)| linked.session.is_agreed(RECORDS) && linked.node.as_ref().is_some_and(is_fellow));
        links.extend(fellows.map(|(link, _)| *link));
        links.sort_unstable();
        links.dedup();
        links
    }

    /// Asks who is connected where somebody is.
    pub(super) fn ask_around(&mut self, key: PublicKey, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        for link in self.askable_for(&key) {
            self.drive(link, Input::AskRecords(vec![key]), now_ms, store, acts);
        }
    }

    /// Somebody asks where others are: he hears of those whom he may know of.
    pub(super) fn answer_records(&mut self, link: LinkId, keys: &[PublicKey], now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let Some(remote) = self.links.get(&link).and_then(|linked| linked.remote.clone()) else { return };
        let known = keys.iter().flat_map(|key| self.records_of(key));
        let told: Vec<_> = known.filter(|record| self.may_know(&remote, record, store)).take(RECORDS_OF_FRAME_MAX).collect();
        let told: Vec<bytes::Bytes> = told.into_iter().map(|record| PeerRecord::encode_verified(record).into()).collect();
        if !told.is_empty() {
            self.drive(link, Input::Records(told), now_ms, store, acts);
        }
    }

    /// Whether somebody may hear where another is: both are in one space, as far as is known here.
    fn may_know(&self, remote: &Remote, record: &PeerRecord, store: &dyn Replica) -> bool {
        if record.node == self.config.node || proves(remote, &record.space, store) {
            return true;
        }
        let reads = |space: &PublicKey| {
            let follow = self.book.following.get(space).is_some_and(|follow| follow.via.contains(&record.node));
            let guest = *space == self.config.space && self.book.contacts.get(&record.node).is_some_and(|contact| contact.source == Source::Guest);
            let live = || {
                let mut theirs = self.links.values().filter(|linked| linked.node == Some(record.node));
                theirs.any(|linked| linked.channels.values().any(|channel| channel.space == *space))
            };
            let member = || self.members.get(space).is_some_and(|nodes| nodes.contains(&record.node));
            record.space == *space || follow || guest || member() || live()
        };
        self.wanted().iter().any(|space| reads(space) && is_in(remote, space, store))
    }

    /// Records have come.
    pub(super) fn records_came(&mut self, by: By, records: Vec<Signed<PeerRecord>>, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let link = if let By::Link(link) = by { Some(link) } else { None };
        let sender = link.and_then(|link| self.links.get(&link)).and_then(|linked| linked.node);
        let mut news = Vec::new();
        for record in records {
            let (node, space) = (record.content().node, record.content().space);
            // What is here already costs no check of its signature: news go round, and come back from many sides.
            if self.book.records.of(&node).is_some_and(|known| known.signature() == record.signature() && **known == *record.content()) {
                continue;
            }
            let is_member = self.is_member(&node);
            let is_known = is_member || self.book.contacts.contains_key(&node);
            let is_followed = self.book.following.contains_key(&space);
            // The public DHT is asked only for whom the owner wants.
            let is_sought = matches!(by, By::Dht(DhtId::Public));
            // Of strangers one hears only from themselves.
            let is_wanted = is_known || is_followed || is_sought || sender == Some(node) || self.book.petnames.contains_key(&space);
            if node == self.config.node || self.is_blocked(&node) || self.book.blocked.contains(&space) || !is_wanted {
                continue;
            }
            let Ok(record) = record.verify() else {
                match link {
                    Some(link) => self.blame(link, FORGED_POINTS, "a record that its peer did not sign", now_ms, store, acts),
                    None => tracing::warn!(?node, "a DHT has a record that its peer did not sign"),
                }
                return;
            };
            let addresses = believable(&record.addresses);
            let is_introduced = (is_member || is_followed || is_sought) && self.is_word_of_others(by, &node);
            let proves_space = || link.and_then(|link| self.links.get(&link)?.remote.as_ref()).is_some_and(|remote| proves(remote, &space, store));
            let is_of_space = is_introduced || sender == Some(node) && is_followed && proves_space();
            let contacts = &self.book.contacts;
            let seq = record.seq;
            let taken = self.book.records.take(record, now_ms, |node| contacts.get(node).is_none_or(|contact| contact.source == Source::Came));
            // An old one of somebody whose clock was set right goes round for ever. Whom nobody here knows takes nobody's place.
            if taken == Taken::Ahead && sender == Some(node) && self.voice(&node).is_some() {
                if self.ahead.len() >= AHEAD_MAX {
                    self.ahead.retain(|_, (_, heard_ms)| is_lately(*heard_ms, now_ms));
                }
                if self.ahead.len() < AHEAD_MAX {
                    self.ahead.insert(node, (seq.saturating_sub(now_ms), now_ms));
                }
            }
            match taken {
                Taken::New => {
                    self.ahead.remove(&node);
                    let teller = match sender {
                        _ if let By::Dht(dht) = by => Teller::Dht(dht),
                        Some(sender) if sender == node => Teller::Himself,
                        Some(sender) => match self.in_common(&sender, &node) {
                            Some(space) => Teller::Member { space, node: sender },
                            None => Teller::Connected(sender),
                        },
                        None => Teller::Himself,
                    };
                    self.told.insert(node, teller);
                    if self.told.len() > super::records::RECORDS_MAX {
                        self.told.retain(|node, _| self.book.records.of(node).is_some());
                    }
                    if is_member {
                        news.push(node);
                    }
                    if is_of_space {
                        self.remember_via(&space, node);
                    }
                    if is_known || is_introduced {
                        // His own word says where he is, and makes nobody of him who is known in another way.
                        self.book.meet(node, if is_introduced { Source::Introduced } else { Source::Came }, &addresses, now_ms);
                        if let Some(call) = self.calls.get_mut(&node).filter(|call| !call.is_calling) {
                            (call.next_ms, call.attempts) = (now_ms, 0);
                        }
                    }
                    acts.extend([Act::Save, Act::Changed]);
                }
                // Who has an old one gets the new one.
                Taken::Old if sender != Some(node) => {
                    if let Some(link) = link {
                        self.answer_records(link, &[node], now_ms, store, acts);
                    }
                }
                Taken::Old | Taken::Known | Taken::Ahead => {}
            }
        }
        self.hand_on(link, &news, now_ms, store, acts);
    }

    /// Whether it is somebody else who says so of a peer, and no stranger: two of these could speak for each other.
    fn is_word_of_others(&self, by: By, of: &PublicKey) -> bool {
        let By::Link(link) = by else { return true };
        let Some((remote, node)) = self.links.get(&link).and_then(|linked| Some((linked.remote.as_ref()?, linked.node))) else { return false };
        let id = id_of(remote, node);
        let is_known = || self.book.contacts.get(&id).is_some_and(|contact| contact.source > Source::Came);
        id != *of && remote.node != *of && (is_known() || self.in_common(&id, of).is_some())
    }

    /// Hands on what is new of members to other members of the same community. Each does so once, so it goes round.
    fn hand_on(&mut self, from: Option<LinkId>, news: &[PublicKey], now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        if news.is_empty() {
            return;
        }
        let others: Vec<(LinkId, PublicKey)> = self
            .links
            .iter()
            .filter(|(link, linked)| Some(**link) != from && linked.session.is_agreed(RECORDS))
            .filter_map(|(link, linked)| Some((*link, linked.node?)))
            .collect();
        for (link, other) in others {
            let of: Vec<PublicKey> = news.iter().filter(|node| **node != other && self.in_common(&other, node).is_some()).copied().collect();
            for keys in of.chunks(ASKED_MAX) {
                self.answer_records(link, keys, now_ms, store, acts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;

    use super::super::book::Follow;
    use super::super::{Book, Call, Config, Outbox};
    use super::*;

    fn key(number: u8) -> PublicKey {
        SecretKey::from_seed([number; 32]).public()
    }

    /// A peer that follows a space which comes from two others.
    fn follower(via: &[u8]) -> Node {
        let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), true, 8, false);
        let config = Config { node: key(1), space: key(2), device: key(3), name, is_offline, links_max, has_feeds };
        let mut node = Node::new(config, Book::default(), Outbox::default());
        node.book.following.insert(key(10), Follow { since_ms: 1, via: via.iter().map(|number| key(*number)).collect() });
        node
    }

    fn called(node: &mut Node, whom: u8, problem: Option<&str>) {
        let call = Call { is_calling: false, attempts: 1, next_ms: 0, problem: problem.map(str::to_owned) };
        node.calls.insert(key(whom), call);
    }

    #[test]
    fn the_public_dht_is_asked_when_the_others_were_called_in_vain_or_had_time() {
        let mut node = follower(&[4, 5]);
        let sought = |node: &Node| [false, true].map(|had_time| node.sought(had_time).contains(&key(10)));
        assert_eq!(sought(&node), [false, true], "nobody was called yet");
        called(&mut node, 4, Some("no answer"));
        called(&mut node, 5, None);
        assert_eq!(sought(&node), [false, true], "one may still answer");
        called(&mut node, 5, Some("no answer"));
        assert_eq!(sought(&node), [true, true]);
        // By the key alone: the local network may have it.
        assert_eq!(sought(&follower(&[])), [false, true]);
        // That it is read changes nothing for what is followed.
        let mut reading = follower(&[4]);
        reading.visits.insert(key(10), u64::MAX);
        reading.visits.insert(key(11), u64::MAX);
        assert_eq!(sought(&reading), [false, true]);
        assert!(reading.sought(false).contains(&key(11)), "who reads it waits");
    }

    /// Ada has two machines. The one that a DHT has by the key of her space is off.
    #[test]
    fn other_machines_of_somebody_are_looked_for_when_one_is_called_in_vain() {
        let mut node = follower(&[4]);
        let (mirrors, inbox) = (vec![key(5)], vec![key(4), key(6)]);
        let content = PeerRecord { node: key(4), space: key(10), seq: 1, addresses: vec![], mirrors, inbox, communities: vec![] };
        node.book.records.take(Verified::sign(content, &SecretKey::from_seed([4; 32])).expect("our own"), 1, |_| true);
        called(&mut node, 4, None);
        assert!(node.mirrors_of(&[key(10)]).is_empty());
        called(&mut node, 4, Some("no answer"));
        assert_eq!(node.mirrors_of(&[key(10)]), BTreeMap::from([(key(5), key(10)), (key(6), key(10))]));
        assert!(node.mirrors_of(&[key(11)]).is_empty(), "nobody looks for that one");
        node.book.blocked.push(key(5));
        assert_eq!(node.mirrors_of(&[key(10)]), BTreeMap::from([(key(6), key(10))]));
    }
}
