//! Which timelines a space has beside those that it has by name, and at which paths they show.
//!
//! A mount is a statement about rights, since what may be read by whom is decided by the timeline that it is in. So it
//! stands in `auth`, where everybody who holds any right finds it before he is given a value, and it is in force and is
//! taken back like a grant. That a timeline exists is never taken back: what was written in it stays what it is.

use timebus_identity::PublicKey;

use super::Rights;
use crate::change::Header;
use crate::grant::{Actions, Scope, ScopeSegment, Timelines};
use crate::ids::{GrantId, OpId, TimelineId};
use crate::op::PathStep;
use crate::path::{Path, Segment};

/// The mode of a timeline whose changes have an order as far as they built on each other. Others are not there yet.
pub const MODE_DAG: u8 = 0;

/// A timeline that shows below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which.
    pub timeline: TimelineId,
    /// Where.
    pub path: Path,
    /// The op that says so.
    pub op: OpId,
    /// Who said it.
    pub author: PublicKey,
    /// In the name of which grant; `None` for a root key.
    pub issuer: Option<GrantId>,
    /// Unix milliseconds when, as the author said.
    pub time_ms: u64,
    lamport: u64,
    /// Whether it is in force.
    live: bool,
    change: u32,
}

impl Mount {
    /// Whether it is in force. If several are at one path, the latest is the one that shows.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// What a [`Revoke`](crate::grant::Revoke) names to take it back.
    #[must_use]
    pub fn id(&self) -> GrantId {
        self.op.grant()
    }
}

/// The scope of a path and everything below; `None` for a path that leads into a list.
#[must_use]
pub fn scope_of(path: &Path) -> Option<Scope> {
    let name = |segment: &Segment| match segment {
        Segment::Name(name) => Some(ScopeSegment::Name(name.clone())),
        Segment::Element(_) => None,
    };
    Some(Scope { segments: path.segments().iter().map(name).collect::<Option<_>>()?, deep: true })
}

/// Where something may be mounted: at a path of names that is the user's.
fn place(steps: &[PathStep]) -> Option<Path> {
    let name = |step: &PathStep| match step {
        PathStep::Name(name) => Some(Segment::Name(name.clone())),
        PathStep::Element(_) => None,
    };
    let path = Path::new(steps.iter().map(name).collect::<Option<_>>()?).ok()?;
    match path.segments().first() {
        Some(Segment::Name(first)) if !first.starts_with('.') => Some(path),
        _ => None,
    }
}

impl Rights {
    /// All timelines that were ever mounted, whether that is in force or not, by the op that said so.
    pub fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.values()
    }

    /// The mounts that show, by path.
    pub fn shown(&self) -> impl Iterator<Item = &Mount> {
        self.shown.values().filter_map(|id| self.mounts.get(id))
    }

    /// The mount that a path is in: the one at the longest path that is this one or above it.
    #[must_use]
    pub fn mount_of(&self, path: &Path) -> Option<&Mount> {
        if self.shown.is_empty() {
            return None;
        }
        let above = (1..=path.segments().len()).rev().map(|len| &path.segments()[..len]);
        above.filter_map(|segments| self.shown.get(segments)).find_map(|id| self.mounts.get(id))
    }

    /// The mounts that show strictly below a path.
    pub fn mounts_below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Mount> {
        self.shown().filter(|mount| mount.path != *path && path.contains(&mount.path))
    }

    /// The timeline of the values at a path.
    #[must_use]
    pub fn timeline_of(&self, path: &Path) -> TimelineId {
        self.mount_of(path).map_or(self.main, |mount| mount.timeline)
    }

    /// What a grant for a path has to be for, so that it is good there: `main`, or the timeline that is mounted there.
    #[must_use]
    pub fn timelines_at(&self, path: &Path) -> Timelines {
        self.mount_of(path).map_or(Timelines::Main, |mount| Timelines::Only(vec![mount.timeline]))
    }

    /// Learns of a mount. Answers whether what shows has to be looked at again.
    pub(super) fn learn_mount(&mut self, op: OpId, change: u32, header: &Header, path: &[PathStep], mode: u8) -> bool {
        let Some(path) = place(path).filter(|_| mode == MODE_DAG) else { return false };
        let Some(scope) = scope_of(&path) else { return false };
        let may = match &header.cap {
            None => self.roots.is_root_key(&header.author),
            // A timeline that is new is for those who may have all.
            Some(cap) => self.grants.get(cap).is_some_and(|held| {
                held.grant.actions.contains(Actions::GRANT) && held.grant.timelines == Timelines::All && held.scope().includes(&scope)
            }),
        };
        if !may {
            return false;
        }
        let (author, issuer, time_ms, lamport) = (header.author, header.cap, header.time_ms, header.lamport);
        let timeline = TimelineId::mounted(&self.space, &op);
        self.mounts.insert(op.grant(), Mount { timeline, path, op, author, issuer, time_ms, lamport, live: false, change });
        true
    }

    /// Decides anew which mounts are in force and which of them show. Answers whether that has changed.
    pub(super) fn evaluate_mounts(&mut self) -> bool {
        let lives: Vec<(GrantId, bool)> = self.mounts.iter().map(|(id, mount)| (*id, self.is_mounted(id, mount))).collect();
        for (id, live) in lives {
            if let Some(mount) = self.mounts.get_mut(&id) {
                mount.live = live;
            }
        }
        let mut live: Vec<&Mount> = self.mounts.values().filter(|mount| mount.live).collect();
        live.sort_unstable_by_key(|mount| (mount.lamport, mount.op));
        let shown = live.into_iter().map(|mount| (mount.path.segments().into(), mount.id())).collect();
        std::mem::replace(&mut self.shown, shown) != self.shown
    }

    fn is_mounted(&self, id: &GrantId, mount: &Mount) -> bool {
        let counts = match &mount.issuer {
            None => self.roots.counts(&self.dag, &mount.author, mount.change),
            Some(issuer) => self.comes_from_root(issuer),
        };
        let named = self.targets.get(id).map_or(&[][..], Vec::as_slice);
        counts
            && !named.iter().any(|at| self.revocations[*at].is_effective())
            && mount.issuer.is_none_or(|issuer| self.killers_of(&issuer, Some(mount.change)).next().is_none())
    }

    /// Whether the holder of a grant may take a mount back: it was made in its name, or further down; or he may do so much
    /// there that he could have made it, and takes back what others do.
    pub(super) fn may_unmount(&self, by: &GrantId, target: &GrantId) -> bool {
        let (Some(mount), Some(held)) = (self.mounts.get(target), self.grants.get(by)) else { return false };
        let is_above = mount.issuer.is_some_and(|issuer| self.links(&issuer).any(|(link, _)| link == *by));
        let is_moderator = held.grant.actions.contains(Actions(Actions::GRANT.0 | Actions::MODERATE.0))
            && held.grant.timelines == Timelines::All
            && scope_of(&mount.path).is_some_and(|scope| held.scope().includes(&scope));
        is_above || is_moderator
    }

    /// The ops that take back what shows at a path, and all that was granted of it alone.
    #[must_use]
    pub fn unmount(&self, path: &Path) -> Vec<GrantId> {
        let Some(mount) = self.shown().find(|mount| mount.path == *path) else { return Vec::new() };
        let only = Timelines::Only(vec![mount.timeline]);
        let grants = self.grants.iter().filter(|(_, held)| held.live && held.grant.timelines == only).map(|(id, _)| *id);
        let mut all: Vec<GrantId> = grants.collect();
        all.sort_unstable();
        all.push(mount.id());
        all
    }
}
