//! Which pieces of a blob to ask whom for, and which to send first: the part of the exchange that makes many readers
//! of one slow source as fast as they can be.
//!
//! A [`Download`] asks sources. Where only whole sources have what is missing, it lets them choose, and they send what
//! they have sent least often ([`Upload`]): so the first copies of all pieces leave the origin once, each to somebody
//! else. Everything else is asked for by number, rarest first, from who has it. Whoever has a piece says so at once and
//! is asked for it by the others.
//!
//! Deliberately not: no bytes, no clock, no network. The exchange with real links and the simulation drive the same
//! code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::pieces::Pieces;

/// Names a source or a reader: a link, for whoever drives this.
pub type Peer = u64;

/// Most stretches of pieces that one request names.
pub const RANGES_MAX: usize = 64;
/// Pieces asked of one source at once, at first.
const WINDOW_FIRST: u32 = 2;
/// The same at most: 8 MiB under way from one source.
const WINDOW_MAX: u32 = 64;
/// What one source should have been asked for, in time beside what a piece takes at best: less leaves its line idle,
/// more is out of date when it comes.
const WINDOW_MS: u64 = 500;
/// How long a source that has too much to do is left alone at first; twice as long each time that it says so again.
const BUSY_MS: u64 = 250;
/// The same at most.
const BUSY_MS_MAX: u64 = 4000;
/// Who was busy so often, one time after the other, counts as one that sends nothing: the first, if nothing ever came from
/// it.
const BUSY_TIMES_MAX: [u32; 2] = [3, 10];
/// How often sources are looked through that were busy and may not be any more.
const PAUSE_MS: u64 = 100;
/// After so many times the usual time for a piece it is asked for elsewhere, too.
const LATE: u64 = 3;
/// And not before.
const LATE_MS_MIN: u64 = 3000;
/// Pieces before a reader that are asked for in his order where others want the blob, too: if all asked for everything in
/// one order, all would have the same and nothing to give.
const AHEAD: u32 = 32;
/// Pieces right before each reader that come before all else, so that nobody waits for who began to read before him.
const READER_AHEAD: u32 = 8;
/// Who reads all of a blob of so many pieces gets those right before him first as long as he is at its beginning, too; of a smaller
/// one all comes soon, and it counts more that each piece leaves the origin once.
const BEGINS_FIRST_MIN: u32 = 16 * READER_AHEAD;
/// A piece there is asked for elsewhere, too, if it takes so long, and a few times what it takes there.
const READER_LATE_MS: u64 = 1000;
/// Where others want the blob, too, who has everything is asked for what others have only if he is so many times faster
/// than they are, or if they send nothing.
const FASTER: u64 = 4;
/// Who has a part feeds us, before it is known what who has everything would take, if a piece takes no longer.
const FED_MS_MAX: u64 = 3000;
/// How long a piece that was sent to one reader is not chosen for another, if the first does not say that it has come.
const COMING_MS: u64 = 10_000;
/// Candidates looked at for one choice, so that choices among very many pieces take no time.
const LOOK_MAX: usize = 1024;
/// Pieces that are looked at for one that somebody lets us choose: of 8 GiB all.
const CHOOSE_MAX: usize = 65_536;

/// A small random number generator; the seed is an argument, like time.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).checked_shr(16).unwrap_or(0) % n.max(1)
    }
}

/// What to ask a source for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Whom.
    pub source: Peer,
    /// Number of this request, unique for this download.
    pub id: u64,
    /// The source sends one of these.
    pub any_of: Vec<(u32, u32)>,
}

#[derive(Clone, Debug)]
struct Asked {
    /// The piece that was asked for; `None` where the source chooses.
    piece: Option<u32>,
    /// Whether it chooses among those before a reader.
    is_near: bool,
    /// Whether it is asked for elsewhere as if it were not: nothing ever came from this source.
    is_probe: bool,
    at_ms: u64,
}

/// A piece that was asked for by number.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// Of how many.
    count: u32,
    /// When last.
    at_ms: u64,
}

#[derive(Clone, Debug)]
struct Source {
    have: Pieces,
    asked: BTreeMap<u64, Asked>,
    window: u32,
    /// When the last piece came, and how long pieces take one after the other, averaged.
    last_ms: Option<u64>,
    gap_ms: u64,
    /// How long a piece takes from the question on, averaged and at best.
    takes_ms: u64,
    best_ms: Option<u64>,
    received: u64,
    /// Until when it is not asked: it was busy, or failed.
    rests_until_ms: u64,
    /// How often it was busy since it last sent something.
    was_busy: u32,
    /// Whether it chose nothing when it was let: what is missing others have, whom this peer does not know.
    chose_nothing: bool,
    /// Whether it is not counted as a holder: it sends nothing of what it says it has.
    is_doubted: bool,
    /// Until when it is not let choose among what is before a reader: it did so, and others have all of that.
    near_rests_until_ms: u64,
}

impl Source {
    /// Whether an answer should have been here by now.
    fn is_late(&self, asked: &Asked, now_ms: u64) -> bool {
        now_ms.saturating_sub(asked.at_ms) > (LATE * self.takes_ms).max(LATE_MS_MIN)
    }

    /// Whether nothing has come since it was asked for something that should be here by now.
    fn is_stuck(&self, now_ms: u64) -> bool {
        self.is_stuck_for((LATE * self.takes_ms).max(LATE_MS_MIN), now_ms)
    }

    /// Whether nothing has come since it was asked for something so long ago.
    fn is_stuck_for(&self, patience_ms: u64, now_ms: u64) -> bool {
        let oldest = self.asked.values().next().filter(|asked| now_ms.saturating_sub(asked.at_ms) > patience_ms);
        oldest.is_some_and(|asked| self.last_ms.is_none_or(|last_ms| last_ms <= asked.at_ms))
    }

    /// Whether it can be asked for more. What is late does not count, so that an answer that got lost holds nothing up; but one of
    /// which nothing comes is asked for one thing at a time.
    fn has_room(&self, now_ms: u64) -> bool {
        let open = self.asked.values().filter(|asked| !self.is_late(asked, now_ms)).count();
        let window = if self.is_stuck(now_ms) { 1 } else { self.window as usize };
        open < window && self.asked.len() < 2 * WINDOW_MAX as usize && self.rests_until_ms <= now_ms
    }
}

/// What only whole sources have.
enum Rare {
    /// Any of these.
    Some(Vec<(u32, u32)>),
    /// As much as is missing is on its way.
    Enough,
    /// All that is missing others have, too.
    Nothing,
}

/// One blob on its way here.
#[derive(Clone, Debug)]
pub struct Download {
    have: Pieces,
    sources: BTreeMap<Peer, Source>,
    /// Known holders of each piece.
    holders: Vec<u16>,
    /// Pieces asked for by number.
    under_way: BTreeMap<u32, UnderWay>,
    /// Pieces that are neither here nor under way.
    wanted: Pieces,
    /// Sources that have everything.
    wholes: BTreeSet<Peer>,
    /// Pieces wanted before all others, in this order: somebody reads there.
    first: Vec<std::ops::Range<u32>>,
    /// Whether he cannot wait: he wants a part of it.
    is_urgent: bool,
    /// Whether somebody says that it has another length.
    is_disputed: bool,
    /// Whether others want the blob now, too. Then whole sources are not asked in the order of reading, which would be
    /// the same order for all of them, and each piece would leave the origin as often as there are readers.
    is_crowded: bool,
    /// When all were asked last, and when the first of those who were left alone then can be asked again.
    asked_ms: u64,
    rested_ms: u64,
    next_id: u64,
    dice: Dice,
}

impl Download {
    /// Of a blob of which some pieces are here.
    #[must_use]
    pub fn new(have: Pieces, seed: u64) -> Self {
        let mut wanted = Pieces::none(have.len());
        for piece in have.missing_in(0..have.len()) {
            wanted.insert(piece);
        }
        Self {
            holders: vec![0; have.len() as usize],
            have,
            sources: BTreeMap::new(),
            under_way: BTreeMap::new(),
            wanted,
            wholes: BTreeSet::new(),
            first: Vec::new(),
            is_urgent: false,
            is_disputed: false,
            is_crowded: false,
            asked_ms: 0,
            rested_ms: u64::MAX,
            next_id: 1,
            dice: Dice::new(seed),
        }
    }

    /// The pieces that are here.
    #[must_use]
    pub fn have(&self) -> &Pieces {
        &self.have
    }

    /// Sources, with how many pieces came from each.
    pub fn sources(&self) -> impl Iterator<Item = (Peer, u64)> + '_ {
        self.sources.iter().map(|(peer, source)| (*peer, source.received))
    }

    /// Whether a source has anything that is missing here.
    #[must_use]
    pub fn is_useful(&self, source: Peer) -> bool {
        self.sources.get(&source).is_some_and(|source| source.have.has_beyond(&self.have))
    }

    /// Says which pieces somebody is waiting for, and whether he wants no others.
    pub fn read_first(&mut self, first: Vec<std::ops::Range<u32>>, is_urgent: bool) {
        self.first = first;
        self.is_urgent = is_urgent;
    }

    /// Says that others want the blob now, too.
    pub fn crowd(&mut self) {
        self.is_crowded = true;
    }

    /// Says that the length of the blob is in doubt: the last piece shows it.
    pub fn dispute(&mut self) {
        self.is_disputed = true;
    }

    /// Says that more may be asked for than before: who seemed slow may not be.
    pub fn freed(&mut self) {
        self.sources.values_mut().for_each(|source| source.window = source.window.max(WINDOW_FIRST));
    }

    /// A source has these pieces, beside those that it said before.
    pub fn source_has(&mut self, peer: Peer, pieces: &[(u32, u32)]) {
        let len = self.have.len();
        let source = self.sources.entry(peer).or_insert_with(|| Source {
            have: Pieces::none(len),
            asked: BTreeMap::new(),
            window: WINDOW_FIRST,
            last_ms: None,
            gap_ms: 0,
            takes_ms: 0,
            best_ms: None,
            received: 0,
            rests_until_ms: 0,
            was_busy: 0,
            chose_nothing: false,
            is_doubted: false,
            near_rests_until_ms: 0,
        });
        for (start, end) in pieces {
            for piece in source.have.missing_in(*start..*end).filter(|_| !source.is_doubted) {
                self.holders[piece as usize] = self.holders[piece as usize].saturating_add(1);
            }
            source.have.insert_range(*start..*end);
        }
        if source.have.is_all() {
            self.wholes.insert(peer);
        }
    }

    /// A source is gone; what it was asked for is asked of others. Answers how many requests that were.
    pub fn source_gone(&mut self, peer: Peer) -> usize {
        let Some(source) = self.sources.remove(&peer) else { return 0 };
        self.wholes.remove(&peer);
        for piece in source.have.iter().filter(|_| !source.is_doubted) {
            self.holders[piece as usize] = self.holders[piece as usize].saturating_sub(1);
        }
        let count = source.asked.len();
        for asked in source.asked.into_values() {
            self.not_asked(&asked);
        }
        count
    }

    /// How many pieces a source says that it has.
    #[must_use]
    pub fn claimed_by(&self, peer: Peer) -> u32 {
        self.sources.get(&peer).map_or(0, |source| source.have.count())
    }

    /// A source will not answer a request, and is left alone for a while. Says whether there was such a request.
    pub fn refused(&mut self, peer: Peer, id: u64, until_ms: u64) -> bool {
        let Some(source) = self.sources.get_mut(&peer) else { return false };
        source.rests_until_ms = until_ms;
        self.rested_ms = self.rested_ms.min(until_ms);
        let Some(asked) = source.asked.remove(&id) else { return false };
        if asked.is_near {
            source.near_rests_until_ms = until_ms + BUSY_MS;
        } else {
            source.chose_nothing |= asked.piece.is_none();
        }
        self.not_asked(&asked);
        true
    }

    /// A source has too much to do for a request: it is left alone for a while, longer each time. Says whether there was such a
    /// request.
    pub fn busy(&mut self, peer: Peer, id: u64, now_ms: u64) -> bool {
        let Some(source) = self.sources.get_mut(&peer) else { return false };
        let rest_ms = (BUSY_MS << source.was_busy.min(16)).min(BUSY_MS_MAX);
        source.was_busy += 1;
        source.window = (source.asked.len() as u32).clamp(1, source.window);
        // Not all at the same time again.
        let rest_ms = rest_ms / 2 + self.dice.below(rest_ms);
        self.refused(peer, id, now_ms + rest_ms)
    }

    /// All that was asked for and has not come: of whom, and under which number.
    pub fn requests(&self) -> impl Iterator<Item = (Peer, u64)> + '_ {
        self.sources.iter().flat_map(|(peer, source)| source.asked.keys().map(|id| (*peer, *id)))
    }

    /// The same of one source.
    pub fn requests_to(&self, peer: Peer) -> impl Iterator<Item = (Peer, u64)> + '_ {
        self.sources.get(&peer).into_iter().flat_map(move |source| source.asked.keys().map(move |id| (peer, *id)))
    }

    /// Other sources that were asked for a piece, too.
    pub fn also_asked(&self, piece: u32) -> impl Iterator<Item = Peer> + '_ {
        let is_asked = self.under_way.contains_key(&piece);
        let asked = move |source: &Source| source.asked.values().any(|asked| asked.piece == Some(piece));
        self.sources.iter().filter(move |(_, source)| is_asked && asked(source)).map(|(peer, _)| *peer)
    }

    /// Whether a source was asked for something with this number, of which this piece may be the answer.
    #[must_use]
    pub fn was_asked(&self, peer: Peer, id: u64, piece: u32) -> bool {
        self.sources.get(&peer).and_then(|source| source.asked.get(&id)).is_some_and(|asked| asked.piece.is_none_or(|asked| asked == piece))
    }

    /// A piece came that is good; says whether it is new.
    pub fn received(&mut self, peer: Peer, id: u64, piece: u32, now_ms: u64) -> bool {
        if let Some(source) = self.sources.get_mut(&peer)
            && let Some(asked) = source.asked.remove(&id)
        {
            source.received += 1;
            if std::mem::take(&mut source.is_doubted) {
                source.have.iter().for_each(|piece| self.holders[piece as usize] = self.holders[piece as usize].saturating_add(1));
            }
            source.chose_nothing = false;
            source.was_busy = 0;
            let average = |old: u64, new: u64| if old == 0 { new } else { (3 * old + new) / 4 };
            let took_ms = now_ms.saturating_sub(asked.at_ms).max(1);
            source.takes_ms = average(source.takes_ms, took_ms);
            let best_ms = *source.best_ms.insert(source.best_ms.unwrap_or(took_ms).min(took_ms));
            if let Some(last_ms) = source.last_ms.filter(|_| !source.asked.is_empty()) {
                source.gap_ms = average(source.gap_ms, now_ms.saturating_sub(last_ms).max(1));
                source.window = (((WINDOW_MS + best_ms) / source.gap_ms.max(1)) as u32).clamp(1, (source.window * 2).min(WINDOW_MAX));
            }
            source.last_ms = Some(now_ms);
            self.not_asked(&asked);
        }
        self.wanted.remove(piece);
        self.have.insert(piece)
    }

    /// A piece got lost here: what was stored is not good.
    pub fn lost(&mut self, piece: u32) {
        self.have.remove(piece);
        if !self.under_way.contains_key(&piece) {
            self.wanted.insert(piece);
        }
    }

    /// Something is not asked of a source any more.
    fn not_asked(&mut self, asked: &Asked) {
        if !asked.is_probe {
            self.forget(asked.piece);
        }
    }

    fn forget(&mut self, piece: Option<u32>) {
        if let Some(piece) = piece
            && let Some(under_way) = self.under_way.get_mut(&piece)
        {
            under_way.count -= 1;
            if under_way.count == 0 {
                self.under_way.remove(&piece);
                if !self.have.contains(piece) {
                    self.wanted.insert(piece);
                }
            }
        }
    }

    /// What to ask one source for now.
    pub fn ask_one(&mut self, peer: Peer, now_ms: u64) -> Vec<Want> {
        std::iter::from_fn(|| self.choose(peer, now_ms)).collect()
    }

    /// What to ask for now.
    pub fn ask(&mut self, now_ms: u64) -> Vec<Want> {
        self.ask_some(usize::MAX, now_ms)
    }

    /// The same, at most so much.
    pub fn ask_some(&mut self, max: usize, now_ms: u64) -> Vec<Want> {
        self.asked_ms = now_ms;
        self.doubt(now_ms);
        let rests = self.sources.values().map(|source| source.rests_until_ms).filter(|until_ms| *until_ms > now_ms);
        self.rested_ms = rests.min().unwrap_or(u64::MAX);
        self.ask_for(max, now_ms)
    }

    /// Does not count on those any more of whom nothing ever came, while something came from others: what they were asked for is
    /// asked of others as if it were not, and they are asked for one thing now and then.
    fn doubt(&mut self, now_ms: u64) {
        // On slow lines all take long.
        let takes_ms = self.sources.values().map(|source| source.takes_ms).max().unwrap_or(0);
        let patience_ms = (LATE * takes_ms).max(LATE_MS_MIN);
        let mut back = Vec::new();
        let partials = self.sources.values_mut().filter(|source| source.received == 0 && !source.have.is_all());
        for source in partials.filter(|source| source.is_stuck(now_ms)) {
            if !std::mem::replace(&mut source.is_doubted, true) {
                source.have.iter().for_each(|piece| self.holders[piece as usize] = self.holders[piece as usize].saturating_sub(1));
            }
            if takes_ms > 0 && source.is_stuck_for(patience_ms, now_ms) {
                for asked in source.asked.values_mut().filter(|asked| !asked.is_probe) {
                    asked.is_probe = true;
                    back.extend(asked.piece);
                }
            }
        }
        back.into_iter().for_each(|piece| self.forget(Some(piece)));
    }

    /// What to ask for instead of one thing that does not come.
    pub fn ask_again(&mut self, now_ms: u64) -> Vec<Want> {
        self.ask_for(1, now_ms)
    }

    fn ask_for(&mut self, max: usize, now_ms: u64) -> Vec<Want> {
        let mut wants = Vec::new();
        if self.have.is_all() {
            return wants;
        }
        let mut peers: Vec<Peer> = self.sources.iter().filter(|(_, source)| source.has_room(now_ms)).map(|(peer, _)| *peer).collect();
        // In another order each time, so that no source is always asked last.
        for at in (1..peers.len()).rev() {
            peers.swap(at, self.dice.below(at as u64 + 1) as usize);
        }
        // What those can send who have a part of it is not asked of those who have everything: they are wanted by all.
        let (wholes, partials): (Vec<Peer>, Vec<Peer>) = peers.into_iter().partition(|peer| self.wholes.contains(peer));
        for mut peers in [partials, wholes] {
            // One after the other, so that what is rare is spread over all.
            while !peers.is_empty() {
                peers.retain(|peer| {
                    if wants.len() >= max {
                        return false;
                    }
                    let want = self.choose(*peer, now_ms);
                    let is_asked = want.is_some();
                    wants.extend(want);
                    is_asked
                });
            }
        }
        wants
    }

    /// When to ask again although nothing happened.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        if self.have.is_all() || self.sources.is_empty() {
            return None;
        }
        // Counted from when all were asked last, not from now: things happen all the time.
        let late_ms = if self.is_for_many() { LATE_MS_MIN } else { READER_LATE_MS };
        Some(self.rested_ms.max(self.asked_ms + PAUSE_MS).min(self.asked_ms + late_ms / 2))
    }

    /// Whether others want it, too, and nobody here waits for a part of it: then it counts more that nothing is sent twice.
    fn is_for_many(&self) -> bool {
        self.is_crowded && !self.is_urgent
    }

    fn choose(&mut self, peer: Peer, now_ms: u64) -> Option<Want> {
        let source = self.sources.get(&peer)?;
        if !source.has_room(now_ms) {
            return None;
        }
        let is_shared = self.is_crowded && source.have.is_all();
        let late = self.late_for_reader(peer, now_ms);
        let begins_first = self.is_urgent || self.have.len() >= BEGINS_FIRST_MIN;
        let last = self.have.len().checked_sub(1).filter(|last| late.is_none() && self.wanted.contains(*last) && source.have.contains(*last));
        let is_shown_now = last.is_some() && self.is_disputed;
        let near = if late.is_none() && !is_shown_now && is_shared && begins_first { self.near(peer, now_ms) } else { None };
        let in_order = late.is_none() && near.is_none() && (self.is_urgent || !is_shared);
        // The last piece comes right behind the first one that is asked for: until then the length is what somebody says. Where many
        // want it at once, all would ask for the same.
        let is_begun = !self.under_way.is_empty() || !self.have.is_empty() || self.first.is_empty();
        let last = last.filter(|_| self.is_disputed || in_order && is_begun && !self.is_crowded);
        let ahead = if self.is_for_many() { AHEAD } else { u32::MAX };
        let up_to = |ahead: u32| move |range: &std::ops::Range<u32>| range.start..range.end.min(range.start.saturating_add(ahead));
        let reads = || self.first.iter().filter(|_| in_order);
        let first = reads().map(up_to(READER_AHEAD.min(ahead))).chain(reads().map(up_to(ahead)));
        // What it may choose, and will, is not asked for by number as well.
        let chooses = is_shared && self.is_urgent && source.near_rests_until_ms <= now_ms;
        let is_other = |piece: &u32| !chooses || !self.is_rare(*piece);
        let in_range =
            |range: std::ops::Range<u32>| source.have.both_from(&self.wanted, range.start).take_while(|piece| range.contains(piece)).find(is_other);
        let read = late.or(last).or_else(|| first.filter_map(in_range).next());
        let is_near = near.is_some();
        let lets_choose = read.is_none() && source.have.is_all() && !source.chose_nothing;
        let rare = match near {
            Some(near) => Rare::Some(near),
            None if lets_choose => self.only_at_wholes(peer, now_ms),
            None => Rare::Nothing,
        };
        let (piece, any_of) = match (read, rare) {
            (Some(piece), _) => (Some(piece), Vec::new()),
            (None, Rare::Some(any_of)) => (None, any_of),
            // Whatever is asked for by number now would come twice.
            (None, Rare::Enough) => return None,
            (None, Rare::Nothing) if self.is_fed_beside(peer, now_ms) => return None,
            (None, Rare::Nothing) => (Some(self.rarest(peer).or_else(|| self.late(peer, now_ms))?), Vec::new()),
        };
        let id = self.next_id;
        self.next_id += 1;
        // Who gives nothing while others do keeps nothing from being asked of these.
        let source = self.sources.get(&peer)?;
        let is_probe = source.is_doubted && self.sources.values().any(|source| source.received > 0);
        let any_of = match piece {
            Some(piece) if is_probe && source.asked.values().any(|asked| asked.piece == Some(piece)) => return None,
            Some(piece) if is_probe => vec![(piece, piece + 1)],
            Some(piece) => {
                let under_way = self.under_way.entry(piece).or_insert(UnderWay { count: 0, at_ms: now_ms });
                *under_way = UnderWay { count: under_way.count + 1, at_ms: now_ms };
                self.wanted.remove(piece);
                vec![(piece, piece + 1)]
            }
            None => any_of,
        };
        self.sources.get_mut(&peer)?.asked.insert(id, Asked { piece, is_near, is_probe, at_ms: now_ms });
        Some(Want { source: peer, id, any_of })
    }

    /// What is missing before a reader and only whole sources have, for one of them to choose of: so each of many readers is sent
    /// something else of it, and soon has the rest from the others. Nothing, if as much of it is on its way.
    fn near(&self, peer: Peer, now_ms: u64) -> Option<Vec<(u32, u32)>> {
        let source = self.sources.get(&peer).filter(|source| source.near_rests_until_ms <= now_ms)?;
        // As many that each of them can be sent something else. Who reads all of it gets the beginning so, and then what comes.
        let ahead = AHEAD.max(4 * self.sources.len() as u32);
        let end = |range: &std::ops::Range<u32>| match self.is_urgent {
            true => range.end.min(range.start.saturating_add(ahead)),
            false => range.end.min(READER_AHEAD),
        };
        let missing = self.first.iter().flat_map(|range| self.wanted.iter_from(range.start).take_while(move |piece| *piece < end(range)));
        let found: Vec<u32> = missing.filter(|piece| self.is_rare(*piece) && source.have.contains(*piece)).collect();
        let is_coming = |source: &Source| source.asked.values().filter(|asked| asked.is_near && !source.is_late(asked, now_ms)).count();
        let coming: usize = self.wholes.iter().filter_map(|whole| self.sources.get(whole)).map(is_coming).sum();
        let mut near = stretches(found);
        near.truncate(RANGES_MAX);
        (near.iter().map(|(start, end)| (end - start) as usize).sum::<usize>() > coming).then_some(near)
    }

    /// Whether nobody is known to have a piece but who has everything.
    fn is_rare(&self, piece: u32) -> bool {
        self.holders[piece as usize] <= self.wholes.len() as u16
    }

    /// A piece right before a reader, or the one that shows the length, that was asked for elsewhere and takes longer than it would from
    /// this source.
    fn late_for_reader(&self, peer: Peer, now_ms: u64) -> Option<u32> {
        let source = self.sources.get(&peer).filter(|source| !source.is_stuck(now_ms))?;
        let least_ms = if source.takes_ms == 0 || self.is_for_many() { LATE_MS_MIN } else { READER_LATE_MS };
        let patience_ms = least_ms.max(LATE * source.takes_ms);
        let near = self.first.iter().flat_map(|range| range.start..range.end.min(range.start.saturating_add(READER_AHEAD)));
        let mut late = near
            .chain(self.have.len().checked_sub(1))
            .filter(|piece| source.have.contains(*piece) && self.is_asked_long_ago(*piece, now_ms, patience_ms));
        late.find(|piece| !source.asked.values().any(|asked| asked.piece == Some(*piece)))
    }

    /// Whether a piece is under way, was not asked for within this time, and may be asked for once more.
    fn is_asked_long_ago(&self, piece: u32, now_ms: u64, patience_ms: u64) -> bool {
        let under_way = self.under_way.get(&piece).filter(|_| !self.have.contains(piece));
        under_way.is_some_and(|under_way| now_ms.saturating_sub(under_way.at_ms) > patience_ms)
    }

    /// Whether a source has everything and is left to others, because those that have a part send to us not much slower, or
    /// will: who has too much to do for once has asked for nothing but patience.
    fn is_fed_beside(&self, peer: Peer, now_ms: u64) -> bool {
        let Some(own) = self.sources.get(&peer).filter(|own| self.is_crowded && own.have.is_all()) else { return false };
        let takes_ms_max = if own.takes_ms == 0 { FED_MS_MAX } else { FASTER * own.takes_ms };
        // On slow lines all take long.
        let stuck_ms = (LATE * own.takes_ms).max(LATE_MS_MIN);
        let is_as_fast = |source: &Source| source.takes_ms <= takes_ms_max && !source.is_stuck_for(stuck_ms.max(LATE * source.takes_ms), now_ms);
        let mut partials = self.sources.values().filter(|source| !source.have.is_all() && is_as_fast(source));
        let is_busy = |source: &Source| {
            let max = BUSY_TIMES_MAX[usize::from(source.received > 0)];
            (1..=max).contains(&source.was_busy) && source.rests_until_ms > now_ms
        };
        partials.any(|source| is_busy(source) || !source.asked.is_empty())
    }

    /// What is missing and only whole sources have: this one's share of it, or what is left of the others' shares.
    fn only_at_wholes(&mut self, peer: Peer, now_ms: u64) -> Rare {
        let wholes = self.wholes.len() as u16;
        let share = self.wholes.iter().position(|other| *other == peer).unwrap_or(0) as u32;
        let chosen_by = |peer: &Peer| {
            let Some(source) = self.sources.get(peer) else { return 0 };
            source.asked.values().filter(|asked| asked.piece.is_none() && !source.is_late(asked, now_ms)).count()
        };
        let start = self.dice.below(u64::from(self.have.len())) as u32;
        let is_rare = |piece: &u32| self.is_rare(*piece);
        let mut found: Vec<u32> = self.wanted.both_from(&self.wanted, start).filter(is_rare).take(LOOK_MAX).collect();
        if found.is_empty() {
            return Rare::Nothing;
        }
        if found.len() <= self.wholes.iter().map(chosen_by).sum() {
            return Rare::Enough;
        }
        let is_own = |piece: &u32| *piece % u32::from(wholes.max(1)) == share;
        if found.iter().filter(|piece| is_own(piece)).count() > chosen_by(&peer) {
            found.retain(is_own);
        }
        let mut ranges = stretches(found);
        // As many as fit, from anywhere.
        while ranges.len() > RANGES_MAX {
            let at = self.dice.below(ranges.len() as u64) as usize;
            ranges.swap_remove(at);
        }
        ranges.sort_unstable();
        Rare::Some(ranges)
    }

    /// The piece with the fewest holders that this source has, is missing and not under way.
    fn rarest(&mut self, peer: Peer) -> Option<u32> {
        let start = self.dice.below(u64::from(self.have.len())) as u32;
        let source = self.sources.get(&peer)?;
        source.have.both_from(&self.wanted, start).take(LOOK_MAX).min_by_key(|piece| self.holders[*piece as usize])
    }

    /// A piece that was asked for elsewhere and does not come.
    fn late(&self, peer: Peer, now_ms: u64) -> Option<u32> {
        if !self.wanted.is_empty() {
            return None;
        }
        let own = self.sources.get(&peer).filter(|own| !own.is_stuck(now_ms))?;
        let is_own = |piece: u32| own.asked.values().any(|asked| asked.piece == Some(piece));
        let others = self.sources.iter().filter(|(other, _)| **other != peer).map(|(_, source)| source);
        let late = others.flat_map(|source| source.asked.values().filter(|asked| source.is_late(asked, now_ms)));
        let mut pieces = late.filter_map(|asked| asked.piece).filter(|piece| own.have.contains(*piece));
        // On slow lines all take long.
        let patience_ms = (LATE * own.takes_ms).max(LATE_MS_MIN);
        pieces.find(|piece| self.is_asked_long_ago(*piece, now_ms, patience_ms) && !is_own(*piece))
    }
}

/// The stretches that pieces are in.
fn stretches(mut pieces: Vec<u32>) -> Vec<(u32, u32)> {
    pieces.sort_unstable();
    pieces.dedup();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for piece in pieces {
        match ranges.last_mut() {
            Some((_, end)) if *end == piece => *end += 1,
            _ => ranges.push((piece, piece + 1)),
        }
    }
    ranges
}

/// What to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The request that it answers.
    pub id: u64,
    /// The piece; `None` where there is none to send.
    pub piece: Option<u32>,
    /// Whether just one piece was asked for.
    pub by_number: bool,
}

/// What somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any of several pieces.
    Choice,
    /// Just one.
    Number,
}

impl Kind {
    pub(super) fn of(any_of: &[(u32, u32)]) -> Self {
        let count: u64 = any_of.iter().map(|(start, end)| u64::from(end.saturating_sub(*start))).sum();
        if count == 1 { Self::Number } else { Self::Choice }
    }
}

/// What readers of one blob have and want. It takes memory for what was asked for and sent, however long the blob is.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    readers: BTreeMap<Peer, Reader>,
    /// What some reader has.
    held: Pieces,
    /// What was sent or is asked for.
    pieces: BTreeMap<u32, Given>,
}

/// What is known of a piece here.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    /// How often it was sent.
    sent: u16,
    /// When last, if it may be on its way still.
    sent_ms: Option<u64>,
    /// Requests for just this piece that wait.
    asked: u16,
}

impl Given {
    /// Whether it is on its way to somebody.
    fn is_coming(&self, now_ms: u64) -> bool {
        self.sent_ms.is_some_and(|sent_ms| now_ms.saturating_sub(sent_ms) < COMING_MS)
    }
}

#[derive(Clone, Debug, Default)]
struct Reader {
    have: Pieces,
    /// Requests for a piece of our choice, and for just one.
    choices: VecDeque<(u64, Vec<(u32, u32)>)>,
    numbers: VecDeque<(u64, u32)>,
    /// Sent, and not known to have arrived.
    under_way: BTreeSet<u32>,
}

/// Requests of one reader that wait; more are refused.
pub const WANTS_MAX: usize = 2 * WINDOW_MAX as usize;

impl Upload {
    /// Of a blob of so many pieces.
    #[must_use]
    pub fn new(len: u32) -> Self {
        Self { readers: BTreeMap::new(), held: Pieces::none(len), pieces: BTreeMap::new() }
    }

    /// A reader has these pieces, beside those that it said before. Requests for them that wait are given up; their
    /// numbers come back.
    pub fn reader_has(&mut self, peer: Peer, pieces: &[(u32, u32)]) -> Vec<u64> {
        let len = self.held.len();
        let reader = self.readers.entry(peer).or_insert_with(|| Reader { have: Pieces::none(len), ..Reader::default() });
        for (start, end) in pieces {
            reader.have.insert_range(*start..*end);
            self.held.insert_range(*start..*end);
        }
        let is_there = |piece: &u32| pieces.iter().any(|(start, end)| (*start..*end).contains(piece));
        // What has come there is not on its way any more, also when he goes and takes it along.
        reader.under_way.retain(|piece| {
            if is_there(piece) {
                landed(&mut self.pieces, *piece);
            }
            !is_there(piece)
        });
        let mut given_up = Vec::new();
        reader.numbers.retain(|(id, piece)| {
            if is_there(piece) {
                given_up.push(*id);
                less(&mut self.pieces, *piece);
            }
            !is_there(piece)
        });
        given_up
    }

    /// Whether a reader said that it has a piece.
    #[must_use]
    pub fn has(&self, peer: Peer, piece: u32) -> bool {
        self.readers.get(&peer).is_some_and(|reader| reader.have.contains(piece))
    }

    /// Whether a reader said that it has everything.
    #[must_use]
    pub fn has_all(&self, peer: Peer) -> bool {
        self.readers.get(&peer).is_some_and(|reader| reader.have.is_all())
    }

    /// What a reader said that it has.
    #[must_use]
    pub fn has_of(&self, peer: Peer) -> Option<&Pieces> {
        self.readers.get(&peer).map(|reader| &reader.have)
    }

    /// A reader is gone.
    pub fn reader_gone(&mut self, peer: Peer) {
        if let Some(reader) = self.readers.remove(&peer) {
            reader.under_way.iter().for_each(|piece| landed(&mut self.pieces, *piece));
            reader.numbers.iter().for_each(|(_, piece)| less(&mut self.pieces, *piece));
            if !reader.have.is_empty() {
                self.held = Pieces::none(self.held.len());
                self.readers.values().for_each(|reader| self.held.insert_all(&reader.have));
            }
        }
    }

    /// A reader wants a piece; `false` if it has too many wishes.
    pub fn wanted(&mut self, peer: Peer, id: u64, any_of: Vec<(u32, u32)>) -> bool {
        let len = self.held.len();
        let reader = self.readers.entry(peer).or_insert_with(|| Reader { have: Pieces::none(len), ..Reader::default() });
        let fits = reader.choices.len() + reader.numbers.len() < WANTS_MAX;
        if fits {
            match (Kind::of(&any_of), any_of.iter().find(|(start, end)| start < end)) {
                (Kind::Number, Some((piece, _))) => {
                    reader.numbers.push_back((id, *piece));
                    if *piece < len {
                        let given = self.pieces.entry(*piece).or_default();
                        given.asked = given.asked.saturating_add(1);
                    }
                }
                _ => reader.choices.push_back((id, any_of)),
            }
        }
        fits
    }

    /// A reader does not want any more what it asked for under a number, and keeps nothing that is on its way.
    pub fn unwanted(&mut self, peer: Peer, id: u64) {
        let Some(reader) = self.readers.get_mut(&peer) else { return };
        reader.choices.retain(|(other, _)| *other != id);
        std::mem::take(&mut reader.under_way).into_iter().for_each(|piece| landed(&mut self.pieces, piece));
        let pieces = &mut self.pieces;
        reader.numbers.retain(|(other, piece)| {
            if *other == id {
                less(pieces, *piece);
            }
            *other != id
        });
    }

    /// Whether what somebody asks for others have by now, or will soon: they were sent it, or wait for it.
    #[must_use]
    pub fn is_elsewhere(&self, any_of: &[(u32, u32)], now_ms: u64) -> bool {
        let is_given = |piece: &u32| self.pieces.get(piece).is_some_and(|given| given.is_coming(now_ms) || given.asked > 0);
        any_of.first().is_some_and(|(start, _)| self.held.contains(*start) || is_given(start))
    }

    /// All who wait for something, with the number of what they asked for first.
    pub fn all_waiting(&self) -> impl Iterator<Item = (Peer, u64)> + '_ {
        let first = |reader: &Reader| reader.numbers.front().map(|(id, _)| *id).or_else(|| reader.choices.front().map(|(id, _)| *id));
        self.readers.iter().filter_map(move |(peer, reader)| Some((*peer, first(reader)?)))
    }

    /// How many pieces a reader waits for, of our choice or by number.
    #[must_use]
    pub fn waiting(&self, peer: Peer, kind: Kind) -> usize {
        self.readers.get(&peer).map_or(0, |reader| match kind {
            Kind::Choice => reader.choices.len(),
            Kind::Number => reader.numbers.len(),
        })
    }

    /// What to send a reader next; `None` if it has to wait until what is on its way to others has come there.
    pub fn next(&mut self, peer: Peer, kind: Kind, have: &Pieces, now_ms: u64, dice: &mut Dice) -> Option<Next> {
        let reader = self.readers.get_mut(&peer)?;
        let (id, found) = match kind {
            Kind::Number => {
                // Asked for by number it is sent again, whatever was sent before.
                let (id, piece) = reader.numbers.pop_front()?;
                less(&mut self.pieces, piece);
                (id, Some(piece).filter(|piece| have.contains(*piece)))
            }
            Kind::Choice => {
                let (_, any_of) = reader.choices.front()?;
                let total: u64 = any_of.iter().map(|(start, end)| u64::from(end.saturating_sub(*start))).sum();
                // From anywhere on, so that two sources do not choose alike. What others have by now comes from them.
                let skip = dice.below(total) as usize;
                let len = have.len();
                // How many there are somebody says: of very many some are looked at.
                let all = || any_of.iter().flat_map(|(start, end)| *start..(*end).min(len));
                let given = |piece: &u32| self.pieces.get(piece).copied().unwrap_or_default();
                // What somebody says he has, and never had from here, who asks may know better.
                let is_elsewhere = |piece: &u32| self.held.contains(*piece) && given(piece).sent > 0;
                let is_good = |piece: &u32| have.contains(*piece) && !is_elsewhere(piece) && !reader.under_way.contains(piece);
                let good = all().skip(skip).chain(all().take(skip)).take(CHOOSE_MAX).filter(is_good).take(LOOK_MAX);
                let is_coming = |piece: &u32| given(piece).is_coming(now_ms);
                let found = good.min_by_key(|piece| (is_coming(piece), given(piece).sent));
                if found.as_ref().is_some_and(is_coming) {
                    return None;
                }
                let (id, _) = reader.choices.pop_front()?;
                (id, found)
            }
        };
        if let Some(piece) = found {
            let given = self.pieces.entry(piece).or_default();
            (given.sent, given.sent_ms) = (given.sent.saturating_add(1), Some(now_ms));
            reader.under_way.insert(piece);
        }
        Some(Next { id, piece: found, by_number: kind == Kind::Number })
    }
}

/// One less asks for a piece.
fn less(pieces: &mut BTreeMap<u32, Given>, piece: u32) {
    if let Some(given) = pieces.get_mut(&piece) {
        given.asked = given.asked.saturating_sub(1);
        if given.asked == 0 && given.sent == 0 {
            pieces.remove(&piece);
        }
    }
}

/// A piece is not on its way any more.
fn landed(pieces: &mut BTreeMap<u32, Given>, piece: u32) {
    if let Some(given) = pieces.get_mut(&piece) {
        given.sent_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_takes_memory_and_not_how_long_somebody_says_that_it_is() {
        let mut upload = Upload::new(1 << 22);
        assert!(upload.wanted(1, 1, vec![(7, 8)]) && upload.wanted(1, 2, vec![(9, 10)]) && upload.wanted(1, 3, vec![(u32::MAX - 1, u32::MAX)]));
        assert!(upload.is_elsewhere(&[(7, 8)], 0) && !upload.is_elsewhere(&[(8, 9)], 0));
        assert_eq!(upload.reader_has(1, &[(9, 10)]), [2]);
        assert!(upload.is_elsewhere(&[(9, 10)], 0), "he has it");
        upload.unwanted(1, 3);
        assert_eq!((upload.pieces.keys().copied().collect::<Vec<_>>(), upload.all_waiting().collect::<Vec<_>>()), (vec![7], vec![(1, 1)]));
        upload.reader_gone(1);
        assert!(upload.pieces.is_empty() && upload.held.is_empty() && !upload.is_elsewhere(&[(9, 10)], 0));
    }

    #[test]
    fn what_somebody_lets_us_choose_of_takes_no_longer_than_for_a_large_file() {
        let len = 1 << 22;
        let mut have = Pieces::none(len);
        have.insert(len - 1);
        let found = (1..100).filter(|seed| {
            let mut upload = Upload::new(len);
            assert!(upload.wanted(1, 1, vec![(0, len)]));
            let next = upload.next(1, Kind::Choice, &have, 0, &mut Dice::new(*seed)).expect("it is answered");
            assert_eq!(next.id, 1);
            next.piece == Some(len - 1)
        });
        // The one that is here is among those that were looked at for one of 64.
        assert!((1..10).contains(&found.count()));
        let mut upload = Upload::new(CHOOSE_MAX as u32);
        assert!(upload.wanted(1, 1, vec![(0, CHOOSE_MAX as u32)]));
        let mut have = Pieces::none(CHOOSE_MAX as u32);
        have.insert(7);
        assert_eq!(upload.next(1, Kind::Choice, &have, 0, &mut Dice::new(1)).and_then(|next| next.piece), Some(7));
    }

    #[test]
    fn what_one_reader_has_is_still_held_when_another_goes() {
        let mut upload = Upload::new(100);
        upload.reader_has(1, &[(0, 60)]);
        upload.reader_has(2, &[(50, 100)]);
        upload.reader_gone(1);
        let is_held = |piece: u32| upload.is_elsewhere(&[(piece, piece + 1)], 0);
        assert!(!is_held(49) && is_held(50) && is_held(99));
    }
}
