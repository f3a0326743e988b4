//! JSON and its patches. The second opinion is serde_json's, and digits are compared as digits.

use timebus_net::patches::{ContentRange, Position, Step};
use timebus_store::json::{DEPTH_MAX, Flaw, Json, Limits, Pos, Step as JsonStep, apply_json_patch, apply_splice, merge_patch};

fn parse(bytes: &[u8]) -> Option<Json> {
    Json::parse(bytes, Limits::default()).ok()
}

fn print(json: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    json.write(&mut out);
    out
}

/// A value prints to a text that parses back, and stays within the depth that everything else relies on.
fn check_value(json: &Json) {
    let limits = Limits { bytes_max: usize::MAX, ..Limits::default() };
    assert_eq!(Json::parse(&print(json), limits).as_ref(), Ok(json), "printed and not read back");
    let mut pretty = Vec::new();
    json.write_pretty(&mut pretty);
    assert_eq!(Json::parse(&pretty, limits).as_ref(), Ok(json), "printed for people and not read back");
}

/// A JSON text.
pub(crate) fn text(data: &[u8]) -> bool {
    let other = serde_json::from_slice::<serde_json::Value>(data);
    match Json::parse(data, Limits::default()) {
        Ok(json) => {
            check_value(&json);
            let other = other.expect("accepted, but it is no JSON");
            assert!(same_shape(&json, &other), "serde_json reads another value");
            let mut kept = Vec::new();
            numbers(&print(&json), &mut kept);
            let mut sent = Vec::new();
            numbers(data, &mut sent);
            kept.sort();
            sent.sort();
            assert_eq!(kept, sent, "a number changed");
            let spaced = [b" \t\r\n", data, b"\n "].concat();
            assert_eq!(parse(&spaced), Some(json), "white space around it changes it");
            true
        }
        Err(error) => {
            assert!(error.offset <= data.len() && error.line >= 1 && error.column >= 1, "{error:?}");
            let no_json = matches!(
                error.flaw,
                Flaw::Unexpected { .. }
                    | Flaw::Unfinished { .. }
                    | Flaw::LeadingZero
                    | Flaw::ControlCharacter { .. }
                    | Flaw::BadEscape { .. }
                    | Flaw::LoneSurrogate { .. }
                    | Flaw::NotUtf8
                    | Flaw::ByteOrderMark
            );
            assert!(!no_json || other.is_err(), "{error}, says serde_json not");
            false
        }
    }
}

fn same_shape(json: &Json, other: &serde_json::Value) -> bool {
    use serde_json::Value as Serde;
    match (json, other) {
        (Json::Null, Serde::Null) => true,
        (Json::Bool(a), Serde::Bool(b)) => a == b,
        (Json::Int(_) | Json::Float(_), Serde::Number(_)) => true,
        (Json::String(a), Serde::String(b)) => a == b,
        (Json::Array(a), Serde::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_shape(a, b)),
        (Json::Object(a), Serde::Object(b)) => a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_shape(a, b))),
        _ => false,
    }
}

/// A number as its sign, its digits without zeros around them, and the power of ten they count.
type Decimal = (bool, String, i64);

/// The numbers of a valid text.
fn numbers(text: &[u8], out: &mut Vec<Decimal>) {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => {
                at += 1;
                while text[at] != b'"' {
                    at += 1 + usize::from(text[at] == b'\\');
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let len = text[at..].iter().take_while(|byte| b"+-.eE0123456789".contains(byte)).count();
                let number = std::str::from_utf8(&text[at..at + len]).expect("ASCII");
                out.push(decimal(number));
                at += len;
            }
            _ => at += 1,
        }
    }
}

fn decimal(number: &str) -> Decimal {
    let (negative, rest) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let zeros = (digits.len() - trimmed.len()) as i64;
    let trimmed = trimmed.trim_start_matches('0');
    if trimmed.is_empty() {
        return (false, String::new(), 0);
    }
    let exponent: i64 = exponent.parse().expect("no number with such an exponent can be kept");
    (negative, trimmed.to_owned(), exponent - fraction.len() as i64 + zeros)
}

/// Lines of the input.
fn split(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == b'\n')
}

/// A document, and behind a line break a JSON Patch.
pub(crate) fn patch(data: &[u8]) -> bool {
    let mut lines = split(data);
    let (Some(document), Some(patch)) = (lines.next().and_then(parse), lines.next().and_then(parse)) else { return false };
    let mut patched = document.clone();
    match apply_json_patch(&mut patched, &patch) {
        Ok(()) => {
            check_value(&patched);
            let Json::Array(ops) = &patch else { panic!("a patch that is no list") };
            // One after the other is the same as all at once.
            let mut stepped = document;
            for op in ops {
                apply_json_patch(&mut stepped, &Json::Array(vec![op.clone()])).expect("it was applied before");
            }
            assert_eq!(stepped, patched);
            true
        }
        Err(_) => {
            assert_eq!(patched, document, "refused, but something changed");
            false
        }
    }
}

/// A document, a Braid range and, unless something is removed, new content; on three lines.
pub(crate) fn splice(data: &[u8]) -> bool {
    let mut lines = split(data);
    let (Some(document), Some(range)) = (lines.next().and_then(parse), lines.next()) else { return false };
    let Ok(range) = std::str::from_utf8(range) else { return false };
    let Ok(ContentRange::Json(steps)) = ContentRange::parse(range) else { return false };
    let content = match lines.next() {
        None | Some(b"") => None,
        Some(content) => match parse(content) {
            Some(content) => Some(content),
            None => return false,
        },
    };
    let steps: Vec<JsonStep> = steps.iter().map(json_step).collect();
    let mut patched = document.clone();
    match apply_splice(&mut patched, &steps, content.clone()) {
        Ok(()) => {
            check_value(&patched);
            check_splice(&document, &patched, &steps, content);
            true
        }
        Err(error) => {
            assert!(error.step <= steps.len(), "{error:?}");
            assert_eq!(patched, document, "refused, but something changed");
            false
        }
    }
}

/// As `timebus_net` turns a range into steps of the store.
fn json_step(step: &Step) -> JsonStep {
    let pos = |position: Position| match position {
        Position::Start(at) => Pos::FromStart(at),
        Position::End(at) => Pos::FromEnd(at),
    };
    match step {
        Step::Key(key) => JsonStep::Key(key.clone()),
        Step::Index(Position::Start(at)) => JsonStep::Index(i64::try_from(*at).unwrap_or(i64::MAX)),
        Step::Index(Position::End(0)) => JsonStep::End,
        Step::Index(Position::End(at)) => JsonStep::Index(i64::try_from(*at).map_or(i64::MIN, |at| -at)),
        Step::Splice(span) => JsonStep::Splice { start: pos(span.start), end: pos(span.end) },
    }
}

/// Along the way nothing but the way changes, and at its end stands the content.
fn check_splice(before: &Json, after: &Json, steps: &[JsonStep], content: Option<Json>) {
    let Some((step, rest)) = steps.split_first() else {
        assert_eq!(Some(after), content.as_ref());
        return;
    };
    match (before, after) {
        (Json::Object(before), Json::Object(after)) => {
            let JsonStep::Key(key) = step else { panic!("{step:?} into an object") };
            let others = |fields: &std::collections::BTreeMap<String, Json>| {
                fields.iter().filter(|(k, _)| *k != key).map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
            };
            assert_eq!(others(before), others(after), "a field beside the way changed");
            match (before.get(key), after.get(key)) {
                (Some(before), Some(after)) => check_splice(before, after, rest, content),
                (_, end) => assert!(rest.is_empty() && end == content.as_ref(), "a field came or went on the way"),
            }
        }
        (Json::Array(before), Json::Array(after)) => {
            let (start, end, new) = match step {
                JsonStep::Splice { start, end } => {
                    let at = |pos: &Pos| match *pos {
                        Pos::FromStart(at) => at as usize,
                        Pos::FromEnd(at) => before.len() - at as usize,
                    };
                    let new = match content {
                        Some(Json::Array(new)) => new,
                        None => Vec::new(),
                        Some(other) => panic!("{other:?} spliced into an array"),
                    };
                    (at(start), at(end), new)
                }
                JsonStep::End => (before.len(), before.len(), content.into_iter().collect()),
                JsonStep::Key(_) | JsonStep::Index(_) => {
                    let at = match step {
                        JsonStep::Key(key) => key.parse().expect("an index"),
                        JsonStep::Index(at @ 0..) => *at as usize,
                        JsonStep::Index(at) => before.len() - at.unsigned_abs() as usize,
                        _ => unreachable!("matched above"),
                    };
                    if !rest.is_empty() {
                        check_splice(&before[at], &after[at], rest, content);
                        assert!(before[..at] == after[..at] && before[at + 1..] == after[at + 1..], "an element beside the way changed");
                        return;
                    }
                    (at, before.len().min(at + 1), content.into_iter().collect())
                }
            };
            let mut expected = before.clone();
            expected.splice(start..end, new);
            assert_eq!(&expected, after);
        }
        (Json::String(before), Json::String(after)) => {
            let JsonStep::Splice { start, end } = step else { panic!("{step:?} into a string") };
            let chars: Vec<char> = before.chars().collect();
            let at = |pos: &Pos| match *pos {
                Pos::FromStart(at) => at as usize,
                Pos::FromEnd(at) => chars.len() - at as usize,
            };
            let new = match content {
                Some(Json::String(new)) => new,
                None => String::new(),
                Some(other) => panic!("{other:?} spliced into a string"),
            };
            let expected: String = chars[..at(start)].iter().copied().chain(new.chars()).chain(chars[at(end)..].iter().copied()).collect();
            assert_eq!(&expected, after);
        }
        _ => panic!("a step into {before:?} made {after:?}"),
    }
}

/// A document, and behind a line break a merge patch.
pub(crate) fn merge(data: &[u8]) -> bool {
    let mut lines = split(data);
    let (Some(mut document), Some(patch)) = (lines.next().and_then(parse), lines.next().and_then(parse)) else { return false };
    let expected = merged(document.clone(), &patch);
    merge_patch(&mut document, &patch);
    assert_eq!(document, expected, "not what the pseudocode of RFC 7396 says");
    check_value(&document);
    assert!(depth(&document) <= DEPTH_MAX);
    true
}

/// RFC 7396 §2, word for word.
fn merged(target: Json, patch: &Json) -> Json {
    let Json::Object(patch) = patch else { return patch.clone() };
    let mut fields = match target {
        Json::Object(fields) => fields,
        _ => Default::default(),
    };
    for (name, value) in patch {
        if *value == Json::Null {
            fields.remove(name);
        } else {
            let old = fields.remove(name).unwrap_or(Json::Null);
            fields.insert(name.clone(), merged(old, value));
        }
    }
    Json::Object(fields)
}

fn depth(json: &Json) -> usize {
    match json {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
