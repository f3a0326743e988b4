//! Holds what is placed with this peer in the communities that it offered storage to.
//!
//! What is placed where every member works out alike ([`placement`]), from the files that the community names, and from
//! what members offer and when they were there last. So whoever is away too long, leaves or is removed is replaced by
//! the next ones without a word. The log of a community is with every member anyway.
//!
//! The spaces of its members are placed by the same rule, and with a space the files that it names for all: what a member
//! posts in his own space is there for the others while his machines are off. Only what anybody may read is held.
//!
//! [`placement`]: super::placement

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::ids::TimelineId;
use timebus_store::keyspace::Committed;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::{BlobPlace, StorageError, Store};
use tokio::sync::watch;
use tokio::time::Instant;

use super::placement::{Offer, ranking};
use super::{HandOver, Member, Rules, members};
use crate::blobs::named::belongs;
use crate::blobs::wishes::Wishes;
use crate::network::{Network, Stopped};
use crate::node::{Event, Placing};
use crate::peer::Peer;
use crate::who::now_ms;

pub(crate) mod asking;
pub mod checking;
mod filling;
pub(crate) mod leaving;
mod room;
pub(crate) mod spaces;

use checking::Doubts;
use filling::Missing;
pub use spaces::Tried;
use spaces::{People, look_at_people};

/// How often it is looked whether somebody is there by now who has what is missing, and whether somebody is away too long.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The same while what was held here goes to others.
const HAND_OVER_EVERY: Duration = Duration::from_secs(3);
/// How long what is new waits, so that what comes with it is looked at together.
const GATHER: Duration = Duration::from_millis(500);

/// A file of a community, and with whom it is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its content.
    pub hash: BlobHash,
    /// Its length.
    pub len: u64,
    /// Where it is named.
    pub path: Path,
    /// Who named it there.
    pub author: PublicKey,
    /// The machines that hold it, the first of them first; fewer than the rules say if there are no more with room.
    pub holders: Vec<PublicKey>,
    /// Those of them that do not count, since they could not show it: there are as many more holders, as far as there is room.
    pub unshown: Vec<PublicKey>,
}

impl Placed {
    /// The machines that count as its holders.
    pub fn counted(&self) -> impl Iterator<Item = &PublicKey> {
        self.holders.iter().filter(|node| !self.unshown.contains(node))
    }
}

/// What a community says of where things are to be.
#[must_use]
pub fn placing(rules: &Rules, members: &[Member]) -> Placing {
    let machines = members.iter().flat_map(|member| &member.machines).cloned().collect();
    Placing { replicas: rules.replicas, away_ms: u64::from(rules.away_h) * 3_600_000, machines }
}

/// The machines of members that things are placed with now: who offers something, and was there lately; and this one.
#[must_use]
pub fn offers(rules: &Rules, members: &[Member], own: &PublicKey, now_ms: u64) -> Vec<Offer> {
    placing(rules, members).offers(now_ms, own)
}

/// Places files, given in any order, within what is offered: who is full is passed over. Every member comes to the same. Where
/// there is too little room it goes to all who named files alike, as `whose` tells their keys apart: who names much, or what
/// nobody has, takes none of the others'. Who could not show a file holds it all the same, until he can, and does not count: what
/// room is left when all have their part goes to the next ones, as many at most as there are to be copies.
pub fn place(
    space: &PublicKey,
    rules: &Rules,
    (offers, doubts): (&[Offer], &Doubts),
    files: &mut Vec<Placed>,
    whose: impl Fn(&PublicKey) -> PublicKey,
) {
    files.sort_unstable_by_key(|file| Reverse((file.hash, file.len)));
    let mut of: BTreeMap<PublicKey, Vec<Placed>> = BTreeMap::new();
    for file in files.drain(..) {
        of.entry(whose(&file.author)).or_default().push(file);
    }
    let mut room: HashMap<PublicKey, u64> = offers.iter().map(|offer| (offer.node, offer.bytes)).collect();
    let replicas = usize::from(rules.replicas);
    // Who has least so far comes next.
    let mut turns: BTreeSet<(u64, PublicKey)> = of.keys().map(|who| (0, *who)).collect();
    while let Some((bytes, who)) = turns.pop_first() {
        let Some(mut file) = of.get_mut(&who).and_then(Vec::pop) else { continue };
        let ranked = ranking(space, file.hash.as_bytes(), offers);
        hold_by(ranked, &mut file, &mut room, |holders| holders.len() < replicas);
        turns.insert((bytes.saturating_add(file.len.saturating_mul(file.holders.len() as u64)), who));
        files.push(file);
    }
    // Who says something of others without a reason takes nobody's part.
    let is_unshown = |file: &Placed, node: &PublicKey| doubts.is_doubted(node, &file.hash);
    for file in files {
        let hash = file.hash;
        file.unshown = file.holders.iter().filter(|node| is_unshown(file, node)).copied().collect();
        if file.unshown.is_empty() {
            continue;
        }
        let mut ranked = ranking(space, hash.as_bytes(), offers);
        ranked.retain(|node| !file.holders.contains(node));
        let counts = |holders: &[PublicKey]| holders.iter().filter(|node| !doubts.is_doubted(node, &hash)).count();
        hold_by(ranked, file, &mut room, |holders| counts(holders) < replicas && holders.len() < 2 * replicas);
        file.unshown = file.holders.iter().filter(|node| is_unshown(file, node)).copied().collect();
    }
}

/// Places a file with the first of these machines that have room, as long as it has too few of them.
fn hold_by(ranked: Vec<PublicKey>, file: &mut Placed, room: &mut HashMap<PublicKey, u64>, has_few: impl Fn(&[PublicKey]) -> bool) {
    for node in ranked {
        if !has_few(&file.holders) {
            break;
        }
        if let Some(room) = room.get_mut(&node).filter(|room| **room >= file.len) {
            *room -= file.len;
            file.holders.push(node);
        }
    }
}

/// The files that a community names for all members, each once, and where they are placed. What is named with several lengths is
/// several files, of which one can be had: so nobody moves a file of others by naming it with a length of his own.
///
/// # Errors
///
/// [`StorageError`].
pub fn placed(store: &Store, rows: &Committed, space: Space, own: &PublicKey, now_ms: u64) -> Result<Vec<Placed>, StorageError> {
    let space = space.unmounted();
    let Some(rules) = Rules::of(store, rows, space)? else { return Ok(Vec::new()) };
    placed_by(store, rows, space, (&rules, own), now_ms)
}

/// The same where the rules are known.
fn placed_by(store: &Store, rows: &Committed, space: Space, (rules, own): (&Rules, &PublicKey), now_ms: u64) -> Result<Vec<Placed>, StorageError> {
    let main = store.timeline(space);
    let (mut files, mut named) = (Vec::new(), store.places(rows));
    for hash in store.named_blobs(rows, &space.key)? {
        let mut places = named.of(&hash)?;
        places.retain(|place| is_for_all(place, &space.key, &main));
        places.sort_by_cached_key(|place| (place.len, place.path.key()));
        places.dedup_by_key(|place| place.len);
        files.extend(places.into_iter().map(|BlobPlace { len, path, author, .. }| Placed {
            hash,
            len,
            path,
            author,
            holders: Vec::new(),
            unshown: Vec::new(),
        }));
    }
    let members = members(store, rows, space)?;
    // With those whom he brought, a member is one here, too.
    let whose = |key: &PublicKey| {
        let member = members.iter().find(|member| member.keys.contains(key));
        member.and_then(|member| member.place.segments().get(1)?.to_string().parse().ok()).unwrap_or(*key)
    };
    place(&space.key, rules, (&offers(rules, &members, own, now_ms), &Doubts::of(rules, &members, own, now_ms)), &mut files, whose);
    Ok(files)
}

/// Whether a place names a file for all who may read a space: in its main timeline, and now.
fn is_for_all(place: &BlobPlace, space: &PublicKey, main: &TimelineId) -> bool {
    place.is_visible && place.space.key == *space && place.timeline == *main
}

/// Whether it does, and what is here of the file is here for those who have that timeline.
fn is_held_for_all(store: &Store, hash: &BlobHash, place: &BlobPlace, space: &PublicKey, main: &TimelineId) -> bool {
    is_for_all(place, space, main) && belongs(store, hash, main, &place.author)
}

/// Which of these files are here whole, of those that a space names for all who may read it.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn held_of(store: &Store, space: &PublicKey, files: Vec<BlobHash>) -> Result<Vec<BlobHash>, StorageError> {
    let (Some(blobs), Some(held)) = (store.blobs(), store.held(space)) else { return Ok(Vec::new()) };
    let (rows, main) = (store.snapshot(), store.timeline(held.unmounted()));
    let (mut here, mut named) = (Vec::new(), store.places(&rows));
    for hash in files.into_iter().filter(|hash| blobs.len_of(hash).is_some()) {
        if named.of(&hash)?.iter().any(|place| is_held_for_all(store, &hash, place, space, &main)) {
            here.push(hash);
        }
    }
    Ok(here)
}

/// The same for those who count on them, of a space of somebody else: what the owner keeps back they do not get from here.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn given_of(store: &Store, wishes: &Wishes, space: &PublicKey, files: Vec<BlobHash>) -> Result<Vec<BlobHash>, StorageError> {
    if wishes.hands_on(space) { held_of(store, space, files) } else { Ok(Vec::new()) }
}

/// The machines that may have a file of a community: those with whom it is placed, and those of who named it.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn who_has(store: &Store, space: Space, hash: &BlobHash, now_ms: u64) -> Result<Vec<PublicKey>, StorageError> {
    let rows = store.snapshot();
    let Some(rules) = Rules::of(store, &rows, space)? else { return Ok(Vec::new()) };
    let members = members(store, &rows, space)?;
    // Who was full was passed over, so one or two behind them may have it. This machine, which lacks it, is nobody.
    let ranked = ranking(&space.key, hash.as_bytes(), &offers(&rules, &members, &space.key, now_ms)).into_iter();
    let authors: HashSet<PublicKey> = store.places_of(&rows, hash)?.into_iter().map(|place| place.author).collect();
    let named = members.iter().filter(|member| member.keys.iter().any(|key| authors.contains(key))).flat_map(|member| &member.machines);
    Ok(ranked.take(usize::from(rules.replicas) + 2).chain(named.map(|machine| machine.node)).collect())
}

/// Holds what is placed here, now and whenever there is more, until the peer stops.
pub(crate) async fn keep(peer: Peer) {
    peer.until_stopped(keep_on(&peer)).await;
}

async fn keep_on(peer: &Peer) {
    let network = crate::blobs::network(peer).await;
    let (tell, missing) = watch::channel(Missing::new());
    // What is fetched takes its time; what comes meanwhile is looked at all the same, or a log could grow as long as that.
    tokio::join!(keep_looking(peer, &network, tell), filling::fill(peer, &network, missing), checking::check(peer, &network));
}

/// Works out what is placed here whenever that may have changed, and tells which files of it are missing.
async fn keep_looking(peer: &Peer, network: &Network, tell: watch::Sender<Missing>) {
    let wishes = network.blobs().wishes();
    let (mut arrivals, mut changed, mut wished) = (peer.store.arrivals(), network.changed(), wishes.changed());
    let mut kept = Kept::default();
    let mut look_at = Instant::now();
    // The last file that others were asked whether they have it.
    let mut last = None;
    // What was offered when it was looked how much of that has room.
    let mut counted = Vec::new();
    loop {
        arrivals.borrow_and_update();
        changed.borrow_and_update();
        wished.borrow_and_update();
        let Ok((memberships, handing)) = network.ask(|node| (node.book().communities.clone(), node.book().handing.clone())).await else { return };
        // What is kept back counts as nothing for others, and is kept here all the same; so does what is to go to others, until
        // these have it.
        let room = |space: &PublicKey, stores: u64| handing.get(space).map_or(stores, |handing| handing.bytes);
        let offered = memberships.iter().map(|(space, membership)| (*space, room(space, membership.stores))).collect();
        let is_look = Instant::now() >= look_at || kept.known.handing != handing;
        if is_look {
            look_at = Instant::now() + if handing.is_empty() { LOOK_EVERY } else { HAND_OVER_EVERY };
        }
        kept.known.handing.clone_from(&handing);
        kept = match hold(peer, network, offered, kept, is_look).await {
            Ok((mut now, missing)) => {
                missing.into_iter().for_each(|missing| drop(tell.send_replace(missing)));
                let offered: Vec<_> = memberships.iter().map(|(space, membership)| (*space, membership.stores)).collect();
                if is_look || offered != counted {
                    room::say(peer, wishes, offered.clone(), &now).await;
                    counted = offered;
                }
                if is_look {
                    let handed = leaving::hand_over(network, [&mut now.known.leaving, &mut now.people.leaving], &mut last).await;
                    if handed.is_err() || end_hand_over(peer, network, &now).await.is_err() {
                        return;
                    }
                }
                now
            }
            Err(error) => {
                tracing::warn!(%error, "it was not worked out what this peer is to hold for others");
                Kept::default()
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(look_at) => {}
            ended = arrivals.changed() => if ended.is_err() { return },
            // Records of members may have come.
            ended = changed.changed() => if ended.is_err() { return },
            // Files may be kept back.
            ended = wished.changed() => if ended.is_err() { return },
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Tells how much others are still to get of what is held for communities no longer, and ends that where they have it.
async fn end_hand_over(peer: &Peer, network: &Network, kept: &Kept) -> Result<(), Stopped> {
    for (space, handing) in &kept.known.handing {
        let left = leaving::Left::of([&kept.known.leaving, &kept.people.leaving], space);
        peer.handing.send_modify(|all| {
            all.insert(*space, left);
        });
        if !left.is_over(handing, now_ms()) {
            continue;
        }
        // The owner may have said otherwise meanwhile.
        let (of, was) = (*space, *handing);
        if !network.ask(move |node| node.book().handing.get(&of) == Some(&was)).await? {
            continue;
        }
        if handing.leaves {
            let told = match super::keeping::depart(peer, network, *space).await {
                Ok(told) => told,
                Err(error) => {
                    tracing::warn!(%error, "a community could not be left; that is tried again");
                    continue;
                }
            };
            peer.handing.send_modify(|all| {
                all.insert(*space, leaving::Left { told: Some(told), ..left });
            });
        } else {
            network.tell(Event::HandOver { space: *space, handing: None }).await?;
        }
    }
    Ok(())
}

/// What goes on from one look to the next.
#[derive(Debug, Default)]
struct Kept {
    known: Known,
    people: People,
}

/// What is placed here, as it was when it was worked out last, so that what arrives in other spaces costs nothing.
#[derive(Debug, Default)]
struct Known {
    /// By community, with the last arrival that was looked at; files with their lengths.
    spaces: BTreeMap<PublicKey, (u64, Vec<(BlobHash, u64)>)>,
    leaving: leaving::All,
    /// Communities of which all that is here goes to others.
    handing: BTreeMap<PublicKey, HandOver>,
    /// Files that were to go to others since the owner is leaving: those that are not any more have got there.
    handed: BTreeMap<PublicKey, BTreeSet<BlobHash>>,
    /// How often rights had changed by then.
    restated: u64,
}

impl Known {
    /// Whether what is placed here may be something else by now.
    fn is_old(&self, store: &Store, rows: &Committed, spaces: &[PublicKey], restated: u64) -> Result<bool, StorageError> {
        if restated != self.restated || !self.spaces.keys().eq(BTreeSet::from_iter(spaces)) {
            return Ok(true);
        }
        for (space, (upto, _)) in &self.spaces {
            if has_grown(store, rows, space, *upto)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn all(&self) -> HashSet<BlobHash> {
        let placed = self.spaces.values().flat_map(|(_, files)| files).map(|(hash, _)| *hash);
        placed.chain(self.leaving.values().flat_map(BTreeMap::keys).copied()).collect()
    }
}

/// Whether something arrived in a space after this arrival.
pub(crate) fn has_grown(store: &Store, rows: &Committed, space: &PublicKey, upto: u64) -> Result<bool, StorageError> {
    let Some(held) = store.held(space) else { return Ok(false) };
    Ok(store.changes(rows, held.unmounted().main(), upto + 1).next().transpose()?.is_some())
}

/// Works out what is placed here, if that may be something else by now or `is_look`, and what of it is missing.
fn look(store: &Store, node: PublicKey, offered: &[(PublicKey, u64)], before: Known, is_look: bool) -> Result<(Known, Missing), StorageError> {
    let (upto, restated) = (*store.arrivals().borrow(), *store.restatements().borrow());
    let rows = store.snapshot();
    let mut missing = Missing::new();
    let spaces: Vec<PublicKey> = offered.iter().map(|(space, _)| *space).collect();
    if !is_look && !before.is_old(store, &rows, &spaces, restated)? {
        return Ok((before, missing));
    }
    let mut known = Known { restated, handing: before.handing, handed: before.handed, ..Known::default() };
    known.handed.retain(|key, _| known.handing.get(key).is_some_and(|handing| handing.leaves));
    for (key, bytes) in offered {
        let (_, files) = known.spaces.entry(*key).or_insert((upto, Vec::new()));
        let Some(space) = store.held(key) else { continue };
        let Some(rules) = Rules::of(store, &rows, space.unmounted())? else { continue };
        let members = members(store, &rows, space.unmounted())?;
        let mut elsewhere = Vec::new();
        for file in placed_by(store, &rows, space.unmounted(), (&rules, &node), now_ms())? {
            // What is here whole is as long as it is, whatever somebody says.
            if store.blobs().and_then(|blobs| blobs.len_of(&file.hash)).is_some_and(|len| len != file.len) {
                continue;
            }
            let (is_placed, is_here) = (file.holders.contains(&node), !held_of(store, key, vec![file.hash])?.is_empty());
            if is_placed {
                files.push((file.hash, file.len));
            }
            match (is_placed, is_here) {
                (true, false) => missing.push(filling::missing(key, with_author(file, &members))),
                (false, true) => elsewhere.push(file),
                _ => {}
            }
        }
        let room = files.iter().fold(*bytes, |room, (_, len)| room.saturating_sub(*len));
        // When a community is looked at for the first time, nobody knows what was placed here.
        let held: Option<BTreeSet<BlobHash>> = before.spaces.get(key).map(|(_, files)| files.iter().map(|(hash, _)| *hash).collect());
        let handing = known.handing.get(key);
        // Whoever leaves takes along what he put there himself, too.
        let leaves = handing.is_some_and(|handing| handing.leaves);
        let held = held.filter(|_| !leaves);
        let before_leaving = before.leaving.get(&(*key, *key));
        let taken = known.handed.entry(*key).or_default();
        // What others have stays let go.
        elsewhere.retain(|file| !leaves || !taken.contains(&file.hash) || before_leaving.is_some_and(|all| all.contains_key(&file.hash)));
        let was = leaving::Before { leaving: before_leaving, held: held.as_ref() };
        let mut stay = leaving::stay(was, &rules, elsewhere, room, Instant::now());
        if handing.is_some() {
            leaving::to_all_there_are(&mut stay);
        }
        taken.extend(stay.keys().copied());
        known.leaving.insert((*key, *key), stay);
    }
    Ok((known, missing))
}

/// A file with the machines of who named it among those that may have it.
fn with_author(mut file: Placed, members: &[Member]) -> Placed {
    let author = members.iter().find(|member| member.keys.contains(&file.author));
    file.holders.extend(author.iter().flat_map(|author| &author.machines).map(|machine| machine.node));
    file
}

/// Opens the spaces that are placed here, and keeps the files that are. Answers what of these is missing, if it was worked out anew.
async fn hold(
    peer: &Peer,
    network: &Network,
    offered: Vec<(PublicKey, u64)>,
    Kept { known, people }: Kept,
    is_look: bool,
) -> io::Result<(Kept, Option<Missing>)> {
    let (store, node) = (peer.store.clone(), network.endpoint().node());
    let stopping = "the peer is stopping";
    let asked = network.ask(|node| (node.spaces_of_machines(), node.book().tried.clone()));
    let (space_of, tried) = asked.await.map_err(|_| io::Error::other(stopping))?;
    let looked = crate::blobs::beside(move || {
        let with_room: Vec<(PublicKey, u64)> = offered.iter().filter(|(_, bytes)| *bytes > 0).copied().collect();
        let spaces: Vec<PublicKey> = with_room.iter().map(|(space, _)| *space).collect();
        let (rows, restated) = (store.snapshot(), *store.restatements().borrow());
        let is_old = is_look || known.is_old(&store, &rows, &spaces, restated)? || people.is_old(&store, &rows, &space_of)?;
        if !is_old {
            return Ok((Kept { known, people }, None));
        }
        let (known, mut missing) = look(&store, node, &with_room, known, true)?;
        let (people, more) = look_at_people(&store, node, &offered, &known, people, (space_of, tried), now_ms())?;
        missing.extend(more);
        in_turn(&mut missing);
        Ok::<_, StorageError>((Kept { known, people }, Some(missing)))
    });
    let (kept, missing) = looked.await.map_err(|_| io::Error::other(stopping))?.map_err(io::Error::other)?;
    if missing.is_some() {
        let Kept { known, people } = &kept;
        network.tell(Event::Hold(Box::new(people.holds.clone()))).await.map_err(|_| io::Error::other(stopping))?;
        network.blobs().wishes().place(known.all().into_iter().chain(people.all()).collect());
    }
    Ok((kept, missing))
}

/// Sorts files so that of each who named some one comes after the other: what one names that nobody has takes time.
fn in_turn(missing: &mut Missing) {
    let mut count: HashMap<PublicKey, usize> = HashMap::new();
    let mut at = |file: &Placed| {
        let count = count.entry(file.author).or_default();
        *count += 1;
        *count
    };
    let mut turns: Vec<_> = missing.drain(..).map(|missing| (at(&missing.1), missing)).collect();
    turns.sort_by_key(|(turn, ..)| *turn);
    missing.extend(turns.into_iter().map(|(_, missing)| missing));
}

/// How many files and bytes are placed with each machine.
#[must_use]
pub fn loads(files: &[Placed]) -> BTreeMap<PublicKey, (usize, u64)> {
    let mut loads: BTreeMap<PublicKey, (usize, u64)> = BTreeMap::new();
    for (file, node) in files.iter().flat_map(|file| file.holders.iter().map(move |node| (file, node))) {
        let load = loads.entry(*node).or_default();
        *load = (load.0 + 1, load.1 + file.len);
    }
    loads
}

#[cfg(test)]
mod tests {
    use timebus_identity::hash;

    use super::super::Machine;
    use super::spaces::{Logs, PROOF_MS, TRIED_MS};
    use super::*;

    const SPACE: PublicKey = PublicKey::from_bytes([1; 32]);
    const HOUR_MS: u64 = 3_600_000;

    fn member(number: u8, stores: u64, seen_ms: u64) -> Member {
        let machines = vec![Machine {
            node: PublicKey::from_bytes([number; 32]),
            of: PublicKey::from_bytes([number; 32]),
            stores,
            seen_ms,
            keeps_back: BTreeSet::new(),
            unshown: BTreeSet::new(),
        }];
        let (place, name) = (Path::root(), String::new());
        Member { place, keys: Vec::new(), name, is_organizer: false, since_ms: 0, by: None, machines }
    }

    fn files(count: u32, len: u64) -> Vec<Placed> {
        let file = |number: u32| {
            let hash = BlobHash::from_bytes(hash("test file", &[&number.to_be_bytes()]));
            Placed { hash, len, path: Path::root(), author: SPACE, holders: Vec::new(), unshown: Vec::new() }
        };
        (0..count).map(file).collect()
    }

    #[test]
    fn who_is_away_too_long_is_replaced_and_gets_his_part_back() {
        let rules = Rules { away_h: 24, replicas: 2, ..Rules::new("choir") };
        let mut all: Vec<Member> = (1..=6).map(|number| member(number, 1 << 30, 100 * HOUR_MS)).collect();
        all[2].machines[0].seen_ms = 80 * HOUR_MS;
        let gone = all[2].machines[0].node;
        let at = |now_ms: u64| {
            let mut files = files(60, 100);
            place(&SPACE, &rules, (&offers(&rules, &all, &SPACE, now_ms), &Doubts::default()), &mut files, |key| *key);
            files
        };
        let (before, after) = (at(103 * HOUR_MS), at(105 * HOUR_MS));
        assert!(before.iter().any(|file| file.holders.contains(&gone)));
        for (before, after) in before.iter().zip(&after) {
            assert!(after.holders.len() == 2 && !after.holders.contains(&gone), "{after:?}");
            // Others go on; one steps in where he was.
            assert!(before.holders.iter().filter(|node| **node != gone).all(|node| after.holders.contains(node)));
            assert!(before.holders.contains(&gone) || before.holders == after.holders);
        }
        all[2].machines[0].seen_ms = 104 * HOUR_MS;
        let mut again = files(60, 100);
        place(&SPACE, &rules, (&offers(&rules, &all, &SPACE, 105 * HOUR_MS), &Doubts::default()), &mut again, |key| *key);
        assert_eq!(again, before);
    }

    #[test]
    fn nobody_gets_more_than_he_offered() {
        let rules = Rules { replicas: 3, ..Rules::new("choir") };
        let all = [member(1, 1000, 1), member(2, 1000, 1), member(3, 250, 1), member(4, 0, 1)];
        let mut files = files(10, 100);
        place(&SPACE, &rules, (&offers(&rules, &all, &SPACE, 2), &Doubts::default()), &mut files, |key| *key);
        let loads = loads(&files);
        assert_eq!(loads.values().map(|(count, _)| *count).collect::<Vec<_>>(), [10, 10, 2]);
        assert!(
            loads.iter().all(|(node, (_, bytes))| all.iter().any(|member| member.machines[0].node == *node && *bytes <= member.machines[0].stores))
        );
        assert_eq!(files.iter().filter(|file| file.holders.len() < 3).count(), 8, "and it shows that there is no room");
    }

    /// Eve names what nobody has, of lengths that fit and add up to more than all that is offered.
    #[test]
    fn nobody_takes_the_room_of_others() {
        let rules = Rules { replicas: 2, ..Rules::new("choir") };
        let all = [member(1, 10_000, 1), member(2, 10_000, 1)];
        let (eve, eves_other) = (PublicKey::from_bytes([66; 32]), PublicKey::from_bytes([67; 32]));
        let (mut files, count) = (files(20, 200), 20);
        for number in 0..100u8 {
            let (hash, len) = (BlobHash::from_bytes([number; 32]), 10_000 >> (number % 12));
            files.push(Placed {
                hash,
                len,
                path: Path::root(),
                author: if number % 2 == 0 { eve } else { eves_other },
                holders: Vec::new(),
                unshown: Vec::new(),
            });
        }
        let whose = |key: &PublicKey| if *key == eves_other { eve } else { *key };
        place(&SPACE, &rules, (&offers(&rules, &all, &SPACE, 2), &Doubts::default()), &mut files, whose);
        assert!(files.len() == 120 && files.iter().filter(|file| file.author == SPACE && file.holders.len() == 2).count() == count);
        let eves: u64 = files.iter().filter(|file| file.author != SPACE).map(|file| file.len * file.holders.len() as u64).sum();
        assert!(eves > 0 && eves <= 12_000, "{eves}");
    }

    /// Two members say of others, with reason or without, that they could show nothing.
    #[test]
    fn copies_for_those_who_are_doubted_take_the_place_of_no_other_file() {
        let rules = Rules { replicas: 2, ..Rules::new("choir") };
        let mut all: Vec<Member> = (1..=6).map(|number| member(number, 1000, 1)).collect();
        let nodes: Vec<PublicKey> = all.iter().map(|member| member.machines[0].node).collect();
        let at = |all: &[Member], count: u32| {
            let mut files = files(count, 100);
            place(&SPACE, &rules, (&offers(&rules, all, &SPACE, 2), &Doubts::of(&rules, all, &SPACE, 2)), &mut files, |key| *key);
            files
        };
        let before = at(&all, 30);
        let left = at(&all, 20);
        all[0].machines[0].unshown = [(nodes[1], None), (nodes[2], None)].into();
        all[1].machines[0].unshown = [(nodes[0], None), (nodes[3], None)].into();
        assert!(loads(&before).values().map(|(count, _)| count).sum::<usize>() > 57, "there is no room");
        let full = at(&all, 30);
        assert!(full.iter().zip(&before).all(|(now, before)| now.holders.starts_with(&before.holders)), "nobody's file loses a copy");
        assert!(full.iter().any(|file| file.counted().count() < 2), "and it shows");
        // What room there is goes to them, and nobody holds more than he offered, nor a file more than twice as often.
        let some = at(&all, 20);
        assert!(some.iter().zip(&left).all(|(now, before)| now.holders.starts_with(&before.holders) && now.holders.len() <= 4));
        assert!(some.iter().any(|file| file.holders.len() > 2) && loads(&some).values().all(|(_, bytes)| *bytes <= 1000));
        all.iter_mut().for_each(|member| member.machines[0].stores = 10_000);
        let roomy = at(&all, 30);
        assert!(roomy.iter().all(|file| file.counted().count() == 2 || file.holders.len() == 4), "{roomy:?}");
    }

    #[tokio::test]
    async fn what_is_placed_is_worked_out_anew_only_for_what_may_change_it() {
        use timebus_store::path::Segment;
        use timebus_store::store::{Config, lock_home};

        let home = tempfile::tempdir().expect("a folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let (store, own, node) = (peer.store(), peer.space(), SPACE);
        let again = |known: Known, spaces: &[PublicKey]| {
            let (upto, restated) = (*store.arrivals().borrow(), *store.restatements().borrow());
            let is_old = known.is_old(store, &store.snapshot(), spaces, restated).expect("reads");
            let offered: Vec<(PublicKey, u64)> = spaces.iter().map(|space| (*space, 1000)).collect();
            let (known, _) = look(store, node, &offered, known, false).expect("reads");
            assert!(known.spaces.values().all(|(at, _)| is_old == (*at == upto) || !is_old && *at <= upto));
            (is_old, known)
        };
        let (is_old, known) = again(Known::default(), &[own]);
        assert!(is_old, "nothing was looked at yet");
        let (is_old, known) = again(known, &[own]);
        assert!(!is_old, "nothing happened");
        let path = Path::root().join(Segment::name("x").expect("a name")).expect("a path");
        super::super::keeping::write(&peer, store.own(), path, timebus_store::writer::Action::Put, &1.into()).await.expect("writes");
        let (is_old, known) = again(known, &[own]);
        assert!(is_old, "something was written there");
        let (is_old, known) = again(known, &[own, SPACE]);
        assert!(is_old, "something is offered to another one");
        let (is_old, known) = again(known, &[own, SPACE]);
        assert!(!is_old);
        let (is_old, known) = again(known, &[SPACE]);
        assert!(is_old && known.spaces.len() == 1, "nothing is offered to the first one any more");
        let restated = known.restated + 1;
        assert!(known.is_old(store, &store.snapshot(), &[SPACE], restated).expect("reads"), "rights changed");
    }

    #[tokio::test]
    async fn a_file_is_looked_for_at_those_it_is_placed_with_and_at_who_named_it() {
        use timebus_store::grant::{Actions, Audience, Grant, Scope, ScopeSegment, Timelines};
        use timebus_store::op::Op;
        use timebus_store::store::{Config, lock_home};
        use timebus_store::writer::{Action, Statement};

        use super::super::{below, keeping, path};

        let home = tempfile::tempdir().expect("a folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let (store, own) = (peer.store(), peer.store().own());
        let rules = serde_json::to_value(Rules { away_h: 48, ..Rules::new("choir") }).expect("JSON");
        keeping::write(&peer, own, path(&["rules"]), Action::Put, &rules).await.expect("writes");
        // This device named the file, another member has room, and a third has neither.
        let key = |number: u8| timebus_identity::SecretKey::from_seed([number; 32]).public();
        let (of_author, of_holder, of_other) = (key(21), key(22), key(23));
        for (member, node, stores) in [(store.device(), of_author, 0), (key(2), of_holder, 1 << 30), (key(3), of_other, 0)] {
            let names = ["members".to_owned(), member.to_string()];
            let scope = Scope { segments: names.iter().map(|name| ScopeSegment::Name(name.as_str().into())).collect(), deep: true };
            let (bytes_max, change_bytes_max, not_after_ms, depth) = (0, 0, 0, 0);
            let actions = Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0);
            let (audience, timelines, label) = (Audience::Key(member), Timelines::Main, "member".into());
            let grant = Grant { audience, scope, timelines, actions, bytes_max, change_bytes_max, not_after_ms, depth, label };
            store.state(Statement::Ops(vec![Op::Grant(grant)]), 1).await.expect("stated");
            let place = path(&["members", &names[1]]);
            let machine = serde_json::json!({"stores": stores, "seen_ms": now_ms()});
            keeping::write(&peer, own, below(&place, &["nodes", &node.to_string()]), Action::Put, &machine).await.expect("writes");
        }
        let (hash, len, _lease) = crate::blobs::keep(&peer, bytes::Bytes::from_static(b"la la")).await.expect("kept");
        let mime = timebus_store::value::Mime::new("audio/ogg").expect("a media type");
        let value = timebus_store::value::Value::Blob { hash: *hash.as_bytes(), len, mime };
        keeping::write(&peer, own, path(&["board", "song"]), |_| Action::PutValue(value), &serde_json::Value::Null).await.expect("writes");
        let found = who_has(store, own, &hash, now_ms()).expect("reads");
        assert!(found.contains(&of_author) && found.contains(&of_holder) && !found.contains(&of_other), "{found:?}");
        let placed = placed(store, &store.snapshot(), own, &of_other, now_ms()).expect("reads");
        assert_eq!(placed.iter().map(|file| (file.hash, file.holders.clone())).collect::<Vec<_>>(), [(hash, vec![of_holder])]);
        // Another member says that this machine has no room. It counts for whom it signed, and for nobody if it did not.
        let named = |member: PublicKey, what: &str| path(&["members", &member.to_string(), "nodes", &of_holder.to_string(), what]);
        keeping::write(&peer, own, named(key(3), "stores"), Action::Put, &1.into()).await.expect("writes");
        let holders = || super::placed(store, &store.snapshot(), own, &of_other, now_ms()).expect("reads").remove(0).holders;
        assert!(holders().is_empty());
        let sign = |number: u8, member: PublicKey| {
            let signed =
                timebus_identity::SecretKey::from_seed([number; 32]).sign(&super::super::claim(&own.key, &path(&["members", &member.to_string()])));
            serde_json::Value::from(timebus_identity::z32::encode(signed.as_bytes()))
        };
        keeping::write(&peer, own, named(key(2), "proof"), Action::Put, &sign(22, key(2))).await.expect("writes");
        assert_eq!(holders(), [of_holder]);
        for proof in [sign(22, key(2)), sign(23, key(3)), "nonsense".into(), 1.into()] {
            keeping::write(&peer, own, named(key(3), "proof"), Action::Put, &proof).await.expect("writes");
            assert_eq!(holders(), [of_holder]);
        }
        let (known, missing) = look(store, of_holder, &[(own.key, 1 << 30)], Known::default(), true).expect("reads");
        assert!(known.all().contains(&hash) && missing.is_empty(), "it is here already");
        let offered = [(own.key, 1 << 30)];
        let (none, _) = look(store, of_other, &offered, Known::default(), true).expect("reads");
        assert!(none.spaces[&own.key].1.is_empty(), "nothing is placed there");
        assert!(none.all().contains(&hash), "but it was perhaps, and stays until others have it");
        // Who has let go of it takes no more of it.
        let (none, _) = look(store, of_other, &offered, Known { leaving: BTreeMap::new(), ..none }, true).expect("reads");
        assert!(none.all().is_empty());

        // Somebody names the file with a length of his own, where it is found first: that is another file, for which nobody has room.
        let invented = timebus_store::value::Value::Blob {
            hash: *hash.as_bytes(),
            len: 1 << 48,
            mime: timebus_store::value::Mime::new("audio/ogg").expect("a media type"),
        };
        keeping::write(&peer, own, path(&["board", "!"]), |_| Action::PutValue(invented), &serde_json::Value::Null).await.expect("writes");
        let placed = super::placed(store, &store.snapshot(), own, &of_other, now_ms()).expect("reads");
        let seen: Vec<_> = placed.iter().map(|file| (file.len, file.holders.clone())).collect();
        assert_eq!(seen, [(len, vec![of_holder]), (1 << 48, vec![])]);
        let (known_now, missing) = look(store, of_holder, &[(own.key, 1 << 50)], Known::default(), true).expect("reads");
        assert!(known_now.all().contains(&hash) && missing.is_empty());
        // A machine that would have room for what is invented sees that it has the file whole, and that it is not so long.
        let names = ["members", &key(2).to_string(), "nodes", &of_holder.to_string(), "stores"].map(str::to_owned);
        let stores = path(&names.iter().map(String::as_str).collect::<Vec<_>>());
        keeping::write(&peer, own, stores.clone(), Action::Put, &(1u64 << 50).into()).await.expect("writes");
        let (known_now, missing) = look(store, of_holder, &[(own.key, 1 << 50)], Known::default(), true).expect("reads");
        assert_eq!((known_now.spaces[&own.key].1.as_slice(), missing.len()), (&[(hash, len)][..], 0));
        keeping::write(&peer, own, stores, Action::Put, &(1u64 << 30).into()).await.expect("writes");

        // Of the space of a member those files are held that anybody may read.
        let public = || spaces::public_files(store, &store.snapshot(), &own.key, now_ms()).expect("reads").len();
        assert_eq!(public(), 0, "members alone may read it");
        let scope = Scope { segments: vec![ScopeSegment::Name("board".into())], deep: true };
        let (audience, timelines, label) = (Audience::Anyone, Timelines::Main, "public".into());
        let (bytes_max, change_bytes_max, not_after_ms, depth, actions) = (0, 0, 0, 0, Actions::READ);
        let grant = Grant { audience, scope, timelines, actions, bytes_max, change_bytes_max, not_after_ms, depth, label };
        store.state(Statement::Ops(vec![Op::Grant(grant)]), 2).await.expect("stated");
        assert_eq!(public(), 1);

        // What came since is added to what was counted.
        let mut logs = Logs::default();
        let before = logs.bytes(store, &store.snapshot(), &own.key).expect("reads");
        for number in 0..3 {
            keeping::write(&peer, own, path(&["board", "count"]), Action::Put, &number.into()).await.expect("writes");
        }
        let after = logs.bytes(store, &store.snapshot(), &own.key).expect("reads");
        assert!(after > before + 3);
        assert_eq!(Logs::default().bytes(store, &store.snapshot(), &own.key).expect("reads"), after);

        // The space of a member lies with others by what records say, as long as the space itself does not say otherwise.
        let now = now_ms();
        let at = |tried: BTreeMap<PublicKey, Tried>, room: u64, claimed: &[(PublicKey, PublicKey)], now: u64| {
            let records = claimed.iter().copied().collect();
            look_at_people(store, of_holder, &[(own.key, room)], &known, People::default(), (records, tried), now).expect("reads").0
        };
        let spaces = |people: &People| people.holds.spaces.iter().copied().collect::<Vec<_>>();
        let at_holder = |node: PublicKey, space: PublicKey| spaces(&at(BTreeMap::new(), 1 << 30, &[(node, space)], now));
        assert_eq!(at_holder(of_other, key(30)), [key(30)]);
        assert!(at_holder(of_holder, key(30)).is_empty(), "his own he has anyway");
        assert!(at_holder(key(24), key(30)).is_empty(), "a machine of no member");
        let root = timebus_identity::SecretKey::from_seed([31; 32]);
        let foreign = root.public();
        let tried = at(BTreeMap::new(), 1 << 30, &[(of_other, foreign)], now);
        let founding = timebus_store::founding::founding(&root, &key(9), now);
        assert!(store.offer(vec![founding]).await.expect("is admitted").refused.is_empty());
        let people = at(BTreeMap::new(), 1 << 30, &[(of_other, foreign)], now);
        assert!(spaces(&people).is_empty(), "the space of somebody who is no member");
        assert_eq!(people.holds.untrue, BTreeSet::from([(of_other, foreign)]));

        // What came on his word alone and is not his stays open as long as more of it may come, and he has no other one opened.
        assert_eq!(spaces(&tried), [foreign]);
        let claims = [(of_other, foreign)];
        let tried = at(tried.holds.tried, 1 << 30, &claims, now + PROOF_MS / 2);
        assert_eq!(spaces(&tried), [foreign]);
        let tried = at(tried.holds.tried, 1 << 30, &claims, now + PROOF_MS);
        assert!(spaces(&tried).is_empty());
        let claims = [(of_other, key(32))];
        let tried = at(tried.holds.tried, 1 << 30, &claims, now + 2 * PROOF_MS);
        assert!(spaces(&tried).is_empty());
        let mut logs = Logs::default();
        let log = logs.bytes(store, &store.snapshot(), &foreign).expect("reads");
        assert!(log > 0);
        let tried = at(tried.holds.tried, 1 << 30, &claims, now + TRIED_MS);
        assert_eq!(spaces(&tried), [key(32)], "a day later");

        // A space is held as long as its log has room beside the files of the community.
        let claims = [(of_other, foreign)];
        let tried = || BTreeMap::from([(key(3), Tried { space: foreign, at_ms: now })]);
        assert_eq!(spaces(&at(tried(), len + log + 1, &claims, now)), [foreign]);
        let full = at(tried(), len + log, &claims, now);
        assert!(spaces(&full).is_empty() && full.holds.shut.contains(&foreign), "there is no room for more");
        let over = at(tried(), log - 1, &claims, now);
        assert!(spaces(&over).is_empty() && over.holds.shut.contains(&foreign), "it takes more than all there is");
        // What has no room in one community may have it in another one.
        let offered = [(own.key, log - 1), (own.key, 1 << 30)];
        let (people, _) = look_at_people(store, of_holder, &offered, &known, People::default(), (claims.into(), tried()), now).expect("reads");
        assert!(spaces(&people) == [foreign] && people.holds.shut.is_empty());

        // What is held for all is what the main timeline names now, and what came from those who have it: a name alone brings
        // out nothing that is here for other reasons.
        let main = store.timeline(own.unmounted());
        let place = store.places_of(&store.snapshot(), &hash).expect("reads").remove(0);
        let is_held = |place: &BlobPlace| is_held_for_all(store, &hash, place, &own.key, &main);
        assert!(is_held(&place) && held_of(store, &own.key, vec![hash]).expect("reads") == [hash]);
        // What is kept back is no copy for anybody, and no room for more.
        let wishes = Wishes::open(home.path());
        let given = || (given_of(store, &wishes, &own.key, vec![hash]).expect("reads"), wishes.offers(&own.key, 7));
        assert_eq!(given(), (vec![hash], 7));
        wishes.hand_on(&own.key, false).expect("writes");
        assert_eq!(given(), (vec![], 0));
        wishes.hand_on(&own.key, true).expect("writes");
        assert_eq!(given(), (vec![hash], 7));
        assert!(!is_held(&BlobPlace { is_visible: false, ..place.clone() }), "an older version named it");
        assert!(!is_held(&BlobPlace { timeline: TimelineId([9; 32]), ..place.clone() }), "a timeline for some names it");
        let foreign = BlobPlace { author: key(9), ..place.clone() };
        assert!(!is_held(&foreign), "somebody names what he may never have had");
        let (other_hash, other_len) = (BlobHash::from_bytes([9; 32]), 13);
        let blobs = store.blobs().expect("a store on disk");
        drop(blobs.fetch(other_hash, other_len, &main).expect("begins"));
        assert!(is_held_for_all(store, &other_hash, &foreign, &own.key, &main), "it comes from those who have the timeline");
    }
}
