//! JSON Patch (RFC 6902): a list of operations at places that JSON pointers (RFC 6901) name.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Extent, PlaceError, array_index, check_depth, child_mut, out_of_range, wrong_kind};
use crate::json::{Json, clip};

/// Most memory that the `copy` operations of one JSON Patch may fill. Without a limit, thirty
/// operations that each copy the document into itself make it a thousand million times larger.
const COPIED_BYTES_MAX: usize = 16 << 20;

/// Most memory that one JSON Patch may shift inside arrays and walk through for `copy` and
/// `move`: about half a second. Ten thousand insertions in front of a long array are 64 KiB of
/// patch and would otherwise keep us busy for minutes.
const TOUCHED_BYTES_MAX: usize = 1 << 30;

/// Why a JSON Patch was refused; the value is unchanged. Operations are counted from 0, as the
/// elements of the patch are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The patch itself is of the wrong kind.
    #[error("a JSON Patch is an array of operations, not {found}")]
    NotAnArray {
        /// What it is.
        found: &'static str,
    },
    /// An element of the patch is of the wrong kind.
    #[error("op {op} must be an object, not {found}")]
    NotAnObject {
        /// The operation.
        op: usize,
        /// What it is.
        found: &'static str,
    },
    /// An operation lacks what its kind needs.
    #[error("op {op} needs {member:?}, {expected}")]
    Member {
        /// The operation.
        op: usize,
        /// The member that is absent or of the wrong kind.
        member: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// There is no such operation.
    #[error("op {op} is {name:?}, expected add, remove, replace, move, copy or test")]
    UnknownOp {
        /// The operation.
        op: usize,
        /// What it calls itself, or the start of that.
        name: String,
    },
    /// Not a pointer as RFC 6901 defines it.
    #[error(
        "op {op}: {pointer:?} is not a JSON pointer: \
         names follow slashes, and ~ stands only in ~0 and ~1"
    )]
    Pointer {
        /// The operation.
        op: usize,
        /// The text, or the start of a long one.
        pointer: String,
    },
    /// The operation cannot be done at its place.
    #[error("op {op} at {pointer:?}: {reason}")]
    Place {
        /// The operation.
        op: usize,
        /// Its `path` or `from`, or the start of a long one.
        pointer: String,
        /// Why not.
        reason: PlaceError,
    },
    /// A value cannot become part of itself.
    #[error("op {op} at {pointer:?}: a value cannot move into itself")]
    MoveIntoItself {
        /// The operation.
        op: usize,
        /// Its `path`, or the start of a long one.
        pointer: String,
    },
    /// The document is not what the patch was made for.
    #[error("op {op} at {pointer:?}: the value there is not the one to test for")]
    TestFailed {
        /// The operation.
        op: usize,
        /// Its `path`, or the start of a long one.
        pointer: String,
    },
    /// Send what changes as a smaller patch, or the value itself.
    #[error(
        "op {op}: the patch copies more than {} MiB, or moves more than {} MiB about",
        COPIED_BYTES_MAX >> 20,
        TOUCHED_BYTES_MAX >> 20
    )]
    TooMuchWork {
        /// The operation that was one too many.
        op: usize,
    },
}

/// Applies a JSON Patch (RFC 6902), all of it or nothing.
///
/// Beyond the RFC: the whole document cannot be removed, nothing may end up deeper than
/// [`DEPTH_MAX`](crate::json::DEPTH_MAX), and a patch may copy and move only so much
/// ([`PatchError::TooMuchWork`]).
///
/// # Errors
///
/// [`PatchError`] names the operation and its pointer; the value is then unchanged.
pub fn apply_json_patch(target: &mut Json, ops: &Json) -> Result<(), PatchError> {
    let Json::Array(ops) = ops else {
        return Err(PatchError::NotAnArray { found: ops.kind() });
    };
    let mut patching = Patching { document: target.clone(), copied_bytes_left: COPIED_BYTES_MAX, touched_bytes_left: TOUCHED_BYTES_MAX };
    for (op, fields) in ops.iter().enumerate() {
        let Json::Object(fields) = fields else {
            return Err(PatchError::NotAnObject { op, found: fields.kind() });
        };
        patching.apply(Op { op, fields })?;
    }
    *target = patching.document;
    Ok(())
}

/// One operation of a JSON Patch.
#[derive(Clone, Copy)]
struct Op<'a> {
    op: usize,
    fields: &'a BTreeMap<String, Json>,
}

impl<'a> Op<'a> {
    fn string(self, member: &'static str) -> Result<&'a str, PatchError> {
        match self.fields.get(member) {
            Some(Json::String(string)) => Ok(string),
            _ => Err(PatchError::Member { op: self.op, member, expected: "a string" }),
        }
    }

    fn value(self) -> Result<&'a Json, PatchError> {
        let absent = PatchError::Member { op: self.op, member: "value", expected: "any value" };
        self.fields.get("value").ok_or(absent)
    }

    fn pointer(self, member: &'static str) -> Result<Pointer<'a>, PatchError> {
        let text = self.string(member)?;
        let bad = || PatchError::Pointer { op: self.op, pointer: clip(text) };
        let names = Pointer::names(text).ok_or_else(bad)?;
        Ok(Pointer { op: self.op, text, names })
    }
}

/// The way to a place, and which operation names it.
struct Pointer<'a> {
    op: usize,
    text: &'a str,
    names: Vec<Cow<'a, str>>,
}

impl<'a> Pointer<'a> {
    /// The names in a JSON pointer (RFC 6901), or `None` if it is none.
    fn names(text: &'a str) -> Option<Vec<Cow<'a, str>>> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        text.strip_prefix('/')?.split('/').map(unescape_name).collect()
    }

    fn reach<'b>(&self, document: &'b mut Json) -> Result<&'b mut Json, PatchError> {
        self.walk(document, &self.names)
    }

    /// The container of the place and the name there, or `None` for the whole document.
    fn reach_parent<'b>(&self, document: &'b mut Json) -> Result<Option<(&'b mut Json, &str)>, PatchError> {
        let Some((last, parents)) = self.names.split_last() else {
            return Ok(None);
        };
        Ok(Some((self.walk(document, parents)?, last)))
    }

    fn walk<'b>(&self, document: &'b mut Json, names: &[Cow<'_, str>]) -> Result<&'b mut Json, PatchError> {
        names.iter().try_fold(document, |place, name| child_mut(place, name)).map_err(|reason| self.error(reason))
    }

    fn error(&self, reason: PlaceError) -> PatchError {
        PatchError::Place { op: self.op, pointer: clip(self.text), reason }
    }
}

/// A name in a JSON pointer, where `~1` stands for a slash and `~0` for a tilde.
fn unescape_name(name: &str) -> Option<Cow<'_, str>> {
    if !name.contains('~') {
        return Some(Cow::Borrowed(name));
    }
    let mut parts = name.split('~');
    let mut unescaped = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (char, rest) = match part.as_bytes().first()? {
            b'0' => ('~', &part[1..]),
            b'1' => ('/', &part[1..]),
            _ => return None,
        };
        unescaped.push(char);
        unescaped.push_str(rest);
    }
    Some(Cow::Owned(unescaped))
}

/// A copy of the document that a JSON Patch is changing, and what it may still spend.
struct Patching {
    document: Json,
    copied_bytes_left: usize,
    touched_bytes_left: usize,
}

impl Patching {
    fn apply(&mut self, op: Op<'_>) -> Result<(), PatchError> {
        let name = op.string("op")?;
        let path = op.pointer("path")?;
        match name {
            "add" => self.add(&path, op.value()?.clone()),
            "remove" => self.remove(&path).map(drop),
            "replace" => {
                let value = op.value()?;
                check_depth(path.names.len(), value).map_err(|reason| path.error(reason))?;
                *path.reach(&mut self.document)? = value.clone();
                Ok(())
            }
            "move" => self.move_to(&op.pointer("from")?, &path),
            "copy" => {
                let source = op.pointer("from")?.reach(&mut self.document)?;
                let bytes = Extent::of(source).bytes;
                spend(&mut self.touched_bytes_left, bytes, op.op)?;
                spend(&mut self.copied_bytes_left, bytes, op.op)?;
                let value = source.clone();
                self.add(&path, value)
            }
            "test" => {
                if path.reach(&mut self.document)? == op.value()? {
                    Ok(())
                } else {
                    Err(PatchError::TestFailed { op: op.op, pointer: clip(path.text) })
                }
            }
            _ => Err(PatchError::UnknownOp { op: op.op, name: clip(name) }),
        }
    }

    fn add(&mut self, path: &Pointer<'_>, value: Json) -> Result<(), PatchError> {
        check_depth(path.names.len(), &value).map_err(|reason| path.error(reason))?;
        match path.reach_parent(&mut self.document)? {
            None => self.document = value,
            Some((Json::Object(fields), name)) => {
                fields.insert(name.to_owned(), value);
            }
            Some((Json::Array(items), name)) => {
                let len = items.len();
                let at = match name {
                    "-" => len,
                    name => array_index(name, len).map_err(|reason| path.error(reason))?,
                };
                if at > len {
                    return Err(path.error(out_of_range(&name, len)));
                }
                spend(&mut self.touched_bytes_left, (len - at) * size_of::<Json>(), path.op)?;
                items.insert(at, value);
            }
            Some((other, _)) => return Err(path.error(wrong_kind("an object or array", other))),
        }
        Ok(())
    }

    fn remove(&mut self, path: &Pointer<'_>) -> Result<Json, PatchError> {
        // Reaching the value first leaves only removals that work.
        path.reach(&mut self.document)?;
        match path.reach_parent(&mut self.document)? {
            Some((Json::Object(fields), name)) => fields.remove(name).ok_or_else(|| path.error(PlaceError::MissingKey { key: clip(name) })),
            Some((Json::Array(items), name)) => {
                let at = array_index(name, items.len()).map_err(|reason| path.error(reason))?;
                let shifted_len = items.len() - at;
                spend(&mut self.touched_bytes_left, shifted_len * size_of::<Json>(), path.op)?;
                Ok(items.remove(at))
            }
            Some((other, _)) => Err(path.error(wrong_kind("an object or array", other))),
            None => Err(path.error(PlaceError::WholeDocument)),
        }
    }

    fn move_to(&mut self, from: &Pointer<'_>, path: &Pointer<'_>) -> Result<(), PatchError> {
        let source = from.reach(&mut self.document)?;
        if from.names == path.names {
            return Ok(());
        }
        if path.names.starts_with(&from.names) {
            return Err(PatchError::MoveIntoItself { op: path.op, pointer: clip(path.text) });
        }
        // Once for us and once for `add`, which measures its depth.
        spend(&mut self.touched_bytes_left, 2 * Extent::of(source).bytes, path.op)?;
        let value = self.remove(from)?;
        self.add(path, value)
    }
}

fn spend(bytes_left: &mut usize, bytes: usize, op: usize) -> Result<(), PatchError> {
    *bytes_left = bytes_left.checked_sub(bytes).ok_or(PatchError::TooMuchWork { op })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::cases;
    use super::*;
    use crate::json::tests::{any_json, json, text};
    use crate::json::{Flaw, Limits};

    #[test]
    fn json_patch_passes_its_test_file() {
        for case in cases("03-json/json-patch-spec_tests.json") {
            if case.contains_key("disabled") {
                continue;
            }
            let mut document = json(&case["doc"].to_string());
            let before = document.clone();
            let result = apply_json_patch(&mut document, &json(&case["patch"].to_string()));
            match case.get("expected") {
                Some(expected) => {
                    assert_eq!(result, Ok(()), "{}", case["comment"]);
                    assert_eq!(document, json(&expected.to_string()), "{}", case["comment"]);
                }
                None => {
                    assert!(result.is_err(), "{}", case["comment"]);
                    assert_eq!(document, before, "{}", case["comment"]);
                }
            }
        }
    }

    #[test]
    fn an_operation_with_two_names_is_refused_by_the_parser() {
        let patch = br#"[{"op":"add","path":"/baz","value":"qux","op":"remove"}]"#;
        let error = Json::parse(patch, Limits::default()).expect_err("a duplicate key");
        assert_eq!(error.flaw, Flaw::DuplicateKey { key: "op".into() });
    }

    fn patched(document: &str, ops: &str) -> Result<String, String> {
        let mut target = json(document);
        let result = apply_json_patch(&mut target, &json(ops));
        if result.is_err() {
            assert_eq!(target, json(document), "a refused patch changes nothing");
        }
        result.map(|()| text(&target)).map_err(|error| error.to_string())
    }

    #[test]
    fn json_patch_does_all_six_operations() {
        for (document, ops, result) in [
            ("[1,2]", r#"[{"op":"add","path":"/1","value":9}]"#, "[1,9,2]"),
            ("[1,2]", r#"[{"op":"add","path":"/2","value":9}]"#, "[1,2,9]"),
            ("[1]", r#"[{"op":"add","path":"","value":null}]"#, "null"),
            ("[1,2]", r#"[{"op":"remove","path":"/0"}]"#, "[2]"),
            ("[1,2]", r#"[{"op":"replace","path":"/0","value":{}}]"#, "[{},2]"),
            ("{}", r#"[{"op":"replace","path":"","value":1}]"#, "1"),
            ("[1,2,3]", r#"[{"op":"move","from":"/0","path":"/-"}]"#, "[2,3,1]"),
            ("[1,2]", r#"[{"op":"move","from":"/1","path":"/1"}]"#, "[1,2]"),
            (r#"{"a":[1]}"#, r#"[{"op":"copy","from":"","path":"/b"}]"#, r#"{"a":[1],"b":{"a":[1]}}"#),
            (r#"{"a":1.0}"#, r#"[{"op":"test","path":"/a","value":1}]"#, r#"{"a":1}"#),
            (r#"{"":{"m~n":1}}"#, r#"[{"op":"remove","path":"//m~0n"}]"#, r#"{"":{}}"#),
            (r#"{"0":1}"#, r#"[{"op":"remove","path":"/0"}]"#, "{}"),
        ] {
            assert_eq!(patched(document, ops).as_deref(), Ok(result), "{ops}");
        }
    }

    #[test]
    fn json_patch_errors_name_operation_and_pointer() {
        for (ops, message) in [
            ("{}", "a JSON Patch is an array of operations, not an object"),
            ("[1]", "op 0 must be an object, not a number"),
            (r#"[{"path":""}]"#, r#"op 0 needs "op", a string"#),
            (r#"[{"op":"add","path":"/x"}]"#, r#"op 0 needs "value", any value"#),
            (r#"[{"op":"copy","path":"/x"}]"#, r#"op 0 needs "from", a string"#),
            (r#"[{"op":"put","path":""}]"#, r#"op 0 is "put", expected add, remove, replace, move, copy or test"#),
            (
                r#"[{"op":"test","path":"/a","value":[1,2]},{"op":"remove","path":"a"}]"#,
                "op 1: \"a\" is not a JSON pointer: names follow slashes, \
                 and ~ stands only in ~0 and ~1",
            ),
            (
                r#"[{"op":"remove","path":"/a~2"}]"#,
                "op 0: \"/a~2\" is not a JSON pointer: names follow slashes, \
                 and ~ stands only in ~0 and ~1",
            ),
            (r#"[{"op":"remove","path":"/a/0"},{"op":"remove","path":"/a/1"}]"#, r#"op 1 at "/a/1": position 1 is out of range, the length is 1"#),
            (r#"[{"op":"add","path":"/a/3","value":1}]"#, r#"op 0 at "/a/3": position 3 is out of range, the length is 2"#),
            (r#"[{"op":"add","path":"/a/00","value":1}]"#, r#"op 0 at "/a/00": "00" is not an index of an array"#),
            (r#"[{"op":"replace","path":"/a/-","value":1}]"#, r#"op 0 at "/a/-": "-" is not an index of an array"#),
            (
                r#"[{"op":"remove","path":"/a/18446744073709551616"}]"#,
                "op 0 at \"/a/18446744073709551616\": \
                 position 18446744073709551616 is out of range, the length is 2",
            ),
            (r#"[{"op":"remove","path":"/b"}]"#, r#"op 0 at "/b": there is no key "b""#),
            (r#"[{"op":"add","path":"/a/0/x","value":1}]"#, r#"op 0 at "/a/0/x": expected an object or array there, found a number"#),
            (r#"[{"op":"remove","path":""}]"#, r#"op 0 at "": the whole document cannot be removed"#),
            (r#"[{"op":"move","from":"/a","path":"/a/0"}]"#, r#"op 0 at "/a/0": a value cannot move into itself"#),
            (r#"[{"op":"move","from":"/b","path":"/c"}]"#, r#"op 0 at "/b": there is no key "b""#),
            (r#"[{"op":"test","path":"/a/0","value":"1"}]"#, r#"op 0 at "/a/0": the value there is not the one to test for"#),
        ] {
            assert_eq!(patched(r#"{"a":[1,2]}"#, ops), Err(message.to_owned()), "{ops}");
        }
    }

    /// Each operation puts the document inside itself; unchecked, that ends in a stack overflow.
    #[test]
    fn a_patch_cannot_nest_without_end() {
        let op = r#"{"op":"copy","from":"","path":"/a"}"#;
        let error = patched(r#"{"a":{}}"#, &format!("[{}]", [op; 40].join(",")));
        let message = "op 30 at \"/a\": the result would have more than 32 arrays and objects \
                       inside each other";
        assert_eq!(error, Err(message.to_owned()));
    }

    /// Each operation doubles the document; thirty would make a terabyte of a kilobyte.
    #[test]
    fn a_patch_cannot_copy_without_end() {
        let op = r#"{"op":"copy","from":"/a","path":"/a/-"}"#;
        let document = format!(r#"{{"a":["{}"]}}"#, "x".repeat(1000));
        let error = patched(&document, &format!("[{}]", [op; 30].join(",")));
        let message = "op 13: the patch copies more than 16 MiB, or moves more than 1024 MiB about";
        assert_eq!(error, Err(message.to_owned()));
    }

    #[test]
    fn a_patch_cannot_shift_an_array_without_end() {
        let document = format!("[{}1]", "1,".repeat(400_000));
        let ops = format!("[{}]", [r#"{"op":"add","path":"/0","value":1}"#; 1000].join(","));
        assert!(patched(&document, &ops).expect_err("too much").contains("moves more than 1024 MiB"));
    }

    fn any_op() -> impl Strategy<Value = Json> {
        let name = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]);
        let pointer = "(/(a|b|-|~0|[0-2])){0,3}";
        (name, pointer, pointer, any_json()).prop_map(|(name, path, from, value)| {
            Json::Object(BTreeMap::from([
                ("op".to_owned(), Json::String(name.to_owned())),
                ("path".to_owned(), Json::String(path)),
                ("from".to_owned(), Json::String(from)),
                ("value".to_owned(), value),
            ]))
        })
    }

    proptest! {
        #[test]
        fn json_patch_does_everything_or_nothing(ops in prop::collection::vec(any_op(), 0..8)) {
            let mut target = json(r#"{"a":[0,[1],{"b":2}],"b":{"a":{"a":1}},"~":0}"#);
            let before = target.clone();
            if apply_json_patch(&mut target, &Json::Array(ops)).is_err() {
                prop_assert_eq!(target, before);
            } else {
                prop_assert_eq!(json(&text(&target)), target);
            }
        }
    }
}
