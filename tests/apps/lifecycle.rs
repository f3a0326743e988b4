//! Apps are made, published, found with others, pinned, upgraded and removed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::{Value, json};

use super::origins::{Origin, folder, install};
use crate::peer::{DEADLINE, Peer};
use crate::peers::neighbours::{json as verb, program, run, until_value};

const WANTS: &str = r#"[{"path":"/boards","may":["read","write"],"why":"boards are there"}]"#;

#[test]
fn an_app_that_was_just_made_runs() {
    let peer = Peer::start();
    let folder = peer.home().beside("notes").display().to_string();
    assert_eq!(run(peer.home(), &["app", "new", "notes", "--in", &folder]).code, 0);
    assert_eq!(run(peer.home(), &["app", "new", "notes", "--in", &folder]).code, 1, "it is there already");
    assert_eq!(run(peer.home(), &["app", "new", "No Tes"]).code, 2);
    let asked = run(peer.home(), &["app", "install", &folder]);
    assert_eq!(asked.code, 2, "nobody was asked: {asked:?}");
    for part in ["read and change /notes in your space", "the list is kept there", "asks no host but your peer", "--yes"] {
        assert!(asked.err.contains(part), "{part} is missing in {}", asked.err);
    }
    assert_eq!(verb(peer.home(), &["app", "ls"])["apps"], json!([]));
    let installed = install(&peer, &folder);
    assert_eq!((&installed["alias"], &installed["is_dev"]), (&json!("notes"), &json!(false)), "{installed}");
    let page = Origin::new(&peer, "notes").ask("GET", "/", &[], "").text();
    assert!(page.contains("bus.at(\"/notes\")"), "{page}");
}

#[test]
fn what_ships_is_offered_and_installed_by_name() {
    let peer = Peer::start();
    let all = verb(peer.home(), &["app", "ls"]);
    let offered: Vec<&str> = all["offered"].as_array().expect("a list").iter().filter_map(|app| app["name"].as_str()).collect();
    assert_eq!(offered, ["chirp", "board"]);
    assert_eq!(install(&peer, "chirp")["source"]["kind"], "builtin");
    let all = verb(peer.home(), &["app", "ls"]);
    assert_eq!((all["offered"].as_array().map(Vec::len), &all["apps"][0]["update"]), (Some(1), &Value::Null), "{all}");
    assert_eq!(Origin::new(&peer, "chirp").ask("GET", "/main.js", &[], "").status, 200);
    assert_eq!(run(peer.home(), &["app", "install", "nonsense", "--yes"]).code, 1);
}

#[test]
fn an_app_says_whose_space_it_gets_and_asks_again_for_another_one() {
    let (ada, bob) = (Peer::start(), Peer::start());
    ada.put("/profile/name", &json!("Ada"));
    install(&ada, &folder(ada.home(), "board", WANTS, "<p>board"));
    let shared = run(ada.home(), &["app", "share", "board", "--to", "/boards", "--can", "write"]);
    let own = ada.ready["id"].as_str().expect("a key");
    assert!(shared.err.contains(&format!("timebus app install LINK --space @{own}")), "{shared:?}");
    let link = shared.out.lines().next().expect("a link").to_owned();
    let asked = run(bob.home(), &["join", &link, "--yes", "--as", "Ada"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    let look = |space: &[&str]| run(bob.home(), &[&["app", "install", "@Ada/board"], space].concat());
    let shown = look(&["--space", "@Ada"]);
    assert!(shown.err.contains("read and change /boards in the space of Ada") && shown.err.contains("published by Ada"), "{shown:?}");
    assert_eq!(look(&["--yes"]).code, 0);
    // In another space it is given nothing yet.
    let shown = look(&["--space", "@Ada"]);
    assert!(shown.err.contains("/boards in the space of Ada") && shown.err.contains("had      your space"), "{shown:?}");
    assert_eq!(look(&["--space", "@Ada", "--yes"]).code, 0);
    let listed = run(bob.home(), &["app", "ls"]);
    assert!(listed.out.contains("the space of Ada"), "{listed:?}");
    // Who says nothing leaves it where it is, and `@me` is the own one.
    let shown = look(&[]);
    assert!(shown.err.contains("for nothing that it does not have") && shown.err.contains("the space of Ada"), "{shown:?}");
    assert_eq!(look(&["--space", "@me", "--yes"]).code, 0);
    assert_eq!(verb(bob.home(), &["app", "ls"])["apps"][0]["space_words"], "your space");
}

#[test]
fn what_the_own_space_publishes_is_listed_and_installed_by_name() {
    let peer = Peer::start();
    peer.put("/profile/name", &json!("Ada"));
    let at = folder(peer.home(), "board-of-mine", WANTS, "<p>board");
    assert_eq!(run(peer.home(), &["app", "publish", &at]).code, 0);
    let listed = run(peer.home(), &["app", "ls"]);
    assert!(listed.err.contains("app install board-of-mine"), "{listed:?}");
    let installed = install(&peer, "board-of-mine");
    assert_eq!(installed["source"]["words"], "published by you");
    assert_eq!(verb(peer.home(), &["app", "ls"])["published"], json!([]), "it is installed");
    for who in ["Ada", "me"] {
        assert_eq!(install(&peer, &format!("@{who}/board-of-mine"))["alias"], "board-of-mine", "{who}");
    }
    let app = Origin::new(&peer, "board-of-mine");
    assert_eq!(app.page(&app.token(), "GET", "/.sys/app", "").json()["my_name"], "Ada");
    let missing = run(peer.home(), &["app", "dev", "nofolder"]);
    assert!(missing.code == 2 && missing.err.contains("app new NAME --in nofolder"), "{missing:?}");
}

#[test]
fn an_upgrade_asks_for_what_is_new_and_moves_no_data() {
    let peer = Peer::start();
    let at = folder(peer.home(), "board", WANTS, "<p>one");
    let first = install(&peer, &at);
    let app = Origin::new(&peer, "board");
    let token = app.token();
    peer.put("/boards/a", &json!("kept"));
    folder(peer.home(), "board", WANTS, "<p>two");
    assert_eq!(app.ask("GET", "/", &[], "").text(), "<p>one", "what is installed is what was looked at");
    let second = install(&peer, &at);
    assert_ne!(first["version"], second["version"]);
    assert_eq!((app.ask("GET", "/", &[], "").text(), app.token()), ("<p>two".to_owned(), token.clone()));
    let more = r#"[{"path":"/boards","may":["read","write"]},{"path":"/diary","may":["read"],"why":"curiosity"}]"#;
    folder(peer.home(), "board", more, "<p>three");
    let asked = run(peer.home(), &["app", "install", &at]);
    assert!(asked.code == 2 && asked.err.contains("read /diary in your space") && !asked.err.contains("/boards in"), "{asked:?}");
    install(&peer, &at);
    assert_ne!(app.token(), token, "what can do more is another token");
    app.page(&token, "GET", &format!("/@{}/boards", peer.ready["id"].as_str().expect("a key")), "").problem(401);
    assert_eq!(peer.value("/boards/a"), json!("kept"));
    // Nobody agrees to a version that he has not seen.
    let body = json!({"from": {"builtin": "chirp"}, "version": first["version"]}).to_string();
    peer.send("POST", "/.sys/apps/install", &[], body).problem(409);
    let removed = verb(peer.home(), &["app", "remove", "board"]);
    assert_eq!(removed["kept"], json!(["/boards", "/diary"]));
    assert_eq!(app.ask("GET", "/", &[], "").status, 404);
    assert_eq!(run(peer.home(), &["app", "remove", "board"]).code, 1);
}

#[test]
fn a_friend_gets_the_app_with_the_invite_and_it_survives_its_author() {
    let (alice, bob) = (Peer::start(), Peer::start());
    let at = folder(alice.home(), "board", WANTS, "<p>hers");
    // What is too large for a value goes beside the tree, as files do.
    let picture: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(format!("{at}/picture.png"), &picture).expect("written");
    let hers = install(&alice, &at);
    let elsewhere = run(alice.home(), &["app", "share", "board", "--to", "@somebody/boards"]);
    assert!(elsewhere.code == 2 && elsewhere.err.contains("invite --to @somebody/boards"), "{elsewhere:?}");
    let shared = run(alice.home(), &["app", "share", "board", "--to", "/boards", "--can", "write"]);
    assert_eq!(shared.code, 0, "{shared:?}");
    let link = shared.out.lines().next().expect("a link").to_owned();
    let looked = bob.send("POST", "/.sys/join", &[], json!({"link": link}).to_string()).json();
    assert_eq!(looked["app"], json!({"name": "board", "version": hers["version"]}), "{looked}");
    let his = install(&bob, &link);
    assert_eq!((&his["version"], &his["source"]["space"]), (&hers["version"], &alice.ready["id"]), "{his}");
    assert!(Origin::new(&bob, "board").ask("GET", "/picture.png", &[], "").body == picture, "the picture is another one");
    let alice = alice.restart();
    let home = alice.stop();
    assert_eq!(Origin::new(&bob, "board").ask("GET", "/", &[], "").text(), "<p>hers");
    // Others get it from whoever has it.
    let alice = Peer::start_in(home);
    folder(alice.home(), "board", WANTS, "<p>newer");
    assert_eq!(run(alice.home(), &["app", "publish", &at]).code, 0);
    let space = alice.ready["id"].as_str().expect("a key");
    let newer = alice.value("/.apps/board/version");
    until_value(&bob, &format!("/@{space}/.apps/board/version"), &newer);
    let update = verb(bob.home(), &["app", "ls"])["apps"][0]["update"]["version"].clone();
    assert_eq!(update, newer, "he is told");
    assert_eq!(Origin::new(&bob, "board").ask("GET", "/", &[], "").text(), "<p>hers", "and decides himself");
    install(&bob, &format!("@{space}/board"));
    assert_eq!(Origin::new(&bob, "board").ask("GET", "/", &[], "").text(), "<p>newer");
}

#[test]
fn an_app_that_is_worked_on_follows_its_files_and_so_do_its_pages() {
    let peer = Peer::start();
    let at = folder(peer.home(), "board", WANTS, "<p>one");
    let mut dev = program(peer.home(), &["--json", "app", "dev", &at]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let lines = BufReader::new(dev.stdout.take().expect("a pipe")).lines();
    let (sender, said) = mpsc::channel();
    // The thread ends with the process at the latest.
    std::thread::spawn(move || lines.map_while(Result::ok).all(|line| sender.send(line).is_ok()));
    let next = || -> Value { serde_json::from_str(&said.recv_timeout(DEADLINE).expect("a line in time")).expect("JSON") };
    let first = next();
    let app = Origin::new(&peer, "board");
    assert_eq!(app.ask("GET", "/", &[], "").text(), "<p>one");
    let token = app.token();
    assert_eq!(app.page(&token, "GET", "/.sys/app", "").json()["is_dev"], true);
    // A file that is half written is no reason to end.
    std::fs::write(format!("{at}/app.json"), "{").expect("written");
    folder(peer.home(), "board", WANTS, "<p>two");
    let second = next();
    assert_ne!(first["version"], second["version"]);
    let known = first["version"].as_str().expect("a version");
    let told = app.page(&token, "GET", &format!("/.sys/reload?after={known}"), "").json();
    assert_eq!((&told["version"], app.ask("GET", "/", &[], "").text()), (&second["version"], "<p>two".to_owned()));
    let pid = rustix::process::Pid::from_child(&dev);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it lives");
    assert!(crate::peer::wait(&mut dev).expect("an end").success());
    assert_eq!(app.page(&token, "GET", "/.sys/app", "").json()["is_dev"], false, "its pages wait for nothing any more");
}
