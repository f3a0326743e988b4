use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::peer::{Peer, is_full_run};
use crate::socket::Socket;

/// Most memory that the peer may take, whatever its subscribers do.
const RESIDENT_BYTES_MAX: u64 = 300_000_000;
const WRITES: usize = 300;

#[test]
fn slow_readers_in_a_crowd_cost_nobody_anything() {
    let (fast, slow) = if is_full_run() { (950, 50) } else { (190, 10) };
    let peer = Peer::start();
    peer.put("/hot", &json!({"n": 0}));
    let may_hurry = AtomicBool::new(false);
    let mut peak = 0;
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for number in 0..fast + slow {
            let is_slow = number >= fast;
            let mut socket = if is_slow { Socket::open_small(&peer) } else { Socket::open(&peer) };
            socket.say(&json!({"id": 1, "watch": "/hot"}));
            while socket.hear().get("caught_up").is_none() {}
            let may_hurry = &may_hurry;
            let thread = std::thread::Builder::new().stack_size(256 * 1024);
            let thread = thread.spawn_scoped(scope, move || if is_slow { read_slowly(socket, may_hurry) } else { read_to_the_end(socket.0) });
            readers.push(thread.expect("a thread"));
        }
        let mut client = peer.connect();
        let filling = "x".repeat(20_000);
        for number in 1..=WRITES {
            let n = if number == WRITES { json!("last") } else { json!(number) };
            let body = json!({"n": n, "filling": format!("{number} {filling}")}).to_string();
            let answer = client.send("PUT", "/hot", &[("Content-Type", "application/json")], body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            if number % 20 == 0 {
                peak = peak.max(peer.resident_bytes());
            }
        }
        // A peer that waited for the slow ones would not come here.
        for reader in readers.drain(..fast) {
            reader.join().expect("a reader").expect("nobody is disconnected");
        }
        peak = peak.max(peer.resident_bytes());
        may_hurry.store(true, Ordering::Relaxed);
        for reader in readers {
            let behind = reader.join().expect("a reader").expect("no slow reader is disconnected");
            assert!(behind >= 1, "a slow reader was sent everything");
        }
    });
    eprintln!("{fast} fast and {slow} slow subscribers, {WRITES} writes of 20 kB: at most {} MB resident", peak / 1_000_000);
    assert!(peak < RESIDENT_BYTES_MAX, "{peak} bytes resident");
}

/// Most memory for ten thousand subscriptions that take nothing.
const STALLED_BYTES_MAX: u64 = 200 << 20;

/// 10 000 of them with `TIMEBUS_FULL=1`.
#[test]
fn readers_who_take_nothing_cost_little() {
    const WATCHES: u64 = 250;
    let sockets = if is_full_run() { 40 } else { 4 };
    let peer = Peer::start();
    peer.put("/hot", &json!({"n": 0}));
    let mut stalled: Vec<Socket> = (0..sockets).map(|_| Socket::open_small(&peer)).collect();
    for socket in &mut stalled {
        for id in 0..WATCHES {
            socket.say(&json!({"id": id, "watch": "/hot"}));
            while socket.hear().get("caught_up").is_none() {}
        }
    }
    let mut client = peer.connect();
    let filling = "x".repeat(20_000);
    for number in 0..WRITES {
        let body = json!({"n": number, "filling": format!("{number} {filling}")}).to_string();
        let headers = [("Content-Type", "application/json"), ("Prefer", "respond-async")];
        assert_eq!(client.send("PUT", "/hot", &headers, body).status, 200);
    }
    peer.put("/hot/n", &json!("last"));
    let resident = peer.resident_bytes();
    eprintln!("{} subscriptions that take nothing, {WRITES} writes of 20 kB: {} MB resident", sockets * WATCHES, resident / 1_000_000);
    assert!(resident < STALLED_BYTES_MAX, "{resident} bytes resident");
    // They are as good as any: whoever reads again gets to the end.
    let last = stalled.pop().expect("a socket");
    last.0.get_ref().set_read_timeout(Some(crate::peer::DEADLINE)).expect("a timeout");
    let mut last = last;
    let mut done = std::collections::BTreeSet::new();
    while done.len() < WATCHES as usize {
        let message = last.hear();
        if message["snapshot"]["n"] == "last" || message["put"] == "/hot/n" && message["value"] == "last" {
            done.insert(message["id"].as_u64());
        }
    }
}

/// Whether a message brings the last value; without reading all of it as JSON, which would be most of the work.
fn is_last(message: &str) -> bool {
    message.contains("\"n\":\"last\"") || message.contains("\"put\":\"/hot/n\",\"value\":\"last\"")
}

/// Reads until the last value is there; how often it was behind.
fn read_to_the_end<S: Read + Write>(mut socket: WebSocket<S>) -> Result<usize, String> {
    let mut behind = 0;
    let mut was_last = false;
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                was_last |= is_last(&text);
                let head = &text[..text.len().min(200)];
                behind += usize::from(head.starts_with("{\"id\":1,\"behind\""));
                // The last change has two parts; the filling comes first.
                if was_last && !text.contains("\"more\":true") {
                    let message: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
                    return if message["id"] == 1 { Ok(behind) } else { Err(text.to_string()) };
                }
            }
            Ok(Message::Close(frame)) => return Err(format!("{frame:?}")),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Reads a byte a second until it may hurry.
fn read_slowly(socket: Socket, may_hurry: &AtomicBool) -> Result<usize, String> {
    let mut stream: &TcpStream = socket.0.get_ref();
    let mut first = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(1))).map_err(|error| error.to_string())?;
    while !may_hurry.load(Ordering::Relaxed) {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => first.push(byte[0]),
            Ok(_) => return Err("the peer hung up".to_owned()),
            // Nothing has come yet.
            Err(_) => continue,
        }
        // This is the pace of the reader, not a wait for something.
        std::thread::sleep(Duration::from_secs(1));
    }
    stream.set_read_timeout(Some(crate::peer::DEADLINE)).map_err(|error| error.to_string())?;
    let stream = stream.try_clone().map_err(|error| error.to_string())?;
    // What was read byte by byte is the beginning of what follows.
    let whole = Patient { first: Cursor::new(first), stream };
    read_to_the_end(WebSocket::from_raw_socket(whole, Role::Client, None))
}

/// A socket of which some was read already.
struct Patient {
    first: Cursor<Vec<u8>>,
    stream: TcpStream,
}

impl Read for Patient {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        match self.first.read(out)? {
            0 => self.stream.read(out),
            count => Ok(count),
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
