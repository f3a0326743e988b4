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

use std::collections::BTreeMap;

use timebus_identity::{PublicKey, hash};
use timebus_store::ids::{ChangeId, TimelineId};

use super::{Act, LinkId, Node};
use crate::sync::frame::{HEADS_MAX, Wants};
use crate::sync::{Replica, Standing};

mod asking;
mod serving;
#[cfg(test)]
mod tests;

/// The least time between two frames that tell the same neighbour of news of a timeline, and the same for each timeline that
/// there is.
const TELL_MS: u64 = 200;
const EACH_MS: u64 = 8;
/// How long who sent nothing is not asked again, and twice as long each further time: what he has may be of somebody of whom
/// nothing is taken here, or he lies.
const AGAIN_MS: u64 = 3_000;
/// After so many times it is no longer doubled: some minutes.
const AGAIN_MAX: u32 = 7;
/// Who sent nothing so often is taken to have nothing for us.
const VAIN: u32 = 2;
/// How long who shares his source with others stays with it, before he looks for another.
const STAY_MS: u64 = 250;
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

    /// When to decide anew, if nothing happens before.
    pub(super) fn next_ms(&self, tell_ms: u64, now_ms: u64) -> Option<u64> {
        let next_ms = self.asks_next_ms().into_iter().chain(self.serves_next_ms(tell_ms, now_ms)).min();
        next_ms.map(|at_ms| at_ms.max(now_ms + 1))
    }

    fn is_far_behind(&self, it: &Neighbour) -> bool {
        it.bytes.unwrap_or(0).saturating_add(FAR) < self.bytes
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
            let on_its_way = |link| self.links.get(&link).map_or((false, 0), |linked| linked.session.on_its_way(timeline, now_ms));
            let first_behind = feed.serve(now_ms, has_feeds, &on_its_way, &mut inputs);
            feed.tell(first_behind, now_ms, tell_ms, &mut inputs);
        }
        for (link, input) in inputs {
            self.drive(link, input, now_ms, store, acts);
        }
    }
}
