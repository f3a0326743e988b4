//! DHTs: where peers say where they are, for those who reach nobody who could tell.
//!
//! They are of BitTorrent's kind (BEP 5, BEP 44; `mainline`). A community can have one with first nodes of its own, so that nothing
//! of it gets into the public one; in it takes part who wants to, and whoever does is seen by all others in it. Of the public
//! one nothing is asked, and nothing is said to it, before the owner said yes: who looks at it hears where he is,
//! and whom he looks for.
//!
//! They are of IPv4: `mainline` has no sockets for IPv6 (BEP 32). A machine that has nothing else is found by everything
//! but this.
//!
//! What is found there is a hint like all others: the peer's own signed record, which is checked like every other.
//!
//! Deliberately not: iroh's own pkarr look-up. It publishes addresses as DNS records, by HTTP through servers that one
//! company runs and that see who looks for whom; and what it finds is no record that cannot be rolled back, and is never found by
//! the key of a space.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use mainline::async_dht::AsyncDht;
use mainline::errors::PutMutableError;
use mainline::{Dht, MutableItem, SigningKey};
use serde::{Deserialize, Serialize};
use timebus_identity::{PublicKey, SecretKey, Signed, Verified, hash, z32};
use tokio::time::Instant;

use crate::community::Rules;
use crate::network::{Network, Stopped};
use crate::node::Event;
use crate::peer::{Peer, lock};
use crate::record::PeerRecord;
use crate::who::now_ms;

/// Largest value that nodes of a DHT keep.
const VALUE_BYTES_MAX: usize = 1000;
/// First nodes of one DHT.
pub const FIRST_MAX: usize = 8;
/// How often the own record is said again: nodes forget after two hours.
const SAY_EVERY: Duration = Duration::from_secs(30 * 60);
/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// The least time between two such looks: much may change at once.
const REST: Duration = Duration::from_millis(300);
/// How long addresses that are known, and the local network, have before the public DHT is asked for whom is followed.
const FIRST_TRIES: Duration = Duration::from_secs(5);
/// Who are looked for at once.
const SOUGHT_MAX: usize = 8;
/// Those of whom it is remembered when they are looked for again; of more, the others wait.
const REMEMBERED_MAX: usize = 4096;
/// Longest time until somebody is looked for again, which doubles from [`LOOK_EVERY`] each time: who is gone for good is not asked
/// for all day, and who looks on does not see it.
const SEEK_EVERY_MAX: Duration = Duration::from_secs(30 * 60);
/// How long the name of a first node, and one look-up, may take: nodes that do not answer are waited for 2 s each.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long saying something may, which is a look-up and more.
const SAY_PATIENCE: Duration = Duration::from_secs(20);
/// How long others may bring something newer, once something was found.
const NEWER_PATIENCE: Duration = Duration::from_secs(1);

/// Which DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DhtId {
    /// That of a community.
    Community(PublicKey),
    /// The public one of BitTorrent.
    Public,
}

impl DhtId {
    /// What keeps the records of one DHT apart from those of another, and from what others keep there.
    fn salt(&self) -> [u8; 32] {
        match self {
            Self::Community(space) => hash("dht", &[space.as_bytes()]),
            Self::Public => hash("public dht", &[]),
        }
    }
}

impl std::fmt::Display for DhtId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Community(space) => write!(f, "the DHT of the community {space}"),
            Self::Public => write!(f, "the public DHT"),
        }
    }
}

/// How this peer takes part in the DHT of a community.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The address of this machine that it listens at; IPv4 is all that there is.
    pub bind: Ipv4Addr,
    /// The port; 0 for any that is free.
    pub port: u16,
}

/// Leads from the key of a space to a machine of it, for those who know nothing but that key.
///
/// It is a record like any other of that machine, but of the first number and without addresses, so that it never takes the place of
/// one that says more; the root key of the space signed it as an item of a DHT while it was at hand. It holds as long as the machine
/// has its key, so it can be said again when the root key is in its owner's drawer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The number of the item.
    seq: i64,
    record: String,
    signature: String,
}

impl Pointer {
    /// Signs one for the public DHT. `None` if the keys cannot be used.
    pub(crate) fn sign(root: &SecretKey, node: &SecretKey, now_ms: u64) -> Option<Self> {
        let (node_key, space) = (node.public(), root.public());
        let record = PeerRecord { node: node_key, space, seq: 1, addresses: vec![], mirrors: vec![], inbox: vec![], communities: vec![] };
        let record = PeerRecord::encode_verified(&Verified::sign(record, node).ok()?);
        let item = item(root, &record, now_ms, &DhtId::Public);
        Some(Self { seq: item.seq(), record: z32::encode(&record), signature: z32::encode(item.signature()) })
    }

    /// The machine that it leads to; `None` if it is none.
    pub(crate) fn node(&self) -> Option<PublicKey> {
        Some(PeerRecord::decode(&z32::decode(&self.record).ok()?).ok()?.content().node)
    }

    fn item(&self, space: &PublicKey) -> Option<MutableItem> {
        let (record, signature) = (z32::decode(&self.record).ok()?, z32::decode(&self.signature).ok()?);
        Some(MutableItem::new_signed_unchecked(*space.as_bytes(), signature.try_into().ok()?, &record, self.seq, Some(&DhtId::Public.salt())))
    }
}

fn item(key: &SecretKey, record: &[u8], seq: u64, id: &DhtId) -> MutableItem {
    MutableItem::new(SigningKey::from_bytes(key.seed()), record, i64::try_from(seq).unwrap_or(i64::MAX), Some(&id.salt()))
}

/// What a node of a DHT says that it keeps for a key: a record of that peer, or of one of that space. Its signature is not
/// checked.
fn read(value: &[u8], key: &PublicKey) -> Option<Signed<PeerRecord>> {
    if value.len() > VALUE_BYTES_MAX {
        return None;
    }
    let record = PeerRecord::decode(value).ok()?;
    (record.content().node == *key || record.content().space == *key).then_some(record)
}

/// A DHT that this peer takes part in.
#[derive(Clone, Debug)]
struct Running {
    dht: AsyncDht,
    part: Part,
    /// The first nodes, by their names: these are looked up once, not whenever it is looked whether they changed.
    first: Vec<String>,
    address: SocketAddrV4,
    said: BTreeMap<PublicKey, u64>,
    found_ms: Option<u64>,
}

/// How a DHT is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    /// Where this peer listens for it; nothing if it takes no part.
    pub(crate) listens: Option<String>,
    /// By which keys it can be found there, and when that was said last, in Unix milliseconds.
    pub(crate) said: Vec<Said>,
    /// When somebody was found there last, since the start.
    pub(crate) found_ms: Option<u64>,
    /// What went wrong last, unless it is well again.
    pub(crate) problem: Option<String>,
}

/// That a key can be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Said {
    pub(crate) key: String,
    pub(crate) at_ms: u64,
}

/// The DHTs that this peer takes part in. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dhts(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<DhtId, Running>,
    problems: BTreeMap<DhtId, String>,
}

/// Why a DHT is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DhtError {
    #[error("the community names no first nodes; an organizer does with `timebus community set NAME --dht HOST:PORT`")]
    NoFirst,
    #[error("the names of its first nodes lead nowhere: is there a network? `timebus up --public-dht HOST:PORT` names others")]
    NoPublic,
    #[error("it could not listen at {0}: {1}")]
    Bind(SocketAddrV4, std::io::Error),
    #[error(
        "the first nodes have IPv6 addresses only, and a DHT is one of IPv4; an organizer names others with \
         `timebus community set NAME --dht HOST:PORT`"
    )]
    OnlyIpv6,
    #[error(
        "what is to be said has {0} bytes, and a DHT keeps {VALUE_BYTES_MAX}: it names many addresses, machines and communities; \
         fewer of these are told with `timebus community set NAME --told no`"
    )]
    TooLarge(usize),
    #[error("nobody there took what is to be said, which is tried again: {0}")]
    NotTaken(String),
}

/// Nodes by their addresses: host names are looked up. Only those of IPv4 count; also whether there were others.
async fn resolve(first: &[String]) -> (Vec<SocketAddrV4>, bool) {
    let (mut found, mut has_others) = (Vec::new(), false);
    let asked = first.iter().take(FIRST_MAX).map(|name| tokio::time::timeout(PATIENCE, tokio::net::lookup_host(name)));
    for addresses in join_all(asked).await {
        let Ok(Ok(addresses)) = addresses else { continue };
        let (of_v4, of_v6): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses.partition(SocketAddr::is_ipv4);
        has_others |= !of_v6.is_empty();
        found.extend(of_v4.into_iter().filter_map(|address| if let SocketAddr::V4(address) = address { Some(address) } else { None }).take(2));
    }
    found.sort_unstable();
    found.dedup();
    (found, has_others)
}

impl Dhts {
    /// Takes part, or goes on with another part than before; whether that is new.
    ///
    /// # Errors
    ///
    /// [`DhtError`].
    async fn join(&self, id: DhtId, Wanted { part, first, is_first }: &Wanted) -> Result<bool, DhtError> {
        if lock(&self.0).running.get(&id).is_some_and(|running| running.part == *part && running.first == *first) {
            return Ok(false);
        }
        let (addresses, has_others) = resolve(first).await;
        if addresses.is_empty() && !is_first {
            return Err(match id {
                DhtId::Public => DhtError::NoPublic,
                DhtId::Community(_) if has_others => DhtError::OnlyIpv6,
                DhtId::Community(_) => DhtError::NoFirst,
            });
        }
        lock(&self.0).running.remove(&id);
        let mut config = Dht::builder();
        // Without first nodes of its own it would take those of the public network.
        config.no_bootstrap().bootstrap(&addresses).bind_address(part.bind).port(part.port);
        if id != DhtId::Public {
            // Nobody else keeps what members of a community say. The public one has enough who do; there it
            // answers others only once it is seen that it can be reached.
            config.server_mode();
        }
        let failed = |error| DhtError::Bind(SocketAddrV4::new(part.bind, part.port), error);
        let built = tokio::task::spawn_blocking(move || config.build()).await.map_err(|error| failed(std::io::Error::other(error)))?;
        let dht = built.map_err(failed)?.as_async();
        let address = dht.info().await.local_addr();
        let running = Running { dht, part: part.clone(), first: first.clone(), address, said: BTreeMap::new(), found_ms: None };
        lock(&self.0).running.insert(id, running);
        Ok(true)
    }

    /// Leaves all others than these.
    fn only(&self, wanted: &BTreeMap<DhtId, Wanted>) {
        let mut state = lock(&self.0);
        state.running.retain(|id, _| wanted.contains_key(id));
        state.problems.retain(|id, _| wanted.contains_key(id));
    }

    /// Leaves one at once: what is under way there is the last that it hears.
    pub(crate) fn leave(&self, id: &DhtId) {
        let mut state = lock(&self.0);
        state.running.remove(id);
        state.problems.remove(id);
    }

    /// How a DHT is here.
    pub(crate) fn standing(&self, id: &DhtId) -> Standing {
        let state = lock(&self.0);
        let said = |(key, at_ms): (&PublicKey, &u64)| Said { key: key.to_string(), at_ms: *at_ms };
        let running = state.running.get(id);
        Standing {
            listens: running.map(|running| running.address.to_string()),
            said: running.map(|running| running.said.iter().map(said).collect()).unwrap_or_default(),
            found_ms: running.and_then(|running| running.found_ms),
            problem: state.problems.get(id).cloned(),
        }
    }

    /// Whether this peer takes part in a DHT now.
    pub(crate) fn is_running(&self, id: &DhtId) -> bool {
        lock(&self.0).running.contains_key(id)
    }

    fn of(&self, id: &DhtId) -> Option<AsyncDht> {
        lock(&self.0).running.get(id).map(|running| running.dht.clone())
    }

    fn note(&self, id: DhtId, went: Result<(), DhtError>) {
        let mut state = lock(&self.0);
        match went {
            Ok(()) => drop(state.problems.remove(&id)),
            Err(error) => {
                let problem = error.to_string();
                // Said once, not every time it is tried again.
                if state.problems.insert(id, problem.clone()).as_ref() != Some(&problem) {
                    tracing::warn!(problem, dht = %id, "a DHT is of no use now");
                }
            }
        }
    }

    /// Says where a peer is, in its own signed words.
    async fn say(&self, id: &DhtId, item: MutableItem) -> Result<(), DhtError> {
        let Some(dht) = self.of(id) else { return Ok(()) };
        if item.value().len() > VALUE_BYTES_MAX {
            return Err(DhtError::TooLarge(item.value().len()));
        }
        let key = PublicKey::from_bytes(*item.key());
        match tokio::time::timeout(SAY_PATIENCE, dht.put_mutable(item, None)).await {
            // Another machine of the same space has said something newer under its key, which does as well.
            Ok(Ok(_) | Err(PutMutableError::Concurrency(_))) => {}
            Ok(Err(error)) => return Err(DhtError::NotTaken(error.to_string())),
            Err(_) => return Err(DhtError::NotTaken("there was no answer in time".to_owned())),
        }
        if let Some(running) = lock(&self.0).running.get_mut(id) {
            running.said.insert(key, now_ms());
        }
        Ok(())
    }

    /// What a peer says about itself in a DHT, unchecked: by its node key or the key of its space.
    pub(crate) async fn find(&self, id: &DhtId, key: &PublicKey) -> Option<Signed<PeerRecord>> {
        let dht = self.of(id)?;
        let mut found = look(&dht, id, key).await?;
        let node = found.content().node;
        if node != *key
            && let Some(newer) = look(&dht, id, &node).await.filter(|newer| newer.content().space == *key)
        {
            found = newer;
        }
        if let Some(running) = lock(&self.0).running.get_mut(id) {
            running.found_ms = Some(now_ms());
        }
        Some(found)
    }
}

/// The newest of what nodes of a DHT keep for a key.
async fn look(dht: &AsyncDht, id: &DhtId, key: &PublicKey) -> Option<Signed<PeerRecord>> {
    let mut items = dht.get_mutable(key.as_bytes(), Some(&id.salt()), None);
    let mut deadline = Instant::now() + PATIENCE;
    let mut newest: Option<(i64, Signed<PeerRecord>)> = None;
    while let Ok(Some(item)) = tokio::time::timeout_at(deadline, items.next()).await {
        let is_newer = newest.as_ref().is_none_or(|(seq, _)| *seq < item.seq());
        if let Some(record) = read(item.value(), key).filter(|_| is_newer) {
            newest = Some((item.seq(), record));
            deadline = deadline.min(Instant::now() + NEWER_PATIENCE);
        }
    }
    Some(newest?.1)
}

/// A DHT to take part in.
struct Wanted {
    part: Part,
    first: Vec<String>,
    /// Whether this is the first of all nodes, which has nobody to ask.
    is_first: bool,
}

/// What goes on in one DHT.
#[derive(Debug, Default)]
struct Going {
    /// What was said, by key: the number of the item, and when.
    said: BTreeMap<PublicKey, (i64, Instant)>,
    seeks: Seeks,
    /// Who was looked for just now.
    looked_for: Vec<PublicKey>,
    /// Whether those who are called by addresses that are known had time to answer.
    had_time: bool,
    /// Whether it went well last.
    is_on: bool,
}

/// Who is looked for, how often he was, and when he is again.
type Seeks = BTreeMap<PublicKey, (u32, Instant)>;

/// Takes part in the DHTs that the owner wants, until the peer stops.
pub(crate) async fn keep(peer: Peer) {
    peer.until_stopped(keep_on(&peer)).await;
    *lock(&peer.dhts.0) = State::default();
}

async fn keep_on(peer: &Peer) {
    let network = crate::blobs::network(peer).await;
    let mut changed = network.changed();
    let mut all: BTreeMap<DhtId, Going> = BTreeMap::new();
    let began = Instant::now();
    loop {
        let early = FIRST_TRIES.checked_sub(began.elapsed());
        changed.borrow_and_update();
        let Ok(wanted) = wanted(peer, &network).await else { return };
        peer.dhts.only(&wanted);
        if all.contains_key(&DhtId::Public) && !wanted.contains_key(&DhtId::Public) {
            let _ = network.tell(Event::LookedFor { keys: Vec::new(), is_on: false }).await;
        }
        let parts = wanted.into_iter().map(|(id, wanted)| {
            let (network, mut going) = (&network, all.remove(&id).unwrap_or_default());
            going.had_time = early.is_none();
            async move {
                let went = take_part(peer, network, id, &wanted, &mut going).await;
                // Who reads something waits while it is looked for, if anybody answers there at all.
                let (keys, is_on) = (std::mem::take(&mut going.looked_for), went.is_ok());
                let is_other = std::mem::replace(&mut going.is_on, is_on) != is_on;
                if id == DhtId::Public && (is_other || !keys.is_empty()) {
                    let _ = network.tell(Event::LookedFor { keys, is_on }).await;
                }
                peer.dhts.note(id, went);
                (id, going)
            }
        });
        all = join_all(parts).await.into_iter().collect();
        let _ = tokio::time::timeout(early.unwrap_or(LOOK_EVERY), changed.changed()).await;
        tokio::time::sleep(REST).await;
    }
}

/// The DHTs that the owner said yes to.
async fn wanted(peer: &Peer, network: &Network) -> Result<BTreeMap<DhtId, Wanted>, Stopped> {
    let (memberships, is_public) = network.ask(|node| (node.book().communities.clone(), node.book().public_dht == Some(true))).await?;
    let mut all = BTreeMap::new();
    if let Some(first) = network.endpoint().public_dht().filter(|_| is_public) {
        // Where the owner lets this peer listen, it asks from.
        let own = network.endpoint().sockets().into_iter().find_map(|socket| if let SocketAddr::V4(own) = socket { Some(*own.ip()) } else { None });
        let part = Part { bind: own.unwrap_or(Ipv4Addr::UNSPECIFIED), port: 0 };
        all.insert(DhtId::Public, Wanted { part, first: first.to_vec(), is_first: false });
    }
    for (space, part) in memberships.into_iter().filter_map(|(space, membership)| Some((space, membership.dht?))) {
        let Some(held) = peer.store.held(&space) else { continue };
        let Ok(Some(rules)) = Rules::of(&peer.store, &peer.store.snapshot(), held) else { continue };
        let own = SocketAddrV4::new(part.bind, part.port);
        let (mine, first): (Vec<String>, Vec<String>) = rules.dht.into_iter().partition(|address| address.parse() == Ok(own));
        all.insert(DhtId::Community(space), Wanted { part, first, is_first: !mine.is_empty() });
    }
    Ok(all)
}

/// Says where this peer is, if that is new there or about to be forgotten, and looks for those who are missed.
async fn take_part(peer: &Peer, network: &Network, id: DhtId, wanted: &Wanted, going: &mut Going) -> Result<(), DhtError> {
    if peer.dhts.join(id, wanted).await? {
        going.said.clear();
    }
    let had_time = going.had_time;
    let asked = network.ask(move |node| match id {
        DhtId::Community(space) => Some((node.own_word().cloned(), None, node.lost_members(&space), BTreeMap::new())),
        // The owner may have said no meanwhile.
        DhtId::Public if node.book().public_dht != Some(true) => None,
        DhtId::Public => {
            let sought = node.sought(had_time);
            let mirrors = node.mirrors_of(&sought);
            Some((node.own_word().cloned(), node.book().pointer.clone(), sought, mirrors))
        }
    });
    let Ok(Some((record, pointer, mut missed, mirrors))) = asked.await else {
        peer.dhts.leave(&id);
        return Ok(());
    };
    let own = record.map(|record| item(network.node_key(), &PeerRecord::encode_verified(&record), record.seq, &id));
    let mut went = Ok(());
    for item in own.into_iter().chain(pointer.and_then(|pointer| pointer.item(&peer.space()))) {
        let (key, seq) = (PublicKey::from_bytes(*item.key()), item.seq());
        if going.said.get(&key).is_some_and(|(last, at)| *last == seq && at.elapsed() < SAY_EVERY) {
            continue;
        }
        match peer.dhts.say(&id, item).await {
            Ok(()) => drop(going.said.insert(key, (seq, Instant::now()))),
            Err(error) => went = Err(error),
        }
    }
    missed.extend(mirrors.keys().filter(|node| !missed.contains(node)).copied().collect::<Vec<_>>());
    let due = due(&mut going.seeks, &missed, Instant::now());
    for (key, record) in due.iter().zip(join_all(due.iter().map(|key| peer.dhts.find(&id, key))).await) {
        // A machine that others name as one of the same space has to say so itself.
        let is_meant = |record: &Signed<PeerRecord>| mirrors.get(key).is_none_or(|space| record.content().space == *space);
        let Some(record) = record.filter(is_meant) else { continue };
        let _ = network.tell(Event::Learned { dht: id, record: Box::new(record) }).await;
    }
    going.looked_for = due;
    went
}

/// Who of those who are missed is looked for now.
fn due(seeks: &mut Seeks, missed: &[PublicKey], now: Instant) -> Vec<PublicKey> {
    let still: BTreeSet<&PublicKey> = missed.iter().collect();
    seeks.retain(|key, _| still.contains(key));
    let mut due = Vec::new();
    for key in missed {
        if due.len() == SOUGHT_MAX {
            break;
        }
        if seeks.len() >= REMEMBERED_MAX && !seeks.contains_key(key) {
            continue;
        }
        let (times, next) = seeks.entry(*key).or_insert((0, now));
        if *next <= now {
            *next = now + LOOK_EVERY.saturating_mul(1 << (*times).min(16)).min(SEEK_EVERY_MAX);
            *times += 1;
            due.push(*key);
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(first: &[&str]) -> Wanted {
        let part = Part { bind: Ipv4Addr::LOCALHOST, port: 0 };
        Wanted { part, first: first.iter().map(|&name| name.to_owned()).collect(), is_first: false }
    }

    fn record(node: &SecretKey, space: &PublicKey, seq: u64) -> Verified<PeerRecord> {
        let addresses = vec![format!("192.0.2.1:{seq}")];
        let content = PeerRecord { node: node.public(), space: *space, seq, addresses, mirrors: vec![], inbox: vec![], communities: vec![] };
        Verified::sign(content, node).expect("our own")
    }

    /// The first node of a DHT on this machine, and where it is. One that knows of no other would count all who ask
    /// for nodes, and have them asked in turn.
    fn first_node() -> (Dht, String) {
        let own = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let mut node = Dht::builder();
        node.bootstrap(&[own]).bind_address(Ipv4Addr::LOCALHOST).port(own.port()).server_mode();
        (node.build().expect("a node"), own.to_string())
    }

    async fn taking_part(id: DhtId, first: &str) -> Dhts {
        let dhts = Dhts::default();
        dhts.join(id, &wanted(&[first])).await.expect("it takes part");
        dhts
    }

    async fn say(dhts: &Dhts, id: DhtId, key: &SecretKey, record: &Verified<PeerRecord>) {
        dhts.say(&id, item(key, &PeerRecord::encode_verified(record), record.seq, &id)).await.expect("it is said");
    }

    #[tokio::test]
    async fn who_can_be_reached_by_ipv6_alone_hears_why_there_is_no_dht() {
        let (space, dhts) = (DhtId::Community(PublicKey::from_bytes([1; 32])), Dhts::default());
        let only = dhts.join(space, &wanted(&["[::1]:6881"])).await;
        assert!(matches!(only, Err(DhtError::OnlyIpv6)), "{only:?}");
        let none = dhts.join(space, &wanted(&[])).await;
        assert!(matches!(none, Err(DhtError::NoFirst)), "{none:?}");
        let none = dhts.join(DhtId::Public, &wanted(&["[::1]:6881"])).await;
        assert!(matches!(none, Err(DhtError::NoPublic)), "{none:?}");
        let (found, has_others) = resolve(&["[::1]:6881".to_owned(), "127.0.0.1:6881".to_owned()]).await;
        assert_eq!((found, has_others), (vec![SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6881)], true));
    }

    #[tokio::test]
    async fn the_key_of_a_space_leads_to_what_its_machine_says_now() {
        let (root, node) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let (_dht, first) = first_node();
        let (one, other) = (taking_part(DhtId::Public, &first).await, taking_part(DhtId::Public, &first).await);
        let pointer = Pointer::sign(&root, &node, 5).expect("our own keys");
        assert_eq!(pointer.node(), Some(node.public()));
        one.say(&DhtId::Public, pointer.item(&root.public()).expect("an item")).await.expect("it is said");
        let found = other.find(&DhtId::Public, &root.public()).await.expect("the pointer").verify().expect("the machine signed it");
        assert_eq!((found.node, found.space, found.seq), (node.public(), root.public(), 1));
        assert!(found.addresses.is_empty(), "{found:?}");
        for seq in [7, 8] {
            let record = record(&node, &root.public(), seq);
            say(&one, DhtId::Public, &node, &record).await;
            for key in [root.public(), node.public()] {
                assert_eq!(other.find(&DhtId::Public, &key).await.map(Signed::verify), Some(Ok(record.clone())));
            }
        }
        let keys: Vec<String> = one.standing(&DhtId::Public).said.into_iter().map(|said| said.key).collect();
        assert!(keys.contains(&root.public().to_string()) && keys.contains(&node.public().to_string()), "{keys:?}");
        assert!(other.standing(&DhtId::Public).found_ms.is_some());
    }

    #[tokio::test]
    async fn nobody_leads_elsewhere_who_lacks_the_key() {
        let (root, node, evil) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]), SecretKey::from_seed([3; 32]));
        let (_dht, first) = first_node();
        let (one, other) = (taking_part(DhtId::Public, &first).await, taking_part(DhtId::Public, &first).await);
        say(&one, DhtId::Public, &node, &record(&node, &root.public(), 7)).await;
        // He says that he is the space, and puts what he signed under the key of another.
        let record = record(&evil, &root.public(), 9);
        let bytes = PeerRecord::encode_verified(&record);
        let stolen = item(&evil, &bytes, 9, &DhtId::Public);
        for key in [root.public(), node.public()] {
            let item = MutableItem::new_signed_unchecked(*key.as_bytes(), *stolen.signature(), &bytes, 9, Some(&DhtId::Public.salt()));
            assert!(one.say(&DhtId::Public, item).await.is_err(), "no node keeps what the key did not sign");
        }
        assert_eq!(other.find(&DhtId::Public, &root.public()).await, None);
        assert_eq!(other.find(&DhtId::Public, &node.public()).await.map(|found| found.content().seq), Some(7));
    }

    #[test]
    fn salts_of_dhts() {
        // Peers of all versions have to find each other; this pins it.
        let hex = |id: DhtId| id.salt().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(DhtId::Public), "77ded88eccf465e397a519ea211b40bb27d3f5e0b70ba64740c4aaea1c5b995f");
        let community = DhtId::Community(PublicKey::from_bytes([0x22; 32]));
        assert_eq!(hex(community), "2fe2c478f4259f00ed8b697555734c6f5222c23b125b6f49475ee9560b0fe445");
    }

    #[tokio::test]
    async fn one_dht_does_not_answer_for_another() {
        let node = SecretKey::from_seed([2; 32]);
        let (_dht, first) = first_node();
        let community = DhtId::Community(PublicKey::from_bytes([9; 32]));
        let dhts = taking_part(DhtId::Public, &first).await;
        dhts.join(community, &wanted(&[&first])).await.expect("it takes part");
        say(&dhts, community, &node, &record(&node, &node.public(), 7)).await;
        assert_eq!(dhts.find(&DhtId::Public, &node.public()).await, None);
        assert!(dhts.find(&community, &node.public()).await.is_some());
    }

    #[test]
    fn what_is_kept_for_a_key_is_a_record_of_it_or_nothing() {
        let (node, space) = (SecretKey::from_seed([2; 32]), PublicKey::from_bytes([5; 32]));
        let record = record(&node, &space, 7);
        let bytes = PeerRecord::encode_verified(&record);
        for key in [node.public(), space] {
            assert_eq!(read(&bytes, &key).map(Signed::verify), Some(Ok(record.clone())));
        }
        assert_eq!(read(&bytes, &PublicKey::from_bytes([6; 32])), None);
        assert_eq!(read(&bytes[1..], &space), None);
        assert_eq!(read(b"", &space), None);
        let large = PeerRecord { addresses: vec!["x".repeat(128); 8], ..record.into_inner() };
        let large = PeerRecord::encode_verified(&Verified::sign(large, &node).expect("our own"));
        assert!(PeerRecord::decode(&large).is_ok() && large.len() > VALUE_BYTES_MAX);
        assert_eq!(read(&large, &space), None, "no node keeps that much");
    }

    #[tokio::test]
    async fn who_says_too_much_hears_so() {
        let node = SecretKey::from_seed([2; 32]);
        let (_dht, first) = first_node();
        let dhts = taking_part(DhtId::Public, &first).await;
        let went = dhts.say(&DhtId::Public, item(&node, &[0; VALUE_BYTES_MAX + 1], 7, &DhtId::Public)).await;
        assert!(matches!(went, Err(DhtError::TooLarge(1001))), "{went:?}");
        dhts.note(DhtId::Public, went);
        assert!(dhts.standing(&DhtId::Public).problem.is_some_and(|problem| problem.contains("1001 bytes")));
        dhts.note(DhtId::Public, Ok(()));
        assert_eq!(dhts.standing(&DhtId::Public).problem, None);
    }

    #[test]
    fn who_is_missed_is_looked_for_at_once_and_then_ever_less() {
        let (mut seeks, begin) = (Seeks::new(), Instant::now());
        let keys: Vec<PublicKey> = (0..=u8::try_from(SOUGHT_MAX).expect("few")).map(|at| PublicKey::from_bytes([at; 32])).collect();
        assert_eq!(due(&mut seeks, &keys, begin), keys[..SOUGHT_MAX]);
        assert_eq!(due(&mut seeks, &keys, begin), keys[SOUGHT_MAX..], "nobody waits until all others are found");
        let one = &keys[..1];
        let mut times: Vec<u64> = Vec::new();
        for second in 1..6000 {
            if !due(&mut seeks, one, begin + Duration::from_secs(second)).is_empty() {
                times.push(second);
            }
        }
        assert_eq!(times, [20, 60, 140, 300, 620, 1260, 2540, 4340]);
        // Who was found, and is missed again, is looked for at once.
        assert!(due(&mut seeks, &[], begin).is_empty());
        assert_eq!(due(&mut seeks, one, begin + Duration::from_secs(6000)), one);
    }
}
