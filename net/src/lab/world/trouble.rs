//! What goes wrong, and what people do meanwhile.

use timebus_identity::SecretKey;
use timebus_store::engine::Crash;
use timebus_store::grant::Revoke;
use timebus_store::json::Json;
use timebus_store::op::{Op, TextEdit};
use timebus_store::path::Path;
use timebus_store::value::Mime;
use timebus_store::writer::{Action, Condition, Request, Statement, TextEdits};

use super::{BEGUN_MS, Deed, Event, SILENCE_MS, World};
use crate::lab::check;
use crate::lab::evil::twin;
use crate::lab::peer::{Offering, answer};
use crate::node::{Event as NodeEvent, LinkId};

/// Bytes of one value of a flood.
const FLOOD_BYTES: u64 = 20_000;
/// So many times what there is room for is written by each who floods.
const FLOODS: u64 = 3;
/// Most values of all floods of a lab.
const FLOODS_MAX: u64 = 2000;

impl World {
    /// Plans the trouble.
    pub(in crate::lab) fn plan(&mut self) {
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
                // Whose right was taken back has nobody take what he built on. So who knows of that lacks what others have.
                12 if self.config.room.is_none() => Deed::Revoke,
                _ => Deed::CallAgain,
            };
            self.at(ms, deed);
        }
        for _ in 0..self.config.evil * 4 {
            let ms = self.dice.between(BEGUN_MS, end);
            self.at(ms, Deed::Fork);
        }
        if let Some(room) = self.config.room {
            for _ in 0..(self.config.evil as u64).saturating_mul(FLOODS).saturating_mul(room.div_ceil(FLOOD_BYTES)).min(FLOODS_MAX) {
                let ms = self.dice.between(BEGUN_MS, end);
                self.at(ms, Deed::Flood);
            }
        }
    }

    pub(super) fn act_out(&mut self, deed: Deed) {
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
            Deed::Come(peer) => self.come(peer),
            Deed::Leave(peer) => self.leave(peer),
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
            Deed::Flood => self.flood(),
            Deed::Invite(invite) => self.invite(invite),
            Deed::Join { invite, guest } => self.join(invite, guest),
            Deed::TakeBack(invite) => self.take_back(invite),
            Deed::CallAgain => {
                let other = (peer + 1 + self.dice.below(count - 1)) % count;
                let (node, addresses) = (self.peers[other].node_key(), vec![self.peers[other].name.to_owned()]);
                self.tell(peer, NodeEvent::Call { node, addresses });
            }
        }
    }

    pub(super) fn request(&self, space: Option<timebus_store::pipeline::Space>, at: &str, action: Action, time_ms: u64) -> Request {
        let path = Path::parse(at).unwrap_or_else(|_| Path::root());
        Request { space, path, action, parents: None, label: None, condition: Condition::None, time_ms, durable: true, may_name: None }
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

    /// A dishonest peer writes much where it may.
    fn flood(&mut self) {
        let evil: Vec<usize> = (0..self.peers.len()).filter(|peer| self.peers[*peer].evil.is_some()).collect();
        let Some(peer) = self.dice.pick(&evil).copied() else { return };
        let owner = self.dice.below(self.peers.len());
        let space_key = self.peers[owner].space();
        let Some(space) = self.peers[peer].store().and_then(|store| store.held(&space_key)) else { return };
        let text = Json::String("much ".repeat(FLOOD_BYTES as usize / 5));
        let at = format!("/wall/n{}", self.dice.below(5));
        let request = self.request(Some(space), &at, Action::Put(text), self.clock(peer));
        self.peers[peer].write(request, space_key);
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
        let timeline = twin.header().timeline;
        let Some(up) = &mut it.up else { return };
        // It goes into its own store like one that came over a link which is no more.
        let answer = answer(async move { store.offer(vec![twin]).await });
        let (stored, by, held) = Default::default();
        up.offers.insert(0, Offering { stored, timeline, by, held, answer });
        self.totals.forks += 1;
        let (name, owner) = (it.name, self.peers[owner].name);
        self.tell_story(format!("{name} signs a second change in the place of its latest in the space of {owner}"));
        self.work(peer);
    }

    pub(super) fn crash(&mut self, peer: usize, is_violent: bool) {
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
