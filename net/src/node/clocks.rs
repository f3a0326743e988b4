//! Whose clock is wrong, as far as records of peers tell: each carries the time at which it was signed.

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::PublicKey;

use super::Node;
use super::book::Source;
use super::records::{AHEAD_MS, RENEW_MS};
use crate::words::{counted, join};

/// A record that is older than this is of somebody who was not there for long, or whose clock, or this one, is wrong: who is there
/// says each week anew where he is.
const STALE_MS: u64 = RENEW_MS + 2 * AHEAD_MS;
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Peers that are named.
const NAMED_MAX: usize = 3;

/// How this clock stands to those of other peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Peers whose records are of a time that has not come, and by how many milliseconds.
    pub ahead: Vec<(PublicKey, u64)>,
    /// How many records that were taken are so by now: this clock was set back.
    pub taken_ahead: usize,
    /// Peers whose records are of the last days.
    pub agree: usize,
    /// Peers that are connected and whose records are too old for that, and by how many milliseconds.
    pub behind: Vec<(PublicKey, u64)>,
}

/// Whose clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// This one.
    Own,
    /// Those of others.
    Theirs,
    /// One of both, and nobody tells which.
    Either,
}

impl Wrong {
    /// In a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Theirs => "theirs",
            Self::Either => "either",
        }
    }
}

impl Clocks {
    /// Whose clock is wrong, and how much, in words; `None` as far as all agree. What most say is so: of two nobody knows.
    #[must_use]
    pub fn told(&self, name: impl Fn(&PublicKey) -> String) -> Option<(Wrong, String)> {
        if self.taken_ahead > 0 {
            let says = "this clock is more than a day behind what other peers said: what they say now of where they are is not believed here";
            return Some((Wrong::Own, says.to_owned()));
        }
        let unknown = "what they say of where they are is not believed";
        let named = |all: &[(PublicKey, u64)]| {
            let mut names: Vec<String> = all.iter().take(NAMED_MAX).map(|(node, _)| name(node)).collect();
            names.extend((all.len() > NAMED_MAX).then(|| format!("{} more", all.len() - NAMED_MAX)));
            join(&names)
        };
        let others = |count: usize| if count == 1 { "that of another peer".to_owned() } else { format!("those of {}", counted(count, "other peer")) };
        let (ahead, agree) = (self.ahead.len(), self.agree);
        if ahead > 0 {
            let by = days(&self.ahead);
            return Some(if agree > ahead {
                (Wrong::Theirs, format!("the clock of {} is about {by} ahead of this one and of {}: {unknown}", named(&self.ahead), others(agree)))
            } else if ahead > 1 && ahead > agree {
                (Wrong::Own, format!("this clock is about {by} behind {} ({}): {unknown}", others(ahead), named(&self.ahead)))
            } else {
                let says =
                    format!("either this clock is about {by} behind, or that of {} as much ahead, and nobody else tells which", named(&self.ahead));
                (Wrong::Either, format!("{says}: {unknown}"))
            });
        }
        // Where some agree, one who is behind has not said anything for a while, and it matters to nobody.
        let behind = self.behind.len();
        if behind == 0 || agree > 0 {
            return None;
        }
        let by = days(&self.behind);
        Some(if behind > 1 {
            (
                Wrong::Own,
                format!("this clock is about {by} ahead of {} ({}): they do not believe where this peer is", others(behind), named(&self.behind)),
            )
        } else {
            let says =
                format!("either this clock is about {by} ahead, or that of {} as much behind, and nobody else tells which", named(&self.behind));
            (Wrong::Either, format!("{says}: where this peer is may not be believed"))
        })
    }
}

/// How far they are off, as the one in the middle is.
fn days(all: &[(PublicKey, u64)]) -> String {
    let mut off: Vec<u64> = all.iter().map(|(_, by_ms)| *by_ms).collect();
    off.sort_unstable();
    counted(usize::try_from((off[off.len() / 2] + DAY_MS / 2) / DAY_MS).unwrap_or(usize::MAX).max(1), "day")
}

/// Whether what was heard of a clock then holds still: who is there says it anew each week.
pub(super) fn is_lately(heard_ms: u64, now_ms: u64) -> bool {
    heard_ms.saturating_add(STALE_MS) > now_ms
}

impl Node {
    /// How this clock stands to those of other peers, as far as their records tell. It counts what those say who were met here and whom
    /// the owner knows, one time for all machines that have a space: keys of machines cost nothing.
    #[must_use]
    pub fn clocks(&self, now_ms: u64) -> Clocks {
        let own = self.config.node;
        let is_stale = |seq: u64| !is_lately(seq, now_ms);
        let mut seen = BTreeSet::new();
        let mut is_first = |(node, _): &(PublicKey, u64)| self.voice(node).is_some_and(|space| seen.insert(space));
        let ahead: BTreeMap<PublicKey, u64> =
            self.ahead.iter().filter(|(_, (_, heard_ms))| is_lately(*heard_ms, now_ms)).map(|(node, (by_ms, _))| (*node, *by_ms)).collect();
        let others = || self.book.records.all().filter(|record| record.node != own && !ahead.contains_key(&record.node));
        let behind =
            others().filter(|record| is_stale(record.seq) && self.is_connected(&record.node)).map(|record| (record.node, now_ms - record.seq));
        let behind = behind.filter(&mut is_first).collect();
        let is_like_ours = |seq: u64| !is_stale(seq) && seq <= now_ms.saturating_add(AHEAD_MS);
        let agree: BTreeSet<PublicKey> = others().filter(|record| is_like_ours(record.seq)).filter_map(|record| self.voice(&record.node)).collect();
        Clocks {
            ahead: ahead.iter().map(|(node, by_ms)| (*node, *by_ms)).filter(&mut is_first).collect(),
            taken_ahead: self.book.records.ahead(own, now_ms),
            agree: agree.len(),
            behind,
        }
    }

    /// For whose space a peer speaks that was met, where the owner knows it or whose that is.
    pub(super) fn voice(&self, node: &PublicKey) -> Option<PublicKey> {
        let contact = self.book.contacts.get(node).filter(|contact| contact.seen_ms > 0)?;
        let space = contact.space.unwrap_or(*node);
        let is_known = !matches!(contact.source, Source::Came | Source::Introduced)
            || self.book.following.contains_key(&space)
            || self.book.petnames.contains_key(&space)
            || space == self.config.space
            || self.is_member(node);
        is_known.then_some(space)
    }
}

#[cfg(test)]
mod tests {
    use timebus_identity::{SecretKey, Verified};

    use super::super::book::Follow;
    use super::super::lookup::By;
    use super::super::{Book, Config, Event, Outbox};
    use super::*;
    use crate::held::Held;
    use crate::record::PeerRecord;
    use crate::sync::{Binding, Remote, Role};
    use crate::whose::tests::open;

    fn peers(numbers: &[u8], days: u64) -> Vec<(PublicKey, u64)> {
        numbers.iter().map(|number| (PublicKey::from_bytes([*number; 32]), days * DAY_MS)).collect()
    }

    fn told(clocks: &Clocks) -> Option<(Wrong, String)> {
        clocks.told(|node| format!("p{}", node.as_bytes()[0]))
    }

    #[test]
    fn the_clock_is_wrong_that_most_others_disagree_with() {
        assert_eq!(told(&Clocks { agree: 3, ..Clocks::default() }), None);
        let theirs = told(&Clocks { ahead: peers(&[1], 30), agree: 2, ..Clocks::default() }).expect("one is wrong");
        assert!(
            theirs.0 == Wrong::Theirs && theirs.1.contains("clock of p1 is about 30 days ahead of this one and of those of 2 other"),
            "{theirs:?}"
        );
        let own = told(&Clocks { ahead: peers(&[1, 2, 3, 4, 5], 30), agree: 1, ..Clocks::default() }).expect("this one is wrong");
        assert!(own.0 == Wrong::Own && own.1.contains("30 days behind those of 5 other peers (p1, p2, p3 and 2 more)"), "{own:?}");
        let own = told(&Clocks { behind: peers(&[1, 2], 30), ..Clocks::default() }).expect("this one is wrong");
        assert!(own.0 == Wrong::Own && own.1.contains("30 days ahead of those of 2 other peers (p1 and p2)"), "{own:?}");
        assert_eq!(told(&Clocks { taken_ahead: 1, ..Clocks::default() }).map(|(wrong, _)| wrong), Some(Wrong::Own));
    }

    /// Ten machines of a stranger say that the space of a friend is theirs; they and two of the friend's have another date.
    #[tokio::test(flavor = "multi_thread")]
    async fn keys_that_somebody_made_for_it_say_nothing_of_this_clock() {
        const NOW_MS: u64 = 1_800_000_000_000;
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = open(home.path());
        let replica = Held::now(&store, [0; 16], NOW_MS);
        let key = |number: u8| SecretKey::from_seed([number; 32]);
        let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), false, 64, false);
        let config = Config { node: key(1).public(), space: store.space(), device: store.device(), name, is_offline, links_max, has_feeds };
        let mut node = Node::new(config, Book::default(), Outbox::default());
        let friend = key(2).public();
        node.book.following.insert(friend, Follow { since_ms: NOW_MS, via: Vec::new() });
        let say = |node: &mut Node, number: u8, by: u8, space: PublicKey, days: u64| {
            let (link, binding, nonce, way) = (number.into(), Binding([0; 32]), [0; 32], String::new());
            let (role, prove, called) = (Role::Responder, Box::new(|_: &[u8]| Vec::new()), None);
            let public = key(number).public();
            node.handle(NOW_MS, Event::LinkUp { link, node: Some(public), called, role, binding, nonce, prove, way }, &replica);
            let remote = Remote {
                node: public,
                space: if by == number { public } else { space },
                keys: vec![key(by).public()],
                name: String::new(),
                addresses: vec![],
            };
            node.ready(link, remote, NOW_MS, &replica, &mut Vec::new());
            let seq = NOW_MS + days * DAY_MS;
            let record = PeerRecord { node: public, space, seq, addresses: vec![], mirrors: vec![], inbox: vec![], communities: vec![] };
            let record = Verified::sign(record, &key(number)).expect("our own");
            let record = PeerRecord::decode(&PeerRecord::encode_verified(&record)).expect("a record");
            node.records_came(By::Link(link), vec![record], NOW_MS, &replica, &mut Vec::new());
        };
        (10..20).for_each(|number| say(&mut node, number, number, friend, 30));
        assert_eq!(told(&node.clocks(NOW_MS)), None, "strangers");
        (20..22).for_each(|number| say(&mut node, number, 2, friend, 30));
        let clocks = node.clocks(NOW_MS);
        assert_eq!((clocks.ahead.len(), clocks.agree, told(&clocks).map(|(wrong, _)| wrong)), (1, 0, Some(Wrong::Either)));
        // Nor do as many of them that agree hide it.
        (30..40).for_each(|number| say(&mut node, number, number, friend, 0));
        assert_eq!(node.clocks(NOW_MS), clocks);
        // What is said no more is forgotten.
        assert_eq!(node.clocks(NOW_MS + STALE_MS).ahead, []);
    }

    #[test]
    fn of_two_nobody_knows_whose_clock_is_wrong() {
        for (agree, ahead) in [(0, &[1][..]), (1, &[1]), (2, &[1, 2])] {
            let either = told(&Clocks { ahead: peers(ahead, 30), agree, ..Clocks::default() }).expect("one is wrong");
            assert!(either.0 == Wrong::Either && either.1.contains("either this clock is about 30 days behind"), "{either:?}");
        }
        let either = told(&Clocks { behind: peers(&[1], 31), ..Clocks::default() }).expect("one is wrong");
        assert!(either.0 == Wrong::Either && either.1.contains("31 days ahead, or that of p1 as much behind"), "{either:?}");
        assert_eq!(told(&Clocks { behind: peers(&[1], 31), agree: 1, ..Clocks::default() }), None, "he was silent");
    }
}
