//! A Braid client that knows nothing of the store: it reads a stream of updates and applies them to a JSON value.

use std::io::BufRead;

use serde_json::Value;

use crate::http::{Headers, read_headers};

/// One update of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Update {
    pub(crate) status: u16,
    pub(crate) version: Vec<String>,
    pub(crate) parents: Vec<String>,
    pub(crate) body: Body,
}

/// What an update says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    /// All of it.
    Snapshot(Value),
    /// Ranges and what stands there now; nothing where something was removed.
    Patches(Vec<(String, Option<Value>)>),
    /// There is nothing any more.
    Gone,
}

/// An update as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RawUpdate {
    pub(crate) status: u16,
    pub(crate) version: Vec<String>,
    pub(crate) parents: Vec<String>,
    pub(crate) headers: Headers,
    pub(crate) body: RawBody,
}

/// What an update says, as bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RawBody {
    /// All of it.
    Whole(Vec<u8>),
    /// Ranges with their unit, and what stands there now.
    Patches(Vec<(String, Vec<u8>)>),
}

/// Reads the next update, as strictly as the clients that are in use; `None` at the end of the stream.
pub(crate) fn read_raw(stream: &mut impl BufRead) -> Option<RawUpdate> {
    let status = loop {
        let mut line = String::new();
        // A connection that breaks between updates ends the stream too.
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        // Line ends between updates are signs of life.
        if !line.trim_end_matches(['\r', '\n']).is_empty() {
            let mut parts = line.split(' ');
            assert!(matches!(parts.next(), Some("HTTP" | "HTTP/1.1")), "an update begins with a status line, not {line:?}");
            break parts.next().and_then(|status| status.parse().ok()).expect("a status");
        }
    };
    let headers = read_headers(stream);
    let version = headers.versions("version").expect("every update has a version");
    let parents = headers.versions("parents").expect("every update has parents");
    let length = headers.one("content-length").map(|length| length.parse::<usize>().expect("a length"));
    let patches = headers.one("patches").map(|count| count.parse::<usize>().expect("a number"));
    let body = match (length, patches) {
        (Some(length), None) => {
            let content = read_exactly(stream, length);
            match headers.one("content-range") {
                Some(range) => RawBody::Patches(vec![(range.to_owned(), content)]),
                None => RawBody::Whole(content),
            }
        }
        (None, Some(count)) => RawBody::Patches((0..count).map(|_| read_patch(stream)).collect()),
        _ => panic!("an update has exactly one of Content-Length and Patches: {headers:?}"),
    };
    Some(RawUpdate { status, version, parents, headers, body })
}

/// Reads the next update of a JSON value.
pub(crate) fn read_update(stream: &mut impl BufRead) -> Option<Update> {
    let RawUpdate { status, version, parents, body, .. } = read_raw(stream)?;
    let body = match body {
        RawBody::Whole(content) if status == 404 => {
            assert_eq!(content, b"null");
            Body::Gone
        }
        RawBody::Whole(content) => Body::Snapshot(serde_json::from_slice(&content).expect("JSON")),
        RawBody::Patches(patches) => Body::Patches(patches.iter().map(|(range, content)| patch(range, content)).collect()),
    };
    Some(Update { status, version, parents, body })
}

fn read_patch(stream: &mut impl BufRead) -> (String, Vec<u8>) {
    loop {
        let next = stream.fill_buf().expect("bytes").first().copied().expect("a patch");
        if !matches!(next, b'\r' | b'\n') {
            break;
        }
        stream.consume(1);
    }
    let headers: Headers = read_headers(stream);
    let length = headers.one("content-length").expect("every patch has a length").parse().expect("a number");
    let content = read_exactly(stream, length);
    (headers.one("content-range").expect("every patch has a range").to_owned(), content)
}

fn patch(range: &str, content: &[u8]) -> (String, Option<Value>) {
    let steps = range.strip_prefix("json").unwrap_or_else(|| panic!("not a range of JSON: {range}"));
    let value = (!content.is_empty()).then(|| serde_json::from_slice(content).expect("JSON"));
    (steps.trim_start().to_owned(), value)
}

/// What a text is after an update of it.
pub(crate) fn apply_text(text: &str, body: &RawBody) -> String {
    let patches = match body {
        RawBody::Whole(content) => return String::from_utf8(content.clone()).expect("UTF-8"),
        RawBody::Patches(patches) => patches,
    };
    let (old, mut out, mut done): (Vec<char>, _, _) = (text.chars().collect(), String::new(), 0);
    for (range, content) in patches {
        let inner =
            range.strip_prefix("text [").and_then(|range| range.strip_suffix(']')).unwrap_or_else(|| panic!("not a range of a text: {range}"));
        let (start, end) = inner.split_once(':').expect("a range");
        let (start, end): (usize, usize) = (start.parse().expect("a number"), end.parse().expect("a number"));
        assert!(done <= start && start <= end && end <= old.len(), "{range} does not fit {} characters after {done}", old.len());
        out.extend(&old[done..start]);
        out.push_str(std::str::from_utf8(content).expect("UTF-8"));
        done = end;
    }
    out.extend(&old[done..]);
    out
}

fn read_exactly(stream: &mut impl BufRead, length: usize) -> Vec<u8> {
    let mut content = vec![0; length];
    stream.read_exact(&mut content).expect("a whole body");
    content
}

/// What a client has after an update.
pub(crate) fn apply(state: &mut Option<Value>, update: &Update) {
    match &update.body {
        Body::Gone => *state = None,
        Body::Snapshot(value) => *state = Some(value.clone()),
        Body::Patches(patches) => {
            for (range, content) in patches {
                let steps = parse_steps(range);
                apply_patch(state, &steps, content.clone()).unwrap_or_else(|| panic!("{range} does not fit"));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
    Splice(usize, usize),
}

fn parse_steps(range: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = range;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix("[\"") {
            let mut end = 0;
            let bytes = inner.as_bytes();
            while bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            steps.push(Step::Key(serde_json::from_str(&format!("\"{}\"", &inner[..end])).expect("a JSON string")));
            rest = inner[end + 1..].strip_prefix(']').expect("a closing bracket");
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (inner, behind) = inner.split_once(']').expect("a closing bracket");
            let number = |text: &str| text.parse::<usize>().unwrap_or_else(|_| panic!("not a place: {range}"));
            steps.push(match inner.split_once(':') {
                Some((start, end)) => Step::Splice(number(start), number(end)),
                None => Step::Index(number(inner)),
            });
            rest = behind;
        } else {
            let inner = rest.strip_prefix('.').unwrap_or(rest);
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            steps.push(Step::Key(inner[..end].to_owned()));
            rest = &inner[end..];
        }
    }
    steps
}

fn apply_patch(state: &mut Option<Value>, steps: &[Step], content: Option<Value>) -> Option<()> {
    let Some((last, way)) = steps.split_last() else {
        *state = content;
        return Some(());
    };
    let mut at = state.as_mut()?;
    for step in way {
        at = match step {
            Step::Key(name) => at.as_object_mut()?.get_mut(name)?,
            Step::Index(index) => at.as_array_mut()?.get_mut(*index)?,
            Step::Splice(..) => return None,
        };
    }
    match (last, content) {
        (Step::Key(name), Some(value)) => drop(at.as_object_mut()?.insert(name.clone(), value)),
        (Step::Key(name), None) => drop(at.as_object_mut()?.remove(name)),
        (Step::Index(index), Some(value)) => *at.as_array_mut()?.get_mut(*index)? = value,
        (Step::Index(index), None) if *index < at.as_array()?.len() => drop(at.as_array_mut()?.remove(*index)),
        (Step::Splice(start, end), Some(Value::Array(items))) if start <= end && *end <= at.as_array()?.len() => {
            drop(at.as_array_mut()?.splice(start..end, items));
        }
        _ => return None,
    }
    Some(())
}

/// What a subscriber to JSON lines, server-sent events or a websocket has after a message.
pub(crate) fn apply_event(state: &mut Option<Value>, watched: &str, event: &Value) {
    if event.get("snapshot").is_some() {
        *state = (event["absent"] != true).then(|| event["snapshot"].clone());
        return;
    }
    let verb = ["put", "delete", "splice", "edit"].into_iter().find(|verb| event.get(verb).is_some());
    let Some(verb) = verb else { return };
    let path = event[verb].as_str().expect("a path");
    let steps = match event["at"].as_array() {
        Some(steps) => steps
            .iter()
            .map(|step| step.as_u64().map_or_else(|| Step::Key(step.as_str().expect("a name").into()), |at| Step::Index(at as usize)))
            .collect(),
        None => {
            let below = path.strip_prefix(watched.trim_end_matches('/')).unwrap_or_else(|| panic!("{path} is not below {watched}"));
            below.split('/').filter(|name| !name.is_empty()).map(|name| Step::Key(name.to_owned())).collect::<Vec<_>>()
        }
    };
    let mut steps: Vec<Step> = steps;
    if verb == "edit" {
        let mut at = state.as_ref().expect("a value");
        for step in &steps {
            at = match step {
                Step::Key(name) => &at[name.as_str()],
                Step::Index(index) => &at[*index],
                Step::Splice(..) => panic!("{event} does not fit"),
            };
        }
        let mut chars: Vec<char> = at.as_str().expect("a text").chars().collect();
        for edit in event["edits"].as_array().expect("edits") {
            let (pos, del) = (edit[0].as_u64().expect("a position") as usize, edit[1].as_u64().expect("a number") as usize);
            chars.splice(pos..pos + del, edit[2].as_str().expect("a text").chars());
        }
        apply_patch(state, &steps, Some(chars.into_iter().collect::<String>().into())).expect("it is there");
        return;
    }
    let content = match verb {
        "delete" => None,
        _ => Some(event["value"].clone()),
    };
    if verb == "splice" {
        let place = |name: &str| event[name].as_u64().expect("a place") as usize;
        steps.push(Step::Splice(place("start"), place("end")));
    }
    apply_patch(state, &steps, content).unwrap_or_else(|| panic!("{event} does not fit"));
}
