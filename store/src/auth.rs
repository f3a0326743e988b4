//! Who may do what: the grants of a space, as its `auth` timeline states them.

use std::collections::HashMap;

use timebus_identity::PublicKey;

use crate::change::{Body, Header};
use crate::grant::{Actions, Audience, Genesis, Grant, Scope, Timelines};
use crate::ids::{ChangeId, GrantId, OpId, TimelineId};
use crate::op::Op;
use crate::path::Path;

/// Longest chain of grants from the root.
pub const CHAIN_MAX: u8 = 8;

/// A grant and where it stands in the tree of grants.
#[derive(Clone, Debug)]
pub struct Held {
    /// What was granted.
    pub grant: Grant,
    /// The grant it was handed on from; `None` when the root gave it.
    pub parent: Option<GrantId>,
    /// Grants from the root to here, from 1.
    pub chain: u8,
}

/// The statements of one space.
#[derive(Clone, Debug)]
pub struct Rights {
    space: PublicKey,
    main: TimelineId,
    genesis: Option<Genesis>,
    grants: HashMap<GrantId, Held>,
}

/// Why a change's cap does not allow it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapError {
    /// The author is no root key and names no grant.
    #[error("the author is not the root of this space and names no grant")]
    Missing,
    /// The grant named is not known or was not well-formed.
    #[error("grant {0} is not known")]
    Unknown(GrantId),
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

impl Rights {
    /// No statements yet.
    #[must_use]
    pub fn new(space: PublicKey) -> Self {
        Self { space, main: TimelineId::named(&space, "main"), genesis: None, grants: HashMap::new() }
    }

    /// The space's first statement, once known.
    #[must_use]
    pub fn genesis(&self) -> Option<&Genesis> {
        self.genesis.as_ref()
    }

    /// A grant by id.
    #[must_use]
    pub fn grant(&self, id: &GrantId) -> Option<&Held> {
        self.grants.get(id)
    }

    /// All grants.
    pub fn grants(&self) -> impl Iterator<Item = (&GrantId, &Held)> {
        self.grants.iter()
    }

    /// A grant in whose name a key may write at a path of `main`.
    #[must_use]
    pub fn writer_grant(&self, key: &PublicKey, path: &Path) -> Option<GrantId> {
        let fits = |held: &Held| {
            held.grant.audience == Audience::Key(*key)
                && held.grant.actions.contains(Actions::WRITE)
                && !matches!(held.grant.timelines, Timelines::Only(_))
                && held.grant.scope.covers(path, key)
        };
        self.grants.iter().filter(|(_, held)| fits(held)).min_by_key(|(id, held)| (held.chain, **id)).map(|(id, _)| *id)
    }

    /// The grant that makes a key one of the owner's devices: everything, from the root or from another device.
    #[must_use]
    pub fn device_grant(&self, key: &PublicKey) -> Option<GrantId> {
        let own = self.grants.iter().filter(|(_, held)| held.grant.audience == Audience::Key(*key) && self.is_device(held));
        own.min_by_key(|(id, held)| (held.chain, **id)).map(|(id, _)| *id)
    }

    /// The owner's devices.
    pub fn devices(&self) -> impl Iterator<Item = PublicKey> {
        self.grants.values().filter(|held| self.is_device(held)).filter_map(|held| match held.grant.audience {
            Audience::Key(key) => Some(key),
            Audience::Anyone => None,
        })
    }

    /// Whether a grant allows everything. Only who may do everything can have given it.
    fn is_device(&self, held: &Held) -> bool {
        held.grant.actions == Actions::ALL && held.grant.scope == Scope::everything() && held.grant.timelines == Timelines::All
    }

    /// Takes in the statements of an admitted `auth` change.
    pub fn learn(&mut self, id: ChangeId, header: &Header, body: &Body) {
        for (index, op) in body.ops.iter().enumerate() {
            match op {
                Op::Genesis(genesis) if header.author == self.space && self.genesis.is_none() => self.genesis = Some(genesis.clone()),
                Op::Grant(grant) => {
                    let parent = header.cap.as_ref().and_then(|cap| self.grants.get(cap));
                    let chain = match parent {
                        None if header.author == self.space => 1,
                        Some(held) if held.chain < CHAIN_MAX && is_narrower(grant, &held.grant) => held.chain + 1,
                        _ => continue,
                    };
                    let id = OpId { change: id, index: index as u32 }.grant();
                    self.grants.insert(id, Held { grant: grant.clone(), parent: header.cap, chain });
                }
                _ => {}
            }
        }
    }

    /// Checks that a change's cap allows it to be admitted, and says which paths its ops may have an effect on.
    ///
    /// # Errors
    ///
    /// The first [`CapError`] met.
    pub fn check(&self, header: &Header) -> Result<Scope, CapError> {
        let Some(cap) = header.cap else {
            return if header.author == self.space { Ok(Scope::everything()) } else { Err(CapError::Missing) };
        };
        let Held { grant, .. } = self.grants.get(&cap).ok_or(CapError::Unknown(cap))?;
        let audience = match &grant.audience {
            Audience::Anyone => header.kind == crate::change::Kind::Drop,
            Audience::Key(key) => *key == header.author,
        };
        if !audience {
            return Err(CapError::Audience(cap));
        }
        let auth = header.kind == crate::change::Kind::Auth;
        let timeline = match &grant.timelines {
            _ if auth => true,
            Timelines::All => true,
            Timelines::Main => header.timeline == self.main,
            Timelines::Only(ids) => ids.contains(&header.timeline),
        };
        let action = if auth {
            grant.actions.contains(Actions::GRANT) || grant.actions.contains(Actions::MODERATE)
        } else {
            grant.actions.contains(Actions::WRITE)
        };
        if !timeline || !action {
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
}

/// Whether a grant stays within the one it is handed on from.
fn is_narrower(child: &Grant, parent: &Grant) -> bool {
    let limit = |child: u64, parent: u64| parent == 0 || (child > 0 && child <= parent);
    let timelines = match (&child.timelines, &parent.timelines) {
        (_, Timelines::All) | (Timelines::Main, Timelines::Main) => true,
        (Timelines::Only(child), Timelines::Only(parent)) => child.iter().all(|id| parent.contains(id)),
        _ => false,
    };
    parent.actions.contains(Actions::GRANT)
        && parent.actions.contains(child.actions)
        && parent.scope.includes(&child.scope)
        && timelines
        && limit(child.bytes_max, parent.bytes_max)
        && limit(child.change_bytes_max, parent.change_bytes_max)
        && limit(child.not_after_ms, parent.not_after_ms)
        && child.depth < parent.depth
}
