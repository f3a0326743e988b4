//! Holds what is placed with this peer in the communities that it offered storage to.
//!
//! What is placed where every member works out alike ([`placement`]), from the files that the community names, and from
//! what members offer and when they were there last. So whoever is away too long, leaves or is removed is replaced by
//! the next ones without a word. The log of a community is with every member anyway.
//!
//! [`placement`]: super::placement

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::blobs::partial::pieces_of;
use timebus_store::keyspace::Committed;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};

use super::placement::{Offer, ranking};
use super::{Member, Rules, members};
use crate::blobs::named::belongs;
use crate::network::Network;
use crate::peer::Peer;
use crate::who::now_ms;

/// How often it is looked whether somebody is there by now who has what is missing, and whether somebody is away too long.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long what is new waits, so that what comes with it is looked at together.
const GATHER: Duration = Duration::from_millis(500);
/// How long nothing may come of a file until the next one is tried.
const STALL_MAX: Duration = Duration::from_secs(10);

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
}

/// The machines of members that things are placed with now: who offers something, and was there lately.
#[must_use]
pub fn offers(rules: &Rules, members: &[Member], now_ms: u64) -> Vec<Offer> {
    let away_ms = u64::from(rules.away_h) * 3_600_000;
    let machines = members.iter().flat_map(|member| &member.machines);
    let is_there = machines.filter(|machine| machine.stores > 0 && machine.seen_ms.saturating_add(away_ms) > now_ms);
    is_there.map(|machine| Offer { node: machine.node, bytes: machine.stores }).collect()
}

/// Places files, given in any order, within what is offered: who is full is passed over. Every member comes to the same.
pub fn place(space: &PublicKey, rules: &Rules, offers: &[Offer], files: &mut [Placed]) {
    files.sort_unstable_by_key(|file| file.hash);
    let mut room: HashMap<PublicKey, u64> = offers.iter().map(|offer| (offer.node, offer.bytes)).collect();
    for file in files {
        let fits = |node: &PublicKey| match room.get_mut(node) {
            Some(room) if *room >= file.len => {
                *room -= file.len;
                true
            }
            _ => false,
        };
        file.holders = ranking(space, file.hash.as_bytes(), offers).into_iter().filter(fits).take(usize::from(rules.replicas)).collect();
    }
}

/// The files that a community names for all members, each once, and where they are placed.
///
/// # Errors
///
/// [`StorageError`].
pub fn placed(store: &Store, rows: &Committed, space: Space, now_ms: u64) -> Result<Vec<Placed>, StorageError> {
    let space = space.unmounted();
    let Some(rules) = Rules::of(store, rows, space)? else { return Ok(Vec::new()) };
    let main = store.timeline(space);
    let mut files = Vec::new();
    for hash in store.named_blobs(rows, &space.key)? {
        let places = store.places_of(rows, &hash)?;
        let is_it = |place: &&timebus_store::store::BlobPlace| place.is_visible && place.space.key == space.key && place.timeline == main;
        if let Some(found) = places.iter().filter(is_it).min_by_key(|place| place.path.key()) {
            files.push(Placed { hash, len: found.len, path: found.path.clone(), author: found.author, holders: Vec::new() });
        }
    }
    place(&space.key, &rules, &offers(&rules, &members(store, rows, space)?, now_ms), &mut files);
    Ok(files)
}

/// Which of these files are here whole, of those that a space names for all who may read it.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn held_of(store: &Store, space: &PublicKey, files: Vec<BlobHash>) -> Result<Vec<BlobHash>, StorageError> {
    let (Some(blobs), Some(held)) = (store.blobs(), store.held(space)) else { return Ok(Vec::new()) };
    let (rows, main) = (store.snapshot(), store.timeline(held.unmounted()));
    let mut here = Vec::new();
    for hash in files {
        let is_named = |place: &timebus_store::store::BlobPlace| {
            place.is_visible && place.space.key == *space && place.timeline == main && belongs(store, &hash, space, &main, &place.author)
        };
        if blobs.len_of(&hash).is_some() && store.places_of(&rows, &hash)?.iter().any(is_named) {
            here.push(hash);
        }
    }
    Ok(here)
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
    // Who was full was passed over, so one or two behind them may have it.
    let ranked = ranking(&space.key, hash.as_bytes(), &offers(&rules, &members, now_ms)).into_iter();
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
    let mut arrivals = peer.store.arrivals();
    loop {
        arrivals.borrow_and_update();
        let Ok(memberships) = network.ask(|node| node.book().communities.clone()).await else { return };
        let offered = memberships.into_iter().filter(|(_, membership)| membership.stores > 0).map(|(space, _)| space).collect();
        if let Err(error) = hold(peer, &network, offered).await {
            tracing::warn!(%error, "what this peer is to hold for others was not fetched");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            ended = arrivals.changed() => if ended.is_err() { return },
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Fetches what is missing of what is placed here, one file after the other.
async fn hold(peer: &Peer, network: &Network, spaces: Vec<PublicKey>) -> io::Result<()> {
    let (store, node) = (peer.store.clone(), network.endpoint().node());
    let looked = crate::blobs::beside(move || -> Result<_, StorageError> {
        let rows = store.snapshot();
        let (mut all, mut missing) = (HashSet::new(), Vec::new());
        for space in spaces.into_iter().filter_map(|space| store.held(&space)) {
            for file in placed(&store, &rows, space, now_ms())?.into_iter().filter(|file| file.holders.contains(&node)) {
                all.insert(file.hash);
                if held_of(&store, &space.key, vec![file.hash])?.is_empty() {
                    missing.push((space, file));
                }
            }
        }
        Ok((all, missing))
    });
    let (all, missing) = looked.await.map_err(|_| io::Error::other("the peer is stopping"))?.map_err(io::Error::other)?;
    let fetcher = network.blobs();
    fetcher.wishes().place(all);
    for (space, file) in missing {
        let fetching = fetcher.fetch(&peer.store, peer.store.at(space, &file.path), file.hash, file.len).await.map_err(io::Error::other)?;
        let Some(mut fetch) = fetching else { return Ok(()) };
        for piece in 0..u32::try_from(pieces_of(file.len)).unwrap_or(u32::MAX) {
            if !fetch.piece(piece, STALL_MAX).await {
                break;
            }
        }
    }
    Ok(())
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
    use super::*;

    const SPACE: PublicKey = PublicKey::from_bytes([1; 32]);
    const HOUR_MS: u64 = 3_600_000;

    fn member(number: u8, stores: u64, seen_ms: u64) -> Member {
        let machines = vec![Machine { node: PublicKey::from_bytes([number; 32]), stores, seen_ms }];
        let (place, name) = (Path::root(), String::new());
        Member { place, keys: Vec::new(), name, is_organizer: false, since_ms: 0, by: None, machines }
    }

    fn files(count: u32, len: u64) -> Vec<Placed> {
        let file = |number: u32| {
            let hash = BlobHash::from_bytes(hash("test file", &[&number.to_be_bytes()]));
            Placed { hash, len, path: Path::root(), author: SPACE, holders: Vec::new() }
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
            place(&SPACE, &rules, &offers(&rules, &all, now_ms), &mut files);
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
        place(&SPACE, &rules, &offers(&rules, &all, 105 * HOUR_MS), &mut again);
        assert_eq!(again, before);
    }

    #[test]
    fn nobody_gets_more_than_he_offered() {
        let rules = Rules { replicas: 3, ..Rules::new("choir") };
        let all = [member(1, 1000, 1), member(2, 1000, 1), member(3, 250, 1), member(4, 0, 1)];
        let mut files = files(10, 100);
        place(&SPACE, &rules, &offers(&rules, &all, 2), &mut files);
        let loads = loads(&files);
        assert_eq!(loads.values().map(|(count, _)| *count).collect::<Vec<_>>(), [10, 10, 2]);
        assert!(
            loads.iter().all(|(node, (_, bytes))| all.iter().any(|member| member.machines[0].node == *node && *bytes <= member.machines[0].stores))
        );
        assert_eq!(files.iter().filter(|file| file.holders.len() < 3).count(), 8, "and it shows that there is no room");
    }
}
