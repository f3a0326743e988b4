//! Texts that several people edit at once: a merge of signed `Text` ops that comes out the same on every peer.
//!
//! [`TextObject`] is one text. It takes ops in any order in which none comes before what it stands on, decides which
//! of them are valid, and keeps the merged text; `text/FORMAT.md` has the rules and the bytes of a snapshot. Below it,
//! `graph` knows what came after what, `tracker` is the merge itself, `merge` applies it, `order` chooses the way
//! through the branches.
//!
//! Whoever speaks a protocol of texts finds here what it needs. `Store::text` is the text at a path with all of its ops,
//! and `Store::text_version` the version that names stand for. A client that keeps characters alone, and has version
//! `seen`, is brought up to date by [`TextObject::patches_since`]; one that merges itself by
//! [`TextObject::updates_since`], one [`TextUpdate`] for each op under its session's name. What a subscriber is told
//! while it happens is in the feed: `Edit::Text` is what an op did to the merged text, `Update::texts` the op as it was
//! said. [`splices`] makes edits into ranges of the text before. Edits come in by `Action::EditText`, whose `label` and
//! `parents` are what Braid calls `Version` and `Parents`.
//!
//! Deliberately not: no disk, no thread, no clock, no rights. Who may write is decided elsewhere and told by
//! [`TextObject::set_effective`]; how long a merge may take is told by a [`Budget`].

mod agents;
mod budget;
mod diff;
mod graph;
mod merge;
mod object;
mod ops;
mod order;
mod query;
mod snapshot;
mod spans;
mod tracker;

pub use agents::EventName;
pub use budget::{Budget, OverBudget};
pub use diff::{DIFF_CHARS_MAX, compact, edits_between, splices};
pub use object::{Known, Merged, NoEffect, TextDraft, TextObject, TextOp, TextUpdate, VersionError};
pub use snapshot::SnapshotError;

use crate::ids::ChangeId;

/// Most characters of a text: what an editor in a page still handles, and what a hostile author can make us hold.
pub const TEXT_CHARS_MAX: u64 = 16 * 1024 * 1024;
/// Most sessions of one author that are concurrent at once in one text: pages open at one peer.
pub const AGENTS_PER_AUTHOR_MAX: usize = 32;

/// A version of a text: the last events it holds, as change and event (from 1) in it; empty is the empty text.
pub type TextVersion = Vec<(ChangeId, u64)>;

/// Checks what can be said about an op's edits alone: none is empty, and none reaches beyond what any text holds.
/// Returns the number of events.
fn count_events(edits: &[crate::op::TextEdit]) -> Result<u32, NoEffect> {
    if edits.is_empty() || edits.len() > crate::op::TEXT_EDITS_MAX {
        return Err(NoEffect::EditCount);
    }
    let mut len_max = TEXT_CHARS_MAX;
    let mut events = 0;
    for edit in edits {
        let chars = edit.ins.chars().count() as u64;
        if edit.del == 0 && chars == 0 {
            return Err(NoEffect::EmptyEdit);
        }
        if edit.pos > len_max || edit.del > len_max - edit.pos {
            return Err(NoEffect::OutOfRange);
        }
        len_max = len_max - edit.del + chars;
        events += edit.del + chars;
    }
    // No peer holds so much text; below it, numbers of events fit 32 bits with room to spare.
    u32::try_from(events).ok().filter(|events| *events < graph::EVENTS_MAX / 2).ok_or(NoEffect::OutOfRange)
}
