//! What must hold, in the middle and at the end.

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::PublicKey;
use timebus_store::grant::{Actions, Audience};
use timebus_store::ids::ChangeId;
use timebus_store::store::{StorageError, Store};
use timebus_store::tips::size_of;

use super::World;
use crate::lab::check;
use crate::node::{PeerState, SpaceState};

impl World {
    /// Ends all trouble: the network is whole, everybody is up, dishonest peers are gone.
    pub(in crate::lab) fn heal(&mut self) {
        self.is_healing = true;
        self.tell_story("everything is mended".to_owned());
        let count = self.peers.len();
        for from in 0..count {
            for to in 0..count {
                self.delays[from][to].1 = u64::MAX;
                if self.cuts[from][to] > 0 {
                    self.cuts[from][to] = 1;
                    self.mend(from, to);
                }
            }
        }
        for peer in 0..count {
            self.peers[peer].home.disk.limit_space(None);
            self.peers[peer].home.disk.fail_syncs(0);
            if self.peers[peer].evil.is_some() {
                if self.peers[peer].up.is_some() {
                    self.crash(peer, false);
                }
                continue;
            }
            let is_broken = self.peers[peer].is_broken;
            if is_broken && self.peers[peer].up.is_some() {
                self.crash(peer, false);
            }
            if self.peers[peer].up.is_none() {
                self.start(peer);
            }
        }
    }

    /// Whether all honest peers may read a space, as far as those know who hold it. A dishonest owner may see to it that
    /// they may not, or that only some of them learn that they may.
    fn is_shared(&self, owner: usize) -> bool {
        let space = self.peers[owner].space();
        if self.peers[owner].evil.is_none() {
            return true;
        }
        let honest = self.honest();
        let honest: Vec<usize> = honest.into_iter().filter(|peer| self.is_member(*peer, owner)).collect();
        let readers: Vec<PublicKey> = honest.iter().map(|peer| self.peers[*peer].device()).collect();
        honest.iter().filter_map(|peer| self.peers[*peer].store()?.rights(&space)).all(|rights| {
            readers.iter().all(|reader| {
                rights.grants().any(|(_, held)| held.grant.audience == Audience::Key(*reader) && held.grant.actions.contains(Actions::READ))
            })
        })
    }

    /// Whether all honest peers hold the same changes, and if not what is missing.
    pub(in crate::lab) fn disagreement(&self) -> Option<String> {
        let honest = self.honest();
        for (number, owner) in self.peers.iter().enumerate().filter(|(owner, _)| self.is_shared(*owner)) {
            let mut sets = Vec::new();
            for peer in honest.iter().filter(|peer| self.is_member(**peer, number)) {
                let Some(store) = self.peers[*peer].store() else { return Some(format!("{} is down", self.peers[*peer].name)) };
                match self.counted(&store, &owner.space()) {
                    Ok(set) => sets.push((*peer, set)),
                    Err(error) => return Some(error.to_string()),
                }
            }
            let all: BTreeSet<ChangeId> = sets.iter().flat_map(|(_, set)| set.iter().copied()).collect();
            if let Some((peer, set)) = sets.iter().find(|(_, set)| set.len() < all.len()) {
                return Some(format!("{} has {} of {} changes of the space of {}", self.peers[*peer].name, set.len(), all.len(), owner.name));
            }
        }
        for peer in &honest {
            for owner in honest.iter().filter(|owner| *owner != peer && self.is_member(*peer, **owner)) {
                let Some(up) = &self.peers[*peer].up else { continue };
                let state = up.node.space(&self.peers[*owner].space()).state;
                if !matches!(state, SpaceState::Live { .. }) {
                    return Some(format!("the space of {} is {state:?} at {}", self.peers[*owner].name, self.peers[*peer].name));
                }
            }
        }
        for peer in &honest {
            let Some(up) = &self.peers[*peer].up else { continue };
            if let Some(join) = up.node.spaces().into_iter().find(|space| space.is_waiting && self.is_answered(&space.space)) {
                return Some(format!("{} waits for the answer to an invite to {}", self.peers[*peer].name, join.space));
            }
        }
        let busy = honest
            .iter()
            .find(|peer| self.peers[**peer].up.as_ref().is_some_and(|up| !up.writes.is_empty() || !up.offers.is_empty() || !up.redeems.is_empty()));
        busy.map(|peer| format!("{} is still at work", self.peers[*peer].name))
    }

    /// The changes of a space that all are to have: of those for whom there is only so much room, each has what came first.
    fn counted(&self, store: &Store, space: &PublicKey) -> Result<BTreeSet<ChangeId>, StorageError> {
        if self.config.room.is_none() {
            return check::changes(store, space);
        }
        let evil: BTreeSet<PublicKey> = self.peers.iter().filter(|peer| peer.evil.is_some()).map(|peer| peer.device()).collect();
        check::changes_but(store, space, &evil)
    }

    /// Nobody keeps more of those who cheat than he has room for, and what others paid who built on it.
    pub(in crate::lab) fn check_room(&mut self) {
        let Some(room) = self.config.room else { return };
        let evil: Vec<(PublicKey, &'static str)> =
            self.peers.iter().filter(|peer| peer.evil.is_some()).map(|peer| (peer.device(), peer.name)).collect();
        for peer in self.honest() {
            let (Some(store), Some(ledger)) = (self.peers[peer].store(), &self.peers[peer].ledger) else { continue };
            let (costs, paid) = (ledger.costs(&store).unwrap_or_default(), ledger.paid());
            for (who, name) in &evil {
                let bytes = costs.get(who).map_or(0, |cost| cost.bytes);
                // What is said about rights has room of its own.
                let rows = store.snapshot();
                let stated: u64 = store.spaces().iter().filter_map(|space| Some(size_of(&*rows, space.auth(), who).ok()?.0)).sum();
                let room = if peer == 0 { room.saturating_mul(2) } else { room };
                if bytes > room.saturating_add(paid).saturating_add(stated) {
                    let of = self.peers[peer].name;
                    self.problem(format!("{of} keeps {bytes} bytes of {name}, who has room for {room}, and others paid for {paid}"));
                }
            }
        }
    }

    /// Whether the owner of a space answers those who took an invite.
    fn is_answered(&self, space: &str) -> bool {
        self.honest().into_iter().any(|owner| self.peers[owner].space().to_string() == space)
    }

    /// How honest peers see each other, for who looks for the reason of a disagreement.
    pub(in crate::lab) fn tell_situation(&mut self) {
        for peer in self.honest() {
            let now_ms = self.clock(peer);
            let Some(up) = &self.peers[peer].up else { continue };
            let peers: Vec<String> = up.node.peers(now_ms).into_iter().map(|status| format!("{} {:?}", status.contact.name, status.state)).collect();
            let spaces = self.peers.iter().map(|owner| (owner.name, up.node.space(&owner.space()).state));
            let spaces: Vec<String> = spaces.map(|(name, state)| format!("{name}: {state:?}")).collect();
            let text = format!("{} has peers: {}; spaces: {}", self.peers[peer].name, peers.join(", "), spaces.join(", "));
            self.tell_story(text);
        }
    }

    /// Compares what peers show who hold the same changes; answers the digest of each space.
    pub(in crate::lab) fn compare(&mut self) -> Vec<(usize, String, usize)> {
        let mut digests = Vec::new();
        for owner in 0..self.peers.len() {
            let space = self.peers[owner].space();
            let mut by_set: BTreeMap<BTreeSet<ChangeId>, (usize, String)> = BTreeMap::new();
            for peer in self.honest() {
                let Some(store) = self.peers[peer].store() else { continue };
                let (Ok(set), Ok(state)) = (check::changes(&store, &space), check::state(&store, &space)) else {
                    self.problem(format!("{} cannot be read", self.peers[peer].name));
                    continue;
                };
                if set.is_empty() {
                    // Not here at all, or known by name alone.
                    continue;
                }
                self.totals.comparisons += 1;
                let different = by_set.get(&set).filter(|(_, other)| *other != state).map(|(other, text)| (*other, first_difference(text, &state)));
                if let Some((other, difference)) = different {
                    let (a, b, owner) = (self.peers[other].name, self.peers[peer].name, self.peers[owner].name);
                    self.problem(format!("{a} and {b} hold the same changes of the space of {owner} and show another state: {difference}"));
                }
                by_set.entry(set).or_insert((peer, state));
            }
            if let Some((set, (_, state))) = by_set.iter().next_back() {
                digests.push((owner, check::digest(state), set.len()));
            }
        }
        digests
    }

    /// What a peer promised to its owner is still there.
    pub(super) fn check_promises(&mut self, peer: usize, store: &Store) {
        let mut sets: BTreeMap<PublicKey, BTreeSet<ChangeId>> = BTreeMap::new();
        let mut lost = 0;
        for promise in self.promises.iter().filter(|promise| promise.peer == peer) {
            let set = sets.entry(promise.space).or_insert_with(|| check::changes(store, &promise.space).unwrap_or_default());
            lost += usize::from(!set.contains(&promise.change));
        }
        if lost > 0 {
            let name = self.peers[peer].name;
            self.problem(format!("{name} lost {lost} writes that it had acknowledged"));
        }
    }

    /// Every acknowledged write is at every honest peer.
    pub(in crate::lab) fn check_all_promises(&mut self) {
        self.totals.promises = self.promises.len() as u64;
        let shared: BTreeSet<PublicKey> =
            (0..self.peers.len()).filter(|owner| self.is_shared(*owner)).map(|owner| self.peers[owner].space()).collect();
        let mut missing: BTreeMap<usize, usize> = BTreeMap::new();
        for peer in self.honest() {
            let Some(store) = self.peers[peer].store() else { continue };
            let mut sets: BTreeMap<PublicKey, BTreeSet<ChangeId>> = BTreeMap::new();
            let is_mine = |space: &PublicKey| (0..self.peers.len()).any(|owner| self.peers[owner].space() == *space && self.is_member(peer, owner));
            let mine: BTreeSet<PublicKey> = shared.iter().copied().filter(|space| is_mine(space)).collect();
            for promise in self.promises.iter().filter(|promise| mine.contains(&promise.space)) {
                let set = sets.entry(promise.space).or_insert_with(|| check::changes(&store, &promise.space).unwrap_or_default());
                if !set.contains(&promise.change) {
                    *missing.entry(peer).or_default() += 1;
                }
            }
        }
        for (peer, count) in missing {
            let name = self.peers[peer].name;
            self.problem(format!("{name} lacks {count} writes that were acknowledged somewhere"));
        }
    }

    /// No honest peer was taken for a dishonest one.
    pub(in crate::lab) fn check_bans(&mut self, peer: usize) {
        if self.peers[peer].evil.is_some() {
            return;
        }
        let now_ms = self.clock(peer);
        let Some(up) = &self.peers[peer].up else { return };
        let banned: Vec<String> =
            up.node.peers(now_ms).into_iter().filter(|status| matches!(status.state, PeerState::Banned { .. })).map(|status| status.id).collect();
        for id in banned {
            let who = (0..self.peers.len()).find(|other| self.peers[*other].node_key().to_string() == id);
            match who {
                Some(who) if self.peers[who].evil.is_none() => {
                    let (a, b) = (self.peers[peer].name, self.peers[who].name);
                    self.problem(format!("{a} has banned {b}, who is honest"));
                }
                _ => self.totals.bans += 1,
            }
        }
    }

    pub(in crate::lab) fn check_all_bans(&mut self) {
        for peer in self.honest() {
            self.check_bans(peer);
        }
    }
}

fn first_difference(a: &str, b: &str) -> String {
    let line = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    line.map_or_else(|| "one has more".to_owned(), |(a, b)| format!("{a} / {b}"))
}
