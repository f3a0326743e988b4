//! The JSON events of a subscription: server-sent events, lines and messages of a websocket.

use timebus_store::feed::Version;
use timebus_store::json::write_string;
use timebus_store::path::Path;
use timebus_store::update::{Edit, Step, Update};

use super::{Form, relative, text};
use crate::websocket::{write_text, write_text_head};

/// Says that the next message belongs to the same change.
pub(crate) const MORE: &[u8] = b",\"more\":true";

pub(super) fn write_names<S: AsRef<str>>(names: &[S], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(name.as_ref(), out);
    }
    out.push(b']');
}

/// Writes one JSON object in the form's framing, with the version that it completes.
pub(crate) fn write_event<S: AsRef<str>>(form: Form, version: Option<&[S]>, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) {
    match form {
        Form::Watch(id) => write_text(out, |out| {
            // The number of the watch comes first, so that whoever reads by hand sees it.
            use std::io::Write as _;
            let _ = write!(out, "{{\"id\":{id},");
            members(out);
            out.push(b'}');
        }),
        Form::Events => {
            // Names of versions have no spaces or line ends when they are ids; others cannot be resumed from here.
            let id = version.map(|version| version.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" "));
            if let Some(id) = id.filter(|id| !id.contains(['\n', '\r', '\0'])) {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(id.as_bytes());
                out.push(b'\n');
            }
            out.extend_from_slice(b"data: {");
            members(out);
            out.extend_from_slice(b"}\n\n");
        }
        Form::Braid | Form::Lines => {
            out.push(b'{');
            members(out);
            out.extend_from_slice(b"}\n");
        }
    }
}

/// What stands before and behind so many bytes of members that are too long to be copied into an event: the same as of
/// [`write_event`], whose members would be `before`, those bytes, and `behind`.
pub(crate) fn around_event(form: Form, version: &str, before: &str, len: usize, behind: &str) -> (Vec<u8>, Vec<u8>) {
    match form {
        Form::Watch(id) => {
            let (first, mut head) = (format!("{{\"id\":{id},{before}"), Vec::new());
            write_text_head(&mut head, first.len() + len + behind.len() + 1);
            head.extend_from_slice(first.as_bytes());
            (head, format!("{behind}}}").into_bytes())
        }
        Form::Events => (format!("id: {version}\ndata: {{{before}").into_bytes(), format!("{behind}}}\n\n").into_bytes()),
        Form::Braid | Form::Lines => (format!("{{{before}").into_bytes(), format!("{behind}}}\n").into_bytes()),
    }
}

/// Puts the parents in front of each line.
pub(super) fn with_parents(parents: &[Box<str>], tail: &[u8]) -> Vec<u8> {
    let mut head = b"\"parents\":".to_vec();
    write_names(parents, &mut head);
    head.push(b',');
    let mut out = Vec::with_capacity(tail.len() + head.len());
    for line in tail.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(&head);
        out.extend_from_slice(line);
    }
    out
}

/// The members behind `parents` of the events that an update makes, one a line.
pub(super) fn lines_tails(update: &Update, path: &Path, version: &Version) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for patch in update.patches.as_ref()? {
        let Some((steps, edit)) = relative(patch, path)? else { continue };
        if !out.is_empty() {
            out.extend_from_slice(MORE);
            out.push(b'\n');
        }
        let at = if path.contains(&patch.path) { &patch.path } else { path };
        write_edit(&mut out, at, steps, &edit);
        out.extend_from_slice(b",\"version\":");
        write_names(version, &mut out);
        write_author(&mut out, update);
    }
    Some(out)
}

/// Writes who did something, for whom as he says, and when.
pub(super) fn write_author(out: &mut Vec<u8>, update: &Update) {
    out.extend_from_slice(format!(",\"by\":\"{}\"", update.author).as_bytes());
    if let Some(key) = &update.behalf {
        out.extend_from_slice(format!(",\"asked_by\":\"{key}\"").as_bytes());
    }
    out.extend_from_slice(format!(",\"time_ms\":{}", update.time_ms).as_bytes());
}

/// Writes the members of an event that say what happened where.
pub(super) fn write_edit(out: &mut Vec<u8>, path: &Path, steps: &[Step], edit: &Edit) {
    let verb = match edit {
        Edit::Put(_) => "put",
        Edit::Delete => "delete",
        Edit::Text(_) => "edit",
        Edit::Splice { .. } => "splice",
    };
    out.extend_from_slice(format!("\"{verb}\":").as_bytes());
    write_string(&path.to_string(), out);
    match edit {
        Edit::Put(value) => {
            out.extend_from_slice(b",\"value\":");
            value.write(out);
        }
        Edit::Delete => {}
        Edit::Text(edits) => {
            out.extend_from_slice(b",\"edits\":");
            text::write_edits(out, edits);
        }
        Edit::Splice { start, end, items } => {
            out.extend_from_slice(format!(",\"start\":{start},\"end\":{end},\"value\":[").as_bytes());
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                item.write(out);
            }
            out.push(b']');
        }
    }
    if steps.iter().any(|step| matches!(step, Step::Index(_))) {
        out.extend_from_slice(b",\"at\":[");
        for (number, step) in steps.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            match step {
                Step::Key(name) => write_string(name, out),
                Step::Index(index) => out.extend_from_slice(index.to_string().as_bytes()),
            }
        }
        out.push(b']');
    }
}
