//! Which ops have an effect, and under which names.

use std::collections::BTreeSet;

use timebus_store::op::{TEXT_EDITS_MAX, TextEdit};
use timebus_store::text::{AGENTS_PER_AUTHOR_MAX, Budget, EventName, NoEffect, TEXT_CHARS_MAX, TextObject};

use crate::dags::random_edits;
use crate::dice::{Dice, setting};
use crate::history::{At, History, Text, change, edit, events};
use crate::model::Model;

/// Admits one op on a text with `abc` by author 0's session `a` (events 0 to 2).
fn answer(author: usize, agent: &str, seq_first: u64, base: &[At], edits: Vec<TextEdit>) -> Result<(), NoEffect> {
    let mut history = History::default();
    history.say(0, "a", 0, &[], vec![edit(0, 0, "abc")]);
    let mut object = history.deliver(&[0], 1);
    let op = history.say(author, agent, seq_first, base, edits);
    history.admit(&mut object, op)
}

#[test]
fn edits_that_no_text_can_take_have_no_effect() {
    assert_eq!(answer(0, "a", 3, &[(0, 3)], vec![]), Err(NoEffect::EditCount));
    assert_eq!(answer(0, "a", 3, &[(0, 3)], vec![edit(0, 1, "x"); TEXT_EDITS_MAX + 1]), Err(NoEffect::EditCount));
    assert_eq!(answer(0, "a", 3, &[(0, 3)], vec![edit(0, 1, "x"); TEXT_EDITS_MAX]), Ok(()));
    assert_eq!(answer(0, "a", 3, &[(0, 3)], vec![edit(1, 0, "")]), Err(NoEffect::EmptyEdit));
    let far = TEXT_CHARS_MAX as usize;
    assert_eq!(answer(0, "a", 3, &[(0, 3)], vec![edit(far + 1, 0, "x")]), Err(NoEffect::OutOfRange));
    assert_eq!(answer(0, "a", 3, &[(0, 3)], vec![edit(1, far, "")]), Err(NoEffect::OutOfRange));
    assert_eq!(answer(0, "a", 3, &[(0, 3)], vec![edit(1, usize::MAX, "")]), Err(NoEffect::OutOfRange));
}

#[test]
fn names_and_numbers_that_cannot_be_have_no_effect() {
    assert_eq!(answer(1, "ROOT", 0, &[], vec![edit(0, 0, "x")]), Err(NoEffect::Agent));
    assert_eq!(answer(1, &"x".repeat(50), 0, &[], vec![edit(0, 0, "x")]), Err(NoEffect::Agent));
    assert_eq!(answer(1, &"x".repeat(49), 0, &[], vec![edit(0, 0, "x")]), Ok(()));
    let mut history = History::default();
    history.say(1, "b", 0, &[], vec![edit(0, 0, "xy")]);
    history.said[0].op.seq = 0;
    assert_eq!(history.admit(&mut TextObject::new(), 0), Err(NoEffect::Seq));
    history.said[0].op.seq = u64::MAX;
    assert_eq!(history.admit(&mut TextObject::new(), 0), Err(NoEffect::Seq));
}

#[test]
fn a_base_must_be_events_of_the_text_in_the_past() {
    for event in [0, 4, u64::MAX] {
        assert_eq!(answer(0, "a", 3, &[(0, event)], vec![edit(0, 0, "x")]), Err(NoEffect::Base));
    }
    let mut history = History::default();
    history.say(0, "a", 0, &[], vec![edit(0, 0, "abc")]);
    history.say_after(1, "b", 0, &[(0, 3)], vec![edit(0, 0, "x")], BTreeSet::new());
    let mut object = history.deliver(&[0], 1);
    assert_eq!(history.admit(&mut object, 1), Err(NoEffect::OutsidePast));
    assert_eq!(history.admit(&mut TextObject::new(), 1), Err(NoEffect::Base));
    assert_eq!(history.admit(&mut object, 0), Err(NoEffect::Second));
}

#[test]
fn a_session_builds_on_what_it_said_before() {
    // The change came after the session's first op, the edit does not stand on it.
    let mut history = History::default();
    history.say(0, "a", 0, &[], vec![edit(0, 0, "abc")]);
    let mut object = history.deliver(&[0], 1);
    history.say_after(0, "a", 3, &[], vec![edit(0, 0, "x")], BTreeSet::from([0]));
    assert_eq!(history.admit(&mut object, 1), Err(NoEffect::OwnRule));
    // Half of it is not enough.
    history.say_after(0, "a", 3, &[(0, 2)], vec![edit(0, 0, "x")], BTreeSet::from([0]));
    assert_eq!(history.admit(&mut object, 2), Err(NoEffect::OwnRule));
    // Another session may; and so may another author, whatever name he takes.
    history.say_after(0, "b", 0, &[(0, 2)], vec![edit(0, 0, "x")], BTreeSet::from([0]));
    assert_eq!(history.admit(&mut object, 3), Ok(()));
    history.say_after(1, "a", 9, &[(0, 2)], vec![edit(0, 0, "x")], BTreeSet::from([0]));
    assert_eq!(history.admit(&mut object, 4), Ok(()));
}

#[test]
fn an_author_has_only_so_many_sessions_at_once() {
    let mut history = History::default();
    let mut object = TextObject::new();
    let mut past = BTreeSet::new();
    for number in 0..AGENTS_PER_AUTHOR_MAX {
        history.say_after(0, &format!("s{number}"), 0, &[], vec![edit(0, 0, "x")], past.clone());
        assert_eq!(history.admit(&mut object, number), Ok(()));
        past.insert(number);
    }
    let over = history.say_after(0, "over", 0, &[], vec![edit(0, 0, "x")], past.clone());
    assert_eq!(history.admit(&mut object, over), Err(NoEffect::TooManyAgents));
    let other = history.say_after(1, "other", 0, &[], vec![edit(0, 0, "x")], past.clone());
    assert_eq!(history.admit(&mut object, other), Ok(()));
    // One of them that joins another makes room.
    let joins = history.say_after(0, "s0", 1, &[(0, 1), (1, 1)], vec![edit(0, 0, "x")], past.clone());
    assert_eq!(history.admit(&mut object, joins), Ok(()));
    past.insert(joins);
    let next = history.say_after(0, "next", 0, &[], vec![edit(0, 0, "x")], past);
    assert_eq!(history.admit(&mut object, next), Ok(()));
}

#[test]
fn an_op_that_does_not_fit_its_base_has_no_effect_nor_has_what_stands_on_it() {
    let mut history = History::default();
    history.say(0, "a", 0, &[], vec![edit(0, 0, "abc")]);
    history.say(1, "b", 0, &[(0, 2)], vec![edit(0, 0, "x"), edit(1, 3, "")]);
    history.say(2, "c", 0, &[(1, 1)], vec![edit(0, 0, "y")]);
    history.say(3, "d", 0, &[(0, 3)], vec![edit(4, 0, "z")]);
    history.say(4, "e", 0, &[(0, 3)], vec![edit(3, 0, "!")]);
    let object = history.deliver(&[0, 1, 2, 3, 4], 1);
    assert_eq!(object.text(), "abc!");
    for (number, merged) in [true, false, false, false, true].into_iter().enumerate() {
        assert_eq!(object.has_merged(&change(number)), merged);
        assert!(object.has(&change(number)), "it is valid, though");
    }
    // Their sessions cannot go on.
    let usable = ["a", "b", "c", "d", "e", "new"].map(|agent| object.is_usable(agent));
    assert_eq!(usable, [true, false, false, false, true, true]);
}

#[test]
fn a_text_never_gets_too_long() {
    let mut history = History::default();
    let most = "x".repeat(1 << 20);
    let mut base = Vec::new();
    for number in 0..17 {
        let op = history.say(0, "a", number << 20, &base, vec![edit(0, 0, &most)]);
        base = vec![history.end(op)];
    }
    let object = history.deliver(&(0..17).collect::<Vec<_>>(), 17);
    assert_eq!(object.len(), TEXT_CHARS_MAX);
    assert!(object.has_merged(&change(15)) && !object.has_merged(&change(16)));
}

#[test]
fn a_name_claimed_twice_names_nobody() {
    let mut history = History::default();
    history.say(0, "same", 0, &[], vec![edit(0, 0, "one")]);
    history.say(1, "same", 7, &[], vec![edit(0, 0, "two")]);
    let object = history.deliver(&[0, 1], 1);
    let names: Vec<EventName> = (0..2).map(|number| object.event_name(&change(number), 1).expect("known")).collect();
    assert_ne!(names[0].agent, names[1].agent);
    assert_eq!((names[0].agent.len(), names[1].agent.len(), names[0].seq, names[1].seq), (43, 43, 0, 7));
    assert_eq!(object.find_event("same", 0), None);
    assert!(!object.is_usable("same") && object.draft_edits("same", vec![edit(0, 0, "x")]).is_none());
    assert_eq!(object.find_event(&names[1].agent, 9), Some((change(1), 3)));
    // The claim does not count any more: the name is as good as before.
    let mut object = object;
    object.set_effective(&[(change(1), false)]);
    object.merge(&mut Budget::unlimited());
    assert_eq!(object.find_event("same", 2), Some((change(0), 3)));
    assert_eq!(object.text(), "one");
}

#[test]
fn a_name_that_reads_like_a_change_is_never_believed() {
    let mut history = History::default();
    history.say(0, "same", 0, &[], vec![edit(0, 0, "one")]);
    history.say(1, "same", 0, &[], vec![edit(0, 0, "two")]);
    let stolen = history.deliver(&[0, 1], 1).event_name(&change(0), 1).expect("known").agent;
    history.say(2, &stolen, 0, &[], vec![edit(0, 0, "six")]);
    let object = history.deliver(&[0, 1, 2], 1);
    assert_eq!(object.find_event(&stolen, 0), Some((change(0), 1)));
    assert_ne!(object.event_name(&change(2), 1).expect("known").agent, stolen);
}

/// A history with forks, stolen names, claims made twice, ops that do not fit and bases of any kind.
fn wild(dice: &mut Dice) -> History {
    const NAMES: [&str; 4] = ["m", "a", "zz", "b"];
    let mut history = History::default();
    let mut lens: Vec<usize> = Vec::new();
    for _ in 0..2 + dice.below(12) {
        let mut base: Vec<At> = Vec::new();
        for _ in 0..dice.below(3) {
            if let Some(op) = dice.pick(&(0..history.said.len()).collect::<Vec<_>>()).copied() {
                let (op, end) = history.end(op);
                base.push((op, if dice.percent(20) { 1 + dice.below(end as usize) as u64 } else { end }));
            }
        }
        base.sort_unstable();
        base.dedup();
        let len = base.iter().map(|(op, _)| lens[*op]).max().unwrap_or(0);
        // Mostly a guess that fits.
        let guess = len.saturating_sub(dice.below(3));
        let edits = random_edits(dice, guess);
        let grown = edits.iter().fold(len as i64, |len, edit| len - edit.del as i64 + edit.ins.chars().count() as i64);
        lens.push(grown.max(0) as usize);
        let name = dice.below(4);
        let author = if dice.percent(80) { name } else { dice.below(4) };
        let seq = dice.below(12) as u64;
        history.say(author, NAMES[name], seq, &base, edits);
    }
    history
}

#[test]
fn forks_liars_and_misfits_give_the_same_text_in_any_order() {
    let first = setting("TIMEBUS_SEED", 0);
    let (mut clashes, mut misfits) = (0, 0);
    for seed in first..first + setting("TIMEBUS_TEXTS", 1000) {
        let mut dice = Dice::new(seed);
        let history = wild(&mut dice);
        let straight: Vec<usize> = (0..history.said.len()).collect();
        let mut object = TextObject::new();
        let valid: BTreeSet<usize> = straight.iter().copied().filter(|number| history.admit(&mut object, *number).is_ok()).collect();
        object.merge(&mut Budget::unlimited());
        let model = Model::of(&history, &valid);
        misfits += model.without.intersection(&valid).count();
        clashes += usize::from(valid.iter().any(|number| object.event_name(&change(*number), 1).expect("valid").agent.len() == 43));
        let expected = model.tip();
        assert_eq!(object.text(), expected, "seed {seed}");
        for number in &straight {
            assert_eq!(object.has_merged(&change(*number)), !model.without.contains(number), "seed {seed}, op {number}");
        }
        for _ in 0..3 {
            let order = history.shuffled(&mut dice);
            let portion = 1 + dice.below(order.len());
            let other = history.deliver(&order, portion);
            assert_eq!(other.text(), expected, "seed {seed}, order {order:?} by {portion}");
            assert_eq!(other.version(), object.version(), "seed {seed}, order {order:?} by {portion}");
        }
        // Rights come and go.
        let out: Vec<usize> = straight.iter().copied().filter(|_| dice.percent(20)).collect();
        object.set_effective(&out.iter().map(|number| (change(*number), false)).collect::<Vec<_>>());
        let mut text = Text::new(&object.text());
        text.apply(&object.merge(&mut Budget::unlimited()).patches);
        let left: BTreeSet<usize> = valid.iter().copied().filter(|number| !out.contains(number)).collect();
        let expected_without = Model::of(&history, &left).tip();
        assert_eq!((object.text(), text.to_string()), (expected_without.clone(), expected_without), "seed {seed}, without {out:?}");
        object.set_effective(&out.iter().map(|number| (change(*number), true)).collect::<Vec<_>>());
        object.merge(&mut Budget::unlimited());
        assert_eq!(object.text(), expected, "seed {seed}, with {out:?} again");
    }
    assert!(clashes > 0 && misfits > 0, "the dice show what they are for");
}

#[test]
fn a_draft_of_a_whole_text_is_a_small_op() {
    let mut history = History::default();
    history.say(0, "a", 0, &[], vec![edit(0, 0, "The quick brown fox 🦊 jumps")]);
    let object = history.deliver(&[0], 1);
    let draft = object.draft_text("b", "The quack brown fox 🦊 jumped").expect("something differs");
    assert_eq!(draft.edits, [edit(6, 1, "a"), edit(26, 1, "ed")]);
    assert_eq!((draft.seq, draft.base.clone()), (4, object.version()));
    assert_eq!(object.draft_text("b", &object.text()), None);
    assert_eq!(object.draft_edits("b", vec![edit(28, 0, "x")]), None);
    assert_eq!(object.draft_edits("a", vec![edit(27, 0, "x")]).expect("it fits").seq, 27);
    assert_eq!(events(&draft.edits), 5);
    // JavaScript counts the fox twice.
    assert_eq!((object.utf16_of(20), object.utf16_of(21)), (20, 22));
    assert_eq!((object.pos_of_utf16(20), object.pos_of_utf16(22), object.pos_of_utf16(99)), (20, 21, 27));
}
