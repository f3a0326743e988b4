//! Shapes made to be slow: the work is counted, bounded, and grows as it should.

use timebus_store::text::{Budget, TextObject};

use crate::history::{At, History, change, edit};
use crate::traces::timed;

/// Two branches from the start, of `ops` ops each, that never meet; with `interleaved`, told in turns.
fn branches(ops: usize, interleaved: bool) -> History {
    let mut history = History::default();
    let mut tips: [Vec<At>; 2] = [Vec::new(), Vec::new()];
    for at in 0..2 * ops {
        let side = if interleaved { at % 2 } else { at / ops };
        let count = if interleaved { at / 2 } else { at % ops };
        let pos = if count > 8 { count / 2 } else { 0 };
        let op = history.say_after(side, ["a", "b"][side], count as u64, &tips[side].clone(), vec![edit(pos, 0, "x")], Default::default());
        tips[side] = vec![history.end(op)];
    }
    history
}

/// Two authors who each always build on the other's op before last: there is never a version that all agree on.
fn zig_zag(ops: usize) -> History {
    let mut history = History::default();
    history.say_after(0, "a", 0, &[], vec![edit(0, 0, "x")], Default::default());
    history.say_after(1, "b", 0, &[], vec![edit(0, 0, "y")], Default::default());
    for at in 2..ops {
        let base: Vec<At> = if at == 2 { vec![(0, 1)] } else { vec![(at - 3, 1), (at - 2, 1)] };
        history.say_after(at % 2, ["a", "b"][at % 2], (at / 2) as u64, &base, vec![edit(0, 0, "z")], Default::default());
    }
    history
}

/// Everybody writes at one place at once.
fn star(ops: usize) -> History {
    let mut history = History::default();
    for at in 0..ops {
        // One author has only so many sessions at once.
        history.say_after(at / 30, &format!("s{:05}", (at * 7919) % ops), 0, &[], vec![edit(0, 0, "x")], Default::default());
    }
    history
}

/// Many short branches from one long text, all joined, again and again.
fn combs(rounds: usize, width: usize) -> History {
    let mut history = History::default();
    let mut base: Vec<At> = Vec::new();
    let mut seqs = vec![0; width];
    for _ in 0..rounds {
        let mut next = Vec::new();
        for (side, seq) in seqs.iter_mut().enumerate() {
            let op = history.say_after(side, &format!("s{side}"), *seq, &base, vec![edit(0, 0, "xy")], Default::default());
            *seq += 2;
            next.push(history.end(op));
        }
        base = next;
    }
    history
}

/// Deletes the same text on many branches, twice over.
fn same_deletions(width: usize) -> History {
    let mut history = History::default();
    history.say_after(0, "a", 0, &[], vec![edit(0, 0, &"x".repeat(1000))], Default::default());
    for side in 0..width {
        let edits = (0..500).map(|at| edit(at, 1, "")).collect();
        history.say_after(1 + side % 200, &format!("s{side}"), 0, &[(0, 1000)], edits, Default::default());
    }
    history
}

/// Gives one op. All that was told before may count as past: no session here is concurrent with itself.
fn admit(history: &History, object: &mut TextObject, number: usize) {
    object.admit(&history.said[number].op, |_| true).expect("valid");
}

/// Takes everything at once.
fn bulk(history: &History) -> (TextObject, u64) {
    let mut object = TextObject::new();
    for number in 0..history.said.len() {
        admit(history, &mut object, number);
    }
    let mut budget = Budget::unlimited();
    object.merge(&mut budget);
    (object, budget.taken())
}

/// Takes one after the other, with a budget for each; returns the text, the steps taken, and whether it was parked.
fn stream(history: &History, steps_each: u64) -> (TextObject, u64, bool) {
    let (mut object, mut taken, mut parked) = (TextObject::new(), 0, false);
    for number in 0..history.said.len() {
        admit(history, &mut object, number);
        let mut budget = Budget::steps(steps_each);
        parked |= object.merge(&mut budget).parked;
        taken += budget.taken();
    }
    (object, taken, parked)
}

#[test]
fn slow_shapes_cost_little_more_than_their_size_when_they_come_at_once() {
    let per_op = |history: &History| bulk(history).1 / history.said.len() as u64;
    assert!(per_op(&branches(2000, true)) < 20);
    assert!(per_op(&branches(2000, false)) < 20);
    assert!(per_op(&zig_zag(2000)) < 60);
    assert!(per_op(&combs(100, 20)) < 200);
    // Each deletes a thousandth part of what there is.
    assert!(per_op(&same_deletions(30)) < 20_000);
}

#[test]
fn slow_shapes_give_the_same_text_one_by_one_and_at_once() {
    for (name, history) in [
        ("branches", branches(300, true)),
        ("zig-zag", zig_zag(300)),
        ("star", star(300)),
        ("combs", combs(30, 10)),
        ("same deletions", same_deletions(8)),
    ] {
        let (one, _, parked) = stream(&history, u64::MAX);
        assert!(!parked);
        assert_eq!(one.text(), bulk(&history).0.text(), "{name}");
    }
}

#[test]
fn a_text_over_budget_is_parked_and_goes_on_when_given_more() {
    let history = star(600);
    let (mut object, taken, parked) = stream(&history, 100);
    assert!(parked && object.is_parked());
    // Parked: what comes later is kept and costs nothing.
    assert!(taken < 600 * 101, "{taken}");
    assert_eq!(object.op_count(), 600);
    let served = object.text();
    assert!(!served.is_empty() && served.len() < 600, "the last good text is served");
    assert!(object.merge(&mut Budget::unlimited()).parked, "only when told so does it go on");
    let before = crate::history::Text::new(&served);
    let merged = object.resume(&mut Budget::unlimited());
    assert!(!merged.parked && !object.is_parked());
    let mut after = before;
    after.apply(&merged.patches);
    assert_eq!(after.to_string(), object.text());
    assert_eq!(object.text(), bulk(&history).0.text());
}

#[test]
fn a_name_clash_over_budget_leaves_the_last_good_text() {
    let mut history = star(200);
    history.say_after(250, "s00000", 0, &[], vec![edit(0, 0, "clash")], Default::default());
    let mut object = TextObject::new();
    for number in 0..200 {
        admit(&history, &mut object, number);
    }
    object.merge(&mut Budget::unlimited());
    let served = object.text();
    admit(&history, &mut object, 200);
    assert!(object.merge(&mut Budget::steps(50)).parked);
    assert_eq!(object.text(), served);
    assert!(!object.has_merged(&change(200)));
    assert!(!object.resume(&mut Budget::unlimited()).parked);
    assert!(object.has_merged(&change(200)));
    assert_eq!(object.text(), bulk(&history).0.text());
}

#[test]
#[ignore = "prints timings, which only a release build has"]
fn timings() {
    eprintln!("| shape | ops | at once | steps | one by one | steps |");
    eprintln!("|---|---|---|---|---|---|");
    for (name, history) in [
        ("two branches of 10 000, in turns", branches(10_000, true)),
        ("two branches of 10 000, one then the other", branches(10_000, false)),
        ("zig-zag", zig_zag(10_000)),
        ("star", star(2000)),
        ("star", star(7500)),
        ("30 branches joined 300 times", combs(300, 30)),
        ("the same deletions on 100 branches", same_deletions(100)),
    ] {
        let (bulk_ms, (object, steps)) = timed(|| bulk(&history));
        let (stream_ms, (streamed, stream_steps, _)) = timed(|| stream(&history, u64::MAX));
        assert!(object.text() == streamed.text());
        eprintln!("| {name} | {} | {bulk_ms:.0} ms | {steps} | {stream_ms:.0} ms | {stream_steps} |", history.said.len());
    }
}
