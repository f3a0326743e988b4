//! The line on which one peer sends: its links take turns.

use std::collections::{BTreeMap, VecDeque};

use super::super::exchange::LinkId;
use super::super::frame::BlobFrame;
use timebus_store::blobs::partial::PIECE_BYTES;

/// Bytes of one turn.
const TURN_BYTES: u64 = 16 * 1024;
/// Bytes on the cable of a frame without content, with the headers of all layers and its share of what is confirmed.
const FRAME_BYTES: u64 = 140;
/// The same of a stretch of pieces.
const STRETCH_BYTES: u64 = 3;
/// The same of a piece: with its proof, and headers on each packet of 1200 bytes.
pub(super) const PIECE_WIRE_BYTES: u64 = PIECE_BYTES + PIECE_BYTES / 20;

/// What a frame takes on the cable.
pub(super) fn wire_bytes(frame: &BlobFrame) -> u64 {
    match frame {
        BlobFrame::Piece { .. } => PIECE_WIRE_BYTES,
        BlobFrame::Have { pieces, .. } => FRAME_BYTES + STRETCH_BYTES * pieces.len() as u64,
        BlobFrame::Want { any_of, .. } => FRAME_BYTES + STRETCH_BYTES * any_of.len() as u64,
        BlobFrame::Not { .. } => FRAME_BYTES,
    }
}

/// A frame that is through, and how long after the beginning of the turn.
pub(super) struct Through {
    pub(super) link: LinkId,
    pub(super) frame: BlobFrame,
    pub(super) after_us: u64,
}

/// Frames that wait, by link.
#[derive(Default)]
pub(super) struct Line {
    bytes_per_s: u64,
    /// Each with the bytes of it that are not through.
    waiting: BTreeMap<LinkId, VecDeque<(u64, BlobFrame)>>,
    last: LinkId,
    /// Whether a turn is under way.
    pub(super) is_busy: bool,
}

impl Line {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), ..Self::default() }
    }

    /// The same line with nothing on it.
    pub(super) fn again(&self) -> Self {
        Self::new(self.bytes_per_s)
    }

    pub(super) fn push(&mut self, link: LinkId, frame: BlobFrame) {
        self.waiting.entry(link).or_default().push_back((wire_bytes(&frame), frame));
    }

    pub(super) fn cut(&mut self, link: LinkId) {
        self.waiting.remove(&link);
    }

    /// Sends for one turn: what is through by then, and how long it takes; `None` if nothing waits.
    pub(super) fn turn(&mut self) -> Option<(Vec<Through>, u64)> {
        let mut through = Vec::new();
        let mut sent = 0;
        while sent < TURN_BYTES {
            let next = self.waiting.range(self.last + 1..).next().or_else(|| self.waiting.iter().next());
            let Some(link) = next.map(|(link, _)| *link) else { break };
            let Some(queue) = self.waiting.get_mut(&link) else { break };
            self.last = link;
            // No link has more than what is left of this turn, and small frames go one by one.
            if let Some((left, _)) = queue.front_mut() {
                let part = (*left).min(TURN_BYTES - sent);
                (*left, sent) = (*left - part, sent + part);
            }
            if let Some((_, frame)) = queue.pop_front_if(|(left, _)| *left == 0) {
                through.push(Through { link, frame, after_us: sent * 1_000_000 / self.bytes_per_s });
            }
            if queue.is_empty() {
                self.waiting.remove(&link);
            }
        }
        (sent > 0).then(|| (through, (sent * 1_000_000 / self.bytes_per_s).max(1)))
    }
}
