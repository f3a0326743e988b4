//! Endpoints without UDP sockets, which find each other at a relay of our own.

use super::*;

async fn relay() -> (Relay, iroh::RelayUrl) {
    let relay = Relay::start(RelayConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)))).await.expect("a socket on loopback");
    let url = format!("http://{}", relay.address()).parse().expect("a URL");
    (relay, url)
}

fn only(relay: &iroh::RelayUrl) -> EndpointConfig {
    EndpointConfig { is_direct: false, relays: vec![relay.clone()], lan: None, ..EndpointConfig::default() }
}

/// Waits until others can reach a place through a relay, and it says so.
async fn at_home(place: &Place, relay: &Relay, url: &iroh::RelayUrl, peers: usize) {
    let home = Address::Relay(url.clone());
    soon(place.endpoint.watch_addresses().wait_for(|addresses| addresses.contains(&home))).await.expect("the endpoint lives");
    let is_there = || relay.peers() == peers && place.endpoint.relays().iter().any(|health| health.is_connected && health.url == url.to_string());
    soon(async {
        while !is_there() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn two_that_share_only_a_relay_have_a_link() {
    let (relay, url) = relay().await;
    let (one, mut two) = (Place::with(only(&url)).await, Place::with(only(&url)).await);
    assert!(one.endpoint.sockets().is_empty(), "{:?}", one.endpoint.sockets());
    at_home(&one, &relay, &url, 2).await;
    at_home(&two, &relay, &url, 2).await;
    let hint = Address::Relay(url.clone());
    let here = soon(one.endpoint.dial(Some(&two.endpoint.node()), &[hint])).await.unwrap_or_else(|error| panic!("{error}"));
    let big = frames(&[FRAME_BYTES_MAX]).remove(0);
    let (sent, mut there) = tokio::join!(here.send(big.clone()), two.accept());
    sent.expect("a new link");
    assert!(receive(&mut there).await == big);
    assert_eq!(here.binding(), there.binding());
    assert_eq!(here.way(), Way::Relay(url.to_string()));
    assert_eq!(relay.peers(), 2);
    soon(relay.stop()).await.expect("it was running");
}

#[tokio::test]
async fn a_relay_is_contacted_only_when_allowed() {
    let (relay, url) = relay().await;
    let mut two = Place::with(only(&url)).await;
    at_home(&two, &relay, &url, 1).await;
    let one = Place::with(EndpointConfig { dial_timeout: Duration::from_secs(5), ..config() }).await;
    let hint = Address::Relay(url.clone());
    let refused = soon(one.endpoint.dial(Some(&two.endpoint.node()), std::slice::from_ref(&hint))).await;
    let expected = vec![Tried { address: Some(hint.clone()), answer: Answer::NotAllowed }];
    assert_eq!(refused.err(), Some(DialError::Failed { tried: expected }));
    assert_eq!(relay.peers(), 1, "nobody but the other was there");
    one.endpoint.allow_relay(url);
    let here = soon(one.endpoint.dial(Some(&two.endpoint.node()), &[hint])).await.unwrap_or_else(|error| panic!("{error}"));
    here.send(b"hello".to_vec()).await.expect("a new link");
    assert_eq!(receive(&mut two.accept().await).await, b"hello");
}

#[tokio::test]
async fn a_relay_serves_only_whom_it_should() {
    let guest = SecretKey::generate();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let relay = Relay::start(RelayConfig { allow: vec![guest.public()], ..RelayConfig::new(listen) }).await.expect("a socket on loopback");
    let url: iroh::RelayUrl = format!("http://{}", relay.address()).parse().expect("a URL");
    let guest = Place::of(&guest, only(&url)).await;
    at_home(&guest, &relay, &url, 1).await;
    let stranger = Place::with(only(&url)).await;
    let problem = soon(async {
        loop {
            if let Some(problem) = stranger.endpoint.relays().into_iter().find_map(|relay| relay.problem) {
                return problem;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(problem.contains("not for your node key"), "{problem}");
    assert_eq!(relay.peers(), 1);
}

#[tokio::test]
async fn a_direct_address_is_used_even_if_the_relay_is_dead() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url: iroh::RelayUrl = format!("http://{}", dead.local_addr().expect("bound")).parse().expect("a URL");
    let (one, mut two) = (Place::with(EndpointConfig { relays: vec![url.clone()], ..config() }).await, Place::new().await);
    let hints = [Address::Relay(url), two.address()];
    let here = soon(one.endpoint.dial(Some(&two.endpoint.node()), &hints)).await.unwrap_or_else(|error| panic!("{error}"));
    here.send(b"hello".to_vec()).await.expect("a new link");
    assert_eq!(receive(&mut two.accept().await).await, b"hello");
    assert!(matches!(here.way(), Way::Lan(_)), "{}", here.way());
}
