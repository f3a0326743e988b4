//! What others may do at a peer by HTTP and on its websocket: what was granted to their keys, or to anyone.

use serde_json::json as value;
use timebus_identity::SecretKey;

use super::signed::{now_s, send, signed, signed_with, socket};
use crate::http::print_versions;
use crate::peer::Peer;
use crate::peers::neighbours::{json, poll, run};
use crate::socket::Socket;

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

/// Runs a verb that must succeed; what it says to programs.
fn verb(peer: &Peer, args: &[&str]) -> serde_json::Value {
    json(peer.home(), args)
}

#[test]
fn a_key_may_what_it_was_granted_until_that_is_taken_back() {
    let peer = Peer::start();
    peer.put("/table/menu", &value!("soup"));
    peer.put("/secret", &value!(1));
    let (bob, mallory) = (key(5), key(6));
    let name = bob.public().to_string();
    // No two are of the same second, or the later one would be the first one again.
    let begun_s = now_s();
    let ask = |key: &SecretKey, method: &str, path: &str, body: &str, at: i64| {
        let headers = signed(&peer, key, method, path, body, begun_s - at);
        send(&peer, method, path, &headers, body)
    };
    let refused = ask(&bob, "PUT", "/table/bob", "1", 1).problem(403);
    assert_eq!(refused["missing"]["can"], "write");
    assert!(refused["fix"].as_str().is_some_and(|fix| fix.contains("timebus grant /table/bob")), "{refused}");
    let preview = verb(&peer, &["grant", "/table", &name, "--can", "write", "--preview"]);
    assert_eq!(preview["preview"], true);
    ask(&bob, "PUT", "/table/bob", "1", 2).problem(403);
    let granted = verb(&peer, &["grant", "/table", &name, "--can", "write"]);
    assert!(granted["says"][0].as_str().is_some_and(|says| says.contains("read and write at and below /table")), "{granted}");
    assert_eq!(ask(&bob, "PUT", "/table/bob", "1", 3).status, 200);
    assert_eq!(ask(&bob, "GET", "/table", "", 4).json()["bob"], 1);
    ask(&bob, "PUT", "/other", "1", 5).problem(403);
    ask(&bob, "GET", "/.sys/status", "", 6).problem(403);
    // Who may not know is told the same of what is there, what is not, and what is not held here.
    let told = |path: &str, at: i64| String::from_utf8(ask(&mallory, "GET", path, "", at).body).expect("text");
    let (there, absent) = (told("/secret", 1), told("/nought1", 2));
    assert_eq!(there.replace("/secret", "/x"), absent.replace("/nought1", "/x"));
    for (at, stranger) in [(3, key(1)), (4, key(2))] {
        let space = stranger.public();
        let elsewhere = told(&format!("/@{space}/secret"), at);
        assert_eq!(
            elsewhere.replace(&format!("/@{space}"), "").replace(&space.to_string(), ""),
            there.replace(peer.ready["id"].as_str().expect("an id"), "")
        );
    }
    // Why, in words and as an exit code.
    let why = verb(&peer, &["why", "write", "/table/x", "--as", &name]);
    assert_eq!(why["allowed"], true);
    assert!(why["says"].to_string().contains(" were written for ") && why["says"].to_string().contains("over HTTP"), "{why}");
    let no = run(peer.home(), &["why", "write", "/other", "--as", &name]);
    assert!(no.code == 1 && no.out.contains("it is good at and below /table"), "{no:?}");
    let listed = verb(&peer, &["grants", "/table"]);
    assert!(listed["grants"].as_array().expect("a list").iter().any(|grant| grant["for"] == name.as_str() && grant["live"] == true), "{listed}");
    let path = format!("/.auth/grants/{}", granted["grants"][0].as_str().expect("an id"));
    assert_eq!(ask(&bob, "GET", &path, "", 7).json()["live"], true);
    let plan = verb(&peer, &["revoke", &name, "--preview"]);
    assert!(plan["says"][0].as_str().is_some_and(|says| says.contains("may no longer read and write")), "{plan}");
    assert_eq!(ask(&bob, "GET", "/table", "", 8).status, 200);
    verb(&peer, &["revoke", &name]);
    ask(&bob, "GET", "/table", "", 9).problem(403);
    ask(&bob, "PUT", "/table/bob", "2", 10).problem(403);
    assert_eq!(peer.value("/table/bob"), 1);
    let why = run(peer.home(), &["why", "write", "/table", "--as", &name]);
    assert!(why.code == 1 && why.out.contains("you took it back on"), "{why:?}");
}

#[test]
fn a_public_path_is_for_everybody_and_the_rest_for_nobody() {
    let peer = Peer::start();
    peer.put("/public/hello", &value!("world"));
    peer.put("/private", &value!(1));
    let page = [("Origin", "http://elsewhere.example"), ("Sec-Fetch-Site", "cross-site")];
    peer.send("GET", "/public", &page, "").problem(401);
    let granted = verb(&peer, &["grant", "/public", "anyone", "--can", "read"]);
    assert!(granted["notes"][0].as_str().is_some_and(|note| note.contains("and nothing else")), "{granted}");
    let shown = peer.send("GET", "/public", &page, "");
    assert_eq!((shown.status, shown.json()), (200, value!({"hello": "world"})));
    assert_eq!(shown.header("access-control-allow-origin"), None);
    for (method, path) in [("GET", "/private"), ("GET", "/"), ("PUT", "/public/x"), ("DELETE", "/public"), ("POST", "/public")] {
        peer.send(method, path, &page, "1").problem(401);
    }
    peer.send("GET", "/public", &[page[0], page[1], ("Accept", "application/timebus-ops")], "").problem(401);
    let refused = run(peer.home(), &["grant", "/public", "anyone", "--can", "write"]);
    assert!(refused.code == 1 && refused.err.contains("only reading"), "{refused:?}");
}

/// What is kept apart below what everybody may read is for strangers what any other path there is.
#[test]
fn strangers_do_not_guess_what_is_kept_apart() {
    let peer = Peer::start();
    peer.put("/pub/hello", &value!("world"));
    verb(&peer, &["grant", "/pub", "anyone", "--can", "read"]);
    verb(&peer, &["private", "/pub/secret", "--hidden"]);
    verb(&peer, &["private", "/pub/shown"]);
    peer.put("/pub/secret/x", &value!(1));
    peer.put("/pub/shown/x", &value!(1));
    let (bob, mallory) = (key(5), key(6));
    let page = ("Origin", "http://elsewhere.example");
    let asks: [&[(&str, &str)]; 5] = [
        &[page],
        &[page, ("Accept", "application/x-ndjson")],
        &[page, ("Accept", "application/timebus-ops")],
        &[page, ("Version", "\"x\"")],
        &[page, ("Cookie", "x")],
    ];
    let names = |answer: &crate::http::Answer| answer.headers.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for more in ["", "/x", "?view=meta", "?limit=5"] {
        for headers in asks {
            let [there, nought] = ["secret", "nought"].map(|name| peer.send("GET", &format!("/pub/{name}{more}"), headers, ""));
            let text = there.text().replace("secret", "nought");
            assert_eq!((there.status, text, names(&there)), (nought.status, nought.text(), names(&nought)), "{more} {headers:?}");
        }
    }
    peer.send("GET", "/pub/secret", &[page], "").problem(404);
    peer.send("GET", "/.auth", &[page], "").problem(401);
    let both = peer.send("GET", "/pub", &[page], "").json();
    assert_eq!(both.as_object().map(|all| all.contains_key("shown")), Some(true), "its owner shows that there is something: {both}");
    assert_eq!(peer.send("GET", "/pub/shown", &[page], "").json(), both["shown"]);
    assert_eq!(peer.value("/pub/shown"), value!({"x": 1}), "what a stranger was answered is no answer for the owner");
    for (method, path) in [("PUT", "/pub/secret"), ("DELETE", "/pub/secret/x"), ("POST", "/pub/secret")] {
        peer.send(method, path, &[page], "1").problem(401);
    }
    // Who watches hears nothing of it.
    let mut socket = socket(&peer, &mallory, now_s());
    let told = [("secret", 1), ("nought", 2)].map(|(name, id)| {
        let got = socket.request(&value!({"id": id, "get": format!("/pub/{name}")}));
        let watched = socket.request(&value!({"id": id + 10, "watch": format!("/pub/{name}")}));
        [got, watched, socket.hear()].map(|mut told| {
            told.as_object_mut().expect("an object").remove("id");
            told.to_string().replace("secret", "nought")
        })
    });
    assert_eq!(told[0], told[1]);
    assert!(told[0].iter().all(|told| !told.contains("error")), "{told:?}");
    assert_eq!(socket.request(&value!({"id": 3, "watch": "/pub/hello"}))["snapshot"], "world");
    assert_eq!(socket.hear()["caught_up"], true);
    peer.put("/pub/secret/x", &value!(2));
    verb(&peer, &["grant", "/table", &bob.public().to_string(), "--can", "read"]);
    peer.put("/pub/hello", &value!("all"));
    assert_eq!(socket.hear()["value"], "all", "and is not closed when rights change");
    // Whom the owner let in knows which paths are kept apart.
    let headers = signed(&peer, &bob, "GET", "/pub/secret", "", now_s());
    send(&peer, "GET", "/pub/secret", &headers, "").problem(403);
    assert_eq!(peer.value("/pub/secret/x"), 2);
}

/// Guests and strangers send what they write as slowly as they may.
#[test]
fn nobody_else_keeps_a_peer_from_being_restarted() {
    let peer = Peer::start();
    let (bob, mallory) = (key(5), key(6));
    verb(&peer, &["grant", "/table", &bob.public().to_string(), "--can", "write"]);
    let quiet = |seconds: u64| {
        let answer = peer.send("POST", "/.sys/quiet", &[("Content-Type", "application/json")], value!({"seconds": seconds}).to_string());
        answer.json()["writing"].as_u64()
    };
    let begun_s = now_s();
    let begin = |key: &SecretKey, method: &str, path: &str, kind: &str, at: i64| {
        let body = "\"soup\"";
        let mut headers = signed_with(&peer, key, method, path, &[("Content-Type", kind)], body, begun_s - at);
        headers.extend([("Content-Length", body.len().to_string()), ("Expect", "100-continue".to_owned())]);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut client = peer.connect();
        client.ask(method, path, &headers, &body[..body.len() - 1]);
        client
    };
    for (at, kind) in (1..).zip(["application/json", "text/plain", "video/mp4"]) {
        let mut slow = begin(&bob, "PUT", "/table/x", kind, at);
        assert_eq!(slow.answer(false).map(|answer| answer.status), Some(100), "it is being read: {kind}");
        assert_eq!(quiet(60), Some(0), "{kind}");
        slow.write("\"");
        slow.answer(false).expect("an answer").problem(503);
        quiet(0);
        let mut slow = begin(&bob, "PUT", "/table/x", kind, at + 10);
        assert_eq!(slow.answer(false).map(|answer| answer.status), Some(100));
        slow.write("\"");
        assert_eq!(slow.answer(false).map(|answer| answer.status), Some(200), "{kind}");
    }
    // Who may nothing is told so before his words were read.
    for (at, (key, path)) in (30..).zip([(&mallory, "/.drop"), (&bob, "/.drop"), (&mallory, "/table/x")]) {
        begin(key, if path == "/.drop" { "POST" } else { "PUT" }, path, "application/json", at).answer(false).expect("an answer").problem(403);
    }
}

/// A difference of two long lists costs a thousand times what a short value does: with two dozen clients, anybody had every core.
#[test]
fn whose_reading_costs_much_has_to_wait_and_nobody_else() {
    let peer = Peer::start();
    let posts: serde_json::Map<String, serde_json::Value> = (0..4000).map(|number| (format!("p{number:05}"), value!({"at": number}))).collect();
    let names = peer.put("/public", &posts.into());
    let version = print_versions(&names);
    let bob = key(5);
    verb(&peer, &["grant", "/public", "anyone", "--can", "read"]);
    verb(&peer, &["grant", "/public", &bob.public().to_string(), "--can", "read"]);
    let page = [("Origin", "http://elsewhere.example"), ("Sec-Fetch-Site", "cross-site"), ("Parents", &version)];
    let mut nobody = peer.connect();
    let refused = (0..300).map(|_| nobody.send("GET", "/public", &page, "")).find(|answer| answer.status != 209).expect("he has to wait");
    assert!(refused.header("retry-after").and_then(|wait_s| wait_s.parse().ok()).is_some_and(|wait_s: u64| wait_s > 0));
    let why = refused.problem(429);
    assert!(
        why["detail"].as_str().is_some_and(|detail| detail.contains("nobody in particular at 127.0.0.1 may take 200 ms of each second")),
        "{why}"
    );
    // The owner, and whoever has a key, may what they might.
    for _ in 0..100 {
        assert_eq!(peer.value("/public/p00009/at"), 9);
    }
    assert_eq!(peer.send("GET", "/public", &[("Parents", &version)], "").status, 209);
    let get = signed(&peer, &bob, "GET", "/public/p00009/at", "", now_s());
    assert_eq!(send(&peer, "GET", "/public/p00009/at", &get, "").json(), 9);
    // On his socket it is the same.
    let mut socket = socket(&peer, &bob, now_s());
    let mut answers = (1..).map(|id| socket.request(&value!({"id": id, "get": "/public", "version": names})));
    let refused = answers.find(|answer| answer.get("value").is_none()).expect("he has to wait");
    assert_eq!(refused["error"]["status"], 429, "{refused}");
    let whose = format!("{} may take 200 ms of each second", bob.public());
    assert!(refused["error"]["detail"].as_str().is_some_and(|detail| detail.contains(&whose)), "{refused}");
    let refused = socket.request(&value!({"id": 0, "watch": "/public"}));
    assert!(refused["error"]["status"] == 429 || refused["snapshot"].is_object(), "{refused}");
    assert_eq!(peer.value("/public/p00009/at"), 9);
}

/// A connection that takes as little as it can.
fn small(peer: &Peer) -> std::net::TcpStream {
    use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
    let small = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_recv_buffer_size(&small, 4096).expect("an option");
    connect(&small, &peer.address()).expect("the peer listens");
    small.into()
}

/// Most memory that those may cost who read nothing of what they asked for: each would have eight megabytes.
const UNREAD_BYTES_MAX: u64 = 120_000_000;

#[test]
fn those_who_read_nothing_share_what_they_do_not_read() {
    use std::io::{Read as _, Write as _};
    let peer = Peer::start();
    let parts: serde_json::Map<String, serde_json::Value> = (0..16).map(|number| (format!("p{number}"), value!("x".repeat(500_000)))).collect();
    peer.put("/public", &parts.into());
    verb(&peer, &["grant", "/public", "anyone", "--can", "read"]);
    let before = peer.resident_bytes();
    let open = |number: usize| {
        let (more, status) = [("Accept: text/event-stream\r\n", "HTTP/1.1 200"), ("", "HTTP/1.1 209")][number % 2];
        let mut stream = small(&peer);
        let head = format!("GET /public HTTP/1.1\r\nHost: {}\r\nOrigin: http://e{number}.example\r\n", peer.authority());
        stream.write_all(format!("{head}Subscribe: true\r\n{more}\r\n").as_bytes()).expect("written");
        let mut answer = vec![0; status.len()];
        stream.read_exact(&mut answer).expect("an answer");
        // Where all is slow, nobody may have to wait in between.
        (answer == status.as_bytes()).then_some(stream)
    };
    let stalled: Vec<_> = (0..60).map(|number| poll("a stream begins", || open(number))).collect();
    let grown = peer.resident_bytes().saturating_sub(before);
    eprintln!("60 who read nothing of 8 MB: {} MB resident more", grown / 1_000_000);
    assert!(grown < UNREAD_BYTES_MAX, "{grown} bytes more are resident");
    assert_eq!(peer.value("/public/p0").as_str().map(str::len), Some(500_000));
    drop(stalled);
}

#[test]
fn who_watches_is_told_when_his_right_ends() {
    let peer = Peer::start();
    peer.put("/table/x", &value!(1));
    let bob = key(5);
    let name = bob.public().to_string();
    verb(&peer, &["grant", "/table", &name, "--can", "read"]);
    let mut socket = socket(&peer, &bob, now_s());
    assert_eq!(socket.request(&value!({"id": 1, "watch": "/table"}))["snapshot"], value!({"x": 1}));
    assert_eq!(socket.hear()["caught_up"], true);
    assert_eq!(socket.request(&value!({"id": 2, "put": "/table/x", "value": 2}))["error"]["status"], 403);
    let auth = socket.request(&value!({"id": 4, "watch": "/.auth/grants"}));
    assert!(auth["snapshot"].as_object().is_some_and(|grants| grants.values().any(|grant| grant["for"] == name.as_str())), "{auth}");
    assert_eq!(socket.hear()["caught_up"], true);
    peer.put("/table/x", &value!(3));
    assert_eq!(socket.hear()["value"], 3);
    verb(&peer, &["revoke", &name]);
    let mut closed: Vec<u64> = Vec::new();
    while closed.len() < 2 {
        let told = socket.hear();
        if told["closed"] == "revoked" {
            assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("no grant lets the key")), "{told}");
            closed.push(told["id"].as_u64().expect("a number"));
        }
    }
    closed.sort_unstable();
    assert_eq!(closed, [1, 4]);
    peer.put("/table/x", &value!(4));
    assert_eq!(socket.request(&value!({"id": 5, "get": "/table"}))["error"]["status"], 403, "and nothing of what came after");
}

/// Each value that is worked out is kept whole for whoever watches it, and a message until all of it has come.
#[test]
fn a_guest_takes_no_more_memory_than_he_needs() {
    let peer = Peer::start();
    let bob = key(5);
    verb(&peer, &["grant", "/table", &bob.public().to_string(), "--can", "write"]);
    let mut socket = socket(&peer, &bob, now_s());
    for id in 1..=17 {
        let answer = socket.request(&value!({"id": id, "watch": "/.auth"}));
        assert_eq!(answer["error"]["status"], if id == 17 { value!(429) } else { value!(null) }, "{id}: {answer}");
    }
    let written = socket.request(&value!({"id": 18, "put": "/table/x", "value": "x".repeat(700_000)}));
    assert!(written.get("error").is_none(), "{written}");
    // It may be gone before all of it was sent.
    let two = || ["x", "y"].map(|letter| letter.repeat(600_000));
    let large = value!({"id": 19, "put": "/table/x", "value": two()});
    let _ = socket.0.send(tokio_tungstenite::tungstenite::Message::text(large.to_string()));
    while let Ok(told) = socket.try_hear() {
        assert_ne!(told["id"], 19, "{told}");
    }
    let mut owner = Socket::open(&peer);
    assert!(owner.request(&value!({"id": 1, "put": "/table/y", "value": two()})).get("error").is_none());
}

#[test]
fn rights_are_data_that_can_be_watched() {
    let peer = Peer::start();
    let mut socket = Socket::open(&peer);
    let first = socket.request(&value!({"id": 1, "watch": "/.auth"}));
    assert_eq!(first["snapshot"]["root"], peer.ready["id"]);
    assert_eq!(socket.hear()["caught_up"], true);
    let name = key(7).public().to_string();
    let granted = verb(&peer, &["grant", "/notes", &name, "--can", "write", "--quota", "50MB", "--until", "2099-12-31"]);
    let id = granted["grants"][0].as_str().expect("an id").to_owned();
    let told = socket.hear();
    assert_eq!(told["put"], format!("/.auth/grants/{id}"));
    assert_eq!((&told["value"]["bytes_max"], &told["value"]["live"]), (&value!(50_000_000), &value!(true)));
    verb(&peer, &["revoke", &id[..8]]);
    let mut told = [socket.hear(), socket.hear()];
    told.sort_by_key(|one| one["put"].as_str().map(str::to_owned));
    assert_eq!((&told[0]["put"], &told[0]["value"]), (&value!(format!("/.auth/grants/{id}/live")), &value!(false)));
    assert_eq!(told[1]["value"]["effective"], true);
    assert_eq!(peer.value(&format!("/.auth/grants/{id}/path")), "/notes");
    assert_eq!(peer.send("GET", "/.auth/grants/nought", &[], "").status, 404);
    let words = run(peer.home(), &["grants", "--all"]);
    assert!(
        words.out.contains("may read and write at and below /notes, up to 50 MB in all, until 2099-12-31") && words.out.contains("not in force"),
        "{words:?}"
    );
}

#[test]
fn a_keeper_sees_how_a_peer_is_and_stops_it_and_nothing_else() {
    let peer = Peer::start();
    peer.put("/table/x", &value!(1));
    let (keeper, admin) = (key(5), key(6));
    // No two are of the same second, or the later one would be the first one again.
    let begun_s = now_s();
    let ask = |key: &SecretKey, method: &str, path: &str, body: &str, at: i64| {
        let headers = signed(&peer, key, method, path, body, begun_s - at);
        send(&peer, method, path, &headers, body)
    };
    verb(&peer, &["grant", "/", &admin.public().to_string(), "--can", "admin"]);
    verb(&peer, &["grant", "/.sys", &keeper.public().to_string(), "--can", "admin"]);
    for (at, part) in (1..).zip(["status", "tips", "peers", "devices", "metrics", "kept"]) {
        assert_eq!(ask(&keeper, "GET", &format!("/.sys/{part}"), "", at).status, 200, "{part}");
        ask(&admin, "GET", &format!("/.sys/{part}"), "", at).problem(403);
    }
    let tips = ask(&keeper, "GET", "/.sys/tips", "", 10).json();
    let most = tips["timelines"].as_object().expect("timelines").values().flat_map(|authors| authors.as_object().expect("authors").values());
    assert_eq!(most.filter_map(serde_json::Value::as_u64).max(), Some(2), "two grants: {tips}");
    for (at, (method, part)) in (20..).zip([("GET", "invites"), ("GET", "output"), ("GET", "backup"), ("POST", "login-code"), ("POST", "invites")]) {
        ask(&keeper, method, &format!("/.sys/{part}"), "", at).problem(403);
    }
    verb(&peer, &["revoke", &keeper.public().to_string()]);
    ask(&keeper, "POST", "/.sys/down", "", 30).problem(403);
    verb(&peer, &["grant", "/.sys", &keeper.public().to_string(), "--can", "admin"]);
    assert_eq!(ask(&keeper, "POST", "/.sys/down", "", 31).status, 200);
    peer.wait();
}

/// What a guest has this peer write is signed by it: his likes would be its owner's.
#[test]
fn a_guest_says_nothing_in_the_owners_name() {
    let peer = Peer::start();
    let bob = key(5);
    verb(&peer, &["grant", "/table", &bob.public().to_string(), "--can", "write"]);
    let post = format!("/@{}/posts/1", key(9).public());
    let begun_s = now_s();
    let ask = |method: &str, path: &str, body: &str, at: i64| send(&peer, method, path, &signed(&peer, &bob, method, path, body, begun_s - at), body);
    let words = [
        ("PUT", "/table/likes/1", value!({"kind": "like", "target": post})),
        ("PUT", "/table/a", value!([{"reply": {"to": post}}])),
        ("PUT", "/table/b/follow", value!({"link": "/posts/1"})),
        ("POST", "/table", value!({"mentions": [{"to": post}]})),
        ("PUT", "/table/likes/1/target", value!(post)),
    ];
    for (at, (method, path, body)) in (1..).zip(&words) {
        let refused = ask(method, path, &body.to_string(), at).problem(403);
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("owner's like")), "{refused}");
        assert!(refused["fix"].as_str().is_some_and(|fix| fix.contains("peer of your own")), "{refused}");
    }
    let mut socket = socket(&peer, &bob, begun_s - 20);
    let refused = socket.request(&value!({"id": 1, "put": "/table/x", "value": {"like": post}}));
    assert_eq!(refused["error"]["status"], 403, "{refused}");
    assert_eq!(peer.value(&format!("/.sys/refs{post}"))["counts"], value!({}));
    // He may point at what he likes, and say what is no pointer.
    assert_eq!(ask("PUT", "/table/c", &value!({"see": post, "target": "the wall", "to": "bob"}).to_string(), 21).status, 200);
    for (_, path, body) in &words[..1] {
        assert_eq!(peer.send("PUT", path, &[("Content-Type", "application/json")], body.to_string()).status, 200, "the owner's own word");
    }
    assert_eq!(peer.value(&format!("/.sys/refs{post}"))["counts"], value!({"like": 1}));
}
