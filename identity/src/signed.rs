use std::ops::Deref;

use crate::{BadSignature, PublicKey, SecretKey, Signature};

/// Something an author can sign.
///
/// Implementations are pure: the same content always has the same author and message. No two
/// kinds of content share a message, so each begins with a domain string of its own.
pub trait Signable {
    /// Whose signature this content needs.
    fn author(&self) -> PublicKey;

    /// The bytes that are signed.
    fn signing_message(&self) -> Vec<u8>;
}

/// Content with a signature nobody has checked yet, as it comes from a peer or from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    content: T,
    signature: Signature,
}

/// Content whose author did sign it.
///
/// Invariant: the signature is valid. There are two ways here, [`Signed::verify`] and
/// [`Verified::sign`], and no way to change the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    content: T,
    signature: Signature,
}

/// The content names another author than the key it was to be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("content by {author} cannot be signed with the key of {signer}")]
pub struct WrongKey {
    /// Whom the content names.
    pub author: PublicKey,
    /// Whose key it was.
    pub signer: PublicKey,
}

impl<T: Signable> Signed<T> {
    /// Puts content and the signature that came with it together, unchecked.
    #[must_use]
    pub fn new(content: T, signature: Signature) -> Self {
        Self { content, signature }
    }

    /// The content, which anybody may have made up.
    #[must_use]
    pub fn content(&self) -> &T {
        &self.content
    }

    /// The signature, which may fit nothing.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Checks the signature.
    ///
    /// # Errors
    ///
    /// [`BadSignature`] when the author did not sign this content.
    pub fn verify(self) -> Result<Verified<T>, BadSignature> {
        let Self { content, signature } = self;
        content.author().verify(&content.signing_message(), &signature)?;
        Ok(Verified { content, signature })
    }
}

impl<T: Signable> Verified<T> {
    /// Signs content of our own.
    ///
    /// # Errors
    ///
    /// [`WrongKey`] when the content names another author.
    pub fn sign(content: T, key: &SecretKey) -> Result<Self, WrongKey> {
        let (author, signer) = (content.author(), key.public());
        if author != signer {
            return Err(WrongKey { author, signer });
        }
        let signature = key.sign(&content.signing_message());
        Ok(Self { content, signature })
    }
}

impl<T> Verified<T> {
    /// The signature, valid for this content.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The content alone, from here on as good as any claim.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.content
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Note {
        author: PublicKey,
        text: &'static str,
    }

    impl Signable for Note {
        fn author(&self) -> PublicKey {
            self.author
        }

        fn signing_message(&self) -> Vec<u8> {
            [b"test note\0", self.text.as_bytes()].concat()
        }
    }

    fn note(key: &SecretKey) -> Note {
        let author = key.public();
        Note { author, text: "hi" }
    }

    #[test]
    fn what_was_signed_verifies() {
        let key = SecretKey::generate();
        let ours = Verified::sign(note(&key), &key).expect("our own note");
        let theirs = Signed::new(note(&key), *ours.signature());
        assert_eq!(theirs.content().text, "hi");
        assert_eq!(theirs.signature(), ours.signature());
        assert_eq!(theirs.verify(), Ok(ours.clone()));
        assert_eq!(ours.text, "hi");
        assert_eq!(ours.into_inner(), note(&key));
    }

    #[test]
    fn refuses_to_sign_for_others() {
        let (me, other) = (SecretKey::generate(), SecretKey::generate());
        let error = WrongKey { author: other.public(), signer: me.public() };
        assert_eq!(Verified::sign(note(&other), &me), Err(error));
    }

    #[test]
    fn refuses_altered_content() {
        let key = SecretKey::generate();
        let signature = *Verified::sign(note(&key), &key).expect("our own note").signature();
        let altered = Note { text: "ho", ..note(&key) };
        assert_eq!(Signed::new(altered, signature).verify(), Err(BadSignature));
    }

    #[test]
    fn refuses_another_author() {
        let (key, thief) = (SecretKey::generate(), SecretKey::generate());
        let signature = *Verified::sign(note(&key), &key).expect("our own note").signature();
        let stolen = Signed::new(note(&thief), signature);
        assert_eq!(stolen.verify(), Err(BadSignature));
    }
}
