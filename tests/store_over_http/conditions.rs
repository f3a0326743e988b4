use serde_json::json;

use crate::http::print_versions;
use crate::peer::Peer;

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[test]
fn an_etag_saves_the_second_transfer() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": 1}));
    let first = peer.send("GET", "/x", &[], "");
    let etag = first.header("etag").expect("an etag").to_owned();
    for condition in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned(), first.version().to_owned()] {
        let again = peer.send("GET", "/x", &[("If-None-Match", &condition)], "");
        assert_eq!((again.status, again.body.len()), (304, 0), "{condition}");
        assert_eq!(again.header("etag"), Some(etag.as_str()));
    }
    assert_eq!(peer.send("GET", "/x", &[("If-None-Match", "\"other\"")], "").status, 200);
    peer.put("/x/a", &json!(2));
    let changed = peer.send("GET", "/x", &[("If-None-Match", &etag)], "");
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(etag.as_str()));
    // A change beside it does not change it.
    let etag = changed.header("etag").expect("an etag").to_owned();
    peer.put("/y", &json!(1));
    assert_eq!(peer.send("GET", "/x", &[("If-None-Match", &etag)], "").status, 304);
}

#[test]
fn one_etag_never_names_two_forms() {
    let peer = Peer::start();
    peer.put("/s", &json!("text"));
    let as_json = peer.send("GET", "/s", &[("Accept", "application/json")], "");
    let as_text = peer.send("GET", "/s", &[("Accept", "text/plain")], "");
    assert_ne!(as_json.body, as_text.body);
    let varies = as_json.header("vary").is_some_and(|vary| vary.to_ascii_lowercase().contains("accept"));
    assert!(varies || as_json.header("etag") != as_text.header("etag"), "caches would mix them up: {as_json:?}");
}

#[test]
fn if_match_takes_the_version_or_the_etag_that_was_read() {
    let peer = Peer::start();
    peer.put("/x", &json!(0));
    for number in 1..=4 {
        let read = peer.send("GET", "/x", &[], "");
        let condition = if number % 2 == 0 { read.version() } else { read.header("etag").expect("an etag") }.to_owned();
        let value = number.to_string();
        let answer = peer.send("PUT", "/x", &[JSON, ("If-Match", &condition)], &value);
        assert_eq!(answer.status, 200, "If-Match: {condition}: {}", answer.text());
        // The etag of a write's answer is good for the next write.
        let etag = answer.header("etag").expect("an etag").to_owned();
        assert_eq!(peer.send("GET", "/x", &[], "").header("etag"), Some(etag.as_str()));
        // What was true before is not true any more.
        let late = peer.send("PUT", "/x", &[JSON, ("If-Match", &condition)], "\"late\"");
        late.problem(412);
        assert_eq!(late.versions(), answer.versions(), "a refusal says what is there");
        assert_eq!(peer.value("/x"), json!(number));
    }
}

#[test]
fn conditions_hold_for_every_writing_verb() {
    let peer = Peer::start();
    let old = print_versions(&peer.put("/x", &json!({"a": 1})));
    peer.put("/x", &json!({"a": 2}));
    for (method, body) in [("PUT", "3"), ("PATCH", "{\"a\":3}"), ("POST", "3"), ("DELETE", "")] {
        peer.send(method, "/x", &[JSON, ("If-Match", &old)], body).problem(412);
        peer.send(method, "/x", &[JSON, ("If-None-Match", "*")], body).problem(412);
        peer.send(method, "/absent", &[JSON, ("If-Match", "*")], body).problem(412);
    }
    assert_eq!(peer.value("/"), json!({"x": {"a": 2}}));
    assert_eq!(peer.send("PATCH", "/x", &[JSON, ("If-Match", "*")], "{\"a\":4}").status, 200);
}

#[test]
fn if_none_match_star_creates_once() {
    let peer = Peer::start();
    let winners: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let peer = &peer;
                scope.spawn(move || peer.send("PUT", "/lock", &[JSON, ("If-None-Match", "*")], number.to_string()).status)
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a status")).collect()
    });
    assert_eq!(winners.iter().filter(|status| **status == 200).count(), 1, "{winners:?}");
    assert_eq!(winners.iter().filter(|status| **status == 412).count(), 7, "{winners:?}");
}

#[test]
fn if_match_makes_a_counter_that_loses_nothing() {
    let peer = Peer::start();
    peer.put("/n", &json!(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = peer.connect();
                for _ in 0..10 {
                    loop {
                        let read = client.send("GET", "/n", &[], "");
                        let next = read.json().as_u64().expect("a number") + 1;
                        let etag = read.version().to_owned();
                        let answer = client.send("PUT", "/n", &[JSON, ("If-Match", &etag)], next.to_string());
                        match answer.status {
                            200 => break,
                            412 => {}
                            status => panic!("{status}: {}", answer.text()),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(peer.value("/n"), json!(40));
}

#[test]
fn malformed_conditions_are_refused() {
    let peer = Peer::start();
    for condition in ["abc", "\"a", "\"a\" \"b\"", "W/abc"] {
        peer.send("PUT", "/x", &[JSON, ("If-Match", condition)], "1").problem(400);
    }
    peer.send("PUT", "/x", &[JSON, ("If-None-Match", "\"a\"")], "1").problem(400);
    peer.send("GET", "/x", &[], "").problem(404);
}
