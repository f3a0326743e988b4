//! Whose device signs with a key.
//!
//! Whoever owns a space can name any key a device there, also that of somebody else: to have what he writes shown as his own, to
//! have him blocked with himself, or to use up his room. So a key is of those spaces in which it wrote in the name of such a
//! grant, which only it can have signed. A device does that in its own space alone: neither what it writes elsewhere
//! ([`Rights::guest_grant`]) nor what it states there is in the name of such a grant, whoever gave it one. What wrote
//! nowhere in the name of any grant, as a device that is new, is taken for what is said of it; and what wrote only as a guest
//! is nobody's, as its own space need not be held here.
//!
//! [`Rights::guest_grant`]: timebus_store::auth::Rights::guest_grant

use timebus_identity::PublicKey;
use timebus_store::auth::Rights;
use timebus_store::keyspace::Committed;
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::summary;
use timebus_store::tips;

/// The spaces that name a key one of their devices, now or ever, and may rightly do so; one of them at most if nobody lies.
pub(crate) fn spaces_of(store: &Store, key: &PublicKey, was: bool) -> Vec<PublicKey> {
    let is_named = |rights: &Rights| if was { rights.was_device(key) } else { rights.device_grant(key).is_some() };
    let granted = store.granted_to(key).unwrap_or_default().into_iter();
    let named = granted.filter(|space| store.rights(space).is_some_and(|rights| is_named(&rights)));
    let own = store.held(key).map(|space| space.key);
    rightly(store, key, own.into_iter().chain(named.filter(|space| space != key)).collect())
}

/// The spaces of which it is certain that a key is, or was, a device there: it wrote in them in the name of such a grant. One at
/// most, unless whoever has the key wants it otherwise.
pub(crate) fn certain_of(store: &Store, key: &PublicKey) -> Vec<PublicKey> {
    let rows = store.snapshot();
    let mut all = spaces_of(store, key, true);
    all.retain(|space| wrote(store, &rows, space, key, true).unwrap_or(false));
    all
}

/// Those of the spaces that name a key which may rightly do so.
pub(crate) fn rightly(store: &Store, key: &PublicKey, named: Vec<PublicKey>) -> Vec<PublicKey> {
    let (rows, written) = (store.snapshot(), store.wrote_in(key).unwrap_or_default());
    let wrote = |space: &PublicKey, as_device| wrote(store, &rows, space, key, as_device).unwrap_or(false);
    let is_confirmed = |space: &PublicKey| space == key || *space == store.space() || written.contains(space) && wrote(space, true);
    let confirmed: Vec<PublicKey> = named.iter().copied().filter(is_confirmed).collect();
    if !confirmed.is_empty() || named.is_empty() {
        return confirmed;
    }
    if written.iter().any(|space| wrote(space, false)) { Vec::new() } else { named }
}

/// Whether a key wrote in a space in the name of a grant that makes it a device there, or of one that does not.
fn wrote(store: &Store, rows: &Committed, space: &PublicKey, key: &PublicKey, as_device: bool) -> Result<bool, StorageError> {
    let (Some(held), Some(rights)) = (store.held(space), store.rights(space)) else { return Ok(false) };
    for t in std::iter::once(held.auth()).chain(store.values(held).into_iter().map(|(t, _)| t)) {
        for tip in tips::tips_of(rows, t, key)? {
            let cap = summary(rows, t, tip.a)?.cap.and_then(|cap| rights.grant(&cap).cloned());
            if cap.is_some_and(|held| held.allows_everything() == as_device) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
pub(crate) mod tests {
    use timebus_identity::Signed;
    use timebus_store::change::Change;
    use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, Timelines};
    use timebus_store::json::Json;
    use timebus_store::op::Op;
    use timebus_store::path::Path;
    use timebus_store::store::{Config, lock_home};
    use timebus_store::writer::{Action, Condition, Request, Statement, WriteError};

    use super::*;
    use crate::lists::{self, List};

    pub(crate) fn open(home: &std::path::Path) -> Store {
        Store::open(home, lock_home(home).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store")
    }

    /// Has one store hear all that another one has of a space.
    pub(crate) async fn tell(from: &Store, space: &PublicKey, to: &Store) {
        let (held, rows) = (from.held(space).expect("held"), from.snapshot());
        let mut all = Vec::new();
        for t in std::iter::once(held.auth()).chain(from.values(held).into_iter().map(|(t, _)| t)) {
            for change in from.changes(&rows, t, 0) {
                let record = from.log().read(change.expect("read").1.place).expect("a record");
                let change: Signed<Change> = Change::decode(&record.payload).expect("a change");
                all.push(change.verify().expect("signed"));
            }
        }
        assert!(to.offer(all).await.expect("taken").refused.is_empty());
    }

    pub(crate) async fn write(store: &Store, space: &PublicKey, path: &str) -> Result<(), WriteError> {
        let path = Path::parse(path).expect("a path");
        let space = Some(store.at(store.held(space).expect("held"), &path));
        let action = Action::Put(Json::Int(1));
        let condition = Condition::None;
        let request = Request { space, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
        store.write(request).await.map(drop)
    }

    async fn grant(owner: &Store, to: &Store, actions: Actions) {
        grant_key(owner, to.device(), actions).await;
    }

    pub(crate) async fn grant_key(owner: &Store, key: PublicKey, actions: Actions) {
        let grant = Grant {
            audience: Audience::Key(key),
            scope: Scope::everything(),
            timelines: Timelines::All,
            actions,
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth: 0,
            label: "".into(),
        };
        owner.state(Statement::Ops(vec![Op::Grant(grant)]), 1).await.expect("granted");
    }

    /// Eve says that Bob's device is hers.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_makes_the_device_of_another_his_own() {
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob, eve] = homes.each_ref().map(|home| open(home.path()));
        write(&bob, &bob.space(), "/notes").await.expect("his own");
        grant(&eve, &bob, Actions::ALL).await;
        tell(&eve, &eve.space(), &alice).await;
        tell(&bob, &bob.space(), &alice).await;
        assert_eq!(spaces_of(&alice, &bob.device(), false), [bob.space()]);
        assert_eq!(spaces_of(&alice, &eve.device(), false), [eve.space()]);
        lists::set(&alice, List::Blocked, &eve.space(), true).await.expect("blocked");
        assert!(lists::is_blocked(&alice, &eve.device()) && !lists::is_blocked(&alice, &bob.device()));
        // Nor does Bob say so when he writes there.
        tell(&eve, &eve.space(), &bob).await;
        assert!(matches!(write(&bob, &eve.space(), "/wall").await, Err(WriteError::NoGrant { .. })));
        grant(&eve, &bob, Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0)).await;
        tell(&eve, &eve.space(), &bob).await;
        write(&bob, &eve.space(), "/wall").await.expect("as a guest");
        tell(&bob, &eve.space(), &alice).await;
        assert_eq!(spaces_of(&alice, &bob.device(), false), [bob.space()]);
        // Who is no device any more was one.
        lists::set(&alice, List::Blocked, &bob.space(), true).await.expect("blocked");
        assert!(lists::is_blocked(&alice, &bob.device()));
    }

    /// Eve says that Bob's device is hers and may name others, and Bob has another device: so his device would hand that on.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_is_had_to_sign_that_he_is_the_device_of_another() {
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob, eve] = homes.each_ref().map(|home| open(home.path()));
        grant_key(&bob, PublicKey::from_bytes([9; 32]), Actions::ALL).await;
        let own = eve.rights(&eve.space()).and_then(|rights| Some(rights.grant(&rights.device_grant(&eve.device())?)?.grant.clone()));
        let all = Grant { audience: Audience::Key(bob.device()), depth: 6, ..own.expect("a device") };
        let given = eve.state(Statement::Ops(vec![Op::Grant(all.clone())]), 1).await.expect("granted");
        tell(&eve, &eve.space(), &bob).await;
        crate::devices::hand_on(&bob).await;
        let there = bob.held(&eve.space()).expect("held");
        let gift = || Statement::Ops(vec![Op::Grant(Grant { depth: 0, actions: Actions::READ, ..all.clone() })]);
        assert!(matches!(bob.state_in(Some(there), gift(), 1).await, Err(WriteError::NoAuthority { .. })));
        assert!(matches!(bob.state_as(there, given[0], gift(), 1).await, Err(WriteError::NoGrant { .. })));
        tell(&bob, &eve.space(), &alice).await;
        tell(&bob, &bob.space(), &alice).await;
        assert_eq!(certain_of(&alice, &bob.device()), [bob.space()]);
    }

    /// Eve says so of Bob's device where nobody holds Bob's space: he writes in that of Carol.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_guest_whose_space_is_not_here_is_nobody_elses_device() {
        let homes = [(); 4].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob, eve, carol] = homes.each_ref().map(|home| open(home.path()));
        grant(&eve, &bob, Actions::ALL).await;
        tell(&eve, &eve.space(), &alice).await;
        assert_eq!(spaces_of(&alice, &bob.device(), false), [eve.space()], "a device that wrote nothing yet may be hers");
        grant(&carol, &bob, Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0)).await;
        tell(&carol, &carol.space(), &bob).await;
        write(&bob, &carol.space(), "/wall").await.expect("as a guest");
        tell(&bob, &carol.space(), &alice).await;
        assert!(spaces_of(&alice, &bob.device(), false).is_empty());
        lists::set(&alice, List::Blocked, &eve.space(), true).await.expect("blocked");
        assert!(lists::is_blocked(&alice, &eve.device()) && !lists::is_blocked(&alice, &bob.device()));
    }

    /// Bob's key is a device of alice, who knows that best, whatever it wrote elsewhere. And a space is of its own key.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_known_at_home_needs_no_other_sign() {
        let homes = [(); 4].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob, eve, carol] = homes.each_ref().map(|home| open(home.path()));
        grant(&alice, &bob, Actions::ALL).await;
        grant(&carol, &bob, Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0)).await;
        tell(&carol, &carol.space(), &bob).await;
        write(&bob, &carol.space(), "/wall").await.expect("as a guest");
        tell(&bob, &carol.space(), &alice).await;
        assert_eq!(spaces_of(&alice, &bob.device(), false), [alice.space()]);
        grant_key(&eve, carol.space(), Actions::ALL).await;
        tell(&eve, &eve.space(), &alice).await;
        assert_eq!(spaces_of(&alice, &carol.space(), false), [carol.space()]);
        // What was somebody's device once is still blocked with him.
        let old = PublicKey::from_bytes([9; 32]);
        grant_key(&bob, old, Actions::ALL).await;
        let grant = bob.rights(&bob.space()).and_then(|rights| rights.device_grant(&old)).expect("granted");
        let revoke = Op::Revoke(Revoke { grant, cascade: false, keep: Vec::new() });
        bob.state(Statement::Ops(vec![revoke]), 1).await.expect("taken back");
        tell(&bob, &bob.space(), &alice).await;
        lists::set(&alice, List::Blocked, &bob.space(), true).await.expect("blocked");
        assert!(lists::is_blocked(&alice, &old) && spaces_of(&alice, &old, false).is_empty());
    }
}
