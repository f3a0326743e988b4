//! One timeline on one link, synced both ways.
//!
//! The sending half is a cursor over the own log and a filter of what the other side has; the receiving half keeps
//! track of what came, what is durable and what is still asked for. They meet where a change that came from the
//! other side must not be sent back.

mod receiving;
mod sending;
mod weighing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use timebus_identity::{PublicKey, Signed};
use timebus_store::change::{Change, Head};
use timebus_store::ids::{ChangeId, TimelineId};

use crate::sync::arrivals::Arrivals;
use crate::sync::frame::{Ack, Code, FEED_HEADS_MAX, Frame, HEADS_MAX, Holding, Lacks, Wants};
use crate::sync::handshake::Remote;
use crate::sync::pending::Pending;
use crate::sync::replica::{Cursor, Past, Replica, ReplicaError, Tip};
use crate::sync::session::{Counters, Fault, Output};

/// Most changes that are asked for and have not come, beyond those that wait: the ids alone are 128 KiB. An honest peer
/// sends at most one window out of order.
pub(crate) const WANTED_MAX: usize = 4096;
/// Most changes of one link that were refused for good before it is given up. Their ids are kept so that they, and what
/// builds on them, are not asked for again.
pub(crate) const REFUSED_MAX: usize = 4096;
/// Milliseconds after which a Need must have been answered further.
pub(crate) const NEED_MS: u64 = 30_000;
/// What was sent somebody this many milliseconds ago, or up to twice as many, is no longer taken to be on its way, whether he says
/// that he has it or not.
const LATELY_MS: u64 = 1_500;
/// Milliseconds for which a peer may hold changes without giving credit back.
pub(crate) const STALL_MS: u64 = 60_000;
/// Credit is given back in steps of at least this, or with all that is outstanding.
pub(crate) const ACK_BYTES: u64 = 4096;
/// Needs that were not answered truthfully before a channel is given up.
pub(crate) const STRIKES_MAX: u32 = 3;
/// Rows of the own log looked at in one call, some milliseconds of work.
pub(crate) const SCAN_MAX: usize = 4096;

/// Why a frame could not be dealt with.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The link ends: the other side broke the rules.
    Link(Fault),
    /// The channel ends.
    Channel(Code, Option<Fault>),
    /// The link ends: we failed.
    Store(ReplicaError),
}

impl From<ReplicaError> for Halt {
    fn from(error: ReplicaError) -> Self {
        Self::Store(error)
    }
}

/// What the channels of a link have in common.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) out: Vec<Output>,
    /// Bytes that the transport takes now.
    pub(crate) writable: u64,
    /// Small frames that wait for the transport.
    pub(crate) control: VecDeque<Bytes>,
    pub(crate) control_bytes: usize,
    pub(crate) pending: Pending,
    /// Changes that are being stored.
    pub(crate) in_flight: BTreeSet<ChangeId>,
    /// Changes that were refused for good.
    pub(crate) refused: BTreeSet<ChangeId>,
    /// Those of them that are only not taken for now, and those above them.
    pub(crate) held: BTreeSet<ChangeId>,
    /// Heads and changes that others built on, that were remembered.
    pub(crate) kept: usize,
    pub(crate) tickets: std::collections::BTreeMap<u64, Ticket>,
    pub(crate) last_ticket: u64,
    pub(crate) counters: Counters,
    /// Rows that may still be looked at in this call.
    pub(crate) scan: usize,
    /// Whether there is work left that waits for nothing.
    pub(crate) wake: bool,
    pub(crate) now_ms: u64,
}

/// Changes that are being stored.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) channel: u64,
    pub(crate) changes: Vec<Signed<Change>>,
}

impl Shared {
    /// Queues a small frame.
    pub(crate) fn say(&mut self, frame: &Frame) {
        let bytes = frame.encode();
        self.control_bytes += bytes.len();
        self.control.push_back(bytes);
    }

    /// Hands a frame to the transport.
    pub(crate) fn send(&mut self, bytes: Bytes) {
        self.writable = self.writable.saturating_sub(bytes.len() as u64);
        self.counters.bytes_sent += bytes.len() as u64;
        self.out.push(Output::Send(bytes));
    }

    pub(crate) fn penalty(&mut self, fault: Fault) {
        self.out.push(Output::Penalty { points: fault.points(), fault });
    }
}

/// What the other side has of our log.
#[derive(Debug)]
enum Plan {
    /// It has not said.
    Waiting,
    /// All up to a number, and the pasts of some changes.
    Known { upto: u64, past: Option<Box<dyn Past>> },
}

impl Plan {
    fn contains(&self, a: u64) -> bool {
        match self {
            Self::Waiting => false,
            Self::Known { upto, past } => a <= *upto || past.as_ref().is_some_and(|past| past.contains(a)),
        }
    }
}

/// What answers a Need.
#[derive(Debug)]
struct Answer {
    /// `None` if nothing that was asked for is here.
    want: Option<Box<dyn Past>>,
    have: Option<Box<dyn Past>>,
    /// Asked for by name.
    named: BTreeSet<u64>,
    /// What is sent already by the stream lies at or before this.
    streamed: u64,
    cursor: u64,
    /// The last one to send.
    end: u64,
    ahead: VecDeque<u64>,
}

/// A Need that has not been answered to its end.
#[derive(Debug)]
struct Asked {
    ids: Vec<ChangeId>,
    deadline_ms: u64,
}

/// A frame of changes that came and was not given back.
#[derive(Debug)]
struct Arrived {
    /// The ticket under which its changes are being stored; `None` when that is over.
    ticket: Option<u64>,
    bytes: u64,
    /// The other side's cursor behind it.
    upto: u64,
    ends_answer: bool,
}

/// One timeline on one link.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) number: u64,
    pub(crate) space: PublicKey,
    pub(crate) timeline: TimelineId,
    /// Whether it holds the statements of its space.
    pub(crate) is_auth: bool,
    /// Whether both sides agreed to it.
    pub(crate) opened: bool,
    /// What the other side is to be sent without asking.
    pub(crate) wants: Wants,
    /// What it was told to send when the channel was opened.
    pub(crate) asks: Wants,
    /// Whether it is its turn: others may be served before it.
    pub(crate) is_turn: bool,
    t: Option<u32>,
    /// Whether the other side may have what is here.
    pub(crate) serves: bool,
    /// What arrived here later is not for the other side.
    until: u64,
    /// End of the own log when the own heads were named.
    named_end: u64,
    /// What we said to have of the other log.
    given: Option<Cursor>,
    own_heads: Vec<ChangeId>,

    plan: Plan,
    /// Changes of ours that the other side said to have: the latest ones.
    theirs: Vec<u64>,
    cursor: u64,
    ahead: VecDeque<(u64, ChangeId)>,
    at_end: bool,
    told_live: bool,
    peer_has: Arrivals,
    window_out: u64,
    unacked_out: u64,
    /// Since when, and how many bytes were sent since then, and in as long a time before.
    lately: (u64, [u64; 2]),
    /// How much of that there may be now, beside the credit.
    dose: u64,
    /// When credit came last, or the first frame went out that is not given back.
    credit_ms: u64,
    /// Bytes for which there was no credit.
    blocked: u64,
    answer: Option<Answer>,
    not_found: u32,
    /// The tip behind which the next page of tips begins.
    tips_out: Option<Option<Tip>>,
    delivered: u64,

    heads: Vec<ChangeId>,
    more_heads: bool,
    /// What the other side named last with what it wants.
    told: Vec<ChangeId>,
    log: [u8; 16],
    pub(crate) window_in: u64,
    unacked_in: u64,
    give_back: u64,
    arrived: VecDeque<Arrived>,
    upto_in: u64,
    upto_done: u64,
    /// The cursor that was told last, to the other side and above.
    durable: u64,
    wanted: BTreeSet<ChangeId>,
    /// Changes that are fetched although the store says that they are here, and whether they were asked for.
    fetching: BTreeMap<ChangeId, bool>,
    asked: Option<Asked>,
    /// Places on our chains of authors who forked theirs.
    ladder: Vec<ChangeId>,
    /// Changes that both have.
    common: VecDeque<ChangeId>,
    strikes: u32,
    refused: bool,
    live_in: bool,
    caught_up: bool,
    tips_in: TipsIn,

    /// Authors of whom the other side takes nothing, those of them of whom it is to be told how much there is, and when it
    /// was told last.
    not_taken: BTreeSet<PublicKey>,
    to_weigh: BTreeSet<PublicKey>,
    weighed_ms: u64,
    /// Authors of whom nothing is taken here.
    held: BTreeSet<PublicKey>,
    held_heads: BTreeMap<ChangeId, Signed<Head>>,
    /// Who built on changes whose heads are asked for.
    builders: BTreeMap<ChangeId, BTreeSet<PublicKey>>,
    /// By what is held back since it builds on others, which of these is not taken for its own sake.
    held_for: BTreeMap<ChangeId, ChangeId>,
}

/// Tips of the other side that came so far.
#[derive(Debug, Default)]
struct TipsIn {
    pages: usize,
    last: Option<Tip>,
    /// Those of the author whose tips are not complete yet.
    group: Vec<Tip>,
    /// What of ours it has.
    known: Vec<u64>,
    ended: bool,
}

impl Channel {
    /// A channel that neither side has agreed to yet, with what is here now.
    pub(crate) fn new(
        number: u64,
        space: PublicKey,
        timeline: TimelineId,
        remote: &Remote,
        window_in: u64,
        replica: &dyn Replica,
    ) -> Result<Self, ReplicaError> {
        let serves = replica.may_sync(remote, &space, &timeline)?;
        let t = replica.local(&space, &timeline)?;
        let until = replica.until(remote, &space, &timeline)?;
        let mut channel = Self {
            number,
            space,
            timeline,
            is_auth: timeline == TimelineId::named(&space, "auth"),
            opened: false,
            wants: Wants::All,
            asks: Wants::All,
            is_turn: true,
            t,
            serves,
            until,
            named_end: 0,
            given: replica.resume(remote, &timeline)?,
            own_heads: Vec::new(),
            plan: Plan::Waiting,
            theirs: Vec::new(),
            cursor: 0,
            ahead: VecDeque::new(),
            at_end: false,
            told_live: false,
            peer_has: Arrivals::default(),
            window_out: 0,
            unacked_out: 0,
            lately: (0, [0; 2]),
            dose: u64::MAX,
            credit_ms: 0,
            blocked: 0,
            answer: None,
            not_found: 0,
            tips_out: None,
            delivered: 0,
            heads: Vec::new(),
            more_heads: false,
            told: Vec::new(),
            log: [0; 16],
            window_in,
            unacked_in: 0,
            give_back: 0,
            arrived: VecDeque::new(),
            upto_in: 0,
            upto_done: 0,
            durable: 0,
            wanted: BTreeSet::new(),
            fetching: BTreeMap::new(),
            asked: None,
            ladder: Vec::new(),
            common: VecDeque::new(),
            strikes: 0,
            refused: false,
            live_in: false,
            caught_up: false,
            tips_in: TipsIn::default(),
            not_taken: BTreeSet::new(),
            to_weigh: BTreeSet::new(),
            weighed_ms: 0,
            held: BTreeSet::new(),
            held_heads: BTreeMap::new(),
            builders: BTreeMap::new(),
            held_for: BTreeMap::new(),
        };
        // To a peer that may not have what is here, nothing is here.
        if let Some(t) = t.filter(|_| serves) {
            channel.own_heads = if channel.shows_all() { replica.heads(t, HEADS_MAX + 1)? } else { Vec::new() };
            channel.named_end = replica.end(t)?.min(until);
        }
        Ok(channel)
    }

    /// Whether the other side may have everything that is here.
    fn shows_all(&self) -> bool {
        self.serves && self.until == u64::MAX
    }

    /// What is here, for Open and Opened.
    pub(crate) fn holding(&self, replica: &dyn Replica) -> Holding {
        // Heads are of all that is here; who may not have that does not hear them, and says what it has.
        let more = self.own_heads.len() > HEADS_MAX || self.serves && !self.shows_all();
        let mut heads = self.own_heads[..self.own_heads.len().min(HEADS_MAX)].to_vec();
        heads.sort_unstable();
        Holding { heads, more, incarnation: replica.incarnation(), end: self.named_end, cursor: self.given }
    }

    /// Takes in what the other side has, and says how it learns what we lack.
    pub(crate) fn meet(&mut self, theirs: Holding, credit: u64, replica: &dyn Replica) -> Result<Lacks, ReplicaError> {
        self.opened = true;
        self.window_out = credit;
        let mut known = Vec::new();
        for head in &theirs.heads {
            if let Some(a) = self.find(head, replica)? {
                known.push(a);
                self.remember(*head);
            }
        }
        let knows_all = known.len() == theirs.heads.len() && !theirs.more;
        let past = match self.t {
            Some(t) if !known.is_empty() => Some(replica.past(t, &known)?),
            _ => None,
        };
        self.theirs = known;
        let cursor = theirs.cursor.filter(|cursor| cursor.incarnation == replica.incarnation() && cursor.upto <= self.named_end);
        self.plan = match cursor {
            _ if knows_all => Plan::Known { upto: 0, past },
            Some(cursor) => Plan::Known { upto: cursor.upto, past },
            None => Plan::Waiting,
        };
        self.skip_what_is_known();
        let usable = self.given.filter(|given| given.incarnation == theirs.incarnation && given.upto <= theirs.end);
        if let Some(given) = usable {
            (self.upto_done, self.durable) = (given.upto, given.upto);
        }
        (self.heads, self.more_heads, self.log) = (theirs.heads, theirs.more, theirs.incarnation);
        Ok(if knows_all {
            Lacks::Nothing
        } else if usable.is_some() {
            Lacks::AfterCursor
        } else {
            Lacks::TipsFollow
        })
    }

    /// The other side has all that we named.
    fn lacks_nothing(&mut self) {
        match &mut self.plan {
            Plan::Known { upto, .. } => *upto = (*upto).max(self.named_end),
            waiting => *waiting = Plan::Known { upto: self.named_end, past: None },
        }
        self.skip_what_is_known();
    }

    /// The other side says what it is to be sent, and what it has now.
    pub(crate) fn fed(&mut self, wants: Wants, heads: &[ChangeId]) {
        self.wants = wants;
        self.told = heads.to_vec();
    }

    /// Finds out what the other side has by what it said last.
    pub(crate) fn reckon(&mut self, more: bool, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let heads = std::mem::take(&mut self.told);
        let done = self.reckon_by(&heads, more, replica);
        self.told = heads;
        done
    }

    fn reckon_by(&mut self, heads: &[ChangeId], more: bool, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let mut known = Vec::new();
        for head in heads {
            known.extend(self.find(head, replica)?);
        }
        let Some(t) = self.t.filter(|_| !known.is_empty()) else { return Ok(()) };
        let knows_all = known.len() == heads.len() && !more;
        if !knows_all {
            // What builds on what it had may be unknown here; what it had it has.
            known.append(&mut self.theirs);
            known.sort_unstable_by(|a, b| b.cmp(a));
            known.dedup();
            known.truncate(HEADS_MAX);
        }
        self.theirs = known;
        let past = Some(replica.past(t, &self.theirs)?);
        match &mut self.plan {
            Plan::Known { past: known, .. } => *known = past,
            // Its tips say the rest.
            Plan::Waiting if knows_all => self.plan = Plan::Known { upto: 0, past },
            Plan::Waiting => {}
        }
        self.skip_what_is_known();
        Ok(())
    }

    /// What is here for the other side: the latest heads and whether there are more, and how many bytes of changes. What it named
    /// last and is here is among the heads: who is behind does not know ours, and would send everything.
    pub(crate) fn stand(&self, replica: &dyn Replica) -> Result<(Vec<ChangeId>, bool, u64), ReplicaError> {
        const OWN_MAX: usize = FEED_HEADS_MAX / 2;
        let Some(t) = self.t.filter(|_| self.shows_all()) else { return Ok((Vec::new(), false, 0)) };
        let mut heads = replica.heads(t, OWN_MAX + 1)?;
        let more = heads.len() > OWN_MAX;
        heads.truncate(OWN_MAX);
        for id in &self.told {
            if heads.len() < FEED_HEADS_MAX && self.find(id, replica)?.is_some() {
                heads.push(*id);
            }
        }
        heads.sort_unstable();
        heads.dedup();
        Ok((heads, more, replica.bytes(t)?))
    }

    /// Whether it is to be sent what is here, and how much at first.
    pub(crate) fn turn(&mut self, is_turn: bool, dose: u64) {
        (self.is_turn, self.dose) = (is_turn, dose);
    }

    /// Whether the other side was sent all that it is to be sent, and how many bytes of that are on their way: it has not dealt
    /// with them yet, but still does.
    pub(crate) fn on_its_way(&self, now_ms: u64) -> (bool, u64) {
        let has_all = self.t.is_none() || !self.serves || self.at_end && self.ahead.is_empty();
        let (_, [now, before]) = self.lately_at(now_ms);
        (self.opened && has_all, self.unacked_out.min(now.saturating_add(before)))
    }

    /// What was sent lately, seen from a moment on.
    fn lately_at(&self, now_ms: u64) -> (u64, [u64; 2]) {
        let (since_ms, [now, before]) = self.lately;
        match now_ms.saturating_sub(since_ms) / LATELY_MS {
            0 => (since_ms, [now, before]),
            1 => (since_ms + LATELY_MS, [0, now]),
            _ => (now_ms, [0, 0]),
        }
    }

    /// The heads that the other side named at first.
    pub(crate) fn heads(&self) -> &[ChangeId] {
        &self.heads
    }

    /// Moves the cursor over what need not be looked at.
    fn skip_what_is_known(&mut self) {
        if let Plan::Known { upto, past } = &self.plan {
            let first = past.as_ref().map_or(1, |past| past.first_outside());
            self.cursor = self.cursor.max(*upto).max(first.saturating_sub(1).min(self.named_end));
            let cursor = self.cursor;
            self.ahead.retain(|(a, _)| *a > cursor);
        }
    }

    /// As opener: takes in how the other side lacks what we have.
    pub(crate) fn told(&mut self, lacks: Lacks) {
        if lacks == Lacks::Nothing {
            self.lacks_nothing();
        }
    }

    /// Says what we lack in a way that the other side asked for.
    pub(crate) fn tell(&mut self, lacks: Lacks) {
        if lacks == Lacks::TipsFollow {
            self.tips_out = Some(None);
        }
    }

    /// Whether both sides named the same heads, so that nobody lacks anything.
    pub(crate) fn is_equal(&self) -> bool {
        let mut own = self.own_heads.clone();
        own.sort_unstable();
        own == self.heads && !self.more_heads && self.until == u64::MAX
    }

    pub(crate) fn find(&self, id: &ChangeId, replica: &dyn Replica) -> Result<Option<u64>, ReplicaError> {
        self.t.map_or(Ok(None), |t| replica.find(t, id))
    }

    /// Remembers a change that both have, the latest of them.
    fn remember(&mut self, id: ChangeId) {
        const COMMON_MAX: usize = 24;
        if self.common.len() >= COMMON_MAX {
            self.common.pop_front();
        }
        self.common.push_back(id);
    }

    /// The store has grown, or may have.
    ///
    /// Returns whether the other side may no longer have what is here.
    pub(crate) fn appended(&mut self, timeline: &TimelineId, remote: &Remote, replica: &dyn Replica) -> Result<bool, ReplicaError> {
        if *timeline == self.timeline {
            self.at_end = false;
        }
        if self.t.is_none() {
            self.t = replica.local(&self.space, &self.timeline)?;
        }
        // Whether statements came or not: a right may have ended with time, and who reads need not have opened `auth`.
        let served = std::mem::replace(&mut self.serves, replica.may_sync(remote, &self.space, &self.timeline)?);
        if served && !self.serves {
            return Ok(true);
        }
        let before = std::mem::replace(&mut self.until, replica.until(remote, &self.space, &self.timeline)?);
        self.at_end &= served == self.serves && self.until <= before;
        self.ahead.retain(|(a, _)| *a <= self.until);
        Ok(false)
    }

    /// When something has to be given up, in milliseconds.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let stall = (self.unacked_out > 0).then(|| self.credit_ms + STALL_MS);
        let asked = self.asked.as_ref().map(|asked| asked.deadline_ms);
        stall.into_iter().chain(asked).chain(self.weigh_ms()).min()
    }

    /// Gives up what took too long.
    pub(crate) fn timer(&self, now_ms: u64) -> Result<(), Halt> {
        if self.asked.as_ref().is_some_and(|asked| asked.deadline_ms <= now_ms) {
            return Err(Halt::Channel(Code::NotFound, Some(Fault::Withheld)));
        }
        if self.unacked_out > 0 && self.credit_ms + STALL_MS <= now_ms {
            return Err(Halt::Channel(Code::Busy, None));
        }
        Ok(())
    }

    /// Gives credit back, and says how far both cursors are.
    pub(crate) fn acknowledge(&mut self, shared: &mut Shared) {
        let durable = if self.is_settled(shared) && !self.refused { self.upto_done } else { self.durable };
        let all = self.give_back == self.unacked_in;
        let due = self.give_back >= ACK_BYTES || all && (self.give_back > 0 || durable > self.durable);
        if !due || !self.opened {
            return;
        }
        let upto = if matches!(self.plan, Plan::Waiting) { 0 } else { self.cursor };
        shared.say(&Frame::Ack(Ack { channel: self.number, bytes: self.give_back, durable, upto }));
        self.unacked_in -= self.give_back;
        self.give_back = 0;
        if durable > self.durable {
            self.durable = durable;
            let cursor = Some(Cursor { incarnation: self.log, upto: durable });
            shared.out.push(Output::Resume { timeline: self.timeline, cursor });
        }
    }

    /// Whether nothing that came or was asked for is still on its way into the log.
    fn is_settled(&self, shared: &Shared) -> bool {
        self.wanted.is_empty() && self.asked.is_none() && !shared.pending.any_of(self.number)
    }
}
