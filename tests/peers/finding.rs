use std::net::UdpSocket;
use std::process::Command;

use serde_json::{Value, json};

use super::neighbours::{invite, join, json, pair, poll, run, until};
use crate::peer::{Home, NET, PROGRAM, Peer};

fn connected(peer: &Peer) -> Vec<String> {
    let peers = peer.value("/.sys/peers");
    let all = peers["peers"].as_array().cloned().unwrap_or_default();
    all.iter().filter(|peer| peer["state"] == "connected").filter_map(|peer| Some(peer["space"].as_str()?.to_owned())).collect()
}

fn space(peer: &Peer) -> String {
    peer.ready["id"].as_str().expect("a key").to_owned()
}

/// What somebody says about himself, as far as a peer knows.
fn record(peer: &Peer, who: &str) -> Option<Value> {
    let found = json(peer.home(), &["find", who]);
    found["nodes"].as_array()?.iter().map(|node| node["record"].clone()).find(|record| !record.is_null())
}

#[test]
fn who_has_moved_is_found_through_those_who_know_also_when_he_is_away() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    join(&carol, &invite(&alice, &[]), "alice");
    poll("carol and bob know each other", || connected(&carol).contains(&space(&bob)).then_some(()));
    let first = poll("bob has heard of alice", || record(&bob, "@alice"));
    assert_eq!(first["inbox"].as_array().map(Vec::len), Some(1));
    let bob = bob.stop();
    // Alice moves, and only carol is there to see it.
    let home = alice.stop();
    let free = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let alice = Peer::launch_as(home, &mut Command::new(PROGRAM), &["--no-lan", "--udp", &address]).unwrap_or_else(|_| panic!("starts"));
    let says = |record: &Value| record["addresses"].as_array().is_some_and(|all| all.iter().any(|one| one.as_str() == Some(&address)));
    let newer = poll("carol has heard of it", || record(&carol, "@alice").filter(says));
    assert!(newer["seq"].as_u64() > first["seq"].as_u64(), "{first} {newer}");
    let home = alice.stop();
    // Bob comes back, and alice is away.
    let bob = Peer::start_in(bob);
    let told = poll("carol has told bob", || record(&bob, "@alice").filter(says));
    assert_eq!(told, newer);
    assert!(run(bob.home(), &["find", "@alice"]).out.contains(&address));
    drop(home);
}

#[test]
fn a_stranger_is_not_told_where_others_are() {
    let (alice, bob) = pair();
    let mallory = Peer::start();
    // He knows where bob is, and nothing of alice but her key.
    let peers = bob.value("/.sys/peers");
    let address = peers["addresses"][0].as_str().expect("an address").to_owned();
    let call = json!({"node": peers["node"], "addresses": [address]}).to_string();
    let called = mallory.send("POST", "/.sys/peers", &[("Content-Type", "application/json")], call);
    assert_eq!(called.status, 200, "{}", called.text());
    poll("mallory reaches bob", || connected(&mallory).contains(&space(&bob)).then_some(()));
    poll("bob has heard of alice", || record(&bob, "@alice"));
    let found = json(mallory.home(), &["find", &space(&alice)]);
    assert_eq!((found["asked"].as_u64(), found["nodes"].as_array().map(Vec::len)), (Some(1), Some(0)), "{found}");
    // Where bob himself is he may hear.
    poll("bob says where he is", || record(&mallory, &space(&bob)));
}

#[test]
fn whoever_comes_to_a_busy_peer_is_sent_to_others_and_hears_of_changes_from_them() {
    let net = [&NET[..], &["--links", "2"]].concat();
    let alice = Peer::launch_as(Home::new(), &mut Command::new(PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
    let (bob, carol) = (Peer::start(), Peer::start());
    alice.put("/feed/1", &json!("first"));
    join(&bob, &invite(&alice, &[]), "alice");
    until(&bob, "/@alice/feed/1", "the first post", |answer| answer.status == 200);
    join(&carol, &invite(&alice, &[]), "alice");
    until(&carol, "/@alice/feed/1", "the first post", |answer| answer.status == 200);
    poll("carol is linked to bob and not to alice", || (connected(&carol) == [space(&bob)]).then_some(()));
    alice.put("/feed/2", &json!("second"));
    until(&carol, "/@alice/feed/2", "a change that alice made since", |answer| answer.status == 200);
    assert_eq!(connected(&alice), [space(&bob)]);
}

/// Strangers have all links that a peer lets others open, and prove nothing but keys that they made for it.
#[test]
fn strangers_do_not_keep_out_who_has_an_invite_or_took_one() {
    let net = [&NET[..], &["--links", "2"]].concat();
    let alice = Peer::launch_as(Home::new(), &mut Command::new(PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
    let peers = alice.value("/.sys/peers");
    let call = json!({"node": peers["node"], "addresses": [peers["addresses"][0]]}).to_string();
    let strangers = [(); 3].map(|()| Peer::start());
    for stranger in &strangers {
        let called = stranger.send("POST", "/.sys/peers", &[("Content-Type", "application/json")], &call);
        assert_eq!(called.status, 200, "{}", called.text());
    }
    poll("they are all there", || (connected(&alice).len() == 3).then_some(()));
    let bob = Peer::start();
    assert_eq!(join(&bob, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice")["result"], "connected");
    // He comes back while they go on.
    let bob = Peer::start_in(bob.stop());
    poll("bob is back", || connected(&alice).contains(&space(&bob)).then_some(()));
    bob.put("/@alice/wall/1", &json!("hello"));
    until(&alice, "/wall/1", "what bob wrote", |answer| answer.status == 200);
}
