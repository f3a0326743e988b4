//! The tokens of invites, and what those who gave them say of them.

use timebus_identity::PublicKey;

use super::{Act, LinkId, Node, id_of};
use crate::sync::frame::Redemption;
use crate::sync::{Input, RedeemAnswer, Replica};

/// Milliseconds until the token of an invite is handed in again over the same link, if the inviter had no time for it; it
/// doubles each time.
const REDEEM_MS: u64 = 10_000;
/// How often over one link: after ten tokens one is taken for somebody who guesses.
const REDEEMS_OF_LINK: u32 = 8;

impl Node {
    /// Hands in the tokens that the peer of a link gave.
    pub(super) fn redeem(&mut self, link: LinkId, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let Some(linked) = self.links.get(&link) else { return };
        let Some(remote) = &linked.remote else { return };
        let id = id_of(remote, linked.node);
        let token = self.book.joins.values().filter(|join| join.node == id).find_map(|join| join.token.as_deref());
        let Some(token) = token.and_then(|token| u128::from_str_radix(token, 16).ok()) else { return };
        let device = self.config.device;
        if let Some(linked) = self.links.get_mut(&link) {
            linked.redeems += 1;
            linked.redeem_ms = None;
        }
        self.drive(link, Input::Redeem { token: token.to_be_bytes(), device }, now_ms, store, acts);
    }

    pub(super) fn redeemed(&mut self, link: LinkId, answer: &RedeemAnswer, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        let Some(linked) = self.links.get(&link) else { return };
        let Some(remote) = &linked.remote else { return };
        let id = id_of(remote, linked.node);
        let Some((space, join)) = self.book.joins.iter_mut().find(|(_, join)| join.node == id && join.token.is_some()) else { return };
        let space = *space;
        match answer.result {
            Redemption::Granted => drop(self.book.joins.remove(&space)),
            Redemption::Invalid => {
                join.token = None;
                let text = if answer.text.is_empty() { "the invite is used up, expired or was taken back" } else { &answer.text };
                join.refused = Some(text.to_owned());
            }
            // The token is handed in again with the next link, or after a while.
            Redemption::Later | Redemption::Busy => join.refused = Some(answer.text.clone()),
        }
        acts.extend([Act::Save, Act::Changed]);
        // What was not given before may be given now.
        if let Some(linked) = self.links.get_mut(&link) {
            linked.denied.clear();
            let is_again = answer.result == Redemption::Busy && linked.redeems < REDEEMS_OF_LINK;
            linked.redeem_ms = is_again.then(|| now_ms + (REDEEM_MS << linked.redeems));
        }
        self.open_wanted(link, now_ms, store, acts);
        // The next one, if the same peer gave several.
        if answer.result != Redemption::Busy && answer.result != Redemption::Later {
            self.redeem(link, now_ms, store, acts);
        }
    }

    /// Whether an invite to a space waits for its answer.
    pub(super) fn is_joining(&self, space: &PublicKey) -> bool {
        self.book.joins.get(space).is_some_and(|join| join.token.is_some())
    }
}
