//! Braid-HTTP down to the bytes, where stock clients would stumble over anything else.

use std::io::{BufRead as _, Read as _};

use serde_json::{Value, json};

use crate::braid::{Body, read_update};
use crate::http::{Client, Headers};
use crate::peer::Peer;

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A write by a client that names its version, and maybe what it wrote upon.
fn write(client: &mut Client, path: &str, version: &str, parents: &str, body: &str) -> crate::http::Answer {
    client.send("PUT", path, &[JSON, ("Version", version), ("Parents", parents)], body)
}

/// All bytes of a body up to and with `end`, without line ends before them.
fn bytes_until(stream: &mut impl std::io::BufRead, end: &[u8]) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("more bytes");
        if !bytes.is_empty() || !matches!(byte[0], b'\r' | b'\n') {
            bytes.push(byte[0]);
        }
    }
    String::from_utf8(bytes).expect("text")
}

#[test]
fn versions_are_json_strings_in_ascii_and_sorted_as_javascript_sorts() {
    let peer = Peer::start();
    let mut client = peer.connect();
    let raw = |answer: crate::http::Answer| answer.header("version").expect("a version").to_owned();
    assert_eq!(raw(write(&mut client, "/v", "\"jos\\u00e9-2\"", "", "1")), r#""jos\u00e9-2""#);
    // Raw UTF-8 is understood, too.
    assert_eq!(raw(write(&mut client, "/v", "\"josé-2\"", "", "1")), r#""jos\u00e9-2""#);
    assert_eq!(raw(write(&mut client, "/w", "\"\u{ff41}-1\"", "", "1")), r#""\uff41-1""#);
    write(&mut client, "/w", "\"\u{1f600}-1\"", "", "2");
    assert_eq!(raw(client.send("GET", "/w", &[], "")), r#""\ud83d\ude00-1", "\uff41-1""#);
    // The draft's display strings kill clients; ours asks for JSON.
    write(&mut client, "/v", "%\"caf%c3%a9\"", "", "1").problem(400);
    write(&mut client, "/v", "\"a-1\", \"b-1\"", "", "1").problem(400);
}

#[test]
fn a_stream_begins_at_once_and_with_these_fields() {
    let peer = Peer::start();
    let headers = [("Subscribe", "true"), ("Peer", "\"p\""), ("Heartbeats", "60")];
    let (status, head, mut stream) = peer.connect().stream("GET", "/nothing", &headers);
    // The head came although nothing was ever written here.
    assert_eq!(status, 209);
    for (name, value) in [
        ("subscribe", "true"),
        ("cache-control", "no-cache, no-transform, no-store"),
        ("content-type", "application/http-history"),
        ("x-accel-buffering", "no"),
        ("heartbeats", "60"),
        ("current-version", ""),
        ("transfer-encoding", "chunked"),
        ("accept-subscribe", "true"),
    ] {
        assert_eq!(head.one(name), Some(value), "{name}");
    }
    assert_eq!((head.one("content-length"), head.one("content-encoding")), (None, None));
    assert_eq!(bytes_until(&mut stream, b"null\r\n\r\n"), "HTTP 404 Not Found\r\nVersion: \r\nParents: \r\nContent-Length: 4\r\n\r\nnull\r\n\r\n");
    let mut client = peer.connect();
    write(&mut client, "/nothing", "\"a-1\"", "", "[1,2]");
    let first = "HTTP 200 OK\r\nVersion: \"a-1\"\r\nParents: \r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n[1,2]\r\n\r\n";
    assert_eq!(bytes_until(&mut stream, b"[1,2]\r\n\r\n"), first);
    client.send("PATCH", "/nothing", &[("Version", "\"a-2\""), ("Content-Range", "json [2:2]")], "[3]");
    let one = "HTTP 200 OK\r\nVersion: \"a-2\"\r\nParents: \"a-1\"\r\nContent-Length: 3\r\nContent-Range: json [2:2]\r\n\r\n[3]\r\n\r\n";
    assert_eq!(bytes_until(&mut stream, b"[3]\r\n\r\n"), one);
}

#[test]
fn several_patches_say_so_twice_and_never_with_a_length() {
    let peer = Peer::start();
    peer.put("/m", &json!({"a": 1, "b": 2}));
    let (_, _, mut stream) = peer.connect().stream("GET", "/m", &[("Subscribe", "true")]);
    read_update(&mut stream).expect("a snapshot");
    peer.send("PATCH", "/m", &[("Content-Type", "application/merge-patch+json"), ("Version", "\"m-1\"")], "{\"a\":3,\"b\":null}");
    let head = bytes_until(&mut stream, b"\r\n\r\n");
    assert!(head.contains("Content-Type: application/http-patches; count=2\r\nPatches: 2\r\n\r\n"), "{head}");
    assert!(head.starts_with("HTTP 200 OK\r\nVersion: \"m-1\"\r\nParents: \"") && !head.contains("Content-Length"), "{head}");
    let patches = bytes_until(&mut stream, b"\r\n\r\n\r\n\r\n");
    let expected =
        "Content-Length: 1\r\nContent-Range: json [\"a\"]\r\n\r\n3\r\n\r\nContent-Length: 0\r\nContent-Range: json [\"b\"]\r\n\r\n\r\n\r\n";
    assert!(patches.starts_with(expected), "{patches:?}");
}

#[test]
fn any_spelling_of_subscribe_subscribes() {
    let peer = Peer::start();
    for spelling in ["true", "?1", "keep-alive", "", "yes, please"] {
        let (status, ..) = peer.connect().stream("GET", "/s", &[("Subscribe", spelling)]);
        assert_eq!(status, 209, "{spelling:?}");
    }
    peer.send("GET", "/s", &[("Subscribe", "true"), ("Version", "\"a-1\"")], "").problem(400);
    for kind in ["yjs-text", "rubbish"] {
        peer.send("GET", "/s", &[("Subscribe", "true"), ("Merge-Type", kind)], "").problem(400);
        peer.send("GET", "/s", &[("Merge-Type", kind)], "").problem(400);
        peer.send("PUT", "/s", &[JSON, ("Merge-Type", kind)], "1").problem(400);
    }
}

#[test]
fn heartbeats_are_line_ends_and_echoed_only_if_kept() {
    let peer = Peer::start();
    peer.put("/h", &json!("beat"));
    let (_, head, mut stream) = peer.connect().stream("GET", "/h", &[("Subscribe", "true"), ("Heartbeats", "0.1 s")]);
    assert_eq!(head.one("heartbeats"), Some("0.1 s"));
    bytes_until(&mut stream, b"\"beat\"\r\n\r\n");
    let mut line = String::new();
    stream.read_line(&mut line).expect("a sign of life");
    assert_eq!(line, "\r\n");
    for unkept in ["0", "never", "1e9"] {
        let (_, head, _) = peer.connect().stream("GET", "/h", &[("Subscribe", "true"), ("Heartbeats", unkept)]);
        assert_eq!(head.one("heartbeats"), if unkept == "1e9" { Some("1e9") } else { None }, "{unkept}");
    }
}

/// The head of an answer about versions that are not known.
fn unknown(answer: &crate::http::Answer) -> Vec<String> {
    answer.problem(309);
    assert_eq!((answer.reason.as_str(), answer.header("retry-after")), ("Version Unknown Here", Some("1")));
    answer.versions()
}

#[test]
fn unknown_versions_are_all_named() {
    let peer = Peer::start();
    let mut client = peer.connect();
    write(&mut client, "/u", "\"a-1\"", "", "1");
    let missing = "\"b-1\", \"a-1\", \"c-1\"";
    for headers in [
        &[("Version", missing)][..],
        &[("Parents", missing)],
        &[("Parents", missing), ("Subscribe", "true")],
        &[("Parents", "\"a-1\""), ("Version", "\"b-1\", \"c-1\"")],
    ] {
        assert_eq!(unknown(&client.send("GET", "/u", headers, "")), ["b-1", "c-1"], "{headers:?}");
    }
    assert_eq!(unknown(&write(&mut client, "/u", "\"d-1\"", missing, "2")), ["b-1", "c-1"]);
    assert_eq!(peer.value("/u"), json!(1));
}

#[test]
fn a_write_that_overtakes_its_parents_waits_for_them() {
    let peer = Peer::start();
    let mut late: Vec<Client> = (0..3).map(|_| peer.connect()).collect();
    let mut others: Vec<Client> = (0..3).map(|_| peer.connect()).collect();
    for (client, number) in late.iter_mut().zip([3, 2, 1]) {
        let (version, parents) = (format!("\"w-{number}\""), format!("\"w-{}\"", number - 1));
        let range = format!("json [\"{number}\"]");
        client.ask("PUT", "/late", &[("Content-Range", &range), ("Version", &version), ("Parents", &parents)], number.to_string());
    }
    // Others are not held up.
    for (number, client) in others.iter_mut().enumerate() {
        assert_eq!(write(client, "/other", &format!("\"o-{number}\""), "", "1").status, 200);
    }
    let first = write(&mut peer.connect(), "/late", "\"w-0\"", "", "{}");
    assert_eq!(first.status, 200);
    for client in &mut late {
        assert_eq!(client.answer(false).expect("an answer").status, 200);
    }
    let value = peer.value("/late");
    assert_eq!((&value["1"], &value["2"], &value["3"]), (&json!(1), &json!(2), &json!(3)));
}

#[test]
fn no_more_than_a_hundred_writes_wait() {
    let peer = Peer::start();
    let mut clients: Vec<Client> = (0..101).map(|_| peer.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask("PUT", "/full", &[JSON, ("Version", &format!("\"x-{number}\"")), ("Parents", "\"never-0\"")], "1");
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| client.answer(false).expect("an answer")).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].header("retry-after"), Some("1"));
    assert_eq!(answers.iter().filter(|answer| answer.status == 309).count(), 100);
    // There is room again.
    unknown(&write(&mut clients[0], "/full", "\"y-1\"", "\"never-0\"", "1"));
}

#[test]
fn a_write_is_answered_with_200_and_what_came_of_the_merge() {
    let peer = Peer::start();
    let mut client = peer.connect();
    let first = write(&mut client, "/m", "\"a-1\"", "", "1");
    assert_eq!((first.status, first.body.len(), first.header("content-length")), (200, 0, Some("0")));
    let second = write(&mut client, "/m", "\"b-1\"", "", "2");
    assert_eq!(second.versions(), ["a-1", "b-1"], "both are there");
    // Said twice it is the same; something else under the same name is refused.
    let again = write(&mut client, "/m", "\"b-1\"", "", "2");
    assert_eq!((again.status, again.versions()), (200, vec!["a-1".to_owned(), "b-1".to_owned()]));
    write(&mut client, "/m", "\"b-1\"", "", "3").problem(409);
    let settled = write(&mut client, "/m", "\"c-1\"", "\"b-1\", \"a-1\"", "3");
    assert_eq!(settled.versions(), ["c-1"]);
}

#[test]
fn who_wrote_upon_all_he_was_told_is_not_told_it_again() {
    let peer = Peer::start();
    let mut client = peer.connect();
    write(&mut client, "/p", "\"a-1\"", "", "[]");
    let (_, _, mut mine) = peer.connect().stream("GET", "/p", &[("Subscribe", "true"), ("Peer", "\"me\"")]);
    let (_, _, mut theirs) = peer.connect().stream("GET", "/p", &[("Subscribe", "true"), ("Peer", "them")]);
    let own = [JSON, ("Version", "\"a-2\""), ("Parents", "\"a-1\""), ("Peer", "me")];
    assert_eq!(client.send("PUT", "/p", &own, "[1]").status, 200);
    // Upon something else than what the stream told last: what comes of it is news to everybody.
    let merged = [JSON, ("Version", "\"a-3\""), ("Parents", "\"a-1\""), ("Peer", "me"), ("Content-Range", "json [0:0]")];
    assert_eq!(client.send("PUT", "/p", &merged, "[0]").status, 200);
    let versions = |stream: &mut dyn std::io::BufRead, count: usize| -> Vec<Vec<String>> {
        let mut stream = stream;
        (0..count).map(|_| read_update(&mut stream).expect("an update").version).collect()
    };
    assert_eq!(versions(&mut theirs, 3), [vec!["a-1"], vec!["a-2"], vec!["a-2", "a-3"]]);
    assert_eq!(versions(&mut mine, 1), [vec!["a-1"]]);
    let rebase = read_update(&mut mine).expect("an update");
    assert_eq!((rebase.version, rebase.parents), (vec!["a-2".to_owned(), "a-3".into()], vec!["a-2".to_owned()]));
}

#[test]
fn a_digest_that_differs_stops_before_anything_is_written() {
    let peer = Peer::start();
    let digest = |byte: u8| {
        use base64::Engine as _;
        format!("sha-256=:{}:", base64::engine::general_purpose::STANDARD.encode([byte; 32]))
    };
    let answer = peer.send("PUT", "/d", &[JSON, ("Repr-Digest", &digest(7))], "1");
    answer.problem(550);
    peer.send("GET", "/d", &[], "").problem(404);
    peer.send("PUT", "/d", &[JSON, ("Repr-Digest", "sha-256=rubbish")], "1").problem(400);
    assert_eq!(peer.send("PUT", "/d", &[JSON, ("Repr-Digest", "crc32c=:AAAAAA==:")], "1").status, 200);
    let right = "sha-256=:a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s=:";
    assert_eq!(peer.send("PUT", "/d", &[JSON, ("Repr-Digest", right)], "1").status, 200);
}

#[test]
fn places_in_json_are_read_as_clients_write_them() {
    let peer = Peer::start();
    for (range, content, after) in [
        ("json [\"list\"][\"1\"]", "\"B\"", json!({"list": ["a", "B", "c"]})),
        ("json .list[1]", "\"B\"", json!({"list": ["a", "B", "c"]})),
        ("json list[-1]", "\"C\"", json!({"list": ["a", "b", "C"]})),
        ("json .list[-0:-0]", "[\"d\"]", json!({"list": ["a", "b", "c", "d"]})),
        ("json .list[-2:-0]", "[]", json!({"list": ["a"]})),
        ("json .list[1:2]", "[]", json!({"list": ["a", "c"]})),
        ("json .list[1]", "", json!({"list": ["a", "c"]})),
        ("json [\"list\"]", "", json!({})),
        ("json .new.deep", "1", json!({"list": ["a", "b", "c"], "new": {"deep": 1}})),
        ("json .list.name", "1", Value::Null),
        ("json ", "7", json!(7)),
    ] {
        peer.put("/j", &json!({"list": ["a", "b", "c"]}));
        let answer = peer.send("PUT", "/j", &[("Content-Range", range)], content);
        if after.is_null() {
            answer.problem(400);
        } else {
            assert_eq!((answer.status, peer.value("/j")), (200, after), "{range}");
        }
    }
}

#[test]
fn what_changed_since_comes_as_a_history_that_ends() {
    let peer = Peer::start();
    let mut client = peer.connect();
    write(&mut client, "/g", "\"a-1\"", "", "{\"n\":1}");
    write(&mut client, "/g", "\"a-2\"", "\"a-1\"", "{\"n\":2}");
    write(&mut client, "/g", "\"a-3\"", "\"a-2\"", "{\"n\":3}");
    for (headers, version, n) in [(&[("Parents", "\"a-1\"")][..], "a-3", 3), (&[("Parents", "\"a-1\""), ("Version", "\"a-2\"")], "a-2", 2)] {
        let answer = client.send("GET", "/g", headers, "");
        assert_eq!((answer.status, answer.reason.as_str()), (209, "Multiresponse"));
        assert_eq!(answer.header("content-type"), Some("application/http-history"));
        let mut stream = &answer.body[..];
        let update = read_update(&mut stream).expect("an update");
        assert_eq!((update.version, update.parents), (vec![version.to_owned()], vec!["a-1".to_owned()]));
        assert_eq!(update.body, Body::Patches(vec![("[\"n\"]".to_owned(), Some(json!(n)))]));
        assert!(read_update(&mut stream).is_none());
    }
}

/// A multiplexer and what comes out of it.
struct Multiplexer(std::io::BufReader<crate::http::OwnedBody>);

const MULTIPLEX: (&str, &str) = ("Multiplex-Version", "1.0");

impl Multiplexer {
    fn open(peer: &Peer, name: &str) -> (Self, Headers) {
        let target = format!("/.well-known/multiplexer/{name}");
        let (status, head, stream) = peer.connect().stream("POST", &target, &[MULTIPLEX]);
        assert_eq!(status, 200);
        (Self(stream), head)
    }

    /// The next line that is not empty.
    fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("a line");
            assert!(line.ends_with("\r\n"), "{line:?}");
            if line != "\r\n" {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Bytes for a request until they end with `end`.
    fn bytes(&mut self, request: &str, end: &str) -> String {
        let mut all = String::new();
        while !all.ends_with(end) {
            let line = self.line();
            let count = line.strip_suffix(&format!(" bytes for response {request}")).and_then(|count| count.parse::<usize>().ok());
            let mut bytes = vec![0; count.unwrap_or_else(|| panic!("bytes for {request}, not {line:?}"))];
            self.0.read_exact(&mut bytes).expect("as many bytes");
            all.push_str(&String::from_utf8(bytes).expect("text"));
        }
        all
    }
}

#[test]
fn a_multiplexer_carries_answers_of_requests_that_name_it() {
    let peer = Peer::start();
    peer.put("/x", &json!("first"));
    let (mut multiplexer, head) = Multiplexer::open(&peer, "m_1-A");
    for (name, value) in [("multiplex-version", "1.0"), ("incremental", "?1"), ("cache-control", "no-store")] {
        assert_eq!(head.one(name), Some(value), "{name}");
    }
    let through = |request: &str| format!("/.well-known/multiplexer/m_1-A/{request}");
    let mut client = peer.connect();
    let ask = |client: &mut Client, path: &str, request: &str, more: &[(&str, &str)]| {
        let through = through(request);
        let headers: Vec<_> = [MULTIPLEX, ("Multiplex-Through", &through)].into_iter().chain(more.iter().copied()).collect();
        client.send("GET", path, &headers, "")
    };
    let answer = ask(&mut client, "/x", "r1", &[("Subscribe", "true")]);
    assert_eq!((answer.status, answer.text().as_str(), answer.header("multiplex-version")), (293, "Ok.", Some("1.0")));
    assert_eq!(answer.header("multiplex-through"), Some(through("r1").as_str()));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(multiplexer.line(), "start response r1");
    let head = multiplexer.bytes("r1", "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 209 Multiresponse\r\n") && head.contains("\r\ncache-control: no-cache, no-transform, no-store\r\n"), "{head}");
    assert!(multiplexer.bytes("r1", "\r\n\r\n").starts_with("HTTP 200 OK\r\n"));
    // The id is in use, and another answer goes its way beside it, to its end.
    let again = ask(&mut client, "/x", "r1", &[]);
    assert_eq!((again.status, again.json()), (409, json!({"error": "Request already multiplexed"})));
    assert_eq!(ask(&mut client, "/x", "r2", &[]).status, 293);
    assert_eq!(multiplexer.line(), "start response r2");
    assert!(multiplexer.bytes("r2", "\"first\"").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(multiplexer.line(), "close response r2");
    peer.put("/x", &json!("second"));
    assert!(multiplexer.bytes("r1", "\r\n\r\n\"second\"\r\n\r\n").contains("Content-Length: 8"));
    // One is ended, and can be asked for again.
    let end = |client: &mut Client, request: &str| client.send("DELETE", &through(request), &[MULTIPLEX], "");
    assert_eq!(end(&mut client, "r1").status, 200);
    assert_eq!(end(&mut client, "r1").header("bad-request"), Some("r1"));
    assert_eq!(end(&mut client, "r1").status, 404);
    assert_eq!(ask(&mut client, "/a//b", "r1", &[]).status, 293);
    assert_eq!(multiplexer.line(), "start response r1");
    assert!(multiplexer.bytes("r1", "}\n").starts_with("HTTP/1.1 400 Bad Request\r\n"));
    assert_eq!(multiplexer.line(), "close response r1");
}

#[test]
fn a_multiplexer_is_its_makers_alone_and_ends_with_its_connection() {
    let peer = Peer::start();
    let mut client = peer.connect();
    let through = [MULTIPLEX, ("Multiplex-Through", "/.well-known/multiplexer/late/r")];
    let none = client.send("GET", "/x", &through, "");
    assert_eq!((none.status, none.header("bad-multiplexer")), (424, Some("late")));
    let (multiplexer, _) = Multiplexer::open(&peer, "late");
    let taken = client.send("POST", "/.well-known/multiplexer/late", &[MULTIPLEX], "");
    assert_eq!((taken.status, taken.json()), (409, json!({"error": "Multiplexer already exists"})));
    // Nobody in particular can neither make one nor use it.
    let stranger = [MULTIPLEX, through[1], ("Sec-Fetch-Site", "none")];
    client.send("GET", "/x", &stranger, "").problem(401);
    client.send("POST", "/.well-known/multiplexer/other", &[MULTIPLEX, ("Sec-Fetch-Site", "none")], "").problem(401);
    assert_eq!(client.send("GET", "/x", &through, "").status, 293);
    drop(multiplexer);
    // It is gone when the peer notices, which a piece that cannot be sent makes sure of.
    loop {
        let answer = client.send("GET", "/x", &through, "");
        if answer.status == 424 {
            break;
        }
        assert!(matches!(answer.status, 293 | 409), "{answer:?}");
    }
}

#[test]
fn what_is_no_multiplexing_of_ours_is_answered_precisely() {
    let peer = Peer::start();
    let mut client = peer.connect();
    client.send("POST", "/.well-known/multiplexer/m", &[], "").problem(400);
    client.send("POST", "/.well-known/multiplexer/m", &[("Multiplex-Version", "2.0")], "").problem(400);
    client.send("POST", "/.well-known/multiplexer/m%20", &[MULTIPLEX], "").problem(400);
    client.send("MULTIPLEX", "/m", &[], "").problem(400);
    client.send("GET", "/x", &[MULTIPLEX, ("Multiplex-Through", "/elsewhere/m/r")], "").problem(400);
    let gone = client.send("DELETE", "/.well-known/multiplexer/m/r", &[MULTIPLEX], "");
    assert_eq!((gone.status, gone.header("bad-multiplexer"), gone.header("multiplex-version")), (404, Some("m"), Some("1.0")));
    // A page may use the method made for it.
    let (status, head, _stream) = client.stream("MULTIPLEX", "/m", &[MULTIPLEX]);
    assert_eq!((status, head.one("multiplex-version")), (200, Some("1.0")));
    // Writes are answered as always.
    let write = peer.send("PUT", "/x", &[JSON, MULTIPLEX, ("Multiplex-Through", "/.well-known/multiplexer/m/r")], "1");
    assert_eq!(write.status, 200);
}
