//! Notices: what strangers leave in an inbox, how it gets there, and who counts it.

use serde_json::{Value, json};

use super::devices::second;
use super::neighbours::{invite, join, json as verb, poll, run, until_value};
use crate::peer::Peer;
use crate::socket::Socket;

fn id(peer: &Peer) -> String {
    peer.ready["id"].as_str().expect("a key").to_owned()
}

/// Makes one peer call another, of which it knows nothing but where it is.
fn call(from: &Peer, to: &Peer) {
    let known = to.value("/.sys/peers");
    let body = json!({"node": known["node"], "addresses": known["addresses"]}).to_string();
    assert_eq!(from.send("POST", "/.sys/peers", &[], body).status, 200);
    poll("they are connected", || {
        let peers = from.value("/.sys/peers");
        let all = peers["peers"].as_array().cloned().unwrap_or_default();
        all.iter().any(|peer| peer["space"] == id(to) && peer["state"] == "connected").then_some(())
    });
}

fn like(from: &Peer, to: &Peer) -> Value {
    json!({"kind": "like", "target": format!("/@{}/posts/1", id(to)), "source": format!("/@{}/likes/1", id(from))})
}

fn drop_of(peer: &Peer) -> String {
    format!("/@{}/.drop", id(peer))
}

fn counts(peer: &Peer, path: &str) -> (i64, i64) {
    let refs = peer.value(&format!("/.sys/refs{path}"));
    (refs["counts"]["like"].as_i64().unwrap_or(0), refs["confirmed"]["like"].as_i64().unwrap_or(0))
}

#[test]
fn a_like_of_a_stranger_arrives_is_counted_confirmed_and_taken_back() {
    let (alice, bob) = (Peer::start(), Peer::start());
    alice.put("/posts/1", &json!({"text": "hello"}));
    call(&bob, &alice);
    let notice = like(&bob, &alice);
    bob.put("/likes/1", &json!({"kind": "like", "target": notice["target"]}));
    let left = bob.send("POST", &drop_of(&alice), &[], notice.to_string());
    assert_eq!((left.status, left.json()["state"].clone()), (200, json!("delivered")), "{}", left.text());
    let inbox = alice.value("/.drop");
    let slots: Vec<&Value> = inbox.as_object().expect("senders").values().flat_map(|slots| slots.as_object().expect("slots").values()).collect();
    assert_eq!((slots.len(), &slots[0]["kind"], &slots[0]["confirmed"]), (1, &json!("like"), &Value::Null), "{inbox}");
    assert_eq!(counts(&alice, "/posts/1"), (1, 0), "it is counted, and it cannot be told whether it is true");
    assert_eq!(alice.value("/.sys/refs/posts/1")["refs"][0]["from"], json!(["inbox"]));
    assert_eq!(alice.value("/"), json!({"posts": {"1": {"text": "hello"}}}), "nothing else has changed");
    assert_eq!(counts(&alice, "/posts/2"), (0, 0));

    // The same again is the same.
    assert_eq!(bob.send("POST", &drop_of(&alice), &[], notice.to_string()).status, 200);
    assert_eq!(counts(&alice, "/posts/1"), (1, 0));
    // Once Alice may read Bob's space, she sees for herself.
    join(&alice, &invite(&bob, &[]), "bob");
    poll("it is confirmed", || (counts(&alice, "/posts/1") == (1, 1)).then_some(()));
    assert_eq!(alice.value("/.sys/refs/posts/1")["refs"][0]["from"], json!(["followed", "inbox"]));
    // A reader of her own counts it too, from what he holds.
    assert_eq!(counts(&bob, &format!("/@{}/posts/1", id(&alice))), (1, 1));

    assert_eq!(bob.send("DELETE", "/likes/1", &[], "").status, 200);
    poll("what is not there any more is not counted", || (counts(&alice, "/posts/1") == (0, 0)).then_some(()));
    assert_eq!(bob.send("DELETE", &drop_of(&alice), &[], notice.to_string()).status, 200);
    assert_eq!(alice.value("/.drop"), json!({}));
}

#[test]
fn who_is_away_is_waited_for_and_that_is_what_is_said() {
    let (alice, bob) = (Peer::start(), Peer::start());
    call(&bob, &alice);
    let notice = like(&bob, &alice);
    let target = drop_of(&alice);
    let home = alice.stop();
    poll("bob notices", || bob.value("/.sys/peers")["peers"].as_array()?.iter().all(|peer| peer["state"] != "connected").then_some(()));
    let left = bob.send("POST", &target, &[], notice.to_string());
    assert_eq!((left.status, left.json()["state"].clone()), (202, json!("waiting")), "{}", left.text());
    assert!(left.json()["seen_ms"].as_u64().is_some_and(|seen| seen > 0), "{}", left.text());
    let sent = run(bob.home(), &["inbox", "sent"]);
    assert!(sent.out.contains("waiting for them, last seen"), "{sent:?}");
    // Also over a restart of the sender.
    let bob = bob.restart();
    let alice = Peer::start_in(home);
    call(&alice, &bob);
    poll("it is delivered", || (verb(bob.home(), &["inbox", "sent"])["notices"][0]["state"] == "delivered").then_some(()));
    assert_eq!(counts(&alice, "/posts/1"), (1, 0));
    let shown = run(alice.home(), &["refs", "/posts/1"]);
    assert!(shown.code == 0 && shown.out.contains("like  1"), "{shown:?}");
}

#[test]
fn an_inbox_is_its_owners_to_look_into_to_empty_and_to_close() {
    let (alice, bob) = (Peer::start(), Peer::start());
    call(&bob, &alice);
    let notice = like(&bob, &alice);
    let target = drop_of(&alice);
    for (what, wrong) in [
        ("somebody else's words", json!({"kind": "like", "target": notice["target"], "source": notice["target"]})),
        ("another target", json!({"kind": "like", "target": notice["source"], "source": notice["source"]})),
        ("no kind", json!({"target": notice["target"], "source": notice["source"]})),
        ("too much", json!({"kind": "reply", "target": notice["target"], "source": notice["source"], "body": "x".repeat(5000)})),
    ] {
        let status = bob.send("POST", &target, &[], wrong.to_string()).status;
        assert!(matches!(status, 400 | 403), "{what}: {status}");
    }
    bob.send("GET", &target, &[], "").problem(403);
    assert_eq!(bob.send("POST", &target, &[], notice.to_string()).status, 200);
    let listed = verb(alice.home(), &["inbox"]);
    assert_eq!((&listed["notices"][0]["kind"], &listed["senders"]), (&json!("like"), &json!(1)), "{listed}");
    assert_eq!(run(alice.home(), &["inbox", "purge", &id(&bob)]).code, 0);
    assert_eq!(alice.value("/.drop"), json!({}));
    assert_eq!(run(alice.home(), &["inbox", "close"]).code, 0);
    let refused = bob.send("POST", &target, &[], notice.to_string());
    assert_eq!(refused.status, 202, "it waits: she may open it again");
    assert!(refused.json()["problem"].as_str().is_some_and(|problem| problem.contains("takes no notices")), "{}", refused.text());
    // It is not offered again and again, but the owner can ask again.
    assert_eq!(run(alice.home(), &["inbox", "open"]).code, 0);
    let again = run(bob.home(), &["inbox", "send", "like", &format!("@{}/posts/1", id(&alice)), "--from", "/likes/1"]);
    assert!(again.code == 0 && again.out.contains("delivered"), "{again:?}");
    // Whoever is blocked is heard no more.
    assert_eq!(run(alice.home(), &["block", &id(&bob)]).code, 0);
    assert_eq!(counts(&alice, "/posts/1"), (0, 0));
}

#[test]
fn whether_another_peer_has_a_write_can_be_watched() {
    let (alice, bob) = (Peer::start(), Peer::start());
    join(&bob, &invite(&alice, &[]), "alice");
    let mut socket = Socket::open(&alice);
    let written = socket.request(&json!({"id": 1, "put": "/posts/1", "value": "hello", "at": true}));
    let at = written["at"].as_i64().unwrap_or_else(|| panic!("{written}"));
    socket.say(&json!({"id": 2, "watch": "/.sys/synced"}));
    let first = socket.hear();
    let mut upto = first["snapshot"]["upto"].clone();
    while upto.as_i64().unwrap_or_else(|| panic!("{first}")) < at {
        let told = socket.hear();
        if told["put"] == "/.sys/synced/upto" {
            upto = told["value"].clone();
        }
    }
    assert_eq!(bob.value(&format!("/@{}/posts/1", id(&alice))), "hello");
}

#[test]
fn whether_a_notice_has_arrived_can_be_watched() {
    let (alice, bob) = (Peer::start(), Peer::start());
    call(&bob, &alice);
    let (notice, target, standing) = (like(&bob, &alice), drop_of(&alice), format!("/.sys/synced{}", drop_of(&alice)));
    assert_eq!(bob.value(&standing), json!({"notices": {}}));
    let home = alice.stop();
    poll("bob notices", || bob.value("/.sys/peers")["peers"].as_array()?.iter().all(|peer| peer["state"] != "connected").then_some(()));
    let left = bob.send("POST", &target, &[], notice.to_string()).json();
    let id = left["id"].as_str().unwrap_or_else(|| panic!("{left}"));
    let mut socket = Socket::open(&bob);
    let first = socket.request(&json!({"id": 1, "watch": standing}));
    assert_eq!(first["snapshot"]["notices"][id]["state"], "waiting", "{first}");
    // A later one in the same slot stands for it.
    let gone = bob.send("DELETE", &target, &[], notice.to_string()).json();
    let later = gone["id"].as_str().unwrap_or_else(|| panic!("{gone}"));
    let alice = Peer::start_in(home);
    call(&alice, &bob);
    poll("it is delivered", || {
        let notices = bob.value(&standing)["notices"].clone();
        (notices[later]["state"] == "delivered" && notices.get(id).is_none()).then_some(())
    });
    loop {
        let told = socket.hear().to_string();
        if told.contains(later) && told.contains("delivered") {
            break;
        }
    }
}

/// What is kept apart has a log of its own, and is on another peer when that peer may read it and has it, not before.
#[test]
fn whether_another_peer_has_what_is_kept_apart_is_asked_there() {
    let (alice, bob) = (Peer::start(), Peer::start());
    for number in 0..20 {
        alice.put(&format!("/posts/{number}"), &json!("for all"));
    }
    assert_eq!(run(alice.home(), &["private", "/diary"]).code, 0);
    join(&bob, &invite(&alice, &[]), "alice");
    let kept = alice.send("PUT", "/diary/1", &[("Content-Type", "text/plain"), ("Prefer", "arrival")], "for me");
    let arrival = kept.header("arrival").unwrap_or_else(|| panic!("{}", kept.text())).to_owned();
    let (number, log) = arrival.split_once(' ').expect("a number and a log");
    let number: u64 = number.parse().expect("a number");
    let open = alice.send("PUT", "/posts/open", &[("Content-Type", "application/json"), ("Prefer", "arrival")], "1");
    let (of_open, other) = open.header("arrival").and_then(|arrival| arrival.split_once(' ')).expect("a number and a log");
    let of_open: u64 = of_open.parse().expect("a number");
    assert!(log != other && number < of_open, "{arrival} {other}");
    poll("bob has what is open", || (alice.value("/.sys/synced")["upto"].as_u64() >= Some(of_open)).then_some(()));
    assert_eq!(alice.value("/.sys/synced/diary/1"), json!({"upto": 0}), "nobody else may have it");
    assert_eq!(run(alice.home(), &["grant", "/diary", &id(&bob), "--can", "read"]).code, 0);
    poll("bob has what he was let in to", || (alice.value("/.sys/synced/diary")["upto"].as_u64() >= Some(number)).then_some(()));
}

#[test]
fn the_own_inbox_has_two_names_and_a_page_that_comes_back_is_told_all_of_it() {
    let alice = Peer::start();
    let notice = json!({"kind": "like", "target": format!("/@{}/posts/1", id(&alice)), "source": format!("/@{}/likes/1", id(&alice))});
    assert_eq!(alice.send("POST", "/.drop", &[], notice.to_string()).status, 200);
    let mut socket = Socket::open(&alice);
    let whole = socket.request(&json!({"id": 1, "watch": "/.drop"}))["snapshot"].clone();
    assert!(whole.to_string().contains("\"like\""), "{whole}");
    let again = socket.request(&json!({"id": 2, "watch": drop_of(&alice), "from": ["of before"]}));
    assert_eq!(again["snapshot"], whole, "{again}");
}

/// Alice does not want to hear Bob; her phone knows it, Carol, who reads her space, does not.
#[test]
fn who_is_muted_is_left_out_and_who_is_blocked_is_turned_away_on_all_devices() {
    let laptop = Peer::start();
    let (phone, bob, carol) = (second(&laptop), Peer::start(), Peer::start());
    laptop.put("/posts/1", &json!({"text": "hello"}));
    join(&laptop, &invite(&bob, &[]), "bob");
    join(&carol, &invite(&laptop, &[]), "alice");
    call(&bob, &laptop);
    let notice = like(&bob, &laptop);
    bob.put("/likes/1", &json!({"kind": "like", "target": notice["target"]}));
    // At once, or when her laptop has shown that it is hers.
    assert!(matches!(bob.send("POST", &drop_of(&laptop), &[], notice.to_string()).status, 200 | 202));
    poll("it is counted", || (counts(&laptop, "/posts/1") == (1, 1)).then_some(()));
    let muted = |peer: &Peer| peer.value("/.sys/lists")["muted"].clone();
    assert_eq!(muted(&laptop), json!([]));
    assert_eq!(verb(laptop.home(), &["mute", "@bob"])["muted"], true);
    assert_eq!((muted(&laptop)[0]["who"].clone(), muted(&laptop)[0]["name"].clone()), (json!(id(&bob)), json!("bob")));
    assert_eq!((counts(&laptop, "/posts/1"), laptop.value("/.drop")), ((0, 0), json!({})));
    let told = run(laptop.home(), &["mute"]);
    assert!(told.out.contains("muted") && told.out.contains("bob"), "{told:?}");
    // He is still read, if he is asked for.
    bob.put("/more", &json!(1));
    until_value(&laptop, "/@bob/more", &json!(1));
    poll("the phone knows it", || (muted(&phone)[0]["who"] == id(&bob).as_str()).then_some(()));
    // What is after the list in her space has come to Carol, and the list has not.
    laptop.put("/posts/2", &json!(2));
    until_value(&carol, "/@alice/posts/2", &json!(2));
    assert!(!carol.send("GET", "/@alice", &[], "").text().contains(&id(&bob)));
    assert_ne!(carol.send("GET", "/@alice/lists/muted", &[], "").status, 200);
    assert_eq!(verb(laptop.home(), &["unmute", "@bob"])["muted"], false);
    assert_eq!(counts(&laptop, "/posts/1"), (1, 1));

    let blocks = |peer: &Peer| {
        let book = std::fs::read_to_string(peer.home().folder().join("peers.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&book).is_ok_and(|book| book["blocked"].to_string().contains(&id(&bob)))
    };
    assert_eq!(run(laptop.home(), &["block", "@bob"]).code, 0);
    poll("both devices block him", || (blocks(&laptop) && blocks(&phone)).then_some(()));
    assert_eq!((counts(&laptop, "/posts/1"), laptop.value("/.drop")), ((0, 0), json!({})));
    // What the phone takes back holds on the laptop, too.
    phone.send("POST", "/.sys/block", &[], json!({"who": id(&bob), "blocked": false}).to_string());
    poll("neither does", || (!blocks(&laptop) && !blocks(&phone)).then_some(()));
}

/// Whoever says that he is of a space would be told what is said to it, and it would seem to be delivered.
#[test]
fn a_notice_is_given_to_who_proves_that_he_is_of_the_space() {
    let (alice, bob) = (Peer::start(), Peer::start());
    // It has no root key, and Bob holds nothing that names it.
    let phone = second(&alice);
    call(&bob, &phone);
    let notice = like(&bob, &alice);
    let left = bob.send("POST", &drop_of(&alice), &[], notice.to_string());
    assert_eq!(left.status, 202, "{}", left.text());
    assert!(left.json()["problem"].as_str().is_some_and(|problem| problem.contains("nothing here proves it")), "{}", left.text());
    assert_eq!(phone.value("/.drop"), json!({}));
    // Once Bob knows by her rights whose the phone is, it is.
    join(&bob, &invite(&alice, &[]), "alice");
    drop(alice.stop());
    poll("it is delivered", || (verb(bob.home(), &["inbox", "sent"])["notices"][0]["state"] == "delivered").then_some(()));
}
