//! Where links come in that others opened, whatever carries them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Link;

/// Links that were opened by others and not taken by the driver yet. Few: who waits longer than a handshake may take
/// is sent away.
const WAITING_MAX: usize = 16;

/// What transports hand new links to. Clones share it.
#[derive(Clone, Debug)]
pub struct Door {
    links: mpsc::Sender<Link>,
    slots: Arc<Semaphore>,
}

/// Links that others opened.
#[derive(Debug)]
pub struct Arrivals(mpsc::Receiver<Link>);

/// Room for one link that somebody else opened; free again when it is dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// A door that lets so many links in at once, of all transports together.
#[must_use]
pub fn door(links_max: usize) -> (Door, Arrivals) {
    let (links, arrivals) = mpsc::channel(WAITING_MAX);
    (Door { links, slots: Arc::new(Semaphore::new(links_max)) }, Arrivals(arrivals))
}

impl Door {
    /// Room for one more link; `None` when there are too many already, or nobody takes them any more.
    pub(crate) fn slot(&self) -> Option<Slot> {
        if self.links.is_closed() {
            return None;
        }
        Arc::clone(&self.slots).try_acquire_owned().ok().map(|permit| Slot { _permit: permit })
    }

    /// Hands a link to the driver, waiting until it takes it. Without a driver the link is closed.
    pub(crate) async fn enter(&self, link: Link) {
        let _ = self.links.send(link).await;
    }
}

impl Arrivals {
    /// The next link that somebody opened; `None` when nothing is left that could bring one.
    pub async fn accept(&mut self) -> Option<Link> {
        self.0.recv().await
    }
}
