use super::*;

const MINUTE_MS: u64 = 60_000;

fn own() -> PublicKey {
    PublicKey::from_bytes([7; 32])
}

fn neighbour(wants: Wants, height: u64, ahead_ms: Option<u64>) -> Neighbour {
    Neighbour {
        agrees: true,
        theirs: wants,
        theirs_ms: 0,
        ours: Wants::Nothing,
        is_busy: false,
        height: Some(height),
        before: 0,
        heads: Vec::new(),
        has_more: false,
        ahead_ms,
        failed_ms: 0,
        failed: 0,
        told_end: 0,
        told_ms: 0,
        told_busy: false,
        is_other_busy: false,
        is_turn: true,
        turn_ms: 0,
        behind_ms: None,
    }
}

fn feed(neighbours: impl IntoIterator<Item = Neighbour>) -> Feed {
    let space = PublicKey::from_bytes([1; 32]);
    let mut feed = Feed::new(space, TimelineId::named(&space, "main"));
    feed.neighbours = (1..).zip(neighbours).collect();
    feed.has_come = true;
    feed
}

/// Lets time pass from one decision to the next. Says whom was asked when, and how many decisions that took.
fn asked(feed: &mut Feed, until_ms: u64) -> (Vec<(LinkId, u64)>, usize) {
    let (mut now_ms, mut all, mut count) = (1, Vec::new(), 0);
    while let Some(at_ms) = feed.next_ms(TELL_MS, now_ms).filter(|at_ms| *at_ms < until_ms) {
        now_ms = at_ms;
        feed.decide(&own(), now_ms);
        all.extend(feed.trial.filter(|(_, since_ms)| *since_ms == now_ms));
        count += 1;
    }
    (all, count)
}

#[test]
fn who_names_what_never_comes_is_asked_more_and_more_seldom() {
    let mut feed = feed([neighbour(Wants::News, 10, None), neighbour(Wants::Nothing, 11, Some(0))]);
    feed.source = Some(1);
    let (asked, count) = asked(&mut feed, 60 * MINUTE_MS);
    let of_the_first: Vec<_> = asked.iter().filter(|(_, at_ms)| *at_ms < MINUTE_MS).collect();
    assert!((3..=6).contains(&of_the_first.len()) && asked.len() < 30, "{asked:?}");
    assert!(asked.iter().all(|(link, _)| *link == 2) && count < 60, "{count} decisions, {asked:?}");
    assert!(feed.is_level(2) && feed.source == Some(1), "{feed:?}");
    // As soon as something comes it is asked like anybody.
    feed.came(2, 60 * MINUTE_MS);
    assert!(!feed.is_level(2) && feed.neighbours[&2].again_ms() == 0, "{feed:?}");
}

#[test]
fn who_lies_does_not_keep_those_waiting_who_have_it() {
    let mut feed = feed([neighbour(Wants::News, 10, None)].into_iter().chain((0..8).map(|_| neighbour(Wants::Nothing, 11, Some(0)))));
    feed.source = Some(1);
    // All but the last one lie.
    let (asked, _) = asked(&mut feed, 10_000);
    let first = asked.iter().position(|(link, _)| *link == 9);
    assert!(first.is_some_and(|first| first < 8), "everybody is asked once before anybody is asked again: {asked:?}");
}

#[test]
fn while_there_is_much_nobody_is_asked_who_serves_others_or_waits_for_us() {
    let far = 10 * FAR;
    let busy = Neighbour { is_busy: true, ..neighbour(Wants::Nothing, far, Some(0)) };
    let mut feed = feed([neighbour(Wants::News, far, Some(0)), busy, neighbour(Wants::All, far, Some(0))]);
    feed.source = Some(1);
    let (asked, count) = asked(&mut feed, 10 * MINUTE_MS);
    assert!(asked.is_empty() && count < 1000, "{count} decisions, {asked:?}");
    feed.neighbours.insert(4, neighbour(Wants::Nothing, far, Some(0)));
    assert_eq!(feed.candidate(&own(), 10 * MINUTE_MS), Some(4));
}

#[test]
fn who_shares_its_source_looks_for_another_while_there_is_much() {
    let far = 10 * FAR;
    let source = Neighbour { is_busy: true, ..neighbour(Wants::News, far, Some(0)) };
    let mut feed = feed([source, neighbour(Wants::Nothing, far - 1, Some(0))]);
    (feed.source, feed.source_ms, feed.came_ms) = (Some(1), 1000, 1000);
    feed.decide(&own(), 1000 + STAY_MS - 1);
    assert_eq!(feed.trial, None);
    feed.decide(&own(), 1000 + STAY_MS);
    assert_eq!(feed.trial.map(|(link, _)| link), Some(2));
    feed.came(2, 1400);
    assert_eq!((feed.source, feed.trial), (Some(2), None));
}

#[test]
fn who_gets_much_less_than_others_looks_for_another_source() {
    let far = 100 * FAR;
    let mut feed = feed([neighbour(Wants::News, far, Some(0)), neighbour(Wants::Nothing, far, Some(0))]);
    feed.source = Some(1);
    assert!(!feed.is_slow(1));
    let mut step = |own: u64, theirs: u64| {
        feed.height += own;
        let it = feed.neighbours.get_mut(&2).expect("a neighbour");
        it.height = it.height.map(|height| height + theirs);
        feed.is_slow(feed.before.1 + SLOW_MS)
    };
    assert!(!step(1000, 2000));
    assert!(step(1000, 3000));
    assert!(!step(1000, 1000), "what was before does not count");
}

#[test]
fn heads_that_were_not_all_told_show_in_how_many_changes_there_are() {
    let mut it = neighbour(Wants::Nothing, 11, None);
    it.has_more = true;
    let mut feed = feed([it]);
    feed.height = 11;
    feed.compare_with(1, 5, |_| true);
    assert_eq!(feed.neighbours[&1].ahead_ms, None);
    feed.height = 10;
    feed.compare_with(1, 6, |_| true);
    assert_eq!(feed.neighbours[&1].ahead_ms, Some(6));
}
