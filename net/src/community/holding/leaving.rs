//! What was placed here and is placed with others now: it stays until as many of these as there are to be copies have said that
//! they have it, or until whoever is away so long does not count any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use tokio::time::Instant;

use super::asking::{Said, ask};
use super::{Known, Placed};
use crate::community::Rules;
use crate::network::{Network, Stopped};

/// A file that stays for now.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    file: Placed,
    since: Instant,
    /// How many are to have said that they have it.
    enough: usize,
}

/// By community.
pub(super) type All = BTreeMap<PublicKey, BTreeMap<BlobHash, Leaving>>;

/// Which files of a community that are here and placed with others stay for now, within the room that is left of what is
/// offered there. When a community is looked at for the first time, nobody knows what was placed here; so it may be all.
pub(super) fn stay(
    before: &Known,
    space: &PublicKey,
    rules: &Rules,
    elsewhere: Vec<Placed>,
    mut room: u64,
    now: Instant,
) -> BTreeMap<BlobHash, Leaving> {
    let away = Duration::from_secs(u64::from(rules.away_h) * 3600);
    let (leaving, held) = (before.leaving.get(space), before.spaces.get(space));
    let was_held: Option<BTreeSet<BlobHash>> = held.map(|(_, files)| files.iter().map(|(hash, _)| *hash).collect());
    let mut stay = BTreeMap::new();
    for file in elsewhere {
        let since = match leaving.and_then(|leaving| leaving.get(&file.hash)) {
            Some(leaving) => leaving.since,
            None if was_held.as_ref().is_none_or(|held| held.contains(&file.hash)) => now,
            None => continue,
        };
        if now.duration_since(since) < away && file.len <= room {
            room -= file.len;
            stay.insert(file.hash, Leaving { file, since, enough: usize::from(rules.replicas) });
        }
    }
    stay
}

/// Asks those with whom such files are placed now, and lets go of what enough of them have.
pub(super) async fn hand_over(network: &Network, leaving: &mut All) -> Result<(), Stopped> {
    for (space, files) in leaving.iter_mut().filter(|(_, files)| !files.is_empty()) {
        let placed: Vec<&Placed> = files.values().map(|leaving| &leaving.file).collect();
        let holders: BTreeSet<PublicKey> = placed.iter().flat_map(|file| &file.holders).copied().collect();
        let connected = network.ask(move |node| holders.into_iter().filter(|id| node.is_connected(id)).collect()).await?;
        let said = ask(network, *space, &placed, &connected).await?;
        files.retain(|_, leaving| !leaving.is_handed_over(&said));
    }
    Ok(())
}

impl Leaving {
    fn is_handed_over(&self, said: &Said) -> bool {
        let has = |node: &&PublicKey| said.get(node).is_some_and(|files| files.contains(&self.file.hash));
        self.file.holders.iter().filter(has).count() >= self.enough
    }
}

#[cfg(test)]
mod tests {
    use timebus_store::path::Path;

    use super::*;

    const SPACE: PublicKey = PublicKey::from_bytes([1; 32]);

    fn file(number: u8) -> Placed {
        let holders = (10..13).map(|node| PublicKey::from_bytes([node; 32])).collect();
        Placed { hash: BlobHash::from_bytes([number; 32]), len: 100, path: Path::root(), author: SPACE, holders }
    }

    fn names(stay: &BTreeMap<BlobHash, Leaving>) -> Vec<u8> {
        stay.keys().map(|hash| hash.as_bytes()[0]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_placed_here_stays_for_as_long_as_somebody_may_be_away() {
        let (rules, began) = (Rules { away_h: 2, ..Rules::new("choir") }, Instant::now());
        let hours = |hours: u64| began + Duration::from_secs(hours * 3600);
        let look = |before: &Known, files: &[u8], now: Instant| stay(before, &SPACE, &rules, files.iter().map(|one| file(*one)).collect(), 250, now);
        // At the first look nobody knows any more what was placed here.
        let mut known = Known::default();
        let first = look(&known, &[1, 2], began);
        assert_eq!(names(&first), [1, 2]);
        known.spaces.insert(SPACE, (0, vec![(file(3).hash, 100)]));
        known.leaving.insert(SPACE, first);
        // Another one moves, one was only read here, and for all of them there is no room beside what is placed here.
        let second = look(&known, &[1, 4, 3], hours(1));
        assert_eq!(names(&second), [1, 3]);
        assert_eq!(names(&look(&known, &[1, 2, 3], hours(1))), [1, 2], "within what is offered");
        known.leaving.insert(SPACE, second);
        assert_eq!(names(&look(&known, &[1, 3], hours(2))), [3], "whoever is away for two hours does not count");
    }

    #[test]
    fn it_goes_when_enough_of_those_with_whom_it_is_placed_said_that_they_have_it() {
        let leaving = Leaving { file: file(1), since: Instant::now(), enough: 2 };
        let said = |nodes: &[u8]| -> Said { nodes.iter().map(|node| (PublicKey::from_bytes([*node; 32]), BTreeSet::from([file(1).hash]))).collect() };
        assert!(!leaving.is_handed_over(&said(&[])) && !leaving.is_handed_over(&said(&[10])));
        assert!(!leaving.is_handed_over(&said(&[10, 20, 21])), "with others it is not placed");
        assert!(leaving.is_handed_over(&said(&[10, 12])));
        let mut other = said(&[10, 12]);
        other.insert(PublicKey::from_bytes([12; 32]), BTreeSet::from([file(2).hash]));
        assert!(!leaving.is_handed_over(&other), "one of them lacks it");
    }
}
