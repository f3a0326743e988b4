//! How subscribers see a text: its characters, and edits of it.
//!
//! In Braid an update of a text has ranges of the text before it, in characters (`text [3:5]`). Elsewhere an edit is
//! `[position, characters taken out, what is put in]`, each on top of the ones before.

use timebus_store::json::{Pos, write_string};
use timebus_store::keyspace::Committed;
use timebus_store::node::Write;
use timebus_store::op::TextEdit;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::text::{Budget, edits_between, splices};
use timebus_store::tree::{Shape, Tree};
use timebus_store::update::Update as Change;
use timebus_store::value::Value;
use timebus_store::writer::WriteError;

use crate::accept::Mime;
use crate::patches::{ContentRange, Patch, Position, Span, Update, UpdateBody, write_update};

/// Steps that finding out what changed since a version may take, some 100 ms; whoever would need more gets the text.
const STEPS_MAX: u64 = 5_000_000;

/// The text that shows at the top of a tree: its media type and its characters.
pub(crate) fn text_of(tree: &Tree) -> Option<(&str, &str)> {
    match tree.writes.first() {
        Some(Write { value: Value::Text { mime, content }, .. }) if tree.shape() == Shape::Scalar => {
            Some((mime.as_str(), content.as_ref().map_or("", |content| &content.text)))
        }
        _ => None,
    }
}

/// Whether a text shows at the top of a tree.
pub(crate) fn is_text(tree: &Tree) -> bool {
    text_of(tree).is_some()
}

/// What edits the text at a path had since versions of it; `None` if only the whole text tells.
pub(crate) fn edits_since(
    store: &Store,
    rows: &Committed,
    space: Space,
    path: &Path,
    versions: &[String],
) -> Result<Option<Vec<TextEdit>>, WriteError> {
    let Some(text) = store.text(rows, space, path)? else { return Ok(None) };
    // Versions from before the text was there are versions of what was there then.
    let version = store.text_version(rows, space, path, &text, versions)?;
    if version.is_empty() && !versions.is_empty() {
        return Ok(None);
    }
    Ok(text.patches_since(&version, &mut Budget::steps(STEPS_MAX)).ok())
}

/// The text at a path as a change left it; `None` if there is none, or it takes too long to find out.
pub(super) fn text_after(store: &Store, update: &Change, at: &Path) -> Option<String> {
    let rows = store.snapshot();
    let version: Vec<String> = update.version(&at.key()).iter().map(ToString::to_string).collect();
    let now = store.read(&rows, update.space, at).ok()?;
    // Mostly nothing has come since.
    let tree = if now.version == version { now.tree } else { store.read_at(&rows, update.space, at, &version).ok()? };
    text_of(&tree).map(|(_, text)| text.to_owned())
}

/// The edits that make the text of one tree into that of another; `None` if the first has none.
pub(crate) fn edits_from(before: &Tree, after: &Tree) -> Option<Vec<TextEdit>> {
    Some(edits_between(text_of(before)?.1, text_of(after)?.1))
}

/// A text with ranges of it replaced; `None` if they do not fit, which whoever makes them edits says more precisely.
pub(crate) fn with_ranges(text: &str, ranges: &[(Pos, Pos, String)]) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let place = |pos: &Pos| match pos {
        Pos::FromStart(at) => usize::try_from(*at).ok().filter(|at| *at <= chars.len()),
        Pos::FromEnd(at) => chars.len().checked_sub(usize::try_from(*at).ok()?),
    };
    let mut ranges = ranges.iter().map(|(start, end, new)| Some((place(start)?, place(end)?, new))).collect::<Option<Vec<_>>>()?;
    ranges.sort_by_key(|(start, end, _)| (*start, *end));
    let (mut out, mut done) = (String::new(), 0);
    for (start, end, new) in ranges {
        out.extend(chars.get(done..start)?);
        out.push_str(new);
        done = end.max(start);
    }
    out.extend(&chars[done..]);
    Some(out)
}

/// Edits as Braid patches.
pub(super) fn patches(edits: &[TextEdit]) -> Vec<Patch> {
    let patch = |(range, content): (std::ops::Range<u64>, String)| Patch {
        range: ContentRange::Text(Span { start: Position::Start(range.start), end: Position::Start(range.end) }),
        content: content.into(),
    };
    splices(edits).into_iter().map(patch).collect()
}

/// Writes a Braid update of a text: the edits, or without them the whole text.
pub(crate) fn write_braid(out: &mut Vec<u8>, tree: &Tree, edits: Option<&[TextEdit]>, version: &[String], parents: &[String]) {
    let Some((mime, text)) = text_of(tree) else { return };
    let parts = edits.map(patches).unwrap_or_default();
    let mime = Mime::parse(mime).unwrap_or(Mime::TEXT);
    let (parents, body) = match edits {
        Some(_) if !parts.is_empty() => (parents, UpdateBody::Patches(&parts)),
        Some(_) => (parents, UpdateBody::Snapshot { content_type: &mime, content: text.as_bytes() }),
        None => (&[][..], UpdateBody::Snapshot { content_type: &mime, content: text.as_bytes() }),
    };
    write_update(out, &Update { version, parents, repr_sha256: None, body });
}

/// Writes edits as JSON.
pub(super) fn write_edits(out: &mut Vec<u8>, edits: &[TextEdit]) {
    out.push(b'[');
    for (at, edit) in edits.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("[{},{},", edit.pos, edit.del).as_bytes());
        write_string(&edit.ins, out);
        out.push(b']');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever is told late of a change is not told of what came after it under its name.
    #[tokio::test]
    async fn a_text_is_told_as_a_change_left_it() {
        use timebus_store::writer::{Action, Condition, Request};
        let home = tempfile::tempdir().expect("a temporary folder");
        let lock = timebus_store::store::lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Default::default(), 1, &mut |_| {}).expect("a new store");
        let path = Path::parse("/doc").expect("a path");
        let mut versions = Vec::new();
        for text in ["one", "one two"] {
            let action = Action::PutText { mime: timebus_store::value::Mime::plain_text(), text: text.to_owned() };
            let (condition, path) = (Condition::None, path.clone());
            let request = Request { space: None, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
            versions.push((store.write(request).await.expect("written").version, text));
        }
        for (version, text) in versions {
            let update = Change {
                space: store.own(),
                a: 1,
                id: timebus_store::ids::ChangeId([0; 32]),
                name: "".into(),
                author: store.device(),
                behalf: None,
                time_ms: 1,
                patches: None,
                texts: Vec::new(),
                touched: Vec::new(),
                moved: Vec::new(),
                unnamed: Default::default(),
                asked: None,
                versions: [(path.key(), version.iter().map(|name| name.as_str().into()).collect())].into(),
            };
            assert_eq!(text_after(&store, &update, &path).as_deref(), Some(text));
        }
    }

    #[test]
    fn ranges_are_those_of_the_text_before_in_any_order() {
        let range = |start, end, new: &str| (start, end, new.to_owned());
        let ranges = [range(Pos::FromEnd(0), Pos::FromEnd(0), "!"), range(Pos::FromStart(0), Pos::FromStart(1), "\u{1f600}")];
        assert_eq!(with_ranges("h\u{e9}llo", &ranges).as_deref(), Some("\u{1f600}\u{e9}llo!"));
        assert_eq!(with_ranges("ab", &[]).as_deref(), Some("ab"));
        for (start, end) in
            [(Pos::FromStart(0), Pos::FromStart(3)), (Pos::FromEnd(3), Pos::FromEnd(0)), (Pos::FromStart(2), Pos::FromStart(u64::MAX))]
        {
            assert_eq!(with_ranges("ab", &[range(start, end, "x")]), None);
        }
        let overlapping = [range(Pos::FromStart(0), Pos::FromStart(2), ""), range(Pos::FromStart(1), Pos::FromStart(2), "")];
        assert_eq!(with_ranges("ab", &overlapping), None);
    }
}
