use serde_json::json;

use crate::peer::Peer;

#[test]
fn curl_d_is_read_as_json_and_what_is_not_gets_a_fix() {
    let peer = Peer::start();
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(peer.send("PUT", "/notes/hi", &form, "\"hello\"").status, 200);
    assert_eq!(peer.value("/notes/hi"), json!("hello"));
    assert_eq!(peer.send("PUT", "/notes/none", &[], "{\"a\":1}").status, 200);
    assert_eq!(peer.value("/notes/none"), json!({"a": 1}));
    let problem = peer.send("PUT", "/notes/hi", &form, "hello").problem(415);
    assert!(problem["fix"].as_str().is_some_and(|fix| fix.contains("text/plain")), "{problem}");
    assert_eq!(peer.value("/notes/hi"), json!("hello"));
    let problem = peer.send("PUT", "/notes/hi", &[("Content-Type", "application/json")], "hello").problem(400);
    assert!(problem["detail"].as_str().is_some(), "{problem}");
}

#[test]
fn text_stays_text() {
    let peer = Peer::start();
    let text = "# Title\n\nß and 😀\r\n";
    for (sent, kept) in [
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/markdown", "text/markdown; charset=utf-8"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
    ] {
        assert_eq!(peer.send("PUT", "/page", &[("Content-Type", sent)], text).status, 200);
        let answer = peer.send("GET", "/page", &[], "");
        assert_eq!((answer.header("content-type"), answer.text().as_str()), (Some(kept), text));
    }
    peer.send("PUT", "/page", &[("Content-Type", "text/plain")], b"\xff\xfe").problem(415);
    assert_eq!(peer.send("GET", "/page", &[], "").text(), text);
}

#[test]
fn a_string_is_given_as_text_to_those_who_ask() {
    let peer = Peer::start();
    peer.put("/s", &json!("a\"b"));
    assert_eq!(peer.send("GET", "/s", &[], "").text(), "\"a\\\"b\"");
    assert_eq!(peer.send("GET", "/s", &[("Accept", "application/json")], "").text(), "\"a\\\"b\"");
    let answer = peer.send("GET", "/s", &[("Accept", "text/plain")], "");
    assert_eq!(answer.text(), "a\"b");
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
}

#[test]
fn bytes_come_back_as_they_were_with_ranges() {
    let peer = Peer::start();
    let bytes: Vec<u8> = (0..=255).cycle().take(60_000).collect();
    assert_eq!(peer.send("PUT", "/file.bin", &[("Content-Type", "image/png")], &bytes).status, 200);
    let answer = peer.send("GET", "/file.bin", &[], "");
    assert_eq!(answer.header("content-type"), Some("image/png"));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert!(answer.body == bytes);
    for (range, expected) in [("bytes=0-9", 0..10), ("bytes=59990-", 59_990..60_000), ("bytes=-5", 59_995..60_000), ("bytes=10-10", 10..11)] {
        let answer = peer.send("GET", "/file.bin", &[("Range", range)], "");
        assert_eq!(answer.status, 206, "{range}");
        assert_eq!(answer.header("content-range"), Some(format!("bytes {}-{}/60000", expected.start, expected.end - 1).as_str()));
        assert!(answer.body == bytes[expected], "{range}");
    }
    let answer = peer.send("GET", "/file.bin", &[("Range", "bytes=60000-")], "");
    assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */60000")));
    // A range that is no range is not there.
    assert_eq!(peer.send("GET", "/file.bin", &[("Range", "bytes=9-1")], "").status, 200);
    let parent = peer.value("/");
    assert!(parent["file.bin"].is_object(), "a file inside JSON is described, not printed: {parent}");
}

#[test]
fn a_part_of_a_json_value_can_be_asked_for() {
    let peer = Peer::start();
    peer.put("/x", &json!({"list": [0, 1, 2, 3, 4], "o": {"k": "v"}}));
    for (range, expected) in
        [("json .list[1:3]", json!([1, 2])), ("json .list[-2:-0]", json!([3, 4])), ("json .o[\"k\"]", json!("v")), ("json=.list[0]", json!(0))]
    {
        let answer = peer.send("GET", "/x", &[("Range", range)], "");
        assert_eq!(answer.status, 206, "{range}: {}", answer.text());
        assert_eq!(answer.json(), expected, "{range}");
    }
    peer.send("GET", "/x", &[("Range", "json .list[4:9]")], "").problem(416);
}

#[test]
fn json_lines_give_every_leaf_once() {
    let peer = Peer::start();
    peer.put("/t", &json!({"a": {"b": 1, "c": {}}, "d": [true, {"e": null}], "sp ace": "x"}));
    let answer = peer.send("GET", "/t", &[("Accept", "application/x-ndjson")], "");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<serde_json::Value> = answer.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    for line in &lines {
        let path = line["path"].as_str().expect("a path");
        let target = path.replace(' ', "%20");
        assert_eq!(peer.value(&target), line["value"], "{path}");
    }
    assert_eq!(lines[0], json!({"path": "/t/a/b", "value": 1}));
}

#[test]
fn what_has_no_common_form_is_still_answered() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": 1}));
    // Browsers ask for pictures and get what there is rather than an error that they cannot show.
    let answer = peer.send("GET", "/x", &[("Accept", "image/avif")], "");
    assert!(matches!(answer.status, 200 | 406), "{}", answer.status);
}

#[test]
fn text_and_files_can_be_appended() {
    let peer = Peer::start();
    peer.put("/list", &json!([1]));
    for (kind, body) in [("text/plain", &b"gr\xc3\xbc\xc3\x9fe"[..]), ("image/png", b"\x89PNG\x00\xff")] {
        let answer = peer.send("POST", "/feed", &[("Content-Type", kind)], body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        let place = answer.header("location").expect("a place").to_owned();
        assert_eq!(peer.send("GET", &place, &[("Accept", kind)], "").body, body);
        assert_eq!(peer.send("POST", "/list", &[("Content-Type", kind)], body).status, 201);
    }
    assert_eq!(peer.value("/list"), json!([1, "gr\u{fc}\u{df}e", {"@bytes": "iVBORwD/", "@type": "image/png"}]));
    peer.send("POST", "/feed", &[("Content-Type", "text/plain")], b"\xff").problem(415);
}
