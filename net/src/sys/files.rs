//! The part of `/.sys` about files: how much is kept, what is pinned, what is on its way, from whom and how fast.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::path::Path;
use timebus_store::store::{StorageError, Store};

use crate::blobs::fetch::{Status, Stuck};
use crate::blobs::given::Given;
use crate::blobs::pace::{BYTES_PER_S_MAX, BYTES_PER_S_MIN};
use crate::blobs::wishes::{FILES_MAX, Pin, Wish, Wished, Wishes};
use crate::blobs::{beside, of, resume};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{bad_path, storage_problem};
use crate::sys::network::{bad, find_space, read};
use crate::who::now_ms;

/// Answers a part of `/.sys` about files; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<Serde, Problem>> {
    Some(match (method, rest) {
        (&Method::GET | &Method::HEAD, ["blobs"]) => files(peer).await,
        (&Method::GET | &Method::HEAD, ["kept"]) => kept(peer).await,
        (&Method::POST, ["blobs", "pin"]) => pin(peer, body, true).await,
        (&Method::POST, ["blobs", "unpin"]) => pin(peer, body, false).await,
        (&Method::POST, ["blobs", "share"]) => share(peer, body).await,
        (&Method::POST, ["blobs", "pause"]) => pause(peer, body).await,
        (&Method::POST, ["blobs", "resume"]) => go_on(peer, body).await,
        (&Method::POST, ["blobs", "cancel"]) => cancel(peer, body).await,
        (&Method::POST, ["blobs", "free"]) => free(peer, body).await,
        (&Method::POST, ["blobs", "limit"]) => limit(peer, body),
        _ => return None,
    })
}

/// The files of this peer, and those that are got from others or given to them now.
async fn files(peer: &Peer) -> Result<Serde, Problem> {
    let blobs = of(peer)?;
    let wishes = Wishes::of(peer);
    let people = People::now(peer).await;
    let (transfers, came, given_per_s) = match peer.network() {
        Some(network) => network.blobs().status().await,
        None => Default::default(),
    };
    let came: Vec<(Option<BlobHash>, Serde)> =
        came.iter().filter_map(|came| Some((BlobHash::parse(came.hash()), serde_json::to_value(came).ok()?))).collect();
    let mut transfers: Vec<Serde> = transfers.iter().filter_map(|transfer| serde_json::to_value(transfer).ok()).collect();
    let (store, pins, wished, limits) = (peer.store().clone(), wishes.pins(), wishes.files(), wishes.limits());
    let own = peer.space();
    let begun = blobs.clone();
    let uploads = beside(move || resume::begun(&begun)).await?.map_err(|error| storage_problem(&error.into()))?;
    let unread = wishes.problem().map(str::to_owned);
    let problems = wishes.problems();
    let ((bytes_given, since_ms), most) = given(peer, |given| (given.all(), given.most()));
    let told = move || -> Result<_, StorageError> {
        let rows = store.snapshot();
        let mut all_named = store.places(&rows);
        let mut path_of = |hash: &BlobHash| -> Result<Option<String>, StorageError> {
            let places = all_named.of(hash)?;
            let place = places.iter().max_by_key(|place| place.is_visible);
            Ok(place.map(|place| named(&people, &own, &place.space.key, &place.path)))
        };
        for transfer in &mut transfers {
            let hash = transfer["hash"].as_str().and_then(BlobHash::parse);
            transfer["path"] = hash.map_or(Ok(None), |hash| path_of(&hash))?.into();
            transfer["state"] = if transfer["is_fetched"] == true { "coming" } else { "going" }.into();
        }
        let is_here = |file: &Wished| store.blobs().is_some_and(|blobs| blobs.len_of(&file.hash).is_some());
        for (file, wish) in wished.into_iter().filter(|(file, _)| !is_here(file)) {
            let mut told = describe(&store, &people, &own, &file, Some(wish));
            told["problem"] = problems.get(&file.hash).cloned().into();
            match transfers.iter_mut().find(|transfer| transfer["hash"] == told["hash"]) {
                Some(transfer) if transfer["is_fetched"] == true => {}
                Some(transfer) => transfer["state"] = told["state"].take(),
                None => transfers.push(told),
            }
        }
        let mut told_came = Vec::new();
        for (hash, mut came) in came {
            came["path"] = hash.map_or(Ok(None), |hash| path_of(&hash))?.into();
            told_came.push(came);
        }
        let mut most_given = Vec::new();
        for (hash, bytes) in most {
            most_given.push(json!({"hash": hash.to_string(), "path": path_of(&hash)?, "bytes": bytes}));
        }
        let mut told = Vec::new();
        for pin in pins {
            let files = pin.files(&store)?;
            let bytes = |is_wanted: fn(bool) -> bool| {
                files.iter().filter(|file| is_wanted(file.is_here)).map(|file| file.len).fold(0u64, u64::saturating_add)
            };
            let problem = files.iter().filter(|file| !file.is_here).find_map(|file| problems.get(&file.hash));
            told.push(json!({
                "problem": problem,
                "path": named(&people, &own, &pin.space, &pin.path),
                "space": pin.space.to_string(),
                "files": files.len(),
                "files_here": files.iter().filter(|file| file.is_here).count(),
                "bytes_total": bytes(|_| true),
                "bytes_here": bytes(|is_here| is_here),
            }));
        }
        let kept_back: Vec<Serde> = wishes.kept_back().iter().map(|space| json!({"space": space.to_string(), "name": people.name(space)})).collect();
        Ok((transfers, told_came, told, kept_back, most_given))
    };
    let (transfers, came, pins, kept_back, most_given) = beside(told).await?.map_err(|error| storage_problem(&error))?;
    Ok(json!({
        "bytes": blobs.bytes(),
        "free_bytes": blobs.free_bytes().ok(),
        "cache_bytes_max": peer.config.cached_files_bytes_max,
        "limits": limits,
        "given": {"bytes": bytes_given, "since_ms": since_ms, "bytes_per_s": given_per_s, "files": most_given},
        "pins": pins,
        "kept_back": kept_back,
        "problem": unread,
        "uploads": uploads,
        "transfers": transfers,
        "came": came,
    }))
}

/// Files that are told as lacking; with more a peer has much to fetch, and whoever waits for it goes on waiting.
const LACKS_MAX: usize = 10_000;

/// Whether all files of the own space are to be here, and which are not: in numbers that name no content, which a keeper may
/// know to compare peers of one space.
async fn kept(peer: &Peer) -> Result<Serde, Problem> {
    let all = Pin { space: peer.space(), path: Path::root() };
    let wishes = Wishes::of(peer);
    let is_pinned = wishes.pins().contains(&all);
    let store = peer.store().clone();
    let files = beside(move || all.files(&store)).await?.map_err(|error| storage_problem(&error))?;
    let (here, lacking): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_here);
    // What the owner stopped here is not waited for.
    let (stopped, lacking): (Vec<_>, Vec<_>) = lacking.into_iter().partition(|file| wishes.is_stopped(&file.hash));
    let number = |hash: &BlobHash| {
        let digest = timebus_identity::hash("lacks", &[peer.space().as_bytes(), hash.as_bytes()]);
        timebus_identity::z32::encode(&digest[..10])
    };
    let lacks: Vec<String> = lacking.iter().take(LACKS_MAX).map(|file| number(&file.hash)).collect();
    Ok(json!({"pinned": is_pinned, "files": files.len(), "files_here": here.len(), "stopped": stopped.len(), "lacks": lacks}))
}

/// A path as it is asked for here.
fn named(people: &People, own: &PublicKey, space: &PublicKey, path: &Path) -> String {
    let path = path.to_string();
    if space == own {
        return path;
    }
    let name = people.petname(space).unwrap_or_else(|| space.to_string());
    format!("/@{name}{}", if path == "/" { "" } else { &path })
}

/// Something about what others were given.
pub(super) fn given<T>(peer: &Peer, ask: impl FnOnce(&Given) -> T) -> T {
    match peer.network() {
        Some(network) => ask(network.blobs().given()),
        None => ask(&Given::open(peer.store().home(), now_ms())),
    }
}

/// One file of which something is wanted, for people.
fn describe(store: &Store, people: &People, own: &PublicKey, file: &Wished, wish: Option<Wish>) -> Serde {
    let hash = file.hash;
    let part = store.blobs().filter(|blobs| blobs.has_partial(&hash)).and_then(|blobs| blobs.open_partial(&hash));
    let state = match wish {
        Some(Wish::Paused) => "paused",
        Some(Wish::Cancelled) => "cancelled",
        Some(Wish::Wanted) => "waiting",
        None => "none",
    };
    json!({
        "hash": hash.to_string(),
        "space": file.space.to_string(),
        "path": named(people, own, &file.space, &file.path),
        "bytes_total": file.len,
        "bytes_here": part.as_ref().map_or(0, |part| part.bytes_here()),
        "bytes_own": part.as_ref().filter(|part| part.is_owners()).map_or(0, |part| part.bytes_here()),
        "is_fetched": false,
        "bytes_per_s": 0,
        "sources": [],
        "waiting": 0,
        "readers": 0,
        "bytes_given": 0,
        "given_per_s": 0,
        "given_to": [],
        "quiet_ms": 0,
        "left_ms": null,
        "problem": null,
        "text": "",
        "state": state,
    })
}

#[derive(Deserialize)]
struct PinBody {
    path: String,
}

/// A path as somebody typed it, with the space that it is in.
async fn place(peer: &Peer, path: &str) -> Result<Pin, Problem> {
    of(peer)?;
    let (space, path) = match path.strip_prefix("/@").or_else(|| path.strip_prefix('@')) {
        Some(rest) => {
            let (name, path) = rest.split_once('/').map_or((rest, ""), |(name, path)| (name, path));
            (find_space(peer, name).await?, Path::parse(&format!("/{path}")))
        }
        None => (peer.space(), Path::parse(path)),
    };
    Ok(Pin { space, path: path.map_err(|error| bad_path(&error))? })
}

async fn pin(peer: &Peer, body: &Bytes, is_pinned: bool) -> Result<Serde, Problem> {
    let PinBody { path } = read(body)?;
    let Pin { space, path } = place(peer, &path).await?;
    if is_pinned && peer.store().held(&space).is_none() {
        return Err(bad("nothing of this space is here").with_fix("take an invite to it with `timebus join`, or follow it"));
    }
    let pin = Pin { space, path };
    let changed = Wishes::of(peer).pin(&pin, is_pinned).map_err(unsaid)?;
    let Some(changed) = changed else {
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "pins", "there are too many pins", "pin a path above several of them"));
    };
    let people = People::now(peer).await;
    Ok(json!({"path": named(&people, &peer.space(), &pin.space, &pin.path), "pinned": is_pinned, "changed": changed}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichBody {
    which: String,
}

/// The files that somebody means and that are not all here: one by its hash or path, or those at and below a path that are on
/// their way, or were, or are pinned; with `all` also those that nobody asked for yet.
async fn which(peer: &Peer, which: &str, all: bool) -> Result<Vec<Wished>, Problem> {
    let wishes = Wishes::of(peer);
    let (store, said) = (peer.store().clone(), wishes.files());
    let fetched: Vec<String> = match peer.network() {
        Some(network) => network.blobs().status().await.0.into_iter().filter(Status::is_fetched).map(|status| status.hash().to_owned()).collect(),
        None => Vec::new(),
    };
    let missing = |is_known: bool| {
        let (title, detail) = match is_known {
            true => ("all of it is here", format!("{which} is on its way no more")),
            false => ("no such file is on its way", format!("nothing that is called {which} comes, or is to come")),
        };
        Problem::new(StatusCode::NOT_FOUND, "file", title, detail).with_fix("`timebus files` lists what is on its way; a path or a hash names it")
    };
    if let Some(hash) = BlobHash::parse(which) {
        let found = beside(move || -> Result<_, StorageError> {
            if let Some((file, _)) = said.into_iter().find(|(file, _)| file.hash == hash) {
                return Ok((Some(file), false));
            }
            let is_here = store.blobs().is_some_and(|blobs| blobs.len_of(&hash).is_some());
            let places = store.places_of(&store.snapshot(), &hash)?;
            let place = places.into_iter().max_by_key(|place| place.is_visible);
            let file = place.map(|place| Wished { hash, space: place.space.key, path: place.path, len: place.len });
            Ok((file.filter(|_| !is_here), is_here))
        });
        let (file, is_here) = found.await?.map_err(|error| storage_problem(&error))?;
        return file.map(|file| vec![file]).ok_or_else(|| missing(is_here));
    }
    let place = place(peer, which).await?;
    let found = beside(move || -> Result<_, StorageError> {
        let rows = store.snapshot();
        let mut all_named = store.places(&rows);
        let files = place.files(&store)?;
        let is_known = !files.is_empty();
        let mut found = Vec::new();
        for file in files.into_iter().filter(|file| !file.is_here) {
            let has_part = store.blobs().is_some_and(|blobs| blobs.has_partial(&file.hash));
            let is_meant = all
                || file.path == place.path
                || has_part
                || said.iter().any(|(said, _)| said.hash == file.hash)
                || fetched.contains(&file.hash.to_string())
                || wishes.is_pinned(&mut all_named, &file.hash)?;
            if is_meant {
                found.push(Wished { hash: file.hash, space: place.space, path: file.path, len: file.len });
            }
        }
        Ok((found, is_known))
    });
    let (found, is_known) = found.await?.map_err(|error| storage_problem(&error))?;
    if found.is_empty() { Err(missing(is_known)) } else { Ok(found) }
}

/// What the owner said was not remembered.
fn unsaid(error: std::io::Error) -> Problem {
    if error.kind() != std::io::ErrorKind::InvalidData {
        return storage_problem(&error.into());
    }
    let title = "what you said of files cannot be read, and nothing is written over it";
    Problem::new(StatusCode::CONFLICT, "files-unread", title, error.to_string())
        .with_fix("mend the file, or move it away to begin anew, then start the peer again; until then files of others go to nobody from here")
}

/// Remembers what is wanted of files.
fn wish(wishes: &Wishes, files: &[Wished], wish: Option<Wish>) -> Result<(), Problem> {
    wishes.wish(files, wish).map_err(unsaid)?.ok_or_else(|| {
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "files", "these are too many files", format!("{FILES_MAX} can be told apart from others"))
            .with_fix("`timebus files unpin` the path above them, or name one that is further down")
    })
}

/// Answers with the files that something was said of.
async fn said(peer: &Peer, files: Vec<Wished>, state: Option<Wish>) -> Result<Vec<Serde>, Problem> {
    let (people, own, store) = (People::now(peer).await, peer.space(), peer.store().clone());
    beside(move || files.iter().map(|file| describe(&store, &people, &own, file, state)).collect()).await
}

async fn pause(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let WhichBody { which: name } = read(body)?;
    let files = which(peer, &name, true).await?;
    wish(&Wishes::of(peer), &files, Some(Wish::Paused))?;
    if let Some(network) = peer.network() {
        network.blobs().stop(files.iter().map(|file| file.hash).collect(), Stuck::Paused).await;
    }
    Ok(json!({"files": said(peer, files, Some(Wish::Paused)).await?}))
}

async fn go_on(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let WhichBody { which: name } = read(body)?;
    let files = which(peer, &name, false).await?;
    let wishes = Wishes::of(peer);
    wishes.cancelled(&files, false);
    wish(&wishes, &files, Some(Wish::Wanted))?;
    Ok(json!({"files": said(peer, files, Some(Wish::Wanted)).await?}))
}

/// Gets nothing more of files, and keeps nothing of what has come, nor of uploads that were begun there; what is left of a damaged file
/// that was put in here stays. A pin of just this path goes; of one above it the files are left out.
async fn cancel(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let WhichBody { which: name } = read(body)?;
    let mut uploads = resume::cancel(peer, &name, false).await?;
    let files = match which(peer, &name, false).await {
        // Uploads alone were meant; below a path only where nothing else is, and none at it.
        Err(problem) => {
            if uploads.is_empty() {
                uploads = resume::cancel(peer, &name, true).await?;
            }
            if uploads.is_empty() {
                return Err(problem);
            }
            Vec::new()
        }
        Ok(files) => files,
    };
    let wishes = Wishes::of(peer);
    let mut unpinned = false;
    if BlobHash::parse(&name).is_none()
        && let Ok(pin) = place(peer, &name).await
    {
        unpinned = wishes.pin(&pin, false).map_err(unsaid)?.unwrap_or(false);
    }
    let (store, all, known) = (peer.store().clone(), files.clone(), wishes.clone());
    let left_out = beside(move || -> Result<_, StorageError> {
        let rows = store.snapshot();
        let mut all_named = store.places(&rows);
        all.into_iter().map(|file| Ok((known.is_pinned(&mut all_named, &file.hash)?, file))).collect::<Result<Vec<_>, StorageError>>()
    });
    let left_out = left_out.await?.map_err(|error| storage_problem(&error))?;
    let (pinned, others): (Vec<_>, Vec<_>) = left_out.into_iter().partition(|(is_pinned, _)| *is_pinned);
    let only = |files: Vec<(bool, Wished)>| files.into_iter().map(|(_, file)| file).collect::<Vec<_>>();
    wishes.cancelled(&files, true);
    wish(&wishes, &only(pinned), Some(Wish::Cancelled))?;
    wish(&wishes, &only(others), None)?;
    let hashes = files.iter().map(|file| file.hash).collect();
    if let Some(network) = peer.network() {
        network.blobs().stop(hashes, Stuck::Cancelled).await;
    } else {
        let blobs = of(peer)?.clone();
        let removed = beside(move || hashes.iter().try_for_each(|hash: &BlobHash| blobs.remove_fetched(hash).map(drop))).await?;
        removed.map_err(|error| storage_problem(&error.into()))?;
    }
    Ok(json!({"files": said(peer, files, Some(Wish::Cancelled)).await?, "uploads": uploads, "unpinned": unpinned}))
}

/// Removes files of others that are here only for the time being, or says which would go.
async fn free(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Wanted {
        /// Those that are named at or below it; all if there is none.
        path: Option<String>,
        /// Instead, what was removed or replaced, and is kept for a while to be taken back.
        history: bool,
        preview: bool,
    }
    let Wanted { path, history, preview } = if body.is_empty() { Wanted::default() } else { read(body)? };
    let at = match &path {
        Some(path) => Some(place(peer, path).await?),
        None => None,
    };
    let wishes = Wishes::of(peer);
    if !wishes.are_known() {
        let detail = "as long as it is not known which files are to stay, none goes";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "files-unread", "this peer does not know yet what it is to keep", detail)
            .with_fix("start the peer with `timebus up`, then try again; if it runs, `timebus files` says what is wrong"));
    }
    if history {
        if path.is_some() {
            return Err(bad("what was removed is freed as a whole, and not by path"));
        }
        if peer.store().log_lacks() {
            let detail = "a part of the change log is damaged or missing, so it is not known which files older versions and others name";
            return Err(Problem::new(StatusCode::CONFLICT, "log-lacks", "nothing goes as long as changes are missing", detail)
                .with_fix("`timebus fsck` says what is missing, `timebus fsck --repair` gets it from others"));
        }
        let store = peer.store().clone();
        let (files, bytes) = beside(move || store.drop_history(preview, now_ms())).await?.map_err(|error| storage_problem(&error))?;
        return Ok(json!({"files": files, "bytes": bytes, "preview": preview}));
    }
    let (store, room) = (peer.store().clone(), crate::blobs::room_of_guests(peer));
    let freed = beside(move || -> Result<_, StorageError> {
        let meant: Option<HashSet<BlobHash>> = at.map(|at| at.files(&store)).transpose()?.map(|files| files.iter().map(|file| file.hash).collect());
        crate::blobs::cache::free(&store, &wishes, |hash| meant.as_ref().is_none_or(|meant| meant.contains(hash)), room, preview)
    });
    let (files, bytes) = freed.await?.map_err(|error| storage_problem(&error))?;
    if !preview {
        let left = peer.cached.load(Ordering::Relaxed).saturating_sub(bytes);
        peer.cached.store(left, Ordering::Relaxed);
    }
    Ok(json!({"files": files, "bytes": bytes, "preview": preview}))
}

/// How fast files may go and come: what is not said stays, null is no limit.
fn limit(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let said: serde_json::Map<String, Serde> = read(body)?;
    let wishes = Wishes::of(peer);
    let mut limits = wishes.limits();
    for (way, speed) in &said {
        let limit = match way.as_str() {
            "up" => &mut limits.up,
            "down" => &mut limits.down,
            _ => return Err(bad(format!("there is no limit that is called {way:?}")).with_fix("`up` and `down` are bytes a second, or null")),
        };
        *limit = match speed.as_u64() {
            Some(speed) if (BYTES_PER_S_MIN..=BYTES_PER_S_MAX).contains(&speed) => Some(speed),
            None if speed.is_null() => None,
            _ => {
                let least = BYTES_PER_S_MIN;
                let words = "with none, or null in JSON, there is no limit";
                return Err(bad(format!("{speed} bytes a second are too few, or too many: {least} are the least, as in 16kB/s; {words}"))
                    .with_fix("`timebus files pause` stops one file, `timebus files share WHO no` hands none on"));
            }
        };
    }
    wishes.limit(limits).map_err(unsaid)?;
    if let Some(network) = peer.network() {
        network.blobs().limit(limits);
    }
    Ok(json!(limits))
}

#[derive(Deserialize)]
struct ShareBody {
    space: String,
    share: bool,
}

async fn share(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let ShareBody { space, share } = read(body)?;
    let space = find_space(peer, &space).await?;
    if space == peer.space() {
        return Err(
            bad("who gets files of your own space is a matter of rights").with_fix("`timebus grants` says who may read, `timebus revoke` ends it")
        );
    }
    Wishes::of(peer).hand_on(&space, share).map_err(unsaid)?;
    if let Some(network) = peer.network().filter(|_| !share) {
        network.blobs().restate(space);
    }
    // What a machine keeps back is no copy for others: what it offered does not count meanwhile.
    let offered = match peer.network() {
        Some(network) => network.ask(move |node| node.book().communities.get(&space).map(|membership| membership.stores)).await.ok().flatten(),
        None => None,
    };
    Ok(json!({"space": space.to_string(), "name": People::now(peer).await.name(&space), "share": share, "offered": offered.unwrap_or(0)}))
}
