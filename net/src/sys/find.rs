//! The part of `/.sys` that says where somebody is.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use tokio::time::Instant;

use crate::node::{Event, Found};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::record::PeerRecord;
use crate::sys::network::{find_space, network, read, stopped};

/// How long others have to answer.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct FindBody {
    who: String,
}

/// Looks for somebody in the address book and at all who are connected.
pub(crate) async fn find(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let FindBody { who } = read(body)?;
    let key = find_space(peer, &who).await?;
    let network = network(peer)?;
    let mut changed = network.changed();
    let before = network.ask(move |node| node.find(&key)).await.map_err(stopped)?;
    network.tell(Event::Find { who: key }).await.map_err(stopped)?;
    let deadline = Instant::now() + if before.asked == 0 { Duration::ZERO } else { PATIENCE };
    let mut found = before.clone();
    while found.records == before.records && matches!(tokio::time::timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
        found = network.ask(move |node| node.find(&key)).await.map_err(stopped)?;
    }
    Ok(describe(&key.to_string(), &found))
}

fn describe(key: &str, found: &Found) -> Serde {
    let mut nodes: Vec<Serde> = Vec::new();
    for (id, contact, is_connected) in &found.contacts {
        let record = found.records.iter().find(|record| record.node == *id).map(|record| told(record));
        let contact = json!({"source": contact.source, "name": contact.name, "addresses": contact.addresses, "seen_ms": contact.seen_ms});
        nodes.push(json!({"node": id.to_string(), "connected": is_connected, "book": contact, "record": record}));
    }
    for record in found.records.iter().filter(|record| !found.contacts.iter().any(|(id, ..)| *id == record.node)) {
        nodes.push(json!({"node": record.node.to_string(), "connected": false, "book": null, "record": told(record)}));
    }
    json!({"key": key, "nodes": nodes, "asked": found.asked})
}

/// What a peer says about itself.
fn told(record: &PeerRecord) -> Serde {
    let texts = |keys: &[timebus_identity::PublicKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "seq": record.seq,
        "space": record.space.to_string(),
        "addresses": record.addresses,
        "mirrors": texts(&record.mirrors),
        "inbox": texts(&record.inbox),
        "communities": texts(&record.communities),
    })
}
