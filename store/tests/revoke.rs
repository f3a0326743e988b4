//! What becomes of the values that somebody wrote when his right to write is taken back.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/home.rs"]
mod home;

use dice::setting;
use home::{folder, get, json, open, path, put, request};
use timebus_identity::{PublicKey, SecretKey, Verified};
use timebus_store::change::{Body, Change, Header, Kind, OVERHEAD_BYTES};
use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{ChangeId, GrantId, TimelineId};
use timebus_store::json::Json;
use timebus_store::op::{Op, PathStep};
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::value::{Mime, Value};
use timebus_store::writer::{Action, Request, Statement, verify_all};

/// All changes of a space, as another store sends them.
fn changes(store: &Store, space: Space) -> Vec<Verified<Change>> {
    let rows = store.snapshot();
    let mut signed = Vec::new();
    for t in [space.auth(), space.main()] {
        for change in store.changes(&rows, t, 0) {
            let (_, own) = change.expect("change");
            let record = store.log().read(own.place).expect("record");
            signed.push(Change::decode(&record.payload).expect("a change"));
        }
    }
    verify_all(signed).expect("signed")
}

async fn send(from: &Store, space: &PublicKey, to: &Store) {
    let offered = to.offer(changes(from, from.held(space).expect("held"))).await.expect("taken");
    assert!(offered.refused.is_empty(), "{:?}", offered.refused);
}

fn writer(to: PublicKey, name: &str) -> Grant {
    Grant {
        audience: Audience::Key(to),
        scope: Scope { segments: vec![ScopeSegment::Name(name.into())], deep: true },
        timelines: Timelines::Main,
        actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 0,
        label: "".into(),
    }
}

async fn grant(owner: &Store, grant: Grant) -> GrantId {
    owner.state(Statement::Ops(vec![Op::Grant(grant)]), 1).await.expect("granted")[0]
}

async fn revoke(owner: &Store, grant: GrantId, keep: Vec<ChangeId>) {
    let revoke = Op::Revoke(Revoke { grant, cascade: false, keep });
    owner.state(Statement::Ops(vec![revoke]), 1).await.expect("revoked");
}

async fn write(from: &Store, space: Space, at: &str, value: &str) -> ChangeId {
    let asked = Request { space: Some(space), ..request(at, Action::Put(json(value))) };
    from.write(asked).await.expect("written").change.expect("a change")
}

fn read(store: &Store, space: &PublicKey, at: &str) -> Option<Json> {
    let space = store.held(space).expect("held");
    store.read(&store.snapshot(), space, &path(at)).expect("read").tree.to_json(&space.key)
}

/// Owner, member with a right to write below `/wall`, and the owner's space as the member holds it.
async fn pair(alice: &Store, bob: &Store) -> (GrantId, Space) {
    put(alice, "/wall/hello", &json("1")).await;
    let right = grant(alice, writer(bob.device(), "wall")).await;
    send(alice, &alice.space(), bob).await;
    (right, bob.held(&alice.space()).expect("held"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_built_on_stays_and_what_nobody_saw_goes() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let (right, space) = pair(&alice, &bob).await;
    write(&bob, space, "/wall/seen", "\"by bob\"").await;
    send(&bob, &alice.space(), &alice).await;
    put(&alice, "/other", &json("2")).await;

    revoke(&alice, right, vec![]).await;
    // Bob does not know yet, or does not want to.
    write(&bob, space, "/wall/hello", "\"overwritten\"").await;
    let unseen = write(&bob, space, "/wall/unseen", "\"by bob\"").await;
    send(&bob, &alice.space(), &alice).await;
    let shown = || json(r#"{"hello":1,"seen":"by bob"}"#);
    assert_eq!(get(&alice, "/wall"), Some(shown()));
    let past = alice.read_at(&alice.snapshot(), alice.own(), &path("/wall"), &[unseen.to_string()]).expect("read");
    assert_eq!(past.to_json(&alice.space()), Some(shown()), "nor at an older version");

    // The owner goes on, and by that brings nothing back.
    put(&alice, "/wall/more", &json("3")).await;
    put(&alice, "/wall/more", &json("4")).await;
    let shown = || json(r#"{"hello":1,"more":4,"seen":"by bob"}"#);
    assert_eq!(get(&alice, "/wall"), Some(shown()));
    send(&alice, &alice.space(), &bob).await;
    assert_eq!(read(&bob, &alice.space(), "/wall"), Some(shown()), "everybody sees the same");

    // After a restart, and from the log alone.
    bob.close();
    let bob = open(bob_home.path());
    assert_eq!(read(&bob, &alice.space(), "/wall"), Some(shown()));
    bob.close();
    std::fs::remove_dir_all(bob_home.path().join("index")).expect("removed");
    let bob = open(bob_home.path());
    assert_eq!(read(&bob, &alice.space(), "/wall"), Some(shown()));

    // What the owner finds among the hidden may be kept.
    revoke(&alice, right, vec![unseen]).await;
    assert_eq!(get(&alice, "/wall"), Some(json(r#"{"hello":"overwritten","more":4,"seen":"by bob","unseen":"by bob"}"#)));
}

/// Whoever may write somewhere else builds on what was hidden, and the owner builds on that.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_the_owner_vouch_for_what_was_hidden() {
    let homes = [folder(), folder(), folder()];
    let (alice, bob, carol) = (open(homes[0].path()), open(homes[1].path()), open(homes[2].path()));
    let (right, space) = pair(&alice, &bob).await;
    grant(&alice, writer(carol.device(), "desk")).await;
    revoke(&alice, right, vec![]).await;
    write(&bob, space, "/wall/unseen", "\"by bob\"").await;
    // Carol has not heard of the revocation, or is a friend of Bob's: she builds on what he wrote.
    send(&bob, &alice.space(), &carol).await;
    let before: Vec<_> = changes(&alice, alice.own());
    let theirs = carol.held(&alice.space()).expect("held");
    let granted: Vec<_> = before.into_iter().filter(|change| change.header().seq < 3).collect();
    carol.offer(granted).await.expect("taken");
    write(&carol, theirs, "/desk/note", "\"by carol\"").await;
    send(&carol, &alice.space(), &alice).await;
    assert_eq!(get(&alice, "/desk"), Some(json(r#"{"note":"by carol"}"#)));
    assert_eq!(get(&alice, "/wall"), Some(json(r#"{"hello":1}"#)));
    for n in 0..3 {
        put(&alice, "/other", &json(&n.to_string())).await;
        assert_eq!(get(&alice, "/wall"), Some(json(r#"{"hello":1}"#)), "the owner vouches for Carol's note and nothing more");
    }
    // The same from the log alone.
    alice.close();
    std::fs::remove_dir_all(homes[0].path().join("index")).expect("removed");
    let alice = open(homes[0].path());
    assert_eq!(get(&alice, "/wall"), Some(json(r#"{"hello":1}"#)));
    assert_eq!(get(&alice, "/desk"), Some(json(r#"{"note":"by carol"}"#)));
}

/// Whoever goes on with what somebody else wrote vouches for it, whatever lies between.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_or_added_to_is_vouched_for() {
    let homes = [folder(), folder(), folder()];
    let (alice, bob, carol) = (open(homes[0].path()), open(homes[1].path()), open(homes[2].path()));
    let (right, space) = pair(&alice, &bob).await;
    grant(&alice, writer(carol.device(), "desk")).await;
    send(&alice, &alice.space(), &carol).await;
    let theirs = carol.held(&alice.space()).expect("held");
    write(&bob, space, "/wall/list", "[1]").await;
    write(&bob, space, "/wall/alone", "1").await;
    send(&bob, &alice.space(), &carol).await;
    // Carol's note lies between what Bob wrote and what Alice adds to it.
    write(&carol, theirs, "/desk/note", "1").await;
    send(&carol, &alice.space(), &alice).await;
    let added = Action::Post { name: "x".to_owned(), value: json("2") };
    alice.write(request("/wall/list", added)).await.expect("added");
    revoke(&alice, right, vec![]).await;
    assert_eq!(get(&alice, "/wall/list"), Some(json("[1,2]")), "she added to his list");
    // Keeping what is here keeps the rest too.
    alice.state(Statement::Revoke { grants: vec![right], cascade: false, keep: true }, 1).await.expect("revoked");
    assert_eq!(get(&alice, "/wall/list"), Some(json("[1,2]")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_keeps_what_is_here_and_nothing_that_was_hidden_before() {
    let homes = [folder(), folder(), folder()];
    let (alice, bob, carol) = (open(homes[0].path()), open(homes[1].path()), open(homes[2].path()));
    let (right, space) = pair(&alice, &bob).await;
    let carols = grant(&alice, writer(carol.device(), "desk")).await;
    send(&alice, &alice.space(), &bob).await;
    send(&alice, &alice.space(), &carol).await;
    revoke(&alice, right, vec![]).await;
    write(&bob, space, "/wall/unseen", "\"by bob\"").await;
    send(&bob, &alice.space(), &carol).await;
    let theirs = carol.held(&alice.space()).expect("held");
    for n in 0..3 {
        write(&carol, theirs, &format!("/desk/{n}"), &n.to_string()).await;
    }
    send(&carol, &alice.space(), &alice).await;
    let before = get(&alice, "/");
    let preview = alice.preview_revoke(alice.own(), &[carols], false, true).expect("read");
    assert_eq!((preview.dead, preview.hidden.len()), (vec![carols], 0));
    let preview = alice.preview_revoke(alice.own(), &[carols], false, false).expect("read");
    assert_eq!(preview.hidden.len(), 3);
    alice.state(Statement::Revoke { grants: vec![carols], cascade: false, keep: true }, 1).await.expect("revoked");
    assert_eq!(get(&alice, "/"), before);
    let late = write(&carol, theirs, "/desk/late", "1").await;
    send(&carol, &alice.space(), &alice).await;
    assert_eq!(get(&alice, "/"), before);
    // The hidden are listed, with why, and one of them can be kept.
    let hidden = alice.hidden(alice.own(), 100).expect("read");
    let ids: Vec<ChangeId> = hidden.iter().map(|one| one.id).collect();
    assert!(hidden.len() == 2 && ids.contains(&late), "{hidden:?}");
    assert!(hidden.iter().any(|one| one.paths == [path("/wall/unseen")]), "{hidden:?}");
    alice.keep(alice.own(), late, 1).await.expect("kept");
    assert_eq!(get(&alice, "/desk/late"), Some(json("1")));
    assert_eq!(get(&alice, "/wall"), Some(json(r#"{"hello":1}"#)));
    assert_eq!(alice.hidden(alice.own(), 100).expect("read").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_told_when_values_are_hidden_and_shown_again() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let (right, space) = pair(&alice, &bob).await;
    let unseen = write(&bob, space, "/wall/x", "\"by bob\"").await;
    send(&bob, &alice.space(), &alice).await;
    let feed = alice.feed(alice.own(), &path("/wall"));
    let mut next = feed.end();
    let mut told = || {
        let timebus_store::feed::Next::Entries(entries) = feed.from(next, usize::MAX) else { panic!("fell behind") };
        next += entries.len() as u64;
        entries
            .into_iter()
            .flat_map(|entry| entry.update.patches.clone().expect("few"))
            .map(|patch| (patch.path.to_string(), patch.edit))
            .collect::<Vec<_>>()
    };
    revoke(&alice, right, vec![]).await;
    assert_eq!(told(), [("/wall/x".to_owned(), timebus_store::update::Edit::Delete)]);
    revoke(&alice, right, vec![unseen]).await;
    assert_eq!(told(), [("/wall/x".to_owned(), timebus_store::update::Edit::Put(json("\"by bob\"")))]);
}

/// What a store shows that knew nothing of a space and hears of all of it at once.
async fn from_scratch(store: &Store) -> String {
    let home = folder();
    let fresh = open(home.path());
    send(store, &store.space(), &fresh).await;
    state(&fresh, &store.space())
}

/// All that can be seen at the wall: what stands beside what shows, too, in which version.
fn state(store: &Store, space: &PublicKey) -> String {
    let (rows, held) = (store.snapshot(), store.held(space).expect("held"));
    let reading = store.read(&rows, held, &path("/wall")).expect("read");
    let mut out = Vec::new();
    reading.tree.write_json(timebus_store::tree::Show { space, all: true }, &mut out);
    let mut writes = Vec::new();
    reading.tree.all_writes(&mut writes);
    let mut writes: Vec<String> = writes.iter().map(|write| format!("{}={:?}", write.id, write.value)).collect();
    writes.sort_unstable();
    let versions = ["/wall", "/wall/list", "/wall/text"].map(|at| store.version(&rows, held, &path(at)).expect("read"));
    format!("{}\n{writes:?}\n{versions:?}", String::from_utf8(out).expect("text"))
}

/// `TIMEBUS_HIDDEN=10000` is what is asked for with optimization; the times are printed.
#[tokio::test(flavor = "multi_thread")]
async fn hiding_many_changes_and_showing_them_again_leaves_what_was() {
    let (alice_home, bob_home, carol_home) = (folder(), folder(), folder());
    let (alice, bob, carol) = (open(alice_home.path()), open(bob_home.path()), open(carol_home.path()));
    let (right, space) = pair(&alice, &bob).await;
    put(&alice, "/wall/list", &json("[1]")).await;
    let admin = grant(&alice, Grant { actions: Actions(Actions::ALL.0 & !Actions::RUN.0), depth: 1, ..writer(carol.device(), "wall") }).await;
    send(&alice, &alice.space(), &bob).await;
    send(&alice, &alice.space(), &carol).await;
    let before = get(&alice, "/");
    let mut last = None;
    let clock = std::time::Instant::now();
    for n in 0..setting("TIMEBUS_HIDDEN", 300) {
        let (at, number) = (format!("/wall/{}/{n}", n % 50), n.to_string());
        let of = |at: &str, action| Request { space: Some(space), ..request(at, action) };
        let asked = match n % 10 {
            // Over each other, into a list, a text, over what the owner wrote, and away again.
            0 => of("/wall/same", Action::Put(json(&number))),
            1 => of("/wall/list", Action::Post { name: format!("n{n}"), value: json(&number) }),
            2 => of("/wall/text", Action::PutText { mime: Mime::plain_text(), text: format!("line {n}\n") }),
            3 => of("/wall/hello", Action::Put(json(&number))),
            4 if n > 10 => of(&format!("/wall/{}/{}", (n - 7) % 50, n - 7), Action::Delete),
            _ => of(&at, Action::Put(json(&number))),
        };
        last = bob.write(asked).await.expect("written").change.or(last);
    }
    eprintln!("written in {:?}", clock.elapsed());
    let all = changes(&bob, space);
    let clock = std::time::Instant::now();
    assert!(alice.offer(all).await.expect("taken").refused.is_empty());
    eprintln!("taken in, signatures checked before, in {:?}", clock.elapsed());
    let full = state(&alice, &alice.space());
    let clock = std::time::Instant::now();
    revoke(&alice, right, vec![]).await;
    eprintln!("hidden in {:?}", clock.elapsed());
    assert_eq!(get(&alice, "/"), before);
    let hidden = state(&alice, &alice.space());
    assert_ne!(hidden, full);
    assert_eq!(from_scratch(&alice).await, hidden);
    let clock = std::time::Instant::now();
    for n in 0..50 {
        put(&alice, "/beside", &json(&n.to_string())).await;
    }
    eprintln!("50 values written beside them in {:?}", clock.elapsed());
    alice.write(request("/beside", Action::Delete)).await.expect("removed");
    let clock = std::time::Instant::now();
    revoke(&alice, right, last.into_iter().collect()).await;
    eprintln!("shown again in {:?}", clock.elapsed());
    assert_eq!(state(&alice, &alice.space()), full);
    assert_eq!(from_scratch(&alice).await, full);

    // Who has the whole wall takes it back, too, and is out before anybody heard of that: it has no force, and all shows again.
    let theirs = carol.held(&alice.space()).expect("held");
    carol.state_as(theirs, admin, Statement::Ops(vec![Op::Revoke(Revoke { grant: right, cascade: false, keep: vec![] })]), 1).await.expect("stated");
    send(&carol, &alice.space(), &alice).await;
    let clock = std::time::Instant::now();
    revoke(&alice, admin, vec![]).await;
    eprintln!("shown by a revocation that lost its force in {:?}", clock.elapsed());
    assert_eq!(state(&alice, &alice.space()), full);
    assert_eq!(from_scratch(&alice).await, full);
}

/// Whoever hands on to himself very often, and a crowd of which each wrote something.
#[tokio::test(flavor = "multi_thread")]
async fn however_many_grants_there_are_all_are_taken_back_and_what_is_here_stays() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let space = alice.space();
    let keys: Vec<SecretKey> = (0..250u8).map(|number| SecretKey::from_seed([number; 32])).collect();
    let grants = keys.iter().map(|key| Op::Grant(writer(key.public(), "wall"))).collect();
    let caps = alice.state(Statement::Ops(grants), 1).await.expect("granted");
    let notes = (0..).zip(keys.iter().zip(&caps)).map(|(number, (key, cap))| forged(&space, key, *cap, None, number));
    alice.offer(notes.collect()).await.expect("taken");
    let before = get(&alice, "/wall");
    assert!(matches!(&before, Some(Json::Object(notes)) if notes.len() == 250));
    alice.state(Statement::Revoke { grants: caps.clone(), cascade: false, keep: true }, 1).await.expect("taken back");
    let rights = alice.rights(&space).expect("its rights");
    assert!(caps.iter().all(|cap| !rights.is_live(cap)));
    assert_eq!(get(&alice, "/wall"), before);

    let actions = Actions(Actions::ALL.0 & !Actions::RUN.0);
    let much = Grant { scope: Scope::everything(), timelines: Timelines::All, actions, depth: 2, ..writer(bob.device(), "") };
    let his_grant = grant(&alice, much.clone()).await;
    send(&alice, &space, &bob).await;
    let theirs = bob.held(&space).expect("held");
    let own: Vec<Op> = (0..15_000).map(|n| Op::Grant(Grant { label: n.to_string().into(), depth: 1, ..much.clone() })).collect();
    bob.state_as(theirs, his_grant, Statement::Ops(own), 1).await.expect("he can");
    send(&bob, &space, &alice).await;
    let his = |store: &Store| -> Vec<GrantId> {
        let rights = store.rights(&space).expect("its rights");
        rights.grants_for(&bob.device()).filter(|(_, held)| held.is_live()).map(|(id, _)| id).collect()
    };
    assert_eq!(his(&alice).len(), 15_001);
    alice.state(Statement::Revoke { grants: his(&alice), cascade: false, keep: true }, 1).await.expect("taken back");
    assert!(his(&alice).is_empty());
    assert_eq!(get(&alice, "/wall"), before);
}

/// Whoever is out goes on stating; that tells him nothing and uses nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_by_whoever_is_out_never_was_in_force() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let space = alice.space();
    let hands_on = Grant { actions: Actions(Actions::GRANT.0 | Actions::SYNC.0 | Actions::READ.0), depth: 3, ..writer(bob.device(), "wall") };
    let right = grant(&alice, hands_on.clone()).await;
    send(&alice, &space, &bob).await;
    let theirs = bob.held(&space).expect("held");
    let state = |label: &str| {
        let grant = Grant { label: label.into(), depth: 2, ..hands_on.clone() };
        bob.state_as(theirs, right, Statement::Ops(vec![Op::Grant(grant)]), 1)
    };
    let early = state("early").await.expect("stated")[0];
    send(&bob, &space, &alice).await;
    alice.state(Statement::Revoke { grants: vec![right], cascade: true, keep: true }, 1).await.expect("taken back");
    let about = |store: &Store| store.rights(&space).expect("its rights").about(&bob.device());
    let before = about(&alice);
    assert_eq!(before.len(), 3, "two that let him in, and one that took it back");
    let late = state("late").await.expect("he does not know yet")[0];
    send(&bob, &space, &alice).await;
    let rights = alice.rights(&space).expect("its rights");
    assert!(rights.grant(&late).is_some_and(|held| !held.is_live()), "it came");
    assert!(rights.was_in_force(&right) && rights.was_in_force(&early) && !rights.was_in_force(&late));
    assert_eq!(about(&alice), before);
    assert!(!rights.is_party(Some(&bob.device()), 1));
}

/// Whoever stole a device, and was thrown out, is the owner in no other space.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_thrown_out_is_the_owner_in_his_own_space_alone() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let writes = writer(bob.device(), "");
    let device = grant(&alice, Grant { scope: Scope::everything(), timelines: Timelines::All, actions: Actions::ALL, depth: 1, ..writes }).await;
    let is = || [true, false].map(|is_in_own| alice.is_by_owner(&bob.device(), || is_in_own));
    assert_eq!(is(), [true, true]);
    revoke(&alice, device, vec![]).await;
    assert_eq!(is(), [true, false]);
    let guest = grant(&alice, writer(PublicKey::from_bytes([9; 32]), "wall")).await;
    assert!(!alice.is_by_owner(&PublicKey::from_bytes([9; 32]), || true) && alice.rights(&alice.space()).is_some_and(|all| all.is_live(&guest)));
}

/// A change of somebody with a program of his own: a number below `/wall`, after another change of his.
fn forged(space: &PublicKey, key: &SecretKey, cap: GrantId, after: Option<&Verified<Change>>, number: i64) -> Verified<Change> {
    let names = ["wall".to_owned(), number.to_string()];
    let path = names.into_iter().map(|name| PathStep::Name(name.into())).collect();
    let body = Body { ops: vec![Op::Set { path, value: Value::Int(number), preds: Vec::new() }], ..Body::default() }.encode();
    let header = Header {
        kind: Kind::Data,
        timeline: TimelineId::named(space, "main"),
        author: key.public(),
        seq: after.map_or(1, |prev| prev.header().seq + 1),
        prev: after.map(|prev| prev.id()),
        cap: Some(cap),
        parents: Vec::new(),
        lamport: after.map_or(1, |prev| prev.header().lamport + 1),
        time_ms: 1,
        cum: after.map_or(0, |prev| prev.header().cum) + OVERHEAD_BYTES + body.len() as u64,
        body_len: body.len() as u64,
        body_root: *blake3::hash(&body).as_bytes(),
        encryption: None,
    };
    Verified::sign(Change::new(header, body.into()).expect("fits"), key).expect("his own key")
}

/// So many changes one after the other.
fn chain(space: &PublicKey, key: &SecretKey, cap: GrantId, after: Option<&Verified<Change>>, numbers: std::ops::Range<i64>) -> Vec<Verified<Change>> {
    let mut all: Vec<Verified<Change>> = Vec::new();
    for number in numbers {
        all.push(forged(space, key, cap, all.last().or(after), number));
    }
    all
}

/// Somebody forks his chain further and further down, and often in one place; all of that comes at once, or one by one.
/// `TIMEBUS_FORKS=5000` with optimization shows what it takes: twice as many have to take about twice as long.
#[tokio::test(flavor = "multi_thread")]
async fn however_often_a_chain_is_forked_what_others_saw_before_stays_and_the_rest_goes() {
    let n = i64::try_from(setting("TIMEBUS_FORKS", 40)).expect("not that many");
    let (alice_home, carol_home) = (folder(), folder());
    let (alice, carol) = (open(alice_home.path()), open(carol_home.path()));
    let (space, mallory) = (alice.space(), SecretKey::from_seed([66; 32]));
    let cap = grant(&alice, writer(mallory.public(), "wall")).await;
    let seen = chain(&space, &mallory, cap, None, 0..10);
    alice.offer(seen.clone()).await.expect("taken");
    put(&alice, "/seen", &json("1")).await;
    let unseen = chain(&space, &mallory, cap, seen.last(), 10..10 + n);
    let in_place_of = |at: usize, number: i64| forged(&space, &mallory, cap, at.checked_sub(1).map(|at| &unseen[at]).or(seen.last()), number);
    let further_down = (0..unseen.len()).rev().zip(1000..).map(|(at, number)| in_place_of(at, number));
    let in_one_place = (0..n).map(|number| in_place_of(0, 1_000_000 + number));
    let forks: Vec<Verified<Change>> = further_down.chain(in_one_place).collect();
    alice.offer(unseen.clone()).await.expect("taken");
    let feed = alice.feed(alice.own(), &path("/wall"));
    let next = feed.end();
    let clock = std::time::Instant::now();
    alice.offer(forks).await.expect("taken");
    // Whoever watches is told in order, and reads again what is hidden now.
    let timebus_store::feed::Next::Entries(told) = feed.from(next, usize::MAX) else { panic!("fell behind") };
    let is_again = |entry: &&std::sync::Arc<timebus_store::feed::Entry>| entry.update.a == u64::MAX;
    assert!(told.iter().any(|entry| is_again(&entry) && entry.update.touched.contains(&path("/wall/10"))));
    assert!(told.iter().filter(|entry| !is_again(entry)).is_sorted_by_key(|entry| entry.update.a));
    eprintln!("{} forks taken in, signatures checked before, in {:?}", n * 2, clock.elapsed());
    let clock = std::time::Instant::now();
    for number in 0..50 {
        put(&alice, "/beside", &json(&number.to_string())).await;
    }
    eprintln!("50 values written beside them in {:?}", clock.elapsed());

    let shows = get(&alice, "/wall");
    let numbers: serde_json::Map<String, serde_json::Value> = (0..10).map(|number| (number.to_string(), number.into())).collect();
    assert_eq!(shows, Some(json(&serde_json::Value::Object(numbers).to_string())));
    for change in changes(&alice, alice.own()) {
        assert!(carol.offer(vec![change]).await.expect("taken").refused.is_empty());
    }
    assert_eq!(read(&carol, &space, "/"), get(&alice, "/"));
    assert_eq!(from_scratch(&alice).await, state(&alice, &alice.space()));
    drop(alice);
    assert_eq!(get(&open(alice_home.path()), "/wall"), shows);
}

/// Somebody brings much at once, and the owner writes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_here_does_not_wait_for_all_that_others_bring() {
    let home = folder();
    let alice = open(home.path());
    let guest = SecretKey::from_seed([66; 32]);
    let cap = grant(&alice, writer(guest.public(), "wall")).await;
    let all = chain(&alice.space(), &guest, cap, None, 0..3000);
    let last = all.last().expect("many").id();
    let bringing = tokio::spawn({
        let alice = alice.clone();
        async move { alice.offer(all).await.expect("taken") }
    });
    let rows = loop {
        let rows = alice.snapshot();
        if alice.changes(&rows, alice.own().main(), 0).next().is_some() {
            break rows;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    };
    drop(rows);
    put(&alice, "/own", &json("1")).await;
    assert_eq!(bringing.await.expect("ends").admitted.len(), 3000);
    let rows = alice.snapshot();
    let all: Vec<_> = alice.changes(&rows, alice.own().main(), 0).map(|change| change.expect("read").1).collect();
    let place = |is_it: &dyn Fn(&timebus_store::summary::Summary) -> bool| all.iter().position(is_it);
    assert!(place(&|own| own.author == alice.device()) < place(&|own| own.id == last), "it was written before all had come");
}
