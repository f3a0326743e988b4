//! The data every peer stores: 10 000 nested paths, each with 200 bytes of JSON.

/// Paths that `get` and `put` choose from.
pub(crate) const PATHS: usize = 10_000;
/// Length of a document and of a leaf of the million.
pub(crate) const VALUE_BYTES: usize = 200;

/// `/bench/docs/team-3/user-42/doc-7`, for an `index` below [`PATHS`].
pub(crate) fn path(index: usize) -> String {
    let (team, user, doc) = (index / 1_000, index / 10 % 100, index % 10);
    format!("/bench/docs/team-{team}/user-{user}/doc-{doc}")
}

/// What a document is to a store that looks inside. To others each is so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An object with five members, each a value of its own.
    Object,
    /// One string.
    Leaf,
}

/// A document of [`VALUE_BYTES`] in which every leaf differs from that of another `revision`.
///
/// Nothing is left for a store to skip as unchanged. The names are sorted, so that a store which
/// sorts them too can answer with the same bytes.
pub(crate) fn document(shape: Shape, revision: u64, into: &mut Vec<u8>) {
    use std::io::Write as _;
    let number = 100_000_000_000 + revision % 100_000_000_000;
    into.clear();
    match shape {
        Shape::Object => write!(
            into,
            "{{\"at\":{number},\"body\":\"The tide at {number} came in over the flats before any of \
             us had really finished the bread.\",\"by\":\"otter-{number}\",\"likes\":{number},\
             \"title\":\"Notes {number}\"}}"
        ),
        Shape::Leaf => write!(
            into,
            "\"The tide at {number} came in over the flats before any of us had really finished the bread. \
             What otters make of that nobody in the village would ever say, but at {number} they were \
             laughing.\""
        ),
    }
    .expect("writing to a Vec cannot fail");
}

/// One leaf of the million: text of [`VALUE_BYTES`] that does not compress to nothing.
pub(crate) fn leaf(index: u64, into: &mut String) {
    use std::fmt::Write as _;
    let mut dice = Dice::new(index);
    let end = into.len() + VALUE_BYTES;
    while into.len() < end {
        write!(into, "{:016x}", dice.roll()).expect("writing to a String cannot fail");
    }
    into.truncate(end);
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    /// Different seeds give unrelated numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next number (splitmix64).
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
