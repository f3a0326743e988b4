//! Damage on one disk is mended with what others have, and what a peer knows of others survives in a backup.

use std::process::Command;

use serde_json::json;

use super::neighbours::{finish, invite, join, json as told, pair, peers, poll, program, run, until_value};
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
