//! Sets of the pieces of a blob.

/// Pieces by number, of a blob that has a known number of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    words: Vec<u64>,
    len: u32,
    count: u32,
}

impl Pieces {
    /// None of so many.
    #[must_use]
    pub fn none(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(64)], len, count: 0 }
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
        piece < self.len && self.words[piece as usize / 64] >> (piece % 64) & 1 == 1
    }

    /// Adds a piece; says whether it is new. One that there is not is ignored.
    pub fn insert(&mut self, piece: u32) -> bool {
        let is_new = piece < self.len && !self.contains(piece);
        if is_new {
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
        for piece in range.start..range.end.min(self.len) {
            self.insert(piece);
        }
    }

    /// The pieces in order, from one on.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let first = from as usize / 64;
        self.words.iter().enumerate().skip(first).flat_map(move |(at, word)| {
            let mut word = *word;
            if at == first {
                word &= u64::MAX << (from % 64);
            }
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros();
                word &= word - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }

    /// The pieces that are in both sets, in order, from one on and then from the first on.
    pub fn both_from<'a>(&'a self, other: &'a Self, from: u32) -> impl Iterator<Item = u32> + 'a {
        let words = self.words.len().min(other.words.len());
        let first = (from as usize / 64).min(words);
        let high = u64::MAX << (from % 64);
        // The word that `from` is in comes twice: its upper part first, its lower part last.
        let order = (first..words).map(move |at| (at, if at == first { high } else { u64::MAX }));
        let order = order.chain((0..=first.min(words.saturating_sub(1))).map(move |at| (at, if at == first { !high } else { u64::MAX })));
        order.flat_map(move |(at, mask)| {
            let mut word = self.words.get(at).copied().unwrap_or(0) & other.words.get(at).copied().unwrap_or(0) & mask;
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros();
                word &= word - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }

    /// The pieces in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.iter_from(0)
    }

    /// Stretches of pieces, at most so many.
    #[must_use]
    pub fn ranges(&self, max: usize) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for piece in self.iter() {
            if let Some((_, end)) = ranges.last_mut().filter(|(_, end)| *end == piece) {
                *end += 1;
            } else if ranges.len() == max {
                break;
            } else {
                ranges.push((piece, piece + 1));
            }
        }
        ranges
    }

    /// The words, for a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
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
