//! Where the spaces of members of communities lie while their own machines are off: with machines of other members, by the
//! rule for files ([`placement`]).
//!
//! A community names machines, and the record that a machine signed names the space. So all members that have the same
//! records come to the same; who lacks one does not find that space yet.
//!
//! [`placement`]: crate::community::placement

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::PublicKey;

use super::{Act, Node, VISIT_MS, core};
use crate::community::Machine;
use crate::community::holding::Tried;
use crate::community::holding::checking::Doubts;
use crate::community::placement::{Offer, holders, weigh};
use crate::sync::Replica;

/// How long it is remembered who has a space that is read.
const RANKED_MS: u64 = 60_000;
/// How far clocks of machines may be apart: who says that he was there later than that says nothing.
const SEEN_AHEAD_MS: u64 = 3_600_000;

/// Whether who said this last that he is there was so lately.
pub(crate) fn was_there(seen_ms: u64, away_ms: u64, now_ms: u64) -> bool {
    seen_ms.saturating_add(away_ms) > now_ms && seen_ms <= now_ms.saturating_add(SEEN_AHEAD_MS)
}

/// What a community says of where things are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placing {
    /// Copies of everything.
    pub replicas: u8,
    /// After how long who is away does not count any more.
    pub away_ms: u64,
    /// The machines of its members.
    pub machines: Vec<Machine>,
}

impl Placing {
    /// The machines that things are placed with now: who offers something, and was there lately. This one is there, whatever it
    /// said last: it may just have come back.
    #[must_use]
    pub fn offers(&self, now_ms: u64, own: &PublicKey) -> Vec<Offer> {
        let is_there = |machine: &&Machine| machine.stores > 0 && (machine.node == *own || was_there(machine.seen_ms, self.away_ms, now_ms));
        let offer = |machine: &Machine| Offer { node: machine.node, of: machine.of, bytes: machine.stores, weight: machine.stores };
        let mut offers: Vec<Offer> = self.machines.iter().filter(is_there).map(offer).collect();
        // Members may name a machine twice; what it offers is the least that is said.
        offers.sort_unstable_by_key(|offer| (offer.node, offer.bytes, offer.of));
        offers.dedup_by_key(|offer| offer.node);
        weigh(&mut offers);
        offers
    }

    /// What these machines say of those that could not show what they hold.
    fn doubts(&self, now_ms: u64, own: &PublicKey) -> Doubts {
        Doubts::among(self.away_ms, self.machines.iter(), own, now_ms)
    }
}

/// What this peer holds of the spaces of members, and what it found out about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Spaces that are kept open, so that what is in them comes and stays.
    pub spaces: BTreeSet<PublicKey>,
    /// Spaces that take more than their share: they are neither taken from others nor served, unless they are followed.
    pub shut: BTreeSet<PublicKey>,
    /// Machines with the spaces that they call their own, of which these know nothing.
    pub untrue: BTreeSet<(PublicKey, PublicKey)>,
    /// Spaces that were opened for members on the word of a machine alone, by the first keys of those members. That is remembered:
    /// who could have it forgotten by a restart would have one after the other opened.
    pub tried: BTreeMap<PublicKey, Tried>,
}

impl Node {
    /// The spaces that machines of members call their own, as far as records of them are here; those that the owner blocked are
    /// left out.
    #[must_use]
    pub fn spaces_of_machines(&self) -> BTreeMap<PublicKey, PublicKey> {
        let nodes = self.members.values().flatten().filter(|node| !self.book.blocked.contains(node));
        let claimed = nodes.filter_map(|node| Some((*node, self.book.records.of(node)?.space)));
        claimed.filter(|(_, space)| !self.book.blocked.contains(space)).collect()
    }

    /// Whether a machine of another member of a community is connected.
    #[must_use]
    pub fn is_anybody_there(&self, community: &PublicKey) -> bool {
        self.members.get(community).into_iter().flatten().any(|node| *node != self.config.node && self.link_to(node).is_some())
    }

    /// The machines that may have the space of a member: those that it is placed with, and his own.
    fn holders_of(&self, space: &PublicKey, now_ms: u64) -> Vec<PublicKey> {
        let mut all = Vec::new();
        for (community, placing) in &self.placing {
            let calls_it_his = |node: &PublicKey| {
                self.book.records.of(node).is_some_and(|record| record.space == *space) && !self.holds.untrue.contains(&(*node, *space))
            };
            let own: Vec<PublicKey> = placing.machines.iter().map(|machine| machine.node).filter(calls_it_his).collect();
            if !own.is_empty() {
                let keeping_back = placing.machines.iter().filter(|machine| machine.keeps_back.contains(space)).map(|machine| machine.node);
                let passed_over: Vec<PublicKey> = own.iter().copied().chain(keeping_back).collect();
                let (offers, doubts) = (placing.offers(now_ms, &self.config.node), placing.doubts(now_ms, &self.config.node));
                all.extend(holders(community, space, &passed_over, &offers, placing.replicas, |node| !doubts.is_doubted_for_space(node, space)));
                all.extend(own);
            }
        }
        all.sort_unstable();
        all.dedup();
        all.retain(|node| *node != self.config.node);
        all
    }

    /// Whether a machine has the space of a member, as far as that is known here: of others it is if they sync it with this peer.
    #[must_use]
    pub fn has_space(&self, node: &PublicKey, space: &PublicKey) -> Option<bool> {
        if *node == self.config.node {
            return Some(self.holds.spaces.contains(space) || self.book.following.contains_key(space));
        }
        let main = core(space)[1];
        let is_synced = self.links.values().any(|linked| linked.node == Some(*node) && linked.channels.contains_key(&main));
        is_synced.then_some(true)
    }

    /// Keeps a space open for a while.
    pub(super) fn visit(&mut self, space: PublicKey, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let last_ms = self.visits.get(&space).map(|until| until.saturating_sub(VISIT_MS));
        // Who has it is worked out once a minute at most.
        if last_ms.is_none_or(|last_ms| last_ms / RANKED_MS != now_ms / RANKED_MS) || !self.holders.contains_key(&space) {
            let holders = self.holders_of(&space, now_ms);
            self.holders.retain(|space, _| self.visits.contains_key(space));
            // Who was not reached when nothing was wanted of him is called at once.
            let missed: Vec<PublicKey> = holders.iter().filter(|node| last_ms.is_none() && !self.is_linked(node)).copied().collect();
            for node in &missed {
                if let Some(call) = self.calls.get_mut(node).filter(|call| !call.is_calling) {
                    (call.next_ms, call.attempts) = (now_ms, 0);
                }
            }
            if !holders.is_empty() {
                self.holders.insert(space, holders);
            }
        }
        let is_new = self.visits.insert(space, now_ms + VISIT_MS).is_none() && !self.book.following.contains_key(&space);
        if is_new {
            self.open_everywhere(space, now_ms, store, acts);
            acts.push(Act::Changed);
        }
    }

    /// Keeps those spaces open that are held now, and no longer those that were held.
    pub(super) fn hold(&mut self, holds: Holds, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let before = std::mem::take(&mut self.held);
        for space in &holds.spaces {
            let visited = self.visits.get(space).copied().unwrap_or(0);
            // Somebody may read it as well.
            let others = before.get(space).filter(|(own, _)| *own == visited).map_or(visited, |(_, others)| *others);
            self.visit(*space, now_ms, store, acts);
            self.held.insert(*space, (now_ms + VISIT_MS, others));
        }
        for (space, (own, others)) in before {
            if let Some(until) = self.visits.get_mut(&space).filter(|until| **until == own && !holds.spaces.contains(&space)) {
                *until = others;
            }
        }
        let is_read = |space: &PublicKey| self.book.following.contains_key(space) || self.visits.get(space).is_some_and(|until| *until > now_ms);
        let shut: Vec<PublicKey> = holds.shut.iter().filter(|space| !is_read(space)).copied().collect();
        for space in shut {
            self.close_everywhere(space, now_ms, store, acts);
        }
        let spaces = |tried: &BTreeMap<PublicKey, Tried>| tried.iter().map(|(member, tried)| (*member, tried.space)).collect::<Vec<_>>();
        if spaces(&self.book.tried) != spaces(&holds.tried) {
            acts.push(Act::Save);
        }
        self.book.tried.clone_from(&holds.tried);
        self.holds = holds;
    }
}

#[cfg(test)]
mod tests {
    use timebus_identity::{SecretKey, Verified};
    use timebus_store::change::Change;
    use timebus_store::ids::TimelineId;
    use timebus_store::json::Json;
    use timebus_store::path::Path;
    use timebus_store::store::{Config as StoreConfig, Store, lock_home};
    use timebus_store::writer::{Action, Condition, Request};

    use super::super::known::World;
    use super::super::{Book, Config, Event, Outbox};
    use super::*;
    use crate::held::Held;
    use crate::record::PeerRecord;
    use crate::sync::{Binding, Remote, Role};

    const NOW_MS: u64 = 1_800_000_000_000;

    fn key(number: u8) -> PublicKey {
        SecretKey::from_seed([number; 32]).public()
    }

    fn node() -> Node {
        let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), true, 8, false);
        let config = Config { node: key(1), space: key(2), device: key(3), name, is_offline, links_max, has_feeds };
        Node::new(config, Book::default(), Outbox::default())
    }

    fn store(home: &std::path::Path) -> Store {
        let lock = lock_home(home).expect("a free home");
        Store::open(home, lock, &StoreConfig::default(), 1, &mut |_| {}).expect("a new store")
    }

    fn hold(node: &mut Node, now_ms: u64, spaces: &[PublicKey], shut: &[PublicKey], replica: &dyn Replica) {
        let holds = Holds { spaces: spaces.iter().copied().collect(), shut: shut.iter().copied().collect(), ..Holds::default() };
        node.handle(now_ms, Event::Hold(Box::new(holds)), replica);
    }

    fn link_up(node: &mut Node, replica: &dyn Replica) {
        let prove = Box::new(|_: &[u8]| Vec::new());
        let (binding, nonce, way) = (Binding([0; 32]), [0; 32], String::new());
        node.handle(
            NOW_MS,
            Event::LinkUp { link: 1, node: Some(key(4)), called: Some(key(4)), role: Role::Initiator, binding, nonce, prove, way },
            replica,
        );
    }

    #[test]
    fn what_is_not_held_any_more_is_closed_unless_somebody_reads_it() {
        let home = tempfile::tempdir().expect("a folder");
        let store = store(home.path());
        let (replica, mut node) = (Held::now(&store, [0; 16], NOW_MS), node());
        node.handle(NOW_MS, Event::Visit { space: key(11) }, &replica);
        for at in 1..4 {
            hold(&mut node, NOW_MS + at, &[key(11), key(12), key(13)], &[], &replica);
        }
        node.handle(NOW_MS + 5, Event::Visit { space: key(13) }, &replica);
        hold(&mut node, NOW_MS + 6, &[], &[key(12)], &replica);
        let until: Vec<u64> = [11, 12, 13].map(|number| node.visits.get(&key(number)).copied().unwrap_or(0)).into();
        assert_eq!(until, [NOW_MS + VISIT_MS, 0, NOW_MS + 5 + VISIT_MS]);
    }

    #[test]
    fn what_takes_more_than_its_share_is_not_synced_unless_it_is_followed() {
        let home = tempfile::tempdir().expect("a folder");
        let store = store(home.path());
        let (replica, mut node) = (Held::now(&store, [0; 16], NOW_MS), node());
        let (space, main) = (store.space(), TimelineId::named(&store.space(), "main"));
        let remote = Remote { node: key(4), space, keys: vec![store.device()], name: String::new(), addresses: vec![] };
        let may = |node: &Node| World { store: &replica, book: &node.book, shut: &node.holds.shut }.may_sync(&remote, &space, &main).expect("reads");
        assert!(may(&node));
        hold(&mut node, NOW_MS, &[], &[space], &replica);
        assert!(!may(&node));
        node.handle(NOW_MS, Event::Follow { space, via: vec![] }, &replica);
        assert!(may(&node));
        node.book.blocked.push(space);
        assert!(!may(&node), "nor what is blocked");
    }

    #[test]
    fn on_whose_word_a_space_was_opened_is_remembered() {
        let home = tempfile::tempdir().expect("a folder");
        let store = store(home.path());
        let (replica, mut node) = (Held::now(&store, [0; 16], NOW_MS), node());
        let tried = |at_ms: u64| BTreeMap::from([(key(4), Tried { space: key(11), at_ms })]);
        let mut is_saved = |at_ms: u64| {
            let holds = Holds { tried: tried(at_ms), ..Holds::default() };
            let acts = node.handle(NOW_MS, Event::Hold(Box::new(holds)), &replica);
            (acts.iter().any(|act| matches!(act, Act::Save)), node.book().tried == tried(at_ms))
        };
        assert_eq!(is_saved(NOW_MS), (true, true));
        assert_eq!(is_saved(NOW_MS + 1), (false, true), "it is not written again and again as time passes");
        let text = serde_json::to_string(node.book()).expect("writes");
        assert_eq!(serde_json::from_str::<Book>(&text).expect("reads").tried, tried(NOW_MS + 1));
    }

    #[test]
    fn what_is_blocked_is_not_opened_and_placed_nowhere() {
        let home = tempfile::tempdir().expect("a folder");
        let store = store(home.path());
        let (replica, mut node) = (Held::now(&store, [0; 16], NOW_MS), node());
        link_up(&mut node, &replica);
        let remote = Remote { node: key(4), space: key(11), keys: vec![key(5)], name: String::new(), addresses: vec![] };
        node.links.get_mut(&1).expect("it is up").remote = Some(remote);
        node.members.insert(key(10), BTreeSet::from([key(4)]));
        let content = PeerRecord { node: key(4), space: key(11), seq: 1, addresses: vec![], mirrors: vec![], inbox: vec![], communities: vec![] };
        node.book.records.take(Verified::sign(content, &SecretKey::from_seed([4; 32])).expect("our own"), NOW_MS, |_| true);
        assert_eq!(node.spaces_of_machines(), BTreeMap::from([(key(4), key(11))]));
        node.book.blocked.push(key(11));
        assert!(node.spaces_of_machines().is_empty());
        node.handle(NOW_MS, Event::Visit { space: key(11) }, &replica);
        assert!(!node.plans.contains_key(&key(11)), "nobody is asked for it");
        node.handle(NOW_MS, Event::Visit { space: key(12) }, &replica);
        assert!(node.plans.contains_key(&key(12)));
    }

    #[test]
    fn this_machine_is_there_and_who_says_so_of_the_future_is_not() {
        let machine = |number: u8, seen_ms: u64| Machine {
            node: key(number),
            of: key(number),
            stores: 100,
            seen_ms,
            keeps_back: BTreeSet::new(),
            unshown: BTreeSet::new(),
        };
        let hour = 3_600_000;
        let machines = vec![machine(1, 0), machine(2, 0), machine(3, NOW_MS + hour), machine(4, NOW_MS + hour + 1), machine(5, u64::MAX)];
        let placing = Placing { replicas: 1, away_ms: 24 * hour, machines };
        let there = |own: u8| placing.offers(NOW_MS, &key(own)).into_iter().map(|offer| offer.node).collect::<BTreeSet<_>>();
        assert_eq!(there(1), BTreeSet::from([key(1), key(3)]));
        assert_eq!(there(9), BTreeSet::from([key(3)]));
    }

    #[test]
    fn only_those_are_called_whom_the_space_does_not_deny_and_each_offer_counts_once() {
        let home = tempfile::tempdir().expect("a folder");
        let store = store(home.path());
        let (replica, mut node) = (Held::now(&store, [0; 16], NOW_MS), node());
        let machine = |number: u8, stores: u64| Machine {
            node: key(number),
            of: key(number),
            stores,
            seen_ms: NOW_MS,
            keeps_back: BTreeSet::new(),
            unshown: BTreeSet::new(),
        };
        let machines = vec![machine(4, 0), machine(5, 0), machine(6, 500), machine(6, 100)];
        let placing = Placing { replicas: 1, away_ms: 10 * RANKED_MS, machines };
        assert_eq!(placing.offers(NOW_MS, &key(1)), [Offer { node: key(6), of: key(6), bytes: 100, weight: 100 }]);
        node.placing.insert(key(10), placing);
        for number in [4, 5] {
            let content =
                PeerRecord { node: key(number), space: key(11), seq: 1, addresses: vec![], mirrors: vec![], inbox: vec![], communities: vec![] };
            node.book.records.take(Verified::sign(content, &SecretKey::from_seed([number; 32])).expect("our own"), NOW_MS, |_| true);
        }
        let sorted = |mut nodes: Vec<PublicKey>| {
            nodes.sort_unstable();
            nodes
        };
        node.handle(NOW_MS, Event::Visit { space: key(11) }, &replica);
        assert_eq!(node.holders[&key(11)], sorted(vec![key(4), key(5), key(6)]));
        let untrue = BTreeSet::from([(key(5), key(11))]);
        node.handle(NOW_MS, Event::Hold(Box::new(Holds { untrue, ..Holds::default() })), &replica);
        // It is worked out again a minute later.
        node.handle(NOW_MS + 1, Event::Visit { space: key(11) }, &replica);
        assert_eq!(node.holders[&key(11)].len(), 3);
        node.handle(NOW_MS + RANKED_MS, Event::Visit { space: key(11) }, &replica);
        assert_eq!(node.holders[&key(11)], sorted(vec![key(4), key(6)]));
    }

    /// Somebody who is blocked says that he is of another space.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_blocked_is_so_whatever_he_says_of_himself() {
        let home = tempfile::tempdir().expect("a folder");
        let store = store(home.path());
        let (path, condition) = (Path::parse("/note").expect("a path"), Condition::None);
        let action = Action::Put(Json::Int(1));
        let request = Request { space: None, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
        store.write(request).await.expect("written");
        let (rows, main) = (store.snapshot(), store.own().main());
        let (_, said) = store.changes(&rows, main, 0).next().expect("one").expect("reads");
        let record = store.log().read(said.place).expect("a record");
        let replica = Held::now(&store, [0; 16], NOW_MS);
        for is_blocked in [false, true] {
            let mut node = node();
            if is_blocked {
                node.book.blocked.push(store.space());
            }
            link_up(&mut node, &replica);
            let remote = Remote { node: key(4), space: key(11), keys: vec![store.device()], name: String::new(), addresses: vec![] };
            node.ready(1, remote.clone(), NOW_MS, &replica, &mut Vec::new());
            assert_eq!(node.book.contacts.is_empty(), is_blocked);
            // Nor is what he leaves taken when somebody else brings it.
            let mut other = self::node();
            other.book.blocked = node.book.blocked;
            link_up(&mut other, &replica);
            other.links.get_mut(&1).expect("it is up").remote = Some(Remote { keys: vec![key(5)], ..remote });
            let mut acts = Vec::new();
            let notice = Change::decode(&record.payload).expect("a change");
            assert_eq!(notice.content().header().author, store.device());
            other.notices(1, key(2), vec![notice], NOW_MS, &replica, &mut acts);
            assert_eq!(acts.iter().any(|act| matches!(act, Act::Notices { .. })), !is_blocked);
        }
        // Nor is he let stay.
        let mut node = node();
        link_up(&mut node, &replica);
        let remote = Remote { node: key(4), space: key(11), keys: vec![store.device()], name: String::new(), addresses: vec![] };
        node.ready(1, remote, NOW_MS, &replica, &mut Vec::new());
        let acts = node.handle(NOW_MS, Event::Block { who: store.space(), is_blocked: true }, &replica);
        assert!(acts.iter().any(|act| matches!(act, Act::Close { link: 1, .. })));
    }

    /// Somebody who is connected does not give what he has nothing of.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_has_nothing_of_a_space_refuses_nothing() {
        let home = tempfile::tempdir().expect("a folder");
        let store = store(home.path());
        let replica = Held::now(&store, [0; 16], NOW_MS);
        let (space, owners, others) = (key(11), key(7), key(4));
        let mut node = node();
        node.handle(NOW_MS, Event::Follow { space, via: vec![(owners, vec![])] }, &replica);
        link_up(&mut node, &replica);
        let mut is_refused = |id: PublicKey, of: PublicKey| {
            let linked = node.links.get_mut(&1).expect("it is up");
            linked.node = Some(id);
            linked.remote = Some(Remote { node: id, space: of, keys: vec![key(5)], name: String::new(), addresses: vec![] });
            linked.denied.insert(crate::node::core(&space)[1], (space, NOW_MS + 1));
            node.space(&space).is_refused
        };
        assert!(!is_refused(others, key(12)), "a stranger");
        assert!(is_refused(others, space), "who says that it is his");
        assert!(is_refused(owners, key(12)), "by whom it came");
        assert!(is_refused(others, key(2)), "another device of one's own");
    }
}
