//! Takes back what has ended.
//!
//! Whether a right has ended is decided by the time that a change says of itself, as everybody has to decide alike. So whoever dates
//! what he writes back could use a right for ever. Therefore the owner takes it back when it has ended, with all that was handed on
//! from it: what is here by then stays, and what comes later is hidden, and can be kept like all that is.
//!
//! A day later, not at once: who wrote in time and was without a line that long should not find it hidden. And never by what a clock
//! said for a moment, since nothing brings a right back: it has to have said so for an hour of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::auth::{Held, Rights};
use timebus_store::grant::Audience;
use timebus_store::ids::GrantId;
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::writer::Statement;
use tokio::time::Instant;

use crate::peer::Peer;
use crate::who::now_ms;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long after its end a right is taken back by the device that gave it, or the owner's for those whom he let in.
const GRACE_MS: u64 = 24 * 3_600_000;
/// The same by the owner's other devices, as that one may be gone.
const OTHERS_GRACE_MS: u64 = GRACE_MS + 3_600_000;
/// For how long the clock has to have said so.
const SURE_AFTER: Duration = Duration::from_secs(3600);
/// Grants that are taken back at once.
const GRANTS_MAX: usize = 256;

/// Takes back what has ended in the spaces of which this device may say so, until the peer stops.
pub(crate) async fn keep(peer: Peer) {
    let store = peer.store().clone();
    let mut seen = Seen::default();
    peer.until_stopped(async {
        loop {
            for space in store.spaces() {
                let Some(rights) = store.rights(&space.key) else { continue };
                let due = seen.due(&rights, &space.key, &store.device(), now_ms(), Instant::now());
                let left = take_back(&store, space, due, now_ms()).await;
                seen.put_off(&space.key, &left, Instant::now());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
}

/// Takes grants back, all at once, or if that cannot be, each by itself. Answers those that are not.
async fn take_back(store: &Store, space: Space, grants: Vec<GrantId>, now_ms: u64) -> Vec<GrantId> {
    let revoke = |grants: Vec<GrantId>| store.state_in(Some(space), Statement::Revoke { grants, cascade: true, keep: true }, now_ms);
    if grants.is_empty() || revoke(grants.clone()).await.is_ok() {
        return Vec::new();
    }
    let mut left = Vec::new();
    for grant in grants {
        if let Err(error) = revoke(vec![grant]).await {
            tracing::warn!(%error, %grant, space = %space.key, "a right that has ended could not be taken back");
            left.push(grant);
        }
    }
    left
}

/// Since when the clock says of grants that they have ended long enough ago.
#[derive(Debug, Default)]
struct Seen(BTreeMap<(PublicKey, GrantId), Instant>);

impl Seen {
    /// The grants in force that are to be taken back now.
    fn due(&mut self, rights: &Rights, space: &PublicKey, device: &PublicKey, now_ms: u64, now: Instant) -> Vec<GrantId> {
        // Who has only a part to hand on has ended with it.
        if rights.device_grant(device).is_none() {
            return Vec::new();
        }
        let mut ended = BTreeSet::new();
        for (id, held) in rights.grants().filter(|(_, held)| held.is_live() && held.grant.not_after_ms > 0) {
            let is_ours = held.author == *device || !rights.is_by_owner(held);
            let end_ms = held.grant.not_after_ms.saturating_add(if is_ours { GRACE_MS } else { OTHERS_GRACE_MS });
            if end_ms <= now_ms && !is_prolonged(rights, held, now_ms) {
                ended.insert(*id);
            }
        }
        self.0.retain(|(of, id), _| of != space || ended.contains(id));
        let mut is_due = |id: &GrantId| now - *self.0.entry((*space, *id)).or_insert(now) >= SURE_AFTER;
        ended.into_iter().filter(|id| is_due(id)).take(GRANTS_MAX).collect()
    }

    /// Has grants wait once more, so that those that cannot be taken back are in the way of no others.
    fn put_off(&mut self, space: &PublicKey, grants: &[GrantId], now: Instant) {
        for id in grants {
            self.0.insert((*space, *id), now);
        }
    }
}

/// Whether the same people may do the same by another grant, so that dating back gains nobody anything.
fn is_prolonged(rights: &Rights, held: &Held, now_ms: u64) -> bool {
    let old = &held.grant;
    let key = if let Audience::Key(key) = &old.audience { *key } else { PublicKey::from_bytes([0; 32]) };
    rights.grants_for(&key).any(|(_, other)| {
        let new = &other.grant;
        let goes_on = other.is_live() && (new.not_after_ms == 0 || new.not_after_ms >= now_ms);
        let is_as_wide = new.actions.contains(old.actions) && new.timelines.includes(&old.timelines) && new.own_scope().includes(&old.own_scope());
        goes_on && new.audience == old.audience && is_as_wide
    })
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::grant::{Actions, Grant, Scope, ScopeSegment, Timelines};
    use timebus_store::op::Op;

    use super::*;
    use crate::whose::tests::{open, tell};

    fn grant(key: PublicKey, not_after_ms: u64, depth: u8) -> Op {
        Op::Grant(Grant {
            audience: Audience::Key(key),
            scope: Scope { segments: vec![ScopeSegment::Name("desk".into())], deep: true },
            timelines: Timelines::Main,
            actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0 | if depth > 0 { Actions::GRANT.0 } else { 0 }),
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms,
            depth,
            label: "".into(),
        })
    }

    /// One that is nowhere stands for any that cannot be taken back.
    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_cannot_be_taken_back_is_in_no_others_way() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let alice = open(home.path());
        let key = SecretKey::from_seed([66; 32]).public();
        let given = alice.state(Statement::Ops(vec![grant(key, 1, 0), grant(key, 2, 0)]), 1).await.expect("granted");
        let nowhere = GrantId([7; 32]);
        let left = take_back(&alice, alice.own(), vec![given[0], nowhere, given[1]], 10).await;
        assert_eq!(left, [nowhere]);
        let rights = alice.rights(&alice.space()).expect("its rights");
        assert!(given.iter().all(|id| !rights.is_live(id)));
        let (mut seen, began) = (Seen::default(), Instant::now());
        seen.put_off(&alice.space(), &left, began + SURE_AFTER);
        assert_eq!(seen.0[&(alice.space(), nowhere)], began + SURE_AFTER);
    }

    /// Bob may hand on what he may, and has handed it on to a key of his own.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_has_ended_is_taken_back_a_day_later_with_what_was_handed_on() {
        const END_MS: u64 = 1_000_000;
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        let [made, carol] = [66, 67].map(|n| SecretKey::from_seed([n; 32]).public());
        let given = vec![grant(bob.device(), END_MS, 1), grant(carol, END_MS, 0), grant(carol, 0, 0)];
        let given = alice.state(Statement::Ops(given), 1).await.expect("granted");
        tell(&alice, &alice.space(), &bob).await;
        let there = bob.held(&alice.space()).expect("held");
        let handed = bob.state_as(there, given[0], Statement::Ops(vec![grant(made, END_MS - 1, 0)]), 1).await.expect("handed on");
        tell(&bob, &alice.space(), &alice).await;
        let began = Instant::now();
        let mut seen = Seen::default();
        let mut due = |now_ms: u64, later_s: u64| {
            let rights = alice.rights(&alice.space()).expect("its rights");
            seen.due(&rights, &alice.space(), &alice.device(), now_ms, began + Duration::from_secs(later_s))
        };
        let late = END_MS + GRACE_MS;
        assert_eq!((due(late - 2, 0), due(late - 2, 7200)), (vec![], vec![]), "not before the day is over");
        assert_eq!(due(late, 7200), []);
        assert_eq!(due(1, 9000), [], "the clock was wrong");
        assert_eq!((due(late, 9060), due(late, 12_000)), (vec![], vec![]), "so it counts anew");
        let mut all = due(late, 12_660);
        all.sort();
        let mut expected = [given[0], handed[0]];
        expected.sort();
        assert_eq!(all, expected, "carol has it by another grant, which has no end");
        let statement = Statement::Revoke { grants: all, cascade: true, keep: true };
        alice.state(statement, late).await.expect("taken back");
        let rights = alice.rights(&alice.space()).expect("its rights");
        assert!(!rights.is_live(&given[0]) && !rights.is_live(&handed[0]) && rights.is_live(&given[1]));
        assert_eq!(due(late, 20_000), []);
        // A guest takes nothing back.
        let theirs = bob.rights(&alice.space()).expect("its rights");
        let mut seen = Seen::default();
        for later_s in [0, 9000] {
            assert_eq!(seen.due(&theirs, &alice.space(), &bob.device(), late, began + Duration::from_secs(later_s)), []);
        }
    }
}
