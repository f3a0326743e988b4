//! The store against a model: whatever order changes come in, the state is the one that the definition gives.
//!
//! `TIMEBUS_WORLDS=20000` makes more worlds (five a second), `TIMEBUS_SEED=17` begins at another one.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/home.rs"]
mod home;
#[path = "model/oracle.rs"]
mod oracle;
#[path = "model/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use dice::{Dice, setting, text};
use oracle::{Oracle, Set, WEAKENINGS};
use timebus_identity::Verified;
use timebus_store::change::Change;
use timebus_store::ids::OpId;
use timebus_store::json::Json;
use timebus_store::keyspace::Committed;
use timebus_store::node::Write;
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Refusal;
use timebus_store::store::Store;
use timebus_store::tree::Tree;
use world::World;

/// Orders in which each world is delivered.
const ORDERS: u64 = 3;
/// Worlds in which a weakened rule has to make a difference.
const WORLDS_TOLD: u64 = 2000;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
}

/// Offers changes in an order, again and again, until all of them are in.
async fn deliver(store: &Store, changes: &[Verified<Change>], dice: &mut Dice) {
    let mut waiting: Vec<Verified<Change>> = changes.to_vec();
    dice.shuffle(&mut waiting);
    let mut old = store.snapshot();
    while !waiting.is_empty() {
        let batch = 1 + dice.below(8);
        let offered: Vec<Verified<Change>> = waiting.drain(..batch.min(waiting.len())).collect();
        let answer = store.offer(offered.clone()).await.expect("the disk works");
        let mut refused = BTreeSet::new();
        for refusal in answer.refused {
            match refusal {
                Refusal::Pending { change, .. } | Refusal::Rights { change, .. } => refused.insert(change),
                other => panic!("an admissible change was refused: {other:?}"),
            };
        }
        assert_eq!(answer.admitted.len() + answer.known.len() + refused.len(), offered.len());
        waiting.extend(offered.into_iter().filter(|change| refused.contains(&change.id())));
        // Whoever is late reads an older state.
        let now = store.snapshot();
        compare_lists(store, &now);
        compare_lists(store, &old);
        if dice.percent(50) {
            old = now;
        }
    }
}

/// Compares what is known of lists with what a reader of all of them finds.
fn compare_lists(store: &Store, rows: &Committed) {
    let mut queue = vec![(Path::root(), store.tree(rows, store.own(), &Path::root()).expect("read"))];
    while let Some((path, tree)) = queue.pop() {
        if let Some(elements) = store.elements(rows, store.own(), &path).expect("read") {
            assert_eq!(*elements, tree.elements.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "elements of {path}");
        }
        let names = tree.names.into_iter().map(|(name, child)| (Segment::Name(name), child));
        let all = names.chain(tree.elements.into_iter().map(|(id, child)| (Segment::Element(id), child)));
        queue.extend(all.map(|(segment, child)| (path.join(segment).expect("fits"), child)));
    }
}

fn shown(tree: &Tree, store: &Store) -> String {
    tree.to_json(&store.space()).as_ref().map_or_else(|| "absent".to_owned(), text)
}

fn expected(json: Option<Json>) -> String {
    json.as_ref().map_or_else(|| "absent".to_owned(), text)
}

fn ids(tree: &Tree) -> BTreeSet<OpId> {
    let mut writes: Vec<&Write> = Vec::new();
    tree.all_writes(&mut writes);
    let ids: BTreeSet<OpId> = writes.iter().map(|write| write.id).collect();
    assert_eq!(ids.len(), writes.len(), "no write is there twice");
    ids
}

/// Everything that can be seen of the state, in one text.
fn dump(store: &Store) -> String {
    let rows = store.snapshot();
    let mut out = String::new();
    let mut queue: Vec<(Path, Tree)> = vec![(Path::root(), store.read(&rows, store.own(), &Path::root()).expect("read").tree)];
    while let Some((path, tree)) = queue.pop() {
        let of = |writes: &[Write]| writes.iter().map(|write| format!("{}={:?}", write.id, write.value)).collect::<Vec<_>>();
        let hidden: BTreeSet<String> = of(&tree.hidden).into_iter().collect();
        let version = store.version(&rows, store.own(), &path).expect("read");
        writeln!(out, "{path}\t{:?}\t{:?}\t{hidden:?}\t{}\t{version:?}", of(&tree.writes), tree.list, tree.is_conflict()).expect("text");
        for (name, child) in tree.names {
            queue.push((path.join(Segment::Name(name)).expect("fits"), child));
        }
        for (id, child) in tree.elements {
            queue.push((path.join(Segment::Element(id)).expect("fits"), child));
        }
    }
    out
}

/// Compares all that a store shows now with the model.
fn compare(store: &Store, oracle: &Oracle, seed: u64) {
    let rows = store.snapshot();
    let everything = oracle.everything();
    let root = store.read(&rows, store.own(), &Path::root()).expect("read").tree;
    assert_eq!(shown(&root, store), expected(oracle.json(everything, &Path::root())), "the root of world {seed}");
    for path in oracle.paths() {
        let reading = store.read(&rows, store.own(), &path).expect("read");
        assert_eq!(shown(&reading.tree, store), expected(oracle.json(everything, &path)), "{path} of world {seed}");
        assert_eq!(ids(&reading.tree), oracle.visible_at(everything, &path), "visible writes below {path} of world {seed}");
        assert_eq!(reading.version, oracle.version(&path), "version of {path} of world {seed}");
    }
}

/// Compares what was at some versions with the model.
fn compare_past(store: &Store, oracle: &Oracle, dice: &mut Dice, seed: u64) {
    let rows = store.snapshot();
    let paths: Vec<Path> = oracle.paths().into_iter().collect();
    for _ in 0..12 {
        let numbers: BTreeSet<usize> = (0..1 + dice.below(2)).map(|_| dice.below(oracle.changes.len())).collect();
        let versions: Vec<String> = numbers.iter().map(|number| oracle.name(*number)).collect();
        let view: Set = numbers.iter().fold(0, |view, number| view | oracle.changes[*number].view);
        let path = if dice.percent(40) { Path::root() } else { paths[dice.below(paths.len())].clone() };
        let tree = store.read_at(&rows, store.own(), &path, &versions).expect("read");
        assert_eq!(shown(&tree, store), expected(oracle.json(view, &path)), "{path} at {versions:?} of world {seed}");
        assert_eq!(ids(&tree), oracle.visible_at(view, &path), "visible writes below {path} at {versions:?} of world {seed}");
    }
}

fn check_world(seed: u64) {
    let world = World::new(&home::root(), seed);
    let oracle = Oracle::new(&world.changes);
    let mut dumps: BTreeMap<String, u64> = BTreeMap::new();
    for order in 0..ORDERS {
        let mut dice = Dice::new(seed << 8 | order);
        let folder = home::home(50);
        let mut store = home::open(folder.path());
        block_on(deliver(&store, &world.changes, &mut dice));
        compare(&store, &oracle, seed);
        compare_past(&store, &oracle, &mut dice, seed);
        dumps.insert(dump(&store), order);
        if order == 0 && seed.is_multiple_of(10) {
            // The same again from the tables as they were closed, and from the log alone.
            for index in ["as it was", "gone"] {
                store.close();
                if index == "gone" {
                    std::fs::remove_dir_all(folder.path().join("index")).expect("removed");
                }
                store = home::open(folder.path());
                compare(&store, &oracle, seed);
                compare_past(&store, &oracle, &mut dice, seed);
                dumps.insert(dump(&store), 100 + order);
            }
        }
    }
    let texts: Vec<&String> = dumps.keys().collect();
    assert!(texts.len() == 1, "world {seed} differs by order of delivery:\n{}\n\n{}", texts[0], texts[1]);
}

#[test]
fn the_state_is_what_the_definition_says_in_any_order() {
    let first = setting("TIMEBUS_SEED", 0);
    let count = setting("TIMEBUS_WORLDS", 80);
    let next = std::sync::atomic::AtomicU64::new(first);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let result = std::panic::catch_unwind(|| check_world(seed));
                    if let Err(error) = result {
                        eprintln!("TIMEBUS_SEED={seed} TIMEBUS_WORLDS=1 shows it");
                        std::panic::resume_unwind(error);
                    }
                }
            });
        }
    });
}

/// Comparing would prove nothing about a rule that makes no difference in any world.
#[test]
fn the_worlds_tell_who_may_vouch_for_whom() {
    for weak in WEAKENINGS {
        let differs = |seed: &u64| {
            let world = World::new(&home::root(), *seed);
            let (strict, weaker) = (Oracle::new(&world.changes), Oracle::with(&world.changes, weak));
            let root = Path::root();
            strict.visible_at(strict.everything(), &root) != weaker.visible_at(weaker.everything(), &root)
        };
        let found = (0..WORLDS_TOLD).find(differs);
        let found = found.unwrap_or_else(|| panic!("{weak:?} makes no difference in {WORLDS_TOLD} worlds"));
        eprintln!("{weak:?}: seen in world {found}");
    }
}
