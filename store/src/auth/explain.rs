//! Answers to questions about rights: who may, by which grants, and if not, what is missing.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use timebus_identity::PublicKey;

use super::{CHAIN_MAX, Held, Revocation, Rights};
use crate::change::OVERHEAD_BYTES;
use crate::grant::{Actions, Audience, Scope, Timelines};
use crate::ids::{ChangeId, GrantId, OpId, TimelineId};
use crate::path::Path;

/// Most ways that [`Rights::explain`] tells of; those that lack least come first.
pub const WAYS_MAX: usize = 16;

/// By what somebody may do something.
#[derive(Debug)]
pub struct Allowed<'a> {
    /// Whether by being the root.
    pub root: bool,
    /// Live grants, the best first.
    pub grants: Vec<(GrantId, &'a Held)>,
}

impl Allowed<'_> {
    /// Whether nothing allows it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.root && self.grants.is_empty()
    }
}

/// Why somebody may, or may not, do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether he may.
    pub allowed: bool,
    /// Whether because his key is the root. Then there are no ways.
    pub root: bool,
    /// His grants with what each lacks, the best first. None: he was never granted anything.
    pub ways: Vec<Way>,
}

/// A grant, seen as a way to do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The grants from the root's to his own.
    pub links: Vec<GrantId>,
    /// What it does not allow; nothing if it does.
    pub lacks: Vec<Lack>,
}

/// Why a grant does not allow something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// These actions are not granted.
    Actions(Actions),
    /// It is for other timelines.
    Timeline(Timelines),
    /// It is for these paths.
    Path(Scope),
    /// What is there is the owner's own word, and it was given for more than that.
    OwnWord,
    /// It ended, in Unix milliseconds.
    Ended(u64),
    /// What may be written by it is used up.
    UsedUp {
        /// Bytes that it allows in all.
        max: u64,
        /// Bytes that were written.
        written: u64,
    },
    /// By it nothing can be given to others: it was handed on as often as it may be.
    Depth,
    /// It is for everybody, and none of the owner's devices gave it.
    ForEverybody,
    /// It is not in force.
    Hidden(Hidden),
}

/// Why a grant is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Somebody took it, or what it was handed on from, back.
    Revoked {
        /// The statement.
        by: OpId,
        /// Who made it.
        author: PublicKey,
        /// In the name of which grant; `None` for the root.
        issuer: Option<GrantId>,
        /// The grant that it names.
        named: GrantId,
        /// Unix milliseconds when, as that author said.
        time_ms: u64,
    },
    /// It comes from a root key that gave it when it was no longer root, or while that is in dispute.
    Root {
        /// That key.
        author: PublicKey,
    },
}

/// Keys of which it is remembered what they are; of more it is worked out anew.
const PARTIES_MAX: usize = 1024;

/// Until when a key has a right, and what is about it.
struct Party {
    until_ms: Option<u64>,
    about: Box<[ChangeId]>,
    last: OnceLock<u64>,
    /// Whether who is the root decided that something it was given is worth nothing.
    by_roots: bool,
}

/// That of some keys: whoever is out can have been given thousands of grants, and goes on asking.
#[derive(Default)]
pub(super) struct Parties(Mutex<HashMap<PublicKey, Arc<Party>>>);

impl Clone for Parties {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Parties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parties")
    }
}

impl Rights {
    /// Whether a grant is in force, or was until somebody took it back who knew of it. What is stated in the name of a grant by
    /// whoever has lost that never was, and neither counts what a root gave that is none any more.
    #[must_use]
    pub fn was_in_force(&self, id: &GrantId) -> bool {
        let knew = |revocation: &Revocation| {
            let is_before = |held: &Held| self.dag.is_before(held.change, revocation.change);
            revocation.revoke.grant == *id || self.grants.get(id).is_some_and(is_before)
        };
        self.comes_from_root(id) && self.killers(id).all(knew)
    }

    /// Whether any of some grants was known to whoever gave another one. Costs as much as there are statements.
    #[must_use]
    pub fn knew_any(&self, later: &GrantId, earlier: &[GrantId]) -> bool {
        let Some(later) = self.grants.get(later).filter(|_| !earlier.is_empty()) else { return false };
        let past = self.dag.past_of_number(later.change);
        earlier.iter().filter_map(|id| self.grants.get(id)).any(|held| past.contains(held.change))
    }

    fn party(&self, key: &PublicKey) -> Arc<Party> {
        if let Some(known) = self.parties.0.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Arc::clone(known);
        }
        let is_enough =
            |held: &Held| held.grant.audience != Audience::Anyone || held.grant.actions.contains(Actions::SYNC) && held.carries_timeline();
        let fits = |held: &Held| held.live && self.is_for_him(held) && is_enough(held);
        let until = |held: &Held| if held.grant.not_after_ms == 0 { u64::MAX } else { held.grant.not_after_ms };
        let until_ms = self.grants_for(key).filter(|(_, held)| fits(held)).map(|(_, held)| until(held)).max();
        let own = self.audiences.get(&Audience::Key(*key)).into_iter().flatten().filter(|id| self.was_in_force(id));
        let changes: BTreeSet<ChangeId> = own
            .flat_map(|id| {
                let given = self.grants.get(id).map(|held| held.op.change);
                given.into_iter().chain(self.killers(id).map(|revocation| revocation.op.change))
            })
            .collect();
        let by_roots = self.audiences.get(&Audience::Key(*key)).is_some_and(|own| own.iter().any(|id| !self.comes_from_root(id)));
        let party = Arc::new(Party { until_ms, about: changes.into_iter().collect(), last: OnceLock::new(), by_roots });
        let mut parties = self.parties.0.lock().unwrap_or_else(PoisonError::into_inner);
        if parties.len() >= PARTIES_MAX {
            parties.clear();
        }
        Arc::clone(parties.entry(*key).or_insert(party))
    }

    /// Why a grant is not in force. Nothing if it is, or is not known.
    #[must_use]
    pub fn hidden_by(&self, id: &GrantId) -> Vec<Hidden> {
        let mut why: Vec<Hidden> = self
            .killers(id)
            .map(|revocation| Hidden::Revoked {
                by: revocation.op,
                author: revocation.author,
                issuer: revocation.issuer,
                named: revocation.revoke.grant,
                time_ms: revocation.time_ms,
            })
            .collect();
        if !self.comes_from_root(id)
            && let Some((_, first)) = self.links(id).last()
        {
            why.push(Hidden::Root { author: first.author });
        }
        why
    }

    /// The changes by which a key knows that it was let in, that it no longer is, and what of its own is kept all the same: those
    /// that gave it grants that are in force, or [were](Rights::was_in_force), and those that took these back.
    #[must_use]
    pub fn about(&self, key: &PublicKey) -> Vec<ChangeId> {
        self.party(key).about.to_vec()
    }

    /// Whether there is any change [about](Rights::about) a key, or it [lost something by](Rights::lost_by_roots) who is the root.
    #[must_use]
    pub fn is_known(&self, key: &PublicKey) -> bool {
        let party = self.party(key);
        party.by_roots || !party.about.is_empty()
    }

    /// Whether a key was given something that is worth nothing by who is the root now, or since that is in dispute: what the next
    /// root had not seen. All others whose right was taken back need to hear of no new root: those that gave it, or took it, come
    /// before that.
    #[must_use]
    pub fn lost_by_roots(&self, key: &PublicKey) -> bool {
        self.party(key).by_roots
    }

    /// The arrival number of the last change [about](Rights::about) a key, 0 without one. Each is looked up once.
    ///
    /// # Errors
    ///
    /// What the look-up says.
    pub fn last_about<E>(&self, key: &PublicKey, mut find: impl FnMut(&ChangeId) -> Result<Option<u64>, E>) -> Result<u64, E> {
        let party = self.party(key);
        if let Some(last) = party.last.get() {
            return Ok(*last);
        }
        let (mut last, mut is_whole) = (0, true);
        for id in &party.about {
            match find(id)? {
                Some(a) => last = last.max(a),
                // It came after the moment that is looked at.
                None => is_whole = false,
            }
        }
        if is_whole {
            let _ = party.last.set(last);
        }
        Ok(last)
    }

    /// By what a key may do all of `actions` somewhere in a timeline, at a time in Unix milliseconds. Also by grants
    /// for anyone.
    #[must_use]
    pub fn may(&self, key: &PublicKey, actions: Actions, timeline: &TimelineId, time_ms: u64) -> Allowed<'_> {
        let fits = |held: &Held| {
            let grant = &held.grant;
            held.live
                && grant.actions.contains(actions)
                && grant.timelines.contains(timeline, &self.main)
                && !has_ended(held, time_ms)
                && self.is_for_him(held)
        };
        let mut grants: Vec<(GrantId, &Held)> = self.grants_for(key).filter(|(_, held)| fits(held)).collect();
        grants.sort_by_cached_key(|(id, held)| self.worth(*id, held));
        Allowed { root: self.root() == *key, grants }
    }

    /// A live grant by which a key, or without one anybody, may do all of `actions` at a path of a timeline and
    /// everywhere below it, at a time in Unix milliseconds. What is for one path alone is none.
    ///
    /// Who may read and fetch the timeline of a path gets all of it over a link, so there is no path in it that he may
    /// not read.
    #[must_use]
    pub fn grant_covering(&self, key: Option<&PublicKey>, actions: Actions, timeline: &TimelineId, path: &Path, time_ms: u64) -> Option<GrantId> {
        self.grants_covering(key, actions, timeline, path, time_ms).into_iter().min_by_key(|(id, held)| self.worth(*id, held)).map(|(id, _)| id)
    }

    /// All of these grants.
    #[must_use]
    pub fn grants_covering(
        &self,
        key: Option<&PublicKey>,
        actions: Actions,
        timeline: &TimelineId,
        path: &Path,
        time_ms: u64,
    ) -> Vec<(GrantId, &Held)> {
        let whole = Actions(Actions::SYNC.0 | Actions::READ.0);
        let nobody = PublicKey::from_bytes([0; 32]);
        let key = key.unwrap_or(&nobody);
        let fits = |held: &Held| {
            let grant = &held.grant;
            let covers = grant.scope.deep && grant.scope.covers(path, key);
            let reads_all = actions == Actions::READ && grant.actions.contains(whole) && held.carries_timeline();
            held.live
                && grant.actions.contains(actions)
                && grant.timelines.contains(timeline, &self.main)
                && !has_ended(held, time_ms)
                && self.is_for_him(held)
                && (covers || reads_all)
        };
        self.grants_for(key).filter(|(_, held)| fits(held)).collect()
    }

    /// Whether a key may fetch a timeline as it is, at a time in Unix milliseconds.
    #[must_use]
    pub fn may_fetch(&self, key: &PublicKey, timeline: &TimelineId, time_ms: u64) -> bool {
        self.root() == *key
            || self.is_party(Some(key), time_ms)
                && self.grants_for(key).any(|(_, held)| {
                    held.live
                        && held.grant.actions.contains(Actions::SYNC)
                        && held.carries_timeline()
                        && held.grant.timelines.contains(timeline, &self.main)
                        && !has_ended(held, time_ms)
                        && self.is_for_him(held)
                })
    }

    /// Whether a key has any right in the space at a time in Unix milliseconds; anybody, if all of it is open to everybody. A
    /// public corner makes nobody a party.
    #[must_use]
    pub fn is_party(&self, key: Option<&PublicKey>, time_ms: u64) -> bool {
        let nobody = PublicKey::from_bytes([0; 32]);
        let key = key.unwrap_or(&nobody);
        self.root() == *key || self.party(key).until_ms.is_some_and(|until_ms| time_ms <= until_ms)
    }

    /// Whether a key was let in by name, and still is.
    #[must_use]
    pub fn is_member(&self, key: &PublicKey) -> bool {
        self.grants_for(key).any(|(_, held)| held.live && held.grant.audience != Audience::Anyone)
    }

    /// Whether the owner gave a grant himself, with one of his devices.
    #[must_use]
    pub fn is_by_owner(&self, held: &Held) -> bool {
        held.parent.is_none_or(|parent| self.grant(&parent).is_some_and(Held::allows_everything))
    }

    /// Who was let in may let in others whom he names. To everybody only the owner opens something.
    fn is_for_him(&self, held: &Held) -> bool {
        held.grant.audience != Audience::Anyone || self.is_by_owner(held)
    }

    /// The best live grant by which `key` may write `path`, in the timeline that it is in.
    #[must_use]
    pub fn writer_grant(&self, key: &PublicKey, path: &Path) -> Option<GrantId> {
        self.grants_to_write(key, path, true).into_iter().next()
    }

    /// The same for somebody who is no device of the owner and does not want to be taken for one: whoever writes in the name of
    /// a grant that makes him one says that he is.
    #[must_use]
    pub fn guest_grant(&self, key: &PublicKey, path: &Path) -> Option<GrantId> {
        self.guest_grants(key, path).into_iter().next()
    }

    /// All of them, the best first. Some may have ended, or have no room left: [`Rights::check`] tells.
    #[must_use]
    pub fn guest_grants(&self, key: &PublicKey, path: &Path) -> Vec<GrantId> {
        self.grants_to_write(key, path, false)
    }

    fn grants_to_write(&self, key: &PublicKey, path: &Path, as_device: bool) -> Vec<GrantId> {
        let timeline = self.timeline_of(path);
        let fits = |held: &Held| {
            held.live
                && (as_device || !held.allows_everything())
                && held.grant.audience == Audience::Key(*key)
                && held.grant.actions.contains(Actions::WRITE)
                && held.grant.timelines.contains(&timeline, &self.main)
                && self.covers(held, path, key)
        };
        self.best_first(self.grants_for(key).filter(|(_, held)| fits(held)))
    }

    /// Grants in the order in which they are to be used. What one does is hidden when the grant is taken back, or refused when it
    /// ends, so nobody who gives something to somebody is to have a say in what he has from others: first what the owner gave,
    /// then what comes from him by the fewest hands, then what has no end and no limit, then what is wide; of equal ones that with
    /// the smallest id, so that every peer takes the same.
    pub fn best_first<'a>(&self, grants: impl Iterator<Item = (GrantId, &'a Held)>) -> Vec<GrantId> {
        let mut all: Vec<(Worth, GrantId)> = grants.map(|(id, held)| (self.worth(id, held), id)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    fn worth(&self, id: GrantId, held: &Held) -> Worth {
        // 0 means without end, or without limit.
        let endless = |n: u64| Reverse(n.wrapping_sub(1));
        let grant = &held.grant;
        let limits = (endless(grant.not_after_ms), endless(grant.bytes_max), endless(grant.change_bytes_max));
        (!self.is_by_owner(held), held.chain, limits, !grant.scope.deep, grant.scope.segments.len(), id)
    }

    /// Why a key may, or may not, do all of `actions` at a path of a timeline, at a time in Unix milliseconds, when it has
    /// written so many bytes there: the `cum` of its last change.
    #[must_use]
    pub fn explain(&self, key: &PublicKey, actions: Actions, (timeline, written): (&TimelineId, u64), path: &Path, time_ms: u64) -> Explanation {
        if self.root() == *key {
            return Explanation { allowed: true, root: true, ways: Vec::new() };
        }
        let mut ways: Vec<_> = self
            .grants_for(key)
            .map(|(id, held)| {
                let mut lacks = Vec::new();
                let missing = Actions(actions.0 & !held.grant.actions.0);
                if missing.0 != 0 {
                    lacks.push(Lack::Actions(missing));
                }
                if !held.grant.timelines.contains(timeline, &self.main) {
                    lacks.push(Lack::Timeline(held.grant.timelines.clone()));
                }
                if !held.grant.scope.covers(path, key) {
                    lacks.push(Lack::Path(held.scope()));
                } else if actions.contains(Actions::WRITE) && !self.covers(held, path, key) {
                    lacks.push(Lack::OwnWord);
                }
                if has_ended(held, time_ms) {
                    lacks.push(Lack::Ended(held.grant.not_after_ms));
                }
                let max = held.grant.bytes_max;
                if actions.contains(Actions::WRITE) && max > 0 && written.saturating_add(OVERHEAD_BYTES) >= max {
                    lacks.push(Lack::UsedUp { max, written });
                }
                if actions.contains(Actions::GRANT) && missing.0 & Actions::GRANT.0 == 0 && (held.grant.depth == 0 || held.chain >= CHAIN_MAX) {
                    lacks.push(Lack::Depth);
                }
                if !self.is_for_him(held) {
                    lacks.push(Lack::ForEverybody);
                }
                lacks.extend(self.hidden_by(&id).into_iter().map(Lack::Hidden));
                let mut links: Vec<GrantId> = self.links(&id).map(|(link, _)| link).collect();
                links.reverse();
                (lacks.len(), self.worth(id, held), Way { links, lacks })
            })
            .collect();
        ways.sort_by_key(|(lacks, worth, _)| (*lacks, *worth));
        ways.truncate(WAYS_MAX);
        let ways: Vec<Way> = ways.into_iter().map(|(.., way)| way).collect();
        Explanation { allowed: ways.first().is_some_and(|way| way.lacks.is_empty()), root: false, ways }
    }

    /// What the holder of a key may use, in force or not.
    pub fn grants_for(&self, key: &PublicKey) -> impl Iterator<Item = (GrantId, &Held)> {
        let ids = [Audience::Key(*key), Audience::Anyone].map(|audience| self.audiences.get(&audience).map_or(&[][..], Vec::as_slice));
        ids.into_iter().flatten().filter_map(|id| Some((*id, self.grants.get(id)?)))
    }
}

fn has_ended(held: &Held, time_ms: u64) -> bool {
    held.grant.not_after_ms > 0 && time_ms > held.grant.not_after_ms
}

/// See [`Rights::best_first`].
type Worth = (bool, u8, (Reverse<u64>, Reverse<u64>, Reverse<u64>), bool, usize, GrantId);
