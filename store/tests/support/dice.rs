//! Chance that a seed repeats, and what is drawn with it.

use timebus_store::json::Json;

/// Random numbers from a seed (splitmix64): the same on every machine and for ever.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

#[allow(dead_code, reason = "every test binary has its own copy and draws what it needs")]
impl Dice {
    /// Dice that fall as `seed` says.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed)
    }

    /// Any number.
    pub(crate) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.any() % end as u64) as usize
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.any() % 100 < chance
    }

    /// One of these; `None` of none.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { Some(&from[self.below(from.len())]) }
    }

    /// Puts them in another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }

    /// A scalar, a few of which are equal by chance.
    pub(crate) fn scalar(&mut self) -> Json {
        match self.below(9) {
            0 => Json::Null,
            1 => Json::Bool(self.percent(50)),
            2 | 3 => Json::Int(self.below(4) as i64),
            4 => Json::Float(self.below(100) as f64 + 0.5),
            5 => Json::String(String::new()),
            6 => Json::Int(-(self.any() as i64 >> 11).abs()),
            _ => Json::String(format!("s{}", self.below(6))),
        }
    }

    /// A value with few names and small arrays, so that two of them have much in common.
    pub(crate) fn json(&mut self, depth: usize) -> Json {
        match self.below(if depth == 0 { 2 } else { 10 }) {
            0..=2 => self.scalar(),
            3..=6 => {
                let count = self.below(5);
                Json::Object((0..count).map(|_| (self.name(), self.json(depth - 1))).collect())
            }
            _ => {
                let count = self.below(6);
                Json::Array((0..count).map(|_| self.json(depth - 1)).collect())
            }
        }
    }

    /// A key: mostly one of a few names, seldom one that cannot be a path segment.
    pub(crate) fn name(&mut self) -> String {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "@f"];
        const ODD: [&str; 6] = ["", "x/y", "..", "\u{1}", "link", "@bytes"];
        if self.percent(2) { ODD[self.below(ODD.len())].to_owned() } else { NAMES[self.below(NAMES.len())].to_owned() }
    }

    /// The value after somebody worked on it: members and elements come, go and change.
    pub(crate) fn edited(&mut self, value: &Json, depth: usize) -> Json {
        if self.percent(8) {
            return self.json(depth);
        }
        match value {
            Json::Object(members) => {
                let mut members = members.clone();
                for name in members.keys().cloned().collect::<Vec<_>>() {
                    match self.below(8) {
                        0 => drop(members.remove(&name)),
                        1..=3 => {
                            let edited = self.edited(&members[&name], depth.saturating_sub(1));
                            members.insert(name, edited);
                        }
                        _ => {}
                    }
                }
                if depth > 0 && self.percent(40) {
                    members.insert(self.name(), self.json(depth - 1));
                }
                Json::Object(members)
            }
            Json::Array(items) => {
                let mut items = items.clone();
                for _ in 0..=self.below(3) {
                    let at = self.below(items.len() + 1);
                    match self.below(4) {
                        0 if at < items.len() => drop(items.remove(at)),
                        1 if at < items.len() => items[at] = self.edited(&items[at], depth.saturating_sub(1)),
                        2 if items.len() > 1 => {
                            let to = self.below(items.len());
                            let item = items.remove(at.min(items.len() - 1));
                            items.insert(to, item);
                        }
                        _ if depth > 0 => items.insert(at, self.json(depth - 1)),
                        _ => {}
                    }
                }
                Json::Array(items)
            }
            _ if self.percent(50) => self.scalar(),
            other => other.clone(),
        }
    }
}

/// The compact text.
#[allow(dead_code, reason = "every test binary has its own copy and draws what it needs")]
pub(crate) fn text(json: &Json) -> String {
    let mut out = Vec::new();
    json.write(&mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

/// A number from the environment, else the default.
#[allow(dead_code, reason = "every test binary has its own copy and draws what it needs")]
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
