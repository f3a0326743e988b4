//! Somebody is asked to show a piece, and shows one: see [`crate::blobs::shows`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use tokio::sync::oneshot;

use super::{Actor, Control, Fetcher};
use crate::blobs::exchange::{LinkId, Output};
use crate::blobs::frame::BlobFrame;
use crate::blobs::shows::{Heard, REQUEST, Shown};

impl Fetcher {
    /// Asks whoever is on the other side of a link to show a piece of a blob, for the sake of a space that names it. Nothing is kept of
    /// it. `None` if he gives nothing for so long, or is gone: whoever gives something else meanwhile is busy.
    pub(crate) async fn show(&self, link: LinkId, space: PublicKey, blob: (BlobHash, u64), piece: u32, patience: Duration) -> Option<Shown> {
        let (reply, answer) = oneshot::channel();
        let gives = Arc::new(AtomicBool::new(false));
        let _ = self.control.send(Control::Show { link, space, blob, piece, waiting: Waiting { reply, gives: Arc::clone(&gives) } });
        match tokio::time::timeout(patience, answer).await {
            Ok(shown) => shown.ok(),
            Err(_) => gives.load(Ordering::Relaxed).then_some(Shown::Busy),
        }
    }
}

/// Who waits that somebody shows a piece.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) reply: oneshot::Sender<Shown>,
    /// Whether a piece of something else came meanwhile from whoever is asked.
    gives: Arc<AtomicBool>,
}

impl Actor {
    /// Takes what is said to who waits that somebody shows a piece. Whether it is for others, too.
    pub(super) fn hear(&mut self, link: LinkId, frame: &BlobFrame) -> bool {
        match self.shows.hear(link, frame) {
            Heard::Other => true,
            Heard::Send(frame) => {
                self.act(Output::Send(link, frame));
                true
            }
            Heard::Shown { shown, is_for_all, reply } => {
                reply.into_iter().for_each(|came| self.act(Output::Send(link, came)));
                let (BlobFrame::Have { hash, .. } | BlobFrame::Want { hash, .. } | BlobFrame::Piece { hash, .. } | BlobFrame::Not { hash, .. }) =
                    frame;
                if let Some(reply) = self.shown.remove(&(link, *hash)) {
                    let _ = reply.reply.send(shown);
                }
                is_for_all
            }
        }
    }

    /// A good piece of something came over a link: who is asked there to show another one has a line that is busy.
    pub(super) fn gives(&self, link: LinkId) {
        let none = BlobHash::from_bytes([0; 32]);
        let asked = self.shown.range((link, none)..).take_while(|((of, _), _)| *of == link);
        asked.for_each(|(_, waiting)| waiting.gives.store(true, Ordering::Relaxed));
    }

    /// Whether a piece is only shown to somebody who has the file himself, and is given nothing by that.
    pub(super) fn is_shown(&self, link: LinkId, hash: &BlobHash, id: u64, piece: u32) -> bool {
        id == REQUEST && self.exchange.has_the_rest(hash, link, piece)
    }
}
