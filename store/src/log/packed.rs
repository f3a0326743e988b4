//! A change without what can be worked out again, compressed: how the log keeps it.
//!
//! `signature [64] ‖ place of the body's hash ‖ length ‖ LZ4 block`. The block holds the header without that hash and the
//! body, one behind the other. LZ4, because reading a change must cost nothing, and because what a change repeats, ids
//! above all, is what it finds.

use crate::change::{CHANGE_BYTES_MAX, Change, SIGNATURE_BYTES};
use crate::codec::{Reader, Writer};

const HASH_BYTES: usize = 32;
/// What follows the hash in a header: flags, and with them what says how the body is encrypted.
const PLAIN_TAIL_BYTES: usize = 1;
const ENCRYPTED_TAIL_BYTES: usize = 1 + 16 + 24;

/// A change as it is packed, but for the signature, which need not be made yet; `None` if it gets no shorter.
pub(super) fn pack(change: &Change) -> Option<Vec<u8>> {
    let (header, body) = (change.header_bytes(), change.body_bytes());
    let tail = if change.header().encryption.is_some() { ENCRYPTED_TAIL_BYTES } else { PLAIN_TAIL_BYTES };
    let hash_at = header.len().checked_sub(tail + HASH_BYTES)?;
    let whole = [&header[..hash_at], &header[hash_at + HASH_BYTES..], body].concat();
    let mut out = Writer::new();
    out.var(hash_at as u64);
    out.var(whole.len() as u64);
    out.raw(&lz4_flex::block::compress(&whole));
    Some(out.into_bytes()).filter(|packed| packed.len() < header.len() + body.len())
}

/// The encoded change of a packed one; `None` if the bytes are no such thing.
pub(super) fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Reader::new(bytes);
    let signature = input.raw(SIGNATURE_BYTES, "signature").ok()?;
    let hash_at = input.count(CHANGE_BYTES_MAX, "place of the hash").ok()?;
    let len = input.count(CHANGE_BYTES_MAX - SIGNATURE_BYTES - HASH_BYTES, "length").ok()?;
    let mut whole = vec![0; len];
    if lz4_flex::block::decompress_into(input.rest(), &mut whole).ok()? != len {
        return None;
    }
    let (start, rest) = whole.split_at_checked(hash_at)?;
    let tail = if *rest.first()? == 0 { PLAIN_TAIL_BYTES } else { ENCRYPTED_TAIL_BYTES };
    let (tail, body) = rest.split_at_checked(tail)?;
    Some([start, blake3::hash(body).as_bytes(), tail, signature, body].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = unpack(&bytes);
        }

        #[test]
        fn what_is_cut_is_no_change(at in 0usize..4096) {
            let change = crate::log::tests::change(b"a body a body a body a body");
            let bytes = [&[7; SIGNATURE_BYTES][..], &pack(&change).expect("shorter")].concat();
            prop_assert!(unpack(&bytes).is_some());
            prop_assert_eq!(unpack(&bytes[..at % bytes.len()]), None);
        }
    }
}
