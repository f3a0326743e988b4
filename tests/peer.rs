//! A timebus process for one test.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::http::{Answer, Client};

/// How long anything may take before a test gives up on it; far more than it ever takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Other peers find it on this machine and nowhere else.
pub(crate) const NET: [&str; 3] = ["--no-lan", "--udp", "127.0.0.1:0"];

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_timebus");

/// A home folder that goes away with its handle.
pub(crate) struct Home {
    folder: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Home {
    /// A folder in which no peer was yet.
    pub(crate) fn new() -> Self {
        let temporary = tempfile::Builder::new().prefix("timebus-").tempdir().expect("a temporary folder");
        let folder = temporary.path().join("home");
        Self { folder, _temporary: temporary }
    }

    /// Where the peer keeps everything.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder beside the home, for what a test needs.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self._temporary.path().join(name)
    }

    /// What all peers of this home logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read(self.beside("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// A copy of the home in a folder of its own.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        copy_folder(self.folder(), copy.folder());
        copy
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a new folder");
    std::fs::set_permissions(to, std::fs::metadata(from).expect("the folder").permissions()).expect("its mode");
    for entry in std::fs::read_dir(from).expect("the folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("its type").is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// A running peer; killed when dropped.
pub(crate) struct Peer {
    child: Child,
    home: Option<Home>,
    /// What `up --json` said.
    pub(crate) ready: Value,
    address: SocketAddr,
}

impl Peer {
    /// A peer in a new home.
    pub(crate) fn start() -> Self {
        Self::start_in(Home::new())
    }

    /// A peer in a home that may have been used before.
    pub(crate) fn start_in(home: Home) -> Self {
        Self::launch(home, &mut Command::new(PROGRAM)).unwrap_or_else(|(home, status)| panic!("the peer ended with {status}\n{}", home.log()))
    }

    /// A peer started by `command`, to which only the arguments of the program are added. When the peer ends before
    /// it is ready, its home and how it ended.
    pub(crate) fn launch(home: Home, command: &mut Command) -> Result<Self, (Home, std::process::ExitStatus)> {
        Self::launch_as(home, command, &NET)
    }

    /// The same, with arguments of `up` that say how it takes part in the network.
    pub(crate) fn launch_as(home: Home, command: &mut Command, net: &[&str]) -> Result<Self, (Home, std::process::ExitStatus)> {
        let log = File::options().create(true).append(true).open(home.beside("log")).expect("a log file");
        let mut child = command
            .arg("--home")
            .arg(home.folder())
            .args(["--json", "up", "--http", "127.0.0.1:0"])
            .args(net)
            .env_remove("TIMEBUS_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, receiver) = mpsc::channel();
        // The thread ends with the process at the latest.
        std::thread::spawn(move || {
            let _ = sender.send(lines.next().and_then(Result::ok));
            lines.for_each(drop);
        });
        match receiver.recv_timeout(DEADLINE) {
            Ok(Some(line)) => {
                let ready: Value = serde_json::from_str(&line).expect("a line of JSON");
                assert_eq!(ready["ready"], true, "{line}");
                let address = ready["http"].as_str().and_then(|http| http.strip_prefix("http://")).and_then(|address| address.parse().ok());
                Ok(Self { child, home: Some(home), address: address.expect("an address"), ready })
            }
            Ok(None) => {
                let status = child.wait().expect("an exit status");
                Err((home, status))
            }
            Err(_) => {
                let _ = child.kill();
                panic!("the peer was not ready in time\n{}", home.log());
            }
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `127.0.0.1:PORT`, as a Host header.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The home.
    pub(crate) fn home(&self) -> &Home {
        self.home.as_ref().expect("only taken at the end")
    }

    /// The process; of a peer started by another program, that program's.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub(crate) fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.connect().send(method, target, headers, body)
    }

    /// The value at a path, which must be there.
    pub(crate) fn value(&self, path: &str) -> Value {
        let answer = self.send("GET", path, &[], "");
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// Writes a JSON value; answers the version after it.
    pub(crate) fn put(&self, path: &str, value: &Value) -> Vec<String> {
        let answer = self.send("PUT", path, &[("Content-Type", "application/json")], value.to_string());
        assert_eq!(answer.status, 200, "PUT {path}: {}", answer.text());
        answer.versions()
    }

    /// The owner's token.
    pub(crate) fn token(&self) -> String {
        let output = Command::new(PROGRAM).arg("--home").arg(self.home().folder()).args(["id", "--token"]).output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Memory that the process occupies, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it occupied so far.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Pulls the plug.
    pub(crate) fn kill(mut self) -> Home {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.home.take().expect("only taken here")
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> Home {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the process lives");
        let status = wait(&mut self.child).expect("the peer ends when it is asked to");
        assert!(status.success(), "the peer ended with {status}\n{}", self.home().log());
        self.home.take().expect("only taken here")
    }

    /// Waits for the end of a peer that was told to end.
    pub(crate) fn wait(mut self) -> Home {
        wait(&mut self.child).expect("the peer ends when it is told to");
        self.home.take().expect("only taken here")
    }

    /// Stops it and starts it again.
    pub(crate) fn restart(self) -> Self {
        Self::start_in(self.stop())
    }
}

/// Waits for the end of a process; kills it when that takes too long.
pub(crate) fn wait(child: &mut Child) -> Option<std::process::ExitStatus> {
    let pid = rustix::process::Pid::from_child(child);
    let (done, waiting) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if waiting.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            return true;
        }
        false
    });
    let status = child.wait().ok();
    drop(done);
    let timed_out = watchdog.join().unwrap_or(true);
    status.filter(|_| !timed_out)
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(home) = &self.home
        {
            let log = home.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("last lines of the peer's log:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// The mode of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the file").permissions().mode() & 0o7777
}

/// Whether to take the time that a thorough run needs: `TIMEBUS_FULL=1`.
pub(crate) fn is_full_run() -> bool {
    std::env::var_os("TIMEBUS_FULL").is_some_and(|full| full == "1")
}
