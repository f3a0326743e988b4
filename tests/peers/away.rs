//! Peers that come and go: nothing is lost, and both end with the same.

use serde_json::json;

use super::neighbours::{pair, poll, run, until, until_space, until_value};
use crate::peer::Peer;

#[test]
fn what_both_wrote_while_apart_is_there_for_both_and_conflicts_show() {
    let (alice, bob) = pair();
    alice.put("/wall/tea", &json!("green"));
    until_value(&bob, "/@alice/wall/tea", &json!("green"));
    // The cable is pulled: nobody hears of anything, and both go on.
    let away = bob.kill();
    for n in 0..50 {
        alice.put(&format!("/wall/alice/{n}"), &json!(n));
    }
    alice.put("/wall/tea", &json!("black"));
    let alone = alice.kill();
    // A command writes without a running peer, too.
    assert_eq!(run(&away, &["put", "@alice/wall/bob", "[1,2,3]"]).code, 0);
    assert_eq!(run(&away, &["put", "@alice/wall/tea", "\"white\""]).code, 0);
    let (bob, alice) = (Peer::start_in(away), Peer::start_in(alone));
    until_value(&alice, "/wall/bob", &json!([1, 2, 3]));
    let everything =
        |answer: &crate::http::Answer| answer.status == 200 && answer.json()["alice"]["49"] == 49 && answer.json()["bob"] == json!([1, 2, 3]);
    let there = until(&bob, "/@alice/wall", "everything", everything);
    let here = until(&alice, "/wall", "everything", everything);
    assert_eq!(there.json(), here.json());
    for (peer, path) in [(&alice, "/wall/tea"), (&bob, "/@alice/wall/tea")] {
        let answer = peer.send("GET", path, &[], "");
        assert_eq!(answer.header("conflicts"), Some("1"), "both changed {path}: {}", answer.text());
        let all = peer.send("GET", &format!("{path}?view=all"), &[], "").text();
        assert!(all.contains("black") && all.contains("white"), "{all}");
    }
    let told = run(bob.home(), &["conflicts", "@alice/wall"]);
    assert!(told.out.contains("black") && told.out.contains("white"), "{told:?}");
    // Whoever has seen both settles it, for both.
    bob.put("/@alice/wall/tea", &json!("mint"));
    until(&alice, "/wall/tea", "one value", |answer| answer.json() == "mint" && answer.header("conflicts").is_none_or(|count| count == "0"));
}

#[test]
fn either_side_may_restart_and_the_other_notices() {
    let (alice, bob) = pair();
    let alice = alice.restart();
    alice.put("/notes/after", &json!("her restart"));
    until_value(&bob, "/@alice/notes/after", &json!("her restart"));
    let bob = bob.restart();
    until_space(&bob, "alice", "live");
    alice.put("/notes/after", &json!("his restart"));
    until_value(&bob, "/@alice/notes/after", &json!("his restart"));
    // What is followed can be read while nobody is there, and that is said.
    let home = alice.stop();
    poll("bob notices", || Some(()).filter(|()| bob.send("GET", "/@alice/notes/after", &[], "").header("timebus-space") != Some("live")));
    assert_eq!(bob.value("/@alice/notes/after"), json!("his restart"));
    let told = run(bob.home(), &["peers"]).out;
    assert!(told.contains("@alice") && !told.contains("connected"), "{told}");
    Peer::start_in(home);
}

#[test]
fn a_third_one_joins_beside_the_second_and_they_need_no_first() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    let link = super::neighbours::invite(&alice, &["--to", "/wall", "--can", "write"]);
    assert_eq!(super::neighbours::join(&carol, &link, "alice")["result"], "connected");
    carol.put("/@alice/wall/carol", &json!(1));
    until_value(&bob, "/@alice/wall/carol", &json!(1));
    // Each was told of the other, so what one has the other gets, with the owner of the space away.
    poll("carol and bob are connected", || {
        let linked = super::neighbours::peers(&carol).iter().filter(|peer| peer["state"] == "connected").count();
        (linked == 2).then_some(())
    });
    alice.kill();
    bob.put("/@alice/wall/bob", &json!(2));
    until_value(&carol, "/@alice/wall", &json!({"bob": 2, "carol": 1}));
}

#[test]
fn who_was_away_gets_it_from_one_who_was_let_in_meanwhile() {
    let (alice, bob) = pair();
    let bob = bob.stop();
    let carol = Peer::start();
    assert_eq!(super::neighbours::join(&carol, &super::neighbours::invite(&alice, &[]), "alice")["result"], "connected");
    alice.put("/notes/late", &json!("while he was away"));
    until_value(&carol, "/@alice/notes/late", &json!("while he was away"));
    alice.kill();
    // As far as he knows, she may not have it: he would not let her, nor ask her by himself.
    let bob = Peer::start_in(bob);
    let own = bob.value("/.sys/peers");
    let call = json!({"node": own["node"], "addresses": [own["addresses"][0]]}).to_string();
    assert_eq!(carol.send("POST", "/.sys/peers", &[("Content-Type", "application/json")], call).status, 200);
    until_value(&bob, "/@alice/notes/late", &json!("while he was away"));
    // And by now he lets her.
    bob.put("/@alice/wall/bob", &json!(2));
    until_value(&carol, "/@alice/wall/bob", &json!(2));
}
