//! Sockets: accepts connections, speaks HTTP/1.1 and HTTP/2 on one port, and hands requests to `route`.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::peer::{Counted, Peer};

/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Most bytes of a request head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long a request head may take, and an idle connection may stay.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the first request head of a connection may take: nobody has a reason to be slow there.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// How long open requests may go on when the peer stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a request comes from.
#[derive(Debug)]
pub(crate) struct Link {
    /// Our end and theirs; `None` inside the process, where only the owner is.
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
    owner: OnceLock<bool>,
    /// What the connection counts in for as long as it is open, also when it became a websocket.
    _held: (Option<OwnedSemaphorePermit>, Counted),
}

impl Link {
    /// Whether the other end is a program of the user who runs this peer.
    pub(crate) fn is_owner(&self) -> bool {
        let Some((local, peer)) = self.ends else { return true };
        *self.owner.get_or_init(|| {
            peer.ip().to_canonical().is_loopback()
                && crate::owner::current_uid().is_some()
                && crate::owner::socket_owner(local, peer).ok().flatten() == crate::owner::current_uid()
        })
    }
}

/// Serves a peer until `stop` ends or [`Peer::stop`] is called.
///
/// # Errors
///
/// When a listener has no address.
pub async fn serve(peer: Peer, listeners: Vec<TcpListener>, stop: impl Future<Output = ()>) -> std::io::Result<()> {
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    peer.listen(&addresses)?;
    let connections = Arc::new(Semaphore::new(peer.config.connections_max));
    let graceful = GracefulShutdown::new();
    let mut stopped = peer.stop.subscribe();
    let mut tasks = tokio::task::JoinSet::new();
    let (accepted, mut incoming) = tokio::sync::mpsc::channel(64);
    for listener in listeners {
        let accepted = accepted.clone();
        let connections = Arc::clone(&connections);
        tasks.spawn(async move {
            loop {
                // Who finds the house full waits in the kernel's queue, not in our memory.
                let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, from)) => {
                        if accepted.send((stream, from, permit)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
    }
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = stopped.wait_for(|stop| *stop) => break,
            Some((stream, from, permit)) = incoming.recv() => {
                let _ = stream.set_nodelay(true);
                let Ok(local) = stream.local_addr() else { continue };
                let counted = Counted::new(&peer, |counters| &counters.connections);
                let link = Link { ends: Some((local, from)), owner: OnceLock::new(), _held: (Some(permit), counted) };
                let watcher = graceful.watcher();
                let peer = peer.clone();
                tokio::spawn(async move {
                    connection(peer, stream, link, Some(watcher)).await;
                });
            }
        }
    }
    tasks.abort_all();
    peer.stop();
    let _ = tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await;
    Ok(())
}

/// Serves one connection inside the process to the owner.
pub async fn serve_owner(peer: Peer, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let counted = Counted::new(&peer, |counters| &counters.connections);
    connection(peer, io, Link { ends: None, owner: OnceLock::new(), _held: (None, counted) }, None).await;
}

async fn connection(
    peer: Peer,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    link: Link,
    watcher: Option<hyper_util::server::graceful::Watcher>,
) {
    let link = Arc::new(link);
    let begun = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let service = {
        let begun = Arc::clone(&begun);
        service_fn(move |request| {
            begun.store(true, std::sync::atomic::Ordering::Relaxed);
            let (peer, link) = (peer.clone(), Arc::clone(&link));
            async move { Ok::<_, Infallible>(crate::route::answer(peer, link, request).await) }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        // No `pipeline_flush`: with it hyper never flushes its answer to a malformed head.
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
    let silent = async {
        tokio::time::sleep(FIRST_HEAD_TIMEOUT).await;
        while begun.load(std::sync::atomic::Ordering::Relaxed) {
            // A request came; from now on the head timeout of the protocol counts.
            std::future::pending::<()>().await;
        }
    };
    let result = match watcher {
        Some(watcher) => {
            tokio::select! {
                result = watcher.watch(serving) => result,
                () = silent => Ok(()),
            }
        }
        None => serving.await,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}
