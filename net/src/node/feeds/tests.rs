use super::asking::{BUSY_MS, SILENT_MS, SLOW_MS};
use super::serving::{FAR_TELLS, TURN_MS};
use super::*;
use crate::sync::Input;

const MINUTE_MS: u64 = 60_000;

fn own() -> PublicKey {
    PublicKey::from_bytes([7; 32])
}

fn neighbour(wants: Wants, bytes: u64, ahead_ms: Option<u64>) -> Neighbour {
    Neighbour {
        agrees: true,
        place: None,
        theirs: wants,
        theirs_ms: 0,
        ours: Wants::Nothing,
        is_busy: false,
        bytes: Some(bytes),
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

/// He does not know what is here, and would hand on all that he gets.
#[test]
fn who_is_far_behind_is_asked_for_nothing_until_he_has_caught_up() {
    let mut feed = feed([neighbour(Wants::News, 4 * FAR, None), neighbour(Wants::Nothing, FAR, None), neighbour(Wants::All, FAR, None)]);
    (feed.source, feed.bytes) = (Some(1), 4 * FAR);
    let wants = |feed: &Feed| (1..4).map(|link| feed.wants(link, &feed.neighbours[&link], false)).collect::<Vec<_>>();
    assert_eq!(wants(&feed), [Wants::All, Wants::Nothing, Wants::News], "what the last one gets comes from here");
    feed.neighbours.values_mut().for_each(|it| it.bytes = Some(4 * FAR - 1));
    assert_eq!(wants(&feed), [Wants::All, Wants::News, Wants::News]);
    // What he writes himself those hear of who are ahead, or they would never ask.
    (feed.bytes, feed.end, feed.heads) = (FAR, 9, vec![ChangeId([3; 32])]);
    let mut told = Vec::new();
    feed.tell(None, MINUTE_MS, TELL_MS, &mut told);
    assert!(told.iter().any(|(link, _)| *link == 2), "{told:?}");
    let at_ms = feed.serves_next_ms(TELL_MS, MINUTE_MS);
    feed.end = 10;
    assert!(at_ms.is_none() && feed.serves_next_ms(TELL_MS, MINUTE_MS) == Some(MINUTE_MS + FAR_TELLS * TELL_MS));
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
    let (asked, count) = asked(&mut feed, SILENT_MS);
    assert!(asked.is_empty() && count < 20, "{count} decisions, {asked:?}");
    feed.neighbours.insert(4, neighbour(Wants::Nothing, far, Some(0)));
    assert_eq!(feed.candidate(&own(), SILENT_MS), Some(4));
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
        feed.bytes += own;
        let it = feed.neighbours.get_mut(&2).expect("a neighbour");
        it.bytes = it.bytes.map(|bytes| bytes + theirs);
        feed.is_slow(feed.before.1 + SLOW_MS)
    };
    assert!(!step(10 * FAR, 20 * FAR));
    assert!(step(10 * FAR, 30 * FAR));
    assert!(!step(10 * FAR, 10 * FAR), "what was before does not count");
}

#[test]
fn heads_that_were_not_all_told_show_in_how_many_bytes_there_are() {
    let mut it = neighbour(Wants::Nothing, 11, None);
    it.has_more = true;
    let mut feed = feed([it]);
    feed.bytes = 11;
    feed.compare_with(1, 5, |_| true);
    assert_eq!(feed.neighbours[&1].ahead_ms, None);
    feed.bytes = 10;
    feed.compare_with(1, 6, |_| true);
    assert_eq!(feed.neighbours[&1].ahead_ms, Some(6));
}

#[test]
fn at_first_those_line_up_who_have_nothing_yet() {
    let far = 10 * FAR;
    let source = Neighbour { is_busy: true, ..neighbour(Wants::News, far, Some(0)) };
    let behind = Neighbour { place: Some(1), ..neighbour(Wants::Nothing, 0, None) };
    let mut feed = feed([source, neighbour(Wants::Nothing, 0, None), behind]);
    (feed.source, feed.source_ms, feed.came_ms) = (Some(1), 1000, 1000);
    feed.decide(&own(), 1000 + STAY_MS);
    assert_eq!(feed.trial, Some((3, 1000 + STAY_MS)), "nobody is asked who may wait for us");
    // As soon as somebody has it who is free, nobody waits for one who has not.
    feed.neighbours.insert(4, neighbour(Wants::Nothing, far, Some(0)));
    feed.decide(&own(), 1100 + STAY_MS);
    assert_eq!(feed.trial, Some((4, 1100 + STAY_MS)));
    // Of those who are far behind us nobody is asked, wherever they stand.
    feed.neighbours.remove(&4);
    (feed.trial, feed.bytes) = (None, 2 * FAR);
    feed.decide(&own(), 1200 + STAY_MS);
    assert_eq!(feed.trial, None);
}

#[test]
fn who_waits_in_line_is_not_held_up_by_one_who_serves_others() {
    let far = 10 * FAR;
    let source = Neighbour { is_busy: true, ..neighbour(Wants::News, far, Some(0)) };
    let mut feed = feed([source, neighbour(Wants::Nothing, far, Some(0))]);
    (feed.source, feed.source_ms, feed.came_ms, feed.trial) = (Some(1), 1000, 1000, Some((2, 1000)));
    feed.neighbours.get_mut(&2).expect("a neighbour").is_busy = true;
    // He may have said so before he was asked.
    feed.decide(&own(), 1000 + BUSY_MS - 1);
    assert_eq!(feed.trial, Some((2, 1000)));
    feed.decide(&own(), 1000 + BUSY_MS);
    assert_eq!((feed.trial, feed.neighbours[&2].failed), (None, 0), "he is asked again when he is free");
}

/// All who have it say that they are busy, and the one who does not sends nothing.
#[test]
fn nobody_waits_for_ever_for_a_source_that_is_silent() {
    let far = 10 * FAR;
    let busy = || Neighbour { is_busy: true, ..neighbour(Wants::Nothing, far, Some(0)) };
    let mut feed = feed([neighbour(Wants::Nothing, u64::MAX, Some(0)), busy(), busy()]);
    feed.has_come = false;
    let (mut now_ms, mut sources) = (1, Vec::new());
    feed.decide(&own(), now_ms);
    while let Some(at_ms) = feed.next_ms(TELL_MS, now_ms).filter(|at_ms| *at_ms < MINUTE_MS) {
        sources.extend(feed.source.filter(|source| sources.last() != Some(source)));
        now_ms = at_ms;
        feed.decide(&own(), now_ms);
    }
    assert!(sources.starts_with(&[1]) && sources.contains(&2) && sources.contains(&3), "{sources:?}");
}

/// Somebody claims to have much and never sends it. What is small comes from others meanwhile, and he is found out.
#[test]
fn who_claims_much_and_is_busy_for_ever_is_found_out() {
    let liar = Neighbour { is_busy: true, ..neighbour(Wants::Nothing, u64::MAX, Some(0)) };
    let mut feed = feed([neighbour(Wants::News, 10, None), liar]);
    feed.source = Some(1);
    let (mut now_ms, mut count) = (1, 0);
    while let Some(at_ms) = feed.next_ms(TELL_MS, now_ms).filter(|at_ms| *at_ms < MINUTE_MS && feed.is_far()) {
        now_ms = at_ms;
        feed.decide(&own(), now_ms);
        count += 1;
    }
    assert!(!feed.is_far() && count < 100, "{count} decisions, {feed:?}");
    assert_eq!(feed.neighbours[&1].failed, 0, "who is honest is not blamed");
}

#[test]
fn when_all_have_the_same_one_goes_up_the_line_only() {
    let source = Neighbour { is_busy: true, ..neighbour(Wants::News, 10, None) };
    let up = |place| Neighbour { place: Some(place), ..neighbour(Wants::Nothing, 10, None) };
    let mut feed = feed([source, neighbour(Wants::Nothing, 10, None), up(7), up(3), Neighbour { is_busy: true, ..up(2) }]);
    feed.source = Some(1);
    assert_eq!(feed.freer(MINUTE_MS), Some(4));
    feed.neighbours.retain(|link, _| *link <= 2);
    assert_eq!(feed.freer(MINUTE_MS), None, "else rings came about");
    feed.neighbours.insert(3, Neighbour { bytes: Some(0), ..up(3) });
    feed.bytes = 2 * FAR;
    assert_eq!(feed.freer(MINUTE_MS), None, "who lacks much would send what is here");
}

/// Whose turn it is of those for whom that changed.
fn turns(feed: &mut Feed, now_ms: u64, has_all: impl Fn(LinkId) -> bool) -> Vec<(LinkId, bool)> {
    let mut inputs = Vec::new();
    feed.serve(now_ms, true, &|link| (has_all(link), 0), &mut inputs);
    inputs.into_iter().filter_map(|(link, input)| if let Input::Turn { is_turn, .. } = input { Some((link, is_turn)) } else { None }).collect()
}

#[test]
fn who_asks_for_what_is_new_and_lacks_much_waits_for_his_turn() {
    let mut feed = feed([neighbour(Wants::All, 0, None), neighbour(Wants::News, 0, None), neighbour(Wants::News, 0, None)]);
    let has_all = |link| link == 3;
    assert_eq!(turns(&mut feed, 5 * TURN_MS, has_all), [], "what is new goes out at once");
    assert_eq!(turns(&mut feed, 5 * TURN_MS + STAY_MS, has_all), [(2, false)], "that would have been sent by now");
    assert_eq!(turns(&mut feed, 7 * TURN_MS, has_all), [], "it waits like anybody");
    assert_eq!(turns(&mut feed, 8 * TURN_MS, has_all), [(2, true)], "and has its part like anybody");
    assert_eq!(turns(&mut feed, 9 * TURN_MS, has_all), [(2, false)]);
    assert_eq!(turns(&mut feed, 9 * TURN_MS + 1, |_| true), [(2, true)], "as soon as it has all, what is new goes out at once");
}

#[test]
fn who_is_late_with_something_small_is_not_taken_to_have_nothing() {
    let mut feed = feed([neighbour(Wants::News, 10, Some(0)), neighbour(Wants::Nothing, 10, Some(0))]);
    for (round, [late, early]) in (1..).zip([[1, 2], [2, 1], [1, 2], [2, 1], [1, 2]]) {
        (feed.source, feed.trial) = (Some(late), Some((early, round * MINUTE_MS)));
        feed.came(early, round * MINUTE_MS);
        assert!(feed.source == Some(early) && feed.neighbours[&late].is_ahead(), "{feed:?}");
    }
    // Twice in a row.
    for round in [10, 11, 12] {
        (feed.source, feed.trial) = (Some(1), Some((2, round * MINUTE_MS)));
        feed.came(2, round * MINUTE_MS);
    }
    assert!(feed.neighbours[&1].is_ahead() && feed.neighbours[&1].failed_ms == 12 * MINUTE_MS, "{feed:?}");
}
