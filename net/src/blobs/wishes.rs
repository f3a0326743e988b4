//! What the owner wants of the files of others: kept here whatever room they take, not handed on, not now, or not so fast.
//!
//! A *pin* is a path: all files at and below it are fetched, also those that come later, and stay. A space that is *kept
//! back* is served from here to the owner's own devices alone. One file can be *paused*: nothing more of it is asked of
//! anybody, whoever wants it here, until it is *wanted* again; then it is fetched to its end. One that is *cancelled* is not
//! fetched for a pin or a community, but for whoever reads it. All are wishes of this peer, kept in `files.json`, with how fast
//! files may come and go.

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
use timebus_store::path::Path;
use timebus_store::store::{BlobPlace, Places, StorageError, Store};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::beside;
use super::fetch::Fetcher;
use super::named::belongs;
use super::pace::Speeds;
use super::queue::{self, Tried, Until, Which};
use crate::community::holding::has_grown;
use crate::ledger::{Payer, Relation};
use crate::peer::{Peer, lock};

/// Pins; who wants more pins what is above them.
const PINS_MAX: usize = 1024;
/// Files of which it is known why they cannot be kept.
const PROBLEMS_MAX: usize = 1024;
/// How often it is looked whether somebody is there by now who has what is pinned.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long what is new waits, so that what comes with it is looked at together.
const GATHER: Duration = Duration::from_millis(500);
/// How long nothing may come of a file until it is given up for now: others come beside it.
const STALL_MAX: Duration = Duration::from_secs(20);
/// The same where nobody is known who has it.
const FIND_MAX: Duration = Duration::from_secs(3);
/// Files that are wanted one by one and fetched at once.
const AT_ONCE: usize = 4;
/// Lengths that are tried of a file of which it is said that it has several.
const LENS_MAX: usize = 8;
/// Files that are wanted, paused or cancelled one by one; of more, the path above them is pinned or not.
pub(crate) const FILES_MAX: usize = 1024;
/// How long a file of which nothing came waits until it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How long after it was cancelled a file is refused to who reads it: programs that are cut off try again by themselves, and
/// people do not read at once what they have just cancelled.
const CANCELLED_FOR: Duration = Duration::from_secs(30);
/// How long a file that was wanted stays when it is here, whatever room it takes: the owner did not ask for it to see it go.
const CAME_FOR: Duration = Duration::from_secs(6 * 3600);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Settings {
    /// Paths whose files stay here, by space.
    #[serde(default)]
    pins: BTreeMap<String, BTreeSet<String>>,
    /// Spaces whose files do not go on to others.
    #[serde(default)]
    kept_back: BTreeSet<String>,
    /// What is wanted of single files, by hash.
    #[serde(default)]
    files: BTreeMap<String, FileWish>,
    /// How fast files may come and go.
    #[serde(default)]
    limits: Speeds,
    /// How much counts of what was offered to communities, where that is less: there is no room for more.
    #[serde(default)]
    counted: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileWish {
    space: String,
    path: String,
    len: u64,
    wish: Wish,
}

/// What the owner wants of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wish {
    /// All of it.
    Wanted,
    /// Nothing more for now.
    Paused,
    /// Nothing at all, also if a pin or a community names it.
    Cancelled,
}

/// A file of which something is wanted, and where it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wished {
    pub(crate) hash: BlobHash,
    pub(crate) space: PublicKey,
    pub(crate) path: Path,
    pub(crate) len: u64,
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
    /// Why it is not known what the owner wants: then nothing is handed on, nothing goes, and nothing is written over.
    problem: Option<String>,
    /// Files that were cancelled a moment ago.
    cancelled: Mutex<HashMap<BlobHash, Instant>>,
    /// Files that were wanted and came.
    came: Mutex<HashMap<BlobHash, Instant>>,
    /// Why files that are to be here cannot be kept, since the start.
    problems: Mutex<BTreeMap<BlobHash, String>>,
    changed: watch::Sender<()>,
}

/// A path whose files stay here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pin {
    pub(crate) space: PublicKey,
    pub(crate) path: Path,
}

/// A file that is named at or below a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    pub(crate) hash: BlobHash,
    /// Its length, if it is here; else what is said first.
    pub(crate) len: u64,
    /// Where it is named.
    pub(crate) path: Path,
    /// Whether it is here, and for those who have that place.
    pub(crate) is_here: bool,
    /// What is said of its length, each once: what the owner says first, then what each of the others says.
    said: Vec<Said>,
}

/// A length that somebody says a file has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    len: u64,
    path: Path,
    author: PublicKey,
}

impl Wishes {
    /// What a home remembers. As long as it cannot be read, files of others go to nobody, nothing of them makes room for others, and
    /// nothing new is remembered.
    pub(crate) fn open(home: &File) -> Self {
        let file = home.join("files.json");
        let read = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(error) => Err(error.to_string()),
        };
        let problem = read.as_ref().err().map(|error| {
            let problem = format!("{} cannot be read: {error}", file.display());
            tracing::error!(
                "{problem}; until it can be, files of others go to nobody from here. Mend it, or move it away to begin anew, then restart"
            );
            problem
        });
        Self(Arc::new(Inner {
            placed: Mutex::default(),
            file,
            settings: Mutex::new(read.unwrap_or_default()),
            problem,
            cancelled: Mutex::default(),
            came: Mutex::default(),
            problems: Mutex::default(),
            changed: watch::Sender::default(),
        }))
    }

    /// Why it is not known what the owner wants, if it is not.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.0.problem.as_deref()
    }

    /// Those of a peer.
    pub(crate) fn of(peer: &Peer) -> Self {
        peer.network().map_or_else(|| Self::open(peer.store.home()), |network| network.blobs().wishes().clone())
    }

    /// Told when something is said of pins and files.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Why a file cannot be kept that is to be here, if it cannot.
    fn say_problem(&self, hash: &BlobHash, problem: Option<String>) {
        let mut problems = lock(&self.0.problems);
        match problem {
            Some(problem) if problems.len() < PROBLEMS_MAX || problems.contains_key(hash) => drop(problems.insert(*hash, problem)),
            Some(_) => {}
            None => drop(problems.remove(hash)),
        }
    }

    /// Why files that are to be here cannot be kept.
    pub(crate) fn problems(&self) -> BTreeMap<BlobHash, String> {
        lock(&self.0.problems).clone()
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
        self.0.problem.is_none() && (settings.kept_back.is_empty() || !settings.kept_back.contains(&space.to_string()))
    }

    /// How much of what was offered to a community counts: what has room, and files that are kept back are no copies for anybody.
    pub(crate) fn offers(&self, community: &PublicKey, bytes: u64) -> u64 {
        if self.hands_on(community) { self.counted(community).map_or(bytes, |counted| counted.min(bytes)) } else { 0 }
    }

    /// How much of what was offered to a community counts, where there is no room for all of it.
    pub(crate) fn counted(&self, community: &PublicKey) -> Option<u64> {
        lock(&self.0.settings).counted.get(&community.to_string()).copied()
    }

    /// Says how much counts of what was offered to communities, all of it where there is no number. Of those that are not among all
    /// of them nothing is remembered.
    pub(crate) fn count(&self, all: &[PublicKey], counts: &[(PublicKey, Option<u64>)]) -> io::Result<()> {
        self.change(|settings| {
            let all: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
            settings.counted.retain(|community, _| all.contains(community));
            for (community, counts) in counts {
                match counts {
                    Some(bytes) => drop(settings.counted.insert(community.to_string(), *bytes)),
                    None => drop(settings.counted.remove(&community.to_string())),
                }
            }
        })
    }

    /// Why files that this peer is to hold for communities cannot be kept, and how many there are.
    pub(crate) fn problems_of_placed(&self) -> (usize, Option<String>) {
        let (problems, placed) = (lock(&self.0.problems), lock(&self.0.placed));
        let mut of_placed = problems.iter().filter(|(hash, _)| placed.as_ref().is_some_and(|placed| placed.contains(hash)));
        let first = of_placed.next().map(|(_, problem)| problem.clone());
        (of_placed.count() + usize::from(first.is_some()), first)
    }

    /// Told when the owner wants something else.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
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

    /// How fast files may come and go.
    pub(crate) fn limits(&self) -> Speeds {
        lock(&self.0.settings).limits
    }

    /// Lets files come and go so fast.
    pub(crate) fn limit(&self, limits: Speeds) -> io::Result<()> {
        self.change(|settings| settings.limits = limits)
    }

    /// The files of which something is wanted one by one.
    pub(crate) fn files(&self) -> Vec<(Wished, Wish)> {
        let settings = lock(&self.0.settings);
        let parse = |(hash, file): (&String, &FileWish)| {
            let (hash, space, path) = (BlobHash::parse(hash)?, file.space.parse().ok()?, Path::parse(&file.path).ok()?);
            Some((Wished { hash, space, path, len: file.len }, file.wish))
        };
        settings.files.iter().filter_map(parse).collect()
    }

    /// What is wanted of a file, if that was said of this one.
    pub(crate) fn wish_of(&self, hash: &BlobHash) -> Option<Wish> {
        let settings = lock(&self.0.settings);
        if settings.files.is_empty() { None } else { settings.files.get(&hash.to_string()).map(|file| file.wish) }
    }

    /// Whether a file is not to be fetched for pins and communities.
    pub(crate) fn is_stopped(&self, hash: &BlobHash) -> bool {
        matches!(self.wish_of(hash), Some(Wish::Paused | Wish::Cancelled))
    }

    /// Says what is wanted of files, or nothing special. `None` if there are too many of them.
    pub(crate) fn wish(&self, files: &[Wished], wish: Option<Wish>) -> io::Result<Option<()>> {
        self.change(|settings| {
            let before = settings.files.clone();
            for file in files {
                let hash = file.hash.to_string();
                match wish {
                    Some(wish) => {
                        let said = FileWish { space: file.space.to_string(), path: file.path.to_string(), len: file.len, wish };
                        settings.files.insert(hash, said);
                    }
                    None => {
                        settings.files.remove(&hash);
                    }
                }
            }
            if wish.is_some() && settings.files.len() > FILES_MAX {
                settings.files = before;
                return None;
            }
            Some(())
        })
    }

    /// These files were cancelled just now, or are wanted after all.
    pub(crate) fn cancelled(&self, files: &[Wished], are: bool) {
        let mut cancelled = lock(&self.0.cancelled);
        cancelled.retain(|_, at| at.elapsed() < CANCELLED_FOR);
        for file in files {
            match are {
                true => drop(cancelled.insert(file.hash, Instant::now())),
                false => drop(cancelled.remove(&file.hash)),
            }
        }
    }

    /// Whether a file was cancelled a moment ago.
    pub(crate) fn was_cancelled(&self, hash: &BlobHash) -> bool {
        lock(&self.0.cancelled).get(hash).is_some_and(|at| at.elapsed() < CANCELLED_FOR)
    }

    /// These files were wanted, and are here.
    pub(super) fn have_come(&self, files: &[Wished]) {
        let mut came = lock(&self.0.came);
        came.retain(|_, at| at.elapsed() < CAME_FOR);
        came.extend(files.iter().map(|file| (file.hash, Instant::now())));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> io::Result<T> {
        if let Some(problem) = self.problem() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        let mut settings = lock(&self.0.settings);
        let mut new = settings.clone();
        let answer = change(&mut new);
        if new != *settings {
            crate::files::write_whole(&self.0.file, &serde_json::to_vec_pretty(&new)?)?;
            *settings = new;
            self.0.changed.send_replace(());
        }
        Ok(answer)
    }

    /// These are the files that this peer holds for communities, instead of those before.
    pub(crate) fn place(&self, files: HashSet<BlobHash>) {
        *lock(&self.0.placed) = Some(files);
    }

    /// Whether it is known which files this peer holds for communities. It is not right after the start.
    pub(crate) fn are_known(&self) -> bool {
        self.0.problem.is_none() && lock(&self.0.placed).is_some()
    }

    /// Whether a file is to stay: it is pinned, or wanted by itself, or was when it came some hours ago.
    pub(crate) fn stays(&self, named: &mut Places<'_>, hash: &BlobHash) -> Result<bool, StorageError> {
        let is_wanted = || lock(&self.0.came).get(hash).is_some_and(|at| at.elapsed() < CAME_FOR) || self.wish_of(hash) == Some(Wish::Wanted);
        Ok(is_wanted() || self.is_pinned(named, hash)?)
    }

    /// Whether a file is held for a community, or named at or below a pin.
    pub(crate) fn is_pinned(&self, named: &mut Places<'_>, hash: &BlobHash) -> Result<bool, StorageError> {
        if self.0.problem.is_some() {
            return Ok(true);
        }
        if lock(&self.0.placed).as_ref().is_some_and(|placed| placed.contains(hash)) {
            return Ok(true);
        }
        let pins = self.pins();
        if pins.is_empty() {
            return Ok(false);
        }
        let is_below = |place: &BlobPlace| pins.iter().any(|pin| pin.space == place.space.key && pin.path.contains(&place.path));
        named.is_named_where(hash, |place| place.is_visible && is_below(&place))
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
        let (mut found, mut named) = (Vec::new(), store.places(&rows));
        for hash in store.named_blobs(&rows, &self.space)? {
            let mut places = named.of(&hash)?;
            places.retain(|place| place.is_visible && place.space.key == self.space && self.path.contains(&place.path));
            let len = blobs.len_of(&hash);
            let is_here = len.is_some() && places.iter().any(|place| belongs(store, &hash, &place.timeline, &place.author));
            let said = said(places, |author| store.is_by_owner(author, || self.space == store.space()));
            if let Some(first) = said.first() {
                found.push(Pinned { hash, len: len.filter(|_| is_here).unwrap_or(first.len), path: first.path.clone(), is_here, said });
            }
        }
        Ok(found)
    }
}

/// What those who name a file say of its length. Whoever says much takes the place of nobody else.
fn said(places: Vec<BlobPlace>, is_owner: impl Fn(&PublicKey) -> bool) -> Vec<Said> {
    let mut count: HashMap<PublicKey, usize> = HashMap::new();
    let mut said: Vec<((bool, usize), Said)> = Vec::new();
    for BlobPlace { len, path, author, .. } in places {
        let count = count.entry(author).or_default();
        *count += 1;
        said.push(((!is_owner(&author), *count), Said { len, path, author }));
    }
    said.sort_by_key(|(turn, _)| *turn);
    let mut lens = BTreeSet::new();
    said.into_iter().map(|(_, said)| said).filter(|said| lens.insert(said.len)).take(LENS_MAX).collect()
}

/// Fetches what is pinned or wanted and not here, now and whenever there is more, until the peer stops.
pub(crate) async fn keep(peer: Peer) {
    peer.until_stopped(async {
        let network = super::network(&peer).await;
        tokio::join!(keep_pinned(&peer, network.blobs()), keep_wanted(&peer, network.blobs()));
    })
    .await;
}

async fn keep_pinned(peer: &Peer, fetcher: &Fetcher) {
    let (tell, told) = watch::channel(Missing::new());
    // Who has it is not asked for beforehand: all who are there say so at once.
    let (_tell, asked) = mpsc::channel(1);
    let fetch = |Which { space, hash, len }: Which, path: Path, until: Until| async move {
        let (store, named) = (peer.store.clone(), path.clone());
        match beside(move || is_here(&store, &Wished { hash, space, path: named, len })).await {
            Ok(Ok(false)) => fetch_until(peer, fetcher, &Wished { hash, space, path, len }, Some(until)).await,
            Ok(Ok(true)) => Tried::Done,
            Ok(Err(_)) | Err(_) => Tried::InVain,
        }
    };
    tokio::join!(look_at_pins(peer, fetcher, tell), queue::run(told, asked, LOOK_EVERY, fetch));
}

/// Files that are pinned and missing, and where they are named.
type Missing = Vec<(Which, Path)>;

/// Whether a file is here by now for those who have the place where it is named.
fn is_here(store: &Store, file: &Wished) -> Result<bool, StorageError> {
    if store.blobs().and_then(|blobs| blobs.len_of(&file.hash)).is_none() {
        return Ok(false);
    }
    let places = store.places_of(&store.snapshot(), &file.hash)?;
    let mut named = places.iter().filter(|place| place.is_visible && place.space.key == file.space && place.path == file.path);
    Ok(named.any(|place| belongs(store, &file.hash, &place.timeline, &place.author)))
}

/// Works out which pinned files are missing whenever that may have changed, and tells them.
async fn look_at_pins(peer: &Peer, fetcher: &Fetcher, tell: watch::Sender<Missing>) {
    let mut arrivals = peer.store.arrivals();
    let mut changed = fetcher.wishes().0.changed.subscribe();
    // Up to which arrival each pin was looked at: what comes into other spaces costs nothing.
    let mut looked: HashMap<PublicKey, u64> = HashMap::new();
    let mut look_at = Instant::now();
    let mut missing: BTreeMap<Pin, Missing> = BTreeMap::new();
    loop {
        let upto = *arrivals.borrow_and_update();
        if Instant::now() >= look_at {
            looked.clear();
            look_at = Instant::now() + LOOK_EVERY;
        }
        let pins = fetcher.wishes().pins();
        let due: Vec<Pin> = {
            let rows = peer.store.snapshot();
            let is_new = |pin: &&Pin| looked.get(&pin.space).is_none_or(|upto| has_grown(&peer.store, &rows, &pin.space, *upto).unwrap_or(true));
            pins.iter().filter(is_new).cloned().collect()
        };
        let before = missing.len();
        missing.retain(|pin, _| pins.contains(pin));
        if !due.is_empty() || missing.len() < before {
            for pin in due {
                match missing_of(peer, &pin).await {
                    Ok(files) => drop(missing.insert(pin, files)),
                    Err(error) => tracing::warn!(path = %pin.path, %error, "which pinned files are missing is not known"),
                }
            }
            tell.send_replace(in_turn(&missing));
        }
        looked = pins.into_iter().map(|pin| (pin.space, upto)).collect();
        tokio::select! {
            () = tokio::time::sleep_until(look_at) => {}
            _ = changed.changed() => looked.clear(),
            _ = arrivals.changed() => tokio::time::sleep(GATHER).await,
        }
    }
}

/// The files of all pins, one of each after the other: none keeps the others waiting.
fn in_turn(missing: &BTreeMap<Pin, Missing>) -> Missing {
    let mut turns: Vec<(usize, &(Which, Path))> = missing.values().flat_map(|files| files.iter().enumerate()).collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, file)| file.clone()).collect()
}

/// What is missing at and below a pin, under each length that is said.
async fn missing_of(peer: &Peer, pin: &Pin) -> io::Result<Missing> {
    let (store, wanted) = (peer.store.clone(), pin.clone());
    let files = beside(move || wanted.files(&store)).await.map_err(|_| io::Error::other("the peer is stopping"))?;
    // What guests name in the own space comes as far as they have room here: it is the owner's disk.
    let mut of_guests: HashMap<PublicKey, u64> = HashMap::new();
    let mut has_room = |said: &Said| {
        if pin.space != peer.space() || peer.store.is_by_owner(&said.author, || true) {
            return true;
        }
        let used = of_guests.entry(said.author).or_default();
        let has_room = used.saturating_add(said.len) <= peer.ledger().limit_of(&Payer::Key(said.author), Relation::Invited);
        *used += if has_room { said.len } else { 0 };
        has_room
    };
    let mut missing = Missing::new();
    for file in files.map_err(io::Error::other)? {
        for said in file.said {
            if has_room(&said) && !file.is_here {
                missing.push((Which { space: pin.space, hash: file.hash, len: said.len }, said.path));
            }
        }
    }
    Ok(missing)
}

/// Fetches files, some at once, until each is here, or nothing comes of it any more, or it cannot be kept.
pub(crate) async fn fetch_all(peer: &Peer, fetcher: &Fetcher, files: Vec<Wished>) {
    let fetched = files.into_iter().map(|file| async move { fetch_until(peer, fetcher, &file, None).await });
    let mut fetched = futures_util::stream::iter(fetched).buffer_unordered(AT_ONCE);
    while fetched.next().await.is_some() {}
}

/// Fetches a file until it is here, or nothing comes of it any more; says whether it is.
async fn fetch_one(peer: &Peer, fetcher: &Fetcher, file: &Wished) -> io::Result<bool> {
    Ok(fetch_for(peer, fetcher, file, None).await? == Tried::Done)
}

/// Fetches a file until it is here, or nothing comes of it any more, or it is the turn of others. One that cannot be kept does not
/// keep the others from coming.
pub(crate) async fn fetch_until(peer: &Peer, fetcher: &Fetcher, file: &Wished, until: Option<Until>) -> Tried {
    if fetcher.wishes().is_stopped(&file.hash) {
        // The owner does not want it, or not now.
        return Tried::Done;
    }
    let tried = fetch_for(peer, fetcher, file, until).await;
    fetcher.wishes().say_problem(&file.hash, tried.as_ref().err().map(ToString::to_string));
    tried.unwrap_or_else(|error| {
        tracing::warn!(hash = %file.hash, path = %file.path, %error, "a file was not fetched");
        Tried::InVain
    })
}

async fn fetch_for(peer: &Peer, fetcher: &Fetcher, file: &Wished, until: Option<Until>) -> io::Result<Tried> {
    let Some(space) = peer.store.held(&file.space) else { return Ok(Tried::InVain) };
    let fetching = fetcher.fetch(&peer.store, peer.store.at(space, &file.path), file.hash, file.len).await.map_err(io::Error::other)?;
    let Some(mut fetch) = fetching else { return Ok(Tried::InVain) };
    for piece in 0..u32::try_from(pieces_of(file.len)).unwrap_or(u32::MAX) {
        let coming = async {
            fetch.piece_of_somebody(piece, FIND_MAX).await || !fetch.progress.borrow().sources.is_empty() && fetch.piece(piece, STALL_MAX).await
        };
        // Who says that he has it, and gives little or nothing, has his turn and no more.
        let Some(is_here) = Until::within(until.as_ref(), coming).await else { return Ok(Tried::GoesOn) };
        if !is_here {
            return Ok(Tried::InVain);
        }
        if until.as_ref().is_some_and(Until::is_over) {
            return Ok(Tried::GoesOn);
        }
    }
    // Before it is at its place it is missing to whoever looks, who would have all of it come again.
    fetch.until_placed().await;
    Ok(Tried::Done)
}

/// Fetches the files that are wanted one by one, a few at once, and forgets what was said of files that are here.
async fn keep_wanted(peer: &Peer, fetcher: &Fetcher) {
    let wishes = fetcher.wishes();
    let mut changed = wishes.0.changed.subscribe();
    let few = Arc::new(Semaphore::new(AT_ONCE));
    let (mut under_way, mut tasks) = (HashSet::new(), JoinSet::new());
    loop {
        changed.borrow_and_update();
        let is_here = |file: &Wished| peer.store.blobs().is_some_and(|blobs| blobs.len_of(&file.hash).is_some());
        let (here, missing): (Vec<_>, Vec<_>) = wishes.files().into_iter().partition(|(file, _)| is_here(file));
        let is_over = |(file, _): &(Wished, Wish)| !under_way.contains(&file.hash);
        let (wanted, other): (Vec<_>, Vec<_>) = here.into_iter().filter(is_over).partition(|(_, wish)| *wish == Wish::Wanted);
        let [wanted, other] = [wanted, other].map(|files| files.into_iter().map(|(file, _)| file).collect::<Vec<Wished>>());
        wishes.have_come(&wanted);
        let here = [wanted, other].concat();
        if !here.is_empty()
            && let Err(error) = wishes.wish(&here, None)
        {
            tracing::warn!(%error, "files that are here are still said to be wanted");
        }
        for (file, _) in missing.into_iter().filter(|(_, wish)| *wish == Wish::Wanted) {
            if under_way.insert(file.hash) {
                let (peer, fetcher, few) = (peer.clone(), fetcher.clone(), Arc::clone(&few));
                tasks.spawn(async move {
                    fetch_wanted(&peer, &fetcher, &file, &few).await;
                    file.hash
                });
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = changed.changed() => {}
            Some(done) = tasks.join_next() => {
                if let Ok(hash) = done {
                    under_way.remove(&hash);
                }
            }
        }
    }
}

/// Fetches a file in its turn. If nothing comes of it, that takes a while longer, so that it is not tried all the time.
async fn fetch_wanted(peer: &Peer, fetcher: &Fetcher, file: &Wished, few: &Semaphore) {
    let wishes = fetcher.wishes();
    let mut changed = wishes.0.changed.subscribe();
    let turn = few.acquire().await;
    changed.borrow_and_update();
    // It may have been paused while it waited.
    if wishes.wish_of(&file.hash) != Some(Wish::Wanted) {
        return;
    }
    let tried = fetch_one(peer, fetcher, file).await;
    wishes.say_problem(&file.hash, tried.as_ref().err().map(ToString::to_string));
    let is_here = tried.unwrap_or_else(|error| {
        tracing::warn!(path = %file.path, %error, "a file was not fetched");
        false
    });
    drop(turn);
    if !is_here {
        let _ = tokio::time::timeout(AGAIN_AFTER, changed.changed()).await;
    }
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

    fn wished(number: u64) -> Wished {
        let hash = BlobHash::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
        Wished { hash, space: pin("/").space, path: pin(&format!("/{number}")).path, len: number }
    }

    #[test]
    fn what_was_said_of_single_files_and_their_speed_outlives_a_restart() {
        let home = tempfile::tempdir().expect("a folder");
        let wishes = Wishes::open(home.path());
        let said = |wishes: &Wishes| {
            let mut said: Vec<_> = wishes.files().into_iter().map(|(file, wish)| (file.len, wish)).collect();
            said.sort_by_key(|(number, _)| *number);
            said
        };
        wishes.wish(&[wished(1), wished(2)], Some(Wish::Paused)).expect("writes").expect("few");
        wishes.wish(&[wished(2)], Some(Wish::Wanted)).expect("writes").expect("few");
        wishes.wish(&[wished(3)], Some(Wish::Cancelled)).expect("writes").expect("few");
        wishes.limit(Speeds { up: Some(100_000), down: None }).expect("writes");
        let wishes = Wishes::open(home.path());
        assert_eq!(said(&wishes), [(1, Wish::Paused), (2, Wish::Wanted), (3, Wish::Cancelled)]);
        assert_eq!([1, 2, 3, 4].map(|number| wishes.is_stopped(&wished(number).hash)), [true, false, true, false]);
        assert_eq!(wishes.limits(), Speeds { up: Some(100_000), down: None });
        wishes.wish(&[wished(1), wished(3)], None).expect("writes").expect("few");
        assert_eq!(said(&Wishes::open(home.path())), [(2, Wish::Wanted)]);
        // Too many are refused together, and nothing is said of any.
        let many: Vec<Wished> = (10..10 + FILES_MAX as u64).map(wished).collect();
        assert_eq!(wishes.wish(&many, Some(Wish::Paused)).expect("reads"), None);
        assert_eq!(said(&wishes), [(2, Wish::Wanted)]);
        // Files of a release that knew less are read.
        std::fs::write(home.path().join("files.json"), r#"{"pins": {}, "kept_back": []}"#).expect("writes");
        assert_eq!((Wishes::open(home.path()).files(), Wishes::open(home.path()).limits()), (vec![], Speeds::default()));
    }

    #[test]
    fn what_cannot_be_read_hands_nothing_on_and_is_not_written_over() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join("files.json");
        let wishes = Wishes::open(home.path());
        let other = PublicKey::from_bytes([2; 32]);
        wishes.hand_on(&other, false).expect("writes");
        wishes.place(HashSet::new());
        assert!(wishes.problem().is_none() && wishes.are_known());
        let whole = std::fs::read(&file).expect("it is there");
        // It was cut short, it is of a release that knows more, and it is not even a file.
        let later = format!(r#"{{"files": {{"{}": {{"space": "x", "path": "/", "len": 1, "wish": "later"}}}}}}"#, wished(1).hash);
        for bytes in [&whole[..whole.len() / 2], later.as_bytes(), b""] {
            std::fs::write(&file, bytes).expect("writes");
            let wishes = Wishes::open(home.path());
            wishes.place(HashSet::new());
            assert!(!wishes.hands_on(&other) && !wishes.hands_on(&pin("/").space), "which ones are kept back is not known");
            assert!(!wishes.are_known() && wishes.problem().is_some_and(|problem| problem.contains("files.json")));
            assert!(wishes.hand_on(&other, true).is_err() && wishes.pin(&pin("/"), true).is_err());
            assert_eq!(std::fs::read(&file).expect("it is there"), bytes);
        }
        std::fs::remove_file(&file).expect("it is there");
        std::fs::create_dir(&file).expect("room");
        assert!(!Wishes::open(home.path()).hands_on(&other));
        std::fs::remove_dir(&file).expect("it is there");
        std::fs::write(&file, whole).expect("writes");
        let wishes = Wishes::open(home.path());
        assert!(!wishes.hands_on(&other) && wishes.hands_on(&pin("/").space), "mended");
    }

    #[test]
    fn what_was_cancelled_is_so_for_a_moment_unless_it_is_wanted_after_all() {
        let home = tempfile::tempdir().expect("a folder");
        let wishes = Wishes::open(home.path());
        wishes.cancelled(&[wished(1), wished(2)], true);
        wishes.cancelled(&[wished(2)], false);
        assert_eq!([1, 2, 3].map(|number| wishes.was_cancelled(&wished(number).hash)), [true, false, false]);
    }

    #[test]
    fn what_is_held_for_a_community_stays_until_it_is_placed_elsewhere() {
        let home = tempfile::tempdir().expect("a folder");
        let lock = timebus_store::store::lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &timebus_store::store::Config::default(), 1, &mut |_| {}).expect("a new store");
        let wishes = Wishes::open(home.path());
        let (held, other) = (BlobHash::from_bytes([1; 32]), BlobHash::from_bytes([2; 32]));
        let stays = |hash: &BlobHash| wishes.stays(&mut store.places(&store.snapshot()), hash).expect("reads");
        wishes.place(HashSet::from([held]));
        assert!(stays(&held) && !stays(&other));
        wishes.place(HashSet::new());
        assert!(!stays(&held));
    }

    #[test]
    fn what_is_said_of_a_length_is_tried_what_the_owner_says_first_and_of_nobody_else_all() {
        let key = |number: u8| PublicKey::from_bytes([number; 32]);
        let said = |places: &[(u8, u64)]| {
            let place = |(author, len): &(u8, u64)| BlobPlace {
                space: timebus_store::pipeline::Space::new(key(1), 1),
                timeline: timebus_store::ids::TimelineId([1; 32]),
                path: pin("/film").path,
                author: key(*author),
                len: *len,
                is_visible: true,
            };
            super::said(places.iter().map(place).collect(), |author| *author == key(1)).iter().map(|said| said.len).collect::<Vec<_>>()
        };
        assert_eq!(said(&[(9, 5), (8, 5)]), [5], "each once");
        assert_eq!(said(&[(9, 5), (1, 7), (8, 6)]), [7, 5, 6]);
        let many: Vec<(u8, u64)> = (0..100).map(|len| (9, len)).chain([(8, 1000), (7, 1001)]).collect();
        assert_eq!(said(&many), [0, 1000, 1001, 1, 2, 3, 4, 5], "who says much does not keep out what others say");
    }

    #[test]
    fn one_pin_does_not_keep_the_others_waiting() {
        let file = |number: u64| (Which { space: pin("/").space, hash: wished(number).hash, len: number }, wished(number).path);
        let missing = BTreeMap::from([(pin("/a"), vec![file(1), file(2), file(3)]), (pin("/b"), vec![file(4)])]);
        assert_eq!(in_turn(&missing).iter().map(|(which, _)| which.len).collect::<Vec<_>>(), [1, 4, 2, 3]);
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
