use serde_json::{Value, json};

use super::contract::script;
use super::watcher::{FORMS, Form, Watcher};
use crate::peer::Peer;

/// What a path was at some time.
struct Moment {
    version: Vec<String>,
    state: Option<Value>,
}

fn moment(peer: &Peer, path: &str) -> Moment {
    let answer = peer.send("GET", path, &[], "");
    Moment { version: answer.versions(), state: (answer.status == 200).then(|| answer.json()) }
}

fn everybody_gets_here(peer: &Peer, path: &str, moments: &[Moment], when: &str) {
    for (number, moment) in moments.iter().enumerate() {
        for form in FORMS {
            let mut watcher = Watcher::resume(peer, path, form, &moment.version, moment.state.clone());
            watcher.follow(peer, &format!("coming back with version {number} of {path} {when}"));
        }
    }
}

#[test]
fn every_version_of_a_run_can_be_resumed_from_also_after_a_restart() {
    let peer = Peer::start();
    let paths = ["/w/doc", "/w/doc/list", "/"];
    let mut runs: Vec<Vec<Moment>> = paths.iter().map(|path| vec![moment(&peer, path)]).collect();
    let mut client = peer.connect();
    for (method, path, headers, body) in script() {
        client.send(method, path, headers, &body);
        for (path, run) in paths.iter().zip(&mut runs) {
            let now = moment(&peer, path);
            if run.last().is_none_or(|last| last.version != now.version) {
                run.push(now);
            }
        }
    }
    for (path, run) in paths.iter().zip(&runs) {
        everybody_gets_here(&peer, path, run, "");
    }
    let peer = peer.restart();
    for (path, run) in paths.iter().zip(&runs) {
        everybody_gets_here(&peer, path, run, "after a restart");
    }
}

#[test]
fn a_subscriber_who_goes_on_misses_nothing_and_hears_nothing_twice() {
    let mut peer = Peer::start();
    peer.put("/log", &json!([]));
    for form in FORMS {
        let mut watcher = Watcher::start(&peer, "/log", form);
        for round in 0..6 {
            for number in 0..3 {
                let answer = peer.send("POST", "/log", &[("Content-Type", "application/json")], format!("\"{form:?} {round}.{number}\""));
                assert_eq!(answer.status, 201);
            }
            if round % 2 == 0 {
                watcher.follow(&peer, "some writes");
            }
            let (version, state) = (watcher.version.clone(), watcher.state.clone());
            drop(watcher);
            if round == 3 {
                peer = Peer::start_in(peer.kill());
            }
            watcher = Watcher::resume(&peer, "/log", form, &version, state);
        }
        watcher.follow(&peer, "all writes");
    }
}

#[test]
fn who_is_up_to_date_is_sent_nothing_but_that() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": 1}));
    let state = Some(json!({"a": 1}));
    for form in FORMS {
        let version = peer.send("GET", "/x", &[], "").versions();
        let mut watcher = Watcher::resume(&peer, "/x", form, &version, state.clone());
        if form != Form::Braid {
            watcher.caught_up();
        }
        let next = peer.put("/x/a", &json!(form as u8 + 10));
        watcher.until(&next);
        assert_eq!((watcher.snapshots, watcher.updates), (0, 1), "{form:?}");
        peer.put("/x", &json!({"a": 1}));
        // Back to the value is not back to the version.
        let now = peer.send("GET", "/x", &[], "").versions();
        watcher.until(&now);
        assert_ne!(now, version);
        peer.send("PUT", "/x/a", &[("Content-Type", "application/json")], "1");
    }
}

#[test]
fn an_unknown_version_is_refused_or_gets_everything() {
    let peer = Peer::start();
    peer.put("/x", &json!({"a": 1}));
    let unknown = ["nobody-5".to_owned()];
    peer.send("GET", "/x", &[("Subscribe", "true"), ("Parents", "\"nobody-5\"")], "").problem(309);
    for form in [Form::Events, Form::Lines, Form::Socket] {
        let mut watcher = Watcher::resume(&peer, "/x", form, &unknown, Some(json!("stale")));
        watcher.follow(&peer, "coming with a version that nobody knows");
        assert_eq!(watcher.snapshots, 1, "{form:?}");
    }
}

#[test]
fn a_version_of_the_past_of_another_path_is_good_too() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let elsewhere = peer.put("/y", &json!(1));
    // Whoever has seen this version of /y has seen the first value of /x.
    peer.put("/x", &json!(2));
    for form in FORMS {
        let mut watcher = Watcher::resume(&peer, "/x", form, &elsewhere, Some(json!(1)));
        watcher.follow(&peer, "coming with a version of another path");
    }
}

#[test]
fn objects_whose_names_are_no_paths_come_whole() {
    let peer = Peer::start();
    let before = json!({"odd": {"": 1, "a/b": {"c": 2}, "k": [1]}, "beside": 1});
    let version = peer.put("/x", &before);
    peer.put("/x", &json!({"odd": {"": 2, "a/b": {"c": 3}, "k": [1]}, "beside": 2}));
    for form in FORMS {
        let mut watcher = Watcher::resume(&peer, "/x", form, &version, Some(before.clone()));
        watcher.follow(&peer, "a change inside an odd object");
    }
}
