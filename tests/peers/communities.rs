//! Communities: founded, joined under a name of one's own, read and written by all members, and left.

use std::net::UdpSocket;
use std::process::Command;

use serde_json::{Value, json};

use super::neighbours::{invite, json as told, poll, run, until};
use crate::peer::{Home, PROGRAM, Peer};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn found(peer: &Peer, args: &[&str]) -> Value {
    told(peer.home(), &[&["community", "new"], args].concat())
}

/// A link that lets somebody in.
fn member_link(peer: &Peer, args: &[&str]) -> String {
    invite(peer, &[&["--to", "@choir", "--can", "member"], args].concat())
}

fn enter(peer: &Peer, link: &str, name: &str) -> Value {
    told(peer.home(), &["community", "join", link, "--yes", "--called", name])
}

/// The names of the members of the choir, as a peer shows them.
fn names(peer: &Peer) -> Vec<String> {
    let told = peer.value("/.sys/communities/choir/members");
    let mut names: Vec<String> =
        told["members"].as_array().into_iter().flatten().filter_map(|member| member["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

fn until_names(peer: &Peer, wanted: &[&str]) {
    poll(&format!("the members are {wanted:?}"), || {
        (peer.send("GET", "/.sys/communities/choir/members", &[], "").status == 200 && names(peer) == wanted).then_some(())
    });
}

/// Who wrote what on the board of the choir, the newest first.
fn board(peer: &Peer) -> Vec<(String, String)> {
    let told = peer.value("/.sys/communities/choir/board");
    let text = |notice: &Value, name: &str| notice[name].as_str().unwrap_or("?").to_owned();
    told["notices"].as_array().into_iter().flatten().map(|notice| (text(notice, "by"), text(notice, "text"))).collect()
}

/// Bert says that the organizer's key is a device of his, and would be the organizer, and never be removed.
#[test]
fn nobody_is_taken_for_a_device_of_somebody_else() {
    let (anna, bert) = (Peer::start(), Peer::start());
    found(&anna, &["choir", "--called", "Anna"]);
    enter(&bert, &member_link(&anna, &[]), "Bert");
    for peer in [&anna, &bert] {
        until_names(peer, &["Anna", "Bert"]);
    }
    let id = |peer: &Peer| told(peer.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    let wanted =
        json!({"path": format!("@choir/members/{}", id(&bert)), "who": id(&anna), "can": "write", "label": format!("device:{}", &id(&anna)[..16])});
    let given = bert.send("POST", "/.sys/grant", &[JSON], wanted.to_string());
    assert_eq!(given.status, 200, "{}", given.text());
    poll("anna knows what he said", || {
        let grants = told(anna.home(), &["grants", "@choir"]);
        let to_her = |grant: &&Value| grant["for"] == id(&anna).as_str();
        (grants["grants"].as_array().into_iter().flatten().filter(to_her).count() > 1).then_some(())
    });
    assert_eq!(names(&anna), ["Anna", "Bert"]);
    let removed = told(anna.home(), &["community", "remove", "choir", "Bert"]);
    assert_eq!(removed["keys"], json!([id(&bert)]), "{removed}");
    until_names(&anna, &["Anna"]);
}

/// An organizer wrote a text where the rules were, which was saved, and from then on nobody could use the community: it was said
/// not to be here yet.
#[test]
fn what_are_no_rules_is_not_written_as_rules() {
    let (anna, bert) = (Peer::start(), Peer::start());
    found(&anna, &["choir", "--called", "Anna"]);
    let rules = anna.value("/@choir/rules");
    let refused = [
        ["put", "@choir/rules", "\"be kind\""],
        ["put", "@choir/rules", "{}"],
        ["put", "@choir/rules/replicas", "0"],
        ["put", "@choir/rules/title", "7"],
        ["patch", "@choir/rules", "{\"kind\":\"club\"}"],
        ["put", "@choir", "{\"a\":1}"],
    ];
    for args in refused {
        let told = run(anna.home(), &args);
        assert!(told.code != 0 && told.err.contains("a community has no such rules") && told.err.contains("community set"), "{args:?} {told:?}");
    }
    for path in ["@choir/rules", "@choir/rules/title"] {
        let told = run(anna.home(), &["rm", path]);
        assert!(told.code != 0 && told.err.contains("a community has no such rules"), "{path} {told:?}");
    }
    assert_eq!(anna.value("/@choir/rules"), rules);
    for args in [["put", "@choir/rules/about", "\"we sing\""], ["patch", "@choir/rules", "{\"away_h\":48}"], ["put", "@choir/songs", "1"]] {
        assert_eq!(run(anna.home(), &args).code, 0, "{args:?}");
    }
    assert_eq!((&anna.value("/@choir/rules")["about"], &anna.value("/@choir/rules")["away_h"]), (&json!("we sing"), &json!(48)));
    // Who may not write is told whom to ask.
    enter(&bert, &member_link(&anna, &[]), "Bert");
    until_names(&bert, &["Anna", "Bert"]);
    let told = run(bert.home(), &["put", "@choir/wiki", "1"]);
    assert!(told.code != 0 && told.err.contains("Anna") && told.err.contains("timebus grant @"), "{told:?}");
    let command = told.err.split("`timebus ").nth(1).and_then(|rest| rest.split('`').next()).expect("a command").to_owned();
    assert_eq!(run(anna.home(), &command.split(' ').collect::<Vec<_>>()).code, 0, "{command}");
    poll("bert may write", || (run(bert.home(), &["put", "@choir/wiki", "1"]).code == 0).then_some(()));
    // By parts that are not looked at, or by a program of before, it can happen all the same.
    let splice = [("Content-Type", "application/json"), ("Content-Range", "json .away_h")];
    assert_eq!(anna.send("PATCH", "/@choir/rules", &splice, "\"long\"").status, 200);
    let told = run(anna.home(), &["community", "members", "choir"]);
    assert!(told.code != 0 && told.err.contains("cannot be read") && told.err.contains("timebus undo @"), "{told:?}");
    assert_eq!(run(anna.home(), &["undo", "@choir/rules"]).code, 0);
    until_names(&anna, &["Anna", "Bert"]);
}

#[test]
fn a_community_that_is_new_has_nobody_else_in_it() {
    let alice = Peer::start();
    found(&alice, &["choir", "--called", "Alice"]);
    let shown = run(alice.home(), &["peers"]);
    assert!(shown.out.contains("nobody else is known who is in it"), "{shown:?}");
    let made = run(alice.home(), &["invite", "--to", "@choir", "--can", "member"]);
    assert!(made.code == 0 && !made.err.contains("limits only writing"), "{made:?}");
    // Names are known as they are typed, and one that could be two is neither.
    assert_eq!(run(alice.home(), &["ls", "@Choir"]).code, 0);
    let top = run(alice.home(), &["top"]);
    assert!(!top.out.contains("choir (friend)"), "{top:?}");
    // Somebody who has nothing of it does not make it one that is kept back.
    let bob = Peer::start();
    assert_eq!(super::neighbours::join(&bob, &invite(&alice, &[]), "alice")["result"], "connected");
    let shown = run(alice.home(), &["peers"]);
    assert!(!shown.out.contains("not given to us"), "{shown:?}");
    let refused = run(alice.home(), &["invite", "--to", "/.sys", "--can", "write"]);
    assert!(refused.code != 0 && refused.err.contains("this peer alone"), "{refused:?}");
}

/// A restored home has a device key of its own, which nobody has let in; that it was removed would be wrong.
#[test]
fn a_restored_home_is_told_who_lets_it_in() {
    let alice = Peer::start();
    found(&alice, &["choir", "--called", "Alice"]);
    let tar = alice.home().beside("all.tar").display().to_string();
    assert_eq!(run(alice.home(), &["backup", &tar]).code, 0);
    let copy = crate::peer::Home::new();
    let restored = run(&copy, &["restore", &tar]);
    assert!(restored.code == 0 && restored.err.contains("ask them for new invites"), "{restored:?}");
    let copy = Peer::start_in(copy);
    assert_eq!(copy.value("/.sys/communities")["communities"][0]["you"], "elsewhere");
    assert!(run(copy.home(), &["community"]).out.contains("another machine of yours is in it"));
}

#[test]
fn members_carry_names_share_a_board_and_leave() {
    let (alice, bob, carol) = (Peer::start(), Peer::start(), Peer::start());
    let choir = found(&alice, &["choir", "--about", "We sing", "--called", "Alice"]);
    assert_eq!((choir["you"].as_str(), choir["petname"].as_str(), choir["members"].as_u64()), (Some("organizer"), Some("choir"), Some(1)), "{choir}");
    let link = member_link(&alice, &["--uses", "2"]);
    let card = run(bob.home(), &["community", "join", &link]);
    assert!(card.code == 2 && card.err.contains("you become a member of this community") && card.err.contains("We sing"), "{card:?}");
    assert_eq!(enter(&bob, &link, "Bobby")["result"], "connected");
    assert_eq!(enter(&carol, &link, "Carol")["result"], "connected");
    for peer in [&alice, &bob, &carol] {
        until_names(peer, &["Alice", "Bobby", "Carol"]);
    }
    // Who writes is told by his key, whatever he says.
    assert_eq!(run(bob.home(), &["community", "post", "choir", "no singing"]).code, 0);
    let slot = |peer: &Peer| {
        let own = peer.value("/.sys/communities/choir/board")["path"].as_str().map(|path| format!("/@choir{path}"));
        own.unwrap_or_else(|| panic!("no part of the board"))
    };
    let of_carol = slot(&carol);
    let posted = carol.send("POST", &of_carol, &[JSON], r#"{"text": "oh no", "by": "Alice"}"#);
    assert_eq!(posted.status, 201, "{}", posted.text());
    poll("alice sees both notices", || (board(&alice).len() == 2).then_some(()));
    let mut seen = board(&alice);
    seen.sort();
    assert_eq!(seen, [("Bobby".to_owned(), "no singing".to_owned()), ("Carol".to_owned(), "oh no".to_owned())]);
    assert!(run(alice.home(), &["community", "board", "choir"]).out.contains("no singing"));
    // What one wrote no other member changes or removes; an organizer does, and he himself.
    let notice = |text: &str| {
        let told = alice.value("/.sys/communities/choir/board")["notices"].clone();
        let found = told.as_array().into_iter().flatten().find(|notice| notice["text"] == text).map(|notice| notice["path"].clone());
        found.and_then(|path| Some(format!("/@choir{}", path.as_str()?)))
    };
    let of_bob = notice("no singing").expect("a notice");
    poll("carol has it", || (carol.send("GET", &of_bob, &[], "").status == 200).then_some(()));
    for (method, body) in [("DELETE", ""), ("PUT", "\"I sing\""), ("PATCH", r#"{"text": "I sing"}"#)] {
        assert_eq!(carol.send(method, &of_bob, &[JSON], body).status, 403, "{method}");
    }
    assert_eq!(carol.send("DELETE", "/@choir/board", &[], "").status, 403);
    // Where all wrote before members had parts of their own, organizers do, and it is shown as ever.
    assert_eq!(alice.send("POST", "/@choir/board", &[JSON], r#"{"text": "of before"}"#).status, 201);
    assert_eq!(slot(&alice), "/@choir/board");
    let texts = |peer: &Peer| board(peer).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    assert_eq!(texts(&alice), ["of before", "oh no", "no singing"], "the newest first, whoever wrote it");
    // Whoever writes calls his notices as he likes, and is no later for that.
    let buy: Vec<String> = ["zzzz", "1xxxxxxxxxxxxxx", "b"].map(|name| format!(r#""{name}": {{"text": "buy", "at_ms": 9e15}}"#)).into();
    assert_eq!(carol.send("PATCH", &of_carol, &[JSON], format!("{{{}}}", buy.join(", "))).status, 200);
    poll("alice has them", || (texts(&alice).len() == 5).then_some(()));
    assert_eq!(alice.send("POST", "/@choir/board", &[JSON], r#"{"text": "fire!"}"#).status, 201);
    assert_eq!(texts(&alice), ["fire!", "buy", "buy", "of before", "oh no", "no singing"], "what is of a time to come waits for it");
    assert_eq!(alice.value("/.sys/communities/choir/board?limit=1")["notices"][0]["text"], "fire!");
    let of_fire = notice("fire!").expect("a notice");
    assert_eq!(alice.send("DELETE", &of_fire, &[], "").status, 200);
    for name in ["zzzz", "1xxxxxxxxxxxxxx", "b"] {
        assert_eq!(carol.send("DELETE", &format!("{of_carol}/{name}"), &[], "").status, 200);
    }
    assert_eq!(alice.send("DELETE", &of_bob, &[], "").status, 200);
    assert_eq!(carol.send("DELETE", &notice("oh no").expect("a notice"), &[], "").status, 200);
    poll("both are gone", || (texts(&alice) == ["of before"] && texts(&bob) == ["of before"]).then_some(()));

    // The rules are for organizers, and a place is for the one whose it is.
    let key = |peer: &Peer| peer.value("/.sys/status")["device"].as_str().expect("a key").to_owned();
    assert_eq!(bob.send("PUT", "/@choir/rules/title", &[JSON], "\"mine\"").status, 403);
    let other = format!("/@choir/members/{}/name", key(&carol));
    assert_eq!(bob.send("PUT", &other, &[JSON], "\"Mallory\"").status, 403);
    let refused = run(bob.home(), &["community", "set", "choir", "--copies", "1"]);
    assert!(refused.code == 1 && refused.err.contains("only organizers"), "{refused:?}");
    assert_eq!(run(alice.home(), &["community", "set", "choir", "--copies", "2"]).code, 0);
    poll("the rule comes", || (bob.value("/.sys/communities/choir")["rules"]["replicas"] == 2).then_some(()));

    // A name of another one's own choice, and gone.
    assert_eq!(run(bob.home(), &["community", "set", "choir", "--called", "Robert"]).code, 0);
    until_names(&alice, &["Alice", "Carol", "Robert"]);
    let left = told(bob.home(), &["community", "leave", "choir"]);
    assert_eq!((left["left"].as_bool(), left["told"].as_bool()), (Some(true), Some(true)), "{left}");
    until_names(&alice, &["Alice", "Carol"]);
    assert_eq!(bob.value("/.sys/communities")["communities"], json!([]));
    assert_eq!(run(alice.home(), &["community", "remove", "choir", "Carol"]).code, 0);
    until_names(&alice, &["Alice"]);
    poll("carol hears that she is out", || (carol.value("/.sys/communities/choir")["you"] == "removed").then_some(()));
    assert_eq!(carol.send("POST", &of_carol, &[JSON], "\"still here\"").status, 403);
}

#[test]
fn members_bring_members_where_the_rules_say_so_and_the_board_can_be_for_organizers() {
    let (alice, bob, carol) = (Peer::start(), Peer::start(), Peer::start());
    found(&alice, &["choir", "--called", "Alice", "--board", "organizers", "--guests", "1"]);
    assert_eq!(enter(&bob, &member_link(&alice, &[]), "Bob")["result"], "connected");
    until_names(&bob, &["Alice", "Bob"]);
    let refused = run(bob.home(), &["community", "post", "choir", "hello"]);
    assert!(refused.code == 1 && refused.err.contains("you may not write on this board"), "{refused:?}");
    let link = poll("bob may bring somebody", || {
        let made = run(bob.home(), &["invite", "--to", "@choir", "--can", "member"]);
        (made.code == 0).then(|| made.out.lines().next().expect("a link").to_owned())
    });
    assert_eq!(enter(&carol, &link, "Carol")["result"], "connected");
    until_names(&alice, &["Alice", "Bob", "Carol"]);
    let members = alice.value("/.sys/communities/choir/members");
    let carol_there = members["members"].as_array().into_iter().flatten().find(|member| member["name"] == "Carol");
    assert_eq!(carol_there.map(|carol| carol["by"].clone()), Some(json!("Bob")));
    assert_ne!(run(carol.home(), &["invite", "--to", "@choir", "--can", "member"]).code, 0, "no further than the rules say");
    // An organizer makes another one.
    assert_eq!(run(alice.home(), &["community", "organizer", "choir", "Bob"]).code, 0);
    poll("bob organizes it", || (bob.value("/.sys/communities/choir")["you"] == "organizer").then_some(()));
    assert_eq!(run(bob.home(), &["community", "post", "choir", "hello"]).code, 0);
    until(&carol, "/.sys/communities/choir/board", "the notice", |answer| answer.status == 200 && answer.text().contains("hello"));
}

#[test]
fn a_member_is_one_with_all_his_devices() {
    let (alice, bob) = (Peer::start(), Peer::start());
    let choir = found(&alice, &["choir", "--called", "Alice"]);
    assert_eq!(enter(&bob, &member_link(&alice, &[]), "Bob")["result"], "connected");
    until_names(&alice, &["Alice", "Bob"]);
    let second = super::devices::second(&bob);
    let key = choir["community"].as_str().expect("a key");
    let node = alice.ready["node"].as_str().expect("a node").to_owned();
    let address = alice.value("/.sys/peers")["addresses"][0].as_str().expect("an address").to_owned();
    told(second.home(), &["follow", key, "--node", &node, "--at", &address, "--as", "choir"]);
    poll("the second device is in it, too", || {
        let all = second.value("/.sys/communities");
        (all["communities"][0]["you"] == "member" && all["communities"][0]["name"] == "Bob").then_some(())
    });
    assert_eq!(run(second.home(), &["community", "post", "choir", "from the laptop"]).code, 0);
    poll("it is his notice", || (board(&alice) == [("Bob".to_owned(), "from the laptop".to_owned())]).then_some(()));
    poll("with two machines", || {
        let told = alice.value("/.sys/communities/choir/members");
        let bobs = told["members"].as_array().into_iter().flatten().find(|member| member["name"] == "Bob").cloned()?;
        (bobs["keys"].as_array()?.len() == 2 && bobs["nodes"].as_array()?.len() == 2).then_some(())
    });
    assert_eq!(names(&alice), ["Alice", "Bob"]);
}

/// Bert says of another member's second machine that it is his, in so many ways that one of them would count.
#[test]
fn a_device_is_whose_it_says_itself_and_of_nobody_who_says_it_louder() {
    let (alice, bob, bert) = (Peer::start(), Peer::start(), Peer::start());
    let choir = found(&alice, &["choir", "--called", "Alice"]);
    for (peer, name) in [(&bob, "Bob"), (&bert, "Bert")] {
        assert_eq!(enter(peer, &member_link(&alice, &[]), name)["result"], "connected");
    }
    let second = super::devices::second(&bob);
    let key = choir["community"].as_str().expect("a key");
    let node = alice.ready["node"].as_str().expect("a node").to_owned();
    let address = alice.value("/.sys/peers")["addresses"][0].as_str().expect("an address").to_owned();
    told(second.home(), &["follow", key, "--node", &node, "--at", &address, "--as", "choir"]);
    let id = |peer: &Peer| told(peer.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    let keys = |at: &Peer, name: &str| {
        let told = at.value("/.sys/communities/choir/members");
        let member = told["members"].as_array().into_iter().flatten().find(|member| member["name"] == name).cloned();
        let keys = member.and_then(|member| member["keys"].as_array().cloned()).unwrap_or_default();
        keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect::<std::collections::BTreeSet<_>>()
    };
    let both = std::collections::BTreeSet::from([id(&bob), id(&second)]);
    poll("the second device is Bob's", || (keys(&bert, "Bob") == both && keys(&alice, "Bob") == both).then_some(()));
    let at = format!("@choir/members/{}", id(&bert));
    for million in 1..=12 {
        let label = format!("device:{}", &id(&second)[..16]);
        let wanted = json!({"path": at, "who": id(&second), "can": "write", "label": label, "bytes_max": million * 1_000_000});
        let given = bert.send("POST", "/.sys/grant", &[JSON], wanted.to_string());
        assert_eq!(given.status, 200, "{}", given.text());
    }
    poll("alice knows what he said", || {
        let grants = told(alice.home(), &["grants", "@choir"]);
        let to_it = |grant: &&Value| grant["for"] == id(&second).as_str() && grant["path"].as_str().is_some_and(|path| path.contains(&id(&bert)));
        (grants["grants"].as_array().into_iter().flatten().filter(to_it).count() >= 12).then_some(())
    });
    assert_eq!((keys(&alice, "Bob"), keys(&alice, "Bert")), (both, [id(&bert)].into()));
    poll("it writes as before", || (run(second.home(), &["community", "post", "choir", "from the laptop"]).code == 0).then_some(()));
    poll("it is Bob's notice", || board(&alice).contains(&("Bob".to_owned(), "from the laptop".to_owned())).then_some(()));
}

#[test]
fn only_members_are_let_in_as_such_and_only_where_there_is_a_community() {
    let alice = Peer::start();
    let refused = run(alice.home(), &["invite", "--can", "member"]);
    assert!(refused.code == 2 || refused.code == 1, "{refused:?}");
    assert!(refused.err.contains("to a community"), "{refused:?}");
    let unknown = run(alice.home(), &["community", "show", "nowhere"]);
    assert!(unknown.code == 1 && unknown.err.contains("you are in no such community"), "{unknown:?}");
    for bad in [&["community", "new", ""][..], &["community", "new", "a", "--called", "\n"]] {
        assert_ne!(run(alice.home(), bad).code, 0, "{bad:?}");
    }
    assert_eq!(alice.send("POST", "/.sys/communities", &[JSON], r#"{"title": "x", "replicas": 99}"#).status, 400);
    // It has to be possible to name it.
    for title in ["A/B", "../x", ".."] {
        let refused = run(alice.home(), &["community", "new", title, "--called", "Ada"]);
        assert!(refused.code == 1 && refused.err.contains("could not be named"), "{title}: {refused:?}");
    }
    assert_eq!(run(alice.home(), &["community", "new", "Tea?", "--called", "Ada"]).code, 0);
    let renamed = run(alice.home(), &["community", "set", "Tea?", "--title", "Tea/Cake"]);
    assert!(renamed.code == 1 && renamed.err.contains("could not be named"), "{renamed:?}");
    assert_eq!(run(alice.home(), &["community", "show", "Tea?"]).code, 0);
}

/// How the first file of the choir lies: who is to have it, with what each says.
fn placement(peer: &Peer) -> (Value, Vec<(String, String)>) {
    let told = peer.value("/.sys/communities/choir/placement");
    let holders = told["files"][0]["holders"].as_array().cloned().unwrap_or_default();
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or("?").to_owned();
    let holders = holders.iter().map(|holder| (text(holder, "name"), text(holder, "state"))).collect();
    (told, holders)
}

#[test]
fn files_lie_with_members_who_offered_room_and_are_repaired_without_who_put_them_there() {
    let alice = Peer::start();
    found(&alice, &["choir", "--called", "Alice", "--copies", "2"]);
    let link = member_link(&alice, &["--uses", "3"]);
    let mut others = Vec::new();
    for name in ["Bob", "Carol", "Dave"] {
        let peer = Peer::start();
        assert_eq!(enter(&peer, &link, name)["result"], "connected");
        poll("he is a member", || (run(peer.home(), &["community", "offer", "50MB"]).code == 0).then_some(()));
        others.push((name, peer));
    }
    // Where something lies changes with each offer that is heard of.
    for peer in others.iter().map(|(_, peer)| peer).chain([&alice]) {
        poll("all know what each offers", || {
            let told = peer.value("/.sys/communities/choir/members");
            let offers = told["members"].as_array()?.iter().filter(|member| member["stores"].as_u64() > Some(0)).count();
            (offers == 3).then_some(())
        });
    }
    let song: Vec<u8> = (0..1_300_000u32).flat_map(|number| number.to_le_bytes()).take(1_300_000).collect();
    let put = alice.send("PUT", "/@choir/board/song", &[("Content-Type", "audio/ogg")], &song);
    assert!(put.status < 300, "{}", put.text());
    let holders = poll("two hold it", || {
        let (told, holders) = placement(&alice);
        (told["under"] == 0 && holders.len() == 2 && holders.iter().all(|(_, state)| state == "holds")).then_some(holders)
    });
    // All work out the same, and who offered nothing has nothing placed with him.
    for (_, peer) in &others {
        poll("all place it alike", || {
            let (_, seen) = placement(peer);
            (seen.iter().map(|(name, _)| name).eq(holders.iter().map(|(name, _)| name))).then_some(())
        });
    }
    assert!(run(alice.home(), &["community", "placement", "choir"]).out.contains("all of them where they belong"));
    // Alice is gone, and one of the two leaves: the third gets it from the other one.
    drop(alice.stop());
    let at = |others: &[(&str, Peer)], name: &str| others.iter().position(|(other, _)| *other == name).expect("one of them");
    let (_, leaver) = others.remove(at(&others, &holders[0].0));
    assert_eq!(run(leaver.home(), &["community", "leave", "choir"]).code, 0);
    // Nobody else could tell them that he left.
    for (_, peer) in &others {
        until_names(peer, &["Alice", others[0].0, others[1].0]);
    }
    drop(leaver.stop());
    let (other, third) = (at(&others, &holders[1].0), 1 - at(&others, &holders[1].0));
    poll("the third holds it", || {
        let (told, now) = placement(&others[third].1);
        (told["under"] == 0 && now.len() == 2 && now.iter().all(|(_, state)| state == "holds")).then_some(())
    });
    let (_, gone) = others.remove(other);
    drop(gone.stop());
    let answer = others[0].1.send("GET", "/@choir/board/song", &[], "");
    assert!(answer.status == 200 && answer.body == song, "{} with {} bytes", answer.status, answer.body.len());
    // What he keeps back is no copy for anybody: as if he offered nothing, as long as that is so.
    let last = &others[0].1;
    let is_placed_here = || placement(last).1.iter().any(|(name, _)| name == others[0].0);
    assert!(is_placed_here());
    let kept_back = told(last.home(), &["files", "share", "choir", "no"]);
    assert_eq!((&kept_back["share"], &kept_back["offered"]), (&json!(false), &json!(50_000_000)));
    poll("it does not count", || (!is_placed_here()).then_some(()));
    let offered = run(last.home(), &["community", "offer", "50MB"]);
    assert!(offered.code == 0 && offered.out.contains("do not count") && offered.out.contains("files share @choir yes"), "{offered:?}");
    assert!(!is_placed_here());
    told(last.home(), &["files", "share", "choir", "yes"]);
    poll("it counts again", || is_placed_here().then_some(()));
    // What is offered no longer is placed elsewhere, or lacks a copy, and it is said.
    assert_eq!(run(others[0].1.home(), &["community", "offer", "0"]).code, 0);
    poll("it is told", || {
        let out = run(others[0].1.home(), &["community", "placement", "choir"]).out;
        (out.contains("1 with fewer copies") && out.contains("too few copies")).then_some(())
    });
}

/// Alice founds a choir with one copy of everything, puts songs there, of which some lie with Bob and some with Carol, and is gone. Answers
/// them and the songs that Bob has alone.
fn only_copies() -> (Peer, Peer, Vec<(String, Vec<u8>)>) {
    let (alice, bob, carol) = (Peer::start(), Peer::start(), Peer::start());
    found(&alice, &["choir", "--called", "Alice", "--copies", "1"]);
    let link = member_link(&alice, &["--uses", "3"]);
    for (peer, name) in [(&bob, "Bob"), (&carol, "Carol")] {
        assert_eq!(enter(peer, &link, name)["result"], "connected");
        poll("he is a member", || (run(peer.home(), &["community", "offer", "50MB"]).code == 0).then_some(()));
    }
    for peer in [&alice, &bob, &carol] {
        poll("all know what each offers", || {
            let told = peer.value("/.sys/communities/choir/members");
            let offers = told["members"].as_array()?.iter().filter(|member| member["stores"].as_u64() > Some(0)).count();
            (offers == 2).then_some(())
        });
    }
    let song = |number: u32| (number..25_000 + number).flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
    let songs: Vec<(String, Vec<u8>)> = (0..12).map(|number| (format!("/board/song-{number}"), song(number))).collect();
    for (path, song) in &songs {
        let put = alice.send("PUT", &format!("/@choir{path}"), &[("Content-Type", "audio/ogg")], song);
        assert!(put.status < 300, "{}", put.text());
    }
    let of_bob: Vec<String> = poll("all of them are held", || {
        let told = alice.value("/.sys/communities/choir/placement");
        let files = told["files"].as_array().filter(|files| files.len() == songs.len() && told["under"] == 0)?;
        let is_held = |file: &Value| file["holders"].as_array().is_some_and(|all| all.len() == 1 && all[0]["state"] == "holds");
        let with_bob = files.iter().filter(|file| file["holders"][0]["name"] == "Bob").filter_map(|file| file["path"].as_str());
        files.iter().all(is_held).then(|| with_bob.map(str::to_owned).collect())
    });
    assert!(!of_bob.is_empty());
    drop(alice.stop());
    (bob, carol, songs.into_iter().filter(|(path, _)| of_bob.contains(path)).collect())
}

fn has(peer: &Peer, songs: &[(String, Vec<u8>)]) {
    for (path, song) in songs {
        let answer = peer.send("GET", &format!("/@choir{path}"), &[], "");
        assert!(answer.status == 200 && answer.body == *song, "{path}: {} with {} bytes", answer.status, answer.body.len());
    }
}

#[test]
fn who_leaves_hands_over_what_he_held() {
    let (bob, carol, songs) = only_copies();
    let left = told(bob.home(), &["community", "leave", "choir"]);
    assert_eq!((&left["left"], &left["handing"]["nowhere"]), (&json!(true), &json!(0)), "{left}");
    assert_eq!(bob.value("/.sys/communities")["communities"], json!([]));
    drop(bob.stop());
    has(&carol, &songs);
}

#[test]
fn who_takes_his_offer_back_keeps_what_others_do_not_have_yet() {
    let (bob, carol, songs) = only_copies();
    // Carol is to have all of it, and is away.
    drop(carol.stop());
    let alone = run(bob.home(), &["community", "offer", "0"]);
    assert!(alone.code == 0 && alone.out.contains("until others have it"), "{alone:?}");
    let handing = || bob.value("/.sys/communities/choir")["handing"].clone();
    let first = poll("it is known what is to be handed over", || Some(handing()).filter(|handing| handing["files"] == songs.len()));
    assert_eq!((&first["bytes"], &first["leaves"]), (&json!(100_000 * songs.len()), &json!(false)), "{first}");
    let shown = run(bob.home(), &["community", "show", "choir"]).out;
    assert!(shown.lines().any(|line| line.starts_with("handing ") && line.contains("still to get to others")), "{shown}");
    has(&bob, &songs);
    // Who leaves waits for her, too, and stays when he offers something again.
    let leaves = bob.send("POST", "/.sys/communities/choir/leave", &[JSON], "{}").text();
    assert!(leaves.contains(r#""left":false"#) && handing()["leaves"] == true, "{leaves}");
    assert_eq!(run(bob.home(), &["community", "offer", "50MB"]).code, 0);
    assert_eq!((handing(), &bob.value("/.sys/communities/choir")["you"]), (Value::Null, &json!("member")));
}

#[test]
fn the_only_organizer_is_told_what_follows_before_he_leaves() {
    let (alice, bob) = (Peer::start(), Peer::start());
    found(&alice, &["choir", "--called", "Alice"]);
    assert_eq!(enter(&bob, &member_link(&alice, &[]), "Bob")["result"], "connected");
    for peer in [&alice, &bob] {
        until_names(peer, &["Alice", "Bob"]);
    }
    let asked = run(alice.home(), &["community", "leave", "choir"]);
    assert!(asked.code == 2 && asked.err.contains("only organizer") && asked.err.contains("--yes"), "{asked:?}");
    let refused = alice.send("POST", "/.sys/communities/choir/leave", &[JSON], "{}");
    assert!(refused.status == 409 && refused.text().contains("only-organizer"), "{}", refused.text());
    assert_eq!(alice.value("/.sys/communities/choir")["only_organizer"], true);
    assert_eq!(bob.value("/.sys/communities/choir")["only_organizer"], false);
    assert_eq!(run(alice.home(), &["community", "organizer", "choir", "Bob"]).code, 0);
    assert_eq!(alice.value("/.sys/communities/choir")["only_organizer"], false);
    assert_eq!(told(alice.home(), &["community", "leave", "choir", "--now"])["left"], true);
    until_names(&bob, &["Bob"]);
    assert_eq!(told(bob.home(), &["community", "leave", "choir"])["left"], true, "nobody else is in it");
}

#[test]
fn what_a_member_posted_is_read_from_those_his_space_is_placed_with() {
    let (alice, bob, carol) = (Peer::start(), Peer::start(), Peer::start());
    found(&alice, &["choir", "--called", "Alice", "--copies", "1"]);
    let link = member_link(&alice, &["--uses", "3"]);
    for (peer, name) in [(&bob, "Bob"), (&carol, "Carol")] {
        assert_eq!(enter(peer, &link, name)["result"], "connected");
    }
    // What is for everybody, and what is for nobody.
    assert_eq!(run(bob.home(), &["grant", "/", "anyone", "--can", "read"]).code, 0);
    assert_eq!(run(bob.home(), &["private", "/diary"]).code, 0);
    bob.put("/posts/1", &json!({"text": "we sing on friday"}));
    bob.put("/diary/1", &json!("nobody's"));
    let picture: Vec<u8> = (0..300_000u32).flat_map(|number| number.to_le_bytes()).take(300_000).collect();
    let put = bob.send("PUT", "/posts/picture", &[("Content-Type", "image/png")], &picture);
    assert!(put.status < 300, "{}", put.text());
    let id = bob.ready["id"].as_str().expect("an id").to_owned();
    // Carol has room. Nobody there reads anything of bob, and strangers have nothing fetched.
    poll("she is a member", || (run(carol.home(), &["community", "offer", "50MB"]).code == 0).then_some(()));
    let stranger = |path: &str| carol.send("GET", &format!("/@{id}{path}"), &[("Origin", "http://else.example")], "");
    poll("carol holds his posts and the picture", || {
        (stranger("/posts/1").status == 200 && stranger("/posts/picture").body == picture).then_some(())
    });
    assert_ne!(stranger("/diary/1").status, 200);
    // Where it lies is told, by the one who has it and by the one whose it is.
    let lies = |peer: &Peer| {
        let told = peer.value("/.sys/communities/choir/placement");
        told["spaces"].as_array().into_iter().flatten().find(|space| space["space"] == json!(id)).cloned().unwrap_or_default()
    };
    for peer in [&carol, &bob] {
        let is_so = |space: &Value| (&space["of"], &space["under"]) == (&json!(["Bob"]), &json!(false)) && space["bytes"].as_u64() > Some(0);
        poll("carol is known to hold his space", || {
            let (space, holder) = (lies(peer), lies(peer)["holders"][0].clone());
            (is_so(&space) && holder["name"] == "Carol" && holder["state"] == "holds").then_some(())
        });
    }
    let said = run(carol.home(), &["community", "placement", "choir"]).out;
    assert!(said.lines().any(|line| line.starts_with("Bob") && line.ends_with("Carol")), "{said}");
    // What she keeps back nobody gets from her, so that is no copy, and all know it.
    told(carol.home(), &["files", "share", &format!("@{id}"), "no"]);
    assert_eq!(stranger("/posts/picture").problem(503)["type"], "/.sys/problems/blob-missing");
    for peer in [&carol, &bob] {
        poll("it is no copy", || {
            let space = lies(peer);
            (space["under"] == true && space["holders"].as_array().is_some_and(Vec::is_empty)).then_some(())
        });
    }
    told(carol.home(), &["files", "share", &format!("@{id}"), "yes"]);
    for peer in [&carol, &bob] {
        poll("it is one again", || (lies(peer)["holders"][0]["state"] == "holds").then_some(()));
    }
    poll("with the picture", || (stranger("/posts/picture").body == picture).then_some(()));
    drop(bob.stop());
    // Dave comes when bob is gone, and so is everybody but her.
    let dave = Peer::start();
    assert_eq!(enter(&dave, &link, "Dave")["result"], "connected");
    until_names(&dave, &["Alice", "Bob", "Carol", "Dave"]);
    for (name, id) in [("Bob", id.as_str()), ("Carol", carol.ready["id"].as_str().expect("an id"))] {
        poll("dave hears where the others are", || {
            let told = told(dave.home(), &["find", &format!("{name}@choir")]);
            told["nodes"].as_array().into_iter().flatten().any(|node| node["record"]["space"] == json!(id)).then_some(())
        });
    }
    drop(alice.stop());
    let post = poll("dave reads what bob wrote", || {
        let answer = dave.send("GET", &format!("/@{id}/posts/1"), &[], "");
        (answer.status == 200).then(|| answer.text())
    });
    assert!(post.contains("we sing on friday"), "{post}");
    let answer = dave.send("GET", &format!("/@{id}/posts/picture"), &[], "");
    assert!(answer.status == 200 && answer.body == picture, "{} with {} bytes", answer.status, answer.body.len());
    assert_ne!(dave.send("GET", &format!("/@{id}/diary/1"), &[], "").status, 200);
}

#[test]
fn who_moved_is_found_by_the_dht_of_the_community_when_nobody_can_tell() {
    let alice = Peer::start();
    found(&alice, &["choir", "--called", "Alice"]);
    let free = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (port, first) = (free.port().to_string(), free.to_string());
    assert_eq!(run(alice.home(), &["community", "set", "choir", "--dht", &first]).code, 0);
    assert_eq!(run(alice.home(), &["community", "dht", "choir", "on", "--bind", "127.0.0.1", "--port", &port]).code, 0);
    let link = member_link(&alice, &["--uses", "2"]);
    let (bob, carol) = (Peer::start(), Peer::start());
    for (peer, name) in [(&bob, "Bob"), (&carol, "Carol")] {
        assert_eq!(enter(peer, &link, name)["result"], "connected");
        until_names(peer, if name == "Bob" { &["Alice", "Bob"] } else { &["Alice", "Bob", "Carol"] });
    }
    until_names(&bob, &["Alice", "Bob", "Carol"]);
    let off = run(carol.home(), &["find", "Bob@choir"]);
    assert!(off.code == 0 && off.err.contains("off: you take no part in the DHT"), "{off:?}");
    for peer in [&bob, &carol] {
        let on = ["community", "dht", "choir", "on", "--bind", "127.0.0.1"];
        poll("the rule has come", || (run(peer.home(), &on).code == 0).then_some(()));
        poll("it listens", || peer.value("/.sys/communities/choir")["dht"]["listens"].is_string().then_some(()));
        // From here on they do not hear of each other through alice.
        assert_eq!(run(peer.home(), &["block", alice.ready["id"].as_str().expect("a key")]).code, 0);
    }
    let carol = carol.stop();
    // Bob moves, and nobody sees it.
    let home = bob.stop();
    let free = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let bob = Peer::launch_as(home, &mut Command::new(PROGRAM), &["--no-lan", "--udp", &free]).unwrap_or_else(|_| panic!("starts"));
    poll("bob is in the DHT", || bob.value("/.sys/communities/choir")["dht"]["listens"].is_string().then_some(()));
    let carol = Peer::start_in(carol);
    let told = poll("carol finds where he is", || {
        let told = told(carol.home(), &["find", "Bob@choir"]);
        let says = told["nodes"].as_array().into_iter().flatten().any(|node| node["record"]["addresses"].to_string().contains(&free));
        says.then_some(told)
    });
    let dht = told["ways"].as_array().into_iter().flatten().find(|way| way["way"] == "community DHTs").cloned();
    assert_eq!(dht.map(|way| way["found"].clone()), Some(json!(true)), "{told}");
    poll("and calls him", || (carol.value("/.sys/communities/choir")["connected"] == 1).then_some(()));
    drop(alice);
}

/// Carol offers more than she has room for.
#[test]
fn who_is_full_counts_for_what_has_room_and_the_others_hold_the_rest() {
    let net = |limit: &'static str| [&crate::peer::NET[..], &["--blob-limit", limit]].concat();
    let start =
        |limit| Peer::launch_as(Home::new(), &mut Command::new(PROGRAM), &net(limit)).unwrap_or_else(|(home, _)| panic!("it starts: {}", home.log()));
    let alice = start("100MB");
    found(&alice, &["choir", "--called", "Alice", "--copies", "2"]);
    let link = member_link(&alice, &["--uses", "3"]);
    let others = [("Bob", "100MB"), ("Carol", "2MB"), ("Dave", "100MB")].map(|(name, limit)| {
        let peer = start(limit);
        assert_eq!(enter(&peer, &link, name)["result"], "connected");
        let offered = poll("he is a member", || Some(run(peer.home(), &["community", "offer", "50MB"])).filter(|told| told.code == 0));
        assert_eq!(offered.out.contains("there is room for 2.00 MB now"), name == "Carol", "{offered:?}");
        peer
    });
    let image = ("Content-Type", "image/png");
    for number in 0..8u8 {
        assert!(alice.send("PUT", &format!("/@choir/board/{number}"), &[image], vec![number; 900_000]).status < 300);
    }
    let told = poll("each is with two who hold it", || {
        let told = alice.value("/.sys/communities/choir/placement");
        let files = told["files"].as_array()?;
        let holds = |file: &Value| file["holders"].as_array().is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["state"] == "holds"));
        (files.len() == 8 && files.iter().all(holds)).then(|| told.clone())
    });
    let carols = told["files"].to_string().matches("\"Carol\"").count();
    assert!(carols <= 2, "{told}");
    let carol = others[1].value("/.sys/communities/choir");
    assert!(carol["stores"] == 50_000_000 && carol["counts"].as_u64().is_some_and(|bytes| bytes <= 2_000_000), "{carol}");
    for args in [&["community", "show", "choir"][..], &["doctor"]] {
        let told = run(others[1].home(), args);
        assert!(told.out.contains("of 50.00 MB that this machine offers"), "{told:?}");
    }
    assert!(!run(alice.home(), &["doctor"]).out.contains("that this machine offers"));
}

/// Bob's space is placed with one of the others, whose disk breaks.
#[test]
fn who_cannot_show_files_of_a_members_space_does_not_count_as_one_who_holds_it() {
    let net = [&crate::peer::NET[..], &["--spot-check", "1"]].concat();
    let start = |home: Home| Peer::launch_as(home, &mut Command::new(PROGRAM), &net).unwrap_or_else(|(home, _)| panic!("it starts: {}", home.log()));
    let alice = start(Home::new());
    found(&alice, &["choir", "--called", "Alice", "--copies", "1"]);
    let link = member_link(&alice, &["--uses", "3"]);
    let others = ["Bob", "Carol", "Dave"].map(|name| {
        let peer = start(Home::new());
        assert_eq!(enter(&peer, &link, name)["result"], "connected");
        let offered = if name == "Bob" { "0" } else { "50MB" };
        poll("he is a member", || (run(peer.home(), &["community", "offer", offered]).code == 0).then_some(()));
        peer
    });
    let [bob, carol, dave] = others;
    assert_eq!(run(bob.home(), &["grant", "/", "anyone", "--can", "read"]).code, 0);
    let picture: Vec<u8> = (0..300_000u32).flat_map(|number| number.to_le_bytes()).take(300_000).collect();
    assert!(bob.send("PUT", "/posts/picture", &[("Content-Type", "image/png")], &picture).status < 300);
    let hash = bob.send("GET", "/posts/picture", &[("Accept", "application/json")], "").json()["@blob"].as_str().expect("a hash").to_owned();
    let id = bob.ready["id"].as_str().expect("an id").to_owned();
    let data = |home: &Home| home.folder().join("blobs").join(&hash[..2]).join(&hash);
    let holders = || {
        let told = bob.value("/.sys/communities/choir/placement");
        let spaces = told["spaces"].as_array().cloned().unwrap_or_default();
        let space = spaces.into_iter().find(|space| space["space"] == json!(id)).unwrap_or_default();
        space["holders"].as_array().into_iter().flatten().map(|one| (one["name"].clone(), one["state"].clone())).collect::<Vec<_>>()
    };
    let is_whole = |peer: &Peer| std::fs::read(data(peer.home())).is_ok_and(|bytes| bytes == picture);
    let first = poll("one of them holds it", || {
        let [(name, state)] = &holders()[..] else { return None };
        let peer = if name == "Carol" { &carol } else { &dave };
        (state == "holds" && is_whole(peer)).then(|| name.clone())
    });
    let (liar, other) = if first == "Carol" { (carol, dave) } else { (dave, carol) };
    let home = liar.stop();
    let (here, away) = (data(&home), home.beside("picture"));
    std::fs::rename(&here, &away).expect("it is there");
    std::os::unix::fs::symlink(&away, &here).expect("a link");
    let liar = start(home);
    poll("the other one holds it, too", || {
        let all = holders();
        (all.len() == 2 && all[0] == (first.clone(), json!("unshown")) && all[1].1 == "holds" && is_whole(&other)).then_some(())
    });
    // His disk is mended.
    std::fs::remove_file(&here).expect("it is there");
    std::fs::rename(&away, &here).expect("it is there");
    poll("he counts again", || (holders() == [(first.clone(), json!("holds"))]).then_some(()));
    drop(liar);
}

/// The disk of one of them is broken: he says that he holds the song, and nothing of it can be read.
#[test]
fn who_says_that_he_holds_a_file_and_cannot_show_it_does_not_count_until_he_shows_it() {
    // She who posts offers nothing, and is the only one who asks: each second.
    let start = |home: Home, pause_s: &str| {
        let net = [&crate::peer::NET[..], &["--spot-check", pause_s]].concat();
        Peer::launch_as(home, &mut Command::new(PROGRAM), &net).unwrap_or_else(|(home, _)| panic!("it starts: {}", home.log()))
    };
    let alice = start(Home::new(), "1");
    found(&alice, &["choir", "--called", "Alice", "--copies", "2"]);
    let link = member_link(&alice, &["--uses", "3"]);
    let mut others = Vec::new();
    for name in ["Bob", "Carol", "Dave"] {
        let peer = start(Home::new(), "0");
        assert_eq!(enter(&peer, &link, name)["result"], "connected");
        poll("he is a member", || (run(peer.home(), &["community", "offer", "50MB"]).code == 0).then_some(()));
        others.push((name, peer));
    }
    for peer in others.iter().map(|(_, peer)| peer).chain([&alice]) {
        poll("all know what each offers", || {
            let told = peer.value("/.sys/communities/choir/members");
            let offers = told["members"].as_array()?.iter().filter(|member| member["stores"].as_u64() > Some(0)).count();
            (offers == 3).then_some(())
        });
    }
    let song: Vec<u8> = (0..400_000u32).flat_map(|number| number.to_le_bytes()).take(400_000).collect();
    assert!(alice.send("PUT", "/@choir/board/song", &[("Content-Type", "audio/ogg")], &song).status < 300);
    let (hash, holders) = poll("two hold it", || {
        let (told, holders) = placement(&alice);
        let holds = told["under"] == 0 && holders.len() == 2 && holders.iter().all(|(_, state)| state == "holds");
        holds.then(|| (told["files"][0]["hash"].as_str().expect("a hash").to_owned(), holders))
    });
    let at = |others: &[(&str, Peer)], name: &str| others.iter().position(|(other, _)| *other == name).expect("one of them");
    let (name, liar) = others.remove(at(&others, &holders[0].0));
    let home = liar.stop();
    let data = |home: &Home| home.folder().join("blobs").join(&hash[..2]).join(&hash);
    let (here, away) = (data(&home), home.beside("song"));
    std::fs::rename(&here, &away).expect("it is there");
    // As long as it was, and no file that can be opened.
    std::os::unix::fs::symlink(&away, &here).expect("a link");
    let liar = start(home, "0");
    let third = others.iter().find(|(name, _)| *name != holders[1].0).expect("one is left");
    assert!(!data(third.1.home()).exists(), "it is not placed there");
    let given = |peer: &Peer| peer.value("/.sys/blobs")["given"]["bytes"].as_u64();
    let before = given(&liar);
    poll("the third one holds it instead", || {
        let (told, now) = placement(&alice);
        let state = |name: &str| now.iter().find(|(other, _)| other == name).map(|(_, state)| state.as_str());
        let states = [state(name), state(&holders[1].0), state(third.0)];
        (told["under"] == 0 && states == [Some("unshown"), Some("holds"), Some("holds")]).then_some(())
    });
    assert!(std::fs::read(data(third.1.home())).expect("it is there") == song);
    // Everybody is told so, and he himself that it is his disk.
    let says = format!("{name} says it holds 1 file and could not show it to ");
    for args in [&["community", "placement", "choir"][..], &["community", "show", "choir"], &["doctor"], &["why", "shown", "@choir/board/song"]] {
        poll("the third one knows, too", || run(third.1.home(), args).out.contains(&says).then_some(()));
    }
    let shown = run(alice.home(), &["community", "placement", "choir"]);
    assert!(shown.out.contains("(says so, and could not show it)"), "{shown:?}");
    poll("he himself is told", || {
        run(liar.home(), &["doctor"]).out.contains("this machine says it holds 1 file and could not show it").then_some(())
    });
    // His disk is mended, so he shows it, and the third one need not hold it any more.
    std::fs::remove_file(&here).expect("it is there");
    std::fs::rename(&away, &here).expect("it is there");
    poll("he counts again", || {
        let (told, now) = placement(&alice);
        (told["unshown"] == json!([]) && now.len() == 2 && now.iter().all(|(_, state)| state == "holds")).then_some(())
    });
    assert!(!run(alice.home(), &["doctor"]).out.contains("could not show"));
    // Who asked him to show it has it, and was given nothing.
    poll("nothing of his is listed as going", || (liar.value("/.sys/blobs")["transfers"] == json!([])).then_some(()));
    assert_eq!(given(&liar), before);
}
