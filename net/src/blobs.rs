//! Blobs over HTTP: files of any size go to disk while they come and are checked while they are read.
//!
//! `upload` takes them, `resume` those that come in parts, `serve` hands them out. Memory for each is a few
//! pieces of `PIECE_BYTES`, however large the file.
//!
//! Between peers, [`frame`] is what is said, [`swarm`] which pieces to ask whom for, [`exchange`] what to say to whom,
//! all without IO; `fetch` drives them, and [`simulation`] shows how many peers at once fare.
//!
//! Deliberately not: which files are kept and where is the business of [`timebus_store::blobs`].

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use timebus_store::blobs::partial::PIECE_BYTES as PIECE;
use timebus_store::blobs::{BlobHash, Blobs, Lease, SaveError};
use timebus_store::pipeline::Space;

use self::fetch::Stuck;
use crate::ledger::{Payer, Relation};
use crate::peer::Peer;
use crate::problem::Problem;

pub(crate) mod cache;
pub mod exchange;
pub(crate) mod fetch;
mod flying;
pub mod frame;
pub(crate) mod given;
pub(crate) mod named;
mod open;
pub mod pace;
pub mod pieces;
pub(crate) mod queue;
#[cfg(test)]
mod racing;
pub(crate) mod resume;
pub(crate) mod serve;
pub(crate) mod shows;
pub mod simulation;
pub mod swarm;
mod turns;
pub(crate) mod upload;
pub(crate) mod wishes;

/// Bytes that are read, checked or written at once.
pub(crate) const PIECE_BYTES: usize = 512 * 1024;
/// How often blobs that nothing refers to are looked for.
/// For how many times as long as a look takes there is none, and at most.
const REST: u32 = 20;
const REST_MAX: Duration = Duration::from_secs(30);
/// Bytes that stay free beside a file of others that is kept beyond the budget, and as many as it takes.
const SPARE_MIN: u64 = 1_000_000_000;
const COLLECT_EVERY: Duration = Duration::from_secs(3600);

/// How long nothing may come of a blob that is needed at once.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether the peer takes part in the network by now.
const ENTER_EVERY: Duration = Duration::from_secs(1);

/// The blobs of a peer.
pub(crate) fn of(peer: &Peer) -> Result<&Blobs, Problem> {
    peer.store.blobs().ok_or_else(|| Problem::new(StatusCode::NOT_IMPLEMENTED, "blobs", "this peer keeps no files", "its store is in memory"))
}

/// What a blob that was not kept is to whoever sent it.
pub(crate) fn save_problem(error: &SaveError) -> Problem {
    let detail = error.to_string();
    match error {
        SaveError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the file is too large", detail),
        // How much is here of all that the owner is, by all his names, is told to whoever may ask for that.
        SaveError::OverTotal { max, .. } => {
            let detail = format!("all files together may have {max} bytes here, and would have more");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "quota", "there is no room for this file", detail).with_fix(
                "what was removed or replaced is kept for 30 days, to be taken back: `timebus files free --history` ends that; or start the \
                     peer with a larger --blob-limit",
            )
        }
        SaveError::OtherLength { .. } => length_problem(detail),
        SaveError::Full { free, reserve } => {
            let (free, reserve) = (crate::words::size(*free), crate::words::size(*reserve));
            let detail = format!("{free} are free, {reserve} of them are kept for changes, and this is more than the rest");
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", "the disk is full", detail).with_fix("free space, then send the file again")
        }
        SaveError::Io(error) if crate::files::are_too_many_open(error) => too_many_open(detail),
        _ => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", "the disk failed", detail)
            .with_fix("see the peer's log; replace the disk if it goes on"),
    }
}

/// The answer where there is nothing to open a file with.
fn too_many_open(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "open-files", "too many files are open", detail)
        .with_fix("ask again; let the peer have more files open at once: `ulimit -n`, or LimitNOFILE of its unit")
}

fn length_problem(detail: String) -> Problem {
    Problem::new(StatusCode::CONFLICT, "blob-length", "the file has another length than is said here", detail)
        .with_fix("read it where it is named with the length that it has; who named it here is wrong, or lies")
}

/// What it is to whoever waits for a file that it does not come.
pub(crate) fn stuck_problem(why: &Stuck, hash: BlobHash) -> Problem {
    let resume = format!("timebus files resume {hash}");
    let problem = match why {
        Stuck::Paused => Problem::new(StatusCode::CONFLICT, "blob-paused", "this file is paused", "what has come of it is kept")
            .with_fix(format!("`{resume}` lets it go on")),
        Stuck::Cancelled => Problem::new(StatusCode::CONFLICT, "blob-cancelled", "this file was cancelled", "what had come of it is not kept")
            .with_fix(format!("`{resume}` gets it after all, or read it again in half a minute")),
        Stuck::Length(why) => length_problem((*why).to_owned()),
        Stuck::Failed(why) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", "there is no room for this file", why.clone()),
    };
    problem.with("blob", hash.to_string())
}

/// Does something with a disk beside the threads that serve sockets.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the store failed", error.to_string()))
}

/// Keeps bytes as a blob. The lease holds it until a value names it.
pub(crate) async fn keep(peer: &Peer, bytes: Bytes) -> Result<(BlobHash, u64, Lease), Problem> {
    let blobs = of(peer)?.clone();
    let kept = beside(move || {
        let mut writer = blobs.writer()?;
        writer.write(&bytes)?;
        writer.finish()
    });
    kept.await?.map_err(|error| save_problem(&error))
}

/// All bytes of a blob, got from others if they are not here. Who asks knows that it is not too large.
pub(crate) async fn whole(peer: &Peer, space: Space, hash: BlobHash, len: u64) -> Result<Vec<u8>, Problem> {
    let missing = || {
        Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "blob-unavailable",
            "nobody who has these bytes is there",
            format!("{len} bytes ({hash}) are missing"),
        )
        .with_fix("ask again later; what has come is kept")
    };
    let (blobs, network) = (of(peer)?.clone(), peer.network());
    let here = beside(move || blobs.open_blob(hash).ok().flatten().and_then(|blob| blob.read(0..blob.len()).ok())).await?;
    if let Some(bytes) = here {
        return Ok(bytes);
    }
    let Some(network) = network else { return Err(missing()) };
    network.blobs().may_fetch(&hash).map_err(|why| stuck_problem(&why, hash))?;
    let fetching = network.blobs().fetch(&peer.store, space, hash, len).await;
    let mut fetch = fetching.map_err(|error| save_problem(&error))?.ok_or_else(missing)?;
    let pieces = u32::try_from(len.div_ceil(PIECE)).map_err(|_| missing())?;
    fetch.reads(0..pieces, false);
    let mut whole = Vec::new();
    for piece in 0..pieces {
        if !fetch.piece(piece, PATIENCE).await {
            let why = fetch.progress.borrow().problem.clone();
            return Err(why.map_or_else(missing, |why| stuck_problem(&why, hash)));
        }
        let partial = std::sync::Arc::clone(&fetch.partial);
        whole.extend(beside(move || partial.bytes(piece)).await?.map_err(|_| missing())?);
    }
    Ok(whole)
}

/// Waits until the peer takes part in the network.
pub(crate) async fn network(peer: &Peer) -> crate::network::Network {
    loop {
        match peer.network() {
            Some(network) => return network.clone(),
            None => tokio::time::sleep(ENTER_EVERY).await,
        }
    }
}

/// Waits until a blob of somebody else has come and nobody reads it any more.
async fn fetched(peer: &Peer) {
    network(peer).await.blobs().settled().await;
}

/// Waits until the owner says something else of files.
async fn said(changed: Option<tokio::sync::watch::Receiver<()>>) {
    let Some(mut changed) = changed else { return std::future::pending().await };
    if changed.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Removes files of others until no more bytes of them are kept than that, but for the last one if it is no longer than `spare`. Answers how many are.
async fn trim(peer: &Peer, bytes_max: u64, spare: u64) -> Option<u64> {
    let (store, uses) = (peer.store.clone(), std::sync::Arc::clone(&peer.uses));
    let (wishes, by_others) =
        (wishes::Wishes::of(peer), peer.network().map(|network| std::sync::Arc::clone(network.blobs().uses())).unwrap_or_default());
    let room = room_of_guests(peer);
    match beside(move || cache::trim(&store, &[&uses, &by_others], &wishes, (bytes_max, spare), room)).await {
        Ok(Ok(done)) => {
            peer.cached.store(done.kept, std::sync::atomic::Ordering::Relaxed);
            if done.gone > 0 {
                tracing::info!(bytes = done.gone, "files of others made room for others");
            }
            return Some(done.kept);
        }
        Ok(Err(error)) => tracing::warn!(%error, "files of others were not looked through"),
        Err(_) => {}
    }
    None
}

/// Has files of others, which are kept only for the time being, make room for so many bytes of the owner's, as far as there is none.
pub(crate) async fn make_room(peer: &Peer, bytes: u64) {
    let Ok(blobs) = of(peer) else { return };
    let lacks = blobs.lacks(bytes).unwrap_or(0);
    // For what has no room in any case nothing goes.
    if lacks > 0
        && bytes <= blobs.limits().blob_bytes_max
        && let Some(rest) = trim(peer, u64::MAX, 0).await.and_then(|kept| kept.checked_sub(lacks))
    {
        trim(peer, rest, 0).await;
    }
}

/// How many bytes a guest may keep here.
pub(crate) fn room_of_guests(peer: &Peer) -> impl Fn(&timebus_identity::PublicKey) -> u64 + use<> {
    let peer = peer.clone();
    move |guest| peer.ledger().limit_of(&Payer::Key(*guest), Relation::Invited)
}

/// Removes what nothing refers to, now and then, until the peer stops.
pub(crate) async fn collect(peer: Peer) {
    let mut stopped = peer.stop.subscribe();
    loop {
        let began = tokio::time::Instant::now();
        let changed = peer.network().map(|network| network.blobs().wishes().changes());
        let (store, wishes) = (peer.store.clone(), wishes::Wishes::of(&peer));
        let collected = beside(move || {
            let rows = store.snapshot();
            // As long as it is not known what is placed here, nothing of it goes.
            let named = std::cell::RefCell::new(store.places(&rows));
            let stays = |hash: &BlobHash| Ok(!wishes.are_known() || wishes.stays(&mut named.borrow_mut(), hash)?);
            store.collect_blobs(timebus_store::blobs::collect::Retention::default(), crate::who::now_ms(), &stays)
        });
        let collected = collected.await;
        let missed_ms = collected.as_ref().ok().and_then(|done| done.as_ref().ok()).map_or(0, |done| done.missed_ms);
        match collected {
            Ok(Ok(done)) if done.removed > 0 => {
                tracing::info!(removed = done.removed, bytes = done.removed_bytes, "files that nothing refers to are gone")
            }
            Ok(Err(error)) => tracing::warn!(%error, "files that nothing refers to were not looked for"),
            _ => {}
        }
        resume::expire(&peer, missed_ms).await;
        let spare = peer.store.blobs().and_then(|blobs| blobs.spare_bytes().ok()).unwrap_or(0);
        trim(&peer, peer.cached_bytes_max(), spare.saturating_sub(SPARE_MIN)).await;
        // Where thousands of files come one after the other, they are not all looked through after each.
        let rest = (began.elapsed() * REST).min(REST_MAX);
        tokio::select! {
            () = tokio::time::sleep(COLLECT_EVERY) => {}
            () = async { fetched(&peer).await; tokio::time::sleep(rest).await } => {}
            () = async { said(changed).await; tokio::time::sleep(rest).await } => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}
