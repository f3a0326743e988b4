//! Several spaces in one store.

#[path = "support/home.rs"]
mod home;

use home::{folder, get, json, open, path, put, request};
use timebus_identity::{PublicKey, SecretKey, Verified};
use timebus_store::change::{Body, Change, Header, Kind, OVERHEAD_BYTES};
use timebus_store::engine::{Engine, MemoryHome};
use timebus_store::grant::{Actions, Audience, Grant, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{GrantId, TimelineId};
use timebus_store::json::Json;
use timebus_store::op::{Op, PathStep};
use timebus_store::pipeline::Space;
use timebus_store::store::{Config, Store};
use timebus_store::value::Value;
use timebus_store::writer::{Action, Asker, MayName, Request, Statement, WriteError, verify_all};

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

/// Hands everything that one store holds of a space to another.
async fn send(from: &Store, space: &PublicKey, to: &Store) {
    let offered = to.offer(changes(from, from.held(space).expect("held"))).await.expect("taken");
    assert!(offered.refused.is_empty(), "{:?}", offered.refused);
}

fn read(store: &Store, space: &PublicKey, at: &str) -> Option<Json> {
    let space = store.held(space).expect("held");
    store.read(&store.snapshot(), space, &path(at)).expect("read").tree.to_json(&space.key)
}

fn write_grant(to: PublicKey, name: &str) -> Grant {
    Grant {
        audience: Audience::Key(to),
        scope: Scope { segments: vec![ScopeSegment::Name(name.into())], deep: true },
        timelines: Timelines::Main,
        actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 0,
        label: "invite:1".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_the_spaces_of_others_beside_its_own_and_keeps_them_apart() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    put(&alice, "/a/x", &json(r#"{"one":1}"#)).await;
    put(&bob, "/a/x", &json("\"mine\"")).await;
    send(&alice, &alice.space(), &bob).await;
    assert_eq!(read(&bob, &alice.space(), "/a"), Some(json(r#"{"x":{"one":1}}"#)));
    assert_eq!(get(&bob, "/a"), Some(json(r#"{"x":"mine"}"#)));
    put(&alice, "/a/y", &json("2")).await;
    send(&alice, &alice.space(), &bob).await;
    assert_eq!(bob.spaces().len(), 2);

    // Both after a restart, and when the tables are made again from the log alone.
    bob.close();
    let bob = open(bob_home.path());
    assert_eq!(read(&bob, &alice.space(), "/a"), Some(json(r#"{"x":{"one":1},"y":2}"#)));
    bob.close();
    std::fs::remove_dir_all(bob_home.path().join("index")).expect("removed");
    let bob = open(bob_home.path());
    assert_eq!(read(&bob, &alice.space(), "/a"), Some(json(r#"{"x":{"one":1},"y":2}"#)));
    assert_eq!(get(&bob, "/a"), Some(json(r#"{"x":"mine"}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_in_the_space_of_another_where_a_grant_lets_it() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    put(&alice, "/wall/hello", &json("1")).await;
    send(&alice, &alice.space(), &bob).await;
    let space = bob.held(&alice.space());
    let post = |at: &str| Request { space, ..request(at, Action::Put(json("\"from bob\""))) };
    assert!(matches!(bob.write(post("/wall/b")).await, Err(WriteError::NoGrant { .. })));

    alice.state(Statement::Ops(vec![Op::Grant(write_grant(bob.device(), "wall"))]), 1).await.expect("granted");
    send(&alice, &alice.space(), &bob).await;
    bob.write(post("/wall/b")).await.expect("written");
    assert!(matches!(bob.write(post("/elsewhere")).await, Err(WriteError::NoGrant { .. })));
    send(&bob, &alice.space(), &alice).await;
    assert_eq!(get(&alice, "/wall"), Some(json(r#"{"b":"from bob","hello":1}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_is_used_up_as_often_as_it_says() {
    let home = folder();
    let store = open(home.path());
    let keys: Vec<PublicKey> = (0..64u8).map(|n| timebus_identity::SecretKey::from_seed([n + 1; 32]).public()).collect();
    let redeem = |key: PublicKey| {
        let store = store.clone();
        async move { store.state(Statement::Redeem { grant: write_grant(key, "wall"), uses_max: 2 }, 1).await }
    };
    let tasks: Vec<_> = keys.iter().map(|key| tokio::spawn(redeem(*key))).collect();
    let mut winners = Vec::new();
    for (key, task) in keys.iter().zip(tasks) {
        match task.await.expect("ran") {
            Ok(grants) => winners.push((*key, grants)),
            Err(WriteError::UsedUp) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 2);
    // Asking again, as after a lost answer, gives the same grant.
    store.close();
    let store = open(home.path());
    let again = store.state(Statement::Redeem { grant: write_grant(winners[0].0, "wall"), uses_max: 2 }, 1).await.expect("known");
    assert_eq!(again, winners[0].1);
}

/// Bob may bring guests, and calls those whom he brings by the name of an invite that is not his.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_does_not_use_up_an_invite() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let depth = |key: PublicKey, depth: u8| {
        let grant = write_grant(key, "wall");
        let actions = if depth > 0 { Actions(grant.actions.0 | Actions::GRANT.0) } else { grant.actions };
        Grant { depth, actions, ..grant }
    };
    let given = Op::Grant(Grant { label: "bob".into(), ..depth(bob.device(), 1) });
    let given = alice.state(Statement::Ops(vec![given]), 1).await.expect("granted");
    send(&alice, &alice.space(), &bob).await;
    let there = bob.held(&alice.space()).expect("held");
    let carol = timebus_identity::SecretKey::from_seed([7; 32]).public();
    let his = |key: PublicKey| Op::Grant(Grant { actions: Actions::READ, ..depth(key, 0) });
    let dave = timebus_identity::SecretKey::from_seed([8; 32]).public();
    bob.state_as(there, given[0], Statement::Ops(vec![his(carol), his(dave)]), 1).await.expect("granted");
    send(&bob, &alice.space(), &alice).await;
    let redeem = |key: PublicKey| alice.state(Statement::Redeem { grant: write_grant(key, "wall"), uses_max: 1 }, 1);
    let got = redeem(carol).await.expect("there is one use");
    let rights = alice.rights(&alice.space()).expect("held");
    assert!(rights.grant(&got[0]).expect("stated").grant.actions.contains(Actions::WRITE), "and not what bob gave her");
    assert!(matches!(redeem(dave).await, Err(WriteError::UsedUp)));
}

/// The first change of somebody, as a program of his own would make it, on top of another one or of none.
fn forged(alice: &Store, key: &SecretKey, cap: GrantId, ops: Vec<Op>, on: Option<&Verified<Change>>) -> Verified<Change> {
    let bytes = Body { ops, ..Body::default() }.encode();
    let header = Header {
        kind: Kind::Data,
        timeline: TimelineId::named(&alice.space(), "main"),
        author: key.public(),
        seq: 1,
        prev: None,
        cap: Some(cap),
        parents: on.map(|on| on.id()).into_iter().collect(),
        lamport: on.map_or(1, |on| on.header().lamport + 1),
        time_ms: 1,
        cum: OVERHEAD_BYTES + bytes.len() as u64,
        body_len: bytes.len() as u64,
        body_root: *blake3::hash(&bytes).as_bytes(),
        encryption: None,
    };
    Verified::sign(Change::new(header, bytes.into()).expect("fits"), key).expect("his own key")
}

/// Whoever may write everywhere writes neither whom the owner follows, nor who the owner is, nor which apps he publishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_has_no_word_where_the_owners_counts() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    let actions = Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0 | Actions::GRANT.0);
    let everywhere = |key: PublicKey| Op::Grant(Grant { scope: Scope::everything(), actions, depth: 2, ..write_grant(key, "wall") });
    let given = alice.state(Statement::Ops(vec![everywhere(bob.device())]), 1).await.expect("granted");
    send(&alice, &alice.space(), &bob).await;
    let there = bob.held(&alice.space());
    let write = |at: &str, value: &str| bob.write(Request { space: there, ..request(at, Action::Put(json(value))) });
    for at in ["/lists/blocked/x", "/profile/name", "/profile", "/.apps/chirp/version"] {
        assert!(matches!(write(at, "1").await, Err(WriteError::NoGrant { .. })), "{at}");
    }
    assert!(matches!(write("/", r#"{"a":1,"profile":{"name":"Your Bank"}}"#).await, Err(WriteError::NoGrant { .. })));
    write("/lists-of-mine", "1").await.expect("written");
    let patch = Action::JsonPatch(json(r#"[{"op":"add","path":"/lists","value":{"blocked":{"x":1}}}]"#));
    let patched = bob.write(Request { space: there, ..request("/", patch) }).await;
    assert!(matches!(&patched, Err(WriteError::NoGrant { path, .. }) if path.to_string() == "/lists"), "{patched:?}");

    // Nor does he give others what he has not, and his own program makes no difference.
    let (carol, dave) = (SecretKey::from_seed([7; 32]), SecretKey::from_seed([8; 32]));
    let lists = |key: PublicKey| Op::Grant(write_grant(key, "lists"));
    let his = bob.state_as(there.expect("held"), given[0], Statement::Ops(vec![lists(carol.public())]), 1).await.expect("granted");
    send(&bob, &alice.space(), &alice).await;
    let own = alice.state(Statement::Ops(vec![everywhere(dave.public())]), 1).await.expect("granted");
    let followed = |name: &str| vec![set(&["lists", "followed", name])];
    let changes = vec![forged(&alice, &carol, his[0], followed("x"), None), forged(&alice, &dave, own[0], followed("y"), None)];
    alice.offer(changes).await.expect("taken");
    assert_eq!(get(&alice, "/lists"), None);

    // Who was let in just there has a word.
    let erin = SecretKey::from_seed([9; 32]);
    let own = alice.state(Statement::Ops(vec![lists(erin.public())]), 1).await.expect("granted");
    alice.offer(vec![forged(&alice, &erin, own[0], followed("z"), None)]).await.expect("taken");
    assert_eq!(get(&alice, "/lists"), Some(json(r#"{"followed":{"z":1}}"#)));
}

fn set(names: &[&str]) -> Op {
    let path = names.iter().map(|name| PathStep::Name((*name).into())).collect();
    Op::Set { path, value: Value::Int(1), preds: Vec::new() }
}

/// A thief wrote with a device that was taken out, and somebody who may write everywhere builds on that.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_vouches_for_the_owners_word() {
    let home = folder();
    let alice = open(home.path());
    let (thief, guest) = (SecretKey::from_seed([7; 32]), SecretKey::from_seed([8; 32]));
    let everywhere = Op::Grant(Grant { scope: Scope::everything(), ..write_grant(guest.public(), "wall") });
    let Op::Grant(all) = timebus_store::store::device_grant(&thief.public()) else { panic!("it is a grant") };
    let device = Op::Grant(Grant { depth: all.depth - 1, ..all });
    let given = alice.state(Statement::Ops(vec![device, everywhere]), 1).await.expect("granted");
    let revoke = Statement::Revoke { grants: vec![given[0]], cascade: false, keep: true };
    alice.state(revoke, 1).await.expect("taken out");
    let wrote = forged(&alice, &thief, given[0], vec![set(&["lists", "blocked", "x"]), set(&["notes", "x"])], None);
    alice.offer(vec![wrote.clone()]).await.expect("taken");
    assert_eq!((get(&alice, "/lists"), get(&alice, "/notes")), (None, None));
    let built = forged(&alice, &guest, given[1], vec![set(&["wall", "y"])], Some(&wrote));
    alice.offer(vec![built]).await.expect("taken");
    assert_eq!((get(&alice, "/lists"), get(&alice, "/notes")), (None, Some(json(r#"{"x":1}"#))), "what the guest may write himself shows");
}

/// Many were removed, and each wrote once more; nobody builds on that.
#[tokio::test(flavor = "multi_thread")]
async fn writing_goes_on_beside_many_changes_without_effect() {
    let home = folder();
    let alice = open(home.path());
    put(&alice, "/wall/first", &json("1")).await;
    let guests: Vec<SecretKey> = (1..=80u8).map(|number| SecretKey::from_seed([number; 32])).collect();
    let grants = guests.iter().map(|guest| Op::Grant(write_grant(guest.public(), "wall"))).collect();
    let grants = alice.state(Statement::Ops(grants), 1).await.expect("granted");
    alice.state(Statement::Revoke { grants: grants.clone(), cascade: false, keep: false }, 1).await.expect("taken back");
    let late = guests.iter().zip(&grants).map(|(guest, cap)| forged(&alice, guest, *cap, vec![set(&["wall", "late"])], None));
    assert_eq!(alice.offer(late.collect()).await.expect("taken").admitted.len(), guests.len());
    let second = json("2");
    let write = put(&alice, "/wall/second", &second);
    tokio::time::timeout(std::time::Duration::from_secs(120), write).await.expect("it ends");
    assert_eq!(get(&alice, "/wall"), Some(json(r#"{"first":1,"second":2}"#)));
}

/// Somebody sees how a client numbers its versions, and uses the next number first, elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_name_of_a_version_so_that_a_write_gets_lost() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    alice.state(Statement::Ops(vec![Op::Grant(write_grant(bob.device(), "wall"))]), 1).await.expect("granted");
    send(&alice, &alice.space(), &bob).await;
    let named = |at: &str, value: &str, label: &str| Request { label: Some(label.to_owned()), ..request(at, Action::Put(json(value))) };
    let space = bob.held(&alice.space());
    for (at, value, label) in [("/wall/x", "{}", "ab12-6"), ("/wall/y", "1", "ab12-7")] {
        bob.write(Request { space, ..named(at, value, label) }).await.expect("written");
    }
    send(&bob, &alice.space(), &alice).await;
    // What is written is written, and has the name that it was given wherever that is no other version's of the same path.
    for (at, value, label, is_new) in [
        ("/notes", "{\"a\":1}", "ab12-6", true),
        ("/notes", "1", "ab12-7", true),
        ("/wall", "{\"x\":1}", "ab12-6", true),
        ("/wall/y", "2", "ab12-7", false),
    ] {
        let written = alice.write(named(at, value, label)).await.expect("written");
        assert_eq!((get(&alice, at), written.version.contains(&label.to_owned())), (Some(json(value)), is_new), "{at} {label}");
        let again = alice.write(named(at, value, label)).await.expect("known");
        assert_eq!(again.change, written.change, "{at} {label}");
    }
    put(&alice, "/wall/z", &json("1")).await;
    alice.write(Request { label: Some("ab12-7".into()), ..request("/wall/z", Action::Delete) }).await.expect("removed");
    assert_eq!(get(&alice, "/wall/z"), None);
    // The next write is made on what this device called so.
    put(&alice, "/notes", &json("5")).await;
    let next = Request { parents: Some(vec!["ab12-7".into()]), ..named("/notes", "2", "ab12-8") };
    alice.write(next).await.expect("it is known which one is meant");
    let both = alice.read(&alice.snapshot(), alice.own(), &path("/notes")).expect("read").tree.writes.len();
    assert_eq!(both, 2, "beside what it was not made on");
    // What this device wrote for somebody else under that name is no answer, either, also at the same path.
    let guest = |at: &str, value: &str, label: &str| Request { may_name: Some(MayName::default()), ..named(at, value, label) };
    alice.write(guest("/appdata/x", "1", "w-1")).await.expect("written");
    alice.write(guest("/appdata/x", "1", "w-1")).await.expect("known");
    assert!(matches!(alice.write(guest("/appdata/x", "2", "w-1")).await, Err(WriteError::LabelTaken(_))));
    for (at, value) in [("/notes", "{\"a\":1}"), ("/appdata/x", "3")] {
        alice.write(named(at, value, "w-1")).await.expect("written");
        assert_eq!(get(&alice, at), Some(json(value)));
    }
    let inc = |space, at: &str| Request { space, label: Some("c-1".into()), ..request(at, Action::Inc(1)) };
    bob.write(inc(space, "/wall/count")).await.expect("counted");
    send(&bob, &alice.space(), &alice).await;
    for _ in 0..2 {
        alice.write(inc(None, "/wall/count")).await.expect("counted");
    }
    assert_eq!(get(&alice, "/wall/count"), Some(json("2")), "hers is known when it comes again");
    alice.write(named("/list", "[1,{\"a\":2}]", "w-2")).await.expect("written");
    put(&alice, "/list/0", &json("7")).await;
    alice.write(named("/list", "[1,{\"a\":2}]", "w-2")).await.expect("known, whatever came behind it");
    assert!(matches!(alice.write(named("/list", "[1,{\"a\":3}]", "w-2")).await, Err(WriteError::LabelTaken(_))));
    let gone = |label: &str| Request { label: Some(label.to_owned()), ..request("/list", Action::Delete) };
    alice.write(gone("w-3")).await.expect("removed");
    alice.write(gone("w-3")).await.expect("known");
    // What she wrote herself under a name is known to be written, whatever came since.
    let first = alice.write(named("/notes", "7", "ab12-9")).await.expect("written");
    put(&alice, "/notes", &json("8")).await;
    assert_eq!(alice.write(named("/notes", "7", "ab12-9")).await.expect("known").change, first.change);
    assert_eq!(get(&alice, "/notes"), Some(json("8")));
}

/// Who asked for a change is in it, whatever it does, and in an index that is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_says_on_whose_behalf_it_was_made() {
    let home = folder();
    let alice = open(home.path());
    let key = PublicKey::from_bytes([7; 32]);
    let for_him = |request: Request| Request { may_name: Some(MayName { behalf: Some(key), ..MayName::default() }), ..request };
    let large: serde_json::Map<String, serde_json::Value> = (0..40).map(|n| (n.to_string(), "x".repeat(20_000).into())).collect();
    let text = |text: &str| Action::PutText { mime: timebus_store::value::Mime::plain_text(), text: text.into() };
    put(&alice, "/own", &json("1")).await;
    let actions = [
        ("/x", Action::Put(json("1"))),
        ("/large", Action::Put(json(&serde_json::Value::from(large).to_string()))),
        ("/text", text("a")),
        ("/text", text("ab")),
        ("/count", Action::Inc(1)),
        ("/x", Action::Move { to: path("/y") }),
        ("/count", Action::Undo { version: None }),
        ("/y", Action::Delete),
    ];
    for (at, action) in actions {
        alice.write(for_him(request(at, action))).await.unwrap_or_else(|error| panic!("{at}: {error}"));
    }
    // That somebody asked for what he signs himself says nothing.
    let own = Some(MayName { behalf: Some(alice.device()), ..MayName::default() });
    alice.write(Request { may_name: own, ..request("/own", Action::Put(json("2"))) }).await.expect("written");
    let check = |store: &Store| {
        let rows = store.snapshot();
        let t = store.own().main();
        let all: Vec<_> = store.changes(&rows, t, 0).map(|change| change.expect("a change")).collect();
        let (his, own): (Vec<_>, Vec<_>) = all.iter().partition(|(_, change)| change.behalf == Some(key));
        assert!(own.len() == 2 && own.iter().all(|(_, change)| change.behalf.is_none()), "{own:?}");
        assert!(his.iter().filter(|(_, change)| change.part.is_some()).count() > 1, "the large one is a run");
        let made: Vec<u64> = store.made_for(&rows, t, &key, |_| true).map(|change| change.expect("a change").0).collect();
        assert_eq!(made, his.iter().rev().map(|(a, _)| *a).collect::<Vec<_>>());
        assert_eq!(store.made_for(&rows, t, &store.device(), |_| true).count(), 0);
        his.len()
    };
    let count = check(&alice);
    drop(alice);
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    assert_eq!(check(&open(home.path())), count);
}

/// Each of several has what he wrote in mind when he says a name that all of them gave to something at one path.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_many_gave_is_to_each_what_he_wrote() {
    let home = folder();
    let alice = open(home.path());
    let [one, other, third] = [1, 2, 3].map(|number| Asker::of("app", &[number]));
    let named = |asker: Option<Asker>, value: &str, label: &str| {
        let may_name = asker.map(|asker| MayName { asker, ..MayName::default() });
        Request { label: Some(label.to_owned()), may_name, ..request("/x", Action::Put(json(value))) }
    };
    let feed = alice.feed(alice.own(), &path("/x"));
    let mut changes = Vec::new();
    for (asker, value) in [(None, "1"), (Some(one), "2"), (Some(other), "3")] {
        let written = alice.write(named(asker, value, "n-1")).await.expect("it is his first of this name");
        assert_eq!(written.version.contains(&"n-1".to_owned()), asker.is_none(), "others hear the id of what has no name");
        changes.push(written.change.expect("a change"));
        // Whoever is told what he did himself can know it by what he called it.
        let timebus_store::feed::Next::Entries(told) = feed.from(feed.end() - 1, 1) else { panic!("fell behind") };
        assert_eq!(told[0].update.asked, Some((asker, "n-1".into())));
    }
    for (asker, value, change) in [(None, "1", changes[0]), (Some(one), "2", changes[1]), (Some(other), "3", changes[2])] {
        assert_eq!(alice.write(named(asker, value, "n-1")).await.expect("known").change, Some(change));
        assert!(matches!(alice.write(named(asker, "9", "n-1")).await, Err(WriteError::LabelTaken(_))), "his own is taken");
    }
    let rows = alice.snapshot();
    for (asker, value) in [(None, "1"), (Some(one), "2"), (Some(other), "3"), (Some(third), "1")] {
        let tree = alice.asked_by(asker).read_at(&rows, alice.own(), &path("/x"), &["n-1".to_owned()]).expect("known");
        assert_eq!(tree.to_json(&alice.space()), Some(json(value)), "{asker:?}");
    }
    // His next one is made on his own, and not on what others called so.
    let next = Request { parents: Some(vec!["n-1".to_owned()]), ..named(Some(one), "4", "n-2") };
    alice.write(next).await.expect("his chain goes on");
    let writes = alice.read(&alice.snapshot(), alice.own(), &path("/x")).expect("read").tree.writes;
    let mut values: Vec<_> = writes.into_iter().map(|write| write.value).collect();
    values.sort_by_key(|value| format!("{value:?}"));
    assert_eq!(values, [Value::Int(3), Value::Int(4)]);
}

fn limited(to: PublicKey, (bytes_max, not_after_ms): (u64, u64)) -> Grant {
    Grant { bytes_max, not_after_ms, label: "table".into(), ..write_grant(to, "table") }
}

fn at(store: &Store, space: &PublicKey, at: &str, value: i64, time_ms: u64) -> Request {
    Request { space: store.held(space), time_ms, ..request(at, Action::Put(Json::Int(value))) }
}

/// What the grant does not allow is refused, with what it was that did not reach, and the chain stays whole.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_that_nobody_takes() {
    for limit in [(1000, 0), (0, 10)] {
        let homes = [(); 2].map(|()| folder());
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        let space = alice.space();
        alice.state(Statement::Ops(vec![Op::Grant(limited(bob.device(), limit))]), 1).await.expect("granted");
        send(&alice, &space, &bob).await;
        bob.write(at(&bob, &space, "/table/a", 1, 5)).await.expect("within the limit");
        for _ in 0..2 {
            let refused = bob.write(at(&bob, &space, "/table/b", 1, 20)).await;
            assert!(matches!(&refused, Err(WriteError::Limit { space: of, source }) if *of == space && source.is_limit()), "{refused:?}");
        }
        // A request of many changes is refused as a whole.
        let large = Action::Put(Json::Array((0..40_000).map(Json::Int).collect()));
        let refused = bob.write(Request { action: large, ..at(&bob, &space, "/table/b", 1, 20) }).await;
        assert!(matches!(refused, Err(WriteError::Limit { .. })), "{refused:?}");
        assert_eq!(read(&bob, &space, "/table/b"), None);
        alice.state(Statement::Ops(vec![Op::Grant(limited(bob.device(), (0, 0)))]), 1).await.expect("granted");
        send(&alice, &space, &bob).await;
        bob.write(at(&bob, &space, "/table/b", 2, 20)).await.expect("by the new grant");
        send(&bob, &space, &alice).await;
        assert_eq!(read(&alice, &space, "/table/b"), Some(json("2")));
    }
}

/// The root made a device one of the owner's for a while, and another device of his did so for good.
#[test]
fn a_right_of_a_device_that_has_ended_leaves_it_the_other_one() {
    let [root, next, first, second] = [1, 2, 3, 4].map(|number| SecretKey::from_seed([number; 32]));
    let (space, key) = (root.public(), second.public());
    let said_by = SecretKey::from_seed(*root.seed());
    let mut homes = [MemoryHome::new(root, &next, first), MemoryHome::of_device(space, second)];
    let [mut one, mut two] = homes.each_mut().map(|home| Engine::open(home, &Config::default(), 1).expect("a new home opens"));
    let Op::Grant(device) = timebus_store::store::device_grant(&key) else { panic!("it is a grant") };
    let store = one.store().clone();
    let ended = Op::Grant(Grant { not_after_ms: 10, ..device.clone() });
    one.finish(async move { store.say_as_root(&said_by, vec![ended], Vec::new(), 1).await }).expect("answers").expect("the root may");
    let store = one.store().clone();
    let handed = Op::Grant(Grant { depth: device.depth - 1, ..device });
    one.finish(async move { store.state(Statement::Ops(vec![handed]), 1).await }).expect("answers").expect("a device may");
    let store = two.store().clone();
    let all = changes(one.store(), one.store().own());
    two.finish(async move { store.offer(all).await }).expect("answers").expect("taken");
    let grants = two.store().rights(&space).expect("known").device_grants(&key);
    assert_eq!(grants.len(), 2);
    for (time_ms, cap) in [(5, grants[0]), (20, grants[1])] {
        let store = two.store().clone();
        let put = Request { time_ms, ..request("/notes", Action::Put(Json::Int(time_ms as i64))) };
        two.finish(async move { store.write(put).await }).expect("answers").expect("written");
        let said = changes(two.store(), two.store().own()).pop().expect("it is here");
        assert_eq!((said.header().author, said.header().cap), (key, Some(cap)));
        let (store, label) = (two.store().clone(), format!("friend {time_ms}"));
        let grant = Op::Grant(Grant { label: label.as_str().into(), ..write_grant(PublicKey::from_bytes([9; 32]), "wall") });
        two.finish(async move { store.state(Statement::Ops(vec![grant]), time_ms).await }).expect("answers").expect("and says so");
    }
}
