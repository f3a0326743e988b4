use serde_json::{Map, Value, json};

use crate::http::{Client, print_versions};
use crate::peer::Peer;

fn names(range: std::ops::Range<u32>) -> Value {
    Value::Object(range.map(|n| (format!("k{n:05}"), json!({ "n": n }))).collect::<Map<_, _>>())
}

/// All children, page by page.
fn pages(client: &mut Client, query: &str) -> (Map<String, Value>, usize) {
    let mut found = Map::new();
    let mut count = 0;
    let mut after = String::new();
    loop {
        let answer = client.send("GET", &format!("/many?{query}{after}"), &[], "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        count += 1;
        for (name, value) in answer.json().as_object().expect("an object") {
            assert!(found.insert(name.clone(), value.clone()).is_none(), "{name} is on two pages");
        }
        match answer.header("next-after") {
            Some(next) => after = format!("&after={next}"),
            None => return (found, count),
        }
    }
}

#[test]
fn pages_together_are_the_whole() {
    let peer = Peer::start();
    peer.put("/many", &names(0..257));
    let mut client = peer.connect();
    for (query, expected) in [("limit=100", 3), ("limit=257", 1), ("limit=1", 257), ("first=128", 3)] {
        let (found, count) = pages(&mut client, query);
        assert_eq!(Value::Object(found), names(0..257), "{query}");
        assert_eq!(count, expected, "{query}");
    }
    let answer = client.send("GET", "/many?last=3", &[], "");
    assert_eq!(answer.json(), names(254..257));
    let answer = client.send("GET", "/many?first=2", &[], "");
    assert_eq!(answer.json(), names(0..2));
    let answer = client.send("GET", "/many?after=k00254", &[], "");
    assert_eq!(answer.json(), names(255..257));
    // A page may begin behind what was never there.
    let answer = client.send("GET", "/many?after=k00254x", &[], "");
    assert_eq!(answer.json(), names(255..257));
}

#[test]
fn depth_says_how_much_is_below() {
    let peer = Peer::start();
    peer.put("/d", &json!({"leaf": 1, "deep": {"a": {"b": 1}, "c": 2}, "list": [1, 2]}));
    let one = peer.value("/d?depth=1");
    assert_eq!(one["leaf"], 1);
    assert!(one["deep"]["@more"].as_u64().is_some_and(|more| more >= 2), "{one}");
    let two = peer.value("/d?depth=2");
    assert_eq!(two["deep"]["c"], 2);
    assert!(two["deep"]["a"]["@more"].is_u64(), "{two}");
    assert_eq!(peer.value("/d?depth=9"), peer.value("/d"));
    assert_eq!(peer.value("/d?depth=0"), json!({"@more": 8}));
    // A list says that it is one.
    assert_eq!(one["list"], json!({"@more": 2, "@list": true}));
    assert_eq!(one["deep"].get("@list"), None);
    peer.send("GET", "/absent?depth=1", &[], "").problem(404);
}

#[test]
fn lists_have_pages_too() {
    let peer = Peer::start();
    peer.put("/l", &json!([0, 1, 2, 3, 4]));
    let first = peer.send("GET", "/l?limit=2", &[], "");
    assert_eq!(first.json(), json!([0, 1]));
    let next = first.header("next-after").expect("more").to_owned();
    assert_eq!(peer.value(&format!("/l?limit=2&after={next}")), json!([2, 3]));
    assert_eq!(peer.value("/l?last=2"), json!([3, 4]));
}

#[test]
fn pages_from_the_end_together_are_the_whole() {
    let peer = Peer::start();
    peer.put("/many", &names(0..257));
    peer.put("/l", &json!([0, 1, 2, 3, 4]));
    let (mut found, mut before, mut count) = (Map::new(), String::new(), 0);
    loop {
        let answer = peer.send("GET", &format!("/many?last=100{before}"), &[], "");
        count += 1;
        found.extend(answer.json().as_object().expect("an object").clone());
        assert_eq!(answer.header("next-after"), None);
        match answer.header("next-before") {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!((Value::Object(found), count), (names(0..257), 3));
    assert_eq!(peer.value("/many?before=k00002"), names(0..2));
    let page = peer.send("GET", "/l?last=2", &[], "");
    assert_eq!((page.json(), page.header("next-before")), (json!([3, 4]), Some("3")));
    assert_eq!(peer.value("/l?last=2&before=3"), json!([1, 2]));
    assert_eq!(peer.value("/many?last=2&before=k00002&depth=1"), json!({"k00000": {"@more": 1}, "k00001": {"@more": 1}}));
}

#[test]
fn a_search_finds_members_by_the_words_in_them() {
    let peer = Peer::start();
    let posts = json!({
        "a": {"text": "Leek and Potato", "tags": ["soup"]},
        "b": {"text": "carrots", "n": 7},
        "c": {"deep": {"er": "POTATO"}},
        "d": "ÄPFEL und Kartoffeln",
        "e": 7,
    });
    let version = print_versions(&peer.put("/posts", &posts));
    peer.put("/list", &json!(["one", "two", "one more"]));
    for (query, expected) in [
        ("match=potato", json!({"a": posts["a"], "c": posts["c"]})),
        ("match=potato+SOUP", json!({"a": posts["a"]})),
        ("match=%C3%A4pfel", json!({"d": posts["d"]})),
        ("match=7", json!({})),
        ("match=potato&depth=1", json!({"a": {"@more": 3}, "c": {"@more": 2}})),
    ] {
        assert_eq!(peer.value(&format!("/posts?{query}")), expected, "{query}");
    }
    let last = peer.send("GET", "/posts?match=potato&last=1", &[], "");
    assert_eq!((last.json(), last.header("next-before")), (json!({"c": posts["c"]}), Some("c")));
    assert_eq!(peer.value("/posts?match=potato&last=1&before=c"), json!({"a": posts["a"]}));
    assert_eq!(peer.value("/list?match=one"), json!(["one", "one more"]));
    peer.send("GET", "/none?match=x", &[], "").problem(404);
    peer.send("GET", "/posts?match=x", &[("Subscribe", "true")], "").problem(400);
    peer.put("/posts", &json!({"now": "nothing"}));
    assert_eq!(peer.value("/posts?match=potato"), json!({}));
    let old = peer.send("GET", "/posts?match=potato&last=1", &[("Version", version.as_str())], "");
    assert_eq!(old.json(), json!({"c": posts["c"]}));
}

#[test]
fn a_search_goes_on_where_it_stopped_looking() {
    let peer = Peer::start();
    let mut client = peer.connect();
    for part in 0..3_u32 {
        let mut body = names(part * 5_000..(part + 1) * 5_000);
        if part == 2 {
            body["k14000"] = json!({"text": "Found"});
        }
        let answer = client.send("PATCH", "/many", &[("Content-Type", "application/merge-patch+json")], body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let first = client.send("GET", "/many?match=found", &[], "");
    assert_eq!((first.json(), first.header("next-after")), (json!({}), Some("k09999")));
    let second = client.send("GET", "/many?match=found&after=k09999", &[], "");
    assert_eq!((second.json(), second.header("next-after")), (json!({"k14000": {"text": "Found"}}), None));
}

#[test]
fn old_versions_have_pages_too() {
    let peer = Peer::start();
    let old = print_versions(&peer.put("/many", &names(0..5)));
    peer.put("/many", &json!({"now": 1}));
    let at = [("Version", old.as_str())];
    let first = peer.send("GET", "/many?limit=2", &at, "");
    assert_eq!((first.json(), first.header("next-after")), (names(0..2), Some("k00001")));
    assert_eq!(first.header("version"), Some(old.as_str()));
    assert_eq!(peer.send("GET", "/many?limit=2&after=k00002", &at, "").json(), names(3..5));
    assert_eq!(peer.send("GET", "/many?last=1&depth=1", &at, "").json(), json!({"k00004": {"@more": 1}}));
    peer.send("GET", "/many?limit=2", &[("Version", "\"nobody-1\"")], "").problem(309);
    peer.send("GET", "/none?limit=2", &at, "").problem(404);
}

#[test]
fn names_that_need_escapes_page_too() {
    let peer = Peer::start();
    let value = json!({"a b": {"n": 1}, "a%b": {"n": 2}, "a+b": {"n": 3}, "a&b": {"n": 4}, "ä": {"n": 5}, "日本": {"n": 6}});
    peer.put("/many", &value);
    let (found, _) = pages(&mut peer.connect(), "limit=1");
    assert_eq!(Value::Object(found), value);
}

#[test]
fn a_plain_get_never_truncates() {
    let peer = Peer::start();
    let mut client = peer.connect();
    // More than one page and more than what is put together in memory before it is sent.
    for part in 0..5_u32 {
        let body = names(part * 5_000..(part + 1) * 5_000).to_string();
        let answer = client.send("PATCH", "/many", &[("Content-Type", "application/merge-patch+json")], body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let answer = client.send("GET", "/many", &[], "");
    assert!(answer.json() == names(0..25_000));
    let answer = client.send("GET", "/", &[], "");
    assert!(answer.json()["many"] == names(0..25_000));
    let answer = client.send("GET", "/many", &[("Accept", "application/x-ndjson")], "");
    assert_eq!(answer.text().lines().count(), 25_000);
    let page = client.send("GET", "/many?limit=10", &[], "").json();
    assert_eq!(page, names(0..10));
}

#[test]
fn unknown_and_malformed_parameters_are_refused() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    for query in ["depht=1", "limit=-1", "limit=x", "view=none", "depth=99999999999", "limit=1&limit=2", "%ff=1"] {
        let problem = peer.send("GET", &format!("/x?{query}"), &[], "").problem(400);
        assert!(problem["detail"].is_string(), "{query}");
    }
}
