//! Signatures of requests that were used: each is good once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use timebus_identity::PublicKey;

use crate::peer::lock;
use crate::signature::CLOCK_SKEW_S;

/// How long a signature is remembered: older ones are refused for their age.
const LIFETIME: Duration = Duration::from_secs(2 * CLOCK_SKEW_S);
/// How often it is looked for what can be forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Signatures of the owner, and of all strangers, that are remembered: 8 MB each.
const ALL_MAX: usize = 100_000;
/// Signatures of all guests: 40 MB.
const GUESTS_MAX: usize = 500_000;
/// Signatures of one guest: as many requests as he may make in that time.
const OF_GUEST_MAX: u32 = 30_000;

/// Whose signature it is. Keys are made at will, so those without any right share a list, and who has one fills no more than his
/// part of that of all guests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    Owner,
    Guest(PublicKey),
    Stranger,
}

/// Why a signature is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It was used before.
    Used,
    /// So many others are remembered that nobody could tell later whether it was.
    Full,
}

/// The signatures that were used lately.
#[derive(Debug, Default)]
pub(crate) struct Used {
    owner: Mutex<Table>,
    guests: Mutex<Table>,
    strangers: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// By their first half, which is random: by whom, if that counts, and when.
    seen: HashMap<[u8; 32], (Option<PublicKey>, Instant)>,
    by: HashMap<PublicKey, u32>,
    /// When it was looked for what can be forgotten, which takes as long as it is large.
    looked: Option<Instant>,
}

impl Used {
    /// Remembers a signature.
    pub(crate) fn first(&self, signature: &[u8; 64], whose: Whose) -> Result<(), Unusable> {
        // Whoever has a right by now, or none any more, used it as somebody else.
        let others = [&self.owner, &self.guests, &self.strangers];
        if signature.first_chunk::<32>().is_some_and(|id| others.into_iter().any(|table| lock(table).seen.contains_key(id))) {
            return Err(Unusable::Used);
        }
        match whose {
            Whose::Owner => lock(&self.owner).first(signature, None, ALL_MAX),
            Whose::Guest(key) => lock(&self.guests).first(signature, Some(key), GUESTS_MAX),
            Whose::Stranger => lock(&self.strangers).first(signature, None, ALL_MAX),
        }
    }
}

impl Table {
    fn first(&mut self, signature: &[u8; 64], key: Option<PublicKey>, max: usize) -> Result<(), Unusable> {
        let Some(id) = signature.first_chunk::<32>() else { return Err(Unusable::Used) };
        if self.seen.contains_key(id) {
            return Err(Unusable::Used);
        }
        let is_full = |table: &Self| table.seen.len() >= max || key.is_some_and(|key| table.by.get(&key).is_some_and(|own| *own >= OF_GUEST_MAX));
        if is_full(self) && self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.forget();
            self.looked = Some(Instant::now());
        }
        if is_full(self) {
            return Err(Unusable::Full);
        }
        self.seen.insert(*id, (key, Instant::now()));
        if let Some(key) = key {
            *self.by.entry(key).or_default() += 1;
        }
        Ok(())
    }

    /// Forgets those that are too old to be taken once more.
    fn forget(&mut self) {
        self.seen.retain(|_, (_, at)| at.elapsed() < LIFETIME);
        self.by.clear();
        for key in self.seen.values().filter_map(|(key, _)| *key) {
            *self.by.entry(key).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(number: u32) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    #[test]
    fn who_signs_much_shuts_out_nobody_else() {
        let used = Used::default();
        let (bob, carol) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
        for number in 0..OF_GUEST_MAX {
            assert_eq!(used.first(&signature(number), Whose::Guest(bob)), Ok(()));
        }
        assert_eq!(used.first(&signature(OF_GUEST_MAX), Whose::Guest(bob)), Err(Unusable::Full));
        assert_eq!(used.first(&signature(OF_GUEST_MAX), Whose::Guest(carol)), Ok(()));
        assert_eq!(used.first(&signature(OF_GUEST_MAX), Whose::Guest(carol)), Err(Unusable::Used));
        assert_eq!(used.first(&signature(0), Whose::Stranger), Err(Unusable::Used), "whatever he was then");
        let strange = |number: u32| signature(1_000_000 + number);
        for number in 0..ALL_MAX as u32 {
            assert_eq!(used.first(&strange(number), Whose::Stranger), Ok(()));
        }
        assert_eq!(used.first(&strange(ALL_MAX as u32), Whose::Stranger), Err(Unusable::Full));
        assert_eq!(used.first(&strange(ALL_MAX as u32), Whose::Owner), Ok(()));
        assert_eq!(used.first(&strange(ALL_MAX as u32), Whose::Owner), Err(Unusable::Used));
    }
}
