//! A network of sessions in virtual time. Links are ordered and reliable until they are cut; what is on the way then is
//! lost, and so is what a peer had not stored when it is restarted.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey, Signed};
use timebus_net::sync::frame::{Code, FEEDS, FRAME_BYTES_MAX, Feature, Frame, Part, WEIGHS, Wants};
use timebus_net::sync::{Binding, Config, Counters, End, Input, Output, Replica, Role, Session, Start};
use timebus_store::change::Change;
use timebus_store::ids::{ChangeId, TimelineId};

use crate::dice::Dice;
use crate::liars::Lying;
use crate::toy::Toy;

/// Bytes that a link queues before its sender waits.
const QUEUE_BYTES: u64 = 96 * 1024;
/// What a session may hold: small frames, and changes that wait.
const HELD_BYTES_MAX: usize = 256 * 1024 + 2 * 1024 * 1024 + 64 * 1024;

pub(crate) struct Peer {
    pub(crate) toy: Toy,
    pub(crate) secret: SecretKey,
    /// Whether it tells lies.
    pub(crate) lies: Option<Dice>,
    pub(crate) window_bytes: u64,
    pub(crate) store_ms: u64,
    store_free_ms: u64,
    /// Counts restarts.
    life: u64,
    /// Whether a restart takes its memory of other logs.
    pub(crate) forgets: bool,
    /// Whether it knows how to leave out whom the other side takes nothing of.
    pub(crate) weighs: bool,
}

pub(crate) struct Link {
    pub(crate) peers: [usize; 2],
    pub(crate) delay_ms: u64,
    /// Bytes in a millisecond, for each direction.
    pub(crate) rate: [u64; 2],
    pub(crate) opens: [bool; 2],
    /// Counts connections.
    life: u64,
    pub(crate) sessions: Option<[Session; 2]>,
    queued: [u64; 2],
    free_ms: [u64; 2],
    /// Bytes that each side has not got back, by channel.
    unacked: BTreeMap<(usize, u64), u64>,
    windows: BTreeMap<(usize, u64), u64>,
    pub(crate) caught_up: [BTreeSet<TimelineId>; 2],
    pub(crate) points: [u32; 2],
    /// The latest of whom nothing is taken: how far his chain is at the other side, over the connection that is up.
    pub(crate) weighed: [BTreeMap<(TimelineId, PublicKey), u64>; 2],
    /// Of connections that ended.
    past: [Counters; 2],
    pub(crate) ends: Vec<(usize, End)>,
    /// Every frame that was sent, if they are kept.
    pub(crate) record: Option<Vec<(usize, Bytes)>>,
    reconnects: bool,
}

enum Event {
    Arrive { link: usize, life: u64, to: usize, bytes: Bytes },
    Departed { link: usize, life: u64, side: usize, bytes: u64 },
    Timer { link: usize, life: u64, side: usize },
    Store { peer: usize, peer_life: u64, link: usize, life: u64, side: usize, ticket: u64, changes: Vec<Signed<Change>> },
    Open { link: usize, life: u64, side: usize, timeline: TimelineId },
    Do(Deed),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Connect(usize),
    Cut(usize),
    Restart(usize),
    /// A peer writes, on its own heads.
    Write(usize),
    /// Both sides of a link say anew what they want to be sent, and whose turn it is.
    Want(usize),
    /// All want everything from everybody.
    WantAll,
}

pub(crate) struct Net {
    pub(crate) now_ms: u64,
    events: BTreeMap<(u64, u64), Event>,
    last_event: u64,
    pub(crate) dice: Dice,
    pub(crate) peers: Vec<Peer>,
    pub(crate) links: Vec<Link>,
    pub(crate) timelines: Vec<TimelineId>,
    pub(crate) space: PublicKey,
    /// Times that a change came before what it builds on.
    pub(crate) orphans: u64,
    /// When a change was stored last.
    pub(crate) last_stored_ms: u64,
    /// Whether peers say what they want to be sent.
    pub(crate) feeds: bool,
    /// Writes on behalf of a peer.
    pub(crate) write: fn(&mut Net, usize),
}

impl Net {
    pub(crate) fn new(seed: u64, timelines: usize, write: fn(&mut Self, usize)) -> Self {
        let space = PublicKey::from_bytes([77; 32]);
        let names = ["auth", "main", "third", "fourth"];
        Self {
            now_ms: 1000,
            events: BTreeMap::new(),
            last_event: 0,
            dice: Dice::new(seed),
            peers: Vec::new(),
            links: Vec::new(),
            timelines: names[..timelines].iter().map(|name| TimelineId::named(&space, name)).collect(),
            space,
            orphans: 0,
            last_stored_ms: 0,
            feeds: false,
            write,
        }
    }

    pub(crate) fn add_peer(&mut self) -> usize {
        let number = self.peers.len() as u8;
        let secret = SecretKey::from_seed([200 + number; 32]);
        let toy = Toy::new(secret.public(), number + 1);
        let peer = Peer { toy, secret, lies: None, window_bytes: 256 * 1024, store_ms: 2, store_free_ms: 0, life: 0, forgets: false, weighs: false };
        self.peers.push(peer);
        self.peers.len() - 1
    }

    pub(crate) fn add_link(&mut self, peers: [usize; 2], delay_ms: u64) -> usize {
        self.links.push(Link {
            peers,
            delay_ms,
            rate: [u64::MAX; 2],
            opens: [true, false],
            life: 0,
            sessions: None,
            queued: [0; 2],
            free_ms: [0; 2],
            unacked: BTreeMap::new(),
            windows: BTreeMap::new(),
            caught_up: Default::default(),
            points: [0; 2],
            weighed: Default::default(),
            past: Default::default(),
            ends: Vec::new(),
            record: None,
            reconnects: true,
        });
        self.links.len() - 1
    }

    pub(crate) fn at(&mut self, ms: u64, deed: Deed) {
        self.push(ms, Event::Do(deed));
    }

    fn push(&mut self, ms: u64, event: Event) {
        self.last_event += 1;
        self.events.insert((ms, self.last_event), event);
    }

    /// Runs until nothing happens any more but what the clock brings after `until_ms`.
    pub(crate) fn run(&mut self, until_ms: u64) {
        let mut steps = 0u64;
        while let Some(((ms, _), _)) = self.events.first_key_value()
            && *ms <= until_ms
            && let Some(((ms, _), event)) = self.events.pop_first()
        {
            steps += 1;
            assert!(steps < 5_000_000, "the peers keep each other busy for ever");
            self.now_ms = self.now_ms.max(ms);
            self.step(event);
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    fn alive(&self, link: usize, life: u64) -> bool {
        self.links[link].life == life && self.links[link].sessions.is_some()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrive { link, life, to, bytes } if self.alive(link, life) => {
                if let Ok(Frame::Ack(ack)) = Frame::decode(&bytes)
                    && let Some(unacked) = self.links[link].unacked.get_mut(&(to, ack.channel))
                {
                    *unacked = unacked.saturating_sub(ack.bytes);
                }
                self.handle(link, to, Input::Frame(bytes));
            }
            Event::Departed { link, life, side, bytes } if self.alive(link, life) => {
                self.links[link].queued[side] -= bytes;
                if let Some(bytes) = QUEUE_BYTES.checked_sub(self.links[link].queued[side]).filter(|bytes| *bytes > 0) {
                    self.handle(link, side, Input::Writable { bytes });
                }
            }
            Event::Timer { link, life, side } if self.alive(link, life) => self.handle(link, side, Input::Timer),
            Event::Store { peer, peer_life, link, life, side, ticket, changes } if self.peers[peer].life == peer_life => {
                let timeline = changes[0].content().header().timeline;
                let authors: BTreeSet<PublicKey> = changes.iter().map(|change| change.content().header().author).collect();
                let stored = self.peers[peer].toy.store(ticket, changes);
                let held: Vec<PublicKey> = authors.into_iter().filter(|author| self.peers[peer].toy.held.contains(author)).collect();
                self.orphans += stored.pending.len() as u64;
                if !stored.admitted.is_empty() {
                    self.last_stored_ms = self.now_ms;
                    self.appended(peer, timeline, Some(link));
                }
                if !held.is_empty() && self.alive(link, life) {
                    self.handle(link, side, Input::Hold { timeline, authors: held });
                }
                if self.alive(link, life) {
                    self.handle(link, side, Input::Stored(stored));
                }
            }
            Event::Open { link, life, side, timeline } if self.alive(link, life) => {
                let space = self.space;
                self.handle(link, side, Input::Open { space, timeline, is_resting: false });
            }
            Event::Do(deed) => self.act(deed),
            _ => {}
        }
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            Deed::Connect(link) => self.connect(link),
            Deed::Cut(link) => self.cut(link),
            Deed::Restart(peer) => {
                for link in 0..self.links.len() {
                    if self.links[link].peers.contains(&peer) {
                        self.cut(link);
                    }
                }
                let forgets = self.peers[peer].forgets && self.dice.percent(30);
                let peer = &mut self.peers[peer];
                peer.life += 1;
                peer.store_free_ms = 0;
                if forgets {
                    peer.toy.cursors.clear();
                    peer.toy.incarnation[1] += 1;
                }
            }
            Deed::Write(peer) => (self.write)(self, peer),
            Deed::Want(link) => {
                let wants = [Wants::Nothing, Wants::News, Wants::All][self.dice.below(3)];
                self.want(link, wants, self.links[link].life.is_multiple_of(2));
            }
            Deed::WantAll => (0..self.links.len()).for_each(|link| self.want(link, Wants::All, true)),
        }
    }

    /// Tells the sessions of a peer that a timeline has grown.
    pub(crate) fn appended(&mut self, peer: usize, timeline: TimelineId, but: Option<usize>) {
        for link in 0..self.links.len() {
            let side = self.links[link].peers.iter().position(|it| *it == peer);
            if let Some(side) = side.filter(|_| self.links[link].sessions.is_some() && but != Some(link)) {
                self.handle(link, side, Input::Appended { timeline });
            }
        }
    }

    fn connect(&mut self, link: usize) {
        if self.links[link].sessions.is_some() {
            return;
        }
        let mut outputs = Vec::new();
        let mut sessions = Vec::new();
        let nodes = self.links[link].peers.map(|peer| PublicKey::from_bytes([peer as u8 + 1; 32]));
        for side in 0..2 {
            let peer = &self.peers[self.links[link].peers[side]];
            let mut config = Config::new(peer.secret.public());
            config.window_bytes = peer.window_bytes;
            let named = [(FEEDS, self.feeds), (WEIGHS, peer.weighs)].into_iter().filter(|(_, is_named)| *is_named);
            config.features = named.map(|(id, _)| Feature { id, required: false }).collect();
            let secret = SecretKey::from_seed(*peer.secret.seed());
            let (session, out) = Session::new(Start {
                config,
                role: if side == 0 { Role::Initiator } else { Role::Responder },
                binding: Binding([self.links[link].life as u8; 32]),
                node: nodes[side],
                remote_node: nodes[1 - side],
                nonce: self.dice.bytes(),
                prove: Box::new(move |message| vec![(secret.public(), secret.sign(message))]),
                now_ms: self.now_ms,
            });
            sessions.push(session);
            outputs.push(out);
        }
        let it = &mut self.links[link];
        it.life += 1;
        it.sessions = sessions.try_into().ok();
        it.queued = [0; 2];
        it.free_ms = [0; 2];
        it.unacked.clear();
        it.windows.clear();
        it.caught_up = Default::default();
        it.weighed = Default::default();
        for (side, out) in outputs.into_iter().enumerate() {
            self.apply(link, side, out);
        }
        let opens = self.links[link].opens;
        for (side, opens) in opens.into_iter().enumerate() {
            for timeline in self.timelines.clone() {
                // Nobody sends a peer what it has nothing of and never asked for.
                let lacks = self.peers[self.links[link].peers[side]].toy.t(&timeline).is_none();
                if (opens || lacks) && self.links[link].sessions.is_some() {
                    let space = self.space;
                    let is_resting = self.feeds && self.dice.percent(50);
                    self.handle(link, side, Input::Open { space, timeline, is_resting });
                }
            }
        }
    }

    fn want(&mut self, link: usize, wants: Wants, is_turn: bool) {
        for (side, timeline) in self.timelines.clone().into_iter().flat_map(|timeline| [(0, timeline), (1, timeline)]) {
            let dose = if self.dice.percent(50) { 1 + self.dice.any() % 4096 } else { u64::MAX };
            self.handle(link, side, Input::Turn { timeline, is_turn, dose });
            self.handle(link, side, Input::Feed { timeline, wants, is_busy: false });
        }
    }

    fn cut(&mut self, link: usize) {
        let it = &mut self.links[link];
        if let Some(sessions) = it.sessions.take() {
            for (past, session) in it.past.iter_mut().zip(&sessions) {
                *past = sum(*past, session.counters());
            }
        }
    }

    pub(crate) fn counters(&self, link: usize, side: usize) -> Counters {
        let link = &self.links[link];
        link.sessions.as_ref().map_or(link.past[side], |sessions| sum(link.past[side], sessions[side].counters()))
    }

    pub(crate) fn handle(&mut self, link: usize, side: usize, input: Input) {
        let peer = &mut self.peers[self.links[link].peers[side]];
        let Some(sessions) = &mut self.links[link].sessions else { return };
        let out = match &mut peer.lies {
            Some(dice) => {
                let lying = Lying::new(&peer.toy, dice);
                sessions[side].handle(self.now_ms, input, &lying)
            }
            None => sessions[side].handle(self.now_ms, input, &peer.toy as &dyn Replica),
        };
        assert!(sessions[side].held_bytes() <= HELD_BYTES_MAX, "{} bytes are held", sessions[side].held_bytes());
        assert!(sessions[side].pending() <= 256, "{} changes wait", sessions[side].pending());
        self.apply(link, side, out);
    }

    fn apply(&mut self, link: usize, side: usize, outputs: Vec<Output>) {
        let peer = self.links[link].peers[side];
        let honest = self.links[link].peers.iter().all(|peer| self.peers[*peer].lies.is_none());
        for output in outputs {
            let now_ms = self.now_ms;
            let life = self.links[link].life;
            match output {
                Output::Send(bytes) => self.send(link, side, bytes),
                Output::Store { ticket, changes, .. } => {
                    let it = &mut self.peers[peer];
                    it.store_free_ms = it.store_free_ms.max(now_ms) + it.store_ms;
                    let (ms, peer_life) = (it.store_free_ms, it.life);
                    self.push(ms, Event::Store { peer, peer_life, link, life, side, ticket, changes });
                }
                Output::SetTimer { at_ms } => self.push(at_ms.max(now_ms), Event::Timer { link, life, side }),
                Output::Resume { timeline, cursor } => {
                    let remote = self.peers[self.links[link].peers[1 - side]].toy.space;
                    match cursor {
                        Some(cursor) => drop(self.peers[peer].toy.cursors.insert((remote, timeline), cursor)),
                        None => drop(self.peers[peer].toy.cursors.remove(&(remote, timeline))),
                    }
                }
                // Whoever asked tries again, as long as nobody there has it.
                Output::Denied { timeline, code: Code::NotHere, .. } => self.push(now_ms + 1000, Event::Open { link, life, side, timeline }),
                Output::Denied { code, .. } | Output::Closed { code, .. } => assert!(!honest, "honest peers close a channel: {code:?}"),
                Output::Weighed { timeline, heads, .. } => {
                    for (head, _) in heads {
                        let header = head.content().header();
                        let seq = self.links[link].weighed[side].entry((timeline, header.author)).or_default();
                        *seq = header.seq.max(*seq);
                    }
                }
                Output::CaughtUp { timeline, .. } => drop(self.links[link].caught_up[side].insert(timeline)),
                Output::Penalty { points, fault } => {
                    self.links[link].points[1 - side] += points;
                    let culprit = self.links[link].peers[1 - side];
                    assert!(self.peers[culprit].lies.is_some() || self.peers[peer].lies.is_some(), "an honest peer is blamed for {fault}");
                }
                Output::End(end) => {
                    self.links[link].ends.push((side, end));
                    if self.links[link].ends.len() < 20 && self.links[link].reconnects {
                        self.cut_later(link);
                    }
                }
                _ => {}
            }
        }
    }

    /// The connection goes down behind what was sent last; the peers try again.
    fn cut_later(&mut self, link: usize) {
        let ms = self.now_ms + self.links[link].delay_ms;
        self.at(ms, Deed::Cut(link));
        self.at(ms + 500, Deed::Connect(link));
    }

    fn send(&mut self, link: usize, side: usize, bytes: Bytes) {
        assert!(bytes.len() <= FRAME_BYTES_MAX, "a frame of {} bytes", bytes.len());
        let honest = self.links[link].peers.iter().all(|peer| self.peers[*peer].lies.is_none());
        let it = &mut self.links[link];
        let len = bytes.len() as u64;
        match Frame::decode(&bytes).expect("what we send can be read") {
            Frame::Open(open) => drop(it.windows.insert((1 - side, open.channel), open.credit)),
            Frame::Opened(opened) => drop(it.windows.insert((1 - side, opened.channel), opened.credit)),
            Frame::Changes { channel, changes, part, .. } if honest => {
                assert!(!changes.is_empty() || part == Part::AnswerEnds);
                let unacked = it.unacked.entry((side, channel)).or_default();
                let window = it.windows[&(side, channel)];
                assert!(*unacked == 0 || *unacked + len <= window, "{unacked} + {len} bytes on a credit of {window}");
                *unacked += len;
            }
            _ => {}
        }
        if let Some(record) = &mut it.record {
            record.push((side, bytes.clone()));
        }
        it.queued[side] += len;
        assert!(it.queued[side] <= QUEUE_BYTES + FRAME_BYTES_MAX as u64 + 64 * 1024, "{} bytes in the queue", it.queued[side]);
        let departs = it.free_ms[side].max(self.now_ms) + len / it.rate[side];
        it.free_ms[side] = departs;
        let (life, arrives) = (it.life, departs + it.delay_ms);
        self.push(departs, Event::Departed { link, life, side, bytes: len });
        self.push(arrives, Event::Arrive { link, life, to: 1 - side, bytes });
    }

    /// Whether these peers have the same changes in every timeline.
    pub(crate) fn all_equal(&self, peers: &[usize]) -> Result<(), String> {
        for timeline in &self.timelines {
            let all: BTreeSet<ChangeId> = peers.iter().flat_map(|peer| self.peers[*peer].toy.ids(timeline)).collect();
            for peer in peers {
                let ids = self.peers[*peer].toy.ids(timeline);
                if ids != all {
                    return Err(format!("peer {peer} has {} of {} changes of {timeline:?}", ids.len(), all.len()));
                }
            }
        }
        Ok(())
    }
}

fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        changes_sent: a.changes_sent + b.changes_sent,
        changes_received: a.changes_received + b.changes_received,
        duplicates: a.duplicates + b.duplicates,
        admitted: a.admitted + b.admitted,
        refused: a.refused + b.refused,
        needs_sent: a.needs_sent + b.needs_sent,
        bytes_sent: a.bytes_sent + b.bytes_sent,
        bytes_received: a.bytes_received + b.bytes_received,
        unacked_max: a.unacked_max.max(b.unacked_max),
    }
}
