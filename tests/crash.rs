//! Power cuts, full and failing disks, copied homes: nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::files::bytes;
use crate::peer::{DEADLINE, Home, PROGRAM, Peer};
use crate::peers::neighbours::{invite, join, run, until};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const MP4: (&str, &str) = ("Content-Type", "video/mp4");

/// Checks the whole store; nothing may be wrong with it.
fn fsck(peer: &Peer) {
    let answer = peer.send("POST", "/.sys/fsck", &[], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["problems"], json!([]), "{}", answer.text());
}

/// Everything acknowledged must be there; what was under way may be.
fn check(peer: &Peer, acknowledged: &BTreeMap<String, Value>, sent: &BTreeMap<String, Value>, when: &str) {
    let answer = peer.send("GET", "/k", &[], "");
    let found = if answer.status == 200 { answer.json() } else { json!({}) };
    for (name, value) in acknowledged {
        assert_eq!(found.get(name), Some(value), "{name} was acknowledged and is lost {when}");
    }
    for (name, value) in found.as_object().expect("an object") {
        assert_eq!(sent.get(name), Some(value), "{name} was never written {when}");
    }
}

#[test]
fn killed_again_and_again_it_keeps_every_acknowledged_write() {
    let rounds: u64 = std::env::var("TIMEBUS_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(10);
    let acknowledged = Mutex::new(BTreeMap::new());
    let sent = Mutex::new(BTreeMap::new());
    let mut home = Home::new();
    // Where to pull the plug: some multiplicative noise, the same in every run.
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..rounds {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let goal = 1 + (noise >> 33) as usize % 150;
        let peer = Peer::start_in(home);
        check(&peer, &acknowledged.lock().expect("a lock"), &sent.lock().expect("a lock"), &format!("before round {round}"));
        let count = AtomicUsize::new(0);
        let (enough, may_kill) = mpsc::channel();
        home = std::thread::scope(|scope| {
            for writer in 0..4 {
                let (acknowledged, sent, count, enough) = (&acknowledged, &sent, &count, enough.clone());
                let mut client = peer.connect();
                let authority = peer.authority();
                scope.spawn(move || {
                    for number in 0.. {
                        let name = format!("r{round}-w{writer}-{number}");
                        // Now and then a large one, which takes several changes.
                        let value = if number % 25 == 24 {
                            json!((0..40).map(|n| format!("{n} {}", "x".repeat(2000))).collect::<Vec<_>>())
                        } else {
                            json!({"n": number})
                        };
                        sent.lock().expect("a lock").insert(name.clone(), value.clone());
                        let body = value.to_string();
                        let request = format!(
                            "PUT /k/{name} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if !client.try_write(request.as_bytes()) {
                            return;
                        }
                        match client.head() {
                            Some((200, _, headers)) if headers.one("content-length") == Some("0") => {}
                            _ => return,
                        }
                        acknowledged.lock().expect("a lock").insert(name, value);
                        if count.fetch_add(1, Ordering::Relaxed) + 1 == goal {
                            let _ = enough.send(());
                        }
                    }
                });
            }
            may_kill.recv_timeout(DEADLINE).expect("enough writes in time");
            peer.kill()
        });
    }
    let peer = Peer::start_in(home);
    check(&peer, &acknowledged.lock().expect("a lock"), &sent.lock().expect("a lock"), "at the end");
    fsck(&peer);
    eprintln!("{rounds} kills, {} acknowledged writes of {}", acknowledged.lock().expect("a lock").len(), sent.lock().expect("a lock").len());
    // The index is derived: made anew from the log it says the same.
    let before = peer.send("GET", "/k", &[], "");
    let home = peer.kill();
    std::fs::remove_dir_all(home.folder().join("index")).expect("the index");
    let peer = Peer::start_in(home);
    let after = peer.send("GET", "/k", &[], "");
    assert!(before.body == after.body && before.version() == after.version(), "the rebuilt index differs");
}

/// Writes until it fails; answers what was acknowledged.
fn write_until_refused(peer: &Peer, names: &str, count_max: usize) -> Option<BTreeMap<String, Value>> {
    let mut acknowledged = BTreeMap::new();
    let mut client = peer.connect();
    for number in 0..count_max {
        // Nothing that gets shorter on the disk.
        let filling = timebus_identity::z32::encode(&timebus_identity::random_bytes::<12_500>());
        let (name, value) = (format!("{names}{number}"), json!({"n": number, "filling": filling}));
        let answer = client.send("PUT", &format!("/k/{name}"), &[JSON], value.to_string());
        if answer.status == 200 {
            acknowledged.insert(name, value);
        } else {
            let problem = answer.problem(507);
            assert!(problem["fix"].is_string(), "{problem}");
            return Some(acknowledged);
        }
    }
    None
}

#[test]
fn a_disk_that_fails_to_sync_is_not_believed() {
    let home = Home::new();
    let mut command = Command::new("strace");
    // The traced process must not outlive its tracer.
    command.args([
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO:when=30+",
        "setpriv",
        "--pdeathsig",
        "KILL",
        PROGRAM,
    ]);
    if Command::new("strace").args(["-o", "/dev/null", "setpriv", "--pdeathsig", "KILL", "true"]).status().is_ok_and(|status| status.success()) {
        let peer = match Peer::launch(home, &mut command) {
            Ok(peer) => peer,
            Err((home, status)) => panic!("the peer did not start: {status}\n{}", home.log()),
        };
        let acknowledged = write_until_refused(&peer, "w", 300).expect("a sync that fails is refused with 507");
        assert!(!acknowledged.is_empty());
        let found = peer.value("/k");
        assert!(acknowledged.iter().all(|(name, value)| found.get(name) == Some(value)), "what is there stays readable");
        // After a failed sync nobody knows what is on the disk, so nothing more is written.
        for _ in 0..3 {
            peer.send("PUT", "/k/more", &[JSON], "1").problem(507);
        }
        assert_eq!(peer.value("/.sys/status")["id"], peer.ready["id"]);
        let _ = peer.send("POST", "/.sys/down", &[], "");
        let home = peer.wait();
        let peer = Peer::start_in(home);
        let found = peer.value("/k");
        for (name, value) in &acknowledged {
            assert_eq!(found.get(name), Some(value), "{name} was acknowledged and is lost");
        }
        assert!(found.get("more").is_none());
        fsck(&peer);
        peer.put("/k/again", &json!(true));
    } else {
        eprintln!("skipped: strace does not work here");
    }
}

/// A small disk in memory.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).ok()?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=0700"), "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room() {
    let home = Home::new();
    let Some(disk) = SmallDisk::mount(home.folder(), 200) else {
        eprintln!("skipped: no disk can be mounted here");
        return;
    };
    let peer = Peer::start_in(home);
    peer.put("/k/first", &json!(1));
    // Leave room for some writes, not for all, beside what is kept free for the tables.
    let free = rustix::fs::statvfs(&disk.0).expect("a size");
    let filler = disk.0.join("filler");
    let left = (free.f_bavail * free.f_bsize).saturating_sub(18_000_000);
    std::fs::write(&filler, vec![0; usize::try_from(left).expect("a size")]).expect("a large file");
    let acknowledged = write_until_refused(&peer, "w", 2000).expect("a full disk is refused with 507");
    assert!(!acknowledged.is_empty(), "there was room for some");
    let found = peer.value("/k");
    assert!(acknowledged.iter().all(|(name, value)| found.get(name) == Some(value)), "what is there stays readable");
    std::fs::remove_file(&filler).expect("room");
    let mut client = peer.connect();
    let resumed = (0..50).any(|_| client.send("PUT", "/k/later", &[JSON], "2").status == 200);
    let home = if resumed { peer.kill() } else { peer.stop() };
    let peer = Peer::start_in(home);
    let found = peer.value("/k");
    for (name, value) in &acknowledged {
        assert_eq!(found.get(name), Some(value), "{name} was acknowledged and is lost");
    }
    fsck(&peer);
    peer.put("/k/again", &json!(3));
    assert!(resumed, "writes were refused although there was room");
    drop(peer.stop());
}

/// Files leave 64 MiB free for changes. What came before there was no room stays, and goes on.
#[test]
fn a_full_disk_refuses_files_and_goes_on_with_them_when_there_is_room() {
    let (alice, home) = (Peer::start(), Home::new());
    let Some(disk) = SmallDisk::mount(home.folder(), 250) else {
        eprintln!("skipped: no disk can be mounted here");
        return;
    };
    let bob = Peer::start_in(home);
    let film = bytes(40_000_000, 1);
    assert_eq!(alice.send("PUT", "/film", &[MP4], &film).status, 200);
    let link = invite(&alice, &["--to", "/wall", "--can", "write"]);
    assert_eq!(join(&bob, &link, "alice")["result"], "connected");
    until(&bob, "/@alice", "a film", |answer| answer.text().contains("@blob"));
    let filler = disk.0.join("filler");
    let leave = |bytes: u64| {
        let about = rustix::fs::statvfs(&disk.0).expect("a size");
        let more = (about.f_bavail * about.f_bsize).saturating_sub(64 * 1024 * 1024 + bytes);
        let mut file = std::fs::File::options().create(true).append(true).open(&filler).expect("opens");
        std::io::Write::write_all(&mut file, &vec![0; usize::try_from(more).expect("a size")]).expect("room");
    };
    leave(10_000_000);
    let own = bytes(40_000_000, 2);
    // By how much it is to be, before all of it comes.
    let refused = |method: &str, target: &str, headers: &[(&str, &str)], bytes: usize| {
        let mut client = bob.connect();
        client.ask(method, target, &[headers, &[("Content-Length", &*bytes.to_string())]].concat(), "");
        // Maybe it is refused by then.
        let _ = client.try_write(&own[..100_000]);
        client.answer(false).expect("an answer").problem(507)
    };
    let problem = refused("PUT", "/own", &[MP4], own.len());
    assert!(problem["fix"].is_string(), "{problem}");
    bob.send("GET", "/own", &[], "").problem(404);
    assert_eq!(bob.send("PUT", "/small", &[MP4], &own[..3_000_000]).status, 200, "what has room is taken");
    bob.put("/k/text", &json!("so are values"));
    let begin = [MP4, ("Upload-Complete", "?0")];
    let place = bob.send("PUT", "/parts", &begin, "").header("location").expect("a place").to_owned();
    let part = |at: usize, is_last: bool, end: usize| {
        let headers = [
            ("Content-Type", "application/partial-upload"),
            ("Upload-Offset", &at.to_string()),
            ("Upload-Complete", if is_last { "?1" } else { "?0" }),
        ];
        bob.send("PATCH", &place, &headers, &own[at..end])
    };
    assert_eq!(part(0, false, 3_000_000).status, 204);
    let rest = [("Content-Type", "application/partial-upload"), ("Upload-Offset", "3000000"), ("Upload-Complete", "?1")];
    let problem = refused("PATCH", &place, &rest, own.len() - 3_000_000);
    assert!(problem["fix"].is_string(), "{problem}");
    let got = run(bob.home(), &["get", "@alice/film", "-o", &bob.home().beside("film").display().to_string()]);
    assert!(got.code != 0 && got.err.contains("disk"), "{got:?}");
    bob.put("/k/more", &json!("and they go on"));
    std::fs::remove_file(&filler).expect("room");
    let at = bob.send("HEAD", &place, &[], "").header("upload-offset").and_then(|at| at.parse::<usize>().ok()).expect("an offset");
    assert!(at >= 3_000_000, "{at}");
    assert_eq!(part(at, true, own.len()).status, 200);
    assert!(bob.send("GET", "/parts", &[], "").body == own);
    bob.send("DELETE", "/parts", &[], "");
    let got = run(bob.home(), &["get", "@alice/film", "-o", &bob.home().beside("film").display().to_string()]);
    assert_eq!(got.code, 0, "{got:?}");
    assert!(std::fs::read(bob.home().beside("film")).expect("a file") == film);
    let bob = Peer::start_in(bob.kill());
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film);
    fsck(&bob);
    drop(bob.stop());
}

#[test]
fn a_copied_home_writes_with_a_key_of_its_own() {
    let peer = Peer::start();
    peer.put("/x", &json!("original"));
    let device = peer.value("/.sys/status")["device"].clone();
    let home = peer.stop();
    let copy = Peer::start_in(home.copy());
    let original = Peer::start_in(home);
    let status = copy.value("/.sys/status");
    assert_eq!(status["opened"]["new_device"], true, "{status}");
    assert_ne!(status["device"], device);
    assert_eq!(status["id"], original.ready["id"]);
    assert_eq!(original.value("/.sys/status")["device"], device);
    assert_eq!(copy.value("/x"), json!("original"));
    copy.put("/y", &json!("copy"));
    original.put("/y", &json!("original"));
    // What both wrote is one space: each takes what the other made.
    for (from, to) in [(&copy, &original), (&original, &copy)] {
        let changes = from.send("GET", "/", &[("Accept", "application/timebus-ops")], "");
        let taken = to.send("POST", "/", &[("Content-Type", "application/timebus-ops")], &changes.body);
        assert_eq!((taken.status, &taken.json()["refused"]), (200, &json!([])), "{}", taken.text());
    }
    assert_eq!(copy.value("/"), original.value("/"));
    assert_eq!(copy.send("GET", "/y", &[], "").header("conflicts"), Some("1"));
    fsck(&copy);
    fsck(&original);
    // Once renewed it stays what it is.
    let copy = copy.restart();
    assert_eq!(copy.value("/.sys/status")["device"], status["device"]);
}

#[test]
fn a_backup_of_a_running_peer_is_a_home() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": [1, 2, 3]}));
    let other = Peer::start();
    let who = other.ready["id"].as_str().expect("a key").to_owned();
    let run = |home: &Home, args: &[&str]| {
        let done = Command::new(PROGRAM).arg("--home").arg(home.folder()).args(args).output().expect("it runs");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    run(peer.home(), &["app", "install", "board", "--yes"]);
    run(peer.home(), &["limits", &who, "12MB"]);
    run(peer.home(), &["files", "share", &who, "no"]);
    std::fs::create_dir(peer.home().beside("notes")).expect("a folder");
    run(peer.home(), &["folder", "/notes", peer.home().beside("notes").to_str().expect("text"), "--once"]);
    let backup = peer.send("GET", "/.sys/backup", &[], "");
    assert_eq!(backup.status, 200);
    peer.put("/x", &json!("later"));
    let home = Home::new();
    std::fs::create_dir(home.folder()).expect("a folder");
    std::os::unix::fs::chown(home.folder(), None, None).expect("ours");
    std::fs::set_permissions(home.folder(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
    let file = home.beside("backup.tar");
    std::fs::write(&file, &backup.body).expect("a file");
    let unpacked = Command::new(PROGRAM)
        .arg("--home")
        .arg(home.folder())
        .arg("restore")
        .stdin(std::fs::File::open(&file).expect("a file"))
        .output()
        .expect("it runs");
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let copy = Peer::start_in(home);
    assert_eq!(copy.ready["id"], peer.ready["id"]);
    assert_eq!(copy.value("/x"), json!({"a": [1, 2, 3]}));
    assert_ne!(copy.value("/.sys/status")["device"], peer.value("/.sys/status")["device"]);
    copy.put("/x", &json!("in the copy"));
    // What was installed and decided here is in it, too. What a live folder remembers is not: see `timebus_net::backup`.
    assert_eq!(copy.value("/.sys/apps")["apps"][0]["alias"], "board");
    assert_eq!(copy.send("GET", "/", &[("Host", &format!("board.localhost:{}", copy.address().port()))], "").status, 200);
    for file in ["limits.json", "files.json"] {
        let [ours, theirs] = [&peer, &copy].map(|of| std::fs::read_to_string(of.home().folder().join(file)).expect(file));
        assert!(ours == theirs && ours.contains(&who), "{file}: {ours} {theirs}");
    }
    assert_eq!(copy.value("/.sys/blobs")["kept_back"].as_array().map(Vec::len), Some(1));
    assert!(peer.home().folder().join("folders").exists() && !copy.home().folder().join("folders").exists());
    fsck(&copy);
    // A dash is no file.
    let tar = run(copy.home(), &["backup", "-"]);
    assert_eq!(tar.get(257..262), Some(&b"ustar"[..]));
}
