//! Who is told of whom, and how many of those one heard of are called: what decides who knows whom among very many
//! that want the same. The node and the simulation of swarms decide by it.

use timebus_identity::{PublicKey, hash};

use crate::sync::frame::PROVIDERS_MAX;

/// Links that a space of somebody else is read over; more peers are not called for it.
const LINKS_OF_SPACE: usize = 4;
/// The same while a large file of it is fetched: who knows more others finds more that they have and he lacks. About as many
/// come by themselves; with more in all, telling each of them of each piece takes more than it brings.
const LINKS_WHILE_FETCHING: usize = 12;
/// Of the links that others may open, one in so many is kept for telling newcomers who else has what they want.
const SPARE_PART: usize = 16;
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
