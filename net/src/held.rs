//! The store as the sync protocol reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use timebus_identity::PublicKey;
use timebus_store::auth::{Rights, RootState};
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::keyspace::Committed;
use timebus_store::pipeline::Refusal;
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::{find, summary};
use timebus_store::view::View;
use timebus_store::writer::Offered;

use crate::sync::{Cursor, Past, Remote, Replica, ReplicaError, Stored, Tip};

/// One moment of a store.
pub struct Held {
    store: Store,
    rows: Arc<Committed>,
    incarnation: [u8; 16],
    now_ms: u64,
    /// New roots of spaces of others that the owner agreed to as a guardian.
    agreed: BTreeMap<PublicKey, Vec<String>>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({:?})", self.store)
    }
}

impl Held {
    /// What is in the store now, at this Unix time. `incarnation` names its log.
    #[must_use]
    pub fn now(store: &Store, incarnation: [u8; 16], now_ms: u64) -> Self {
        Self { store: store.clone(), rows: store.snapshot(), incarnation, now_ms, agreed: BTreeMap::new() }
    }

    /// The same, with the keys, in text form, that the owner agreed to as new roots of spaces: they may have what is stated there
    /// before the space itself says so, and nothing else.
    #[must_use]
    pub fn letting_in(self, agreed: &BTreeMap<PublicKey, Vec<String>>) -> Self {
        Self { agreed: agreed.clone(), ..self }
    }

    fn is_agreed(&self, remote: &Remote, space: &PublicKey) -> bool {
        self.agreed.get(space).is_some_and(|roots| remote.keys.iter().any(|key| roots.contains(&key.to_string())))
    }
}

/// Whether a peer may have a timeline: one of its keys is a device of the space, or a grant in force lets it read.
fn may_read(rights: &Rights, keys: &[PublicKey], space: &PublicKey, timeline: &TimelineId, now_ms: u64) -> bool {
    let main = TimelineId::named(space, "main");
    // Who may read has to know by what right, so `auth` goes with `main`. And whose right was taken back has to learn
    // of it, up to there ([`Replica::until`]): he would go on writing what nobody takes.
    let is_auth = *timeline == TimelineId::named(space, "auth");
    if is_auth && keys.iter().any(|key| rights.is_known(key)) {
        return true;
    }
    let timeline = if is_auth { &main } else { timeline };
    keys.iter().any(|key| rights.device_grant(key).is_some() || rights.may_fetch(key, timeline, now_ms))
}

/// The timelines of values of a space that a peer may have, with their local numbers.
pub(crate) fn readable_by(store: &Store, remote: &Remote, space: &PublicKey, now_ms: u64) -> Vec<(u32, TimelineId)> {
    let Some(rights) = store.rights(space) else { return Vec::new() };
    let all = store.timelines_of(space).into_iter();
    all.filter(|(timeline, _)| may_read(&rights, &remote.keys, space, timeline, now_ms)).map(|(timeline, t)| (t, timeline)).collect()
}

/// The changes that did not come with what was offered: they were here, or may not be.
pub(crate) fn uncounted(offered: &Offered) -> impl Iterator<Item = ChangeId> {
    offered.known.iter().copied().chain(offered.refused.iter().map(Refusal::change))
}

/// Tells a session what became of changes that were offered to the store.
pub(crate) fn tell(stored: &mut Stored, offered: Offered) {
    stored.admitted.extend(offered.admitted);
    stored.admitted.extend(offered.known);
    for refusal in offered.refused {
        match refusal {
            Refusal::Pending { change, missing } => stored.pending.push((change, missing)),
            // The timelines of a space come at the same time, and its rights may be behind.
            Refusal::Timeline { change, .. } | Refusal::Rights { change, .. } => stored.pending.push((change, Vec::new())),
            other => {
                tracing::debug!(%other, "a change was refused");
                stored.refused.push(other.change());
            }
        }
    }
}

fn failed(error: StorageError) -> ReplicaError {
    ReplicaError(Box::new(error))
}

impl Replica for Held {
    fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    fn may_sync(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<bool, ReplicaError> {
        // It needs the statements to say that it is the root, and has the rest when enough guardians agreed and it said so.
        if self.is_agreed(remote, space) && *timeline == TimelineId::named(space, "auth") {
            return Ok(true);
        }
        Ok(self.store.rights(space).is_some_and(|rights| may_read(&rights, &remote.keys, space, timeline, self.now_ms)))
    }

    fn until(&self, remote: &Remote, space: &PublicKey, timeline: &TimelineId) -> Result<u64, ReplicaError> {
        if *timeline != TimelineId::named(space, "auth") || self.is_agreed(remote, space) {
            return Ok(u64::MAX);
        }
        let (Some(rights), Some(t)) = (self.store.rights(space), self.store.number_of(space, timeline)) else { return Ok(u64::MAX) };
        if remote.keys.iter().any(|key| rights.is_party(Some(key), self.now_ms)) {
            return Ok(u64::MAX);
        }
        // Who is the root decides what the grants of some are worth; the others are to hear of nothing that is said after they went.
        let is_about_roots = remote.keys.iter().any(|key| rights.lost_by_roots(key));
        let roots = rights.root_states().iter().filter(|_| is_about_roots).flat_map(RootState::statements).map(|op| op.change);
        let mut until = 0;
        for id in roots {
            until = until.max(self.find(t, &id)?.unwrap_or(0));
        }
        for key in &remote.keys {
            until = until.max(rights.last_about(key, |id| self.find(t, id))?);
        }
        Ok(until)
    }

    fn spaces_of(&self, key: &PublicKey) -> Vec<PublicKey> {
        crate::whose::spaces_of(&self.store, key, true)
    }

    fn is_member(&self, key: &PublicKey) -> bool {
        // What was taken back or has ended is no right.
        let is_live = |space: &PublicKey| self.store.rights(space).is_some_and(|rights| rights.is_member(key));
        self.store.granted_to(key).is_ok_and(|spaces| spaces.iter().any(is_live))
    }

    fn readable(&self, space: &PublicKey) -> Result<Vec<TimelineId>, ReplicaError> {
        let Some(rights) = self.store.rights(space) else { return Ok(Vec::new()) };
        let own = [self.store.device()];
        let main = TimelineId::named(space, "main");
        let mounted = rights.shown().map(|mount| mount.timeline);
        Ok([main].into_iter().chain(mounted).filter(|timeline| may_read(&rights, &own, space, timeline, self.now_ms)).collect())
    }

    fn statements(&self) -> u64 {
        self.store.statements()
    }

    fn resume(&self, _remote: &Remote, _timeline: &TimelineId) -> Result<Option<Cursor>, ReplicaError> {
        Ok(None)
    }

    fn local(&self, space: &PublicKey, timeline: &TimelineId) -> Result<Option<u32>, ReplicaError> {
        Ok(self.store.number_of(space, timeline))
    }

    fn heads(&self, t: u32, max: usize) -> Result<Vec<ChangeId>, ReplicaError> {
        let mut heads = timebus_store::tips::heads(&*self.rows, t).map_err(failed)?;
        heads.sort_unstable_by(|a, b| b.cmp(a));
        heads.iter().take(max).map(|a| Ok(summary(&*self.rows, t, *a).map_err(failed)?.id)).collect()
    }

    fn end(&self, t: u32) -> Result<u64, ReplicaError> {
        // Nothing builds on what arrived last.
        Ok(timebus_store::tips::heads(&*self.rows, t).map_err(failed)?.into_iter().max().unwrap_or(0))
    }

    fn find(&self, t: u32, id: &ChangeId) -> Result<Option<u64>, ReplicaError> {
        Ok(find(&*self.rows, id).map_err(failed)?.filter(|(found, _)| *found == t).map(|(_, a)| a))
    }

    fn tips(&self, t: u32, after: Option<&Tip>, max: usize) -> Result<Vec<Tip>, ReplicaError> {
        let mut tips = Vec::new();
        if let Some(after) = after {
            tips.extend(self.tips_of(t, &after.author)?.into_iter().map(|(tip, _)| tip).filter(|tip| tip > after));
        }
        let more = timebus_store::tips::tips(&*self.rows, t, after.map(|tip| &tip.author), max).map_err(failed)?;
        tips.extend(more.into_iter().map(|tip| Tip { author: tip.author, seq: tip.seq, id: tip.id }));
        tips.truncate(max);
        Ok(tips)
    }

    fn bytes(&self, t: u32) -> Result<u64, ReplicaError> {
        const AUTHORS: usize = 64;
        let tips = timebus_store::tips::tips(&*self.rows, t, None, AUTHORS).map_err(failed)?;
        // Of a forked chain the longest branch.
        let longest = tips.chunk_by(|a, b| a.author == b.author).filter_map(|tips| tips.iter().map(|tip| tip.cum).max());
        Ok(longest.fold(0, u64::saturating_add))
    }

    fn tips_of(&self, t: u32, author: &PublicKey) -> Result<Vec<(Tip, u64)>, ReplicaError> {
        let tips = timebus_store::tips::tips_of(&*self.rows, t, author).map_err(failed)?;
        Ok(tips.into_iter().map(|tip| (Tip { author: tip.author, seq: tip.seq, id: tip.id }, tip.a)).collect())
    }

    fn at(&self, t: u32, author: &PublicKey, seq: u64) -> Result<Option<ChangeId>, ReplicaError> {
        let a = timebus_store::tips::at(&*self.rows, t, author, seq).map_err(failed)?;
        a.map(|a| Ok(summary(&*self.rows, t, a).map_err(failed)?.id)).transpose()
    }

    fn arrivals(&self, t: u32, from: u64, max: usize) -> Result<Vec<(u64, ChangeId)>, ReplicaError> {
        let changes = self.store.changes(&self.rows, t, from).take(max);
        changes.map(|change| change.map(|(a, own)| (a, own.id)).map_err(failed)).collect()
    }

    fn record(&self, t: u32, a: u64) -> Result<Vec<u8>, ReplicaError> {
        self.store.record(&self.rows, t, a).map_err(failed)
    }

    fn author(&self, t: u32, a: u64) -> Result<PublicKey, ReplicaError> {
        Ok(summary(&*self.rows, t, a).map_err(failed)?.author)
    }

    fn past(&self, t: u32, changes: &[u64]) -> Result<Box<dyn Past>, ReplicaError> {
        Ok(Box::new(View::past_of(&*self.rows, t, changes).map_err(failed)?))
    }
}

impl Past for View {
    fn contains(&self, a: u64) -> bool {
        Self::contains(self, a)
    }

    fn first_outside(&self) -> u64 {
        self.everything_upto().map_or(1, |upto| upto + 1)
    }
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::engine::{Engine, MemoryHome};
    use timebus_store::json::Json;
    use timebus_store::path::Path;
    use timebus_store::writer::{Action, Condition, Request, verify_all};

    use super::*;
    use crate::sync::Stored;

    fn engine(number: u8) -> Engine {
        let key = |n: u8| SecretKey::from_seed([number + n; 32]);
        let mut home = MemoryHome::new(key(0), &key(1), key(2));
        Engine::open(&mut home, &timebus_store::store::Config::default(), 1).expect("opens")
    }

    /// Both timelines of a space come at once over a link, and the one with the values may come first.
    #[test]
    fn what_comes_before_its_rights_waits_for_them() {
        let (mut alice, mut bob) = (engine(1), engine(10));
        let store = alice.store().clone();
        let (path, action, condition) = (Path::parse("/a").expect("path"), Action::Put(Json::Int(1)), Condition::None);
        let request = Request { space: None, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
        alice.finish(store.write(request)).expect("ends").expect("written");
        let rows = store.snapshot();
        let all = |t: u32| {
            let records = store.changes(&rows, t, 0).map(|change| store.record(&rows, t, change.expect("read").0).expect("read"));
            verify_all(records.map(|record| timebus_store::change::Change::decode(&record).expect("a change")).collect()).expect("signed")
        };
        let mut offer = |t: u32| {
            let to = bob.store().clone();
            let offered = bob.finish(to.offer(all(t))).expect("ends").expect("taken");
            let mut stored = Stored::default();
            tell(&mut stored, offered);
            (stored.admitted.len(), stored.pending, stored.refused)
        };
        let id = all(store.own().main())[0].id();
        assert_eq!(offer(store.own().main()), (0, vec![(id, Vec::new())], Vec::new()));
        assert_eq!(offer(store.own().auth()).0, 1);
        assert_eq!(offer(store.own().main()), (1, Vec::new(), Vec::new()));
    }

    /// Whoever is out hears nothing more when the words take over, but what he had from the root before is a matter of that.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_new_root_is_told_to_those_who_lost_something_by_it() {
        use timebus_identity::Keys;
        use timebus_store::grant::{Actions, Audience, Grant, Scope, Timelines};
        use timebus_store::op::Op;
        use timebus_store::store::{Config, lock_home};
        use timebus_store::writer::Statement;

        let folder = tempfile::tempdir().expect("a folder");
        let secret = |n: u8| SecretKey::from_seed([n; 32]);
        let lock = lock_home(folder.path()).expect("a free home");
        Keys::create_from(&folder.path().join("keys"), &secret(1), &secret(2)).expect("new keys");
        let store = Store::open(folder.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a store");
        let space = store.space();
        let grant = |to: PublicKey, label: &str| {
            Op::Grant(Grant {
                audience: Audience::Key(to),
                scope: Scope::everything(),
                timelines: Timelines::Main,
                actions: Actions(Actions::SYNC.0 | Actions::READ.0),
                bytes_max: 0,
                change_bytes_max: 0,
                not_after_ms: 0,
                depth: 0,
                label: label.into(),
            })
        };
        let until = |who: &PublicKey| {
            let remote = Remote { node: *who, space: *who, keys: vec![*who], name: String::new(), addresses: Vec::new() };
            let auth = TimelineId::named(&space, "auth");
            let held = Held::now(&store, [0; 16], 1);
            (held.may_sync(&remote, &space, &auth).expect("reads"), held.until(&remote, &space, &auth).expect("reads"))
        };
        let end = || Held::now(&store, [0; 16], 1).end(store.own().auth()).expect("reads");
        let [bob, carol] = [secret(11).public(), secret(12).public()];
        let given = store.state(Statement::Ops(vec![grant(bob, "")]), 1).await.expect("granted");
        store.state(Statement::Revoke { grants: given, cascade: false, keep: true }, 1).await.expect("taken back");
        let before = until(&bob);
        assert_eq!(before, (true, end()));
        store.state(Statement::Ops(vec![grant(secret(13).public(), "secret project")]), 1).await.expect("granted");
        let rights = store.rights(&space).expect("its rights");
        let succeed = timebus_store::succession::by_root(&rights, &secret(1), &secret(2).public(), &secret(3).public(), None).expect("planned");
        store.say_as_root(&secret(2), vec![Op::Succeed(succeed)], Vec::new(), 1).await.expect("said");
        let succeeded = end();
        assert_eq!(until(&bob), before, "nothing of his hangs on that");
        assert!(!until(&carol).0);
        // The old words are still in somebody's hands, and good for nothing: whom they let in hears why.
        store.say_as_root(&secret(1), vec![grant(carol, "")], Vec::new(), 1).await.expect("said in vain");
        store.state(Statement::Ops(vec![grant(secret(14).public(), "another one")]), 1).await.expect("granted");
        assert_eq!(until(&carol), (true, succeeded));
        assert_eq!(until(&bob), before);
    }
}
