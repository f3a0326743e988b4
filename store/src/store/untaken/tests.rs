//! A home of a program that did not ask its grants before it wrote.

use timebus_identity::{Keys, PublicKey, Signable as _};

use super::*;
use crate::change::{Body, Change};
use crate::fold::Bodies;
use crate::grant::{Actions, Audience, Grant, Scope, ScopeSegment, Timelines};
use crate::ids::GrantId;
use crate::keyspace::Tables;
use crate::log::{Appender, Form, LogReader};
use crate::op::{Op, PathStep};
use crate::store::{Config, Store, lock_home};
use crate::writer::{Statement, WriteError, verify_all};

fn open(home: &std::path::Path) -> Store {
    Store::open(home, lock_home(home).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("opens")
}

/// Hands everything that one store holds of a space to another. Answers how many changes were refused.
async fn send(from: &Store, space: &PublicKey, to: &Store) -> usize {
    let (rows, space) = (from.snapshot(), from.held(space).expect("held"));
    let mut signed = Vec::new();
    for t in [space.auth(), space.main()] {
        for change in from.changes(&rows, t, 0) {
            let record = from.log().read(change.expect("a change").1.place).expect("a record");
            signed.push(Change::decode(&record.payload).expect("a change"));
        }
    }
    to.offer(verify_all(signed).expect("signed")).await.expect("taken").refused.len()
}

fn grant(to: &PublicKey, (bytes_max, not_after_ms): (u64, u64)) -> Grant {
    Grant {
        audience: Audience::Key(*to),
        scope: Scope { segments: vec![ScopeSegment::Name("table".into())], deep: true },
        timelines: Timelines::Main,
        actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
        bytes_max,
        change_bytes_max: 0,
        not_after_ms,
        depth: 0,
        label: "table".into(),
    }
}

fn put(space: Option<Space>, at: &str, value: i64, time_ms: u64) -> Request {
    let (path, action, condition) = (Path::parse(at).expect("a path"), Action::Put(Json::Int(value)), Condition::None);
    Request { space, path, action, parents: None, label: None, condition, time_ms, durable: true, may_name: None }
}

fn read(store: &Store, space: &PublicKey, at: &str) -> Option<Json> {
    let space = store.held(space).expect("held");
    store.read(&store.snapshot(), space, &Path::parse(at).expect("a path")).expect("read").tree.to_json(&space.key)
}

/// Writes as that program did: in the name of a grant, whatever it allows.
fn write_unasked(home: &std::path::Path, own: PublicKey, space: &PublicKey, cap: GrantId, at: &[&str], time_ms: u64) {
    let keys = Keys::create_or_open(&home.join("keys")).expect("keys");
    let log = LogReader::new(&home.join("log"));
    let tables = Tables::open(&home.join("index"), 1 << 20, 1 << 20).expect("tables");
    let mut pipeline = Pipeline::new(Layered::new(tables.snapshot(), None), Bodies::new(log), own).expect("opens");
    let mut appender = Appender::open(&home.join("log"), pipeline.next_place()).expect("opens");
    let space = pipeline.spaces().find(|held| held.key == *space).expect("held");
    let path = at.iter().map(|name| PathStep::Name((*name).into())).collect();
    let ops = vec![Op::Set { path, value: Value::Int(1), preds: Vec::new() }];
    let body = Body { ops, ..Body::default() };
    let change = pipeline.author(space.main(), keys.device().public(), Some(cap), time_ms, &body).expect("made");
    let form = Form::of(&change);
    let taken = pipeline.take(&change, None, form.payload_len()).expect("taken");
    let mut bytes = Vec::new();
    form.frame(taken.a, &change, &keys.device().sign(&change.signing_message()), &mut bytes);
    appender.write(taken.place, &bytes).expect("written");
    appender.sync().expect("synced");
    pipeline.rows.staged.delete(Table::Meta, NONE_UNTAKEN.to_vec());
    tables.commit(&pipeline.rows.seal()).expect("committed");
}

/// Alice gives Bob a right with a limit. His program writes beyond it, and goes on in the name of a wider one. Nobody takes
/// any of it, until a program opens his home that gives up what nobody takes.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_given_up_and_written_again() {
    for limit in [(1000, 0), (0, 10)] {
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        let space = alice.space();
        let given = alice.state(Statement::Ops(vec![Op::Grant(grant(&bob.device(), limit))]), 1).await.expect("granted");
        send(&alice, &space, &bob).await;
        bob.write(put(bob.held(&space), "/table/a", 1, 5)).await.expect("within the limit");
        let more = alice.state(Statement::Ops(vec![Op::Grant(grant(&bob.device(), (0, 0)))]), 1).await.expect("granted");
        send(&alice, &space, &bob).await;
        let own = bob.space();
        bob.close();
        write_unasked(homes[1].path(), own, &space, given[0], &["table", "b"], 20);
        write_unasked(homes[1].path(), own, &space, given[0], &["table", "b"], 20);
        write_unasked(homes[1].path(), own, &space, more[0], &["table", "c"], 20);

        let bob = open(homes[1].path());
        assert!(bob.opened().rebuilt.as_ref().is_some_and(|reason| reason.contains("beyond")), "{:?}", bob.opened().rebuilt);
        bob.fence().await.expect("open");
        assert_eq!(bob.opened().again, [(space, Path::parse("/table/c").expect("a path"))]);
        assert_eq!(["/table/a", "/table/b", "/table/c"].map(|at| read(&bob, &space, at)), [Some(Json::Int(1)), None, Some(Json::Int(1))]);
        assert_eq!(send(&bob, &space, &alice).await, 0, "everything is taken now");
        assert_eq!(["/table/a", "/table/c"].map(|at| read(&alice, &space, at)), [Some(Json::Int(1)), Some(Json::Int(1))]);

        // He goes on, also after another start, and when the tables are made anew.
        for round in 0..2 {
            bob.write(put(bob.held(&space), "/table/d", round, 30)).await.expect("written");
            assert_eq!(send(&bob, &space, &alice).await, 0);
            assert_eq!(read(&alice, &space, "/table/d"), Some(Json::Int(round)));
        }
        bob.close();
        std::fs::remove_dir_all(homes[1].path().join("index")).expect("removed");
        let bob = open(homes[1].path());
        assert_eq!(bob.opened().again.len(), 0);
        bob.write(put(bob.held(&space), "/table/d", 7, 30)).await.expect("written");
        assert_eq!(send(&bob, &space, &alice).await, 0);
        assert_eq!(read(&alice, &space, "/table/d"), Some(Json::Int(7)));
    }
}

/// What the grant does not allow is refused, with what it was that did not reach, and the chain stays whole.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_that_nobody_takes() {
    for limit in [(1000, 0), (0, 10)] {
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        let space = alice.space();
        alice.state(Statement::Ops(vec![Op::Grant(grant(&bob.device(), limit))]), 1).await.expect("granted");
        send(&alice, &space, &bob).await;
        bob.write(put(bob.held(&space), "/table/a", 1, 5)).await.expect("within the limit");
        for _ in 0..2 {
            let refused = bob.write(put(bob.held(&space), "/table/b", 1, 20)).await;
            assert!(matches!(&refused, Err(WriteError::Limit { space: of, source }) if *of == space && source.is_limit()), "{refused:?}");
        }
        // A request of many changes is refused as a whole.
        let large = Action::Put(Json::Array((0..40_000).map(Json::Int).collect()));
        let refused = bob.write(Request { action: large, ..put(bob.held(&space), "/table/b", 1, 20) }).await;
        assert!(matches!(refused, Err(WriteError::Limit { .. })), "{refused:?}");
        assert_eq!(read(&bob, &space, "/table/b"), None);
        alice.state(Statement::Ops(vec![Op::Grant(grant(&bob.device(), (0, 0)))]), 1).await.expect("granted");
        send(&alice, &space, &bob).await;
        bob.write(put(bob.held(&space), "/table/b", 2, 20)).await.expect("by the new grant");
        assert_eq!(send(&bob, &space, &alice).await, 0);
        assert_eq!(read(&alice, &space, "/table/b"), Some(Json::Int(2)));
    }
}
