//! `Range: bytes=` on blobs (RFC 9110 §14.1.2), one range at a time.
//!
//! Whatever we do not serve in parts (other units, several ranges, malformed values) is answered
//! with the whole, as the RFC allows. `If-Range` is decided by the caller, before this.

use std::ops::Range;

/// Which bytes to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All of them, with 200.
    Whole,
    /// These, half-open and not empty, with 206 and [`content_range`].
    Satisfiable(Range<u64>),
    /// None of them exist: 416 with [`content_range_unsatisfiable`].
    Unsatisfiable,
}

/// Reads a `Range` value for a representation of `len_bytes`.
pub fn parse_range(header: &str, len_bytes: u64) -> ByteRange {
    let Some((unit, spec)) = header.split_once('=') else {
        return ByteRange::Whole;
    };
    if !trim(unit).eq_ignore_ascii_case("bytes") {
        return ByteRange::Whole;
    }
    let Some((first, last)) = trim(spec).split_once('-') else {
        return ByteRange::Whole;
    };
    match (position(first), position(last)) {
        (Some(first), Some(last)) if first <= last => satisfy(first..last.saturating_add(1), len_bytes),
        (Some(first), None) if last.is_empty() => satisfy(first..u64::MAX, len_bytes),
        (None, Some(0)) if first.is_empty() => ByteRange::Unsatisfiable,
        // The last bytes of nothing are nothing; 206 has no way to say that.
        (None, Some(_)) if first.is_empty() && len_bytes == 0 => ByteRange::Whole,
        (None, Some(suffix)) if first.is_empty() => satisfy(len_bytes.saturating_sub(suffix)..len_bytes, len_bytes),
        _ => ByteRange::Whole,
    }
}

/// The `Content-Range` of a 206.
pub fn content_range(range: &Range<u64>, len_bytes: u64) -> String {
    let last = range.end.saturating_sub(1);
    format!("bytes {}-{last}/{len_bytes}", range.start)
}

/// The `Content-Range` of a 416.
pub fn content_range_unsatisfiable(len_bytes: u64) -> String {
    format!("bytes */{len_bytes}")
}

fn satisfy(wanted: Range<u64>, len_bytes: u64) -> ByteRange {
    if wanted.start >= len_bytes {
        return ByteRange::Unsatisfiable;
    }
    ByteRange::Satisfiable(wanted.start..wanted.end.min(len_bytes))
}

/// Reads digits; a number too large for us is behind the end of everything.
fn position(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn follows_the_rfc() {
        use ByteRange::{Satisfiable, Unsatisfiable, Whole};
        let table = [
            ("bytes=0-499", 1000, Satisfiable(0..500)),
            ("bytes=500-999", 1000, Satisfiable(500..1000)),
            ("bytes=500-99999", 1000, Satisfiable(500..1000)),
            ("bytes=500-", 1000, Satisfiable(500..1000)),
            ("bytes=-500", 1000, Satisfiable(500..1000)),
            ("bytes=-5000", 1000, Satisfiable(0..1000)),
            ("bytes=0-0", 1000, Satisfiable(0..1)),
            ("BYTES= 0-0 ", 1000, Satisfiable(0..1)),
            ("bytes=999-999", 1000, Satisfiable(999..1000)),
            ("bytes=0-18446744073709551615", 10, Satisfiable(0..10)),
            ("bytes=0-99999999999999999999", 10, Satisfiable(0..10)),
            ("bytes=1000-", 1000, Unsatisfiable),
            ("bytes=99999999999999999999-", 1000, Unsatisfiable),
            ("bytes=-0", 1000, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=5-2", 1000, Whole),
            ("bytes=0-1,5-6", 1000, Whole),
            ("bytes=-", 1000, Whole),
            ("bytes=", 1000, Whole),
            ("bytes=a-b", 1000, Whole),
            ("bytes=+1-2", 1000, Whole),
            ("bytes=--5", 1000, Whole),
            ("bytes 0-1", 1000, Whole),
            ("json=0-1", 1000, Whole),
            ("", 1000, Whole),
        ];
        for (header, len, expected) in table {
            assert_eq!(parse_range(header, len), expected, "{header}");
        }
    }

    #[test]
    fn prints_content_ranges() {
        assert_eq!(content_range(&(0..500), 1000), "bytes 0-499/1000");
        assert_eq!(content_range_unsatisfiable(1000), "bytes */1000");
    }

    proptest! {
        #[test]
        fn a_range_is_never_empty_and_never_too_long(
            header in "bytes=([0-9,-]|\\PC){0,24}",
            len in any::<u64>(),
        ) {
            if let ByteRange::Satisfiable(range) = parse_range(&header, len) {
                prop_assert!(range.start < range.end && range.end <= len);
            }
        }

        #[test]
        fn what_was_printed_is_read(start in 0u64..100, more in 0u64..100, len in 200u64..300) {
            let header = format!("bytes={start}-{}", start + more);
            let expected = ByteRange::Satisfiable(start..start + more + 1);
            prop_assert_eq!(parse_range(&header, len), expected);
        }
    }
}
