//! Where the spaces of members of communities lie while their own machines are off: with machines of other members, by the
//! rule for files ([`placement`]).
//!
//! A community names machines, and the record that a machine signed names the space. So all members that have the same
//! records come to the same; who lacks one does not find that space yet.
//!
//! [`placement`]: crate::community::placement

use std::collections::BTreeMap;

use timebus_identity::PublicKey;

use super::Node;
use crate::community::Machine;
use crate::community::placement::{Offer, hosts};

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
    /// The machines that things are placed with now: who offers something, and was there lately.
    #[must_use]
    pub fn offers(&self, now_ms: u64) -> Vec<Offer> {
        let is_there = |machine: &&Machine| machine.stores > 0 && machine.seen_ms.saturating_add(self.away_ms) > now_ms;
        self.machines.iter().filter(is_there).map(|machine| Offer { node: machine.node, bytes: machine.stores }).collect()
    }
}

impl Node {
    /// The spaces that machines of members call their own, as far as records of them are here.
    #[must_use]
    pub fn spaces_of_machines(&self) -> BTreeMap<PublicKey, PublicKey> {
        let nodes = self.members.values().flatten();
        nodes.filter_map(|node| Some((*node, self.book.records.of(node)?.space))).collect()
    }

    /// The machines that may have the space of a member: those that it is placed with, and his own.
    pub(super) fn hosts(&self, space: &PublicKey, now_ms: u64) -> Vec<PublicKey> {
        let mut all = Vec::new();
        for (community, placing) in &self.placing {
            let calls_it_his = |node: &PublicKey| self.book.records.of(node).is_some_and(|record| record.space == *space);
            let own: Vec<PublicKey> = placing.machines.iter().map(|machine| machine.node).filter(calls_it_his).collect();
            if !own.is_empty() {
                all.extend(hosts(community, space, &own, &placing.offers(now_ms), placing.replicas));
                all.extend(own);
            }
        }
        all.sort_unstable();
        all.dedup();
        all.retain(|node| *node != self.config.node);
        all
    }
}
