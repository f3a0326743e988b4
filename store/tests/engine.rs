//! The store without threads and disk: it does what the other one does, and crashes at every step of its work.
//!
//! `TIMEBUS_SEED=17 TIMEBUS_RUNS=1000` crashes in other runs.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/home.rs"]
mod home;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use dice::{Dice, setting, text};
use home::{config, path, request, root};
use timebus_identity::SecretKey;
use timebus_store::engine::{Crash, Engine, MemoryHome, Step};
use timebus_store::json::{Json, merge_patch};
use timebus_store::log::{Item, Place};
use timebus_store::store::Store;
use timebus_store::writer::{Action, Request, WriteError, Written};

const DEVICE: u8 = 9;

fn memory_home() -> MemoryHome {
    MemoryHome::new(root(), &SecretKey::from_seed([2; 32]), SecretKey::from_seed([DEVICE; 32]))
}

fn open(home: &mut MemoryHome) -> Engine {
    Engine::open(home, &config(), 1).expect("opens")
}

fn root_of(store: &Store) -> Json {
    let tree = store.read(&store.snapshot(), store.own(), &path("/")).expect("read").tree;
    tree.to_json(&store.space()).unwrap_or_else(|| Json::Object(BTreeMap::new()))
}

fn payloads(store: &Store) -> Vec<(u64, Vec<u8>)> {
    let items = store.log().walk(Place::START).expect("a log");
    let record = |item| match item {
        Item::Record(record) => (record.a, record.payload),
        Item::Damaged(damage) => panic!("{damage:?}"),
    };
    items.map(|item| record(item.expect("readable"))).collect()
}

/// A request below the root, and the same done to plain JSON.
fn draw(dice: &mut Dice, plain: &mut Json, number: usize) -> Request {
    let name = format!("n{}", dice.below(6));
    let at = format!("/{name}");
    let Json::Object(members) = plain else { unreachable!("the root is an object") };
    let action = match (dice.below(12), members.contains_key(&name)) {
        // More than one change holds: a run.
        (0..6, _) if number == 15 => {
            let long = Json::Array((0..3).map(|n| Json::String(n.to_string().repeat(400_000))).collect());
            members.insert(name, long.clone());
            Action::Put(long)
        }
        (0 | 1, true) => {
            members.remove(&name);
            Action::Delete
        }
        (2..=4, true) => {
            let patch = Json::Object((0..dice.below(5)).map(|n| (format!("m{n}"), dice.json(1))).collect());
            merge_patch(members.get_mut(&name).expect("there"), &patch);
            Action::Merge(patch)
        }
        _ => {
            let value = dice.json(2);
            members.insert(name, value.clone());
            Action::Put(value)
        }
    };
    Request { durable: dice.percent(70), ..request(&at, action) }
}

#[test]
fn does_what_the_store_with_threads_and_a_disk_does() {
    let folder = home::home(DEVICE);
    let threaded = home::open(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let mut memory = memory_home();
    let mut engine = open(&mut memory);
    let (mut dice, mut plain) = (Dice::new(3), Json::Object(BTreeMap::new()));
    for number in 0..150 {
        let request = draw(&mut dice, &mut plain, number);
        let expected = runtime.block_on(threaded.write(request.clone())).expect("written");
        let store = engine.store().clone();
        let written = engine.finish(store.write(request)).expect("ends").expect("written");
        assert_eq!(written, expected);
    }
    engine.settle();
    runtime.block_on(threaded.fence()).expect("open");
    assert_eq!(text(&root_of(engine.store())), text(&plain));
    assert_eq!(text(&root_of(&threaded)), text(&plain));
    assert!(payloads(engine.store()) == payloads(&threaded), "both logs are the same, byte for byte");
}

type Writing = Pin<Box<dyn Future<Output = Result<Written, WriteError>>>>;

fn poll(writing: &mut Writing) -> Option<Result<Written, WriteError>> {
    match writing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

fn write(store: &Store, request: Request) -> Writing {
    let store = store.clone();
    Box::pin(async move { store.write(request).await })
}

/// Damages what was written and not synced.
fn lose(dice: &mut Dice, tail: &mut Vec<u8>) {
    let cut = dice.below(tail.len() + 1);
    match dice.below(6) {
        0 => tail.clear(),
        1 => {}
        // The file has grown, what is in it has not arrived.
        2 => tail[cut..].fill(0),
        _ => tail.truncate(cut),
    }
}

/// Opens what a crash leaves, and checks that it holds all that was promised and nothing that was not asked for.
fn check(home: &MemoryHome, dice: &mut Dice, states: &[Json], acknowledged: usize, seed: u64) {
    let commits_lost = if dice.percent(40) { dice.below(6) as u64 } else { 0 };
    let mut left = home.after(Crash { lose: &mut |tail| lose(dice, tail), commits_lost });
    if dice.percent(10) {
        left.lose_tables();
    }
    let mut engine = open(&mut left);
    let found = root_of(engine.store());
    let fits = states[acknowledged..].contains(&found);
    assert!(fits, "seed {seed}: {acknowledged} writes were acknowledged, found {} after {commits_lost} lost commits", text(&found));
    // It goes on, and what it then acknowledges is there after another crash.
    let store = engine.store().clone();
    engine.finish(store.write(request("/after", Action::Put(Json::Int(1))))).expect("ends").expect("written");
    let mut left = left.after(Crash { lose: &mut Vec::clear, commits_lost: dice.below(3) as u64 });
    let Json::Object(mut members) = found else { unreachable!("the root is an object") };
    members.insert("after".to_owned(), Json::Int(1));
    assert_eq!(text(&root_of(open(&mut left).store())), text(&Json::Object(members)), "seed {seed}");
}

fn crash_everywhere(seed: u64) -> usize {
    let mut dice = Dice::new(seed);
    let mut home = memory_home();
    let mut engine = open(&mut home);
    let mut states = vec![Json::Object(BTreeMap::new())];
    let mut acknowledged = 0;
    let mut waiting: Vec<(usize, bool, Writing)> = Vec::new();
    let mut crashes = 0;
    while states.len() < 24 || !waiting.is_empty() {
        if states.len() < 24 && dice.percent(35) {
            let mut plain = states[states.len() - 1].clone();
            let request = draw(&mut dice, &mut plain, states.len());
            states.push(plain);
            let durable = request.durable;
            let mut writing = write(engine.store(), request);
            assert!(poll(&mut writing).is_none(), "nothing happens unless it is driven");
            waiting.push((states.len() - 1, durable, writing));
        } else if dice.percent(50) {
            engine.decide();
        } else {
            engine.sync();
        }
        waiting.retain_mut(|(number, durable, writing)| match poll(writing) {
            None => true,
            Some(result) => {
                let written = result.expect("written");
                assert_eq!(written.durable, *durable || written.change.is_none());
                if *durable {
                    acknowledged = acknowledged.max(*number);
                }
                false
            }
        });
        crashes += 1;
        check(&home, &mut dice, &states, acknowledged, seed);
    }
    engine.settle();
    assert_eq!(text(&root_of(engine.store())), text(&states[states.len() - 1]), "seed {seed}");
    crashes
}

#[test]
fn what_was_acknowledged_outlives_a_crash_at_every_step() {
    let first = setting("TIMEBUS_SEED", 0);
    let crashes: usize = (first..first + setting("TIMEBUS_RUNS", 8)).map(crash_everywhere).sum();
    assert!(crashes > 100, "only {crashes} crashes");
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_when_it_has_space_again() {
    let mut home = memory_home();
    let mut engine = open(&mut home);
    let store = engine.store().clone();
    let put = |n: i64| store.write(request("/n", Action::Put(Json::Int(n))));
    engine.finish(put(1)).expect("ends").expect("written");
    home.disk.limit_space(Some(100));
    for n in 2..4 {
        assert!(matches!(engine.finish(put(n)).expect("ends"), Err(WriteError::ReadOnly(_))));
        assert_eq!(text(&root_of(&store)), r#"{"n":1}"#);
    }
    home.disk.limit_space(None);
    engine.finish(put(4)).expect("ends").expect("written");
    let mut left = home.after(Crash { lose: &mut Vec::clear, commits_lost: 5 });
    assert_eq!(text(&root_of(open(&mut left).store())), r#"{"n":4}"#);
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_it_is_opened_again() {
    let mut home = memory_home();
    let mut engine = open(&mut home);
    let store = engine.store().clone();
    let put = |n: i64| store.write(request("/n", Action::Put(Json::Int(n))));
    engine.finish(put(1)).expect("ends").expect("written");
    home.disk.fail_syncs(1);
    for n in 2..4 {
        assert!(matches!(engine.finish(put(n)).expect("ends"), Err(WriteError::ReadOnly(_))));
    }
    let mut left = home.after(Crash { lose: &mut Vec::clear, commits_lost: 0 });
    let mut engine = open(&mut left);
    assert_eq!(text(&root_of(engine.store())), r#"{"n":1}"#);
    let store = engine.store().clone();
    engine.finish(store.write(request("/n", Action::Put(Json::Int(4))))).expect("ends").expect("written");
}

#[test]
fn tables_that_know_more_than_the_log_are_made_anew_and_a_new_device_writes() {
    let mut home = memory_home();
    let mut engine = open(&mut home);
    let store = engine.store().clone();
    engine.finish(store.write(request("/n", Action::Put(Json::Int(1))))).expect("ends").expect("written");
    let mut old = home.after(Crash { lose: &mut |_| {}, commits_lost: 0 });
    engine.finish(store.write(request("/n", Action::Put(Json::Int(2))))).expect("ends").expect("written");
    // A log from a backup under the tables of today.
    old.tables = home.tables.clone();
    let before = old.device().public();
    let engine = open(&mut old);
    assert!(engine.store().opened().rebuilt.is_some() && engine.store().opened().new_device);
    assert_ne!(engine.store().device(), before);
    assert_eq!(text(&root_of(engine.store())), r#"{"n":1}"#);
}

#[test]
fn steps_of_a_write_come_one_by_one() {
    let mut home = memory_home();
    let mut engine = open(&mut home);
    let mut writing = write(engine.store(), request("/n", Action::Put(Json::Int(1))));
    assert!(poll(&mut writing).is_none());
    let synced = home.disk.synced_bytes();
    let mut steps = Vec::new();
    while poll(&mut writing).is_none() {
        steps.push((engine.step(), home.disk.synced_bytes() > synced));
    }
    let expected = [
        (Step::Decided, false),
        (Step::Dispatched, false),
        (Step::Appended, false),
        (Step::Synced, true),
        (Step::Committed, true),
        (Step::Told, true),
    ];
    assert_eq!(steps, expected);
}
