//! The devices of one person in the spaces of others: what one of them may do there, it hands on to the others.
//!
//! A grant is for one key, so that everybody can tell from the statements of one space alone who may do what. A friend
//! invites a person, and gets to know one device. That device may bring guests unless its owner was denied it, and the
//! first guests are the other devices of its owner, with the same rights, one level further down. So a friend who takes
//! back what he gave takes it from all of them, and who removes a device removes it there, too.

use timebus_identity::{PublicKey, SecretKey};
use timebus_store::auth::{Held, Rights, is_narrower};
use timebus_store::grant::{Actions, Audience, Grant};
use timebus_store::ids::GrantId;
use timebus_store::pipeline::Space;
use timebus_store::store::{Store, device_grant};
use timebus_store::writer::{Statement, WriteError};

use crate::who::now_ms;

/// What the names of such grants begin with: the first letters of the key that they are for.
fn label(device: &PublicKey) -> String {
    format!("device:{}", &device.to_string()[..16])
}

/// What one of our devices lacks in the space of somebody else, and the grant in whose name it gets it.
fn lacking(store: &Store, space: Space) -> Vec<(GrantId, Grant)> {
    let (Some(own), Some(rights)) = (store.rights(&store.space()), store.rights(&space.key)) else { return Vec::new() };
    let this = store.device();
    let others: Vec<PublicKey> = own.devices().filter(|device| *device != this).collect();
    let mut lacking = Vec::new();
    for (id, held) in rights.grants().filter(|(_, held)| held.is_live() && held.grant.audience == Audience::Key(this)) {
        if !held.grant.actions.contains(Actions::GRANT) || held.grant.depth == 0 {
            continue;
        }
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
                let is_known = other.grant.label.starts_with(&label(device)) || other.is_live();
                is_known && other.scope().includes(&grant.scope) && other.grant.actions.contains(Actions(actions.0 & !Actions::GRANT.0))
            };
            let has = rights.grants().any(|(_, other)| other.grant.audience == grant.audience && is_enough(other));
            if !has && is_narrower(&grant, &held.grant) {
                lacking.push((*id, grant));
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
