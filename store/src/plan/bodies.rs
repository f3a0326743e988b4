//! The ops of a plan, put into bodies.

use crate::change::{BODY_BYTES_MAX, Body, OPS_MAX, PARTS_MAX, REFERENCES_MAX};
use crate::codec::Writer;
use crate::ids::{ChangeId, OpId};
use crate::op::{Op, OpRef, PathStep, TEXT_EDITS_MAX, TextEdit};
use crate::value::Value;

use super::{Plan, PlanError, PlanPath, PlanStep, PlannedOp, REQUEST_BYTES_MAX, Stands, Target};

/// Bytes of the edits of one op, roughly; longer ones become several, in a run of changes.
const TEXT_OP_BYTES: usize = 512 * 1024;
/// Bytes of a body, roughly, from which the next op goes into another one: whoever gets a change hands it on when he has all of
/// it, so large ones go slowly from peer to peer.
const PART_BYTES: usize = 64 * 1024;

/// Ops of one body, before the ids of the bodies before it are known.
#[derive(Clone, Debug)]
pub struct PlannedBody {
    first: usize,
    ops: Vec<PlannedOp>,
    references: std::collections::BTreeSet<ChangeId>,
    bytes: usize,
}

impl Plan<'_> {
    /// Puts the ops into bodies of about 64 KiB, in order; of a very large request into larger ones, as a run has no more than
    /// [`PARTS_MAX`]. References to ops of earlier bodies are filled in by
    /// [`PlannedBody::finish`], when the ids of those are known.
    ///
    /// # Errors
    ///
    /// [`PlanError::RequestTooLarge`].
    pub fn into_bodies(self) -> Result<Vec<PlannedBody>, PlanError> {
        let mut bodies: Vec<PlannedBody> = Vec::new();
        let total: usize = self.ops.iter().map(rough_bytes).sum();
        if total > REQUEST_BYTES_MAX {
            return Err(PlanError::RequestTooLarge);
        }
        // Any two that follow each other hold more than this, so there are two thirds as many as there may be.
        let part_bytes = PART_BYTES.max(3 * total / PARTS_MAX as usize);
        for (number, op) in self.ops.into_iter().enumerate() {
            let size = rough_bytes(&op);
            let references = op_references(&op);
            // A change has one op on each text.
            let follows = matches!(op, PlannedOp::Text { stands: Stands::After(..), .. });
            let fits = bodies.last().is_some_and(|body| {
                !follows
                    && body.bytes + size <= part_bytes
                    && body.bytes + size <= BODY_BYTES_MAX - 64 * 1024 - 32 * body.references.len() - 32 * references.len()
                    // Two are left for who asked.
                    && body.ops.len() + 2 < OPS_MAX
                    && body.references.len() + references.len() <= REFERENCES_MAX - 300
            });
            if !fits {
                bodies.push(PlannedBody { first: number, ops: Vec::new(), references: Default::default(), bytes: 0 });
            }
            if let Some(body) = bodies.last_mut() {
                body.bytes += size;
                body.references.extend(references);
                body.ops.push(op);
            }
        }
        if bodies.len() as u64 > PARTS_MAX {
            return Err(PlanError::RequestTooLarge);
        }
        Ok(bodies)
    }
}

impl PlannedBody {
    /// Bytes of its ops, roughly.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// The body, given the ids of the bodies made before it: each with the number of its first op.
    #[must_use]
    pub fn finish(self, made: &[(usize, ChangeId)]) -> (usize, Body) {
        let first = self.first;
        let home = |number: usize| made.iter().rev().find(|(first, _)| *first <= number);
        let mut references = self.references;
        let mut note = |target: &Target| {
            if let Target::New(number) = target
                && *number < first
                && let Some((_, id)) = home(*number)
            {
                references.insert(*id);
            }
        };
        for op in &self.ops {
            match op {
                PlannedOp::Set { path, .. } | PlannedOp::Del { path, .. } => path.iter().for_each(|step| {
                    if let PlanStep::Element(target) = step {
                        note(target);
                    }
                }),
                PlannedOp::Ins { list, at, .. } => {
                    note(list);
                    at.iter().for_each(&mut note);
                }
                PlannedOp::Move { at, .. } => at.iter().for_each(&mut note),
                PlannedOp::Inc { made, .. } => note(made),
                PlannedOp::Text { made, stands, .. } => {
                    note(made);
                    if let Stands::After(number, _) = stands {
                        note(&Target::New(*number));
                    }
                }
            }
        }
        let references: Vec<ChangeId> = references.into_iter().collect();
        let known = |id: &OpId| OpRef { change: references.binary_search(&id.change).map_or(0, |at| at as u32 + 1), index: id.index };
        let resolve = |target: &Target| match target {
            Target::Known(id) => known(id),
            Target::New(number) if *number >= first => OpRef { change: 0, index: (number - first) as u32 },
            Target::New(number) => match home(*number) {
                Some((start, change)) => known(&OpId { change: *change, index: (number - start) as u32 }),
                None => OpRef { change: 0, index: u32::MAX },
            },
        };
        let steps = |path: &PlanPath| -> Vec<PathStep> {
            path.iter()
                .map(|step| match step {
                    PlanStep::Name(name) => PathStep::Name(name.clone()),
                    PlanStep::Element(target) => PathStep::Element(resolve(target)),
                })
                .collect()
        };
        let preds = |preds: &[OpId]| {
            let mut refs: Vec<OpRef> = preds.iter().map(known).collect();
            refs.sort_unstable();
            refs.dedup();
            refs
        };
        let ops = self
            .ops
            .iter()
            .map(|op| match op {
                PlannedOp::Set { path, value, preds: p } => Op::Set { path: steps(path), value: value.clone(), preds: preds(p) },
                PlannedOp::Del { path, preds: p } => Op::Del { path: steps(path), preds: preds(p) },
                PlannedOp::Ins { list, at, side, value } => {
                    Op::Ins { list: resolve(list), at: at.as_ref().map(resolve), side: *side, value: value.clone() }
                }
                PlannedOp::Move { element, at, side } => Op::Move { elem: known(element), at: at.as_ref().map(resolve), side: *side },
                PlannedOp::Inc { made, delta } => Op::Inc { obj: resolve(made), delta: *delta },
                PlannedOp::Text { made, stands, agent, seq, edits } => {
                    let number = |change: &ChangeId| references.binary_search(change).map_or(0, |at| at as u32 + 1);
                    let mut base: Vec<(u32, u64)> = match stands {
                        Stands::On(version) => version.iter().map(|(change, event)| (number(change), *event)).collect(),
                        Stands::After(op, events) => vec![(resolve(&Target::New(*op)).change, *events)],
                    };
                    base.sort_unstable();
                    base.dedup();
                    Op::Text { obj: resolve(made), base, agent: agent.clone(), seq: *seq, edits: edits.clone() }
                }
            })
            .collect();
        (first, Body { references, ops, ..Body::default() })
    }
}

fn op_references(op: &PlannedOp) -> Vec<ChangeId> {
    let mut found = Vec::new();
    let known = |target: &Target, found: &mut Vec<ChangeId>| {
        if let Target::Known(id) = target {
            found.push(id.change);
        }
    };
    match op {
        PlannedOp::Set { path, preds, .. } | PlannedOp::Del { path, preds } => {
            for step in path {
                if let PlanStep::Element(target) = step {
                    known(target, &mut found);
                }
            }
            found.extend(preds.iter().map(|id| id.change));
        }
        PlannedOp::Ins { list, at, .. } => {
            known(list, &mut found);
            at.iter().for_each(|at| known(at, &mut found));
        }
        PlannedOp::Move { element, at, .. } => {
            found.push(element.change);
            at.iter().for_each(|at| known(at, &mut found));
        }
        PlannedOp::Inc { made, .. } => known(made, &mut found),
        PlannedOp::Text { made, stands, .. } => {
            known(made, &mut found);
            if let Stands::On(version) = stands {
                found.extend(version.iter().map(|(change, _)| *change));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn rough_bytes(op: &PlannedOp) -> usize {
    let value_bytes = |value: &Value| {
        let mut out = Writer::new();
        value.encode(&mut out);
        out.len()
    };
    let path_bytes = |path: &PlanPath| -> usize {
        path.iter()
            .map(|step| match step {
                PlanStep::Name(name) => name.len() + 3,
                PlanStep::Element(_) => 9,
            })
            .sum()
    };
    16 + match op {
        PlannedOp::Set { path, value, preds } => path_bytes(path) + value_bytes(value) + 8 * preds.len(),
        PlannedOp::Del { path, preds } => path_bytes(path) + 8 * preds.len(),
        PlannedOp::Ins { value, .. } => 24 + value_bytes(value),
        PlannedOp::Move { .. } => 24,
        PlannedOp::Inc { .. } => 16,
        PlannedOp::Text { edits, .. } => 400 + edits.iter().map(edit_bytes).sum::<usize>(),
    }
}

/// Bytes of an edit in a body, at most.
fn edit_bytes(edit: &TextEdit) -> usize {
    12 + edit.ins.len()
}

pub(super) fn events(edit: &TextEdit) -> u64 {
    edit.del + edit.ins.chars().count() as u64
}

/// Cuts edits into parts that fit an op each.
pub(super) fn in_parts(edits: Vec<TextEdit>) -> Vec<Vec<TextEdit>> {
    let mut parts: Vec<Vec<TextEdit>> = Vec::new();
    let mut bytes = 0;
    let mut push = |edit: TextEdit| {
        bytes += edit_bytes(&edit);
        match parts.last_mut() {
            Some(part) if bytes <= TEXT_OP_BYTES && part.len() < TEXT_EDITS_MAX => part.push(edit),
            _ => {
                bytes = edit_bytes(&edit);
                parts.push(vec![edit]);
            }
        }
    };
    for edit in edits {
        if edit.ins.len() <= TEXT_OP_BYTES / 2 {
            push(edit);
            continue;
        }
        let (mut pos, mut del, mut rest) = (edit.pos, edit.del, &*edit.ins);
        while !rest.is_empty() {
            let end = rest.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= TEXT_OP_BYTES / 2).last().unwrap_or(rest.len());
            let (ins, tail) = rest.split_at(end);
            push(TextEdit { pos, del, ins: ins.into() });
            pos += ins.chars().count() as u64;
            del = 0;
            rest = tail;
        }
    }
    parts
}
