use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, renameat, unlinkat};
use zeroize::Zeroizing;

use super::KeysError;
use crate::SecretKey;

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// Our text files are a few hundred bytes; more is not ours.
const TEXT_BYTES_MAX: u64 = 4096;

/// A folder only its owner can look into, whose files change all at once or not at all.
///
/// Everything goes through the handle of the folder, and no symbolic link is followed in it.
#[derive(Debug)]
pub(super) struct KeyDir {
    handle: File,
    path: PathBuf,
}

impl KeyDir {
    /// Opens the folder if it exists, and refuses it if others may look into it.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, KeysError> {
        // A trailing slash would make the system follow a link.
        let path: PathBuf = path.components().collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match open(&path, flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(_) if path.is_symlink() => return Err(KeysError::SymbolicLink { path }),
            Err(error) => {
                let source = error.into();
                return Err(KeysError::Read { path, source });
            }
        };
        let dir = Self { handle, path };
        dir.check_mode(&dir.handle, dir.path.clone(), DIR_MODE)?;
        Ok(Some(dir))
    }

    /// Makes the folder with the files that `fill` writes: after a crash there are all or none.
    ///
    /// It may replace an empty folder, nothing else.
    pub(super) fn create(path: &Path, fill: impl FnOnce(&Self) -> Result<(), KeysError>) -> Result<(), KeysError> {
        let path: PathBuf = path.components().collect();
        let failed = |source: io::Error| KeysError::Write { path: path.clone(), source };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let parent = match parent.as_os_str().is_empty() {
            true => Path::new("."),
            false => parent,
        };
        let unfinished = parent.join(format!(".{}.new", name.display()));
        let mut builder = DirBuilder::new();
        builder.mode(DIR_MODE);

        builder.recursive(true).create(parent).map_err(failed)?;
        match std::fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        builder.recursive(false).create(&unfinished).map_err(failed)?;
        let dir = Self::open(&unfinished)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        fill(&dir)?;
        std::fs::rename(&unfinished, &path).map_err(failed)?;
        let parent = File::open(parent).map_err(failed)?;
        parent.sync_all().map_err(failed)
    }

    /// Whether there is no file in it.
    pub(super) fn is_empty(&self) -> Result<bool, KeysError> {
        let mut entries = std::fs::read_dir(&self.path).map_err(|source| KeysError::Read { path: self.path.clone(), source })?;
        Ok(entries.next().is_none())
    }

    /// The path of one of the files, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The device and inode of the folder, which a copy does not share.
    pub(super) fn device_and_inode(&self) -> Result<(u64, u64), KeysError> {
        let metadata = self.handle.metadata();
        let metadata = metadata.map_err(|source| KeysError::Read { path: self.path.clone(), source })?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// The secret key in a file of 32 bytes, if the file exists.
    pub(super) fn read_seed(&self, name: &str) -> Result<Option<SecretKey>, KeysError> {
        let Some((mut file, found)) = self.open_file(name)? else {
            return Ok(None);
        };
        if found != 32 {
            return Err(KeysError::WrongLength { path: self.path_of(name), expected: 32, found });
        }
        let mut seed = Zeroizing::new([0; 32]);
        file.read_exact(&mut *seed).map_err(|source| self.read_error(name, source))?;
        Ok(Some(SecretKey::from_seed(*seed)))
    }

    /// The text of a file, if the file exists.
    pub(super) fn read_text(&self, name: &str) -> Result<Option<Zeroizing<String>>, KeysError> {
        let Some((file, found)) = self.open_file(name)? else {
            return Ok(None);
        };
        if found > TEXT_BYTES_MAX {
            return Err(KeysError::Damaged { path: self.path_of(name), problem: "it is too long" });
        }
        // Room is reserved, because growing would leave copies of a token behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX as usize));
        file.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(|source| self.read_error(name, source))?;
        Ok(Some(text))
    }

    /// Writes a file, durably: after a crash it is the old one or the new one.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeysError> {
        self.write_aside(name, bytes)?;
        self.rename(&aside(name), name)
    }

    /// Gives a file another name, durably, in place of the file that has that name.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), KeysError> {
        renameat(&self.handle, from, &self.handle, to).map_err(|error| self.write_error(to, error.into()))?;
        self.sync(to)
    }

    /// Overwrites a file with zeros and unlinks it, durably. A missing file is fine.
    ///
    /// After a crash the file is whole or gone, never half erased: it loses its name first.
    /// Flash and copy-on-write disks may keep old blocks all the same.
    pub(super) fn erase(&self, name: &str) -> Result<(), KeysError> {
        let aside = aside(name);
        match renameat(&self.handle, name, &self.handle, &*aside) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.write_error(name, error.into())),
        }
        self.sync(name)?;
        self.wipe(&aside)
    }

    /// Erases what a crash within [`KeyDir::write`] or [`KeyDir::erase`] left behind.
    pub(super) fn erase_unfinished(&self, names: &[&str]) -> Result<(), KeysError> {
        names.iter().try_for_each(|name| self.wipe(&aside(name)))
    }

    fn wipe(&self, name: &str) -> Result<(), KeysError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(self.write_error(name, error.into())),
        };
        let mut wipe = || {
            let len = file.metadata()?.len();
            io::copy(&mut io::repeat(0).take(len), &mut file)?;
            file.sync_all()?;
            unlinkat(&self.handle, name, AtFlags::empty())?;
            Ok(())
        };
        wipe().map_err(|source| self.write_error(name, source))?;
        self.sync(name)
    }

    fn sync(&self, name: &str) -> Result<(), KeysError> {
        let synced = self.handle.sync_all();
        synced.map_err(|source| self.write_error(name, source))
    }

    fn write_aside(&self, name: &str, bytes: &[u8]) -> Result<(), KeysError> {
        let aside = aside(name);
        self.wipe(&aside)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let write = || {
            let mut file = File::from(openat(&self.handle, &*aside, flags, mode)?);
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| self.write_error(name, source))
    }

    fn open_file(&self, name: &str) -> Result<Option<(File, u64)>, KeysError> {
        // NONBLOCK, so that a pipe in a file's place is refused instead of waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.path_of(name);
        let file = match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(_) if path.is_symlink() => return Err(KeysError::SymbolicLink { path }),
            Err(error) => return Err(self.read_error(name, error.into())),
        };
        let metadata = file.metadata();
        let metadata = metadata.map_err(|source| self.read_error(name, source))?;
        if !metadata.is_file() {
            return Err(KeysError::NotAFile { path });
        }
        self.check_mode(&file, path, FILE_MODE)?;
        Ok(Some((file, metadata.len())))
    }

    fn check_mode(&self, file: &File, path: PathBuf, wanted: u32) -> Result<(), KeysError> {
        let mode = match file.metadata() {
            Ok(metadata) => metadata.mode() & 0o7777,
            Err(source) => return Err(KeysError::Read { path, source }),
        };
        if mode & OTHERS != 0 {
            return Err(KeysError::OpenToOthers { path, mode, wanted });
        }
        Ok(())
    }

    fn read_error(&self, name: &str, source: io::Error) -> KeysError {
        let path = self.path_of(name);
        KeysError::Read { path, source }
    }

    fn write_error(&self, name: &str, source: io::Error) -> KeysError {
        let path = self.path_of(name);
        KeysError::Write { path, source }
    }
}

/// Where a file is written before it takes its name.
fn aside(name: &str) -> String {
    format!(".{name}.tmp")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder() -> (tempfile::TempDir, KeyDir) {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("keys");
        KeyDir::create(&path, |_| Ok(())).expect("a new folder");
        let dir = KeyDir::open(&path).expect("a good folder");
        (temp, dir.expect("the folder just made"))
    }

    fn chmod(path: &Path, mode: u32) {
        let mode = PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("our own file");
    }

    #[test]
    fn is_for_the_owner_alone() {
        let (_temp, dir) = folder();
        dir.write("a", b"text").expect("room");
        for (path, wanted) in [(dir.path.clone(), 0o700), (dir.path_of("a"), 0o600)] {
            let metadata = path.metadata().expect("it exists");
            assert_eq!(metadata.mode() & 0o7777, wanted);
        }
    }

    #[test]
    fn refuses_what_others_may_read_or_write() {
        let (_temp, dir) = folder();
        dir.write("a", b"text").expect("room");
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            chmod(&dir.path_of("a"), mode);
            match dir.read_text("a") {
                Err(KeysError::OpenToOthers { mode: found, .. }) => assert_eq!(found, mode),
                other => panic!("{other:?}"),
            }
        }
        for mode in [0o755, 0o750, 0o701] {
            chmod(&dir.path, mode);
            match KeyDir::open(&dir.path) {
                Err(KeysError::OpenToOthers { mode: found, .. }) => assert_eq!(found, mode),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn refuses_links() {
        let (temp, dir) = folder();
        dir.write("a", b"text").expect("room");
        symlink(dir.path_of("a"), dir.path_of("b")).expect("a link");
        assert!(matches!(dir.read_text("b"), Err(KeysError::SymbolicLink { .. })));
        let link = temp.path().join("link");
        symlink(&dir.path, &link).expect("a link");
        for link in [link.clone(), link.join("")] {
            assert!(matches!(KeyDir::open(&link), Err(KeysError::SymbolicLink { .. })));
        }
    }

    #[test]
    fn refuses_folders_and_overlong_files() {
        let (_temp, dir) = folder();
        std::fs::create_dir(dir.path_of("a")).expect("a folder");
        assert!(matches!(dir.read_text("a"), Err(KeysError::NotAFile { .. })));
        dir.write("b", &[b'x'; 5000]).expect("room");
        assert!(matches!(dir.read_text("b"), Err(KeysError::Damaged { .. })));
    }

    #[test]
    fn a_seed_is_32_bytes() {
        let (_temp, dir) = folder();
        for len in [0, 31, 33] {
            dir.write("a", &vec![1; len]).expect("room");
            match dir.read_seed("a") {
                Err(KeysError::WrongLength { found, .. }) => assert_eq!(found, len as u64),
                other => panic!("{other:?}"),
            }
        }
        dir.write("a", &[1; 32]).expect("room");
        let key = dir.read_seed("a").expect("32 bytes").expect("the file");
        assert_eq!(key.seed(), &[1; 32]);
        assert!(dir.read_seed("b").expect("no file").is_none());
    }

    #[test]
    fn a_write_cut_short_leaves_the_old_file() {
        let (_temp, dir) = folder();
        dir.write("a", b"old").expect("room");
        dir.write_aside("a", b"new").expect("room");
        assert_eq!(dir.read_text("a").expect("a file").as_deref().map(String::as_str), Some("old"));
        dir.erase_unfinished(&["a"]).expect("our file");
        assert!(!dir.path_of(".a.tmp").exists());
        dir.write("a", b"new").expect("room");
        assert_eq!(dir.read_text("a").expect("a file").as_deref().map(String::as_str), Some("new"));
    }

    #[test]
    fn erasing_overwrites_what_other_links_see() {
        let (temp, dir) = folder();
        dir.write("a", &[7; 32]).expect("room");
        let link = temp.path().join("hard");
        std::fs::hard_link(dir.path_of("a"), &link).expect("a hard link");
        dir.erase("a").expect("our file");
        dir.erase("a").expect("nothing to do");
        assert!(!dir.path_of("a").exists());
        assert_eq!(std::fs::read(link).expect("the other link"), [0; 32]);
    }

    #[test]
    fn creation_is_all_or_nothing() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("keys");
        let crash = || KeysError::AlreadyThere { path: path.clone() };
        let create = |crashes: bool| {
            KeyDir::create(&path, |dir| {
                dir.write("a", b"text")?;
                if crashes { Err(crash()) } else { Ok(()) }
            })
        };
        assert!(create(true).is_err());
        assert!(KeyDir::open(&path).expect("no folder").is_none());
        assert!(create(false).is_ok());
        assert!(create(false).is_err(), "there are files in it");
    }
}
