//! Values as the store keeps them: exact numbers, refused where they cannot be kept.

use std::collections::BTreeMap;

use timebus_store::json::Limits;
pub(crate) use timebus_store::json::{Json, JsonError};

/// Nesting that is read here; the peer decides what it keeps.
const DEPTH_MAX: usize = 256;

/// Parses one JSON text.
pub(crate) fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
    // Editors on Windows begin files with a byte order mark, which says nothing.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    Json::parse(bytes, Limits { depth_max: DEPTH_MAX, bytes_max: usize::MAX, ..Limits::default() })
}

/// The compact text.
pub(crate) fn compact(json: &Json) -> String {
    let mut out = Vec::new();
    json.write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The text for people.
pub(crate) fn pretty(json: &Json) -> String {
    let mut out = Vec::new();
    json.write_pretty(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// A member of an object.
pub(crate) fn member<'a>(json: &'a Json, name: &str) -> Option<&'a Json> {
    match json {
        Json::Object(members) => members.get(name),
        _ => None,
    }
}

/// A member of an object that is a string.
pub(crate) fn text<'a>(json: &'a Json, name: &str) -> Option<&'a str> {
    match member(json, name) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    }
}

/// A member of an object that is a whole number.
pub(crate) fn number(json: &Json, name: &str) -> Option<u64> {
    match member(json, name) {
        Some(Json::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// A string.
pub(crate) fn string(json: &Json) -> Option<&str> {
    match json {
        Json::String(text) => Some(text),
        _ => None,
    }
}

/// The elements of a member that is an array.
pub(crate) fn items<'a>(json: &'a Json, name: &str) -> &'a [Json] {
    match member(json, name) {
        Some(Json::Array(items)) => items,
        _ => &[],
    }
}

/// Versions, which are written as a string or as an array of them.
pub(crate) fn versions(json: Option<&Json>) -> Vec<String> {
    match json {
        Some(Json::String(version)) => vec![version.clone()],
        Some(Json::Array(versions)) => versions.iter().flat_map(|version| self::versions(Some(version))).collect(),
        _ => Vec::new(),
    }
}

/// An object of these members.
pub(crate) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>())
}

/// The media type and length of a file that JSON shows in base64 or by its hash.
pub(crate) fn file(json: &Json) -> Option<(&str, u64)> {
    let Json::Object(members) = json else { return None };
    let mime = text(json, "@type")?;
    match members.len() {
        2 => {
            let base64 = text(json, "@bytes")?;
            let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
            Some((mime, (base64.len() / 4 * 3).saturating_sub(padding) as u64))
        }
        3 => text(json, "@blob").and_then(|_| Some((mime, number(json, "@bytes_total")?))),
        _ => None,
    }
}

/// A value in one line of at most `chars_max` characters.
pub(crate) fn brief(json: &Json, chars_max: usize) -> String {
    if let Some((mime, bytes)) = file(json) {
        return format!("{mime}, {}", indicatif::DecimalBytes(bytes));
    }
    let text = compact(json);
    match text.char_indices().nth(chars_max) {
        None => text,
        Some(_) => match json {
            Json::Object(members) => format!("{{ {} }}", counted(members.len(), "member")),
            Json::Array(items) => format!("[ {} ]", counted(items.len(), "element")),
            _ => text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
        },
    }
}

/// `1 change`, `2 changes`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brief_values_fit_a_line() {
        let json = parse(br#"{"a":[1,2,3],"b":"xxxxxxxxxx"}"#).expect("JSON");
        assert_eq!(brief(&json, 80), r#"{"a":[1,2,3],"b":"xxxxxxxxxx"}"#);
        assert_eq!(brief(&json, 20), "{ 2 members }");
        assert_eq!(brief(&Json::String("ééééééé".into()), 5), "\"ééé…");
    }

    #[test]
    fn files_are_described() {
        let json = parse(br#"{"@bytes":"AAECAw==","@type":"image/png"}"#).expect("JSON");
        assert_eq!(file(&json), Some(("image/png", 4)));
        assert_eq!(brief(&json, 80), "image/png, 4 B");
        assert_eq!(file(&parse(br#"{"@bytes":"AA=="}"#).expect("JSON")), None);
    }

    #[test]
    fn versions_come_in_two_forms() {
        let json = parse(br#"{"a":"x","b":["x","y"],"c":1}"#).expect("JSON");
        assert_eq!(versions(member(&json, "a")), ["x"]);
        assert_eq!(versions(member(&json, "b")), ["x", "y"]);
        assert!(versions(member(&json, "c")).is_empty());
    }
}
