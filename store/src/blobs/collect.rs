//! Removing blobs that nothing refers to any more.
//!
//! A blob goes when nothing has referred to it for a while, longer if older versions still name it. Since when is
//! kept in a file beside it, so that a restart does not begin anew. Nobody is raced: who writes a reference holds a
//! [`super::Lease`] before the blob is looked for and until the reference can be seen, and the last look at the
//! references is made while no lease can be taken.

use std::io;

use super::{BlobHash, Blobs, remove_if_there};
use crate::store::StorageError;

/// What refers to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A value that can be seen now.
    Visible,
    /// Only older versions.
    History,
    /// Nothing.
    Nothing,
    /// Nothing that is known; what names it may be in the part of the log that is damaged or lost.
    Unknown,
}

/// How long blobs are kept that nothing visible refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds for those that older versions refer to, and for parts from others to which nothing was added. Default 30 days: as long
    /// undo and `--at` find them.
    pub history_ms: u64,
    /// Milliseconds for those that nothing refers to. Default one hour: long enough for whoever is about to.
    pub grace_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { history_ms: 30 * 24 * 3600 * 1000, grace_ms: 3600 * 1000 }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs that are there still.
    pub kept: u64,
    /// Of these, blobs that nothing visible refers to.
    pub unused: u64,
    /// Blobs that were removed.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Milliseconds for which nobody looked, because the peer was not there or its clock was wrong; nothing aged by them.
    pub missed_ms: u64,
}

/// Between two looks no more time than this passes; of more it is not known whether it did, or the clock was set. Three days: a peer
/// that is on each weekend ages slower, and loses nothing.
const MISSED_MS_MAX: u64 = 3 * 24 * 3600 * 1000;
/// Names the file that says when it was looked last.
const LOOKED: &str = "looked";

/// Looks at every blob and part of one once. `use_of` is asked again before a blob is removed. Parts that `stays` says the owner
/// wants do not age.
///
/// # Errors
///
/// [`StorageError`]; blobs removed so far stay removed.
pub fn collect(
    blobs: &Blobs,
    retention: Retention,
    now_ms: u64,
    use_of: &dyn Fn(&BlobHash) -> Result<Use, StorageError>,
    stays: &dyn Fn(&BlobHash) -> Result<bool, StorageError>,
) -> Result<Collected, StorageError> {
    let mut done = Collected { missed_ms: blobs.miss(now_ms)?, ..Collected::default() };
    for (hash, len) in blobs.list()? {
        if look(blobs, retention, now_ms, &hash, use_of)? {
            done.removed += 1;
            done.removed_bytes += len;
        } else {
            done.kept += 1;
            done.unused += u64::from(blobs.unused_since(&hash)?.is_some());
        }
    }
    for (hash, len) in blobs.partials()? {
        // It may have become whole meanwhile.
        let Some(came_ms) = blobs.part_ms(&hash)? else { continue };
        let age_ms = now_ms.saturating_sub(came_ms);
        let is_old = match use_of(&hash)? {
            Use::Nothing => age_ms >= retention.grace_ms,
            // What is left of a damaged file that was put in here may be all that there is of it.
            Use::Visible | Use::Unknown if !blobs.came_from_others(&hash) => blobs.len_of(&hash).is_some(),
            // Who wanted it does so no more, it seems.
            Use::Visible | Use::History | Use::Unknown => blobs.len_of(&hash).is_some() || age_ms >= retention.history_ms && !stays(&hash)?,
        };
        if is_old && blobs.remove_partial(&hash)? {
            done.removed += 1;
            done.removed_bytes += len;
        }
    }
    Ok(done)
}

/// Looks at one blob; says whether it was removed.
fn look(
    blobs: &Blobs,
    retention: Retention,
    now_ms: u64,
    hash: &BlobHash,
    use_of: &dyn Fn(&BlobHash) -> Result<Use, StorageError>,
) -> Result<bool, StorageError> {
    let keep_ms = |found: Use| match found {
        Use::Visible | Use::Unknown => None,
        Use::History => Some(retention.history_ms),
        Use::Nothing => Some(retention.grace_ms),
    };
    let Some(wait_ms) = keep_ms(use_of(hash)?) else {
        remove_if_there(&blobs.unused_path(hash))?;
        return Ok(false);
    };
    let Some(since_ms) = blobs.unused_since(hash)? else {
        std::fs::write(blobs.unused_path(hash), now_ms.to_le_bytes())?;
        return Ok(false);
    };
    // A clock that went back counts from anew, one that went ahead removes nothing that is in use.
    if now_ms < since_ms {
        std::fs::write(blobs.unused_path(hash), now_ms.to_le_bytes())?;
        return Ok(false);
    }
    if now_ms - since_ms < wait_ms {
        return Ok(false);
    }
    let mut found = Use::Nothing;
    let removed = blobs.remove_if(hash, || {
        found = use_of(hash)?;
        Ok::<_, StorageError>(keep_ms(found).is_some_and(|wait_ms| now_ms - since_ms >= wait_ms))
    })?;
    if removed && found == Use::History {
        blobs.note_gone(hash, now_ms)?;
    }
    Ok(removed)
}

impl Blobs {
    /// Notes that it is looked now. If that was long ago, what has an age gets no older by the time between.
    fn miss(&self, now_ms: u64) -> io::Result<u64> {
        let file = self.folder().join(LOOKED);
        let looked_ms = match std::fs::read(&file) {
            Ok(bytes) => bytes.first_chunk::<8>().map_or(now_ms, |ms| u64::from_le_bytes(*ms)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => now_ms,
            Err(error) => return Err(error),
        };
        let missed_ms = Some(now_ms.saturating_sub(looked_ms)).filter(|ms| *ms > MISSED_MS_MAX).unwrap_or_default();
        if missed_ms > 0 {
            // What was moved before a crash lies behind the last look, and is not moved again.
            for (hash, _) in self.list()? {
                if let Some(since_ms) = self.unused_since(&hash)?.filter(|since_ms| *since_ms <= looked_ms) {
                    std::fs::write(self.unused_path(&hash), (since_ms + missed_ms).to_le_bytes())?;
                }
            }
            for (hash, _) in self.partials()? {
                if let Some(came_ms) = self.part_ms(&hash)?.filter(|came_ms| *came_ms <= looked_ms) {
                    self.date_part(&hash, came_ms + missed_ms)?;
                }
            }
        }
        // A clock that is a little behind for a while says nothing of how long nobody looked. But one that was far ahead once would have
        // it that nobody is ever away, and nothing that came then ever old.
        let is_far_ahead = |at_ms: u64| at_ms.saturating_sub(now_ms) > MISSED_MS_MAX;
        if is_far_ahead(looked_ms) {
            for (hash, _) in self.partials()? {
                if self.part_ms(&hash)?.is_some_and(is_far_ahead) {
                    self.date_part(&hash, now_ms)?;
                }
            }
        }
        let looked_ms = if is_far_ahead(looked_ms) { now_ms } else { now_ms.max(looked_ms) };
        std::fs::write(file, looked_ms.to_le_bytes())?;
        Ok(missed_ms)
    }

    /// Since when nothing visible refers to a blob, as far as was looked.
    fn unused_since(&self, hash: &BlobHash) -> io::Result<Option<u64>> {
        match std::fs::read(self.unused_path(hash)) {
            // What is cut short was written in a crash: from now on, then.
            Ok(bytes) => Ok(bytes.first_chunk::<8>().map(|ms| u64::from_le_bytes(*ms))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::blobs::Limits;
    use crate::ids::TimelineId;

    const NONE: &dyn Fn(&BlobHash) -> Result<bool, StorageError> = &|_| Ok(false);
    const RETENTION: Retention = Retention { history_ms: 1000, grace_ms: 10 };

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let temp = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(&temp.path().join("blobs"), Limits { reserve_bytes: 0, ..Limits::default() }).expect("opens");
        (temp, blobs)
    }

    fn write(blobs: &Blobs, bytes: &[u8]) -> (BlobHash, crate::blobs::Lease) {
        let mut writer = blobs.writer().expect("begins");
        writer.write(bytes).expect("writes");
        let (hash, _, lease) = writer.finish().expect("finishes");
        (hash, lease)
    }

    #[test]
    fn goes_after_its_time_and_not_before() {
        let (_temp, blobs) = blobs();
        let (hash, lease) = write(&blobs, b"a");
        drop(lease);
        let at = |now_ms, found| collect(&blobs, RETENTION, now_ms, &|_| Ok(found), NONE).expect("collects").removed;
        assert_eq!(at(100_000, Use::Nothing), 0, "nobody knew since when");
        assert_eq!(at(100_009, Use::Nothing), 0);
        assert_eq!(at(100_010, Use::History), 0, "older versions keep it longer");
        assert_eq!(at(100_020, Use::Visible), 0);
        assert_eq!(at(100_500, Use::Nothing), 0, "it was in use in between");
        assert_eq!(at(100_400, Use::Nothing), 0, "the clock went back");
        assert_eq!(at(100_509, Use::Nothing), 1);
        assert_eq!(blobs.len_of(&hash), None);
        assert_eq!(blobs.bytes(), 0);
    }

    #[test]
    fn what_is_leased_stays() {
        let (_temp, blobs) = blobs();
        let (hash, lease) = write(&blobs, b"a");
        for now_ms in [0, 1_000_000] {
            collect(&blobs, RETENTION, now_ms, &|_| Ok(Use::Nothing), NONE).expect("collects");
        }
        assert_eq!(blobs.len_of(&hash), Some(1));
        drop(lease);
        collect(&blobs, RETENTION, 1_000_000, &|_| Ok(Use::Nothing), NONE).expect("collects");
        assert_eq!(blobs.len_of(&hash), None);
    }

    /// A writer puts bytes that are here already and are about to be collected: after every step of it the collector
    /// looks, also between its own two looks, and the bytes that the writer's reference names are there in the end.
    #[test]
    fn no_new_reference_loses_its_bytes() {
        for at in 0..5 {
            let (_temp, blobs) = blobs();
            let (hash, lease) = write(&blobs, b"the same");
            drop(lease);
            let referred = Cell::new(false);
            let use_of = |_: &BlobHash| Ok(if referred.get() { Use::Visible } else { Use::Nothing });
            collect(&blobs, RETENTION, 0, &use_of, NONE).expect("marks");
            let collect_at = |step: usize| {
                if step == at {
                    collect(&blobs, RETENTION, 1_000_000, &use_of, NONE).expect("collects");
                }
            };
            collect_at(0);
            let mut writer = blobs.writer().expect("begins");
            writer.write(b"the same").expect("writes");
            collect_at(1);
            let (found, _, lease) = writer.finish().expect("finishes");
            assert_eq!(found, hash);
            collect_at(2);
            referred.set(true);
            collect_at(3);
            drop(lease);
            collect_at(4);
            assert_eq!(blobs.len_of(&hash), Some(8), "lost when collected at step {at}");
        }
    }

    /// The same with threads: some write contents that others write, too, and refer to them for a moment, while one collects
    /// all the time.
    #[test]
    fn writers_and_a_collector_at_once_lose_nothing() {
        let (_temp, blobs) = blobs();
        let contents = [b"one", b"two", b"six"];
        let hash_of = |content: &[u8]| BlobHash::from_bytes(*blake3::hash(content).as_bytes());
        let referred: [AtomicUsize; 3] = Default::default();
        let use_of = |hash: &BlobHash| {
            let at = contents.iter().position(|content| hash_of(*content) == *hash).expect("one of ours");
            Ok(if referred[at].load(Ordering::SeqCst) > 0 { Use::Visible } else { Use::Nothing })
        };
        let is_over = AtomicBool::new(false);
        let removed = std::thread::scope(|scope| {
            let collector = scope.spawn(|| {
                let (mut now_ms, mut removed) = (0, 0);
                while !is_over.load(Ordering::SeqCst) {
                    now_ms += 1_000_000;
                    removed += collect(&blobs, RETENTION, now_ms, &use_of, NONE).expect("collects").removed;
                }
                removed
            });
            let writers = [0, 1, 2].map(|writer| {
                let (blobs, referred) = (&blobs, &referred);
                scope.spawn(move || {
                    for round in 0..60 {
                        let at = (writer + round) % contents.len();
                        let (hash, lease) = write(blobs, contents[at]);
                        referred[at].fetch_add(1, Ordering::SeqCst);
                        drop(lease);
                        for _ in 0..20 {
                            assert_eq!(blobs.len_of(&hash), Some(3), "writer {writer}, round {round}");
                        }
                        referred[at].fetch_sub(1, Ordering::SeqCst);
                    }
                })
            });
            let ended = writers.map(std::thread::ScopedJoinHandle::join);
            is_over.store(true, Ordering::SeqCst);
            ended.into_iter().for_each(|ended| ended.expect("no writer lost anything"));
            collector.join().expect("the collector ends")
        });
        assert!(removed > 0, "nothing was collected, so nothing was shown");
    }

    #[test]
    fn a_reference_between_the_two_looks_is_seen() {
        let (_temp, blobs) = blobs();
        let (hash, lease) = write(&blobs, b"a");
        drop(lease);
        collect(&blobs, RETENTION, 0, &|_| Ok(Use::Nothing), NONE).expect("marks");
        let looks = Cell::new(0);
        let use_of = |_: &BlobHash| {
            looks.set(looks.get() + 1);
            Ok(if looks.get() == 1 { Use::Nothing } else { Use::Visible })
        };
        collect(&blobs, RETENTION, 1_000_000, &use_of, NONE).expect("collects");
        assert_eq!((looks.get(), blobs.len_of(&hash)), (2, Some(1)));
    }

    #[test]
    fn parts_that_nobody_goes_on_with_are_removed() {
        let (_temp, blobs) = blobs();
        let hash = BlobHash::from_bytes([3; 32]);
        let part = blobs.fetch(hash, 300_000, &TimelineId([1; 32])).expect("room");
        let part_ms = || blobs.part_ms(&hash).expect("reads").expect("is here");
        let now_ms = part_ms();
        let left = |found: Use, now_ms: u64| {
            collect(&blobs, RETENTION, now_ms, &|_| Ok(found), NONE).expect("looks");
            blobs.partials().expect("a list").len()
        };
        assert_eq!(left(Use::Nothing, now_ms + 2000), 1, "it is being fetched");
        drop(part);
        assert_eq!(left(Use::Nothing, now_ms + 9), 1);
        assert_eq!(left(Use::Visible, now_ms + 999), 1);
        let stay = |now_ms: u64| collect(&blobs, RETENTION, now_ms, &|_| Ok(Use::Visible), &|_| Ok(true)).expect("looks").removed;
        assert_eq!(stay(now_ms + 1_000_000), 0, "the owner wants it");
        assert_eq!(left(Use::Visible, now_ms + 1000), 0);
        drop(blobs.partial(hash, 300_000).expect("room"));
        assert_eq!(left(Use::Nothing, part_ms() + 10), 0);
    }

    /// Somebody's own picture was damaged on the disk, and nobody else has it.
    #[test]
    fn what_is_left_of_an_own_file_stays_as_long_as_something_names_it() {
        let (_temp, blobs) = blobs();
        let (hash, lease) = write(&blobs, &[7; 300_000]);
        drop(lease);
        let file = std::fs::OpenOptions::new().write(true).open(blobs.path(&hash)).expect("opens");
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 200_000).expect("writes");
        assert!(blobs.break_up(&hash).expect("reads"));
        let left = |found: Use| {
            collect(&blobs, RETENTION, u64::MAX / 2, &|_| Ok(found), NONE).expect("looks");
            blobs.partials().expect("a list").len()
        };
        assert_eq!(left(Use::Visible), 1);
        assert_eq!(left(Use::History), 0);
    }

    /// A peer was started once with a clock of ten years later.
    #[test]
    fn a_clock_that_was_far_ahead_once_has_nothing_age_at_once_and_nothing_stay_for_ever() {
        let (_temp, blobs) = blobs();
        let day_ms = 24 * 3600 * 1000;
        let retention = Retention::default();
        let (_, lease) = write(&blobs, b"a version that was replaced");
        drop(lease);
        let part = BlobHash::from_bytes([3; 32]);
        drop(blobs.fetch(part, 300_000, &TimelineId([1; 32])).expect("room"));
        let began_ms = blobs.part_ms(&part).expect("reads").expect("is here");
        let at = |now_ms: u64| {
            let done = collect(&blobs, retention, now_ms, &|_| Ok(Use::History), NONE).expect("looks");
            (done.removed, done.missed_ms)
        };
        assert_eq!(at(began_ms), (0, 0));
        assert_eq!(at(began_ms + 3650 * day_ms).0, 0);
        assert_eq!(at(began_ms + day_ms), (0, 0), "the clock is right again");
        // For two months it is off.
        assert_eq!(at(began_ms + 61 * day_ms), (0, 60 * day_ms));
        for day in 62..91 {
            assert_eq!(at(began_ms + day * day_ms), (0, 0), "day {day}");
        }
        assert_eq!(at(began_ms + 91 * day_ms), (2, 0), "thirty days that were seen");
    }

    /// A clock that is set a month ahead, and a peer that was away for a month, look the same.
    #[test]
    fn nothing_ages_while_nobody_looks() {
        let (_temp, blobs) = blobs();
        let (month_ms, day_ms) = (31 * 24 * 3600 * 1000, 24 * 3600 * 1000);
        let retention = Retention::default();
        let (hash, lease) = write(&blobs, b"a version that was replaced");
        drop(lease);
        let part = BlobHash::from_bytes([3; 32]);
        drop(blobs.fetch(part, 300_000, &TimelineId([1; 32])).expect("room"));
        let began_ms = blobs.part_ms(&part).expect("reads").expect("is here");
        let at = |now_ms: u64| {
            let done = collect(&blobs, retention, now_ms, &|_| Ok(Use::History), NONE).expect("looks");
            (done.removed, done.missed_ms)
        };
        assert_eq!(at(began_ms), (0, 0));
        assert_eq!(at(began_ms + month_ms), (0, month_ms));
        for day in 1..30 {
            assert_eq!(at(began_ms + month_ms + day * day_ms), (0, 0), "day {day}");
        }
        assert_eq!(at(began_ms + month_ms + 30 * day_ms), (2, 0), "thirty days that were seen");
        assert_eq!((blobs.len_of(&hash), blobs.partials().expect("a list").len()), (None, 0));
    }
}
