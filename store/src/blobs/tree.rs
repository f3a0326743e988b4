//! The hash tree of a blob, made while its bytes come and nobody knows how many there will be.

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::{BlobHash, GROUP_BYTES};

const GROUP: usize = GROUP_BYTES as usize;

/// Hashes bytes and hands out the inner nodes of their tree, in post-order: each behind the two below it.
///
/// The last group is held back until it is known whether it is the last, since the root is hashed in another way.
#[derive(Debug, Default)]
pub(super) struct TreeHasher {
    /// Bytes of whole groups that are hashed.
    groups: u64,
    /// Hashes of the largest whole subtrees, left to right.
    stack: Vec<ChainingValue>,
    /// The group that is being filled.
    group: Vec<u8>,
    /// Inner nodes that were not taken yet.
    pairs: Vec<u8>,
}

impl TreeHasher {
    /// Takes more bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.group.len() == GROUP {
                self.close_group();
            }
            let (now, later) = bytes.split_at(bytes.len().min(GROUP - self.group.len()));
            self.group.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Bytes taken so far.
    pub(super) fn len(&self) -> u64 {
        self.groups * GROUP_BYTES + self.group.len() as u64
    }

    /// The inner nodes made since the last call.
    pub(super) fn take_pairs(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pairs)
    }

    /// The hash of everything. The last inner nodes can be taken then.
    pub(super) fn finish(&mut self) -> BlobHash {
        if self.groups == 0 {
            return BlobHash(*blake3::hash(&self.group).as_bytes());
        }
        let mut right = self.group_hash();
        while self.stack.len() > 1 {
            let left = self.stack.pop().unwrap_or_default();
            right = self.merge(left, right);
        }
        let left = self.stack.pop().unwrap_or_default();
        self.push_pair(&left, &right);
        BlobHash(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
    }

    fn group_hash(&self) -> ChainingValue {
        group_hash(self.groups, &self.group)
    }

    /// Hashes a full group behind which more follows.
    fn close_group(&mut self) {
        let mut hash = self.group_hash();
        self.group.clear();
        self.groups += 1;
        // As many subtrees are whole now as the number of groups has factors of two.
        for _ in 0..self.groups.trailing_zeros() {
            let left = self.stack.pop().unwrap_or_default();
            hash = self.merge(left, hash);
        }
        self.stack.push(hash);
    }

    fn merge(&mut self, left: ChainingValue, right: ChainingValue) -> ChainingValue {
        self.push_pair(&left, &right);
        merge_subtrees_non_root(&left, &right, Mode::Hash)
    }

    fn push_pair(&mut self, left: &ChainingValue, right: &ChainingValue) {
        self.pairs.extend_from_slice(left);
        self.pairs.extend_from_slice(right);
    }
}

/// The hash of a group that is not the whole blob.
pub(super) fn group_hash(number: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(number * GROUP_BYTES);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The hash of two that are not the whole blob, or of those that are.
pub(super) fn pair_hash(left: &ChainingValue, right: &ChainingValue, is_root: bool) -> ChainingValue {
    if is_root { *merge_subtrees_root(left, right, Mode::Hash).as_bytes() } else { merge_subtrees_non_root(left, right, Mode::Hash) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::BLOCK_SIZE;
    use bao_tree::io::outboard::PostOrderMemOutboard;

    #[test]
    fn makes_the_tree_that_the_library_makes() {
        for groups in [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 100] {
            for more in [0, 1, 1023, 1024, 1025, GROUP - 1] {
                let data: Vec<u8> = (0..groups * GROUP + more).map(|at| (at * 31 % 251) as u8).collect();
                let expected = PostOrderMemOutboard::create(&data, BLOCK_SIZE);
                let mut hasher = TreeHasher::default();
                let mut pairs = Vec::new();
                for part in data.chunks(9_999) {
                    hasher.update(part);
                    pairs.extend(hasher.take_pairs());
                }
                assert_eq!(hasher.len(), data.len() as u64);
                let hash = hasher.finish();
                pairs.extend(hasher.take_pairs());
                assert_eq!(hash.as_bytes(), blake3::hash(&data).as_bytes(), "{} bytes", data.len());
                assert_eq!(hash.as_bytes(), expected.root.as_bytes());
                assert!(pairs == expected.data, "{} bytes", data.len());
            }
        }
    }
}
