use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use timebus_identity::SecretKey;
use timebus_net::signature::{RequestHead, content_digest, sign_request};

use crate::http::Answer;
use crate::peer::Peer;

pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// The headers of a request that looks like a page's, which has no rights but by its signature.
pub(crate) fn signed(peer: &Peer, key: &SecretKey, method: &str, path: &str, body: &str, now_s: i64) -> Vec<(&'static str, String)> {
    let authority = peer.authority();
    let digest = content_digest(body.as_bytes());
    let field = |name: &str| (name == "content-digest" && !body.is_empty()).then(|| digest.clone());
    let head = RequestHead { method, scheme: "http", authority: &authority, path, query: None, has_body: !body.is_empty(), field: &field };
    let headers = sign_request(&head, &[], key.public().as_bytes(), now_s, |base| *key.sign(base).as_bytes()).expect("a signature");
    let mut out = vec![("Origin", format!("http://{authority}")), ("Signature-Input", headers.signature_input), ("Signature", headers.signature)];
    if !body.is_empty() {
        out.push(("Content-Digest", digest));
    }
    out
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
