//! What the rights of a space are by definition: read off the set of statements, as slowly as it is plain.
//!
//! Nothing here is shared with the code under test but the types of the statements. A rule can be weakened on
//! purpose, to see that the comparison notices.

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::PublicKey;
use timebus_store::auth::Rights;
use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{ChangeId, GrantId, OpId, TimelineId};
use timebus_store::op::Op;
use timebus_store::path::Path;

/// An `auth` change.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) id: ChangeId,
    pub(crate) author: PublicKey,
    pub(crate) cap: Option<GrantId>,
    /// Places of those it stands on.
    pub(crate) deps: Vec<usize>,
    pub(crate) ops: Vec<Op>,
}

/// A rule left out or made weaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weak {
    Nothing,
    /// Any admin may revoke any grant.
    AnyAdminRevokes,
    /// Whoever issued a grant in the same name may revoke it, and his own.
    SelfRevokes,
    /// What a removed issuer signed later or dated back still revokes.
    BackdatedRevokes,
    /// What a removed issuer revoked before he was removed no longer counts.
    EarlierRevokesDie,
    /// What was handed on by a removed admin after he was seen for the last time lives.
    BackdatedGrantsLive,
    /// All that was handed on dies with a grant.
    EverythingCascades,
    /// Nothing does but what had not been seen.
    NothingCascades,
    /// Moderators reach beyond their scope.
    ModeratorsReachEverywhere,
    /// Moderators reach into other timelines.
    ModeratorsReachTimelines,
    /// Moderators may remove admins.
    ModeratorsRemoveAdmins,
    /// Whoever may do everything may remove whoever may do everything.
    DevicesRemoveDevices,
    /// Whoever may do everything removes nobody whom somebody else let in, unless he moderates him.
    DevicesRemoveNobody,
    /// Moderation needs no right.
    NobodyNeedsModerate,
    WiderScope,
    /// Scopes are compared as they are written: everybody's `{author}` is the same.
    AuthorsAlike,
    WiderActions,
    WiderTimelines,
    WiderLimits,
    DeeperDepth,
    GrantWithoutGrant,
    LongerChain,
    /// What a revocation keeps counts everywhere.
    KeepsEverywhere,
    /// Keep lists of revocations without effect count.
    AnybodyKeeps,
    /// Whoever was let in opens something to everybody.
    AnybodyOpens,
    /// What has ended still counts.
    NothingEnds,
}

pub(crate) const WEAKENINGS: [Weak; 25] = [
    Weak::AnyAdminRevokes,
    Weak::SelfRevokes,
    Weak::BackdatedRevokes,
    Weak::EarlierRevokesDie,
    Weak::BackdatedGrantsLive,
    Weak::EverythingCascades,
    Weak::NothingCascades,
    Weak::ModeratorsReachEverywhere,
    Weak::ModeratorsReachTimelines,
    Weak::ModeratorsRemoveAdmins,
    Weak::DevicesRemoveDevices,
    Weak::DevicesRemoveNobody,
    Weak::NobodyNeedsModerate,
    Weak::WiderScope,
    Weak::AuthorsAlike,
    Weak::WiderActions,
    Weak::WiderTimelines,
    Weak::WiderLimits,
    Weak::DeeperDepth,
    Weak::GrantWithoutGrant,
    Weak::LongerChain,
    Weak::KeepsEverywhere,
    Weak::AnybodyKeeps,
    Weak::AnybodyOpens,
    Weak::NothingEnds,
];

/// Paths, in so small a world that "covers all that the other covers" can be counted out: every path of at most
/// [`DEPTH`] segments over some names and all keys, numbered by length and then in order.
#[derive(Clone, Debug)]
pub(crate) struct Universe {
    names: Vec<String>,
    keys: Vec<PublicKey>,
    /// For each path, those at and below it.
    below: Vec<Paths>,
}

/// When it is asked who may do what: grants have no end, or end before, then or later.
const TIME_MS: u64 = 2;
/// Longer than the longest scope by one.
const DEPTH: u32 = 3;

/// One bit for each path.
type Paths = [u64; 5];

impl Universe {
    pub(crate) fn new(keys: &[PublicKey]) -> Self {
        let names: Vec<String> = ["a", "b"].map(str::to_owned).into_iter().chain(keys.iter().map(ToString::to_string)).collect();
        let base = names.len();
        let count: usize = (0..=DEPTH).map(|length| base.pow(length)).sum();
        let mut below = vec![[0; 5]; count];
        for path in 0..count {
            let mut at = path;
            loop {
                below[at][path / 64] |= 1 << (path % 64);
                if at == 0 {
                    break;
                }
                // The children of a path are numbered one behind the other.
                at = (at - 1) / base;
            }
        }
        Self { names, keys: keys.to_vec(), below }
    }

    /// A path by its number.
    fn path(&self, mut number: usize) -> Path {
        let base = self.names.len();
        let mut names = Vec::new();
        while number > 0 {
            names.push(&*self.names[(number - 1) % base]);
            number = (number - 1) / base;
        }
        names.reverse();
        Path::from_text_segments(names).expect("a path")
    }

    /// The paths that somebody may use by a grant.
    fn covered(&self, scope: &Scope, audience: &Audience) -> Paths {
        let mut paths = [0; 5];
        match audience {
            Audience::Key(key) => self.mark(scope, key, &mut paths),
            Audience::Anyone => self.keys.iter().for_each(|key| self.mark(scope, key, &mut paths)),
        }
        paths
    }

    fn mark(&self, scope: &Scope, author: &PublicKey, paths: &mut Paths) {
        let mut path = 0;
        for segment in &scope.segments {
            let name = match segment {
                ScopeSegment::Name(name) => self.names.iter().position(|known| **known == **name),
                ScopeSegment::Author => self.keys.iter().position(|key| key == author).map(|at| at + 2),
            };
            let Some(name) = name else { return };
            path = path * self.names.len() + 1 + name;
        }
        if scope.deep {
            paths.iter_mut().zip(&self.below[path]).for_each(|(word, below)| *word |= below);
        } else {
            paths[path / 64] |= 1 << (path % 64);
        }
    }
}

fn within(inner: &Paths, outer: &Paths) -> bool {
    inner.iter().zip(outer).all(|(inner, outer)| inner & !outer == 0)
}

fn timelines_within(inner: &Timelines, outer: &Timelines) -> bool {
    match outer {
        Timelines::All => true,
        Timelines::Main => *inner == Timelines::Main,
        Timelines::Only(outer) => matches!(inner, Timelines::Only(inner) if inner.iter().all(|id| outer.contains(id))),
    }
}

struct Given<'a> {
    at: usize,
    cap: Option<GrantId>,
    grant: &'a Grant,
}

struct Taken<'a> {
    at: usize,
    op: OpId,
    cap: Option<GrantId>,
    revoke: &'a Revoke,
}

pub(crate) struct Oracle<'a> {
    weak: Weak,
    root: PublicKey,
    universe: &'a Universe,
    statements: &'a [Statement],
    past: Vec<u64>,
    given: BTreeMap<GrantId, Given<'a>>,
    taken: Vec<Taken<'a>>,
}

impl<'a> Oracle<'a> {
    /// The rights that follow from some of the statements of a world.
    pub(crate) fn new(root: PublicKey, universe: &'a Universe, statements: &'a [Statement], set: &BTreeSet<usize>, weak: Weak) -> Self {
        let mut oracle = Self { weak, root, universe, statements, past: vec![0; statements.len()], given: BTreeMap::new(), taken: Vec::new() };
        for at in set {
            let statement = &statements[*at];
            oracle.past[*at] = statement.deps.iter().fold(0, |past, dep| past | 1 << dep | oracle.past[*dep]);
            for (index, op) in statement.ops.iter().enumerate() {
                let op_id = OpId { change: statement.id, index: index as u32 };
                match op {
                    Op::Grant(grant) => drop(oracle.given.insert(op_id.grant(), Given { at: *at, cap: statement.cap, grant })),
                    Op::Revoke(revoke) => oracle.taken.push(Taken { at: *at, op: op_id, cap: statement.cap, revoke }),
                    _ => {}
                }
            }
        }
        oracle
    }

    pub(crate) fn grants(&self) -> impl Iterator<Item = &GrantId> {
        self.given.keys()
    }

    /// Length of the chain from the root; `None` if the grant is not well-formed.
    pub(crate) fn chain(&self, id: &GrantId) -> Option<usize> {
        let given = self.given.get(id)?;
        let Some(cap) = given.cap else {
            return (self.statements[given.at].author == self.root).then_some(1);
        };
        let chain = self.chain(&cap)? + 1;
        let (child, parent) = (given.grant, self.given[&cap].grant);
        let weak = |rule: Weak| self.weak == rule;
        let scope = if weak(Weak::AuthorsAlike) {
            (child.scope.deep <= parent.scope.deep && child.scope.segments == parent.scope.segments)
                || within(&self.universe.covered(&child.scope, &child.audience), &self.universe.covered(&parent.scope, &parent.audience))
        } else {
            within(&self.universe.covered(&child.scope, &child.audience), &self.universe.covered(&parent.scope, &parent.audience))
        };
        let at_most = |child: u64, parent: u64| (if child == 0 { u64::MAX } else { child }) <= (if parent == 0 { u64::MAX } else { parent });
        let limits = at_most(child.bytes_max, parent.bytes_max)
            && at_most(child.change_bytes_max, parent.change_bytes_max)
            && at_most(child.not_after_ms, parent.not_after_ms);
        let well_formed = (parent.actions.0 & 8 != 0 || weak(Weak::GrantWithoutGrant))
            && (child.actions.0 & !parent.actions.0 == 0 || weak(Weak::WiderActions))
            && (scope || weak(Weak::WiderScope))
            && (timelines_within(&child.timelines, &parent.timelines) || weak(Weak::WiderTimelines))
            && (limits || weak(Weak::WiderLimits))
            && (child.depth < parent.depth || weak(Weak::DeeperDepth))
            && (chain <= 8 || weak(Weak::LongerChain));
        well_formed.then_some(chain)
    }

    /// Whether a change in the name of a grant, by its holder, is admitted to `auth`.
    pub(crate) fn admits(&self, author: &PublicKey, cap: &GrantId) -> bool {
        self.chain(cap).is_some() && {
            let grant = self.given[cap].grant;
            grant.audience == Audience::Key(*author) && grant.actions.0 & (8 | 16) != 0
        }
    }

    fn above(&self, id: &GrantId) -> Vec<GrantId> {
        let mut above = Vec::new();
        let mut at = *id;
        while let Some(cap) = self.given.get(&at).and_then(|given| given.cap) {
            above.push(cap);
            at = cap;
        }
        above
    }

    fn kills(&self, taken: &Taken<'_>, id: &GrantId) -> bool {
        let target = taken.revoke.grant;
        if target == *id {
            return true;
        }
        let mut next = *id;
        for link in self.above(id) {
            if link == target {
                let seen = self.past[taken.at] >> self.given[&next].at & 1 == 1;
                return match self.weak {
                    Weak::EverythingCascades => true,
                    Weak::NothingCascades => !seen,
                    Weak::BackdatedGrantsLive => taken.revoke.cascade,
                    _ => taken.revoke.cascade || !seen,
                };
            }
            next = link;
        }
        false
    }

    fn has_authority(&self, taken: &Taken<'_>) -> bool {
        let Some(by) = taken.cap else { return self.statements[taken.at].author == self.root };
        let target = taken.revoke.grant;
        if self.chain(&by).is_none() || self.chain(&target).is_none() {
            return false;
        }
        let (issuer, grant) = (self.given[&by].grant, self.given[&target].grant);
        let above = self.above(&target).contains(&by)
            || (self.weak == Weak::AnyAdminRevokes && issuer.actions.0 & 8 != 0)
            || (self.weak == Weak::SelfRevokes && by == target);
        if above && issuer.actions.0 & 8 != 0 {
            return true;
        }
        let is_device = |of: &Grant| of.actions == Actions::ALL && of.scope == Scope::everything() && of.timelines == Timelines::All;
        if is_device(issuer) && (!is_device(grant) || self.weak == Weak::DevicesRemoveDevices) && self.weak != Weak::DevicesRemoveNobody {
            return true;
        }
        let scope = within(&self.universe.covered(&grant.scope, &grant.audience), &self.universe.covered(&issuer.scope, &issuer.audience));
        (issuer.actions.0 & 16 != 0 || self.weak == Weak::NobodyNeedsModerate)
            && (grant.actions.0 & (8 | 16) == 0 || self.weak == Weak::ModeratorsRemoveAdmins)
            && (scope || self.weak == Weak::ModeratorsReachEverywhere)
            && (timelines_within(&grant.timelines, &issuer.timelines) || self.weak == Weak::ModeratorsReachTimelines)
    }

    /// `depth` only matters where a weakened rule makes the definition go round in circles.
    fn is_effective(&self, taken: &Taken<'_>, depth: usize) -> bool {
        if depth > 12 || !self.has_authority(taken) {
            return false;
        }
        let Some(issuer) = taken.cap else { return true };
        self.taken.iter().all(|other| {
            let seen = match self.weak {
                Weak::BackdatedRevokes => true,
                Weak::EarlierRevokesDie => false,
                _ => self.past[other.at] >> taken.at & 1 == 1,
            };
            seen || !self.kills(other, &issuer) || !self.is_effective(other, depth + 1)
        })
    }

    pub(crate) fn is_live(&self, id: &GrantId) -> bool {
        self.chain(id).is_some() && !self.taken.iter().any(|taken| self.kills(taken, id) && self.is_effective(taken, 0))
    }

    /// Revocations in force, by op.
    pub(crate) fn effective(&self) -> BTreeSet<OpId> {
        self.taken.iter().filter(|taken| self.is_effective(taken, 0)).map(|taken| taken.op).collect()
    }

    /// What effective revocations keep, and where.
    pub(crate) fn keepers(&self) -> BTreeMap<OpId, (Vec<ChangeId>, Paths)> {
        let keeps = |taken: &&Taken<'_>| !taken.revoke.keep.is_empty() && (self.weak == Weak::AnybodyKeeps || self.is_effective(taken, 0));
        let scope = |taken: &Taken<'_>| match taken.cap.and_then(|cap| self.given.get(&cap)) {
            Some(given) if self.weak != Weak::KeepsEverywhere => self.universe.covered(&given.grant.scope, &given.grant.audience),
            _ => self.everywhere(),
        };
        self.taken.iter().filter(keeps).map(|taken| (taken.op, (taken.revoke.keep.clone(), scope(taken)))).collect()
    }

    fn everywhere(&self) -> Paths {
        self.paths(&Scope::everything(), &self.root)
    }

    /// The paths of a scope that names its author.
    pub(crate) fn paths(&self, scope: &Scope, author: &PublicKey) -> Paths {
        self.universe.covered(scope, &Audience::Key(*author))
    }

    /// Whether the owner gave a grant, with one of his devices.
    fn is_by_owner(&self, given: &Given<'_>) -> bool {
        given.cap.is_none_or(|cap| {
            let parent = self.given[&cap].grant;
            parent.actions == Actions::ALL && parent.scope == Scope::everything() && parent.timelines == Timelines::All
        })
    }

    /// The paths at which a key may do something in a timeline, by grants for himself and for everybody; and those below all of
    /// which he may.
    fn allowed(&self, key: &PublicKey, actions: Actions, timeline: &TimelineId, time_ms: u64) -> (Paths, Paths) {
        let (mut at, mut below) = ([0; 5], [0; 5]);
        for (id, given) in &self.given {
            let grant = given.grant;
            let is_for_him = match &grant.audience {
                Audience::Key(audience) => audience == key,
                Audience::Anyone => self.is_by_owner(given) || self.weak == Weak::AnybodyOpens,
            };
            let is_there = match &grant.timelines {
                Timelines::All => true,
                Timelines::Main => *timeline == TimelineId::named(&self.root, "main"),
                Timelines::Only(ids) => ids.contains(timeline),
            };
            let has_ended = grant.not_after_ms > 0 && time_ms > grant.not_after_ms && self.weak != Weak::NothingEnds;
            if is_for_him && is_there && !has_ended && grant.actions.0 & actions.0 == actions.0 && self.is_live(id) {
                let paths = self.universe.covered(&grant.scope, &Audience::Key(*key));
                at.iter_mut().zip(&paths).for_each(|(at, paths)| *at |= paths);
                if grant.scope.deep {
                    below.iter_mut().zip(&paths).for_each(|(below, paths)| *below |= paths);
                }
            }
        }
        (at, below)
    }

    /// Where what somebody may do is not what follows from the grants that are in force.
    pub(crate) fn differs(&self, rights: &Rights) -> Option<String> {
        let timelines = [TimelineId::named(&self.root, "main"), TimelineId([1; 32]), TimelineId([2; 32])];
        // Reading, and fetching alone: these have no rule of their own beside what grants say.
        for (key, actions, timeline) in self.universe.keys.iter().flat_map(|key| {
            [Actions::READ, Actions::SYNC, Actions::MODERATE]
                .into_iter()
                .flat_map(move |actions| timelines.into_iter().map(move |timeline| (key, actions, timeline)))
        }) {
            let (at, below) = self.allowed(key, actions, &timeline, TIME_MS);
            let somewhere = !rights.may(key, actions, &timeline, TIME_MS).is_empty();
            if somewhere != at.iter().any(|word| *word != 0) {
                return Some(format!("{actions:?} somewhere in {timeline} for {key}: {somewhere}"));
            }
            // Some of the short ones, and of the others every seventh.
            for number in (0..self.universe.below.len()).filter(|number| *number < 12 || number % 7 == 0) {
                let path = self.universe.path(number);
                let is = |paths: &Paths| paths[number / 64] >> (number % 64) & 1 == 1;
                let explained = rights.explain(key, actions, (&timeline, 0), &path, TIME_MS).allowed;
                let of_all = rights.grant_covering(Some(key), actions, &timeline, &path, TIME_MS).is_some();
                // Who reads and fetches a timeline gets all of it.
                let of_all_is_right = of_all == is(&below) || actions == Actions::READ && of_all;
                if explained != is(&at) || !of_all_is_right {
                    let defined = (is(&at), is(&below));
                    return Some(format!("{actions:?} at {path} of {timeline} for {key}: {explained}, below it {of_all}, by definition {defined:?}"));
                }
            }
        }
        None
    }

    /// Keys that may do everything.
    pub(crate) fn devices(&self) -> BTreeSet<PublicKey> {
        let everything = |id: &&GrantId| {
            let grant = self.given[id].grant;
            grant.actions == Actions::ALL && grant.scope == Scope::everything() && grant.timelines == Timelines::All && self.is_live(id)
        };
        let key = |id: &GrantId| match self.given[id].grant.audience {
            Audience::Key(key) => Some(key),
            Audience::Anyone => None,
        };
        self.given.keys().filter(everything).filter_map(key).collect()
    }
}
