//! Who sent which version, so that a Braid client is not told what it did itself.
//!
//! A client names itself with `Peer`, and its versions with `Version`. Nothing of it is stored: who asks later is told
//! everything.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use timebus_identity::PublicKey;
use timebus_store::path::Path;
use timebus_store::writer::Asker;

use crate::peer::lock;
use crate::who::{Principal, text};

/// Writes that are remembered. What is forgotten is told to its sender too, who has it already.
const KEPT_MAX: usize = 4096;
/// Longest name of a client.
const NAME_BYTES_MAX: usize = 128;

/// A client that wrote something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// How it calls itself, and on whose behalf it asks.
    pub(crate) client: Client,
    /// Where it wrote.
    pub(crate) path: Path,
    /// The version that it wrote upon, sorted.
    pub(crate) parents: Vec<String>,
}

/// A client, as it calls itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    name: String,
    principal: Option<Principal>,
}

impl Client {
    /// The client that a `Peer` header names; some put the name in quotes.
    pub(crate) fn of(headers: &HeaderMap, principal: Option<Principal>) -> Option<Self> {
        let name = text(headers, "peer")?.trim();
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        (1..=NAME_BYTES_MAX).contains(&name.len()).then(|| Self { name: name.to_owned(), principal })
    }

    /// On whose behalf it asks, if not on that of the owner.
    pub(crate) fn asker(&self) -> Option<Asker> {
        self.principal.as_ref().map_or_else(|| Some(Asker::default()), Principal::asker)
    }

    /// How it calls itself, which is also the agent of the versions that it writes.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// The latest writes of clients that name themselves, by space, version, client and path: many may call something the same.
#[derive(Debug, Default)]
pub(crate) struct Senders(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_version: HashMap<Key, Arc<Sender>>,
    order: VecDeque<Key>,
}

type Key = (PublicKey, String, Client, Path);

impl Senders {
    /// Remembers a write before it is made, so that nobody is told of it first.
    pub(crate) fn remember(&self, space: PublicKey, version: &str, sender: Sender) {
        let mut kept = lock(&self.0);
        let key = (space, version.to_owned(), sender.client.clone(), sender.path.clone());
        if kept.by_version.insert(key.clone(), Arc::new(sender)).is_none() {
            kept.order.push_back(key);
        }
        while kept.order.len() > KEPT_MAX {
            if let Some(oldest) = kept.order.pop_front() {
                kept.by_version.remove(&oldest);
            }
        }
    }

    /// Whether a client sent a version of a path, and upon what.
    pub(crate) fn of(&self, space: PublicKey, version: &str, client: &Client, path: &Path) -> Option<Arc<Sender>> {
        let kept = lock(&self.0);
        // Without a copy of the name where nobody names himself, which is the usual case.
        if kept.by_version.is_empty() { None } else { kept.by_version.get(&(space, version.to_owned(), client.clone(), path.clone())).cloned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(header: &str) -> Option<Client> {
        let mut headers = HeaderMap::new();
        headers.insert("peer", header.parse().expect("a header"));
        Client::of(&headers, None)
    }

    #[test]
    fn a_name_is_the_same_in_quotes() {
        assert_eq!(client("abc"), client("\"abc\""));
        assert_ne!(client("abc"), client("abd"));
        assert_eq!(client("\"\""), None);
        assert_eq!(client(&"a".repeat(NAME_BYTES_MAX + 1)), None);
    }

    #[test]
    fn remembers_the_latest() {
        let senders = Senders::default();
        let space = PublicKey::from_bytes([7; 32]);
        let sender = Sender { client: client("a").expect("a client"), path: Path::root(), parents: Vec::new() };
        for number in 0..=KEPT_MAX {
            senders.remember(space, &format!("a-{number}"), sender.clone());
            senders.remember(space, &format!("a-{number}"), sender.clone());
        }
        let of = |space, version| senders.of(space, version, &sender.client, &Path::root());
        assert!(of(space, "a-0").is_none());
        assert!(of(space, "a-1").is_some());
        assert!(of(PublicKey::from_bytes([8; 32]), "a-1").is_none());
        // What somebody else calls so is his.
        let other = Sender { client: client("b").expect("a client"), path: Path::root(), parents: vec!["x".to_owned()] };
        senders.remember(space, "a-2", other.clone());
        assert!(of(space, "a-2").is_some_and(|own| own.parents.is_empty()));
        assert_eq!(senders.of(space, "a-2", &other.client, &Path::root()).as_deref(), Some(&other));
        assert!(senders.of(space, "a-2", &other.client, &Path::parse("/x").expect("a path")).is_none());
        assert_eq!(lock(&senders.0).by_version.len(), KEPT_MAX);
    }
}
