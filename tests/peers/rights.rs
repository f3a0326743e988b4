//! Who may do what at whose peer, and how that is told.

use serde_json::json;

use super::neighbours::{invite, join, json as verb, pair, peers, poll, run, space, until_space, until_value};
use super::succession::carry;
use crate::peer::Peer;

#[test]
fn a_grant_to_write_counts_at_its_path_and_nowhere_else() {
    let (alice, bob) = pair();
    alice.put("/notes", &json!("mine"));
    until_value(&bob, "/@alice/notes", &json!("mine"));
    for path in ["/@alice/notes", "/@alice/other", "/@alice/wallpaper", "/@alice"] {
        let refused = bob.send("PUT", path, &[("Content-Type", "application/json")], "1").problem(403);
        assert!(refused["fix"].as_str().is_some_and(|fix| fix.contains("grant")), "{refused}");
    }
    assert_eq!(run(bob.home(), &["put", "@alice/notes", "1"]).code, 1);
    bob.put("/@alice/wall/deep/down", &json!(1));
    until_value(&alice, "/wall/deep/down", &json!(1));
    assert_eq!(alice.value("/notes"), "mine");
    let carol = Peer::start();
    join(&carol, &invite(&alice, &[]), "alice");
    carol.send("PUT", "/@alice/wall/carol", &[("Content-Type", "application/json")], "1").problem(403);
    assert_eq!(carol.value("/@alice/wall/deep/down"), 1, "who may read reads everything");
}

#[test]
fn what_an_invite_gave_can_be_taken_back() {
    let (alice, bob) = pair();
    bob.put("/@alice/wall/before", &json!(1));
    until_value(&alice, "/wall/before", &json!(1));
    let id = verb(alice.home(), &["invites"])["invites"][0]["id"].as_str().expect("an id").to_owned();
    let told = run(alice.home(), &["invites", "revoke", &id, "--grants"]);
    assert_eq!(told.code, 0, "{told:?}");
    poll("bob may not write any more", || {
        let answer = bob.send("PUT", "/@alice/wall/after", &[("Content-Type", "application/json")], "1");
        (answer.status == 403).then_some(())
    });
    alice.put("/secret", &json!(1));
    assert_eq!(alice.value("/wall/before"), 1, "what was written in good faith stays");
    assert_ne!(bob.send("GET", "/@alice/secret", &[], "").status, 200);
}

/// Who is thrown out has the link by which he came, and others can take it.
#[test]
fn the_link_by_which_somebody_came_goes_with_him() {
    let [alice, bob, carol, dave] = [(); 4].map(|()| Peer::start());
    let link = invite(&alice, &["--to", "/club", "--can", "write", "--uses", "5"]);
    assert_eq!(join(&bob, &link, "alice")["result"], "connected");
    let id = verb(alice.home(), &["invites"])["invites"][0]["id"].as_str().expect("an id").to_owned();
    let says = format!("the invite {id} by which ");
    let revoke = |who: &Peer, more: &[&str]| {
        let who = who.ready["id"].as_str().expect("an id");
        let ran = run(alice.home(), &[&["revoke", who], more].concat());
        assert!(ran.code == 0 && ran.out.contains(&says), "{ran:?}");
        ran.out
    };
    assert!(revoke(&bob, &["--preview", "--with-invite"]).contains("would be taken back, too"));
    let told = revoke(&bob, &[]);
    assert!(told.contains(&format!("can be taken 4 times more, and he has the link: `timebus invites revoke {id}`")), "{told}");
    assert_eq!(join(&carol, &link, "alice")["result"], "connected");
    assert!(revoke(&carol, &["--with-invite"]).contains("came is taken back, too"));
    assert_eq!(verb(alice.home(), &["invites"])["invites"][0]["state"], "revoked");
    let refused = run(dave.home(), &["join", &link, "--yes", "--as", "alice"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    // Of a link that leads nobody here any more nothing is said.
    let bobs = bob.ready["id"].as_str().expect("an id");
    verb(alice.home(), &["grant", "/club", bobs, "--can", "write"]);
    let told = verb(alice.home(), &["revoke", bobs]);
    assert_eq!(told["invites"], json!([]), "{told}");
}

/// What is stated is data under `/.auth`, and is edited there.
#[test]
fn rights_are_given_and_taken_back_where_they_are_read() {
    let (alice, bob) = pair();
    let bobs = bob.ready["id"].as_str().expect("an id");
    let json_body = [("Content-Type", "application/json")];
    let wanted = json!({"who": bobs, "path": "/desk", "can": "write"}).to_string();
    let given = alice.send("POST", "/.auth/grants", &json_body, &wanted);
    assert_eq!(given.status, 200, "{}", given.text());
    let id = given.json()["grants"][0].as_str().expect("a grant").to_owned();
    assert_eq!(alice.value(&format!("/.auth/grants/{id}"))["path"], "/desk");
    poll("bob may write there", || (bob.send("PUT", "/@alice/desk/x", &json_body, "1").status == 200).then_some(()));
    until_value(&alice, "/desk/x", &json!(1));
    // Nobody takes back what another one gave, nor gives what he may not.
    let more = json!({"who": bobs, "path": "/elsewhere", "can": "write"}).to_string();
    bob.send("POST", "/@alice/.auth/grants", &json_body, &more).problem(403);
    assert!(matches!(bob.send("DELETE", &format!("/@alice/.auth/grants/{id}"), &json_body, "").status, 400 | 403));
    let taken = alice.send("DELETE", &format!("/.auth/grants/{id}"), &[], "");
    assert_eq!((taken.status, taken.json()["dead"].as_array().map(Vec::len)), (200, Some(1)), "{}", taken.text());
    assert_eq!(alice.value(&format!("/.auth/grants/{id}"))["live"], false);
    assert_eq!(alice.value("/desk/x"), 1, "what he wrote stays");
    poll("bob may not any more", || (bob.send("PUT", "/@alice/desk/y", &json_body, "1").status == 403).then_some(()));
}

/// A grant adds to what somebody may already, so one with limits limits nothing as long as a wider one is in force.
#[test]
fn a_grant_that_limits_nothing_says_so_and_why_names_the_one_that_counts() {
    let (alice, bob) = pair();
    let bobs = bob.ready["id"].as_str().expect("an id").to_owned();
    let grants = verb(alice.home(), &["grants"]);
    let first = grants["grants"].as_array().into_iter().flatten().find(|grant| grant["says"].to_string().contains("/wall"));
    let first = first.and_then(|grant| grant["id"].as_str()).expect("he came by an invite")[..8].to_owned();
    for limits in [&["--can", "write", "--quota", "1kB"][..], &["--can", "read"]] {
        let granted = run(alice.home(), &[&["grant", "/wall", &bobs], limits].concat());
        assert!(granted.out.contains("which this one does not limit") && granted.out.contains(&format!("revoke {first}")), "{granted:?}");
    }
    let other = run(alice.home(), &["grant", "/desk", &bobs, "--can", "write", "--quota", "1kB"]);
    assert!(!other.out.contains("does not limit"), "{other:?}");
    // What he reads follows from that grant, not from what anybody may read.
    assert_eq!(run(alice.home(), &["grant", "/public", "anyone", "--can", "read"]).code, 0);
    let why = run(alice.home(), &["why", "read", "/notes", "--as", &bobs]);
    assert!(!why.out.contains("anyone may read") && why.out.contains("a timeline and not a path"), "{why:?}");
}

#[test]
fn what_a_removed_member_wrote_unseen_is_hidden_listed_and_can_be_kept() {
    let (alice, bob) = pair();
    bob.put("/@alice/wall/seen", &json!(1));
    until_value(&alice, "/wall/seen", &json!(1));
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    let home = bob.stop();
    let plan = verb(alice.home(), &["revoke", &who, "--preview"]);
    assert_eq!((&plan["hidden"], plan["dead"].as_array().map(Vec::len)), (&json!(0), Some(1)), "{plan}");
    assert_eq!(verb(alice.home(), &["revoke", &who, "--preview", "--drop-unseen"])["hidden"], 1);
    assert_eq!(run(alice.home(), &["revoke", &who]).code, 0);
    for name in ["late", "later"] {
        assert_eq!(run(&home, &["put", &format!("@alice/wall/{name}"), "1"]).code, 0, "he does not know yet");
    }
    let bob = Peer::start_in(home);
    // Nobody fetches from whom a space is none of any more; but others may have got it from him, and bring it.
    let changes = bob.send("GET", "/@alice", &[("Accept", "application/timebus-ops")], "").body;
    let brought = alice.send("POST", "/", &[("Content-Type", "application/timebus-ops")], changes).json();
    assert_eq!(brought["admitted"], 2, "{brought}");
    assert_eq!(verb(alice.home(), &["quarantine"])["total"], 2);
    assert_eq!(alice.value("/wall"), json!({"seen": 1}));
    until_value(&bob, "/@alice/wall", &json!({"seen": 1}));
    let why = run(alice.home(), &["why-hidden", "/wall/late"]);
    assert!(why.out.contains("you took it back on"), "{why:?}");
    let hidden = verb(alice.home(), &["quarantine"]);
    let of = |path: &str| hidden["changes"].as_array().into_iter().flatten().find(|one| one["paths"][0] == path).expect("listed")["id"].clone();
    let kept = verb(alice.home(), &["quarantine", "keep", &of("/wall/late").as_str().expect("an id")[..10]]);
    assert_eq!((&kept["shown"], &kept["left"]), (&json!(1), &json!(1)));
    assert_eq!(alice.value("/wall"), json!({"late": 1, "seen": 1}));
    until_value(&bob, "/@alice/wall/late", &json!(1));
}

/// Bob is thrown out while his machine is off, and lets somebody in as if it were still before.
#[test]
fn whom_a_removed_member_lets_in_afterwards_is_not_in() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    let (space, carols) = (alice.ready["id"].as_str().expect("an id").to_owned(), device(&carol));
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    let home = bob.stop();
    assert_eq!(run(alice.home(), &["revoke", &who]).code, 0);
    let granted = run(&home, &["grant", "@alice/wall", &carols, "--can", "write"]);
    assert_eq!(granted.code, 0, "he does not know yet: {granted:?}");
    let bob = Peer::start_in(home);
    carry(&bob, &alice, &space);
    let grants = verb(alice.home(), &["grants"]);
    let hers = grants["grants"].as_array().into_iter().flatten().find(|grant| grant["for"] == carols.as_str());
    assert_eq!(hers.map(|grant| &grant["live"]), Some(&json!(false)), "{grants}");
    let why = run(alice.home(), &["why", "write", "/wall", "--as", &carols]);
    assert!(why.code == 1 && why.out.contains("took"), "{why:?}");
}

/// Bob is thrown out and goes on writing. Carol, who may write elsewhere, builds on it, and alice builds on what carol wrote:
/// none of them vouches for what bob could not write any more.
#[test]
fn who_may_write_elsewhere_brings_nothing_back_by_building_on_it() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    join(&carol, &invite(&alice, &["--to", "/", "--can", "read"]), "alice");
    let space = alice.ready["id"].as_str().expect("an id").to_owned();
    assert_eq!(run(alice.home(), &["grant", "/desk", &device(&carol), "--can", "write"]).code, 0);
    poll("carol knows", || (run(carol.home(), &["why", "write", "@alice/desk"]).code == 0).then_some(()));
    bob.put("/@alice/wall/seen", &json!(1));
    until_value(&alice, "/wall/seen", &json!(1));
    until_value(&carol, "/@alice/wall/seen", &json!(1));
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    let (bob, carol) = (bob.stop(), carol.stop());
    assert_eq!(run(alice.home(), &["revoke", &who]).code, 0);
    assert_eq!(run(&bob, &["put", "@alice/wall/late", "1"]).code, 0, "he does not know yet");
    let alice = alice.stop();
    let (bob, carol) = (Peer::start_in(bob), Peer::start_in(carol));
    carry(&bob, &carol, &space);
    assert_eq!(carol.value("/@alice/wall"), json!({"late": 1, "seen": 1}), "she has not heard of it");
    carol.put("/@alice/desk/note", &json!("on top of it"));
    let alice = Peer::start_in(alice);
    carry(&carol, &alice, &space);
    assert_eq!(verb(alice.home(), &["quarantine"])["total"], 1);
    let (wall, desk) = (json!({"seen": 1}), json!({"note": "on top of it"}));
    for n in 0..2 {
        assert_eq!((alice.value("/wall"), alice.value("/desk")), (wall.clone(), desk.clone()));
        alice.put("/other", &json!(n));
    }
    carry(&alice, &carol, &space);
    carry(&alice, &bob, &space);
    for peer in [&bob, &carol] {
        until_value(peer, "/@alice/wall", &wall);
        until_value(peer, "/@alice/desk", &desk);
    }
}

fn device(peer: &Peer) -> String {
    verb(peer.home(), &["id"])["device"].as_str().expect("a key").to_owned()
}

#[test]
fn rights_are_given_and_taken_by_name() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    bob.send("PUT", "/@alice/table", &[("Content-Type", "application/json")], "1").problem(403);
    let no = run(bob.home(), &["why", "write", "@alice/table"]);
    assert!(no.code == 1 && no.out.contains("it is good at and below /wall"), "{no:?}");
    let granted = run(alice.home(), &["grant", "/table", &who, "--can", "write"]);
    assert!(granted.code == 0 && granted.out.contains("at and below /table"), "{granted:?}");
    poll("bob may write", || {
        let answer = bob.send("PUT", "/@alice/table", &[("Content-Type", "application/json")], "1");
        (answer.status == 200).then_some(())
    });
    until_value(&alice, "/table", &json!(1));
    // A plain member can hand nothing on, nor take anything.
    let carol = Peer::start();
    let device = verb(carol.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    let refused = run(bob.home(), &["grant", "@alice/table", &device, "--can", "read"]);
    assert!(refused.code == 1 && refused.err.contains("may not say this about rights"), "{refused:?}");
    assert_eq!(run(alice.home(), &["grant", "/", &who, "--can", "admin"]).code, 0);
    poll("bob may let others in", || (run(bob.home(), &["grant", "@alice/table", &device, "--can", "write"]).code == 0).then_some(()));
    poll("alice knows", || {
        let grants = verb(alice.home(), &["grants", "/table"]);
        let found = grants["grants"].as_array().into_iter().flatten().any(|grant| grant["for"] == device.as_str() && grant["live"] == true);
        found.then_some(())
    });
    // Nobody throws out who stands above him, and what he gave goes with him if that is wanted.
    let owner = verb(alice.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    assert_eq!(run(bob.home(), &["revoke", &owner, "@alice"]).code, 1);
    assert_eq!(run(alice.home(), &["revoke", &who, "--cascade"]).code, 0);
    let grants = verb(alice.home(), &["grants"]);
    assert!(grants["grants"].as_array().into_iter().flatten().all(|grant| grant["live"] == false || grant["for"] == owner.as_str()), "{grants}");
}

#[test]
fn what_is_not_known_is_told_apart_from_what_is_not_there() {
    let (alice, bob) = pair();
    let stranger = Peer::start();
    let key = stranger.ready["id"].as_str().expect("a key");
    let unknown = bob.send("GET", &format!("/@{key}/notes"), &[], "").problem(404);
    assert!(unknown["title"].as_str().is_some_and(|title| title.contains("not held here")) && unknown["fix"].is_string(), "{unknown}");
    let nobody = bob.send("GET", "/@nobody/notes", &[], "").problem(404);
    assert!(nobody["detail"].as_str().is_some_and(|detail| detail.contains("nobody")), "{nobody}");
    let absent = bob.send("GET", "/@alice/nothing", &[], "");
    assert_eq!((absent.status, absent.header("timebus-space")), (404, Some("live")));
    let words = run(bob.home(), &["get", "@nobody/notes"]);
    assert!(words.code == 1 && words.err.contains("timebus peers"), "{words:?}");
    // Whoever is followed without an invite says no, which is a third thing.
    let node = alice.ready["node"].as_str().expect("a key");
    let at = alice.value("/.sys/peers")["addresses"][0].as_str().expect("an address").to_owned();
    let followed = verb(stranger.home(), &["follow", alice.ready["id"].as_str().expect("a key"), "--node", node, "--at", &at, "--as", "alice"]);
    assert_eq!(followed["petname"], "alice");
    until_space(&stranger, "alice", "denied");
    let denied = run(stranger.home(), &["get", "@alice/notes"]);
    assert!(denied.code == 1 && denied.err.contains("ask the owner for an invite"), "{denied:?}");
}

#[test]
fn who_is_blocked_hears_nothing_until_that_is_over() {
    let (alice, bob) = pair();
    let name = verb(bob.home(), &["id"])["name"].as_str().expect("a name").to_owned();
    assert_eq!(run(alice.home(), &["block", &name]).code, 0);
    alice.put("/notes/secret", &json!(1));
    poll("bob is cut off", || Some(space(&bob, "alice")).filter(|space| space["state"] != "live"));
    assert_eq!(bob.send("GET", "/@alice/notes/secret", &[], "").status, 404);
    assert_eq!(peers(&alice)[0]["state"], "blocked");
    assert!(run(alice.home(), &["peers"]).out.contains("blocked by you"));
    assert_eq!(run(alice.home(), &["unblock", &name]).code, 0);
    until_space(&bob, "alice", "live");
    until_value(&bob, "/@alice/notes/secret", &json!(1));
}

/// Bob took an invite, and nothing of his is here but what he said then.
#[test]
fn a_guest_is_blocked_by_his_name_with_the_keys_that_he_came_with() {
    use crate::who::signed::{now_s, send, signed_with};

    let (alice, bob) = (Peer::start(), Peer::start());
    assert_eq!(join(&bob, &invite(&alice, &["--to", "/table", "--can", "write"]), "alice")["result"], "connected");
    let seed = std::fs::read(bob.home().folder().join("keys/device.key")).expect("a key");
    let key = timebus_identity::SecretKey::from_seed(seed.try_into().expect("32 bytes"));
    let bob = bob.stop();
    let begun_s = now_s();
    let asks = std::cell::Cell::new(0);
    let by_bob = |method: &str, body: &str| {
        asks.set(asks.get() + 1);
        let headers = signed_with(&alice, &key, method, "/table/x", &[("content-type", "application/json")], body, begun_s - asks.get());
        send(&alice, method, "/table/x", &headers, body).status
    };
    assert_eq!([by_bob("PUT", "1"), by_bob("GET", "")], [200; 2]);
    let name = verb(&bob, &["id"])["name"].as_str().expect("a name").to_owned();
    for (on, off, status) in [("mute", "unmute", 200), ("block", "unblock", 403)] {
        assert_eq!(run(alice.home(), &[on, &name]).code, 0);
        assert_eq!([by_bob("PUT", "2"), by_bob("GET", "")], [status; 2], "{on}");
        let lists = alice.value("/.sys/lists");
        let listed = ["muted", "blocked"].map(|list| lists[list].as_array().expect("a list").len());
        assert_eq!(listed.iter().sum::<usize>(), 1, "he is one: {lists}");
        assert_eq!(run(alice.home(), &[off, &name]).code, 0);
        assert_eq!(by_bob("GET", ""), 200);
        assert_eq!(alice.value("/.sys/lists"), json!({"muted": [], "blocked": []}));
    }
}

#[test]
fn a_name_is_one_spaces_and_can_be_another() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    let link = invite(&carol, &[]);
    let taken = run(bob.home(), &["join", &link, "--yes", "--as", "alice"]);
    assert!(taken.code == 4 && taken.err.contains("this name is taken"), "{taken:?}");
    assert_eq!(join(&bob, &link, "carol")["at"], "@carol");
    for bad in ["a/b", "@x", "a.b", &"x".repeat(65), "y".repeat(52).as_str()] {
        assert_eq!(run(bob.home(), &["follow", "@alice", "--as", bad]).code, 1, "{bad}");
    }
    assert_eq!(verb(bob.home(), &["follow", "@alice", "--as", "Alice B"])["petname"], "Alice B");
    alice.put("/notes", &json!(1));
    until_value(&bob, "/@Alice%20B/notes", &json!(1));
    assert_eq!(run(bob.home(), &["get", "@Alice B/notes"]).out.trim(), "1");
    assert_eq!(bob.value(&format!("/@{}/notes", alice.ready["id"].as_str().expect("a key"))), 1, "a key always works");
    assert_eq!(run(bob.home(), &["get", "@alice/notes"]).code, 1, "the old name is nobody's");
}

/// Two admins want each other out, and one whom one of them let in wants him out. Nobody above whom they do not stand loses
/// anything, and what they all have is the same.
#[test]
fn admins_do_not_throw_each_other_out_and_nobody_the_one_who_let_him_in() {
    let alice = Peer::start();
    let [bob, carol, dave] = [(); 3].map(|()| Peer::start());
    let key = |peer: &Peer| peer.ready["id"].as_str().expect("an id").to_owned();
    for peer in [&bob, &carol, &dave] {
        assert_eq!(join(peer, &invite(&alice, &[]), "alice")["result"], "connected");
    }
    for peer in [&bob, &carol] {
        let ran = run(alice.home(), &["grant", "/", &key(peer), "--can", "admin", "--depth", "2"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let may = |of: &Peer, who: &str| {
        // It exits with 1 where the answer is no.
        let told = run(of.home(), &["--json", "why", "write", "@alice/wall", "--as", who]);
        serde_json::from_str::<serde_json::Value>(&told.out).is_ok_and(|told| told["allowed"] == true)
    };
    let (bobs, carols, daves) = (device(&bob), device(&carol), device(&dave));
    poll("both know that both are admins", || [&bob, &carol].iter().all(|peer| may(peer, &bobs) && may(peer, &carols)).then_some(()));
    let granted = run(bob.home(), &["grant", "@alice/wall", &daves, "--can", "admin"]);
    assert_eq!(granted.code, 0, "{granted:?}");
    poll("dave knows", || may(&dave, &daves).then_some(()));
    for (by, whom) in [(&bob, &carols), (&carol, &bobs), (&dave, &bobs), (&dave, &carols)] {
        let ran = run(by.home(), &["revoke", whom, "@alice/"]);
        assert!(ran.code == 1, "{ran:?}");
    }
    bob.put("/@alice/wall/bob", &json!(1));
    carol.put("/@alice/wall/carol", &json!(2));
    dave.put("/@alice/wall/dave", &json!(3));
    let all = json!({"bob": 1, "carol": 2, "dave": 3});
    until_value(&alice, "/wall", &all);
    for peer in [&bob, &carol, &dave] {
        until_value(peer, "/@alice/wall", &all);
    }
    // Who let somebody in takes him out again.
    let ran = run(bob.home(), &["revoke", &daves, "@alice/wall"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    poll("carol and dave know", || (!may(&carol, &daves) && !may(&dave, &daves)).then_some(()));
    assert!(may(&carol, &bobs) && may(&bob, &carols));
    until_value(&alice, "/wall", &all);
}

/// What a puzzled owner asks, what he is told first, and words that have to be in the rest.
#[test]
fn why_knows_what_grants_do_not_say() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    join(&carol, &invite(&alice, &[]), "alice");
    let key = |peer: &Peer| peer.ready["id"].as_str().expect("an id").to_owned();
    let (bobs, carols) = (key(&bob), key(&carol));
    assert_eq!(run(alice.home(), &["private", "/diary"]).code, 0);
    assert_eq!(run(alice.home(), &["app", "install", "board", "--yes"]).code, 0);
    let table: [(&str, &str, &str, bool, &[&str]); 13] = [
        ("write", "/wall/x", &bobs, true, &["at and below /wall"]),
        ("write", "/notes", &bobs, false, &["it is good at and below /wall"]),
        // He reads by a grant for another path, which is not told as if it were in the way.
        ("read", "/notes", &bobs, true, &["a timeline and not a path"]),
        ("read", "/diary/x", &bobs, false, &["/diary is kept apart"]),
        // Who may only hand on what he reads is no admin.
        ("admin", "/", &carols, false, &["it gives no right to write"]),
        ("read", "/.sys/status", &bobs, false, &["for its owner alone"]),
        ("read", "/.sys/status", "me", true, &["you are its owner"]),
        ("write", "/.drop", &bobs, true, &["short notices"]),
        ("write", "/.drop", "anyone", true, &["short notices"]),
        ("read", "/.drop", &bobs, false, &["for its owner"]),
        ("write", "/boards/x", "app:board", true, &["its card says", "/boards in your space"]),
        ("write", "/notes", "app:board", false, &["its card says", "installed again"]),
        ("write", "/wall", "anyone", false, &["granted by name"]),
    ];
    for (can, path, who, allowed, words) in table {
        let told = run(alice.home(), &["why", can, path, "--as", who]);
        let first = if allowed { "yes: " } else { "no: " };
        assert!(told.out.starts_with(first) && told.code == i32::from(!allowed), "{can} {path} as {who}: {told:?}");
        assert!(words.iter().all(|word| told.out.contains(word)), "{can} {path} as {who}: {told:?}");
        assert!(!allowed || !told.out.contains("; but it is good"), "{told:?}");
    }
    // Of a path that is kept apart its owner hears who else may read it.
    let why = || run(alice.home(), &["why", "read", "/diary/x"]).out;
    assert!(why().contains("/diary is kept apart: beside its owner nobody else may read it"), "{}", why());
    verb(alice.home(), &["grant", "/diary", &bobs, "--can", "read"]);
    assert!(!why().contains("nobody else") && why().contains("/diary is kept apart: beside its owner"), "{}", why());
    // Somebody who may not grant it is told whom to ask, in words that are good there.
    let no = run(bob.home(), &["why", "write", "@alice/notes"]);
    let device = verb(bob.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    assert!(no.out.starts_with("no: you may not write @alice/notes"), "{no:?}");
    assert!(no.err.contains(&format!("ask alice for it: `timebus grant /notes {device} --can write`")), "{no:?}");
    let app = run(alice.home(), &["why", "write", "/notes", "--as", "app:nought"]);
    assert!(app.code == 1 && app.err.contains("timebus app ls"), "{app:?}");
    // Who is blocked may nothing, whatever he was granted, and the way out is told.
    assert_eq!(run(alice.home(), &["block", &bobs]).code, 0);
    for (can, path) in [("write", "/wall/x"), ("write", "/.drop")] {
        let told = run(alice.home(), &["why", can, path, "--as", &bobs]);
        assert!(told.code == 1 && told.out.contains("you have blocked") && told.err.contains("timebus unblock"), "{told:?}");
    }
    // What he would not have without that is no matter of it.
    for (can, path) in [("read", "/.sys/status"), ("write", "/.sys/down"), ("read", "/.drop")] {
        let told = run(alice.home(), &["why", can, path, "--as", &bobs]);
        assert!(told.code == 1 && !told.out.contains("blocked") && !told.err.contains("unblock"), "{told:?}");
    }
    verb(alice.home(), &["grant", "/.sys", &bobs, "--can", "admin"]);
    let told = run(alice.home(), &["why", "read", "/.sys/status", "--as", &bobs]);
    assert!(told.code == 1 && told.out.contains("you have blocked") && told.err.contains("timebus unblock"), "{told:?}");
}

/// What was granted is used up. What is beyond it is refused and said so, and a new grant is all that is needed.
#[test]
fn a_used_up_right_refuses_says_why_and_can_be_renewed() {
    let alice = Peer::start();
    let bob = Peer::start();
    assert_eq!(join(&bob, &invite(&alice, &["--guests", "0"]), "alice")["result"], "connected");
    let bobs = device(&bob);
    assert_eq!(run(alice.home(), &["grant", "/table", &bobs, "--can", "write", "--quota", "3kB"]).code, 0);
    poll("bob may write", || (run(bob.home(), &["why", "write", "@alice/table"]).code == 0).then_some(()));
    let mut written = 0;
    let refused = loop {
        let answer = bob.send("PUT", &format!("/@alice/table/{written}"), &[("Content-Type", "application/json")], "1");
        if answer.status == 403 {
            break answer.problem(403);
        }
        written += 1;
        assert!(written < 6, "of 3 kB each change takes more than 500");
    };
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("allows 3 kB in all")), "{refused}");
    assert!(refused["fix"].as_str().is_some_and(|fix| fix.contains("timebus why write")), "{refused}");
    bob.send("PUT", "/@alice/table/more", &[("Content-Type", "application/json")], "1").problem(403);
    assert_eq!(bob.value("/@alice/table").as_object().map(serde_json::Map::len), Some(written));
    for (at, path, who) in [(&bob, "@alice/table", "me"), (&alice, "/table", bobs.as_str())] {
        poll("the answer is no", || {
            let why = run(at.home(), &["why", "write", path, "--as", who]);
            (why.code == 1 && why.out.contains("of the 3 kB that may be written by it")).then_some(())
        });
    }
    let why = run(bob.home(), &["why", "write", "@alice/table"]);
    let wanted = format!("timebus grant /table {bobs} --can write");
    assert!(why.err.contains(&wanted), "{why:?}");
    let words: Vec<&str> = wanted.split(' ').skip(1).collect();
    assert_eq!(run(alice.home(), &words).code, 0);
    poll("bob may write again", || (run(bob.home(), &["why", "write", "@alice/table"]).code == 0).then_some(()));
    bob.put("/@alice/table/more", &json!(2));
    until_value(&alice, "/table/more", &json!(2));
}

/// Bob brings guests, and gives to somebody whom Alice let in: a right without room, and one that he takes back.
#[test]
fn what_a_guest_gives_stands_in_nobodys_way() {
    let alice = Peer::start();
    let [bob, frank] = [(); 2].map(|()| Peer::start());
    assert_eq!(join(&bob, &invite(&alice, &["--can", "write"]), "alice")["result"], "connected");
    let link = invite(&alice, &["--to", "/table", "--can", "write", "--guests", "0"]);
    assert_eq!(join(&frank, &link, "alice")["result"], "connected");
    let franks = device(&frank);
    let ids = |of: &Peer| -> Vec<String> {
        let listed = verb(of.home(), &["grants", "@alice/"])["grants"].take();
        listed.as_array().into_iter().flatten().filter_map(|one| Some(one["id"].as_str()?.to_owned())).collect()
    };
    let before = ids(&bob);
    for more in [&["--quota", "1"][..], &[]] {
        let args = [&["grant", "@alice/", &franks, "--can", "write"][..], more].concat();
        let ran = run(bob.home(), &args);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let given: Vec<String> = ids(&bob).into_iter().filter(|id| !before.contains(id)).collect();
    assert_eq!(given.len(), 2, "{before:?}");
    poll("frank knows", || given.iter().all(|id| ids(&frank).contains(id)).then_some(()));
    frank.put("/@alice/table/frank", &json!(1));
    until_value(&alice, "/table/frank", &json!(1));
    until_value(&bob, "/@alice/table/frank", &json!(1));
    for id in &given {
        let ran = run(bob.home(), &["revoke", id, "@alice/", "--drop-unseen"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    bob.put("/@alice/bob", &json!("gone"));
    until_value(&alice, "/bob", &json!("gone"));
    frank.put("/@alice/table/frank", &json!(2));
    until_value(&alice, "/table/frank", &json!(2));
    let hidden = verb(alice.home(), &["quarantine"]);
    assert_eq!(hidden["total"], 0, "{hidden}");
}

/// Where nothing can be written or given whatever was granted, and where his own peer may and that of the owner does not.
#[test]
fn why_knows_what_is_reserved_and_what_is_the_owners_own_word() {
    let alice = Peer::start();
    let [bob, carol] = [(); 2].map(|()| Peer::start());
    assert_eq!(join(&bob, &invite(&alice, &["--can", "write"]), "alice")["result"], "connected");
    assert_eq!(join(&carol, &invite(&alice, &["--guests", "0"]), "alice")["result"], "connected");
    let (bobs, carols) = (device(&bob), device(&carol));
    let ran = run(alice.home(), &["grant", "/desk", &carols, "--can", "admin", "--depth", "0"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    // Bob may write everywhere, and at the owner's own word only where he was let in to just that.
    assert_eq!(run(alice.home(), &["grant", "/lists", &bobs, "--can", "write"]).code, 0);
    let table: [(&str, &str, &str, bool, &str); 9] = [
        // What is proposed then is of no use over HTTP, which is said, too.
        ("write", "/profile/name", &bobs, false, "over HTTP"),
        ("write", "/.auth/x", &bobs, false, "the system's"),
        ("write", "/.zzz", &bobs, false, "the system's"),
        ("write", "/.zzz", "me", false, "the system's"),
        ("write", "/profile/name", &bobs, false, "the owner's own word"),
        ("write", "/lists", &bobs, true, "over HTTP"),
        ("write", "/.apps/x", &bobs, false, "the owner's own word"),
        ("write", "/profile/name", "me", true, "you may write"),
        ("admin", "/desk", &carols, false, "handed on no further"),
    ];
    for (can, path, who, allowed, words) in table {
        let told = run(alice.home(), &["why", can, path, "--as", who]);
        assert!(told.code == i32::from(!allowed) && told.out.contains(words), "{can} {path} as {who}: {told:?}");
        assert!(who != "me" || !told.out.contains("over HTTP"), "{told:?}");
    }
}

/// What was kept when a right was taken back is kept for all. Who wants it hidden afterwards hears that, and what helps.
#[test]
fn what_was_kept_is_not_hidden_by_taking_the_right_back_once_more() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    bob.put("/@alice/wall/seen", &json!(1));
    until_value(&alice, "/wall/seen", &json!(1));
    let grants = verb(alice.home(), &["grants", "/wall"]);
    let grant = grants["grants"].as_array().into_iter().flatten().find(|grant| grant["path"] == "/wall").expect("his grant");
    let grant = grant["id"].as_str().expect("an id").to_owned();
    assert_eq!(run(alice.home(), &["revoke", &who]).code, 0);
    for what in [&who, &grant] {
        for more in [&[][..], &["--preview"]] {
            let again = run(alice.home(), &[&["revoke", what, "--drop-unseen"], more].concat());
            assert!(again.code == 4 && again.err.contains("was kept, for good") && again.err.contains("timebus rm"), "{again:?}");
        }
    }
    assert_eq!(alice.value("/wall/seen"), 1);
    // Nothing is kept of whom it was taken from with what nobody had gone on with.
    let carol = Peer::start();
    join(&carol, &invite(&alice, &["--to", "/desk", "--can", "write"]), "alice");
    carol.put("/@alice/desk/x", &json!(1));
    until_value(&alice, "/desk/x", &json!(1));
    let who = carol.ready["id"].as_str().expect("an id").to_owned();
    assert_eq!(verb(alice.home(), &["revoke", &who, "--drop-unseen"])["hidden"], 1);
    let again = run(alice.home(), &["revoke", &who, "--drop-unseen"]);
    assert!(again.code == 4 && again.err.contains("is hidden since then") && again.err.contains("timebus quarantine"), "{again:?}");
    let nobody = run(alice.home(), &["revoke", "nobody", "--drop-unseen"]);
    assert!(nobody.code == 1 && !nobody.err.contains("already"), "{nobody:?}");
}

/// What a device is called is good wherever a right is asked about or given.
#[test]
fn a_device_that_has_a_name_is_one_device_whom_nothing_has_to_be_granted_at_home() {
    let (alice, bob) = pair();
    let laptop = super::devices::second(&bob);
    let key = device(&laptop);
    assert_eq!(run(bob.home(), &["devices", "name", &key, "laptop"]).code, 0);
    let own = run(bob.home(), &["grant", "/notes", "laptop", "--can", "write"]);
    assert!(own.code != 0 && own.err.contains("one of your own devices"), "{own:?}");
    // In a space of somebody else it has what it is given.
    assert_eq!(run(alice.home(), &["grant", "/desk", &device(&bob), "--can", "admin"]).code, 0);
    poll("bob may give", || (run(bob.home(), &["grant", "@alice/desk", "laptop", "--can", "write"]).code == 0).then_some(()));
    poll("it may write", || (run(laptop.home(), &["put", "@alice/desk/x", "1"]).code == 0).then_some(()));
    // One that was thrown out gets nothing by its name, and nobody is told to give it something.
    assert_eq!(run(bob.home(), &["devices", "remove", &key]).code, 0);
    for ran in [&["why", "write", "/notes", "--as", "laptop"][..], &["grant", "/notes", "laptop", "--can", "write"]] {
        let ran = run(bob.home(), ran);
        assert!(ran.code != 0 && !format!("{}{}", ran.out, ran.err).contains("timebus grant"), "{ran:?}");
    }
}
