use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::Client;
use crate::peer::{Peer, is_full_run};
use crate::peers::neighbours::poll;

/// A peer that refuses a head before it has read all of it may break the connection before its answer arrives.
fn refused_with(client: &mut Client, statuses: &[u16]) {
    if let Some((status, _, _)) = client.head() {
        assert!(statuses.contains(&status), "{status}");
    }
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let peer = Peer::start();
    let authority = peer.authority();
    let many: String = (0..65).map(|number| format!("X-{number}: 1\r\n")).collect();
    let mut client = peer.connect();
    client.try_write(format!("GET / HTTP/1.1\r\nHost: {authority}\r\n{many}\r\n").as_bytes());
    assert_eq!(client.head().expect("an answer").0, 431);
    let long = "x".repeat(33 * 1024);
    let mut client = peer.connect();
    client.try_write(format!("GET / HTTP/1.1\r\nHost: {authority}\r\nX: {long}\r\n\r\n").as_bytes());
    refused_with(&mut client, &[431]);
    let mut client = peer.connect();
    client.try_write(format!("GET /{long} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes());
    refused_with(&mut client, &[400, 414, 431]);
    // What is just below is not.
    let few: String = (0..60).map(|number| format!("X-{number}: 1\r\n")).collect();
    let mut client = peer.connect();
    client.write(format!("GET /.sys/status HTTP/1.1\r\nHost: {authority}\r\n{few}X: {}\r\n\r\n", "x".repeat(20 * 1024)));
    assert_eq!(client.answer(false).expect("an answer").status, 200);
}

#[test]
fn bodies_that_are_too_large_are_refused_before_they_come() {
    let peer = Peer::start();
    let mut client = peer.connect();
    client.ask("PUT", "/x", &[("Content-Type", "application/json"), ("Content-Length", "70000000")], "");
    client.answer(false).expect("an answer").problem(413);
    // Of unknown length: as far as it goes.
    let mut client = peer.connect();
    client.write(format!("POST /.sys/undo/x HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", peer.authority()));
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    client.try_write(chunk.as_bytes());
    client.try_write(chunk.as_bytes());
    client.answer(false).expect("an answer").problem(413);
    peer.send("GET", "/x", &[], "").problem(404);
}

/// Nothing can be opened for a while: other programs took all, or the limit is low.
#[test]
fn who_comes_while_nothing_can_be_opened_is_answered_when_something_can() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let pid = Pid::from_raw(i32::try_from(peer.pid()).expect("a pid"));
    // Connections that were accepted, one of which has asked for something before.
    let (mut known, mut new) = (peer.connect(), peer.connect());
    assert_eq!(known.send("GET", "/x", &[], "").status, 200);
    poll("both are accepted", || (peer.value("/.sys/status")["connections"].as_u64() >= Some(3)).then_some(()));
    let usual =
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(0), maximum: getrlimit(Resource::Nofile).maximum }).expect("root's or one's own");
    let mut late = peer.connect();
    late.ask("GET", "/x", &[], "");
    poll("it is told", || peer.home().log().contains("connections cannot be accepted").then_some(()));
    // What needs nothing opened goes on; whose program this is cannot be found out now.
    assert_eq!(known.send("GET", "/x", &[], "").status, 200);
    assert_ne!(new.send("GET", "/x", &[], "").status, 200);
    prlimit(pid, Resource::Nofile, usual).expect("as before");
    assert_eq!(late.answer(false).expect("an answer").status, 200);
    assert_eq!(new.send("GET", "/x", &[], "").status, 200, "the owner is not taken for somebody else from then on");
}

/// A request that never ends: half of them do not end their head, the others not their body.
fn slow_sender(peer: &Peer, number: usize) -> Client {
    let mut client = peer.connect();
    match number.is_multiple_of(2) {
        true => client.try_write(b"GET /x HTTP/1.1\r\nHos"),
        false => {
            let head = format!("PUT /slow/{number} HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\n\"", peer.authority());
            client.try_write(head.as_bytes())
        }
    };
    client
}

/// Whether the peer has said something or hung up.
fn is_let_go(client: &Client) -> bool {
    let socket = client.socket();
    socket.set_nonblocking(true).expect("a socket");
    let heard = socket.peek(&mut [0]);
    socket.set_nonblocking(false).expect("a socket");
    heard.map_or_else(|error| error.kind() != std::io::ErrorKind::WouldBlock, |_| true)
}

/// 2 000 of them for five minutes, who come again, with `TIMEBUS_FULL=1`; how long others waited meanwhile is told.
#[test]
fn slow_senders_do_not_slow_others_and_are_let_go() {
    let (count, span) = if is_full_run() { (2000, Duration::from_secs(300)) } else { (60, Duration::ZERO) };
    let peer = Peer::start();
    peer.put("/x", &json!(1));
    let mut slow: Vec<Client> = (0..count).map(|number| slow_sender(&peer, number)).collect();
    let (began, mut waited, mut again) = (Instant::now(), Vec::new(), 0);
    loop {
        let mut client = peer.connect();
        for _ in 0..100 {
            let asked = Instant::now();
            assert_eq!(client.send("GET", "/x", &[], "").json(), json!(1));
            waited.push(asked.elapsed());
            assert_eq!(peer.value("/x"), json!(1));
        }
        if began.elapsed() >= span {
            break;
        }
        for (number, client) in slow.iter_mut().enumerate().filter(|(_, client)| is_let_go(client)) {
            *client = slow_sender(&peer, number);
            again += 1;
        }
    }
    waited.sort_unstable();
    eprintln!("{count} slow senders, {again} of whom came again: of {} requests 99 % took {:?}", waited.len(), waited[waited.len() * 99 / 100]);
    peer.put("/y", &json!(2));
    // Each is told that it was too slow, or hung up on, within the deadline.
    for (number, client) in slow.iter_mut().enumerate() {
        if let Some((status, _, _)) = client.head() {
            assert_eq!(status, 408, "sender {number}");
        }
    }
    assert_eq!(peer.value("/"), json!({"x": 1, "y": 2}));
}
