//! Sets of the pieces of a blob.

/// Pieces by number, of a blob that has a known number of them. One in which there is none takes no memory.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// As many as there are up to the last one that was ever in it; lengths are what somebody says.
    words: Vec<u64>,
    len: u32,
    count: u32,
}

impl PartialEq for Pieces {
    fn eq(&self, other: &Self) -> bool {
        (self.len, self.count) == (other.len, other.count) && self.iter().eq(other.iter())
    }
}

impl Eq for Pieces {}

impl Pieces {
    /// None of so many.
    #[must_use]
    pub fn none(len: u32) -> Self {
        Self { words: Vec::new(), len, count: 0 }
    }

    /// All of so many.
    #[must_use]
    pub fn all(len: u32) -> Self {
        let mut pieces = Self::none(len);
        pieces.insert_range(0..len);
        pieces
    }

    /// How many there can be.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// How many are in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether none is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether all are in the set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.count == self.len
    }

    /// Whether a piece is in the set.
    #[must_use]
    pub fn contains(&self, piece: u32) -> bool {
        self.words.get(piece as usize / 64).is_some_and(|word| word >> (piece % 64) & 1 == 1)
    }

    /// Adds a piece; says whether it is new. One that there is not is ignored.
    pub fn insert(&mut self, piece: u32) -> bool {
        let is_new = piece < self.len && !self.contains(piece);
        if is_new {
            self.grow(piece + 1);
            self.words[piece as usize / 64] |= 1 << (piece % 64);
            self.count += 1;
        }
        is_new
    }

    /// Takes a piece out; says whether it was in.
    pub fn remove(&mut self, piece: u32) -> bool {
        let was_in = self.contains(piece);
        if was_in {
            self.words[piece as usize / 64] &= !(1 << (piece % 64));
            self.count -= 1;
        }
        was_in
    }

    /// Adds a stretch, as far as there are such pieces.
    pub fn insert_range(&mut self, range: std::ops::Range<u32>) {
        for (at, mask) in self.masks(&range) {
            self.grow(at as u32 * 64 + 1);
            self.count += (mask & !self.words[at]).count_ones();
            self.words[at] |= mask;
        }
    }

    /// Adds what is in another set.
    pub fn insert_all(&mut self, other: &Self) {
        for (at, word) in other.words.iter().enumerate().filter(|(_, word)| **word != 0) {
            self.grow(at as u32 * 64 + 1);
            self.count += (word & !self.words[at]).count_ones();
            self.words[at] |= word;
        }
    }

    /// The pieces of a stretch that are not in the set.
    pub fn missing_in(&self, range: std::ops::Range<u32>) -> impl Iterator<Item = u32> + '_ {
        self.masks(&range).flat_map(|(at, mask)| bits(at, !self.words.get(at).copied().unwrap_or(0) & mask))
    }

    /// Whether there is something in the set that is not in another one.
    #[must_use]
    pub fn has_beyond(&self, other: &Self) -> bool {
        self.words.iter().enumerate().any(|(at, word)| word & !other.words.get(at).copied().unwrap_or(0) != 0)
    }

    /// Makes room for so many pieces.
    fn grow(&mut self, pieces: u32) {
        let words = (pieces as usize).div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// The words that a stretch lies in, as far as there are such pieces, each with its bits.
    fn masks(&self, range: &std::ops::Range<u32>) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (start, end) = (u64::from(range.start), u64::from(range.end.min(self.len)));
        let words = if start < end { start / 64..end.div_ceil(64) } else { 0..0 };
        words.map(move |at| {
            let (from, to) = (start.saturating_sub(at * 64), (end - at * 64).min(64));
            (at as usize, (u64::MAX << from) & (u64::MAX >> (64 - to)))
        })
    }

    /// The pieces in order, from one on.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let first = from as usize / 64;
        self.words
            .iter()
            .enumerate()
            .skip(first)
            .flat_map(move |(at, word)| bits(at, if at == first { word & u64::MAX << (from % 64) } else { *word }))
    }

    /// The pieces that are in both sets, in order, from one on and then from the first on.
    pub fn both_from<'a>(&'a self, other: &'a Self, from: u32) -> impl Iterator<Item = u32> + 'a {
        let words = self.words.len().min(other.words.len());
        let first = (from as usize / 64).min(words);
        let high = u64::MAX << (from % 64);
        // The word that `from` is in comes twice: its upper part first, its lower part last.
        let order = (first..words).map(move |at| (at, if at == first { high } else { u64::MAX }));
        let order = order.chain((0..=first.min(words.saturating_sub(1))).map(move |at| (at, if at == first { !high } else { u64::MAX })));
        order.flat_map(move |(at, mask)| bits(at, self.words.get(at).copied().unwrap_or(0) & other.words.get(at).copied().unwrap_or(0) & mask))
    }

    /// The pieces in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_from(0)
    }

    /// Stretches of pieces, at most so many.
    #[must_use]
    pub fn ranges(&self, max: usize) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        // Word by word: of what is whole there is one stretch, and it is asked for often.
        for (at, word) in self.words.iter().enumerate() {
            let (first, mut bit) = (at as u32 * 64, 0);
            while bit < 64 && word >> bit != 0 {
                let start = bit + (word >> bit).trailing_zeros();
                let end = start + (word >> start).trailing_ones();
                if let Some((_, last)) = ranges.last_mut().filter(|(_, last)| *last == first + start) {
                    *last = first + end;
                } else if ranges.len() == max {
                    return ranges;
                } else {
                    ranges.push((first + start, first + end));
                }
                bit = end;
            }
        }
        ranges
    }

    /// From the words in a file; bits of pieces that there are not are ignored.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], len: u32) -> Self {
        let mut pieces = Self::none(len);
        for piece in 0..len {
            if bytes.get(piece as usize / 8).is_some_and(|byte| byte >> (piece % 8) & 1 == 1) {
                pieces.insert(piece);
            }
        }
        pieces
    }
}

/// The pieces that the bits of a word stand for.
fn bits(at: usize, mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word - 1;
        Some(at as u32 * 64 + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_the_same_as_its_pieces_one_by_one() {
        let edges = [0, 1, 2, 63, 64, 65, 127, 128, 190, 199, 200, 201, 300, u32::MAX];
        for (start, end) in edges.iter().flat_map(|start| edges.iter().map(|end| (*start, *end))) {
            let (mut whole, mut single) = (Pieces::none(200), Pieces::none(200));
            for pieces in [&mut whole, &mut single] {
                pieces.insert(64);
                pieces.insert(150);
            }
            let missing: Vec<u32> = (start..end.min(200)).filter(|piece| !single.contains(*piece)).collect();
            assert_eq!(whole.missing_in(start..end).collect::<Vec<_>>(), missing, "{start}..{end}");
            whole.insert_range(start..end);
            for piece in start..end.min(200) {
                single.insert(piece);
            }
            assert!(whole == single && whole.count() == single.iter().count() as u32, "{start}..{end}");
        }
    }

    #[test]
    fn sets_are_put_together_and_compared() {
        let of = |pieces: &[u32]| {
            let mut set = Pieces::none(300);
            for piece in pieces {
                set.insert(*piece);
            }
            set
        };
        let mut set = of(&[1, 200]);
        assert!(set.has_beyond(&of(&[1])) && !set.has_beyond(&of(&[1, 2, 200, 299])) && !Pieces::none(300).has_beyond(&set));
        set.insert_all(&of(&[1, 70, 299]));
        assert_eq!((set.iter().collect::<Vec<_>>(), set.count()), (vec![1, 70, 200, 299], 4));
        assert!(set.remove(299) && set.remove(200) && set == of(&[70, 1]), "whatever was in it before");
        assert!(Pieces::all(300).is_all() && Pieces::all(300).count() == 300 && Pieces::all(0) == Pieces::none(0));
    }

    #[test]
    fn stretches_are_those_of_the_pieces_one_by_one() {
        let mut dice = crate::blobs::swarm::Dice::new(3);
        for dense in [1, 2, 8, 63, 64] {
            let mut pieces = Pieces::none(500);
            for piece in 0..500 {
                if dice.below(64) < dense {
                    pieces.insert(piece);
                }
            }
            let mut expected: Vec<(u32, u32)> = Vec::new();
            for piece in pieces.iter() {
                match expected.last_mut().filter(|(_, end)| *end == piece) {
                    Some((_, end)) => *end += 1,
                    None => expected.push((piece, piece + 1)),
                }
            }
            assert_eq!(pieces.ranges(1000), expected);
            assert_eq!(pieces.ranges(3), expected[..expected.len().min(3)]);
        }
        assert_eq!((Pieces::all(1 << 22).ranges(1), Pieces::all(64).ranges(0)), (vec![(0, 1 << 22)], vec![]));
    }

    #[test]
    fn what_nothing_is_in_takes_no_memory() {
        let mut set = Pieces::none(1 << 22);
        assert!(set.words.capacity() == 0 && !set.contains(1 << 21) && !set.remove(5) && !set.insert(1 << 22));
        assert!(set.words.capacity() == 0 && set.both_from(&Pieces::all(1 << 22), 1 << 20).next().is_none());
        set.insert(3);
        assert!(set.words.len() == 1);
    }
}
