//! Writing for others: for guests who sign their requests, and for apps. This device signs what they write, so whatever keeps
//! others from writing too much or too long by a peer of their own is asked here.
//!
//! Whether they may write is asked when a request comes, and again when it is carried out: its body may have taken an hour. What
//! counts is what is written and not what was sent, as a short patch can copy a large value many times. Guests' requests are decided
//! one at a time, and each guest has time for it as for reading: the owner waits for one of them at most.
//!
//! Who asked is in the change itself, by his key: without it all would be the owner's, who could not tell later what he did not write.

use std::sync::Arc;
use std::time::Instant;

use timebus_identity::PublicKey;
use timebus_store::auth::CapError;
use timebus_store::blobs::BlobHash;
use timebus_store::change::OVERHEAD_BYTES;
use timebus_store::ids::TimelineId;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::{Begun, StorageError};
use timebus_store::writer::{MayName, Request, WriteError, Written};

use crate::authority::{Verb, is_owners_word, not_on_card};
use crate::blobs::named::belongs;
use crate::ledger::{Hosts, Payer};
use crate::others::{Coming, Reader, WriteTurn};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::route::{over_budget, room_for, storage_problem};
use crate::who::{Who, now_ms};

/// How often a write is tried again that names other content than was looked at before.
const TRIES: usize = 3;

/// What a request may name and write in a space that brings this content. A guest's likes and answers
/// would be the owner's, who signs them.
pub(crate) fn may_name(who: &Who, space: Space, brought: Option<BlobHash>) -> Option<MayName> {
    if who.is_owner() {
        return None;
    }
    let points_not_at = who.guest().map(|_| crate::refs::is_leaf as fn(&str) -> bool);
    let keeps_off = if matches!(who, Who::App(_)) && space.is_own() { crate::authority::owners_words().collect() } else { Vec::new() };
    // How much shows when it is his turn.
    let bytes_max = Some(0);
    let (blobs, asker) = (brought.into_iter().collect(), who.asker().unwrap_or_default());
    Some(MayName { blobs, points_not_at, keeps_off, asker, behalf: who.guest(), bytes_max })
}

/// Writes, for whomever it is. If he names content that he may read at some path, he may do that.
///
/// # Errors
///
/// The answer to who may not write there any more, or not as much, or has to wait for his turn; [`WriteError::Names`] if he may not
/// read what he names.
pub(crate) async fn write(
    peer: &Peer,
    who: &Who,
    (reader, sent): (Option<Reader>, &Option<Arc<Coming>>),
    request: Request,
) -> Result<Result<Written, WriteError>, Problem> {
    let (Some(payer), Some(_)) = (who.payer(), &request.may_name) else { return Ok(peer.store().write(request).await) };
    // Those of one connection are decided in the order in which they came.
    let turn = peer.others().turn_to_write(reader)?;
    let (peer, who, sent) = (peer.clone(), who.clone(), sent.clone());
    let work = async move {
        // It is here until then, also if he hangs up.
        let _sent = sent;
        carry_out(&peer, &who, &payer, turn.await?, request).await
    };
    // It is a task of its own: a turn that came to who does not look would be lost to all others, and who hangs up is counted, too.
    tokio::spawn(work).await.unwrap_or(Ok(Err(WriteError::Closing)))
}

/// Carries a request out in the turn of whoever asks, which is over when it is decided.
async fn carry_out(peer: &Peer, who: &Who, payer: &Payer, mut turn: WriteTurn, mut request: Request) -> Result<Result<Written, WriteError>, Problem> {
    let space = request.space.unwrap_or_else(|| peer.store().own());
    who.may(peer, Verb::Write, &space.key, &request.path)?;
    for _ in 0..TRIES {
        let (begun, limit) = begin(peer, payer, space, &mut request, &mut turn).await;
        let begun = match begun {
            Ok(begun) => begun,
            Err(error) => return Ok(Err(error)),
        };
        if begun.bytes.is_some() {
            drop(turn);
            return Ok(begun.done().await);
        }
        match (begun.done().await, who) {
            (Err(WriteError::TooMuch(bytes)), _) => {
                if let Some(source) = limit.and_then(|limit| limit.refuses(bytes)) {
                    return Ok(Err(WriteError::Limit { space: space.key, source }));
                }
                room_for(peer, who, &space.key, bytes)?;
            }
            (Err(WriteError::Names(named)), _) => {
                request.may_name.iter_mut().for_each(|may_name| may_name.blobs.extend(&named));
                let began = Instant::now();
                let (peer, who) = (peer.clone(), who.clone());
                let refused = tokio::task::spawn_blocking(move || unreadable(&peer, &who, named)).await;
                turn.took(began.elapsed());
                let refused = match refused {
                    Ok(refused) => refused.map_err(|error| storage_problem(&error))?,
                    Err(_) => return Ok(Err(WriteError::Closing)),
                };
                if !refused.is_empty() {
                    return Ok(Err(WriteError::Names(refused)));
                }
            }
            (Err(WriteError::NoGrant { path, .. }), Who::App(app)) if space.is_own() && is_owners_word(&path) => {
                return Err(not_on_card(app, Verb::Write, &path));
            }
            (result, _) => return Ok(result),
        }
    }
    Ok(Err(WriteError::Names(Vec::new())))
}

/// What became of a request as soon as it was decided, and how much it might have written.
type Decided = (Result<Begun, WriteError>, Option<Limit>);

/// Has a request decided, and counts what it writes. As it is nobody else's turn, what there is room for is so until then.
async fn begin(peer: &Peer, payer: &Payer, space: Space, request: &mut Request, turn: &mut WriteTurn) -> Decided {
    let ledger = peer.ledger();
    let hosts = ledger.hosts(peer.store(), &space.key, payer);
    let timeline = timeline_at(peer, space, &request.path);
    let limit = match payer {
        Payer::Key(guest) => limit_at(peer, *guest, space, &request.path),
        Payer::App(_) => None,
    };
    if let Some(may_name) = &mut request.may_name {
        let room = ledger.room(payer, &hosts);
        may_name.bytes_max = Some(limit.as_ref().map_or(room, |limit| room.min(limit.bytes)));
    }
    let begun = peer.store().begin(request.clone()).await;
    if let Ok(begun) = &begun {
        turn.took(begun.took);
        if let Some(bytes) = begun.bytes.filter(|bytes| *bytes > 0) {
            ledger.count(payer, &hosts, &timeline, bytes);
        }
    }
    (begun, limit)
}

/// The first of these blobs that somebody may read nowhere, if there is one.
fn unreadable(peer: &Peer, who: &Who, named: Vec<BlobHash>) -> Result<Vec<BlobHash>, StorageError> {
    let (store, rows) = (peer.store(), peer.store().snapshot());
    for hash in named {
        let may_read = store.is_named_where(&rows, &hash, |place| {
            who.may(peer, Verb::Read, &place.space.key, &place.path).is_ok() && belongs(store, &hash, &place.timeline, &place.author)
        })?;
        if !may_read {
            return Ok(vec![hash]);
        }
    }
    Ok(Vec::new())
}

/// A file that was counted before it is known whether it is kept.
pub(crate) struct Charged {
    payer: Payer,
    hosts: Hosts,
    timeline: TimelineId,
    bytes: u64,
}

impl Charged {
    /// It is not kept after all.
    pub(crate) fn give_back(self, peer: &Peer) {
        peer.ledger().give_back_file(&self.payer, &self.hosts, &self.timeline, self.bytes);
    }
}

/// Counts a file that a guest or an app has this peer take at a path, if his grants let him bring it, and the owner has room for it.
///
/// # Errors
///
/// The answer to him.
pub(crate) fn charge_file(peer: &Peer, who: &Who, space: Space, path: &Path, bytes: u64) -> Result<Option<Charged>, Problem> {
    let Some(payer) = who.payer() else { return Ok(None) };
    let (hosts, timeline) = (peer.ledger().hosts(peer.store(), &space.key, &payer), timeline_at(peer, space, path));
    let _one = peer.ledger().one_file();
    check_limit(peer, who, space, path, bytes)?;
    peer.ledger().charge_file(&payer, &hosts, &timeline, bytes, now_ms()).map_err(|id| over_budget(peer, &id))?;
    Ok(Some(Charged { payer, hosts, timeline, bytes }))
}

fn timeline_at(peer: &Peer, space: Space, path: &Path) -> TimelineId {
    peer.store().timeline(peer.store().at(space, path))
}

/// How many bytes count for the quotas of the grants of a key at a path: what it wrote itself there, as it does everywhere, and, over HTTP,
/// what this peer wrote for it, with the files.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn quota_used(peer: &Peer, key: &PublicKey, space: Space, path: &Path) -> Result<(u64, u64), StorageError> {
    let at = peer.store().at(space, path);
    let (by_himself, _) = timebus_store::tips::size_of(&*peer.store().snapshot(), at.main(), key)?;
    // For others this peer writes in its own space alone.
    let by_http = if space.is_own() { peer.ledger().quota_used(key, &space.key, &peer.store().timeline(at)) } else { 0 };
    Ok((by_himself, by_http))
}

/// How many bytes a guest may still have this peer write at a path, as far as his grants there say; `None` if he has none.
pub(crate) fn left_at(peer: &Peer, guest: PublicKey, space: Space, path: &Path) -> Option<u64> {
    limit_at(peer, guest, space, path).map(|limit| limit.bytes)
}

/// How much a guest may write at once at a path, by the limits of his grants there: as if what this peer writes for him were his own
/// chain. Of several grants the one with the most room.
struct Limit {
    bytes: u64,
    /// The error for more bytes than that.
    more: Box<dyn Fn(u64) -> CapError + Send>,
}

impl Limit {
    fn refuses(&self, bytes: u64) -> Option<CapError> {
        (bytes > self.bytes).then(|| (self.more)(bytes))
    }
}

/// Refuses what is more than a guest's grants let him write at a path.
///
/// # Errors
///
/// The answer to him.
pub(crate) fn check_limit(peer: &Peer, who: &Who, space: Space, path: &Path, bytes: u64) -> Result<(), Problem> {
    let Some(guest) = who.guest() else { return Ok(()) };
    let limit = limit_at(peer, guest, space, path);
    match limit.and_then(|limit| limit.refuses(bytes)) {
        Some(source) => Err(crate::route::write_problem(&WriteError::Limit { space: space.key, source })),
        None => Ok(()),
    }
}

fn limit_at(peer: &Peer, guest: PublicKey, space: Space, path: &Path) -> Option<Limit> {
    let rights = peer.store().rights(&space.key)?;
    let timeline = rights.timeline_of(path);
    let used = quota_used(peer, &guest, space, path).map_or(u64::MAX, |(by_himself, by_http)| by_himself.saturating_add(by_http));
    let grants = rights.grants_covering(Some(&guest), Verb::Write.actions(), &timeline, path, now_ms());
    let limits = grants.into_iter().map(|(grant, held)| {
        let (in_all, at_once) = (held.grant.bytes_max, held.grant.change_bytes_max);
        let left = if in_all == 0 { u64::MAX } else { in_all.saturating_sub(used) };
        let at_once = if at_once == 0 { u64::MAX } else { at_once.saturating_add(OVERHEAD_BYTES) };
        let more = move |bytes: u64| match left < at_once {
            true => CapError::Bytes { grant, max: in_all, found: used.saturating_add(bytes) },
            false => CapError::ChangeBytes { grant, max: at_once - OVERHEAD_BYTES, found: bytes.saturating_sub(OVERHEAD_BYTES) },
        };
        Limit { bytes: left.min(at_once), more: Box::new(more) }
    });
    limits.max_by_key(|limit| limit.bytes)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use timebus_store::writer::{Action, Condition};

    use super::*;

    /// What he sent is here until his turn came, and counts as long.
    #[tokio::test]
    async fn who_hangs_up_has_his_body_counted_as_long_as_it_is_here() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let lock = timebus_store::store::lock_home(home.path()).expect("a free home");
        let store = timebus_store::store::Store::open(home.path(), lock, &Default::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let key = timebus_identity::SecretKey::from_seed([7; 32]).public();
        let who = Who::Signed { signer: crate::signature::Signer::of(*key.as_bytes()), is_owner: false };
        let reader = Some(Reader::Key(key));
        let request = Request {
            space: None,
            path: Path::parse("/x").expect("a path"),
            action: Action::Delete,
            parents: None,
            label: None,
            condition: Condition::None,
            time_ms: 1,
            durable: true,
            may_name: may_name(&who, peer.store().own(), None),
        };
        let turn = peer.others().turn_to_write(Some(Reader::Key(PublicKey::from_bytes([8; 32])))).expect("he may").await.expect("a turn");
        let sent = Some(Arc::new(peer.others().coming(reader)));
        let count = || sent.as_ref().map_or(0, Arc::strong_count);
        assert!(write(&peer, &who, (reader, &sent), request).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert_eq!(count(), 2, "it waits for its turn");
        drop(turn);
        while count() > 1 {
            tokio::task::yield_now().await;
        }
        peer.stop();
    }
}
