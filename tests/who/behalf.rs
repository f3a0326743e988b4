//! What a peer writes for others who sign their requests: as long as they may, and no more than they may.

use serde_json::{Value, json};
use timebus_identity::SecretKey;

use super::signed::{now_s, send, signed_with};
use crate::http::{Answer, Client};
use crate::peer::Peer;
use crate::peers::neighbours::{invite, join, json as verb, run, until_value};

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
    // Of many guests who ask at once each waits for those before him. The owner, who comes last, waits for one of them.
    let guests: Vec<Guest<'_>> = (20..36).map(|seed| Guest::of(&peer, seed, &[])).collect();
    let requests: Vec<_> = guests.iter().map(|guest| guest.headers("PATCH", "/table/arr", &[PATCH], &body)).collect();
    let ask = |headers: &Vec<(&'static str, String)>| {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut client = peer.connect();
        client.ask("PATCH", "/table/arr", &headers, &body);
        client
    };
    let mut asking: Vec<Client> = requests.iter().map(ask).collect();
    assert_eq!(asking.remove(0).answer(false).expect("an answer").status, 400);
    peer.put("/mine", &json!(1));
    let is_waiting = |client: &&Client| {
        client.socket().set_nonblocking(true).expect("a socket");
        let waits = !client.socket().peek(&mut [0]).is_ok_and(|bytes| bytes > 0);
        client.socket().set_nonblocking(false).expect("a socket");
        waits
    };
    let waiting = asking.iter().filter(is_waiting).count();
    assert!(waiting >= 4, "{waiting} of {} wait", asking.len());
    for client in &mut asking {
        assert_eq!(client.answer(false).expect("an answer").status, 400);
    }
}

/// The owner's device signs what a guest writes over HTTP, and says for whom, to all who may read it.
#[test]
fn who_asked_for_what_was_written_is_told_to_whoever_reads_it() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 30, &[]);
    let (home, id, name) = (peer.home(), guest.id(), timebus_identity::human_name(&guest.key.public()));
    peer.put("/table/own", &json!("mine"));
    assert_eq!(guest.put("/table/said", "\"his\"").status, 200);
    let text = [("content-type", "text/plain")];
    let headers = guest.headers("PUT", "/table/text", &text, "some words");
    assert_eq!(send(&peer, "PUT", "/table/text", &headers, "some words").status, 200);
    let large: serde_json::Map<String, Value> = (0..40).map(|n| (n.to_string(), json!("x".repeat(20_000)))).collect();
    assert_eq!(guest.put("/table/large", &Value::from(large).to_string()).status, 200);
    let mut socket = super::signed::socket(&peer, &guest.key, now_s() - 200);
    socket.say(&json!({"id": 1, "put": "/table/by-socket", "value": 1}));
    assert_eq!(socket.hear()["ok"], true);
    let signed = format!("{name}, over HTTP (signed by your device)");
    let leaves = |peer: &Peer| -> Vec<Value> {
        let meta = peer.send("GET", "/table?view=meta", &[], "").text();
        meta.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let check = |peer: &Peer| {
        let all = leaves(peer);
        assert_eq!(all.len(), 44, "{all:?}");
        for leaf in &all {
            let is_own = leaf["path"] == "/table/own";
            assert_eq!((leaf["asked_by"].as_str(), leaf["writer"].as_str()), if is_own { (None, None) } else { (Some(&*id), Some(&*signed)) });
            assert_eq!(leaf["author"], all[0]["author"], "the device signs all");
        }
        let log = &peer.value("/.sys/log/table/said")["changes"][0];
        assert_eq!((log["asked_by"].as_str(), log["writer"].as_str()), (Some(&*id), Some(&*signed)), "{log}");
        let told = run(peer.home(), &["log", "/table"]);
        assert!(told.out.contains(&format!("  {signed}  /table/said")), "{told:?}");
        let told = run(peer.home(), &["why", "shown", "/table/said"]);
        assert!(told.out.contains(&format!("{signed} wrote what is there")), "{told:?}");
        let told = run(peer.home(), &["why", "shown", "/table/own"]);
        assert!(told.out.contains("you wrote what is there"), "{told:?}");
    };
    check(&peer);
    let blamed = run(home, &["blame", "/table/by-socket"]);
    assert!(blamed.out.starts_with(&format!("{signed}  ")), "{blamed:?}");
    assert!(peer.value("/.sys/log/table/said?view=raw").to_string().contains(&format!("\"of\":\"{id}\"")));
    // Who watches is told with what he hears.
    let mut watcher = crate::socket::Socket::open(&peer);
    watcher.say(&json!({"id": 1, "watch": "/table/said"}));
    while watcher.hear()["caught_up"].is_null() {}
    assert_eq!(guest.put("/table/said", "\"more\"").status, 200);
    let heard = watcher.hear();
    assert_eq!((&heard["asked_by"], heard["by"].is_string()), (&json!(id), true), "{heard}");
    drop(watcher);
    // A guest who reads it is told whose word it is, and not that it is his own device's.
    let headers = guest.headers("GET", "/table/text?view=meta", &[], "");
    let line = send(&peer, "GET", "/table/text?view=meta", &headers, "").json();
    assert!(line["writer"].as_str().is_some_and(|writer| writer.contains("over HTTP (says ")) && line["asked_by"] == id, "{line}");
    // It is in the log: an index that is made anew knows it, and so does a friend.
    let home = peer.stop();
    std::fs::remove_dir_all(home.folder().join("index")).expect("removed");
    let peer = Peer::start_in(home);
    check(&peer);
    let bob = Peer::start();
    join(&bob, &invite(&peer, &[]), "alice");
    until_value(&bob, "/@alice/table/said", &json!("more"));
    let told = bob.value("/.sys/log/@alice/table/said")["changes"][0].clone();
    assert!(told["asked_by"] == id && told["writer"].as_str().is_some_and(|writer| writer.ends_with("over HTTP (says alice)")), "{told}");
}

/// Who is thrown out leaves what was written for him: it is the owner's, who is told how much there is, and where.
#[test]
fn what_was_written_for_who_is_thrown_out_is_named() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 31, &[]);
    let other = Guest::of(&peer, 32, &[]);
    assert_eq!(other.put("/table/other", "1").status, 200);
    let nothing = verb(peer.home(), &["revoke", &guest.id(), "--preview"]);
    assert_eq!((&nothing["written_for"], &nothing["written_for_total"]), (&json!([]), &json!(0)), "{nothing}");
    for n in 0..3 {
        assert_eq!(guest.put(&format!("/table/{n}"), "1").status, 200);
    }
    peer.put("/table/own", &json!(1));
    let told = verb(peer.home(), &["revoke", &guest.id(), "--preview"]);
    assert_eq!(told["written_for_total"], 3, "{told}");
    let paths: Vec<&Value> = told["written_for"].as_array().expect("a list").iter().map(|one| &one["paths"]).collect();
    assert_eq!(paths, [&json!(["/table/2"]), &json!(["/table/1"]), &json!(["/table/0"])], "the last first");
    let words = run(peer.home(), &["revoke", &guest.id(), "--preview"]);
    let wanted =
        ["3 changes were written for", "over HTTP and signed by your device, at /table/0, /table/1 and /table/2", "timebus undo PATH VERSION"];
    assert!(wanted.iter().all(|wanted| words.out.contains(wanted)), "{words:?}");
    // What it names does it.
    let version = told["written_for"][0]["version"].as_str().expect("a version").to_owned();
    verb(peer.home(), &["revoke", &guest.id()]);
    assert_eq!(peer.value("/table"), json!({"0": 1, "1": 1, "2": 1, "other": 1, "own": 1}));
    verb(peer.home(), &["undo", "/table/2", &version]);
    assert_eq!(peer.value("/table"), json!({"0": 1, "1": 1, "other": 1, "own": 1}));
}

/// What counts for who writes over HTTP is not what he may keep here by a peer of his own.
#[test]
fn the_limit_that_is_shown_is_the_one_that_counts() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 33, &[]);
    assert_eq!(guest.put("/table/a", &json!("x".repeat(4000)).to_string()).status, 200);
    let row = |peer: &Peer| {
        let costs = verb(peer.home(), &["top"]);
        costs["costs"].as_array().and_then(|all| all.iter().find(|row| row["key"] == guest.id()).cloned()).unwrap_or_else(|| panic!("{costs}"))
    };
    let now = row(&peer);
    assert_eq!(
        (now["bytes_max"].as_u64(), now["http_bytes_max"].as_u64(), &now["http_bytes"]),
        (Some(256_000_000), Some(256_000_000), &now["bytes"])
    );
    let asked = run(peer.home(), &["limits", &guest.id()]);
    assert!(asked.out.contains("256.00 MB"), "{asked:?}");
    verb(peer.home(), &["limits", &guest.id(), "3MB"]);
    assert_eq!((&row(&peer)["bytes_max"], &row(&peer)["http_bytes_max"]), (&json!(3_000_000), &json!(3_000_000)));
}

/// The quota of a grant is for one timeline, as that of a chain is; `grant` and `why` tell what counts.
#[test]
fn quotas_over_http_are_of_one_timeline_and_are_told() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 40, &["--quota", "100kB"]);
    let id = guest.id();
    let of = |bytes: usize| json!("x".repeat(bytes)).to_string();
    let why = |path: &str| run(peer.home(), &["why", "write", path, "--as", &id]);
    assert_eq!(guest.put("/table/a", &of(80_000)).status, 200);
    let told = why("/table");
    assert!(told.out.starts_with("yes: ") && told.out.contains("19 kB more may be here"), "{told:?}");
    assert_eq!(guest.put("/table/b", &of(18_700)).status, 200);
    guest.put("/table/c", &of(1000)).problem(403);
    let told = why("/table");
    assert!(told.code == 0 && told.out.starts_with("in part: ") && told.out.contains("nothing more over HTTP"), "{told:?}");
    assert!(told.out.contains("no more may be here") && told.out.contains("count for the quotas of his rights"), "{told:?}");
    // Another right counts the same.
    let grant = |path: &str, quota: &str, more: &[&str]| {
        let told = run(peer.home(), &[&["grant", path, &id, "--can", "write", "--quota", quota], more].concat());
        assert_eq!(told.code, 0, "{told:?}");
        told.out + &told.err
    };
    let noted = "nothing can be written over HTTP by this right";
    let told = grant("/table2", "90kB", &["--preview"]);
    assert!(told.contains(noted) && told.contains("of these 90 kB already"), "{told}");
    assert!(!grant("/table2", "200kB", &["--preview"]).contains(noted));
    // What is kept apart has chains of its own.
    verb(peer.home(), &["private", "/diary"]);
    assert!(!grant("/diary", "50kB", &[]).contains(noted));
    assert_eq!(guest.put("/diary/a", &of(40_000)).status, 200);
    guest.put("/diary/b", &of(20_000)).problem(403);
    let told = why("/diary");
    assert!(told.out.starts_with("yes: ") && told.out.contains("9.4 kB more may be here"), "{told:?}");
    guest.put("/table/c", "1").problem(403);
}

/// A guest who might write 1 MB brought 256 MB of files.
#[test]
fn files_over_http_count_for_the_quota_of_a_grant() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 41, &["--quota", "1MB"]);
    let headers = |path: &str, more: &[(&'static str, &str)], body: &str| {
        let all = [&[("content-type", "video/mp4")], more].concat();
        guest.headers("PUT", path, &all, body)
    };
    let film = "x".repeat(600_000);
    let file = |path: &str, more: &[(&'static str, &str)], body: &str| send(&peer, "PUT", path, &headers(path, more, body), body);
    assert_eq!(file("/table/1", &[], &film).status, 200);
    let refused = file("/table/2", &[], &film).problem(403);
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("1 MB in all")), "{refused}");
    // Of what comes at once one is taken, and what is not kept does not count.
    let short = "y".repeat(200_000);
    assert_eq!(file("/table/1", &[("if-none-match", "*")], &short).status, 412);
    let requests: Vec<_> = (3..9).map(|n| format!("/table/{n}")).map(|path| (headers(&path, &[], &short), path)).collect();
    let written = std::thread::scope(|threads| {
        let all: Vec<_> = requests.iter().map(|(headers, path)| threads.spawn(|| send(&peer, "PUT", path, headers, &short).status)).collect();
        all.into_iter().filter_map(|one| one.join().ok()).filter(|status| *status == 200).count()
    });
    assert_eq!(written, 1);
    assert_eq!(file("/table/10", &[], &"z".repeat(150_000)).status, 200);
    guest.put("/table/x", &json!("x".repeat(50_000)).to_string()).problem(403);
    let told = run(peer.home(), &["why", "write", "/table", "--as", &guest.id()]);
    assert!(told.out.contains("kB more may be here"), "{told:?}");
}

/// What was refused over HTTP waits nowhere. Once it was allowed it fits when it comes again, whatever came between.
#[test]
fn what_was_refused_over_http_fits_once_it_was_allowed() {
    let peer = Peer::start();
    let guest = Guest::of(&peer, 42, &[]);
    let of = |bytes: usize| json!("x".repeat(bytes)).to_string();
    verb(peer.home(), &["limits", &guest.id(), "1MB"]);
    assert_eq!([guest.put("/table/a", &of(700_000)).status, guest.put("/table/e", &of(200_000)).status], [200, 200]);
    let refused = guest.put("/table/b", &of(200_000)).problem(413);
    let id = refused["request"].as_str().expect("a request").to_owned();
    let held = &verb(peer.home(), &["held"])["held"][0];
    let (bytes, used) = (held["bytes"].as_u64().expect("bytes"), held["used"].as_u64().expect("bytes"));
    assert!((200_000..202_000).contains(&bytes) && (900_000..920_000).contains(&used), "{held}");
    let told = run(peer.home(), &["held"]);
    assert!(told.out.contains("beside 9") && told.out.contains("was refused, and has to be sent again"), "{told:?}");
    let why = run(peer.home(), &["why", "write", "/table", "--as", &guest.id()]);
    assert!(why.out.contains("wanted written over HTTP were refused") && !why.out.contains("of his wait for your word"), "{why:?}");
    assert_eq!(guest.put("/table/c", &of(20_000)).status, 200);
    assert_eq!(verb(peer.home(), &["held"])["held"].as_array().map(Vec::len), Some(1));
    assert_eq!(run(peer.home(), &["allow", &id, "once"]).code, 0);
    assert_eq!(guest.put("/table/b", &of(200_000)).status, 200);
    guest.put("/table/d", "1").problem(413);
}
