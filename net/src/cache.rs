//! Ready answers to plain GETs.
//!
//! An answer is kept under the canonical request target and dropped when a change touches its path or anything
//! below. A reader that was overtaken by a change while it made its answer does not keep it: the epoch it read
//! before is another one then, or odd, which means that new state is just becoming visible.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::Observer;
use timebus_store::update::Update;

use crate::peer::lock;
use crate::target::encode_path;

/// A ready answer with status 200.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Answers larger than this are made each time.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const SHARDS: usize = 16;
/// What an answer takes beside its body, roughly.
const OVERHEAD_BYTES: usize = 768;

#[derive(Debug, Default)]
struct Shard {
    answers: HashMap<Box<str>, Arc<Answer>>,
    bytes: usize,
}

/// Answers by request target.
#[derive(Debug)]
pub(crate) struct Cache {
    epoch: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: usize,
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { epoch: AtomicU64::new(0), shards: Default::default(), shard_bytes_max: bytes_max / SHARDS }
    }

    /// Shards only keep threads out of each other's way, so the end of a target chooses well enough; the table in a
    /// shard hashes with a secret.
    fn shard(&self, target: &str) -> &Mutex<Shard> {
        let end = target.bytes().rev().take(4).fold(target.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(byte));
        &self.shards[end % SHARDS]
    }

    /// Read this before the state that an answer is made from.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn find(&self, target: &str) -> Option<Arc<Answer>> {
        lock(self.shard(target)).answers.get(target).cloned()
    }

    /// Keeps an answer made from the state of an epoch. `target` is canonical: percent-encoded by [`encode_path`].
    pub(crate) fn keep(&self, epoch: u64, target: &str, answer: Arc<Answer>) {
        if answer.body.len() > ANSWER_BYTES_MAX {
            return;
        }
        let mut shard = lock(self.shard(target));
        if epoch % 2 == 1 || self.epoch.load(Ordering::Acquire) != epoch {
            return;
        }
        shard.bytes += answer.body.len() + target.len() + OVERHEAD_BYTES;
        if shard.bytes > self.shard_bytes_max {
            // Rare, and what is asked for often is back at once.
            *shard = Shard { bytes: answer.body.len() + target.len() + OVERHEAD_BYTES, ..Shard::default() };
        }
        shard.answers.insert(target.into(), answer);
    }

    fn drop_target(&self, target: &str) {
        let mut shard = lock(self.shard(target));
        if let Some(answer) = shard.answers.remove(target) {
            shard.bytes = shard.bytes.saturating_sub(answer.body.len() + target.len() + OVERHEAD_BYTES);
        }
    }
}

/// The one request target under which answers for a path are kept.
pub(crate) fn canonical(space: &Space, path: &Path) -> String {
    let name = (!space.is_own()).then(|| format!("@{}", space.key));
    let segments: Vec<String> = name.into_iter().chain(path.segments().iter().map(ToString::to_string)).collect();
    encode_path(&segments)
}

impl Observer for Cache {
    fn begin(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    fn end(&self, updates: &[Arc<Update>]) {
        let mut dropped = std::collections::HashSet::new();
        for update in updates {
            for path in &update.touched {
                let target = canonical(&update.space, path);
                // From the path itself up to the root of the space; above one that was dropped, all were.
                let root = canonical(&update.space, &Path::root()).len();
                let mut end = target.len();
                while dropped.insert(target[..end].to_owned()) {
                    self.drop_target(&target[..end]);
                    if end <= root {
                        break;
                    }
                    end = target[..end].rfind('/').map_or(root, |at| at.max(root));
                }
            }
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}
