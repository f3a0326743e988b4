//! Which blobs were removed that older versions still name, and when: who would take such a version back is told so.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use super::{BlobHash, Blobs, open_read};

/// Names the file: 40 bytes for each blob, its hash and when it was removed (Unix ms, little-endian), as they went.
const GONE: &str = "gone";
/// Bytes of one.
const ENTRY_BYTES: usize = 40;
/// Most of them; of more, those that went first are forgotten, half of them at once.
const GONE_MAX: usize = 16_384;

impl Blobs {
    /// Notes that a blob was removed.
    pub(crate) fn note_gone(&self, hash: &BlobHash, now_ms: u64) -> io::Result<()> {
        let path = self.folder().join(GONE);
        // Who notes another one at once would write over this one.
        let _alone = super::lock(&self.0.gone);
        let mut file = create(&path)?;
        let mut len = file.metadata()?.len() / ENTRY_BYTES as u64 * ENTRY_BYTES as u64;
        if len >= (GONE_MAX * ENTRY_BYTES) as u64 {
            let mut all = self.read_gone()?;
            all.drain(..all.len() / ENTRY_BYTES / 2 * ENTRY_BYTES);
            let new = self.folder().join("new").join(GONE);
            file = create(&new)?;
            file.set_len(0)?;
            file.write_all(&all)?;
            std::fs::rename(&new, &path)?;
            len = all.len() as u64;
        }
        // What a crash cut short is written over.
        file.set_len(len)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(len))?;
        file.write_all(&[&hash.as_bytes()[..], &now_ms.to_le_bytes()].concat())
    }

    /// When a blob that is not here was removed, if it is known; Unix milliseconds.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn gone_ms(&self, hash: &BlobHash) -> io::Result<Option<u64>> {
        if self.len_of(hash).is_some() {
            return Ok(None);
        }
        let all = self.read_gone()?;
        let found = all.rchunks_exact(ENTRY_BYTES).find(|entry| entry.starts_with(hash.as_bytes()));
        Ok(found.and_then(|entry| entry.last_chunk::<8>()).map(|ms| u64::from_le_bytes(*ms)))
    }

    /// Whole entries.
    fn read_gone(&self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        match open_read(&self.folder().join(GONE)) {
            Ok(file) => file.take((GONE_MAX * ENTRY_BYTES) as u64).read_to_end(&mut all)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        all.truncate(all.len() / ENTRY_BYTES * ENTRY_BYTES);
        Ok(all)
    }
}

fn create(path: &std::path::Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::Limits;

    #[test]
    fn it_is_known_since_when_a_blob_is_gone_until_it_comes_again() {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = temp.path().join("blobs");
        let open = || Blobs::open(&folder, Limits { reserve_bytes: 0, ..Limits::default() }).expect("opens");
        let blobs = open();
        let hash = |number: u64| {
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            BlobHash::from_bytes(bytes)
        };
        assert_eq!(blobs.gone_ms(&hash(1)).expect("reads"), None);
        for (number, ms) in [(1, 10), (2, 20), (1, 30)] {
            blobs.note_gone(&hash(number), ms).expect("writes");
        }
        assert_eq!([1, 2, 3].map(|number| open().gone_ms(&hash(number)).expect("reads")), [Some(30), Some(20), None]);
        let mut writer = blobs.writer().expect("begins");
        writer.write(b"la").expect("writes");
        let (here, ..) = writer.finish().expect("room");
        blobs.note_gone(&here, 40).expect("writes");
        assert_eq!(blobs.gone_ms(&here).expect("reads"), None, "it is here");
        // A crash cut the last entry short.
        let file = OpenOptions::new().write(true).open(folder.join(GONE)).expect("opens");
        file.set_len(3 * ENTRY_BYTES as u64 + 7).expect("room");
        assert_eq!([1, 2].map(|number| blobs.gone_ms(&hash(number)).expect("reads")), [Some(30), Some(20)]);
        blobs.note_gone(&hash(4), 50).expect("writes");
        assert_eq!([1, 2, 4].map(|number| blobs.gone_ms(&hash(number)).expect("reads")), [Some(30), Some(20), Some(50)]);
        // Of very many the first are forgotten.
        let entry = |number: u64| [&hash(number).as_bytes()[..], &number.to_le_bytes()].concat();
        std::fs::write(folder.join(GONE), (0..GONE_MAX as u64).flat_map(entry).collect::<Vec<_>>()).expect("room");
        blobs.note_gone(&hash(1 << 40), 60).expect("writes");
        let last = GONE_MAX as u64 - 1;
        assert_eq!([0, last, 1 << 40].map(|number| blobs.gone_ms(&hash(number)).expect("reads")), [None, Some(last), Some(60)]);
        // `free --history` and the collector remove some at once.
        let at_once = std::sync::Barrier::new(8);
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (blobs, hash, at_once) = (&blobs, &hash, &at_once);
                let note = move |number| {
                    at_once.wait();
                    blobs.note_gone(&hash((thread << 32) | number | 1 << 50), number).expect("writes");
                };
                scope.spawn(move || (0..50).for_each(note));
            }
        });
        let known = (0..8u64).flat_map(|thread| (0..50).map(move |number| (thread << 32) | number | 1 << 50));
        assert_eq!(known.filter(|number| blobs.gone_ms(&hash(*number)).expect("reads").is_none()).count(), 0, "none is lost");
    }
}
