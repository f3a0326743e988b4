//! Why something shows, or does not: everything that decides it here, in words. Whether it was ever written, who wrote it and
//! whether he counts; whether its space comes; whether its file is here; what waits for the owner's word; and what became of
//! the notices that were sent about it.

use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name};
use timebus_store::blobs::BlobHash;
use timebus_store::node::{Node, Write, node_key};
use timebus_store::notice::Pointer;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::summary::summary;
use timebus_store::tree::child_names;
use timebus_store::value::Value;

use super::rights::why_hidden_at;
use crate::lists::{self, List};
use crate::node::SpaceState;
use crate::node::outbox::{Sent, Standing};
use crate::peer::Peer;
use crate::people::People;
use crate::problem::Problem;
use crate::route::{bad_path, storage_problem};
use crate::sys::network::find_space;
use crate::words::{counted, day, size};

/// Values at one path whose writers are named.
const WRITES_MAX: usize = 8;
/// Hidden changes and notices that are named.
const NAMED_MAX: usize = 5;

/// What is told, and the first command that changes something.
#[derive(Default)]
struct Told {
    says: Vec<String>,
    fix: Option<String>,
}

impl Told {
    fn say(&mut self, words: impl Into<String>) {
        self.says.push(words.into());
    }

    fn fix(&mut self, command: String) {
        self.fix.get_or_insert(command);
    }
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
    let mut told = Told::default();
    let space = peer.store().held(&key);
    let is_there = match space {
        Some(space) => of_values(peer, &people, space, &path, &shown, &mut told)?,
        None => false,
    };
    if let Some(space) = space {
        let hidden = why_hidden_at(peer, &people, space, &path).await?;
        if !hidden.is_empty() {
            told.fix("timebus quarantine".to_owned());
        }
        let more = hidden.len().saturating_sub(NAMED_MAX);
        told.says.extend(hidden.into_iter().take(NAMED_MAX));
        if more > 0 {
            told.say(format!("and {} more, see `timebus why-hidden {shown}`", counted(more, "change")));
        }
    }
    if key != peer.space() {
        of_space(peer, &people, &key, space.is_some(), &mut told).await?;
    }
    of_held(peer, &people, &key, &mut told);
    of_notices(peer, &people, &key, &path, &mut told).await;
    if !is_there && space.is_some() && told.says.is_empty() {
        told.say("nothing was ever written there, as far as is known here, or it was deleted: `timebus log` shows what was");
    }
    let first = format!("{}: {shown} {}", if is_there { "yes" } else { "no" }, if is_there { "shows" } else { "does not show" });
    let says: Vec<String> = std::iter::once(first).chain(told.says).collect();
    Ok(json!({
        "allowed": is_there, "can": "shown", "path": path.to_string(), "shown": shown, "who": Serde::Null, "key": Serde::Null, "root": false,
        "says": says, "ways": [], "fix": told.fix, "ask": Serde::Null,
    }))
}

/// What is at the path, by whom, and whether its file is here.
fn of_values(peer: &Peer, people: &People, space: Space, path: &Path, shown: &str, told: &mut Told) -> Result<bool, Problem> {
    let failed = |error| storage_problem(&error);
    let store = peer.store();
    let at = store.at(space, path);
    let rows = store.snapshot();
    let t_key = node_key(at.main(), &path.key());
    let writes: Vec<Write> = Node::load(&*rows, &t_key).map_err(failed)?.visible(&*rows, &t_key, WRITES_MAX + 1).map_err(failed)?;
    for write in writes.iter().take(WRITES_MAX) {
        let own = summary(&*rows, at.main(), write.a).map_err(failed)?;
        let by = people.name(&own.author);
        told.say(format!("{by} wrote what is there, on {}", day(own.time_ms)));
        let whose = people.space_of(&own.author).unwrap_or(own.author);
        for (list, verb, done) in [(List::Blocked, "unblock", "blocked"), (List::Muted, "unmute", "muted")] {
            if lists::has(store, list, &whose).map_err(failed)? {
                told.say(format!("you {done} {by}: apps, `timebus inbox` and counts leave out what comes of him"));
                told.fix(format!("timebus {verb} {whose}"));
            }
        }
        if let Value::Blob { hash, len, .. } = &write.value {
            let is_here = store.blobs().is_some_and(|blobs| blobs.len_of(&BlobHash::from_bytes(*hash)).is_some());
            if is_here {
                told.say(format!("its file of {} is here", size(*len)));
            } else {
                told.say(format!("its file of {} is not here: it comes when it is read, from whoever has it and is connected", size(*len)));
                told.fix(if space.is_own() { format!("timebus get {shown} -o FILE") } else { format!("timebus files pin {shown}") });
            }
        }
    }
    if writes.len() > 1 {
        told.say(format!("{} meet there, and the first shows: `timebus conflicts {shown}`", counted(writes.len(), "value")));
    }
    Ok(!writes.is_empty() || child_names(&*rows, at.main(), path).next().is_some())
}

/// Whether the space of somebody else comes.
async fn of_space(peer: &Peer, people: &People, key: &PublicKey, is_here: bool, told: &mut Told) -> Result<(), Problem> {
    let name = people.name(key);
    let key = *key;
    let Some(network) = peer.network() else {
        told.say(format!("no peer runs in this home, so nothing comes of {name}"));
        told.fix("timebus up".to_owned());
        return Ok(());
    };
    let Ok(status) = network.ask(move |node| node.space(&key)).await else { return Ok(()) };
    let status = crate::remote::by_rights(peer.store(), status);
    if lists::is_blocked(peer.store(), &key) {
        told.say(format!("you blocked {name}, so nothing comes of him"));
        told.fix(format!("timebus unblock {key}"));
        return Ok(());
    }
    if !status.is_followed {
        told.say(format!("you do not follow {name}: what is here is what was read last, and nothing comes by itself"));
        told.fix(format!("timebus follow {key}"));
    }
    told.say(match &status.state {
        SpaceState::Live { .. } => format!("{name} is connected, or somebody who has that space, and all that came from there is here"),
        SpaceState::Loading => format!("the space of {name} is coming now"),
        SpaceState::Connecting => format!("whoever has the space of {name} is being called"),
        SpaceState::Waiting => format!("what you write there waits until {name} accepts it; what others write comes"),
        SpaceState::Denied => format!("whoever has the space of {name} does not give it to this peer: ask {name} for an invite"),
        SpaceState::Unreachable { seen_ms: 0, .. } => format!("nobody who has the space of {name} was ever reached"),
        SpaceState::Unreachable { seen_ms, .. } => {
            format!(
                "nobody who has the space of {name} is reached, the last time was on {}: what is written since then comes when he is back",
                day(*seen_ms)
            )
        }
        SpaceState::Unknown => format!("nobody is known who has the space of {name}: take an invite, or `timebus find {}`", human_name(&key)),
        SpaceState::Offline => "this peer is offline and calls nobody".to_owned(),
    });
    if !is_here {
        told.say(format!("so nothing of the space of {name} is here"));
    }
    Ok(())
}

/// What waits for the owner's word in the space of the path.
fn of_held(peer: &Peer, people: &People, key: &PublicKey, told: &mut Told) {
    let held = peer.ledger().held();
    for one in held.values().filter(|one| super::costs::space_of(peer, one) == Some(*key)) {
        let who = one.who.parse().map_or_else(|_| one.who.clone(), |who| people.name(&who));
        told.say(format!(
            "{} in {} of {who} in that space wait for your word, and with them what others built on them and have no room for",
            size(one.bytes),
            counted(usize::try_from(one.changes).unwrap_or(usize::MAX), "change"),
        ));
        told.fix("timebus held".to_owned());
    }
}

/// What became of the notices that were sent from the path, or about it: what is not taken is counted by nobody else.
async fn of_notices(peer: &Peer, people: &People, key: &PublicKey, path: &Path, told: &mut Told) {
    let Some(network) = peer.network() else { return };
    let all: Vec<Sent> = network.ask(|node| node.outbox().list().into_iter().cloned().collect()).await.unwrap_or_default();
    let is_here = |text: &str| Pointer::parse(text).is_some_and(|at| at.space == *key && at.path == *path);
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
        told.say(format!("your {kind} {state}"));
    }
}
