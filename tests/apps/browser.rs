//! What a real browser makes of the pages: Debian's Chromium, driven by playwright-core. Each script in `tests/web` is a
//! test; without node, Chromium or the packages of `tests/web/package.json` it says "skipped".

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

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
fn two_people_chirp_on_two_peers() {
    script("chirp.mjs", &[&Peer::start(), &Peer::start()]);
}

#[test]
fn chirp_shows_what_is_counted_from_the_messages_of_others() {
    let people = [Peer::start(), Peer::start(), Peer::start(), Peer::start(), Peer::start()];
    script("ssb.mjs", &people.each_ref());
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
