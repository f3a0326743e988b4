//! z-base-32: the text form of keys, ids and tokens.
//!
//! Five bits per character, most significant first, the last character filled up with zero bits.
//! Every byte string has exactly one text, and every accepted text stands for exactly one byte
//! string: upper case, impossible lengths and non-zero filling are refused.

const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// Why a text is not z-base-32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Z32Error {
    /// No number of whole bytes has a text of this length.
    #[error("no z-base-32 text is {found} characters long")]
    ImpossibleLength {
        /// The length of the text, in bytes.
        found: usize,
    },
    /// The text stands for more or fewer bytes than asked for.
    #[error("expected {expected} z-base-32 characters, found {found}")]
    WrongLength {
        /// The length that was asked for, in characters.
        expected: usize,
        /// The length of the text, in bytes.
        found: usize,
    },
    /// A character outside `ybndrfg8ejkmcpqxot1uwisza345h769`, which has no upper case.
    #[error("character {number} is not one of ybndrfg8ejkmcpqxot1uwisza345h769")]
    BadCharacter {
        /// Which byte of the text, counted from 1.
        number: usize,
    },
    /// The last character carries bits beyond the last byte: a character was probably mistyped.
    #[error("the last character is not one that can end a text of this length")]
    TrailingBits,
}

/// The text of `bytes`: 52 characters for 32 bytes.
///
/// ```
/// assert_eq!(timebus_identity::z32::encode(b"yes mani !"), "xf1zgedpcfzg1ebb");
/// ```
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(text_len(bytes.len()));
    let (mut held, mut held_bits) = (0_u32, 0);
    for &byte in bytes {
        held = (held << 8) | u32::from(byte);
        held_bits += 8;
        while held_bits >= 5 {
            held_bits -= 5;
            text.push(character(held >> held_bits));
        }
    }
    if held_bits > 0 {
        text.push(character(held << (5 - held_bits)));
    }
    text
}

/// The bytes `text` stands for.
///
/// # Errors
///
/// [`Z32Error`] when `text` is not what [`encode`] gives for any bytes.
pub fn decode(text: &str) -> Result<Vec<u8>, Z32Error> {
    let found = text.len();
    let bytes_len = found * 5 / 8;
    if text_len(bytes_len) != found {
        return Err(Z32Error::ImpossibleLength { found });
    }
    let mut bytes = Vec::with_capacity(bytes_len);
    let (mut held, mut held_bits) = (0_u32, 0);
    for (index, &character) in text.as_bytes().iter().enumerate() {
        let bits = value(character).ok_or(Z32Error::BadCharacter { number: index + 1 })?;
        held = (held << 5) | bits;
        held_bits += 5;
        if held_bits >= 8 {
            held_bits -= 8;
            bytes.push((held >> held_bits) as u8);
            held &= (1 << held_bits) - 1;
        }
    }
    if held != 0 {
        return Err(Z32Error::TrailingBits);
    }
    Ok(bytes)
}

/// The 32 bytes that a text of 52 characters stands for: a key, an id, a token.
///
/// # Errors
///
/// [`Z32Error::WrongLength`] for any other length, else as [`decode`].
pub fn decode_32(text: &str) -> Result<[u8; 32], Z32Error> {
    let wrong_length = Z32Error::WrongLength { expected: text_len(32), found: text.len() };
    if text.len() != text_len(32) {
        return Err(wrong_length);
    }
    decode(text)?.try_into().map_err(|_| wrong_length)
}

fn text_len(bytes_len: usize) -> usize {
    (bytes_len * 8).div_ceil(5)
}

fn character(bits: u32) -> char {
    char::from(ALPHABET[(bits & 31) as usize])
}

fn value(character: u8) -> Option<u32> {
    let index = ALPHABET.iter().position(|&known| known == character)?;
    u32::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encodes_the_multibase_example() {
        // Row `base32z` of multibase's tests/basic.csv: "hxf1zgedpcfzg1ebb", where `h` names the base.
        assert_eq!(encode(b"yes mani !"), "xf1zgedpcfzg1ebb");
        assert_eq!(decode("xf1zgedpcfzg1ebb"), Ok(b"yes mani !".to_vec()));
    }

    #[test]
    fn thirty_two_bytes_are_52_characters() {
        assert_eq!(encode(&[0; 32]), "y".repeat(52));
        assert_eq!(encode(&[0xff; 32]), format!("{}o", "9".repeat(51)));
        assert_eq!(decode_32(&"y".repeat(52)), Ok([0; 32]));
    }

    #[test]
    fn the_empty_text_is_no_bytes() {
        assert_eq!(encode(&[]), "");
        assert_eq!(decode(""), Ok(Vec::new()));
    }

    #[test]
    fn refuses_impossible_lengths() {
        for found in [1, 3, 6, 9, 11, 14] {
            assert_eq!(decode(&"y".repeat(found)), Err(Z32Error::ImpossibleLength { found }));
        }
    }

    #[test]
    fn refuses_upper_case_and_foreign_characters() {
        for text in ["Yy", "vy", "0y", " y", "-y", "é"] {
            assert_eq!(decode(text), Err(Z32Error::BadCharacter { number: 1 }));
        }
        assert_eq!(decode("yl"), Err(Z32Error::BadCharacter { number: 2 }));
    }

    #[test]
    fn refuses_bits_beyond_the_last_byte() {
        assert_eq!(encode(&[0]), "yy");
        assert_eq!(decode("yb"), Err(Z32Error::TrailingBits));
        assert_eq!(decode_32(&format!("{}b", "y".repeat(51))), Err(Z32Error::TrailingBits));
    }

    #[test]
    fn refuses_a_key_of_another_length() {
        let error = Z32Error::WrongLength { expected: 52, found: 50 };
        assert_eq!(decode_32(&"y".repeat(50)), Err(error));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn an_accepted_text_is_the_only_one(text in "[ybndrfg8ejkmcpqxot1uwisza345h769]{0,60}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = decode(&text);
            let _ = decode_32(&text);
        }
    }
}
