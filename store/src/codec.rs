//! The canonical byte encoding: one value has exactly one encoding, and the decoder accepts only that one.
//!
//! Rules (see `FORMAT.md`): varints are unsigned LEB128 in their shortest form; arrays of fixed length are
//! raw; byte strings and texts are `length ‖ bytes`; lists are `count ‖ items`; sets are strictly ascending
//! lists; an option is a flag byte `0` or `1`. A decoder names a maximum for every length it reads, before it
//! allocates, and [`Reader::finish`] refuses bytes that are left over.

/// Why bytes are not a canonical encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended in the middle of a field.
    #[error("{field} ends too early")]
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// Bytes are left over after the last field.
    #[error("{extra} bytes follow the end")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A varint is not in its shortest form, or does not fit 64 bits.
    #[error("{field} is not a shortest-form varint")]
    Varint {
        /// What was being read.
        field: &'static str,
    },
    /// A length, count or number is over its limit.
    #[error("{field} is {found}, at most {max} is allowed")]
    TooLarge {
        /// What was being read.
        field: &'static str,
        /// The value that was read.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// A list that is a set is not strictly ascending.
    #[error("{field} is not strictly ascending")]
    Order {
        /// What was being read.
        field: &'static str,
    },
    /// A flag, tag or field has a value that the format does not allow.
    #[error("{field} has an invalid value")]
    Invalid {
        /// What was being read.
        field: &'static str,
    },
    /// A text is not UTF-8.
    #[error("{field} is not UTF-8")]
    Utf8 {
        /// What was being read.
        field: &'static str,
    },
}

/// Appends canonical encodings to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer, with room for what most rows take.
    #[must_use]
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(128) }
    }

    /// An empty writer, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A shortest-form unsigned LEB128 number.
    pub fn var(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A signed number, zigzag-mapped to a varint.
    pub fn zigzag(&mut self, value: i64) {
        self.var(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Bytes as they are, of a length the reader knows.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// `length ‖ bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.var(bytes.len() as u64);
        self.raw(bytes);
    }

    /// An option's flag.
    pub fn flag(&mut self, present: bool) {
        self.u8(u8::from(present));
    }
}

/// Reads canonical encodings from a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Trailing`] when bytes are left over.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.bytes.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.raw(1, field)?[0])
    }

    /// A shortest-form varint of at most `max`.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Varint`], [`DecodeError::TooLarge`], [`DecodeError::Truncated`].
    pub fn var(&mut self, max: u64, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (at, &byte) in self.bytes.iter().take(10).enumerate() {
            let low = u64::from(byte & 0x7f);
            if at == 9 && byte > 1 {
                return Err(DecodeError::Varint { field });
            }
            value |= low << (7 * at);
            if byte < 0x80 {
                if byte == 0 && at > 0 {
                    return Err(DecodeError::Varint { field });
                }
                self.bytes = &self.bytes[at + 1..];
                if value > max {
                    return Err(DecodeError::TooLarge { field, found: value, max });
                }
                return Ok(value);
            }
        }
        if self.bytes.len() >= 10 { Err(DecodeError::Varint { field }) } else { Err(DecodeError::Truncated { field }) }
    }

    /// A length or count of at most `max`, as `usize`.
    ///
    /// # Errors
    ///
    /// As [`Reader::var`].
    pub fn count(&mut self, max: usize, field: &'static str) -> Result<usize, DecodeError> {
        // Lossless: the value is at most `max`, which is a usize.
        Ok(self.var(max as u64, field)? as usize)
    }

    /// A zigzag-mapped signed number.
    ///
    /// # Errors
    ///
    /// As [`Reader::var`].
    pub fn zigzag(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let raw = self.var(u64::MAX, field)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// `len` bytes as they are.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    pub fn raw(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated { field })?;
        self.bytes = tail;
        Ok(head)
    }

    /// An array of fixed length.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated { field })?;
        self.bytes = tail;
        Ok(*head)
    }

    /// `length ‖ bytes` of at most `max` bytes.
    ///
    /// # Errors
    ///
    /// As [`Reader::var`] and [`Reader::raw`].
    pub fn bytes(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.count(max, field)?;
        self.raw(len, field)
    }

    /// `length ‖ UTF-8` of at most `max` bytes.
    ///
    /// # Errors
    ///
    /// As [`Reader::bytes`], and [`DecodeError::Utf8`].
    pub fn text(&mut self, max: usize, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(max, field)?).map_err(|_| DecodeError::Utf8 { field })
    }

    /// An option's flag.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Invalid`] for a byte other than 0 and 1.
    pub fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid { field }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_padded_varints() {
        for (bytes, good) in [(&[0x00][..], true), (&[0x80, 0x00], false), (&[0xff, 0x01], true), (&[0xff, 0x80, 0x00], false)] {
            assert_eq!(Reader::new(bytes).var(u64::MAX, "n").is_ok(), good, "{bytes:?}");
        }
        let mut too_wide = [0xff; 10];
        too_wide[9] = 2;
        assert_eq!(Reader::new(&too_wide).var(u64::MAX, "n"), Err(DecodeError::Varint { field: "n" }));
    }

    #[test]
    fn checks_a_length_before_reading() {
        let mut huge = Writer::new();
        huge.var(u64::MAX);
        let bytes = huge.into_bytes();
        assert!(matches!(Reader::new(&bytes).bytes(10, "b"), Err(DecodeError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn numbers_round_trip(value: u64, signed: i64) {
            let mut out = Writer::new();
            out.var(value);
            out.zigzag(signed);
            let bytes = out.into_bytes();
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(input.var(u64::MAX, "n"), Ok(value));
            prop_assert_eq!(input.zigzag("n"), Ok(signed));
            prop_assert_eq!(input.finish(), Ok(()));
        }

        #[test]
        fn an_accepted_varint_is_the_only_spelling(bytes: Vec<u8>) {
            let mut input = Reader::new(&bytes);
            if let Ok(value) = input.var(u64::MAX, "n") {
                let mut out = Writer::new();
                out.var(value);
                prop_assert_eq!(out.into_bytes(), &bytes[..bytes.len() - input.rest().len()]);
            }
        }
    }
}
