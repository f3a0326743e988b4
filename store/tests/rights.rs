//! Rights against their definition: whatever order statements come in, and whoever lies in them.
//!
//! `TIMEBUS_RIGHTS_WORLDS=10000000 cargo test --release -p timebus-store --test rights -- --ignored` makes more
//! worlds; `TIMEBUS_SEED=17` begins at another one.

#[path = "rights/attacks.rs"]
mod attacks;
#[path = "support/dice.rs"]
mod dice;
#[path = "rights/mounts.rs"]
mod mounts;
#[path = "rights/oracle.rs"]
mod oracle;
#[path = "rights/script.rs"]
mod script;
#[path = "rights/small.rs"]
mod small;
#[path = "rights/succession.rs"]
mod succession;
#[path = "rights/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use dice::{Dice, setting};
use oracle::{Oracle, Universe, WEAKENINGS, Weak};
use timebus_store::auth::{CapError, Rights};
use timebus_store::ids::GrantId;
use world::{World, key, universe};

/// Orders in which each world is delivered.
const ORDERS: u64 = 3;
/// Worlds in an ordinary run; half a minute without optimization on two idle cores.
const WORLDS: u64 = 20_000;

/// Where two accounts of the rights differ, if they do.
fn difference(rights: &Rights, oracle: &Oracle<'_>, now_live: &BTreeMap<GrantId, bool>) -> Option<String> {
    for id in oracle.grants() {
        let expected = oracle.chain(id).map(|chain| (chain, oracle.is_live(id)));
        let found = rights.grant(id).map(|held| (usize::from(held.chain), held.is_live()));
        if found != expected {
            return Some(format!("{id}: {found:?}, by definition {expected:?}"));
        }
        if found.is_some() && now_live.get(id) != found.map(|(_, live)| live).as_ref() {
            return Some(format!("{id}: not told of a change"));
        }
        if rights.hidden_by(id).is_empty() != expected.is_none_or(|(_, live)| live) {
            return Some(format!("{id}: hidden for no reason, or none is told"));
        }
    }
    let effective: BTreeSet<_> = rights.revocations().iter().filter(|one| one.is_effective()).map(|one| one.op).collect();
    if effective != oracle.effective() {
        return Some(format!("effective: {effective:?}, by definition {:?}", oracle.effective()));
    }
    let keepers: BTreeMap<_, _> = rights.keepers().map(|one| (one.op, (one.keep.to_vec(), oracle.paths(&one.scopes[0], &key(0))))).collect();
    if keepers != oracle.keepers() {
        return Some(format!("keepers: {keepers:?}, by definition {:?}", oracle.keepers()));
    }
    let devices: BTreeSet<_> = rights.devices().collect();
    (devices != oracle.devices()).then(|| format!("devices: {devices:?}, by definition {:?}", oracle.devices()))
}

/// Delivers a world in an order, and compares in the middle and at the end.
fn check_order(universe: &Universe, world: &World, dice: &mut Dice, weak: Weak) -> Option<String> {
    let order = world.order(dice);
    let middle = dice.below(order.len());
    let mut rights = Rights::new(world.root);
    let mut now_live = BTreeMap::new();
    let mut set = BTreeSet::new();
    for (count, at) in order.into_iter().enumerate() {
        let header = world.header(at);
        if let Err(error) = rights.check(&header) {
            return Some(format!("statement {at} is not admitted: {error}"));
        }
        let changed = rights.learn(world.statements[at].id, &header, &world.body(at));
        for (ids, live) in [(changed.live, true), (changed.dead, false)] {
            for id in ids {
                if now_live.insert(id, live) != Some(!live) {
                    return Some(format!("{id}: told of what was so before"));
                }
            }
        }
        for (id, held) in rights.grants() {
            now_live.entry(*id).or_insert(held.is_live());
        }
        set.insert(at);
        if count == middle || set.len() == world.statements.len() {
            let oracle = Oracle::new(world.root, universe, &world.statements, &set, weak);
            if let Some(difference) = difference(&rights, &oracle, &now_live) {
                return Some(difference);
            }
            // That takes long: in some worlds.
            if set.len() == world.statements.len()
                && dice.percent(3)
                && let Some(difference) = oracle.differs(&rights)
            {
                return Some(difference);
            }
        }
    }
    None
}

fn check_worlds(first: u64, count: u64) {
    let next = AtomicU64::new(first);
    let universe = universe();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let world = World::new(&universe, seed);
                    for order in 0..ORDERS {
                        if let Some(difference) = check_order(&universe, &world, &mut Dice::new(seed << 8 | order), Weak::Nothing) {
                            panic!("TIMEBUS_SEED={seed} TIMEBUS_RIGHTS_WORLDS=1, order {order}: {difference}");
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn rights_are_what_the_definition_says_in_any_order() {
    check_worlds(setting("TIMEBUS_SEED", 0), setting("TIMEBUS_RIGHTS_WORLDS", WORLDS));
}

#[test]
#[ignore = "ten million worlds take hours without optimization"]
fn rights_are_what_the_definition_says_in_many_worlds() {
    check_worlds(setting("TIMEBUS_SEED", 1 << 32), setting("TIMEBUS_RIGHTS_WORLDS", 10_000_000));
}

/// A comparison that would not notice a weaker rule proves nothing about that rule.
#[test]
fn every_weakened_rule_is_noticed() {
    let universe = universe();
    for weak in WEAKENINGS {
        let caught = (0..40_000).find(|seed| check_order(&universe, &World::new(&universe, *seed), &mut Dice::new(*seed), weak).is_some());
        let caught = caught.unwrap_or_else(|| panic!("{weak:?} makes no difference in 40000 worlds"));
        eprintln!("{weak:?}: seen in world {caught}");
    }
}

#[test]
fn an_unknown_grant_may_come_and_a_void_one_stays_void() {
    let mut void = 0;
    let universe = universe();
    for seed in 0..200 {
        let world = World::new(&universe, seed);
        let mut rights = Rights::new(world.root);
        for at in 0..world.statements.len() {
            let header = world.header(at);
            if header.cap.is_some() {
                let early = Rights::new(world.root).check(&header).expect_err("nothing is known yet");
                assert!(early.is_pending(), "{early}");
            }
            rights.learn(world.statements[at].id, &header, &world.body(at));
        }
        let set = (0..world.statements.len()).collect();
        let oracle = Oracle::new(world.root, &universe, &world.statements, &set, Weak::Nothing);
        for id in oracle.grants().filter(|id| oracle.chain(id).is_none()) {
            let header = timebus_store::change::Header { cap: Some(*id), author: key(0), ..world.header(0) };
            assert_eq!(rights.check(&header), Err(CapError::Void(*id)));
            void += 1;
        }
    }
    assert!(void > 50, "only {void} void grants");
}
