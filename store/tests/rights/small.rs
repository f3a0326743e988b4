//! All small worlds: up to four grants and three revocations, everybody an admin, every way to have seen and not seen.
//!
//! What a revocation had seen matters only for the grants handed on from its target and for other revocations, so
//! only these are varied.

use std::collections::{BTreeMap, BTreeSet};

use timebus_store::auth::Rights;
use timebus_store::change::Body;
use timebus_store::grant::{Actions, Grant, Revoke};
use timebus_store::ids::{ChangeId, GrantId, OpId};
use timebus_store::op::Op;

use crate::dice::Dice;
use crate::difference;
use crate::oracle::{Oracle, Statement, Universe, Weak};
use crate::world::{all, header, key, universe};

/// Goes through all ways to choose: the last choice is made differently each time, and when it has no more ways the
/// one before it.
#[derive(Default)]
struct Odometer {
    choices: Vec<(usize, usize)>,
    at: usize,
}

impl Odometer {
    fn below(&mut self, end: usize) -> usize {
        if self.at == self.choices.len() {
            self.choices.push((0, end));
        }
        self.at += 1;
        self.choices[self.at - 1].0
    }

    /// Whether there is another way.
    fn turn(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, end)) = self.choices.pop() {
            if choice + 1 < end {
                self.choices.push((choice + 1, end));
                return true;
            }
        }
        false
    }
}

/// The world that some choices make.
fn world(grants: usize, revokes: usize, mut below: impl FnMut(usize) -> usize) -> Vec<Statement> {
    let root = key(100);
    let id = |at: usize| ChangeId([at as u8 + 1; 32]);
    let grant_id = |at: usize| OpId { change: id(at), index: 0 }.grant();
    let mut statements: Vec<Statement> = Vec::new();
    let mut parents = Vec::new();
    for at in 0..grants {
        // 0 is the root, n the grant before the n-th.
        let parent = below(at + 1).checked_sub(1);
        let chain = parent.map_or(0, |parent: usize| 7 - depth(&statements[parent]) + 1);
        let grant = Grant { depth: 7 - chain, actions: Actions(4 | 8), ..all(key(at)) };
        let author = parent.map_or(root, key);
        statements.push(Statement { id: id(at), author, cap: parent.map(grant_id), deps: Vec::new(), ops: vec![Op::Grant(grant)] });
        parents.push(parent);
    }
    for at in grants..grants + revokes {
        let issuer = below(grants + 1).checked_sub(1);
        let target = below(grants);
        let cascade = below(2) == 1;
        let mut deps: Vec<usize> = (0..grants).filter(|grant| parents[*grant] == Some(target)).collect();
        deps.extend(grants..at);
        deps.retain(|_| below(2) == 1);
        let revoke = Revoke { grant: grant_id(target), cascade, keep: Vec::new() };
        let author = issuer.map_or(root, key);
        statements.push(Statement { id: id(at), author, cap: issuer.map(grant_id), deps, ops: vec![Op::Revoke(revoke)] });
    }
    statements
}

fn depth(statement: &Statement) -> u8 {
    match &statement.ops[0] {
        Op::Grant(grant) => grant.depth,
        _ => 0,
    }
}

fn check(universe: &Universe, statements: &[Statement]) {
    let root = key(100);
    let mut rights = Rights::new(root);
    for statement in statements {
        let header = header(&root, statement, statement.deps.iter().map(|dep| statements[*dep].id).collect());
        rights.learn(statement.id, &header, &Body { ops: statement.ops.clone(), ..Body::default() });
    }
    let set: BTreeSet<usize> = (0..statements.len()).collect();
    let oracle = Oracle::new(root, universe, statements, &set, Weak::Nothing);
    let now_live: BTreeMap<GrantId, bool> = rights.grants().map(|(id, held)| (*id, held.is_live())).collect();
    if let Some(difference) = difference(&rights, &oracle, &now_live) {
        panic!("{difference}: {statements:#?}");
    }
}

/// Every world of so many statements; answers how many there are.
fn check_all(grants: usize, revokes: usize) -> u64 {
    let universe = universe();
    let mut odometer = Odometer::default();
    let mut worlds = 0;
    loop {
        check(&universe, &world(grants, revokes, |end| odometer.below(end)));
        worlds += 1;
        if !odometer.turn() {
            return worlds;
        }
    }
}

#[test]
fn all_small_worlds_are_as_defined() {
    assert_eq!(check_all(1, 2), 32);
    assert_eq!(check_all(2, 2), 936);
    assert_eq!(check_all(3, 2), 15_104);
}

#[test]
fn some_worlds_of_four_grants_and_three_revocations_are_as_defined() {
    let universe = universe();
    for seed in 0..10_000 {
        let mut dice = Dice::new(seed);
        check(&universe, &world(4, 3, |end| dice.below(end)));
    }
}

#[test]
#[ignore = "tens of millions of worlds"]
fn all_worlds_of_four_grants_and_three_revocations_are_as_defined() {
    eprintln!("{} worlds", check_all(4, 3));
}
