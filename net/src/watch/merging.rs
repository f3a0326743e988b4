//! Subscriptions of Braid clients that edit a text themselves: `Merge-Type: simpleton` and `dt`.
//!
//! A simpleton client has one line of time: what it was sent, or what it wrote since. Every update goes from there to
//! the text as it is now, and when something of others came before what it wrote, it is sent what that changes. A dt
//! client merges itself, so it is sent the edits as they were made, each insertion and each deletion by itself, with the
//! names of the events that they stand on.

use std::sync::Arc;

use bytes::Bytes;
use timebus_store::feed::{Entry, Version};
use timebus_store::keyspace::Committed;
use timebus_store::op::TextEdit;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::text::{Budget, TextUpdate, edits_between};
use timebus_store::update::Edit;
use timebus_store::writer::WriteError;

use super::text::{edits_since, patches, text_of};
use super::{DT, PIECE_BYTES, Watch, applied, boxed, relative, texts};
use crate::accept::Mime;
use crate::merge_type::{MergeType, no_text};
use crate::patches::{ContentRange, Patch, Position, Span, Update, UpdateBody, write_update};
use crate::problem::Problem;
use crate::route::{storage_problem, write_problem};

/// Steps that finding out what somebody lacks may take, some seconds.
const STEPS_MAX: u64 = 50_000_000;

impl Watch {
    /// Begins: with the text, or with what changed since versions that the client has.
    pub(super) fn begin_merging(&mut self, rows: &Committed, out: &mut Vec<u8>, kind: MergeType, from: Option<Vec<String>>) -> Result<(), Problem> {
        let failed = |error: StorageError| storage_problem(&error);
        self.upto = applied(rows).map_err(failed)?;
        let reading = self.peer.store.read(rows, self.feed.space, &self.path).map_err(failed)?;
        let shown = text_of(&reading.tree);
        if shown.is_none() && !reading.tree.is_absent() {
            return Err(no_text());
        }
        let (mime, text) = shown.unwrap_or(("text/plain; charset=utf-8", ""));
        self.media = Some(mime.into());
        let version = reading.version.clone();
        let from = from.filter(|from| !from.is_empty());
        match (kind, &from) {
            (MergeType::Simpleton, None) => {
                let mime = Mime::parse(mime).unwrap_or(Mime::TEXT);
                let body = UpdateBody::Snapshot { content_type: &mime, content: text.as_bytes() };
                write_update(out, &Update { version: &version, parents: &[], repr_sha256: Some(sha256(text)), body });
                self.version = boxed(&[]);
                self.catch_up_own(rows, out, (text, &boxed(&version))).map_err(|error| write_problem(&error))?;
            }
            (MergeType::Simpleton, Some(from)) => {
                self.version = boxed(from);
                self.catch_up(rows, out).map_err(|error| write_problem(&error))?;
            }
            (MergeType::Dt, _) => {
                if from.is_none() {
                    let body = UpdateBody::Snapshot { content_type: &Mime::TEXT, content: b"" };
                    write_update(out, &Update { version: &[], parents: &[], repr_sha256: None, body });
                }
                write_runs_since(&self.store(), rows, (self.feed.space, &self.path), out, from.as_deref().unwrap_or_default())
                    .map_err(|error| write_problem(&error))?;
            }
        }
        self.version = boxed(&version);
        Ok(())
    }

    /// What is new for a client that merges; `None` ends the subscription, and the client comes back and begins anew.
    pub(super) fn take_merging(&mut self, kind: MergeType, entries: Vec<Arc<Entry>>) -> Result<Option<Bytes>, StorageError> {
        let mut out = Vec::new();
        let mut is_behind = false;
        for entry in entries {
            if out.len() >= PIECE_BYTES {
                break;
            }
            self.number = entry.number + 1;
            if entry.update.a <= self.upto {
                continue;
            }
            let is_own = self.is_of_client(&entry).is_some();
            if kind == MergeType::Dt {
                if !is_own && !self.write_runs_of(&entry, &mut out) && !self.write_lacking(&mut out)? {
                    self.is_over = true;
                    break;
                }
                if self.upto < entry.update.a && !entry.version.is_empty() {
                    self.version = Arc::clone(&entry.version);
                }
                continue;
            }
            if is_own {
                // It has what it wrote, whatever became of it here.
                self.version = Arc::new([entry.update.asked.as_ref().map_or_else(|| entry.update.name.clone(), |(_, name)| name.clone())]);
                is_behind |= self.version != entry.version;
                continue;
            }
            match edits_of(&entry, self) {
                Some(edits) if !is_behind && entry.before.as_ref() == Some(&self.version) => {
                    write_edits(&mut out, &edits, &entry.version, &self.version, None);
                    self.version = Arc::clone(&entry.version);
                }
                _ => is_behind = true,
            }
        }
        if is_behind {
            let rows = self.peer.store.snapshot();
            self.upto = applied(&rows)?;
            if let Err(error) = self.catch_up(&rows, &mut out) {
                tracing::debug!(%error, "a client that merges has to begin anew");
                self.is_over = true;
            }
        }
        self.peer.counters.deliveries.fetch_add(u64::from(!out.is_empty()), std::sync::atomic::Ordering::Relaxed);
        Ok((!out.is_empty()).then(|| self.kept(out)))
    }

    /// Goes on after updates that nobody has any more.
    pub(super) fn remerge(&mut self) -> Result<Bytes, StorageError> {
        self.number = self.feed.end();
        let rows = self.peer.store.snapshot();
        let mut out = Vec::new();
        self.upto = applied(&rows)?;
        self.is_over = match self.merge {
            Some(MergeType::Dt) => !self.write_lacking(&mut out)?,
            _ => self.catch_up(&rows, &mut out).is_err(),
        };
        Ok(self.kept(out))
    }

    /// Sends what leads from the version that the client has to the text as it is now.
    fn catch_up(&mut self, rows: &Committed, out: &mut Vec<u8>) -> Result<(), WriteError> {
        let reading = self.peer.store.read(rows, self.feed.space, &self.path)?;
        let version = boxed(&reading.version);
        if version == self.version {
            return Ok(());
        }
        let now = text_of(&reading.tree).map_or("", |(_, text)| text);
        self.lead(rows, out, &self.version, (now, &version))?;
        self.catch_up_own(rows, out, (now, &version))?;
        self.version = version;
        Ok(())
    }

    /// The same from the last version that the client wrote, if it is not part of the one that it is known to have. What
    /// it wrote can come here before its subscription does, or while this is looked up: then it has gone on from there,
    /// and leaves alone what leads on from anything else.
    fn catch_up_own(&self, rows: &Committed, out: &mut Vec<u8>, now: (&str, &Version)) -> Result<(), WriteError> {
        let (store, space) = (&self.store(), self.feed.space);
        let Some(client) = &self.client else { return Ok(()) };
        // Most have written nothing.
        let Some(text) = store.text(rows, space, &self.path)?.filter(|text| text.next_seq(client.name()) > 0) else { return Ok(()) };
        let known = store.text_version(rows, space, &self.path, &text, &texts(&self.version))?;
        let lacking = text.updates_since(&known, &mut Budget::steps(STEPS_MAX)).unwrap_or_default();
        let own = lacking.iter().filter(|update| update.name.agent == client.name()).map(|update| update.name.seq).max();
        match own.map(|seq| boxed(&[format!("{}-{seq}", client.name())])) {
            Some(own) if own != *now.1 => self.lead(rows, out, &own, now),
            _ => Ok(()),
        }
    }

    /// Writes what makes the text of a version into that of now.
    fn lead(&self, rows: &Committed, out: &mut Vec<u8>, from: &Version, (now, version): (&str, &Version)) -> Result<(), WriteError> {
        let (store, space) = (&self.store(), self.feed.space);
        let names = texts(from);
        let edits = match edits_since(store, rows, space, &self.path, &names)? {
            Some(edits) => edits,
            // Another text, or none, is there now; or finding out takes too long.
            None => {
                let before = store.read_at(rows, space, &self.path, &names)?;
                edits_between(text_of(&before).map_or("", |(_, text)| text), now)
            }
        };
        write_edits(out, &edits, version, from, Some(sha256(now)));
        Ok(())
    }

    /// Writes the edits of a change as they were made, if that is all it did to the text. Says whether it was.
    fn write_runs_of(&self, entry: &Entry, out: &mut Vec<u8>) -> bool {
        let Some((_, update)) = entry.update.texts.iter().find(|(path, _)| *path == self.path) else { return false };
        let inserted = |edits: &[TextEdit]| edits.iter().map(|edit| edit.ins.len()).sum::<usize>();
        // A text that begins is no edit; and of a change in parts the last one alone is told here.
        let is_all = match edits_of(entry, self) {
            Some(edits) => inserted(&edits) <= inserted(&update.edits),
            None => self.version.is_empty() && update.parents.is_empty(),
        };
        if is_all {
            let runs = entry.form(DT, |_| {
                let mut runs = Vec::new();
                write_runs(&mut runs, update);
                runs
            });
            out.extend_from_slice(&runs);
        }
        is_all
    }

    /// Writes what the client lacks of the text; says whether the same text is still there.
    fn write_lacking(&mut self, out: &mut Vec<u8>) -> Result<bool, StorageError> {
        let rows = self.peer.store.snapshot();
        let (store, space) = (self.store(), self.feed.space);
        let is_there = store.text(&rows, space, &self.path)?.is_some();
        if !is_there || write_runs_since(&store, &rows, (space, &self.path), out, &texts(&self.version)).is_err() {
            return Ok(false);
        }
        self.upto = applied(&rows)?;
        self.version = boxed(&store.version(&rows, space, &self.path)?);
        Ok(true)
    }
}

/// What a change did to the text that is watched; `None` if it did something else there.
fn edits_of(entry: &Entry, watch: &Watch) -> Option<Vec<TextEdit>> {
    // A text that is merged further later has no change that says what became of it.
    if entry.update.a == u64::MAX {
        return None;
    }
    let mut found = None;
    for patch in entry.update.patches.as_ref()? {
        match relative(patch, &watch.path)? {
            None => {}
            Some((steps, edit)) => match &*edit {
                Edit::Text(edits) if steps.is_empty() && found.is_none() => found = Some(edits.clone()),
                _ => return None,
            },
        }
    }
    found
}

/// Writes one update of a simpleton client. It always has patches: some clients take a body for something to put in.
fn write_edits(out: &mut Vec<u8>, edits: &[TextEdit], version: &Version, parents: &Version, repr_sha256: Option<[u8; 32]>) {
    let mut parts = patches(edits);
    if parts.is_empty() {
        parts.push(range(0, 0, ""));
    }
    let (version, parents) = (texts(version), texts(parents));
    write_update(out, &Update { version: &version, parents: &parents, repr_sha256, body: UpdateBody::Patches(&parts) });
}

/// Writes what a version lacks, as a dt client takes it.
pub(crate) fn write_runs_since(
    store: &Store,
    rows: &Committed,
    (space, path): (Space, &Path),
    out: &mut Vec<u8>,
    from: &[String],
) -> Result<(), WriteError> {
    let Some(text) = store.text(rows, space, path)? else {
        return if from.is_empty() { Ok(()) } else { store.read_at(rows, space, path, from).map(drop) };
    };
    let version = store.text_version(rows, space, path, &text, from)?;
    let updates = text.updates_since(&version, &mut Budget::steps(STEPS_MAX)).map_err(|_| WriteError::UnknownVersion(from.to_vec()))?;
    for update in &updates {
        write_runs(out, update);
    }
    Ok(())
}

/// Writes an op as updates: each deletion and each insertion by itself, on the events before it.
fn write_runs(out: &mut Vec<u8>, update: &TextUpdate) {
    let agent = &update.name.agent;
    let name = |seq: u64| vec![format!("{agent}-{seq}")];
    let events: u64 = update.edits.iter().map(|edit| edit.del + edit.ins.chars().count() as u64).sum();
    let mut parents: Vec<String> = update.parents.iter().map(|parent| format!("{}-{}", parent.agent, parent.seq)).collect();
    let mut next = update.name.seq + 1 - events;
    for edit in &update.edits {
        let runs = [(edit.del, range(edit.pos, edit.pos + edit.del, "")), (edit.ins.chars().count() as u64, range(edit.pos, edit.pos, &edit.ins))];
        for (count, patch) in runs.into_iter().filter(|(count, _)| *count > 0) {
            next += count;
            let version = name(next - 1);
            let body = UpdateBody::Patches(std::slice::from_ref(&patch));
            write_update(out, &Update { version: &version, parents: &parents, repr_sha256: None, body });
            parents = version;
        }
    }
}

fn range(start: u64, end: u64, content: &str) -> Patch {
    let span = Span { start: Position::Start(start), end: Position::Start(end) };
    Patch { range: ContentRange::Text(span), content: Bytes::copy_from_slice(content.as_bytes()) }
}

/// What `Repr-Digest` says of a text.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).into()
}
