//! From whom a timeline is to come: who is the source, and who is asked beside it.

use timebus_identity::{PublicKey, hash};

use super::{AGAIN_MS, ALL_MAX, FAR, Feed, Neighbour, STAY_MS};
use crate::node::LinkId;
use crate::sync::frame::Wants;

/// Milliseconds that something may be told of without coming, before somebody else is asked for it: it comes from hop to hop,
/// and the news of it straight from whoever has it.
const WAIT_MS: u64 = 400;
/// The same while much is on its way: frames of several who share a line come one after another.
const FAR_WAIT_MS: u64 = 1_000;
/// How long somebody has to send some of it, before the next is asked.
const TRIAL_MS: u64 = 1_000;
/// The same if he said that others wait for it, maybe before he was asked.
pub(super) const BUSY_MS: u64 = 150;
/// The same if he has it not yet himself.
const LINE_MS: u64 = 3_000;
/// A source that sends nothing for so long while there is much is none any more, whoever it is: all others may say that they
/// are busy, and he may lie.
pub(super) const SILENT_MS: u64 = 10_000;
/// After each so many milliseconds it is seen whether the source gets on.
pub(super) const SLOW_MS: u64 = 5_000;
/// If it would need so many times that for the rest, somebody else is tried.
const SLOW_PART: u64 = 24;

impl Feed {
    /// Changes came from a neighbour that were not here.
    pub(in crate::node) fn came(&mut self, link: LinkId, now_ms: u64) {
        (self.has_come, self.came_ms, self.is_due) = (true, now_ms, true);
        self.neighbours.get_mut(&link).into_iter().for_each(|it| it.failed = 0);
        if self.trial.is_some_and(|(trial, _)| trial == link) || self.source.is_none() {
            // Who keeps one waiting for something small is not chosen again for where he stands.
            if !self.is_far()
                && let Some(late) = self.source.filter(|source| *source != link).and_then(|source| self.neighbours.get_mut(&source))
            {
                // He does send it, only later than others: he is not one who has nothing.
                (late.failed_ms, late.failed) = (now_ms, late.failed.max(1));
            }
            (self.source, self.source_ms, self.trial) = (Some(link), now_ms, None);
        }
    }

    /// Decides from whom it is to come.
    pub(super) fn decide(&mut self, own: &PublicKey, now_ms: u64) {
        if let Some((trial, since_ms)) = self.trial
            && since_ms + self.trial_ms(trial) <= now_ms
        {
            self.trial = None;
            // Who has others to serve first is free another time, and who has little for all sends it at once.
            let is_far = self.is_far();
            match self.neighbours.get_mut(&trial) {
                Some(it) if it.is_busy && is_far => {}
                // Who has it not himself did not fail, but others come first next time.
                Some(it) if it.ahead_ms.is_none() => it.failed_ms = now_ms,
                Some(it) => it.fails(now_ms),
                None => {}
            }
        }
        if self.silent_ms().is_some_and(|at_ms| at_ms <= now_ms)
            && let Some(it) = self.source.take().and_then(|source| self.neighbours.get_mut(&source)).filter(|it| it.is_ahead())
        {
            it.fails(now_ms);
        }
        if let Some(other) = self.freer(now_ms) {
            if let Some(it) = self.source.and_then(|source| self.neighbours.get_mut(&source)) {
                it.failed_ms = now_ms;
            }
            (self.source, self.source_ms) = (Some(other), now_ms);
        }
        if self.source.is_none() {
            let last = |it: &Neighbour| (it.theirs == Wants::All, it.failed, it.is_busy, it.failed_ms);
            let ahead = self.neighbours.iter().filter(|(_, it)| it.is_ahead()).min_by_key(|(_, it)| last(it));
            // Who has everything and never got it from anybody is whom it comes from.
            let level = || self.neighbours.iter().filter(|_| self.has_come).max_by_key(|(link, it)| (it.bytes, std::cmp::Reverse(**link)));
            (self.source, self.source_ms) = (ahead.or_else(level).map(|(link, _)| *link), now_ms);
        }
        let is_slow = self.is_slow(now_ms);
        let is_in_line = self.trial.and_then(|(trial, _)| self.neighbours.get(&trial)).is_none_or(|it| it.ahead_ms.is_none());
        if is_in_line && (is_slow || self.ask_ms() <= now_ms) {
            self.trial = self.candidate(own, now_ms).map(|link| (link, now_ms)).or(self.trial);
        }
    }

    /// From when on somebody may be asked for what he has and is not here: who gets it from us has nothing, and who serves
    /// others sends nothing as long as there is much.
    fn may_ask_ms(&self, link: LinkId, it: &Neighbour, is_far: bool) -> Option<u64> {
        if Some(link) == self.source || is_far && it.agrees && (it.is_busy || it.theirs == Wants::All) {
            return None;
        }
        match it.ahead_ms {
            _ if is_far && (it.ahead_ms.is_some() || self.may_follow(it)) => Some(it.again_ms()),
            Some(ahead_ms) if !is_far => Some((ahead_ms + WAIT_MS).max(it.again_ms())),
            _ => None,
        }
    }

    /// Whether somebody who has no more than we may be asked: he will have it sooner, as he comes before us.
    fn may_follow(&self, it: &Neighbour) -> bool {
        it.place.is_some() && it.agrees && !self.is_far_behind(it)
    }

    /// Whom to ask next, of those who have something that is not here: who is free, and was not asked in vain lately.
    pub(super) fn candidate(&self, own: &PublicKey, now_ms: u64) -> Option<LinkId> {
        let is_far = self.is_far();
        let is_ahead = |it: &Neighbour| it.ahead_ms.is_some();
        // Who is asked already and has it not yet himself is left for one who has it only.
        let may = |it: &Neighbour| self.trial.is_none() || is_ahead(it);
        let due = |link: LinkId, it: &Neighbour| self.may_ask_ms(link, it, is_far).is_some_and(|at_ms| at_ms <= now_ms);
        let all = self.neighbours.iter().filter(|(link, it)| may(it) && due(**link, it));
        // Who has nothing himself stands just before us, if that is known: of all who line up each has another one there.
        let distance = |it: &Neighbour| if is_ahead(it) { 0 } else { u64::MAX - it.place.unwrap_or(0) };
        // Others each time and for each, so that not all ask the same.
        let chance = |link: LinkId| hash("feed", &[own.as_bytes(), &link.to_be_bytes(), &now_ms.to_be_bytes()]);
        // Those who have everything are asked last: all others want it from them.
        let most = self.neighbours.values().filter_map(|it| it.bytes).max();
        let has_most = |it: &Neighbour| it.bytes.is_none() || it.bytes == most;
        all.min_by_key(|(link, it)| (it.is_busy, it.failed_ms, !is_ahead(it), has_most(it), distance(it), chance(**link))).map(|(link, _)| *link)
    }

    /// From when on somebody beside the source is asked: nothing came for so long, or others get it from there too.
    fn ask_ms(&self) -> u64 {
        let is_crowded = self.is_far() && self.source.and_then(|source| self.neighbours.get(&source)).is_some_and(|it| it.is_busy);
        let at_ms = self.came_ms + self.wait_ms();
        if is_crowded { at_ms.min(self.source_ms + STAY_MS) } else { at_ms }
    }

    /// How long nothing may come before somebody else is asked.
    fn wait_ms(&self) -> u64 {
        if self.has_come && self.is_far() { FAR_WAIT_MS } else { WAIT_MS }
    }

    /// When the source has sent nothing for too long, though there is much.
    fn silent_ms(&self) -> Option<u64> {
        self.source.filter(|_| self.is_far()).map(|_| self.came_ms.max(self.source_ms) + SILENT_MS)
    }

    /// When to decide anew, if nothing happens before.
    pub(super) fn asks_next_ms(&self) -> Option<u64> {
        let (is_far, ask_ms) = (self.is_far(), self.ask_ms());
        let all = self.neighbours.iter().filter(|_| self.trial.is_none());
        let asks = all.filter_map(|(link, it)| self.may_ask_ms(*link, it, is_far)).map(|at_ms| at_ms.max(ask_ms));
        let trial = self.trial.map(|(trial, since_ms)| since_ms + self.trial_ms(trial));
        asks.chain(trial).chain(self.silent_ms()).min()
    }

    /// How long somebody has to send some of it.
    fn trial_ms(&self, link: LinkId) -> u64 {
        match self.neighbours.get(&link) {
            Some(it) if it.is_busy && self.is_far() => BUSY_MS,
            Some(it) if it.ahead_ms.is_none() => LINE_MS,
            _ => TRIAL_MS,
        }
    }

    /// Who may be the source in place of one who has enough to do, when all have the same. Not somebody who gets it from here.
    pub(super) fn freer(&self, now_ms: u64) -> Option<LinkId> {
        let is_behind = self.neighbours.values().any(Neighbour::is_ahead);
        self.neighbours.get(&self.source?).filter(|it| it.is_busy && !is_behind && self.trial.is_none())?;
        let may = |it: &Neighbour| it.agrees && !it.is_busy && it.failed == 0 && it.theirs != Wants::All && !self.is_far_behind(it);
        // From where one went a moment ago one does not go back.
        let all = self.neighbours.iter().filter(|(link, it)| Some(**link) != self.source && may(it) && it.failed_ms + AGAIN_MS <= now_ms);
        // The first ones in the order have others behind them soon, so the tree that comes about is flat, and has no rings.
        all.filter_map(|(link, it)| Some((it.place?, *link))).min().map(|(_, link)| link)
    }

    /// Whether so little came in the last seconds that somebody else is to be asked for the rest: to others who are free came more
    /// than twice as much, or it would take minutes.
    pub(super) fn is_slow(&mut self, now_ms: u64) -> bool {
        let (bytes, since_ms) = self.before;
        if since_ms + SLOW_MS > now_ms && since_ms > 0 {
            return false;
        }
        self.before = (self.bytes, now_ms);
        let came = self.bytes.saturating_sub(bytes);
        let (mut is_faster, mut most) = (false, 0);
        for (link, it) in &mut self.neighbours {
            let Some(bytes) = it.bytes else { continue };
            let theirs = bytes.saturating_sub(std::mem::replace(&mut it.before, bytes));
            if Some(*link) != self.source && it.is_ahead() {
                is_faster |= !it.is_busy && it.theirs != Wants::All && theirs > came.saturating_mul(2).saturating_add(FAR);
                most = most.max(bytes);
            }
        }
        since_ms > 0 && (is_faster || most.saturating_sub(self.bytes) > FAR.max(came.saturating_mul(SLOW_PART)))
    }

    /// What is wanted of a neighbour.
    pub(super) fn wants(&self, link: LinkId, it: &Neighbour, is_far: bool) -> Wants {
        let is_source = self.source == Some(link) || self.trial.is_some_and(|(trial, _)| trial == link);
        match () {
            () if is_source || !it.agrees => Wants::All,
            // He would hand on to us what comes to him from others, as long as he does not know our heads. What he writes himself he
            // tells of.
            () if self.is_far_behind(it) && it.theirs != Wants::All => Wants::Nothing,
            // What he writes himself comes the way that everything else goes.
            () if it.theirs == Wants::All || !is_far && self.neighbours.len() <= ALL_MAX => Wants::News,
            () => Wants::Nothing,
        }
    }
}
