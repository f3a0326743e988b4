//! Two endpoints that reach each other by UDP.

use super::*;

#[tokio::test]
async fn both_ends_know_whom_they_talk_to_and_share_a_secret() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, there) = one.link(&mut two).await;
    assert_eq!((here.remote(), there.remote()), (Some(two.endpoint.node()), Some(one.endpoint.node())));
    assert!(here.is_initiator() && !there.is_initiator());
    assert_eq!(here.binding(), there.binding());
    assert_ne!(here.binding(), &[0; 32]);
    assert_eq!(here.way(), Way::to(two.endpoint.sockets()[0]));
    assert!(here.way().to_string().starts_with("lan 127.0.0.1:"), "{}", here.way());
    assert!(here.round_trip().is_some_and(|time| time < TIMEOUT));
    let (again, again_there) = one.link(&mut two).await;
    assert_eq!(again.binding(), again_there.binding());
    assert_ne!(again.binding(), here.binding(), "each link has a secret of its own");
}

#[tokio::test]
async fn frames_of_all_lengths_arrive_whole_and_in_order() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, mut there) = one.link(&mut two).await;
    let sent = frames(&[1, 2, 3, 4, 5, 1000, 16 * 1024, 64 * 1024 - 4, 64 * 1024, SEND_BYTES_MAX, SEND_BYTES_MAX + 1, FRAME_BYTES_MAX, 1]);
    let sending = async {
        for frame in sent.clone() {
            here.send(frame).await.expect("an open link");
        }
    };
    let receiving = async {
        for frame in &sent {
            assert!(receive(&mut there).await == *frame, "a frame of {} bytes", frame.len());
        }
    };
    tokio::join!(sending, receiving);
}

#[tokio::test]
async fn refuses_to_send_what_is_no_frame() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, mut there) = one.link(&mut two).await;
    for len in [0, FRAME_BYTES_MAX + 1] {
        assert_eq!(here.send(vec![0; len]).await, Err(SendError::FrameLength { len }));
    }
    here.send(vec![1]).await.expect("the link goes on");
    assert_eq!(receive(&mut there).await, [1]);
}

#[tokio::test]
async fn both_directions_at_once_hold_nothing_up() {
    const COUNT: usize = 40;
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, there) = one.link(&mut two).await;
    let exchange = |link: Link, mark: u8| async move {
        let (sender, mut receiver) = link.split();
        let sending = async {
            for at in 0..COUNT {
                sender.send(vec![mark + at as u8; 100_000]).await.expect("an open link");
            }
        };
        let receiving = async {
            let mut firsts = Vec::new();
            for _ in 0..COUNT {
                firsts.push(soon(receiver.recv()).await.expect("a frame")[0]);
            }
            firsts
        };
        let ((), firsts) = tokio::join!(sending, receiving);
        (firsts, receiver)
    };
    let ((from_there, _here), (from_here, _there)) = tokio::join!(exchange(here, 100), exchange(there, 0));
    assert_eq!(from_there, (0..COUNT as u8).collect::<Vec<_>>());
    assert_eq!(from_here, (100..100 + COUNT as u8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_that_stops_holds_the_sender_back() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, mut there) = one.link(&mut two).await;
    const LEN: usize = 64 * 1024;
    let mut sent = 0;
    // What fits between the two is bounded; when nothing more goes for a while, it is full.
    while let Ok(result) = tokio::time::timeout(Duration::from_secs(1), here.send(vec![7; LEN])).await {
        result.expect("an open link");
        sent += 1;
        assert!(sent * LEN < 4 * 1024 * 1024, "{sent} frames and no end");
    }
    assert!(sent * LEN >= SEND_BYTES_MAX, "{sent}");
    assert!(here.room() < LEN);
    // It is not dead, only full: reading makes room again.
    let waiting = async { assert!(here.has_room(SEND_BYTES_MAX).await) };
    let reading = async {
        for _ in 0..sent {
            assert_eq!(receive(&mut there).await.len(), LEN);
        }
    };
    soon(async { tokio::join!(waiting, reading) }).await;
    assert_eq!(here.room(), SEND_BYTES_MAX);
}

#[tokio::test]
async fn what_was_sent_before_closing_arrives_with_the_reason_behind_it() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, mut there) = one.link(&mut two).await;
    for at in 0..50 {
        here.send(vec![at; 10_000]).await.expect("an open link");
        if at == 20 {
            // The other side reads all the while, or else not all of it would fit.
            for at in 0..15 {
                assert_eq!(receive(&mut there).await[0], at);
            }
        }
    }
    here.close(8, "going away");
    here.close(3, "only the first reason counts");
    assert!(matches!(here.send(vec![1]).await, Err(SendError::Ended(Ended::Here { code: 8, .. }))));
    for at in 15..50 {
        assert_eq!(receive(&mut there).await[0], at);
    }
    assert_eq!(soon(there.recv()).await, None);
    assert_eq!(there.ended(), Some(Ended::There { code: 8, text: "going away".into() }));
    assert_eq!(soon(here.until_ended()).await, Ended::Here { code: 8, text: "going away".into() });
}

#[tokio::test]
async fn a_link_that_nobody_reads_is_closed_in_time() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, there) = one.link(&mut two).await;
    while tokio::time::timeout(Duration::from_millis(300), here.send(vec![7; 64 * 1024])).await.is_ok() {}
    here.close(0, "");
    assert_eq!(soon(here.until_ended()).await, Ended::Here { code: 0, text: String::new() });
    assert_eq!(soon(there.until_ended()).await, Ended::There { code: 0, text: String::new() });
}

#[tokio::test]
async fn dropping_a_link_closes_it() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, mut there) = one.link(&mut two).await;
    drop(here);
    assert_eq!(soon(there.recv()).await, None);
    assert_eq!(there.ended(), Some(Ended::There { code: 0, text: String::new() }));
    let (here, there) = one.link(&mut two).await;
    let (sender, receiver) = here.split();
    drop(receiver);
    assert!(sender.send(vec![1]).await.is_err(), "without its receiver the link is closed, whoever still has a sender");
    assert!(matches!(soon(there.until_ended()).await, Ended::There { code: 0, .. }));
}

#[tokio::test]
async fn waiting_for_a_frame_can_be_given_up() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (here, mut there) = one.link(&mut two).await;
    let frame = frames(&[FRAME_BYTES_MAX]).remove(0);
    let (sent, received) = tokio::join!(here.send(frame.clone()), async {
        loop {
            // Each turn gives up after one poll or so, in the middle of the frame.
            if let Ok(received) = tokio::time::timeout(Duration::from_millis(1), there.recv()).await {
                return received;
            }
        }
    });
    sent.expect("an open link");
    assert!(received.as_ref() == Some(&frame));
}

#[tokio::test]
async fn the_endpoint_can_be_closed() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let (_here, mut there) = one.link(&mut two).await;
    soon(one.endpoint.close()).await;
    assert_eq!(soon(there.recv()).await, None);
    assert!(matches!(there.ended(), Some(Ended::There { .. })), "{:?}", there.ended());
    assert!(one.call(&two).await.is_err());
}

#[tokio::test]
async fn says_where_it_can_be_called() {
    let extra: Address = "wss://peer.example".parse().expect("an address");
    let place = Place::with(EndpointConfig { advertise: vec![extra.clone()], ..config() }).await;
    let own = place.address();
    let mut watch = place.endpoint.watch_addresses();
    soon(watch.wait_for(|addresses| addresses.contains(&own))).await.expect("the endpoint lives");
    assert!(place.endpoint.addresses().contains(&extra));
}
