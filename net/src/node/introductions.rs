//! Who is told of whom, and how many of those one heard of are called: what decides who knows whom among very many
//! that want the same. The node and the simulation of swarms decide by it.

use timebus_identity::{PublicKey, hash};
use timebus_store::ids::TimelineId;

use super::book::Source;
use super::{Act, LinkId, Node, believable, id_of, is_in};
use crate::link::Standing;
use crate::sync::frame::{PROVIDERS_MAX, Provider};
use crate::sync::{Input, Replica, Role};

/// Links that a space of somebody else is read over; more peers are not called for it.
const LINKS_OF_SPACE: usize = 4;
/// The same while a large file of it is fetched: who knows more others finds more that they have and he lacks. About as many
/// come by themselves; with more in all, telling each of them of each piece takes more than it brings.
const LINKS_WHILE_FETCHING: usize = 12;
/// Of the links that others may open, one in so many is kept for telling newcomers who else has what they want.
const SPARE_PART: usize = 16;
/// Seconds until it makes sense for such a newcomer to come back.
pub const CROWDED_S: u64 = 60;
/// How long a newcomer is told of the same others.
const INTRODUCED_MS: u64 = 5 * 60_000;
/// Calls under way at once; the others wait for their turn.
pub const CALLS_MAX: usize = 16;
/// Peers remembered that others named for one space.
pub const VIA_MAX: usize = 64;
/// Who was called in vain so often, which takes about half an hour, makes room for a new one.
const VAIN_CALLS: u32 = 10;

/// Whom a newcomer is told of: to each newcomer others, so that nobody has to serve all of them.
pub fn to_tell<T>(newcomer: &PublicKey, now_ms: u64, mut others: Vec<T>, node: impl Fn(&T) -> PublicKey) -> Vec<T> {
    // Others each time, if one comes back because these were not reached.
    let epoch = (now_ms / INTRODUCED_MS).to_be_bytes();
    others.sort_by_cached_key(|other| hash("introduce", &[newcomer.as_bytes(), node(other).as_bytes(), &epoch]));
    others.truncate(PROVIDERS_MAX);
    others
}

/// Whether nearly all links are taken that others may open, by how many did.
#[must_use]
pub fn is_crowded(came: usize, links_max: usize) -> bool {
    came > links_max - links_max.div_ceil(SPARE_PART)
}

/// Whether those whom others named for a space are called, by how many of them are linked. The first ones named are called
/// first: they are near where the space came from, get what is new early, and meet in one another whom they ask for the
/// rest. With those who were named last, some know nobody who has what they lack but the origin, and ask that again.
#[must_use]
pub fn calls_more(links: usize, is_fetching: bool) -> bool {
    links < if is_fetching { LINKS_WHILE_FETCHING } else { LINKS_OF_SPACE }
}

impl Node {
    /// Whether nearly all links that others may open are taken, and this one is none that has to be with this peer.
    pub(super) fn is_crowded(&self, link: LinkId) -> bool {
        let Some(linked) = self.links.get(&link).filter(|linked| linked.role == Role::Responder) else { return false };
        // Who is known less leaves for it.
        let came = self.links.values().filter(|other| other.role == Role::Responder && other.standing >= linked.standing).count();
        is_crowded(came, self.config.links_max) && linked.standing != Standing::Own
    }

    /// Tells who else holds a timeline. Says whether there is anybody.
    pub(super) fn introduce(&mut self, link: LinkId, timeline: TimelineId, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) -> bool {
        let Some((linked, remote)) = self.links.get(&link).and_then(|linked| Some((linked, linked.remote.as_ref()?))) else { return false };
        let newcomer = id_of(remote, linked.node);
        // Who was thrown out hears that he was, and not where the others are.
        if linked.channels.get(&timeline).is_some_and(|channel| !is_in(remote, &channel.space, store)) {
            return false;
        }
        let others = self.links.iter().filter(|(other, linked)| **other != link && linked.channels.contains_key(&timeline));
        let providers: Vec<Provider> = others
            .filter_map(|(_, linked)| Some((linked.node?, linked.remote.as_ref()?)))
            .filter(|(_, remote)| !remote.addresses.is_empty())
            .map(|(node, remote)| Provider { node, addresses: remote.addresses.clone() })
            .collect();
        let providers = to_tell(&newcomer, now_ms, providers, |provider| provider.node);
        let is_somebody = !providers.is_empty();
        if is_somebody {
            self.drive(link, Input::Providers { timeline, providers }, now_ms, store, acts);
        }
        is_somebody
    }

    pub(super) fn introduced(&mut self, timeline: &TimelineId, providers: Vec<Provider>, now_ms: u64, acts: &mut Vec<Act>) {
        let Some(space) = self.space_of(timeline) else { return };
        for Provider { node, addresses } in providers {
            if node == self.config.node || self.book.blocked.contains(&node) {
                continue;
            }
            if self.remember_via(&space, node) {
                self.book.hear_of(node, &believable(&addresses), now_ms);
                acts.push(Act::Save);
            }
        }
    }

    /// Remembers somebody who has a space, as others say. As many as there is room for stay, but for those of whom nothing else is known
    /// and whom nobody reaches: whoever names many keeps no new ones out for good. Says whether he is remembered.
    pub(super) fn remember_via(&mut self, space: &PublicKey, node: PublicKey) -> bool {
        let Some(follow) = self.book.following.get(space) else { return false };
        if follow.via.contains(&node) {
            return true;
        }
        let (contacts, calls) = (&self.book.contacts, &self.calls);
        let vain = |id: &PublicKey| {
            let is_introduced = contacts.get(id).is_none_or(|contact| contact.source == Source::Introduced);
            let call = calls.get(id).filter(|call| is_introduced && call.problem.is_some() && call.attempts >= VAIN_CALLS)?;
            Some(call.attempts)
        };
        let gone = match follow.via.len() < VIA_MAX {
            true => None,
            false => match follow.via.iter().filter_map(|id| Some((vain(id)?, *id))).max() {
                Some((_, id)) => Some(id),
                None => return false,
            },
        };
        let Some(follow) = self.book.following.get_mut(space) else { return false };
        follow.via.retain(|id| Some(*id) != gone);
        follow.via.push(node);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use timebus_store::store::{Config as StoreConfig, Store, lock_home};

    use super::super::{Book, Call, Config, Event, Outbox};
    use super::*;
    use crate::held::Held;
    use crate::sync::Binding;

    const BEGIN_MS: u64 = 1_800_000_000_000;
    const MINUTE_MS: u64 = 60_000;
    /// How long an attacker has a peer to himself.
    const SURROUNDED_MS: u64 = 120 * MINUTE_MS;
    /// The longest pause between two calls, as [`super::super::calls::retry_ms`] has it.
    const PAUSE_MS: u64 = 5 * MINUTE_MS * 5 / 4;

    fn key(number: u32) -> PublicKey {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    /// A peer all of whose neighbours are an attacker's: they take all links that others may open, answer whenever they are called,
    /// name ever more of themselves for what is followed here, and say of the honest ones that they are elsewhere.
    struct Surrounded {
        node: Node,
        store: Store,
        now_ms: u64,
        links: BTreeMap<PublicKey, LinkId>,
        last_link: LinkId,
        sybils: u32,
        /// Where the honest ones are, and since when they answer.
        honest: BTreeMap<PublicKey, String>,
        answer_ms: u64,
        _home: tempfile::TempDir,
    }

    impl Surrounded {
        fn new() -> Self {
            let home = tempfile::tempdir().expect("a folder");
            let lock = lock_home(home.path()).expect("a free home");
            let store = Store::open(home.path(), lock, &StoreConfig::default(), 1, &mut |_| {}).expect("a new store");
            let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), false, 16, false);
            let config = Config { node: key(0), space: store.space(), device: store.device(), name, is_offline, links_max, has_feeds };
            let node = Node::new(config, Book::default(), Outbox::default());
            let (links, honest) = (BTreeMap::new(), BTreeMap::new());
            Self { node, store, now_ms: BEGIN_MS, links, last_link: 0, sybils: 1000, honest, answer_ms: u64::MAX, _home: home }
        }

        fn handle(&mut self, event: Event) {
            let mut events = vec![event];
            while let Some(event) = events.pop() {
                // The attacker says what keeps his links, and what a peer says that is there.
                self.node.links.values_mut().for_each(|linked| linked.timer_ms = None);
                for (node, call) in &mut self.node.calls {
                    call.is_calling &= !self.links.contains_key(node);
                }
                let acts = self.node.handle(self.now_ms, event, &Held::now(&self.store, [0; 16], self.now_ms));
                for act in acts {
                    match act {
                        Act::Call { node, addresses } => {
                            let is_there = self.honest.get(&node).is_none_or(|at| addresses.contains(at) && self.now_ms >= self.answer_ms);
                            events.push(match is_there {
                                true => self.link(node, Role::Initiator),
                                false => Event::NotReached { node, why: "nobody answers".to_owned() },
                            });
                        }
                        Act::Close { link, .. } => {
                            self.links.retain(|_, other| *other != link);
                            events.push(Event::LinkDown { link, why: "closed".to_owned() });
                        }
                        _ => {}
                    }
                }
            }
        }

        fn link(&mut self, node: PublicKey, role: Role) -> Event {
            self.last_link += 1;
            self.links.insert(node, self.last_link);
            let (binding, nonce, way, prove) = (Binding([0; 32]), [0; 32], String::new(), Box::new(|_: &[u8]| Vec::new()));
            Event::LinkUp { link: self.last_link, node: Some(node), called: None, role, binding, nonce, prove, way }
        }

        /// What the attacker does in a minute.
        fn attack(&mut self, timeline: &TimelineId) {
            let came = |surrounded: &Self| surrounded.node.links.values().filter(|linked| linked.role == Role::Responder).count();
            while came(self) < 16 {
                self.sybils += 1;
                let up = self.link(key(self.sybils), Role::Responder);
                self.handle(up);
            }
            let somewhere = |number: u32, count: u32| {
                (0..count).map(move |at| format!("10.{}.{}.{at}:9", (number >> 8) & 255, number & 255)).collect::<Vec<String>>()
            };
            let first = self.sybils + 1;
            self.sybils += 50;
            let others = (first..=self.sybils).map(|number| Provider { node: key(number), addresses: somewhere(number, 1) });
            let elsewhere: Vec<Provider> = self.honest.keys().map(|node| Provider { node: *node, addresses: somewhere(self.sybils, 8) }).collect();
            self.node.introduced(timeline, others.chain(elsewhere).collect(), self.now_ms, &mut Vec::new());
        }
    }

    /// A guest names 64 machines that there are not.
    #[test]
    fn whom_nobody_reaches_keeps_out_nobody_who_is_new() {
        let mut surrounded = Surrounded::new();
        let (space, of_invite) = (key(1), key(2));
        let timeline = TimelineId::named(&space, "main");
        surrounded.node.follow(space, Source::Invite, &[(of_invite, vec!["192.0.2.1:9".to_owned()])], BEGIN_MS);
        let node = &mut surrounded.node;
        let name = |node: &mut Node, number: u32| {
            let provider = Provider { node: key(number), addresses: vec!["192.0.2.9:9".to_owned()] };
            node.introduced(&timeline, vec![provider], BEGIN_MS, &mut Vec::new());
            node.book.following[&space].via.contains(&key(number))
        };
        assert!((100..163).all(|number| name(node, number)) && !name(node, 200), "it is full");
        let vain = |attempts| Call { attempts, problem: Some("nobody answers".to_owned()), ..Call::default() };
        node.calls = (100..163).map(|number| (key(number), vain(9))).chain([(of_invite, vain(99))]).collect();
        assert!(!name(node, 200), "they may just be off");
        node.calls.extend([(key(101), vain(12)), (key(102), vain(11))]);
        assert!(name(node, 200) && name(node, 201) && !name(node, 202));
        let via = &node.book.following[&space].via;
        assert!(via.len() == VIA_MAX && via.contains(&of_invite) && [101, 102].iter().all(|number| !via.contains(&key(*number))));
    }

    #[test]
    fn who_is_surrounded_finds_those_whom_the_owner_knows_as_soon_as_they_answer() {
        let mut surrounded = Surrounded::new();
        let (space, of_invite, typed) = (key(1), key(2), key(3));
        let timeline = TimelineId::named(&space, "main");
        surrounded.honest = BTreeMap::from([(of_invite, "192.0.2.1:9".to_owned()), (typed, "192.0.2.2:9".to_owned())]);
        surrounded.node.follow(space, Source::Invite, &[(of_invite, vec!["192.0.2.1:9".to_owned()])], BEGIN_MS);
        surrounded.handle(Event::Follow { space, via: vec![(typed, vec!["192.0.2.2:9".to_owned()])] });
        for minute in 0..SURROUNDED_MS / MINUTE_MS {
            surrounded.now_ms = BEGIN_MS + minute * MINUTE_MS;
            surrounded.attack(&timeline);
            surrounded.handle(Event::Timer);
        }
        let is_honest = |node: &PublicKey| [of_invite, typed].contains(node);
        assert!(surrounded.links.len() >= 16 + LINKS_OF_SPACE && !surrounded.links.keys().any(is_honest), "all neighbours are the attacker's");
        let follow = &surrounded.node.book.following[&space];
        assert!(follow.via.len() == VIA_MAX && [of_invite, typed].iter().all(|node| follow.via.contains(node)));
        // As many as are remembered at all came meanwhile.
        for _ in 0..100 {
            surrounded.attack(&timeline);
            let came: BTreeSet<PublicKey> = (0..50).map(|at| key(1_000_000 + surrounded.sybils + at)).collect();
            for node in came {
                surrounded.node.book.meet(node, Source::Came, &[], surrounded.now_ms);
            }
        }
        surrounded.answer_ms = surrounded.now_ms;
        while surrounded.links.keys().filter(|node| is_honest(node)).count() < 2 {
            surrounded.now_ms += MINUTE_MS / 6;
            assert!(surrounded.now_ms <= surrounded.answer_ms + PAUSE_MS, "they are found within the pause between two calls");
            surrounded.attack(&timeline);
            surrounded.handle(Event::Timer);
        }
    }
}
