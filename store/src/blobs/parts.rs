//! Where parts of blobs are on disk.
//!
//! A blob has one length, and it is others who say which. As long as its last piece is not here, a part does not show that its length
//! is the true one: the pieces before that are good under other lengths, too. So a blob may have two parts, each under a length that
//! somebody says, and none goes because of what is only said. Of a third one, the part with the fewest bytes makes room.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::partial::{FOLDER, HAVE, PIECE_BYTES, Partial, is_owners_left, piece_bytes, pieces_of, read_have};
use super::{BlobHash, Blobs, GROUP_BYTES, Leased, ORIGIN, SaveError, TREE, remove_if_there, with_ending};

/// Ends the name of the second part of a blob.
const OTHER: &str = ".other";

impl Blobs {
    /// Where the parts of a blob are, if there are some.
    pub(super) fn part_files(&self, hash: &BlobHash) -> [PathBuf; 2] {
        let file = self.folder().join(FOLDER).join(hash.to_string());
        let other = with_ending(&file, OTHER);
        [file, other]
    }

    /// Where a part of this length is or begins, while others are open. One of which less is here may have to go for it.
    pub(super) fn file_for(&self, hash: &BlobHash, len: u64, others: &[Arc<Partial>]) -> Result<PathBuf, SaveError> {
        let files = self.part_files(hash);
        for file in &files {
            if Said::read(file).map_err(SaveError::Io)?.is_some_and(|said| said.len == len) {
                return Ok(file.clone());
            }
        }
        for file in files.iter().filter(|file| others.iter().all(|other| other.file() != *file)) {
            let said = Said::read(file).map_err(SaveError::Io)?;
            let is_own = !with_ending(file, ORIGIN).exists();
            if let Some(said) = said.filter(|said| is_own && !said.shows_len() && is_at_most(said.len, len)) {
                // Bytes behind the end would stay there for good.
                std::fs::OpenOptions::new().write(true).open(file).and_then(|data| data.set_len(len)).map_err(SaveError::Io)?;
                super::partial::save(file, len, &said.have).map_err(SaveError::Io)?;
                return Ok(file.clone());
            }
        }
        let mut weakest: Option<(u64, &PathBuf)> = None;
        for file in files.iter().filter(|file| others.iter().all(|other| other.file() != *file)) {
            let Some(said) = Said::read(file).map_err(SaveError::Io)? else {
                // Bytes behind the end would stay there for good.
                if std::fs::metadata(file).is_ok_and(|about| about.len() > len) {
                    if is_owners_left(file) {
                        continue;
                    }
                    remove(file).map_err(SaveError::Io)?;
                }
                return Ok(file.clone());
            };
            let may_go = !said.shows_len() && with_ending(file, ORIGIN).exists();
            if may_go && weakest.is_none_or(|(bytes, _)| said.bytes() < bytes) {
                weakest = Some((said.bytes(), file));
            }
        }
        let Some((bytes, file)) = weakest else {
            let len = others.first().map(|other| other.len()).or_else(|| Some(Said::read(&files[0]).ok()??.len));
            return Err(SaveError::OtherLength { len: len.unwrap_or_default() });
        };
        remove(file).map_err(SaveError::Io)?;
        self.count(-i128::from(bytes));
        Ok(file.clone())
    }

    /// The part of a blob that counts: the one that shows its length, or of which most is here.
    pub(super) fn part_file(&self, hash: &BlobHash) -> Option<PathBuf> {
        let [file, other] = self.part_files(hash);
        if !other.exists() {
            return file.exists().then_some(file);
        }
        let worth = |file: &Path| Said::read(file).ok()?.map(|said| (said.shows_len(), said.bytes()));
        if worth(&file) >= worth(&other) { file.exists().then_some(file) } else { Some(other) }
    }

    /// Whether a part of a blob is here.
    #[must_use]
    pub fn has_partial(&self, hash: &BlobHash) -> bool {
        self.part_files(hash).iter().any(|file| file.exists() && with_ending(file, HAVE).exists())
    }

    /// Opens a blob of which a part is here to read that, whatever its length is.
    #[must_use]
    pub fn open_partial(&self, hash: &BlobHash) -> Option<Arc<Partial>> {
        // Not while a blob is being moved there.
        let alone = super::lock(&self.0.moves);
        let said = Said::read(&self.part_file(hash)?).ok()??;
        drop(alone);
        self.part(*hash, said.len, None).ok()
    }

    /// The same if it may be so long.
    #[must_use]
    pub fn open_partial_of(&self, hash: &BlobHash, len: u64) -> Option<Arc<Partial>> {
        let part = self.open_partial(hash)?;
        if part.len() == len {
            return Some(part);
        }
        let may_be = part.may_be_as_long_as(len);
        drop(part);
        if may_be { self.part(*hash, len, None).ok() } else { None }
    }

    /// All parts of a blob, also those of which nothing is written down yet.
    pub(super) fn parts_of(&self, hash: &BlobHash) -> Vec<Arc<Partial>> {
        let parts = super::lock(&self.0.parts);
        let mut found: Vec<Arc<Partial>> = parts.iter().filter(|((of, _), _)| of == hash).filter_map(|(_, part)| part.upgrade()).collect();
        drop(parts);
        found.retain(|part| !part.is_placed());
        for said in self.part_files(hash).iter().filter_map(|file| Said::read(file).ok()?) {
            if found.iter().all(|part| part.len() != said.len) {
                found.extend(self.part(*hash, said.len, None).ok());
            }
        }
        found
    }

    /// Whether a part of a blob is here, or is being fetched, under another length.
    #[must_use]
    pub fn has_other_length(&self, hash: &BlobHash, len: u64) -> bool {
        self.parts_of(hash).iter().any(|part| part.len() != len && !part.is_bare())
    }

    /// Blobs of which a part is here, with the bytes of that.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn partials(&self) -> io::Result<Vec<(BlobHash, u64)>> {
        let folder = match std::fs::read_dir(self.folder().join(FOLDER)) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = std::collections::BTreeSet::new();
        for file in folder {
            let name = file?.file_name();
            found.extend(name.to_str().and_then(|name| BlobHash::parse(name.strip_suffix(OTHER).unwrap_or(name))));
        }
        Ok(found.into_iter().map(|hash| (hash, self.bytes_of_parts(&hash))).collect())
    }

    fn bytes_of_parts(&self, hash: &BlobHash) -> u64 {
        self.parts_of(hash).iter().map(|part| part.bytes_here()).sum()
    }

    /// When something of a blob that is not whole came last, if it still is so; Unix milliseconds.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn part_ms(&self, hash: &BlobHash) -> io::Result<Option<u64>> {
        let mut last = None;
        for file in self.part_files(hash) {
            let about = match std::fs::metadata(with_ending(&file, HAVE)).or_else(|_| std::fs::metadata(&file)) {
                Ok(about) => about,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            last = last.max(Some(about.modified()?.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)));
        }
        Ok(last)
    }

    /// Says when something of a blob that is not whole came last.
    pub(super) fn date_part(&self, hash: &BlobHash, at_ms: u64) -> io::Result<()> {
        let open = |file: &Path| std::fs::OpenOptions::new().write(true).open(file);
        for file in self.part_files(hash) {
            match open(&with_ending(&file, HAVE)).or_else(|_| open(&file)) {
                Ok(file) => file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_millis(at_ms))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The files of a blob that the owner put in and of which a part is left, with their names from the folder on: to copy them. What
    /// says which pieces are good is read first, since more of them may come while the others are copied.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn own_part_of(&self, hash: &BlobHash) -> io::Result<Option<OwnPart>> {
        let [file, _] = self.part_files(hash);
        let _alone = super::lock(&self.0.moves);
        if with_ending(&file, ORIGIN).exists() {
            return Ok(None);
        }
        let Some(have) = read_have(&file)?.filter(|_| file.exists()) else { return Ok(None) };
        let open = |path: &Path| Ok::<_, io::Error>((name_of(path), super::open_read(path)?));
        Ok(Some(OwnPart { have: (name_of(&with_ending(&file, HAVE)), have), files: [open(&with_ending(&file, TREE))?, open(&file)?] }))
    }

    /// Removes what is here of a blob that is not whole, unless somebody holds a lease on it; says whether it is gone.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn remove_partial(&self, hash: &BlobHash) -> io::Result<bool> {
        self.remove_partial_if(hash, || Ok::<_, io::Error>(true))
    }

    /// Removes what came from others of a blob that is not whole, unless somebody holds a lease on it; says whether that is gone. What
    /// the owner put in himself stays: of a damaged file it may be all that there is.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn remove_fetched(&self, hash: &BlobHash) -> io::Result<bool> {
        let leases = self.leases();
        if leases.contains_key(&Leased::Blob(*hash)) {
            return Ok(false);
        }
        for file in self.part_files(hash) {
            let is_own = !with_ending(&file, ORIGIN).exists() && std::fs::metadata(&file).is_ok_and(|about| about.len() > 0);
            if !is_own {
                let bytes = Said::read(&file)?.map_or(0, |said| said.bytes());
                remove(&file)?;
                self.count(-i128::from(bytes));
            }
        }
        Ok(true)
    }

    /// [`Blobs::remove_partial`], if `may` says so, which is asked while no lease can be taken.
    ///
    /// # Errors
    ///
    /// What the system says, or `may`.
    pub fn remove_partial_if<E: From<io::Error>>(&self, hash: &BlobHash, may: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        let bytes = self.bytes_of_parts(hash);
        let leases = self.leases();
        if leases.contains_key(&Leased::Blob(*hash)) || !may()? {
            return Ok(false);
        }
        for file in self.part_files(hash) {
            remove(&file)?;
        }
        drop(leases);
        self.count(-i128::from(bytes));
        Ok(true)
    }
}

/// What is left of a blob that the owner put in; each with its name.
#[derive(Debug)]
pub struct OwnPart {
    /// Which pieces are good.
    pub have: (String, Vec<u8>),
    /// What they are checked by, and the bytes.
    pub files: [(String, File); 2],
}

/// Whether a blob of this length has the same tree as one of the other, but for what is in its last group.
pub(super) fn has_tree_of(one: u64, other: u64) -> bool {
    let groups = |len: u64| len.div_ceil(GROUP_BYTES).max(1);
    groups(one) == groups(other)
}

/// Whether the length of a file that was cut short on the disk, of which no more is known than the most that it can be, may be this one.
pub(super) fn is_at_most(most: u64, len: u64) -> bool {
    most.is_multiple_of(GROUP_BYTES) && has_tree_of(most, len)
}

fn name_of(part: &Path) -> String {
    format!("{FOLDER}/{}", part.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes a part.
fn remove(file: &Path) -> io::Result<()> {
    // For whom it was begun last: without that it would be taken for the owner's.
    for path in [with_ending(file, HAVE), with_ending(file, TREE), file.to_owned(), with_ending(file, ORIGIN)] {
        remove_if_there(&path)?;
    }
    Ok(())
}

/// What is written down of a part.
struct Said {
    len: u64,
    have: Vec<u8>,
}

impl Said {
    /// # Errors
    ///
    /// What the system says: then it is not known what is here.
    fn read(file: &Path) -> io::Result<Option<Self>> {
        let Some(saved) = read_have(file)?.filter(|_| file.exists()) else { return Ok(None) };
        let Some((len, have)) = saved.split_first_chunk() else { return Ok(None) };
        let len = u64::from_le_bytes(*len);
        Ok((have.len() as u64 == pieces_of(len).div_ceil(8)).then(|| Self { len, have: have.to_vec() }))
    }

    fn shows_len(&self) -> bool {
        let last = pieces_of(self.len) - 1;
        self.have.get((last / 8) as usize).is_some_and(|byte| byte >> (last % 8) & 1 == 1)
    }

    fn bytes(&self) -> u64 {
        let count: u64 = self.have.iter().map(|byte| u64::from(byte.count_ones())).sum();
        let short = if self.shows_len() { PIECE_BYTES - piece_bytes(self.len, (pieces_of(self.len) - 1) as u32) } else { 0 };
        (count * PIECE_BYTES).saturating_sub(short)
    }
}
