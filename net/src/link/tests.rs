//! Links over real sockets of this machine. Nothing here leaves the loopback interface.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use timebus_identity::SecretKey;
use tokio::net::UdpSocket;

use super::address::Address;
use super::endpoint::{Endpoint, EndpointConfig};
use super::relay::{Relay, RelayConfig};
use super::*;

mod direct;
mod failing;
mod over_websockets;
mod sockets;
mod speed;
mod through_a_relay;

/// How long anything may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A peer of a test, on the loopback interface alone.
struct Place {
    endpoint: Endpoint,
    arrivals: Arrivals,
}

fn config() -> EndpointConfig {
    EndpointConfig { bind: vec![SocketAddr::from(([127, 0, 0, 1], 0))], lan: None, ..EndpointConfig::default() }
}

impl Place {
    async fn new() -> Self {
        Self::with(config()).await
    }

    async fn with(config: EndpointConfig) -> Self {
        Self::of(&SecretKey::generate(), config).await
    }

    async fn of(key: &SecretKey, config: EndpointConfig) -> Self {
        let (door, arrivals) = door(16);
        let endpoint = Endpoint::bind(key, config, door).await.expect("sockets on loopback");
        Self { endpoint, arrivals }
    }

    fn address(&self) -> Address {
        Address::Direct(self.endpoint.sockets()[0])
    }

    async fn call(&self, other: &Self) -> Result<Link, DialError> {
        soon(self.endpoint.dial(Some(&other.endpoint.node()), &[other.address()])).await
    }

    /// The next link that somebody opened to here.
    async fn accept(&mut self) -> Link {
        soon(self.arrivals.accept()).await.expect("somebody comes")
    }

    /// A link to another place and its other end. One frame has gone, so that the other end knows.
    async fn link(&self, other: &mut Self) -> (Link, Link) {
        let here = self.call(other).await.unwrap_or_else(|error| panic!("{error}"));
        here.send(b"hello".to_vec()).await.expect("a new link");
        let mut there = other.accept().await;
        assert_eq!(receive(&mut there).await, b"hello");
        (here, there)
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(TIMEOUT, future).await.expect("in time")
}

async fn receive(link: &mut Link) -> Vec<u8> {
    match soon(link.recv()).await {
        Some(frame) => frame,
        None => panic!("the link ended: {:?}", link.ended()),
    }
}

/// Frames of many lengths, each different from the others.
fn frames(lengths: &[usize]) -> Vec<Vec<u8>> {
    lengths.iter().enumerate().map(|(at, len)| (0..*len).map(|byte| (byte * 31 + at * 7) as u8).collect()).collect()
}

/// Carries the UDP packets of one caller to a peer and back, until it is cut.
struct Wire {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    _task: tokio::task::JoinHandle<()>,
}

impl Wire {
    async fn to(target: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let back = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        back.connect(target).await.expect("loopback");
        let address = front.local_addr().expect("bound");
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        let task = tokio::spawn(async move {
            let (mut there, mut back_again) = (vec![0; 65536], vec![0; 65536]);
            let mut caller = None;
            loop {
                tokio::select! {
                    Ok((len, from)) = front.recv_from(&mut there) => {
                        caller = Some(from);
                        if !is_cut.load(Ordering::Relaxed) {
                            let _ = back.send(&there[..len]).await;
                        }
                    }
                    Ok(len) = back.recv(&mut back_again) => {
                        if let Some(caller) = caller.filter(|_| !is_cut.load(Ordering::Relaxed)) {
                            let _ = front.send_to(&back_again[..len], caller).await;
                        }
                    }
                }
            }
        });
        Self { address, cut, _task: task }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self._task.abort();
    }
}
