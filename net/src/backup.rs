//! A consistent copy of a running store, of what the peer knows of others, and of what its owner decided here.
//!
//! Deliberately not: what a live folder remembers of the disk. On another machine the folder may be empty, and with that
//! memory it would look as if all its files had been deleted; without it both sides are brought together again. Nor the
//! tables, which are made from the log, nor what tells where a peer runs.

use std::io::Read as _;

use http::{HeaderValue, Response, header};
use timebus_store::log::Place;
use timebus_store::store::{StorageError, Store};

use crate::body::Body;
use crate::node::book::Book;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::read::produce;
use crate::route::{storage_problem, write_problem};

/// What is kept beside the store in small files that are replaced as a whole.
pub const FILES: [&str; 8] =
    ["apps.json", "blocked.json", "files.json", "followed.json", "indexes.json", "limits.json", "outbox.json", "pretended.json"];

/// Folders whose files are small, beside `keys`, `log` and `blobs`: apps as they were installed, notices left here, invites.
pub const FOLDERS: [&str; 3] = ["apps", "inbox", "invites"];

/// The header that says of how many files of the own space the copy has less than all bytes.
pub const LACKING: &str = "timebus-files-lacking";

const BLOCK: usize = 512;
const CHUNK_BYTES: usize = 256 * 1024;

/// Streams a tar file of the keys, of what is known of other peers, of what was installed and decided here, of the log as it
/// is at one moment, and of the blobs; and of the same of each persona.
pub(crate) async fn stream(peer: &Peer) -> Result<Response<Body>, Problem> {
    let mut homes = Vec::new();
    let personas = peer.all_personas().into_iter().map(|(name, persona)| (format!("{}/{name}", crate::personas::FOLDER), persona));
    for (folder, peer) in std::iter::once((String::new(), peer.clone())).chain(personas) {
        let end = peer.store().fence().await.map_err(|error| write_problem(&error))?;
        homes.push((folder, peer.store().clone(), end));
    }
    let stores: Vec<Store> = homes.iter().map(|(_, store, _)| store.clone()).collect();
    let lacking = crate::blobs::beside(move || stores.iter().map(lacking).sum::<Result<usize, _>>()).await?;
    let lacking = lacking.map_err(|error| storage_problem(&error))?;
    let body = produce(move |send| {
        for (folder, store, end) in homes {
            match write_home(&folder, &store, end, send) {
                Ok(true) => {}
                Ok(false) => return,
                // A tar file without its end is noticed by whoever reads it.
                Err(error) => return tracing::error!(%error, "a backup was cut short"),
            }
        }
        send(vec![0; 2 * BLOCK]);
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(LACKING, HeaderValue::from(lacking));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"timebus.tar\""));
    Ok(response)
}

/// Writes what a home has, below a folder. Says whether more is wanted.
fn write_home(folder: &str, store: &Store, end: Place, send: &mut dyn FnMut(Vec<u8>) -> bool) -> std::io::Result<bool> {
    let home = store.home();
    let mut files: Vec<(String, std::path::PathBuf, Option<u64>)> = Vec::new();
    for entry in std::fs::read_dir(home.join("keys"))? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.'))
            && entry.file_type()?.is_file()
        {
            files.push((format!("keys/{name}"), entry.path(), None));
        }
    }
    files.sort();
    for segment in store.log().segments()?.into_iter().filter(|segment| *segment <= end.segment) {
        let name = format!("{segment:08}.log");
        let len = (segment == end.segment).then_some(end.offset);
        files.push((format!("log/{name}"), home.join("log").join(&name), len));
    }
    let mut small = Vec::new();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(home.join(folder)).into_iter().flatten() {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str().filter(|name| is_settled(name))
                && entry.file_type()?.is_file()
                && let Some(bytes) = read(&entry.path())?
            {
                small.push((format!("{folder}/{name}"), bytes));
            }
        }
    }
    for name in FILES {
        small.extend(read(&home.join(name))?.map(|bytes| (name.to_owned(), bytes)));
    }
    small.sort();
    // How far other logs were read is forgotten: it may be further than the copy of our own log is.
    let mut book = Book::load(&home.join("peers.json")).map_err(std::io::Error::other)?;
    book.forget_cursors();
    if book != Book::default() {
        small.push(("peers.json".to_owned(), serde_json::to_vec_pretty(&book)?));
    }
    for (name, bytes) in small {
        let padding = (BLOCK - bytes.len() % BLOCK) % BLOCK;
        if !send(tar_header(folder, &name, bytes.len() as u64)) || !send(bytes) || !send(vec![0; padding]) {
            return Ok(false);
        }
    }
    for (name, path, len) in files {
        let file = std::fs::File::open(&path)?;
        if !write_file(folder, &name, file, len, send)? {
            return Ok(false);
        }
    }
    let blobs = store.blobs().map_or_else(|| Ok(Vec::new()), |blobs| blobs.list())?;
    for (hash, _) in blobs {
        for (name, file) in store.blobs().map_or_else(|| Ok(Vec::new()), |blobs| blobs.files_of(&hash))? {
            if !write_file(folder, &format!("blobs/{name}"), file, None, send)? {
                return Ok(false);
            }
        }
    }
    // What is left of a file of the owner's that was damaged may be all that there is of it.
    let parts = store.blobs().map_or_else(|| Ok(Vec::new()), |blobs| blobs.partials())?;
    for (hash, _) in parts {
        let Some(part) = store.blobs().map_or(Ok(None), |blobs| blobs.own_part_of(&hash))? else { continue };
        let (name, have) = part.have;
        let padding = (BLOCK - have.len() % BLOCK) % BLOCK;
        if !send(tar_header(folder, &format!("blobs/{name}"), have.len() as u64)) || !send(have) || !send(vec![0; padding]) {
            return Ok(false);
        }
        for (name, file) in part.files {
            if !write_file(folder, &format!("blobs/{name}"), file, None, send)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// How many files that the own space names are not whole here.
fn lacking(store: &Store) -> Result<usize, StorageError> {
    let Some(blobs) = store.blobs() else { return Ok(0) };
    let named = store.named_blobs(&store.snapshot(), &store.space())?;
    Ok(named.iter().filter(|hash| blobs.len_of(hash).is_none()).count())
}

/// Whether a file is what its name says, and not one that is being written.
fn is_settled(name: &str) -> bool {
    !name.starts_with('.') && !name.ends_with(".new")
}

/// What is in a small file, unless it is gone: apps and invites go while others are copied.
fn read(file: &std::path::Path) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says whether more is wanted.
fn write_file(folder: &str, name: &str, file: std::fs::File, len: Option<u64>, send: &mut dyn FnMut(Vec<u8>) -> bool) -> std::io::Result<bool> {
    let len = match len {
        Some(len) => len,
        None => file.metadata()?.len(),
    };
    if !send(tar_header(folder, name, len)) {
        return Ok(false);
    }
    let mut left = len;
    let mut file = file.take(len);
    while left > 0 {
        let mut chunk = vec![0; CHUNK_BYTES.min(left as usize)];
        file.read_exact(&mut chunk)?;
        left -= chunk.len() as u64;
        if !send(chunk) {
            return Ok(false);
        }
    }
    Ok(send(vec![0; (BLOCK - (len % BLOCK as u64) as usize) % BLOCK]))
}

/// The header of a file in a tar archive (POSIX ustar; of one from 8 GiB on, with the GNU form of its length).
fn tar_header(folder: &str, name: &str, len: u64) -> Vec<u8> {
    let mut block = vec![0u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if len < 1 << 33 {
        put(124, format!("{len:011o}\0").as_bytes());
    } else {
        // What eleven octal digits cannot say, tar programs read in binary behind a set bit.
        put(124, &[0x80]);
        put(128, &len.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    // What the name alone has no room for.
    put(345, &folder.as_bytes()[..folder.len().min(155)]);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
