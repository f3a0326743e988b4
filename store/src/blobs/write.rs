//! From bytes as they come to a blob at its place.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::tree::TreeHasher;
use super::{BlobHash, Blobs, Lease, TREE, lock, make_folder, remove_if_there, sync_folder, with_ending};

/// Bytes after which it is looked again whether the disk has room.
const LOOK_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes after which what was written is synced, so that the last sync does not take long.
const SYNC_BYTES: u64 = 256 * 1024 * 1024;
/// Read at once when a blob is resumed.
const READ_BYTES: usize = 256 * 1024;

/// Why a blob was not kept. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// It is larger than blobs may be.
    #[error("a blob may have {max} bytes")]
    TooLarge {
        /// How many are allowed.
        max: u64,
    },
    /// All blobs together would be larger than they may be.
    #[error("the blobs may have {max} bytes together, and have {bytes}")]
    OverTotal {
        /// How many are allowed.
        max: u64,
        /// How many there are.
        bytes: u64,
    },
    /// What is here of it shows that it has another length.
    #[error("a part of it is here, and shows that it has {len} bytes")]
    OtherLength {
        /// How many bytes it has.
        len: u64,
    },
    /// The disk has no room for more.
    #[error("the disk is full: {free} bytes are free, of which {reserve} are kept for changes")]
    Full {
        /// Bytes that are free.
        free: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// The disk failed.
    #[error("the blob could not be written: {0}")]
    Io(#[source] io::Error),
}

/// A blob that is being written. Dropped before it is finished, it leaves nothing behind, unless its file is the
/// caller's.
#[derive(Debug)]
pub struct Writer {
    blobs: Blobs,
    file: PathBuf,
    data: File,
    tree: File,
    hasher: TreeHasher,
    /// Bytes of the tree that are in its file, and those that are not yet.
    tree_len: u64,
    pairs: Vec<u8>,
    looked: u64,
    synced: u64,
    is_temporary: bool,
    /// Whether it is at its place.
    is_done: bool,
}

impl Writer {
    pub(super) fn create(blobs: Blobs, file: &Path, is_temporary: bool) -> Result<Self, SaveError> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
            options.open(path).map_err(|error| blobs.failed(error))
        };
        let data = open(file)?;
        let tree = open(&with_ending(file, TREE))?;
        let mut writer = Self::begin(blobs, file, [data, tree], is_temporary);
        writer.look(0)?;
        Ok(writer)
    }

    fn begin(blobs: Blobs, file: &Path, [data, tree]: [File; 2], is_temporary: bool) -> Self {
        let (file, hasher) = (file.to_owned(), TreeHasher::default());
        Self { blobs, file, data, tree, hasher, tree_len: 0, pairs: Vec::new(), looked: 0, synced: 0, is_temporary, is_done: false }
    }

    pub(super) fn resume(blobs: Blobs, file: &Path) -> Result<Self, SaveError> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
            options.open(path)
        };
        let failed = |error| blobs.failed(error);
        let mut data = open(file).map_err(failed)?;
        let tree = open(&with_ending(file, TREE)).map_err(failed)?;
        // What is there is hashed again: a crash may have left less of the tree than of the bytes. It counts since it was written.
        let mut buffer = vec![0; READ_BYTES];
        tree.set_len(0).and_then(|()| data.rewind()).map_err(failed)?;
        let mut writer = Self::begin(blobs.clone(), file, [data, tree], false);
        loop {
            let len = writer.data.read(&mut buffer).map_err(failed)?;
            if len == 0 {
                break;
            }
            writer.hasher.update(&buffer[..len]);
            writer.write_pairs().map_err(failed)?;
        }
        writer.looked = writer.len();
        Ok(writer)
    }

    /// Writes what there is of the tree. What could not be written is the next time.
    fn write_pairs(&mut self) -> io::Result<()> {
        self.pairs.extend(self.hasher.take_pairs());
        self.tree.write_all_at(&self.pairs, self.tree_len)?;
        self.tree_len += self.pairs.len() as u64;
        self.pairs.clear();
        Ok(())
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.hasher.len()
    }

    /// Whether nothing was written so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says before they come that the blob will have so many bytes.
    ///
    /// # Errors
    ///
    /// [`SaveError`] if that cannot be.
    pub fn expect(&mut self, len: u64) -> Result<(), SaveError> {
        self.look(len.saturating_sub(self.len()))
    }

    /// Takes more bytes.
    ///
    /// # Errors
    ///
    /// [`SaveError`]. What came before can still be read, and no more can be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SaveError> {
        let limits = self.blobs.limits();
        let added = bytes.len() as u64;
        if self.len() + added > limits.blob_bytes_max {
            return Err(SaveError::TooLarge { max: limits.blob_bytes_max });
        }
        let together = self.blobs.bytes_together();
        if together.saturating_add(added) > limits.total_bytes_max {
            return Err(SaveError::OverTotal { max: limits.total_bytes_max, bytes: together });
        }
        if self.len() + added > self.looked + LOOK_BYTES {
            self.look(added)?;
        }
        if let Err(error) = self.data.write_all(bytes) {
            // A part may have been written, which a resumed upload would count.
            let _ = self.data.set_len(self.len()).and_then(|()| self.data.seek(SeekFrom::Start(self.len())));
            return Err(self.blobs.failed(error));
        }
        self.hasher.update(bytes);
        self.blobs.count(i128::from(added));
        self.write_pairs().map_err(|error| self.blobs.failed(error))?;
        if self.len() > self.synced + SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes sure that what was written so far is on disk.
    ///
    /// # Errors
    ///
    /// [`SaveError`].
    pub fn sync(&mut self) -> Result<(), SaveError> {
        self.data.sync_data().map_err(|error| self.blobs.failed(error))?;
        self.synced = self.len();
        Ok(())
    }

    /// Moves the blob to its place. When it answers, all of it is on disk; the lease keeps it there until a change
    /// that refers to it is there too.
    ///
    /// # Errors
    ///
    /// [`SaveError`].
    pub fn finish(self) -> Result<(BlobHash, u64, Lease), SaveError> {
        self.finish_told(|_, _| Ok(()))
    }

    /// The same, telling first what is going to its place: its hash and its length.
    ///
    /// # Errors
    ///
    /// [`SaveError`], also where `told` fails.
    pub fn finish_told(mut self, told: impl FnOnce(&BlobHash, u64) -> io::Result<()>) -> Result<(BlobHash, u64, Lease), SaveError> {
        let len = self.len();
        let hash = self.hasher.finish();
        let lease = self.blobs.lease(hash);
        let blobs = self.blobs.clone();
        told(&hash, len).and_then(|()| self.place(&hash)).map_err(|error| blobs.failed(error))?;
        Ok((hash, len, lease))
    }

    fn place(&mut self, hash: &BlobHash) -> io::Result<()> {
        let (path, tree_path) = (self.blobs.path(hash), self.blobs.tree_path(hash));
        let own_tree = with_ending(&self.file, TREE);
        self.write_pairs()?;
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if !folder.exists() {
            make_folder(folder)?;
            sync_folder(&self.blobs.0.folder)?;
        }
        self.data.sync_all()?;
        self.tree.sync_all()?;
        let blobs = self.blobs.clone();
        let _alone = lock(&blobs.0.moves);
        // One that is here already is replaced by the same bytes: if it was damaged, it is whole again.
        let was = self.blobs.len_of(hash);
        // The tree first: where the bytes are, all is there.
        std::fs::rename(&own_tree, &tree_path)?;
        std::fs::rename(&self.file, &path)?;
        self.is_done = true;
        self.blobs.count(-i128::from(was.unwrap_or(0)));
        remove_if_there(&self.blobs.unused_path(hash))?;
        sync_folder(folder)
    }

    fn look(&mut self, coming: u64) -> Result<(), SaveError> {
        self.looked = self.len();
        let limits = self.blobs.limits();
        if self.len().saturating_add(coming) > limits.blob_bytes_max {
            return Err(SaveError::TooLarge { max: limits.blob_bytes_max });
        }
        let bytes = self.blobs.bytes_together();
        if bytes.saturating_add(coming) > limits.total_bytes_max {
            return Err(SaveError::OverTotal { max: limits.total_bytes_max, bytes });
        }
        let free = self.blobs.free_bytes().map_err(SaveError::Io)?;
        if free < limits.reserve_bytes.saturating_add(coming) {
            return Err(SaveError::Full { free, reserve: limits.reserve_bytes });
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.is_temporary && !self.is_done {
            self.blobs.count(-i128::from(self.hasher.len()));
            let _ = remove_if_there(&self.file);
            let _ = remove_if_there(&with_ending(&self.file, TREE));
        }
    }
}

impl Blobs {
    /// What a failure of the disk is to whoever writes.
    pub(super) fn failed(&self, error: io::Error) -> SaveError {
        if error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded {
            return SaveError::Full { free: self.free_bytes().unwrap_or(0), reserve: self.limits().reserve_bytes };
        }
        SaveError::Io(error)
    }
}
