//! The network: calls, links, and what does not come through.

use bytes::Bytes;
use timebus_identity::{SecretKey, hash};

use super::{Event, OVERHANG_BYTES, SILENCE_MS, UNANSWERED_MS, World};
use crate::lab::wire::{Item, QUEUE_BYTES, Wire};
use crate::node::{Event as NodeEvent, LinkId};
use crate::sync::frame::FRAME_BYTES_MAX;
use crate::sync::{Binding, Role};

impl World {
    pub(super) fn answered(&mut self, from: usize, to: usize) {
        if self.peers[to].up.is_none() || self.cuts[from][to] > 0 || self.cuts[to][from] > 0 {
            let life = self.peers[from].life;
            return self.push(self.now_ms + UNANSWERED_MS, Event::Missed { from, life, to, why: "the call broke off" });
        }
        let link = self.next_link;
        self.next_link += 1;
        self.totals.links += 1;
        self.wires.insert(link, Wire::new([from, to]));
        let binding = Binding(hash("lab link", &[&self.config.seed.to_be_bytes(), &link.to_be_bytes()]));
        for (side, peer) in [from, to].into_iter().enumerate() {
            let other = if side == 0 { to } else { from };
            let device = SecretKey::from_seed(*self.peers[peer].home.device().seed());
            let event = NodeEvent::LinkUp {
                link,
                node: Some(self.peers[other].node_key()),
                called: (side == 0).then(|| self.peers[other].node_key()),
                role: if side == 0 { Role::Initiator } else { Role::Responder },
                binding,
                nonce: self.dice.bytes(),
                prove: Box::new(move |message| vec![(device.public(), device.sign(message))]),
                way: format!("lab {}", self.peers[other].name),
            };
            self.tell(peer, event);
        }
    }

    pub(super) fn send(&mut self, link: LinkId, peer: usize, bytes: Bytes) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let Some(side) = wire.side(peer) else { return };
        if bytes.is_empty() || bytes.len() > FRAME_BYTES_MAX {
            // The transport of the other side closes.
            let other = 1 - side;
            self.totals.oversized += 1;
            return self.give_up(link, other, "a frame of a length that no frame has");
        }
        let way = &mut wire.ways[side];
        way.queued += bytes.len() as u64;
        self.totals.frames += 1;
        self.totals.bytes += bytes.len() as u64;
        self.totals.queued_bytes_max = self.totals.queued_bytes_max.max(way.queued);
        let queued = way.queued;
        way.queue.push_back(Item::Frame(bytes));
        if queued > QUEUE_BYTES + OVERHANG_BYTES && self.peers[peer].evil.is_none() {
            let name = self.peers[peer].name;
            self.problem(format!("{name} has {queued} bytes in the queue of one link"));
        }
        self.send_next(link, side);
    }

    fn send_next(&mut self, link: LinkId, side: usize) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let (from, to) = (wire.peers[side], wire.peers[1 - side]);
        if !self.lines.is_empty() {
            return self.wait_for_line(from, link);
        }
        let way = &mut wire.ways[side];
        if way.is_sending || self.cuts[from][to] > 0 {
            return;
        }
        let Some(first) = way.queue.front() else { return };
        way.is_sending = true;
        let ms = self.now_ms + first.len() / self.delays[from][to].1;
        self.push(ms, Event::Depart { link, side });
    }

    pub(super) fn depart(&mut self, link: LinkId, side: usize) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let (from, to) = (wire.peers[side], wire.peers[1 - side]);
        let way = &mut wire.ways[side];
        way.is_sending = false;
        if self.cuts[from][to] > 0 {
            return;
        }
        let Some(item) = way.queue.pop_front() else { return };
        way.queued -= item.len();
        let arrives = (self.now_ms + self.delays[from][to].0 + self.dice.below(3) as u64).max(way.last_arrival_ms);
        way.last_arrival_ms = arrives;
        let room = QUEUE_BYTES.saturating_sub(way.queued);
        let is_open = wire.is_open[side];
        self.push(arrives, Event::Arrive { link, side, item });
        self.send_next(link, side);
        if is_open && room >= QUEUE_BYTES / 2 {
            self.tell(from, NodeEvent::Writable { link, bytes: room });
        }
    }

    pub(super) fn arrive(&mut self, link: LinkId, side: usize, item: Item) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let (from, to) = (wire.peers[side], wire.peers[1 - side]);
        if self.cuts[from][to] > 0 || !wire.ways[side].held.is_empty() {
            wire.ways[side].held.push_back(item);
            return;
        }
        self.deliver(link, side, item);
    }

    /// What was held back arrives, if nothing has been cut once more. What comes meanwhile waits behind it.
    pub(super) fn release(&mut self, link: LinkId, side: usize) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let (from, to) = (wire.peers[side], wire.peers[1 - side]);
        if self.cuts[from][to] > 0 {
            return;
        }
        for item in std::mem::take(&mut wire.ways[side].held) {
            self.deliver(link, side, item);
        }
    }

    fn deliver(&mut self, link: LinkId, side: usize, item: Item) {
        let Some(wire) = self.wires.get(&link) else { return };
        let to = wire.peers[1 - side];
        if !wire.is_open[1 - side] {
            return;
        }
        if let (Item::Frame(bytes), Some(line)) = (&item, self.lines.get_mut(to)) {
            line.received(bytes);
        }
        match item {
            Item::Frame(bytes) => self.tell(to, NodeEvent::Frame { link, bytes }),
            Item::End => self.give_up(link, 1 - side, "closed by the other side"),
        }
    }

    /// A side ends a link without being asked to.
    pub(super) fn give_up(&mut self, link: LinkId, side: usize, why: &str) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        if !wire.is_open[side] {
            return;
        }
        let peer = wire.peers[side];
        self.close(link, peer);
        self.tell(peer, NodeEvent::LinkDown { link, why: why.to_owned() });
    }

    /// A peer closes a link, behind what it sent.
    pub(super) fn close(&mut self, link: LinkId, peer: usize) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let Some(side) = wire.side(peer) else { return };
        wire.is_open[side] = false;
        wire.ways[side].queue.push_back(Item::End);
        if let Some(up) = &mut self.peers[peer].up {
            // What came over it is not worked on any more, as the tasks of a link end with it.
            let dropped = up.to_offer.remove(&link).into_iter().flatten();
            up.taken_bytes =
                up.taken_bytes.saturating_sub(dropped.flat_map(|ticket| ticket.changes).map(|change| change.content().encoded_len()).sum());
            let given_up = up.offers.remove(&link);
            if let (Some(ledger), Some(given_up)) = (&self.peers[peer].ledger, given_up) {
                ledger.give_back(given_up.by.keys().copied());
                ledger.recount(given_up.by.into_values());
            }
        }
        if self.wires.get(&link).is_some_and(|wire| wire.is_open == [false; 2]) {
            self.wires.remove(&link);
            return;
        }
        self.send_next(link, side);
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cuts[from][to] += 1;
        if self.cuts[from][to] > 1 {
            return;
        }
        self.cut_count += 1;
        let cut = self.cut_count;
        self.cut_by[from][to] = cut;
        self.push(self.now_ms + SILENCE_MS, Event::StillCut { from, to, cut });
    }

    pub(super) fn mend(&mut self, from: usize, to: usize) {
        self.cuts[from][to] = self.cuts[from][to].saturating_sub(1);
        if self.cuts[from][to] > 0 {
            return;
        }
        let delay = self.delays[from][to].0;
        let links: Vec<(LinkId, usize)> = self.wires.iter().filter_map(|(link, wire)| Some((*link, 1 - receiver_any(wire, from, to)?))).collect();
        for (link, side) in links {
            let Some(wire) = self.wires.get(&link) else { continue };
            if !wire.ways[side].held.is_empty() {
                self.push(self.now_ms + delay, Event::Release { link, side });
            }
            self.send_next(link, side);
        }
    }
}

/// The side that hears, if a link is open there and leads from one peer to the other.
pub(super) fn receiver(wire: &Wire, from: usize, to: usize) -> Option<usize> {
    receiver_any(wire, from, to).filter(|side| wire.is_open[*side])
}

fn receiver_any(wire: &Wire, from: usize, to: usize) -> Option<usize> {
    (0..2).find(|side| wire.peers[*side] == to && wire.peers[1 - side] == from)
}
