//! What was placed here and is placed with others now: it stays until as many of these as there are to be copies have said that
//! they have it, or until whoever is away so long does not count any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use tokio::time::Instant;

use super::Placed;
use super::asking::{Said, ask, page};
use crate::community::{HandOver, Rules};
use crate::network::{Network, Stopped};

/// A file that stays for now.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    file: Placed,
    since: Instant,
    /// How many are to have said that they have it.
    enough: usize,
}

/// By community, and by the space that names them: the community itself, or the one of a member.
pub(super) type All = BTreeMap<(PublicKey, PublicKey), BTreeMap<BlobHash, Leaving>>;

/// What was known of the files of a space when it was looked at last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before<'a> {
    /// Those that stayed.
    pub(super) leaving: Option<&'a BTreeMap<BlobHash, Leaving>>,
    /// Those that were placed here; `None` if that is not known, so that it may have been all.
    pub(super) held: Option<&'a BTreeSet<BlobHash>>,
}

/// Which files of a space that are here and placed with others stay for now, within the room that is left of what is offered to
/// the community.
pub(super) fn stay(before: Before<'_>, rules: &Rules, elsewhere: Vec<Placed>, mut room: u64, now: Instant) -> BTreeMap<BlobHash, Leaving> {
    let away = Duration::from_secs(u64::from(rules.away_h) * 3600);
    let mut stay = BTreeMap::new();
    for file in elsewhere {
        let since = match before.leaving.and_then(|leaving| leaving.get(&file.hash)) {
            Some(leaving) => leaving.since,
            None if before.held.is_none_or(|held| held.contains(&file.hash)) => now,
            None => continue,
        };
        if now.duration_since(since) < away && file.len <= room {
            room -= file.len;
            stay.insert(file.hash, Leaving { file, since, enough: usize::from(rules.replicas) });
        }
    }
    stay
}

/// Of files of which this peer holds none any more it is enough if all have them with whom they are placed: there may be fewer than
/// there are to be copies.
pub(super) fn to_all_there_are(files: &mut BTreeMap<BlobHash, Leaving>) {
    for leaving in files.values_mut() {
        leaving.enough = leaving.enough.min(leaving.file.counted().count()).max(1);
    }
}

/// What others are still to get of what stays here for a community.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Files, and their bytes.
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    /// Files for which nobody has room.
    pub(crate) nowhere: usize,
    /// Once the owner has left, whether somebody heard of it.
    pub(crate) told: Option<bool>,
}

impl Left {
    /// Of a community.
    pub(super) fn of(all: [&All; 2], community: &PublicKey) -> Self {
        let mut left = Self::default();
        let of = |all: &'_ All| all.iter().filter(|((of, _), _)| of == community).flat_map(|(_, files)| files.values().cloned()).collect::<Vec<_>>();
        for Leaving { file, .. } in all.into_iter().flat_map(of) {
            if file.holders.is_empty() {
                left.nowhere += 1;
            } else {
                (left.files, left.bytes) = (left.files + 1, left.bytes.saturating_add(file.len));
            }
        }
        left
    }

    /// Whether nothing more is to be waited for.
    pub(super) fn is_over(&self, handing: &HandOver, now_ms: u64) -> bool {
        now_ms >= handing.until_ms || self.files == 0 && (handing.leaves || self.nowhere == 0)
    }
}

/// Bytes of such files.
pub(super) fn bytes(files: &BTreeMap<BlobHash, Leaving>) -> u64 {
    files.values().map(|leaving| leaving.file.len).sum()
}

/// A file that stays: the community and the space that it stays for, and which it is.
pub(super) type Which = (PublicKey, PublicKey, BlobHash);

/// Asks those with whom such files are placed now, and lets go of what enough of them have. Of more than can be asked for at once
/// the next ones come the next time: `last` says how far it was.
pub(super) async fn hand_over(network: &Network, all: [&mut All; 2], last: &mut Option<Which>) -> Result<(), Stopped> {
    let files: Vec<(Which, &Leaving)> = in_turn(all.iter().flat_map(|all| all.iter()), *last);
    let holders: BTreeSet<PublicKey> = files.iter().flat_map(|(_, leaving)| &leaving.file.holders).copied().collect();
    let connected = network.ask(move |node| holders.into_iter().filter(|id| node.is_connected(id)).collect()).await?;
    let placed: Vec<(PublicKey, &Placed)> = files.iter().map(|((_, space, _), leaving)| (*space, &leaving.file)).collect();
    let count = page(&placed, &connected);
    let said = ask(network, &placed[..count], &connected).await?;
    let is_done = |((_, space, _), leaving): &&(Which, &Leaving)| leaving.is_handed_over(space, &said);
    let done: Vec<Which> = files[..count].iter().filter(is_done).map(|(which, _)| *which).collect();
    if let Some((which, _)) = files[..count].last() {
        *last = Some(*which);
    }
    for all in all {
        for (community, space, hash) in &done {
            if let Some(files) = all.get_mut(&(*community, *space)) {
                files.remove(hash);
            }
        }
    }
    Ok(())
}

/// All of them, from the one behind the last one that was asked for on.
fn in_turn<'a>(
    all: impl Iterator<Item = (&'a (PublicKey, PublicKey), &'a BTreeMap<BlobHash, Leaving>)>,
    last: Option<Which>,
) -> Vec<(Which, &'a Leaving)> {
    let files = all.flat_map(|((community, space), files)| files.iter().map(move |(hash, leaving)| ((*community, *space, *hash), leaving)));
    let mut files: Vec<(Which, &Leaving)> = files.collect();
    files.sort_unstable_by_key(|(which, _)| *which);
    let first = files.partition_point(|(which, _)| Some(*which) <= last);
    files.rotate_left(first);
    files
}

impl Leaving {
    fn is_handed_over(&self, space: &PublicKey, said: &Said) -> bool {
        let has = |node: &&PublicKey| said.get(&(**node, *space)).is_some_and(|files| files.contains(&self.file.hash));
        self.file.counted().filter(has).count() >= self.enough
    }
}

#[cfg(test)]
mod tests {
    use timebus_store::path::Path;

    use super::*;

    const SPACE: PublicKey = PublicKey::from_bytes([1; 32]);

    fn file(number: u8) -> Placed {
        let holders = (10..13).map(|node| PublicKey::from_bytes([node; 32])).collect();
        Placed { hash: BlobHash::from_bytes([number; 32]), len: 100, path: Path::root(), author: SPACE, holders, unshown: vec![] }
    }

    fn names(stay: &BTreeMap<BlobHash, Leaving>) -> Vec<u8> {
        stay.keys().map(|hash| hash.as_bytes()[0]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_placed_here_stays_for_as_long_as_somebody_may_be_away() {
        let (rules, began) = (Rules { away_h: 2, ..Rules::new("choir") }, Instant::now());
        let hours = |hours: u64| began + Duration::from_secs(hours * 3600);
        let look = |before: Before<'_>, files: &[u8], now: Instant| stay(before, &rules, files.iter().map(|one| file(*one)).collect(), 250, now);
        // At the first look nobody knows any more what was placed here.
        let first = look(Before { leaving: None, held: None }, &[1, 2], began);
        assert_eq!((names(&first), bytes(&first)), (vec![1, 2], 200));
        let held = BTreeSet::from([file(3).hash]);
        let before = Before { leaving: Some(&first), held: Some(&held) };
        // Another one moves, one was only read here, and for all of them there is no room beside what is placed here.
        let second = look(before, &[1, 4, 3], hours(1));
        assert_eq!(names(&second), [1, 3]);
        assert_eq!(names(&look(before, &[1, 2, 3], hours(1))), [1, 2], "within what is offered");
        let before = Before { leaving: Some(&second), ..before };
        assert_eq!(names(&look(before, &[1, 3], hours(2))), [3], "whoever is away for two hours does not count");
    }

    #[test]
    fn it_goes_when_enough_of_those_with_whom_it_is_placed_said_that_they_have_it() {
        let leaving = Leaving { file: file(1), since: Instant::now(), enough: 2 };
        let node = |number: u8| PublicKey::from_bytes([number; 32]);
        let said = |nodes: &[u8]| -> Said { nodes.iter().map(|number| ((node(*number), SPACE), BTreeSet::from([file(1).hash]))).collect() };
        let is_handed_over = |said: Said| leaving.is_handed_over(&SPACE, &said);
        assert!(!is_handed_over(said(&[])) && !is_handed_over(said(&[10])));
        assert!(!is_handed_over(said(&[10, 20, 21])), "with others it is not placed");
        assert!(is_handed_over(said(&[10, 12])));
        let mut doubted = leaving.clone();
        doubted.file.unshown.push(node(12));
        assert!(!doubted.is_handed_over(&SPACE, &said(&[10, 12])), "who could not show it is believed by nobody");
        assert!(doubted.is_handed_over(&SPACE, &said(&[10, 11, 12])));
        let mut other = said(&[10, 12]);
        other.insert((node(12), SPACE), BTreeSet::from([file(2).hash]));
        assert!(!is_handed_over(other), "one of them lacks it");
        let mut other = said(&[10]);
        other.insert((node(12), node(2)), BTreeSet::from([file(1).hash]));
        assert!(!is_handed_over(other), "one of them has it for another space");
    }

    #[test]
    fn who_holds_nothing_any_more_waits_for_all_there_are_and_not_for_those_who_have_no_room() {
        let few = |number: u8, holders: usize| {
            let mut file = file(number);
            file.holders.truncate(holders);
            (file.hash, Leaving { file, since: Instant::now(), enough: 3 })
        };
        let mut files: BTreeMap<BlobHash, Leaving> = [few(1, 3), few(2, 1), few(3, 0)].into();
        let said: Said = [((PublicKey::from_bytes([10; 32]), SPACE), [1, 2, 3].map(|number| file(number).hash).into())].into();
        let over = |files: &BTreeMap<BlobHash, Leaving>| {
            files.values().filter(|leaving| leaving.is_handed_over(&SPACE, &said)).map(|leaving| leaving.file.hash.as_bytes()[0]).collect::<Vec<_>>()
        };
        assert!(over(&files).is_empty());
        to_all_there_are(&mut files);
        assert_eq!(over(&files), [2]);
        let other = PublicKey::from_bytes([2; 32]);
        let all = |files: &BTreeMap<BlobHash, Leaving>| All::from([((SPACE, SPACE), files.clone()), ((other, SPACE), files.clone())]);
        let left = Left::of([&all(&files), &All::new()], &SPACE);
        assert_eq!(left, Left { files: 2, bytes: 200, nowhere: 1, told: None });
        let handing = |leaves: bool| HandOver { bytes: 1, until_ms: 100, leaves };
        assert!(!left.is_over(&handing(true), 99) && left.is_over(&handing(true), 100));
        files.retain(|_, leaving| leaving.file.holders.is_empty());
        let left = Left::of([&all(&files), &All::new()], &SPACE);
        assert!(left.is_over(&handing(true), 0), "it would never end");
        assert!(!left.is_over(&handing(false), 0), "who stays keeps what nobody else has, as long as who is away counts");
    }

    #[test]
    fn of_many_those_come_next_that_were_not_asked_for() {
        let leaving = |number: u8| (file(number).hash, Leaving { file: file(number), since: Instant::now(), enough: 2 });
        let other = PublicKey::from_bytes([2; 32]);
        let own = All::from([((SPACE, SPACE), [1, 2].map(leaving).into())]);
        let theirs = All::from([((SPACE, other), [1, 3].map(leaving).into())]);
        let asked = |last: Option<Which>| {
            let files = in_turn(own.iter().chain(&theirs), last);
            files.iter().map(|((_, space, hash), _)| (space.as_bytes()[0], hash.as_bytes()[0])).collect::<Vec<_>>()
        };
        assert_eq!(asked(None), [(1, 1), (1, 2), (2, 1), (2, 3)]);
        assert_eq!(asked(Some((SPACE, SPACE, file(2).hash))), [(2, 1), (2, 3), (1, 1), (1, 2)]);
        assert_eq!(asked(Some((SPACE, other, file(2).hash))), [(2, 3), (1, 1), (1, 2), (2, 1)], "also when that one is gone");
        assert_eq!(asked(Some((SPACE, other, file(3).hash))), asked(None));
    }
}
