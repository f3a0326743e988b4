//! Which changes are admitted: whether the grant that a change names allows it.
//!
//! Admission asks whether a grant was given and is well-formed, never whether it is still in force. So every peer
//! gives the same answer for ever, and a revocation that is on its way splits nobody.

use timebus_identity::PublicKey;

use super::{Held, Rights};
use crate::change::{Body, Header, Kind, OVERHEAD_BYTES};
use crate::fold::is_reserved;
use crate::grant::{Actions, Audience, Scope, ScopeSegment};
use crate::ids::GrantId;
use crate::op::Op;
use crate::path::{Path, Segment};

/// Names directly below the root at which what stands there is taken for the owner's own word: who he is and whom he vouches for,
/// whom he follows and blocks, which apps he publishes. Grants that were given for more do not cover them.
pub const OWN_WORDS: [&str; 3] = ["profile", "lists", ".apps"];

/// Where the ops of a change may have an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    scope: Scope,
    /// Which of [`OWN_WORDS`] it leaves out.
    left_out: [bool; OWN_WORDS.len()],
}

impl Reach {
    fn everything() -> Self {
        Self { scope: Scope::everything(), left_out: [false; OWN_WORDS.len()] }
    }

    /// Whether an op of this author at a path has an effect.
    #[must_use]
    pub fn covers(&self, path: &Path, author: &PublicKey) -> bool {
        let is_left_out = own_word(path).is_some_and(|number| self.left_out[number]);
        self.scope.covers(path, author) && !is_left_out && !is_reserved(path)
    }
}

/// Which of [`OWN_WORDS`] a path is at or below.
pub(crate) fn own_word(path: &Path) -> Option<usize> {
    let Some(Segment::Name(name)) = path.segments().first() else { return None };
    OWN_WORDS.iter().position(|word| **word == **name)
}

/// Which of [`OWN_WORDS`] all of a scope is at or below.
pub(crate) fn own_word_of(scope: &Scope) -> Option<usize> {
    let Some(ScopeSegment::Name(name)) = scope.segments.first() else { return None };
    OWN_WORDS.iter().position(|word| **word == **name)
}

/// Why a change's cap does not allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapError {
    /// The author is not known to be a root key, and names no grant. What makes him one may still come.
    #[error("the author is not the root of this space and names no grant")]
    Missing,
    /// The grant named is not known. It may still come.
    #[error("grant {0} is not known")]
    Unknown(GrantId),
    /// The grant named was given by somebody who could not give it.
    #[error("grant {0} is wider than what it was handed on from")]
    Void(GrantId),
    /// The grant is for somebody else.
    #[error("grant {0} is for somebody else")]
    Audience(GrantId),
    /// The grant is for other timelines or actions.
    #[error("grant {0} does not allow this")]
    Action(GrantId),
    /// The author has used up what the grant allows.
    #[error("grant {grant} allows {max} bytes in all, and with this its holder has written {found}")]
    Bytes {
        /// Which grant.
        grant: GrantId,
        /// Its limit.
        max: u64,
        /// What the author would have written.
        found: u64,
    },
    /// One change is larger than the grant allows.
    #[error("grant {grant} allows {max} bytes at once, and these are {found}")]
    ChangeBytes {
        /// Which grant.
        grant: GrantId,
        /// Its limit.
        max: u64,
        /// How large the change is.
        found: u64,
    },
    /// The grant has ended.
    #[error("grant {grant} has ended")]
    Ended {
        /// Which grant.
        grant: GrantId,
        /// When, in Unix milliseconds.
        at_ms: u64,
    },
}

impl CapError {
    /// Whether the answer may be another one when more statements are here. All other answers are final.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Missing | Self::Unknown(_))
    }

    /// Whether the grant would allow it if it had no end and no limit. The answer hangs on nothing but the grant itself.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        matches!(self, Self::Bytes { .. } | Self::ChangeBytes { .. } | Self::Ended { .. })
    }
}

impl Rights {
    /// Checks that a change's cap allows it to be admitted, and says which paths its ops may have an effect on.
    ///
    /// # Errors
    ///
    /// The first [`CapError`] met.
    pub fn check(&self, header: &Header) -> Result<Reach, CapError> {
        let Some(cap) = header.cap else {
            return if self.roots.is_root_key(&header.author) { Ok(Reach::everything()) } else { Err(CapError::Missing) };
        };
        let Some(held) = self.grants.get(&cap) else {
            return Err(if self.void.contains(&cap) { CapError::Void(cap) } else { CapError::Unknown(cap) });
        };
        let grant = &held.grant;
        let audience = match &grant.audience {
            Audience::Anyone => header.kind == Kind::Drop,
            Audience::Key(key) => *key == header.author,
        };
        if !audience {
            return Err(CapError::Audience(cap));
        }
        let action = if header.kind == Kind::Auth {
            grant.actions.contains(Actions::GRANT) || grant.actions.contains(Actions::MODERATE)
        } else {
            grant.actions.contains(Actions::WRITE) && grant.timelines.contains(&header.timeline, &self.main)
        };
        if !action {
            return Err(CapError::Action(cap));
        }
        self.check_limits(&cap, header.cum, OVERHEAD_BYTES + header.body_len, header.time_ms)?;
        Ok(Reach { scope: grant.scope.clone(), left_out: OWN_WORDS.map(|word| !self.is_for_word(held, word)) })
    }

    /// Whether what somebody writes by a grant at and below one of [`OWN_WORDS`] is the owner's word: as it makes him a device, or was
    /// given for just that, and so was all that it was handed on from.
    fn is_for_word(&self, held: &Held, word: &str) -> bool {
        let mut held = held;
        loop {
            if held.allows_everything() {
                return true;
            }
            if own_word_of(&held.grant.scope).is_none_or(|named| OWN_WORDS[named] != word) {
                return false;
            }
            let Some(parent) = held.parent else { return true };
            let Some(above) = self.grants.get(&parent) else { return false };
            held = above;
        }
    }

    /// A scope in whose name something is written, or kept, by a grant or by the root, in parts: one for everything leaves out
    /// [`OWN_WORDS`], and those are named beside it, as far as they count.
    pub(crate) fn parts(&self, held: Option<&Held>, scope: Scope) -> Vec<Scope> {
        let counts = |word: &str| held.is_none_or(|held| self.is_for_word(held, word));
        match own_word_of(&scope) {
            Some(word) => Some(scope).filter(|_| counts(OWN_WORDS[word])).into_iter().collect(),
            None if scope == Scope::everything() => {
                let words = OWN_WORDS.iter().filter(|word| counts(word));
                let words = words.map(|word| Scope { segments: vec![ScopeSegment::Name((*word).into())], deep: true });
                std::iter::once(scope).chain(words).collect()
            }
            None => vec![scope],
        }
    }

    /// Whether a grant covers a path for whoever writes in its name.
    #[must_use]
    pub fn covers(&self, held: &Held, path: &Path, key: &PublicKey) -> bool {
        held.grant.scope.covers(path, key) && own_word(path).is_none_or(|word| self.is_for_word(held, OWN_WORDS[word]))
    }

    /// Checks that a change is within the limits of its grant, if that is known: `cum` and time of its header, and the bytes that
    /// it counts for itself.
    pub(crate) fn check_limits(&self, cap: &GrantId, cum: u64, own: u64, time_ms: u64) -> Result<(), CapError> {
        let Some(held) = self.grants.get(cap) else { return Ok(()) };
        let (grant, body_len) = (&held.grant, own.saturating_sub(OVERHEAD_BYTES));
        if grant.bytes_max > 0 && cum > grant.bytes_max {
            return Err(CapError::Bytes { grant: *cap, max: grant.bytes_max, found: cum });
        }
        if grant.change_bytes_max > 0 && body_len > grant.change_bytes_max {
            return Err(CapError::ChangeBytes { grant: *cap, max: grant.change_bytes_max, found: body_len });
        }
        if grant.not_after_ms > 0 && time_ms > grant.not_after_ms {
            return Err(CapError::Ended { grant: *cap, at_ms: grant.not_after_ms });
        }
        Ok(())
    }

    /// As [`Rights::check`], for a change of the `auth` timeline, whose ops are for all to read: a key that is no root
    /// yet may say that it is, if it says so rightly. What the change stands on has to be here.
    ///
    /// # Errors
    ///
    /// The first [`CapError`] met.
    pub fn check_statements(&self, header: &Header, body: &[u8]) -> Result<Reach, CapError> {
        let answer = self.check(header);
        if answer != Err(CapError::Missing) || header.encryption.is_some() {
            return answer;
        }
        let body = Body::decode(body).unwrap_or_default();
        let Some(Op::Succeed(succeed)) = body.ops.first() else { return answer };
        let Some(past) = self.dag.past_of_ids(header.deps()) else { return answer };
        let rightly = succeed.root == header.author && self.roots.class_of(succeed, &past).is_some();
        if rightly { Ok(Reach::everything()) } else { answer }
    }
}
