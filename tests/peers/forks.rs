//! Somebody signs with one key on two machines, which say different things: what counts is the same for all, and no more than he may.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use serde_json::{Value, json};

use super::neighbours::{Run, invite, join, json as verb, poll, run, until_space, until_value};
use crate::peer::{Home, PROGRAM, Peer};

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];
const OPS: &str = "application/timebus-ops";
/// Most that bob may write, and what he writes at once.
const QUOTA: &str = "20kB";
const QUOTA_BYTES: usize = 20_000;
const VALUE_BYTES: usize = 4000;

/// A copy of a home that passes for the one it was made of, as a home restored by somebody who means no good: it goes on with its key.
fn twin(home: &Home) -> Home {
    let copy = home.copy();
    let keys = copy.folder().join("keys");
    let place = std::fs::metadata(&keys).expect("the folder of the keys");
    let file = keys.join("incarnation");
    let said = std::fs::read_to_string(&file).expect("where it is");
    let lines = said.lines().map(|line| match line.starts_with("folder ") {
        true => format!("folder {} {}\n", place.dev(), place.ino()),
        false => format!("{line}\n"),
    });
    std::fs::write(&file, lines.collect::<String>()).expect("written");
    copy
}

/// A peer that talks to nobody.
fn offline(home: Home) -> Peer {
    Peer::launch_as(home, &mut Command::new(PROGRAM), &["--offline"]).unwrap_or_else(|(home, status)| panic!("{status}: {}", home.log()))
}

fn id(peer: &Peer) -> String {
    peer.ready["id"].as_str().expect("an id").to_owned()
}

fn device(peer: &Peer) -> String {
    verb(peer.home(), &["id"])["device"].as_str().expect("a key").to_owned()
}

/// All that a peer has of alice's space, as signed.
fn ops(peer: &Peer) -> Vec<u8> {
    let answer = peer.send("GET", "/@alice", &[("Accept", OPS)], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.body
}

/// Has a peer take changes into alice's space; how many were new.
fn bring(peer: &Peer, space: &str, changes: &[u8]) -> u64 {
    let answer = peer.send("POST", space, &[("Content-Type", OPS)], changes);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["refused"], json!([]), "{answer}");
    answer["admitted"].as_u64().expect("a number")
}

/// Writes below a name for as long as the quota lets it; how often that was.
fn fill(peer: &Peer, name: &str) -> u64 {
    let put = |n: &u64| peer.send("PUT", &format!("/@alice/wall/{name}/{n}"), &JSON, value(name).to_string()).status == 200;
    (0..10).take_while(put).count() as u64
}

fn value(name: &str) -> Value {
    json!(name.repeat(VALUE_BYTES / name.len()))
}

/// What `fill` wrote.
fn filled(name: &str, count: u64) -> Value {
    (0..count).map(|n| (n.to_string(), value(name))).collect::<serde_json::Map<_, _>>().into()
}

/// Waits until all have the same at the wall.
fn until_all(alice: &Peer, others: &[&Peer], wall: &Value) {
    until_value(alice, "/wall", wall);
    others.iter().for_each(|peer| until_value(peer, "/@alice/wall", wall));
}

/// The grants of alice's space that a peer believes to be in force.
fn live(peer: &Peer, space: &str) -> BTreeSet<String> {
    let grants = verb(peer.home(), &["grants", space]);
    let live = grants["grants"].as_array().into_iter().flatten().filter(|grant| grant["live"] == true);
    live.filter_map(|grant| grant["id"].as_str()).map(str::to_owned).collect()
}

fn says(run: &Run, words: &str) {
    assert!(run.out.contains(words), "{words:?} in {run:?}");
}

/// Bob fills his quota twice. One half goes to the owner, and somebody goes on with it; the other one to a reader who is elsewhere.
#[test]
fn a_quota_is_not_doubled_by_a_fork_and_all_agree_on_what_counts() {
    let alice = Peer::start();
    let [bob, carol, dave] = [(); 3].map(|()| Peer::start());
    join(&bob, &invite(&alice, &["--to", "/wall", "--can", "write", "--quota", QUOTA]), "alice");
    join(&carol, &invite(&alice, &[]), "alice");
    join(&dave, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice");
    bob.put("/@alice/wall/before", &json!(1));
    dave.put("/@alice/wall/dave", &json!(1));
    until_all(&alice, &[&bob, &carol, &dave], &json!({"before": 1, "dave": 1}));
    let bobs = id(&bob);
    let home = bob.stop();
    let other = twin(&home);
    let [left, right] = [home, other].map(offline);
    assert_eq!(device(&left), device(&right), "one key");
    let (lefts, rights) = (fill(&left, "left"), fill(&right, "right"));
    let most = (QUOTA_BYTES / VALUE_BYTES) as u64;
    assert!((2..=most).contains(&lefts) && (2..=most).contains(&rights), "{lefts} {rights}");
    let carol = offline(carol.stop());
    assert_eq!(bring(&carol, "/@alice", &ops(&right)), rights);
    assert_eq!(bring(&alice, "/", &ops(&left)), lefts);
    until_value(&carol, "/@alice/wall/right", &filled("right", rights));
    // Dave knows of no fork, and goes on with what is there.
    until_value(&dave, "/@alice/wall/left", &filled("left", lefts));
    dave.put("/@alice/wall/after", &json!(1));
    until_value(&alice, "/wall/after", &json!(1));
    // What nobody had gone on with is nothing once all know of both; the rest stays, and that is not more than he may write.
    let carol = Peer::start_in(carol.stop());
    let wall = json!({"before": 1, "dave": 1, "after": 1, "left": filled("left", lefts)});
    until_all(&alice, &[&carol, &dave], &wall);
    poll("alice has the other half, too", || (verb(alice.home(), &["quarantine"])["total"] == rights).then_some(()));
    until_all(&alice, &[&carol, &dave], &wall);
    let forked = "signed two different changes at one place of his chain";
    says(&run(alice.home(), &["why-hidden", "/wall/right/0"]), forked);
    says(&run(alice.home(), &["why", "write", "/wall", "--as", &bobs]), forked);
    says(&run(carol.home(), &["why-hidden", "@alice/wall/right/0"]), forked);
    // Nobody else is kept from anything by that, and who comes later sees the same.
    dave.put("/@alice/wall/dave", &json!(2));
    alice.put("/wall/alice", &json!(1));
    let wall = json!({"before": 1, "dave": 2, "after": 1, "alice": 1, "left": filled("left", lefts)});
    let erin = Peer::start();
    join(&erin, &invite(&alice, &[]), "alice");
    until_all(&alice, &[&carol, &dave, &erin], &wall);
    // Nor do both halves together write more.
    for half in [left, right] {
        let half = Peer::start_in(half.stop());
        until_value(&half, "/@alice/wall", &wall);
        half.send("PUT", "/@alice/wall/more", &JSON, value("more").to_string()).problem(403);
        half.stop();
    }
    assert_eq!(alice.value("/wall"), wall);
}

/// A limit that the owner sets for himself is one for all branches together, which come from each machine in turn. Dave only reads: who
/// goes on with more than that pays for it, see `costs`.
#[test]
fn what_one_may_keep_with_the_owner_is_not_doubled_by_a_fork() {
    let alice = Peer::start();
    let [bob, dave] = [(); 2].map(|()| Peer::start());
    join(&bob, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice");
    join(&dave, &invite(&alice, &[]), "alice");
    let bobs = id(&bob);
    assert_eq!(verb(alice.home(), &["limits", &bobs, QUOTA])["bytes_max"], 20_000);
    bob.put("/@alice/wall/before", &json!(1));
    until_all(&alice, &[&bob, &dave], &json!({"before": 1}));
    let home = bob.stop();
    let other = twin(&home);
    let [left, right] = [(home, "left"), (other, "right")].map(|(home, name)| {
        let peer = offline(home);
        assert_eq!(fill(&peer, name), 10, "there is no quota");
        peer.stop()
    });
    let bytes = || {
        let costs = verb(alice.home(), &["top"]);
        costs["costs"].as_array().into_iter().flatten().find(|cost| cost["key"] == bobs.as_str()).and_then(|cost| cost["bytes"].as_u64()).unwrap_or(0)
    };
    for (half, name) in [(left, "left"), (right, "right")] {
        let half = Peer::start_in(half);
        poll("it waits for alice", || verb(alice.home(), &["held"])["held"].get(0).cloned());
        until_space(&half, "alice", "waiting");
        // Everything else goes on.
        alice.put("/notes", &json!(name));
        until_value(&dave, "/@alice/notes", &json!(name));
        assert!(bytes() <= QUOTA_BYTES as u64, "{}", bytes());
        half.stop();
    }
    // He is one who asks, whatever he signed.
    assert_eq!(verb(alice.home(), &["held"])["held"].as_array().map(Vec::len), Some(1));
    let wall = alice.value("/wall");
    assert!(wall.to_string().len() < QUOTA_BYTES && wall["before"] == 1, "{wall}");
    assert!(wall.get("left").is_none() || wall.get("right").is_none(), "{wall}");
}

/// Two admins who stand beside each other; one of them says different things to different people.
#[test]
fn an_admin_who_forks_his_chain_throws_nobody_out_and_splits_nobody() {
    let alice = Peer::start();
    let [bob, carol, dave, erin] = [(); 4].map(|()| Peer::start());
    for peer in [&bob, &carol, &dave, &erin] {
        join(peer, &invite(&alice, &[]), "alice");
    }
    for peer in [&bob, &carol] {
        assert_eq!(run(alice.home(), &["grant", "/", &id(peer), "--can", "admin", "--depth", "2"]).code, 0);
    }
    poll("both may write", || {
        let may = |peer: &Peer| peer.send("PUT", &format!("/@alice/wall/{}", id(peer)), &JSON, "1").status == 200;
        (may(&bob) && may(&carol)).then_some(())
    });
    let begun = json!({id(&bob): 1, id(&carol): 1});
    until_all(&alice, &[&bob, &carol, &dave, &erin], &begun);
    let [carols, daves, erins, bobs] = [&carol, &dave, &erin, &bob].map(device);
    let home = bob.stop();
    let other = twin(&home);
    for (home, lets_in, name) in [(&home, &daves, "left"), (&other, &erins, "right")] {
        assert_eq!(run(home, &["grant", "@alice/wall", lets_in, "--can", "write"]).code, 0);
        assert_eq!(run(home, &["put", &format!("@alice/wall/{name}"), "1"]).code, 0);
        let refused = run(home, &["revoke", &carols, "@alice/"]);
        assert_eq!(refused.code, 1, "{refused:?}");
    }
    let [left, right] = [home, other].map(offline);
    let carol = offline(carol.stop());
    assert_eq!(bring(&alice, "/", &ops(&left)), 2);
    assert_eq!(bring(&carol, "/@alice", &ops(&right)), 2);
    let carol = Peer::start_in(carol.stop());
    // What is stated counts by itself, and is the same for all. What was written twice is nothing.
    until_all(&alice, &[&carol, &dave, &erin], &begun);
    poll("all know of the same grants", || {
        let of_alice = live(&alice, "/");
        let all = [&carol, &dave, &erin].map(|peer| live(peer, "@alice/"));
        all.iter().all(|other| *other == of_alice).then_some(())
    });
    for (peer, name) in [(&carol, "carol"), (&dave, "dave"), (&erin, "erin")] {
        poll("he may write", || (peer.send("PUT", &format!("/@alice/wall/{name}"), &JSON, "1").status == 200).then_some(()));
    }
    let mut wall = begun.as_object().expect("an object").clone();
    wall.extend(["carol", "dave", "erin"].map(|name| (name.to_owned(), json!(1))));
    let wall = Value::Object(wall);
    until_all(&alice, &[&carol, &dave, &erin], &wall);
    // He goes, and with him whom he let in, on whichever side.
    assert_eq!(run(alice.home(), &["revoke", &bobs, "--cascade"]).code, 0);
    for peer in [&dave, &erin] {
        poll("he may not any more", || (peer.send("PUT", "/@alice/wall/late", &JSON, "1").status == 403).then_some(()));
    }
    assert_eq!(carol.send("PUT", "/@alice/wall/carol", &JSON, "1").status, 200);
    until_all(&alice, &[&carol, &dave, &erin], &wall);
    drop((left, right));
}
