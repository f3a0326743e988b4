//! The folder's side: what is in it, and putting files there without losing what somebody saves meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempPath;

use super::remote::hash;
use crate::pieces::is_name;

/// How our temporary files begin. Like all names that begin with a dot they are left alone.
const TEMPORARY: &str = ".timebus";

/// Largest file that is kept the same: it is held in memory, and in a request.
pub(crate) const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long a file has to rest before it is read: whoever saves empties it first, and fills it in pieces.
const RESTED: Duration = Duration::from_millis(150);
/// Clocks of file systems tick this seldom: what was written more recently than that may be written again unnoticed.
const TICK: Duration = Duration::from_millis(20);

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

    /// Whether the file was written that recently; what is dated in the future was not.
    fn is_younger(self, than: Duration) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let age_ns = now.as_nanos().cast_signed() - self.modified_ns;
        age_ns.unsigned_abs() < than.as_nanos()
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

/// Reads a file that nobody writes meanwhile; `Ok(None)` if there is none, an error of kind `WouldBlock` if somebody may
/// be writing it. What looks as it did when it was `settled` need not rest.
pub(crate) fn read(path: &Path, settled: Option<Stamp>) -> io::Result<Option<Read>> {
    let Some(stamp) = Stamp::at(path) else { return Ok(None) };
    if stamp.bytes > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 64 MiB; `timebus put` sends it"));
    }
    let rested = if settled == Some(stamp) { TICK } else { RESTED };
    if stamp.is_younger(rested) {
        return Err(io::ErrorKind::WouldBlock.into());
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

/// Content that lies beside its place, complete and on disk. It is removed when this is dropped before it was placed.
#[derive(Debug)]
pub(crate) struct Prepared {
    path: PathBuf,
    aside: Option<TempPath>,
    /// What the file looks like, also once it is in its place.
    pub(crate) stamp: Stamp,
}

impl Prepared {
    /// Writes content beside a path.
    pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<Self> {
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
        let stamp = Stamp::of(&file.as_file().metadata()?);
        Ok(Self { path: path.to_owned(), aside: Some(file.into_temp_path()), stamp })
    }

    /// The name of the file beside the place, by which [`recover`] finds it.
    pub(crate) fn name(&self) -> Option<String> {
        Some(self.aside.as_ref()?.file_name()?.to_str()?.to_owned())
    }

    /// Puts the content into its place in one step, if what is there is what was read: `None` for nothing. Only after it
    /// is there its file beside the place is gone, or is what was there.
    pub(crate) fn place(&mut self, expected: Option<Stamp>) -> io::Result<Placed> {
        let Some(aside) = self.aside.take() else { return Ok(Placed::Changed) };
        let Some(expected) = expected else {
            let Err(error) = aside.persist_noclobber(&self.path) else {
                sync_folder(&self.path);
                return Ok(Placed::Done(None));
            };
            self.aside = Some(error.path);
            return if error.error.kind() == io::ErrorKind::AlreadyExists { Ok(Placed::Changed) } else { Err(error.error) };
        };
        let aside = self.aside.insert(aside);
        exchange(aside, &self.path)?;
        // What was at the path is now beside it.
        if Stamp::at(aside) != Some(expected) {
            exchange(aside, &self.path)?;
            return Ok(Placed::Changed);
        }
        let kept = self.aside.take().map(TempPath::keep).transpose().map_err(|error| error.error)?;
        sync_folder(&self.path);
        Ok(Placed::Done(kept))
    }
}

/// Makes what is in the folder of a file survive that the power goes, where the file system can do that.
fn sync_folder(path: &Path) {
    let _ = fs::File::open(path.parent().unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
}

/// What a stop left behind that came while content was put into its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recovered {
    /// The content had been put there. What somebody saved just then, if anybody did, is in this file.
    Placed(Option<PathBuf>),
    /// What was there before is there, or what somebody saved since.
    NotPlaced,
}

/// Finds out whether content with the hash `new` was put to a path, where `old` was if anything was, from the file that
/// it was written to beside it. What is at the path does not say: somebody may have saved there since. Asked again it
/// answers the same, until the caller removes the file beside it.
pub(crate) fn recover(path: &Path, aside: &str, new: &str, old: Option<&str>) -> io::Result<Recovered> {
    let hash_at = |path: &Path| match fs::read(path) {
        Ok(bytes) => Ok(Some(hash(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let aside = path.with_file_name(aside);
    let between = between(&aside);
    if fs::symlink_metadata(&between).is_ok() {
        fs::rename(&between, if fs::symlink_metadata(path).is_ok() { &aside } else { path })?;
    }
    let Some(beside) = hash_at(&aside)? else { return Ok(Recovered::Placed(None)) };
    if beside == new || Some(beside.as_str()) == old {
        return Ok(if beside == new { Recovered::NotPlaced } else { Recovered::Placed(None) });
    }
    // Somebody saved in the moment in which the two changed places.
    if hash_at(path)?.as_deref() == Some(new) {
        exchange(&aside, path)?;
        return Ok(Recovered::NotPlaced);
    }
    let copy = copy_name(path);
    fs::rename(&aside, &copy)?;
    Ok(Recovered::Placed(Some(copy)))
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
    let between = between(one);
    fs::rename(other, &between)?;
    fs::rename(one, other)?;
    fs::rename(between, one)
}

/// Where a file is for a moment while two change places in steps.
fn between(aside: &Path) -> PathBuf {
    let mut name = aside.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
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

    fn place(path: &Path, content: &[u8], expected: Option<Stamp>) -> Placed {
        Prepared::write(path, content).expect("written").place(expected).expect("tried")
    }

    fn stamp(path: &Path) -> Stamp {
        Stamp::at(path).expect("there")
    }

    #[test]
    fn a_save_in_between_is_not_overwritten() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("a/b");
        assert!(matches!(place(&path, b"1", None), Placed::Done(None)));
        assert!(matches!(place(&path, b"2", None), Placed::Changed));
        let before = stamp(&path);
        fs::write(&path, "somebody else's").expect("written");
        assert!(matches!(place(&path, b"2", Some(before)), Placed::Changed));
        assert_eq!(fs::read(&path).expect("there"), b"somebody else's");
        assert!(!remove(&path, before).expect("tried"));
        assert_eq!(fs::read(&path).expect("there"), b"somebody else's");
        let Placed::Done(Some(kept)) = place(&path, b"2", Some(stamp(&path))) else { panic!("not placed") };
        assert_eq!((fs::read(&path).expect("there"), fs::read(kept).expect("kept")), (b"2".to_vec(), b"somebody else's".to_vec()));
        assert!(remove(&path, stamp(&path)).expect("removed"));
        assert!(!path.exists());
    }

    #[test]
    fn what_was_written_a_moment_ago_is_not_read() {
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("a");
        let file = fs::File::create(&path).expect("a file");
        let is_busy = |settled| read(&path, settled).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        let date = |age_ms| file.set_modified(SystemTime::now() - Duration::from_millis(age_ms)).expect("dated");
        assert!(is_busy(None) && is_busy(Some(stamp(&path))), "just written");
        date(100_000);
        assert!(!is_busy(None));
        file.set_modified(SystemTime::now() + Duration::from_secs(100)).expect("dated");
        assert!(!is_busy(None), "a wrong clock");
    }

    /// A folder keeper that was killed while it put a value there took an older file, to which somebody added since, for
    /// an edit of that value: what the value had more was taken out of it.
    #[test]
    fn after_a_stop_it_is_known_whether_content_was_placed() {
        let (old, new) = (hash(b"old"), hash(b"new"));
        let temp = tempfile::tempdir().expect("a folder");
        let path = temp.path().join("a");
        let write = |content: &str| fs::write(&path, content).expect("written");
        let read = |path: &Path| fs::read_to_string(path).ok();
        // At each moment that the stop may come, and with a save that came after the stop.
        for saved in [None, Some("saved")] {
            let save = || saved.into_iter().for_each(write);
            for (had, is_placed) in [(false, false), (false, true), (true, false), (true, true)] {
                let _ = fs::remove_file(&path);
                if had {
                    write("old");
                }
                let mut prepared = Prepared::write(&path, b"new").expect("written");
                let name = prepared.name().expect("a name");
                if is_placed {
                    assert!(matches!(prepared.place(had.then(|| stamp(&path))), Ok(Placed::Done(_))));
                }
                std::mem::forget(prepared);
                save();
                let found = recover(&path, &name, &new, had.then_some(&old)).expect("recovered");
                assert_eq!(recover(&path, &name, &new, had.then_some(&old)).expect("recovered"), found, "again");
                let wanted = if is_placed { Recovered::Placed(None) } else { Recovered::NotPlaced };
                assert_eq!(found, wanted, "{had} {saved:?}");
                let kept = if is_placed { Some("new") } else { had.then_some("old") };
                assert_eq!(read(&path).as_deref(), saved.or(kept));
            }
            // Somebody saved in place of what was read, and the two had not yet changed back.
            write("theirs");
            let prepared = Prepared::write(&path, b"new").expect("written");
            let name = prepared.name().expect("a name");
            exchange(&temp.path().join(&name), &path).expect("exchanged");
            std::mem::forget(prepared);
            save();
            let found = recover(&path, &name, &new, Some(&old)).expect("recovered");
            match saved {
                None => assert_eq!((found, read(&path).as_deref()), (Recovered::NotPlaced, Some("theirs"))),
                Some(saved) => {
                    let Recovered::Placed(Some(copy)) = found else { panic!("{found:?}") };
                    assert_eq!((read(&path).as_deref(), read(&copy).as_deref()), (Some(saved), Some("theirs")));
                }
            }
        }
        // Where two files cannot change places at once, they do so in steps.
        for steps in 0..=3 {
            write("old");
            let prepared = Prepared::write(&path, b"new").expect("written");
            let name = prepared.name().expect("a name");
            std::mem::forget(prepared);
            let aside = temp.path().join(&name);
            let moves = [(path.clone(), between(&aside)), (aside.clone(), path.clone()), (between(&aside), aside.clone())];
            moves.iter().take(steps).for_each(|(from, to)| fs::rename(from, to).expect("moved"));
            let found = recover(&path, &name, &new, Some(&old)).expect("recovered");
            let (wanted, content) = if steps < 2 { (Recovered::NotPlaced, "old") } else { (Recovered::Placed(None), "new") };
            assert_eq!((found, read(&path).as_deref()), (wanted, Some(content)), "{steps}");
        }
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
