use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json as value;

use super::neighbours::{invite, join, json, pair, poll, run, until};
use crate::files::bytes;
use crate::peer::{DEADLINE, Home, Peer};

const MP4: (&str, &str) = ("Content-Type", "video/mp4");

pub(super) fn whole_files(home: &Home) -> usize {
    let shards = std::fs::read_dir(home.folder().join("blobs")).into_iter().flatten().flatten();
    let shards = shards.filter(|shard| shard.file_name().len() == 2);
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.path()).into_iter().flatten().flatten());
    files.filter(|file| file.file_name().len() == 52).count()
}

#[test]
fn a_film_of_another_peer_is_fetched_when_it_is_asked_for() {
    let (alice, bob) = pair();
    let film = bytes(5_000_000, 1);
    assert_eq!(alice.send("PUT", "/film", &[MP4], &film).status, 200);
    let described = until(&bob, "/@alice/film", "the film's name", |answer| answer.status == 200 || answer.status == 206);
    assert!(described.status == 200);
    // The end first: only what is asked for has to come.
    let part = bob.send("GET", "/@alice/film", &[("Range", "bytes=4999990-")], "");
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 4999990-4999999/5000000")));
    assert!(part.body == film[4_999_990..]);
    let got = bob.send("GET", "/@alice/film", &[], "");
    assert_eq!((got.status, got.header("content-type")), (200, Some("video/mp4")));
    assert!(got.body == film);
    assert_eq!(got.header("etag"), alice.send("HEAD", "/film", &[], "").header("etag"));
    poll("the film is whole", || (whole_files(bob.home()) == 1).then_some(()));
    // What went over the line is told with the film in it.
    let carried = |peer: &Peer, what: &str| json(peer.home(), &["peers"])["peers"][0][what].as_u64().expect("a number of bytes");
    assert!(carried(&alice, "sent") > 5_000_000 && carried(&bob, "received") > 5_000_000 && carried(&bob, "sent") < 1_000_000);
    // From now on alice is not needed.
    let (alice, bob) = (alice.stop(), bob.restart());
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film);
    drop(alice);
}

/// Nobody has read the picture by then, and the home that has it has another key.
#[test]
fn what_was_put_elsewhere_before_a_restore_is_handed_on_after_it() {
    let (alice, bob) = pair();
    join(&alice, &invite(&bob, &[]), "bob");
    let picture = bytes(300_000, 5);
    let put = bob.send("PUT", "/@alice/wall/picture", &[("Content-Type", "image/png")], &picture);
    assert!((200..300).contains(&put.status), "{}", put.text());
    until(&alice, "/wall", "a picture", |answer| answer.text().contains("@blob"));
    let tar = bob.home().beside("bob.tar").display().to_string();
    assert_eq!(run(bob.home(), &["backup", &tar]).code, 0);
    let home = Home::new();
    assert_eq!(run(&home, &["restore", &tar]).code, 0);
    let restored = Peer::start_in(home);
    // The one before lets the new one in, and goes.
    poll("the restored home is let in", || {
        restored.send("PUT", "/@alice/wall/hello", &[("Content-Type", "application/json")], "1");
        (alice.send("GET", "/wall/hello", &[], "").status == 200).then_some(())
    });
    let gone = bob.stop();
    let got = poll("the picture", || Some(alice.send("GET", "/wall/picture", &[], "")).filter(|answer| answer.status == 200));
    assert!(got.body == picture);
    drop(gone);
}

/// Reads so many bytes of a film, and goes.
fn begin(peer: &Peer, path: &str, bytes: usize) {
    let mut stream = TcpStream::connect(peer.address()).expect("the peer listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", peer.authority()).as_bytes()).expect("it reads");
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).expect("so much comes");
    assert!(read.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read[..100]));
}

/// Again and again, also while pieces of before are still being written.
#[test]
fn what_was_cut_off_goes_on_and_what_was_damaged_meanwhile_comes_again() {
    let (alice, bob) = pair();
    let film = bytes(20_000_000, 9);
    assert_eq!(alice.send("PUT", "/film", &[MP4], &film).status, 200);
    until(&bob, "/@alice", "a film", |answer| answer.text().contains("@blob"));
    for times in 1..8 {
        begin(&bob, "/@alice/film", times * 1_000_000);
    }
    // Where it is not whole by then, a bit flips in a piece that is there.
    let home = bob.stop();
    let parts = home.folder().join("blobs/part");
    let part = std::fs::read_dir(&parts).into_iter().flatten().flatten().map(|file| file.path()).find(|file| file.extension().is_none());
    let damaged = part.filter(|part| part.with_extension("have").exists());
    if let Some(part) = damaged {
        let file = std::fs::OpenOptions::new().write(true).open(part).expect("opens");
        std::os::unix::fs::FileExt::write_all_at(&file, b"?", 300_000).expect("writes");
    }
    let bob = Peer::start_in(home);
    let got = poll("the film", || Some(bob.send("GET", "/@alice/film", &[], "")).filter(|answer| answer.status == 200));
    assert!(got.body == film, "{} bytes", got.body.len());
    poll("the film is whole", || (whole_files(bob.home()) == 1).then_some(()));
}

#[test]
fn bytes_that_nobody_has_are_told_apart_from_no_value() {
    let (alice, bob) = pair();
    assert_eq!(alice.send("PUT", "/film", &[MP4], bytes(200_000, 2)).status, 200);
    until(&bob, "/@alice", "a film", |answer| answer.text().contains("@blob"));
    let home = alice.stop();
    let problem = bob.send("GET", "/@alice/film", &[("Prefer", "wait=1")], "").problem(504);
    assert_eq!(problem["type"], "/.sys/problems/blob-unavailable", "{problem}");
    assert_eq!(problem["bytes_total"], 200_000);
    assert!(problem["fix"].is_string());
    let asked = bob.send("HEAD", "/@alice/film", &[], "");
    assert_eq!((asked.status, asked.header("timebus-bytes-here")), (200, Some("0")));
    // When she is back, it comes.
    let alice = Peer::start_in(home);
    let got = poll("alice is back", || Some(bob.send("GET", "/@alice/film", &[], "")).filter(|answer| answer.status == 200));
    assert!(got.body == bytes(200_000, 2));
    drop(alice);
}

#[test]
fn whoever_has_fetched_it_gives_it_to_others() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    join(&carol, &invite(&alice, &[]), "alice");
    let film = bytes(3_000_000, 3);
    assert_eq!(alice.send("PUT", "/film", &[MP4], &film).status, 200);
    for peer in [&bob, &carol] {
        until(peer, "/@alice", "a film", |answer| answer.text().contains("@blob"));
    }
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film);
    poll("the film is whole", || (whole_files(bob.home()) == 1).then_some(()));
    // Bob and carol know each other through alice.
    poll("carol knows bob", || {
        let peers = carol.value("/.sys/peers");
        let count = peers["peers"].as_array().map_or(0, |all| all.iter().filter(|peer| peer["state"] == "connected").count());
        (count >= 2).then_some(())
    });
    let alice = alice.stop();
    let got = poll("carol gets it from bob", || Some(carol.send("GET", "/@alice/film", &[], "")).filter(|answer| answer.status == 200));
    assert!(got.body == film);
    drop(alice);
}

#[test]
fn the_lab_shows_how_a_crowd_fares() {
    let home = Home::new();
    let report = json(&home, &["lab", "swarm", "--peers", "20", "--size", "8MB", "--seed", "4"]);
    assert_eq!((report["left_out"].as_u64(), report["peers"].as_u64()), (Some(0), Some(20)), "{report}");
    assert!(report["times_bound"].as_f64().is_some_and(|times| (1.0..2.0).contains(&times)), "{report}");
    assert!(report["median_ms"].as_u64() <= report["p95_ms"].as_u64() && report["p95_ms"].as_u64() <= report["last_ms"].as_u64(), "{report}");
    assert_eq!(report, json(&home, &["lab", "swarm", "--peers", "20", "--size", "8MB", "--seed", "4"]), "the same seed, the same run");
    let bad = ["lab", "swarm", "--peers", "15", "--size", "2MB", "--arrive", "5", "--free-riders", "30", "--churn", "50", "--leave", "50"];
    let report = json(&home, &bad);
    assert_eq!((report["left_out"].as_u64(), report["blamed"].as_u64()), (Some(0), Some(0)), "{report}");
    let played = json(&home, &["lab", "swarm", "--peers", "3", "--size", "40MB", "--play", "--seed", "4"]);
    assert!(played["began_ms"].as_u64().is_some_and(|ms| ms < 15_000) && played["all_ms"].as_u64() > Some(40_000), "{played}");
    // Who asks for less time than it takes hears that it took longer.
    let slow = ["lab", "swarm", "--size", "8MB", "--origin-up", "1", "--up", "1", "--mute", "40", "--seed", "4"];
    assert_eq!(run(&home, &slow).code, 0);
    assert_eq!(run(&home, &[&slow[..], &["--within", "1"]].concat()).code, 1);
}

#[test]
fn files_of_others_are_kept_within_a_budget_and_ones_own_are_not_touched() {
    let alice = Peer::start();
    let net = [&crate::peer::NET[..], &["--cache", "4MB"]].concat();
    let bob = Peer::launch_as(Home::new(), &mut std::process::Command::new(crate::peer::PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
    let link = invite(&alice, &["--to", "/wall", "--can", "write"]);
    join(&bob, &link, "alice");
    // What bob writes into her space may be nowhere else.
    assert_eq!(bob.send("PUT", "/@alice/wall/his", &[MP4], bytes(3_000_000, 9)).status, 200);
    for number in 0..4 {
        assert_eq!(alice.send("PUT", &format!("/film-{number}"), &[MP4], bytes(1_500_000, number)).status, 200);
    }
    until(&bob, "/@alice", "four films", |answer| answer.text().matches("@blob").count() == 5);
    for number in 0..4u64 {
        assert!(bob.send("GET", &format!("/@alice/film-{number}"), &[], "").body == bytes(1_500_000, number));
    }
    poll("there is room again", || (whole_files(bob.home()) == 3).then_some(()));
    assert!(bob.send("GET", "/@alice/wall/his", &[], "").body == bytes(3_000_000, 9));
}

/// The film is larger than what Bob keeps of others.
#[test]
fn a_film_that_is_larger_than_the_budget_stays_until_the_next_one_comes() {
    let alice = Peer::start();
    let net = [&crate::peer::NET[..], &["--cache", "1MB"]].concat();
    let bob = Peer::launch_as(Home::new(), &mut std::process::Command::new(crate::peer::PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
    join(&bob, &invite(&alice, &[]), "alice");
    for (path, seed) in [("/film", 1), ("/next", 2)] {
        assert_eq!(alice.send("PUT", path, &[MP4], bytes(3_000_000, seed)).status, 200);
    }
    until(&bob, "/@alice", "two films", |answer| answer.text().matches("@blob").count() == 2);
    assert!(bob.send("GET", "/@alice/film", &[], "").body == bytes(3_000_000, 1));
    poll("it is whole", || (whole_files(bob.home()) == 1).then_some(()));
    // It is looked what goes when it has come, and when something is said of files.
    for _ in 0..5 {
        json(bob.home(), &["files", "pin", "@alice/nothing"]);
        json(bob.home(), &["files", "unpin", "@alice/nothing"]);
        let film = bob.send("GET", "/@alice/film", &[("Range", "bytes=2900000-2999999")], "");
        assert!(film.header("timebus-blob").is_none() && film.body == bytes(3_000_000, 1)[2_900_000..], "it is here");
    }
    poll("the next one is here instead", || {
        assert!(bob.send("GET", "/@alice/next", &[], "").body == bytes(3_000_000, 2));
        let is_here = bob.send("HEAD", "/@alice/next", &[], "").header("timebus-blob").is_none();
        (is_here && whole_files(bob.home()) == 1).then_some(())
    });
}

#[test]
fn what_is_pinned_comes_by_itself_and_stays_whatever_the_budget() {
    let alice = Peer::start();
    let net = [&crate::peer::NET[..], &["--cache", "1MB"]].concat();
    let bob = Peer::launch_as(Home::new(), &mut std::process::Command::new(crate::peer::PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
    join(&bob, &invite(&alice, &[]), "alice");
    for (path, seed) in [("/photos/1", 1), ("/photos/2", 2), ("/film", 3), ("/second", 5)] {
        assert_eq!(alice.send("PUT", path, &[MP4], bytes(900_000, seed)).status, 200);
    }
    until(&bob, "/@alice", "four files", |answer| answer.text().matches("@blob").count() == 4);
    for (path, is_there) in [("@alice/photos", true), ("@alice/nothing", false)] {
        let told = run(bob.home(), &["files", "pin", path]);
        assert_eq!((told.code, told.err.contains("nothing is at /@alice/nothing yet")), (0, !is_there), "{told:?}");
        assert_eq!(run(bob.home(), &["files", "unpin", path]).code, 0);
    }
    let pinned = json(bob.home(), &["files", "pin", "@alice/photos"]);
    assert_eq!(pinned, value!({"path": "/@alice/photos", "pinned": true, "changed": true}));
    let here = |count: u64| {
        let told = json(bob.home(), &["files"]);
        let pin = &told["pins"][0];
        (pin["files"] == count && pin["bytes_here"] == pin["bytes_total"]).then(|| told.clone())
    };
    assert_eq!(poll("what is pinned is here", || here(2))["pins"][0]["path"], "/@alice/photos");
    // What comes later comes by itself, too.
    assert_eq!(alice.send("PUT", "/photos/3", &[MP4], bytes(900_000, 4)).status, 200);
    poll("the new one is here", || here(3));
    // What is pinned takes nothing of the room for what is read, and is not what goes when two films are too much.
    assert!(bob.send("GET", "/@alice/film", &[], "").body == bytes(900_000, 3));
    poll("the film is whole", || (whole_files(bob.home()) == 4).then_some(()));
    assert!(bob.send("GET", "/@alice/second", &[], "").body == bytes(900_000, 5));
    poll("one of the films went", || {
        let films = ["/@alice/film", "/@alice/second"].map(|film| bob.send("HEAD", film, &[], "").header("timebus-blob").is_none());
        (whole_files(bob.home()) == 4 && films != [true, true]).then_some(())
    });
    assert!(here(3).is_some());
    assert!(run(bob.home(), &["files"]).out.contains("/@alice/photos"));
    assert_eq!(json(bob.home(), &["files", "unpin", "@alice/photos"])["changed"], true);
    assert_eq!(json(bob.home(), &["files"])["pins"], value!([]));
    poll("it made room", || (whole_files(bob.home()) == 1).then_some(()));
}

#[test]
fn who_took_a_file_and_went_is_told_to_have_it() {
    let (alice, bob) = pair();
    assert_eq!(alice.send("PUT", "/film", &[MP4], bytes(300_000, 1)).status, 200);
    until(&bob, "/@alice/film", "the film's name", |answer| answer.status == 200);
    assert_eq!(bob.send("GET", "/@alice/film", &[], "").body.len(), 300_000);
    poll("it is whole", || (whole_files(bob.home()) == 1).then_some(()));
    let told = || alice.send("GET", "/.sys/blobs", &[], "").json()["transfers"][0].clone();
    poll("he says so", || (told()["given_to"][0]["has_bytes"] == 300_000).then_some(()));
    drop(bob.stop());
    poll("he went", || (told()["readers"] == 0).then_some(()));
    assert_eq!(told()["given_to"][0]["has_bytes"], 300_000, "{}", told());
}

/// What is kept at a place of one's own names the same bytes, and no others but her have them.
#[test]
fn a_copy_of_what_names_a_file_gets_its_bytes_from_where_they_are() {
    let (alice, bob) = pair();
    let film = bytes(300_000, 1);
    assert_eq!(alice.send("PUT", "/film", &[MP4], &film).status, 200);
    let described = until(&bob, "/@alice", "the film's name", |answer| answer.text().contains("@blob")).json();
    let named = described["film"].to_string();
    assert_eq!(bob.send("PUT", "/mycopy", &[("Content-Type", "application/json")], named).status, 200);
    let got = bob.send("GET", "/mycopy", &[("Prefer", "wait=60")], "");
    assert!(got.status == 200 && got.body == film, "{}", got.text());
    assert_eq!(alice.send("DELETE", "/film", &[], "").status, 200);
    poll("it is whole", || (whole_files(bob.home()) == 1).then_some(()));
    drop(alice);
    assert!(bob.restart().send("GET", "/mycopy", &[], "").body == film);
}

/// Many small files go to a friend at once from a peer that may have few files open.
#[test]
fn whoever_may_have_few_files_open_gives_many_and_keeps_its_own() {
    const FILES: usize = 300;
    let few = |limit: &str, home| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("{limit} && exec \"$0\" \"$@\""), crate::peer::PROGRAM]);
        Peer::launch(home, &mut command).unwrap_or_else(|(home, status)| panic!("the peer ended with {status}\n{}", home.log()))
    };
    let alice = few("ulimit -n 256", Home::new());
    let bob = few("ulimit -S -n 200", Home::new());
    // Nobody has to know of such a limit, where it is not the system's.
    if let Ok(limits) = std::fs::read_to_string(format!("/proc/{}/limits", bob.pid())) {
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
        let [soft, hard] = [3, 4].map(|at| line.split_whitespace().nth(at).and_then(|limit| limit.parse::<u64>().ok()).unwrap_or(u64::MAX));
        assert!(soft > 200 || hard <= 200, "{line}");
    }
    join(&bob, &invite(&alice, &[]), "alice");
    for number in 0..FILES {
        let put = alice.send("PUT", &format!("/many/{number}"), &[("Content-Type", "image/png")], bytes(70_000, number as u64));
        assert_eq!(put.status, 200, "{}", put.text());
    }
    until(&bob, "/@alice/many", "all of them", |answer| answer.text().matches("@blob").count() == FILES);
    json(bob.home(), &["files", "pin", "@alice/many"]);
    let most = std::cell::Cell::new(0);
    poll("all of them", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", alice.pid())).map_or(0, Iterator::count);
        most.set(most.get().max(open));
        (whole_files(bob.home()) == FILES).then_some(())
    });
    assert!(most.get() < 230, "{} files were open", most.get());
    assert_eq!(whole_files(alice.home()), FILES);
    assert!(!alice.home().log().contains("cannot be accepted"), "{}", alice.home().log());
    for number in [0, FILES / 2, FILES - 1] {
        assert!(alice.send("GET", &format!("/many/{number}"), &[], "").body == bytes(70_000, number as u64));
    }
}

/// What is here of others for the time being is in nobody's way; and a pin for which there is no room says so.
#[test]
fn files_of_others_make_room_for_ones_own_and_what_cannot_be_kept_is_told() {
    let alice = Peer::start();
    let net = [&crate::peer::NET[..], &["--blob-limit", "5MB"]].concat();
    let bob = Peer::launch_as(Home::new(), &mut std::process::Command::new(crate::peer::PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
    join(&bob, &invite(&alice, &[]), "alice");
    assert_eq!(alice.send("PUT", "/film", &[MP4], bytes(4_000_000, 1)).status, 200);
    assert_eq!(alice.send("PUT", "/long", &[MP4], bytes(6_000_000, 2)).status, 200);
    until(&bob, "/@alice", "two files", |answer| answer.text().matches("@blob").count() == 2);
    let here = || bob.value("/.sys/blobs")["bytes"].clone();
    for (round, resumes) in [(3u64, false), (4, true)] {
        assert!(bob.send("GET", "/@alice/film", &[], "").body == bytes(4_000_000, 1));
        // What has come in parts is not whole yet for a moment.
        poll("it is here", || (here() == 4_000_000 && whole_files(bob.home()) == 1).then_some(()));
        if resumes {
            let put = [MP4, ("Upload-Complete", "?0"), ("Upload-Length", "3000000")];
            let begun = bob.send("PUT", "/own", &put, "");
            let place = begun.header("location").unwrap_or_else(|| panic!("{} {}", begun.status, begun.text())).to_owned();
            let part = [("Content-Type", "application/partial-upload"), ("Upload-Offset", "0"), ("Upload-Complete", "?1")];
            assert_eq!(bob.send("PATCH", &place, &part, bytes(3_000_000, round)).status, 200);
        } else {
            assert_eq!(bob.send("PUT", "/own", &[MP4], bytes(3_000_000, round)).status, 200);
        }
        assert!(bob.send("GET", "/own", &[], "").body == bytes(3_000_000, round));
        assert_eq!(here(), 3_000_000);
        // His own goes for nobody's.
        bob.send("GET", "/@alice/film", &[], "").problem(413);
        bob.send("DELETE", "/own", &[], "");
        let home = bob.home().folder().join("blobs");
        assert!(home.exists());
        if !resumes {
            json(bob.home(), &["files", "free", "--history"]);
        }
    }
    json(bob.home(), &["files", "pin", "@alice/long"]);
    let told = poll("it is said why it does not come", || {
        let told = json(bob.home(), &["files"]);
        told["pins"][0]["problem"].is_string().then_some(told)
    });
    assert_eq!(told["pins"][0]["files_here"], 0, "{told}");
    assert!(run(bob.home(), &["files"]).out.contains("what is missing cannot be kept"), "{told}");
}

#[test]
fn the_owner_frees_what_can_come_again_and_pauses_all_of_a_folder() {
    let (alice, bob) = (Peer::start(), Peer::start());
    join(&bob, &invite(&alice, &[]), "alice");
    for (path, seed) in [("/photos/1", 1), ("/photos/2", 2), ("/film", 3)] {
        assert_eq!(alice.send("PUT", path, &[MP4], bytes(300_000, seed)).status, 200);
    }
    until(&bob, "/@alice", "three files", |answer| answer.text().matches("@blob").count() == 3);
    let reads = |path: &str, seed| bob.send("GET", path, &[], "").body == bytes(300_000, seed);
    assert!(reads("/@alice/photos/1", 1) && reads("/@alice/photos/2", 2) && reads("/@alice/film", 3));
    poll("all are here", || (whole_files(bob.home()) == 3).then_some(()));
    let preview = json(bob.home(), &["files", "free", "@alice/photos", "--preview"]);
    assert_eq!(preview, value!({"files": 2, "bytes": 600_000, "preview": true}));
    assert_eq!(whole_files(bob.home()), 3);
    poll("the photos are gone", || {
        let freed = run(bob.home(), &["files", "free", "@alice/photos"]);
        assert!(freed.code == 0 && freed.out.contains("of others at /@alice/photos"), "{freed:?}");
        (whole_files(bob.home()) == 1).then_some(())
    });
    // What is pinned stays, and what the owner has of his own.
    json(bob.home(), &["files", "pin", "@alice/film"]);
    assert_eq!(bob.send("PUT", "/own", &[MP4], bytes(300_000, 4)).status, 200);
    assert_eq!(json(bob.home(), &["files", "free"])["files"], 0);
    assert_eq!(whole_files(bob.home()), 2);
    // Nobody has asked for them yet.
    let paused = json(bob.home(), &["files", "pause", "@alice/photos"]);
    assert_eq!(paused["files"].as_array().map(Vec::len), Some(2), "{paused}");
    for path in ["/@alice/photos/1", "/@alice/photos/2"] {
        assert_eq!(bob.send("GET", path, &[], "").problem(409)["type"], "/.sys/problems/blob-paused");
    }
    assert_eq!(json(bob.home(), &["files", "resume", "@alice/photos"])["files"].as_array().map(Vec::len), Some(2));
    poll("they come to their end", || (whole_files(bob.home()) == 4).then_some(()));
    assert!(reads("/@alice/photos/1", 1));
}

/// Somebody who may write where a file is names it, too, and says that it has another length. Only the true one can be had.
#[test]
fn a_file_of_which_other_lengths_are_said_comes_all_the_same() {
    let (alice, bob) = pair();
    let film = bytes(900_000, 7);
    assert_eq!(alice.send("PUT", "/album/film", &[MP4], &film).status, 200);
    let mut named = alice.value("/album")["film"].clone();
    for (path, len) in [("/album/a", 100), ("/album/z", 1u64 << 48), ("/album/zz", 900_001)] {
        named["@bytes_total"] = len.into();
        alice.put(path, &named);
    }
    until(&bob, "/@alice", "four names", |answer| answer.text().matches("@blob").count() == 4);
    json(bob.home(), &["files", "pin", "@alice/album"]);
    poll("it is here", || (whole_files(bob.home()) == 1).then_some(()));
    let pin = poll("all of it is", || {
        let pin = json(bob.home(), &["files"])["pins"][0].clone();
        (pin["files_here"] == 1).then_some(pin)
    });
    assert_eq!((&pin["files"], &pin["bytes_total"], &pin["bytes_here"]), (&value!(1), &value!(900_000), &value!(900_000)), "{pin}");
    assert!(bob.send("GET", "/@alice/album/film", &[], "").body == film);
}

#[test]
fn what_was_said_of_files_and_cannot_be_read_is_kept_and_hands_nothing_on() {
    let home = {
        let peer = Peer::start();
        peer.stop()
    };
    let file = home.folder().join("files.json");
    std::fs::write(&file, r#"{"kept_back": ["cut sh"#).expect("room");
    let peer = Peer::start_in(home);
    let told = run(peer.home(), &["files"]);
    assert!(told.code == 0 && told.out.contains("all files of others") && told.out.contains("files.json"), "{told:?}");
    let refused = run(peer.home(), &["files", "pin", "/"]);
    assert!(refused.code != 0 && refused.err.contains("cannot be read") && refused.err.contains("move it away"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), r#"{"kept_back": ["cut sh"#);
}

#[test]
fn files_of_another_own_device_come_when_they_are_pinned_and_fsck_says_which_do_not() {
    let alice = Peer::start();
    let second = super::devices::second(&alice);
    assert_eq!(alice.send("PUT", "/photos/1", &[MP4], bytes(300_000, 1)).status, 200);
    until(&second, "/photos", "a photo", |answer| answer.text().contains("@blob"));
    let checked = run(second.home(), &["fsck"]);
    let told = format!("{}{}", checked.out, checked.err);
    assert!(told.contains("the file at /photos/1 is not here") && told.contains("files pin /photos/1"), "{checked:?}");
    json(second.home(), &["files", "pin", "/photos"]);
    poll("it is here", || (whole_files(second.home()) == 1).then_some(()));
    let pin = &json(second.home(), &["files"])["pins"][0];
    assert_eq!((&pin["path"], &pin["files"], &pin["files_here"]), (&value!("/photos"), &value!(1), &value!(1)), "{pin}");
    assert_eq!(run(second.home(), &["fsck"]).code, 0);
}

#[test]
fn files_of_a_space_that_is_kept_back_go_on_to_nobody() {
    let (alice, bob) = pair();
    let carol = Peer::start();
    join(&carol, &invite(&alice, &[]), "alice");
    let film = bytes(300_000, 3);
    assert_eq!(alice.send("PUT", "/film", &[MP4], &film).status, 200);
    for peer in [&bob, &carol] {
        until(peer, "/@alice", "a film", |answer| answer.text().contains("@blob"));
    }
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film);
    poll("the film is whole", || (whole_files(bob.home()) == 1).then_some(()));
    poll("carol knows bob", || {
        let peers = carol.value("/.sys/peers");
        let count = peers["peers"].as_array().map_or(0, |all| all.iter().filter(|peer| peer["state"] == "connected").count());
        (count >= 2).then_some(())
    });
    // Neither do those who ask by HTTP and are nobody in particular.
    assert_eq!(run(alice.home(), &["grant", "/film", "anyone", "--can", "read"]).code, 0);
    let (path, origin) = (format!("/@{}/film", alice.ready["id"].as_str().expect("a key")), format!("http://{}", bob.authority()));
    let nobody = || bob.send("GET", &path, &[("Origin", &origin)], "");
    poll("anyone may read it at bob's", || (nobody().body == film).then_some(()));
    assert_eq!(json(bob.home(), &["files", "share", "@alice", "no"])["share"], false);
    assert_eq!(nobody().problem(503)["type"], "/.sys/problems/blob-missing");
    assert!(bob.send("GET", "/@alice/film", &[], "").body == film, "he has it himself");
    let alice = alice.stop();
    let problem = carol.send("GET", "/@alice/film", &[("Prefer", "wait=2")], "").problem(504);
    assert_eq!(problem["type"], "/.sys/problems/blob-unavailable", "{problem}");
    assert_eq!(json(bob.home(), &["files"])["kept_back"][0]["name"], "alice");
    json(bob.home(), &["files", "share", "@alice", "yes"]);
    let got = poll("carol gets it from bob", || Some(carol.send("GET", "/@alice/film", &[], "")).filter(|answer| answer.status == 200));
    assert!(got.body == film && nobody().body == film);
    drop(alice);
}
