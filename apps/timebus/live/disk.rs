//! The folder's side: what is in it, and putting files there without losing what somebody saves meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::pieces::is_name;

/// How our temporary files begin. Like all names that begin with a dot they are left alone.
const TEMPORARY: &str = ".timebus";

/// Largest file that is kept the same: it is held in memory, and in a request.
pub(crate) const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Tells whether a file is still the same without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    modified_ns: i128,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self { inode: metadata.ino(), bytes: metadata.len(), modified_ns }
    }

    /// Of the file at a path; `None` if none is there.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| Self::of(&metadata))
    }
}

/// Whether a file takes part: not hidden, and not what editors and browsers put beside a file while they work.
pub(crate) fn takes_part(name: &str) -> bool {
    let is_temporary = name.ends_with('~')
        || name.starts_with("~$")
        || (name.starts_with('#') && name.ends_with('#'))
        || [".tmp", ".swp", ".part", ".crdownload", ".bak~"].iter().any(|end| name.ends_with(end))
        // What vim makes to try whether it can.
        || name == "4913";
    !name.starts_with('.') && !is_temporary && is_name(name)
}

/// The files of a folder by their names with slashes between, and what cannot take part.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) files: BTreeMap<String, Stamp>,
    pub(crate) skipped: Vec<String>,
}

/// Looks at a folder and everything below. Links are not followed.
pub(crate) fn scan(root: &Path) -> io::Result<Scan> {
    let mut scan = Scan::default();
    scan_into(root, "", &mut scan)?;
    Ok(scan)
}

fn scan_into(folder: &Path, below: &str, scan: &mut Scan) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            scan.skipped.push(format!("{below}{} (its name is not UTF-8)", entry.file_name().display()));
            continue;
        };
        if !takes_part(&name) {
            continue;
        }
        // What is gone between two looks is gone.
        let Ok(metadata) = entry.metadata() else { continue };
        let key = format!("{below}{name}");
        if metadata.is_dir() {
            match scan_into(&entry.path(), &format!("{key}/"), scan) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        } else if metadata.is_file() {
            scan.files.insert(key, Stamp::of(&metadata));
        } else {
            scan.skipped.push(format!("{key} (not a file)"));
        }
    }
    Ok(())
}

/// A file as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) bytes: Vec<u8>,
    pub(crate) stamp: Stamp,
}

/// Reads a file that nobody writes meanwhile; `Ok(None)` if there is none, an error of kind `WouldBlock` if somebody does.
pub(crate) fn read(path: &Path) -> io::Result<Option<Read>> {
    let Some(stamp) = Stamp::at(path) else { return Ok(None) };
    if stamp.bytes > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 64 MiB; `timebus put` sends it"));
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => return Err(error),
    };
    if Stamp::at(path) == Some(stamp) { Ok(Some(Read { bytes, stamp })) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// What became of putting a file there.
#[derive(Debug)]
pub(crate) enum Placed {
    /// It is there. What was there before is in this file, in case somebody still writes to it.
    Done(Option<PathBuf>),
    /// Somebody saved meanwhile, and that is there.
    Changed,
}

/// Puts content at a path in one step, if what is there is what was read: `None` for nothing.
pub(crate) fn place(path: &Path, content: &[u8], expected: Option<Stamp>) -> io::Result<Placed> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
    file.write_all(content)?;
    // Temporary files are for their owner alone.
    let permissions = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions(),
        Err(_) => std::os::unix::fs::PermissionsExt::from_mode(0o644),
    };
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    let Some(expected) = expected else {
        return match file.persist_noclobber(path) {
            Ok(_) => Ok(Placed::Done(None)),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(Placed::Changed),
            Err(error) => Err(error.error),
        };
    };
    exchange(file.path(), path)?;
    // What was at the path is now under the temporary name.
    if Stamp::at(file.path()) == Some(expected) {
        let (_, kept) = file.keep().map_err(|error| error.error)?;
        return Ok(Placed::Done(Some(kept)));
    }
    exchange(file.path(), path)?;
    Ok(Placed::Changed)
}

/// Lets two files change places.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // The file was removed meanwhile, or this file system cannot do it.
        Err(error) if error == rustix::io::Errno::NOENT => Err(io::ErrorKind::WouldBlock.into()),
        Err(_) => exchange_in_steps(one, other),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    exchange_in_steps(one, other)
}

fn exchange_in_steps(one: &Path, other: &Path) -> io::Result<()> {
    let mut aside = one.as_os_str().to_owned();
    aside.push(".old");
    fs::rename(other, &aside)?;
    fs::rename(one, other)?;
    fs::rename(aside, one)
}

/// Removes a file if it is what was read; says whether it did.
pub(crate) fn remove(path: &Path, expected: Stamp) -> io::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let aside = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?.into_temp_path();
    fs::rename(path, &aside)?;
    if Stamp::at(&aside) == Some(expected) {
        return Ok(true);
    }
    match aside.persist_noclobber(path) {
        Ok(()) => Ok(false),
        // A new file is there already; the one that was saved before it stays under another name.
        Err(error) => {
            let copy = copy_name(path);
            error.path.persist_noclobber(copy).map_err(|error| error.error)?;
            Ok(false)
        }
    }
}

/// Removes folders that have become empty, from here up to `root`.
pub(crate) fn remove_empty(root: &Path, mut folder: &Path) {
    while folder != root && folder.starts_with(root) && fs::remove_dir(folder).is_ok() {
        let Some(above) = folder.parent() else { return };
        folder = above;
    }
}

/// A free name beside a file, for the other side of a conflict.
pub(crate) fn copy_name(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    let name = |number: u32| match number {
        1 => format!("{stem} (conflict){extension}"),
        _ => format!("{stem} (conflict {number}){extension}"),
    };
    (1..).map(|number| path.with_file_name(name(number))).find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_else(|| path.to_owned())
}

/// Moves a file to a free name beside it, if it is what was read. Answers the new place.
pub(crate) fn set_aside(path: &Path, expected: Stamp) -> io::Result<Option<PathBuf>> {
    let copy = copy_name(path);
    if Stamp::at(path) != Some(expected) {
        return Ok(None);
    }
    // Whatever is moved, it is not lost.
    fs::rename(path, &copy)?;
    Ok(Some(copy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_leave_beside_a_file_takes_no_part() {
        for name in [".x.swp", "x~", "#x#", ".#x", "4913", ".git", "x.tmp", "~$x.doc", "x.part", ".timebusA1b2", ".goutputstream-A"] {
            assert!(!takes_part(name), "{name}");
        }
        for name in ["x", "x.md", "#x", "tmp", "part", "é.txt", "@x"] {
            assert!(takes_part(name), "{name}");
        }
    }

    #[test]
    fn a_save_in_between_is_not_overwritten() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("a/b");
        assert!(matches!(place(&path, b"1", None), Ok(Placed::Done(None))));
        assert!(matches!(place(&path, b"2", None), Ok(Placed::Changed)));
        let before = read(&path).expect("readable").expect("there");
        assert_eq!(before.bytes, b"1");
        fs::write(&path, "somebody else's").expect("written");
        assert!(matches!(place(&path, b"2", Some(before.stamp)), Ok(Placed::Changed)));
        assert_eq!(fs::read(&path).expect("there"), b"somebody else's");
        assert!(!remove(&path, before.stamp).expect("tried"));
        assert_eq!(fs::read(&path).expect("there"), b"somebody else's");
        let now = Stamp::at(&path).expect("there");
        let Ok(Placed::Done(Some(kept))) = place(&path, b"2", Some(now)) else { panic!("not placed") };
        assert_eq!((fs::read(&path).expect("there"), fs::read(kept).expect("kept")), (b"2".to_vec(), b"somebody else's".to_vec()));
        assert!(remove(&path, Stamp::at(&path).expect("there")).expect("removed"));
        assert!(!path.exists());
    }

    #[test]
    fn copies_take_free_names() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("a.txt");
        assert_eq!(copy_name(&path), temp.path().join("a (conflict).txt"));
        fs::write(temp.path().join("a (conflict).txt"), "").expect("written");
        assert_eq!(copy_name(&path), temp.path().join("a (conflict 2).txt"));
    }
}
