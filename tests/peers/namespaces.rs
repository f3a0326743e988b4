//! Peers on networks of their own: only the other is reachable, the cable is pulled, an address changes, power fails.
//!
//! Needs root and `ip`, and `tc` for slow lines; skipped otherwise.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::neighbours::finish;
use crate::files::bytes;
use crate::networks::{Street, ip};
use crate::peer::{Home, PROGRAM, Peer};

/// Longer than a silent link is believed in (20 s), and than the longest wait between calls by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two networks with a cable between them.
struct Cable {
    street: Street,
    /// The homes of the peers at its ends, to tell what they say when something goes wrong.
    homes: RefCell<[PathBuf; 2]>,
}

impl Cable {
    /// `None` without the rights to make networks.
    fn lay(name: &str) -> Option<Self> {
        Some(Self { street: Street::build(name, 2)?, homes: RefCell::default() })
    }

    fn inside(&self, end: usize) -> Command {
        self.street.inside(end, PROGRAM)
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

    assert!(ip(&format!("-n {} link set eth0 down", cable.street.houses[0])));
    put(0, alice.home(), "/wall/tea", "\"black\"");
    put(1, bob.home(), "@alice/wall/tea", "\"white\"");
    put(1, bob.home(), "@alice/wall/bob", "1");
    assert!(ip(&format!("-n {} link set eth0 up", cable.street.houses[0])));
    let took = cable.until(0, alice.home(), "/wall/bob", &json!(1));
    eprintln!("after the cable: {took:.2?}");
    put(0, alice.home(), "/wall/alice", "1");
    cable.until(1, bob.home(), "@alice/wall/alice", &json!(1));
    for (end, home, path) in [(0, alice.home(), "/wall"), (1, bob.home(), "@alice/wall")] {
        let told = cable.run(end, home, &["conflicts", path]).out;
        assert!(told.contains("black") && told.contains("white"), "{told}");
    }

    // Alice moves; Bob knows only where she was, so she has to call.
    assert!(ip(&format!("-n {} addr del 10.77.0.1/24 dev eth0", cable.street.houses[0])));
    assert!(ip(&format!("-n {} addr add 10.77.0.9/24 dev eth0", cable.street.houses[0])));
    put(0, alice.home(), "/wall/moved", "1");
    let took = cable.until(1, bob.home(), "@alice/wall/moved", &json!(1));
    eprintln!("after the move: {took:.2?}");

    let home = alice.kill();
    put(1, bob.home(), "@alice/wall/meanwhile", "1");
    let alice = cable.start(0, home);
    let took = cable.until(0, alice.home(), "/wall/meanwhile", &json!(1));
    eprintln!("after the power cut: {took:.2?}");
}

/// Peers on slow lines, of which the first one has a film that the others want.
struct Audience {
    street: Street,
    peers: Vec<Peer>,
    film: Vec<u8>,
}

impl Audience {
    fn gather(name: &str, count: usize, film_bytes: usize) -> Option<Self> {
        let street = Street::build(name, count)?;
        let launch = |at: usize| {
            let command = &mut street.inside(at, PROGRAM);
            Peer::launch_as(Home::new(), command, &["--no-lan"]).unwrap_or_else(|(home, status)| panic!("{status}\n{}", home.log()))
        };
        let peers: Vec<Peer> = (0..count).map(launch).collect();
        let audience = Self { street, peers, film: bytes(film_bytes, 7) };
        let file = audience.peers[0].home().beside("film");
        std::fs::write(&file, &audience.film).expect("a file");
        assert_eq!(audience.run(0, &["put", "/film", &format!("@{}", file.display())]).code, 0);
        for at in 1..count {
            let link = audience.run(0, &["invite"]).out.trim().to_owned();
            let joined = audience.run(at, &["join", &link, "--yes", "--as", "alice"]);
            assert!(joined.code == 0 && joined.out.starts_with("connected"), "{joined:?}");
            audience.until(at, "its name has come", || audience.run(at, &["tree", "@alice"]).out.contains("film"));
        }
        if (0..count).all(|at| audience.street.slow_down(at, 8000)) {
            return Some(audience);
        }
        eprintln!("skipped: lines cannot be made slow here; it takes tc");
        None
    }

    fn run(&self, at: usize, args: &[&str]) -> super::neighbours::Run {
        finish(self.street.inside(at, PROGRAM).arg("--home").arg(self.peers[at].home().folder()).args(args).env_remove("TIMEBUS_HOME"))
    }

    fn until(&self, at: usize, what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "{what} takes too long\n{}", self.peers[at].home().log());
        }
    }

    fn file(&self, at: usize) -> PathBuf {
        self.peers[at].home().beside("got")
    }

    fn get(&self, at: usize) -> std::process::Child {
        let mut command = self.street.inside(at, PROGRAM);
        command.arg("--home").arg(self.peers[at].home().folder()).args(["get", "@alice/film", "-o"]).arg(self.file(at));
        command.env_remove("TIMEBUS_HOME").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs")
    }

    /// The one transfer of a peer: bytes that are here, and how many others gave some.
    fn transfer(&self, at: usize) -> Option<(u64, usize)> {
        let status: Value = serde_json::from_str(&self.run(at, &["get", "/.sys/blobs"]).out).ok()?;
        let transfer = status["transfers"].get(0)?;
        Some((transfer["bytes_here"].as_u64()?, transfer["sources"].as_array()?.len()))
    }
}

#[test]
fn a_film_comes_whole_although_one_of_its_sources_dies_in_the_middle() {
    let Some(mut audience) = Audience::gather("f", 3, 4 << 20) else { return };
    assert!(audience.get(1).wait().is_ok_and(|status| status.success()));
    let mut getting = audience.get(2);
    audience.until(2, "some from both", || audience.transfer(2).is_some_and(|(here, sources)| here > 0 && sources == 2));
    drop(audience.peers.remove(1).kill());
    assert!(getting.wait().is_ok_and(|status| status.success()));
    // The list of peers is one shorter now.
    assert!(std::fs::read(audience.file(1)).is_ok_and(|got| got == audience.film));
}

#[test]
fn who_wants_the_same_at_once_takes_it_from_each_other() {
    let Some(audience) = Audience::gather("w", 4, 4 << 20) else { return };
    let before = audience.street.sent_bytes(0);
    let getting: Vec<_> = (1..4).map(|at| audience.get(at)).collect();
    for mut getting in getting {
        assert!(getting.wait().is_ok_and(|status| status.success()));
    }
    for at in 1..4 {
        assert!(std::fs::read(audience.file(at)).is_ok_and(|got| got == audience.film));
    }
    let copies = (audience.street.sent_bytes(0) - before) as f64 / audience.film.len() as f64;
    eprintln!("the first one sent {copies:.2} copies to three");
    assert!(copies < 2.0, "the first one sent {copies:.2} copies to three");
}
