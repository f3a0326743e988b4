//! Who waits for pieces: the links take turns, and the blobs of one link.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use timebus_store::blobs::BlobHash;

use super::exchange::LinkId;

/// Links that wait, each with the blobs of which it waits for pieces.
#[derive(Debug, Default)]
pub(super) struct Turns(BTreeMap<LinkId, BTreeSet<BlobHash>>);

impl Turns {
    /// Whether a link waits for pieces of a blob, from now on.
    pub(super) fn set(&mut self, link: LinkId, hash: BlobHash, waits: bool) {
        if waits {
            self.0.entry(link).or_default().insert(hash);
        } else if let Some(blobs) = self.0.get_mut(&link) {
            blobs.remove(&hash);
            if blobs.is_empty() {
                self.0.remove(&link);
            }
        }
    }

    /// Nobody waits for a blob any more.
    pub(super) fn forget(&mut self, hash: &BlobHash) {
        self.0.retain(|_, blobs| {
            blobs.remove(hash);
            !blobs.is_empty()
        });
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Links other than one that wait, as far as they are good.
    pub(super) fn others(&self, link: LinkId, is_good: impl Fn(LinkId) -> bool) -> usize {
        self.0.keys().filter(|other| **other != link && is_good(**other)).count()
    }

    /// Blobs of which a link waits for pieces.
    pub(super) fn of(&self, link: LinkId) -> impl Iterator<Item = &BlobHash> {
        self.0.get(&link).into_iter().flatten()
    }

    /// Whose turn it is after another: the next link, and of that the next blob, as far as they are good.
    pub(super) fn after(&self, (link, hash): (LinkId, BlobHash), is_good: impl Fn(&(LinkId, BlobHash)) -> bool) -> Option<(LinkId, BlobHash)> {
        let links = self.0.range((Excluded(link), Unbounded)).chain(self.0.range(..=link));
        let blobs = |blobs: &BTreeSet<BlobHash>| blobs.range((Excluded(hash), Unbounded)).chain(blobs.range(..=hash)).copied().collect::<Vec<_>>();
        links.into_iter().find_map(|(link, waiting)| blobs(waiting).into_iter().map(|hash| (*link, hash)).find(&is_good))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_take_turns_however_much_each_waits_for() {
        let hash = |number: u8| BlobHash::from_bytes([number; 32]);
        let mut turns = Turns::default();
        (0..5).for_each(|blob| turns.set(1, hash(blob), true));
        turns.set(2, hash(9), true);
        turns.set(3, hash(1), true);
        let (mut last, mut order) = ((0, hash(0)), Vec::new());
        while let Some(next) = turns.after(last, |_| true) {
            order.push((next.0, next.1.as_bytes()[0]));
            turns.set(next.0, next.1, false);
            last = next;
        }
        assert_eq!(order, [(1, 1), (2, 9), (3, 1), (1, 2), (1, 3), (1, 4), (1, 0)]);
        assert_eq!(turns.others(1, |_| true), 0);
        turns.set(1, hash(1), true);
        turns.set(2, hash(1), true);
        assert_eq!((turns.others(1, |_| true), turns.others(3, |_| true), turns.others(3, |link| link != 2), turns.of(2).count()), (1, 2, 1, 1));
        assert_eq!(turns.after(last, |(link, _)| *link != 2), Some((1, hash(1))));
        turns.forget(&hash(1));
        assert_eq!(turns.after(last, |_| true), None);
    }
}
