//! For which timelines blobs were fetched from others.
//!
//! Whoever may write can write any hash, also that of content which he never saw and which is here for another reason. So
//! that a blob is here says nothing about who may have it: a timeline that names it does, if its content came from those
//! who have that timeline. [`Blobs::fetch`] remembers that beside the blob.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::partial::Partial;
use super::{BlobHash, Blobs, ORIGIN, SaveError, remove_if_there, with_ending};
use crate::ids::TimelineId;

/// In place of a timeline: it came from others, and not as a whole from those for whom it was begun.
const NOBODY: [u8; 32] = [0; 32];
/// Timelines that are remembered for one blob. Those of whom more is not known get it from others.
const TIMELINES_MAX: usize = 64;

impl Blobs {
    /// [`Blobs::partial`], to be filled by those who have a timeline. If something of it is here, or others fill it by now, it
    /// stays theirs for whom it was begun. What came under another length is no part of that.
    ///
    /// # Errors
    ///
    /// [`SaveError`].
    pub fn fetch(&self, hash: BlobHash, len: u64, timeline: &TimelineId) -> Result<Arc<Partial>, SaveError> {
        // From here on nobody removes what is here of it.
        let _lease = self.lease(hash);
        let _alone = super::lock(&self.0.origins);
        // What the owner put in here himself, and is mended, comes from nobody again.
        if let Some(part) = self.parts_of(&hash).iter().find(|part| !part.may_be_as_long_as(len) && (part.shows_len() || part.is_owners())) {
            return Err(SaveError::OtherLength { len: part.len() });
        }
        let partial = self.partial_for(hash, len, Some(timeline))?;
        // Nothing has come of it for whom it was begun, and nobody waits for that.
        if partial.is_bare() && Arc::strong_count(&partial) == 1 {
            partial.belong(timeline.as_bytes()).map_err(SaveError::Io)?;
        }
        Ok(partial)
    }

    /// Whether what is here of a blob, whole or not, came from those who have a timeline.
    #[must_use]
    pub fn came_for(&self, hash: &BlobHash, timeline: &TimelineId) -> bool {
        let file = if self.len_of(hash).is_some() { Some(self.path(hash)) } else { self.part_file(hash) };
        let known = file.and_then(|file| origins(&with_ending(&file, ORIGIN)).ok()).unwrap_or_default();
        known.iter().any(|known| known == timeline.as_bytes())
    }

    /// Whether all that is here of a blob, whole or not, came from others.
    pub(crate) fn came_from_others(&self, hash: &BlobHash) -> bool {
        if self.len_of(hash).is_some() {
            return with_ending(&self.path(hash), ORIGIN).exists();
        }
        let parts: Vec<_> = self.part_files(hash).into_iter().filter(|file| file.exists()).collect();
        !parts.is_empty() && parts.iter().all(|file| with_ending(file, ORIGIN).exists())
    }

    /// Moves what is known of a part to the whole.
    pub(super) fn place_origin(&self, hash: &BlobHash, part: &Path) -> io::Result<()> {
        let whole = with_ending(&self.path(hash), ORIGIN);
        let known = origins(&whole)?;
        for timeline in origins(part)? {
            if !known.contains(&timeline) && known.len() < TIMELINES_MAX {
                append(&whole, &timeline)?;
            }
        }
        remove_if_there(part)
    }
}

impl Partial {
    /// Says from whom the next piece comes: somebody who has all of these timelines, or it is not known. What did not come as a whole
    /// from those for whom it was begun is for nobody but the owner.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn comes_for(&self, timelines: &[TimelineId]) -> io::Result<()> {
        let _alone = super::lock(&self.blobs().0.origins);
        let known = origins(&self.origin())?;
        // What was put in here by the owner, and is mended, is his.
        if known.is_empty() || known == [NOBODY] || timelines.iter().any(|timeline| known == [*timeline.as_bytes()]) {
            return Ok(());
        }
        self.belong(&NOBODY)
    }

    fn belong(&self, timeline: &[u8; 32]) -> io::Result<()> {
        let origin = self.origin();
        // What a crash leaves in between is for nobody, too.
        if origin.exists() { std::fs::write(&origin, timeline).and_then(|()| std::fs::File::open(&origin)?.sync_all()) } else { Ok(()) }
    }

    pub(super) fn origin(&self) -> std::path::PathBuf {
        with_ending(self.file(), ORIGIN)
    }
}

/// Says for whom a part is begun.
pub(super) fn begin(part: &Path, timeline: &TimelineId) -> io::Result<()> {
    let origin = with_ending(part, ORIGIN);
    remove_if_there(&origin)?;
    append(&origin, timeline.as_bytes())
}

fn origins(file: &Path) -> io::Result<Vec<[u8; 32]>> {
    match std::fs::read(file) {
        // What a crash cut short is not counted.
        Ok(bytes) => Ok(bytes.as_chunks::<32>().0.to_vec()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn append(file: &Path, timeline: &[u8; 32]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(file)?;
    // After a crash within, what follows begins at a place of its own.
    let torn = file.metadata()?.len() % 32;
    if torn > 0 {
        file.set_len(file.metadata()?.len() - torn)?;
    }
    file.write_all(timeline)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::Limits;
    use crate::blobs::partial::pieces_of;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let temp = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(&temp.path().join("blobs"), Limits { reserve_bytes: 0, ..Limits::default() }).expect("opens");
        (temp, blobs)
    }

    #[test]
    fn a_blob_is_known_to_have_come_for_whom_it_was_begun() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let mut writer = from.writer().expect("begins");
        writer.write(&[7; 300_000]).expect("writes");
        let (hash, len, _lease) = writer.finish().expect("finishes");
        let source = from.open_blob(hash).expect("opens").expect("is here");
        let (first, second, third) = (TimelineId([1; 32]), TimelineId([2; 32]), TimelineId([3; 32]));
        assert!(!from.came_for(&hash, &first), "what was put in here came for nobody");
        let knows = |blobs: &Blobs| [&first, &second, &third].map(|timeline| blobs.came_for(&hash, timeline));
        let partial = to.fetch(hash, len, &first).expect("room");
        drop(to.fetch(hash, len, &second).expect("room"));
        assert_eq!(knows(&to), [true, false, false], "who joins gets no right by that");
        for piece in 0..pieces_of(len) as u32 {
            partial.put(piece, &source.slice(piece).expect("good")).expect("good");
        }
        drop(partial);
        assert_eq!(knows(&to), [true, false, false]);
        // It is whole here, and somebody of the second timeline turns out to have it too.
        let again = to.fetch(hash, len, &second).expect("room");
        assert_eq!(knows(&to), [true, false, false], "not before it has come");
        for piece in 0..pieces_of(len) as u32 {
            again.put(piece, &source.slice(piece).expect("good")).expect("good");
        }
        drop(again);
        assert_eq!(knows(&to), [true, true, false]);
        assert!(to.remove(&hash).expect("no lease"));
        assert_eq!(knows(&to), [false; 3]);
        drop(to.fetch(hash, len, &third).expect("room"));
        to.remove_partial(&hash).expect("removed");
        drop(to.partial(hash, len).expect("room"));
        assert_eq!(knows(&to), [false; 3], "what is begun anew is nobody's");
    }

    /// All pieces but the last one are good under a length that is one byte more.
    #[test]
    fn a_length_that_is_only_said_puts_nothing_out_and_one_that_shows_stays() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let mut writer = from.writer().expect("begins");
        writer.write(&[7; 300_000]).expect("writes");
        let (hash, len, _lease) = writer.finish().expect("finishes");
        let source = from.open_blob(hash).expect("opens").expect("is here");
        let timeline = TimelineId([1; 32]);
        let put = |partial: &Partial, piece: u32| partial.put(piece, &source.slice(piece).expect("good"));
        let pieces = |of: u64, pieces: &[u32]| {
            let part = to.fetch(hash, of, &timeline).expect("room");
            pieces.iter().for_each(|piece| assert!(!put(&part, *piece).expect("good")));
            part.keep().expect("room");
            (0..3).filter(|piece| part.has(*piece)).collect::<Vec<u32>>()
        };
        let piece_bytes = crate::blobs::partial::PIECE_BYTES;
        assert_eq!(pieces(len, &[0, 1]), [0, 1]);
        assert!(put(&to.fetch(hash, len + 1, &timeline).expect("room"), 2).is_err());
        assert_eq!((pieces(len + 1, &[0]), pieces(len, &[])), (vec![0], vec![0, 1]), "each is by itself");
        assert_eq!((to.bytes(), to.partials().expect("a list")), (3 * piece_bytes, vec![(hash, 3 * piece_bytes)]));
        assert_eq!(to.open_partial(&hash).expect("is here").len(), len, "most is here of it");
        // A third one puts out the one of which the least is here, unless it is open.
        let open = [len, len + 1].map(|of| to.fetch(hash, of, &timeline).expect("room"));
        assert!(matches!(to.fetch(hash, len + 2, &timeline), Err(SaveError::OtherLength { .. })));
        drop(open);
        assert_eq!((pieces(len + 2, &[]), to.bytes()), (vec![], 2 * piece_bytes));
        assert_eq!((pieces(len + 1, &[]), pieces(len, &[])), (vec![], vec![0, 1]));
        let part = to.fetch(hash, len + 1, &timeline).expect("room");
        (0..2).for_each(|piece| assert!(!put(&part, piece).expect("good")));
        part.keep().expect("room");
        drop(part);
        let bytes = Blobs::open(to.folder(), Limits::default()).expect("opens").bytes();
        assert_eq!((bytes, to.bytes()), (4 * piece_bytes, 4 * piece_bytes));
        // The one that shows its length is the one.
        let part = to.fetch(hash, len, &timeline).expect("room");
        assert!(put(&part, 2).expect("good") && to.len_of(&hash) == Some(len));
        drop(part);
        assert!(to.remove_partial(&hash).expect("removed"));
        assert_eq!((to.bytes(), to.partials().expect("a list")), (len, vec![]));
        assert!(to.remove(&hash).expect("no lease"));
        assert_eq!(pieces(len, &[2]), [2]);
        assert!(matches!(to.fetch(hash, len + 1, &timeline), Err(SaveError::OtherLength { len: 300_000 })));
        assert_eq!(pieces(len, &[]), [2]);

        // The owner's own, of which the end is damaged.
        let (_c, own) = blobs();
        let mine = own.partial(hash, len).expect("room");
        put(&mine, 0).expect("good");
        mine.keep().expect("room");
        drop(mine);
        assert!(matches!(own.fetch(hash, len + 1, &timeline), Err(SaveError::OtherLength { len: 300_000 })));
        assert!(own.fetch(hash, len, &timeline).expect("room").has(0));
    }

    /// Two spaces name one file, and somebody in each of them sends pieces of it.
    #[test]
    fn what_came_from_several_is_for_nobody_but_the_owner() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let mut writer = from.writer().expect("begins");
        writer.write(&[7; 300_000]).expect("writes");
        let (hash, len, _lease) = writer.finish().expect("finishes");
        let source = from.open_blob(hash).expect("opens").expect("is here");
        let (first, second) = (TimelineId([1; 32]), TimelineId([2; 32]));
        let knows = || [&first, &second].map(|timeline| to.came_for(&hash, timeline));
        let put = |partial: &Partial, piece: u32| partial.put(piece, &source.slice(piece).expect("good")).map(drop).expect("good");
        // Nothing came for the first, who named what he may never have seen.
        drop(to.fetch(hash, len, &first).expect("room"));
        let partial = to.fetch(hash, len, &second).expect("room");
        assert_eq!(knows(), [false, true]);
        partial.comes_for(&[second]).expect("writes");
        put(&partial, 0);
        assert_eq!(knows(), [false, true]);
        drop(to.fetch(hash, len, &first).expect("room"));
        partial.keep().expect("writes");
        drop(partial);
        let partial = to.fetch(hash, len, &first).expect("room");
        assert_eq!(knows(), [false, true], "something is here");
        partial.comes_for(&[first]).expect("writes");
        put(&partial, 1);
        assert_eq!(knows(), [false, false]);
        partial.comes_for(&[second]).expect("writes");
        put(&partial, 2);
        drop(partial);
        assert_eq!((knows(), to.len_of(&hash)), ([false, false], Some(len)));
        // All of it comes again from somebody who has both.
        let again = to.fetch(hash, len, &first).expect("room");
        for piece in 0..pieces_of(len) as u32 {
            again.comes_for(&[second, first]).expect("writes");
            put(&again, piece);
        }
        drop(again);
        assert_eq!(knows(), [true, false]);
    }

    /// What is here of a file that was cancelled is being removed, and somebody begins to fetch it again.
    #[test]
    fn what_is_fetched_while_it_is_removed_is_known_to_have_come_for_somebody() {
        let (_temp, blobs) = blobs();
        let (hash, timeline) = (BlobHash::from_bytes([3; 32]), TimelineId([1; 32]));
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                    blobs.remove_partial(&hash).expect("removes");
                }
            });
            let lost = (0..2000).filter(|_| !blobs.fetch(hash, 300_000, &timeline).is_ok_and(|_part| blobs.came_for(&hash, &timeline))).count();
            is_over.store(true, std::sync::atomic::Ordering::SeqCst);
            remover.join().expect("ends");
            assert_eq!(lost, 0);
        });
    }
}
