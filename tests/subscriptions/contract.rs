use serde_json::json;

use super::watcher::{FORMS, Form, Watcher};
use crate::braid::read_update;
use crate::peer::Peer;

/// Method, path, headers, body.
pub(super) type Step = (&'static str, &'static str, &'static [(&'static str, &'static str)], String);

/// Writes of every kind: method, path, headers, body.
pub(super) fn script() -> Vec<Step> {
    const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
    const MERGE: &[(&str, &str)] = &[("Content-Type", "application/merge-patch+json")];
    const PATCH: &[(&str, &str)] = &[("Content-Type", "application/json-patch+json")];
    const TEXT: &[(&str, &str)] = &[("Content-Type", "text/plain")];
    const RANGE: &[(&str, &str)] = &[("Content-Range", "text [5:5]")];
    const INSERT: &[(&str, &str)] = &[("Content-Type", "application/json"), ("Content-Range", "json .list[1:1]")];
    vec![
        ("PUT", "/w/doc", JSON, json!({"list": [1, 2, 3], "o": {"k": 1}, "s": "x"}).to_string()),
        ("PUT", "/w/doc/o/k", JSON, "2".into()),
        ("PUT", "/w/doc/o/new/deep", JSON, "{\"x\":[]}".into()),
        ("PATCH", "/w/doc", MERGE, json!({"o": {"k": null, "l": {"m": 1}}, "s": "y", "t": true}).to_string()),
        ("PUT", "/w/doc", INSERT, "[\"a\",{\"b\":1}]".into()),
        ("PATCH", "/w/doc", PATCH, json!([{"op": "add", "path": "/list/2/c", "value": 2}, {"op": "remove", "path": "/list/0"}]).to_string()),
        ("POST", "/w/doc/list", JSON, "{\"d\":[1]}".into()),
        ("PUT", "/w/doc/list", JSON, json!([9, "a", {"b": 1, "c": 3}, 3, {"d": [1, 2]}]).to_string()),
        ("PUT", "/w/doc/list", JSON, "[]".into()),
        ("POST", "/w/doc/list", JSON, "[[1],[2]]".into()),
        ("POST", "/w/feed", JSON, "{\"n\":1}".into()),
        ("POST", "/w/feed", JSON, "{\"n\":2}".into()),
        ("PUT", "/w/doc/odd", JSON, json!({"": 1, "a/b": {"c": 2}}).to_string()),
        ("PUT", "/w/doc/odd", JSON, json!({"": 2, "a/b": {"c": 3}, "d": []}).to_string()),
        ("PUT", "/w/doc/sp ace".replace(' ', "%20").leak(), JSON, "{\"ä\":1}".into()),
        ("PUT", "/w/doc/page", TEXT, "some text".into()),
        ("PATCH", "/w/doc/page", RANGE, "more ".into()),
        ("PUT", "/w/doc/page", TEXT, "some more edited text".into()),
        ("PUT", "/w/doc/page", JSON, "\"edited text\"".into()),
        ("DELETE", "/w/doc/o", &[], String::new()),
        ("PUT", "/w/doc/o", JSON, "{\"k\":5}".into()),
        ("PUT", "/w/doc", JSON, "\"only a text\"".into()),
        ("DELETE", "/w/doc", &[], String::new()),
        ("PUT", "/w", JSON, json!({"doc": {"list": [[1, [2]]], "o": {"k": {}}}, "feed": 1}).to_string()),
        ("PATCH", "/", MERGE, json!({"w": {"doc": {"list": [[1, [2, 3]]], "o": {"k": 1}}, "feed": null}, "beside": 1}).to_string()),
        ("PUT", "/w/doc/list", JSON, "{\"now\":\"an object\"}".into()),
        ("PUT", "/w/doc/list", JSON, "[null,null]".into()),
        ("DELETE", "/w", &[], String::new()),
        ("PUT", "/w/doc/o/k", JSON, "7".into()),
    ]
}

#[test]
fn what_a_subscriber_was_told_is_what_is_there() {
    let peer = Peer::start();
    let paths = ["/", "/w", "/w/doc", "/w/doc/list", "/w/doc/o", "/w/doc/o/k", "/w/doc/odd", "/w/feed", "/elsewhere"];
    let mut watchers: Vec<Watcher> = FORMS.iter().flat_map(|form| paths.map(|path| Watcher::start(&peer, path, *form))).collect();
    let mut client = peer.connect();
    for (number, (method, path, headers, body)) in script().into_iter().enumerate() {
        let answer = client.send(method, path, headers, &body);
        assert!(matches!(answer.status, 200 | 201), "{method} {path} {body}: {}", answer.text());
        for watcher in &mut watchers {
            watcher.follow(&peer, &format!("write {number}, {method} {path} {body}"));
        }
    }
    assert!(watchers.iter().all(|watcher| watcher.behind == 0));
    // A path on which nothing happened heard nothing.
    let quiet = watchers.iter().filter(|watcher| watcher.version.is_empty()).count();
    assert_eq!(quiet, FORMS.len());
}

#[test]
fn writers_in_parallel_reach_every_subscriber_in_one_order() {
    let peer = Peer::start();
    peer.put("/c", &json!({"list": []}));
    let mut watchers: Vec<Watcher> = FORMS.iter().map(|form| Watcher::start(&peer, "/c", *form)).collect();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let peer = &peer;
            scope.spawn(move || {
                let mut client = peer.connect();
                for number in 0..25 {
                    let json = [("Content-Type", "application/json")];
                    assert_eq!(client.send("PUT", &format!("/c/w{writer}"), &json, number.to_string()).status, 200);
                    assert_eq!(client.send("PUT", "/c/shared", &json, (100 * writer + number).to_string()).status, 200);
                    assert_eq!(client.send("POST", "/c/list", &json, format!("\"{writer}-{number}\"")).status, 201);
                }
            });
        }
    });
    for watcher in &mut watchers {
        watcher.follow(&peer, "all writers");
        assert_eq!((watcher.updates, watcher.snapshots), (300, 1), "every change came once");
    }
    let whole = peer.value("/c");
    assert_eq!(whole["list"].as_array().map(Vec::len), Some(100));
}

#[test]
fn writes_that_did_not_see_each_other_reach_subscribers_too() {
    let peer = Peer::start();
    let seen = crate::http::print_versions(&peer.put("/k", &json!({"a": 1, "l": [1, 2]})));
    let mut watchers: Vec<Watcher> = FORMS.iter().map(|form| Watcher::start(&peer, "/k", *form)).collect();
    for body in [json!({"a": 2, "l": [1, 5, 2]}), json!({"a": 3, "l": [1, 2, 6]}), json!({"l": [2]}), json!("text"), json!({"a": {"b": 1}})] {
        let answer = peer.send("PUT", "/k", &[("Content-Type", "application/json"), ("Parents", &seen)], body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        watchers.iter_mut().for_each(|watcher| watcher.follow(&peer, &format!("a late {body}")));
    }
    peer.put("/k", &json!({"settled": true}));
    watchers.iter_mut().for_each(|watcher| watcher.follow(&peer, "the settlement"));
}

#[test]
fn edits_of_texts_reach_those_who_watch_from_above_without_the_rest() {
    let peer = Peer::start();
    peer.put("/board", &json!({"title": "mine", "list": ["a"]}));
    let text = [("Content-Type", "text/plain")];
    let seen = crate::http::print_versions(&peer.send("PUT", "/board/plan", &text, "buy tea").versions());
    let mut watchers: Vec<Watcher> = FORMS.iter().map(|form| Watcher::start(&peer, "/board", *form)).collect();
    // All of them on what was there first, so that each update is of a text that is another one by the time it is told.
    for (range, new) in [("[7:7]", " and cake"), ("[0:3]", "bring"), ("[3:3]", "\u{1f600}"), ("[0:7]", "")] {
        let range = format!("text {range}");
        let answer = peer.send("PATCH", "/board/plan", &[("Content-Range", &range), ("Parents", &seen)], new);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for watcher in &mut watchers {
        watcher.follow(&peer, "all edits");
        assert_eq!((watcher.updates, watcher.snapshots), (4, 1), "nothing was told that did not change");
    }
}

#[test]
fn one_change_is_told_at_once_or_marked_as_not_whole() {
    let peer = Peer::start();
    peer.put("/many", &json!({}));
    let mut watchers: Vec<Watcher> = FORMS.iter().map(|form| Watcher::start(&peer, "/many", *form)).collect();
    let patch = json!({"a": 1, "b": {"c": 2}, "d": [3], "e": {"f": {"g": 4}}});
    let answer = peer.send("PATCH", "/many", &[("Content-Type", "application/merge-patch+json")], patch.to_string());
    for watcher in &mut watchers {
        // The watcher stops at the first message that says it completes the version.
        watcher.until(&answer.versions());
        assert_eq!(watcher.state.as_ref(), Some(&patch));
    }
}

#[test]
fn signs_of_life_come_as_often_as_asked_for() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let (status, head, mut stream) = peer.connect().stream("GET", "/x", &[("Subscribe", "true"), ("Heartbeats", "0.2s")]);
    assert_eq!((status, head.one("heartbeats")), (209, Some("0.2s")));
    read_update(&mut stream).expect("a snapshot");
    let mut line = String::new();
    for _ in 0..6 {
        line.clear();
        std::io::BufRead::read_line(&mut stream, &mut line).expect("a sign of life");
        assert_eq!(line, "\r\n");
    }
    peer.put("/x", &json!(2));
    assert_eq!(read_update(&mut stream).expect("an update").version.len(), 1);
}

#[test]
fn subscribe_takes_every_spelling_that_clients_send() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    for spelling in ["true", "?1", "keep-alive", ""] {
        let (status, head, mut stream) = peer.connect().stream("GET", "/x", &[("Subscribe", spelling)]);
        assert_eq!(status, 209, "{spelling:?}");
        assert_eq!(head.versions("current-version"), Some(read_update(&mut stream).expect("a snapshot").version));
    }
    let head = peer.send("HEAD", "/x", &[("Subscribe", "true")], "");
    assert_eq!((head.status, head.reason.as_str()), (209, "Multiresponse"));
}

#[test]
fn nothing_that_is_there_later_comes_to_a_subscriber_of_nothing_early() {
    let peer = Peer::start();
    for form in FORMS {
        let mut watcher = Watcher::start(&peer, "/later", form);
        assert_eq!(watcher.state, None);
        peer.put("/later", &json!({"now": format!("{form:?}")}));
        watcher.follow(&peer, "the first write");
        peer.send("DELETE", "/later", &[], "");
        watcher.follow(&peer, "the removal");
        assert_eq!(watcher.state, None);
    }
}

#[test]
fn a_stopping_peer_ends_streams_and_says_goodbye_to_sockets() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let (_, _, mut stream) = peer.connect().stream("GET", "/x", &[("Accept", "application/x-ndjson"), ("Subscribe", "true")]);
    let mut socket = crate::socket::Socket::open(&peer);
    socket.request(&json!({"id": 1, "watch": "/x"}));
    let home = peer.stop();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stream, &mut rest).expect("an end, not a broken connection");
    let reason = loop {
        match socket.try_hear() {
            Ok(_) => {}
            Err(reason) => break reason,
        }
    };
    assert!(reason.contains("stopping"), "{reason}");
    drop(home);
}

#[test]
fn forms_have_the_same_story() {
    let peer = Peer::start();
    let mut watchers: Vec<Watcher> = [Form::Events, Form::Lines, Form::Socket].iter().map(|form| Watcher::start(&peer, "/s", *form)).collect();
    for number in 0..10 {
        peer.put("/s", &json!({ "n": number }));
    }
    for watcher in &mut watchers {
        watcher.follow(&peer, "ten writes");
    }
    assert!(watchers.iter().all(|watcher| watcher.updates == watchers[0].updates));
}
