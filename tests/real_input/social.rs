//! Five thousand messages of a hundred people, each of whom has a space, on six peers that follow each other's people
//! as the people do: real peers in this process, with links over loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use timebus_identity::{Keys, PublicKey};
use timebus_net::link::endpoint::EndpointConfig;
use timebus_net::network::{Network, NetworkConfig};
use timebus_net::node::Event;
use timebus_store::ids::ChangeId;
use timebus_store::store::{Config, Store, lock_home};

use crate::author::Author;
use crate::data;

const PEERS: usize = 6;
/// Messages that are there before the peers know each other; the others come while they are connected.
const BEFORE: usize = 2500;
/// Messages that one person brings at once.
const BATCH: usize = 20;
/// How long everything may take before the test gives up; far more than it ever takes.
const DEADLINE: Duration = Duration::from_secs(120);

/// Somebody, and which peer keeps the space.
struct Placed {
    author: Author,
    peer: usize,
}

impl Placed {
    fn say(&mut self, message: &Value) {
        let value = &message["value"];
        self.author.put(&format!("/messages/{}", value["sequence"]), &value["content"], value["timestamp"].as_u64().expect("a time"));
    }

    fn space(&self) -> PublicKey {
        self.author.store().space()
    }
}

/// A peer and where it lives.
struct Peer {
    _home: tempfile::TempDir,
    store: Store,
    network: Network,
}

async fn peer() -> Peer {
    let home = tempfile::tempdir().expect("a temporary folder");
    let lock = lock_home(home.path()).expect("a free home");
    let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
    let keys = Keys::create_or_open(&home.path().join("keys")).expect("its keys");
    let endpoint = EndpointConfig { lan: None, bind: vec!["127.0.0.1:0".parse().expect("an address")], ..EndpointConfig::default() };
    let config = NetworkConfig { endpoint, name: String::new(), links_max: 256 };
    let network = Network::join(store.clone(), &keys, config).await.expect("sockets on loopback");
    Peer { _home: home, store, network }
}

/// The changes of a space that a store holds, of both timelines.
fn changes(store: &Store, space: &PublicKey) -> BTreeSet<ChangeId> {
    let Some(space) = store.held(space) else { return BTreeSet::new() };
    let rows = store.snapshot();
    let all = store.changes(&rows, space.auth(), 0).chain(store.changes(&rows, space.main(), 0));
    all.map(|change| change.expect("the store can be read").1.id).collect()
}

async fn bring(peers: &[Peer], one: &mut Placed) {
    let news = one.author.news();
    let offered = peers[one.peer].store.offer(news).await.expect("the disk takes it");
    assert!(offered.refused.is_empty(), "{:?}", offered.refused);
}

/// What is not as it should be on a peer, if anything is.
fn wrong(peer: &Peer, wanted: &BTreeMap<PublicKey, &BTreeSet<ChangeId>>) -> Option<String> {
    let own = peer.store.space();
    let held: BTreeSet<PublicKey> = peer.store.spaces().iter().map(|space| space.key).filter(|space| *space != own).collect();
    if let Some(space) = held.iter().find(|space| !wanted.contains_key(space)) {
        return Some(format!("it holds {space:?}, which nobody there follows"));
    }
    if held.len() < wanted.len() {
        return Some(format!("it holds {} of {} spaces", held.len(), wanted.len()));
    }
    let (space, wanted) = wanted.iter().find(|(space, wanted)| changes(&peer.store, space) != ***wanted)?;
    Some(format!("of {space:?} it has {} of {} changes", changes(&peer.store, space).len(), wanted.len()))
}

#[test]
fn six_peers_hold_exactly_whom_their_people_follow() {
    let Some(messages) = data::lines("02-social/ssb-fixtures-trainB.ndjson.gz") else { return };
    let Some(graph) = data::file("02-social/ssb-fixtures-trainB-follow-graph.json.gz") else { return };
    let graph: BTreeMap<String, BTreeMap<String, Option<bool>>> = serde_json::from_slice(&graph).expect("a follow graph");
    let name = |message: &Value| message["value"]["author"].as_str().expect("an author").to_owned();
    let names: BTreeSet<String> = messages.iter().map(name).collect();
    let begin_ms = messages[0]["value"]["timestamp"].as_u64().expect("a time");
    let place = |(number, name): (usize, &String)| (name.clone(), Placed { author: Author::new(name, begin_ms), peer: number % PEERS });
    let mut authors: BTreeMap<String, Placed> = names.iter().enumerate().map(place).collect();

    // The engines of the authors are driven from outside of it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let peers: Vec<Peer> = (0..PEERS).map(|_| runtime.block_on(peer())).collect();
    // Half of it is there before anybody knows anybody.
    for message in &messages[..BEFORE] {
        authors.get_mut(&name(message)).expect("an author").say(message);
    }
    for author in authors.values_mut() {
        runtime.block_on(bring(&peers, author));
    }
    let mut wanted: Vec<BTreeSet<String>> = vec![BTreeSet::new(); PEERS];
    for (name, author) in &authors {
        wanted[author.peer].insert(name.clone());
        let followed = graph.get(name).into_iter().flatten().filter(|(_, follows)| **follows == Some(true)).map(|(other, _)| other);
        wanted[author.peer].extend(followed.filter(|other| authors.contains_key(*other)).cloned());
    }
    let mut follows = 0;
    for (number, wanted) in wanted.iter().enumerate() {
        for name in wanted {
            let author = &authors[name];
            if author.peer != number {
                let other = &peers[author.peer].network;
                let addresses = other.endpoint().sockets().iter().map(ToString::to_string).collect();
                let via = vec![(other.endpoint().node(), addresses)];
                let follow = peers[number].network.tell(Event::Follow { space: author.space(), via });
                runtime.block_on(follow).expect("the peer runs");
                follows += 1;
            }
        }
    }
    // The other half comes as it was said, while links come up and are live.
    let mut unbrought: BTreeMap<String, usize> = BTreeMap::new();
    for message in &messages[BEFORE..] {
        let name = name(message);
        let author = authors.get_mut(&name).expect("an author");
        author.say(message);
        let count = unbrought.entry(name).or_default();
        *count += 1;
        if *count == BATCH {
            *count = 0;
            runtime.block_on(bring(&peers, author));
        }
    }
    for author in authors.values_mut() {
        runtime.block_on(bring(&peers, author));
    }

    let whole: BTreeMap<&String, BTreeSet<ChangeId>> =
        authors.iter().map(|(name, author)| (name, changes(author.author.store(), &author.space()))).collect();
    let said: usize = whole.values().map(BTreeSet::len).sum();
    assert!(said >= messages.len(), "every message is a change");
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut copies = 0;
    for (number, wanted) in wanted.iter().enumerate() {
        let wanted: BTreeMap<PublicKey, &BTreeSet<ChangeId>> = wanted.iter().map(|name| (authors[name].space(), &whole[name])).collect();
        copies += wanted.values().map(|changes| changes.len()).sum::<usize>();
        let mut arrived = peers[number].store.arrivals();
        loop {
            arrived.borrow_and_update();
            let Some(wrong) = wrong(&peers[number], &wanted) else { break };
            let more = runtime.block_on(async { tokio::time::timeout_at(deadline, arrived.changed()).await });
            if more.is_err() {
                let status = runtime.block_on(peers[number].network.ask(|node| (node.peers(0), node.spaces()))).expect("the peer runs");
                panic!("peer {number} does not get there: {wrong}\n{}", serde_json::to_string_pretty(&status).expect("JSON"));
            }
        }
    }
    // Nothing came on the way of the others either.
    for (peer, wanted) in peers.iter().zip(&wanted) {
        assert_eq!(peer.store.spaces().len(), wanted.len() + 1, "the followed spaces and its own");
    }
    eprintln!("{} messages of {} people on {PEERS} peers, {follows} follows: {copies} changes are held", messages.len(), authors.len());
    for peer in peers {
        runtime.block_on(peer.network.leave());
    }
}
