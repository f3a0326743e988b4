//! Recorded editing sessions: what was typed gives what was on the screen.

use std::io::Read as _;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use serde_json::Value;
use timebus_store::op::TextEdit;
use timebus_store::text::{Budget, TextObject, TextOp};

use crate::history::{author, change, events};

pub(crate) const TRACES: [&str; 4] = ["friendsforever", "json-crdt-patch", "rustcode", "sveltecomponent"];

/// A file of the shared test data; `None`, said aloud, where that is not installed.
pub(crate) fn data(name: &str) -> Option<Value> {
    let root = match std::env::var_os("TIMEBUS_DATA") {
        Some(root) => PathBuf::from(root),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    };
    let Ok(bytes) = std::fs::read(root.join("01-editing-traces").join(name)) else {
        eprintln!("skipped: no data ({name})");
        return None;
    };
    let mut unpacked = Vec::new();
    GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).expect("a whole gzip file");
    Some(serde_json::from_slice(&unpacked).expect("JSON"))
}

/// A session: ops, each with the numbers of those it stands on.
pub(crate) struct Trace {
    pub(crate) ops: Vec<(TextOp, Vec<usize>)>,
    pub(crate) end: String,
}

/// Reads a trace; transactions of a sequential one stand on each other.
pub(crate) fn trace(name: &str) -> Option<Trace> {
    let json = data(&format!("{name}.json.gz"))?;
    let concurrent = json["kind"] == "concurrent";
    let mut next_seq = vec![0; json["numAgents"].as_u64().unwrap_or(1) as usize];
    let mut ops: Vec<(TextOp, Vec<usize>)> = Vec::new();
    for (number, txn) in json["txns"].as_array().expect("transactions").iter().enumerate() {
        let edits: Vec<TextEdit> = txn["patches"]
            .as_array()
            .expect("patches")
            .iter()
            .map(|patch| TextEdit {
                pos: patch[0].as_u64().expect("position"),
                del: patch[1].as_u64().expect("count"),
                ins: patch[2].as_str().expect("text").into(),
            })
            .filter(|edit| edit.del > 0 || !edit.ins.is_empty())
            .collect();
        let parents: Vec<usize> = if concurrent {
            txn["parents"].as_array().expect("parents").iter().map(|parent| parent.as_u64().expect("number") as usize).collect()
        } else {
            number.checked_sub(1).into_iter().collect()
        };
        if edits.is_empty() {
            continue;
        }
        let agent = txn["agent"].as_u64().unwrap_or(0) as usize;
        next_seq[agent] += events(&edits);
        let base = parents.iter().map(|parent| (change(*parent), events(&ops[*parent].0.edits))).collect();
        ops.push((
            TextOp { change: change(number), author: author(agent), base, agent: format!("agent{agent}").into(), seq: next_seq[agent] - 1, edits },
            parents,
        ));
    }
    Some(Trace { ops, end: json["endContent"].as_str().expect("text").to_owned() })
}

/// Gives everything to a text at once. The traces' agents are each sequential, so all of it may count as past.
pub(crate) fn replay(trace: &Trace) -> TextObject {
    let mut object = TextObject::new();
    for (op, _) in &trace.ops {
        object.admit(op, |_| true).expect("valid");
    }
    object.merge(&mut Budget::unlimited());
    object
}

#[test]
fn a_session_ends_with_the_text_it_ended_with() {
    for name in TRACES {
        let Some(trace) = trace(name) else { return };
        let object = replay(&trace);
        assert!(object.text() == trace.end, "{name}");
    }
}

#[test]
fn a_session_in_batches_ends_with_the_same_text() {
    for name in TRACES {
        let Some(trace) = trace(name) else { return };
        let batched = batched(&trace, 100);
        assert!(batched.ops.len() < trace.ops.len() / 2, "{name}");
        assert!(replay(&batched).text() == trace.end, "{name}");
    }
}

#[test]
fn a_session_typed_key_by_key_gives_patches_that_lead_to_its_text() {
    for name in TRACES {
        let Some(trace) = trace(name) else { return };
        let mut object = TextObject::new();
        let mut text = jumprope::JumpRope::new();
        for (op, _) in &trace.ops {
            let merged = object.apply(op, |_| true, &mut Budget::unlimited()).expect("valid");
            for patch in merged.patches {
                text.remove(patch.pos as usize..(patch.pos + patch.del) as usize);
                text.insert(patch.pos as usize, &patch.ins);
            }
        }
        assert!(object.text() == trace.end, "{name}");
        assert!(text.to_string() == trace.end, "{name}: patches");
    }
}

/// The same session as a peer writes it that collects keystrokes: up to so many edits an op, as long as nothing happens
/// beside them.
fn batched(trace: &Trace, edits_max: usize) -> Trace {
    let mut kids = vec![0; trace.ops.len()];
    trace.ops.iter().flat_map(|(_, parents)| parents).for_each(|parent| kids[*parent] += 1);
    // By op of the trace: the new op, and how many of its events come before the end of the old one.
    let mut place: Vec<(usize, u64)> = Vec::new();
    let mut ops: Vec<(TextOp, Vec<usize>)> = Vec::new();
    for (number, (op, parents)) in trace.ops.iter().enumerate() {
        let count = events(&op.edits);
        let last = parents.first().copied().filter(|parent| parents.len() == 1 && kids[*parent] == 1 && parent + 1 == number);
        match (last, ops.last_mut()) {
            (Some(_), Some((batch, _))) if batch.agent == op.agent && batch.edits.len() + op.edits.len() <= edits_max => {
                batch.edits.extend(op.edits.iter().cloned());
                batch.seq = op.seq;
                place.push((ops.len() - 1, place[number - 1].1 + count));
            }
            _ => {
                let base = parents.iter().map(|parent| (change(place[*parent].0), place[*parent].1)).collect();
                ops.push((TextOp { change: change(ops.len()), base, ..op.clone() }, parents.iter().map(|parent| place[*parent].0).collect()));
                place.push((ops.len() - 1, count));
            }
        }
    }
    Trace { ops, end: trace.end.clone() }
}

/// diamond-types with the same ops: a log, and what merging it takes.
fn reference(trace: &Trace) -> diamond_types::list::OpLog {
    let mut log = diamond_types::list::OpLog::new();
    let mut ends: Vec<usize> = Vec::new();
    for (op, parents) in &trace.ops {
        let agent = log.get_or_create_agent_id(&op.agent);
        let mut at: Vec<usize> = parents.iter().map(|parent| ends[*parent]).collect();
        at.sort_unstable();
        for edit in &op.edits {
            let pos = edit.pos as usize;
            if edit.del > 0 {
                at = vec![log.add_delete_at(agent, &at, pos..pos + edit.del as usize)];
            }
            if !edit.ins.is_empty() {
                at = vec![log.add_insert_at(agent, &at, pos, &edit.ins)];
            }
        }
        ends.push(at[0]);
    }
    log
}

/// Milliseconds that this thread has run, which other work on the machine does not change much.
pub(crate) fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
}

/// Milliseconds that something takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = cpu_ms();
    let result = work();
    (cpu_ms() - start, result)
}

#[test]
#[ignore = "prints timings, which only a release build has"]
fn timings() {
    eprintln!(
        "| trace | ops | diamond-types: log, merge | re-sorted: load, merge | ours: admit, merge | steps \
         | typed one by one | snapshot: bytes, write, open, text only |"
    );
    eprintln!("|---|---|---|---|---|---|---|---|");
    for (name, edits_max) in TRACES.iter().flat_map(|name| [(*name, 1), (*name, 1000)]) {
        let Some(trace) = trace(name) else { return };
        let trace = if edits_max > 1 { batched(&trace, edits_max) } else { trace };
        let (log_ms, log) = timed(|| reference(&trace));
        let (merge_ms, branch) = timed(|| log.checkout_tip());
        assert!(branch.content().to_string() == trace.end);
        let bytes = log.encode(diamond_types::list::encoding::ENCODE_FULL);
        let (load_ms, sorted) = timed(|| diamond_types::list::OpLog::load_from(&bytes).expect("its own bytes"));
        let (sorted_ms, branch) = timed(|| sorted.checkout_tip());
        assert!(branch.content().to_string() == trace.end);
        let (admit_ms, mut object) = timed(|| {
            let mut object = TextObject::new();
            for (op, _) in &trace.ops {
                object.admit(op, |_| true).expect("valid");
            }
            object
        });
        let mut budget = Budget::unlimited();
        let (ours_ms, _) = timed(|| object.merge(&mut budget));
        assert!(object.text() == trace.end);
        let (typed_ms, _) = timed(|| {
            let mut typed = TextObject::new();
            for (op, _) in &trace.ops {
                typed.apply(op, |_| true, &mut Budget::unlimited()).expect("valid");
            }
            typed
        });
        let (write_ms, bytes) = timed(|| object.encode());
        let (open_ms, back) = timed(|| TextObject::decode(&bytes).expect("our own bytes"));
        assert!(back.text() == trace.end);
        let (text_ms, text) = timed(|| TextObject::text_of_snapshot(&bytes).expect("our own bytes"));
        assert!(text == trace.end);
        eprintln!(
            "| {name} | {} | {log_ms:.1} + {merge_ms:.1} ms | {load_ms:.1} + {sorted_ms:.1} ms | {admit_ms:.1} + {ours_ms:.1} ms \
             | {} | {typed_ms:.1} ms | {}, {write_ms:.1}, {open_ms:.1}, {text_ms:.2} ms |",
            trace.ops.len(),
            budget.taken(),
            bytes.len()
        );
    }
}
