//! Random data that looks like something, the same for the same seed.

use crate::value::{Json, object};

/// What the data looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// Short messages, each posted under a new name.
    Tweets,
    /// A hundred sensors, each replacing its reading.
    Sensors,
    /// Values at random places of a tree.
    Tree,
}

/// One write: to a child of these names, or, when there are none, added with a new name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Made {
    pub(crate) names: Vec<String>,
    pub(crate) value: Json,
}

/// Makes one write after the other.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    shape: Shape,
    state: u64,
}

const SENSORS: u64 = 100;
const WORDS: [&str; 32] = [
    "river", "otter", "peer", "time", "bus", "leaf", "branch", "merge", "garden", "coffee", "signal", "quiet", "morning", "train", "paper", "cloud",
    "window", "bread", "key", "letter", "winter", "harbour", "music", "stone", "lamp", "tide", "apple", "road", "story", "mirror", "ladder", "north",
];

impl Generator {
    pub(crate) fn new(shape: Shape, seed: u64) -> Self {
        Self { shape, state: seed }
    }

    /// SplitMix64: small, and the same for ever.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random() % bound
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    fn words(&mut self, count: u64) -> String {
        let words: Vec<&str> = (0..count).map(|_| self.word()).collect();
        words.join(" ")
    }

    fn tenths(&mut self, from: i64, to: i64) -> Json {
        let tenths = from + self.below((to - from) as u64) as i64;
        Json::number(tenths as f64 / 10.0).unwrap_or(Json::Null)
    }
}

impl Iterator for Generator {
    type Item = Made;

    fn next(&mut self) -> Option<Made> {
        let string = |text: String| Json::String(text);
        Some(match self.shape {
            Shape::Tweets => {
                let length = 3 + self.below(15);
                let text = self.words(length);
                let author = self.word();
                let likes = Json::Int(self.below(500) as i64);
                Made { names: Vec::new(), value: object([("text", string(text)), ("author", string(author.into())), ("likes", likes)]) }
            }
            Shape::Sensors => {
                let sensor = self.below(SENSORS);
                let value = object([
                    ("celsius", self.tenths(-100, 350)),
                    ("humidity", Json::Int(self.below(101) as i64)),
                    ("battery", self.tenths(200, 420)),
                ]);
                Made { names: vec![format!("sensor-{sensor:02}")], value }
            }
            Shape::Tree => {
                let depth = 1 + self.below(5);
                let mut names: Vec<String> = (0..depth).map(|_| self.word().to_owned()).collect();
                // A leaf's name is no branch's name, or leaves would replace whole branches.
                names.push(format!("{}-{}", self.word(), self.below(1000)));
                let value = match self.below(4) {
                    0 => Json::Int(self.below(1_000_000) as i64),
                    1 => Json::Bool(self.below(2) == 0),
                    2 => self.tenths(0, 10_000),
                    _ => string(self.words(4)),
                };
                Made { names, value }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_data() {
        for shape in [Shape::Tweets, Shape::Sensors, Shape::Tree] {
            let made = |seed| Generator::new(shape, seed).take(50).collect::<Vec<_>>();
            assert_eq!(made(7), made(7));
            assert_ne!(made(7), made(8));
        }
    }

    #[test]
    fn the_numbers_keep_their_values() {
        let mut generator = Generator::new(Shape::Tree, 0);
        assert_eq!(generator.random(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn values_are_ones_that_the_store_keeps() {
        for shape in [Shape::Tweets, Shape::Sensors, Shape::Tree] {
            for made in Generator::new(shape, 3).take(200) {
                let text = crate::value::compact(&made.value);
                assert_eq!(crate::value::parse(text.as_bytes()).as_ref(), Ok(&made.value));
            }
        }
    }
}
