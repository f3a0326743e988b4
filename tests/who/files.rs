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

/// A folder that somebody made for the home, as `mkdir` does it: it becomes as closed as one that we make. One that was open
/// with values in it is not closed silently, because they may have been read.
#[test]
fn a_home_that_others_can_look_into_is_closed_or_refused() {
    let set = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    let home = Home::new();
    std::fs::create_dir(home.folder()).expect("a folder");
    set(home.folder(), 0o755);
    let peer = Peer::start_in(home);
    peer.put("/x", &json!("secret"));
    assert_eq!(mode(peer.home().folder()), 0o700);
    let home = peer.stop();
    for folder in ["index", "log"] {
        set(&home.folder().join(folder), 0o755);
    }
    let home = Peer::start_in(home).stop();
    for folder in ["index", "log"] {
        assert_eq!(mode(&home.folder().join(folder)), 0o700, "{folder}");
    }
    set(home.folder(), 0o750);
    let run = |verb: &[&str]| Command::new(PROGRAM).arg("--home").arg(home.folder()).args(verb).output().expect("it ends");
    let said = |output: &std::process::Output| String::from_utf8_lossy(&[&output.stderr[..], &output.stdout].concat()).into_owned();
    for verb in [&["up", "--http", "127.0.0.1:0"][..], &["get", "/x"]] {
        let refused = run(verb);
        assert_eq!(refused.status.code(), Some(1), "{verb:?}");
        assert!(said(&refused).contains(&format!("chmod 700 {}", home.folder().display())), "{}", said(&refused));
    }
    let doctor = run(&["doctor"]);
    assert!(!doctor.status.success() && said(&doctor).contains("chmod 700"), "{}", said(&doctor));
    set(home.folder(), 0o700);
    assert_eq!(Peer::start_in(home).value("/x"), "secret");
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
