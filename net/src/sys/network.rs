//! The parts of `/.sys` that concern other peers: who they are, what is followed, invites and devices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name, random_bytes};
use timebus_store::grant::{Actions, Audience};
use timebus_store::ids::GrantId;
use timebus_store::json::Json;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use timebus_store::writer::{Action, Statement};

use crate::body::Body;
use crate::community::{Membership, Rules};
use crate::devices::{instead, names};
use crate::dht::DhtId;
use crate::invite::{self, Invite, Role};
use crate::invites::{Record, Wish, WishError};
use crate::link::address::Address;
use crate::lists::{self, List};
use crate::network::{Network, Stopped};
use crate::node::book::{Book, PETNAME_BYTES_MAX, is_petname};
use crate::node::{Event, PeerState, PeerStatus, SpaceState};
use crate::over;
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::record::PeerRecord;
use crate::remote::{by_rights, stand_in};
use crate::route::{bad_path, not_held, storage_problem, write_problem};
use crate::sys::answer_json;
use crate::who::{Who, now_ms};
use crate::whose::{certain_of, spaces_of};

/// How long an invite can be taken if nothing is said.
const EXPIRES_MS: u64 = 7 * 24 * 3600 * 1000;
/// For how long a machine that is not met is told of.
const GONE_MS: u64 = 30 * 24 * 3600 * 1000;
/// What a follow of an app counts in its budget: more than is written for it, as whoever is followed is looked for and kept by all of
/// the owner's devices. As many as are of use have room in it, and it is the owner who makes more.
const FOLLOW_BYTES: u64 = 256 * 1024;
/// Longest note of the owner about an invite.
const NOTE_BYTES_MAX: usize = 200;
/// How long taking an invite waits for the inviter.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// Answers a part of `/.sys` that concerns other peers; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, who: &Who, method: &Method, rest: &[&str], body: &Bytes) -> Option<Result<http::Response<Body>, Problem>> {
    let answer = match (method, rest) {
        (&Method::GET | &Method::HEAD, ["peers"]) => peers(peer).await,
        (&Method::POST, ["find"]) => super::find::find(peer, body).await,
        (&Method::POST, ["peers"]) => call(peer, body).await,
        (&Method::POST, ["public"]) => public(peer, body).await,
        (&Method::GET | &Method::HEAD, ["public-dht"]) => public_dht(peer).await,
        (&Method::POST, ["public-dht"]) => allow_public_dht(peer, body).await,
        (&Method::GET | &Method::HEAD, ["spaces"]) => spaces(peer, who).await,
        (&Method::GET | &Method::HEAD, ["synced"]) => synced(peer, peer.store().own()).await,
        (&Method::POST, ["follow"]) => follow(peer, who, body).await,
        (&Method::POST, ["unfollow"]) => unfollow(peer, body).await,
        (&Method::POST, ["block"]) => block(peer, body).await,
        (&Method::POST, ["mute"]) => mute(peer, who, body).await,
        (&Method::GET | &Method::HEAD, ["lists"]) => filters(peer).await,
        (&Method::POST, ["petname"]) => petname(peer, body).await,
        (&Method::GET | &Method::HEAD, ["invites"]) => invites(peer).await,
        (&Method::POST, ["invites", "tree"]) => invite_tree(peer, body).await,
        (&Method::POST, ["invites"]) => create_invite(peer, body).await,
        (&Method::POST, ["invites", "revoke"]) => revoke_invite(peer, body).await,
        (&Method::POST, ["join"]) => join(peer, body).await,
        (&Method::GET | &Method::HEAD, ["devices"]) => devices(peer),
        (&Method::POST, ["devices", "name"]) => name_device(peer, body).await,
        (&Method::POST, ["devices", "remove"]) => remove_device(peer, body).await,
        _ => return None,
    };
    Some(answer.map(|value| answer_json(&value)))
}

pub(crate) fn network(peer: &Peer) -> Result<&Network, Problem> {
    peer.network().ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "network", "this needs a running peer", "a command alone takes no part in the network")
            .with_fix("start the peer with `timebus up`, then try again")
    })
}

pub(crate) fn stopped(error: Stopped) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "closing", "the peer is stopping", error.to_string())
}

pub(crate) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "json", "the body is not what this takes", error.to_string()))
}

pub(crate) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "argument", "this cannot be", detail.into())
}

/// A space by its key or by what the owner calls it.
pub(crate) async fn find_space(peer: &Peer, name: &str) -> Result<PublicKey, Problem> {
    let name = name.strip_prefix('@').unwrap_or(name);
    if let Ok(key) = name.parse::<PublicKey>() {
        return if peer.is_family(&key) { Err(crate::personas::is_own(&key)) } else { Ok(key) };
    }
    let unknown = || {
        Problem::new(StatusCode::NOT_FOUND, "space", "nobody is known by this name", format!("{name:?} is no key and none of your names"))
            .with_fix("`timebus peers` shows who is known; `timebus follow KEY --as NAME` gives a name")
    };
    let Some(network) = peer.network() else {
        // A command without a running peer knows the names all the same.
        let book = Book::load(&peer.store().home().join("peers.json")).unwrap_or_default();
        return book.meant(name).ok_or_else(unknown);
    };
    let name = name.to_owned();
    network.ask(move |node| node.book().meant(&name)).await.map_err(stopped)?.ok_or_else(unknown)
}

/// The same for somebody who may not be the owner: which other identities the owner has is his secret.
pub(crate) async fn find_space_for(peer: &Peer, who: &Who, name: &str) -> Result<PublicKey, Problem> {
    match find_space_known_to(peer, who, name).await {
        // Whether he may do something there, and what there is, he is told as of every key: see [`crate::remote::reach_space`].
        Err(problem) if !who.is_owner() && problem.kind == crate::personas::IS_OWN => {
            name.strip_prefix('@').unwrap_or(name).parse().map_err(|_| not_held(name))
        }
        found => found,
    }
}

/// What people are called here is for the owner to know, and for apps that may do something in the spaces of all of them.
async fn find_space_known_to(peer: &Peer, who: &Who, name: &str) -> Result<PublicKey, Problem> {
    match who {
        Who::App(app) if !app.knows_others() => match name.strip_prefix('@').unwrap_or(name).parse::<PublicKey>() {
            Ok(key) => find_space(peer, &key.to_string()).await,
            Err(_) => Err(not_held(name)),
        },
        _ => find_space(peer, name).await,
    }
}

async fn peers(peer: &Peer) -> Result<Serde, Problem> {
    let network = network(peer)?;
    let asked = network.ask(|node| (node.peers(now_ms()), node.book().public, node.clocks(now_ms())));
    let (peers, public, clocks) = asked.await.map_err(stopped)?;
    let devices: Vec<PublicKey> = peer.store().rights(&peer.space()).iter().flat_map(|rights| rights.devices()).collect();
    let people = People::now(peer).await;
    let given = names::given(peer.store()).unwrap_or_default();
    let told = |status: &PeerStatus| {
        let mut value = serde_json::to_value(status).unwrap_or_default();
        let thrown_out = thrown_out(peer, status);
        let of = thrown_out.map(|(_, space)| space).or(status.contact.space);
        let is_own = of == Some(peer.space());
        value["own"] = (is_own && thrown_out.is_none()).into();
        value["gone"] = (is_gone(status, &peers, now_ms()) || is_own && is_removed(status, &devices)).into();
        // A machine of the owner's has a name of its own, and so has one that is somebody's no more.
        if is_own {
            let device = status.contact.keys.iter().find(|key| devices.contains(key)).copied().or(thrown_out.map(|(key, _)| key));
            value["petname"] = Serde::Null;
            if let Some(device) = device {
                value["name"] = given.get(&device).cloned().unwrap_or_else(|| human_name(&device)).into();
            }
        }
        // Who calls himself as somebody else is called has the name here that he has among the rights.
        let says = &status.contact.name;
        let is_taken = |space: &PublicKey| match people.find_space(says) {
            Ok(found) => found.is_some_and(|found| found != *space),
            Err(problem) => problem.status == StatusCode::CONFLICT,
        };
        if let Some(space) = of.filter(|space| !is_own && thrown_out.is_none() && is_taken(space)) {
            value["name"] = people.name(&space).into();
            value["says"] = says.as_str().into();
        }
        if let Some((device, space)) = thrown_out {
            let of = people.name(&space);
            value["thrown_out"] = json!({"by": if is_own { "you" } else { &of }, "space": space.to_string()});
            value["petname"] = Serde::Null;
            let says = &status.contact.name;
            if !is_own && (says.is_empty() || says.to_lowercase() == of.to_lowercase() || crate::people::is_of_a_key(says)) {
                value["name"] = human_name(&device).into();
            }
        }
        value
    };
    let name = |node: &PublicKey| {
        let of = peers.iter().find(|status| status.id == node.to_string()).and_then(|status| status.contact.space);
        of.map_or_else(|| human_name(node), |space| if space == peer.space() { "another machine of yours".to_owned() } else { people.name(&space) })
    };
    let wrong = clocks.told(name);
    let endpoint = network.endpoint();
    let relays: Vec<Serde> =
        endpoint.relays().into_iter().map(|relay| json!({"url": relay.url, "connected": relay.is_connected, "problem": relay.problem})).collect();
    Ok(json!({
        "node": endpoint.node().to_string(),
        "addresses": endpoint.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lan_problem": endpoint.lan_problem(),
        "relays": relays,
        "public": { "possible": endpoint.has_public(), "allowed": public },
        "public_dht": public_dht(peer).await?,
        "clock": {
            "ahead": clocks.ahead.iter().map(|(node, _)| node.to_string()).collect::<Vec<_>>(),
            "behind": clocks.taken_ahead > 0,
            "agree": clocks.agree,
            "wrong": wrong.as_ref().map(|(wrong, _)| wrong.word()),
            "says": wrong.map(|(_, says)| says),
        },
        "peers": peers.iter().map(told).collect::<Vec<_>>(),
    }))
}

/// Whether a machine is one that nobody waits for: it was not met for long, or its owner has linked another one since.
fn is_gone(status: &PeerStatus, all: &[PeerStatus], now_ms: u64) -> bool {
    if matches!(status.state, PeerState::Connected { .. }) {
        return false;
    }
    let contact = &status.contact;
    let last_ms = contact.seen_ms.max(contact.met_ms);
    let is_other = |other: &&PeerStatus| other.id != status.id && contact.space.is_some() && other.contact.space == contact.space;
    let is_replaced = all.iter().filter(is_other).any(|other| other.contact.seen_ms > 0 && other.contact.met_ms > last_ms);
    is_replaced || now_ms.saturating_sub(last_ms) > GONE_MS
}

/// The key by which a machine was a device of a space, and that space, if it is nobody's device any more. That counts only where it
/// wrote as one: anybody can make a key of somebody else his device, and throw it out.
fn thrown_out(peer: &Peer, status: &PeerStatus) -> Option<(PublicKey, PublicKey)> {
    let (store, keys) = (peer.store(), &status.contact.keys);
    let is_now = |key: &PublicKey, space: &PublicKey| {
        key == space || store.rights(space).is_some_and(|rights| rights.root() == *key || rights.device_grant(key).is_some())
    };
    let was: Vec<(PublicKey, PublicKey)> = keys.iter().flat_map(|key| spaces_of(store, key, true).into_iter().map(|space| (*key, space))).collect();
    let is_certain = |key: &PublicKey, space: &PublicKey| *space == store.space() || certain_of(store, key).contains(space);
    if was.iter().any(|(key, space)| is_now(key, space)) { None } else { was.into_iter().find(|(key, space)| is_certain(key, space)) }
}

/// Whether a machine of the owner is none of his devices any more.
fn is_removed(status: &PeerStatus, devices: &[PublicKey]) -> bool {
    let keys = &status.contact.keys;
    !matches!(status.state, PeerState::Connected { .. }) && !keys.is_empty() && !keys.iter().any(|key| devices.contains(key))
}

async fn public(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        allowed: bool,
    }
    let Wanted { allowed } = read(body)?;
    let network = network(peer)?;
    network.allow_public(allowed).await.map_err(stopped)?;
    if allowed && network.endpoint().has_public() {
        // What is asked next is an invite, which is to say where this peer is reached.
        let mut addresses = network.endpoint().watch_addresses();
        let is_there = |all: &Vec<Address>| all.iter().any(|address| matches!(address, Address::Relay(_)));
        let _ = tokio::time::timeout(JOIN_PATIENCE, addresses.wait_for(is_there)).await;
    }
    Ok(json!({"allowed": allowed, "addresses": network.endpoint().addresses().iter().map(ToString::to_string).collect::<Vec<_>>()}))
}

/// Whether the public DHT may hear where this peer is and whom it looks for, and what it has heard.
async fn public_dht(peer: &Peer) -> Result<Serde, Problem> {
    let network = network(peer)?;
    let (allowed, record_bytes) = network
        .ask(|node| (node.book().public_dht, node.own_word().map(|record| PeerRecord::encode_verified(record).len())))
        .await
        .map_err(stopped)?;
    let mut told = serde_json::to_value(peer.dhts.standing(&DhtId::Public)).unwrap_or_default();
    (told["possible"], told["allowed"]) = (network.endpoint().public_dht().is_some().into(), allowed.into());
    told["record_bytes"] = record_bytes.into();
    Ok(told)
}

async fn allow_public_dht(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        allowed: bool,
    }
    let Wanted { allowed } = read(body)?;
    network(peer)?.allow_public_dht(allowed).await.map_err(stopped)?;
    if !allowed {
        peer.dhts.leave(&DhtId::Public);
    }
    public_dht(peer).await
}

async fn call(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        node: String,
        #[serde(default)]
        addresses: Vec<String>,
    }
    let Wanted { node, addresses } = read(body)?;
    let node: PublicKey = node.parse().map_err(|_| bad(format!("{node:?} is no key")))?;
    check_addresses(&addresses)?;
    network(peer)?.wish(Event::Call { node, addresses }).await.map_err(stopped)?;
    Ok(json!({"calling": node.to_string()}))
}

fn check_addresses(addresses: &[String]) -> Result<(), Problem> {
    if addresses.len() > invite::ADDRESSES_MAX {
        return Err(bad(format!("{} addresses at most", invite::ADDRESSES_MAX)));
    }
    for address in addresses {
        address.parse::<Address>().map_err(|error| bad(format!("{address:?}: {error}")))?;
    }
    Ok(())
}

async fn spaces(peer: &Peer, who: &Who) -> Result<Serde, Problem> {
    // Other identities of the owner's are looked for under other keys, which tell him nothing, and others more than they are to know.
    let family: BTreeMap<PublicKey, PublicKey> = peer.family().iter().map(|one| (stand_in(peer, &one.space()), one.space())).collect();
    let pretended: BTreeSet<PublicKey> = peer.pretended.all().into_iter().filter(|key| family.contains_key(key)).collect();
    let asked = pretended.clone();
    let spaces = network(peer)?.ask(move |node| {
        let mut spaces = node.spaces();
        let listed: BTreeSet<String> = spaces.iter().map(|status| status.space.clone()).collect();
        spaces.extend(asked.iter().filter(|key| !listed.contains(&key.to_string())).map(|key| node.space(key)));
        spaces
    });
    let mut spaces = spaces.await.map_err(stopped)?;
    spaces.retain_mut(|status| {
        let Some((stands_in, space)) = status.space.parse::<PublicKey>().ok().and_then(|key| family.get_key_value(&key)) else { return true };
        status.space = space.to_string();
        status.is_followed = pretended.contains(stands_in);
        matches!(who, Who::App(_))
    });
    spaces.sort_by_key(|status| status.space.parse::<PublicKey>().ok());
    let listed = spaces.iter().filter_map(|status| status.space.parse().ok()).collect();
    let mut rebound = super::rebind::of_listed(peer, &listed).await?;
    let people = People::now(peer).await;
    let spaces: Vec<Serde> = spaces
        .into_iter()
        .map(|status| {
            let key = status.space.parse().ok();
            let mut value = serde_json::to_value(by_rights(peer.store(), status)).unwrap_or_default();
            value["name"] = key.as_ref().map(human_name).unwrap_or_default().into();
            value["taken_back"] = key.map(|key| over::all(peer.store(), &people, &key)).unwrap_or_default().into();
            value["rebind"] = key.and_then(|key| rebound.remove(&key)).unwrap_or_default();
            value
        })
        .collect();
    Ok(json!({ "spaces": spaces }))
}

/// How much of a timeline some other peer has on its disk: changes up to this one, by the numbers in which they came here.
pub(crate) async fn synced(peer: &Peer, at: Space) -> Result<Serde, Problem> {
    let timeline = peer.store().timeline(at);
    let upto = network(peer)?.ask(move |node| node.delivered(&timeline)).await.map_err(stopped)?;
    Ok(json!({ "upto": upto }))
}

/// Follows somebody. What people are called, and where they are, the owner says alone.
async fn follow(peer: &Peer, by: &Who, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: String,
        node: Option<String>,
        #[serde(default)]
        addresses: Vec<String>,
        petname: Option<String>,
    }
    let Wanted { who, node, addresses, petname } = read(body)?;
    if !by.is_owner() && (petname.is_some() || node.is_some() || !addresses.is_empty()) {
        let detail = "what people are called, and where they are, is the owner's word, and not an app's";
        return Err(Problem::new(StatusCode::FORBIDDEN, "owner", "only the owner says that", detail).with_fix("send `who` alone"));
    }
    let space = find_space_for(peer, by, &who).await?;
    if space == peer.space() {
        return Err(bad("this is your own space"));
    }
    let is_apart = !by.is_owner() && peer.is_family(&space);
    let is_followed = match is_apart {
        true => peer.pretended.all().contains(&stand_in(peer, &space)),
        false => network(peer)?.ask(move |node| node.space(&space)).await.map_err(stopped)?.is_followed,
    };
    if !is_followed {
        crate::route::charge_beside(peer, by, FOLLOW_BYTES)?;
    }
    if is_apart {
        return pretend_to_follow(peer, space).await;
    }
    check_addresses(&addresses)?;
    let via = match node {
        Some(node) => vec![(node.parse().map_err(|_| bad(format!("{node:?} is no key")))?, addresses)],
        None if addresses.is_empty() => Vec::new(),
        None => return Err(bad("addresses are of no use without the node key of who is there")),
    };
    let network = network(peer)?;
    if let Some(name) = &petname {
        check_petname(peer, space, name).await?;
    }
    network.wish(Event::Follow { space, via }).await.map_err(stopped)?;
    if let Some(name) = petname {
        name_space(peer, space, name).await?;
    }
    let status = network.ask(move |node| node.space(&space)).await.map_err(stopped)?;
    Ok(serde_json::to_value(by_rights(peer.store(), status)).unwrap_or_default())
}

/// What an app is told that follows another identity of the owner's: what becomes of a key that is nobody's. Others would hear of that
/// one. It is followed by nobody.
async fn pretend_to_follow(peer: &Peer, of: PublicKey) -> Result<Serde, Problem> {
    let (network, space) = (network(peer)?, stand_in(peer, &of));
    network.wish(Event::Visit { space }).await.map_err(stopped)?;
    let status = network.ask(move |node| node.space(&space)).await.map_err(stopped)?;
    peer.pretended
        .add(space)
        .map_err(|error| Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", "this could not be remembered", error.to_string()))?;
    let mut told = serde_json::to_value(by_rights(peer.store(), status)).unwrap_or_default();
    told["space"] = of.to_string().into();
    told["is_followed"] = true.into();
    Ok(told)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    who: String,
}

async fn unfollow(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let space = find_space(peer, &read::<Named>(body)?.who).await?;
    network(peer)?.wish(Event::Unfollow { space }).await.map_err(stopped)?;
    Ok(json!({"unfollowed": space.to_string()}))
}

async fn block(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: String,
        #[serde(default = "yes")]
        blocked: bool,
    }
    fn yes() -> bool {
        true
    }
    let Wanted { who, blocked } = read(body)?;
    let who = find_person(peer, &who).await?;
    let keys = keys_of_guest(peer, &who);
    // At once, and for the owner's other devices.
    for who in keys.iter().copied().chain([who]) {
        network(peer)?.wish(Event::Block { who, is_blocked: blocked }).await.map_err(stopped)?;
    }
    lists::set_person(peer.store(), List::Blocked, &who, &keys, blocked).await.map_err(|error| write_problem(&error))?;
    Ok(json!({"who": who.to_string(), "blocked": blocked}))
}

/// The keys that took invites of the owner and said that they are of a space.
fn keys_of_guest(peer: &Peer, space: &PublicKey) -> Vec<PublicKey> {
    let (records, space) = (crate::invites::known(peer), space.to_string());
    let said = records.iter().flat_map(|record| &record.redeemed).filter(|redeemed| redeemed.space == space);
    said.filter_map(|redeemed| redeemed.device.parse().ok()).collect()
}

/// Somebody by all names by which rights are given, too: his space, or his key while that is all that is known of him.
pub(crate) async fn find_person(peer: &Peer, name: &str) -> Result<PublicKey, Problem> {
    match find_space(peer, name).await {
        Err(problem) if problem.status == StatusCode::NOT_FOUND => People::now(peer).await.find_space(name)?.ok_or(problem),
        known => known,
    }
}

async fn mute(peer: &Peer, by: &Who, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: String,
        #[serde(default = "yes")]
        muted: bool,
    }
    fn yes() -> bool {
        true
    }
    let Wanted { who, muted } = read(body)?;
    let who = match by {
        // It hears of nobody by guessing what the owner calls him.
        Who::App(_) => find_space_for(peer, by, &who).await?,
        _ => match find_person(peer, &who).await {
            Err(problem) if problem.kind == crate::personas::IS_OWN => find_space_for(peer, by, &who).await?,
            found => found?,
        },
    };
    if who == peer.space() {
        return Err(bad("this is your own space"));
    }
    crate::route::charge_beside(peer, by, body.len() as u64)?;
    let keys = keys_of_guest(peer, &who);
    lists::set_person(peer.store(), List::Muted, &who, &keys, muted).await.map_err(|error| write_problem(&error))?;
    Ok(json!({"who": who.to_string(), "muted": muted}))
}

/// Whom the owner has muted and blocked.
async fn filters(peer: &Peer) -> Result<Serde, Problem> {
    let people = People::now(peer).await;
    let list = |list| -> Result<Vec<Serde>, Problem> {
        let keys = lists::read_with(peer.store(), list, lists::said_of).map_err(|error| storage_problem(&error))?.unwrap_or_default();
        // Keys that are there for somebody are he.
        let persons = keys.iter().filter(|(_, of)| of.is_none_or(|of| !keys.contains_key(&of))).map(|(key, _)| key);
        Ok(persons.map(|key| json!({"who": key.to_string(), "name": people.name(key)})).collect())
    };
    Ok(json!({"muted": list(List::Muted)?, "blocked": list(List::Blocked)?}))
}

/// Whether the owner can call a space so.
pub(crate) async fn check_petname(peer: &Peer, space: PublicKey, name: &str) -> Result<(), Problem> {
    if !is_petname(name) {
        return Err(bad(format!("{name:?} cannot be a name: up to {PETNAME_BYTES_MAX} bytes without / . @ % ? #")));
    }
    let wanted = name.to_owned();
    if peer.persona(name).is_some() {
        let detail = format!("one of your personas is called {name}");
        return Err(Problem::new(StatusCode::CONFLICT, "name", "this name is taken", detail).with_fix("choose another name"));
    }
    let taken = network(peer)?.ask(move |node| node.book().named(&wanted)).await.map_err(stopped)?;
    match taken.filter(|other| *other != space) {
        Some(other) => {
            let detail = format!("you call the space {other} ({}) so", human_name(&other));
            Err(Problem::new(StatusCode::CONFLICT, "name", "this name is taken", detail).with_fix("choose another name"))
        }
        None => Ok(()),
    }
}

pub(crate) async fn name_space(peer: &Peer, space: PublicKey, name: String) -> Result<(), Problem> {
    // No name takes the one that there is away.
    if !name.is_empty() {
        check_petname(peer, space, &name).await?;
    }
    network(peer)?.wish(Event::Petname { space, name }).await.map_err(stopped)
}

async fn petname(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: String,
        name: String,
    }
    let Wanted { who, name } = read(body)?;
    let space = find_person(peer, &who).await?;
    if space == peer.space() {
        return Err(
            bad("this is your own space").with_fix("`timebus put /profile/name` says what you are called; `timebus devices name` names a device")
        );
    }
    name_space(peer, space, name.clone()).await?;
    Ok(json!({"space": space.to_string(), "petname": name}))
}

/// An invite, with what those are called here who took it.
fn describe(peer: &Network, store: &Store, people: &People, record: &Record) -> Serde {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    for taken in value["redeemed"].as_array_mut().into_iter().flatten() {
        let key = |name: &str| taken[name].as_str().and_then(|key| key.parse::<PublicKey>().ok());
        let called = key("device").filter(|_| record.role != Role::Device).or_else(|| key("space")).map(|key| people.name(&key));
        taken["called"] = match record.role {
            Role::Device => key("device").map(|device| names::called(store, &device)),
            _ => called,
        }
        .into();
    }
    value["uses"] = peer.invites().uses(record).into();
    value["state"] = peer.invites().state_of(record, now_ms()).into();
    value["space_name"] = record.space.as_ref().and_then(|space| space.parse().ok()).map(|space| people.name(&space)).into();
    value
}

async fn invites(peer: &Peer) -> Result<Serde, Problem> {
    let (network, people) = (network(peer)?, People::now(peer).await);
    let all: Vec<Serde> = network.invites().list().iter().map(|record| describe(network, peer.store(), &people, record)).collect();
    Ok(json!({ "invites": all }))
}

/// Who came to a space by whom, as its statements say.
async fn invite_tree(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        space: Option<String>,
    }
    let Wanted { space } = read(body)?;
    let space = match space {
        Some(who) => find_space(peer, &who).await?,
        None => peer.space(),
    };
    let rights = peer.store().rights(&space).ok_or_else(|| bad("nothing of this space is here"))?;
    let names: BTreeMap<String, String> = match peer.network() {
        Some(network) => {
            let records = network.invites().list();
            let elsewhere = crate::invites::elsewhere(peer.store(), &records).map_err(|error| storage_problem(&error))?;
            records.into_iter().chain([elsewhere]).flat_map(|record| record.redeemed).map(|it| (it.device, it.name)).collect()
        }
        None => BTreeMap::new(),
    };
    let all: Vec<Serde> = rights
        .grants()
        .map(|(id, held)| {
            let device = match held.grant.audience {
                Audience::Key(key) => Some(key),
                Audience::Anyone => None,
            };
            let text = device.map(|device| device.to_string());
            // What went over to a new device came of the same invite, and is of the same guest.
            let origin = instead::origin(&rights, held);
            let first = if let Audience::Key(key) = origin.grant.audience { Some(key.to_string()) } else { None };
            let named = [&text, &first].into_iter().flatten().find_map(|key| names.get(key));
            json!({
                "grant": id.to_string(),
                "parent": held.parent.map(|parent| parent.to_string()),
                "device": text,
                "name": named.cloned().or_else(|| device.map(|device| human_name(&device))),
                "label": origin.grant.label,
                "may_invite": held.grant.actions.contains(Actions::GRANT),
                "is_owner": device.is_some_and(|device| rights.device_grant(&device) == Some(*id)),
                "live": held.is_live(),
                "at_ms": held.time_ms,
            })
        })
        .collect();
    Ok(json!({ "space": space.to_string(), "grants": all }))
}

async fn create_invite(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        role: Role,
        #[serde(default = "root")]
        path: String,
        #[serde(default = "one")]
        uses: u64,
        /// A space of somebody else that the owner of this peer may bring guests to.
        space: Option<String>,
        /// How many levels of guests the bearer may bring.
        depth: Option<u8>,
        #[serde(default)]
        bytes_max: u64,
        expires_ms: Option<u64>,
        #[serde(default)]
        note: String,
        /// The first thing to be shown to whoever takes it, before anything was fetched.
        #[serde(default)]
        paint: String,
        /// An app, which the own space has published, that comes with it.
        app: Option<String>,
        /// Whether the whole space is meant where the path that is to be read is not kept apart.
        #[serde(default)]
        whole: bool,
        /// Whether the link is wanted as a QR code, too: rows of 0 and 1.
        #[serde(default)]
        qr: bool,
    }
    fn root() -> String {
        "/".to_owned()
    }
    fn one() -> u64 {
        1
    }
    let Wanted { role, path, uses, space, depth, bytes_max, expires_ms, note, paint, app, whole, qr } = read(body)?;
    let app = match app {
        Some(name) => Some((name.clone(), super::apps::published_version(peer, &name)?)),
        None => None,
    };
    let network = network(peer)?;
    let path = Path::parse(&path).map_err(|error| bad_path(&error))?;
    if uses == 0 || uses > 1_000_000 {
        return Err(bad("an invite can be taken 1 to 1 000 000 times"));
    }
    if path.segments().first().is_some_and(|first| first.to_string() == ".sys") {
        return Err(bad("what is at /.sys is of this peer alone and goes to nobody by an invite")
            .with_fix("`timebus grant /.sys KEY --can admin` has a key look after this peer"));
    }
    if role == Role::Device && (uses != 1 || !path.is_root()) {
        return Err(bad("a device is added to the whole space, one at a time"));
    }
    if note.len() > NOTE_BYTES_MAX || paint.len() > invite::PAINT_BYTES_MAX {
        return Err(bad(format!("a note has {NOTE_BYTES_MAX} bytes at most, a first paint {}", invite::PAINT_BYTES_MAX)));
    }
    let now = now_ms();
    let expires_ms = expires_ms.unwrap_or(now + EXPIRES_MS);
    if expires_ms != 0 && expires_ms <= now {
        return Err(bad("the invite would have expired already"));
    }
    let space = match space {
        Some(who) => find_space(peer, &who).await?,
        None => peer.space(),
    };
    if role == Role::Device && space != peer.space() {
        return Err(bad("devices are added to your own space"));
    }
    // What is read is a timeline and not a path, which nobody expects who names one.
    let mount = peer.store().rights(&space).and_then(|rights| rights.mount_of(&path).map(|mount| mount.path.clone()));
    if let Some(mount) = mount.as_ref().filter(|mount| **mount != path) {
        let detail = format!("{path} is part of {mount}, which is kept apart: whoever takes this invite would read all of that");
        let [mount, place] = [mount, &path].map(|path| crate::words::quoted(&path.to_string()));
        let mut fix = format!("`timebus invite --to {mount} --can read` for all of it");
        if role == Role::Write {
            fix.push_str(&format!(", and when it was taken `timebus grant {place} WHO --can write` for this"));
        }
        return Err(Problem::new(StatusCode::BAD_REQUEST, "apart", "this invite would be for more than that", detail).with_fix(fix));
    }
    if role == Role::Read && !path.is_root() && !whole && mount.is_none() {
        let is_own = space == peer.space();
        let detail = format!("{path} is not kept apart, so whoever takes this invite would read all of the space that is not");
        let fix = match is_own {
            true => {
                format!("`timebus private {path} --move` first, to let him read that alone; or `timebus invite`, or `--whole`, to let him read all")
            }
            false => "only its owner keeps a path apart; `--whole` lets him read all that you may hand on".to_owned(),
        };
        return Err(Problem::new(StatusCode::BAD_REQUEST, "apart", "this invite would be for the whole space", detail).with_fix(fix));
    }
    if app.is_some() && space != peer.space() {
        return Err(bad("an app comes with an invite to the space that published it, which is yours"));
    }
    let rules = match peer.store().held(&space).filter(|_| role == Role::Member) {
        Some(held) => Rules::of(peer.store(), &peer.store().snapshot(), held).map_err(|error| storage_problem(&error))?,
        None => None,
    };
    if role == Role::Member && (rules.is_none() || !path.is_root()) {
        return Err(bad("members are let in to a community, not to a path or to the space of one person")
            .with_fix("`timebus community list` shows those that you are in; `timebus invite --to @NAME --can member`"));
    }
    let depth = match (depth, space == peer.space()) {
        // As the rules say, and no more than is left.
        (None, _) if let Some(rules) = &rules => rules.guests.min(network.invites().depth_left(&space)),
        (Some(depth), _) if depth > invite::DEPTH_MAX => return Err(bad(format!("{} levels of guests at most", invite::DEPTH_MAX))),
        (Some(depth), _) => depth,
        (None, true) => invite::DEPTH_MAX,
        // As many as are left.
        (None, false) => network.invites().depth_left(&space),
    };
    // What is shown first of a community is what it is.
    let paint = match &rules {
        Some(rules) if paint.is_empty() => {
            let words = [rules.title.as_str(), rules.about.as_str()].join("\n");
            cut(words.trim(), invite::PAINT_BYTES_MAX).to_owned()
        }
        _ => paint,
    };
    let token = random_bytes::<16>();
    let wish = Wish { space, depth, role, path: path.clone(), uses_max: uses, bytes_max, expires_ms, note };
    let record = network.invites().create(&wish, &token, now).map_err(|error| match error {
        WishError::Io(error) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk", "the invite could not be written", error.to_string()),
        other => bad(other.to_string()),
    })?;
    let name = network.ask(|node| node.name().to_owned()).await.map_err(stopped)?;
    // To a community one invites by the name that one carries there.
    let carried = network.ask(move |node| node.book().communities.get(&space).map(|membership| membership.name.clone())).await.map_err(stopped)?;
    let name = carried.filter(|carried| role == Role::Member && !carried.is_empty()).unwrap_or(name);
    // Whoever is invited knows the person, and not the three words of the key or what a machine calls itself.
    let name = match role {
        Role::Member => name,
        _ => profile_name(peer, peer.store().own())?.unwrap_or(name),
    };
    // And is told whose the space is, if it is not his. By what its owner calls himself, not by what he is called here.
    let whose = match peer.store().held(&space).filter(|held| role != Role::Member && !held.is_own()) {
        Some(held) => Some(shortened(&profile_name(peer, held)?.unwrap_or_default())),
        None => None,
    };
    let endpoint = network.endpoint();
    let addresses: Vec<String> = endpoint
        .addresses()
        .iter()
        .map(ToString::to_string)
        .filter(|text| text.len() <= invite::ADDRESS_BYTES_MAX)
        .take(invite::ADDRESSES_MAX)
        .collect();
    let invite = Invite {
        node: endpoint.node(),
        addresses: addresses.clone(),
        space,
        depth,
        token,
        role,
        path,
        only: record.only,
        bytes_max,
        expires_ms,
        name: shortened(&name),
        app,
        paint,
        whose,
    };
    let mut value = describe(network, peer.store(), &People::default(), &record);
    let link = invite.link();
    // A link that any browser opens, where this peer has a name that others know.
    let http_link = peer.config.hosts.first().map(|host| {
        let scheme = if host.ends_with(":443") { "https" } else { "http" };
        format!("{scheme}://{}{}{}", peer.public_host(host), invite::FRAGMENT, invite.payload())
    });
    if qr {
        value["qr"] = qr_rows(http_link.as_deref().unwrap_or(&link)).into();
    }
    value["http_link"] = http_link.into();
    value["link"] = link.into();
    value["addresses"] = addresses.into();
    Ok(value)
}

/// A QR code as rows of 0 and 1; nothing for what is too long for one.
fn qr_rows(text: &str) -> Vec<String> {
    // Little is lost between a screen and a camera, and a smaller code is easier to read.
    let Ok(code) = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L) else { return Vec::new() };
    let dark = |color: &qrcode::Color| if *color == qrcode::Color::Dark { '1' } else { '0' };
    code.to_colors().chunks(code.width()).map(|row| row.iter().map(dark).collect()).collect()
}

/// What the profile in a space says that its owner is called.
fn profile_name(peer: &Peer, space: Space) -> Result<Option<String>, Problem> {
    let store = peer.store();
    let path = Path::parse("/profile/name").expect("a path");
    let value = crate::community::value(store, &store.snapshot(), space, &path).map_err(|error| storage_problem(&error))?;
    let name = value.as_ref().and_then(Serde::as_str).map(str::trim);
    Ok(name.filter(|name| crate::community::is_name(name, invite::NAME_BYTES_MAX)).map(str::to_owned))
}

/// Says in the own profile what the owner is called.
async fn say_name(peer: &Peer, name: &str) -> Result<(), Problem> {
    if !crate::community::is_name(name, invite::NAME_BYTES_MAX) {
        return Err(bad(format!("a name has 1 to {} bytes, all of them to be seen", invite::NAME_BYTES_MAX)));
    }
    let store = peer.store();
    if profile_name(peer, store.own())?.as_deref() == Some(name) {
        return Ok(());
    }
    let path = Path::parse("/profile/name").expect("a path");
    let written = lists::write(store, store.at(store.own(), &path), path, Action::Put(Json::String(name.to_owned()))).await;
    written.map_err(|error| crate::write::refused(peer, &error))
}

/// As much of a name as a link carries.
fn shortened(name: &str) -> String {
    cut(name, invite::NAME_BYTES_MAX).to_owned()
}

/// As much of a text as fits.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

async fn revoke_invite(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        id: String,
        /// Whether those who took it lose what it gave them.
        #[serde(default)]
        grants: bool,
    }
    let Wanted { id, grants } = read(body)?;
    let network = network(peer)?;
    let record = network.invites().revoke(&id, grants, now_ms()).await.map_err(|error| write_problem(&error))?;
    let record = record.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "invite", "there is no such invite", format!("no invite has the id {id}"))
            .with_fix("`timebus invites` lists them")
    })?;
    Ok(describe(network, peer.store(), &People::now(peer).await, &record))
}

async fn join(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        link: String,
        /// Whether the owner has seen what the invite says and wants it.
        #[serde(default)]
        confirm: bool,
        petname: Option<String>,
        /// What the owner is called: the name to carry in a community, else the one that his profile says from now on.
        name: Option<String>,
    }
    let Wanted { link, confirm, petname, name: called } = read(body)?;
    let invite = Invite::parse(&link)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "invite", "this is no invite that can be taken", error.to_string()))?;
    let mut card = json!({
        "space": invite.space.to_string(),
        "name": human_name(&invite.space),
        "inviter": invite.name,
        "whose": invite.whose,
        "role": invite.role,
        "path": invite.path.to_string(),
        "only": invite.only,
        "bytes_max": invite.bytes_max,
        "expires_ms": invite.expires_ms,
        "paint": invite.paint,
        "app": invite.app.as_ref().map(|(name, hash)| json!({"name": name, "version": timebus_identity::z32::encode(hash)})),
        "node": invite.node.to_string(),
        "addresses": invite.addresses,
    });
    card["depth"] = invite.depth.into();
    if invite.space == peer.space() {
        return Err(bad("this invite leads to your own space"));
    }
    if peer.is_family(&invite.space) {
        return Err(crate::personas::is_own(&invite.space));
    }
    if invite.role == Role::Device {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "device",
            "this invite makes a new home a device of somebody",
            "this home has an identity of its own already",
        )
        .with_fix("take it with a home that does not exist yet: timebus --home FOLDER join LINK"));
    }
    if invite.expires_ms > 0 && now_ms() > invite.expires_ms {
        return Err(
            Problem::new(StatusCode::GONE, "invite", "the invite has expired", "it could be taken for a limited time").with_fix("ask for a new one")
        );
    }
    if !confirm {
        card["joined"] = false.into();
        return Ok(card);
    }
    let network = network(peer)?;
    let space = invite.space;
    if let Some(name) = &petname {
        check_petname(peer, space, name).await?;
    }
    if invite.role == Role::Member {
        let name = super::communities::carried_name(peer, called).await?;
        let membership = Membership { name, stores: 0, told: false, dht: None, is_new: true };
        network.wish(Event::Community { space, membership: Some(membership) }).await.map_err(stopped)?;
    } else if let Some(name) = called {
        say_name(peer, name.trim()).await?;
    }
    let is_chosen = petname.is_some();
    // A community is called by its title, a person by what he calls himself.
    let shown = match invite.role {
        Role::Member => invite.paint.lines().next().unwrap_or_default().to_owned(),
        // One word, as names behind an `@` are written.
        _ => invite.whose.as_ref().unwrap_or(&invite.name).split_whitespace().collect::<Vec<_>>().join("-"),
    };
    let name = petname.unwrap_or(shown);
    network.allow_relays(&invite.addresses).await.map_err(stopped)?;
    network.wish(Event::Join { space, node: invite.node, addresses: invite.addresses, token: invite.token }).await.map_err(stopped)?;
    // A name that somebody else chose may not be one that can be used here; then there is none.
    let is_free = network.ask({
        let name = name.clone();
        move |node| node.book().named(&name).is_none() && !node.book().petnames.contains_key(&space)
    });
    if !name.is_empty() && (is_free.await.map_err(stopped)? || is_chosen) {
        let _ = name_space(peer, space, name).await;
    }
    // Who was thrown out and is let in again is so from when the statement is here that says it.
    let mut changed = network.changed();
    let deadline = tokio::time::Instant::now() + JOIN_PATIENCE;
    let status = loop {
        changed.borrow_and_update();
        let status = by_rights(peer.store(), network.visit(space, JOIN_PATIENCE).await.map_err(stopped)?);
        let is_over = status.state != SpaceState::Denied || status.invite.is_some();
        if is_over || tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
            break status;
        }
    };
    card["joined"] = true.into();
    card["status"] = serde_json::to_value(status).unwrap_or_default();
    Ok(card)
}

fn devices(peer: &Peer) -> Result<Serde, Problem> {
    let store = peer.store();
    let rights = store.rights(&store.space());
    let said = names::said(store).map_err(|error| storage_problem(&error))?;
    let name_of = |key: &PublicKey| match said.get(key) {
        Some(said) if said.is_heeded(store, key) => said.name.clone(),
        _ => human_name(key),
    };
    let told = |key: &PublicKey| {
        let said = said.get(key).map(|said| {
            json!({"name": said.name, "by": said.by.to_string(), "by_name": name_of(&said.by), "time_ms": said.time_ms,
                "is_heeded": said.is_heeded(store, key)})
        });
        let grants = rights.iter().flat_map(|rights| rights.grants_for(key));
        let its = grants.filter(|(_, held)| held.allows_everything() && held.grant.audience == Audience::Key(*key));
        let since = its.map(|(_, held)| held.time_ms).min();
        json!({"device": key.to_string(), "name": name_of(key), "key_name": human_name(key), "this": *key == store.device(),
            "since_ms": since, "said": said})
    };
    let now: Vec<PublicKey> = rights.iter().flat_map(|rights| rights.devices()).collect();
    let given = rights.iter().flat_map(|rights| rights.grants()).filter(|(_, held)| held.allows_everything());
    let former: BTreeMap<PublicKey, u64> = given
        .filter_map(|(_, held)| match held.grant.audience {
            Audience::Key(key) if !now.contains(&key) => Some((key, held.time_ms)),
            _ => None,
        })
        .collect();
    let mut former: Vec<(u64, PublicKey)> = former.into_iter().map(|(key, since)| (since, key)).collect();
    former.sort_unstable();
    let former: Vec<Serde> = former.iter().map(|(_, key)| told(key)).collect();
    Ok(json!({ "devices": now.iter().map(told).collect::<Vec<_>>(), "former": former }))
}

/// Gives one of the own devices a name, or with an empty one takes it away.
async fn name_device(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        /// Its key; this one if there is none.
        who: Option<String>,
        name: String,
    }
    let Wanted { who, name } = read(body)?;
    let store = peer.store();
    let key = match who {
        Some(who) => who.parse().map_err(|_| bad(format!("{who:?} is no key")))?,
        None => store.device(),
    };
    let rights = store.rights(&store.space()).ok_or_else(|| bad("the own space is not here"))?;
    if !rights.was_device(&key) {
        return Err(Problem::new(StatusCode::NOT_FOUND, "device", "there is no such device", format!("{key} is no device of yours"))
            .with_fix("`timebus devices` lists them"));
    }
    let name = if name.trim().is_empty() { &name } else { name.trim() };
    if !name.is_empty() && !names::is_name(name) {
        let detail =
            format!("{name:?}: up to {PETNAME_BYTES_MAX} bytes without / . @ % ? #, which read like no name of a key, and not `all` or `this`");
        return Err(bad(detail));
    }
    let all = names::given(store).map_err(|error| storage_problem(&error))?;
    // Also of one that was thrown out: it is told of by its name.
    let same = |(other, called): &(&PublicKey, &String)| **other != key && called.to_lowercase() == name.to_lowercase();
    if let Some((other, _)) = all.iter().find(same) {
        let detail = format!("you call the device {} ({other}) so", human_name(other));
        let fix = format!("choose another name, or take it from that one: `timebus devices name {other} ''`");
        return Err(Problem::new(StatusCode::CONFLICT, "name", "this name is taken", detail).with_fix(fix));
    }
    names::give(store, &key, Some(name).filter(|name| !name.is_empty())).await.map_err(|error| crate::write::refused(peer, &error))?;
    Ok(json!({"device": key.to_string(), "name": names::called(store, &key), "key_name": human_name(&key)}))
}

async fn remove_device(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        who: String,
        /// Whether the devices that it made go with it.
        #[serde(default)]
        made: bool,
        /// Whether it is only asked what that would do.
        #[serde(default)]
        preview: bool,
    }
    let Wanted { who, made, preview } = read(body)?;
    let key: PublicKey = who.parse().map_err(|_| bad(format!("{who:?} is no key")))?;
    let store = peer.store();
    if key == store.device() {
        return Err(bad("this is the device that you ask; ask another one to remove it"));
    }
    let rights = store.rights(&store.space()).ok_or_else(|| bad("the own space is not here"))?;
    let others = crate::devices::made_by(&rights, &[key]);
    if made && others.contains(&store.device()) {
        let name = names::called(store, &key);
        let rotate = format!("timebus rotate --without {}", crate::words::quoted(&name));
        return Err(bad(format!("this device is one of those that {name} made; ask another one, or `{rotate}` here")));
    }
    let (also, stay) = if made { (others, Vec::new()) } else { (Vec::new(), others) };
    let grants: Vec<GrantId> = rights
        .grants()
        .filter(|(_, held)| held.is_live() && matches!(held.grant.audience, Audience::Key(of) if of == key || also.contains(&of)))
        .map(|(grant, _)| *grant)
        .collect();
    if grants.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "device", "there is no such device", format!("no grant is for {key}"))
            .with_fix("`timebus devices` lists them"));
    }
    let goes: Vec<PublicKey> = also.iter().copied().chain([key]).collect();
    let people = People::now(peer).await;
    let guests: BTreeSet<String> = crate::devices::guests_of(&rights, &goes).iter().map(|guest| people.name(guest)).collect();
    let hidden = store.preview_revoke(store.own(), &grants, false, true).map_err(|error| write_problem(&error))?.hidden.len();
    if !preview {
        store.state(Statement::Revoke { grants, cascade: false, keep: true }, now_ms()).await.map_err(|error| write_problem(&error))?;
        for device in &goes {
            crate::devices::take_back(store, device).await.map_err(|error| write_problem(&error))?;
        }
    }
    let shown =
        |keys: &[PublicKey]| -> Vec<Serde> { keys.iter().map(|key| json!({"device": key.to_string(), "name": names::called(store, key)})).collect() };
    Ok(json!({
        "removed": key.to_string(),
        "name": names::called(store, &key),
        "also": shown(&also),
        "stay": shown(&stay),
        "guests": guests,
        "hidden": hidden,
        "preview": preview,
    }))
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;

    use super::*;

    #[test]
    fn machines_are_gone_when_nobody_meets_them_or_their_owner_has_another() {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        let key = |n: u8| SecretKey::from_seed([n; 32]).public();
        let peer = |n: u8, space: u8, met_ms: u64, seen_ms: u64, state: PeerState| {
            let told = json!({"source": "came", "space": key(space).to_string(), "met_ms": met_ms, "seen_ms": seen_ms});
            PeerStatus { id: key(n).to_string(), petname: None, contact: serde_json::from_value(told).expect("a contact"), state }
        };
        let now = 100 * DAY_MS;
        let linked = PeerState::Connected { way: String::new(), received: 0, sent: 0 };
        let all = [
            peer(1, 10, DAY_MS, now - 31 * DAY_MS, PeerState::Idle),
            peer(2, 11, DAY_MS, now - 29 * DAY_MS, PeerState::Idle),
            // Two of one person, of which the second was linked after the first was seen last, and one beside them.
            peer(3, 12, now - 9 * DAY_MS, now - 5 * DAY_MS, PeerState::Idle),
            peer(4, 12, now - 4 * DAY_MS, now - 3 * DAY_MS, PeerState::Idle),
            peer(5, 12, now - 8 * DAY_MS, now - 2 * DAY_MS, PeerState::Idle),
            // Never met, for long and not for long; and who is here is here.
            peer(6, 13, DAY_MS, 0, PeerState::Idle),
            peer(7, 14, now - DAY_MS, 0, PeerState::Idle),
            peer(8, 15, DAY_MS, DAY_MS, linked),
        ];
        let gone: Vec<bool> = all.iter().map(|status| is_gone(status, &all, now)).collect();
        assert_eq!(gone, [true, false, true, false, false, true, false, false]);
    }

    #[test]
    fn own_machines_are_gone_when_they_are_no_devices_any_more() {
        let key = |n: u8| SecretKey::from_seed([n; 32]).public();
        let own = |keys: &[PublicKey]| {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let contact = serde_json::from_value(json!({"source": "device", "keys": keys, "met_ms": 1})).expect("a contact");
            PeerStatus { id: key(9).to_string(), petname: None, contact, state: PeerState::Idle }
        };
        let devices = [key(1), key(2)];
        assert_eq!([own(&[key(2)]), own(&[key(3)]), own(&[])].map(|status| is_removed(&status, &devices)), [false, true, false]);
    }
}
