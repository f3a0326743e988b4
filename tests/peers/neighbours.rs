//! What several peers need: verbs run on a home, invites taken, and waiting for what another peer does.

use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Answer;
use crate::peer::{DEADLINE, Home, PROGRAM, Peer};

/// What came of running the program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The program, for a home.
pub(crate) fn program(home: &Home, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--home").arg(home.folder()).args(args).env_remove("TIMEBUS_HOME").stdin(Stdio::null());
    command
}

/// Runs a verb on a home.
pub(crate) fn run(home: &Home, args: &[&str]) -> Run {
    finish(&mut program(home, args))
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Run {
    let output = command.output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Run { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a verb that must succeed; what it says to programs.
pub(crate) fn json(home: &Home, args: &[&str]) -> Value {
    let run = run(home, &[&["--json"], args].concat());
    assert_eq!(run.code, 0, "{args:?}: {run:?}");
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error} in {run:?}"))
}

/// A link that `invite` prints.
pub(crate) fn invite(peer: &Peer, args: &[&str]) -> String {
    let run = run(peer.home(), &[&["invite"], args].concat());
    assert_eq!(run.code, 0, "{run:?}");
    run.out.trim().to_owned()
}

/// Takes an invite; what `join` says to programs.
pub(crate) fn join(peer: &Peer, link: &str, name: &str) -> Value {
    json(peer.home(), &["join", link, "--yes", "--as", name])
}

/// Two peers, of which the second has the space of the first as `@alice` and may write at `/wall`.
pub(crate) fn pair() -> (Peer, Peer) {
    let (alice, bob) = (Peer::start(), Peer::start());
    let link = invite(&alice, &["--to", "/wall", "--can", "write"]);
    let joined = join(&bob, &link, "alice");
    assert_eq!(joined["result"], "connected", "{joined}");
    (alice, bob)
}

/// Waits until a path is as wanted, woken by every change to it.
pub(crate) fn until(peer: &Peer, path: &str, what: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
    let headers = [("Subscribe", "true"), ("Accept", "application/x-ndjson")];
    let (status, _, mut events) = peer.connect().stream("GET", path, &headers);
    assert_eq!(status, 200, "{path} can be watched");
    let began = Instant::now();
    loop {
        let answer = peer.send("GET", path, &[], "");
        if is_so(&answer) {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "{path} never has {what}; it has {}", answer.text());
        let mut line = String::new();
        let read = events.read_line(&mut line);
        assert!(matches!(read, Ok(bytes) if bytes > 0), "{path} never has {what} ({read:?}); it has {}", answer.text());
    }
}

/// Waits until a path has a value.
pub(crate) fn until_value(peer: &Peer, path: &str, value: &Value) {
    until(peer, path, &value.to_string(), |answer| answer.status == 200 && answer.json() == *value);
}

/// Asks again and again, for what nothing tells by itself.
pub(crate) fn poll<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "it never comes that {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// How the space of somebody is at a peer, by what its owner calls it.
pub(crate) fn space(peer: &Peer, petname: &str) -> Value {
    let spaces = peer.value("/.sys/spaces");
    spaces["spaces"].as_array().and_then(|all| all.iter().find(|space| space["petname"] == petname)).cloned().unwrap_or(Value::Null)
}

/// Waits until a space is in a state.
pub(crate) fn until_space(peer: &Peer, petname: &str, state: &str) -> Value {
    poll(&format!("{petname} is {state}"), || Some(space(peer, petname)).filter(|space| space["state"] == state))
}

/// Everybody whom a peer knows.
pub(crate) fn peers(peer: &Peer) -> Vec<Value> {
    peer.value("/.sys/peers")["peers"].as_array().cloned().unwrap_or_default()
}
