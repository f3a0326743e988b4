//! Which spaces of members are placed here, what room there is for them, and who may have one opened on his word.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::grant::Actions;
use timebus_store::keyspace::Committed;
use timebus_store::pipeline::Space;
use timebus_store::store::{BlobPlace, StorageError, Store};
use timebus_store::summary::summary;
use timebus_store::tips;
use tokio::time::Instant;

use super::checking::Doubts;
use super::filling::{self, Missing};
use super::{Known, Placed, has_grown, held_of, is_for_all, leaving, offers};
use crate::community::placement::{Offer, holders};
use crate::community::{Member, Rules, members};
use crate::node::Holds;
use crate::node::book::one_key_text;

/// Bytes that the log of a member may have anyway, if that is no more than a fourth of all that is offered.
const SHARE_BYTES: u64 = 64_000_000;
/// How long no other space is opened on the word of a member whose last word brought one here.
pub(super) const TRIED_MS: u64 = 24 * 3_600_000;
/// How long statements may come that say whose a space is, once the first of them came.
pub(super) const PROOF_MS: u64 = 60_000;

/// A space that was opened for a member on the word of a machine alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Which.
    #[serde(with = "one_key_text")]
    pub space: PublicKey,
    /// When that word was all there was last; Unix milliseconds.
    pub at_ms: u64,
}

/// What is placed here of the spaces of members, as it was when it was worked out last.
#[derive(Debug, Default)]
pub(super) struct People {
    /// By space, with the last arrival that was looked at, and its files that are held.
    pub(super) spaces: BTreeMap<PublicKey, (u64, Vec<BlobHash>)>,
    /// The spaces of machines, as records said by then.
    space_of: BTreeMap<PublicKey, PublicKey>,
    pub(super) holds: Holds,
    logs: Logs,
    /// Files that were placed here with spaces that are placed with others now; of a space that was looked at there is an entry.
    pub(super) leaving: leaving::All,
}

impl People {
    /// The files that are held.
    pub(super) fn all(&self) -> impl Iterator<Item = BlobHash> {
        let placed = self.spaces.values().flat_map(|(_, files)| files);
        placed.chain(self.leaving.values().flat_map(BTreeMap::keys)).copied()
    }

    /// Whether something came in these spaces, or records say something else by now.
    pub(super) fn is_old(&self, store: &Store, rows: &Committed, space_of: &BTreeMap<PublicKey, PublicKey>) -> Result<bool, StorageError> {
        for (space, (upto, _)) in &self.spaces {
            if has_grown(store, rows, space, *upto)? {
                return Ok(true);
            }
        }
        Ok(self.space_of != *space_of)
    }

    /// Whether a space of which nothing is here may be opened for a member: one at a time, and when something came, no other
    /// one for a day.
    fn may_try(&mut self, store: &Store, member: PublicKey, space: PublicKey, claims: &BTreeMap<PublicKey, Claim>, now_ms: u64) -> bool {
        let is_other = |tried: &Tried| tried.space != space && (store.rights(&tried.space).is_some() || claims.contains_key(&tried.space));
        if self.holds.tried.get(&member).is_some_and(is_other) {
            return false;
        }
        self.holds.tried.insert(member, Tried { space, at_ms: now_ms });
        true
    }
}

/// Who calls a space his.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// His machines.
    pub(crate) nodes: Vec<PublicKey>,
    /// Members, by the first of their keys.
    pub(crate) members: BTreeSet<PublicKey>,
    /// Machines of members that give nothing of it to others.
    keeping_back: Vec<PublicKey>,
}

impl Claim {
    /// The machines that it is placed with: none that has it anyway, and none from which nobody would get it. The first ones, as many as
    /// there are to be copies, are those that hold it in any case.
    fn holders(&self, community: &PublicKey, space: &PublicKey, (offers, doubts): (&[Offer], &Doubts), replicas: u8) -> Vec<PublicKey> {
        let counts = |node: &PublicKey| !doubts.is_doubted_for_space(node, space);
        holders(community, space, &[&self.nodes[..], &self.keeping_back].concat(), offers, replicas, counts)
    }
}

/// Those of some machines that do not count for the space of a member.
fn unshown(holders: &[PublicKey], doubts: &Doubts, space: &PublicKey) -> Vec<PublicKey> {
    holders.iter().filter(|node| doubts.is_doubted_for_space(node, space)).copied().collect()
}

/// The spaces that machines of members call theirs, but for those machines that the spaces themselves do not know: they go to
/// `untrue`. A machine may call any space its own; it is the member's if one of his keys is a device there.
pub(crate) fn claims(
    store: &Store,
    members: &[Member],
    space_of: &BTreeMap<PublicKey, PublicKey>,
    untrue: &mut BTreeSet<(PublicKey, PublicKey)>,
) -> BTreeMap<PublicKey, Claim> {
    let mut claims: BTreeMap<PublicKey, Claim> = BTreeMap::new();
    for member in members {
        for machine in &member.machines {
            let Some(space) = space_of.get(&machine.node) else { continue };
            if store.rights(space).is_some_and(|rights| !member.keys.iter().any(|key| rights.was_device(key))) {
                untrue.insert((machine.node, *space));
                continue;
            }
            let claim = claims.entry(*space).or_default();
            claim.nodes.push(machine.node);
            claim.members.extend(member.keys.first());
        }
    }
    for machine in members.iter().flat_map(|member| &member.machines) {
        for space in &machine.keeps_back {
            claims.get_mut(space).into_iter().for_each(|claim| claim.keeping_back.push(machine.node));
        }
    }
    claims
}

/// How large logs are on this disk: what came since is added to what was counted.
#[derive(Debug, Default)]
pub(super) struct Logs(BTreeMap<u32, (u64, u64)>);

impl Logs {
    /// Bytes of the log of a space.
    pub(super) fn bytes(&mut self, store: &Store, rows: &Committed, space: &PublicKey) -> Result<u64, StorageError> {
        let Some(held) = store.held(space) else { return Ok(0) };
        let mut all = 0;
        for t in std::iter::once(held.auth()).chain(store.values(held).into_iter().map(|(t, _)| t)) {
            let (mut upto, mut bytes) = match self.0.get(&t) {
                Some(counted) => *counted,
                // Nothing builds on what arrived last.
                None => (tips::heads(rows, t)?.into_iter().max().unwrap_or(0), counted(rows, t)?),
            };
            for change in store.changes(rows, t, upto + 1) {
                let (a, change) = change?;
                let before = change.deps.first().filter(|_| change.seq > 1).map(|prev| summary(rows, t, *prev)).transpose()?;
                bytes += change.cum.saturating_sub(before.map_or(0, |before| before.cum));
                upto = a;
            }
            self.0.insert(t, (upto, bytes));
            all += bytes;
        }
        Ok(all)
    }
}

/// Bytes of a timeline, by its authors.
fn counted(rows: &Committed, t: u32) -> Result<u64, StorageError> {
    let authors: HashSet<PublicKey> = tips::tips(rows, t, None, usize::MAX)?.into_iter().map(|tip| tip.author).collect();
    authors.iter().try_fold(0, |bytes, author| Ok(bytes + tips::size_of(rows, t, author)?.0))
}

/// The bytes that the log of one of so many spaces may have, within what is offered.
fn share(offered: u64, spaces: usize) -> u64 {
    (offered / spaces.max(1) as u64).max(SHARE_BYTES.min(offered / 4))
}

/// Which of these logs have room, by their bytes: none that is larger than its share, and of the others the smallest first, so
/// that who grows shuts out himself; and the room that is left for files.
fn with_room(room: u64, share: u64, logs: &[u64]) -> (Vec<bool>, u64) {
    let beyond: u64 = logs.iter().filter(|log| **log > share).sum();
    let mut room = room.saturating_sub(beyond);
    let mut order: Vec<usize> = (0..logs.len()).filter(|at| logs[*at] <= share).collect();
    order.sort_by_key(|at| logs[*at]);
    let mut fits = vec![false; logs.len()];
    for at in order {
        // What is full to the last byte takes no more either.
        fits[at] = logs[at] < room;
        room = room.saturating_sub(logs[at]);
    }
    (fits, room)
}

/// Which files of each space there is room for, by their lengths: no space takes the room of another one, and what is left
/// over is for all.
fn fitting(mut room: u64, spaces: &[Vec<u64>]) -> Vec<Vec<bool>> {
    let mut fits: Vec<Vec<bool>> = spaces.iter().map(|files| vec![false; files.len()]).collect();
    for is_rest in [false, true] {
        for (at, files) in spaces.iter().enumerate() {
            let mut own = if is_rest { room } else { room / (spaces.len() - at) as u64 };
            for (len, fits) in files.iter().zip(&mut fits[at]).filter(|(_, fits)| !**fits) {
                if *len <= own {
                    (*fits, own, room) = (true, own - len, room - len);
                }
            }
        }
    }
    fits
}

/// The space of a member, and where it is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lying {
    /// Which.
    pub(crate) space: PublicKey,
    /// Whose it is, by the first keys of members.
    pub(crate) members: BTreeSet<PublicKey>,
    /// Bytes of its log, if some of it is here.
    pub(crate) bytes: Option<u64>,
    /// The machines that it is placed with, the first of them first.
    pub(crate) holders: Vec<PublicKey>,
    /// Those of them that do not count, since they could not show files of it.
    pub(crate) unshown: Vec<PublicKey>,
}

/// The spaces of all members, as far as records of their machines say which these are, and where they are placed.
pub(crate) fn lying(
    store: &Store,
    rows: &Committed,
    (community, own): (&PublicKey, &PublicKey),
    rules: &Rules,
    members: &[Member],
    space_of: &BTreeMap<PublicKey, PublicKey>,
    now_ms: u64,
) -> Result<Vec<Lying>, StorageError> {
    let (offers, doubts) = (offers(rules, members, own, now_ms), Doubts::of(rules, members, own, now_ms));
    let lying = |(space, claim): (PublicKey, Claim)| {
        let bytes = store.held(&space).map(|_| Logs::default().bytes(store, rows, &space)).transpose()?;
        let holders = claim.holders(community, &space, (&offers, &doubts), rules.replicas);
        Ok(Lying { space, bytes, unshown: unshown(&holders, &doubts, &space), holders, members: claim.members })
    };
    claims(store, members, space_of, &mut BTreeSet::new()).into_iter().map(lying).collect()
}

/// The files that spaces of members name for everybody, of those spaces that are here, each with its space and the machines that it is
/// placed with.
pub(super) fn files_with_spaces(
    store: &Store,
    rows: &Committed,
    (community, own): (&PublicKey, &PublicKey),
    space_of: &BTreeMap<PublicKey, PublicKey>,
    now_ms: u64,
) -> Result<Vec<(PublicKey, Placed)>, StorageError> {
    let mut files = Vec::new();
    let Some(held) = store.held(community) else { return Ok(files) };
    let Some(rules) = Rules::of(store, rows, held.unmounted())? else { return Ok(files) };
    let members = members(store, rows, held.unmounted())?;
    let (offers, doubts) = (offers(&rules, &members, own, now_ms), Doubts::of(&rules, &members, own, now_ms));
    for (space, claim) in claims(store, &members, space_of, &mut BTreeSet::new()) {
        let holders = claim.holders(community, &space, (&offers, &doubts), rules.replicas);
        let named = public_files(store, rows, &space, now_ms)?;
        files.extend(named.into_iter().map(|(_, file)| (space, Placed { holders: holders.clone(), ..file })));
    }
    Ok(files)
}

/// The files that a space names for everybody.
pub(super) fn public_files(store: &Store, rows: &Committed, space: &PublicKey, now_ms: u64) -> Result<Vec<(Space, Placed)>, StorageError> {
    let (Some(held), Some(rights)) = (store.held(space), store.rights(space)) else { return Ok(Vec::new()) };
    let (theirs, main) = (held.unmounted(), store.timeline(held.unmounted()));
    let (mut files, mut named) = (Vec::new(), store.places(rows));
    for hash in store.named_blobs(rows, space)? {
        let is_public =
            |place: &BlobPlace| is_for_all(place, space, &main) && rights.grant_covering(None, Actions::READ, &main, &place.path, now_ms).is_some();
        if let Some(found) = named.of(&hash)?.into_iter().find(is_public) {
            files.push((theirs, Placed { hash, len: found.len, path: found.path, author: found.author, holders: Vec::new(), unshown: Vec::new() }));
        }
    }
    Ok(files)
}

/// Works out which spaces of members are placed here, and which of their files: their logs have to fit into what is offered to
/// each community beside the files of its own, and the files into the rest. What of the files is missing goes with it.
pub(super) fn look_at_people(
    store: &Store,
    node: PublicKey,
    offered: &[(PublicKey, u64)],
    known: &Known,
    mut before: People,
    (space_of, tried): (BTreeMap<PublicKey, PublicKey>, BTreeMap<PublicKey, Tried>),
    now_ms: u64,
) -> Result<(People, Missing), StorageError> {
    let (upto, rows) = (*store.arrivals().borrow(), store.snapshot());
    let logs = std::mem::take(&mut before.logs);
    let mut people = People { space_of, logs, holds: Holds { tried, ..Holds::default() }, ..Default::default() };
    people.holds.tried.retain(|_, tried| tried.at_ms.saturating_add(TRIED_MS) > now_ms);
    let (mut missing, mut going) = (Missing::new(), BTreeSet::new());
    for (community, bytes) in offered {
        let Some(held) = store.held(community) else { continue };
        let Some(rules) = Rules::of(store, &rows, held.unmounted())? else { continue };
        let members = members(store, &rows, held.unmounted())?;
        let claims = claims(store, &members, &people.space_of, &mut people.holds.untrue);
        if *bytes == 0 {
            continue;
        }
        let (offers, doubts) = (offers(&rules, &members, &node, now_ms), Doubts::of(&rules, &members, &node, now_ms));
        let mut logs: BTreeMap<PublicKey, (u64, bool)> = BTreeMap::new();
        // Those that are here since others could not show them.
        let mut beside: BTreeSet<PublicKey> = BTreeSet::new();
        let mut elsewhere: Vec<(PublicKey, Vec<PublicKey>)> = Vec::new();
        for (space, claim) in &claims {
            let is_others = *space != store.space() && !claim.nodes.contains(&node);
            let holders = claim.holders(community, space, (&offers, &doubts), rules.replicas);
            let is_placed = is_others && holders.contains(&node);
            if is_placed && !holders.iter().take(usize::from(rules.replicas)).any(|holder| *holder == node) {
                beside.insert(*space);
            }
            if is_others && !is_placed && store.rights(space).is_some() {
                elsewhere.push((*space, holders));
            }
            let mut tries = claim.members.iter();
            if is_placed && (store.rights(space).is_some() || tries.any(|member| people.may_try(store, *member, *space, &claims, now_ms))) {
                logs.insert(*space, (people.logs.bytes(store, &rows, space)?, true));
            }
        }
        // What came on somebody's word and is not his counts as well. More statements may come yet that say that it is.
        let tried: Vec<Tried> = members.iter().filter_map(|member| people.holds.tried.get(member.keys.first()?)).copied().collect();
        for Tried { space, at_ms } in tried {
            let is_open = at_ms.saturating_add(PROOF_MS) > now_ms && people.space_of.values().any(|claimed| *claimed == space);
            if store.rights(&space).is_some() && !claims.contains_key(&space) {
                logs.insert(space, (people.logs.bytes(store, &rows, &space)?, is_open));
            }
        }
        let own: u64 = known.spaces.get(community).into_iter().flat_map(|(_, files)| files).map(|(_, len)| len).sum();
        let (mut left, part) = (bytes.saturating_sub(own), share(*bytes, logs.len()));
        // What is here since others could not show it gets what is left when all else has its part.
        let (more, first): (BTreeMap<_, _>, BTreeMap<_, _>) = logs.into_iter().partition(|(space, _)| beside.contains(space));
        for logs in [first, more] {
            // What another community has room for takes none here.
            let counted: Vec<u64> = logs.iter().map(|(space, (log, _))| if people.spaces.contains_key(space) { 0 } else { *log }).collect();
            let (fits, room) = with_room(left, part, &counted);
            let mut here = Vec::new();
            for ((space, (_, is_wanted)), fits) in logs.into_iter().zip(fits) {
                if !fits {
                    people.holds.shut.insert(space);
                } else if is_wanted {
                    people.spaces.entry(space).or_insert((upto, Vec::new()));
                    here.push(space);
                }
            }
            let mut files = Vec::new();
            for space in &here {
                let mut wanted = if claims.contains_key(space) { public_files(store, &rows, space, now_ms)? } else { Vec::new() };
                wanted.retain(|(_, file)| !people.spaces[space].1.contains(&file.hash));
                files.push(wanted);
            }
            let lens: Vec<Vec<u64>> = files.iter().map(|files| files.iter().map(|(_, file)| file.len).collect()).collect();
            left = room;
            for ((space, files), fits) in here.iter().zip(files).zip(fitting(room, &lens)) {
                people.leaving.insert((*community, *space), BTreeMap::new());
                for (file, _) in files.into_iter().zip(fits).filter(|(_, fits)| *fits) {
                    left = left.saturating_sub(file.1.len);
                    people.spaces.entry(*space).or_default().1.push(file.1.hash);
                    if held_of(store, space, vec![file.1.hash])?.is_empty() {
                        let (_, mut file) = file;
                        // Those who may have it.
                        if let Some(claim) = claims.get(space) {
                            file.holders = claim.holders(community, space, (&offers, &doubts), rules.replicas);
                            file.holders.extend(&claim.nodes);
                        }
                        missing.push(filling::missing(space, file));
                    }
                }
            }
        }
        left = left.saturating_sub(known.leaving.get(&(*community, *community)).map_or(0, leaving::bytes));
        for (space, holders) in elsewhere {
            let unshown = unshown(&holders, &doubts, &space);
            let mut files = stay(store, &rows, (community, &space, (holders, unshown)), &rules, &before, left, now_ms)?;
            left -= leaving::bytes(&files);
            if known.handing.contains_key(community) {
                leaving::to_all_there_are(&mut files);
                // Others get it from here as long as the space is open.
                going.extend((!files.is_empty()).then_some(space));
            }
            people.leaving.insert((*community, space), files);
        }
    }
    people.holds.spaces = people.spaces.keys().copied().chain(going).collect();
    people.holds.shut.retain(|space| !people.holds.spaces.contains(space));
    Ok((people, missing))
}

/// Which files of the space of a member that is placed with these others stay here for now.
fn stay(
    store: &Store,
    rows: &Committed,
    (community, space, (holders, unshown)): (&PublicKey, &PublicKey, (Vec<PublicKey>, Vec<PublicKey>)),
    rules: &Rules,
    before: &People,
    room: u64,
    now_ms: u64,
) -> Result<BTreeMap<BlobHash, leaving::Leaving>, StorageError> {
    let leaving = before.leaving.get(&(*community, *space));
    // When it is looked at for the first time, nobody knows what was placed here.
    let held: Option<BTreeSet<BlobHash>> = leaving.map(|_| before.spaces.get(space).into_iter().flat_map(|(_, files)| files).copied().collect());
    if held.as_ref().is_some_and(BTreeSet::is_empty) && leaving.is_some_and(BTreeMap::is_empty) {
        return Ok(BTreeMap::new());
    }
    let mut files = Vec::new();
    for (_, file) in public_files(store, rows, space, now_ms)? {
        if !held_of(store, space, vec![file.hash])?.is_empty() {
            files.push(Placed { holders: holders.clone(), unshown: unshown.clone(), ..file });
        }
    }
    Ok(leaving::stay(leaving::Before { leaving, held: held.as_ref() }, rules, files, room, Instant::now()))
}

#[cfg(test)]
mod tests {
    use timebus_store::grant::{Audience, Grant, Scope, ScopeSegment, Timelines};
    use timebus_store::ids::TimelineId;
    use timebus_store::op::Op;
    use timebus_store::value::{Mime, Value};
    use timebus_store::writer::{Action, Statement};

    use super::super::super::{keeping, path};
    use super::*;
    use crate::community::placement::weigh;
    use crate::peer::{Peer, PeerConfig};
    use crate::who::now_ms;
    use crate::whose::tests::{open, tell};

    #[test]
    fn no_space_takes_the_room_of_another_one() {
        // The first would take all of it; what the others leave is his.
        assert_eq!(fitting(100, &[vec![60, 30, 30], vec![20, 20]]), [vec![false, true, true], vec![true, true]]);
        assert_eq!(fitting(100, &[vec![90], vec![10]]), [vec![true], vec![true]]);
        assert_eq!(fitting(100, &[vec![101], vec![]]), [vec![false], vec![]]);
        assert!(fitting(0, &[]).is_empty());
    }

    async fn let_in(peer: &Peer, member: PublicKey, node: PublicKey, stores: u64, number: u64) {
        let scope = [ScopeSegment::Name("members".into()), ScopeSegment::Name(member.to_string().as_str().into())];
        let actions = Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0);
        grant(peer, Audience::Key(member), scope.into(), actions, number).await;
        let place = path(&["members", &member.to_string(), "nodes", &node.to_string()]);
        keeping::write(peer, peer.store().own(), place, Action::Put, &serde_json::json!({"stores": stores, "seen_ms": now_ms()}))
            .await
            .expect("writes");
    }

    async fn grant(peer: &Peer, audience: Audience, segments: Vec<ScopeSegment>, actions: Actions, number: u64) {
        let (scope, timelines, label) = (Scope { segments, deep: true }, Timelines::Main, "test".into());
        let (bytes_max, change_bytes_max, not_after_ms, depth) = (0, 0, 0, 0);
        let grant = Grant { audience, scope, timelines, actions, bytes_max, change_bytes_max, not_after_ms, depth, label };
        peer.store().state(Statement::Ops(vec![Op::Grant(grant)]), number).await.expect("stated");
    }

    /// Carol holds the space of alice with a picture. Then dave comes, it is placed with him, and he has nothing of it yet.
    #[tokio::test(start_paused = true)]
    async fn files_of_a_space_that_is_placed_with_others_stay_until_these_have_them() {
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [alice, carol] = [0, 1].map(|at| Peer::new(open(homes[at].path()), timebus_identity::Token::generate(), PeerConfig::default()));
        let key = |number: u8| timebus_identity::SecretKey::from_seed([number; 32]).public();
        let (of_alice, of_carol) = (key(21), key(22));
        grant(&alice, Audience::Anyone, Vec::new(), Actions::READ, 1).await;
        let (hash, len, _lease) = crate::blobs::keep(&alice, bytes::Bytes::from_static(b"a picture")).await.expect("kept");
        let value = Value::Blob { hash: *hash.as_bytes(), len, mime: Mime::new("image/png").expect("a media type") };
        let put = |_| Action::PutValue(value);
        keeping::write(&alice, alice.store().own(), path(&["picture"]), put, &serde_json::Value::Null).await.expect("writes");
        let (space, store) = (alice.space(), carol.store());
        tell(alice.store(), &space, store).await;
        let [theirs, blobs] = [alice.store(), store].map(|store| store.blobs().expect("on disk"));
        let slice = theirs.open_blob(hash).expect("opens").expect("is whole").slice(0).expect("is good");
        assert!(blobs.fetch(hash, len, &TimelineId::named(&space, "main")).expect("room").put(0, &slice).expect("is good"), "it is whole");
        let rules = serde_json::to_value(Rules { away_h: 48, replicas: 1, ..Rules::new("choir") }).expect("JSON");
        keeping::write(&carol, store.own(), path(&["rules"]), Action::Put, &rules).await.expect("writes");
        let_in(&carol, alice.store().device(), of_alice, 0, 1).await;
        let_in(&carol, key(2), of_carol, 1 << 30, 2).await;
        let choir = store.space();
        let look = |before: People, room: u64| {
            let claimed = BTreeMap::from([(of_alice, space)]);
            let looked = look_at_people(store, of_carol, &[(choir, room)], &Known::default(), before, (claimed, BTreeMap::new()), now_ms());
            let (people, missing) = looked.expect("reads");
            assert!(missing.is_empty(), "it is here");
            let stays: usize = people.leaving.values().map(BTreeMap::len).sum();
            let is_held = !people.spaces.get(&space).is_none_or(|(_, files)| files.is_empty());
            assert_eq!(people.all().count(), stays + usize::from(is_held));
            (people, is_held, stays)
        };
        let (people, is_held, stays) = look(People::default(), 1 << 30);
        assert_eq!((is_held, stays), (true, 0));
        // Dave offers so much that all is placed with him first, as long as he is there.
        let offer = |node: PublicKey, bytes: u64| Offer { node, of: node, bytes, weight: bytes };
        let comes_first = |node: &PublicKey| {
            let mut offers = [offer(of_carol, 1 << 30), offer(*node, 1 << 40)];
            weigh(&mut offers);
            holders(&choir, &space, &[of_alice], &offers, 1, |_| true) == [*node]
        };
        let of_dave = (30..).map(key).find(comes_first).expect("eight of nine do");
        let_in(&carol, key(3), of_dave, 1 << 40, 3).await;
        let rows = store.snapshot();
        let rules = Rules::of(store, &rows, store.own()).expect("reads").expect("rules");
        let offers = offers(&rules, &members(store, &rows, store.own()).expect("reads"), &of_carol, now_ms());
        assert_eq!(holders(&choir, &space, &[of_alice], &offers, 1, |_| true), [of_dave]);
        // But if he gives nothing of it to others, that would be nobody's copy.
        let keeps_back = path(&["members", &key(3).to_string(), "nodes", &of_dave.to_string(), "keeps_back"]);
        keeping::write(&carol, store.own(), keeps_back.clone(), Action::Put, &format!("{} {space} x", key(9)).into()).await.expect("writes");
        let (people, is_held, stays) = look(people, 1 << 30);
        assert_eq!((is_held, stays), (true, 0));
        keeping::write(&carol, store.own(), keeps_back, Action::Put, &key(9).to_string().into()).await.expect("writes");
        let (people, is_held, stays) = look(people, 1 << 30);
        assert_eq!((is_held, stays), (false, 1), "what was held here stays");
        let (people, _, stays) = look(people, 1 << 30);
        assert_eq!(stays, 1, "and goes on to");
        let after_a_start = look(People::default(), 1 << 30).2;
        assert_eq!(after_a_start, 1, "after a start nobody knows what was placed here");
        assert_eq!(look(People::default(), 8).2, 0, "within what is offered");
        // Dave has it; so it is let go of, and does not come back.
        let mut handed_over = people;
        handed_over.leaving.values_mut().for_each(BTreeMap::clear);
        let (people, is_held, stays) = look(handed_over, 1 << 30);
        assert_eq!((is_held, stays), (false, 0));
        let (people, _, stays) = look(people, 1 << 30);
        assert_eq!(stays, 0);
        // If he cannot show it to alice, the next one holds it, too.
        let unshown = path(&["members", &alice.store().device().to_string(), "nodes", &of_alice.to_string(), "unshown"]);
        let said = crate::community::unshown_text(&BTreeSet::from([(of_dave, Some(BlobHash::from_bytes(*space.as_bytes())))]));
        keeping::write(&carol, store.own(), unshown.clone(), Action::Put, &said.into()).await.expect("writes");
        let (people, is_held, stays) = look(people, 1 << 30);
        assert_eq!((is_held, stays), (true, 0));
        keeping::write(&carol, store.own(), unshown, Action::Put, &"".into()).await.expect("writes");
        let (_, is_held, stays) = look(people, 1 << 30);
        assert_eq!((is_held, stays), (false, 1));
        // Or he never comes for so long that he does not count any more.
        let (people, ..) = look(People::default(), 1 << 30);
        tokio::time::advance(std::time::Duration::from_secs(48 * 3600)).await;
        assert_eq!(look(people, 1 << 30).2, 0);
    }

    #[test]
    fn no_log_has_more_than_its_part() {
        assert_eq!(share(10_000_000_000, 10), 1_000_000_000);
        assert_eq!(share(1_000_000_000, 100), SHARE_BYTES);
        assert_eq!(share(100_000_000, 100), 25_000_000, "some room is small");
        assert_eq!(share(1000, 0), 1000);
    }

    #[test]
    fn who_grows_beyond_the_room_there_is_shuts_out_himself() {
        assert_eq!(with_room(100, 60, &[30, 50, 10]), (vec![true, true, true], 10));
        assert_eq!(with_room(100, 60, &[30, 60, 10]), (vec![true, false, true], 0), "full to the last byte");
        assert_eq!(with_room(90, 60, &[30, 60, 10]), (vec![true, false, true], 0));
        assert_eq!(with_room(100, 60, &[30, 61, 10]), (vec![false, false, true], 0), "what is over its share takes room all the same");
        assert_eq!(with_room(200, 60, &[30, 61, 10]), (vec![true, false, true], 99));
        assert_eq!(with_room(0, 60, &[0]), (vec![false], 0), "nothing is opened where nothing has room");
        assert_eq!(with_room(5, 60, &[]), (vec![], 5));
    }
}
