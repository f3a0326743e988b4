//! Many peers that want one blob at once, with the real choices of [`super::swarm`] and simulated lines.
//!
//! Events come in the order of their time from a seed, so that a run can be repeated. A line carries one piece after
//! the other; what it takes is its size over the rate, and a delay.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::pieces::Pieces;
use super::swarm::{Dice, Download, Next, Upload};

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Crowd {
    /// Where everything random comes from.
    pub seed: u64,
    /// Peers that want the blob.
    pub peers: u32,
    /// Bytes of the blob.
    pub bytes: u64,
    /// Bytes of a piece.
    pub piece_bytes: u64,
    /// Bytes a second that the origin sends.
    pub origin_up: u64,
    /// Bytes a second that each other peer sends.
    pub up: u64,
    /// Bytes a second that each peer receives.
    pub down: u64,
    /// Milliseconds from one peer to another, at most; at least half of it.
    pub delay_ms: u64,
    /// Other peers that each peer knows, beside the origin.
    pub neighbours: u32,
    /// Peers that know the origin; others hear of it only through others. All, if there are not more peers.
    pub at_origin: u32,
    /// Milliseconds over which the peers come.
    pub arrive_ms: u64,
    /// Of a thousand peers, how many send nothing.
    pub free_riders: u32,
    /// Of a thousand peers, how many leave as soon as they have all of it.
    pub leavers: u32,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            seed: 1,
            peers: 16,
            bytes: 32 << 20,
            piece_bytes: 128 << 10,
            origin_up: 1_000_000,
            up: 1_000_000,
            down: 12_500_000,
            delay_ms: 20,
            neighbours: 24,
            at_origin: 64,
            arrive_ms: 0,
            free_riders: 0,
            leavers: 0,
        }
    }
}

/// How a run went.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Milliseconds until all had it, counted from when the last one came.
    pub all_ms: u64,
    /// Milliseconds in which half of them had it, counted from when each came.
    pub median_ms: u64,
    /// Milliseconds that it must take at least.
    pub bound_ms: u64,
    /// How often the origin sent each piece on average.
    pub origin_copies: f64,
    /// Pieces that came twice to one peer, of a thousand.
    pub wasted: u64,
    /// Peers that did not get it.
    pub left_out: u32,
    /// Things that happened.
    pub events: u64,
}

impl Crowd {
    /// The time below which nobody can be: the origin has to send everything once, each has to receive it, and what
    /// all receive somebody has to send.
    #[must_use]
    pub fn bound_ms(&self) -> u64 {
        let givers = u64::from(self.peers) * u64::from(1000 - self.free_riders.min(1000)) / 1000;
        let bytes = self.bytes as f64;
        let all_up = (self.origin_up + givers * self.up) as f64;
        let seconds = [bytes / self.origin_up as f64, bytes / self.down as f64, f64::from(self.peers) * bytes / all_up];
        (seconds.into_iter().fold(0.0, f64::max) * 1000.0) as u64
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Come(u32),
    /// A peer's line is free.
    Free(u32),
    /// A piece has come: from, to, request, piece.
    Piece(u32, u32, u64, Option<u32>),
    /// A request has come: from, to.
    Want(u32, u32, u64, Vec<(u32, u32)>),
    /// News has come of what another has: from, to.
    Have(u32, u32, Vec<(u32, u32)>),
    Tick(u32),
    Gone(u32, u32),
}

struct Member {
    download: Download,
    upload: Upload,
    neighbours: BTreeSet<u32>,
    /// Whom it sent to last, so that the next one is another.
    last_reader: u64,
    is_sending: bool,
    up: u64,
    down_free_us: u64,
    came_us: u64,
    done_us: Option<u64>,
    is_gone: bool,
    is_leaver: bool,
}

struct World<'c> {
    crowd: &'c Crowd,
    now_us: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    members: Vec<Member>,
    dice: Dice,
    origin_sent: u64,
    wasted: u64,
    received: u64,
}

/// Runs it to the end.
#[must_use]
pub fn run(crowd: &Crowd) -> Outcome {
    let pieces = u32::try_from(crowd.bytes.div_ceil(crowd.piece_bytes)).unwrap_or(u32::MAX);
    let mut dice = Dice::new(crowd.seed);
    let member = |have: Pieces, up: u64, dice: &mut Dice| Member {
        download: Download::new(have, dice.below(u64::MAX)),
        upload: Upload::new(pieces),
        neighbours: BTreeSet::new(),
        last_reader: 0,
        is_sending: false,
        up,
        down_free_us: 0,
        came_us: 0,
        done_us: None,
        is_gone: false,
        is_leaver: false,
    };
    let mut members = vec![member(Pieces::all(pieces), crowd.origin_up, &mut dice)];
    for _ in 0..crowd.peers {
        let up = if dice.below(1000) < u64::from(crowd.free_riders) { 0 } else { crowd.up };
        let mut new = member(Pieces::none(pieces), up, &mut dice);
        new.is_leaver = dice.below(1000) < u64::from(crowd.leavers);
        members.push(new);
    }
    let mut world = World { crowd, now_us: 0, queue: BinaryHeap::new(), count: 0, members, dice, origin_sent: 0, wasted: 0, received: 0 };
    let mut last_came_us = 0;
    for peer in 1..=crowd.peers {
        let at_us = world.dice.below(crowd.arrive_ms * 1000 + 1);
        last_came_us = last_came_us.max(at_us);
        world.push(at_us, Event::Come(peer));
    }
    // Who does not get it in a hundred times the shortest time does not get it.
    let give_up_us = last_came_us + crowd.bound_ms() * 1000 * 100;
    while let Some(Reverse((at_us, _, event))) = world.queue.pop() {
        if at_us > give_up_us {
            break;
        }
        world.now_us = at_us;
        world.handle(event);
    }
    let mut times: Vec<u64> = world.members[1..].iter().filter_map(|member| Some((member.done_us? - member.came_us) / 1000)).collect();
    times.sort_unstable();
    let last_us = world.members[1..].iter().filter_map(|member| member.done_us).max().unwrap_or(0);
    Outcome {
        all_ms: last_us.saturating_sub(last_came_us) / 1000,
        median_ms: times.get(times.len() / 2).copied().unwrap_or(0),
        bound_ms: crowd.bound_ms(),
        origin_copies: world.origin_sent as f64 / f64::from(pieces),
        wasted: world.wasted * 1000 / world.received.max(1),
        left_out: crowd.peers - times.len() as u32,
        events: world.count,
    }
}

impl World<'_> {
    fn push(&mut self, at_us: u64, event: Event) {
        self.count += 1;
        self.queue.push(Reverse((at_us, self.count, event)));
    }

    fn later(&mut self, event: Event) {
        let half_us = self.crowd.delay_ms * 500;
        let delay_us = half_us + self.dice.below(half_us + 1);
        self.push(self.now_us + delay_us, event);
    }

    fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Come(peer) => self.come(peer),
            Event::Free(peer) => {
                self.members[peer as usize].is_sending = false;
                self.send(peer);
            }
            Event::Want(from, to, id, any_of) => {
                let member = &mut self.members[to as usize];
                if member.is_gone || member.up == 0 {
                    self.later(Event::Piece(to, from, id, None));
                    return;
                }
                member.upload.wanted(u64::from(from), id, any_of);
                self.send(to);
            }
            Event::Have(from, to, pieces) => {
                let member = &mut self.members[to as usize];
                member.upload.reader_has(u64::from(from), &pieces);
                if member.done_us.is_none() && to != 0 {
                    member.download.source_has(u64::from(from), &pieces);
                    let wants = member.download.ask_one(u64::from(from), self.now_us / 1000);
                    for want in wants {
                        self.later(Event::Want(to, from, want.id, want.any_of));
                    }
                }
            }
            Event::Piece(from, to, id, None) => {
                let pause_ms = if self.members[from as usize].up == 0 || self.members[from as usize].is_gone { 60_000 } else { 0 };
                let until_ms = self.now_ms() + pause_ms;
                self.members[to as usize].download.refused(u64::from(from), id, until_ms);
                self.ask(to);
            }
            Event::Piece(from, to, id, Some(piece)) => self.received(from, to, id, piece),
            Event::Tick(peer) => {
                self.ask(peer);
                self.tick(peer);
            }
            Event::Gone(from, to) => {
                let member = &mut self.members[to as usize];
                member.download.source_gone(u64::from(from));
                member.upload.reader_gone(u64::from(from));
                self.ask(to);
            }
        }
    }

    fn tick(&mut self, peer: u32) {
        let now_ms = self.now_ms();
        if let Some(at_ms) = self.members[peer as usize].download.next_ms(now_ms) {
            self.push(at_ms * 1000, Event::Tick(peer));
        }
    }

    fn come(&mut self, peer: u32) {
        self.members[peer as usize].came_us = self.now_us;
        let crowd = self.crowd;
        if peer <= crowd.at_origin || crowd.peers <= crowd.at_origin {
            self.meet(peer, 0);
        }
        let wanted = crowd.neighbours.min(crowd.peers - 1) as usize;
        for _ in 0..8 * wanted {
            let other = 1 + self.dice.below(u64::from(crowd.peers)) as u32;
            if self.members[peer as usize].neighbours.len() <= wanted && other != peer && !self.members[other as usize].is_gone {
                self.meet(peer, other);
            }
        }
        self.tick(peer);
    }

    fn meet(&mut self, one: u32, other: u32) {
        if !self.members[one as usize].neighbours.insert(other) {
            return;
        }
        self.members[other as usize].neighbours.insert(one);
        for (from, to) in [(one, other), (other, one)] {
            let pieces = self.members[from as usize].download.have().ranges(usize::MAX);
            self.later(Event::Have(from, to, pieces));
        }
    }

    fn ask(&mut self, peer: u32) {
        let now_ms = self.now_ms();
        for want in self.members[peer as usize].download.ask(now_ms) {
            self.later(Event::Want(peer, want.source as u32, want.id, want.any_of));
        }
    }

    /// Sends the next piece if the line is free.
    fn send(&mut self, peer: u32) {
        loop {
            let member = &mut self.members[peer as usize];
            if member.is_sending || member.is_gone {
                return;
            }
            let last = member.last_reader;
            let waiting = |reader: &u64| member.upload.is_waiting(*reader);
            let reader = member.upload.readers().filter(|reader| *reader > last).find(waiting);
            let Some(reader) = reader.or_else(|| member.upload.readers().find(waiting)) else { return };
            member.last_reader = reader;
            let Some(Next { id, piece, .. }) = member.upload.next(reader, member.download.have(), &mut self.dice) else { return };
            let to = reader as u32;
            let Some(piece) = piece else {
                self.later(Event::Piece(peer, to, id, None));
                continue;
            };
            let took_us = self.crowd.piece_bytes * 1_000_000 / member.up.max(1);
            member.is_sending = true;
            self.origin_sent += u64::from(peer == 0);
            let down_us = self.crowd.piece_bytes * 1_000_000 / self.crowd.down.max(1);
            let half_us = self.crowd.delay_ms * 500;
            let sent_us = self.now_us + took_us;
            self.push(sent_us, Event::Free(peer));
            let delay_us = half_us + self.dice.below(half_us + 1);
            let there = &mut self.members[to as usize];
            // A line into a peer is shared by all who send to it.
            there.down_free_us = there.down_free_us.max(sent_us + delay_us - down_us.min(took_us)) + down_us;
            let at_us = there.down_free_us.max(sent_us + delay_us);
            self.push(at_us, Event::Piece(peer, to, id, Some(piece)));
        }
    }

    fn received(&mut self, from: u32, to: u32, id: u64, piece: u32) {
        let now_ms = self.now_ms();
        let member = &mut self.members[to as usize];
        self.received += 1;
        if !member.download.received(u64::from(from), id, piece, now_ms) {
            self.wasted += 1;
        }
        let neighbours: Vec<u32> = member.neighbours.iter().copied().collect();
        let is_done = member.download.have().is_all();
        if is_done && member.done_us.is_none() {
            member.done_us = Some(self.now_us);
        }
        let leaves = is_done && member.is_leaver && !std::mem::replace(&mut member.is_gone, member.is_leaver);
        for other in neighbours {
            if leaves {
                self.later(Event::Gone(to, other));
            } else {
                self.later(Event::Have(to, other, vec![(piece, piece + 1)]));
            }
        }
        self.ask(to);
        self.send(to);
    }
}
