//! Taking something from one path to another.

use serde_json::json;

use super::neighbours::{json as verb, pair, poll, run, until_value};
use crate::peer::Peer;

const MARKDOWN: (&str, &str) = ("Content-Type", "text/markdown");

#[test]
fn all_that_is_at_a_path_goes_to_another_by_one_change() {
    let peer = Peer::start();
    let film = "film".repeat(100_000);
    peer.put("/a/list", &json!(["x", {"y": 1}]));
    peer.put("/a/empty", &json!({}));
    peer.put("/a/b/c", &json!(null));
    assert_eq!(peer.send("PUT", "/a/film", &[("Content-Type", "video/mp4")], &film).status / 100, 2);
    assert_eq!(peer.send("PUT", "/a/note", &[MARKDOWN], "buy tea").status / 100, 2);
    let before = peer.value("/a");
    let moved = verb(peer.home(), &["mv", "/a", "/z/a"]);
    assert_eq!((&moved["from"], &moved["to"], moved["version"].as_array().map(Vec::len)), (&json!("/a"), &json!("/z/a"), Some(1)), "{moved}");
    assert_eq!(peer.value("/z/a"), before);
    assert_eq!(peer.send("GET", "/a", &[], "").status, 404);
    assert_eq!(peer.send("GET", "/z/a/film", &[], "").body, film.as_bytes());
    let latest = peer.value("/.sys/log?limit=1")["changes"][0]["paths"].clone();
    let paths: Vec<&str> = latest.as_array().into_iter().flatten().filter_map(|path| path.as_str()).collect();
    assert!(paths.iter().any(|path| path.starts_with("/a")) && paths.iter().any(|path| path.starts_with("/z/a/")), "{paths:?}");
    // A text is one that merges still.
    let seen = peer.send("GET", "/z/a/note", &[], "");
    assert_eq!(seen.header("content-type").map(|kind| kind.starts_with("text/markdown")), Some(true));
    let parents = seen.header("version").expect("a version").to_owned();
    for (range, text) in [("text [7:7]", " and cake"), ("text [0:3]", "Bring")] {
        let headers = [MARKDOWN, ("Content-Range", range), ("Parents", &parents)];
        assert_eq!(peer.send("PATCH", "/z/a/note", &headers, text).status / 100, 2);
    }
    assert_eq!(peer.send("GET", "/z/a/note", &[], "").text(), "Bring tea and cake");
    // What was there can be seen, and brought back, where it was.
    assert!(run(peer.home(), &["log", "/a"]).out.lines().count() >= 5);
    assert_eq!(run(peer.home(), &["undo", "/a"]).code, 0);
    assert_eq!(peer.value("/a"), before);
}

#[test]
fn what_cannot_go_says_why_and_stays() {
    let (alice, bob) = pair();
    alice.put("/wall/a", &json!(1));
    alice.put("/wall/b", &json!(2));
    alice.put("/notes/n", &json!(3));
    assert_eq!(run(alice.home(), &["private", "/diary"]).code, 0);
    for (args, words) in [
        (["/wall/a", "/wall/b"], "something is there already"),
        (["/wall/none", "/wall/c"], "there is nothing at /wall/none"),
        (["/wall", "/wall/below"], "neither at nor below"),
        (["/wall/a", "/wall/a"], "neither at nor below"),
        (["/", "/wall/all"], "neither at nor below"),
        (["/wall/a", "/diary/a"], "kept apart"),
        (["/wall/a", "/.auth/a"], "system"),
        (["/wall/a", "@bob/a"], "two spaces"),
    ] {
        let refused = run(alice.home(), &[&["mv"], &args[..]].concat());
        assert!(refused.code != 0 && refused.err.contains(words), "{args:?}: {refused:?}");
    }
    assert_eq!(alice.value("/wall"), json!({"a": 1, "b": 2}));
    // Bob may write at the wall, and nowhere else.
    until_value(&bob, "/@alice/notes/n", &json!(3));
    until_value(&bob, "/@alice/wall/b", &json!(2));
    for args in [["@alice/wall/a", "@alice/notes/a"], ["@alice/notes/n", "@alice/wall/n"]] {
        let refused = run(bob.home(), &[&["mv"], &args[..]].concat());
        assert!(refused.code == 1 && refused.err.contains("you may not"), "{args:?}: {refused:?}");
    }
    assert_eq!(run(bob.home(), &["mv", "@alice/wall/a", "@alice/wall/c"]).code, 0);
    until_value(&alice, "/wall", &json!({"b": 2, "c": 1}));
    let id = verb(alice.home(), &["id"])["id"].as_str().expect("a key").to_owned();
    let moved = run(bob.home(), &["mv", "@alice/wall/c", &format!("@{id}/wall/d")]);
    assert!(moved.code == 0 && moved.out.contains("its history stays at /@alice/wall/c"), "one space by two names: {moved:?}");
    until_value(&alice, "/wall", &json!({"b": 2, "d": 1}));
    let back = run(bob.home(), &["undo", "@alice/wall/d"]);
    assert!(back.code == 4 && back.err.contains("timebus mv /@alice/wall/d /@alice/wall/c"), "{back:?}");
    alice.put("/own", &json!(5));
    assert_eq!(run(alice.home(), &["mv", &format!("@{id}/own"), "/mine"]).code, 0);
    // Who might and may no more hears who took it back.
    assert_eq!(run(alice.home(), &["revoke", verb(bob.home(), &["id"])["id"].as_str().expect("a key")]).code, 0);
    let late = poll("he may not any more", || {
        let late = run(bob.home(), &["mv", "@alice/wall/b", "@alice/wall/late"]);
        (late.code != 0).then_some(late)
    });
    assert!(late.err.contains("you may not write here") && late.err.contains("took it back on"), "{late:?}");
    let nothing = run(alice.home(), &["undo", "/nope"]);
    assert!(nothing.code == 1 && nothing.err.contains("there is nothing to undo at /nope") && nothing.err.contains("log /"), "{nothing:?}");
}

/// Writes a value at a path without having seen what is there.
fn beside(peer: &Peer, path: &str, base: &str, value: &str) {
    assert_eq!(peer.send("PUT", path, &[("Content-Type", "application/json"), ("Parents", base)], value).status / 100, 2);
}

fn version(peer: &Peer, path: &str) -> String {
    peer.send("GET", path, &[], "").header("version").expect("a version").to_owned()
}

#[test]
fn nothing_is_left_behind_without_a_word() {
    let peer = Peer::start();
    peer.put("/c/x", &json!("first"));
    let base = version(&peer, "/c/x");
    peer.put("/c/x", &json!("left"));
    beside(&peer, "/c/x", &base, r#""right""#);
    // A list with names beside it.
    peer.put("/l/y", &json!(0));
    let base = version(&peer, "/l");
    peer.put("/l", &json!([1, 2]));
    beside(&peer, "/l/y", &base, "1");
    let refused = |from: &str, to: &str, words: &str| {
        let before = (peer.value("/.sys/conflicts"), peer.value("/"));
        let run = run(peer.home(), &["mv", from, to]);
        assert!(run.code == 4 && run.err.contains(words), "{from} to {to}: {run:?}");
        assert_eq!((peer.value("/.sys/conflicts"), peer.value("/")), before, "all of it stays");
    };
    refused("/c/x", "/d", "more stands here than shows");
    refused("/c", "/d", "several values stand at /c/x");
    refused("/l", "/d", "timebus conflicts");
    // Nor is anything put where nobody sees it.
    peer.put("/list", &json!([1, {"a": 2}]));
    peer.put("/value", &json!("words"));
    peer.put("/v", &json!(1));
    refused("/v", "/list/x", "a list or a value stands at /list");
    refused("/v", "/value/x/y", "a list or a value stands at /value");
    // Once somebody has chosen it goes.
    peer.put("/c/x", &json!("both"));
    assert_eq!(run(peer.home(), &["mv", "/c", "/d"]).code, 0);
    assert_eq!(peer.value("/d"), json!({"x": "both"}));
    assert_eq!(run(peer.home(), &["mv", "/v", "/d/v"]).code, 0);
    assert_eq!(peer.value("/d"), json!({"x": "both", "v": 1}));
}

#[test]
fn taking_a_move_back_leaves_nothing_nowhere() {
    let peer = Peer::start();
    let tree = json!({"b": {"c": 1, "list": [1, [2]]}, "d": "x", "empty": {}});
    peer.put("/a", &tree);
    peer.put("/z/other", &json!(0));
    assert_eq!(run(peer.home(), &["mv", "/a", "/z/a"]).code, 0);
    let version = verb(peer.home(), &["log", "/z/a"])["version"].as_str().expect("a version").to_owned();
    for args in [vec!["undo", "/z/a"], vec!["undo", "/z/a/b"], vec!["undo", "/z"], vec!["undo", "/z/a/b/c", &version]] {
        let refused = run(peer.home(), &args);
        assert!(refused.code == 4 && refused.err.contains("timebus mv /z/a /a"), "{args:?}: {refused:?}");
    }
    assert_eq!(peer.value("/"), json!({"z": {"a": tree, "other": 0}}));
    // As it says.
    assert_eq!(run(peer.home(), &["mv", "/z/a", "/a"]).code, 0);
    assert_eq!(peer.value("/"), json!({"a": tree, "z": {"other": 0}}));
    // From above both it is one change, which is taken back as a whole.
    assert_eq!(run(peer.home(), &["undo", "/"]).code, 0);
    assert_eq!(peer.value("/"), json!({"z": {"a": tree, "other": 0}}));
    // What is written at the new path afterwards is taken back there.
    peer.put("/z/a/d", &json!("y"));
    assert_eq!(run(peer.home(), &["undo", "/z/a/d"]).code, 0);
    assert_eq!(peer.value("/z/a/d"), json!("x"));
    // A patch that removes one thing and writes another is no move.
    peer.put("/p", &json!({"one": 1, "two": 2}));
    assert_eq!(run(peer.home(), &["patch", "/p", r#"{"one": null, "three": 3}"#]).code, 0);
    assert_eq!(run(peer.home(), &["undo", "/p/three"]).code, 0);
    assert_eq!(peer.value("/p"), json!({"two": 2}));
    // One of more parts than a change has room for.
    let many: Vec<String> = (0..40).map(|number| format!("{number:05}").repeat(10_000)).collect();
    peer.put("/many", &json!(many.iter().enumerate().map(|(at, text)| (format!("n{at}"), json!(text))).collect::<serde_json::Map<_, _>>()));
    assert_eq!(run(peer.home(), &["mv", "/many", "/moved"]).code, 0);
    for path in ["/moved", "/moved/n0", "/moved/n39"] {
        let refused = run(peer.home(), &["undo", path]);
        assert!(refused.code == 4 && refused.err.contains("timebus mv /moved /many"), "{path}: {refused:?}");
    }
}
