//! What happens when the other side is wrong, gone or hostile.

use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{EndpointAddr, EndpointId, TransportAddr};

use super::*;

/// Something that speaks QUIC and what it likes on top.
async fn stranger(alpns: Vec<Vec<u8>>) -> iroh::Endpoint {
    let builder = iroh::Endpoint::builder(presets::Minimal).clear_ip_transports().bind_addr("127.0.0.1:0").expect("an address");
    builder.alpns(alpns).bind().await.expect("a socket on loopback")
}

fn node(endpoint: &iroh::Endpoint) -> PublicKey {
    PublicKey::from_bytes(*endpoint.id().as_bytes())
}

fn address(endpoint: &iroh::Endpoint) -> Address {
    Address::Direct(endpoint.bound_sockets()[0])
}

/// Opens a connection and its stream to a place, and lets it write whatever.
async fn intrude(place: &Place, from: &iroh::Endpoint) -> (Connection, SendStream, RecvStream) {
    let id = EndpointId::from_bytes(place.endpoint.node().as_bytes()).expect("a key");
    let to = EndpointAddr::from_parts(id, [TransportAddr::Ip(place.endpoint.sockets()[0])]);
    let connection = soon(from.connect(to, quic::ALPN)).await.expect("the place accepts");
    let (send, recv) = soon(connection.open_bi()).await.expect("one stream");
    (connection, send, recv)
}

async fn impatient() -> Place {
    Place::with(EndpointConfig { dial_timeout: Duration::from_secs(1), ..config() }).await
}

fn answers(result: Result<Link, DialError>) -> Vec<Answer> {
    match result {
        Err(DialError::Failed { tried }) => tried.into_iter().map(|tried| tried.answer).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_address_does_not_hide_the_right_one() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let dead = UdpSocket::bind("127.0.0.1:0").await.expect("a socket that answers nothing");
    let dead = Address::Direct(dead.local_addr().expect("bound"));
    let hints = [dead, "127.0.0.1:9".parse().expect("an address"), two.address()];
    let here = soon(one.endpoint.dial(Some(&two.endpoint.node()), &hints)).await.unwrap_or_else(|error| panic!("{error}"));
    here.send(b"hello".to_vec()).await.expect("a new link");
    assert_eq!(receive(&mut two.accept().await).await, b"hello");
}

#[tokio::test]
async fn wrong_addresses_are_forgotten_when_right_ones_are_known() {
    let (one, mut two) = (impatient().await, Place::new().await);
    let wrong: Address = "127.0.0.1:9".parse().expect("an address");
    assert!(soon(one.endpoint.dial(Some(&two.endpoint.node()), &[wrong])).await.is_err());
    let _ = one.link(&mut two).await;
}

#[tokio::test]
async fn says_what_was_tried_and_what_each_address_said() {
    let one = impatient().await;
    let deaf = UdpSocket::bind("127.0.0.1:0").await.expect("a socket that answers nothing");
    let deaf = Address::Direct(deaf.local_addr().expect("bound"));
    let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a socket").local_addr().expect("bound");
    let relay: Address = "relay:https://relay.example".parse().expect("an address");
    let nobody = SecretKey::generate().public();
    let hints = [deaf.clone(), Address::Direct(closed), relay.clone()];
    let error = soon(one.endpoint.dial(Some(&nobody), &hints)).await.expect_err("nobody is there");
    let DialError::Failed { tried } = &error else { panic!("{error:?}") };
    let said = |address: &Address| tried.iter().find(|tried| tried.address.as_ref() == Some(address)).map(|tried| tried.answer.clone());
    assert_eq!(said(&relay), Some(Answer::NotAllowed));
    assert_eq!(said(&deaf), Some(Answer::Silence(Duration::from_secs(1))));
    assert_eq!(said(&Address::Direct(closed)), Some(Answer::NothingThere));
    let text = error.to_string();
    assert!(text.contains(&format!("{closed}: nothing listens there")), "{text}");
}

#[tokio::test]
async fn says_when_there_is_nowhere_to_call() {
    let one = Place::new().await;
    let nobody = SecretKey::generate().public();
    let error = soon(one.endpoint.dial(Some(&nobody), &[])).await.expect_err("no address");
    assert_eq!(error, DialError::NoAddress { node: Some(nobody), searched: false });
    assert_eq!(soon(one.endpoint.dial(Some(&one.endpoint.node()), &[])).await.err(), Some(DialError::Ourselves));
    let no_key = PublicKey::from_bytes([2; 32]);
    assert_eq!(soon(one.endpoint.dial(Some(&no_key), &[])).await.err(), Some(DialError::BadKey(no_key)));
    assert!(matches!(soon(one.endpoint.dial(None, &[one.address()])).await, Err(DialError::NoAddress { .. })));
}

#[tokio::test]
async fn another_peer_at_an_address_does_not_hide_the_right_one() {
    for _ in 0..5 {
        let (one, other, mut two) = (Place::new().await, Place::new().await, Place::new().await);
        let hints = [other.address(), two.address()];
        let here = soon(one.endpoint.dial(Some(&two.endpoint.node()), &hints)).await.unwrap_or_else(|error| panic!("{error}"));
        here.send(b"hello".to_vec()).await.expect("a new link");
        assert_eq!(receive(&mut two.accept().await).await, b"hello");
    }
}

#[tokio::test]
async fn another_peer_at_the_only_address_is_not_taken_for_the_right_one() {
    let one = impatient().await;
    let expected = SecretKey::generate().public();
    let other = Place::new().await;
    let result = soon(one.endpoint.dial(Some(&expected), &[other.address()])).await;
    assert_eq!(answers(result), [Answer::Silence(Duration::from_secs(1))]);
    // And if it does answer, with a key that is not the one that was called.
    let other = stranger(vec![quic::ALPN.to_vec()]).await;
    let accepting = tokio::spawn({
        let other = other.clone();
        async move {
            while let Some(incoming) = other.accept().await {
                let _ = incoming.await;
            }
        }
    });
    let result = soon(one.endpoint.dial(Some(&expected), &[address(&other)])).await;
    assert_eq!(answers(result), [Answer::AnotherKey]);
    accepting.abort();
}

#[tokio::test]
async fn another_protocol_at_the_address_is_refused() {
    let one = impatient().await;
    let other = stranger(vec![b"timebus/2".to_vec()]).await;
    let accepting = tokio::spawn({
        let other = other.clone();
        async move {
            while let Some(incoming) = other.accept().await {
                let _ = incoming.await;
            }
        }
    });
    let result = soon(one.endpoint.dial(Some(&node(&other)), &[address(&other)])).await;
    assert_eq!(answers(result), [Answer::AnotherProtocol]);
    accepting.abort();
    // And the other way round.
    let id = EndpointId::from_bytes(one.endpoint.node().as_bytes()).expect("a key");
    let to = EndpointAddr::from_parts(id, [TransportAddr::Ip(one.endpoint.sockets()[0])]);
    assert!(soon(other.connect(to, b"timebus/2")).await.is_err());
}

#[tokio::test]
async fn a_length_that_no_frame_has_is_refused_before_there_is_memory_for_it() {
    let mut place = Place::new().await;
    for len in [0, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
        let from = stranger(Vec::new()).await;
        let (connection, mut send, _recv) = intrude(&place, &from).await;
        send.write_all(&[2, 0, 0, 0, 7, 7]).await.expect("written");
        send.write_all(&len.to_le_bytes()).await.expect("written");
        let mut link = place.accept().await;
        assert_eq!(receive(&mut link).await, [7, 7]);
        assert_eq!(soon(link.recv()).await, None);
        assert_eq!(link.ended(), Some(Ended::FrameLength { len: u64::from(len) }));
        let error = soon(connection.closed()).await;
        assert!(matches!(quic::ended(&error), Ended::There { code: CODE_PROTOCOL, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_inside_a_frame_is_broken() {
    let mut place = Place::new().await;
    let from = stranger(Vec::new()).await;
    let (_connection, mut send, _recv) = intrude(&place, &from).await;
    send.write_all(&[3, 0, 0, 0, 7, 7]).await.expect("written");
    send.finish().expect("open");
    let mut link = place.accept().await;
    assert_eq!(soon(link.recv()).await, None);
    assert_eq!(link.ended(), Some(Ended::Broken("it was cut inside a frame".into())));
}

#[tokio::test]
async fn a_second_stream_is_not_to_be_had() {
    let place = Place::new().await;
    let from = stranger(Vec::new()).await;
    let (connection, mut send, _recv) = intrude(&place, &from).await;
    send.write_all(&[1, 0, 0, 0, 7]).await.expect("written");
    let more = tokio::time::timeout(Duration::from_millis(300), connection.open_bi()).await;
    assert!(more.is_err(), "the limit is one stream");
    let none = tokio::time::timeout(Duration::from_millis(300), connection.open_uni()).await;
    assert!(none.is_err(), "there are no streams of one direction");
}

#[tokio::test]
async fn who_comes_where_nobody_takes_links_is_told_so() {
    let (door, arrivals) = door(1);
    let full = Endpoint::bind(&SecretKey::generate(), config(), door).await.expect("a socket on loopback");
    drop(arrivals);
    let one = impatient().await;
    let result = soon(one.endpoint.dial(Some(&full.node()), &[Address::Direct(full.sockets()[0])])).await;
    assert_eq!(answers(result), [Answer::Busy]);
}

/// A stranger has all the room there is. Whoever comes gets in and proves who he is; then one of them leaves, and is told why.
#[tokio::test]
async fn a_stranger_leaves_for_who_is_known() {
    let (door, mut arrivals) = door(2);
    let full = Endpoint::bind(&SecretKey::generate(), config(), door).await.expect("a socket on loopback");
    let mut strangers = Vec::new();
    let mut come = async |standing: Standing| {
        let place = impatient().await;
        let here = soon(place.endpoint.dial(Some(&full.node()), &[Address::Direct(full.sockets()[0])])).await.expect("everybody gets in");
        here.send(vec![1]).await.expect("a new link");
        let there = soon(arrivals.accept()).await.expect("it comes");
        let stays = there.stand(standing);
        strangers.push(place);
        (here, there, stays)
    };
    let (first, _first) = {
        let (here, there, stays) = come(Standing::Reader).await;
        assert!(stays);
        (here, there)
    };
    let (second, _second, stays) = come(Standing::Reader).await;
    assert!(stays);
    let (third, _third, stays) = come(Standing::Reader).await;
    assert!(!stays, "strangers do not take each other's places");
    let (friend, _friend, stays) = come(Standing::Known).await;
    assert!(stays);
    let put_out = |text: &str| Ended::There { code: CODE_BUSY, text: text.to_owned() };
    // The newcomer made room for the next, and the stranger who had been there longest for the friend.
    assert_eq!(soon(third.until_ended()).await, put_out(PUT_OUT));
    assert_eq!(soon(first.until_ended()).await, put_out(PUT_OUT));
    assert_eq!((second.ended(), friend.ended()), (None, None));
}

#[tokio::test]
async fn a_peer_that_is_gone_is_noticed() {
    let quick = || EndpointConfig { silence_max: Duration::from_secs(5), ..config() };
    let (one, mut two) = (Place::with(quick()).await, Place::with(quick()).await);
    let wire = Wire::to(two.endpoint.sockets()[0]).await;
    let here = soon(one.endpoint.dial(Some(&two.endpoint.node()), &[Address::Direct(wire.address)])).await.expect("through the wire");
    here.send(b"hello".to_vec()).await.expect("a new link");
    let mut there = two.accept().await;
    assert_eq!(receive(&mut there).await, b"hello");
    assert_eq!(here.way(), Way::to(wire.address), "no other way was found");
    wire.cut.store(true, Ordering::Relaxed);
    let began = std::time::Instant::now();
    assert_eq!(soon(here.until_ended()).await, Ended::Silent);
    assert_eq!(soon(there.until_ended()).await, Ended::Silent);
    eprintln!("noticed after {:?}", began.elapsed());
    assert_eq!(there.recv().await, None);
    assert_eq!(here.send(vec![1]).await, Err(SendError::Ended(Ended::Silent)));
}

#[tokio::test]
async fn an_idle_link_stays() {
    let quick = || EndpointConfig { silence_max: Duration::from_millis(500), ..config() };
    let (one, mut two) = (Place::with(quick()).await, Place::with(quick()).await);
    let (here, mut there) = one.link(&mut two).await;
    let nothing = tokio::time::timeout(Duration::from_secs(2), there.recv()).await;
    assert!(nothing.is_err(), "the link ended: {:?}", there.ended());
    here.send(vec![1]).await.expect("an open link");
    assert_eq!(receive(&mut there).await, [1]);
}

#[tokio::test]
async fn nonsense_from_the_network_changes_nothing() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, mut there) = one.link(&mut two).await;
    let noise = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    for len in [0, 1, 20, 1200, 1472] {
        for byte in [0, 0x40, 0xc0, 0xff] {
            noise.send_to(&vec![byte; len], two.endpoint.sockets()[0]).await.expect("sent");
        }
    }
    here.send(vec![1]).await.expect("an open link");
    assert_eq!(receive(&mut there).await, [1]);
}
