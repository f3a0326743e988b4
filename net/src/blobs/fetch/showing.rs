//! Somebody is asked to show a piece, and shows one: see [`crate::blobs::shows`].

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
    /// it. `None` if he says nothing for so long, or is gone.
    pub(crate) async fn show(&self, link: LinkId, space: PublicKey, blob: (BlobHash, u64), piece: u32, patience: Duration) -> Option<Shown> {
        let (reply, answer) = oneshot::channel();
        let _ = self.control.send(Control::Show { link, space, blob, piece, reply });
        tokio::time::timeout(patience, answer).await.ok()?.ok()
    }
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
                    let _ = reply.send(shown);
                }
                is_for_all
            }
        }
    }

    /// Whether a piece is only shown to somebody who has the file himself, and is given nothing by that.
    pub(super) fn is_shown(&self, link: LinkId, hash: &BlobHash, id: u64, piece: u32) -> bool {
        id == REQUEST && self.exchange.has_the_rest(hash, link, piece)
    }
}
