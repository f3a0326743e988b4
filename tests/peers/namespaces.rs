//! Peers on networks of their own: only the other is reachable, the cable is pulled, an address changes, power fails.
//!
//! Needs root and `ip`; skipped otherwise.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::neighbours::finish;
use crate::peer::{Home, PROGRAM, Peer};

/// Longer than a silent link is believed in (20 s), and than the longest wait between calls by then.
const PATIENCE: Duration = Duration::from_secs(120);

fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).output().is_ok_and(|output| output.status.success())
}

/// Two networks with a cable between them; gone when dropped.
struct Cable {
    ends: [String; 2],
    /// The homes of the peers at its ends, to tell what they say when something goes wrong.
    homes: RefCell<[PathBuf; 2]>,
}

impl Cable {
    /// `None` without the rights to make networks.
    fn lay(name: &str) -> Option<Self> {
        let ends = ["a", "b"].map(|end| format!("tb{}{name}{end}", std::process::id()));
        let cable = Self { ends, homes: RefCell::default() };
        let [a, b] = &cable.ends;
        let made = ip(&format!("netns add {a}"))
            && ip(&format!("netns add {b}"))
            && ip(&format!("link add eth0 netns {a} type veth peer name eth0 netns {b}"));
        if !made {
            eprintln!("skipped: networks cannot be made here; it takes root and ip");
            return None;
        }
        for (at, end) in cable.ends.iter().enumerate() {
            assert!(ip(&format!("-n {end} link set lo up")) && ip(&format!("-n {end} link set eth0 up")), "{end}");
            assert!(ip(&format!("-n {end} addr add 10.77.0.{}/24 dev eth0", at + 1)), "{end}");
        }
        Some(cable)
    }

    fn inside(&self, end: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ends[end], PROGRAM]);
        command
    }

    fn start(&self, end: usize, home: Home) -> Peer {
        self.homes.borrow_mut()[end] = home.folder().to_owned();
        Peer::launch_as(home, &mut self.inside(end), &["--no-lan"]).unwrap_or_else(|(home, status)| panic!("{status}\n{}", home.log()))
    }

    /// Runs a verb on the home of a peer, in its network.
    fn run(&self, end: usize, home: &Home, args: &[&str]) -> super::neighbours::Run {
        finish(self.inside(end).arg("--home").arg(home.folder()).args(args).env_remove("TIMEBUS_HOME"))
    }

    fn value(&self, end: usize, home: &Home, path: &str) -> Option<Value> {
        let run = self.run(end, home, &["get", path]);
        (run.code == 0).then(|| serde_json::from_str(&run.out).expect("JSON"))
    }

    /// Waits until a path has a value; how long that took.
    fn until(&self, end: usize, home: &Home, path: &str, value: &Value) -> Duration {
        let began = Instant::now();
        loop {
            let found = self.value(end, home, path);
            if found.as_ref() == Some(value) {
                return began.elapsed();
            }
            if began.elapsed() > PATIENCE {
                let doctor = |end: usize| finish(self.inside(end).arg("--home").arg(&self.homes.borrow()[end]).arg("doctor")).out;
                panic!("{path} is {found:?} and not {value}\n{}\n{}\n{}", doctor(0), doctor(1), home.log());
            }
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in &self.ends {
            ip(&format!("netns del {end}"));
        }
    }
}

#[test]
fn whoever_reaches_only_the_inviter_has_his_data_soon() {
    let Some(cable) = Cable::lay("j") else { return };
    let (alice, bob) = (cable.start(0, Home::new()), cable.start(1, Home::new()));
    assert_eq!(cable.run(0, alice.home(), &["put", "/notes/hi", "\"hello\""]).code, 0);
    let link = cable.run(0, alice.home(), &["invite"]).out.trim().to_owned();
    let began = Instant::now();
    let joined = cable.run(1, bob.home(), &["join", &link, "--yes", "--as", "alice"]);
    assert!(joined.code == 0 && joined.out.starts_with("connected"), "{joined:?}");
    let shown = cable.run(1, bob.home(), &["get", "@alice/notes/hi"]);
    eprintln!("from `join` to data on the screen: {:.2?}", began.elapsed());
    assert_eq!(shown.out.trim(), "\"hello\"");
}

#[test]
fn a_pulled_cable_a_new_address_and_a_power_cut_lose_nothing() {
    let Some(cable) = Cable::lay("p") else { return };
    let (alice, bob) = (cable.start(0, Home::new()), cable.start(1, Home::new()));
    let link = cable.run(0, alice.home(), &["invite", "--to", "/wall", "--can", "write"]).out.trim().to_owned();
    let joined = cable.run(1, bob.home(), &["join", &link, "--yes", "--as", "alice"]);
    assert!(joined.code == 0 && joined.out.starts_with("connected"), "{joined:?}");
    let put = |end: usize, home: &Home, path: &str, value: &str| {
        let put = cable.run(end, home, &["put", path, value]);
        assert_eq!(put.code, 0, "{put:?}");
    };

    assert!(ip(&format!("-n {} link set eth0 down", cable.ends[0])));
    put(0, alice.home(), "/wall/tea", "\"black\"");
    put(1, bob.home(), "@alice/wall/tea", "\"white\"");
    put(1, bob.home(), "@alice/wall/bob", "1");
    assert!(ip(&format!("-n {} link set eth0 up", cable.ends[0])));
    let took = cable.until(0, alice.home(), "/wall/bob", &json!(1));
    eprintln!("after the cable: {took:.2?}");
    put(0, alice.home(), "/wall/alice", "1");
    cable.until(1, bob.home(), "@alice/wall/alice", &json!(1));
    for (end, home, path) in [(0, alice.home(), "/wall"), (1, bob.home(), "@alice/wall")] {
        let told = cable.run(end, home, &["conflicts", path]).out;
        assert!(told.contains("black") && told.contains("white"), "{told}");
    }

    // Alice moves; Bob knows only where she was, so she has to call.
    assert!(ip(&format!("-n {} addr del 10.77.0.1/24 dev eth0", cable.ends[0])));
    assert!(ip(&format!("-n {} addr add 10.77.0.9/24 dev eth0", cable.ends[0])));
    put(0, alice.home(), "/wall/moved", "1");
    let took = cable.until(1, bob.home(), "@alice/wall/moved", &json!(1));
    eprintln!("after the move: {took:.2?}");

    let home = alice.kill();
    put(1, bob.home(), "@alice/wall/meanwhile", "1");
    let alice = cable.start(0, home);
    let took = cable.until(0, alice.home(), "/wall/meanwhile", &json!(1));
    eprintln!("after the power cut: {took:.2?}");
}
