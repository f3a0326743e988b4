//! Blobs: bytes of any size, kept as files under their hash, outside of the change log and the tables.
//!
//! [`Blobs`] is the folder `blobs` of a home. A [`Writer`] takes bytes of unknown length, hashes them on their way to
//! a temporary file and moves it to its place once all of it is on disk. A [`Blob`] reads one back and checks every
//! 16 KiB against the hash. [`collect`] removes what nothing refers to any more. `FORMAT.md` says what is in the
//! files.
//!
//! Deliberately not: nothing here knows where bytes come from or who may have them.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use bao_tree::BlockSize;

pub mod collect;
mod gone;
mod origin;
pub mod partial;
mod parts;
mod read;
mod reference;
mod tree;
mod write;

use partial::Partial;
pub use parts::OwnPart;
pub use read::{Blob, Damage};
pub(crate) use reference::stage;
pub use reference::{Reference, named_in, references};
pub use write::{SaveError, Writer};

/// Bytes that are verified together: the chunk group of iroh's blobs, 16 chunks of BLAKE3.
pub const GROUP_BYTES: u64 = 16 * 1024;
/// The same for the library.
pub const BLOCK_SIZE: BlockSize = BlockSize::from_chunk_log(4);
/// Largest blob that the format has a length for.
pub const BLOB_BYTES_MAX: u64 = 1 << 48;

/// Names content: its BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash([u8; 32]);

impl BlobHash {
    /// From the bytes of a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the text form; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        timebus_identity::z32::decode_32(text).ok().map(Self)
    }
}

impl std::fmt::Display for BlobHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&timebus_identity::z32::encode(&self.0))
    }
}

impl std::fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobHash({})", timebus_identity::z32::encode(&self.0[..4]))
    }
}

/// How much may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest blob in bytes. Default [`BLOB_BYTES_MAX`].
    pub blob_bytes_max: u64,
    /// Bytes of all blobs together. Default no limit but the disk's.
    pub total_bytes_max: u64,
    /// Bytes of the disk that blobs leave free, so that changes can still be written. Default 64 MiB.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { blob_bytes_max: BLOB_BYTES_MAX, total_bytes_max: u64::MAX, reserve_bytes: 64 * 1024 * 1024 }
    }
}

/// The blobs of a home. Clones share it.
#[derive(Clone, Debug)]
pub struct Blobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    limits: Mutex<Limits>,
    /// Blobs that are being written, read or referred to, and how often: these are not collected.
    leases: Mutex<HashMap<Leased, usize>>,
    /// Bytes of whole blobs, of parts, of uploads and of those being written.
    bytes: Mutex<u64>,
    /// What counts for the limit: that of all homes that share it.
    together: Mutex<Arc<Together>>,
    /// Held while it is decided for whom a blob is fetched.
    origins: Mutex<()>,
    /// Held while a blob is moved to its place, or from there.
    moves: Mutex<()>,
    /// Parts that are open, by hash and length: all who have to do with one count the same pieces.
    parts: Mutex<HashMap<(BlobHash, u64), Weak<Partial>>>,
    /// Blobs that are looked through for damage, or could not be.
    looked_through: Mutex<HashMap<BlobHash, Looked>>,
    /// Held while it is noted which blobs are gone.
    gone: Mutex<()>,
}

/// How a look through a blob for damage went.
#[derive(Clone, Copy, Debug)]
enum Looked {
    /// It is under way.
    Now,
    /// The disk failed. Before this time nobody looks again without being told to.
    Failed(Instant),
}

/// What the homes have that share one limit. Locked after what is a home's own.
#[derive(Debug, Default)]
struct Together {
    bytes: Mutex<u64>,
    /// Bytes that are still to come of blobs that are being fetched.
    expected: Mutex<u64>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let (bytes, together) = (*lock(&self.bytes), Arc::clone(&lock(&self.together)));
        let mut all = lock(&together.bytes);
        *all = all.saturating_sub(bytes);
    }
}

/// While this is held, a blob that is here stays here.
#[derive(Debug)]
pub struct Lease {
    blobs: Blobs,
    hash: BlobHash,
    of: Leased,
}

/// What a lease keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Leased {
    Blob(BlobHash),
    All,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.blobs.leases();
        if let Some(count) = leases.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                leases.remove(&self.of);
            }
        }
    }
}

impl Blobs {
    /// Opens the folder, and makes it where there is none. What a crash left of blobs that were being written is
    /// removed; uploads that can be resumed are not.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn open(folder: &Path, limits: Limits) -> io::Result<Self> {
        make_folder(folder)?;
        let temporary = folder.join(TEMPORARY);
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary)?;
        }
        make_folder(&temporary)?;
        let blobs = Self(Arc::new(Inner {
            folder: folder.to_owned(),
            limits: Mutex::new(limits),
            leases: Mutex::default(),
            bytes: Mutex::default(),
            together: Mutex::default(),
            origins: Mutex::default(),
            moves: Mutex::default(),
            parts: Mutex::default(),
            looked_through: Mutex::default(),
            gone: Mutex::default(),
        }));
        blobs.put_back()?;
        let kept: u64 = blobs.list()?.into_iter().chain(blobs.partials()?).map(|(_, len)| len).sum();
        blobs.count(i128::from(kept) + i128::from(bytes_of_uploads(&folder.join(UPLOADS))?));
        Ok(blobs)
    }

    /// Bytes that have to go before so many more have room, beside those that are on their way.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn lacks(&self, bytes: u64) -> io::Result<u64> {
        let (limits, together) = (self.limits(), self.together());
        let coming = lock(&together.expected).saturating_add(bytes);
        let over = self.bytes_together().saturating_add(coming).saturating_sub(limits.total_bytes_max);
        Ok(over.max(limits.reserve_bytes.saturating_add(coming).saturating_sub(self.free_bytes()?)))
    }

    /// Bytes that have room, beside those that are on their way.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn spare_bytes(&self) -> io::Result<u64> {
        let (limits, together) = (self.limits(), self.together());
        let coming = *lock(&together.expected);
        let on_disk = self.free_bytes()?.saturating_sub(limits.reserve_bytes);
        Ok(limits.total_bytes_max.saturating_sub(self.bytes_together()).min(on_disk).saturating_sub(coming))
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// How much may be kept.
    #[must_use]
    pub fn limits(&self) -> Limits {
        lock(&self.0.limits).clone()
    }

    /// Sets how much may be kept from now on.
    pub fn set_limits(&self, limits: Limits) {
        *lock(&self.0.limits) = limits;
    }

    /// Bytes of all blobs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        *lock(&self.0.bytes)
    }

    /// The same with those of the homes that share the limit.
    #[must_use]
    pub fn bytes_together(&self) -> u64 {
        *lock(&self.together().bytes)
    }

    /// Has the blobs of this home count as those of another one, too: what is allowed in all is for both together. Call it before
    /// anything is fetched here.
    pub fn share_limit(&self, with: &Self) {
        let together = with.together();
        let bytes = lock(&self.0.bytes);
        *lock(&together.bytes) += *bytes;
        *lock(&self.0.together) = together;
    }

    fn together(&self) -> Arc<Together> {
        Arc::clone(&lock(&self.0.together))
    }

    /// Keeps a blob from being collected, whether it is here yet or not. Take it before a change refers to the blob,
    /// and hold it until that change is on disk.
    #[must_use]
    pub fn lease(&self, hash: BlobHash) -> Lease {
        self.lease_of(hash, Leased::Blob(hash))
    }

    /// The same of all that are here: whoever takes a change back names what was there before, and it shows only then what that is.
    #[must_use]
    pub fn lease_all(&self) -> Lease {
        self.lease_of(BlobHash::from_bytes([0; 32]), Leased::All)
    }

    fn lease_of(&self, hash: BlobHash, of: Leased) -> Lease {
        *self.leases().entry(of).or_default() += 1;
        Lease { blobs: self.clone(), hash, of }
    }

    /// The length of a blob that is whole here.
    #[must_use]
    pub fn len_of(&self, hash: &BlobHash) -> Option<u64> {
        std::fs::metadata(self.path(hash)).ok().filter(std::fs::Metadata::is_file).map(|about| about.len())
    }

    /// Opens a blob; `None` when it is not whole here.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn open_blob(&self, hash: BlobHash) -> io::Result<Option<Blob>> {
        let lease = self.lease(hash);
        match open_read(&self.path(&hash)) {
            Ok(data) => Blob::new(data, &self.tree_path(&hash), lease).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins a blob whose bytes come now.
    ///
    /// # Errors
    ///
    /// [`SaveError`].
    pub fn writer(&self) -> Result<Writer, SaveError> {
        let name = timebus_identity::z32::encode(&timebus_identity::random_bytes::<15>());
        Writer::create(self.clone(), &self.0.folder.join(TEMPORARY).join(name), true)
    }

    /// Begins a blob in [`UPLOADS`], where what was written stays, and counts, until it is finished or removed.
    ///
    /// # Errors
    ///
    /// [`SaveError`].
    pub fn writer_in(&self, file: &Path) -> Result<Writer, SaveError> {
        Writer::create(self.clone(), file, false)
    }

    /// Goes on with a blob that was begun by [`Blobs::writer_in`], also in an earlier run. Reads what is there.
    ///
    /// # Errors
    ///
    /// [`SaveError`].
    pub fn resume_in(&self, file: &Path) -> Result<Writer, SaveError> {
        Writer::resume(self.clone(), file)
    }

    /// Takes back what was written behind the first `len` bytes of a blob that was begun by [`Blobs::writer_in`] and that nobody has open.
    ///
    /// # Errors
    ///
    /// [`SaveError`].
    pub fn cut_in(&self, file: &Path, len: u64) -> Result<(), SaveError> {
        let data = std::fs::OpenOptions::new().write(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(file);
        let data = match data {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            data => data.map_err(SaveError::Io)?,
        };
        let more = data.metadata().map_err(SaveError::Io)?.len().saturating_sub(len);
        if more > 0 {
            data.set_len(len).and_then(|()| data.sync_all()).map_err(SaveError::Io)?;
            self.count(-i128::from(more));
        }
        Ok(())
    }

    /// Removes what was written of a blob that was begun by [`Blobs::writer_in`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn remove_in(&self, file: &Path) -> io::Result<()> {
        let len = std::fs::metadata(file).map_or(0, |about| about.len());
        remove_if_there(file)?;
        self.count(-i128::from(len));
        remove_if_there(&with_ending(file, TREE))
    }

    /// All blobs that are whole here, with their lengths.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn list(&self) -> io::Result<Vec<(BlobHash, u64)>> {
        let mut found = Vec::new();
        for folder in std::fs::read_dir(&self.0.folder)? {
            let folder = folder?;
            if folder.file_name().len() != SHARD_CHARS || !folder.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(folder.path())? {
                let file = file?;
                if let Some(hash) = file.file_name().to_str().and_then(BlobHash::parse)
                    && let Ok(about) = file.metadata()
                    && about.is_file()
                {
                    found.push((hash, about.len()));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The files of a blob, open, with their names from the folder on: to copy them.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn files_of(&self, hash: &BlobHash) -> io::Result<Vec<(String, File)>> {
        let _lease = self.lease(*hash);
        let mut found = Vec::new();
        // The tree first, as they are written.
        for path in [with_ending(&self.path(hash), ORIGIN), self.tree_path(hash), self.path(hash)] {
            let name = path.strip_prefix(&self.0.folder).map_err(io::Error::other)?.to_string_lossy().into_owned();
            match open_read(&path) {
                Ok(file) => found.push((name, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Removes a blob unless somebody holds a lease on it; says whether it is gone.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn remove(&self, hash: &BlobHash) -> io::Result<bool> {
        self.remove_if(hash, || Ok::<_, io::Error>(true))
    }

    /// The same if `may` says so, which is asked while no lease can be taken.
    ///
    /// # Errors
    ///
    /// What the system says, or `may`.
    pub fn remove_if<E: From<io::Error>>(&self, hash: &BlobHash, may: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        // The leases stay locked: whoever takes one afterwards finds that the blob is not here.
        let leases = self.leases();
        let Some(len) = self.len_of(hash).filter(|_| !leases.contains_key(&Leased::Blob(*hash)) && !leases.contains_key(&Leased::All)) else {
            return Ok(false);
        };
        if !may()? {
            return Ok(false);
        }
        // The file first: without it the others mean nothing.
        std::fs::remove_file(self.path(hash))?;
        remove_if_there(&self.tree_path(hash))?;
        remove_if_there(&self.unused_path(hash))?;
        remove_if_there(&with_ending(&self.path(hash), ORIGIN))?;
        drop(leases);
        self.count(-(len as i128));
        Ok(true)
    }

    /// The free bytes of the disk.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let about = rustix::fs::statvfs(&self.0.folder)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }

    fn path(&self, hash: &BlobHash) -> PathBuf {
        let name = hash.to_string();
        self.0.folder.join(&name[..SHARD_CHARS]).join(name)
    }

    fn tree_path(&self, hash: &BlobHash) -> PathBuf {
        with_ending(&self.path(hash), TREE)
    }

    fn unused_path(&self, hash: &BlobHash) -> PathBuf {
        with_ending(&self.path(hash), UNUSED)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Leased, usize>> {
        lock(&self.0.leases)
    }

    fn count(&self, bytes: i128) {
        let mut own = lock(&self.0.bytes);
        let together = self.together();
        for all in [&mut *own, &mut *lock(&together.bytes)] {
            *all = u64::try_from(i128::from(*all) + bytes).unwrap_or(0);
        }
    }
}

/// Bytes of uploads that were begun.
fn bytes_of_uploads(folder: &Path) -> io::Result<u64> {
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut bytes = 0;
    for file in files {
        let file = file?;
        // Beside each there are its tree and what it is for.
        if !file.file_name().to_string_lossy().contains('.') {
            bytes += file.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// The folder of blobs that come in several parts, in that of the blobs. Their names have no dot.
pub const UPLOADS: &str = "uploads";

/// The folder of what is being written; emptied on every start.
const TEMPORARY: &str = "new";
/// First characters of a hash, which name the folder of its blob, so that none has too many files.
const SHARD_CHARS: usize = 2;
/// Ends the name of the file with a blob's hash tree.
const TREE: &str = ".tree";
/// Ends the name of the file that says for which timelines a blob was fetched from others.
const ORIGIN: &str = ".for";
/// Ends the name of an empty file that says since when nothing refers to a blob.
const UNUSED: &str = ".unused";

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn open_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(total_bytes_max: u64) -> Limits {
        Limits { total_bytes_max, reserve_bytes: 0, ..Limits::default() }
    }

    fn open(folder: &Path, total_bytes_max: u64) -> Blobs {
        Blobs::open(folder, limits(total_bytes_max)).expect("opens")
    }

    fn keep(blobs: &Blobs, bytes: &[u8]) -> Result<BlobHash, SaveError> {
        let mut writer = blobs.writer()?;
        writer.write(bytes)?;
        writer.finish().map(|(hash, ..)| hash)
    }

    /// Anybody may name a file by any hash, also by one that nothing has.
    #[test]
    fn whatever_a_name_says_it_keeps_nothing_else() {
        let temp = tempfile::tempdir().expect("a folder");
        let blobs = open(temp.path(), 1000);
        let [one, two] = [1, 2].map(|byte| keep(&blobs, &[byte; 100]).expect("room"));
        let named = blobs.lease(BlobHash::from_bytes([0; 32]));
        assert!(blobs.remove(&one).expect("a disk"));
        drop(named);
        let all = blobs.lease_all();
        assert!(!blobs.remove(&two).expect("a disk"), "but all of them are kept when all are meant");
        drop(all);
        assert!(blobs.remove(&two).expect("a disk"));
    }

    #[test]
    fn what_came_of_an_upload_counts_until_it_is_done_or_given_up_also_after_a_start() {
        let temp = tempfile::tempdir().expect("a folder");
        let begun = temp.path().join(UPLOADS).join("begun");
        let blobs = open(temp.path(), 1000);
        make_folder(&temp.path().join(UPLOADS)).expect("room");
        let mut writer = blobs.writer_in(&begun).expect("begins");
        writer.write(&[1; 600]).expect("room");
        assert_eq!(blobs.bytes(), 600);
        drop(writer);
        assert_eq!(blobs.bytes(), 600, "it is still there");
        drop(blobs);
        let blobs = open(temp.path(), 1000);
        assert_eq!(blobs.bytes(), 600);
        assert!(matches!(keep(&blobs, &[2; 500]), Err(SaveError::OverTotal { bytes: 600, .. })));
        let mut writer = blobs.resume_in(&begun).expect("goes on");
        writer.write(&[1; 100]).expect("room");
        assert_eq!((writer.len(), blobs.bytes()), (700, 700));
        drop(writer);
        blobs.cut_in(&begun, 650).expect("cut");
        blobs.cut_in(&begun, 660).expect("nothing to cut");
        let mut writer = blobs.resume_in(&begun).expect("goes on");
        assert_eq!((writer.len(), blobs.bytes()), (650, 650));
        writer.write(&[1; 50]).expect("room");
        writer.finish().expect("room");
        assert_eq!(blobs.bytes(), 700);
        let mut writer = blobs.writer_in(&begun).expect("begins");
        writer.write(&[3; 200]).expect("room");
        drop(writer);
        blobs.remove_in(&begun).expect("removed");
        assert_eq!(blobs.bytes(), 700);
        let left = std::fs::read_dir(temp.path().join(UPLOADS)).expect("a folder").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn homes_that_share_a_limit_have_it_together() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let (first, second) = (open(one.path(), 1000), open(other.path(), 1000));
        keep(&second, &[1; 400]).expect("room");
        second.share_limit(&first);
        keep(&first, &[2; 500]).expect("room");
        assert_eq!([first.bytes(), second.bytes(), first.bytes_together(), second.bytes_together()], [500, 400, 900, 900]);
        for blobs in [&first, &second] {
            assert!(matches!(keep(blobs, &[3; 200]), Err(SaveError::OverTotal { bytes: 900, .. })));
            assert!(blobs.fetch(BlobHash::from_bytes([7; 32]), 200, &crate::ids::TimelineId([1; 32])).is_err());
        }
        // What comes in one of them has room that the other one cannot have.
        let part = second.partial(BlobHash::from_bytes([7; 32]), 80).expect("room");
        assert!(first.partial(BlobHash::from_bytes([8; 32]), 80).is_err());
        drop(part);
        drop(second);
        assert_eq!(first.bytes_together(), 500, "one of them is closed");
        keep(&first, &[3; 200]).expect("room");
    }
}
