//! One peer that many others follow.

use timebus_identity::PublicKey;
use timebus_store::grant::{Actions, Audience, Grant, Scope};
use timebus_store::ids::ChangeId;
use timebus_store::json::Json;
use timebus_store::op::Op;
use timebus_store::summary::find;
use timebus_store::writer::{Action, Statement};

use super::beginning::grant;
use super::{BEGUN_MS, Deed, Line, World};
use crate::lab::Config;
use crate::lab::feed::Crowd;
use crate::lab::peer::Peer;
use crate::node::Event as NodeEvent;

/// Posts that are written before it is waited until they are on disk.
const WRITES: usize = 250;
/// How long somebody is away who comes back.
const AWAY_MS: u64 = 10_000;

/// A change of which it is seen when it comes to whom.
#[derive(Debug)]
pub(in crate::lab) struct Mark {
    id: ChangeId,
    pub(in crate::lab) at_ms: u64,
    /// When each peer had it.
    pub(in crate::lab) seen_ms: Vec<Option<u64>>,
}

impl World {
    /// A world with one origin, peer 0, and so many readers that do not know it yet.
    pub(in crate::lab) fn of(crowd: &Crowd) -> Self {
        let mut world = Self::new(&Config { nodes: 0, ..Config::new(crowd.seed) });
        let count = crowd.readers + 1;
        for number in 0..count {
            let mut peer = Peer::new(if number == 0 { "origin" } else { "reader" }, crowd.seed, number, None);
            peer.is_watched = false;
            peer.has_feeds = (number == 0 && crowd.old < 100) || !world.dice.percent(crowd.old);
            world.peers.push(peer);
            let (is_rider, is_slow) = (world.dice.percent(crowd.free_riders), world.dice.percent(crowd.slow));
            world.lines.push(match () {
                () if number == 0 => Line::new(crowd.origin_up, crowd.down, false),
                () if is_slow => Line::new(crowd.up / 8, crowd.down / 8, is_rider),
                () => Line::new(crowd.up, crowd.down, is_rider),
            });
        }
        world.cuts = vec![vec![0; count]; count];
        world.cut_by = vec![vec![0; count]; count];
        world.delays = vec![vec![(crowd.delay_ms, u64::MAX); count]; count];
        world
    }

    /// The origin writes all that it has before anybody comes. Says how many bytes of changes that are.
    pub(in crate::lab) fn write_history(&mut self, crowd: &Crowd) -> u64 {
        self.start(0);
        let anyone = Grant {
            audience: Audience::Anyone,
            ..grant(self.peers[0].device(), Scope::everything(), Actions(Actions::SYNC.0 | Actions::READ.0), "reader")
        };
        let time_ms = self.clock(0);
        self.peers[0].state(Statement::Ops(vec![Op::Grant(anyone)]), time_ms);
        self.work(0);
        self.run(self.now_ms + BEGUN_MS);
        let mut number = 0;
        while number < crowd.posts {
            let end = (number + WRITES).min(crowd.posts);
            for number in number..end {
                self.write_post(number, crowd.post_bytes);
            }
            self.work(0);
            self.wait_for_promises(end);
            number = end;
        }
        for peer in 1..self.peers.len() {
            self.start(peer);
        }
        if let Some(promise) = self.promises.last() {
            self.marks.push(Mark { id: promise.change, at_ms: 0, seen_ms: vec![None; self.peers.len()] });
        }
        self.changes_bytes()
    }

    /// Bytes of all changes of the origin's space.
    fn changes_bytes(&self) -> u64 {
        let Some(store) = self.peers[0].store() else { return 0 };
        let (rows, t) = (store.snapshot(), store.own().main());
        let all = store.changes(&rows, t, 0).filter_map(Result::ok);
        all.filter_map(|(a, _)| Some(store.record(&rows, t, a).ok()?.len() as u64)).sum()
    }

    fn write_post(&mut self, number: usize, bytes: usize) {
        let time_ms = self.clock(0);
        // No two are alike.
        let text = format!("{:016x}", self.dice.any()).repeat(bytes.div_ceil(16));
        let request = self.request(None, &format!("/posts/{number:08}"), Action::Put(Json::String(text[..bytes].into())), time_ms);
        let space = self.peers[0].space();
        self.peers[0].write(request, space);
    }

    fn wait_for_promises(&mut self, count: usize) {
        for _ in 0..10_000 {
            if self.promises.len() >= count {
                return;
            }
            self.run(self.now_ms + 1);
        }
        self.problem("the origin could not write".to_owned());
    }

    /// The origin writes something now that all are to have soon.
    pub(in crate::lab) fn post(&mut self, bytes: usize) {
        let (at_ms, count) = (self.now_ms, self.promises.len());
        self.write_post(count, bytes);
        self.work(0);
        self.wait_for_promises(count + 1);
        if let Some(promise) = self.promises.last() {
            self.marks.push(Mark { id: promise.change, at_ms, seen_ms: vec![None; self.peers.len()] });
        }
    }

    /// Whether what is watched for has come to a peer.
    pub(super) fn look_for_marks(&mut self, peer: usize) {
        let is_waiting = |mark: &Mark| mark.seen_ms[peer].is_none();
        if !self.marks.iter().any(is_waiting) {
            return;
        }
        let Some(store) = self.peers[peer].store() else { return };
        let rows = store.snapshot();
        for mark in self.marks.iter_mut().filter(|mark| is_waiting(mark)) {
            if find(&*rows, &mark.id).is_ok_and(|at| at.is_some()) {
                mark.seen_ms[peer] = Some(self.now_ms);
            }
        }
    }

    pub(super) fn come(&mut self, peer: usize) {
        let via: Vec<(PublicKey, Vec<String>)> = vec![(self.peers[0].node_key(), vec!["origin".to_owned()])];
        let space = self.peers[0].space();
        self.tell(peer, NodeEvent::Follow { space, via });
        self.work(peer);
    }

    pub(super) fn leave(&mut self, peer: usize) {
        if self.peers[peer].up.is_some() {
            self.crash(peer, false);
            self.at(self.now_ms + AWAY_MS, Deed::Start(peer));
            // Whom he follows was not on disk, maybe.
            self.at(self.now_ms + AWAY_MS + 1, Deed::Come(peer));
        }
    }

    pub(in crate::lab) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    pub(in crate::lab) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(in crate::lab) fn draw(&mut self, end: u64) -> u64 {
        self.dice.between(0, end)
    }

    pub(in crate::lab) fn draws(&mut self, chance: u64) -> bool {
        self.dice.percent(chance)
    }
}
