//! What the owner wants of the files of others: kept here whatever room they take, or not handed on.
//!
//! A *pin* is a path: all files at and below it are fetched, also those that come later, and stay. A space that is *kept
//! back* is served from here to the owner's own devices alone. Both are wishes of this peer, kept in `files.json`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path as File, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::blobs::partial::pieces_of;
use timebus_store::keyspace::Committed;
use timebus_store::path::Path;
use timebus_store::store::{StorageError, Store};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::beside;
use super::fetch::Fetcher;
use super::named::belongs;
use crate::community::holding::has_grown;
use crate::ledger::{Payer, Relation};
use crate::peer::{Peer, lock};

/// Pins; who wants more pins what is above them.
const PINS_MAX: usize = 1024;
/// How often it is looked whether somebody is there by now who has what is pinned.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long what is new waits, so that what comes with it is looked at together.
const GATHER: Duration = Duration::from_millis(500);
/// How long nothing may come of a pinned file until the next one is tried.
const STALL_MAX: Duration = Duration::from_secs(20);
/// The same where nobody is known who has it.
const FIND_MAX: Duration = Duration::from_secs(3);
/// Pinned files that are fetched at once.
const AT_ONCE: usize = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Settings {
    /// Paths whose files stay here, by space.
    #[serde(default)]
    pins: BTreeMap<String, BTreeSet<String>>,
    /// Spaces whose files do not go on to others.
    #[serde(default)]
    kept_back: BTreeSet<String>,
}

/// What the owner wants. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Wishes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Files that this peer holds for communities; `None` as long as that was not worked out.
    placed: Mutex<Option<HashSet<BlobHash>>>,
    file: PathBuf,
    settings: Mutex<Settings>,
    changed: Notify,
}

/// A path whose files stay here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) space: PublicKey,
    pub(crate) path: Path,
}

/// A file that is named at or below a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) hash: BlobHash,
    pub(crate) len: u64,
    /// Where it is named.
    path: Path,
    /// Who named it there.
    author: PublicKey,
    /// Whether it is here, and for those who have that place.
    pub(crate) is_here: bool,
}

impl Wishes {
    /// What a home remembers. What cannot be read is no wish, and is overwritten by the next one.
    pub(crate) fn open(home: &File) -> Self {
        let file = home.join("files.json");
        let settings = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(%error, file = %file.display(), "which files are pinned could not be read; pin them again");
                Settings::default()
            }),
            Err(_) => Settings::default(),
        };
        Self(Arc::new(Inner { placed: Mutex::default(), file, settings: Mutex::new(settings), changed: Notify::new() }))
    }

    /// Those of a peer.
    pub(crate) fn of(peer: &Peer) -> Self {
        peer.network().map_or_else(|| Self::open(peer.store.home()), |network| network.blobs().wishes().clone())
    }

    /// The pins, by space and path.
    pub(crate) fn pins(&self) -> Vec<Pin> {
        let settings = lock(&self.0.settings);
        let pins = settings.pins.iter().flat_map(|(space, paths)| paths.iter().map(move |path| (space, path)));
        pins.filter_map(|(space, path)| Some(Pin { space: space.parse().ok()?, path: Path::parse(path).ok()? })).collect()
    }

    /// Spaces whose files do not go on to others.
    pub(crate) fn kept_back(&self) -> Vec<PublicKey> {
        lock(&self.0.settings).kept_back.iter().filter_map(|space| space.parse().ok()).collect()
    }

    /// Whether files of a space may go on to others.
    pub(crate) fn hands_on(&self, space: &PublicKey) -> bool {
        let settings = lock(&self.0.settings);
        settings.kept_back.is_empty() || !settings.kept_back.contains(&space.to_string())
    }

    /// Pins a path, or no longer; says whether that is new. `None` if there are too many pins.
    pub(crate) fn pin(&self, pin: &Pin, is_pinned: bool) -> io::Result<Option<bool>> {
        let (space, path) = (pin.space.to_string(), pin.path.to_string());
        self.change(|settings| {
            if !is_pinned {
                let Some(paths) = settings.pins.get_mut(&space) else { return Some(false) };
                let was_in = paths.remove(&path);
                settings.pins.retain(|_, paths| !paths.is_empty());
                return Some(was_in);
            }
            if settings.pins.values().map(BTreeSet::len).sum::<usize>() >= PINS_MAX {
                return None;
            }
            Some(settings.pins.entry(space).or_default().insert(path))
        })
    }

    /// Lets files of a space go on to others, or no longer.
    pub(crate) fn hand_on(&self, space: &PublicKey, does: bool) -> io::Result<()> {
        let space = space.to_string();
        self.change(|settings| match does {
            true => settings.kept_back.remove(&space),
            false => settings.kept_back.insert(space),
        })
        .map(drop)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> io::Result<T> {
        let mut settings = lock(&self.0.settings);
        let mut new = settings.clone();
        let answer = change(&mut new);
        if new != *settings {
            crate::files::write_whole(&self.0.file, &serde_json::to_vec_pretty(&new)?)?;
            *settings = new;
            self.0.changed.notify_one();
        }
        Ok(answer)
    }

    /// These are the files that this peer holds for communities, instead of those before.
    pub(crate) fn place(&self, files: HashSet<BlobHash>) {
        *lock(&self.0.placed) = Some(files);
    }

    /// Whether it is known which files this peer holds for communities. It is not right after the start.
    pub(crate) fn are_known(&self) -> bool {
        lock(&self.0.placed).is_some()
    }

    /// Whether a file is held for a community, or named at or below a pin.
    pub(crate) fn is_pinned(&self, store: &Store, rows: &Committed, hash: &BlobHash) -> Result<bool, StorageError> {
        if lock(&self.0.placed).as_ref().is_some_and(|placed| placed.contains(hash)) {
            return Ok(true);
        }
        let pins = self.pins();
        if pins.is_empty() {
            return Ok(false);
        }
        let places = store.places_of(rows, hash)?;
        Ok(places.iter().any(|place| place.is_visible && pins.iter().any(|pin| pin.space == place.space.key && pin.path.contains(&place.path))))
    }
}

impl Pin {
    /// The files that are named at or below it, each once.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub(crate) fn files(&self, store: &Store) -> Result<Vec<Pinned>, StorageError> {
        let Some(blobs) = store.blobs() else { return Ok(Vec::new()) };
        let rows = store.snapshot();
        let mut found = Vec::new();
        for hash in store.named_blobs(&rows, &self.space)? {
            let places = store.places_of(&rows, &hash)?;
            let named = places.iter().filter(|place| place.is_visible && place.space.key == self.space && self.path.contains(&place.path));
            // What the owner names, too, is his.
            let place = named.max_by_key(|place| store.is_by_owner(&self.space, &place.author));
            if let Some(place) = place {
                let is_here = blobs.len_of(&hash).is_some() && belongs(store, &hash, &self.space, &place.timeline, &place.author);
                found.push(Pinned { hash, len: place.len, path: place.path.clone(), author: place.author, is_here });
            }
        }
        Ok(found)
    }
}

/// Fetches what is pinned and not here, now and whenever there is more, until the peer stops.
pub(crate) async fn keep(peer: Peer) {
    peer.until_stopped(keep_on(&peer)).await;
}

async fn keep_on(peer: &Peer) {
    let network = super::network(peer).await;
    let fetcher = network.blobs();
    let mut arrivals = peer.store.arrivals();
    // Up to which arrival each pin was looked at: what comes into other spaces costs nothing.
    let mut looked: HashMap<PublicKey, u64> = HashMap::new();
    let mut look_at = Instant::now();
    loop {
        let upto = *arrivals.borrow_and_update();
        if Instant::now() >= look_at {
            looked.clear();
            look_at = Instant::now() + LOOK_EVERY;
        }
        let due: Vec<Pin> = {
            let rows = peer.store.snapshot();
            let is_new = |pin: &Pin| looked.get(&pin.space).is_none_or(|upto| has_grown(&peer.store, &rows, &pin.space, *upto).unwrap_or(true));
            fetcher.wishes().pins().into_iter().filter(is_new).collect()
        };
        for pin in due {
            if let Err(error) = fetch(peer, fetcher, &pin).await {
                tracing::warn!(path = %pin.path, %error, "pinned files were not fetched");
            }
        }
        looked = fetcher.wishes().pins().into_iter().map(|pin| (pin.space, upto)).collect();
        let changed = &fetcher.wishes().0.changed;
        tokio::select! {
            () = tokio::time::sleep_until(look_at) => {}
            () = changed.notified() => looked.clear(),
            _ = arrivals.changed() => tokio::time::sleep(GATHER).await,
        }
    }
}

/// Fetches what is missing at and below a pin, some files at once: what nobody has keeps none of the others waiting for long.
async fn fetch(peer: &Peer, fetcher: &Fetcher, pin: &Pin) -> io::Result<()> {
    let (store, wanted) = (peer.store.clone(), pin.clone());
    let files = beside(move || wanted.files(&store)).await.map_err(|_| io::Error::other("the peer is stopping"))?;
    let Some(space) = peer.store.held(&pin.space) else { return Ok(()) };
    // What guests name in the own space comes as far as they have room here: it is the owner's disk.
    let mut of_guests: HashMap<PublicKey, u64> = HashMap::new();
    let mut has_room = |file: &Pinned| {
        if pin.space != peer.space() || peer.store.is_by_owner(&pin.space, &file.author) {
            return true;
        }
        let used = of_guests.entry(file.author).or_default();
        let has_room = used.saturating_add(file.len) <= peer.ledger().limit_of(&Payer::Key(file.author), Relation::Invited);
        *used += if has_room { file.len } else { 0 };
        has_room
    };
    let files = files.map_err(io::Error::other)?;
    let missing: Vec<Pinned> = files.into_iter().filter(|file| has_room(file) && !file.is_here).collect();
    let fetched = missing.into_iter().map(|file| async move {
        let fetching = fetcher.fetch(&peer.store, peer.store.at(space, &file.path), file.hash, file.len).await.map_err(io::Error::other)?;
        let Some(mut fetch) = fetching else { return Ok::<_, io::Error>(()) };
        for piece in 0..u32::try_from(pieces_of(file.len)).unwrap_or(u32::MAX) {
            let is_here = fetch.piece(piece, FIND_MAX).await;
            if !is_here && (fetch.progress.borrow().sources.is_empty() || !fetch.piece(piece, STALL_MAX).await) {
                break;
            }
        }
        Ok(())
    });
    let mut fetched = futures_util::stream::iter(fetched).buffer_unordered(AT_ONCE);
    while let Some(fetched) = fetched.next().await {
        fetched?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(path: &str) -> Pin {
        Pin { space: PublicKey::from_bytes([1; 32]), path: Path::parse(path).expect("a path") }
    }

    #[test]
    fn wishes_outlive_a_restart() {
        let home = tempfile::tempdir().expect("a folder");
        let wishes = Wishes::open(home.path());
        assert_eq!(wishes.pin(&pin("/films"), true).expect("writes"), Some(true));
        assert_eq!(wishes.pin(&pin("/films"), true).expect("writes"), Some(false));
        assert_eq!(wishes.pin(&pin("/"), true).expect("writes"), Some(true));
        let other = PublicKey::from_bytes([2; 32]);
        wishes.hand_on(&other, false).expect("writes");
        let wishes = Wishes::open(home.path());
        assert_eq!(wishes.pins(), [pin("/"), pin("/films")]);
        assert!(!wishes.hands_on(&other) && wishes.hands_on(&pin("/").space));
        assert_eq!(wishes.pin(&pin("/"), false).expect("writes"), Some(true));
        assert_eq!(wishes.pin(&pin("/"), false).expect("writes"), Some(false));
        wishes.hand_on(&other, true).expect("writes");
        let wishes = Wishes::open(home.path());
        assert_eq!((wishes.pins(), wishes.kept_back()), (vec![pin("/films")], vec![]));
    }

    #[test]
    fn what_is_held_for_a_community_stays_until_it_is_placed_elsewhere() {
        let home = tempfile::tempdir().expect("a folder");
        let lock = timebus_store::store::lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &timebus_store::store::Config::default(), 1, &mut |_| {}).expect("a new store");
        let wishes = Wishes::open(home.path());
        let (held, other) = (BlobHash::from_bytes([1; 32]), BlobHash::from_bytes([2; 32]));
        let stays = |hash: &BlobHash| wishes.is_pinned(&store, &store.snapshot(), hash).expect("reads");
        wishes.place(HashSet::from([held]));
        assert!(stays(&held) && !stays(&other));
        wishes.place(HashSet::new());
        assert!(!stays(&held));
    }

    #[test]
    fn there_is_an_end_to_pins() {
        let home = tempfile::tempdir().expect("a folder");
        let wishes = Wishes::open(home.path());
        *lock(&wishes.0.settings) = Settings {
            pins: BTreeMap::from([(pin("/").space.to_string(), (0..PINS_MAX).map(|number| format!("/{number}")).collect())]),
            ..Settings::default()
        };
        assert_eq!(wishes.pin(&pin("/one/more"), true).expect("writes"), None);
    }
}
