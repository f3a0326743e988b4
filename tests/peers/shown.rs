//! Why something shows, or does not: what a puzzled owner asks, and what he is told.

use serde_json::json;

use super::neighbours::{invite, join, json as verb, pair, peers, poll, run, space, until_space, until_value};
use super::succession::place;
use crate::peer::Peer;

/// What `why shown` says to people, and its exit code.
fn why(peer: &Peer, path: &str) -> (i32, String) {
    let said = run(peer.home(), &["why", "shown", path]);
    (said.code, format!("{}{}", said.out, said.err))
}

/// Waits until it says something.
fn until(peer: &Peer, path: &str, words: &str) -> (i32, String) {
    poll(words, || Some(why(peer, path)).filter(|(_, said)| said.contains(words)))
}

#[test]
fn why_something_shows_or_does_not_is_told_with_what_to_do() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    let (code, said) = why(&alice, "/wall/post");
    assert!(code == 1 && said.contains("no: /wall/post does not show") && said.contains("nothing was ever written there"), "{said}");
    bob.put("/@alice/wall/post", &json!("hello"));
    let (code, said) = until(&alice, "/wall/post", "wrote what is there");
    assert!(code == 0 && said.contains("yes: /wall/post shows"), "{said}");
    // Somebody is muted, and his picture has not come.
    assert!(bob.send("PUT", "/@alice/wall/film", &[("Content-Type", "video/mp4")], vec![7; 200_000]).status < 300);
    verb(alice.home(), &["mute", &who]);
    let (_, said) = until(&alice, "/wall/film", "its file of 200 kB is not here");
    assert!(said.contains("you muted") && said.contains("`timebus unmute"), "{said}");
    // More than he may keep waits.
    verb(alice.home(), &["limits", &who, "1kB"]);
    bob.put("/@alice/wall/long", &json!("x".repeat(5000)));
    let (code, said) = until(&alice, "/wall/long", "wait for your word");
    assert!(code == 1 && said.contains("timebus held"), "{said}");
    let (_, said) = until(&bob, "@alice/wall/long", "waits until alice accepts it");
    assert!(said.contains("yes: @alice/wall/long shows"), "{said}");
    // A space of which nothing is here, and one whose owner is away.
    let (code, said) = why(&alice, &format!("@{who}/posts/1"));
    assert!(code == 1 && said.contains("you do not follow") && said.contains("nothing of the space of"), "{said}");
    bob.put("/likes/1", &json!({"kind": "like"}));
    let (me, other) = (&who, alice.ready["id"].as_str().expect("an id").to_owned());
    let home = alice.stop();
    let (code, said) = until(&bob, "@alice/posts/1", "the last time was on");
    assert!(code == 1 && said.contains("comes when he is back"), "{said}");
    let like = json!({"kind": "like", "target": format!("/@{other}/posts/1"), "source": format!("/@{me}/likes/1")});
    assert!(bob.send("POST", &format!("/@{other}/.drop"), &[], like.to_string()).status < 300);
    for path in ["/likes/1", "@alice/posts/1"] {
        let (_, said) = why(&bob, path);
        assert!(said.contains("your like waits until alice is reached, and is counted by nobody else before"), "{said}");
    }
    let _alice = Peer::start_in(home);
    until(&bob, "/likes/1", "your like is in the inbox of alice since");
}

/// What nobody wrote where it shows shows all the same.
#[test]
fn what_a_peer_works_out_itself_is_no_value_that_is_missing() {
    let alice = Peer::start();
    let table = [
        ("/.auth/grants", 0, "what is stated about rights"),
        ("/.auth/grants/nought", 1, "nothing of that name"),
        ("/.sys/peers", 0, "works it out"),
        ("/.drop", 0, "your inbox"),
        ("/.sys/nought", 1, "nothing of that name"),
    ];
    for (path, expected, words) in table {
        let (code, said) = why(&alice, path);
        assert!(code == expected && said.contains(words) && !said.contains("ever written"), "{path}: {said}");
    }
}

#[test]
fn what_somebody_may_is_told_with_what_ends_it() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    let said = run(alice.home(), &["why", "read", "/notes", "--as", &who]).out;
    assert!(said.contains("to keep this path apart from what he reads: `timebus private /notes`"), "{said}");
    let said = run(alice.home(), &["why", "write", "/wall", "--as", &who]).out;
    let grant = said.split("`timebus revoke ").nth(1).and_then(|rest| rest.split('`').next()).expect("a command").to_owned();
    assert_eq!(run(alice.home(), &["revoke", &grant]).code, 0);
    let said = run(alice.home(), &["why", "write", "/wall", "--as", &who]);
    assert!(said.code == 1 && said.out.contains("you took it back on") && !said.out.contains("timebus revoke"), "{said:?}");
    // One's own devices by the names that they have.
    let devices = verb(alice.home(), &["devices"]);
    let name = devices["devices"][0]["name"].as_str().expect("a name");
    assert!(run(alice.home(), &["why", "write", "/notes", "--as", name]).out.contains("yes: "));
}

/// A question, the exit code, words that the answer has, and words that would be wrong.
type Row<'a> = (&'a str, i32, &'a [&'a str], &'a [&'a str]);

/// Asks all of them, and tells of all answers that are not as they should be.
fn ask(peer: &Peer, rows: &[Row<'_>]) {
    let mut flaws = Vec::new();
    for (question, code, words, wrong) in rows {
        let told = run(peer.home(), &question.split(' ').collect::<Vec<_>>());
        let all = format!("{}{}", told.out, told.err);
        let missing: Vec<_> = words.iter().filter(|word| !all.contains(**word)).collect();
        let false_words: Vec<_> = wrong.iter().filter(|word| all.contains(**word)).collect();
        if told.code != *code || !missing.is_empty() || !false_words.is_empty() {
            flaws.push(format!("{question}: {} and not {code}; lacks {missing:?}; has {false_words:?}\n{all}", told.code));
        }
    }
    assert!(flaws.is_empty(), "{}", flaws.join("\n"));
}

fn id(peer: &Peer) -> String {
    peer.ready["id"].as_str().expect("an id").to_owned()
}

/// Alice is away. Carol, who reads one path of hers alone, is connected, and has nothing of the rest.
#[test]
fn who_reads_less_does_not_make_a_space_live() {
    let (alice, bob) = pair();
    alice.put("/notes/hi", &json!("hello"));
    until_value(&bob, "/@alice/notes/hi", &json!("hello"));
    verb(alice.home(), &["private", "/diary"]);
    alice.put("/diary/monday", &json!("rain"));
    let carol = Peer::start();
    join(&carol, &invite(&alice, &["--to", "/diary"]), "alice");
    until_value(&carol, "/@alice/diary/monday", &json!("rain"));
    let (node, address) = place(&carol);
    verb(bob.home(), &["follow", &id(&carol), "--node", &node, "--at", &address, "--as", "carol"]);
    let is_carol = |peer: &serde_json::Value| peer["id"] == json!(node) && peer["state"] == "connected";
    poll("carol is connected", || peers(&bob).iter().any(is_carol).then_some(()));
    poll("he knows what carol may", || run(bob.home(), &["grants", "@alice"]).out.contains("/diary").then_some(()));
    ask(
        &bob,
        &[
            ("why shown @alice/notes/hi", 0, &["alice is connected, and all that came from there is here"], &["not reached"]),
            (
                "why shown @alice/diary/monday",
                1,
                &["it is not given to you", "/diary is kept apart", "ask alice for it"],
                &["nothing was ever written"],
            ),
            ("why read @alice/notes/hi", 0, &["a timeline and not a path"], &[]),
        ],
    );
    let home = alice.stop();
    poll("nobody is reached", || run(bob.home(), &["why", "shown", "@alice/notes/hi"]).out.contains("the last time was on").then_some(()));
    bob.put("/@alice/wall/late", &json!("x"));
    for _ in 0..20 {
        assert_ne!(space(&bob, "alice")["state"], "live");
    }
    ask(
        &bob,
        &[
            ("why shown @alice/notes/hi", 0, &["alice wrote what is there"], &["all that came from there is here", "has of it is here"]),
            ("why shown @alice/wall/late", 0, &["no other machine has said", "goes to alice"], &[]),
            ("peers", 0, &["@alice"], &["live, from"]),
        ],
    );
    let alice = Peer::start_in(home);
    until_value(&alice, "/wall/late", &json!("x"));
    poll("she has it", || (!run(bob.home(), &["why", "shown", "@alice/wall/late"]).out.contains("no other machine")).then_some(()));
    let spaces = until_space(&bob, "alice", "live");
    assert_eq!(spaces["owner_connected"], true, "{spaces}");
}

/// What became of what was there, who reads what, and commands that open no more than was asked.
#[test]
fn each_question_of_an_owner_has_a_true_answer_and_what_to_do_next() {
    let (alice, bob) = pair();
    let bobs = id(&bob);
    verb(alice.home(), &["private", "/diary"]);
    alice.put("/diary/monday", &json!("rain"));
    let carol = Peer::start();
    join(&carol, &invite(&alice, &["--to", "/diary"]), "alice");
    let carols = id(&carol);
    alice.put("/notes", &json!({"gone": 1, "old": 2, "s": {"a": 1}, "list": [1, 2]}));
    assert_eq!(run(alice.home(), &["rm", "/notes/gone"]).code, 0);
    assert_eq!(run(alice.home(), &["mv", "/notes/old", "/notes/new"]).code, 0);
    alice.put("/notes/s", &json!("flat"));
    bob.put("/@alice/wall/post", &json!("x".repeat(500)));
    until_value(&alice, "/wall/post", &json!("x".repeat(500)));
    assert_eq!(run(alice.home(), &["devices", "name", "laptop"]).code, 0);
    assert_eq!(run(alice.home(), &["personas", "new", "work"]).code, 0);
    let quota = run(alice.home(), &["grant", "/q", &bobs, "--can", "write", "--quota", "300B"]);
    assert!(quota.out.contains("nothing can be written by this right"), "{quota:?}");
    assert_eq!(run(alice.home(), &["grant", "/u", &bobs, "--can", "write", "--until", "1s"]).code, 0);
    poll("it has ended", || run(alice.home(), &["grants", "/u", "--all"]).out.contains("it ended on 20").then_some(()));
    let as_ = |question: &str, who: &str| format!("{question} --as {who}");
    let [read_diary, read_notes, reads_notes, read_auth, write_q, write_wall] = [
        as_("why read /diary/monday", &bobs),
        as_("why read /notes", &carols),
        as_("why read /notes", &bobs),
        as_("why read /.auth", &bobs),
        as_("why write /q", &bobs),
        as_("why write /wall", &bobs),
    ];
    let opens_diary = format!("`timebus grant /diary {bobs} --can read`");
    let opens_all = format!("`timebus grant / {carols} --can read`");
    ask(
        &alice,
        &[
            ("why shown /notes/gone", 1, &["you deleted it on 20", "`timebus undo /notes/gone`"], &["ever written"]),
            ("why shown /notes/old", 1, &["you took it away on 20", "wrote /notes/new"], &["deleted"]),
            ("why shown /notes/s/a", 1, &["gave way to the value at /notes/s, which you wrote on 20"], &["ever written"]),
            ("why shown /notes/list/0", 1, &["/notes/list is a list", "`timebus get /notes/list`"], &["ever written"]),
            ("why shown /nope", 1, &["nothing was ever written there"], &[]),
            ("why shown /notes", 0, &["3 names below it", "the last change there is by you"], &[]),
            ("why shown /", 0, &["kept apart from it: /diary"], &[]),
            ("grants /notes", 0, &["; with that goes reading all else that is not kept apart"], &["at and below /u", "at and below /diary"]),
            ("grants /diary", 0, &["at and below /diary"], &["at and below /wall"]),
            (&read_diary, 1, &["/diary is kept apart", &opens_diary], &["it is good at"]),
            (&read_notes, 1, &["would read all of the space that is not kept apart", &opens_all, "`timebus private /notes --move`"], &[]),
            (&reads_notes, 0, &["of 20", "`timebus private /notes --move`"], &[]),
            (&read_auth, 0, &[], &["timebus private"]),
            ("why read / --as anyone", 1, &["opens all that is not kept apart to everybody"], &[]),
            (&write_q, 1, &["all that he wrote there counts"], &[]),
            ("why read /notes --as laptop", 0, &["yes: laptop may read /notes"], &[]),
            ("why read @work/notes", 0, &["yes: "], &["nobody is known"]),
            (&write_wall, 0, &["`timebus revoke "], &[]),
        ],
    );
    // An inbox that is closed, and one of somebody else.
    assert_eq!(run(alice.home(), &["inbox", "close"]).code, 0);
    ask(&alice, &[("why write /.drop --as anyone", 1, &["your inbox is closed", "`timebus inbox open`"], &[])]);
    ask(&bob, &[("why write @alice/.drop", 0, &["short notices"], &["is the system's"])]);
    // Of whom nothing more is wanted.
    verb(alice.home(), &["limits", &bobs, "1kB"]);
    bob.put("/@alice/wall/long", &json!("x".repeat(5000)));
    let held = poll("it waits", || verb(alice.home(), &["held"])["held"][0]["id"].as_str().map(str::to_owned));
    assert_eq!(run(alice.home(), &["allow", &held, "never"]).code, 0);
    ask(&alice, &[("why shown /wall/long", 1, &["you said that nothing more of", "`timebus limits "], &[])]);
    // Taken back: that is the reason, and what would not have been enough anyhow is none.
    verb(alice.home(), &["limits", &bobs, "1GB"]);
    until_value(&alice, "/wall/long", &json!("x".repeat(5000)));
    let home = bob.stop();
    assert_eq!(run(alice.home(), &["revoke", &bobs]).code, 0);
    assert_eq!(run(&home, &["put", "@alice/wall/after", "1"]).code, 0, "he does not know yet");
    let bob = Peer::start_in(home);
    let changes = bob.send("GET", "/@alice", &[("Accept", "application/timebus-ops")], "").body;
    alice.send("POST", "/", &[("Content-Type", "application/timebus-ops")], changes).json();
    poll("he hears of it", || run(bob.home(), &["why", "shown", "@alice/wall/post"]).out.contains("is of before").then_some(()));
    ask(
        &alice,
        &[
            (&write_wall, 1, &["took it back on 20"], &["it is good at"]),
            (&reads_notes, 1, &["took it back on 20", "is kept there, as it was"], &["it is good at"]),
            (
                "why shown /wall/after",
                1,
                &["the right that it was written by is none any more: you took it back on", "`timebus quarantine keep "],
                &["ever written", "deleted"],
            ),
        ],
    );
    ask(
        &bob,
        &[
            ("why shown @alice/wall/post", 0, &["what shows is of before", "took it back on 20"], &["all that came from there is here"]),
            ("why shown @alice/wall/after", 1, &["ask alice for it: `timebus quarantine keep "], &[]),
        ],
    );
}

/// A file that was stopped says so, and how it goes on.
#[test]
fn a_file_that_does_not_come_says_why() {
    let (alice, bob) = pair();
    assert!(alice.send("PUT", "/films/a", &[("Content-Type", "video/mp4")], vec![7; 2_000_000]).status < 300);
    until(&bob, "@alice/films/a", "its file of 2 MB is not here");
    verb(bob.home(), &["files", "limit", "--down", "100kB/s"]);
    verb(bob.home(), &["files", "pin", "@alice/films/a"]);
    until(&bob, "@alice/films/a", "as you let files come with 100 kB a second at most");
    verb(bob.home(), &["files", "pause", "@alice/films/a"]);
    ask(&bob, &[("why shown @alice/films/a", 0, &["you paused it", "`timebus files resume @alice/films/a`"], &["it comes when it is read"])]);
    verb(bob.home(), &["files", "cancel", "@alice/films/a"]);
    ask(&bob, &[("why shown @alice/films/a", 0, &["you cancelled it", "`timebus files resume @alice/films/a`"], &["it comes when it is read"])]);
}

/// A community has no owner: members let others in, and nobody has to take an invite to what he founded.
#[test]
fn questions_about_a_community_name_its_members() {
    let (anna, bert) = (Peer::start(), Peer::start());
    assert_eq!(run(anna.home(), &["community", "new", "choir", "--called", "Anna"]).code, 0);
    join(&bert, &invite(&anna, &[]), "anna");
    let berts = id(&bert);
    let write = format!("why write @choir/wiki --as {berts}");
    ask(
        &anna,
        &[
            ("why shown @choir/board", 1, &["nobody else is known who is in choir"], &["take an invite", "timebus find"]),
            (&write, 1, &["is a community", "`timebus invite --to @choir --can member`"], &["timebus grant"]),
        ],
    );
    let link = invite(&anna, &["--to", "@choir", "--can", "member"]);
    let invites = run(anna.home(), &["invites"]).out;
    assert!(invites.contains("be a member of choir"), "{invites}");
    assert_eq!(run(bert.home(), &["community", "join", &link, "--yes", "--called", "Bert"]).code, 0);
    until_space(&bert, "choir", "live");
    ask(&bert, &[("why write @choir/wiki", 1, &["ask Anna for it"], &["ask choir"])]);
}

/// It was told to take the deletion back, which brought a name without bytes.
#[test]
fn of_a_file_whose_bytes_were_freed_it_is_said_that_they_are_gone() {
    let alice = Peer::start();
    for path in ["/film", "/other"] {
        assert!(alice.send("PUT", path, &[("Content-Type", "video/mp4")], vec![path.len() as u8; 200_000]).status < 300);
    }
    assert_eq!(alice.send("DELETE", "/film", &[], "").status, 200);
    let (code, said) = why(&alice, "/film");
    assert!(code == 1 && said.contains("`timebus undo /film`") && !said.contains("not here any more"), "{said}");
    assert_eq!(verb(alice.home(), &["files", "free", "--history"])["files"], 1);
    let alice = alice.restart();
    let (code, said) = why(&alice, "/film");
    assert!(code == 1 && said.contains("the bytes of the file that was there, 200 kB, are not here any more since 20"), "{said}");
    assert!(!said.contains("undo"), "{said}");
    // They are put elsewhere, so they are here again.
    assert!(alice.send("PUT", "/again", &[("Content-Type", "video/mp4")], vec![5; 200_000]).status < 300);
    let (_, said) = why(&alice, "/film");
    assert!(said.contains("`timebus undo /film`") && !said.contains("not here any more"), "{said}");
}
