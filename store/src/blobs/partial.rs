//! Blobs of which a part is here: what others send is checked piece by piece, kept over restarts, and sent on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bao_tree::io::BaoContentItem;
use bao_tree::io::outboard::PostOrderOutboard;
use bao_tree::io::sync::{DecodeResponseIter, encode_ranges_validated};
use bao_tree::{BaoTree, ChunkNum, ChunkRanges};

use crate::ids::TimelineId;

use super::tree::TreeHasher;
use super::{BLOCK_SIZE, BlobHash, Blobs, Lease, Looked, ORIGIN, SaveError, TEMPORARY, TREE};
use super::{make_folder, open_read, remove_if_there, sync_folder, with_ending};

/// Bytes that are asked for and sent at once: eight groups with the way from the root to them.
pub const PIECE_BYTES: u64 = 128 * 1024;
/// Most bytes of an encoded piece: its own, and at most 64 bytes for each inner node above and in it.
pub const SLICE_BYTES_MAX: usize = PIECE_BYTES as usize + 64 * (8 + 40);
/// Most pieces of a blob that is fetched: 512 GiB.
pub const PIECES_MAX: u64 = 4 * 1024 * 1024;
/// Folder of what is not whole, in that of the blobs.
pub(super) const FOLDER: &str = "part";
/// Ends the name of the file that says which pieces are here.
pub(super) const HAVE: &str = ".have";
/// After a look through a blob that the disk ended, it rests so many times as long as that took, and so long at least.
const REST: u32 = 20;
const REST_MIN: Duration = Duration::from_secs(60);
/// Read at once when all of a blob is hashed.
const HASH_BYTES: usize = 256 * 1024;
/// Pieces after which that is written, so that a crash costs no more.
const SAVE_PIECES: u32 = 64;

/// How many pieces a blob of this length has.
#[must_use]
pub fn pieces_of(len: u64) -> u64 {
    len.div_ceil(PIECE_BYTES).max(1)
}

/// Why a piece was not kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PieceError {
    /// It is not what the hash stands for: whoever sent it is broken or lies.
    #[error("piece {piece} is not of this blob")]
    Bad {
        /// Which.
        piece: u32,
    },
    /// There is no room for it.
    #[error(transparent)]
    Save(#[from] SaveError),
}

/// A blob of which a part is here.
#[derive(Debug)]
pub struct Partial {
    blobs: Blobs,
    hash: BlobHash,
    len: u64,
    file: PathBuf,
    data: File,
    tree: File,
    /// What is here; held for as long as it takes to look at it, never while the disk works.
    state: Mutex<State>,
    /// Held by whoever writes down what is here, or moves it to its place. It is taken first of all.
    disk: Mutex<()>,
    _lease: Lease,
}

#[derive(Debug)]
struct State {
    /// One bit for each piece, lowest first.
    have: Vec<u8>,
    count: u64,
    unsaved: u32,
    unsaved_bytes: u64,
    /// Bytes that are still to come, for which room is kept.
    expected: u64,
    is_placed: bool,
}

impl Blobs {
    /// Goes on with a blob of which a part is here, or begins one of which nothing is. While it is open there is room for the rest.
    /// Whoever opens it meanwhile has the same one.
    ///
    /// # Errors
    ///
    /// [`SaveError`].
    pub fn partial(&self, hash: BlobHash, len: u64) -> Result<Arc<Partial>, SaveError> {
        self.partial_for(hash, len, None)
    }

    /// The same, for whom it is begun, if it is.
    pub(super) fn partial_for(&self, hash: BlobHash, len: u64, timeline: Option<&TimelineId>) -> Result<Arc<Partial>, SaveError> {
        let partial = self.part(hash, len, timeline)?;
        let limits = self.limits();
        let mut state = partial.state();
        let missing = (len - state.bytes(len)).saturating_sub(state.expected);
        let together = self.together();
        let mut expected = super::lock(&together.expected);
        let (coming, bytes) = (expected.saturating_add(missing), self.bytes_together());
        if missing > 0 && bytes.saturating_add(coming) > limits.total_bytes_max {
            return Err(SaveError::OverTotal { max: limits.total_bytes_max, bytes });
        }
        let free = self.free_bytes().map_err(SaveError::Io)?;
        if free < limits.reserve_bytes.saturating_add(coming) {
            return Err(SaveError::Full { free, reserve: limits.reserve_bytes.saturating_add(*expected) });
        }
        *expected = coming;
        drop(expected);
        state.expected += missing;
        drop(state);
        Ok(partial)
    }

    /// A blob of which a part is here, or will be: the one that is open, if one is.
    pub(super) fn part(&self, hash: BlobHash, len: u64, timeline: Option<&TimelineId>) -> Result<Arc<Partial>, SaveError> {
        let mut parts = super::lock(&self.0.parts);
        let open = |len: u64| parts.get(&(hash, len)).and_then(std::sync::Weak::upgrade).filter(|open| !open.is_placed());
        if let Some(open) = open(len) {
            return Ok(open);
        }
        let others: Vec<Arc<Partial>> = parts.keys().filter(|(other, _)| *other == hash).filter_map(|(_, len)| open(*len)).collect();
        let part = Arc::new(self.open_part(hash, len, timeline, &others)?);
        parts.retain(|_, open| open.strong_count() > 0);
        parts.insert((hash, len), Arc::downgrade(&part));
        Ok(part)
    }

    fn open_part(&self, hash: BlobHash, len: u64, timeline: Option<&TimelineId>, others: &[Arc<Partial>]) -> Result<Partial, SaveError> {
        let limits = self.limits();
        if len > limits.blob_bytes_max || pieces_of(len) > PIECES_MAX {
            return Err(SaveError::TooLarge { max: limits.blob_bytes_max.min(PIECES_MAX * PIECE_BYTES) });
        }
        let folder = self.folder().join(FOLDER);
        let open = |path: &PathBuf| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
            options.open(path)
        };
        let lease = self.lease(hash);
        let _alone = super::lock(&self.0.moves);
        make_folder(&folder).map_err(SaveError::Io)?;
        let file = self.file_for(&hash, len, others)?;
        if !file.exists() {
            // What a crash left of one that is at its place, or was removed.
            [HAVE, TREE].iter().try_for_each(|ending| remove_if_there(&with_ending(&file, ending))).map_err(SaveError::Io)?;
        }
        if let Some(timeline) = timeline
            && !with_ending(&file, HAVE).exists()
            && !is_owners_left(&file)
        {
            // Nothing is known to be here of it, whatever a crash left.
            remove_if_there(&file).and_then(|()| super::origin::begin(&file, timeline)).map_err(SaveError::Io)?;
        }
        let data = open(&file).map_err(SaveError::Io)?;
        let tree = open(&with_ending(&file, TREE)).map_err(SaveError::Io)?;
        let bytes = usize::try_from(pieces_of(len).div_ceil(8)).unwrap_or(usize::MAX);
        // The length first: a file about a blob of another length says nothing about this one.
        let saved = read_have(&file).map_err(SaveError::Io)?;
        let saved = saved.as_deref().and_then(|saved| saved.strip_prefix(&len.to_le_bytes())).filter(|saved| saved.len() == bytes);
        let mut have = saved.map_or_else(|| vec![0; bytes], <[u8]>::to_vec);
        let behind = (bytes as u64 * 8 - pieces_of(len)) as u32;
        if let Some(last) = have.last_mut() {
            *last &= u8::MAX >> behind;
        }
        let count = have.iter().map(|byte| u64::from(byte.count_ones())).sum();
        let state = Mutex::new(State { have, count, unsaved: 0, unsaved_bytes: 0, expected: 0, is_placed: false });
        Ok(Partial { blobs: self.clone(), hash, len, file, data, tree, state, disk: Mutex::new(()), _lease: lease })
    }

    /// Makes a blob of which some bytes are damaged one of which a part is here, so that the rest can come again. Reads all of it.
    /// Whoever has it open goes on with what he has. Where only the tree is damaged, that is made anew. Says whether bytes were damaged;
    /// while the disk fails nothing is done, nor while another look at it is under way, which finds the same.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn break_up(&self, hash: &BlobHash) -> io::Result<bool> {
        let before = super::lock(&self.0.looked_through).insert(*hash, Looked::Now);
        if matches!(before, Some(Looked::Now)) {
            return Ok(false);
        }
        let began = Instant::now();
        let broken = self.break_up_alone(hash);
        let mut looked = super::lock(&self.0.looked_through);
        looked.remove(hash);
        if broken.is_err() {
            let now = Instant::now();
            looked.retain(|_, other| matches!(other, Looked::Now) || other.is_resting(now));
            looked.insert(*hash, Looked::Failed(now + REST_MIN.max((now - began) * REST)));
        }
        broken
    }

    /// [`Blobs::break_up`], for whoever finds damage while he reads: where the disk failed when all of it was read, it rests, as else each
    /// request would have it read from the beginning up to the same bad sector.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn break_up_in_time(&self, hash: &BlobHash, now: Instant) -> io::Result<bool> {
        let rests = super::lock(&self.0.looked_through).get(hash).is_some_and(|looked| looked.is_resting(now));
        if rests { Ok(false) } else { self.break_up(hash) }
    }

    fn break_up_alone(&self, hash: &BlobHash) -> io::Result<bool> {
        if self.mend_tree(hash)? {
            return Ok(false);
        }
        let Some(blob) = self.open_blob(*hash)? else { return Ok(false) };
        let is_len = blob.len();
        let (len, have, bytes) = good_pieces_by_tree(&blob)?;
        let folder = self.folder().join(FOLDER);
        let file = folder.join(hash.to_string());
        let _alone = super::lock(&self.0.moves);
        // The same may have been put there again meanwhile.
        let is_same = std::fs::metadata(self.path(hash)).is_ok_and(|about| about.ino() == blob.data_file().metadata().map_or(0, |own| own.ino()));
        if !is_same || file.exists() {
            return Ok(false);
        }
        // What is good, and what shows it, first: without bytes that says nothing, and bytes without it would be of no use.
        make_folder(&folder)?;
        if let Some(mut tree) = blob.tree_file() {
            io::Seek::rewind(&mut tree)?;
            write_synced(&with_ending(&file, TREE), &mut tree)?;
        }
        // So does for whom it came: bytes of which that is not known are the owner's.
        let origin = with_ending(&self.path(hash), ORIGIN);
        match open_read(&origin) {
            Ok(mut known) => write_synced(&with_ending(&file, ORIGIN), &mut known)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => remove_if_there(&with_ending(&file, ORIGIN))?,
            Err(error) => return Err(error),
        }
        save(&file, len, &have)?;
        sync_folder(&folder)?;
        std::fs::rename(self.path(hash), &file)?;
        self.count(i128::from(bytes) - i128::from(is_len));
        remove_if_there(&origin)?;
        remove_if_there(&self.tree_path(hash))?;
        remove_if_there(&self.unused_path(hash))?;
        Ok(true)
    }

    /// Whether all bytes of a blob are good, whatever is with its tree. Reads all of it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn has_good_bytes(&self, hash: &BlobHash) -> io::Result<bool> {
        let _lease = self.lease(*hash);
        Ok(blake3_of(&mut open_read(&self.path(hash))?)? == *hash.as_bytes())
    }

    /// Whether all bytes of a blob are good. If they are, and the tree is not or cannot be read, it is made anew.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn mend_tree(&self, hash: &BlobHash) -> io::Result<bool> {
        let lease = self.lease(*hash);
        let mut data = match open_read(&self.path(hash)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            data => data?,
        };
        if blake3_of(&mut data)? != *hash.as_bytes() {
            return Ok(false);
        }
        let is_good = |blob: &super::Blob| good_pieces(blob, blob.len()).is_ok_and(|(_, bytes)| bytes == blob.len());
        if self.open_blob(*hash).is_ok_and(|blob| blob.as_ref().is_some_and(is_good)) {
            return Ok(true);
        }
        io::Seek::rewind(&mut data)?;
        let name = timebus_identity::z32::encode(&timebus_identity::random_bytes::<15>());
        let new = with_ending(&self.folder().join(TEMPORARY).join(name), TREE);
        let written = write_synced(&new, &mut Pairs { data, hasher: TreeHasher::default(), ready: io::Cursor::default(), is_over: false });
        let moved = written.and_then(|()| {
            let _alone = super::lock(&self.0.moves);
            std::fs::rename(&new, self.tree_path(hash))
        });
        if moved.is_err() {
            remove_if_there(&new)?;
        }
        drop(lease);
        moved.map(|()| true)
    }

    /// Puts blobs back that a crash left among the parts: they are whole, or were when they were moved there, and nothing says which
    /// of their pieces are good. What is fetched from others says first for whom.
    pub(super) fn put_back(&self) -> io::Result<()> {
        let names = match std::fs::read_dir(self.folder().join(FOLDER)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        for name in names {
            let name = name?.file_name();
            let Some(hash) = name.to_str().and_then(BlobHash::parse) else { continue };
            let ([file, _], path) = (self.part_files(&hash), self.path(&hash));
            if !is_owners_left(&file) || path.exists() {
                continue;
            }
            path.parent().map_or(Ok(()), make_folder)?;
            match std::fs::rename(with_ending(&file, TREE), self.tree_path(&hash)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => std::fs::rename(&file, &path)?,
            }
        }
        Ok(())
    }
}

/// Whether there are bytes of which neither is known which are good nor that they came from others: the owner's, then.
pub(super) fn is_owners_left(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|about| about.len() > 0) && [HAVE, ORIGIN].iter().all(|ending| !with_ending(file, ending).exists())
}

/// What is written down of a part. That it cannot be read now does not mean that nothing is.
pub(super) fn read_have(file: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(with_ending(file, HAVE)) {
        Ok(saved) => Ok(Some(saved)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn blake3_of(data: &mut File) -> io::Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; HASH_BYTES]);
    loop {
        match data.read(&mut buffer)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            len => hasher.update(&buffer[..len]),
        };
    }
}

/// The tree of bytes, read as they are.
struct Pairs {
    data: File,
    hasher: TreeHasher,
    ready: io::Cursor<Vec<u8>>,
    is_over: bool,
}

impl io::Read for Pairs {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let len = self.ready.read(out)?;
            if len > 0 || self.is_over {
                return Ok(len);
            }
            let mut buffer = vec![0; HASH_BYTES];
            match self.data.read(&mut buffer)? {
                0 => {
                    self.hasher.finish();
                    self.is_over = true;
                }
                len => self.hasher.update(&buffer[..len]),
            }
            self.ready = io::Cursor::new(self.hasher.take_pairs());
        }
    }
}

fn write_synced(file: &Path, from: &mut impl io::Read) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    io::copy(from, &mut out)?;
    out.flush()?;
    out.sync_all()
}

/// How long a blob was, to a group: of what was cut short on the disk, or has something behind its end, only its tree knows.
fn len_by_tree(blob: &super::Blob) -> u64 {
    let of_tree = blob.tree_file().and_then(|tree| Some((tree.metadata().ok()?.len() / 64 + 1) * super::GROUP_BYTES));
    of_tree.filter(|of_tree| !super::parts::has_tree_of(*of_tree, blob.len())).unwrap_or(blob.len())
}

/// Which pieces are good, by the length that the tree says as far as anything is good by that: it may be cut short, too.
fn good_pieces_by_tree(blob: &super::Blob) -> io::Result<(u64, Vec<u8>, u64)> {
    let by_tree = len_by_tree(blob);
    let (have, bytes) = good_pieces(blob, by_tree)?;
    if bytes > 0 || by_tree == blob.len() {
        return Ok((by_tree, have, bytes));
    }
    good_pieces(blob, blob.len()).map(|(have, bytes)| (blob.len(), have, bytes))
}

/// Which pieces of a whole blob are good if it is as long as this: one bit for each, lowest first; and their bytes.
fn good_pieces(blob: &super::Blob, len: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut have = vec![0u8; usize::try_from(pieces_of(len).div_ceil(8)).unwrap_or(usize::MAX)];
    let mut bytes = 0;
    for piece in 0..pieces_of(len) as u32 {
        match slice(blob.data_file(), blob.tree_file().unwrap_or(blob.data_file()), blob.hash(), len, piece) {
            Ok(_) => {
                have[piece as usize / 8] |= 1 << (piece % 8);
                bytes += piece_bytes(len, piece);
            }
            Err(super::Damage::At { .. }) => {}
            Err(super::Damage::Io(error)) => return Err(error),
        }
    }
    Ok((have, bytes))
}

impl Looked {
    fn is_resting(self, now: Instant) -> bool {
        matches!(self, Self::Failed(until) if now < until)
    }
}

impl State {
    /// Bytes that are here.
    fn bytes(&self, len: u64) -> u64 {
        let last = pieces_of(len) - 1;
        let has_last = self.have.get(last as usize / 8).is_some_and(|byte| byte >> (last % 8) & 1 == 1);
        let short = if has_last { PIECE_BYTES - piece_bytes(len, last as u32) } else { 0 };
        self.count * PIECE_BYTES - short
    }
}

/// Bytes of one piece.
#[must_use]
pub fn piece_bytes(len: u64, piece: u32) -> u64 {
    len.saturating_sub(u64::from(piece) * PIECE_BYTES).min(PIECE_BYTES)
}

pub(super) fn save(file: &Path, len: u64, have: &[u8]) -> io::Result<()> {
    let new = with_ending(file, ".new");
    std::fs::write(&new, [&len.to_le_bytes()[..], have].concat())?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, with_ending(file, HAVE))
}

impl Drop for Partial {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let together = self.blobs.together();
        let mut expected = super::lock(&together.expected);
        *expected = expected.saturating_sub(state.expected);
        drop(expected);
        // What was not saved comes again.
        self.blobs.count(-i128::from(if state.is_placed { 0 } else { state.unsaved_bytes }));
    }
}

impl Partial {
    /// The blob.
    #[must_use]
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// Its length.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no piece is here.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.state().count == 0
    }

    /// Whether something of it is here that the owner put in himself, and nobody may have again.
    #[must_use]
    pub fn is_owners(&self) -> bool {
        !self.is_bare() && !self.origin().exists()
    }

    /// Whether it is the owner's and may have this length, as far as what is here shows.
    #[must_use]
    pub fn may_be_as_long_as(&self, len: u64) -> bool {
        self.len == len || self.is_owners() && !self.shows_len() && super::parts::is_at_most(self.len, len)
    }

    /// Whether its last piece is here. The others are good under other lengths, too.
    #[must_use]
    pub fn shows_len(&self) -> bool {
        u32::try_from(pieces_of(self.len) - 1).is_ok_and(|last| self.has(last))
    }

    /// Bytes that are here.
    #[must_use]
    pub fn bytes_here(&self) -> u64 {
        self.state().bytes(self.len)
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces that are here: one bit for each, lowest first.
    #[must_use]
    pub fn have(&self) -> Vec<u8> {
        self.state().have.clone()
    }

    /// Whether a piece is here.
    #[must_use]
    pub fn has(&self, piece: u32) -> bool {
        self.state().have.get(piece as usize / 8).is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
    }

    /// The pieces that are said to be here and are damaged. Reads all that is here.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn damaged_pieces(&self) -> io::Result<Vec<u32>> {
        let mut damaged = Vec::new();
        for piece in (0..pieces_of(self.len) as u32).filter(|piece| self.has(*piece)) {
            match self.bytes(piece) {
                Ok(_) => {}
                Err(super::Damage::At { .. }) => damaged.push(piece),
                Err(super::Damage::Io(error)) => return Err(error),
            }
        }
        Ok(damaged)
    }

    /// The blobs that it is one of.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Whether all of it is here and at its place, so that it is no part any more.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        self.state().is_placed
    }

    /// A piece is not what it was: it has to come again. Of what is at its place nothing is forgotten: [`Blobs::break_up`] does that.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn lose(&self, piece: u32) -> io::Result<()> {
        let mut state = self.state();
        if state.is_placed {
            return Ok(());
        }
        let Some(byte) = state.have.get_mut(piece as usize / 8).filter(|byte| **byte >> (piece % 8) & 1 == 1) else { return Ok(()) };
        *byte &= !(1 << (piece % 8));
        let bytes = piece_bytes(self.len, piece);
        state.count -= 1;
        self.blobs.count(-i128::from(bytes));
        // As room is kept for it while it is being fetched, it is for what comes again.
        if state.expected > 0 {
            state.expected += bytes;
            *super::lock(&self.blobs.together().expected) += bytes;
        }
        drop(state);
        self.save(super::lock(&self.disk))
    }

    /// Checks and keeps a piece as somebody sent it; says whether the blob is whole now and at its place.
    ///
    /// # Errors
    ///
    /// [`PieceError`].
    pub fn put(&self, piece: u32, slice: &[u8]) -> Result<bool, PieceError> {
        let bad = || PieceError::Bad { piece };
        if u64::from(piece) >= pieces_of(self.len) || slice.len() > SLICE_BYTES_MAX {
            return Err(bad());
        }
        let items = checked(&self.hash, self.len, &ranges(piece), slice).ok_or_else(bad)?;
        if self.state().unsaved == 0 {
            let (free, reserve) = (self.blobs.free_bytes().map_err(SaveError::Io)?, self.blobs.limits().reserve_bytes);
            if free < reserve {
                return Err(SaveError::Full { free, reserve }.into());
            }
        }
        let tree = BaoTree::new(self.len, BLOCK_SIZE);
        let write = || -> io::Result<()> {
            for item in items {
                match item {
                    BaoContentItem::Parent(parent) => {
                        if let Some(at) = tree.post_order_offset(parent.node) {
                            let pair = [*parent.pair.0.as_bytes(), *parent.pair.1.as_bytes()].concat();
                            self.tree.write_all_at(&pair, at.value() * 64)?;
                        }
                    }
                    BaoContentItem::Leaf(leaf) => self.data.write_all_at(&leaf.data, leaf.offset)?,
                }
            }
            Ok(())
        };
        write().map_err(|error| self.blobs.failed(error))?;
        let mut state = self.state();
        let byte = &mut state.have[piece as usize / 8];
        if *byte >> (piece % 8) & 1 == 0 {
            *byte |= 1 << (piece % 8);
            let bytes = piece_bytes(self.len, piece);
            state.count += 1;
            state.unsaved += 1;
            state.unsaved_bytes += bytes;
            let came = bytes.min(state.expected);
            state.expected -= came;
            *super::lock(&self.blobs.together().expected) -= came;
            self.blobs.count(i128::from(bytes));
        }
        let (is_whole, is_due) = (state.count == pieces_of(self.len), state.unsaved >= SAVE_PIECES);
        drop(state);
        if is_whole {
            self.place(&super::lock(&self.disk)).map_err(|error| self.blobs.failed(error))?;
        } else if is_due && let Ok(alone) = self.disk.try_lock() {
            // If somebody is at it already, the next piece will do.
            self.save(alone).map_err(|error| self.blobs.failed(error))?;
        }
        Ok(self.state().is_placed)
    }

    /// A piece as others get it: checked again, since disks fail.
    ///
    /// # Errors
    ///
    /// [`super::Damage`].
    pub fn slice(&self, piece: u32) -> Result<Vec<u8>, super::Damage> {
        slice(&self.data, &self.tree, self.hash, self.len, piece)
    }

    /// The bytes of a piece that is here, checked.
    ///
    /// # Errors
    ///
    /// [`super::Damage`].
    pub fn bytes(&self, piece: u32) -> Result<Vec<u8>, super::Damage> {
        let slice = self.slice(piece)?;
        let damaged = super::Damage::At { at: u64::from(piece) * PIECE_BYTES };
        let items = checked(&self.hash, self.len, &ranges(piece), &slice).ok_or(damaged)?;
        let mut bytes = Vec::new();
        for item in items {
            if let BaoContentItem::Leaf(leaf) = item {
                bytes.extend_from_slice(&leaf.data);
            }
        }
        Ok(bytes)
    }

    /// Makes sure that after a crash what is here now is still known to be here.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn keep(&self) -> io::Result<()> {
        let alone = super::lock(&self.disk);
        let is_unsaved = self.state().unsaved > 0;
        if is_unsaved { self.save(alone) } else { Ok(()) }
    }

    fn save(&self, _alone: MutexGuard<'_, ()>) -> io::Result<()> {
        let state = self.state();
        if state.is_placed {
            return Ok(());
        }
        let (have, unsaved, unsaved_bytes) = (state.have.clone(), state.unsaved, state.unsaved_bytes);
        drop(state);
        self.data.sync_data()?;
        self.tree.sync_data()?;
        save(&self.file, self.len, &have)?;
        let mut state = self.state();
        // What came meanwhile is saved next time.
        state.unsaved -= unsaved;
        state.unsaved_bytes -= unsaved_bytes;
        Ok(())
    }

    fn place(&self, _alone: &MutexGuard<'_, ()>) -> io::Result<()> {
        if self.state().is_placed {
            return Ok(());
        }
        let path = self.blobs.path(&self.hash);
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if !folder.exists() {
            make_folder(folder)?;
            sync_folder(self.blobs.folder())?;
        }
        self.data.sync_all()?;
        self.tree.sync_all()?;
        let mut state = self.state();
        if state.count < pieces_of(self.len) {
            // One was lost meanwhile, and comes again.
            return Ok(());
        }
        let _moves = super::lock(&self.blobs.0.moves);
        let was = self.blobs.len_of(&self.hash);
        // First that it is no part any more: a crash from here on costs bytes that come again.
        remove_if_there(&with_ending(&self.file, HAVE))?;
        self.blobs.place_origin(&self.hash, &with_ending(&self.file, ORIGIN))?;
        std::fs::rename(with_ending(&self.file, TREE), self.blobs.tree_path(&self.hash))?;
        std::fs::rename(&self.file, &path)?;
        sync_folder(folder)?;
        self.blobs.count(-i128::from(was.unwrap_or(0)));
        state.is_placed = true;
        Ok(())
    }

    /// Where it is.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl super::Blob {
    /// A piece as others get it.
    ///
    /// # Errors
    ///
    /// [`super::Damage`].
    pub fn slice(&self, piece: u32) -> Result<Vec<u8>, super::Damage> {
        match self.tree_file() {
            Some(tree) => slice(self.data_file(), tree, self.hash(), self.len(), piece),
            // One group, or a tree that was lost.
            None => slice(self.data_file(), self.data_file(), self.hash(), self.len(), piece),
        }
    }

    /// How many of its bytes are in pieces that are good. Reads all of it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn good_bytes(&self) -> io::Result<u64> {
        // Without the tree it shows of all of them together.
        let mut data = self.data_file().try_clone()?;
        io::Seek::rewind(&mut data)?;
        if blake3_of(&mut data)? == *self.hash().as_bytes() {
            return Ok(self.len());
        }
        good_pieces_by_tree(self).map(|(.., bytes)| bytes)
    }
}

/// Whether what somebody sent is a piece of a blob, all of it and nothing else.
#[must_use]
pub fn is_slice(hash: &BlobHash, len: u64, piece: u32, slice: &[u8]) -> bool {
    u64::from(piece) < pieces_of(len) && checked(hash, len, &ranges(piece), slice).is_some()
}

/// The chunks of a piece.
fn ranges(piece: u32) -> ChunkRanges {
    let start = u64::from(piece) * PIECE_BYTES;
    ChunkRanges::from(ChunkNum::chunks(start)..ChunkNum::chunks(start + PIECE_BYTES))
}

/// What somebody sent of these chunks, if all of it is of the blob, and nothing else.
fn checked(hash: &BlobHash, len: u64, ranges: &ChunkRanges, mut slice: &[u8]) -> Option<Vec<BaoContentItem>> {
    let mut items = Vec::new();
    for item in DecodeResponseIter::new((*hash.as_bytes()).into(), BaoTree::new(len, BLOCK_SIZE), &mut slice, ranges) {
        items.push(item.ok()?);
    }
    slice.is_empty().then_some(items)
}

fn slice(data: &File, tree: &File, hash: BlobHash, len: u64, piece: u32) -> Result<Vec<u8>, super::Damage> {
    let outboard = PostOrderOutboard { root: (*hash.as_bytes()).into(), tree: BaoTree::new(len, BLOCK_SIZE), data: tree };
    slice_of(data, outboard, &ranges(piece), u64::from(piece) * PIECE_BYTES)
}

fn slice_of(data: &File, outboard: PostOrderOutboard<&File>, ranges: &ChunkRanges, at: u64) -> Result<Vec<u8>, super::Damage> {
    let mut out = Vec::with_capacity(SLICE_BYTES_MAX);
    encode_ranges_validated(data, outboard, ranges, &mut out).map_err(|error| match error {
        bao_tree::io::EncodeError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => super::Damage::Io(error),
        _ => super::Damage::At { at },
    })?;
    Ok(out)
}

/// Opens what is here of a blob to read it; for tests of what a crash leaves.
#[cfg(test)]
fn read_part(blobs: &Blobs, hash: &BlobHash) -> io::Result<File> {
    super::open_read(&blobs.folder().join(FOLDER).join(hash.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::Limits;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let temp = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(&temp.path().join("blobs"), Limits { reserve_bytes: 0, ..Limits::default() }).expect("opens");
        (temp, blobs)
    }

    fn blob(blobs: &Blobs, len: usize) -> (super::super::Blob, Vec<u8>) {
        let data: Vec<u8> = (0..len).map(|at| (at * 7 % 251) as u8).collect();
        let mut writer = blobs.writer().expect("begins");
        writer.write(&data).expect("writes");
        let (hash, _, _lease) = writer.finish().expect("finishes");
        (blobs.open_blob(hash).expect("opens").expect("is here"), data)
    }

    #[test]
    fn pieces_make_the_blob_in_any_order_over_restarts() {
        for len in [0, 1, 16_384, 16_385, 131_072, 131_073, 1_000_000, 3 * 131_072] {
            let ((_a, from), (_b, to)) = (blobs(), blobs());
            let (source, data) = blob(&from, len);
            let count = pieces_of(len as u64) as u32;
            for (number, piece) in (0..count).rev().enumerate() {
                // As if it were another day each time.
                let partial = to.partial(source.hash(), len as u64).expect("room");
                assert_eq!((0..count).filter(|piece| partial.has(*piece)).count(), number);
                let slice = source.slice(piece).expect("good");
                assert!(slice.len() <= SLICE_BYTES_MAX);
                let whole = partial.put(piece, &slice).expect("good");
                assert_eq!(whole, number as u32 == count - 1);
                if !whole {
                    assert!(read_part(&to, &source.hash()).is_ok());
                    assert!(partial.slice(piece).expect("good") == slice, "a part is sent on");
                }
                partial.keep().expect("room");
            }
            let whole = to.open_blob(source.hash()).expect("opens").expect("is here");
            assert!(whole.read(0..u64::MAX).expect("good") == data);
            assert_eq!(to.partials().expect("a list"), []);
            assert_eq!(to.bytes(), len as u64);
        }
    }

    #[test]
    fn what_is_here_is_known_while_the_disk_works() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let len = 80 * PIECE_BYTES;
        let (source, _) = blob(&from, len as usize);
        let partial = to.partial(source.hash(), len).expect("room");
        let (told, hears) = std::sync::mpsc::channel();
        let disk = super::super::lock(&partial.disk);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for piece in 0..80 {
                    // Somebody is writing; all but the last one need not wait for that.
                    let _ = told.send((piece, partial.put(piece, &source.slice(piece).expect("good")).expect("good")));
                }
            });
            for piece in 0..79 {
                assert_eq!(hears.recv_timeout(std::time::Duration::from_secs(60)), Ok((piece, false)));
            }
            while !partial.has(79) {
                std::thread::yield_now();
            }
            assert!(!to.path(&source.hash()).exists());
            drop(disk);
            assert_eq!(hears.recv(), Ok((79, true)));
        });
        assert!(to.open_blob(source.hash()).expect("opens").is_some());
        // What is placed is not written down as a part again.
        partial.keep().expect("nothing to do");
        assert_eq!(to.partials().expect("a list"), []);
    }

    #[test]
    fn nothing_but_the_blob_is_kept() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let (source, _) = blob(&from, 300_000);
        let partial = to.partial(source.hash(), 300_000).expect("room");
        let good = source.slice(1).expect("good");
        for at in (0..good.len()).step_by(997).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(matches!(partial.put(1, &bad), Err(PieceError::Bad { piece: 1 })), "byte {at}");
        }
        for bad in [&good[..good.len() - 1], &[], &[&good[..], &[0]].concat()] {
            assert!(partial.put(1, bad).is_err());
        }
        assert!(partial.put(0, &good).is_err() && partial.put(3, &good).is_err() && partial.put(u32::MAX, &good).is_err());
        // Under another length the last piece is not good, so that the blob never gets whole.
        let other = to.partial(source.hash(), 300_001).expect("room");
        assert!(other.put(2, &source.slice(2).expect("good")).is_err());
        assert!(!partial.has(1));
    }

    /// Every byte of a transfer of 1 MiB once: each of its 64 groups by itself, as it is checked within a piece.
    #[test]
    fn no_byte_of_what_others_send_can_be_changed() {
        const LEN: u64 = 1 << 20;
        let (_a, from) = blobs();
        let (source, data) = blob(&from, LEN as usize);
        let (hash, tree) = (source.hash(), source.tree_file().expect("many groups"));
        let groups = |numbers: std::ops::Range<u64>| {
            let chunk = |group: u64| ChunkNum::full_chunks(group * super::super::GROUP_BYTES);
            let ranges = ChunkRanges::from(chunk(numbers.start)..chunk(numbers.end));
            let outboard = PostOrderOutboard { root: (*hash.as_bytes()).into(), tree: BaoTree::new(LEN, BLOCK_SIZE), data: tree };
            let slice = slice_of(source.data_file(), outboard, &ranges, 0).expect("good");
            (ranges, slice)
        };
        let each = |number: u64| {
            let (ranges, mut slice) = groups(number..number + 1);
            let good = checked(&hash, LEN, &ranges, &slice).expect("good");
            let Some(BaoContentItem::Leaf(leaf)) = good.last() else { panic!("no bytes") };
            let begin = (number * super::super::GROUP_BYTES) as usize;
            assert!(data[begin..].starts_with(&leaf.data) && leaf.data.len() as u64 == super::super::GROUP_BYTES);
            for at in 0..slice.len() {
                slice[at] ^= 1 << (at % 8);
                assert!(checked(&hash, LEN, &ranges, &slice).is_none(), "group {number}, byte {at}");
                slice[at] ^= 1 << (at % 8);
            }
            assert!(checked(&hash, LEN, &ranges, &slice).is_some());
            slice.len() as u64
        };
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| (32..64).map(each).sum::<u64>());
            ((0..32).map(each).sum::<u64>(), second.join().expect("all are refused"))
        });
        assert_eq!(first + second, LEN + 64 * 6 * 64, "each byte, and the six nodes above each group");
        // A piece is eight of them, one behind the other.
        assert_eq!(groups(8..16), (super::ranges(1), source.slice(1).expect("good")));
    }

    #[test]
    fn what_is_damaged_of_a_blob_comes_again_and_no_more() {
        for len in [1, 16_384, 300_000, 1_000_000] {
            let ((_a, from), (_b, to)) = (blobs(), blobs());
            let ((source, data), (whole, _)) = (blob(&from, len), blob(&to, len));
            let hash = whole.hash();
            assert!(!to.break_up(&hash).expect("looks"), "it is good");
            let mut damaged = data.clone();
            damaged[len / 2] ^= 1;
            std::fs::write(to.path(&hash), damaged).expect("room");
            assert!(to.break_up(&hash).expect("looks"));
            let bad = (len as u64 / 2 / PIECE_BYTES) as u32;
            let part = to.partial(hash, len as u64).expect("room");
            let lacks: Vec<u32> = (0..pieces_of(len as u64) as u32).filter(|piece| !part.has(*piece)).collect();
            assert_eq!((lacks, to.len_of(&hash)), (vec![bad], None));
            assert_eq!(to.bytes(), len as u64 - piece_bytes(len as u64, bad));
            assert!(part.put(bad, &source.slice(bad).expect("good")).expect("good"));
            assert!(to.open_blob(hash).expect("opens").expect("is here").read(0..u64::MAX).expect("good") == data);
            assert_eq!((to.bytes(), to.partials().expect("a list").len()), (len as u64, 0));
        }
    }

    /// A home was copied to a disk that was full, or what was written last was lost with the power.
    #[test]
    fn of_what_was_cut_short_all_that_is_good_stays_and_only_the_rest_comes_again() {
        let timeline = TimelineId([1; 32]);
        for (len, is) in [(1_000_000, 990_000), (1_000_000, 300_000), (1_000_000, 1_100_000), (262_145, 262_144)] {
            let ((_a, from), (_b, to)) = (blobs(), blobs());
            let ((source, data), (whole, _)) = (blob(&from, len), blob(&to, len));
            let hash = whole.hash();
            drop(whole);
            OpenOptions::new().write(true).open(to.path(&hash)).and_then(|file| file.set_len(is as u64)).expect("is there");
            let last = pieces_of(len as u64) as u32 - 1;
            let good = (is as u64 / PIECE_BYTES).min(u64::from(last)) as u32;
            let blob = to.open_blob(hash).expect("opens").expect("is here");
            assert_eq!(blob.good_bytes().expect("reads"), u64::from(good) * PIECE_BYTES, "{len} {is}");
            drop(blob);
            assert!(to.break_up(&hash).expect("looks"), "{len} {is}");
            // Another length is refused; a part shows its own one, or may have it.
            assert!(to.fetch(hash, len as u64 + 400_000, &timeline).is_err());
            let part = to.open_partial_of(&hash, len as u64).expect("it may be so long");
            assert_eq!((0..=last).filter(|piece| part.has(*piece)).collect::<Vec<_>>(), (0..good).collect::<Vec<_>>(), "{len} {is}");
            assert_eq!(part.bytes(0).expect("good"), data[..PIECE_BYTES as usize]);
            drop(part);
            let part = to.fetch(hash, len as u64, &timeline).expect("room");
            assert!(part.is_owners());
            for piece in good..=last {
                assert_eq!(part.put(piece, &source.slice(piece).expect("good")).expect("good"), piece == last);
            }
            assert!(to.open_blob(hash).expect("opens").expect("is here").read(0..u64::MAX).expect("good") == data, "{len} {is}");
            assert_eq!(to.partials().expect("a list"), []);
        }
    }

    #[test]
    fn what_came_goes_and_what_the_owner_put_in_stays() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let ((source, _), (own, _)) = (blob(&from, 300_000), blob(&to, 1_000_000));
        let hash = own.hash();
        drop(own);
        let data = OpenOptions::new().write(true).open(to.path(&hash)).expect("is there");
        data.write_all_at(b"x", 200_000).expect("room");
        assert!(to.break_up(&hash).expect("breaks"));
        let here = 1_000_000 - PIECE_BYTES;
        let part = to.fetch(source.hash(), 300_000, &TimelineId([1; 32])).expect("room");
        part.put(0, &source.slice(0).expect("good")).expect("good");
        assert!(!to.remove_fetched(&source.hash()).expect("looks"), "it is read");
        part.keep().expect("room");
        drop(part);
        assert_eq!(to.bytes(), here + PIECE_BYTES);
        assert!(to.remove_fetched(&source.hash()).expect("removes") && to.remove_fetched(&hash).expect("leaves it"));
        assert_eq!((to.partials().expect("a list"), to.bytes()), (vec![(hash, here)], here));
        assert!(to.open_partial(&hash).expect("is here").bytes(7).is_ok());
    }

    /// Power was lost while both were written.
    #[test]
    fn what_is_damaged_and_whose_tree_was_cut_short_can_come_again() {
        let (_a, to) = blobs();
        let (whole, data) = blob(&to, 900_000);
        let (hash, tree, file) = (whole.hash(), to.tree_path(&whole.hash()), to.path(&whole.hash()));
        drop(whole);
        std::fs::write(&tree, []).expect("room");
        std::fs::write(&file, [&data[..899_999], &[data[899_999] ^ 1]].concat()).expect("room");
        assert!(to.break_up(&hash).expect("looks"));
        assert!(to.fetch(hash, data.len() as u64, &TimelineId([1; 32])).is_ok());
    }

    /// Somebody made a copy of a home without trees, a sector of one is bad, or it cannot be opened just now.
    #[test]
    fn whatever_is_wrong_with_the_tree_of_a_blob_its_good_bytes_stay() {
        let (_a, to) = blobs();
        let (whole, data) = blob(&to, 1_000_000);
        let (hash, tree) = (whole.hash(), to.tree_path(&whole.hash()));
        drop(whole);
        let good = std::fs::read(&tree).expect("is there");
        let is_whole = || to.open_blob(hash).expect("opens").expect("is here").read(0..u64::MAX).is_ok_and(|read| read == data);
        let spoil: [&dyn Fn(); 4] = [
            &|| std::fs::remove_file(&tree).expect("is there"),
            &|| std::fs::write(&tree, &good[..100]).expect("room"),
            &|| std::fs::write(&tree, vec![0; good.len()]).expect("room"),
            &|| std::os::unix::fs::symlink("/nowhere", &tree).expect("room"),
        ];
        for (number, spoil) in spoil.iter().enumerate() {
            if number == 3 {
                std::fs::remove_file(&tree).expect("is there");
            }
            spoil();
            assert_eq!(to.open_blob(hash).is_err(), number == 3, "one that is not there is lost, and no other one");
            assert!(to.open_blob(hash).map_or(true, |blob| blob.expect("is here").read(0..1).is_err()), "{number}");
            assert!(!to.break_up(&hash).expect("looks"), "no byte is damaged: {number}");
            assert!(is_whole() && std::fs::read(&tree).expect("is there") == good, "{number}");
            assert_eq!((to.partials().expect("a list"), to.bytes()), (vec![], 1_000_000));
        }
        // What nobody can replace is left alone, and so are the bytes.
        std::fs::remove_file(&tree).expect("is there");
        std::fs::create_dir(&tree).expect("room");
        assert!(to.break_up(&hash).is_err());
        assert!(to.open_blob(hash).expect("opens").expect("is here").good_bytes().is_ok_and(|bytes| bytes == 1_000_000));
        std::fs::remove_dir(&tree).expect("is there");
        // All of it is read for that, so not again for each request, but as soon as somebody says so.
        let now = Instant::now();
        assert!(!to.break_up_in_time(&hash, now).expect("rests") && !is_whole());
        assert!(!to.break_up_in_time(&hash, now + REST_MIN * 2).expect("looks") && is_whole());
        std::fs::remove_file(&tree).expect("is there");
        std::fs::create_dir(&tree).expect("room");
        assert!(to.break_up_in_time(&hash, now).is_err());
        std::fs::remove_dir(&tree).expect("is there");
        assert!(!to.break_up(&hash).expect("looks") && is_whole());
        // From then on it rests no more.
        std::fs::remove_file(&tree).expect("is there");
        assert!(!to.break_up_in_time(&hash, now).expect("looks") && is_whole());
        assert_eq!(std::fs::read_dir(to.folder().join(TEMPORARY)).expect("a folder").count(), 0);
    }

    /// A crash in between, or a disk that is full, makes nothing that came from others the owner's.
    #[test]
    fn for_whom_a_blob_came_goes_before_its_bytes_when_it_is_broken_up() {
        let (_a, to) = blobs();
        let (whole, _) = blob(&to, 300_000);
        let (hash, path) = (whole.hash(), to.path(&whole.hash()));
        drop(whole);
        std::fs::write(with_ending(&path, ORIGIN), [1; 32]).expect("room");
        let data = OpenOptions::new().write(true).open(&path).expect("is there");
        data.write_all_at(b"x", 200_000).expect("room");
        let [part, _] = to.part_files(&hash);
        std::fs::create_dir_all(with_ending(&part, ORIGIN)).expect("room");
        assert!(to.break_up(&hash).is_err());
        assert!(path.exists() && !part.exists() && to.came_from_others(&hash));
        std::fs::remove_dir(with_ending(&part, ORIGIN)).expect("is there");
        assert!(to.break_up(&hash).expect("breaks"));
        assert!(!path.exists() && part.exists() && to.came_from_others(&hash) && !with_ending(&path, ORIGIN).exists());
    }

    /// The disk is full, or too many files are open.
    #[test]
    fn a_damaged_blob_stays_where_it_is_while_it_cannot_be_said_what_is_good() {
        let (_temp, to) = blobs();
        let (whole, mut data) = blob(&to, 1_000_000);
        let hash = whole.hash();
        data[7] ^= 1;
        std::fs::write(to.path(&hash), &data).expect("room");
        let have = with_ending(&to.part_files(&hash)[0], HAVE);
        std::fs::create_dir_all(&have).expect("room");
        assert!(to.break_up(&hash).is_err());
        assert_eq!((to.len_of(&hash), to.bytes(), to.has_partial(&hash)), (Some(1_000_000), 1_000_000, false));
        assert!(std::fs::read(to.path(&hash)).expect("is there") == data && to.tree_path(&hash).exists());
        // As long as it cannot be read what is here of a part, nothing is taken for lost.
        std::fs::remove_dir(&have).expect("is empty");
        assert!(to.break_up(&hash).expect("looks"));
        let said = std::fs::read(&have).expect("is there");
        std::fs::remove_file(&have).expect("is there");
        std::fs::create_dir(&have).expect("room");
        let timeline = TimelineId([1; 32]);
        for len in [10, 1_000_000] {
            assert!(matches!(to.fetch(hash, len, &timeline), Err(SaveError::Io(_))));
        }
        std::fs::remove_dir(&have).expect("is empty");
        std::fs::write(&have, said).expect("room");
        assert_eq!(to.fetch(hash, 1_000_000, &timeline).expect("room").bytes_here(), 1_000_000 - PIECE_BYTES);
    }

    /// So a version before this one left them, where a tree could not be opened.
    #[test]
    fn bytes_of_the_owner_of_which_nothing_is_known_outlive_all_and_come_back() {
        let (temp, to) = blobs();
        let (whole, data) = blob(&to, 300_000);
        let (hash, file) = (whole.hash(), to.part_files(&whole.hash())[0].clone());
        drop(whole);
        make_folder(&to.folder().join(FOLDER)).expect("room");
        std::fs::rename(to.path(&hash), &file).expect("is there");
        std::fs::rename(to.tree_path(&hash), with_ending(&file, TREE)).expect("is there");
        for len in [10, 300_000, 300_001] {
            drop(to.fetch(hash, len, &TimelineId([1; 32])).expect("room"));
            assert!(std::fs::read(&file).expect("is there").starts_with(&data), "{len}");
        }
        drop(to);
        for ending in ["", TREE] {
            let _ = std::fs::remove_file(with_ending(&with_ending(&file, ".other"), ending));
        }
        let to = Blobs::open(&temp.path().join("blobs"), Limits::default()).expect("opens");
        assert!(to.open_blob(hash).expect("opens").expect("is here").read(0..u64::MAX).expect("good") == data);
        assert_eq!((to.partials().expect("a list"), to.bytes()), (vec![], 300_000));
        // What was fetched, and of which nothing is known, is begun anew.
        assert!(to.remove(&hash).expect("removed"));
        let part = to.fetch(hash, 300_000, &TimelineId([1; 32])).expect("room");
        std::fs::write(&file, &data[..1000]).expect("room");
        drop(part);
        let to = Blobs::open(&temp.path().join("blobs"), Limits::default()).expect("opens");
        assert_eq!(to.len_of(&hash), None);
        drop(to.fetch(hash, 300_000, &TimelineId([1; 32])).expect("room"));
        assert_eq!(std::fs::metadata(&file).expect("is there").len(), 0);
    }

    /// A download was cut off and begun again, and pieces of before are still being written.
    #[test]
    fn all_who_have_a_part_open_have_the_same_one() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let (source, _) = blob(&from, 300_000);
        to.set_limits(Limits { total_bytes_max: 500_000, reserve_bytes: 0, ..Limits::default() });
        let before = to.partial(source.hash(), 300_000).expect("room");
        let after = to.partial(source.hash(), 300_000).expect("the same room");
        before.put(0, &source.slice(0).expect("good")).expect("good");
        assert!(after.has(0) && to.open_partial(&source.hash()).is_none_or(|part| part.has(0)));
        drop(before);
        after.keep().expect("room");
        for piece in 1..3 {
            after.put(piece, &source.slice(piece).expect("good")).expect("good");
        }
        assert_eq!((to.len_of(&source.hash()), to.bytes()), (Some(300_000), 300_000));
        // What is at its place is no part any more.
        to.set_limits(Limits { reserve_bytes: 0, ..Limits::default() });
        assert!(to.partial(source.hash(), 300_000).expect("room").is_bare());
    }

    #[test]
    fn a_damaged_piece_of_a_part_comes_again() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let (source, data) = blob(&from, 300_000);
        let part = to.partial(source.hash(), 300_000).expect("room");
        for piece in 0..2 {
            part.put(piece, &source.slice(piece).expect("good")).expect("good");
        }
        let file = OpenOptions::new().write(true).open(&part.file).expect("opens");
        file.write_all_at(b"!", 5).expect("writes");
        assert!(part.bytes(0).is_err() && part.bytes(1).is_ok());
        part.lose(0).expect("room");
        part.lose(0).expect("once is enough");
        assert_eq!((part.has(0), part.has(1), to.bytes()), (false, true, PIECE_BYTES));
        drop(part);
        let part = to.open_partial(&source.hash()).expect("is here");
        assert!(!part.has(0) && part.has(1), "the disk knows");
        for piece in [2, 0] {
            part.put(piece, &source.slice(piece).expect("good")).expect("good");
        }
        assert!(to.open_blob(source.hash()).expect("opens").expect("is here").read(0..u64::MAX).expect("good") == data);
        assert_eq!(to.bytes(), 300_000);
    }

    #[test]
    fn of_what_is_at_its_place_no_piece_is_forgotten() {
        let ((_a, from), (_b, to)) = (blobs(), blobs());
        let (source, _) = blob(&from, 300_000);
        let part = to.partial(source.hash(), 300_000).expect("room");
        for piece in 0..3 {
            assert!(!part.is_placed());
            part.put(piece, &source.slice(piece).expect("good")).expect("good");
        }
        part.lose(1).expect("nothing to do");
        assert!(part.is_placed() && part.has(1));
        assert_eq!((to.bytes(), to.partials().expect("a list").len()), (300_000, 0));
    }

    /// A crash came right after a blob was moved to its place, and the blob went later.
    #[test]
    fn what_a_crash_left_of_a_part_says_nothing_about_a_new_one() {
        let (_temp, to) = blobs();
        let hash = BlobHash::from_bytes([3; 32]);
        drop(to.partial(hash, 300_000).expect("room"));
        let [file, _] = to.part_files(&hash);
        std::fs::remove_file(&file).expect("is there");
        save(&file, 300_000, &[0b111]).expect("room");
        assert!(!to.has_partial(&hash) && to.open_partial(&hash).is_none());
        assert!(to.partial(hash, 300_000).expect("room").is_bare());
    }

    #[test]
    fn a_damaged_blob_is_looked_through_once_however_many_ask_for_it() {
        let (_a, to) = blobs();
        let (whole, mut data) = blob(&to, 300_000);
        let hash = whole.hash();
        data[7] ^= 1;
        std::fs::write(to.path(&hash), data).expect("room");
        // As if a look at it were under way.
        super::super::lock(&to.0.looked_through).insert(hash, Looked::Now);
        assert!(!to.break_up(&hash).expect("looks") && to.len_of(&hash).is_some(), "that one sees to it");
        super::super::lock(&to.0.looked_through).clear();
        assert!(to.break_up(&hash).expect("looks") && to.len_of(&hash).is_none());
        assert!(super::super::lock(&to.0.looked_through).is_empty(), "it can be looked at again");
    }

    #[test]
    fn what_is_fetched_has_its_room_before_it_comes() {
        let (_a, from) = blobs();
        let (source, _) = blob(&from, 300_000);
        let (temp, to) = blobs();
        to.set_limits(Limits { total_bytes_max: 500_000, reserve_bytes: 0, ..Limits::default() });
        let first = to.partial(source.hash(), 300_000).expect("room");
        let other = BlobHash::from_bytes([1; 32]);
        assert!(matches!(to.partial(other, 300_000), Err(SaveError::OverTotal { .. })), "both together are too much");
        first.put(0, &source.slice(0).expect("good")).expect("good");
        assert!(to.partial(other, 300_000).is_err(), "what came counts, too");
        first.keep().expect("room");
        drop(first);
        assert_eq!(to.bytes(), PIECE_BYTES);
        drop(to.partial(other, 300_000).expect("room"));
        // What was not saved before a crash does not count after it.
        let first = to.partial(source.hash(), 300_000).expect("room");
        first.put(1, &source.slice(1).expect("good")).expect("good");
        assert_eq!(to.bytes(), 2 * PIECE_BYTES);
        drop(first);
        assert_eq!(to.bytes(), PIECE_BYTES);
        assert_eq!(Blobs::open(&temp.path().join("blobs"), Limits::default()).expect("opens").bytes(), PIECE_BYTES);
        assert!(to.remove_partial(&source.hash()).expect("removed"));
        assert_eq!(to.bytes(), 0);
    }
}
