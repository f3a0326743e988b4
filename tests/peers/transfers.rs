use std::io::Read as _;

use serde_json::{Value, json as value};

use super::neighbours::{json, pair, poll, program, run, until, until_value};
use crate::files::bytes;
use crate::peer::{Home, Peer};

const MP4: (&str, &str) = ("Content-Type", "video/mp4");
/// A piece in eight seconds, so that what is said of a file is said before it is here.
const SLOW: [&str; 4] = ["files", "limit", "--up", "16kB/s"];
const FREE: [&str; 4] = ["files", "limit", "--up", "none"];

/// Files of a home that are whole, and that are not.
fn files(home: &Home) -> (usize, usize) {
    let count = |folder: std::path::PathBuf, is_file: fn(&str) -> bool| {
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.file_name().to_string_lossy().into_owned());
        names.filter(|name| is_file(name)).count()
    };
    let shards = std::fs::read_dir(home.folder().join("blobs")).into_iter().flatten().flatten();
    let shards = shards.filter(|shard| shard.file_name().len() == 2).map(|shard| shard.path());
    let whole = shards.map(|shard| count(shard, |name| name.len() == 52)).sum();
    (whole, count(home.folder().join("blobs").join("part"), |_| true))
}

/// What a peer says of a file on its way.
fn transfer(peer: &Peer, path: &str) -> Value {
    let told = json(peer.home(), &["files"]);
    let transfers = told["transfers"].as_array().expect("a list");
    transfers.iter().find(|transfer| transfer["path"] == path).cloned().unwrap_or(Value::Null)
}

/// Alice's film, slow to come, and Bob, who knows of it.
fn film(seed: u64) -> (Peer, Peer, Vec<u8>) {
    let (alice, bob) = pair();
    let film = bytes(2_000_000, seed);
    json(alice.home(), &SLOW);
    assert_eq!(alice.send("PUT", "/film", &[MP4], &film).status, 200);
    until(&bob, "/@alice", "a film", |answer| answer.text().contains("@blob"));
    (alice, bob, film)
}

#[test]
fn a_file_that_is_paused_stays_as_it_is_until_it_goes_on_to_its_end() {
    let (alice, bob, film) = film(1);
    let (status, headers, mut reading) = bob.connect().stream("GET", "/@alice/film", &[]);
    assert_eq!((status, headers.one("content-length")), (200, Some("2000000")));
    let paused = json(bob.home(), &["files", "pause", "@alice/film"]);
    let here = paused["files"][0]["bytes_here"].as_u64().expect("a number");
    assert!(paused["files"][0]["path"] == "/@alice/film" && (131_072..1_000_000).contains(&here), "{paused}");
    // Who reads it is not left to wait, and who comes hears why and what to do.
    let mut came = Vec::new();
    let _ = reading.read_to_end(&mut came);
    assert!(came.len() < film.len() && film.starts_with(&came), "{} bytes came", came.len());
    let refused = bob.send("GET", "/@alice/film", &[], "").problem(409);
    assert_eq!(refused["type"], "/.sys/problems/blob-paused", "{refused}");
    let got = run(bob.home(), &["get", "@alice/film", "-o", "film.mp4"]);
    assert!(got.code == 4 && got.err.contains("paused") && got.err.contains("timebus files resume"), "{got:?}");
    json(alice.home(), &FREE);
    // It stays so when the peer starts anew, with what had come.
    let bob = bob.restart();
    let after = transfer(&bob, "/@alice/film");
    assert!(after["state"] == "paused" && after["bytes_here"].as_u64() >= Some(here), "{after}");
    assert_eq!(bob.send("GET", "/@alice/film", &[], "").problem(409)["type"], "/.sys/problems/blob-paused");
    assert!(run(bob.home(), &["files"]).out.contains("paused  /@alice/film"));
    // From where it was it goes on to its end, whether somebody reads it or not.
    json(bob.home(), &["files", "resume", "@alice/film"]);
    poll("the film is whole", || (files(bob.home()) == (1, 0)).then_some(()));
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film);
    poll("nothing more is wanted of it", || {
        let wishes = std::fs::read_to_string(bob.home().folder().join("files.json")).expect("a file");
        (!wishes.contains("wanted")).then_some(())
    });
    // Alice sees what she gave, also after a restart: all of it once, and little more.
    let given = json(alice.home(), &["files"]);
    let all = given["given"]["bytes"].as_u64().expect("a number");
    assert!((2_000_000..2_000_000 + 4 * 131_072).contains(&all), "{given}");
    assert_eq!((&given["given"]["files"][0]["path"], &given["given"]["files"][0]["bytes"]), (&value!("/film"), &value!(all)), "{given}");
    let top = json(alice.home(), &["top"]);
    let to_bob = top["costs"].as_array().into_iter().flatten().find(|cost| cost["key"] == bob.ready["id"]);
    assert_eq!(to_bob.map(|cost| &cost["given_bytes"]), Some(&value!(all)), "{top}");
    let own = top["costs"].as_array().into_iter().flatten().find(|cost| cost["key"] == alice.ready["id"]);
    assert_eq!(own.map(|cost| &cost["file_bytes"]), Some(&value!(2_000_000)), "{top}");
    let alice = alice.restart();
    assert_eq!(json(alice.home(), &["files"])["given"]["bytes"], all);
    let refused = run(bob.home(), &["files", "pause", "@alice/film"]);
    assert!(refused.code == 1 && refused.err.contains("all of it is here"), "{refused:?}");
    let refused = run(bob.home(), &["files", "resume", "@alice/none"]);
    assert!(refused.code == 1 && refused.err.contains("timebus files"), "{refused:?}");
}

#[test]
fn a_file_that_is_cancelled_leaves_nothing_and_who_waits_for_it_hears_so() {
    let (alice, bob, film) = film(2);
    let (_, _, mut reading) = bob.connect().stream("GET", "/@alice/film", &[]);
    assert_eq!(transfer(&bob, "/@alice/film")["state"], "coming");
    assert!(files(bob.home()).1 > 0);
    // One who waits for a piece that does not come yet, and one who reads.
    let cancelled = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| bob.send("GET", "/@alice/film", &[("Range", "bytes=1999990-"), ("Prefer", "wait=60")], ""));
        poll("both wait", || (transfer(&bob, "/@alice/film")["waiting"] == 2).then_some(()));
        let cancelled = json(bob.home(), &["files", "cancel", "@alice/film"]);
        let refused = waiting.join().expect("it answers").problem(409);
        assert_eq!(refused["type"], "/.sys/problems/blob-cancelled", "{refused}");
        cancelled
    });
    assert_eq!((&cancelled["files"][0]["bytes_here"], &cancelled["unpinned"]), (&value!(0), &value!(false)), "{cancelled}");
    let mut came = Vec::new();
    let _ = reading.read_to_end(&mut came);
    assert!(came.len() < film.len(), "{} bytes came", came.len());
    drop(reading);
    poll("nothing is left", || (files(bob.home()) == (0, 0) && transfer(&bob, "/@alice/film").is_null()).then_some(()));
    // Programs that try again at once do not begin it anew; the owner does.
    let refused = bob.send("GET", "/@alice/film", &[], "").problem(409);
    assert!(refused["type"] == "/.sys/problems/blob-cancelled" && refused["fix"].as_str().is_some_and(|fix| fix.contains("resume")), "{refused}");
    json(alice.home(), &FREE);
    json(bob.home(), &["files", "resume", "@alice/film"]);
    poll("the film is whole", || (files(bob.home()) == (1, 0)).then_some(()));
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film);
}

#[test]
fn of_what_is_pinned_one_file_can_be_left_out() {
    let (alice, bob) = pair();
    json(alice.home(), &SLOW);
    for number in 1..=2 {
        assert_eq!(alice.send("PUT", &format!("/photos/{number}"), &[MP4], bytes(900_000, number)).status, 200);
    }
    until(&bob, "/@alice", "two photos", |answer| answer.text().matches("@blob").count() == 2);
    json(bob.home(), &["files", "pin", "@alice/photos"]);
    let cancelled = json(bob.home(), &["files", "cancel", "@alice/photos/2"]);
    assert_eq!((cancelled["files"].as_array().map(Vec::len), &cancelled["unpinned"]), (Some(1), &value!(false)), "{cancelled}");
    json(alice.home(), &FREE);
    poll("the other one is here", || (json(bob.home(), &["files"])["pins"][0]["files_here"] == 1).then_some(()));
    // It is left out after a restart, too, until it is wanted.
    let bob = bob.restart();
    assert_eq!(transfer(&bob, "/@alice/photos/2")["state"], "cancelled");
    assert_eq!(files(bob.home()), (1, 0));
    json(bob.home(), &["files", "resume", "@alice/photos/2"]);
    poll("it is here, too", || (files(bob.home()) == (2, 0)).then_some(()));
    // What is cancelled where it is pinned is pinned no more.
    json(alice.home(), &SLOW);
    assert_eq!(alice.send("PUT", "/photos/3", &[MP4], bytes(900_000, 3)).status, 200);
    poll("the new one comes", || (transfer(&bob, "/@alice/photos/3")["state"] == "coming").then_some(()));
    assert_eq!(json(bob.home(), &["files", "cancel", "@alice/photos"])["unpinned"], true);
    assert_eq!(json(bob.home(), &["files"])["pins"], value!([]));
    poll("nothing is left of it", || (files(bob.home()) == (2, 0)).then_some(()));
}

#[test]
fn files_come_and_go_as_fast_as_the_owner_says_and_nothing_else_waits_for_them() {
    let (alice, bob, film) = film(3);
    assert_eq!(json(alice.home(), &["files", "limit"]), value!({"up": 16_000, "down": null}));
    let (status, _, mut reading) = bob.connect().stream("GET", "/@alice/film", &[]);
    assert_eq!(status, 200);
    // Whatever else is said comes meanwhile.
    for number in 0..5 {
        alice.put("/notes", &value!(number));
        until_value(&bob, "/@alice/notes", &value!(number));
    }
    let given = json(alice.home(), &["files"])["given"]["bytes"].as_u64().expect("a number");
    assert!(given < 1_000_000, "{given} bytes were given meanwhile");
    // Nor is the owner's own reading slower.
    assert!(alice.send("GET", "/film", &[], "").body == film);
    // Then it is the other side that asks for no more; and when both are free all of it comes at once.
    assert_eq!(json(bob.home(), &["files", "limit", "--down", "0.02MB/s"]), value!({"up": null, "down": 20_000}));
    json(alice.home(), &FREE);
    for number in 5..10 {
        alice.put("/notes", &value!(number));
        until_value(&bob, "/@alice/notes", &value!(number));
    }
    let here = transfer(&bob, "/@alice/film")["bytes_here"].as_u64().expect("a number");
    assert!(here < 1_500_000, "{here} bytes came meanwhile");
    // It is kept over a restart, and shown.
    let shown = run(bob.home(), &["files"]);
    assert!(shown.out.contains("limited    to others as fast as the line is, from others 20.00 kB/s"), "{shown:?}");
    json(bob.home(), &["files", "limit", "--up", "1MB/s", "--down", "none"]);
    let mut came = Vec::new();
    reading.read_to_end(&mut came).expect("it comes");
    assert!(came == film);
    let bob = bob.restart();
    assert_eq!(json(bob.home(), &["files"])["limits"], value!({"up": 1_000_000, "down": null}));
    for bad in [&["--up", "1kB/s"][..], &["--down", "fast"], &["--up", "0"]] {
        let refused = run(bob.home(), &[&["files", "limit"], bad].concat());
        assert!(refused.code != 0 && refused.err.contains("16") | refused.err.contains("1MB/s"), "{refused:?}");
    }
    let refused = bob.send("POST", "/.sys/blobs/limit", &[], value!({"sideways": 1}).to_string());
    assert_eq!(refused.status, 400);
    drop(alice);
}

#[test]
fn what_is_here_of_a_file_that_is_paused_is_read_and_only_the_rest_is_refused() {
    let (alice, bob, film) = film(4);
    let (_, _, mut reading) = bob.connect().stream("GET", "/@alice/film", &[]);
    let here = poll("some of it has come", || transfer(&bob, "/@alice/film")["bytes_here"].as_u64().filter(|here| *here >= 131_072));
    json(bob.home(), &["files", "pause", "@alice/film"]);
    let _ = reading.read_to_end(&mut Vec::new());
    let range = |peer: &Peer, range: &str| peer.send("GET", "/@alice/film", &[("Range", range)], "");
    let stretch = |of: &Value| (of[0].as_u64().expect("a number") as usize, of[1].as_u64().expect("a number") as usize);
    let check = |bob: &Peer| {
        let refused = bob.send("GET", "/@alice/film", &[], "").problem(409);
        assert_eq!((&refused["type"], &refused["bytes_total"]), (&value!("/.sys/problems/blob-paused"), &value!(2_000_000)), "{refused}");
        let stretches: Vec<_> = refused["here"].as_array().expect("stretches").iter().map(stretch).collect();
        assert!(refused["bytes_here"].as_u64() >= Some(here) && !stretches.is_empty(), "{refused}");
        // How much that is, is told without reading it.
        let asked = bob.send("HEAD", "/@alice/film", &[], "");
        assert_eq!((asked.header("timebus-blob"), asked.header("content-length")), (Some("not here"), Some("2000000")));
        assert_eq!(asked.header("timebus-bytes-here"), Some(refused["bytes_here"].to_string().as_str()));
        for (begin, end) in &stretches {
            let answer = range(bob, &format!("bytes={begin}-{}", end - 1));
            assert!(answer.status == 206 && answer.body == film[*begin..*end], "{begin}-{end}: {}", answer.status);
            let answer = range(bob, &format!("bytes={}-{}", begin + 5, end - 7));
            assert_eq!(answer.header("content-range"), Some(format!("bytes {}-{}/2000000", begin + 5, end - 7).as_str()));
            assert!(answer.body == film[begin + 5..end - 6]);
            // One byte more is missing, and it is said which.
            if *end < film.len() {
                let refused = range(bob, &format!("bytes={begin}-{end}")).problem(409);
                assert_eq!((&refused["type"], &refused["missing_from"]), (&value!("/.sys/problems/blob-paused"), &value!(end)), "{refused}");
            }
        }
        assert_eq!(range(bob, "bytes=2000000-").status, 416);
    };
    check(&bob);
    drop(alice);
    let bob = bob.restart();
    check(&bob);
    // When all of it is here nothing is refused, whatever was said before.
    assert_eq!(bob.send("PUT", "/mine", &[MP4], &film).status, 200);
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film);
    assert_eq!(bob.send("HEAD", "/@alice/film", &[], "").header("timebus-bytes-here"), None);
}

/// A download of the film into a file, as a process that goes on, once something of it has come.
fn downloading(bob: &Peer, file: &std::path::Path) -> std::process::Child {
    let mut command = program(bob.home(), &["get", "@alice/film", "-o", file.to_str().expect("text")]);
    let child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("it starts");
    let part = file.with_file_name(".film.mp4.part");
    poll("some of it has come", || std::fs::metadata(&part).is_ok_and(|about| about.len() > 0).then_some(()));
    child
}

/// What is in a folder.
fn names(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

#[test]
fn a_download_that_was_cut_off_is_shown_until_it_goes_on_or_is_cancelled() {
    let (alice, bob, film) = film(5);
    let temp = tempfile::tempdir().expect("a folder");
    let file = temp.path().join("film.mp4");
    let mut getting = downloading(&bob, &file);
    let shown = json(bob.home(), &["files"]);
    assert_eq!((&shown["downloads"][0]["state"], &shown["downloads"][0]["path"]), (&value!("coming"), &value!("/@alice/film")), "{shown}");
    let twice = run(bob.home(), &["get", "@alice/film", "-o", file.to_str().expect("text")]);
    assert!(twice.code == 1 && twice.err.contains("another command is getting"), "{twice:?}");
    getting.kill().and_then(|()| getting.wait()).expect("it ends");
    let shown = json(bob.home(), &["files"])["downloads"][0].clone();
    assert_eq!((&shown["state"], &shown["bytes_total"]), (&value!("cut off"), &value!(2_000_000)), "{shown}");
    let said = run(bob.home(), &["files"]).out;
    let line = said.lines().find(|line| line.starts_with("cut off")).expect("it is told");
    assert!(line.contains("get /@alice/film -o ") && line.contains("files cancel /@alice/film"), "{line}");
    // Cancelled, it leaves nothing, here or there.
    let cancelled = json(bob.home(), &["files", "cancel", "@alice/film"]);
    assert_eq!(cancelled["downloads"][0]["file"], value!(file.display().to_string()), "{cancelled}");
    assert_eq!((names(temp.path()), &json(bob.home(), &["files"])["downloads"]), (vec![], &value!([])));
    // One that goes on hears that, and leaves nothing either.
    json(bob.home(), &["files", "resume", "@alice/film"]);
    let mut getting = downloading(&bob, &file);
    json(bob.home(), &["files", "cancel", "@alice/film"]);
    assert_eq!(getting.wait().expect("it ends").code(), Some(4));
    assert_eq!((names(temp.path()), &json(bob.home(), &["files"])["downloads"]), (vec![], &value!([])));
    // One that is gone on with is told no more, also when the peer has all of it and only the way from there was cut off.
    json(bob.home(), &["files", "resume", "@alice/film"]);
    let mut getting = downloading(&bob, &file);
    getting.kill().and_then(|()| getting.wait()).expect("it ends");
    json(alice.home(), &FREE);
    poll("the film is whole", || (files(bob.home()) == (1, 0)).then_some(()));
    assert_eq!(json(bob.home(), &["files"])["downloads"][0]["state"], "cut off");
    let again = json(bob.home(), &["get", "@alice/film", "-o", file.to_str().expect("text")]);
    assert!(again["resumed_at"].as_u64() > Some(0), "{again}");
    assert!(std::fs::read(&file).expect("a film") == film);
    assert_eq!((names(temp.path()), &json(bob.home(), &["files"])["downloads"]), (vec!["film.mp4".to_owned()], &value!([])));
}
