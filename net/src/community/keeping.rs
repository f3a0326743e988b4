//! Says in each community what this peer is there, and tells the node who the others are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, z32};
use timebus_store::json::{Json, Limits};
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::writer::{Action, Condition, Request, WriteError};
use tokio::time::Instant;

use super::holding;
use super::{KEEPS_BACK_MAX, Membership, Rules, Signed, below, claim, leaf, members, own_place, signed_nodes, value};
use crate::network::Network;
use crate::node::Event;
use crate::peer::Peer;
use crate::who::now_ms;

/// How long what is new waits, so that what comes with it is looked at together.
const GATHER: Duration = Duration::from_millis(300);

/// How long leaving waits until somebody else has heard of it.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked whether it is to be said again that this machine is there.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Looks after all communities of the owner until the peer stops.
pub(crate) async fn keep(peer: Peer) {
    peer.until_stopped(keep_on(&peer)).await;
}

async fn keep_on(peer: &Peer) {
    let network = crate::blobs::network(peer).await;
    let mut signed: BTreeMap<PublicKey, Signed> = BTreeMap::new();
    let (mut arrivals, mut changed, mut wished) = (peer.store.arrivals(), network.changed(), network.blobs().wishes().changed());
    let mut seen: BTreeMap<PublicKey, Seen> = BTreeMap::new();
    loop {
        arrivals.borrow_and_update();
        changed.borrow_and_update();
        wished.borrow_and_update();
        let Ok(memberships) = network.ask(|node| node.book().communities.clone()).await else { return };
        let left: Vec<PublicKey> = seen.keys().filter(|space| !memberships.contains_key(*space)).copied().collect();
        for space in left {
            seen.remove(&space);
            signed.remove(&space);
            let _ = network.tell(Event::Members { space, nodes: Vec::new() }).await;
        }
        if let Err(error) = recognise(peer, &network, &memberships).await {
            tracing::warn!(%error, "whether there are more communities is not known");
        }
        for (space, membership) in memberships {
            if let Err(error) = look(peer, &network, space, &membership, (&mut seen, signed.entry(space).or_default())).await {
                tracing::warn!(%error, "what this peer is in a community could not be said");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            ended = arrivals.changed() => if ended.is_err() { return },
            ended = changed.changed() => if ended.is_err() { return },
            // Files may be kept back.
            ended = wished.changed() => if ended.is_err() { return },
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Remembers communities that are followed, and that the owner is a member of by what was granted to another device of his, which
/// handed it on: what others grant to this device makes him a member of nothing that he did not join.
async fn recognise(peer: &Peer, network: &Network, known: &BTreeMap<PublicKey, Membership>) -> Result<(), StorageError> {
    let Ok((followed, own)) = network.ask(|node| (node.book().following.keys().copied().collect::<Vec<_>>(), node.name().to_owned())).await else {
        return Ok(());
    };
    for space in followed.into_iter().filter(|space| !known.contains_key(space)) {
        let (Some(held), Some(place)) = (peer.store.held(&space), own_place(&peer.store, &space)) else { continue };
        let of_another = place.segments().last().is_some_and(|key| key.to_string() != peer.store.device().to_string());
        if !of_another {
            continue;
        }
        if let Some(name) = carried(&peer.store, held, &place)? {
            let name = name.unwrap_or_else(|| own.clone());
            let membership = Membership { name, stores: 0, told: false, dht: None, is_new: false };
            let _ = network.wish(Event::Community { space, membership: Some(membership) }).await;
        }
    }
    Ok(())
}

/// Whether the owner is a member by what his place says, and the name that he carries there, if it says one.
fn carried(store: &Store, space: Space, place: &Path) -> Result<Option<Option<String>>, StorageError> {
    let rows = store.snapshot();
    let read = |name: &str| leaf(&rows, space, &below(place, &[name]));
    if Rules::of(store, &rows, space)?.is_none() || read("left")? == Some(Serde::Bool(true)) {
        return Ok(None);
    }
    Ok(Some(read("name")?.as_ref().and_then(Serde::as_str).map(str::to_owned)))
}

/// What a community was like when it was looked at last.
#[derive(PartialEq)]
struct Seen {
    /// Which part of the time it is after which it is said again that this machine is there.
    beat: u64,
    statements: u64,
    heads: Vec<u64>,
    membership: Membership,
    /// What counts of what is offered.
    stores: u64,
    /// Spaces of members of which others get nothing from here.
    keeps_back: Vec<PublicKey>,
}

async fn look(
    peer: &Peer,
    network: &Network,
    space: PublicKey,
    membership: &Membership,
    (seen, signed): (&mut BTreeMap<PublicKey, Seen>, &mut Signed),
) -> Result<(), WriteError> {
    let Some(held) = peer.store.held(&space) else { return Ok(()) };
    let (keeps_back, node) = (kept_back(network).await, network.endpoint().node().to_string());
    let now = || -> Result<Seen, WriteError> {
        let heads = timebus_store::tips::heads(&*peer.store.snapshot(), held.unmounted().main())?;
        let rules = Rules::of(&peer.store, &peer.store.snapshot(), held)?;
        let stores = network.blobs().wishes().offers(&space, membership.stores);
        let doubts = match own_place(&peer.store, &space) {
            Some(place) => value(&peer.store, &peer.store.snapshot(), held, &below(&place, &["nodes", &node, "unshown"]))?.is_some(),
            None => false,
        };
        let beat = rules.filter(|_| stores > 0 || doubts).map_or(0, |rules| now_ms() / rules.beat_ms());
        let (statements, heads, keeps_back) = (peer.store.statements(), heads.into_iter().collect(), keeps_back.clone());
        Ok(Seen { beat, statements, heads, membership: membership.clone(), stores, keeps_back })
    };
    let before = now()?;
    if seen.get(&space) == Some(&before) {
        return Ok(());
    }
    settle(peer, network, held, membership).await?;
    let after = now()?;
    let rows = peer.store.snapshot();
    let members = members(&peer.store, &rows, held)?;
    let nodes = signed_nodes(&rows, held, &members, signed)?;
    if let Some(rules) = Rules::of(&peer.store, &rows, held)? {
        let _ = network.tell(Event::Placing { space, placing: holding::placing(&rules, &members) }).await;
    }
    let _ = network.tell(Event::Members { space, nodes }).await;
    seen.insert(space, after);
    Ok(())
}

/// Spaces of members of communities of which others get nothing from here.
async fn kept_back(network: &Network) -> Vec<PublicKey> {
    let kept = network.blobs().wishes().kept_back();
    if kept.is_empty() {
        return kept;
    }
    // What else is kept back is nobody's business.
    let claimed: BTreeSet<PublicKey> = network.ask(|node| node.spaces_of_machines().into_values().collect()).await.unwrap_or_default();
    kept.into_iter().filter(|space| claimed.contains(space)).take(KEEPS_BACK_MAX).collect()
}

/// Says in a community what the owner of this peer is there, as far as he is a member and it does not say so yet.
///
/// # Errors
///
/// [`WriteError`].
pub(crate) async fn settle(peer: &Peer, network: &Network, space: Space, membership: &Membership) -> Result<(), WriteError> {
    let Some(place) = own_place(&peer.store, &space.key) else { return Ok(()) };
    let kept_back: Vec<String> = kept_back(network).await.iter().map(ToString::to_string).collect();
    let keeps_back = (!kept_back.is_empty()).then(|| Serde::from(kept_back.join(" ")));
    let node = network.endpoint().node().to_string();
    let rows = peer.store.snapshot();
    let read = |names: &[&str]| value(&peer.store, &rows, space, &below(&place, names));
    let stores = network.blobs().wishes().offers(&space.key, membership.stores);
    let mut patch = json!({});
    let name = read(&["name"])?;
    // What another device of the owner says of him goes on, until he says otherwise here.
    if membership.is_new || name.is_none() {
        if name.as_ref().and_then(Serde::as_str) != Some(membership.name.as_str()) {
            patch["name"] = membership.name.as_str().into();
        }
        if read(&["left"])?.is_some() {
            patch["left"] = Serde::Null;
        }
    }
    if read(&["nodes", &node, "stores"])? != Some(stores.into()) {
        patch["nodes"] = json!({ &node: { "stores": stores } });
    }
    let proof = z32::encode(network.node_key().sign(&claim(&space.key, &place)).as_bytes());
    if read(&["nodes", &node, "proof"])?.as_ref().and_then(Serde::as_str) != Some(proof.as_str()) {
        patch["nodes"][&node]["proof"] = proof.into();
    }
    if read(&["nodes", &node, "keeps_back"])? != keeps_back {
        patch["nodes"][&node]["keeps_back"] = keeps_back.unwrap_or(Serde::Null);
    }
    // What it could not be shown is believed as long as it is there, also if it offers nothing.
    if (stores > 0 || read(&["nodes", &node, "unshown"])?.is_some())
        && let Some(rules) = Rules::of(&peer.store, &rows, space)?
    {
        let seen_ms = read(&["nodes", &node, "seen_ms"])?.and_then(|seen| seen.as_u64()).unwrap_or(0);
        let now = now_ms();
        if seen_ms > now || now / rules.beat_ms() != seen_ms / rules.beat_ms() {
            patch["nodes"][&node]["seen_ms"] = now.into();
        }
    }
    if patch.as_object().is_some_and(|patch| !patch.is_empty()) {
        merge(peer, space, place, &patch).await?;
    }
    if membership.is_new {
        let membership = Membership { is_new: false, ..membership.clone() };
        let _ = network.tell(Event::Community { space: space.key, membership: Some(membership) }).await;
    }
    Ok(())
}

/// Says that the owner is no member any more, and follows the community no longer. Says whether somebody has heard of it.
///
/// # Errors
///
/// [`WriteError`].
pub(crate) async fn depart(peer: &Peer, network: &Network, space: PublicKey) -> Result<bool, WriteError> {
    let mut is_told = false;
    if let Some(held) = peer.store.held(&space) {
        leave(peer, network, held).await?;
        // Who is gone says so no more: somebody has to have heard of it.
        let (timeline, main) = (peer.store.timeline(held.unmounted()), held.unmounted().main());
        let upto = timebus_store::tips::heads(&*peer.store.snapshot(), main)?.into_iter().max().unwrap_or(0);
        let mut changed = network.changed();
        let deadline = Instant::now() + LEAVE_PATIENCE;
        loop {
            changed.borrow_and_update();
            let asked = network.ask(move |node| (node.delivered(&timeline), node.links_of(&timeline).is_empty())).await;
            let (delivered, is_alone) = asked.map_err(|_| WriteError::Closing)?;
            is_told = delivered >= upto;
            if is_told || is_alone || tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                break;
            }
        }
    }
    for event in [Event::Community { space, membership: None }, Event::Unfollow { space }] {
        network.wish(event).await.map_err(|_| WriteError::Closing)?;
    }
    Ok(is_told)
}

async fn leave(peer: &Peer, network: &Network, space: Space) -> Result<(), WriteError> {
    let Some(place) = own_place(&peer.store, &space.key) else { return Ok(()) };
    let node = network.endpoint().node().to_string();
    merge(peer, space, place, &json!({"left": true, "nodes": { node: null }})).await
}

/// Merges a patch into a value of a community.
pub(crate) async fn merge(peer: &Peer, space: Space, path: Path, patch: &Serde) -> Result<(), WriteError> {
    write(peer, space, path, Action::Merge, patch).await.map(drop)
}

/// Writes a value of a community.
pub(crate) async fn write(
    peer: &Peer,
    space: Space,
    path: Path,
    action: impl FnOnce(Json) -> Action,
    value: &Serde,
) -> Result<timebus_store::writer::Written, WriteError> {
    let json = Json::parse(value.to_string().as_bytes(), Limits::default()).expect("what serde writes is JSON of small numbers");
    let request = Request {
        space: Some(space.unmounted()),
        path,
        action: action(json),
        parents: None,
        label: None,
        condition: Condition::None,
        time_ms: now_ms(),
        durable: true,
        may_name: None,
    };
    peer.store.write(request).await
}

#[cfg(test)]
mod tests {
    use timebus_store::store::{Config, lock_home};

    use super::super::path;
    use super::*;

    #[tokio::test]
    async fn who_left_is_no_member_by_what_was_granted_to_him() {
        let home = tempfile::tempdir().expect("a folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let (store, own) = (peer.store(), peer.store().own());
        let place = path(&["members", &store.device().to_string()]);
        let is = || carried(store, own, &place).expect("reads");
        assert_eq!(is(), None, "without rules it is no community");
        let rules = serde_json::to_value(Rules::new("choir")).expect("JSON");
        write(&peer, own, path(&["rules"]), Action::Put, &rules).await.expect("writes");
        assert_eq!(is(), Some(None));
        merge(&peer, own, place.clone(), &json!({"name": "ann"})).await.expect("writes");
        assert_eq!(is(), Some(Some("ann".to_owned())));
        merge(&peer, own, place.clone(), &json!({"left": true})).await.expect("writes");
        assert_eq!(is(), None, "he left");
        merge(&peer, own, place.clone(), &json!({"left": null})).await.expect("writes");
        assert_eq!(is(), Some(Some("ann".to_owned())), "and came back");
    }

    /// A grant for a place, with the right to hand it on so often.
    fn grant(names: &[String], audience: PublicKey, depth: u8) -> timebus_store::grant::Grant {
        use timebus_store::grant::{Actions, Audience, Grant, Scope, ScopeSegment, Timelines};
        Grant {
            audience: Audience::Key(audience),
            scope: Scope { segments: names.iter().map(|name| ScopeSegment::Name(name.as_str().into())).collect(), deep: true },
            timelines: Timelines::Main,
            actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0 | Actions::GRANT.0),
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth,
            label: "member".into(),
        }
    }

    /// What somebody states with a program of his own, on what he says that he knows; nothing: on all that there is.
    async fn states(
        store: &Store,
        key: &timebus_identity::SecretKey,
        cap: timebus_store::ids::GrantId,
        ops: Vec<timebus_store::op::Op>,
        (time_ms, knows): (u64, Option<&[timebus_store::ids::ChangeId]>),
    ) {
        use timebus_store::change::{Body, Change, Header, Kind, OVERHEAD_BYTES};
        let (own, rows) = (store.own(), store.snapshot());
        let body = Body { ops, ..Body::default() }.encode();
        let heads = timebus_store::tips::heads(&*rows, own.auth()).expect("reads").into_iter();
        let heads: Vec<_> = heads.map(|a| timebus_store::summary::summary(&*rows, own.auth(), a).expect("here")).collect();
        let last = timebus_store::tips::tips_of(&*rows, own.auth(), &key.public()).expect("reads").into_iter().next();
        let mut parents = knows.map_or_else(|| heads.iter().map(|head| head.id).collect(), <[_]>::to_vec);
        parents.sort_unstable();
        parents.retain(|parent| Some(*parent) != last.as_ref().map(|last| last.id));
        let header = Header {
            kind: Kind::Auth,
            timeline: timebus_store::ids::TimelineId::named(&own.key, "auth"),
            author: key.public(),
            seq: 1 + last.as_ref().map_or(0, |last| last.seq),
            prev: last.as_ref().map(|last| last.id),
            cap: Some(cap),
            parents,
            lamport: 1 + heads.iter().map(|head| head.lamport).max().unwrap_or(0),
            time_ms,
            cum: last.as_ref().map_or(0, |last| last.cum) + OVERHEAD_BYTES + body.len() as u64,
            body_len: body.len() as u64,
            body_root: *blake3::hash(&body).as_bytes(),
            encryption: None,
        };
        let change = timebus_identity::Verified::sign(Change::new(header, body.into()).expect("fits"), key).expect("his own key");
        let offered = store.offer(vec![change]).await.expect("taken");
        assert!(offered.refused.is_empty(), "{:?}", offered.refused);
    }

    /// A community of somebody.
    async fn choir() -> (tempfile::TempDir, Peer) {
        let home = tempfile::tempdir().expect("a folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let rules = serde_json::to_value(Rules::new("choir")).expect("JSON");
        write(&peer, peer.store().own(), path(&["rules"]), Action::Put, &rules).await.expect("writes");
        (home, peer)
    }

    /// Gus, whom Ann brought, brings as many as he can, long before Ann had a second device and brought anybody else.
    #[tokio::test]
    async fn whom_a_guest_brings_takes_no_room_of_who_brought_him() {
        use timebus_identity::SecretKey;
        use timebus_store::op::Op;
        use timebus_store::writer::Statement;

        let (_home, peer) = choir().await;
        let (store, own) = (peer.store(), peer.store().own());
        let key = |n: u16| SecretKey::from_seed([[7; 30].as_slice(), &n.to_be_bytes()].concat().try_into().expect("32"));
        let [ann, gus, hal, ida, laptop] = [1, 2, 3, 4, 5].map(key);
        let place_of = |key: &SecretKey| vec!["members".to_owned(), key.public().to_string()];
        let below = |names: &[String], key: &PublicKey| [names, &["brought".to_owned(), key.to_string()]].concat();
        let given_to =
            |key: &SecretKey| store.rights(&own.key).and_then(|rights| rights.grants_for(&key.public()).next().map(|(id, _)| id)).expect("one");
        store.state(Statement::Ops(vec![Op::Grant(grant(&place_of(&ann), ann.public(), 3))]), 1000).await.expect("stated");
        let gus_at = below(&place_of(&ann), &gus.public());
        let brought = [(&gus, 2000)].map(|(key, _)| Op::Grant(grant(&gus_at, key.public(), 2)));
        states(store, &ann, given_to(&ann), brought.into(), (2000, None)).await;
        let crowd: Vec<PublicKey> = (100..800).map(|n| key(n).public()).collect();
        let devices = (800..1500)
            .map(|n| key(n).public())
            .map(|key| Op::Grant(timebus_store::grant::Grant { label: "device:x".into(), ..grant(&gus_at, key, 0) }));
        let ops: Vec<Op> = crowd.iter().map(|key| Op::Grant(grant(&below(&gus_at, key), *key, 0))).chain(devices).collect();
        states(store, &gus, given_to(&gus), ops, (1, None)).await;
        let second = timebus_store::grant::Grant { label: "device:laptop".into(), ..grant(&place_of(&ann), laptop.public(), 1) };
        let late = [(&hal, 1), (&ida, 1)].map(|(key, depth)| Op::Grant(grant(&below(&place_of(&ann), &key.public()), key.public(), depth)));
        states(store, &ann, given_to(&ann), late.into_iter().chain([Op::Grant(second)]).collect(), (5000, None)).await;
        let under_hal = key(50).public();
        let hal_at = below(&place_of(&ann), &hal.public());
        states(store, &hal, given_to(&hal), vec![Op::Grant(grant(&below(&hal_at, &under_hal), under_hal, 0))], (6000, None)).await;
        let all = members(store, &store.snapshot(), own).expect("reads");
        let with = |key: &PublicKey| all.iter().find(|member| member.keys.contains(key));
        assert!(with(&ann.public()).is_some_and(|ann| ann.keys.contains(&laptop.public())), "her laptop");
        assert!([&gus, &hal, &ida].iter().all(|key| with(&key.public()).is_some()) && with(&under_hal).is_some());
        let of_gus = all.iter().filter(|member| crowd.contains(&member.keys[0])).count() + with(&gus.public()).map_or(0, |gus| gus.keys.len() - 1);
        assert_eq!(of_gus, super::super::BELOW_MAX);
    }

    /// Mallory brings Bea, too, after Xavier did, and as often as it takes to have the smaller id.
    #[tokio::test]
    async fn who_was_brought_first_stays_where_he_was() {
        use timebus_identity::SecretKey;
        use timebus_store::op::Op;
        use timebus_store::writer::Statement;

        let (_home, peer) = choir().await;
        let (store, own) = (peer.store(), peer.store().own());
        let [xavier, mallory] = [1, 2].map(|n| SecretKey::from_seed([n; 32]));
        let place_of = |key: &SecretKey| vec!["members".to_owned(), key.public().to_string()];
        let given = [&xavier, &mallory].map(|key| Op::Grant(grant(&place_of(key), key.public(), 3)));
        let given = store.state(Statement::Ops(given.into()), 1000).await.expect("stated");
        let bring = |by: &SecretKey, who: &PublicKey, label: usize| {
            let names = [&place_of(by)[..], &["brought".to_owned(), who.to_string()]].concat();
            Op::Grant(timebus_store::grant::Grant { label: format!("member{label}").into(), ..grant(&names, *who, 0) })
        };
        let all: Vec<PublicKey> = (10..30).map(|n| SecretKey::from_seed([n; 32]).public()).collect();
        states(store, &xavier, given[0], all.iter().map(|who| bring(&xavier, who, 0)).collect(), (2000, None)).await;
        states(store, &mallory, given[1], all.iter().flat_map(|who| (0..20).map(|label| bring(&mallory, who, label))).collect(), (1, None)).await;
        let members = members(store, &store.snapshot(), own).expect("reads");
        let is_xaviers = |who: &&PublicKey| {
            let at = members.iter().find(|member| member.keys.contains(who)).map(|member| member.place.to_string());
            at.is_some_and(|at| at.starts_with(&format!("/members/{}/", xavier.public())))
        };
        assert_eq!(all.iter().filter(is_xaviers).count(), all.len());
    }

    /// Whom a member brings is a member beside all others, and takes nobody's place.
    #[tokio::test]
    async fn members_throw_nobody_out_and_crowd_nobody_out() {
        use timebus_identity::SecretKey;
        use timebus_store::grant::{Actions, Audience, Grant};
        use timebus_store::op::Op;
        use timebus_store::writer::Statement;

        let (_home, peer) = choir().await;
        let (store, own) = (peer.store(), peer.store().own());
        let founder = store.device();
        let (mallory, late) = (SecretKey::from_seed([66; 32]), SecretKey::from_seed([67; 32]).public());
        // The founder has a second device, which has said nothing yet.
        let second = SecretKey::from_seed([68; 32]).public();
        let handed_on =
            Grant { audience: Audience::Key(second), label: "device:two".into(), depth: 3, ..timebus_store::founding::organizer(&second) };
        let handed_on = Grant { actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0 | Actions::GRANT.0), ..handed_on };
        store.state(Statement::Ops(vec![Op::Grant(handed_on)]), 1000).await.expect("stated");
        let own_names = ["members".to_owned(), mallory.public().to_string()];
        let cap = store.state(Statement::Ops(vec![Op::Grant(grant(&own_names, mallory.public(), 2))]), 1000).await.expect("stated")[0];
        let below = |key: &timebus_identity::PublicKey| [&own_names[..], &["brought".to_owned(), key.to_string()]].concat();
        // He brings the founder, whoever is let in later, and more than there may be, all of them long ago.
        let crowd = (0..1000u16)
            .map(|number| SecretKey::from_seed([[1; 30].as_slice(), &number.to_be_bytes()].concat().try_into().expect("32")))
            .map(|key| key.public());
        let ops: Vec<Op> = [founder, second, late].into_iter().chain(crowd).map(|key| Op::Grant(grant(&below(&key), key, 0))).collect();
        states(store, &mallory, cap, ops, (1, None)).await;
        let names = ["members".to_owned(), late.to_string()];
        store.state(Statement::Ops(vec![Op::Grant(grant(&names, late, 0))]), 2000).await.expect("stated");
        merge(
            &peer,
            own,
            path(&["members", &mallory.public().to_string(), "brought", &founder.to_string()]),
            &json!({"name": "mallory", "left": true}),
        )
        .await
        .expect("writes");
        let all = members(store, &store.snapshot(), own).expect("reads");
        let place = |key: &timebus_identity::PublicKey| all.iter().find(|member| member.keys.contains(key)).map(|member| member.place.to_string());
        assert_eq!(place(&founder), Some(format!("/members/{founder}")));
        assert_eq!(place(&second), place(&founder), "a device of his");
        assert_eq!(place(&late), Some(format!("/members/{late}")));
        assert!(place(&mallory.public()).is_some() && all.len() < 600, "{}", all.len());
        // Who was brought and became an organizer stays where he was.
        let brought = SecretKey::from_seed([[1; 30].as_slice(), &0u16.to_be_bytes()].concat().try_into().expect("32")).public();
        let before = place(&brought).expect("he is one");
        store.state(Statement::Ops(vec![Op::Grant(super::super::promotion(&brought, 3))]), 3000).await.expect("stated");
        let all = members(store, &store.snapshot(), own).expect("reads");
        assert!(all.iter().any(|member| member.place.to_string() == before && member.is_organizer), "{before}");
    }

    /// Each machine that is set up anew has another key, and those of before are named as long as nobody takes them out.
    #[tokio::test]
    async fn of_many_machines_those_count_that_said_something_last_and_none_of_a_device_that_is_out() {
        use timebus_store::grant::{Actions, Audience, Grant, Revoke, Timelines};
        use timebus_store::op::Op;
        use timebus_store::writer::Statement;

        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [alice, peer] = [0, 1].map(|at| {
            let store = crate::whose::tests::open(homes[at].path());
            Peer::new(store, timebus_identity::Token::generate(), crate::peer::PeerConfig::default())
        });
        let (store, own) = (peer.store(), peer.store().own());
        let rules = serde_json::to_value(Rules::new("choir")).expect("JSON");
        write(&peer, own, path(&["rules"]), Action::Put, &rules).await.expect("writes");
        let place = own_place(store, &own.key).expect("the founder's");
        let key = |number: u8| timebus_identity::SecretKey::from_seed([number; 32]).public();
        let machines = || -> BTreeSet<PublicKey> {
            let members = members(store, &store.snapshot(), own).expect("reads");
            members[0].machines.iter().map(|machine| machine.node).collect()
        };
        let last = now_ms() + 1_000_000;
        for number in 1..=12 {
            let said = json!({"stores": 1, "seen_ms": last - u64::from(number) * 1000});
            write(&peer, own, below(&place, &["nodes", &key(number).to_string()]), Action::Put, &said).await.expect("writes");
        }
        assert_eq!(machines(), (1..=8).map(key).collect());
        // Phones that offer nothing, and said so later, take the place of none.
        for number in 31..=39 {
            let said = json!({"stores": 0, "seen_ms": last - u64::from(number)});
            write(&peer, own, below(&place, &["nodes", &key(number).to_string()]), Action::Put, &said).await.expect("writes");
        }
        assert_eq!(machines(), (1..=8).chain(31..=38).map(key).collect());
        let over = crate::community::uncounted(store, &store.snapshot(), own, &place).expect("reads");
        assert_eq!(over.into_iter().collect::<BTreeSet<_>>(), (9..=12).map(key).collect());
        for number in 31..=39 {
            let at = below(&place, &["nodes", &key(number).to_string()]);
            write(&peer, own, at, Action::Put, &serde_json::Value::Null).await.expect("writes");
        }
        // Another device of hers says that it has one, and is thrown out.
        let scope = timebus_store::auth::mounts::scope_of(&place).expect("one");
        let (audience, timelines, label) = (Audience::Key(alice.store().device()), Timelines::Main, "test".into());
        let (bytes_max, change_bytes_max, not_after_ms, depth) = (0, 0, 0, 0);
        let actions = Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0);
        let grant = Grant { audience, scope, timelines, actions, bytes_max, change_bytes_max, not_after_ms, depth, label };
        store.state(Statement::Ops(vec![Op::Grant(grant)]), 1).await.expect("stated");
        crate::whose::tests::tell(store, &own.key, alice.store()).await;
        let theirs = alice.store().held(&own.key).expect("it came");
        let said = json!({"stores": 1, "seen_ms": last});
        let at = below(&place, &["nodes", &key(20).to_string()]);
        let written = write(&alice, theirs, at, Action::Put, &said).await.expect("writes");
        crate::whose::tests::tell(alice.store(), &own.key, store).await;
        assert!(machines().contains(&key(20)) && !machines().contains(&key(8)), "eight of them");
        let rights = store.rights(&own.key).expect("held");
        let granted = rights.grants_for(&alice.store().device()).find(|(_, held)| &*held.grant.label == "test").map(|(id, _)| id);
        // What it wrote stays.
        let keep = written.change.into_iter().collect();
        let revoke = Op::Revoke(Revoke { grant: granted.expect("it is there"), cascade: false, keep });
        store.state(Statement::Ops(vec![revoke]), 2).await.expect("stated");
        assert_eq!(machines(), (1..=8).map(key).collect());
    }

    /// Anybody can name any machine as his.
    #[tokio::test]
    async fn machines_that_signed_nothing_are_nobodys() {
        let home = tempfile::tempdir().expect("a folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let (store, own) = (peer.store(), peer.store().own());
        let rules = serde_json::to_value(Rules::new("choir")).expect("JSON");
        write(&peer, own, path(&["rules"]), Action::Put, &rules).await.expect("writes");
        let machine = timebus_identity::SecretKey::from_seed([5; 32]);
        let place = own_place(store, &own.key).expect("the founder's");
        let at = below(&place, &["nodes", &machine.public().to_string()]);
        merge(&peer, own, at.clone(), &json!({"stores": 1})).await.expect("writes");
        let mut known = Signed::default();
        let mut nodes = || {
            let rows = store.snapshot();
            let members = members(store, &rows, own).expect("reads");
            assert_eq!(members[0].machines.len(), 1);
            signed_nodes(&rows, own, &members, &mut known).expect("reads")
        };
        assert!(nodes().is_empty());
        let sign = |place: &Path| z32::encode(machine.sign(&claim(&own.key, place)).as_bytes());
        merge(&peer, own, at.clone(), &json!({"proof": sign(&at)})).await.expect("writes");
        assert!(nodes().is_empty(), "of another place");
        merge(&peer, own, at, &json!({"proof": sign(&place)})).await.expect("writes");
        assert_eq!([nodes(), nodes()], [[machine.public()]; 2]);
    }
}
