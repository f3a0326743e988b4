//! What others were given of files: how much of which, and to whom. It is counted over restarts, in `given.json`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::blobs::partial::PIECE_BYTES;
use tokio::time::Instant;

use crate::peer::lock;

/// Files and keys of which it is told apart what they were given; the least goes for a new one, and counts in all still.
const TOLD_MAX: usize = 10_000;
/// Files that are told of, those first of which most was given.
pub(crate) const FILES_TOLD_MAX: usize = 20;

/// What was given, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    /// Since when it is counted; Unix milliseconds.
    since_ms: u64,
    bytes: u64,
    /// By hash.
    #[serde(default)]
    files: BTreeMap<String, u64>,
    /// By the device key of who got it.
    #[serde(default)]
    to: BTreeMap<String, u64>,
}

/// What others were given of files.
#[derive(Debug)]
pub(crate) struct Given {
    file: PathBuf,
    counts: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since_ms: u64,
    bytes: u64,
    files: HashMap<BlobHash, u64>,
    to: HashMap<PublicKey, u64>,
    is_saved: bool,
}

impl Given {
    /// What a home remembers. What cannot be read begins anew.
    pub(crate) fn open(home: &Path, now_ms: u64) -> Self {
        let file = home.join("given.json");
        let counts: Counts = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, file = %file.display(), "what others were given is counted anew");
                Counts::default()
            }),
            Err(_) => Counts::default(),
        };
        let state = State {
            since_ms: if counts.since_ms == 0 { now_ms } else { counts.since_ms },
            bytes: counts.bytes,
            files: counts.files.iter().filter_map(|(hash, bytes)| Some((BlobHash::parse(hash)?, *bytes))).collect(),
            to: counts.to.iter().filter_map(|(key, bytes)| Some((key.parse().ok()?, *bytes))).collect(),
            is_saved: true,
        };
        Self { file, counts: Mutex::new(state) }
    }

    /// Counts bytes of a file that somebody was given.
    pub(crate) fn count(&self, hash: BlobHash, to: Option<PublicKey>, bytes: u64) {
        let mut state = lock(&self.counts);
        state.bytes += bytes;
        state.is_saved = false;
        add(&mut state.files, hash, bytes);
        if let Some(to) = to {
            add(&mut state.to, to, bytes);
        }
    }

    /// Bytes in all, and since when; Unix milliseconds.
    pub(crate) fn all(&self) -> (u64, u64) {
        let state = lock(&self.counts);
        (state.bytes, state.since_ms)
    }

    /// Bytes that were given of a file.
    pub(crate) fn of(&self, hash: &BlobHash) -> u64 {
        lock(&self.counts).files.get(hash).copied().unwrap_or(0)
    }

    /// The files of which most was given, with the bytes.
    pub(crate) fn most(&self) -> Vec<(BlobHash, u64)> {
        let mut files: Vec<(BlobHash, u64)> = lock(&self.counts).files.iter().map(|(hash, bytes)| (*hash, *bytes)).collect();
        files.sort_by_key(|(hash, bytes)| (std::cmp::Reverse(*bytes), *hash));
        files.truncate(FILES_TOLD_MAX);
        files
    }

    /// Bytes that each device was given.
    pub(crate) fn to(&self) -> Vec<(PublicKey, u64)> {
        lock(&self.counts).to.iter().map(|(key, bytes)| (*key, *bytes)).collect()
    }

    /// Writes it down, if there is something new.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn save(&self) -> io::Result<()> {
        let counts = {
            let mut state = lock(&self.counts);
            if std::mem::replace(&mut state.is_saved, true) {
                return Ok(());
            }
            Counts {
                since_ms: state.since_ms,
                bytes: state.bytes,
                files: state.files.iter().map(|(hash, bytes)| (hash.to_string(), *bytes)).collect(),
                to: state.to.iter().map(|(key, bytes)| (key.to_string(), *bytes)).collect(),
            }
        };
        crate::files::write_whole(&self.file, &serde_json::to_vec(&counts)?)
    }
}

/// Adds to one count; of too many the least goes.
fn add<K: Copy + Eq + Ord + std::hash::Hash>(counts: &mut HashMap<K, u64>, key: K, bytes: u64) {
    if counts.len() >= TOLD_MAX
        && !counts.contains_key(&key)
        && let Some(least) = counts.iter().min_by_key(|(key, bytes)| (**bytes, **key)).map(|(key, _)| *key)
    {
        counts.remove(&least);
    }
    *counts.entry(key).or_default() += bytes;
}

/// How fast bytes come or go at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    bytes: u64,
    since: Instant,
    per_s: u64,
}

/// After this time without anything it is said to be no faster than if one more piece came now.
const FADES_AFTER: Duration = Duration::from_secs(2);
/// After this time without anything it stands still; at the least speed that can be set a piece takes eight seconds.
const STILL_AFTER: Duration = Duration::from_secs(10);

impl Speed {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { bytes: 0, since: Instant::now(), per_s: 0 }
    }

    /// Counts bytes.
    pub(super) fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        let since = self.since.elapsed();
        if since > Duration::from_secs(1) {
            self.per_s = (self.bytes as f64 / since.as_secs_f64()) as u64;
            (self.bytes, self.since) = (0, Instant::now());
        }
    }

    /// Bytes a second.
    pub(super) fn now(&self) -> u64 {
        self.after(self.since.elapsed())
    }

    /// The same, so long after it was reckoned.
    fn after(&self, since: Duration) -> u64 {
        let at_most = ((self.bytes + PIECE_BYTES) as f64 / since.as_secs_f64().max(1.0)) as u64;
        match since {
            since if since >= STILL_AFTER => 0,
            since if since >= FADES_AFTER => self.per_s.min(at_most),
            _ => self.per_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_outlives_a_restart() {
        let home = tempfile::tempdir().expect("a folder");
        let (film, other) = (BlobHash::from_bytes([1; 32]), BlobHash::from_bytes([2; 32]));
        let bob = PublicKey::from_bytes([3; 32]);
        let given = Given::open(home.path(), 7);
        given.count(film, Some(bob), 100);
        given.count(other, None, 200);
        given.count(film, Some(bob), 50);
        given.save().expect("writes");
        given.save().expect("nothing new");
        let given = Given::open(home.path(), 9);
        assert_eq!((given.all(), given.of(&film)), ((350, 7), 150));
        assert_eq!((given.most(), given.to()), (vec![(other, 200), (film, 150)], vec![(bob, 150)]));
    }

    #[test]
    fn what_stands_still_is_not_said_to_be_fast() {
        let speed = |per_s| Speed { bytes: 0, since: Instant::now(), per_s };
        let after = |per_s, ms| speed(per_s).after(Duration::from_millis(ms));
        assert_eq!((after(37_000_000, 1900), after(37_000_000, 2000), after(37_000_000, 8000)), (37_000_000, 65_536, 16_384));
        // One that is slow stays what it is until the next piece can be here.
        assert_eq!((after(16_000, 8000), after(16_000, 10_000), after(37_000_000, 10_000)), (16_000, 0, 0));
    }

    #[test]
    fn of_too_many_the_least_is_not_told_apart_any_more() {
        let mut counts: HashMap<u64, u64> = (0..TOLD_MAX as u64).map(|key| (key, key + 1)).collect();
        add(&mut counts, 5, 1);
        assert_eq!(counts.len(), TOLD_MAX);
        add(&mut counts, 1 << 40, 3);
        assert_eq!((counts.len(), counts.get(&0), counts.get(&(1 << 40))), (TOLD_MAX, None, Some(&3)));
    }
}
