//! The part of `/.sys` that says which files of a community, and which spaces of its members, lie where.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Serde, json};
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;

use super::communities::Here;
use crate::blobs::beside;
use crate::community::holding::asking::ask;
use crate::community::holding::checking::{Doubts, told_json};
use crate::community::holding::spaces::{Lying, lying};
use crate::community::holding::{Placed, held_of, loads, placed};
use crate::community::{Member, Rules, members};
use crate::node::Node;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::route::storage_problem;
use crate::sys::network::{network, stopped};
use crate::who::now_ms;

/// Files that are named; of more, those with too few copies come first.
const NAMED_MAX: usize = 1000;

pub(crate) async fn placement(peer: &Peer, name: &str) -> Result<Serde, Problem> {
    let here = Here::find(peer, name).await?;
    let (space, rules) = here.ready().map(|(space, rules)| (space, rules.clone()))?;
    let network = network(peer)?;
    let own = network.endpoint().node();
    let (store, own_space) = (peer.store().clone(), peer.space());
    let mut space_of = network.ask(Node::spaces_of_machines).await.map_err(stopped)?;
    space_of.insert(own, own_space);
    let looked = beside(move || {
        let rows = store.snapshot();
        let files = placed(&store, &rows, space, &own, now_ms())?;
        let mine: Vec<BlobHash> = files.iter().filter(|file| file.holders.contains(&own)).map(|file| file.hash).collect();
        let mine: BTreeSet<BlobHash> = held_of(&store, &space.key, mine)?.into_iter().collect();
        let changes = store.changes(&rows, space.unmounted().main(), 0).count();
        let all = members(&store, &rows, space)?;
        let spaces = lying(&store, &rows, (&space.key, &own), &rules, &all, &space_of, now_ms())?;
        Ok::<_, timebus_store::store::StorageError>((rules, files, mine, all, changes, spaces))
    });
    let (rules, files, mine, all, changes, spaces) = looked.await?.map_err(|error| storage_problem(&error))?;
    let nodes: Vec<PublicKey> = all.iter().flat_map(|member| &member.machines).map(|machine| machine.node).collect();
    let connected: BTreeSet<PublicKey> =
        network.ask(move |node| nodes.into_iter().filter(|id| node.is_connected(id)).collect()).await.map_err(stopped)?;
    let placed: Vec<(PublicKey, &Placed)> = files.iter().map(|file| (space.key, file)).collect();
    let said = ask(network, &placed, &connected).await.map_err(stopped)?;
    let mut said: BTreeMap<PublicKey, BTreeSet<BlobHash>> = said.into_iter().map(|((node, _), files)| (node, files)).collect();
    said.insert(own, mine);
    let asked: Vec<(PublicKey, PublicKey)> = spaces.iter().flat_map(|lying| lying.holders.iter().map(|node| (*node, lying.space))).collect();
    let has: BTreeMap<(PublicKey, PublicKey), bool> =
        network.ask(move |node| asked.into_iter().filter_map(|of| Some((of, node.has_space(&of.0, &of.1)?))).collect()).await.map_err(stopped)?;
    let mut told = describe(&rules, &all, &files, &said, (&own, &connected));
    describe_spaces(&mut told, &rules, &all, &spaces, &has);
    told["community"] = here.key.to_string().into();
    told["title"] = rules.title.as_str().into();
    told["log"] = json!({"changes": changes, "members": all.len()});
    Ok(told)
}

/// The spaces of members, those first that too few machines have.
fn describe_spaces(told: &mut Serde, rules: &Rules, all: &[Member], spaces: &[Lying], has: &BTreeMap<(PublicKey, PublicKey), bool>) {
    let owner = |node: &PublicKey| all.iter().find(|member| member.machines.iter().any(|machine| machine.node == *node));
    let name = |node: &PublicKey| owner(node).map_or_else(|| node.to_string(), |member| member.name.clone());
    let state = |node: &PublicKey, lying: &Lying| match has.get(&(*node, lying.space)) {
        Some(true) if lying.unshown.contains(node) => "unshown",
        Some(true) => "holds",
        Some(false) => "lacks",
        None => "unknown",
    };
    let lacks = |lying: &Lying| {
        let mut counted = lying.holders.iter().filter(|node| !lying.unshown.contains(node));
        counted.clone().count() < usize::from(rules.replicas) || counted.any(|node| state(node, lying) == "lacks")
    };
    let mut shown: Vec<(bool, &Lying)> = spaces.iter().map(|lying| (lacks(lying), lying)).collect();
    shown.sort_by_key(|(lacks, lying)| (!lacks, lying.space));
    let under = shown.iter().filter(|(lacks, _)| *lacks).count();
    let space = |(lacks, lying): &(bool, &Lying)| {
        let of = all.iter().filter(|member| member.keys.first().is_some_and(|key| lying.members.contains(key)));
        let holders = lying.holders.iter().map(|node| json!({"node": node.to_string(), "name": name(node), "state": state(node, lying)}));
        json!({
            "space": lying.space.to_string(), "of": of.map(|member| member.name.as_str()).collect::<Vec<_>>(), "bytes": lying.bytes, "under": lacks,
            "holders": holders.collect::<Vec<_>>(),
        })
    };
    told["spaces"] = shown.iter().take(NAMED_MAX).map(space).collect();
    told["spaces_total"] = spaces.len().into();
    told["spaces_under"] = under.into();
}

fn describe(
    rules: &Rules,
    all: &[Member],
    files: &[Placed],
    said: &BTreeMap<PublicKey, BTreeSet<BlobHash>>,
    (own, connected): (&PublicKey, &BTreeSet<PublicKey>),
) -> Serde {
    let owner = |node: &PublicKey| all.iter().find(|member| member.machines.iter().any(|machine| machine.node == *node));
    let name = |node: &PublicKey| owner(node).map_or_else(|| node.to_string(), |member| member.name.clone());
    let there: BTreeSet<PublicKey> = crate::community::holding::offers(rules, all, own, now_ms()).into_iter().map(|offer| offer.node).collect();
    let loads = loads(files);
    let machines =
        all.iter().flat_map(|member| member.machines.iter().map(move |machine| (member, machine))).filter(|(_, machine)| machine.stores > 0);
    let machine = |(member, machine): (&Member, &crate::community::Machine)| {
        let (files, bytes) = loads.get(&machine.node).copied().unwrap_or_default();
        json!({
            "node": machine.node.to_string(), "name": member.name, "stores": machine.stores, "files": files, "bytes": bytes,
            "seen_ms": machine.seen_ms, "away": !there.contains(&machine.node), "you": machine.node == *own,
            "connected": connected.contains(&machine.node),
        })
    };
    let machines: Vec<Serde> = machines.map(machine).collect();
    let state = |node: &PublicKey, file: &Placed| match said.get(node) {
        Some(held) if held.contains(&file.hash) && file.unshown.contains(node) => "unshown",
        Some(held) if held.contains(&file.hash) => "holds",
        Some(_) => "lacks",
        None => "unknown",
    };
    let lacks = |file: &Placed| file.counted().count() < usize::from(rules.replicas) || file.counted().any(|node| state(node, file) == "lacks");
    let mut shown: Vec<(bool, &Placed)> = files.iter().map(|file| (lacks(file), file)).collect();
    shown.sort_by_key(|(lacks, file)| (!lacks, file.path.key()));
    let under = shown.iter().filter(|(lacks, _)| *lacks).count();
    let file = |(lacks, file): &(bool, &Placed)| {
        let holders = file.holders.iter().map(|node| json!({"node": node.to_string(), "name": name(node), "state": state(node, file)}));
        json!({
            "path": file.path.to_string(), "hash": file.hash.to_string(), "bytes": file.len, "under": lacks,
            "holders": holders.collect::<Vec<_>>(),
        })
    };
    json!({
        "replicas": rules.replicas,
        "machines": machines,
        "unshown": told_json(&Doubts::of(rules, all, own, now_ms()).told(all, own)),
        "files": shown.iter().take(NAMED_MAX).map(file).collect::<Vec<_>>(),
        "files_total": files.len(),
        "under": under,
    })
}
