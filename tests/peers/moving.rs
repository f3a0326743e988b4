//! Taking something from one path to another.

use serde_json::json;

use super::neighbours::{json as verb, pair, run, until_value};
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
        (["/wall", "/wall/below"], "cannot be taken to"),
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
    let nothing = run(alice.home(), &["undo", "/nope"]);
    assert!(nothing.code == 1 && nothing.err.contains("there is nothing to undo at /nope") && nothing.err.contains("log /"), "{nothing:?}");
}
