//! How an import is cut: pieces small enough to be written at once, put together into few requests.

use std::collections::BTreeMap;

use crate::target::segment;
use crate::value::{Json, object};

/// Something to write below the path of an import.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Names from there, in whatever characters.
    pub(crate) names: Vec<String>,
    pub(crate) content: Content,
}

/// What a piece holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Json(Json),
    /// A text or other file.
    File {
        mime: String,
        bytes: Vec<u8>,
    },
}

/// Whether the store takes this as a name of its own. Objects with other names are kept whole.
pub(crate) fn is_name(name: &str) -> bool {
    !name.contains('/') && timebus_store::path::Path::parse(&format!("/{}", segment(name))).is_ok_and(|path| !path.is_root())
}

/// Bytes of the compact text, roughly.
pub(crate) fn size(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(_) => 5,
        Json::Int(_) | Json::Float(_) => 12,
        Json::String(text) => text.len() + 3,
        Json::Array(items) => 2 + items.iter().map(size).sum::<usize>(),
        Json::Object(members) => 2 + members.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>(),
    }
}

/// Values without parts.
pub(crate) fn leaves(json: &Json) -> u64 {
    match json {
        Json::Array(items) => items.iter().map(leaves).sum::<u64>().max(1),
        Json::Object(members) => members.values().map(leaves).sum::<u64>().max(1),
        _ => 1,
    }
}

/// Cuts a value into pieces of about `bytes_max`, where it can be cut: between the members of objects.
pub(crate) fn split(names: Vec<String>, json: Json, bytes_max: usize, out: &mut Vec<Piece>) {
    match json {
        Json::Object(members) if members.keys().all(|name| is_name(name)) && size_of_members(&members) > bytes_max => {
            for (name, value) in members {
                let mut names = names.clone();
                names.push(name);
                split(names, value, bytes_max, out);
            }
        }
        json => out.push(Piece { names, content: Content::Json(json) }),
    }
}

fn size_of_members(members: &BTreeMap<String, Json>) -> usize {
    members.iter().map(|(name, value)| name.len() + 4 + size(value)).sum()
}

/// Values that are written in one request, or two if there are nulls among them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Patch {
    /// The path that all have in common.
    pub(crate) names: Vec<String>,
    /// A merge patch.
    pub(crate) merge: Json,
    /// A JSON Patch for the nulls, which a merge patch cannot write.
    pub(crate) nulls: Option<Json>,
}

/// Puts values together. What comes later wins.
pub(crate) fn patch(values: &[(Vec<String>, Json)]) -> Option<Patch> {
    let ((first, value), rest) = values.split_first()?;
    if rest.is_empty() {
        let mut nulls = Vec::new();
        let mut merge = value.clone();
        take_nulls(&mut merge, "", &mut nulls);
        return Some(Patch { names: first.clone(), merge, nulls: operations(nulls) });
    }
    let mut common = first.len();
    for (names, _) in rest {
        common = first.iter().zip(names).take(common).take_while(|(a, b)| a == b).count();
    }
    let mut merge = Json::Object(BTreeMap::new());
    for (names, value) in values {
        insert(&mut merge, &names[common..], value.clone());
    }
    let mut nulls = Vec::new();
    take_nulls(&mut merge, "", &mut nulls);
    Some(Patch { names: first[..common].to_vec(), merge, nulls: operations(nulls) })
}

fn insert(into: &mut Json, names: &[String], value: Json) {
    match names.split_first() {
        None => merge(into, value),
        Some((name, rest)) => {
            if !matches!(into, Json::Object(_)) {
                *into = Json::Object(BTreeMap::new());
            }
            if let Json::Object(members) = into {
                match members.get_mut(name) {
                    Some(member) => insert(member, rest, value),
                    None => {
                        let mut member = Json::Object(BTreeMap::new());
                        match rest.is_empty() {
                            true => member = value,
                            false => insert(&mut member, rest, value),
                        }
                        members.insert(name.clone(), member);
                    }
                }
            }
        }
    }
}

fn merge(into: &mut Json, value: Json) {
    match (into, value) {
        (Json::Object(into), Json::Object(members)) => {
            for (name, value) in members {
                match into.get_mut(&name) {
                    Some(member) => merge(member, value),
                    None => {
                        into.insert(name, value);
                    }
                }
            }
        }
        (into, value) => *into = value,
    }
}

/// Takes nulls out of objects, except those that are kept whole, and tells where they were.
fn take_nulls(json: &mut Json, pointer: &str, nulls: &mut Vec<String>) {
    let Json::Object(members) = json else { return };
    if !members.keys().all(|name| is_name(name)) {
        return;
    }
    members.retain(|name, value| {
        let here = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        if *value == Json::Null {
            nulls.push(here);
            return false;
        }
        take_nulls(value, &here, nulls);
        true
    });
}

fn operations(nulls: Vec<String>) -> Option<Json> {
    let string = |text: &str| Json::String(text.to_owned());
    let operation = |pointer: String| object([("op", string("add")), ("path", Json::String(pointer)), ("value", Json::Null)]);
    (!nulls.is_empty()).then(|| Json::Array(nulls.into_iter().map(operation).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        crate::value::parse(text.as_bytes()).expect("JSON")
    }

    fn names(path: &str) -> Vec<String> {
        path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn names_are_what_the_store_says() {
        for good in ["a", "@a", "a b", "é", "..a"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "a/b", ".", "..", "a\n", &"x".repeat(256)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn cuts_between_members_only() {
        let value = json(r#"{"a":{"b":"xxxxxxxxxx","c":["yyyyyyyyyyyyyyyyyyyy",1]},"d":{"/":"zzzzzzzzzzzzzzzzzzzz"},"e":{}}"#);
        let mut pieces = Vec::new();
        split(names("/t"), value.clone(), 10, &mut pieces);
        let paths: Vec<String> = pieces.iter().map(|piece| piece.names.join("/")).collect();
        assert_eq!(paths, ["t/a/b", "t/a/c", "t/d", "t/e"]);
        let values: Vec<_> = pieces
            .into_iter()
            .map(|piece| match piece.content {
                Content::Json(json) => (piece.names, json),
                Content::File { .. } => panic!("no file was put in"),
            })
            .collect();
        let patch = patch(&values).expect("values");
        assert_eq!((patch.names, patch.merge, patch.nulls), (names("/t"), value, None));
    }

    #[test]
    fn nulls_go_beside() {
        let value = json(r#"{"a":null,"b":{"c~":null,"d":[null]},"e":{"/":null}}"#);
        let patch = patch(&[(names("/t"), value)]).expect("a value");
        assert_eq!(patch.merge, json(r#"{"b":{"d":[null]},"e":{"/":null}}"#));
        let expected = r#"[{"op":"add","path":"/a","value":null},{"op":"add","path":"/b/c~0","value":null}]"#;
        assert_eq!(patch.nulls, Some(json(expected)));
    }

    #[test]
    fn a_null_alone_is_written() {
        let patch = patch(&[(names("/t"), Json::Null)]).expect("a value");
        assert_eq!((patch.merge, patch.nulls), (Json::Null, None));
    }

    #[test]
    fn later_values_win() {
        let values = [("/t/a", "1"), ("/t/a/b", "2"), ("/t/a", r#"{"c":3}"#), ("/t/x", "4")];
        let values: Vec<_> = values.iter().map(|(path, text)| (names(path), json(text))).collect();
        let patch = patch(&values).expect("values");
        assert_eq!((patch.names, patch.merge), (names("/t"), json(r#"{"a":{"b":2,"c":3},"x":4}"#)));
    }

    #[test]
    fn counts_leaves() {
        assert_eq!(leaves(&json(r#"{"a":[1,2],"b":{},"c":null}"#)), 4);
    }
}
