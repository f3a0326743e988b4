//! Why something shows, or does not: everything that decides it here, in words. Whether it was ever written, who wrote it and
//! whether he counts; whether its space comes; whether its file is here; what waits for the owner's word; and what became of
//! the notices that were sent about it.

use serde::Serialize;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name};
use timebus_store::blobs::BlobHash;
use timebus_store::ids::TimelineId;
use timebus_store::node::{Node, Write, node_key};
use timebus_store::notice::Pointer;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::StorageError;
use timebus_store::summary::summary;
use timebus_store::tree::child_names;
use timebus_store::value::Value;

use super::rights::why_hidden_at;
use super::touched;
use crate::authority::is_statements;
use crate::blobs::wishes::{Wish, Wishes};
use crate::community::holding::checking::doubted;
use crate::computed::{self, Source};
use crate::lists::{self, List};
use crate::node::SpaceState;
use crate::node::outbox::{Sent, Standing};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{bad_path, storage_problem};
use crate::sys::network::find_space;
use crate::target::Query;
use crate::who::Who;
use crate::words::{counted, day, join, moment, quoted, short, size};

/// Values at one path whose writers are named.
const WRITES_MAX: usize = 8;
/// Hidden changes and notices that are named.
const NAMED_MAX: usize = 5;
/// Names below a path that are counted.
const NAMES_MAX: usize = 1000;

/// What is told about, in the order in which it counts: the first that is so is the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum About {
    /// This device is its owner's no more.
    Device,
    /// What somebody's rights hide.
    Hidden,
    /// What may not be read, or not any more.
    Rights,
    /// Whom the owner blocked, muted, or takes nothing more of.
    Unheard,
    /// What waits for the owner's word.
    Held,
    /// What was there, and is not any more.
    Gone,
    /// What is there.
    Value,
    /// Its file.
    File,
    /// Whether what is new comes.
    Space,
    /// Whether what is written here has gone anywhere.
    Sent,
    /// Notices about it.
    Notice,
}

/// What is told, and what can be done about it.
#[derive(Default)]
struct Told {
    says: Vec<(About, String)>,
    fixes: Vec<(About, Fix)>,
}

/// A command that changes something: for the owner, or for somebody whom he asks.
enum Fix {
    Command(String),
    Ask(Serde),
}

impl Told {
    fn say(&mut self, about: About, words: impl Into<String>) {
        self.says.push((about, words.into()));
    }

    fn fix(&mut self, about: About, command: impl Into<String>) {
        self.fixes.push((about, Fix::Command(command.into())));
    }

    fn is_silent(&self, about: About) -> bool {
        self.says.iter().all(|(other, _)| *other != about)
    }

    /// What counts first comes first, with what to do about it.
    fn answer(mut self, is_there: bool, path: &Path, shown: &str) -> Serde {
        self.says.sort_by_key(|(about, _)| *about);
        self.fixes.sort_by_key(|(about, _)| *about);
        let first = format!("{}: {shown} {}", if is_there { "yes" } else { "no" }, if is_there { "shows" } else { "does not show" });
        let reasons: Vec<Serde> = self.says.iter().map(|(about, says)| json!({"about": about, "says": says})).collect();
        let says: Vec<String> = std::iter::once(first).chain(self.says.into_iter().map(|(_, says)| says)).collect();
        let (fix, ask) = match self.fixes.into_iter().next() {
            Some((_, Fix::Command(command))) => (Serde::from(command), Serde::Null),
            Some((_, Fix::Ask(ask))) => (Serde::Null, ask),
            None => (Serde::Null, Serde::Null),
        };
        json!({
            "allowed": is_there, "can": "shown", "path": path.to_string(), "shown": shown, "who": Serde::Null, "key": Serde::Null,
            "root": false, "says": says, "reasons": reasons, "ways": [], "fix": fix, "ask": ask,
        })
    }
}

/// A question, and what is needed to answer it.
struct Asked<'a> {
    peer: &'a Peer,
    people: &'a People,
    /// Whose space it is about.
    key: PublicKey,
    path: &'a Path,
    /// The path as people write it.
    shown: &'a str,
}

/// Answers it for a path of the own space, or of somebody else's.
pub(super) async fn shown(peer: &Peer, segments: &[&str]) -> Result<Serde, Problem> {
    let name = segments.first().and_then(|first| first.strip_prefix('@')).filter(|name| !name.starts_with('@') && !name.contains('.'));
    let (key, rest) = match name {
        Some(name) => (find_space(peer, name).await?, &segments[1..]),
        None => (peer.space(), segments),
    };
    let path = Path::from_text_segments(rest.iter().copied()).map_err(|error| bad_path(&error))?;
    let people = People::now(peer).await;
    let shown = if key == peer.space() { path.to_string() } else { format!("@{}{path}", people.petname(&key).unwrap_or_else(|| key.to_string())) };
    if let Some(answer) = worked_out(peer, &key, rest, &path, &shown).await {
        return Ok(answer);
    }
    let asked = Asked { peer, people: &people, key, path: &path, shown: &shown };
    let mut told = Told::default();
    let mut is_there = false;
    if let Some(space) = peer.store().held(&key) {
        is_there = of_values(&asked, space, &mut told).await?;
        of_hidden(&asked, space, &mut told).await?;
        of_rights(&asked, segments, is_there, &mut told).await;
    }
    if let Some(lost) = super::why::lost(peer, &people).filter(|_| key == peer.space()) {
        told.say(About::Device, format!("{lost}: what is here is of before, and what is new does not come"));
        told.says.push((About::Device, crate::write::LOST.to_owned()));
    }
    if key != peer.space() {
        of_space(&asked, &mut told).await;
    }
    of_held(&asked, &mut told);
    of_notices(&asked, &mut told).await;
    if !is_there && peer.store().held(&key).is_some() && [About::Rights, About::Gone, About::Hidden].into_iter().all(|about| told.is_silent(about)) {
        told.say(About::Gone, "nothing was ever written there, as far as is known here");
    }
    // What is hidden is there, and was not taken away.
    if !told.is_silent(About::Hidden) {
        told.says.retain(|(about, _)| *about != About::Gone);
        told.fixes.retain(|(about, _)| *about != About::Gone);
    }
    Ok(told.answer(is_there, &path, &shown))
}

/// What nobody wrote where it shows: what is stated about rights, the inbox, and what this peer says of itself.
async fn worked_out(peer: &Peer, key: &PublicKey, names: &[&str], path: &Path, shown: &str) -> Option<Serde> {
    let source = match peer.store().held(key) {
        Some(space) if is_statements(path) => Source::at(space, path)?,
        _ if *key == peer.space() => Source::beside(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &Query::default())?,
        _ => return None,
    };
    let is_there = Box::pin(computed::get(peer, &Who::Owner, &source)).await.is_ok_and(|answer| answer.status().is_success());
    let says = match source {
        Source::Auth(..) => "what is stated about rights shows there, and is in force or not: `timebus grants` tells it in words",
        Source::Drop(_) => "it is your inbox, what others left: `timebus inbox` tells it in words",
        Source::Sys(..) => "this peer works it out when it is asked, and nobody writes it",
    };
    let mut told = Told::default();
    match is_there {
        true => told.say(About::Value, says),
        false => told.say(About::Gone, format!("there is nothing of that name: {says}")),
    }
    Some(told.answer(is_there, path, shown))
}

/// What is at the path, by whom, and whether its file is here.
async fn of_values(asked: &Asked<'_>, space: Space, told: &mut Told) -> Result<bool, Problem> {
    let failed = |error| storage_problem(&error);
    let Asked { peer, people, path, shown, .. } = *asked;
    let store = peer.store();
    let at = store.at(space, path);
    let rows = store.snapshot();
    let t_key = node_key(at.main(), &path.key());
    let writes: Vec<Write> = Node::load(&*rows, &t_key).map_err(failed)?.visible(&*rows, &t_key, WRITES_MAX + 1).map_err(failed)?;
    let mut files = Vec::new();
    let (mut last_own, mut has_text) = (0, false);
    for write in writes.iter().take(WRITES_MAX) {
        let own = summary(&*rows, at.main(), write.a).map_err(failed)?;
        let by = people.name(&own.author);
        told.say(About::Value, format!("{} wrote what is there, on {}", people.wrote(&own), day(own.time_ms)));
        if own.author == store.device() {
            last_own = last_own.max(write.a);
        }
        let whose = people.space_of(&own.author).unwrap_or(own.author);
        for (list, verb, done) in [(List::Blocked, "unblock", "blocked"), (List::Muted, "unmute", "muted")] {
            if lists::has(store, list, &whose).map_err(failed)? {
                told.say(About::Unheard, format!("you {done} {by}: apps, `timebus inbox` and counts leave out what comes of him"));
                told.fix(About::Unheard, format!("timebus {verb} {whose}"));
            }
        }
        match &write.value {
            Value::Blob { hash, len, .. } => files.push((BlobHash::from_bytes(*hash), *len)),
            Value::Text { .. } => has_text = true,
            _ => {}
        }
    }
    if writes.len() > 1 {
        told.say(About::Value, format!("{} meet there, and the first shows: `timebus conflicts {shown}`", counted(writes.len(), "value")));
    }
    if has_text
        && let Some(Write { value: Value::Text { content: Some(content), .. }, .. }) =
            store.read(&rows, at, path).map_err(failed)?.tree.writes.first()
        && content.parked
    {
        told.say(About::Value, "too much was written at once in this text to merge it by itself: what shows is of before that");
        told.fix(About::Value, format!("timebus edit {}", quoted(shown)));
    }
    for (hash, len) in files {
        of_file(asked, space, hash, len, told).await;
    }
    if last_own > 0 && !space.is_own() {
        of_sending(asked, &store.timeline(at), last_own, told).await;
    }
    let names = child_names(&*rows, at.main(), path).take(NAMES_MAX).count();
    let is_object = writes.iter().all(|write| matches!(write.value, Value::Map));
    let mounts = store.rights(&space.key);
    let mounts: Vec<String> =
        mounts.iter().flat_map(|rights| rights.mounts_below(path)).map(|mount| mount.path.to_string()).filter(|_| is_object).collect();
    if is_object && names > 0 {
        let more = if names == NAMES_MAX { " or more" } else { "" };
        told.say(About::Value, format!("{}{more} below it: `timebus ls {shown}`", counted(names, "name")));
        if let Some((by, time_ms)) = last_below(asked, at).map_err(failed)? {
            told.say(About::Value, format!("the last change there is by {by}, of {}: `timebus log {shown}`", moment(time_ms)));
        }
    }
    if !mounts.is_empty() {
        let who = if space.is_own() { "`timebus private` says who may read it" } else { "whoever may read it was told so by name" };
        told.say(About::Value, format!("kept apart from it: {}; {who}", join(&mounts)));
    }
    if writes.is_empty() && names == 0 {
        of_gone(asked, at, told).map_err(failed)?;
    }
    Ok(!writes.is_empty() || names > 0)
}

/// Who changed something below a path last, and when.
fn last_below(asked: &Asked<'_>, at: Space) -> Result<Option<(String, u64)>, StorageError> {
    let rows = asked.peer.store().snapshot();
    let last = match asked.path.is_root() {
        true => asked.peer.store().latest(&rows, at.main(), None).next().transpose()?.map(|(_, own, _)| own),
        false => match touched(&rows, at.main(), asked.path)?.last_key_value() {
            Some((a, _)) => Some(summary(&*rows, at.main(), *a)?),
            None => None,
        },
    };
    Ok(last.map(|own| (asked.people.wrote(&own), own.time_ms)))
}

/// Who took away what was there, and where it may be now.
fn of_gone(asked: &Asked<'_>, at: Space, told: &mut Told) -> Result<(), StorageError> {
    let Asked { peer, people, path, shown, .. } = *asked;
    let rows = peer.store().snapshot();
    let prefix = if at.is_own() { String::new() } else { format!("@{}", people.petname(&asked.key).unwrap_or_else(|| asked.key.to_string())) };
    let last = touched(&rows, at.main(), path)?.last_key_value().map(|(a, _)| *a);
    // A value above it hides what is below, and is what whoever wrote it meant.
    for above in std::iter::successors(path.parent(), Path::parent) {
        let t_key = node_key(at.main(), &above.key());
        let Some(write) = Node::load(&*rows, &t_key)?.winner(&*rows, &t_key)? else { continue };
        let own = summary(&*rows, at.main(), write.a)?;
        let (by, when) = (people.wrote(&own), moment(own.time_ms));
        match write.value {
            Value::Map => continue,
            Value::List => told.say(
                About::Gone,
                format!("{prefix}{above} is a list, and what is in lists is not called by its number: `timebus get {prefix}{above}` shows all of it"),
            ),
            _ => {
                let was = if last.is_some() { "what was there gave way to" } else { "nothing can be there beside" };
                told.say(About::Gone, format!("{was} the value at {prefix}{above}, which {by} wrote on {when}: `timebus log {shown}`"));
            }
        }
        return Ok(());
    }
    let Some(a) = last else { return Ok(()) };
    let own = summary(&*rows, at.main(), a)?;
    let (by, when) = (people.wrote(&own), moment(own.time_ms));
    // As `mv` does, one change writes something elsewhere and removes it here.
    let change = peer.store().latest(&rows, at.main(), Some(a + 1)).next().transpose()?;
    let elsewhere = change
        .filter(|(found, ..)| *found == a)
        .and_then(|(_, _, paths)| paths.into_iter().find(|other| !path.contains(other) && !other.contains(path)));
    told.say(
        About::Gone,
        match &elsewhere {
            Some(other) => format!("{by} took it away on {when}, with one change that wrote {prefix}{other}: if it was moved, it is there"),
            None => format!("{by} deleted it on {when}: `timebus log {shown}` shows what was"),
        },
    );
    let mut is_back = true;
    for (hash, len) in peer.store().blobs_before(&rows, at, path, a)? {
        let Some(blobs) = peer.store().blobs().filter(|blobs| blobs.len_of(&hash).is_none()) else { continue };
        is_back = false;
        let since = blobs.gone_ms(&hash).map_err(StorageError::from)?.map_or_else(String::new, |ms| format!(" since {}", moment(ms)));
        told.say(
            About::Gone,
            format!(
                "the bytes of the file that was there, {}, are not here any more{since}: taking it back brings its name back, and its bytes only \
                 if somebody else has them, or the file is put again",
                size(len)
            ),
        );
    }
    let is_mine = people.space_of(&own.author) == Some(peer.space());
    if is_mine && elsewhere.is_none() && is_back {
        told.fix(About::Gone, format!("timebus undo {}", quoted(shown)));
    }
    Ok(())
}

/// Whether a file is here, comes, or was stopped.
async fn of_file(asked: &Asked<'_>, space: Space, hash: BlobHash, len: u64, told: &mut Told) {
    let Asked { peer, shown, .. } = *asked;
    let Some(blobs) = peer.store().blobs() else { return };
    let total = size(len);
    of_holders(asked, space, &hash, told);
    if blobs.len_of(&hash).is_some() {
        return told.say(About::File, format!("its file of {total} is here"));
    }
    let part = if blobs.has_partial(&hash) { blobs.open_partial(&hash).map_or(0, |part| part.bytes_here()) } else { 0 };
    let here = if part > 0 { format!(", {} of it are", size(part)) } else { String::new() };
    let wishes = Wishes::of(peer);
    let resume = format!("timebus files resume {}", quoted(shown));
    if wishes.wish_of(&hash) == Some(Wish::Paused) {
        told.say(About::File, format!("its file of {total} is not here{here}: you paused it"));
        return told.fix(About::File, resume);
    }
    if wishes.wish_of(&hash) == Some(Wish::Cancelled) || wishes.was_cancelled(&hash) {
        told.say(About::File, format!("its file of {total} is not here: you cancelled it"));
        return told.fix(About::File, resume);
    }
    let coming = match peer.network() {
        Some(network) => network.blobs().status().await.0.iter().find(|status| status.hash() == hash.to_string() && status.is_fetched()).cloned(),
        None => None,
    };
    let Some(coming) = coming.and_then(|status| serde_json::to_value(status).ok()) else {
        told.say(About::File, format!("its file of {total} is not here{here}: it comes when it is read, from whoever has it and is connected"));
        let quoted = quoted(shown);
        return told.fix(About::File, if space.is_own() { format!("timebus get {quoted} -o FILE") } else { format!("timebus files pin {quoted}") });
    };
    let from: Vec<String> =
        coming["sources"].as_array().into_iter().flatten().filter_map(|source| source["name"].as_str()).map(str::to_owned).collect();
    let (per_s, limit) = (coming["bytes_per_s"].as_u64().unwrap_or(0), wishes.limits().down);
    let limited = limit.map_or_else(String::new, |limit| format!(", as you let files come with {} a second at most", size(limit)));
    told.say(
        About::File,
        match (per_s, from.as_slice()) {
            (_, []) => format!("its file of {total} is not here{here}: nobody who has the rest of it is connected"),
            (0, from) => format!("its file of {total} is not here{here}: {} has nothing to send now", join(from)),
            (per_s, from) => format!("its file of {total} is coming{here} here, from {} with {} a second{limited}", join(from), size(per_s)),
        },
    );
    if limit.is_some() && per_s > 0 {
        told.fix(About::File, "timebus files limit --down none");
    }
}

/// Who says that he holds a file of a community, and could not show it.
fn of_holders(asked: &Asked<'_>, space: Space, hash: &BlobHash, told: &mut Told) {
    let (store, Some(network)) = (asked.peer.store(), asked.peer.network()) else { return };
    let own = network.endpoint().node();
    let Ok((doubts, members)) = doubted(store, space, &own) else { return };
    for one in doubts.told(&members, &own).into_iter().filter(|one| doubts.is_doubted(&one.node, hash)).take(NAMED_MAX) {
        told.say(About::File, one.says);
    }
}

/// The changes that do not count, as those who wrote them may not write there any more.
async fn of_hidden(asked: &Asked<'_>, space: Space, told: &mut Told) -> Result<(), Problem> {
    let hidden = why_hidden_at(asked.peer, asked.people, space, asked.path).await?;
    let more = hidden.len().saturating_sub(NAMED_MAX);
    if let Some((id, _)) = hidden.first() {
        let command = format!("timebus quarantine keep {}", short(id));
        let owner = asked.people.name(&asked.key);
        told.fixes.push((About::Hidden, if space.is_own() { Fix::Command(command) } else { Fix::Ask(json!({"who": owner, "command": command})) }));
    }
    told.says.extend(hidden.into_iter().take(NAMED_MAX).map(|(_, says)| (About::Hidden, says)));
    if more > 0 {
        told.say(About::Hidden, format!("and {} more, see `timebus why-hidden {}`", counted(more, "change"), asked.shown));
    }
    Ok(())
}

/// Whether what is there may be read: of somebody else's space only that comes.
async fn of_rights(asked: &Asked<'_>, segments: &[&str], is_there: bool, told: &mut Told) {
    if asked.key == asked.peer.space() {
        return;
    }
    let Ok(read) = Box::pin(super::why::why(asked.peer, "read", segments, None)).await else { return };
    if read["allowed"] == true {
        return;
    }
    let now = if is_there { "what shows is of before: you may not read it any more" } else { "it is not given to you" };
    let says = read["says"].as_array().into_iter().flatten().filter_map(Serde::as_str).skip(1);
    told.say(About::Rights, now);
    told.says.extend(says.take(NAMED_MAX).map(|line| (About::Rights, line.to_owned())));
    if read["ask"].is_object() {
        told.fixes.push((About::Rights, Fix::Ask(read["ask"].clone())));
    }
}

/// Whether what is written here has gone anywhere else.
async fn of_sending(asked: &Asked<'_>, timeline: &TimelineId, a: u64, told: &mut Told) {
    let Some(network) = asked.peer.network() else { return };
    let timeline = *timeline;
    let Ok(delivered) = network.ask(move |node| node.delivered(&timeline)).await else { return };
    if delivered < a {
        let name = asked.people.name(&asked.key);
        told.say(
            About::Sent,
            format!("no other machine has said since this peer runs that it has what you wrote: it goes to {name} when he is reached"),
        );
    }
}

/// Whether the space of somebody else comes, and from whom.
async fn of_space(asked: &Asked<'_>, told: &mut Told) {
    let Asked { peer, people, key, .. } = *asked;
    let name = people.name(&key);
    let about = About::Space;
    let Some(network) = peer.network() else {
        told.say(about, format!("no peer runs in this home, so nothing comes of {name}"));
        return told.fix(about, "timebus up");
    };
    let Ok(status) = network.ask(move |node| node.space(&key)).await else { return };
    let status = crate::remote::by_rights(peer.store(), status);
    if lists::is_blocked(peer.store(), &key) {
        told.say(About::Unheard, format!("you blocked {name}, so nothing comes of him"));
        return told.fix(About::Unheard, format!("timebus unblock {key}"));
    }
    if !status.is_followed {
        told.say(about, format!("you do not follow {name}: what is here is what was read last, and nothing comes by itself"));
        told.fix(about, format!("timebus follow {key}"));
    }
    let from = status.from.clone().unwrap_or_else(|| "others".to_owned());
    told.say(
        about,
        match &status.state {
            SpaceState::Live { .. } if status.is_community => format!("all that came is here, from {from}"),
            SpaceState::Live { .. } if status.owner_connected => format!("{name} is connected, and all that came from there is here"),
            SpaceState::Live { .. } => format!(
                "all that {from} has of it is here; but {name} is not reached{}: what was written there since then may be missing, and what you write \
                 gets there by others or when {name} is back",
                since(status.owner_seen_ms)
            ),
            SpaceState::Loading => format!("the space of {name} is coming now, from {from}"),
            SpaceState::Connecting => format!("whoever has the space of {name} is being called: what is here is of before"),
            SpaceState::Waiting => format!("what you write there waits until {name} accepts it; what others write comes"),
            SpaceState::Denied if status.is_community => format!("nobody who is connected is in {name}"),
            SpaceState::Denied => format!("whoever has the space of {name} does not give it to this peer: ask {name} for an invite"),
            SpaceState::Unreachable { seen_ms: 0, .. } => format!("nobody who has the space of {name} was ever reached"),
            SpaceState::Unreachable { seen_ms, .. } => {
                format!(
                    "nobody who has the space of {name} is reached, the last time was on {}: what is written since then comes when he is back",
                    moment(*seen_ms)
                )
            }
            SpaceState::Unknown if status.is_community => format!("nobody else is known who is in {name}"),
            SpaceState::Unknown => format!("nobody is known who has the space of {name}: take an invite, or `timebus find {}`", human_name(&key)),
            SpaceState::Offline => "this peer is offline and calls nobody".to_owned(),
        },
    );
    if peer.store().held(&key).is_none() {
        told.say(about, format!("so nothing of the space of {name} is here"));
    }
}

/// When somebody was there last, behind words that say that he is not.
fn since(seen_ms: u64) -> String {
    if seen_ms == 0 { String::new() } else { format!(", the last time was on {}", moment(seen_ms)) }
}

/// What waits for the owner's word in the space of the path, and of whom he takes nothing more.
fn of_held(asked: &Asked<'_>, told: &mut Told) {
    let Asked { peer, people, key, path, .. } = *asked;
    let held = peer.ledger().held();
    for one in held.values().filter(|one| super::costs::space_of(peer, one) == Some(key)) {
        let who = one.who.parse().map_or_else(|_| one.who.clone(), |who| people.name(&who));
        told.say(
            About::Held,
            format!(
                "{} in {} of {who} in that space wait for your word, and with them what others built on them and have no room for",
                size(one.bytes),
                counted(usize::try_from(one.changes).unwrap_or(usize::MAX), "change"),
            ),
        );
        told.fix(About::Held, "timebus held");
    }
    for (who, name) in super::why::unwanted(peer, people, &key, path).into_iter().take(NAMED_MAX) {
        told.say(About::Unheard, format!("you said that nothing more of {name} comes"));
        told.fix(About::Unheard, format!("timebus limits {who} 1GB"));
    }
}

/// What became of the notices that were sent from the path, or about it: what is not taken is counted by nobody else.
async fn of_notices(asked: &Asked<'_>, told: &mut Told) {
    let Asked { peer, people, key, path, .. } = *asked;
    let Some(network) = peer.network() else { return };
    let all: Vec<Sent> = network.ask(|node| node.outbox().list().into_iter().cloned().collect()).await.unwrap_or_default();
    let is_here = |text: &str| Pointer::parse(text).is_some_and(|at| at.space == key && at.path == *path);
    let is_about = |sent: &&Sent| ["source", "target"].iter().any(|end| sent.notice[*end].as_str().is_some_and(is_here));
    for sent in all.iter().filter(is_about).take(NAMED_MAX) {
        let to = sent.space.parse().map_or_else(|_| sent.space.clone(), |to| people.name(&to));
        let kind = sent.notice["kind"].as_str().unwrap_or("notice");
        let state = match &sent.standing {
            Standing::Delivered { at_ms } => format!("is in the inbox of {to} since {}: it is counted there if it says what is true", day(*at_ms)),
            Standing::Waiting { problem: None } => format!("waits until {to} is reached, and is counted by nobody else before"),
            Standing::Waiting { problem: Some(problem) } => format!("waits, as {to} did not take it: {problem}"),
            Standing::Refused { problem } => format!("was not taken by {to}, and is not counted there: {problem}"),
        };
        told.say(About::Notice, format!("your {kind} {state}"));
    }
}
