//! Which key is the root of a space, and which statements of root keys count.
//!
//! A space begins with a [`Genesis`] by the key that names it. A [`Succeed`] goes from one root state to the next. It
//! is the first op of a change that the new root itself signed, made on top of the statement it follows. So
//! whether it is allowed is decided by the change and what came before it, once and for ever:
//!
//! - class a: by the old root, and the new root is the key whose hash the old state had named;
//! - class b: by as many guardians of the old state as that asks for;
//! - class c: by the old root, where the old state names neither a next root nor guardians.
//!
//! Of several for one step the best class wins. Two different ones of class a are both by somebody who has the old root
//! and the next one, as from a sheet that somebody saw: there guardians decide, by naming one of them or another root.
//! Two that nothing decides between are a dispute: there the chain of roots ends. Two different beginnings are a dispute
//! too: what a root key said on top of both does not count, until a succession decides.
//!
//! Which of two steps of class a was first nobody can tell: whoever has both keys can date anything back, build on any
//! statement, and follow his own step with more steps. So no rule over the statements alone finds the owner's without
//! somebody else's word, and without guardians a dispute of class a stays one.
//!
//! A statement of a root key counts if the next root had seen it: if it is in the past of a statement that made the next
//! root, of those that the root after that had seen, and so on. The last condition is what cuts old keys off: whoever has
//! an old root and the next one can say a step anew, on top of whatever he likes, but not have the root after it see that.
//! While there is a dispute, what the old root says counts if one of the disputed successors had seen it; of disputes by
//! the old root itself, if all of them had: else whoever has its key would have a successor of his see what he likes.

use timebus_identity::{PublicKey, hash};

use super::past::{Dag, Past};
use crate::grant::{Authority, Genesis, Succeed};
use crate::ids::OpId;

/// How a succession was allowed; the better is the smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// By the root, with the key it had committed to.
    Planned,
    /// By guardians.
    Guardians,
    /// By a root that had no plan.
    Unplanned,
}

/// A root key, what it committed to, and the statements that made it root.
#[derive(Clone, Debug)]
pub struct RootState {
    /// [`Genesis::state`] or [`Succeed::state`].
    pub id: [u8; 32],
    /// The key.
    pub root: PublicKey,
    /// The next root and the guardians that it named.
    pub plan: Genesis,
    /// The state before it; `None` at the beginning.
    pub from: Option<[u8; 32]>,
    /// How it was allowed; `None` at the beginning.
    pub class: Option<Class>,
    /// Whether enough guardians said so, however else it was allowed.
    pub is_backed: bool,
    /// The ops that say so, with the number of their change.
    statements: Vec<(OpId, u32)>,
}

impl RootState {
    /// The ops that say so.
    pub fn statements(&self) -> impl Iterator<Item = &OpId> {
        self.statements.iter().map(|(op, _)| op)
    }
}

/// A root with the changes that made it root, of those that the next one had seen; none for the first.
#[derive(Clone, Debug)]
struct Reign {
    root: PublicKey,
    began: Vec<u32>,
}

/// All root states of a space.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    states: Vec<RootState>,
    /// Undisputed roots, the first one first; never empty.
    reigns: Vec<Reign>,
    /// Place in `states` of the last one of which there is no dispute; none if there are several beginnings, or none.
    settled: Option<usize>,
    /// Places in `states` of those that nothing decides between.
    disputed: Vec<usize>,
    /// For each of them the changes that made it root, of those that whoever follows it had seen.
    claims: Vec<Vec<u32>>,
    /// For each change of the timeline, which beginnings it and its past hold.
    beginnings: Vec<Beginnings>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginnings {
    None,
    One(usize),
    Several,
}

impl Beginnings {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, seen) | (seen, Self::None) => seen,
            (Self::One(a), Self::One(b)) if a == b => self,
            _ => Self::Several,
        }
    }
}

impl Roots {
    pub(super) fn new(space: PublicKey) -> Self {
        Self {
            states: Vec::new(),
            reigns: vec![Reign { root: space, began: Vec::new() }],
            settled: None,
            disputed: Vec::new(),
            claims: Vec::new(),
            beginnings: Vec::new(),
        }
    }

    /// Every root state that was ever allowed.
    pub(super) fn states(&self) -> &[RootState] {
        &self.states
    }

    /// The states that nothing decides between; empty if all is well.
    pub(super) fn disputed(&self) -> impl Iterator<Item = &RootState> {
        self.disputed.iter().map(|at| &self.states[*at])
    }

    /// The last undisputed state.
    pub(super) fn settled(&self) -> Option<&RootState> {
        self.settled.map(|at| &self.states[at])
    }

    /// The root of the last undisputed state.
    pub(super) fn current(&self) -> PublicKey {
        self.reigns[self.reigns.len() - 1].root
    }

    /// Whether a key is, was or claims rightfully to be root: its changes are admitted.
    pub(super) fn is_root_key(&self, key: &PublicKey) -> bool {
        self.reigns[0].root == *key || self.states.iter().any(|state| state.root == *key)
    }

    /// Whether, and how, a change by the new root may say so, given what came before it.
    pub(super) fn class_of(&self, succeed: &Succeed, past: &Past) -> Option<Class> {
        let before = self.states.iter().find(|state| state.id == succeed.from)?;
        if !before.statements.iter().any(|(_, number)| past.contains(*number)) {
            return None;
        }
        let message = succeed.signing_message();
        match &succeed.authority {
            Authority::Root(signature) => {
                let class = match (&before.plan.next, &before.plan.guardians) {
                    (Some(next), _) => (*next == hash("next root", &[succeed.root.as_bytes()])).then_some(Class::Planned)?,
                    (None, None) => Class::Unplanned,
                    (None, Some(_)) => return None,
                };
                before.root.verify(&message, signature).ok()?;
                Some(class)
            }
            Authority::Guardians(signatures) => {
                let (needed, guardians) = before.plan.guardians.as_ref()?;
                if signatures.len() < usize::from(*needed) || !signatures.iter().all(|(key, _)| guardians.contains(key)) {
                    return None;
                }
                signatures.iter().all(|(key, signature)| key.verify(&message, signature).is_ok()).then_some(Class::Guardians)
            }
        }
    }

    /// Numbers a change that stands on these.
    pub(super) fn push(&mut self, deps: &[u32]) {
        let seen = deps.iter().filter_map(|dep| self.beginnings.get(*dep as usize)).fold(Beginnings::None, |all, seen| all.and(*seen));
        self.beginnings.push(seen);
    }

    /// Takes in the first statement of a space, by the key that names it.
    pub(super) fn begin(&mut self, space: PublicKey, op: OpId, number: u32, genesis: &Genesis) {
        let at = self.add(
            op,
            number,
            RootState {
                id: genesis.state(&space),
                root: space,
                plan: genesis.clone(),
                from: None,
                class: None,
                is_backed: false,
                statements: Vec::new(),
            },
        );
        if let Some(seen) = self.beginnings.get_mut(number as usize) {
            *seen = seen.and(Beginnings::One(at));
        }
    }

    /// Takes in an allowed succession.
    pub(super) fn succeed(&mut self, op: OpId, number: u32, succeed: &Succeed, class: Class) {
        self.add(
            op,
            number,
            RootState {
                id: succeed.state(),
                root: succeed.root,
                plan: succeed.plan.clone(),
                from: Some(succeed.from),
                class: Some(class),
                is_backed: class == Class::Guardians,
                statements: Vec::new(),
            },
        );
    }

    fn add(&mut self, op: OpId, number: u32, state: RootState) -> usize {
        let (class, is_backed) = (state.class, state.is_backed);
        let at = self.states.iter().position(|known| known.id == state.id).unwrap_or(self.states.len());
        if at == self.states.len() {
            self.states.push(state);
        }
        let known = &mut self.states[at];
        known.statements.push((op, number));
        // The old root and guardians may both name the same one: then it counts as the better of the two.
        known.class = known.class.min(class);
        known.is_backed |= is_backed;
        at
    }

    /// Finds the chain of roots anew.
    pub(super) fn evaluate(&mut self, dag: &Dag) {
        self.reigns.truncate(1);
        let beginnings: Vec<usize> = (0..self.states.len()).filter(|at| self.states[*at].from.is_none()).collect();
        let (chain, disputed) = self.chain_from(&beginnings);
        self.settled = match (chain.last(), &beginnings[..]) {
            (Some(last), _) => Some(*last),
            (None, [only]) => Some(*only),
            (None, _) => None,
        };
        self.disputed = match (disputed.is_empty(), chain.is_empty() && beginnings.len() > 1) {
            (true, true) => beginnings,
            _ => disputed,
        };
        let claim = |at: &usize| {
            let (after, disputed) = self.chain_from(&[*at]);
            let all: Vec<usize> = [*at].into_iter().chain(after).collect();
            self.seen_by_the_next(dag, &all, &self.said(&disputed)).swap_remove(0)
        };
        self.claims = self.disputed.iter().filter(|at| self.states[**at].from.is_some()).map(claim).collect();
        let began = self.seen_by_the_next(dag, &chain, &self.claims.concat());
        self.reigns.extend(chain.iter().zip(began).map(|(at, began)| Reign { root: self.states[*at].root, began }));
    }

    /// The states that follow these step by step, and those of the next step between which nothing decides.
    fn chain_from(&self, first: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let mut chain = Vec::new();
        let mut candidates = first.to_vec();
        // Each step goes to a state made of the hash of the one before it, so this ends.
        loop {
            let follows = |at: &usize| self.states[*at].from.is_some_and(|from| candidates.iter().any(|before| self.states[*before].id == from));
            let best = self.best((0..self.states.len()).filter(follows).collect());
            match best[..] {
                [] => return (chain, Vec::new()),
                [only] => chain.push(only),
                _ => return (chain, best),
            }
            candidates = best;
        }
    }

    /// Those of several for one step that no other one is better than.
    fn best(&self, next: Vec<usize>) -> Vec<usize> {
        let class = next.iter().filter_map(|at| self.states[*at].class).min();
        let best: Vec<usize> = next.iter().copied().filter(|at| self.states[*at].class == class).collect();
        let backed: Vec<usize> = next.into_iter().filter(|at| self.states[*at].is_backed).collect();
        let guardians_decide = class == Some(Class::Planned) && best.len() > 1 && !backed.is_empty();
        if guardians_decide { backed } else { best }
    }

    /// The changes that say some states.
    fn said(&self, states: &[usize]) -> Vec<u32> {
        states.iter().flat_map(|at| &self.states[*at].statements).map(|(_, number)| *number).collect()
    }

    /// For each state of a chain the changes that say it, of those that the next one had seen; `last` follow the last one, if any do.
    fn seen_by_the_next(&self, dag: &Dag, chain: &[usize], last: &[u32]) -> Vec<Vec<u32>> {
        let mut all = Vec::new();
        let mut next = last.to_vec();
        for at in chain.iter().rev() {
            let mut began = self.said(&[*at]);
            began.retain(|began| next.is_empty() || next.iter().any(|next| dag.is_before(*began, *next)));
            next.clone_from(&began);
            all.push(began);
        }
        all.reverse();
        all
    }

    /// Whether a statement without a cap, by this root key, counts.
    pub(super) fn counts(&self, dag: &Dag, author: &PublicKey, number: u32) -> bool {
        self.reigns.iter().enumerate().any(|(at, reign)| {
            let was_root = at == 0 || reign.began.iter().any(|began| *began == number || dag.is_before(*began, number));
            let was_seen = match self.reigns.get(at + 1) {
                Some(next) => next.began.iter().any(|began| dag.is_before(number, *began)),
                None => self.is_settled(dag, number),
            };
            reign.root == *author && was_root && was_seen
        })
    }

    /// Whether a statement of the last undisputed root was made before what is in dispute.
    fn is_settled(&self, dag: &Dag, number: u32) -> bool {
        match self.disputed().next() {
            None => return true,
            Some(state) if state.from.is_none() => return self.beginnings.get(number as usize) != Some(&Beginnings::Several),
            Some(_) => {}
        }
        let mut saw = self.claims.iter().map(|claim| claim.iter().any(|began| dag.is_before(number, *began)));
        let is_by_guardians = self.disputed().all(|state| state.class == Some(Class::Guardians));
        if is_by_guardians { saw.any(|saw| saw) } else { saw.all(|saw| saw) }
    }
}
