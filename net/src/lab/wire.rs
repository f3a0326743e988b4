//! Links as a network carries them: in order and without loss, until somebody hears nothing for too long.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes that a transport takes before its sender waits.
pub(super) const QUEUE_BYTES: u64 = 256 * 1024;

/// What is on its way.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Frame(Bytes),
    /// The sender has closed.
    End,
}

impl Item {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Frame(bytes) => bytes.len() as u64,
            Self::End => 0,
        }
    }
}

/// One direction of a link.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// What the transport has taken and not sent.
    pub(super) queue: VecDeque<Item>,
    pub(super) queued: u64,
    /// Whether the first of the queue is being sent.
    pub(super) is_sending: bool,
    /// What was sent while nothing came through; it is sent again.
    pub(super) held: VecDeque<Item>,
    /// When the last of what was sent arrives.
    pub(super) last_arrival_ms: u64,
}

/// A link between two peers. Side 0 has called.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) peers: [usize; 2],
    /// Whether each side still has it.
    pub(super) is_open: [bool; 2],
    /// From each side to the other.
    pub(super) ways: [Way; 2],
}

impl Wire {
    pub(super) fn new(peers: [usize; 2]) -> Self {
        Self { peers, is_open: [true; 2], ways: Default::default() }
    }

    /// The side of a peer that has it still.
    pub(super) fn side(&self, peer: usize) -> Option<usize> {
        (0..2).find(|side| self.peers[*side] == peer && self.is_open[*side])
    }
}
