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

/// The world that some choices make. With `devices` a grant may make its holder one of the owner's devices; else all are admins.
fn world(grants: usize, revokes: usize, devices: bool, mut below: impl FnMut(usize) -> usize) -> Vec<Statement> {
    let root = key(100);
    let id = |at: usize| ChangeId([at as u8 + 1; 32]);
    let grant_id = |at: usize| OpId { change: id(at), index: 0 }.grant();
    let mut statements: Vec<Statement> = Vec::new();
    let mut parents = Vec::new();
    for at in 0..grants {
        // 0 is the root, n the grant before the n-th.
        let parent = below(at + 1).checked_sub(1);
        let chain = parent.map_or(0, |parent: usize| 7 - depth(&statements[parent]) + 1);
        let may_be = parent.is_none_or(|parent: usize| actions(&statements[parent]) == Actions::ALL);
        let actions = if devices && may_be && below(2) == 1 { Actions::ALL } else { Actions(4 | 8) };
        let grant = Grant { depth: 7 - chain, actions, ..all(key(at)) };
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

fn actions(statement: &Statement) -> Actions {
    match &statement.ops[0] {
        Op::Grant(grant) => grant.actions,
        _ => Actions(0),
    }
}

/// In which orders a world is delivered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orders {
    /// The one in which it was made.
    First,
    /// All in which each statement comes after what it had seen.
    All,
}

/// Delivers the rest of a world in each order, and compares at the end; answers in how many.
fn deliver(statements: &[Statement], oracle: &Oracle<'_>, orders: Orders, rights: &Rights, come: &mut Vec<usize>) -> u64 {
    let root = key(100);
    if come.len() == statements.len() {
        let now_live: BTreeMap<GrantId, bool> = rights.grants().map(|(id, held)| (*id, held.is_live())).collect();
        if let Some(difference) = difference(rights, oracle, &now_live) {
            panic!("{difference}: {statements:#?} in the order {come:?}");
        }
        return 1;
    }
    let mut count = 0;
    for (at, statement) in statements.iter().enumerate().filter(|(at, _)| !come.contains(at)).collect::<Vec<_>>() {
        let header = header(&root, statement, statement.deps.iter().map(|dep| statements[*dep].id).collect());
        if statement.deps.iter().any(|dep| !come.contains(dep)) || rights.check(&header).is_err() {
            continue;
        }
        let mut rights = rights.clone();
        rights.learn(statement.id, &header, &Body { ops: statement.ops.clone(), ..Body::default() });
        come.push(at);
        count += deliver(statements, oracle, orders, &rights, come);
        come.pop();
        if orders == Orders::First {
            break;
        }
    }
    count
}

fn check(universe: &Universe, statements: &[Statement], orders: Orders) -> u64 {
    let root = key(100);
    let set: BTreeSet<usize> = (0..statements.len()).collect();
    let oracle = Oracle::new(root, universe, statements, &set, Weak::Nothing);
    deliver(statements, &oracle, orders, &Rights::new(root), &mut Vec::new())
}

/// Every world of so many statements; answers how many there are, and in how many orders they came.
fn check_all(grants: usize, revokes: usize, devices: bool, orders: Orders) -> (u64, u64) {
    let universe = universe();
    let mut odometer = Odometer::default();
    let (mut worlds, mut ways) = (0, 0);
    loop {
        let found = check(&universe, &world(grants, revokes, devices, |end| odometer.below(end)), orders);
        assert!(found > 0, "some order is possible");
        (worlds, ways) = (worlds + 1, ways + found);
        if !odometer.turn() {
            return (worlds, ways);
        }
    }
}

#[test]
fn all_small_worlds_are_as_defined() {
    let found = [(1, 2), (2, 2), (3, 2)].map(|(grants, revokes)| check_all(grants, revokes, false, Orders::All));
    eprintln!("worlds and orders: {found:?}");
    assert_eq!(found.map(|(worlds, _)| worlds), [32, 936, 15_104]);
    assert!(found.iter().all(|(worlds, orders)| orders > worlds));
}

/// Devices among admins: who may do everything throws out whom another one let in, and no device throws out another.
#[test]
fn all_small_worlds_with_devices_are_as_defined() {
    let found = [(2, 2, Orders::All), (3, 2, Orders::First)].map(|(grants, revokes, orders)| check_all(grants, revokes, true, orders));
    eprintln!("worlds and orders: {found:?}");
    assert_eq!(found.map(|(worlds, _)| worlds), [3096, 81_920]);
}

#[test]
fn some_worlds_of_four_grants_and_three_revocations_are_as_defined() {
    let universe = universe();
    for seed in 0..10_000 {
        let mut dice = Dice::new(seed);
        check(&universe, &world(4, 3, seed % 2 == 1, |end| dice.below(end)), Orders::First);
    }
}

#[test]
#[ignore = "tens of millions of worlds"]
fn all_worlds_of_four_grants_and_three_revocations_are_as_defined() {
    eprintln!("{} worlds", check_all(4, 3, false, Orders::First).0);
}
