//! What a peer writes for others who sign their requests: as long as they may, and no more than they may.

use serde_json::{Value, json};
use timebus_identity::SecretKey;

use super::signed::{now_s, send, signed_with};
use crate::http::{Answer, Client};
use crate::peer::Peer;
use crate::peers::neighbours::{json as verb, run};

const PATCH: (&str, &str) = ("content-type", "application/json-patch+json");

/// Somebody who may write at `/table` by signing his requests.
struct Guest<'a> {
    peer: &'a Peer,
    key: SecretKey,
    /// Every request has a time of its own.
    time_s: std::cell::Cell<i64>,
}

impl<'a> Guest<'a> {
    fn of(peer: &'a Peer, seed: u8, more: &[&str]) -> Self {
        let key = SecretKey::from_seed([seed; 32]);
        let id = key.public().to_string();
        verb(peer.home(), &[&["grant", "/table", &id, "--can", "write"], more].concat());
        Self { peer, key, time_s: std::cell::Cell::new(now_s()) }
    }

    fn id(&self) -> String {
        self.key.public().to_string()
    }

    fn headers(&self, method: &str, path: &str, more: &[(&'static str, &str)], body: &str) -> Vec<(&'static str, String)> {
        self.time_s.set(self.time_s.get() - 1);
        signed_with(self.peer, &self.key, method, path, more, body, self.time_s.get())
    }

    fn put(&self, path: &str, body: &str) -> Answer {
        send(self.peer, "PUT", path, &self.headers("PUT", path, &[], body), body)
    }

    fn patch(&self, path: &str, body: &str) -> Answer {
        send(self.peer, "PATCH", path, &self.headers("PATCH", path, &[PATCH], body), body)
    }

    /// A PUT of which the last byte is to come.
    fn begin(&self, path: &str, more: &[(&'static str, &str)], body: &str) -> Client {
        let mut headers = self.headers("PUT", path, more, body);
        headers.push(("Content-Length", body.len().to_string()));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut client = self.peer.connect();
        client.ask("PUT", path, &headers, "");
        client.write(&body[..body.len() - 1]);
        client
    }
}

fn end(mut client: Client, body: &str) -> Answer {
    client.write(&body[body.len() - 1..]);
    client.answer(false).expect("an answer")
}

/// A request that was begun in time wrote hours after its author was thrown out, in the owner's name.
#[test]
fn who_was_thrown_out_writes_no_more_by_what_he_began_before() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 7, &[]);
    assert_eq!(guest.put("/table/a", "1").status, 200);
    let film = "x".repeat(200_000);
    let mp4 = ("content-type", "video/mp4");
    let begun = [
        ("/table/late", guest.begin("/table/late", &[], "\"late\""), "\"late\""),
        ("/table/film", guest.begin("/table/film", &[mp4], &film), &film[..]),
        ("/table/small", guest.begin("/table/small", &[mp4], "small"), "small"),
    ];
    let in_time = guest.begin("/table/b", &[], "22");
    assert_eq!(end(in_time, "22").status, 200);
    verb(peer.home(), &["revoke", &guest.id(), "/table"]);
    for (path, client, body) in begun {
        end(client, body).problem(403);
        assert_eq!(peer.send("GET", path, &[], "").status, 404, "{path}");
    }
    assert_eq!(peer.value("/table"), json!({"a": 1, "b": 22}));
}

fn cost_of(peer: &Peer, guest: &Guest) -> u64 {
    let costs = verb(peer.home(), &["top"]);
    let row = costs["costs"].as_array().and_then(|all| all.iter().find(|row| row.to_string().contains(&guest.id())).cloned());
    row.unwrap_or_else(|| panic!("{costs}"))["bytes"].as_u64().expect("bytes")
}

/// A short patch copies a large value many times, and what counts is what is written.
#[test]
fn what_is_written_counts_and_not_what_was_sent() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 8, &[]);
    verb(peer.home(), &["limits", &guest.id(), "3MB"]);
    let large: String = (0..100_000u32).map(|number| char::from(b'a' + (number.wrapping_mul(2_654_435_761) >> 28) as u8)).collect();
    assert_eq!(guest.put("/table/r", &json!({"s": large}).to_string()).status, 200);
    let copies = |from: usize| -> String {
        let ops: Vec<Value> = (from..from + 10).map(|number| json!({"op": "copy", "from": "/s", "path": format!("/c{number}")})).collect();
        Value::from(ops).to_string()
    };
    let cost = cost_of(&peer, &guest);
    assert_eq!(guest.patch("/table/r", &copies(0)).status, 200);
    assert!(cost_of(&peer, &guest) - cost >= 1_000_000, "{}", cost_of(&peer, &guest) - cost);
    assert_eq!(guest.patch("/table/r", &copies(10)).status, 200);
    let refused = guest.patch("/table/r", &copies(20)).problem(413);
    assert!(refused["request"].is_string(), "{refused}");
    // What was refused is not counted, and less has room.
    let before = cost_of(&peer, &guest);
    guest.patch("/table/r", &copies(20)).problem(413);
    assert_eq!(cost_of(&peer, &guest), before);
    assert_eq!(guest.put("/table/x", "1").status, 200);
    assert!(run(peer.home(), &["held"]).out.contains("by HTTP"), "{}", run(peer.home(), &["held"]).out);
}

/// The quota of a grant is for whoever holds it, by whatever way he writes.
#[test]
fn the_quota_of_a_grant_holds_over_http() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 9, &["--quota", "10kB"]);
    let body = json!("x".repeat(4000)).to_string();
    assert_eq!(guest.put("/table/a", &body).status, 200);
    let large = json!("x".repeat(20_000)).to_string();
    for _ in 0..3 {
        let refused = guest.put("/table/b", &large).problem(403);
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("10 kB in all")), "{refused}");
    }
    assert_eq!(guest.put("/table/b", &body).status, 200, "what was refused does not count");
    guest.put("/table/c", &body).problem(403);
    // Nor does much at once, or a file, get past it.
    let other = Guest::of(&peer, 11, &["--quota", "50kB"]);
    let requests: Vec<_> =
        (0..12).map(|number| format!("/table/at-once-{number}")).map(|path| (other.headers("PUT", &path, &[], &large), path)).collect();
    let written = std::thread::scope(|threads| {
        let all: Vec<_> = requests.iter().map(|(headers, path)| threads.spawn(|| send(&peer, "PUT", path, headers, &large).status)).collect();
        all.into_iter().filter_map(|one| one.join().ok()).filter(|status| *status == 200).count()
    });
    assert_eq!(written, 2);
    let film = "y".repeat(200_000);
    let headers = guest.headers("PUT", "/table/film", &[("content-type", "video/mp4")], &film);
    send(&peer, "PUT", "/table/film", &headers, &film).problem(403);
    let told = run(peer.home(), &["why", "write", "/table", "--as", &guest.id()]);
    assert!(told.out.contains("10 kB in all"), "{told:?}");
    verb(peer.home(), &["grant", "/table", &guest.id(), "--can", "write"]);
    assert_eq!(guest.put("/table/c", &large).status, 200, "by another grant he may");
}

/// What is sent one behind the other over a socket is carried out in that order.
#[test]
fn a_guests_edits_over_a_socket_stay_in_order() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 12, &[]);
    peer.send("PUT", "/table/doc", &[("Content-Type", "text/plain"), ("Version", "\"own-1\"")], "ab");
    let film = "x".repeat(200_000);
    let headers = guest.headers("PUT", "/table/film", &[("content-type", "video/mp4")], &film);
    assert_eq!(send(&peer, "PUT", "/table/film", &headers, &film).status, 200);
    let film = peer.value("/table")["film"].clone();
    let mut socket = super::signed::socket(&peer, &guest.key, now_s() - 100);
    for round in 0..4 {
        for number in 0..5 {
            socket.say(&json!({"id": number, "put": "/table/last", "value": [round, number]}));
        }
        // What names a file is looked at twice, and stays in its place all the same.
        socket.say(&json!({"id": 5, "put": "/table/last", "value": film}));
        socket.say(&json!({"id": 5, "put": "/table/last", "value": [round, 5]}));
        let first = format!("own-{}", 1);
        let parents = |at: usize| if at == 0 { vec![first.clone()] } else { vec![format!("r{round}-{}", at - 1)] };
        for at in 0..6 {
            let edit =
                json!({"id": 10 + at, "edit": "/table/doc", "edits": [[at, 0, "x"]], "version": format!("r{round}-{at}"), "parents": parents(at)});
            socket.say(&edit);
        }
        for _ in 0..13 {
            let heard = socket.hear();
            assert_eq!(heard["ok"], true, "{round}: {heard}");
        }
        assert_eq!(peer.value("/table/last"), json!([round, 5]));
        assert_eq!(peer.value("/table")["doc"].as_str().map_or(0, |text| text.matches('x').count()), 6 * (round + 1));
    }
}

/// Patches that cost much and fail kept everybody else waiting.
#[test]
fn a_guest_who_costs_much_waits_and_the_owner_does_not() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 10, &[]);
    peer.put("/table/arr", &json!((0..20_000).collect::<Vec<u32>>()));
    let mut ops: Vec<Value> = (0..1500).map(|_| json!({"op": "add", "path": "/0", "value": 1})).collect();
    ops.push(json!({"op": "test", "path": "/0", "value": "no"}));
    let body = Value::from(ops).to_string();
    let first = guest.patch("/table/arr", &body);
    assert_eq!(first.status, 400, "{}", first.text());
    // He has two seconds of turns at once, and a fifth of each after that.
    let waits = (0..200).map(|_| guest.patch("/table/arr", &body)).find(|answer| answer.status != 400).expect("he has to wait");
    let waits = waits.problem(429);
    assert!(waits["wait_ms"].as_u64().is_some(), "{waits}");
    peer.put("/mine", &json!(1));
}
