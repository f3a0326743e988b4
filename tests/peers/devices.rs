//! Several homes of one person.

use std::process::Command;

use serde_json::json;

use super::neighbours::{invite, join, json as verb, poll, program, run, until_value};
use crate::peer::{Home, NET, PROGRAM, Peer};

/// A second device of somebody, running.
pub(super) fn second(first: &Peer) -> Peer {
    let link = run(first.home(), &["devices", "add", "--note", "laptop"]).out.trim().to_owned();
    let home = Home::new();
    let joined = program(&home, &["--json", "join", &link, "--yes"]).args(NET).output().expect("the program runs");
    let (out, err) = (String::from_utf8_lossy(&joined.stdout), String::from_utf8_lossy(&joined.stderr));
    assert!(joined.status.success(), "{err}");
    let joined: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&joined["result"], &joined["id"]), (&json!("connected"), &first.ready["id"]), "{joined} {err}");
    assert!(!home.folder().join("keys/root.key").exists(), "the root key stays where it is");
    Peer::start_in(home)
}

#[test]
fn two_devices_are_one_person_until_one_is_removed() {
    let first = Peer::start();
    first.put("/notes/a", &json!(1));
    let second = second(&first);
    assert_eq!(second.value("/notes/a"), 1);
    second.put("/notes/b", &json!(2));
    until_value(&first, "/notes", &json!({"a": 1, "b": 2}));
    first.put("/notes/a", &json!(3));
    until_value(&second, "/notes", &json!({"a": 3, "b": 2}));
    let log = run(first.home(), &["log", "/notes"]).out;
    let name = verb(first.home(), &["id"])["name"].as_str().expect("a name").to_owned();
    assert_eq!(log.lines().filter(|line| line.contains(&name)).count(), 3, "both devices carry the owner's name:\n{log}");
    let device = verb(second.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    assert_eq!(run(second.home(), &["devices", "remove", &device]).code, 1, "a device does not remove itself");
    let listed = verb(first.home(), &["devices"]);
    assert_eq!(listed["devices"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(run(first.home(), &["devices", "remove", &device[..10]]).code, 0);
    poll("the removed device may not write", || {
        let answer = second.send("PUT", "/notes/late", &[("Content-Type", "application/json")], "1");
        (answer.status == 403).then_some(())
    });
    first.put("/notes/only", &json!("first"));
    assert_eq!(first.value("/notes/b"), 2, "what it wrote before stays");
    assert_eq!(verb(first.home(), &["devices"])["devices"].as_array().map(Vec::len), Some(1));
    assert_eq!(second.send("GET", "/notes/only", &[], "").status, 404, "it gets nothing new");
}

/// Whoever has a stolen device makes another one with it, which would be one of the owner's for ever if nobody said so.
#[test]
fn what_a_stolen_device_made_is_named_and_can_go_with_it() {
    let first = Peer::start();
    let stolen = second(&first);
    let (third, fourth) = (second(&stolen), second(&stolen));
    let id = |peer: &Peer, what: &str| verb(peer.home(), &["id"])[what].as_str().expect("text").to_owned();
    let keys = |told: &serde_json::Value, list: &str| -> Vec<String> {
        let mut keys: Vec<String> = told[list].as_array().into_iter().flatten().filter_map(|one| one["device"].as_str().map(str::to_owned)).collect();
        keys.sort();
        keys
    };
    let count = |count: usize| (verb(first.home(), &["devices"])["devices"].as_array().map(Vec::len) == Some(count)).then_some(());
    poll("all are known", || count(4));
    assert_eq!(run(third.home(), &["devices", "remove", &id(&stolen, "device"), "--made"]).code, 1, "it would take itself out");
    // Who came in by way of one that it made is named, too; asking does nothing.
    let guest = Peer::start();
    guest.put("/profile/name", &json!("Gus"));
    assert_eq!(join(&guest, &invite(&third, &["--to", "/wall", "--can", "write"]), "owner")["result"], "connected");
    poll("the guest is known", || first.value("/.sys/grants").to_string().contains("Gus").then_some(()));
    for (made, also) in [(false, 0), (true, 2)] {
        let asked = json!({"who": id(&stolen, "device"), "made": made, "preview": true}).to_string();
        let told = first.send("POST", "/.sys/devices/remove", &[], asked).json();
        assert_eq!((keys(&told, "also").len(), keys(&told, "stay").len()), (also, 2 - also), "{told}");
        assert_eq!((&told["guests"], &told["hidden"], &told["preview"]), (&json!(["Gus"]), &json!(0), &json!(true)), "{told}");
    }
    assert!(count(4).is_some(), "asking removes nothing");
    let told = verb(first.home(), &["devices", "remove", &id(&stolen, "device")]);
    let mut made = vec![id(&third, "device"), id(&fourth, "device")];
    made.sort();
    assert_eq!((keys(&told, "stay"), keys(&told, "also")), (made, vec![]), "{told}");
    let last = second(&third);
    poll("that is known, too", || count(4));
    let asked = json!({"who": id(&third, "device"), "made": true, "preview": true}).to_string();
    let told = first.send("POST", "/.sys/devices/remove", &[], asked).json();
    assert_eq!((keys(&told, "stay"), keys(&told, "also")), (vec![], vec![id(&last, "device")]), "{told}");
    let said = run(first.home(), &["devices", "remove", &id(&third, "device"), "--made"]);
    assert!(said.code == 0 && said.out.contains("Gus came in by way of it, and may go on:") && said.out.contains("revoke Gus"), "{said:?}");
    for peer in [&stolen, &third, &last] {
        poll("it may not write any more", || {
            (peer.send("PUT", "/notes/late", &[("Content-Type", "application/json")], "1").status == 403).then_some(())
        });
    }
    fourth.put("/notes/still", &json!(4));
    until_value(&first, "/notes", &json!({"still": 4}));
}

/// A friend let one device in; what it may do there, the other may too, until the friend or the owner says otherwise.
#[test]
fn what_a_friend_allowed_one_device_the_other_may_do_too() {
    let (alice, bob) = super::neighbours::pair();
    let second = second(&bob);
    poll("the second device may write", || {
        let answer = second.send("PUT", "/@alice/wall/second", &[("Content-Type", "application/json")], "2");
        (answer.status == 200).then_some(())
    });
    until_value(&alice, "/wall/second", &json!(2));
    alice.put("/notes/for", &json!("both"));
    until_value(&second, "/@alice/notes/for", &json!("both"));
    let tree = run(alice.home(), &["invites", "--tree"]).out;
    assert!(tree.contains("by invite") && tree.contains("    └── "), "the second device hangs on the first:\n{tree}");
    let device = verb(second.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    assert_eq!(run(bob.home(), &["devices", "remove", &device[..10]]).code, 0);
    poll("it may not any more", || {
        let answer = second.send("PUT", "/@alice/wall/late", &[("Content-Type", "application/json")], "1");
        (answer.status == 403).then_some(())
    });
}

/// Bob came by a link of the laptop, by which he may bring others. The phone throws him out, and the link goes with him.
#[test]
fn whom_one_device_let_in_the_other_throws_out() {
    let [laptop, bob, carol] = [(); 3].map(|()| Peer::start());
    let phone = second(&laptop);
    let link = super::neighbours::invite(&laptop, &["--to", "/club", "--can", "write", "--uses", "5"]);
    assert_eq!(super::neighbours::join(&bob, &link, "alice")["result"], "connected");
    bob.put("/@alice/club/early", &json!(1));
    until_value(&phone, "/club/early", &json!(1));
    let who = bob.ready["id"].as_str().expect("an id");
    let told = poll("the phone knows him", || Some(run(phone.home(), &["revoke", who, "--preview"])).filter(|told| told.code == 0));
    assert!(told.out.contains("was made on") && told.out.contains("take it back there"), "{told:?}");
    let told = run(phone.home(), &["revoke", who, "--with-invite"]);
    assert!(told.code == 0 && told.out.contains("is taken back, too, when"), "{told:?}");
    poll("he may not write any more", || {
        let answer = bob.send("PUT", "/@alice/club/late", &[("Content-Type", "application/json")], "1");
        (answer.status == 403).then_some(())
    });
    poll("the laptop has heard of it", || (verb(laptop.home(), &["invites"])["invites"][0]["state"] == "revoked").then_some(()));
    let refused = run(carol.home(), &["join", &link, "--yes", "--as", "alice"]);
    assert_ne!(refused.code, 0, "{refused:?}");
}

/// Follows of one device are those of the other, with their names, whoever of them began, and so is their end.
#[test]
fn whom_one_device_follows_the_other_follows_too() {
    let (alice, bob) = super::neighbours::pair();
    let second = second(&bob);
    let key = alice.ready["id"].as_str().expect("an id").to_owned();
    alice.put("/notes/for", &json!("both"));
    let has = |peer: &Peer, path: &str| (peer.send("GET", path, &[], "").status == 200).then_some(());
    poll("the second device has the friend's space", || has(&second, "/@alice/notes/for"));
    verb(second.home(), &["follow", &key, "--as", "ada"]);
    poll("the name is on the first device, too", || has(&bob, "/@ada/notes/for"));
    verb(bob.home(), &["unfollow", "ada"]);
    poll("the other device does not follow any more", || {
        let spaces = second.value("/.sys/spaces")["spaces"].clone();
        let is_followed = |space: &serde_json::Value| space["space"] == key && space["is_followed"] == true;
        spaces.as_array().is_some_and(|spaces| !spaces.iter().any(is_followed)).then_some(())
    });
    // The owner's own space is on no such list, and goes both ways as before.
    assert!(!second.send("GET", "/lists", &[], "").text().contains(bob.ready["id"].as_str().expect("an id")));
    second.put("/notes/late", &json!(1));
    until_value(&bob, "/notes/late", &json!(1));
}

#[test]
fn a_device_link_makes_a_home_and_changes_none() {
    let (first, other) = (Peer::start(), Peer::start());
    let link = run(first.home(), &["devices", "add"]).out.trim().to_owned();
    let refused = run(other.home(), &["join", &link, "--yes"]);
    assert!(refused.code == 1 && refused.err.contains("a folder that does not exist yet"), "{refused:?}");
    let home = Home::new();
    let asked = run(&home, &["join", &link]);
    assert!(asked.code == 2 && asked.err.contains("becomes a device") && !home.folder().exists(), "{asked:?}");
    let id = verb(first.home(), &["invites"])["invites"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(run(first.home(), &["invites", "revoke", &id]).code, 0);
    let late = super::neighbours::finish(program(&home, &["join", &link, "--yes"]).args(NET));
    assert!(late.code == 1 && late.err.contains("refused") && !home.folder().join("keys").exists(), "{late:?}");
}

#[test]
fn a_device_whose_partner_is_off_goes_on_when_it_is_back() {
    let first = Peer::start();
    first.put("/notes", &json!(1));
    let link = run(first.home(), &["devices", "add"]).out.trim().to_owned();
    let off = first.stop();
    let home = Home::new();
    let waiting = super::neighbours::finish(program(&home, &["join", &link, "--yes"]).args(NET));
    assert!(waiting.code == 0 && waiting.out.starts_with("waiting for the other device"), "{waiting:?}");
    let second = Peer::launch(home, &mut Command::new(PROGRAM)).unwrap_or_else(|(home, _)| panic!("{}", home.log()));
    second.send("PUT", "/mine", &[("Content-Type", "application/json")], "1").problem(403);
    let first = Peer::start_in(off);
    until_value(&second, "/notes", &json!(1));
    second.put("/mine", &json!(2));
    until_value(&first, "/mine", &json!(2));
}

/// Another device of the owner's has a peer of its own. Over HTTP it is a guest here, and is told so.
#[test]
fn another_device_of_the_owner_is_a_guest_over_http() {
    use crate::who::signed::{now_s, send, signed};
    let first = Peer::start();
    let phone = second(&first);
    let seed = std::fs::read(phone.home().folder().join("keys/device.key")).expect("a key");
    let key = timebus_identity::SecretKey::from_seed(seed.try_into().expect("32 bytes"));
    let at = std::cell::Cell::new(now_s());
    let ask = |method: &str, path: &str, body: &str| {
        at.set(at.get() - 1);
        send(&first, method, path, &signed(&first, &key, method, path, body, at.get()), body)
    };
    let refused = ask("GET", "/.sys/status", "").problem(403);
    assert!(refused["detail"].to_string().contains("another device of its owner's"), "{refused}");
    let refused = ask("PUT", "/profile/name", "\"x\"").problem(403);
    assert!(refused["detail"].to_string().contains("for another device") && refused["fix"].to_string().contains("your own device"), "{refused}");
    assert_eq!(ask("PUT", "/x", "1").status, 200);
    let id = key.public().to_string();
    let why = |args: &[&str]| run(first.home(), &[&["why"], args].concat());
    let told = why(&["write", "/profile/name", "--as", &id]);
    assert!(told.code == 0 && told.out.contains("over HTTP this one takes it for a guest"), "{told:?}");
    let told = why(&["write", "/x", "--as", &id]);
    assert!(told.out.starts_with("yes: ") && !told.out.contains("for a guest"), "{told:?}");
    let told = why(&["read", "/.sys/status", "--as", &id]);
    assert!(told.out.starts_with("no: ") && told.out.contains("is another device of yours"), "{told:?}");
    let own = verb(first.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    for args in [&["read", "/.sys/status"][..], &["read", "/.sys/status", "--as", &own], &["read", "/.sys/status", "--as", "me"]] {
        let told = why(args);
        assert!(told.code == 0 && told.out.starts_with("yes: "), "{told:?}");
    }
}
