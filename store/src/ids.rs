//! Names of things: 32-byte ids and the pairs made of them.

use std::fmt;
use std::str::FromStr;

use timebus_identity::{PublicKey, hash, z32};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The raw bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&z32::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &z32::encode(&self.0)[..6])
            }
        }

        impl FromStr for $name {
            type Err = z32::Z32Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                z32::decode_32(text).map(Self)
            }
        }
    };
}

id! {
    /// One change: `H("change", header bytes)`. Its text form is a Braid version.
    ChangeId
}
id! {
    /// One timeline of one space.
    TimelineId
}
id! {
    /// One grant: `H("grant", change ‖ op index)`.
    GrantId
}

impl TimelineId {
    /// The timeline that a space has by name: `auth`, `main` or `drop`.
    #[must_use]
    pub fn named(space: &PublicKey, name: &str) -> Self {
        Self(hash("timeline", &[space.as_bytes(), name.as_bytes()]))
    }

    /// The timeline that an op mounts.
    #[must_use]
    pub fn mounted(space: &PublicKey, op: &OpId) -> Self {
        let mut out = crate::codec::Writer::new();
        out.var(u64::from(op.index));
        Self(hash("timeline", &[space.as_bytes(), op.change.as_bytes(), &out.into_bytes()]))
    }
}

/// One op: the change that holds it and its place there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// The change.
    pub change: ChangeId,
    /// Place in the body's list of ops, from 0.
    pub index: u32,
}

impl OpId {
    /// The id of the grant that this op makes.
    #[must_use]
    pub fn grant(&self) -> GrantId {
        let mut out = crate::codec::Writer::new();
        out.var(u64::from(self.index));
        GrantId(hash("grant", &[self.change.as_bytes(), &out.into_bytes()]))
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.change, self.index)
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpId({}.{})", &self.change.to_string()[..6], self.index)
    }
}

impl FromStr for OpId {
    type Err = OpIdError;

    fn from_str(text: &str) -> Result<Self, OpIdError> {
        let (change, index) = text.split_once('.').ok_or(OpIdError)?;
        let number: u32 = index.parse().map_err(|_| OpIdError)?;
        // "+1" and "01" would be second spellings of one id.
        if number.to_string() != index {
            return Err(OpIdError);
        }
        Ok(Self { change: change.parse().map_err(|_| OpIdError)?, index: number })
    }
}

/// A text is not `<52 characters>.<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an op id (52 characters, a dot, a number)")]
pub struct OpIdError;
