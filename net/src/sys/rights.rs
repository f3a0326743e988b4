//! The parts of `/.sys` about rights: giving and taking them, why somebody may or may not, and what is hidden.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value as Serde, json};
use timebus_identity::human_name;
use timebus_store::auth::{Held, Hidden, Rights};
use timebus_store::grant::{Actions, Audience, Grant, Scope, ScopeSegment, Timelines};
use timebus_store::ids::{ChangeId, GrantId, TimelineId};
use timebus_store::op::Op;
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use timebus_store::quarantine::{HIDDEN_MAX, HiddenChange};
use timebus_store::writer::Statement;

use crate::authority::Verb;
use crate::devices::instead;
use crate::peer::Peer;
use crate::people::{People, Person};
use crate::problem::Problem;
use crate::route::{bad_path, storage_problem, write_problem};
use crate::sys::network::{bad, find_space, read};
use crate::target::Query;
use crate::who::now_ms;
use crate::words::{action_words, day, moment, scope_words, short, size};

/// Hidden changes that an answer names; more are counted.
const NAMED_MAX: usize = 50;

/// Answers a part of `/.sys` about rights; `None` if it is no such part.
pub(crate) async fn answer(peer: &Peer, method: &Method, rest: &[&str], query: &Query, body: &Bytes) -> Option<Result<Serde, Problem>> {
    Some(match (method, rest) {
        (&Method::GET | &Method::HEAD, ["grants", path @ ..]) => grants(peer, path).await,
        (&Method::POST, ["grant"]) => grant(peer, body).await,
        (&Method::POST, ["revoke"]) => super::revoke::revoke(peer, body).await,
        (&Method::GET | &Method::HEAD, ["why", can, path @ ..]) => super::why::why(peer, can, path, query.who.as_deref()).await,
        (&Method::GET | &Method::HEAD, ["why-hidden", what @ ..]) => why_hidden(peer, what).await,
        (&Method::GET | &Method::HEAD, ["quarantine", path @ ..]) => quarantine(peer, path).await,
        (&Method::POST, ["quarantine", path @ ..]) => keep(peer, path, body).await,
        _ => return None,
    })
}

/// The space and path that segments name; the owner's names for spaces are known.
pub(super) async fn place(peer: &Peer, segments: &[&str]) -> Result<(Space, Path), Problem> {
    let name = segments.first().and_then(|first| first.strip_prefix('@')).filter(|name| !name.starts_with('@') && !name.contains('.'));
    let (key, rest) = match name {
        Some(name) => (find_space(peer, name).await?, &segments[1..]),
        None => (peer.space(), segments),
    };
    let path = Path::from_text_segments(rest.iter().copied()).map_err(|error| bad_path(&error))?;
    let space = peer.store().held(&key).ok_or_else(|| {
        crate::route::not_held(&key.to_string())
            .with_fix("what is granted in a space is known where it is: take an invite of its owner, or `timebus follow` him if you had one")
    })?;
    Ok((space, path))
}

pub(super) async fn place_of(peer: &Peer, path: &str) -> Result<(Space, Path), Problem> {
    let path = path.trim_matches('/');
    let segments: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    place(peer, &segments).await
}

pub(super) fn rights_of(peer: &Peer, space: Space) -> Result<std::sync::Arc<Rights>, Problem> {
    peer.store().rights(&space.key).ok_or_else(|| crate::route::not_held(&space.key.to_string()))
}

/// The scope of a path and all below it.
pub(super) fn scope_at(path: &Path) -> Result<Scope, Problem> {
    let names = path.segments().iter().map(|segment| match segment {
        Segment::Name(name) => Ok(ScopeSegment::Name(name.clone())),
        Segment::Element(_) => Err(bad(format!("rights are for paths of names; {path} leads into a list"))),
    });
    Ok(Scope { segments: names.collect::<Result<_, _>>()?, deep: true })
}

/// What one grant is, for people and programs.
pub(crate) fn describe(people: &People, rights: &Rights, id: &GrantId) -> Option<Serde> {
    let held = rights.grant(id)?;
    let grant = &held.grant;
    let who = people.audience(&grant.audience);
    let instead_of = instead::before(rights, held).map(|(id, old)| (id, old.grant.audience));
    let mut says = format!("{}{}", says(&who, grant, &held.scope()), reads_words(rights, grant, &held.scope()).unwrap_or_default());
    if let Some((_, Audience::Key(old))) = instead_of {
        says.push_str(&format!(", instead of {}, which is a device of his no more", human_name(&old)));
    }
    let key = match &grant.audience {
        Audience::Anyone => Serde::from("anyone"),
        Audience::Key(key) => Serde::from(key.to_string()),
    };
    let device = match &grant.audience {
        Audience::Anyone => Serde::Null,
        Audience::Key(key) => human_name(key).into(),
    };
    let ended = grant.not_after_ms > 0 && now_ms() > grant.not_after_ms;
    let hidden = rights.hidden_by(id).into_iter().filter(|hidden| !ended || !is_since(hidden, grant.not_after_ms));
    let mut why: Vec<Serde> = hidden.map(|hidden| hidden_words(people, &hidden).into()).collect();
    if ended {
        why.push(format!("it ended on {}", moment(grant.not_after_ms)).into());
    }
    Some(json!({
        "id": id.to_string(),
        "for": key,
        "device": device,
        "name": who,
        "can": action_words(grant.actions),
        "path": crate::words::scope_path(&held.scope()),
        "deep": grant.scope.deep,
        "bytes_max": grant.bytes_max,
        "not_after_ms": grant.not_after_ms,
        "depth": grant.depth,
        "label": &*grant.label,
        "instead_of": instead_of.map(|(id, _)| id.to_string()),
        "by": held.author.to_string(),
        "by_name": people.name(&held.author),
        "parent": held.parent.map(|parent| parent.to_string()),
        "time_ms": held.time_ms,
        "live": held.is_live(),
        "ended": ended,
        "why": why,
        "says": says,
    }))
}

/// A grant in words: "bob may read and write at and below /table, up to 50 MB, until 2026-12-01".
fn says(who: &str, grant: &Grant, scope: &Scope) -> String {
    let mut words = format!("{who} may {} {}", crate::words::join(&action_words(grant.actions)), scope_words(scope));
    if grant.bytes_max > 0 {
        words.push_str(&format!(", up to {} in all", size(grant.bytes_max)));
    }
    if grant.not_after_ms > 0 {
        words.push_str(&format!(", until {}", moment(grant.not_after_ms)));
    }
    if grant.actions.contains(Actions::GRANT) && grant.depth > 0 {
        words.push_str(&format!(", and hand that on {} deep", grant.depth));
    }
    words
}

/// Whether somebody reads a whole timeline by a grant, wherever else it is good.
fn reads_all(grant: &Grant) -> bool {
    grant.audience != Audience::Anyone && grant.actions.contains(Actions(Actions::SYNC.0 | Actions::READ.0))
}

/// What is read by a grant that names a path of it: what is read is a timeline and not a path.
fn reads_words(rights: &Rights, grant: &Grant, scope: &Scope) -> Option<String> {
    let only: Vec<String> = match &grant.timelines {
        Timelines::Only(ids) => rights.shown().filter(|mount| ids.contains(&mount.timeline)).map(|mount| mount.path.to_string()).collect(),
        _ => Vec::new(),
    };
    let what = match only.as_slice() {
        [] if grant.timelines != Timelines::Main || scope.segments.is_empty() => return None,
        [] => "all else that is not kept apart".to_owned(),
        [one] if *one == crate::words::scope_path(scope) => return None,
        all => format!("all of {}", crate::words::join(all)),
    };
    reads_all(grant).then(|| format!("; with that goes reading {what}"))
}

/// All grants at, above and below a path, and those by which it is read.
async fn grants(peer: &Peer, path: &[&str]) -> Result<Serde, Problem> {
    let (space, path) = place(peer, path).await?;
    let rights = rights_of(peer, space)?;
    let people = People::now(peer).await;
    let at = scope_at(&path)?;
    let (timeline, main) = (rights.timeline_of(&path), TimelineId::named(&space.key, "main"));
    let reads = |held: &Held| reads_all(&held.grant) && held.grant.timelines.contains(&timeline, &main);
    let mut all: Vec<(u64, GrantId)> =
        rights.grants().filter(|(_, held)| held.scope().common(&at).is_some() || reads(held)).map(|(id, held)| (held.time_ms, *id)).collect();
    all.sort_unstable();
    let mut all: Vec<Serde> = all.iter().filter_map(|(_, id)| describe(&people, &rights, id)).collect();
    name_devices(&mut all);
    Ok(json!({"space": space.key.to_string(), "path": path.to_string(), "grants": all, "root": rights.root().to_string()}))
}

/// Says which device each is for, where somebody has several: a right is for one.
fn name_devices(grants: &mut [Serde]) {
    let mut devices: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let part = |grant: &Serde, name: &str| grant[name].as_str().unwrap_or_default().to_owned();
    for grant in grants.iter() {
        devices.entry(part(grant, "name")).or_default().insert(part(grant, "for"));
    }
    for grant in grants {
        let (name, device) = (part(grant, "name"), part(grant, "device"));
        if devices[&name].len() > 1 && !device.is_empty() && device != name {
            let says = part(grant, "says");
            let rest = says.strip_prefix(&name).unwrap_or(&says);
            grant["says"] = format!("{name} (with {device}){rest}").into();
        }
    }
}

/// Grants that are named of those that are wider than a new one.
const WIDER_MAX: usize = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    who: String,
    #[serde(default)]
    path: String,
    can: String,
    #[serde(default)]
    bytes_max: u64,
    #[serde(default)]
    until_ms: u64,
    depth: Option<u8>,
    #[serde(default)]
    label: String,
    #[serde(default)]
    preview: bool,
}

async fn grant(peer: &Peer, body: &Bytes) -> Result<Serde, Problem> {
    let wanted: Wanted = read(body)?;
    let can = Verb::parse(&wanted.can).ok_or_else(|| bad(format!("{:?} is none of read, write, admin, moderate", wanted.can)))?;
    let (space, path) = place_of(peer, &wanted.path).await?;
    let rights = rights_of(peer, space)?;
    let people = People::now(peer).await;
    let person = super::why::whom(peer, &people, &rights, &wanted.who)?;
    check_not_own(&rights, space, &person)?;
    if wanted.until_ms > 0 && wanted.until_ms <= now_ms() {
        return Err(bad("that would have ended already"));
    }
    if wanted.label.len() > 64 {
        return Err(bad("a label has 64 bytes at most"));
    }
    if person.is_anyone && can != Verb::Read {
        return Err(bad("only reading can be granted to anyone; strangers leave notes in your inbox, and members are granted by name"));
    }
    if person.is_anyone && !space.is_own() && rights.device_grant(&peer.store().device()).is_none() {
        return Err(bad("only its owner opens something of a space to everybody; whom you let in you name"));
    }
    let main = TimelineId::named(&space.key, "main");
    let timeline = rights.timeline_of(&path);
    let timelines = if timeline == main { Timelines::Main } else { Timelines::Only(vec![timeline]) };
    let mount = rights.mount_of(&path).map(|mount| mount.path.clone());
    let (grants, mut notes) = plan(&wanted, can, &person, (&path, mount), &timelines)?;
    notes.extend(people.by_his_own_word(&person));
    notes.extend(used_up(peer, space, &path, &person, wanted.bytes_max)?);
    notes.extend(for_each(&person, wanted.bytes_max));
    let mut says_all = Vec::new();
    let mut fresh = Vec::new();
    let wider: BTreeSet<GrantId> = grants.iter().flat_map(|grant| wider_than(&rights, grant)).collect();
    notes.extend(wider.iter().take(WIDER_MAX).filter_map(|id| {
        let one = describe(&people, &rights, id)?;
        let (words, id) = (one["says"].as_str()?, id.to_string());
        Some(format!("still {words}, by another grant, which this one does not limit: `timebus revoke {}`", short(&id)))
    }));
    for grant in grants {
        says_all.push(says(&person.name, &grant, &grant.own_scope()));
        let is_there = rights.grants().any(|(_, held)| held.is_live() && is_same(&held.grant, &grant));
        if !is_there {
            fresh.push(grant);
        }
    }
    says_all.dedup();
    let mut answer = json!({"who": person.name, "says": says_all, "notes": notes, "preview": wanted.preview, "new": fresh.len()});
    let ops: Vec<Op> = fresh.into_iter().map(Op::Grant).collect();
    if ops.is_empty() {
        answer["grants"] = json!([]);
        return Ok(answer);
    }
    if rights.cap_to_state(&peer.store().device(), &ops).is_none() {
        return Err(no_authority(peer, &rights, &people, &path));
    }
    if !wanted.preview {
        let given = peer.store().state_in(Some(space), Statement::Ops(ops), now_ms()).await.map_err(|error| write_problem(&error))?;
        answer["grants"] = given.iter().map(ToString::to_string).collect();
    }
    Ok(answer)
}

/// In the owner's own space his devices may do everything, and one that was thrown out is to have nothing by its name.
fn check_not_own(rights: &Rights, space: Space, person: &Person) -> Result<(), Problem> {
    let [key] = person.keys[..] else { return Ok(()) };
    if !space.is_own() || person.is_anyone {
        return Ok(());
    }
    let name = &person.name;
    if rights.device_grant(&key).is_some() {
        return Err(bad(format!("{name} is one of your own devices, and may do everything in your space as it is")));
    }
    match rights.was_device(&key) && person.space == Some(space.key) {
        true => Err(bad(format!("{name} was one of your own devices, and was thrown out")).with_fix(super::why::DEVICE_NO_MORE)),
        false => Ok(()),
    }
}

/// A limit that is reached before anything is written by the new right: all counts that somebody wrote there.
fn used_up(peer: &Peer, space: Space, path: &Path, person: &Person, bytes_max: u64) -> Result<Option<String>, Problem> {
    let (mut most, mut most_of_all) = (0, 0);
    for key in &person.keys {
        let (by_himself, by_http) = crate::behalf::quota_used(peer, key, space, path).map_err(|error| storage_problem(&error))?;
        (most, most_of_all) = (most.max(by_himself), most_of_all.max(by_himself.saturating_add(by_http)));
    }
    let (name, max) = (&person.name, size(bytes_max));
    Ok(match bytes_max {
        0 => None,
        bytes_max if most >= bytes_max => Some(format!(
            "all that {name} wrote in this space counts, and that is {} of these {max} already: nothing can be written by this right, give more",
            size(most)
        )),
        bytes_max if most_of_all >= bytes_max => Some(format!(
            "over HTTP all that was written for {name} in this space counts, too, and that makes {} of these {max} already: nothing can be \
             written over HTTP by this right, give more; with a peer of his own {name} may",
            size(most_of_all)
        )),
        _ => None,
    })
}

/// A right is for a device, and so is its limit.
fn for_each(person: &Person, bytes_max: u64) -> Option<String> {
    let (devices, max, name) = (person.keys.len(), size(bytes_max), &person.name);
    (bytes_max > 0 && devices > 1).then(|| format!("that is for each of the {devices} devices of {name}: up to {max} with each"))
}

/// Grants in force by which the same key may do there what a new one would not let it, so that the limits of that mean nothing.
fn wider_than<'a>(rights: &'a Rights, new: &'a Grant) -> impl Iterator<Item = GrantId> + 'a {
    let limit = |is: u64, wanted: u64| wanted > 0 && (is == 0 || is > wanted);
    let is_wider = move |held: &Held| {
        let old = &held.grant;
        let is_over = old.not_after_ms > 0 && old.not_after_ms <= now_ms();
        let covers = held.is_live() && !is_over && old.timelines.includes(&new.timelines) && held.scope().includes(&new.own_scope());
        let is_more = old.actions.contains(new.actions) && old.actions != new.actions;
        let has_more = limit(old.bytes_max, new.bytes_max) || limit(old.not_after_ms, new.not_after_ms);
        old.audience == new.audience && covers && (is_more || old.actions.contains(new.actions) && has_more)
    };
    rights.grants().filter(move |(_, held)| new.audience != Audience::Anyone && is_wider(held)).map(|(id, _)| *id)
}

fn is_same(one: &Grant, other: &Grant) -> bool {
    *one == Grant { label: one.label.clone(), depth: one.depth, ..other.clone() } && one.depth >= other.depth
}

/// The grants that give somebody what is wanted, and what has to be said about them.
fn plan(
    wanted: &Wanted,
    can: Verb,
    person: &Person,
    (path, mount): (&Path, Option<Path>),
    timelines: &Timelines,
) -> Result<(Vec<Grant>, Vec<String>), Problem> {
    let mut notes = Vec::new();
    let read = Actions::SYNC.0 | Actions::READ.0;
    let actions = match can {
        // Who fetches has the whole timeline. For strangers that has to be meant.
        Verb::Read if person.is_anyone && !path.is_root() => Actions::READ.0,
        Verb::Read => read,
        Verb::Write => read | Actions::WRITE.0,
        Verb::Moderate => read | Actions::MODERATE.0,
        Verb::Grant => read | Actions::WRITE.0 | Actions::GRANT.0 | Actions::MODERATE.0,
    };
    if let Some(mount) = mount.filter(|_| !person.is_anyone) {
        notes.push(match mount == *path {
            true => format!("{} can read this path, which is kept apart, and what is below it", person.name),
            false => format!("{} can read all of {mount}, which is kept apart: what is read is a timeline, not a path", person.name),
        });
    } else if !person.is_anyone && !path.is_root() {
        notes.push(format!("{} can also read everything else of the space that is not private: what is read is a timeline, not a path", person.name));
    }
    if person.is_anyone {
        notes.push(match path.is_root() {
            true => "everybody can read and follow all of the space that is not kept apart".to_owned(),
            false => format!("everybody who reaches this peer by HTTP can read {path}, and nothing else"),
        });
        notes.push(format!(
            "that is as it is and as it was: what stood there before, and what was taken out of a text, can be read, too; what is put at \
             another path begins anew{}",
            if path.is_root() { "" } else { ", and that can be given in its place" }
        ));
    }
    let depth = if can == Verb::Grant { wanted.depth.unwrap_or(1) } else { wanted.depth.unwrap_or(0) };
    let scope = scope_at(path)?;
    let grant = |audience| Grant {
        audience,
        scope: scope.clone(),
        timelines: timelines.clone(),
        actions: Actions(actions),
        bytes_max: wanted.bytes_max,
        change_bytes_max: 0,
        not_after_ms: wanted.until_ms,
        depth,
        label: wanted.label.as_str().into(),
    };
    Ok((person.audiences().into_iter().map(grant).collect(), notes))
}

pub(super) fn no_authority(peer: &Peer, rights: &Rights, people: &People, path: &Path) -> Problem {
    let device = peer.store().device();
    let admins: Vec<String> = rights
        .grants()
        .filter(|(_, held)| held.is_live() && held.grant.actions.contains(Actions::GRANT) && held.scope().covers(path, &device))
        .map(|(_, held)| people.audience(&held.grant.audience))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let detail = format!("this device may not give or take such rights at {path}; {} may", crate::words::join(&admins));
    Problem::new(StatusCode::FORBIDDEN, "rights", "you may not say this about rights", detail)
        .with_fix("ask one of them, or use a device that stands above; `timebus grants` shows who gave what to whom")
}

pub(super) fn changes(people: &People, rights: &Rights, hidden: &[HiddenChange]) -> Vec<Serde> {
    hidden.iter().take(NAMED_MAX).map(|one| change(people, rights, one)).collect()
}

fn change(people: &People, rights: &Rights, one: &HiddenChange) -> Serde {
    let why: Vec<String> = match (&one.cap, one.forked) {
        (_, true) => vec![format!(
            "{} signed two different changes at one place of his chain, so nothing of his counts from there on unless somebody entitled went on with it",
            people.name(&one.author)
        )],
        (None, _) => vec!["it is by a root key that is not the root any more".to_owned()],
        (Some(cap), _) => rights
            .hidden_by(cap)
            .iter()
            .map(|hidden| match hidden {
                Hidden::Revoked { time_ms, .. } if is_since(hidden, ended_ms(rights, cap)) => format!(
                    "the right that it was written by ended on {}, and it was not here when that was taken back, on {}",
                    moment(ended_ms(rights, cap)),
                    moment(*time_ms)
                ),
                Hidden::Revoked { author, time_ms, .. } => {
                    format!("the right that it was written by is none any more: {} took it back on {}", people.name(author), moment(*time_ms))
                }
                Hidden::Root { .. } => hidden_words(people, hidden).replace("it comes from", "its right comes from"),
            })
            .collect(),
    };
    json!({
        "id": one.id.to_string(),
        "author": one.author.to_string(),
        "name": people.name(&one.author),
        "time_ms": one.time_ms,
        "bytes": one.bytes,
        "grant": one.cap.map(|cap| cap.to_string()),
        "paths": one.paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "forked": one.forked,
        "why": why,
    })
}

/// When a grant ended, or will; 0 is never.
fn ended_ms(rights: &Rights, id: &GrantId) -> u64 {
    rights.grant(id).map_or(0, |held| held.grant.not_after_ms)
}

/// Whether a grant was taken back after it had ended, if it was to end, which the peer of whoever gave it does by itself.
pub(crate) fn is_since(hidden: &Hidden, ended_ms: u64) -> bool {
    matches!(hidden, Hidden::Revoked { time_ms, .. } if ended_ms > 0 && *time_ms >= ended_ms)
}

/// Why a grant is not in force, in words.
pub(super) fn hidden_words(people: &People, hidden: &Hidden) -> String {
    match hidden {
        Hidden::Revoked { author, time_ms, .. } => format!("{} took it back on {}", people.name(author), moment(*time_ms)),
        Hidden::Root { author } => format!("it comes from {}, which is not the root key, or was disputed, when it gave this", human_name(author)),
    }
}

async fn all_hidden(peer: &Peer, space: Space) -> Result<Vec<HiddenChange>, Problem> {
    let store = peer.store().clone();
    let hidden = tokio::task::spawn_blocking(move || store.hidden(space, HIDDEN_MAX)).await;
    hidden.map_err(|error| bad(error.to_string()))?.map_err(|error| storage_problem(&error))
}

/// Why an op or a change, or what is at a path, does not show.
async fn why_hidden(peer: &Peer, what: &[&str]) -> Result<Serde, Problem> {
    let people = People::now(peer).await;
    let id = match what {
        [one] => one.split('.').next().and_then(|id| id.parse::<ChangeId>().ok()),
        _ => None,
    };
    if let Some(id) = id {
        for space in peer.store().spaces() {
            let found = all_hidden(peer, space).await?.into_iter().find(|one| one.id == id);
            if let (Some(found), Some(rights)) = (found, peer.store().rights(&space.key)) {
                let change = change(&people, &rights, &found);
                return Ok(json!({"hidden": true, "says": [says_hidden(&change)], "changes": [change]}));
            }
        }
        let is_here = timebus_store::summary::find(&*peer.store().snapshot(), &id).map_err(|error| storage_problem(&error))?.is_some();
        let says = match is_here {
            true => "no right hides it: it counts, and what it wrote shows unless it was replaced since (see `timebus log`)",
            false => "this change is not here, so nothing of it can show; `timebus peers` tells who could bring it",
        };
        return Ok(json!({"hidden": false, "here": is_here, "says": [says], "changes": []}));
    }
    let (space, path) = place(peer, what).await?;
    let found = hidden_at(peer, &people, space, &path).await?;
    let mut says: Vec<String> = found.iter().map(says_hidden).collect();
    if says.is_empty() {
        says.push(format!("nothing at {path} is hidden because of somebody's rights"));
    }
    Ok(json!({"hidden": !found.is_empty(), "says": says, "changes": found}))
}

/// The changes at, above and below a path that somebody's rights hide.
async fn hidden_at(peer: &Peer, people: &People, space: Space, path: &Path) -> Result<Vec<Serde>, Problem> {
    let rights = rights_of(peer, space)?;
    let found = all_hidden(peer, space).await?;
    let is_there = |one: &&HiddenChange| one.paths.iter().any(|at| path.contains(at) || at.contains(path));
    Ok(found.iter().filter(is_there).map(|one| change(people, &rights, one)).take(NAMED_MAX).collect())
}

/// The same in words, each with the id of its change.
pub(super) async fn why_hidden_at(peer: &Peer, people: &People, space: Space, path: &Path) -> Result<Vec<(String, String)>, Problem> {
    let told = |change: &Serde| (change["id"].as_str().unwrap_or("?").to_owned(), says_hidden(change));
    Ok(hidden_at(peer, people, space, path).await?.iter().map(told).collect())
}

fn says_hidden(change: &Serde) -> String {
    let text = |name: &str| change[name].as_str().unwrap_or("?").to_owned();
    let list = |name: &str| change[name].as_array().into_iter().flatten().filter_map(Serde::as_str).map(str::to_owned).collect::<Vec<_>>();
    let why = list("why");
    let why = if why.is_empty() { "of the right that it was written with".to_owned() } else { why.join(", and ") };
    let at = day(change["time_ms"].as_u64().unwrap_or(0));
    let id = crate::words::short(&text("id")).to_owned();
    format!("change {id} of {} ({at}) at {} is hidden: {why}", text("name"), crate::words::join(&list("paths")))
}

/// What is hidden at and below a path.
async fn quarantine(peer: &Peer, path: &[&str]) -> Result<Serde, Problem> {
    let (space, path) = place(peer, path).await?;
    let rights = rights_of(peer, space)?;
    let people = People::now(peer).await;
    let all = all_hidden(peer, space).await?;
    let at: Vec<&HiddenChange> = all.iter().filter(|one| one.paths.iter().any(|at| path.contains(at))).collect();
    let changes: Vec<Serde> = at.iter().map(|one| change(&people, &rights, one)).collect();
    Ok(json!({"changes": changes, "total": at.len()}))
}

/// Gives a hidden change its effect back.
async fn keep(peer: &Peer, path: &[&str], body: &Bytes) -> Result<Serde, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        keep: String,
    }
    let Wanted { keep } = read(body)?;
    let (space, _) = place(peer, path).await?;
    let all = all_hidden(peer, space).await?;
    let fits: Vec<&HiddenChange> = all.iter().filter(|one| one.id.to_string().starts_with(&keep)).collect();
    let found = match fits.as_slice() {
        [one] => *one,
        [] => {
            return Err(Problem::new(StatusCode::NOT_FOUND, "quarantine", "there is nothing to keep", format!("no hidden change is called {keep}"))
                .with_fix("`timebus quarantine` lists what is hidden"));
        }
        _ => return Err(bad(format!("several hidden changes begin with {keep}; write more of the id"))),
    };
    if let Err(error) = peer.store().keep(space, found.id, now_ms()).await {
        return Err(People::now(peer).await.named(write_problem(&error), &space.key));
    }
    let left = all_hidden(peer, space).await?.len();
    Ok(json!({"kept": found.id.to_string(), "shown": all.len().saturating_sub(left), "left": left}))
}

#[cfg(test)]
mod tests {
    use timebus_identity::PublicKey;

    use super::*;
    use crate::whose::tests::open;

    /// Bob's right ended, which his host's peer made good a day later by taking it back; a change of his came after that.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_right_that_has_ended_hides_is_not_said_to_be_of_one_that_was_taken_back() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let ada = open(home.path());
        let bob = PublicKey::from_bytes([7; 32]);
        let grant = |not_after_ms| {
            Op::Grant(Grant {
                audience: Audience::Key(bob),
                scope: Scope::everything(),
                timelines: Timelines::Main,
                actions: Actions::WRITE,
                bytes_max: 0,
                change_bytes_max: 0,
                not_after_ms,
                depth: 0,
                label: "".into(),
            })
        };
        const DAY_MS: u64 = 86_400_000;
        let given = ada.state(Statement::Ops(vec![grant(DAY_MS), grant(9 * DAY_MS)]), 5).await.expect("granted");
        ada.state(Statement::Revoke { grants: given.clone(), cascade: true, keep: true }, 2 * DAY_MS).await.expect("taken back");
        let (people, rights) = (People::default(), ada.rights(&ada.space()).expect("held"));
        let says = |cap: GrantId| {
            let paths = vec![Path::parse("/wall").expect("a path")];
            let one = HiddenChange { id: ChangeId([1; 32]), author: bob, cap: Some(cap), time_ms: 1, bytes: 1, paths, forked: false };
            says_hidden(&change(&people, &rights, &one))
        };
        let (ended, taken) = (says(given[0]), says(given[1]));
        assert!(ended.contains("ended on 1970-01-02") && ended.contains("was not here when that was taken back, on 1970-01-03"), "{ended}");
        assert!(taken.contains("took it back on 1970-01-03") && !taken.contains("ended"), "{taken}");
        let why = |id: &GrantId| describe(&people, &rights, id).expect("known")["why"].to_string();
        assert!(why(&given[0]).contains("it ended on 1970-01-02") && !why(&given[0]).contains("took it back"), "{}", why(&given[0]));
    }
}
