//! Which changes are admitted: whether the grant that a change names allows it.
//!
//! Admission asks whether a grant was given and is well-formed, never whether it is still in force. So every peer
//! gives the same answer for ever, and a revocation that is on its way splits nobody.

use super::Rights;
use crate::change::{Body, Header, Kind};
use crate::grant::{Actions, Audience, Scope};
use crate::ids::GrantId;
use crate::op::Op;

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
    #[error("grant {grant} allows {max} bytes, the author has written {found}")]
    Bytes {
        /// Which grant.
        grant: GrantId,
        /// Its limit.
        max: u64,
        /// What the author would have written.
        found: u64,
    },
    /// The grant has ended.
    #[error("grant {0} has ended")]
    Ended(GrantId),
}

impl CapError {
    /// Whether the answer may be another one when more statements are here. All other answers are final.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Missing | Self::Unknown(_))
    }
}

impl Rights {
    /// Checks that a change's cap allows it to be admitted, and says which paths its ops may have an effect on.
    ///
    /// # Errors
    ///
    /// The first [`CapError`] met.
    pub fn check(&self, header: &Header) -> Result<Scope, CapError> {
        let Some(cap) = header.cap else {
            return if self.roots.is_root_key(&header.author) { Ok(Scope::everything()) } else { Err(CapError::Missing) };
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
        if grant.bytes_max > 0 && header.cum > grant.bytes_max {
            return Err(CapError::Bytes { grant: cap, max: grant.bytes_max, found: header.cum });
        }
        if grant.change_bytes_max > 0 && header.body_len > grant.change_bytes_max {
            return Err(CapError::Bytes { grant: cap, max: grant.change_bytes_max, found: header.body_len });
        }
        if grant.not_after_ms > 0 && header.time_ms > grant.not_after_ms {
            return Err(CapError::Ended(cap));
        }
        Ok(grant.scope.clone())
    }

    /// As [`Rights::check`], for a change of the `auth` timeline, whose ops are for all to read: a key that is no root
    /// yet may say that it is, if it says so rightly. What the change stands on has to be here.
    ///
    /// # Errors
    ///
    /// The first [`CapError`] met.
    pub fn check_statements(&self, header: &Header, body: &[u8]) -> Result<Scope, CapError> {
        let answer = self.check(header);
        if answer != Err(CapError::Missing) || header.encryption.is_some() {
            return answer;
        }
        let body = Body::decode(body).unwrap_or_default();
        let Some(Op::Succeed(succeed)) = body.ops.first() else { return answer };
        let Some(past) = self.dag.past_of_ids(header.deps()) else { return answer };
        let rightly = succeed.root == header.author && self.roots.class_of(succeed, &past).is_some();
        if rightly { Ok(Scope::everything()) } else { answer }
    }
}
