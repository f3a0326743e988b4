//! Statements about rights: ops of a space's `auth` timeline.
//!
//! This file has the statements and what one grant allows. Which statements are in force is decided by
//! [`crate::auth`].

use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{ChangeId, GrantId, TimelineId};
use crate::path::{Path, Segment};
use timebus_identity::{PublicKey, Signature, hash};

/// What a grant allows, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions(pub u8);

impl Actions {
    /// Fetch headers and encrypted bodies.
    pub const SYNC: Self = Self(1);
    /// Read values.
    pub const READ: Self = Self(2);
    /// Write values.
    pub const WRITE: Self = Self(4);
    /// Give rights on.
    pub const GRANT: Self = Self(8);
    /// Take plain members' rights back.
    pub const MODERATE: Self = Self(16);
    /// Decide the order of a `SEQ` timeline.
    pub const KEEP: Self = Self(32);
    /// Install programs.
    pub const RUN: Self = Self(64);
    /// Everything.
    pub const ALL: Self = Self(127);

    /// Whether every action of `other` is in here.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Who may use a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Everybody.
    Anyone,
    /// The owner of one key.
    Key(PublicKey),
}

/// One segment of a [`Scope`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeSegment {
    /// This name.
    Name(Box<str>),
    /// The writer's own key, in z-base-32.
    Author,
}

/// The paths that a grant covers: a path, or with `deep` also everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// From the root.
    pub segments: Vec<ScopeSegment>,
    /// Whether everything below is covered too (written `**`).
    pub deep: bool,
}

impl Scope {
    /// Everything in the space.
    #[must_use]
    pub fn everything() -> Self {
        Self { segments: Vec::new(), deep: true }
    }

    /// Whether `path`, written by `author`, is covered.
    #[must_use]
    pub fn covers(&self, path: &Path, author: &PublicKey) -> bool {
        let segments = path.segments();
        let fits = if self.deep { segments.len() >= self.segments.len() } else { segments.len() == self.segments.len() };
        fits && self.segments.iter().zip(segments).all(|(scope, segment)| match (scope, segment) {
            (ScopeSegment::Name(name), Segment::Name(found)) => name == found,
            (ScopeSegment::Author, Segment::Name(found)) => author.to_string() == **found,
            _ => false,
        })
    }

    /// The same scope for one writer: his key stands where `{author}` did. What it covers does not change with
    /// who asks any more, so scopes of different people can be compared.
    #[must_use]
    pub fn of_author(&self, author: &PublicKey) -> Self {
        let name = |segment: &ScopeSegment| match segment {
            ScopeSegment::Author => ScopeSegment::Name(author.to_string().into()),
            ScopeSegment::Name(_) => segment.clone(),
        };
        Self { segments: self.segments.iter().map(name).collect(), deep: self.deep }
    }

    /// What both cover, if that is anything. Scopes are compared as they are written, see [`Scope::of_author`].
    #[must_use]
    pub fn common(&self, other: &Self) -> Option<Self> {
        match (self.includes(other), other.includes(self)) {
            (true, _) => Some(other.clone()),
            (_, true) => Some(self.clone()),
            _ => None,
        }
    }

    /// Whether everything that `other` covers is covered here.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        if self.deep { other.segments.starts_with(&self.segments) } else { !other.deep && other.segments == self.segments }
    }
}

/// Which timelines a grant is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timelines {
    /// `main` only.
    Main,
    /// Every timeline of the space.
    All,
    /// These.
    Only(Vec<TimelineId>),
}

impl Timelines {
    /// Whether everything that `other` is for is in here.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match (other, self) {
            (_, Self::All) | (Self::Main, Self::Main) => true,
            (Self::Only(other), Self::Only(own)) => other.iter().all(|id| own.contains(id)),
            _ => false,
        }
    }

    /// Whether a timeline is in here, in a space whose `main` is this.
    #[must_use]
    pub fn contains(&self, timeline: &TimelineId, main: &TimelineId) -> bool {
        match self {
            Self::All => true,
            Self::Main => timeline == main,
            Self::Only(ids) => ids.contains(timeline),
        }
    }
}

/// A right given by a root key or by the holder of the change's cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who may use it.
    pub audience: Audience,
    /// Where.
    pub scope: Scope,
    /// In which timelines.
    pub timelines: Timelines,
    /// For what.
    pub actions: Actions,
    /// Most cumulative bytes of one author's chain; 0 is no limit.
    pub bytes_max: u64,
    /// Largest body of one change; 0 is no limit of its own.
    pub change_bytes_max: u64,
    /// Unix milliseconds after which changes that admit their time are refused; 0 is never.
    pub not_after_ms: u64,
    /// How many more times it may be handed on.
    pub depth: u8,
    /// A word for people, at most 64 bytes.
    pub label: Box<str>,
}

impl Grant {
    /// Where it is good, with the holder's key in the place of `{author}`. If it is for anyone, that stays.
    #[must_use]
    pub fn own_scope(&self) -> Scope {
        match &self.audience {
            Audience::Key(key) => self.scope.of_author(key),
            Audience::Anyone => self.scope.clone(),
        }
    }
}

/// Takes a grant back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// Which grant.
    pub grant: GrantId,
    /// Whether everything handed on from it goes too, seen or not.
    pub cascade: bool,
    /// Changes whose effect stays, with everything before them.
    pub keep: Vec<ChangeId>,
}

/// The first statement of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// `H("next root", public key)` of the root that may follow.
    pub next: Option<[u8; 32]>,
    /// How many of which keys together may name a new root.
    pub guardians: Option<(u8, Vec<PublicKey>)>,
}

/// Names the next root key of a space. It counts as the first op of a change signed by that key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succeed {
    /// Which root state it follows: [`Genesis::state`] or [`Succeed::state`].
    pub from: [u8; 32],
    /// The new root.
    pub root: PublicKey,
    /// What the new root commits to, as a [`Genesis`] does: the root after it, and the guardians.
    pub plan: Genesis,
    /// Who allows it.
    pub authority: Authority,
}

/// Who allows a new root. They sign [`Succeed::signing_message`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The root before it.
    Root(Signature),
    /// Guardians, strictly ascending by key.
    Guardians(Vec<(PublicKey, Signature)>),
}

impl Genesis {
    /// Names the root state that a space begins with: `H("genesis state", space ‖ fields)`.
    #[must_use]
    pub fn state(&self, space: &PublicKey) -> [u8; 32] {
        let mut out = Writer::new();
        self.encode(&mut out);
        hash("genesis state", &[space.as_bytes(), &out.into_bytes()])
    }
}

impl Succeed {
    /// Names the root state that it makes: `H("root state", from ‖ root ‖ next ‖ guardians)`. Two statements that
    /// differ only in who allowed them make the same state.
    #[must_use]
    pub fn state(&self) -> [u8; 32] {
        let mut out = Writer::new();
        self.plan.encode(&mut out);
        hash("root state", &[&self.from, self.root.as_bytes(), &out.into_bytes()])
    }

    /// What the old root, or the guardians, sign.
    #[must_use]
    pub fn signing_message(&self) -> Vec<u8> {
        [b"timebus.v1 succeed\0".as_slice(), &self.state()].concat()
    }
}

const LABEL_BYTES_MAX: usize = 64;
const TIMELINES_MAX: usize = 64;
/// Most changes that one revocation keeps; a timeline with more heads has them merged before.
pub const KEEP_MAX: usize = 4096;
const GUARDIANS_MAX: usize = 16;

impl Scope {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.var(self.segments.len() as u64);
        for segment in &self.segments {
            match segment {
                ScopeSegment::Name(name) => {
                    out.u8(0);
                    out.bytes(name.as_bytes());
                }
                ScopeSegment::Author => out.u8(1),
            }
        }
        out.flag(self.deep);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let invalid = DecodeError::Invalid { field: "scope" };
        let count = input.count(Path::SEGMENTS_MAX, "scope segments")?;
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            segments.push(match input.u8("scope segment")? {
                0 => match Segment::name(input.text(Path::SEGMENT_BYTES_MAX, "scope segment")?) {
                    Ok(Segment::Name(name)) => ScopeSegment::Name(name),
                    _ => return Err(invalid),
                },
                1 => ScopeSegment::Author,
                _ => return Err(invalid),
            });
        }
        Ok(Self { segments, deep: input.flag("scope depth")? })
    }
}

impl Grant {
    pub(crate) fn encode(&self, out: &mut Writer) {
        match &self.audience {
            Audience::Anyone => out.u8(0),
            Audience::Key(key) => {
                out.u8(1);
                out.raw(key.as_bytes());
            }
        }
        self.scope.encode(out);
        match &self.timelines {
            Timelines::Main => out.u8(0),
            Timelines::All => out.u8(1),
            Timelines::Only(ids) => {
                out.u8(2);
                out.var(ids.len() as u64);
                ids.iter().for_each(|id| out.raw(id.as_bytes()));
            }
        }
        out.u8(self.actions.0);
        out.var(self.bytes_max);
        out.var(self.change_bytes_max);
        out.var(self.not_after_ms);
        out.u8(self.depth);
        out.bytes(self.label.as_bytes());
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let audience = match input.u8("audience")? {
            0 => Audience::Anyone,
            1 => Audience::Key(PublicKey::from_bytes(input.array("audience")?)),
            _ => return Err(DecodeError::Invalid { field: "audience" }),
        };
        let scope = Scope::decode(input)?;
        let timelines = match input.u8("timelines")? {
            0 => Timelines::Main,
            1 => Timelines::All,
            2 => Timelines::Only(decode_ascending(input, TIMELINES_MAX, "timelines", TimelineId)?),
            _ => return Err(DecodeError::Invalid { field: "timelines" }),
        };
        let actions = input.u8("actions")?;
        if actions > Actions::ALL.0 {
            return Err(DecodeError::Invalid { field: "actions" });
        }
        Ok(Self {
            audience,
            scope,
            timelines,
            actions: Actions(actions),
            bytes_max: input.var(u64::MAX, "byte limit")?,
            change_bytes_max: input.var(u64::MAX, "change limit")?,
            not_after_ms: input.var(u64::MAX, "expiry")?,
            depth: input.u8("depth")?,
            label: input.text(LABEL_BYTES_MAX, "label")?.into(),
        })
    }
}

impl Revoke {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.raw(self.grant.as_bytes());
        out.flag(self.cascade);
        out.var(self.keep.len() as u64);
        self.keep.iter().for_each(|id| out.raw(id.as_bytes()));
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            grant: GrantId(input.array("grant")?),
            cascade: input.flag("cascade")?,
            keep: decode_ascending(input, KEEP_MAX, "kept changes", ChangeId)?,
        })
    }
}

impl Genesis {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.flag(self.next.is_some());
        if let Some(next) = &self.next {
            out.raw(next);
        }
        out.flag(self.guardians.is_some());
        if let Some((needed, keys)) = &self.guardians {
            out.u8(*needed);
            out.var(keys.len() as u64);
            keys.iter().for_each(|key| out.raw(key.as_bytes()));
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let next = if input.flag("next root")? { Some(input.array("next root")?) } else { None };
        let guardians = if input.flag("guardians")? {
            let needed = input.u8("guardians needed")?;
            let keys = decode_ascending(input, GUARDIANS_MAX, "guardians", PublicKey::from_bytes)?;
            if needed == 0 || usize::from(needed) > keys.len() {
                return Err(DecodeError::Invalid { field: "guardians needed" });
            }
            Some((needed, keys))
        } else {
            None
        };
        Ok(Self { next, guardians })
    }
}

impl Succeed {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.raw(&self.from);
        out.raw(self.root.as_bytes());
        self.plan.encode(out);
        match &self.authority {
            Authority::Root(signature) => {
                out.u8(0);
                out.raw(signature.as_bytes());
            }
            Authority::Guardians(signatures) => {
                out.u8(1);
                out.var(signatures.len() as u64);
                for (key, signature) in signatures {
                    out.raw(key.as_bytes());
                    out.raw(signature.as_bytes());
                }
            }
        }
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let from = input.array("root state")?;
        let root = PublicKey::from_bytes(input.array("new root")?);
        let plan = Genesis::decode(input)?;
        let authority = match input.u8("authority")? {
            0 => Authority::Root(Signature::from_bytes(input.array("signature of the root")?)),
            1 => {
                let count = input.count(GUARDIANS_MAX, "signatures of guardians")?;
                let mut signatures: Vec<(PublicKey, Signature)> = Vec::with_capacity(count);
                for _ in 0..count {
                    let key = PublicKey::from_bytes(input.array("guardian")?);
                    if signatures.last().is_some_and(|(last, _)| *last >= key) {
                        return Err(DecodeError::Order { field: "signatures of guardians" });
                    }
                    signatures.push((key, Signature::from_bytes(input.array("signature of a guardian")?)));
                }
                Authority::Guardians(signatures)
            }
            _ => return Err(DecodeError::Invalid { field: "authority" }),
        };
        Ok(Self { from, root, plan, authority })
    }
}

/// Reads a strictly ascending list of 32-byte ids.
pub(crate) fn decode_ascending<T: Ord>(
    input: &mut Reader<'_>,
    max: usize,
    field: &'static str,
    make: impl Fn([u8; 32]) -> T,
) -> Result<Vec<T>, DecodeError> {
    let count = input.count(max, field)?;
    let mut ids: Vec<T> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = make(input.array(field)?);
        if ids.last().is_some_and(|last| *last >= id) {
            return Err(DecodeError::Order { field });
        }
        ids.push(id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_what_it_says() {
        let author = PublicKey::from_bytes([7; 32]);
        let own = Scope { segments: vec![ScopeSegment::Name(".drop".into()), ScopeSegment::Author], deep: true };
        let path = |text: &str| Path::parse(text).expect("valid");
        assert!(own.covers(&path(&format!("/.drop/{author}/x")), &author));
        assert!(!own.covers(&path("/.drop/other/x"), &author));
        assert!(Scope::everything().covers(&Path::root(), &author));
        assert!(Scope::everything().includes(&own));
        assert!(!own.includes(&Scope::everything()));
        let flat = Scope { segments: vec![], deep: false };
        assert!(flat.covers(&Path::root(), &author) && !flat.covers(&path("/a"), &author));
    }
}
