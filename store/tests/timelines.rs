//! Timelines beside `main`: what is written below a mount is kept, read, sent and hidden apart.

#[path = "support/home.rs"]
mod home;

use home::{folder, get, json, open, path, put, request};
use timebus_identity::{PublicKey, Verified};
use timebus_store::change::Change;
use timebus_store::grant::{Actions, Audience, Grant, Scope, Timelines};
use timebus_store::ids::TimelineId;
use timebus_store::json::Json;
use timebus_store::op::{Op, PathStep};
use timebus_store::pipeline::{Refusal, Space};
use timebus_store::store::Store;
use timebus_store::writer::{Action, Request, Statement, WriteError, verify_all};

fn mount(name: &str) -> Op {
    Op::Mount { path: vec![PathStep::Name(name.into())], mode: 0, params: Box::default() }
}

async fn state(store: &Store, op: Op) {
    store.state(Statement::Ops(vec![op]), 1).await.expect("stated");
}

fn get_in(store: &Store, space: &PublicKey, at: &str) -> Option<Json> {
    let space = store.at(store.held(space).expect("held"), &path(at));
    store.read(&store.snapshot(), space, &path(at)).expect("read").tree.to_json(&space.key)
}

fn changes(store: &Store, t: u32) -> Vec<Verified<Change>> {
    let rows = store.snapshot();
    let signed = store.changes(&rows, t, 0).map(|change| {
        let record = store.log().read(change.expect("change").1.place).expect("record");
        Change::decode(&record.payload).expect("a change")
    });
    verify_all(signed.collect()).expect("signed")
}

fn at(store: &Store, at: &str) -> Space {
    store.at(store.own(), &path(at))
}

fn grant(to: PublicKey, timelines: Timelines, actions: u8) -> Op {
    Op::Grant(Grant {
        audience: Audience::Key(to),
        scope: Scope::everything(),
        timelines,
        actions: Actions(actions),
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 0,
        label: "".into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_below_a_mount_is_in_its_timeline_and_nowhere_else() {
    let home = folder();
    let store = open(home.path());
    put(&store, "/notes", &json("1")).await;
    state(&store, mount("diary")).await;
    put(&store, "/diary/monday", &json("\"rain\"")).await;
    put(&store, "/diary/monday", &json("\"sun\"")).await;
    let check = |store: &Store| {
        let diary = at(store, "/diary/monday");
        assert_ne!(diary, store.own());
        assert_eq!(get_in(store, &store.space(), "/diary"), Some(json(r#"{"monday":"sun"}"#)));
        assert_eq!(get(store, "/"), Some(json(r#"{"notes":1}"#)), "`main` knows nothing of it");
        assert_eq!((changes(store, diary.main()).len(), changes(store, store.own().main()).len()), (2, 1));
        // Versions and what was then, too.
        let rows = store.snapshot();
        let first = changes(store, diary.main())[0].id().to_string();
        let then = store.read_at(&rows, diary, &path("/diary/monday"), &[first]).expect("read").to_json(&store.space());
        assert_eq!(then, Some(json("\"rain\"")));
        assert_eq!(store.number_of(&store.space(), &store.timeline(diary)), Some(diary.main()));
    };
    check(&store);
    // After a restart, and when the tables are made again from the log alone.
    store.close();
    let store = open(home.path());
    check(&store);
    put(&store, "/diary/tuesday", &json("1")).await;
    store.write(request("/diary/tuesday", Action::Delete)).await.expect("written");
    store.close();
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let store = open(home.path());
    assert_eq!(get_in(&store, &store.space(), "/diary"), Some(json(r#"{"monday":"sun"}"#)));
    assert_eq!(changes(&store, at(&store, "/diary").main()).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_timelines_follow_from_the_log() {
    let home = folder();
    let store = open(home.path());
    for name in ["a", "b", "c"] {
        state(&store, mount(name)).await;
        put(&store, &format!("/{name}/x"), &json("1")).await;
    }
    state(&store, Op::Mount { path: vec![PathStep::Name("d".into())], mode: 7, params: Box::default() }).await;
    state(&store, mount("e")).await;
    let numbers = |store: &Store| ["a", "b", "c", "d", "e"].map(|name| at(store, &format!("/{name}")).main());
    let before = numbers(&store);
    assert_eq!(before[3], store.own().main(), "a mode that is not known mounts nothing");
    assert_eq!(before[4], before[2] + 1);
    store.close();
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    assert_eq!(numbers(&open(home.path())), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_would_change_two_timelines_is_refused_as_a_whole() {
    let home = folder();
    let store = open(home.path());
    put(&store, "/a", &json(r#"{"b":{"link":"/a/b"},"c":1}"#)).await;
    let steps = vec![PathStep::Name("a".into()), PathStep::Name("b".into())];
    state(&store, Op::Mount { path: steps, mode: 0, params: Box::default() }).await;
    put(&store, "/a/b/deep", &json("1")).await;
    for action in [
        Action::Delete,
        Action::Put(json("1")),
        Action::Put(json(r#"{"c":2}"#)),
        Action::Merge(json(r#"{"b":{"deep":2},"c":2}"#)),
        Action::Put(json(r#"{"b":{"deep":2},"c":2}"#)),
    ] {
        let refused = store.write(request("/a", action.clone())).await;
        assert!(matches!(&refused, Err(WriteError::Spans { mount, .. }) if mount.to_string() == "/a/b"), "{action:?}: {refused:?}");
    }
    assert_eq!(get(&store, "/a"), Some(json(r#"{"b":{"link":"/a/b"},"c":1}"#)));
    // What leaves the mounted path as it is passes, also the whole value with its pointer.
    store.write(request("/a", Action::Merge(json(r#"{"c":2}"#)))).await.expect("written");
    put(&store, "/a", &json(r#"{"b":{"link":"/a/b"},"c":3}"#)).await;
    assert_eq!(get_in(&store, &store.space(), "/a/b"), Some(json(r#"{"deep":1}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_comes_without_main_and_waits_for_its_rights() {
    let (alice_home, bob_home) = (folder(), folder());
    let (alice, bob) = (open(alice_home.path()), open(bob_home.path()));
    put(&alice, "/notes", &json("\"not for bob\"")).await;
    state(&alice, mount("diary")).await;
    put(&alice, "/diary/monday", &json("\"rain\"")).await;
    let diary = at(&alice, "/diary");
    let timeline = alice.timeline(diary);
    let read_write = Actions::READ.0 | Actions::WRITE.0;
    state(&alice, grant(bob.device(), Timelines::Only(vec![timeline]), read_write)).await;

    let early = bob.offer(changes(&alice, diary.main())).await.expect("taken");
    assert!(matches!(early.refused[..], [Refusal::Timeline { timeline: of, .. }] if of == timeline), "{:?}", early.refused);
    bob.offer(changes(&alice, alice.own().auth())).await.expect("taken");
    let late = bob.offer(changes(&alice, diary.main())).await.expect("taken");
    assert_eq!((late.admitted.len(), late.refused.len()), (1, 0));
    assert_eq!(get_in(&bob, &alice.space(), "/diary"), Some(json(r#"{"monday":"rain"}"#)));
    assert_eq!(get_in(&bob, &alice.space(), "/"), None);

    // He writes where his grant is good, and nowhere else; and his answer arrives.
    let theirs = |at: &str| Some(bob.at(bob.held(&alice.space()).expect("held"), &path(at)));
    let write = |at: &str| Request { space: theirs(at), ..request(at, Action::Put(json("\"from bob\""))) };
    bob.write(write("/diary/bob")).await.expect("written");
    assert!(matches!(bob.write(write("/notes")).await, Err(WriteError::NoGrant { .. })));
    let answer = alice.offer(changes(&bob, bob.at(bob.held(&alice.space()).expect("held"), &path("/diary")).main())).await.expect("taken");
    assert_eq!((answer.admitted.len(), answer.known.len(), answer.refused.len()), (1, 1, 0));
    assert_eq!(get_in(&alice, &alice.space(), "/diary"), Some(json(r#"{"bob":"from bob","monday":"rain"}"#)));

    // A right for `main` is none for what is kept apart.
    let (carol_home, main) = (folder(), TimelineId::named(&alice.space(), "main"));
    let carol = open(carol_home.path());
    state(&alice, grant(carol.device(), Timelines::Main, read_write)).await;
    let rights = alice.rights(&alice.space()).expect("held");
    let may = |key, timeline| !rights.may(&key, Actions::READ, &timeline, 1).is_empty();
    assert_eq!((may(carol.device(), main), may(carol.device(), timeline)), (true, false));
    assert_eq!((may(bob.device(), main), may(bob.device(), timeline)), (false, true));
    let grants = rights.grants().filter(|(_, held)| held.grant.audience == Audience::Key(bob.device())).map(|(id, _)| *id).collect();

    // Taken back: what was seen stays, what comes later does not show, in this timeline as in `main`.
    alice.state(Statement::Revoke { grants, cascade: true, keep: true }, 2).await.expect("revoked");
    bob.write(write("/diary/late")).await.expect("he does not know yet");
    let t = theirs("/diary").expect("held").main();
    let offered = alice.offer(changes(&bob, t)).await.expect("taken");
    assert_eq!((offered.admitted.len(), offered.refused.len()), (1, 0));
    let shown = Some(json(r#"{"bob":"from bob","monday":"rain"}"#));
    assert_eq!(get_in(&alice, &alice.space(), "/diary"), shown);
    bob.offer(changes(&alice, alice.own().auth())).await.expect("taken");
    assert_eq!(get_in(&bob, &alice.space(), "/diary"), shown, "at bob's, too");
}
