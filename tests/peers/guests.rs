//! Guests who bring guests: over several levels, no further than they were allowed, and all of them gone at once.

use std::process::Command;

use serde_json::json;

use super::neighbours::{invite, join, json as told, pair, peers as peers_of, poll, run, space, until_value};
use crate::peer::{Home, NET, PROGRAM, Peer};

#[test]
fn whoever_joined_can_invite_and_the_tree_shows_it() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    let link = invite(&bob, &["--to", "@alice/wall", "--can", "write"]);
    let card = run(carol.home(), &["join", &link]);
    assert!(card.err.contains("write at and below /wall") && card.err.contains("and let others in to the same"), "{card:?}");
    let joined = join(&carol, &link, "alice");
    assert_eq!(joined["result"], "connected", "{joined}");
    carol.put("/@alice/wall/carol", &json!("hello"));
    until_value(&alice, "/wall/carol", &json!("hello"));
    until_value(&bob, "/@alice/wall/carol", &json!("hello"));
    let answer = carol.send("PUT", "/@alice/notes/x", &[("Content-Type", "application/json")], "1");
    assert_eq!(answer.status, 403, "no more than bob may: {}", answer.text());
    let more = run(bob.home(), &["invite", "--to", "@alice/notes", "--can", "write"]);
    assert!(more.code != 0 && more.err.contains("you may not invite others to /notes"), "{more:?}");

    let dave = Peer::start();
    let link = invite(&carol, &["--to", "@alice/wall", "--can", "write", "--guests", "0"]);
    assert_eq!(join(&dave, &link, "alice")["result"], "connected");
    dave.put("/@alice/wall/dave", &json!("me too"));
    until_value(&alice, "/wall/dave", &json!("me too"));
    let further = run(dave.home(), &["invite", "--to", "@alice/wall", "--can", "write"]);
    assert!(further.code != 0 && further.err.contains("you may not invite others"), "{further:?}");

    let tree = run(alice.home(), &["invites", "--tree"]).out;
    let depths: Vec<usize> = tree.lines().map(|line| line.chars().take_while(|c| " │├└─".contains(*c)).count()).collect();
    assert_eq!(depths, [0, 4, 8, 12], "{tree}");
    let seen = told(dave.home(), &["invites", "--tree", "--of", "@alice"]);
    assert_eq!(seen["grants"].as_array().map(Vec::len), Some(4), "{seen}");

    // Who lets somebody in takes him out again, with all that came by him.
    let id = told(alice.home(), &["invites"])["invites"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(run(alice.home(), &["invites", "revoke", &id, "--grants"]).code, 0);
    poll("dave may not write any more", || {
        let answer = dave.send("PUT", "/@alice/wall/late", &[("Content-Type", "application/json")], "1");
        (answer.status == 403).then_some(())
    });
    assert!(run(alice.home(), &["invites", "--tree"]).out.matches("taken back").count() >= 1);
}

/// Bob says in his own space what he is called, and so Alice learns it when he takes her invite. Mallory, whom nobody let in, says
/// that he is called the same.
#[test]
fn a_guest_is_called_what_he_calls_himself_and_nobody_else_is() {
    let (alice, bob) = (Peer::start(), Peer::start());
    bob.put("/profile/name", &json!("Bob"));
    assert_eq!(join(&bob, &invite(&alice, &[]), "alice")["result"], "connected");
    let of_bob = || {
        let grants = told(alice.home(), &["grants"]);
        grants["grants"].as_array().map_or(0, |all| all.iter().filter(|grant| grant["name"] == "Bob").count())
    };
    assert_eq!(of_bob(), 1);
    let net = [&NET[..], &["--name", "Bob"]].concat();
    let mallory = Peer::launch_as(Home::new(), &mut Command::new(PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
    let peers = alice.value("/.sys/peers");
    let call = json!({"node": peers["node"], "addresses": [peers["addresses"][0]]}).to_string();
    assert_eq!(mallory.send("POST", "/.sys/peers", &[("Content-Type", "application/json")], &call).status, 200);
    let is_mallory = |peer: &serde_json::Value| peer["state"] == "connected" && peer["space"] == mallory.ready["id"];
    poll("mallory is there", || peers_of(&alice).iter().any(is_mallory).then_some(()));
    let granted = run(alice.home(), &["grant", "/notes", "Bob", "--can", "write"]);
    assert_eq!(granted.code, 0, "{granted:?}");
    assert!(format!("{}{}", granted.out, granted.err).contains("calls himself"), "{granted:?}");
    assert_eq!(of_bob(), 2);
    poll("bob may write", || {
        let answer = bob.send("PUT", "/@alice/notes/bob", &[("Content-Type", "application/json")], "1");
        (answer.status < 300).then_some(())
    });
    until_value(&alice, "/notes/bob", &json!(1));
}

/// A guest lets somebody in to what is not his, and the link says so before it is taken.
#[test]
fn an_invite_of_a_guest_says_whose_the_space_is() {
    let [alice, bob, carol] = [(); 3].map(|()| Peer::start());
    alice.put("/profile/name", &json!("Alice Liddell"));
    bob.put("/profile/name", &json!("bob"));
    join(&bob, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice");
    until_value(&bob, "/@alice/profile/name", &json!("Alice Liddell"));
    let link = invite(&bob, &["--to", "@alice/wall", "--can", "write"]);
    let card = run(carol.home(), &["join", &link]);
    let key = timebus_identity::human_name(&alice.ready["id"].as_str().expect("an id").parse().expect("a key"));
    let says = format!("of Alice Liddell (as the link says, whose key is called {key}), and not of bob");
    assert!(card.code == 2 && card.err.contains(&says) && card.err.contains("from   bob\n"), "{card:?}");
    let joined = run(carol.home(), &["join", &link, "--yes"]);
    assert!(joined.code == 0 && joined.out.contains("the space of Alice Liddell") && joined.out.contains("by invite of bob"), "{joined:?}");
    assert_eq!(space(&carol, "Alice-Liddell")["space"], alice.ready["id"]);
    let own = run(carol.home(), &["join", &invite(&alice, &["--to", "/wall", "--can", "write"])]);
    assert!(own.err.contains("from   Alice Liddell   whose key is called") && !own.err.contains("and not of"), "{own:?}");
}
