//! What has no effect because of somebody's right, and what taking a right back would do.
//!
//! Hidden changes stay in the log. Whoever may take the right back can see what they did, and keep it.

use std::collections::{BTreeSet, HashSet};

use timebus_identity::PublicKey;

use crate::auth::{Changed, Rights};
use crate::change::{Body, Header, Kind};
use crate::fold::Bodies;
use crate::grant::{Audience, KEEP_MAX, Revoke};
use crate::ids::{ChangeId, GrantId, TimelineId};
use crate::keyspace::{Committed, Layered, Rows, Table};
use crate::log::LogReader;
use crate::op::Op;
use crate::path::Path;
use crate::pipeline::{APPLIED, decode_applied, forked, forks};
use crate::store::StorageError;
use crate::summary::{find, summary};
use crate::vouch::{Judge, Scopes, could, unrooted};

/// Most paths that are named of one change.
const PATHS_MAX: usize = 20;
/// Most changes that are listed at once.
pub const HIDDEN_MAX: usize = 10_000;

/// A change of which something has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenChange {
    /// Its id.
    pub id: ChangeId,
    /// Who wrote it.
    pub author: PublicKey,
    /// In the name of which grant; `None` for a root key.
    pub cap: Option<GrantId>,
    /// Unix milliseconds, as the author said.
    pub time_ms: u64,
    /// Bytes of its body.
    pub bytes: u64,
    /// Paths at which it did something that has no effect; the first ones.
    pub paths: Vec<Path>,
    /// Whether because its author signed two changes at one place of his chain.
    pub forked: bool,
}

/// What taking grants back would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Grants that would no longer be in force.
    pub dead: Vec<GrantId>,
    /// Changes that would no longer show, or not all of them.
    pub hidden: Vec<HiddenChange>,
    /// Changes by the holders of those grants that would go on showing.
    pub kept: usize,
}

/// Changes of a space of which something has no effect, the latest last.
///
/// # Errors
///
/// [`StorageError`].
pub fn hidden(
    rows: &Committed,
    log: &LogReader,
    rights: &Rights,
    timelines: &[(u32, TimelineId)],
    max: usize,
) -> Result<Vec<HiddenChange>, StorageError> {
    let mut bodies = Bodies::new(log.clone());
    let mut all = Vec::new();
    for (t, _) in timelines {
        for row in rows.scan(Table::Unrooted, &t.to_be_bytes(), None) {
            let Some(a) = row?.0.last_chunk::<8>().map(|a| u64::from_be_bytes(*a)) else { continue };
            let Some(scopes) = unrooted(rows, *t, a)? else { continue };
            all.extend(describe(rows, &mut bodies, rights, *t, a, &scopes)?);
            if all.len() >= max {
                return Ok(all);
            }
        }
    }
    Ok(all)
}

fn describe(rows: &impl Rows, bodies: &mut Bodies, rights: &Rights, t: u32, a: u64, scopes: &Scopes) -> Result<Option<HiddenChange>, StorageError> {
    let own = summary(rows, t, a)?;
    let could = could(rights, &own.author, own.cap.as_ref());
    if !could.is_empty() && could.iter().all(|could| scopes.include(could)) {
        return Ok(None);
    }
    let mut paths = bodies.named_by(rows, t, a)?;
    paths.retain(|path| !scopes.cover(path, &own.author));
    if paths.is_empty() {
        return Ok(None);
    }
    paths.truncate(PATHS_MAX);
    let before = if own.seq > 1 { own.deps.first().map(|prev| summary(rows, t, *prev)).transpose()? } else { None };
    let bytes = own.cum.saturating_sub(before.map_or(0, |before| before.cum));
    let forked = forked(rows, t, &own.author)?.is_some_and(|fork| own.seq >= fork);
    Ok(Some(HiddenChange { id: own.id, author: own.author, cap: own.cap, time_ms: own.time_ms, bytes, paths, forked }))
}

/// Grants that are taken back, all by one, and what goes on to have its effect: that is said once, with as many of them as it takes.
#[must_use]
pub fn revocations(grants: &[GrantId], cascade: bool, keep: &[ChangeId]) -> Vec<Op> {
    let Some(first) = grants.first() else { return Vec::new() };
    let mut kept = keep.chunks(KEEP_MAX);
    let revoke = |grant: &GrantId, keep: &[ChangeId]| Op::Revoke(Revoke { grant: *grant, cascade, keep: keep.to_vec() });
    let mut ops: Vec<Op> = grants.iter().map(|grant| revoke(grant, kept.next().unwrap_or_default())).collect();
    ops.extend(kept.map(|keep| revoke(first, keep)));
    ops
}

/// Rights as they would be after some revocations, made now by a device in the name of a grant.
#[must_use]
pub fn suppose(rights: &Rights, space: &PublicKey, device: PublicKey, cap: Option<GrantId>, heads: Vec<ChangeId>, ops: Vec<Op>) -> (Rights, Changed) {
    let mut rights = rights.clone();
    let mut parents = heads;
    parents.sort_unstable();
    let header = Header {
        kind: Kind::Auth,
        timeline: TimelineId::named(space, "auth"),
        author: device,
        seq: 1,
        prev: None,
        cap,
        parents,
        lamport: 1,
        time_ms: 0,
        cum: 0,
        body_len: 0,
        body_root: [0; 32],
        encryption: None,
    };
    let changed = rights.learn(ChangeId([0xff; 32]), &header, &Body { ops, ..Body::default() });
    (rights, changed)
}

/// Whose changes may show no longer, or again, when grants are in force no longer, or again.
#[must_use]
pub fn concerned(rights: &Rights, changed: &Changed) -> BTreeSet<PublicKey> {
    let holders = changed.live.iter().chain(&changed.dead).filter_map(|id| rights.grant(id)).filter_map(|held| match held.grant.audience {
        Audience::Key(key) => Some(key),
        Audience::Anyone => None,
    });
    holders.collect()
}

/// What taking grants back would do, worked out with the rules that will decide it.
///
/// # Errors
///
/// [`StorageError`].
pub fn preview(
    rows: Committed,
    log: &LogReader,
    rights: &Rights,
    (auth, timelines): (u32, &[(u32, TimelineId)]),
    (space, device, cap): (PublicKey, PublicKey, GrantId),
    grants: &[GrantId],
    (cascade, keep): (bool, bool),
) -> Result<Preview, StorageError> {
    let heads = crate::tips::heads(&rows, auth)?;
    let heads: Vec<ChangeId> = heads.iter().map(|a| Ok(summary(&rows, auth, *a)?.id)).collect::<Result<_, StorageError>>()?;
    let main = TimelineId::named(&space, "main");
    let end = rows.get(Table::Meta, APPLIED)?.map(|row| decode_applied(&row)).transpose()?.map_or(1, |(next, _)| next);
    let mut forked = Vec::new();
    for (t, timeline) in timelines {
        forked.push((*t, *timeline, forks(&rows, *t)?));
    }
    let before = rows.clone();
    let mut rows = Layered::new(rows, None);
    let (after, changed) = suppose(rights, &space, device, Some(cap), heads.clone(), revocations(grants, cascade, &[]));
    let authors = concerned(&after, &changed);
    let mut kept = Vec::new();
    if keep {
        for (t, timeline, forks) in &forked {
            let judge = Judge { rows: &mut rows, rights, t: *t, timeline: *timeline, main, forks };
            kept.extend(keep_list(&judge, &authors, &changed.dead)?);
        }
        kept.sort_unstable();
    }
    let (after, changed) = suppose(rights, &space, device, Some(cap), heads, revocations(grants, cascade, &kept));
    let mut bodies = Bodies::new(log.clone());
    let mut preview = Preview { dead: changed.dead, ..Preview::default() };
    for (t, timeline, forks) in &forked {
        let flips = Judge { rows: &mut rows, rights: &after, t: *t, timeline: *timeline, main, forks }.again(&authors, end)?;
        for a in flips {
            let Some(scopes) = unrooted(&rows, *t, a)? else { continue };
            match describe(&rows, &mut bodies, &after, *t, a, &scopes)? {
                Some(change) => {
                    // What is hidden already is no news.
                    let known = match unrooted(&before, *t, a)? {
                        Some(scopes) => describe(&before, &mut bodies, rights, *t, a, &scopes)?,
                        None => None,
                    };
                    if known.is_none_or(|known| known.paths != change.paths) {
                        preview.hidden.push(change);
                    }
                }
                None => preview.kept += 1,
            }
        }
    }
    Ok(preview)
}

/// The changes that a revocation keeps, so that everything that its targets did and that shows goes on showing.
///
/// # Errors
///
/// [`StorageError`].
pub fn keep_list(judge: &Judge<'_>, authors: &BTreeSet<PublicKey>, dead: &[GrantId]) -> Result<Vec<ChangeId>, StorageError> {
    let caps: HashSet<GrantId> = dead.iter().copied().collect();
    let mut keep = Vec::new();
    for author in authors {
        keep.extend(judge.keep_list(author, &caps)?);
    }
    keep.sort_unstable();
    keep.dedup();
    Ok(keep)
}

/// The grant to take back once more so that a hidden change is kept.
///
/// # Errors
///
/// [`StorageError`].
pub fn cap_of(rows: &impl Rows, change: &ChangeId, is_there: impl Fn(u32) -> bool) -> Result<Option<GrantId>, StorageError> {
    match find(rows, change)? {
        Some((t, a)) if is_there(t) => Ok(summary(rows, t, a)?.cap),
        _ => Ok(None),
    }
}
