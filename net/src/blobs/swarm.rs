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
/// What one source should have been asked for, in time: less leaves its line idle, more is out of date when it comes.
const WINDOW_MS: u64 = 500;
/// After so many times the usual time for a piece it is asked for elsewhere, too.
const LATE: u64 = 3;
/// And not before.
const LATE_MS_MIN: u64 = 1500;
/// Candidates looked at for one choice, so that choices among very many pieces take no time.
const LOOK_MAX: usize = 1024;

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
    /// How long a piece takes from the question on, averaged.
    takes_ms: u64,
    received: u64,
    /// Until when it is not asked: it was busy, or failed.
    rests_until_ms: u64,
    /// Whether it chose nothing when it was let: what is missing others have, whom this peer does not know.
    chose_nothing: bool,
}

/// One blob on its way here.
#[derive(Clone, Debug)]
pub struct Download {
    have: Pieces,
    sources: BTreeMap<Peer, Source>,
    /// Known holders of each piece.
    holders: Vec<u16>,
    /// Pieces asked for by number, with how often they are under way.
    under_way: BTreeMap<u32, u32>,
    /// Pieces that are neither here nor under way.
    wanted: Pieces,
    /// Sources that have everything.
    wholes: BTreeSet<Peer>,
    /// Pieces wanted before all others, in this order: somebody reads there.
    first: Vec<std::ops::Range<u32>>,
    next_id: u64,
    dice: Dice,
}

impl Download {
    /// Of a blob of which some pieces are here.
    #[must_use]
    pub fn new(have: Pieces, seed: u64) -> Self {
        let mut wanted = Pieces::none(have.len());
        for piece in (0..have.len()).filter(|piece| !have.contains(*piece)) {
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
        self.sources.get(&source).is_some_and(|source| source.have.iter().any(|piece| !self.have.contains(piece)))
    }

    /// Says which pieces somebody is waiting for.
    pub fn read_first(&mut self, first: Vec<std::ops::Range<u32>>) {
        self.first = first;
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
            received: 0,
            rests_until_ms: 0,
            chose_nothing: false,
        });
        for (start, end) in pieces {
            for piece in *start..(*end).min(len) {
                if source.have.insert(piece) {
                    self.holders[piece as usize] = self.holders[piece as usize].saturating_add(1);
                }
            }
        }
        if source.have.is_all() {
            self.wholes.insert(peer);
        }
    }

    /// A source is gone; what it was asked for is asked of others.
    pub fn source_gone(&mut self, peer: Peer) {
        let Some(source) = self.sources.remove(&peer) else { return };
        self.wholes.remove(&peer);
        for piece in source.have.iter() {
            self.holders[piece as usize] = self.holders[piece as usize].saturating_sub(1);
        }
        for asked in source.asked.into_values() {
            self.forget(asked.piece);
        }
    }

    /// A source will not answer a request, and is left alone for a while.
    pub fn refused(&mut self, peer: Peer, id: u64, until_ms: u64) {
        let Some(source) = self.sources.get_mut(&peer) else { return };
        source.rests_until_ms = until_ms;
        if let Some(asked) = source.asked.remove(&id) {
            source.chose_nothing |= asked.piece.is_none();
            self.forget(asked.piece);
        }
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
            source.chose_nothing = false;
            let average = |old: u64, new: u64| if old == 0 { new } else { (3 * old + new) / 4 };
            source.takes_ms = average(source.takes_ms, now_ms.saturating_sub(asked.at_ms).max(1));
            if let Some(last_ms) = source.last_ms.filter(|_| !source.asked.is_empty()) {
                source.gap_ms = average(source.gap_ms, now_ms.saturating_sub(last_ms).max(1));
                source.window = ((WINDOW_MS / source.gap_ms.max(1)) as u32).clamp(1, (source.window * 2).min(WINDOW_MAX));
            }
            source.last_ms = Some(now_ms);
            self.forget(asked.piece);
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

    fn forget(&mut self, piece: Option<u32>) {
        if let Some(piece) = piece
            && let Some(count) = self.under_way.get_mut(&piece)
        {
            *count -= 1;
            if *count == 0 {
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
        let mut wants = Vec::new();
        if self.have.is_all() {
            return wants;
        }
        let has_room = |source: &Source| source.asked.len() < source.window as usize && source.rests_until_ms <= now_ms;
        let mut peers: Vec<Peer> = self.sources.iter().filter(|(_, source)| has_room(source)).map(|(peer, _)| *peer).collect();
        // In another order each time, so that no source is always asked last.
        for at in (1..peers.len()).rev() {
            peers.swap(at, self.dice.below(at as u64 + 1) as usize);
        }
        // One after the other, so that what is rare is spread over all.
        loop {
            let before = wants.len();
            peers.retain(|peer| match self.choose(*peer, now_ms) {
                Some(want) => {
                    wants.push(want);
                    true
                }
                None => false,
            });
            if wants.len() == before {
                return wants;
            }
        }
    }

    /// When to ask again although nothing happened.
    #[must_use]
    pub fn next_ms(&self, now_ms: u64) -> Option<u64> {
        if self.have.is_all() || self.sources.is_empty() {
            return None;
        }
        Some(now_ms + LATE_MS_MIN / 2)
    }

    fn choose(&mut self, peer: Peer, now_ms: u64) -> Option<Want> {
        let source = self.sources.get(&peer)?;
        if source.asked.len() >= source.window as usize || source.rests_until_ms > now_ms {
            return None;
        }
        let read = self.first.iter().flat_map(Clone::clone).take(LOOK_MAX).find(|piece| source.have.contains(*piece) && self.wanted.contains(*piece));
        let any_of = if read.is_some() || !source.have.is_all() || source.chose_nothing { Vec::new() } else { self.only_at_wholes(peer) };
        let piece = match read {
            None if any_of.is_empty() => Some(self.rarest(peer).or_else(|| self.late(peer, now_ms))?),
            read => read,
        };
        let id = self.next_id;
        self.next_id += 1;
        let any_of = match piece {
            Some(piece) => {
                *self.under_way.entry(piece).or_default() += 1;
                self.wanted.remove(piece);
                vec![(piece, piece + 1)]
            }
            None => any_of,
        };
        self.sources.get_mut(&peer)?.asked.insert(id, Asked { piece, at_ms: now_ms });
        Some(Want { source: peer, id, any_of })
    }

    /// What is missing and only whole sources have, as far as it is this source's share of that; nothing if as much is
    /// under way already.
    fn only_at_wholes(&mut self, peer: Peer) -> Vec<(u32, u32)> {
        let wholes = self.wholes.len() as u16;
        let share = self.wholes.iter().position(|other| *other == peer).unwrap_or(0) as u32;
        let chosen_by_it = self.sources.get(&peer).map_or(0, |source| source.asked.values().filter(|asked| asked.piece.is_none()).count());
        let start = self.dice.below(u64::from(self.have.len())) as u32;
        let is_rare = |piece: &u32| self.holders[*piece as usize] <= wholes && *piece % u32::from(wholes.max(1)) == share;
        let mut found: Vec<u32> = self.wanted.both_from(&self.wanted, start).filter(is_rare).take(LOOK_MAX).collect();
        if found.len() <= chosen_by_it {
            return Vec::new();
        }
        found.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for piece in found {
            match ranges.last_mut() {
                Some((_, end)) if *end == piece => *end += 1,
                _ => ranges.push((piece, piece + 1)),
            }
        }
        // As many as fit, from anywhere.
        while ranges.len() > RANGES_MAX {
            let at = self.dice.below(ranges.len() as u64) as usize;
            ranges.swap_remove(at);
        }
        ranges.sort_unstable();
        ranges
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
        let own = self.sources.get(&peer)?;
        for (other, source) in &self.sources {
            let usual_ms = (LATE * source.takes_ms).max(LATE_MS_MIN);
            for asked in source.asked.values() {
                let is_late = *other != peer && now_ms.saturating_sub(asked.at_ms) > usual_ms;
                match asked.piece {
                    Some(piece) if is_late && own.have.contains(piece) && self.under_way.get(&piece).is_some_and(|count| *count == 1) => {
                        return Some(piece);
                    }
                    _ => {}
                }
            }
        }
        None
    }
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

/// What readers of one blob have and want.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    readers: BTreeMap<Peer, Reader>,
    /// How often each piece was sent.
    sent: Vec<u16>,
    /// Readers that have it.
    holders: Vec<u16>,
}

#[derive(Clone, Debug, Default)]
struct Reader {
    have: Pieces,
    wants: VecDeque<(u64, Vec<(u32, u32)>)>,
    /// Sent, and not known to have arrived.
    under_way: BTreeSet<u32>,
}

/// Requests of one reader that wait; more are refused.
pub const WANTS_MAX: usize = 2 * WINDOW_MAX as usize;

impl Upload {
    /// Of a blob of so many pieces.
    #[must_use]
    pub fn new(len: u32) -> Self {
        Self { readers: BTreeMap::new(), sent: vec![0; len as usize], holders: vec![0; len as usize] }
    }

    /// Readers that are known.
    pub fn readers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.readers.keys().copied()
    }

    /// A reader has these pieces, beside those that it said before.
    pub fn reader_has(&mut self, peer: Peer, pieces: &[(u32, u32)]) {
        let len = self.sent.len() as u32;
        let reader = self.readers.entry(peer).or_insert_with(|| Reader { have: Pieces::none(len), ..Reader::default() });
        for (start, end) in pieces {
            for piece in *start..(*end).min(len) {
                if reader.have.insert(piece) {
                    self.holders[piece as usize] = self.holders[piece as usize].saturating_add(1);
                }
                reader.under_way.remove(&piece);
            }
        }
    }

    /// A reader is gone.
    pub fn reader_gone(&mut self, peer: Peer) {
        if let Some(reader) = self.readers.remove(&peer) {
            reader.have.iter().for_each(|piece| self.holders[piece as usize] = self.holders[piece as usize].saturating_sub(1));
        }
    }

    /// A reader wants a piece; `false` if it has too many wishes.
    pub fn wanted(&mut self, peer: Peer, id: u64, any_of: Vec<(u32, u32)>) -> bool {
        let len = self.sent.len() as u32;
        let reader = self.readers.entry(peer).or_insert_with(|| Reader { have: Pieces::none(len), ..Reader::default() });
        let fits = reader.wants.len() < WANTS_MAX;
        if fits {
            reader.wants.push_back((id, any_of));
        }
        fits
    }

    /// Whether a reader waits for something.
    #[must_use]
    pub fn is_waiting(&self, peer: Peer) -> bool {
        self.readers.get(&peer).is_some_and(|reader| !reader.wants.is_empty())
    }

    /// What to send a reader next.
    pub fn next(&mut self, peer: Peer, have: &Pieces, dice: &mut Dice) -> Option<Next> {
        let reader = self.readers.get_mut(&peer)?;
        let (id, any_of) = reader.wants.pop_front()?;
        let total: u64 = any_of.iter().map(|(start, end)| u64::from(end.saturating_sub(*start))).sum();
        let skip = dice.below(total) as usize;
        let len = have.len();
        let all = || any_of.iter().flat_map(|(start, end)| *start..(*end).min(len));
        let found = if total == 1 {
            // Asked for by number it is sent again, whatever was sent before.
            all().find(|piece| have.contains(*piece))
        } else {
            // From anywhere on, so that two sources do not choose alike. What others have by now comes from them.
            let is_good = |piece: &u32| {
                have.contains(*piece) && self.holders[*piece as usize] == 0 && !reader.have.contains(*piece) && !reader.under_way.contains(piece)
            };
            all().skip(skip).chain(all().take(skip)).filter(is_good).take(LOOK_MAX).min_by_key(|piece| self.sent[*piece as usize])
        };
        if let Some(piece) = found {
            self.sent[piece as usize] = self.sent[piece as usize].saturating_add(1);
            reader.under_way.insert(piece);
        }
        Some(Next { id, piece: found, by_number: total == 1 })
    }
}
