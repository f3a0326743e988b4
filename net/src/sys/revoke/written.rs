//! What was written over HTTP for somebody whose rights are taken back. It was signed by others, mostly by the owner's own devices,
//! so it stays whatever becomes of his rights.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::StorageError;
use timebus_store::summary::Summary;

use crate::peer::Peer;
use crate::people::People;
use crate::words::{counted, join};

/// Changes that are listed, those that came last; more are counted, and of one key so many in one timeline.
const LISTED_MAX: usize = 1000;
const LOOKED_AT_MAX: usize = 20_000;
/// Paths of one change that are listed, and of all that words name.
const PATHS_MAX: usize = 20;
const NAMED_MAX: usize = 5;

/// What that is.
#[derive(Default)]
pub(super) struct Written {
    /// Whether it is in the own space, where what the owner's devices signed is looked at alone, also that of former ones.
    is_in_own: bool,
    /// How many changes it is, and whether there may be older ones.
    pub(super) total: usize,
    is_cut: bool,
    /// The last of them, with where they wrote.
    listed: Vec<(Summary, Vec<Path>)>,
    /// How many each device says that it signed.
    by: BTreeMap<PublicKey, usize>,
}

impl Written {
    /// What was written for some keys at and below a path.
    pub(super) fn of(peer: &Peer, space: Space, keys: &BTreeSet<PublicKey>, path: &Path) -> Result<Self, StorageError> {
        let (store, rows) = (peer.store(), peer.store().snapshot());
        let mut found = Self { is_in_own: space.is_own(), ..Self::default() };
        let mut listed: BTreeMap<u64, (Summary, Vec<Path>)> = BTreeMap::new();
        for (t, _) in store.values(space) {
            for key in keys {
                // Anybody may say it of what he signs himself, as often as he likes.
                let is_meant = |signer: &PublicKey| !space.is_own() || store.is_by_owner(signer, || true);
                for (number, change) in (1..).zip(store.made_for(&rows, t, key, is_meant)) {
                    if number > LOOKED_AT_MAX {
                        found.is_cut = true;
                        break;
                    }
                    let (a, change, mut paths) = change?;
                    paths.retain(|at| path.contains(at));
                    if paths.is_empty() {
                        continue;
                    }
                    found.total += 1;
                    *found.by.entry(change.author).or_default() += 1;
                    listed.insert(a, (change, paths));
                    if listed.len() > LISTED_MAX {
                        listed.pop_first();
                    }
                }
            }
        }
        found.listed = listed.into_values().rev().collect();
        Ok(found)
    }

    /// How much it is, by whose word, and what can be done about it.
    pub(super) fn says(&self, people: &People, name: &str) -> Vec<String> {
        let mut says = Vec::new();
        for (signer, count) in self.by_person(people) {
            let paths: BTreeSet<&Path> =
                self.listed.iter().filter(|(change, _)| self.signer(people, &change.author) == signer).flat_map(|(_, paths)| paths).collect();
            let named: Vec<String> = paths.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            let more = paths.len().saturating_sub(NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let at = if named.is_empty() { String::new() } else { format!(", at {}{more}", join(&named)) };
            let least = if self.is_cut { "at least " } else { "" };
            let (changes, verb) = (format!("{least}{}", counted(count, "change")), if count == 1 { "was" } else { "were" });
            says.push(match signer {
                None => format!(
                    "{changes} {verb} written for {name} over HTTP and signed by your device{at}: that is yours and stays; `timebus log PATH` \
                     shows it, `timebus undo PATH VERSION` and `timebus rm PATH` take it away"
                ),
                Some(signer) => {
                    format!("{} says that {changes} of his {verb} written for {name} over HTTP{at}: that stays", people.name(&signer))
                }
            });
        }
        says
    }

    /// How many each person says that he signed; nobody is the owner.
    fn by_person(&self, people: &People) -> BTreeMap<Option<PublicKey>, usize> {
        let mut all = BTreeMap::new();
        for (author, count) in &self.by {
            *all.entry(self.signer(people, author)).or_default() += count;
        }
        all
    }

    /// Whose device signed something, if it was none of the owner's.
    fn signer(&self, people: &People, author: &PublicKey) -> Option<PublicKey> {
        let signer = people.owner_of(author);
        (!self.is_in_own && !people.is_own(signer)).then_some(*signer)
    }

    /// The last of these changes, for who asks in JSON.
    pub(super) fn describe(&self, people: &People) -> Vec<Serde> {
        let one = |(change, paths): &(Summary, Vec<Path>)| {
            let paths: Vec<String> = paths.iter().take(PATHS_MAX).map(ToString::to_string).collect();
            let mut told = json!({ "id": change.id.to_string(), "version": change.name(), "paths": paths });
            people.tell_writer(change, &mut told);
            told
        };
        self.listed.iter().map(one).collect()
    }
}
