//! Damage on one disk is mended with what others have, and what a peer knows of others survives in a backup.

use std::process::Command;

use serde_json::json;

use super::neighbours::{finish, invite, join, json as told, pair, peers, poll, program, run, until, until_value};
use crate::peer::{Home, Peer};

/// Flips a bit in the middle of the log.
fn damage(home: &Home) {
    let file = home.folder().join("log/00000001.log");
    let mut log = std::fs::read(&file).expect("the log");
    let middle = log.len() / 2;
    log[middle] ^= 1;
    std::fs::write(&file, log).expect("written");
}

/// Waits until somebody is connected.
fn connected(peer: &Peer) {
    poll("somebody is connected", || peers(peer).iter().any(|other| other["state"] == "connected").then_some(()));
}

#[test]
fn what_is_damaged_is_fetched_from_whoever_has_it() {
    for index_is_lost in [false, true] {
        let (alice, bob) = pair();
        for n in 0..40 {
            alice.put("/notes/n", &json!(n));
            alice.put(&format!("/notes/all/{n}"), &json!(n));
        }
        until_value(&bob, "/@alice/notes/all/39", &json!(39));
        let expected = alice.value("/notes");
        let home = alice.stop();
        damage(&home);
        if index_is_lost {
            std::fs::remove_dir_all(home.folder().join("index")).expect("removed");
        }
        let alice = Peer::start_in(home);
        let checked = run(alice.home(), &["fsck"]);
        assert!(checked.code == 1 && checked.out.contains("damaged"), "{checked:?}");
        // Who is to give it back has to be there.
        connected(&alice);
        let repaired = told(alice.home(), &["fsck", "--repair"]);
        assert_eq!((&repaired["problems"], &repaired["restart"]), (&json!([]), &json!(index_is_lost)), "{repaired}");
        let alice = alice.restart();
        assert_eq!(alice.value("/notes"), expected);
        let answer = alice.send("GET", "/notes", &[], "");
        assert_eq!(answer.header("conflicts").unwrap_or("0"), "0");
        assert_eq!(told(alice.home(), &["fsck"])["problems"], json!([]));
        // The other side reads on where it was.
        alice.put("/notes/n", &json!("after"));
        until_value(&bob, "/@alice/notes/n", &json!("after"));
    }
}

#[test]
fn says_when_nobody_has_what_is_damaged() {
    let alice = Peer::start();
    for n in 0..20 {
        alice.put("/n", &json!(n));
    }
    let home = alice.stop();
    damage(&home);
    let alice = Peer::start_in(home);
    let run = run(alice.home(), &["fsck", "--repair"]);
    assert!(run.code == 1 && run.out.contains("nobody who is connected has 1 of the damaged changes"), "{run:?}");
}

#[test]
fn a_backup_knows_whom_one_knows() {
    let (alice, bob) = pair();
    invite(&bob, &["--note", "for carol"]);
    let file = bob.home().beside("bob.tar");
    assert_eq!(run(bob.home(), &["backup", file.to_str().expect("text")]).code, 0);
    // Its folder has the backup.
    let gone = bob.stop();
    let restored = Home::new();
    let run = finish(program(&restored, &["restore"]).arg(&file));
    assert_eq!(run.code, 0, "{run:?}");
    let again = Peer::launch(restored, &mut Command::new(crate::peer::PROGRAM)).unwrap_or_else(|(home, status)| panic!("{status}: {}", home.log()));
    assert!(again.value("/.sys/invites")["invites"][0]["note"] == "for carol");
    assert_eq!(again.value("/.sys/spaces")["spaces"][0]["petname"], "alice");
    // It is another device, which alice granted nothing yet; so she is known, called, and says no.
    connected(&again);
    drop((alice, gone));
}

#[test]
fn websocket_messages_take_petnames_and_fetch_what_is_not_here() {
    let (alice, bob) = pair();
    alice.put("/notes/hi", &json!("hello"));
    let mut socket = crate::socket::Socket::open(&bob);
    socket.say(&json!({"id": 1, "watch": "/@alice/wall"}));
    assert_eq!(socket.hear()["id"], 1);
    assert_eq!(socket.request(&json!({"id": 2, "put": "/@alice/wall/x", "value": 1}))["ok"], true);
    until_value(&alice, "/wall/x", &json!(1));
    let known = socket.request(&json!({"id": 3, "get": "/@nobody/x"}));
    assert_eq!((&known["error"]["status"], &known["error"]["title"]), (&json!(404), &json!("nobody is known by this name")), "{known}");
    // A watch that is ended before its space is here never begins.
    socket.say(&json!({"id": 4, "watch": "/@alice/notes"}));
    socket.say(&json!({"id": 4, "unwatch": true}));
    let mut heard = Vec::new();
    socket.say(&json!({"id": 5, "get": "/@alice/notes/hi"}));
    loop {
        let message = socket.hear();
        let is_last = message["id"] == 5;
        heard.push(message);
        if is_last {
            break;
        }
    }
    assert_eq!(heard.last().expect("one")["value"], "hello", "{heard:?}");
    // A third peer that only reads: nothing is followed, and the message waits until it is here.
    let carol = Peer::start();
    let link = invite(&alice, &[]);
    join(&carol, &link, "a");
    told(carol.home(), &["unfollow", "a"]);
    let answer = crate::socket::Socket::open(&carol).request(&json!({"id": 1, "get": "/@a/notes/hi"}));
    assert_eq!(answer["value"], "hello", "{answer}");
}

/// The one file of a home that is whole.
fn only_file(home: &Home) -> std::path::PathBuf {
    let shards = std::fs::read_dir(home.folder().join("blobs")).expect("a folder").flatten().filter(|shard| shard.file_name().len() == 2);
    let mut files: Vec<_> = shards.flat_map(|shard| std::fs::read_dir(shard.path()).expect("a folder").flatten()).map(|file| file.path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name.len() == 52));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Flips a bit of a file.
fn flip(file: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(file).expect("a file");
    bytes[at] ^= 1;
    std::fs::write(file, bytes).expect("written");
}

#[test]
fn of_a_damaged_file_what_is_good_stays_and_the_rest_comes_from_whoever_has_it() {
    let (alice, bob) = pair();
    let film = crate::files::bytes(2_000_000, 6);
    assert_eq!(alice.send("PUT", "/film", &[("Content-Type", "video/mp4")], &film).status, 200);
    until(&bob, "/@alice", "a film", |answer| answer.text().contains("@blob"));
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film);
    poll("bob has it whole", || bob.home().folder().join("blobs/part").read_dir().is_ok_and(|mut parts| parts.next().is_none()).then_some(()));
    // It is alice's own, and two of its pieces are damaged.
    let file = only_file(alice.home());
    flip(&file, 300_000);
    flip(&file, 1_999_999);
    let checked = run(alice.home(), &["fsck"]);
    assert!(checked.code == 1 && checked.out.contains("the file at /film is damaged") && checked.err.contains("fsck --repair"), "{checked:?}");
    let told_of = told_failing(&alice, &["fsck"])["files"][0].clone();
    let bad = 131_072 + (2_000_000 - 15 * 131_072);
    let state = |file: &serde_json::Value| (file["state"].clone(), file["bytes_here"].clone(), file["paths"].clone());
    assert_eq!(state(&told_of), (json!("damaged"), json!(2_000_000 - bad), json!(["/film"])), "{told_of}");
    assert!(only_file(alice.home()) == file, "it is only looked at");
    // Nobody else is there: what is good stays, and is read.
    let bob = bob.stop();
    poll("alice is alone", || peers(&alice).iter().all(|other| other["state"] != "connected").then_some(()));
    let repaired = told_failing(&alice, &["fsck", "--repair"]);
    assert_eq!(state(&repaired["files"][0]), (json!("comes"), json!(2_000_000 - bad), json!(["/film"])), "{repaired}");
    assert_eq!(repaired["problems"].as_array().map(Vec::len), Some(1), "{repaired}");
    let range = |range: &str| alice.send("GET", "/film", &[("Range", range), ("Prefer", "wait=1")], "");
    assert!(range("bytes=0-262143").body == film[..262_144]);
    assert_eq!(range("bytes=262144-262149").status, 504);
    // Bob comes, and the rest from him, without another word.
    let bob = Peer::start_in(bob);
    poll("it is whole again", || (run(alice.home(), &["fsck"]).code == 0).then_some(()));
    assert!(alice.send("GET", "/film", &[], "").body == film);
    // And now bob's copy, while alice is there.
    flip(&only_file(bob.home()), 0);
    connected(&bob);
    let repaired = told(bob.home(), &["fsck", "--repair"]);
    assert_eq!(repaired["problems"], json!([]));
    assert_eq!((&repaired["files"][0]["state"], &repaired["files"][0]["bytes_here"]), (&json!("mended"), &json!(2_000_000)), "{repaired}");
    let text = repaired["repaired"][0].as_str().expect("a line");
    assert!(text.contains("film is whole again: 131072 of its 2000000 bytes were damaged"), "{text}");
    assert!(std::fs::read(only_file(bob.home())).expect("a file") == film);
}

/// What a verb says to programs that has found something.
fn told_failing(peer: &Peer, args: &[&str]) -> serde_json::Value {
    let run = run(peer.home(), &[&["--json"], args].concat());
    assert_eq!(run.code, 1, "{run:?}");
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error} in {run:?}"))
}

#[test]
fn a_damaged_file_is_broken_up_without_a_peer_that_runs_and_parts_are_looked_at_too() {
    let alice = Peer::start();
    let film = crate::files::bytes(600_000, 7);
    assert_eq!(alice.send("PUT", "/film", &[("Content-Type", "video/mp4")], &film).status, 200);
    let home = alice.stop();
    flip(&only_file(&home), 200_000);
    let mended = run(&home, &["fsck", "--repair"]);
    assert!(mended.code == 1 && mended.out.contains("468928 of its 600000 bytes are good and stay"), "{mended:?}");
    // What is left of it is damaged as well.
    let part = std::fs::read_dir(home.folder().join("blobs/part")).expect("a folder").flatten().map(|file| file.path());
    let part = part.into_iter().find(|file| file.file_name().is_some_and(|name| name.len() == 52)).expect("a part");
    flip(&part, 10);
    let checked = run(&home, &["fsck"]);
    assert!(checked.code == 1 && checked.out.contains("131072 bytes are not good"), "{checked:?}");
    let mended = run(&home, &["fsck", "--repair"]);
    assert!(mended.code == 1 && mended.out.contains("337856 of its 600000 bytes are good and stay"), "{mended:?}");
    let alice = Peer::start_in(home);
    let range = |range: &str| alice.send("GET", "/film", &[("Range", range), ("Prefer", "wait=1")], "");
    assert!(range("bytes=262144-").body == film[262_144..]);
    assert_eq!(range("bytes=0-5").status, 504);
    assert_eq!(alice.send("PUT", "/film", &[("Content-Type", "video/mp4")], &film).status, 200);
    let checked = told(alice.home(), &["fsck"]);
    assert_eq!((&checked["problems"], &checked["files"], &checked["blobs"]), (&json!([]), &json!([]), &json!(1)));
}
