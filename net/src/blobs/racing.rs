//! A running peer whose files lose and regain what refers to them, over HTTP, while it is looked all the time for what may go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use timebus_identity::Token;
use timebus_store::blobs::collect::Retention;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::blobs::swarm::Dice;
use crate::peer::{Peer, PeerConfig};
use crate::who::now_ms;
use crate::whose::tests::open;

/// Writers at once, each with paths of its own and the same few contents.
const WRITERS: u64 = 4;
/// What each of them does.
const STEPS: u64 = 120;
/// Contents that there are, so that many paths name one file.
const CONTENTS: u64 = 5;
const PATHS: u64 = 3;
/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Larger than what is kept in a value.
fn content(number: u64) -> Vec<u8> {
    (0..150_000u64 + number).map(|at| (at * (number + 3) % 251) as u8).collect()
}

/// A connection of the owner.
struct Client {
    stream: TcpStream,
    head: String,
}

impl Client {
    async fn ask(&mut self, method: &str, path: &str, more: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let head = format!("{method} {path} HTTP/1.1\r\n{}{more}Content-Length: {}\r\n\r\n", self.head, body.len());
        self.stream.write_all(&[head.as_bytes(), body].concat()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let field = |name: &str| head.lines().find_map(|line| Some(line.to_lowercase().strip_prefix(name)?.trim().to_owned()));
        let length = field("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.expect("a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let place = head.lines().find_map(|line| line.strip_prefix("location:").or(line.strip_prefix("Location:"))).unwrap_or("").trim().to_owned();
        (status, place, body)
    }
}

/// What one writer does. What was acknowledged, and was there when it was read then, is there as long as a path names it.
async fn write(mut client: Client, seed: u64, who: u64, read: Arc<AtomicU64>) {
    let (mut dice, mut there) = (Dice::new(seed ^ (who << 32)), BTreeMap::<u64, Vec<u8>>::new());
    let mut last: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for step in 0..STEPS {
        let (path, number) = (dice.below(PATHS), dice.below(CONTENTS));
        let at = format!("/of/{who}/{path}");
        let told = format!("seed {seed}, writer {who}, step {step}, {at}");
        let media = "Content-Type: video/mp4\r\n";
        match dice.below(6) {
            // A file that is new, or that is here, or was just about to go.
            0 | 1 => {
                let bytes = content(number);
                let (status, ..) = client.ask("PUT", &at, media, &bytes).await;
                assert!(status < 300, "{told}: put {status}");
                last.extend(there.insert(path, bytes).map(|before| (path, before)));
            }
            // The same in parts.
            2 => {
                let bytes = content(number);
                let (status, place, _) = client.ask("PUT", &at, &format!("{media}Upload-Complete: ?0\r\n"), b"").await;
                assert_eq!(status, 201, "{told}");
                let part =
                    |at: usize, end: &str| format!("Content-Type: application/partial-upload\r\nUpload-Offset: {at}\r\nUpload-Complete: {end}\r\n");
                let (status, ..) = client.ask("PATCH", &place, &part(0, "?0"), &bytes[..70_000]).await;
                assert_eq!(status, 204, "{told}");
                let (status, ..) = client.ask("PATCH", &place, &part(70_000, "?1"), &bytes[70_000..]).await;
                assert!(status < 300, "{told}: {status}");
                last.extend(there.insert(path, bytes).map(|before| (path, before)));
            }
            3 | 4 if there.contains_key(&path) => {
                let (status, ..) = client.ask("DELETE", &at, "", b"").await;
                assert!(status < 300, "{told}: delete {status}");
                last.extend(there.remove(&path).map(|before| (path, before)));
            }
            // What was taken away comes back, unless its bytes went meanwhile: then that is said, and it is put again.
            _ if !there.contains_key(&path) && last.contains_key(&path) => {
                let (status, ..) = client.ask("POST", &format!("/.sys/undo{at}"), "", b"").await;
                assert!(status < 300, "{told}: undo {status}");
                let before = last[&path].clone();
                let (status, _, got) = client.ask("GET", &at, "", b"").await;
                match status {
                    200 => {
                        assert!(got == before, "{told}: another file came back");
                        there.insert(path, before);
                    }
                    _ => {
                        assert!((500..505).contains(&status), "{told}: {status}");
                        let (status, ..) = client.ask("PUT", &at, media, &before).await;
                        assert!(status < 300, "{told}: {status}");
                        there.insert(path, before);
                    }
                }
            }
            // It is to stay in any case, or not any more; only one says so, as what is said has no one place where there is no network.
            _ if who == 0 => {
                let which = if dice.below(2) == 0 { "pin" } else { "unpin" };
                let (status, ..) = client.ask("POST", &format!("/.sys/blobs/{which}"), "", format!("{{\"path\":\"{at}\"}}").as_bytes()).await;
                assert!(status < 300, "{told}: {which} {status}");
            }
            _ => {}
        }
        for (path, bytes) in &there {
            let (status, _, got) = client.ask("GET", &format!("/of/{who}/{path}"), "", b"").await;
            assert!(status == 200 && got == *bytes, "{told}: what is at {path} is lost, {status}");
            read.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_file_that_something_names_goes_while_it_is_looked_for_what_may() {
    let seed =
        std::env::var("TIMEBUS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| u64::from_le_bytes(timebus_identity::random_bytes()));
    eprintln!("seed {seed}");
    let home = tempfile::tempdir().expect("a folder");
    let peer = Peer::new(open(home.path()), Token::generate(), PeerConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(crate::server::serve(peer.clone(), vec![listener], std::future::pending()));
    let head = format!("Host: {address}\r\nAuthorization: Bearer {}\r\n", peer.token.text().as_str());
    // Nothing has to wait: what nothing names goes at once, and what only older versions name soon.
    let (is_over, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let collecting = {
        let (store, is_over, gone) = (peer.store().clone(), Arc::clone(&is_over), Arc::clone(&gone));
        std::thread::spawn(move || {
            let mut dice = Dice::new(seed);
            while !is_over.load(Ordering::Relaxed) {
                let now_ms = now_ms();
                if dice.below(4) == 0 {
                    gone.fetch_add(store.drop_history(false, now_ms).expect("looks").0, Ordering::Relaxed);
                } else {
                    let retention = Retention { history_ms: dice.below(30), grace_ms: 0 };
                    gone.fetch_add(store.collect_blobs(retention, now_ms, &|_| Ok(false)).expect("looks").removed, Ordering::Relaxed);
                }
            }
        })
    };
    let read = Arc::new(AtomicU64::new(0));
    let mut writing = tokio::task::JoinSet::new();
    for who in 0..WRITERS {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let client = Client { stream, head: head.clone() };
        writing.spawn(tokio::time::timeout(TIMEOUT, write(client, seed, who, Arc::clone(&read))));
    }
    while let Some(done) = writing.join_next().await {
        done.unwrap_or_else(|error| panic!("seed {seed}: {error}")).unwrap_or_else(|_| panic!("seed {seed}: it takes too long"));
    }
    is_over.store(true, Ordering::Relaxed);
    collecting.join().expect("it looked to the end");
    let (gone, read) = (gone.load(Ordering::Relaxed), read.load(Ordering::Relaxed));
    eprintln!("{gone} files went, {read} were read");
    assert!(gone > 0 && read > 200, "seed {seed}: nothing was tried: {gone} went, {read} were read");
    peer.stop();
    let _ = tokio::time::timeout(TIMEOUT, serving).await;
}
