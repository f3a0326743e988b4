use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Z32Error, random_bytes, z32};

/// A secret whose bearer is let in: 32 random bytes, 52 characters of z-base-32.
///
/// Comparing two tokens takes the same time wherever they differ. `Debug` shows nothing, and there
/// is no `Display`: [`Token::text`] is for the one place that hands the token out.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token([u8; 32]);

impl Token {
    /// A new token.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness, see [`random_bytes`].
    #[must_use]
    pub fn generate() -> Self {
        Self(random_bytes())
    }

    /// The token with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for hashing.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text that the bearer presents, wiped from memory when dropped.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(z32::encode(&self.0))
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        // Hashes of blake3 compare in constant time.
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}

impl Eq for Token {}

impl FromStr for Token {
    type Err = Z32Error;

    fn from_str(text: &str) -> Result<Self, Z32Error> {
        z32::decode_32(text).map(Self)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let token = Token::generate();
        assert_eq!(token.text().parse(), Ok(token));
    }

    #[test]
    fn differs_from_every_other() {
        assert_ne!(Token::generate(), Token::generate());
    }

    #[test]
    fn never_prints_itself() {
        assert_eq!(format!("{:?}", Token::generate()), "Token(..)");
    }
}
