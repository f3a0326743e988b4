//! A feed that several read goes from reader to reader.

use serde_json::Value;

use super::neighbours::{invite, join, poll};
use crate::peer::Peer;

const READERS: usize = 7;
const POSTS: usize = 12;
const POST_BYTES: usize = 40_000;

/// Bytes that a peer received over all its links, and how many these are.
fn received(peer: &Peer) -> (u64, usize) {
    let peers = peer.value("/.sys/peers");
    let connected: Vec<u64> = peers["peers"].as_array().into_iter().flatten().filter_map(|peer| peer["received"].as_u64()).collect();
    (connected.iter().sum(), connected.len())
}

#[test]
fn a_new_post_comes_to_each_reader_about_once() {
    let alice = Peer::start();
    alice.put("/posts/0", &Value::from("the first"));
    let link = invite(&alice, &["--uses", &READERS.to_string()]);
    let readers: Vec<Peer> = (0..READERS).map(|_| Peer::start()).collect();
    for reader in &readers {
        join(reader, &link, "alice");
    }
    for reader in &readers {
        poll("each knows some of the others", || Some(()).filter(|()| received(reader).1 >= 4));
        poll("each has what was there", || Some(()).filter(|()| reader.send("GET", "/@alice/posts/0", &[], "").status == 200));
    }
    let before: u64 = readers.iter().map(|reader| received(reader).0).sum();
    for number in 1..=POSTS {
        let text: String = (0..POST_BYTES).map(|at| char::from(b'a' + (at * number % 23) as u8)).collect();
        alice.put(&format!("/posts/{number}"), &Value::from(text));
        for reader in &readers {
            let path = format!("/@alice/posts/{number}");
            poll("it comes to all", || Some(()).filter(|()| reader.send("GET", &path, &[], "").status == 200));
        }
    }
    let after: u64 = readers.iter().map(|reader| received(reader).0).sum();
    let copies = (after - before) as f64 / (READERS * POSTS * POST_BYTES) as f64;
    // A second one comes where a reader asks a quarter of a second too early, on a machine that has much to do.
    assert!(copies < 2.0, "{copies} copies of each post came to a reader");
    let spaces = readers[0].value("/.sys/spaces");
    let from = spaces["spaces"][0]["from"].as_str().unwrap_or_default();
    assert!(from.contains("others"), "{spaces}");
}
