//! Programs of other people, run against a real peer: see `tests/clients/README.md`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::peer::{PROGRAM, Peer};

/// Where the packages are installed; `None`, said aloud, without Node or the packages.
pub(crate) fn packages() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../clients/node_modules");
    let is_here = folder.join("braid-http").is_dir() && Command::new("node").arg("--version").output().is_ok();
    if !is_here {
        eprintln!("skipped: no Node or no packages (see tests/clients/README.md)");
    }
    is_here.then_some(folder)
}

/// Runs a script of `tests/clients` with arguments, and demands that it is content.
pub(crate) fn run(script: &str, args: &[&str]) {
    let Some(packages) = packages() else { return };
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    // What drives a browser is installed for the tests of the pages.
    let path = format!("{}:{}", packages.display(), packages.join("../../web/node_modules").display());
    let output = Command::new("node").arg(&script).args(args).env("NODE_PATH", path).stdin(Stdio::null()).output().expect("Node runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} ended with {}\n{said}", script.display(), output.status);
}

#[test]
fn braid_http_reads_writes_and_subscribes() {
    let peer = Peer::start();
    run("json.cjs", &[&format!("http://{}", peer.authority())]);
}

#[test]
fn braid_http_puts_many_subscriptions_through_one_connection() {
    let peer = Peer::start();
    run("multiplex.cjs", &[&format!("http://{}", peer.authority())]);
}

#[test]
fn simpleton_clients_agree_through_a_partition() {
    let peer = Peer::start();
    run("text.cjs", &[&format!("http://{}", peer.authority())]);
}

#[test]
fn two_pages_and_a_terminal_edit_one_text() {
    let Some(browser) = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].into_iter().find(|path| std::path::Path::new(path).exists()) else {
        eprintln!("skipped: no Chromium");
        return;
    };
    if !packages().is_some_and(|packages| packages.join("../../web/node_modules/playwright-core").is_dir()) {
        eprintln!("skipped: nothing drives the browser");
        return;
    }
    let peer = Peer::start();
    // Pages are served under a name that browsers take for this machine.
    let base = format!("http://localhost:{}", peer.address().port());
    let home = peer.home().folder().display().to_string();
    run("browser.cjs", &[&base, PROGRAM, &home, &peer.token(), browser]);
}

#[test]
fn statebus_sees_and_sets() {
    let peer = Peer::start();
    peer.put("/there", &json!({"n": 1, "list": ["a", "b"]}));
    run("statebus.cjs", &[&format!("http://{}", peer.authority())]);
}
