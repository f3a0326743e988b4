use serde_json::{Value, json};

use crate::http::print_versions;
use crate::peer::Peer;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn a_put_value_is_read_back_whole_and_in_parts() {
    let peer = Peer::start();
    let value = json!({"a": {"b": [1, 2.5, {"c": null}], "": "x"}, "t": true, "s": "ä\u{1f600}", "e": {}, "l": []});
    peer.put("/doc", &value);
    assert_eq!(peer.value("/doc"), value);
    let value = json!({"a": {"b": [1, 2.5, {"c": null}]}, "t": true, "s": "ä\u{1f600}", "e": {}, "l": [], "n": null});
    peer.put("/doc", &value);
    assert_eq!(peer.value("/doc"), value);
    for (path, part) in
        [("/doc/a/b", json!([1, 2.5, {"c": null}])), ("/doc/t", json!(true)), ("/doc/e", json!({})), ("/doc/l", json!([])), ("/doc/n", json!(null))]
    {
        assert_eq!(peer.value(path), part, "{path}");
        // A trailing slash names the same.
        assert_eq!(peer.value(&format!("{path}/")), part, "{path}/");
    }
    assert_eq!(peer.value("/"), json!({ "doc": value }));
}

#[test]
fn every_kind_of_scalar_survives() {
    let peer = Peer::start();
    for value in [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(9_007_199_254_740_991_i64),
        json!(1e300),
        json!(-2.5e-7),
        json!(""),
        json!("\u{0}\n\"\\\u{7f}\u{fffd}"),
    ] {
        peer.put("/scalar", &value);
        assert_eq!(peer.value("/scalar"), value);
    }
}

#[test]
fn put_replaces_what_was_there_and_delete_removes_it() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": 1, "b": {"c": 2}}));
    peer.put("/x", &json!({"b": {"d": 3}}));
    assert_eq!(peer.value("/x"), json!({"b": {"d": 3}}));
    peer.put("/x", &json!("scalar"));
    assert_eq!(peer.value("/x"), json!("scalar"));
    peer.put("/x", &json!([1, 2]));
    assert_eq!(peer.value("/x"), json!([1, 2]));
    let answer = peer.send("DELETE", "/x", &[], "");
    assert_eq!(answer.status, 200);
    assert!(!answer.versions().is_empty());
    peer.send("GET", "/x", &[], "").problem(404);
    assert_eq!(peer.send("GET", "/x", &[], "").versions(), answer.versions(), "what is gone has a version too");
    peer.send("DELETE", "/x", &[], "").problem(404);
}

#[test]
fn deleting_a_subtree_removes_all_of_it_and_nothing_beside_it() {
    let peer = Peer::start();
    peer.put("/a", &json!({"b": {"c": 1, "d": [1]}, "bb": 2}));
    assert_eq!(peer.send("DELETE", "/a/b", &[], "").status, 200);
    assert_eq!(peer.value("/a"), json!({"bb": 2}));
    peer.send("GET", "/a/b/c", &[], "").problem(404);
}

#[test]
fn a_put_of_the_same_value_changes_nothing() {
    let peer = Peer::start();
    let value = json!({"a": [1, {"b": 2}], "c": "x"});
    let first = peer.put("/x", &value);
    let second = peer.put("/x", &value);
    assert_eq!(first, second);
}

#[test]
fn post_appends_children_that_sort_by_time() {
    let peer = Peer::start();
    let mut client = peer.connect();
    let mut places = Vec::new();
    for number in 0..50 {
        let answer = client.send("POST", "/feed", &[JSON], json!({ "n": number }).to_string());
        assert_eq!(answer.status, 201, "{}", answer.text());
        let place = answer.header("location").expect("a place").to_owned();
        assert!(place.starts_with("/feed/"), "{place}");
        assert_eq!(peer.value(&place), json!({ "n": number }));
        places.push(place);
    }
    assert!(places.is_sorted(), "{places:?}");
    let feed = peer.value("/feed");
    let numbers: Vec<&Value> = feed.as_object().expect("an object").values().map(|child| &child["n"]).collect();
    assert_eq!(numbers, (0..50).map(Value::from).collect::<Vec<_>>().iter().collect::<Vec<_>>());
}

#[test]
fn post_to_a_list_appends_an_element() {
    let peer = Peer::start();
    peer.put("/list", &json!(["a"]));
    let answer = peer.send("POST", "/list", &[JSON], "{\"b\":1}");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let place = answer.header("location").expect("a place").to_owned();
    assert_eq!(peer.value("/list"), json!(["a", {"b": 1}]));
    assert_eq!(peer.value(&place), json!({"b": 1}));
    assert_eq!(peer.value(&format!("{place}/b")), json!(1));
    // The place stays its place when something comes before it.
    peer.put("/list", &json!(["z", "a", {"b": 1}]));
    assert_eq!(peer.value(&place), json!({"b": 1}));
    peer.put(&format!("{place}/b"), &json!(2));
    assert_eq!(peer.value("/list"), json!(["z", "a", {"b": 2}]));
}

#[test]
fn a_merge_patch_touches_only_what_it_names() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 3}));
    for kind in ["application/merge-patch+json", "application/json"] {
        let answer = peer.send("PATCH", "/x", &[("Content-Type", kind)], "{\"a\":{\"b\":null,\"n\":{\"m\":4}},\"d\":[3]}");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(peer.value("/x"), json!({"a": {"c": 2, "n": {"m": 4}}, "d": [3], "e": 3}));
    }
    let answer = peer.send("PATCH", "/new/deep", &[("Content-Type", "application/merge-patch+json")], "{\"k\":{\"l\":1,\"m\":null}}");
    assert_eq!(answer.status, 200);
    assert_eq!(peer.value("/new"), json!({"deep": {"k": {"l": 1}}}));
}

#[test]
fn a_json_patch_is_all_or_nothing() {
    let peer = Peer::start();
    let kind = [("Content-Type", "application/json-patch+json")];
    peer.put("/x", &json!({"a": [1, 2, 3], "b": "x"}));
    let good = json!([
        {"op": "test", "path": "/b", "value": "x"},
        {"op": "add", "path": "/a/1", "value": 9},
        {"op": "remove", "path": "/a/0"},
        {"op": "move", "from": "/b", "path": "/c"},
        {"op": "copy", "from": "/a", "path": "/d"},
        {"op": "replace", "path": "/a/-", "value": 0},
    ]);
    // RFC 6902: replacing the element behind the last is an error, so none of it happens.
    peer.send("PATCH", "/x", &kind, good.to_string()).problem(400);
    assert_eq!(peer.value("/x"), json!({"a": [1, 2, 3], "b": "x"}));
    let mut good = good;
    good[5] = json!({"op": "add", "path": "/a/-", "value": 0});
    let answer = peer.send("PATCH", "/x", &kind, good.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(peer.value("/x"), json!({"a": [9, 2, 3, 0], "c": "x", "d": [9, 2, 3]}));
    let failing = json!([{"op": "add", "path": "/z", "value": 1}, {"op": "test", "path": "/c", "value": "other"}]);
    peer.send("PATCH", "/x", &kind, failing.to_string()).problem(400);
    peer.send("GET", "/x/z", &[], "").problem(404);
}

#[test]
fn one_braid_patch_is_a_content_range() {
    let peer = Peer::start();
    peer.put("/x", &json!({"list": [1, 2, 3], "o": {"k y": 1}}));
    for (range, content, expected) in [
        ("json .list[1:2]", "[\"a\",\"b\"]", json!({"list": [1, "a", "b", 3], "o": {"k y": 1}})),
        ("json .list[0]", "0", json!({"list": [0, "a", "b", 3], "o": {"k y": 1}})),
        ("json .list[-0:-0]", "[4]", json!({"list": [0, "a", "b", 3, 4], "o": {"k y": 1}})),
        ("json .list[1:3]", "[]", json!({"list": [0, 3, 4], "o": {"k y": 1}})),
        ("json .o[\"k y\"]", "2", json!({"list": [0, 3, 4], "o": {"k y": 2}})),
        ("json .o[\"k y\"]", "", json!({"list": [0, 3, 4], "o": {}})),
        ("json [\"list\"][\"1\"]", "7", json!({"list": [0, 7, 4], "o": {}})),
        ("json .n", "{\"m\":null}", json!({"list": [0, 7, 4], "o": {}, "n": {"m": null}})),
    ] {
        for method in ["PUT", "PATCH"] {
            if method == "PATCH" && range.contains(':') {
                continue;
            }
            let answer = peer.send(method, "/x", &[JSON, ("Content-Range", range)], content);
            if method == "PATCH" && content.is_empty() {
                continue;
            }
            assert_eq!(answer.status, 200, "{range}: {}", answer.text());
        }
        assert_eq!(peer.value("/x"), expected, "{range}");
    }
    peer.send("PUT", "/x", &[JSON, ("Content-Range", "json .list[2:9]")], "[]").problem(400);
    peer.send("PUT", "/x", &[JSON, ("Content-Range", "json list[")], "1").problem(400);
}

#[test]
fn several_braid_patches_are_one_write() {
    let peer = Peer::start();
    let before = peer.put("/x", &json!({"a": 1, "b": [1, 2]}));
    let patch = |range: &str, content: &str| format!("Content-Length: {}\r\nContent-Range: {range}\r\n\r\n{content}\r\n\r\n", content.len());
    let body = patch("json .a", "2") + &patch("json .b[0:1]", "[9,8]") + &patch("json .c", "{}");
    let answer = peer.send("PUT", "/x", &[("Patches", "3"), ("Parents", &print_versions(&before))], &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.versions().len(), 1);
    assert_eq!(peer.value("/x"), json!({"a": 2, "b": [9, 8, 2], "c": {}}));
    let log = peer.value("/.sys/log/x");
    assert_eq!(log["changes"].as_array().map(Vec::len), Some(2), "{log}");
    // One that does not fit takes the others with it.
    let body = patch("json .a", "3") + &patch("json .b[7:9]", "[]");
    peer.send("PUT", "/x", &[("Patches", "2")], &body).problem(400);
    assert_eq!(peer.value("/x/a"), json!(2));
    peer.send("PUT", "/x", &[("Patches", "3")], &body).problem(400);
    peer.send("PUT", "/x", &[("Patches", "many")], &body).problem(400);
}

#[test]
fn head_says_what_get_would() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": 1}));
    let get = peer.send("GET", "/x", &[], "");
    let head = peer.send("HEAD", "/x", &[], "");
    assert_eq!(head.status, 200);
    for name in ["content-type", "content-length", "version", "etag"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    assert_eq!(peer.send("HEAD", "/absent", &[], "").status, 404);
}

#[test]
fn a_restart_keeps_values_versions_and_history() {
    let peer = Peer::start();
    let first = peer.put("/doc", &json!({"a": 1, "l": [1, 2]}));
    peer.send("PUT", "/doc/a", &[JSON, ("Version", "\"mine-1\"")], "2");
    peer.send("PUT", "/page.txt", &[("Content-Type", "text/plain")], "hello");
    let place = peer.send("POST", "/feed", &[JSON], "7").header("location").expect("a place").to_owned();
    peer.put("/gone", &json!(1));
    peer.send("DELETE", "/gone", &[], "");
    let before = peer.value("/");
    let version = peer.send("GET", "/doc", &[], "").versions();
    let root = peer.send("GET", "/", &[], "").versions();
    let id = peer.ready["id"].clone();
    let peer = peer.restart();
    assert_eq!(peer.ready["id"], id);
    assert_eq!(peer.value("/"), before);
    assert_eq!(peer.send("GET", "/", &[], "").versions(), root);
    assert_eq!(peer.send("GET", "/doc", &[], "").versions(), version);
    assert_eq!(peer.value(&place), json!(7));
    assert_eq!(peer.send("GET", "/page.txt", &[], "").text(), "hello");
    peer.send("GET", "/gone", &[], "").problem(404);
    let old = peer.send("GET", "/doc", &[("Version", &print_versions(&first))], "");
    assert_eq!(old.json(), json!({"a": 1, "l": [1, 2]}));
    let replayed = peer.send("PUT", "/doc/a", &[JSON, ("Version", "\"mine-1\"")], "2");
    assert_eq!((replayed.status, replayed.versions()), (200, vec!["mine-1".to_owned()]));
}

#[test]
fn the_space_can_be_named_by_its_key() {
    let peer = Peer::start();
    let id = peer.ready["id"].as_str().expect("an id").to_owned();
    peer.put(&format!("/@{id}/x/y"), &json!(1));
    assert_eq!(peer.value("/x"), json!({"y": 1}));
    assert_eq!(peer.value(&format!("/@{id}/x")), json!({"y": 1}));
    let other = "y".repeat(52);
    peer.send("GET", &format!("/@{other}/x"), &[], "").problem(404);
    // A name that begins with @ is written with two.
    peer.put("/@@name", &json!(2));
    assert_eq!(peer.value("/@@name"), json!(2));
    assert_eq!(peer.value("/"), json!({"@name": 2, "x": {"y": 1}}));
}
