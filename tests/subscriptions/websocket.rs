use serde_json::json;

use crate::peer::Peer;
use crate::socket::Socket;

#[test]
fn requests_of_every_kind_have_one_answer_each() {
    let peer = Peer::start();
    let mut socket = Socket::open(&peer);
    let put = socket.request(&json!({"id": 1, "put": "/ws/a", "value": {"n": 1}}));
    assert_eq!((&put["ok"], &put["durable"]), (&json!(true), &json!(true)));
    assert_eq!(peer.value("/ws"), json!({"a": {"n": 1}}));
    let get = socket.request(&json!({"id": 2, "get": "/ws/a"}));
    assert_eq!((&get["value"], &get["version"]), (&json!({"n": 1}), &put["version"]));
    assert_eq!(socket.request(&json!({"id": 3, "get": "/none"}))["absent"], true);
    assert_eq!(socket.request(&json!({"id": 4, "patch": "/ws/a", "value": {"m": 2, "n": null}}))["ok"], true);
    let post = socket.request(&json!({"id": 5, "post": "/ws/feed", "value": "x"}));
    assert_eq!(peer.value(post["created"].as_str().expect("a path")), json!("x"));
    assert_eq!(socket.request(&json!({"id": 6, "delete": "/ws/feed"}))["ok"], true);
    assert_eq!(peer.value("/ws"), json!({"a": {"m": 2}}));
    let old = socket.request(&json!({"id": 7, "get": "/ws/a", "version": put["version"]}));
    assert_eq!(old["value"], json!({"n": 1}));
    let named = socket.request(&json!({"id": 8, "put": "/ws/a", "value": 3, "version": "me-1", "parents": put["version"]}));
    assert_eq!(named["ok"], true, "{named}");
    assert_eq!(socket.request(&json!({"id": 9, "put": "/ws/b", "value": 4, "async": true}))["durable"], false);
    assert_eq!(socket.request(&json!({"id": 10, "put": "/ws/c", "value": null}))["ok"], true);
    assert_eq!(peer.value("/ws/b"), json!(4));
    assert_eq!(peer.value("/ws/c"), json!(null));
}

#[test]
fn what_cannot_be_done_is_said_with_the_number_of_the_request() {
    let peer = Peer::start();
    let mut socket = Socket::open(&peer);
    for (number, (message, status)) in [
        (json!({"put": "/a//b", "value": 1}), 400),
        (json!({"put": "nowhere", "value": 1}), 400),
        (json!({"put": "/x"}), 400),
        (json!({"put": "/.auth/x", "value": 1}), 403),
        (json!({"delete": "/none"}), 404),
        (json!({"put": "/x", "value": 1, "parents": "nobody-1"}), 309),
        (json!({"put": "/x", "value": 1, "parents": 7}), 400),
        (json!({"get": "/x", "version": ["nobody-1"]}), 309),
        (json!({"dance": "/x"}), 400),
        (json!({"put": "/x", "value": 1, "surprise": true}), 400),
    ]
    .into_iter()
    .enumerate()
    {
        let mut message = message;
        message["id"] = json!(number);
        let answer = socket.request(&message);
        assert_eq!(answer["error"]["status"], status, "{message}: {answer}");
        assert!(answer["error"]["title"].is_string() && answer["error"]["detail"].is_string(), "{answer}");
    }
    for bad in ["", "{", "[]", "7", "{\"id\":-1,\"get\":\"/\"}", "{\"get\":\"/\"}", "{\"id\":1,\"id\":2}"] {
        socket.0.send(tokio_tungstenite::tungstenite::Message::text(bad)).expect("the peer reads");
        let answer = socket.hear();
        assert_eq!(answer["error"]["status"], 400, "{bad}: {answer}");
    }
    assert_eq!(socket.request(&json!({"id": 1, "get": "/"}))["absent"], true, "the socket lives on");
}

#[test]
fn unwatch_ends_only_that_watch() {
    let peer = Peer::start();
    peer.put("/x", &json!(0));
    let mut socket = Socket::open(&peer);
    for id in [1, 2, 3] {
        let path = if id == 3 { "/y" } else { "/x" };
        socket.say(&json!({"id": id, "watch": path}));
        while socket.hear().get("caught_up").is_none() {}
    }
    assert_eq!(socket.request(&json!({"id": 1, "watch": "/z"}))["error"]["status"], 409);
    assert_eq!(socket.request(&json!({"id": 1, "unwatch": true}))["unwatched"], true);
    peer.put("/x", &json!(1));
    peer.put("/y", &json!(1));
    let (first, second) = (socket.hear(), socket.hear());
    assert_eq!((&first["id"], &first["value"]), (&json!(2), &json!(1)), "{first}");
    assert_eq!((&second["id"], &second["put"]), (&json!(3), &json!("/y")), "{second}");
    // The number is free again.
    let snapshot = socket.request(&json!({"id": 1, "watch": "/x"}));
    assert_eq!(snapshot["snapshot"], 1);
    assert!(socket.request(&json!({"id": 9, "unwatch": true}))["unwatched"] == true, "ending what is not there is no error");
}

#[test]
fn a_socket_has_many_watches_but_not_any_number() {
    let peer = Peer::start();
    let mut socket = Socket::open(&peer);
    for id in 0..1024 {
        socket.say(&json!({"id": id, "watch": format!("/many/{id}")}));
    }
    let mut caught_up = 0;
    while caught_up < 1024 {
        let message = socket.hear();
        assert!(message.get("error").is_none(), "{message}");
        caught_up += usize::from(message.get("caught_up").is_some());
    }
    assert_eq!(socket.request(&json!({"id": 9999, "watch": "/more"}))["error"]["status"], 429);
    peer.put("/many", &(0..1024).map(|id| (id.to_string(), json!(id))).collect());
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 1024 {
        let message = socket.hear();
        assert_eq!(message["value"], message["id"], "{message}");
        assert!(heard.insert(message["id"].as_u64()), "twice: {message}");
    }
}

#[test]
fn any_path_will_do_and_a_large_message_ends_the_socket() {
    let peer = Peer::start();
    let mut socket = Socket::open(&peer);
    let big = format!("{{\"id\":1,\"put\":\"/x\",\"value\":\"{}\"}}", "x".repeat(17 << 20));
    // The peer may hang up before it has read all of it.
    let _ = socket.0.send(tokio_tungstenite::tungstenite::Message::text(big));
    assert!(socket.try_hear().is_err());
    peer.send("GET", "/x", &[], "").problem(404);
}
