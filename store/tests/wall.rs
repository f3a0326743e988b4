//! What very many people write side by side, of whom none knew of the others.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/home.rs"]
mod home;

use dice::setting;
use home::{after, folder, get, json, open, path, put, request};
use timebus_identity::{PublicKey, SecretKey, Verified};
use timebus_store::change::{Body, Change, Header, Kind, OVERHEAD_BYTES};
use timebus_store::feed::{Feed, Next};
use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{GrantId, TimelineId};
use timebus_store::json::Json;
use timebus_store::keyspace::{Rows as _, Table};
use timebus_store::node::node_key;
use timebus_store::op::{Op, PathStep};
use timebus_store::store::Store;
use timebus_store::value::Value;
use timebus_store::writer::{Action, Condition, NAMES_MAX, Request, Statement, WriteError, verify_all, version_tag};

/// Changes that come together, as from another peer.
const TOGETHER: usize = 256;

fn guest(number: usize) -> SecretKey {
    SecretKey::from_seed(timebus_identity::hash("guest", &[&number.to_be_bytes()]))
}

fn writer(to: PublicKey) -> Grant {
    Grant {
        audience: Audience::Key(to),
        scope: Scope { segments: vec![ScopeSegment::Name("wall".into())], deep: true },
        timelines: Timelines::Main,
        actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 0,
        label: "".into(),
    }
}

/// The first change of a guest who has seen nothing: his note.
fn note(space: &PublicKey, number: usize, cap: GrantId) -> Verified<Change> {
    let names = ["wall".to_owned(), number.to_string()];
    let path = names.into_iter().map(|name| PathStep::Name(name.into())).collect();
    let body = Body { ops: vec![Op::Set { path, value: Value::Int(number as i64), preds: Vec::new() }], ..Body::default() }.encode();
    let header = Header {
        kind: Kind::Data,
        timeline: TimelineId::named(space, "main"),
        author: guest(number).public(),
        seq: 1,
        prev: None,
        cap: Some(cap),
        parents: Vec::new(),
        lamport: 1,
        time_ms: 1,
        cum: OVERHEAD_BYTES + body.len() as u64,
        body_len: body.len() as u64,
        body_root: *blake3::hash(&body).as_bytes(),
        encryption: None,
    };
    Verified::sign(Change::new(header, body.into()).expect("fits"), &guest(number)).expect("his own key")
}

async fn take(store: &Store, changes: &[Verified<Change>]) {
    for some in changes.chunks(TOGETHER) {
        let offered = store.offer(some.to_vec()).await.expect("taken");
        assert!(offered.refused.is_empty(), "{:?}", offered.refused.first());
    }
}

/// Everything that a store has of its own space, what came last first where that may be.
fn all(store: &Store) -> Vec<Verified<Change>> {
    let rows = store.snapshot();
    let signed = |t: u32| -> Vec<Verified<Change>> {
        let all = store.changes(&rows, t, 0).map(|change| change.expect("read").1);
        verify_all(all.map(|own| Change::decode(&store.log().read(own.place).expect("read").payload).expect("a change")).collect()).expect("signed")
    };
    let (alone, rest): (Vec<_>, Vec<_>) = signed(store.own().main()).into_iter().partition(|change| change.header().deps().next().is_none());
    signed(store.own().auth()).into_iter().chain(alone.into_iter().rev()).chain(rest).collect()
}

fn last(feed: &Feed) -> std::sync::Arc<timebus_store::feed::Entry> {
    let Next::Entries(told) = feed.from(feed.end().saturating_sub(1), 1) else { panic!("fell behind") };
    std::sync::Arc::clone(told.last().expect("told"))
}

fn version(store: &Store, space: &PublicKey, at: &str) -> Vec<String> {
    store.version(&store.snapshot(), store.held(space).expect("held"), &path(at)).expect("read")
}

/// `TIMEBUS_NOTES=10000` with optimization shows what it takes: twice as many have to take about twice as long.
#[tokio::test(flavor = "multi_thread")]
async fn a_wall_full_of_notes_costs_a_newcomer_each_of_them_once() {
    let n = usize::try_from(setting("TIMEBUS_NOTES", 300)).expect("not that many");
    let (alice_home, carol_home) = (folder(), folder());
    let (alice, carol) = (open(alice_home.path()), open(carol_home.path()));
    let space = alice.space();
    let clock = std::time::Instant::now();
    let mut caps = Vec::new();
    for some in (0..n).collect::<Vec<_>>().chunks(1000) {
        let grants = some.iter().map(|number| Op::Grant(writer(guest(*number).public()))).collect();
        caps.extend(alice.state(Statement::Ops(grants), 1).await.expect("granted"));
    }
    eprintln!("{n} grants in {:?}", clock.elapsed());
    let notes: Vec<_> = caps.iter().enumerate().map(|(number, cap)| note(&space, number, *cap)).collect();
    let (wall, one) = (alice.feed(alice.own(), &path("/wall")), alice.feed(alice.own(), &path(&format!("/wall/{}", n - 1))));
    let clock = std::time::Instant::now();
    take(&alice, &notes[..n / 2]).await;
    eprintln!("{} notes taken in, signatures checked before, in {:?}", n / 2, clock.elapsed());
    // One of them is hidden, beside which all others come.
    let revoke = Op::Revoke(Revoke { grant: caps[0], cascade: false, keep: Vec::new() });
    alice.state(Statement::Ops(vec![revoke]), 1).await.expect("revoked");
    let clock = std::time::Instant::now();
    take(&alice, &notes[n / 2..]).await;
    eprintln!("{} beside a hidden one in {:?}", n - n / 2, clock.elapsed());

    let mut shown: Vec<String> = notes[1..].iter().map(|change| change.id().to_string()).collect();
    shown.sort_unstable();
    // So many have one name together.
    assert!(shown.len() > NAMES_MAX);
    let shown = [format!("={}", version_tag(&shown))];
    for at in ["/", "/wall"] {
        assert_eq!(version(&alice, &space, at), shown, "{at}");
        let row = alice.snapshot().get(Table::Node, &node_key(alice.own().main(), &path(at).key())).expect("read").expect("a row");
        assert!(row.len() < 100, "it is written anew with each note: {} bytes", row.len());
    }
    // Whoever watches all of them reads them again, and whoever watches one is told of it.
    let id = notes[n - 1].id();
    assert_eq!((last(&wall).update.a, last(&wall).version.len()), (u64::MAX, 0));
    assert!(last(&one).update.a < u64::MAX && last(&one).update.id == id && *last(&one).version == [id.to_string().into_boxed_str()]);

    let clock = std::time::Instant::now();
    put(&alice, "/own", &json("1")).await;
    eprintln!("the next value written in {:?}", clock.elapsed());
    assert_eq!(version(&alice, &space, "/").len(), 1, "it has seen all of them");
    assert_eq!(version(&alice, &space, "/wall"), shown);
    let all = all(&alice);
    let clock = std::time::Instant::now();
    take(&carol, &all).await;
    eprintln!("{} taken in by a newcomer in {:?}", all.len(), clock.elapsed());
    let read = |store: &Store| store.read(&store.snapshot(), store.held(&space).expect("held"), &path("/")).expect("read").tree.to_json(&space);
    assert_eq!(read(&carol), get(&alice, "/"));
    for at in ["/", "/wall"] {
        assert_eq!(version(&carol, &space, at), version(&alice, &space, at), "{at}");
    }
    // Who was told it says it, and has seen all of them, until there is more.
    let seen = version(&carol, &space, "/wall");
    let at = |store: &Store| store.read_at(&store.snapshot(), store.own(), &path("/wall"), &seen).map(|tree| tree.to_json(&space));
    assert_eq!(at(&alice).expect("known"), get(&alice, "/wall"));
    assert!(alice.is_current(&alice.snapshot(), alice.own(), &path("/wall"), &seen).expect("known"));
    let patch = |text: &str| after(&seen, "/wall", Action::Merge(json(text)));
    let condition = Condition::Match { version: Some(seen.clone()), tags: Vec::new() };
    alice.write(Request { condition: condition.clone(), ..patch(r#"{"299": null, "more": 1}"#) }).await.expect("on top of all of them");
    let Some(Json::Object(now)) = get(&alice, "/wall") else { panic!("a wall") };
    assert!(["more", "298"].iter().all(|name| now.contains_key(*name)) && !now.contains_key("299") && now.len() == n - 1);
    assert!(matches!(at(&alice), Err(WriteError::UnknownVersion(unknown)) if unknown == seen));
    assert!(matches!(alice.write(patch("{}")).await, Err(WriteError::UnknownVersion(unknown)) if unknown == seen));
    assert!(matches!(alice.write(Request { condition, ..request("/wall", Action::Merge(json("{}"))) }).await, Err(WriteError::Condition { .. })));
    // A new note of the wall's owner is on top of all others.
    put(&alice, "/wall/own", &json("2")).await;
    let (top, before) = (version(&alice, &space, "/wall"), get(&alice, "/"));
    assert_eq!(top.len(), 1);
    drop((wall, one, alice));
    std::fs::remove_dir_all(alice_home.path().join("index")).expect("removed");
    let again = open(alice_home.path());
    assert_eq!((version(&again, &space, "/wall"), get(&again, "/")), (top, before));
}
