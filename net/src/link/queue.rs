//! A queue of frames that is bounded by their bytes.

use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::SEND_BYTES_MAX;
use crate::peer::lock;

/// The end where frames go in.
pub(super) struct Outbox {
    room: Arc<Semaphore>,
    frames: Mutex<Option<mpsc::UnboundedSender<Queued>>>,
}

/// The end where frames come out.
pub(super) struct Inbox(mpsc::UnboundedReceiver<Queued>);

/// A frame and the room that it takes, which is free again when this is dropped.
pub(super) struct Queued {
    pub(super) frame: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// Nobody takes frames any more.
#[derive(Debug)]
pub(super) struct Closed;

/// A queue that takes [`SEND_BYTES_MAX`] bytes, or one larger frame.
pub(super) fn queue() -> (Outbox, Inbox) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Outbox { room: Arc::new(Semaphore::new(SEND_BYTES_MAX)), frames: Mutex::new(Some(sender)) }, Inbox(receiver))
}

impl Outbox {
    /// Puts a frame in, in the order of the calls.
    pub(super) async fn send(&self, frame: Vec<u8>) -> Result<(), Closed> {
        let room = Arc::clone(&self.room).acquire_many_owned(permits(frame.len())).await.map_err(|_| Closed)?;
        match &*lock(&self.frames) {
            Some(frames) => frames.send(Queued { frame, _room: room }).map_err(|_| Closed),
            None => Err(Closed),
        }
    }

    /// Bytes that are free.
    pub(super) fn room(&self) -> usize {
        if self.room.is_closed() { 0 } else { self.room.available_permits() }
    }

    /// Waits until so many bytes are free.
    pub(super) async fn has_room(&self, bytes: usize) -> bool {
        self.room.acquire_many(permits(bytes)).await.is_ok()
    }

    /// Takes no more; what is inside still comes out.
    pub(super) fn close(&self) {
        self.room.close();
        lock(&self.frames).take();
    }
}

impl Inbox {
    /// Waits for the next frame; `None` when no more will come.
    pub(super) async fn next_queued(&mut self) -> Option<Queued> {
        self.0.recv().await
    }

    /// The next frame, if there is one already.
    pub(super) fn try_next_queued(&mut self) -> Option<Queued> {
        self.0.try_recv().ok()
    }

    /// Waits for the next frame and frees its room.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().await.map(|queued| queued.frame)
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.min(SEND_BYTES_MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test]
    async fn takes_so_many_bytes_and_then_waits() {
        let (outbox, mut inbox) = queue();
        outbox.send(vec![1; SEND_BYTES_MAX - 10]).await.expect("open");
        assert_eq!(outbox.room(), 10);
        assert!(outbox.send(vec![2; 11]).now_or_never().is_none(), "there is no room for 11 bytes");
        outbox.send(vec![3; 10]).now_or_never().expect("there is room for 10 bytes").expect("open");
        assert_eq!(inbox.next().await.map(|frame| frame[0]), Some(1));
        assert_eq!(outbox.room(), SEND_BYTES_MAX - 10);
        assert_eq!(inbox.next().await.map(|frame| frame[0]), Some(3), "the frame that waited and was given up never came in");
    }

    #[tokio::test]
    async fn a_larger_frame_goes_alone() {
        let (outbox, mut inbox) = queue();
        outbox.send(vec![1; SEND_BYTES_MAX + 1]).now_or_never().expect("nothing else is there").expect("open");
        assert_eq!(outbox.room(), 0);
        assert!(outbox.has_room(1).now_or_never().is_none());
        inbox.next().await.expect("the frame");
        assert!(outbox.has_room(usize::MAX).await);
    }

    #[tokio::test]
    async fn closed_it_gives_out_what_it_has() {
        let (outbox, mut inbox) = queue();
        outbox.send(vec![1; SEND_BYTES_MAX]).await.expect("open");
        let (waiting, ()) = tokio::join!(outbox.send(vec![2]), async { outbox.close() });
        assert!(waiting.is_err() && !outbox.has_room(0).await && outbox.room() == 0);
        assert_eq!(inbox.next().await.map(|frame| frame[0]), Some(1));
        assert_eq!(inbox.next().await, None);
    }
}
