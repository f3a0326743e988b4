//! Blobs read back, checked on the way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bao_tree::io::outboard::PostOrderOutboard;
use bao_tree::io::sync::Outboard as _;
use bao_tree::iter::BaoChunk;
use bao_tree::{BaoTree, ChunkNum, ChunkRanges};

use super::tree::{group_hash, pair_hash};
use super::{BLOCK_SIZE, BlobHash, GROUP_BYTES, Lease, open_read};

/// Checked at once while a whole blob is checked.
const CHECK_BYTES: u64 = 1024 * 1024;

/// Bytes that are not those of the hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The bytes there are others, or the tree is.
    #[error("the blob is damaged at byte {at}")]
    At {
        /// Where the damaged part begins.
        at: u64,
    },
    /// The disk failed.
    #[error("the blob could not be read: {0}")]
    Io(#[from] io::Error),
}

/// A blob that is whole here. While it is open it is not collected.
#[derive(Debug)]
pub struct Blob {
    data: File,
    outboard: PostOrderOutboard<Option<File>>,
    lease: Lease,
}

impl Blob {
    pub(super) fn new(data: File, tree: &Path, lease: Lease) -> io::Result<Self> {
        let len = data.metadata()?.len();
        // A blob of one group has no inner nodes, and where the tree is lost every pair is wrong. One that cannot be opened now is not lost.
        let tree = match (len > GROUP_BYTES).then(|| open_read(tree)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            tree => tree.and_then(Result::ok),
        };
        let outboard = PostOrderOutboard { root: (*lease.hash.as_bytes()).into(), tree: BaoTree::new(len, BLOCK_SIZE), data: tree };
        Ok(Self { data, outboard, lease })
    }

    /// What it is named by.
    #[must_use]
    pub fn hash(&self) -> BlobHash {
        self.lease.hash
    }

    /// Its length.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.outboard.tree.size()
    }

    pub(super) fn data_file(&self) -> &File {
        &self.data
    }

    pub(super) fn tree_file(&self) -> Option<&File> {
        self.outboard.data.as_ref()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range, each group of which was checked against the hash. What is behind the end is left out.
    ///
    /// # Errors
    ///
    /// [`Damage`].
    pub fn read(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>, Damage> {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        let mut out = Vec::with_capacity((end - start) as usize);
        self.walk(start..end, &mut |at, group| {
            let from = start.saturating_sub(at).min(group.len() as u64);
            let to = (end - at).min(group.len() as u64);
            out.extend_from_slice(&group[from as usize..to as usize]);
        })?;
        Ok(out)
    }

    /// Checks all of it, calling back with the bytes checked so far.
    ///
    /// # Errors
    ///
    /// The first [`Damage`].
    pub fn check(&self, progress: &mut dyn FnMut(u64)) -> Result<(), Damage> {
        let mut at = 0;
        loop {
            let end = (at + CHECK_BYTES).min(self.len());
            self.walk(at..end, &mut |_, _| {})?;
            progress(end);
            at = end;
            if at == self.len() {
                return Ok(());
            }
        }
    }

    /// Goes from the root to every group that a range touches, and checks each step.
    fn walk(&self, range: std::ops::Range<u64>, each: &mut dyn FnMut(u64, &[u8])) -> Result<(), Damage> {
        let first = range.start / GROUP_BYTES * GROUP_BYTES;
        let last = range.end.max(range.start + 1).div_ceil(GROUP_BYTES) * GROUP_BYTES;
        let ranges = ChunkRanges::from(ChunkNum::chunks(first)..ChunkNum::chunks(last));
        let mut expected = vec![*self.lease.hash.as_bytes()];
        let mut buffer = vec![0; GROUP_BYTES as usize];
        for item in self.outboard.tree.ranges_pre_order_chunks_iter_ref(&ranges, 0) {
            let want = expected.pop().unwrap_or_default();
            match item {
                BaoChunk::Parent { node, is_root, left, right, .. } => {
                    let (l, r) = self.load(node)?.unwrap_or(([0; 32], [0; 32]));
                    if pair_hash(&l, &r, is_root) != want {
                        return Err(Damage::At { at: first });
                    }
                    if right {
                        expected.push(r);
                    }
                    if left {
                        expected.push(l);
                    }
                }
                BaoChunk::Leaf { start_chunk, size, is_root, .. } => {
                    let at = start_chunk.to_bytes();
                    let group = &mut buffer[..size];
                    self.data.read_exact_at(group, at)?;
                    let hash = if is_root { *blake3::hash(group).as_bytes() } else { group_hash(at / GROUP_BYTES, group) };
                    if hash != want {
                        return Err(Damage::At { at });
                    }
                    each(at, group);
                }
            }
        }
        Ok(())
    }

    fn load(&self, node: bao_tree::TreeNode) -> io::Result<Option<([u8; 32], [u8; 32])>> {
        let Some(tree) = &self.outboard.data else { return Ok(None) };
        let outboard = PostOrderOutboard { root: self.outboard.root, tree: self.outboard.tree, data: tree };
        Ok(outboard.load(node)?.map(|(left, right)| (*left.as_bytes(), *right.as_bytes())))
    }
}
