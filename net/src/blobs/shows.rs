//! Asks one other peer to show a piece of a blob that it says it has, and takes nothing of it: what is said, without IO.
//!
//! To whoever is asked it is a reader like any other, who lacks one piece: it says what it has, is asked for the piece, sends it, and is
//! told that it came. So it is not waited for, and nothing is given to this reader any more.

use std::collections::BTreeMap;

use bytes::Bytes;
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::blobs::partial::pieces_of;

use super::exchange::LinkId;
use super::frame::{BlobFrame, Not};

/// Names such a request. Downloads count theirs up from 1.
pub(crate) const REQUEST: u64 = u32::MAX as u64;

/// What somebody did who was asked for a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// He sent this.
    Slice(Bytes),
    /// He has it not, or not for who asks.
    Nothing,
    /// He says that he has nothing of it: maybe only since too much else is asked of him.
    Unsaid,
    /// He has no time now.
    Busy,
}

/// What a frame is to those who wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing, or nothing alone.
    Other,
    /// The piece is to be asked for.
    Send(BlobFrame),
    /// The answer, and what to say to it. What was said is for nobody else, if it is of this request.
    Shown { shown: Shown, is_for_all: bool, reply: Option<BlobFrame> },
}

/// All who were asked.
#[derive(Debug, Default)]
pub(crate) struct Shows(BTreeMap<(LinkId, BlobHash), Asked>);

#[derive(Debug)]
struct Asked {
    space: PublicKey,
    len: u64,
    piece: u32,
    /// Whether the piece was asked for, as it was said that it is there.
    is_wanted: bool,
}

impl Shows {
    /// Begins: what to send. Who asks has all of it himself.
    pub(crate) fn ask(&mut self, link: LinkId, space: PublicKey, (hash, len): (BlobHash, u64), piece: u32) -> BlobFrame {
        debug_assert!(u64::from(piece) < pieces_of(len), "there is no such piece");
        self.0.insert((link, hash), Asked { space, len, piece, is_wanted: false });
        let pieces =
            [(0, piece), (piece + 1, u32::try_from(pieces_of(len)).unwrap_or(u32::MAX))].into_iter().filter(|(start, end)| start < end).collect();
        BlobFrame::Have { space, hash, len, asks: true, pieces }
    }

    /// Takes a frame.
    pub(crate) fn hear(&mut self, link: LinkId, frame: &BlobFrame) -> Heard {
        let (BlobFrame::Have { hash, .. } | BlobFrame::Want { hash, .. } | BlobFrame::Piece { hash, .. } | BlobFrame::Not { hash, .. }) = frame;
        let Some(asked) = self.0.get_mut(&(link, *hash)) else { return Heard::Other };
        let (shown, is_for_all) = match frame {
            BlobFrame::Have { asks: false, pieces, .. } if !asked.is_wanted => {
                if pieces.iter().any(|(start, end)| (*start..*end).contains(&asked.piece)) {
                    asked.is_wanted = true;
                    return Heard::Send(BlobFrame::Want { hash: *hash, id: REQUEST, any_of: vec![(asked.piece, asked.piece + 1)] });
                }
                (if pieces.is_empty() { Shown::Unsaid } else { Shown::Nothing }, true)
            }
            BlobFrame::Piece { id: REQUEST, piece, slice, .. } if *piece == asked.piece => (Shown::Slice(slice.clone()), false),
            BlobFrame::Not { id: REQUEST, reason: Not::Here, .. } => (Shown::Nothing, false),
            BlobFrame::Not { id: REQUEST, .. } => (Shown::Busy, false),
            _ => return Heard::Other,
        };
        let (space, len, piece) = (asked.space, asked.len, asked.piece);
        self.0.remove(&(link, *hash));
        let came = BlobFrame::Have { space, hash: *hash, len, asks: false, pieces: vec![(piece, piece + 1)] };
        Heard::Shown { reply: matches!(shown, Shown::Slice(_)).then_some(came), shown, is_for_all }
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&mut self, link: LinkId, hash: &BlobHash) {
        self.0.remove(&(link, *hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: PublicKey = PublicKey::from_bytes([1; 32]);
    const HASH: BlobHash = BlobHash::from_bytes([2; 32]);
    const LEN: u64 = 1_000_000;

    fn have(pieces: &[(u32, u32)]) -> BlobFrame {
        BlobFrame::Have { space: SPACE, hash: HASH, len: LEN, asks: false, pieces: pieces.to_vec() }
    }

    fn asking() -> Shows {
        let mut shows = Shows::default();
        let all_else = vec![(0, 3), (4, 8)];
        assert_eq!(shows.ask(1, SPACE, (HASH, LEN), 3), BlobFrame::Have { space: SPACE, hash: HASH, len: LEN, asks: true, pieces: all_else });
        shows
    }

    #[test]
    fn whoever_has_a_piece_is_asked_for_it_and_shows_it() {
        let mut shows = asking();
        assert_eq!(shows.hear(2, &have(&[])), Heard::Other, "somebody else");
        let want = BlobFrame::Want { hash: HASH, id: REQUEST, any_of: vec![(3, 4)] };
        assert_eq!(shows.hear(1, &have(&[(0, 8)])), Heard::Send(want));
        assert_eq!(shows.hear(1, &have(&[])), Heard::Other, "it is asked for");
        let piece = |id, piece| BlobFrame::Piece { hash: HASH, id, piece, slice: Bytes::from_static(b"la") };
        assert_eq!(shows.hear(1, &piece(7, 3)), Heard::Other, "of a download");
        assert_eq!(shows.hear(1, &piece(REQUEST, 2)), Heard::Other, "another one");
        let shown = Shown::Slice(Bytes::from_static(b"la"));
        let reply = Some(have(&[(3, 4)]));
        assert_eq!(shows.hear(1, &piece(REQUEST, 3)), Heard::Shown { shown, is_for_all: false, reply }, "it is told that it came");
        assert_eq!(shows.hear(1, &piece(REQUEST, 3)), Heard::Other, "nobody waits any more");
    }

    #[test]
    fn whoever_has_it_not_is_told_from_whoever_has_no_time() {
        assert_eq!(asking().hear(1, &have(&[(0, 3), (4, 8)])), Heard::Shown { shown: Shown::Nothing, is_for_all: true, reply: None });
        assert_eq!(asking().hear(1, &have(&[])), Heard::Shown { shown: Shown::Unsaid, is_for_all: true, reply: None });
        for (reason, shown) in [(Not::Here, Shown::Nothing), (Not::Busy, Shown::Busy), (Not::Elsewhere, Shown::Busy)] {
            let mut shows = asking();
            shows.hear(1, &have(&[(3, 4)]));
            assert_eq!(shows.hear(1, &BlobFrame::Not { hash: HASH, id: 9, reason }), Heard::Other);
            assert_eq!(shows.hear(1, &BlobFrame::Not { hash: HASH, id: REQUEST, reason }), Heard::Shown { shown, is_for_all: false, reply: None });
        }
        let mut shows = asking();
        shows.forget(1, &HASH);
        assert_eq!(shows.hear(1, &have(&[])), Heard::Other);
    }
}
