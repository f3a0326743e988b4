//! Random worlds of honest peers: histories, links that fail, slow readers, restarts.

use std::cell::Cell;
use std::collections::BTreeSet;

use timebus_identity::PublicKey;
use timebus_store::ids::{ChangeId, TimelineId};

use crate::dag::Author;
use crate::dice::{for_seeds, setting};
use crate::sim::{Deed, Net};
use crate::toy::Toy;

/// Writes as one device of the peer does: on all heads, in its own chain.
pub(crate) fn write(net: &mut Net, peer: usize) {
    let timeline = net.timelines[net.dice.below(net.timelines.len())];
    let len = match net.dice.below(40) {
        0 => 200_000,
        1..=4 => 5_000,
        _ => net.dice.below(400),
    };
    write_to(net, peer, timeline, len);
}

pub(crate) fn write_to(net: &mut Net, peer: usize, timeline: TimelineId, len: usize) {
    let mut body = net.dice.bytes().repeat(len / 32 + 1);
    body.truncate(len);
    let author = if net.peers[peer].toy.strict { Author::real } else { Author::pretended };
    net.peers[peer].toy.write(&author(peer as u8 + 1), timeline, None, None, body);
    net.appended(peer, timeline, None);
}

/// Writes as `write` does, but sometimes as an author that all share, each on top of what it happens to have: he forks his
/// chain again and again.
pub(crate) fn write_forking(net: &mut Net, peer: usize) {
    if net.dice.percent(60) {
        return write(net, peer);
    }
    let timeline = net.timelines[net.dice.below(net.timelines.len())];
    let ids: Vec<ChangeId> = net.peers[peer].toy.log(&timeline).map_or_else(Vec::new, |log| log.entries.iter().map(|entry| entry.id).collect());
    let shared = Author::pretended(99);
    // Forks at any place of his chain that is here, with any parents.
    let prev = ids.iter().rev().copied().filter(|id| net.peers[peer].toy.is_by(&timeline, id, &shared.key)).nth(net.dice.below(3));
    let on: Vec<ChangeId> = if ids.is_empty() { Vec::new() } else { (0..net.dice.below(3)).map(|_| ids[net.dice.below(ids.len())]).collect() };
    let mut on = on;
    on.sort_unstable();
    on.dedup();
    let body = net.dice.bytes().to_vec();
    net.peers[peer].toy.write(&shared, timeline, Some(&on), prev, body);
    net.appended(peer, timeline, None);
}

/// Peers in a random connected graph with a history that some of them share.
pub(crate) fn world(seed: u64, writer: fn(&mut Net, usize)) -> Net {
    let timelines = 1 + seed as usize % 3;
    let mut net = Net::new(seed, timelines, writer);
    let count = 2 + net.dice.below(5);
    for _ in 0..count {
        let peer = net.add_peer();
        net.peers[peer].store_ms = net.dice.below(20) as u64;
        net.peers[peer].forgets = true;
        net.peers[peer].window_bytes = [256 * 1024, 64 * 1024, 8 * 1024, 1, 0][net.dice.below(5)];
    }
    for peer in 1..count {
        let other = net.dice.below(peer);
        let delay = net.dice.below(120) as u64;
        let sides = if net.dice.percent(50) { [peer, other] } else { [other, peer] };
        net.add_link(sides, delay);
    }
    for _ in 0..net.dice.below(3) {
        let (a, b) = (net.dice.below(count), net.dice.below(count));
        if a != b {
            net.add_link([a, b], 5);
        }
    }
    for link in 0..net.links.len() {
        // Some read slowly, some links are opened from both ends, some from the far one only.
        net.links[link].rate = [0, 1].map(|_| [u64::MAX, 2000, 300][net.dice.below(3)]);
        net.links[link].opens = [[true, false], [true, true], [false, true]][net.dice.below(3)];
    }
    // A history of the first peer, which the others have or not.
    for _ in 0..net.dice.below(60) {
        writer(&mut net, 0);
    }
    for peer in 1..count {
        if net.dice.percent(50) {
            let share = net.dice.below(101) as u64;
            copy(&mut net, 0, peer, share);
        }
    }
    for peer in 0..count {
        for _ in 0..net.dice.below(20) {
            writer(&mut net, peer);
        }
    }
    net
}

/// Gives a peer the first so many percent of what another has.
pub(crate) fn copy(net: &mut Net, from: usize, to: usize, percent: u64) {
    for timeline in net.timelines.clone() {
        let records: Vec<Vec<u8>> =
            net.peers[from].toy.log(&timeline).map_or_else(Vec::new, |log| log.entries.iter().map(|entry| entry.record.clone()).collect());
        let count = records.len() * percent as usize / 100;
        for record in &records[..count] {
            net.peers[to].toy.admit(record).expect("causes come first");
        }
    }
}

/// Connects all, lets things go wrong for a while, then heals.
pub(crate) fn trouble(net: &mut Net) -> u64 {
    for link in 0..net.links.len() {
        let ms = 1000 + net.dice.below(50) as u64;
        net.at(ms, Deed::Connect(link));
    }
    let mut ms = 1000;
    for _ in 0..net.dice.below(60) {
        ms += net.dice.below(150) as u64;
        let deed = match net.dice.below(10) {
            0 | 1 => Deed::Cut(net.dice.below(net.links.len())),
            2 | 3 => Deed::Connect(net.dice.below(net.links.len())),
            4 => Deed::Restart(net.dice.below(net.peers.len())),
            _ => Deed::Write(net.dice.below(net.peers.len())),
        };
        net.at(ms, deed);
    }
    for link in 0..net.links.len() {
        net.at(ms + 200, Deed::Connect(link));
    }
    if net.feeds {
        for _ in 0..40 {
            let at_ms = 1000 + net.dice.below((ms + 200) as usize - 1000) as u64;
            let deed = Deed::Want(net.dice.below(net.links.len()));
            net.at(at_ms, deed);
        }
        // Channels that are still being opened then are heard of the second time.
        net.at(ms + 5_000, Deed::WantAll);
        net.at(ms + 15_000, Deed::WantAll);
    }
    ms
}

fn converges(net: &mut Net) {
    let healed = trouble(net);
    // Long enough for one frame at a time over slow links, shorter than what gives up on a peer would need.
    net.run(healed + 50_000);
    let all: Vec<usize> = (0..net.peers.len()).collect();
    assert_eq!(net.all_equal(&all), Ok(()));
    let exist = net.timelines.iter().filter(|timeline| !net.peers[0].toy.ids(timeline).is_empty()).count();
    for link in &net.links {
        assert!(link.ends.is_empty(), "a link ended: {:?}", link.ends);
        assert!(link.sessions.is_some());
        for side in 0..2 {
            assert_eq!(link.caught_up[side].len(), exist, "side {side} of {:?} never caught up", link.peers);
        }
    }
}

#[test]
fn honest_peers_converge_through_cuts_and_restarts() {
    for_seeds("honest", 200, |seed| {
        let mut net = world(seed, write);
        converges(&mut net);
        assert_eq!(net.orphans, 0, "a change came before what it builds on");
    });
}

#[test]
fn authors_who_fork_their_chain_split_nobody() {
    for_seeds("forks", 150, |seed| {
        let mut net = world(seed, write_forking);
        converges(&mut net);
    });
}

/// Whatever peers say meanwhile of whom they want what: those who want everything in the end have it.
#[test]
fn who_is_sent_what_may_change_at_any_time() {
    for_seeds("feeds", 150, |seed| {
        let mut net = world(seed, if seed % 3 == 0 { write_forking } else { write });
        net.feeds = true;
        converges(&mut net);
    });
}

/// Two peers that write and are cut off now and then: between cuts nothing goes over a link twice.
#[test]
fn nothing_is_sent_twice_between_two_peers() {
    for_seeds("twice", 100, |seed| {
        let mut net = Net::new(seed, 2, write);
        let (a, b) = (net.add_peer(), net.add_peer());
        let link = net.add_link([a, b], 30);
        net.links[link].opens = [true, seed % 2 == 0];
        net.links[link].rate = [500, 2000];
        for _ in 0..net.dice.below(50) {
            write(&mut net, a);
        }
        copy(&mut net, a, b, 60);
        for peer in [a, b] {
            for _ in 0..net.dice.below(50) {
                write(&mut net, peer);
            }
        }
        for round in 0..4 {
            let begun = net.now_ms;
            net.at(begun, Deed::Connect(link));
            for _ in 0..10 {
                let ms = begun + net.dice.below(2000) as u64;
                let peer = net.dice.below(2);
                net.at(ms, Deed::Write(peer));
            }
            net.run(begun + 20_000);
            assert_eq!(net.all_equal(&[a, b]), Ok(()), "round {round}");
            net.at(net.now_ms, Deed::Cut(link));
            net.run(begun + 20_001);
            for peer in [a, b] {
                for _ in 0..net.dice.below(10) {
                    write(&mut net, peer);
                }
            }
        }
        for side in 0..2 {
            let counters = net.counters(link, side);
            assert_eq!((counters.duplicates, counters.needs_sent), (0, 0), "side {side}: {counters:?}");
        }
        assert_eq!(net.orphans, 0);
    });
}

/// Writes as `write` does, but mostly on top of nothing but its own: so that not all builds on all.
fn write_beside(net: &mut Net, peer: usize) {
    if net.dice.percent(20) {
        return write(net, peer);
    }
    let timeline = net.timelines[net.dice.below(net.timelines.len())];
    let body = net.dice.bytes().to_vec();
    net.peers[peer].toy.write(&Author::pretended(peer as u8 + 1), timeline, Some(&[]), None, body);
    net.appended(peer, timeline, None);
}

/// What of a timeline does not build on what an author wrote.
fn beside(net: &Net, timeline: &TimelineId, author: &PublicKey) -> BTreeSet<ChangeId> {
    let mut out = BTreeSet::new();
    let mut above = BTreeSet::new();
    for peer in &net.peers {
        // Causes come first.
        for entry in peer.toy.log(timeline).into_iter().flat_map(|log| &log.entries) {
            let is_above = peer.toy.is_by(timeline, &entry.id, author) || entry.deps.iter().any(|dep| above.contains(dep));
            if is_above {
                above.insert(entry.id)
            } else {
                out.insert(entry.id)
            };
        }
    }
    out
}

/// One peer takes nothing of somebody who writes all the time. It gets everything else, as does everybody, and nobody is
/// blamed; and whoever knows how to leave that author out does, and says how far his chain is.
#[test]
fn whoever_is_not_taken_is_left_out_and_nobody_else() {
    let told = Cell::new(0);
    for_seeds("held", 150, |seed| {
        let mut net = world(seed, write_beside);
        let last = net.peers.len() - 1;
        let author = Author::pretended(last as u8 + 1).key;
        for peer in 0..=last {
            net.peers[peer].weighs = seed % 4 > 0 && (seed % 4 > 1 || net.dice.percent(50));
        }
        net.peers[0].toy.held.insert(author);
        let had: Vec<BTreeSet<ChangeId>> = net.timelines.iter().map(|timeline| net.peers[0].toy.ids(timeline)).collect();
        let healed = trouble(&mut net);
        net.run(healed + 50_000);
        for (timeline, had) in net.timelines.iter().zip(had) {
            let all = beside(&net, timeline, &author);
            for (peer, it) in net.peers.iter().enumerate() {
                assert!(it.toy.ids(timeline).is_superset(&all), "peer {peer} lacks what has nothing to do with him");
            }
            let toy = &net.peers[0].toy;
            assert!(toy.ids(timeline).iter().all(|id| had.contains(id) || !toy.is_by(timeline, id, &author)), "something of his was taken");
        }
        for link in &net.links {
            assert!(link.ends.is_empty() && link.sessions.is_some(), "a link ended: {:?}", link.ends);
            let Some(side) = link.peers.iter().position(|peer| *peer == 0) else { continue };
            let other = &net.peers[link.peers[1 - side]];
            for timeline in net.timelines.iter().filter(|_| net.peers[0].weighs && other.weighs) {
                let far = |toy: &Toy| toy.log(timeline).map_or(0, |log| log.tips_of(&author).last().map_or(0, |(tip, _)| tip.seq));
                if far(&other.toy) > far(&net.peers[0].toy) {
                    assert_eq!(link.weighed[side].get(&(*timeline, author)), Some(&far(&other.toy)), "how much waits");
                    told.set(told.get() + 1);
                }
            }
        }
    });
    assert!(told.get() > 50 || setting("TIMEBUS_SYNC_SEED").is_some(), "only {} times was anything told", told.get());
}
