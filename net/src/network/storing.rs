//! What comes over a link, checked and stored in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use timebus_identity::{PublicKey, Signed, Verified};
use timebus_store::change::{Change, Head};
use timebus_store::ids::{ChangeId, TimelineId};
use timebus_store::store::Store;
use tokio::sync::{mpsc, oneshot};

use super::Command;
use crate::ledger::{Author, Ledger, Relation};
use crate::node::{Event, LinkId};
use crate::sync::Stored;
use crate::who::now_ms;

/// Changes whose signatures are checked by one thread at a time; fewer are not worth the way there.
const CHECK_CHUNK: usize = 64;
/// Frames of one link whose changes were checked and are being written, and as many that wait for that: while some are
/// on their way to the disk, the next are checked. What a link holds in all is limited by its credit.
const STORING_MAX: usize = 16;

/// Changes that came, and who wrote them as far as that is known.
pub(super) struct ToStore {
    pub(super) ticket: u64,
    pub(super) space: PublicKey,
    pub(super) timeline: TimelineId,
    pub(super) changes: Vec<Signed<Change>>,
    /// Whether nothing is known of whoever brings them.
    pub(super) is_by_stranger: bool,
    pub(super) authors: BTreeMap<PublicKey, Author>,
    /// Heads of changes that are held back, and who built on each.
    pub(super) weights: Vec<(Signed<Head>, BTreeSet<PublicKey>)>,
}

/// What was checked and is to be stored.
struct Checked {
    stored: Stored,
    space: PublicKey,
    timeline: TimelineId,
    changes: Vec<Verified<Change>>,
    authors: BTreeMap<PublicKey, Author>,
}

/// Checks and stores what came, in order. Checking goes on while what was checked before is on its way to the disk.
pub(super) async fn keep(
    link: LinkId,
    store: Store,
    ledger: Arc<Ledger>,
    strangers: Arc<Strangers>,
    mut queue: mpsc::UnboundedReceiver<ToStore>,
    commands: mpsc::Sender<Command>,
) {
    let (checked, to_offer) = mpsc::channel(STORING_MAX);
    let (checking_store, checking_ledger, checking_commands) = (store.clone(), Arc::clone(&ledger), commands.clone());
    let checking = async move {
        while let Some(ToStore { ticket, space, timeline, changes, is_by_stranger, authors, weights }) = queue.recv().await {
            if !weights.is_empty() {
                let (store, ledger) = (checking_store.clone(), Arc::clone(&checking_ledger));
                let lent = tokio::task::spawn_blocking(move || weigh(&store, &ledger, &space, weights, &authors)).await.unwrap_or(false);
                // What was held back is asked for again with the next link.
                if lent && checking_commands.send(Command::Event(Event::StoreFailed { link })).await.is_err() {
                    return;
                }
                continue;
            }
            let mut stored = Stored { ticket, ..Stored::default() };
            let changes = match is_by_stranger {
                true => strangers.check(changes, &mut stored.bad_signatures).await,
                false => check(changes, &mut stored.bad_signatures).await,
            };
            if checked.send(Checked { stored, space, timeline, changes, authors }).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(checking, offer(link, store, ledger, to_offer, commands));
}

/// Checks what strangers bring, all of them together for a quarter of the time of one thread: whoever makes keys at will and sends
/// what nobody signed takes little from others.
#[derive(Debug, Default)]
pub(super) struct Strangers(Arc<tokio::sync::Mutex<()>>);

impl Strangers {
    async fn check(&self, changes: Vec<Signed<Change>>, bad: &mut Vec<ChangeId>) -> Vec<Verified<Change>> {
        let mut good = Vec::new();
        let mut rest = changes.into_iter();
        loop {
            let chunk: Vec<Signed<Change>> = rest.by_ref().take(CHECK_CHUNK).collect();
            if chunk.is_empty() {
                return good;
            }
            let checked = self.take_turn(move || verify(chunk)).await;
            good.extend(checked.into_iter().flatten().filter_map(|change| change.map_err(|id| bad.push(id)).ok()));
        }
    }

    /// Works beside the threads that serve sockets, and then rests for three times as long before it is the next one's turn.
    async fn take_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let turn = Arc::clone(&self.0).lock_owned().await;
        let (tell, told) = oneshot::channel();
        let timed = move || {
            let began = std::time::Instant::now();
            (work(), began.elapsed())
        };
        // Also of a link that ends meanwhile: else whoever begins new ones again and again would not wait.
        tokio::spawn(async move {
            let Ok((done, took)) = tokio::task::spawn_blocking(timed).await else { return };
            drop(tell.send(done));
            tokio::time::sleep(took * 3).await;
            drop(turn);
        });
        told.await.ok()
    }
}

/// Those that were signed by their authors, and the ids of the others.
fn verify(changes: Vec<Signed<Change>>) -> Vec<Result<Verified<Change>, ChangeId>> {
    let one = |change: Signed<Change>| {
        let id = change.content().id();
        change.verify().map_err(|_| id)
    };
    changes.into_iter().map(one).collect()
}

/// Checks signatures beside the threads that serve sockets.
async fn check(changes: Vec<Signed<Change>>, bad: &mut Vec<ChangeId>) -> Vec<Verified<Change>> {
    let mut rest = changes.into_iter();
    let mut tasks = Vec::new();
    loop {
        let chunk: Vec<Signed<Change>> = rest.by_ref().take(CHECK_CHUNK).collect();
        if chunk.is_empty() {
            break;
        }
        tasks.push(tokio::task::spawn_blocking(move || verify(chunk)));
    }
    let mut good = Vec::new();
    for task in tasks {
        for checked in task.await.unwrap_or_default() {
            match checked {
                Ok(change) => good.push(change),
                Err(id) => bad.push(id),
            }
        }
    }
    good
}

/// Checks heads and remembers how much there is. Whether somebody who built on what they name has room for that.
fn weigh(
    store: &Store,
    ledger: &Ledger,
    space: &PublicKey,
    heads: Vec<(Signed<Head>, BTreeSet<PublicKey>)>,
    authors: &BTreeMap<PublicKey, Author>,
) -> bool {
    let author = |key: &PublicKey| authors.get(key).cloned().unwrap_or(Author { person: *key, relation: Relation::Stranger });
    let mut lent = false;
    for (head, by) in heads {
        let Ok(head) = head.verify() else { continue };
        match ledger.weigh(store, space, &head, &by, author, now_ms()) {
            Ok(now_lent) => lent |= now_lent,
            Err(error) => tracing::error!(%error, "what is held back could not be counted"),
        }
    }
    // Whoever watches what waits is told.
    store.recheck_rights();
    lent
}

/// Changes that the ledger has counted, and their authors, until it is known what became of them. They are counted again when
/// that stays unknown, as when the link breaks meanwhile.
struct Counted {
    ledger: Arc<Ledger>,
    again: BTreeMap<ChangeId, PublicKey>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let again = std::mem::take(&mut self.again);
        self.ledger.give_back(again.keys().copied());
        self.ledger.recount(again.into_values());
    }
}

/// Hands what was checked, and the owner has room for, to the store, and tells what became of it, in order.
async fn offer(link: LinkId, store: Store, ledger: Arc<Ledger>, mut checked: mpsc::Receiver<Checked>, commands: mpsc::Sender<Command>) {
    let mut offers = FuturesOrdered::new();
    let mut is_open = true;
    while is_open || !offers.is_empty() {
        let (mut stored, timeline, held, by, result, mut counted) = tokio::select! {
            next = checked.recv(), if is_open && offers.len() < STORING_MAX => {
                match next {
                    Some(Checked { stored, space, timeline, changes, authors }) => {
                        let author = |key: &PublicKey| authors.get(key).cloned().unwrap_or(Author { person: *key, relation: Relation::Stranger });
                        let by: BTreeMap<ChangeId, PublicKey> = changes.iter().map(|change| (change.id(), change.header().author)).collect();
                        let sorted = ledger.sort(&store, &space, changes, author, now_ms());
                        let counted = Counted { ledger: Arc::clone(&ledger), again: by.clone() };
                        let store = store.clone();
                        offers.push_back(async move {
                            let (result, held) = match sorted {
                                Ok((good, held)) => (store.offer(good).await, held),
                                Err(error) => (Err(error.into()), Vec::new()),
                            };
                            (stored, timeline, held, by, result, counted)
                        });
                    }
                    None => is_open = false,
                }
                continue;
            }
            Some(done) = offers.next() => done,
        };
        match result {
            Ok(offered) => {
                ledger.kept(&offered.admitted);
                counted.again = crate::held::uncounted(&offered).filter_map(|id| Some((id, by.get(&id).copied()?))).collect();
                drop(counted);
                crate::held::tell(&mut stored, offered);
                if !held.is_empty() {
                    let authors: BTreeSet<PublicKey> = held.iter().map(|(_, author)| *author).collect();
                    stored.held.extend(held.into_iter().map(|(id, _)| id));
                    // Whoever watches what waits is told.
                    store.recheck_rights();
                    let authors = authors.into_iter().collect();
                    if commands.send(Command::Event(Event::HeldBack { link, timeline, authors })).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                // What came is asked for again with the next link.
                tracing::error!(%error, "changes of another peer were not stored");
                let _ = commands.send(Command::Event(Event::StoreFailed { link })).await;
                return;
            }
        }
        if commands.send(Command::Event(Event::Stored { link, stored })).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock of the runtime stands while somebody works, so what passes on it is how long they rest.
    #[tokio::test(start_paused = true)]
    async fn strangers_take_turns_and_rest_in_between() {
        let strangers = Arc::new(Strangers::default());
        let began = tokio::time::Instant::now();
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let strangers = Arc::clone(&strangers);
            all.spawn(async move {
                let busy = || {
                    let began = std::time::Instant::now();
                    while began.elapsed() < std::time::Duration::from_millis(10) {}
                };
                strangers.take_turn(busy).await
            });
        }
        assert_eq!(all.join_all().await.into_iter().flatten().count(), 4);
        // Whoever was last has his answer before he rests.
        assert!(began.elapsed() >= std::time::Duration::from_millis(3 * 3 * 10), "{:?}", began.elapsed());
    }
}
