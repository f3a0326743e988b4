//! The world that peers live in: time, the network, and everything that goes wrong.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey, hash};
use timebus_store::engine::{Crash, Step};
use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, ScopeSegment, Timelines};
use timebus_store::ids::ChangeId;
use timebus_store::json::Json;
use timebus_store::op::{Op, TextEdit};
use timebus_store::path::Path;
use timebus_store::value::Mime;
use timebus_store::writer::{Action, Condition, Request, Statement, TextEdits, WriteError, Written};

use super::check;
use super::dice::Dice;
use super::evil::{Evil, Lying, twin};
use super::peer::{Peer, answer, poll};
use super::wire::{Item, QUEUE_BYTES, Wire};
use super::{Config, Line, NAMES, Totals};
use crate::held::Held;
use crate::node::{Act, Event as NodeEvent, LinkId, PeerState, SpaceState};
use crate::sync::frame::{FRAME_BYTES_MAX, Redemption};
use crate::sync::{Binding, RedeemAnswer, Replica, Role};

/// Unix time at which every lab begins.
const BEGIN_MS: u64 = 1_800_000_000_000;
/// By then everybody has said on disk who may read and write; trouble begins later.
const BEGUN_MS: u64 = 300;
/// How long a side hears nothing before it gives a link up; as the transport has it.
const SILENCE_MS: u64 = 20_000;
/// How long a call takes that nobody answers.
const UNANSWERED_MS: u64 = 5_000;
/// What a peer may have taken from others and not stored: all windows of a link, and what waits for its causes.
const TAKEN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Frames that a node hands over beyond what the transport takes: answers and the like, and one frame.
const OVERHANG_BYTES: u64 = 256 * 1024 + 64 * 1024 + FRAME_BYTES_MAX as u64;
/// Events of one lab. There are never so many, unless peers keep each other busy for ever.
const EVENTS_MAX: u64 = 20_000_000;

enum Event {
    /// A peer goes on with what it has to do.
    Work {
        peer: usize,
        life: u64,
    },
    /// Its disk has done a step.
    Disk {
        peer: usize,
        life: u64,
    },
    Timer {
        peer: usize,
        life: u64,
        at_ms: u64,
    },
    SaveBook {
        peer: usize,
        life: u64,
    },
    /// Its call was answered.
    Answered {
        from: usize,
        life: u64,
        to: usize,
    },
    /// It was not.
    Missed {
        from: usize,
        life: u64,
        to: usize,
        why: &'static str,
    },
    /// The first frame of a queue is sent.
    Depart {
        link: LinkId,
        side: usize,
    },
    Arrive {
        link: LinkId,
        side: usize,
        item: Item,
    },
    /// A side of a link hears nothing since a while.
    Silence {
        link: LinkId,
        side: usize,
    },
    /// One direction between two peers was cut a while ago.
    StillCut {
        from: usize,
        to: usize,
        cut: u64,
    },
    Deed(Deed),
}

/// What happens to peers.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Write,
    Crash,
    /// Starts a peer that crashed.
    Start(usize),
    /// One direction between two peers, or both.
    Cut {
        both: bool,
    },
    Mend {
        from: usize,
        to: usize,
        both: bool,
    },
    /// Groups of peers that do not reach each other.
    Partition(Vec<Vec<usize>>),
    Reunite(Vec<Vec<usize>>),
    Slow,
    FillDisk,
    EmptyDisk(usize),
    BreakDisk,
    /// Starts a peer anew whose disk has failed.
    Repair(usize),
    Revoke,
    Fork,
    /// A peer is told again where another one is.
    CallAgain,
}

/// A write that was acknowledged as durable.
struct Promise {
    peer: usize,
    space: PublicKey,
    change: ChangeId,
}

/// The world.
pub(super) struct World {
    pub(super) config: Config,
    pub(super) now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    last_event: u64,
    events_done: u64,
    dice: Dice,
    pub(super) peers: Vec<Peer>,
    wires: BTreeMap<LinkId, Wire>,
    next_link: LinkId,
    /// How many reasons there are why nothing comes through from one peer to another.
    cuts: Vec<Vec<u32>>,
    /// Which cut it was that began this.
    cut_by: Vec<Vec<u64>>,
    cut_count: u64,
    /// Milliseconds from one peer to another, and bytes in a millisecond.
    delays: Vec<Vec<(u64, u64)>>,
    promises: Vec<Promise>,
    /// Grants in force, by space.
    grants: BTreeMap<PublicKey, Vec<timebus_store::ids::GrantId>>,
    is_healing: bool,
    pub(super) totals: Totals,
    pub(super) story: Vec<Line>,
    pub(super) problems: Vec<String>,
}

impl World {
    pub(super) fn new(config: &Config) -> Self {
        let count = config.nodes;
        let mut dice = Dice::new(config.seed);
        let mut peers: Vec<Peer> = (0..count).map(|number| Peer::new(NAMES[number], config.seed, number)).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            if config.skew_ms > 0 {
                peer.skew_ms = dice.between(0, 2 * config.skew_ms) as i64 - config.skew_ms as i64;
            }
            peer.sync_ms = [0, 1, 4, 30][dice.below(4)];
            if number >= count - config.evil {
                peer.evil = Some(Evil::new(dice.any()));
            }
        }
        let mut delays = vec![vec![(1, u64::MAX); count]; count];
        for (from, to) in pairs(count) {
            let delay = [1, 15, 80, 300][dice.below(4)];
            (delays[from][to].0, delays[to][from].0) = (delay, delay);
        }
        Self {
            config: config.clone(),
            now_ms: 0,
            events: BTreeMap::new(),
            last_event: 0,
            events_done: 0,
            dice,
            peers,
            wires: BTreeMap::new(),
            next_link: 1,
            cuts: vec![vec![0; count]; count],
            cut_by: vec![vec![0; count]; count],
            cut_count: 0,
            delays,
            promises: Vec::new(),
            grants: BTreeMap::new(),
            is_healing: false,
            totals: Totals::default(),
            story: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn honest(&self) -> Vec<usize> {
        (0..self.peers.len()).filter(|peer| self.peers[*peer].evil.is_none()).collect()
    }

    pub(super) fn tell_story(&mut self, text: String) {
        self.story.push(Line { ms: self.now_ms, text });
    }

    pub(super) fn problem(&mut self, text: String) {
        // The first few say what is wrong; more of the same do not.
        if self.problems.len() < 20 {
            self.problems.push(format!("{:.3} s: {text}", self.now_ms as f64 / 1000.0));
        }
    }

    fn clock(&self, peer: usize) -> u64 {
        (BEGIN_MS + self.now_ms).saturating_add_signed(self.peers[peer].skew_ms)
    }

    /// Time of the world at which a clock shows something.
    fn unclock(&self, peer: usize, ms: u64) -> u64 {
        ms.saturating_add_signed(-self.peers[peer].skew_ms).saturating_sub(BEGIN_MS).max(self.now_ms)
    }

    fn push(&mut self, ms: u64, event: Event) {
        self.last_event += 1;
        self.events.insert((ms.max(self.now_ms), self.last_event), event);
    }

    pub(super) fn at(&mut self, ms: u64, deed: Deed) {
        self.push(ms, Event::Deed(deed));
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, until_ms: u64) {
        while let Some(next) = self.events.first_entry()
            && next.key().0 <= until_ms
        {
            let ((ms, _), event) = next.remove_entry();
            self.now_ms = ms;
            self.events_done += 1;
            if self.events_done > EVENTS_MAX {
                self.problem("the peers keep each other busy for ever".to_owned());
                self.events.clear();
                break;
            }
            self.step(event);
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    // ---- beginning

    /// Starts all peers; each grants the others what they need, and follows them by way of its neighbours.
    pub(super) fn begin(&mut self) {
        let count = self.peers.len();
        for peer in 0..count {
            self.start(peer);
            let trait_text = self.peers[peer].evil.as_ref().map(Evil::traits);
            if let Some(text) = trait_text {
                let name = self.peers[peer].name;
                self.tell_story(format!("{name} is dishonest: {text}"));
            }
        }
        for owner in 0..count {
            let keys: Vec<PublicKey> = (0..count).filter(|peer| *peer != owner).map(|peer| self.peers[peer].device()).collect();
            let read = keys.iter().map(|key| Op::Grant(grant(*key, Scope::everything(), Actions(Actions::SYNC.0 | Actions::READ.0), "reader")));
            let wall = Scope { segments: vec![ScopeSegment::Name("wall".into())], deep: true };
            let write = Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0);
            let walls = keys.iter().map(|key| Op::Grant(grant(*key, wall.clone(), write, "writer")));
            let ops: Vec<Op> = read.chain(walls).collect();
            let time_ms = self.clock(owner);
            self.peers[owner].state(Statement::Ops(ops), time_ms);
            let list = self.request(None, "/wall/list", Action::Put(Json::Array(Vec::new())), time_ms);
            let space = self.peers[owner].space();
            self.peers[owner].write(list, space);
            self.work(owner);
        }
        // Honest peers form a connected graph among themselves; dishonest ones hang on somewhere.
        let mut neighbours: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); count];
        let honest = self.honest().len();
        for peer in 1..count {
            let other = self.dice.below(peer.min(honest));
            neighbours[peer].insert(other);
            neighbours[other].insert(peer);
        }
        for _ in 0..count {
            let (a, b) = (self.dice.below(count), self.dice.below(count));
            if a != b {
                neighbours[a].insert(b);
                // Sometimes only one of both knows the other.
                if self.dice.percent(70) {
                    neighbours[b].insert(a);
                }
            }
        }
        for (peer, known) in neighbours.iter().enumerate() {
            let via: Vec<(PublicKey, Vec<String>)> =
                known.iter().map(|other| (self.peers[*other].node_key(), vec![self.peers[*other].name.to_owned()])).collect();
            for other in (0..count).filter(|other| *other != peer) {
                let space = self.peers[other].space();
                self.tell(peer, NodeEvent::Follow { space, via: via.clone() });
            }
            // What the owner wants is on disk before trouble begins.
            let it = &mut self.peers[peer];
            if let Some(up) = &it.up {
                it.book = up.node.book().clone();
            }
        }
        let text = (0..count).map(|peer| {
            let names: Vec<&str> = neighbours[peer].iter().map(|other| self.peers[*other].name).collect();
            format!("{} knows {}", self.peers[peer].name, names.join(" and "))
        });
        let text = text.collect::<Vec<_>>().join("; ");
        self.tell_story(text);
    }

    fn start(&mut self, peer: usize) {
        let now_ms = self.clock(peer);
        if let Err(problem) = self.peers[peer].start(now_ms) {
            return self.problem(problem);
        }
        // What could be read before is there again.
        if let Some(store) = self.peers[peer].store() {
            match check::everything(&store) {
                Ok(now) => {
                    let now: BTreeSet<ChangeId> = now.into_iter().collect();
                    let lost = self.peers[peer].shown.iter().filter(|change| !now.contains(change)).count();
                    if lost > 0 {
                        let name = self.peers[peer].name;
                        self.problem(format!("{name} lost {lost} changes that it had shown"));
                    }
                }
                Err(error) => self.problem(error.to_string()),
            }
            self.check_promises(peer, &store);
        }
        // A node says what it wants to do when it is told the time.
        let address = self.peers[peer].name.to_owned();
        self.tell(peer, NodeEvent::Addresses(vec![address]));
        self.work(peer);
    }

    // ---- one step

    fn is_alive(&self, peer: usize, life: u64) -> bool {
        self.peers[peer].life == life && self.peers[peer].up.is_some()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Work { peer, life } if self.is_alive(peer, life) => self.work_now(peer),
            Event::Disk { peer, life } if self.is_alive(peer, life) => {
                if let Some(up) = &mut self.peers[peer].up {
                    up.is_syncing = false;
                }
                self.work_now(peer);
            }
            Event::Timer { peer, life, at_ms } if self.is_alive(peer, life) => {
                if let Some(up) = &mut self.peers[peer].up
                    && up.timer_ms == Some(at_ms)
                {
                    up.timer_ms = None;
                    self.tell(peer, NodeEvent::Timer);
                }
            }
            Event::SaveBook { peer, life } if self.is_alive(peer, life) => {
                let it = &mut self.peers[peer];
                if let Some(up) = &mut it.up {
                    up.is_saving = false;
                    it.book = up.node.book().clone();
                }
            }
            Event::Answered { from, life, to } if self.is_alive(from, life) => self.answered(from, to),
            Event::Missed { from, life, to, why } if self.is_alive(from, life) => {
                let node = self.peers[to].node_key();
                self.tell(from, NodeEvent::NotReached { node, why: why.to_owned() });
            }
            Event::Depart { link, side } => self.depart(link, side),
            Event::Arrive { link, side, item } => self.arrive(link, side, item),
            Event::Silence { link, side } => self.give_up(link, side, "nothing was heard of the other side for too long"),
            Event::StillCut { from, to, cut } if self.cuts[from][to] > 0 && cut == self.cut_by[from][to] => {
                let links: Vec<(LinkId, usize)> = self.wires.iter().filter_map(|(link, wire)| Some((*link, receiver(wire, from, to)?))).collect();
                for (link, side) in links {
                    self.give_up(link, side, "nothing was heard of the other side for too long");
                }
            }
            Event::Deed(deed) => self.act_out(deed),
            _ => {}
        }
    }

    // ---- a peer's work

    fn work(&mut self, peer: usize) {
        let life = self.peers[peer].life;
        self.push(self.now_ms, Event::Work { peer, life });
    }

    fn work_now(&mut self, peer: usize) {
        self.peers[peer].begin_offers();
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
    fn collect(&mut self, peer: usize) {
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
        let mut offered = Vec::new();
        let links: Vec<LinkId> = up.offers.keys().copied().collect();
        for link in links {
            if let Some((_, answer)) = up.offers.get_mut(&link)
                && let Some(result) = poll(answer)
                && let Some((stored, _)) = up.offers.remove(&link)
            {
                offered.push((link, stored, result));
            }
        }
        let arrived = *up.engine.store().arrivals().borrow();
        let grew = arrived > up.arrived;
        up.arrived = arrived;
        let done = !offered.is_empty();
        for (space, durable, result) in written {
            self.written(peer, space, durable, result);
        }
        for result in stated {
            match result {
                Ok(grants) => {
                    let space = self.peers[peer].space();
                    self.grants.entry(space).or_default().extend(grants);
                }
                Err(WriteError::ReadOnly(_)) => {}
                Err(error) => self.problem(format!("{} could not state anything: {error}", self.peers[peer].name)),
            }
        }
        if grew {
            if let Some(problem) = self.peers[peer].read_feeds() {
                let name = self.peers[peer].name;
                self.problem(format!("{name}: {problem}"));
            }
            self.tell(peer, NodeEvent::Arrived);
        }
        for (link, mut answer, result) in offered {
            match result {
                Ok(offered) => {
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

    fn tell(&mut self, peer: usize, event: NodeEvent) {
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
                    self.send(link, peer, bytes);
                }
            }
            Act::Store { link, ticket, changes, .. } => {
                let Some(up) = &mut self.peers[peer].up else { return };
                up.taken_bytes += changes.iter().map(|change| change.content().encoded_len()).sum::<usize>();
                self.totals.taken_bytes_max = self.totals.taken_bytes_max.max(up.taken_bytes as u64);
                let taken_bytes = up.taken_bytes;
                up.to_offer.entry(link).or_default().push_back((ticket, changes));
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
            Act::Redeem { link, .. } => {
                let space = PublicKey::from_bytes([0; 32]);
                let answer = RedeemAnswer { result: Redemption::Invalid, space, text: String::new() };
                self.tell(peer, NodeEvent::RedeemAnswer { link, answer });
            }
            Act::Save => {
                let life = self.peers[peer].life;
                if let Some(up) = &mut self.peers[peer].up
                    && !up.is_saving
                {
                    up.is_saving = true;
                    self.push(self.now_ms + 500, Event::SaveBook { peer, life });
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
            // Nobody leaves notices here, and there are no inboxes.
            Act::Notices { .. } | Act::SaveOutbox | Act::Changed => {}
        }
    }

    // ---- links

    fn answered(&mut self, from: usize, to: usize) {
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
                role: if side == 0 { Role::Initiator } else { Role::Responder },
                binding,
                nonce: self.dice.bytes(),
                prove: Box::new(move |message| vec![(device.public(), device.sign(message))]),
                way: format!("lab {}", self.peers[other].name),
            };
            self.tell(peer, event);
        }
    }

    fn send(&mut self, link: LinkId, peer: usize, bytes: Bytes) {
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
        let way = &mut wire.ways[side];
        if way.is_sending || self.cuts[from][to] > 0 {
            return;
        }
        let Some(first) = way.queue.front() else { return };
        way.is_sending = true;
        let ms = self.now_ms + first.len() / self.delays[from][to].1;
        self.push(ms, Event::Depart { link, side });
    }

    fn depart(&mut self, link: LinkId, side: usize) {
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

    fn arrive(&mut self, link: LinkId, side: usize, item: Item) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let (from, to) = (wire.peers[side], wire.peers[1 - side]);
        if self.cuts[from][to] > 0 || !wire.ways[side].held.is_empty() {
            wire.ways[side].held.push_back(item);
            return;
        }
        if !wire.is_open[1 - side] {
            return;
        }
        match item {
            Item::Frame(bytes) => self.tell(to, NodeEvent::Frame { link, bytes }),
            Item::End => self.give_up(link, 1 - side, "closed by the other side"),
        }
    }

    /// A side ends a link without being asked to.
    fn give_up(&mut self, link: LinkId, side: usize, why: &str) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        if !wire.is_open[side] {
            return;
        }
        let peer = wire.peers[side];
        self.close(link, peer);
        self.tell(peer, NodeEvent::LinkDown { link, why: why.to_owned() });
    }

    /// A peer closes a link, behind what it sent.
    fn close(&mut self, link: LinkId, peer: usize) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let Some(side) = wire.side(peer) else { return };
        wire.is_open[side] = false;
        wire.ways[side].queue.push_back(Item::End);
        if let Some(up) = &mut self.peers[peer].up {
            // What came over it is not worked on any more, as the tasks of a link end with it.
            let dropped = up.to_offer.remove(&link).into_iter().flatten();
            up.taken_bytes =
                up.taken_bytes.saturating_sub(dropped.flat_map(|(_, changes)| changes).map(|change| change.content().encoded_len()).sum());
            up.offers.remove(&link);
        }
        if self.wires.get(&link).is_some_and(|wire| wire.is_open == [false; 2]) {
            self.wires.remove(&link);
            return;
        }
        self.send_next(link, side);
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.cuts[from][to] += 1;
        if self.cuts[from][to] > 1 {
            return;
        }
        self.cut_count += 1;
        let cut = self.cut_count;
        self.cut_by[from][to] = cut;
        self.push(self.now_ms + SILENCE_MS, Event::StillCut { from, to, cut });
    }

    fn mend(&mut self, from: usize, to: usize) {
        self.cuts[from][to] = self.cuts[from][to].saturating_sub(1);
        if self.cuts[from][to] > 0 {
            return;
        }
        let delay = self.delays[from][to].0;
        let links: Vec<(LinkId, usize)> = self.wires.iter().filter_map(|(link, wire)| Some((*link, 1 - receiver_any(wire, from, to)?))).collect();
        for (link, side) in links {
            let Some(wire) = self.wires.get_mut(&link) else { continue };
            let held = std::mem::take(&mut wire.ways[side].held);
            let arrives = (self.now_ms + delay).max(wire.ways[side].last_arrival_ms);
            wire.ways[side].last_arrival_ms = arrives;
            for item in held {
                self.push(arrives, Event::Arrive { link, side, item });
            }
            self.send_next(link, side);
        }
    }

    // ---- what goes wrong

    /// Plans the trouble.
    pub(super) fn plan(&mut self) {
        let end = self.config.seconds * 1000;
        for _ in 0..self.config.writes {
            let ms = self.dice.between(BEGUN_MS, end);
            self.at(ms, Deed::Write);
        }
        match self.config.partition.clone() {
            Some(groups) => {
                self.at(end / 5, Deed::Partition(groups.clone()));
                self.at(end * 9 / 10, Deed::Reunite(groups));
            }
            None => {
                for _ in 0..self.dice.below(3) {
                    let (from, to) = (self.dice.between(BEGUN_MS, end), self.dice.between(BEGUN_MS, end));
                    let mut groups = vec![Vec::new(), Vec::new()];
                    for peer in 0..self.peers.len() {
                        groups[self.dice.below(2)].push(peer);
                    }
                    self.at(from.min(to), Deed::Partition(groups.clone()));
                    self.at(from.max(to), Deed::Reunite(groups));
                }
            }
        }
        let deeds = (2 + self.config.seconds as usize / 3).min(200);
        for _ in 0..deeds {
            let ms = self.dice.between(BEGUN_MS, end);
            let deed = match self.dice.below(16) {
                0..=3 => Deed::Crash,
                4 | 5 => Deed::Cut { both: true },
                6 | 7 => Deed::Cut { both: false },
                8 | 9 => Deed::Slow,
                10 => Deed::FillDisk,
                11 => Deed::BreakDisk,
                12 => Deed::Revoke,
                _ => Deed::CallAgain,
            };
            self.at(ms, deed);
        }
        for _ in 0..self.config.evil * 4 {
            let ms = self.dice.between(BEGUN_MS, end);
            self.at(ms, Deed::Fork);
        }
    }

    fn act_out(&mut self, deed: Deed) {
        let count = self.peers.len();
        let peer = self.dice.below(count);
        let name = self.peers[peer].name;
        match deed {
            Deed::Write => self.draw_write(peer),
            Deed::Crash => {
                if !self.is_healing && self.peers[peer].up.is_some() {
                    self.crash(peer, true);
                    let ms = self.now_ms + self.dice.between(50, 6000);
                    self.at(ms, Deed::Start(peer));
                }
            }
            Deed::Start(peer) => {
                if self.peers[peer].up.is_none() && !(self.is_healing && self.peers[peer].evil.is_some()) {
                    let name = self.peers[peer].name;
                    self.start(peer);
                    let replayed = self.peers[peer].store().map_or(0, |store| store.opened().replayed);
                    self.tell_story(format!("{name} is back and has taken {replayed} changes from its log again"));
                }
            }
            Deed::Cut { both } => {
                let other = (peer + 1 + self.dice.below(count - 1)) % count;
                if self.is_healing {
                    return;
                }
                self.totals.cuts += 1;
                self.cut(peer, other);
                let ms = self.now_ms + self.dice.between(100, 30_000);
                if both {
                    self.cut(other, peer);
                }
                let how = if both { "nothing comes through between" } else { "nothing comes through from" };
                let and = if both { "and" } else { "to" };
                let other_name = self.peers[other].name;
                self.tell_story(format!("{how} {name} {and} {other_name} for {:.1} s", (ms - self.now_ms) as f64 / 1000.0));
                self.at(ms, Deed::Mend { from: peer, to: other, both });
            }
            Deed::Mend { from, to, both } => {
                self.mend(from, to);
                if both {
                    self.mend(to, from);
                }
            }
            Deed::Partition(groups) => {
                if self.is_healing {
                    return;
                }
                self.totals.partitions += 1;
                let text: Vec<String> =
                    groups.iter().map(|group| group.iter().map(|peer| self.peers[*peer].name).collect::<Vec<_>>().join(", ")).collect();
                self.tell_story(format!("the network falls apart: {}", text.join(" | ")));
                for (from, to) in across(&groups) {
                    self.cut(from, to);
                }
            }
            Deed::Reunite(groups) => {
                if !self.is_healing {
                    self.tell_story("the parts of the network find each other again".to_owned());
                    for (from, to) in across(&groups) {
                        self.mend(from, to);
                    }
                }
            }
            Deed::Slow => {
                let other = (peer + 1 + self.dice.below(count - 1)) % count;
                let rate = [2, 20, 200][self.dice.below(3)];
                if !self.is_healing {
                    self.delays[peer][other].1 = rate;
                    let other_name = self.peers[other].name;
                    self.tell_story(format!("from {name} to {other_name} only {rate} kB/s come through"));
                }
            }
            Deed::FillDisk => {
                if self.is_healing {
                    return;
                }
                self.totals.disk_faults += 1;
                let left = self.dice.below(3000);
                self.peers[peer].home.disk.limit_space(Some(left));
                self.tell_story(format!("the disk of {name} has room for {left} more bytes"));
                let ms = self.now_ms + self.dice.between(100, 5000);
                self.at(ms, Deed::EmptyDisk(peer));
            }
            Deed::Repair(peer) => {
                if self.peers[peer].is_broken && self.peers[peer].up.is_some() {
                    self.crash(peer, false);
                    self.start(peer);
                }
            }
            Deed::EmptyDisk(peer) => self.peers[peer].home.disk.limit_space(None),
            Deed::BreakDisk => {
                if self.is_healing || self.peers[peer].up.is_none() {
                    return;
                }
                self.totals.disk_faults += 1;
                self.peers[peer].home.disk.fail_syncs(1);
                self.tell_story(format!("the disk of {name} fails a sync"));
                // Who looks after it starts it again.
                let ms = self.now_ms + self.dice.between(500, 4000);
                self.peers[peer].is_broken = true;
                self.at(ms, Deed::Repair(peer));
            }
            Deed::Revoke => self.revoke(peer),
            Deed::Fork => self.fork(),
            Deed::CallAgain => {
                let other = (peer + 1 + self.dice.below(count - 1)) % count;
                let (node, addresses) = (self.peers[other].node_key(), vec![self.peers[other].name.to_owned()]);
                self.tell(peer, NodeEvent::Call { node, addresses });
            }
        }
    }

    fn request(&self, space: Option<timebus_store::pipeline::Space>, at: &str, action: Action, time_ms: u64) -> Request {
        let path = Path::parse(at).unwrap_or_else(|_| Path::root());
        Request { space, path, action, parents: None, label: None, condition: Condition::None, time_ms, durable: true }
    }

    fn draw_write(&mut self, peer: usize) {
        let Some(store) = self.peers[peer].store() else { return };
        let owner = if self.dice.percent(50) { peer } else { self.dice.below(self.peers.len()) };
        let space_key = self.peers[owner].space();
        let Some(space) = store.held(&space_key) else { return };
        let dir = if owner == peer && self.dice.percent(50) { "" } else { "/wall" };
        let at = format!("{dir}/n{}", self.dice.below(5));
        let (at, action) = match self.dice.below(16) {
            12 => ("/wall/likes".to_owned(), Action::Inc(self.dice.below(5) as i64 - 2)),
            13 => {
                let text = format!("{} ", self.peers[peer].name).repeat(1 + self.dice.below(3));
                ("/wall/text".to_owned(), Action::PutText { mime: Mime::plain_text(), text })
            }
            14 | 15 => {
                let at = format!("/wall/{}", ["text", "notes"][self.dice.below(2)]);
                let text = Path::parse(&at).ok().and_then(|path| store.text(&store.snapshot(), space, &path).ok().flatten());
                let chars = text.map_or(0, |text| text.len());
                let pos = self.dice.below(chars as usize + 1) as u64;
                let del = (self.dice.below(4) as u64).min(chars - pos);
                let edit = TextEdit { pos, del, ins: ["x", "\u{1f98a}", "some words "][self.dice.below(3)].into() };
                (at, Action::EditText(TextEdits::Sequence(vec![edit])))
            }
            0..=5 => {
                let value = if self.dice.percent(4) {
                    let len = self.dice.between(1000, 150_000) as usize;
                    Json::String("long ".repeat(len / 5))
                } else {
                    self.dice.json(2)
                };
                (at, Action::Put(value))
            }
            6 => (at, Action::Delete),
            7 | 8 => (at, Action::Merge(Json::Object((0..2).map(|n| (format!("m{n}"), self.dice.json(1))).collect()))),
            9 => (at, Action::Undo { version: None }),
            _ => ("/wall/list".to_owned(), Action::Post { name: "x".to_owned(), value: self.dice.json(0) }),
        };
        let time_ms = self.clock(peer);
        let mut request = self.request(Some(space), &at, action, time_ms);
        request.durable = self.dice.percent(80);
        self.peers[peer].write(request, space_key);
        self.work(peer);
    }

    fn revoke(&mut self, peer: usize) {
        let space = self.peers[peer].space();
        let grants = self.grants.get(&space).cloned().unwrap_or_default();
        // Only the right to write is taken back, so that all go on reading: the second half of the first statement.
        let Some(grant) = self.dice.pick(&grants[grants.len() / 2..]).copied() else { return };
        if self.peers[peer].up.is_none() {
            return;
        }
        self.totals.revocations += 1;
        let time_ms = self.clock(peer);
        let name = self.peers[peer].name;
        let cascade = self.dice.percent(50);
        self.peers[peer].state(Statement::Ops(vec![Op::Revoke(Revoke { grant, cascade, keep: Vec::new() })]), time_ms);
        self.tell_story(format!("{name} takes a right to write back"));
        self.work(peer);
    }

    /// A dishonest peer signs another change in the place of its latest.
    fn fork(&mut self) {
        let evil: Vec<usize> = (0..self.peers.len()).filter(|peer| self.peers[*peer].evil.as_ref().is_some_and(|evil| evil.equivocates)).collect();
        let Some(peer) = self.dice.pick(&evil).copied() else { return };
        let owner = self.dice.below(self.peers.len());
        let space = self.peers[owner].space();
        let it = &mut self.peers[peer];
        let Some(store) = it.store() else { return };
        let Some(space) = store.held(&space) else { return };
        let rows = store.snapshot();
        let device = it.device();
        let own = store.changes(&rows, space.main(), 0).filter_map(Result::ok).filter(|(_, own)| own.author == device).last();
        let Some((a, _)) = own else { return };
        let key = SecretKey::from_seed(*it.home.device().seed());
        let twin = store.record(&rows, space.main(), a).ok().and_then(|record| twin(&record, &key));
        let Some(twin) = twin else { return };
        let Some(up) = &mut it.up else { return };
        // It goes into its own store like one that came over a link which is no more.
        let offer = answer(async move { store.offer(vec![twin]).await });
        up.offers.insert(0, (crate::sync::Stored::default(), offer));
        self.totals.forks += 1;
        let (name, owner) = (it.name, self.peers[owner].name);
        self.tell_story(format!("{name} signs a second change in the place of its latest in the space of {owner}"));
        self.work(peer);
    }

    fn crash(&mut self, peer: usize, is_violent: bool) {
        if let Some(store) = self.peers[peer].store() {
            match check::everything(&store) {
                Ok(shown) => self.peers[peer].shown = shown,
                Err(error) => self.problem(error.to_string()),
            }
        }
        self.check_bans(peer);
        let it = &mut self.peers[peer];
        it.up = None;
        it.is_broken = false;
        it.home.disk.fail_syncs(0);
        it.crashes += 1;
        self.totals.crashes += 1;
        let (name, dice) = (it.name, &mut self.dice);
        let unsynced = it.home.disk.bytes() - it.home.disk.synced_bytes();
        if is_violent {
            let commits_lost = if dice.percent(40) { dice.below(8) as u64 } else { 0 };
            let mut lose = |tail: &mut Vec<u8>| {
                let cut = dice.below(tail.len() + 1);
                match dice.below(4) {
                    0 => tail.clear(),
                    1 => tail[cut..].fill(0),
                    _ => tail.truncate(cut),
                }
            };
            it.home = it.home.after(Crash { lose: &mut lose, commits_lost });
            if self.dice.percent(5) {
                self.peers[peer].home.lose_tables();
            }
        }
        self.tell_story(format!("{name} crashes with {unsynced} bytes not yet safe on its disk"));
        // The others notice at once, or when they have heard nothing for a while.
        let links: Vec<(LinkId, usize)> = self.wires.iter().filter_map(|(link, wire)| Some((*link, wire.side(peer)?))).collect();
        for (link, side) in links {
            let Some(wire) = self.wires.get_mut(&link) else { continue };
            wire.is_open[side] = false;
            wire.ways[side].queue.clear();
            wire.ways[side].queued = 0;
            let ms = if self.dice.percent(40) { 10 } else { SILENCE_MS };
            self.push(self.now_ms + ms, Event::Silence { link, side: 1 - side });
        }
    }

    // ---- the end

    /// Ends all trouble: the network is whole, everybody is up, dishonest peers are gone.
    pub(super) fn heal(&mut self) {
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
        let readers: Vec<PublicKey> = honest.iter().map(|peer| self.peers[*peer].device()).collect();
        honest.iter().filter_map(|peer| self.peers[*peer].store()?.rights(&space)).all(|rights| {
            readers.iter().all(|reader| {
                rights.grants().any(|(_, held)| held.grant.audience == Audience::Key(*reader) && held.grant.actions.contains(Actions::READ))
            })
        })
    }

    /// Whether all honest peers hold the same changes, and if not what is missing.
    pub(super) fn disagreement(&self) -> Option<String> {
        let honest = self.honest();
        for owner in (0..self.peers.len()).filter(|owner| self.is_shared(*owner)).map(|owner| &self.peers[owner]) {
            let mut sets = Vec::new();
            for peer in &honest {
                let Some(store) = self.peers[*peer].store() else { return Some(format!("{} is down", self.peers[*peer].name)) };
                match check::changes(&store, &owner.space()) {
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
            for owner in honest.iter().filter(|owner| *owner != peer) {
                let Some(up) = &self.peers[*peer].up else { continue };
                let state = up.node.space(&self.peers[*owner].space()).state;
                if !matches!(state, SpaceState::Live { .. }) {
                    return Some(format!("the space of {} is {state:?} at {}", self.peers[*owner].name, self.peers[*peer].name));
                }
            }
        }
        let busy = honest.iter().find(|peer| self.peers[**peer].up.as_ref().is_some_and(|up| !up.writes.is_empty() || !up.offers.is_empty()));
        busy.map(|peer| format!("{} is still at work", self.peers[*peer].name))
    }

    /// How honest peers see each other, for who looks for the reason of a disagreement.
    pub(super) fn tell_situation(&mut self) {
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
    pub(super) fn compare(&mut self) -> Vec<(usize, String, usize)> {
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
    fn check_promises(&mut self, peer: usize, store: &timebus_store::store::Store) {
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
    pub(super) fn check_all_promises(&mut self) {
        self.totals.promises = self.promises.len() as u64;
        let shared: BTreeSet<PublicKey> =
            (0..self.peers.len()).filter(|owner| self.is_shared(*owner)).map(|owner| self.peers[owner].space()).collect();
        let mut missing: BTreeMap<usize, usize> = BTreeMap::new();
        for peer in self.honest() {
            let Some(store) = self.peers[peer].store() else { continue };
            let mut sets: BTreeMap<PublicKey, BTreeSet<ChangeId>> = BTreeMap::new();
            for promise in self.promises.iter().filter(|promise| shared.contains(&promise.space)) {
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
    pub(super) fn check_bans(&mut self, peer: usize) {
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

    pub(super) fn check_all_bans(&mut self) {
        for peer in self.honest() {
            self.check_bans(peer);
        }
    }
}

/// Each pair of peers once, the greater number first.
fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(|from| (0..from).map(move |to| (from, to)))
}

/// The side that hears, if a link is open there and leads from one peer to the other.
fn receiver(wire: &Wire, from: usize, to: usize) -> Option<usize> {
    receiver_any(wire, from, to).filter(|side| wire.is_open[*side])
}

fn receiver_any(wire: &Wire, from: usize, to: usize) -> Option<usize> {
    (0..2).find(|side| wire.peers[*side] == to && wire.peers[1 - side] == from)
}

/// All pairs of peers in different groups, both ways.
fn across(groups: &[Vec<usize>]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        for (other_at, other) in groups.iter().enumerate() {
            if at != other_at {
                pairs.extend(group.iter().flat_map(|from| other.iter().map(|to| (*from, *to))));
            }
        }
    }
    pairs
}

fn first_difference(a: &str, b: &str) -> String {
    let line = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    line.map_or_else(|| "one has more".to_owned(), |(a, b)| format!("{a} / {b}"))
}

fn grant(key: PublicKey, scope: Scope, actions: Actions, label: &str) -> Grant {
    Grant {
        audience: Audience::Key(key),
        scope,
        timelines: Timelines::All,
        actions,
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 0,
        label: label.into(),
    }
}
