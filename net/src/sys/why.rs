//! Why somebody may, or may not, do something: everything that decides it here, in words. Grants of the space; and what is
//! no matter of grants: the system, the inbox, apps, whom the owner blocked, and what waits for his word.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value as Serde, json};
use timebus_identity::{PublicKey, human_name};
use timebus_store::auth::{Explanation, Lack, Rights, Way};
use timebus_store::change::OVERHEAD_BYTES;
use timebus_store::grant::{Actions, Audience, Timelines};
use timebus_store::ids::{GrantId, TimelineId};
use timebus_store::node::{Node, node_key};
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::StorageError;
use timebus_store::tips::{size_of, tips_of};
use timebus_store::writer::is_reserved;

use super::revoke::meant;
use super::rights::{describe, hidden_words, is_since, place, rights_of};
use crate::authority::{Verb, is_keeper_of, own_word_at};
use crate::ledger::{Payer, Relation};
use crate::lists;
use crate::node::SpaceState;
use crate::peer::Peer;
use crate::people::{People, Person};
use crate::problem::Problem;
use crate::route::storage_problem;
use crate::sys::network::bad;
use crate::who::now_ms;
use crate::words::{action_words, counted, join, moment, quoted, scope_words, short, size};

/// What becomes of a device that was thrown out.
pub(super) const DEVICE_NO_MORE: &str = "a device that is one of yours no more may be in other hands: if it is not, make it one again, as a new one, \
                                         with `timebus devices add`";

/// What apps are called where people are.
const APP: &str = "app:";

/// What is asked: whether `who` may `can` at `path`.
struct Question<'a> {
    verb: Verb,
    can: &'a str,
    /// As people write it.
    shown: String,
    who: Option<&'a str>,
}

impl Question<'_> {
    /// An answer that begins with yes or no.
    fn answer(&self, path: &str, person: &str, key: Option<&PublicKey>, allowed: bool, why: Vec<String>) -> Serde {
        let may = if allowed { "may" } else { "may not" };
        let mut says = vec![format!("{}: {person} {may} {} {}", if allowed { "yes" } else { "no" }, self.can, self.shown)];
        says.extend(why);
        json!({
            "allowed": allowed,
            "can": self.can,
            "path": path,
            "who": person,
            "key": key.map(ToString::to_string),
            "root": false,
            "says": says,
            "ways": [],
            "fix": null,
            "ask": null,
        })
    }
}

/// Answers it.
pub(super) async fn why(peer: &Peer, can: &str, segments: &[&str], who: Option<&str>) -> Result<Serde, Problem> {
    if can == "shown" {
        let shown = super::shown::shown(peer, segments).await?;
        return match who {
            Some(who) => Ok(shown_to(&shown, &Box::pin(why(peer, "read", segments, Some(who))).await?)),
            None => Ok(shown),
        };
    }
    let verb = Verb::parse(can).ok_or_else(|| bad(format!("{can:?} is none of read, write, admin, moderate, shown")))?;
    let (space, path) = place(peer, segments).await?;
    let rights = rights_of(peer, space)?;
    let people = People::now(peer).await;
    let shown = match space.is_own() {
        true => path.to_string(),
        false => format!("@{}{path}", people.petname(&space.key).unwrap_or_else(|| space.key.to_string())),
    };
    let question = Question { verb, can, shown, who };
    if let Some(alias) = who.and_then(|who| who.strip_prefix(APP)) {
        return of_app(peer, &people, &question, alias, space, &path);
    }
    let person = whom(peer, &people, &rights, who.unwrap_or("me"))?;
    match path.segments().first().map(ToString::to_string).as_deref() {
        Some(".sys") if space.is_own() => Ok(of_system(peer, &question, &person, segments)),
        Some(".drop") => of_inbox(peer, &question, &person, &people, space, &path),
        _ if matches!(verb, Verb::Write | Verb::Grant) && is_reserved(&path) => {
            let why = "names that begin with a dot are the system's: nobody writes there, whatever was granted".to_owned();
            Ok(question.answer(&path.to_string(), &person.name, None, false, vec![why]))
        }
        _ => of_grants(peer, &question, &person, &people, &rights, space, &path).await,
    }
}

/// Whom a name means: also a device of the owner's as he calls it, and somebody of whom nothing but a key with a grant is known.
pub(super) fn whom(peer: &Peer, people: &People, rights: &Rights, who: &str) -> Result<Person, Problem> {
    let problem = match meant(people, rights, who) {
        Err(problem) => problem,
        found => return found,
    };
    let given = crate::devices::names::given(peer.store()).unwrap_or_default();
    if problem.status == StatusCode::NOT_FOUND
        && let Some((key, name)) = given.into_iter().find(|(_, name)| name.to_lowercase() == who.to_lowercase())
    {
        return Ok(Person { name, space: Some(peer.space()), keys: vec![key], is_anyone: false });
    }
    let Ok(Some(space)) = people.find_space(who) else { return Err(problem) };
    let is_his = |key: &PublicKey| *people.owner_of(key) == space;
    let keys = rights.grants().filter_map(|(_, held)| if let Audience::Key(key) = held.grant.audience { Some(key) } else { None });
    match keys.filter(is_his).collect::<BTreeSet<_>>() {
        keys if keys.is_empty() => Err(problem),
        keys => Ok(Person { name: people.name(&space), space: Some(space), keys: keys.into_iter().collect(), is_anyone: false }),
    }
}

/// What shows here shows to somebody else if he may read it, too.
fn shown_to(shown: &Serde, read: &Serde) -> Serde {
    let words = |of: &Serde| -> Vec<Serde> { of["says"].as_array().into_iter().flatten().skip(1).cloned().collect() };
    let (is_there, may_read) = (shown["allowed"] == true, read["allowed"] == true);
    let who = read["who"].as_str().unwrap_or("?");
    let path = shown["shown"].as_str().unwrap_or("?");
    let first = match (is_there, may_read) {
        (true, true) => format!("yes: {path} shows, and {who} may read it"),
        (true, false) => format!("no: {path} shows here, but {who} may not read it"),
        (false, _) => format!("no: {path} does not show here, so it goes to nobody from here"),
    };
    let mut answer = if is_there && !may_read { read.clone() } else { shown.clone() };
    let mut says = vec![Serde::from(first)];
    if !may_read {
        says.push(format!("{who} may not read {path}:").into());
        says.extend(words(read));
    }
    if !is_there || may_read {
        says.extend(words(shown));
    }
    if is_there && may_read {
        says.extend(words(read));
        says.push(match who {
            "anyone" => "whoever asks this peer by HTTP is shown it".into(),
            who => format!("it is on the machines of {who} once they were connected to one that has it").into(),
        });
    }
    answer["can"] = "shown".into();
    answer["allowed"] = (is_there && may_read).into();
    answer["who"] = who.into();
    answer["says"] = says.into();
    answer
}

/// An app does what its card said, as the owner, and nothing else.
fn of_app(peer: &Peer, people: &People, question: &Question<'_>, alias: &str, space: Space, path: &Path) -> Result<Serde, Problem> {
    let Some(app) = peer.peer_of_app(alias).apps().find(alias) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "app", "there is no such app", format!("no app is installed as {alias}"))
            .with_fix("`timebus app ls` shows what is installed"));
    };
    let scope = app.scope();
    let allowed = match path.segments().first().map(ToString::to_string).as_deref() {
        Some(".sys") => scope.allows_sys(question.verb, path),
        _ => scope.allows(question.verb, &space.key, &app.space, path),
    };
    let card: Vec<String> = super::apps::card_words(&app.record, &super::apps::space_words(peer, people, &app.space));
    let mut why = match card.as_slice() {
        [] => vec!["it was given nothing when it was installed".to_owned()],
        card => std::iter::once("its card says that it may".to_owned()).chain(card.iter().map(|line| format!("- {line}"))).collect(),
    };
    if !allowed {
        why.push("an app asks for what it wants in its app.json, and you agree when it is installed again".to_owned());
    } else if question.verb == Verb::Write {
        let payer = Payer::App(alias.to_owned());
        let wrote = peer.ledger().app_costs().get(alias).map_or(0, |cost| cost.bytes);
        why.extend(limit_words(peer, &payer, Relation::App, wrote, &format!("{APP}{alias}")));
        why.extend(held_words(peer, &[payer.name()], "its"));
    }
    Ok(question.answer(&path.to_string(), &format!("the app {alias}"), None, allowed, why))
}

/// What is this peer's own is its owner's, and keys that look after it see how it is.
fn of_system(peer: &Peer, question: &Question<'_>, person: &Person, segments: &[&str]) -> Serde {
    let path = format!("/{}", segments.join("/"));
    if question.who.is_some()
        && let Some(key) = other_device(peer, person)
    {
        let why = format!(
            "it is this machine's own. Whoever sits there, or has its token, is the owner, and so is who signs with its key or the root key; {} \
             is another device of yours, and what that signs over HTTP is a guest's. It has a peer of its own",
            human_name(&key)
        );
        return question.answer(&path, &person.name, Some(&key), false, vec![why]);
    }
    if question.who.is_none() || person.space == Some(peer.space()) {
        let why = "it is this peer's own, and you are its owner".to_owned();
        return question.answer(&path, &person.name, None, true, vec![why]);
    }
    let part = segments.get(1).copied().unwrap_or_default();
    let would = person.keys.iter().find(|key| is_keeper_of(peer, key, question.verb, part));
    // Who has nothing there would have nothing without a block, either.
    let blocked = blocked_by(peer, person).filter(|_| would.is_some());
    let keeper = would.filter(|_| blocked.is_none());
    let why = match keeper {
        None if blocked.is_some() => format!("you have blocked {}", person.name),
        Some(_) => "an admin grant at /.sys lets a key see how this peer is, and stop it; nothing else of /.sys".to_owned(),
        None => "it is this peer's own and for its owner alone; what is granted of the space does not reach it".to_owned(),
    };
    let mut answer = question.answer(&path, &person.name, keeper, keeper.is_some(), vec![why]);
    if let Some(name) = blocked {
        answer["fix"] = format!("timebus unblock {name}").into();
    }
    answer
}

/// The other device of the owner's that is meant, if it is one that is.
fn other_device(peer: &Peer, person: &Person) -> Option<PublicKey> {
    let [key] = person.keys[..] else { return None };
    let is_device = peer.store().rights(&peer.space()).is_some_and(|rights| rights.device_grant(&key).is_some() && rights.root() != key);
    (is_device && key != peer.store().device()).then_some(key)
}

/// An inbox takes notices of everybody, and is read by its owner.
fn of_inbox(peer: &Peer, question: &Question<'_>, person: &Person, people: &People, space: Space, path: &Path) -> Result<Serde, Problem> {
    let path = path.to_string();
    let is_owner = person.space == Some(space.key);
    // What he may not without a block, either, is not told as if it were for that.
    let blocked = blocked_by(peer, person).filter(|_| space.is_own() && question.verb == Verb::Write);
    let is_closed = space.is_own() && peer.inbox()?.is_closed();
    let (allowed, why) = match question.verb {
        _ if blocked.is_some() => (false, format!("you have blocked {}", person.name)),
        Verb::Write if is_closed => (false, "your inbox is closed: it takes no notices of anybody".to_owned()),
        Verb::Write => {
            let (whose, unless) = match space.is_own() {
                true => ("this peer".to_owned(), ""),
                false => (format!("the peer of {}", people.name(&space.key)), ", unless its owner closed the inbox"),
            };
            (
                true,
                format!(
                    "everybody who reaches {whose} may leave short notices{unless}, in slots of his own and within 64 kB, and touches nothing else"
                ),
            )
        }
        Verb::Read if is_owner => (true, "it is his own inbox".to_owned()),
        Verb::Read => (false, "what was left in an inbox is for its owner".to_owned()),
        Verb::Grant | Verb::Moderate => (is_owner, "an inbox is its owner's; `timebus inbox` and `timebus mute` are how it is kept".to_owned()),
    };
    let mut answer = question.answer(&path, &person.name, None, allowed, vec![why]);
    if let Some(name) = blocked {
        answer["fix"] = format!("timebus unblock {name}").into();
    } else if question.verb == Verb::Write && is_closed {
        answer["fix"] = "timebus inbox open".into();
    }
    Ok(answer)
}

/// The name to unblock, of somebody whom the owner has blocked.
fn blocked_by(peer: &Peer, person: &Person) -> Option<String> {
    let keys = person.keys.iter().chain(&person.space);
    let is_blocked = !person.is_anyone && keys.clone().any(|key| lists::is_blocked(peer.store(), key));
    is_blocked.then(|| person.space.as_ref().or(person.keys.first()).map(ToString::to_string)).flatten()
}

/// What a grant has to allow for it. To give rights on is of use to whoever has what he gives.
fn actions(verb: Verb) -> Actions {
    match verb {
        Verb::Grant => Actions(Actions::READ.0 | Actions::WRITE.0 | Actions::GRANT.0),
        other => other.actions(),
    }
}

fn lack_words(people: &People, rights: &Rights, main: &TimelineId, lack: &Lack) -> String {
    match lack {
        Lack::Actions(actions) => format!("it gives no right to {}", join(&action_words(*actions))),
        // What is kept apart has a timeline of its own, and what is granted elsewhere does not reach it.
        Lack::Timeline(Timelines::Only(ids)) => {
            let paths: Vec<String> = rights.mounts().filter(|mount| ids.contains(&mount.timeline)).map(|mount| mount.path.to_string()).collect();
            format!("it is for {} alone, which is kept apart", if paths.is_empty() { "another timeline".to_owned() } else { join(&paths) })
        }
        Lack::Timeline(_) => {
            let path = rights.mounts().find(|mount| mount.timeline == *main).map_or_else(|| "this path".to_owned(), |mount| mount.path.to_string());
            format!("{path} is kept apart, and this is for the rest")
        }
        Lack::Path(scope) => format!("it is good {}", scope_words(scope)),
        Lack::OwnWord => "what is there is the owner's own word; only a grant for just that path is good there".to_owned(),
        Lack::Ended(at_ms) => format!("it ended on {}", moment(*at_ms)),
        Lack::UsedUp { max, written } => format!(
            "of the {} that may be written by it {} are: all that he wrote there counts, also by other grants and at other paths",
            size(*max),
            size(*written)
        ),
        Lack::Depth => "it can be handed on no further".to_owned(),
        Lack::ForEverybody => "it is for everybody, and only the owner opens something to everybody".to_owned(),
        Lack::Hidden(hidden) => hidden_words(people, hidden),
    }
}

/// In which order grants are told that are not enough, those first that were and are no more: what became of them is the reason.
fn weight(lacks: &[&Lack]) -> usize {
    let is_past = |lack: &&Lack| matches!(lack, Lack::Hidden(_) | Lack::Ended(_) | Lack::UsedUp { .. });
    match lacks.iter().all(is_past) {
        true => 0,
        false => lacks.len(),
    }
}

async fn of_grants(
    peer: &Peer,
    question: &Question<'_>,
    person: &Person,
    people: &People,
    rights: &Rights,
    space: Space,
    path: &Path,
) -> Result<Serde, Problem> {
    let (verb, can) = (question.verb, question.can);
    // Of the owner's devices this one is asked about, and it may be none any more.
    if question.who.is_none()
        && let Some(why) = lost(peer, people)
    {
        let why = vec![why, crate::write::LOST.to_owned()];
        return Ok(question.answer(&path.to_string(), &person.name, Some(&peer.store().device()), false, why));
    }
    let main = rights.timeline_of(path);
    let nobody = [PublicKey::from_bytes([0; 32])];
    let keys = if person.is_anyone { &nobody[..] } else { &person.keys[..] };
    let rows = peer.store().snapshot();
    let t = peer.store().number_of(&space.key, &main).unwrap_or(space.main());
    let mut all: Vec<(PublicKey, Explanation)> = Vec::with_capacity(keys.len());
    for key in keys {
        let (written, _) = size_of(&*rows, t, key).map_err(|error| storage_problem(&error))?;
        all.push((*key, rights.explain(key, actions(verb), (&main, written), path, now_ms())));
    }
    if question.who.is_none() || person.space == Some(peer.space()) {
        // Of the owner's devices this one is asked about, unless another is named.
        all.retain(|(key, _)| *key == peer.store().device() || keys.len() == 1);
    }
    // A new root signs who the devices are, and is none.
    if let Some(own) = person.space.and_then(|space| peer.store().rights(&space)).filter(|_| all.len() > 1) {
        all.retain(|(key, why)| why.allowed || own.root() != *key || own.device_grant(key).is_some());
    }
    all.sort_by_key(|(_, why)| !why.allowed);
    let reading = |key: &PublicKey| rights.grant_covering(Some(key), verb.actions(), &main, path, now_ms());
    let reads = |key: &PublicKey| verb == Verb::Read && reading(key).is_some();
    let (with, without): (Vec<_>, Vec<_>) = all.iter().map(|(key, why)| (key, why.allowed || reads(key))).partition(|(_, may)| *may);
    let [with, without] = [with, without].map(|keys| keys.into_iter().map(|(key, _)| human_name(key)).collect::<Vec<_>>());
    let is_in_part = !with.is_empty() && !without.is_empty();
    let Some((key, best)) = all.first() else { return Err(bad("nobody is meant")) };
    let by_timeline = !best.allowed && reads(key);
    let granted = best.allowed || by_timeline;
    let blocked = blocked_by(peer, person);
    let allowed = granted && !is_in_part && blocked.is_none();
    let mut why = Vec::new();
    if is_in_part {
        let devices = |names: &[String]| format!("{} ({})", counted(names.len(), "device"), join(names));
        why.push(format!("with {} of his he may, and with {} he may not: a right is for one device", devices(&with), devices(&without)));
        why.push(
            "a device that may bring guests hands on to the others what it may; of one that is lost it goes over to a new one when he says so \
             with his root key, by `timebus rotate --without`"
                .to_owned(),
        );
    }
    if blocked.is_some() {
        why.push(format!("you have blocked {}, so your peers neither answer nor sync with him", person.name));
    }
    if best.root {
        why.push("the key is the space's root key".to_owned());
    }
    // What decides nothing is not told: who reads has a whole timeline, and what is for a path that is kept apart is that.
    let is_named = |id: &GrantId| rights.grant(id).is_some_and(|held| held.grant.audience != Audience::Anyone);
    let mut told: Vec<(GrantId, &Way, Vec<&Lack>)> = Vec::new();
    for way in &best.ways {
        let Some(last) = way.links.last() else { continue };
        // Where reading follows from a grant for another path, that is the one to tell of.
        if by_timeline && reading(key) != Some(*last) {
            continue;
        }
        let is_apart = way.lacks.iter().any(|lack| matches!(lack, Lack::Timeline(Timelines::Only(_))));
        let is_whole = by_timeline || is_apart || verb == Verb::Read && is_named(last);
        let ended = way.lacks.iter().find_map(|lack| if let Lack::Ended(at_ms) = lack { Some(*at_ms) } else { None });
        let counts = |lack: &&Lack| match lack {
            Lack::Path(_) => !is_whole,
            Lack::Hidden(hidden) => ended.is_none_or(|ended| !is_since(hidden, ended)),
            _ => true,
        };
        told.push((*last, way, way.lacks.iter().filter(counts).collect()));
    }
    told.sort_by_key(|(.., lacks)| weight(lacks));
    let is_over = !granted && told.first().is_some_and(|(.., lacks)| weight(lacks) == 0);
    let mut ways = Vec::new();
    for (last, way, lacks) in &told {
        let Some(mut one) = describe(people, rights, last) else { continue };
        let text = |name: &str| one[name].as_str().unwrap_or("?").to_owned();
        let since = moment(one["time_ms"].as_u64().unwrap_or(0));
        let given = format!("grant {} by {}, of {since}: {}", short(&last.to_string()), text("by_name"), text("says"));
        let words: Vec<String> = lacks.iter().map(|lack| lack_words(people, rights, &main, lack)).collect();
        if !is_over || weight(lacks) == 0 {
            why.push(if words.is_empty() { given } else { format!("{given}; but {}", join(&words)) });
        }
        one["lacks"] = words.into();
        one["chain"] = way.links.iter().map(ToString::to_string).collect();
        ways.push(one);
        if granted {
            break;
        }
    }
    if is_over && verb == Verb::Read {
        let whose = if question.who.is_none() { "you" } else { person.name.as_str() };
        why.push(format!("what came to {whose} before that is kept there, as it was; nothing new goes there"));
    }
    if let Some(words) = forked(peer, t, key).map_err(|error| storage_problem(&error))? {
        why.push(words);
    }
    if by_timeline {
        why.push("what is read is a timeline and not a path: all of the space that is not kept apart".to_owned());
    }
    let former = person.space.iter().flat_map(|space| people.former(space)).find(|key| !rights.may(key, verb.actions(), &main, now_ms()).is_empty());
    if let Some(former) = former.filter(|_| !granted) {
        let lost = human_name(&former);
        why.push(format!(
            "what was granted is for {lost}, which is a device of his no more. It goes over to another one only if his root key said so, and \
             names that one: give him a new invite, and take that back with `timebus revoke {lost}`"
        ));
    } else if best.ways.is_empty() && !best.root {
        why.push("nothing was ever granted here to this key, nor to anyone".to_owned());
    }
    if verb == Verb::Read
        && question.who.is_none()
        && allowed
        && let Some(mount) = rights.mount_of(path)
    {
        why.push(super::timelines::readers_words(people, rights, mount));
    }
    let by_http = if verb == Verb::Write && allowed && space.is_own() { ByHttp::of(peer, person, space, path) } else { None };
    if verb == Verb::Write && allowed {
        why.extend(room_words(peer, people, person)?);
        why.extend(by_http.as_ref().map(|by_http| by_http.words(&person.name)));
        why.extend(held_words(peer, &person.keys.iter().chain(&person.space).map(ToString::to_string).collect::<Vec<_>>(), "his"));
        if question.who.is_none() {
            why.extend(waiting_words(peer, people, &space.key).await);
        }
        // The owner's own keys are asked about by what they are.
        if person.space != Some(space.key) && !best.root {
            why.extend(over_http(&space.key, path));
        }
        if space.is_own() && question.who.is_some() && other_device(peer, person).is_some() {
            why.extend(own_over_http(path));
        }
    }
    if verb == Verb::Write && person.is_anyone {
        why.push("writing is granted by name; strangers leave notices in the inbox, /.drop".to_owned());
    }
    // What somebody else may is told with what ends it.
    if allowed && space.is_own() && person.space != Some(peer.space()) && !best.root {
        if by_timeline && *path != Path::root() {
            if may_be_apart(path) {
                // What is there goes along.
                let along = if is_there(peer, space, path)? { " --move" } else { "" };
                why.push(format!("to keep this path apart from what he reads: `timebus private {}{along}`", quoted(&path.to_string())));
            }
            why.extend(reading(key).map(|grant| format!("to take all of it back: `timebus revoke {}`", short(&grant.to_string()))));
        } else if let Some(grant) = best.ways.iter().find(|way| way.lacks.is_empty()).and_then(|way| way.links.last()) {
            why.push(format!("to take it back: `timebus revoke {}`", short(&grant.to_string())));
        }
    }
    let mut answer = question.answer(&path.to_string(), &person.name, Some(key), allowed, why);
    if is_in_part && blocked.is_none() {
        answer["says"][0] = format!("in part: {} may {can} {}, but not with all of his devices", person.name, question.shown).into();
    }
    if by_http.is_some_and(|by_http| by_http.is_used_up) {
        answer["says"][0] =
            format!("in part: {} may {can} {} with a peer of his own, but nothing more over HTTP", person.name, question.shown).into();
    }
    answer["root"] = best.root.into();
    (answer["with"], answer["without"]) = (with.into(), without.into());
    answer["ways"] = ways.into();
    if let Some(name) = blocked {
        answer["fix"] = format!("timebus unblock {name}").into();
    } else if !allowed && (verb == Verb::Read || !person.is_anyone) {
        let may_grant = space.is_own()
            || rights.grant_covering(Some(&peer.store().device()), Actions(actions(verb).0 | Actions::GRANT.0), &main, path, now_ms()).is_some();
        let whom = question.who.map_or_else(|| key.to_string(), str::to_owned);
        if space.is_own() && rights.was_device(key) {
            add(&mut answer, vec![DEVICE_NO_MORE.to_owned()]);
            return Ok(answer);
        }
        // At his peer the path is his own, and nobody has the names that are given here.
        let (at, whom) = if may_grant { (question.shown.clone(), quoted(&whom)) } else { (path.to_string(), key.to_string()) };
        let (at, says) = opened(question, person, rights, path, &at, &whom);
        add(&mut answer, says);
        if verb == Verb::Write {
            add(&mut answer, over_http(&space.key, path).into_iter().collect());
        }
        let command = format!("timebus grant {} {whom} --can {can}", quoted(&at));
        match crate::community::organizers(peer.store(), space) {
            // Members are let in with all that members may, and an invite is how.
            Some((_, title)) if !rights.is_member(key) => {
                let name = people.petname(&space.key).unwrap_or_else(|| space.key.to_string());
                let command = format!("timebus invite --to {} --can member", quoted(&format!("@{name}")));
                add(&mut answer, vec![format!("{title:?} is a community: who is let in by a member may do there what its rules say")]);
                match rights.is_member(&peer.store().device()) {
                    true => answer["fix"] = command.into(),
                    false => answer["ask"] = json!({"who": format!("a member of {title:?}"), "command": command}),
                }
            }
            Some((who, _)) if !may_grant => answer["ask"] = json!({"who": who, "command": command}),
            _ if may_grant => answer["fix"] = command.into(),
            _ => answer["ask"] = json!({"who": people.name(&space.key), "command": command}),
        }
    }
    Ok(answer)
}

fn add(answer: &mut Serde, says: Vec<String>) {
    answer["says"].as_array_mut().into_iter().for_each(|all| all.extend(says.iter().map(|line| Serde::from(line.as_str()))));
}

/// The path that a grant has to name for what is asked, and what it opens beside that. What is read is a timeline.
fn opened(question: &Question<'_>, person: &Person, rights: &Rights, path: &Path, at: &str, whom: &str) -> (String, Vec<String>) {
    let prefix = at.strip_suffix(&path.to_string()).unwrap_or_default();
    let mount = rights.mount_of(path).map(|mount| mount.path.clone());
    let all = mount.clone().unwrap_or_else(Path::root);
    if all == *path || person.is_anyone {
        let is_all = person.is_anyone && path.is_root();
        let note = "that opens all that is not kept apart to everybody, and lets them keep it".to_owned();
        return (at.to_owned(), if is_all { vec![note] } else { Vec::new() });
    }
    let what = mount.map_or_else(|| "all of the space that is not kept apart".to_owned(), |mount| format!("all of {mount}"));
    match question.verb {
        Verb::Read => {
            let mut says = vec![format!("what is read is a timeline and not a path: with {path} {} would read {what}", person.name)];
            if all.is_root() && may_be_apart(path) {
                let place = quoted(&path.to_string());
                says.push(format!(
                    "for {path} alone it has to be kept apart: `timebus private {place} --move`, then `timebus grant {place} {whom} --can read`"
                ));
            }
            (format!("{prefix}{all}"), says)
        }
        _ => (at.to_owned(), vec![format!("who writes there reads {what}")]),
    }
}

/// Whether a path can be kept apart from the rest of its space.
fn may_be_apart(path: &Path) -> bool {
    !path.is_root() && !is_reserved(path)
}

/// Whether anything is at or below a path.
fn is_there(peer: &Peer, space: Space, path: &Path) -> Result<bool, Problem> {
    let rows = peer.store().snapshot();
    let t_key = node_key(peer.store().at(space, path).main(), &path.key());
    let node = Node::load(&*rows, &t_key).map_err(|error| storage_problem(&error))?;
    Ok(node.count() > 0 || node.below > 0)
}

/// What of somebody does not count any more although he may write: he said two things at one place.
fn forked(peer: &Peer, t: u32, key: &PublicKey) -> Result<Option<String>, StorageError> {
    let is_forked = tips_of(&*peer.store().snapshot(), t, key)?.len() > 1;
    Ok(is_forked.then(|| {
        format!(
            "but {} signed two different changes at one place of his chain: of what he writes from there on only that counts on which somebody \
             entitled went on, `timebus quarantine` lists the rest; his device may be a copy of another one",
            human_name(key)
        )
    }))
}

/// Those who may write at a path of a space and of whom the owner wants nothing more: what to call each in a command, and else.
pub(super) fn unwanted(peer: &Peer, people: &People, space: &PublicKey, path: &Path) -> BTreeSet<(String, String)> {
    let Some(rights) = peer.store().rights(space) else { return BTreeSet::new() };
    let writers = rights.grants().filter(|(_, held)| held.is_live() && held.grant.actions.contains(Actions::WRITE));
    let keys = writers.filter_map(|(_, held)| match held.grant.audience {
        Audience::Key(key) if held.grant.scope.covers(path, &key) => Some([Some(key), people.space_of(&key)]),
        _ => None,
    });
    let refused = |key: &PublicKey| *key != peer.space() && peer.ledger().settings_of(&Payer::Key(*key)).1;
    keys.flatten().flatten().filter(refused).map(|key| people.name(&key)).map(|name| (quoted(&name), name)).collect()
}

/// Whether this device was one of its owner's, and is none any more, as far as is known here.
pub(crate) fn is_lost(peer: &Peer) -> bool {
    let device = peer.store().device();
    let is_out = |rights: &Rights| rights.device_grant(&device).is_none() && rights.root() != device && rights.was_device(&device);
    peer.store().rights(&peer.space()).is_some_and(|rights| is_out(&rights))
}

/// What became of it, in words.
pub(super) fn lost(peer: &Peer, people: &People) -> Option<String> {
    let device = peer.store().device();
    let rights = peer.store().rights(&peer.space()).filter(|_| is_lost(peer))?;
    let had = rights.grants_for(&device).filter(|(_, held)| held.allows_everything());
    let why: Vec<String> = had.flat_map(|(id, _)| rights.hidden_by(&id)).map(|hidden| hidden_words(people, &hidden)).collect();
    let others: Vec<String> = rights.devices().map(|other| human_name(&other)).collect();
    let now = if others.is_empty() { String::new() } else { format!("; the devices of this space are now {}", join(&others)) };
    let because = why.first().map_or_else(String::new, |why| format!(": {why}"));
    Some(format!("this device, {}, is one of its owner's no more{because}{now}", human_name(&device)))
}

/// What a guest may by his own peer, and not by that of the owner, which signs as the owner.
fn over_http(space: &PublicKey, path: &Path) -> Option<String> {
    let own = own_word_at(path)?;
    let short = human_name(space);
    Some(format!(
        "that is by a peer of his own, which signs as him; over HTTP the peers of {short} refuse it, as what is at /{own} and signed by them is \
         the owner's own word"
    ))
}

/// What another device of the owner's may by its own peer, and not by this one.
fn own_over_http(path: &Path) -> Option<String> {
    let own = own_word_at(path)?;
    Some(format!(
        "that is by the peer of that device, which signs as itself; over HTTP this one takes it for a guest, and writes nothing at /{own} for \
         guests, as it would sign that"
    ))
}

/// How much somebody may keep here, and how much he does: what is more waits, although he may write it.
fn room_words(peer: &Peer, people: &People, person: &Person) -> Result<Option<String>, Problem> {
    let Some(key) = person.space.or(person.keys.first().copied()).filter(|key| !person.is_anyone && *key != peer.space()) else { return Ok(None) };
    let store = peer.store();
    let rows = store.snapshot();
    let mut kept: u64 = 0;
    for space in store.spaces() {
        for t in std::iter::once(space.auth()).chain(store.values(space).into_iter().map(|(t, _)| t)) {
            for author in person.keys.iter().chain(&person.space).collect::<BTreeSet<_>>() {
                kept += size_of(&*rows, t, author).map_err(|error| storage_problem(&error))?.0;
            }
        }
    }
    Ok(limit_words(peer, &Payer::Key(key), people.relation(&key), kept, &person.name))
}

/// What this peer wrote for somebody who asked it to over HTTP, which counts apart from what he writes himself.
struct ByHttp {
    wrote: u64,
    /// How much more it may be at the path that is asked about.
    left: u64,
    /// Whether nothing more may be there as the quotas of his grants are used up.
    is_used_up: bool,
}

impl ByHttp {
    /// `None` if it wrote nothing for him.
    fn of(peer: &Peer, person: &Person, space: Space, path: &Path) -> Option<Self> {
        let keys: BTreeSet<PublicKey> = person.keys.iter().chain(&person.space).copied().collect();
        let (wrote, room) = super::costs::by_http(peer, &keys)?;
        let quota = keys.iter().filter_map(|key| crate::behalf::left_at(peer, *key, space, path)).max();
        Some(Self { wrote, left: room.min(quota.unwrap_or(0)), is_used_up: quota.is_some_and(|quota| quota <= OVERHEAD_BYTES) })
    }

    fn words(&self, name: &str) -> String {
        let left = match self.left {
            left if left > OVERHEAD_BYTES => format!("{} more may be here", size(left)),
            _ if self.is_used_up => "no more may be here: values and files that are written for him over HTTP count for the quotas of his rights, \
                                     wherever in this space that is, beside what he writes himself"
                .to_owned(),
            _ => "no more may be".to_owned(),
        };
        format!("beside that, {} were written for {name} over HTTP, by peers of yours, and {left}", size(self.wrote))
    }
}

fn limit_words(peer: &Peer, payer: &Payer, relation: Relation, kept: u64, name: &str) -> Option<String> {
    let (said, never) = peer.ledger().settings_of(payer);
    let name = quoted(name);
    let limit = peer.ledger().limit_of(payer, relation);
    let (who, verb, place) = if relation == Relation::App { ("it", "write", "") } else { ("he", "keep", " here") };
    if never {
        return Some(format!("but you said that nothing more of this is to be kept here: `timebus limits {name} SIZE` changes that"));
    }
    let by = if said.is_some() { "as you said" } else { "if you say nothing else" };
    let full = if kept >= limit { "so whatever comes now waits for your word, `timebus held`" } else { "what is more waits for your word" };
    let (limit, kept) = (size(limit), size(kept));
    Some(format!("{who} may {verb} {limit}{place} in all, {by}, and {kept} are used; {full}: `timebus limits {name} SIZE` changes that"))
}

/// Whether somebody else holds back what is written here for his space.
async fn waiting_words(peer: &Peer, people: &People, space: &PublicKey) -> Option<String> {
    let network = peer.network().filter(|_| *space != peer.space())?;
    let key = *space;
    let status = network.ask(move |node| node.space(&key)).await.ok()?;
    let name = people.name(space);
    (status.state == SpaceState::Waiting).then(|| {
        format!("but what you write there waits until {name} accepts it: it is more than you may keep there, which `timebus held` shows {name}")
    })
}

/// What of somebody waits for the owner's word, although he may write it, and what was refused over HTTP.
fn held_words(peer: &Peer, payers: &[String], whose: &str) -> Vec<String> {
    let held = peer.ledger().held();
    let bytes =
        |is_http: bool| -> u64 { held.values().filter(|held| payers.contains(&held.who) && held.is_http() == is_http).map(|held| held.bytes).sum() };
    let who = if whose == "its" { "it" } else { "he" };
    let waits = |bytes| format!("but {} of {whose} wait for your word, as they are more than {who} may keep here: `timebus held`", size(bytes));
    let refused = |bytes| {
        format!(
            "but {} more that {who} wanted written over HTTP were refused, as there is no room for them: if you say yes, `timebus held`, {who} may \
             send them again",
            size(bytes)
        )
    };
    let [by_sync, by_http] = [false, true].map(|is_http| Some(bytes(is_http)).filter(|bytes| *bytes > 0));
    by_sync.map(waits).into_iter().chain(by_http.map(refused)).collect()
}
