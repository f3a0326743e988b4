//! Files that are open for the next piece that somebody asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use timebus_store::blobs::partial::Partial;
use timebus_store::blobs::{Blob, BlobHash, Damage};
use tokio::time::Instant;

use crate::peer::lock;

/// How long an open file is kept for the next reader.
pub(super) const OPEN_FOR: Duration = Duration::from_secs(60);
/// How many are kept: two descriptors each, of the 256 that a process may have on some systems. To open one again takes some
/// microseconds.
const OPEN_MAX: usize = 64;

/// An open file that pieces are read from.
#[derive(Clone, Debug)]
pub(super) enum Holding {
    Whole(Arc<Blob>),
    Part(Arc<Partial>),
}

impl Holding {
    /// A piece as others get it.
    pub(super) fn slice(&self, piece: u32) -> Result<Vec<u8>, Damage> {
        match self {
            Self::Whole(blob) => blob.slice(piece),
            Self::Part(partial) => partial.slice(piece),
        }
    }
}

/// Those that were read last. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenFiles(Arc<Mutex<HashMap<BlobHash, (Holding, Instant)>>>);

impl OpenFiles {
    /// One that is open, for somebody who reads it now.
    pub(super) fn find(&self, hash: &BlobHash) -> Option<Holding> {
        lock(&self.0).get_mut(hash).map(|(holding, used)| {
            *used = Instant::now();
            holding.clone()
        })
    }

    /// Keeps one open. If there are too many, the one that nobody has read for longest goes.
    pub(super) fn keep(&self, hash: BlobHash, holding: Holding) {
        let mut open = lock(&self.0);
        open.insert(hash, (holding, Instant::now()));
        if open.len() > OPEN_MAX
            && let Some(oldest) = open.iter().filter(|(other, _)| **other != hash).min_by_key(|(_, (_, used))| *used).map(|(hash, _)| *hash)
        {
            open.remove(&oldest);
        }
    }

    /// Lets go of one.
    pub(super) fn remove(&self, hash: &BlobHash) {
        lock(&self.0).remove(hash);
    }

    /// Lets go of those that nobody reads any more.
    pub(super) fn tidy(&self) {
        lock(&self.0).retain(|_, (_, used)| used.elapsed() < OPEN_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_many_files_that_others_read_few_stay_open() {
        let temp = tempfile::tempdir().expect("a folder");
        let limits = timebus_store::blobs::Limits { reserve_bytes: 0, ..Default::default() };
        let blobs = timebus_store::blobs::Blobs::open(temp.path(), limits).expect("opens");
        let open = OpenFiles::default();
        let hash = |number: u8| BlobHash::from_bytes([number; 32]);
        for number in 0..200 {
            open.keep(hash(number), Holding::Part(blobs.partial(hash(number), 1).expect("room")));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(open.find(&hash(0)).is_some(), "it is read all the time");
        }
        let kept: Vec<u8> = (0..200).filter(|number| lock(&open.0).contains_key(&hash(*number))).collect();
        assert_eq!(kept, std::iter::once(0).chain(200 - (OPEN_MAX as u8 - 1)..200).collect::<Vec<u8>>());
        tokio::time::advance(OPEN_FOR).await;
        open.tidy();
        assert!(lock(&open.0).is_empty());
    }
}
