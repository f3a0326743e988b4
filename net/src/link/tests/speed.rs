//! How fast links are. Prints, and asserts nothing.
//!
//! `cargo test --release -p timebus-net link::tests::speed -- --ignored --nocapture --test-threads 1`

use std::time::Instant;

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

/// Bytes of one measurement.
const BYTES: usize = 64 * 1024 * 1024;

async fn measure(name: &str, here: &Link, there: &mut Link) {
    for len in [1024, 64 * 1024] {
        let count = BYTES / len;
        let began = Instant::now();
        let sending = async {
            for _ in 0..count {
                here.send(vec![7; len]).await.expect("an open link");
            }
        };
        let receiving = async {
            for _ in 0..count {
                there.recv().await.expect("a frame");
            }
        };
        tokio::join!(sending, receiving);
        let seconds = began.elapsed().as_secs_f64();
        let (frames, bytes) = (count as f64 / seconds, BYTES as f64 / seconds / 1e6);
        eprintln!("{name}: frames of {len} bytes: {frames:.0} a second, {bytes:.0} MB/s");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn of_iroh() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..20 {
        let began = Instant::now();
        let here = one.call(&two).await.expect("a link");
        here.send(vec![0]).await.expect("a new link");
        let mut there = two.accept().await;
        there.recv().await.expect("a frame");
        times.push(began.elapsed());
        last = Some((here, there));
    }
    times.sort();
    eprintln!("iroh: until the first frame is there: median {:?}, slowest {:?}", times[10], times[19]);
    let (here, mut there) = last.expect("one of twenty");
    measure("iroh", &here, &mut there).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn of_websockets() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let began = Instant::now();
    let connecting = tokio::net::TcpStream::connect(listener.local_addr().expect("bound"));
    let (ours, theirs) = tokio::join!(connecting, listener.accept());
    let (ours, (theirs, _)) = (ours.expect("connected"), theirs.expect("accepted"));
    for stream in [&ours, &theirs] {
        stream.set_nodelay(true).expect("a socket");
    }
    let ours = WebSocketStream::from_raw_socket(ours, Role::Client, Some(websocket::config())).await;
    let theirs = WebSocketStream::from_raw_socket(theirs, Role::Server, Some(websocket::config())).await;
    let here = websocket::start(ours, "localhost", true, None);
    let mut there = websocket::start(theirs, "localhost", false, None);
    here.send(vec![0]).await.expect("a new link");
    there.recv().await.expect("a frame");
    eprintln!("websocket: until the first frame is there (without HTTP): {:?}", began.elapsed());
    measure("websocket", &here, &mut there).await;
}

#[tokio::test]
#[ignore = "a measurement of half a minute"]
async fn of_noticing_that_the_other_side_is_gone() {
    let (one, mut two) = (Place::new().await, Place::new().await);
    let wire = Wire::to(two.endpoint.sockets()[0]).await;
    let here = one.endpoint.dial(Some(&two.endpoint.node()), &[Address::Direct(wire.address)]).await.expect("through the wire");
    here.send(vec![0]).await.expect("a new link");
    let mut there = two.accept().await;
    there.recv().await.expect("a frame");
    // Once the frame's last acknowledgement has gone, nothing but signs of life is under way.
    let _ = tokio::time::timeout(Duration::from_secs(7), there.recv()).await;
    wire.cut.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let ended = here.until_ended().await;
    eprintln!("iroh: {ended:?} after {:?}", began.elapsed());
    let ended = there.until_ended().await;
    eprintln!("iroh, other side: {ended:?} after {:?}", began.elapsed());
}
