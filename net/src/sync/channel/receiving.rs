//! The receiving half of a channel: what came, what is durable, what is asked for.

use bytes::Bytes;
use timebus_identity::Signed;
use timebus_store::change::{Change, Head};
use timebus_store::ids::ChangeId;

use super::{Arrived, Asked, Channel, Halt, NEED_MS, Plan, REFUSED_MAX, STRIKES_MAX, Shared, Ticket, WANTED_MAX};
use crate::sync::frame::{Code, Frame, NEED_HAVE_MAX, NEED_IDS_MAX, Page, Part, TIPS_PER_AUTHOR_MAX};
use crate::sync::replica::{Replica, ReplicaError, Tip};
use crate::sync::session::{Fault, Output, Stored};

/// Most pages of tips that are taken: 256 000 authors. A timeline with more is synced by cursor.
const PAGES_MAX: usize = 256;
/// Most places of our chains that are named to an author's fork; the rest of a Need's list is what both have.
const LADDER_MAX: usize = 32;

impl Channel {
    /// Tips of the other side.
    pub(crate) fn tips(&mut self, page: Page, tips: &[Tip], replica: &dyn Replica) -> Result<(), Halt> {
        self.tips_in.pages += 1;
        if self.tips_in.ended {
            return Err(Halt::Link(Fault::Rule("tips after the last page")));
        }
        if self.tips_in.pages > PAGES_MAX {
            return Err(Halt::Channel(Code::TooMuch, Some(Fault::Flood)));
        }
        if page == Page::LacksNothing {
            self.tips_in.ended = true;
            self.lacks_nothing();
            return Ok(());
        }
        for tip in tips {
            if self.tips_in.last.is_some_and(|last| last >= *tip) {
                return Err(Halt::Link(Fault::Rule("tips that are not ascending")));
            }
            if self.tips_in.last.is_some_and(|last| last.author != tip.author) {
                self.end_group(replica)?;
            }
            if self.tips_in.group.len() >= TIPS_PER_AUTHOR_MAX {
                return Err(Halt::Link(Fault::Rule("too many tips of one author")));
            }
            self.tips_in.group.push(*tip);
            self.tips_in.last = Some(*tip);
        }
        if page == Page::Last {
            self.end_group(replica)?;
            self.tips_in.ended = true;
            let known = std::mem::take(&mut self.tips_in.known);
            // Who knows all heads of the other side, or has its cursor, is sending already.
            if matches!(self.plan, Plan::Waiting) {
                let past = match self.t {
                    Some(t) if !known.is_empty() => Some(replica.past(t, &known)?),
                    _ => None,
                };
                self.theirs = known;
                self.plan = Plan::Known { upto: 0, past };
                self.skip_what_is_known();
            }
        }
        Ok(())
    }

    /// All tips of one author came.
    fn end_group(&mut self, replica: &dyn Replica) -> Result<(), Halt> {
        let group = std::mem::take(&mut self.tips_in.group);
        let Some((t, author)) = self.t.zip(group.first().map(|tip| tip.author)) else { return Ok(()) };
        let mut own = None;
        for tip in &group {
            if let Some(a) = replica.find(t, &tip.id)? {
                self.tips_in.known.push(a);
                self.remember(tip.id);
                continue;
            }
            let own = match &mut own {
                Some(own) => own,
                None => own.insert(replica.tips_of(t, &author)?),
            };
            let highest = own.last().map_or(0, |(tip, _)| tip.seq);
            // One chain each: what is longer holds what is shorter. If that is wrong, the author forked his chain, and the
            // other side sees a tip of ours that should be on its own chain and asks for it; or, at the latest, misses one
            // of the heads that we named. Hence only what those heads cover is taken for granted.
            if let [(mine, a)] = own.as_slice()
                && mine.seq <= tip.seq
                && *a <= self.named_end
            {
                self.tips_in.known.push(*a);
            }
            if group.len() == 1 && tip.seq <= highest {
                self.want(tip.id)?;
                let mut step = 1;
                let mut seq = tip.seq;
                while self.ladder.len() < LADDER_MAX && seq > step {
                    seq -= step;
                    step *= 2;
                    self.ladder.extend(replica.at(t, &author, seq)?);
                }
            }
        }
        Ok(())
    }

    /// Changes came in a frame of so many bytes.
    pub(crate) fn changes(
        &mut self,
        part: Part,
        upto: u64,
        changes: &[Bytes],
        bytes: u64,
        shared: &mut Shared,
        replica: &dyn Replica,
    ) -> Result<(), Halt> {
        if self.unacked_in > 0 && self.unacked_in + bytes > self.window_in {
            return Err(Halt::Link(Fault::Rule("more changes than there was credit for")));
        }
        self.unacked_in += bytes;
        if part != Part::Stream {
            let asked = self.asked.as_mut().ok_or(Halt::Link(Fault::Rule("an answer to no Need")))?;
            asked.deadline_ms = shared.now_ms + NEED_MS;
        }
        let mut fresh = Vec::new();
        let mut fetched = Vec::new();
        for change in changes {
            let change = Change::decode(change).map_err(|error| Halt::Link(Fault::Change(error)))?;
            if change.content().header().timeline != self.timeline {
                return Err(Halt::Link(Fault::Rule("a change of another timeline")));
            }
            shared.counters.changes_received += 1;
            let id = change.content().id();
            if self.fetching.remove(&id).is_some() {
                fetched.push(change.clone());
            }
            if let Some(a) = self.find(&id, replica)? {
                shared.counters.duplicates += 1;
                self.came(id, a);
            } else if shared.in_flight.contains(&id) || shared.pending.contains(&id) {
                shared.counters.duplicates += 1;
            } else if !shared.refused.contains(&id) {
                shared.in_flight.insert(id);
                fresh.push(change);
            }
        }
        if !fetched.is_empty() {
            shared.out.push(Output::Fetched { changes: fetched });
        }
        let ticket = (!fresh.is_empty()).then(|| self.store(fresh, shared));
        let upto = self.checked(upto)?;
        self.arrived.push_back(Arrived { ticket, bytes, upto, ends_answer: part == Part::AnswerEnds });
        Ok(())
    }

    fn store(&self, changes: Vec<Signed<Change>>, shared: &mut Shared) -> u64 {
        shared.last_ticket += 1;
        let ticket = shared.last_ticket;
        shared.out.push(Output::Store { ticket, space: self.space, timeline: self.timeline, changes: changes.clone() });
        shared.tickets.insert(ticket, Ticket { channel: self.number, changes });
        ticket
    }

    /// A change that the other side has is here as `a`.
    fn came(&mut self, id: ChangeId, a: u64) {
        if a > self.cursor {
            self.peer_has.insert(a);
        }
        self.remember(id);
        self.wanted.remove(&id);
    }

    /// A cursor of the other side only goes forward.
    fn checked(&mut self, upto: u64) -> Result<u64, Halt> {
        if upto < self.upto_in {
            // A side that does not know yet what to send names 0.
            return if upto == 0 { Ok(self.upto_in) } else { Err(Halt::Link(Fault::Rule("a cursor that goes back"))) };
        }
        self.upto_in = upto;
        Ok(upto)
    }

    /// The other side's cursor, behind all that came before.
    pub(crate) fn passed(&mut self, upto: u64) -> Result<(), Halt> {
        let upto = self.checked(upto)?;
        match self.arrived.back_mut() {
            Some(last) => last.upto = upto,
            None => self.upto_done = self.upto_done.max(upto),
        }
        Ok(())
    }

    /// The other side has sent all that it had.
    pub(crate) fn live(&mut self, upto: u64) -> Result<(), Halt> {
        self.live_in = true;
        self.passed(upto)
    }

    /// What became of changes that were to be stored.
    pub(crate) fn stored(
        &mut self,
        number: u64,
        changes: Vec<Signed<Change>>,
        stored: Stored,
        shared: &mut Shared,
        replica: &dyn Replica,
    ) -> Result<(), Halt> {
        if self.t.is_none() {
            self.t = replica.local(&self.space, &self.timeline)?;
        }
        self.at_end = false;
        for id in &stored.admitted {
            shared.counters.admitted += 1;
            if let Some(a) = self.find(id, replica)? {
                self.came(*id, a);
            }
        }
        for id in stored.refused.iter().chain(&stored.bad_signatures) {
            self.refuse(*id, shared)?;
        }
        if !stored.bad_signatures.is_empty() {
            shared.penalty(Fault::BadSignatures(stored.bad_signatures.len() as u32));
        }
        for change in changes.iter().filter(|change| stored.held.contains(&change.content().id())) {
            self.keep_head(&Head::of(change), shared);
            let id = change.content().id();
            let above = self.hold_back(id, id, shared)?;
            self.built_on(id, above, shared);
        }
        let mut again = Vec::new();
        let mut waiting: std::collections::BTreeMap<_, _> = stored.pending.into_iter().collect();
        for change in changes {
            let id = change.content().id();
            let Some(missing) = waiting.remove(&id) else {
                if self.find(&id, replica)?.is_none() && !shared.refused.contains(&id) {
                    // Nobody said what became of it.
                    self.forget_cursor(shared);
                }
                continue;
            };
            let named = !missing.is_empty();
            let mut still = Vec::new();
            for id in missing {
                if self.find(&id, replica)?.is_none() {
                    still.push(id);
                }
            }
            if let Some(gone) = still.iter().find(|id| shared.refused.contains(id)) {
                if shared.held.contains(gone) {
                    // Whoever builds on what builds on it has it come, too.
                    let cause = self.held_for.get(gone).copied().unwrap_or(*gone);
                    let mut by = self.hold_back(id, cause, shared)?;
                    by.insert(change.content().header().author);
                    self.built_on(cause, by, shared);
                } else {
                    self.refuse(id, shared)?;
                }
            } else if named && still.is_empty() {
                // It came on another link meanwhile.
                shared.in_flight.insert(id);
                again.push(change);
            } else {
                let kept = shared.pending.insert(self.number, change, still.clone());
                self.wanted.remove(&id);
                if !kept {
                    self.want(id)?;
                }
                for id in still {
                    if !shared.pending.contains(&id) && !shared.in_flight.contains(&id) {
                        self.want(id)?;
                    }
                }
            }
        }
        if !again.is_empty() {
            self.store(again, shared);
        }
        if let Some(frame) = self.arrived.iter_mut().find(|frame| frame.ticket == Some(number)) {
            frame.ticket = None;
        }
        Ok(())
    }

    /// Asks for changes that are damaged here. The other side never named them, so it is not blamed if it has them not.
    pub(crate) fn fetch(&mut self, ids: Vec<ChangeId>) {
        for id in ids.into_iter().take(NEED_IDS_MAX) {
            if self.fetching.len() < WANTED_MAX {
                self.fetching.entry(id).or_insert(false);
            }
        }
    }

    fn want(&mut self, id: ChangeId) -> Result<(), Halt> {
        if self.asked.as_ref().is_none_or(|asked| !asked.ids.contains(&id)) {
            self.wanted.insert(id);
        }
        if self.wanted.len() > WANTED_MAX {
            return Err(Halt::Channel(Code::TooMuch, Some(Fault::Flood)));
        }
        Ok(())
    }

    /// A change that will not be admitted from this peer, nor what builds on it.
    fn refuse(&mut self, id: ChangeId, shared: &mut Shared) -> Result<(), Halt> {
        self.forget_cursor(shared);
        let above = shared.pending.drop_above([id]);
        for id in above.into_iter().map(|(id, _)| id).chain([id]) {
            shared.counters.refused += 1;
            shared.refused.insert(id);
            self.wanted.remove(&id);
        }
        if shared.refused.len() - shared.held.len() > REFUSED_MAX {
            return Err(Halt::Link(Fault::Refused));
        }
        Ok(())
    }

    /// Something that came is not here: a later session must be offered it again, whatever its number.
    pub(super) fn forget_cursor(&mut self, shared: &mut Shared) {
        if !self.refused {
            self.refused = true;
            shared.out.push(Output::Resume { timeline: self.timeline, cursor: None });
        }
    }

    /// Offers what need not wait any more.
    pub(crate) fn retry(&mut self, rights_changed: bool, shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let t = self.t;
        let ready = shared.pending.take_ready(self.number, rights_changed, |id| t.map_or(Ok(None), |t| replica.find(t, id)).map(|a| a.is_some()))?;
        if !ready.is_empty() {
            shared.in_flight.extend(ready.iter().map(|change| change.content().id()));
            self.store(ready, shared);
        }
        Ok(())
    }

    /// Draws conclusions from what came and was stored: gives frames back, ends answers, asks for what is missing, and
    /// finds out whether everything that the other side named is here.
    pub(crate) fn settle(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), Halt> {
        while let Some(frame) = self.arrived.pop_front_if(|frame| frame.ticket.is_none()) {
            self.give_back += frame.bytes;
            self.upto_done = self.upto_done.max(frame.upto);
            if frame.ends_answer {
                self.answered(shared, replica)?;
            }
        }
        if !self.opened {
            return Ok(());
        }
        let is_fetching = self.fetching.values().any(|was_asked| !was_asked);
        if (is_fetching || !self.wanted.is_empty()) && self.asked.is_none() {
            self.ask(shared, replica)?;
        }
        let idle = self.arrived.is_empty() && self.is_settled(shared) && !shared.tickets.values().any(|ticket| ticket.channel == self.number);
        if self.live_in && !self.caught_up && idle {
            for head in self.heads.clone() {
                if self.find(&head, replica)?.is_none() && !shared.refused.contains(&head) {
                    self.want(head)?;
                }
            }
            if self.wanted.is_empty() {
                self.caught_up = true;
                shared.out.push(Output::CaughtUp { timeline: self.timeline, complete: !self.refused });
            } else {
                self.ask(shared, replica)?;
            }
        }
        Ok(())
    }

    /// Asks for what is missing.
    fn ask(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), ReplicaError> {
        let mut ids = Vec::new();
        for id in std::mem::take(&mut self.wanted) {
            if self.find(&id, replica)?.is_some() || self.is_near(&id, shared) || shared.refused.contains(&id) {
                continue;
            }
            if ids.len() < NEED_IDS_MAX {
                ids.push(id);
            } else {
                self.wanted.insert(id);
            }
        }
        for (id, was_asked) in self.fetching.iter_mut().filter(|(_, was_asked)| !**was_asked) {
            if ids.len() < NEED_IDS_MAX && !ids.contains(id) {
                ids.push(*id);
                *was_asked = true;
            }
        }
        // A Need names its changes in order.
        ids.sort_unstable();
        if ids.is_empty() {
            return Ok(());
        }
        // Heads first where there are few: they say most, if the other side has them.
        let mut have: Vec<ChangeId> = self.ladder.iter().chain(self.common.iter().rev()).copied().collect();
        if let Some(t) = self.t {
            have.extend(replica.heads(t, NEED_HAVE_MAX)?);
        }
        have.truncate(NEED_HAVE_MAX);
        have.sort_unstable();
        have.dedup();
        shared.counters.needs_sent += 1;
        shared.say(&Frame::Need { channel: self.number, ids: ids.clone(), have });
        self.asked = Some(Asked { ids, deadline_ms: shared.now_ms + NEED_MS });
        Ok(())
    }

    pub(super) fn is_near(&self, id: &ChangeId, shared: &Shared) -> bool {
        shared.in_flight.contains(id) || shared.pending.contains(id)
    }

    /// The answer to a Need has ended, and all of it was dealt with.
    fn answered(&mut self, shared: &mut Shared, replica: &dyn Replica) -> Result<(), Halt> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let mut withheld = Vec::new();
        for id in asked.ids {
            if self.fetching.remove(&id).is_some() {
                continue;
            }
            let here = self.find(&id, replica)?.is_some() || self.is_near(&id, shared) || shared.refused.contains(&id);
            // One that came and found no room to wait is asked for again.
            if !here && !self.wanted.contains(&id) {
                withheld.push(id);
            }
        }
        if withheld.is_empty() {
            return Ok(());
        }
        if !self.held.is_empty() {
            return self.ask_heads(withheld, shared);
        }
        // Only what the other side named, or what it sent builds on, is ever asked for.
        self.strikes += 1;
        self.forget_cursor(shared);
        shared.pending.drop_above(withheld);
        if self.strikes >= STRIKES_MAX {
            return Err(Halt::Channel(Code::NotFound, Some(Fault::Withheld)));
        }
        shared.penalty(Fault::Withheld);
        Ok(())
    }
}
