//! Makes new inputs from old ones: the same ones for the same seed.

/// A source of numbers that only has to be even and repeatable (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }
}

/// Largest input made.
const BYTES_MAX: usize = 4096;

/// Bytes that formats give a meaning.
const BYTES: [u8; 16] = [0, 1, 2, 7, 0x0a, 0x0d, b'"', b'%', b'/', 0x7f, 0x80, 0xbf, 0xc0, 0xed, 0xf4, 0xff];

/// Changes one of `corpus` in a few places, with `words` of its format and parts of the others.
#[must_use]
pub fn mutate(dice: &mut Dice, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut out = corpus[dice.below(corpus.len())].clone();
    // Mostly one change: who changes much makes noise, which the first check of a decoder refuses.
    for _ in 0..=dice.below(4).min(dice.below(4)) {
        let at = dice.below(out.len() + 1);
        let end = (at + 1 + dice.below(8)).min(out.len());
        match dice.below(10) {
            0 if at < out.len() => out[at] ^= 1 << dice.below(8),
            1 if at < out.len() => out[at] = BYTES[dice.below(BYTES.len())],
            2 if at < out.len() => out[at] = dice.next() as u8,
            3 => out.insert(at, BYTES[dice.below(BYTES.len())]),
            4 if at < end => drop(out.drain(at..end)),
            5 if at < end => {
                let part = out[at..end].to_vec();
                out.splice(at..at, part);
            }
            6 if at < out.len() => out.truncate(at),
            7 => {
                let other = &corpus[dice.below(corpus.len())];
                let from = dice.below(other.len());
                let to = (from + 1 + dice.below(32)).min(other.len());
                let gone = if dice.below(2) == 0 { at..end.max(at) } else { at..at };
                out.splice(gone, other[from.min(to)..to].iter().copied());
            }
            // A varint with a group too many, which says the same and must be refused.
            8 if at < out.len() && out[at] < 0x80 => {
                out[at] |= 0x80;
                out.insert(at + 1, 0);
            }
            _ if !words.is_empty() => {
                let word = words[dice.below(words.len())].bytes();
                let gone = if dice.below(2) == 0 { at..end.max(at) } else { at..at };
                out.splice(gone, word);
            }
            _ => {}
        }
    }
    out.truncate(BYTES_MAX);
    out
}
