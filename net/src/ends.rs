//! Takes back what has ended.
//!
//! Whether a right has ended is decided by the time that a change says of itself, as everybody has to decide alike. So whoever dates
//! what he writes back could use a right for ever. Therefore who gave it takes it back when it has ended: what is here by then stays,
//! and what comes later is hidden, and can be kept like all that is.

use std::time::Duration;

use timebus_store::auth::Rights;
use timebus_store::ids::GrantId;
use timebus_store::store::Store;
use timebus_store::writer::Statement;

use crate::peer::Peer;
use crate::who::now_ms;

/// How often it is looked at least: rights come, and clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After how long a device takes back what another one of the owner's gave, which may be gone for good.
const OTHERS_AFTER_MS: u64 = 3_600_000;
/// Grants that are taken back at once.
const GRANTS_MAX: usize = 256;

/// Takes back what this device gave, or another one of the owner's, as soon as it has ended, until the peer stops.
pub(crate) async fn keep(peer: Peer) {
    let store = peer.store().clone();
    peer.until_stopped(async {
        loop {
            let mut next_ms = now_ms() + LOOK_EVERY.as_millis() as u64;
            for space in store.spaces() {
                let Some(rights) = store.rights(&space.key) else { continue };
                let (due, later_ms) = ended(&store, &rights, now_ms());
                next_ms = later_ms.map_or(next_ms, |later_ms| next_ms.min(later_ms));
                if due.is_empty() {
                    continue;
                }
                let statement = Statement::Revoke { grants: due, cascade: false, keep: true };
                if let Err(error) = store.state_in(Some(space), statement, now_ms()).await {
                    tracing::warn!(%error, space = %space.key, "rights that have ended could not be taken back");
                }
            }
            tokio::time::sleep(Duration::from_millis(next_ms.saturating_sub(now_ms()).max(500))).await;
        }
    })
    .await;
}

/// The grants in force that have ended and are to be taken back here, and when the next one is to be.
fn ended(store: &Store, rights: &Rights, now_ms: u64) -> (Vec<GrantId>, Option<u64>) {
    let is_owner = rights.device_grant(&store.device()).is_some();
    let (mut due, mut later_ms) = (Vec::new(), None::<u64>);
    for (id, held) in rights.grants().filter(|(_, held)| held.is_live() && held.grant.not_after_ms > 0) {
        let end_ms = match held.author == store.device() {
            true => held.grant.not_after_ms.saturating_add(1),
            false if is_owner && rights.is_by_owner(held) => held.grant.not_after_ms.saturating_add(OTHERS_AFTER_MS),
            false => continue,
        };
        if end_ms > now_ms {
            later_ms = Some(later_ms.map_or(end_ms, |later_ms| later_ms.min(end_ms)));
        } else if due.len() < GRANTS_MAX {
            due.push(*id);
        } else {
            later_ms = Some(now_ms);
        }
    }
    (due, later_ms)
}
