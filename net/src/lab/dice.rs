//! Chance that a seed repeats.

use timebus_store::json::Json;

/// Random numbers from a seed (splitmix64): the same on every machine and for ever.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1ab)
    }

    pub(super) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.any() % end.max(1) as u64) as usize
    }

    /// A number from `from` to `to`, both included.
    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.any() % (to.saturating_sub(from) + 1)
    }

    /// True so many times in a hundred.
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.any() % 100 < chance
    }

    pub(super) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&self.any().to_le_bytes());
        }
        bytes
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len());
        from.get(at)
    }

    /// A value with few names, so that two of them have much in common.
    pub(super) fn json(&mut self, depth: usize) -> Json {
        match self.below(if depth == 0 { 3 } else { 6 }) {
            0 => Json::Int(self.below(5) as i64),
            1 => Json::String(format!("s{}", self.below(6))),
            2 => Json::Bool(self.percent(50)),
            3 | 4 => Json::Object((0..self.below(4)).map(|_| (format!("m{}", self.below(4)), self.json(depth - 1))).collect()),
            _ => Json::Array((0..self.below(4)).map(|_| self.json(depth - 1)).collect()),
        }
    }
}
