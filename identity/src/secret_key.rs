use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use crate::{PublicKey, Signature, random_bytes};

/// A key that signs. It is wiped from memory when dropped, and never printed.
///
/// There is no `Clone`: a second copy has to be asked for, with
/// `SecretKey::from_seed(*key.seed())`.
pub struct SecretKey(
    // Boxed, so that moving the key leaves no copies of the seed behind.
    Box<SigningKey>,
);

impl SecretKey {
    /// The key grown from these 32 secret bytes.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(Box::new(SigningKey::from_bytes(&seed)))
    }

    /// A new key, from randomness of the operating system.
    ///
    /// # Panics
    ///
    /// When there is none, see [`random_bytes`].
    #[must_use]
    pub fn generate() -> Self {
        Self::from_seed(random_bytes())
    }

    /// The 32 secret bytes: for key files and derivation, never for people or peers.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The key others verify with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs `message`, which must begin with a domain string naming what is signed.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature::from_bytes(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_itself() {
        let key = SecretKey::from_seed([7; 32]);
        assert_eq!(format!("{key:?} {key:#?}"), "SecretKey(..) SecretKey(..)");
    }

    #[test]
    fn grows_from_its_seed_alone() {
        let key = SecretKey::generate();
        let again = SecretKey::from_seed(*key.seed());
        assert_eq!(key.public(), again.public());
        assert_eq!(key.sign(b"hello"), again.sign(b"hello"));
    }

    #[test]
    fn agrees_with_rfc_8032() {
        // Test 1 of RFC 8032 §7.1, the empty message.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let seed = std::array::from_fn(|i| u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).expect("hex above"));
        let key = SecretKey::from_seed(seed);
        assert_eq!(blake3::Hash::from_bytes(*key.public().as_bytes()).to_hex().as_str(), public);
        assert_eq!(key.public().verify(b"", &key.sign(b"")), Ok(()));
    }
}
