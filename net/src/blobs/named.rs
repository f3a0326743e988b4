//! Content that is named by its hash, and who gets at it by that.
//!
//! A hash is no right. Whoever may write can name content that he never saw, and that is here for other reasons: over
//! HTTP, where this peer writes for him, or by a change that he signed himself. So two questions are asked of everybody
//! but the owner. When he writes here: may he read what he names, at some path, or does he bring it now? And when he
//! reads: did this content get to where it is named from those who have that place ([`belongs`])?
//!
//! What is here, and not for him, is to him as what is not here.

use http::StatusCode;
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use timebus_store::ids::TimelineId;
use timebus_store::store::Store;

use crate::problem::Problem;
use crate::sync::Remote;

/// Whether content is here for those who have a timeline in which somebody names it: the owner named it there himself,
/// or had this peer do so for somebody who was asked, or it was fetched from those who have the timeline.
pub(crate) fn belongs(store: &Store, hash: &BlobHash, timeline: &TimelineId, author: &PublicKey) -> bool {
    let is_in_own = || store.timelines_of(&store.space()).iter().any(|(own, _)| own == timeline);
    store.is_by_owner(author, is_in_own) || store.blobs().is_some_and(|blobs| blobs.came_for(hash, timeline))
}

/// Whether what somebody sends of a blob for the sake of a space is for those who have a timeline of it, as far as is known here. What
/// he says does not tell for which one he has it: if he may read another one that names it, too, it is that one, unless he names it
/// here himself. Else a guest who may not read the other one would name here what he knows the hash of, and have it of whoever has
/// both. What names it there and has not come yet is not seen.
pub(crate) fn is_for(store: &Store, remote: &Remote, (space, timeline): (&PublicKey, &TimelineId), hash: &BlobHash) -> bool {
    if store.timelines_of(space).len() < 2 {
        return true;
    }
    let Some(rights) = store.rights(space) else { return false };
    let readable = crate::held::readable_by(store, remote, space, crate::who::now_ms());
    let is_owner = remote.keys.iter().any(|key| rights.device_grant(key).is_some());
    let is_his = |author: &PublicKey| remote.keys.contains(author) || is_owner && rights.was_device(author);
    let (mut says, mut is_elsewhere) = (false, false);
    let looked = store.is_named_where(&store.snapshot(), hash, |place| {
        if place.space.key == *space {
            says |= place.timeline == *timeline && is_his(&place.author);
            is_elsewhere |= place.timeline != *timeline && readable.iter().any(|(_, other)| *other == place.timeline);
        }
        says
    });
    looked.is_ok() && (says || !is_elsewhere)
}

/// The answer to who names content that he may not read.
pub(crate) fn problem(named: &[BlobHash]) -> Problem {
    let named: Vec<String> = named.iter().map(ToString::to_string).collect();
    let detail = format!("you may read {} nowhere on this peer, and a hash alone is no right to content", named.join(", "));
    Problem::new(StatusCode::FORBIDDEN, "blob-rights", "this content is not yours to name", detail)
        .with_fix("PUT the file itself at this path, with its media type")
        .with("blobs", named)
}
