//! Downloads that were begun: what has come of one stays beside its file until all of it is there. A note in the home says where,
//! so that one that was cut off is shown, gone on with, or cancelled.
//!
//! Who downloads holds a lock on the note. So whoever can take the lock knows that nobody does.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::home::{Home, quoted, quoted_text};
use crate::target::{Target, Versions};

/// How often a lock is tried that somebody holds who only looks, and the pause between.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// A download that goes on.
#[derive(Debug)]
pub(crate) struct Note {
    path: PathBuf,
    file: File,
    download: Download,
}

/// What is to be had, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Download {
    /// What was asked for, as in `/@alice/film`.
    pub(crate) path: String,
    /// As it was at these versions.
    #[serde(default)]
    at: Option<Vec<String>>,
    /// Where it goes.
    pub(crate) file: PathBuf,
    /// Its content, if it is a file of the peer.
    #[serde(default)]
    pub(crate) hash: Option<String>,
    #[serde(default)]
    pub(crate) bytes_total: Option<u64>,
}

/// A download of which something has come and not all.
#[derive(Debug)]
pub(crate) struct Begun {
    note: PathBuf,
    pub(crate) download: Download,
    /// Bytes that have come.
    pub(crate) bytes_here: u64,
    /// Whether somebody downloads it now.
    pub(crate) is_running: bool,
}

impl Note {
    /// Takes note of a download that begins or goes on. `None` if the home takes no notes.
    ///
    /// # Errors
    ///
    /// [`Failure`] if another command downloads into the same file.
    pub(crate) fn begin(home: &Home, what: &Target, at: Option<&Versions>, target: &Path) -> anyhow::Result<Option<Self>> {
        let target = std::path::absolute(target)?;
        let folder = folder(home);
        let name = blake3::hash(target.as_os_str().as_encoded_bytes()).to_hex();
        let path = folder.join(&name[..32]);
        if DirBuilder::new().recursive(true).mode(0o700).create(&folder).is_err() {
            return Ok(None);
        }
        for _ in 0..TRIES {
            match hold(&path) {
                Ok(Some(file)) => {
                    let download =
                        Download { path: what.to_string(), at: at.map(|at| at.list().to_vec()), file: target, hash: None, bytes_total: None };
                    let mut note = Self { path, file, download };
                    note.write()?;
                    return Ok(Some(note));
                }
                Ok(None) => std::thread::sleep(PAUSE),
                Err(_) => return Ok(None),
            }
        }
        let title = format!("another command is getting {} now", target.display());
        Err(Failure::refused(title).fix("wait for it, or stop it, or name another file").into())
    }

    /// Says more of what comes.
    pub(crate) fn say(&mut self, hash: Option<&str>, bytes_total: Option<u64>) -> io::Result<()> {
        let said = (hash.map(str::to_owned), bytes_total);
        if said == (self.download.hash.clone(), self.download.bytes_total) {
            return Ok(());
        }
        (self.download.hash, self.download.bytes_total) = said;
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&serde_json::to_vec(&self.download)?)
    }

    /// All of it is there, or nothing.
    pub(crate) fn forget(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens a note, or makes one, and locks it; `None` if somebody else holds it, or took it away meanwhile.
fn hold(path: &Path) -> io::Result<Option<File>> {
    hold_opened(path, OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?)
}

/// The same of one that is open. A lock on a file that has no name any more keeps nobody out.
fn hold_opened(path: &Path, file: File) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let own = file.metadata()?;
    let is_same = fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()));
    Ok(is_same.then_some(file))
}

impl Download {
    /// The command that goes on with it.
    pub(crate) fn again(&self, home: &Home) -> String {
        let at = self.at.iter().map(|at| format!(" --at {}", quoted_text(&Versions::new(at.clone()).header()))).collect::<String>();
        home.command(&format!("get {}{at} -o {}", quoted_text(&self.path), quoted(&self.file)))
    }

    /// Whether somebody means it who names a file by its path, a path above it, or its hash.
    fn is_meant(&self, which: &str) -> bool {
        let rooted = |path: &str| format!("/{}", path.trim_matches('/'));
        let (own, which_path) = (rooted(&self.path), rooted(which));
        self.hash.as_deref() == Some(which) || own == which_path || own.starts_with(&format!("{}/", which_path.trim_end_matches('/')))
    }
}

/// What has come of a download, and what says of which content it is.
pub(crate) fn parts_of(target: &Path) -> [PathBuf; 2] {
    [".part", ".part-of"].map(|ending| {
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(ending);
        target.with_file_name(name)
    })
}

/// Removes what has come of a download.
pub(crate) fn remove_parts(target: &Path) -> io::Result<()> {
    for part in parts_of(target) {
        match fs::remove_file(part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Downloads that were begun, in the order of their files. Those of which nothing is there any more are forgotten.
pub(crate) fn begun(home: &Home) -> io::Result<Vec<Begun>> {
    let notes = match fs::read_dir(folder(home)) {
        Ok(notes) => notes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for note in notes {
        let note = note?.path();
        let Ok(mut file) = File::open(&note) else { continue };
        // As long as this is held, nobody begins; nor does it say that another one who looks downloads.
        let is_running = match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let download: Option<Download> = serde_json::from_slice(&text).ok();
        let bytes = |download: &Download| fs::metadata(&parts_of(&download.file)[0]).map(|about| about.len()).ok();
        match download.map(|download| (bytes(&download), download)) {
            Some((Some(bytes_here), download)) => found.push(Begun { note, download, bytes_here, is_running }),
            _ if is_running => {}
            _ => drop(fs::remove_file(&note)),
        }
    }
    found.sort_by(|one, other| one.download.file.cmp(&other.download.file));
    Ok(found)
}

/// Removes what has come of downloads that were cut off, and that somebody means who names these, or whose content is one of
/// `hashes`. Answers which.
pub(crate) fn cancel(home: &Home, which: &str, hashes: &[&str]) -> io::Result<Vec<Begun>> {
    let is_meant = |download: &Download| download.is_meant(which) || download.hash.as_deref().is_some_and(|hash| hashes.contains(&hash));
    let cut: Vec<Begun> = begun(home)?.into_iter().filter(|begun| !begun.is_running && is_meant(&begun.download)).collect();
    let mut gone = Vec::new();
    for begun in cut {
        // Since it was looked at somebody may go on with it, or may have begun another one into the same file.
        let Some(mut note) = hold(&begun.note)? else { continue };
        let mut text = Vec::new();
        note.read_to_end(&mut text)?;
        if serde_json::from_slice(&text).ok().as_ref() != Some(&begun.download) {
            continue;
        }
        remove_parts(&begun.download.file)?;
        fs::remove_file(&begun.note)?;
        gone.push(begun);
    }
    Ok(gone)
}

fn folder(home: &Home) -> PathBuf {
    home.of_persona().folder().join("downloads")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let temp = tempfile::tempdir().expect("a folder");
        let home = Home::new(&temp.path().join("home")).expect("a home");
        (temp, home)
    }

    fn target(path: &str) -> Target {
        path.parse().expect("a path")
    }

    #[test]
    fn one_that_ended_in_the_middle_is_cut_off_and_one_that_goes_on_is_not() {
        let (temp, home) = home();
        let file = temp.path().join("film.mp4");
        assert!(begun(&home).expect("reads").is_empty());
        let mut note = Note::begin(&home, &target("@alice/film"), None, &file).expect("free").expect("written");
        assert!(begun(&home).expect("reads").is_empty(), "nothing of it is there");
        fs::write(&parts_of(&file)[0], b"some").expect("written");
        note.say(Some("abc"), Some(10)).expect("written");
        let shown = begun(&home).expect("reads");
        assert_eq!(shown.iter().map(|begun| (begun.bytes_here, begun.is_running)).collect::<Vec<_>>(), [(4, true)]);
        assert!(Note::begin(&home, &target("/other"), None, &file).is_err(), "two would mix what they write");
        assert!(cancel(&home, "@alice/film", &[]).expect("looks").is_empty(), "it goes on");
        drop(note);
        let shown = begun(&home).expect("reads").remove(0);
        assert_eq!((shown.is_running, shown.download.hash.as_deref(), shown.download.bytes_total), (false, Some("abc"), Some(10)));
        assert!(shown.download.again(&home).ends_with(&format!("get /@alice/film -o {}", quoted(&file))), "{}", shown.download.again(&home));
        // It goes on to its end.
        let note = Note::begin(&home, &target("@alice/film"), None, &file).expect("free").expect("written");
        note.forget();
        assert!(begun(&home).expect("reads").is_empty());
    }

    #[test]
    fn a_lock_on_a_note_that_was_taken_away_keeps_nobody_out() {
        let (temp, _) = home();
        let path = temp.path().join("note");
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).expect("opens");
        let before = open();
        fs::remove_file(&path).expect("it is there");
        assert!(hold_opened(&path, before).expect("locks").is_none(), "it is gone");
        let before = open();
        fs::remove_file(&path).expect("it is there");
        let held = hold(&path).expect("opens").expect("free");
        assert!(hold_opened(&path, before).expect("locks").is_none(), "another one has its name");
        assert!(hold(&path).expect("opens").is_none(), "somebody holds it");
        drop(held);
        assert!(hold(&path).expect("opens").is_some());
    }

    /// As when a program gets files, and another one cancels them, again and again.
    #[test]
    fn two_never_download_into_the_same_file() {
        let (temp, home) = home();
        let file = temp.path().join("film.mp4");
        let (inside, begun_at_all) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for at in 0..4 {
                let (home, file, inside, begun_at_all) = (&home, &file, &inside, &begun_at_all);
                scope.spawn(move || {
                    for _ in 0..100 {
                        if at == 3 {
                            cancel(home, "/", &[]).expect("looks");
                            continue;
                        }
                        let Ok(Some(note)) = Note::begin(home, &target("/film"), None, file) else { continue };
                        assert_eq!(inside.fetch_add(1, order), 0, "another one downloads into it");
                        fs::write(&parts_of(file)[0], b"some").expect("room");
                        std::thread::yield_now();
                        assert!(parts_of(file)[0].exists(), "nobody takes away what comes");
                        begun_at_all.fetch_add(1, order);
                        inside.fetch_sub(1, order);
                        if at == 0 { drop(note) } else { note.forget() }
                    }
                });
            }
        });
        assert!(begun_at_all.load(order) > 0);
    }

    #[test]
    fn what_is_cancelled_leaves_nothing_and_others_stay() {
        let (temp, home) = home();
        let cut_off = |path: &str, name: &str, hash: &str| {
            let file = temp.path().join(name);
            let mut note = Note::begin(&home, &target(path), None, &file).expect("free").expect("written");
            note.say(Some(hash), None).expect("written");
            for part in parts_of(&file) {
                fs::write(part, b"some").expect("written");
            }
            file
        };
        let files = [("@alice/film", "1", "a"), ("@alice/films/2", "2", "b"), ("/films/3", "3", "c"), ("/x", "4", "d")]
            .map(|(path, name, hash)| cut_off(path, name, hash));
        let is_there = || files.each_ref().map(|file| parts_of(file).iter().any(|part| part.exists()));
        for (which, hashes, left) in [
            ("/@alice/film/", &[][..], [false, true, true, true]),
            ("@alice", &[], [false, false, true, true]),
            ("/elsewhere", &["c"], [false, false, false, true]),
            ("d", &[], [false; 4]),
        ] {
            assert_eq!(cancel(&home, which, hashes).expect("removes").len(), 1, "{which}");
            assert_eq!(is_there(), left, "{which}");
        }
        assert!(begun(&home).expect("reads").is_empty());
        // What somebody removed by hand is forgotten.
        let file = cut_off("/x", "5", "e");
        fs::remove_file(&parts_of(&file)[0]).expect("it is there");
        assert!(begun(&home).expect("reads").is_empty() && fs::read_dir(folder(&home)).expect("a folder").next().is_none());
    }
}
