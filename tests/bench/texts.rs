//! `texts`: recorded editing sessions through a store, signed and on disk, beside diamond-types, automerge, loro and yrs,
//! which do it in memory and sign nothing.
//!
//! A session's keystrokes are written in batches, as an editor sends them; each batch is a signed change. What is
//! measured is the whole way: deciding, signing, the log, its syncs, the tables.

use std::path::{Path as File, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use diamond_types::list::OpLog;
use serde_json::Value;
use timebus_store::op::TextEdit;
use timebus_store::path::Path;
use timebus_store::store::{Config, Store, lock_home};
use timebus_store::text::TextObject;
use timebus_store::value::Value as Stored;
use timebus_store::writer::{Action, Condition, Request, TextEdits};

use crate::Options;
use crate::report::{Cell, Report, verdict};

const TRACES: [&str; 4] = ["friendsforever", "json-crdt-patch", "rustcode", "sveltecomponent"];
/// What does the same in memory, each in a program of its own.
const LIBRARIES: [&str; 3] = ["automerge", "loro", "yrs"];
/// Keystrokes in a change.
const BATCHES: [usize; 2] = [20, 1_000];
/// How much longer the store may take than diamond-types for the same events.
const REPLAY_RATIO_AIM: f64 = 10.0;
/// Keystrokes a second, with batches.
const TYPING_AIM: f64 = 20_000.0;
/// Opening a text from its snapshot.
const OPEN_AIM: Duration = Duration::from_millis(5);
/// Merging all of a session's ops again.
const REBUILD_AIM: Duration = Duration::from_millis(100);
/// Bytes of the log for each byte of diamond-types' file, in changes that are full.
const BYTES_AIM: f64 = 2.0;

/// A batch of one agent's keystrokes.
struct Step {
    agent: usize,
    parents: Vec<usize>,
    edits: Vec<TextEdit>,
}

fn trace_file(name: &str) -> PathBuf {
    let root = std::env::var_os("TIMEBUS_DATA").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    root.join("01-editing-traces").join(format!("{name}.json.gz"))
}

fn trace(name: &str) -> anyhow::Result<Option<Value>> {
    let Ok(packed) = std::fs::read(trace_file(name)) else { return Ok(None) };
    Ok(Some(serde_json::from_reader(flate2::read::GzDecoder::new(&packed[..]))?))
}

fn count(edits: &[TextEdit]) -> u64 {
    edits.iter().map(|edit| edit.del + edit.ins.chars().count() as u64).sum()
}

/// A session in batches of up to so many edits. Two agents' batches end where they hear of each other.
fn steps(trace: &Value, edits_max: usize) -> anyhow::Result<Vec<Step>> {
    let concurrent = trace["kind"] == "concurrent";
    let txns = trace["txns"].as_array().context("no transactions")?;
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let parents_of = |at: usize| -> Vec<usize> {
        match txns[at]["parents"].as_array() {
            Some(parents) if concurrent => parents.iter().map(|parent| number(parent) as usize).collect(),
            _ => at.checked_sub(1).into_iter().collect(),
        }
    };
    let mut children = vec![0; txns.len()];
    (0..txns.len()).for_each(|at| parents_of(at).into_iter().for_each(|parent| children[parent] += 1));
    let mut steps: Vec<Step> = Vec::new();
    let mut step_of: Vec<Vec<usize>> = Vec::new();
    for (at, txn) in txns.iter().enumerate() {
        let patches = txn["patches"].as_array().context("no patches")?.iter();
        let edits: Vec<TextEdit> = patches
            .map(|patch| TextEdit { pos: number(&patch[0]), del: number(&patch[1]), ins: patch[2].as_str().unwrap_or_default().into() })
            .filter(|edit| edit.del > 0 || !edit.ins.is_empty())
            .collect();
        let parents = parents_of(at);
        let mut stands_on: Vec<usize> = parents.iter().flat_map(|parent| step_of[*parent].iter().copied()).collect();
        stands_on.sort_unstable();
        stands_on.dedup();
        if edits.is_empty() {
            step_of.push(stands_on);
            continue;
        }
        let agent = number(&txn["agent"]) as usize;
        let last = steps.len().wrapping_sub(1);
        let goes_on = parents.len() == 1 && stands_on == [last] && children[parents[0]] == 1 && steps[last].agent == agent;
        match steps.last_mut() {
            Some(step) if goes_on && step.edits.len() + edits.len() <= edits_max => step.edits.extend(edits),
            _ => steps.push(Step { agent, parents: stands_on, edits }),
        }
        step_of.push(vec![steps.len() - 1]);
    }
    Ok(steps)
}

/// What diamond-types takes for the same.
struct Bare {
    replay: Duration,
    load: Duration,
    bytes: usize,
    text: String,
}

fn bare(steps: &[Step]) -> anyhow::Result<Bare> {
    let began = Instant::now();
    let mut log = OpLog::new();
    let mut ends: Vec<usize> = Vec::with_capacity(steps.len());
    for step in steps {
        let agent = log.get_or_create_agent_id(&format!("agent{}", step.agent));
        let mut parents: Vec<usize> = step.parents.iter().map(|parent| ends[*parent]).collect();
        parents.sort_unstable();
        let mut end = 0;
        for edit in &step.edits {
            if edit.del > 0 {
                end = log.add_delete_at(agent, &parents, edit.pos as usize..(edit.pos + edit.del) as usize);
                parents = vec![end];
            }
            if !edit.ins.is_empty() {
                end = log.add_insert_at(agent, &parents, edit.pos as usize, &edit.ins);
                parents = vec![end];
            }
        }
        ends.push(end);
    }
    let text = log.checkout_tip().content().to_string();
    let replay = began.elapsed();
    let bytes = log.encode(diamond_types::list::encoding::ENCODE_FULL);
    let began = Instant::now();
    let loaded = OpLog::load_from(&bytes).map_err(|error| anyhow::anyhow!("its own bytes: {error:?}"))?;
    ensure!(loaded.checkout_tip().content().to_string() == text, "it loads another text");
    Ok(Bare { replay, load: began.elapsed(), bytes: bytes.len(), text })
}

/// Builds and runs the program beside this file, which is no part of the workspace: its dependencies would change those
/// of everything else.
fn other(options: &Options, library: &str, session: &str, bare: &Bare) -> anyhow::Result<Vec<Cell>> {
    let manifest = File::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/editors/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = File::new(env!("CARGO_TARGET_TMPDIR")).join("other-editors");
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    command.env("CARGO_TARGET_DIR", target).current_dir(&options.folder);
    let output = command.args(["--", library]).arg(trace_file(session)).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default());
    let line: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| line[name].as_f64().with_context(|| format!("no {name}"));
    ensure!(line["is_right"] == true, "it shows another text");
    let (replay, bytes) = (number("replay_ms")?, number("bytes")?);
    Ok(vec![
        Cell::Text(session.to_owned()),
        Cell::Text(library.to_owned()),
        Cell::Absent,
        Cell::Absent,
        Cell::Number(replay, 1),
        Cell::Number(replay / (bare.replay.as_secs_f64() * 1e3), 1),
        Cell::Absent,
        Cell::Number(number("load_ms")?, 2),
        Cell::Absent,
        Cell::whole(bytes),
        Cell::Number(bytes / bare.bytes as f64, 2),
        Cell::whole(number("memory")? / 1024.0),
    ])
}

/// What a store took for a session.
struct Cost {
    replay: Duration,
    changes: u64,
    log_bytes: u64,
    open: Duration,
    memory: usize,
    rebuild: Duration,
}

/// A store in a folder of its own.
pub(crate) fn open(home: &File) -> anyhow::Result<Store> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(home)?;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700))?;
    Ok(Store::open(home, lock_home(home)?, &Config::default(), 1, &mut |_| {})?)
}

fn shown(store: &Store, path: &Path) -> anyhow::Result<String> {
    let reading = store.read(&store.snapshot(), store.own(), path)?;
    match reading.tree.writes.first().map(|write| &write.value) {
        Some(Stored::Text { content: Some(content), .. }) => Ok(content.text.clone()),
        other => anyhow::bail!("there is no text: {other:?}"),
    }
}

fn stored(home: &File, steps: &[Step], end: &str, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Cost> {
    let store = open(home)?;
    let path = Path::parse("/doc")?;
    let log_before = store.stats().log_bytes();
    let changes_before = store.stats().changes();
    let mut seqs = vec![0u64; steps.iter().map(|step| step.agent + 1).max().unwrap_or(1)];
    let mut names: Vec<String> = Vec::with_capacity(steps.len());
    let mut requests = Vec::with_capacity(steps.len());
    for step in steps {
        seqs[step.agent] += count(&step.edits);
        let label = format!("agent{}-{}", step.agent, seqs[step.agent] - 1);
        let parents = step.parents.iter().map(|parent| names[*parent].clone()).collect();
        requests.push(Request {
            space: None,
            path: path.clone(),
            action: Action::EditText(TextEdits::Sequence(step.edits.clone())),
            parents: Some(parents),
            label: Some(label.clone()),
            condition: Condition::None,
            time_ms: 1,
            durable: false,
            may_name: None,
        });
        names.push(label);
    }
    let began = Instant::now();
    runtime.block_on(async {
        for request in requests {
            store.write(request).await?;
        }
        // All of it is on disk.
        store.fence().await?;
        anyhow::Ok(())
    })?;
    let replay = began.elapsed();
    ensure!(shown(&store, &path)? == end, "the store shows another text");
    let (changes, log_bytes) = (store.stats().changes() - changes_before, store.stats().log_bytes() - log_before);
    store.close();
    let store = open(home)?;
    let rows = store.snapshot();
    let began = Instant::now();
    let text = store.text(&rows, store.own(), &path)?.context("the text is gone")?;
    let open = began.elapsed();
    let memory = text.memory();
    let mut again: TextObject = text.clone();
    let all: Vec<_> = text.version().into_iter().map(|(change, _)| change).collect();
    // Hiding an op and showing it again merges everything anew.
    let flip = all.first().context("no op")?;
    again.set_effective(&[(*flip, false)]);
    again.set_effective(&[(*flip, true)]);
    let began = Instant::now();
    again.resume(&mut timebus_store::text::Budget::unlimited());
    let rebuild = began.elapsed();
    ensure!(again.text() == end, "merging again gives another text");
    Ok(Cost { replay, changes, log_bytes, open, memory, rebuild })
}

const COLUMNS: &[&str] = &[
    "session",
    "who",
    "batch",
    "changes",
    "replay ms",
    "/ diamond-types",
    "keystrokes/s",
    "open ms",
    "rebuild ms",
    "bytes",
    "/ diamond-types",
    "memory KiB",
];

/// Replays each session.
pub(crate) fn measure(options: &Options) -> Report {
    let mut report = Report::new("texts", "texts: recorded sessions through a store, signed and on disk, beside libraries in memory", COLUMNS);
    if let Err(error) = replay(options, &mut report) {
        report.errors.push(format!("{error:#}"));
    }
    report
}

fn replay(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let traces = if options.is_quick { &TRACES[..1] } else { &TRACES[..] };
    let (mut ratio, mut rate, mut open, mut rebuild, mut bytes) = (0f64, f64::INFINITY, Duration::ZERO, Duration::ZERO, 0f64);
    for name in traces {
        let Some(trace) = trace(name)? else {
            report.notes.push(format!("{name} is left out: its data is not here (TIMEBUS_DATA)"));
            continue;
        };
        let end = trace["endContent"].as_str().context("no text")?;
        let mut whole: Option<Bare> = None;
        for batch in BATCHES {
            options.progress(&format!("texts: {name}, {batch} keystrokes a change"));
            let steps = steps(&trace, batch)?;
            let keystrokes: usize = steps.iter().map(|step| step.edits.len()).sum();
            let bare = bare(&steps)?;
            ensure!(bare.text == end, "diamond-types shows another text");
            let home = options.folder.join(format!("texts-{name}-{batch}"));
            let cost = stored(&home, &steps, end, &runtime)?;
            std::fs::remove_dir_all(&home)?;
            let this_ratio = cost.replay.as_secs_f64() / bare.replay.as_secs_f64();
            let this_rate = keystrokes as f64 / cost.replay.as_secs_f64();
            let this_bytes = cost.log_bytes as f64 / bare.bytes as f64;
            if batch == BATCHES[1] {
                ratio = ratio.max(this_ratio);
                // Where two write at once, changes end at each word of the other one, and signatures are most of the bytes.
                if keystrokes >= steps.len() * batch / 2 {
                    bytes = bytes.max(this_bytes);
                }
            }
            rate = rate.min(this_rate);
            open = open.max(cost.open);
            rebuild = rebuild.max(cost.rebuild);
            report.rows.push(vec![
                Cell::Text((*name).to_owned()),
                Cell::Text("timebus".to_owned()),
                Cell::whole(batch as f64),
                Cell::whole(cost.changes as f64),
                Cell::Number(ms(cost.replay), 1),
                Cell::Number(this_ratio, 1),
                Cell::whole(this_rate),
                Cell::Number(ms(cost.open), 2),
                Cell::Number(ms(cost.rebuild), 1),
                Cell::whole(cost.log_bytes as f64),
                Cell::Number(this_bytes, 2),
                Cell::whole(cost.memory as f64 / 1024.0),
            ]);
            whole = Some(bare);
        }
        let Some(bare) = whole else { continue };
        report.rows.push(vec![
            Cell::Text((*name).to_owned()),
            Cell::Text("diamond-types".to_owned()),
            Cell::Absent,
            Cell::Absent,
            Cell::Number(ms(bare.replay), 1),
            Cell::Number(1.0, 1),
            Cell::Absent,
            Cell::Number(ms(bare.load), 2),
            Cell::Absent,
            Cell::whole(bare.bytes as f64),
            Cell::Number(1.0, 2),
            Cell::Absent,
        ]);
        for library in LIBRARIES {
            options.progress(&format!("texts: {name}, {library}"));
            match other(options, library, name, &bare) {
                Ok(row) => report.rows.push(row),
                Err(error) => report.notes.push(format!("skipped: {library} with {name} ({error:#})")),
            }
        }
    }
    if !report.rows.is_empty() {
        let note = |what: &str, met: bool| format!("{what}: {}", verdict(met));
        report.notes.push(note(&format!("replay at most {REPLAY_RATIO_AIM} times diamond-types', worst {ratio:.1}"), ratio <= REPLAY_RATIO_AIM));
        report.notes.push(note(&format!("{TYPING_AIM} keystrokes a second in batches, least {rate:.0}"), rate >= TYPING_AIM));
        report.notes.push(note(&format!("a text opens in {OPEN_AIM:?}, slowest {open:?}"), open <= OPEN_AIM));
        report.notes.push(note(&format!("all is merged again in {REBUILD_AIM:?}, slowest {rebuild:?}"), rebuild <= REBUILD_AIM));
        report.notes.push(note(&format!("the log takes {BYTES_AIM} times diamond-types' file in full changes, most {bytes:.2}"), bytes <= BYTES_AIM));
    }
    Ok(())
}
