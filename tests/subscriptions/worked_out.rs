//! What is not stored but worked out can be watched in every form too.

use serde_json::{Value, json};

use super::watcher::{FORMS, Form, Watcher};
use crate::peer::Peer;
use crate::socket::Socket;

/// Watchers of a target in every form, each with the first value.
fn everywhere(peer: &Peer, target: &str) -> Vec<Watcher> {
    let start = |form| {
        let mut watcher = Watcher::open(peer, target, form, None);
        watcher.step();
        assert_eq!(watcher.snapshots, 1, "a snapshot comes first");
        if form != Form::Braid {
            watcher.caught_up();
        }
        watcher
    };
    FORMS.map(start).into()
}

fn id(peer: &Peer) -> &str {
    peer.ready["id"].as_str().expect("a key")
}

/// Lets all go on until something holds of what they have.
fn until(watchers: &mut [Watcher], holds: impl Fn(&Value) -> bool) {
    for watcher in watchers {
        while !watcher.state.as_ref().is_some_and(&holds) {
            watcher.step();
        }
    }
}

#[test]
fn references_are_watched() {
    let alice = Peer::start();
    let target = format!("/@{}/posts/1", id(&alice));
    let mut watchers = everywhere(&alice, "/.sys/refs/posts/1");
    alice.put("/replies/7", &json!({"kind": "reply", "target": target, "body": "so true"}));
    until(&mut watchers, |now| now["counts"] == json!({"reply": 1}) && now["refs"][0]["body"] == "so true");
    alice.send("DELETE", "/replies", &[], "");
    until(&mut watchers, |now| now["counts"] == json!({}));
    // Other places say what for by their names.
    alice.put("/chirp/posts/7", &json!({"text": "hm", "reply": {"to": target, "root": target}, "quote": "/nowhere"}));
    until(&mut watchers, |now| now["refs"][0]["source"] == format!("/@{}/chirp/posts/7", id(&alice)));
    alice.put("/chirp/likes/x.1", &json!({"to": target, "at": 1}));
    until(&mut watchers, |now| now["counts"] == json!({"like": 1, "reply": 1}));
    let mut likes = everywhere(&alice, "/.sys/refs/posts/1?kind=like");
    until(&mut likes, |now| now["refs"].as_array().is_some_and(|refs| refs.len() == 1 && refs[0]["kind"] == "like"));
}

#[test]
fn the_inbox_is_watched() {
    let alice = Peer::start();
    let mut watchers = everywhere(&alice, "/.drop");
    let notice = |kind: &str| json!({"kind": kind, "target": format!("/@{}/posts/1", id(&alice)), "source": format!("/@{}/likes/1", id(&alice))});
    assert_eq!(alice.send("POST", "/.drop", &[], notice("like").to_string()).status, 200);
    until(&mut watchers, |now| now.to_string().contains("\"like\""));
    assert_eq!(alice.send("DELETE", "/.drop", &[], notice("like").to_string()).status, 200);
    until(&mut watchers, |now| *now == json!({}));
}

#[test]
fn parts_of_the_system_are_watched() {
    let alice = Peer::start();
    let mut watchers = everywhere(&alice, "/.sys/log/notes");
    let version = alice.put("/notes/x", &json!(1)).remove(0);
    until(&mut watchers, |now| now.to_string().contains(&version));
    let mut socket = Socket::open(&alice);
    assert_eq!(socket.request(&json!({"id": 1, "watch": "/.sys/metrics"}))["error"]["status"], 406);
    assert_eq!(socket.request(&json!({"id": 1, "watch": "/.sys/nothing"}))["error"]["status"], 404);
    for long in ["/x".repeat(40), "x".repeat(5000)] {
        assert_eq!(socket.request(&json!({"id": 1, "watch": format!("/.sys/refs{long}")}))["error"]["status"], 400);
    }
    assert_eq!(socket.request(&json!({"id": 1, "watch": "/.sys/refs/x", "kind": "x".repeat(5000)}))["error"]["status"], 400);
    assert_eq!(socket.request(&json!({"id": 2, "get": "/.sys/status"}))["value"]["id"], id(&alice));
    assert_eq!(socket.request(&json!({"id": 3, "get": "/.drop/nobody"}))["absent"], true);
    // The number of a watch that could not begin is free, and one that was ended is told no more.
    assert!(socket.request(&json!({"id": 1, "watch": "/.sys/held"})).get("snapshot").is_some());
    assert_eq!(socket.hear()["caught_up"], true);
    assert_eq!(socket.request(&json!({"id": 1, "watch": "/.sys/held"}))["error"]["status"], 409);
    assert_eq!(socket.request(&json!({"id": 1, "unwatch": true}))["unwatched"], true);
    assert_eq!(socket.request(&json!({"id": 4, "get": "/.sys/nothing"}))["error"]["status"], 404);
}
