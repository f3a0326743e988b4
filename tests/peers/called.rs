//! What devices and people are called, by whom, and where.

use serde_json::{Value, json};

use super::devices::second;
use super::neighbours::{invite, join, json as verb, pair, peers, poll, run, until_value};
use super::succession::place;
use crate::peer::{Home, NET, PROGRAM, Peer};

/// A peer that calls itself something.
fn named(home: Home, name: &str) -> Peer {
    let net = [&NET[..], &["--name", name]].concat();
    Peer::launch_as(home, &mut std::process::Command::new(PROGRAM), &net).unwrap_or_else(|(home, _)| panic!("{}", home.log()))
}

fn names(peer: &Peer, list: &str) -> Vec<String> {
    let listed = verb(peer.home(), &["devices"]);
    let mut names: Vec<String> = listed[list].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

/// Alice follows Bob, whose space she may not have, and he takes another link of hers.
#[test]
fn a_guest_who_is_followed_is_still_one_person() {
    let alice = Peer::start();
    let bob = named(Home::new(), "Bob");
    let bobs = bob.ready["id"].as_str().expect("an id").to_owned();
    assert_eq!(join(&bob, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice")["result"], "connected");
    verb(alice.home(), &["follow", &bobs]);
    assert_eq!(join(&bob, &invite(&alice, &["--to", "/desk", "--can", "write"]), "alice")["result"], "connected");
    for who in ["Bob", &bobs] {
        let why = verb(alice.home(), &["why", "write", "/desk", "--as", who]);
        assert_eq!(why["allowed"], true, "{who}: {why}");
        let plan = verb(alice.home(), &["revoke", who, "--preview"]);
        assert!(plan["dead"].as_array().is_some_and(|dead| dead.len() >= 2), "{who}: {plan}");
    }
}

/// Alice has a desk and a laptop, which is thrown out while no peer of hers runs.
#[test]
fn a_device_has_a_name_and_keeps_it_when_it_is_thrown_out() {
    let (alice, bob) = pair();
    let laptop = named(second(&alice).stop(), "laptop");
    assert_eq!(run(alice.home(), &["devices", "name", "desk"]).code, 0);
    for peer in [&alice, &laptop] {
        poll("all devices know the names", || (names(peer, "devices") == ["desk", "laptop"]).then_some(()));
    }
    let taken = run(alice.home(), &["devices", "name", "Laptop"]);
    assert!(taken.code == 4 && taken.err.contains("this name is taken"), "{taken:?}");
    let bad = run(alice.home(), &["devices", "name", "river-otter-61"]);
    assert!(bad.code != 0 && bad.err.contains("no name of a key"), "{bad:?}");
    let blank = run(alice.home(), &["devices", "name", "   "]);
    assert!(blank.code != 0 && blank.err.contains("up to 64 bytes"), "{blank:?}");
    assert_eq!(run(alice.home(), &["devices", "name", " desk "]).code, 0);
    assert_eq!(names(&alice, "devices"), ["desk", "laptop"]);
    // Whose device it was shows to others by what it wrote.
    laptop.put("/notes/mine", &json!(1));
    until_value(&bob, "/@alice/notes/mine", &json!(1));
    poll("the laptop is among her machines", || run(alice.home(), &["peers"]).out.contains("laptop (yours)").then_some(()));
    let (node, address) = place(&laptop);
    verb(bob.home(), &["follow", "@alice", "--node", &node, "--at", &address]);
    let is_laptop = |peer: &Value| peer["id"] == node.as_str() && peer["state"] == "connected";
    poll("bob is connected with it", || peers(&bob).iter().any(is_laptop).then_some(()));

    // A command alone lists them, and throws one out by its name.
    let home = alice.stop();
    let listed = run(&home, &["devices"]);
    assert!(
        listed.code == 0 && listed.out.contains("laptop") && listed.out.contains("desk") && listed.err.contains("no peer runs here"),
        "{listed:?}"
    );
    let itself = run(&home, &["rotate", "--without", "desk"]);
    assert!(itself.code == 1 && itself.err.contains("the device that you type on"), "{itself:?}");
    let rotated = run(&home, &["rotate", "--without", "laptop"]);
    assert!(rotated.code == 0 && rotated.out.contains("laptop has no rights any more"), "{rotated:?}");
    let alice = Peer::start_in(home);
    assert_eq!((names(&alice, "devices"), names(&alice, "former")), (vec!["desk".to_owned()], vec!["laptop".to_owned()]));
    let again = run(alice.home(), &["devices", "remove", "laptop"]);
    assert!(again.code == 1 && again.err.contains("none of your devices any more"), "{again:?}");
    let taken = run(alice.home(), &["devices", "name", "laptop"]);
    assert!(taken.code == 4 && taken.err.contains("take it from that one"), "{taken:?}");
    let all = run(alice.home(), &["peers", "--all"]).out;
    assert!(all.contains("laptop, thrown out") && !all.contains("(yours)"), "{all}");
    let (node, address) = place(&alice);
    verb(bob.home(), &["follow", "@alice", "--node", &node, "--at", &address]);
    let seen = poll("bob knows, too", || {
        let seen = run(bob.home(), &["peers", "--all"]).out;
        seen.contains("laptop, thrown out by alice").then_some(seen)
    });
    let rows = |name: &str| seen.lines().take_while(|line| !line.starts_with("SPACE")).filter(|line| line.starts_with(name)).count();
    assert_eq!(rows("@alice"), 1, "{seen}");
    // What the thrown out one is told leads to the same as what doctor says.
    let refused = poll("the laptop may not write", || {
        let refused = run(laptop.home(), &["put", "/notes/late", "1"]);
        (refused.code == 1).then_some(refused)
    });
    assert!(refused.err.contains("begin with a new folder") && !refused.err.contains("kit --recover"), "{refused:?}");
    let refused = run(laptop.home(), &["devices", "name", "thief"]);
    assert!(refused.code == 1 && refused.err.contains("begin with a new folder") && !refused.err.contains("kit --recover"), "{refused:?}");
    let status = run(laptop.home(), &["status"]).out;
    assert!(status.contains("one of its owner's no more"), "{status}");
}

/// What a machine calls itself is nothing to whoever is invited by a person.
#[test]
fn an_invite_is_of_the_person_and_not_of_the_machine() {
    let (alice, bob) = (named(Home::new(), "laptop"), Peer::start());
    let of = |link: &str| {
        let asked = json!({"link": link, "confirm": false}).to_string();
        bob.send("POST", "/.sys/join", &[("Content-Type", "application/json")], asked).json()["inviter"].clone()
    };
    assert_eq!(of(&invite(&alice, &["--to", "/wall", "--can", "write"])), "laptop");
    alice.put("/profile/name", &json!("Ada"));
    assert_eq!(of(&invite(&alice, &["--to", "/wall", "--can", "write"])), "Ada");
}

/// Whoever has the laptop calls it as the phone is called, and the phone as the laptop is, so that Alice throws out her phone.
#[test]
fn a_stolen_device_has_no_other_one_thrown_out_by_its_name() {
    let alice = Peer::start();
    let laptop = named(second(&alice).stop(), "laptop");
    let phone = named(second(&alice).stop(), "phone");
    let evil = named(second(&laptop).stop(), "x;y");
    let key = |peer: &Peer| verb(peer.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    let (laptop_key, phone_key) = (key(&laptop), key(&phone));
    let device = |peer: &Peer, key: &str| {
        let listed = verb(peer.home(), &["devices"]);
        listed["devices"].as_array().into_iter().flatten().find(|one| one["device"] == key).cloned().unwrap_or_default()
    };
    let seen = |peer: &Peer, key: &str, name: &str| device(peer, key)["name"] == name;
    for peer in [&alice, &laptop] {
        poll("the names are known", || (seen(peer, &phone_key, "phone") && seen(peer, &laptop_key, "laptop")).then_some(()));
    }
    poll("the last one is known", || seen(&alice, &key(&evil), "x;y").then_some(()));
    for names in [&[phone_key.as_str(), "tmp"][..], &["phone"], &[phone_key.as_str(), "laptop"]] {
        let renamed = run(laptop.home(), &[&["devices", "name"], names].concat());
        assert_eq!(renamed.code, 0, "{renamed:?}");
    }
    poll("alice hears of it", || (device(&alice, &phone_key)["said"]["name"] == "laptop" && seen(&alice, &laptop_key, "phone")).then_some(()));
    let told = device(&alice, &phone_key);
    assert_eq!((&told["name"], &told["said"]["by"], &told["said"]["is_heeded"]), (&told["key_name"], &json!(laptop_key), &json!(false)), "{told}");
    let listed = run(alice.home(), &["devices"]).out;
    assert!(listed.contains("called laptop by phone"), "{listed}");
    let of_key = told["key_name"].as_str().expect("a name");
    let refused = run(alice.home(), &["devices", "remove", "laptop"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    for part in ["only phone says", of_key, "your device since", "--yes"] {
        assert!(refused.err.contains(part), "{part} is missing in {}", refused.err);
    }
    // What Alice calls it herself counts where she did, and commands to copy are for a shell.
    assert_eq!(run(alice.home(), &["devices", "name", &phone_key, "mobile"]).code, 0);
    assert!(seen(&alice, &phone_key, "mobile"));
    let removed = run(alice.home(), &["devices", "remove", &laptop_key[..10]]);
    assert!(removed.code == 0 && removed.out.contains("devices remove 'x;y'"), "{removed:?}");
    assert!(removed.err.contains("your device since") && removed.err.contains("it calls itself phone"), "{removed:?}");
    // What it says itself it goes by everywhere; and the same is asked when the root says that one is gone.
    assert_eq!(run(phone.home(), &["devices", "name", "handy"]).code, 0);
    poll("it goes by what it says itself", || seen(&alice, &phone_key, "handy").then_some(()));
    assert_eq!(run(phone.home(), &["devices", "name", &key(&evil), "notebook"]).code, 0);
    poll("the last one is called so", || (device(&alice, &key(&evil))["said"]["name"] == "notebook").then_some(()));
    let home = alice.stop();
    let before = run(&home, &["kit"]).out;
    let refused = run(&home, &["rotate", "--without", "notebook"]);
    assert!(refused.code == 2 && refused.err.contains("only handy says"), "{refused:?}");
    assert_eq!(run(&home, &["kit"]).out, before, "nothing was changed");
    let rotated = run(&home, &["rotate", "--without", "notebook", "--yes"]);
    assert!(rotated.code == 0 && rotated.err.contains("called notebook by handy"), "{rotated:?}");
}

/// Carol follows Alice before she takes an invite of hers, over the link that there is.
#[test]
fn who_takes_an_invite_over_a_link_that_there_is_is_called_by_his_name() {
    let (alice, carol) = (Peer::start(), Peer::start());
    let (node, address) = place(&alice);
    let id = alice.ready["id"].as_str().expect("an id");
    verb(carol.home(), &["follow", id, "--node", &node, "--at", &address]);
    poll("they are connected", || peers(&carol).iter().any(|peer| peer["state"] == "connected").then_some(()));
    carol.put("/profile/name", &json!("Carol"));
    join(&carol, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice");
    poll("she has her name at Alice's", || (run(alice.home(), &["revoke", "Carol", "--preview"]).code == 0).then_some(()));
    let invites = run(alice.home(), &["invites"]).out;
    assert!(invites.contains("└── Carol"), "{invites}");
    for verb in [&["find", "carol"][..], &["limits", "carol"]] {
        let known = run(alice.home(), verb);
        assert_eq!(known.code, 0, "{verb:?}: {known:?}");
    }
    let limit = run(alice.home(), &["limits", "Carol"]).out;
    assert!(limit.contains("may keep") && limit.contains("if you say nothing else"), "{limit}");
    verb(alice.home(), &["limits", "Carol", "2GB"]);
    let limit = verb(alice.home(), &["limits", "Carol"]);
    assert_eq!((&limit["bytes_max"], &limit["said"]), (&json!(2_000_000_000u64), &json!(true)), "{limit}");
    // A name of Alice's own, for which nobody has to be followed.
    verb(alice.home(), &["peers", "name", "Carol", "cary"]);
    poll("she is called so", || run(alice.home(), &["peers"]).out.contains("@cary").then_some(()));
    assert_eq!(run(alice.home(), &["revoke", "cary", "--preview"]).code, 0);
    let spaces = alice.value("/.sys/spaces")["spaces"].clone();
    assert!(spaces.as_array().is_some_and(|all| all.iter().all(|space| space["is_followed"] == false)), "she is not followed: {spaces}");
    let doctor = run(alice.home(), &["doctor"]);
    assert!(!doctor.out.contains("ask its owner for an invite"), "{doctor:?}");
    verb(alice.home(), &["peers", "name", "cary", ""]);
    poll("she is called as she calls herself", || (!run(alice.home(), &["peers"]).out.contains("@cary")).then_some(()));
    // Her space is not here, which is another thing than that nobody is called so.
    let of = run(alice.home(), &["personas", "of", "carol"]);
    assert!(of.err.contains("nobody here knows the space"), "{of:?}");
}

#[test]
fn who_says_his_name_after_he_joined_is_called_so_at_once() {
    let (alice, bob) = pair();
    bob.put("/profile/name", &json!("Bob"));
    poll("he has his name at Alice's", || (run(alice.home(), &["revoke", "Bob", "--preview"]).code == 0).then_some(()));
    bob.put("/profile/name", &json!("Robert"));
    poll("he has another one", || run(alice.home(), &["peers"]).out.contains("Robert").then_some(()));
    bob.put("/@alice/wall/still", &json!(1));
    poll("they go on", || (alice.send("GET", "/wall/still", &[], "").status == 200).then_some(()));
}
