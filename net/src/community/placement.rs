//! Who holds what in a community: highest random weight, over the members who offered storage.
//!
//! Every member works out the same from what the community says, so nobody has to be asked where something is. The more
//! somebody offers, the more is placed with him. Who comes or goes changes where things are only for what is placed with
//! him: about one part in as many as there are.
//!
//! All of it is whole numbers, since every machine has to come to the same.

use std::collections::{BTreeMap, HashSet};

use timebus_identity::{PublicKey, hash};

/// Bits behind the point of [`neg_log2`].
const FRACTION_BITS: u32 = 24;
/// A member counts for so many times what the one in the middle offers at most. What is offered is a claim: who claims all
/// there is would have all that is placed. A disk of 4 TB among phones with 500 GB counts in full.
const WEIGHT_MAX: u128 = 8;
/// More than this no machine counts for; so the products of some thousand offers have less than 128 bits.
const BYTES_MAX: u64 = 1 << 48;

/// A machine that things can be placed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its node key.
    pub node: PublicKey,
    /// The member it counts for.
    pub of: PublicKey,
    /// Bytes that it holds for others, more than 0.
    pub bytes: u64,
    /// What it counts for when things are placed.
    pub weight: u64,
}

/// Gives offers their weights: what they offer, but for members who offer far more than most.
pub fn weigh(offers: &mut [Offer]) {
    let mut totals: BTreeMap<PublicKey, u128> = BTreeMap::new();
    for offer in offers.iter_mut() {
        offer.weight = offer.bytes.min(BYTES_MAX);
        *totals.entry(offer.of).or_default() += u128::from(offer.weight);
    }
    let mut sorted: Vec<u128> = totals.values().copied().collect();
    sorted.sort_unstable();
    let Some(middle) = sorted.get(sorted.len().saturating_sub(1) / 2) else { return };
    let max = middle * WEIGHT_MAX;
    for offer in offers {
        let total = totals[&offer.of];
        // All machines of a member together count for no more than the most.
        if total > max {
            let part = u128::from(offer.weight) * max / total;
            offer.weight = u64::try_from(part).expect("less than before").max(1);
        }
    }
}

/// How far below 1 a fraction `(bits + 1) / 2^64` is, as `-log2` in fixed point; at least 1.
fn neg_log2(bits: u64) -> u64 {
    // x = bits + 1 is from 1 to 2^64, and 64 - log2(x) is wanted.
    let x = u128::from(bits) + 1;
    let whole = 127 - x.leading_zeros();
    // 1 ≤ mantissa < 2, with 63 bits behind the point; squaring it gives one bit of the logarithm after the other.
    let mut mantissa = if whole >= 63 { x >> (whole - 63) } else { x << (63 - whole) };
    let mut log = u64::from(whole);
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> 63;
        let is_two = mantissa >> 64 != 0;
        log = (log << 1) | u64::from(is_two);
        mantissa >>= u32::from(is_two);
    }
    ((64 << FRACTION_BITS) - log).max(1)
}

/// All machines that offer something, in the order in which something is placed with them: with as many of the first as
/// there are to be copies. One of each member comes before all others of his, so that no member has two copies as long as
/// others have none.
#[must_use]
pub fn ranking(space: &PublicKey, thing: &[u8; 32], offers: &[Offer]) -> Vec<PublicKey> {
    let mut ranked: Vec<(&Offer, u64)> = offers
        .iter()
        .map(|offer| {
            let digest = hash("hrw", &[space.as_bytes(), thing, offer.node.as_bytes()]);
            let bits = u64::from_be_bytes(*digest.first_chunk().expect("32 bytes"));
            (offer, neg_log2(bits))
        })
        .collect();
    // The greatest weight / -log2(fraction) comes first: then each is first as often as its weight is large.
    let before = |(one, one_log): &(&Offer, u64), (other, other_log): &(&Offer, u64)| {
        let (one_side, other_side) = (u128::from(other.weight) * u128::from(*one_log), u128::from(one.weight) * u128::from(*other_log));
        one_side.cmp(&other_side).then(one.node.cmp(&other.node))
    };
    ranked.sort_unstable_by(before);
    let mut seen = HashSet::new();
    let (first, more): (Vec<&Offer>, Vec<&Offer>) = ranked.into_iter().map(|(offer, _)| offer).partition(|offer| seen.insert(offer.of));
    first.into_iter().chain(more).map(|offer| offer.node).collect()
}

/// The machines that the space of a member is placed with: the first so many of them that are not his own, which have it
/// anyway. For those of them that do not count there are the next ones beside them, as many at most as there are to be copies.
#[must_use]
pub fn holders(
    community: &PublicKey,
    space: &PublicKey,
    own: &[PublicKey],
    offers: &[Offer],
    replicas: u8,
    counts: impl Fn(&PublicKey) -> bool,
) -> Vec<PublicKey> {
    let (replicas, mut held, mut count) = (usize::from(replicas), Vec::new(), 0);
    for node in ranking(community, space.as_bytes(), offers).into_iter().filter(|node| !own.contains(node)) {
        if held.len() >= 2 * replicas || held.len() >= replicas && count >= replicas {
            break;
        }
        count += usize::from(counts(&node));
        held.push(node);
    }
    held
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn first(space: &PublicKey, thing: &[u8; 32], offers: &[Offer], replicas: u8) -> Vec<PublicKey> {
        ranking(space, thing, offers).into_iter().take(usize::from(replicas)).collect()
    }

    const SPACE: PublicKey = PublicKey::from_bytes([7; 32]);

    fn node(number: u16) -> PublicKey {
        PublicKey::from_bytes(hash("test node", &[&number.to_be_bytes()]))
    }

    fn offer(number: u16, of: u16, bytes: u64) -> Offer {
        Offer { node: node(number), of: node(of), bytes, weight: bytes }
    }

    fn things(count: u32) -> impl Iterator<Item = [u8; 32]> {
        (0..count).map(|number| hash("test thing", &[&number.to_be_bytes()]))
    }

    fn alike(count: u16) -> Vec<Offer> {
        (0..count).map(|number| offer(number, number, 1_000_000)).collect()
    }

    #[test]
    fn logarithms_are_those_of_floats() {
        for bits in [0, 1, 2, 3, 1000, u64::from(u32::MAX), u64::MAX / 3, u64::MAX / 2, u64::MAX - 1] {
            let exact = 64.0 - (bits as f64 + 1.0).log2();
            let fixed = neg_log2(bits) as f64 / f64::from(1 << FRACTION_BITS);
            assert!((exact - fixed).abs() < 1e-6, "{bits}: {exact} {fixed}");
        }
        assert_eq!(neg_log2(u64::MAX), 1);
    }

    #[test]
    fn bytes_of_a_placement() {
        // Peers of all versions and machines have to place alike; this pins it.
        let offers: Vec<Offer> = (0..5).map(|number| offer(number, number, 1000 * (u64::from(number) + 1))).collect();
        let placed: Vec<Vec<usize>> = things(6)
            .map(|thing| {
                first(&SPACE, &thing, &offers, 3)
                    .iter()
                    .map(|found| offers.iter().position(|offer| offer.node == *found).expect("one of them"))
                    .collect()
            })
            .collect();
        assert_eq!(placed, PINNED.map(Vec::from));
    }

    const PINNED: [[usize; 3]; 6] = [[1, 4, 0], [3, 4, 2], [4, 3, 1], [3, 2, 4], [4, 3, 2], [4, 0, 3]];

    #[test]
    fn whoever_offers_three_times_as_much_gets_three_times_as_much() {
        let offers = [offer(1, 1, 3_000), offer(2, 2, 1_000)];
        let first = things(8000).filter(|thing| first(&SPACE, thing, &offers, 1) == [node(1)]).count();
        assert!((5700..6300).contains(&first), "{first} of 8000");
    }

    #[test]
    fn what_is_placed_is_spread_evenly() {
        let (offers, mut counts) = (alike(20), HashMap::new());
        things(4000).flat_map(|thing| first(&SPACE, &thing, &offers, 3)).for_each(|node| *counts.entry(node).or_insert(0) += 1);
        assert!(counts.len() == 20 && counts.values().all(|count| (450..750).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_member_does_not_count_as_one_who_holds_his_own_space() {
        let offers = alike(6);
        let own = [node(2), node(3)];
        for thing in things(50) {
            let space = PublicKey::from_bytes(thing);
            let found = super::holders(&SPACE, &space, &own, &offers, 3, |_| true);
            assert!(found.len() == 3 && !found.iter().any(|node| own.contains(node)), "{found:?}");
            let others: Vec<Offer> = offers.iter().filter(|offer| !own.contains(&offer.node)).copied().collect();
            assert_eq!(found, first(&SPACE, &thing, &others, 3), "and takes nobody's place");
            // Who does not count holds it all the same, and others do, too.
            let more = super::holders(&SPACE, &space, &own, &offers, 3, |node| *node != found[1]);
            assert_eq!(more, first(&SPACE, &thing, &others, 4));
            assert_eq!(super::holders(&SPACE, &space, &[], &offers, 2, |_| false), first(&SPACE, &thing, &offers, 4), "of two copies four at most");
        }
    }

    /// Threat P20: he lists invented machines with all the bytes there are, with keys that he chose for what he is after.
    #[test]
    fn a_member_has_one_copy_whatever_he_claims_and_whatever_keys_he_grinds() {
        let (mut offers, attacker) = (alike(10), 100);
        let before = offers.clone();
        let target = things(1).next().expect("one");
        let mut ground: Vec<u16> = (1000..3000).collect();
        let score = |number: &u16| hash("hrw", &[SPACE.as_bytes(), &target, node(*number).as_bytes()]);
        ground.sort_by_key(|number| std::cmp::Reverse(score(number)));
        let claimed: Vec<Offer> = ground[..8].iter().map(|number| offer(*number, attacker, u64::MAX)).collect();
        offers.extend(&claimed);
        weigh(&mut offers);
        let (mut had, is_his) = (0, |node: &&PublicKey| claimed.iter().any(|offer| offer.node == **node));
        for thing in std::iter::once(target).chain(things(1000)) {
            let (now, was) = (first(&SPACE, &thing, &offers, 3), first(&SPACE, &thing, &before, 3));
            let his = now.iter().filter(is_his).count();
            assert!(his <= 1, "{now:?}");
            assert!(was[..2].iter().all(|node| now.contains(node)), "he takes the place of the last one at most");
            had += his;
        }
        // What he claims counts for 8 of 18 parts, so one of three copies is his in 1 - (10/18)(9/17)(8/16) of all cases.
        assert!((800..900).contains(&had), "{had} of 1001");
        assert!(first(&SPACE, &target, &offers, 3).iter().any(|node| is_his(&node)), "that one he can have by his choice of keys");
    }

    #[test]
    fn a_member_with_several_machines_counts_once_and_holds_twice_only_if_there_is_nobody_else() {
        let two = [offer(1, 1, 500), offer(2, 1, 500), offer(3, 3, 1000)];
        let mut firsts = 0;
        for thing in things(4000) {
            let ranked = ranking(&SPACE, &thing, &two);
            assert!(ranked[..2].contains(&node(3)) && ranked.len() == 3, "{ranked:?}");
            firsts += u32::from(ranked[0] == node(3));
        }
        assert!((1850..2150).contains(&firsts), "{firsts} of 4000: his two are one half");
    }

    #[test]
    fn weights_are_what_is_offered_up_to_eight_times_the_middle() {
        let weights = |offers: &[(u16, u64)]| {
            let mut offers: Vec<Offer> = offers.iter().zip(0..).map(|((of, bytes), number)| offer(number, *of, *bytes)).collect();
            weigh(&mut offers);
            offers.into_iter().map(|offer| offer.weight).collect::<Vec<_>>()
        };
        assert_eq!(weights(&[]), [] as [u64; 0]);
        assert_eq!(weights(&[(1, u64::MAX)]), [BYTES_MAX], "alone he is the middle");
        assert_eq!(weights(&[(1, 10), (2, 80), (3, 5)]), [10, 80, 5]);
        assert_eq!(weights(&[(1, 10), (2, 161), (2, 1), (3, 5)]), [10, 79, 1, 5], "together");
        assert_eq!(weights(&[(1, 1), (2, u64::MAX), (2, u64::MAX)]), [1, 4, 4], "of two the smaller is the middle");
    }

    proptest! {
        /// Who goes takes away his own part and nothing else: about R/n of all things change one holder each.
        #[test]
        fn leaving_and_joining_moves_one_part_in_n(count in 5..30u16, leaver in any::<prop::sample::Index>(), replicas in 1..4u8) {
            let all = alike(count);
            let gone = all[leaver.index(all.len())].node;
            let rest: Vec<Offer> = all.iter().filter(|offer| offer.node != gone).copied().collect();
            let (mut moved, total) = (0u32, 200u32);
            for thing in things(total) {
                let (before, after) = (first(&SPACE, &thing, &all, replicas), first(&SPACE, &thing, &rest, replicas));
                let stay: Vec<PublicKey> = before.iter().filter(|node| **node != gone).copied().collect();
                // Those who held it go on, in their order, and one steps in behind them.
                prop_assert_eq!(&after[..stay.len()], &stay[..]);
                prop_assert_eq!(after.len(), usize::from(replicas).min(rest.len()));
                moved += u32::from(before.contains(&gone));
            }
            let expected = f64::from(total) * f64::from(replicas) / f64::from(count);
            prop_assert!(f64::from(moved) < expected * 1.6 + 20.0 && f64::from(moved) > expected * 0.5 - 20.0, "{} of {} moved", moved, total);
        }

        #[test]
        fn in_whatever_order_offers_come_all_place_alike(count in 1..20u16, turn in any::<prop::sample::Index>(), thing in any::<[u8; 32]>()) {
            let all: Vec<Offer> = (0..count).map(|number| offer(number, number / 2, 1 + u64::from(number % 4) * 1_000_000_000_000)).collect();
            let mut turned = all.clone();
            turned.rotate_left(turn.index(all.len()));
            let found = first(&SPACE, &thing, &all, 5);
            prop_assert_eq!(&found, &first(&SPACE, &thing, &turned, 5));
            prop_assert_eq!(found.len(), usize::from(count.min(5)));
        }
    }
}
