use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use timebus_identity::SecretKey;
use timebus_net::signature::{RequestHead, content_digest, sign_request};

use crate::http::Answer;
use crate::peer::Peer;
use crate::socket::Socket;

pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The headers of a request that looks like a page's, which has no rights but by its signature.
pub(crate) fn signed(peer: &Peer, key: &SecretKey, method: &str, path: &str, body: &str, now_s: i64) -> Vec<(&'static str, String)> {
    signed_with(peer, key, method, path, &[], body, now_s)
}

/// The same with more headers, which are signed.
pub(crate) fn signed_with(
    peer: &Peer,
    key: &SecretKey,
    method: &str,
    path: &str,
    more: &[(&'static str, &str)],
    body: &str,
    now_s: i64,
) -> Vec<(&'static str, String)> {
    let authority = peer.authority();
    let digest = content_digest(body.as_bytes());
    let field = |name: &str| match name {
        "content-digest" => Some(digest.clone()).filter(|_| !body.is_empty()),
        name => more.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| (*value).to_owned()),
    };
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let head = RequestHead { method, scheme: "http", authority: &authority, path, query, has_body: !body.is_empty(), field: &field };
    let headers = sign_request(&head, &[], key.public().as_bytes(), now_s, |base| *key.sign(base).as_bytes()).expect("a signature");
    let mut out = vec![("Origin", format!("http://{authority}")), ("Signature-Input", headers.signature_input), ("Signature", headers.signature)];
    if !body.is_empty() {
        out.push(("Content-Digest", digest));
    }
    out.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    out
}

/// A socket that a key signs for.
pub(crate) fn socket(peer: &Peer, key: &SecretKey, now_s: i64) -> Socket {
    let nonce = base64(&now_s.to_be_bytes().repeat(2));
    let headers = signed_with(peer, key, "GET", "/", &[("upgrade", "websocket"), ("sec-websocket-key", &nonce)], "", now_s);
    // Not the Origin, which would make it a page's.
    let headers: Vec<(&str, &str)> = headers[1..].iter().map(|(name, value)| (*name, value.as_str())).collect();
    Socket::try_open(peer, &headers).unwrap_or_else(|status| panic!("{status}"))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(crate) fn send(peer: &Peer, method: &str, path: &str, headers: &[(&'static str, String)], body: &str) -> Answer {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    peer.send(method, path, &headers, body)
}

#[test]
fn a_signature_of_the_device_key_is_good_once_and_for_what_was_signed() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let seed = std::fs::read(peer.home().folder().join("keys/device.key")).expect("a key");
    let device = SecretKey::from_seed(seed.try_into().expect("32 bytes"));
    let get = signed(&peer, &device, "GET", "/x", "", now_s());
    send(&peer, "GET", "/x", &get[..1], "").problem(401);
    assert_eq!(send(&peer, "GET", "/x", &get, "").json(), json!(1));
    send(&peer, "GET", "/x", &get, "").problem(401);
    let get = signed(&peer, &device, "GET", "/x", "", now_s() + 1);
    send(&peer, "GET", "/y", &get, "").problem(401);
    send(&peer, "DELETE", "/x", &get, "").problem(401);
    let put = signed(&peer, &device, "PUT", "/x", "2", now_s());
    send(&peer, "PUT", "/x", &put, "3").problem(401);
    let put = signed(&peer, &device, "PUT", "/x", "2", now_s() - 1);
    assert_eq!(send(&peer, "PUT", "/x", &put, "2").status, 200);
    send(&peer, "PUT", "/x", &put, "2").problem(401);
    // A body that nobody signed.
    let bare = signed(&peer, &device, "PUT", "/x", "", now_s());
    send(&peer, "PUT", "/x", &bare, "4").problem(401);
    for late in [-3600, 3600] {
        let old = signed(&peer, &device, "GET", "/x", "", now_s() + late);
        send(&peer, "GET", "/x", &old, "").problem(401);
    }
    let stranger = signed(&peer, &SecretKey::from_seed([7; 32]), "PUT", "/x", "5", now_s());
    send(&peer, "PUT", "/x", &stranger, "5").problem(403);
    // The signature of one key under the name of another.
    let mut forged = signed(&peer, &device, "GET", "/x", "", now_s() + 2);
    forged[2].1 = signed(&peer, &SecretKey::from_seed([7; 32]), "GET", "/x", "", now_s() + 2)[2].1.clone();
    send(&peer, "GET", "/x", &forged, "").problem(401);
    assert_eq!(peer.value("/x"), json!(2));
}

/// Whoever stands between a guest and a peer without TLS may change what nobody signed.
#[test]
fn a_signed_request_cannot_be_made_another_one_on_its_way() {
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let seed = std::fs::read(peer.home().folder().join("keys/device.key")).expect("a key");
    let device = SecretKey::from_seed(seed.try_into().expect("32 bytes"));
    let get = signed(&peer, &device, "GET", "/", "", now_s());
    let by_key: Vec<(&str, &str)> = get[1..].iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(Socket::try_open(&peer, &by_key).err(), Some(401), "a read is no socket");
    let mut socket = socket(&peer, &device, now_s() - 1);
    assert_eq!(socket.request(&json!({"id": 1, "put": "/x", "value": 2}))["ok"], true);
    let headers = [("Content-Type", "text/plain"), ("Version", "\"v-1\""), ("If-Match", "*"), ("Prefer", "respond-async")];
    for (number, (name, value)) in headers.into_iter().enumerate() {
        let mut put = signed(&peer, &device, "PUT", "/x", "3", now_s() - 2 - number as i64);
        put.push((name, value.to_owned()));
        let refused = send(&peer, "PUT", "/x", &put, "3").problem(401);
        assert_eq!(refused["component"], name.to_lowercase(), "{refused}");
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(&name.to_lowercase())), "{refused}");
    }
    assert_eq!(peer.value("/x"), json!(2));
    let put = signed_with(&peer, &device, "PUT", "/x", &[("Content-Type", "text/plain")], "3", now_s() - 9);
    assert_eq!(send(&peer, "PUT", "/x", &put, "3").status, 200);
    assert_eq!(peer.value("/")["x"], json!("3"));
}
