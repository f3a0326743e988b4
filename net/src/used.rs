//! Signatures of requests that were used: each is good once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::peer::lock;
use crate::signature::CLOCK_SKEW_S;

/// How long a signature is remembered at least: older ones are refused for their age.
const LIFETIME: Duration = Duration::from_secs(2 * CLOCK_SKEW_S);
/// Those of so long are forgotten at once, without a look at each of them.
const SPAN: Duration = Duration::from_secs(LIFETIME.as_secs() / 16);
/// Signatures of the owner, and of all strangers, that are remembered: 5 MB each.
const ALL_MAX: usize = 100_000;
/// Signatures of all guests: 25 MB.
const GUESTS_MAX: usize = 500_000;
/// Signatures of one guest: as many requests as he may make in that time.
const OF_GUEST_MAX: u32 = 30_000;
/// Signatures of all guests together who came by one invite, or were let in by one member: 80 requests a second. Each of them
/// may fill [`OF_GUEST_MAX`] of so many of what the others leave, so that there is room for the next, too; and all whom one of them
/// let in have together what one more has, or he would bring as many as fill what there is for all guests.
const OF_GROUP_MAX: u32 = 50_000;

/// Whose signature it is. Keys are made at will, so those without any right share a list, and who has one fills no more than his
/// part of that of all guests, nor do all those who were let in with him.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    Owner,
    /// His key, and those with whom he was let in, see [`crate::ledger::groups`].
    Guest(Vec<[u8; 32]>),
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

/// Signatures by when they were used, the oldest first.
#[derive(Debug, Default)]
struct Table {
    spans: VecDeque<Span>,
    count: usize,
    /// How many there are of whom, where that counts.
    by: HashMap<[u8; 32], u32>,
}

#[derive(Debug)]
struct Span {
    begun: Instant,
    /// By their first half, which is random.
    seen: HashSet<[u8; 32]>,
    by: HashMap<[u8; 32], u32>,
}

impl Used {
    /// Remembers a signature that is used now.
    pub(crate) fn first(&self, signature: &[u8; 64], whose: &Whose, now: Instant) -> Result<(), Unusable> {
        let Some(id) = signature.first_chunk::<32>() else { return Err(Unusable::Used) };
        // Whoever has a right by now, or none any more, used it as somebody else.
        if [&self.owner, &self.guests, &self.strangers].into_iter().any(|table| lock(table).has(id)) {
            return Err(Unusable::Used);
        }
        match whose {
            Whose::Owner => lock(&self.owner).first(*id, &[], ALL_MAX, now),
            Whose::Guest(groups) => {
                let mut guests = lock(&self.guests);
                guests.forget(now);
                let shares = guests.shares(groups);
                guests.first(*id, &shares, GUESTS_MAX, now)
            }
            Whose::Stranger => lock(&self.strangers).first(*id, &[], ALL_MAX, now),
        }
    }
}

impl Table {
    fn has(&self, id: &[u8; 32]) -> bool {
        self.spans.iter().any(|span| span.seen.contains(id))
    }

    /// How many somebody may have, and each of the groups that he is in.
    fn shares(&self, groups: &[[u8; 32]]) -> Vec<([u8; 32], u32)> {
        let count = |who: &[u8; 32]| self.by.get(who).copied().unwrap_or(0);
        let mut max = if groups.len() > 1 { OF_GROUP_MAX } else { OF_GUEST_MAX };
        let mut outer: Option<&[u8; 32]> = None;
        let mut shares = Vec::with_capacity(groups.len());
        for one in groups.iter().rev() {
            if let Some(outer) = outer {
                let left = max.saturating_sub(count(outer).saturating_sub(count(one)));
                // Their product is below 2^31.
                max = (left * (OF_GUEST_MAX / 1000) / (OF_GROUP_MAX / 1000)).max(1);
            }
            outer = Some(one);
            shares.push((*one, max));
        }
        shares
    }

    /// Remembers one, which counts for these, of whom each may have so many.
    fn first(&mut self, id: [u8; 32], shares: &[([u8; 32], u32)], max: usize, now: Instant) -> Result<(), Unusable> {
        self.forget(now);
        if self.has(&id) {
            return Err(Unusable::Used);
        }
        if self.count >= max || shares.iter().any(|(who, share)| self.by.get(who).is_some_and(|own| own >= share)) {
            return Err(Unusable::Full);
        }
        if self.spans.back().is_none_or(|span| now.saturating_duration_since(span.begun) >= SPAN) {
            self.spans.push_back(Span { begun: now, seen: HashSet::new(), by: HashMap::new() });
        }
        if let Some(span) = self.spans.back_mut() {
            span.seen.insert(id);
            self.count += 1;
            for (who, _) in shares {
                *span.by.entry(*who).or_default() += 1;
                *self.by.entry(*who).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Forgets those that are too old to be taken once more.
    fn forget(&mut self, now: Instant) {
        while let Some(span) = self.spans.pop_front() {
            if now.saturating_duration_since(span.begun) < LIFETIME + SPAN {
                self.spans.push_front(span);
                return;
            }
            self.count -= span.seen.len();
            for (who, own) in span.by {
                if let Some(all) = self.by.get_mut(&who) {
                    *all -= own;
                    if *all == 0 {
                        self.by.remove(&who);
                    }
                }
            }
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

    /// Somebody who was let in with others, or for himself.
    fn guest(key: u8, group: u8) -> Whose {
        Whose::Guest(if key == group { vec![[key; 32]] } else { vec![[key; 32], [group; 32]] })
    }

    #[test]
    fn who_signs_much_shuts_out_nobody_else() {
        let (used, now) = (Used::default(), Instant::now());
        let first = |number: u32, whose: Whose| used.first(&signature(number), &whose, now);
        let [bob, carol] = [1, 2].map(|number| guest(number, number));
        for number in 0..OF_GUEST_MAX {
            assert_eq!(first(number, bob.clone()), Ok(()));
        }
        assert_eq!(first(OF_GUEST_MAX, bob), Err(Unusable::Full));
        assert_eq!(first(OF_GUEST_MAX, carol.clone()), Ok(()));
        assert_eq!(first(OF_GUEST_MAX, carol), Err(Unusable::Used));
        assert_eq!(first(0, Whose::Stranger), Err(Unusable::Used), "whatever he was then");
        let strange = |number: u32| 1_000_000 + number;
        for number in 0..ALL_MAX as u32 {
            assert_eq!(first(strange(number), Whose::Stranger), Ok(()));
        }
        assert_eq!(first(strange(ALL_MAX as u32), Whose::Stranger), Err(Unusable::Full));
        assert_eq!(first(strange(ALL_MAX as u32), Whose::Owner), Ok(()));
        assert_eq!(first(strange(ALL_MAX as u32), Whose::Owner), Err(Unusable::Used));
    }

    /// Somebody takes one invite with many keys.
    #[test]
    fn those_who_were_let_in_together_leave_room_for_others() {
        let (used, now) = (Used::default(), Instant::now());
        let many = |number: u32| guest(10 + (number / 10_000) as u8, 9);
        let taken = (0..2 * GUESTS_MAX as u32).filter(|number| used.first(&signature(*number), &many(*number), now).is_ok()).count();
        assert_eq!(taken as u32, OF_GROUP_MAX);
        assert_eq!(used.first(&signature(u32::MAX), &guest(1, 1), now), Ok(()));
    }

    /// Two keys that came by one invite sign as much as they may.
    #[test]
    fn who_comes_by_an_invite_that_others_wear_out_gets_in() {
        let (used, now) = (Used::default(), Instant::now());
        let mut number = 0..;
        let mut first = |of: u8| used.first(&signature(number.next().expect("more")), &guest(of, 9), now);
        let mut fill = |of: u8, max: u32| (0..max).filter(|_| first(of).is_ok()).count() as u32;
        assert_eq!(fill(1, 1000), 1000);
        assert_eq!(fill(2, OF_GROUP_MAX), 29_400, "three of five parts of what is left");
        assert_eq!(fill(1, OF_GROUP_MAX), 11_360, "the same of what the other one leaves");
        assert_eq!([3, 4, 5, 6].map(|of| fill(of, OF_GROUP_MAX)), [4944, 1977, 791, 316]);
    }

    /// Ten people take one invite, each of them brings dozens of keys, and all of these sign as much as they may.
    #[test]
    fn whom_guests_let_in_use_what_those_have_who_let_them_in() {
        let (used, now) = (Used::default(), Instant::now());
        let mut number = 0..;
        let mut fill = |groups: &[[u8; 32]], max: u32| {
            let whose = Whose::Guest(groups.to_vec());
            (0..max).take_while(|_| used.first(&signature(number.next().expect("more")), &whose, now).is_ok()).count() as u32
        };
        let mut all = 0;
        for member in 1..=10u8 {
            for key in 0..24 {
                all += fill(&[[100 + key; 32].map(|byte| byte ^ member), [member; 32], [9; 32]], OF_GROUP_MAX);
            }
        }
        assert!(all <= OF_GROUP_MAX, "{all}");
        assert_eq!(fill(&[[200; 32], [201; 32]], 1000), 1000, "who came by another invite");
        assert_eq!(fill(&[[202; 32]], OF_GROUP_MAX), OF_GUEST_MAX, "whom the owner let in by name");
        // One who brings many leaves room for who came with him, and has his own.
        assert_eq!(fill(&[[211; 32], [212; 32], [213; 32]], OF_GROUP_MAX), 18_000, "three of five parts of what one has");
        for key in 0..30 {
            fill(&[[100 + key; 32], [212; 32], [213; 32]], OF_GROUP_MAX);
        }
        assert_eq!(fill(&[[214; 32], [213; 32]], OF_GROUP_MAX), 12_000);
    }

    #[test]
    fn what_is_old_is_forgotten_and_nothing_before_that() {
        let (used, begun) = (Used::default(), Instant::now());
        let guest = &guest(1, 2);
        for number in 0..OF_GUEST_MAX {
            assert_eq!(used.first(&signature(number), guest, begun + SPAN * number / (OF_GUEST_MAX / 4)), Ok(()));
        }
        // The last of them is as old as the first span is long.
        let later = |spans: u32| begun + LIFETIME + SPAN * spans;
        assert_eq!(used.first(&signature(0), guest, begun + LIFETIME), Err(Unusable::Used));
        assert_eq!(used.first(&signature(OF_GUEST_MAX), guest, begun + LIFETIME), Err(Unusable::Full));
        assert_eq!(used.first(&signature(OF_GUEST_MAX), guest, later(1)), Ok(()));
        assert_eq!(used.first(&signature(OF_GUEST_MAX - 1), guest, later(1)), Err(Unusable::Used));
        assert_eq!(used.first(&signature(0), guest, later(6)), Ok(()));
        let table = lock(&used.guests);
        assert_eq!((table.count, table.by.len()), (table.spans.iter().map(|span| span.seen.len()).sum(), 2));
        assert!(table.count <= 2, "{}", table.count);
    }
}
