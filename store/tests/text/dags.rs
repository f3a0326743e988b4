//! Random histories: diamond-types, the model and every order of delivery must agree.

use std::collections::BTreeSet;

use diamond_types::list::{Branch, OpLog};
use timebus_store::op::TextEdit;
use timebus_store::text::Budget;

use crate::dice::{Dice, setting};
use crate::history::{At, History, Text, edit, events};
use crate::model::Model;

const ALPHABET: [char; 12] = ['a', 'b', 'c', 'd', 'e', 'f', '한', 'é', '😀', 'x', 'y', 'z'];

/// Edits that fit a text of `len` characters.
pub(crate) fn random_edits(dice: &mut Dice, mut len: usize) -> Vec<TextEdit> {
    let mut edits = Vec::new();
    for _ in 0..1 + dice.below(3) / 2 {
        let pos = dice.below(len + 1);
        let del = if dice.percent(40) { dice.below((len - pos).min(7) + 1) } else { 0 };
        // Seldom something long, which makes it worth keeping several versions at hand.
        let most = if dice.percent(8) { 90 } else { 3 };
        let count = if del > 0 && dice.percent(60) { 0 } else { 1 + dice.below(most) };
        let ins: String = (0..count).map(|_| ALPHABET[dice.below(ALPHABET.len())]).collect();
        len = len - del + count;
        edits.push(edit(pos, del, &ins));
    }
    edits
}

/// A history of sites that write on what they have seen, and what diamond-types makes of it.
struct World {
    history: History,
    log: OpLog,
    /// Number in the log of each op's first event.
    starts: Vec<usize>,
}

impl World {
    fn random(dice: &mut Dice) -> Self {
        let mut world = Self { history: History::default(), log: OpLog::new(), starts: Vec::new() };
        let sites = 2 + dice.below(3);
        let mut tips: Vec<(Vec<usize>, Branch)> = (0..sites).map(|_| (Vec::new(), Branch::new())).collect();
        let mut next_seq = vec![0; sites];
        let agents: Vec<_> = (0..sites).map(|site| world.log.get_or_create_agent_id(NAMES[site])).collect();
        for _ in 0..2 + dice.below(14) {
            let site = dice.below(sites);
            if dice.percent(35) {
                let other = dice.below(sites);
                let version = tips[other].0.clone();
                // Seldom only a part of what the other wrote last.
                let version: Vec<usize> =
                    version.into_iter().map(|at| at - usize::from(at > 0 && dice.percent(30) && world.starts.binary_search(&at).is_err())).collect();
                let joined = world.log.version_union(&tips[site].0, &version);
                tips[site].1.merge(&world.log, &joined);
                tips[site].0 = tips[site].1.local_version().to_vec();
            }
            let edits = random_edits(dice, tips[site].1.len());
            let base: Vec<At> = tips[site].0.iter().map(|at| world.place(*at)).collect();
            world.history.say(site, NAMES[site], next_seq[site], &base, edits.clone());
            next_seq[site] += events(&edits);
            world.starts.push(world.log.len());
            let mut at = tips[site].0.clone();
            for edit in &edits {
                for pos in (edit.pos..edit.pos + edit.del).rev() {
                    at = vec![world.log.add_delete_at(agents[site], &at, pos as usize..pos as usize + 1)];
                }
                if !edit.ins.is_empty() {
                    at = vec![world.log.add_insert_at(agents[site], &at, edit.pos as usize, &edit.ins)];
                }
            }
            tips[site].1.merge(&world.log, &at);
            tips[site].0 = at;
        }
        world
    }

    fn place(&self, at: usize) -> At {
        let op = self.starts.partition_point(|start| *start <= at) - 1;
        (op, (at - self.starts[op] + 1) as u64)
    }

    fn text_at(&self, version: &[usize]) -> String {
        let mut branch = Branch::new();
        branch.merge(&self.log, version);
        branch.content().to_string()
    }
}

/// A random history in which every op is valid.
pub(crate) fn random_history(dice: &mut Dice) -> History {
    World::random(dice).history
}

const NAMES: [&str; 4] = ["m", "a", "zz", "b"];

#[test]
fn random_histories_give_what_diamond_types_and_the_model_give() {
    let first = setting("TIMEBUS_SEED", 0);
    for seed in first..first + setting("TIMEBUS_TEXTS", 1000) {
        let mut dice = Dice::new(seed);
        let world = World::random(&mut dice);
        let expected = world.text_at(world.log.local_version_ref());
        let straight: Vec<usize> = (0..world.history.said.len()).collect();
        let object = world.history.deliver(&straight, 1);
        assert_eq!(object.text(), expected, "seed {seed}");
        for _ in 0..2 {
            let order = world.history.shuffled(&mut dice);
            let portion = 1 + dice.below(order.len());
            assert_eq!(world.history.deliver(&order, portion).text(), expected, "seed {seed}, order {order:?} by {portion}");
        }
        if seed % 10 == 0 {
            let model = Model::of(&world.history, &straight.iter().copied().collect::<BTreeSet<_>>());
            assert!(model.without.is_empty(), "seed {seed}");
            assert_eq!(model.tip(), expected, "seed {seed}: the model");
        }
        // Versions, also of half an op.
        let at = dice.below(world.log.len());
        let (op, event) = world.place(at);
        let version = [(world.history.said[op].op.change, event)];
        let old = object.text_at(&version, &mut Budget::unlimited()).expect("known");
        assert_eq!(old, world.text_at(&[at]), "seed {seed}, version {op} {event}");
        let mut text = Text::new(&old);
        text.apply(&object.patches_since(&version, &mut Budget::unlimited()).expect("known"));
        assert_eq!(text.to_string(), expected, "seed {seed}, patches since version {op} {event}");
        // A stale edit on the tip is what the same edit is when it is merged.
        let edits = random_edits(&mut dice, old.chars().count());
        let mut other = object.clone();
        let moved = other.transform(&version, "q", 1000, &edits, &mut Budget::unlimited()).expect("it fits");
        let mut history = world.history.clone();
        let number = history.say(9, "q", 1001 - events(&edits), &[(op, event)], edits);
        history.admit(&mut other, number).expect("valid");
        assert_eq!(other.merge(&mut Budget::unlimited()).patches, moved, "seed {seed}: a stale edit");
    }
}

#[test]
fn versions_kept_side_by_side_do_not_mix() {
    // Branches long enough to be kept at hand; then one builds on both, and another on what it stood on before.
    let mut history = History::default();
    let long = |letter: &str| letter.repeat(100);
    let zero = history.say(0, "z", 0, &[], vec![edit(0, 0, &long("0"))]);
    let ours = history.say(0, "z", 100, &[(zero, 100)], vec![edit(100, 0, &long("1"))]);
    let theirs = history.say(1, "b", 0, &[(zero, 100)], vec![edit(0, 0, &long("2"))]);
    let last = history.say(0, "z", 200, &[(ours, 100)], vec![edit(200, 0, "x")]);
    history.say(1, "b", 100, &[(theirs, 100), (last, 1)], vec![edit(301, 0, "y")]);
    history.say(0, "z", 201, &[(last, 1)], vec![edit(201, 0, "z")]);
    let object = history.deliver(&[0, 1, 2, 3, 4, 5], 1);
    assert_eq!(object.text(), format!("{}{}{}xyz", long("2"), long("0"), long("1")));
}

#[test]
fn what_a_version_lacks_can_be_told_to_clients() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let world = World::random(&mut dice);
        let numbers: Vec<usize> = (0..world.history.said.len()).collect();
        let object = world.history.deliver(&numbers, 1);
        let (op, event) = world.place(dice.below(world.log.len()));
        let version = [(world.history.said[op].op.change, event)];
        let told = object.updates_since(&version, &mut Budget::unlimited()).expect("known");
        // A client that has the version and takes the updates has all events, each once and none before its parents.
        let mut known: BTreeSet<(String, u64)> = BTreeSet::new();
        for at in 0..world.log.len() {
            if world.log.version_contains_time(&[world.starts[op] + event as usize - 1], at) {
                let (op, event) = world.place(at);
                let name = object.event_name(&world.history.said[op].op.change, event).expect("known");
                known.insert((name.agent, name.seq));
            }
        }
        for update in told {
            assert!(update.parents.iter().all(|name| known.contains(&(name.agent.clone(), name.seq))), "seed {seed}");
            for back in 0..events(&update.edits) {
                assert!(known.insert((update.name.agent.clone(), update.name.seq - back)), "seed {seed}: told twice");
            }
        }
        assert_eq!(known.len(), world.log.len(), "seed {seed}");
    }
}
