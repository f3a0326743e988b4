//! Whom a timeline is sent to, and what its neighbours are told: those who get it are served one after another, so that the
//! first has something to hand on early.

use timebus_store::ids::TimelineId;

use super::{ALL_MAX, FAR, Feed, Neighbour, STAY_MS};
use crate::node::LinkId;
use crate::sync::Input;
use crate::sync::frame::Wants;

/// Of those who want much the first is served all the time, some others for so long only, so that they have something to hand
/// on, and then come to be behind somebody whom nobody asks yet.
pub(super) const TURN_MS: u64 = 500;
const FIRST: u64 = 3;
/// After so many times that, the second gets it half of the time, after twice as many the third for a third of it, and so on up
/// to [`FIRST`]: nobody else has it for them.
const PATIENCE: u64 = 8;
/// Bytes on their way to others with which the line still carries more at once: some frames, more than a line far away holds.
const LEVEL_BYTES: u64 = 192 * 1024;
/// Who has much more is told so much more seldom what is here.
pub(super) const FAR_TELLS: u64 = 3;
/// Bytes that somebody is sent at first whose turn it is.
const DOSE_BYTES: u64 = 32 * 1024;
/// Who has so many who get everything from him asks the others to get it from somebody else.
const CHILDREN_MAX: usize = 6;

/// Whether somebody was sent all that there is for him, and how many bytes are on their way to him.
pub(super) type OnItsWay<'a> = &'a dyn Fn(LinkId) -> (bool, u64);

impl Feed {
    /// Decides whose turn it is, and says so to those for whom that changed. Returns for whom all others wait, if for anybody.
    pub(super) fn serve(&mut self, now_ms: u64, has_feeds: bool, on_its_way: OnItsWay, inputs: &mut Vec<(LinkId, Input)>) -> Option<LinkId> {
        let (timeline, is_far) = (self.timeline, self.is_far());
        // Among few nobody asks somebody else meanwhile.
        let dose = if self.neighbours.len() > ALL_MAX { DOSE_BYTES } else { u64::MAX };
        let mut bytes = 0;
        let mut queue: Vec<(u64, LinkId)> = Vec::new();
        for (link, it) in &mut self.neighbours {
            let (has_all, sent) = on_its_way(*link);
            if it.theirs == Wants::All {
                queue.push((it.theirs_ms, *link));
                continue;
            }
            // What those were sent who do not want it any more is on the line, too.
            bytes += sent;
            let is_behind = it.theirs == Wants::News && !has_all;
            it.behind_ms = is_behind.then(|| it.behind_ms.unwrap_or(now_ms));
            // What is new goes out at once. Who lacks more than that takes his place among those who want everything.
            if it.has_waited(now_ms) {
                queue.push((it.theirs_ms, *link));
            } else {
                // Who asks for everything next is not sent it before it is his turn.
                it.turns(*link, timeline, !has_feeds || it.theirs == Wants::News, dose, inputs);
            }
        }
        queue.sort_unstable();
        let (mut first_behind, mut before) = (None, 0);
        for (since_ms, link) in queue {
            let (has_all, sent) = on_its_way(link);
            bytes += sent;
            let is_level = has_all && bytes <= LEVEL_BYTES;
            let Some(it) = self.neighbours.get_mut(&link) else { continue };
            let turn = now_ms.saturating_sub(since_ms) / TURN_MS;
            it.turn_ms = since_ms + TURN_MS * (turn + 1);
            let is_first = before == 0 || turn == 0 && before < FIRST && !is_far;
            let is_turn = !has_feeds || is_first || (turn >= PATIENCE * before && turn.is_multiple_of(before + 1));
            it.turns(link, timeline, is_turn, dose, inputs);
            it.behind_ms = (!is_level).then(|| it.behind_ms.unwrap_or(now_ms));
            // However many wait who take nothing, the others get a part.
            before = (before + u64::from(is_far || !is_level)).min(FIRST);
            // Who hands on what comes just as fast is not free.
            if is_far || it.has_waited(now_ms) {
                first_behind.get_or_insert(link);
            }
        }
        first_behind
    }

    /// Tells the neighbours what is here and what is wanted of them, no more often than each `tell_ms` what is no hurry.
    pub(super) fn tell(&mut self, first_behind: Option<LinkId>, now_ms: u64, tell_ms: u64, inputs: &mut Vec<(LinkId, Input)>) {
        let (timeline, is_far, is_small) = (self.timeline, self.is_far(), self.neighbours.len() <= ALL_MAX);
        // Those who get everything from here, those first who do so for longest.
        let children = self.neighbours.iter().filter(|(_, it)| it.theirs == Wants::All);
        let mut children: Vec<(u64, LinkId)> = children.map(|(link, it)| (it.theirs_ms, *link)).collect();
        children.sort_unstable();
        let spare: Vec<LinkId> = children.iter().skip(CHILDREN_MAX).map(|(_, link)| *link).collect();
        let links: Vec<LinkId> = self.neighbours.keys().copied().collect();
        for link in links {
            let Some(it) = self.neighbours.get(&link).filter(|it| it.agrees) else { continue };
            let wants = self.wants(link, it, is_far);
            let is_full = children.len() >= CHILDREN_MAX && it.theirs != Wants::All;
            let is_busy = is_full || spare.contains(&link) || first_behind.is_some_and(|first| first != link);
            let is_news = self.is_to_be_told(it) || is_busy != it.told_busy;
            // Among few it is the same.
            let is_other = wants != it.ours && !(is_small && wants == Wants::News && it.ours == Wants::All);
            // Who waits is told at once whether others are before him.
            let is_late = it.theirs == Wants::All && is_busy != it.told_busy;
            let is_told = is_other || is_late || (is_news && it.told_ms + self.tell_pause_ms(it, tell_ms) <= now_ms);
            let end = self.end;
            let Some(it) = self.neighbours.get_mut(&link) else { continue };
            if is_told {
                (it.ours, it.told_end, it.told_ms, it.told_busy, it.is_other_busy) = (wants, end, now_ms, is_busy, false);
                inputs.push((link, Input::Feed { timeline, wants, is_busy }));
            } else {
                it.is_other_busy = is_busy != it.told_busy;
            }
        }
    }

    /// When to serve and tell anew, if nothing happens before.
    pub(super) fn serves_next_ms(&self, tell_ms: u64, now_ms: u64) -> Option<u64> {
        let turns = self.neighbours.values().filter(|it| it.behind_ms.is_some() || !it.is_turn).map(|it| it.turn_ms);
        let behind = self.neighbours.values().filter_map(|it| it.behind_ms).map(|behind_ms| behind_ms + STAY_MS);
        let turns = turns.chain(behind).filter(|at_ms| *at_ms > now_ms);
        let tells =
            self.neighbours.values().filter(|it| it.is_other_busy || self.is_to_be_told(it)).map(|it| it.told_ms + self.tell_pause_ms(it, tell_ms));
        turns.chain(tells).min()
    }

    /// The least time between two frames that tell a neighbour of news. What comes to who is far behind is no news to those ahead
    /// of him, unless he wrote it.
    fn tell_pause_ms(&self, it: &Neighbour, tell_ms: u64) -> u64 {
        let is_far_ahead = it.bytes.is_some_and(|bytes| bytes > self.bytes.saturating_add(FAR));
        if is_far_ahead { FAR_TELLS * tell_ms } else { tell_ms }
    }

    /// Whether a neighbour is to be told what is here: it does not get it, and may lack it.
    fn is_to_be_told(&self, it: &Neighbour) -> bool {
        let lacks = !self.heads.iter().all(|head| it.heads.contains(head));
        it.agrees && it.theirs == Wants::Nothing && it.told_end != self.end && lacks
    }
}

impl Neighbour {
    /// Whether it has lacked something of what it gets from here for a while.
    fn has_waited(&self, now_ms: u64) -> bool {
        self.behind_ms.is_some_and(|behind_ms| behind_ms + STAY_MS <= now_ms)
    }

    fn turns(&mut self, link: LinkId, timeline: TimelineId, is_turn: bool, dose: u64, inputs: &mut Vec<(LinkId, Input)>) {
        if std::mem::replace(&mut self.is_turn, is_turn) != is_turn {
            inputs.push((link, Input::Turn { timeline, is_turn, dose }));
        }
    }
}
