//! How it begins: who knows whom, and who may do what.

use std::collections::BTreeSet;

use timebus_identity::PublicKey;
use timebus_store::grant::{Actions, Audience, Grant, Scope, ScopeSegment, Timelines};
use timebus_store::ids::ChangeId;
use timebus_store::json::Json;
use timebus_store::op::Op;
use timebus_store::writer::{Action, Statement};

use super::World;
use crate::lab::check;
use crate::lab::evil::Evil;
use crate::node::Event as NodeEvent;

impl World {
    /// Starts all peers; each grants the others what they need, and follows them by way of its neighbours.
    pub(in crate::lab) fn begin(&mut self) {
        let count = self.peers.len();
        for peer in 0..count {
            self.start(peer);
            let trait_text = self.peers[peer].evil.as_ref().map(Evil::traits);
            if let Some(text) = trait_text {
                let name = self.peers[peer].name;
                self.tell_story(format!("{name} is dishonest: {text}"));
            }
        }
        self.plan_invites();
        for owner in 0..count {
            let own_space = self.peers[owner].space();
            let (devices, others): (Vec<usize>, Vec<usize>) =
                (0..count).filter(|peer| *peer != owner).partition(|peer| self.peers[*peer].space() == own_space);
            if devices.iter().any(|first| *first < owner) {
                // The first device of its owner says who may what.
                continue;
            }
            let keys: Vec<PublicKey> = others.into_iter().filter(|peer| !self.is_guest(*peer, owner)).map(|peer| self.peers[peer].device()).collect();
            let read = keys.iter().map(|key| Op::Grant(grant(*key, Scope::everything(), Actions(Actions::SYNC.0 | Actions::READ.0), "reader")));
            let wall = Scope { segments: vec![ScopeSegment::Name("wall".into())], deep: true };
            let write = Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0);
            let walls = keys.iter().map(|key| Op::Grant(grant(*key, wall.clone(), write, "writer")));
            let own = devices.into_iter().map(|device| {
                let all = grant(self.peers[device].device(), Scope::everything(), Actions::ALL, "device");
                Op::Grant(Grant { depth: 6, ..all })
            });
            let ops: Vec<Op> = read.chain(walls).collect();
            let own: Vec<Op> = own.collect();
            let time_ms = self.clock(owner);
            self.peers[owner].state(Statement::Ops(ops), time_ms);
            if !own.is_empty() {
                self.peers[owner].state(Statement::Ops(own), time_ms);
            }
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
        self.choose_spaces(&neighbours);
        for (peer, known) in neighbours.iter().enumerate() {
            let via: Vec<(PublicKey, Vec<String>)> =
                known.iter().map(|other| (self.peers[*other].node_key(), vec![self.peers[*other].name.to_owned()])).collect();
            for other in self.follows[peer].clone() {
                let space = self.peers[other].space();
                let via = self.via(peer, other).unwrap_or_else(|| via.clone());
                self.tell(peer, NodeEvent::Follow { space, via });
            }
            // Devices of one person know each other.
            for other in (0..count).filter(|other| *other != peer && self.peers[*other].space() == self.peers[peer].space()).collect::<Vec<_>>() {
                let (node, addresses) = (self.peers[other].node_key(), vec![self.peers[other].name.to_owned()]);
                self.tell(peer, NodeEvent::Call { node, addresses });
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

    pub(super) fn start(&mut self, peer: usize) {
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
}

/// Each pair of peers once, the greater number first.
pub(super) fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(|from| (0..from).map(move |to| (from, to)))
}

pub(super) fn grant(key: PublicKey, scope: Scope, actions: Actions, label: &str) -> Grant {
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
