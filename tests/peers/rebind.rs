//! Somebody who lost every key begins again, and his friends say that it is he.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::neighbours::{invite, join, json as verb, poll, program, run, space, until_value};
use crate::peer::{Home, Peer};

fn id(peer: &Peer) -> String {
    peer.ready["id"].as_str().expect("an id").to_owned()
}

/// What is said of a contact at a peer, by his old key.
fn said(peer: &Peer, key: &str) -> Value {
    let all = peer.value("/.sys/rebind");
    all["contacts"].as_array().and_then(|all| all.iter().find(|one| one["space"] == key)).cloned().unwrap_or_default()
}

/// The new keys that a contact is said to have.
fn keys(peer: &Peer, key: &str) -> BTreeSet<String> {
    let claims = said(peer, key)["claims"].as_array().cloned().unwrap_or_default();
    claims.iter().filter_map(|claim| claim["key"].as_str().map(str::to_owned)).collect()
}

/// What a peer's owner said about somebody's budget.
fn limit(peer: &Peer, key: &str) -> Value {
    let text = std::fs::read(peer.home().folder().join("limits.json")).expect("limits");
    serde_json::from_slice::<Value>(&text).expect("JSON")["limits"][key].clone()
}

/// Alice, and Bob, Carol and Dave, whom she knows by these names. Bob has lost everything, and there is a new space that he
/// began.
fn friends() -> (Peer, String, Peer, Peer, Peer) {
    let [alice, bob, carol, dave] = [(); 4].map(|()| Peer::start());
    for (peer, name) in [(&bob, "bob"), (&carol, "carol"), (&dave, "dave")] {
        assert_eq!(join(&alice, &invite(peer, &[]), name)["result"], "connected");
    }
    bob.put("/notes", &json!("by bob"));
    until_value(&alice, "/@bob/notes", &json!("by bob"));
    let old = id(&bob);
    drop(bob);
    let home = Home::new();
    let begun = verb(&home, &["recover", "--by-friends"]);
    assert_eq!((&begun["new"], &begun["recovered"]), (&json!(true), &json!(false)), "{begun}");
    let new = Peer::start_in(home);
    assert_eq!(new.ready["id"], begun["id"]);
    assert!(begun["tell"].as_str().is_some_and(|tell| tell.contains(&id(&new))), "{begun}");
    (alice, old, carol, dave, new)
}

/// Eve talks Carol into saying that she is Bob, and Mallory writes as much where he may write in Carol's space.
#[test]
fn one_friend_who_was_talked_into_it_moves_nobodys_name() {
    let (alice, old, carol, dave, new) = friends();
    let (eve, mallory) = (Peer::start(), Peer::start());
    // Nothing is said before it was confirmed.
    let asked = run(carol.home(), &["vouch", &old, &id(&eve)]);
    assert!(asked.code == 2 && asked.err.contains("ask him by voice"), "{asked:?}");
    assert_eq!(carol.value("/.sys/rebind")["vouched"], json!([]));
    assert_eq!(verb(carol.home(), &["vouch", &old, &id(&eve), "--yes"])["said"], true);
    poll("alice is told", || (keys(&alice, &old) == [id(&eve)].into()).then_some(()));
    let told = said(&alice, &old)["says"][0].as_str().expect("words").to_owned();
    assert!(told.starts_with("1 of your contacts says bob is now") && told.ends_with(": carol"), "{told}");
    for args in [&["peers"][..], &["doctor"], &["rebind"]] {
        assert!(run(alice.home(), args).out.contains(&told), "{args:?}");
    }
    // It is told and nothing else: the name is whose it was, and stays so without her word or with another one.
    assert_eq!(run(alice.home(), &["rebind", "bob"]).code, 2);
    for body in [json!({"who": "bob"}), json!({"who": "bob", "to": id(&eve)}), json!({"who": "bob", "to": id(&new), "confirm": true})] {
        alice.send("POST", "/.sys/rebind", &[], body.to_string());
    }
    assert_eq!(space(&alice, "bob")["space"], old.as_str());
    assert_eq!(alice.value("/@bob/notes"), "by bob");

    // Who may write in Carol's space says nothing for her.
    assert_eq!(join(&mallory, &invite(&carol, &["--to", "/profile", "--can", "write"]), "carol")["result"], "connected");
    mallory.put(&format!("/@carol/profile/vouched/{}", id(&dave)), &json!(id(&mallory)));
    mallory.put("/@carol/profile/mark", &json!(1));
    until_value(&alice, "/@carol/profile/mark", &json!(1));
    assert_eq!(keys(&alice, &id(&dave)), BTreeSet::new());
    // Nor does whoever is no contact any more.
    assert_eq!(join(&alice, &invite(&mallory, &[]), "mallory")["result"], "connected");
    mallory.put(&format!("/profile/vouched/{}", id(&dave)), &json!(id(&mallory)));
    mallory.put(&format!("/profile/vouched/{}", id(&mallory)), &json!(id(&eve)));
    mallory.put(&format!("/profile/vouched/{}", id(&carol)), &json!(id(&eve)));
    poll("mallory is heard", || (keys(&alice, &id(&carol)) == [id(&eve)].into()).then_some(()));
    // Whom she wants to hear nothing of is not heard of others either.
    verb(alice.home(), &["mute", "@mallory"]);
    assert_eq!(keys(&alice, &id(&carol)), BTreeSet::new());
    verb(alice.home(), &["unmute", "@mallory"]);
    assert_eq!(keys(&alice, &id(&carol)), [id(&eve)].into());
    assert_eq!(keys(&alice, &id(&dave)), BTreeSet::new(), "not for his own key");
    assert_eq!(keys(&alice, &id(&mallory)), BTreeSet::new(), "nor of himself");
    alice.send("POST", "/.sys/petname", &[], json!({"who": "mallory", "name": ""}).to_string());
    verb(alice.home(), &["unfollow", &id(&mallory)]);
    poll("and is heard no more", || keys(&alice, &id(&carol)).is_empty().then_some(()));

    // Two of them name two keys: nothing can be moved, however often she says so.
    verb(dave.home(), &["vouch", &old, &id(&new), "--yes"]);
    poll("alice is told of both", || (keys(&alice, &old) == [id(&eve), id(&new)].into()).then_some(()));
    assert_eq!(said(&alice, &old)["disputed"], true);
    let refused = run(alice.home(), &["rebind", "bob", "--yes"]);
    assert!(refused.code == 4 && refused.err.contains("do not agree"), "{refused:?}");
    assert_eq!(space(&alice, "bob")["space"], old.as_str());
    // Carol has found out.
    verb(carol.home(), &["vouch", &old, "--withdraw"]);
    poll("alice is told of that", || (keys(&alice, &old) == [id(&new)].into()).then_some(()));
    assert_eq!(said(&alice, &old)["disputed"], false);
}

#[test]
fn one_word_moves_a_name_and_all_that_hangs_on_it_and_another_moves_it_back() {
    let (alice, old, carol, dave, new) = friends();
    verb(alice.home(), &["limits", &old, "5MB"]);
    assert_eq!(verb(alice.home(), &["mute", "@bob"])["muted"], true);
    for friend in [&carol, &dave] {
        verb(friend.home(), &["vouch", &old, &id(&new), "--yes"]);
    }
    poll("alice is told", || said(&alice, &old)["says"].to_string().contains("2 of your contacts say bob is now").then_some(()));
    let moved = verb(alice.home(), &["rebind", "bob", "--yes"]);
    assert_eq!((&moved["moved"], &moved["before"], &moved["to"]), (&json!(true), &json!("bob (before)"), &json!(id(&new))), "{moved}");
    let check = || {
        assert_eq!((&space(&alice, "bob")["space"], &space(&alice, "bob")["is_followed"]), (&json!(id(&new)), &json!(true)));
        assert_eq!((limit(&alice, &id(&new)), limit(&alice, &old)), (json!(5_000_000), json!(5_000_000)));
        assert!(alice.value("/.sys/lists")["muted"].to_string().contains(&id(&new)));
    };
    check();
    // Also once her other devices are told.
    poll("the list has it", || {
        let listed = alice.value("/lists/followed");
        (listed[id(&new)]["name"] == "bob" && listed.get(&old).is_none()).then_some(())
    });
    let spaces = alice.value("/.sys/spaces")["spaces"].clone();
    assert!(!spaces.as_array().expect("spaces").iter().any(|space| space["space"] == old && space["is_followed"] == true), "{spaces}");
    let told = space(&alice, "bob")["rebind"]["says"][0].to_string();
    assert!(told.contains("bob was the key that you call bob (before) now"), "{told}");
    check();
    // What the old key shared stays.
    assert_eq!(run(alice.home(), &["get", "@bob (before)/notes"]).out.trim(), "\"by bob\"");
    let told = said(&alice, &old);
    assert!(told["says"][0].as_str().is_some_and(|told| told.contains("this was bob, who is")) && told["now"].is_null(), "{told}");
    // Once more is the same, and the new one is a contact like every other.
    assert_eq!(verb(alice.home(), &["rebind", &old, "--yes"])["moved"], true);
    check();
    join(&alice, &invite(&new, &[]), "bob");
    new.put("/notes", &json!("by bob again"));
    until_value(&alice, "/@bob/notes", &json!("by bob again"));
    // It is remembered, and taken back.
    let alice = Peer::start_in(alice.stop());
    assert_eq!(verb(alice.home(), &["rebind", "bob", "--undo"])["undone"], true);
    assert_eq!((&space(&alice, "bob")["space"], &space(&alice, "bob")["is_followed"]), (&json!(old), &json!(true)));
    assert_eq!((limit(&alice, &id(&new)), limit(&alice, &old)), (Value::Null, json!(5_000_000)));
    let muted = alice.value("/.sys/lists")["muted"].to_string();
    assert!(muted.contains(&old) && !muted.contains(&id(&new)), "{muted}");
    assert_eq!(said(&alice, &old)["now"], json!(id(&new)), "it is still said of him");
    assert_eq!(run(alice.home(), &["rebind", "bob", "--undo"]).code, 1);
}

#[test]
fn nobody_vouches_for_himself_or_against_the_word_of_a_contact_who_says_nothing() {
    let alice = Peer::start();
    let own = id(&alice);
    let key = id(&Peer::start());
    for (who, now) in [(&own, &key), (&key, &own), (&key, &key)] {
        assert_eq!(run(alice.home(), &["vouch", who, now, "--yes"]).code, 1);
    }
    let unknown = run(alice.home(), &["rebind", &key]);
    assert!(unknown.code == 1 && unknown.err.contains("timebus vouch"), "{unknown:?}");
    let output = program(alice.home(), &["rebind"]).output().expect("the program runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody says"));
}

/// Alice has two devices, and says once on each of them what is to be.
#[test]
fn what_one_device_confirms_the_others_follow_and_any_takes_it_back() {
    let (alice, old, carol, _dave, new) = friends();
    let phone = super::devices::second(&alice);
    let called = |peer: &Peer, name: &str, key: &str| poll(name, || (space(peer, name)["space"] == key).then_some(()));
    called(&phone, "bob", &old);
    called(&phone, "carol", &id(&carol));
    verb(phone.home(), &["limits", &old, "7MB"]);
    verb(carol.home(), &["vouch", &old, &id(&new), "--yes"]);
    for peer in [&alice, &phone] {
        poll("each device is told", || (said(peer, &old)["now"] == json!(id(&new))).then_some(()));
    }
    assert_eq!(verb(alice.home(), &["rebind", "bob", "--yes"])["moved"], true);
    called(&phone, "bob", &id(&new));
    // It is not asked again there, and the room goes with the name: that which he has on this device.
    let told = poll("the phone knows of it", || Some(said(&phone, &old)).filter(|told| told["moved"]["to"] == json!(id(&new))));
    assert!(told["now"].is_null() && told["says"].to_string().contains("this was bob"), "{told}");
    poll("his room on the phone", || (limit(&phone, &id(&new)) == json!(7_000_000)).then_some(()));
    assert_eq!(limit(&alice, &id(&new)), Value::Null);
    // Taken back on the other device.
    assert_eq!(verb(phone.home(), &["rebind", "bob", "--undo"])["undone"], true);
    for peer in [&phone, &alice] {
        called(peer, "bob", &old);
        poll("it is asked again", || (said(peer, &old)["now"] == json!(id(&new)) && said(peer, &old)["moved"].is_null()).then_some(()));
    }
    assert_eq!((limit(&phone, &id(&new)), limit(&phone, &old)), (Value::Null, json!(7_000_000)));
    assert_eq!(run(alice.home(), &["rebind", "bob", "--undo"]).code, 1);
}
