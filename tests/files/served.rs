use super::{BINARY, bytes, files, put};
use crate::peer::{Home, Peer};

#[test]
fn a_large_file_comes_back_whole_and_in_parts() {
    let peer = Peer::start();
    let whole = bytes(5_000_000, 1);
    assert_eq!(peer.send("PUT", "/film", &[("Content-Type", "video/mp4")], &whole).status, 200);
    let answer = peer.send("GET", "/film", &[], "");
    assert_eq!((answer.header("content-type"), answer.header("accept-ranges")), (Some("video/mp4"), Some("bytes")));
    assert!(answer.body == whole);
    let tag = answer.header("etag").expect("a tag").to_owned();
    let head = peer.send("HEAD", "/film", &[], "");
    assert_eq!((head.header("content-length"), head.header("etag"), head.body.len()), (Some("5000000"), Some(tag.as_str()), 0));
    let parts = [
        ("bytes=0-0", 0..1),
        ("bytes=16383-16384", 16_383..16_385),
        ("bytes=4999999-", 4_999_999..5_000_000),
        ("bytes=-70000", 4_930_000..5_000_000),
    ];
    for (range, expected) in parts.into_iter().chain([("bytes=100000-3000000", 100_000..3_000_001)]) {
        let answer = peer.send("GET", "/film", &[("Range", range)], "");
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes {}-{}/5000000", expected.start, expected.end - 1).as_str()));
        assert!(answer.body == whole[expected], "{range}");
    }
    let answer = peer.send("GET", "/film", &[("Range", "bytes=5000000-")], "");
    assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */5000000")));
    assert_eq!(peer.send("GET", "/film", &[("Range", "bytes=0-9"), ("If-Range", &tag)], "").status, 206);
    assert_eq!(peer.send("GET", "/film", &[("Range", "bytes=0-9"), ("If-Range", "\"another\"")], "").status, 200);
    assert_eq!(peer.send("GET", "/film", &[("If-None-Match", &tag)], "").status, 304);
    // The content is the tag, also for who writes.
    assert_eq!(peer.send("PUT", "/film", &[BINARY, ("If-Match", "\"another\"")], bytes(70_000, 2)).status, 412);
    assert_eq!(peer.send("PUT", "/film", &[BINARY, ("If-Match", &tag)], bytes(70_000, 2)).status, 200);
}

/// Who goes on with a download says which file he has a part of: of another one he gets all. A small file is kept in another way.
#[test]
fn a_part_is_of_the_file_that_was_asked_for_or_all_of_it_comes() {
    let peer = Peer::start();
    for len in [20_000, 300_000] {
        put(&peer, "/x", &bytes(len, 3));
        let old = peer.send("GET", "/x", &[], "").header("etag").expect("a tag").to_owned();
        put(&peer, "/x", &bytes(len, 4));
        let new = peer.send("GET", "/x", &[], "").header("etag").expect("a tag").to_owned();
        let half = format!("bytes={}-", len / 2);
        let part = peer.send("GET", "/x", &[("Range", &half), ("If-Range", &new)], "");
        assert!(part.status == 206 && part.body == bytes(len, 4)[len / 2..], "{len}");
        let all = peer.send("GET", "/x", &[("Range", &half), ("If-Range", &old)], "");
        assert!(all.status == 200 && all.body == bytes(len, 4), "{len}: {}", all.status);
        assert_eq!(all.header("content-range"), None);
        // HEAD tells of all of it: nothing but GET has ranges.
        let head = peer.send("HEAD", "/x", &[("Range", &half)], "");
        let length = len.to_string();
        assert_eq!((head.status, head.header("content-range"), head.header("content-length")), (200, None, Some(length.as_str())));
        assert_eq!(peer.send("GET", "/x", &[("Range", "bytes=400000-")], "").status, 416);
    }
}

/// A copy of a home without the trees of files, as from a backup of something else: what was lost can be made anew.
#[test]
fn a_file_whose_bytes_are_good_is_mended_from_them() {
    let peer = Peer::start();
    let film = bytes(3_000_000, 9);
    put(&peer, "/film", &film);
    let tree = files(peer.home()).into_iter().find(|file| file.extension().is_some_and(|kind| kind == "tree")).expect("a tree");
    std::fs::remove_file(&tree).expect("it is there");
    assert_eq!(peer.send("GET", "/film", &[], "").problem(500)["type"], "/.sys/problems/blob-damaged");
    crate::peers::neighbours::poll("it is mended", || {
        let answer = peer.send("GET", "/film", &[], "");
        (answer.status == 200 && answer.body == film).then_some(())
    });
    std::fs::write(&tree, vec![0; 100]).expect("room");
    let told = |repair: &str| peer.send("POST", "/.sys/fsck", &[], repair).json();
    let problems = told("")["problems"].to_string();
    assert!(problems.contains("the bytes of the file at /film are good"), "{problems}");
    let repaired = told("{\"repair\":true}");
    assert!(repaired["repaired"].to_string().contains("can be checked again"), "{repaired}");
    assert_eq!(repaired["problems"], serde_json::json!([]));
    assert!(peer.send("GET", "/film", &[], "").body == film);
    // Where it cannot even be opened, it is the same: not one byte came from others.
    std::fs::remove_file(&tree).expect("it is there");
    std::os::unix::fs::symlink("/nowhere", &tree).expect("room");
    let problems = told("")["problems"].to_string();
    assert!(problems.contains("the bytes of the file at /film are good"), "{problems}");
    let repaired = told("{\"repair\":true}");
    assert!(repaired["repaired"].to_string().contains("can be checked again"), "{repaired}");
    assert!(peer.send("GET", "/film", &[], "").body == film);
}

#[test]
fn what_a_file_is_shows_in_its_parent() {
    let peer = Peer::start();
    put(&peer, "/a/film", &bytes(100_000, 3));
    let shown = peer.value("/a");
    assert_eq!((shown["film"]["@bytes_total"].as_u64(), shown["film"]["@type"].as_str()), (Some(100_000), Some("application/octet-stream")));
    let named = peer.send("GET", "/a/film", &[("Accept", "application/json")], "").json();
    assert_eq!(named, shown["film"]);
    // The same value at another place is the same file.
    peer.put("/b", &named);
    assert!(peer.send("GET", "/b", &[], "").body == bytes(100_000, 3));
    let posted = peer.send("POST", "/a", &[BINARY], bytes(100_000, 4));
    assert_eq!(posted.status, 201, "{}", posted.text());
    let place = posted.header("location").expect("a place");
    assert!(peer.send("GET", place, &[], "").body == bytes(100_000, 4));
}

#[test]
fn the_same_content_is_kept_once() {
    let peer = Peer::start();
    for path in ["/one", "/two", "/three"] {
        put(&peer, path, &bytes(1_000_000, 5));
    }
    // The bytes, and their hash tree.
    assert_eq!(files(peer.home()).len(), 2, "{:?}", files(peer.home()));
    assert!(peer.send("GET", "/two", &[], "").body == bytes(1_000_000, 5));
}

#[test]
fn an_older_version_still_has_its_bytes() {
    let peer = Peer::start();
    put(&peer, "/x", &bytes(80_000, 6));
    let version = peer.send("HEAD", "/x", &[], "").header("version").expect("a version").to_owned();
    put(&peer, "/x", &bytes(90_000, 7));
    assert!(peer.send("GET", "/x", &[("Version", &version)], "").body == bytes(80_000, 6));
    assert!(peer.send("GET", "/x", &[], "").body == bytes(90_000, 7));
}

#[test]
fn bytes_that_are_lost_or_damaged_are_told_apart() {
    let peer = Peer::start();
    put(&peer, "/lost", &bytes(300_000, 8));
    put(&peer, "/hurt", &bytes(3_000_000, 9));
    let [.., (lost, hurt)] = [0].map(|_| {
        let mut found = files(peer.home()).into_iter().filter(|file| file.extension().is_none());
        let (one, other) = (found.next().expect("a file"), found.next().expect("a file"));
        if one.metadata().expect("a size").len() == 300_000 { (one, other) } else { (other, one) }
    });
    std::fs::remove_file(lost).expect("it is there");
    let mut damaged = std::fs::read(&hurt).expect("it is there");
    damaged[2_000_000] ^= 1;
    std::fs::write(&hurt, damaged).expect("room");

    let problem = peer.send("GET", "/lost", &[("Prefer", "wait=1")], "").problem(504);
    assert_eq!(problem["type"], "/.sys/problems/blob-unavailable", "{problem}");
    assert_eq!(problem["bytes_total"], 300_000);
    assert!(peer.value("/")["lost"].is_object(), "the value is known");
    // What comes before the damage is good; what is damaged is never served.
    let range = |range: &str| peer.send("GET", "/hurt", &[("Range", range)], "");
    assert!(range("bytes=0-1000000").body == bytes(3_000_000, 9)[..1_000_001]);
    assert_eq!(range("bytes=1999000-2001000").problem(500)["type"], "/.sys/problems/blob-damaged");
    let mut client = peer.connect();
    client.ask("GET", "/hurt", &[], "");
    let (status, _, headers) = client.head().expect("a head");
    assert_eq!((status, headers.one("content-length")), (200, Some("3000000")));
    let (rest, _) = client.rest();
    assert!(rest.len() < 2_000_000 && bytes(3_000_000, 9).starts_with(&rest), "{} bytes came", rest.len());

    let report = peer.send("POST", "/.sys/fsck", &[], "").json();
    let problems: Vec<&str> = report["problems"].as_array().expect("a list").iter().filter_map(|problem| problem.as_str()).collect();
    assert!(problems.iter().any(|problem| problem.contains("/lost") && problem.contains("missing")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("/hurt") && problem.contains("damaged")), "{problems:?}");
    // Putting the same files again mends both.
    put(&peer, "/lost", &bytes(300_000, 8));
    put(&peer, "/hurt", &bytes(3_000_000, 9));
    assert!(peer.send("GET", "/hurt", &[], "").body == bytes(3_000_000, 9));
    assert_eq!(peer.send("POST", "/.sys/fsck", &[], "").json()["problems"], serde_json::json!([]));
}

#[test]
fn memory_stays_flat() {
    use std::io::Write as _;
    let peer = Peer::start();
    put(&peer, "/warm", &bytes(2_000_000, 10));
    peer.send("GET", "/warm", &[], "");
    let before = peer.resident_bytes();
    let mut client = peer.connect();
    let (piece, pieces) = (bytes(1 << 20, 11), 160);
    client.ask("PUT", "/large", &[BINARY, ("Content-Length", &(pieces << 20).to_string())], "");
    for _ in 0..pieces {
        client.socket().write_all(&piece).expect("the peer takes it");
    }
    assert_eq!(client.answer(false).expect("an answer").status, 200);
    client.ask("GET", "/large", &[], "");
    let (status, _, headers) = client.head().expect("a head");
    assert_eq!((status, headers.one("content-length")), (200, Some((160 << 20).to_string().as_str())));
    let mut body = client.body(&headers);
    let mut read = 0;
    let mut buffer = vec![0; 1 << 20];
    while read < 160 << 20 {
        let len = std::io::Read::read(&mut body, &mut buffer).expect("it goes on");
        assert!(len > 0, "cut at {read}");
        read += len;
    }
    let grown = peer.resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more for a file of 160 MiB");
}

#[test]
fn limits_are_kept_and_nothing_is_left_behind() {
    let home = Home::new();
    let mut command = std::process::Command::new(crate::peer::PROGRAM);
    let net = [&crate::peer::NET[..], &["--blob-limit", "1MB"]].concat();
    let peer = Peer::launch_as(home, &mut command, &net).unwrap_or_else(|(home, status)| panic!("{status}\n{}", home.log()));
    assert_eq!(crate::peers::neighbours::run(peer.home(), &["personas", "new", "work"]).code, 0);
    assert_eq!(peer.send("PUT", "/@work/over", &[BINARY], bytes(1_200_000, 14)).problem(413)["type"], "/.sys/problems/quota");
    put(&peer, "/fits", &bytes(600_000, 12));
    let left = files(peer.home());
    let problem = peer.send("PUT", "/over", &[BINARY], bytes(600_000, 13)).problem(413);
    assert_eq!(problem["type"], "/.sys/problems/quota", "{problem}");
    // Of unknown length: as far as it goes.
    let mut client = peer.connect();
    client.write(format!("PUT /over HTTP/1.1\r\nHost: {}\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n", peer.authority()));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    while client.try_write(chunk.as_bytes()) {}
    if let Some(answer) = client.answer(false) {
        answer.problem(413);
    }
    peer.send("GET", "/over", &[], "").problem(404);
    // As large as no disk is.
    let mut client = peer.connect();
    client.ask("PUT", "/over", &[("Content-Type", "image/png"), ("Content-Length", "100000000000000")], "");
    client.write(bytes(100_000, 14));
    client.answer(false).expect("an answer").problem(413);
    drop(client);
    let peer = peer.restart();
    assert_eq!(files(peer.home()), left);
}
