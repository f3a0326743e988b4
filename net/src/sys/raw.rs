//! Changes as they are in the log, in JSON for people: header, references and ops, with nothing worked out.

use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use timebus_store::change::{Body, Change, Kind};
use timebus_store::op::{Op, OpRef, PathStep, Side};
use timebus_store::tree::value_json;

use super::to_serde;

/// Ops of one change that are shown; more are counted.
const OPS_MAX: usize = 200;

/// What a change says.
pub(super) fn change(change: &Change, space: &PublicKey) -> Serde {
    let header = change.header();
    let ids = |ids: &[timebus_store::ids::ChangeId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut shown = json!({
        "kind": match header.kind { Kind::Data => "data", Kind::Auth => "auth", Kind::Drop => "drop" },
        "timeline": header.timeline.to_string(),
        "seq": header.seq,
        "prev": header.prev.map(|id| id.to_string()),
        "parents": ids(&header.parents),
        "lamport": header.lamport,
        "cap": header.cap.map(|cap| cap.to_string()),
        "body_bytes": header.body_len,
        "encrypted": header.encryption.is_some(),
    });
    // Of what is encrypted, the header is all that can be read.
    let Ok(body) = Body::decode(change.body_bytes()) else { return shown };
    shown["label"] = body.label.as_deref().into();
    shown["base"] = body.base.as_deref().map(ids).into();
    shown["references"] = ids(&body.references).into();
    shown["ops"] = body.ops.iter().take(OPS_MAX).map(|op| one(op, space)).collect();
    shown["ops_total"] = body.ops.len().into();
    shown
}

/// `3` is the op of that number in the change itself, `1:3` that of the first change it refers to.
fn named(op: &OpRef) -> String {
    if op.change == 0 { op.index.to_string() } else { format!("{}:{}", op.change, op.index) }
}

fn path(steps: &[PathStep]) -> String {
    let step = |step: &PathStep| match step {
        PathStep::Name(name) => format!("/{name}"),
        PathStep::Element(op) => format!("/[{}]", named(op)),
    };
    if steps.is_empty() { "/".to_owned() } else { steps.iter().map(step).collect() }
}

fn one(op: &Op, space: &PublicKey) -> Serde {
    let all = |ops: &[OpRef]| ops.iter().map(named).collect::<Vec<_>>();
    let value = |value| to_serde(&value_json(value, space));
    let side = |side: &Side| if *side == Side::Left { "left" } else { "right" };
    match op {
        Op::Set { path: at, value: to, preds } => json!({"op": "set", "path": path(at), "value": value(to), "replaces": all(preds)}),
        Op::Del { path: at, preds } => json!({"op": "del", "path": path(at), "removes": all(preds)}),
        Op::Inc { obj, delta } => json!({"op": "inc", "counter": named(obj), "by": delta}),
        Op::Text { obj, agent, seq, edits, .. } => json!({
            "op": "text", "text": named(obj), "agent": agent, "seq": seq,
            "edits": edits.iter().map(|edit| json!([edit.pos, edit.del, edit.ins])).collect::<Vec<_>>(),
        }),
        Op::Ins { list, at, side: on, value: to } => {
            json!({"op": "ins", "list": named(list), "at": at.as_ref().map(named), "side": side(on), "value": value(to)})
        }
        Op::Move { elem, at, side: on } => json!({"op": "move", "element": named(elem), "at": at.as_ref().map(named), "side": side(on)}),
        Op::Mount { path: at, mode, .. } => json!({"op": "mount", "path": path(at), "mode": mode}),
        Op::Link { .. } => json!({"op": "link"}),
        Op::Grant(grant) => json!({"op": "grant", "label": grant.label}),
        Op::Revoke(revoke) => json!({"op": "revoke", "grant": revoke.grant.to_string()}),
        Op::Genesis(_) => json!({"op": "genesis"}),
        Op::Succeed(_) => json!({"op": "succeed"}),
        op if let Some(key) = timebus_store::behalf::of_op(op) => json!({"op": "on-behalf", "of": key.to_string()}),
        Op::Unknown { tag: timebus_store::asked::TAG, .. } => json!({"op": "asked"}),
        Op::Unknown { tag, bytes } => json!({"op": "unknown", "tag": tag, "bytes": bytes.len()}),
    }
}
