//! From whom what is new of a timeline comes, and whom it is sent to: what decides how a feed that many read spreads.
//!
//! All who sync a timeline know some of the others. Each gets it from one of them, its **source**; the others only tell it
//! what they have, in a few bytes. So the links over which content goes are a tree, over which a change reaches everybody
//! once. Where something was told of that does not come, somebody who told of it becomes the source: nobody waits longer
//! for one who went away, is slow, or lies, than [`WAIT_MS`].
//!
//! A long history goes the same way. Each hands on what he has while the rest still comes, to one at a time, and whoever shares
//! his source with others looks for somebody who sends to nobody yet: who is ahead of him or, as nobody is at first, comes
//! before him in an [`order`] that all agree on. So nobody waits for one to whom he sends, and the tree becomes a long chain
//! within some seconds, in which every line carries everything about once: the fastest that there is. Changes come in an order
//! in which each can be stored at once, so a history needs no second format, as pieces of a file would be.
//!
//! Deliberately not here: chains by how fast the lines are. Who is behind somebody slow looks for another after some seconds.

use std::collections::{BTreeMap, BTreeSet};

use timebus_identity::{PublicKey, hash};
use timebus_store::ids::{ChangeId, TimelineId};

use super::{Act, LinkId, Node};
use crate::sync::frame::{HEADS_MAX, Wants};
use crate::sync::{Input, Replica, Standing};

#[cfg(test)]
mod tests;

/// Milliseconds that something may be told of without coming, before somebody else is asked for it: it comes from hop to hop,
/// and the news of it straight from whoever has it.
const WAIT_MS: u64 = 400;
/// The same while much is on its way: frames of several who share a line come one after another.
const FAR_WAIT_MS: u64 = 1_000;
/// How long somebody has to send some of it, before the next is asked.
const TRIAL_MS: u64 = 1_000;
/// The same if he said that others wait for it, maybe before he was asked.
const BUSY_MS: u64 = 150;
/// The same if he has it not yet himself.
const LINE_MS: u64 = 3_000;
/// A source that sends nothing for so long while there is much is none any more, whoever it is: all others may say that they
/// are busy, and he may lie.
const SILENT_MS: u64 = 10_000;
/// How long who sent nothing is not asked again, and twice as long each further time: what he has may be of somebody of whom
/// nothing is taken here, or he lies.
const AGAIN_MS: u64 = 3_000;
/// After so many times it is no longer doubled: some minutes.
const AGAIN_MAX: u32 = 7;
/// Who sent nothing so often is taken to have nothing for us.
const VAIN: u32 = 2;
/// After each so many milliseconds it is seen whether the source gets on.
const SLOW_MS: u64 = 5_000;
/// If it would need so many times that for the rest, somebody else is tried.
const SLOW_PART: u64 = 24;
/// The least time between two frames that tell the same neighbour of news of a timeline, and the same for each timeline that
/// there is.
const TELL_MS: u64 = 200;
const EACH_MS: u64 = 8;
/// Of those who want much the first is served all the time, some others for so long only, so that they have something to hand
/// on, and then come to be behind somebody whom nobody asks yet.
const TURN_MS: u64 = 500;
const FIRST: u64 = 3;
/// After so many times that, the second gets it half of the time, after twice as many the third for a third of it, and so on up
/// to [`FIRST`]: nobody else has it for them.
const PATIENCE: u64 = 8;
/// Bytes on their way to others with which the line still carries more at once: some frames, more than a line far away holds.
const LEVEL_BYTES: u64 = 192 * 1024;
/// Bytes that somebody is sent at first whose turn it is.
const DOSE_BYTES: u64 = 32 * 1024;
/// How long who shares his source with others stays with it, before he looks for another.
const STAY_MS: u64 = 250;
/// Who has so many who get everything from him asks the others to get it from somebody else.
const CHILDREN_MAX: usize = 6;
/// With no more neighbours than these all send each other what is new: it costs little, and nobody waits for anybody.
const ALL_MAX: usize = 3;
/// Who has so many bytes of changes more is far ahead: as long as there are such, one source has to do.
const FAR: u64 = 128 * 1024;

/// Somebody who syncs a timeline too.
#[derive(Debug)]
struct Neighbour {
    /// Whether it speaks of this at all. Others send everything, and get everything.
    agrees: bool,
    /// Its place in the order in which peers line up for a timeline, if it comes before us: see [`order`].
    place: Option<u64>,
    /// What it wants of us, and since when.
    theirs: Wants,
    theirs_ms: u64,
    /// What it was told that we want.
    ours: Wants,
    is_busy: bool,
    /// How many bytes of changes it has, if it has said so, and how many it had some seconds ago.
    bytes: Option<u64>,
    before: u64,
    heads: Vec<ChangeId>,
    /// Whether it has more heads than it told.
    has_more: bool,
    /// Since when it has something that is not here, as it says.
    ahead_ms: Option<u64>,
    /// When it was asked last and sent nothing, and how often since it last did.
    failed_ms: u64,
    failed: u32,
    /// The end of our log when it was told last, and when that was.
    told_end: u64,
    told_ms: u64,
    /// Whether it was told last that we are busy.
    told_busy: bool,
    /// Whether that is no longer so.
    is_other_busy: bool,
    is_turn: bool,
    /// When that is to be seen again, as long as it has not nearly all.
    turn_ms: u64,
    /// Since when it has not nearly all that it gets from here.
    behind_ms: Option<u64>,
}

impl Neighbour {
    /// Whether something may come of it that is not here.
    fn is_ahead(&self) -> bool {
        self.ahead_ms.is_some() && self.failed < VAIN
    }

    fn fails(&mut self, now_ms: u64) {
        (self.failed_ms, self.failed) = (now_ms, (self.failed + 1).min(AGAIN_MAX));
    }

    /// From when on it may be asked again.
    fn again_ms(&self) -> u64 {
        if self.failed == 0 { 0 } else { self.failed_ms + (AGAIN_MS << (self.failed - 1)) }
    }
}

/// What is known of somebody with whom a timeline begins to be synced.
#[derive(Debug)]
pub(super) struct Opened {
    /// Whether it speaks of feeds.
    pub(super) agrees: bool,
    /// Its place in the [`order`], if that comes before ours.
    pub(super) place: Option<u64>,
    /// What it wants, and what it was told that we want.
    pub(super) wants: [Wants; 2],
    /// The heads that it named.
    pub(super) heads: Vec<ChangeId>,
}

/// One timeline and all who sync it.
#[derive(Debug)]
pub(super) struct Feed {
    space: PublicKey,
    timeline: TimelineId,
    neighbours: BTreeMap<LinkId, Neighbour>,
    source: Option<LinkId>,
    /// Since when.
    source_ms: u64,
    /// Who is asked beside the source, because that one sends nothing, and since when.
    trial: Option<(LinkId, u64)>,
    /// Whether anything ever came of somebody else.
    has_come: bool,
    /// When something came last.
    came_ms: u64,
    /// How many bytes were here some seconds ago, and when that was.
    before: (u64, u64),
    /// What is here.
    end: u64,
    bytes: u64,
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
            source_ms: 0,
            trial: None,
            has_come: false,
            came_ms: 0,
            before: (0, 0),
            end: 0,
            bytes: 0,
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

    /// Whether a neighbour has nothing that is not here, or nothing that comes.
    pub(super) fn is_level(&self, link: LinkId) -> bool {
        self.neighbours.get(&link).is_some_and(|it| it.agrees && !it.is_ahead())
    }

    pub(super) fn opened(&mut self, link: LinkId, opened: Opened, now_ms: u64, store: &dyn Replica) {
        let Opened { agrees, place, wants: [theirs, ours], heads } = opened;
        let neighbour = Neighbour {
            agrees,
            place,
            theirs,
            theirs_ms: now_ms,
            ours,
            is_busy: false,
            bytes: None,
            before: 0,
            heads,
            has_more: false,
            ahead_ms: None,
            failed_ms: 0,
            failed: 0,
            told_end: u64::MAX,
            told_ms: 0,
            told_busy: false,
            is_other_busy: false,
            is_turn: false,
            turn_ms: 0,
            behind_ms: None,
        };
        if self.neighbours.is_empty() {
            self.came_ms = now_ms;
        }
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
    pub(super) fn told(&mut self, link: LinkId, standing: Standing, now_ms: u64, store: &dyn Replica) {
        let Some(neighbour) = self.neighbours.get_mut(&link) else { return };
        if neighbour.theirs != standing.wants {
            (neighbour.theirs, neighbour.theirs_ms, neighbour.told_ms) = (standing.wants, now_ms, 0);
        }
        (neighbour.is_busy, neighbour.bytes) = (standing.is_busy, Some(standing.bytes));
        (neighbour.heads, neighbour.has_more) = (standing.heads, standing.has_more);
        // Two that wait for each other are of no use.
        self.trial = self.trial.filter(|(trial, _)| *trial != link || neighbour.theirs != Wants::All);
        self.source = self.source.filter(|source| *source != link || neighbour.theirs != Wants::All || !self.has_come);
        self.compare(link, now_ms, store);
    }

    /// Changes came from a neighbour that were not here.
    pub(super) fn came(&mut self, link: LinkId, now_ms: u64) {
        (self.has_come, self.came_ms, self.is_due) = (true, now_ms, true);
        self.neighbours.get_mut(&link).into_iter().for_each(|it| it.failed = 0);
        if self.trial.is_some_and(|(trial, _)| trial == link) || self.source.is_none() {
            // Who keeps one waiting for something small is not chosen again for where he stands.
            if !self.is_far()
                && let Some(late) = self.source.filter(|source| *source != link).and_then(|source| self.neighbours.get_mut(&source))
            {
                late.fails(now_ms);
            }
            (self.source, self.source_ms, self.trial) = (Some(link), now_ms, None);
        }
    }

    /// Whether a neighbour has something that is not here.
    fn compare(&mut self, link: LinkId, now_ms: u64, store: &dyn Replica) {
        let t = store.local(&self.space, &self.timeline).ok().flatten();
        self.compare_with(link, now_ms, |id| t.is_some_and(|t| store.find(t, id).is_ok_and(|a| a.is_some())));
    }

    fn compare_with(&mut self, link: LinkId, now_ms: u64, is_here: impl Fn(&ChangeId) -> bool) {
        if let Some(neighbour) = self.neighbours.get_mut(&link) {
            // What is not among the heads that were told shows in how many bytes there are.
            let is_other = neighbour.has_more && neighbour.bytes != Some(self.bytes);
            let is_ahead = is_other || !neighbour.heads.iter().all(is_here);
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
        self.bytes = store.bytes(t).unwrap_or(self.bytes);
        if let Ok(mut heads) = store.heads(t, HEADS_MAX) {
            heads.sort_unstable();
            self.heads = heads;
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

    fn is_far_behind(&self, it: &Neighbour) -> bool {
        it.bytes.unwrap_or(0).saturating_add(FAR) < self.bytes
    }

    /// Whom to ask next, of those who have something that is not here: who is free, and was not asked in vain lately.
    fn candidate(&self, own: &PublicKey, now_ms: u64) -> Option<LinkId> {
        let is_far = self.is_far();
        let is_ahead = |it: &Neighbour| it.ahead_ms.is_some();
        // Who is asked already and has it not yet himself is left for one who has it only.
        let may = |it: &Neighbour| self.trial.is_none() || is_ahead(it);
        let due = |link: LinkId, it: &Neighbour| self.may_ask_ms(link, it, is_far).is_some_and(|at_ms| at_ms <= now_ms);
        let all = self.neighbours.iter().filter(|(link, it)| may(it) && due(**link, it));
        // Others each time and for each, so that not all ask the same.
        let chance = |link: LinkId| hash("feed", &[own.as_bytes(), &link.to_be_bytes(), &now_ms.to_be_bytes()]);
        // Those who have everything are asked last: all others want it from them.
        let most = self.neighbours.values().filter_map(|it| it.bytes).max();
        let has_most = |it: &Neighbour| it.bytes.is_none() || it.bytes == most;
        all.min_by_key(|(link, it)| (it.is_busy, it.failed_ms, !is_ahead(it), has_most(it), chance(**link))).map(|(link, _)| *link)
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

    /// How long somebody has to send some of it.
    fn trial_ms(&self, link: LinkId) -> u64 {
        match self.neighbours.get(&link) {
            Some(it) if it.is_busy && self.is_far() => BUSY_MS,
            Some(it) if it.ahead_ms.is_none() => LINE_MS,
            _ => TRIAL_MS,
        }
    }

    /// Who may be the source in place of one who has enough to do, when all have the same. Not somebody who gets it from here.
    fn freer(&self, now_ms: u64) -> Option<LinkId> {
        let is_behind = self.neighbours.values().any(Neighbour::is_ahead);
        self.neighbours.get(&self.source?).filter(|it| it.is_busy && !is_behind && self.trial.is_none())?;
        let may = |it: &Neighbour| it.agrees && !it.is_busy && it.failed == 0 && it.theirs != Wants::All && !self.is_far_behind(it);
        // From where one went a moment ago one does not go back.
        let all = self.neighbours.iter().filter(|(link, it)| Some(**link) != self.source && may(it) && it.failed_ms + AGAIN_MS <= now_ms);
        // The first ones in the order have others behind them soon, so the tree that comes about is flat, and has no rings.
        all.filter_map(|(link, it)| Some((it.place?, *link))).min().map(|(_, link)| link)
    }

    /// When to decide anew, if nothing happens before.
    pub(super) fn next_ms(&self, tell_ms: u64, now_ms: u64) -> Option<u64> {
        let (is_far, ask_ms) = (self.is_far(), self.ask_ms());
        let all = self.neighbours.iter().filter(|_| self.trial.is_none());
        let asks = all.filter_map(|(link, it)| self.may_ask_ms(*link, it, is_far)).map(|at_ms| at_ms.max(ask_ms));
        let trial = self.trial.map(|(trial, since_ms)| since_ms + self.trial_ms(trial));
        let turns = self.neighbours.values().filter(|it| it.behind_ms.is_some() || !it.is_turn).map(|it| it.turn_ms);
        let behind = self.neighbours.values().filter_map(|it| it.behind_ms).map(|behind_ms| behind_ms + STAY_MS);
        let turns = turns.chain(behind).filter(|at_ms| *at_ms > now_ms);
        let tells = self.neighbours.values().filter(|it| it.is_other_busy || self.is_to_be_told(it)).map(|it| it.told_ms + tell_ms);
        asks.chain(trial).chain(turns).chain(tells).chain(self.silent_ms()).min().map(|at_ms| at_ms.max(now_ms + 1))
    }

    /// Whether a neighbour is to be told what is here: it does not get it, and may lack it.
    fn is_to_be_told(&self, it: &Neighbour) -> bool {
        let lacks = !self.heads.iter().all(|head| it.heads.contains(head)) && it.bytes.is_none_or(|bytes| bytes <= self.bytes.saturating_add(FAR));
        it.agrees && it.theirs == Wants::Nothing && it.told_end != self.end && lacks
    }

    /// Decides from whom it is to come.
    fn decide(&mut self, own: &PublicKey, now_ms: u64) {
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

    /// Whether so little came in the last seconds that somebody else is to be asked for the rest: to others who are free came more
    /// than twice as much, or it would take minutes.
    fn is_slow(&mut self, now_ms: u64) -> bool {
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
    fn wants(&self, link: LinkId, it: &Neighbour, is_far: bool) -> Wants {
        let is_source = self.source == Some(link) || self.trial.is_some_and(|(trial, _)| trial == link);
        match () {
            () if is_source || !it.agrees => Wants::All,
            // What he writes himself comes the way that everything else goes.
            () if it.theirs == Wants::All || !is_far && self.neighbours.len() <= ALL_MAX => Wants::News,
            () => Wants::Nothing,
        }
    }

    /// Whether others have much that is not here. Who lies about it costs that one waits for a second instead of [`WAIT_MS`], and
    /// serves one at a time, until he was asked for it ([`SILENT_MS`]).
    fn is_far(&self) -> bool {
        self.neighbours.values().any(|it| it.is_ahead() && it.bytes.is_none_or(|bytes| bytes > self.bytes.saturating_add(FAR)))
    }
}

/// Where a peer comes in the order in which all line up for a timeline: in another one for each.
pub(super) fn order(timeline: &TimelineId, node: &PublicKey) -> u64 {
    let digest = hash("feed order", &[timeline.as_bytes(), node.as_bytes()]);
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

impl Node {
    /// The store has grown.
    pub(super) fn feeds_grew(&mut self, now_ms: u64, store: &dyn Replica) {
        self.feeds.values_mut().for_each(|feed| feed.grew(now_ms, store));
    }

    /// Whether others have much of a space that is not here.
    pub(super) fn is_far(&self, space: &PublicKey) -> bool {
        self.feeds.values().any(|feed| feed.space == *space && feed.is_far())
    }

    /// The least time between two frames that tell the same neighbour of news of a timeline.
    pub(super) fn tell_ms(&self) -> u64 {
        TELL_MS.max(EACH_MS * self.feeds.len() as u64)
    }

    /// Decides for each timeline in which something has happened, and tells the neighbours.
    pub(super) fn feed(&mut self, now_ms: u64, store: &dyn Replica, acts: &mut Vec<Act>) {
        self.feeds.retain(|_, feed| !feed.neighbours.is_empty());
        let (own, has_feeds) = (self.config.node, self.config.has_feeds);
        let (mut inputs, tell_ms) = (Vec::new(), self.tell_ms());
        for (timeline, feed) in &mut self.feeds {
            if std::mem::take(&mut feed.is_due) || feed.next_ms(tell_ms, now_ms).is_some_and(|at_ms| at_ms <= now_ms + 1) {
                feed.decide(&own, now_ms);
            }
            let timeline = *timeline;
            let is_far = feed.is_far();
            // Those who get everything from here, those first who do so for longest.
            let mut children: Vec<(u64, LinkId)> =
                feed.neighbours.iter().filter(|(_, it)| it.theirs == Wants::All).map(|(link, it)| (it.theirs_ms, *link)).collect();
            children.sort_unstable();
            // Among few nobody asks somebody else meanwhile.
            let dose = if feed.neighbours.len() > ALL_MAX { DOSE_BYTES } else { u64::MAX };
            let mut first_behind = None;
            let mut before = 0;
            // What those were sent who do not want it any more is on the line, too.
            let on_its_way = |link: &LinkId| self.links.get(link).map_or((false, 0), |linked| linked.session.on_its_way(&timeline, now_ms));
            let mut bytes: u64 = feed.neighbours.iter().filter(|(_, it)| it.theirs != Wants::All).map(|(link, _)| on_its_way(link).1).sum();
            for (since_ms, link) in &children {
                let (has_all, sent) = on_its_way(link);
                bytes += sent;
                let is_level = has_all && bytes <= LEVEL_BYTES;
                let Some(it) = feed.neighbours.get_mut(link) else { continue };
                let turn = now_ms.saturating_sub(*since_ms) / TURN_MS;
                it.turn_ms = since_ms + TURN_MS * (turn + 1);
                let is_first = before == 0 || turn == 0 && before < FIRST && !is_far;
                let is_turn = !has_feeds || is_first || (turn >= PATIENCE * before && turn.is_multiple_of(before + 1));
                if it.is_turn != is_turn {
                    it.is_turn = is_turn;
                    inputs.push((*link, Input::Turn { timeline, is_turn, dose }));
                }
                it.behind_ms = (!is_level).then(|| it.behind_ms.unwrap_or(now_ms));
                // However many wait who take nothing, the others get a part.
                before = (before + u64::from(is_far || !is_level)).min(FIRST);
                // Who hands on what comes just as fast is not free.
                if is_far || it.behind_ms.is_some_and(|behind_ms| behind_ms + STAY_MS <= now_ms) {
                    first_behind.get_or_insert(*link);
                }
            }
            let spare: BTreeSet<LinkId> = children.iter().skip(CHILDREN_MAX).map(|(_, link)| *link).collect();
            for (link, it) in feed.neighbours.iter_mut().filter(|(_, it)| it.theirs != Wants::All) {
                it.behind_ms = None;
                // Who asks for everything next is not sent it before it is his turn.
                let is_turn = !has_feeds || it.theirs == Wants::News;
                if std::mem::replace(&mut it.is_turn, is_turn) != is_turn {
                    inputs.push((*link, Input::Turn { timeline, is_turn, dose }));
                }
            }
            let links: Vec<LinkId> = feed.neighbours.keys().copied().collect();
            for link in links {
                let Some(it) = feed.neighbours.get(&link).filter(|it| it.agrees) else { continue };
                let wants = feed.wants(link, it, is_far);
                let is_full = children.len() >= CHILDREN_MAX && it.theirs != Wants::All;
                let is_busy = is_full || spare.contains(&link) || first_behind.is_some_and(|first| first != link);
                let is_news = feed.is_to_be_told(it) || is_busy != it.told_busy;
                // Among few it is the same.
                let is_other = wants != it.ours && !(feed.neighbours.len() <= ALL_MAX && wants == Wants::News && it.ours == Wants::All);
                // Who waits is told at once whether others are before him.
                let is_late = it.theirs == Wants::All && is_busy != it.told_busy;
                if is_other || is_late || (is_news && it.told_ms + tell_ms <= now_ms) {
                    let end = feed.end;
                    if let Some(it) = feed.neighbours.get_mut(&link) {
                        (it.ours, it.told_end, it.told_ms, it.told_busy, it.is_other_busy) = (wants, end, now_ms, is_busy, false);
                    }
                    inputs.push((link, Input::Feed { timeline, wants, is_busy }));
                } else if let Some(it) = feed.neighbours.get_mut(&link) {
                    it.is_other_busy = is_busy != it.told_busy;
                }
            }
        }
        for (link, input) in inputs {
            self.drive(link, input, now_ms, store, acts);
        }
    }
}
