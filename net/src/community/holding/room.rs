//! How much counts of what this machine offered to communities: no more than there is room for. Who is full would count as one who
//! holds what he cannot take, for good, and of all that is placed with him there would be one copy fewer.

use std::sync::atomic::Ordering;

use timebus_identity::PublicKey;
use timebus_store::blobs::{BlobHash, Blobs};

use super::Kept;
use crate::blobs::wishes::Wishes;
use crate::peer::Peer;

/// Bits of a number that are said: each time it is said takes room with all members.
const BITS: u32 = 3;

/// Says how much of what was offered to these communities counts now.
pub(super) async fn say(peer: &Peer, wishes: &Wishes, offered: Vec<(PublicKey, u64)>, kept: &Kept) {
    let Ok(blobs) = crate::blobs::of(peer).cloned() else { return };
    let of_people: Vec<BlobHash> = kept.people.all().collect();
    let placed = |community: &PublicKey| {
        let files = kept.known.spaces.get(community).map_or(&[][..], |(_, files)| files);
        files.iter().map(|(hash, _)| *hash).chain(of_people.iter().copied()).collect::<Vec<BlobHash>>()
    };
    let placed: Vec<_> =
        offered.into_iter().filter(|(_, bytes)| *bytes > 0).map(|(community, bytes)| (community, bytes, placed(&community))).collect();
    let communities: Vec<PublicKey> = placed.iter().map(|(community, ..)| *community).collect();
    let (said, count) = (wishes.clone(), placed.len() as u64);
    // What is only cached makes room for what is placed.
    let cached = peer.cached.load(Ordering::Relaxed);
    let looked = crate::blobs::beside(move || {
        let spare = blobs.spare_bytes()?.saturating_add(cached) / count.max(1);
        let counts = placed.into_iter().map(|(community, bytes, files)| {
            let said = said.counted(&community);
            // As long as all of it has room beside what is here, that need not be looked through.
            let held = if said.is_none() && spare >= bytes { 0 } else { held(&blobs, &files) };
            (community, counted(said, bytes, spare.saturating_add(held)))
        });
        Ok::<_, std::io::Error>(counts.collect::<Vec<_>>())
    });
    let said = match looked.await {
        Ok(Ok(counts)) => wishes.count(&communities, &counts),
        Ok(Err(error)) => Err(error),
        // The peer is stopping.
        Err(_) => return,
    };
    if let Err(error) = said {
        tracing::warn!(%error, "how much counts of what was offered to communities is not known");
    }
}

/// Bytes of files that are here, or are coming.
fn held(blobs: &Blobs, files: &[BlobHash]) -> u64 {
    let len = |hash: &BlobHash| blobs.len_of(hash).or_else(|| blobs.open_partial(hash).map(|part| part.len()));
    files.iter().filter_map(len).fold(0, u64::saturating_add)
}

/// How much of an offer counts where that much has room, if it is not all of it; and so far as it was said before. What it is is said
/// in few steps, and a larger one only when there is clearly more room.
fn counted(said: Option<u64>, offered: u64, room: u64) -> Option<u64> {
    let Some(said) = said else { return (room < offered).then(|| rounded(room)) };
    if room / 5 >= offered / 4 {
        return None;
    }
    Some(if said <= room && room / 3 < said.div_ceil(2) { said } else { rounded(room.min(offered)) })
}

/// Rounded down.
fn rounded(bytes: u64) -> u64 {
    let over = (u64::BITS - bytes.leading_zeros()).saturating_sub(BITS);
    bytes >> over << over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_counts_than_has_room_and_that_is_not_said_all_the_time() {
        assert_eq!(counted(None, 1000, 1000), None);
        assert_eq!(counted(None, 1 << 40, 50_000_000_000), Some(42_949_672_960));
        // Other programs take and free some of the disk all the time.
        let (mut said, mut times) = (counted(None, 100_000, 99_000), 1);
        assert_eq!(said, Some(98_304));
        for room in (0..100).map(|look| if look % 2 == 0 { 100_500 } else { 99_000 }) {
            let now = counted(said, 100_000, room);
            times += usize::from(now != said);
            said = now;
        }
        assert_eq!((said, times), (Some(98_304), 1));
        assert_eq!(counted(said, 100_000, 50_000), Some(49_152));
        assert_eq!(counted(Some(49_152), 100_000, 70_000), Some(49_152), "not much more");
        assert_eq!(counted(Some(49_152), 100_000, 90_000), Some(81_920));
        assert_eq!((counted(said, 100_000, 124_000), counted(said, 100_000, 126_000)), (Some(98_304), None));
        assert_eq!((counted(Some(5), 100_000, 0), counted(Some(0), 100_000, 10), counted(Some(0), 100_000, 0)), (Some(0), Some(10), Some(0)));
        assert_eq!(counted(Some(98_304), 10, 9), Some(8), "less was offered meanwhile");
        for bytes in (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) + 1, u64::MAX >> bit]) {
            assert!(rounded(bytes) <= bytes && bytes - rounded(bytes) <= bytes / 4, "{bytes}");
        }
    }
}
