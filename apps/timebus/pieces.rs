//! How an import is cut: pieces small enough to be written at once, put together into few requests.

use std::collections::BTreeMap;

use crate::target::segment;
use crate::value::Json;

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
    /// Merges with what is there.
    Json(Json),
    /// Replaces what is there: nulls, which remove things when they are merged.
    Whole(Json),
    /// A text or other file.
    File { mime: String, bytes: Vec<u8> },
    /// A file too large to be held in memory.
    Large { mime: String, file: std::path::PathBuf },
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
pub(crate) fn cut(names: Vec<String>, mut json: Json, bytes_max: usize, out: &mut Vec<Piece>) {
    let mut wholes = Vec::new();
    if must_be_whole(&json) {
        wholes.push(Piece { names, content: Content::Whole(json) });
    } else {
        take_wholes(&names, &mut json, &mut wholes);
        cut_merged(names, json, bytes_max, out);
    }
    // Behind the objects that they are members of.
    out.append(&mut wholes);
}

fn cut_merged(names: Vec<String>, json: Json, bytes_max: usize, out: &mut Vec<Piece>) {
    match json {
        Json::Object(members) if is_named(&members) && size_of_members(&members) > bytes_max => {
            for (name, value) in members {
                cut_merged(below(&names, &name), value, bytes_max, out);
            }
        }
        json => out.push(Piece { names, content: Content::Json(json) }),
    }
}

fn below(names: &[String], name: &str) -> Vec<String> {
    names.iter().cloned().chain([name.to_owned()]).collect()
}

fn is_named(members: &BTreeMap<String, Json>) -> bool {
    members.keys().all(|name| is_name(name))
}

/// Whether merging this would lose a null: it is one, or is kept as one value and has one.
fn must_be_whole(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::Object(members) => !is_named(members) && members.values().any(has_null),
        _ => false,
    }
}

/// Whether a null is a member of an object here. Arrays are replaced whole, so theirs are safe.
fn has_null(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

fn take_wholes(names: &[String], json: &mut Json, wholes: &mut Vec<Piece>) {
    let Json::Object(members) = json else { return };
    if !is_named(members) {
        return;
    }
    members.retain(|name, value| {
        let names = below(names, name);
        if must_be_whole(value) {
            wholes.push(Piece { names, content: Content::Whole(std::mem::replace(value, Json::Null)) });
            return false;
        }
        take_wholes(&names, value, wholes);
        true
    });
}

fn size_of_members(members: &BTreeMap<String, Json>) -> usize {
    members.iter().map(|(name, value)| name.len() + 4 + size(value)).sum()
}

/// Puts values together into one merge patch for the path that they have in common. What comes later wins.
pub(crate) fn patch(values: &[(Vec<String>, Json)]) -> Option<(Vec<String>, Json)> {
    let ((first, value), rest) = values.split_first()?;
    if rest.is_empty() {
        return Some((first.clone(), value.clone()));
    }
    let mut common = first.len();
    for (names, _) in rest {
        common = first.iter().zip(names).take(common).take_while(|(a, b)| a == b).count();
    }
    let mut merged = Json::Object(BTreeMap::new());
    for (names, value) in values {
        insert(&mut merged, &names[common..], value.clone());
    }
    Some((first[..common].to_vec(), merged))
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

    fn pieces(text: &str, bytes_max: usize) -> Vec<(String, Content)> {
        let mut pieces = Vec::new();
        cut(names("/t"), json(text), bytes_max, &mut pieces);
        pieces.into_iter().map(|piece| (piece.names.join("/"), piece.content)).collect()
    }

    #[test]
    fn cuts_between_members_only() {
        let text = r#"{"a":{"b":"xxxxxxxxxx","c":["yyyyyyyyyyyyyyyyyyyy",1]},"d":{"/":"zzzzzzzzzzzzzzzzzzzz"},"e":{}}"#;
        let pieces = pieces(text, 10);
        let paths: Vec<&str> = pieces.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["t/a/b", "t/a/c", "t/d", "t/e"]);
        let values: Vec<_> = pieces
            .into_iter()
            .map(|(path, content)| match content {
                Content::Json(json) => (names(&path), json),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(patch(&values), Some((names("/t"), json(text))));
    }

    #[test]
    fn nulls_are_written_by_themselves() {
        let merged = |text: &str| Content::Json(json(text));
        let whole = |text: &str| Content::Whole(json(text));
        let expected = [
            ("t", merged(r#"{"b":{"d":[null]},"f":{"/":[null]}}"#)),
            ("t/a", whole("null")),
            ("t/b/c", whole("null")),
            ("t/e", whole(r#"{"/":{"x":null}}"#)),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(path, content)| (path.to_owned(), content)).collect();
        let text = r#"{"a":null,"b":{"c":null,"d":[null]},"e":{"/":{"x":null}},"f":{"/":[null]}}"#;
        assert_eq!(pieces(text, 1000), expected);
        assert_eq!(pieces("null", 1000), [("t".to_owned(), whole("null"))]);
        assert_eq!(pieces(r#"{"":null}"#, 1), [("t".to_owned(), whole(r#"{"":null}"#))]);
    }

    #[test]
    fn later_values_win() {
        let values = [("/t/a", "1"), ("/t/a/b", "2"), ("/t/a", r#"{"c":3}"#), ("/t/x", "4")];
        let values: Vec<_> = values.iter().map(|(path, text)| (names(path), json(text))).collect();
        assert_eq!(patch(&values), Some((names("/t"), json(r#"{"a":{"b":2,"c":3},"x":4}"#))));
    }

    #[test]
    fn counts_leaves() {
        assert_eq!(leaves(&json(r#"{"a":[1,2],"b":{},"c":null}"#)), 4);
    }
}
