//! Files of any size: what goes in comes out, in parts, after cuts and crashes, checked, and never run by a browser.

mod kept;
mod media;
mod named;
mod served;
mod uploads;

use std::process::{Command, Stdio};

use crate::peer::{Home, PROGRAM, Peer};

/// Bytes that no two stretches of are alike.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

const BINARY: (&str, &str) = ("Content-Type", "application/octet-stream");

fn put(peer: &Peer, path: &str, bytes: &[u8]) {
    let answer = peer.send("PUT", path, &[BINARY], bytes);
    assert_eq!(answer.status, 200, "PUT {path}: {}", answer.text());
}

fn run(home: &Home, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(PROGRAM).arg("--home").arg(home.folder()).args(args).env_remove("TIMEBUS_HOME").stdin(Stdio::null()).output();
    let output = output.expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The files with content below the folder of the blobs, without those that are empty.
fn files(home: &Home) -> Vec<std::path::PathBuf> {
    fn walk(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => walk(&entry.path(), found),
                _ => found.push(entry.path()),
            }
        }
    }
    let mut found = Vec::new();
    walk(&home.folder().join("blobs"), &mut found);
    // When it was looked last for what may be removed: it is of no blob.
    found.retain(|path| !path.ends_with("blobs/looked"));
    found.retain(|path| path.metadata().is_ok_and(|about| about.len() > 0));
    found.sort();
    found
}
