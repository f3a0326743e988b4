//! A new root takes over: by plan, or named by guardians.
//!
//! What counts as a succession is decided by [`crate::auth`]. Here is what people need who want to make one: which
//! statement it has to be, and the text that goes to guardians and back.
//!
//! [`by_root`] is what the holder of both root keys says. Who has lost them makes new ones and a [`Request`], gives
//! that to his guardians, and gets [`Answer`]s; enough of them are a succession ([`by_guardians`]). Guardians hold the
//! space, so they know which root state is to be followed; whoever asks them need know nothing but whose space it is.
//!
//! Deliberately not: no key is kept here, and nobody is asked.

use timebus_identity::{PublicKey, SecretKey, Signature, hash, spoken, z32};

use crate::auth::{Class, Rights, RootState};
use crate::codec::{DecodeError, Reader, Writer};
use crate::grant::{Authority, Genesis, Succeed};

/// What the text of a request begins with.
pub const REQUEST_PREFIX: &str = "timebus://recover/";
/// What the text of an answer begins with.
pub const ANSWER_PREFIX: &str = "timebus://recovered/";
/// Version of both.
const VERSION: u8 = 1;
/// Bytes behind the fields that tell a slip of the hand: the beginning of `H("recovery", fields)`.
const CHECK_BYTES: usize = 4;
/// Longest text: an answer names up to 16 guardians.
pub const TEXT_BYTES_MAX: usize = 2048;

/// Why there is no succession to be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// These are the keys of an earlier root, or of another space.
    #[error("no root of this space had these two keys as its own and the next one")]
    OtherKeys,
    /// It is done already.
    #[error("the root that these keys lead to has taken over already")]
    Done,
    /// Somebody else made a statement of the same weight, and nothing decides between them.
    #[error("it is in dispute who the root of this space is")]
    Disputed,
    /// The root named no guardians.
    #[error("the root of this space named no guardians")]
    NoGuardians,
    /// The root named others.
    #[error("{0} is no guardian of this space")]
    NotAGuardian(PublicKey),
    /// More have to agree.
    #[error("{needed} guardians have to agree, these are {found}")]
    TooFew {
        /// How many the root asked for.
        needed: usize,
        /// How many different ones there are.
        found: usize,
    },
    /// They do not agree about what is followed by what.
    #[error("{0} answered to something else than the others: to another request, for another space, or knowing another root")]
    Differs(PublicKey),
    /// An answer is of one guardian.
    #[error("an answer is not of one guardian")]
    NotOfOne,
    /// An answer is not signed by whom it says.
    #[error("the answer of {0} is not signed by that key")]
    BadSignature(PublicKey),
}

/// Why a text is no request, or no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// It begins otherwise.
    #[error("it begins with {0}")]
    Prefix(&'static str),
    /// Characters are missing, or wrong.
    #[error("characters are missing, or wrong")]
    Damaged,
    /// It is of a version that is not known here.
    #[error("it is of version {0}, which this program does not know")]
    Version(u8),
}

impl From<DecodeError> for TextError {
    fn from(_: DecodeError) -> Self {
        Self::Damaged
    }
}

/// How the new root is going to be known: `H("next root", public key)`.
#[must_use]
pub fn commitment(next: &PublicKey) -> [u8; 32] {
    hash("next root", &[next.as_bytes()])
}

/// Whether the holder of a root key and the next one can do nothing about the dispute that there is: it is between two roots that
/// such a pair made, or after what these keys were for. Guardians can, if the root before it had some.
#[must_use]
pub fn is_stuck(rights: &Rights, old: &PublicKey, new: &PublicKey) -> bool {
    matches!(step(rights, old, new), Err(SuccessionError::Disputed))
}

/// The state that `new` is to follow, which `old` had named beforehand.
fn step<'a>(rights: &'a Rights, old: &PublicKey, new: &PublicKey) -> Result<&'a RootState, SuccessionError> {
    if rights.root() == *new {
        return Err(SuccessionError::Done);
    }
    let is_before = |state: &&RootState| state.root == *old && state.plan.next == Some(commitment(new));
    let mut known = rights.root_states().iter().filter(is_before).peekable();
    if known.peek().is_none() {
        return Err(SuccessionError::OtherKeys);
    }
    // One more step from where somebody went on already decides nothing, and makes a dispute where there was none.
    let is_last = |state: &&RootState| rights.root_state().map_or(state.from.is_none(), |last| last.id == state.id);
    let is_by_words = rights.disputed().any(|state| state.class == Some(Class::Planned));
    match (known.find(is_last), rights.disputed().next()) {
        (Some(before), _) if !is_by_words => Ok(before),
        (None, None) => Err(SuccessionError::Done),
        _ => Err(SuccessionError::Disputed),
    }
}

/// The statement by which `new`, which `old` had named beforehand, takes over. It commits to `after`; the guardians stay
/// who they were unless others are given.
///
/// # Errors
///
/// [`SuccessionError`].
pub fn by_root(
    rights: &Rights,
    old: &SecretKey,
    new: &PublicKey,
    after: &PublicKey,
    guardians: Option<Option<(u8, Vec<PublicKey>)>>,
) -> Result<Succeed, SuccessionError> {
    let before = step(rights, &old.public(), new)?;
    let guardians = guardians.unwrap_or_else(|| before.plan.guardians.clone());
    let plan = Genesis { next: Some(commitment(after)), guardians };
    let mut succeed = Succeed { from: before.id, root: *new, plan, authority: Authority::Guardians(Vec::new()) };
    succeed.authority = Authority::Root(old.sign(&succeed.signing_message()));
    Ok(succeed)
}

/// What somebody gives to his guardians who has lost the keys of his space and made new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// His space.
    pub space: PublicKey,
    /// Its new root.
    pub root: PublicKey,
    /// What the new root commits to.
    pub next: [u8; 32],
}

/// What a guardian says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose space.
    pub space: PublicKey,
    /// The statement, as he signed it; its authority is his signature alone.
    pub succeed: Succeed,
}

impl Request {
    /// The fields, as they are in the text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.raw(self.space.as_bytes());
        out.raw(self.root.as_bytes());
        out.raw(&self.next);
        out.into_bytes()
    }

    /// Reads the fields.
    ///
    /// # Errors
    ///
    /// [`TextError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TextError> {
        let mut input = Reader::new(bytes);
        version(&mut input)?;
        let space = PublicKey::from_bytes(input.array("space")?);
        let root = PublicKey::from_bytes(input.array("root")?);
        let next = input.array("next")?;
        input.finish()?;
        Ok(Self { space, root, next })
    }

    /// The text form.
    #[must_use]
    pub fn text(&self) -> String {
        print(REQUEST_PREFIX, self.encode())
    }

    /// Eight words that whoever made the request and whoever got it compare by voice: nobody makes another request with the same.
    #[must_use]
    pub fn words(&self) -> String {
        spoken(&hash("recovery words", &[&self.encode()]))
    }

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`TextError`].
    pub fn parse(text: &str) -> Result<Self, TextError> {
        Self::decode(&read(REQUEST_PREFIX, text)?)
    }

    /// What a guardian says who agrees: `guardian` is his key, `sign` signs with it what it is given.
    ///
    /// # Errors
    ///
    /// [`SuccessionError`].
    pub fn agree(&self, rights: &Rights, guardian: &PublicKey, sign: impl FnOnce(&Succeed) -> Signature) -> Result<Answer, SuccessionError> {
        if rights.root() == self.root {
            return Err(SuccessionError::Done);
        }
        let before = rights.root_state().ok_or(SuccessionError::Disputed)?;
        let (_, guardians) = before.plan.guardians.as_ref().ok_or(SuccessionError::NoGuardians)?;
        if !guardians.contains(guardian) {
            return Err(SuccessionError::NotAGuardian(*guardian));
        }
        let plan = Genesis { next: Some(self.next), guardians: before.plan.guardians.clone() };
        let mut succeed = Succeed { from: before.id, root: self.root, plan, authority: Authority::Guardians(Vec::new()) };
        let signature = sign(&succeed);
        succeed.authority = Authority::Guardians(vec![(*guardian, signature)]);
        Ok(Answer { space: self.space, succeed })
    }
}

impl Answer {
    /// Who gave it, if it is by one guardian and signed by him.
    ///
    /// # Errors
    ///
    /// [`SuccessionError::NotOfOne`], [`SuccessionError::BadSignature`].
    pub fn guardian(&self) -> Result<(PublicKey, Signature), SuccessionError> {
        let Authority::Guardians(signatures) = &self.succeed.authority else { return Err(SuccessionError::NotOfOne) };
        let [(key, signature)] = signatures[..] else { return Err(SuccessionError::NotOfOne) };
        key.verify(&self.succeed.signing_message(), &signature).map_err(|_| SuccessionError::BadSignature(key))?;
        Ok((key, signature))
    }

    /// The fields, as they are in the text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(VERSION);
        out.raw(self.space.as_bytes());
        self.succeed.encode(&mut out);
        out.into_bytes()
    }

    /// Reads the fields.
    ///
    /// # Errors
    ///
    /// [`TextError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TextError> {
        let mut input = Reader::new(bytes);
        version(&mut input)?;
        let space = PublicKey::from_bytes(input.array("space")?);
        let succeed = Succeed::decode(&mut input)?;
        input.finish()?;
        Ok(Self { space, succeed })
    }

    /// The text form.
    #[must_use]
    pub fn text(&self) -> String {
        print(ANSWER_PREFIX, self.encode())
    }

    /// Reads the text form.
    ///
    /// # Errors
    ///
    /// [`TextError`].
    pub fn parse(text: &str) -> Result<Self, TextError> {
        Self::decode(&read(ANSWER_PREFIX, text)?)
    }
}

/// The statement that enough guardians agree to.
///
/// # Errors
///
/// [`SuccessionError`].
pub fn by_guardians(answers: &[Answer]) -> Result<Succeed, SuccessionError> {
    let about = |answer: &Answer| (answer.space, answer.succeed.state());
    let like = |answer: &&Answer| answers.iter().filter(|other| about(other) == about(answer)).count();
    // Of equally many the first ones; whoever differs from most is named.
    let first = answers.iter().rev().max_by_key(like).ok_or(SuccessionError::TooFew { needed: 1, found: 0 })?;
    let mut signatures = Vec::new();
    for answer in answers {
        let (guardian, signature) = answer.guardian()?;
        if about(answer) != about(first) {
            return Err(SuccessionError::Differs(guardian));
        }
        signatures.push((guardian, signature));
    }
    signatures.sort_unstable_by_key(|(key, _)| *key);
    signatures.dedup_by_key(|(key, _)| *key);
    let (needed, known) = first.succeed.plan.guardians.as_ref().ok_or(SuccessionError::NoGuardians)?;
    if let Some((stranger, _)) = signatures.iter().find(|(key, _)| !known.contains(key)) {
        return Err(SuccessionError::NotAGuardian(*stranger));
    }
    if signatures.len() < usize::from(*needed) {
        return Err(SuccessionError::TooFew { needed: usize::from(*needed), found: signatures.len() });
    }
    Ok(Succeed { authority: Authority::Guardians(signatures), ..first.succeed.clone() })
}

fn print(prefix: &str, mut bytes: Vec<u8>) -> String {
    let check = hash("recovery", &[&bytes]);
    bytes.extend_from_slice(&check[..CHECK_BYTES]);
    format!("{prefix}{}", z32::encode(&bytes))
}

fn read(prefix: &'static str, text: &str) -> Result<Vec<u8>, TextError> {
    let text = text.trim();
    let payload = text.strip_prefix(prefix).ok_or(TextError::Prefix(prefix))?;
    if payload.len() > TEXT_BYTES_MAX {
        return Err(TextError::Damaged);
    }
    let mut bytes = z32::decode(payload).map_err(|_| TextError::Damaged)?;
    let at = bytes.len().checked_sub(CHECK_BYTES).ok_or(TextError::Damaged)?;
    let check = bytes.split_off(at);
    if check[..] != hash("recovery", &[&bytes])[..CHECK_BYTES] {
        return Err(TextError::Damaged);
    }
    Ok(bytes)
}

fn version(input: &mut Reader<'_>) -> Result<(), TextError> {
    match input.u8("version")? {
        VERSION => Ok(()),
        other => Err(TextError::Version(other)),
    }
}
