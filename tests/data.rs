//! Data that nobody here wrote, read from beside the project.

use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value;

/// A file of the shared test data, unpacked if its name ends in `.gz`; `None`, said aloud, where that is not
/// installed.
pub(crate) fn file(name: &str) -> Option<Vec<u8>> {
    let root = match std::env::var_os("TIMEBUS_DATA") {
        Some(root) => PathBuf::from(root),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    let Ok(bytes) = std::fs::read(root.join(name)) else {
        eprintln!("skipped: no data ({name})");
        return None;
    };
    if !name.ends_with(".gz") {
        return Some(bytes);
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).expect("a whole gzip file");
    Some(unpacked)
}

/// The files of a `.tar.gz` as path and content, sorted.
pub(crate) fn archive(name: &str) -> Option<Vec<(String, Vec<u8>)>> {
    let unpacked = file(name)?;
    let mut files = Vec::new();
    for entry in tar::Archive::new(&unpacked[..]).entries().expect("a tar archive") {
        let mut entry = entry.expect("a whole entry");
        if entry.header().entry_type().is_file() {
            let path = entry.path().expect("a path").display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("its content");
            files.push((path.trim_start_matches("./").to_owned(), content));
        }
    }
    files.sort();
    Some(files)
}

/// The lines of a file, each as JSON.
pub(crate) fn lines(name: &str) -> Option<Vec<Value>> {
    let bytes = file(name)?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Some(lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect())
}

/// Whether two values are the same, however their numbers are written: 1.0 is 1.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other)),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}
