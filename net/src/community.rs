//! Communities: spaces that belong to nobody alone, with members and rules of their own.
//!
//! Who is a member is a matter of the grants of the space: a member has one for a place of his own below `/members`,
//! which names him and says what he offers, and one for the board. Organizers may do everything, and have their place
//! there, too. What the rules say is data under `/rules`, which organizers write.
//!
//! | path | what | who writes |
//! |---|---|---|
//! | `/rules` | title, about, who writes on the board, how many copies there are to be | organizers |
//! | `/board` | notices, also of members who were let in when all wrote there | organizers |
//! | `/board/<key>`, below that of who brought him | notices | the member with that key |
//! | `/members/KEY` | `name`, `left`, and of each machine `nodes/KEY/stores`, `seen_ms`, `keeps_back`, `unshown` and `proof` | that member |
//! | `/members/KEY/brought/KEY` | the same, of a member whom a member let in | that member |
//!
//! Deliberately not: a community is no other kind of space, and everything that holds for spaces holds for it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value as Serde;
use timebus_identity::{PublicKey, Signature, human_name, z32};
use timebus_store::auth::{Held, Rights};
use timebus_store::blobs::BlobHash;
use timebus_store::founding::ORGANIZER;
use timebus_store::grant::{Actions, Audience, Grant, Scope, ScopeSegment, Timelines};
use timebus_store::ids::GrantId;
use timebus_store::json::Json;
use timebus_store::keyspace::Committed;
use timebus_store::node::{Node, node_key};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::summary;
use timebus_store::tree::value_json;
use timebus_store::writer::{Action, Request};

use crate::dht;
use crate::invite::DEPTH_MAX;
use crate::problem::Problem;
use crate::record::ADDRESS_BYTES_MAX;
use crate::route::storage_problem;

pub mod holding;
pub mod keeping;
pub mod placement;

/// Longest title of a community.
pub const TITLE_BYTES_MAX: usize = 64;
/// Longest name that a member carries in one.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest description of one.
pub const ABOUT_BYTES_MAX: usize = 1000;
/// Members that are looked at; of more, those that came last are left out.
pub const MEMBERS_MAX: usize = 10_000;
/// Grants that are looked at below the place of each whom organizers let in: of his devices, of those whom he brought himself, and
/// of all that these handed on. None of them takes the room of another.
const BROUGHT_MAX: usize = 512;
/// Of the last ones those that are by one whom he brought.
const BELOW_MAX: usize = 64;
/// Machines of one member that offer something, and as many that offer nothing.
pub const NODES_MAX: usize = 8;
/// Machines that a member may name, of which so many count.
const NODES_NAMED_MAX: usize = 64;
/// Spaces of which a machine says that it gives nothing to others.
const KEEPS_BACK_MAX: usize = 64;
/// Files, or machines, of which a machine says that others could not show them.
const UNSHOWN_MAX: usize = 16;
/// Most copies that rules ask for.
pub const REPLICAS_MAX: u8 = 16;
/// Levels of members that a member may bring, if the rules say nothing: with none he could not use a second device.
const GUESTS: u8 = 1;
/// Copies that are to be of everything, if the rules say nothing.
const REPLICAS: u8 = 3;
/// Hours after which a member who is away no longer counts as somebody who holds something, if the rules say nothing.
const AWAY_H: u32 = 24;
/// Before what a machine signs to say whose it is.
const CLAIM_DOMAIN: &[u8] = b"timebus.v1 community machine\0";
/// What the grants of members for a place of their own are called.
const MEMBER: &str = "member";

/// Who writes on the board of a community.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Board {
    /// Every member.
    #[default]
    Members,
    /// Organizers alone.
    Organizers,
}

/// What holds in a community, as its organizers say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Says that it is one; always `community`.
    pub kind: String,
    /// What it is called.
    pub title: String,
    /// What it is for.
    #[serde(default)]
    pub about: String,
    /// Who writes on its board, of those who are let in from now on.
    #[serde(default)]
    pub board: Board,
    /// How many levels of members a new member may bring; his other devices are the first of them.
    #[serde(default = "guests")]
    pub guests: u8,
    /// How many members who offered storage are to hold everything.
    #[serde(default = "replicas")]
    pub replicas: u8,
    /// Hours after which one who is away does not count any more.
    #[serde(default = "away_h")]
    pub away_h: u32,
    /// First nodes of its DHT, as `host:port`; none if it has no DHT.
    #[serde(default)]
    pub dht: Vec<String>,
}

fn guests() -> u8 {
    GUESTS
}

fn replicas() -> u8 {
    REPLICAS
}

fn away_h() -> u32 {
    AWAY_H
}

/// What is at fault with rules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// Too long, empty, or of characters that are not to be seen.
    #[error("a title has 1 to {TITLE_BYTES_MAX} bytes, all of them to be seen; a description {ABOUT_BYTES_MAX} at most")]
    Text,
    /// Too many.
    #[error("there can be 1 to {REPLICAS_MAX} copies, not {0}")]
    Replicas(u8),
    /// Too many.
    #[error("{DEPTH_MAX} levels of guests at most")]
    Guests,
    /// None.
    #[error("somebody is away after an hour at least")]
    Away,
    /// No address, or too many.
    #[error("a DHT has up to {} first nodes, each as host:port", dht::FIRST_MAX)]
    Dht,
}

impl Rules {
    /// Those of a new community.
    #[must_use]
    pub fn new(title: &str) -> Self {
        let (about, board) = Default::default();
        Self {
            kind: "community".to_owned(),
            title: title.to_owned(),
            about,
            board,
            guests: GUESTS,
            replicas: REPLICAS,
            away_h: AWAY_H,
            dht: Vec::new(),
        }
    }

    /// Whether they can hold.
    ///
    /// # Errors
    ///
    /// [`RulesError`].
    pub fn check(&self) -> Result<(), RulesError> {
        if !is_name(&self.title, TITLE_BYTES_MAX) || self.about.len() > ABOUT_BYTES_MAX {
            return Err(RulesError::Text);
        }
        if self.replicas == 0 || self.replicas > REPLICAS_MAX {
            return Err(RulesError::Replicas(self.replicas));
        }
        if self.guests > DEPTH_MAX {
            return Err(RulesError::Guests);
        }
        let is_address = |text: &String| {
            text.len() <= ADDRESS_BYTES_MAX && text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if self.dht.len() > dht::FIRST_MAX || !self.dht.iter().all(is_address) {
            return Err(RulesError::Dht);
        }
        if self.away_h == 0 { Err(RulesError::Away) } else { Ok(()) }
    }

    /// Milliseconds after which a machine that holds something says again that it is there.
    #[must_use]
    pub fn beat_ms(&self) -> u64 {
        u64::from(self.away_h) * 3_600_000 / 4
    }

    /// The rules of a space; `None` if it is no community, as far as is known here, or if what it says cannot hold.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn of(store: &Store, rows: &Committed, space: Space) -> Result<Option<Self>, StorageError> {
        let rules: Option<Self> = value(store, rows, space, &path(&["rules"]))?.and_then(|rules| serde_json::from_value(rules).ok());
        Ok(rules.filter(|rules| rules.kind == "community" && rules.check().is_ok()))
    }
}

/// Refuses what would leave a community without rules that hold: nobody could use it any more. What edits a part of them in
/// another way than by a value is not looked at.
///
/// # Errors
///
/// A problem that says what does it.
pub(crate) fn check_rules(store: &Store, request: &Request) -> Result<(), Problem> {
    let at = path(&["rules"]);
    let (place, Some(space)) = (&request.path, request.space) else { return Ok(()) };
    if space.is_own() || !(place.contains(&at) || at.contains(place)) {
        return Ok(());
    }
    let rows = store.snapshot();
    let now = Rules::of(store, &rows, space).map_err(|error| storage_problem(&error))?;
    let Some(now) = now else { return Ok(()) };
    let part = |value: &Json| {
        let mut value = crate::sys::to_serde(value);
        for segment in place.segments().iter().skip(at.segments().len()).rev() {
            value = serde_json::json!({ segment.to_string(): value });
        }
        value
    };
    let mut rules = serde_json::to_value(now).unwrap_or_default();
    let below = place.segments().len() > at.segments().len();
    match &request.action {
        Action::Put(value) if place.is_root() => rules = crate::sys::to_serde(value)["rules"].take(),
        Action::Put(value) if below => merge(&mut rules, part(value)),
        Action::Put(value) => rules = crate::sys::to_serde(value),
        Action::Merge(patch) if place.is_root() => merge(&mut rules, crate::sys::to_serde(patch)["rules"].take()),
        Action::Merge(patch) => merge(&mut rules, part(patch)),
        Action::Delete if below => merge(&mut rules, part(&Json::Null)),
        Action::Delete | Action::Move { .. } | Action::PutText { .. } | Action::PutValue(_) => rules = Serde::Null,
        _ => return Ok(()),
    }
    let flaw = match serde_json::from_value::<Rules>(rules) {
        Ok(rules) if rules.kind != "community" => "their kind is \"community\"".to_owned(),
        Ok(rules) => match rules.check() {
            Ok(()) => return Ok(()),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    Err(Problem::new(StatusCode::CONFLICT, "rules", "a community has no such rules", format!("{flaw}; nothing was written"))
        .with_fix("`timebus community set` changes its title, about and rules"))
}

/// Who organizes a community, in words, and its title; `None` if it is none.
pub(crate) fn organizers(store: &Store, space: Space) -> Option<(String, String)> {
    let rows = store.snapshot();
    let rules = Rules::of(store, &rows, space).ok()??;
    let all = members(store, &rows, space).ok()?;
    let organizers: Vec<&str> = all.iter().filter(|member| member.is_organizer).map(|member| member.name.as_str()).take(3).collect();
    let who = if organizers.is_empty() { "an organizer".to_owned() } else { organizers.join(" or ") };
    Some((who, rules.title))
}

/// What a member does who may not write at a path of a community; `None` if it is none.
pub(crate) fn whom_to_ask(store: &Store, space: Space, path: &Path) -> Option<String> {
    let (who, title) = organizers(store, space)?;
    let device = store.device();
    Some(format!("ask {who}, who organizes {title:?}, for `timebus grant @{}{path} {device} --can write`", space.key))
}

/// Merges a patch (RFC 7396) of members into a value; of something else that is no patch, it takes its place.
fn merge(value: &mut Serde, patch: Serde) {
    let (Some(members), Serde::Object(patch)) = (value.as_object_mut(), &patch) else {
        if !patch.is_null() {
            *value = patch;
        }
        return;
    };
    for (name, new) in patch {
        match new {
            Serde::Null => drop(members.remove(name)),
            new => drop(members.insert(name.clone(), new.clone())),
        }
    }
}

/// Whether a text can be shown as a name, also within a command in backticks.
#[must_use]
pub fn is_name(text: &str, bytes_max: usize) -> bool {
    !text.trim().is_empty() && text.len() <= bytes_max && !text.chars().any(|letter| letter == '`' || crate::words::is_unseen(letter))
}

/// What the owner of this peer is in a community.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The name that he carries there.
    pub name: String,
    /// Bytes that this peer holds for others there.
    #[serde(default)]
    pub stores: u64,
    /// Whether everybody who hears where this peer is may hear that it is in there.
    #[serde(default)]
    pub told: bool,
    /// How this peer takes part in its DHT; not at all if nothing is said.
    #[serde(default)]
    pub dht: Option<dht::Part>,
    /// Whether the name is still to be said there.
    #[serde(default)]
    pub is_new: bool,
}

/// What this peer held for a community goes to others, since it holds nothing there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Bytes that stay here at most until others have them.
    pub bytes: u64,
    /// When it ends in any case; Unix milliseconds.
    pub until_ms: u64,
    /// Whether the owner leaves when it ends.
    pub leaves: bool,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where what he says of himself is.
    pub place: Path,
    /// The keys of his devices, as they came.
    pub keys: Vec<PublicKey>,
    /// The name that he carries there; if he says none, what his first key is called.
    pub name: String,
    /// Whether he may do everything there.
    pub is_organizer: bool,
    /// Since when, as whoever let him in says; Unix milliseconds.
    pub since_ms: u64,
    /// Who let him in; none for the first.
    pub by: Option<PublicKey>,
    /// His machines that take part.
    pub machines: Vec<Machine>,
}

/// A machine of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its node key.
    pub node: PublicKey,
    /// The member it counts for: the one whom an organizer let in. Those whom he brought count with him, or he could bring as
    /// many as he likes to have all copies.
    pub of: PublicKey,
    /// Bytes that it holds for others.
    pub stores: u64,
    /// When it said so last, if it holds anything; Unix milliseconds, as it says.
    pub seen_ms: u64,
    /// Spaces of which it gives nothing to others: a copy there would be nobody's.
    pub keeps_back: BTreeSet<PublicKey>,
    /// What other machines could not show it that they say they hold.
    pub unshown: BTreeSet<Unshown>,
}

/// A machine that could not show a file that it says it holds; with none it is so many that none of them counts.
pub type Unshown = (PublicKey, Option<BlobHash>);

/// A path of names that are fit for one.
fn path(names: &[&str]) -> Path {
    let segments = names.iter().map(|name| Segment::name(name).expect("a short name without slashes"));
    Path::new(segments.collect()).expect("a few short names")
}

/// A path below the place of a member. Those are short, so it is one.
fn below(place: &Path, names: &[&str]) -> Path {
    names.iter().fold(place.clone(), |at, name| {
        let segment = Segment::name(name).expect("a short name without slashes");
        at.join(segment).expect("a few short names more")
    })
}

/// A value as JSON.
pub(crate) fn value(store: &Store, rows: &Committed, space: Space, path: &Path) -> Result<Option<Serde>, StorageError> {
    let space = space.unmounted();
    Ok(store.read(rows, space, path)?.tree.to_json(&space.key).map(|json| crate::sys::to_serde(&json)))
}

/// The value at a path alone, whatever is below it: what others write may be of any size.
pub(crate) fn leaf(rows: &Committed, space: Space, path: &Path) -> Result<Option<Serde>, StorageError> {
    let t_key = node_key(space.unmounted().main(), &path.key());
    let winner = Node::load(rows, &t_key)?.winner(rows, &t_key)?;
    Ok(winner.map(|write| crate::sys::to_serde(&value_json(&write.value, &space.key))))
}

/// What a device has from another one of its owner is for the same place: the grant that this one has itself.
fn handed_on_from<'a>(rights: &'a Rights, held: &'a Held) -> &'a Held {
    let mut first = held;
    while first.grant.label.starts_with("device:")
        && let Some(parent) = first.parent.and_then(|parent| rights.grant(&parent))
    {
        first = parent;
    }
    first
}

/// The same, also of what was given instead of a grant whose holder is no device of the same member any more.
fn first_of<'a>(rights: &'a Rights, held: &'a Held) -> &'a Held {
    let mut first = handed_on_from(rights, held);
    while let Some((_, old)) = crate::devices::instead::before(rights, first) {
        first = handed_on_from(rights, old);
    }
    first
}

/// Who calls the holder of a grant a device of his, if somebody does.
fn claimant(rights: &Rights, held: &Held) -> Option<PublicKey> {
    match handed_on_from(rights, held).grant.audience {
        Audience::Key(key) if crate::devices::is_handed_on(held) => Some(key),
        _ => None,
    }
}

/// Who calls the holder of a grant a device of his, or else gave it to him.
fn giver(rights: &Rights, held: &Held) -> PublicKey {
    claimant(rights, held).unwrap_or(held.author)
}

/// Where the holder of a grant says what he says of himself, if it makes him a member.
fn place_of(rights: &Rights, held: &Held) -> Option<Path> {
    let first = first_of(rights, held);
    let Audience::Key(first_key) = first.grant.audience else { return None };
    let scope = first.scope();
    let writes = first.grant.actions.contains(Actions(Actions::SYNC.0 | Actions::WRITE.0)) && scope.deep;
    if !writes {
        return None;
    }
    if scope.segments.is_empty() {
        return first.grant.actions.contains(Actions::GRANT).then(|| path(&["members", &first_key.to_string()]));
    }
    let names = scope.segments.iter().map(|segment| match segment {
        ScopeSegment::Name(name) => Some(&**name),
        ScopeSegment::Author => None,
    });
    let names: Vec<&str> = names.collect::<Option<_>>()?;
    is_place(&names, &first_key).then(|| path(&names))
}

/// Whether these are the names of the place of a key. Grants are written by others, and nobody is a member in the place of
/// somebody else.
fn is_place(names: &[&str], key: &PublicKey) -> bool {
    let is_level = |(at, level): (usize, &[&str])| match level {
        [word, key] => *word == if at == 0 { "members" } else { "brought" } && key.parse::<PublicKey>().is_ok(),
        _ => false,
    };
    let levels = names.chunks(2);
    levels.len() > 0
        && levels.len() <= usize::from(DEPTH_MAX) + 1
        && levels.enumerate().all(is_level)
        && names.last().is_some_and(|last| *last == key.to_string())
}

/// The place of a key. What organizers gave it for itself goes before all that members say of it: they give places to whom they like,
/// and call whom they like a device of theirs, also those who let them in. Of members the key itself decides, by in whose name it
/// signs. As long as it has said nothing the one nearest to the root is believed, and of equals who call it their device none: else
/// whoever says it last, often enough for a grant with a smaller id, would have the device of somebody else. Of equals who brought it
/// that one is believed of whom the others knew. Who says that he knew of nobody is not told from who knew of nobody, so between these
/// the id decides until the key has said something, which its peer does as soon as it is let in. Who was brought and became an
/// organizer stays where he was.
fn place(store: &Store, rights: &Rights, space: &PublicKey, key: &PublicKey) -> Option<Path> {
    let is_handed_on = |held: &Held| crate::devices::is_handed_on(held);
    let live = rights.grants_for(key).filter(|(_, held)| held.is_live());
    let all: Vec<(GrantId, &Held, Path)> = live.filter_map(|(id, held)| Some((id, held, place_of(rights, held)?))).collect();
    // Whose device this one is, is known here.
    let was_device = |other: &PublicKey| store.rights(&store.space()).is_some_and(|rights| rights.was_device(other));
    let is_his = |first: &PublicKey| first == key || was_device(first);
    let is_told = |held: &Held| *key != store.device() || matches!(first_of(rights, held).grant.audience, Audience::Key(first) if is_his(&first));
    let all = all.into_iter().filter(|(_, held, _)| is_told(held));
    let (mut by_members, own): (Vec<_>, Vec<_>) = all.partition(|(_, held, place)| is_handed_on(held) || place.segments().len() > 2);
    let brought: Vec<GrantId> = by_members.iter().filter(|(_, held, _)| !is_handed_on(held)).map(|(id, ..)| *id).collect();
    let is_first = |id: &GrantId, held: &Held| !held.grant.scope.segments.is_empty() || !rights.knew_any(id, &brought);
    if let Some((.., place)) = own.iter().find(|(id, held, _)| is_first(id, held)) {
        return Some(place.clone());
    }
    let rank = |held: &Held, place: &Path| (held.chain, is_handed_on(held), place.segments().len());
    // They are in the order in which they came.
    let firsts = by_members.iter().map(|(id, held, place)| (*id, (rank(held, place), place.clone()))).collect();
    by_members.sort_by_cached_key(|(id, held, place)| (rank(held, place), *id));
    if let Some(earliest) = earliest(rights, firsts)
        && let Some(at) = by_members.iter().position(|(id, ..)| *id == earliest)
    {
        by_members[..=at].rotate_right(1);
    }
    let (_, first, nearest) = by_members.first()?;
    if by_members.iter().all(|(.., place)| place == nearest) {
        return Some(nearest.clone());
    }
    let says = says_of_itself(store, rights, space, key).unwrap_or_default();
    if let Some((.., place)) = by_members.iter().find(|(_, held, _)| says.contains(&giver(rights, held))) {
        return Some(place.clone());
    }
    let is_equal = |(_, held, place): &&(GrantId, &Held, Path)| held.chain == first.chain && is_handed_on(held) && place != nearest;
    (!is_handed_on(first) || !by_members.iter().any(|it| is_equal(&it))).then(|| nearest.clone())
}

/// Of the grants with the smallest rank that are for different places, each the first one for its place, the one whose giver knew of none
/// of the others.
fn earliest<R: Ord + Copy>(rights: &Rights, grants: Vec<(GrantId, (R, Path))>) -> Option<GrantId> {
    let least = grants.iter().map(|(_, (rank, _))| *rank).min()?;
    let mut firsts: Vec<(GrantId, Path)> = Vec::new();
    for (id, (_, place)) in grants.into_iter().filter(|(_, (rank, _))| *rank == least) {
        if !firsts.iter().any(|(_, known)| *known == place) {
            firsts.push((id, place));
        }
    }
    firsts.sort_unstable_by_key(|(id, _)| *id);
    let others = |id: &GrantId| firsts.iter().map(|(other, _)| *other).filter(|other| other != id).collect::<Vec<_>>();
    if firsts.len() < 2 { None } else { firsts.iter().map(|(id, _)| *id).find(|id| !rights.knew_any(id, &others(id))) }
}

/// In whose name a key signs, by what it signed last: whose device it is, or who let it in. Of this device the first is known.
fn says_of_itself(store: &Store, rights: &Rights, space: &PublicKey, key: &PublicKey) -> Result<HashSet<PublicKey>, StorageError> {
    let signs = signs_by(store, space, key)?;
    let mut says: HashSet<PublicKey> = signs.iter().filter_map(|cap| rights.grant(cap)).map(|held| giver(rights, held)).collect();
    if *key == store.device() {
        says.extend(store.rights(&store.space()).iter().flat_map(|own| own.devices()));
    }
    Ok(says)
}

/// The grants in whose name a key signed what it wrote last.
fn signs_by(store: &Store, space: &PublicKey, key: &PublicKey) -> Result<HashSet<GrantId>, StorageError> {
    let (rows, mut signs) = (store.snapshot(), HashSet::new());
    let Some(held) = store.held(space) else { return Ok(signs) };
    for t in std::iter::once(held.auth()).chain(store.values(held).into_iter().map(|(t, _)| t)) {
        for tip in timebus_store::tips::tips_of(&*rows, t, key)? {
            signs.extend(timebus_store::summary::summary(&*rows, t, tip.a)?.cap);
        }
    }
    Ok(signs)
}

/// Where this device says what it says of itself in a community; `None` if it is no member.
#[must_use]
pub fn own_place(store: &Store, space: &PublicKey) -> Option<Path> {
    place(store, &*store.rights(space)?, space, &store.device())
}

/// Whether a key may do everything in a community.
#[must_use]
pub fn is_organizer(rights: &Rights, key: &PublicKey) -> bool {
    let all = |held: &Held| held.grant.actions.contains(Actions(Actions::WRITE.0 | Actions::GRANT.0)) && held.scope() == Scope::everything();
    rights.grants_for(key).any(|(_, held)| held.is_live() && held.grant.audience == Audience::Key(*key) && all(held))
}

/// The part of the board that a grant is for.
fn board_of(held: &Held) -> Option<Path> {
    let scope = held.scope();
    let names: Option<Vec<&str>> = scope.segments.iter().map(|one| if let ScopeSegment::Name(name) = one { Some(&**name) } else { None }).collect();
    let names = names?;
    let (first, keys) = names.split_first()?;
    let is_one = *first == "board" && keys.len() <= usize::from(DEPTH_MAX) + 1 && keys.iter().all(|key| key.parse::<PublicKey>().is_ok());
    (is_one && scope.deep).then(|| path(&names))
}

/// The part of the board of whoever has a place: it is called by the same keys.
fn part_of(place: &Path) -> Path {
    let keys = place.segments().iter().skip(1).step_by(2).map(ToString::to_string);
    let names: Vec<String> = std::iter::once("board".to_owned()).chain(keys).collect();
    path(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// All parts of the board that somebody has, or had; the whole board first.
pub(crate) fn boards(rights: &Rights) -> std::collections::BTreeSet<Path> {
    let parts = rights.grants().filter_map(|(_, held)| board_of(held).or_else(|| Some(part_of(&place_of(rights, held)?))));
    parts.chain([path(&["board"])]).collect()
}

/// Where this device writes on the board: all of it is of who organizes. `None` if it is no member's.
pub(crate) fn own_board(store: &Store, space: &PublicKey) -> Option<Path> {
    if is_organizer(&*store.rights(space)?, &store.device()) { Some(path(&["board"])) } else { Some(part_of(&own_place(store, space)?)) }
}

/// What whoever takes an invite to a community is given: a part of the board, and a place of his own, so that no member changes
/// what another one wrote. `grant` says for whom, and what holds for both. `None` if it is no community, or if this device is no member.
pub(crate) fn membership(store: &Store, space: &PublicKey, grant: &Grant) -> Option<Vec<Grant>> {
    let held = store.held(space)?;
    let rules = Rules::of(store, &store.snapshot(), held).ok()??;
    let rights = store.rights(space)?;
    let Audience::Key(newcomer) = grant.audience else { return None };
    let own = store.device();
    let at = match is_organizer(&rights, &own) {
        true => path(&["members", &newcomer.to_string()]),
        false => below(&own_place(store, space)?, &["brought", &newcomer.to_string()]),
    };
    let scope = |path: &Path| timebus_store::auth::mounts::scope_of(path);
    let mut slot = scope(&own_board(store, space)?)?;
    slot.segments.push(ScopeSegment::Author);
    let writes = Actions(grant.actions.0 | Actions::WRITE.0);
    let on_board = if rules.board == Board::Members { writes } else { grant.actions };
    let timelines = Timelines::Main;
    Some(vec![
        Grant { scope: slot, actions: on_board, timelines: timelines.clone(), ..grant.clone() },
        Grant { scope: scope(&at)?, actions: writes, timelines, label: MEMBER.into(), ..grant.clone() },
    ])
}

/// What a grant is counted with that a member gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Shared {
    /// The devices of whoever has a place.
    Devices(Path),
    /// Those whom he brought.
    Brought(Path),
    /// What these handed on, of whoever has a place or below him.
    Below(Path),
}

/// What a grant for a place is counted with, and how many of that are looked at; nothing if an organizer gave it.
fn counted_with(held: &Held, place: &Path) -> Vec<(Shared, usize)> {
    let above = |levels: usize| Path::new(place.segments().iter().take(2 * levels).cloned().collect()).unwrap_or_default();
    match (place.segments().len() / 2, crate::devices::is_handed_on(held)) {
        (0 | 1, false) => Vec::new(),
        (0 | 1, true) => vec![(Shared::Devices(above(1)), BROUGHT_MAX)],
        (2, false) => vec![(Shared::Brought(above(1)), BROUGHT_MAX)],
        _ => vec![(Shared::Below(above(2)), BELOW_MAX), (Shared::Below(above(1)), BROUGHT_MAX)],
    }
}

/// The members of a community, as they came; those who left are none. Whoever organizers let in is a member whatever others say, and
/// keeps nobody out by how many he brings himself.
///
/// # Errors
///
/// [`StorageError`].
pub fn members(store: &Store, rows: &Committed, space: Space) -> Result<Vec<Member>, StorageError> {
    let Some(rights) = store.rights(&space.key) else { return Ok(Vec::new()) };
    // Beside what members gave stands with what it is counted.
    type Given<'a> = (&'a Held, PublicKey, Vec<(Shared, usize)>);
    let mut keys: Vec<Given<'_>> = rights
        .grants()
        .filter(|(_, held)| held.is_live())
        .filter_map(|(_, held)| {
            let Audience::Key(key) = held.grant.audience else { return None };
            Some((held, key, counted_with(held, &place_of(&rights, held)?)))
        })
        .collect();
    keys.sort_unstable_by_key(|(held, key, counted)| (!counted.is_empty(), held.time_ms, *key));
    let mut counts: std::collections::HashMap<Shared, usize> = std::collections::HashMap::new();
    let mut members: Vec<Member> = Vec::new();
    let mut places: std::collections::HashMap<Path, usize> = std::collections::HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for (held, key, counted) in keys {
        let (since_ms, by) = (held.time_ms, held.parent.map(|_| held.author));
        if counted.iter().any(|(with, max)| counts.get(with).is_some_and(|count| count >= max)) {
            continue;
        }
        counted.into_iter().for_each(|(with, _)| *counts.entry(with).or_default() += 1);
        if !seen.insert(key) {
            continue;
        }
        let Some(place) = place(store, &rights, &space.key, &key) else { continue };
        if let Some(at) = places.get(&place) {
            members[*at].keys.push(key);
            continue;
        }
        if members.len() >= MEMBERS_MAX {
            break;
        }
        places.insert(place.clone(), members.len());
        let is_organizer = is_organizer(&rights, &key);
        members.push(Member { place, keys: vec![key], name: String::new(), is_organizer, since_ms, by, machines: Vec::new() });
    }
    members.sort_by_key(|member| member.since_ms);
    let mut here = Vec::with_capacity(members.len());
    for mut member in members {
        if leaf(rows, space, &below(&member.place, &["left"]))? == Some(Serde::Bool(true)) {
            continue;
        }
        let name = leaf(rows, space, &below(&member.place, &["name"]))?;
        let name = name.as_ref().and_then(Serde::as_str).filter(|name| is_name(name, NAME_BYTES_MAX));
        member.name = name.map_or_else(|| human_name(&member.keys[0]), str::to_owned);
        member.machines = machines(&rights, rows, space, &member.place)?;
        here.push(member);
    }
    settle_claims(rows, space, &mut here)?;
    Ok(here)
}

/// What a machine signs to say that it is of the member with a place.
fn claim(space: &PublicKey, place: &Path) -> Vec<u8> {
    [CLAIM_DOMAIN, space.as_bytes(), place.to_string().as_bytes()].concat()
}

/// The machines of members that signed that they are: anybody can name a machine of somebody else, and what is told to members about
/// each other is no business of his.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn signed_nodes(rows: &Committed, space: Space, members: &[Member], known: &mut Signed) -> Result<Vec<PublicKey>, StorageError> {
    let before = std::mem::take(known);
    let mut nodes = Vec::new();
    for member in members {
        for Machine { node, .. } in &member.machines {
            let Some(proof) = leaf(rows, space, &below(&member.place, &["nodes", &node.to_string(), "proof"]))? else { continue };
            let entry = (member.place.clone(), *node, proof.to_string());
            let is_good = match before.get(&entry) {
                Some(is_good) => *is_good,
                None => is_signed(rows, space, &member.place, node)?,
            };
            nodes.extend(is_good.then_some(*node));
            known.insert(entry, is_good);
        }
    }
    Ok(nodes)
}

/// Proofs that were looked at, and whether they are good: a machine of a member, by his place.
pub(crate) type Signed = std::collections::HashMap<(Path, PublicKey, String), bool>;

/// Whether a machine signed that it is of the member with a place.
fn is_signed(rows: &Committed, space: Space, place: &Path, node: &PublicKey) -> Result<bool, StorageError> {
    let proof = leaf(rows, space, &below(place, &["nodes", &node.to_string(), "proof"]))?;
    let bytes = proof.as_ref().and_then(Serde::as_str).and_then(|proof| z32::decode(proof).ok());
    let signature = bytes.and_then(|bytes| Some(Signature::from_bytes(bytes.try_into().ok()?)));
    Ok(signature.is_some_and(|signature| node.verify(&claim(&space.key, place), &signature).is_ok()))
}

/// Of several members who name one machine, that one has it for whom it signed: or anybody could say of the machines of others
/// that they have no room.
fn settle_claims(rows: &Committed, space: Space, members: &mut [Member]) -> Result<(), StorageError> {
    let (mut once, mut more) = (HashSet::new(), HashSet::new());
    for machine in members.iter().flat_map(|member| &member.machines) {
        if !once.insert(machine.node) {
            more.insert(machine.node);
        }
    }
    for member in members {
        for machine in std::mem::take(&mut member.machines) {
            if !more.contains(&machine.node) || is_signed(rows, space, &member.place, &machine.node)? {
                member.machines.push(machine);
            }
        }
    }
    Ok(())
}

/// What a machine says that others could not show it: `NODE/HASH` of a file, `NODE` of many.
fn read_unshown(text: &str) -> BTreeSet<Unshown> {
    let one = |text: &str| match text.split_once('/') {
        Some((node, hash)) => Some((node.parse().ok()?, Some(BlobHash::parse(hash)?))),
        None => Some((text.parse().ok()?, None)),
    };
    text.split(' ').take(UNSHOWN_MAX).filter_map(one).collect()
}

/// The same as text.
fn unshown_text(unshown: &BTreeSet<Unshown>) -> String {
    let one = |(node, hash): &Unshown| hash.map_or_else(|| node.to_string(), |hash| format!("{node}/{hash}"));
    unshown.iter().take(UNSHOWN_MAX).map(one).collect::<Vec<_>>().join(" ")
}

/// The machines that a member says he takes part with: if these are many, those that said so last. Those that offer nothing take no place
/// of those that do.
fn machines(rights: &Rights, rows: &Committed, space: Space, place: &Path) -> Result<Vec<Machine>, StorageError> {
    let (mut storing, mut others): (Vec<_>, Vec<_>) = named_machines(rights, rows, space, place)?.into_iter().partition(|machine| machine.stores > 0);
    storing.truncate(NODES_MAX);
    others.truncate(NODES_MAX);
    storing.append(&mut others);
    Ok(storing)
}

/// Machines of a member that offer something and do not count, since as many others of his said later that they are there.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn uncounted(store: &Store, rows: &Committed, space: Space, place: &Path) -> Result<Vec<PublicKey>, StorageError> {
    let Some(rights) = store.rights(&space.key) else { return Ok(Vec::new()) };
    let storing = named_machines(&rights, rows, space.unmounted(), place)?.into_iter().filter(|machine| machine.stores > 0);
    Ok(storing.skip(NODES_MAX).map(|machine| machine.node).collect())
}

/// All machines that a member says he takes part with, those first that said so last. What a device said that may do nothing there any
/// more is no machine of his.
fn named_machines(rights: &Rights, rows: &Committed, space: Space, place: &Path) -> Result<Vec<Machine>, StorageError> {
    let (at, t) = (below(place, &["nodes"]), space.unmounted().main());
    let Some(of) = place.segments().get(1).and_then(|segment| segment.to_string().parse().ok()) else { return Ok(Vec::new()) };
    let mut machines = Vec::new();
    for name in timebus_store::tree::child_names(rows, t, &at).take(NODES_NAMED_MAX) {
        let name = name?;
        let Ok(node) = name.parse::<PublicKey>() else { continue };
        let number = |what: &str| Ok::<_, StorageError>(leaf(rows, space, &below(&at, &[&name, what]))?.and_then(|number| number.as_u64()));
        let Some(stores) = number("stores")? else { continue };
        let t_key = node_key(t, &below(&at, &[&name, "stores"]).key());
        let Some(write) = Node::load(rows, &t_key)?.winner(rows, &t_key)? else { continue };
        let said = summary(rows, t, write.a)?;
        let was_his = |(_, held): &(_, &Held)| held.grant.audience == Audience::Key(said.author);
        let mut grants = rights.grants_for(&said.author).filter(was_his).peekable();
        if grants.peek().is_some() && !grants.any(|(_, held)| held.is_live()) {
            continue;
        }
        let seen_ms = number("seen_ms")?.unwrap_or(0);
        let keeps_back = leaf(rows, space, &below(&at, &[&name, "keeps_back"]))?;
        let keeps_back = keeps_back.as_ref().and_then(Serde::as_str).unwrap_or_default().split(' ').take(KEEPS_BACK_MAX);
        let keeps_back = keeps_back.filter_map(|space| space.parse().ok()).collect();
        let unshown = leaf(rows, space, &below(&at, &[&name, "unshown"]))?;
        let unshown = unshown.as_ref().and_then(Serde::as_str).map(read_unshown).unwrap_or_default();
        machines.push((Reverse(seen_ms.max(said.time_ms)), Machine { node, of, stores, seen_ms, keeps_back, unshown }));
    }
    machines.sort_by_key(|(said_ms, machine)| (*said_ms, machine.node));
    Ok(machines.into_iter().map(|(_, machine)| machine).collect())
}

/// The grants of a member that an organizer takes back to remove him.
pub(crate) fn grants_of(rights: &Rights, member: &Member) -> Vec<GrantId> {
    let is_his = |held: &Held| matches!(held.grant.audience, Audience::Key(key) if member.keys.contains(&key));
    let mut grants: Vec<GrantId> = rights.grants().filter(|(_, held)| held.is_live() && is_his(held)).map(|(id, _)| *id).collect();
    grants.sort_unstable();
    grants
}

/// What makes a member an organizer, handed on from another one.
pub(crate) fn promotion(key: &PublicKey, depth: u8) -> Grant {
    Grant { depth, label: "organizer".into(), actions: ORGANIZER, ..timebus_store::founding::organizer(key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        timebus_identity::SecretKey::from_seed([number; 32]).public()
    }

    #[test]
    fn a_place_is_for_one_key_and_not_too_far_down() {
        let (one, two) = (key(1).to_string(), key(2).to_string());
        let is = |names: &[&str]| is_place(names, &key(1));
        assert!(is(&["members", &one]) && is(&["members", &two, "brought", &one]));
        assert!(!is(&["members", &two]) && !is(&["members", &one, "brought", &two]), "of somebody else");
        assert!(!is(&[]) && !is(&["members"]) && !is(&["board", &one]) && !is(&["members", "x", "brought", &one]));
        assert!(!is(&["members", &two, "name", &one]) && !is(&["members", &one, "name"]));
        let deep: Vec<&str> = std::iter::once("members").chain((0..4).flat_map(|_| [two.as_str(), "brought"])).chain([one.as_str()]).collect();
        assert!(!is(&deep) && is(&[&deep[..6], &deep[8..]].concat()));
    }

    /// The ninth machine of a member that offers something would not count, and nothing said so.
    #[tokio::test]
    async fn of_more_machines_than_count_it_is_known_which_do_not() {
        use crate::peer::PeerConfig;

        let home = tempfile::tempdir().expect("a folder");
        let peer = crate::peer::Peer::new(crate::whose::tests::open(home.path()), timebus_identity::Token::generate(), PeerConfig::default());
        let (store, own) = (peer.store(), peer.store().own());
        let rules = serde_json::to_value(Rules::new("choir")).expect("JSON");
        keeping::write(&peer, own, path(&["rules"]), Action::Put, &rules).await.expect("writes");
        let place = own_place(store, &own.key).expect("a place");
        let now_ms = crate::who::now_ms();
        for number in 1..=10u8 {
            // The second one offers nothing.
            let machine = serde_json::json!({"stores": if number == 2 { 0 } else { 5 }, "seen_ms": now_ms + 60_000 * u64::from(number)});
            keeping::write(&peer, own, below(&place, &["nodes", &key(number).to_string()]), Action::Put, &machine).await.expect("writes");
            let over = uncounted(store, &store.snapshot(), own, &place).expect("reads");
            assert_eq!(over, if number < 10 { vec![] } else { vec![key(1)] }, "{number}");
        }
        let counted = members(store, &store.snapshot(), own).expect("reads").remove(0).machines;
        assert_eq!((counted.len(), counted[0].node, counted[NODES_MAX].node), (NODES_MAX + 1, key(10), key(2)));
    }

    #[test]
    fn what_machines_could_not_show_is_read_as_it_is_written_and_no_more_than_there_is_room_for() {
        let all: BTreeSet<Unshown> = (0..40).map(|number| (key(number), (number % 2 == 0).then(|| BlobHash::from_bytes([number; 32])))).collect();
        let read = read_unshown(&unshown_text(&all));
        assert!(read.len() == UNSHOWN_MAX && read.is_subset(&all));
        assert!(read_unshown("").is_empty() && read_unshown("a/b c / x").is_empty());
        assert!(read_unshown(&format!("{}/x", key(1))).is_empty());
    }

    #[test]
    fn rules_that_cannot_hold_are_refused() {
        let is_refused = |change: &dyn Fn(&mut Rules)| {
            let mut rules = Rules::new("choir");
            change(&mut rules);
            rules.check().is_err()
        };
        assert!(!is_refused(&|_| {}));
        assert!(is_refused(&|rules| rules.title = " ".to_owned()) && is_refused(&|rules| rules.title = "a\nb".to_owned()));
        assert!(
            is_refused(&|rules| rules.title = "x".repeat(TITLE_BYTES_MAX + 1)) && is_refused(&|rules| rules.about = "x".repeat(ABOUT_BYTES_MAX + 1))
        );
        assert!(is_refused(&|rules| rules.replicas = 0) && is_refused(&|rules| rules.replicas = REPLICAS_MAX + 1));
        assert!(is_refused(&|rules| rules.guests = DEPTH_MAX + 1) && is_refused(&|rules| rules.away_h = 0));
        assert!(is_refused(&|rules| rules.dht = vec!["nowhere".to_owned()]) && !is_refused(&|rules| rules.dht = vec!["[::1]:6881".to_owned()]));
    }
}
