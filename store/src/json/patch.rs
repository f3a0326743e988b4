//! Changes parts of a value: merge patches here, JSON Patch and Braid range patches below.

mod operations;
mod splice;

use std::collections::BTreeMap;

use super::{DEPTH_MAX, Json, clip};

pub use operations::{PatchError, apply_json_patch};
pub use splice::{Pos, SpliceError, Step, apply_splice};

/// Changes `target` as RFC 7396 says: objects merge, `null` removes, everything else replaces.
///
/// The result nests at most as deep as the deeper of the two.
pub fn merge_patch(target: &mut Json, patch: &Json) {
    let Json::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    let mut fields = match std::mem::replace(target, Json::Null) {
        Json::Object(fields) => fields,
        _ => BTreeMap::new(),
    };
    for (key, change) in changes {
        if *change == Json::Null {
            fields.remove(key);
        } else if let Some(field) = fields.get_mut(key) {
            merge_patch(field, change);
        } else {
            let mut field = Json::Null;
            merge_patch(&mut field, change);
            fields.insert(key.clone(), field);
        }
    }
    *target = Json::Object(fields);
}

/// Why a place in a value cannot be reached, or changed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// An object on the way, or at the end, has no such key.
    #[error("there is no key {key:?}")]
    MissingKey {
        /// The key, or the start of a long one.
        key: String,
    },
    /// A key was used on an array.
    #[error("{key:?} is not an index of an array")]
    NotAnIndex {
        /// The key, or the start of a long one.
        key: String,
    },
    /// A position in an array or string that has no such position.
    #[error("position {position} is out of range, the length is {len}")]
    OutOfRange {
        /// The position as it was given.
        position: String,
        /// Elements of the array, or code points of the string.
        len: usize,
    },
    /// A range that ends before it starts.
    #[error("the range from {start} to {end} ends before it starts")]
    BackwardRange {
        /// Where it starts, from the front.
        start: usize,
        /// Where it ends, from the front.
        end: usize,
    },
    /// The value there is of another kind than the patch takes it for.
    #[error("expected {expected} there, found {found}")]
    WrongKind {
        /// What the patch needs.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// The new content does not fit the range it replaces.
    #[error("the content for this range must be {expected}, not {found}")]
    WrongContent {
        /// What the range needs.
        expected: &'static str,
        /// What the patch brings.
        found: &'static str,
    },
    /// A range, or the end of an array, leads nowhere: it can only be the last step.
    #[error("a range or the end of an array cannot be followed by another step")]
    NotLast,
    /// Without the whole document nothing would be left to be a value.
    #[error("the whole document cannot be removed")]
    WholeDocument,
    /// The result would nest deeper than [`DEPTH_MAX`].
    #[error("the result would have more than {depth_max} arrays and objects inside each other")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
}

/// How much a value is.
struct Extent {
    /// Containers inside each other.
    depth: usize,
    /// Memory, roughly.
    bytes: usize,
}

impl Extent {
    fn of(value: &Json) -> Extent {
        let mut extent = Extent { depth: 0, bytes: size_of::<Json>() };
        match value {
            Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) => {}
            Json::String(string) => extent.bytes += string.len(),
            Json::Array(items) => {
                extent.depth = 1;
                for item in items {
                    extent.contain(Extent::of(item));
                }
            }
            Json::Object(fields) => {
                extent.depth = 1;
                for (key, field) in fields {
                    extent.bytes += size_of::<String>() + key.len();
                    extent.contain(Extent::of(field));
                }
            }
        }
        extent
    }

    fn contain(&mut self, child: Extent) {
        self.depth = self.depth.max(child.depth + 1);
        self.bytes += child.bytes;
    }
}

/// Refuses to put `value` below so many containers if that nests too deep.
fn check_depth(levels: usize, value: &Json) -> Result<(), PlaceError> {
    if levels + Extent::of(value).depth > DEPTH_MAX {
        return Err(PlaceError::TooDeep { depth_max: DEPTH_MAX });
    }
    Ok(())
}

/// The field or, in an array, the element that a name stands for.
fn child_mut<'a>(parent: &'a mut Json, name: &str) -> Result<&'a mut Json, PlaceError> {
    match parent {
        Json::Object(fields) => fields.get_mut(name).ok_or_else(|| PlaceError::MissingKey { key: clip(name) }),
        Json::Array(items) => {
            let len = items.len();
            let at = array_index(name, len)?;
            items.get_mut(at).ok_or_else(|| out_of_range(&name, len))
        }
        other => Err(wrong_kind("an object or array", other)),
    }
}

/// Reads an index as RFC 6901 writes it: decimal, without leading zeros.
fn array_index(name: &str, len: usize) -> Result<usize, PlaceError> {
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (name.len() > 1 && name.starts_with('0')) {
        return Err(PlaceError::NotAnIndex { key: clip(name) });
    }
    name.parse().map_err(|_| out_of_range(&name, len))
}

fn out_of_range(position: &impl ToString, len: usize) -> PlaceError {
    PlaceError::OutOfRange { position: clip(&position.to_string()), len }
}

fn wrong_kind(expected: &'static str, found: &Json) -> PlaceError {
    PlaceError::WrongKind { expected, found: found.kind() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{any_json, data, json, text};
    use super::*;

    fn merged(target: &str, patch: &str) -> String {
        let mut target = json(target);
        merge_patch(&mut target, &json(patch));
        text(&target)
    }

    #[test]
    fn merge_patch_does_the_examples_of_rfc_7396() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merged(target, patch), result, "{target} with {patch}");
        }
    }

    /// The cases of a file of the JSON Patch test suite. Some files repeat a key inside a case,
    /// which we refuse, so serde_json splits them.
    pub(super) fn cases(name: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
        let Some(file) = data(name) else {
            return Vec::new();
        };
        let cases: Vec<_> = serde_json::from_slice(&file).expect("an array of objects");
        assert!(!cases.is_empty());
        cases
    }

    #[test]
    fn merge_patch_passes_its_test_file() {
        for case in cases("03-json/merge-patch-rfc7396.json") {
            let expected = text(&json(&case["expected"].to_string()));
            let result = merged(&case["doc"].to_string(), &case["patch"].to_string());
            assert_eq!(result, expected, "{}", case["comment"]);
        }
    }

    proptest! {
        #[test]
        fn merging_a_patch_twice_changes_nothing_more(target in any_json(), patch in any_json()) {
            let mut once = target;
            merge_patch(&mut once, &patch);
            let mut twice = once.clone();
            merge_patch(&mut twice, &patch);
            prop_assert_eq!(once, twice);
        }
    }
}
