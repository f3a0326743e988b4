//! The sending half of a channel: what goes out next.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use timebus_store::ids::ChangeId;

use super::{Answer, Channel, Halt, Plan, Shared};
use crate::sync::frame::{Ack, CHANGES_MAX, Code, Frame, Page, Part, TIPS_MAX, Wants};
use crate::sync::replica::{Past, Replica, ReplicaError};
use crate::sync::session::Fault;

/// Bytes of a frame with several changes: enough that frames cost nothing, few enough that something more urgent waits
/// for a few milliseconds only.
const FRAME_TARGET: u64 = 64 * 1024;
/// Rows of the own log that are read at once.
const AHEAD_MAX: usize = 256;
/// Upper bound of what a Changes frame has around its changes.
const AROUND: u64 = 32;
/// Upper bound of the length before a change.
const LENGTH: u64 = 4;
/// Needs without any result after which the channel ends.
const NOT_FOUND_MAX: u32 = 3;

/// How urgent a frame is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// What the other side needs to know before it can send.
    Tips,
    /// Statements, without which nothing else is admitted.
    Auth,
    /// What something that was sent builds on.
    Answer,
    /// What was written just now.
    Live,
    /// What was written before.
    Backfill,
}

impl Channel {
    /// How urgent the next frame of this channel is, if there is one that may go out.
    pub(crate) fn next_class(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<Option<Class>, ReplicaError> {
        if !self.opened {
            return Ok(None);
        }
        if self.tips_out.is_some() {
            return Ok(Some(Class::Tips));
        }
        let more = self.advance(shared, replica)?;
        if self.blocked > 0 && !self.has_credit(self.blocked) {
            return Ok(None);
        }
        if let Some(answer) = &self.answer {
            if answer.ahead.is_empty() && answer.cursor < answer.end && shared.scan == 0 {
                shared.wake = true;
                return Ok(None);
            }
            return Ok(Some(if self.is_auth { Class::Auth } else { Class::Answer }));
        }
        // Who does not get it from here, or not yet, asks for what he lacks.
        let is_fed = self.is_auth || self.wants > Wants::Nothing && self.is_turn;
        Ok((more && is_fed).then_some(match () {
            () if self.is_auth => Class::Auth,
            () if self.told_live => Class::Live,
            () => Class::Backfill,
        }))
    }

    /// Sends the next frame.
    pub(crate) fn send_next(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        if self.tips_out.is_some() {
            return self.send_tips(shared, replica);
        }
        if self.answer.is_some() {
            return self.send_answer(shared, replica);
        }
        self.send_stream(shared, replica)
    }

    /// Tells the other side once that the cursor has reached the end.
    pub(crate) fn tell_live(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        if !self.opened || self.told_live || self.serves && matches!(self.plan, Plan::Waiting) {
            return Ok(());
        }
        // To a peer that may not have what is here, nothing is here, and that was said with the Open.
        let ended = !self.serves || !self.advance(shared, replica)? && (self.at_end || self.t.is_none());
        if ended {
            self.told_live = true;
            let upto = if matches!(self.plan, Plan::Waiting) { 0 } else { self.cursor };
            shared.say(&Frame::Live { channel: self.number, upto });
        }
        Ok(())
    }

    /// Moves the cursor to the next change that is to be sent. False if there is none now.
    pub(crate) fn advance(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<bool, ReplicaError> {
        let Some(t) = self.t.filter(|_| self.serves && !matches!(self.plan, Plan::Waiting)) else { return Ok(false) };
        loop {
            while let Some((a, id)) = self.ahead.front().copied() {
                let has = self.plan.contains(a) || self.peer_has.contains(a) || shared.in_flight.contains(&id) || shared.pending.contains(&id);
                if !has && !self.leaves_out(t, a, replica)? {
                    return Ok(true);
                }
                self.cursor = a;
                self.ahead.pop_front();
            }
            self.peer_has.forget_below(self.cursor);
            if self.at_end {
                return Ok(false);
            }
            if shared.scan == 0 {
                shared.wake = true;
                return Ok(false);
            }
            self.ahead = read(t, self.cursor, shared, replica)?.into();
            self.ahead.retain(|(a, _)| *a <= self.until);
            self.at_end = self.ahead.is_empty();
        }
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.unacked_out.saturating_add(bytes) <= self.window_out.min(self.dose)
    }

    fn has_credit(&self, bytes: u64) -> bool {
        // One frame goes out whatever the credit, or a change larger than it could never be sent.
        self.unacked_out == 0 || self.has_room(bytes)
    }

    fn send_stream(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let mut batch = Batch::default();
        while let Some(t) = self.t.filter(|_| batch.changes.len() < CHANGES_MAX) {
            if !self.advance(shared, replica)? {
                break;
            }
            let Some((a, _)) = self.ahead.front().copied() else { break };
            if !self.take(&mut batch, replica.record(t, a)?) {
                break;
            }
            self.cursor = a;
            self.ahead.pop_front();
        }
        if !batch.changes.is_empty() {
            self.send_changes(Part::Stream, batch, shared);
        }
        Ok(())
    }

    fn send_answer(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let Some(mut answer) = self.answer.take() else { return Ok(()) };
        let mut batch = Batch::default();
        let mut ended = false;
        while batch.changes.len() < CHANGES_MAX {
            let t = self.t.unwrap_or_default();
            let Some(a) = answer.ahead.front().copied() else {
                ended = answer.cursor >= answer.end;
                if ended && batch.changes.is_empty() && !self.has_credit(AROUND) {
                    (self.blocked, ended) = (AROUND, false);
                    break;
                }
                if ended {
                    break;
                }
                if shared.scan == 0 {
                    shared.wake = true;
                    break;
                }
                let rows = read(t, answer.cursor, shared, replica)?;
                match rows.last() {
                    Some((last, _)) => answer.cursor = *last,
                    None => answer.cursor = answer.end,
                }
                for (a, _) in rows {
                    if answer.holds(a, &self.plan) && !self.leaves_out(t, a, replica)? {
                        answer.ahead.push_back(a);
                    }
                }
                continue;
            };
            if !self.take(&mut batch, replica.record(t, a)?) {
                break;
            }
            answer.ahead.pop_front();
            if a > self.cursor {
                self.peer_has.insert(a);
            }
        }
        if !ended {
            self.answer = Some(answer);
        }
        if ended || !batch.changes.is_empty() {
            self.send_changes(if ended { Part::AnswerEnds } else { Part::Answer }, batch, shared);
        }
        Ok(())
    }

    /// Puts one more change into a frame. False if it has to wait for the next frame or for credit.
    fn take(&mut self, batch: &mut Batch, record: Vec<u8>) -> bool {
        let bytes = batch.bytes + record.len() as u64 + LENGTH;
        let first = batch.changes.is_empty();
        let fits = if first { self.has_credit(bytes + AROUND) } else { self.has_room(bytes + AROUND) };
        if !fits && first {
            self.blocked = bytes + AROUND;
        }
        if !fits || !first && bytes > FRAME_TARGET {
            return false;
        }
        batch.bytes = bytes;
        batch.changes.push(record.into());
        true
    }

    fn send_changes(&mut self, part: Part, batch: Batch, shared: &mut Shared) {
        if self.unacked_out == 0 {
            self.credit_ms = shared.now_ms;
        }
        shared.counters.changes_sent += batch.changes.len() as u64;
        // A waiting plan has sent nothing yet, so its cursor is 0 and says nothing.
        let frame = Frame::Changes { channel: self.number, part, upto: self.cursor, changes: batch.changes }.encode();
        self.unacked_out += frame.len() as u64;
        let (since_ms, [now, before]) = self.lately_at(shared.now_ms);
        self.lately = (since_ms, [now + frame.len() as u64, before]);
        self.blocked = 0;
        shared.counters.unacked_max = shared.counters.unacked_max.max(self.unacked_out);
        shared.send(frame);
    }

    fn send_tips(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let Some(after) = self.tips_out.take() else { return Ok(()) };
        let tips = match self.t.filter(|_| self.shows_all()) {
            Some(t) => replica.tips(t, after.as_ref(), TIPS_MAX)?,
            None => Vec::new(),
        };
        let page = if tips.len() < TIPS_MAX { Page::Last } else { Page::More };
        if page == Page::More {
            self.tips_out = Some(tips.last().copied());
        }
        shared.send(Frame::Tips { channel: self.number, page, tips }.encode());
        Ok(())
    }

    /// The other side asks for changes.
    pub(crate) fn needed(&mut self, ids: &[ChangeId], have: &[ChangeId], replica: &dyn Replica) -> Result<(), Halt> {
        if self.answer.is_some() {
            return Err(Halt::Link(Fault::Rule("a Need before the last one was answered")));
        }
        let mut named = BTreeSet::new();
        let mut had = Vec::new();
        if self.serves {
            for id in ids {
                named.extend(self.find(id, replica)?.filter(|a| *a <= self.until));
            }
            for id in have {
                had.extend(self.find(id, replica)?);
            }
        }
        let (Some(t), Some(first), Some(last)) = (self.t, named.first().copied(), named.last().copied()) else {
            self.not_found += 1;
            if self.not_found >= NOT_FOUND_MAX {
                return Err(Halt::Channel(Code::NotFound, None));
            }
            self.answer = Some(Answer { want: None, have: None, named, streamed: self.cursor, cursor: 0, end: 0, ahead: VecDeque::new() });
            return Ok(());
        };
        let want = Some(replica.past(t, &named.iter().copied().collect::<Vec<_>>())?);
        let have = if had.is_empty() { None } else { Some(replica.past(t, &had)?) };
        let outside = have.as_ref().map_or(1, |have| have.first_outside());
        let cursor = first.min(outside).saturating_sub(1);
        self.answer = Some(Answer { want, have, named, streamed: self.cursor, cursor, end: last, ahead: VecDeque::new() });
        Ok(())
    }

    /// The other side gives credit back.
    pub(crate) fn acked(&mut self, ack: Ack, shared: &mut Shared) -> Result<Option<u64>, Halt> {
        if ack.bytes > self.unacked_out {
            return Err(Halt::Link(Fault::Rule("more credit given back than was used")));
        }
        self.unacked_out -= ack.bytes;
        self.dose = self.dose.saturating_add(ack.bytes);
        if ack.bytes > 0 {
            self.credit_ms = shared.now_ms;
        }
        self.passed(ack.upto)?;
        // He may have had what was here when the channel began, and since then what came by its turn; of what is later, or is not for
        // him, he knows nothing.
        if ack.durable > self.cursor.max(self.named_end) {
            return Err(Halt::Link(Fault::Rule("more made durable than was sent")));
        }
        if ack.durable <= self.delivered {
            return Ok(None);
        }
        self.delivered = ack.durable;
        Ok(Some(ack.durable))
    }
}

impl Answer {
    /// Whether a change belongs to the answer.
    fn holds(&self, a: u64, plan: &Plan) -> bool {
        if self.named.contains(&a) {
            return true;
        }
        let streamed = a <= self.streamed && !plan.contains(a);
        let within = |past: &Option<Box<dyn Past>>| past.as_ref().is_some_and(|past| past.contains(a));
        !streamed && within(&self.want) && !within(&self.have)
    }
}

/// Changes on their way into a frame.
#[derive(Default)]
struct Batch {
    changes: Vec<Bytes>,
    bytes: u64,
}

fn read(t: u32, after: u64, shared: &mut Shared, replica: &dyn Replica) -> Result<Vec<(u64, ChangeId)>, ReplicaError> {
    let rows = replica.arrivals(t, after.saturating_add(1), AHEAD_MAX.min(shared.scan))?;
    shared.scan -= rows.len().min(shared.scan);
    Ok(rows)
}
