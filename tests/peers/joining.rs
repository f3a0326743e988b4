//! Giving and taking invites.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Barrier, mpsc};

use serde_json::{Value, json};

use super::neighbours::{invite, join, json as verb, pair, poll, program, run, space, until, until_space, until_value};
use crate::peer::{DEADLINE, Home, PROGRAM, Peer};

#[test]
fn two_people_see_each_others_changes_as_they_are_made() {
    let alice = Peer::start();
    alice.put("/notes/hi", &json!("hello"));
    let bob = Peer::start();
    let joined = join(&bob, &invite(&alice, &["--to", "/wall", "--can", "write"]), "alice");
    assert_eq!((&joined["result"], &joined["role"], &joined["path"]), (&json!("connected"), &json!("write"), &json!("/wall")), "{joined}");
    let answer = bob.send("GET", "/@alice/notes", &[], "");
    assert_eq!((answer.json(), answer.header("timebus-space")), (json!({"hi": "hello"}), Some("live")));
    alice.put("/notes/hi", &json!("hello again"));
    until_value(&bob, "/@alice/notes/hi", &json!("hello again"));
    bob.put("/@alice/wall/bob", &json!("I was here"));
    until_value(&alice, "/wall", &json!({"bob": "I was here"}));
    // Whoever wrote something has the name that he has everywhere, not that of the key of his device.
    assert_eq!(alice.value("/.sys/log/wall")["changes"][0]["author_name"], bob.value("/.sys/status")["name"]);
    assert_eq!(bob.value("/.sys/log/@alice/notes")["changes"][0]["author_name"], "alice");
    assert!(run(alice.home(), &["blame", "/wall"]).out.contains(bob.value("/.sys/status")["name"].as_str().expect("a name")));
    // The paths of others work in every verb, with and without a slash in front.
    assert_eq!(run(bob.home(), &["get", "@alice/wall/bob"]).out.trim(), "\"I was here\"");
    assert!(run(bob.home(), &["ls", "/@alice"]).out.contains("wall/"));
    assert!(run(bob.home(), &["tree", "@alice"]).out.contains("hello again"));
    assert!(run(bob.home(), &["log", "@alice/notes"]).out.contains("/notes/hi"));
    assert!(run(bob.home(), &["watch", "@alice/notes", "--once"]).out.contains("hello again"));
    assert_eq!(run(bob.home(), &["undo", "@alice/wall"]).code, 0);
    until(&alice, "/wall", "nothing", |answer| answer.status == 404);
}

#[test]
fn nothing_is_taken_without_a_yes_and_the_card_says_what_it_is() {
    let (alice, bob) = (Peer::start(), Peer::start());
    // Whoever is invited knows her by her name.
    alice.put("/profile/name", &json!("Alice Adams"));
    let link = invite(&alice, &["--to", "/wall", "--can", "write", "--quota", "50MB", "--hello", "come in"]);
    let asked = run(bob.home(), &["join", &link]);
    assert_eq!(asked.code, 2, "{asked:?}");
    for part in [
        "Alice Adams",
        "may read all of this space",
        "write at and below /wall, up to 50",
        "come in",
        "--yes",
        &alice.ready["id"].to_string().replace('"', ""),
    ] {
        assert!(asked.err.contains(part), "{part} is missing in {}", asked.err);
    }
    assert!(!asked.err.contains(&link), "the secret is nowhere but in the link");
    let card: Value = serde_json::from_str(&run(bob.home(), &["--json", "join", &link]).out).expect("JSON");
    assert_eq!((&card["joined"], &card["paint"]), (&json!(false), &json!("come in")), "{card}");
    let looked = bob.send("POST", "/.sys/join", &[], json!({"link": link}).to_string()).json();
    assert_eq!(looked["joined"], false, "{looked}");
    assert_eq!(verb(alice.home(), &["invites"])["invites"][0]["state"], "open");
    assert_eq!(space(&bob, "alice"), Value::Null);
    for wrong in ["timebus://join/abc", "hello", &link[..link.len() - 3]] {
        assert_eq!(run(bob.home(), &["join", wrong, "--yes"]).code, 2, "{wrong}");
    }
    // She is called so here, in one word, unless he says otherwise.
    assert_eq!(verb(bob.home(), &["join", &link, "--yes"])["result"], "connected");
    assert_eq!(space(&bob, "Alice-Adams")["space"], alice.ready["id"]);
}

/// He is known by his name from the first moment on, and not by the words of his key until he says one.
#[test]
fn who_takes_an_invite_says_with_it_what_he_is_called() {
    let (alice, bob) = (Peer::start(), Peer::start());
    let link = invite(&alice, &["--to", "/wall", "--can", "write"]);
    let wrong = json!({"link": link, "confirm": true, "name": "a\u{7}b"}).to_string();
    assert_eq!(bob.send("POST", "/.sys/join", &[], wrong).status, 400, "no name that nobody sees");
    assert_eq!(verb(alice.home(), &["invites"])["invites"][0]["uses"], 0);
    assert_eq!(verb(bob.home(), &["join", &link, "--yes", "--called", " Bob "])["result"], "connected");
    assert_eq!(bob.value("/profile/name"), "Bob");
    let taken = verb(alice.home(), &["invites"])["invites"][0]["redeemed"][0].clone();
    assert_eq!((&taken["name"], &taken["called"]), (&json!("Bob"), &json!("Bob")), "{taken}");
}

#[test]
fn looking_at_a_link_consumes_nothing_and_leaves_no_trace() {
    let (alice, bob) = (Peer::start(), Peer::start());
    let link = invite(&alice, &[]);
    let payload = link.rsplit('/').next().expect("a payload");
    for target in [format!("/.join?{payload}"), format!("/.sys/join?link={payload}"), format!("/.join/{payload}"), "/.sys/invites".to_owned()] {
        for _ in 0..25 {
            alice.send("GET", &target, &[], "");
            bob.send("HEAD", &target, &[], "");
        }
    }
    assert_eq!(verb(alice.home(), &["invites"])["invites"][0]["uses"], 0);
    assert_eq!(join(&bob, &link, "alice")["result"], "connected");
    let listed = verb(alice.home(), &["invites"]);
    assert_eq!(listed["invites"][0]["state"], "used up", "{listed}");
    assert_eq!(listed["invites"][0]["redeemed"][0]["space"], bob.ready["id"], "who took it is remembered");
    assert!(!listed.to_string().contains(payload));
    for peer in [&alice, &bob] {
        assert!(!peer.home().log().contains(payload), "the secret is in a log");
    }
}

#[test]
fn an_invite_for_one_is_given_to_one_however_many_race() {
    const RACERS: usize = 8;
    let alice = Peer::start();
    alice.put("/notes", &json!(1));
    let link = invite(&alice, &[]);
    let start = Barrier::new(RACERS);
    let race = || {
        let peer = Peer::start();
        start.wait();
        let body = json!({"link": link, "confirm": true, "petname": "alice"}).to_string();
        assert_eq!(peer.send("POST", "/.sys/join", &[], body).status, 200);
        poll("the invite is answered", || Some(space(&peer, "alice")).filter(|space| space["is_waiting"] == false));
        let refused = space(&peer, "alice")["invite"].clone();
        if refused.is_null() {
            until_space(&peer, "alice", "live");
        }
        refused
    };
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
        racers.into_iter().map(|racer| racer.join().expect("a racer")).collect()
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_null()).count(), 1, "{answers:?}");
    let listed = verb(alice.home(), &["invites"]);
    assert_eq!((&listed["invites"][0]["uses"], listed["invites"][0]["redeemed"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{listed}");
}

#[test]
fn what_is_used_up_revoked_or_expired_is_refused_in_words() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    let used = invite(&alice, &["--note", "for bob"]);
    join(&bob, &used, "alice");
    let revoked = invite(&alice, &[]);
    let id = verb(alice.home(), &["invites"])["invites"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(run(alice.home(), &["invites", "revoke", &id[..8]]).code, 0);
    for link in [&used, &revoked] {
        let refused = run(carol.home(), &["join", link, "--yes", "--as", "alice"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        for part in ["refused the invite", "used up, expired or was taken back", "ask", "unfollow"] {
            assert!(refused.err.contains(part), "{part} is missing in {}", refused.err);
        }
        assert_eq!(run(carol.home(), &["unfollow", "@alice"]).code, 0);
    }
    let short = invite(&alice, &["--expires", "1s"]);
    poll("it has expired", || (verb(alice.home(), &["invites"])["invites"][0]["state"] == "expired").then_some(()));
    let expired = run(carol.home(), &["join", &short, "--yes"]);
    assert!(expired.code == 1 && expired.err.contains("expired"), "{expired:?}");
    let text = run(alice.home(), &["invites"]).out;
    for part in ["expired", "revoked", "used up", "for bob", "└── "] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn an_inviter_who_is_away_is_waited_for_and_that_is_what_is_said() {
    let alice = Peer::start();
    alice.put("/notes/hi", &json!("hello"));
    let link = invite(&alice, &["--hello", "soon back"]);
    let home = alice.stop();
    let bob = Peer::start();
    let waiting = run(bob.home(), &["join", &link, "--yes", "--as", "alice"]);
    assert_eq!(waiting.code, 0, "{waiting:?}");
    assert!(waiting.out.starts_with("waiting for ") && waiting.err.contains("soon back"), "{waiting:?}");
    // A slow machine is still calling when the command has waited long enough.
    until_space(&bob, "alice", "unreachable");
    let peers = run(bob.home(), &["peers"]).out;
    assert!(peers.contains("not reached (never met)"), "{peers}");
    let doctor = run(bob.home(), &["doctor"]).out;
    assert!(doctor.contains("@alice") && doctor.contains("invite not answered yet"), "{doctor}");
    let early = run(bob.home(), &["get", "@alice/notes"]);
    assert!(early.code == 3 && !early.err.is_empty(), "not there is something else: {early:?}");
    // A watch that began meanwhile has it as soon as she is back.
    let mut watch = program(bob.home(), &["watch", "@alice/notes"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program runs");
    let lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let (sender, printed) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let bob = bob.restart();
    let alice = Peer::start_in(home);
    let first = printed.recv_timeout(DEADLINE).unwrap_or_default();
    alice.put("/notes/hi", &json!("I am back"));
    let goes_on = std::iter::from_fn(|| printed.recv_timeout(DEADLINE).ok()).any(|line| line.contains("I am back"));
    let _ = watch.kill();
    let _ = watch.wait();
    assert!(first.contains("snapshot") && first.contains("hello"), "{first}");
    assert!(goes_on, "the watch goes on");
    until_space(&bob, "alice", "live");
}

#[test]
fn an_invite_that_leads_nowhere_comes_with_a_warning() {
    let peer = Peer::launch_as(Home::new(), &mut std::process::Command::new(crate::peer::PROGRAM), &["--offline"]);
    let peer = peer.unwrap_or_else(|(home, _)| panic!("{}", home.log()));
    let made = run(peer.home(), &["invite", "--to", "/wall", "--can", "write"]);
    assert_eq!(made.code, 0, "{made:?}");
    for part in ["nobody can reach this peer", "limits only writing", "private /wall"] {
        assert!(made.err.contains(part), "{part} is missing in {}", made.err);
    }
    assert!(made.out.starts_with("timebus://join/") && made.out.trim().lines().count() == 1, "{made:?}");
    let quiet = run(peer.home(), &["doctor"]);
    assert!(quiet.out.contains("this peer is offline"), "{quiet:?}");
}

#[test]
fn verbs_of_the_network_say_that_no_peer_runs() {
    let home = Peer::start().stop();
    let key = "y".repeat(52);
    for args in [
        vec!["invite"],
        vec!["invites"],
        vec!["peers"],
        vec!["follow", &key],
        vec!["unfollow", &key],
        vec!["block", &key],
        vec!["unblock", &key],
        vec!["devices", "add"],
    ] {
        let told = run(&home, &args);
        assert!(told.code == 3 && told.err.contains("timebus") && told.err.contains("up"), "{args:?}: {told:?}");
    }
    // What the home itself knows it tells, and what it cannot know.
    let told = run(&home, &["devices"]);
    assert!(told.code == 0 && told.out.contains("this one") && told.err.contains("no peer runs here"), "{told:?}");
}

/// Who has no program takes it from the peer that invites, and is in with it.
#[test]
fn the_program_is_had_from_whoever_invites() {
    let args = ["--no-lan", "--udp", "127.0.0.1:0", "--host", "ada.test:80"];
    let ada = Peer::launch_as(Home::new(), &mut Command::new(PROGRAM), &args).unwrap_or_else(|(_, status)| panic!("{status}"));
    let ask = |method: &str, headers: &[(&str, &str)]| ada.send(method, "/.join/timebus", headers, "");
    // Whether anybody is invited is nothing that a stranger hears.
    let before = ask("HEAD", &[]);
    let made = verb(ada.home(), &["invite"]);
    let link = made["http_link"].as_str().expect("a link that any browser opens");
    assert!(link.starts_with("http://ada.test/.join#"), "{link}");
    assert!(run(ada.home(), &["invite"]).err.contains("browser    http://ada.test/.join#"));

    let own = std::fs::read(PROGRAM).expect("the program");
    let head = ask("HEAD", &[]);
    let told = |answer: &crate::http::Answer| {
        (answer.status, ["etag", "content-length", "timebus-platform"].map(|name| answer.header(name).map(str::to_owned)))
    };
    assert_eq!(told(&before), told(&head));
    let platform = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    assert_eq!((head.header("timebus-platform"), head.header("content-length")), (Some(&*platform), Some(&*own.len().to_string())));
    // What was cut off goes on where it was.
    let begun = ask("GET", &[("Range", "bytes=0-99999")]);
    assert_eq!((begun.status, begun.body.len()), (206, 100_000));
    let rest = ask("GET", &[("Range", "bytes=100000-"), ("If-Range", begun.header("etag").expect("a tag"))]);
    let whole = [begun.body, rest.body].concat();
    assert!(whole == own, "{} of {} bytes", whole.len(), own.len());
    assert_eq!(ask("POST", &[]).status, 405);

    let bob = Home::new();
    let program = bob.beside("downloaded");
    std::fs::write(&program, whole).expect("a file");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it may be run");
    let bob = Peer::launch(bob, &mut Command::new(program)).unwrap_or_else(|(_, status)| panic!("{status}"));
    assert_eq!(join(&bob, made["link"].as_str().expect("a link"), "ada")["result"], "connected");

    // Nor does it hear that there is none any more; and a peer that is reached by no name hands out nothing.
    for invite in verb(ada.home(), &["invites"])["invites"].as_array().expect("a list") {
        verb(ada.home(), &["invites", "revoke", invite["id"].as_str().expect("an id")]);
    }
    assert_eq!(told(&ask("HEAD", &[])), told(&head));
    let refused = bob.send("GET", "/.join/timebus", &[("Accept", "text/html")], "");
    assert_eq!((refused.status, refused.json()["type"].clone()), (404, json!("/.sys/problems/program")));
}
