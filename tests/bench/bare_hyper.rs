//! The reference for HTTP: hyper answering with a constant, in a process of its own.

use std::convert::Infallible;
use std::io::Write as _;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::documents::{self, Shape};

/// Started with this one argument, the benchmark is this server.
pub(crate) const ARGUMENT: &str = "--bare-hyper";

/// Prints the address and serves until killed.
pub(crate) fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        let mut document = Vec::new();
        documents::document(Shape::Object, 0, &mut document);
        let document = Bytes::from(document);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let document = document.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| answer(request, document.clone()));
                // A client that goes away is no business of ours.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

/// Reads whatever was sent to its end and answers with `document`.
async fn answer(request: Request<Incoming>, document: Bytes) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let mut response = Response::new(Full::new(document));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
