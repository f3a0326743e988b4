//! Paths that are kept apart: who reads them, who never gets a byte of them, and what becomes of that.

use serde_json::{Value, json};

use super::neighbours::{invite, join, json as verb, pair, poll, run, until, until_space, until_value};
use crate::files::bytes;
use crate::peer::{Home, Peer};

/// What is nowhere but in a private path.
const CANARY: &str = "kanarienvogel-4711";

/// Whether a word is in any file of a home.
fn is_anywhere(home: &Home, word: &str) -> bool {
    fn within(folder: &std::path::Path, word: &[u8]) -> bool {
        std::fs::read_dir(folder).expect("a folder").any(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                return within(&path, word);
            }
            std::fs::read(&path).is_ok_and(|bytes| bytes.windows(word.len()).any(|window| window == word))
        })
    }
    within(home.folder(), word.as_bytes())
}

fn private(peer: &Peer, args: &[&str]) -> Value {
    verb(peer.home(), &[&["private"], args].concat())
}

#[test]
fn what_is_kept_apart_goes_to_nobody_until_it_is_shared_and_then_all_of_it() {
    let (alice, bob) = pair();
    private(&alice, &["/diary"]);
    alice.put("/diary/monday", &json!(CANARY));
    alice.put("/notes", &json!("for all"));
    assert_eq!(alice.value("/diary"), json!({"monday": CANARY}));
    assert_eq!(alice.value("/"), json!({"diary": {"link": "/diary"}, "notes": "for all"}), "above, it is a pointer");
    // Bob reads everything else, and is told that he may not read this, which is not the same as nothing.
    until_value(&bob, "/@alice/notes", &json!("for all"));
    let denied = bob.send("GET", "/@alice/diary/monday", &[], "").problem(403);
    assert!(denied["detail"].as_str().is_some_and(|detail| detail.contains("kept apart")), "{denied}");
    bob.send("PUT", "/@alice/diary/bob", &[("Content-Type", "application/json")], "1").problem(403);
    assert!(is_anywhere(alice.home(), CANARY), "the search finds it where it is");
    assert!(!is_anywhere(bob.home(), CANARY));

    // What is below it goes to nobody alone, and who would get it all is told so.
    for can in ["read", "write"] {
        let part = run(alice.home(), &["invite", "--to", "/diary/sub", "--can", can]);
        assert!(part.code == 1 && part.err.contains("would read all of that") && part.err.contains("--to /diary --can read"), "{part:?}");
    }
    let bobs = verb(bob.home(), &["id"])["device"].as_str().expect("a key").to_owned();
    let preview = verb(alice.home(), &["grant", "/diary/sub", &bobs, "--can", "write", "--preview"]);
    assert!(preview["notes"].to_string().contains("can read all of /diary, which is kept apart"), "{preview}");
    let preview = verb(alice.home(), &["grant", "/diary", &bobs, "--can", "write", "--preview"]);
    assert!(preview["notes"].to_string().contains("can read this path, which is kept apart"), "{preview}");

    // Carol gets the path and nothing else.
    let carol = Peer::start();
    let link = invite(&alice, &["--to", "/diary", "--can", "write"]);
    let card = run(carol.home(), &["join", &link]);
    for part in ["read /diary and what is below it", "nothing else of this space", "write at and below /diary"] {
        assert!(card.err.contains(part), "{part} is missing in {}", card.err);
    }
    join(&carol, &link, "alice");
    until_space(&carol, "alice", "live");
    until_value(&carol, "/@alice/diary/monday", &json!(CANARY));
    assert_ne!(carol.send("GET", "/@alice/notes", &[], "").status, 200);
    assert!(!is_anywhere(carol.home(), "for all"));
    carol.put("/@alice/diary/carol", &json!("me too"));
    until_value(&alice, "/diary/carol", &json!("me too"));
    let readers = private(&alice, &[])["timelines"][0]["readers"].clone();
    assert_eq!((readers.as_array().map(Vec::len), &readers[0]["can"]), (Some(1), &json!("write")), "{readers}");

    // Taken back: she keeps what she had and gets nothing more.
    let id = verb(alice.home(), &["invites"])["invites"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(run(alice.home(), &["invites", "revoke", &id, "--grants"]).code, 0);
    poll("carol may not write any more", || {
        let answer = carol.send("PUT", "/@alice/diary/late", &[("Content-Type", "application/json")], "1");
        (answer.status == 403).then_some(())
    });
    alice.put("/diary/tuesday", &json!("secret-again-4712"));
    alice.put("/wall/after", &json!(1));
    until_value(&bob, "/@alice/wall/after", &json!(1));
    assert_eq!(carol.value("/@alice/diary/monday"), CANARY);
    assert!(!is_anywhere(carol.home(), "secret-again-4712"));
    assert!(!is_anywhere(bob.home(), CANARY));
    assert_eq!(alice.value("/diary/carol"), "me too", "what she wrote in good faith stays");

    // Whoever may come back gets what he missed.
    join(&carol, &invite(&alice, &["--to", "/diary"]), "alice");
    until_value(&carol, "/@alice/diary/tuesday", &json!("secret-again-4712"));
}

#[test]
fn who_may_read_a_path_later_gets_it_over_the_link_that_there_is() {
    let (alice, bob) = pair();
    private(&alice, &["/photos"]);
    alice.put("/photos/1", &json!("one"));
    until_space(&bob, "alice", "live");
    join(&bob, &invite(&alice, &["--to", "/photos"]), "alice");
    // Before he knows of his right he may not even watch.
    poll("he may read", || (bob.send("GET", "/@alice/photos/1", &[], "").status == 200).then_some(()));
    until_value(&bob, "/@alice/photos/1", &json!("one"));
    // And what comes from now on, live.
    alice.put("/photos/2", &json!("two"));
    until_value(&bob, "/@alice/photos/2", &json!("two"));
    assert_eq!(alice.restart().value("/photos"), json!({"1": "one", "2": "two"}));
}

/// A change holds whatever was written at once, so whoever may read a part of a path does not get the changes of all of it.
#[test]
fn whole_changes_go_to_nobody_who_may_read_only_a_part_of_what_is_kept_apart() {
    let alice = Peer::start();
    private(&alice, &["/diary"]);
    alice.put("/diary", &json!({"public": "for all", "secret": CANARY}));
    for path in ["/", "/diary/public"] {
        assert_eq!(run(alice.home(), &["grant", path, "anyone", "--can", "read"]).code, 0);
    }
    let page = [("Origin", "http://elsewhere.example"), ("Sec-Fetch-Site", "cross-site")];
    let raw = [page[0], page[1], ("Accept", "application/timebus-ops")];
    assert_eq!(alice.send("GET", "/diary/public", &page, "").json(), "for all");
    assert_eq!(alice.send("GET", "/diary/secret", &page, "").status, 401);
    assert_eq!(alice.send("GET", "/", &raw, "").status, 200);
    for path in ["/diary/public", "/diary/secret", "/diary"] {
        alice.send("GET", path, &raw, "").problem(401);
    }
    // All of it is as good as the owner's word.
    assert_eq!(run(alice.home(), &["grant", "/diary", "anyone", "--can", "read"]).code, 0);
    let given = alice.send("GET", "/diary/public", &raw, "");
    assert!(given.status == 200 && given.body.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
}

#[test]
fn nothing_is_moved_or_covered_silently() {
    let alice = Peer::start();
    alice.put("/photos/1", &json!("one"));
    let refused = run(alice.home(), &["private", "/photos"]);
    assert!(refused.code == 4 && refused.err.contains("--move"), "{refused:?}");
    assert_eq!(alice.value("/photos/1"), "one");
    private(&alice, &["/photos", "--move"]);
    assert_eq!((alice.value("/photos"), alice.value("/")), (json!({"1": "one"}), json!({"photos": {"link": "/photos"}})));
    let again = run(alice.home(), &["private", "/photos"]);
    assert!(again.code == 4 && again.err.contains("already"), "{again:?}");
    // A request that would change both sides of the line is refused, whatever its form.
    for (method, path, body) in [("DELETE", "/", ""), ("PUT", "/", "{\"photos\":{\"1\":\"two\"}}"), ("PATCH", "/", "{\"photos\":null}")] {
        let problem = alice.send(method, path, &[("Content-Type", "application/json")], body).problem(409);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("/photos")), "{problem}");
    }
    let kept = run(alice.home(), &["private", "/photos", "--undo"]);
    assert!(kept.code == 4 && kept.err.contains("--move"), "{kept:?}");
    // What is kept apart further down would not go along, and would show nowhere.
    alice.put("/photos/own/2", &json!("two"));
    private(&alice, &["/photos/own", "--move"]);
    let refused = run(alice.home(), &["private", "/photos", "--undo", "--move"]);
    assert!(refused.code == 4 && refused.err.contains("/photos/own below it has a timeline of its own"), "{refused:?}");
    assert_eq!((alice.value("/photos/1"), alice.value("/photos/own")), (json!("one"), json!({"2": "two"})));
    private(&alice, &["/photos/own", "--undo", "--move"]);
    assert_eq!(alice.send("DELETE", "/photos/own", &[], "").status, 200);
    private(&alice, &["/photos", "--undo", "--move"]);
    assert_eq!(alice.value("/"), json!({"photos": {"1": "one"}}));
    for wrong in ["/", "/.sys/x", "@alice/x"] {
        assert_ne!(run(alice.home(), &["private", wrong]).code, 0, "{wrong}");
    }
    assert_eq!(private(&alice, &[])["timelines"], json!([]));
}

/// What Bob has of a path that Alice gave to him and took back looks like any other.
#[test]
fn who_is_taken_off_a_path_is_told_that_what_he_has_is_of_before() {
    let (alice, bob) = pair();
    private(&alice, &["/trip"]);
    alice.put("/trip/plan", &json!("rome"));
    alice.put("/notes", &json!("for all"));
    join(&bob, &invite(&alice, &["--to", "/trip", "--can", "write"]), "alice");
    until_value(&bob, "/@alice/trip/plan", &json!("rome"));
    let says = "alice took it back on 20";
    let fresh = run(bob.home(), &["get", "@alice/trip/plan"]);
    assert!(fresh.out == "\"rome\"\n" && !fresh.err.contains(says), "{fresh:?}");
    assert_eq!(verb(bob.home(), &["get", "@alice/trip/plan"]).get("taken_back"), None);
    let id = bob.ready["id"].as_str().expect("an id");
    assert_eq!(run(alice.home(), &["revoke", id, "/trip"]).code, 0);
    let before = poll("get says that it was taken back", || {
        let before = run(bob.home(), &["get", "@alice/trip/plan"]);
        before.err.contains(says).then_some(before)
    });
    assert!(before.code == 0 && before.out == "\"rome\"\n" && before.err.contains("what is here is of before"), "{before:?}");
    for (args, is_loud) in [(&["ls", "@alice/trip"][..], true), (&["tree", "@alice/trip"], true), (&["get", "@alice/notes"], false)] {
        let (told, shown) = (verb(bob.home(), args), run(bob.home(), args));
        assert_eq!((told["taken_back"]["name"] == "alice", shown.err.contains(says)), (is_loud, is_loud), "{args:?}: {told} {shown:?}");
    }
    let told = verb(bob.home(), &["get", "@alice/trip/plan"])["taken_back"].clone();
    assert!(told["at_ms"].as_u64().is_some_and(|at| at > 0) && told["by"].is_string(), "{told}");
    let refused = run(bob.home(), &["put", "@alice/trip/plan", "\"paris\""]);
    assert!(refused.code == 1 && refused.err.contains(says), "{refused:?}");
    for args in [["peers"], ["doctor"]] {
        let told = run(bob.home(), &args);
        assert!(told.out.contains("of /trip alice took it back on"), "{args:?}: {told:?}");
    }
    assert_eq!(super::neighbours::space(&bob, "alice")["taken_back"][0]["path"], "/trip");
    // Given again, it is new again.
    join(&bob, &invite(&alice, &["--to", "/trip"]), "alice");
    poll("nothing is said any more", || (!run(bob.home(), &["get", "@alice/trip/plan"]).err.contains(says)).then_some(()));
    assert_eq!(super::neighbours::space(&bob, "alice")["taken_back"], json!([]));
}

/// Bob knows what a film is called that he may not read any more, and calls something so where he may write. Alice's phone, which
/// never had it, shows it to Alice, for whom her laptop has it; that makes it nobody else's.
#[test]
fn what_is_kept_apart_comes_to_nobody_by_way_of_another_device_that_may_have_it() {
    const MP4: (&str, &str) = ("Content-Type", "video/mp4");
    let (alice, bob) = pair();
    let phone = super::devices::second(&alice);
    let [film, holiday] = [300_000, 300_001].map(|len| bytes(len, 4));
    private(&alice, &["/diary"]);
    assert_eq!(alice.send("PUT", "/diary/film", &[MP4], &film).status, 200);
    join(&bob, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice");
    join(&bob, &invite(&alice, &["--to", "/diary"]), "alice");
    let name = poll("its name", || {
        let answer = bob.send("GET", "/@alice/diary", &[], "");
        (answer.status == 200 && answer.text().contains("@blob")).then(|| answer.json())
    });
    assert_eq!(run(alice.home(), &["revoke", bob.ready["id"].as_str().expect("an id"), "/diary"]).code, 0);
    poll("he hears of it", || run(bob.home(), &["get", "@alice/diary"]).err.contains("took it back").then_some(()));
    poll("he may write", || {
        let written = bob.send("PUT", "/@alice/wall/film", &[("Content-Type", "application/json")], name["film"].to_string());
        (written.status == 200).then_some(())
    });
    assert_eq!(alice.send("PUT", "/holiday", &[MP4], &holiday).status, 200);
    for path in ["/diary", "/wall", "/"] {
        until(&phone, path, "its name", |answer| answer.status == 200 && answer.text().contains("@blob"));
    }
    for (path, file) in [("/wall/film", &film), ("/holiday", &holiday)] {
        let got = poll("the phone has it", || Some(phone.send("GET", path, &[], "")).filter(|answer| answer.status == 200));
        assert!(got.body == *file, "{path}");
    }
    poll("all of both", || (super::files::whole_files(phone.home()) == 2).then_some(()));
    poll("bob knows both devices", || {
        let peers = bob.value("/.sys/peers");
        let count = peers["peers"].as_array().map_or(0, |all| all.iter().filter(|peer| peer["state"] == "connected").count());
        (count >= 2).then_some(())
    });
    let alice = alice.stop();
    let got =
        poll("what is for him comes from the phone", || Some(bob.send("GET", "/@alice/holiday", &[], "")).filter(|answer| answer.status == 200));
    assert!(got.body == holiday);
    let refused = bob.send("GET", "/@alice/wall/film", &[("Prefer", "wait=2")], "").problem(504);
    assert_eq!(refused["type"], "/.sys/problems/blob-unavailable", "{refused}");
    assert_eq!(super::files::whole_files(bob.home()), 1);
    drop(alice);
}

/// Whoever names a path means that path.
#[test]
fn an_invite_to_read_a_path_that_is_not_kept_apart_is_not_made_without_a_word() {
    let alice = Peer::start();
    alice.put("/trip/plan", &json!("rome"));
    let refused = run(alice.home(), &["invite", "--to", "/trip"]);
    assert!(refused.code == 1 && refused.out.is_empty(), "{refused:?}");
    for part in ["would be for the whole space", "timebus private /trip --move", "--whole"] {
        assert!(refused.err.contains(part), "{part} is missing in {}", refused.err);
    }
    assert_eq!(verb(alice.home(), &["invites"])["invites"], json!([]));
    for args in [&["invite", "--to", "/trip", "--whole"][..], &["invite"], &["invite", "--to", "/trip", "--can", "write"]] {
        assert_eq!(run(alice.home(), args).code, 0, "{args:?}");
    }
    private(&alice, &["/trip", "--move"]);
    let made = run(alice.home(), &["invite", "--to", "/trip"]);
    assert!(made.code == 0 && made.err.contains("nothing else of your space"), "{made:?}");
}
