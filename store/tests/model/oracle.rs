//! What the state is, by definition: computed from scratch from a set of changes, slowly and in another way
//! than the store does it.
//!
//! - past(c): everything that `prev` and `parents` reach. view(c): c and the views of its base; without a base,
//!   c and its past. A change whose base leaves its past has no effect.
//! - An op may name what earlier ops of its own change made, and what changes in its past made. Parts of a run
//!   count only together with its last part: for others, if that is in their past.
//! - A write is visible in a set of changes iff it is valid and no valid op in the set has it as a predecessor:
//!   a `Set` at the same path, a `Del` at or above it. Predecessors that the writer had not seen do not count.
//! - The greatest stamp (Lamport clock, change, index) wins; structure beats scalars; lists are walked in order.
//! - A change is rooted if the right it was made with is in force and its author had not forked his chain up to there.
//!   A change vouches for what it is made on top of and what its body names (of a run the last part, if in its past). An
//!   op has an effect if its change, of a run the last part, is rooted; or if a chain of changes leads to it, each
//!   vouching for the next and each by somebody who could have written the same path, that begins with one that is
//!   rooted, or kept by a revocation whose issuer could have; or if it is kept so itself. Only such ops count.
//!   Which rights are in force is checked elsewhere, so that is asked of the store.
//! - A path's version is the greatest changes, by view, with an op at or below it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use timebus_identity::{PublicKey, Verified};
use timebus_store::auth::Rights;
use timebus_store::change::{Body, Change, Header, Kind};
use timebus_store::grant::{Grant, Scope};
use timebus_store::ids::{ChangeId, GrantId, OpId};
use timebus_store::json::Json;
use timebus_store::op::{Op, OpRef, PathStep, Side};
use timebus_store::path::{Path, Segment};
use timebus_store::value::Value;

/// A set of changes, by their numbers.
pub(crate) type Set = u128;

fn has(set: Set, at: usize) -> bool {
    set >> at & 1 == 1
}

/// When and by whom: Lamport clock, change, index.
type Stamp = (u64, OpId);

/// A change of the main timeline.
pub(crate) struct Known {
    pub(crate) id: ChangeId,
    pub(crate) header: Header,
    pub(crate) body: Body,
    /// Everything before it.
    pub(crate) past: Set,
    /// What its writer had seen, and itself.
    pub(crate) view: Set,
    /// The last parts of complete runs that it is a part of; itself if it is no part.
    lasts: Set,
    /// Where its cap lets it write; `None` when its ops have no effect.
    scope: Option<Scope>,
    /// Where its cap would let it write.
    could: Scope,
    rooted: bool,
    /// Whether nobody can vouch for it: a rule that is not so.
    lost: bool,
    /// Where revocations keep it.
    kept: Vec<Scope>,
    /// What it vouches for.
    vouched: Set,
}

/// A valid `Set` or `Ins`.
pub(crate) struct Write {
    pub(crate) path: Path,
    pub(crate) value: Value,
    /// The list it was inserted into.
    list: Option<OpId>,
    stamp: Stamp,
    change: usize,
    /// Changes with an op that has it as predecessor.
    killers: Vec<usize>,
}

/// Where a list element stands or stood.
struct Position {
    id: OpId,
    list: OpId,
    at: Option<OpId>,
    side: Side,
    element: OpId,
    stamp: Stamp,
    change: usize,
}

/// A rule about what has an effect, left out or made weaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weak {
    Nothing,
    /// Somebody who is rooted vouches for everything before him, whoever stands between.
    WhoeverStandsBetween,
    /// Who vouches need not be one who could have written the path.
    AnybodyVouches,
    /// Who begins the chain need not be rooted: what was built on counts.
    NobodyIsRooted,
    /// Only who is rooted himself vouches, and nobody in a chain.
    NoChains,
    /// What a right was taken back from counts all the same.
    RevokedCounts,
    /// So does what somebody wrote who forked his chain.
    ForkedCounts,
    /// What forks came of counts for nothing, also where others vouch for it.
    ForkedIsLost,
}

pub(crate) const WEAKENINGS: [Weak; 7] = [
    Weak::WhoeverStandsBetween,
    Weak::AnybodyVouches,
    Weak::NobodyIsRooted,
    Weak::NoChains,
    Weak::RevokedCounts,
    Weak::ForkedCounts,
    Weak::ForkedIsLost,
];

/// The state for every set of changes.
pub(crate) struct Oracle {
    pub(crate) changes: Vec<Known>,
    numbers: HashMap<ChangeId, usize>,
    writes: BTreeMap<OpId, Write>,
    positions: Vec<Position>,
    touches: Vec<(Path, usize)>,
    weak: Weak,
}

#[derive(Default)]
struct Node<'a> {
    writes: Vec<(OpId, &'a Write)>,
    names: BTreeMap<String, Node<'a>>,
    elements: BTreeMap<OpId, Node<'a>>,
}

impl Oracle {
    /// Works everything out.
    pub(crate) fn new(all: &[Verified<Change>]) -> Self {
        Self::with(all, Weak::Nothing)
    }

    /// The same with a weaker rule.
    pub(crate) fn with(all: &[Verified<Change>], weak: Weak) -> Self {
        let grants = grants(all);
        let mut sorted: Vec<&Verified<Change>> = all.iter().filter(|change| change.header().kind == Kind::Data).collect();
        sorted.sort_by_key(|change| (change.header().lamport, change.id()));
        let mut oracle =
            Self { changes: Vec::new(), numbers: HashMap::new(), writes: BTreeMap::new(), positions: Vec::new(), touches: Vec::new(), weak };
        for change in sorted {
            oracle.learn(change, &grants);
        }
        oracle.complete_runs();
        oracle.vouch();
        oracle.judge(all);
        for number in 0..oracle.changes.len() {
            oracle.apply(number);
        }
        oracle
    }

    /// All changes.
    pub(crate) fn everything(&self) -> Set {
        (1 << self.changes.len()) - 1
    }

    fn learn(&mut self, change: &Change, grants: &HashMap<GrantId, Grant>) {
        let header = change.header().clone();
        let body = Body::decode(change.body_bytes()).unwrap_or_default();
        let number = self.changes.len();
        let past = header.deps().map(|dep| self.numbers[dep]).fold(0, |past, dep| past | 1 << dep | self.changes[dep].past);
        let mut scope = match &header.cap {
            None => Some(Scope::everything()),
            Some(cap) => grants.get(cap).map(|grant| grant.scope.clone()),
        };
        let mut view = past;
        if let Some(base) = &body.base {
            view = 0;
            for id in base {
                match self.numbers.get(id) {
                    Some(&seen) if has(past, seen) => view |= self.changes[seen].view,
                    _ => scope = None,
                }
            }
        }
        let could = scope_of_cap(&header, grants);
        let view = view | 1 << number;
        self.numbers.insert(change.id(), number);
        self.changes.push(Known {
            id: change.id(),
            header,
            body,
            past,
            view,
            lasts: 0,
            scope,
            could,
            rooted: false,
            lost: false,
            kept: Vec::new(),
            vouched: 0,
        });
    }

    /// Finds out which changes are rooted and which are kept.
    fn judge(&mut self, all: &[Verified<Change>]) {
        let first = all.first().expect("the root grants");
        let mut rights = Rights::new(first.header().author);
        for change in all.iter().filter(|change| change.header().kind == Kind::Auth) {
            rights.learn(change.id(), change.header(), &Body::decode(change.body_bytes()).expect("well-formed here"));
        }
        let mut places: HashMap<(PublicKey, u64), usize> = HashMap::new();
        for change in &self.changes {
            *places.entry((change.header.author, change.header.seq)).or_default() += 1;
        }
        for change in &mut self.changes {
            let is_forked = (1..=change.header.seq).any(|seq| places.get(&(change.header.author, seq)).is_some_and(|count| *count > 1));
            let is_forked = is_forked && self.weak != Weak::ForkedCounts;
            let is_in_force = self.weak == Weak::RevokedCounts || rights.rooted(&change.header.author, change.header.cap.as_ref());
            change.rooted = !is_forked && is_in_force;
            let keepers = rights.keepers().filter(|keeper| keeper.keep.contains(&change.id));
            change.kept = keepers.flat_map(|keeper| keeper.scopes).collect();
            change.lost = is_forked && self.weak == Weak::ForkedIsLost;
        }
    }

    /// Whether what a change did at a path has an effect.
    fn shows(&self, number: usize, path: &Path) -> bool {
        (0..self.changes.len())
            .filter(|last| has(self.changes[number].lasts, *last))
            .any(|last| self.changes[last].rooted || self.is_vouched(last, path))
    }

    /// Whether a chain of changes vouches for one at a path.
    fn is_vouched(&self, last: usize, path: &Path) -> bool {
        let author = &self.changes[last].header.author;
        if self.changes[last].lost {
            return false;
        }
        if self.weak == Weak::WhoeverStandsBetween
            && self.changes.iter().any(|other| other.rooted && has(other.past, last) && other.could.covers(path, &other.header.author))
        {
            return true;
        }
        let mut reached: Set = 1 << last;
        let mut open = vec![last];
        while let Some(at) = open.pop() {
            if self.changes[at].kept.iter().any(|scope| scope.covers(path, author)) {
                return true;
            }
            for (number, other) in self.changes.iter().enumerate() {
                let could = self.weak == Weak::AnybodyVouches || other.could.covers(path, &other.header.author);
                if !has(other.vouched, at) || has(reached, number) || !could {
                    continue;
                }
                if other.rooted || self.weak == Weak::NobodyIsRooted {
                    return true;
                }
                if self.weak == Weak::NoChains {
                    continue;
                }
                reached |= 1 << number;
                open.push(number);
            }
        }
        false
    }

    /// Finds out what each change vouches for.
    fn vouch(&mut self) {
        for number in 0..self.changes.len() {
            let Known { header, body, past, .. } = &self.changes[number];
            let on_top = header.deps().map(|dep| self.numbers[dep]).fold(0, |set, dep| set | 1 << dep);
            let named = body.references.iter().filter_map(|id| self.numbers.get(id)).filter(|other| has(*past, **other));
            let named = named.fold(0, |set, other| set | self.changes[*other].lasts & past);
            self.changes[number].vouched = on_top | named;
        }
    }

    /// Finds the last parts that make their runs complete.
    fn complete_runs(&mut self) {
        for last in 0..self.changes.len() {
            let mut run = vec![last];
            let complete = match &self.changes[last].body.part {
                None => true,
                Some(part) if part.number < part.count => false,
                Some(part) => loop {
                    let at = run[run.len() - 1];
                    let Known { body, header, .. } = &self.changes[at];
                    let here = body.part.expect("only parts are pushed");
                    if here.number == 1 {
                        break part.first == Some(self.changes[at].id);
                    }
                    let Some(&before) = header.prev.as_ref().and_then(|prev| self.numbers.get(prev)) else { break false };
                    let Known { body: body_before, header: header_before, .. } = &self.changes[before];
                    let follows = body_before.part.is_some_and(|other| other.number + 1 == here.number && other.count == part.count)
                        && here.first == part.first
                        && header_before.cap == header.cap;
                    if !follows {
                        break false;
                    }
                    run.push(before);
                },
            };
            if complete {
                run.iter().for_each(|&part| self.changes[part].lasts |= 1 << last);
            }
        }
    }

    /// The change that holds an op which op `index` of `own` names.
    fn find(&self, own: usize, index: usize, id: OpId) -> Option<usize> {
        let Known { past, lasts, id: own_id, .. } = &self.changes[own];
        if id.change == *own_id {
            return ((id.index as usize) < index).then_some(own);
        }
        let number = *self.numbers.get(&id.change)?;
        let counts = self.changes[number].lasts & (past | lasts) != 0;
        (has(*past, number) && counts).then_some(number)
    }

    /// As [`Oracle::find`], and the writer had seen it.
    fn seen(&self, own: usize, index: usize, id: OpId) -> Option<usize> {
        self.find(own, index, id).filter(|number| has(self.changes[own].view, *number))
    }

    fn resolve(&self, own: usize, reference: OpRef) -> Option<OpId> {
        let Known { id, body, .. } = &self.changes[own];
        let change = if reference.change == 0 { *id } else { *body.references.get(reference.change as usize - 1)? };
        Some(OpId { change, index: reference.index })
    }

    /// The path that an op names, if every element on it was inserted there.
    fn path_of(&self, own: usize, index: usize, steps: &[PathStep]) -> Option<Path> {
        let mut path = Path::root();
        for step in steps {
            let segment = match step {
                PathStep::Name(name) => Segment::Name(name.clone()),
                PathStep::Element(reference) => Segment::Element(self.resolve(own, *reference)?),
            };
            path = path.join(segment.clone()).ok()?;
            if let Segment::Element(id) = segment {
                self.find(own, index, id)?;
                let inserted = self.writes.get(&id)?;
                if inserted.path != path || inserted.list.is_none() {
                    return None;
                }
            }
        }
        Some(path)
    }

    fn may_write(&self, own: usize, path: &Path) -> bool {
        let Known { scope, header, .. } = &self.changes[own];
        let system = matches!(path.segments().first(), Some(Segment::Name(name)) if [".sys", ".auth", ".drop"].contains(&&**name));
        !system && scope.as_ref().is_some_and(|scope| scope.covers(path, &header.author))
    }

    fn apply(&mut self, own: usize) {
        if self.changes[own].scope.is_none() || self.changes[own].lasts == 0 {
            return;
        }
        for index in 0..self.changes[own].body.ops.len() {
            self.apply_op(own, index);
        }
    }

    fn apply_op(&mut self, own: usize, index: usize) -> Option<()> {
        let Known { id: own_id, header, body, .. } = &self.changes[own];
        let id = OpId { change: *own_id, index: index as u32 };
        let stamp = (header.lamport, id);
        match body.ops[index].clone() {
            Op::Set { path, value, preds } => {
                let path = self.path_of(own, index, &path)?;
                if !self.may_write(own, &path) {
                    return None;
                }
                for pred in preds {
                    self.kill(own, index, pred, |at| *at == path);
                }
                // A write over an element stays at its place in the list, but inserts nothing.
                self.touches.push((path.clone(), own));
                self.writes.insert(id, Write { path, value, list: None, stamp, change: own, killers: Vec::new() });
            }
            Op::Del { path, preds } => {
                let path = self.steps_only(own, &path)?;
                for pred in preds {
                    if let Some(at) = self.kill(own, index, pred, |at| at.segments().starts_with(&path)) {
                        self.touches.push((at, own));
                    }
                }
            }
            Op::Ins { list, at, side, value } => {
                let list = self.resolve(own, list)?;
                self.seen(own, index, list)?;
                let made = self.writes.get(&list)?;
                let path = made.path.join(Segment::Element(id)).ok()?;
                if made.value != Value::List || !self.may_write(own, &path) {
                    return None;
                }
                let at = self.anchor(own, index, list, at)?;
                self.positions.push(Position { id, list, at, side, element: id, stamp, change: own });
                self.touches.push((path.clone(), own));
                self.writes.insert(id, Write { path, value, list: Some(list), stamp, change: own, killers: Vec::new() });
            }
            Op::Move { elem, at, side } => {
                let element = self.resolve(own, elem)?;
                self.seen(own, index, element)?;
                let inserted = self.writes.get(&element)?;
                let (list, path) = (inserted.list?, inserted.path.clone());
                if !self.may_write(own, &path) {
                    return None;
                }
                let at = self.anchor(own, index, list, at)?;
                self.positions.push(Position { id, list, at, side, element, stamp, change: own });
                self.touches.push((path, own));
            }
            _ => {}
        }
        Some(())
    }

    /// The segments of a `Del`, which need not exist: what it removes decides.
    fn steps_only(&self, own: usize, steps: &[PathStep]) -> Option<Vec<Segment>> {
        let segments = steps.iter().map(|step| match step {
            PathStep::Name(name) => Some(Segment::Name(name.clone())),
            PathStep::Element(reference) => self.resolve(own, *reference).map(Segment::Element),
        });
        Path::new(segments.collect::<Option<_>>()?).ok().map(|path| path.segments().to_vec())
    }

    /// The position that a list op stands at: `Some(None)` is the start of the list.
    fn anchor(&self, own: usize, index: usize, list: OpId, at: Option<OpRef>) -> Option<Option<OpId>> {
        let Some(at) = at else { return Some(None) };
        let anchor = self.resolve(own, at)?;
        self.find(own, index, anchor)?;
        self.positions.iter().any(|position| position.id == anchor && position.list == list).then_some(Some(anchor))
    }

    fn kill(&mut self, own: usize, index: usize, pred: OpRef, fits: impl Fn(&Path) -> bool) -> Option<Path> {
        let pred = self.resolve(own, pred)?;
        self.seen(own, index, pred)?;
        let at = self.writes.get(&pred)?.path.clone();
        if !fits(&at) || !self.may_write(own, &at) {
            return None;
        }
        self.writes.get_mut(&pred)?.killers.push(own);
        Some(at)
    }

    /// Whether a change's ops at a path count in a set of changes.
    fn counts(&self, set: Set, number: usize, path: &Path) -> bool {
        self.is_whole(set, number) && self.shows(number, path)
    }

    /// Whether a change, and if it is part of a run, its last part, is in a set of changes.
    fn is_whole(&self, set: Set, number: usize) -> bool {
        has(set, number) && self.changes[number].lasts & set != 0
    }

    /// The writes that are visible in a set of changes.
    pub(crate) fn visible(&self, set: Set) -> BTreeSet<OpId> {
        let counts = |number: usize, write: &Write| self.counts(set, number, &write.path);
        let alive = |write: &Write| counts(write.change, write) && !write.killers.iter().any(|killer| counts(*killer, write));
        self.writes.iter().filter(|(_, write)| alive(write)).map(|(id, _)| *id).collect()
    }

    /// The writes that are visible at and below a path in a set of changes.
    pub(crate) fn visible_at(&self, set: Set, path: &Path) -> BTreeSet<OpId> {
        self.visible(set).into_iter().filter(|id| path.contains(&self.writes[id].path)).collect()
    }

    /// What a path shows in a set of changes.
    pub(crate) fn json(&self, set: Set, path: &Path) -> Option<Json> {
        let mut root = Node::default();
        for id in self.visible(set) {
            let write = &self.writes[&id];
            let mut node = &mut root;
            for segment in write.path.segments() {
                node = match segment {
                    Segment::Name(name) => node.names.entry(name.to_string()).or_default(),
                    Segment::Element(id) => node.elements.entry(*id).or_default(),
                };
            }
            node.writes.push((id, write));
        }
        let mut node = &root;
        for segment in path.segments() {
            node = match segment {
                Segment::Name(name) => node.names.get(&**name)?,
                Segment::Element(id) => node.elements.get(id)?,
            };
        }
        self.render(set, node)
    }

    fn render(&self, set: Set, node: &Node<'_>) -> Option<Json> {
        let names: BTreeMap<String, Json> = node.names.iter().filter_map(|(name, child)| Some((name.clone(), self.render(set, child)?))).collect();
        let mut elements: BTreeMap<OpId, Json> = node.elements.iter().filter_map(|(id, child)| Some((*id, self.render(set, child)?))).collect();
        let winner = node.writes.iter().max_by_key(|(_, write)| write.stamp);
        let list = match winner {
            Some((id, write)) if write.value == Value::List => Some(*id),
            Some((_, write)) if write.value == Value::Map => None,
            _ if !names.is_empty() => None,
            _ => elements.keys().filter_map(|id| self.writes[id].list).max_by_key(|list| self.writes[list].stamp),
        };
        if let Some(list) = list {
            let mut order = Vec::new();
            self.walk(list, None, &mut order);
            let shown = order.iter().filter(|position| has(set, position.change) && self.stands_at(set, position.element) == Some(position.id));
            return Some(Json::Array(shown.filter_map(|position| elements.remove(&position.element)).collect()));
        }
        if !names.is_empty() {
            return Some(Json::Object(names));
        }
        winner.map(|(_, write)| match &write.value {
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) | Value::Counter(n) => Json::Int(*n),
            Value::String(text) => Json::String(text.to_string()),
            Value::Map => Json::Object(BTreeMap::new()),
            Value::List => Json::Array(Vec::new()),
            _ => Json::Null,
        })
    }

    fn walk<'a>(&'a self, list: OpId, at: Option<OpId>, into: &mut Vec<&'a Position>) {
        let side = |side| {
            let mut found: Vec<&Position> = self.positions.iter().filter(|p| p.list == list && p.at == at && p.side == side).collect();
            found.sort_by_key(|position| position.id);
            found
        };
        side(Side::Left).iter().for_each(|position| self.walk(list, Some(position.id), into));
        into.extend(self.positions.iter().filter(|position| Some(position.id) == at));
        side(Side::Right).iter().for_each(|position| self.walk(list, Some(position.id), into));
    }

    /// The position of an element in a set of changes.
    fn stands_at(&self, set: Set, element: OpId) -> Option<OpId> {
        // An insertion is a position even where it shows nothing.
        let counts = |position: &&Position| {
            let is_insertion = position.id == element;
            self.is_whole(set, position.change) && (is_insertion || self.shows(position.change, &self.writes[&element].path))
        };
        let own = self.positions.iter().filter(|position| position.element == element).filter(counts);
        own.max_by_key(|position| position.stamp).map(|position| position.id)
    }

    /// The version of a path: public names, sorted.
    pub(crate) fn version(&self, path: &Path) -> Vec<String> {
        let everything = self.everything();
        let mut touching: Set = 0;
        for (at, number) in &self.touches {
            if path.contains(at) && self.counts(everything, *number, at) {
                touching |= self.changes[*number].lasts;
            }
        }
        let numbers = (0..self.changes.len()).filter(|number| has(touching, *number));
        let seen_by_others =
            |number: usize| (0..self.changes.len()).any(|other| other != number && has(touching, other) && has(self.changes[other].view, number));
        let mut names: Vec<String> = numbers.filter(|number| !seen_by_others(*number)).map(|number| self.name(number)).collect();
        names.sort();
        names
    }

    /// The public name of a change.
    pub(crate) fn name(&self, number: usize) -> String {
        let Known { id, body, .. } = &self.changes[number];
        body.label.as_ref().map_or_else(|| id.to_string(), ToString::to_string)
    }

    /// Every path that some op names, and those above.
    pub(crate) fn paths(&self) -> BTreeSet<Path> {
        let mut paths: BTreeSet<Path> = [Path::root()].into();
        for path in self.writes.values().map(|write| &write.path).chain(self.touches.iter().map(|(path, _)| path)) {
            let mut path = path.clone();
            while let Some(parent) = path.parent() {
                paths.insert(path);
                path = parent;
            }
        }
        paths
    }
}

fn scope_of_cap(header: &Header, grants: &HashMap<GrantId, Grant>) -> Scope {
    header.cap.as_ref().map_or_else(Scope::everything, |cap| grants[cap].scope.clone())
}

/// Grants by id: those of the root, and one step further.
fn grants(all: &[Verified<Change>]) -> HashMap<GrantId, Grant> {
    let statements = all.iter().filter(|change| change.header().kind == Kind::Auth);
    let mut found = HashMap::new();
    for change in statements {
        for (index, op) in Body::decode(change.body_bytes()).expect("statements are well-formed here").ops.into_iter().enumerate() {
            if let Op::Grant(grant) = op {
                found.insert(OpId { change: change.id(), index: index as u32 }.grant(), grant);
            }
        }
    }
    found
}
