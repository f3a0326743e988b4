//! What an owner is told by commands: names, keys, limits and why, as he needs them for the next command.

use serde_json::json;

use super::devices::second;
use super::neighbours::{invite, join, json as verb, pair, peers, poll, run, until_space, until_value};
use crate::peer::{Home, Peer};

fn id(peer: &Peer) -> String {
    peer.ready["id"].as_str().expect("a key").to_owned()
}

#[test]
fn nobody_has_no_space_that_could_be_empty() {
    let peer = Peer::start();
    for verb in ["ls", "tree"] {
        let told = run(peer.home(), &[verb, "@nosuch"]);
        assert!(told.code != 0 && told.err.contains("nobody is known by this name"), "{verb}: {told:?}");
        assert_eq!(run(peer.home(), &[verb, "/"]).code, 0, "the own space is empty");
    }
}

/// In a log with others, who has said what he is called is called that.
#[test]
fn the_owner_is_called_as_he_says() {
    let peer = Peer::start();
    peer.put("/notes", &json!(1));
    assert!(!run(peer.home(), &["log", "/notes"]).out.contains("Ada"));
    peer.put("/profile/name", &json!("Ada"));
    let told = run(peer.home(), &["log", "/notes"]);
    assert!(told.out.contains("Ada"), "{told:?}");
}

#[test]
fn what_was_given_is_listed_and_what_was_not_is_said_to_be_that() {
    let (alice, bob) = pair();
    alice.put("/notes/hi", &json!("for bob"));
    until_value(&bob, "/@alice/notes/hi", &json!("for bob"));
    verb(alice.home(), &["private", "/recipes"]);
    alice.put("/recipes/soup", &json!("leek"));
    let carol = Peer::start();
    join(&carol, &invite(&alice, &["--to", "/recipes"]), "alice");
    until_value(&carol, "/@alice/recipes/soup", &json!("leek"));
    // Around it nothing is hers to see, and it is there all the same.
    let listed = run(carol.home(), &["ls", "@alice"]);
    assert!(listed.code == 0 && listed.out.contains("recipes/") && listed.out.contains("1 value"), "{listed:?}");
    assert_eq!(verb(carol.home(), &["ls", "@alice"])["entries"], json!([{"name": "recipes", "below": 1}]));
    let tree = run(carol.home(), &["tree", "@alice"]);
    assert!(tree.out.contains("recipes") && tree.out.contains("soup  \"leek\""), "{tree:?}");
    for verb in [&["get", "@alice/notes/hi"][..], &["ls", "@alice/notes"], &["get", "@alice/notes/hi", "-o", "/dev/null"]] {
        let not_given = run(carol.home(), verb);
        assert!(not_given.code == 1 && not_given.err.contains("is not given to you"), "{not_given:?}");
        assert!(not_given.err.contains("`timebus why read /@alice/notes") && !not_given.err.contains("timebus put"), "{not_given:?}");
    }
    // What is given and not there is another thing; so is one's own.
    let absent = run(carol.home(), &["get", "@alice/recipes/cake"]);
    assert!(absent.code == 1 && absent.err.contains("there is nothing at /@alice/recipes/cake, as far as is known here"), "{absent:?}");
    assert!(absent.err.contains("timebus why shown") && !absent.err.contains("timebus put"), "{absent:?}");
    let own = run(carol.home(), &["get", "/recipes/cake"]);
    assert!(own.err.contains("timebus put"), "{own:?}");
    // Bob reads the rest, and not this; the pointer leads there.
    let apart = run(bob.home(), &["get", "@alice/recipes/soup"]);
    assert!(apart.code == 1 && apart.err.contains("is not given to you") && apart.err.contains("kept apart"), "{apart:?}");
    let listed = run(bob.home(), &["ls", "@alice"]).out;
    assert!(listed.contains("notes/") && listed.matches("recipes").count() <= 2, "{listed}");
}

#[test]
fn why_tells_of_limits_and_answers_for_others_what_they_are_shown() {
    let (alice, bob) = pair();
    let who = id(&bob);
    bob.put("/@alice/wall/post", &json!("hello"));
    until_value(&alice, "/wall/post", &json!("hello"));
    let write = || run(alice.home(), &["why", "write", "/wall", "--as", &who]);
    let said = write();
    assert!(said.code == 0 && said.out.contains("here in all, if you say nothing else"), "{said:?}");
    verb(alice.home(), &["limits", &who, "1MB"]);
    let said = write();
    assert!(said.out.contains("he may keep 1 MB here in all, as you said") && said.out.contains("what is more waits"), "{said:?}");
    verb(alice.home(), &["limits", &who, "10B"]);
    let said = write();
    assert!(said.out.contains("he may keep 10 bytes here in all") && said.out.contains("whatever comes now waits for your word"), "{said:?}");
    let read = run(alice.home(), &["why", "read", "/wall", "--as", &who]).out;
    assert!(!read.contains("may keep"), "to read takes no room: {read}");
    // He is told the same where he writes.
    bob.put("/@alice/wall/long", &json!("x".repeat(500)));
    poll("he is told that it waits", || run(bob.home(), &["why", "write", "@alice/wall"]).out.contains("waits until alice accepts it").then_some(()));

    verb(alice.home(), &["private", "/diary"]);
    alice.put("/diary/monday", &json!("rain"));
    let shown = |path: &str| run(alice.home(), &["why", "shown", path, "--as", &who]);
    let diary = shown("/diary/monday");
    assert!(diary.code == 1 && diary.out.contains("no: /diary/monday shows here, but") && diary.out.contains("kept apart"), "{diary:?}");
    let wall = shown("/wall/post");
    assert!(wall.code == 0 && wall.out.contains("yes: /wall/post shows, and") && wall.out.contains("wrote what is there"), "{wall:?}");
    assert_eq!(shown("/wall/none").code, 1);
    let own = run(alice.home(), &["why", "shown", "/diary/monday"]);
    assert!(own.code == 0 && own.out.contains("you wrote what is there"), "{own:?}");
}

#[test]
fn keys_and_names_are_those_that_other_commands_take() {
    let (alice, bob) = pair();
    let node = alice.value("/.sys/peers")["node"].as_str().expect("a key").to_owned();
    for args in [["id"], ["status"]] {
        let said = run(alice.home(), &args);
        assert!(said.out.contains(&node), "{args:?} tells the node key {node}: {said:?}");
    }
    assert_eq!(verb(alice.home(), &["id"])["node"], json!(node));
    // Who leaves a notice has the name there that he has among the rights.
    assert_eq!(bob.send("PUT", "/profile/name", &[("Content-Type", "application/json")], "\"Bob\"").status, 200);
    join(&alice, &invite(&bob, &[]), "robert");
    let notice = json!({"kind": "note", "target": format!("/@{}/wall", id(&alice)), "source": format!("/@{}/notes/1", id(&bob)), "body": "hi"});
    assert_eq!(bob.send("POST", &format!("/@{}/.drop", id(&alice)), &[], notice.to_string()).status, 200);
    let inbox = verb(alice.home(), &["inbox"]);
    let grants = verb(alice.home(), &["grants"]);
    let of_wall = grants["grants"].as_array().into_iter().flatten().find(|grant| grant["path"] == "/wall").expect("his grant").clone();
    assert_eq!((&inbox["notices"][0]["name"], &of_wall["name"]), (&json!("robert"), &json!("robert")), "{inbox} {grants}");
    // A stranger has the name that follows from her key.
    let eve = Peer::start();
    let known = alice.value("/.sys/peers");
    let call = json!({"node": known["node"], "addresses": known["addresses"]}).to_string();
    assert_eq!(eve.send("POST", "/.sys/peers", &[], call).status, 200);
    let notice = json!({"kind": "note", "target": format!("/@{}/wall", id(&alice)), "source": format!("/@{}/notes/1", id(&eve)), "body": "hi"});
    poll("hers comes", || {
        let _ = eve.send("POST", &format!("/@{}/.drop", id(&alice)), &[], notice.to_string());
        (verb(alice.home(), &["inbox"])["notices"].as_array().map(Vec::len) == Some(2)).then_some(())
    });
    let inbox = verb(alice.home(), &["inbox"]);
    let hers = inbox["notices"].as_array().into_iter().flatten().find(|notice| notice["space"] == id(&eve)).expect("hers").clone();
    assert_eq!(hers["name"], verb(eve.home(), &["id"])["name"]);
    // Both of his devices have what he was given, and which is which is told.
    let laptop = second(&bob);
    until_space(&laptop, "alice", "live");
    let devices = [&bob, &laptop].map(|peer| verb(peer.home(), &["id"])["device"].clone());
    poll("both are listed with their names", || {
        let grants = verb(alice.home(), &["grants"])["grants"].clone();
        let his: Vec<_> = grants.as_array().into_iter().flatten().filter(|grant| devices.contains(&grant["for"])).cloned().collect();
        let is_named = |grant: &serde_json::Value| {
            let device = grant["device"].as_str().expect("a name");
            grant["says"].as_str().is_some_and(|says| says.contains(&format!("robert (with {device}) may")))
        };
        (devices.iter().all(|device| his.iter().any(|grant| grant["for"] == *device)) && his.iter().all(is_named)).then_some(())
    });
    // What a persona is told to type on another machine is what is typed there.
    run(alice.home(), &["personas", "new", "work"]);
    let said = run(alice.home(), &["--persona", "work", "devices", "add"]);
    assert!(said.code == 0 && said.err.contains("timebus --persona work join LINK"), "{said:?}");
}

/// Changes what is remembered of a peer while nothing runs.
fn remember(home: &Home, id: &str, change: impl Fn(&mut serde_json::Value)) {
    let file = home.folder().join("peers.json");
    let mut book: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON");
    change(&mut book["contacts"][id]);
    std::fs::write(&file, book.to_string()).expect("written");
}

#[test]
fn machines_that_nobody_meets_any_more_are_only_counted() {
    let (alice, bob) = pair();
    let node = bob.value("/.sys/peers")["node"].as_str().expect("a key").to_owned();
    let _bob = bob.stop();
    let of_bob = |peer: &Peer| peers(peer).into_iter().find(|peer| peer["id"] == json!(node)).expect("known");
    poll("he is away", || (of_bob(&alice)["state"] != "connected").then_some(()));
    let short = &node[..8];
    let listed = run(alice.home(), &["peers"]);
    assert!(listed.out.contains(short), "he was here just now: {listed:?}");
    let home = alice.stop();
    remember(&home, &node, |contact| {
        for time in ["met_ms", "seen_ms"] {
            let long_ago = contact[time].as_u64().expect("a time") - 31 * 24 * 3600 * 1000;
            contact[time] = long_ago.into();
        }
    });
    let alice = Peer::start_in(home);
    assert_eq!(of_bob(&alice)["gone"], true);
    let listed = run(alice.home(), &["peers"]);
    assert!(!listed.out.contains(short) && listed.err.contains("1 machine not met for 30 days"), "{listed:?}");
    assert!(run(alice.home(), &["peers", "--all"]).out.contains(short));
    assert!(!run(alice.home(), &["doctor"]).out.contains(short), "nobody has to do anything about it");
}
