use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::json;

use crate::peer::{Home, PROGRAM, Peer, mode};

#[test]
fn nobody_else_can_read_a_home() {
    let peer = Peer::start();
    peer.put("/x", &json!("secret"));
    let home = peer.home().folder();
    let keys = home.join("keys");
    // Below a closed folder the modes do not matter; keys are closed once more, since people move folders about.
    assert_eq!((mode(home), mode(&keys)), (0o700, 0o700));
    for entry in std::fs::read_dir(&keys).expect("a folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_peer_does_not_start_on_keys_that_others_can_read() {
    let home = Peer::start().stop();
    let keys = home.folder().join("keys");
    let set = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    for (path, bad) in [(keys.join("device.key"), 0o644), (keys.clone(), 0o755)] {
        let good = mode(&path);
        set(&path, bad);
        let output =
            Command::new(PROGRAM).arg("--home").arg(home.folder()).args(["--json", "up", "--http", "127.0.0.1:0"]).output().expect("it ends");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("keys"), "{said}");
        set(&path, good);
    }
    Peer::start_in(home).put("/x", &json!(1));
}

#[test]
fn a_second_peer_does_not_take_the_home_of_the_first() {
    let peer = Peer::start();
    let output =
        Command::new(PROGRAM).arg("--home").arg(peer.home().folder()).args(["--json", "up", "--http", "127.0.0.1:0"]).output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "a second up says where the first runs: {said}");
    assert!(said.contains(&peer.authority()), "{said}");
    peer.put("/x", &json!(1));
}

#[test]
fn secrets_are_in_no_log_and_on_no_command_line() {
    let mut command = Command::new(PROGRAM);
    command.env("RUST_LOG", "trace");
    let peer = Peer::launch(Home::new(), &mut command).unwrap_or_else(|(home, status)| panic!("{status}: {}", home.log()));
    let token = peer.token();
    let bearer = format!("Bearer {token}");
    assert_eq!(peer.send("PUT", "/x", &[("Authorization", &bearer)], "1").status, 200);
    peer.send("GET", &format!("/x?token={token}"), &[("Authorization", &bearer), ("Origin", "http://evil.com")], "");
    peer.send("PUT", "/x", &[("Authorization", "Bearer wrong")], "1").problem(401);
    let read = |name: &str| String::from_utf8_lossy(&std::fs::read(format!("/proc/{}/{name}", peer.pid())).expect("the process lives")).into_owned();
    let (arguments, environment) = (read("cmdline"), read("environ"));
    let keys = peer.home().folder().join("keys");
    let seed = std::fs::read(keys.join("device.key")).expect("a key");
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let home = peer.stop();
    let log = home.log();
    assert!(!log.is_empty(), "a log to look at");
    for secret in [token.as_str(), hex.as_str()] {
        for (place, text) in [("the log", &log), ("the command line", &arguments), ("the environment", &environment)] {
            assert!(!text.contains(secret), "{place} has a secret");
        }
    }
}
