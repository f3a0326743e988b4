//! Writes that came before the versions that they build on.
//!
//! Stock Braid clients send up to ten writes at once, each on top of the one before, and these may overtake each other.
//! So a write with unknown `Parents` waits for them a little before it is refused.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use http::StatusCode;
use timebus_identity::PublicKey;
use timebus_store::writer::{Request, WriteError, Written};

use crate::peer::lock;
use crate::problem::Problem;
use crate::route::Ask;

/// How long a write waits; as long as the reference server lets it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of all bodies that wait.
const BYTES_MAX: usize = 5_000_000;
/// Writes that wait at once.
const WRITES_MAX: usize = 100;
/// As many of one guest; a client sends ten at once. All guests together have half of the room.
const WRITES_OF_GUEST_MAX: usize = 10;

/// Room for writes that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    writes: usize,
    bytes: usize,
    /// As much of it as is of guests.
    guests: HashMap<PublicKey, usize>,
    guest_bytes: usize,
}

/// A place in the room.
struct Place<'a> {
    waiting: &'a Waiting,
    guest: Option<PublicKey>,
    bytes: usize,
}

impl Waiting {
    fn enter(&self, guest: Option<PublicKey>, bytes: usize) -> Option<Place<'_>> {
        let mut taken = lock(&self.0);
        if taken.writes >= WRITES_MAX || taken.bytes + bytes > BYTES_MAX {
            return None;
        }
        if let Some(guest) = guest {
            let of_all: usize = taken.guests.values().sum();
            let is_much = of_all >= WRITES_MAX / 2 || taken.guest_bytes + bytes > BYTES_MAX / 2;
            if is_much || taken.guests.get(&guest).is_some_and(|own| *own >= WRITES_OF_GUEST_MAX) {
                return None;
            }
            *taken.guests.entry(guest).or_default() += 1;
            taken.guest_bytes += bytes;
        }
        taken.writes += 1;
        taken.bytes += bytes;
        Some(Place { waiting: self, guest, bytes })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = lock(&self.waiting.0);
        taken.writes -= 1;
        taken.bytes -= self.bytes;
        if let Some(guest) = self.guest {
            taken.guest_bytes -= self.bytes;
            match taken.guests.get_mut(&guest) {
                Some(own) if *own > 1 => *own -= 1,
                _ => drop(taken.guests.remove(&guest)),
            }
        }
    }
}

/// Tries a write again whenever something happened at its path, until its parents are known or it took too long.
///
/// # Errors
///
/// 503 without room, and what `make` says, which makes the request anew from its body of `bytes` bytes.
pub(crate) async fn write(ask: &Ask, bytes: usize, make: impl Fn() -> Result<Request, Problem>) -> Result<Result<Written, WriteError>, Problem> {
    let Ask { peer, who, reader, sent, .. } = ask;
    let Some(_place) = peer.waiting.enter(who.guest(), bytes) else {
        let detail = format!("at most {WRITES_MAX} writes of together {BYTES_MAX} bytes wait for versions that they build on");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "waiting", "too many writes wait here", detail));
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let request = make()?;
    let feed = peer.store.feed(request.space.unwrap_or_else(|| peer.store.own()), &request.path);
    let mut changed = feed.watch();
    let mut next = Some(request);
    loop {
        changed.borrow_and_update();
        let request = match next.take() {
            Some(request) => request,
            None => make()?,
        };
        let result = crate::behalf::write(peer, who, (*reader, sent), request).await?;
        if !matches!(result, Err(WriteError::UnknownVersion(_))) {
            return Ok(result);
        }
        match tokio::time::timeout_at(deadline, changed.changed()).await {
            Ok(Ok(())) => {}
            _ => return Ok(result),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_bounded() {
        let waiting = Waiting::default();
        let places: Vec<_> = (0..WRITES_MAX).map(|_| waiting.enter(None, 1).expect("room")).collect();
        assert!(waiting.enter(None, 1).is_none());
        drop(places);
        let half = waiting.enter(None, BYTES_MAX / 2 + 1).expect("room");
        assert!(waiting.enter(None, BYTES_MAX / 2).is_none());
        drop(half);
        assert!(waiting.enter(None, BYTES_MAX).is_some());
    }

    #[test]
    fn guests_leave_room_for_others() {
        let waiting = Waiting::default();
        let key = |number: usize| PublicKey::from_bytes([u8::try_from(number).expect("few"); 32]);
        let one: Vec<_> = (0..WRITES_OF_GUEST_MAX).map(|_| waiting.enter(Some(key(0)), 1).expect("room")).collect();
        assert!(waiting.enter(Some(key(0)), 1).is_none());
        let more: Vec<_> = (WRITES_OF_GUEST_MAX..WRITES_MAX / 2).map(|at| waiting.enter(Some(key(at)), 1).expect("room")).collect();
        assert!(waiting.enter(Some(key(99)), 1).is_none() && waiting.enter(None, 1).is_some());
        drop((one, more));
        assert!(waiting.enter(Some(key(0)), BYTES_MAX).is_none() && waiting.enter(None, BYTES_MAX).is_some());
        assert!(waiting.enter(Some(key(0)), 1).is_some());
    }
}
