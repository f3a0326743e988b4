//! A cluster of one's own peers: started, looked at, restarted one after the other while people write.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::neighbours::{Run, finish, poll};
use crate::peer::{DEADLINE, PROGRAM};

const NAMES: [&str; 3] = ["one", "two", "three"];

/// Three peers that a file names; killed when dropped.
struct Cluster {
    folder: tempfile::TempDir,
    addresses: Vec<String>,
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("timebus-").tempdir().expect("a temporary folder");
        // All at once, so that no port is given twice.
        let listeners: Vec<TcpListener> = NAMES.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let addresses: Vec<String> = listeners.iter().map(|listener| listener.local_addr().expect("an address").to_string()).collect();
        let mut file = String::new();
        for (name, http) in NAMES.iter().zip(&addresses) {
            file.push_str(&format!(
                "[[peer]]\nname = \"{name}\"\nhttp = \"{http}\"\nhome = \"{name}\"\nudp = \"127.0.0.1:0\"\noptions = [\"--no-lan\"]\n\n"
            ));
        }
        std::fs::write(folder.path().join("cluster.toml"), file).expect("room");
        Self { folder, addresses }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = Command::new(PROGRAM);
        command.arg("--json").arg("cluster").args(args).arg("--file").arg(self.folder.path().join("cluster.toml")).env_remove("TIMEBUS_HOME");
        finish(&mut command)
    }

    fn json(&self, args: &[&str]) -> Value {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error} in {run:?}"))
    }

    fn pid(&self, name: &str) -> Option<i32> {
        let run: Value = serde_json::from_slice(&std::fs::read(self.home(name).join("run.json")).ok()?).ok()?;
        i32::try_from(run["pid"].as_i64()?).ok()
    }

    fn pids(&self) -> Vec<i32> {
        NAMES.iter().map(|name| self.pid(name).expect("it runs")).collect()
    }

    /// Waits until each has what the others have.
    fn agrees(&self) {
        poll("all have the same", || {
            let status = self.json(&["status"]);
            status["peers"].as_array().expect("peers").iter().all(|peer| peer["lacks"] == 0).then_some(())
        });
    }

    fn value(&self, at: usize, path: &str) -> Value {
        let (_, body) = request(&self.addresses[at], "GET", path, "").expect("it answers");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for pid in NAMES.iter().filter_map(|name| self.pid(name)).filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// One request; nothing if nobody answered, or not to the end.
fn request(address: &str, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    request_as("application/json", address, method, path, body)
}

fn request_as(kind: &str, address: &str, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {kind}\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    std::io::Read::read_exact(&mut reader, &mut body).ok()?;
    Some((status, String::from_utf8(body).ok()?))
}

#[test]
fn a_rolling_restart_loses_no_acknowledged_write() {
    let cluster = Cluster::new();
    let up = cluster.json(&["up"]);
    assert!(up["peers"].as_array().expect("peers").iter().all(|peer| peer["started"] == true), "{up}");
    assert_eq!(up["peers"][2]["joined"], true, "{up}");
    cluster.agrees();
    // A file is with all of them before the one that has it is stopped.
    let put = request_as("video/mp4", &cluster.addresses[0], "PUT", "/film", &"x".repeat(3_000_000));
    assert_eq!(put.map(|(status, _)| status), Some(200));
    let before = cluster.pids();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
    let writers: Vec<_> = (0..3usize)
        .map(|writer| {
            let (stop, acknowledged, addresses) = (Arc::clone(&stop), Arc::clone(&acknowledged), cluster.addresses.clone());
            std::thread::spawn(move || {
                let mut number = 0usize;
                while !stop.load(Ordering::Relaxed) {
                    let name = format!("{writer}-{number}");
                    let address = &addresses[(writer + number) % addresses.len()];
                    if request(address, "PUT", &format!("/w/{name}"), "true").is_some_and(|(status, _)| status == 200) {
                        acknowledged.lock().expect("no writer failed").insert(name);
                    }
                    number += 1;
                }
            })
        })
        .collect();
    poll("people write", || (acknowledged.lock().expect("no writer failed").len() > 20).then_some(()));
    let upgraded = cluster.json(&["upgrade"]);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("it wrote");
    }
    let names: Vec<&str> = upgraded["peers"].as_array().expect("peers").iter().filter_map(|peer| peer["name"].as_str()).collect();
    assert_eq!(names, NAMES, "{upgraded}");
    for (old, new) in before.iter().zip(cluster.pids()) {
        assert_ne!(*old, new, "each is another process");
    }
    cluster.agrees();
    let files = cluster.json(&["status"]);
    assert!(files["peers"].as_array().expect("peers").iter().all(|peer| peer["files_lack"] == 0), "{files}");
    let acknowledged = acknowledged.lock().expect("no writer failed");
    for (at, peer) in NAMES.iter().enumerate() {
        let held = cluster.value(at, "/w");
        let missing: Vec<&String> = acknowledged.iter().filter(|name| held[name.as_str()] != true).collect();
        assert!(missing.is_empty(), "{peer} lacks {missing:?} of {} acknowledged", acknowledged.len());
    }
    let down = cluster.json(&["down"]);
    assert!(down["peers"].as_array().expect("peers").iter().all(|peer| peer["stopped"] == true), "{down}");
}

/// A file is being brought to the one that is to be restarted.
#[test]
fn what_is_acknowledged_while_one_is_about_to_be_restarted_is_with_the_others_before() {
    let cluster = Cluster::new();
    cluster.json(&["up"]);
    cluster.agrees();
    let (address, film) = (&cluster.addresses[0], "x".repeat(3_000_000));
    let mut upload = TcpStream::connect(address).expect("it answers");
    upload.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let head = format!("PUT /film HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: video/mp4\r\n");
    write!(upload, "{head}Content-Length: {}\r\n\r\n{}", film.len(), &film[..1_000_000]).expect("it takes it");
    std::thread::scope(|scope| {
        let upgraded = scope.spawn(|| cluster.json(&["upgrade", "one"]));
        poll("it takes nothing new", || {
            let refused = request(address, "PUT", "/late", "true");
            let (status, problem) = refused?;
            (status == 503 && problem.contains("/.sys/problems/quiet")).then_some(())
        });
        // What is read is answered, and what had begun goes on.
        assert_eq!(request(address, "GET", "/.sys/status", "").map(|(status, _)| status), Some(200));
        let before = cluster.pid("one");
        upload.write_all(&film.as_bytes()[1_000_000..]).expect("it takes it");
        let mut answer = String::new();
        BufReader::new(&upload).read_line(&mut answer).expect("it answers");
        assert!(answer.contains(" 200 "), "{answer}");
        let upgraded = upgraded.join().expect("it was restarted");
        assert_eq!(upgraded["peers"][0]["name"], "one", "{upgraded}");
        assert_ne!(cluster.pid("one"), before);
    });
    // The others have it, whatever becomes of that one now.
    let pid = rustix::process::Pid::from_raw(cluster.pid("one").expect("it runs")).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    for address in &cluster.addresses[1..] {
        assert_eq!(request(address, "GET", "/film", "").map(|(status, body)| (status, body.len())), Some((200, film.len())));
    }
}

#[test]
fn who_has_what_the_others_lack_is_not_restarted() {
    let cluster = Cluster::new();
    cluster.json(&["up"]);
    cluster.agrees();
    cluster.json(&["down"]);
    // None of them reaches another one any more.
    let file = cluster.folder.path().join("cluster.toml");
    let told = std::fs::read_to_string(&file).expect("it is there").replace("udp = \"127.0.0.1:0\"\n", "").replace("--no-lan", "--offline");
    std::fs::write(&file, told).expect("room");
    cluster.json(&["up"]);
    let before = cluster.pids();
    assert_eq!(request(&cluster.addresses[1], "PUT", "/only/here", "true").map(|(status, _)| status), Some(200));
    let refused = cluster.run(&["upgrade", "two", "--patience", "1"]);
    assert!(refused.code != 0 && refused.err.contains("the others did not get what it has"), "{refused:?}");
    assert_eq!(cluster.pids(), before, "it was not stopped");
    assert_eq!(request(&cluster.addresses[1], "PUT", "/only/here", "2").map(|(status, _)| status), Some(200), "and takes what is new");
    // Nor is who comes back, and does not get what the others have, taken for one that has it.
    let refused = cluster.run(&["upgrade", "one", "--patience", "10"]);
    assert!(refused.code != 0 && refused.err.contains("it did not get what the others have"), "{refused:?}");
    assert_ne!(cluster.pid("one"), Some(before[0]), "it was restarted");
}

/// One makes a cluster of the peer that he has, and the second one does not start at once, as something else has its port.
#[test]
fn all_files_are_kept_on_each_whatever_was_there_before_and_what_is_stopped_is_not_waited_for() {
    let cluster = Cluster::new();
    let on = |name: &str, args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        finish(command.arg("--home").arg(cluster.home(name)).args(args).env_remove("TIMEBUS_HOME"))
    };
    assert_eq!(on("one", &["put", "/note", "1"]).code, 0);
    let taken = TcpListener::bind(&cluster.addresses[1]).expect("a port");
    assert_ne!(cluster.run(&["up"]).code, 0);
    assert!(cluster.home("two").exists() && cluster.pid("two").is_none(), "it joined, and did not start");
    drop(taken);
    cluster.json(&["up"]);
    cluster.agrees();
    let status = || cluster.json(&["status"])["peers"].as_array().expect("peers").clone();
    assert!(status().iter().all(|peer| peer["files_lack"] == 0), "{:?}", status());
    // Who says otherwise is heard.
    assert_eq!(on("three", &["files", "unpin", "/"]).code, 0);
    cluster.json(&["up"]);
    assert_eq!(status()[2]["files_lack"], Value::Null);
    assert_eq!(on("three", &["files", "pin", "/"]).code, 0);
    // Three does without a film.
    assert_eq!(on("three", &["files", "limit", "--down", "16kB/s"]).code, 0);
    let put = request_as("video/mp4", &cluster.addresses[0], "PUT", "/film", &"x".repeat(3_000_000));
    assert_eq!(put.map(|(status, _)| status), Some(200));
    cluster.agrees();
    poll("two has it", || (status()[1]["files_lack"] == 0).then_some(()));
    let refused = cluster.run(&["upgrade", "one", "--patience", "1"]);
    assert!(refused.code != 0 && refused.err.contains("three lacks 1 file") && refused.err.contains("files cancel PATH"), "{refused:?}");
    assert_eq!(on("three", &["files", "cancel", "/film"]).code, 0);
    let told = status();
    assert_eq!((&told[2]["files_lack"], &told[2]["files_stopped"]), (&Value::from(0), &Value::from(1)));
    cluster.json(&["upgrade", "one"]);
}

/// The second one breaks down while the first one is restarted, and people write.
#[test]
fn an_upgrade_that_one_of_them_does_not_outlive_stops_there_and_goes_on_later() {
    let cluster = Cluster::new();
    cluster.json(&["up"]);
    cluster.agrees();
    let before = cluster.pids();
    let mut acknowledged = Vec::new();
    let mut write = |at: usize, number: usize| {
        if request(&cluster.addresses[at], "PUT", &format!("/w/{at}-{number}"), "true").is_some_and(|(status, _)| status == 200) {
            acknowledged.push(format!("{at}-{number}"));
        }
    };
    (0..3).for_each(|at| write(at, 0));
    let refused = std::thread::scope(|scope| {
        let upgraded = scope.spawn(|| cluster.run(&["upgrade"]));
        poll("the first one is another process", || cluster.pid("one").filter(|pid| *pid != before[0]));
        let two = rustix::process::Pid::from_raw(before[1]).expect("a process");
        rustix::process::kill_process(two, rustix::process::Signal::KILL).expect("it runs");
        let mut number = 1;
        while !upgraded.is_finished() {
            write(2, number);
            number += 1;
        }
        upgraded.join().expect("it ends")
    });
    assert!(refused.code != 0 && refused.err.contains("two") && refused.err.contains("cluster"), "{refused:?}");
    assert_eq!(cluster.pid("three"), Some(before[2]), "the last one that was there all the time still is");
    write(2, 0);
    cluster.json(&["up"]);
    cluster.agrees();
    let upgraded = cluster.json(&["upgrade"]);
    assert_eq!(upgraded["peers"].as_array().map(Vec::len), Some(3), "{upgraded}");
    cluster.agrees();
    for at in 0..3 {
        let held = cluster.value(at, "/w");
        let missing: Vec<&String> = acknowledged.iter().filter(|name| held[name.as_str()] != true).collect();
        assert!(missing.is_empty(), "{at} lacks {missing:?} of {} acknowledged", acknowledged.len());
    }
}

#[test]
fn a_cluster_is_started_looked_at_and_written_to() {
    let cluster = Cluster::new();
    let up = cluster.json(&["up", "one", "two"]);
    let again = cluster.json(&["up", "two"]);
    assert!(again["peers"].as_array().expect("peers").iter().all(|peer| peer["started"] == false), "{again}");
    assert_eq!(up["key"], again["key"]);
    let run = cluster.run(&["status"]);
    let status: Value = serde_json::from_str(&run.out).expect("JSON");
    assert_eq!((run.code, &status["peers"][2]["state"]), (1, &Value::from("silent")), "{status}");
    // Nothing is stopped when one is missing.
    let refused = cluster.run(&["upgrade"]);
    assert!(refused.code == 3 && refused.err.contains("nothing was restarted"), "{refused:?}");
    cluster.json(&["up", "three"]);
    let generated = cluster.json(&["gen", "/demo", "--count", "40", "--rate", "0", "--connections", "6"]);
    assert_eq!(generated["written"], 40, "{generated}");
    cluster.agrees();
    let demos: Vec<Value> = (0..3).map(|at| cluster.value(at, "/demo")).collect();
    assert_eq!(demos[0].as_object().map(serde_json::Map::len), Some(40));
    assert!(demos.iter().all(|demo| *demo == demos[0]));
    let unit = cluster.json(&["unit", "two"]);
    let home = cluster.home("two").display().to_string();
    assert!(unit["unit"].as_str().is_some_and(|unit| unit.contains(&home) && unit.contains("Restart=always")), "{unit}");
    assert!(cluster.json(&["container", "two"])["container"].as_str().is_some_and(|file| file.contains("CMD [\"timebus\"")));
    // What runs there listens elsewhere than the file says.
    let file = cluster.folder.path().join("cluster.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    std::fs::write(&file, text.replace(&cluster.addresses[1], "127.0.0.1:1")).expect("room");
    let refused = cluster.run(&["up", "two"]);
    assert!(refused.code == 1 && refused.err.contains(&format!("two runs at http://{}, not at 127.0.0.1:1", cluster.addresses[1])), "{refused:?}");
    std::fs::write(&file, text.replace("home = \"two\"", "home = \"one\"")).expect("room");
    let refused = cluster.run(&["up"]);
    assert!(refused.code == 2 && refused.err.contains("one and two have the same home"), "{refused:?}");
    std::fs::write(&file, text).expect("room");
    let wrong = cluster.run(&["down", "four"]);
    assert!(wrong.code == 2 && wrong.err.contains("one, two, three"), "{wrong:?}");
}

/// As where a container is started again, and not made anew: the old program comes back.
#[test]
fn who_upgrades_is_told_where_the_program_is_the_one_of_before() {
    let cluster = Cluster::new();
    let program = cluster.folder.path().join("program");
    std::fs::copy(PROGRAM, &program).expect("room");
    let file = cluster.folder.path().join("cluster.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    let (one, _) = text.split_once("\n\n").expect("the first of them");
    std::fs::write(&file, format!("{one}\nprogram = \"{}\"\n", program.display())).expect("room");
    cluster.json(&["up"]);
    let upgrade = || {
        let run = cluster.run(&["upgrade"]);
        let told: Value = serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error} in {run:?}"));
        told["peers"][0]["same_program"].as_bool()
    };
    assert_eq!(upgrade(), Some(true));
    // Another file takes its place, as when a package is installed.
    let new = program.with_extension("new");
    std::fs::copy(PROGRAM, &new).expect("room");
    std::fs::rename(&new, &program).expect("room");
    assert_eq!(upgrade(), Some(false));
}

#[test]
fn a_cluster_begins_with_a_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("home.toml");
    let run = |args: &[&str]| finish(Command::new(PROGRAM).arg("cluster").args(args).arg("--file").arg(&file));
    let absent = run(&["status"]);
    assert!(absent.code == 2 && absent.err.contains("cluster init"), "{absent:?}");
    assert_eq!(run(&["init", "--peers", "2"]).code, 0);
    assert_eq!(run(&["init"]).code, 1, "it is not written over");
    let status = run(&["status"]);
    assert!(status.code == 1 && status.out.contains("two") && status.err.contains("127.0.0.1:7102"), "{status:?}");
    std::fs::write(&file, "peer = 1").expect("room");
    let bad = run(&["status"]);
    assert!(bad.code == 2 && bad.err.contains("does not say what a cluster is"), "{bad:?}");
}
