//! Random worlds: changes by several devices, honest and not, each on top of some of the others.

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::{PublicKey, SecretKey, Verified};
use timebus_store::change::{Body, Change, Header, Kind, Part};
use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{ChangeId, GrantId, OpId, TimelineId};
use timebus_store::op::{Op, OpRef, PathStep, Side};
use timebus_store::path::{Path, Segment};
use timebus_store::value::Value;

use crate::dice::Dice;

/// Bytes that a change counts for beside its body, as the format says.
const OVERHEAD: u64 = 512;

struct Device {
    key: SecretKey,
    cap: Option<GrantId>,
    /// Its changes, by number.
    own: Vec<usize>,
}

/// What a change made, whether it is valid or not.
#[derive(Clone)]
struct Made {
    id: OpId,
    path: Path,
    is_list: bool,
    inserted: bool,
    /// The list that a position belongs to.
    position_in: Option<OpId>,
    change: usize,
}

/// A change before its references are numbered.
#[derive(Default)]
struct Draft {
    ops: Vec<DraftOp>,
    outside: BTreeSet<ChangeId>,
}

enum DraftOp {
    Set { path: Vec<Segment>, value: Value, preds: BTreeSet<OpId> },
    Del { path: Vec<Segment>, preds: BTreeSet<OpId> },
    Ins { list: OpId, at: Option<OpId>, side: Side, value: Value },
    Move { elem: OpId, at: Option<OpId>, side: Side },
    Other(Op),
}

/// Stands for the change that is being made, whose id nobody knows yet.
const SELF: ChangeId = ChangeId([0; 32]);

pub(crate) struct World {
    pub(crate) changes: Vec<Verified<Change>>,
    dice: Dice,
    space: PublicKey,
    devices: Vec<Device>,
    /// The main timeline's changes: number in `changes`, and everything before each.
    main: Vec<usize>,
    past: BTreeMap<usize, BTreeSet<usize>>,
    heads: BTreeSet<usize>,
    made: Vec<Made>,
    /// Numbers of the statements about rights.
    statements: Vec<usize>,
    /// Whether most ops are of lists.
    lists: bool,
}

fn grant(to: &SecretKey, scope: Scope, depth: u8) -> Op {
    let audience = Audience::Key(to.public());
    let (timelines, actions) = (Timelines::All, Actions::ALL);
    Op::Grant(Grant { audience, scope, timelines, actions, bytes_max: 0, change_bytes_max: 0, not_after_ms: 0, depth, label: "".into() })
}

impl World {
    /// A world of some 5 to 40 changes of the main timeline.
    pub(crate) fn new(root: &SecretKey, seed: u64) -> Self {
        let keys: Vec<SecretKey> = (0..5).map(|n| SecretKey::from_seed([100 + n; 32])).collect();
        let mut world = Self {
            changes: Vec::new(),
            dice: Dice::new(seed),
            space: root.public(),
            devices: Vec::new(),
            main: Vec::new(),
            past: BTreeMap::new(),
            heads: BTreeSet::new(),
            made: Vec::new(),
            statements: Vec::new(),
            lists: seed % 5 == 4,
        };
        let below = |name: &str| Scope { segments: vec![ScopeSegment::Name(name.into())], deep: true };
        let by_root = vec![
            grant(&keys[0], Scope::everything(), 7),
            grant(&keys[1], Scope::everything(), 7),
            grant(&keys[2], Scope::everything(), 0),
            grant(&keys[3], below("a"), 0),
        ];
        let first = world.statement(root, None, by_root);
        let caps: Vec<GrantId> = (0..4).map(|index| OpId { change: first, index }.grant()).collect();
        let second = world.statement(&keys[0], Some(caps[0]), vec![grant(&keys[4], below("b"), 3)]);
        let handed_on = OpId { change: second, index: 0 }.grant();
        let caps = caps.into_iter().chain([handed_on]).map(Some);
        world.devices = keys.into_iter().zip(caps).map(|(key, cap)| Device { key, cap, own: Vec::new() }).collect();
        world.devices.push(Device { key: SecretKey::from_seed(*root.seed()), cap: None, own: Vec::new() });
        let size = 5 + world.dice.below(36);
        let quarrel = world.dice.percent(65);
        while world.main.len() < size {
            world.step();
            if quarrel && world.dice.percent(12) {
                world.revoke();
            }
        }
        if quarrel {
            world.revoke();
        }
        world
    }

    fn statement(&mut self, key: &SecretKey, cap: Option<GrantId>, ops: Vec<Op>) -> ChangeId {
        let own: Vec<usize> = self.statements.iter().copied().filter(|at| self.changes[*at].header().author == key.public()).collect();
        let prev = own.last().map(|at| self.changes[*at].header().clone());
        // Mostly somebody knows all that was said before.
        let knows = if self.dice.percent(70) { 100 } else { 40 };
        let known: Vec<usize> = self.statements.iter().copied().filter(|at| !own.contains(at) && (*at == 0 || self.dice.percent(knows))).collect();
        let lamport = 1 + known.iter().chain(own.last()).map(|at| self.changes[*at].header().lamport).max().unwrap_or(0);
        let parents = known.iter().map(|at| self.changes[*at].id()).collect();
        let id = self.sign(key, Kind::Auth, cap, prev.as_ref(), parents, lamport, &Body { ops, ..Body::default() });
        self.statements.push(self.changes.len() - 1);
        id
    }

    /// Somebody takes a right back, and keeps some of what was written with it.
    fn revoke(&mut self) {
        let by = [5, 5, 0, 1][self.dice.below(4)];
        let target = self.dice.below(5);
        let Some(grant) = self.devices[target].cap else { return };
        let mut keep = BTreeSet::new();
        for _ in 0..self.dice.below(3) {
            keep.extend(self.dice.pick(&self.main).map(|at| self.changes[*at].id()));
        }
        let cascade = self.dice.percent(30);
        let revoke = Op::Revoke(Revoke { grant, cascade, keep: keep.into_iter().collect() });
        let key = SecretKey::from_seed(*self.devices[by].key.seed());
        let cap = self.devices[by].cap;
        self.statement(&key, cap, vec![revoke]);
    }

    #[expect(clippy::too_many_arguments, reason = "a header has many fields")]
    fn sign(
        &mut self,
        key: &SecretKey,
        kind: Kind,
        cap: Option<GrantId>,
        prev: Option<&Header>,
        mut parents: Vec<ChangeId>,
        lamport: u64,
        body: &Body,
    ) -> ChangeId {
        parents.sort_unstable();
        let bytes = body.encode();
        let header = Header {
            kind,
            timeline: TimelineId::named(&self.space, if kind == Kind::Auth { "auth" } else { "main" }),
            author: key.public(),
            seq: prev.map_or(1, |prev| prev.seq + 1),
            prev: prev.map(|prev| Change::new(prev.clone(), self.body_of(prev).into()).expect("as before").id()),
            cap,
            parents,
            lamport,
            time_ms: lamport,
            cum: prev.map_or(0, |prev| prev.cum) + OVERHEAD + bytes.len() as u64,
            body_len: bytes.len() as u64,
            body_root: *blake3::hash(&bytes).as_bytes(),
            encryption: None,
        };
        assert_eq!(Body::decode(&bytes).as_ref(), Ok(body), "worlds are made of bodies that can be read");
        let change = Verified::sign(Change::new(header, bytes.into()).expect("fits"), key).expect("own key");
        let id = change.id();
        self.changes.push(change);
        id
    }

    fn body_of(&self, header: &Header) -> Vec<u8> {
        let found = self.changes.iter().find(|change| change.header() == header);
        found.expect("made before").body_bytes().to_vec()
    }

    /// One more change, or one more run of them.
    fn step(&mut self) {
        let device = self.dice.below(self.devices.len());
        let parts = if self.dice.percent(8) { 2 + self.dice.below(2) as u64 } else { 1 };
        let mut first = None;
        for number in 1..=parts {
            let id = self.change(device, number, parts, first);
            first.get_or_insert(id);
            // Others write between the parts of a run, and a run may stay without its end.
            if number < parts && self.dice.percent(25) {
                let other = self.dice.below(self.devices.len());
                if other != device {
                    self.change(other, 1, 1, None);
                }
            }
            if number < parts && self.dice.percent(10) {
                break;
            }
        }
    }

    fn change(&mut self, device: usize, number: u64, parts: u64, first: Option<ChangeId>) -> ChangeId {
        let own = &self.devices[device].own;
        let fork = number == 1 && self.dice.percent(6);
        let prev = if fork { self.dice.pick(own).copied() } else { own.last().copied() };
        let pool: Vec<usize> = match self.dice.below(10) {
            0..=4 => self.heads.iter().copied().collect(),
            5..=7 => self.heads.iter().copied().filter(|_| self.dice.percent(50)).collect(),
            _ => self.main.iter().copied().filter(|_| self.dice.percent(15)).collect(),
        };
        let parents: BTreeSet<usize> = pool.into_iter().filter(|at| Some(*at) != prev).collect();
        let mut past: BTreeSet<usize> = BTreeSet::new();
        for dep in parents.iter().chain(&prev) {
            past.insert(*dep);
            past.extend(&self.past[dep]);
        }
        let seen: Vec<usize> = past.iter().copied().collect();
        let base = match self.dice.below(20) {
            _ if number > 1 => Some(prev.map(|prev| self.changes[prev].id()).into_iter().collect()),
            0..=11 => None,
            12 => Some(BTreeSet::new()),
            13 => Some((0..2).filter_map(|_| self.dice.pick(&self.main)).map(|at| self.changes[*at].id()).collect()),
            14 if self.dice.percent(30) => Some([ChangeId([7; 32])].into()),
            _ => Some((0..1 + self.dice.below(3)).filter_map(|_| self.dice.pick(&seen)).map(|at| self.changes[*at].id()).collect::<BTreeSet<_>>()),
        };
        let mut draft = Draft::default();
        for _ in 0..1 + self.dice.below(6) {
            let op = self.op(&past, &draft);
            draft.ops.push(op);
        }
        let label = self.dice.percent(15).then(|| format!("v{}", self.changes.len()).into());
        let part = (parts > 1).then_some(Part { number, count: parts, first });
        let body = draft.finish(label, base.map(|ids| ids.into_iter().collect()), part);
        let lamport = 1 + past.iter().map(|at| self.changes[*at].header().lamport).max().unwrap_or(0);
        let key = SecretKey::from_seed(*self.devices[device].key.seed());
        let cap = self.devices[device].cap;
        let prev_header = prev.map(|at| self.changes[at].header().clone());
        let parent_ids = parents.iter().map(|at| self.changes[*at].id()).collect();
        let id = self.sign(&key, Kind::Data, cap, prev_header.as_ref(), parent_ids, lamport, &body);
        let at = self.changes.len() - 1;
        self.note(id, at, &draft);
        self.devices[device].own.push(at);
        self.main.push(at);
        self.heads.retain(|head| !past.contains(head));
        self.heads.insert(at);
        self.past.insert(at, past);
        id
    }

    /// Remembers what a change made, for later ops to refer to.
    fn note(&mut self, change: ChangeId, number: usize, draft: &Draft) {
        let actual = |id: OpId| if id.change == SELF { OpId { change, index: id.index } } else { id };
        let actual_path = |path: &[Segment]| {
            let segments = path.iter().map(|segment| match segment {
                Segment::Element(id) => Segment::Element(actual(*id)),
                name => name.clone(),
            });
            Path::new(segments.collect()).ok()
        };
        for (index, op) in draft.ops.iter().enumerate() {
            let id = OpId { change, index: index as u32 };
            let made = match op {
                DraftOp::Set { path, value, .. } => {
                    let Some(path) = actual_path(path) else { continue };
                    Made { id, path, is_list: *value == Value::List, inserted: false, position_in: None, change: number }
                }
                DraftOp::Ins { list, value, .. } => {
                    let list = actual(*list);
                    let Some(above) = self.made.iter().find(|made| made.id == list) else { continue };
                    let Ok(path) = above.path.join(Segment::Element(id)) else { continue };
                    Made { id, path, is_list: *value == Value::List, inserted: true, position_in: Some(list), change: number }
                }
                DraftOp::Move { elem, .. } => {
                    let elem = actual(*elem);
                    let Some(inserted) = self.made.iter().find(|made| made.id == elem) else { continue };
                    Made { id, is_list: false, inserted: false, change: number, ..inserted.clone() }
                }
                _ => continue,
            };
            self.made.push(made);
        }
    }

    /// Ops that exist: mostly of the past, seldom of anywhere.
    fn pool(&mut self, past: &BTreeSet<usize>, keep: impl Fn(&Made) -> bool) -> Vec<Made> {
        let anywhere = self.dice.percent(4);
        self.made.iter().filter(|made| keep(made) && (anywhere || past.contains(&made.change))).cloned().collect()
    }

    fn op(&mut self, past: &BTreeSet<usize>, draft: &Draft) -> DraftOp {
        let side = if self.dice.percent(70) { Side::Right } else { Side::Left };
        let kind = if self.lists && self.dice.percent(70) { 13 + self.dice.below(6) } else { self.dice.below(20) };
        match kind {
            0..=8 => self.set(past, draft),
            9..=11 => self.del(past, draft),
            12..=16 => {
                let lists = self.pool(past, |made| made.is_list);
                let own = draft.ops.iter().enumerate().filter(|(_, op)| op.makes_list()).map(|(index, _)| OpId { change: SELF, index: index as u32 });
                let mut lists: Vec<OpId> = lists.into_iter().map(|made| made.id).chain(own).collect();
                if self.dice.percent(3) {
                    lists = self.pool(past, |_| true).into_iter().map(|made| made.id).collect();
                }
                let Some(&list) = self.dice.pick(&lists) else { return self.set(past, draft) };
                let at = self.anchor(past, draft, list);
                DraftOp::Ins { list, at, side, value: self.value() }
            }
            17 | 18 => {
                let elements = self.pool(past, |made| made.inserted);
                let Some(element) = self.dice.pick(&elements).cloned() else { return self.set(past, draft) };
                let list = element.position_in.expect("was inserted");
                let at = self.anchor(past, draft, list);
                DraftOp::Move { elem: element.id, at, side }
            }
            _ => DraftOp::Other(match self.dice.below(3) {
                0 => Op::Inc { obj: OpRef { change: 0, index: 0 }, delta: 3 },
                1 => Op::Link { space: [1; 32], timeline: [2; 32], change: [3; 32] },
                _ => Op::Unknown { tag: 200, bytes: [1, 2, 3].into() },
            }),
        }
    }

    fn set(&mut self, past: &BTreeSet<usize>, draft: &Draft) -> DraftOp {
        let known = self.pool(past, |_| true);
        // Elements that the writer cannot know of.
        let others: Vec<Made> = self.made.iter().filter(|made| made.inserted && !past.contains(&made.change)).cloned().collect();
        let path: Vec<Segment> = match self.dice.below(10) {
            0 if self.dice.percent(40) && !others.is_empty() => self.dice.pick(&others).map(|made| made.path.segments().to_vec()).unwrap_or_default(),
            0..=4 if !known.is_empty() => self.dice.pick(&known).map(|made| made.path.segments().to_vec()).unwrap_or_default(),
            5 if !known.is_empty() => {
                let mut path = self.dice.pick(&known).map(|made| made.path.segments().to_vec()).unwrap_or_default();
                path.push(self.name());
                path
            }
            // An element that this very change inserts, or will.
            6 if !draft.ops.is_empty() => {
                let index = self.dice.below(draft.ops.len() + 1) as u32;
                match draft.ops.get(index as usize) {
                    Some(DraftOp::Ins { list, .. }) => {
                        let above = self.made.iter().find(|made| made.id == *list).map(|made| made.path.segments().to_vec());
                        let mut path = above.unwrap_or_default();
                        path.push(Segment::Element(OpId { change: SELF, index }));
                        path
                    }
                    _ => vec![self.name()],
                }
            }
            _ => (0..self.dice.below(4)).map(|_| self.name()).collect(),
        };
        let at = path.clone();
        let preds = self.preds(past, draft, move |other| other == at);
        DraftOp::Set { path, value: self.value(), preds }
    }

    fn del(&mut self, past: &BTreeSet<usize>, draft: &Draft) -> DraftOp {
        let known = self.pool(past, |_| true);
        let mut path = self.dice.pick(&known).map(|made| made.path.segments().to_vec()).unwrap_or_default();
        path.truncate(path.len().saturating_sub(self.dice.below(3)));
        let above = path.clone();
        let preds = self.preds(past, draft, move |other| other.starts_with(&above));
        DraftOp::Del { path, preds }
    }

    /// Most writes that fit, and now and then something that cannot be replaced.
    fn preds(&mut self, past: &BTreeSet<usize>, draft: &Draft, fits: impl Fn(&[Segment]) -> bool) -> BTreeSet<OpId> {
        let share = [0, 50, 100, 100][self.dice.below(4)];
        let mut preds: BTreeSet<OpId> =
            self.pool(past, |made| fits(made.path.segments())).into_iter().filter(|_| self.dice.percent(share)).map(|made| made.id).collect();
        for (index, op) in draft.ops.iter().enumerate() {
            if let DraftOp::Set { path, .. } = op
                && fits(path)
                && self.dice.percent(share)
            {
                preds.insert(OpId { change: SELF, index: index as u32 });
            }
        }
        if self.dice.percent(5) {
            let anything = self.pool(past, |_| true);
            preds.extend(self.dice.pick(&anything).map(|made| made.id));
        }
        if self.dice.percent(5) {
            // Its own op, one that comes later or one that never does.
            preds.insert(OpId { change: SELF, index: (draft.ops.len() + self.dice.below(3)) as u32 });
        }
        if self.dice.percent(2) {
            preds.insert(OpId { change: ChangeId([9; 32]), index: 0 });
        }
        preds
    }

    fn anchor(&mut self, past: &BTreeSet<usize>, draft: &Draft, list: OpId) -> Option<OpId> {
        let mut positions: Vec<OpId> = self.pool(past, |made| made.position_in == Some(list)).into_iter().map(|made| made.id).collect();
        for (index, op) in draft.ops.iter().enumerate() {
            if matches!(op, DraftOp::Ins { list: other, .. } if *other == list) {
                positions.push(OpId { change: SELF, index: index as u32 });
            }
        }
        if self.dice.percent(4) {
            positions = self.pool(past, |_| true).into_iter().map(|made| made.id).collect();
        }
        if self.dice.percent(25) { None } else { self.dice.pick(&positions).copied() }
    }

    fn name(&mut self) -> Segment {
        let names = ["a", "a", "b", "b", "c", "d", ".sys"];
        let count = if self.dice.percent(10) { names.len() } else { names.len() - 1 };
        Segment::name(names[self.dice.below(count)]).expect("valid")
    }

    fn value(&mut self) -> Value {
        match self.dice.below(10) {
            0..=2 => Value::Map,
            3..=5 => Value::List,
            6 => Value::Null,
            7 => Value::String("s".into()),
            _ => Value::Int(self.dice.below(1000) as i64),
        }
    }
}

impl DraftOp {
    fn makes_list(&self) -> bool {
        matches!(self, Self::Set { value: Value::List, .. } | Self::Ins { value: Value::List, .. })
    }
}

impl Draft {
    /// Numbers the references.
    fn finish(&mut self, label: Option<Box<str>>, base: Option<Vec<ChangeId>>, part: Option<Part>) -> Body {
        let mut named: BTreeSet<ChangeId> = std::mem::take(&mut self.outside);
        let mut note = |id: &OpId| {
            named.insert(id.change);
        };
        for op in &self.ops {
            match op {
                DraftOp::Set { path, preds, .. } | DraftOp::Del { path, preds } => {
                    preds.iter().for_each(&mut note);
                    path.iter().for_each(|segment| {
                        if let Segment::Element(id) = segment {
                            note(id);
                        }
                    });
                }
                DraftOp::Ins { list, at, .. } => [Some(*list), *at].iter().flatten().for_each(&mut note),
                DraftOp::Move { elem, at, .. } => [Some(*elem), *at].iter().flatten().for_each(&mut note),
                DraftOp::Other(_) => {}
            }
        }
        named.remove(&SELF);
        let references: Vec<ChangeId> = named.into_iter().collect();
        let number = |id: &OpId| OpRef { change: references.binary_search(&id.change).map_or(0, |at| at as u32 + 1), index: id.index };
        let steps = |path: &[Segment]| -> Vec<PathStep> {
            path.iter()
                .map(|segment| match segment {
                    Segment::Name(name) => PathStep::Name(name.clone()),
                    Segment::Element(id) => PathStep::Element(number(id)),
                })
                .collect()
        };
        let refs = |ids: &BTreeSet<OpId>| -> Vec<OpRef> { ids.iter().map(number).collect::<BTreeSet<_>>().into_iter().collect() };
        let ops = self.ops.iter().map(|op| match op {
            DraftOp::Set { path, value, preds } => Op::Set { path: steps(path), value: value.clone(), preds: refs(preds) },
            DraftOp::Del { path, preds } => Op::Del { path: steps(path), preds: refs(preds) },
            DraftOp::Ins { list, at, side, value } => Op::Ins { list: number(list), at: at.as_ref().map(number), side: *side, value: value.clone() },
            DraftOp::Move { elem, at, side } => Op::Move { elem: number(elem), at: at.as_ref().map(number), side: *side },
            DraftOp::Other(op) => op.clone(),
        });
        let ops = ops.collect();
        Body { label, base, part, references, ops }
    }
}
