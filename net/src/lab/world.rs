//! The world that peers live in: time, the network, and everything that goes wrong.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use timebus_identity::PublicKey;
use timebus_store::ids::ChangeId;

use super::dice::Dice;
use super::evil::Evil;
use super::peer::{Peer, People};
use super::wire::{Item, Wire};
use super::{Config, Line as StoryLine, NAMES, Totals};
use crate::ledger::{Ledger, Payer};
use crate::node::{Event as NodeEvent, LinkId};
use crate::sync::frame::FRAME_BYTES_MAX;

mod beginning;
mod crowd;
mod ending;
mod guests;
mod lines;
mod links;
mod trouble;
mod work;

use beginning::pairs;
pub(super) use crowd::Mark;
pub(super) use lines::Line;
use links::receiver;

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
    /// What was sent while nothing came through is sent again.
    Release {
        link: LinkId,
        side: usize,
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
    /// A peer goes on sending.
    Turn {
        peer: usize,
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
    Flood,
    /// A peer is told again where another one is.
    CallAgain,
    /// A peer makes an invite.
    Invite(usize),
    /// Somebody takes an invite.
    Join {
        invite: usize,
        guest: usize,
    },
    /// An invite is taken back.
    TakeBack(usize),
    /// A peer begins to follow the first one.
    Come(usize),
    /// A peer goes.
    Leave(usize),
}

/// A write that was acknowledged as durable.
struct Promise {
    peer: usize,
    space: PublicKey,
    change: ChangeId,
}

/// An invite of the lab, and who will try to take it.
#[derive(Clone, Debug)]
struct Offer {
    owner: usize,
    token: [u8; 16],
    uses_max: u64,
    guests: Vec<usize>,
    /// Those of them who got to take it.
    takers: Vec<usize>,
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
    people: People,
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
    /// Whose spaces each peer follows.
    follows: Vec<BTreeSet<usize>>,
    /// Invites that are given out in the course of time.
    offers: Vec<Offer>,
    /// The lines of the peers; without any, what is sent is through at once.
    lines: Vec<Line>,
    /// Changes of which it is seen when they come to whom.
    marks: Vec<Mark>,
    /// Grants of the first statement of each space.
    grants: BTreeMap<PublicKey, Vec<timebus_store::ids::GrantId>>,
    is_healing: bool,
    pub(super) totals: Totals,
    pub(super) story: Vec<StoryLine>,
    pub(super) problems: Vec<String>,
}

impl World {
    pub(super) fn new(config: &Config) -> Self {
        let count = config.nodes;
        let mut dice = Dice::new(config.seed);
        let honest = count - config.evil;
        let mut peers: Vec<Peer> = Vec::with_capacity(count);
        for (number, name) in NAMES.into_iter().enumerate().take(count) {
            // The last honest peers are devices of the first ones.
            let first = (number + config.devices).checked_sub(honest).filter(|_| number < honest);
            let space = first.map(|first| peers[first].space());
            peers.push(Peer::new(name, config.seed, number, space));
        }
        for (number, peer) in peers.iter_mut().enumerate() {
            if config.skew_ms > 0 {
                peer.skew_ms = dice.between(0, 2 * config.skew_ms) as i64 - config.skew_ms as i64;
            }
            peer.sync_ms = [0, 1, 4, 30][dice.below(4)];
            if number >= count - config.evil {
                peer.evil = Some(Evil::new(dice.any()));
            }
        }
        if let Some(room) = config.room {
            let evil: Vec<PublicKey> = peers[honest..].iter().map(Peer::space).collect();
            for (number, peer) in peers[..honest].iter_mut().enumerate() {
                let ledger = Ledger::open(Path::new(""));
                // With the first one there is more, and others have to take what it builds on.
                let room = if number == 0 { room.saturating_mul(2) } else { room };
                evil.iter().for_each(|who| ledger.limit(&Payer::Key(*who), room));
                peer.ledger = Some(ledger);
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
            people: peers.iter().map(|peer| (peer.device(), peer.space())).collect(),
            peers,
            wires: BTreeMap::new(),
            next_link: 1,
            cuts: vec![vec![0; count]; count],
            cut_by: vec![vec![0; count]; count],
            cut_count: 0,
            delays,
            promises: Vec::new(),
            follows: vec![BTreeSet::new(); count],
            offers: Vec::new(),
            lines: Vec::new(),
            marks: Vec::new(),
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
        self.story.push(StoryLine { ms: self.now_ms, text });
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
            Event::Release { link, side } => self.release(link, side),
            Event::Silence { link, side } => self.give_up(link, side, "nothing was heard of the other side for too long"),
            Event::StillCut { from, to, cut } if self.cuts[from][to] > 0 && cut == self.cut_by[from][to] => {
                let links: Vec<(LinkId, usize)> = self.wires.iter().filter_map(|(link, wire)| Some((*link, receiver(wire, from, to)?))).collect();
                for (link, side) in links {
                    self.give_up(link, side, "nothing was heard of the other side for too long");
                }
            }
            Event::Turn { peer } => self.turn(peer),
            Event::Deed(deed) => self.act_out(deed),
            _ => {}
        }
    }
}
