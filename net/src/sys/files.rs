//! The part of `/.sys` about files: how much is kept, what is pinned, what is on its way and from whom.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::path::Path;
use timebus_store::store::StorageError;

use crate::blobs::wishes::{Pin, Wishes};
use crate::blobs::{beside, of};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{bad_path, storage_problem};
use crate::sys::network::{bad, find_space, read};

/// Answers a part of `/.sys` about files; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<Serde, Problem>> {
    Some(match (method, rest) {
        (&Method::GET | &Method::HEAD, ["blobs"]) => files(peer).await,
        (&Method::GET | &Method::HEAD, ["kept"]) => kept(peer).await,
        (&Method::POST, ["blobs", "pin"]) => pin(peer, body, true).await,
        (&Method::POST, ["blobs", "unpin"]) => pin(peer, body, false).await,
        (&Method::POST, ["blobs", "share"]) => share(peer, body).await,
        _ => return None,
    })
}

/// The files of this peer, and those that are got from others or given to them now.
async fn files(peer: &Peer) -> Result<Serde, Problem> {
    let blobs = of(peer)?;
    let wishes = Wishes::of(peer);
    let people = People::now(peer).await;
    let transfers = match peer.network() {
        Some(network) => network.blobs().status().await,
        None => Vec::new(),
    };
    let mut transfers: Vec<Serde> = transfers.iter().filter_map(|transfer| serde_json::to_value(transfer).ok()).collect();
    let (store, pins) = (peer.store().clone(), wishes.pins());
    let own = peer.space();
    let told = move || -> Result<_, StorageError> {
        let rows = store.snapshot();
        for transfer in &mut transfers {
            let hash = transfer["hash"].as_str().and_then(BlobHash::parse);
            let places = hash.map_or_else(|| Ok(Vec::new()), |hash| store.places_of(&rows, &hash))?;
            let place = places.iter().max_by_key(|place| place.is_visible);
            transfer["path"] = place.map(|place| named(&people, &own, &place.space.key, &place.path)).into();
        }
        let mut told = Vec::new();
        for pin in pins {
            let files = pin.files(&store)?;
            let bytes = |is_wanted: fn(bool) -> bool| files.iter().filter(|file| is_wanted(file.is_here)).map(|file| file.len).sum::<u64>();
            told.push(json!({
                "path": named(&people, &own, &pin.space, &pin.path),
                "space": pin.space.to_string(),
                "files": files.len(),
                "files_here": files.iter().filter(|file| file.is_here).count(),
                "bytes_total": bytes(|_| true),
                "bytes_here": bytes(|is_here| is_here),
            }));
        }
        let kept_back: Vec<Serde> = wishes.kept_back().iter().map(|space| json!({"space": space.to_string(), "name": people.name(space)})).collect();
        Ok((transfers, told, kept_back))
    };
    let (transfers, pins, kept_back) = beside(told).await?.map_err(|error| storage_problem(&error))?;
    Ok(json!({
        "bytes": blobs.bytes(),
        "free_bytes": blobs.free_bytes().ok(),
        "cache_bytes_max": peer.config.cached_files_bytes_max,
        "pins": pins,
        "kept_back": kept_back,
        "transfers": transfers,
    }))
}

/// Files that are told as lacking; with more a peer has much to fetch, and whoever waits for it goes on waiting.
const LACKS_MAX: usize = 10_000;

/// Whether all files of the own space are to be here, and which are not: in numbers that name no content, which a keeper may
/// know to compare peers of one space.
async fn kept(peer: &Peer) -> Result<Serde, Problem> {
    let all = Pin { space: peer.space(), path: Path::root() };
    let is_pinned = Wishes::of(peer).pins().contains(&all);
    let store = peer.store().clone();
    let files = beside(move || all.files(&store)).await?.map_err(|error| storage_problem(&error))?;
    let (here, lacking): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_here);
    let number = |hash: &BlobHash| {
        let digest = timebus_identity::hash("lacks", &[peer.space().as_bytes(), hash.as_bytes()]);
        timebus_identity::z32::encode(&digest[..10])
    };
    let lacks: Vec<String> = lacking.iter().take(LACKS_MAX).map(|file| number(&file.hash)).collect();
    Ok(json!({"pinned": is_pinned, "files": files.len(), "files_here": here.len(), "lacks": lacks}))
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

#[derive(Deserialize)]
struct PinBody {
    path: String,
}

async fn pin(peer: &Peer, body: &Bytes, is_pinned: bool) -> Result<Serde, Problem> {
    let PinBody { path } = read(body)?;
    of(peer)?;
    let (space, path) = match path.strip_prefix("/@").or_else(|| path.strip_prefix('@')) {
        Some(rest) => {
            let (name, path) = rest.split_once('/').map_or((rest, ""), |(name, path)| (name, path));
            (find_space(peer, name).await?, Path::parse(&format!("/{path}")))
        }
        None => (peer.space(), Path::parse(&path)),
    };
    let path = path.map_err(|error| bad_path(&error))?;
    if is_pinned && peer.store().held(&space).is_none() {
        return Err(bad("nothing of this space is here").with_fix("take an invite to it with `timebus join`, or follow it"));
    }
    let pin = Pin { space, path };
    let changed = Wishes::of(peer).pin(&pin, is_pinned).map_err(|error| storage_problem(&error.into()))?;
    let Some(changed) = changed else {
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "pins", "there are too many pins", "pin a path above several of them"));
    };
    let people = People::now(peer).await;
    Ok(json!({"path": named(&people, &peer.space(), &pin.space, &pin.path), "pinned": is_pinned, "changed": changed}))
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
    Wishes::of(peer).hand_on(&space, share).map_err(|error| storage_problem(&error.into()))?;
    if let Some(network) = peer.network().filter(|_| !share) {
        network.blobs().restate(space);
    }
    Ok(json!({"space": space.to_string(), "name": People::now(peer).await.name(&space), "share": share}))
}
