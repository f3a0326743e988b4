//! A consistent copy of a running store, and a check of everything in it.

use std::io::Read as _;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use timebus_store::blobs::BlobHash;
use timebus_store::change::{Body as ChangeBody, Change};
use timebus_store::keyspace::{Rows as _, Table};
use timebus_store::log::{Item, Place};
use timebus_store::store::Store;

use crate::body::Body;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::read::produce;
use crate::route::write_problem;

const BLOCK: usize = 512;
const CHUNK_BYTES: usize = 256 * 1024;

/// Streams a tar file of the keys, of the log as it is at one moment, and of the blobs.
pub(crate) async fn stream(peer: &Peer) -> Result<Response<Body>, Problem> {
    let store = peer.store().clone();
    let end = store.fence().await.map_err(|error| write_problem(&error))?;
    let body = produce(move |send| {
        if let Err(error) = write_tar(&store, end, send) {
            tracing::error!(%error, "a backup was cut short");
            // A tar file without its end is noticed by whoever reads it.
        }
    });
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"timebus.tar\""));
    Ok(response)
}

fn write_tar(store: &Store, end: Place, send: &mut dyn FnMut(Vec<u8>) -> bool) -> std::io::Result<()> {
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
    for (name, path, len) in files {
        let file = std::fs::File::open(&path)?;
        if !write_file(&name, file, len, send)? {
            return Ok(());
        }
    }
    let blobs = store.blobs().map_or_else(|| Ok(Vec::new()), |blobs| blobs.list())?;
    for (hash, _) in blobs {
        for (name, file) in store.blobs().map_or_else(|| Ok(Vec::new()), |blobs| blobs.files_of(&hash))? {
            if !write_file(&format!("blobs/{name}"), file, None, send)? {
                return Ok(());
            }
        }
    }
    send(vec![0; 2 * BLOCK]);
    Ok(())
}

/// Says whether more is wanted.
fn write_file(name: &str, file: std::fs::File, len: Option<u64>, send: &mut dyn FnMut(Vec<u8>) -> bool) -> std::io::Result<bool> {
    let len = match len {
        Some(len) => len,
        None => file.metadata()?.len(),
    };
    if !send(tar_header(name, len)) {
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
fn tar_header(name: &str, len: u64) -> Vec<u8> {
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
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Checks every record of the log: frame, hash, signature, and that the index knows it. Then every blob.
pub(crate) async fn fsck(peer: &Peer) -> Result<Response<Body>, Problem> {
    let store = peer.store().clone();
    let end = store.fence().await.map_err(|error| write_problem(&error))?;
    let report = tokio::task::spawn_blocking(move || check(&store, end)).await;
    match report {
        Ok(Ok(report)) => Ok(crate::sys::answer_json(&report)),
        Ok(Err(error)) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the check could not be finished", error.to_string())),
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the check failed", error.to_string())),
    }
}

fn check(store: &Store, end: Place) -> std::io::Result<serde_json::Value> {
    let rows = store.snapshot();
    let mut checked = 0u64;
    let mut problems = Vec::new();
    for item in store.log().walk(Place::START)? {
        match item? {
            Item::Damaged(damage) if damage.place < end => {
                problems.push(format!("{} bytes at {}:{} of the change log are damaged", damage.bytes, damage.place.segment, damage.place.offset));
            }
            Item::Damaged(_) => break,
            Item::Record(record) => {
                if record.place >= end {
                    break;
                }
                checked += 1;
                let at = format!("record {} at {}:{}", record.a, record.place.segment, record.place.offset);
                let Ok(signed) = Change::decode(&record.payload) else {
                    problems.push(format!("{at} is not a change"));
                    continue;
                };
                let id = signed.content().id();
                if ChangeBody::decode(signed.content().body_bytes()).is_err() {
                    problems.push(format!("{at}: the body of change {id} is not canonical, its ops have no effect"));
                }
                if signed.verify().is_err() {
                    problems.push(format!("{at}: the signature of change {id} is wrong"));
                }
                match rows.get(Table::Index, id.as_bytes()) {
                    Ok(Some(_)) => {}
                    Ok(None) => problems.push(format!("{at}: the index does not know change {id}; remove the folder `index` and start again")),
                    Err(error) => problems.push(format!("the index could not be read: {error}")),
                }
            }
        }
    }
    let blobs = check_blobs(store, &mut problems)?;
    Ok(json!({ "checked": checked, "blobs": blobs, "problems": problems, "repaired": [] }))
}

/// Reads every blob, and looks for those that the own space shows and that are not here. Answers how many are whole.
fn check_blobs(store: &Store, problems: &mut Vec<String>) -> std::io::Result<u64> {
    let Some(blobs) = store.blobs() else { return Ok(0) };
    let rows = store.snapshot();
    let named = |hash: &BlobHash| {
        let places = store.places_of(&rows, hash).unwrap_or_default();
        let paths: Vec<String> = places.iter().filter(|place| place.is_visible).map(|place| place.path.to_string()).collect();
        if paths.is_empty() { format!("the file {hash}, which nothing visible names,") } else { format!("the file at {}", paths.join(", ")) }
    };
    let mut whole = 0;
    for (hash, _) in blobs.list()? {
        let Some(blob) = blobs.open_blob(hash)? else { continue };
        match blob.check(&mut |_| {}) {
            Ok(()) => whole += 1,
            Err(error) => problems.push(format!("{} is damaged: {error}; put it again to mend it", named(&hash))),
        }
    }
    let named_by_own = store.named_blobs(&rows, &store.space()).map_err(std::io::Error::other)?;
    for hash in named_by_own {
        if blobs.len_of(&hash).is_none() {
            problems.push(format!("{} is missing; put it again, or take it from a backup", named(&hash)));
        }
    }
    Ok(whole)
}
