//! Who is told of whom, and how many of those one heard of are called: what decides who knows whom among very many
//! that want the same. The node and the simulation of swarms decide by it.

use timebus_identity::{PublicKey, hash};
use timebus_store::ids::TimelineId;

use super::book::Source;
use super::{Act, LinkId, Node, believable, id_of, speaks_for};
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
pub(super) const CROWDED_S: u64 = 60;
/// How long a newcomer is told of the same others.
const INTRODUCED_MS: u64 = 5 * 60_000;
/// Calls under way at once; the others wait for their turn.
pub const CALLS_MAX: usize = 16;
/// Peers remembered that others named for one space.
pub const VIA_MAX: usize = 64;

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
    pub(super) fn is_crowded(&self, link: LinkId, store: &dyn Replica) -> bool {
        let came = self.links.values().filter(|linked| linked.role == Role::Responder).count();
        let Some(linked) = self.links.get(&link).filter(|linked| linked.role == Role::Responder) else { return false };
        let is_own = linked.remote.as_ref().is_some_and(|remote| speaks_for(remote, &self.config.space, store));
        is_crowded(came, self.config.links_max) && !is_own
    }

    /// Tells who else holds a timeline. Says whether there is anybody.
    pub(super) fn introduce(&mut self, link: LinkId, timeline: TimelineId, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) -> bool {
        let newcomer = self.links.get(&link).and_then(|linked| linked.remote.as_ref().map(|remote| id_of(remote, linked.node)));
        let Some(newcomer) = newcomer else { return false };
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
            let Some(follow) = self.book.following.get_mut(&space) else { return };
            if !follow.via.contains(&node) {
                if follow.via.len() >= VIA_MAX {
                    continue;
                }
                follow.via.push(node);
            }
            self.book.meet(node, Source::Introduced, &believable(&addresses), now_ms);
            acts.push(Act::Save);
        }
    }
}
