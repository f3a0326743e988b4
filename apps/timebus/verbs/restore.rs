//! restore: a home from a backup.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use timebus_net::apps::manifest::is_name;
use timebus_net::backup::{FILES, FOLDERS};
use timebus_net::node::book::Book;
use timebus_net::personas::FOLDER as PERSONAS;

use crate::Context;
use crate::cli::Restore;
use crate::client::{Request, Session};
use crate::failure::Failure;
use crate::folder::is_standard;
use crate::peer::try_lock;
use crate::progress::Progress;
use crate::value::{counted, number, text};
use crate::verbs::backup::TAR_END_BYTES;

/// Headers and files of a tar file begin at multiples of this.
const TAR_BLOCK_BYTES: u64 = 512;

/// What is known of other peers.
const PEERS: &str = "peers.json";

/// Where a backup is unpacked before it becomes the home.
const ASIDE: &str = "restoring";

pub(crate) async fn run(context: &Context, args: Restore) -> anyhow::Result<()> {
    let home = context.home.folder().to_owned();
    let taken =
        || Failure::refused(format!("{} is somebody's home already", home.display())).fix("restore into another one: timebus restore --home DIR");
    if context.home.exists() || home.join("log").exists() {
        return Err(taken().into());
    }
    let (input, total): (Box<dyn Read + Send>, Option<u64>) = match args.file.as_deref().filter(|file| !is_standard(file)) {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
            let total = file.metadata().map(|metadata| metadata.len()).ok();
            (Box::new(file), total)
        }
        None if io::stdin().is_terminal() => {
            return Err(Failure::usage("where is the backup?").fix("timebus restore < timebus.tar").into());
        }
        None => (Box::new(io::stdin()), None),
    };
    let lock = try_lock(&context.home)?.ok_or_else(taken)?;
    let aside = home.join(ASIDE);
    let _ = fs::remove_dir_all(&aside);
    let progress = Progress::bytes(context.out, "restoring", total);
    let unpacked = unpack(input, &aside, &progress).and_then(|()| move_in(&aside, &home));
    progress.done();
    if let Err(error) = unpacked {
        let _ = fs::remove_dir_all(&aside);
        return Err(error);
    }
    drop(lock);
    // Opening makes the index, and the device key that this home writes with.
    let mut session = Session::open(context, crate::client::Home::MustExist).await?;
    let mut client = session.connect().await?;
    let status = client.json(Request::get("/.sys/status")).await?;
    let part = |name| text(&status, name).unwrap_or("?").to_owned();
    let changes = number(&status, "changes").unwrap_or(0);
    for note in super::status::notes(&status) {
        // That the index is new is no news here.
        if !note.contains("anew") {
            context.out.note(format!("note      {note}"));
        }
    }
    drop(client);
    session.close().await;
    // What others granted, they granted to the key of the device that the backup is of.
    if Book::load(&home.join(PEERS)).is_ok_and(|book| !book.following.is_empty()) {
        context.out.note("note      for others, communities among them, this is a new device of yours: the one that the backup is of");
        context.out.note("          gives it its rights when both run; if that one is gone, friends do when `timebus rotate --without` says so");
        context
            .out
            .note("          (`timebus devices` tells its name); if they do not hold your space, and in communities, ask them for new invites");
    }
    let json = json!({"id": part("id"), "name": part("name"), "device": part("device"), "changes": changes, "home": home.display().to_string()});
    context.out.result(&json, || {
        format!("restored  {} in {}\nyou are   {}   ({})", counted(changes as usize, "change"), home.display(), part("name"), part("id"))
    })
}

fn cut_short() -> Failure {
    Failure::refused("the backup is cut short; nothing was restored").fix("copy the backup again, or use another one")
}

/// Unpacks what a backup has, and nothing else.
fn unpack(input: Box<dyn Read + Send>, aside: &Path, progress: &Progress) -> anyhow::Result<()> {
    let ended = Cell::new(false);
    let mut input = Tail { inner: input, bytes: 0, ended: &ended, progress };
    let mut archive = tar::Archive::new(&mut input);
    let not_ours = || Failure::refused("this is not a backup of timebus; nothing was restored").fix("`timebus backup > timebus.tar` makes one");
    let broken = |error: io::Error| match ended.get() {
        true => anyhow::Error::from(cut_short()),
        false => not_ours().detail(error).into(),
    };
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true).mode(0o700);
    let mut has_keys = false;
    // Where the last file ends.
    let mut end = 0;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        end = (entry.raw_file_position() + entry.header().entry_size().map_err(broken)?).next_multiple_of(TAR_BLOCK_BYTES);
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = entry.path().map_err(broken)?.into_owned();
        let place = place(&name).filter(|_| entry.header().entry_type().is_file()).ok_or_else(not_ours)?;
        has_keys |= place.starts_with("keys");
        let path = aside.join(place);
        let failed = || format!("could not write {}", path.display());
        folder.create(path.parent().unwrap_or(aside)).with_context(failed)?;
        let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).with_context(failed)?;
        io::copy(&mut entry, &mut file).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => anyhow::Error::from(error).context(failed()),
            _ => broken(error),
        })?;
        file.sync_all().with_context(failed)?;
    }
    io::copy(&mut input, &mut io::sink()).map_err(broken)?;
    if input.bytes < end + TAR_END_BYTES as u64 {
        return Err(cut_short().into());
    }
    match has_keys {
        true => Ok(()),
        false => Err(not_ours().into()),
    }
}

/// Where a file of a backup belongs: right below one of its folders, in a folder of `blobs`, among the parts there, or one of the files beside them;
/// or there in the home of a persona.
fn place(name: &Path) -> Option<PathBuf> {
    let parts: Vec<&str> = name
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| if let Component::Normal(part) = part { part.to_str() } else { None })
        .collect::<Option<_>>()?;
    match parts[..] {
        [folder, file] if (["keys", "log"].contains(&folder) || FOLDERS.contains(&folder)) && !file.starts_with('.') => {
            Some(Path::new(folder).join(file))
        }
        ["blobs", folder, file] if folder.len() == 2 && file.starts_with(folder) && !file.starts_with('.') => {
            Some(Path::new("blobs").join(folder).join(file))
        }
        ["blobs", "part", file] if is_part(file) => Some(Path::new("blobs/part").join(file)),
        [file] if file == PEERS || FILES.contains(&file) => Some(file.into()),
        [PERSONAS, name, _, ..] if is_name(name) && !parts[2..].contains(&PERSONAS) => {
            place(&parts[2..].iter().collect::<PathBuf>()).map(|below| Path::new(PERSONAS).join(name).join(below))
        }
        _ => None,
    }
}

/// Whether a file is one of those of what is left of a damaged file.
fn is_part(file: &str) -> bool {
    let hash = [".tree", ".have"].iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file);
    timebus_store::blobs::BlobHash::parse(hash).is_some()
}

/// Gives what was unpacked its names. The keys come last: with them the home is one.
fn move_in(aside: &Path, home: &Path) -> anyhow::Result<()> {
    let failed = || format!("could not write to {}", home.display());
    for folder in ["blobs", "log"].into_iter().chain(FOLDERS).chain(FILES).chain([PEERS, PERSONAS, "keys"]) {
        let from = aside.join(folder);
        if from.exists() {
            File::open(&from).and_then(|folder| folder.sync_all()).with_context(failed)?;
            fs::rename(&from, home.join(folder)).with_context(failed)?;
            File::open(home).and_then(|home| home.sync_all()).with_context(failed)?;
        }
    }
    let _ = fs::remove_dir(aside);
    Ok(())
}

/// A reader that knows how much it has read, and whether that was all.
struct Tail<'a> {
    inner: Box<dyn Read + Send>,
    bytes: u64,
    ended: &'a Cell<bool>,
    progress: &'a Progress,
}

impl Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.ended.set(count == 0 && !buffer.is_empty());
        self.bytes += count as u64;
        self.progress.add(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, content.as_bytes()).expect("memory");
        }
        builder.into_inner().expect("memory")
    }

    fn restored(bytes: Vec<u8>) -> (tempfile::TempDir, anyhow::Result<()>) {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let progress = Progress::bytes(Output { json: true }, "test", None);
        let result = unpack(Box::new(io::Cursor::new(bytes)), &temp.path().join("x"), &progress);
        (temp, result)
    }

    #[test]
    fn unpacks_keys_and_log() {
        use std::os::unix::fs::MetadataExt as _;
        let blob = ("blobs/yb/ybndrfg8.tree", "blob");
        let app = ("personas/other/apps/4ccim3w1", "app");
        let (temp, result) = restored(archive(&[("keys/space", "abc"), ("./log/00000001.log", "log"), blob, ("limits.json", "{}"), app]));
        result.expect("a good backup");
        for (name, content) in [("limits.json", "{}"), app] {
            assert_eq!(fs::read(temp.path().join("x").join(name)).expect(name), content.as_bytes());
        }
        let file = temp.path().join("x/keys/space");
        assert_eq!(fs::read(&file).expect("a file"), b"abc");
        assert_eq!(file.metadata().expect("a file").mode() & 0o7777, 0o600);
        assert!(temp.path().join("x/log/00000001.log").exists());
        assert!(temp.path().join("x").join(blob.0).exists());
    }

    #[test]
    fn refuses_what_lies_elsewhere() {
        let names = [
            "../a",
            "/keys/a",
            "keys/../a",
            "keys/a/b",
            "other/a",
            "folders/a.jsonl",
            "run.json",
            "limits.json/a",
            "keys/.a",
            "a",
            "blobs/a",
            "blobs/../ab",
            "blobs/ab/xy",
            "blobs/a/b/c",
            "blobs/part/a",
            "blobs/part/../ab",
            "personas/a",
            "personas/../keys/a",
            "personas/A/keys/a",
            "personas/a/personas/b/keys/c",
            "personas/a/../keys/a",
        ];
        for name in names {
            let (_temp, result) = restored(archive(&[("keys/space", "abc"), (name, "x")]));
            assert!(result.is_err(), "{name}");
        }
    }

    #[test]
    fn refuses_a_backup_cut_anywhere() {
        let whole = archive(&[("keys/space", "abc"), ("log/00000001.log", "log")]);
        for len in (0..whole.len()).step_by(61).chain([512, 1024, 1536, 2048, 2560, whole.len() - 1]) {
            let (_temp, result) = restored(whole[..len].to_vec());
            assert!(result.is_err(), "{len} of {} bytes", whole.len());
        }
    }
}
