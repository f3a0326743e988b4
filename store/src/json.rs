//! JSON as timebus keeps it: every value parsed is kept exactly, or refused.
//!
//! Stricter than RFC 8259 where guessing would lose data: a duplicate key, a lone surrogate, or
//! a number that neither an integer of 53 bits nor a double can give back is an error that names
//! it. So `parse(print(x)) == x`, and two peers never disagree about what a text says.
//!
//! Deliberately not here: serde, streaming, comments, and values that borrow from their text.

mod decimal;
mod parse;
mod patch;
mod print;

use std::collections::BTreeMap;

pub use parse::{Flaw, JsonError, Limits};
pub use patch::{PatchError, PlaceError, Pos, SpliceError, Step, apply_json_patch, apply_splice, merge_patch};
pub use print::{write_float, write_string};

/// Most containers inside each other that [`Limits::default`] and the patches allow.
///
/// Parsing, printing, comparing and dropping recurse, so depth is what an attacker would spend.
pub const DEPTH_MAX: usize = 32;

/// One JSON value.
///
/// Invariants of every value that [`Json::parse`] or [`Json::number`] makes, for those who build
/// the variants themselves: `Int` is at most [`Json::INT_MAX`] away from zero; `Float` is finite,
/// never -0, and never a whole number that `Int` can hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number, at most [`Json::INT_MAX`] away from zero.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, its keys in byte order.
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Largest `Int`, 2^53 - 1: beyond it a double cannot tell neighbours apart.
    pub const INT_MAX: i64 = (1 << 53) - 1;

    /// The value of a number, or `None` if it is infinite or not a number.
    pub fn number(number: f64) -> Option<Json> {
        if !number.is_finite() {
            None
        } else if number.fract() == 0.0 && number.abs() <= Self::INT_MAX as f64 {
            Some(Json::Int(number as i64))
        } else {
            Some(Json::Float(number))
        }
    }

    /// Parses one JSON text, which is all of `bytes`.
    ///
    /// # Errors
    ///
    /// [`JsonError`] says where and why; [`Flaw`] lists what is refused.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<Json, JsonError> {
        parse::parse(bytes, limits)
    }

    /// Appends the compact text: keys in byte order, no spaces, numbers as ECMAScript prints them.
    pub fn write(&self, out: &mut Vec<u8>) {
        print::write(self, out);
    }

    /// Appends the text for people: one element per line, two spaces per level, no final newline.
    pub fn write_pretty(&self, out: &mut Vec<u8>) {
        print::write_pretty(self, 0, out);
    }

    /// What kind of value this is, with its article, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Int(_) | Json::Float(_) => "a number",
            Json::String(_) => "a string",
            Json::Array(_) => "an array",
            Json::Object(_) => "an object",
        }
    }
}

/// Enough of `text` for a message: what others send may be long.
fn clip(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    /// A file of the shared test data, or `None`, said aloud, where that is not installed.
    pub(super) fn data(name: &str) -> Option<Vec<u8>> {
        let root = match std::env::var_os("TIMEBUS_DATA") {
            Some(root) => PathBuf::from(root),
            None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        };
        let file = std::fs::read(root.join(name)).ok();
        if file.is_none() {
            eprintln!("skipped: no data");
        }
        file
    }

    /// The files of a shared `.tar.gz` as (path, content).
    pub(super) fn archive(name: &str) -> Option<Vec<(String, Vec<u8>)>> {
        let packed = data(name)?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        let mut files = Vec::new();
        for entry in archive.entries().expect("a tar archive") {
            let mut entry = entry.expect("a whole entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).expect("its content");
            files.push((path, content));
        }
        Some(files)
    }

    pub(super) fn json(text: &str) -> Json {
        Json::parse(text.as_bytes(), Limits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    pub(super) fn text(json: &Json) -> String {
        let mut out = Vec::new();
        json.write(&mut out);
        String::from_utf8(out).expect("we print UTF-8")
    }

    /// Any value, with floats of any bit pattern and strings of any characters.
    pub(super) fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            (-Json::INT_MAX..=Json::INT_MAX).prop_map(Json::Int),
            (-100i64..100).prop_map(Json::Int),
            any::<u64>().prop_filter_map("not finite", |bits| Json::number(f64::from_bits(bits))),
            any_text().prop_map(Json::String),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![vec(inner.clone(), 0..6).prop_map(Json::Array), btree_map(any_text(), inner, 0..6).prop_map(Json::Object),]
        })
    }

    fn any_text() -> impl Strategy<Value = String> {
        let char = prop_oneof![any::<char>(), (0u8..128).prop_map(char::from)];
        vec(char, 0..20).prop_map(String::from_iter)
    }

    #[test]
    fn numbers_are_normalised() {
        assert_eq!(Json::number(-0.0), Some(Json::Int(0)));
        assert_eq!(Json::number(9007199254740991.0), Some(Json::Int(Json::INT_MAX)));
        assert_eq!(Json::number(9007199254740992.0), Some(Json::Float(9007199254740992.0)));
        assert_eq!(Json::number(0.5), Some(Json::Float(0.5)));
        assert_eq!(Json::number(f64::NAN), None);
        assert_eq!(Json::number(f64::NEG_INFINITY), None);
    }

    #[test]
    fn messages_quote_only_the_start_of_long_texts() {
        assert_eq!(clip("short"), "short");
        assert_eq!(clip(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
    }

    proptest! {
        #[test]
        fn parse_gives_back_what_was_printed(value in any_json()) {
            prop_assert_eq!(&json(&text(&value)), &value);
            let mut pretty = Vec::new();
            value.write_pretty(&mut pretty);
            let parsed = Json::parse(&pretty, Limits::default());
            prop_assert_eq!(parsed, Ok(value));
        }

        #[test]
        fn every_finite_double_survives(bits: u64) {
            if let Some(value) = Json::number(f64::from_bits(bits)) {
                prop_assert_eq!(&json(&text(&value)), &value);
            }
        }
    }
}
