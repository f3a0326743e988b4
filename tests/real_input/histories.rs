use std::sync::mpsc;

use serde_json::{Value, json};

use crate::braid::{Body, apply, read_update};
use crate::data;
use crate::http::print_versions;
use crate::peer::{DEADLINE, Peer};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Writes each version of a document, while a subscriber that was there from the start follows by patches.
fn a_subscriber_rebuilds_every_version(name: &str) {
    let Some(lines) = data::lines(name) else { return };
    let values: Vec<Value> = lines.into_iter().map(|mut line| line["value"].take()).collect();
    let peer = Peer::start();
    peer.put("/doc", &json!({}));
    let (status, _, mut stream) = peer.connect().stream("GET", "/doc", &[("Subscribe", "true")]);
    assert_eq!(status, 209);
    let (sender, updates) = mpsc::channel();
    std::thread::spawn(move || {
        while let Some(update) = read_update(&mut stream) {
            if sender.send(update).is_err() {
                return;
            }
        }
    });
    let mut state = None;
    let mut at = Vec::new();
    let mut follow = |until: &[String]| {
        let mut snapshots = 0;
        while at != until {
            let update = updates.recv_timeout(DEADLINE).expect("an update");
            snapshots += usize::from(matches!(update.body, Body::Snapshot(_)) && update.parents != Vec::<String>::new());
            assert!(state.is_none() || update.parents == at, "every update builds on the one before");
            apply(&mut state, &update);
            at = update.version;
        }
        (state.clone(), snapshots)
    };
    let mut client = peer.connect();
    let mut versions = Vec::new();
    let mut snapshots = 0;
    for (number, value) in values.iter().enumerate() {
        let answer = client.send("PUT", "/doc", &[JSON], value.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        versions.push(answer.versions());
        let (state, more) = follow(&answer.versions());
        snapshots += more;
        assert!(state.as_ref() == Some(value), "the subscriber differs at version {number} of {name}");
    }
    eprintln!("{name}: {} versions, {snapshots} of them as a whole", values.len());
    for (number, (version, value)) in versions.iter().zip(&values).enumerate() {
        let answer = client.send("GET", "/doc", &[("Version", &print_versions(version))], "");
        assert!(answer.json() == *value, "version {number} of {name} reads differently");
    }
    // Whoever comes back with any version gets from there to here.
    let last = values.last().expect("versions");
    for (version, value) in versions.iter().zip(&values).step_by(5) {
        let answer = client.send("GET", "/doc", &[("Parents", &print_versions(version))], "");
        let mut state = Some(value.clone());
        let mut body = answer.body.as_slice();
        while let Some(update) = read_update(&mut body) {
            apply(&mut state, &update);
        }
        assert!(state.as_ref() == Some(last));
    }
}

#[test]
fn the_history_of_firefox_releases() {
    a_subscriber_rebuilds_every_version("03-tree/history-bcd-firefox.ndjson.gz");
}

#[test]
fn the_history_of_http_statuses() {
    a_subscriber_rebuilds_every_version("03-tree/history-bcd-http-status.ndjson.gz");
}
