use std::fmt;

/// An ed25519 signature, not yet checked against anything.
///
/// Any 64 bytes will do; whether they sign something, [`PublicKey::verify`] tells.
///
/// [`PublicKey::verify`]: crate::PublicKey::verify
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

/// The signature is not one by this key over this message: drop what it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit the message and the key")]
pub struct BadSignature;

impl Signature {
    /// The signature with these bytes, `R ‖ S` as in RFC 8032.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes that are stored and sent.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", &crate::z32::encode(&self.0[..5])[..6])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_short() {
        assert_eq!(format!("{:?}", Signature::from_bytes([0; 64])), "Signature(yyyyyy)");
    }
}
