//! Websockets at which peers say that they can be called, and when it is tried next.
//!
//! An address is the word of a peer alone, and what is called there may be anybody's. On iroh a call is a packet or two to whoever has
//! the key; a websocket is a connection to whatever host was named, with TLS and a request. So each such address that the owner did
//! not come by himself is tried less and less often, whoever names it, and after some days only once a month. A peer that moved calls
//! us. Nothing of this is written down.

use std::collections::{BTreeMap, HashMap};

use timebus_identity::PublicKey;

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

    /// Notes that who was called, on a way as people are told it, proved to have these keys. Any host may answer, and any peer at it
    /// has some key: it is the peer's address if whoever has one of these is known to be there.
    pub(super) fn proven(&mut self, way: &str, contacts: &BTreeMap<PublicKey, Contact>, keys: &[PublicKey]) {
        let Some(host) = way.strip_prefix("websocket ") else { return };
        let is_there = |address: &str| address.strip_prefix("wss://").or_else(|| address.strip_prefix("ws://")) == Some(host);
        let is_his = |(id, contact): &(&PublicKey, &Contact)| keys.contains(id) || contact.keys.iter().any(|key| keys.contains(key));
        if contacts.iter().filter(is_his).any(|(_, contact)| contact.addresses.iter().any(|address| is_there(address))) {
            self.0.retain(|address, _| !is_there(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Book, Config, Event, Node, Outbox};
    use super::*;
    use crate::held::Held;
    use crate::sync::{Binding, Remote, Role};
    use crate::whose::tests::open;

    const NOW_MS: u64 = 1_800_000_000_000;
    const ADDRESS: &str = "wss://victim.example";

    fn contact(source: Source) -> Contact {
        let addresses = vec!["10.0.0.1:7".to_owned(), ADDRESS.to_owned()];
        Contact { source, name: String::new(), space: None, keys: Vec::new(), addresses, met_ms: 0, seen_ms: 0 }
    }

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
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
    fn where_the_one_who_is_to_be_there_proved_it_it_begins_anew() {
        let mut knocks = Knocks::default();
        for _ in 0..3 {
            assert!(knocks.due(&contact(Source::Came), 0).len() <= 2);
        }
        assert_eq!(knocks.due(&contact(Source::Came), 1).len(), 1);
        // A node by its own key, which proved this device before, and somebody else who is elsewhere.
        let at_home = Contact { keys: vec![key(2)], ..contact(Source::Came) };
        let elsewhere = Contact { addresses: vec!["wss://other.example".to_owned()], ..contact(Source::Came) };
        let contacts = BTreeMap::from([(key(1), at_home), (key(3), elsewhere)]);
        knocks.proven("direct 10.0.0.1:7", &contacts, &[key(2)]);
        knocks.proven("websocket other.example", &contacts, &[key(2)]);
        for keys in [&[][..], &[key(3)], &[key(4)]] {
            knocks.proven("websocket victim.example", &contacts, keys);
            assert_eq!(knocks.due(&contact(Source::Came), 1).len(), 1, "{keys:?}");
        }
        knocks.proven("websocket victim.example", &contacts, &[key(4), key(2)]);
        assert_eq!(knocks.due(&contact(Source::Came), 1).len(), 2);
        for number in 0..2 * KNOCKS_MAX {
            assert!(knocks.is_due(&format!("wss://{number}.example"), false, 2));
        }
        assert_eq!(knocks.0.len(), KNOCKS_MAX);
    }

    /// Any host takes a connection. It is called as seldom as one that does not, until it proves to be whom it was called for.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_answers_and_proves_nothing_is_called_no_more_often() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = open(home.path());
        let replica = Held::now(&store, [0; 16], NOW_MS);
        let (name, is_offline, links_max, has_feeds) = ("test".to_owned(), true, 8, false);
        let config = Config { node: key(7), space: store.space(), device: store.device(), name, is_offline, links_max, has_feeds };
        let mut node = Node::new(config, Book::default(), Outbox::default());
        let there = Contact { keys: vec![key(2)], ..contact(Source::Came) };
        node.book.contacts.insert(key(1), there.clone());
        let is_due = |node: &mut Node| node.knocks.due(&there, NOW_MS).len() == 2;
        assert!(is_due(&mut node) && !is_due(&mut node));
        let answer = |node: &mut Node, link: u64, keys: Option<&[PublicKey]>| {
            let (binding, nonce, prove) = (Binding([0; 32]), [0; 32], Box::new(|_: &[u8]| Vec::new()));
            let (role, way) = (Role::Initiator, "websocket victim.example".to_owned());
            node.handle(NOW_MS, Event::LinkUp { link, node: None, called: None, role, binding, nonce, prove, way }, &replica);
            if let Some(keys) = keys {
                let remote = Remote { node: key(0), space: key(8), keys: keys.to_vec(), name: String::new(), addresses: vec![] };
                node.ready(link, remote, NOW_MS, &replica, &mut Vec::new());
            }
        };
        for (link, keys) in [(1, None), (2, Some(&[][..])), (3, Some(&[key(9)]))] {
            answer(&mut node, link, keys);
            assert!(!is_due(&mut node), "{keys:?}");
        }
        answer(&mut node, 4, Some(&[key(2)]));
        assert!(is_due(&mut node));
    }
}
