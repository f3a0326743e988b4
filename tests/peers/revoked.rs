//! Somebody is thrown out: with all his devices, and he is told so.

use serde_json::{Value, json};
use timebus_identity::human_name;

use super::devices::second;
use super::neighbours::{invite, join, json as verb, pair, poll, run, until_space, until_value};
use super::succession::{place, typed, words};
use crate::peer::{Home, NET, Peer};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn device(peer: &Peer) -> String {
    verb(peer.home(), &["id"])["device"].as_str().expect("a key").to_owned()
}

fn name(peer: &Peer) -> String {
    verb(peer.home(), &["id"])["name"].as_str().expect("a name").to_owned()
}

fn may_write(peer: &Peer, path: &str) -> bool {
    peer.send("PUT", path, &[JSON], "1").status == 200
}

fn until_in(peer: &Peer, path: &str) {
    poll("he may write", || may_write(peer, path).then_some(()));
}

fn until_out(peer: &Peer, path: &str) {
    poll("he may not write any more", || (peer.send("PUT", path, &[JSON], "1").status == 403).then_some(()));
}

/// The keys of an answer's list.
fn keys(answer: &Value, list: &str) -> Vec<String> {
    let mut keys: Vec<String> = answer[list].as_array().into_iter().flatten().filter_map(|one| one["key"].as_str().map(str::to_owned)).collect();
    keys.sort();
    keys
}

/// Those for whom some grant of a peer's own space is in force, but its owner.
fn held(peer: &Peer) -> Vec<String> {
    let own = device(peer);
    let grants = verb(peer.home(), &["grants"]);
    let live = grants["grants"].as_array().into_iter().flatten().filter(|grant| grant["live"] == true);
    live.filter_map(|grant| grant["for"].as_str()).filter(|key| *key != own).map(str::to_owned).collect()
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

/// Bob was let in with one device, and that let in his other one. Neither of them gives the other anything back.
#[test]
fn who_is_thrown_out_is_out_with_all_his_devices() {
    let (alice, bob) = pair();
    assert_eq!(run(alice.home(), &["private", "/secret"]).code, 0);
    assert_eq!(join(&bob, &invite(&alice, &["--to", "/secret", "--can", "write"]), "alice")["result"], "connected");
    let second = second(&bob);
    for path in ["/@alice/wall/second", "/@alice/secret/second"] {
        until_in(&second, path);
    }
    let both = sorted(vec![device(&bob), device(&second)]);
    // Only what is kept apart, at first.
    let part = verb(alice.home(), &["revoke", &name(&bob), "/secret"]);
    assert_eq!(keys(&part, "devices"), both, "{part}");
    assert!(
        part["says"].to_string().contains("wall") && part["still"].as_array().is_some_and(|still| !still.is_empty()),
        "what he still may: {part}"
    );
    for peer in [&bob, &second] {
        until_out(peer, "/@alice/secret/late");
        until_in(peer, "/@alice/wall/still");
    }
    let plan = verb(alice.home(), &["revoke", &name(&bob), "--preview"]);
    assert_eq!(keys(&plan, "devices"), both, "{plan}");
    let done = verb(alice.home(), &["revoke", &name(&bob)]);
    assert!(done["says"].to_string().contains("2 devices"), "{done}");
    for what in ["who", "revoked", "dead", "devices", "stay", "still", "hidden", "kept", "changes"] {
        assert_eq!(plan[what], done[what], "what was promised");
    }
    let promised = plan["says"].to_string().replace("would be hidden", "is hidden");
    let says = done["says"].to_string();
    assert!(promised == says && promised.contains("no change is hidden"), "{plan} {done}");
    for peer in [&bob, &second] {
        until_out(peer, "/@alice/wall/late");
    }
    alice.put("/secret/new", &json!(1));
    assert_eq!(held(&alice), Vec::<String>::new());
    for peer in [&bob, &second] {
        assert_ne!(peer.send("GET", "/@alice/secret/new", &[], "").status, 200);
    }
    // Each is asked about by the name that is shown of it.
    let why = run(alice.home(), &["why", "write", "/wall", "--as", &human_name(&device(&second).parse().expect("a key"))]);
    assert!(why.code == 1 && why.out.starts_with("no: "), "{why:?}");
    // Who is let in again is so with all of them.
    assert_eq!(join(&bob, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice")["result"], "connected");
    until_in(&second, "/@alice/wall/again");
}

/// Each of them took an invite of his own, and what one has it hands on to the other.
#[test]
fn what_each_device_was_given_falls_with_the_person() {
    let (alice, bob) = pair();
    let second = second(&bob);
    until_in(&second, "/@alice/wall/second");
    assert_eq!(join(&second, &invite(&alice, &["--to", "/table", "--can", "write"]), "alice")["result"], "connected");
    for peer in [&second, &bob] {
        until_in(peer, "/@alice/table/x");
    }
    let both = sorted(vec![device(&bob), device(&second)]);
    poll("alice knows of both", || {
        let plan = verb(alice.home(), &["revoke", &name(&bob), "--preview"]);
        (plan["dead"].as_array().map(Vec::len) == Some(4) && keys(&plan, "devices") == both).then_some(())
    });
    assert_eq!(run(alice.home(), &["revoke", &name(&bob)]).code, 0);
    for (peer, path) in [(&bob, "/@alice/wall/y"), (&second, "/@alice/wall/y"), (&second, "/@alice/table/y"), (&bob, "/@alice/table/y")] {
        until_out(peer, path);
    }
    assert_eq!(held(&alice), Vec::<String>::new());
}

/// `grants` shows a device of somebody by a name of its own, and by that it can be thrown out alone.
#[test]
fn one_device_of_somebody_can_be_thrown_out_by_its_name() {
    let (alice, bob) = pair();
    let second = second(&bob);
    until_in(&second, "/@alice/wall/second");
    let its = device(&second);
    let shown = poll("alice knows", || {
        let grants = verb(alice.home(), &["grants"]);
        let found = grants["grants"].as_array().into_iter().flatten().find(|grant| grant["for"] == its.as_str()).cloned();
        found.and_then(|grant| grant["name"].as_str().map(str::to_owned))
    });
    let gone = verb(alice.home(), &["revoke", &shown]);
    assert_eq!(keys(&gone, "devices"), [its], "{gone}");
    assert!(gone["says"].to_string().contains(&format!("timebus revoke {}", name(&bob))), "who gave it may give it again: {gone}");
    until_out(&second, "/@alice/wall/late");
    until_in(&bob, "/@alice/wall/first");
    until_value(&alice, "/wall/first", &json!(1));
    assert_eq!(held(&alice), [device(&bob)]);
}

/// Whom he let in stays unless that is wanted, and that is said.
#[test]
fn guests_of_somebody_who_is_thrown_out_are_named() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    assert_eq!(join(&carol, &invite(&bob, &["--to", "@alice/wall", "--can", "write"]), "alice")["result"], "connected");
    until_in(&carol, "/@alice/wall/carol");
    until_value(&alice, "/wall/carol", &json!(1));
    let plan = verb(alice.home(), &["revoke", &name(&bob), "--preview"]);
    assert_eq!(keys(&plan, "stay"), [device(&carol)], "{plan}");
    // The flag is of the terminal, and pages show the words as they are.
    let says = plan["says"].to_string();
    assert!(says.contains("and stay, unless what they have is taken back, too") && !says.contains("--cascade"), "{plan}");
    let shown = run(alice.home(), &["revoke", &name(&bob), "--preview"]);
    assert!(shown.err.contains("--cascade takes back what those have, too"), "{shown:?}");
    let plan = verb(alice.home(), &["revoke", &name(&bob), "--preview", "--cascade"]);
    assert_eq!((keys(&plan, "stay"), plan["dead"].as_array().map(Vec::len)), (vec![], Some(2)), "{plan}");
}

#[test]
fn a_member_who_is_removed_is_out_with_all_his_devices() {
    let (alice, bob) = (Peer::start(), Peer::start());
    let choir = verb(alice.home(), &["community", "new", "choir", "--called", "Alice"]);
    let link = invite(&alice, &["--to", "@choir", "--can", "member"]);
    assert_eq!(verb(bob.home(), &["community", "join", &link, "--yes", "--called", "Bob"])["result"], "connected");
    let second = second(&bob);
    let (node, address) = place(&alice);
    verb(second.home(), &["follow", choir["community"].as_str().expect("a key"), "--node", &node, "--at", &address, "--as", "choir"]);
    let part = format!("/@choir/board/{}", device(&bob));
    let posts = |peer: &Peer| peer.send("POST", &part, &[JSON], "\"hello\"").status;
    for peer in [&bob, &second] {
        poll("he may post", || (posts(peer) == 201).then_some(()));
    }
    let removed = verb(alice.home(), &["community", "remove", "choir", "Bob"]);
    assert_eq!(removed["keys"].as_array().map(Vec::len), Some(2), "{removed}");
    for peer in [&bob, &second] {
        poll("he may not", || (posts(peer) == 403).then_some(()));
    }
    let rights = verb(alice.home(), &["grants", "@choir"]);
    let his = [device(&bob), device(&second)];
    let is_his = |grant: &&Value| grant["live"] == true && grant["for"].as_str().is_some_and(|key| his.iter().any(|his| his == key));
    assert_eq!(rights["grants"].as_array().into_iter().flatten().find(is_his), None);
}

/// Bob says of Alice's own device that it is one of his. What it may do is hers all the same, and no reason to keep him.
#[test]
fn who_hands_something_on_to_the_owner_is_thrown_out_all_the_same() {
    let (alice, bob) = pair();
    let own = device(&alice);
    let wanted = json!({"path": "@alice/wall", "who": own, "can": "read", "label": format!("device:{}", &own[..16])});
    let given = bob.send("POST", "/.sys/grant", &[JSON], wanted.to_string());
    assert_eq!(given.status, 200, "{}", given.text());
    let grants = || verb(alice.home(), &["grants"])["grants"].as_array().map_or(0, Vec::len);
    let before = grants();
    poll("alice knows what he said", || (before > 2 || grants() > 2).then_some(()));
    let told = verb(alice.home(), &["revoke", &name(&bob)]);
    assert_eq!(keys(&told, "devices"), [device(&bob)], "{told}");
    until_out(&bob, "/@alice/wall/late");
    alice.put("/wall/still", &json!(1));
}

/// What the owner calls somebody is what he means, whatever some grant's id begins with.
#[test]
fn a_name_goes_before_the_beginning_of_an_id() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    let grants = verb(alice.home(), &["grants"]);
    let his = grants["grants"].as_array().into_iter().flatten().find(|grant| grant["for"] == device(&bob).as_str());
    let called = his.and_then(|grant| grant["id"].as_str()).expect("bob has a grant")[..6].to_owned();
    assert_eq!(join(&carol, &invite(&alice, &["--to", "/table", "--can", "write"]), "alice")["result"], "connected");
    let named = json!({"who": carol.ready["id"], "name": called});
    poll("she is known", || (alice.send("POST", "/.sys/petname", &[JSON], named.to_string()).status == 200).then_some(()));
    let plan = poll("alice knows her device", || {
        let told = run(alice.home(), &["--json", "revoke", &called, "--preview"]);
        let plan: Value = serde_json::from_str(&told.out).ok()?;
        (keys(&plan, "devices") == [device(&carol)]).then_some(plan)
    });
    assert_eq!(plan["dead"].as_array().map(Vec::len), Some(1), "{plan}");
    let whole = his.and_then(|grant| grant["id"].as_str()).expect("an id");
    assert_eq!(keys(&verb(alice.home(), &["revoke", whole, "--preview"]), "devices"), [device(&bob)]);
}

/// Others who have no right any more either are still connected, and have as much as he has.
#[test]
fn who_may_not_read_any_more_is_told_so() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    join(&carol, &invite(&alice, &[]), "alice");
    join(&carol, &invite(&bob, &[]), "bob");
    alice.put("/notes/old", &json!(1));
    for peer in [&bob, &carol] {
        until_value(peer, "/@alice/notes/old", &json!(1));
    }
    for who in [&bob, &carol] {
        assert_eq!(run(alice.home(), &["revoke", &name(who)]).code, 0);
    }
    alice.put("/notes/new", &json!(2));
    for peer in [&bob, &carol] {
        until_space(peer, "alice", "denied");
        let answer = peer.send("GET", "/@alice/notes/new", &[], "");
        assert_eq!((answer.status, answer.header("timebus-space")), (403, Some("denied")), "{}", answer.text());
        let kept = peer.send("GET", "/@alice/notes/old", &[], "");
        assert_eq!((kept.status, kept.header("timebus-space")), (200, Some("denied")), "what he has, he keeps");
        let words = run(peer.home(), &["get", "@alice/notes/new"]);
        assert!(words.code == 1 && words.err.contains("ask the owner for an invite"), "{words:?}");
    }
    // Who is let in again hears of it.
    join(&carol, &invite(&alice, &[]), "alice");
    until_space(&carol, "alice", "live");
    until_value(&carol, "/@alice/notes/new", &json!(2));
}

/// Who let him in did not let him bring anybody, and so not his other device.
#[test]
fn a_device_that_was_given_nothing_is_told_so() {
    let (alice, bob) = (Peer::start(), Peer::start());
    join(&bob, &invite(&alice, &["--guests", "0"]), "alice");
    alice.put("/notes", &json!(1));
    until_value(&bob, "/@alice/notes", &json!(1));
    let second = second(&bob);
    until_space(&second, "alice", "denied");
    let listed = run(second.home(), &["ls", "@alice"]);
    assert!(listed.code == 1 && listed.err.contains("ask the owner for an invite"), "{listed:?}");
    assert_eq!(second.send("GET", "/@alice/notes", &[], "").status, 403);
}

/// Alice let Bob in, and has his space, too. His words are on paper.
fn friends() -> (Peer, Peer, String) {
    let (alice, bob) = pair();
    assert_eq!(run(alice.home(), &["private", "/secret"]).code, 0);
    assert_eq!(join(&bob, &invite(&alice, &["--to", "/secret", "--can", "write"]), "alice")["result"], "connected");
    join(&alice, &invite(&bob, &[]), "bob");
    let home = bob.stop();
    let kit = words(&verb(&home, &["kit"]));
    assert_eq!(typed(&home, &["kit", "--confirm"], &kit).code, 0);
    let bob = Peer::start_in(home);
    bob.put("/notes", &json!("mine"));
    until_value(&alice, "/@bob/notes", &json!("mine"));
    until_in(&bob, "/@alice/wall/first");
    (alice, bob, kit)
}

/// Bob's space on a new machine, from somebody who holds it.
fn recover(from: &Peer, kit: &str, more: &[&str]) -> (Home, String) {
    let (node, address) = place(from);
    let home = Home::new();
    let recovered = typed(&home, &[&["recover", "--node", &node, "--at", &address], more, &NET[..]].concat(), kit);
    assert_eq!(recovered.code, 0, "{recovered:?}");
    (home, recovered.out)
}

/// Whom he followed is of his old machine.
fn follow(peer: &Peer, whom: &Peer, name: &str) {
    let (node, address) = place(whom);
    let space = whom.ready["id"].as_str().expect("an id").to_owned();
    verb(peer.home(), &["follow", &space, "--node", &node, "--at", &address, "--as", name]);
}

/// What Alice says about Bob, whose old device has no right any more and whose new one has all of them.
fn is_told(alice: &Peer, old: &str, new: &Peer) {
    let grants = verb(alice.home(), &["grants"]);
    let his: Vec<&Value> = grants["grants"].as_array().expect("grants").iter().collect();
    let old_ones = |is_live: bool| his.iter().filter(|grant| grant["for"] == old && grant["live"] == is_live).count();
    let is_instead = |grant: &&&Value| grant["for"] == device(new).as_str() && grant["live"] == true && grant["instead_of"].is_string();
    assert_eq!((old_ones(true), old_ones(false), his.iter().filter(is_instead).count()), (0, 2, 2), "{grants}");
    let shown = run(alice.home(), &["grants", "--all"]);
    assert!(shown.out.contains("bob (a device of before) may") && shown.out.contains("which is a device of his no more"), "{shown:?}");
    let why = run(alice.home(), &["why", "write", "/wall", "--as", "bob"]);
    assert!(why.code == 0 && why.out.starts_with("yes: bob may write /wall"), "{why:?}");
    let doctor = run(alice.home(), &["doctor"]);
    assert!(doctor.out.contains("his root key says so") && doctor.out.contains("if he knows nothing of that"), "{doctor:?}");
}

/// Bob's machine is gone. Alice has his space, and had let him into hers.
#[test]
fn what_a_recovered_device_has_no_right_to_is_said_until_the_lost_one_is_out() {
    let (alice, bob, kit) = friends();
    let old = device(&bob);
    drop(bob.stop());
    let why = run(alice.home(), &["why", "write", "/wall", "--as", "bob"]);
    assert_eq!(why.code, 0, "{why:?}");
    let (home, told) = recover(&alice, &kit, &[]);
    assert!(told.contains("rotate --without") && told.contains("not    what friends let your other devices do"), "{told}");
    assert!(told.contains("not    your places in communities") && told.contains("not    what friends made you a guardian of"), "{told}");
    let back = format!("follow {} --as ", alice.ready["id"].as_str().expect("an id"));
    assert!(told.contains("not    the spaces of friends") && told.contains(&back), "{told}");
    let bob = Peer::start_in(home);
    assert_eq!(bob.value("/notes"), "mine");
    poll("alice says that the new device has no right", || {
        let why = run(alice.home(), &["why", "write", "/wall", "--as", "bob"]);
        (why.code == 1 && why.out.starts_with("in part: bob may write /wall, but not with all of his devices")).then_some(())
    });
    follow(&bob, &alice, "alice");
    let home = bob.stop();
    let rotated = run(&home, &["rotate", "--without", &old[..10]]);
    assert!(rotated.code == 0 && rotated.out.contains("this one may do as soon as their peers hear of it"), "{rotated:?}");
    let bob = Peer::start_in(home);
    for path in ["/@alice/wall/again", "/@alice/secret/again"] {
        until_in(&bob, path);
    }
    is_told(&alice, &old, &bob);
}

/// Alice hears of it at once, or when she comes back. Whoever has the old device has no right any more.
#[test]
fn what_friends_let_a_lost_device_do_the_recovered_one_may_do() {
    for is_away in [false, true] {
        let (alice, bob, kit) = friends();
        let carol = Peer::start();
        join(&carol, &invite(&bob, &[]), "bob");
        until_value(&carol, "/@bob/notes", &json!("mine"));
        let old = device(&bob);
        let lost = bob.stop();
        let (alice, away) = if is_away { (None, Some(alice.stop())) } else { (Some(alice), None) };
        let refused = typed(&lost, &["recover", "--without", "all"], &kit);
        assert!(refused.code == 2 && refused.err.contains("rotate --without"), "{refused:?}");
        let (home, told) = recover(&carol, &kit, &["--without", "all"]);
        assert!(told.contains("has no rights any more") && !told.contains("rotate --without"), "{told}");
        let bob = Peer::start_in(home);
        let alice = alice.unwrap_or_else(|| Peer::start_in(away.expect("one of both")));
        follow(&bob, &alice, "alice");
        for path in ["/@alice/wall/again", "/@alice/secret/again"] {
            until_in(&bob, path);
        }
        until_value(&alice, "/secret/again", &json!(1));
        is_told(&alice, &old, &bob);
        let why = run(alice.home(), &["why", "write", "/wall", "--as", "bob"]);
        assert!(why.out.contains("instead of") && why.out.contains("which is a device of his no more"), "{why:?}");
        let lost = Peer::start_in(lost);
        until_out(&lost, "/@alice/wall/late");
        until_out(&lost, "/@alice/secret/late");
        // It knows so itself, as far as it has heard of it.
        let says = "is one of its owner's no more";
        poll("doctor says that it is out", || {
            let doctor = run(lost.home(), &["doctor"]);
            (doctor.code == 1 && doctor.out.contains(says) && doctor.out.contains("recover")).then_some(())
        });
        let why = run(lost.home(), &["why", "write", "/notes"]);
        assert!(why.code == 1 && why.out.contains(says) && why.out.contains("took it back on"), "{why:?}");
        assert!(!run(bob.home(), &["doctor"]).out.contains(says));
        // What came of an invite goes with it, and she takes back the rest as ever; it stays so.
        let invites = verb(alice.home(), &["invites"]);
        let secret = invites["invites"].as_array().into_iter().flatten().find(|invite| invite["path"] == "/secret").expect("given");
        assert_eq!(run(alice.home(), &["invites", "revoke", secret["id"].as_str().expect("an id"), "--grants"]).code, 0);
        until_out(&bob, "/@alice/secret/late");
        until_in(&bob, "/@alice/wall/still");
        assert_eq!(run(alice.home(), &["revoke", "bob"]).code, 0);
        until_out(&bob, "/@alice/wall/late");
        assert_eq!(held(&alice), Vec::<String>::new());
    }
}

/// Bob's laptop is stolen, and had let his phone in, everywhere.
#[test]
fn rights_stay_with_the_device_that_takes_the_lost_one_out() {
    let (alice, laptop, kit) = friends();
    let phone = second(&laptop);
    let tablet = second(&laptop);
    for peer in [&phone, &tablet] {
        until_in(peer, "/@alice/wall/before");
    }
    let stolen = device(&laptop);
    let lost = laptop.stop();
    let home = phone.stop();
    let rotated = typed(&home, &["rotate", "--without", &stolen[..10]], &kit);
    assert_eq!(rotated.code, 0, "{rotated:?}");
    let phone = Peer::start_in(home);
    assert_eq!(verb(phone.home(), &["devices"])["devices"].as_array().map(Vec::len), Some(2), "each once");
    poll("what the laptop had is the phone's", || {
        let held = held(&alice);
        (!held.contains(&stolen) && held.contains(&device(&phone))).then_some(())
    });
    is_told(&alice, &stolen, &phone);
    // The other device has it from the phone now.
    until_in(&phone, "/@alice/wall/after");
    until_in(&tablet, "/@alice/wall/after");
    let lost = Peer::start_in(lost);
    until_out(&lost, "/@alice/wall/late");
    for path in ["/wall/late", "/secret/late"] {
        assert_ne!(alice.send("GET", path, &[], "").status, 200);
    }
    // What she gives him from now on is for his two devices, and not for the root key that took over.
    let given = verb(alice.home(), &["grant", "/table", "bob", "--can", "read", "--preview"]);
    assert_eq!(given["new"], 2, "{given}");
}
