//! Room that several share.
//!
//! Keys are made at will, and whoever may let others in lets in his own, again and again. So of whom nothing else is known
//! there is room for only so many together: for those whom one member of a space let in, [`TOGETHER`] times what that member
//! may keep himself; and in one space, whoever let them in, so many times what its owner may. All that is in the space counts
//! there, and only those are held back of whom nothing else is known: friends, guests and those of whom the owner of this peer
//! said how much they may keep have it also where others have filled the rest.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use timebus_identity::PublicKey;
use timebus_store::auth::{Held, Rights};
use timebus_store::grant::Audience;
use timebus_store::keyspace::Committed;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::tips;

use super::{Author, Relation, Settings, Used};

/// So many times what somebody may keep here himself may be kept by all those together whom he let in, and of whom nothing else
/// is known. In a space that is followed that is 8 GB, and thousands of people do not write as much.
const TOGETHER: u64 = 8;

/// How many bytes of those of whom nothing is known may be in all of a space: none if the owner wants nothing of it.
pub(super) fn space_max(settings: &Settings, of: &Author) -> u64 {
    if settings.never.contains(&of.person.to_string()) { 0 } else { together_max(settings, of) }
}

/// How many bytes all those may keep here together whom somebody let in. That nothing more of himself is wanted shuts none of
/// them out.
pub(super) fn together_max(settings: &Settings, who: &Author) -> u64 {
    let person = who.person.to_string();
    settings.limits.get(&person).copied().unwrap_or(who.relation.bytes_max()).saturating_mul(TOGETHER)
}

/// Whether nothing is known of somebody, so that he has room only where those have it who let him in.
pub(super) fn is_unknown(settings: &Settings, who: &Author) -> bool {
    who.relation == Relation::Stranger && !settings.limits.contains_key(&who.person.to_string())
}

/// Who was let into which spaces, and by whom.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// Those who have rights somewhere that a member handed on, and none that an owner gave, with that member.
    by: HashMap<PublicKey, PublicKey>,
    /// The spaces in which keys have rights.
    pub(super) spaces: HashMap<PublicKey, HashSet<PublicKey>>,
}

impl Brought {
    pub(super) fn now(store: &Store) -> Self {
        let (mut brought, mut given) = (Self::default(), HashSet::new());
        for space in store.spaces() {
            let Some(rights) = store.rights(&space.key) else { continue };
            for (_, held) in rights.grants() {
                let Audience::Key(key) = held.grant.audience else { continue };
                brought.spaces.entry(key).or_default().insert(space.key);
                match brought_by(&rights, held) {
                    Some(sponsor) => drop(brought.by.insert(key, sponsor)),
                    None => drop(given.insert(key)),
                }
            }
        }
        brought.by.retain(|key, _| !given.contains(key));
        brought
    }

    /// The member who let a key in, if that was no owner.
    pub(super) fn sponsor(&self, key: &PublicKey) -> Option<PublicKey> {
        self.by.get(key).copied()
    }

    /// All whom a member let in.
    pub(super) fn of(&self, sponsor: &PublicKey) -> impl Iterator<Item = &PublicKey> {
        self.by.iter().filter(move |(_, by)| *by == sponsor).map(|(key, _)| key)
    }
}

/// The first in the chain of a grant who is no device of the space's owner, if that is not its holder. Whoever has his own from
/// the root, as the founder of a community, stands for the owner: everybody is there by him, and they share the room of the space.
fn brought_by(rights: &Rights, held: &Held) -> Option<PublicKey> {
    let (mut first, mut at) = (None, held.parent);
    while let Some(above) = at.and_then(|id| rights.grant(&id)) {
        if let Audience::Key(key) = above.grant.audience
            && above.parent.is_some()
            && !rights.was_device(&key)
        {
            first = Some(key);
        }
        at = above.parent;
    }
    first
}

/// How much is in each space, as far as something came there since the start.
#[derive(Debug, Default)]
pub(super) struct Spaces {
    counted: HashMap<PublicKey, InSpace>,
}

/// How much is in one space.
#[derive(Debug, Default)]
struct InSpace {
    by: HashMap<PublicKey, Used>,
    all: Used,
    /// What may still come of whom at the expense of somebody who built on it.
    lent: HashMap<PublicKey, Used>,
    /// Of whom it is to be counted again.
    stale: HashSet<PublicKey>,
}

impl InSpace {
    fn sum(&self) -> Used {
        let mut sum = self.all;
        self.lent.values().for_each(|lent| sum.add(*lent));
        sum
    }

    fn set(&mut self, author: PublicKey, now: Used) {
        let before = self.by.insert(author, now).unwrap_or_default();
        self.all.take(before);
        self.all.add(now);
    }
}

impl Spaces {
    /// Bytes in a space, with those that may come at somebody's expense.
    pub(super) fn used(&mut self, store: &Store, space: &PublicKey) -> Result<Used, StorageError> {
        if let Some(known) = self.counted.get(space).filter(|known| known.stale.is_empty()) {
            return Ok(known.sum());
        }
        let Some(held) = store.held(space) else { return Ok(Used::default()) };
        let rows = store.snapshot();
        let known = match self.counted.entry(*space) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut all = InSpace::default();
                for t in std::iter::once(held.auth()).chain(store.values(held).into_iter().map(|(t, _)| t)) {
                    all.stale.extend(tips::tips(&*rows, t, None, usize::MAX)?.into_iter().map(|tip| tip.author));
                }
                new.insert(all)
            }
        };
        for author in std::mem::take(&mut known.stale) {
            let now = size_in(store, &rows, held, &author)?;
            known.set(author, now);
        }
        Ok(known.sum())
    }

    /// Counts what comes; also what has room by now is what was to come at somebody's expense.
    pub(super) fn add(&mut self, space: &PublicKey, author: PublicKey, more: Used) {
        let Some(known) = self.counted.get_mut(space) else { return };
        known.by.entry(author).or_default().add(more);
        known.all.add(more);
        if let Some(lent) = known.lent.get_mut(&author) {
            lent.take(more);
        }
    }

    /// Counts what may come of an author at somebody's expense.
    pub(super) fn lend(&mut self, space: &PublicKey, author: PublicKey, more: Used) {
        if let Some(known) = self.counted.get_mut(space) {
            known.lent.entry(author).or_default().add(more);
        }
    }

    /// Has it counted again how much of an author is here.
    pub(super) fn forget(&mut self, author: PublicKey) {
        for known in self.counted.values_mut().filter(|known| known.by.contains_key(&author)) {
            known.stale.insert(author);
        }
    }
}

/// Bytes that an author has in a space.
pub(super) fn size_in(store: &Store, rows: &Committed, space: Space, author: &PublicKey) -> Result<Used, StorageError> {
    let mut used = Used::of(tips::size_of(rows, space.auth(), author)?.0, true);
    for (t, _) in store.values(space) {
        used.add(Used::of(tips::size_of(rows, t, author)?.0, false));
    }
    Ok(used)
}
