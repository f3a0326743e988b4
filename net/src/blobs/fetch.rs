//! Blobs between peers: drives [`super::exchange`] with real links, the disk and the clock.
//!
//! One task owns the exchange. What takes time (looking whether somebody may have a blob, reading, checking and writing
//! pieces) runs beside it. Each link has a task that sends; pieces wait there until frames of `sync` have gone.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use timebus_identity::PublicKey;
use timebus_store::blobs::partial::{PIECE_BYTES, PIECES_MAX, Partial, PieceError, pieces_of};
use timebus_store::blobs::{BlobHash, Blobs, Damage, Lease, SaveError};
use timebus_store::ids::TimelineId;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::cache::Uses;
use super::exchange::{Exchange, Input, LinkId, Look, Output};
use super::frame::{BlobFrame, TYPES};
use super::given::{Given, Speed};
use super::named::belongs;
use super::open::{Holding, OPEN_FOR, OpenFiles};
use super::pace::Speeds;
use super::pieces::Pieces;
use super::shows::Shows;
use super::wishes::{Wish, Wishes};
use crate::link::{LinkSender, SEND_BYTES_MAX};
use crate::network::Asker;
use crate::node::Event;
use crate::peer::lock;
use crate::sync::Remote;

mod showing;
mod status;

use showing::Waiting;
pub(crate) use status::{Came, Status, named};

/// How long a file that came whole may take to be at its place.
const PLACE_MAX: Duration = Duration::from_secs(30);
/// Frames that wait for the exchange; links with more to say wait too.
const FRAMES_MAX: usize = 256;
/// Frames that wait for one link before it is given up: it does not read.
const LINK_FRAMES_MAX: usize = 8192;
/// How often it is looked for more peers that have a blob.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// From this size on, peers that others named are called beside those that there are links to.
const GATHER_BYTES: u64 = 4 * 1024 * 1024;
/// How often it is looked whether rights changed, so that who may have something no longer gets no more of it.
const RIGHTS_EVERY: Duration = Duration::from_secs(5);
/// The same where nothing was stated, since rights end by time.
const ENDED_EVERY: Duration = Duration::from_secs(60);
/// Pieces that are read for others at once: each may have a file open that is not kept.
const LOADS_MAX: usize = 16;
/// Places that name one blob and for whose sake it is looked for at once.
const PLACES_MAX: usize = 16;
/// How long what is fetched has to show its length, when somebody says that it is another one, and how often it is looked.
const SHOW_MAX: Duration = Duration::from_secs(10);
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// How long it is waited until those who read a file that was cancelled let go of it, and how often it is looked.
const RELEASE_MAX: Duration = Duration::from_secs(5);
const RELEASE_EVERY: Duration = Duration::from_millis(50);
/// Files that are told of after they came.
const CAME_MAX: usize = 50;

/// Whether a frame of a link is about blobs.
pub(crate) fn is_frame(frame: &[u8]) -> bool {
    frame.first().is_some_and(|kind| TYPES.contains(kind))
}

/// Gets blobs from other peers, and gives them to others. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    frames: mpsc::Sender<(LinkId, Bytes)>,
    control: mpsc::UnboundedSender<Control>,
    settled: Arc<Notify>,
    wishes: Wishes,
    uses: Arc<Uses>,
    given: Arc<Given>,
    asker: Asker,
}

enum Control {
    Up(LinkId, LinkSender),
    Down(LinkId),
    Fetch {
        /// Where it is named; the first is the one for which it is begun.
        places: Vec<(PublicKey, TimelineId)>,
        partial: Arc<Partial>,
        /// Whether a part of it is here under another length.
        is_disputed: bool,
        /// Answered with `None` while it is not known whether the blob has another length.
        reply: oneshot::Sender<Option<Fetch>>,
    },
    Reads {
        hash: BlobHash,
        id: u64,
        pieces: Range<u32>,
        is_urgent: bool,
    },
    Dropped {
        hash: BlobHash,
        id: u64,
    },
    Lost {
        hash: BlobHash,
        piece: u32,
    },
    Sources {
        hash: BlobHash,
        space: PublicKey,
        links: Vec<(LinkId, String)>,
    },
    Input(Input),
    Failed(BlobHash, String),
    Limits(Speeds),
    Show {
        link: LinkId,
        space: PublicKey,
        blob: (BlobHash, u64),
        piece: u32,
        waiting: Waiting,
    },
    Stop {
        hashes: Vec<BlobHash>,
        why: Stuck,
        reply: oneshot::Sender<()>,
    },
    /// Who is on the other side of a link: what he is called, and a key of his device.
    Known {
        link: LinkId,
        name: String,
        key: Option<PublicKey>,
    },
    Status(oneshot::Sender<(Vec<Status>, Vec<Came>, u64)>),
}

/// How far a fetch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Counts pieces that came.
    pub(crate) pieces: u32,
    /// Who has something of it.
    pub(crate) sources: Vec<String>,
    /// Peers that were asked.
    pub(crate) asked: usize,
    /// Those of them who said what they have.
    answered: usize,
    /// Why it does not go on here.
    pub(crate) problem: Option<Stuck>,
}

impl Progress {
    /// Whether all who were asked have nothing.
    fn is_in_vain(&self) -> bool {
        self.sources.is_empty() && self.asked > 0 && self.answered == self.asked
    }
}

/// Why a fetch does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// The owner paused it.
    Paused,
    /// The owner does not want it.
    Cancelled,
    /// It has another length than was said, or so it seems.
    Length(&'static str),
    /// It cannot be kept.
    Failed(String),
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Paused => f.write_str("it is paused"),
            Self::Cancelled => f.write_str("it was cancelled"),
            Self::Length(why) => f.write_str(why),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// How long those have to wait who fetch something at the speed that the owner set: nobody is given up for that.
#[derive(Debug, Default)]
struct Turn {
    /// Bytes a second; none is no limit.
    bytes_per_s: AtomicU64,
    /// Blobs that take turns.
    blobs: AtomicU64,
}

impl Turn {
    /// How long it takes until each had its turn.
    fn wait(&self) -> Duration {
        let waiting = self.blobs.load(Ordering::Relaxed).saturating_mul(1000 * PIECE_BYTES);
        Duration::from_millis(waiting.checked_div(self.bytes_per_s.load(Ordering::Relaxed)).unwrap_or(0))
    }
}

/// A blob that is fetched for somebody; it is for as long as he holds this.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) partial: Arc<Partial>,
    pub(crate) progress: watch::Receiver<Progress>,
    id: u64,
    control: mpsc::UnboundedSender<Control>,
    turn: Arc<Turn>,
}

impl Fetch {
    /// Waits until what came is a file of its own. That takes as long as the disk does, or a piece was lost and comes again.
    pub(crate) async fn until_placed(&self) {
        let deadline = tokio::time::Instant::now() + PLACE_MAX;
        while !self.partial.is_placed() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Says which pieces are read next, and whether these are all that is wanted.
    pub(crate) fn reads(&self, pieces: Range<u32>, is_urgent: bool) {
        let _ = self.control.send(Control::Reads { hash: self.partial.hash(), id: self.id, pieces, is_urgent });
    }

    /// A piece that is here, checked. If it is damaged it comes again.
    pub(crate) async fn read(&mut self, piece: u32, patience: Duration) -> Option<Vec<u8>> {
        for _ in 0..2 {
            if !self.piece(piece, patience).await {
                return None;
            }
            let partial = Arc::clone(&self.partial);
            let read = tokio::task::spawn_blocking(move || partial.bytes(piece).inspect_err(|damage| lose(&partial, piece, damage))).await.ok()?;
            match read {
                Ok(bytes) => return Some(bytes),
                Err(damage) => tracing::error!(hash = %self.partial.hash(), %damage, "a part of a file is damaged, and comes again"),
            }
            if self.partial.is_placed() {
                // It comes again as a file that is not whole, for who asks anew.
                return None;
            }
            let _ = self.control.send(Control::Lost { hash: self.partial.hash(), piece });
        }
        None
    }

    /// [`Fetch::piece`], which waits for nobody once all who were asked have nothing.
    pub(crate) async fn piece_of_somebody(&mut self, piece: u32, patience: Duration) -> bool {
        let mut told = self.progress.clone();
        let in_vain = async {
            if told.wait_for(Progress::is_in_vain).await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            is_here = self.piece(piece, patience) => is_here,
            () = in_vain => false,
        }
    }

    /// Waits for a piece; `false` if nothing came for so long. That others come, say that they have it, and go, is nothing that came. But
    /// where something came before, and then nobody was there who has the rest, who comes with it has as much time again, once.
    pub(crate) async fn piece(&mut self, piece: u32, patience: Duration) -> bool {
        let (mut came, mut since) = (self.progress.borrow().pieces, Instant::now());
        let (mut was_there, mut is_back) = (true, false);
        loop {
            let (pieces, is_there, is_stuck) = {
                let progress = self.progress.borrow_and_update();
                (progress.pieces, !progress.sources.is_empty(), progress.problem.is_some())
            };
            if self.partial.has(piece) {
                return true;
            }
            if pieces != came {
                (came, since, is_back) = (pieces, Instant::now(), false);
            } else if is_there && !was_there && came > 0 && !is_back {
                (since, is_back) = (Instant::now(), true);
            }
            was_there = is_there;
            let left = patience.saturating_add(self.turn.wait()).saturating_sub(since.elapsed());
            if is_stuck || left.is_zero() || !matches!(tokio::time::timeout(left, self.progress.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let _ = self.control.send(Control::Dropped { hash: self.partial.hash(), id: self.id });
    }
}

impl Fetcher {
    /// Begins with a store and the node that knows who is there.
    pub(crate) fn start(store: Store, asker: Asker) -> Self {
        let (frames, frame_queue) = mpsc::channel(FRAMES_MAX);
        let (control, control_queue) = mpsc::unbounded_channel();
        let settled = Arc::new(Notify::new());
        let (wishes, uses) = (Wishes::open(store.home()), Arc::default());
        let given = Arc::new(Given::open(store.home(), crate::who::now_ms()));
        let seed = u64::from_le_bytes(timebus_identity::random_bytes());
        let actor = Actor {
            exchange: Exchange::new(seed),
            store,
            asker: asker.clone(),
            control: control.clone(),
            links: BTreeMap::new(),
            names: BTreeMap::new(),
            keys: BTreeMap::new(),
            fetches: HashMap::new(),
            open: OpenFiles::default(),
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            next_id: 1,
            began: Instant::now(),
            settled: Arc::clone(&settled),
            wishes: wishes.clone(),
            uses: Arc::clone(&uses),
            given: Arc::clone(&given),
            giving: HashMap::new(),
            speed: Speed::new(),
            came: VecDeque::new(),
            turn: Arc::default(),
            paused: HashMap::new(),
            leaving: Arc::default(),
            shows: Shows::default(),
            shown: BTreeMap::new(),
        };
        let _ = actor.control.send(Control::Limits(wishes.limits()));
        tokio::spawn(actor.run(frame_queue, control_queue));
        Self { frames, control, settled, wishes, uses, given, asker }
    }

    /// What the owner wants of the files of others.
    pub(crate) fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// How often others were given files.
    pub(crate) fn uses(&self) -> &Arc<Uses> {
        &self.uses
    }

    /// What others were given.
    pub(crate) fn given(&self) -> &Given {
        &self.given
    }

    /// Writes down what others were given.
    pub(crate) async fn save_given(&self) {
        save_given(&self.given).await;
    }

    /// Waits until nobody wants one of the blobs any more that were fetched.
    pub(crate) async fn settled(&self) {
        self.settled.notified().await;
    }

    /// Who may have what of a space is to be looked at anew.
    pub(crate) fn restate(&self, space: PublicKey) {
        let _ = self.control.send(Control::Input(Input::Restated(Some(space))));
    }

    /// There is a link.
    pub(crate) fn up(&self, link: LinkId, sender: LinkSender) {
        let _ = self.control.send(Control::Up(link, sender));
    }

    /// A link is no more.
    pub(crate) fn down(&self, link: LinkId) {
        let _ = self.control.send(Control::Down(link));
    }

    /// A frame came; waits while there are many.
    pub(crate) async fn frame(&self, link: LinkId, bytes: Bytes) {
        let _ = self.frames.send((link, bytes)).await;
    }

    /// Begins to get a blob, or joins those who wait for it; `None` when the peer stops.
    pub(crate) async fn fetch(&self, store: &Store, space: Space, hash: BlobHash, len: u64) -> Result<Option<Fetch>, SaveError> {
        let Some(blobs) = store.blobs().cloned() else { return Ok(None) };
        let timeline = store.timeline(space);
        let (of, asker) = (store.clone(), self.asker.clone());
        // Those with whom it is placed may not be connected.
        tokio::task::spawn_blocking(move || {
            let nodes = crate::community::holding::who_has(&of, space, &hash, crate::who::now_ms()).unwrap_or_default();
            if !nodes.is_empty() {
                asker.tell(Event::Seek { nodes });
            }
        });
        let of = store.clone();
        let partial = tokio::task::spawn_blocking(move || {
            let mut places = vec![(space.key, timeline)];
            places.extend(elsewhere(&of, (space.key, timeline), &hash).map_err(|error| SaveError::Io(std::io::Error::other(error)))?);
            let partial = blobs.fetch(hash, len, &timeline)?;
            Ok::<_, SaveError>((partial, blobs.has_other_length(&hash, len), places))
        });
        let (partial, is_disputed, places) = partial.await.map_err(|error| SaveError::Io(std::io::Error::other(error)))??;
        let deadline = Instant::now() + SHOW_MAX + SHOW_MAX / 2;
        loop {
            let (reply, answer) = oneshot::channel();
            let _ = self.control.send(Control::Fetch { places: places.clone(), partial: Arc::clone(&partial), is_disputed, reply });
            match answer.await {
                Ok(None) if Instant::now() < deadline => tokio::time::sleep(SHOW_EVERY).await,
                answer => return Ok(answer.ok().flatten()),
            }
        }
    }

    /// Whether somebody who asks for a blob here gets it: not what is paused, nor for a moment what was cancelled. After that it
    /// is as if nothing had been said.
    pub(crate) fn may_fetch(&self, hash: &BlobHash) -> Result<(), Stuck> {
        match self.wishes.wish_of(hash) {
            Some(Wish::Paused) => Err(Stuck::Paused),
            Some(Wish::Wanted) => Ok(()),
            _ if self.wishes.was_cancelled(hash) => Err(Stuck::Cancelled),
            _ => Ok(()),
        }
    }

    /// Gives and asks for files so fast from now on.
    pub(crate) fn limit(&self, limits: Speeds) {
        let _ = self.control.send(Control::Limits(limits));
    }

    /// Asks for nothing more of files that the owner paused or cancelled; those who wait for them hear why. What is here of the
    /// ones that were cancelled goes, at the latest when nobody reads it any more.
    pub(crate) async fn stop(&self, hashes: Vec<BlobHash>, why: Stuck) {
        let (reply, done) = oneshot::channel();
        let _ = self.control.send(Control::Stop { hashes, why, reply });
        let _ = done.await;
    }

    /// All blobs that are got or given now, those that came last, and how many bytes a second are given.
    pub(crate) async fn status(&self) -> (Vec<Status>, Vec<Came>, u64) {
        let (reply, answer) = oneshot::channel();
        let _ = self.control.send(Control::Status(reply));
        answer.await.unwrap_or_default()
    }
}

/// A link's sending side.
struct Line {
    frames: mpsc::Sender<Bytes>,
    _task: JoinSet<()>,
}

/// What somebody waits for.
struct Fetching {
    partial: Arc<Partial>,
    progress: watch::Sender<Progress>,
    /// Who waits, where he reads, and whether he wants nothing else.
    handles: BTreeMap<u64, Option<(Range<u32>, bool)>>,
    bytes_from: BTreeMap<LinkId, u64>,
    /// Since when it is asked for, and when something of it came last.
    began: Instant,
    last: Instant,
    /// Links over which it was asked for.
    asked: BTreeSet<LinkId>,
    /// Those of them over which something was said of it.
    answered: BTreeSet<LinkId>,
    speed: Speed,
    /// Since when somebody says that it has another length.
    disputed: Option<Instant>,
    /// Where it is named, as those say who wait for it: for the sake of each it is looked for who has it. The first is the one for which
    /// it was begun.
    places: Vec<(PublicKey, TimelineId)>,
    /// Whether what comes over a link for the sake of one of them is for those who have that timeline.
    proven: Proven,
    looking: JoinSet<()>,
}

type Proven = Arc<Mutex<BTreeMap<(LinkId, TimelineId), bool>>>;

/// What others are given of a blob.
struct Giving {
    speed: Speed,
    to: BTreeMap<LinkId, u64>,
    /// How much those had of it who are gone.
    had: BTreeMap<LinkId, u64>,
    /// When something of it was given last.
    last: Instant,
}

impl Giving {
    fn new() -> Self {
        Self { speed: Speed::new(), to: BTreeMap::new(), had: BTreeMap::new(), last: Instant::now() }
    }
}

impl Fetching {
    /// The timelines whose people a piece comes from that somebody sends for the sake of these spaces. It is not known where it
    /// could be one or another of one space.
    fn whose(&self, given_for: &[PublicKey]) -> Vec<(PublicKey, TimelineId)> {
        let of = |space: &PublicKey| {
            let mut places = self.places.iter().filter(|(of, _)| of == space);
            let place = places.next()?;
            places.next().is_none().then_some(*place)
        };
        given_for.iter().filter_map(of).collect()
    }

    /// Where all read.
    fn reads(&self) -> Input {
        let reads = || self.handles.values().flatten();
        Input::Reads(self.partial.hash(), reads().map(|(pieces, _)| pieces.clone()).collect(), reads().any(|(_, is_urgent)| *is_urgent))
    }
}

struct Actor {
    exchange: Exchange,
    store: Store,
    asker: Asker,
    control: mpsc::UnboundedSender<Control>,
    links: BTreeMap<LinkId, Line>,
    names: BTreeMap<LinkId, String>,
    keys: BTreeMap<LinkId, PublicKey>,
    fetches: HashMap<BlobHash, Fetching>,
    open: OpenFiles,
    loads: Arc<Semaphore>,
    next_id: u64,
    began: Instant,
    settled: Arc<Notify>,
    wishes: Wishes,
    uses: Arc<Uses>,
    given: Arc<Given>,
    /// What is given of each blob, and of all together.
    giving: HashMap<BlobHash, Giving>,
    speed: Speed,
    /// Those that came last, the latest first.
    came: VecDeque<Came>,
    turn: Arc<Turn>,
    /// What is here of files that are paused is not removed as something that nobody goes on with.
    paused: HashMap<BlobHash, Lease>,
    /// Files of which nothing is to stay here.
    leaving: Arc<Mutex<BTreeSet<BlobHash>>>,
    /// Who was asked to show a piece, and who waits for that.
    shows: Shows,
    shown: BTreeMap<(LinkId, BlobHash), Waiting>,
}

impl Actor {
    async fn run(mut self, mut frames: mpsc::Receiver<(LinkId, Bytes)>, mut control: mpsc::UnboundedReceiver<Control>) {
        self.hold_paused();
        let far = Duration::from_secs(3600);
        let mut tidy = tokio::time::interval(OPEN_FOR);
        let mut rights = tokio::time::interval(RIGHTS_EVERY);
        let mut restated = self.store.restatements();
        restated.borrow_and_update();
        let mut looked = Instant::now();
        let mut timer = Instant::now() + far;
        loop {
            tokio::select! {
                biased;
                // First of all: who says something all the time does not hold up what is due.
                () = tokio::time::sleep_until(timer) => self.input(Input::Timer),
                control = control.recv() => match control {
                    Some(control) => self.control(control),
                    None => return,
                },
                frame = frames.recv() => match frame {
                    Some((link, bytes)) => self.frame(link, &bytes),
                    // Only its handles keep it alive.
                    None => return,
                },
                _ = rights.tick() => {
                    if restated.has_changed().is_ok_and(|has| has) {
                        restated.borrow_and_update();
                        self.input(Input::Restated(None));
                    } else if looked.elapsed() >= ENDED_EVERY {
                        looked = Instant::now();
                        self.input(Input::Ended);
                    }
                }
                _ = tidy.tick() => self.tidy(),
            }
            let now_ms = self.now_ms();
            timer = self.exchange.next_ms(now_ms).map_or_else(|| Instant::now() + far, |at_ms| self.began + Duration::from_millis(at_ms));
        }
    }

    fn tidy(&mut self) {
        self.open.tidy();
        let talked_about: BTreeSet<BlobHash> = self.exchange.transfers().map(|transfer| transfer.hash).collect();
        self.giving.retain(|hash, _| talked_about.contains(hash));
        // From whom something came, or to whom it went, is told also when he is gone.
        let fetched = self.fetches.values().flat_map(|fetching| fetching.bytes_from.keys());
        let told: BTreeSet<LinkId> = fetched.chain(self.giving.values().flat_map(|giving| giving.to.keys())).copied().collect();
        let links = &self.links;
        self.names.retain(|link, _| links.contains_key(link) || told.contains(link));
        for ((link, hash), _) in self.shown.extract_if(.., |_, waiting| waiting.reply.is_closed()) {
            self.shows.forget(link, &hash);
        }
        self.hold_paused();
        let given = Arc::clone(&self.given);
        tokio::spawn(async move { save_given(&given).await });
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn frame(&mut self, link: LinkId, bytes: &Bytes) {
        match BlobFrame::decode(bytes) {
            Ok(frame) => {
                if !self.hear(link, &frame) {
                    return;
                }
                let had = if let BlobFrame::Have { hash, .. } = &frame { Some(*hash) } else { None };
                self.input(Input::Frame(link, frame));
                // Who waits is told at once that somebody has it, and of all others when it is looked for more.
                let Some(fetching) = had.and_then(|hash| self.fetches.get_mut(&hash)) else { return };
                if fetching.asked.contains(&link) {
                    fetching.answered.insert(link);
                }
                if fetching.progress.borrow().sources.is_empty() {
                    let hash = fetching.partial.hash();
                    self.tell_sources(&hash);
                }
            }
            Err(_) => self.blame(link, 64, "a frame that is none"),
        }
    }

    fn blame(&self, link: LinkId, points: u32, why: &'static str) {
        self.asker.tell(Event::Blame { link, points, why });
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Up(link, sender) => {
                let (frames, queue) = mpsc::channel(LINK_FRAMES_MAX);
                let mut task = JoinSet::new();
                task.spawn(send(sender, queue));
                self.links.insert(link, Line { frames, _task: task });
            }
            Control::Down(link) => {
                self.links.remove(&link);
                self.keys.remove(&link);
                for ((_, hash), _) in self.shown.extract_if(.., |(of, _), _| *of == link) {
                    self.shows.forget(link, &hash);
                }
                for (hash, giving) in self.giving.iter_mut().filter(|(_, giving)| giving.to.contains_key(&link)) {
                    giving.had.extend(self.exchange.had_by(hash, link).map(|bytes| (link, bytes)));
                }
                self.input(Input::Gone(link));
            }
            Control::Fetch { places, partial, is_disputed, reply } => {
                let (hash, is_new) = (partial.hash(), !self.fetches.contains_key(&partial.hash()));
                self.fetch(&places, partial, reply);
                // Which of them is right shows by the last piece.
                if is_disputed && is_new && self.fetches.contains_key(&hash) {
                    self.input(Input::Disputed(hash));
                }
            }
            Control::Reads { hash, id, pieces, is_urgent } => {
                if let Some(fetching) = self.fetches.get_mut(&hash) {
                    fetching.handles.insert(id, Some((pieces, is_urgent)));
                    let reads = fetching.reads();
                    self.input(reads);
                }
            }
            Control::Dropped { hash, id } => {
                let Some(fetching) = self.fetches.get_mut(&hash) else { return };
                fetching.handles.remove(&id);
                if fetching.handles.is_empty() {
                    self.end(hash, None);
                    self.input(Input::Enough(hash));
                } else if let Some(fetching) = self.fetches.get(&hash) {
                    let reads = fetching.reads();
                    self.input(reads);
                }
            }
            Control::Lost { hash, piece } => self.input(Input::Lost(hash, piece)),
            Control::Sources { hash, space, links } => {
                let ids: Vec<LinkId> = links.iter().map(|(link, _)| *link).collect();
                self.fetches.get_mut(&hash).into_iter().for_each(|fetching| fetching.asked.extend(&ids));
                self.names.extend(links);
                self.input(Input::Sources(hash, space, ids));
                self.tell_sources(&hash);
            }
            Control::Input(input) => {
                if let Input::Kept { link, good: Some(true), .. } = &input {
                    self.gives(*link);
                }
                if let Input::Kept { link, hash, piece, good: Some(true), .. } = &input
                    && let Some(fetching) = self.fetches.get_mut(hash)
                {
                    let bytes = fetching.partial.len().saturating_sub(u64::from(*piece) * PIECE_BYTES).min(PIECE_BYTES);
                    *fetching.bytes_from.entry(*link).or_default() += bytes;
                    fetching.last = Instant::now();
                    fetching.speed.count(bytes);
                }
                if let Input::Loaded { link, hash, id, piece, slice: Some(_) } = &input
                    && !self.is_shown(*link, hash, *id, *piece)
                {
                    let bytes = self.exchange.piece_bytes(hash, *piece);
                    self.given.count(*hash, self.keys.get(link).copied(), bytes);
                    self.speed.count(bytes);
                    let giving = self.giving.entry(*hash).or_insert_with(Giving::new);
                    giving.last = Instant::now();
                    giving.speed.count(bytes);
                    *giving.to.entry(*link).or_default() += bytes;
                }
                self.input(input);
            }
            Control::Failed(hash, why) => {
                if let Some(fetching) = self.fetches.get(&hash) {
                    fetching.progress.send_modify(|progress| progress.problem = Some(Stuck::Failed(why)));
                }
            }
            Control::Limits(limits) => {
                self.turn.bytes_per_s.store(limits.down.unwrap_or(0), Ordering::Relaxed);
                self.input(Input::Limits(limits));
            }
            Control::Show { link, space, blob, piece, waiting } => {
                if self.links.contains_key(&link) {
                    let frame = self.shows.ask(link, space, blob, piece);
                    self.shown.insert((link, blob.0), waiting);
                    self.act(Output::Send(link, frame));
                }
            }
            Control::Stop { hashes, why, reply } => self.stop(&hashes, &why, reply),
            Control::Known { link, name, key } => {
                if self.links.contains_key(&link) {
                    self.names.insert(link, name);
                    self.keys.extend(key.map(|key| (link, key)));
                }
            }
            Control::Status(reply) => {
                let _ = reply.send((self.status(), self.came.iter().cloned().collect(), self.speed.now()));
            }
        }
    }

    /// Nothing more comes of a blob for those who wait for it, for a reason if it is none of theirs.
    /// Answers with what is still to be done with the disk.
    fn end(&mut self, hash: BlobHash, why: Option<&Stuck>) -> Option<JoinHandle<()>> {
        let fetching = self.fetches.remove(&hash)?;
        self.count_turns();
        if why.is_some() {
            fetching.progress.send_modify(|progress| progress.problem = why.cloned());
        }
        if fetching.partial.is_placed() && !fetching.bytes_from.is_empty() {
            let space = fetching.places.first().map(|(space, _)| space.to_string()).unwrap_or_default();
            let took = fetching.last.duration_since(fetching.began);
            self.came.push_front(Came {
                hash: hash.to_string(),
                space,
                bytes_total: fetching.partial.len(),
                sources: self.by_name(&fetching.bytes_from),
                took_ms: took.as_millis() as u64,
                at_ms: crate::who::now_ms().saturating_sub(fetching.last.elapsed().as_millis() as u64),
            });
            self.came.truncate(CAME_MAX);
        }
        // What has come stays, for the next time and for others.
        let (partial, settled) = (fetching.partial, Arc::clone(&self.settled));
        self.open.remove(&hash);
        Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = partial.keep() {
                tracing::warn!(%error, "a part of a file may have to be fetched again");
            }
            drop(partial);
            settled.notify_one();
        }))
    }

    fn stop(&mut self, hashes: &[BlobHash], why: &Stuck, reply: oneshot::Sender<()>) {
        let mut ending = Vec::new();
        for hash in hashes {
            ending.extend(self.end(*hash, Some(why)));
            let input = if *why == Stuck::Cancelled { Input::Forget(*hash) } else { Input::Enough(*hash) };
            self.input(input);
        }
        self.hold_paused();
        let Some(blobs) = self.store.blobs().filter(|_| *why == Stuck::Cancelled) else {
            tokio::spawn(async move {
                for end in ending {
                    let _ = end.await;
                }
                let _ = reply.send(());
            });
            return;
        };
        lock(&self.leaving).extend(hashes);
        tokio::spawn(remove_parts(blobs.clone(), self.open.clone(), Arc::clone(&self.leaving), reply));
    }

    /// Holds what is here of files that are paused, and of no others.
    fn hold_paused(&mut self) {
        let Some(blobs) = self.store.blobs() else { return };
        let files = self.wishes.files().into_iter().filter(|(_, wish)| *wish == Wish::Paused);
        let mut held = std::mem::take(&mut self.paused);
        self.paused = files.map(|(file, _)| (file.hash, held.remove(&file.hash).unwrap_or_else(|| blobs.lease(file.hash)))).collect();
    }

    fn count_turns(&self) {
        self.turn.blobs.store(self.fetches.len() as u64, Ordering::Relaxed);
    }

    fn fetch(&mut self, places: &[(PublicKey, TimelineId)], partial: Arc<Partial>, reply: oneshot::Sender<Option<Fetch>>) {
        let Some((first, _)) = places.first().copied() else { return };
        let hash = partial.hash();
        let id = self.next_id;
        self.next_id += 1;
        // Said while the file was being opened.
        if self.wishes.wish_of(&hash) == Some(Wish::Paused) {
            let _ = reply.send(Some(self.stuck(partial, id, Stuck::Paused)));
            return;
        }
        self.paused.remove(&hash);
        lock(&self.leaving).remove(&hash);
        match self.settle_len(hash, partial.len()) {
            Some(true) => {}
            Some(false) => {
                let why = Stuck::Length("a part of it is here, and shows that it has another length");
                let _ = reply.send(Some(self.stuck(partial, id, why)));
                return;
            }
            None => {
                let _ = reply.send(None);
                return;
            }
        }
        let is_new = !self.fetches.contains_key(&hash);
        let fetching = self.fetches.entry(hash).or_insert_with(|| Fetching {
            partial: Arc::clone(&partial),
            progress: watch::Sender::default(),
            handles: BTreeMap::new(),
            bytes_from: BTreeMap::new(),
            began: Instant::now(),
            last: Instant::now(),
            asked: BTreeSet::new(),
            answered: BTreeSet::new(),
            speed: Speed::new(),
            disputed: None,
            places: Vec::new(),
            proven: Arc::default(),
            looking: JoinSet::new(),
        });
        fetching.handles.insert(id, None);
        for (space, timeline) in places.iter().copied() {
            if fetching.places.contains(&(space, timeline)) || fetching.places.len() >= PLACES_MAX {
                continue;
            }
            fetching.places.push((space, timeline));
            let look = look_for_sources(self.asker.clone(), self.control.clone(), space, timeline, hash, partial.len());
            fetching.looking.spawn(look);
        }
        let partial = Arc::clone(&fetching.partial);
        let (progress, control, turn) = (fetching.progress.subscribe(), self.control.clone(), Arc::clone(&self.turn));
        let fetch = Fetch { partial: Arc::clone(&partial), progress, id, control, turn };
        if is_new {
            self.open.keep(hash, Holding::Part(Arc::clone(&partial)));
            let len = partial.len();
            let have = Pieces::from_bytes(&partial.have(), pieces_of(len) as u32);
            self.input(Input::Fetch { space: first, hash, len, have });
        }
        self.count_turns();
        // Who does not wait for the answer any more has dropped the handle with it.
        let _ = reply.send(Some(fetch));
    }

    /// Whether a blob may be fetched that is so long, as somebody says; `None` if that is not known yet. A blob has one length, and who
    /// names another one lies: its last piece never comes. But all others may: what is fetched under another length is asked for the
    /// last one now, and if that does not come in time, or nobody has anything, it yields. What came of it stays.
    fn settle_len(&mut self, hash: BlobHash, len: u64) -> Option<bool> {
        let Some(fetching) = self.fetches.get_mut(&hash).filter(|fetching| fetching.partial.len() != len) else { return Some(true) };
        if fetching.partial.shows_len() || fetching.partial.is_owners() {
            return Some(false);
        }
        let is_new = fetching.disputed.is_none();
        let since = *fetching.disputed.get_or_insert_with(Instant::now);
        if is_new {
            self.input(Input::Disputed(hash));
        }
        let is_empty = || self.fetches.get(&hash).is_some_and(|fetching| fetching.partial.is_bare()) && self.exchange.sources_of(&hash).is_empty();
        if since.elapsed() < SHOW_MAX && !is_empty() {
            return None;
        }
        self.end(hash, Some(&Stuck::Length("another length is said of it as well, and what came does not show this one")));
        self.input(Input::Enough(hash));
        Some(true)
    }

    /// What who wants something gets of which nothing will come.
    fn stuck(&self, partial: Arc<Partial>, id: u64, why: Stuck) -> Fetch {
        let progress = watch::Sender::new(Progress { problem: Some(why), ..Progress::default() }).subscribe();
        Fetch { partial, progress, id, control: self.control.clone(), turn: Arc::clone(&self.turn) }
    }

    fn tell_sources(&self, hash: &BlobHash) {
        let Some(fetching) = self.fetches.get(hash) else { return };
        let (asked, answered) = (fetching.asked.len(), fetching.answered.len());
        let sources: Vec<String> = self.exchange.sources_of(hash).iter().filter_map(|link| self.names.get(link).cloned()).collect();
        fetching.progress.send_if_modified(|progress| {
            let is_other = progress.sources != sources || (progress.asked, progress.answered) != (asked, answered);
            (progress.sources, progress.asked, progress.answered) = (sources, asked, answered);
            is_other
        });
    }

    fn input(&mut self, input: Input) {
        for output in self.exchange.handle(self.now_ms(), input) {
            self.act(output);
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Send(link, frame) => {
                let Some(line) = self.links.get(&link) else { return };
                if line.frames.try_send(frame.encode()).is_err() {
                    self.blame(link, 16, "not reading what it asked for");
                }
            }
            Output::Look(look) => {
                let (asker, store, control, wishes) = (self.asker.clone(), self.store.clone(), self.control.clone(), self.wishes.clone());
                tokio::spawn(async move {
                    let link = look.link;
                    let known = asker.ask(move |node| node.remote(link).zip(node.name_of(link))).await.flatten();
                    let (remote, name) = known.unzip();
                    if let (Some(remote), Some(name)) = (&remote, name) {
                        let own = remote.keys.iter().find(|key| **key == remote.space);
                        let _ = control.send(Control::Known { link, name, key: own.or(remote.keys.first()).copied() });
                    }
                    let have = may_have(remote, &store, &wishes, &look).await;
                    let _ = control.send(Control::Input(Input::Found { look, have }));
                });
            }
            Output::Load { link, hash, id, piece } => {
                let is_shown = self.is_shown(link, &hash, id, piece);
                let (open, store, control) = (self.open.clone(), self.store.clone(), self.control.clone());
                let (uses, loads) = (Arc::clone(&self.uses), Arc::clone(&self.loads));
                tokio::spawn(async move {
                    let _turn = loads.acquire().await;
                    let loading = tokio::task::spawn_blocking(move || {
                        let slice = match load(&open, &store, hash, piece) {
                            Ok(slice) => slice.map(Bytes::from),
                            Err(Later) => {
                                let _ = control.send(Control::Input(Input::Later { link, hash, id, piece }));
                                return;
                            }
                        };
                        if let (false, Some(slice), Some(len)) = (is_shown, &slice, store.blobs().and_then(|blobs| blobs.len_of(&hash))) {
                            uses.give(hash, slice.len(), len);
                        }
                        let _ = control.send(Control::Input(Input::Loaded { link, hash, id, piece, slice }));
                    });
                    let _ = loading.await;
                });
            }
            Output::Keep { link, hash, id, piece, slice } => {
                let Some(fetching) = self.fetches.get(&hash) else { return };
                let (partial, control) = (Arc::clone(&fetching.partial), self.control.clone());
                let whose = fetching.whose(&self.exchange.given_for(&hash, link));
                let (proven, store, asker) = (Arc::clone(&fetching.proven), self.store.clone(), self.asker.clone());
                tokio::task::spawn_blocking(move || {
                    let whose: Vec<TimelineId> =
                        whose.iter().filter(|place| is_proven(&proven, &store, &asker, link, place, &hash)).map(|(_, timeline)| *timeline).collect();
                    let put = match partial.comes_for(&whose) {
                        Ok(()) => partial.put(piece, &slice),
                        Err(error) => Err(PieceError::Save(SaveError::Io(error))),
                    };
                    let good = match put {
                        Ok(_) => Some(true),
                        Err(PieceError::Bad { .. }) => Some(false),
                        Err(error) => {
                            tracing::error!(%hash, %error, "a piece of a file was not kept");
                            let _ = control.send(Control::Failed(hash, error.to_string()));
                            None
                        }
                    };
                    let _ = control.send(Control::Input(Input::Kept { link, hash, id, piece, good }));
                });
            }
            Output::Blame { link, points, why } => self.blame(link, points, why),
            Output::Grown(hash) => {
                if let Some(fetching) = self.fetches.get(&hash) {
                    fetching.progress.send_modify(|progress| progress.pieces += 1);
                }
            }
        }
    }
}

/// Removes what came of blobs that are to leave, as soon as nobody reads it any more. Answers when all of it is gone, or is
/// held for long.
async fn remove_parts(blobs: Blobs, open: OpenFiles, leaving: Arc<Mutex<BTreeSet<BlobHash>>>, reply: oneshot::Sender<()>) {
    let (began, mut reply) = (Instant::now(), Some(reply));
    loop {
        let (blobs, open, all) = (blobs.clone(), open.clone(), Arc::clone(&leaving));
        let removed = tokio::task::spawn_blocking(move || {
            let hashes: Vec<BlobHash> = lock(&all).iter().copied().collect();
            for hash in hashes {
                open.remove(&hash);
                match blobs.remove_fetched(&hash) {
                    Ok(false) => {}
                    Ok(true) => drop(lock(&all).remove(&hash)),
                    Err(error) => {
                        tracing::warn!(%hash, %error, "what is here of a file that was cancelled could not be removed");
                        lock(&all).remove(&hash);
                    }
                }
            }
        });
        if removed.await.is_err() || lock(&leaving).is_empty() {
            return;
        }
        if began.elapsed() > RELEASE_MAX {
            reply.take();
        }
        tokio::time::sleep(if reply.is_some() { RELEASE_EVERY } else { RELEASE_MAX }).await;
    }
}

/// Where else a blob is named that the owner named at a place of his own, as a copy of what others have: whoever has one of those
/// spaces may have it. What somebody else names is got from those who have that place, and from nobody else: else he would learn by it
/// what is here of others.
fn elsewhere(store: &Store, own: (PublicKey, TimelineId), hash: &BlobHash) -> Result<Vec<(PublicKey, TimelineId)>, StorageError> {
    let (mut is_owners, mut others) = (false, Vec::new());
    if own.0 != store.space() {
        return Ok(others);
    }
    store.is_named_where(&store.snapshot(), hash, |place| {
        let at = (place.space.key, place.timeline);
        if at == own {
            is_owners |= store.is_by_owner(&place.author, || true);
        } else if place.is_visible && others.len() + 1 < PLACES_MAX && !others.contains(&at) {
            others.push(at);
        }
        false
    })?;
    Ok(if is_owners { others } else { Vec::new() })
}

/// Says who may have a blob, again and again, as long as it is wanted.
async fn look_for_sources(asker: Asker, control: mpsc::UnboundedSender<Control>, space: PublicKey, timeline: TimelineId, hash: BlobHash, len: u64) {
    let mut looks = 0u32;
    loop {
        if looks.is_multiple_of(60) {
            asker.tell(Event::Visit { space });
        }
        if len >= GATHER_BYTES && looks.is_multiple_of(30) {
            asker.tell(Event::Gather { space });
        }
        looks += 1;
        let Some(links) = asker.ask(move |node| node.links_of(&timeline)).await else { return };
        if control.send(Control::Sources { hash, space, links }).is_err() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn save_given(given: &Arc<Given>) {
    let given = Arc::clone(given);
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || given.save()).await {
        tracing::warn!(%error, "what others were given was not written down");
    }
}

/// Whether what comes of a blob over a link for the sake of a space is for those who have a timeline of it. It is found out once; only
/// where several timelines of the space are here it is asked who is at the other end.
fn is_proven(proven: &Proven, store: &Store, asker: &Asker, link: LinkId, (space, timeline): &(PublicKey, TimelineId), hash: &BlobHash) -> bool {
    if let Some(known) = lock(proven).get(&(link, *timeline)) {
        return *known;
    }
    let is_for = store.timelines_of(space).len() < 2 || {
        let remote = tokio::runtime::Handle::current().block_on(asker.ask(move |node| node.remote(link))).flatten();
        remote.is_some_and(|remote| super::named::is_for(store, &remote, (space, timeline), hash))
    };
    lock(proven).insert((link, *timeline), is_for);
    is_for
}

/// What is here of a blob for the other side of a link, if it may read a timeline that names the blob: maybe nothing yet.
async fn may_have(remote: Option<Remote>, store: &Store, wishes: &Wishes, look: &Look) -> Option<Pieces> {
    let remote = remote?;
    if look.space != store.space() && !wishes.hands_on(&look.space) && !remote.keys.iter().any(|key| store.is_own_device(key)) {
        return None;
    }
    let (store, look) = (store.clone(), look.clone());
    let found = tokio::task::spawn_blocking(move || {
        let readable = crate::held::readable_by(&store, &remote, &look.space, crate::who::now_ms());
        let is_named = store.is_named_where(&store.snapshot(), &look.hash, |place| {
            let may_read = place.space.key == look.space && readable.iter().any(|(_, timeline)| *timeline == place.timeline);
            may_read && place.len == look.len && belongs(&store, &look.hash, &place.timeline, &place.author)
        });
        if !is_named.is_ok_and(|is_named| is_named) {
            return None;
        }
        let blobs = store.blobs()?;
        let pieces = u32::try_from(pieces_of(look.len)).ok().filter(|pieces| u64::from(*pieces) <= PIECES_MAX)?;
        // What is whole has the length that it has, whatever somebody says.
        if let Some(len) = blobs.len_of(&look.hash) {
            return (len == look.len).then(|| Pieces::all(pieces));
        }
        // What is being fetched right now the exchange knows better.
        let partial = blobs.open_partial_of(&look.hash, look.len);
        Some(partial.map_or_else(|| Pieces::none(pieces), |partial| Pieces::from_bytes(&partial.have(), pieces)))
    });
    found.await.ok().flatten()
}

/// This process cannot read it now, and what is here is as good as before.
#[derive(Debug)]
struct Later;

/// Reads a piece for somebody; `None` if it is not here, or not as it was.
fn load(open: &OpenFiles, store: &Store, hash: BlobHash, piece: u32) -> Result<Option<Vec<u8>>, Later> {
    let later = |error: &std::io::Error| if crate::files::are_too_many_open(error) { Err(Later) } else { Ok(None) };
    let holding = match open.find(&hash) {
        Some(holding) => holding,
        None => {
            let Some(blobs) = store.blobs() else { return Ok(None) };
            let opened = blobs.open_blob(hash).inspect_err(|error| {
                tracing::warn!(%hash, %error, "a file that others want could not be opened");
                super::serve::mend_if_unreadable(blobs, hash, error);
            });
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) => return later(&error),
            };
            let holding = match opened.map(|blob| Holding::Whole(Arc::new(blob))).or_else(|| blobs.open_partial(&hash).map(Holding::Part)) {
                Some(holding) => holding,
                None => return Ok(None),
            };
            open.keep(hash, holding.clone());
            holding
        }
    };
    let damage = match holding.slice(piece) {
        Ok(slice) => return Ok(Some(slice)),
        Err(damage) => damage,
    };
    tracing::error!(%hash, %damage, "a file that others want is damaged");
    open.remove(&hash);
    match &holding {
        Holding::Part(partial) => lose(partial, piece, &damage),
        Holding::Whole(_) => store.blobs().into_iter().for_each(|blobs| super::serve::mend(blobs, hash, &damage)),
    }
    if let Damage::Io(error) = &damage { later(error) } else { Ok(None) }
}

/// Forgets a piece that is damaged; of what is whole by now what is damaged comes again.
pub(super) fn lose(partial: &Partial, piece: u32, damage: &Damage) {
    if partial.is_placed() {
        super::serve::mend(partial.blobs(), partial.hash(), damage);
        return;
    }
    // What the disk does not give now it may give later, and nobody else may have what the owner put in.
    if matches!(damage, Damage::Io(_)) && partial.is_owners() {
        return;
    }
    if let Err(error) = partial.lose(piece) {
        tracing::error!(hash = %partial.hash(), %error, "a damaged piece of a file could not be forgotten");
    }
}

/// Sends what is to go out over a link; pieces only when what is more urgent has gone.
async fn send(sender: LinkSender, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        if frame.len() > 4096 && !sender.has_room(SEND_BYTES_MAX * 3 / 4).await {
            return;
        }
        if sender.send(frame.into()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets pieces of a blob come that is fetched, as far as they were asked for.
    async fn comes(fetcher: &Fetcher, source: &timebus_store::blobs::Blob, space: PublicKey, len: u64, pieces: Range<u32>) {
        let hash = source.hash();
        let _ = fetcher.control.send(Control::Sources { hash, space, links: vec![(1, "mal".to_owned())] });
        fetcher.frame(1, BlobFrame::Have { space, hash, len, asks: false, pieces: vec![(pieces.start, pieces.end)] }.encode()).await;
        for (id, piece) in (1..=8).flat_map(|id| pieces.clone().map(move |piece| (id, piece))) {
            let slice = source.slice(piece).expect("good").into();
            fetcher.frame(1, BlobFrame::Piece { hash, id, piece, slice }.encode()).await;
        }
    }

    /// Mal names a film as one byte longer than it is, and sends all of it but the last piece, which nobody can. Then somebody reads it
    /// where it has its true length.
    #[tokio::test(start_paused = true)]
    async fn a_length_that_does_not_show_keeps_nobody_from_the_true_one() {
        use timebus_store::store::{Config, lock_home};

        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [theirs, store] = [0, 1].map(|at| {
            let lock = lock_home(homes[at].path()).expect("a free home");
            Store::open(homes[at].path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store")
        });
        let mut writer = theirs.blobs().expect("on disk").writer().expect("begins");
        writer.write(&[7; 300_000]).expect("writes");
        let (hash, len, _lease) = writer.finish().expect("finishes");
        let source = theirs.blobs().expect("on disk").open_blob(hash).expect("opens").expect("is here");
        let fetcher = Fetcher::start(store.clone(), Asker::of_nobody());
        let fetch = async |len: u64| fetcher.fetch(&store, store.own(), hash, len).await.expect("room").expect("it runs");
        let mut made_up = fetch(len + 1).await;
        made_up.reads(0..3, false);
        comes(&fetcher, &source, store.space(), len + 1, 0..2).await;
        assert!(made_up.piece(0, PLACE_MAX).await && made_up.piece(1, PLACE_MAX).await);
        let mut film = fetch(len).await;
        assert!(made_up.progress.borrow().problem.is_some() && !film.partial.has(0));
        film.reads(0..3, false);
        comes(&fetcher, &source, store.space(), len, 2..3).await;
        assert!(film.piece(2, PLACE_MAX).await);
        // From then on it is known.
        let again = fetcher.fetch(&store, store.own(), hash, len + 1).await;
        assert!(matches!(again, Err(SaveError::OtherLength { len: 300_000 })));
        assert!(film.progress.borrow().problem.is_none());
        comes(&fetcher, &source, store.space(), len, 0..2).await;
        assert!(film.piece(0, PLACE_MAX).await && film.piece(1, PLACE_MAX).await);
        film.until_placed().await;
        assert_eq!(store.blobs().expect("on disk").len_of(&hash), Some(len));
    }

    /// Thousands of files that are pinned, and of which those who are there have nothing, do not wait for a while each.
    #[tokio::test(start_paused = true)]
    async fn who_wants_what_nobody_has_knows_when_all_have_said_so() {
        use timebus_store::store::{Config, lock_home};

        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("opens");
        let fetcher = Fetcher::start(store.clone(), Asker::of_nobody());
        let (hash, space) = (BlobHash::from_bytes([3; 32]), store.space());
        let mut fetch = fetcher.fetch(&store, store.own(), hash, 300_000).await.expect("room").expect("it runs");
        let _ = fetcher.control.send(Control::Sources { hash, space, links: vec![(1, "bob".to_owned()), (2, "eve".to_owned())] });
        let nothing = async |link| fetcher.frame(link, BlobFrame::Have { space, hash, len: 300_000, asks: false, pieces: vec![] }.encode()).await;
        nothing(1).await;
        nothing(1).await;
        // Somebody who was not asked.
        nothing(7).await;
        let (patience, began) = (Duration::from_secs(600), Instant::now());
        assert!(!fetch.piece_of_somebody(0, patience).await);
        assert!(began.elapsed() >= patience, "eve may have it");
        nothing(2).await;
        let began = Instant::now();
        assert!(!fetch.piece_of_somebody(0, patience).await);
        assert!(began.elapsed() < patience);
    }

    /// Bob sends a film, is away for nearly as long as is waited for him, and comes again over a slow line.
    #[tokio::test(start_paused = true)]
    async fn who_sent_something_and_is_back_has_as_much_time_again() {
        use timebus_store::store::{Config, lock_home};

        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [theirs, store] = [0, 1].map(|at| {
            let lock = lock_home(homes[at].path()).expect("a free home");
            Store::open(homes[at].path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store")
        });
        let mut writer = theirs.blobs().expect("on disk").writer().expect("begins");
        writer.write(&[7; 600_000]).expect("writes");
        let (hash, len, _lease) = writer.finish().expect("finishes");
        let source = theirs.blobs().expect("on disk").open_blob(hash).expect("opens").expect("is here");
        let fetcher = Fetcher::start(store.clone(), Asker::of_nobody());
        let mut film = fetcher.fetch(&store, store.own(), hash, len).await.expect("room").expect("it runs");
        film.reads(0..5, false);
        let patience = Duration::from_secs(20);
        comes(&fetcher, &source, store.space(), len, 0..1).await;
        assert!(film.piece(0, patience).await);
        let (away, space, bob) = (Duration::from_secs(19), store.space(), fetcher.clone());
        let coming = tokio::spawn(async move {
            let again = async |link| {
                let _ = bob.control.send(Control::Sources { hash, space, links: vec![(link, "bob".to_owned())] });
                bob.frame(link, BlobFrame::Have { space, hash, len, asks: false, pieces: vec![(0, 5)] }.encode()).await;
            };
            let gone = |link| {
                bob.down(link);
                let _ = bob.control.send(Control::Sources { hash, space, links: vec![] });
            };
            gone(1);
            for link in 2.. {
                tokio::time::sleep(away).await;
                again(link).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
                gone(link);
            }
        });
        let began = Instant::now();
        assert!(!film.piece(1, patience).await);
        assert!((away + patience..away + patience + Duration::from_secs(1)).contains(&began.elapsed()), "once: {:?}", began.elapsed());
        coming.abort();
    }

    /// Bob has a line on which a piece takes long, and sends a film when he is asked to show a piece of a song.
    #[tokio::test(start_paused = true)]
    async fn who_gives_something_else_meanwhile_is_busy_and_not_silent() {
        use timebus_store::store::{Config, lock_home};
        use tokio_tungstenite::tungstenite::protocol::Role;

        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [theirs, store] = [0, 1].map(|at| {
            let lock = lock_home(homes[at].path()).expect("a free home");
            Store::open(homes[at].path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store")
        });
        let mut writer = theirs.blobs().expect("on disk").writer().expect("begins");
        writer.write(&[7; 600_000]).expect("writes");
        let (hash, len, _lease) = writer.finish().expect("finishes");
        let source = theirs.blobs().expect("on disk").open_blob(hash).expect("opens").expect("is here");
        let fetcher = Fetcher::start(store.clone(), Asker::of_nobody());
        let (near, _far) = tokio::io::duplex(1 << 20);
        let socket = tokio_tungstenite::WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let link = crate::link::websocket::start(socket, "bob", true, None);
        fetcher.up(1, link.sender().clone());
        let mut film = fetcher.fetch(&store, store.own(), hash, len).await.expect("room").expect("it runs");
        film.reads(0..5, false);
        let show = async || fetcher.show(1, store.space(), (BlobHash::from_bytes([3; 32]), len), 0, Duration::from_secs(1)).await;
        assert_eq!(show().await, None);
        let comes = async {
            comes(&fetcher, &source, store.space(), len, 0..1).await;
            film.piece(0, PLACE_MAX).await
        };
        let (shown, came) = tokio::join!(show(), comes);
        assert_eq!((shown, came), (Some(crate::blobs::shows::Shown::Busy), true));
        assert_eq!(show().await, None, "what came before is no excuse");
    }

    /// Mal comes, says that he has it, has it no more, and goes, again and again.
    #[tokio::test(start_paused = true)]
    async fn who_comes_and_goes_keeps_nobody_waiting() {
        use timebus_store::store::{Config, lock_home};

        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("opens");
        let fetcher = Fetcher::start(store.clone(), Asker::of_nobody());
        let (hash, space, len) = (BlobHash::from_bytes([3; 32]), store.space(), 300_000);
        let mut fetch = fetcher.fetch(&store, store.own(), hash, len).await.expect("room").expect("it runs");
        let mal = fetcher.clone();
        let coming = tokio::spawn(async move {
            for link in 1.. {
                let _ = mal.control.send(Control::Sources { hash, space, links: vec![(link, "mal".to_owned())] });
                mal.frame(link, BlobFrame::Have { space, hash, len, asks: false, pieces: vec![(0, 3)] }.encode()).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
                mal.frame(link, BlobFrame::Have { space, hash, len, asks: false, pieces: vec![] }.encode()).await;
                mal.down(link);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        let mut told = fetch.progress.clone();
        let (patience, began) = (Duration::from_secs(20), Instant::now());
        assert!(!fetch.piece(0, patience).await);
        assert!((patience..patience + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert!(told.borrow_and_update().asked > 10, "he was there");
        coming.abort();
    }

    /// Two spaces name one file, and one link gives it for the sake of one of them, or of both.
    #[test]
    fn who_gives_a_file_for_several_spaces_gives_it_for_each_of_them() {
        let [one, other, third] = [1, 2, 3].map(|number| PublicKey::from_bytes([number; 32]));
        let timeline = |space: PublicKey| TimelineId::named(&space, "main");
        let temp = tempfile::tempdir().expect("a folder");
        let limits = timebus_store::blobs::Limits { reserve_bytes: 0, ..Default::default() };
        let blobs = Blobs::open(temp.path(), limits).expect("opens");
        let fetching = Fetching {
            partial: blobs.partial(BlobHash::from_bytes([9; 32]), 1).expect("room"),
            progress: watch::Sender::default(),
            handles: BTreeMap::new(),
            bytes_from: BTreeMap::new(),
            began: Instant::now(),
            last: Instant::now(),
            asked: BTreeSet::new(),
            answered: BTreeSet::new(),
            speed: Speed::new(),
            disputed: None,
            places: vec![(one, timeline(one)), (other, timeline(other)), (third, timeline(third)), (third, TimelineId::named(&third, "drop"))],
            proven: Arc::default(),
            looking: JoinSet::new(),
        };
        assert_eq!(fetching.whose(&[]), []);
        assert_eq!(fetching.whose(&[other]), [(other, timeline(other))]);
        assert_eq!(
            fetching.whose(&[one, other, third]),
            [(one, timeline(one)), (other, timeline(other))],
            "of the third it is not known for which part"
        );
    }

    #[test]
    fn who_waits_for_his_turn_at_the_owners_speed_is_not_given_up() {
        let turn = Turn::default();
        turn.blobs.store(3, Ordering::Relaxed);
        assert_eq!(turn.wait(), Duration::ZERO, "as fast as the line is");
        turn.bytes_per_s.store(16_384, Ordering::Relaxed);
        assert_eq!(turn.wait(), Duration::from_secs(3 * 8), "a piece of each of three takes eight seconds");
    }
}
