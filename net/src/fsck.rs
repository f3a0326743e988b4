//! Checks everything that is on disk, and mends what can be mended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use timebus_identity::{Verified, human_name};
use timebus_store::blobs::BlobHash;
use timebus_store::change::{Body as ChangeBody, Change};
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::keyspace::{Rows as _, Table};
use timebus_store::log::{Item, Place};
use timebus_store::mend::{deepen, examine, fill};
use timebus_store::store::{StorageError, Store};

use crate::body::Body;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::route::{storage_problem, write_problem};

/// How long others may take to give what is missing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Times that more is asked for, because what came builds on what is missing, too.
const ROUNDS_MAX: usize = 64;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    /// Whether to mend what can be mended.
    repair: bool,
}

/// Checks every record of the log: frame, hash, signature, and that the index knows it; then every blob. With `{"repair":true}`, what is
/// damaged is fetched from others and put back.
pub(crate) async fn fsck(peer: &Peer, body: &Bytes) -> Result<Response<Body>, Problem> {
    let wanted: Wanted = match body.is_empty() {
        true => Wanted::default(),
        false => serde_json::from_slice(body)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "json", "the body is not what this takes", error.to_string()))?,
    };
    let store = peer.store().clone();
    let end = store.fence().await.map_err(|error| write_problem(&error))?;
    let mut report = run(&store, move |store| check(store, end)).await?;
    if wanted.repair && !report.problems.is_empty() {
        let (repaired, left) = repair(peer, end).await?;
        let is_index_old = std::mem::take(&mut report.is_index_old);
        report = run(&store, move |store| check(store, end)).await?;
        if is_index_old {
            store.distrust_index("the index did not know changes that are in the log");
        }
        report.repaired = repaired;
        report.problems.extend(left);
        if let Some(reason) = store.distrust() {
            report.problems.retain(|problem| !problem.contains("the index does not know"));
            report.repaired.push(format!("the index is made anew at the next start ({reason})"));
        }
    }
    peer.scrub.found(report.damaged);
    Ok(crate::sys::answer_json(&json!({
        "checked": report.checked,
        "blobs": report.blobs,
        "problems": report.problems,
        "repaired": report.repaired,
        "restart": store.distrust().is_some(),
    })))
}

/// Reads much beside the threads that serve sockets.
async fn run<T: Send + 'static>(store: &Store, work: impl FnOnce(&Store) -> Result<T, StorageError> + Send + 'static) -> Result<T, Problem> {
    let store = store.clone();
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(result) => result.map_err(|error| storage_problem(&error)),
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the check failed", error.to_string())),
    }
}

#[derive(Default)]
struct Report {
    checked: u64,
    /// Files that are whole.
    blobs: u64,
    /// Stretches of the log.
    damaged: u64,
    problems: Vec<String>,
    repaired: Vec<String>,
    /// Whether changes are in the log and not in the index.
    is_index_old: bool,
}

fn check(store: &Store, end: Place) -> Result<Report, StorageError> {
    let rows = store.snapshot();
    let mut report = Report::default();
    for item in store.log().walk(Place::START)? {
        match item? {
            Item::Damaged(damage) if damage.place < end => {
                report.damaged += 1;
                let Place { segment, offset } = damage.place;
                report.problems.push(format!("{} bytes at {segment}:{offset} of the change log are damaged", damage.bytes));
            }
            Item::Damaged(_) => break,
            Item::Record(record) => {
                if record.place >= end {
                    break;
                }
                report.checked += 1;
                let at = format!("record {} at {}:{}", record.a, record.place.segment, record.place.offset);
                let Ok(signed) = Change::decode(&record.payload) else {
                    report.problems.push(format!("{at} is not a change"));
                    continue;
                };
                let id = signed.content().id();
                if ChangeBody::decode(signed.content().body_bytes()).is_err() {
                    report.problems.push(format!("{at}: the body of change {id} is not canonical, its ops have no effect"));
                }
                if signed.verify().is_err() {
                    report.problems.push(format!("{at}: the signature of change {id} is wrong"));
                }
                match rows.get(Table::Index, id.as_bytes()) {
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        report.is_index_old = true;
                        report.problems.push(format!("{at}: the index does not know change {id}; `timebus fsck --repair` has it made anew"));
                    }
                    Err(error) => {
                        report.is_index_old = true;
                        report.problems.push(format!("the index could not be read: {error}"));
                    }
                }
            }
        }
    }
    report.blobs = check_blobs(store, &mut report.problems)?;
    Ok(report)
}

/// Reads every blob, and looks for those that the own space shows and that are not here. Answers how many are whole.
fn check_blobs(store: &Store, problems: &mut Vec<String>) -> Result<u64, StorageError> {
    let Some(blobs) = store.blobs() else { return Ok(0) };
    let rows = store.snapshot();
    let named = |hash: &BlobHash| {
        let places = store.places_of(&rows, hash).unwrap_or_default();
        let paths: Vec<String> = places.iter().filter(|place| place.is_visible).map(|place| place.path.to_string()).collect();
        if paths.is_empty() { format!("the file {hash}, which nothing visible names,") } else { format!("the file at {}", paths.join(", ")) }
    };
    let mut whole = 0;
    for (hash, _) in blobs.list()? {
        let Some(blob) = blobs.open_blob(hash)? else { continue };
        match blob.check(&mut |_| {}) {
            Ok(()) => whole += 1,
            Err(error) => problems.push(format!("{} is damaged: {error}; put it again to mend it", named(&hash))),
        }
    }
    for hash in store.named_blobs(&rows, &store.space())? {
        if blobs.len_of(&hash).is_some() {
            continue;
        }
        if let Some(part) = blobs.open_partial(&hash) {
            let (here, all) = (part.bytes_here(), part.len());
            let says = "the rest was damaged, or has not come yet; it comes from whoever has it when you read it, or put it again";
            problems.push(format!("of {} only {here} of {all} bytes are here: {says}", named(&hash)));
            continue;
        }
        let places = store.places_of(&rows, &hash)?;
        let elsewhere = places.iter().filter(|place| place.author != store.device()).max_by_key(|place| place.is_visible);
        problems.push(match elsewhere {
            Some(place) => format!(
                "{} is not here; {} put it there and may have it: read it while that one is there, or `timebus files pin {}`",
                named(&hash),
                human_name(&place.author),
                place.path
            ),
            None => format!("{} is missing; put it again, or take it from a backup", named(&hash)),
        });
    }
    Ok(whole)
}

/// Fetches what is missing from others and puts it back. Answers what was done, and what could not be.
async fn repair(peer: &Peer, end: Place) -> Result<(Vec<String>, Vec<String>), Problem> {
    let store = peer.store().clone();
    let mut found = run(&store, move |store| examine(store, end)).await?;
    let mut fetched: BTreeMap<ChangeId, Verified<Change>> = BTreeMap::new();
    let mut left = Vec::new();
    let elsewhere = found.elsewhere.clone();
    fetched.extend(run(&store, move |store| Ok(already_here(store, &elsewhere))).await?);
    for _ in 0..ROUNDS_MAX {
        let mut wanted: BTreeMap<TimelineId, Vec<ChangeId>> = BTreeMap::new();
        for lost in found.lost.iter().filter(|lost| !fetched.contains_key(&lost.change)) {
            wanted.entry(lost.timeline).or_default().push(lost.change);
        }
        let Some(network) = peer.network().filter(|_| !wanted.is_empty()) else { break };
        let before = fetched.len();
        for (timeline, ids) in wanted {
            let came = network.fetch(timeline, &ids, PATIENCE).await.unwrap_or_default();
            fetched.extend(came.into_iter().map(|change| (change.id(), change)));
        }
        let (more, now) = run(&store, {
            let (mut found, fetched) = (found, fetched.clone());
            move |store| Ok((deepen(store, &mut found, &fetched)?, found))
        })
        .await?;
        found = now;
        if fetched.len() == before && !more {
            break;
        }
        if !more && found.lost.iter().all(|lost| fetched.contains_key(&lost.change)) {
            break;
        }
    }
    let spaces: BTreeSet<String> = found.lost.iter().filter(|lost| !fetched.contains_key(&lost.change)).map(|lost| human_name(&lost.space)).collect();
    let missing = found.lost.iter().filter(|lost| !fetched.contains_key(&lost.change)).count();
    if missing > 0 {
        let spaces = spaces.into_iter().collect::<Vec<_>>().join(", ");
        left.push(format!("nobody who is connected has {missing} of the damaged changes (spaces of {spaces}); repair again when others are"));
    }
    let count = found.lost.len();
    let filled = run(&store, move |store| Ok(fill(store.log(), &found, &fetched)?)).await?;
    let mut repaired = Vec::new();
    if !filled.changes.is_empty() {
        repaired.push(format!("{} of {count} damaged changes stand in the log again", filled.changes.len()));
    }
    if filled.is_index_old {
        store.distrust_index("the log was mended");
    }
    Ok((repaired, left))
}

/// The changes that stand further on in the log.
fn already_here(store: &Store, elsewhere: &BTreeMap<ChangeId, Place>) -> Vec<(ChangeId, Verified<Change>)> {
    let read = |(id, place): (&ChangeId, &Place)| {
        let record = store.log().read(*place).ok()?;
        let change = Change::decode(&record.payload).ok()?.verify().ok()?;
        (change.id() == *id).then_some((*id, change))
    };
    elsewhere.iter().filter_map(read).collect()
}
