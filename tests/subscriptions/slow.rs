use serde_json::{Value, json};

use super::watcher::{FORMS, Form, Watcher};
use crate::peer::Peer;

#[test]
fn who_does_not_read_gets_one_snapshot_and_the_final_state() {
    let peer = Peer::start();
    peer.put("/hot", &json!({"n": 0}));
    let mut watchers: Vec<Watcher> = FORMS.iter().map(|form| Watcher::start(&peer, "/hot", *form).with_little_room()).collect();
    let mut client = peer.connect();
    const WRITES: usize = 450;
    let filling = "x".repeat(60_000);
    for number in 1..=WRITES {
        let body = json!({"n": number, "filling": format!("{number} {filling}")}).to_string();
        let answer = client.send("PUT", "/hot", &[("Content-Type", "application/json"), ("Prefer", "respond-async")], body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    peer.put("/hot", &json!({"n": "last"}));
    let resident = peer.resident_bytes();
    for watcher in &mut watchers {
        watcher.follow(&peer, "not reading");
        let form = watcher.form();
        assert!(watcher.updates < WRITES, "{form:?} was kept {} updates", watcher.updates);
        assert!(watcher.snapshots >= 2, "{form:?} had {} snapshots", watcher.snapshots);
        if form != Form::Braid {
            assert_eq!(watcher.behind, watcher.snapshots - 1, "{form:?} was not told");
        }
    }
    eprintln!("resident after {} MB for four subscribers who do not read: {} MB", WRITES * 60_000 / 1_000_000, resident / 1_000_000);
    let metrics = peer.send("GET", "/.sys/metrics", &[], "").text();
    assert!(metrics.lines().any(|line| line.starts_with("timebus_behind_total ") && !line.ends_with(" 0")), "{metrics}");
    // They are as good as new.
    for number in 0..3 {
        peer.put("/hot", &json!({"n": number, "after": true}));
        watchers.iter_mut().for_each(|watcher| watcher.follow(&peer, "falling behind and more"));
    }
    assert_eq!(peer.value("/hot")["n"], Value::from(2));
}
