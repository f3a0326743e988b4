//! Asks machines which of the files they hold that are placed with them. What they say counts, not what is worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::Placed;
use crate::network::{Network, Stopped};
use crate::node::Event;
use crate::sync::frame::FILES_MAX;

/// How long those who are connected are waited for, from the last answer on.
const PATIENCE: Duration = Duration::from_secs(1);
/// Frames that one machine is sent at once. It takes some more, with its answers to what it asks itself, and drops what is over.
const FRAMES_AT_ONCE: usize = 16;
/// The same of all machines together: as many answers wait at most until somebody looks at them.
const FRAMES_IN_ALL: usize = 128;
/// How long it takes until a machine takes as many again, by the rule for such frames.
const AGAIN_AFTER: Duration = Duration::from_secs(4);

/// Which of the files of a space that are placed with a machine it says it holds; by machine and space.
pub(crate) type Said = BTreeMap<(PublicKey, PublicKey), BTreeSet<BlobHash>>;

/// Asks those who are connected which of the files they hold that are placed with them, each with the space that names it. Takes a
/// second, and four for each 4096 files more that one of them is to hold.
///
/// # Errors
///
/// [`Stopped`].
pub(crate) async fn ask(network: &Network, files: &[(PublicKey, &Placed)], connected: &BTreeSet<PublicKey>) -> Result<Said, Stopped> {
    let (mut said, mut silent, mut rest) = (Said::new(), BTreeSet::new(), files);
    loop {
        let (now, later) = rest.split_at(page(rest, connected));
        let frames = frames(now, connected).into_iter().filter(|(of, _)| !silent.contains(of)).collect();
        silent.extend(ask_at_once(network, frames, &mut said).await?);
        if later.is_empty() {
            break;
        }
        rest = later;
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    // Of who has answered in part it is not known what he lacks.
    silent.iter().for_each(|of| drop(said.remove(of)));
    Ok(said)
}

/// Who is asked for a file: never more than can be asked at once, so that some file always is.
fn asked_of<'a>(file: &'a Placed, connected: &BTreeSet<PublicKey>) -> impl Iterator<Item = &'a PublicKey> {
    file.holders.iter().filter(|node| connected.contains(node)).take(FRAMES_IN_ALL)
}

/// How many of these files, from the first on, may be asked for at once.
pub(super) fn page(files: &[(PublicKey, &Placed)], connected: &BTreeSet<PublicKey>) -> usize {
    let mut asked: BTreeMap<(PublicKey, PublicKey), usize> = BTreeMap::new();
    let mut frames: BTreeMap<PublicKey, usize> = BTreeMap::new();
    let mut all = 0;
    for (at, (space, file)) in files.iter().enumerate() {
        for node in asked_of(file, connected) {
            let asked = asked.entry((*node, *space)).or_default();
            if asked.is_multiple_of(FILES_MAX) {
                let frames = frames.entry(*node).or_default();
                if *frames == FRAMES_AT_ONCE || all >= FRAMES_IN_ALL {
                    return at;
                }
                (*frames, all) = (*frames + 1, all + 1);
            }
            *asked += 1;
        }
    }
    files.len()
}

/// What each is asked: the machine, the space and some files of it.
fn frames(files: &[(PublicKey, &Placed)], connected: &BTreeSet<PublicKey>) -> Vec<((PublicKey, PublicKey), Vec<BlobHash>)> {
    let mut placed: BTreeMap<(PublicKey, PublicKey), BTreeSet<BlobHash>> = BTreeMap::new();
    for (space, file) in files {
        for node in asked_of(file, connected) {
            placed.entry((*node, *space)).or_default().insert(file.hash);
        }
    }
    let in_frames = |(of, files): ((PublicKey, PublicKey), BTreeSet<BlobHash>)| {
        let files: Vec<BlobHash> = files.into_iter().collect();
        files.chunks(FILES_MAX).map(|files| (of, files.to_vec())).collect::<Vec<_>>()
    };
    placed.into_iter().flat_map(in_frames).collect()
}

/// Asks, and adds what is said. Answers who did not say everything.
async fn ask_at_once(
    network: &Network,
    frames: Vec<((PublicKey, PublicKey), Vec<BlobHash>)>,
    said: &mut Said,
) -> Result<BTreeSet<(PublicKey, PublicKey)>, Stopped> {
    let mut heard = network.holdings();
    let mut waiting: BTreeMap<(PublicKey, PublicKey), usize> = BTreeMap::new();
    for ((node, space), files) in frames {
        network.tell(Event::AskFiles { node, space, files }).await?;
        *waiting.entry((node, space)).or_default() += 1;
    }
    let mut deadline = Instant::now() + PATIENCE;
    while !waiting.is_empty() {
        match tokio::time::timeout_at(deadline, heard.recv()).await {
            Ok(Ok((node, space, files))) => {
                let Some(count) = waiting.get_mut(&(node, space)) else { continue };
                *count -= 1;
                if *count == 0 {
                    waiting.remove(&(node, space));
                }
                said.entry((node, space)).or_default().extend(files);
                deadline = Instant::now() + PATIENCE;
            }
            Ok(Err(RecvError::Lagged(_))) => {}
            Ok(Err(RecvError::Closed)) | Err(_) => break,
        }
    }
    Ok(waiting.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use timebus_store::path::Path;

    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn file(number: u32, holders: &[u8]) -> Placed {
        let hash = BlobHash::from_bytes(timebus_identity::hash("test file", &[&number.to_be_bytes()]));
        Placed { hash, len: 1, path: Path::root(), author: key(1), holders: holders.iter().map(|node| key(*node)).collect(), unshown: vec![] }
    }

    /// Two members who hold 40 000 files in two spaces: more than they would answer for at once.
    #[test]
    fn of_any_number_of_files_each_is_asked_for_and_of_nobody_too_many_at_once() {
        let files: Vec<Placed> = (0..40_000).map(|number| file(number, if number % 2 == 0 { &[10, 11] } else { &[11, 12] })).collect();
        let all: Vec<(PublicKey, &Placed)> = files.iter().enumerate().map(|(at, file)| (key(if at < 9000 { 2 } else { 3 }), file)).collect();
        let connected = BTreeSet::from([key(10), key(11)]);
        let (mut rest, mut asked, mut pages) = (&all[..], BTreeSet::new(), 0);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(page(rest, &connected));
            let mut count: BTreeMap<PublicKey, usize> = BTreeMap::new();
            for ((node, space), files) in frames(now, &connected) {
                assert!(!files.is_empty() && files.len() <= FILES_MAX && files.is_sorted());
                *count.entry(node).or_default() += 1;
                asked.extend(files.into_iter().map(|hash| (node, space, hash)));
            }
            assert!(count.values().all(|count| *count <= FRAMES_AT_ONCE), "{count:?}");
            (rest, pages) = (later, pages + 1);
        }
        assert_eq!((asked.len(), pages), (60_000, 10), "each of them holds all or half of it, in pages of 4096");
    }

    #[test]
    fn of_all_together_no_more_is_asked_at_once_than_answers_can_wait() {
        let files: Vec<Placed> = (0..200).map(|number| file(number, &[number as u8])).collect();
        let all: Vec<(PublicKey, &Placed)> = files.iter().map(|file| (key(2), file)).collect();
        let connected = (0..200).map(key).collect();
        assert_eq!(page(&all, &connected), FRAMES_IN_ALL);
        assert_eq!(page(&all, &BTreeSet::new()), 200, "nobody is asked");
        assert!(frames(&all, &BTreeSet::new()).is_empty());
        // One that more machines hold is asked for all the same.
        let holders: Vec<u8> = (0..200).collect();
        let files = [file(1, &holders), file(2, &holders)];
        let all: Vec<(PublicKey, &Placed)> = files.iter().map(|file| (key(2), file)).collect();
        let connected = (0..200).map(key).collect();
        assert_eq!((page(&all, &connected), frames(&all[..1], &connected).len()), (2, FRAMES_IN_ALL), "the same frames ask for both");
    }
}
