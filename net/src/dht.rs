//! The DHT of a community: where members say where they are, for those who reach nobody who could tell.
//!
//! It is the one of BitTorrent (BEP 5, BEP 44; `mainline`), with first nodes of the community's own, so that nothing of it gets
//! into the public one, and the public one is never asked. Each community has one of its own, and takes part in it only
//! who wants to: whoever does is seen by all others in it.
//!
//! It is one of IPv4: `mainline` has no sockets for IPv6 (BEP 32). A machine that has nothing else can be a member all the
//! same, and is found by everything but this.
//!
//! What is found there is a hint like all others: the peer's own signed record, which is checked like every other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainline::async_dht::AsyncDht;
use mainline::{Dht, MutableItem, SigningKey};
use serde::{Deserialize, Serialize};
use timebus_identity::{PublicKey, SecretKey, Signed, hash};

use crate::community::Rules;
use crate::network::Network;
use crate::node::Event;
use crate::peer::{Peer, lock};
use crate::record::PeerRecord;

/// Largest value that nodes of a DHT keep.
const VALUE_BYTES_MAX: usize = 1000;
/// First nodes of one community.
pub const FIRST_MAX: usize = 8;
/// How often the own record is said again: nodes forget after two hours.
const SAY_EVERY: Duration = Duration::from_secs(30 * 60);
/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Members who are looked for at once.
const SOUGHT_MAX: usize = 8;
/// How long one look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How this peer takes part in the DHT of a community.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The address of this machine that it listens at; IPv4 is all that there is.
    pub bind: Ipv4Addr,
    /// The port; 0 for any that is free.
    pub port: u16,
}

/// A DHT that this peer takes part in.
#[derive(Clone, Debug)]
struct Running {
    dht: AsyncDht,
    part: Part,
    /// The first nodes, as the rules name them: names are looked up once, not whenever it is looked whether they changed.
    first: Vec<String>,
    address: SocketAddrV4,
}

/// The DHTs that this peer takes part in, by community. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dhts(Arc<Mutex<BTreeMap<PublicKey, Running>>>);

/// Why there is no DHT.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DhtError {
    #[error("the community names no first nodes; an organizer does with `timebus community set NAME --dht HOST:PORT`")]
    NoFirst,
    #[error("it could not listen at {0}: {1}")]
    Bind(SocketAddrV4, std::io::Error),
    #[error(
        "the first nodes have IPv6 addresses only, and a DHT is one of IPv4; an organizer names others with `timebus community set NAME --dht HOST:PORT`"
    )]
    OnlyIpv6,
}

/// What keeps the records of one community apart from those of another.
fn salt(space: &PublicKey) -> [u8; 32] {
    hash("dht", &[space.as_bytes()])
}

/// Nodes by their addresses: host names are looked up. Only those of IPv4 count; also whether there were others.
async fn resolve(first: &[String]) -> (Vec<SocketAddrV4>, bool) {
    let (mut found, mut has_others) = (Vec::new(), false);
    for name in first.iter().take(FIRST_MAX) {
        let Ok(Ok(addresses)) = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(name)).await else { continue };
        let (of_v4, of_v6): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses.partition(SocketAddr::is_ipv4);
        has_others |= !of_v6.is_empty();
        found.extend(of_v4.into_iter().filter_map(|address| if let SocketAddr::V4(address) = address { Some(address) } else { None }).take(2));
    }
    found.sort_unstable();
    found.dedup();
    (found, has_others)
}

impl Dhts {
    /// Takes part, or goes on with another part than before.
    ///
    /// # Errors
    ///
    /// [`DhtError`].
    async fn join(&self, space: PublicKey, part: &Part, first: &[String], is_first: bool) -> Result<(), DhtError> {
        if lock(&self.0).get(&space).is_some_and(|running| running.part == *part && running.first == first) {
            return Ok(());
        }
        let (addresses, has_others) = resolve(first).await;
        if addresses.is_empty() && !is_first {
            return Err(if has_others { DhtError::OnlyIpv6 } else { DhtError::NoFirst });
        }
        lock(&self.0).remove(&space);
        let mut config = Dht::builder();
        // Without first nodes of its own it would take those of the public network.
        config.no_bootstrap().bootstrap(&addresses).bind_address(part.bind).server_mode();
        if part.port != 0 {
            config.port(part.port);
        }
        let failed = |error| DhtError::Bind(SocketAddrV4::new(part.bind, part.port), error);
        let built = tokio::task::spawn_blocking(move || config.build()).await.map_err(|error| failed(std::io::Error::other(error)))?;
        let dht = built.map_err(failed)?.as_async();
        let address = dht.info().await.local_addr();
        lock(&self.0).insert(space, Running { dht, part: part.clone(), first: first.to_vec(), address });
        Ok(())
    }

    /// Where this peer listens for the DHT of a community, if it takes part in it.
    pub(crate) fn address(&self, space: &PublicKey) -> Option<SocketAddrV4> {
        lock(&self.0).get(space).map(|running| running.address)
    }

    fn of(&self, space: &PublicKey) -> Option<AsyncDht> {
        lock(&self.0).get(space).map(|running| running.dht.clone())
    }

    /// Says where this peer is, in its own signed words.
    async fn say(&self, space: &PublicKey, key: &SecretKey, record: &[u8], seq: u64) -> bool {
        let Some(dht) = self.of(space).filter(|_| record.len() <= VALUE_BYTES_MAX) else { return false };
        let item = MutableItem::new(SigningKey::from_bytes(key.seed()), record, i64::try_from(seq).unwrap_or(i64::MAX), Some(&salt(space)));
        matches!(tokio::time::timeout(PATIENCE, dht.put_mutable(item, None)).await, Ok(Ok(_)))
    }

    /// What a peer says about itself in the DHT of a community, unchecked.
    pub(crate) async fn find(&self, space: &PublicKey, node: &PublicKey) -> Option<Signed<PeerRecord>> {
        let dht = self.of(space)?;
        let item = tokio::time::timeout(PATIENCE, dht.get_mutable_most_recent(node.as_bytes(), Some(&salt(space)))).await.ok()??;
        let record = PeerRecord::decode(item.value()).ok()?;
        (record.content().node == *node).then_some(record)
    }
}

/// Takes part in the DHTs that the owner wants, until the peer stops.
pub(crate) async fn keep(peer: Peer) {
    peer.until_stopped(keep_on(&peer)).await;
    lock(&peer.dhts.0).clear();
}

async fn keep_on(peer: &Peer) {
    let network = crate::blobs::network(peer).await;
    let mut changed = network.changed();
    let mut said: BTreeMap<PublicKey, (u64, tokio::time::Instant)> = BTreeMap::new();
    loop {
        changed.borrow_and_update();
        let Ok(memberships) = network.ask(|node| node.book().communities.clone()).await else { return };
        let wanted: BTreeMap<PublicKey, Part> = memberships.into_iter().filter_map(|(space, membership)| Some((space, membership.dht?))).collect();
        lock(&peer.dhts.0).retain(|space, _| wanted.contains_key(space));
        for (space, part) in wanted {
            if let Err(error) = take_part(peer, &network, space, &part, &mut said).await {
                tracing::warn!(%error, %space, "this peer takes no part in the DHT of a community");
            }
        }
        let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn take_part(
    peer: &Peer,
    network: &Network,
    space: PublicKey,
    part: &Part,
    said: &mut BTreeMap<PublicKey, (u64, tokio::time::Instant)>,
) -> Result<(), DhtError> {
    let Some(held) = peer.store.held(&space) else { return Ok(()) };
    let Ok(Some(rules)) = Rules::of(&peer.store, &peer.store.snapshot(), held) else { return Ok(()) };
    let own = SocketAddrV4::new(part.bind, part.port);
    // The first of all nodes has nobody to ask.
    let (mine, first): (Vec<String>, Vec<String>) = rules.dht.into_iter().partition(|address| address.parse() == Ok(own));
    peer.dhts.join(space, part, &first, !mine.is_empty()).await?;
    let Ok((record, lost)) = network.ask(move |node| (node.own_word().cloned(), node.lost_members(&space, SOUGHT_MAX))).await else {
        return Ok(());
    };
    if let Some(record) = record {
        let is_said = said.get(&space).is_some_and(|(seq, at)| *seq == record.seq && at.elapsed() < SAY_EVERY);
        if !is_said && peer.dhts.say(&space, network.node_key(), &PeerRecord::encode_verified(&record), record.seq).await {
            said.insert(space, (record.seq, tokio::time::Instant::now()));
        }
    }
    for node in lost {
        if let Some(record) = peer.dhts.find(&space, &node).await {
            let _ = network.tell(Event::Learned { space, record: Box::new(record) }).await;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_can_be_reached_by_ipv6_alone_hears_why_there_is_no_dht() {
        let (space, part) = (PublicKey::from_bytes([1; 32]), Part { bind: Ipv4Addr::LOCALHOST, port: 0 });
        let dhts = Dhts::default();
        let only = dhts.join(space, &part, &["[::1]:6881".to_owned()], false).await;
        assert!(matches!(only, Err(DhtError::OnlyIpv6)), "{only:?}");
        let none = dhts.join(space, &part, &[], false).await;
        assert!(matches!(none, Err(DhtError::NoFirst)), "{none:?}");
        let (found, has_others) = resolve(&["[::1]:6881".to_owned(), "127.0.0.1:6881".to_owned()]).await;
        assert_eq!((found, has_others), (vec![SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6881)], true));
    }
}
