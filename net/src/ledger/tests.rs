use proptest::prelude::*;
use timebus_identity::SecretKey;
use timebus_store::change::{Header, OVERHEAD_BYTES};
use timebus_store::engine::{Engine, MemoryHome};
use timebus_store::grant::{Actions, Grant, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{GrantId, TimelineId};
use timebus_store::op::PathStep;
use timebus_store::path::Path as Place;
use timebus_store::store::Config;
use timebus_store::writer::Statement;

use super::*;

fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

/// A space of which `guests` may write below `/wall`, each so many bytes; and the grants.
fn host(guests: &[&SecretKey], bytes_max: u64) -> (Engine, Vec<GrantId>) {
    let mut home = MemoryHome::new(secret(101), &secret(102), secret(103));
    let mut engine = Engine::open(&mut home, &Config::default(), 1).expect("a new home opens");
    let grant = |guest: &&SecretKey| {
        Op::Grant(Grant {
            audience: Audience::Key(guest.public()),
            scope: Scope { segments: vec![ScopeSegment::Name("wall".into())], deep: true },
            timelines: Timelines::Main,
            actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
            bytes_max,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth: 0,
            label: "".into(),
        })
    };
    let (store, ops) = (engine.store().clone(), guests.iter().map(grant).collect());
    let stated = engine.finish(async move { store.state(Statement::Ops(ops), 1).await });
    let grants = stated.expect("the engine answers").expect("the owner may");
    (engine, grants)
}

/// A chain of changes from its first on, each of which writes a value of `size` bytes below `/wall/<name>`.
fn chain(author: &SecretKey, timeline: TimelineId, cap: GrantId, name: &str, count: u64, size: usize) -> Vec<Verified<Change>> {
    chain_of(Kind::Data, author, timeline, cap, name, count, size)
}

fn chain_of(kind: Kind, author: &SecretKey, timeline: TimelineId, cap: GrantId, name: &str, count: u64, size: usize) -> Vec<Verified<Change>> {
    let set = |seq: u64| {
        let path = ["wall", name, &seq.to_string()].map(|name| PathStep::Name(name.into())).to_vec();
        vec![Op::Set { path, value: Value::String("x".repeat(size).into()), preds: Vec::new() }]
    };
    chain_with(kind, author, timeline, cap, None, (1..=count).map(set))
}

/// A chain with these ops, the first of it made on a change of this Lamport clock.
fn chain_with(
    kind: Kind,
    author: &SecretKey,
    timeline: TimelineId,
    cap: GrantId,
    on: Option<(ChangeId, u64)>,
    ops: impl Iterator<Item = Vec<Op>>,
) -> Vec<Verified<Change>> {
    let (mut prev, mut cum) = (None, 0);
    let mut all = Vec::new();
    for (seq, ops) in (1..).zip(ops) {
        let body = Body { ops, ..Body::default() };
        let bytes: std::sync::Arc<[u8]> = body.encode().into();
        let body_len = bytes.len() as u64;
        cum += OVERHEAD_BYTES + body_len;
        let header = Header {
            kind,
            timeline,
            author: author.public(),
            seq,
            prev,
            cap: Some(cap),
            parents: on.iter().filter(|_| seq == 1).map(|(id, _)| *id).collect(),
            lamport: seq + on.map_or(0, |(_, lamport)| lamport),
            time_ms: 1,
            cum,
            body_len,
            body_root: *blake3::hash(&bytes).as_bytes(),
            encryption: None,
        };
        let change = Change::new(header, bytes).expect("a change");
        prev = Some(change.id());
        all.push(Verified::sign(change, author).expect("his own key"));
    }
    all
}

/// Offers what the ledger lets through; how many were admitted, and how many were held back.
fn bring(engine: &mut Engine, ledger: &Ledger, changes: Vec<Verified<Change>>, person: PublicKey) -> (usize, usize) {
    let author = |_: &PublicKey| Author { person, relation: Relation::Invited };
    let store = engine.store().clone();
    let (good, held) = ledger.sort(&store, &store.own().key, changes, author, 1).expect("memory does not fail");
    let offered = engine.finish(async move { store.offer(good).await }).expect("the engine answers").expect("it is taken");
    if !offered.refused.is_empty() {
        ledger.give_back(offered.refused.iter().map(timebus_store::pipeline::Refusal::change));
        ledger.recount([person]);
    }
    (offered.admitted.len(), held.len())
}

/// A grant has a quota, which each branch of a forked chain keeps for itself. What a peer keeps of all of them is bounded by
/// the budget of their author, and once the fork is known, none of it from the fork on is shown.
#[test]
fn who_forks_his_chain_gets_no_more_room_and_is_not_shown() {
    let mallory = secret(1);
    let (mut engine, grants) = host(&[&mallory], 50_000);
    let timeline = engine.store().timeline(engine.store().own());
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(mallory.public()), 200_000);
    let over = chain(&mallory, timeline, grants[0], "over", 15, 4000);
    let (admitted, held) = bring(&mut engine, &ledger, over, mallory.public());
    assert!((10..15).contains(&admitted) && held == 0, "one branch ends at the quota: {admitted}");
    let shown = |engine: &Engine| {
        let store = engine.store();
        let tree = store.tree(&store.snapshot(), store.own(), &Place::parse("/wall").expect("a path")).expect("memory does not fail");
        tree.names.values().map(|branch| branch.names.len()).sum::<usize>()
    };
    assert_eq!(shown(&engine), admitted);
    let (mut total, mut refused) = (admitted, 0);
    // More branches than the ends of a chain that are told to other peers.
    for branch in 0..60 {
        let branch = chain(&mallory, timeline, grants[0], &format!("fork-{branch}"), 2, 4000);
        let (admitted, held) = bring(&mut engine, &ledger, branch, mallory.public());
        total += admitted;
        refused += held;
    }
    assert!(total * 4000 < 200_000 && refused > 50, "{total} changes are here, {refused} are held back");
    engine.settle();
    assert_eq!(shown(&engine), 0, "whoever forks his chain at its beginning has said nothing");
    assert_eq!(ledger.held().len(), 1, "the owner is asked once");
    // What is counted anew, as after a start, counts every branch: not only those few that are told to other peers.
    ledger.recount([mallory.public()]);
    let late = chain(&mallory, timeline, grants[0], "late", 2, 4000);
    assert_eq!(bring(&mut engine, &ledger, late, mallory.public()).0, 0);
    let cost = ledger.costs(engine.store()).expect("memory does not fail")[&mallory.public()].clone();
    assert_eq!(cost.changes, total as u64);
    assert!(cost.bytes > 190_000 && cost.bytes < 200_000, "{}", cost.bytes);
}

/// Somebody with many devices is one person.
#[test]
fn who_has_many_keys_has_one_budget() {
    let devices: Vec<SecretKey> = (1..=8).map(secret).collect();
    let person = secret(99).public();
    let (mut engine, grants) = host(&devices.iter().collect::<Vec<_>>(), 0);
    let timeline = engine.store().timeline(engine.store().own());
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(person), 100_000);
    let (mut admitted, mut held) = (0, 0);
    for (at, (device, grant)) in devices.iter().zip(&grants).enumerate() {
        let one = chain(device, timeline, *grant, &format!("device-{at}"), 10, 4000);
        let (more, less) = bring(&mut engine, &ledger, one, person);
        (admitted, held) = (admitted + more, held + less);
    }
    assert!(admitted * 4000 < 100_000 && admitted > 20 && admitted + held == 80, "{admitted} changes are here, {held} are held back");
}

/// What a ledger learns from a head alone.
fn weigh(engine: &Engine, ledger: &Ledger, head: &Verified<Change>, builders: &[&SecretKey]) -> bool {
    weigh_of(engine, ledger, head, builders, |key| Author { person: *key, relation: Relation::Invited })
}

fn weigh_of(engine: &Engine, ledger: &Ledger, head: &Verified<Change>, builders: &[&SecretKey], author: impl Fn(&PublicKey) -> Author) -> bool {
    let mut record = Vec::new();
    head.write(head.signature(), &mut record);
    let head = Head::of(&Change::decode(&record).expect("a change")).verify().expect("signed");
    let builders = builders.iter().map(|key| key.public()).collect();
    let store = engine.store();
    ledger.weigh(store, &store.own().key, &head, &builders, author, 1).expect("memory does not fail")
}

/// The first frame of thousands of changes came, and then the head of the last of them.
#[test]
fn one_head_says_how_much_is_held_back() {
    let mallory = secret(1);
    let (mut engine, grants) = host(&[&mallory], 0);
    let timeline = engine.store().timeline(engine.store().own());
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(mallory.public()), 10_000);
    let all = chain(&mallory, timeline, grants[0], "all", 300, 2000);
    let end = all.last().expect("many").clone();
    let (admitted, held) = bring(&mut engine, &ledger, all[..20].to_vec(), mallory.public());
    assert_eq!((admitted, held), (3, 17));
    let told = |ledger: &Ledger| ledger.held().into_values().next().map(|one| (one.changes, one.bytes, one.is_whole));
    let met = all[19].header().cum - all[2].header().cum;
    assert_eq!(told(&ledger), Some((17, met, false)), "what was met is not all");
    assert!(!weigh(&engine, &ledger, &end, &[]));
    let whole = end.header().cum - all[2].header().cum;
    assert_eq!(told(&ledger), Some((297, whole, true)));
    // An older one takes nothing back.
    assert!(!weigh(&engine, &ledger, &all[100], &[]));
    assert_eq!(told(&ledger), Some((297, whole, true)));
    // Room for just that, also after a start, and all of it comes.
    let ledger = ledger.again();
    let id = ledger.held().into_keys().next().expect("one");
    assert!(ledger.allow(engine.store(), &id, Answer::Once(u64::MAX)).is_ok());
    assert_eq!(bring(&mut engine, &ledger, all[3..].to_vec(), mallory.public()), (297, 0));
    assert!(!weigh(&engine, &ledger, &end, &[]) && ledger.held().is_empty(), "nothing waits any more");
}

/// Carol built on what mallory wrote, and cannot be had without it.
#[test]
fn who_builds_on_a_flood_pays_for_it_if_there_is_room() {
    let (mallory, carol) = (secret(1), secret(2));
    let (mut engine, grants) = host(&[&mallory, &carol], 0);
    let timeline = engine.store().timeline(engine.store().own());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("limits.json");
    let ledger = Ledger::open(&file);
    ledger.limit(&Payer::Key(mallory.public()), 10_000);
    ledger.limit(&Payer::Key(carol.public()), 100_000);
    let flood = chain(&mallory, timeline, grants[0], "flood", 50, 4000);
    assert_eq!(bring(&mut engine, &ledger, flood.clone(), mallory.public()), (2, 48));
    // Not for more than she may keep herself, and not at his own expense.
    assert!(!weigh(&engine, &ledger, &flood[40], &[&carol]) && !weigh(&engine, &ledger, &flood[10], &[&mallory]));
    // Who has room for his own needs none lent, and would have more by it.
    let roomy = Ledger::open(Path::new(""));
    roomy.limit(&Payer::Key(mallory.public()), 10_000_000);
    assert!(!weigh(&engine, &roomy, &flood[10], &[&mallory]));
    // A key that may write nothing here is anybody's, as many as he likes.
    assert!(!weigh(&engine, &ledger, &flood[10], &[&secret(9)]));
    assert!(weigh(&engine, &ledger, &flood[10], &[&carol]));
    assert_eq!(ledger.held().len(), 1, "the rest of it still waits");
    // It is the same after a start; and of more than that much nothing comes.
    let ledger = Ledger::open(&file);
    assert_eq!(bring(&mut engine, &ledger, flood[2..].to_vec(), mallory.public()), (9, 39));
    // How much is left, and what he adds, the next head tells.
    let end = flood.last().expect("many");
    assert!(!weigh(&engine, &ledger, end, &[]));
    let rest = ledger.held().into_values().next().expect("one");
    assert_eq!((rest.changes, rest.bytes), (39, end.header().cum - flood[10].header().cum));
    // What she paid for counts as hers.
    let left = 100_000 - (flood[10].header().cum - flood[1].header().cum);
    let own = chain(&carol, timeline, grants[1], "own", 50, 4000);
    let (admitted, _) = bring(&mut engine, &ledger, own, carol.public());
    assert!((admitted as u64 + 1) * 4600 > left && admitted as u64 * 4500 < left, "{admitted} changes of hers");
    // A change that does not come although there was room for it is not paid for again and again.
    let other = chain(&mallory, timeline, grants[0], "other", 1, 100);
    ledger.limit(&Payer::Key(carol.public()), 10_000_000);
    let far = flood.last().expect("many");
    assert!(weigh(&engine, &ledger, far, &[&carol]));
    let paid = ledger.paid();
    for _ in 1..LENDS_MAX {
        assert!(weigh(&engine, &ledger, far, &[&carol]), "it may come over another link");
    }
    assert!(!weigh(&engine, &ledger, far, &[&carol]) && ledger.paid() == paid);
    assert!(weigh(&engine, &ledger, &other[0], &[&carol]), "another branch of his chain is nothing that is here");
}

/// The last of what is lent comes first, from somebody who has not got the rest, and cannot be stored yet.
#[test]
fn what_is_lent_is_not_used_up_by_what_does_not_come() {
    let (mallory, carol) = (secret(1), secret(2));
    let (mut engine, grants) = host(&[&mallory, &carol], 0);
    let timeline = engine.store().timeline(engine.store().own());
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(mallory.public()), 10_000);
    let flood = chain(&mallory, timeline, grants[0], "flood", 50, 4000);
    assert_eq!(bring(&mut engine, &ledger, flood.clone(), mallory.public()), (2, 48));
    assert!(weigh(&engine, &ledger, &flood[10], &[&carol]));
    let in_space = |engine: &Engine| lock(&ledger.state).spaces.used(engine.store(), &engine.store().own().key).expect("memory does not fail");
    let before = in_space(&engine);
    for _ in 0..3 {
        assert_eq!(bring(&mut engine, &ledger, vec![flood[10].clone()], mallory.public()), (0, 0));
        assert_eq!(in_space(&engine), before);
    }
    assert_eq!(bring(&mut engine, &ledger, flood[2..].to_vec(), mallory.public()), (9, 39));
    assert_eq!(in_space(&engine), before, "it was counted when it was lent");
}

/// Mallory forks his chain, and carol, who has the other branch, built on that.
#[test]
fn who_builds_on_another_branch_of_a_forked_chain_pays_for_it() {
    let (mallory, carol) = (secret(1), secret(2));
    let (mut engine, grants) = host(&[&mallory, &carol], 0);
    let timeline = engine.store().timeline(engine.store().own());
    let ledger = Ledger::open(Path::new(""));
    let [here, other, third] =
        [("here", 10), ("other", 3), ("third", 3)].map(|(name, count)| chain(&mallory, timeline, grants[0], name, count, 4000));
    ledger.limit(&Payer::Key(mallory.public()), here[9].header().cum + 100);
    assert_eq!(bring(&mut engine, &ledger, here, mallory.public()), (10, 0));
    assert_eq!(bring(&mut engine, &ledger, other.clone(), mallory.public()), (0, 3));
    // It is shorter than what is here, and none of it is.
    assert!(weigh(&engine, &ledger, &other[2], &[&carol]));
    assert_eq!(bring(&mut engine, &ledger, other.clone(), mallory.public()), (3, 0));
    assert!(!weigh(&engine, &ledger, &other[2], &[&carol]), "now it is here");
    assert_eq!(bring(&mut engine, &ledger, third, mallory.public()), (0, 3));
}

#[test]
fn requests_are_slowed_down_and_not_for_long() {
    let ledger = Ledger::open(Path::new(""));
    let [busy, other] = [1, 2].map(|seed| Payer::Key(SecretKey::from_seed([seed; 32]).public()));
    let passed = (0..1000).filter(|_| ledger.request(&busy, 1_000_000).is_ok()).count();
    assert_eq!(passed, 200);
    assert_eq!(ledger.request(&busy, 1_000_000), Err(20));
    assert_eq!(ledger.request(&other, 1_000_000), Ok(()), "each has a budget of his own");
    assert_eq!(ledger.request(&busy, 1_000_020), Ok(()));
    let passed = (0..1000).filter(|_| ledger.request(&busy, 1_060_000).is_ok()).count();
    assert_eq!(passed, 200, "a minute later there is room for a burst again and no more");
}

#[test]
fn an_app_has_a_budget_of_its_own_and_a_larger_one_when_the_owner_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("limits.json");
    let ledger = Ledger::open(&file);
    let [chirp, board] = ["chirp", "board"].map(|alias| Payer::App(alias.to_owned()));
    assert_eq!(ledger.charge(&chirp, &Hosts::default(), APP_BYTES - 10, 1), Ok(()));
    let id = ledger.charge(&chirp, &Hosts::default(), 11, 1).expect_err("there is room for ten");
    assert_eq!(ledger.charge(&board, &Hosts::default(), 11, 1), Ok(()), "each has its own");
    let held = ledger.held();
    assert_eq!((held[&id].who.as_str(), held[&id].relation, held[&id].bytes, held[&id].used), ("app:chirp", Relation::App, 11, APP_BYTES - 10));
    // It is the same after a start.
    let ledger = Ledger::open(&file);
    assert_eq!(ledger.app_costs()["chirp"].bytes, APP_BYTES - 10);
    assert!(ledger.charge(&chirp, &Hosts::default(), 11, 1).is_err());
    assert!(ledger.allow(home().store(), &id, Answer::UpTo(2 * APP_BYTES)).is_ok());
    assert_eq!((ledger.charge(&chirp, &Hosts::default(), 11, 1), ledger.limit_of(&chirp, Relation::App)), (Ok(()), 2 * APP_BYTES));
    let passed = (0..10_000).filter(|_| ledger.request(&chirp, 1_000_000).is_ok()).count();
    assert_eq!((passed, ledger.request(&chirp, 1_000_000)), (5000, Err(1)));
    assert_eq!(ledger.app_costs()["chirp"].requests, 10_001);
    for payer in [chirp, Payer::Key(SecretKey::from_seed([1; 32]).public())] {
        assert_eq!(Payer::parse(&payer.name()), Some(payer));
    }
}

#[test]
fn a_file_is_asked_for_before_it_comes_and_counted_when_it_is_here() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ledger = Ledger::open(&folder.path().join("limits.json"));
    let (chirp, t) = (Payer::App("chirp".to_owned()), TimelineId([1; 32]));
    assert_eq!(
        (ledger.ask_file(&chirp, &Hosts::default(), 1000, 1), ledger.room(&chirp, &Hosts::default())),
        (Ok(()), APP_BYTES),
        "asking takes no room"
    );
    for (took, left) in [(500, APP_BYTES - 500), (1000, APP_BYTES - 1500)] {
        assert_eq!((ledger.charge_file(&chirp, &Hosts::default(), &t, took, 1), ledger.room(&chirp, &Hosts::default())), (Ok(()), left));
    }
    ledger.give_back_file(&chirp, &Hosts::default(), &t, 500);
    assert_eq!(ledger.room(&chirp, &Hosts::default()), APP_BYTES - 1000, "what is not kept counts no more");
    let id = ledger.ask_file(&chirp, &Hosts::default(), 31_000_000_000, 1).expect_err("there is no room");
    let held = &ledger.held()[&id];
    assert_eq!((held.files, held.file_bytes, held.bytes, held.used), (1, 31_000_000_000, 31_000_000_000, 1000));
    assert!(ledger.allow(home().store(), &id, Answer::Once(u64::MAX)).is_ok());
    assert_eq!(ledger.charge_file(&chirp, &Hosts::default(), &t, 31_000_000_000, 1), Ok(()));
    assert!(ledger.charge(&chirp, &Hosts::default(), 1, 1).is_err(), "once is once");
}

#[test]
fn an_answer_stays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("limits.json");
    let key = SecretKey::from_seed([1; 32]).public();
    let who = Payer::Key(key);
    let (ledger, engine) = (Ledger::open(&file), home());
    assert_eq!(ledger.limit_of(&who, Relation::Stranger), STRANGER_BYTES);
    let held = Held {
        who: key.to_string(),
        author: key.to_string(),
        counted: String::new(),
        timeline: "t".to_owned(),
        relation: Relation::Stranger,
        changes: 3,
        bytes: 31_000_000_000,
        used: 0,
        files: 0,
        file_bytes: 0,
        is_whole: false,
        upto: 0,
        since_ms: 1,
    };
    lock(&ledger.state).settings.held.insert("abc".to_owned(), held.clone());
    assert_eq!(ledger.allow(engine.store(), "x", Answer::Once(u64::MAX)), Err(Unsaid::Unknown));
    // It grew between the look and the word.
    assert_eq!(ledger.allow(engine.store(), "ab", Answer::Once(held.bytes - 1)), Err(Unsaid::More(Box::new(held.clone()))));
    assert_eq!(ledger.allow(engine.store(), "ab", Answer::Once(held.bytes)), Ok(held.clone()));
    assert_eq!(Ledger::open(&file).limit_of(&who, Relation::Stranger), 31_000_000_000);
    lock(&ledger.state).settings.held.insert("abc".to_owned(), held);
    assert!(ledger.allow(engine.store(), "abc", Answer::Never).is_ok());
    assert_eq!(Ledger::open(&file).limit_of(&who, Relation::Friend), 0);
    ledger.limit(&who, 5);
    assert_eq!(Ledger::open(&file).limit_of(&who, Relation::Friend), 5);
    assert!(Ledger::open(&file).held().is_empty());
}

/// Room goes with a name once and back once, whatever is said of either in between.
#[test]
fn room_goes_with_a_name_and_back() {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("limits.json");
    let [from, to] = [1, 2].map(|n| SecretKey::from_seed([n; 32]).public());
    let ledger = Ledger::open(&file);
    let room = |ledger: &Ledger, who: PublicKey| ledger.settings_of(&Payer::Key(who));
    ledger.set(&Payer::Key(from), Some(5), true);
    ledger.set(&Payer::Key(to), Some(7), false);
    ledger.settle([(from, to)].into_iter());
    assert_eq!(room(&ledger, to), (Some(5), true));
    // What the owner says of the new one afterwards stays.
    ledger.set(&Payer::Key(to), Some(6), false);
    let ledger = Ledger::open(&file);
    ledger.settle([(from, to)].into_iter());
    assert_eq!((room(&ledger, to), room(&ledger, from)), ((Some(6), false), (Some(5), true)));
    ledger.settle(std::iter::empty());
    assert_eq!((room(&ledger, to), room(&ledger, from)), ((Some(7), false), (Some(5), true)));
    // It goes on with the name and comes all the way back, whatever the keys and whichever is heard first.
    let last = secret(3).public();
    for (from, to, heard) in [(from, to, 2), (to, from, 2), (from, to, 1), (to, from, 1)] {
        let ledger = Ledger::open(Path::new(""));
        ledger.set(&Payer::Key(from), Some(5), false);
        let moves = [(from, to), (to, last)];
        ledger.settle(moves[2 - heard..].iter().copied());
        ledger.settle(moves.into_iter());
        assert_eq!([from, to, last].map(|who| room(&ledger, who).0), [Some(5); 3]);
        // What is said meanwhile of where it came stays when the last move is taken back.
        ledger.set(&Payer::Key(to), Some(6), false);
        ledger.settle(moves[..1].iter().copied());
        assert_eq!([from, to, last].map(|who| room(&ledger, who).0), [Some(5), Some(6), None]);
        ledger.settle(std::iter::empty());
        assert_eq!([from, to, last].map(|who| room(&ledger, who).0), [Some(5), None, None]);
    }
}

/// Rights below `/wall` that can be handed on.
fn wall(audience: &SecretKey, actions: u8, depth: u8) -> Op {
    Op::Grant(Grant {
        audience: Audience::Key(audience.public()),
        timelines: Timelines::All,
        scope: Scope { segments: vec![ScopeSegment::Name("wall".into())], deep: true },
        actions: Actions(actions),
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth,
        label: "".into(),
    })
}

/// Has the owner let in somebody who may let others in.
fn admin(engine: &mut Engine, who: &SecretKey) -> GrantId {
    let grant = wall(who, Actions::READ.0 | Actions::WRITE.0 | Actions::GRANT.0, 1);
    let store = engine.store().clone();
    engine.finish(async move { store.state(Statement::Ops(vec![grant]), 1).await }).expect("it answers").expect("stated");
    let rights = engine.store().rights(&engine.store().own().key).expect("held");
    rights.grants_for(&who.public()).next().expect("granted").0
}

/// Keys are made at will: whoever may let others in lets in himself, again and again.
#[test]
fn those_whom_one_member_let_in_share_a_room() {
    let mallory = secret(1);
    let guests: Vec<SecretKey> = (11..=18).map(secret).collect();
    let (mut engine, _) = host(&[], 0);
    let root = engine.store().own().key;
    let main = engine.store().timeline(engine.store().own());
    let cap = admin(&mut engine, &mallory);
    let grants = guests.iter().map(|guest| wall(guest, Actions::READ.0 | Actions::WRITE.0, 0)).collect();
    let rights = engine.store().rights(&root).expect("held");
    let given = rights.grant(&cap).expect("given").op.change;
    let (rows, auth) = (engine.store().snapshot(), engine.store().own().auth());
    let last = timebus_store::tips::heads(&*rows, auth).expect("memory does not fail").into_iter().max().expect("one");
    let on = (given, timebus_store::summary::summary(&*rows, auth, last).expect("memory does not fail").lamport);
    let said = chain_with(Kind::Auth, &mallory, TimelineId::named(&root, "auth"), cap, Some(on), std::iter::once(grants));
    let ledger = Ledger::open(Path::new(""));
    // The owner says of a person what he may keep, and this is one of his devices.
    let person = secret(99).public();
    ledger.limit(&Payer::Key(person), 12_500);
    assert_eq!(bring(&mut engine, &ledger, said, person), (1, 0));
    let rights = engine.store().rights(&root).expect("held");
    let stranger = |key: &PublicKey| Author { person: *key, relation: Relation::Stranger };
    let known = ledger.authors(engine.store(), &root, guests.iter().map(SecretKey::public).collect(), |key| {
        let person = if *key == mallory.public() { person } else { *key };
        Author { person, relation: Relation::Stranger }
    });
    let author = |key: &PublicKey| known.get(key).cloned().unwrap_or(stranger(key));
    let (mut admitted, mut held) = (0, 0);
    for guest in &guests {
        let grant = rights.grants_for(&guest.public()).next().expect("let in").0;
        let store = engine.store().clone();
        let (good, over) =
            ledger.sort(&store, &store.own().key, chain(guest, main, grant, "guest", 10, 4000), author, 1).expect("memory does not fail");
        let offered = engine.finish(async move { store.offer(good).await }).expect("it answers").expect("it is taken");
        (admitted, held) = (admitted + offered.admitted.len(), held + over.len());
    }
    assert!(admitted * 4000 < 100_000 && admitted > 20 && admitted + held == 80, "{admitted} changes are here, {held} are held back");
    // None of them pays for what another one may not bring.
    let flood = |guest: &SecretKey| {
        let grant = rights.grants_for(&guest.public()).next().expect("let in").0;
        chain(guest, main, grant, "guest", 10, 4000).pop().expect("ten")
    };
    assert!(!weigh_of(&engine, &ledger, &flood(&guests[6]), &[&guests[7]], author));
    ledger.limit(&Payer::Key(person), 20_000);
    assert!(weigh_of(&engine, &ledger, &flood(&guests[6]), &[&guests[7]], author));
    assert!(!weigh_of(&engine, &ledger, &flood(&guests[5]), &[&guests[7]], author), "what they paid for is theirs together");
    // Whom the owner lets in himself has a room of his own from then on.
    let invited = &guests[4];
    let old = rights.grants_for(&invited.public()).next().expect("let in").0;
    let store = engine.store().clone();
    let grant = wall(invited, Actions::READ.0 | Actions::WRITE.0, 0);
    engine.finish(async move { store.state(Statement::Ops(vec![grant]), 1).await }).expect("it answers").expect("stated");
    let sorted = ledger.sort(engine.store(), &root, chain(invited, main, old, "guest", 10, 4000), author, 1).expect("memory does not fail");
    assert_eq!((sorted.0.len(), sorted.1.len()), (10, 0));
    // Only of whom something was counted that did not come it is counted again.
    ledger.recount([invited.public()]);
    let counted = |key: &SecretKey| lock(&ledger.state).used.contains_key(&key.public());
    assert!(!counted(invited) && counted(&guests[0]));
    // Of whom the owner says how much he may keep, that counts.
    let last = guests.last().expect("eight");
    ledger.limit(&Payer::Key(last.public()), 1_000_000);
    let grant = rights.grants_for(&last.public()).next().expect("let in").0;
    let (good, _) = ledger.sort(engine.store(), &root, chain(last, main, grant, "guest", 10, 4000), author, 1).expect("memory does not fail");
    assert_eq!(good.len(), 10);
    // Nothing more of him who let them in is wanted: that is said of him, and not of them.
    ledger.limit(&Payer::Key(person), 1_000_000);
    ledger.set(&Payer::Key(person), Some(1_000_000), true);
    let next = &guests[5];
    let grant = rights.grants_for(&next.public()).next().expect("let in").0;
    let sorted = ledger.sort(engine.store(), &root, chain(next, main, grant, "late", 10, 4000), author, 1).expect("memory does not fail");
    assert_eq!((sorted.0.len(), sorted.1.len()), (10, 0));
    let sorted = ledger.sort(engine.store(), &root, chain(&mallory, main, cap, "late", 2, 4000), author, 1).expect("memory does not fail");
    assert_eq!((sorted.0.len(), sorted.1.len()), (0, 2));
}

/// A community, and what is said in it.
struct Community {
    root: PublicKey,
    /// The change that was said last, and its Lamport clock.
    last: (ChangeId, u64),
    /// The end of the chain of each who said something: its number, its id, and its bytes.
    ends: HashMap<PublicKey, (u64, ChangeId, u64)>,
}

impl Community {
    fn found(engine: &mut Engine, root: &SecretKey, founder: &SecretKey) -> Self {
        let founding = timebus_store::founding::founding(root, &founder.public(), 1);
        let last = (founding.id(), founding.header().lamport);
        offer(engine, vec![founding]);
        Self { root: root.public(), last, ends: HashMap::new() }
    }

    fn grant_of(&self, engine: &Engine, key: &SecretKey) -> GrantId {
        let rights = engine.store().rights(&self.root).expect("held");
        rights.grants_for(&key.public()).next().expect("let in").0
    }

    /// Somebody lets others in; those who get a depth may do so, too.
    fn let_in(&mut self, engine: &mut Engine, by: &SecretKey, whom: &[&SecretKey], depth: u8) {
        let may = Actions::READ.0 | Actions::WRITE.0 | if depth > 0 { Actions::GRANT.0 } else { 0 };
        let body = Body { ops: whom.iter().map(|who| wall(who, may, depth)).collect(), ..Body::default() };
        let bytes: std::sync::Arc<[u8]> = body.encode().into();
        let end = self.ends.get(&by.public()).copied();
        let header = Header {
            kind: Kind::Auth,
            timeline: TimelineId::named(&self.root, "auth"),
            author: by.public(),
            seq: end.map_or(1, |(seq, ..)| seq + 1),
            prev: end.map(|(_, id, _)| id),
            cap: Some(self.grant_of(engine, by)),
            parents: Some(self.last.0).into_iter().filter(|last| end.is_none_or(|(_, id, _)| id != *last)).collect(),
            lamport: self.last.1 + 1,
            time_ms: 1,
            cum: end.map_or(0, |(.., cum)| cum) + OVERHEAD_BYTES + bytes.len() as u64,
            body_len: bytes.len() as u64,
            body_root: *blake3::hash(&bytes).as_bytes(),
            encryption: None,
        };
        let said = Verified::sign(Change::new(header, bytes).expect("a change"), by).expect("his own key");
        self.last = (said.id(), said.header().lamport);
        self.ends.insert(by.public(), (said.header().seq, said.id(), said.header().cum));
        offer(engine, vec![said]);
    }

    /// Somebody brings values of so many bytes each; how many are taken, and how many held back.
    fn bring(&self, engine: &mut Engine, ledger: &Ledger, by: &SecretKey, name: &str, count: u64, size: usize) -> (usize, usize) {
        let main = TimelineId::named(&self.root, "main");
        let author = |key: &PublicKey| Author { person: *key, relation: Relation::Stranger };
        let said = chain(by, main, self.grant_of(engine, by), name, count, size);
        let (good, held) = ledger.sort(engine.store(), &self.root, said, author, 1).expect("memory does not fail");
        (offer(engine, good), held.len())
    }
}

/// Has the store take changes; how many were new.
fn offer(engine: &mut Engine, changes: Vec<Verified<Change>>) -> usize {
    let store = engine.store().clone();
    let offered = engine.finish(async move { store.offer(changes).await }).expect("it answers").expect("it is taken");
    assert!(offered.refused.is_empty(), "{offered:?}");
    offered.admitted.len()
}

fn home() -> Engine {
    Engine::open(&mut MemoryHome::new(secret(101), &secret(102), secret(103)), &Config::default(), 1).expect("a new home opens")
}

/// A community is founded by somebody, and all are there by him.
#[test]
fn the_founder_of_a_community_lets_nobody_into_his_own_room() {
    let [root, founder, member, guest] = [41, 42, 43, 44].map(secret);
    let mut engine = home();
    let mut community = Community::found(&mut engine, &root, &founder);
    community.let_in(&mut engine, &founder, &[&member], 1);
    community.let_in(&mut engine, &member, &[&guest], 0);
    let rights = engine.store().rights(&root.public()).expect("held");
    let by = [&founder, &member, &guest].map(|key| sponsors(&rights, &key.public()));
    assert_eq!(by, [vec![], vec![], vec![member.public()]]);
}

/// Whoever is a device of the owner lets in for him, from the moment on when that is known, also those before.
#[test]
fn a_device_lets_somebody_in_for_its_owner() {
    let (phone, guest) = (secret(1), secret(11));
    let (mut engine, _) = host(&[], 0);
    let (root, main) = (engine.store().own().key, engine.store().timeline(engine.store().own()));
    let cap = admin(&mut engine, &phone);
    let rights = engine.store().rights(&root).expect("held");
    let given = rights.grant(&cap).expect("given").op.change;
    let (rows, auth) = (engine.store().snapshot(), engine.store().own().auth());
    let last = timebus_store::tips::heads(&*rows, auth).expect("memory does not fail").into_iter().max().expect("one");
    let on = (given, timebus_store::summary::summary(&*rows, auth, last).expect("memory does not fail").lamport);
    let may = Actions::READ.0 | Actions::WRITE.0;
    let said = chain_with(Kind::Auth, &phone, TimelineId::named(&root, "auth"), cap, Some(on), std::iter::once(vec![wall(&guest, may, 0)]));
    offer(&mut engine, said);
    let rights = engine.store().rights(&root).expect("held");
    assert_eq!(sponsors(&rights, &guest.public()), [phone.public()]);
    let ledger = Ledger::open(Path::new(""));
    let grant = rights.grants_for(&guest.public()).next().expect("let in").0;
    assert_eq!(bring(&mut engine, &ledger, chain(&guest, main, grant, "guest", 2, 4000), guest.public()), (2, 0));
    let together = |engine: &Engine| lock(&ledger.state).spaces.together(engine.store(), &phone.public()).expect("memory does not fail").all;
    assert!(together(&engine) > 8000);
    let device = Grant {
        audience: Audience::Key(phone.public()),
        scope: Scope::everything(),
        timelines: Timelines::All,
        actions: Actions::ALL,
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 2,
        label: "".into(),
    };
    let store = engine.store().clone();
    engine.finish(async move { store.state(Statement::Ops(vec![Op::Grant(device)]), 1).await }).expect("it answers").expect("stated");
    let rights = engine.store().rights(&root).expect("held");
    assert_eq!((sponsors(&rights, &guest.public()), together(&engine)), (vec![], 0));
}

/// Mallory lets keys of his into a community, and into one of his own, where he decides.
#[test]
fn who_lets_somebody_in_elsewhere_takes_him_out_of_no_room() {
    let [root, founder, mallory, own] = [41, 42, 43, 45].map(secret);
    let minted: Vec<SecretKey> = (51..=60).map(secret).collect();
    let minted: Vec<&SecretKey> = minted.iter().collect();
    let mut engine = home();
    let mut community = Community::found(&mut engine, &root, &founder);
    community.let_in(&mut engine, &founder, &[&mallory], 1);
    community.let_in(&mut engine, &mallory, &minted, 0);
    let mut his = Community::found(&mut engine, &own, &mallory);
    his.let_in(&mut engine, &mallory, &minted, 0);
    let ledger = Ledger::open(Path::new(""));
    // Room for 24 values of those whom he let in.
    ledger.limit(&Payer::Key(mallory.public()), 14_000);
    let bring = |engine: &mut Engine, space: &Community, name: &str, keys: &[&SecretKey]| {
        keys.iter().map(|key| space.bring(engine, &ledger, key, name, 4, 4000).0).sum::<usize>()
    };
    assert_eq!(bring(&mut engine, &community, "here", &minted), 24);
    // In his own they have the room of that, and take none here.
    assert_eq!(bring(&mut engine, &his, "there", &minted), 40);
    assert_eq!(bring(&mut engine, &community, "late", &minted), 0);
    // Counted anew it is the same.
    ledger.recount(minted.iter().map(|key| key.public()));
    assert_eq!(bring(&mut engine, &community, "late", &minted), 0);
    let again = Ledger::open(Path::new(""));
    again.limit(&Payer::Key(mallory.public()), 14_000);
    assert_eq!(community.bring(&mut engine, &again, minted[9], "late", 4, 4000), (0, 4));
    // What he lets them write in further communities counts as well.
    let mut other = Community::found(&mut engine, &secret(46), &founder);
    other.let_in(&mut engine, &founder, &[&mallory], 1);
    other.let_in(&mut engine, &mallory, &minted, 0);
    assert_eq!(bring(&mut engine, &other, "other", &minted), 0);
}

/// Carol let somebody in. Mallory, who let in many, does so, too, when these have used up what there is for them.
#[test]
fn nobody_is_shut_out_by_another_one_who_lets_him_in() {
    let [root, founder, mallory, carol, guest, minted] = [41, 42, 43, 44, 45, 46].map(secret);
    let mut engine = home();
    let mut community = Community::found(&mut engine, &root, &founder);
    community.let_in(&mut engine, &founder, &[&mallory, &carol], 1);
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(mallory.public()), 2500);
    ledger.limit(&Payer::Key(carol.public()), 3700);
    community.let_in(&mut engine, &mallory, &[&minted], 0);
    community.let_in(&mut engine, &carol, &[&guest], 0);
    assert_eq!(community.bring(&mut engine, &ledger, &minted, "flood", 10, 4000), (4, 6));
    assert_eq!(community.bring(&mut engine, &ledger, &guest, "one", 1, 4000), (1, 0));
    community.let_in(&mut engine, &mallory, &[&guest], 0);
    let (more, held) = community.bring(&mut engine, &ledger, &guest, "two", 9, 4000);
    assert_eq!((more, held), (5, 4), "as much as Carol answers for");
    // Whom the founder lets in has a room of his own.
    community.let_in(&mut engine, &founder, &[&guest], 0);
    assert_eq!(community.bring(&mut engine, &ledger, &guest, "three", 9, 4000), (9, 0));
}

/// Keys are made at will, also to have this peer write for them.
#[test]
fn those_whom_one_member_let_in_share_what_is_written_for_them() {
    let [root, founder, mallory, one, other, third] = [41, 42, 43, 44, 45, 46].map(secret);
    let mut engine = home();
    let mut community = Community::found(&mut engine, &root, &founder);
    community.let_in(&mut engine, &founder, &[&mallory, &third], 1);
    community.let_in(&mut engine, &mallory, &[&one, &other], 0);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("limits.json");
    let ledger = Ledger::open(&file);
    ledger.limit(&Payer::Key(mallory.public()), 1000);
    let hosts = |ledger: &Ledger, who: &SecretKey| ledger.hosts(engine.store(), &root.public(), &Payer::Key(who.public()));
    let write = |ledger: &Ledger, who: &SecretKey, bytes| ledger.charge(&Payer::Key(who.public()), &hosts(ledger, who), bytes, 1).is_ok();
    assert!(write(&ledger, &one, 5000) && !write(&ledger, &other, 5000));
    let ledger = Ledger::open(&file);
    assert_eq!(ledger.room(&Payer::Key(other.public()), &hosts(&ledger, &other)), 3000);
    assert!(write(&ledger, &other, 3000) && !write(&ledger, &one, 1));
    assert!(write(&ledger, &third, 5000), "whom the founder let in has a room of his own");
    ledger.limit(&Payer::Key(one.public()), 100_000);
    assert!(write(&ledger, &one, 5000), "and so has of whom the owner says how much he may keep");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is counted as it comes is what is found when all is looked through.
    #[test]
    fn rooms_are_the_same_however_they_are_counted(deeds in prop::collection::vec((0..5_u8, 0..3_usize, 0..4_usize, 0..6_usize), 1..25)) {
        let mut home = MemoryHome::new(secret(101), &secret(102), secret(103));
        let mut engine = Engine::open(&mut home, &Config::default(), 1).expect("a new home opens");
        let founder = secret(42);
        let members = [43, 44, 45].map(secret);
        let guests: Vec<SecretKey> = (51..=56).map(secret).collect();
        let mut spaces = [46, 47, 48].map(|root| {
            let mut community = Community::found(&mut engine, &secret(root), &founder);
            community.let_in(&mut engine, &founder, &members.iter().collect::<Vec<_>>(), 1);
            community
        });
        let ledger = Ledger::open(Path::new(""));
        for (nth, (deed, space, by, whom)) in deeds.into_iter().enumerate() {
            let (space, guest) = (&mut spaces[space], &guests[whom]);
            match deed {
                0 | 1 => space.let_in(&mut engine, members.get(by).unwrap_or(&founder), &[guest], 0),
                2 | 3 => {
                    let rights = engine.store().rights(&space.root).expect("held");
                    if rights.grants_for(&guest.public()).next().is_some() {
                        space.bring(&mut engine, &ledger, guest, &nth.to_string(), 2, 100 * (whom + 1));
                    }
                }
                _ => {
                    // What was counted and did not come.
                    let main = TimelineId::named(&space.root, "main");
                    let rights = engine.store().rights(&space.root).expect("held");
                    if let Some((grant, _)) = rights.grants_for(&guest.public()).next() {
                        let author = |key: &PublicKey| Author { person: *key, relation: Relation::Stranger };
                        let lost = chain(guest, main, grant, "lost", 1, 1000);
                        ledger.sort(engine.store(), &space.root, lost, author, 1).expect("memory does not fail");
                    }
                    ledger.recount([guest.public()]);
                }
            }
            for member in &members {
                let counted = lock(&ledger.state).spaces.together(engine.store(), &member.public()).expect("memory does not fail");
                let anew = Spaces::default().together(engine.store(), &member.public()).expect("memory does not fail");
                prop_assert_eq!(counted, anew);
            }
        }
        // Nor has anybody left other traces when they are looked for after a start.
        let keys: Vec<PublicKey> = members.iter().chain(&guests).chain([&founder]).map(SecretKey::public).collect();
        let traces = |engine: &Engine| -> Vec<_> {
            let store = engine.store();
            keys.iter().map(|key| (store.granted_to(key).expect("looked up"), store.wrote_in(key).expect("looked up"))).collect()
        };
        let before = traces(&engine);
        prop_assert!(before.iter().any(|(_, wrote)| !wrote.is_empty()));
        drop(engine);
        let engine = Engine::open(&mut home, &Config::default(), 1).expect("it opens again");
        prop_assert_eq!(traces(&engine), before);
    }
}

/// The owner of a space makes himself keys, and lets all of them in.
#[test]
fn all_in_one_space_share_a_room() {
    let guests: Vec<SecretKey> = (11..=30).map(secret).collect();
    let (mut engine, grants) = host(&guests.iter().collect::<Vec<_>>(), 0);
    let root = engine.store().own().key;
    let main = engine.store().timeline(engine.store().own());
    let friend = guests[19].public();
    let author = |key: &PublicKey| Author { person: *key, relation: if *key == friend { Relation::Friend } else { Relation::Stranger } };
    let sort = |engine: &mut Engine, ledger: &Ledger, at: usize, name: &str| {
        let (store, said) = (engine.store().clone(), chain(&guests[at], main, grants[at], name, 4, 4000));
        let (good, over) = ledger.sort(&store, &store.own().key, said, author, 1).expect("memory does not fail");
        let offered = engine.finish(async move { store.offer(good).await }).expect("it answers").expect("it is taken");
        (offered.admitted.len(), over.len())
    };
    // What may come at the expense of others counts until it is here.
    let flood = |at: usize| chain(&guests[at], main, grants[at], "flood", 15, 4000).pop().expect("fifteen");
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(root), 12_500);
    assert!(weigh_of(&engine, &ledger, &flood(0), &[&guests[1]], author));
    assert!(!weigh_of(&engine, &ledger, &flood(2), &[&guests[3]], author));
    assert!(weigh_of(&engine, &ledger, &flood(2), &[&guests[19]], author), "a friend has his own room");
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(root), 12_500);
    let (mut admitted, mut held) = (0, 0);
    for at in 0..19 {
        let (more, less) = sort(&mut engine, &ledger, at, "guest");
        (admitted, held) = (admitted + more, held + less);
    }
    assert!(admitted * 4000 < 100_000 && admitted > 20 && admitted + held == 76, "{admitted} changes are here, {held} are held back");
    assert_eq!(sort(&mut engine, &ledger, 19, "friend"), (4, 0));
    // The same when it is counted anew.
    ledger.recount(guests.iter().map(SecretKey::public));
    assert_eq!(sort(&mut engine, &ledger, 18, "again"), (0, 4));
    let again = Ledger::open(Path::new(""));
    again.limit(&Payer::Key(root), 12_500);
    assert_eq!(sort(&mut engine, &again, 17, "again"), (0, 4));
    // It is as much as the owner of this peer says that the owner of the space may keep, some times over, or he himself.
    ledger.limit(&Payer::Key(guests[17].public()), 100_000);
    assert_eq!(sort(&mut engine, &ledger, 17, "said"), (4, 0));
    ledger.limit(&Payer::Key(root), 25_000);
    assert_eq!(sort(&mut engine, &ledger, 16, "more"), (4, 0));
    // What was counted and did not come is room again.
    let lost = [13, 14].map(|at: usize| {
        let (good, _) =
            ledger.sort(engine.store(), &root, chain(&guests[at], main, grants[at], "lost", 4, 4000), author, 1).expect("memory does not fail");
        assert_eq!(good.len(), 4);
        guests[at].public()
    });
    assert!(sort(&mut engine, &ledger, 11, "late").1 > 0);
    ledger.recount(lost);
    assert_eq!(sort(&mut engine, &ledger, 10, "late"), (4, 0));
    ledger.set(&Payer::Key(root), None, true);
    assert_eq!(sort(&mut engine, &ledger, 15, "never"), (0, 4));
}

/// A timeline of which nothing is stored yet, by the owner and by others; some of it was lent before there was room for it.
#[test]
fn the_room_of_a_space_counts_all_that_comes_and_once() {
    let guests: Vec<SecretKey> = (11..=30).map(secret).collect();
    let (engine, grants) = host(&guests.iter().collect::<Vec<_>>(), 0);
    let root = engine.store().own().key;
    let new = TimelineId::named(&root, "new");
    let own = guests[0].public();
    let author = |key: &PublicKey| Author { person: *key, relation: if *key == own { Relation::Own } else { Relation::Stranger } };
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(root), 12_500);
    let sort = |at: usize| {
        let said = chain(&guests[at], new, grants[at], "guest", 4, 4000);
        ledger.sort(engine.store(), &root, said, author, 1).expect("memory does not fail").0.len()
    };
    let used = || lock(&ledger.state).spaces.used(engine.store(), &root).expect("memory does not fail").all;
    let before = used();
    assert_eq!((sort(0), sort(1)), (4, 4));
    let of_one = (used() - before) / 2;
    assert!(of_one > 16_000);
    let lent = chain(&guests[2], new, grants[2], "guest", 4, 4000).pop().expect("four");
    assert!(weigh_of(&engine, &ledger, &lent, &[&guests[3]], author));
    assert_eq!((used() - before) / of_one, 3);
    assert_eq!((sort(2), (used() - before) / of_one), (4, 3));
    let more: usize = (4..20).map(sort).sum();
    assert!(more >= 8 && used() < 100_000, "{more} changes came, {} bytes are there", used());
}

/// Mallory has written much beside what carol built on, elsewhere and after it.
#[test]
fn what_is_paid_for_is_what_was_built_on() {
    let (mallory, carol) = (secret(1), secret(2));
    let (mut engine, grants) = host(&[&mallory, &carol], 0);
    let root = engine.store().own().key;
    let timeline = engine.store().timeline(engine.store().own());
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(mallory.public()), 0);
    let author = |key: &PublicKey| Author { person: *key, relation: Relation::Invited };
    let sort = |said: Vec<Verified<Change>>| ledger.sort(engine.store(), &root, said, author, 1).expect("memory does not fail").0.len();
    let wanted = chain(&mallory, timeline, grants[0], "wanted", 10, 4000);
    let other = chain(&mallory, TimelineId::named(&root, "other"), grants[0], "other", 10, 4000);
    assert!(weigh(&engine, &ledger, &wanted[4], &[&carol]));
    assert_eq!((sort(other), sort(wanted[5..].to_vec()), sort(wanted[..5].to_vec())), (0, 0, 5));
    // A chain that forks: the other branch comes first, and what was paid is used up.
    let (first, second) = (chain(&mallory, timeline, grants[0], "first", 5, 4000), chain(&mallory, timeline, grants[0], "third", 5, 4000));
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(mallory.public()), 0);
    let sort = |said: Vec<Verified<Change>>| ledger.sort(engine.store(), &root, said, author, 1).expect("memory does not fail").0.len();
    assert!(weigh(&engine, &ledger, &first[4], &[&carol]));
    let paid = ledger.paid();
    assert!(weigh(&engine, &ledger, &first[4], &[&carol]) && ledger.paid() == paid, "it is asked for again, and not paid again");
    assert_eq!((sort(second.clone()), sort(first.clone())), (5, 0));
    assert!(weigh(&engine, &ledger, &first[4], &[&carol]));
    assert_eq!(sort(first.clone()), 5);
    // But not again and again.
    let lends = (0..20).filter(|_| weigh(&engine, &ledger, &first[4], &[&carol]) && sort(second.clone()) == 5).count();
    assert_eq!(lends, 5);
    bring(&mut engine, &ledger, Vec::new(), mallory.public());
}

/// Bob's film was allowed once. Those whom he let in have not more room by that.
#[test]
fn what_is_allowed_once_is_for_nobody_else() {
    let (mut settings, bob) = (Settings::default(), Author { person: secret(1).public(), relation: Relation::Invited });
    let before = together_max(&settings, &bob);
    let held = |who: &PublicKey| Held {
        who: who.to_string(),
        author: who.to_string(),
        counted: String::new(),
        timeline: "http".to_owned(),
        relation: Relation::Invited,
        changes: 1,
        bytes: 30_000_000_000,
        used: 0,
        files: 1,
        file_bytes: 30_000_000_000,
        is_whole: true,
        upto: 0,
        since_ms: 1,
    };
    settings.held.insert("aa".to_owned(), held(&bob.person));
    let (ledger, engine) = (Ledger::open(Path::new("")), home());
    lock(&ledger.state).settings = settings;
    assert!(ledger.allow(engine.store(), "aa", Answer::Once(u64::MAX)).is_ok());
    assert_eq!(ledger.limit_of(&Payer::Key(bob.person), bob.relation), 30_000_000_000);
    assert_eq!(together_max(&lock(&ledger.state).settings, &bob), before);
    ledger.limit(&Payer::Key(bob.person), 1_000_000_000);
    assert_eq!(together_max(&lock(&ledger.state).settings, &bob), 8_000_000_000, "what he may keep for good is another thing");
}

/// Whoever has more here than he may keep still takes rights back, and others may build on what is said about them.
#[test]
fn values_leave_the_room_for_statements() {
    let (mallory, carol) = (secret(1), secret(2));
    let (mut engine, _) = host(&[], 0);
    let main = engine.store().timeline(engine.store().own());
    let auth = TimelineId::named(&engine.store().own().key, "auth");
    let (cap, other) = (admin(&mut engine, &mallory), admin(&mut engine, &carol));
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(mallory.public()), 100_000_000);
    let mut values = chain(&mallory, main, cap, "value", 19, 1_000_000);
    let mut late = values.split_off(18);
    assert_eq!(bring(&mut engine, &ledger, values, mallory.public()), (18, 0));
    ledger.limit(&Payer::Key(mallory.public()), 1_000_000);
    // Also when both come at once.
    late.extend(chain_of(Kind::Auth, &mallory, auth, cap, "said", 1, 1000));
    assert_eq!(bring(&mut engine, &ledger, late, mallory.public()), (1, 1));
    // He pays for what is said, as if it were as many statements as there may be in so many bytes, and for no values.
    ledger.limit(&Payer::Key(carol.public()), 0);
    let said = chain_of(Kind::Auth, &carol, auth, other, "said", 18, 100_000);
    let value = chain(&carol, main, other, "value", 1, 1000);
    assert!(!weigh(&engine, &ledger, &value[0], &[&mallory]));
    assert!(weigh(&engine, &ledger, &said[8], &[&mallory]) && !weigh(&engine, &ledger, &said[17], &[&mallory]));
}

/// Whoever may say something about rights says it without end.
#[test]
fn what_is_said_about_rights_has_a_bound() {
    let mallory = secret(1);
    let (mut engine, _) = host(&[], 0);
    let root = engine.store().own().key;
    let main = engine.store().timeline(engine.store().own());
    let cap = admin(&mut engine, &mallory);
    let ledger = Ledger::open(Path::new(""));
    ledger.set(&Payer::Key(mallory.public()), Some(1_000_000), true);
    // No values of his are wanted, and his statements are taken as far as they are that.
    let values = chain(&mallory, main, cap, "value", 1, 1000);
    assert_eq!(bring(&mut engine, &ledger, values, mallory.public()), (0, 1));
    let mut statements = chain_of(Kind::Auth, &mallory, TimelineId::named(&root, "auth"), cap, "said", 40, 1_000_000);
    let late = statements.split_off(30);
    let (admitted, held) = bring(&mut engine, &ledger, statements, mallory.public());
    assert!((15..=17).contains(&admitted) && admitted + held == 30, "{admitted} are here, {held} are held back");
    ledger.recount([mallory.public()]);
    let (admitted, held) = bring(&mut engine, &ledger, late, mallory.public());
    assert_eq!((admitted, held), (0, 10));
}

/// 2 000 spaces, in which a member each let in nine others: what it takes to see whose a change is and whether there is room for
/// it, of authors who are in ten spaces each. A statement comes with every tenth.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, and takes a while"]
async fn what_it_costs_to_look_at_a_change() {
    let of = |kind: u8, n: usize| {
        let mut seed = [kind; 32];
        seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
        SecretKey::from_seed(seed)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lock = timebus_store::store::lock_home(folder.path()).expect("a free home");
    let store = Store::open(folder.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
    let mut grants = Vec::new();
    for n in 0..2000 {
        let (root, founder, member) = (of(1, n), of(2, n), of(3, n));
        let founding = timebus_store::founding::founding(&root, &founder.public(), 1);
        let (on, auth) = ((founding.id(), founding.header().lamport), TimelineId::named(&root.public(), "auth"));
        let id = |change: &Verified<Change>, index| timebus_store::ids::OpId { change: change.id(), index }.grant();
        let may = Actions::READ.0 | Actions::WRITE.0;
        let cap = id(&founding, 1);
        let first = chain_with(Kind::Auth, &founder, auth, cap, Some(on), std::iter::once(vec![wall(&member, may | Actions::GRANT.0, 1)]));
        let on = (first[0].id(), first[0].header().lamport);
        let guests = (0..9).map(|nth| wall(&of(4, (n * 9 + nth) % 1800), may, 0)).collect();
        let second = chain_with(Kind::Auth, &member, auth, id(&first[0], 0), Some(on), std::iter::once(guests));
        grants.push(id(&second[0], 0));
        let all = vec![founding, first[0].clone(), second[0].clone()];
        assert!(store.offer(all).await.expect("taken").refused.is_empty());
    }
    let ledger = Ledger::open(Path::new(""));
    let (mut whose, mut rooms) = (Vec::new(), Vec::new());
    for round in 0..3 {
        for (n, grant) in grants.iter().take(600).enumerate() {
            let (guest, root) = (of(4, n * 9 % 1800), of(1, n).public());
            let said = chain(&guest, TimelineId::named(&root, "main"), *grant, "one", round + 1, 100).pop().expect("one");
            let began = std::time::Instant::now();
            let author = |key: &PublicKey| {
                let person = crate::whose::spaces_of(&store, key, false).first().copied().unwrap_or(*key);
                Author { person, relation: Relation::Stranger }
            };
            let known = ledger.authors(&store, &root, [guest.public(), root].into(), author);
            whose.push(began.elapsed());
            let began = std::time::Instant::now();
            let (good, _) = ledger.sort(&store, &root, vec![said], |key| known[key].clone(), 1).expect("the disk works");
            rooms.push(began.elapsed());
            assert!(store.offer(good).await.expect("taken").refused.is_empty());
            if n % 10 == 0 {
                let more = wall(&of(5, n), Actions::READ.0, 0);
                store.state(Statement::Ops(vec![more]), 1).await.expect("stated");
            }
        }
    }
    for (what, times) in [("whose it is", whose), ("whether there is room", rooms)] {
        let first = times[0];
        let mut sorted = times[1..].to_vec();
        sorted.sort();
        let mean = sorted.iter().sum::<std::time::Duration>() / sorted.len() as u32;
        eprintln!(
            "{what}: {mean:?} on average, {:?} half, {:?} one in a hundred, {first:?} at first",
            sorted[sorted.len() / 2],
            sorted[sorted.len() * 99 / 100]
        );
    }
}

/// A guest makes keys, lets them in, and has each of them ask for more room than there is.
#[test]
fn nobody_fills_what_waits_for_the_owner() {
    let ledger = Ledger::open(Path::new(""));
    let key = |number: u16| {
        let mut seed = [7; 32];
        seed[..2].copy_from_slice(&number.to_le_bytes());
        Payer::Key(SecretKey::from_seed(seed).public())
    };
    let guest = secret(1).public();
    let ask_at =
        |ledger: &Ledger, payer: &Payer, hosts: Hosts, at: u64| ledger.charge(payer, &hosts, INVITED_BYTES + 1, at).expect_err("there is no room");
    let ask = |payer: &Payer, hosts: &[PublicKey], at: u64| ask_at(&ledger, payer, Hosts { members: hosts.to_vec(), ..Hosts::default() }, at);
    for number in 0..HELD_HTTP_MAX as u16 {
        ask(&key(number), &[guest], u64::from(number));
    }
    assert_eq!(ledger.held().len(), HELD_HTTP_MAX);
    let friend = Payer::Key(secret(2).public());
    let id = ask(&friend, &[], 1000);
    assert!(ledger.held().contains_key(&id) && ledger.held().len() == HELD_HTTP_MAX, "somebody else finds a place");
    for number in HELD_HTTP_MAX as u16..2 * HELD_HTTP_MAX as u16 {
        ask(&key(number), &[guest], 1001);
    }
    let held = ledger.held();
    let first = held_id(key_bytes(&key(0)).as_slice(), HTTP);
    assert!(held.contains_key(&id) && held[&id].counted == friend.name(), "and keeps it");
    assert!(held.contains_key(&first) && held[&first].counted == guest.to_string(), "who asked first is not pushed out by who came later");

    // So it is with those who came by one invite.
    let invite = |group: u8| Hosts { group: Some(secret(group).public()), ..Hosts::default() };
    let ledger = Ledger::open(Path::new(""));
    for number in 0..HELD_HTTP_MAX as u16 {
        ask_at(&ledger, &key(number), invite(3), u64::from(number));
    }
    let id = ask_at(&ledger, &friend, invite(4), 1000);
    assert!(ledger.held().contains_key(&id) && ledger.held().len() == HELD_HTTP_MAX);

    // What came by sync has all the room, and what came over HTTP half of it.
    let mut all = held;
    let of =
        |who: &str, at: u64| Held { who: who.to_owned(), counted: who.to_owned(), timeline: "t".to_owned(), since_ms: at, ..all[&first].clone() };
    let (flood, other) = (of("flood", 5), of("other", 6));
    for number in 0..HELD_MAX - HELD_HTTP_MAX {
        assert!(make_way(&mut all, "flood", false), "{number}");
        all.insert(format!("flood {number}"), flood.clone());
    }
    assert_eq!(all.len(), HELD_MAX);
    assert!(make_way(&mut all, "other", false));
    all.insert("other".to_owned(), other);
    assert!(all.len() == HELD_MAX && !make_way(&mut all, &guest.to_string(), true) && all.contains_key("other") && all.contains_key(&id));
}

fn key_bytes(payer: &Payer) -> Vec<u8> {
    match payer {
        Payer::Key(key) => key.as_bytes().to_vec(),
        Payer::App(alias) => alias.as_bytes().to_vec(),
    }
}

#[test]
fn what_this_peer_wrote_for_a_key_counts_for_quotas_by_timeline() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ledger = Ledger::open(&folder.path().join("budgets.json"));
    let (bob, space, nobody) = (secret(1).public(), secret(2).public(), Hosts::default());
    let (payer, main, diary) = (Payer::Key(bob), TimelineId::named(&space, "main"), TimelineId([1; 32]));
    let used = |ledger: &Ledger| [&main, &diary].map(|timeline| ledger.quota_used(&bob, &space, timeline));
    ledger.set(&payer, Some(1000), false);
    ledger.count(&payer, &nobody, &main, 100);
    assert_eq!(ledger.charge_file(&payer, &nobody, &main, 600, 1), Ok(()));
    ledger.count(&payer, &nobody, &diary, 30);
    assert_eq!((used(&ledger), ledger.room(&payer, &nobody)), ([700, 30], 270));
    assert_eq!((ledger.charge(&payer, &nobody, 70, 1), used(&ledger)), (Ok(()), [700, 30]), "what he signed is in his chain");
    ledger.room_for(&payer, &nobody, 201, 1).expect_err("there is room for less");
    assert_eq!((ledger.room_for(&payer, &nobody, 200, 1), used(&ledger)), (Ok(()), [700, 30]), "who asks is not counted");
    ledger.give_back_file(&payer, &nobody, &main, 600);
    assert_eq!((used(&ledger), ledger.room(&payer, &nobody)), ([100, 30], 800), "nor what is not kept");
    // What was counted before timelines were told apart was in most cases there.
    lock(&ledger.state).settings.guest_values.insert(bob.to_string(), 7);
    assert_eq!(used(&ledger), [107, 30]);
}

/// Bob made himself another device, and had his host's peer write as much again.
#[test]
fn devices_of_one_person_have_one_room_over_http() {
    let [bob, phone, tablet] = [1, 2, 3].map(|seed| secret(seed).public());
    let ledger = Ledger::open(Path::new(""));
    let hosts = Hosts { person: Some(bob), keys: [phone, tablet].into(), ..Hosts::default() };
    ledger.limit(&Payer::Key(bob), 1000);
    assert_eq!(ledger.charge(&Payer::Key(phone), &hosts, 600, 1), Ok(()));
    assert_eq!(ledger.room(&Payer::Key(tablet), &hosts), 400);
    let id = ledger.charge(&Payer::Key(tablet), &hosts, 500, 1).expect_err("there is room for less");
    assert_eq!((ledger.held()[&id].bytes, ledger.held()[&id].used), (500, 600));
    assert_eq!(ledger.charge(&Payer::Key(tablet), &hosts, 400, 1), Ok(()));
    assert_eq!([phone, tablet].map(|key| ledger.room(&Payer::Key(key), &hosts)), [0, 0]);
    // Also if the limit is said of each of them.
    [phone, tablet].into_iter().for_each(|key| ledger.limit(&Payer::Key(key), 1500));
    assert_eq!([phone, tablet].map(|key| ledger.room(&Payer::Key(key), &hosts)), [500, 500]);
}

/// What was refused over HTTP waits nowhere: it fits when it comes again, whatever was written between.
#[test]
fn what_is_allowed_once_over_http_fits_then() {
    let (engine, nobody) = (home(), Hosts::default());
    let (ledger, bob) = (Ledger::open(Path::new("")), Payer::Key(secret(1).public()));
    ledger.limit(&bob, 1000);
    assert_eq!(ledger.charge(&bob, &nobody, 700, 1), Ok(()));
    let id = ledger.charge(&bob, &nobody, 400, 1).expect_err("there is room for less");
    assert_eq!((ledger.held()[&id].bytes, ledger.held()[&id].used), (400, 700));
    assert_eq!(ledger.charge(&bob, &nobody, 50, 1), Ok(()));
    assert_eq!(ledger.allow(engine.store(), &id, Answer::Once(400)).map(|held| held.bytes), Ok(400));
    assert_eq!((ledger.charge(&bob, &nobody, 400, 1), ledger.room(&bob, &nobody)), (Ok(()), 0), "that, and no more");
    // What he wrote otherwise, or has room by now, is asked for no longer.
    ledger.charge(&bob, &nobody, 400, 1).expect_err("there is none");
    ledger.give_back_file(&bob, &nobody, &TimelineId([1; 32]), 300);
    assert_eq!((ledger.charge(&bob, &nobody, 100, 1), ledger.held().len()), (Ok(()), 1));
    ledger.give_back_file(&bob, &nobody, &TimelineId([1; 32]), 300);
    ledger.count(&bob, &nobody, &TimelineId([1; 32]), 20);
    assert_eq!((ledger.room(&bob, &nobody), ledger.held().len()), (480, 0));
}

/// Of whom nothing is known shares a room with others; that a request of his was allowed gives him no other of his own.
#[test]
fn who_shares_a_room_is_allowed_what_he_asks_for_and_no_more() {
    let (phone, guest) = (secret(1), secret(11));
    let (mut engine, _) = host(&[], 0);
    let root = engine.store().own().key;
    let cap = admin(&mut engine, &phone);
    let given = engine.store().rights(&root).expect("held").grant(&cap).expect("given").op.change;
    let (rows, auth) = (engine.store().snapshot(), engine.store().own().auth());
    let last = timebus_store::tips::heads(&*rows, auth).expect("memory does not fail").into_iter().max().expect("one");
    let on = (given, timebus_store::summary::summary(&*rows, auth, last).expect("memory does not fail").lamport);
    let may = Actions::READ.0 | Actions::WRITE.0;
    let said = chain_with(Kind::Auth, &phone, TimelineId::named(&root, "auth"), cap, Some(on), std::iter::once(vec![wall(&guest, may, 0)]));
    offer(&mut engine, said);
    let ledger = Ledger::open(Path::new(""));
    ledger.limit(&Payer::Key(phone.public()), 100);
    let payer = Payer::Key(guest.public());
    let hosts = || ledger.hosts(engine.store(), &root, &payer);
    assert_eq!(hosts().members, [phone.public()]);
    assert_eq!(ledger.charge(&payer, &hosts(), 500, 1), Ok(()));
    let id = ledger.charge(&payer, &hosts(), 900, 1).expect_err("there is room for 300 of all whom he let in");
    assert!(ledger.allow(engine.store(), &id, Answer::Once(900)).is_ok());
    assert_eq!((ledger.limit_of(&payer, Relation::Invited), ledger.room(&payer, &hosts())), (1400, 900));
    // By a peer of his own it is the same.
    let stranger = secret(12).public().to_string();
    let held = Held { who: stranger.clone(), author: stranger, timeline: "t".to_owned(), relation: Relation::Stranger, ..ledger_held(9000) };
    lock(&ledger.state).settings.held.insert("abc".to_owned(), held);
    assert!(ledger.allow(engine.store(), "abc", Answer::Once(9000)).is_ok());
    assert_eq!(ledger.limit_of(&Payer::Key(secret(12).public()), Relation::Stranger), 9000);
}

fn ledger_held(bytes: u64) -> Held {
    Held {
        who: String::new(),
        author: String::new(),
        counted: String::new(),
        timeline: HTTP.to_owned(),
        relation: Relation::Invited,
        changes: 1,
        bytes,
        used: 0,
        files: 0,
        file_bytes: 0,
        is_whole: true,
        upto: 0,
        since_ms: 1,
    }
}
