//! Recorded editing sessions through the whole store: each agent writes to a store of its own, signed and on disk, and
//! the stores exchange what the session says that its people had seen. Each keystroke as a change of its own is written to
//! logs in memory.
//!
//! `cargo test -p timebus-store --test texts -- --ignored keystroke` does all of every session in some minutes,
//! `-- --ignored conformance` all cases with the text that diamond-types gives.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use serde_json::Value as Trace;

use super::*;
use crate::home::{folder, open};
use crate::peers::Peers;

/// Conformance cases that are always run, a second; there are 500.
const CASES: usize = 60;

fn data(name: &str) -> Option<Trace> {
    let root = match std::env::var_os("TIMEBUS_DATA") {
        Some(root) => PathBuf::from(root),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    };
    let Ok(bytes) = std::fs::read(root.join("01-editing-traces").join(format!("{name}.json.gz"))) else {
        eprintln!("skipped: no data ({name})");
        return None;
    };
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).expect("a whole gzip file");
    Some(serde_json::from_slice(&unpacked).expect("JSON"))
}

/// What one agent did before anybody else's work came in between: on top of which steps, and how.
struct Step {
    agent: usize,
    parents: Vec<usize>,
    edits: Vec<TextEdit>,
}

/// A session in batches of up to so many edits; transactions of a sequential one stand on each other.
fn steps(trace: &Trace, edits_max: usize) -> Vec<Step> {
    let concurrent = trace["kind"] == "concurrent";
    let txns = trace["txns"].as_array().expect("transactions");
    let parents_of = |number: usize| -> Vec<usize> {
        if concurrent {
            txns[number]["parents"].as_array().expect("parents").iter().map(|parent| parent.as_u64().expect("a number") as usize).collect()
        } else {
            number.checked_sub(1).into_iter().collect()
        }
    };
    let mut children = vec![0; txns.len()];
    (0..txns.len()).for_each(|number| parents_of(number).into_iter().for_each(|parent| children[parent] += 1));
    let mut steps: Vec<Step> = Vec::new();
    // The step that each transaction is in; one without edits is what it stands on.
    let mut step_of: Vec<Vec<usize>> = Vec::new();
    for (number, txn) in txns.iter().enumerate() {
        let edits = txn["patches"]
            .as_array()
            .expect("patches")
            .iter()
            .map(|patch| edit(patch[0].as_u64().expect("a position"), patch[1].as_u64().expect("a number"), patch[2].as_str().expect("text")));
        let edits: Vec<TextEdit> = edits.filter(|edit| edit.del > 0 || !edit.ins.is_empty()).collect();
        let parents = parents_of(number);
        let mut stands_on: Vec<usize> = parents.iter().flat_map(|parent| step_of[*parent].iter().copied()).collect();
        stands_on.sort_unstable();
        stands_on.dedup();
        if edits.is_empty() {
            step_of.push(stands_on);
            continue;
        }
        let agent = txn["agent"].as_u64().unwrap_or(0) as usize;
        let goes_on = match (&parents[..], &stands_on[..]) {
            ([parent], [last]) => children[*parent] == 1 && last + 1 == steps.len() && steps[*last].agent == agent,
            _ => false,
        };
        if goes_on && steps.last().is_some_and(|last| last.edits.len() + edits.len() <= edits_max) {
            steps.last_mut().expect("seen above").edits.extend(edits);
        } else {
            steps.push(Step { agent, parents: stands_on, edits });
        }
        step_of.push(vec![steps.len() - 1]);
    }
    steps
}

async fn replay(name: &str, edits_max: usize) {
    let Some(trace) = data(name) else { return };
    let agents = trace["numAgents"].as_u64().unwrap_or(1) as usize;
    let homes: Vec<_> = (0..agents).map(|_| folder()).collect();
    let stores: Vec<Store> = homes.iter().map(|home| open(home.path())).collect();
    let owner = stores[0].space();
    let mut spaces = vec![stores[0].own()];
    for store in &stores[1..] {
        spaces.push(share(&stores[0], store).await);
    }
    // What each store made, and how much of it each other store has.
    let mut made: Vec<Vec<Verified<Change>>> = vec![Vec::new(); agents];
    let mut sent: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut names: Vec<(String, usize)> = Vec::new();
    let mut next_seq = vec![0u64; agents];
    let mut seen = vec![0u64; agents];
    let steps = steps(&trace, edits_max);
    let (changes, keystrokes) = (steps.len(), steps.iter().map(|step| step.edits.len()).sum::<usize>());
    let began = std::time::Instant::now();
    for step in steps {
        let me = step.agent;
        for parent in &step.parents {
            let from = names[*parent].1;
            if from == me {
                continue;
            }
            // All that there is: what the session's people had not seen stays beside.
            for (from, made) in made.iter().enumerate() {
                let have = sent.entry((from, me)).or_default();
                if from != me && *have < made.len() {
                    let _ = stores[me].offer(made[*have..].to_vec()).await.expect("taken");
                }
            }
            sent.extend((0..agents).map(|from| ((from, me), made[from].len())));
        }
        let count: u64 = step.edits.iter().map(|edit| edit.del + edit.ins.chars().count() as u64).sum();
        next_seq[me] += count;
        let label = format!("agent{me}-{}", next_seq[me] - 1);
        let parents: Vec<String> = step.parents.iter().map(|parent| names[*parent].0.clone()).collect();
        let asked =
            Request { space: Some(spaces[me]), label: Some(label.clone()), parents: Some(parents), durable: false, ..edit_text("/doc", &step.edits) };
        write(&stores[me], asked).await;
        names.push((label, me));
        if agents > 1 {
            stores[me].fence().await.expect("durable");
            let rows = stores[me].snapshot();
            let mut new = Vec::new();
            for change in stores[me].changes(&rows, spaces[me].main(), seen[me] + 1) {
                let (a, own) = change.expect("a change");
                seen[me] = seen[me].max(a);
                if own.author == stores[me].device() {
                    new.push(Change::decode(&stores[me].log().read(own.place).expect("a record").payload).expect("a change"));
                }
            }
            made[me].extend(verify_all(new).expect("signed"));
        }
    }
    for store in &stores {
        store.fence().await.expect("durable");
    }
    eprintln!("{name}: {keystrokes} keystrokes in {changes} changes of {agents} agents took {:?}", began.elapsed());
    let end = trace["endContent"].as_str().expect("text");
    for (me, store) in stores.iter().enumerate() {
        for (from, other) in stores.iter().enumerate() {
            if from != me {
                send(other, &owner, store).await;
            }
        }
        store.fence().await.expect("durable");
        let shown = text_in(store, spaces[me], "/doc").expect("a text");
        assert!(shown == end, "{name}, as agent {me} of {agents} sees it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_batches_ends_with_the_text_it_ended_with() {
    for name in ["friendsforever", "json-crdt-patch", "sveltecomponent"] {
        replay(name, 1000).await;
    }
}

/// What diamond-types makes of some steps.
fn reference(steps: &[Step]) -> String {
    let mut log = diamond_types::list::OpLog::new();
    let mut ends: Vec<usize> = Vec::with_capacity(steps.len());
    for step in steps {
        let agent = log.get_or_create_agent_id(&format!("agent{}", step.agent));
        let mut at: Vec<usize> = step.parents.iter().map(|parent| ends[*parent]).collect();
        at.sort_unstable();
        for edit in &step.edits {
            for pos in (edit.pos..edit.pos + edit.del).rev() {
                at = vec![log.add_delete_at(agent, &at, pos as usize..pos as usize + 1)];
            }
            if !edit.ins.is_empty() {
                at = vec![log.add_insert_at(agent, &at, edit.pos as usize, &edit.ins)];
            }
        }
        ends.push(at[0]);
    }
    log.checkout_tip().content().to_string()
}

/// Lets everybody type what he typed, each on top of what the session says that he had seen.
fn type_out(peers: &mut Peers, at: &str, steps: &[Step]) {
    let mut next_seq = vec![0u64; peers.0.len()];
    let mut names: Vec<String> = Vec::with_capacity(steps.len());
    // How many of the steps each has heard of.
    let mut known = vec![0; peers.0.len()];
    for (number, step) in steps.iter().enumerate() {
        let me = step.agent;
        if step.parents.iter().any(|parent| steps[*parent].agent != me && *parent >= known[me]) {
            // All that there is: what the session's people had not seen stays beside.
            peers.hear(me);
            known[me] = number;
        }
        next_seq[me] += step.edits.iter().map(|edit| edit.del + edit.ins.chars().count() as u64).sum::<u64>();
        names.push(format!("agent{me}-{}", next_seq[me] - 1));
        let parents: Vec<&str> = step.parents.iter().map(|parent| names[*parent].as_str()).collect();
        peers.write(me, named(&names[number], &parents, edit_text(at, &step.edits)));
    }
}

/// Replays the first steps of a session, keystroke by keystroke; everybody must see what diamond-types says, and at the
/// end of all the session what its people saw.
fn replay_keystrokes(name: &str, steps_max: usize) {
    let Some(trace) = data(name) else { return };
    let mut steps = steps(&trace, 1);
    let is_all = steps.len() <= steps_max;
    steps.truncate(steps_max);
    let mut peers = Peers::new(trace["numAgents"].as_u64().unwrap_or(1) as usize);
    let began = std::time::Instant::now();
    type_out(&mut peers, "/doc", &steps);
    eprintln!("{name}: {} changes of {} agents took {:?}", steps.len(), peers.0.len(), began.elapsed());
    peers.meet();
    let end = if is_all { trace["endContent"].as_str().expect("text").to_owned() } else { reference(&steps) };
    for me in 0..peers.0.len() {
        assert!(peers.text(me, "/doc").as_deref() == Some(&end), "{name}, as agent {me} sees it");
    }
}

#[test]
fn a_session_typed_key_by_key_is_what_diamond_types_says() {
    for name in ["friendsforever", "json-crdt-patch", "rustcode", "sveltecomponent"] {
        replay_keystrokes(name, 1500);
    }
}

#[test]
#[ignore = "takes minutes; see above"]
fn a_session_keystroke_by_keystroke_ends_with_the_text_it_ended_with() {
    for name in ["friendsforever", "json-crdt-patch", "rustcode", "sveltecomponent"] {
        replay_keystrokes(name, usize::MAX);
    }
}

/// Lets a case's people write it, each to a store of his own, every case at a path of its own. They are concurrent with
/// themselves, which one session never is: so each transaction is a session, under a name that sorts as its agent and
/// number do.
fn write_cases(cases_max: usize) {
    let Some(cases) = data("dt-conformance") else { return };
    let cases = cases.as_array().expect("cases");
    let agents = ["a", "b", "c"];
    let mut peers = Peers::new(agents.len());
    let mut changes = 0;
    for (number, case) in cases.iter().enumerate().take(cases_max) {
        let at = format!("/case/{number}");
        // By event: its name, and who wrote it.
        let mut events: Vec<(String, usize)> = Vec::new();
        let mut known = vec![0; agents.len()];
        for txn in case["txns"].as_array().expect("transactions") {
            let me = agents.iter().position(|agent| txn["agent"] == *agent).expect("an agent");
            let parents: Vec<usize> =
                txn["parents"].as_array().expect("parents").iter().map(|event| event.as_u64().expect("a number") as usize).collect();
            if parents.iter().any(|event| events[*event].1 != me && *event >= known[me]) {
                peers.hear(me);
                known[me] = events.len();
            }
            let ops = txn["ops"].as_array().expect("ops").iter();
            let edits: Vec<TextEdit> =
                ops.map(|op| edit(op[0].as_u64().expect("a position"), op[1].as_u64().expect("a count"), op[2].as_str().expect("text"))).collect();
            let session = format!("{}{:06}", agents[me], txn["seqStart"].as_u64().expect("a number"));
            let count: u64 = edits.iter().map(|edit| edit.del + edit.ins.chars().count() as u64).sum();
            let parents: Vec<&str> = parents.iter().map(|event| events[*event].0.as_str()).collect();
            let asked = named(&format!("{session}-{}", count - 1), &parents, edit_text(&at, &edits));
            peers.write(me, asked);
            events.extend((0..count).map(|event| (format!("{session}-{event}"), me)));
            changes += 1;
        }
    }
    assert!(changes > 0, "there are cases");
    peers.meet();
    for (number, case) in cases.iter().enumerate().take(cases_max) {
        let end = case["endContent"].as_str().expect("text");
        for me in 0..agents.len() {
            assert_eq!(peers.text(me, &format!("/case/{number}")).as_deref(), Some(end), "case {number}, as agent {me} sees it");
        }
    }
}

#[test]
fn conformance_cases_written_by_a_store_for_each_agent_give_the_text_of_diamond_types() {
    write_cases(CASES);
}

#[test]
#[ignore = "takes a minute; see above"]
fn all_conformance_cases_written_by_a_store_for_each_agent_give_the_text_of_diamond_types() {
    write_cases(usize::MAX);
}
