//! From whom what is new of a timeline comes, and whom it is sent to: what decides how a feed that many read spreads.
//!
//! All who sync a timeline know some of the others. Each gets it from one of them, its **source**; the others only tell it
//! what they have, in a few bytes. So the links over which content goes are a tree, over which a change reaches everybody
//! once. Where something was told of that does not come, somebody who told of it becomes the source: nobody waits longer
//! for one who went away, is slow, or lies, than [`WAIT_MS`].
//!
//! Deliberately not here: who is served first by somebody on a slow line of whom many want much at once. All are, each with
//! a part of the line.

use std::collections::BTreeMap;

use timebus_identity::{PublicKey, hash};
use timebus_store::ids::{ChangeId, TimelineId};

use super::{Act, LinkId, Node};
use crate::sync::frame::{FEED_HEADS_MAX, Wants};
use crate::sync::{Input, Replica};

/// Milliseconds that something may be told of without coming, before somebody else is asked for it.
const WAIT_MS: u64 = 250;
/// The same while much is on its way: frames of several who share a line come one after another.
const FAR_WAIT_MS: u64 = 1_000;
/// How long somebody has to send some of it, before the next is asked.
const TRIAL_MS: u64 = 1_000;
/// How long who sent nothing is not asked again, as long as there are others.
const AGAIN_MS: u64 = 3_000;
/// After each so many milliseconds it is seen whether the source gets on.
const SLOW_MS: u64 = 5_000;
/// If it would need so many times that for the rest, somebody else is tried.
const SLOW_PART: u64 = 24;
/// The least time between two frames that tell the same neighbour of news.
const TELL_MS: u64 = 200;
/// Who has so many who get everything from him asks the others to get it from somebody else.
const CHILDREN_MAX: usize = 6;
/// With no more neighbours than these all send each other what is new: it costs little, and nobody waits for anybody.
const ALL_MAX: usize = 3;
/// Who has so many changes more is far ahead: as long as there are such, one source has to do.
const FAR: u64 = 64;

/// Somebody who syncs a timeline too.
#[derive(Debug)]
struct Neighbour {
    /// Whether it speaks of this at all. Others send everything, and get everything.
    agrees: bool,
    /// What it wants of us, and since when.
    theirs: Wants,
    theirs_ms: u64,
    /// What it was told that we want.
    ours: Wants,
    is_busy: bool,
    /// How many changes it has, if it has said so.
    height: Option<u64>,
    heads: Vec<ChangeId>,
    /// Since when it has something that is not here.
    ahead_ms: Option<u64>,
    /// When it was asked last and sent nothing.
    failed_ms: u64,
    /// The end of our log when it was told last, and when that was.
    told_end: u64,
    told_ms: u64,
    /// Whether it was told last that we are busy.
    told_busy: bool,
}

/// One timeline and all who sync it.
#[derive(Debug)]
pub(super) struct Feed {
    space: PublicKey,
    timeline: TimelineId,
    neighbours: BTreeMap<LinkId, Neighbour>,
    source: Option<LinkId>,
    /// Who is asked beside the source, because that one sends nothing, and since when.
    trial: Option<(LinkId, u64)>,
    /// Whether anything ever came of somebody else.
    has_come: bool,
    /// When something came last.
    came_ms: u64,
    /// How much was here some seconds ago, and when that was.
    before: (u64, u64),
    /// What is here.
    end: u64,
    height: u64,
    heads: Vec<ChangeId>,
    /// Whether something has happened since the last decision.
    is_due: bool,
}

impl Feed {
    pub(super) fn new(space: PublicKey, timeline: TimelineId) -> Self {
        Self {
            space,
            timeline,
            neighbours: BTreeMap::new(),
            source: None,
            trial: None,
            has_come: false,
            came_ms: 0,
            before: (0, 0),
            end: 0,
            height: 0,
            heads: Vec::new(),
            is_due: false,
        }
    }

    /// Whether there is somebody from whom it comes.
    pub(super) fn is_fed(&self) -> bool {
        self.source.is_some()
    }

    /// The link over which it comes.
    pub(super) fn source(&self) -> Option<LinkId> {
        self.source
    }

    /// Whether a neighbour has nothing that is not here.
    pub(super) fn is_level(&self, link: LinkId) -> bool {
        self.neighbours.get(&link).is_some_and(|it| it.agrees && it.ahead_ms.is_none())
    }

    pub(super) fn opened(&mut self, link: LinkId, [theirs, ours]: [Wants; 2], agrees: bool, heads: Vec<ChangeId>, now_ms: u64, store: &dyn Replica) {
        let neighbour = Neighbour {
            agrees,
            theirs,
            theirs_ms: now_ms,
            ours,
            is_busy: false,
            height: None,
            heads,
            ahead_ms: None,
            failed_ms: 0,
            told_end: u64::MAX,
            told_ms: 0,
            told_busy: false,
        };
        self.neighbours.insert(link, neighbour);
        self.grew(now_ms, store);
        self.compare(link, now_ms, store);
    }

    pub(super) fn closed(&mut self, link: LinkId) {
        self.neighbours.remove(&link);
        self.source = self.source.filter(|source| *source != link);
        self.trial = self.trial.filter(|(trial, _)| *trial != link);
        self.is_due = true;
    }

    /// A neighbour said what it has and wants.
    #[expect(clippy::too_many_arguments, reason = "the fields of a frame")]
    pub(super) fn told(&mut self, link: LinkId, wants: Wants, is_busy: bool, height: u64, heads: Vec<ChangeId>, now_ms: u64, store: &dyn Replica) {
        let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
        if neighbour.theirs != wants {
            neighbour.told_busy = false;
            (neighbour.theirs, neighbour.theirs_ms) = (wants, now_ms);
        }
        (neighbour.is_busy, neighbour.height, neighbour.heads) = (is_busy, Some(height), heads);
        self.compare(link, now_ms, store);
    }

    /// Changes came from a neighbour that were not here.
    pub(super) fn came(&mut self, link: LinkId, now_ms: u64) {
        (self.has_come, self.came_ms, self.is_due) = (true, now_ms, true);
        if self.trial.is_some_and(|(trial, _)| trial == link) || self.source.is_none() {
            (self.source, self.trial) = (Some(link), None);
        }
    }

    /// Whether a neighbour has something that is not here.
    fn compare(&mut self, link: LinkId, now_ms: u64, store: &dyn Replica) {
        let t = store.local(&self.space, &self.timeline).ok().flatten();
        let is_here = |id: &ChangeId| t.is_some_and(|t| store.find(t, id).is_ok_and(|a| a.is_some()));
        if let Some(neighbour) = self.neighbours.get_mut(&link) {
            let is_ahead = !neighbour.heads.iter().all(is_here);
            neighbour.ahead_ms = is_ahead.then(|| neighbour.ahead_ms.unwrap_or(now_ms));
        }
        self.is_due = true;
    }

    /// The store may have grown.
    fn grew(&mut self, now_ms: u64, store: &dyn Replica) {
        let Some(t) = store.local(&self.space, &self.timeline).ok().flatten() else { return };
        let end = store.end(t).unwrap_or(self.end);
        if end == self.end {
            return;
        }
        self.end = end;
        self.stand(t, store);
        let ahead: Vec<LinkId> = self.neighbours.iter().filter(|(_, it)| it.ahead_ms.is_some()).map(|(link, _)| *link).collect();
        for link in ahead {
            self.compare(link, now_ms, store);
        }
        self.is_due = true;
    }

    fn stand(&mut self, t: u32, store: &dyn Replica) {
        const TIPS: usize = 64;
        if let Ok(tips) = store.tips(t, None, TIPS) {
            self.height = tips.iter().fold(0, |sum: u64, tip| sum.saturating_add(tip.seq));
        }
        if let Ok(mut heads) = store.heads(t, FEED_HEADS_MAX) {
            heads.sort_unstable();
            self.heads = heads;
        }
    }

    /// Whom to ask next, of those who have something that is not here: who is free, and was not asked in vain lately.
    fn candidate(&self, own: &PublicKey, now_ms: u64) -> Option<LinkId> {
        let is_ripe = |it: &Neighbour| it.ahead_ms.is_some_and(|ahead_ms| ahead_ms + WAIT_MS <= now_ms);
        let may = |link: &LinkId, it: &Neighbour| Some(*link) != self.source && is_ripe(it) && it.failed_ms + AGAIN_MS <= now_ms;
        let all = self.neighbours.iter().filter(|(link, it)| may(link, it));
        // Others each time and for each, so that not all ask the same.
        let chance = |link: LinkId| hash("feed", &[own.as_bytes(), &link.to_be_bytes(), &now_ms.to_be_bytes()]);
        // Those who have everything are asked last: all others want it from them.
        let most = self.neighbours.values().filter_map(|it| it.height).max();
        let has_most = |it: &Neighbour| it.height.is_none() || it.height == most;
        all.min_by_key(|(link, it)| (it.is_busy, it.failed_ms, has_most(it), chance(**link))).map(|(link, _)| *link)
    }

    /// How long nothing may come before somebody else is asked.
    fn wait_ms(&self) -> u64 {
        if self.has_come && self.is_far() { FAR_WAIT_MS } else { WAIT_MS }
    }

    /// Who may be the source in place of one who has enough to do, when all have the same. Not somebody who gets it from here.
    fn freer(&self, own: &PublicKey, now_ms: u64) -> Option<LinkId> {
        let is_behind = self.neighbours.values().any(|it| it.ahead_ms.is_some());
        self.neighbours.get(&self.source?).filter(|it| it.is_busy && !is_behind && self.trial.is_none())?;
        let may = |it: &Neighbour| it.agrees && !it.is_busy && it.theirs != Wants::All;
        let all = self.neighbours.iter().filter(|(link, it)| Some(**link) != self.source && may(it) && it.failed_ms + AGAIN_MS <= now_ms);
        all.min_by_key(|(link, _)| hash("feed", &[own.as_bytes(), &link.to_be_bytes(), &now_ms.to_be_bytes()])).map(|(link, _)| *link)
    }

    /// When to decide anew, if nothing happens before.
    pub(super) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let ahead = self.neighbours.iter().filter_map(|(link, it)| Some((link, it, it.ahead_ms?)));
        let asks = ahead
            .filter(|(link, ..)| self.trial.is_none() && Some(**link) != self.source)
            .map(|(_, it, ahead_ms)| (ahead_ms + WAIT_MS).max(self.came_ms + self.wait_ms()).max(it.failed_ms + AGAIN_MS));
        let trial = self.trial.map(|(_, since_ms)| since_ms + TRIAL_MS);
        let tells = self.neighbours.values().filter(|it| self.is_to_be_told(it)).map(|it| it.told_ms + TELL_MS);
        asks.chain(trial).chain(tells).min().map(|at_ms| at_ms.max(now_ms + 1))
    }

    /// Whether a neighbour is to be told what is here: it does not get it, and may lack it.
    fn is_to_be_told(&self, it: &Neighbour) -> bool {
        let lacks = it.heads != self.heads && it.height.is_none_or(|height| height <= self.height.saturating_add(FAR));
        it.agrees && it.theirs == Wants::Nothing && it.told_end != self.end && lacks
    }

    /// Decides from whom it is to come.
    fn decide(&mut self, own: &PublicKey, now_ms: u64) {
        if let Some((trial, since_ms)) = self.trial
            && since_ms + TRIAL_MS <= now_ms
        {
            self.trial = None;
            if let Some(neighbour) = self.neighbours.get_mut(&trial) {
                neighbour.failed_ms = now_ms;
            }
        }
        if let Some(other) = self.freer(own, now_ms) {
            if let Some(it) = self.source.and_then(|source| self.neighbours.get_mut(&source)) {
                it.failed_ms = now_ms;
            }
            self.source = Some(other);
        }
        if self.source.is_none() {
            let ahead = self.neighbours.iter().filter(|(_, it)| it.ahead_ms.is_some()).min_by_key(|(_, it)| (it.is_busy, it.failed_ms));
            // Who has everything and never got it from anybody is whom it comes from.
            let level = || self.neighbours.iter().filter(|_| self.has_come).max_by_key(|(link, it)| (it.height, std::cmp::Reverse(**link)));
            self.source = ahead.or_else(level).map(|(link, _)| *link);
        }
        let is_slow = self.is_slow(now_ms);
        if self.trial.is_none() && (is_slow || self.came_ms + self.wait_ms() <= now_ms) {
            self.trial = self.candidate(own, now_ms).map(|link| (link, now_ms));
        }
    }

    /// Whether so little came in the last seconds that somebody else is to be asked for the rest: it would take minutes.
    fn is_slow(&mut self, now_ms: u64) -> bool {
        let (height, since_ms) = self.before;
        if since_ms + SLOW_MS > now_ms && since_ms > 0 {
            return false;
        }
        self.before = (self.height, now_ms);
        let others = self.neighbours.iter().filter(|(link, it)| Some(**link) != self.source && it.ahead_ms.is_some());
        let most = others.filter_map(|(_, it)| it.height).max().unwrap_or(0);
        since_ms > 0 && most.saturating_sub(self.height) > FAR.max(SLOW_PART * self.height.saturating_sub(height))
    }

    /// What is wanted of a neighbour.
    fn wants(&self, link: LinkId, it: &Neighbour, is_far: bool) -> Wants {
        let is_source = self.source == Some(link) || self.trial.is_some_and(|(trial, _)| trial == link);
        match () {
            () if is_source || !it.agrees => Wants::All,
            // What he writes himself comes the way that everything else goes.
            () if it.theirs == Wants::All || !is_far && self.neighbours.len() <= ALL_MAX => Wants::News,
            () => Wants::Nothing,
        }
    }

    fn is_far(&self) -> bool {
        self.neighbours.values().any(|it| it.ahead_ms.is_some() && it.height.is_none_or(|height| height > self.height.saturating_add(FAR)))
    }
}

impl Node {
    /// The store has grown.
    pub(super) fn feeds_grew(&mut self, now_ms: u64, store: &dyn Replica) {
        self.feeds.values_mut().for_each(|feed| feed.grew(now_ms, store));
    }

    /// Decides for each timeline in which something has happened, and tells the neighbours.
    pub(super) fn feed(&mut self, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.feeds.retain(|_, feed| !feed.neighbours.is_empty());
        let own = self.config.node;
        let mut inputs = Vec::new();
        for (timeline, feed) in &mut self.feeds {
            if std::mem::take(&mut feed.is_due) || feed.next_ms(now_ms).is_some_and(|at_ms| at_ms <= now_ms + 1) {
                feed.decide(&own, now_ms);
            }
            let timeline = *timeline;
            // Those who get everything from here, the first of them first.
            let mut waiting: Vec<(u64, LinkId)> =
                feed.neighbours.iter().filter(|(_, it)| it.theirs == Wants::All).map(|(link, it)| (it.theirs_ms, *link)).collect();
            waiting.sort_unstable();
            let spare: Vec<LinkId> = waiting.iter().skip(CHILDREN_MAX).map(|(_, link)| *link).collect();
            let has_enough = waiting.len() >= CHILDREN_MAX;
            let is_level = |link: &LinkId| self.links.get(link).is_none_or(|linked| linked.session.is_level(&timeline));
            let is_free = waiting.iter().all(|(_, link)| is_level(link));
            let is_far = feed.is_far();
            let links: Vec<LinkId> = feed.neighbours.keys().copied().collect();
            for link in links {
                let Some(it) = feed.neighbours.get(&link).filter(|it| it.agrees) else { continue };
                let wants = feed.wants(link, it, is_far);
                let is_news = feed.is_to_be_told(it) && it.told_ms + TELL_MS <= now_ms;
                let is_spare = spare.contains(&link);
                // Among few it is the same.
                let is_other = wants != it.ours && !(feed.neighbours.len() <= ALL_MAX && wants == Wants::News && it.ours == Wants::All);
                if is_other || is_news || (is_spare && !it.told_busy) {
                    let is_busy = !is_free || is_spare || (has_enough && it.theirs != Wants::All);
                    let end = feed.end;
                    if let Some(it) = feed.neighbours.get_mut(&link) {
                        (it.ours, it.told_end, it.told_ms, it.told_busy) = (wants, end, now_ms, is_busy);
                    }
                    inputs.push((link, Input::Feed { timeline, wants, is_busy }));
                }
            }
        }
        for (link, input) in inputs {
            self.drive(link, input, now_ms, store, acts);
        }
    }
}
