//! The records of peers that are known: the newest of each, and none is ever replaced by an older one.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use timebus_identity::{PublicKey, Signed, Verified, z32};

use crate::record::PeerRecord;

/// Most records of others; of strangers those heard of longest ago are forgotten first.
pub const RECORDS_MAX: usize = 4096;
/// A number that is further ahead than this is of a clock that is wrong.
pub(super) const AHEAD_MS: u64 = 24 * 3600 * 1000;
/// An own record is made anew after this time, although nothing has changed, so that others see that it holds.
pub(super) const RENEW_MS: u64 = 7 * 24 * 3600 * 1000;

/// What became of a record that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is newer than what was known.
    New,
    /// It is what is known.
    Known,
    /// A newer one is known.
    Old,
    /// Its number is of a time that has not come.
    Ahead,
}

/// The newest record of each peer, by node key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records(BTreeMap<PublicKey, Verified<PeerRecord>>);

impl Records {
    /// The record of a peer.
    #[must_use]
    pub fn of(&self, node: &PublicKey) -> Option<&Verified<PeerRecord>> {
        self.0.get(node)
    }

    /// The records of peers that call a space their own.
    pub fn of_space(&self, space: PublicKey) -> impl Iterator<Item = &Verified<PeerRecord>> {
        self.0.values().filter(move |record| record.space == space)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Verified<PeerRecord>> {
        self.0.values()
    }

    /// Takes a record if it is newer than what is known. Of two with one number all peers keep the same.
    pub fn take(&mut self, record: Verified<PeerRecord>, now_ms: u64, is_stranger: impl Fn(&PublicKey) -> bool) -> Taken {
        if is_ahead(&record, now_ms) {
            return Taken::Ahead;
        }
        let rank = |record: &Verified<PeerRecord>| (record.seq, PeerRecord::encode_verified(record));
        if let Some(known) = self.0.get(&record.node) {
            match rank(&record).cmp(&rank(known)) {
                std::cmp::Ordering::Less => return Taken::Old,
                std::cmp::Ordering::Equal => return Taken::Known,
                std::cmp::Ordering::Greater => {}
            }
        } else if self.0.len() >= RECORDS_MAX {
            // Who forgets a record can be brought an older one; so those go first whom nobody here knows.
            let least = self.0.values().min_by_key(|record| (!is_stranger(&record.node), record.seq)).map(|record| record.node);
            if let Some(least) = least {
                self.0.remove(&least);
            }
        }
        self.0.insert(record.node, record);
        Taken::New
    }

    /// Records of others that are of a time that has not come by this clock, although they were taken: it went back.
    #[must_use]
    pub fn ahead(&self, own: PublicKey, now_ms: u64) -> usize {
        self.0.values().filter(|record| record.node != own && is_ahead(record, now_ms)).count()
    }

    /// Whether the own record is of a clock that was ahead: nobody takes it, nor any with a higher number. If records of others
    /// are as far ahead, it is this clock that is behind.
    fn was_ahead(&self, own: PublicKey, now_ms: u64) -> bool {
        self.of(&own).is_some_and(|record| is_ahead(record, now_ms)) && self.ahead(own, now_ms) == 0
    }

    /// Takes the own record that was just signed, also in the place of one of a clock that was ahead.
    pub fn take_own(&mut self, record: Verified<PeerRecord>, now_ms: u64) -> Taken {
        if self.was_ahead(record.node, now_ms) {
            self.0.remove(&record.node);
        }
        let seq = record.seq;
        self.take(record, now_ms.max(seq), |_| false)
    }

    /// What a peer has to sign now to say this about itself; `None` if it has said so.
    #[must_use]
    pub fn next_own(&self, mut own: PeerRecord, now_ms: u64) -> Option<PeerRecord> {
        let last = self.of(&own.node).filter(|own| !self.was_ahead(own.node, now_ms));
        own.seq = last.map_or(1, |last| last.seq + 1).max(now_ms);
        let says_so = last.is_some_and(|last| PeerRecord { seq: own.seq, ..(**last).clone() } == own && now_ms.saturating_sub(last.seq) < RENEW_MS);
        (!says_so).then_some(own)
    }
}

/// Whether a record is of a time that has not come.
fn is_ahead(record: &PeerRecord, now_ms: u64) -> bool {
    record.seq > now_ms.saturating_add(AHEAD_MS)
}

/// As texts: whoever changes one in the file has no record any more.
impl Serialize for Records {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.0.values().map(|record| z32::encode(&PeerRecord::encode_verified(record))))
    }
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(input)?;
        let read = |text: &String| PeerRecord::decode(&z32::decode(text).ok()?).ok().map(Signed::verify)?.ok();
        Ok(Self(texts.iter().filter_map(read).map(|record| (record.node, record)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use timebus_identity::SecretKey;

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn record(seed: u8, seq: u64, address: &str) -> Verified<PeerRecord> {
        let key = SecretKey::from_seed([seed; 32]);
        let content = PeerRecord {
            node: key.public(),
            space: key.public(),
            seq,
            addresses: vec![address.to_owned()],
            mirrors: vec![],
            inbox: vec![],
            communities: vec![],
        };
        Verified::sign(content, &key).expect("our own")
    }

    fn take(records: &mut Records, record: Verified<PeerRecord>) -> Taken {
        records.take(record, NOW_MS, |_| true)
    }

    #[test]
    fn an_old_record_does_not_come_back() {
        let mut records = Records::default();
        assert_eq!(take(&mut records, record(1, 5, "a:1")), Taken::New);
        assert_eq!(take(&mut records, record(1, 7, "b:1")), Taken::New);
        assert_eq!(take(&mut records, record(1, 5, "a:1")), Taken::Old);
        assert_eq!(take(&mut records, record(1, 7, "b:1")), Taken::Known);
        let node = record(1, 1, "").node;
        assert_eq!(records.of(&node).map(|record| record.addresses.clone()), Some(vec!["b:1".to_owned()]));
        // Nor after a restart.
        let mut again: Records = serde_json::from_value(serde_json::to_value(&records).expect("writes")).expect("reads");
        assert_eq!(again, records);
        assert_eq!(take(&mut again, record(1, 6, "a:1")), Taken::Old);
    }

    #[test]
    fn a_number_of_a_wrong_clock_is_not_taken() {
        let mut records = Records::default();
        assert_eq!(take(&mut records, record(1, NOW_MS + AHEAD_MS + 1, "a:1")), Taken::Ahead);
        assert_eq!(take(&mut records, record(1, NOW_MS + AHEAD_MS, "a:1")), Taken::New);
        assert_eq!(take(&mut records, record(2, u64::MAX, "a:1")), Taken::Ahead);
    }

    #[test]
    fn what_was_changed_in_the_file_is_no_record() {
        let mut records = Records::default();
        take(&mut records, record(1, 5, "a:1"));
        let text = serde_json::to_value(&records).expect("writes")[0].as_str().expect("text").to_owned();
        let other = if &text[60..61] == "y" { "b" } else { "y" };
        let bad = serde_json::json!([format!("{}{other}{}", &text[..60], &text[61..]), "nonsense", ""]);
        assert_eq!(serde_json::from_value::<Records>(bad).expect("reads"), Records::default());
    }

    #[test]
    fn strangers_are_forgotten_first() {
        let mut records = Records::default();
        let key = |number: usize| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
            SecretKey::from_seed(seed)
        };
        let friend = record(9, 1, "a:1");
        records.take(friend.clone(), NOW_MS, |_| false);
        for number in 0..RECORDS_MAX {
            let key = key(number);
            let content = PeerRecord { node: key.public(), seq: 2 + number as u64, ..friend.clone().into_inner() };
            let new = Verified::sign(content, &key).expect("our own");
            assert_eq!(records.take(new, NOW_MS, |node| *node != friend.node), Taken::New);
        }
        assert_eq!(records.all().count(), RECORDS_MAX);
        assert!(records.of(&friend.node).is_some() && records.of(&key(0).public()).is_none());
    }

    #[test]
    fn says_the_same_again_only_after_a_while() {
        let key = SecretKey::from_seed([1; 32]);
        let mut records = Records::default();
        let own = |address: &str| record(1, 1, address).into_inner();
        let first = records.next_own(own("a:1"), NOW_MS).expect("nothing was said yet");
        assert_eq!(first.seq, NOW_MS);
        take(&mut records, Verified::sign(first, &key).expect("our own"));
        assert_eq!(records.next_own(own("a:1"), NOW_MS + 1), None);
        assert_eq!(records.next_own(own("a:1"), NOW_MS - 500), None);
        assert_eq!(records.next_own(own("b:1"), NOW_MS - 500).map(|next| next.seq), Some(NOW_MS + 1), "the clock went back");
        assert_eq!(records.next_own(own("a:1"), NOW_MS + RENEW_MS).map(|next| next.seq), Some(NOW_MS + RENEW_MS));
    }

    /// A machine started with the year 2030 and was corrected.
    #[test]
    fn after_a_clock_that_was_ahead_others_take_the_own_record_again() {
        let (key, other) = (SecretKey::from_seed([1; 32]), record(2, NOW_MS, "c:1"));
        let own = |address: &str| record(1, 1, address).into_inner();
        let far = NOW_MS + 4 * 365 * AHEAD_MS;
        let (mut here, mut there) = (Records::default(), Records::default());
        here.take(other.clone(), far, |_| false);
        let wrong = Verified::sign(here.next_own(own("a:1"), far).expect("nothing was said yet"), &key).expect("our own");
        assert_eq!((here.take_own(wrong.clone(), far), take(&mut there, wrong)), (Taken::New, Taken::Ahead));
        let next = here.next_own(own("a:1"), NOW_MS).expect("what was said is of no use");
        assert_eq!(next.seq, NOW_MS);
        let right = Verified::sign(next, &key).expect("our own");
        assert_eq!((here.take_own(right.clone(), NOW_MS), take(&mut there, right)), (Taken::New, Taken::New));
        assert_eq!(here.next_own(own("a:1"), NOW_MS + 1), None);
        // Who starts with the past sees that others are ahead as well, and goes on from what he said last.
        let past = NOW_MS - 365 * AHEAD_MS;
        assert_eq!((here.ahead(key.public(), past), here.ahead(key.public(), NOW_MS)), (1, 0));
        assert_eq!(here.next_own(own("b:1"), past).map(|next| next.seq), Some(NOW_MS + 1));
    }

    proptest! {
        /// In whatever order records come, and however often, all peers end with the same.
        #[test]
        fn any_order_of_records_ends_the_same(seqs in prop::collection::vec((1..4u8, 1..5u64, 0..3u8), 1..12), order in any::<prop::sample::Index>()) {
            let all: Vec<_> = seqs.iter().map(|(seed, seq, address)| record(*seed, *seq, &format!("{address}:1"))).collect();
            let mut turned = all.clone();
            turned.rotate_left(order.index(all.len()));
            turned.extend(all.iter().rev().cloned());
            let (mut one, mut other) = (Records::default(), Records::default());
            all.into_iter().for_each(|record| _ = take(&mut one, record));
            turned.into_iter().for_each(|record| _ = take(&mut other, record));
            prop_assert_eq!(one, other);
        }
    }
}
