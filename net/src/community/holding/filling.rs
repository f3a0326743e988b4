//! Fetches the files that are placed here and missing, one after the other, while others look at what is placed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use timebus_store::blobs::partial::pieces_of;
use timebus_store::pipeline::Space;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{LOOK_EVERY, Placed};
use crate::blobs::fetch::Fetcher;
use crate::peer::Peer;

/// How long nothing may come of a file until the next one is tried.
const STALL_MAX: Duration = Duration::from_secs(10);
/// The same where nobody is known who has it.
const FIND_MAX: Duration = Duration::from_secs(3);

/// How long a file that nobody gave waits until it is tried again: who has it may have come meanwhile.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The files that are missing, each with the space that names it.
pub(super) type Missing = Vec<(Space, Placed)>;

/// Fetches what is missing, as it is told, until nobody tells any more.
pub(super) async fn fill(peer: &Peer, fetcher: &Fetcher, told: watch::Receiver<Missing>) {
    let fetch = |file, until| async move {
        fetch(peer, fetcher, file, until).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a file that is placed here was not fetched");
            Tried::Stalled
        })
    };
    fill_with(told, fetch).await;
}

/// The same by any means. What is told anew counts after the file that is being fetched, or after [`LOOK_EVERY`].
async fn fill_with<T: Clone + PartialEq, F: Future<Output = Tried>>(mut told: watch::Receiver<Vec<T>>, fetch: impl Fn(T, Instant) -> F) {
    // The file that is tried first: the one that was not done with.
    let mut first: Option<T> = None;
    loop {
        let missing = told.borrow_and_update().clone();
        let until = Instant::now() + LOOK_EVERY;
        let at = first.and_then(|first| missing.iter().position(|file| *file == first)).unwrap_or(0);
        let is_stalled = AtomicBool::new(false);
        let fetch_one = |at: usize| {
            let (fetched, is_stalled) = (fetch(missing[at].clone(), until), &is_stalled);
            async move {
                let tried = fetched.await;
                is_stalled.fetch_or(matches!(tried, Tried::Stalled), Ordering::Relaxed);
                tried
            }
        };
        let next = one_by_one(missing.len(), at, until, fetch_one, || told.has_changed().unwrap_or(true)).await;
        first = next.map(|at| missing[at].clone());
        if next.is_none() {
            // What nobody has is not asked for all the time.
            let again_after = if is_stalled.into_inner() { AGAIN_AFTER } else { LOOK_EVERY };
            let _ = tokio::time::timeout(again_after, told.changed()).await;
        }
        if told.has_changed().is_err() {
            return;
        }
    }
}

/// Fetches a file until the time is over.
async fn fetch(peer: &Peer, fetcher: &Fetcher, (space, file): (Space, Placed), until: Instant) -> io::Result<Tried> {
    if fetcher.wishes().is_stopped(&file.hash) {
        // The owner does not want it, or not now.
        return Ok(Tried::Whole);
    }
    let fetching = fetcher.fetch(&peer.store, peer.store.at(space, &file.path), file.hash, file.len).await.map_err(io::Error::other)?;
    let Some(mut fetch) = fetching else { return Ok(Tried::Stalled) };
    for piece in 0..u32::try_from(pieces_of(file.len)).unwrap_or(u32::MAX) {
        let is_here = fetch.piece(piece, FIND_MAX).await;
        if !is_here && (fetch.progress.borrow().sources.is_empty() || !fetch.piece(piece, STALL_MAX).await) {
            return Ok(Tried::Stalled);
        }
        if Instant::now() >= until {
            return Ok(Tried::GoesOn);
        }
    }
    Ok(Tried::Whole)
}

/// What became of fetching a file.
#[derive(Clone, Copy)]
enum Tried {
    /// It is here, or not to come.
    Whole,
    /// It came until the time was over.
    GoesOn,
    /// Nobody who has it is there.
    Stalled,
}

/// Does so many things from one of them on, each once, until the time is over or there are others to do. Answers with which
/// to begin the next time.
async fn one_by_one<F: Future<Output = Tried>>(
    count: usize,
    first: usize,
    until: Instant,
    mut fetch: impl FnMut(usize) -> F,
    is_other: impl Fn() -> bool,
) -> Option<usize> {
    for at in (first..count).chain(0..first) {
        if Instant::now() >= until || is_other() {
            return Some(at);
        }
        if matches!(fetch(at).await, Tried::GoesOn) {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_nobody_has_does_not_keep_the_rest_waiting() {
        let mut tried = Vec::new();
        let mut first = 0;
        for _ in 0..2 {
            let until = Instant::now() + LOOK_EVERY;
            let next = |at| {
                tried.push(at);
                async move {
                    tokio::time::sleep(STALL_MAX).await;
                    Tried::Stalled
                }
            };
            first = one_by_one(7, first, until, next, || false).await.expect("there are more");
        }
        assert_eq!((tried, first), (vec![0, 1, 2, 3, 4, 5], 6));
        let until = Instant::now() + LOOK_EVERY;
        let next = one_by_one(7, first, until, |at| async move { if at == 2 { Tried::GoesOn } else { Tried::Whole } }, || false);
        assert_eq!(next.await, Some(2), "what comes is gone on with");
        let all = one_by_one(7, first, until, |_| async { Tried::Whole }, || false);
        assert_eq!(all.await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_placed_meanwhile_is_fetched_after_the_file_that_is_under_way() {
        let (tell, told) = watch::channel(vec![1, 2]);
        let tried = Mutex::new(Vec::new());
        let fetch = |file, _| {
            tried.lock().expect("nobody panics").push(file);
            if file == 1 {
                tell.send(vec![3, 2]).expect("it listens");
            }
            std::future::ready(if file == 2 { Tried::Stalled } else { Tried::Whole })
        };
        let filled = tokio::time::timeout(AGAIN_AFTER + Duration::from_secs(1), fill_with(told, fetch)).await;
        assert!(filled.is_err(), "it waits for more");
        assert_eq!(
            *tried.lock().expect("nobody panics"),
            [1, 2, 3, 3, 2],
            "the one that was next is not forgotten, and what nobody had is tried again, but not all the time"
        );
    }
}
