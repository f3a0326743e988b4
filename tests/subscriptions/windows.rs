use serde_json::{Value, json};

use super::contract::script;
use super::watcher::{FORMS, Form, Watcher};
use crate::http::print_versions;
use crate::peer::Peer;
use crate::socket::Socket;

const TARGETS: [&str; 16] = [
    "/?depth=1",
    "/?depth=2&last=1",
    "/w?depth=0",
    "/w?depth=2",
    "/w?last=1",
    "/w?first=1",
    "/w/doc?depth=1",
    "/w/doc?depth=2",
    "/w/doc?limit=2&after=list",
    "/w/doc/list?depth=1",
    "/w/doc/list?depth=2&last=2",
    "/w/doc/list?last=2",
    "/w/doc/list?first=2",
    "/w/doc/list?limit=2&after=0",
    "/w/feed?last=1&depth=1",
    "/elsewhere?depth=1",
];

fn page(peer: &Peer, target: &str, headers: &[(&str, &str)]) -> Option<Value> {
    let answer = peer.send("GET", target, headers, "");
    (answer.status == 200).then(|| answer.json())
}

#[test]
fn what_is_seen_through_a_window_is_what_the_page_shows() {
    let peer = Peer::start();
    let mut watchers: Vec<Watcher> = FORMS.iter().flat_map(|form| TARGETS.map(|target| Watcher::start(&peer, target, *form))).collect();
    let mut client = peer.connect();
    for (number, (method, path, headers, body)) in script().into_iter().enumerate() {
        let answer = client.send(method, path, headers, &body);
        assert!(matches!(answer.status, 200 | 201), "{number}: {method} {path} {body}: {}", answer.text());
        watchers.iter_mut().for_each(|watcher| watcher.settle(&peer));
    }
    // What comes last is told last: nothing wrong was under way.
    peer.put("/w", &json!({"doc": {"list": [[1], 2, [3, 4]], "o": {"k": 1}}, "feed": {"a": 1, "b": [2]}}));
    peer.put("/elsewhere", &json!({"a": {"b": 1}}));
    for watcher in &mut watchers {
        watcher.settle(&peer);
        // In Braid, the first value of all looks like a snapshot.
        assert!(watcher.snapshots <= 2 && watcher.behind == 0, "the rest came as changes");
    }
}

#[test]
fn a_window_can_be_resumed_from_every_version_and_old_pages_stay() {
    let peer = Peer::start();
    let targets = ["/w?depth=2", "/w/doc?depth=1&last=2", "/w/doc/list?last=2", "/w/doc/list?depth=1&limit=1&after=0"];
    let mut client = peer.connect();
    let mut moments: Vec<(&str, Vec<String>, Option<Value>)> = Vec::new();
    for (method, path, headers, body) in script() {
        client.send(method, path, headers, &body);
        for target in targets {
            let answer = client.send("GET", target, &[], "");
            moments.push((target, answer.versions(), (answer.status == 200).then(|| answer.json())));
        }
    }
    for (number, (target, version, state)) in moments.iter().enumerate().filter(|(_, (_, version, _))| !version.is_empty()) {
        assert_eq!(page(&peer, target, &[("Version", &print_versions(version))]), *state, "{target} at {version:?}");
        for form in FORMS {
            let mut watcher = Watcher::resume(&peer, target, form, version, state.clone());
            watcher.settle(&peer);
            assert_eq!(watcher.snapshots, 0, "{target} in {form:?} at moment {number}");
        }
    }
}

#[test]
fn a_change_below_what_is_shown_is_told_by_its_marker() {
    let peer = Peer::start();
    peer.put("/m", &json!({"a": {"b": {"c": 1}}, "l": [{"x": 1}, {"y": {"z": 2}}], "n": 1}));
    for form in FORMS {
        let mut watcher = Watcher::start(&peer, "/m?depth=2", form);
        let expected = json!({"a": {"b": {"@more": 1}}, "l": [{"@more": 1}, {"@more": 2}], "n": 1});
        assert_eq!(watcher.state, Some(expected.clone()));
        for (path, value) in [("/m/a/b/c", json!(format!("{form:?}"))), ("/m/l/1", json!({"y": {"z": format!("{form:?}")}}))] {
            let version = match path {
                "/m/l/1" => {
                    let body = json!([{"op": "replace", "path": "/l/1/y/z", "value": value["y"]["z"]}]).to_string();
                    peer.send("PATCH", "/m", &[("Content-Type", "application/json-patch+json")], body).versions()
                }
                _ => peer.put(path, &value),
            };
            let before = watcher.updates;
            // The version of a place below is the version of the whole, since nothing else was written.
            watcher.until(&version);
            assert_eq!((watcher.updates, watcher.state.as_ref()), (before + 1, Some(&expected)), "{form:?} of {path}");
        }
    }
}

#[test]
fn a_window_on_the_end_moves_with_what_is_appended() {
    let peer = Peer::start();
    peer.put("/log", &json!([0, 1, 2]));
    let mut socket = Socket::open(&peer);
    let snapshot = socket.request(&json!({"id": 1, "watch": "/log", "last": 2}));
    assert_eq!(snapshot["snapshot"], json!([1, 2]));
    assert_eq!(socket.hear()["caught_up"], true);
    assert_eq!(peer.send("POST", "/log", &[("Content-Type", "application/json")], "3").status, 201);
    let (gone, come) = (socket.hear(), socket.hear());
    assert_eq!((&gone["splice"], &gone["start"], &gone["end"], &gone["value"]), (&json!("/log"), &json!(0), &json!(1), &json!([])), "{gone}");
    assert_eq!((&gone["more"], come.get("more")), (&json!(true), None));
    assert_eq!((&come["start"], &come["end"], &come["value"]), (&json!(1), &json!(1), &json!([3])), "{come}");
    // What happens outside of it is not told.
    let body = json!([{"op": "replace", "path": "/0", "value": "old"}]).to_string();
    assert_eq!(peer.send("PATCH", "/log", &[("Content-Type", "application/json-patch+json")], body).status, 200);
    assert_eq!(peer.send("POST", "/log", &[("Content-Type", "application/json")], "4").status, 201);
    let (gone, come) = (socket.hear(), socket.hear());
    assert_eq!((&gone["end"], &come["value"]), (&json!(1), &json!([4])), "{gone} {come}");
}

#[test]
fn a_slow_reader_of_a_window_gets_its_final_state() {
    let peer = Peer::start();
    peer.put("/hot", &json!([]));
    let mut watchers: Vec<Watcher> = FORMS.iter().map(|form| Watcher::start(&peer, "/hot?last=3", *form).with_little_room()).collect();
    let mut client = peer.connect();
    let filling = "x".repeat(60_000);
    for number in 0..300 {
        let headers = [("Content-Type", "application/json"), ("Prefer", "respond-async")];
        assert_eq!(client.send("POST", "/hot", &headers, format!("\"{number} {filling}\"")).status, 201);
    }
    assert_eq!(peer.send("POST", "/hot", &[("Content-Type", "application/json")], "\"last\"").status, 201);
    for watcher in &mut watchers {
        watcher.settle(&peer);
        assert!(watcher.updates < 300, "{:?} was kept {} updates", watcher.form(), watcher.updates);
    }
}

#[test]
fn a_window_of_a_socket_is_checked() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": {"b": 1}, "l": [1], "z": 2}));
    let mut socket = Socket::open(&peer);
    for bad in [json!(-1), json!("2"), json!(1.5), json!(4294967296_u64)] {
        assert_eq!(socket.request(&json!({"id": 1, "watch": "/x", "depth": bad}))["error"]["status"], 400, "{bad}");
    }
    let got = socket.request(&json!({"id": 2, "get": "/x", "depth": 1, "first": 2}));
    assert_eq!(got["value"], json!({"a": {"@more": 1}, "l": {"@more": 1, "@list": true}}), "{got}");
    assert_eq!(got["next_after"], "l");
    assert_eq!(socket.request(&json!({"id": 3, "get": "/none", "depth": 1}))["absent"], true);
}

#[test]
fn a_socket_takes_paths_with_the_space_in_front() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let space = peer.ready["id"].as_str().expect("a key").to_owned();
    let mut socket = Socket::open(&peer);
    assert_eq!(socket.request(&json!({"id": 1, "get": format!("/@{space}/x")}))["value"], 1);
    assert_eq!(socket.request(&json!({"id": 2, "put": format!("/@{space}/y"), "value": 2}))["ok"], true);
    assert_eq!(peer.value("/y"), json!(2));
    assert_eq!(socket.request(&json!({"id": 3, "watch": format!("/@{space}")}))["snapshot"], json!({"x": 1, "y": 2}));
    let nobody = format!("/@{}/x", "y".repeat(52));
    assert_eq!(socket.request(&json!({"id": 4, "get": nobody}))["error"]["status"], 404);
    assert_eq!(socket.request(&json!({"id": 5, "put": "/@@name", "value": 3}))["ok"], true);
    assert_eq!(peer.value("/")["@name"], 3);
}

#[test]
fn everybody_is_shown_the_same_through_one_window() {
    let peer = Peer::start();
    peer.put("/many", &json!({}));
    let mut watchers: Vec<Watcher> = (0..20).map(|_| Watcher::start(&peer, "/many?depth=1&last=2", Form::Socket)).collect();
    for number in 0..5 {
        peer.put(&format!("/many/k{number}"), &json!({"n": [number]}));
        watchers.iter_mut().for_each(|watcher| watcher.settle(&peer));
    }
    assert!(watchers.iter().all(|watcher| watcher.updates == 5), "one update for each change");
}
