//! Personas: several identities of one person on one peer, which others cannot tell are one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::neighbours::{Run, invite, join, json as told, peers, poll, run, until_value};
use super::succession::{place, told as said, typed, words};
use crate::apps::origins::{Origin, folder};
use crate::peer::{Home, Peer};
use crate::socket::Socket;

/// A peer with a persona called work; what the program says of that.
fn with_work() -> (Peer, Value) {
    let peer = Peer::start();
    let made = told(peer.home(), &["personas", "new", "work"]);
    (peer, made)
}

/// Runs a verb as the persona work.
fn as_work(home: &Home, args: &[&str]) -> Run {
    run(home, &[&["--persona", "work"], args].concat())
}

/// What a key is called.
fn human_of(key: &str) -> String {
    timebus_identity::human_name(&key.parse().expect("a key"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// The link that an invite of work is.
fn invite_of_work(peer: &Peer, args: &[&str]) -> String {
    let ran = as_work(peer.home(), &[&["invite"], args].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.out.trim().to_owned()
}

/// Where the keys of work are.
fn keys_of_work(home: &Home) -> PathBuf {
    ["personas", "work", "keys"].iter().fold(home.folder().to_owned(), |folder, name| folder.join(name))
}

/// The files below a folder in which some bytes are.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if std::fs::read(&path).is_ok_and(|content| holds(&content, bytes)) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Whether bytes are in a file, most of which may be zeros that were only allotted.
fn holds(content: &[u8], bytes: &[u8]) -> bool {
    let mut rest = content;
    while let Some(at) = rest.iter().position(|byte| *byte == bytes[0]) {
        rest = &rest[at..];
        if rest.starts_with(bytes) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Where a key is in a folder, as text or as bytes.
fn traces(folder: &Path, key: &str) -> Vec<String> {
    let raw = timebus_identity::z32::decode_32(key).expect("a key");
    [files_with(folder, key.as_bytes()), files_with(folder, &raw)].concat()
}

#[test]
fn a_persona_is_a_peer_of_its_own_for_its_owner_and_nobody_for_others() {
    let (alice, work) = with_work();
    let own = alice.ready["id"].as_str().expect("an id");
    let id = text(&work, "id");
    assert_ne!(id, own);
    assert_ne!(text(&work, "node"), alice.ready["node"]);
    alice.put("/notes/a", &json!("mine"));
    alice.put("/@work/notes/a", &json!("of work"));
    assert_eq!((alice.value("/notes"), alice.value("/@work/notes")), (json!({"a": "mine"}), json!({"a": "of work"})));
    assert_eq!(alice.value(&format!("/@{id}/notes/a")), "of work", "by its key");
    assert_eq!(as_work(alice.home(), &["get", "/notes/a"]).out.trim(), "\"of work\"");
    assert_eq!(told(alice.home(), &["--persona", "work", "id"])["id"], id);
    let made = alice.send("POST", "/@work/list", &[("Content-Type", "application/json")], "1");
    let place = made.header("location").expect("a place").to_owned();
    assert!(place.starts_with("/@work/list/"), "{place}");
    assert_eq!(alice.value(&place), 1);

    // The websocket and subscriptions know it, too.
    let mut socket = Socket::open(&alice);
    assert_eq!(socket.request(&json!({"id": 1, "put": "/@work/notes/b", "value": 2}))["ok"], true);
    assert_eq!(socket.request(&json!({"id": 2, "get": "/@work/notes/b"}))["value"], 2);
    socket.say(&json!({"id": 3, "watch": "/@work/notes"}));
    assert_eq!(socket.hear()["snapshot"], json!({"a": "of work", "b": 2}));
    assert_eq!(socket.request(&json!({"id": 4, "get": "/@work/.sys/status"}))["value"]["id"], id);
    assert_eq!(socket.request(&json!({"id": 5, "get": "/notes"}))["value"], json!({"a": "mine"}));

    // Whoever is not the owner finds nothing, and the same nothing as everywhere.
    let stranger = |path: &str| alice.send("GET", path, &[("Origin", "http://evil.example")], "");
    let other = Peer::start();
    let unknown = other.ready["id"].as_str().expect("an id");
    for (there, nowhere) in [("/@work/notes", "/@play/notes"), (&*format!("/@{id}/notes"), &*format!("/@{unknown}/notes"))] {
        let (a, b) = (stranger(there), stranger(nowhere));
        assert_eq!((a.status, a.text()), (b.status, b.text()), "{there}");
        assert!(!(200..300).contains(&a.status));
    }
    // Not even what work gives to everybody is had by that name here, where it would say whose work is.
    assert_eq!(as_work(alice.home(), &["grant", "/notes", "anyone", "--can", "read"]).code, 0);
    let (there, nowhere) = (stranger("/@work/notes/a"), stranger("/@play/notes/a"));
    assert_eq!((there.status, there.text()), (nowhere.status, nowhere.text()));
    for path in [format!("/@{id}/.drop"), "/@work/.sys/status".to_owned()] {
        assert!(matches!(stranger(&path).status, 401 | 403 | 404), "{path}");
    }

    // What the whole peer does is not a persona's, and it has no personas itself.
    for path in ["/@work/.sys/down", "/@work/.sys/personas", "/@work/.sys/login-code"] {
        alice.send("POST", path, &[("Content-Type", "application/json")], "{}").problem(404);
    }
    assert_eq!(as_work(alice.home(), &["down"]).code, 2);
    for (name, code) in [("work", 4), ("Work", 1), ("a/b", 1)] {
        let ran = run(alice.home(), &["personas", "new", name]);
        assert_eq!(ran.code, code, "{ran:?}");
    }

    // It is there again after a start, also one that nobody saw coming.
    let alice = Peer::start_in(alice.kill());
    assert_eq!(alice.value("/@work/notes/a"), "of work");
    let listed = told(alice.home(), &["personas"]);
    assert_eq!((&listed["personas"][0]["id"], &listed["personas"][0]["link"]), (&json!(id), &json!("apart")), "{listed}");
    let node = text(&listed["personas"][0], "node");
    assert_eq!(node, text(&work, "node"), "others find it again");
    // And without a peer that runs.
    let home = alice.stop();
    assert_eq!(as_work(&home, &["get", "/notes/a"]).out.trim(), "\"of work\"");
    assert_eq!(as_work(&home, &["put", "/notes/c", "3"]).code, 0);
    assert_eq!(run(&home, &["get", "@work/notes/c"]).out.trim(), "3");
}

/// What a persona is in a community is its own doing: it says there who it is, and holds what is placed with it.
#[test]
fn a_persona_is_a_member_of_a_community_and_holds_files_for_it() {
    let (alice, _) = with_work();
    let bob = Peer::start();
    told(bob.home(), &["community", "new", "choir", "--called", "Bob", "--copies", "1"]);
    let link = invite(&bob, &["--to", "@choir", "--can", "member"]);
    let joined = as_work(alice.home(), &["community", "join", &link, "--yes", "--called", "Worker"]);
    assert_eq!(joined.code, 0, "{joined:?}");
    poll("it offers room", || (as_work(alice.home(), &["community", "offer", "50MB"]).code == 0).then_some(()));
    let put = bob.send("PUT", "/@choir/board/song", &[("Content-Type", "audio/ogg")], vec![7u8; 300_000]);
    assert!(put.status < 300, "{}", put.text());
    poll("it holds the song under its name", || {
        let placed = bob.value("/.sys/communities/choir/placement");
        let holder = &placed["files"][0]["holders"][0];
        (holder["name"] == "Worker" && holder["state"] == "holds").then_some(())
    });
}

/// Bob knows work, Carol knows work and Alice; what Bob has on his disk says nothing of Alice.
#[test]
fn what_others_get_of_a_persona_names_nobody_else() {
    let (alice, work) = with_work();
    alice.put("/notes/a", &json!("mine"));
    alice.put("/@work/notes/a", &json!("of work"));
    let (bob, carol) = (Peer::start(), Peer::start());
    assert_eq!(join(&carol, &invite(&alice, &[]), "alice")["result"], "connected");
    assert_eq!(join(&carol, &invite_of_work(&alice, &[]), "work")["result"], "connected");
    assert_eq!(join(&bob, &invite_of_work(&alice, &["--to", "/wall", "--can", "write"]), "work")["result"], "connected");
    bob.put("/@work/wall/bob", &json!("hello"));
    until_value(&alice, "/@work/wall/bob", &json!("hello"));
    alice.put("/@work/notes/b", &json!(2));
    until_value(&bob, "/@work/notes", &json!({"a": "of work", "b": 2}));
    until_value(&carol, "/@alice/notes/a", &json!("mine"));
    // A like from Bob, and an answer.
    assert_eq!(run(bob.home(), &["inbox", "send", "like", "@work/notes/a", "--from", "/likes/1"]).code, 0);
    poll("work has the notice", || as_work(alice.home(), &["inbox"]).out.contains("like").then_some(()));
    assert!(run(alice.home(), &["inbox"]).out.is_empty(), "nobody wrote to alice");

    let own = told(alice.home(), &["id"]);
    let secrets = [text(&own, "id"), text(&own, "device"), alice.ready["node"].as_str().expect("a node")];
    let seen = [text(&work, "id"), text(&work, "node")];
    assert!(peers(&carol).len() >= 2, "two peers, as far as carol knows");
    let bob = bob.stop();
    for key in secrets {
        assert_eq!(traces(bob.folder(), key), Vec::<String>::new(), "{key}");
    }
    assert_eq!(files_with(bob.folder(), text(&own, "name").as_bytes()), Vec::<String>::new());
    assert!(seen.iter().all(|key| !traces(bob.folder(), key).is_empty()), "the look at the disk finds keys");
    // Nor does what Alice's own home keeps of others, beside the home of the persona.
    let home = alice.stop();
    std::fs::remove_dir_all(home.folder().join("personas")).expect("removed");
    for key in [text(&work, "id"), text(&work, "device"), text(&work, "node")] {
        assert_eq!(traces(home.folder(), key), Vec::<String>::new(), "{key}");
    }
}

#[test]
fn nothing_that_the_owner_types_by_mistake_tells_others() {
    let (alice, work) = with_work();
    let id = text(&work, "id");
    let own = alice.ready["id"].as_str().expect("an id").to_owned();
    for ran in [
        run(alice.home(), &["follow", id]),
        run(alice.home(), &["join", &invite_of_work(&alice, &[]), "--yes"]),
        as_work(alice.home(), &["follow", &own]),
        as_work(alice.home(), &["get", &format!("@{own}/notes")]),
        as_work(alice.home(), &["join", &invite(&alice, &[]), "--yes"]),
        as_work(alice.home(), &["inbox", "send", "like", &format!("@{own}/notes"), "--from", "/likes/1"]),
    ] {
        assert!(ran.code == 4 && ran.err.contains("this is you, too"), "{ran:?}");
    }
    let like = run(alice.home(), &["inbox", "send", "like", &format!("@{id}/notes"), "--from", "/likes/1"]);
    assert!(like.code == 1 && like.err.contains("not yours to say"), "{like:?}");
    assert_eq!(peers(&alice), Vec::<Value>::new());
}

#[test]
fn a_link_counts_when_both_sides_say_so() {
    let (alice, work) = with_work();
    let id = text(&work, "id").to_owned();
    let (carol, mallory) = (Peer::start(), Peer::start());
    assert_eq!(join(&carol, &invite(&alice, &["--to", "/profile", "--can", "write"]), "alice")["result"], "connected");
    assert_eq!(join(&carol, &invite_of_work(&alice, &[]), "work")["result"], "connected");
    assert_eq!(told(carol.home(), &["personas", "of", "@alice"])["links"], json!([]));
    let hasty = run(alice.home(), &["personas", "link", "work"]);
    assert!(hasty.code == 2 && hasty.err.contains("--yes"), "{hasty:?}");
    assert_eq!(told(alice.home(), &["personas", "link", "work", "--yes"])["link"], "linked");
    let links = |who: &str| told(carol.home(), &["personas", "of", who])["links"].clone();
    poll("carol knows", || (links("@alice")[0]["state"] == "linked").then_some(()));
    assert_eq!(links("@alice")[0]["space"], id.as_str());
    poll("from both sides", || (links("@work")[0]["state"] == "linked").then_some(()));
    // Who says alone that he is somebody is not believed, nor is a member who says it for the owner.
    assert_eq!(join(&carol, &invite(&mallory, &[]), "mallory")["result"], "connected");
    mallory.put(&format!("/profile/also/{id}"), &json!(true));
    poll("what mallory says has come", || (links("@mallory")[0]["state"] == "claimed").then_some(()));
    let false_key = mallory.ready["id"].as_str().expect("an id");
    carol.put(&format!("/@alice/profile/also/{false_key}"), &json!(true));
    assert_eq!(links("@alice").as_array().map(Vec::len), Some(1), "{}", links("@alice"));
    // And it can be taken back, as far as that goes.
    assert_eq!(told(alice.home(), &["personas", "unlink", "work"])["link"], "apart");
    poll("carol is told", || (links("@alice") == json!([])).then_some(()));
}

#[test]
fn an_app_that_is_given_a_persona_is_that_and_sees_nothing_of_its_owner() {
    let (alice, work) = with_work();
    let (id, own) = (text(&work, "id").to_owned(), alice.ready["id"].as_str().expect("an id").to_owned());
    let wants = r#"[{"path":"/boards","may":["read","write"]},{"path":"/boards","of":"others","may":["read"]},
        {"path":"/.sys/follow","may":["write"]},{"path":"/.sys/refs","may":["read"]},{"path":"/.sys/mute","may":["write"]},
        {"path":"/.sys/spaces","may":["read"]},{"path":"/.drop","of":"others","may":["write"]}]"#;
    let source = folder(alice.home(), "board", wants, "<p>board</p>");
    alice.put("/boards/secret", &json!("of alice"));
    let installed = run(alice.home(), &["--json", "personas", "use", "work", &source, "--yes"]);
    assert_eq!(installed.code, 0, "{installed:?}");
    let mine = run(alice.home(), &["--json", "app", "install", &source, "--yes"]);
    let alias = |ran: &Run| {
        let value: Value = serde_json::from_str(ran.out.lines().last().unwrap_or_default()).expect("JSON");
        text(&value, "alias").to_owned()
    };
    let (theirs, mine) = (alias(&installed), alias(&mine));
    assert_ne!(theirs, mine, "an origin is one app's");
    let page = Origin::new(&alice, &theirs);
    assert!(page.ask("GET", "/", &[], "").text().contains("board"));
    let token = page.token();
    let about = page.page(&token, "GET", "/.sys/app", "").json();
    assert_eq!((&about["me"], &about["space"]), (&json!(id), &json!(id)));
    assert!(!about.to_string().contains(&own));
    assert!(page.page(&token, "PUT", &format!("/@{id}/boards/x"), "1").status < 300);
    assert_eq!((alice.value("/@work/boards"), alice.value("/boards")), (json!({"x": 1}), json!({"secret": "of alice"})));
    // What it is told of its owner is what it is told of anybody whom nobody knows.
    let stranger = Peer::start();
    let unknown = stranger.ready["id"].as_str().expect("an id");
    let human = |peer: &Peer| told(peer.home(), &["id"])["name"].as_str().expect("a name").to_owned();
    let asked = |key: &str| page.page(&token, "GET", &format!("/@{key}/boards/secret"), "");
    let (of_own, of_nobody) = (asked(&own), asked(unknown));
    assert_eq!((of_own.status, of_nobody.status), (404, 404));
    assert_eq!(of_own.text().replace(&human(&alice), &human(&stranger)), of_nobody.text());
    for (method, target, body) in [
        ("GET", "/.sys/refs/@KEY/posts", ""),
        ("GET", "/.sys/refs/@KEY", ""),
        ("GET", "/.sys/synced/@KEY/.drop", ""),
        ("POST", "/.sys/follow", r#"{"who":"KEY"}"#),
        ("POST", "/.sys/mute", r#"{"who":"KEY"}"#),
        ("POST", "/.sys/mute", r#"{"who":"KEY","muted":false}"#),
    ] {
        let ask = |key: &str| page.page(&token, method, &target.replace("KEY", key), &body.replace("KEY", key));
        let (of_own, of_nobody) = (ask(&own), ask(unknown));
        let told = of_own.text().replace(&own, unknown).replace(&human(&alice), &human(&stranger));
        assert_eq!((of_own.status, told), (of_nobody.status, of_nobody.text()), "{method} {target}");
    }
    // What people are called, and where they are, is not an app's word: it would learn which names are taken, and by what.
    for more in [json!({"petname": "work"}), json!({"petname": "carol"}), json!({"node": unknown, "addresses": ["192.0.2.1:9"]})] {
        let mut wanted = json!({ "who": unknown });
        wanted.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let refused = page.page(&token, "POST", "/.sys/follow", &wanted.to_string());
        assert!(refused.status == 403 && refused.text().contains("only the owner"), "{}", refused.text());
    }
    // Nor does the one of the owner learn of the persona, and no token is good at the other's origin.
    let other = Origin::new(&alice, &mine);
    let answer = other.page(&other.token(), "GET", &format!("/@{id}/boards/x"), "");
    assert!(answer.status == 404 && !answer.text().contains("you, too"), "{}", answer.text());
    assert!(matches!(other.page(&token, "GET", "/.sys/app", "").status, 401 | 403));
    // Not by asking again either, nor by following it, nor by what is listed then; and its owner is told of nothing.
    let others = other.token();
    let alike = |ask: &dyn Fn(&str) -> crate::http::Answer| {
        let (of_persona, of_nobody) = (ask(&id), ask(unknown));
        let told = of_persona.text().replace(&id, unknown).replace(&human_of(&id), &human_of(unknown));
        assert_eq!((of_persona.status, told), (of_nobody.status, of_nobody.text()));
        of_persona.status
    };
    for path in ["/boards/x", "/elsewhere", "/.drop"] {
        let statuses = [(); 3].map(|()| alike(&|key| other.page(&others, "GET", &format!("/@{key}{path}"), "")));
        assert_eq!(statuses[0], if path == "/boards/x" { 404 } else { 403 }, "{path}: {statuses:?}");
        for _ in 0..2 {
            alike(&|key| alice.send("GET", &format!("/@{key}{path}"), &[("Sec-Fetch-Site", "none")], ""));
        }
    }
    alike(&|key| other.page(&others, "POST", "/.sys/follow", &json!({ "who": key }).to_string()));
    let listed = |of: &Value| {
        let one = of["spaces"].as_array().into_iter().flatten().map(|space| (text(space, "space").to_owned(), space.clone()));
        one.collect::<std::collections::BTreeMap<_, _>>()
    };
    let to_app = listed(&other.page(&others, "GET", "/.sys/spaces", "").json());
    assert_eq!(to_app.len(), 2, "{to_app:?}");
    let as_unknown = to_app[&id].to_string().replace(&id, unknown).replace(&human_of(&id), &human_of(unknown));
    assert_eq!(as_unknown, to_app[unknown].to_string());
    assert_eq!(to_app[&id]["is_followed"], true);
    assert_eq!(listed(&alice.value("/.sys/spaces")).keys().collect::<Vec<_>>(), [unknown]);
    // A notice to it waits as one to anybody who is not reached, and its owner sees that one does.
    let left = |key: &str| {
        let notice = json!({"kind": "like", "target": format!("/@{key}/posts/1"), "source": format!("/@{own}/boards/like")});
        let answer = other.page(&others, "POST", &format!("/@{key}/.drop"), &notice.to_string());
        (answer.status, answer.json())
    };
    let as_of_nobody = |(status, mut told): (u16, Value), key: &str| {
        for name in ["id", "clock", "since_ms", "slot"] {
            assert!(told.as_object_mut().is_some_and(|told| told.remove(name).is_some()), "{name}: {told}");
        }
        (status, told.to_string().replace(key, unknown).replace(&human_of(key), &human_of(unknown)))
    };
    let (of_persona, of_nobody) = (left(&id), left(unknown));
    let ids = [&of_persona, &of_nobody].map(|(_, told)| text(told, "id").to_owned());
    assert_eq!(as_of_nobody(of_persona, &id), as_of_nobody(of_nobody, unknown));
    let waiting = |alice: &Peer| {
        let page = Origin::new(alice, &mine);
        let stands = |key: &str| page.page(&page.token(), "GET", &format!("/.sys/synced/@{key}/.drop"), "").text();
        let [of_persona, of_nobody] = [stands(&id).replace(&ids[0], "ID"), stands(unknown).replace(&ids[1], "ID")];
        assert!(of_nobody.contains("ID"), "{of_nobody}");
        assert_eq!(of_persona, of_nobody);
    };
    waiting(&alice);
    let sent = alice.value("/.sys/outbox").to_string();
    assert!(sent.contains(&format!("\"space\":\"{id}\"")), "{sent}");
    let kept = std::fs::read_to_string(alice.home().folder().join("outbox.json")).expect("the outbox");
    assert!(kept.contains(unknown) && !kept.replace(' ', "").contains(&format!("\"space\":\"{id}\"")), "nobody is asked for it: {kept}");
    // It is there after a start, and goes; and nothing of that tells the persona from anybody else.
    let alice = alice.restart();
    waiting(&alice);
    let page = Origin::new(&alice, &mine);
    let again = listed(&page.page(&page.token(), "GET", "/.sys/spaces", "").json());
    assert_eq!(again.keys().collect::<Vec<_>>(), to_app.keys().collect::<Vec<_>>());
    let as_unknown = again[&id].to_string().replace(&id, unknown).replace(&human_of(&id), &human_of(unknown));
    assert_eq!((as_unknown, &again[&id]["is_followed"]), (again[unknown].to_string(), &json!(true)));
    let listed = told(alice.home(), &["--persona", "work", "app", "ls"]);
    assert_eq!(listed["apps"][0]["alias"], theirs.as_str());
    assert_eq!(Origin::new(&alice, &theirs).token(), token);
    assert_eq!(as_work(alice.home(), &["app", "remove", &theirs]).code, 0);
    assert_eq!(Origin::new(&alice, &theirs).ask("GET", "/", &[], "").status, 404);
}

#[test]
fn the_words_of_the_owner_and_the_name_are_the_keys_of_a_persona() {
    let (alice, work) = with_work();
    let id = text(&work, "id").to_owned();
    alice.put("/@work/notes/a", &json!("of work"));
    let bob = Peer::start();
    assert_eq!(join(&bob, &invite_of_work(&alice, &[]), "work")["result"], "connected");
    until_value(&bob, "/@work/notes/a", &json!("of work"));
    let running = as_work(alice.home(), &["kit"]);
    assert!(running.code == 1 && running.err.contains("down"), "{running:?}");
    let home = alice.stop();
    let kit = words(&told(&home, &["kit"]));
    let key = keys_of_work(&home).join("root.key");
    assert!(key.exists());
    let confirmed = said(&typed(&home, &["--json", "kit", "--confirm"], &kit));
    assert_eq!(confirmed["personas"], json!(["work"]));
    assert!(!key.exists() && !keys_of_work(&home).join("next.key").exists(), "it is cold, too");
    // Without words there are no more that come from them.
    let cold = run(&home, &["personas", "new", "play"]);
    assert!(cold.code == 1 && cold.err.contains("--kit"), "{cold:?}");
    let wrong = words(&told(&Peer::start().stop(), &["kit"]));
    assert_eq!(typed(&home, &["personas", "new", "play", "--kit"], &wrong).code, 1);
    let play = said(&typed(&home, &["--json", "personas", "new", "play", "--kit"], &kit));
    let apart = said(&typed(&home, &["--json", "personas", "new", "apart", "--own-kit"], ""));
    assert_ne!(text(&play, "id"), text(&apart, "id"));
    assert_eq!(words(&told(&home, &["--persona", "apart", "kit"])).split(' ').count(), 48);
    // A root that takes over needs the owner's words, and gives the persona its own.
    let rotated = said(&typed(&home, &["--json", "--persona", "work", "rotate"], &kit));
    assert_eq!(rotated["id"], id.as_str());
    // On a new machine they bring back the one that was never rotated.
    let new = Home::new();
    let back = said(&typed(&new, &["--json", "--persona", "play", "recover"], &kit));
    assert_eq!(back["id"], play["id"]);
    drop(home);
}

/// Alice's phone is hers, and work is on it, too, as another device of work.
#[test]
fn a_persona_is_on_a_second_device_like_its_owner() {
    let (laptop, work) = with_work();
    laptop.put("/@work/notes/a", &json!("of work"));
    let phone = super::devices::second(&laptop);
    let link = as_work(laptop.home(), &["devices", "add"]).out.trim().to_owned();
    let phone = phone.stop();
    let joined = run(&phone, &["--json", "--persona", "work", "join", &link, "--yes", "--no-lan", "--udp", "127.0.0.1:0"]);
    let joined = said(&joined);
    assert_eq!((&joined["id"], &joined["result"]), (&work["id"], &json!("connected")), "{joined}");
    let phone = Peer::start_in(phone);
    until_value(&phone, "/@work/notes/a", &json!("of work"));
    // Each writes, and each has what the other wrote.
    phone.put("/@work/notes/b", &json!(2));
    until_value(&laptop, "/@work/notes/b", &json!(2));
    laptop.put("/@work/notes/c", &json!(3));
    until_value(&phone, "/@work/notes", &json!({"a": "of work", "b": 2, "c": 3}));
    let devices = |peer: &Peer| told(peer.home(), &["--persona", "work", "devices"])["devices"].as_array().map(Vec::len);
    assert_eq!((devices(&laptop), devices(&phone)), (Some(2), Some(2)));
    // It is no other key of hers that they are told of: the devices of both identities have nothing in common.
    let keys = |args: &[&str]| -> Vec<String> {
        told(laptop.home(), args)["devices"].as_array().into_iter().flatten().map(|one| text(one, "device").to_owned()).collect()
    };
    let (hers, its) = (keys(&["devices"]), keys(&["--persona", "work", "devices"]));
    assert!(hers.len() == 2 && its.iter().all(|key| !hers.contains(key)));
    // One that is lost is out.
    let lost = its.iter().find(|key| **key != text(&work, "device")).expect("the other one").clone();
    assert_eq!(as_work(laptop.home(), &["devices", "remove", &lost]).code, 0);
    assert_eq!(devices(&laptop), Some(1));
    poll("the phone may write as work no more", || {
        let answer = phone.send("PUT", "/@work/notes/d", &[("Content-Type", "application/json")], "4");
        (answer.status == 403).then_some(())
    });
    phone.put("/notes/own", &json!(1));
    until_value(&laptop, "/notes/own", &json!(1));
}

#[test]
fn a_lost_persona_comes_back_from_a_friend() {
    let (alice, work) = with_work();
    alice.put("/@work/notes/a", &json!("of work"));
    let bob = Peer::start();
    assert_eq!(join(&bob, &invite_of_work(&alice, &[]), "work")["result"], "connected");
    until_value(&bob, "/@work/notes/a", &json!("of work"));
    let kit = words(&told(&alice.stop(), &["kit"]));
    let new = Home::new();
    let (node, address) = place(&bob);
    let net = ["--no-lan", "--udp", "127.0.0.1:0"];
    let back = typed(&new, &[&["--json", "--persona", "work", "recover", "--node", &node, "--at", &address][..], &net].concat(), &kit);
    let back = said(&back);
    assert_eq!((&back["id"], &back["result"]), (&work["id"], &json!("connected")), "{back}");
    let alice = Peer::start_in(new);
    assert_eq!(alice.value("/@work/notes/a"), "of work");
    alice.put("/@work/notes/b", &json!(2));
    until_value(&bob, "/@work/notes/b", &json!(2));
}

#[test]
fn a_persona_that_is_not_there_is_no_peer_to_be_looked_for() {
    let (alice, _) = with_work();
    let check = |home: &Home| {
        let asked = run(home, &["--persona", "nope", "get", "/x"]);
        assert!(asked.code == 1 && asked.err.contains("none of your personas is called nope"), "{asked:?}");
        assert_eq!(run(home, &["--persona", "work", "ls", "/"]).code, 0);
    };
    check(alice.home());
    check(&alice.stop());
}

#[test]
fn a_backup_has_the_personas_and_a_removed_one_leaves_nothing() {
    let (alice, work) = with_work();
    let id = text(&work, "id").to_owned();
    alice.put("/@work/notes/a", &json!("of work"));
    let film = vec![7; 100_000];
    assert!(alice.send("PUT", "/@work/film", &[("Content-Type", "video/mp4")], &film).status < 300);
    let tar = alice.home().beside("all.tar");
    assert_eq!(run(alice.home(), &["backup", &tar.display().to_string()]).code, 0);
    let copy = Home::new();
    assert_eq!(run(&copy, &["restore", &tar.display().to_string()]).code, 0);
    let restored = Peer::start_in(copy);
    assert_eq!(restored.value("/@work/notes/a"), "of work");
    assert_eq!(restored.send("GET", "/@work/film", &[], "").body, film);
    assert_eq!(told(restored.home(), &["personas"])["personas"][0]["id"], id.as_str());

    let hasty = run(alice.home(), &["personas", "remove", "work"]);
    assert!(hasty.code == 2 && hasty.err.contains("backup"), "{hasty:?}");
    told(alice.home(), &["personas", "remove", "work", "--yes"]);
    assert_eq!(run(alice.home(), &["personas", "remove", "work", "--yes"]).code, 1);
    assert!(!(200..300).contains(&alice.send("GET", "/@work/notes/a", &[], "").status));
    assert_eq!(traces(alice.home().folder(), &id), Vec::<String>::new());
    // The same words and name are the same persona, with nothing in it.
    let again = told(alice.home(), &["personas", "new", "work"]);
    assert_eq!(again["id"], id.as_str());
    assert_eq!(alice.send("GET", "/@work/notes/a", &[], "").status, 404);
}

/// A persona that does not open keeps nobody else from it.
#[test]
fn a_damaged_persona_is_told_about_and_the_rest_goes_on() {
    let (alice, _) = with_work();
    alice.put("/notes/a", &json!(1));
    let home = alice.stop();
    std::fs::remove_file(keys_of_work(&home).join("device.key")).expect("removed");
    let alice = Peer::start_in(home);
    assert_eq!(alice.value("/notes/a"), 1);
    let listed = told(alice.home(), &["personas"]);
    assert_eq!(listed["personas"], json!([]));
    assert!(listed["closed"]["work"].as_str().is_some_and(|why| why.contains("device.key")), "{listed}");
}
