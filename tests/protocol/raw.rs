use std::time::Duration;

use serde_json::{Value, json};

use crate::data;
use crate::peer::Peer;

/// A request as bytes, and how many requests a correct reader may see in it.
struct Case {
    name: String,
    bytes: Vec<u8>,
    requests: usize,
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'0') => out.push(0),
            Some(other) => out.extend([b'\\', other]),
            None => out.push(b'\\'),
        }
    }
    out
}

fn gunicorn() -> Option<Vec<Case>> {
    let files = data::archive("04-protocol/gunicorn-raw-requests.tar.gz")?;
    let expected = files.iter().find(|(name, _)| name == "expected.json").map(|(_, content)| content).expect("the expectations");
    let expected: Value = serde_json::from_slice(expected).expect("JSON");
    let cases = files.iter().filter_map(|(name, content)| {
        let name = name.strip_suffix(".http")?;
        let text = String::from_utf8_lossy(content).replace(['\r', '\n'], "");
        let requests = expected[name].as_array().or_else(|| expected[name]["requests"].as_array()).map_or(1, Vec::len);
        Some(Case { name: name.to_owned(), bytes: unescape(&text), requests })
    });
    Some(cases.collect())
}

fn llhttp() -> Option<Vec<Case>> {
    let files = data::archive("04-protocol/llhttp-md.tar.gz")?;
    let mut cases = Vec::new();
    for (file, content) in &files {
        let text = String::from_utf8_lossy(content);
        let mut rest = text.as_ref();
        while let Some((before, behind)) = rest.split_once("```http\n") {
            let (request, behind) = behind.split_once("```").expect("the end of a block");
            let log = behind.split_once("```log\n").and_then(|(_, log)| log.split_once("```")).map_or("", |(log, _)| log);
            let title = before.rsplit("\n#").next().and_then(|title| title.lines().next()).unwrap_or_default();
            // In these files a line end is CRLF, and escapes are written out.
            let request = request.strip_suffix('\n').unwrap_or(request);
            let mut bytes = Vec::new();
            for line in request.split('\n') {
                match line.strip_suffix('\\') {
                    Some(line) => bytes.extend(unescape(line)),
                    None => {
                        bytes.extend(unescape(line));
                        bytes.extend(b"\r\n");
                    }
                }
            }
            cases.push(Case {
                name: format!("{file}: {}", title.trim_matches(['#', ' '])),
                bytes,
                requests: log.matches("message begin").count().max(1),
            });
            rest = behind;
        }
    }
    Some(cases)
}

/// Writes the peer's name over every host.
fn with_host(bytes: &[u8], authority: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.len() > 5 && line[..5].eq_ignore_ascii_case(b"host:") {
            out.extend_from_slice(format!("Host: {authority}\r\n").as_bytes());
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

/// Statuses of the answers in a stream.
fn statuses(stream: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(stream);
    text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok()).collect()
}

/// Sends each case, with a request behind it that must not be swallowed or doubled.
fn nothing_breaks(cases: &[Case]) {
    let peer = Peer::start();
    peer.put("/safe", &json!("untouched"));
    let authority = peer.authority();
    let results: Vec<(String, Vec<u16>, usize)> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for case in cases {
            for bytes in [case.bytes.clone(), with_host(&case.bytes, &authority)] {
                let (peer, authority) = (&peer, &authority);
                threads.push(scope.spawn(move || {
                    let mut client = peer.connect();
                    client.socket().set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
                    let mut all = bytes;
                    all.extend_from_slice(format!("GET /safe HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").as_bytes());
                    client.try_write(&all);
                    let (stream, _) = client.rest();
                    (case.name.clone(), statuses(&stream), case.requests)
                }));
            }
        }
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    let mut answered = 0;
    for (name, statuses, requests) in &results {
        assert!(statuses.iter().all(|status| *status < 500 || *status == 501 || *status == 505), "{name}: {statuses:?}");
        assert!(statuses.len() <= requests + 1, "{name} has {requests} requests and was answered {statuses:?}");
        // Whoever is told that his request is malformed is told nothing more on that connection.
        let malformed = statuses.iter().position(|status| *status == 400 || *status == 431);
        assert!(malformed.is_none_or(|at| at + 1 >= statuses.len() || statuses[at] != 431), "{name}: {statuses:?}");
        answered += usize::from(!statuses.is_empty());
    }
    eprintln!("{} raw requests, {answered} of them answered", results.len());
    assert_eq!(peer.value("/safe"), json!("untouched"));
}

#[test]
fn the_raw_requests_of_gunicorn_break_nothing() {
    if let Some(cases) = gunicorn() {
        nothing_breaks(&cases);
    }
}

#[test]
fn the_samples_of_llhttp_break_nothing() {
    if let Some(cases) = llhttp() {
        nothing_breaks(&cases);
    }
}

#[test]
fn no_second_request_hides_in_a_body() {
    let peer = Peer::start();
    let authority = peer.authority();
    let hidden = format!("PUT /smuggled HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 1\r\n\r\n1");
    for (name, head) in [
        ("two lengths", "Content-Length: 0\r\nContent-Length: LEN\r\n"),
        ("two lengths, the other way", "Content-Length: LEN\r\nContent-Length: 0\r\n"),
        ("a list of lengths", "Content-Length: 0, LEN\r\n"),
        ("a signed length", "Content-Length: +LEN\r\n"),
        ("a hex length", "Content-Length: 0x0\r\n"),
        ("a length with a blank", "Content-Length : 0\r\n"),
        ("length and chunks", "Content-Length: LEN\r\nTransfer-Encoding: chunked\r\n"),
        ("chunks twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("chunks first", "Transfer-Encoding: chunked, identity\r\n"),
        ("strange chunks", "Transfer-Encoding: xchunked\r\n"),
        ("tab before chunked", "Transfer-Encoding:\tchunked\r\n"),
        ("a folded line", "X: 1\r\n Transfer-Encoding: chunked\r\n"),
        ("a bare carriage return", "X: 1\rTransfer-Encoding: chunked\r\n"),
        ("a zero byte", "X: \0\r\nContent-Length: 0\r\n"),
        // What does end there is followed by another one, or this would show nothing.
        ("no body", "Content-Length: 0\r\n"),
    ] {
        let head = head.replace("LEN", &hidden.len().to_string());
        let mut client = peer.connect();
        client.socket().set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        // Whoever closes his side would not be listened to any more.
        let end = format!("GET /end HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        client.try_write(format!("PUT /cover HTTP/1.1\r\nHost: {authority}\r\nContent-Type: text/plain\r\n{head}\r\n{hidden}{end}").as_bytes());
        let statuses = statuses(&client.rest().0);
        let is_smuggled = peer.send("GET", "/smuggled", &[], "").status == 200;
        // A second request is one only where the first one's end is beyond doubt.
        let is_clear = matches!(name, "a folded line" | "no body");
        assert!(!is_smuggled || is_clear, "{name}: {statuses:?}");
        assert!(is_smuggled || name != "no body", "{name}: {statuses:?}");
        peer.send("DELETE", "/smuggled", &[], "");
    }
}

#[test]
fn many_requests_at_once_are_answered_in_order() {
    let peer = Peer::start();
    let mut client = peer.connect();
    for number in 0..30 {
        client.ask("PUT", &format!("/p/{number}"), &[("Content-Type", "application/json")], number.to_string());
        client.ask("GET", &format!("/p/{number}"), &[], "");
        client.ask("GET", &format!("/absent/{number}"), &[], "");
    }
    for number in 0..30 {
        assert_eq!(client.answer(false).expect("an answer").status, 200);
        assert_eq!(client.answer(false).expect("an answer").json(), json!(number));
        client.answer(false).expect("an answer").problem(404);
    }
}

#[test]
fn a_body_may_come_in_chunks_and_byte_by_byte() {
    let peer = Peer::start();
    let mut client = peer.connect();
    client.write(format!("PUT /c HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", peer.authority()));
    for piece in ["1\r\n[\r\n", "2;x=y\r\n1,\r\n", "2\r\n2]\r\n", "0\r\nTrailer: x\r\n\r\n"] {
        for byte in piece.bytes() {
            client.write([byte]);
        }
    }
    assert_eq!(client.answer(false).expect("an answer").status, 200);
    assert_eq!(peer.value("/c"), json!([1, 2]));
    client.ask("PUT", "/c", &[("Content-Type", "application/json"), ("Expect", "100-continue"), ("Content-Length", "1")], "");
    let (status, _, _) = client.head().expect("an answer");
    assert_eq!(status, 100);
    client.write("3");
    assert_eq!(client.answer(false).expect("an answer").status, 200);
    assert_eq!(peer.value("/c"), json!(3));
}
