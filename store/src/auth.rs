//! Who may do what: the grants of a space, as its `auth` timeline states them.
//!
//! Everything here is a function of the *set* of admitted statements; in which order they came does not matter, and
//! no clock does. Grants make a tree, whose root is the root key. Only who stands above a grant may take it back, or a
//! moderator whose scope covers a plain member's. So two who hold rights cannot throw each other out, and nothing
//! has to be decided between them.
//!
//! A revocation *kills* the grant it names, and what was handed on from it, except (unless it cascades) what the
//! revoker had seen. It is *effective* if its issuer had the authority, and if whoever took that from the issuer had
//! seen it. A grant that no effective revocation kills is *live*. What a removed admin did before the remover saw it
//! stays, what he signs later, or dates back, does not.
//!
//! The parts: [`cap`] says which changes are admitted, [`roots`] who the root is, [`mounts`] which timelines there are,
//! [`explain`] answers people's questions. What all this means for values is decided by the fold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use timebus_identity::PublicKey;

use crate::change::{Body, Header};
use crate::grant::{Actions, Audience, Genesis, Grant, Revoke, Scope, Timelines};
use crate::ids::{ChangeId, GrantId, OpId, TimelineId};
use crate::op::Op;
use crate::path::Segment;

pub mod cap;
#[cfg(test)]
mod costs;
pub mod explain;
pub mod mounts;
mod past;
pub mod roots;

pub use cap::{CapError, OWN_WORDS, Reach};
pub use explain::{Allowed, Explanation, Hidden, Lack, Way};
pub use mounts::Mount;
use past::Dag;
use roots::Roots;
pub use roots::{Class, RootState};

/// Longest chain of grants from the root.
pub const CHAIN_MAX: u8 = 8;

/// A grant and where it stands in the tree of grants.
#[derive(Clone, Debug)]
pub struct Held {
    /// What was granted.
    pub grant: Grant,
    /// The grant it was handed on from; `None` when the root gave it.
    pub parent: Option<GrantId>,
    /// Grants from the root to here, from 1.
    pub chain: u8,
    /// The op that gave it.
    pub op: OpId,
    /// Who gave it.
    pub author: PublicKey,
    /// Unix milliseconds when, as that author said.
    pub time_ms: u64,
    /// Whether it is in force.
    live: bool,
    change: u32,
}

impl Held {
    /// Whether it is in force.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether it is in force and allows everything. Only who may do everything can have given it.
    fn is_device(&self) -> bool {
        self.live && self.allows_everything()
    }

    /// Whether it makes, or made, its holder one of the owner's devices.
    #[must_use]
    pub fn allows_everything(&self) -> bool {
        self.grant.actions == Actions::ALL && self.grant.scope == Scope::everything() && self.grant.timelines == Timelines::All
    }

    /// Whether fetching by it means fetching timelines whole. A grant for one key does, whatever its scope: there is no
    /// smaller part to fetch. For anyone it has to be meant, or a public corner would make everything public.
    fn carries_timeline(&self) -> bool {
        self.grant.audience != Audience::Anyone || self.grant.scope == Scope::everything()
    }

    /// Where it is good, with the holder's key in the place of `{author}`.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.grant.own_scope()
    }
}

/// A statement that takes a grant back.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// What it says.
    pub revoke: Revoke,
    /// The op.
    pub op: OpId,
    /// Who made it.
    pub author: PublicKey,
    /// In the name of which grant; `None` for a root key.
    pub issuer: Option<GrantId>,
    /// Unix milliseconds when, as the author said.
    pub time_ms: u64,
    /// Whether it has an effect.
    effective: bool,
    change: u32,
}

impl Revocation {
    /// Whether it has an effect.
    #[must_use]
    pub fn is_effective(&self) -> bool {
        self.effective
    }
}

/// Changes that an effective revocation keeps, with all before them: their ops have an effect where its issuer could
/// have made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper<'a> {
    /// The revocation.
    pub op: OpId,
    /// What it keeps.
    pub keep: &'a [ChangeId],
    /// Where, in parts: one for everything leaves out [`OWN_WORDS`].
    pub scopes: Vec<Scope>,
    /// In which timelines.
    pub timelines: &'a Timelines,
}

/// What a statement changed for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Known grants that are in force again, in order.
    pub live: Vec<GrantId>,
    /// Grants that no longer are, in order.
    pub dead: Vec<GrantId>,
    /// Whether other changes are kept by revocations now.
    pub kept: bool,
    /// Whether another key is the root now.
    pub root: bool,
    /// Whether other timelines show at some paths.
    pub mounts: bool,
}

impl Changed {
    /// Whether it changed nothing for others.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What has to be decided again when something was said.
#[derive(Debug, PartialEq, Eq)]
enum Again {
    Nothing,
    /// What these revocations of known grants, by place, do.
    Revocations(Vec<usize>),
    All,
}

/// The statements of one space.
#[derive(Clone, Debug)]
pub struct Rights {
    space: PublicKey,
    main: TimelineId,
    dag: Dag,
    roots: Roots,
    grants: HashMap<GrantId, Held>,
    /// The same in the order in which they came.
    order: Vec<GrantId>,
    /// Grants that were stated, and are wider than what they were handed on from.
    void: HashSet<GrantId>,
    /// Grants by who may use them.
    audiences: HashMap<Audience, Vec<GrantId>>,
    revocations: Vec<Revocation>,
    /// Places in `revocations` by the grant that they name.
    targets: HashMap<GrantId, Vec<usize>>,
    /// The same by the grant in whose name they are.
    issued: HashMap<GrantId, Vec<usize>>,
    /// Grants by the one that they were handed on from.
    below: HashMap<GrantId, Vec<GrantId>>,
    /// Numbers of changes by the grant in whose name they are.
    said: HashMap<GrantId, Vec<u32>>,
    /// How many statements there are of each author.
    stated: HashMap<PublicKey, u64>,
    /// Mounts, by what a revocation names them.
    mounts: BTreeMap<GrantId, Mount>,
    /// Those that show, by path.
    shown: BTreeMap<Box<[Segment]>, GrantId>,
    /// What was worked out for some keys.
    parties: explain::Parties,
}

impl Rights {
    /// No statements yet.
    #[must_use]
    pub fn new(space: PublicKey) -> Self {
        Self {
            space,
            main: TimelineId::named(&space, "main"),
            dag: Dag::default(),
            roots: Roots::new(space),
            grants: HashMap::new(),
            order: Vec::new(),
            void: HashSet::new(),
            audiences: HashMap::new(),
            revocations: Vec::new(),
            targets: HashMap::new(),
            issued: HashMap::new(),
            below: HashMap::new(),
            said: HashMap::new(),
            stated: HashMap::new(),
            mounts: BTreeMap::new(),
            shown: BTreeMap::new(),
            parties: explain::Parties::default(),
        }
    }

    /// The space's first statement, once known. Of several different ones it is the one with the smallest state id;
    /// [`Rights::disputed`] tells.
    #[must_use]
    pub fn genesis(&self) -> Option<&Genesis> {
        self.roots.states().iter().filter(|state| state.from.is_none()).min_by_key(|state| state.id).map(|state| &state.plan)
    }

    /// The key that is the root now: that of the last state of which there is no dispute.
    #[must_use]
    pub fn root(&self) -> PublicKey {
        self.roots.current()
    }

    /// The last root state of which there is no dispute; `None` before the first, or while there are several first ones.
    #[must_use]
    pub fn root_state(&self) -> Option<&RootState> {
        self.roots.settled()
    }

    /// Every root state that was rightfully claimed.
    #[must_use]
    pub fn root_states(&self) -> &[RootState] {
        self.roots.states()
    }

    /// Root states between which nothing decides; none if all is well. While there are some, root keys can say nothing
    /// new. Their statements together prove that somebody signed two things.
    pub fn disputed(&self) -> impl Iterator<Item = &RootState> {
        self.roots.disputed()
    }

    /// A grant by id.
    #[must_use]
    pub fn grant(&self, id: &GrantId) -> Option<&Held> {
        self.grants.get(id)
    }

    /// All grants.
    pub fn grants(&self) -> impl Iterator<Item = (&GrantId, &Held)> {
        self.grants.iter()
    }

    /// The grants that came after the first so many, which whoever keeps count of them has looked at.
    pub fn grants_from(&self, looked_at: usize) -> impl Iterator<Item = (GrantId, &Held)> {
        let order = self.order.get(looked_at..).unwrap_or_default();
        order.iter().filter_map(|id| Some((*id, self.grants.get(id)?)))
    }

    /// All revocations, as they came.
    #[must_use]
    pub fn revocations(&self) -> &[Revocation] {
        &self.revocations
    }

    /// Whether a grant is known and in force.
    #[must_use]
    pub fn is_live(&self, id: &GrantId) -> bool {
        self.grants.get(id).is_some_and(|held| held.live)
    }

    /// Whether what `author` wrote in the name of `cap` has an effect by itself, if his chain has no fork.
    #[must_use]
    pub fn rooted(&self, author: &PublicKey, cap: Option<&GrantId>) -> bool {
        match cap {
            Some(cap) => self.is_live(cap),
            None => self.roots.current() == *author,
        }
    }

    /// What effective revocations keep.
    pub fn keepers(&self) -> impl Iterator<Item = Keeper<'_>> {
        self.revocations.iter().filter(|revocation| revocation.effective && !revocation.revoke.keep.is_empty()).map(|revocation| {
            let issuer = revocation.issuer.as_ref().and_then(|issuer| self.grants.get(issuer));
            Keeper {
                op: revocation.op,
                keep: &revocation.revoke.keep,
                scopes: self.parts(issuer, issuer.map_or_else(Scope::everything, Held::scope)),
                timelines: issuer.map_or(&Timelines::All, |issuer| &issuer.grant.timelines),
            }
        })
    }

    /// The grant that makes a key one of the owner's devices: everything, from the root or from another device.
    #[must_use]
    pub fn device_grant(&self, key: &PublicKey) -> Option<GrantId> {
        self.device_grants(key).into_iter().next()
    }

    /// All of them, the best first. Some may have ended, or have no room left: [`Rights::check`] tells.
    #[must_use]
    pub fn device_grants(&self, key: &PublicKey) -> Vec<GrantId> {
        let own = self.audiences.get(&Audience::Key(*key)).into_iter().flatten();
        self.best_first(own.filter_map(|id| Some((*id, self.grants.get(id).filter(|held| held.is_device())?))))
    }

    /// The owner's devices, each once, also if several grants make it one.
    pub fn devices(&self) -> impl Iterator<Item = PublicKey> {
        let devices = self.grants.values().filter(|held| held.is_device()).filter_map(|held| match held.grant.audience {
            Audience::Key(key) => Some(key),
            Audience::Anyone => None,
        });
        devices.collect::<BTreeSet<_>>().into_iter()
    }

    /// How many statements somebody made. All of them are kept at hand, whatever becomes of them.
    #[must_use]
    pub fn statements_of(&self, author: &PublicKey) -> u64 {
        self.stated.get(author).copied().unwrap_or(0)
    }

    /// Whether a key is or was one of the owner's devices.
    #[must_use]
    pub fn was_device(&self, key: &PublicKey) -> bool {
        let own = self.audiences.get(&Audience::Key(*key)).into_iter().flatten();
        own.filter_map(|id| self.grants.get(id)).any(Held::allows_everything)
    }

    /// Takes in the statements of an admitted `auth` change, and says what they changed for others. Changes come in any
    /// order in which each comes after those it stands on, and after the grant that it names.
    pub fn learn(&mut self, id: ChangeId, header: &Header, body: &Body) -> Changed {
        let mut changed = match self.learn_only(id, header, body) {
            Again::Nothing => return Changed::default(),
            Again::All => self.evaluate(),
            Again::Revocations(new) => self.evaluate_new(&new),
        };
        // What the change itself grants is no news to anybody.
        let is_old = |id_of: &GrantId| self.grants.get(id_of).is_some_and(|held| held.op.change != id);
        changed.live.retain(is_old);
        changed.dead.retain(is_old);
        changed
    }

    /// Takes in many at once, which is quicker.
    pub fn learn_all(&mut self, changes: impl IntoIterator<Item = (ChangeId, Header, Body)>) -> Changed {
        let mut again = false;
        for (id, header, body) in changes {
            again |= self.learn_only(id, &header, &body) != Again::Nothing;
        }
        if again { self.evaluate() } else { Changed::default() }
    }

    /// Remembers statements. Answers which older ones have to be looked at again.
    fn learn_only(&mut self, id: ChangeId, header: &Header, body: &Body) -> Again {
        if self.dag.knows(&id) {
            return Again::Nothing;
        }
        // What is encrypted is read by nobody here: rights are for all to see.
        let ops = if header.encryption.is_some() { &[] } else { body.ops.as_slice() };
        self.parties = explain::Parties::default();
        *self.stated.entry(header.author).or_default() += ops.len() as u64;
        let number = self.dag.push(id, header.deps(), header.cap.is_none());
        self.roots.push(self.dag.deps(number));
        if let Some(cap) = header.cap {
            // A revocation is asked whether it had seen what was said in the name of what it takes back, or further down.
            let named = ops.iter().filter_map(|op| if let Op::Revoke(revoke) = op { Some(revoke.grant) } else { None });
            let mut concerned: Vec<u32> = self.all_below(named).iter().filter_map(|id| self.said.get(id)).flatten().copied().collect();
            concerned.sort_unstable();
            self.dag.keep(number, &concerned);
            self.said.entry(cap).or_default().push(number);
        }
        let mut again = false;
        let mut new = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let op_id = OpId { change: id, index: index as u32 };
            match op {
                Op::Genesis(genesis) if header.author == self.space && header.cap.is_none() => {
                    self.roots.begin(self.space, op_id, number, genesis);
                    again = true;
                }
                Op::Succeed(succeed) if index == 0 && header.cap.is_none() && succeed.root == header.author => {
                    if let Some(class) = self.dag.past(number).and_then(|past| self.roots.class_of(succeed, past)) {
                        self.roots.succeed(op_id, number, succeed, class);
                        again = true;
                    }
                }
                Op::Grant(grant) => {
                    let is_known = self.learn_grant(op_id, number, header, grant);
                    new.extend(self.targets.get(&op_id.grant()).into_iter().flatten().filter(|_| is_known));
                }
                Op::Mount { path, mode, .. } => again |= self.learn_mount(op_id, number, header, path, *mode),
                Op::Revoke(revoke) => {
                    let place = self.revocations.len();
                    self.targets.entry(revoke.grant).or_default().push(place);
                    if let Some(cap) = header.cap {
                        self.issued.entry(cap).or_default().push(place);
                    }
                    // What is said without authority is said without effect, for ever, unless the grant that it names is yet to come.
                    let counts = header.cap.is_none_or(|cap| self.has_authority(&cap, &revoke.grant));
                    if counts && self.grants.contains_key(&revoke.grant) {
                        new.push(place);
                    } else {
                        again |= counts;
                    }
                    self.revocations.push(Revocation {
                        revoke: revoke.clone(),
                        op: op_id,
                        author: header.author,
                        issuer: header.cap,
                        time_ms: header.time_ms,
                        effective: false,
                        change: number,
                    });
                }
                _ => {}
            }
        }
        match (again, new.is_empty()) {
            (true, _) => Again::All,
            (false, true) => Again::Nothing,
            (false, false) => Again::Revocations(new),
        }
    }

    /// Those grants, and all that were handed on from them.
    fn all_below(&self, grants: impl IntoIterator<Item = GrantId>) -> BTreeSet<GrantId> {
        let mut all = BTreeSet::new();
        let mut queue: Vec<GrantId> = grants.into_iter().filter(|id| self.grants.contains_key(id)).collect();
        while let Some(id) = queue.pop() {
            if all.insert(id) {
                queue.extend(self.below.get(&id).into_iter().flatten());
            }
        }
        all
    }

    fn learn_grant(&mut self, op: OpId, change: u32, header: &Header, grant: &Grant) -> bool {
        let id = op.grant();
        let parent = header.cap.as_ref().and_then(|cap| self.grants.get(cap));
        let chain = match (header.cap, parent) {
            (None, _) if self.roots.is_root_key(&header.author) => 1,
            (Some(_), Some(held)) if held.chain < CHAIN_MAX && is_narrower(grant, &held.grant) => held.chain + 1,
            _ => {
                self.void.insert(id);
                return false;
            }
        };
        let held = Held { grant: grant.clone(), parent: header.cap, chain, op, author: header.author, time_ms: header.time_ms, live: false, change };
        self.grants.insert(id, held);
        self.order.push(id);
        if let Some(parent) = header.cap {
            self.below.entry(parent).or_default().push(id);
        }
        self.audiences.entry(grant.audience).or_default().push(id);
        let live = self.is_in_force(&id);
        if let Some(held) = self.grants.get_mut(&id) {
            held.live = live;
        }
        // A revocation may have waited for it.
        self.targets.contains_key(&id)
    }

    /// Whether the holder of a grant may say something about rights in its name, as far as is known here.
    #[must_use]
    pub fn may_state(&self, cap: &GrantId, op: &Op) -> bool {
        let Some(held) = self.grants.get(cap).filter(|held| held.live) else { return false };
        match op {
            Op::Grant(grant) => held.chain < CHAIN_MAX && is_narrower(grant, &held.grant),
            Op::Revoke(revoke) => self.has_authority(cap, &revoke.grant),
            _ => held.is_device(),
        }
    }

    /// The best live grant of a key in whose name all of this may be said.
    #[must_use]
    pub fn cap_to_state(&self, key: &PublicKey, ops: &[Op]) -> Option<GrantId> {
        self.caps_to_state(key, ops).into_iter().next()
    }

    /// All of them, the best first. Some may have ended, or have no room left: [`Rights::check`] tells.
    #[must_use]
    pub fn caps_to_state(&self, key: &PublicKey, ops: &[Op]) -> Vec<GrantId> {
        let own = self.audiences.get(&Audience::Key(*key)).into_iter().flatten();
        let fitting = own.filter(|cap| ops.iter().all(|op| self.may_state(cap, op)));
        self.best_first(fitting.filter_map(|cap| Some((*cap, self.grants.get(cap)?))))
    }

    /// Decides which of some revocations of grants are effective, and what that means for what is below those. As much as there
    /// is below is looked at, and not all that was ever said.
    fn evaluate_new(&mut self, new: &[usize]) -> Changed {
        let mut named = Vec::new();
        let mut changed = Changed::default();
        for at in new {
            let revocation = &self.revocations[*at];
            if !revocation.effective && self.has_effect(revocation) {
                named.push(revocation.revoke.grant);
                changed.kept |= !revocation.revoke.keep.is_empty();
                self.revocations[*at].effective = true;
            }
        }
        if named.is_empty() {
            return changed;
        }
        let below = self.all_below(named);
        let mut issued = below.iter().filter_map(|id| self.issued.get(id)).flatten().map(|at| &self.revocations[*at]);
        // What was taken back has taken something back itself.
        if issued.any(|revocation| revocation.effective != self.has_effect(revocation)) {
            new.iter().for_each(|at| self.revocations[*at].effective = false);
            return self.evaluate();
        }
        for id in &below {
            let live = self.is_in_force(id);
            if let Some(held) = self.grants.get_mut(id)
                && held.live != live
            {
                held.live = live;
                if live { changed.live.push(*id) } else { changed.dead.push(*id) }
            }
        }
        changed.mounts = !self.mounts.is_empty() && self.evaluate_mounts();
        changed
    }

    /// Decides anew which revocations are effective and which grants are live.
    fn evaluate(&mut self) -> Changed {
        let root = self.roots.current();
        self.roots.evaluate(&self.dag);
        let kept: Vec<bool> = self.revocations.iter().map(|revocation| revocation.effective && !revocation.revoke.keep.is_empty()).collect();
        // Whoever may take an issuer's grant stands above it, or is one of the owner's devices, which only those above them take back. So
        // from the devices and from the top down each question finds its answer.
        let place = |revocation: &Revocation| {
            let issuer = revocation.issuer.as_ref().and_then(|issuer| self.grants.get(issuer));
            issuer.map_or((false, 0), |held| (!held.allows_everything(), held.chain))
        };
        let mut order: Vec<((bool, u8), usize)> = self.revocations.iter().map(place).zip(0..).collect();
        order.sort_unstable();
        self.revocations.iter_mut().for_each(|revocation| revocation.effective = false);
        for (_, at) in order {
            self.revocations[at].effective = self.has_effect(&self.revocations[at]);
        }
        let mut changed = Changed {
            kept: self.revocations.iter().zip(kept).any(|(now, before)| (now.effective && !now.revoke.keep.is_empty()) != before),
            root: root != self.roots.current(),
            ..Changed::default()
        };
        let lives: Vec<(GrantId, bool)> = self.grants.keys().map(|id| (*id, self.is_in_force(id))).collect();
        for (id, live) in lives {
            if let Some(held) = self.grants.get_mut(&id)
                && held.live != live
            {
                held.live = live;
                if live { changed.live.push(id) } else { changed.dead.push(id) }
            }
        }
        changed.live.sort_unstable();
        changed.dead.sort_unstable();
        changed.mounts = self.evaluate_mounts();
        changed
    }

    /// A grant and those it was handed on from, up to the root's.
    fn links(&self, id: &GrantId) -> impl Iterator<Item = (GrantId, &Held)> {
        let mut at = Some(*id);
        std::iter::from_fn(move || {
            let id = at?;
            let held = self.grants.get(&id)?;
            at = held.parent;
            Some((id, held))
        })
    }

    /// Effective revocations that kill a grant.
    fn killers(&self, id: &GrantId) -> impl Iterator<Item = &Revocation> {
        self.killers_of(id, None)
    }

    /// Effective revocations that kill a grant, or what was stated in its name by the change `below`.
    fn killers_of(&self, id: &GrantId, mut below: Option<u32>) -> impl Iterator<Item = &Revocation> {
        self.links(id).flat_map(move |(link, held)| {
            let next = below.replace(held.change);
            let named = self.targets.get(&link).map_or(&[][..], Vec::as_slice);
            let reaches = move |revocation: &&Revocation| match next {
                Some(next) => revocation.revoke.cascade || !self.dag.is_before(next, revocation.change),
                None => true,
            };
            named.iter().map(|at| &self.revocations[*at]).filter(|revocation| revocation.effective).filter(reaches)
        })
    }

    /// Whether the root key that a grant comes from gave it while it could.
    fn comes_from_root(&self, id: &GrantId) -> bool {
        self.links(id).last().is_some_and(|(_, first)| first.parent.is_none() && self.roots.counts(&self.dag, &first.author, first.change))
    }

    fn is_in_force(&self, id: &GrantId) -> bool {
        self.comes_from_root(id) && self.killers(id).next().is_none()
    }

    /// Whether a revocation has an effect, once that is known of those from further up.
    fn has_effect(&self, revocation: &Revocation) -> bool {
        let Some(issuer) = &revocation.issuer else {
            return self.roots.counts(&self.dag, &revocation.author, revocation.change);
        };
        self.has_authority(issuer, &revocation.revoke.grant)
            && self.comes_from_root(issuer)
            && self.killers(issuer).all(|killer| self.dag.is_before(revocation.change, killer.change))
    }

    /// Whether the holder of one grant may take another back.
    fn has_authority(&self, issuer: &GrantId, target: &GrantId) -> bool {
        let (Some(by), Some(held)) = (self.grants.get(issuer), self.grants.get(target)) else { return self.may_unmount(issuer, target) };
        let is_above = self.links(target).skip(1).any(|(link, _)| link == *issuer);
        if is_above && by.grant.actions.contains(Actions::GRANT) {
            return true;
        }
        // Whom one device let in every other one can throw out, also when the first is lost. Devices among themselves cannot.
        if by.allows_everything() && !held.allows_everything() {
            return true;
        }
        let is_plain = !held.grant.actions.contains(Actions::GRANT) && !held.grant.actions.contains(Actions::MODERATE);
        by.grant.actions.contains(Actions::MODERATE)
            && is_plain
            && by.scope().includes(&held.scope())
            && by.grant.timelines.includes(&held.grant.timelines)
    }
}

/// Whether a grant stays within the one it is handed on from.
#[must_use]
pub fn is_narrower(child: &Grant, parent: &Grant) -> bool {
    let limit = |child: u64, parent: u64| parent == 0 || (child > 0 && child <= parent);
    parent.actions.contains(Actions::GRANT)
        && parent.actions.contains(child.actions)
        && parent.own_scope().includes(&child.own_scope())
        && parent.timelines.includes(&child.timelines)
        && limit(child.bytes_max, parent.bytes_max)
        && limit(child.change_bytes_max, parent.change_bytes_max)
        && limit(child.not_after_ms, parent.not_after_ms)
        && child.depth < parent.depth
}
