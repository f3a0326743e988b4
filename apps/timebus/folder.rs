//! Folders of files: reading them for an import, and how an export lays a tree out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use base64::Engine as _;
use timebus_store::blobs::BlobHash;

use crate::pieces::is_name;
use crate::value::{Json, number, pretty, text};

/// A file, or a folder with nothing in it.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// Names below the folder that was read.
    pub(crate) names: Vec<String>,
    pub(crate) is_folder: bool,
    pub(crate) bytes: u64,
    /// Nanoseconds since 1970, to tell whether it is still the same.
    pub(crate) modified: u128,
}

/// What is in a folder, in the order of names, and what cannot be brought in with the reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    pub(crate) skipped: Vec<String>,
}

/// Refuses a path that leads through a link, which a stranger may use to write where he was not let in: `path` is below `root`,
/// and whatever `root` is itself is the owner's choice.
pub(crate) fn through_no_link(root: &Path, path: &Path) -> io::Result<()> {
    let below = path.parent().and_then(|folder| folder.strip_prefix(root).ok()).unwrap_or(Path::new(""));
    let mut at = root.to_owned();
    for part in below.components() {
        at.push(part);
        if fs::symlink_metadata(&at).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(io::Error::other(format!("{} is a link, and nothing is written or read behind links", at.display())));
        }
    }
    Ok(())
}

/// Lists a folder and everything below. Links are not followed.
pub(crate) fn list(folder: &Path) -> anyhow::Result<Listing> {
    let mut listing = Listing::default();
    list_into(folder, &[], &mut listing)?;
    Ok(listing)
}

fn list_into(folder: &Path, names: &[String], listing: &mut Listing) -> anyhow::Result<()> {
    let failed = || format!("could not read {}", folder.display());
    let mut found: Vec<fs::DirEntry> = fs::read_dir(folder).with_context(failed)?.collect::<io::Result<_>>().with_context(failed)?;
    found.sort_by_key(fs::DirEntry::file_name);
    for entry in &found {
        let path = entry.path();
        let metadata = entry.metadata().with_context(|| format!("could not read {}", path.display()))?;
        let mut skip = |reason: &str| listing.skipped.push(format!("{} ({reason})", path.display()));
        let Ok(name) = entry.file_name().into_string() else {
            skip("its name is not UTF-8");
            continue;
        };
        if !is_name(&name) {
            skip("its name cannot be part of a path");
            continue;
        }
        let names: Vec<String> = names.iter().cloned().chain([name]).collect();
        if metadata.is_dir() {
            let before = listing.entries.len();
            list_into(&path, &names, listing)?;
            if listing.entries.len() > before {
                continue;
            }
        } else if !metadata.is_file() {
            skip(if metadata.is_symlink() { "a link" } else { "not a file" });
            continue;
        }
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        listing.entries.push(Entry {
            path,
            names,
            is_folder: metadata.is_dir(),
            bytes: if metadata.is_dir() { 0 } else { metadata.len() },
            modified: modified.map_or(0, |time| time.as_nanos()),
        });
    }
    Ok(())
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Laid {
    Folder(PathBuf),
    File(PathBuf, Vec<u8>),
    /// A file whose bytes are at this path below the exported one, with its hash and length where these are known.
    Fetch(PathBuf, Vec<String>, Option<(BlobHash, u64)>),
}

/// Longest name of a file.
const FILE_NAME_BYTES_MAX: usize = 255;

/// A tree as files.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) laid: Vec<Laid>,
    /// Names that begin with a dot, which few programs show: whoever wrote there may have put something where other programs look.
    pub(crate) hidden: Vec<String>,
    /// What has no place, with the reason.
    pub(crate) skipped: Vec<String>,
}

/// Lays a tree out as files below `folder`, and never anywhere else. A value without parts has no place in a folder, nor has an object
/// with names that are no files', as `..` or `/etc/passwd`: it was written as one value, by anybody who may write there.
pub(crate) fn lay_out(json: &Json, folder: &Path) -> Option<Layout> {
    let Json::Object(members) = json else { return None };
    if !members.keys().all(|name| is_name(name)) {
        return None;
    }
    let mut out = Layout { laid: vec![Laid::Folder(folder.to_owned())], ..Layout::default() };
    lay_members(members, folder, &[], &mut out);
    Some(out)
}

fn lay_members(members: &BTreeMap<String, Json>, folder: &Path, names: &[String], layout: &mut Layout) {
    for (name, value) in members {
        let at = folder.join(name);
        let names: Vec<String> = names.iter().cloned().chain([name.clone()]).collect();
        if name.len() > FILE_NAME_BYTES_MAX - ".json".len() {
            layout.skipped.push(format!("/{} (its name is too long for a file)", names.join("/")));
            continue;
        }
        if name.starts_with('.') {
            layout.hidden.push(format!("/{}", names.join("/")));
        }
        let out = &mut layout.laid;
        let is_json = name.ends_with(".json");
        if let Some(bytes) = inline_bytes(value) {
            out.push(Laid::File(at, bytes));
        } else if let Some(hash) = text(value, "@blob") {
            out.push(Laid::Fetch(at, names, BlobHash::parse(hash).zip(number(value, "@bytes_total"))));
        } else if is_json && matches!(value, Json::String(_)) {
            // A text that is not JSON, or a JSON string? The peer knows its media type.
            out.push(Laid::Fetch(at, names, None));
        } else if is_json {
            out.push(Laid::File(at, json_file(value)));
        } else if let Json::String(text) = value {
            out.push(Laid::File(at, text.clone().into_bytes()));
        } else if let Json::Object(below) = value
            && below.keys().all(|name| is_name(name))
        {
            out.push(Laid::Folder(at.clone()));
            lay_members(below, &at, &names, layout);
        } else {
            let mut file = format!("{name}.json");
            while members.contains_key(&file) {
                file.push_str(".json");
            }
            out.push(Laid::File(folder.join(file), json_file(value)));
        }
    }
}

/// The content of a JSON file.
pub(crate) fn json_file(json: &Json) -> Vec<u8> {
    let mut text = pretty(json);
    text.push('\n');
    text.into_bytes()
}

/// The bytes of a small file, which JSON shows in base64.
fn inline_bytes(json: &Json) -> Option<Vec<u8>> {
    let Json::Object(members) = json else { return None };
    if members.len() != 2 {
        return None;
    }
    text(json, "@type")?;
    base64::engine::general_purpose::STANDARD.decode(text(json, "@bytes")?).ok()
}

/// Writes a file unless it is right already; says whether it wrote. After a crash the file is the old one or the
/// new one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    let failed = || format!("could not write {}", path.display());
    let is_right = fs::metadata(path).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) && fs::read(path).is_ok_and(|old| old == bytes);
    if is_right {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".timebus").tempfile_in(folder).with_context(failed)?;
    file.write_all(bytes).with_context(failed)?;
    persist(file, path)?;
    Ok(true)
}

/// Whether a file is there that has this content. What is behind a link is none of it.
pub(crate) fn has_content(path: &Path, hash: &BlobHash, len: u64) -> bool {
    let is_as_long = fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.len() == len);
    let hashed = || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path)?)?;
        io::Result::Ok(hasher.finalize())
    };
    is_as_long && hashed().is_ok_and(|found| found.as_bytes() == hash.as_bytes())
}

/// Whether a file is named that is none, but where a program reads from or writes to.
pub(crate) fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Where bytes go as they come: standard output, a device, a pipe. Nothing may take the place of one of these, as a finished
/// file takes the place of the one before. `None` for a file or folder, or if there is nothing.
pub(crate) fn outlet(path: &Path) -> anyhow::Result<Option<Box<dyn Write + Send>>> {
    if is_standard(path) {
        return Ok(Some(Box::new(io::stdout())));
    }
    if fs::metadata(path).map_or(true, |about| about.is_file() || about.is_dir()) {
        return Ok(None);
    }
    let place = fs::OpenOptions::new().write(true).open(path).with_context(|| format!("could not write {}", path.display()))?;
    Ok(Some(Box::new(place)))
}

/// A file that takes its name when it is finished, or an outlet.
pub(crate) enum Written {
    Outlet(Box<dyn Write + Send>),
    Beside(tempfile::NamedTempFile, PathBuf),
}

impl Written {
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Self> {
        if let Some(outlet) = outlet(path)? {
            return Ok(Self::Outlet(outlet));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".timebus").tempfile_in(folder);
        Ok(Self::Beside(file.with_context(|| format!("could not write {}", path.display()))?, path.to_owned()))
    }

    /// What is secret stays for its owner alone.
    pub(crate) fn finish(self, is_secret: bool) -> anyhow::Result<()> {
        match self {
            Self::Outlet(mut outlet) => Ok(outlet.flush()?),
            Self::Beside(file, path) => {
                file.as_file().sync_all()?;
                if is_secret {
                    file.persist(&path).map_err(|error| error.error).with_context(|| format!("could not write {}", path.display()))?;
                    return Ok(());
                }
                persist(file, &path)
            }
        }
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Outlet(outlet) => outlet.write(bytes),
            Self::Beside(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Outlet(outlet) => outlet.flush(),
            Self::Beside(file, _) => file.flush(),
        }
    }
}

/// Gives a finished file its name, and the rights that a new file would have.
pub(crate) fn persist(file: tempfile::NamedTempFile, path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = || format!("could not write {}", path.display());
    // Temporary files are for their owner alone.
    let mode = fs::metadata(path).map_or(0o644, |old| old.permissions().mode());
    file.as_file().set_permissions(fs::Permissions::from_mode(mode)).with_context(failed)?;
    file.persist(path).map_err(|error| error.error).with_context(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(text: &str) -> Vec<(String, Option<String>)> {
        let json = crate::value::parse(text.as_bytes()).expect("JSON");
        lay_out(&json, Path::new("x"))
            .expect("an object")
            .laid
            .into_iter()
            .map(|laid| match laid {
                Laid::Folder(path) => (path.display().to_string(), None),
                Laid::File(path, bytes) => (path.display().to_string(), Some(String::from_utf8_lossy(&bytes).into_owned())),
                Laid::Fetch(path, names, _) => (path.display().to_string(), Some(format!("<{}>", names.join("/")))),
            })
            .collect()
    }

    #[test]
    fn nothing_is_written_behind_a_link() {
        let home = tempfile::tempdir().expect("a folder");
        let root = home.path().join("root");
        fs::create_dir_all(root.join("real")).expect("a folder");
        std::os::unix::fs::symlink("..", root.join("link")).expect("a link");
        std::os::unix::fs::symlink(&root, home.path().join("chosen")).expect("a link");
        let is_refused = |root: &Path, path: &str| through_no_link(root, &root.join(path)).is_err();
        assert!(is_refused(&root, "link/x") && is_refused(&root, "link/deep/x"));
        for path in ["x", "real/x", "new/deep/x", "link"] {
            assert!(!is_refused(&root, path), "{path}");
        }
        assert!(!is_refused(&home.path().join("chosen"), "real/x"), "the folder itself may be one");
    }

    #[test]
    fn trees_become_folders() {
        let found = laid(
            r#"{"a":{"b.txt":"hi","c":{}},"d.json":{"e":1},"f":2,"f.json":3,"g":[1],"h":{"@bytes":"AAE=","@type":"x/y"},
                "i":{"a/b":1},"j.json":"x"}"#,
        );
        let expected = [
            ("x", None),
            ("x/a", None),
            ("x/a/b.txt", Some("hi")),
            ("x/a/c", None),
            ("x/d.json", Some("{\n  \"e\": 1\n}\n")),
            ("x/f.json.json", Some("2\n")),
            ("x/f.json", Some("3\n")),
            ("x/g.json", Some("[\n  1\n]\n")),
            ("x/h", Some("\0\u{1}")),
            ("x/i.json", Some("{\n  \"a/b\": 1\n}\n")),
            ("x/j.json", Some("<j.json>")),
        ];
        let expected: Vec<_> = expected.iter().map(|(path, text)| ((*path).to_owned(), text.map(str::to_owned))).collect();
        assert_eq!(found, expected);
    }

    /// Somebody who may write there would have files written anywhere on the disk of whoever exports it.
    #[test]
    fn no_name_leads_out_of_the_folder() {
        let lay = |text: &str| lay_out(&crate::value::parse(text.as_bytes()).expect("JSON"), Path::new("x"));
        for name in ["..", ".", "../y", "/tmp/y", "a/b", "", "a\\u0000b", "a\\nb"] {
            assert!(lay(&format!(r#"{{"{name}":"evil","ok":1}}"#)).is_none(), "{name}");
            let below = lay(&format!(r#"{{"in":{{"{name}":"evil"}}}}"#)).expect("an object");
            assert!(matches!(&below.laid[..], [_, Laid::File(path, _)] if path == Path::new("x/in.json")), "{name}: {:?}", below.laid);
        }
        let long = "n".repeat(FILE_NAME_BYTES_MAX);
        let layout = lay(&format!(r#"{{"a":{{".git":{{"config":"x"}},"b":1}},"{long}":1}}"#)).expect("an object");
        assert_eq!((layout.hidden, layout.skipped.len(), layout.laid.len()), (vec!["/a/.git".to_owned()], 1, 5));
    }

    #[test]
    fn lists_files_in_order_and_no_links() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let root = temp.path();
        fs::create_dir_all(root.join("b/empty")).expect("a folder");
        fs::write(root.join("b/z"), "1").expect("a file");
        fs::write(root.join("a"), "22").expect("a file");
        std::os::unix::fs::symlink("a", root.join("link")).expect("a link");
        let listing = list(root).expect("a good folder");
        let found: Vec<_> = listing.entries.iter().map(|entry| (entry.names.join("/"), entry.bytes)).collect();
        assert_eq!(found, [("a".to_owned(), 2), ("b/empty".to_owned(), 0), ("b/z".to_owned(), 1)]);
        assert_eq!(listing.skipped.len(), 1);
    }

    #[test]
    fn writes_only_what_differs() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("a");
        assert!(write(&path, b"1").expect("room"));
        assert!(!write(&path, b"1").expect("room"));
        assert!(write(&path, b"2").expect("room"));
        assert_eq!(fs::read(path).expect("a file"), b"2");
    }
}
