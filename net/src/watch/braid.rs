//! The Braid updates of a subscription.

use timebus_store::json::Json;
use timebus_store::path::{Path, Segment};
use timebus_store::update::{Edit, Step, Update};

use super::{boxed, relative, text, texts};
use crate::accept::Mime;
use crate::patches::{self, ContentRange, Position, Span, UpdateBody, write_deleted, write_update};
use crate::versions::print_versions;
use crate::window::changes;

/// What is sent where nothing is.
pub(super) const NOTHING: &[u8] = b"null";
/// Updates whose parts differ in more places than this are sent as snapshots.
const DIFFERENCE_MAX: usize = 512;

/// A whole Braid update.
pub(super) fn braid_update(version: &[Box<str>], parents: &[Box<str>], tail: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP 200 OK\r\nVersion: {}\r\nParents: {}\r\n", print_versions(version), print_versions(parents)).into_bytes();
    out.extend_from_slice(tail);
    out
}

/// The part of a Braid update behind its versions; `text_after` finds a text as the change left it. `None` if only
/// reading again tells.
pub(super) fn braid_tail(update: &Update, path: &Path, text_after: impl Fn(&Path) -> Option<String>) -> Option<Vec<u8>> {
    let mut parts = Vec::new();
    for patch in update.patches.as_ref()? {
        if let Some((steps, edit)) = relative(patch, path)? {
            match &*edit {
                // It may be a text, which is sent as it is.
                Edit::Put(Json::String(_)) if steps.is_empty() => return None,
                Edit::Text(edits) if steps.is_empty() => parts.extend(text::patches(edits)),
                // Ranges of a text inside of another value have no form, so the text is told as a whole.
                Edit::Text(_) => parts.push(braid_patch(steps, &Edit::Put(Json::String(text_after(&patch.path)?)))),
                Edit::Put(value) if steps.is_empty() => {
                    let mut content = Vec::new();
                    value.write(&mut content);
                    let mut out = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", content.len()).into_bytes();
                    out.extend_from_slice(&content);
                    out.extend_from_slice(b"\r\n\r\n");
                    return Some(out);
                }
                // A resource that is gone needs another status line; a snapshot says it.
                Edit::Delete if steps.is_empty() => return None,
                edit => parts.push(braid_patch(steps, edit)),
            }
        }
    }
    if parts.is_empty() {
        return Some(Vec::new());
    }
    let mut whole = Vec::new();
    write_update(&mut whole, &patches::Update { version: &[], parents: &[], repr_sha256: None, body: UpdateBody::Patches(&parts) });
    // The versions differ between subscribers and stand in front of this.
    let head = b"HTTP 200 OK\r\nVersion: \r\nParents: \r\n";
    whole.starts_with(head).then(|| whole.split_off(head.len()))
}

fn braid_step(step: &Step) -> patches::Step {
    match step {
        Step::Key(key) => patches::Step::Key(key.to_string()),
        Step::Index(index) => patches::Step::Index(Position::Start(*index as u64)),
    }
}

/// Where two values differ, by steps: the new value, or `None` where there is none any more. `None` when there
/// are too many places.
pub(crate) fn difference(before: Option<&Json>, after: Option<&Json>) -> Option<Vec<(Vec<Step>, Option<Json>)>> {
    fn walk(before: Option<&Json>, after: Option<&Json>, steps: &mut Vec<Step>, out: &mut Vec<(Vec<Step>, Option<Json>)>) -> bool {
        if before == after {
            return true;
        }
        // Objects with names that are no segments are kept whole, and only paths can say where something changed.
        let has_paths = |members: &std::collections::BTreeMap<String, Json>| members.keys().all(|name| Segment::name(name).is_ok());
        if let (Some(Json::Object(old)), Some(Json::Object(new))) = (before, after)
            && has_paths(old)
            && has_paths(new)
        {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                steps.push(Step::Key(name.as_str().into()));
                let fits = walk(old.get(name), new.get(name), steps, out);
                steps.pop();
                if !fits {
                    return false;
                }
            }
            return true;
        }
        out.push((steps.clone(), after.cloned()));
        out.len() <= DIFFERENCE_MAX
    }
    let mut out = Vec::new();
    walk(before, after, &mut Vec::new(), &mut out).then_some(out)
}

/// Writes what turned one value into another as a Braid update.
pub(crate) fn write_difference(out: &mut Vec<u8>, before: Option<&Json>, after: Option<&Json>, version: &[String], parents: &[String]) {
    let edits = changes(before, after).unwrap_or_default();
    write_braid_edits(out, &edits, after, &boxed(version), &boxed(parents));
}

/// Writes edits that lead to `value` as a Braid update. Without any, or when one replaces everything, the update is
/// the whole value: clients differ in what they make of an update with no patches.
pub(super) fn write_braid_edits(out: &mut Vec<u8>, edits: &[(Vec<Step>, Edit)], value: Option<&Json>, version: &[Box<str>], parents: &[Box<str>]) {
    let (version, parents) = (&*texts(version), &*texts(parents));
    let Some(value) = value else { return write_deleted(out, version, parents, NOTHING) };
    let is_root = |(steps, edit): &(Vec<Step>, Edit)| steps.is_empty() && !matches!(edit, Edit::Splice { .. });
    let mut content = Vec::new();
    let mut parts = Vec::new();
    let body = if edits.is_empty() || edits.iter().any(is_root) {
        value.write(&mut content);
        UpdateBody::Snapshot { content_type: &Mime::JSON, content: &content }
    } else {
        parts.extend(edits.iter().map(|(steps, edit)| braid_patch(steps, edit)));
        UpdateBody::Patches(&parts)
    };
    write_update(out, &patches::Update { version, parents, repr_sha256: None, body });
}

fn braid_patch(steps: &[Step], edit: &Edit) -> patches::Patch {
    let mut steps: Vec<patches::Step> = steps.iter().map(braid_step).collect();
    let mut content = Vec::new();
    match edit {
        Edit::Put(value) => value.write(&mut content),
        // Texts have patches of their own.
        Edit::Delete | Edit::Text(_) => {}
        Edit::Splice { start, end, items } => {
            steps.push(patches::Step::Splice(Span { start: Position::Start(*start as u64), end: Position::Start(*end as u64) }));
            Json::Array(items.clone()).write(&mut content);
        }
    }
    patches::Patch { range: ContentRange::Json(steps), content: content.into() }
}
