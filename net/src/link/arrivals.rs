//! Where links come in that others opened, whatever carries them.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use tokio::sync::mpsc;

use super::Link;
use crate::places::{Place, Places, Room, Standing};

/// Links that were opened by others and not taken by the driver yet. Few: who waits longer than a handshake may take
/// is sent away.
const WAITING_MAX: usize = 16;

/// What transports hand new links to. Clones share it.
#[derive(Clone, Debug)]
pub struct Door {
    links: mpsc::Sender<Link>,
    places: Places,
}

/// Links that others opened.
#[derive(Debug)]
pub struct Arrivals(mpsc::Receiver<Link>);

/// Room for one link that somebody else opened; free again when it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Place>);

/// What a link knows of its [`Slot`].
#[derive(Debug, Default)]
pub(super) struct Seat(Option<Weak<Place>>);

/// A door that lets so many links in at once, of all transports together, and some more until it is known whose they are.
/// Who comes when all is taken gets the room of a stranger for whom nothing is done.
#[must_use]
pub fn door(links_max: usize) -> (Door, Arrivals) {
    let (links, arrivals) = mpsc::channel(WAITING_MAX);
    (Door { links, places: Places::new(Room::of(links_max)) }, Arrivals(arrivals))
}

impl Door {
    /// Room for one more link, of somebody at an address or behind a relay; `None` when all is taken by those who are known
    /// better, or nobody takes links any more.
    pub(crate) fn slot(&self, from: Option<IpAddr>) -> Option<Slot> {
        if self.links.is_closed() {
            return None;
        }
        Some(Slot(Arc::new(self.places.come(from, &Arc::default())?)))
    }

    /// Hands a link to the driver, waiting until it takes it. Without a driver the link is closed.
    pub(crate) async fn enter(&self, link: Link) {
        let _ = self.links.send(link).await;
    }
}

impl Slot {
    /// Waits until the room is somebody else's.
    pub(super) async fn put_out(&self) {
        self.0.put_out().await;
    }

    pub(super) fn seat(slot: Option<&Self>) -> Seat {
        Seat(slot.map(|slot| Arc::downgrade(&slot.0)))
    }
}

impl Seat {
    pub(super) fn stand(&self, standing: Standing) -> bool {
        let Some(place) = &self.0 else { return true };
        place.upgrade().is_some_and(|place| place.stand(standing))
    }
}

/// Waits until the room of a link is somebody else's, if others opened it.
pub(super) async fn put_out(slot: Option<&Slot>) {
    match slot {
        Some(slot) => slot.put_out().await,
        None => std::future::pending().await,
    }
}

impl Arrivals {
    /// The next link that somebody opened; `None` when nothing is left that could bring one.
    pub async fn accept(&mut self) -> Option<Link> {
        self.0.recv().await
    }
}
