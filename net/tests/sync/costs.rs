//! What syncing costs: round trips and bytes, without anything going wrong.

use crate::dag::Author;
use crate::sim::{Deed, Net};
use crate::worlds::{copy, write, write_to};

const DELAY_MS: u64 = 100;

struct Cost {
    /// From the Open to the last change that was stored, in round trips.
    round_trips: f64,
    bytes: u64,
    /// Of the changes that were missing on either side.
    missing_bytes: u64,
    missing: u64,
    sent: u64,
}

/// Two peers with so many common changes of a few authors, and some that only one has.
fn two(common: usize, ahead: [usize; 2]) -> (Net, usize) {
    let mut net = Net::new(7, 2, write);
    let (a, b) = (net.add_peer(), net.add_peer());
    let link = net.add_link([a, b], DELAY_MS);
    for peer in [a, b] {
        net.peers[peer].store_ms = 0;
    }
    let main = net.timelines[1];
    net.timelines = vec![main];
    for n in 0..common {
        let author = Author::pretended(10 + (n % 5) as u8);
        net.peers[a].toy.write(&author, main, None, None, vec![7; 300]);
    }
    copy(&mut net, a, b, 100);
    for (peer, count) in [a, b].into_iter().zip(ahead) {
        (0..count).for_each(|_| write_to(&mut net, peer, main, 300));
    }
    (net, link)
}

fn bytes(net: &Net) -> u64 {
    let sizes =
        |peer: usize| net.peers[peer].toy.log(&net.timelines[0]).map_or(0, |log| log.entries.iter().map(|entry| entry.record.len() as u64).sum());
    sizes(0) + sizes(1)
}

/// Connects, and says what it took until both have the same.
fn sync(net: &mut Net, link: usize) -> Cost {
    let (before_bytes, before) = (bytes(net), [0, 1].map(|side| net.counters(link, side)));
    let begun = net.now_ms;
    net.last_stored_ms = 0;
    net.at(begun, Deed::Connect(link));
    net.run(begun + 10_000);
    assert_eq!(net.all_equal(&[0, 1]), Ok(()));
    let after = [0, 1].map(|side| net.counters(link, side));
    let total = |count: fn(&timebus_net::sync::Counters) -> u64| after.iter().map(count).sum::<u64>() - before.iter().map(count).sum::<u64>();
    // Hello and Auth are one way each, then comes the Open.
    let opened = begun + 2 * DELAY_MS;
    let missing_bytes = bytes(net) - before_bytes;
    net.at(net.now_ms, Deed::Cut(link));
    net.run(net.now_ms + 1);
    Cost {
        round_trips: net.last_stored_ms.saturating_sub(opened) as f64 / (2 * DELAY_MS) as f64,
        bytes: total(|counters| counters.bytes_sent),
        missing_bytes,
        missing: total(|counters| counters.admitted),
        sent: total(|counters| counters.changes_sent),
    }
}

fn tell(name: &str, cost: &Cost) {
    let Cost { round_trips, bytes, missing_bytes, missing, .. } = cost;
    let ratio = *bytes as f64 / (*missing_bytes).max(1) as f64;
    eprintln!("{name}: {missing} changes missing, {missing_bytes} bytes; {bytes} bytes sent ({ratio:.3}), {round_trips} round trips");
}

#[test]
fn equal_peers_exchange_a_few_bytes() {
    let (mut net, link) = two(200, [0, 0]);
    let cost = sync(&mut net, link);
    tell("equal", &cost);
    assert_eq!((cost.sent, cost.round_trips), (0, 0.0));
    assert!(cost.bytes < 1200, "{} bytes", cost.bytes);
}

#[test]
fn who_is_behind_has_all_after_one_round_trip() {
    let (mut net, link) = two(200, [0, 10]);
    let cost = sync(&mut net, link);
    tell("opener behind", &cost);
    assert_eq!((cost.missing, cost.sent), (10, 10));
    assert!(cost.round_trips <= 1.0);
    let (mut net, link) = two(200, [10, 0]);
    let cost = sync(&mut net, link);
    tell("opener ahead", &cost);
    assert_eq!((cost.missing, cost.sent), (10, 10));
    // What was asked for with the Open goes out when the other side has agreed.
    assert!(cost.round_trips <= 1.5);
}

#[test]
fn diverged_peers_need_two_round_trips_and_little_more_than_what_is_missing() {
    for (each, most) in [(5, 3.0), (500, 1.05), (2000, 1.02)] {
        let (mut net, link) = two(1000, [each, each]);
        for peer in 0..2 {
            // Latency is what is measured here, so nothing waits for credit.
            net.peers[peer].window_bytes = 64 * 1024 * 1024;
        }
        let cost = sync(&mut net, link);
        tell("diverged", &cost);
        assert_eq!((cost.missing, cost.sent), (2 * each as u64, 2 * each as u64), "nothing is sent twice");
        assert!(cost.round_trips <= 2.0 || each > 500, "{} round trips", cost.round_trips);
        assert!((cost.bytes as f64) < most * cost.missing_bytes as f64, "{} bytes for {}", cost.bytes, cost.missing_bytes);
    }
}

#[test]
fn peers_that_met_before_go_on_after_one_round_trip() {
    let (mut net, link) = two(300, [5, 5]);
    sync(&mut net, link);
    let main = net.timelines[0];
    for peer in 0..2 {
        (0..50).for_each(|_| write_to(&mut net, peer, main, 300));
    }
    // The one who agrees sends at once; the one who opens as soon as he hears that it is agreed.
    let cost = sync(&mut net, link);
    tell("with cursors", &cost);
    assert_eq!((cost.missing, cost.sent), (100, 100));
    assert!(cost.round_trips <= 1.5);
    assert!((cost.bytes as f64) < 1.05 * cost.missing_bytes as f64);
}
