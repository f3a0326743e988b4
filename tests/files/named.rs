//! A hash is no right: who may write and knows the hash of content does not get at the content by that.

use serde_json::{Value, json};
use timebus_identity::SecretKey;

use super::{BINARY, bytes};
use crate::apps::origins::{Origin, folder, install};
use crate::http::Answer;
use crate::peer::{Home, Peer};
use crate::peers::neighbours::{invite, join, json as verb, pair, poll, run, until};
use crate::socket::Socket;
use crate::who::signed::{now_s, send, signed_with, socket};

const FILM: usize = 100_000;

/// Asks in the name of a key, anew each time.
struct Guest<'a> {
    peer: &'a Peer,
    key: SecretKey,
    /// When the next request says that it was made: one second earlier each time, so that no two are alike.
    at: std::cell::Cell<i64>,
}

impl<'a> Guest<'a> {
    fn new(peer: &'a Peer, key: SecretKey) -> Self {
        Self { peer, key, at: now_s().into() }
    }

    fn name(&self) -> String {
        self.key.public().to_string()
    }

    fn headers(&self, method: &str, path: &str, more: &[(&'static str, &str)], body: &str) -> Vec<(&'static str, String)> {
        self.at.set(self.at.get() - 1);
        signed_with(self.peer, &self.key, method, path, more, body, self.at.get())
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.typed(method, path, "application/json", body)
    }

    fn typed(&self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        let headers = self.headers(method, path, &[("Content-Type", kind)], body);
        send(self.peer, method, path, &headers, body)
    }

    fn socket(&self) -> Socket {
        self.at.set(self.at.get() - 1);
        socket(self.peer, &self.key, self.at.get())
    }
}

/// What names a file at a path.
fn reference(peer: &Peer, path: &str) -> Value {
    peer.send("GET", path, &[("Accept", "application/json")], "").json()
}

fn device(home: &Home) -> SecretKey {
    let seed = std::fs::read(home.folder().join("keys/device.key")).expect("a key");
    SecretKey::from_seed(seed.try_into().expect("32 bytes"))
}

fn put_film(peer: &Peer, path: &str, seed: u64) -> Value {
    assert_eq!(peer.send("PUT", path, &[BINARY], bytes(FILM, seed)).status, 200);
    reference(peer, path)
}

/// An owner with a private film, and a guest who may write at `/table` and knows its hash.
#[test]
fn a_guest_does_not_get_at_content_by_naming_it() {
    let peer = Peer::start();
    verb(peer.home(), &["private", "/diary"]);
    let secret = put_film(&peer, "/diary/film", 1);
    let open = put_film(&peer, "/open", 2);
    let other = timebus_identity::z32::encode(blake3::hash(b"what nobody has").as_bytes());
    let bob = Guest::new(&peer, SecretKey::from_seed([5; 32]));
    verb(peer.home(), &["grant", "/table", &bob.name(), "--can", "write"]);
    bob.ask("GET", "/diary/film", "").problem(403);
    let unknown = json!({"@blob": other, "@type": "video/mp4", "@bytes_total": FILM});
    let mut answers = Vec::new();
    for named in [&secret, &unknown] {
        let refused = bob.ask("PUT", "/table/x", &named.to_string()).problem(403);
        assert_eq!(refused["type"], "/.sys/problems/blob-rights", "{refused}");
        assert!(refused["fix"].as_str().is_some_and(|fix| fix.contains("PUT the file itself")), "{refused}");
        answers.push(refused.to_string().replace(named["@blob"].as_str().expect("a hash"), "hash"));
    }
    assert_eq!(answers[0], answers[1], "what is here and not for him is as what is not here");
    // In every way in which a value comes to be: nested, as an element, added to, merged, patched, in pieces, by websocket.
    bob.ask("PUT", "/table/x", &json!({"deep": {"list": [1, secret]}}).to_string()).problem(403);
    bob.ask("POST", "/table", &secret.to_string()).problem(403);
    bob.ask("PATCH", "/table", &json!({"x": secret}).to_string()).problem(403);
    assert_eq!(bob.ask("PUT", "/table/list", "[]").status, 200);
    bob.ask("POST", "/table/list", &secret.to_string()).problem(403);
    assert_eq!(bob.ask("PUT", "/table/parts", &json!({"a": {"@type": "video/mp4", "@bytes_total": FILM}}).to_string()).status, 200);
    let add = json!([{"op": "add", "path": "/a/@blob", "value": secret["@blob"]}]).to_string();
    bob.typed("PATCH", "/table/parts", "application/json-patch+json", &add).problem(403);
    let mut socket = bob.socket();
    for message in [
        json!({"id": 1, "put": "/table/x", "value": secret}),
        json!({"id": 2, "patch": "/table", "value": {"x": secret}}),
        json!({"id": 3, "post": "/table", "value": secret}),
    ] {
        assert_eq!(socket.request(&message)["error"]["status"], 403, "{message}");
    }
    assert_eq!(peer.send("GET", "/table/x", &[], "").status, 404);
    // What he may read he may name, and what he brings; the owner may name anything.
    assert_eq!(bob.ask("PUT", "/table/mine", &open.to_string()).status, 200);
    assert!(bob.ask("GET", "/table/mine", "").body == bytes(FILM, 2));
    let text = "x".repeat(FILM);
    assert_eq!(bob.typed("PUT", "/table/brought", "video/mp4", &text).status, 200);
    assert_eq!(bob.typed("POST", "/table", "video/mp4", &text).status, 201);
    assert!(bob.ask("GET", "/table/brought", "").text() == text);
    peer.put("/table/given", &secret);
    assert!(bob.ask("GET", "/table/given", "").body == bytes(FILM, 1));
    // From now on he may read it somewhere.
    assert_eq!(bob.ask("PUT", "/table/again", &secret.to_string()).status, 200);
}

/// Mallory signs the change herself, on a peer of her own, and asks for what it names in every way there is.
#[test]
fn a_member_does_not_get_at_content_by_signing_that_she_has_it() {
    let (alice, mallory) = pair();
    verb(alice.home(), &["private", "/diary"]);
    let secret = put_film(&alice, "/diary/film", 1);
    mallory.put("/@alice/wall/x", &secret);
    until(&alice, "/wall/x", "what she signed", |answer| answer.status == 200);
    let guest = Guest::new(&alice, device(mallory.home()));
    let missing = guest.ask("GET", "/wall/x", "").problem(503);
    assert_eq!(missing["type"], "/.sys/problems/blob-missing", "as if it were not here: {missing}");
    // Nor does it become readable by naming it where it is named already.
    guest.ask("PUT", "/wall/y", &secret.to_string()).problem(403);
    let refused = mallory.send("GET", "/@alice/wall/x", &[("Prefer", "wait=1")], "").problem(504);
    assert_eq!(refused["type"], "/.sys/problems/blob-unavailable", "{refused}");
    // For the owner it is hers, wherever it is named; and looking at it gives nobody anything.
    assert!(alice.send("GET", "/wall/x", &[], "").body == bytes(FILM, 1));
    guest.ask("GET", "/wall/x", "").problem(503);
    // Once she names it there herself it is for those who read there.
    alice.put("/wall/z", &secret);
    let got = until(&mallory, "/@alice/wall/z", "what was given", |answer| answer.status == 200);
    assert!(got.body == bytes(FILM, 1));
    assert!(guest.ask("GET", "/wall/z", "").body == bytes(FILM, 1));
}

/// The other side of it: what members bring in good faith goes on to others, from whoever fetched it.
#[test]
fn what_members_bring_goes_to_all_who_may_read_there() {
    let (alice, bob) = pair();
    let film = bytes(FILM, 3);
    assert_eq!(bob.send("PUT", "/@alice/wall/film", &[BINARY], &film).status, 200);
    let got = until(&alice, "/wall/film", "the film", |answer| answer.status == 200);
    assert!(got.body == film);
    let carol = Peer::start();
    join(&carol, &invite(&alice, &[]), "alice");
    let guest = Guest::new(&alice, device(carol.home()));
    poll("the film is whole", || (guest.ask("GET", "/wall/film", "").status == 200).then_some(()));
    let bob = bob.stop();
    let got = until(&carol, "/@alice/wall/film", "the film from alice", |answer| answer.status == 200);
    assert!(got.body == film);
    // Also after alice was started again.
    let alice = alice.restart();
    let guest = Guest::new(&alice, device(carol.home()));
    assert!(guest.ask("GET", "/wall/film", "").body == film);
    drop(bob);
}

#[test]
fn an_app_does_not_get_at_content_by_naming_it() {
    let peer = Peer::start();
    let secret = put_film(&peer, "/private/film", 1);
    let wants = r#"[{"path":"/boards","may":["read","write"],"why":"boards"}]"#;
    install(&peer, &folder(peer.home(), "board", wants, "<p>hi"));
    let app = Origin::new(&peer, "board");
    let token = app.token();
    let own = peer.ready["id"].as_str().expect("a key").to_owned();
    let at = |path: &str| format!("/@{own}{path}");
    let refused = app.page(&token, "PUT", &at("/boards/x"), &secret.to_string()).problem(403);
    assert_eq!(refused["type"], "/.sys/problems/blob-rights", "{refused}");
    peer.put("/boards/given", &secret);
    assert_eq!(app.page(&token, "PUT", &at("/boards/x"), &secret.to_string()).status, 200);
    assert!(app.page(&token, "GET", &at("/boards/x"), "").body == bytes(FILM, 1));
}

/// All that a guest has this peer write is counted, by whichever door it comes, until the owner is asked.
#[test]
fn what_guests_bring_is_charged_to_them() {
    let peer = Peer::start();
    let bob = Guest::new(&peer, SecretKey::from_seed([5; 32]));
    let name = bob.name();
    verb(peer.home(), &["grant", "/table", &name, "--can", "write"]);
    verb(peer.home(), &["limits", &name, "200kB"]);
    let (large, small) = ("x".repeat(FILM), "y".repeat(30_000));
    assert_eq!(bob.typed("PUT", "/table/large", "video/mp4", &large).status, 200);
    assert_eq!(bob.typed("PUT", "/table/small", "image/png", &small).status, 200);
    assert_eq!(bob.ask("PUT", "/table/json", &json!(small).to_string()).status, 200);
    let mut socket = bob.socket();
    assert_eq!(socket.request(&json!({"id": 1, "put": "/table/socket", "value": small}))["ok"], true);
    let spent = |peer: &Peer| {
        let costs = verb(peer.home(), &["top"]);
        let own = costs["costs"].as_array().into_iter().flatten().find(|cost| cost["key"] == name.as_str()).cloned();
        own.and_then(|own| own["bytes"].as_u64()).unwrap_or(0)
    };
    let used = spent(&peer);
    assert!((FILM as u64 + 90_000..FILM as u64 + 100_000).contains(&used), "{used}");
    // There is no room for any of these now.
    let refused = bob.typed("PUT", "/table/more", "video/mp4", &large).problem(413);
    assert_eq!(refused["type"], "/.sys/problems/held", "{refused}");
    bob.typed("PUT", "/table/more", "image/png", &small).problem(413);
    bob.ask("PUT", "/table/more", &json!(small).to_string()).problem(413);
    let told = socket.request(&json!({"id": 2, "put": "/table/more", "value": small}));
    assert_eq!(told["error"]["status"], 413, "{told}");
    assert!(told["error"]["fix"].as_str().is_some_and(|fix| fix.contains("timebus allow")), "{told}");
    assert_eq!(peer.send("GET", "/table/more", &[], "").status, 404);
    assert_eq!(spent(&peer), used, "what was refused costs nothing");
    let peer = peer.restart();
    let bob = Guest::new(&peer, SecretKey::from_seed([5; 32]));
    assert_eq!(spent(&peer), used, "it is remembered");
    let held = verb(peer.home(), &["held"]);
    let id = held["held"][0]["id"].as_str().unwrap_or_else(|| panic!("{held}")).to_owned();
    assert_eq!(run(peer.home(), &["allow", &id, "up", "to", "1MB"]).code, 0);
    assert_eq!(bob.typed("PUT", "/table/more", "video/mp4", &large).status, 200);
}
