//! What one peer says and does about blobs with all its links: who is told what is here, who is asked, what is sent
//! next. It does no IO: frames, reads and writes of the disk, rights and time come in as [`Input`] and go out as
//! [`Output`], so that tests run it over any network.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use bytes::Bytes;
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::blobs::partial::{PIECE_BYTES, pieces_of};

use super::flying::Flying;
use super::frame::{BlobFrame, HAVE_RANGES_MAX, Not};
use super::pace::{Pace, Speeds};
use super::pieces::Pieces;
use super::shows::REQUEST;
use super::swarm::{Dice, Download, Kind, Next, Upload};
use super::turns::Turns;

/// Names a link.
pub type LinkId = u64;

/// Blobs that are talked about at once; of more, those that nobody has asked for longest are forgotten.
const ACTIVE_MAX: usize = 1024;
/// Pieces of all of them together, 1 TiB: a bit for each takes memory, of each link, and lengths are what somebody says.
const PIECES_ACTIVE_MAX: u64 = 8 * 1024 * 1024;
/// Questions about blobs of one link that wait for the disk.
const LOOKS_MAX: usize = 64;
/// Pieces that nobody else has which are sent before one that is asked for by number while others wait for such.
const CHOICES_IN_A_ROW: u32 = 3;
/// Of the room on the line, the part that may be asked for by number and wait while others wait, too: what waits here longer
/// could have come from somebody whose line has nothing to do.
const QUEUE_PART: usize = 3;
/// Links that wait for pieces by number in any case, if so many ask, and for how many each: who asks for much does not keep
/// out who comes later.
const WAITING_MIN: usize = 2;
/// What came is told to all together, so late at most. Who sent it hears it at once.
const TELL_MS: u64 = 25;
/// After this time those are asked again who had nothing, or no time to look.
const REASK_MS: u64 = 10_000;
/// Readers of whom it is looked at once whether they still may read, when rights have changed.
const RECHECKS_MAX: usize = 8;
/// Readers of what was asked for within this time are looked at when rights may have ended; of what is asked for later, then.
const LATELY_MS: u64 = 120_000;
/// How long who had nothing, or failed, is left alone.
const REST_MS: u64 = 3000;
/// Pieces that nobody asked for, of one link, until it is let go.
const UNASKED_MAX: u32 = 1024;
/// Pieces that one link may say it has of a blob and take back again, until it is asked anew: each costs a look at it.
const TAKEN_BACK_MAX: u32 = 1 << 20;
/// Penalty for a piece that is not of its blob: as for a broken rule.
const BAD_POINTS: u32 = 64;

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A frame came.
    Frame(LinkId, BlobFrame),
    /// A link is no more.
    Gone(LinkId),
    /// Answers [`Output::Look`]: what is here of it for the other side, maybe nothing yet; `None` if it may not have it.
    Found {
        /// The question.
        look: Look,
        /// The pieces.
        have: Option<Pieces>,
    },
    /// Somebody here wants a blob of which this much is here.
    Fetch {
        /// A space that names it.
        space: PublicKey,
        /// Which.
        hash: BlobHash,
        /// Its length.
        len: u64,
        /// The pieces that are here.
        have: Pieces,
    },
    /// These links are to peers that may have the blob for the sake of a space that names it.
    Sources(BlobHash, PublicKey, Vec<LinkId>),
    /// Where somebody reads, and whether he wants nothing else.
    Reads(BlobHash, Vec<std::ops::Range<u32>>, bool),
    /// Somebody says that a blob which is fetched has another length: what shows it is to come first.
    Disputed(BlobHash),
    /// A piece of a part is not what it was, and has to come again.
    Lost(BlobHash, u32),
    /// Nobody here wants it any more.
    Enough(BlobHash),
    /// Nobody here wants it any more, and nothing of it is here.
    Forget(BlobHash),
    /// What others may have of a space, or of all, is to be looked at anew.
    Restated(Option<PublicKey>),
    /// The same of what somebody asked for lately: rights end by time.
    Ended,
    /// Answers [`Output::Keep`].
    Kept {
        /// Who sent it.
        link: LinkId,
        /// The blob.
        hash: BlobHash,
        /// The request.
        id: u64,
        /// The piece.
        piece: u32,
        /// Whether it was good; `None` if this side failed.
        good: Option<bool>,
    },
    /// Answers [`Output::Load`].
    Loaded {
        /// For whom.
        link: LinkId,
        /// The blob.
        hash: BlobHash,
        /// The request.
        id: u64,
        /// The piece.
        piece: u32,
        /// The encoded piece; `None` if it could not be read.
        slice: Option<Bytes>,
    },
    /// Answers [`Output::Load`]: this side cannot read it now, and it is here as before.
    Later {
        /// For whom.
        link: LinkId,
        /// The blob.
        hash: BlobHash,
        /// The request.
        id: u64,
        /// The piece.
        piece: u32,
    },
    /// How fast pieces may be given and asked for, from now on.
    Limits(Speeds),
    /// Time has passed.
    Timer,
}

/// A question of a peer about a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Who asks.
    pub link: LinkId,
    /// The space that it says names the blob.
    pub space: PublicKey,
    /// The blob.
    pub hash: BlobHash,
    /// Its length, as it says.
    pub len: u64,
    /// What it has.
    pub pieces: Vec<(u32, u32)>,
    /// Whether it is no question, but may have something already, and this is to be looked at anew.
    pub is_again: bool,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a frame.
    Send(LinkId, BlobFrame),
    /// Look whether the other side may have a blob, and what is here of it.
    Look(Look),
    /// Read a piece.
    Load {
        /// For whom.
        link: LinkId,
        /// The blob.
        hash: BlobHash,
        /// The request.
        id: u64,
        /// The piece.
        piece: u32,
    },
    /// Check a piece and keep it.
    Keep {
        /// Who sent it.
        link: LinkId,
        /// The blob.
        hash: BlobHash,
        /// The request.
        id: u64,
        /// The piece.
        piece: u32,
        /// The encoded piece.
        slice: Bytes,
    },
    /// The other side broke the rules.
    Blame {
        /// Who.
        link: LinkId,
        /// How much.
        points: u32,
        /// How.
        why: &'static str,
    },
    /// More of a blob is here, or all of it.
    Grown(BlobHash),
}

/// How a blob that is fetched is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Which.
    pub hash: BlobHash,
    /// A space that names it.
    pub space: PublicKey,
    /// Its length.
    pub len: u64,
    /// Pieces that are here, and all.
    pub pieces: (u32, u32),
    /// Bytes that are here.
    pub bytes_here: u64,
    /// Whether it is being fetched.
    pub is_fetched: bool,
    /// Links that have something of it, and how many pieces came from each.
    pub sources: Vec<(LinkId, u64)>,
    /// Links that ask for it, and bytes that each has.
    pub readers: Vec<(LinkId, u64)>,
}

/// A blob that is talked about.
struct Active {
    space: PublicKey,
    len: u64,
    have: Pieces,
    upload: Upload,
    download: Option<Download>,
    /// Links that may have it from here, each for the sake of the space that it named.
    allowed: BTreeMap<LinkId, PublicKey>,
    /// Links that were told what is here and hear of more.
    told: BTreeSet<LinkId>,
    /// Links that were asked for it, for the sake of which spaces, and whether they said last that they have something for each.
    asked: BTreeMap<LinkId, BTreeMap<PublicKey, bool>>,
    /// Pieces that links said they have, and have not, since those were asked again of whom nothing came.
    taken_back: BTreeMap<LinkId, u32>,
    /// Pieces that came and were not told to all yet, with who sent them.
    news: Vec<(u32, LinkId)>,
    used_ms: u64,
    /// When those are asked again of whom nothing came.
    reask_ms: u64,
}

/// All blobs and links of a peer.
pub struct Exchange {
    blobs: HashMap<BlobHash, Active>,
    flying: Flying,
    looks: BTreeMap<LinkId, usize>,
    /// Readers to look at anew, and how many of them are being looked at.
    rechecks: BTreeSet<(BlobHash, LinkId)>,
    rechecking: usize,
    /// Pieces that nobody asked for, and requests that were taken back, whose pieces may still come.
    unasked: BTreeMap<LinkId, u32>,
    withdrawn: BTreeMap<LinkId, u32>,
    /// Pieces of our own choice that were sent since one was by number.
    choices: u32,
    /// Who waits for pieces of our choice, and for some by number.
    turns: [Turns; 2],
    /// Whom and what was sent last.
    last: (LinkId, BlobHash),
    /// Blobs that are fetched.
    fetched: BTreeSet<BlobHash>,
    /// When to tell all others what came of which blob.
    news: BTreeSet<(u64, BlobHash)>,
    /// How fast pieces may be given, and asked for.
    up: Pace,
    down: Pace,
    /// Whether there may be something to ask for, and the blob that a piece was asked of last: where pieces are asked for at a
    /// limited speed, the blobs take turns.
    is_hungry: bool,
    asked_last: BlobHash,
    dice: Dice,
}

/// Of whom to ask for what is missing of a blob.
#[derive(Clone, Copy, Debug)]
enum Whom {
    /// Of all.
    All,
    /// Of one, who has something new.
    One(LinkId),
    /// Of anybody, one piece instead of one that somebody does not send.
    Anybody,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exchange({} blobs)", self.blobs.len())
    }
}

impl Exchange {
    /// Without blobs and links.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            blobs: HashMap::new(),
            flying: Flying::default(),
            looks: BTreeMap::new(),
            rechecks: BTreeSet::new(),
            rechecking: 0,
            unasked: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            choices: 0,
            turns: Default::default(),
            fetched: BTreeSet::new(),
            news: BTreeSet::new(),
            up: Pace::default(),
            down: Pace::default(),
            is_hungry: false,
            asked_last: BlobHash::from_bytes([0; 32]),
            last: (0, BlobHash::from_bytes([0; 32])),
            dice: Dice::new(seed),
        }
    }

    /// Takes one input and answers what to do about it, in order.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.flying.look(now_ms);
        match input {
            Input::Frame(link, frame) => self.frame(link, frame, now_ms, &mut out),
            Input::Gone(link) => self.gone(link, now_ms, &mut out),
            Input::Found { look, have } => self.found(look, have, now_ms, &mut out),
            Input::Fetch { space, hash, len, have } => self.fetch(space, hash, len, have, now_ms, &mut out),
            Input::Sources(hash, space, links) => self.sources(hash, space, &links, now_ms, &mut out),
            Input::Reads(hash, first, is_urgent) => {
                if let Some(download) = self.blobs.get_mut(&hash).and_then(|active| active.download.as_mut()) {
                    download.read_first(first, is_urgent);
                    self.ask(hash, Whom::All, now_ms, &mut out);
                }
            }
            Input::Disputed(hash) => {
                if let Some(download) = self.blobs.get_mut(&hash).and_then(|active| active.download.as_mut()) {
                    download.dispute();
                    self.ask(hash, Whom::All, now_ms, &mut out);
                }
            }
            Input::Enough(hash) => self.enough(hash, &mut out),
            Input::Forget(hash) => {
                self.enough(hash, &mut out);
                for link in self.blobs.get(&hash).into_iter().flat_map(|active| active.allowed.keys()) {
                    // Whoever counts on this peer looks for others.
                    out.push(Output::Send(*link, BlobFrame::Not { hash, id: 0, reason: Not::Here }));
                }
                self.forget(&hash);
            }
            Input::Lost(hash, piece) => self.lost(hash, piece, now_ms, &mut out),
            Input::Restated(space) => {
                let readers = self.blobs.iter().flat_map(|(hash, active)| active.allowed.iter().map(|(link, named)| (*hash, *link, *named)));
                let concerned = readers.filter(|(_, _, named)| space.is_none_or(|space| space == *named));
                self.rechecks.extend(concerned.map(|(hash, link, _)| (hash, link)));
                self.recheck(&mut out);
            }
            Input::Ended => {
                let lately = self.blobs.iter().filter(|(_, active)| active.used_ms + LATELY_MS > now_ms);
                self.rechecks.extend(lately.flat_map(|(hash, active)| active.allowed.keys().map(|link| (*hash, *link))));
                self.recheck(&mut out);
            }
            Input::Kept { link, hash, id, piece, good } => self.kept(link, hash, id, piece, good, now_ms, &mut out),
            Input::Loaded { link, hash, id, piece, slice } => self.loaded(link, hash, id, piece, slice, now_ms, &mut out),
            Input::Later { link, hash, id, piece } => {
                self.flying.take_back(link, hash, piece);
                self.up.give_back(self.piece_bytes(&hash, piece));
                out.push(Output::Send(link, BlobFrame::Not { hash, id, reason: Not::Busy }));
            }
            Input::Limits(limits) => self.limit(limits, now_ms, &mut out),
            Input::Timer => self.ask_all(now_ms, &mut out),
        }
        self.ask_in_turn(now_ms, &mut out);
        self.tell(now_ms, &mut out);
        self.pump(now_ms, &mut out);
        out
    }

    /// When to come back with [`Input::Timer`], whatever happens meanwhile: it is counted from when something was done, so that
    /// who comes back after each input does not put it off.
    #[must_use]
    pub fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let news = self.news.first().map(|(at_ms, _)| *at_ms);
        let asks = || self.fetched.iter().filter_map(|hash| self.blobs.get(hash)?.download.as_ref()?.next_ms()).min();
        // As long as nothing may be asked for, there is nothing else to do.
        let asks = asks().map(|at_ms| self.down.ready_ms(now_ms).unwrap_or(at_ms));
        let gives = self.up.ready_ms(now_ms).filter(|_| self.turns.iter().any(|turns| !turns.is_empty()));
        [asks, gives, news, self.flying.next_ms()].into_iter().flatten().min()
    }

    /// All blobs that are talked about.
    pub fn transfers(&self) -> impl Iterator<Item = Transfer> + '_ {
        self.blobs.iter().map(|(hash, active)| Transfer {
            hash: *hash,
            space: active.space,
            len: active.len,
            pieces: (active.have.count(), active.have.len()),
            bytes_here: bytes_of(&active.have, active.len),
            is_fetched: active.download.is_some(),
            sources: active.download.iter().flat_map(|download| download.sources()).collect(),
            readers: active.allowed.keys().map(|link| (*link, active.upload.has_of(*link).map_or(0, |have| bytes_of(have, active.len)))).collect(),
        })
    }

    /// Bytes of a piece of a blob that is talked about.
    #[must_use]
    pub fn piece_bytes(&self, hash: &BlobHash, piece: u32) -> u64 {
        self.blobs.get(hash).map_or(0, |active| piece_bytes(active.len, piece))
    }

    /// Bytes that a link says it has of a blob that it may have from here.
    #[must_use]
    pub fn had_by(&self, hash: &BlobHash, link: LinkId) -> Option<u64> {
        let active = self.blobs.get(hash).filter(|active| active.allowed.contains_key(&link))?;
        Some(active.upload.has_of(link).map_or(0, |have| bytes_of(have, active.len)))
    }

    /// Whether a link says that it has all of a blob, but for this piece maybe.
    #[must_use]
    pub fn has_the_rest(&self, hash: &BlobHash, link: LinkId, piece: u32) -> bool {
        let Some(active) = self.blobs.get(hash) else { return false };
        let have = active.upload.has_of(link).map_or(0, Pieces::count);
        have + u32::from(!active.upload.has(link, piece)) >= active.have.len()
    }

    /// Links that a blob can come from.
    #[must_use]
    pub fn sources_of(&self, hash: &BlobHash) -> Vec<LinkId> {
        let download = self.blobs.get(hash).and_then(|active| active.download.as_ref());
        download.map_or_else(Vec::new, |download| download.sources().map(|(link, _)| link).filter(|link| download.is_useful(*link)).collect())
    }

    fn frame(&mut self, link: LinkId, frame: BlobFrame, now_ms: u64, out: &mut Vec<Output>) {
        match frame {
            BlobFrame::Have { space, hash, len, asks, pieces } => {
                self.have(Look { link, space, hash, len, pieces, is_again: false }, asks, now_ms, out);
            }
            BlobFrame::Want { hash, id, any_of } => {
                // What nobody else has he can only wait for.
                let is_elsewhere = self.blobs.get(&hash).is_some_and(|active| active.upload.is_elsewhere(&any_of, now_ms));
                let is_number = Kind::of(&any_of) == Kind::Number;
                let is_shown = id == REQUEST && is_number && any_of.first().is_some_and(|(piece, _)| self.has_the_rest(&hash, link, *piece));
                // What is only to be shown goes at once, or not now: who waits for that cannot tell a line that is busy from a disk that
                // is broken.
                let is_full = is_shown && !(self.up.has_room(now_ms) && self.flying.has_room() && self.flying.has_room_to(link));
                let is_much = is_full || is_elsewhere && is_number && self.is_much(link);
                let reason = match self.blobs.get_mut(&hash).filter(|active| active.allowed.contains_key(&link)) {
                    Some(active) => {
                        active.used_ms = now_ms;
                        if !is_much && active.upload.wanted(link, id, any_of) {
                            note(&mut self.turns, link, hash, &active.upload);
                            if is_shown {
                                self.give((link, hash), Kind::Number, now_ms, out);
                            }
                            return;
                        }
                        Not::Busy
                    }
                    None => Not::Here,
                };
                out.push(Output::Send(link, BlobFrame::Not { hash, id, reason }));
            }
            BlobFrame::Piece { hash, id, piece, slice } => {
                let download = self.blobs.get(&hash).and_then(|active| active.download.as_ref());
                if download.is_some_and(|download| download.was_asked(link, id, piece)) {
                    out.push(Output::Keep { link, hash, id, piece, slice });
                    return;
                }
                // It may have been on its way when it was not wanted any more.
                if let Some(count) = self.withdrawn.get_mut(&link).filter(|count| **count > 0) {
                    *count -= 1;
                    return;
                }
                let count = self.unasked.entry(link).or_default();
                *count += 1;
                if *count == UNASKED_MAX {
                    out.push(Output::Blame { link, points: BAD_POINTS, why: "pieces that nobody asked for" });
                }
            }
            BlobFrame::Not { hash, id, reason: Not::Unwanted } => {
                if let Some(active) = self.blobs.get_mut(&hash) {
                    active.upload.unwanted(link, id);
                    // What is on its way will not be told of.
                    self.flying.given_up(link, hash);
                    note(&mut self.turns, link, hash, &active.upload);
                }
            }
            BlobFrame::Not { hash, id, reason } => {
                let Some(active) = self.blobs.get_mut(&hash) else { return };
                let Some(download) = &mut active.download else { return };
                let mut withdrawn = Vec::new();
                let (given_up, whom) = match reason {
                    Not::Unwanted => return,
                    Not::Elsewhere => (usize::from(download.refused(link, id, now_ms)), Whom::All),
                    Not::Busy => (usize::from(download.busy(link, id, now_ms)), Whom::Anybody),
                    Not::Here => {
                        // What it said it has is not so any more. It is asked anew when sources are looked for next.
                        withdrawn.extend(download.requests_to(link).filter(|(_, other)| *other != id));
                        active.told.remove(&link);
                        let taken_back = active.taken_back.entry(link).or_default();
                        *taken_back = taken_back.saturating_add(download.claimed_by(link));
                        (download.source_gone(link), Whom::All)
                    }
                };
                self.down.give_back(given_up as u64 * asked_bytes(active.len));
                self.ask(hash, whom, now_ms, out);
                self.take_back(hash, withdrawn, out);
            }
        }
    }

    fn have(&mut self, look: Look, asks: bool, now_ms: u64, out: &mut Vec<Output>) {
        let Look { link, space, hash, len, .. } = look;
        if let Some(active) = self.blobs.get_mut(&hash).filter(|active| active.len == len) {
            if let Some(has) = active.asked.get_mut(&link).and_then(|asked| asked.get_mut(&space)).filter(|_| !asks) {
                *has = !look.pieces.is_empty();
            }
            // Who asks for the sake of another space than before is looked at anew.
            let is_reader = active.allowed.get(&link).is_some_and(|named| !asks || *named == space);
            if is_reader {
                active.used_ms = now_ms;
                // Of what there is nothing to give it does not matter who has what.
                let given_up = if active.is_bare() { Vec::new() } else { active.upload.reader_has(link, &look.pieces) };
                if !given_up.is_empty() {
                    note(&mut self.turns, link, hash, &active.upload);
                }
                out.extend(given_up.into_iter().map(|id| Output::Send(link, BlobFrame::Not { hash, id, reason: Not::Elsewhere })));
                self.flying.landed(link, hash, &look.pieces, now_ms);
            }
            // What it has counts if it was asked, whether it may have anything from here or not.
            let is_believed = active.is_believed(link);
            if let Some(download) = active.download.as_mut().filter(|_| is_believed && active.told.contains(&link)) {
                download.source_has(link, &look.pieces);
                self.ask(hash, Whom::One(link), now_ms, out);
            }
            let Some(active) = self.blobs.get_mut(&hash) else { return };
            if is_reader && (!asks || active.download.is_some() || active.have.is_all()) {
                if asks {
                    active.told.insert(link);
                    out.push(Output::Send(link, have_frame(space, hash, active, false)));
                }
                return;
            }
        }
        if !asks {
            return;
        }
        let waiting = self.looks.entry(link).or_default();
        if *waiting >= LOOKS_MAX {
            out.push(Output::Send(link, nothing(&look)));
            return;
        }
        *waiting += 1;
        out.push(Output::Look(look));
    }

    fn found(&mut self, look: Look, have: Option<Pieces>, now_ms: u64, out: &mut Vec<Output>) {
        if look.is_again {
            self.rechecking = self.rechecking.saturating_sub(1);
            self.recheck(out);
        } else if let Some(waiting) = self.looks.get_mut(&look.link) {
            *waiting = waiting.saturating_sub(1);
        } else {
            // The link went meanwhile.
            return;
        }
        if look.is_again && !self.blobs.get(&look.hash).is_some_and(|active| active.allowed.contains_key(&look.link)) {
            return;
        }
        let Some(have) = have.filter(|have| u64::from(have.len()) == pieces_of(look.len)) else {
            if let Some(active) = self.blobs.get_mut(&look.hash).filter(|active| active.allowed.get(&look.link) == Some(&look.space)) {
                active.allowed.remove(&look.link);
                active.upload.reader_gone(look.link);
                note(&mut self.turns, look.link, look.hash, &active.upload);
                // Nor does it hear of what comes; as a source it is asked again.
                active.told.remove(&look.link);
            }
            out.push(Output::Send(look.link, nothing(&look)));
            return;
        };
        if look.is_again {
            return;
        }
        // Of a blob that has another length than was thought nothing can be here.
        if !have.is_empty() {
            self.forget_other(&look.hash, look.len, out);
        }
        let is_known = self.blobs.get(&look.hash).is_some_and(|active| active.len == look.len);
        if !is_known && (self.blobs.contains_key(&look.hash) || !self.make_room(have.len(), out)) {
            out.push(Output::Send(look.link, nothing(&look)));
            return;
        }
        let active = self.blobs.entry(look.hash).or_insert_with(|| Active::new(look.space, look.len, have.clone(), now_ms));
        if active.download.is_none() && have.count() > active.have.count() {
            // It came another way, or what was damaged was mended.
            active.have = have;
        }
        active.used_ms = now_ms;
        active.allowed.insert(look.link, look.space);
        if !active.is_bare() {
            active.upload.reader_has(look.link, &look.pieces);
        }
        active.told.insert(look.link);
        out.push(Output::Send(look.link, have_frame(look.space, look.hash, active, false)));
        let is_believed = active.is_believed(look.link);
        if let Some(download) = active.download.as_mut().filter(|_| is_believed) {
            download.crowd();
            download.source_has(look.link, &look.pieces);
            self.ask(look.hash, Whom::One(look.link), now_ms, out);
        }
    }

    fn fetch(&mut self, space: PublicKey, hash: BlobHash, len: u64, have: Pieces, now_ms: u64, out: &mut Vec<Output>) {
        self.forget_other(&hash, len, out);
        // What the owner wants has room in any case.
        self.make_room(have.len(), out);
        let seed = self.dice.below(u64::MAX);
        let active = self.blobs.entry(hash).or_insert_with(|| Active::new(space, len, have.clone(), now_ms));
        if active.len != len || active.download.is_some() {
            return;
        }
        active.used_ms = now_ms;
        active.reask_ms = now_ms + REASK_MS;
        active.space = space;
        // What is whole here, and fetched for others all the same, is still given to those who may have it.
        if !active.have.is_all() {
            active.have = have.clone();
        }
        let mut download = Download::new(have, seed);
        if !active.allowed.is_empty() {
            download.crowd();
        }
        active.download = Some(download);
        self.fetched.insert(hash);
        // All are asked anew what they have.
        active.told.clear();
        active.asked.clear();
    }

    fn enough(&mut self, hash: BlobHash, out: &mut Vec<Output>) {
        self.fetched.remove(&hash);
        if let Some(download) = self.blobs.get_mut(&hash).and_then(|active| active.download.take()) {
            self.take_back(hash, download.requests().collect(), out);
        }
    }

    /// The spaces for whose sake a link gives a blob: those for which it said that it has some of it. Who was asked for the sake of one
    /// alone gives it for no other.
    #[must_use]
    pub fn given_for(&self, hash: &BlobHash, link: LinkId) -> Vec<PublicKey> {
        let Some(asked) = self.blobs.get(hash).and_then(|active| active.asked.get(&link)) else { return Vec::new() };
        asked.iter().filter(|(_, has)| **has || asked.len() == 1).map(|(space, _)| *space).collect()
    }

    fn sources(&mut self, hash: BlobHash, space: PublicKey, links: &[LinkId], now_ms: u64, out: &mut Vec<Output>) {
        let Some(active) = self.blobs.get_mut(&hash) else { return };
        let Some(download) = &active.download else { return };
        if now_ms >= active.reask_ms {
            active.reask_ms = now_ms + REASK_MS;
            active.taken_back.clear();
            active.told.retain(|link| download.is_useful(*link));
            active.asked.retain(|link, _| download.is_useful(*link));
        }
        for link in links {
            let is_told = active.told.contains(link);
            let asked = active.asked.entry(*link).or_default();
            if !is_told {
                // What it had it has no more, or not for this peer.
                asked.clear();
            }
            // Who has it for the sake of one space need not be asked for that of another.
            if asked.contains_key(&space) || is_told && download.is_useful(*link) {
                continue;
            }
            asked.insert(space, false);
            active.told.insert(*link);
            out.push(Output::Send(*link, have_frame(space, hash, active, true)));
        }
    }

    fn gone(&mut self, link: LinkId, now_ms: u64, out: &mut Vec<Output>) {
        self.looks.remove(&link);
        self.unasked.remove(&link);
        self.withdrawn.remove(&link);
        self.flying.gone(link);
        for (hash, active) in &mut self.blobs {
            active.allowed.remove(&link);
            active.told.remove(&link);
            active.asked.remove(&link);
            active.taken_back.remove(&link);
            active.upload.reader_gone(link);
            note(&mut self.turns, link, *hash, &active.upload);
            if let Some(download) = &mut active.download {
                let given_up = download.source_gone(link);
                self.down.give_back(given_up as u64 * asked_bytes(active.len));
            }
        }
        self.ask_all(now_ms, out);
    }

    fn limit(&mut self, limits: Speeds, now_ms: u64, out: &mut Vec<Output>) {
        self.up.set(limits.up, now_ms);
        self.down.set(limits.down, now_ms);
        self.blobs.values_mut().filter_map(|active| active.download.as_mut()).for_each(Download::freed);
        self.ask_all(now_ms, out);
    }

    fn ask_all(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        for hash in self.fetched.iter().copied().collect::<Vec<_>>() {
            self.ask(hash, Whom::All, now_ms, out);
        }
    }

    /// Asks for what is missing of a blob; if not as much as one likes may be asked for, later and in turn.
    fn ask(&mut self, hash: BlobHash, whom: Whom, now_ms: u64, out: &mut Vec<Output>) {
        if self.down.is_limited() {
            self.is_hungry = true;
            return;
        }
        let Some(download) = self.blobs.get_mut(&hash).and_then(|active| active.download.as_mut()) else { return };
        let wants = match whom {
            Whom::All => download.ask(now_ms),
            Whom::One(link) => download.ask_one(link, now_ms),
            Whom::Anybody => download.ask_again(now_ms),
        };
        send_wants(hash, wants, out);
    }

    /// Where pieces may be asked for at a limited speed: asks for one of each blob in turn, as long as one more may be asked for.
    fn ask_in_turn(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        // Those of which there was nothing to ask for, one after the other.
        let mut idle = 0;
        while self.is_hungry && self.down.is_limited() && self.down.has_room(now_ms) {
            let next = self.fetched.range((Excluded(self.asked_last), Unbounded)).next().or_else(|| self.fetched.first());
            let Some(hash) = next.copied().filter(|_| idle < self.fetched.len()) else {
                self.is_hungry = false;
                return;
            };
            self.asked_last = hash;
            idle += 1;
            let Some(active) = self.blobs.get_mut(&hash) else { continue };
            let wants = active.download.as_mut().map_or_else(Vec::new, |download| download.ask_some(1, now_ms));
            if !wants.is_empty() {
                idle = 0;
                self.down.take(asked_bytes(active.len));
            }
            send_wants(hash, wants, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the answer to a piece names all of it")]
    fn kept(&mut self, link: LinkId, hash: BlobHash, id: u64, piece: u32, good: Option<bool>, now_ms: u64, out: &mut Vec<Output>) {
        let Some(active) = self.blobs.get_mut(&hash) else { return };
        if good == Some(true) && active.have.insert(piece) {
            if active.news.is_empty() {
                self.news.insert((now_ms + TELL_MS, hash));
            }
            active.news.push((piece, link));
        }
        if good == Some(true) {
            out.push(Output::Grown(hash));
            // Who sent it sends the next one when this one has arrived.
            out.push(Output::Send(
                link,
                BlobFrame::Have { space: active.space_for(link), hash, len: active.len, asks: false, pieces: vec![(piece, piece + 1)] },
            ));
        }
        let Some(download) = &mut active.download else { return };
        match good {
            Some(true) => {
                download.received(link, id, piece, now_ms);
                if let Some(unasked) = self.unasked.get_mut(&link) {
                    *unasked = unasked.saturating_sub(1);
                }
                // Who was asked for it, too, need not send it any more.
                for other in download.also_asked(piece) {
                    let space = space_of(&active.allowed, &active.asked, active.space, other);
                    out.push(Output::Send(other, BlobFrame::Have { space, hash, len: active.len, asks: false, pieces: vec![(piece, piece + 1)] }));
                }
            }
            Some(false) => {
                download.source_gone(link);
                active.told.remove(&link);
                out.push(Output::Blame { link, points: BAD_POINTS, why: "a piece that is not of its blob" });
            }
            None => {
                download.refused(link, id, now_ms + REST_MS);
            }
        }
        if download.have().is_all() {
            let late = download.requests().collect();
            active.download = None;
            self.fetched.remove(&hash);
            self.take_back(hash, late, out);
            return;
        }
        self.ask(hash, Whom::All, now_ms, out);
    }

    /// Requests are not wanted any more. What is on its way may come all the same.
    fn take_back(&mut self, hash: BlobHash, requests: Vec<(LinkId, u64)>, out: &mut Vec<Output>) {
        for (link, id) in requests {
            *self.withdrawn.entry(link).or_default() += 1;
            out.push(Output::Send(link, BlobFrame::Not { hash, id, reason: Not::Unwanted }));
        }
    }

    /// Looks at some more of the readers of whom it is not known whether they still may read.
    fn recheck(&mut self, out: &mut Vec<Output>) {
        while self.rechecking < RECHECKS_MAX {
            let Some((hash, link)) = self.rechecks.pop_first() else { return };
            let Some(active) = self.blobs.get(&hash) else { continue };
            let Some(space) = active.allowed.get(&link) else { continue };
            self.rechecking += 1;
            out.push(Output::Look(Look { link, space: *space, hash, len: active.len, pieces: Vec::new(), is_again: true }));
        }
    }

    fn lost(&mut self, hash: BlobHash, piece: u32, now_ms: u64, out: &mut Vec<Output>) {
        let Some(active) = self.blobs.get_mut(&hash) else { return };
        active.have.remove(piece);
        if let Some(download) = &mut active.download {
            download.lost(piece);
            self.ask(hash, Whom::All, now_ms, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the answer to a question for a piece names all of it")]
    fn loaded(&mut self, link: LinkId, hash: BlobHash, id: u64, piece: u32, slice: Option<Bytes>, now_ms: u64, out: &mut Vec<Output>) {
        let Some(slice) = slice else {
            self.flying.take_back(link, hash, piece);
            self.up.give_back(self.piece_bytes(&hash, piece));
            self.lost(hash, piece, now_ms, out);
            out.push(Output::Send(link, BlobFrame::Not { hash, id, reason: Not::Here }));
            return;
        };
        out.push(Output::Send(link, BlobFrame::Piece { hash, id, piece, slice }));
    }

    /// Tells everybody what came, a little later than it came.
    fn tell(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        while self.news.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            let Some((_, hash)) = self.news.pop_first() else { return };
            let Some(active) = self.blobs.get_mut(&hash) else { continue };
            let mut news = std::mem::take(&mut active.news);
            news.sort_unstable();
            for link in &active.told {
                // Who has a piece does not ask for it. Who has everything wants to know what others have.
                let has_all = active.upload.has_all(*link);
                let is_news = |piece: u32, from: LinkId| from != *link && (has_all || !active.upload.has(*link, piece));
                let mut pieces: Vec<(u32, u32)> = Vec::new();
                for (piece, _) in news.iter().filter(|(piece, from)| is_news(*piece, *from)) {
                    match pieces.last_mut().filter(|(_, end)| *end >= *piece) {
                        Some((_, end)) => *end = piece + 1,
                        None => pieces.push((*piece, piece + 1)),
                    }
                }
                pieces.truncate(HAVE_RANGES_MAX);
                if !pieces.is_empty() {
                    out.push(Output::Send(*link, BlobFrame::Have { space: active.space_for(*link), hash, len: active.len, asks: false, pieces }));
                }
            }
        }
    }

    /// Whether one who asks for a piece by number gets it sooner elsewhere: others wait, and what waits for him takes his
    /// share of what fits on the line.
    fn is_much(&self, link: LinkId) -> bool {
        let [_, numbers] = &self.turns;
        // Who does not say what came waits for that.
        let others = numbers.others(link, |other| !self.flying.is_behind(other));
        let room = self.flying.room() / QUEUE_PART;
        let Some(share) = room.checked_div(others) else { return false };
        let waiting = |hash: &BlobHash| self.blobs.get(hash).map_or(0, |active| active.upload.waiting(link, Kind::Number));
        let mut own = 0;
        others >= room.max(WAITING_MIN)
            || numbers.of(link).any(|hash| {
                own += waiting(hash);
                own >= share.max(WAITING_MIN)
            })
    }

    /// Sends to who waits, in turn, as much as the lines take.
    fn pump(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        // Those for whom there is nothing to choose before something has come elsewhere.
        let mut later = BTreeSet::new();
        while self.up.has_room(now_ms) && self.flying.has_room() {
            let [choices, numbers] = &self.turns;
            // What nobody else has goes first: until it has gone, nobody can hand it on. But nobody waits for ever.
            let choice = choices.after(self.last, |next| self.flying.has_room_to(next.0) && !later.contains(next));
            let number = || numbers.after(self.last, |next| self.flying.has_room_to(next.0));
            let (kind, next) = match choice {
                Some(choice) if self.choices < CHOICES_IN_A_ROW => (Kind::Choice, Some(choice)),
                choice => number().map_or((Kind::Choice, choice), |number| (Kind::Number, Some(number))),
            };
            let Some(next) = next else { return };
            self.last = next;
            if !self.blobs.contains_key(&next.1) {
                return;
            }
            if !self.give(next, kind, now_ms, out) {
                later.insert(next);
            }
        }
    }

    /// Answers the next request for pieces of a blob of one who waits; says whether there was something to say to it now.
    fn give(&mut self, (link, hash): (LinkId, BlobHash), kind: Kind, now_ms: u64, out: &mut Vec<Output>) -> bool {
        let Some(active) = self.blobs.get_mut(&hash) else { return false };
        let next = active.upload.next(link, kind, &active.have, now_ms, &mut self.dice);
        note(&mut self.turns, link, hash, &active.upload);
        match next {
            Some(Next { id, piece: Some(piece), .. }) => {
                self.choices = if kind == Kind::Choice { self.choices + 1 } else { 0 };
                self.flying.sent(link, hash, piece, now_ms);
                self.up.take(piece_bytes(active.len, piece));
                out.push(Output::Load { link, hash, id, piece });
            }
            Some(Next { id, piece: None, by_number }) => {
                let reason = if by_number || active.have.is_empty() { Not::Here } else { Not::Elsewhere };
                out.push(Output::Send(link, BlobFrame::Not { hash, id, reason }));
            }
            None => return false,
        }
        true
    }

    /// Forgets those that nobody has asked for longest, until there is room for one more of so many pieces; those last that
    /// somebody waits for. Whether there is.
    fn make_room(&mut self, pieces: u32, out: &mut Vec<Output>) -> bool {
        loop {
            let all: u64 = self.blobs.values().map(|active| u64::from(active.have.len())).sum();
            if self.blobs.len() < ACTIVE_MAX && all.saturating_add(pieces.into()) <= PIECES_ACTIVE_MAX {
                return true;
            }
            let idle = self.blobs.iter().filter(|(_, active)| active.download.is_none());
            let oldest = idle.min_by_key(|(_, active)| (active.upload.all_waiting().next().is_some(), active.used_ms));
            let Some(hash) = oldest.map(|(hash, _)| *hash) else { return false };
            self.give_up(&hash, out);
        }
    }

    /// Forgets a blob; those who wait for it are told, and ask anew.
    fn give_up(&mut self, hash: &BlobHash, out: &mut Vec<Output>) {
        let waiting = self.blobs.get(hash).into_iter().flat_map(|active| active.upload.all_waiting());
        out.extend(waiting.map(|(link, id)| Output::Send(link, BlobFrame::Not { hash: *hash, id, reason: Not::Here })));
        self.forget(hash);
    }

    fn forget(&mut self, hash: &BlobHash) {
        // What is on its way will not be told of.
        if let Some(active) = self.blobs.remove(hash) {
            active.allowed.keys().for_each(|link| self.flying.given_up(*link, *hash));
        }
        self.turns.iter_mut().for_each(|turns| turns.forget(hash));
    }

    /// Forgets what was said of a blob under another length, unless it is fetched under that.
    fn forget_other(&mut self, hash: &BlobHash, len: u64, out: &mut Vec<Output>) {
        if self.blobs.get(hash).is_some_and(|active| active.len != len && active.download.is_none()) {
            self.give_up(hash, out);
        }
    }
}

/// Notes whether somebody waits for pieces of a blob.
fn note(turns: &mut [Turns; 2], link: LinkId, hash: BlobHash, upload: &Upload) {
    for (turns, kind) in turns.iter_mut().zip([Kind::Choice, Kind::Number]) {
        turns.set(link, hash, upload.waiting(link, kind) > 0);
    }
}

impl Active {
    /// The space for whose sake a link has to do with it.
    fn space_for(&self, link: LinkId) -> PublicKey {
        space_of(&self.allowed, &self.asked, self.space, link)
    }

    /// Whether it counts what a link says that it has.
    fn is_believed(&self, link: LinkId) -> bool {
        self.taken_back.get(&link).is_none_or(|pieces| *pieces < TAKEN_BACK_MAX)
    }

    /// Whether nothing of it is here, nor will be.
    fn is_bare(&self) -> bool {
        self.have.is_empty() && self.download.is_none()
    }

    fn new(space: PublicKey, len: u64, have: Pieces, now_ms: u64) -> Self {
        Self {
            space,
            len,
            upload: Upload::new(have.len()),
            have,
            download: None,
            allowed: BTreeMap::new(),
            told: BTreeSet::new(),
            asked: BTreeMap::new(),
            taken_back: BTreeMap::new(),
            news: Vec::new(),
            used_ms: now_ms,
            reask_ms: 0,
        }
    }
}

/// The space for whose sake a link has to do with a blob: as a reader, or as who was asked for it; else the one that is known.
fn space_of(allowed: &BTreeMap<LinkId, PublicKey>, asked: &BTreeMap<LinkId, BTreeMap<PublicKey, bool>>, known: PublicKey, link: LinkId) -> PublicKey {
    let asked = || asked.get(&link).and_then(BTreeMap::first_key_value).map(|(space, _)| space);
    allowed.get(&link).or_else(asked).copied().unwrap_or(known)
}

/// Bytes of these pieces of a blob of a length; the last one may be short.
fn bytes_of(pieces: &Pieces, len: u64) -> u64 {
    let last = pieces.len().saturating_sub(1);
    let short = if pieces.contains(last) { PIECE_BYTES.saturating_sub(piece_bytes(len, last)) } else { 0 };
    (u64::from(pieces.count()) * PIECE_BYTES).saturating_sub(short)
}

/// Bytes of a piece of a blob of so many bytes.
fn piece_bytes(len: u64, piece: u32) -> u64 {
    len.saturating_sub(u64::from(piece) * PIECE_BYTES).min(PIECE_BYTES)
}

/// What is reckoned for a piece that is asked for: which one comes is not known where the other side chooses.
fn asked_bytes(len: u64) -> u64 {
    len.min(PIECE_BYTES)
}

fn send_wants(hash: BlobHash, wants: Vec<super::swarm::Want>, out: &mut Vec<Output>) {
    out.extend(wants.into_iter().map(|want| Output::Send(want.source, BlobFrame::Want { hash, id: want.id, any_of: want.any_of })));
}

/// What is here, as it is said to somebody who has to do with it for the sake of a space.
fn have_frame(space: PublicKey, hash: BlobHash, active: &Active, asks: bool) -> BlobFrame {
    BlobFrame::Have { space, hash, len: active.len, asks, pieces: active.have.ranges(HAVE_RANGES_MAX) }
}

/// The same answer for who may not have a blob and for one that is not here.
fn nothing(look: &Look) -> BlobFrame {
    BlobFrame::Have { space: look.space, hash: look.hash, len: look.len, asks: false, pieces: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Friends read a film over a line that takes a piece in eight seconds, and one who has a song asks to be shown a piece of that.
    #[test]
    fn what_is_only_to_be_shown_goes_at_once_or_not_now() {
        let (space, pieces) = (PublicKey::from_bytes([1; 32]), 40);
        let (film, song, len) = (BlobHash::from_bytes([2; 32]), BlobHash::from_bytes([3; 32]), u64::from(pieces) * PIECE_BYTES);
        let mut exchange = Exchange::new(7);
        exchange.handle(0, Input::Limits(Speeds { up: Some(16_384), down: None }));
        let asks = |exchange: &mut Exchange, link: LinkId, hash: BlobHash, has: Vec<(u32, u32)>, id: u64, any_of: Vec<(u32, u32)>, now_ms: u64| {
            let have = BlobFrame::Have { space, hash, len, asks: true, pieces: has };
            for output in exchange.handle(now_ms, Input::Frame(link, have)) {
                if let Output::Look(look) = output {
                    exchange.handle(now_ms, Input::Found { look, have: Some(Pieces::all(pieces)) });
                }
            }
            exchange.handle(now_ms, Input::Frame(link, BlobFrame::Want { hash, id, any_of }))
        };
        let loads = |out: &[Output]| -> Vec<(LinkId, u32)> {
            out.iter().filter_map(|one| if let Output::Load { link, piece, .. } = one { Some((*link, *piece)) } else { None }).collect()
        };
        let is_busy = |out: &[Output], to: LinkId| {
            let is_it = |one: &&Output| matches!(one, Output::Send(link, BlobFrame::Not { id: REQUEST, reason: Not::Busy, .. }) if *link == to);
            out.iter().filter(is_it).count() == 1
        };
        let all_but = |piece: u32| vec![(0, piece), (piece + 1, pieces)];
        // Nothing else goes: it is sent.
        let out = asks(&mut exchange, 9, song, all_but(5), REQUEST, vec![(5, 6)], 0);
        assert_eq!(loads(&out), [(9, 5)]);
        let came = BlobFrame::Have { space, hash: song, len, asks: false, pieces: vec![(5, 6)] };
        exchange.handle(10, Input::Frame(9, came));
        // Three friends want all of the film; what they get is told to have come as soon as it is sent.
        for link in 1..=3 {
            for id in 1..=8 {
                asks(&mut exchange, link, film, vec![], id, vec![(0, pieces)], 20);
            }
        }
        let (mut shown, mut busy) = (0, 0);
        for second in 1..120u64 {
            let mut out = exchange.handle(second * 1000, Input::Timer);
            for (link, piece) in loads(&out) {
                let came = BlobFrame::Have { space, hash: film, len, asks: false, pieces: vec![(piece, piece + 1)] };
                out.extend(exchange.handle(second * 1000 + 1, Input::Frame(link, came)));
                exchange.handle(second * 1000 + 2, Input::Frame(link, BlobFrame::Want { hash: film, id: 100 + second, any_of: vec![(0, pieces)] }));
            }
            let piece = (second % 40) as u32;
            let out = asks(&mut exchange, 10 + second, song, all_but(piece), REQUEST, vec![(piece, piece + 1)], second * 1000 + 3);
            let (is_shown, is_busy) = (loads(&out).contains(&(10 + second, piece)), is_busy(&out, 10 + second));
            assert!(is_shown != is_busy, "he is told at once: {second}");
            (shown, busy) = (shown + u32::from(is_shown), busy + u32::from(is_busy));
        }
        assert!(busy > 100 && shown < 20, "{busy} {shown}");
        // Who has not the rest of it is a reader like any other.
        let out = asks(&mut exchange, 500, song, vec![(0, 5)], REQUEST, vec![(5, 6)], 200_000);
        assert!(!is_busy(&out, 500));
    }

    #[test]
    fn who_cannot_read_it_now_has_it_as_before() {
        let (space, hash, len) = (PublicKey::from_bytes([1; 32]), BlobHash::from_bytes([2; 32]), 3 * PIECE_BYTES);
        let mut exchange = Exchange::new(7);
        let have = BlobFrame::Have { space, hash, len, asks: true, pieces: vec![] };
        for output in exchange.handle(0, Input::Frame(1, have)) {
            let Output::Look(look) = output else { continue };
            exchange.handle(0, Input::Found { look, have: Some(Pieces::all(3)) });
        }
        let wants = |exchange: &mut Exchange, id: u64| {
            let out = exchange.handle(0, Input::Frame(1, BlobFrame::Want { hash, id, any_of: vec![(1, 2)] }));
            matches!(out[..], [Output::Load { link: 1, piece: 1, .. }])
        };
        assert!(wants(&mut exchange, 1));
        let out = exchange.handle(0, Input::Later { link: 1, hash, id: 1, piece: 1 });
        assert!(matches!(out[..], [Output::Send(1, BlobFrame::Not { id: 1, reason: Not::Busy, .. })]), "{out:?}");
        assert!(wants(&mut exchange, 2), "it can be asked for again");
        exchange.handle(0, Input::Loaded { link: 1, hash, id: 2, piece: 1, slice: None });
        assert!(!wants(&mut exchange, 3), "what is gone is not here");
    }

    #[test]
    fn a_short_last_piece_counts_for_what_it_is() {
        let here = |len: u64, pieces: &[u32]| {
            let mut have = Pieces::none(u32::try_from(pieces_of(len)).expect("few"));
            for piece in pieces {
                have.insert(*piece);
            }
            bytes_of(&have, len)
        };
        let len = PIECE_BYTES + 1;
        assert_eq!([here(len, &[]), here(len, &[0]), here(len, &[1]), here(len, &[0, 1])], [0, PIECE_BYTES, 1, len]);
        assert_eq!([here(0, &[0]), here(1, &[0]), here(2 * PIECE_BYTES, &[1])], [0, 1, PIECE_BYTES]);
    }
}
