use serde_json::{Value, json};

use crate::peer::Peer;
use crate::peers::neighbours::{pair, until};
use crate::socket::Socket;

/// Watches a path on a socket of its own, and waits until the snapshot is through.
fn watch(peer: &Peer, path: &str) -> Socket {
    let mut socket = Socket::open(peer);
    socket.say(&json!({"id": 1, "watch": path}));
    while socket.hear()["caught_up"] != true {}
    socket
}

/// The next news of others: who, and what is seen of him.
fn seen(socket: &mut Socket) -> (String, Value) {
    let event = socket.hear();
    let news = event["presence"].as_array().unwrap_or_else(|| panic!("not presence: {event}"));
    assert_eq!((event["id"].clone(), news.len()), (json!(1), 1), "{event}");
    let value = if news[0]["gone"] == true { json!("gone") } else { news[0]["value"].clone() };
    (news[0]["who"].as_str().expect("a name").to_owned(), value)
}

#[test]
fn who_watches_a_path_sees_who_else_does() {
    let peer = Peer::start();
    peer.put("/doc", &json!("text"));
    let (mut ada, mut bob, mut other) = (watch(&peer, "/doc"), watch(&peer, "/doc"), watch(&peer, "/elsewhere"));
    ada.say(&json!({"id": 1, "presence": {"at": [3, 3]}}));
    other.say(&json!({"id": 1, "presence": {"at": [0, 0]}}));
    bob.say(&json!({"id": 1, "presence": {"at": [7, 9], "name": "Bob"}}));
    let (ada_name, at) = seen(&mut bob);
    assert_eq!(at, json!({"at": [3, 3]}));
    let (bob_name, at) = seen(&mut ada);
    assert_eq!(at, json!({"at": [7, 9], "name": "Bob"}));
    assert_ne!(ada_name, bob_name);
    // It moves, beside what is written, and is no value.
    ada.say(&json!({"id": 1, "presence": {"at": [4, 4]}}));
    assert_eq!(seen(&mut bob), (ada_name.clone(), json!({"at": [4, 4]})));
    peer.put("/doc", &json!("other"));
    assert_eq!((bob.hear()["value"].clone(), ada.hear()["value"].clone()), (json!("other"), json!("other")));
    assert_eq!(peer.value("/"), json!({"doc": "other"}));
    ada.say(&json!({"id": 1, "presence": null}));
    assert_eq!(seen(&mut bob), (ada_name.clone(), json!("gone")));
    ada.say(&json!({"id": 1, "presence": "back"}));
    assert_eq!(seen(&mut bob), (ada_name.clone(), json!("back")));
    // Whoever comes later sees who is there, and whoever hangs up is gone.
    let mut late = watch(&peer, "/doc");
    late.say(&json!({"id": 1, "presence": null}));
    let event = late.hear();
    assert_eq!(event["presence"].as_array().map(Vec::len), Some(2), "{event}");
    drop(ada);
    assert_eq!(seen(&mut bob), (ada_name, json!("gone")));
    bob.say(&json!({"id": 1, "unwatch": true}));
    assert_eq!(bob.hear()["unwatched"], true);
    // Both at once, if it was slow to hear of the first.
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let event = late.hear();
        for news in event["presence"].as_array().expect("news") {
            assert_eq!(news["gone"], true, "{event}");
            gone.push(news["who"].clone());
        }
    }
    assert!(gone.contains(&json!(bob_name)), "{gone:?}");
}

#[test]
fn who_watches_at_another_peer_is_seen_too() {
    let (alice, bob) = pair();
    alice.put("/wall/doc", &json!("text"));
    until(&bob, "/@alice/wall/doc", "the text", |answer| answer.status == 200);
    let mut ada = watch(&alice, "/wall/doc");
    ada.say(&json!({"id": 1, "presence": {"at": [3, 3]}}));
    // Who comes later asks who is there; it is told again in case the question was lost.
    let mut ben = watch(&bob, "/@alice/wall/doc");
    ben.say(&json!({"id": 1, "presence": {"at": [5, 5]}}));
    let (ben_name, at) = seen(&mut ada);
    assert_eq!(at, json!({"at": [5, 5]}));
    let event = ben.hear();
    let news = &event["presence"][0];
    assert_eq!((&news["value"], &news["by"]), (&json!({"at": [3, 3]}), &alice.ready["id"]), "{event}");
    ada.say(&json!({"id": 1, "presence": {"at": [4, 4]}}));
    assert_eq!(seen(&mut ben), (news["who"].as_str().expect("a name").to_owned(), json!({"at": [4, 4]})));
    drop(ben);
    assert_eq!(seen(&mut ada), (ben_name, json!("gone")));
    // It is no value, at neither.
    assert_eq!((alice.value("/wall"), bob.value("/@alice/wall")), (json!({"doc": "text"}), json!({"doc": "text"})));
}

#[test]
fn presence_is_refused_where_it_makes_no_sense() {
    let peer = Peer::start();
    let mut socket = watch(&peer, "/doc");
    assert_eq!(socket.request(&json!({"id": 2, "presence": 1}))["error"]["status"], 404);
    assert_eq!(socket.request(&json!({"id": 1, "presence": "x".repeat(1024)}))["error"]["status"], 413);
    assert_eq!(socket.request(&json!({"id": 1, "presence": 1, "surprise": 2}))["error"]["status"], 400);
}
