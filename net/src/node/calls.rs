//! Whom to call, and when.

use timebus_identity::{PublicKey, hash};

use super::book::{Contact, Source};
use super::introductions::{CALLS_MAX, calls_more};
use super::{Act, CALLED_BACK_MAX, DENIED_MS, GOOD_LINK_MS, LinkId, Linked, Node, RETRY_MS, RETRY_MS_MAX, id_of, speaks_for};
use crate::sync::{Input, Remote, Replica};

/// Peers of which is kept when they are to be called again: the contacts, of whom there are no more, and somebody else now and then.
const CALLS_KEPT_MAX: usize = 8192;

impl Node {
    pub(super) fn link_down(&mut self, link: LinkId, why: Option<String>, now_ms: u64, acts: &mut Vec<Act>) {
        let Some(linked) = self.links.remove(&link) else { return };
        for timeline in linked.channels.keys() {
            if let Some(feed) = self.feeds.get_mut(timeline) {
                feed.closed(link);
            }
        }
        // By what it proved it is called again below.
        let is_another = |callee: &PublicKey| linked.remote.as_ref().is_none_or(|remote| id_of(remote, linked.node) != *callee);
        if let Some(callee) = linked.callee.filter(is_another).filter(|_| linked.is_callee || linked.remote.is_none()) {
            self.unreached(callee, why.clone(), now_ms);
        }
        let id = linked.remote.as_ref().map(|remote| id_of(remote, linked.node)).or(linked.node);
        if let Some(id) = id {
            if linked.remote.is_some()
                && let Some(contact) = self.book.contacts.get_mut(&id)
            {
                contact.seen_ms = now_ms;
                acts.push(Act::Save);
            }
            if self.calls.len() >= CALLS_KEPT_MAX {
                self.calls.retain(|id, call| call.is_calling || self.book.contacts.contains_key(id));
            }
            let call = self.calls.entry(id).or_default();
            call.is_calling = false;
            call.problem = why;
            if now_ms.saturating_sub(linked.up_ms) >= GOOD_LINK_MS {
                call.attempts = 0;
            }
            call.next_ms = now_ms + retry_ms(&self.config.node, &id, call.attempts);
            call.attempts = call.attempts.saturating_add(1);
        }
        acts.push(Act::Changed);
    }

    /// A call of a peer came to nothing: it is called again later.
    pub(super) fn unreached(&mut self, id: PublicKey, why: Option<String>, now_ms: u64) {
        let call = self.calls.entry(id).or_default();
        call.is_calling = false;
        call.problem = why;
        call.next_ms = now_ms + retry_ms(&self.config.node, &id, call.attempts);
        call.attempts = call.attempts.saturating_add(1);
    }

    /// It is known now who answered where a websocket was opened to call somebody. Any host may answer, and with whatever keys: whoever
    /// does not show that he is who was called leaves the call one that reached nobody.
    pub(super) fn answered(&mut self, link: LinkId, remote: &Remote, now_ms: u64, store: &dyn Replica) {
        let Some(callee) = self.links.get(&link).and_then(|linked| linked.callee) else { return };
        let contact = self.book.contacts.get(&callee);
        let has_key = remote.keys.contains(&callee) || contact.is_some_and(|contact| contact.keys.iter().any(|key| remote.keys.contains(key)));
        let space = remote.space;
        let is_via = || self.book.following.get(&space).is_some_and(|follow| follow.via.contains(&callee));
        let is_of_space = || contact.is_some_and(|contact| contact.space == Some(space)) || is_via();
        let is_callee = has_key || is_of_space() && speaks_for(remote, &space, store);
        if let Some(linked) = self.links.get_mut(&link) {
            linked.is_callee = is_callee;
        }
        if is_callee {
            self.calls.remove(&callee);
        } else {
            self.unreached(callee, Some("who answers there did not show that it is this peer".to_owned()), now_ms);
        }
    }

    /// Whether there is a link to a peer, ready or not.
    pub(super) fn is_linked(&self, id: &PublicKey) -> bool {
        let is_called = |linked: &Linked| linked.callee == Some(*id) && (linked.is_callee || linked.remote.is_none());
        self.links.values().any(|linked| {
            linked.node == Some(*id) || is_called(linked) || linked.remote.as_ref().is_some_and(|remote| id_of(remote, linked.node) == *id)
        })
    }

    /// The peers that are to be called: who has what is wanted, other devices, and who is to be asked for something.
    pub(super) fn callees(&self) -> Vec<PublicKey> {
        let mut all = Vec::new();
        for (space, follow) in &self.book.following {
            let linked = follow.via.iter().filter(|node| self.is_linked(node)).count();
            // Those that the owner knows are called always, others only where these are not enough.
            for node in &follow.via {
                let source = self.book.contacts.get(node).map(|contact| contact.source);
                if source != Some(Source::Introduced) || calls_more(linked, self.gathering.contains_key(space) || self.is_far(space)) {
                    all.push(*node);
                }
            }
            all.extend(self.book.contacts.iter().filter(|(_, contact)| contact.space == Some(*space)).map(|(id, _)| *id));
        }
        for space in self.visits.keys() {
            let holders = self.holders.get(space).into_iter().flatten();
            all.extend(holders.filter(|node| self.book.contacts.contains_key(node)));
            all.extend(self.book.contacts.iter().filter(|(_, contact)| contact.space == Some(*space)).map(|(id, _)| *id));
            all.extend(self.by_record(*space));
        }
        for space in self.outbox.spaces() {
            all.extend(self.holders(&space));
        }
        // Of whom nothing is known cannot be called, but for the local network.
        all.extend(self.seeks.keys().filter(|node| self.book.contacts.contains_key(node)));
        all.extend(self.book.joins.values().filter(|join| join.token.is_some()).map(|join| join.node));
        let is_device = |contact: &Contact| contact.source == Source::Device || contact.space == Some(self.config.space);
        all.extend(self.book.contacts.iter().filter(|(_, contact)| is_device(contact)).map(|(id, _)| *id));
        let is_called = |contact: &Contact| matches!(contact.source, Source::Typed | Source::Guest);
        let mut called: Vec<_> = self
            .book
            .contacts
            .iter()
            .filter(|(_, contact)| is_called(contact))
            .map(|(id, contact)| (contact.seen_ms.max(contact.met_ms), *id))
            .collect();
        called.sort_unstable_by(|a, b| b.cmp(a));
        all.extend(called.into_iter().take(CALLED_BACK_MAX).map(|(_, id)| id));
        all.sort_unstable();
        all.dedup();
        all.retain(|id| *id != self.config.node && !self.is_blocked(id) && !self.is_linked(id));
        all
    }

    /// Whether the owner does not talk to a peer, by its own key or by its space.
    pub(super) fn is_blocked(&self, id: &PublicKey) -> bool {
        let space = self.book.contacts.get(id).and_then(|contact| contact.space);
        self.book.blocked.contains(id) || space.is_some_and(|space| self.book.blocked.contains(&space))
    }

    /// Does what its time has come for, and says when to come back.
    pub(super) fn keep_time(&mut self, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.bans.retain(|_, until| *until > now_ms);
        self.gathering.retain(|_, until| *until > now_ms);
        self.seeks.retain(|_, until| *until > now_ms);
        let over: Vec<PublicKey> = self.visits.iter().filter(|(_, until)| **until <= now_ms).map(|(space, _)| *space).collect();
        for space in over {
            self.visits.remove(&space);
            if let Some(keys) = &mut self.looked_for {
                keys.remove(&space);
            }
            if !self.book.following.contains_key(&space) && space != self.config.space {
                self.close_everywhere(space, now_ms, store, acts);
            }
        }
        let due: Vec<LinkId> =
            self.links.iter().filter(|(_, linked)| linked.timer_ms.is_some_and(|at| at <= now_ms)).map(|(link, _)| *link).collect();
        for link in due {
            if let Some(linked) = self.links.get_mut(&link) {
                linked.timer_ms = None;
            }
            self.drive(link, Input::Timer, now_ms, store, acts);
        }
        let tokens: Vec<LinkId> =
            self.links.iter().filter(|(_, linked)| linked.redeem_ms.is_some_and(|at| at <= now_ms)).map(|(link, _)| *link).collect();
        for link in tokens {
            if let Some(linked) = self.links.get_mut(&link) {
                linked.redeem_ms = None;
            }
            self.redeem(link, now_ms, store, acts);
        }
        let again: Vec<(LinkId, PublicKey)> = self
            .links
            .iter()
            .flat_map(|(link, linked)| linked.denied.values().filter(|(_, retry_ms)| *retry_ms <= now_ms).map(|(space, _)| (*link, *space)))
            .collect();
        for (link, space) in again {
            self.open(link, space, now_ms, store, acts);
            if let Some(linked) = self.links.get_mut(&link) {
                // An answer says when to ask again.
                linked.denied.values_mut().filter(|(other, _)| *other == space).for_each(|(_, retry_ms)| *retry_ms = now_ms + DENIED_MS);
            }
        }
        self.hand_in(now_ms, store, acts);
        let tell_ms = self.tell_ms();
        let mut next = self.visits.values().copied().chain(self.feeds.values().filter_map(|feed| feed.next_ms(tell_ms, now_ms))).min();
        let mut sooner = |at: u64| next = Some(next.map_or(at, |next: u64| next.min(at)));
        for linked in self.links.values() {
            linked.timer_ms.into_iter().chain(linked.redeem_ms).for_each(&mut sooner);
            linked.denied.values().for_each(|(_, retry_ms)| sooner(*retry_ms));
            linked.hand_in_ms.into_iter().filter(|at| *at > now_ms).for_each(&mut sooner);
        }
        if !self.config.is_offline {
            let mut calling = self.calls.values().filter(|call| call.is_calling).count();
            for id in self.callees() {
                let banned_until = self.bans.get(&id).copied().unwrap_or(0);
                let call = self.calls.entry(id).or_default();
                if call.is_calling {
                    continue;
                }
                let at = call.next_ms.max(banned_until);
                if at > now_ms {
                    sooner(at);
                } else if calling < CALLS_MAX {
                    calling += 1;
                    call.is_calling = true;
                    let mut addresses = self.book.contacts.get(&id).map_or_else(Vec::new, |contact| self.knocks.due(contact, now_ms));
                    // Somebody else answers where it was called by a websocket.
                    if self.links.values().any(|linked| linked.callee == Some(id)) {
                        addresses.retain(|address| !address.starts_with("wss://") && !address.starts_with("ws://"));
                    }
                    acts.extend([Act::Call { node: id, addresses }, Act::Changed]);
                }
            }
        }
        if next != self.timer_ms
            && let Some(at_ms) = next
        {
            self.timer_ms = next;
            acts.push(Act::Timer { at_ms });
        }
    }
}

/// Milliseconds to wait before the next call, a little different for each pair so that not all call at once.
pub(super) fn retry_ms(own: &PublicKey, other: &PublicKey, attempts: u32) -> u64 {
    let wait = RETRY_MS.saturating_mul(1 << attempts.min(16)).min(RETRY_MS_MAX);
    let digest = hash("retry", &[own.as_bytes(), other.as_bytes(), &attempts.to_be_bytes()]);
    wait * 3 / 4 + wait / 2 * u64::from(digest[0]) / 256
}

#[cfg(test)]
mod tests {
    use super::super::{Book, Call, Config, Event, Outbox};
    use super::*;
    use crate::held::Held;
    use crate::sync::{Binding, Role};
    use crate::whose::tests::open;

    const NOW_MS: u64 = 1_800_000_000_000;
    const ADDRESSES: [&str; 2] = ["10.0.0.1:7", "wss://there.example"];

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    /// A node that calls one of these by its node key, and what it is called at.
    fn calls(node: &mut Node, now_ms: u64, replica: &dyn Replica) -> Option<Vec<String>> {
        let acts = node.handle(now_ms, Event::Timer, replica);
        acts.into_iter().find_map(|act| if let Act::Call { node, addresses } = act { (node == key(1)).then_some(addresses) } else { None })
    }

    /// Whoever answers at the websocket of a peer has keys of devices there, and no node key.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_called_by_its_node_key_and_answers_by_a_websocket_is_called_when_it_is_gone() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = open(home.path());
        let replica = Held::now(&store, [0; 16], NOW_MS);
        for (keys, is_it) in [(vec![key(2)], true), (vec![key(9)], false), (vec![], false)] {
            let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), false, 8, false);
            let config = Config { node: key(7), space: store.space(), device: store.device(), name, is_offline, links_max, has_feeds };
            let mut node = Node::new(config, Book::default(), Outbox::default());
            node.book.meet(key(1), Source::Typed, &ADDRESSES.map(str::to_owned), NOW_MS).keys = vec![key(2)];
            assert_eq!(calls(&mut node, NOW_MS, &replica), Some(ADDRESSES.map(str::to_owned).to_vec()));
            let (binding, nonce, prove) = (Binding([0; 32]), [0; 32], Box::new(|_: &[u8]| Vec::new()));
            let (role, way) = (Role::Initiator, "websocket there.example".to_owned());
            let up = Event::LinkUp { link: 1, node: None, called: Some(key(1)), role, binding, nonce, prove, way };
            node.handle(NOW_MS, up, &replica);
            assert!(node.is_linked(&key(1)), "it may be");
            let remote = Remote { node: key(0), space: key(8), keys: keys.clone(), name: String::new(), addresses: vec![] };
            node.ready(1, remote, NOW_MS, &replica, &mut Vec::new());
            let is_calling = |node: &Node| node.calls.values().filter(|call| call.is_calling).count();
            assert_eq!((node.is_linked(&key(1)), is_calling(&node)), (is_it, 0), "{keys:?}");
            node.links.values_mut().for_each(|linked| linked.timer_ms = None);
            // Where somebody else answers it is called at its other addresses.
            let again = calls(&mut node, NOW_MS + RETRY_MS_MAX, &replica);
            assert_eq!(again, (!is_it).then(|| vec![ADDRESSES[0].to_owned()]), "{keys:?}");
            node.handle(NOW_MS + RETRY_MS_MAX, Event::NotReached { node: key(1), why: String::new() }, &replica);
            node.handle(NOW_MS + RETRY_MS_MAX, Event::LinkDown { link: 1, why: String::new() }, &replica);
            assert_eq!(is_calling(&node), 0, "{keys:?}");
            assert_eq!(calls(&mut node, NOW_MS + 3 * RETRY_MS_MAX, &replica).map(|at| at.len()), Some(2), "{keys:?}");
        }
        // One that went before anybody knew who it was.
        let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), false, 8, false);
        let config = Config { node: key(7), space: store.space(), device: store.device(), name, is_offline, links_max, has_feeds };
        let mut node = Node::new(config, Book::default(), Outbox::default());
        node.calls.insert(key(1), Call { is_calling: true, ..Call::default() });
        let (binding, nonce, prove) = (Binding([0; 32]), [0; 32], Box::new(|_: &[u8]| Vec::new()));
        let (role, way) = (Role::Initiator, "websocket there.example".to_owned());
        node.handle(NOW_MS, Event::LinkUp { link: 1, node: None, called: Some(key(1)), role, binding, nonce, prove, way }, &replica);
        node.handle(NOW_MS, Event::LinkDown { link: 1, why: String::new() }, &replica);
        assert!(!node.calls[&key(1)].is_calling);
    }
}
