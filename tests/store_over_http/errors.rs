use serde_json::json;

use crate::peer::Peer;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn every_error_is_a_problem_that_says_what_to_do() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": 1}));
    for (method, target, headers, body, status, has_fix) in [
        ("GET", "/absent", vec![], "", 404, true),
        ("GET", "/a//b", vec![], "", 400, true),
        ("GET", "/a/%2e%2e/b", vec![], "", 400, true),
        ("GET", "/%zz", vec![], "", 400, true),
        ("PUT", "/x", vec![JSON], "{", 400, false),
        ("PUT", "/x", vec![JSON], "{\"a\":1,\"a\":2}", 400, false),
        ("PUT", "/x", vec![JSON], "1e400", 400, false),
        ("PUT", "/x", vec![("Content-Type", "nonsense")], "1", 415, false),
        ("PATCH", "/x", vec![("Content-Type", "image/png")], "1", 415, true),
        ("POST", "/x", vec![("Content-Type", "nonsense")], "1", 415, false),
        ("POST", "/x", vec![JSON], "hello", 400, false),
        ("PUT", "/.auth/x", vec![JSON], "1", 403, true),
        ("POST", "/.auth/grants", vec![JSON], "{\"who\":\"anyone\"}", 400, false),
        ("DELETE", "/.auth/grants/nobody", vec![], "", 404, false),
        ("PUT", "/.sys/status", vec![JSON], "1", 404, false),
        ("GET", "/.sys/nothing", vec![], "", 404, true),
        ("BREW", "/x", vec![], "", 405, false),
        ("PUT", "/x", vec![JSON, ("Content-Range", "json [0]")], "1", 400, false),
        ("GET", "/x", vec![("Subscribe", "true"), ("Version", "\"a\"")], "", 400, false),
        ("GET", "/x", vec![("Subscribe", "true"), ("Merge-Type", "dt")], "", 406, false),
        ("GET", "/x", vec![("Subscribe", "true"), ("Merge-Type", "yjs")], "", 400, false),
    ] {
        let answer = peer.send(method, target, &headers, body);
        let problem = answer.problem(status);
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("/.sys/problems/")), "{problem}");
        assert!(!has_fix || problem["fix"].is_string(), "{method} {target} has no fix: {problem}");
    }
    assert_eq!(peer.value("/"), json!({"x": {"a": 1}}));
}

/// `curl -d` says that it sends a form. What is JSON is told what is wrong with it, not that strings need quotes.
#[test]
fn json_that_cannot_be_kept_is_told_why_also_where_nobody_says_that_it_is_json() {
    let peer = Peer::start();
    for headers in [&[JSON][..], &[("Content-Type", "application/x-www-form-urlencoded")], &[]] {
        let problem = peer.send("PUT", "/x", headers, "{\"a\":1,\"a\":2}").problem(400);
        assert_eq!(problem["fix"], "name every key of an object once", "{problem}");
    }
    let problem = peer.send("PUT", "/x", &[("Content-Type", "application/x-www-form-urlencoded")], "hello").problem(415);
    assert!(problem["fix"].as_str().is_some_and(|fix| fix.contains("quotes")), "{problem}");
}

#[test]
fn more_values_than_memory_is_good_for_are_refused() {
    let peer = Peer::start();
    let many = format!("[{}0]", "0,".repeat(250_000));
    for headers in [&[JSON][..], &[("Content-Type", "application/x-www-form-urlencoded")], &[]] {
        let problem = peer.send("PUT", "/many", headers, &many).problem(413);
        assert!(problem["fix"].as_str().is_some_and(|fix| fix.contains("PATCH")), "{problem}");
    }
    peer.send("PUT", "/many", &[JSON, ("Content-Range", "json [\"a\"]")], &many).problem(400);
    peer.send("GET", "/many", &[], "").problem(404);
}

#[test]
fn a_refused_write_leaves_nothing_behind() {
    let peer = Peer::start();
    let version = peer.put("/x", &json!({"a": 1}));
    let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
    let long = format!("{{\"k\":\"{}\"}}", "x".repeat(2 << 20));
    for body in [deep.as_str(), long.as_str(), "{\"b\":1,\"c\":\"\\ud800\"}", "[1,2", "\"a\u{1}b\"", "-", "nul", "1 2", ""] {
        let status = peer.send("PUT", "/x", &[JSON], body).status;
        assert!((400..500).contains(&status), "{status} for {:?}", &body[..body.len().min(40)]);
    }
    assert_eq!(peer.send("GET", "/x", &[], "").versions(), version);
}

#[test]
fn options_and_unknown_methods_name_what_is_there() {
    let peer = Peer::start();
    for method in ["OPTIONS", "LINK"] {
        let answer = peer.send(method, "/x", &[], "");
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("PATCH")), "{method}: {answer:?}");
    }
}

#[test]
fn a_connection_survives_its_errors() {
    let peer = Peer::start();
    let mut client = peer.connect();
    for round in 0..3 {
        client.send("GET", "/absent", &[], "").problem(404);
        client.send("PUT", "/x", &[JSON], "{").problem(400);
        client.send("GET", "/a//b", &[], "").problem(400);
        assert_eq!(client.send("PUT", "/x", &[JSON], round.to_string()).status, 200);
    }
    assert_eq!(peer.value("/x"), json!(2));
}

#[test]
fn status_and_metrics_count_what_happened() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    peer.send("GET", "/absent", &[], "").problem(404);
    let status = peer.value("/.sys/status");
    assert_eq!(status["id"], peer.ready["id"]);
    assert_eq!(status["home"].as_str(), peer.home().folder().to_str());
    let metrics = peer.send("GET", "/.sys/metrics", &[], "");
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    let text = metrics.text();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("timebus_") && value.parse::<f64>().is_ok(), "{line}");
    }
    assert!(text.contains("timebus_http_answers_total{class=\"4xx\"} 1\n"), "{text}");
}
