//! Room that several share.
//!
//! Keys are made at will, and whoever may let others in lets in his own, again and again. So of whom nothing else is known
//! there is room for only so many together: for those whom one member of a space let in, [`TOGETHER`] times what that member
//! may keep himself; and in one space, whoever let them in, so many times what its owner may. All that is in the space counts
//! there, and only those are held back of whom nothing else is known: friends, guests and those of whom the owner of this peer
//! said how much they may keep have it also where others have filled the rest.
//!
//! Who let somebody in is asked for each space: in his own a member may let in whom he likes, and that is no reason to keep more
//! of them elsewhere. Where several let somebody in, there has to be room with one of them, and what he brings counts with all:
//! so nobody is shut out by who lets him in, too, and nobody has more room by several who do.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use timebus_identity::{PublicKey, hash};
use timebus_store::auth::{Held, Rights};
use timebus_store::grant::Audience;
use timebus_store::keyspace::Committed;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::tips;

use super::{Author, Relation, Settings, Used};
use crate::invites::INVITE;
use crate::whose::spaces_of;

/// So many times what somebody may keep here himself may be kept by all those together whom he let in, and of whom nothing else
/// is known. In a space that is followed that is 8 GB, and thousands of people do not write as much.
const TOGETHER: u64 = 8;

/// Of how many groups, each within the next, it is asked who is in them.
const GROUPS_MAX: usize = 4;

/// How many bytes of those of whom nothing is known may be in all of a space: none if the owner wants nothing of it.
pub(super) fn space_max(settings: &Settings, of: &Author) -> u64 {
    if settings.never.contains(&of.person.to_string()) { 0 } else { together_max(settings, of) }
}

/// How many bytes all those may keep here together whom somebody let in. That nothing more of himself is wanted shuts none of
/// them out.
pub(super) fn together_max(settings: &Settings, who: &Author) -> u64 {
    let person = who.person.to_string();
    let limit = settings.limits.get(&person).filter(|_| !settings.once.contains(&person));
    limit.copied().unwrap_or(who.relation.bytes_max()).saturating_mul(TOGETHER)
}

/// Whether nothing is known of somebody, so that he has room only where those have it who let him in.
pub(super) fn is_unknown(settings: &Settings, who: &Author) -> bool {
    who.relation == Relation::Stranger && !settings.limits.contains_key(&who.person.to_string())
}

/// The members who let a key into a space; none if its owner did, too.
pub(crate) fn sponsors(rights: &Rights, key: &PublicKey) -> Vec<PublicKey> {
    let mut sponsors = Vec::new();
    for (_, held) in rights.grants_for(key).filter(|(_, held)| held.grant.audience != Audience::Anyone) {
        match brought_by(rights, held) {
            Some(sponsor) if sponsors.contains(&sponsor) => {}
            Some(sponsor) => sponsors.push(sponsor),
            None => return Vec::new(),
        }
    }
    sponsors
}

/// With whom somebody shares what there is for all together, as the places in a table: keys are made at will, and who has one more
/// has no more of it. Those are his own devices, if his space is here; else, unless the owner let him in by name, those who came by
/// the same invite, or were let in by the same member; and of whom nothing is known but what another space says, all whom that
/// space names. Named as 32 bytes: a key, or a hash.
pub(crate) fn group(store: &Store, key: &PublicKey) -> [u8; 32] {
    if let Some(space) = spaces_of(store, key, false).first() {
        return *space.as_bytes();
    }
    let own = store.rights(&store.space());
    let (mut invite, mut member) = (None, None);
    for (_, held) in own.iter().flat_map(|rights| rights.grants_for(key).filter(|(_, held)| held.grant.audience != Audience::Anyone)) {
        // Who gives something to somebody who is here already does not have him share with those whom he lets in.
        match own.as_ref().and_then(|rights| brought_by(rights, held)) {
            Some(who) => drop(member.get_or_insert(*who.as_bytes())),
            None if held.grant.label.starts_with(INVITE) => drop(invite.get_or_insert_with(|| hash("let in by", &[held.grant.label.as_bytes()]))),
            None => return *key.as_bytes(),
        }
    }
    // Whoever owns a space can name there whom he likes, also those whom others name.
    let elsewhere = || match store.granted_to(key).unwrap_or_default()[..] {
        [space] => *space.as_bytes(),
        _ => *key.as_bytes(),
    };
    invite.or(member).unwrap_or_else(elsewhere)
}

/// Somebody, and the [groups](group) that he is in, each within the next: those whom a member let in share what one has whom the same
/// let in as him. Ends with the outermost, which may be himself.
pub(crate) fn groups(store: &Store, key: &PublicKey) -> Vec<[u8; 32]> {
    let (mut all, mut at) = (vec![*key.as_bytes()], *key);
    while all.len() < GROUPS_MAX {
        let next = group(store, &at);
        if next == *at.as_bytes() {
            break;
        }
        at = PublicKey::from_bytes(next);
        // What a member does himself is beside what they do.
        let is_member = store.granted_to(&at).is_ok_and(|spaces| !spaces.is_empty());
        let id = if is_member { hash("let in by", &[b"key", &next]) } else { next };
        if all.contains(&id) {
            break;
        }
        all.push(id);
    }
    all
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

/// How much is in each space, as far as something came there since the start, and of how much of it members let in its authors.
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
    /// Who let in whom, if that was not the owner of the space.
    sponsors: HashMap<PublicKey, Vec<PublicKey>>,
    /// Bytes of all those together whom a member let in.
    together: HashMap<PublicKey, Used>,
    /// How many grants were looked at for that.
    looked_at: usize,
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
        for sponsor in self.sponsors.get(&author).into_iter().flatten() {
            let together = self.together.entry(*sponsor).or_default();
            together.take(before);
            together.add(now);
        }
    }

    /// Takes in who let in whom since it was looked at.
    fn look(&mut self, rights: &Rights) {
        let grants = rights.grants().count();
        if self.looked_at == grants {
            return;
        }
        let mut new: HashSet<PublicKey> = HashSet::new();
        for (_, held) in rights.grants_from(self.looked_at) {
            if held.allows_everything() {
                // Whoever is a device of the owner now lets in for him, also those whom he let in before.
                new.extend(self.sponsors.keys());
            }
            new.extend(if let Audience::Key(key) = held.grant.audience { Some(key) } else { None });
        }
        self.looked_at = grants;
        for key in new {
            let used = self.by.get(&key).copied().unwrap_or_default();
            let now = sponsors(rights, &key);
            now.iter().for_each(|sponsor| self.together.entry(*sponsor).or_default().add(used));
            let before = if now.is_empty() { self.sponsors.remove(&key) } else { self.sponsors.insert(key, now) };
            for sponsor in before.into_iter().flatten() {
                self.together.entry(sponsor).or_default().take(used);
            }
        }
    }
}

impl Spaces {
    /// Bytes in a space, with those that may come at somebody's expense.
    pub(super) fn used(&mut self, store: &Store, space: &PublicKey) -> Result<Used, StorageError> {
        Ok(self.counted(store, space)?.map_or_else(Used::default, |known| known.sum()))
    }

    /// Bytes of all whom a member let in, wherever he may: as much of what they have here as is in those spaces.
    pub(super) fn together(&mut self, store: &Store, sponsor: &PublicKey) -> Result<Used, StorageError> {
        let mut all = Used::default();
        for space in store.granted_to(sponsor)? {
            let known = self.counted(store, &space)?;
            all.add(known.and_then(|known| known.together.get(sponsor).copied()).unwrap_or_default());
        }
        Ok(all)
    }

    fn counted(&mut self, store: &Store, space: &PublicKey) -> Result<Option<&InSpace>, StorageError> {
        let (Some(held), Some(rights)) = (store.held(space), store.rights(space)) else { return Ok(None) };
        let known = match self.counted.entry(*space) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let (mut all, rows) = (InSpace::default(), store.snapshot());
                for t in std::iter::once(held.auth()).chain(store.values(held).into_iter().map(|(t, _)| t)) {
                    all.stale.extend(tips::tips(&*rows, t, None, usize::MAX)?.into_iter().map(|tip| tip.author));
                }
                new.insert(all)
            }
        };
        if !known.stale.is_empty() {
            let rows = store.snapshot();
            for author in std::mem::take(&mut known.stale) {
                let now = size_in(store, &rows, held, &author)?;
                known.set(author, now);
            }
        }
        known.look(&rights);
        Ok(Some(&*known))
    }

    /// Counts what comes; also what has room by now is what was to come at somebody's expense.
    pub(super) fn add(&mut self, space: &PublicKey, author: PublicKey, more: Used) {
        let Some(known) = self.counted.get_mut(space) else { return };
        known.by.entry(author).or_default().add(more);
        known.all.add(more);
        for sponsor in known.sponsors.get(&author).into_iter().flatten() {
            known.together.entry(*sponsor).or_default().add(more);
        }
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
    let statements = store.rights(&space.key).map_or(0, |rights| rights.statements_of(author));
    let mut used = Used::statements(tips::size_of(rows, space.auth(), author)?.0, statements);
    for (t, _) in store.values(space) {
        used.add(Used::values(tips::size_of(rows, t, author)?.0));
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::grant::{Actions, Grant, Scope, Timelines};
    use timebus_store::op::Op;
    use timebus_store::writer::Statement;

    use super::*;
    use crate::whose::tests::{open, tell};

    /// Who has one more key has no more places for that.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_was_let_in_with_others_shares_with_them() {
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob, carol] = homes.each_ref().map(|home| open(home.path()));
        let key = |number: u8| SecretKey::from_seed([number; 32]).public();
        let grant = |to: PublicKey, label: &str, depth: u8| {
            let (audience, scope, timelines) = (Audience::Key(to), Scope::everything(), Timelines::Main);
            let actions = Actions(Actions::SYNC.0 | Actions::READ.0 | if depth > 0 { Actions::GRANT.0 } else { 0 });
            let (bytes_max, change_bytes_max, not_after_ms) = (0, 0, 0);
            Op::Grant(Grant { audience, scope, timelines, actions, bytes_max, change_bytes_max, not_after_ms, depth, label: label.into() })
        };
        let ops = vec![grant(bob.device(), "", 1), grant(key(1), "invite:a", 0), grant(key(2), "invite:a", 0), grant(key(3), "invite:b", 0)];
        let given = alice.state(Statement::Ops(ops), 1).await.expect("granted");
        tell(&alice, &alice.space(), &bob).await;
        let there = bob.held(&alice.space()).expect("held");
        // Bob lets in keys of his, and gives something to one that is here already.
        let ops = vec![grant(key(4), "", 0), grant(key(5), "invite:b", 0), grant(key(1), "", 0)];
        bob.state_as(there, given[0], Statement::Ops(ops), 1).await.expect("handed on");
        tell(&bob, &alice.space(), &alice).await;
        // Carol, who is followed, names some in her space.
        let ops = vec![grant(key(6), "", 0), grant(key(7), "", 0), grant(key(3), "", 0)];
        carol.state(Statement::Ops(ops), 1).await.expect("granted");
        tell(&carol, &carol.space(), &alice).await;
        let group = |who: &PublicKey| PublicKey::from_bytes(group(&alice, who));
        assert_eq!((group(&bob.device()), group(&key(9))), (bob.device(), key(9)), "whom the owner let in by name, and of whom nothing is known");
        assert_eq!(group(&key(1)), group(&key(2)), "by one invite");
        assert!(![key(1), key(2), group(&key(3)), bob.device()].contains(&group(&key(1))));
        assert_eq!([4, 5].map(|number| group(&key(number))), [bob.device(); 2], "by one member");
        assert_eq!([6, 7].map(|number| group(&key(number))), [carol.space(); 2]);
        assert_eq!(group(&carol.device()), carol.space());
        assert_ne!(group(&key(3)), carol.space(), "whom she names has what he had");
    }
}
