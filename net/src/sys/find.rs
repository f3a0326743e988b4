//! The part of `/.sys` that says where somebody is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use tokio::time::Instant;

use crate::dht::DhtId;
use crate::network::Network;
use crate::node::book::Source;
use crate::node::{Event, Found, Teller};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::record::PeerRecord;
use crate::sys::network::{find_person, network, read, stopped};

/// How long others have to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the local network is listened to, and for how many machines at most.
const NEARBY_PATIENCE: Duration = Duration::from_millis(300);
const NEARBY_MAX: usize = 4;

#[derive(Deserialize)]
struct FindBody {
    who: String,
}

/// Looks for somebody in the address book and at all who are connected.
pub(crate) async fn find(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let FindBody { who } = read(body)?;
    let network = network(peer)?;
    let sought = sought(peer, &who).await?;
    let mut changed = network.changed();
    let before = look(network, &sought).await?;
    let nodes: BTreeSet<PublicKey> =
        before.iter().flat_map(|found| found.contacts.iter().map(|(id, ..)| *id)).chain(sought.iter().copied()).collect();
    let mut nearby = None;
    for node in nodes.iter().take(NEARBY_MAX) {
        if let Some(addresses) = network.endpoint().nearby(node, NEARBY_PATIENCE).await {
            nearby.get_or_insert_with(Vec::new).extend(addresses.iter().map(ToString::to_string));
        }
    }
    for who in &sought {
        network.tell(Event::Find { who: *who }).await.map_err(stopped)?;
    }
    // Who is asked answers within moments, or not at all.
    let asked: usize = before.iter().map(|found| found.asked).sum();
    let deadline = Instant::now() + if asked == 0 { Duration::ZERO } else { PATIENCE };
    let mut found = before.clone();
    let is_same = |found: &[Found]| found.iter().zip(&before).all(|(now, before)| now.records == before.records);
    while is_same(&found) && matches!(tokio::time::timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
        found = look(network, &sought).await?;
    }
    // A DHT is asked only if nobody nearer knows: it hears who is looked for.
    let is_known = found.iter().any(|found| !found.records.is_empty());
    let mut dhts = Vec::new();
    for space in communities(network, &sought).await? {
        let part =
            network.ask(move |node| node.book().communities.get(&space).and_then(|membership| membership.dht.clone())).await.map_err(stopped)?;
        let is_asked = part.is_some() && !is_known;
        if is_asked {
            for node in &sought {
                ask_dht(peer, network, DhtId::Community(space), node).await?;
            }
        }
        dhts.push((space, part.is_some(), is_asked));
    }
    if dhts.iter().any(|(.., is_asked)| *is_asked) {
        found = look(network, &sought).await?;
    }
    // The public one is asked only for whom nobody nearer has told of just now.
    let is_near = !is_same(&found) || nearby.as_ref().is_some_and(|addresses| !addresses.is_empty());
    let is_connected = found.iter().flat_map(|found| &found.contacts).any(|(.., is_connected)| *is_connected);
    let is_on = network.ask(|node| node.book().public_dht == Some(true)).await.map_err(stopped)? && network.endpoint().public_dht().is_some();
    let is_asked = is_on && !is_near && !is_connected;
    if is_asked {
        for key in &sought {
            ask_dht(peer, network, DhtId::Public, key).await?;
        }
        found = look(network, &sought).await?;
    }
    let mut ways = ways(peer, &found, nearby.as_deref()).await;
    let people = People::now(peer).await;
    if dhts.is_empty() {
        ways.push(json!({"way": "community DHTs", "found": false, "words": "he is in none of your communities, as far as is known"}));
    }
    for (space, is_on, is_asked) in dhts {
        let is_found = found.iter().flat_map(|found| found.told.values()).any(|teller| *teller == Teller::Dht(DhtId::Community(space)));
        let name = people.name(&space);
        ways.push(json!({"way": "community DHTs", "community": space.to_string(), "found": is_found, "off": !is_on, "words": match (is_on, is_found, is_asked) {
            (_, true, _) => format!("the DHT of {name} has his signed word"),
            (false, ..) => format!("off: you take no part in the DHT of {name}; `timebus community dht {name} on`"),
            (true, _, true) => format!("nothing in the DHT of {name}"),
            (true, _, false) => "not asked, since it is known already".to_owned(),
        }}));
    }
    let is_found = found.iter().flat_map(|found| found.told.values()).any(|teller| *teller == Teller::Dht(DhtId::Public));
    ways.push(json!({"way": "public DHT", "found": is_found, "off": !is_on, "words": match (is_on, is_found, is_asked) {
        (_, true, _) => "it has his signed word",
        (false, ..) => "off: the public DHT is not asked; `timebus public-dht on`, for both of you",
        (true, _, true) if !peer.dhts.is_running(&DhtId::Public) => "it is not reached; `timebus public-dht` says why",
        (true, _, true) => "nothing there, or nothing new",
        (true, _, false) => "not asked, since somebody nearer knows",
    }}));
    let by = ways.iter().find(|way| way["found"] == true).map(|way| way["way"].clone());
    let mut all: Vec<Serde> = Vec::new();
    found.iter().for_each(|found| describe(found, &mut all));
    let key = sought.first().map(ToString::to_string);
    Ok(json!({"key": key, "nodes": all, "asked": asked, "ways": ways, "by": by}))
}

/// Looks for somebody in a DHT.
async fn ask_dht(peer: &Peer, network: &Network, dht: DhtId, key: &PublicKey) -> Result<(), Problem> {
    if let Some(record) = peer.dhts.find(&dht, key).await {
        network.tell(Event::Learned { dht, record: Box::new(record) }).await.map_err(stopped)?;
    }
    Ok(())
}

/// The communities of the owner that machines are in.
async fn communities(network: &Network, sought: &[PublicKey]) -> Result<Vec<PublicKey>, Problem> {
    let found = look(network, sought).await?;
    Ok(found.iter().flat_map(|found| found.members.keys().copied()).collect::<BTreeSet<_>>().into_iter().collect())
}

/// Whom a name means: a space or a peer; or, as in `Bob@choir`, the machines of a member of a community.
async fn sought(peer: &Peer, who: &str) -> Result<Vec<PublicKey>, Problem> {
    match who.split_once('@') {
        Some((name, community)) if !name.is_empty() => super::communities::machines(peer, community, name).await,
        _ => Ok(vec![find_person(peer, who).await?]),
    }
}

async fn look(network: &Network, sought: &[PublicKey]) -> Result<Vec<Found>, Problem> {
    let sought = sought.to_vec();
    network.ask(move |node| sought.iter().map(|key| node.find(key)).collect()).await.map_err(stopped)
}

/// The ways in which somebody is looked for, in order: what each found, or why it was not gone.
async fn ways(peer: &Peer, found: &[Found], nearby: Option<&[String]>) -> Vec<Serde> {
    let people = People::now(peer).await;
    let contacts = || found.iter().flat_map(|found| &found.contacts).filter(|(_, contact, _)| !contact.addresses.is_empty());
    let told = |is_it: &dyn Fn(&Teller) -> bool| found.iter().flat_map(|found| found.told.values()).any(is_it);
    let by_invite = contacts().any(|(_, contact, _)| contact.source == Source::Invite);
    let himself = told(&|teller| *teller == Teller::Himself);
    // What was heard before the start, and from whom it was heard is not known any more, is known from the book.
    let remembered = found.iter().any(|found| found.records.iter().any(|record| !found.told.contains_key(&record.node)));
    let by_book = himself || remembered || contacts().any(|(_, contact, _)| !matches!(contact.source, Source::Invite | Source::Introduced));
    let asked: usize = found.iter().map(|found| found.asked - found.members.values().sum::<usize>().min(found.asked)).sum();
    let mut ways = vec![
        json!({"way": "address book", "found": by_book, "words": if by_book { "he was met, or called, before" } else { "nothing" }}),
        json!({"way": "invites", "found": by_invite, "words": if by_invite { "an invite that was taken says so" } else { "nothing" }}),
        match nearby {
            None => json!({"way": "local network", "found": false, "off": true, "words": "off: the local network is not searched"}),
            Some([]) => json!({"way": "local network", "found": false, "words": "nobody there says that he is it"}),
            Some(addresses) => json!({"way": "local network", "found": true, "addresses": addresses, "words": "he says so there"}),
        },
    ];
    let by_peer = told(&|teller| matches!(teller, Teller::Connected(_)));
    ways.push(json!({"way": "connected peers", "found": by_peer, "asked": asked, "words": match (by_peer, asked) {
        (true, _) => "one of them told his signed word".to_owned(),
        (false, 0) => "nobody who could be asked is connected".to_owned(),
        (false, asked) => format!("{asked} asked, nothing new"),
    }}));
    let mut communities: BTreeMap<PublicKey, usize> = BTreeMap::new();
    for (space, count) in found.iter().flat_map(|found| &found.members) {
        *communities.entry(*space).or_default() += count;
    }
    if communities.is_empty() {
        ways.push(json!({"way": "communities", "found": false, "words": "he is in none of yours, as far as is known"}));
    }
    for (space, asked) in communities {
        let by_member = told(&|teller| matches!(teller, Teller::Member { space: of, .. } if *of == space));
        let name = people.name(&space);
        ways.push(
            json!({"way": "communities", "community": space.to_string(), "found": by_member, "asked": asked, "words": match (by_member, asked) {
                (true, _) => format!("a member of {name} told his signed word"),
                (false, 0) => format!("no member of {name} is connected"),
                (false, asked) => format!("{asked} members of {name} asked, nothing new"),
            }}),
        );
    }
    ways
}

fn describe(found: &Found, nodes: &mut Vec<Serde>) {
    for (id, contact, is_connected) in &found.contacts {
        let record = found.records.iter().find(|record| record.node == *id).map(|record| told(record));
        let contact = json!({"source": contact.source, "name": contact.name, "addresses": contact.addresses, "seen_ms": contact.seen_ms});
        nodes.push(json!({"node": id.to_string(), "connected": is_connected, "book": contact, "record": record}));
    }
    for record in found.records.iter().filter(|record| !found.contacts.iter().any(|(id, ..)| *id == record.node)) {
        nodes.push(json!({"node": record.node.to_string(), "connected": false, "book": null, "record": told(record)}));
    }
}

fn told(record: &PeerRecord) -> Serde {
    let texts = |keys: &[PublicKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "seq": record.seq,
        "space": record.space.to_string(),
        "addresses": record.addresses,
        "mirrors": texts(&record.mirrors),
        "inbox": texts(&record.inbox),
        "communities": texts(&record.communities),
    })
}
