//! What others may keep here, and what happens when they want more.

use serde_json::json;
use timebus_identity::SecretKey;

use super::neighbours::{invite, join, json as verb, pair, poll, run, until_space, until_value};
use crate::peer::Peer;
use crate::socket::Socket;
use crate::who::signed::{now_s, send, signed};

#[test]
fn what_is_over_budget_waits_for_the_owner_and_comes_when_he_says_so() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    assert_eq!(verb(alice.home(), &["limits", &who, "20kB"])["bytes_max"], 20_000);
    for n in 0..10 {
        bob.put(&format!("/@alice/wall/{n}"), &json!("x".repeat(5000)));
    }
    let held = poll("a request", || verb(alice.home(), &["held"])["held"].get(0).cloned());
    let says = held["says"].as_str().expect("words");
    assert!(says.contains("kB in") && says.ends_with("for your space") && held["relation"] == "invited", "{held}");
    let shown = || alice.send("GET", "/wall", &[], "");
    assert!(shown().status == 404 || shown().json().as_object().is_some_and(|wall| wall.len() < 10), "{}", shown().text());
    until_space(&bob, "alice", "waiting");
    let words = run(bob.home(), &["peers"]);
    assert!(words.out.contains("waiting for alice to accept what you wrote"), "{words:?}");
    let put = run(bob.home(), &["put", "@alice/wall/late", "1"]);
    assert!(put.code == 0 && put.out.contains("saved here; waits for alice") && put.err.contains("more than you may keep"), "{put:?}");
    assert_eq!(verb(bob.home(), &["rm", "@alice/wall/late"])["path"], "/@alice/wall/late");
    // Everything else goes on, and who is not over his budget is not slowed down.
    alice.put("/notes", &json!(1));
    poll("all of it", || {
        for request in verb(alice.home(), &["held"])["held"].as_array().expect("a list") {
            let id = request["id"].as_str().expect("an id");
            assert_eq!(run(alice.home(), &["allow", &id[..8], "once"]).code, 0);
        }
        (shown().status == 200 && shown().json().as_object().is_some_and(|wall| wall.len() == 10)).then_some(())
    });
    let costs = verb(alice.home(), &["top"]);
    let of = |key: &str| costs["costs"].as_array().into_iter().flatten().find(|cost| cost["key"] == key).cloned().expect("listed");
    assert!(of(&who)["bytes"].as_u64().is_some_and(|bytes| bytes > 50_000) && of(&who)["changes"] == 10, "{costs}");
    assert_eq!(run(alice.home(), &["allow", "nought12"]).code, 1);
}

/// Once, up to so much, and never: each at the command line, with the peer of whoever waits connected all the time.
#[test]
fn the_owner_lets_in_up_to_a_limit_or_never() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    assert!(!run(alice.home(), &["limits", &who, "1MB"]).out.contains("already"));
    bob.put("/@alice/wall/first", &json!("x".repeat(200)));
    until_value(&alice, "/wall/first", &json!("x".repeat(200)));
    let told = run(alice.home(), &["limits", &who, "100"]);
    assert!(told.out.contains("may keep 100 B here in all, and keeps") && told.out.contains("already: nothing more"), "{told:?}");
    let shown = |path: &str| alice.send("GET", &format!("/wall/{path}"), &[], "").status == 200;
    let waits = || verb(alice.home(), &["held"])["held"].get(0).cloned();
    // A file that a change names is told, too; its bytes come when it is read.
    let film = vec![7; 200_000];
    assert!(bob.send("PUT", "/@alice/wall/a", &[("Content-Type", "video/mp4")], &film).status < 300);
    let held = poll("a request", waits);
    assert!(held["says"].to_string().contains("in 1 change, which names 1 file of 200 kB"), "{held}");
    let id = held["id"].as_str().expect("an id").to_owned();
    until_space(&bob, "alice", "waiting");
    let told = verb(alice.home(), &["allow", &id, "up", "to", "20kB"]);
    assert_eq!(told["bytes_max"], 20_000);
    poll("it comes", || shown("a").then_some(()));
    until_space(&bob, "alice", "live");
    // Within the limit nothing has to be asked any more; over it, it has.
    bob.put("/@alice/wall/b", &json!("x".repeat(5000)));
    poll("it comes by itself", || shown("b").then_some(()));
    assert_eq!(waits(), None);
    bob.put("/@alice/wall/c", &json!("x".repeat(15_000)));
    let id = poll("another request", waits)["id"].as_str().expect("an id").to_owned();
    let why = run(alice.home(), &["why", "write", "/wall", "--as", &who]);
    assert!(why.out.contains("wait for your word"), "{why:?}");
    let told = verb(alice.home(), &["allow", &id, "never"]);
    assert_eq!(told["bytes_max"], 0);
    // Nothing of his comes any more, and nothing more is asked; what was let in stays.
    bob.put("/@alice/wall/d", &json!(1));
    alice.put("/notes/mark", &json!(1));
    until_space(&bob, "alice", "waiting");
    assert_eq!((waits(), shown("a"), shown("c"), shown("d")), (None, true, false, false));
    let refused = run(alice.home(), &["allow", &id, "once"]);
    assert!(refused.code == 1 && refused.err.contains("timebus held"), "{refused:?}");
    // Until she says how much.
    assert_eq!(verb(alice.home(), &["limits", &who, "1MB"])["bytes_max"], 1_000_000);
    poll("all of it", || (shown("c") && shown("d")).then_some(()));
}

/// The same two, while somebody looks on: he is told as it happens, and has to ask for nothing.
#[test]
fn what_waits_and_what_others_cost_can_be_watched() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    verb(alice.home(), &["limits", &who, "20kB"]);
    let mut held = Socket::open(&alice);
    let first = held.request(&json!({"id": 1, "watch": "/.sys/held"}));
    assert_eq!(first["snapshot"]["held"], json!([]), "{first}");
    let mut costs = Socket::open(&alice);
    costs.request(&json!({"id": 1, "watch": "/.sys/costs"}));
    bob.put("/@alice/wall/first", &json!("x".repeat(5000)));
    let until = |socket: &mut Socket, word: &str| while !socket.hear().to_string().contains(word) {};
    // Whatever is told of a cost, its bytes have changed.
    until(&mut costs, "bytes");
    for n in 0..10 {
        bob.put(&format!("/@alice/wall/{n}"), &json!("x".repeat(5000)));
    }
    until(&mut held, "for your space");
    let id = verb(alice.home(), &["held"])["held"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(run(alice.home(), &["allow", &id, "up", "to", "1MB"]).code, 0);
    let told = held.hear();
    assert!(told["put"].as_str().or(told["delete"].as_str()).is_some_and(|at| at.starts_with("/.sys/held")), "{told}");
}

/// Bob brings far more than the first frame holds. His peer leaves out what is not taken and says how much it is; it goes on
/// getting what alice writes, and alice what others do.
#[test]
fn all_of_what_waits_is_told_and_none_of_it_comes() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    verb(alice.home(), &["limits", &who, "1kB"]);
    for n in 0..6 {
        let part: Vec<String> = (0..20).map(|at| format!("{n} {at} {}", "x".repeat(20_000))).collect();
        bob.put(&format!("/@alice/wall/bob/{n}"), &json!(part));
    }
    let words = poll("all of it is told", || {
        let held = verb(alice.home(), &["held"])["held"].get(0).cloned()?;
        let is_all = held["is_whole"] == true && held["bytes"].as_u64().is_some_and(|bytes| bytes > 2_400_000) && held["changes"] == 42;
        is_all.then(|| run(alice.home(), &["held"]).out)
    });
    assert!(words.contains("2.4 MB in 42 changes, for your space") && !words.contains("at least"), "{words}");
    until_space(&bob, "alice", "waiting");
    // Both ways all else goes on.
    alice.put("/wall/hello", &json!("from alice"));
    poll("bob hears of alice", || (bob.send("GET", "/@alice/wall/hello", &[], "").status == 200).then_some(()));
    // What he adds is told, too, while none of it comes.
    bob.put("/@alice/wall/bob/last", &json!("y".repeat(10_000)));
    poll("there is more", || (verb(alice.home(), &["held"])["held"][0]["changes"] == 43).then_some(()));
    assert_eq!(alice.send("GET", "/wall/bob", &[], "").status, 404);
    let id = verb(alice.home(), &["held"])["held"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(run(alice.home(), &["allow", &id, "once"]).code, 0);
    poll("it comes", || (alice.send("GET", "/wall/bob/last", &[], "").status == 200).then_some(()));
    assert_eq!(verb(alice.home(), &["held"])["held"], json!([]));
    until_space(&bob, "alice", "live");
}

/// Dave follows alice, and has little room for bob, of whom he knows nothing. What alice writes on top of what bob wrote comes
/// to him all the same: nobody is locked out of a space because a member of it writes too much.
#[test]
fn whoever_writes_too_much_locks_nobody_out() {
    let (alice, bob) = pair();
    let dave = Peer::start();
    join(&dave, &invite(&alice, &["--to", "/", "--can", "read"]), "alice");
    // Of bob dave knows nothing but the key that he signs with.
    let who = bob.value("/.sys/status")["device"].as_str().expect("a key").to_owned();
    verb(dave.home(), &["limits", &who, "1kB"]);
    bob.put("/@alice/wall/flood", &json!("x".repeat(50_000)));
    poll("it is at alice's", || (alice.send("GET", "/wall/flood", &[], "").status == 200).then_some(()));
    poll("dave is asked", || verb(dave.home(), &["held"])["held"].get(0).cloned());
    alice.put("/news", &json!("on top of it"));
    poll("dave hears of alice", || (dave.send("GET", "/@alice/news", &[], "").status == 200).then_some(()));
    assert_eq!(dave.send("GET", "/@alice/wall/flood", &[], "").status, 200, "what she built on came with it");
    assert_eq!(verb(dave.home(), &["held"])["held"], json!([]), "and nothing has to be asked any more");
    // It is counted as hers, who brought it; beside it bob has no more room than before.
    bob.put("/@alice/wall/more", &json!("x".repeat(50_000)));
    let held = poll("dave is asked again", || verb(dave.home(), &["held"])["held"].get(0).cloned());
    assert_eq!(held["who"], who, "{held}");
}

/// Each device that bob made had a room of its own at alice's peer.
#[test]
fn devices_of_one_person_have_one_room_over_http() {
    let (alice, bob) = pair();
    join(&alice, &invite(&bob, &[]), "bob");
    let phone = super::devices::second(&bob);
    let key = |peer: &Peer| {
        let seed = std::fs::read(peer.home().folder().join("keys/device.key")).expect("a key");
        SecretKey::from_seed(seed.try_into().expect("32 bytes"))
    };
    let (own, other) = (key(&bob), key(&phone));
    let at = std::cell::Cell::new(now_s());
    let put = |key: &SecretKey, path: &str, bytes: usize| {
        at.set(at.get() - 1);
        let body = json!("x".repeat(bytes)).to_string();
        send(&alice, "PUT", path, &signed(&alice, key, "PUT", path, &body, at.get()), &body).status
    };
    poll("the phone may write", || (put(&other, "/wall/first", 1) == 200).then_some(()));
    poll("it is known whose it is", || {
        let grants = verb(alice.home(), &["grants", "/wall"])["grants"].as_array().cloned().unwrap_or_default();
        (grants.iter().filter(|grant| grant["name"] == "bob").count() == 2).then_some(())
    });
    verb(alice.home(), &["limits", "@bob", "1MB"]);
    assert_eq!([put(&own, "/wall/1", 450_000), put(&own, "/wall/2", 450_000)], [200, 200]);
    assert_eq!([put(&other, "/wall/3", 450_000), put(&own, "/wall/3", 450_000), put(&other, "/wall/4", 50_000)], [413, 413, 200]);
    let kept = run(alice.home(), &["limits", "@bob"]);
    assert!(kept.code == 0 && kept.out.contains("and may keep 1.00 MB") && !kept.out.contains("nothing more comes"), "{kept:?}");
    // A right is for a device.
    let given = run(alice.home(), &["grant", "/table", "@bob", "--can", "write", "--quota", "100kB", "--preview"]);
    assert!((given.out.clone() + &given.err).contains("for each of the 2 devices of bob: up to 100 kB with each"), "{given:?}");
    let given = run(alice.home(), &["grant", "/table", "@bob", "--can", "write", "--preview"]);
    assert!(!(given.out.clone() + &given.err).contains("devices of bob"), "{given:?}");
}
