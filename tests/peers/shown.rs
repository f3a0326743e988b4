//! Why something shows, or does not: what a puzzled owner asks, and what he is told.

use serde_json::json;

use super::neighbours::{json as verb, pair, poll, run};
use crate::peer::Peer;

/// What `why shown` says to people, and its exit code.
fn why(peer: &Peer, path: &str) -> (i32, String) {
    let said = run(peer.home(), &["why", "shown", path]);
    (said.code, format!("{}{}", said.out, said.err))
}

/// Waits until it says something.
fn until(peer: &Peer, path: &str, words: &str) -> (i32, String) {
    poll(words, || Some(why(peer, path)).filter(|(_, said)| said.contains(words)))
}

#[test]
fn why_something_shows_or_does_not_is_told_with_what_to_do() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    let (code, said) = why(&alice, "/wall/post");
    assert!(code == 1 && said.contains("no: /wall/post does not show") && said.contains("nothing was ever written there"), "{said}");
    bob.put("/@alice/wall/post", &json!("hello"));
    let (code, said) = until(&alice, "/wall/post", "wrote what is there");
    assert!(code == 0 && said.contains("yes: /wall/post shows"), "{said}");
    // Somebody is muted, and his picture has not come.
    assert!(bob.send("PUT", "/@alice/wall/film", &[("Content-Type", "video/mp4")], vec![7; 200_000]).status < 300);
    verb(alice.home(), &["mute", &who]);
    let (_, said) = until(&alice, "/wall/film", "its file of 200 kB is not here");
    assert!(said.contains("you muted") && said.contains("`timebus unmute"), "{said}");
    // More than he may keep waits.
    verb(alice.home(), &["limits", &who, "1kB"]);
    bob.put("/@alice/wall/long", &json!("x".repeat(5000)));
    let (code, said) = until(&alice, "/wall/long", "wait for your word");
    assert!(code == 1 && said.contains("timebus held"), "{said}");
    let (_, said) = until(&bob, "@alice/wall/long", "waits until alice accepts it");
    assert!(said.contains("yes: @alice/wall/long shows"), "{said}");
    // A space of which nothing is here, and one whose owner is away.
    let (code, said) = why(&alice, &format!("@{who}/posts/1"));
    assert!(code == 1 && said.contains("you do not follow") && said.contains("nothing of the space of"), "{said}");
    bob.put("/likes/1", &json!({"kind": "like"}));
    let (me, other) = (&who, alice.ready["id"].as_str().expect("an id").to_owned());
    let home = alice.stop();
    let (code, said) = until(&bob, "@alice/posts/1", "the last time was on");
    assert!(code == 1 && said.contains("comes when he is back"), "{said}");
    let like = json!({"kind": "like", "target": format!("/@{other}/posts/1"), "source": format!("/@{me}/likes/1")});
    assert!(bob.send("POST", &format!("/@{other}/.drop"), &[], like.to_string()).status < 300);
    for path in ["/likes/1", "@alice/posts/1"] {
        let (_, said) = why(&bob, path);
        assert!(said.contains("your like waits until alice is reached, and is counted by nobody else before"), "{said}");
    }
    let _alice = Peer::start_in(home);
    until(&bob, "/likes/1", "your like is in the inbox of alice since");
}

#[test]
fn what_somebody_may_is_told_with_what_ends_it() {
    let (alice, bob) = pair();
    let who = bob.ready["id"].as_str().expect("an id").to_owned();
    let said = run(alice.home(), &["why", "read", "/notes", "--as", &who]).out;
    assert!(said.contains("to keep this path apart from what he reads: `timebus private /notes`"), "{said}");
    let said = run(alice.home(), &["why", "write", "/wall", "--as", &who]).out;
    let grant = said.split("`timebus revoke ").nth(1).and_then(|rest| rest.split('`').next()).expect("a command").to_owned();
    assert_eq!(run(alice.home(), &["revoke", &grant]).code, 0);
    let said = run(alice.home(), &["why", "write", "/wall", "--as", &who]);
    assert!(said.code == 1 && said.out.contains("you took it back on") && !said.out.contains("timebus revoke"), "{said:?}");
    // One's own devices by the names that they have.
    let devices = verb(alice.home(), &["devices"]);
    let name = devices["devices"][0]["name"].as_str().expect("a name");
    assert!(run(alice.home(), &["why", "write", "/notes", "--as", name]).out.contains("yes: "));
}
