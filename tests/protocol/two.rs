//! HTTP/2 without encryption, begun as clients do that know.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::peer::{DEADLINE, Peer};

type Sender = http2::SendRequest<Full<Bytes>>;

async fn connect(peer: &Peer) -> Sender {
    let stream = tokio::net::TcpStream::connect(peer.address()).await.expect("the peer listens");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn send(
    sender: &mut Sender,
    authority: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Response<hyper::body::Incoming> {
    let mut request = Request::builder().method(method).uri(format!("http://{authority}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body.to_owned())).expect("a request");
    tokio::time::timeout(DEADLINE, sender.send_request(request)).await.expect("in time").expect("an answer")
}

async fn json(response: Response<hyper::body::Incoming>) -> Value {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&body).unwrap_or(Value::Null)
}

#[test]
fn http_2_reads_writes_and_subscribes() {
    let peer = Peer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let own = peer.authority();
        let mut sender = connect(&peer).await;
        let put = send(&mut sender, &own, "PUT", "/two", &[("content-type", "application/json")], "{\"a\":1}").await;
        assert_eq!(put.status(), 200);
        let get = send(&mut sender, &own, "GET", "/two", &[], "").await;
        assert_eq!(json(get).await, json!({"a": 1}));
        let mut stream = send(&mut sender, &own, "GET", "/two", &[("subscribe", "true"), ("accept", "application/x-ndjson")], "").await.into_body();
        let mut heard = String::new();
        let mut wrote = false;
        while !heard.contains("\"value\":2") {
            let frame = tokio::time::timeout(DEADLINE, stream.frame()).await.expect("in time").expect("more").expect("a frame");
            heard.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
            if !wrote && heard.contains("caught_up") {
                wrote = true;
                // On the same connection, while the stream is open.
                assert_eq!(send(&mut sender, &own, "PUT", "/two/a", &[("content-type", "application/json")], "2").await.status(), 200);
            }
        }
        let lines: Vec<Value> = heard.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!((&lines[0]["snapshot"], &lines[2]["put"]), (&json!({"a": 1}), &json!("/two/a")), "{heard}");
        // Fifty at once.
        let requests: Vec<_> = (0..50)
            .map(|number| {
                let (mut sender, own) = (sender.clone(), own.clone());
                tokio::spawn(async move {
                    send(&mut sender, &own, "PUT", &format!("/many/{number}"), &[("content-type", "application/json")], "1").await.status()
                })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.expect("a task"), 200);
        }
        for authority in ["evil.com".to_owned(), own.replace("127.0.0.1", "LOCALHOST")] {
            assert_eq!(send(&mut sender, &authority, "GET", "/two", &[], "").await.status(), 421, "{authority}");
        }
        assert_eq!(send(&mut sender, &own, "GET", "/two", &[("host", "evil.com")], "").await.status(), 421);
        let origin = send(&mut sender, &own, "PUT", "/two", &[("origin", "http://evil.com")], "3").await;
        assert!(matches!(origin.status().as_u16(), 401 | 403));
    });
    assert_eq!(peer.value("/two"), json!({"a": 2}));
}
