//! Checks everything that is on disk, and mends what can be mended.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use timebus_identity::{Verified, human_name};
use timebus_store::blobs::BlobHash;
use timebus_store::blobs::partial::piece_bytes;
use timebus_store::change::{Body as ChangeBody, Change};
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::keyspace::{Rows as _, Table};
use timebus_store::log::{Item, Place};
use timebus_store::mend::{deepen, examine, fill};
use timebus_store::store::{BlobPlace, StorageError, Store};

use crate::blobs::wishes::{Wish, Wished, Wishes, fetch_all};
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

/// Checks every record of the log: frame, hash, signature, and that the index knows it; then every blob, whole or not. With
/// `{"repair":true}`, what is damaged is fetched from others and put back; of a file what is good stays.
pub(crate) async fn fsck(peer: &Peer, body: &Bytes) -> Result<Response<Body>, Problem> {
    let wanted: Wanted = match body.is_empty() {
        true => Wanted::default(),
        false => serde_json::from_slice(body)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "json", "the body is not what this takes", error.to_string()))?,
    };
    let store = peer.store().clone();
    let end = store.fence().await.map_err(|error| write_problem(&error))?;
    let mut report = run(&store, move |store| check(store, end)).await?;
    if wanted.repair && !report.is_whole() {
        let (mut repaired, left) = repair(peer, end).await?;
        let (came, to_come) = mend_files(peer, std::mem::take(&mut report.files)).await?;
        repaired.extend(came.iter().map(|file| file.text.clone()));
        let is_index_old = std::mem::take(&mut report.is_index_old);
        report = run(&store, move |store| check(store, end)).await?;
        report.files.retain(|file| to_come.iter().all(|other| other.hash != file.hash));
        report.files.extend(to_come);
        report.files.extend(came);
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
    if report.damaged == 0
        && store.distrust().is_none()
        && let Err(error) = store.log_is_whole(wanted.repair)
    {
        report.problems.push(format!("files that nothing names stay, since it could not be written down that the log is whole: {error}"));
    }
    let lacking = report.files.iter().filter(|file| file.state != State::Mended);
    let problems: Vec<&str> = report.problems.iter().chain(lacking.map(|file| &file.text)).map(String::as_str).collect();
    Ok(crate::sys::answer_json(&json!({
        "checked": report.checked,
        "blobs": report.blobs,
        "files": report.files,
        "problems": problems,
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
    /// Files that are not as they should be.
    files: Vec<FileReport>,
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
    (report.blobs, report.files) = check_blobs(store)?;
    Ok(report)
}

impl Report {
    fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.files.is_empty()
    }
}

/// What is wrong with a file, or was.
#[derive(Clone, Debug, Serialize)]
struct FileReport {
    #[serde(serialize_with = "as_text")]
    hash: BlobHash,
    /// Where it is named; not where somebody cannot see it any more.
    paths: Vec<String>,
    bytes_total: u64,
    /// Bytes that are here and good.
    bytes_here: u64,
    state: State,
    text: String,
}

/// A file of which a part was made, and what it is called.
type Broken = (FileReport, String);

/// How a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Some of its bytes are not what they were.
    Damaged,
    /// The own space names it, and some of it is not here, or nothing.
    Missing,
    /// It was damaged. What is good stayed, and the rest came again.
    Mended,
    /// It was damaged. What is good stayed, and the rest has yet to come.
    Comes,
}

fn as_text<S: serde::Serializer>(hash: &BlobHash, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(hash)
}

/// The paths at which a file is seen, and how it is called for people.
fn called(store: &Store, hash: &BlobHash, places: &[BlobPlace]) -> (Vec<String>, String) {
    let own = store.space();
    let path = |place: &BlobPlace| match place.space.key == own {
        true => place.path.to_string(),
        false => format!("/@{}{}", place.space.key, place.path),
    };
    let mut paths: Vec<String> = places.iter().filter(|place| place.is_visible).map(path).collect();
    paths.sort_unstable();
    paths.dedup();
    let name = if paths.is_empty() { format!("the file {hash}, which nothing visible names,") } else { format!("the file at {}", paths.join(", ")) };
    (paths, name)
}

/// What is said of a file of which only the tree is damaged.
fn bytes_are_good(name: &str) -> String {
    format!("the bytes of {name} are good, and what they are checked by is not; `timebus fsck --repair` makes that anew")
}

/// Reads every blob and every part of one, and looks for those that the own space shows and that are not here. Answers how many
/// are whole.
fn check_blobs(store: &Store) -> Result<(u64, Vec<FileReport>), StorageError> {
    let Some(blobs) = store.blobs() else { return Ok((0, Vec::new())) };
    let rows = store.snapshot();
    let (mut whole, mut files) = (0, Vec::new());
    // What names several of them is read once.
    let named = RefCell::new(store.places(&rows));
    let mut report = |hash: BlobHash, [bytes_here, bytes_total]: [u64; 2], state: State, says: &dyn Fn(&str) -> String| {
        let (paths, name) = called(store, &hash, &named.borrow_mut().of(&hash).unwrap_or_default());
        files.push(FileReport { hash, paths, bytes_total, bytes_here, state, text: says(&name) });
    };
    let how = "`timebus fsck --repair` keeps what is good of it and fetches the rest from whoever has it, or put it again";
    for (hash, _) in blobs.list()? {
        let blob = match blobs.open_blob(hash) {
            Ok(Some(blob)) => blob,
            Ok(None) => continue,
            Err(error) if crate::files::are_too_many_open(&error) => return Err(error.into()),
            Err(error) => {
                let len = blobs.len_of(&hash).unwrap_or_default();
                if blobs.has_good_bytes(&hash).unwrap_or(false) {
                    report(hash, [len, len], State::Damaged, &bytes_are_good);
                } else {
                    report(hash, [0, len], State::Damaged, &|name| format!("{name} cannot be read: {error}; {how}"));
                }
                continue;
            }
        };
        if let Err(error) = blob.check(&mut |_| {}) {
            let here = blob.good_bytes()?;
            if here == blob.len() {
                report(hash, [here, here], State::Damaged, &bytes_are_good);
                continue;
            }
            report(hash, [here, blob.len()], State::Damaged, &|name| {
                format!("{name} is damaged: {error}, {here} of its {} bytes are good; {how}", blob.len())
            });
        } else {
            whole += 1;
        }
    }
    let mut known = HashSet::new();
    for (hash, _) in blobs.partials()? {
        let Some(part) = blobs.open_partial(&hash).filter(|_| blobs.len_of(&hash).is_none()) else { continue };
        let damaged = part.damaged_pieces()?;
        if !damaged.is_empty() {
            known.insert(hash);
            let bad: u64 = damaged.iter().map(|piece| piece_bytes(part.len(), *piece)).sum();
            let here = part.bytes_here().saturating_sub(bad);
            report(hash, [here, part.len()], State::Damaged, &|name| {
                format!("{name} is damaged: of the part of it that is here, {bad} bytes are not good; {how}")
            });
        }
    }
    for hash in store.named_blobs(&rows, &store.space())? {
        if blobs.len_of(&hash).is_some() || known.contains(&hash) {
            continue;
        }
        if let Some(part) = blobs.open_partial(&hash) {
            let (here, all) = (part.bytes_here(), part.len());
            let says = "the rest was damaged, or has not come yet; it comes from whoever has it when you read it, or put it again";
            report(hash, [here, all], State::Missing, &|name| format!("of {name} only {here} of {all} bytes are here: {says}"));
            continue;
        }
        let places = named.borrow_mut().of(&hash)?;
        let len = places.iter().max_by_key(|place| place.is_visible).map_or(0, |place| place.len);
        let elsewhere = places.iter().filter(|place| place.author != store.device()).max_by_key(|place| place.is_visible);
        report(hash, [0, len], State::Missing, &|name| match elsewhere {
            Some(place) => format!(
                "{name} is not here; {} put it there and may have it: read it while that one is there, or `timebus files pin {}`",
                human_name(&place.author),
                place.path
            ),
            None => format!("{name} is missing; put it again, or take it from a backup"),
        });
    }
    Ok((whole, files))
}

/// Of files that are damaged, keeps what is good and fetches the rest from whoever has it. Answers which are whole again, and of
/// which something has yet to come: these are wanted from now on, so the peer gets them as soon as somebody who has them is there.
async fn mend_files(peer: &Peer, files: Vec<FileReport>) -> Result<(Vec<FileReport>, Vec<FileReport>), Problem> {
    let damaged: Vec<FileReport> = files.into_iter().filter(|file| file.state == State::Damaged).collect();
    let (broken, wanted, failed) = run(peer.store(), move |store| break_up(store, damaged)).await?;
    let wishes = Wishes::of(peer);
    let (stopped, wanted): (Vec<Wished>, Vec<Wished>) = wanted.into_iter().partition(|file| wishes.is_stopped(&file.hash));
    // Of many only so many are wanted at once.
    let mut unwished: HashSet<BlobHash> = HashSet::new();
    let wish = |wanted: &[Wished]| wishes.wish(wanted, Some(Wish::Wanted)).map_err(|error| storage_problem(&error.into()));
    if wish(&wanted)?.is_none() {
        for file in &wanted {
            if wish(std::slice::from_ref(file))?.is_none() {
                unwished.insert(file.hash);
            }
        }
    }
    if let Some(network) = peer.network() {
        fetch_all(peer, network.blobs(), wanted).await;
    }
    let blobs = crate::blobs::of(peer)?.clone();
    crate::blobs::beside(move || {
        let (mut came, mut to_come) = (Vec::new(), failed);
        for (mut file, name) in broken {
            let bad = file.bytes_total - file.bytes_here;
            if blobs.len_of(&file.hash).is_some() {
                (file.bytes_here, file.state) = (file.bytes_total, State::Mended);
                file.text = match bad {
                    0 => format!("{name} can be checked again: all of its {} bytes are good", file.bytes_total),
                    _ => format!("{name} is whole again: {bad} of its {} bytes were damaged and came again from others", file.bytes_total),
                };
                came.push(file);
                continue;
            }
            file.bytes_here = blobs.open_partial(&file.hash).map_or(0, |part| part.bytes_here());
            file.state = State::Comes;
            let rest = match stopped.iter().any(|stopped| stopped.hash == file.hash) {
                true => format!("the rest does not come, because you paused or cancelled it: `timebus files resume {}` gets it", file.hash),
                false if unwished.contains(&file.hash) => {
                    "too many files are wanted already for the rest to come of itself: read it, or repair once more later".to_owned()
                }
                false => "the rest comes as soon as somebody who has it is there; if nobody has, put it again, or take it from a backup".to_owned(),
            };
            file.text = format!("{name} was damaged: {} of its {} bytes are good and stay, {rest}", file.bytes_here, file.bytes_total);
            to_come.push(file);
        }
        (came, to_come)
    })
    .await
}

/// Files of which parts were made, what is wanted of them, and those that stay as they are.
type BrokenUp = (Vec<Broken>, Vec<Wished>, Vec<FileReport>);

/// Makes parts of files that are damaged, of what is good of them. Answers these with what they are called, and where they are named;
/// and those that stay as they are, because they cannot be looked through.
fn break_up(store: &Store, files: Vec<FileReport>) -> Result<BrokenUp, StorageError> {
    let Some(blobs) = store.blobs() else { return Ok(Default::default()) };
    let rows = store.snapshot();
    let (mut broken, mut wanted, mut failed, mut named) = (Vec::new(), Vec::new(), Vec::new(), store.places(&rows));
    for mut file in files {
        if let Err(error) = blobs.break_up(&file.hash) {
            let (_, name) = called(store, &file.hash, &named.of(&file.hash)?);
            file.text = format!("{name} could not be looked through, and stays as it is: {error}");
            failed.push(file);
            continue;
        }
        if let Some(part) = blobs.open_partial(&file.hash).filter(|_| blobs.len_of(&file.hash).is_none()) {
            part.damaged_pieces()?.into_iter().try_for_each(|piece| part.lose(piece))?;
        }
        // Where it is whole still, not one byte of it was damaged.
        if let Some(len) = blobs.len_of(&file.hash) {
            (file.bytes_here, file.bytes_total) = (len, len);
        }
        let places = named.of(&file.hash)?;
        let (_, name) = called(store, &file.hash, &places);
        // What was cut short has another length than it had.
        let place = places.into_iter().max_by_key(|place| (place.is_visible, place.len == file.bytes_total, place.space.key == store.space()));
        let wish = |place: BlobPlace| Wished { hash: file.hash, space: place.space.key, path: place.path, len: place.len };
        let is_whole = blobs.len_of(&file.hash).is_some();
        wanted.extend(place.filter(|place| place.is_visible && !is_whole).map(wish));
        broken.push((file, name));
    }
    Ok((broken, wanted, failed))
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
