//! The power goes, disks tear and flip, folders are copied and restored: what was acknowledged is there.
//!
//! `TIMEBUS_EVERY_RECORD=1` cuts the log before, at and behind the end of every record (7 minutes), not only of
//! some; `TIMEBUS_EVERY_BYTE=1` at every byte. `TIMEBUS_CASES=500` flips and tears more.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/home.rs"]
mod home;

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use dice::{Dice, setting, text};
use home::{copy, folder, get, open, path, put, request, try_open};
use timebus_identity::{SecretKey, Verified};
use timebus_store::change::{Body, Change};
use timebus_store::json::{Json, merge_patch};
use timebus_store::log::{Item, LogReader, Place};
use timebus_store::path::Path;
use timebus_store::pipeline::MAIN;
use timebus_store::store::{Config, OpenError, Store, lock_home};
use timebus_store::writer::Action;

/// Batches of the run that the log is cut out of.
const BATCHES: usize = 500;
/// Batches of the shorter runs that are damaged otherwise.
const SHORT: usize = 120;

/// A home with a history, and what it showed after every batch.
struct History {
    home: tempfile::TempDir,
    /// Length of the log after each change, and what the root showed then.
    states: Vec<(u64, Json)>,
    /// Where the records begin, and where the last one ends.
    bounds: Vec<u64>,
    /// Copies of the index: how long the log was then, and where.
    copies: Vec<(u64, tempfile::TempDir)>,
    /// Below which name of the root each state was reached.
    names: Vec<String>,
}

fn log_file(home: &FilePath) -> PathBuf {
    home.join("log/00000001.log")
}

fn log_len(home: &FilePath) -> u64 {
    std::fs::metadata(log_file(home)).map_or(0, |file| file.len())
}

/// Small memory tables, so that files of all kinds come to be.
fn open_small(home: &FilePath) -> Result<Store, OpenError> {
    let config = Config { memtable_bytes: 256 << 10, cache_bytes: 1 << 20, ..Config::default() };
    Store::open(home, lock_home(home).expect("free"), &config, 1, &mut |_| {})
}

fn root_of(store: &Store) -> Json {
    get(store, "/").unwrap_or_else(|| Json::Object(BTreeMap::new()))
}

fn bounds(home: &FilePath) -> Vec<u64> {
    let mut bounds = vec![0];
    for item in LogReader::new(&home.join("log")).walk(Place::START).expect("a log") {
        match item.expect("readable") {
            Item::Record(record) => bounds.push(record.end.offset),
            Item::Damaged(damage) => panic!("{damage:?}"),
        }
    }
    bounds
}

/// One batch: a few writes below one name of the root, and the same done to plain JSON. Answers the name, and the
/// values that it had before the last one.
async fn batch(store: &Store, dice: &mut Dice, number: usize, plain: &mut Json) -> (String, Vec<Json>) {
    let name = format!("n{}", dice.below(40));
    let at = format!("/{name}");
    let Json::Object(members) = plain else { unreachable!("the root is an object") };
    if number == BATCHES - 20 || number == SHORT - 20 {
        // More than one change holds: a run.
        let long = Json::Array((0..3).map(|n| Json::String(n.to_string().repeat(500_000))).collect());
        put(store, &at, &long).await;
        members.insert(name.clone(), long);
        return (name, Vec::new());
    }
    let mut between = Vec::new();
    match (dice.below(10), members.contains_key(&name)) {
        (0, true) => {
            store.write(request(&at, Action::Delete)).await.expect("written");
            members.remove(&name);
        }
        (1 | 2, true) => {
            let patch = Json::Object((0..dice.below(20)).map(|n| (format!("m{n}"), dice.json(2))).collect());
            store.write(request(&at, Action::Merge(patch.clone()))).await.expect("written");
            merge_patch(members.get_mut(&name).expect("there"), &patch);
        }
        (3, _) => {
            // Several requests that share a sync or two.
            for n in 0..5 {
                let value = Json::String(format!("{number}-{n}"));
                let durable = n == 4;
                store.write(timebus_store::writer::Request { durable, ..request(&at, Action::Put(value.clone())) }).await.expect("written");
                between.push(value);
            }
            members.extend(between.pop().map(|last| (name.clone(), last)));
        }
        _ => {
            let value = dice.json(3);
            put(store, &at, &value).await;
            members.insert(name.clone(), value);
        }
    }
    (name, between)
}

impl History {
    async fn new(batches: usize) -> Self {
        let home = home::home(50);
        let mut dice = Dice::new(7);
        let mut plain = Json::Object(BTreeMap::new());
        let mut store = open_small(home.path()).expect("opens");
        let mut states = vec![(log_len(home.path()), plain.clone())];
        let (mut copies, mut names) = (Vec::new(), Vec::new());
        for number in 0..batches {
            let (name, between) = batch(&store, &mut dice, number, &mut plain).await;
            assert_eq!(root_of(&store), plain, "batch {number}");
            let bounds = if between.is_empty() { Vec::new() } else { bounds(home.path()) };
            for (n, value) in between.iter().enumerate() {
                let mut then = plain.clone();
                let Json::Object(members) = &mut then else { unreachable!("the root is an object") };
                members.insert(name.clone(), value.clone());
                states.push((bounds[bounds.len() - 1 - (between.len() - n)], then));
                names.push(name.clone());
            }
            states.push((log_len(home.path()), plain.clone()));
            names.push(name);
            if number % 25 == 24 {
                // Some copies are of an index that was closed, some of one that was not.
                let kept = folder();
                if number % 50 == 24 {
                    copy(&home.path().join("index"), &kept.path().join("index"), &[]);
                } else {
                    store.close();
                    copy(&home.path().join("index"), &kept.path().join("index"), &[]);
                    store = open_small(home.path()).expect("opens");
                    assert_eq!(store.opened().replayed, 0);
                }
                copies.push((log_len(home.path()), kept));
            }
        }
        let bounds = bounds(home.path());
        let last = folder();
        copy(&home.path().join("index"), &last.path().join("index"), &[]);
        copies.push((log_len(home.path()), last));
        store.close();
        Self { home, states, bounds, copies, names }
    }

    /// What was acknowledged when the log was this long.
    fn state_at(&self, len: u64) -> &Json {
        let after = self.states.partition_point(|(end, _)| *end <= len);
        // Shorter than the very first statement: nothing was there yet.
        &self.states[after.saturating_sub(1)].1
    }

    /// Makes a home with these keys, a log and an index.
    fn restore(&self, log: &[u8], index: Option<&FilePath>) -> PathBuf {
        let home = self.home.path();
        for gone in ["index", "log"] {
            let _ = std::fs::remove_dir_all(home.join(gone));
        }
        for entry in std::fs::read_dir(home).expect("home") {
            let entry = entry.expect("entry");
            if entry.file_name() != "keys" && entry.file_name() != "lock" {
                let _ = std::fs::remove_dir_all(entry.path());
                let _ = std::fs::remove_file(entry.path());
            }
        }
        std::fs::create_dir(home.join("log")).expect("made");
        std::fs::write(log_file(home), log).expect("written");
        if let Some(index) = index {
            copy(&index.join("index"), &home.join("index"), &[]);
        }
        home.to_owned()
    }
}

#[tokio::test]
async fn a_log_cut_anywhere_gives_what_was_acknowledged_by_then() {
    let history = History::new(BATCHES).await;
    let good = std::fs::read(log_file(history.home.path())).expect("read");
    let mut cuts: Vec<u64> = if setting("TIMEBUS_EVERY_BYTE", 0) > 0 {
        (0..=good.len() as u64).collect()
    } else {
        let all = setting("TIMEBUS_EVERY_RECORD", 0) > 0;
        let around = history.bounds.iter().enumerate().flat_map(|(n, at)| {
            // A few records, cut before, at or behind their end.
            let chosen = [at.saturating_sub(1), *at, at + 1].into_iter().enumerate();
            chosen.filter(move |(side, _)| all || n < 3 || n % 48 == 16 * side).map(|(_, cut)| cut)
        });
        around.filter(|at| *at <= good.len() as u64).collect()
    };
    cuts.dedup();
    for (n, &cut) in cuts.iter().enumerate() {
        // Mostly the latest index that is behind the log, sometimes an early one, one that is ahead, or none.
        let index = match n % 20 {
            0 => None,
            1 => history.copies.last(),
            2 => history.copies.iter().find(|(len, _)| *len <= cut),
            _ => history.copies.iter().rev().find(|(len, _)| *len <= cut),
        };
        let home = history.restore(&good[..cut as usize], index.map(|(_, folder)| folder.path()));
        let store = open(&home);
        let what = format!("cut at {cut} with {}", index.map_or("no index".to_owned(), |(len, _)| format!("the index of {len} bytes")));
        assert_eq!(text(&root_of(&store)), text(history.state_at(cut)), "{what}");
        assert_eq!(store.opened().damaged, [], "{what}");
        let torn = cut - history.bounds.iter().rev().find(|bound| **bound <= cut).expect("0 is one");
        assert_eq!(store.opened().torn_bytes, torn, "{what}");
        let ahead = index.is_some_and(|(len, _)| *len > cut);
        assert_eq!((store.opened().rebuilt.is_some(), store.opened().new_device), (ahead, ahead), "{what}");
        if n % 50 < 2 {
            // Life goes on, and is there after the next start.
            put(&store, "/later", &Json::Int(cut as i64)).await;
            store.close();
            let store = open(&home);
            assert_eq!(get(&store, "/later"), Some(Json::Int(cut as i64)), "{what}");
            assert_eq!(store.opened().replayed, 0, "{what}");
        }
    }
}

/// Every file of a folder.
fn files(at: &FilePath, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(at).expect("folder") {
        let entry = entry.expect("entry").path();
        if entry.is_dir() { files(&entry, into) } else { into.push(entry) }
    }
    into.sort();
}

/// Damages an index in a way of its own and expects everything to be there, at once or when the index is made
/// anew.
async fn damage_index(history: &History, good: &[u8], expected: &Json, what: &str, damage: impl Fn(&FilePath)) -> bool {
    let (_, index) = history.copies.last().expect("copies");
    let home = history.restore(good, Some(index.path()));
    damage(&home.join("index"));
    let store = try_open(&home).unwrap_or_else(|error| panic!("{what}: does not open: {error:?}"));
    let at_once = store.read(&store.snapshot(), store.own(), &Path::root()).map(|reading| reading.tree.to_json(&store.space()));
    match at_once {
        Ok(json) => {
            assert_eq!(json.as_ref().map(text), Some(text(expected)), "{what}: wrong without an error");
            true
        }
        Err(error) => {
            eprintln!("{what}: {error:?}");
            store.close();
            std::fs::remove_dir_all(home.join("index")).expect("removed");
            assert_eq!(text(&root_of(&open(&home))), text(expected), "{what}: from the log");
            false
        }
    }
}

#[tokio::test]
async fn a_damaged_index_costs_time_and_nothing_else() {
    let history = History::new(SHORT).await;
    let good = std::fs::read(log_file(history.home.path())).expect("read");
    let expected = history.states.last().expect("states").1.clone();
    let mut names = Vec::new();
    let folder = history.copies.last().expect("copies").1.path().join("index");
    files(&folder, &mut names);
    let names: Vec<PathBuf> = names.iter().map(|name| name.strip_prefix(&folder).expect("below").to_owned()).collect();
    let mut dice = Dice::new(setting("TIMEBUS_SEED", 3));
    let (mut read, mut unread) = (0, 0);
    for _ in 0..setting("TIMEBUS_CASES", 10) {
        let name = dice.pick(&names).expect("files").clone();
        let (draw, kind) = (dice.any(), dice.below(4));
        let change = ["a bit flipped", "cut", "emptied", "removed"][kind];
        let damage = |index: &FilePath| {
            let file = index.join(&name);
            let Ok(mut bytes) = std::fs::read(&file) else { return };
            let at = (draw % bytes.len().max(1) as u64) as usize;
            match kind {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << (draw >> 32 & 7),
                1 => bytes.truncate(at),
                2 => bytes.clear(),
                _ => return std::fs::remove_file(&file).expect("removed"),
            }
            std::fs::write(&file, &bytes).expect("written");
        };
        let what = format!("{change} at {draw} in {}", name.display());
        match damage_index(&history, &good, &expected, &what, damage).await {
            true => read += 1,
            false => unread += 1,
        }
    }
    assert!(read > unread, "{read} damaged indexes were read or made anew by themselves, {unread} only answered errors");
}

#[tokio::test]
async fn a_table_that_opens_empty_is_noticed() {
    let (home, kept) = (home::home(50), folder());
    let store = open(home.path());
    let document = home::json(r#"{"a":1,"l":[1,{"b":2}]}"#);
    put(&store, "/", &document).await;
    store.close();
    copy(&home.path().join("index"), &kept.path().join("index"), &[]);
    let mut names = Vec::new();
    files(&kept.path().join("index"), &mut names);
    // Without this file the database makes the table anew, and says nothing.
    names.retain(|name| name.ends_with("current"));
    assert!(names.len() >= 9, "{names:?}");
    for name in &names {
        let _ = std::fs::remove_dir_all(home.path().join("index"));
        copy(&kept.path().join("index"), &home.path().join("index"), &[]);
        std::fs::remove_file(home.path().join("index").join(name.strip_prefix(kept.path().join("index")).expect("below"))).expect("removed");
        let store = open(home.path());
        assert_eq!(root_of(&store), document, "without {}", name.display());
    }
}

#[tokio::test]
async fn flipped_bits_in_the_log_are_told_and_the_rest_is_read() {
    let history = History::new(SHORT).await;
    let good = std::fs::read(log_file(history.home.path())).expect("read");
    let expected = history.states.last().expect("states").1.clone();
    let Json::Object(expected) = expected else { unreachable!("an object") };
    let mut dice = Dice::new(setting("TIMEBUS_SEED", 5));
    // The first record is what lets the device write.
    let (start, end) = (history.bounds[1], history.bounds[history.bounds.len() - 2]);
    for _ in 0..setting("TIMEBUS_CASES", 4) {
        // Bounds without the run, which would take most of the flips.
        let record = 1 + dice.below(history.bounds.len() - 3);
        let (from, to) = (history.bounds[record], history.bounds[record + 1]);
        let at = from + dice.any() % (to - from);
        assert!((start..end).contains(&at));
        let mut bad = good.clone();
        bad[at as usize] ^= 1 << dice.below(8);
        let what = format!("a bit of byte {at}, in the record from {from} to {to}");
        let name = &history.names[history.states.partition_point(|(end, _)| *end <= from) - 1];
        // With the index, nothing is lost yet.
        let home = history.restore(&bad, history.copies.last().map(|(_, folder)| folder.path()));
        let store = open(&home);
        let Json::Object(found) = root_of(&store) else { panic!("no object: {what}") };
        assert!(found == expected, "{what}, with the index");
        store.close();
        // From the log alone, everything but what that batch touched.
        let home = history.restore(&bad, None);
        let store = open(&home);
        let damaged = &store.opened().damaged;
        assert_eq!(damaged.iter().map(|damage| (damage.place.offset, damage.bytes)).collect::<Vec<_>>(), [(from, to - from)], "{what}");
        let Json::Object(found) = root_of(&store) else { panic!("no object: {what}") };
        for (other, value) in expected.iter().filter(|(other, _)| *other != name) {
            assert_eq!(found.get(other), Some(value), "{other} after {what}, which is of {name}");
        }
        put(&store, "/later", &Json::Int(1)).await;
        store.close();
        let store = open(&home);
        assert_eq!(get(&store, "/later"), Some(Json::Int(1)), "{what}");
    }
}

/// The changes of a log.
fn changes(home: &FilePath) -> Vec<Verified<Change>> {
    let mut changes = Vec::new();
    for item in LogReader::new(&home.join("log")).walk(Place::START).expect("a log") {
        if let Item::Record(record) = item.expect("readable") {
            changes.push(Change::decode(&record.payload).expect("a change").verify().expect("signed"));
        }
    }
    changes
}

async fn offer_all(store: &Store, changes: Vec<Verified<Change>>) {
    let offered = store.offer(changes).await.expect("taken");
    assert!(offered.refused.is_empty(), "{:?}", offered.refused);
}

#[tokio::test]
async fn a_copied_home_writes_with_a_key_of_its_own_and_both_merge() {
    let (first, second) = (home::home(50), folder());
    let store = open(first.path());
    put(&store, "/doc", &home::json(r#"{"a":1,"l":[1,2]}"#)).await;
    store.close();
    let copied = second.path().join("home");
    copy(first.path(), &copied, &[]);
    let (one, two) = (open(first.path()), open(&copied));
    assert_eq!((one.opened().new_device, two.opened().new_device), (false, true));
    assert_eq!((one.opened().replayed, one.opened().rebuilt.clone()), (0, None));
    assert_eq!(one.space(), two.space());
    assert_ne!(one.device(), two.device(), "two writers with one key would fork its chain");
    put(&one, "/doc/l", &home::json("[1,2,3]")).await;
    put(&one, "/doc/one", &Json::Int(1)).await;
    put(&two, "/doc/l", &home::json("[0,1,2]")).await;
    put(&two, "/doc/two", &Json::Int(2)).await;
    let (of_one, of_two) = (changes(first.path()), changes(&copied));
    offer_all(&one, of_two).await;
    offer_all(&two, of_one).await;
    let merged = home::json(r#"{"a":1,"l":[0,1,2,3],"one":1,"two":2}"#);
    assert_eq!(get(&one, "/doc"), Some(merged.clone()));
    assert_eq!(get(&two, "/doc"), Some(merged));
    let device = two.device();
    two.close();
    assert_eq!(open(&copied).device(), device, "one new key is enough");
}

#[tokio::test]
async fn a_log_without_its_keys_is_not_taken_for_a_new_space() {
    let home = home::home(50);
    let store = open(home.path());
    put(&store, "/a", &Json::Int(1)).await;
    store.close();
    let kept = folder();
    std::fs::rename(home.path().join("keys"), kept.path().join("keys")).expect("moved");
    let before = std::fs::read(log_file(home.path())).expect("read");
    for _ in 0..2 {
        assert!(matches!(try_open(home.path()), Err(OpenError::NoKeys(_))), "no keys, no store");
        assert!(!home.path().join("keys").exists(), "and none are made up");
    }
    let empty = home.path().join("keys");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&empty).expect("made");
    assert!(matches!(try_open(home.path()), Err(OpenError::NoKeys(_))), "an empty folder is no keys");
    std::fs::remove_dir(&empty).expect("removed");
    assert_eq!(std::fs::read(log_file(home.path())).expect("read"), before);
    std::fs::rename(kept.path().join("keys"), home.path().join("keys")).expect("moved");
    assert_eq!(get(&open(home.path()), "/a"), Some(Json::Int(1)));
}

#[tokio::test]
async fn an_open_run_of_somebody_else_costs_nobody_anything() {
    // Device 51 writes a run; its end comes late, after a start that has nothing but the log.
    let (writer, reader) = (home::home(51), home::home(50));
    let (theirs, ours) = (open(writer.path()), open(reader.path()));
    let long = Json::Array((0..3).map(|n| Json::String(n.to_string().repeat(500_000))).collect());
    put(&theirs, "/long", &long).await;
    let mut run = changes(writer.path());
    let parts = run.iter().filter(|change| Body::decode(change.body_bytes()).expect("a body").part.is_some()).count();
    assert!(parts > 1, "a run");
    let last = run.pop().expect("the last part");
    offer_all(&ours, run.clone()).await;
    put(&ours, "/own", &Json::Int(1)).await;
    assert_eq!(get(&ours, "/long"), None, "nothing of a run shows before its end is there");
    ours.close();
    std::fs::remove_dir_all(reader.path().join("index")).expect("removed");
    let ours = open(reader.path());
    assert_eq!((get(&ours, "/own"), ours.opened().torn_bytes), (Some(Json::Int(1)), 0));
    offer_all(&ours, vec![last]).await;
    assert_eq!((get(&ours, "/own"), get(&ours, "/long")), (Some(Json::Int(1)), Some(long)));
}

#[tokio::test]
async fn more_heads_than_a_change_has_parents_are_merged_in_steps() {
    let home = home::home(50);
    let store = open(home.path());
    put(&store, "/l", &home::json("[]")).await;
    store.close();
    // Forty copies of the home write at once, each with a key of its own.
    let mut all: Vec<Verified<Change>> = Vec::new();
    for number in 0..40 {
        let kept = folder();
        let copied = kept.path().join("home");
        copy(home.path(), &copied, &[]);
        let other = open(&copied);
        put(&other, "/x", &Json::Int(number)).await;
        other.write(request("/l", Action::Post { name: "n".to_owned(), value: Json::Int(number) })).await.expect("written");
        all.extend(changes(&copied));
    }
    let store = open(home.path());
    all.sort_by_key(|change| change.header().lamport);
    all.sort_by_key(|change| change.header().kind != timebus_store::change::Kind::Auth);
    offer_all(&store, all).await;
    let tree = store.read(&store.snapshot(), store.own(), &path("/x")).expect("read").tree;
    assert_eq!(tree.writes.len(), 40);
    store.write(request("/l", Action::Post { name: "n".to_owned(), value: Json::Int(99) })).await.expect("written");
    put(&store, "/x", &Json::Int(100)).await;
    let check = |store: &Store| {
        let tree = store.read(&store.snapshot(), store.own(), &path("/x")).expect("read").tree;
        assert_eq!((tree.writes.len(), tree.to_json(&store.space())), (1, Some(Json::Int(100))), "who has seen all settles it");
        let Some(Json::Array(items)) = get(store, "/l") else { panic!("no list") };
        assert_eq!((items.len(), items.last()), (41, Some(&Json::Int(99))));
    };
    check(&store);
    store.close();
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    check(&open(home.path()));
}

#[tokio::test]
async fn more_conflicts_than_a_page_are_all_settled_and_all_deleted() {
    let home = home::home(50);
    let store = open(home.path());
    for at in ["/put", "/gone", "/in/gone"] {
        for number in 0..150 {
            store.write(home::after(&[], at, Action::Put(Json::Int(number)))).await.expect("written");
        }
    }
    put(&store, "/put", &Json::Int(7)).await;
    let tree = store.read(&store.snapshot(), store.own(), &path("/put")).expect("read").tree;
    assert_eq!(tree.writes.len(), 1);
    store.write(request("/gone", Action::Delete)).await.expect("written");
    assert_eq!(get(&store, "/gone"), None);
    put(&store, "/in", &home::json("{}")).await;
    assert_eq!(get(&store, "/in"), Some(home::json("{}")));
}

#[tokio::test]
async fn what_does_not_fit_the_format_is_refused_and_not_lost_later() {
    let home = home::home(50);
    let store = open(home.path());
    let seen: Vec<String> = {
        let mut all = Vec::new();
        for number in 0..70 {
            all.push(store.write(home::after(&[], "/many", Action::Put(Json::Int(number)))).await.expect("written"));
        }
        all.iter().filter_map(|written| written.change).map(|id| id.to_string()).collect()
    };
    let longest = Json::String("x".repeat(timebus_store::value::STRING_BYTES_MAX));
    let deep = format!("/{}/{}/{}/{}", "p".repeat(250), "p".repeat(250), "p".repeat(250), "p".repeat(250));
    for number in 0..90 {
        store.write(home::after(&[], &deep, Action::Put(Json::Int(number)))).await.expect("written");
    }
    let mut requests = vec![
        request("/label", Action::Put(Json::Int(1))),
        home::after(&seen, "/parents", Action::Put(Json::Int(1))),
        home::after(&seen[..40], "/parents40", Action::Put(Json::Int(1))),
        request(&deep, Action::Put(longest)),
    ];
    requests[0].label = Some("l".repeat(81));
    requests[3].label = Some("m".repeat(80));
    let mut expected = Vec::new();
    for request in requests {
        let at = request.path.clone();
        let accepted = store.write(request).await.is_ok();
        let shown = store.read(&store.snapshot(), store.own(), &at).expect("read").tree.to_json(&store.space());
        expected.push((at, accepted, shown));
    }
    // The store works on, and shows the same when all it has is the log.
    put(&store, "/later", &Json::Int(1)).await;
    store.close();
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let store = open(home.path());
    assert_eq!(store.opened().damaged, []);
    assert_eq!(get(&store, "/later"), Some(Json::Int(1)));
    for (at, accepted, shown) in expected {
        let now = store.read(&store.snapshot(), store.own(), &at).expect("read").tree.to_json(&store.space());
        assert!(now == shown, "{} {at}", if accepted { "acknowledged and lost:" } else { "refused and changed:" });
    }
}

#[tokio::test]
async fn a_log_of_several_segments_is_one_log() {
    let home = home::home(50);
    let store = open(home.path());
    // Nothing that gets shorter in the log.
    let noise = |number: usize| (0..14_000usize).flat_map(move |at| *blake3::hash(&(number * 100_000 + at).to_le_bytes()).as_bytes());
    let value = |number: usize| Json::String(timebus_identity::z32::encode(&noise(number).collect::<Vec<u8>>()));
    for number in 0..100 {
        put(&store, &format!("/v{number}"), &value(number)).await;
    }
    let second = home.path().join("log/00000002.log");
    assert!(second.exists() && log_len(home.path()) <= timebus_store::log::SEGMENT_BYTES);
    store.close();
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let store = open(home.path());
    assert!((0..100).all(|number| get(&store, &format!("/v{number}")) == Some(value(number))));
    assert_eq!(store.changes(&store.snapshot(), MAIN, 0).count(), 100);
    store.close();
    // Without the second segment, what the first one holds is there, and the rest is known to be missing.
    std::fs::remove_file(&second).expect("removed");
    let store = open(home.path());
    assert!(store.opened().new_device && store.opened().rebuilt.is_some());
    let there = (0..100).filter(|number| get(&store, &format!("/v{number}")) == Some(value(*number))).count();
    assert!((80..100).contains(&there), "{there}");
    put(&store, "/later", &Json::Int(1)).await;
    store.close();
    assert_eq!(get(&open(home.path()), "/later"), Some(Json::Int(1)));
}

#[tokio::test]
async fn a_cold_home_that_lost_changes_does_not_write_with_its_old_key() {
    let home = home::home(50);
    let store = open(home.path());
    for number in 0..4 {
        put(&store, "/a", &Json::Int(number)).await;
    }
    store.close();
    let cut = bounds(home.path())[3];
    let log = std::fs::read(log_file(home.path())).expect("read");
    std::fs::write(log_file(home.path()), &log[..cut as usize]).expect("written");
    for secret in ["root.key", "next.key"] {
        std::fs::remove_file(home.path().join("keys").join(secret)).expect("removed");
    }
    for _ in 0..2 {
        let store = open(home.path());
        assert_eq!(get(&store, "/a"), Some(Json::Int(1)));
        let refused = store.write(request("/a", Action::Put(Json::Int(9)))).await;
        assert!(matches!(refused, Err(timebus_store::writer::WriteError::NoKey)), "{refused:?}");
    }
}

/// Writes a log as programs did that packed no changes.
fn unpack(home: &FilePath) {
    let mut old = Vec::new();
    for item in LogReader::new(&home.join("log")).walk(Place::START).expect("a log") {
        let Item::Record(record) = item.expect("readable") else { panic!("damage") };
        timebus_store::log::frame(record.a, &record.payload, &mut old);
    }
    std::fs::write(log_file(home), old).expect("written");
    std::fs::remove_dir_all(home.join("index")).expect("removed");
    open(home).close();
}

/// A home of which a copy is kept and one record is then damaged, and what the root showed.
async fn damaged(record: usize, is_old: bool) -> (tempfile::TempDir, Vec<Verified<Change>>, Json) {
    let (home, kept) = (home::home(50), folder());
    let store = open(home.path());
    for number in 0..4 {
        put(&store, "/a", &Json::Int(number)).await;
    }
    put(&store, "/b", &Json::Int(1)).await;
    let expected = root_of(&store);
    store.close();
    if is_old {
        unpack(home.path());
    }
    let copied = kept.path().join("home");
    copy(home.path(), &copied, &[]);
    let bounds = bounds(home.path());
    let mut log = std::fs::read(log_file(home.path())).expect("read");
    log[bounds[record] as usize + 40] ^= 1;
    std::fs::write(log_file(home.path()), log).expect("written");
    (home, changes(&copied), expected)
}

/// Puts back what is missing, from what somebody else has.
async fn mend(store: &Store, others: &[Verified<Change>]) -> timebus_store::mend::Filled {
    let end = store.fence().await.expect("a place");
    let mut found = timebus_store::mend::examine(store, end).expect("read");
    let mut fetched = BTreeMap::new();
    loop {
        for lost in &found.lost {
            fetched.extend(others.iter().find(|change| change.id() == lost.change).map(|change| (change.id(), change.clone())));
        }
        if !timebus_store::mend::deepen(store, &mut found, &fetched).expect("read") {
            break;
        }
    }
    timebus_store::mend::fill(store.log(), &found, &fetched).expect("written")
}

fn is_whole(home: &FilePath) -> bool {
    LogReader::new(&home.join("log")).walk(Place::START).expect("a log").all(|item| matches!(item, Ok(Item::Record(_))))
}

fn shows(store: &Store, expected: &Json) {
    let tree = store.read(&store.snapshot(), store.own(), &Path::root()).expect("read").tree;
    assert_eq!((tree.to_json(&store.space()).as_ref(), tree.conflicts()), (Some(expected), 0));
}

/// The index was made from a log with a hole, so what stood behind the hole was folded without knowing what it had
/// replaced. The missing change came from another peer meanwhile, and stands at the end, behind what builds on it.
#[tokio::test]
async fn a_damaged_record_is_healed_by_any_peer_that_has_it() {
    for (came_by_sync, is_old) in [(false, false), (true, false), (false, true)] {
        let (home, others, expected) = damaged(3, is_old).await;
        std::fs::remove_dir_all(home.path().join("index")).expect("removed");
        let store = open(home.path());
        assert_eq!(store.opened().damaged.len(), 1);
        if came_by_sync {
            offer_all(&store, others.clone()).await;
        }
        let filled = mend(&store, &others).await;
        assert_eq!((filled.changes.len(), filled.is_index_old), (1, true));
        assert!(is_whole(home.path()));
        store.distrust_index("the log was mended");
        store.close();
        let store = open(home.path());
        assert_eq!((store.opened().damaged.len(), store.opened().rebuilt.as_deref()), (0, Some("the log was mended")));
        shows(&store, &expected);
        assert_eq!(store.distrust(), None);
        put(&store, "/a", &Json::Int(9)).await;
    }
}

/// With a good index it is known what stood where, so nothing has to be made anew.
#[tokio::test]
async fn damage_under_a_good_index_is_mended_in_place() {
    for is_old in [false, true] {
        let (home, others, expected) = damaged(2, is_old).await;
        let store = open(home.path());
        assert_eq!((store.opened().damaged.len(), store.opened().rebuilt.clone()), (0, None));
        let filled = mend(&store, &others).await;
        assert_eq!((filled.changes.len(), filled.is_index_old), (1, false));
        assert!(is_whole(home.path()));
        shows(&store, &expected);
        assert_eq!(changes(home.path()).len(), others.len());
    }
}

/// Two records next to each other, of which only the second is known from what builds on it, and the first from the
/// second.
#[tokio::test]
async fn what_only_the_missing_build_on_is_found_too() {
    let (home, others, expected) = damaged(2, false).await;
    let bounds = {
        let mut at = vec![0];
        for change in &others {
            at.push(at.last().expect("one") + timebus_store::log::framed(0, change).len() as u64);
        }
        at
    };
    let mut log = std::fs::read(log_file(home.path())).expect("read");
    log[bounds[3] as usize + 40] ^= 1;
    std::fs::write(log_file(home.path()), log).expect("written");
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let store = open(home.path());
    let filled = mend(&store, &others).await;
    assert_eq!((filled.changes.len(), filled.is_index_old), (2, true));
    assert!(is_whole(home.path()));
    store.distrust_index("the log was mended");
    store.close();
    shows(&open(home.path()), &expected);
}

#[tokio::test]
async fn nothing_is_put_back_that_nobody_has() {
    let (home, _, _) = damaged(2, false).await;
    let before = std::fs::read(log_file(home.path())).expect("read");
    let store = open(home.path());
    assert_eq!(mend(&store, &[]).await, timebus_store::mend::Filled::default());
    assert_eq!(std::fs::read(log_file(home.path())).expect("read"), before);
}

#[test]
fn the_test_keys_are_what_they_say() {
    let home = home::home(50);
    assert_eq!(open(home.path()).device(), SecretKey::from_seed([50; 32]).public());
}
