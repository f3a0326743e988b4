//! Fetches the files that are placed here and missing, some at once, while others look at what is placed, and asks those who are
//! there which of them they have.

use std::collections::BTreeSet;
use std::time::Duration;

use timebus_identity::PublicKey;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::asking::{ask, page};
use super::{LOOK_EVERY, Placed};
use crate::blobs::queue::{self, Asked, Which};
use crate::blobs::wishes::{Wished, fetch_until};
use crate::network::{Network, Stopped};
use crate::peer::Peer;

/// After how long a file that nobody gave is tried again at most: who has it is asked for in between.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long it takes until others are asked for some more files: half of what they answer, so that who asks for other reasons is
/// answered, too.
const ASK_EVERY: Duration = Duration::from_secs(8);

/// The files that are missing. Those who may have one count as its holders.
pub(super) type Missing = Vec<(Which, Placed)>;

/// A file that is missing of a space.
pub(super) fn missing(space: &PublicKey, file: Placed) -> (Which, Placed) {
    (Which { space: *space, hash: file.hash, len: file.len }, file)
}

/// Fetches what is missing, as it is told, until nobody tells any more.
pub(super) async fn fill(peer: &Peer, network: &Network, told: watch::Receiver<Missing>) {
    let fetch = |Which { space, hash, len }, Placed { path, .. }, until| async move {
        fetch_until(peer, network.blobs(), &Wished { hash, space, path, len }, Some(until)).await
    };
    let (tell, asked) = mpsc::channel(1);
    let asking = ask_around(network, told.clone(), tell);
    // Both end when nobody tells any more.
    let _ = tokio::join!(queue::run(told, asked, PAUSE_MAX, fetch), asking);
}

/// Asks those who are there which of the missing files they have, as many at once as they answer, again and again; at once when
/// somebody comes.
async fn ask_around(network: &Network, mut told: watch::Receiver<Missing>, tell: mpsc::Sender<Asked>) -> Result<(), Stopped> {
    let (mut last, mut count, mut before, mut look_at) = (None, 0, BTreeSet::new(), Instant::now());
    loop {
        let missing = told.borrow_and_update().clone();
        let may_have: BTreeSet<PublicKey> = missing.iter().flat_map(|(_, file)| &file.holders).copied().collect();
        let connected: BTreeSet<PublicKey> = network.ask(move |node| may_have.into_iter().filter(|id| node.is_connected(id)).collect()).await?;
        if Instant::now() >= look_at || !connected.is_subset(&before) {
            let files = in_turn(&missing, &connected, last);
            let placed: Vec<(PublicKey, &Placed)> = files.iter().map(|(which, file)| (which.space, *file)).collect();
            let asked: Vec<Which> = files[..page(&placed, &connected)].iter().map(|(which, _)| *which).collect();
            let said = ask(network, &placed[..asked.len()], &connected).await?;
            let held = said.into_iter().flat_map(|((_, space), files)| files.into_iter().map(move |hash| (space, hash))).collect();
            (last, count) = (asked.last().copied().or(last), count + asked.len());
            if tell.send(Asked { files: asked, held }).await.is_err() {
                return Ok(());
            }
            if count >= files.len() {
                // What they have changes rarely.
                (count, look_at) = (0, Instant::now() + LOOK_EVERY);
            }
        }
        before = connected;
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = tell.closed() => return Ok(()),
        }
    }
}

/// All files that somebody who is there may have, from the one behind the last one that was asked for on.
fn in_turn<'a>(missing: &'a Missing, connected: &BTreeSet<PublicKey>, last: Option<Which>) -> Vec<(Which, &'a Placed)> {
    let mut files: Vec<(Which, &Placed)> = missing.iter().map(|(which, file)| (*which, file)).collect();
    files.retain(|(_, file)| file.holders.iter().any(|node| connected.contains(node)));
    files.sort_unstable_by_key(|(which, _)| *which);
    let first = files.partition_point(|(which, _)| Some(*which) <= last);
    files.rotate_left(first);
    files
}

#[cfg(test)]
mod tests {
    use timebus_store::blobs::BlobHash;
    use timebus_store::path::Path;

    use super::*;

    #[test]
    fn those_files_are_asked_for_that_somebody_who_is_there_may_have_and_each_in_its_turn() {
        let key = |number: u8| PublicKey::from_bytes([number; 32]);
        let file = |number: u8, holder: u8| {
            let (hash, path) = (BlobHash::from_bytes([number; 32]), Path::root());
            super::missing(&key(1), Placed { hash, len: 1, path, author: key(9), holders: vec![key(holder)], unshown: vec![] })
        };
        let missing: Missing = vec![file(3, 20), file(1, 20), file(2, 21), file(4, 20)];
        let asked = |connected: u8, last: Option<u8>| {
            let last = last.map(|last| file(last, 0).0);
            in_turn(&missing, &BTreeSet::from([key(connected)]), last).iter().map(|(which, _)| which.hash.as_bytes()[0]).collect::<Vec<_>>()
        };
        assert_eq!(
            (asked(20, None), asked(20, Some(1)), asked(20, Some(2)), asked(20, Some(4))),
            (vec![1, 3, 4], vec![3, 4, 1], vec![3, 4, 1], vec![1, 3, 4])
        );
        assert_eq!((asked(21, None), asked(22, None)), (vec![2], vec![]));
    }
}
