//! Where a key left traces: the spaces held here in which a grant is for it, and those in which it wrote.
//!
//! Whoever asks whose key it is, or what it costs, would otherwise look through all spaces for each key that he meets. So it is
//! put together when it is asked for first, and kept up to date from then on. Keys leave traces only by what is stored.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use timebus_identity::PublicKey;

use crate::auth::Rights;
use crate::grant::Audience;
use crate::keyspace::{Committed, Rows as _, Table};
use crate::pipeline::tip_prefix;
use crate::store::StorageError;

/// Spaces in order, by keys.
type Spaces = HashMap<PublicKey, Vec<PublicKey>>;

/// Where all keys left traces.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    granted: Spaces,
    wrote: Spaces,
    /// How many grants were looked at, by space.
    looked_at: HashMap<PublicKey, usize>,
}

impl Traces {
    /// Looks through everything, once. `timelines` are all that are held here, by their local numbers, with their spaces.
    pub(crate) fn of(rows: &Committed, timelines: &HashMap<u32, PublicKey>) -> Result<Self, StorageError> {
        let mut traces = Self::default();
        let prefix = tip_prefix(0);
        let prefix = &prefix[..prefix.len() - size_of::<u32>()];
        for row in rows.scan(Table::Meta, prefix, None) {
            let (key, _) = row?;
            let Some((t, author)) = key[prefix.len()..].split_first_chunk::<4>() else { continue };
            if let (Some(space), Ok(author)) = (timelines.get(&u32::from_be_bytes(*t)), <[u8; 32]>::try_from(author)) {
                insert(&mut traces.wrote, PublicKey::from_bytes(author), *space);
            }
        }
        Ok(traces)
    }

    /// Takes in what is stated in a space, as far as it is new.
    pub(crate) fn learn(&mut self, space: PublicKey, rights: &Rights) {
        let looked_at = self.looked_at.entry(space).or_default();
        for (_, held) in rights.grants_from(*looked_at) {
            if let Audience::Key(key) = held.grant.audience {
                insert(&mut self.granted, key, space);
            }
        }
        *looked_at = rights.grants().count();
    }

    /// Takes in who wrote where.
    pub(crate) fn add(&mut self, wrote: BTreeSet<(PublicKey, PublicKey)>) {
        wrote.into_iter().for_each(|(author, space)| insert(&mut self.wrote, author, space));
    }

    /// The spaces in which a grant is for a key.
    pub(crate) fn granted_to(&self, key: &PublicKey) -> Vec<PublicKey> {
        self.granted.get(key).cloned().unwrap_or_default()
    }

    /// The spaces in which a key wrote.
    pub(crate) fn wrote_in(&self, key: &PublicKey) -> Vec<PublicKey> {
        self.wrote.get(key).cloned().unwrap_or_default()
    }
}

fn insert(spaces: &mut Spaces, key: PublicKey, space: PublicKey) {
    match spaces.entry(key) {
        // Most keys are in one space.
        Entry::Vacant(new) => {
            new.insert(Vec::from([space]));
        }
        Entry::Occupied(known) => {
            let known = known.into_mut();
            if let Err(at) = known.binary_search(&space) {
                known.insert(at, space);
            }
        }
    }
}
