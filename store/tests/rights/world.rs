//! Spaces whose members all lie: statements on top of anything, in the name of whatever lets them in.

use std::collections::BTreeSet;

use timebus_identity::PublicKey;
use timebus_store::change::{Body, Header, Kind};
use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{ChangeId, GrantId, OpId, TimelineId};
use timebus_store::op::Op;

use crate::dice::Dice;
use crate::oracle::{Oracle, Statement, Universe, Weak};

pub(crate) const MEMBERS: usize = 4;

pub(crate) fn key(n: usize) -> PublicKey {
    PublicKey::from_bytes([n as u8 + 1; 32])
}

/// The paths and keys of all worlds.
pub(crate) fn universe() -> Universe {
    Universe::new(&(0..MEMBERS).map(key).collect::<Vec<_>>())
}

pub(crate) struct World {
    pub(crate) root: PublicKey,
    pub(crate) statements: Vec<Statement>,
    /// For each statement, the one that gave the grant it names.
    pub(crate) gave: Vec<Option<usize>>,
}

/// A grant that allows everything.
pub(crate) fn all(audience: PublicKey) -> Grant {
    Grant {
        audience: Audience::Key(audience),
        scope: Scope::everything(),
        timelines: Timelines::All,
        actions: Actions::ALL,
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 7,
        label: "".into(),
    }
}

fn scope(dice: &mut Dice) -> Scope {
    let name = |name: &str| ScopeSegment::Name(name.into());
    let mut segments = match dice.below(9) {
        0..=2 => vec![],
        3 | 4 => vec![name("a")],
        5 => vec![name("a"), name("b")],
        6 => vec![ScopeSegment::Author],
        7 => vec![name("a"), ScopeSegment::Author],
        _ => vec![ScopeSegment::Name(key(dice.below(MEMBERS)).to_string().into())],
    };
    if segments.len() < 2 && dice.percent(10) {
        segments.push(name("b"));
    }
    Scope { segments, deep: dice.percent(85) }
}

fn timelines(dice: &mut Dice) -> Timelines {
    match dice.below(6) {
        0 => Timelines::Main,
        1 => Timelines::Only(vec![TimelineId([1; 32])]),
        2 => Timelines::Only(vec![TimelineId([1; 32]), TimelineId([2; 32])]),
        _ => Timelines::All,
    }
}

fn limit(dice: &mut Dice) -> u64 {
    if dice.percent(85) { 0 } else { 1 + dice.below(3) as u64 }
}

/// A grant under another one: mostly narrower, sometimes not.
fn grant(dice: &mut Dice, parent: Option<&Grant>) -> Grant {
    let actions = [Actions::ALL, Actions(4 | 8), Actions(1 | 2 | 4), Actions(4 | 16), Actions(16), Actions(4 | 8 | 16), Actions(2)];
    let audience = if dice.percent(95) { Audience::Key(key(dice.below(MEMBERS))) } else { Audience::Anyone };
    let mut grant = Grant {
        audience,
        scope: scope(dice),
        timelines: timelines(dice),
        actions: actions[dice.below(actions.len())],
        bytes_max: limit(dice),
        change_bytes_max: limit(dice),
        not_after_ms: limit(dice),
        depth: [7, 7, 3, 2, 1, 0, 9][dice.below(7)],
        label: "".into(),
    };
    let Some(parent) = parent else {
        if dice.percent(50) {
            grant = Grant { audience, ..all(key(0)) };
        }
        return grant;
    };
    // One rule may be broken at a time; else hardly anything would be well-formed.
    let broken = if dice.percent(15) { dice.below(6) } else { 6 };
    if broken != 0 {
        grant.actions = Actions(grant.actions.0 & parent.actions.0);
    }
    if broken != 1 && dice.percent(80) {
        grant.scope = parent.scope.clone();
        if let Audience::Key(key) = grant.audience
            && dice.percent(70)
        {
            let holder = match parent.audience {
                Audience::Key(holder) => holder,
                Audience::Anyone => key,
            };
            grant.scope = parent.scope.of_author(&holder);
        }
        if dice.percent(20) && grant.scope.segments.len() < 2 && grant.scope.deep {
            grant.scope.segments.push(ScopeSegment::Name("a".into()));
        }
    }
    if broken != 2 {
        grant.timelines = parent.timelines.clone();
    }
    if broken != 3 {
        grant.bytes_max = parent.bytes_max;
        grant.change_bytes_max = parent.change_bytes_max;
        grant.not_after_ms = parent.not_after_ms;
    }
    if broken != 4 {
        grant.depth = parent.depth.saturating_sub(1);
    }
    grant
}

impl World {
    pub(crate) fn new(universe: &Universe, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let root = key(100);
        let keys: Vec<PublicKey> = (0..MEMBERS).map(key).collect();
        let mut world = Self { root, statements: Vec::new(), gave: Vec::new() };
        // Seldom a world of one long chain.
        let long = dice.percent(3);
        let count = if long { 12 } else { 3 + dice.below(11) };
        let mut given: Vec<(GrantId, Grant, usize)> = Vec::new();
        for at in 0..count {
            let set: BTreeSet<usize> = (0..at).collect();
            let oracle = Oracle::new(root, universe, &world.statements, &set, Weak::Nothing);
            let usable: Vec<&(GrantId, Grant, usize)> =
                given.iter().filter(|(id, grant, _)| matches!(&grant.audience, Audience::Key(key) if oracle.admits(key, id))).collect();
            let by = if usable.is_empty() || (!long && dice.percent(30)) {
                None
            } else if long {
                usable.last().copied()
            } else {
                Some(usable[dice.below(usable.len())])
            };
            let (author, cap, gave) = match by {
                Some((id, Grant { audience: Audience::Key(key), .. }, gave)) => (*key, Some(*id), Some(*gave)),
                _ => (root, None, None),
            };
            // Liars stand on what suits them; the honest on all that they know of.
            let deps: Vec<usize> = match dice.below(4) {
                0 => (0..at).filter(|_| dice.percent(25)).collect(),
                1 => (0..at).rev().take(1).collect(),
                _ => (0..at).filter(|_| dice.percent(90)).collect(),
            };
            let id = ChangeId(std::array::from_fn(|_| dice.any() as u8));
            let mut ops = Vec::new();
            for _ in 0..=dice.below(2) {
                let revokes = !long && !given.is_empty() && dice.percent(45);
                if revokes {
                    let target = if dice.percent(3) { GrantId([7; 32]) } else { given[dice.below(given.len())].0 };
                    let keep: BTreeSet<ChangeId> = (0..dice.below(3)).map(|n| ChangeId([n as u8; 32])).collect();
                    ops.push(Op::Revoke(Revoke { grant: target, cascade: dice.percent(35), keep: keep.into_iter().collect() }));
                } else if long {
                    // Depth alone would end it earlier.
                    let depth = 20 - at as u8;
                    ops.push(Op::Grant(Grant { depth, ..all(keys[dice.below(MEMBERS)]) }));
                } else {
                    ops.push(Op::Grant(grant(&mut dice, by.map(|(_, grant, _)| grant))));
                }
            }
            for (index, op) in ops.iter().enumerate() {
                if let Op::Grant(grant) = op {
                    given.push((OpId { change: id, index: index as u32 }.grant(), grant.clone(), at));
                }
            }
            world.statements.push(Statement { id, author, cap, deps, ops });
            world.gave.push(gave);
        }
        world
    }

    /// A header that says where a statement stands, as far as rights ask for it.
    pub(crate) fn header(&self, at: usize) -> Header {
        let statement = &self.statements[at];
        header(&self.root, statement, statement.deps.iter().map(|dep| self.statements[*dep].id).collect())
    }

    pub(crate) fn body(&self, at: usize) -> Body {
        Body { ops: self.statements[at].ops.clone(), ..Body::default() }
    }

    /// An order in which each comes after what it stands on and what let it in.
    pub(crate) fn order(&self, dice: &mut Dice) -> Vec<usize> {
        let mut waiting: Vec<usize> = (0..self.statements.len()).collect();
        let mut order = Vec::new();
        let mut here = vec![false; waiting.len()];
        while !waiting.is_empty() {
            dice.shuffle(&mut waiting);
            let ready = |at: &usize| self.statements[*at].deps.iter().chain(&self.gave[*at]).all(|dep| here[*dep]);
            let next = waiting.iter().position(ready).expect("the first that is left can come");
            let at = waiting.swap_remove(next);
            here[at] = true;
            order.push(at);
        }
        order
    }
}

pub(crate) fn header(root: &PublicKey, statement: &Statement, mut parents: Vec<ChangeId>) -> Header {
    parents.sort_unstable();
    Header {
        kind: Kind::Auth,
        timeline: TimelineId::named(root, "auth"),
        author: statement.author,
        seq: 1,
        prev: None,
        cap: statement.cap,
        parents,
        lamport: 1,
        time_ms: 0,
        cum: 0,
        body_len: 0,
        body_root: [0; 32],
        encryption: None,
    }
}
