//! The part of `/.sys` about communities: founding and leaving them, who is in them, their rules and their boards.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, SecretKey, random_bytes};
use timebus_store::ids::GrantId;
use timebus_store::node::{Node, node_key};
use timebus_store::op::Op;
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use timebus_store::store::StorageError;
use timebus_store::summary::{Summary, summary};
use timebus_store::writer::{Action, Statement};

use crate::blobs::{self, wishes::Wishes};
use crate::community::holding::checking::{Doubts, told_json};
use crate::community::keeping::{depart, merge, settle, write};
use crate::community::{self, Board, HandOver, Member, Membership, NAME_BYTES_MAX, Rules, is_name, members};
use crate::devices::with_devices;
use crate::dht;
use crate::node::Event;
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{storage_problem, write_problem};
use crate::sys::network::{bad, find_space, name_space, network, read, stopped};
use crate::target::Query;
use crate::who::now_ms;

/// Names of one part of a board that are looked at: whoever fills his own with names of a time to come hides his own notices.
const LOOKED_AT_MAX: usize = 10_000;
/// Milliseconds that a clock may be ahead of this one, and its notices are shown as the latest.
const AHEAD_MS: u64 = 5 * 60 * 1000;
/// Notices of a board that are shown if the caller does not say how many.
const NOTICES_DEFAULT: usize = 50;
/// Largest notice.
const NOTICE_BYTES_MAX: usize = 16 * 1024;
/// How long who leaves is waited for, if others have what he held: then it is over before he hears of it.
const LEAVE_PATIENCE: Duration = Duration::from_secs(8);

/// Answers a part of `/.sys` about communities; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], query: &Query, body: &Bytes) -> Option<Result<Serde, Problem>> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let writes = *method == Method::POST;
    Some(match rest {
        ["communities"] if reads => list(peer).await,
        ["communities"] if writes => found(peer, body).await,
        ["communities", name] if reads => show(peer, name).await,
        ["communities", name] if writes => set(peer, name, body).await,
        ["communities", name, "members"] if reads => members_of(peer, name).await,
        ["communities", name, "placement"] if reads => super::placement::placement(peer, name).await,
        ["communities", name, "board"] if reads => board(peer, name, query).await,
        ["communities", name, "board"] if writes => post(peer, name, body).await,
        ["communities", name, "remove"] if writes => remove(peer, name, body).await,
        ["communities", name, "organizer"] if writes => promote(peer, name, body).await,
        ["communities", name, "leave"] if writes => leave(peer, name, body).await,
        _ => return None,
    })
}

/// A community that is here.
pub(super) struct Here {
    pub(super) key: PublicKey,
    membership: Option<Membership>,
    /// Nothing of it is here yet otherwise.
    held: Option<(Space, Option<Rules>)>,
    /// Whether something else is where its rules should be.
    is_broken: bool,
}

impl Here {
    async fn all(peer: &Peer) -> Result<Vec<Self>, Problem> {
        let known = network(peer)?.ask(|node| node.book().communities.clone()).await.map_err(stopped)?;
        known.into_iter().map(|(key, membership)| Self::of(peer, key, Some(membership))).collect()
    }

    fn of(peer: &Peer, key: PublicKey, membership: Option<Membership>) -> Result<Self, Problem> {
        let store = peer.store();
        let held = store.held(&key).map(|space| Rules::of(store, &store.snapshot(), space).map(|rules| (space, rules)));
        let held = held.transpose().map_err(failed)?;
        let is_broken = match held {
            Some((space, None)) => community::leaf(&store.snapshot(), space, &path(&["rules"])).map_err(failed)?.is_some(),
            _ => false,
        };
        Ok(Self { key, membership, held, is_broken })
    }

    /// One that the owner is in, by its key, his name for it, or its title.
    pub(super) async fn find(peer: &Peer, name: &str) -> Result<Self, Problem> {
        let all = Self::all(peer).await?;
        let key = find_space(peer, name).await.ok();
        let title = name.strip_prefix('@').unwrap_or(name);
        let is_it = |here: &Self| Some(here.key) == key || here.title() == Some(title);
        let mut found: Vec<Self> = all.into_iter().filter(is_it).collect();
        match (found.pop(), found.is_empty(), key) {
            (Some(one), true, _) => Ok(one),
            (Some(_), false, _) => Err(Problem::new(
                StatusCode::CONFLICT,
                "community",
                "this name can mean several",
                format!("{name:?} is the title of several communities"),
            )
            .with_fix("write the key of the one you mean; `timebus community list` shows them")),
            (None, _, key) => {
                let known = key.map(|key| Self::of(peer, key, None)).transpose()?.filter(|here| here.rules().is_some());
                let unknown = || {
                    Problem::new(
                        StatusCode::NOT_FOUND,
                        "community",
                        "you are in no such community",
                        format!("{name:?} is none that you founded or joined"),
                    )
                    .with_fix("`timebus community list` shows those that you are in; an invite lets you into another one")
                };
                known.ok_or_else(unknown)
            }
        }
    }

    fn rules(&self) -> Option<&Rules> {
        self.held.as_ref()?.1.as_ref()
    }

    fn title(&self) -> Option<&str> {
        self.rules().map(|rules| rules.title.as_str())
    }

    /// Its space and rules.
    pub(super) fn ready(&self) -> Result<(Space, &Rules), Problem> {
        let key = self.key;
        let not_yet = || match self.is_broken {
            true => Problem::new(StatusCode::CONFLICT, "community", "the rules of this community cannot be read", "something else is at its /rules")
                .with_fix(format!("an organizer takes that back with `timebus undo @{key}/rules`")),
            false => Problem::new(StatusCode::CONFLICT, "community", "this community is not here yet", "nothing of it has come so far")
                .with_fix("`timebus peers` shows how it is; it comes when one of its members is reached"),
        };
        self.held.as_ref().and_then(|(space, rules)| Some((*space, rules.as_ref()?))).ok_or_else(not_yet)
    }
}

fn failed(error: StorageError) -> Problem {
    storage_problem(&error)
}

async fn list(peer: &Peer) -> Result<Serde, Problem> {
    let mut all = Vec::new();
    for here in Here::all(peer).await? {
        all.push(describe(peer, &here).await?);
    }
    Ok(json!({ "communities": all }))
}

/// What a community is, and what the owner is in it.
async fn describe(peer: &Peer, here: &Here) -> Result<Serde, Problem> {
    let network = network(peer)?;
    let key = here.key;
    let (petname, status) = network.ask(move |node| (node.book().petnames.get(&key).cloned(), node.space(&key))).await.map_err(stopped)?;
    let status = crate::remote::by_rights(peer.store(), status);
    let all = match &here.held {
        Some((space, _)) => members(peer.store(), &peer.store().snapshot(), *space).map_err(failed)?,
        None => Vec::new(),
    };
    let place = community::own_place(peer.store(), &key);
    let uncounted = match (&here.held, &place) {
        (Some((space, _)), Some(place)) => community::uncounted(peer.store(), &peer.store().snapshot(), *space, place).map_err(failed)?,
        _ => Vec::new(),
    };
    let own_node = network.endpoint().node();
    let nodes: Vec<PublicKey> = all.iter().flat_map(|member| &member.machines).map(|machine| machine.node).collect();
    let connected = network.ask(move |node| nodes.iter().filter(|id| node.is_connected(id)).count()).await.map_err(stopped)?;
    let device = peer.store().device();
    let own = all.iter().find(|member| member.keys.contains(&device));
    let rights = peer.store().rights(&key);
    let of_owner = peer.store().rights(&peer.space());
    let is_own = |key: &PublicKey| of_owner.as_ref().is_some_and(|rights| rights.device_grant(key).is_some());
    let handing = network.ask(move |node| node.book().handing.get(&key).copied()).await.map_err(stopped)?;
    let left = peer.handing.borrow().get(&key).copied();
    let wishes = Wishes::of(peer);
    let (not_kept, why) = wishes.problems_of_placed();
    let state = match (own, &here.membership, here.rules()) {
        (Some(own), ..) if own.is_organizer => "organizer",
        (Some(_), ..) => "member",
        (None, Some(_), None) => "waiting",
        (None, Some(_), Some(_)) if rights.is_some_and(|rights| rights.grants_for(&device).any(|(_, held)| held.is_live())) => "waiting",
        // A home that was restored is another machine of his; the one that was let in lets it in.
        (None, Some(_), Some(_)) if all.iter().flat_map(|member| &member.keys).any(is_own) => "elsewhere",
        (None, ..) => "removed",
    };
    Ok(json!({
        "community": key.to_string(),
        "title": here.title(),
        "petname": petname,
        "rules": here.rules(),
        "you": state,
        "name": own.map(|own| own.name.clone()).or_else(|| here.membership.as_ref().map(|membership| membership.name.clone())),
        "stores": here.membership.as_ref().map_or(0, |membership| membership.stores),
        "counts": here.membership.as_ref().map_or(0, |membership| wishes.offers(&key, membership.stores)),
        "room": blobs::of(peer).ok().and_then(|blobs| Some(blobs.spare_bytes().ok()?.saturating_add(blobs.bytes()))),
        "not_kept": (not_kept > 0).then(|| json!({"files": not_kept, "why": why})),
        "kept_back": !wishes.hands_on(&key),
        "unshown": told_json(&here.rules().map_or_else(Vec::new, |rules| Doubts::of(rules, &all, &own_node, now_ms()).told(&all, &own_node))),
        "uncounted": uncounted.iter().map(|node| json!({"node": node.to_string(), "you": *node == own_node})).collect::<Vec<_>>(),
        "told": here.membership.as_ref().is_some_and(|membership| membership.told),
        "dht": here.membership.as_ref().and_then(|membership| membership.dht.as_ref()).map(|part| {
            let mut told = serde_json::to_value(peer.dhts.standing(&dht::DhtId::Community(key))).unwrap_or_default();
            (told["bind"], told["port"]) = (part.bind.to_string().into(), part.port.into());
            told
        }),
        "only_organizer": is_only_organizer(peer, here)?,
        "handing": handing.map(|handing| {
            let left = left.unwrap_or_default();
            json!({"files": left.files, "bytes": left.bytes, "nowhere": left.nowhere, "until_ms": handing.until_ms, "leaves": handing.leaves})
        }),
        "left_told": left.and_then(|left| left.told),
        "members": all.len(),
        "connected": connected,
        "status": status,
    }))
}

async fn show(peer: &Peer, name: &str) -> Result<Serde, Problem> {
    let here = Here::find(peer, name).await?;
    let mut told = describe(peer, &here).await?;
    told["who"] = match &here.held {
        Some((space, _)) => told_members(peer, *space).await?,
        None => json!([]),
    };
    Ok(told)
}

async fn members_of(peer: &Peer, name: &str) -> Result<Serde, Problem> {
    let here = Here::find(peer, name).await?;
    let (space, rules) = here.ready()?;
    Ok(json!({"community": here.key.to_string(), "title": rules.title, "members": told_members(peer, space).await?}))
}

async fn told_members(peer: &Peer, space: Space) -> Result<Serde, Problem> {
    let all = members(peer.store(), &peer.store().snapshot(), space).map_err(failed)?;
    let nodes: Vec<PublicKey> = all.iter().flat_map(|member| &member.machines).map(|machine| machine.node).collect();
    let seen = network(peer)?
        .ask(move |node| {
            let of = |id: &PublicKey| (*id, node.is_connected(id), node.book().contacts.get(id).map_or(0, |contact| contact.seen_ms));
            nodes.iter().map(of).collect::<Vec<_>>()
        })
        .await
        .map_err(stopped)?;
    let (device, own_node) = (peer.store().device(), network(peer)?.endpoint().node());
    let name_of = |key: &PublicKey| all.iter().find(|member| member.keys.contains(key)).map(|member| member.name.clone());
    let told = |member: &Member| {
        let is_you = member.keys.contains(&device);
        let theirs = || seen.iter().filter(|(id, ..)| member.machines.iter().any(|machine| machine.node == *id));
        json!({
            "name": member.name,
            "key": member.keys[0].to_string(),
            "keys": member.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "you": is_you,
            "organizer": member.is_organizer,
            "since_ms": member.since_ms,
            "by": member.by.as_ref().and_then(name_of),
            "nodes": member.machines.iter().map(|machine| json!({"node": machine.node.to_string(), "stores": machine.stores})).collect::<Vec<_>>(),
            "stores": member.machines.iter().map(|machine| machine.stores).sum::<u64>(),
            "connected": theirs().any(|(id, is_connected, _)| *is_connected || *id == own_node),
            "seen_ms": theirs().map(|(.., seen_ms)| *seen_ms).max().unwrap_or(0),
        })
    };
    Ok(all.iter().map(told).collect())
}

/// The name that somebody wants to carry; the one of this peer if he says none.
pub(crate) async fn carried_name(peer: &Peer, wanted: Option<String>) -> Result<String, Problem> {
    let name = match wanted {
        Some(name) => name.trim().to_owned(),
        None => network(peer)?.ask(|node| node.name().to_owned()).await.map_err(stopped)?,
    };
    match is_name(&name, NAME_BYTES_MAX) {
        true => Ok(name),
        false => Err(bad(format!("a name in a community has 1 to {NAME_BYTES_MAX} bytes, all of them to be seen"))),
    }
}

async fn found(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        title: String,
        #[serde(default)]
        about: String,
        name: Option<String>,
        petname: Option<String>,
        replicas: Option<u8>,
        board: Option<Board>,
        guests: Option<u8>,
        away_h: Option<u32>,
    }
    let Wanted { title, about, name, petname, replicas, board, guests, away_h } = read(body)?;
    let mut rules = Rules::new(title.trim());
    rules.about = about;
    rules.replicas = replicas.unwrap_or(rules.replicas);
    rules.board = board.unwrap_or_default();
    rules.guests = guests.unwrap_or(rules.guests);
    rules.away_h = away_h.unwrap_or(rules.away_h);
    rules.check().map_err(|error| bad(error.to_string()))?;
    check_title(&rules.title)?;
    let name = carried_name(peer, name).await?;
    let network = network(peer)?;
    let root = SecretKey::from_seed(random_bytes());
    let space = root.public();
    // A name that is taken, or cannot be one, is told before anything was made. Of a title as it is there may be none.
    let petname = match petname {
        Some(petname) => {
            crate::sys::network::check_petname(peer, space, &petname).await?;
            Some(petname)
        }
        None => crate::sys::network::check_petname(peer, space, &rules.title).await.is_ok().then(|| rules.title.clone()),
    };
    let founding = timebus_store::founding::founding(&root, &peer.store().device(), now_ms());
    drop(root);
    let offered = peer.store().offer(vec![founding]).await.map_err(|error| write_problem(&error))?;
    let held = peer.store().held(&space).filter(|_| offered.refused.is_empty());
    let held = held.ok_or_else(|| bad("the community could not be founded"))?;
    let rules_value = serde_json::to_value(&rules).unwrap_or_default();
    write(peer, held, path(&["rules"]), Action::Put, &rules_value).await.map_err(|error| write_problem(&error))?;
    let membership = Membership { name, stores: 0, told: false, dht: None, is_new: true };
    settle(peer, network, held, &membership).await.map_err(|error| write_problem(&error))?;
    let membership = Membership { is_new: false, ..membership };
    network.wish(Event::Follow { space, via: Vec::new() }).await.map_err(stopped)?;
    network.wish(Event::Community { space, membership: Some(membership.clone()) }).await.map_err(stopped)?;
    if let Some(petname) = petname {
        name_space(peer, space, petname).await?;
    }
    describe(peer, &Here::of(peer, space, Some(membership))?).await
}

/// A community is named by its title, as in `timebus community show TITLE`, which is one part of a path.
fn check_title(title: &str) -> Result<(), Problem> {
    match title.contains('/') || matches!(title, "." | "..") {
        true => Err(bad(format!("a title has no / in it, and {title:?} could not be named")).with_fix("choose a title without slashes")),
        false => Ok(()),
    }
}

fn path(names: &[&str]) -> Path {
    Path::from_text_segments(names.iter().copied()).unwrap_or_else(|_| Path::root())
}

/// Changes what the owner is in a community, and, if he organizes it, its rules.
async fn set(peer: &Peer, name: &str, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        name: Option<String>,
        told: Option<bool>,
        stores: Option<u64>,
        title: Option<String>,
        about: Option<String>,
        replicas: Option<u8>,
        board: Option<Board>,
        guests: Option<u8>,
        away_h: Option<u32>,
        dht: Option<Vec<String>>,
        /// Takes part in its DHT: `{"bind","port"}`; `false` ends that.
        part: Option<Serde>,
    }
    let here = Here::find(peer, name).await?;
    let wanted: Wanted = read(body)?;
    let (space, rules) = here.ready()?;
    let mut new = rules.clone();
    new.title = wanted.title.map_or(new.title, |title| title.trim().to_owned());
    new.about = wanted.about.unwrap_or(new.about);
    new.replicas = wanted.replicas.unwrap_or(new.replicas);
    new.board = wanted.board.unwrap_or(new.board);
    new.guests = wanted.guests.unwrap_or(new.guests);
    new.away_h = wanted.away_h.unwrap_or(new.away_h);
    new.dht = wanted.dht.unwrap_or(new.dht);
    let part: Option<Option<dht::Part>> = match wanted.part {
        None => None,
        Some(Serde::Bool(false)) => Some(None),
        Some(part) => Some(Some(serde_json::from_value(part).map_err(|error| bad(format!("part: {error}")))?)),
    };
    if part.as_ref().is_some_and(Option::is_some) && peer.network().is_some_and(|network| network.endpoint().sockets().is_empty()) {
        return Err(bad("this peer is offline and opens no sockets").with_fix("start it without --offline"));
    }
    if new.dht != rules.dht
        && let Some(address) = new.dht.iter().find(|address| matches!(address.parse(), Ok(std::net::SocketAddr::V6(_))))
    {
        return Err(bad(format!("{address} is an IPv6 address, and a DHT is one of IPv4"))
            .with_fix("name a first node by an IPv4 address, or by a host name that has one"));
    }
    new.check().map_err(|error| bad(error.to_string()))?;
    if new.title != rules.title {
        check_title(&new.title)?;
    }
    if new != *rules {
        organizes(peer, &here)?;
        let patch = serde_json::to_value(&new).unwrap_or_default();
        merge(peer, space, path(&["rules"]), &patch).await.map_err(|error| write_problem(&error))?;
    }
    let mut membership = here.membership.clone();
    if wanted.name.is_some() || wanted.told.is_some() || wanted.stores.is_some() || part.is_some() {
        let mut own = membership.filter(|_| community::own_place(peer.store(), &here.key).is_some()).ok_or_else(no_member)?;
        if let Some(name) = wanted.name {
            own.name = carried_name(peer, Some(name)).await?;
            own.is_new = true;
        }
        own.told = wanted.told.unwrap_or(own.told);
        let before = own.stores;
        own.stores = wanted.stores.unwrap_or(before);
        own.dht = part.unwrap_or(own.dht);
        let network = network(peer)?;
        settle(peer, network, space, &own).await.map_err(|error| write_problem(&error))?;
        own.is_new = false;
        network.wish(Event::Community { space: here.key, membership: Some(own.clone()) }).await.map_err(stopped)?;
        match (before, wanted.stores) {
            // What others count on stays until they have it.
            (1.., Some(0)) => hand_over(peer, here.key, rules, before, false).await?,
            (_, Some(1..)) => network.wish(Event::HandOver { space: here.key, handing: None }).await.map_err(stopped)?,
            _ => {}
        }
        membership = Some(own);
    }
    describe(peer, &Here::of(peer, here.key, membership)?).await
}

fn no_member() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "rights", "you are no member of this community", "nobody has let you in, or you were removed")
        .with_fix("ask an organizer for an invite")
}

fn organizes(peer: &Peer, here: &Here) -> Result<(), Problem> {
    let rights = peer.store().rights(&here.key);
    if rights.is_some_and(|rights| community::is_organizer(&rights, &peer.store().device())) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "rights", "only organizers may do this", "you are none in this community")
        .with_fix("`timebus community members` shows who is; ask one of them"))
}

/// The member that a name, a key or the beginning of one means.
fn member(all: Vec<Member>, who: &str) -> Result<Member, Problem> {
    let is_meant = |member: &Member| member.name == who || (who.len() >= 6 && member.keys.iter().any(|key| key.to_string().starts_with(who)));
    let mut found: Vec<Member> = all.into_iter().filter(is_meant).collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(_), false) => {
            Err(Problem::new(StatusCode::CONFLICT, "who", "this name can mean several", format!("several members are called {who:?}"))
                .with_fix("write the key of the one you mean"))
        }
        (None, _) => Err(Problem::new(StatusCode::NOT_FOUND, "who", "there is no such member", format!("nobody there is called {who:?}"))
            .with_fix("`timebus community members` shows who is in it")),
    }
}

/// The machines of a member of a community.
pub(crate) async fn machines(peer: &Peer, community: &str, who: &str) -> Result<Vec<PublicKey>, Problem> {
    let (space, _) = Here::find(peer, community).await?.ready()?;
    let member = member(members(peer.store(), &peer.store().snapshot(), space).map_err(failed)?, who)?;
    if member.machines.is_empty() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "who",
            "nothing is known of his machines",
            format!("{} has not said in this community which they are", member.name),
        )
        .with_fix("he says so when his peer runs the next time"));
    }
    Ok(member.machines.into_iter().map(|machine| machine.node).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Who {
    who: String,
}

async fn remove(peer: &Peer, name: &str, body: &Bytes) -> Result<Serde, Problem> {
    let here = Here::find(peer, name).await?;
    let (space, _) = here.ready()?;
    organizes(peer, &here)?;
    let all = members(peer.store(), &peer.store().snapshot(), space).map_err(failed)?;
    let member = member(all, &read::<Who>(body)?.who)?;
    if member.keys.contains(&peer.store().device()) {
        return Err(bad("this is you; `timebus community leave` ends it"));
    }
    let rights = peer.store().rights(&here.key).ok_or_else(no_member)?;
    let grants: Vec<GrantId> = with_devices(&rights, community::grants_of(&rights, &member)).into_iter().collect();
    let statement = Statement::Revoke { grants, cascade: false, keep: true };
    peer.store().state_in(Some(space), statement, now_ms()).await.map_err(|error| write_problem(&error))?;
    Ok(json!({"community": here.key.to_string(), "removed": member.name, "keys": member.keys.iter().map(ToString::to_string).collect::<Vec<_>>()}))
}

async fn promote(peer: &Peer, name: &str, body: &Bytes) -> Result<Serde, Problem> {
    let here = Here::find(peer, name).await?;
    let (space, _) = here.ready()?;
    organizes(peer, &here)?;
    let all = members(peer.store(), &peer.store().snapshot(), space).map_err(failed)?;
    let member = member(all, &read::<Who>(body)?.who)?;
    let rights = peer.store().rights(&here.key).ok_or_else(no_member)?;
    let device = peer.store().device();
    // As much as is left of what this organizer has.
    let depth = rights.grants_for(&device).filter(|(_, held)| held.is_live()).map(|(_, held)| held.grant.depth).max().unwrap_or(0);
    let depth = depth.checked_sub(1).ok_or_else(|| bad("who made you an organizer did not let you make others"))?;
    let ops: Vec<Op> = member.keys.iter().map(|key| Op::Grant(community::promotion(key, depth))).collect();
    if !member.is_organizer {
        peer.store().state_in(Some(space), Statement::Ops(ops), now_ms()).await.map_err(|error| write_problem(&error))?;
    }
    Ok(json!({"community": here.key.to_string(), "organizer": member.name}))
}

/// What is here for a community goes to others from now on, for as long as who is away counts.
async fn hand_over(peer: &Peer, space: PublicKey, rules: &Rules, bytes: u64, leaves: bool) -> Result<(), Problem> {
    let until_ms = now_ms().saturating_add(u64::from(rules.away_h) * 3_600_000);
    peer.handing.send_modify(|all| {
        all.remove(&space);
    });
    network(peer)?.wish(Event::HandOver { space, handing: Some(HandOver { bytes, until_ms, leaves }) }).await.map_err(stopped)
}

/// Leaves a community when others have what this machine held there, or now.
async fn leave(peer: &Peer, name: &str, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        /// Whether nothing is handed over first.
        #[serde(default)]
        now: bool,
        /// Whether he knows what follows where he is the only organizer.
        #[serde(default)]
        sure: bool,
    }
    let here = Here::find(peer, name).await?;
    let network = network(peer)?;
    let (key, title) = (here.key, here.title().map(str::to_owned));
    let wanted = if body.is_empty() { Wanted::default() } else { read(body)? };
    if !wanted.sure && is_only_organizer(peer, &here)? {
        let detail = "nobody who stays could change its rules, let in organizers or remove anybody, ever";
        return Err(Problem::new(StatusCode::CONFLICT, "only-organizer", "you are its only organizer", detail)
            .with_fix("make somebody else an organizer before (`timebus community organizer`), or say that you are sure (`--yes`)"));
    }
    let place = community::own_place(peer.store(), &key);
    if let (Ok((space, rules)), Some(membership), Some(_), false) = (here.ready(), &here.membership, place, wanted.now) {
        let own = Membership { stores: 0, ..membership.clone() };
        settle(peer, network, space, &own).await.map_err(|error| write_problem(&error))?;
        network.wish(Event::Community { space: key, membership: Some(own) }).await.map_err(stopped)?;
        // All that is here already has room.
        hand_over(peer, key, rules, u64::MAX, true).await?;
        let mut handing = peer.handing.subscribe();
        let known = handing.wait_for(|all| all.get(&key).is_some_and(|left| left.told.is_some()));
        let told = tokio::time::timeout(LEAVE_PATIENCE, known).await.ok().and_then(|all| all.ok()?.get(&key)?.told);
        let left = handing.borrow().get(&key).copied().unwrap_or_default();
        let told = json!({
            "community": key.to_string(), "title": title, "left": told.is_some(), "told": told == Some(true),
            "handing": {"files": left.files, "bytes": left.bytes, "nowhere": left.nowhere},
        });
        return Ok(told);
    }
    let is_told = depart(peer, network, key).await.map_err(|error| write_problem(&error))?;
    Ok(json!({"community": key.to_string(), "title": title, "left": true, "told": is_told, "handing": null}))
}

/// Whether the owner organizes a community, and of the others nobody does.
fn is_only_organizer(peer: &Peer, here: &Here) -> Result<bool, Problem> {
    let Some((space, _)) = here.held else { return Ok(false) };
    let device = peer.store().device();
    let all = members(peer.store(), &peer.store().snapshot(), space).map_err(failed)?;
    let (own, others): (Vec<&Member>, Vec<&Member>) = all.iter().partition(|member| member.keys.contains(&device));
    Ok(own.iter().any(|member| member.is_organizer) && !others.is_empty() && !others.iter().any(|member| member.is_organizer))
}

async fn post(peer: &Peer, name: &str, body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        text: String,
    }
    let here = Here::find(peer, name).await?;
    let (space, _) = here.ready()?;
    let Wanted { text } = read(body)?;
    if text.trim().is_empty() || text.len() > NOTICE_BYTES_MAX {
        return Err(bad(format!("a notice has 1 to {NOTICE_BYTES_MAX} bytes")));
    }
    let id = crate::write::time_sorted_id();
    let board = community::own_board(peer.store(), &here.key).unwrap_or_else(|| path(&["board"]));
    let written = write(peer, space, board, |value| Action::Post { name: id, value }, &json!({"text": text, "at_ms": now_ms()})).await;
    let written = written.map_err(|error| match error {
        timebus_store::writer::WriteError::NoGrant { .. } => {
            Problem::new(StatusCode::FORBIDDEN, "rights", "you may not write on this board", "its rules let organizers write, or you are no member")
                .with_fix("`timebus community show` tells its rules; ask an organizer")
        }
        other => write_problem(&other),
    })?;
    let at = written.created.map(|path| path.to_string());
    Ok(json!({"community": here.key.to_string(), "posted": at}))
}

/// The latest notices, the newest first, each with who wrote it as far as that is proven.
async fn board(peer: &Peer, name: &str, query: &Query) -> Result<Serde, Problem> {
    let here = Here::find(peer, name).await?;
    let (space, rules) = here.ready()?;
    let (store, rows) = (peer.store(), peer.store().snapshot());
    let all = members(store, &rows, space).map_err(failed)?;
    let people = People::now(peer).await;
    let max = query.limit.map_or(NOTICES_DEFAULT, |limit| (limit as usize).min(1000));
    let rights = store.rights(&here.key).ok_or_else(no_member)?;
    let t = space.unmounted().main();
    // Names tell the time, so the last ones of each part are all that can be among the last. Whoever writes chooses them, so a
    // time that is yet to come is no reason to be shown, and what is called otherwise is as late as it was written.
    let soon = now_ms() + AHEAD_MS;
    let (end, is_early) = (crate::write::first_id_at(soon), |name: &str| crate::write::is_time_sorted_id(name));
    let mut latest: Vec<(Box<str>, Path)> = Vec::new();
    for part in community::boards(&rights) {
        let names = |before| timebus_store::tree::child_names_before(&rows, t, &part, before);
        let at = |name: &str| part.join(Segment::Name(name.into())).ok();
        let mut timed = 0;
        let mut free: Vec<Box<str>> = Vec::new();
        for name in names(None).take(LOOKED_AT_MAX) {
            let name = name.map_err(failed)?;
            if timed == max {
                break;
            }
            if !is_early(&name) {
                // What is called like a key is somebody's part.
                free.extend(Some(name).filter(|name| free.len() < max && name.parse::<PublicKey>().is_err()));
            } else if *name < *end {
                timed += 1;
                latest.extend(at(&name).map(|path| (name, path)));
            }
        }
        for name in free {
            let Some(path) = at(&name) else { continue };
            let t_key = node_key(t, &path.key());
            let newest = Node::load(&*rows, &t_key).and_then(|node| node.version(&*rows, &t_key)).map_err(failed)?.pop();
            let written = newest.map(|a| summary(&*rows, t, a)).transpose().map_err(failed)?;
            let time_ms = written.map_or(0, |own| own.time_ms);
            latest.push((crate::write::first_id_at(if time_ms > soon { 0 } else { time_ms }).into(), path));
        }
    }
    latest.sort_unstable_by(|a, b| b.cmp(a));
    let (mut notices, mut left_out) = (Vec::new(), 0);
    let quiet = crate::lists::quiet(store).map_err(failed)?;
    for (_, path) in latest {
        if notices.len() == max {
            break;
        }
        // Whoever wrote the text is the author, whatever it says.
        let [text_at, time_at] = ["text", "at_ms"].map(|name| path.join(Segment::Name(name.into())).unwrap_or_else(|_| path.clone()));
        let read = |at: &Path| community::leaf(&rows, space, at).map_err(failed);
        let Some(text) = read(&text_at)?.map_or_else(|| read(&path), |text| Ok(Some(text)))? else { continue };
        let change = |at: &Path| -> Result<Option<Summary>, StorageError> {
            let t_key = node_key(t, &at.key());
            let Some(write) = Node::load(&*rows, &t_key)?.winner(&*rows, &t_key)? else { return Ok(None) };
            Ok(Some(summary(&*rows, t, write.a)?))
        };
        let change = change(&text_at).map_err(failed)?.map_or_else(|| change(&path).map_err(failed), |change| Ok(Some(change)))?;
        let author = change.as_ref().map(|change| change.author);
        // What a device signed for who asked by HTTP is not its owner's word.
        let writer = change.as_ref().and_then(|change| people.writer(change));
        // Whoever wrote it, or had it written.
        let mut by = change.iter().flat_map(|change| std::iter::once(change.author).chain(change.behalf));
        if by.any(|key| quiet.contains(&key) || crate::whose::spaces_of(store, &key, true).iter().any(|space| quiet.contains(space))) {
            left_out += 1;
            continue;
        }
        let by = author.map(|author| {
            let member = all.iter().find(|member| member.keys.contains(&author));
            member.map_or_else(|| people.name(&author), |member| member.name.clone())
        });
        notices.push(json!({
            "path": path.to_string(),
            "text": text.as_str().map_or_else(|| text.to_string(), str::to_owned),
            "at_ms": read(&time_at)?.and_then(|at| at.as_u64()),
            "you": writer.is_none() && author == Some(store.device()),
            "by": writer.or(by),
            "key": author.map(|author| author.to_string()),
        }));
    }
    let own = community::own_board(store, &here.key).filter(|path| rights.guest_grant(&store.device(), path).is_some());
    let own = own.map(|path| path.to_string());
    let may_write = own.is_some();
    Ok(json!({
        "community": here.key.to_string(),
        "title": rules.title,
        "notices": notices,
        "left_out": left_out,
        "may_write": may_write,
        "path": own,
    }))
}
