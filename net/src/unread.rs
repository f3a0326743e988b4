//! What was made for the streams of one connection and was not read yet.
//!
//! An HTTP/2 connection carries many streams, and each begins with a snapshot, which may be long. Whoever asks for many and reads
//! none would have all of them kept. So what waits is handed on in pieces, as there is window for it, and while too much
//! waits nothing more is made: a subscription that begins waits for room, and so does one that has news.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use tokio::sync::Notify;

use crate::problem::Problem;

/// Bytes that wait in the streams of one connection before nothing more is made for them. A single snapshot may be longer.
pub(crate) const UNREAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Handed on at once.
const PIECE_BYTES: usize = 64 * 1024;
/// How long a subscription waits to begin while nothing is read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts for one connection.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    bytes: AtomicUsize,
    /// Pieces that were handed on.
    pieces: AtomicUsize,
    freed: Notify,
}

/// Bytes that wait, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    unread: Arc<Unread>,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.unread.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.unread.freed.notify_waiters();
    }
}

impl Unread {
    /// Waits until there is room for something more.
    async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on nothing is missed.
            freed.as_mut().enable();
            if self.bytes.load(Ordering::Relaxed) < UNREAD_BYTES_MAX {
                return;
            }
            freed.await;
        }
    }

    /// The same for a subscription that begins.
    ///
    /// # Errors
    ///
    /// Nothing was read for a while.
    pub(crate) async fn room_to_begin(&self) -> Result<(), Problem> {
        // Whoever reads, however slowly, is waited for.
        let mut before = self.pieces.load(Ordering::Relaxed);
        while tokio::time::timeout(PATIENCE, self.room()).await.is_err() {
            let now = self.pieces.load(Ordering::Relaxed);
            if std::mem::replace(&mut before, now) != now {
                continue;
            }
            let detail = format!("{UNREAD_BYTES_MAX} bytes of other streams of this connection wait to be read");
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "unread", "this connection has not read what it asked for", detail);
            return Err(problem.with_fix("read the other streams, or use a connection of its own"));
        }
        Ok(())
    }

    /// Counts bytes that wait.
    pub(crate) fn wait(self: &Arc<Self>, bytes: usize) -> Waiting {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Waiting { unread: Arc::clone(self), bytes }
    }

    /// Hands a stream on in pieces, and asks for more of it only while there is room. `first` counts what it begins with.
    pub(crate) fn paced<S>(self: &Arc<Self>, stream: S, first: Waiting) -> impl Stream<Item = Bytes> + Send + use<S>
    where
        S: Stream<Item = Bytes> + Send + Unpin,
    {
        let begin = (stream, Arc::clone(self), Bytes::new(), Some(first), true);
        futures_util::stream::unfold(begin, |(mut stream, unread, mut rest, mut waiting, mut is_first)| async move {
            if rest.is_empty() {
                if !std::mem::take(&mut is_first) {
                    unread.room().await;
                }
                rest = stream.next().await?;
                waiting = Some(unread.wait(rest.len()));
            }
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            unread.pieces.fetch_add(1, Ordering::Relaxed);
            if rest.is_empty() {
                // The last piece may hold all of them, and is with the connection now.
                waiting = None;
            }
            Some((piece, (stream, unread, rest, waiting, is_first)))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_more_is_made_while_too_much_waits() {
        let unread = Arc::new(Unread::default());
        let large = || Bytes::from(vec![b'x'; UNREAD_BYTES_MAX]);
        let items = futures_util::stream::iter([large(), Bytes::from_static(b"more")]);
        let mut one = Box::pin(unread.paced(items, unread.wait(UNREAD_BYTES_MAX)));
        assert_eq!(unread.room_to_begin().await.expect_err("too much waits").status, StatusCode::TOO_MANY_REQUESTS);
        let mut read = one.next().await.expect("a piece").len();
        assert_eq!(read, PIECE_BYTES);
        // Another stream that has news waits for the first one to be read.
        let mut two = Box::pin(unread.paced(futures_util::stream::iter(["a", "b"].map(Bytes::from)), unread.wait(1)));
        assert_eq!(two.next().await.expect("what it begins with"), "a");
        assert!(two.next().now_or_never().is_none());
        while read < UNREAD_BYTES_MAX {
            read += one.next().await.expect("a piece").len();
        }
        assert_eq!(two.next().await.expect("room"), "b");
        assert_eq!(one.next().await.expect("the rest"), "more");
        unread.room_to_begin().await.expect("all was read");
        // Who goes away leaves nothing that waits.
        let three = Box::pin(unread.paced(futures_util::stream::iter([large()]), unread.wait(UNREAD_BYTES_MAX)));
        assert!(unread.room().now_or_never().is_none());
        drop((one, two, three));
        unread.room_to_begin().await.expect("nothing waits");
        assert_eq!(unread.bytes.load(Ordering::Relaxed), 0);
    }
}
