//! What people meant survives: what they wrote is read back, what they removed is gone, and what somebody else
//! did meanwhile stays.
//!
//! `TIMEBUS_CASES=5000` draws more cases, `TIMEBUS_SEED=17` begins at another one.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/home.rs"]
mod home;

use std::collections::BTreeSet;

use dice::{Dice, setting, text};
use home::{after, get, json, open, path, put, request};
use timebus_store::json::{Json, apply_json_patch, merge_patch};
use timebus_store::node::Write;
use timebus_store::path::{Path, Segment};
use timebus_store::store::Store;
use timebus_store::value::Value;
use timebus_store::writer::{Action, Written};

/// Deepest value drawn.
const DEPTH: usize = 4;

fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = setting("TIMEBUS_SEED", 0);
    first..first + setting("TIMEBUS_CASES", default)
}

fn get_at(store: &Store, at: &str, versions: &[String]) -> Option<Json> {
    store.read_at(&store.snapshot(), store.own(), &path(at), versions).expect("read").to_json(&store.space())
}

/// A version that means: exactly what this request made of what it had seen.
fn version(written: &Written) -> Vec<String> {
    written.change.iter().map(ToString::to_string).collect()
}

async fn write_after(store: &Store, parents: &[String], at: &str, action: Action) -> Written {
    store.write(after(parents, at, action)).await.expect("written")
}

/// Every string of a value, keys apart.
fn strings(value: &Json, into: &mut BTreeSet<String>) {
    match value {
        Json::String(string) => drop(into.insert(string.clone())),
        Json::Array(items) => items.iter().for_each(|item| strings(item, into)),
        Json::Object(members) => members.values().for_each(|member| strings(member, into)),
        _ => {}
    }
}

/// Every string that is visible at and below a path, in whatever conflict.
fn kept(store: &Store, at: &str) -> BTreeSet<String> {
    let tree = store.read(&store.snapshot(), store.own(), &path(at)).expect("read").tree;
    let mut writes: Vec<&Write> = Vec::new();
    tree.all_writes(&mut writes);
    let mut found = BTreeSet::new();
    for write in writes {
        match &write.value {
            Value::String(string) => drop(found.insert(string.to_string())),
            Value::Opaque(json) => strings(json, &mut found),
            _ => {}
        }
    }
    found
}

/// Replaces some scalars by strings that nobody else writes.
fn marked(value: &Json, mark: &str, dice: &mut Dice, count: &mut usize) -> Json {
    match value {
        Json::Array(items) => Json::Array(items.iter().map(|item| marked(item, mark, dice, count)).collect()),
        Json::Object(members) => Json::Object(members.iter().map(|(key, member)| (key.clone(), marked(member, mark, dice, count))).collect()),
        _ if dice.percent(40) => {
            *count += 1;
            Json::String(format!("{mark}{count}"))
        }
        scalar => scalar.clone(),
    }
}

#[tokio::test]
async fn what_is_put_is_read_back() {
    let home = home::home(50);
    let store = open(home.path());
    for seed in seeds(120) {
        let mut dice = Dice::new(seed);
        let at = format!("/t{seed}");
        let value = dice.json(DEPTH);
        put(&store, &at, &value).await;
        assert_eq!(get(&store, &at).as_ref().map(text), Some(text(&value)), "seed {seed}");
    }
}

#[tokio::test]
async fn what_is_put_over_something_else_is_read_back_exactly() {
    let home = home::home(50);
    let store = open(home.path());
    for seed in seeds(120) {
        let mut dice = Dice::new(seed);
        let at = format!("/t{seed}");
        let mut value = dice.json(DEPTH);
        let mut versions: Vec<(Vec<String>, Json)> = Vec::new();
        for step in 0..6 {
            let written = put(&store, &at, &value).await;
            let reading = store.read(&store.snapshot(), store.own(), &path(&at)).expect("read");
            assert_eq!(reading.tree.to_json(&store.space()).as_ref().map(text), Some(text(&value)), "seed {seed} step {step}");
            assert_eq!(reading.tree.conflicts(), 0, "seed {seed} step {step}");
            assert_eq!(reading.version, written.version, "seed {seed} step {step}");
            versions.push((written.version, value.clone()));
            value = if dice.percent(30) { dice.json(DEPTH) } else { dice.edited(&value, DEPTH) };
        }
        for (step, (version, value)) in versions.iter().enumerate() {
            assert_eq!(get_at(&store, &at, version).as_ref().map(text), Some(text(value)), "seed {seed} step {step}, later");
        }
    }
}

/// A library that tells where two arrays differ once told wrong places, with few values that repeat.
#[tokio::test]
async fn an_array_that_is_put_over_another_of_the_same_few_values_is_read_back_exactly() {
    let home = home::home(50);
    let store = open(home.path());
    let mut dice = Dice::new(1);
    let mut arrays = vec![json("[0,1,0,2,0,1]"), json("[1,1,0,0,0]")];
    for _ in 0..400 {
        arrays.push(Json::Array((0..dice.below(8)).map(|_| Json::Int(dice.below(3) as i64)).collect()));
    }
    for value in arrays {
        put(&store, "/list", &value).await;
        assert_eq!(get(&store, "/list").as_ref().map(text), Some(text(&value)));
    }
}

/// Paths of everything in a subtree.
fn places(store: &Store, at: &Path) -> Vec<Path> {
    let tree = store.read(&store.snapshot(), store.own(), at).expect("read").tree;
    let mut found = vec![at.clone()];
    for name in tree.names.keys() {
        found.extend(places(store, &at.join(Segment::Name(name.clone())).expect("fits")));
    }
    for (id, _) in &tree.elements {
        found.extend(places(store, &at.join(Segment::Element(*id)).expect("fits")));
    }
    found
}

#[tokio::test]
async fn a_put_makes_a_place_exactly_that_whatever_was_done_below_it() {
    let home = home::home(50);
    let store = open(home.path());
    for seed in seeds(80) {
        let mut dice = Dice::new(seed);
        let at = format!("/t{seed}");
        put(&store, &at, &dice.json(DEPTH)).await;
        for _ in 0..4 {
            let all = places(&store, &path(&at));
            let place = dice.pick(&all).expect("at least the top").clone();
            let value = dice.json(2);
            let action = if dice.percent(20) && place != path(&at) { Action::Delete } else { Action::Put(value.clone()) };
            let deleted = matches!(action, Action::Delete);
            let mut request = request("/", action);
            request.path = place.clone();
            store.write(request).await.expect("written");
            let now = store.read(&store.snapshot(), store.own(), &place).expect("read").tree.to_json(&store.space());
            assert_eq!(now, (!deleted).then_some(value), "seed {seed} at {place}");
        }
        let value = dice.json(DEPTH);
        put(&store, &at, &value).await;
        let tree = store.read(&store.snapshot(), store.own(), &path(&at)).expect("read").tree;
        assert_eq!(tree.to_json(&store.space()), Some(value), "seed {seed}");
        assert_eq!(tree.conflicts(), 0, "seed {seed}");
    }
}

#[tokio::test]
async fn a_merge_patch_does_what_it_does_to_plain_json() {
    let home = home::home(50);
    let store = open(home.path());
    for seed in seeds(120) {
        let mut dice = Dice::new(seed);
        let at = format!("/t{seed}");
        let mut value = dice.json(DEPTH);
        put(&store, &at, &value).await;
        for step in 0..3 {
            let patch = if dice.percent(70) { dice.edited(&value, DEPTH) } else { dice.json(DEPTH) };
            let before = text(&value);
            merge_patch(&mut value, &patch);
            store.write(request(&at, Action::Merge(patch.clone()))).await.expect("written");
            assert_eq!(get(&store, &at).as_ref().map(text), Some(text(&value)), "seed {seed} step {step}: {} into {before}", text(&patch));
        }
    }
}

/// A pointer to some place of a value, and to a place where something may be added.
fn pointer(value: &Json, dice: &mut Dice, add: bool) -> String {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Json::Object(members) if !members.is_empty() || add => {
            let key = if add && dice.percent(30) { Some(dice.name()) } else { dice.pick(&members.keys().cloned().collect::<Vec<_>>()).cloned() };
            let Some(key) = key else { return String::new() };
            let below = members.get(&key).filter(|_| dice.percent(60)).map(|member| pointer(member, dice, add)).unwrap_or_default();
            format!("/{}{below}", escaped(&key))
        }
        Json::Array(items) if !items.is_empty() || add => {
            let at = dice.below(items.len() + usize::from(add));
            let below = items.get(at).filter(|_| dice.percent(50)).map(|item| pointer(item, dice, add)).unwrap_or_default();
            format!("/{at}{below}")
        }
        _ => String::new(),
    }
}

#[tokio::test]
async fn a_json_patch_does_what_it_does_to_plain_json() {
    let home = home::home(50);
    let store = open(home.path());
    let mut applied = 0;
    for seed in seeds(120) {
        let mut dice = Dice::new(seed);
        let at = format!("/t{seed}");
        let mut value = dice.json(DEPTH);
        put(&store, &at, &value).await;
        for step in 0..3 {
            let string = |text: String| Json::String(text);
            let (op, add) = [("add", true), ("replace", false), ("remove", false), ("move", false), ("copy", false)][dice.below(5)];
            let mut members = vec![("op", string(op.to_owned())), ("path", string(pointer(&value, &mut dice, add)))];
            match op {
                "add" | "replace" => members.push(("value", dice.json(2))),
                "move" | "copy" => members.push(("from", string(pointer(&value, &mut dice, false)))),
                _ => {}
            }
            let patch = Json::Array(vec![Json::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())]);
            let before = text(&value);
            let plain = apply_json_patch(&mut value, &patch);
            let answer = store.write(request(&at, Action::JsonPatch(patch.clone()))).await;
            assert_eq!(answer.is_ok(), plain.is_ok(), "seed {seed} step {step}: {}", text(&patch));
            applied += usize::from(plain.is_ok());
            assert_eq!(get(&store, &at).as_ref().map(text), Some(text(&value)), "seed {seed} step {step}: {} on {before}", text(&patch));
        }
    }
    assert!(applied > 0);
}

#[tokio::test]
async fn nothing_that_one_side_added_is_lost_to_a_side_that_had_not_seen_it() {
    let home = home::home(50);
    let store = open(home.path());
    let (mut added, mut conflicts) = (0, 0);
    for seed in seeds(120) {
        let mut dice = Dice::new(seed);
        let at = format!("/t{seed}");
        let start = dice.json(DEPTH);
        let first = put(&store, &at, &start).await.version;
        let mut expected = BTreeSet::new();
        let mut branches: Vec<(Vec<String>, Json)> = vec![(first.clone(), start.clone()), (first, start.clone())];
        for step in 0..3 {
            for side in 0..2 {
                let (parents, value) = branches[side].clone();
                let mark = ["A", "B"][side];
                let edited = dice.edited(&value, DEPTH);
                let edited = marked(&edited, &format!("{mark}{step}-"), &mut dice, &mut 0);
                let written = write_after(&store, &parents, &at, Action::Put(edited.clone())).await;
                let parents = if written.change.is_some() { version(&written) } else { parents };
                assert_eq!(
                    get_at(&store, &at, &parents).as_ref().map(text),
                    Some(text(&edited)),
                    "seed {seed} step {step} side {mark}: a version is what its writer saw"
                );
                branches[side] = (parents, edited);
            }
        }
        for (_, value) in &branches {
            strings(value, &mut expected);
        }
        expected.retain(|string| string.starts_with(['A', 'B']));
        added += expected.len();
        let lost: Vec<&String> = expected.difference(&kept(&store, &at)).cloned().collect::<Vec<_>>().leak().iter().collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?} lost from {}", get(&store, &at).as_ref().map_or_else(String::new, text));
        let tree = store.read(&store.snapshot(), store.own(), &path(&at)).expect("read").tree;
        conflicts += tree.conflicts();
        // Whoever has seen everything may settle it.
        let settled = dice.json(DEPTH);
        put(&store, &at, &settled).await;
        let tree = store.read(&store.snapshot(), store.own(), &path(&at)).expect("read").tree;
        assert_eq!((tree.to_json(&store.space()), tree.conflicts()), (Some(settled), 0), "seed {seed}");
    }
    assert!(added > 0 && conflicts > 0, "{added} additions, {conflicts} conflicts");
}

#[tokio::test]
async fn edits_of_different_members_are_both_shown() {
    let home = home::home(50);
    let store = open(home.path());
    for seed in seeds(100) {
        let mut dice = Dice::new(seed);
        let at = format!("/t{seed}");
        let member = |dice: &mut Dice| Json::Object([("x".to_owned(), dice.json(2)), ("y".to_owned(), dice.json(2))].into());
        let mut start = std::collections::BTreeMap::new();
        for name in ["left", "right", "still"] {
            start.insert(name.to_owned(), member(&mut dice));
        }
        let first = put(&store, &at, &Json::Object(start.clone())).await.version;
        let mut both = start.clone();
        for name in ["left", "right"] {
            let mut mine = start.clone();
            if dice.percent(20) {
                mine.remove(name);
                both.remove(name);
            } else {
                let value = dice.json(3);
                mine.insert(name.to_owned(), value.clone());
                both.insert(name.to_owned(), value);
            }
            write_after(&store, &first, &at, Action::Put(Json::Object(mine))).await;
        }
        assert_eq!(get(&store, &at).as_ref().map(text), Some(text(&Json::Object(both))), "seed {seed}");
    }
}

#[tokio::test]
async fn insertions_into_one_array_from_two_sides_are_all_shown_in_order() {
    let home = home::home(50);
    let store = open(home.path());
    for seed in seeds(80) {
        let mut dice = Dice::new(seed);
        let at = format!("/t{seed}");
        let start: Vec<Json> = (0..dice.below(6)).map(|n| Json::String(format!("s{n}"))).collect();
        let first = put(&store, &at, &Json::Array(start.clone())).await.version;
        let mut sides: Vec<Vec<Json>> = Vec::new();
        for side in ["A", "B"] {
            let mut mine = start.clone();
            for n in 0..1 + dice.below(4) {
                mine.insert(dice.below(mine.len() + 1), Json::String(format!("{side}{n}")));
            }
            write_after(&store, &first, &at, Action::Put(Json::Array(mine.clone()))).await;
            sides.push(mine);
        }
        let Some(Json::Array(merged)) = get(&store, &at) else { panic!("seed {seed}: no array") };
        for mine in &sides {
            let shown: Vec<&Json> = merged.iter().filter(|item| mine.contains(item)).collect();
            assert_eq!(shown, mine.iter().collect::<Vec<_>>(), "seed {seed}: the order of each side stays, in {merged:?}");
        }
        assert_eq!(merged.len(), sides[0].len() + sides[1].len() - start.len(), "seed {seed}: {merged:?}");
    }
}

#[tokio::test]
async fn an_element_that_is_put_elsewhere_is_moved_and_stays_what_it_is() {
    let home = home::home(53);
    let store = open(home.path());
    let start = put(&store, "/t", &json("[\"a\",{\"n\":1},\"c\",\"d\"]")).await.version;
    let element = |at: usize| {
        let tree = store.read(&store.snapshot(), store.own(), &path("/t")).expect("read").tree;
        Path::parse("/t").expect("a path").join(Segment::Element(tree.elements[at].0)).expect("a path").to_string()
    };
    let place = element(1);
    // One moves it to the front, another to the end, and a third changes it where it was.
    let first = write_after(&store, &start, "/t", Action::Put(json("[{\"n\":1},\"a\",\"c\",\"d\"]"))).await;
    assert_eq!((get(&store, "/t"), get(&store, &place)), (Some(json("[{\"n\":1},\"a\",\"c\",\"d\"]")), Some(json("{\"n\":1}"))));
    write_after(&store, &start, "/t", Action::Put(json("[\"a\",\"c\",\"d\",{\"n\":1}]"))).await;
    write_after(&store, &start, "/t", Action::Put(json("[\"a\",{\"n\":2},\"c\",\"d\"]"))).await;
    assert_eq!(get(&store, "/t"), Some(json("[\"a\",\"c\",\"d\",{\"n\":2}]")), "once, where it was put last, and changed");
    assert_eq!((element(3), get(&store, &place)), (place.clone(), Some(json("{\"n\":2}"))));
    // What it was is there to see, and whoever takes a move back moves it back.
    assert_eq!(get_at(&store, "/t", &first.version), Some(json("[{\"n\":1},\"a\",\"c\",\"d\"]")));
    put(&store, "/t", &json("[\"a\",\"d\",\"c\",{\"n\":2}]")).await;
    store.write(request("/t", Action::Undo { version: None })).await.expect("undone");
    assert_eq!(get(&store, "/t"), Some(json("[\"a\",\"c\",\"d\",{\"n\":2}]")));
    // Together with what comes, goes and changes.
    put(&store, "/t", &json("[\"x\",\"d\",{\"n\":2},\"y\",\"a\"]")).await;
    assert_eq!(get(&store, "/t"), Some(json("[\"x\",\"d\",{\"n\":2},\"y\",\"a\"]")));
}

#[tokio::test]
async fn a_stale_document_changes_only_what_its_writer_changed() {
    let home = home::home(50);
    let store = open(home.path());
    let seen = put(&store, "/doc", &json(r#"{"title":"t","body":"b","tags":["x","y"],"n":{"a":1,"b":2}}"#)).await.version;
    put(&store, "/doc/body", &json(r#""better""#)).await;
    put(&store, "/doc/n/c", &json("3")).await;
    store.write(request("/doc/n/a", Action::Delete)).await.expect("written");
    let stale = json(r#"{"title":"T","body":"b","tags":["x","y","z"],"n":{"a":1,"b":5}}"#);
    write_after(&store, &seen, "/doc", Action::Put(stale)).await;
    assert_eq!(get(&store, "/doc"), Some(json(r#"{"title":"T","body":"better","tags":["x","y","z"],"n":{"b":5,"c":3}}"#)));
}

#[tokio::test]
async fn two_who_create_the_same_map_share_it() {
    let home = home::home(50);
    let store = open(home.path());
    write_after(&store, &[], "/m", Action::Put(json(r#"{"a":{"x":1}}"#))).await;
    write_after(&store, &[], "/m", Action::Put(json(r#"{"a":{"y":2},"b":3}"#))).await;
    let tree = store.read(&store.snapshot(), store.own(), &path("/m")).expect("read").tree;
    assert_eq!(tree.to_json(&store.space()), Some(json(r#"{"a":{"x":1,"y":2},"b":3}"#)));
    assert_eq!(tree.conflicts(), 0, "the same marker twice is no conflict");
}

#[tokio::test]
async fn deleting_a_map_keeps_what_was_added_inside_meanwhile() {
    let home = home::home(50);
    let store = open(home.path());
    let seen = put(&store, "/m", &json(r#"{"a":1,"l":["x",{"k":1}]}"#)).await.version;
    put(&store, "/m/new", &json("1")).await;
    store.write(request("/m/l", Action::Post { name: "n".to_owned(), value: json(r#""late""#) })).await.expect("written");
    write_after(&store, &seen, "/m", Action::Delete).await;
    assert_eq!(get(&store, "/m"), Some(json(r#"{"l":["late"],"new":1}"#)));
}

#[tokio::test]
async fn appending_to_an_empty_list_from_two_sides_keeps_both() {
    let home = home::home(50);
    let store = open(home.path());
    let seen = put(&store, "/l", &json("[]")).await.version;
    for value in ["1", "2"] {
        let post = Action::Post { name: "n".to_owned(), value: json(value) };
        let written = write_after(&store, &seen, "/l", post).await;
        assert!(matches!(written.created.expect("an element").segments(), [_, Segment::Element(_)]));
    }
    write_after(&store, &seen, "/l", Action::Put(json("[3]"))).await;
    let Some(Json::Array(mut all)) = get(&store, "/l") else { panic!("no array") };
    all.sort_by_key(text);
    assert_eq!(text(&Json::Array(all)), "[1,2,3]");
}

#[tokio::test]
async fn values_that_look_special_are_read_back_as_they_were_put() {
    let home = home::home(50);
    let store = open(home.path());
    let space = store.space();
    let other = timebus_identity::SecretKey::from_seed([77; 32]).public();
    let cases = [
        r#"{"link":"/a/b"}"#.to_owned(),
        r#"{"link":"/a/b/"}"#.to_owned(),
        r#"{"link":"a"}"#.to_owned(),
        r#"{"link":"/@@x"}"#.to_owned(),
        r#"{"link":"/@x"}"#.to_owned(),
        r#"{"link":"/a","more":1}"#.to_owned(),
        format!(r#"{{"link":"/@{other}/x"}}"#),
        format!(r#"{{"link":"/@{other}"}}"#),
        format!(r#"{{"link":"/@{other}/x/"}}"#),
        format!(r#"{{"link":"/@{space}/x"}}"#),
        r#"{"@bytes":"aGk=","@type":"image/png"}"#.to_owned(),
        r#"{"@bytes":"aGk=","@type":"text/plain; charset=utf-8"}"#.to_owned(),
        r#"{"@bytes":"//8=","@type":"text/plain"}"#.to_owned(),
        r#"{"@bytes":"aGk","@type":"image/png"}"#.to_owned(),
        r#"{"@bytes":"aGl=","@type":"image/png"}"#.to_owned(),
        format!(r#"{{"@blob":"{other}","@bytes_total":5,"@type":"image/png"}}"#),
        format!(r#"{{"@blob":"{other}","@bytes_total":1125899906842624,"@type":"image/png"}}"#),
        format!(r#"{{"@blob":"{other}","@bytes_total":-1,"@type":"image/png"}}"#),
        r#"{"":{"":[{"":1}]},"a/b":{},".":0}"#.to_owned(),
        r#"{"@conflict":[1]}"#.to_owned(),
    ];
    let mut wrong = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let at = format!("/v{n}");
        put(&store, &at, &json(case)).await;
        let back = get(&store, &at).as_ref().map(text);
        if back.as_deref() != Some(&*text(&json(case))) {
            wrong.push(format!("{case} -> {back:?}"));
        }
    }
    let before: Vec<_> = (0..cases.len()).map(|n| get(&store, &format!("/v{n}"))).collect();
    store.close();
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let store = open(home.path());
    for (n, case) in cases.iter().enumerate() {
        let back = get(&store, &format!("/v{n}"));
        if back != before[n] {
            wrong.push(format!("{case} -> {:?} once the index is made anew", back.as_ref().map(text)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
