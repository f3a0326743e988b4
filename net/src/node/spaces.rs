//! The spaces that are wanted, and which of their timelines is asked of whom.

use timebus_identity::PublicKey;
use timebus_store::ids::TimelineId;

use super::book::{Follow, Source};
use super::feeds::Feed;
use super::{Act, LinkId, Node, id_of};
use crate::sync::frame::Code;
use crate::sync::{Input, Remote, Replica};

/// Spaces for which a peer is asked because it asked for them itself, on one link: nobody finds out what is wanted here by
/// asking for everything that he knows.
const MISSED_MAX: usize = 8;
/// The same of spaces that are not wanted here, which tells him nothing.
const UNWANTED_MAX: usize = 64;

impl Node {
    /// The wanted space that a timeline belongs to.
    pub(super) fn space_of(&self, timeline: &TimelineId) -> Option<PublicKey> {
        let wanted = self.book.following.keys().chain(self.visits.keys()).chain([&self.config.space]);
        wanted.copied().find(|space| self.plan_of(space).contains(timeline))
    }

    /// Follows a space from now on.
    pub(super) fn begin(&mut self, space: PublicKey, via: &[(PublicKey, Vec<String>)], now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.follow(space, Source::Typed, via, now_ms);
        self.ask_around(space, now_ms, store, acts);
        self.open_everywhere(space, now_ms, store, acts);
    }

    /// Does not follow it any more.
    pub(super) fn end(&mut self, space: PublicKey, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.book.following.remove(&space);
        self.book.joins.remove(&space);
        self.visits.remove(&space);
        self.close_everywhere(space, now_ms, store, acts);
    }

    pub(super) fn follow(&mut self, space: PublicKey, source: Source, via: &[(PublicKey, Vec<String>)], now_ms: u64) {
        let mut known: Vec<PublicKey> = self.book.contacts.iter().filter(|(_, contact)| contact.space == Some(space)).map(|(id, _)| *id).collect();
        known.extend(self.by_record(space));
        let follow = self.book.following.entry(space).or_insert_with(|| Follow { since_ms: now_ms, via: Vec::new() });
        for node in via.iter().map(|(node, _)| *node).chain(known) {
            if !follow.via.contains(&node) {
                follow.via.push(node);
            }
        }
        for (node, addresses) in via {
            self.book.meet(*node, source, addresses, now_ms);
        }
    }

    /// Whether a peer is asked for a space. Whoever is asked learns that the space is wanted here, which is no business of
    /// others, and those who may not have it only say no. So these are asked, and nobody else:
    ///
    /// - who says that the space is his own, as each of its devices does: some may be new, and unknown here;
    /// - whom the owner named as somebody who has it, or whom those named who have it;
    /// - whom the space itself names, by what is known here of its statements: he knows from there who else is let in. Of what
    ///   everybody may read anybody could have it, and few know that it is wanted here, so there only those are asked whom the owner
    ///   knows in another way;
    /// - friends, since who is a friend may know it; and other acquaintances for a space of which nothing is here yet;
    /// - who asked for that very space and says that he has some of it, see [`Node::asked_in_vain`].
    fn may_have(&self, link: LinkId, remote: &Remote, space: &PublicKey, store: &dyn Replica) -> bool {
        let Some(linked) = self.links.get(&link) else { return false };
        let id = id_of(remote, linked.node);
        if remote.space == *space || linked.missed.contains(space) {
            return true;
        }
        if self.book.following.get(space).is_some_and(|follow| follow.via.contains(&id)) {
            return true;
        }
        let [auth, main] = core(space);
        let is_his = || store.may_sync(remote, space, &auth).unwrap_or(false);
        let is_named = || [remote, &nobody()].map(|who| store.may_sync(who, space, &main).unwrap_or(false)) == [true, false];
        let is_friend = || self.book.following.contains_key(&remote.space) || self.book.petnames.contains_key(&remote.space);
        let is_new = || !store.local(space, &auth).is_ok_and(|t| t.is_some());
        let is_known = || self.book.contacts.get(&id).is_some_and(|contact| contact.source >= Source::Introduced);
        *space != self.config.space && (is_known() && (is_friend() || is_new() || is_his()) || is_named())
    }

    /// A peer asked in vain for a space of which it says that it has some. What is known here of who may have it can be older
    /// than what is known there: two who were let in one after the other would never hear of each other without a third, each
    /// refusing what the other asks, or not asking. If the space is wanted here, he is asked for it as well. He may have it if he
    /// tells the truth; then he lets us have the statements, by which we let him.
    ///
    /// He knew the space's key before, and hears now that it is wanted here. That could be found out already by saying of oneself
    /// that one is of the space; what cannot be found out is a list of what is wanted. To try one key after the other is made slow.
    pub(super) fn asked_in_vain(&mut self, link: LinkId, space: PublicKey, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let wanted = self.wanted();
        let Some(linked) = self.links.get_mut(&link) else { return };
        let is_wanted = space != self.config.space && wanted.contains(&space);
        let max = if is_wanted { UNWANTED_MAX + MISSED_MAX } else { UNWANTED_MAX };
        if linked.missed.len() < max && linked.missed.insert(space) && is_wanted {
            self.open(link, space, now_ms, store, acts);
        }
    }

    pub(super) fn wanted(&self) -> Vec<PublicKey> {
        let mut wanted: Vec<PublicKey> = self.book.following.keys().chain(self.visits.keys()).copied().collect();
        wanted.push(self.config.space);
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|space| !self.book.blocked.contains(space));
        wanted
    }

    /// Asks the peer of a link for all that is wanted and that it may have.
    pub(super) fn open_wanted(&mut self, link: LinkId, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        for space in self.wanted() {
            self.open(link, space, now_ms, store, acts);
        }
    }

    pub(super) fn open_everywhere(&mut self, space: PublicKey, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.open(link, space, now_ms, store, acts);
        }
    }

    pub(super) fn open(&mut self, link: LinkId, space: PublicKey, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        // Who has not answered an invite yet would only say no.
        if self.is_joining(&space) || self.book.blocked.contains(&space) {
            return;
        }
        let plan = plan(&space, store);
        for timeline in &plan {
            let Some(linked) = self.links.get(&link) else { return };
            let Some(remote) = &linked.remote else { return };
            let is_known = linked.channels.contains_key(timeline) || linked.denied.get(timeline).is_some_and(|(_, retry_ms)| *retry_ms > now_ms);
            // Of what is kept apart only those are asked who may have it: others would learn that it is here.
            let is_open = core(&space).contains(timeline) || store.may_sync(remote, &space, timeline).unwrap_or(false);
            if !is_known && is_open && self.may_have(link, remote, &space, store) {
                // Who has somebody to get it from asks others for it when he needs them.
                let is_resting = self.feeds.get(timeline).is_some_and(Feed::is_fed);
                self.drive(link, Input::Open { space, timeline: *timeline, is_resting }, now_ms, store, acts);
            }
        }
        self.plans.insert(space, plan);
    }

    /// Statements have come: what is wanted of each space may be more, or others may have it.
    pub(super) fn plan_again(&mut self, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let statements = store.statements();
        if statements == self.statements {
            return;
        }
        self.statements = statements;
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.stand(link, store, acts);
        }
        for space in self.wanted() {
            let known = self.plan_of(&space);
            let new: Vec<TimelineId> = plan(&space, store).into_iter().filter(|timeline| !known.contains(timeline)).collect();
            // Who was refused what he may have as it is now asks again at once.
            let readable = store.readable(&space).unwrap_or_default();
            for linked in self.links.values_mut() {
                linked.denied.retain(|timeline, (of, _)| !(new.contains(timeline) || *of == space && readable.contains(timeline)));
            }
            self.open_everywhere(space, now_ms, store, acts);
        }
        acts.push(Act::Changed);
    }

    /// The timelines that are wanted of a space.
    pub(super) fn plan_of(&self, space: &PublicKey) -> Vec<TimelineId> {
        self.plans.get(space).cloned().unwrap_or_else(|| core(space).to_vec())
    }

    pub(super) fn close_everywhere(&mut self, space: PublicKey, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let channels = self.links.iter().flat_map(|(link, linked)| linked.channels.iter().map(move |channel| (*link, channel)));
        let open: Vec<(LinkId, TimelineId)> =
            channels.filter(|(_, (_, channel))| channel.space == space).map(|(link, (timeline, _))| (link, *timeline)).collect();
        for (link, timeline) in open {
            self.drive(link, Input::CloseChannel { timeline, code: Code::Done }, now_ms, store, acts);
        }
    }
}

/// A peer that no statement names.
fn nobody() -> Remote {
    let key = PublicKey::from_bytes([0; 32]);
    Remote { node: key, space: key, keys: vec![key], name: String::new(), addresses: Vec::new() }
}

/// The timelines that every space has: rights first, since the rest depends on them.
pub(super) fn core(space: &PublicKey) -> [TimelineId; 2] {
    [TimelineId::named(space, "auth"), TimelineId::named(space, "main")]
}

/// The timelines that are wanted of a space: rights, and what may be read. As long as that is not known, `main`.
fn plan(space: &PublicKey, store: &dyn Replica) -> Vec<TimelineId> {
    let [auth, main] = core(space);
    let readable = store.readable(space).unwrap_or_default();
    let readable = if readable.is_empty() { vec![main] } else { readable };
    [auth].into_iter().chain(readable).collect()
}
