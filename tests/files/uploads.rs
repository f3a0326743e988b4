use serde_json::json;

use super::{bytes, files, run};
use crate::peer::{DEADLINE, Home, Peer};

const MP4: (&str, &str) = ("Content-Type", "video/mp4");
const PART: (&str, &str) = ("Content-Type", "application/partial-upload");

fn begin(peer: &Peer, path: &str, headers: &[(&str, &str)]) -> String {
    let answer = peer.send("PUT", path, &[&[MP4, ("Upload-Complete", "?0")], headers].concat(), "");
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.header("location").expect("a place").to_owned()
}

fn offset(peer: &Peer, place: &str) -> u64 {
    let answer = peer.send("HEAD", place, &[], "");
    assert_eq!((answer.status, answer.header("upload-complete")), (204, Some("?0")), "{place}");
    answer.header("upload-offset").and_then(|offset| offset.parse().ok()).expect("an offset")
}

#[test]
fn what_would_be_refused_in_the_end_is_before_it_is_sent() {
    let peer = Peer::start();
    assert_eq!(peer.send("PUT", "/film", &[MP4], bytes(100_000, 1)).status, 200);
    for (path, condition) in [("/film", ("If-None-Match", "*")), ("/other", ("If-Match", "*"))] {
        let mut client = peer.connect();
        client.ask("PUT", path, &[MP4, condition, ("Expect", "100-continue"), ("Content-Length", "900000")], "");
        assert_eq!(client.head().expect("an answer").0, 412, "{path}");
        let begun = peer.send("PUT", path, &[MP4, condition, ("Upload-Complete", "?0")], "");
        assert_eq!((begun.status, begun.header("location")), (412, None), "{path}");
    }
    assert_eq!(peer.send("GET", "/.sys/blobs", &[], "").json()["uploads"], json!([]));
    let mut client = peer.connect();
    client.ask("PUT", "/other", &[MP4, ("If-None-Match", "*"), ("Expect", "100-continue"), ("Content-Length", "900000")], "");
    assert_eq!(client.head().expect("an answer").0, 100);
}

#[test]
fn who_says_what_his_file_is_gets_no_other_one_taken() {
    let peer = Peer::start();
    let digest = timebus_net::signature::content_digest;
    for (len, seed) in [(20_000, 1), (300_000, 2)] {
        let (file, other) = (bytes(len, seed), digest(&bytes(len, 9)));
        for (name, status) in [("Repr-Digest", 550), ("Content-Digest", 400)] {
            let answer = peer.send("PUT", "/x", &[MP4, (name, &other)], &file);
            assert_eq!(answer.status, status, "{name} of {len}: {}", answer.text());
            assert_eq!(peer.send("GET", "/x", &[], "").status, 404);
            assert_eq!(peer.send("PUT", "/x", &[MP4, (name, "sha-256=x")], &file).status, 400);
        }
        let good = digest(&file);
        assert_eq!(peer.send("PUT", "/x", &[MP4, ("Repr-Digest", &good), ("Content-Digest", &good)], &file).status, 200);
        assert_eq!(peer.send("DELETE", "/x", &[], "").status, 200);
        // One that comes in parts is looked at in the end, and each part as it comes.
        for (said, status) in [(&other, 550), (&good, 200)] {
            let place = begin(&peer, "/x", &[("Repr-Digest", said)]);
            let (first, second) = file.split_at(len / 2);
            let part = |at: usize, part: &[u8], digest: String, is_last: &str| {
                let headers = [PART, ("Upload-Offset", &at.to_string()), ("Content-Digest", &digest), ("Upload-Complete", is_last)];
                peer.send("PATCH", &place, &headers, part).status
            };
            assert_eq!(part(0, first, digest(first), "?0"), 204);
            assert_eq!(part(first.len(), second, digest(second), "?1"), status);
        }
        assert!(peer.send("GET", "/x", &[], "").body == file);
        assert_eq!(peer.send("DELETE", "/x", &[], "").status, 200);
    }
}

/// What an earlier try got is of a file that was replaced since by a small one.
#[test]
fn a_download_goes_on_with_no_other_file() {
    let peer = Peer::start();
    assert_eq!(peer.send("PUT", "/cut", &[MP4], bytes(400_000, 1)).status, 200);
    let tag = peer.send("HEAD", "/cut", &[], "").header("etag").expect("a tag").to_owned();
    assert_eq!(peer.send("PUT", "/cut", &[MP4], bytes(20_000, 2)).status, 200);
    let copy = peer.home().beside("copy.mp4");
    for have in [15_000, 20_000, 30_000] {
        std::fs::write(peer.home().beside(".copy.mp4.part"), &bytes(400_000, 1)[..have]).expect("room");
        std::fs::write(peer.home().beside(".copy.mp4.part-of"), &tag).expect("room");
        let (code, out, err) = run(peer.home(), &["get", "/cut", "-o", &copy.display().to_string()]);
        assert_eq!(code, 0, "{out}{err}");
        assert!(std::fs::read(&copy).expect("a file") == bytes(20_000, 2), "{have}");
    }
    // All of it had come, and the end was cut off.
    let tag = peer.send("HEAD", "/cut", &[], "").header("etag").expect("a tag").to_owned();
    std::fs::write(peer.home().beside(".copy.mp4.part"), bytes(20_000, 2)).expect("room");
    std::fs::write(peer.home().beside(".copy.mp4.part-of"), &tag).expect("room");
    let (code, out, err) = run(peer.home(), &["get", "/cut", "-o", &copy.display().to_string()]);
    assert!(code == 0 && std::fs::read(&copy).expect("a file") == bytes(20_000, 2), "{out}{err}");
}

/// The disk lost a byte of a film, and the backup is all that is left of it one day.
#[test]
fn what_is_left_of_a_damaged_file_goes_into_the_backup_and_it_is_told() {
    let home = Home::new();
    let film = bytes(3_000_000, 1);
    let peer = Peer::start_in(home);
    assert_eq!(peer.send("PUT", "/film", &[MP4], &film).status, 200);
    let file = files(peer.home()).into_iter().find(|file| file.extension().is_none()).expect("a file");
    let mut damaged = film.clone();
    damaged[2_000_000] ^= 1;
    std::fs::write(&file, damaged).expect("room");
    let (_, _, told) = run(peer.home(), &["backup", &peer.home().beside("whole.tar").display().to_string()]);
    assert!(!told.contains("not whole"), "nobody has read it yet: {told}");
    assert_eq!(peer.send("GET", "/film", &[("Range", "bytes=2000000-2000009")], "").status, 500);
    crate::peers::neighbours::poll("it is a part", || (!file.exists()).then_some(()));
    let tar = peer.home().beside("backup.tar").display().to_string();
    let (code, out, told) = run(peer.home(), &["backup", &tar, "--json"]);
    assert!(code == 0 && out.contains("\"files_lacking\":1"), "{out} {told}");
    let (_, _, told) = run(peer.home(), &["backup", &tar]);
    assert!(told.contains("1 file of yours is not whole here"), "{told}");
    let other = Home::new();
    let (code, out, told) = run(&other, &["restore", &tar]);
    assert_eq!(code, 0, "{out} {told}");
    let restored = Peer::start_in(other);
    let report = restored.send("POST", "/.sys/fsck", &[], "").json();
    assert_eq!(report["files"][0]["bytes_here"], 3_000_000 - 128 * 1024, "{report}");
    assert!(restored.send("GET", "/film", &[("Range", "bytes=0-99999")], "").body == film[..100_000]);
}

/// One sees that his film comes "from nobody yet", and gives that up: what is here of it is all there is.
#[test]
fn what_is_left_of_a_damaged_file_of_ones_own_is_not_cancelled() {
    let home = Home::new();
    let film = bytes(3_000_000, 1);
    let mut peer = Peer::start_in(home);
    assert_eq!(peer.send("PUT", "/films/one", &[MP4], &film).status, 200);
    let file = files(peer.home()).into_iter().find(|file| file.extension().is_none()).expect("a file");
    let mut damaged = film.clone();
    damaged[2_000_000] ^= 1;
    std::fs::write(&file, damaged).expect("room");
    assert_eq!(peer.send("GET", "/films/one", &[("Range", "bytes=2000000-2000009")], "").status, 500);
    crate::peers::neighbours::poll("it is a part", || (!file.exists()).then_some(()));
    let good = |peer: &Peer| {
        let answer = peer.send("GET", "/films/one", &[("Range", "bytes=0-99999")], "");
        answer.status == 206 && answer.body == film[..100_000]
    };
    assert!(good(&peer));
    for which in ["/films/one", "/films"] {
        let told = peer.send("POST", "/.sys/blobs/cancel", &[("Content-Type", "application/json")], json!({"which": which}).to_string()).json();
        assert_eq!(told["files"][0]["bytes_own"], 3_000_000 - 128 * 1024, "{told}");
        assert!(good(&peer), "{which}");
    }
    let (code, out, err) = run(peer.home(), &["files", "cancel", "/films/one"]);
    assert!(code == 0 && out.contains("2.87 MB of 3.00 MB stay, which were put in here"), "{out}{err}");
    // Nor by a peer that has no network.
    let home = peer.stop();
    let (code, out, err) = run(&home, &["files", "cancel", "/films/one"]);
    assert!(code == 0 && out.contains("2.87 MB of 3.00 MB stay"), "{out}{err}");
    peer = Peer::start_in(home);
    assert!(good(&peer));
}

/// A file system lost the end of a file. All but that is good.
#[test]
fn of_a_file_that_was_cut_short_all_that_is_good_is_read() {
    let peer = Peer::start();
    let film = bytes(3_000_000, 1);
    assert_eq!(peer.send("PUT", "/film", &[MP4], &film).status, 200);
    let file = files(peer.home()).into_iter().find(|file| file.extension().is_none()).expect("a file");
    std::fs::OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(2_900_000)).expect("its own");
    let _ = peer.send("GET", "/film", &[], "");
    crate::peers::neighbours::poll("what is good is read", || {
        let answer = peer.send("GET", "/film", &[("Range", "bytes=2000000-2799999")], "");
        (answer.status == 206 && answer.body == film[2_000_000..2_800_000]).then_some(())
    });
    peer.send("GET", "/film", &[("Range", "bytes=2950000-2999999"), ("Prefer", "wait=0")], "").problem(504);
    assert_eq!(peer.send("PUT", "/film", &[MP4], &film).status, 200);
    assert!(peer.send("GET", "/film", &[], "").body == film);
}

/// There is no room for the two bytes that are missing, and none is needed for the others.
#[test]
fn what_is_here_of_a_file_is_read_also_where_there_is_no_room() {
    let film = bytes(3_000_000, 1);
    let mut home = Home::new();
    for limit in ["100MB", "3MB"] {
        let net = [&crate::peer::NET[..], &["--blob-limit", limit]].concat();
        let peer = Peer::launch_as(home, &mut std::process::Command::new(crate::peer::PROGRAM), &net).unwrap_or_else(|_| panic!("starts"));
        if limit == "100MB" {
            assert_eq!(peer.send("PUT", "/film", &[MP4], &film).status, 200);
            let file = files(peer.home()).into_iter().find(|file| file.extension().is_none()).expect("a file");
            let mut damaged = film.clone();
            damaged[2_000_000] ^= 1;
            std::fs::write(&file, damaged).expect("room");
            assert_eq!(peer.send("GET", "/film", &[("Range", "bytes=2000000-2000009")], "").status, 500);
            crate::peers::neighbours::poll("it is a part", || (!file.exists()).then_some(()));
            assert_eq!(peer.send("PUT", "/other", &[MP4], bytes(1_000_000, 2)).status, 200);
        } else {
            let good = peer.send("GET", "/film", &[("Range", "bytes=0-99999")], "");
            assert!(good.status == 206 && good.body == film[..100_000], "{}", good.text());
            let problem = peer.send("GET", "/film", &[("Range", "bytes=2000000-2000009")], "").problem(413);
            assert!(problem["missing_from"] == 2_000_000 && problem["fix"].as_str().is_some_and(|fix| fix.contains("read it again")), "{problem}");
        }
        home = peer.stop();
    }
}

/// A recording that goes on, and a film of which the beginning is written last.
#[test]
fn a_file_that_changes_while_it_is_put_is_not_saved_as_what_it_never_was() {
    let peer = Peer::start();
    let file = peer.home().beside("film.mp4");
    for grows in [true, false] {
        std::fs::File::create(&file).and_then(|file| file.set_len(160_000_000)).expect("room");
        let uploads = || peer.send("GET", "/.sys/blobs", &[], "").json()["uploads"].as_array().map_or(0, Vec::len);
        let (code, _, err) = std::thread::scope(|scope| {
            let put = scope.spawn(|| run(peer.home(), &["put", "/film", &format!("@{}", file.display())]));
            crate::peers::neighbours::poll("it has begun", || (uploads() == 1).then_some(()));
            let mut options = std::fs::OpenOptions::new();
            let mut film = options.append(grows).write(true).open(&file).expect("it is there");
            std::io::Write::write_all(&mut film, b"more").expect("room");
            put.join().expect("it ends")
        });
        assert!(code != 0 && err.contains("changed while it was sent, and nothing of it was saved"), "{grows}: {err}");
        assert_eq!((uploads(), peer.send("GET", "/film", &[], "").status), (0, 404), "{grows}");
    }
}

#[test]
fn what_cannot_be_kept_as_it_was_meant_is_refused() {
    let peer = Peer::start();
    let small = bytes(20_000, 1);
    let large = bytes(300_000, 1);
    // A body that is compressed would be garbage to whoever reads it.
    for (method, body, kind) in [("PUT", &small, "image/svg+xml"), ("POST", &large, "image/svg+xml"), ("PATCH", &small, "application/json")] {
        let headers = [("Content-Encoding", "gzip"), ("Content-Type", kind)];
        let answer = peer.send(method, "/x", &headers, body);
        assert_eq!((answer.status, answer.header("accept-encoding")), (415, Some("identity")), "{method}: {}", answer.text());
    }
    assert_eq!(peer.send("PUT", "/x", &[("Content-Encoding", "Identity"), MP4], &small).status, 200);
    // No text that merges is so long.
    let answer = peer.send("PUT", "/text", &[("Content-Type", "text/plain")], "x".repeat((16 << 20) + 1));
    assert_eq!(answer.problem(413)["type"], "/.sys/problems/too-large");
    // The first part of an upload is no file.
    for (method, kind) in [("POST", "video/mp4"), ("POST", "application/json"), ("PATCH", "application/json")] {
        let answer = peer.send(method, "/up", &[("Content-Type", kind), ("Upload-Complete", "?0")], "[1]");
        assert_eq!(answer.problem(400)["type"], "/.sys/problems/upload", "{method} {kind}");
    }
    assert_eq!(peer.send("GET", "/up", &[], "").status, 404);
    // What comes beyond the length that was said, also where it is not said how much comes.
    let place = begin(&peer, "/film", &[("Upload-Length", "300000")]);
    let mut client = peer.connect();
    client.write(format!(
        "PATCH {place} HTTP/1.1\r\nHost: {}\r\nContent-Type: {}\r\nUpload-Offset: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        peer.authority(),
        PART.1
    ));
    for chunk in bytes(320_000, 1).chunks(10_000).map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()) {
        client.write(&chunk);
    }
    client.write(b"0\r\n\r\n");
    let (status, ..) = client.head().expect("an answer");
    assert_eq!(status, 400);
    let have = offset(&peer, &place);
    assert!(have <= 300_000, "{have}");
    let rest = peer.send("PATCH", &place, &[PART, ("Upload-Offset", &have.to_string()), ("Upload-Complete", "?1")], &large[have as usize..]);
    assert_eq!(rest.status, 200, "{}", rest.text());
    assert!(peer.send("GET", "/film", &[], "").body == large);
}

#[test]
fn an_upload_goes_on_after_a_cut_and_after_a_crash() {
    let whole = bytes(3_000_000, 1);
    let peer = Peer::start();
    let place = begin(&peer, "/film", &[("Upload-Length", "3000000"), ("If-None-Match", "*")]);
    assert_eq!(offset(&peer, &place), 0);
    // The connection is lost in the middle of a part, of which the peer has kept some.
    let mut client = peer.connect();
    let headers = [PART, ("Upload-Offset", "0"), ("Upload-Complete", "?1"), ("Content-Length", "3000000")];
    client.ask("PATCH", &place, &headers, "");
    client.write(&whole[..1_200_000]);
    let began = std::time::Instant::now();
    let is_part = |file: &std::path::PathBuf| file.extension().is_none();
    while !files(peer.home()).iter().any(is_part) {
        assert!(began.elapsed() < DEADLINE, "nothing comes");
        std::thread::yield_now();
    }
    drop(client);
    // The question where to go on ends what may be left of the broken request.
    let have = offset(&peer, &place);
    assert!(have > 0, "what came is kept");
    assert!(have <= 1_200_000, "{have}");
    peer.send("GET", "/film", &[], "").problem(404);
    let problem = peer.send("PATCH", &place, &[PART, ("Upload-Offset", "7")], "x").problem(409);
    assert_eq!((problem["expected-offset"].as_u64(), problem["provided-offset"].as_u64()), (Some(have), Some(7)));
    let at = have.to_string();
    let answer = peer.send("PATCH", &place, &[PART, ("Upload-Offset", &at), ("Upload-Complete", "?0")], &whole[have as usize..2_000_000]);
    assert_eq!((answer.status, answer.header("upload-offset")), (204, Some("2000000")), "{}", answer.text());
    let peer = Peer::start_in(peer.kill());
    let have = offset(&peer, &place);
    assert!(have <= 2_000_000);
    let answer = peer.send("PATCH", &place, &[PART, ("Upload-Offset", &have.to_string()), ("Upload-Complete", "?1")], &whole[have as usize..]);
    assert_eq!((answer.status, answer.header("upload-complete")), (200, Some("?1")), "{}", answer.text());
    assert!(!answer.versions().is_empty());
    let got = peer.send("GET", "/film", &[], "");
    assert_eq!(got.header("content-type"), Some("video/mp4"));
    assert!(got.body == whole);
    // It is over, and that is known for a while.
    let over = peer.send("HEAD", &place, &[], "");
    assert_eq!((over.status, over.header("upload-complete"), over.header("upload-offset")), (204, Some("?1"), Some("3000000")));
    assert_eq!(peer.send("DELETE", &place, &[], "").status, 204);
    assert_eq!(peer.send("HEAD", &place, &[], "").status, 404);
    assert_eq!(files(peer.home()).len(), 2, "{:?}", files(peer.home()));
}

/// Somebody stopped in the middle, and does not go on.
#[test]
fn an_upload_that_was_begun_is_listed_and_can_be_given_up() {
    let peer = Peer::start();
    let place = begin(&peer, "/films/a%20film", &[("Upload-Length", "3000000")]);
    let other = begin(&peer, "/other", &[]);
    let part = [PART, ("Upload-Offset", "0"), ("Upload-Complete", "?0")];
    assert_eq!(peer.send("PATCH", &place, &part, bytes(200_000, 3)).status, 204);
    let peer = peer.restart();
    let told = peer.value("/.sys/blobs");
    let uploads = told["uploads"].as_array().expect("a list");
    assert_eq!(uploads.iter().map(|upload| upload["path"].as_str()).collect::<Vec<_>>(), [Some("/films/a film"), Some("/other")]);
    assert_eq!(
        (&uploads[0]["bytes_here"], &uploads[0]["bytes_total"], &uploads[1]["bytes_total"]),
        (&json!(200_000), &json!(3_000_000), &json!(null))
    );
    assert!(told["bytes"] == 200_000 && place.ends_with(uploads[0]["id"].as_str().expect("a name")), "{told}");
    let (code, listed, _) = run(peer.home(), &["files"]);
    assert!(code == 0 && listed.contains("upload") && listed.contains("files cancel '/films/a film'"), "{listed}");
    let (code, gone, problem) = run(peer.home(), &["files", "cancel", "/films"]);
    assert!(code == 0 && gone.contains("given up") && gone.contains("/films/a film"), "{gone}{problem}");
    assert_eq!(peer.send("HEAD", &place, &[], "").status, 404);
    assert_eq!((offset(&peer, &other), &peer.value("/.sys/blobs")["bytes"]), (0, &json!(0)));
    let (code, _, problem) = run(peer.home(), &["files", "cancel", "/films"]);
    assert!(code != 0 && problem.contains("timebus files"), "{problem}");
}

/// Uploads that were begun, by path, with their ids.
fn begun(peer: &Peer) -> Vec<(String, String)> {
    let told = peer.value("/.sys/blobs");
    let of = |upload: &serde_json::Value| (upload["path"].as_str().expect("a path").to_owned(), upload["id"].as_str().expect("an id").to_owned());
    told["uploads"].as_array().expect("a list").iter().map(of).collect()
}

#[test]
fn an_upload_is_given_up_by_its_id() {
    let peer = Peer::start();
    let places = ["/film", "/film/2"].map(|path| begin(&peer, path, &[]));
    let (_, id) = begun(&peer).into_iter().find(|(path, _)| path == "/film/2").expect("it was begun");
    let (code, gone, problem) = run(peer.home(), &["files", "cancel", &id]);
    assert!(code == 0 && gone.contains("given up") && gone.contains("/film/2"), "{gone}{problem}");
    assert_eq!((peer.send("HEAD", &places[1], &[], "").status, offset(&peer, &places[0])), (404, 0));
}

#[test]
fn an_upload_is_given_up_by_its_path_and_no_other_one_with_it() {
    let peer = Peer::start();
    let places = ["/film", "/film/2", "/film-2"].map(|path| begin(&peer, path, &[]));
    let (code, gone, problem) = run(peer.home(), &["files", "cancel", "/film"]);
    assert!(code == 0 && gone.contains("/film") && !gone.contains("/film/2") && !gone.contains("/film-2"), "{gone}{problem}");
    assert_eq!(peer.send("HEAD", &places[0], &[], "").status, 404);
    assert_eq!((offset(&peer, &places[1]), offset(&peer, &places[2])), (0, 0));
    assert_eq!(begun(&peer).into_iter().map(|(path, _)| path).collect::<Vec<_>>(), ["/film-2", "/film/2"]);
}

/// The last part has come, and the line broke before its answer did.
#[test]
fn who_did_not_hear_the_last_answer_is_told_it_again_and_sends_nothing_twice() {
    let peer = Peer::start();
    let whole = bytes(300_000, 11);
    let put = [MP4, ("Upload-Complete", "?0"), ("Idempotency-Key", "film-3"), ("Upload-Length", "300000"), ("If-None-Match", "*")];
    let place = begin(&peer, "/film", &put[2..]);
    let last = |at: &str, bytes: &[u8]| peer.send("PATCH", &place, &[PART, ("Upload-Offset", at), ("Upload-Complete", "?1")], bytes);
    let lost = last("0", &whole);
    assert_eq!(lost.status, 200, "{}", lost.text());
    let again = peer.send("PUT", "/film", &put, "");
    let said = [again.header("location"), again.header("upload-complete"), again.header("upload-offset")];
    assert_eq!((again.status, said), (201, [Some(place.as_str()), Some("?1"), Some("300000")]), "{}", again.text());
    let heard = last("300000", b"");
    assert_eq!((heard.status, heard.versions(), heard.header("upload-complete")), (200, lost.versions(), Some("?1")), "{}", heard.text());
    last("300000", b"x").problem(400);
    last("0", &whole).problem(409);
    assert_eq!(peer.send("GET", "/film", &[], "").versions(), lost.versions(), "it was written once");
    let peer = peer.restart();
    assert_eq!(peer.send("HEAD", &place, &[], "").header("upload-complete"), Some("?1"), "also over a restart");
    // Who asks for something else with the same key, or for what is not there any more, begins anew.
    let other = begin(&peer, "/film", &put[2..4]);
    assert_eq!(offset(&peer, &other), 0);
    for place in [&other, "/film"] {
        peer.send("DELETE", place, &[], "");
    }
    let anew = begin(&peer, "/film", &put[2..]);
    assert!(anew != place && anew != other);
    assert_eq!(offset(&peer, &anew), 0);
    let rest = [PART, ("Upload-Offset", "0"), ("Upload-Complete", "?1")];
    assert_eq!(peer.send("PATCH", &anew, &rest, &whole).status, 200);
    assert!(peer.send("GET", "/film", &[], "").body == whole);
}

/// The peer was killed when the bytes were at their place, before or after the value was written, and before it said so.
#[test]
fn what_came_whole_before_a_crash_is_not_sent_again() {
    for is_written in [false, true] {
        let peer = Peer::start();
        let whole = bytes(300_000, 12);
        let place = begin(&peer, "/film", &[("Idempotency-Key", "film-4"), ("Upload-Length", "300000"), ("If-None-Match", "*")]);
        let last = |peer: &Peer, at: &str, bytes: &[u8]| peer.send("PATCH", &place, &[PART, ("Upload-Offset", at), ("Upload-Complete", "?1")], bytes);
        if is_written {
            assert_eq!(last(&peer, "0", &whole).status, 200);
        } else {
            // The bytes are here, and what is at the path is not what they were sent for.
            peer.put("/film", &json!("somebody was faster"));
            last(&peer, "0", &whole).problem(412);
            peer.send("DELETE", "/film", &[], "");
        }
        let home = peer.kill();
        let record = home.folder().join("blobs/uploads").join(format!("{}.json", place.rsplit('/').next().expect("a name")));
        let mut about: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).expect("a record")).expect("JSON");
        assert_eq!(about["whole"]["len"], 300_000, "{about}");
        assert_eq!(about["whole"].as_object_mut().expect("an object").remove("answer").is_some(), is_written);
        std::fs::write(&record, about.to_string()).expect("room");
        let peer = Peer::start_in(home);
        assert_eq!(offset(&peer, &place), 300_000, "all of it is here");
        let answer = last(&peer, "300000", b"");
        assert_eq!((answer.status, answer.header("upload-complete")), (200, Some("?1")), "{}", answer.text());
        assert!(peer.send("GET", "/film", &[], "").body == whole);
        assert_eq!(peer.send("HEAD", &place, &[], "").header("upload-complete"), Some("?1"));
    }
}

/// The peer is killed in the middle of parts, right behind their answers, and right behind the last one, whose answer is lost.
#[test]
fn an_upload_that_is_killed_again_and_again_loses_nothing_that_was_acknowledged() {
    let whole = bytes(3_000_000, 13);
    let put = [MP4, ("Upload-Complete", "?0"), ("Idempotency-Key", "film-5"), ("Upload-Length", "3000000"), ("If-None-Match", "*")];
    let mut peer = Peer::start();
    let mut acknowledged = 0;
    for (round, len) in [0, 70_000, 500_000, 131_072, 16_384, 600_000, 1].into_iter().enumerate() {
        // Who lost the place, too, finds it by the key.
        let begun = peer.send("PUT", "/film", &put, "");
        assert_eq!(begun.status, 201, "{}", begun.text());
        let place = begun.header("location").expect("a place").to_owned();
        let have = offset(&peer, &place);
        assert!((acknowledged..=acknowledged + 600_000).contains(&have), "round {round}: {have} of {acknowledged}");
        let part = &whole[have as usize..have as usize + len];
        let at = have.to_string();
        if round % 2 == 0 {
            let answer = peer.send("PATCH", &place, &[PART, ("Upload-Offset", &at), ("Upload-Complete", "?0")], part);
            assert_eq!(answer.status, 204, "{}", answer.text());
            acknowledged = have + len as u64;
        } else {
            let mut client = peer.connect();
            client.ask("PATCH", &place, &[PART, ("Upload-Offset", &at), ("Upload-Complete", "?1"), ("Content-Length", "2000000")], "");
            client.write(part);
            acknowledged = have;
        }
        peer = Peer::start_in(peer.kill());
        peer.send("GET", "/film", &[], "").problem(404);
    }
    let place = peer.send("PUT", "/film", &put, "").header("location").expect("a place").to_owned();
    let have = offset(&peer, &place) as usize;
    let mut client = peer.connect();
    let (at, rest) = (have.to_string(), (whole.len() - have).to_string());
    client.ask("PATCH", &place, &[PART, ("Upload-Offset", &at), ("Upload-Complete", "?1"), ("Content-Length", &rest)], "");
    client.write(&whole[have..]);
    peer = Peer::start_in(peer.kill());
    let told = peer.send("HEAD", &place, &[], "");
    let have = told.header("upload-offset").and_then(|at| at.parse::<usize>().ok()).expect("an offset");
    let last = [PART, ("Upload-Offset", &have.to_string()), ("Upload-Complete", "?1")];
    let answer = peer.send("PATCH", &place, &last, &whole[have..]);
    assert_eq!((answer.status, answer.header("upload-complete")), (200, Some("?1")), "{}", answer.text());
    let peer = Peer::start_in(peer.kill());
    assert!(peer.send("GET", "/film", &[], "").body == whole);
    assert_eq!(files(peer.home()).iter().filter(|file| file.extension().is_none()).count(), 1, "{:?}", files(peer.home()));
}

/// Somebody stands between, without TLS, and sends other bytes than those that were signed, or not all of them.
#[test]
fn of_a_signed_upload_nothing_stays_that_was_not_signed() {
    let peer = Peer::start();
    let seed = std::fs::read(peer.home().folder().join("keys/device.key")).expect("a key");
    let device = timebus_identity::SecretKey::from_seed(seed.try_into().expect("32 bytes"));
    let (first, second, other) = ("a".repeat(400_000), "b".repeat(900_000), "e".repeat(900_000));
    // A signature is good once.
    let (now_s, made) = (crate::who::signed::now_s(), std::cell::Cell::new(0));
    let sign = |method: &str, path: &str, headers: &[(&'static str, &str)], body: &str| {
        made.set(made.get() + 1);
        crate::who::signed::signed_with(&peer, &device, method, path, headers, body, now_s - made.get())
    };
    let send = |method: &str, path: &str, headers: &[(&'static str, &str)], signed: &str, sent: &str| {
        crate::who::signed::send(&peer, method, path, &sign(method, path, headers, signed), sent)
    };
    let begin = [("content-type", "video/mp4"), ("upload-complete", "?0"), ("upload-length", "1300000"), ("idempotency-key", "film-5")];
    send("PUT", "/film", &begin, &first, &other[..400_000]).problem(401);
    let begun = send("PUT", "/film", &begin, &first, &first);
    assert_eq!((begun.status, begun.header("upload-offset")), (201, Some("400000")), "{}", begun.text());
    let place = begun.header("location").expect("a place").to_owned();
    let rest = [("content-type", "application/partial-upload"), ("upload-offset", "400000"), ("upload-complete", "?1")];
    send("PATCH", &place, &rest, &second, &other).problem(401);
    assert_eq!(offset(&peer, &place), 400_000, "what was not signed does not stay");
    peer.send("GET", "/film", &[], "").problem(404);
    // It is cut off, and nobody knows whether what came is what was signed.
    let more = [("content-type", "application/partial-upload"), ("upload-offset", "400000"), ("upload-complete", "?0")];
    let headers = sign("PATCH", &place, &more, &second);
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(("Content-Length", "900000"));
    let mut client = peer.connect();
    client.ask("PATCH", &place, &headers, "");
    client.write(&other.as_bytes()[..700_000]);
    let came =
        || files(peer.home()).iter().filter(|file| file.extension().is_none()).any(|file| file.metadata().is_ok_and(|about| about.len() > 400_000));
    let began = std::time::Instant::now();
    while !came() {
        assert!(began.elapsed() < DEADLINE, "nothing comes");
        std::thread::yield_now();
    }
    // Nor after a crash.
    let peer = Peer::start_in(peer.kill());
    assert_eq!(offset(&peer, &place), 400_000);
    drop(client);
    let rest = [PART, ("Upload-Offset", "400000"), ("Upload-Complete", "?1")];
    assert_eq!(peer.send("PATCH", &place, &rest, &second).status, 200);
    assert!(peer.send("GET", "/film", &[], "").body == [first, second].concat().as_bytes());
}

#[test]
fn the_conditions_of_the_first_request_hold_at_the_end() {
    let peer = Peer::start();
    let place = begin(&peer, "/film", &[("If-None-Match", "*")]);
    peer.put("/film", &json!("somebody was faster"));
    let answer = peer.send("PATCH", &place, &[PART, ("Upload-Offset", "0"), ("Upload-Complete", "?1")], bytes(100_000, 2));
    answer.problem(412);
    assert_eq!(peer.value("/film"), json!("somebody was faster"));
}

#[test]
fn the_same_upload_is_found_again_by_its_key() {
    let peer = Peer::start();
    let key = [("Idempotency-Key", "film-1"), ("Upload-Length", "9")];
    let place = begin(&peer, "/film", &key);
    let answer = peer.send("PATCH", &place, &[PART, ("Upload-Offset", "0"), ("Upload-Complete", "?0")], "abcd");
    assert_eq!(answer.status, 204, "{}", answer.text());
    let again = peer.send("PUT", "/film", &[&[MP4, ("Upload-Complete", "?0")], &key[..]].concat(), "");
    assert_eq!((again.header("location"), again.header("upload-offset")), (Some(place.as_str()), Some("4")));
    assert_ne!(begin(&peer, "/other", &key), place, "another target is another upload");
    assert_eq!(peer.send("DELETE", &place, &[], "").status, 204);
    peer.send("PATCH", &place, &[PART, ("Upload-Offset", "4")], "efghi").problem(404);
    // Longer than it said.
    let place = begin(&peer, "/film", &key);
    peer.send("PATCH", &place, &[PART, ("Upload-Offset", "0"), ("Upload-Complete", "?1")], "abcdefghijk").problem(400);
    for (headers, status) in [
        (&[("Content-Type", "video/mp4"), ("Upload-Offset", "0")][..], 415),
        (&[PART], 400),
        (&[PART, ("Upload-Offset", "-1")], 400),
        (&[PART, ("Upload-Offset", "99999999999999999999")], 400),
    ] {
        peer.send("PATCH", &place, headers, "x").problem(status);
    }
    for name in ["x", "..%2F..%2Fkeys%2Fspace", ".", "%2E%2E"] {
        let status = peer.send("HEAD", &format!("/.sys/uploads/{name}"), &[], "").status;
        assert!(matches!(status, 400 | 404), "{name}: {status}");
    }
}

/// Somebody sends a film over a slow line, and the peer is about to be restarted.
#[test]
fn who_uploads_slowly_keeps_nobody_from_restarting_the_peer_and_goes_on_after_it() {
    let peer = Peer::start();
    let whole = bytes(1_000_000, 5);
    let place = begin(&peer, "/film", &[("Upload-Length", "1000000")]);
    let mut client = peer.connect();
    let headers = [PART, ("Upload-Offset", "0"), ("Upload-Complete", "?1"), ("Content-Length", "1000000")];
    client.ask("PATCH", &place, &headers, "");
    client.write(&whole[..600_000]);
    let began = std::time::Instant::now();
    while !files(peer.home()).iter().any(|file| file.extension().is_none()) {
        assert!(began.elapsed() < DEADLINE, "nothing comes");
        std::thread::yield_now();
    }
    let quiet = || peer.send("POST", "/.sys/quiet", &[("Content-Type", "application/json")], "{}").json()["writing"].as_u64();
    while quiet() != Some(0) {
        assert!(began.elapsed() < DEADLINE, "it is waited for");
        std::thread::yield_now();
    }
    let cut = client.answer(false).expect("it hears why").problem(503);
    assert!(cut["type"].as_str().is_some_and(|kind| kind.ends_with("/quiet")), "{cut}");
    let peer = peer.restart();
    let have = offset(&peer, &place);
    let rest = [PART, ("Upload-Offset", &have.to_string()), ("Upload-Complete", "?1")];
    assert_eq!(peer.send("PATCH", &place, &rest, &whole[have as usize..]).status, 200);
    assert!(peer.send("GET", "/film", &[], "").body == whole);
}

/// As when a machine loses its network in the middle of the first request, and comes back with another address.
#[test]
fn who_begins_the_same_upload_again_does_not_wait_for_the_connection_before() {
    let peer = Peer::start();
    let key = [MP4, ("Upload-Complete", "?0"), ("Idempotency-Key", "film-2"), ("Upload-Length", "1000000")];
    let mut client = peer.connect();
    client.ask("PUT", "/film", &[&key[..], &[("Content-Length", "1000000")]].concat(), "");
    client.write(bytes(600_000, 8));
    let began = std::time::Instant::now();
    while !files(peer.home()).iter().any(|file| file.extension().is_none()) {
        assert!(began.elapsed() < DEADLINE, "nothing comes");
        std::thread::yield_now();
    }
    // It neither says nor sends anything more, and is still open.
    let again = peer.send("PUT", "/film", &key, "");
    assert_eq!(again.status, 201, "{}", again.text());
    let have: u64 = again.header("upload-offset").and_then(|offset| offset.parse().ok()).expect("an offset");
    assert!(have <= 600_000, "{have}");
    let place = again.header("location").expect("a place");
    let rest = &bytes(1_000_000, 8)[have as usize..];
    let done = peer.send("PATCH", place, &[PART, ("Upload-Offset", &have.to_string()), ("Upload-Complete", "?1")], rest);
    assert_eq!(done.status, 200, "{}", done.text());
    let before = client.answer(false).expect("it hears why").problem(409);
    assert_eq!(before["title"], "another request goes on with this upload", "{before}");
}

#[test]
fn the_command_line_puts_and_gets_large_files() {
    let peer = Peer::start();
    let file = peer.home().beside("film.mp4");
    let whole = bytes(20_000_000, 3);
    std::fs::write(&file, &whole).expect("room");
    let (code, out, err) = run(peer.home(), &["put", "/film", &format!("@{}", file.display())]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(peer.send("HEAD", "/film", &[], "").header("content-type"), Some("video/mp4"));
    // What an earlier try has got is not fetched again.
    let copy = peer.home().beside("copy.mp4");
    std::fs::write(peer.home().beside(".copy.mp4.part"), &whole[..7_000_000]).expect("room");
    let tag = peer.send("HEAD", "/film", &[], "").header("etag").expect("a tag").to_owned();
    std::fs::write(peer.home().beside(".copy.mp4.part-of"), tag).expect("room");
    let (code, out, err) = run(peer.home(), &["--json", "get", "/film", "-o", &copy.display().to_string()]);
    assert_eq!(code, 0, "{out}{err}");
    let said: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((said["bytes"].as_u64(), said["resumed_at"].as_u64()), (Some(20_000_000), Some(7_000_000)));
    assert!(std::fs::read(&copy).expect("a file") == whole);
    assert!(!peer.home().beside(".copy.mp4.part").exists());
    // A part that is another file's is noticed in the end.
    std::fs::write(peer.home().beside(".copy.mp4.part"), vec![0; 1000]).expect("room");
    let tag = peer.send("HEAD", "/film", &[], "").header("etag").expect("a tag").to_owned();
    std::fs::write(peer.home().beside(".copy.mp4.part-of"), tag).expect("room");
    let (code, _, err) = run(peer.home(), &["get", "/film", "-o", &copy.display().to_string()]);
    assert_eq!(code, 1, "{err}");
}

#[test]
fn what_is_no_file_is_written_to_and_stays_what_it_is() {
    use std::os::unix::fs::FileTypeExt as _;
    let home = Home::new();
    let file = home.beside("film.mp4");
    std::fs::write(&file, bytes(3_000_000, 9)).expect("room");
    let (code, _, err) = run(&home, &["put", "/film", &format!("@{}", file.display())]);
    assert_eq!(code, 0, "{err}");
    let pipe = home.beside("pipe");
    let to = pipe.display().to_string();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    for verb in
        [&["get", "/film", "-o", &to][..], &["export", "/", &to, "--format", "json"], &["export", "/", &to, "--format", "ndjson"], &["backup", &to]]
    {
        let taken = std::fs::File::create(home.beside("taken")).expect("room");
        let mut reader = std::process::Command::new("timeout").arg("60").arg("cat").arg(&pipe).stdout(taken).spawn().expect("cat");
        let (code, out, err) = run(&home, verb);
        reader.wait().expect("cat");
        let came = std::fs::read(home.beside("taken")).expect("a file");
        assert!(code == 0 && std::fs::symlink_metadata(&pipe).expect("a pipe").file_type().is_fifo(), "{verb:?}: {out}{err}");
        assert!(!came.is_empty() && (verb[0] != "get" || came == bytes(3_000_000, 9)), "{verb:?}: {} bytes", came.len());
    }
    let (code, out, err) = run(&home, &["get", "/film", "-o", "-"]);
    assert!(code == 0 && out.len() > 1_000_000 && !std::path::Path::new("-").exists(), "{err}");
}

#[test]
fn a_large_file_is_no_line_of_json() {
    let home = Home::new();
    for (name, size, part) in [("small", 1000, "base64"), ("large", 3_000_000, "bytes")] {
        let file = home.beside(&format!("{name}.mp4"));
        std::fs::write(&file, bytes(size, 6)).expect("room");
        let (code, _, err) = run(&home, &["put", &format!("/{name}"), &format!("@{}", file.display())]);
        assert_eq!(code, 0, "{err}");
        let (code, out, err) = run(&home, &["--json", "get", &format!("/{name}")]);
        let told: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {} bytes", out.len()));
        assert!(code == 0 && told.get(part).is_some() && out.len() < 10_000, "{name}: {} bytes, {err}", out.len());
    }
}

#[test]
fn folders_with_large_files_go_in_and_out_also_by_backup() {
    let home = Home::new();
    let folder = home.beside("in");
    std::fs::create_dir_all(folder.join("sub")).expect("room");
    let (large, small) = (bytes(9_000_000, 4), bytes(200_000, 5));
    std::fs::write(folder.join("sub/large.bin"), &large).expect("room");
    std::fs::write(folder.join("small.png"), &small).expect("room");
    let path = folder.display().to_string();
    let (code, out, err) = run(&home, &["import", "/files", &path]);
    assert_eq!(code, 0, "{out}{err}");
    let backup = home.beside("backup.tar").display().to_string();
    let (code, out, err) = run(&home, &["backup", &backup]);
    assert_eq!(code, 0, "{out}{err}");
    let other = Home::new();
    let (code, out, err) = run(&other, &["restore", &backup]);
    assert_eq!(code, 0, "{out}{err}");
    for home in [&home, &other] {
        let target = home.beside("out").display().to_string();
        let (code, out, err) = run(home, &["export", "/files", &target, "--format", "dir"]);
        assert_eq!(code, 0, "{out}{err}");
        assert!(std::fs::read(home.beside("out").join("sub/large.bin")).expect("a file") == large);
        assert!(std::fs::read(home.beside("out").join("small.png")).expect("a file") == small);
        let (code, out, err) = run(home, &["fsck"]);
        assert_eq!(code, 0, "{out}{err}");
    }
}

/// A second export into the same folder got all files again, however large they were.
#[test]
fn an_export_given_again_leaves_what_is_right_and_gets_what_is_not() {
    use std::os::unix::fs::MetadataExt as _;

    let (home, folder) = (Home::new(), tempfile::tempdir().expect("a folder"));
    let films: Vec<Vec<u8>> = (0..4).map(|number| bytes(300_000, number)).collect();
    std::fs::create_dir(folder.path().join("sub")).expect("room");
    for (film, name) in films.iter().zip(["a.bin", "b.bin", "c.bin", "sub/d.bin"]) {
        std::fs::write(folder.path().join(name), film).expect("room");
    }
    std::fs::write(folder.path().join("note.txt"), "la la").expect("room");
    let (code, out, err) = run(&home, &["import", "/files", &folder.path().display().to_string()]);
    assert_eq!(code, 0, "{out}{err}");
    let target = home.beside("out");
    let to = target.display().to_string();
    let export = |left: &str| {
        let (code, out, err) = run(&home, &["export", "/files", &to, "--format", "dir"]);
        assert!(code == 0 && out.contains("5 files in ") && out.trim_end().ends_with(left), "{out}{err}");
    };
    let inode = |name: &str| std::fs::symlink_metadata(target.join(name)).expect("it is there").ino();
    let is_right = || {
        let is = |(film, name): (&Vec<u8>, &str)| std::fs::read(target.join(name)).is_ok_and(|found| found == *film);
        films.iter().zip(["a.bin", "b.bin", "c.bin", "sub/d.bin"]).all(is)
            && std::fs::read(target.join("note.txt")).is_ok_and(|note| note == b"la la")
    };
    export("s");
    assert!(is_right());
    let names = ["a.bin", "b.bin", "c.bin", "sub/d.bin", "note.txt"];
    let before = names.map(inode);
    export("all of them left as they were");
    assert!(is_right() && names.map(inode) == before);
    // One is gone, one is shorter, one was changed at one byte and has its time of before, and one is a link to the right bytes.
    std::fs::remove_file(target.join("a.bin")).expect("it is there");
    std::fs::write(target.join("b.bin"), &films[1][..299_999]).expect("room");
    let about = std::fs::metadata(target.join("c.bin")).expect("it is there");
    let mut changed = films[2].clone();
    changed[150_000] ^= 1;
    std::fs::write(target.join("c.bin"), &changed).expect("room");
    let file = std::fs::File::options().write(true).open(target.join("c.bin")).expect("it is there");
    file.set_modified(about.modified().expect("a time")).expect("it can be set");
    std::fs::rename(target.join("sub/d.bin"), home.beside("d.bin")).expect("room");
    std::os::unix::fs::symlink(home.beside("d.bin"), target.join("sub/d.bin")).expect("a link");
    export("1 of them left as they were");
    assert!(is_right() && inode("note.txt") == before[4]);
    assert!(std::fs::symlink_metadata(target.join("sub/d.bin")).expect("it is there").is_file());
}
