//! What happens among the peers, in the order of its time.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use bytes::Bytes;
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::blobs::partial::pieces_of;

use super::bound::{Lines, Task};
use super::line::{Line, Through, wire_bytes};
use super::{Crowd, Outcome, Pieces, Progress, Speeds};
use crate::blobs::exchange::{Exchange, Input, Output};
use crate::blobs::frame::{BlobFrame, Not};
use crate::blobs::swarm::Dice;
use crate::node::introductions;

const SPACE: PublicKey = PublicKey::from_bytes([1; 32]);
const HASH: BlobHash = BlobHash::from_bytes([2; 32]);
/// Who has it from the beginning.
const ORIGIN: u32 = 0;
/// How often a peer looks whom it may have it from, as real ones do.
const LOOK_US: u64 = 1_000_000;
/// How long who is gone for a while stays away.
const AWAY_US: u64 = 10_000_000;
/// Until the next call after one that reached nobody.
const RETRY_US: u64 = 2_000_000;
/// Who does not have it after so many times the shortest time, and as much again for small blobs, does not get it.
const PATIENCE: u64 = 20;
const PATIENCE_US: u64 = 600_000_000;
/// Things that happen between two reports of progress.
const EVENTS_TOLD: u64 = 20_000;
/// What a peer that sends nothing has for what it asks.
const TALK_BYTES_PER_S: u64 = 16 * 1024;

enum Event {
    Come(u32),
    Want(u32),
    /// Calls whom it may.
    Calls(u32),
    /// A call arrives: from, to.
    Call(u32, u32),
    /// Who was sent away may call again.
    Again(u32, u32),
    /// It hears of others.
    Told(u32, Vec<u32>),
    /// It looks for links that may have it.
    Look(u32),
    /// A turn on its line is over; in its which life.
    Turn(u32, u32),
    Frame(Box<Flight>),
    Timer(u32),
    Leave(u32),
    Back(u32),
}

/// A frame on its way; who left meanwhile does not get it.
struct Flight {
    from: (u32, u32),
    to: (u32, u32),
    frame: BlobFrame,
}

struct Queued {
    at_us: u64,
    count: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.count).cmp(&(other.at_us, other.count))
    }
}

struct Member {
    exchange: Exchange,
    limits: Speeds,
    line: Line,
    /// Who is on the other side, and whether he called.
    links: BTreeMap<u32, bool>,
    /// Whom others named.
    via: Vec<u32>,
    /// Who is being called, or is not called any more.
    called: BTreeSet<u32>,
    calling: usize,
    /// What is on its disk.
    have: Pieces,
    read_to: u32,
    /// Where its exchange thinks that it reads.
    told_to: Option<u32>,
    /// Counts how often it left.
    life: u32,
    is_here: bool,
    is_rider: bool,
    is_mute: bool,
    is_liar: bool,
    is_leaver: bool,
    leaves_once: bool,
    wants_us: Option<u64>,
    done_us: Option<u64>,
    /// When the first of it was there, and when the beginning was.
    first_us: Option<u64>,
    began_us: Option<u64>,
    down_free_us: u64,
    /// When its exchange wants to be woken, and when it will be asked.
    timer_us: Option<u64>,
    wakes_us: Option<u64>,
}

pub(super) struct World<'c> {
    crowd: &'c Crowd,
    pieces: u32,
    now_us: u64,
    give_up_us: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    count: u64,
    members: Vec<Member>,
    dice: Dice,
    first_us: Option<u64>,
    /// How many are honest, and have it.
    honest: u32,
    done: u32,
    is_over: bool,
    origin_pieces: u64,
    arrived: u64,
    kept: u64,
    wasted: u64,
    bytes: u64,
    talk_bytes: u64,
    blamed: u32,
    lines: Lines,
}

impl<'c> World<'c> {
    pub(super) fn new(crowd: &'c Crowd) -> Self {
        let pieces = u32::try_from(pieces_of(crowd.bytes)).unwrap_or(u32::MAX);
        let mut dice = Dice::new(crowd.seed);
        let mut members = vec![Member::new(Pieces::all(pieces), crowd.origin_up, crowd.origin_limits, &mut dice)];
        for _ in 0..crowd.peers {
            let is_rider = crowd.up == 0 || dice.below(1000) < u64::from(crowd.free_riders);
            let up = if is_rider { crowd.up.max(TALK_BYTES_PER_S) } else { crowd.up };
            let mut member = Member::new(Pieces::none(pieces), up, crowd.limits, &mut dice);
            member.is_rider = is_rider;
            member.is_mute = crowd.mute > 0 && dice.below(1000) < u64::from(crowd.mute);
            member.is_liar = !member.is_mute && crowd.liars > 0 && dice.below(1000) < u64::from(crowd.liars);
            member.is_leaver = dice.below(1000) < u64::from(crowd.leavers);
            member.leaves_once = dice.below(1000) < u64::from(crowd.churn);
            member.via.push(ORIGIN);
            members.push(member);
        }
        members[ORIGIN as usize].is_here = true;
        let honest = members[1..].iter().filter(|member| member.is_honest()).count() as u32;
        let give_up_us = (crowd.meet_ms + crowd.arrive_ms + PATIENCE * crowd.bound_ms()) * 1000 + PATIENCE_US;
        let mut world = Self {
            crowd,
            pieces,
            now_us: 0,
            give_up_us,
            queue: BinaryHeap::new(),
            count: 0,
            members,
            dice,
            first_us: None,
            honest,
            done: 0,
            is_over: false,
            origin_pieces: 0,
            arrived: 0,
            kept: 0,
            wasted: 0,
            bytes: 0,
            talk_bytes: 0,
            blamed: 0,
            lines: Lines::default(),
        };
        for peer in 1..=crowd.peers {
            let come_us = world.dice.below(crowd.meet_ms * 1000 + 1);
            world.push(come_us, Event::Come(peer));
            let want_us = (crowd.meet_ms * 1000) + world.dice.below(crowd.arrive_ms * 1000 + 1);
            world.push(want_us.max(come_us + 1), Event::Want(peer));
        }
        world
    }

    /// Lets things happen until there is something to tell; `None` at the end.
    pub(super) fn go_on(&mut self) -> Option<Progress> {
        if self.is_over {
            return None;
        }
        for _ in 0..EVENTS_TOLD {
            self.is_over = self.done == self.honest;
            let next = self.queue.pop().filter(|Reverse(next)| next.at_us <= self.give_up_us && !self.is_over);
            let Some(Reverse(Queued { at_us, event, .. })) = next else {
                self.is_over = true;
                break;
            };
            self.now_us = at_us;
            self.happen(event);
        }
        let pieces_total = u64::from(self.pieces) * u64::from(self.honest);
        Some(Progress { now_ms: self.now_us / 1000, pieces: self.kept, pieces_total })
    }

    pub(super) fn outcome(&self) -> Outcome {
        let peers = || self.members[1..].iter().filter(|member| member.is_honest());
        let mut times: Vec<u64> = peers().filter_map(|member| Some((member.done_us? - member.wants_us?) / 1000)).collect();
        times.sort_unstable();
        let of = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied().unwrap_or(0);
        let last_us = peers().filter_map(|member| member.done_us).max().unwrap_or(0);
        let began = peers().filter_map(|member| Some(member.began_us? - member.wants_us?));
        let first = peers().filter_map(|member| Some(member.first_us? - member.wants_us?));
        let here = self.members.iter().filter(|member| member.is_here);
        Outcome {
            all_ms: last_us.saturating_sub(self.first_us.unwrap_or(0)) / 1000,
            median_ms: of(50),
            most_ms: of(95),
            last_ms: of(100),
            began_ms: began.max().unwrap_or(0) / 1000,
            first_ms: first.max().unwrap_or(0) / 1000,
            bound_ms: self.crowd.bound_ms(),
            lines_ms: self.lines.shortest_ms(&self.task()),
            origin_copies: self.origin_pieces as f64 / f64::from(self.pieces.max(1)),
            wasted: self.wasted * 1000 / self.arrived.max(1),
            talk: self.talk_bytes * 1000 / self.bytes.max(1),
            links: here.clone().map(|member| member.links.len()).sum::<usize>() as f64 / here.count().max(1) as f64,
            left_out: self.honest - self.done,
            blamed: self.blamed,
            events: self.count,
        }
    }

    fn task(&self) -> Task {
        Task {
            first_us: self.first_us.unwrap_or(0),
            peers: self.honest,
            pieces: self.pieces,
            origin_up: self.crowd.origin_up,
            up: self.crowd.up,
            down: self.crowd.down,
            delay_us: self.crowd.delay_ms * 500,
        }
    }

    fn push(&mut self, at_us: u64, event: Event) {
        self.count += 1;
        self.queue.push(Reverse(Queued { at_us, count: self.count, event }));
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.push(self.now_us + delay_us, event);
    }

    /// How far apart two peers are: always the same, so that nothing overtakes.
    fn delay_us(&self, one: u32, other: u32) -> u64 {
        let half_us = self.crowd.delay_ms * 500;
        let pair = u64::from(one.min(other)) << 32 | u64::from(one.max(other));
        half_us + Dice::new(pair ^ self.crowd.seed).below(half_us + 1)
    }

    fn here(&self, peer: u32) -> bool {
        self.members[peer as usize].is_here
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Come(peer) => {
                self.members[peer as usize].is_here = true;
                self.calls(peer);
            }
            Event::Want(peer) => {
                self.first_us.get_or_insert(self.now_us);
                let member = &mut self.members[peer as usize];
                member.wants_us = Some(self.now_us);
                if member.gives() {
                    self.lines.change(self.now_us, 1);
                }
                if member.leaves_once {
                    let until_us = self.dice.below(self.crowd.bound_ms() * 1000 + 1);
                    self.after(until_us, Event::Leave(peer));
                }
                self.fetch(peer);
            }
            Event::Calls(peer) => self.calls(peer),
            Event::Call(from, to) => self.called(from, to),
            Event::Again(from, to) => {
                self.members[from as usize].called.remove(&to);
                self.calls(from);
            }
            Event::Told(peer, others) => {
                let member = &mut self.members[peer as usize];
                for other in others {
                    if other != peer && !member.via.contains(&other) && member.via.len() < introductions::VIA_MAX {
                        member.via.push(other);
                    }
                }
                self.calls(peer);
            }
            Event::Look(peer) => {
                let member = &self.members[peer as usize];
                if !member.is_here || member.done_us.is_some() {
                    return;
                }
                let links = member.links.keys().map(|other| u64::from(*other)).collect();
                self.input(peer, Input::Sources(HASH, SPACE, links));
                self.calls(peer);
                self.after(LOOK_US, Event::Look(peer));
            }
            Event::Turn(peer, life) => {
                if self.members[peer as usize].life == life {
                    self.members[peer as usize].line.is_busy = false;
                    self.turn(peer);
                }
            }
            Event::Frame(flight) => self.frame(*flight),
            Event::Timer(peer) => {
                let member = &mut self.members[peer as usize];
                // An earlier one was set meanwhile, which sets the next.
                if member.wakes_us != Some(self.now_us) {
                    return;
                }
                member.wakes_us = None;
                if member.timer_us.is_some_and(|at_us| at_us <= self.now_us) && member.is_here {
                    self.input(peer, Input::Timer);
                } else {
                    self.wake(peer);
                }
            }
            Event::Leave(peer) => {
                let member = &self.members[peer as usize];
                let is_for_ever = member.done_us.is_some();
                if !member.is_here || is_for_ever && !member.is_leaver {
                    return;
                }
                self.leave(peer);
                if !is_for_ever {
                    self.after(AWAY_US, Event::Back(peer));
                }
            }
            Event::Back(peer) => {
                self.members[peer as usize].is_here = true;
                if self.members[peer as usize].gives() {
                    self.lines.change(self.now_us, 1);
                }
                self.calls(peer);
                self.fetch(peer);
            }
        }
    }

    fn fetch(&mut self, peer: u32) {
        let have = self.members[peer as usize].have.clone();
        self.input(peer, Input::Fetch { space: SPACE, hash: HASH, len: self.crowd.bytes, have });
        self.read(peer);
        self.happen(Event::Look(peer));
    }

    /// What has come without a gap is read; what follows is wanted first.
    fn read(&mut self, peer: u32) {
        let member = &mut self.members[peer as usize];
        while member.have.contains(member.read_to) {
            member.read_to += 1;
        }
        if member.read_to >= pieces_of(super::FIRST_BYTES.min(self.crowd.bytes)) as u32 {
            member.first_us.get_or_insert(self.now_us);
        }
        let beginning = pieces_of(super::BEGINNING_BYTES.min(self.crowd.bytes)) as u32;
        if member.read_to >= beginning {
            member.began_us.get_or_insert(self.now_us);
        }
        if self.crowd.reads && !member.have.is_all() && member.told_to != Some(member.read_to) {
            member.told_to = Some(member.read_to);
            let rest = std::iter::once(member.read_to..self.pieces).collect();
            self.input(peer, Input::Reads(HASH, rest, self.crowd.plays));
        }
    }

    /// Calls those it knows of, if it should know more.
    fn calls(&mut self, peer: u32) {
        let member = &mut self.members[peer as usize];
        if !member.is_here {
            return;
        }
        // This happens very often, and most times there is nothing to do: what takes long comes last.
        let left = introductions::CALLS_MAX.saturating_sub(member.calling);
        if left == 0 {
            return;
        }
        let is_fetching = member.wants_us.is_some() && member.done_us.is_none();
        let linked = || member.via.iter().filter(|other| member.links.contains_key(other)).count();
        let is_more = introductions::calls_more(member.links.len(), is_fetching) || introductions::calls_more(linked(), is_fetching);
        let is_callee = |other: &u32| !member.called.contains(other) && !member.links.contains_key(other);
        // Whom they know they call always, and others as the rules say.
        let callees: Vec<u32> = if is_more {
            member.via.iter().copied().filter(is_callee).take(left).collect()
        } else {
            Some(ORIGIN).filter(|origin| member.via.contains(origin) && is_callee(origin)).into_iter().collect()
        };
        member.called.extend(&callees);
        member.calling += callees.len();
        for callee in callees {
            let there_us = 3 * self.delay_us(peer, callee);
            self.after(there_us, Event::Call(peer, callee));
        }
    }

    fn called(&mut self, from: u32, to: u32) {
        let (is_here, are_linked) = (self.here(to), self.members[to as usize].links.contains_key(&from));
        let member = &mut self.members[from as usize];
        member.calling = member.calling.saturating_sub(1);
        if !member.is_here || are_linked {
            member.called.remove(&to);
            return;
        }
        if !is_here {
            // Others may be there.
            self.after(RETRY_US, Event::Calls(from));
            return;
        }
        let others: Vec<u32> = self.members[to as usize].links.keys().copied().filter(|other| *other != from).collect();
        let is_alone = others.is_empty();
        // Who knows of as many as he remembers listens no more.
        let knows_enough = self.members[from as usize].via.len() >= introductions::VIA_MAX;
        let others = if knows_enough { Vec::new() } else { introductions::to_tell(&key(from), self.now_us / 1000, others, |other| key(*other)) };
        let came = self.members[to as usize].links.values().filter(|came| **came).count() + 1;
        let is_sent_away = !is_alone && introductions::is_crowded(came, self.crowd.links_max);
        let back_us = self.delay_us(from, to);
        self.after(back_us, Event::Told(from, others));
        if is_sent_away {
            self.after(introductions::CROWDED_S * 1_000_000, Event::Again(from, to));
        } else {
            self.members[from as usize].links.insert(to, false);
            self.members[from as usize].called.remove(&to);
            self.members[to as usize].links.insert(from, true);
        }
    }

    fn leave(&mut self, peer: u32) {
        let seed = self.dice.below(u64::MAX);
        let member = &mut self.members[peer as usize];
        member.is_here = false;
        if member.gives() {
            self.lines.change(self.now_us, -1);
        }
        member.life += 1;
        member.exchange = exchange(seed, member.limits, self.now_us / 1000);
        member.line = member.line.again();
        (member.timer_us, member.told_to, member.calling) = (None, None, 0);
        member.called.clear();
        for other in std::mem::take(&mut member.links).into_keys() {
            let there = &mut self.members[other as usize];
            there.links.remove(&peer);
            there.line.cut(u64::from(peer));
            // It is back when it calls.
            there.called.insert(peer);
            self.input(other, Input::Gone(u64::from(peer)));
            self.calls(other);
        }
    }

    /// Hands an input to the exchange of a peer, and does what it says.
    fn input(&mut self, peer: u32, input: Input) {
        let now_ms = self.now_us / 1000;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let outputs = self.members[peer as usize].exchange.handle(now_ms, input);
            for output in outputs {
                let member = &mut self.members[peer as usize];
                match output {
                    Output::Send(link, frame) => self.send(peer, link as u32, frame),
                    Output::Look(look) => inputs.push_back(Input::Found { look, have: Some(member.have.clone()) }),
                    Output::Load { link, hash, id, piece } => {
                        inputs.push_back(Input::Loaded { link, hash, id, piece, slice: Some(Bytes::new()) });
                    }
                    Output::Keep { link, hash, id, piece, .. } => {
                        self.kept += u64::from(member.have.insert(piece) && member.is_honest());
                        inputs.push_back(Input::Kept { link, hash, id, piece, good: Some(true) });
                    }
                    Output::Blame { .. } => self.blamed += 1,
                    Output::Grown(_) => {}
                }
            }
        }
        let next_ms = self.members[peer as usize].exchange.next_ms(now_ms);
        self.members[peer as usize].timer_us = next_ms.map(|at_ms| at_ms * 1000);
        self.wake(peer);
        self.turn(peer);
    }

    fn wake(&mut self, peer: u32) {
        let member = &mut self.members[peer as usize];
        if let Some(at_us) = member.timer_us.filter(|at_us| member.wakes_us.is_none_or(|wakes_us| wakes_us > *at_us)) {
            let at_us = at_us.max(self.now_us + 1);
            member.wakes_us = Some(at_us);
            self.push(at_us, Event::Timer(peer));
        }
    }

    fn send(&mut self, from: u32, to: u32, frame: BlobFrame) {
        let member = &mut self.members[from as usize];
        let frame = match frame {
            BlobFrame::Have { asks: false, .. } if member.is_mute => return,
            BlobFrame::Have { space, hash, len, asks, .. } if member.is_liar => {
                BlobFrame::Have { space, hash, len, asks, pieces: vec![(0, self.pieces.saturating_sub(1).max(1))] }
            }
            frame => frame,
        };
        if member.links.contains_key(&to) {
            member.line.push(u64::from(to), frame);
        }
    }

    /// Sends what waits, if the line is free.
    fn turn(&mut self, peer: u32) {
        let member = &mut self.members[peer as usize];
        if member.line.is_busy || !member.is_here {
            return;
        }
        let Some((through, took_us)) = member.line.turn() else { return };
        member.line.is_busy = true;
        let life = member.life;
        self.after(took_us, Event::Turn(peer, life));
        for Through { link, frame, after_us } in through {
            let to = link as u32;
            let mut at_us = self.now_us + after_us + self.delay_us(peer, to);
            let bytes = wire_bytes(&frame);
            self.bytes += bytes;
            let there = &mut self.members[to as usize];
            if matches!(frame, BlobFrame::Piece { .. }) {
                self.origin_pieces += u64::from(peer == ORIGIN);
                // All who send to it share the line into it.
                let down_us = bytes * 1_000_000 / self.crowd.down.max(1);
                there.down_free_us = there.down_free_us.max(at_us.saturating_sub(down_us)) + down_us;
                at_us = at_us.max(there.down_free_us);
            } else {
                self.talk_bytes += bytes;
            }
            let flight = Flight { from: (peer, life), to: (to, there.life), frame };
            self.push(at_us, Event::Frame(Box::new(flight)));
        }
    }

    fn frame(&mut self, flight: Flight) {
        let Flight { from: (from, from_life), to: (to, to_life), frame } = flight;
        let is_same = self.members[from as usize].life == from_life && self.members[to as usize].life == to_life;
        let member = &self.members[to as usize];
        if !is_same || !member.links.contains_key(&from) {
            return;
        }
        match frame {
            BlobFrame::Want { hash, id, .. } if member.is_rider => {
                self.send(to, from, BlobFrame::Not { hash, id, reason: Not::Busy });
                self.turn(to);
                return;
            }
            BlobFrame::Want { .. } if !member.is_honest() => return,
            BlobFrame::Piece { piece, .. } => {
                self.arrived += 1;
                self.wasted += u64::from(member.have.contains(piece));
            }
            _ => {}
        }
        let before = member.have.count();
        self.input(to, Input::Frame(u64::from(from), frame));
        let member = &mut self.members[to as usize];
        if member.have.count() == before {
            return;
        }
        if member.have.is_all() && member.done_us.is_none() {
            member.done_us = Some(self.now_us);
            self.done += u32::from(member.is_honest());
            self.read(to);
            let member = &mut self.members[to as usize];
            if member.is_leaver {
                self.after(0, Event::Leave(to));
            }
        } else {
            self.read(to);
        }
    }
}

impl Member {
    /// Whether it says what is so.
    fn is_honest(&self) -> bool {
        !self.is_mute && !self.is_liar
    }

    /// Whether others get something from it.
    fn gives(&self) -> bool {
        self.is_honest() && !self.is_rider
    }

    fn new(have: Pieces, up: u64, limits: Speeds, dice: &mut Dice) -> Self {
        Self {
            exchange: exchange(dice.below(u64::MAX), limits, 0),
            limits,
            line: Line::new(up),
            links: BTreeMap::new(),
            via: Vec::new(),
            called: BTreeSet::new(),
            calling: 0,
            have,
            read_to: 0,
            told_to: None,
            life: 0,
            is_here: false,
            is_rider: false,
            is_mute: false,
            is_liar: false,
            is_leaver: false,
            leaves_once: false,
            wants_us: None,
            done_us: None,
            first_us: None,
            began_us: None,
            down_free_us: 0,
            timer_us: None,
            wakes_us: None,
        }
    }
}

/// What a peer begins with.
fn exchange(seed: u64, limits: Speeds, now_ms: u64) -> Exchange {
    let mut exchange = Exchange::new(seed);
    exchange.handle(now_ms, Input::Limits(limits));
    exchange
}

/// The node key of a peer.
fn key(peer: u32) -> PublicKey {
    let mut bytes = [3; 32];
    bytes[..4].copy_from_slice(&peer.to_le_bytes());
    PublicKey::from_bytes(bytes)
}
