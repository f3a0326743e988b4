//! A slow look at the whole change log, again and again, so that damage is found while somebody still has what was
//! damaged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use timebus_store::keyspace::{Rows as _, Table};
use timebus_store::log::{Item, Place};
use timebus_store::pipeline::{APPLIED, decode_applied};
use timebus_store::store::{StorageError, Store};

use crate::peer::Peer;
use crate::who::now_ms;

/// Bytes read at once, and the pause between: 2 MiB a second, which no disk notices.
const STEP_BYTES: u64 = 1024 * 1024;
const STEP_PAUSE: Duration = Duration::from_millis(500);
/// Pause after the whole log was read.
const ROUND_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Pause before the first round: a start has better things to do.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// Bytes of this round.
    read_bytes: AtomicU64,
    /// When the whole log had been read last; Unix milliseconds, 0 for never.
    done_ms: AtomicU64,
    /// Damaged stretches that were found in the last whole round, or later.
    damaged: AtomicU64,
}

impl Scrub {
    pub(crate) fn status(&self) -> Value {
        json!({
            "read_bytes": self.read_bytes.load(Ordering::Relaxed),
            "done_ms": self.done_ms.load(Ordering::Relaxed),
            "damaged": self.damaged.load(Ordering::Relaxed),
        })
    }

    /// What somebody who read the whole log has found.
    pub(crate) fn found(&self, damaged: u64) {
        self.damaged.store(damaged, Ordering::Relaxed);
        self.done_ms.store(now_ms(), Ordering::Relaxed);
    }
}

/// Reads on until the peer stops.
pub(crate) async fn run(peer: Peer) {
    let mut pause = FIRST_PAUSE;
    let mut stopped = peer.stop.subscribe();
    let (mut at, mut damaged) = (Place::START, 0);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let store = peer.store().clone();
        if store.is_index_failing() {
            store.distrust_index("a part of the index could not be read");
        }
        let step = tokio::task::spawn_blocking(move || step(&store, at)).await;
        let Ok(Ok((next, bad, is_end))) = step else {
            tracing::warn!("the change log could not be read by who looks for damage");
            pause = ROUND_PAUSE;
            continue;
        };
        if bad > 0 {
            tracing::error!(bad, "the change log is damaged; `timebus fsck --repair` fetches what others have of it");
        }
        damaged += bad;
        let scrub = &peer.scrub;
        scrub.damaged.fetch_max(damaged, Ordering::Relaxed);
        if is_end {
            scrub.found(damaged);
            scrub.read_bytes.store(0, Ordering::Relaxed);
            (at, damaged, pause) = (Place::START, 0, ROUND_PAUSE);
        } else {
            let whole = u64::from(next.segment.saturating_sub(1)) * timebus_store::log::SEGMENT_BYTES;
            scrub.read_bytes.store(whole + next.offset, Ordering::Relaxed);
            (at, pause) = (next, STEP_PAUSE);
        }
    }
}

/// Reads a little. Answers where to go on, how much of it was damaged, and whether that was the end.
fn step(store: &Store, from: Place) -> Result<(Place, u64, bool), StorageError> {
    let end = match store.snapshot().get(Table::Meta, APPLIED)? {
        Some(row) => decode_applied(&row)?.1,
        None => Place::START,
    };
    let (mut at, mut bytes, mut damaged) = (from, 0, 0);
    for item in store.log().walk(from)? {
        match item? {
            Item::Damaged(damage) if damage.place < end => {
                damaged += 1;
                at = Place { offset: damage.place.offset + damage.bytes, ..damage.place };
                bytes += damage.bytes;
            }
            Item::Record(record) if record.place < end => {
                at = record.end;
                bytes += record.end.offset - record.place.offset;
            }
            _ => return Ok((at, damaged, true)),
        }
        if bytes >= STEP_BYTES {
            return Ok((at, damaged, false));
        }
    }
    Ok((at, damaged, true))
}
