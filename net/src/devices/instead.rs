//! What somebody was let do, when the device that it was granted to is his no more: it goes over to another device of his.
//!
//! The space of a person says which devices he has, and whoever has one of them may say so there. So a device that was stolen
//! could name another one and have everything moved to that. What moves rights is the word of the root key alone: that one
//! device is none any more, and that another is one. Anybody can say this of any key in a space of his own; so a device has to
//! have written there in the name of such a grant, and nowhere else ([`whose`]).
//!
//! It is moved by who gave it: in the own space by any device of the owner, in other spaces by the device that brought the
//! guest. The new grant carries the id of the one that it is instead of, and no other is given instead of that one, whatever
//! becomes of it. So what the owner took back stays taken back. Devices of his that did not hear of each other may give it
//! twice; that is harmless, and goes together.
//!
//! So does a place in a community, which keeps its name, that of the key which had it first (`crate::community`). What somebody is a
//! guardian of does not: that is in what the root key of the other one signed, so the other one names him anew.
//!
//! [`whose`]: crate::whose

use std::collections::BTreeSet;

use timebus_identity::PublicKey;
use timebus_store::auth::{Held, Rights};
use timebus_store::grant::{Audience, Grant, Revoke};
use timebus_store::ids::GrantId;
use timebus_store::op::Op;
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::writer::{Statement, WriteError};

use super::with_devices;
use crate::lists;
use crate::who::now_ms;
use crate::whose::{certain_of, spaces_of};

/// What the labels of such grants begin with; the id of the grant that it is instead of follows.
const INSTEAD: &str = "instead:";
/// How often a right goes over from key to key. A limit of bytes is for each key anew, and whoever makes keys at will is not to
/// have room at will; nobody loses so many devices.
const TIMES_MAX: usize = 16;

/// A device that the root key of its space says is none any more, and that has a right which this device can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    key: PublicKey,
    /// The space that says so.
    of: PublicKey,
}

/// The grant that another one was given instead of, if whoever gave it may say so.
pub(crate) fn before<'a>(rights: &'a Rights, held: &Held) -> Option<(GrantId, &'a Held)> {
    let id: GrantId = held.grant.label.strip_prefix(INSTEAD)?.parse().ok()?;
    let old = rights.grant(&id)?;
    let is_same = (held.author, held.parent) == (old.author, old.parent);
    (is_same || rights.is_by_owner(held) && rights.is_by_owner(old)).then_some((id, old))
}

/// The first of the grants that were given instead of each other. Each names an older one, so there is a first.
pub(crate) fn origin<'a>(rights: &'a Rights, held: &'a Held) -> &'a Held {
    let mut held = held;
    while let Some((_, old)) = before(rights, held) {
        held = old;
    }
    held
}

/// How often what it is for went over already.
fn times(rights: &Rights, held: &Held) -> usize {
    std::iter::successors(Some(held), |held| before(rights, held).map(|(_, old)| old)).count() - 1
}

fn key_of(held: &Held) -> Option<PublicKey> {
    match held.grant.audience {
        Audience::Key(key) => Some(key),
        Audience::Anyone => None,
    }
}

/// The devices that a root key of the space took out. Nothing is said of any while it is in dispute who the root is.
fn taken_out(rights: &Rights) -> BTreeSet<PublicKey> {
    if rights.disputed().next().is_some() {
        return BTreeSet::new();
    }
    let by_root = rights.revocations().iter().filter(|revocation| revocation.is_effective() && revocation.issuer.is_none());
    let devices = by_root.filter_map(|revocation| rights.grant(&revocation.revoke.grant)).filter(|held| held.allows_everything());
    devices.filter_map(key_of).filter(|key| rights.device_grant(key).is_none()).collect()
}

/// The devices that a root key of the space named, the latest first.
fn named_by_root(rights: &Rights) -> Vec<PublicKey> {
    let is_named = |held: &&Held| held.is_live() && held.allows_everything() && held.parent.is_none();
    let mut named: Vec<(u64, GrantId, PublicKey)> =
        rights.grants().filter(|(_, held)| is_named(held)).filter_map(|(id, held)| Some((held.time_ms, *id, key_of(held)?))).collect();
    named.sort_unstable_by(|one, other| other.cmp(one));
    named.into_iter().map(|(_, _, key)| key).collect()
}

/// What a key has in a space that this device can move: in the own space what the owner gave it, in others what this device did.
fn movable(store: &Store, space: Space, key: &PublicKey) -> Vec<GrantId> {
    let Some(rights) = store.rights(&space.key) else { return Vec::new() };
    let this = store.device();
    let is_ours = |held: &Held| match space.is_own() {
        true => rights.is_by_owner(held) && !held.allows_everything(),
        false => {
            let under = held.parent.and_then(|parent| rights.grant(&parent));
            held.author == this && under.is_some_and(|under| under.is_live() && under.grant.audience == Audience::Key(this))
        }
    };
    rights
        .grants_for(key)
        .filter(|(_, held)| held.is_live() && held.grant.audience == Audience::Key(*key) && is_ours(held))
        .map(|(id, _)| id)
        .collect()
}

/// All such devices of others.
pub(crate) fn gone(store: &Store) -> Vec<Gone> {
    let spaces = store.spaces();
    let mut all = Vec::new();
    for of in spaces.iter().filter(|space| !space.is_own()) {
        let Some(rights) = store.rights(&of.key) else { continue };
        let keys = taken_out(&rights).into_iter();
        let has_some = |key: &PublicKey| spaces.iter().any(|space| space.key != of.key && !movable(store, *space, key).is_empty());
        all.extend(keys.filter(has_some).map(|key| Gone { key, of: of.key }));
    }
    all
}

/// Moves what such devices may do, where that can be done.
pub(crate) async fn follow(store: &Store, gone: &[Gone]) {
    for one in gone {
        let Some(heir) = heir(store, one) else { continue };
        for space in store.spaces().into_iter().filter(|space| space.key != one.of) {
            for id in movable(store, space, &one.key) {
                if let Err(error) = move_to(store, space, &id, heir.as_ref(), one).await {
                    tracing::warn!(%error, key = ?one.key, "a right could not be moved to another device of its owner");
                }
            }
        }
    }
}

/// The device that gets what such a one may do; `Some(None)` if nobody does and it loses it, `None` if nothing is to be done.
fn heir(store: &Store, gone: &Gone) -> Option<Option<PublicKey>> {
    let certain = certain_of(store, &gone.key);
    if !certain.contains(&gone.of) || lists::is_blocked(store, &gone.of) {
        return None;
    }
    // Only who has the key can have signed that it is of two spaces, to keep it from being moved, or to have it moved elsewhere.
    if certain.len() > 1 {
        return Some(None);
    }
    let rights = store.rights(&gone.of)?;
    named_by_root(&rights).into_iter().find(|key| spaces_of(store, key, false).contains(&gone.of)).map(Some)
}

/// The grants that were given instead of one.
fn instead_of<'a>(rights: &'a Rights, id: &'a GrantId) -> impl Iterator<Item = (&'a GrantId, &'a Held)> {
    rights.grants().filter(move |(_, held)| before(rights, held).is_some_and(|(old, _)| old == *id))
}

async fn move_to(store: &Store, space: Space, id: &GrantId, heir: Option<&PublicKey>, gone: &Gone) -> Result<(), WriteError> {
    let Some(rights) = store.rights(&space.key) else { return Ok(()) };
    let Some(held) = rights.grant(id) else { return Ok(()) };
    if let Some(heir) = heir.filter(|_| instead_of(&rights, id).next().is_none() && times(&rights, held) < TIMES_MAX) {
        // What was for the own key alone is for the other device in the same place.
        let (audience, scope, label) = (Audience::Key(*heir), held.scope(), format!("{INSTEAD}{id}").into());
        let grant = Grant { audience, scope, label, ..held.grant.clone() };
        let is_same = |other: &Held| other.is_live() && other.grant == Grant { label: other.grant.label.clone(), ..grant.clone() };
        if !rights.grants_for(heir).any(|(_, other)| is_same(other)) {
            state(store, space, held, Statement::Ops(vec![Op::Grant(grant)])).await?;
            tracing::info!(from = ?gone.key, to = ?heir, of = ?gone.of, "a right went over to another device of its owner");
        }
    }
    // What his devices had from this one comes anew from the other one. Those that his root key named need not wait for that,
    // and go on with what they handed on themselves.
    let named = store.rights(&gone.of).map(|rights| named_by_root(&rights)).unwrap_or_default();
    let mut known = BTreeSet::new();
    loop {
        let Some(rights) = store.rights(&space.key) else { return Ok(()) };
        let above = |one: &GrantId| rights.grant(one)?.parent;
        let is_named = |one: GrantId| rights.grant(&one).and_then(key_of).is_some_and(|key| named.contains(&key));
        let is_spared = |one: &GrantId| std::iter::successors(Some(*one), above).take_while(|one| one != id).any(is_named);
        let is_meant = |one: &GrantId| rights.is_live(one) && !is_spared(one) && !known.contains(one);
        let grants: Vec<GrantId> = with_devices(&rights, [*id]).into_iter().filter(is_meant).collect();
        // Somebody else gave it, who alone may take it back.
        if grants.is_empty() || space.is_own() && !may_revoke(store, &rights, &grants) {
            return Ok(());
        }
        known.extend(grants.iter().copied());
        state(store, space, held, Statement::Revoke { grants, cascade: false, keep: true }).await?;
    }
}

fn may_revoke(store: &Store, rights: &Rights, grants: &[GrantId]) -> bool {
    let ops: Vec<Op> = grants.iter().map(|grant| Op::Revoke(Revoke { grant: *grant, cascade: false, keep: Vec::new() })).collect();
    rights.cap_to_state(&store.device(), &ops).is_some()
}

/// Says something about a right in the name of the one that it was given by.
async fn state(store: &Store, space: Space, held: &Held, statement: Statement) -> Result<(), WriteError> {
    match held.parent.filter(|_| !space.is_own()) {
        Some(under) => store.state_as(space, under, statement, now_ms()).await,
        None => store.state_in(Some(space), statement, now_ms()).await,
    }
    .map(drop)
}

/// What devices of the owner gave twice, as they did not hear of each other, and he took back once, is taken back.
pub(crate) async fn give_back(store: &Store) {
    let own = store.own();
    let Some(rights) = store.rights(&own.key) else { return };
    let is_named = |id: &GrantId| rights.revocations().iter().any(|revocation| revocation.is_effective() && revocation.revoke.grant == *id);
    let was_taken = |id: &GrantId, held: &Held| !held.is_live() && is_named(id) && instead_of(&rights, id).next().is_none();
    let moved = rights.grants().filter(|(_, held)| held.is_live()).filter_map(|(id, held)| Some((*id, before(&rights, held)?.0)));
    let left: Vec<GrantId> =
        moved.filter(|(_, old)| instead_of(&rights, old).any(|(other, held)| was_taken(other, held))).map(|(id, _)| id).collect();
    for id in left {
        let grants: Vec<GrantId> = with_devices(&rights, [id]).into_iter().collect();
        if may_revoke(store, &rights, &grants)
            && let Err(error) = store.state(Statement::Revoke { grants, cascade: false, keep: true }, now_ms()).await
        {
            tracing::warn!(%error, "a right that was given twice could not be taken back");
        }
    }
}

#[cfg(test)]
mod tests;
