//! Notices: handed in where they are to go, and taken for the inbox of this peer.

use timebus_identity::{PublicKey, Signed};
use timebus_store::change::Change;
use timebus_store::ids::ChangeId;

use super::{Act, LinkId, Node, proves, speaks_for};
use crate::sync::frame::{NOTICES, NOTICES_MAX, Taking};
use crate::sync::{Input, Remote, Replica};

/// Milliseconds until a notice is offered again over the same link to a peer that did not take it.
const HAND_IN_MS: u64 = 10 * 60_000;
/// The same if it was busy.
const BUSY_MS: u64 = 5_000;

impl Node {
    /// Somebody hands in notices. Those for other inboxes than our own, and of whom the owner blocks, are answered alike.
    pub(super) fn notices(
        &mut self,
        link: LinkId,
        space: PublicKey,
        notices: Vec<Signed<Change>>,
        now_ms: u64,
        store: &dyn Replica,
        acts: &mut Vec<Act>,
    ) {
        let Some(remote) = self.links.get(&link).and_then(|linked| linked.remote.clone()) else { return };
        let is_blocked = |notice: &Signed<Change>| self.is_blocked_key(&notice.content().header().author, store);
        if space == self.config.space && !notices.iter().any(is_blocked) {
            acts.push(Act::Notices { link, notices, remote });
            return;
        }
        let results = notices.iter().map(|notice| (notice.content().id(), Taking::NotHere)).collect();
        self.drive(link, Input::Took { space, results }, now_ms, store, acts);
    }

    /// Hands in notices that wait for spaces whose peers there are links to. Who only says so is no such peer: he would know
    /// what is said to whom, and that it was delivered would not be true.
    pub(super) fn hand_in(&mut self, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let spaces: Vec<PublicKey> = self.outbox.spaces().collect();
        for space in spaces {
            let ready = self.links.iter().find(|(_, linked)| {
                linked.hand_in_ms.is_some_and(|at| at <= now_ms)
                    && linked.session.is_agreed(NOTICES)
                    && linked.remote.as_ref().is_some_and(|remote| proves(remote, &space, store))
            });
            let Some(link) = ready.map(|(link, _)| *link) else {
                let says_so = |remote: &Remote| speaks_for(remote, &space, store) && !proves(remote, &space, store);
                if self.links.values().any(|linked| linked.remote.as_ref().is_some_and(says_so)) && self.outbox.is_unproven(&space) {
                    acts.extend([Act::SaveOutbox, Act::Changed]);
                }
                continue;
            };
            let notices = self.outbox.waiting(&space, NOTICES_MAX);
            if let Some(linked) = self.links.get_mut(&link).filter(|_| !notices.is_empty()) {
                linked.hand_in_ms = None;
                self.drive(link, Input::Put { space, notices }, now_ms, store, acts);
            }
        }
    }

    /// Those that were handed in were kept, or not.
    pub(super) fn took(&mut self, link: LinkId, space: &PublicKey, results: Vec<(ChangeId, Taking)>, now_ms: u64, acts: &mut Vec<Act>) {
        let Some(linked) = self.links.get_mut(&link) else { return };
        let mut again_ms = now_ms;
        for (id, taking) in results {
            if !self.outbox.answered(space, &id.to_string(), taking, now_ms) {
                again_ms = now_ms + if taking == Taking::Busy { BUSY_MS } else { HAND_IN_MS };
            }
        }
        linked.hand_in_ms = Some(again_ms);
        acts.extend([Act::SaveOutbox, Act::Changed]);
    }

    /// Peers that may take something for a space, as far as they are known.
    pub(super) fn holders(&self, space: &PublicKey) -> Vec<PublicKey> {
        self.book.contacts.iter().filter(|(_, contact)| contact.space == Some(*space)).map(|(id, _)| *id).collect()
    }
}
