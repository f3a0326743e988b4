use serde_json::json;

use crate::braid::{Body, apply, read_update};
use crate::http::print_versions;
use crate::peer::Peer;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn every_version_stays_readable() {
    let peer = Peer::start();
    let mut versions = Vec::new();
    for number in 0..20 {
        let value = json!({"n": number, "list": (0..number).collect::<Vec<_>>(), "even": number % 2 == 0});
        versions.push((print_versions(&peer.put("/doc", &value)), value));
    }
    peer.send("DELETE", "/doc", &[], "");
    let mut client = peer.connect();
    for (version, value) in &versions {
        let answer = client.send("GET", "/doc", &[("Version", version)], "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(&answer.json(), value);
        assert_eq!(answer.version(), version);
        assert!(!answer.headers.versions("current-version").expect("the tip").is_empty());
        assert_eq!(client.send("GET", "/doc/n", &[("Version", version)], "").json(), value["n"]);
        assert_eq!(client.send("GET", "/", &[("Version", version)], "").json(), json!({ "doc": value }));
    }
    client.send("GET", "/doc", &[("Version", "")], "").problem(404);
}

#[test]
fn parents_ask_for_what_changed_since() {
    let peer = Peer::start();
    let values = [json!({"a": 1, "b": [1, 2, 3]}), json!({"a": 1, "b": [1, 3]}), json!({"c": {"d": 1}}), json!([1]), json!("x")];
    let versions: Vec<String> = values.iter().map(|value| print_versions(&peer.put("/doc", value))).collect();
    for (from, before) in versions.iter().zip(&values) {
        for (to, after) in versions.iter().zip(&values) {
            let answer = peer.send("GET", "/doc", &[("Parents", from), ("Version", to)], "");
            assert_eq!(answer.status, 209, "{}", answer.text());
            let mut state = Some(before.clone());
            let mut body = answer.body.as_slice();
            while let Some(update) = read_update(&mut body) {
                apply(&mut state, &update);
            }
            assert_eq!(state.as_ref(), Some(after), "{from} to {to}");
        }
    }
}

#[test]
fn a_write_replaces_what_its_writer_had_seen() {
    let peer = Peer::start();
    let seen = print_versions(&peer.put("/doc", &json!({"a": 1, "b": 1})));
    peer.put("/doc/c", &json!("meanwhile"));
    peer.put("/doc/b", &json!(2));
    // The whole document, as it was read before the others wrote.
    let answer = peer.send("PUT", "/doc", &[JSON, ("Parents", &seen)], "{\"a\":9,\"b\":1}");
    assert_eq!(answer.status, 200);
    assert_eq!(peer.value("/doc"), json!({"a": 9, "b": 2, "c": "meanwhile"}));
    assert_eq!(peer.send("DELETE", "/doc", &[("Parents", &seen)], "").status, 200);
    let left = peer.value("/doc");
    assert_eq!(left["b"], 2, "what was not seen is not deleted: {left}");
    assert_eq!(left["c"], "meanwhile");
}

#[test]
fn writes_that_did_not_see_each_other_are_both_kept() {
    let peer = Peer::start();
    let seen = print_versions(&peer.put("/k", &json!("old")));
    peer.send("PUT", "/k", &[JSON, ("Parents", &seen)], "\"one\"");
    let both = peer.send("PUT", "/k", &[JSON, ("Parents", &seen)], "\"two\"");
    assert_eq!(both.versions().len(), 2, "{both:?}");
    let read = peer.send("GET", "/k", &[], "");
    assert_eq!(read.header("conflicts"), Some("1"));
    assert_eq!(read.versions(), both.versions());
    let all = peer.value("/k?view=all").to_string();
    assert!(all.contains("one") && all.contains("two"), "{all}");
    let listed = peer.value("/.sys/conflicts/k");
    assert_eq!(listed["conflicts"][0]["values"].as_array().map(Vec::len), Some(2), "{listed}");
    // Whoever has seen both settles it.
    peer.put("/k", &json!("settled"));
    let read = peer.send("GET", "/k", &[], "");
    assert_eq!((read.header("conflicts").unwrap_or("0"), read.json()), ("0", json!("settled")));
    assert_eq!(peer.value("/.sys/conflicts/k"), json!({"conflicts": []}));
}

#[test]
fn unknown_versions_are_309_and_named() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let unknown = "\"nobody-1\", \"nobody-2\"";
    for (method, headers) in [
        ("GET", vec![("Version", unknown)]),
        ("GET", vec![("Parents", unknown)]),
        ("PUT", vec![("Parents", unknown), JSON]),
        ("PATCH", vec![("Parents", unknown), JSON]),
        ("DELETE", vec![("Parents", unknown)]),
        ("GET", vec![("Parents", unknown), ("Subscribe", "true")]),
    ] {
        let body = if method == "GET" || method == "DELETE" { "" } else { "{\"a\":1}" };
        let answer = peer.send(method, "/x", &headers, body);
        answer.problem(309);
        assert_eq!(answer.reason, "Version Unknown Here");
        if !headers.iter().any(|(name, _)| *name == "Subscribe") && method != "GET" {
            assert_eq!(answer.versions(), ["nobody-1", "nobody-2"], "{method}");
        }
    }
    assert_eq!(peer.value("/x"), json!(1));
    for malformed in ["nobody", "\"a", "\"\"", "[\"a\"]", "%\"a\""] {
        peer.send("GET", "/x", &[("Version", malformed)], "").problem(400);
        peer.send("PUT", "/x", &[JSON, ("Parents", malformed)], "2").problem(400);
    }
}

#[test]
fn a_version_that_the_client_names_makes_a_retry_harmless() {
    let peer = Peer::start();
    let seen = print_versions(&peer.put("/n", &json!(0)));
    let label = ("Version", "\"alice-7\"");
    let first = peer.send("PUT", "/n", &[JSON, label, ("Parents", &seen)], "1");
    assert_eq!((first.status, first.versions()), (200, vec!["alice-7".to_owned()]));
    peer.put("/n", &json!(2));
    // The answer was lost and the client tries again, much later.
    let again = peer.send("PUT", "/n", &[JSON, label, ("Parents", &seen)], "1");
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(peer.value("/n"), json!(2), "a retry undoes nothing");
    let other = peer.send("PUT", "/n", &[JSON, label], "3");
    assert!(other.problem(409)["fix"].is_string());
    assert_eq!(peer.send("GET", "/n", &[("Version", "\"alice-7\"")], "").json(), json!(1));
    // Names outside ASCII travel as JSON escapes.
    let strange = "\"jos\\u00e9 \\ud83d\\ude00-1\"";
    let answer = peer.send("PUT", "/m", &[JSON, ("Version", strange)], "1");
    assert_eq!(answer.version(), strange);
    assert_eq!(peer.send("GET", "/m", &[("Version", strange)], "").json(), json!(1));
    for bad in ["\"a\", \"b\"", "", &format!("\"{}\"", "x".repeat(81))] {
        peer.send("PUT", "/m", &[JSON, ("Version", bad)], "2").problem(400);
    }
}

#[test]
fn an_answer_before_the_disk_is_only_for_those_who_ask() {
    let peer = Peer::start();
    let answer = peer.send("PUT", "/x", &[JSON, ("Prefer", "respond-async")], "1");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    let answer = peer.send("PUT", "/y", &[JSON], "1");
    assert_eq!(answer.header("preference-applied"), None);
    // A durable write behind it makes both durable.
    let peer = Peer::start_in(peer.kill());
    assert_eq!(peer.value("/"), json!({"x": 1, "y": 1}));
}

#[test]
fn the_log_and_the_difference_tell_what_happened() {
    let peer = Peer::start();
    let first = peer.put("/doc", &json!({"a": 1, "b": 2}));
    let second = peer.put("/doc", &json!({"a": 1, "b": 3, "c": 4}));
    peer.put("/other", &json!(1));
    let log = peer.value("/.sys/log/doc");
    let changes = log["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 2, "{log}");
    assert_eq!((&changes[0]["version"], &changes[1]["version"]), (&json!(second[0]), &json!(first[0])));
    assert_eq!(changes[0]["parents"], json!(first));
    let answer = peer.send("GET", "/.sys/diff/doc", &[("Parents", &print_versions(&first)), ("Version", &print_versions(&second))], "");
    assert_eq!(answer.json()["changes"], json!([{"path": "/doc/b", "before": 2, "after": 3}, {"path": "/doc/c", "after": 4}]));
    let undone = peer.send("POST", "/.sys/undo/doc", &[], "");
    assert_eq!(undone.status, 200, "{}", undone.text());
    assert_eq!(peer.value("/doc"), json!({"a": 1, "b": 2}));
    let meta = peer.send("GET", "/doc?view=meta", &[], "");
    assert_eq!(meta.text().lines().count(), 2);
}

#[test]
fn the_log_of_everything_comes_in_pages_and_names_the_places() {
    let peer = Peer::start();
    let mut versions = vec![peer.put("/doc", &json!({"a": 1, "l": [1, 2]}))];
    for number in 0..6 {
        versions.push(peer.put(&format!("/doc/n{number}"), &json!(number)));
    }
    versions.push(peer.send("POST", "/doc/l", &[("Content-Type", "application/json")], "3").versions());
    versions.push(peer.send("DELETE", "/doc/a", &[], "").versions());
    let mut found = Vec::new();
    let mut places = Vec::new();
    let mut after = String::new();
    loop {
        let page = peer.value(&format!("/.sys/log?limit=4{after}"));
        let changes = page["changes"].as_array().expect("changes");
        let Some(last) = changes.last() else { break };
        assert!(changes.len() <= 4);
        after = format!("&after={}", last["version"].as_str().expect("a version"));
        for change in changes {
            found.push(change["version"].as_str().expect("a version").to_owned());
            places.push(change["paths"][0].as_str().expect("a path").to_owned());
        }
    }
    // The version of a path is that of the last change below it; a POST answers with that of the list.
    let written: Vec<String> = versions.iter().rev().map(|version| version[0].clone()).collect();
    assert_eq!(found[2..], written[2..]);
    assert_eq!((found.len(), places[0].as_str(), places[2].as_str()), (9, "/doc/a", "/doc/n5"));
    assert!(places[1].starts_with("/doc/l/@"), "{places:?}");
}

#[test]
fn a_snapshot_is_marked_as_one() {
    let peer = Peer::start();
    let version = print_versions(&peer.put("/doc", &json!([1])));
    let answer = peer.send("GET", "/doc", &[("Parents", "")], "");
    assert_eq!(answer.status, 209);
    let update = read_update(&mut answer.body.as_slice()).expect("an update");
    assert_eq!(update.body, Body::Snapshot(json!([1])));
    assert_eq!(print_versions(&update.version), version);
}
