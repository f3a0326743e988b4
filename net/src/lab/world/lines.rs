//! Lines that carry only so much: all links of a peer share what it sends, and what it receives.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, World};
use crate::lab::wire::{Item, QUEUE_BYTES};
use crate::node::{Event as NodeEvent, LinkId};

/// Bytes of a link before the next one is served.
const TURN_BYTES: u64 = 4096;
/// What is around a frame on the cable, with its share of what is confirmed; and of its bytes one in so many.
const AROUND_BYTES: u64 = 60;
const AROUND_PART: u64 = 20;
/// What Changes frames begin with.
const CHANGES: u8 = 6;

/// The line of one peer.
#[derive(Debug)]
pub(in crate::lab) struct Line {
    /// Bytes in a second.
    pub(in crate::lab) up: u64,
    pub(in crate::lab) down: u64,
    /// Whether its peer keeps the changes that it has for itself.
    pub(in crate::lab) is_rider: bool,
    /// Until when it is taken, in microseconds.
    up_us: u64,
    down_us: u64,
    waiting: BTreeSet<LinkId>,
    /// What is left of frames that are partly sent.
    left: BTreeMap<LinkId, u64>,
    last: LinkId,
    is_busy: bool,
    /// Bytes of all frames that were sent, and of the frames with changes that were sent and came.
    pub(in crate::lab) sent: u64,
    pub(in crate::lab) changes_sent: u64,
    pub(in crate::lab) changes_received: u64,
}

impl Line {
    pub(in crate::lab) fn new(up: u64, down: u64, is_rider: bool) -> Self {
        Self {
            up: up.max(1),
            down: down.max(1),
            is_rider,
            up_us: 0,
            down_us: 0,
            waiting: BTreeSet::new(),
            left: BTreeMap::new(),
            last: 0,
            is_busy: false,
            sent: 0,
            changes_sent: 0,
            changes_received: 0,
        }
    }

    pub(super) fn received(&mut self, frame: &[u8]) {
        if frame.first() == Some(&CHANGES) {
            self.changes_received += frame.len() as u64;
        }
    }

    pub(super) fn lets_through(&self, frame: &[u8]) -> bool {
        !self.is_rider || frame.first() != Some(&CHANGES)
    }
}

impl World {
    /// A link of a peer has something to send.
    pub(super) fn wait_for_line(&mut self, peer: usize, link: LinkId) {
        let line = &mut self.lines[peer];
        line.waiting.insert(link);
        if !std::mem::replace(&mut line.is_busy, true) {
            let at_ms = self.now_ms.max(line.up_us.div_ceil(1000));
            self.push(at_ms, Event::Turn { peer });
        }
    }

    /// Sends for a millisecond; the links take turns.
    pub(super) fn turn(&mut self, peer: usize) {
        let now_us = self.now_ms * 1000;
        self.lines[peer].up_us = self.lines[peer].up_us.max(now_us);
        let mut through: Vec<LinkId> = Vec::new();
        while self.lines[peer].up_us < now_us + 1000 {
            let line = &mut self.lines[peer];
            let next = line.waiting.range(line.last + 1..).next().or_else(|| line.waiting.first());
            let Some(link) = next.copied() else { break };
            line.last = link;
            let wire = self.wires.get_mut(&link);
            let way = wire.and_then(|wire| Some((wire.peers.iter().position(|it| *it == peer)?, wire)));
            let Some((side, wire)) = way.filter(|(side, wire)| !wire.ways[*side].queue.is_empty()) else {
                line.waiting.remove(&link);
                line.left.remove(&link);
                continue;
            };
            let (to, way) = (wire.peers[1 - side], &mut wire.ways[side]);
            let bytes = way.queue.front().map_or(0, Item::len);
            let around = bytes + bytes / AROUND_PART + AROUND_BYTES;
            let left = line.left.remove(&link).unwrap_or(around);
            let part = left.min(TURN_BYTES);
            line.up_us += part * 1_000_000 / line.up;
            line.sent += part;
            if left > part {
                line.left.insert(link, left - part);
                continue;
            }
            let Some(item) = way.queue.pop_front() else { continue };
            way.queued -= item.len();
            if let Item::Frame(frame) = &item
                && frame.first() == Some(&CHANGES)
            {
                line.changes_sent += bytes;
            }
            // What comes from several shares the line into the other peer.
            let arrives_us = line.up_us + 1000 * self.delays[peer][to].0 + 1000 * self.dice.below(3) as u64;
            let there = &mut self.lines[to];
            let took_us = around * 1_000_000 / there.down;
            there.down_us = there.down_us.max(arrives_us.saturating_sub(took_us)) + took_us;
            let arrives = arrives_us.max(there.down_us).div_ceil(1000).max(way.last_arrival_ms);
            way.last_arrival_ms = arrives;
            through.push(link);
            self.push(arrives, Event::Arrive { link, side, item });
        }
        through.dedup();
        for link in through {
            let Some(wire) = self.wires.get(&link) else { continue };
            let Some(side) = wire.side(peer) else { continue };
            let room = QUEUE_BYTES.saturating_sub(wire.ways[side].queued);
            if room >= QUEUE_BYTES / 2 {
                self.tell(peer, NodeEvent::Writable { link, bytes: room });
            }
        }
        let line = &mut self.lines[peer];
        line.is_busy = !line.waiting.is_empty();
        if line.is_busy {
            let at_ms = (self.now_ms + 1).max(line.up_us / 1000);
            self.push(at_ms, Event::Turn { peer });
        }
    }
}
