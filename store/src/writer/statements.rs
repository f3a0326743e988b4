//! Statements about rights, and what a root key says.

use std::sync::Arc;

use timebus_identity::{SecretKey, Verified};
use tokio::sync::oneshot;

use super::syncer::{Entry, Reply};
use super::{Decider, Statement, WriteError};
use crate::auth::Held;
use crate::change::{BODY_BYTES_MAX, Body, OPS_MAX, PARENTS_MAX};
use crate::grant::{Audience, Revoke};
use crate::ids::{GrantId, OpId};
use crate::op::Op;
use crate::path::Path;
use crate::pipeline::{AUTH, Space};

impl Decider {
    /// The grants that make this device one of the owner's, the best first; one at least. One that has ended, or has no room left,
    /// does not keep it from using another one.
    pub(super) fn own_caps(&mut self) -> Result<Vec<GrantId>, WriteError> {
        if self.is_barred {
            return Err(WriteError::NoKey);
        }
        if self.own_caps.is_empty() {
            self.own_caps = self.pipeline.rights(AUTH).device_grants(&self.inner.device.public());
        }
        if self.own_caps.is_empty() { Err(WriteError::NoKey) } else { Ok(self.own_caps.clone()) }
    }

    /// The grants in whose name this device can say something about rights, the best first and one at least: the named one, or
    /// those that allow it. Whoever signs in the name of a grant that makes him a device of an owner says that he is one, and
    /// any owner can give such a grant to anybody. So this device does that in its own space alone.
    fn statement_caps(&mut self, space: Space, named: Option<GrantId>, ops: &[Op]) -> Result<Vec<GrantId>, WriteError> {
        if self.is_barred {
            return Err(WriteError::NoKey);
        }
        if let Some(cap) = named {
            let audience = Audience::Key(self.inner.device.public());
            let found = self.pipeline.rights(space.auth()).grant(&cap);
            let is_said = |held: &Held| space.is_own() || !held.allows_everything();
            let is_ours = found.is_some_and(|held| held.is_live() && held.grant.audience == audience && is_said(held));
            return if is_ours { Ok(vec![cap]) } else { Err(WriteError::NoGrant { space: space.key, path: Path::root() }) };
        }
        let mut own = if space.is_own() { self.own_caps()? } else { Vec::new() };
        let rights = self.pipeline.rights(space.auth());
        own.retain(|own| ops.iter().all(|op| rights.may_state(own, op)));
        if !own.is_empty() {
            return Ok(own);
        }
        let mut found = rights.caps_to_state(&self.inner.device.public(), ops);
        found.retain(|cap| space.is_own() || rights.grant(cap).is_some_and(|held| !held.allows_everything()));
        if found.is_empty() { Err(WriteError::NoAuthority { space: space.key }) } else { Ok(found) }
    }

    pub(super) fn state(
        &mut self,
        stated: (Option<Space>, Option<GrantId>, Statement),
        time_ms: u64,
        reply: oneshot::Sender<Result<Vec<GrantId>, WriteError>>,
    ) {
        let (space, cap, statement) = stated;
        match self.make_statement(space.unwrap_or(self.inner.own), cap, statement, time_ms) {
            Ok(grants) => self.group.replies.push(Reply::Stated(reply, grants)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Stages a statement, in the name of a grant if one is named. Answers its grants.
    fn make_statement(&mut self, space: Space, named: Option<GrantId>, statement: Statement, time_ms: u64) -> Result<Vec<GrantId>, WriteError> {
        if let Some(reason) = &self.read_only {
            return Err(WriteError::ReadOnly(Arc::clone(reason)));
        }
        let ops = match statement {
            Statement::Ops(ops) => ops,
            Statement::Revoke { grants, cascade, keep } => {
                let plain = crate::quarantine::revocations(&grants, cascade, &[]);
                let cap = self.statement_caps(space, named, &plain)?.first().copied();
                let keep = if keep { self.pipeline.keep_list(space, self.inner.device.public(), cap, plain)? } else { Vec::new() };
                crate::quarantine::revocations(&grants, cascade, &keep)
            }
            Statement::Keep(change) => {
                let timelines = self.pipeline.values(space);
                let cap = crate::quarantine::cap_of(&self.pipeline.rows, &change, |t| timelines.contains(&t))?;
                let grant = cap.filter(|cap| !self.pipeline.rights(space.auth()).is_live(cap)).ok_or(WriteError::CannotKeep(change))?;
                vec![Op::Revoke(Revoke { grant, cascade: false, keep: vec![change] })]
            }
            Statement::Redeem { grant, uses_max } => {
                let (rights, device) = (self.pipeline.rights(space.auth()), self.inner.device.public());
                // A guest who calls his grants the same does not use an invite up.
                let own = self.pipeline.rights(AUTH);
                let is_ours = |held: &Held| rights.is_by_owner(held) || held.author == device || own.was_device(&held.author);
                let alike: Vec<(GrantId, &Held)> = rights
                    .grants()
                    .filter(|(id, held)| held.grant.label == grant.label && is_ours(held) && rights.was_in_force(id))
                    .map(|(id, held)| (*id, held))
                    .collect();
                let mut same = alike.iter().filter(|(_, held)| held.grant.audience == grant.audience);
                if let Some((id, _)) = same.clone().find(|(_, held)| held.is_live()).or_else(|| same.next()) {
                    return Ok(vec![*id]);
                }
                if alike.len() as u64 >= uses_max {
                    return Err(WriteError::UsedUp);
                }
                vec![Op::Grant(grant)]
            }
        };
        let caps = self.statement_caps(space, named, &ops)?;
        let author = self.inner.device.public();
        let mut grants = Vec::new();
        for body in bodies(ops) {
            let id = self.take_allowed(space.auth(), &caps, |pipeline, cap| {
                Ok(vec![(pipeline.author(space.auth(), author, Some(cap), time_ms, &body)?, body.clone())])
            })?;
            let given = (0u32..).zip(&body.ops).filter(|(_, op)| matches!(op, Op::Grant(_)));
            grants.extend(given.map(|(index, _)| OpId { change: id, index }.grant()));
        }
        Ok(grants)
    }

    /// Stages what a root key says. A new root says first by what right it is one.
    pub(super) fn say_as_root(&mut self, root: &SecretKey, mut ops: Vec<Op>, revoked: Vec<GrantId>, time_ms: u64) -> Result<(), WriteError> {
        if let Some(reason) = &self.read_only {
            return Err(WriteError::ReadOnly(Arc::clone(reason)));
        }
        let space = self.inner.own;
        // What the new root has not seen is dead, and one change stands on so many others only.
        if self.pipeline.heads(space.auth()) > PARENTS_MAX {
            let caps = self.own_caps()?;
            self.merge_heads(space.auth(), &caps, time_ms)?;
        }
        if !revoked.is_empty() {
            let supposed = [&ops[..], &crate::quarantine::revocations(&revoked, false, &[])].concat();
            let keep = self.pipeline.keep_list(space, root.public(), None, supposed)?;
            ops.extend(crate::quarantine::revocations(&revoked, false, &keep));
        }
        let refused = || WriteError::NoAuthority { space: space.key };
        for body in bodies(ops) {
            let change = self.pipeline.author(space.auth(), root.public(), None, time_ms, &body)?;
            if self.pipeline.check(&change)?.is_err() {
                return Err(refused());
            }
            let change = Verified::sign(change, root).map_err(|_| refused())?;
            self.take(Entry::Other(change), Some(body))?;
        }
        Ok(())
    }
}

/// Statements in as few changes as hold them: who gave himself very many grants is thrown out as well.
fn bodies(ops: Vec<Op>) -> Vec<Body> {
    let mut bodies = Vec::new();
    let (mut body, mut bytes) = (Body::default(), 0);
    for op in ops {
        let alone = Body { ops: vec![op.clone()], ..Body::default() }.encode().len();
        if bytes + alone > BODY_BYTES_MAX || body.ops.len() >= OPS_MAX {
            bodies.push(std::mem::take(&mut body));
            bytes = 0;
        }
        bytes += alone;
        body.ops.push(op);
    }
    bodies.push(body);
    bodies
}
