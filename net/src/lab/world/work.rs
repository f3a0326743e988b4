//! What the peers do: their stores, and what their nodes want done.

use std::collections::BTreeSet;

use timebus_identity::{PublicKey, SecretKey, Signed};
use timebus_store::change::Head;
use timebus_store::engine::Step;
use timebus_store::writer::{WriteError, Written};

use super::{Event, Promise, TAKEN_BYTES_MAX, UNANSWERED_MS, World};
use crate::held::{Held, uncounted};
use crate::lab::evil::Lying;
use crate::lab::peer::{Offering, Peer, Ticket, poll};
use crate::node::{Act, Event as NodeEvent, LinkId};
use crate::sync::Replica;

impl World {
    pub(super) fn work(&mut self, peer: usize) {
        let life = self.peers[peer].life;
        self.push(self.now_ms, Event::Work { peer, life });
    }

    pub(super) fn work_now(&mut self, peer: usize) {
        let now_ms = self.clock(peer);
        self.peers[peer].begin_offers(&self.people, now_ms);
        loop {
            // Whatever was asked is worked out first, as the deciding thread does while the other waits for the disk.
            self.collect(peer);
            let Some(up) = &mut self.peers[peer].up else { return };
            while up.engine.decide() != Step::Idle {}
            if up.is_syncing {
                break;
            }
            let step = up.engine.sync();
            let wait = match step {
                Step::Idle if up.engine.merge() == Step::Idle => break,
                Step::Appended => self.peers[peer].sync_ms,
                _ if self.dice.percent(20) => 1,
                _ => 0,
            };
            if wait > 0 {
                let life = self.peers[peer].life;
                if let Some(up) = &mut self.peers[peer].up {
                    up.is_syncing = true;
                }
                self.push(self.now_ms + wait, Event::Disk { peer, life });
                break;
            }
        }
        self.collect(peer);
    }

    /// Takes what the store has answered, and tells the node and the subscribers.
    pub(super) fn collect(&mut self, peer: usize) {
        let Some(up) = &mut self.peers[peer].up else { return };
        let mut written = Vec::new();
        let mut at = 0;
        while at < up.writes.len() {
            match poll(&mut up.writes[at].2) {
                Some(result) => {
                    let (space, durable, _) = up.writes.remove(at);
                    written.push((space, durable, result));
                }
                None => at += 1,
            }
        }
        let mut stated = Vec::new();
        up.statements.retain_mut(|statement| match poll(statement) {
            Some(result) => {
                stated.push(result);
                false
            }
            None => true,
        });
        let mut redeemed = Vec::new();
        up.redeems.retain_mut(|(link, statement)| match poll(statement) {
            Some(result) => {
                redeemed.push((*link, result));
                false
            }
            None => true,
        });
        let mut offered = Vec::new();
        let links: Vec<LinkId> = up.offers.keys().copied().collect();
        for link in links {
            if let Some(offering) = up.offers.get_mut(&link)
                && let Some(result) = poll(&mut offering.answer)
                && let Some(offering) = up.offers.remove(&link)
            {
                offered.push((link, offering, result));
            }
        }
        let arrived = *up.engine.store().arrivals().borrow();
        let grew = arrived > up.arrived;
        up.arrived = arrived;
        let done = !offered.is_empty();
        for (space, durable, result) in written {
            self.written(peer, space, durable, result);
        }
        for (link, result) in redeemed {
            self.redeemed(peer, link, result);
        }
        for result in stated {
            match result {
                Ok(grants) => {
                    let space = self.peers[peer].space();
                    self.grants.entry(space).or_insert(grants);
                }
                // A second device may not have heard yet that it is one.
                Err(WriteError::ReadOnly(_) | WriteError::NoKey) => {}
                Err(error) => self.problem(format!("{} could not state anything: {error}", self.peers[peer].name)),
            }
        }
        if grew {
            if let Some(problem) = self.peers[peer].read_feeds() {
                let name = self.peers[peer].name;
                self.problem(format!("{name}: {problem}"));
            }
            self.look_for_marks(peer);
            self.tell(peer, NodeEvent::Arrived);
        }
        for (link, Offering { stored: mut answer, timeline, by, held, .. }, result) in offered {
            match result {
                Ok(offered) => {
                    if let Some(ledger) = &self.peers[peer].ledger {
                        ledger.give_back(uncounted(&offered));
                        ledger.recount(uncounted(&offered).filter_map(|id| by.get(&id).copied()));
                    }
                    self.totals.held += answer.held.len() as u64;
                    if !held.is_empty() {
                        self.tell(peer, NodeEvent::HeldBack { link, timeline, authors: held.into_iter().collect() });
                    }
                    self.peers[peer].admitted += offered.admitted.len() as u64;
                    crate::held::tell(&mut answer, offered);
                    self.peers[peer].refused += (answer.refused.len() + answer.bad_signatures.len()) as u64;
                    self.tell(peer, NodeEvent::Stored { link, stored: answer });
                }
                Err(_) => self.tell(peer, NodeEvent::StoreFailed { link }),
            }
        }
        if done {
            self.work(peer);
        }
    }

    fn written(&mut self, peer: usize, space: PublicKey, durable: bool, result: Result<Written, WriteError>) {
        let it = &mut self.peers[peer];
        match result {
            Ok(written) => {
                it.writes += 1;
                self.totals.writes += 1;
                if let Some(change) = written.change.filter(|_| durable && it.evil.is_none()) {
                    self.promises.push(Promise { peer, space, change });
                }
            }
            Err(
                WriteError::NoGrant { .. }
                | WriteError::NoKey
                | WriteError::Absent(_)
                | WriteError::NotACollection(_)
                | WriteError::ReadOnly(_)
                | WriteError::Closing
                | WriteError::Plan(_)
                | WriteError::Patch(_),
            ) => it.failed_writes += 1,
            Err(error) => {
                let name = it.name;
                self.problem(format!("{name} could not write: {error}"));
            }
        }
    }

    // ---- the node of a peer

    pub(super) fn tell(&mut self, peer: usize, event: NodeEvent) {
        let now_ms = self.clock(peer);
        let it = &mut self.peers[peer];
        let incarnation = it.incarnation();
        let Some(up) = &mut it.up else { return };
        let held = Held::now(up.engine.store(), incarnation, now_ms);
        let acts = match &mut it.evil {
            Some(evil) => up.node.handle(now_ms, event, &Lying::new(&held as &dyn Replica, evil)),
            None => up.node.handle(now_ms, event, &held),
        };
        for act in acts {
            self.act(peer, act);
        }
    }

    fn act(&mut self, peer: usize, act: Act) {
        match act {
            Act::Send { link, bytes } => {
                let it = &mut self.peers[peer];
                let key = SecretKey::from_seed(*it.home.device().seed());
                let frames = match &mut it.evil {
                    Some(evil) => {
                        let before = evil.tricks;
                        let frames = evil.tamper(link, bytes, &key);
                        self.totals.tricks += evil.tricks - before;
                        frames
                    }
                    None => vec![bytes],
                };
                for bytes in frames {
                    if self.lines.get(peer).is_none_or(|line| line.lets_through(&bytes)) {
                        self.send(link, peer, bytes);
                    }
                }
            }
            Act::Store { link, ticket, space, timeline, changes } => {
                let Some(up) = &mut self.peers[peer].up else { return };
                up.taken_bytes += changes.iter().map(|change| change.content().encoded_len()).sum::<usize>();
                self.totals.taken_bytes_max = self.totals.taken_bytes_max.max(up.taken_bytes as u64);
                let taken_bytes = up.taken_bytes;
                up.to_offer.entry(link).or_default().push_back(Ticket { number: ticket, space, timeline, changes });
                if taken_bytes > TAKEN_BYTES_MAX {
                    let name = self.peers[peer].name;
                    self.problem(format!("{name} holds {taken_bytes} bytes of changes that are not stored"));
                }
                self.work(peer);
            }
            Act::Call { node, .. } => {
                let life = self.peers[peer].life;
                let to = (0..self.peers.len()).find(|to| self.peers[*to].node_key() == node);
                let Some(to) = to else { return };
                let there = self.delays[peer][to].0;
                let is_reached = self.peers[to].up.is_some() && self.cuts[peer][to] == 0 && self.cuts[to][peer] == 0;
                self.totals.calls += 1;
                if is_reached {
                    self.push(self.now_ms + 2 * there, Event::Answered { from: peer, life, to });
                } else {
                    self.push(self.now_ms + UNANSWERED_MS, Event::Missed { from: peer, life, to, why: "nobody answered" });
                }
            }
            Act::Close { link, .. } => self.close(link, peer),
            Act::Redeem { link, token, device, .. } => self.redeem(peer, link, token, device),
            Act::Save => {
                let life = self.peers[peer].life;
                if let Some(up) = &mut self.peers[peer].up
                    && !up.is_saving
                {
                    up.is_saving = true;
                    self.push(self.now_ms + 500, Event::SaveBook { peer, life });
                }
            }
            Act::Sign(record) => {
                let key = timebus_identity::node_key(self.peers[peer].home.device());
                if let Ok(record) = timebus_identity::Verified::sign(*record, &key) {
                    self.tell(peer, NodeEvent::Signed(Box::new(record)));
                }
            }
            Act::Timer { at_ms } => {
                let at_ms = self.unclock(peer, at_ms);
                let life = self.peers[peer].life;
                if let Some(up) = &mut self.peers[peer].up {
                    up.timer_ms = Some(at_ms);
                    self.push(at_ms, Event::Timer { peer, life, at_ms });
                }
            }
            Act::Weigh { link, space, heads, .. } => {
                if self.weigh(peer, &space, heads) {
                    self.totals.lent += 1;
                    self.tell(peer, NodeEvent::StoreFailed { link });
                }
            }
            // Nobody leaves notices here, and there are no inboxes.
            Act::Notices { .. }
            | Act::SaveOutbox
            | Act::Changed
            | Act::Stand { .. }
            | Act::Fetched { .. }
            | Act::Presence(_)
            | Act::AskFiles { .. }
            | Act::Files { .. } => {}
        }
    }

    /// Learns how much is held back. Whether somebody who built on it has room for it.
    fn weigh(&mut self, peer: usize, space: &PublicKey, heads: Vec<(Signed<Head>, BTreeSet<PublicKey>)>) -> bool {
        let now_ms = self.clock(peer);
        let it = &self.peers[peer];
        let (Some(store), Some(ledger)) = (it.store(), &it.ledger) else { return false };
        let author = |key: &PublicKey| Peer::author(it.space(), &self.people, key);
        let mut is_lent = false;
        for (head, by) in heads {
            let lent = head.verify().map(|head| ledger.weigh(&store, space, &head, &by, author, now_ms));
            is_lent |= matches!(lent, Ok(Ok(true)));
        }
        is_lent
    }
}
