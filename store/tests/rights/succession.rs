//! New roots: by plan, by guardians, by the old root, and by thieves of each of these.

use timebus_identity::{SecretKey, hash};
use timebus_store::auth::{CapError, Class};
use timebus_store::grant::{Genesis, Grant, Succeed};
use timebus_store::ids::ChangeId;
use timebus_store::op::Op;
use timebus_store::succession::{self, Answer, Request, SuccessionError};

use crate::script::{Script, by_guardians, by_root, given, revoke, secret};
use crate::world::all;

fn nothing() -> Genesis {
    Genesis { next: None, guardians: None }
}

fn next(key: &SecretKey) -> Option<[u8; 32]> {
    Some(hash("next root", &[key.public().as_bytes()]))
}

fn guardians(needed: u8, of: &[&SecretKey]) -> Option<(u8, Vec<timebus_identity::PublicKey>)> {
    let mut keys: Vec<_> = of.iter().map(|key| key.public()).collect();
    keys.sort_unstable();
    Some((needed, keys))
}

/// A space with a plan, whose root gave a device its grant.
struct Space {
    script: Script,
    old: SecretKey,
    state: [u8; 32],
    began: ChangeId,
    device: timebus_store::ids::GrantId,
}

fn space(plan: &Genesis) -> Space {
    let old = secret(1);
    let mut script = Script::new(old.public());
    let began = script.say(old.public(), None, &[], vec![Op::Genesis(plan.clone())]);
    let (_, device) = script.grant(old.public(), None, &[began], all(secret(50).public()));
    let state = plan.state(&old.public());
    Space { script, old, state, began, device }
}

impl Space {
    fn succeed(&mut self, succeed: Succeed, on: &[ChangeId]) -> Result<ChangeId, CapError> {
        self.script.try_say(succeed.root, None, on, vec![Op::Succeed(succeed)])
    }
}

#[test]
fn a_planned_root_takes_over_what_it_had_seen() {
    let new = secret(2);
    let mut space = space(&Genesis { next: next(&new), guardians: None });
    let old = space.old.public();
    let on = space.script.heads();
    let (_, unseen) = space.script.grant(old, None, &on, all(secret(51).public()));
    let succeed = by_root(space.state, &space.old, new.public(), nothing());
    let taken = space.succeed(succeed, &on).expect("admitted");
    // The old key goes on, late and dated back: nothing of it counts.
    let (_, late) = space.script.grant(old, None, &on, all(secret(52).public()));
    let (_, latest) = space.script.grant(old, None, &[taken], all(secret(52).public()));
    let device = space.device;
    space.script.say(old, None, &on, vec![revoke(device)]);
    let (_, own) = space.script.grant(new.public(), None, &[taken], all(secret(53).public()));
    let began = space.began;
    let (_, early) = space.script.grant(new.public(), None, &[began], all(secret(54).public()));
    // Somebody had been thrown out before, and what he says later of himself changes nothing.
    let (given, out) = space.script.grant(new.public(), None, &[taken], all(secret(55).public()));
    space.script.say(new.public(), None, &[given], vec![revoke(out)]);
    space.script.grant(secret(55).public(), Some(out), &[given], all(secret(55).public()));
    space.script.in_any_order(|rights| {
        let lost: Vec<u8> = (50..=55).filter(|number| rights.lost_by_roots(&secret(*number).public())).collect();
        assert_eq!(lost, [51, 52, 54]);
        assert!(rights.is_known(&secret(51).public()), "he is to hear of it");
        assert_eq!(rights.root(), new.public());
        assert_eq!(rights.disputed().count(), 0);
        assert!(rights.is_live(&device) && rights.is_live(&own));
        assert!([unseen, late, latest, early].iter().all(|id| !rights.is_live(id)));
        assert!(rights.rooted(&new.public(), None) && !rights.rooted(&old, None));
    });
}

#[test]
fn only_who_may_names_a_new_root() {
    let (planned, thief, g1, g2, g3) = (secret(2), secret(3), secret(4), secret(5), secret(6));
    let plan = Genesis { next: next(&planned), guardians: guardians(2, &[&g1, &g2]) };
    let mut space = space(&plan);
    let on = space.script.heads();
    let (state, old) = (space.state, secret(1));
    let refused = [
        by_root(state, &old, thief.public(), nothing()),
        by_root(state, &thief, planned.public(), nothing()),
        by_root([1; 32], &old, planned.public(), nothing()),
        by_guardians(state, &[&g1], thief.public(), nothing()),
        by_guardians(state, &[&g1, &g3], thief.public(), nothing()),
        by_guardians(state, &[], thief.public(), nothing()),
        Succeed { plan: Genesis { next: Some([1; 32]), guardians: None }, ..by_guardians(state, &[&g1, &g2], thief.public(), nothing()) },
    ];
    for succeed in refused {
        assert_eq!(space.succeed(succeed, &on), Err(CapError::Missing));
    }
    // Signed by another than the new root, not first in its change, or not on top of what it follows.
    let good = by_guardians(state, &[&g1, &g2], thief.public(), nothing());
    assert!(space.script.try_say(g3.public(), None, &on, vec![Op::Succeed(good.clone())]).is_err());
    assert!(space.script.try_say(thief.public(), None, &on, vec![Op::Grant(all(thief.public())), Op::Succeed(good.clone())]).is_err());
    assert!(space.succeed(good.clone(), &[]).is_err());
    space.succeed(good, &on).expect("guardians may");
    assert_eq!(space.script.rights.root_states()[1].class, Some(Class::Guardians));
}

/// Every pair of classes: the better one wins, two of one class are a dispute.
#[test]
fn the_better_class_wins_and_equal_ones_are_a_dispute() {
    let (planned, other, another, g1, g2) = (secret(2), secret(3), secret(7), secret(4), secret(5));
    let both = Genesis { next: next(&planned), guardians: guardians(1, &[&g1, &g2]) };
    let marked = || Genesis { next: Some([5; 32]), guardians: None };
    let old = secret(1);
    let state = both.state(&old.public());
    let a = by_root(state, &old, planned.public(), nothing());
    let a2 = by_root(state, &old, planned.public(), marked());
    let a_backed = by_guardians(state, &[&g1], planned.public(), nothing());
    let b = by_guardians(state, &[&g1], other.public(), nothing());
    let b_again = by_guardians(state, &[&g2], other.public(), nothing());
    let b2 = by_guardians(state, &[&g2], another.public(), nothing());
    let bare = nothing().state(&old.public());
    let c = by_root(bare, &old, other.public(), nothing());
    let c2 = by_root(bare, &old, another.public(), nothing());
    let cases: [(&Genesis, Vec<&Succeed>, Option<&SecretKey>); 11] = [
        (&both, vec![&a, &b], Some(&planned)),
        (&both, vec![&a, &a2], None),
        (&both, vec![&b, &b2], None),
        (&both, vec![&b, &b_again], Some(&other)),
        (&both, vec![&b, &b2, &a], Some(&planned)),
        (&both, vec![&a, &a2, &b], Some(&other)),
        (&both, vec![&a, &a2, &a_backed], Some(&planned)),
        (&both, vec![&a, &a2, &b, &b2], None),
        (&both, vec![&a, &a_backed, &b, &b2], Some(&planned)),
        (&nothing(), vec![&c], Some(&other)),
        (&nothing(), vec![&c, &c2], None),
    ];
    for (number, (plan, records, winner)) in cases.into_iter().enumerate() {
        let mut space = space(plan);
        let on = space.script.heads();
        for record in &records {
            space.succeed((*record).clone(), &on).expect("admitted");
        }
        let all_heads = space.script.heads();
        // All of them go on as roots.
        let mut given_by = Vec::new();
        for (n, key) in [&old, &planned, &other, &another].into_iter().enumerate() {
            if key.public() == old.public() || records.iter().any(|record| record.root == key.public()) {
                let (_, id) = space.script.grant(key.public(), None, &all_heads, all(secret(60 + n as u8).public()));
                given_by.push((key.public(), id));
            }
        }
        let device = space.device;
        space.script.in_any_order(|rights| {
            assert!(rights.is_live(&device), "case {number}: grants that were there keep working");
            assert_eq!(rights.root(), winner.unwrap_or(&old).public(), "case {number}");
            assert_eq!(rights.disputed().count(), if winner.is_some() { 0 } else { 2 }, "case {number}");
            for (key, id) in &given_by {
                assert_eq!(rights.is_live(id), winner.is_some_and(|winner| winner.public() == *key), "case {number}: new grant by {key}");
            }
        });
    }
}

#[test]
fn two_beginnings_are_a_dispute_until_a_succession_decides() {
    let planned = secret(2);
    let plan = Genesis { next: next(&planned), guardians: None };
    let mut space = space(&plan);
    let old = space.old.public();
    let on = space.script.heads();
    // The same beginning said twice is no other one.
    space.script.say(old, None, &[], vec![Op::Genesis(plan.clone())]);
    space.script.in_any_order(|rights| assert_eq!(rights.disputed().count(), 0));
    let thief = Genesis { next: Some([3; 32]), guardians: None };
    space.script.say(old, None, &[], vec![Op::Genesis(thief)]);
    let heads = space.script.heads();
    let (_, after) = space.script.grant(old, None, &heads, all(secret(52).public()));
    let device = space.device;
    space.script.in_any_order(|rights| {
        assert_eq!(rights.disputed().count(), 2);
        assert!(rights.is_live(&device) && !rights.is_live(&after));
    });
    let succeed = by_root(space.state, &space.old, planned.public(), nothing());
    let taken = space.succeed(succeed, &on).expect("admitted");
    let (_, own) = space.script.grant(planned.public(), None, &[taken], all(secret(53).public()));
    space.script.in_any_order(|rights| {
        assert_eq!((rights.disputed().count(), rights.root()), (0, planned.public()));
        assert!(rights.is_live(&device) && rights.is_live(&own) && !rights.is_live(&after));
    });
}

#[test]
fn a_retired_root_cannot_begin_anew() {
    let planned = secret(2);
    let mut space = space(&Genesis { next: next(&planned), guardians: None });
    let on = space.script.heads();
    let old = space.old.public();
    let taken = space.succeed(by_root(space.state, &space.old, planned.public(), nothing()), &on).expect("admitted");
    space.script.say(old, None, &[], vec![Op::Genesis(Genesis { next: Some([3; 32]), guardians: None })]);
    let heads = space.script.heads();
    let (_, own) = space.script.grant(planned.public(), None, &[taken], all(secret(53).public()));
    let (_, late) = space.script.grant(planned.public(), None, &heads, Grant { ..all(secret(54).public()) });
    space.script.in_any_order(|rights| {
        assert_eq!((rights.disputed().count(), rights.root()), (0, planned.public()));
        assert!(rights.is_live(&own) && rights.is_live(&late));
    });
}

#[test]
fn roots_follow_each_other_and_each_cuts_off_the_one_before() {
    let (second, third) = (secret(2), secret(3));
    let mut space = space(&Genesis { next: next(&second), guardians: None });
    let plan = Genesis { next: next(&third), guardians: None };
    let first = by_root(space.state, &space.old, second.public(), plan);
    let state = first.state();
    let on = space.script.heads();
    let one = space.succeed(first, &on).expect("admitted");
    let (seen, kept) = space.script.grant(second.public(), None, &[one], all(secret(60).public()));
    let (_, unseen) = space.script.grant(second.public(), None, &[one], all(secret(61).public()));
    // The third root is not heard before the second is.
    let last = by_root(state, &second, third.public(), nothing());
    assert!(space.succeed(last.clone(), &on).is_err());
    space.succeed(last, &[seen]).expect("admitted");
    let device = space.device;
    space.script.in_any_order(|rights| {
        assert_eq!(rights.root(), third.public());
        assert!(rights.is_live(&device) && rights.is_live(&kept) && !rights.is_live(&unseen));
        assert!(rights.grant(&given(one)).is_none());
    });
}

/// What people make with `rotate`: the statement is the one that the root had planned, and nobody else can make it.
#[test]
fn the_holder_of_both_keys_takes_over() {
    let (planned, after, g1, g2) = (secret(2), secret(3), secret(4), secret(5));
    let plan = Genesis { next: next(&planned), guardians: guardians(2, &[&g1, &g2]) };
    let mut space = space(&plan);
    let on = space.script.heads();
    let (rights, old) = (space.script.rights.clone(), secret(1));
    let take_over = |old: &SecretKey, new: &SecretKey, of| succession::by_root(&rights, old, &new.public(), &after.public(), of);
    for (old, new) in [(&old, &after), (&planned, &after), (&after, &planned)] {
        assert_eq!(take_over(old, new, None), Err(SuccessionError::OtherKeys));
    }
    let kept = take_over(&old, &planned, None).expect("planned");
    assert_eq!(kept.plan, Genesis { next: next(&after), guardians: plan.guardians.clone() }, "guardians stay who they were");
    assert_eq!(take_over(&old, &planned, Some(None)).expect("planned").plan.guardians, None);
    let others = take_over(&old, &planned, Some(guardians(1, &[&g1]))).expect("planned");
    assert_eq!(others.plan.guardians, guardians(1, &[&g1]));
    space.succeed(kept, &on).expect("admitted");
    let rights = space.script.rights.clone();
    assert_eq!(rights.root_state().map(|state| state.root), Some(planned.public()));
    assert_eq!(succession::by_root(&rights, &old, &planned.public(), &after.public(), None), Err(SuccessionError::Done));
    let third = succession::by_root(&rights, &planned, &after.public(), &secret(9).public(), None).expect("the next one");
    assert_eq!(third.from, rights.root_state().expect("settled").id);
}

/// Two successions by guardians are a dispute; whoever has the words decides it.
#[test]
fn the_words_decide_what_guardians_could_not() {
    let (planned, other, another, g1, g2) = (secret(2), secret(3), secret(7), secret(4), secret(5));
    let plan = Genesis { next: next(&planned), guardians: guardians(1, &[&g1, &g2]) };
    let mut space = space(&plan);
    let on = space.script.heads();
    for (guardian, root) in [(&g1, &other), (&g2, &another)] {
        let succeed = by_guardians(space.state, &[guardian], root.public(), nothing());
        space.succeed(succeed, &on).expect("admitted");
    }
    let rights = space.script.rights.clone();
    assert_eq!((rights.disputed().count(), rights.root()), (2, secret(1).public()));
    assert_eq!(rights.root_state().map(|state| state.id), Some(space.state), "the state before is the last without a dispute");
    let succeed = succession::by_root(&rights, &secret(1), &planned.public(), &secret(9).public(), None).expect("planned");
    space.succeed(succeed, &on).expect("admitted");
    space.script.in_any_order(|rights| {
        assert_eq!((rights.disputed().count(), rights.root()), (0, planned.public()));
        assert_eq!(rights.root_state().map(|state| state.root), Some(planned.public()));
    });
}

/// From the request of somebody who lost everything to the new root, over texts.
#[test]
fn guardians_answer_a_request_and_enough_answers_make_a_root() {
    let (new, g1, g2, g3, stranger) = (secret(2), secret(4), secret(5), secret(6), secret(7));
    let plan = Genesis { next: Some([9; 32]), guardians: guardians(2, &[&g1, &g2, &g3]) };
    let mut space = space(&plan);
    let on = space.script.heads();
    let rights = space.script.rights.clone();
    let request = Request { space: space.old.public(), root: new.public(), next: [8; 32] };
    let request = Request::parse(&format!("  {}\n", request.text())).expect("its own text");
    let agree = |key: &SecretKey, request: &Request| request.agree(&rights, &key.public(), |succeed| key.sign(&succeed.signing_message()));
    assert_eq!(agree(&stranger, &request), Err(SuccessionError::NotAGuardian(stranger.public())));
    let answers: Vec<Answer> =
        [&g1, &g2].into_iter().map(|key| Answer::parse(&agree(key, &request).expect("a guardian").text()).expect("its own text")).collect();
    assert_eq!(succession::by_guardians(&answers[..1]), Err(SuccessionError::TooFew { needed: 2, found: 1 }));
    let twice = [answers[0].clone(), answers[0].clone()];
    assert_eq!(succession::by_guardians(&twice), Err(SuccessionError::TooFew { needed: 2, found: 1 }), "one is one, however often he says it");
    let other = agree(&g2, &Request { root: stranger.public(), ..request }).expect("a guardian");
    assert_eq!(succession::by_guardians(&[answers[0].clone(), other.clone()]), Err(SuccessionError::Differs(g2.public())));
    let third = agree(&g3, &request).expect("a guardian");
    for answers in [[&other, &answers[0], &third], [&answers[0], &other, &third], [&answers[0], &third, &other]] {
        let answers: Vec<Answer> = answers.into_iter().cloned().collect();
        assert_eq!(succession::by_guardians(&answers), Err(SuccessionError::Differs(g2.public())), "the one among three is named");
    }
    let mut forged = answers[1].clone();
    forged.succeed.authority = other.succeed.authority;
    assert_eq!(succession::by_guardians(&[answers[0].clone(), forged]), Err(SuccessionError::BadSignature(g2.public())));
    let succeed = succession::by_guardians(&answers).expect("two of three");
    assert_eq!(succeed.plan, Genesis { next: Some([8; 32]), guardians: plan.guardians.clone() });
    space.succeed(succeed, &on).expect("admitted");
    space.script.in_any_order(|rights| assert_eq!(rights.root(), new.public()));
    assert_eq!(request.agree(&space.script.rights, &g3.public(), |succeed| g3.sign(&succeed.signing_message())), Err(SuccessionError::Done));
}

/// Somebody saw the sheet of before: the old root and the next one. The owner went on from there by two steps.
struct Leaked {
    space: Space,
    /// The old root, the next one, and the one after it, which the thief does not have.
    keys: [SecretKey; 3],
    steps: [Succeed; 2],
    said: [ChangeId; 2],
    /// What the owner said as the last of them.
    own: timebus_store::ids::GrantId,
}

fn leaked(of: Option<(u8, Vec<timebus_identity::PublicKey>)>) -> Leaked {
    let keys = [secret(1), secret(2), secret(3)];
    let mut space = space(&Genesis { next: next(&keys[1]), guardians: of });
    let on = space.script.heads();
    let one = by_root(space.state, &keys[0], keys[1].public(), Genesis { next: next(&keys[2]), guardians: None });
    let two = by_root(one.state(), &keys[1], keys[2].public(), Genesis { next: Some([9; 32]), guardians: None });
    let first = space.succeed(one.clone(), &on).expect("admitted");
    let second = space.succeed(two.clone(), &[first]).expect("admitted");
    let (_, own) = space.script.grant(keys[2].public(), None, &[second], all(secret(53).public()));
    Leaked { space, keys, steps: [one, two], said: [first, second], own }
}

/// He says the owner's own step once more, on top of what he likes.
#[test]
fn an_old_sheet_lets_nobody_in_after_two_steps() {
    let Leaked { mut space, keys, steps, said, own } = leaked(None);
    let script = &mut space.script;
    let (early, theirs) = script.grant(keys[0].public(), None, &[space.began], all(secret(90).public()));
    let taken = script.say(keys[0].public(), None, &[early], vec![revoke(space.device)]);
    let again = script.say(keys[1].public(), None, &[taken, said[0]], vec![Op::Succeed(steps[0].clone())]);
    let (_, next) = script.grant(keys[1].public(), None, &[again], all(secret(91).public()));
    // The root after that signs its own step: by another key it is none.
    script.say(keys[1].public(), None, &[again], vec![Op::Succeed(steps[1].clone())]);
    let device = space.device;
    script.in_any_order(|rights| {
        assert_eq!((rights.root(), rights.disputed().count()), (keys[2].public(), 0));
        assert!(rights.is_live(&device) && rights.is_live(&own), "what the owner said goes on");
        assert!(!rights.is_live(&theirs) && !rights.is_live(&next), "what the thief says does not count");
    });
}

/// He goes on from the beginning to a root of his own, on top of what he likes. That freezes it, and lets nobody in.
#[test]
fn an_old_sheet_freezes_and_lets_nobody_in_and_guardians_decide() {
    let (guardian, other) = (secret(4), secret(5));
    for decides in [None, Some(&other), Some(&secret(2))] {
        let Leaked { mut space, keys, steps, said, own } = leaked(guardians(1, &[&guardian]));
        let state = space.state;
        let (early, theirs) = space.script.grant(keys[0].public(), None, &[said[0]], all(secret(90).public()));
        let step = by_root(state, &keys[0], keys[1].public(), Genesis { next: next(&secret(80)), guardians: None });
        let on = [early, said[1]];
        let thief = space.succeed(step.clone(), &on).expect("admitted");
        let (_, next) = space.script.grant(keys[1].public(), None, &[thief], all(secret(91).public()));
        // The owner's own step, said again by the thief, sees no more than it did.
        space.succeed(steps[0].clone(), &on).expect("admitted");
        let further = by_root(step.state(), &keys[1], secret(80).public(), Genesis { next: Some([8; 32]), guardians: None });
        space.succeed(further, &[thief]).expect("admitted");
        let (_, last) = space.script.grant(secret(80).public(), None, &[thief], all(secret(92).public()));
        let rights = space.script.rights.clone();
        for (old, new) in [(0, 1), (1, 2)] {
            let (old, new) = (&keys[old], &keys[new].public());
            assert_eq!(succession::by_root(&rights, old, new, new, None), Err(SuccessionError::Disputed), "words decide nothing");
            assert!(succession::is_stuck(&rights, &old.public(), new));
        }
        if let Some(root) = decides {
            // Guardians name another root, or the owner's step of the two.
            let plan = if root.public() == other.public() { nothing() } else { steps[0].plan.clone() };
            let seen = [space.script.heads()[2]];
            let succeed = by_guardians(state, &[&guardian], root.public(), plan);
            assert!(succeed.root == other.public() || succeed.state() == steps[0].state());
            space.succeed(succeed, &seen).expect("admitted");
        }
        let (root, dispute) = match decides {
            None => (&keys[0], 2),
            Some(root) if root.public() == other.public() => (root, 0),
            Some(_) => (&keys[2], 0),
        };
        let device = space.device;
        space.script.in_any_order(|rights| {
            assert_eq!((rights.root(), rights.disputed().count()), (root.public(), dispute));
            assert!(rights.is_live(&device), "what was there before goes on");
            assert!([theirs, next, last].iter().all(|id| !rights.is_live(id)), "what the thief says does not count");
            assert_eq!(rights.is_live(&own), root.public() == keys[2].public(), "what the owner said since counts when it is decided so");
        });
    }
}

/// Whoever types the words of a root that somebody went on from already changes nothing by it, and makes no dispute.
#[test]
fn words_of_before_make_no_second_step() {
    let Leaked { space, keys, .. } = leaked(None);
    let rights = space.script.rights;
    let step = |old: usize, new: usize| succession::by_root(&rights, &keys[old], &keys[new].public(), &secret(70).public(), None);
    assert_eq!(step(0, 1), Err(SuccessionError::Done));
    assert_eq!(step(1, 2), Err(SuccessionError::Done));
    assert!(!succession::is_stuck(&rights, &keys[0].public(), &keys[1].public()));
}

/// Of a request nobody makes another one that sounds the same: each part of it is heard.
#[test]
fn the_words_of_a_request_are_of_all_that_it_asks() {
    let request = Request { space: secret(1).public(), root: secret(2).public(), next: [9; 32] };
    let others =
        [Request { space: secret(3).public(), ..request }, Request { root: secret(3).public(), ..request }, Request { next: [8; 32], ..request }];
    assert_eq!(request.words().split(' ').count(), 8);
    assert!(others.iter().all(|other| other.words() != request.words()));
}

#[test]
fn a_text_for_guardians_is_whole_or_refused() {
    let request = Request { space: secret(1).public(), root: secret(2).public(), next: [9; 32] };
    let text = request.text();
    let prefix = "timebus://recover/".len();
    for at in prefix..text.len() {
        let other = if text.as_bytes()[at] == b'y' { "b" } else { "y" };
        let mut changed = text.clone();
        changed.replace_range(at..=at, other);
        assert!(Request::parse(&changed).is_err(), "character {at}");
        assert!(Request::parse(&text[..at]).is_err(), "cut at {at}");
    }
    assert!(Request::parse(&format!("{text}y")).is_err() && Request::parse("").is_err());
    assert!(Answer::parse(&text).is_err() && Answer::parse(&text.replace("recover/", "recovered/")).is_err());
}
