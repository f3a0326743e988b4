use serde_json::{Value, json};

use crate::data;
use crate::http::{Answer, encode};
use crate::peer::Peer;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn the_json_test_suite_is_kept_or_refused() {
    let Some(files) = data::archive("03-json/JSONTestSuite-test_parsing.tar.gz") else { return };
    let peer = Peer::start();
    let mut client = peer.connect();
    let mut refused = Vec::new();
    for (path, content) in &files {
        let name = path.rsplit('/').next().expect("a name");
        let target = format!("/suite/{}", encode(name));
        let answer = client.send("PUT", &target, &[JSON, ("Prefer", "respond-async")], content);
        match (name.as_bytes()[0], answer.status) {
            (b'n', _) => drop(answer.problem(400)),
            // Each reader would take another one of the two.
            (b'y', 200) if name.contains("duplicated_key") => panic!("{name} was accepted"),
            (b'y' | b'i', 200) => {
                peer.put("/fence", &json!(name));
                let back = client.send("GET", &target, &[], "");
                let kept: Value = back.json();
                // A whole number may be written another way: 1E+2 is 100.
                let sent: Value = serde_json::from_slice(content).unwrap_or_else(|error| panic!("{name} was accepted: {error}"));
                assert!(data::same(&sent, &kept), "{name}: {sent} came back as {kept}");
            }
            (b'y', 400) => {
                let detail = answer.problem(400)["detail"].as_str().expect("a detail").to_owned();
                refused.push(format!("{name}: {detail}"));
                assert!(name.contains("duplicated_key") || is_inexact(&answer), "{name} was refused: {detail}");
            }
            (b'i', 400) => drop(answer.problem(400)),
            (_, status) => panic!("{name}: {status} {}", answer.text()),
        }
        // Half a write would show here.
        if answer.status != 200 {
            assert_eq!(client.send("GET", &target, &[], "").status, 404, "{name}");
        }
    }
    eprintln!("of {} files, valid but refused: {refused:#?}", files.len());
}

fn is_inexact(answer: &Answer) -> bool {
    answer.text().contains("number")
}

#[test]
fn the_json_patch_tests_of_the_rfc_hold() {
    let Some(bytes) = data::file("03-json/json-patch-spec_tests.json") else { return };
    let cases: Vec<Value> = serde_json::from_slice(&bytes).expect("JSON");
    let peer = Peer::start();
    for (number, case) in cases.iter().enumerate() {
        if case["disabled"] == true {
            continue;
        }
        let path = format!("/case/{number}");
        peer.put(&path, &case["doc"]);
        let answer = peer.send("PATCH", &path, &[("Content-Type", "application/json-patch+json")], case["patch"].to_string());
        let comment = &case["comment"];
        match case.get("expected") {
            Some(expected) => {
                assert_eq!(answer.status, 200, "{comment}: {}", answer.text());
                assert_eq!(&peer.value(&path), expected, "{comment}");
            }
            None => {
                answer.problem(400);
                assert_eq!(peer.value(&path), case["doc"], "{comment}");
            }
        }
    }
}

#[test]
fn the_merge_patch_tests_of_the_rfc_hold() {
    let Some(bytes) = data::file("03-json/merge-patch-rfc7396.json") else { return };
    let cases: Vec<Value> = serde_json::from_slice(&bytes).expect("JSON");
    let peer = Peer::start();
    for (number, case) in cases.iter().enumerate() {
        let path = format!("/case/{number}");
        peer.put(&path, &case["doc"]);
        let answer = peer.send("PATCH", &path, &[("Content-Type", "application/merge-patch+json")], case["patch"].to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(peer.value(&path), case["expected"], "{}", case["comment"]);
    }
}
