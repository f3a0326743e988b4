//! The devices of one person in the spaces of others: what one of them may do there, it hands on to the others.
//!
//! A grant is for one key, so that everybody can tell from the statements of one space alone who may do what. A friend
//! invites a person, and gets to know one device. That device may bring guests unless its owner was denied it, and the
//! first guests are the other devices of its owner, with the same rights, one level further down. So a friend who takes
//! back what he gave takes it from all of them (`with_devices`), and who removes a device removes it there, too.
//!
//! Which keys are one person's is told by those who would lose by it. Whom somebody calls his device loses by that what he had
//! from him, and nothing else: else anybody could have others thrown out with himself. Who calls a key a device of his own, and
//! hands on to it what he may do, is thrown out with it (`kin`): he would bring it back.
//!
//! When a device is gone, what it was granted goes over to another one (`instead`).

use std::collections::BTreeSet;

use timebus_identity::{PublicKey, SecretKey};
use timebus_store::auth::{Held, Rights, is_narrower};
use timebus_store::grant::{Actions, Audience, Grant};
use timebus_store::ids::GrantId;
use timebus_store::pipeline::Space;
use timebus_store::store::{Store, device_grant};
use timebus_store::writer::{Statement, WriteError};

use crate::who::now_ms;

pub(crate) mod instead;
pub mod names;

/// What the names of all such grants begin with.
pub(crate) const DEVICE: &str = "device:";

/// What the names of such grants begin with: the first letters of the key that they are for.
fn label(device: &PublicKey) -> String {
    format!("{DEVICE}{}", &device.to_string()[..16])
}

/// Whether a grant is what a device handed on to another one of its owner.
pub(crate) fn is_handed_on(held: &Held) -> bool {
    held.parent.is_some() && held.grant.label.starts_with(DEVICE)
}

/// Those keys, and those that called one of them a device of their own. The owner's devices are nobody else's.
pub(crate) fn kin(rights: &Rights, keys: &[PublicKey]) -> BTreeSet<PublicKey> {
    let own: BTreeSet<PublicKey> = rights.devices().collect();
    let called: Vec<(PublicKey, PublicKey)> = rights
        .grants()
        .filter(|(_, held)| is_handed_on(held) && !own.contains(&held.author))
        .filter_map(|(_, held)| match held.grant.audience {
            Audience::Key(key) => Some((held.author, key)),
            Audience::Anyone => None,
        })
        .collect();
    let mut all: BTreeSet<PublicKey> = keys.iter().copied().collect();
    loop {
        let more: Vec<PublicKey> = called.iter().filter(|(by, key)| all.contains(key) && !all.contains(by)).map(|(by, _)| *by).collect();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// Those grants, and what devices handed on from them to other devices of their owners. In force are all of the latter. That
/// somebody calls a device of the space's owner his own changes nothing for it.
pub(crate) fn with_devices(rights: &Rights, grants: impl IntoIterator<Item = GrantId>) -> BTreeSet<GrantId> {
    let mut all: BTreeSet<GrantId> = grants.into_iter().collect();
    let own: BTreeSet<PublicKey> = rights.devices().collect();
    let is_of_others = |held: &Held| held.allows_everything() || !matches!(held.grant.audience, Audience::Key(key) if own.contains(&key));
    let below: Vec<(GrantId, GrantId)> = rights
        .grants()
        .filter(|(_, held)| held.is_live() && is_handed_on(held) && is_of_others(held))
        .filter_map(|(id, held)| Some((*id, held.parent?)))
        .collect();
    loop {
        let more: Vec<GrantId> = below.iter().filter(|(id, parent)| all.contains(parent) && !all.contains(id)).map(|(id, _)| *id).collect();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// The devices of an owner that are so by the word of some of his devices, or of those which they made: whoever has a lost device
/// may have made others with it. Those that another device made, too, are none.
#[must_use]
pub fn made_by(rights: &Rights, makers: &[PublicKey]) -> Vec<PublicKey> {
    let is_made = |key: &PublicKey| {
        let own = rights.grants_for(key).filter(|(_, held)| held.is_live() && held.allows_everything() && held.grant.audience == Audience::Key(*key));
        own.into_iter().all(|(_, held)| is_below(rights, held, makers))
    };
    rights.devices().filter(|key| !makers.contains(key) && is_made(key)).collect()
}

/// Who is no device of the owner's, and may something by the word of some of his devices, or of those who came in by way of them.
#[must_use]
pub(crate) fn guests_of(rights: &Rights, makers: &[PublicKey]) -> BTreeSet<PublicKey> {
    let devices: BTreeSet<PublicKey> = rights.devices().collect();
    let below = rights.grants().filter(|(_, held)| held.is_live() && is_below(rights, held, makers));
    let keys = below.filter_map(|(_, held)| if let Audience::Key(key) = held.grant.audience { Some(key) } else { None });
    keys.filter(|key| !devices.contains(key) && !makers.contains(key)).collect()
}

/// Whether a grant was handed on, over whomever, from one that one of these has.
fn is_below(rights: &Rights, held: &Held, makers: &[PublicKey]) -> bool {
    let mut at = held.parent;
    while let Some(above) = at.and_then(|id| rights.grant(&id)) {
        if matches!(above.grant.audience, Audience::Key(key) if makers.contains(&key)) {
            return true;
        }
        at = above.parent;
    }
    false
}

/// The device that what a key may do in the own space was handed on from, or is instead of, in the end, if that was so of all that
/// it may: by giving something to somebody nobody makes him a device of his.
pub(crate) fn first(store: &Store, key: &PublicKey) -> Option<PublicKey> {
    let rights = store.rights(&store.space())?;
    let above = |held: &Held| match is_handed_on(held) {
        true => rights.grant(&held.parent?),
        false => instead::before(&rights, held).map(|(_, old)| old),
    };
    let first_of = |held: &Held| {
        let mut first = above(held)?;
        while let Some(next) = above(first) {
            first = next;
        }
        match first.grant.audience {
            Audience::Key(key) => Some(key),
            Audience::Anyone => None,
        }
    };
    let its = rights.grants_for(key).filter(|(_, held)| held.is_live() && held.grant.audience == Audience::Key(*key));
    let firsts: BTreeSet<Option<PublicKey>> = its.map(|(_, held)| first_of(held)).collect();
    if firsts.len() > 1 { None } else { firsts.into_iter().next()? }
}

/// What one of our devices lacks in the space of somebody else, and the grant in whose name it gets it.
fn lacking(store: &Store, space: Space) -> Vec<(GrantId, Grant)> {
    let (Some(own), Some(rights)) = (store.rights(&store.space()), store.rights(&space.key)) else { return Vec::new() };
    let this = store.device();
    let others: Vec<PublicKey> = own.devices().filter(|device| *device != this).collect();
    // By how many hands it came to the owner of these devices, and whether first from the owner of the space. What somebody gave him
    // on his own account is no reason to go without what he has by fewer: see `Rights::best_first`.
    let hands = |held: &Held| {
        let above =
            |held: &Held| rights.grant(&held.parent.filter(|_| is_handed_on(held) && (held.author == this || others.contains(&held.author)))?);
        let mut first = held;
        while let Some(next) = above(first) {
            first = next;
        }
        (!rights.is_by_owner(first), first.chain)
    };
    let now = now_ms();
    let is_over = |held: &Held| held.grant.not_after_ms > 0 && now > held.grant.not_after_ms;
    let mut lacking = Vec::new();
    // An owner who names this device one of his own has it say so itself, if it hands that on: see `whose`.
    let is_guests = |held: &Held| held.is_live() && held.grant.audience == Audience::Key(this) && !held.allows_everything();
    let ours = rights.grants().filter(|(_, held)| is_guests(held));
    let ours = ours.filter(|(_, held)| held.grant.actions.contains(Actions::GRANT) && held.grant.depth > 0 && !is_over(held));
    for id in rights.best_first(ours.map(|(id, held)| (*id, held))) {
        let Some(held) = rights.grant(&id) else { continue };
        for device in &others {
            let depth = held.grant.depth - 1;
            // Who can bring nobody further has no use for that right.
            let actions = if depth == 0 { Actions(held.grant.actions.0 & !Actions::GRANT.0) } else { held.grant.actions };
            // What is for the own key alone here is for the other device in the same place.
            let scope = held.scope();
            let grant = Grant {
                audience: Audience::Key(*device),
                scope,
                actions,
                depth,
                label: format!("{}:{}", label(device), &id.to_string()[..8]).into(),
                ..held.grant.clone()
            };
            let is_enough = |other: &Held| {
                // What it had and was taken from it alone it does not get again; what fell with that of another device, it does.
                let is_from_us = other.author == this || others.contains(&other.author);
                let was_taken =
                    || is_from_us && other.grant.label.starts_with(&label(device)) && other.parent.is_some_and(|parent| rights.is_live(&parent));
                let is_known = other.is_live() && !is_over(other) || was_taken();
                let is_as_wide = other.scope().includes(&grant.scope) && other.grant.actions.contains(Actions(actions.0 & !Actions::GRANT.0));
                let reaches = |other: u64, this: u64| other == 0 || this > 0 && other >= this;
                let is_as_long = reaches(other.grant.not_after_ms, grant.not_after_ms) && reaches(other.grant.bytes_max, grant.bytes_max);
                is_known && is_as_wide && is_as_long && hands(other) <= hands(held)
            };
            let has = rights.grants().any(|(_, other)| other.grant.audience == grant.audience && is_enough(other));
            if !has && is_narrower(&grant, &held.grant) {
                lacking.push((id, grant));
            }
        }
    }
    lacking
}

/// Makes this home a device of the own space, if it is none: for homes that got the space back by its root key, once they
/// know what was stated there before.
pub(crate) async fn admit_this(store: &Store, root: &SecretKey) {
    let device = store.device();
    let is_wanted = |rights: &Rights| rights.root() == root.public() && rights.root_state().is_some() && rights.device_grant(&device).is_none();
    if store.rights(&store.space()).is_some_and(|rights| is_wanted(&rights))
        && let Err(error) = store.say_as_root(root, vec![device_grant(&device)], Vec::new(), now_ms()).await
    {
        tracing::warn!(%error, "this home could not be made a device of its space");
    }
}

/// Has this device sign something in the own space, if it did not do so before: by that others know for certain whose it is, also
/// if it writes nothing but in their spaces. See `crate::whose`.
///
/// # Errors
///
/// [`WriteError`].
pub async fn sign_in(store: &Store) -> Result<(), WriteError> {
    let (own, device) = (store.space(), store.device());
    let is_device = store.rights(&own).is_some_and(|rights| rights.device_grant(&device).is_some());
    if is_device && !crate::whose::certain_of(store, &device).contains(&own) {
        store.state(Statement::Ops(Vec::new()), now_ms()).await?;
    }
    Ok(())
}

/// Hands on, in all spaces of others, what the other devices of the owner lack there.
pub(crate) async fn hand_on(store: &Store) {
    for space in store.spaces().into_iter().filter(|space| !space.is_own()) {
        for (under, grant) in lacking(store, space) {
            let statement = Statement::Redeem { grant, uses_max: u64::MAX };
            if let Err(error) = store.state_as(space, under, statement, now_ms()).await {
                tracing::warn!(%error, "a right could not be handed on to another device");
            }
        }
    }
}

/// Takes back in all spaces of others what this device had handed on to another one.
///
/// # Errors
///
/// [`WriteError`]; it may have been taken back in some of them.
pub async fn take_back(store: &Store, device: &PublicKey) -> Result<(), WriteError> {
    for space in store.spaces().into_iter().filter(|space| !space.is_own()) {
        let Some(rights) = store.rights(&space.key) else { continue };
        let is_theirs = |held: &Held| held.is_live() && held.grant.audience == Audience::Key(*device) && held.author == store.device();
        let given: Vec<(GrantId, GrantId)> =
            rights.grants().filter(|(_, held)| is_theirs(held)).filter_map(|(id, held)| Some((*id, held.parent?))).collect();
        for (grant, under) in given {
            store.state_as(space, under, Statement::Revoke { grants: vec![grant], cascade: false, keep: true }, now_ms()).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use timebus_store::grant::{Scope, Timelines};
    use timebus_store::op::Op;
    use timebus_store::store::{Config, lock_home};

    use super::*;
    use crate::whose::tests::tell;

    fn open(home: &std::path::Path) -> Store {
        Store::open(home, lock_home(home).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store")
    }

    fn grant(to: &PublicKey, depth: u8, label: String) -> Grant {
        Grant {
            audience: Audience::Key(*to),
            scope: Scope::everything(),
            timelines: Timelines::Main,
            actions: Actions(Actions::SYNC.0 | Actions::READ.0 | if depth > 0 { Actions::GRANT.0 } else { 0 }),
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth,
            label: label.into(),
        }
    }

    /// Eve calls Carol's key a device of hers, and herself a device of nobody.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_is_thrown_out_with_somebody_who_only_says_that_they_are_one() {
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, carol, eve] = homes.each_ref().map(|home| open(home.path()));
        let given = [(&eve, 2), (&carol, 2)].map(|(to, depth)| Op::Grant(grant(&to.device(), depth, String::new())));
        let given = alice.state(Statement::Ops(given.into()), 1).await.expect("granted");
        tell(&alice, &alice.space(), &eve).await;
        let there = eve.held(&alice.space()).expect("held");
        let handed = grant(&carol.device(), 1, label(&carol.device()));
        let handed = eve.state_as(there, given[0], Statement::Ops(vec![Op::Grant(handed)]), 1).await.expect("handed on");
        tell(&eve, &alice.space(), &alice).await;
        let rights = alice.rights(&alice.space()).expect("held");
        assert_eq!(kin(&rights, &[eve.device()]), [eve.device()].into());
        assert_eq!(with_devices(&rights, [given[0]]), [given[0], handed[0]].into(), "what she has from Eve alone");
        assert_eq!(kin(&rights, &[carol.device()]), [carol.device(), eve.device()].into(), "Eve would bring her back");
        assert!(!kin(&rights, &[eve.device()]).contains(&alice.device()));
    }

    /// Bob, a guest who may bring guests, gives something to both of Gina's devices. It is taken back when he likes, or is no room at
    /// all, so the devices go on having what Alice gave to Gina.
    #[tokio::test(flavor = "multi_thread")]
    async fn devices_hand_on_what_the_owner_gave_whatever_guests_give() {
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob, gina] = homes.each_ref().map(|home| open(home.path()));
        let phone = SecretKey::from_seed([66; 32]).public();
        crate::whose::tests::grant_key(&gina, phone, Actions::ALL).await;
        let table = |to: &PublicKey, label: String| Grant {
            scope: Scope { segments: vec![timebus_store::grant::ScopeSegment::Name("table".into())], deep: true },
            ..grant(to, 2, label)
        };
        let given = vec![Op::Grant(grant(&bob.device(), 3, String::new())), Op::Grant(table(&gina.device(), String::new()))];
        let given = alice.state(Statement::Ops(given), 1).await.expect("granted");
        tell(&alice, &alice.space(), &bob).await;
        let there = bob.held(&alice.space()).expect("held");
        let by_bob =
            [grant(&gina.device(), 2, String::new()), grant(&phone, 2, label(&phone)), Grant { bytes_max: 1, ..table(&phone, label(&phone)) }];
        let by_bob = bob.state_as(there, given[0], Statement::Ops(by_bob.map(Op::Grant).into()), 1).await.expect("granted");
        tell(&bob, &alice.space(), &gina).await;
        let there = gina.held(&alice.space()).expect("held");
        let first = lacking(&gina, there).first().map(|(under, grant)| (*under, grant.audience, grant.bytes_max));
        assert_eq!(first, Some((given[1], Audience::Key(phone), 0)));
        hand_on(&gina).await;
        assert_eq!(lacking(&gina, there), []);
        // Also when Bob took his back from the phone: that was none of hers to take.
        bob.state_as(bob.held(&alice.space()).expect("held"), given[0], Statement::Revoke { grants: by_bob, cascade: false, keep: true }, 2)
            .await
            .expect("taken back");
        tell(&bob, &alice.space(), &gina).await;
        let rights = gina.rights(&alice.space()).expect("held");
        assert_eq!(rights.grants_for(&phone).filter(|(_, held)| held.is_live() && held.parent == Some(given[1])).count(), 1);
        assert_eq!(lacking(&gina, there), []);
    }
}
