//! Names of sessions: who claims which events under which name, and what clients may call an event.

use std::collections::HashMap;

use super::ops::{Ops, Slot, named_change};
use crate::ids::ChangeId;

/// The public name of an event, as clients of Braid count it: `agent-seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventName {
    /// The session, or the change in base64url where a session's events are claimed twice.
    pub agent: String,
    /// The event's number in it, from 0.
    pub seq: u64,
}

/// Which events are claimed under which name, by ops that count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agents {
    by_name: HashMap<Box<str>, u32>,
    claims: Vec<Claims>,
}

#[derive(Clone, Debug, Default)]
struct Claims {
    author: Option<u32>,
    /// Numbers of first events with their ops, ascending; kept only while the name is not clashed.
    by_seq: Vec<(u64, Slot)>,
}

impl Agents {
    /// The number of a name, which may be new.
    pub(crate) fn intern(&mut self, ops: &mut Ops, name: &str) -> u32 {
        if let Some(agent) = self.by_name.get(name) {
            return *agent;
        }
        let agent = ops.push_agent(name);
        self.by_name.insert(name.into(), agent);
        self.claims.push(Claims::default());
        agent
    }

    /// The number of a name that is known.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The number of the author whose ops claim a name, if they are of one alone.
    pub(crate) fn author(&self, name: &str) -> Option<u32> {
        let claims = &self.claims[*self.by_name.get(name)? as usize];
        claims.author.filter(|_| !claims.by_seq.is_empty())
    }

    /// Notes an op that counts. Says whether its name has clashed just now.
    pub(crate) fn claim(&mut self, ops: &mut Ops, slot: Slot) -> bool {
        let record = ops.record(slot).clone();
        let agent = &mut ops.agents[record.agent as usize];
        if agent.clashed {
            return false;
        }
        let claims = &mut self.claims[record.agent as usize];
        let author = *claims.author.get_or_insert(record.author);
        let place = claims.by_seq.partition_point(|(first, _)| *first <= record.seq);
        let before = place.checked_sub(1).map(|at| claims.by_seq[at].1);
        let overlaps = before.is_some_and(|other| ops.records[other as usize].seq >= record.seq_first());
        if author == record.author && !overlaps {
            claims.by_seq.insert(place, (record.seq_first(), slot));
            return false;
        }
        agent.clashed = true;
        claims.by_seq = Vec::new();
        true
    }

    /// Forgets all claims: which ops count has changed.
    pub(crate) fn reset(&mut self, ops: &mut Ops) {
        for (agent, claims) in ops.agents.iter_mut().zip(&mut self.claims) {
            *claims = Claims::default();
            agent.clashed = named_change(&agent.name).is_some();
            agent.tied = false;
        }
    }

    /// The op that has an event of this name, and which of its events (from 0) that is.
    pub(crate) fn find(&self, ops: &Ops, name: &str, seq: u64) -> Option<(Slot, u32)> {
        let agent = *self.by_name.get(name)?;
        let by_seq = &self.claims[agent as usize].by_seq;
        let (first, slot) = &by_seq[by_seq.partition_point(|(first, _)| *first <= seq).checked_sub(1)?];
        (ops.record(*slot).seq >= seq).then(|| (*slot, (seq - first) as u32))
    }
}

/// The change that a name names, where names of changes are used.
pub(crate) fn change_of(name: &str) -> Option<ChangeId> {
    named_change(name)
}
