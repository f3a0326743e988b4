//! Websockets at which peers say that they can be called, and when it is tried next.
//!
//! An address is the word of a peer alone, and what is called there may be anybody's. On iroh a call is a packet or two to whoever has
//! the key; a websocket is a connection to whatever host was named, with TLS and a request. So each such address that the owner did
//! not come by himself is tried less and less often, whoever names it, and after some days only once a month. A peer that moved calls
//! us. Nothing of this is written down.

use std::collections::HashMap;

use super::RETRY_MS;
use super::book::{Contact, Source};

/// Addresses that are remembered; of more, those go whose time comes first.
const KNOCKS_MAX: usize = 4096;
/// The longest pause, as long as it is not given up.
const PAUSE_MS_MAX: u64 = 24 * 3_600_000;
/// After so many tries, some five days, an address is given up for a while.
const TRIES_MAX: u32 = 21;
/// For how long.
const GIVEN_UP_MS: u64 = 30 * 24 * 3_600_000;

/// How often an address was tried.
#[derive(Debug)]
struct Knock {
    tries: u32,
    next_ms: u64,
}

/// What was tried.
#[derive(Debug, Default)]
pub(super) struct Knocks(HashMap<String, Knock>);

impl Knocks {
    /// The addresses of a peer that are called now.
    pub(super) fn due(&mut self, contact: &Contact, now_ms: u64) -> Vec<String> {
        let is_chosen = matches!(contact.source, Source::Typed | Source::Invite | Source::Device);
        let is_socket = |address: &str| address.starts_with("wss://") || address.starts_with("ws://");
        contact
            .addresses
            .iter()
            .filter(|address| is_chosen || !is_socket(address) || self.is_due(address, contact.seen_ms > 0, now_ms))
            .cloned()
            .collect()
    }

    /// Whether an address is called now; who was linked here once is not given up.
    fn is_due(&mut self, address: &str, was_linked: bool, now_ms: u64) -> bool {
        if self.0.len() >= KNOCKS_MAX && !self.0.contains_key(address) {
            let first = self.0.iter().min_by_key(|(_, knock)| knock.next_ms).map(|(address, _)| address.clone());
            first.map(|first| self.0.remove(&first));
        }
        let knock = self.0.entry(address.to_owned()).or_insert(Knock { tries: 0, next_ms: 0 });
        if knock.next_ms > now_ms {
            return false;
        }
        let pause = RETRY_MS.saturating_mul(1 << knock.tries.min(TRIES_MAX)).min(PAUSE_MS_MAX);
        knock.next_ms = now_ms + if knock.tries >= TRIES_MAX && !was_linked { GIVEN_UP_MS } else { pause };
        knock.tries = (knock.tries + 1).min(TRIES_MAX);
        true
    }

    /// Notes that a call came to a link, on a way as people are told it.
    pub(super) fn answered(&mut self, way: &str) {
        if let Some(host) = way.strip_prefix("websocket ") {
            self.0.retain(|address, _| address.strip_prefix("wss://").or_else(|| address.strip_prefix("ws://")) != Some(host));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "wss://victim.example";

    fn contact(source: Source) -> Contact {
        let addresses = vec!["10.0.0.1:7".to_owned(), ADDRESS.to_owned()];
        Contact { source, name: String::new(), space: None, keys: Vec::new(), addresses, met_ms: 0, seen_ms: 0 }
    }

    /// In which minutes of two months a websocket is called that so many peers name, each of whom is tried every minute.
    fn calls(knocks: &mut Knocks, source: Source, peers: usize) -> Vec<u64> {
        let mut minutes = Vec::new();
        for minute in 0..60 * 24 * 60 {
            for _ in 0..peers {
                let due = knocks.due(&contact(source), minute * 60_000);
                assert_eq!(due[0], "10.0.0.1:7");
                minutes.extend(due[1..].iter().map(|_| minute));
            }
        }
        minutes
    }

    #[test]
    fn a_websocket_that_guests_name_is_called_less_and_less_often_and_given_up() {
        let called = calls(&mut Knocks::default(), Source::Guest, 12);
        let day = 24 * 60;
        assert!((10..30).contains(&called.len()), "{called:?}");
        let (first, later): (Vec<u64>, Vec<u64>) = called.iter().partition(|minute| **minute < 7 * day);
        assert!(first.last().is_some_and(|last| *last > 3 * day), "for some days: {first:?}");
        assert_eq!(later.len(), 1, "once a month: {later:?}");
        assert_eq!(calls(&mut Knocks::default(), Source::Typed, 1).len(), 60 * 24 * 60, "what the owner typed is called always");
    }

    #[test]
    fn where_somebody_answered_it_begins_anew() {
        let mut knocks = Knocks::default();
        for _ in 0..3 {
            assert!(knocks.due(&contact(Source::Came), 0).len() <= 2);
        }
        assert_eq!(knocks.due(&contact(Source::Came), 1).len(), 1);
        knocks.answered("direct 10.0.0.1:7");
        knocks.answered("websocket other.example");
        assert_eq!(knocks.due(&contact(Source::Came), 1).len(), 1);
        knocks.answered("websocket victim.example");
        assert_eq!(knocks.due(&contact(Source::Came), 1).len(), 2);
        for number in 0..2 * KNOCKS_MAX {
            assert!(knocks.is_due(&format!("wss://{number}.example"), false, 2));
        }
        assert_eq!(knocks.0.len(), KNOCKS_MAX);
    }
}
