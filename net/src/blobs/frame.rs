//! What peers say to each other about blobs: frames of a link whose type byte is in [`TYPES`].

use bytes::Bytes;
use timebus_identity::PublicKey;
use timebus_store::blobs::partial::{PIECES_MAX, SLICE_BYTES_MAX};
use timebus_store::blobs::{BLOB_BYTES_MAX, BlobHash};
use timebus_store::codec::{DecodeError, Reader, Writer};

use super::swarm::RANGES_MAX;

/// Type bytes of these frames; all others belong to `sync`.
pub const TYPES: std::ops::RangeInclusive<u8> = 32..=35;
/// Most stretches of pieces that are named as being here; who has more of them names the first.
pub const HAVE_RANGES_MAX: usize = 4096;

/// One message about a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobFrame {
    /// What the sender has of a blob, beside what it said before.
    Have {
        /// A space that names the blob, which the receiver's right to it depends on.
        space: PublicKey,
        /// The blob.
        hash: BlobHash,
        /// Its length, as the value says that names it.
        len: u64,
        /// Whether the sender wants to hear what the receiver has, now and from now on.
        asks: bool,
        /// Pieces: first, and the one behind the last; ascending, not touching.
        pieces: Vec<(u32, u32)>,
    },
    /// Asks for one of several pieces.
    Want {
        /// The blob.
        hash: BlobHash,
        /// Names the request.
        id: u64,
        /// Which of these is the other's choice; as in [`BlobFrame::Have`].
        any_of: Vec<(u32, u32)>,
    },
    /// Answers with a piece.
    Piece {
        /// The blob.
        hash: BlobHash,
        /// The request.
        id: u64,
        /// Which piece.
        piece: u32,
        /// Its bytes with the hashes that prove them.
        slice: Bytes,
    },
    /// Answers without one.
    Not {
        /// The blob.
        hash: BlobHash,
        /// The request.
        id: u64,
        /// Why.
        reason: Not,
    },
}

/// Why no piece is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Not {
    /// What was asked for others have by now; ask for it by number where it is wanted from here.
    Elsewhere,
    /// It is not here, or not for the asker.
    Here,
    /// Too much is asked for at once.
    Busy,
    /// Says who asked: what was asked for is not wanted any more.
    Unwanted,
}

impl BlobFrame {
    /// The frame's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        let pieces = |pieces: &[(u32, u32)], out: &mut Writer| {
            out.var(pieces.len() as u64);
            let mut at = 0;
            for (start, end) in pieces {
                out.var(u64::from(start - at));
                out.var(u64::from(end - start));
                at = *end;
            }
        };
        match self {
            Self::Have { space, hash, len, asks, pieces: list } => {
                out.u8(32);
                out.raw(space.as_bytes());
                out.raw(hash.as_bytes());
                out.var(*len);
                out.flag(*asks);
                pieces(list, &mut out);
            }
            Self::Want { hash, id, any_of } => {
                out.u8(33);
                out.raw(hash.as_bytes());
                out.var(*id);
                pieces(any_of, &mut out);
            }
            Self::Piece { hash, id, piece, slice } => {
                out.u8(34);
                out.raw(hash.as_bytes());
                out.var(*id);
                out.var(u64::from(*piece));
                out.bytes(slice);
            }
            Self::Not { hash, id, reason } => {
                out.u8(35);
                out.raw(hash.as_bytes());
                out.var(*id);
                out.u8(match reason {
                    Not::Elsewhere => 0,
                    Not::Here => 1,
                    Not::Busy => 2,
                    Not::Unwanted => 3,
                });
            }
        }
        out.into_bytes().into()
    }

    /// Reads a frame.
    ///
    /// # Errors
    ///
    /// The first [`DecodeError`] met.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let frame = match input.u8("frame type")? {
            32 => Self::Have {
                space: PublicKey::from_bytes(input.array("space")?),
                hash: BlobHash::from_bytes(input.array("blob hash")?),
                len: input.var(BLOB_BYTES_MAX, "blob length")?,
                asks: input.flag("asks")?,
                pieces: decode_pieces(&mut input, HAVE_RANGES_MAX)?,
            },
            33 => {
                let (hash, id) = decode_request(&mut input)?;
                let any_of = decode_pieces(&mut input, RANGES_MAX)?;
                if any_of.is_empty() {
                    return Err(DecodeError::Invalid { field: "pieces" });
                }
                Self::Want { hash, id, any_of }
            }
            34 => {
                let (hash, id) = decode_request(&mut input)?;
                let piece = input.var(PIECES_MAX - 1, "piece")? as u32;
                Self::Piece { hash, id, piece, slice: Bytes::copy_from_slice(input.bytes(SLICE_BYTES_MAX, "slice")?) }
            }
            35 => {
                let (hash, id) = decode_request(&mut input)?;
                let reason = match input.u8("reason")? {
                    0 => Not::Elsewhere,
                    1 => Not::Here,
                    2 => Not::Busy,
                    3 => Not::Unwanted,
                    _ => return Err(DecodeError::Invalid { field: "reason" }),
                };
                Self::Not { hash, id, reason }
            }
            _ => return Err(DecodeError::Invalid { field: "frame type" }),
        };
        input.finish()?;
        Ok(frame)
    }
}

fn decode_request(input: &mut Reader<'_>) -> Result<(BlobHash, u64), DecodeError> {
    Ok((BlobHash::from_bytes(input.array("blob hash")?), input.var(u64::from(u32::MAX), "request")?))
}

/// Stretches: ascending, none empty, none touching another, so that one set has one form.
fn decode_pieces(input: &mut Reader<'_>, max: usize) -> Result<Vec<(u32, u32)>, DecodeError> {
    let invalid = DecodeError::Invalid { field: "pieces" };
    let count = input.count(max, "pieces")?;
    // A stretch takes two bytes at least.
    let mut pieces = Vec::with_capacity(count.min(input.rest().len() / 2));
    let mut at = 0;
    for number in 0..count {
        let skip = input.var(PIECES_MAX, "pieces")?;
        let len = input.var(PIECES_MAX, "pieces")?;
        let (start, end) = (at + skip, at + skip + len);
        if len == 0 || end > PIECES_MAX || (number > 0 && skip == 0) {
            return Err(invalid);
        }
        pieces.push((start as u32, end as u32));
        at = end;
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: BlobHash = BlobHash::from_bytes([0xbb; 32]);

    fn golden() -> Vec<(BlobFrame, String)> {
        let hash = "bb".repeat(32);
        vec![
            (
                // space, hash, length 300, asks, pieces 1 to 3 and 5
                BlobFrame::Have { space: PublicKey::from_bytes([0xaa; 32]), hash: HASH, len: 300, asks: true, pieces: vec![(1, 4), (5, 6)] },
                format!("20{}{hash}ac02 01 02 0103 0101", "aa".repeat(32)),
            ),
            // request 7, piece 0 or 1
            (BlobFrame::Want { hash: HASH, id: 7, any_of: vec![(0, 2)] }, format!("21{hash}07 01 0002")),
            // request 7, piece 1, three bytes
            (BlobFrame::Piece { hash: HASH, id: 7, piece: 1, slice: Bytes::from_static(b"\x01\x02\x03") }, format!("22{hash}07 01 03010203")),
            (BlobFrame::Not { hash: HASH, id: 7, reason: Not::Here }, format!("23{hash}07 01")),
        ]
    }

    #[test]
    fn bytes_are_pinned() {
        for (frame, text) in golden() {
            let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
            let bytes: Vec<u8> = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex")).collect();
            assert_eq!(frame.encode(), bytes, "{frame:?}");
            assert_eq!(BlobFrame::decode(&bytes).as_ref(), Ok(&frame));
            for len in 0..bytes.len() {
                assert!(BlobFrame::decode(&bytes[..len]).is_err());
            }
            assert!(TYPES.contains(&bytes[0]));
        }
    }

    #[test]
    fn one_set_of_pieces_has_one_form() {
        let hash = "bb".repeat(32);
        for pieces in ["00", "01 00 00", "02 0001 0001", "01 00 81808002", "01 80808002 01", "41"] {
            let text = format!("21{hash}07{pieces}");
            let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
            let bytes: Vec<u8> = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex")).collect();
            assert!(BlobFrame::decode(&bytes).is_err(), "{pieces}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_read_is_written_the_same(kind in 30u8..38, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&[kind][..], &bytes].concat();
            if let Ok(frame) = BlobFrame::decode(&bytes) {
                prop_assert_eq!(frame.encode(), bytes);
            }
        }
    }
}
