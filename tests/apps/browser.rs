//! What a real browser makes of the pages: Debian's Chromium, driven by playwright-core. Each script in `tests/web` is a
//! test; without node, Chromium or the packages of `tests/web/package.json` it says "skipped".

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use timebus_store::change::encode;

use crate::author::Author;
use crate::peer::{PROGRAM, Peer};

/// The scripts and what they use.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web")
}

fn packages() -> Option<PathBuf> {
    let at =
        std::env::var_os("TIMEBUS_NODE_MODULES").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/web/node_modules"), PathBuf::from);
    let has = |name: &str| at.join(name).is_dir();
    let node = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
    let all = node && Path::new("/usr/bin/chromium").exists() && ["playwright-core", "yaml", "axe-core", "typescript"].into_iter().all(has);
    if !all {
        eprintln!("skipped: needs node, /usr/bin/chromium and the packages of tests/web/package.json, which .ci/run installs");
    }
    all.then_some(at)
}

/// One browser is as much as a small machine can run at its own pace.
static BROWSER: Mutex<()> = Mutex::new(());

/// Runs a script with peers, told by their homes and addresses.
fn script(name: &str, peers: &[&Peer]) {
    script_with(name, peers, &[]);
}

/// The same, with more in its environment.
fn script_with(name: &str, peers: &[&Peer], more: &[(&str, &Path)]) {
    let Some(packages) = packages() else { return };
    let _alone = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let told: Vec<serde_json::Value> = peers
        .iter()
        .map(|peer| serde_json::json!({"home": peer.home().folder(), "id": peer.ready["id"], "port": peer.address().port(), "pid": peer.pid()}))
        .collect();
    let output = Command::new("node")
        .arg(folder().join(name))
        .env("TIMEBUS_NODE_MODULES", packages)
        .env("TIMEBUS", PROGRAM)
        .env("TIMEBUS_PEERS", serde_json::Value::from(told).to_string())
        .envs(more.iter().copied())
        .output()
        .expect("node runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}\n{out}\n{err}");
    eprintln!("{out}");
}

#[test]
fn posts_are_counted_as_twitter_does() {
    script("twitter-text.mjs", &[]);
}

#[test]
fn the_types_of_all_pages_hold() {
    script("types.mjs", &[]);
}

#[test]
fn the_sdk_does_what_its_examples_say() {
    script("sdk.mjs", &[&Peer::start()]);
}

#[test]
fn two_people_type_one_text() {
    script("typing.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn files_are_added_by_hand() {
    script("uploads.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn two_people_chirp_on_two_peers() {
    script("chirp.mjs", &[&Peer::start(), &Peer::start()]);
}

/// What people wrote whom nobody here knows, in spaces of their own on five peers: what one who reads all of them is shown.
fn crowd(name: &str, data: &str) {
    if crate::data::file(data).is_none() || packages().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let read = |name: &str| -> serde_json::Value { serde_json::from_slice(&std::fs::read(file(name)).expect(name)).expect("JSON") };
    let more = [("TIMEBUS_CROWD", folder.path())];
    // The script says who they are, is told their keys, and says what each of them writes.
    script_with(name, &[], &more);
    let now_ms = 1_700_000_000_000;
    let people = read("people.json");
    let names: Vec<&str> = people.as_array().expect("names").iter().map(|name| name.as_str().expect("a name")).collect();
    let mut authors: Vec<Author> = names.iter().map(|name| Author::new(name, now_ms)).collect();
    let keys = |author: &Author| author.store().space().to_string();
    let known: serde_json::Map<_, _> = names.iter().zip(&authors).map(|(name, author)| ((*name).to_owned(), keys(author).into())).collect();
    std::fs::write(file("keys.json"), serde_json::Value::from(known).to_string()).expect("a file");
    script_with(name, &[], &more);
    let peers = [Peer::start(), Peer::start(), Peer::start(), Peer::start(), Peer::start()];
    let spaces = read("spaces.json");
    for (at, (name, author)) in names.iter().zip(&mut authors).enumerate() {
        for (part, value) in spaces[*name].as_object().expect("parts") {
            author.put(&format!("/{part}"), value, now_ms);
        }
        let mut body = Vec::new();
        for change in author.news() {
            let change = encode(&change);
            body.extend_from_slice(&u32::try_from(change.len()).expect("a change").to_le_bytes());
            body.extend_from_slice(&change);
        }
        let home = &peers[at % peers.len()];
        let answer = home.send("POST", "/", &[("Content-Type", "application/timebus-ops")], body);
        assert_eq!((answer.status, &answer.json()["refused"]), (200, &serde_json::json!([])), "{}", answer.text());
        let about = home.value("/.sys/peers");
        let via = (at % peers.len() != 0).then(|| serde_json::json!({"node": about["node"], "addresses": about["addresses"]}));
        let mut follow = via.unwrap_or_else(|| serde_json::json!({}));
        follow["who"] = keys(author).into();
        let answer = peers[0].send("POST", "/.sys/follow", &[], follow.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    script_with(name, &peers.each_ref(), &more);
}

#[test]
fn chirp_shows_what_is_counted_from_the_messages_of_a_hundred_people() {
    crowd("ssb.mjs", "02-social/ssb-fixtures-trainB.ndjson.gz");
}

#[test]
fn chirp_shows_the_threads_of_a_working_group() {
    crowd("ietf.mjs", "02-social/quicwg-load-balancers-archive.json.gz");
}

#[test]
fn who_is_not_read_is_heard_all_the_same() {
    script("inbox.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn the_peers_own_pages_lead_from_nothing_to_a_friend() {
    script("gui.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn a_name_is_given_to_a_new_key_and_taken_back() {
    script("rebind.mjs", &[&Peer::start(), &Peer::start(), &Peer::start(), &Peer::start()]);
}

#[test]
fn an_owner_sees_who_may_do_what_what_others_left_and_files_that_play() {
    script("owner.mjs", &[&Peer::start(), &Peer::start(), &Peer::start()]);
}

#[test]
fn newcomers_are_told_what_is_so_and_led_on() {
    script("newcomers.mjs", &[&Peer::start(), &Peer::start(), &Peer::start()]);
}

#[test]
fn a_dispute_of_roots_is_shown_with_what_to_do() {
    script("roots.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn every_page_fits_and_can_be_used_by_everybody() {
    script("pages.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn the_tutorial_does_what_it_says() {
    script("tutorial.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn a_page_of_another_origin_reads_and_writes_nothing() {
    script("foreign.mjs", &[&Peer::start()]);
}

#[test]
fn a_board_is_shared() {
    script("board.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn what_people_write_is_text_and_nothing_else() {
    script("naughty.mjs", &[&Peer::start()]);
}
