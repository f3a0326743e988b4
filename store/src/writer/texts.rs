//! Requests to texts and counters.
//!
//! An edit of a text is made by a *session*: a name that counts its events. A caller who names the new version
//! `agent-seq` is the session `agent`, and his edits are signed as he made them, on the version that he made them on: so
//! he and others know his versions by his names, and may say them again without harm. A session is of whoever began it in
//! the text: what somebody else says under its name is counted by another session, and the name goes for that one as names of
//! versions do. For a caller without a name this device has a session in each text; what he edited is brought to the newest
//! version before it is signed.

use timebus_identity::{PublicKey, SecretKey};

use super::requests::{Called, check_condition, check_keeps_off, check_reserved, whom};
use super::version::{is_of_many, many};
use super::{Action, Asker, Decider, Request, WriteError, Written, names_at, resolve};
use crate::fold::Bodies;
use crate::ids::{ChangeId, OpId};
use crate::json::Pos;
use crate::keyspace::{Layered, Rows, Table};
use crate::list::Order;
use crate::node::{Node, Write, history_prefix, node_key};
use crate::objects::{Creator, Kind, ObjectId, STEPS_MAX, Texts, creator, version_within};
use crate::op::{Op, TextEdit};
use crate::path::Path;
use crate::pipeline::{Labelled, Whom, labelled};
use crate::plan::{Drafter, Plan, PlanError, Target};
use crate::store::StorageError;
use crate::summary::{find, summary};
use crate::text::{Budget, Known, NoEffect, TEXT_CHARS_MAX, TextDraft, TextObject, TextOp, TextVersion, VersionError, compact, edits_between};
use crate::tree::{Shape, Tree};
use crate::value::{INT_MAX, Mime, Value};
use crate::view::View;

/// Edits of a text, as a caller has them. Positions are Unicode scalar values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextEdits {
    /// Each on top of the ones before.
    Sequence(Vec<TextEdit>),
    /// Ranges of the text that the caller saw, which do not overlap, and what comes in their place.
    Ranges(Vec<(Pos, Pos, String)>),
}

/// Why edits do not become a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The path holds something else.
    #[error("{0} holds no text")]
    NotAText(Path),
    /// The path holds something else.
    #[error("{0} holds neither a counter nor a number")]
    NotACounter(Path),
    /// An edit reaches beyond the text it was made on, or overlaps another one.
    #[error("an edit does not fit the text of {chars} characters that it was made on")]
    Range {
        /// How long that text is.
        chars: u64,
    },
    /// The new version's name says that there were fewer events than there are.
    #[error("the version {label} names the last of {events} inserted and deleted characters, so its number is at least {}", events - 1)]
    TooFewEvents {
        /// The name.
        label: String,
        /// Characters put in and taken out.
        events: u64,
    },
    /// The edits break a rule of the session or the text.
    #[error("{label}: {reason}")]
    Refused {
        /// The new version's name.
        label: String,
        /// Why.
        reason: NoEffect,
    },
    /// It would take too long.
    #[error("bringing the edits to the newest version of the text takes too long; read it again and edit that")]
    Busy,
}

/// A version, as readers of a path name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Arrival number of the change.
    pub a: u64,
    /// An event of the path's text, if it is one, and not the last of its change: that is the whole change.
    pub event: Option<(ChangeId, u64)>,
}

/// The session and number that a version's name says, if it is the name of an event.
#[must_use]
pub fn session_of(label: &str) -> Option<(&str, u64)> {
    let (agent, seq) = label.rsplit_once('-')?;
    let number: u64 = seq.parse().ok()?;
    // "+1" and "01" would be second spellings.
    (!agent.is_empty() && number.to_string() == seq).then_some((agent, number))
}

/// A text that shows at a path.
struct Shown {
    /// The write that wins.
    made: OpId,
    object: ObjectId,
    mime: Mime,
    /// Visible writes that stand for something else.
    beside: Vec<Write>,
}

/// The text that shows at a node. What it holds is not read.
fn shown_text(rows: &impl Rows, t: u32, t_key: &[u8], node: &Node) -> Result<Option<Shown>, StorageError> {
    if node.below > 0 {
        return Ok(None);
    }
    let mut writes = node.visible(rows, t_key, usize::MAX)?;
    let Some(Write { id: made, value: Value::Text { mime, .. }, .. }) = writes.first() else { return Ok(None) };
    let (made, mime) = (*made, mime.clone());
    let Some(Creator { object, .. }) = creator(rows, t, &made)? else { return Ok(None) };
    let mut beside = Vec::new();
    for write in writes.drain(1..) {
        if creator(rows, t, &write.id)?.is_none_or(|other| other.object != object) {
            beside.push(write);
        }
    }
    Ok(Some(Shown { made, object, mime, beside }))
}

/// The texts whose events may be named at a path: the one that shows, and the path's own.
fn texts_at(rows: &impl Rows, t: u32, path: &Path) -> Result<Vec<ObjectId>, StorageError> {
    let key = path.key();
    let t_key = node_key(t, &key);
    let mut found = Vec::new();
    for write in Node::load(rows, &t_key)?.visible(rows, &t_key, 2)? {
        if let Value::Text { .. } = write.value
            && let Some(creator) = creator(rows, t, &write.id)?
            && !found.contains(&creator.object)
        {
            found.push(creator.object);
        }
    }
    let own = ObjectId::of_path(Kind::Text, &key);
    if !found.contains(&own) {
        found.push(own);
    }
    Ok(found)
}

/// Finds versions by what readers of a path call them: an event of its text, a public name, or an id. Anybody may give a version
/// any name. Of several with one name that one is meant which did something at the path, and of those the one that was called so by
/// who asks, `asker` or the owner of `device`, which is this one; else the one that it wrote for its owner. A name that somebody else gave in
/// vain is none.
///
/// # Errors
///
/// [`WriteError::UnknownVersion`] with all that are unknown or ambiguous.
pub fn resolve_at<R: Rows>(
    rows: &R,
    t: u32,
    path: &Path,
    (device, asker): (&SecretKey, Option<Asker>),
    versions: &[String],
    mut find_version: impl FnMut(&R, &ObjectId, &str, u64) -> Result<Option<(ChangeId, Option<u64>)>, StorageError>,
) -> Result<Vec<Named>, WriteError> {
    let mut found = Vec::with_capacity(versions.len());
    let mut unknown = Vec::new();
    let mut texts: Option<Vec<ObjectId>> = None;
    'versions: for version in versions {
        if is_of_many(version)
            && let Some(all) = many(rows, t, &node_key(t, &path.key()), version)?
        {
            found.extend(all.into_iter().map(|a| Named { a, event: None }));
            continue;
        }
        // A name that one change has, which did something here, needs no look into the text.
        let by_label = labelled(rows, t, version)?;
        let mut here = Vec::new();
        for one in &by_label {
            if did_something(rows, t, path, one.a)? {
                here.push(*one);
            }
        }
        if let Some(a) = the_one(rows, t, (version, &here), device, asker)? {
            found.push(Named { a, event: None });
            continue;
        }
        if let Some((agent, seq)) = session_of(version) {
            if texts.is_none() {
                texts = Some(texts_at(rows, t, path)?);
            }
            for object in texts.iter().flatten() {
                if let Some((change, event)) = find_version(rows, object, agent, seq)?
                    && let Some((of, a)) = find(rows, &change)?
                    && of == t
                {
                    found.push(Named { a, event: event.map(|event| (change, event)) });
                    continue 'versions;
                }
            }
        }
        match resolve(rows, t, std::slice::from_ref(version)) {
            Ok(changes) => found.extend(changes.into_iter().map(|a| Named { a, event: None })),
            Err(WriteError::UnknownVersion(_)) => match the_one(rows, t, (version, &by_label), device, asker)? {
                Some(a) => found.push(Named { a, event: None }),
                None => unknown.push(version.clone()),
            },
            Err(error) => return Err(error),
        }
    }
    if unknown.is_empty() { Ok(found) } else { Err(WriteError::UnknownVersion(unknown)) }
}

/// Which of several changes of one name is meant, if that can be told: the only one that this device wrote for who asks; else, of
/// those that have the name, the only one, or the only one that it wrote for its owner.
fn the_one(
    rows: &impl Rows,
    t: u32,
    (label, named): (&str, &[Labelled]),
    device: &SecretKey,
    asker: Option<Asker>,
) -> Result<Option<u64>, StorageError> {
    let own = device.public();
    let (mut of_asker, mut of_owner, mut of_all) = (Vec::new(), Vec::new(), Vec::new());
    for one in named {
        let is_here = summary(rows, t, one.a)?.author == own;
        for (found, is_one) in [
            (&mut of_asker, is_here && one.is_for(device, asker.as_ref(), label)),
            (&mut of_owner, is_here && one.whom == Whom::Owner && !one.is_in_vain),
            (&mut of_all, !one.is_in_vain),
        ] {
            found.extend(is_one.then_some(one.a));
        }
    }
    Ok([of_asker, of_all, of_owner].iter().find_map(|found| if let [one] = found[..] { Some(one) } else { None }))
}

/// Whether a change has an op at a path.
pub(super) fn did_something(rows: &impl Rows, t: u32, path: &Path, a: u64) -> Result<bool, StorageError> {
    let prefix = [&history_prefix(&node_key(t, &path.key()))[..], &a.to_be_bytes()].concat();
    Ok(rows.scan(Table::History, &prefix, None).next().transpose()?.is_some())
}

/// The version of a text that names stand for.
///
/// # Errors
///
/// [`StorageError`].
pub fn text_version(rows: &impl Rows, t: u32, text: &TextObject, named: &[Named]) -> Result<TextVersion, StorageError> {
    let mut version = TextVersion::new();
    for name in named {
        let change = summary(rows, t, name.a)?.id;
        match name.event {
            Some(event) if text.has(&event.0) => version.push(event),
            _ => match text.events_of(&change) {
                Some(events) => version.push((change, events)),
                None => version.extend(version_within(rows, t, text, &View::of(rows, t, &[name.a])?)?),
            },
        }
    }
    version.sort_unstable();
    version.dedup();
    Ok(version)
}

fn events(edit: &TextEdit) -> u64 {
    edit.del + edit.ins.chars().count() as u64
}

/// This device's session in the text at a path.
fn own_session(text: Option<&TextObject>, device: &PublicKey, key: &[u8]) -> String {
    let hash = timebus_identity::hash("text session", &[device.as_bytes(), key]);
    let mut name = timebus_identity::z32::encode(&hash)[..12].to_owned();
    if let Some(text) = text {
        let first = name.clone();
        let mut next = 1;
        while !text.is_usable(&name) {
            name = format!("{first}-{next}");
            next += 1;
        }
    }
    name
}

/// What the names begin with of sessions that are counted beside the one that was asked for.
const BESIDE: &str = "~";

/// The session whose events are those that a caller says under the name of one: that one, unless it is somebody else's.
fn session_for(
    rows: &impl Rows,
    t: u32,
    text: &TextObject,
    (device, key): (&SecretKey, &[u8]),
    agent: &str,
    asker: Option<Asker>,
) -> Result<String, StorageError> {
    let own = device.public();
    let is_his = |(change, seq)| was_for(rows, t, &change, &format!("{agent}-{seq}"), device, asker);
    let last = text.last_of(&own, agent).map(is_his).transpose()?;
    let is_ours = agent.starts_with(&own_session(None, &own, key));
    let is_others = last == Some(false) || agent.starts_with(BESIDE) || is_ours && asker.is_some();
    if !is_others {
        return Ok(agent.to_owned());
    }
    let who = asker.map_or([0; Asker::BYTES], |asker| asker.0);
    let hash = timebus_identity::hash("text session beside", &[own.as_bytes(), &who, agent.as_bytes()]);
    Ok(format!("{BESIDE}{}", &timebus_identity::z32::encode(&hash)[..20]))
}

/// Whether this device wrote a change that was to be called so for somebody, or, if nobody is said, for its owner.
fn was_for(rows: &impl Rows, t: u32, change: &ChangeId, label: &str, device: &SecretKey, asker: Option<Asker>) -> Result<bool, StorageError> {
    let a = find(rows, change)?.map(|(_, a)| a);
    let known = labelled(rows, t, label)?.into_iter().find(|one| Some(one.a) == a);
    Ok(known.map_or(asker.is_none(), |one| one.is_for(device, asker.as_ref(), label)))
}

/// A session of this device in the text at a path, which has done nothing yet.
fn new_session(text: &TextObject, device: &PublicKey, key: &[u8]) -> String {
    let first = own_session(None, device, key);
    let names = (1..).map(|next| format!("{first}-{next}"));
    std::iter::once(first.clone()).chain(names).find(|name| text.next_seq(name) == 0).unwrap_or(first)
}

/// Makes edits of texts into ops of this device's sessions. `view` is what the caller had seen, if not everything.
pub(super) fn drafter<'a>(rows: &'a Layered, texts: &'a mut Texts, t: u32, device: PublicKey, path: Path, view: Option<View>) -> Drafter<'a> {
    let mut new = new_drafter(device, path);
    Box::new(move |made, edits| {
        let unreadable = |error: StorageError| PlanError::TextUnreadable(error.to_string());
        let Some(made) = made.filter(|_| !edits.is_empty()) else { return new(None, edits) };
        let Some(made) = creator(rows, t, made).map_err(unreadable)? else { return Ok(None) };
        let text = texts.text(rows, t, &made.object).map_err(unreadable)?;
        let version = match &view {
            None => text.version(),
            Some(view) => version_within(rows, t, text, view).map_err(unreadable)?,
        };
        match own_draft(text, &device, &made.path.key(), &version, edits, &mut Budget::steps(STEPS_MAX)) {
            Ok(draft) => Ok(draft),
            Err(WriteError::Text(TextError::Busy)) => Err(PlanError::TextTooBusy),
            Err(_) => Err(PlanError::TextTooLong),
        }
    })
}

/// As [`drafter`], for texts that are only made.
pub(super) fn new_drafter<'a>(device: PublicKey, path: Path) -> Drafter<'a> {
    let mut made = 0u32;
    Box::new(move |known, edits| {
        if known.is_some() || edits.is_empty() {
            return Ok(None);
        }
        // Texts that one request makes have sessions of their own.
        let mut key = path.key();
        if made > 0 {
            key.extend(made.to_be_bytes());
        }
        made += 1;
        let agent = own_session(None, &device, &key);
        let count: u64 = edits.iter().map(events).sum();
        Ok(Some(TextDraft { base: TextVersion::new(), agent: agent.into(), seq: count - 1, edits }))
    })
}

/// Edits of a version as an op of this device's session on the newest one; `None` if they do nothing there.
fn own_draft(
    text: &mut TextObject,
    device: &PublicKey,
    key: &[u8],
    version: &[(ChangeId, u64)],
    edits: Vec<TextEdit>,
    budget: &mut Budget,
) -> Result<Option<TextDraft>, WriteError> {
    let agent = own_session(Some(text), device, key);
    let edits = if *version == text.version() {
        edits
    } else {
        let seq = text.next_seq(&agent) + edits.iter().map(events).sum::<u64>() - 1;
        text.transform(version, &agent, seq, &edits, budget).map_err(version_error)?
    };
    if edits.is_empty() {
        return Ok(None);
    }
    Ok(Some(text.draft_edits(&agent, edits).ok_or(TextError::Range { chars: text.len() })?))
}

/// What takes an op of a change back.
pub(super) enum Inverse {
    /// Edits of a text that exists.
    Text(OpId, TextDraft),
    /// An addition to a counter that exists.
    Inc(OpId, i64),
    /// An element of a list, which showed behind a position.
    Move { list: OpId, element: OpId, before: OpId },
}

/// What takes back what a change did to texts, counters and places in lists that show, at and below a path.
pub(super) fn inverses(rows: &Layered, bodies: &mut Bodies, (t, a): (u32, u64), path: &Path, device: &PublicKey) -> Result<Vec<Inverse>, WriteError> {
    let loaded = bodies.load(rows, t, a)?;
    let (own, body) = &*loaded;
    let mut found = Vec::new();
    for op in &body.ops {
        if let Op::Move { elem, .. } = op {
            let Some(element) = Bodies::resolve(own, body, *elem) else { continue };
            let Some((_, made)) = bodies.write_at(rows, t, element)?.filter(|(at, _)| path.contains(at)) else { continue };
            let Some(list) = made.list else { continue };
            let before = Order::load(rows, t, &list)?.position_before(&element, &own.id);
            found.extend(before.map(|before| Inverse::Move { list, element, before }));
            continue;
        }
        let (Op::Text { obj, .. } | Op::Inc { obj, .. }) = op else { continue };
        let Some(made) = Bodies::resolve(own, body, *obj) else { continue };
        // What the change made itself goes as a whole.
        let Some(creator) = creator(rows, t, &made)?.filter(|creator| made.change != own.id && path.contains(&creator.path)) else { continue };
        let t_key = node_key(t, &creator.path.key());
        let Some(shows) = Node::load(rows, &t_key)?.winner(rows, &t_key)? else { continue };
        if crate::objects::creator(rows, t, &shows.id)?.is_none_or(|shown| shown.object != creator.object) {
            continue;
        }
        match op {
            Op::Inc { delta, .. } => found.push(Inverse::Inc(shows.id, delta.saturating_neg())),
            Op::Text { .. } => {
                let text = bodies.texts.text(rows, t, &creator.object)?;
                let mut budget = Budget::steps(STEPS_MAX);
                let Some(edits) = text.inverse_of(&own.id, &mut budget).map_err(version_error)? else { continue };
                let Some(events) = text.events_of(&own.id) else { continue };
                if !edits.is_empty() {
                    let draft = own_draft(text, device, &creator.path.key(), &[(own.id, events)], edits, &mut budget)?;
                    found.extend(draft.map(|draft| Inverse::Text(shows.id, draft)));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

impl Decider {
    /// The versions that a caller says he has seen, at a path.
    pub(super) fn resolve_at(&mut self, t: u32, path: &Path, asker: Option<Asker>, versions: &[String]) -> Result<Vec<Named>, WriteError> {
        let (rows, texts) = (&self.pipeline.rows, &mut self.pipeline.bodies.texts);
        resolve_at(rows, t, path, (&self.inner.device, asker), versions, |rows, object, agent, seq| {
            Ok(texts.text(rows, t, object)?.find_version(agent, seq))
        })
    }

    /// Works out and stages what a request does to a text.
    pub(super) fn decide_text(&mut self, request: Request) -> Result<Written, WriteError> {
        let Request { space, path, action, parents, label, condition, time_ms, may_name, .. } = request;
        let (asker, behalf) = whom(may_name.as_ref());
        let space = space.unwrap_or_else(|| self.pipeline.at(self.inner.own, &path));
        let t = space.main();
        let caps = self.caps(space, &path)?;
        check_reserved(&path, &action)?;
        self.merge_heads(t, &caps, time_ms)?;
        let taken = self.labelled(t, label.as_deref())?;
        let known = self.known_here(t, &path, label.as_deref(), &taken, asker)?;
        let t_key = node_key(t, &path.key());
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let existed = node.count() > 0 || node.below > 0;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        let done = |change| Written { version: version.clone(), change, created: None, existed, durable: true };
        // All that is here was seen.
        let parents = parents.filter(|parents| *parents != version || !version.iter().any(|name| is_of_many(name)));
        let named = parents.map(|parents| self.resolve_at(t, &path, asker, &parents)).transpose()?;
        let mut base = named.as_ref().map(|named| base_of(named)).transpose()?;
        let is_partial = named.iter().flatten().any(|name| name.event.is_some());
        let shown = shown_text(&self.pipeline.rows, t, &t_key, &node)?;
        let device = self.inner.device.public();
        let session = label.as_deref().and_then(session_of);
        let label_of = |agent: &str, seq: u64| label.clone().unwrap_or_else(|| format!("{agent}-{seq}"));
        let counted: Option<String>;
        let (rows, texts) = (&self.pipeline.rows, &mut self.pipeline.bodies.texts);
        let mut plan = Plan::new(space.key, move |list| Order::load(rows, t, list).unwrap_or_default(), Box::new(|_, _| Ok(None)));
        let draft = match shown {
            Some(Shown { made, object, mime, beside }) if !matches!(&action, Action::PutText { mime: wanted, .. } if *wanted != mime) => {
                let text = texts.text(rows, t, &object)?;
                counted = session.map(|(agent, _)| session_for(rows, t, text, (&self.inner.device, &path.key()), agent, asker)).transpose()?;
                let session = counted.as_deref().zip(session.map(|(_, seq)| seq));
                let tip = text.version();
                let at = match &named {
                    None => tip.clone(),
                    Some(named) => text_version(rows, t, text, named)?,
                };
                let mut budget = Budget::steps(STEPS_MAX);
                let seen = |text: &TextObject, budget: &mut Budget| -> Result<String, WriteError> {
                    if at == tip { Ok(text.text()) } else { text.text_at(&at, budget).map_err(version_error) }
                };
                // A whole text that is said again may be older than what is here by now.
                if let (Action::PutText { text: wanted, .. }, Some((agent, seq))) = (&action, session)
                    && let Some(event) = text.find_event(agent, seq)
                {
                    let same = text.text_at(&[event], &mut budget).map_err(version_error)? == *wanted;
                    if same {
                        return Ok(done(Some(event.0)));
                    }
                    // What another author calls so is his.
                    if text.author_of(agent).is_none_or(|author| author == device) {
                        return Err(WriteError::LabelTaken(label_of(agent, seq)));
                    }
                }
                if let (Action::PutText { text: wanted, .. }, None, Some(label)) = (&action, session, &label)
                    && let Some(a) = known
                {
                    let change = summary(rows, t, a)?.id;
                    let said = match text.events_of(&change) {
                        Some(events) => text.text_at(&[(change, events)], &mut budget).map_err(version_error)?,
                        None => String::new(),
                    };
                    return if said == *wanted { Ok(done(Some(change))) } else { Err(WriteError::LabelTaken(label.clone())) };
                }
                let edits = match &action {
                    Action::PutText { text: wanted, .. } => edits_between(&seen(text, &mut budget)?, wanted),
                    Action::EditText(TextEdits::Sequence(edits)) => compact(edits.clone()),
                    Action::EditText(TextEdits::Ranges(ranges)) => {
                        let chars = if at == tip { text.len() } else { seen(text, &mut budget)?.chars().count() as u64 };
                        in_sequence(ranges, chars)?
                    }
                    _ => Vec::new(),
                };
                if let Action::PutText { .. } = action {
                    // What is beside the text goes with it.
                    plan.delete_beside(&path, &beside);
                }
                let drafted = match session {
                    _ if edits.is_empty() => None,
                    Some((agent, seq)) => {
                        let draft = draft_of_session(text, &device, (agent, seq), &label_of(agent, seq), at.clone(), edits, &mut budget)?;
                        if let Some(begun) = draft.as_ref().filter(|draft| draft.base != at) {
                            // The rest of what is known to its middle stands on that.
                            let changes = begun.base.iter().map(|(change, _)| Ok(find(rows, change)?.map(|(_, a)| a)));
                            base = Some(changes.collect::<Result<Vec<_>, StorageError>>()?.into_iter().flatten().collect());
                        }
                        draft
                    }
                    None => {
                        if let Some(label) = &label
                            && let Some(a) = known
                        {
                            let id = summary(rows, t, a)?.id;
                            let same = said_before(text, &id, &edits);
                            return if same { Ok(done(Some(id))) } else { Err(WriteError::LabelTaken(label.clone())) };
                        }
                        own_draft(text, &device, &path.key(), &at, edits, &mut budget)?
                    }
                };
                drafted.map(|draft| (Target::Known(made), draft))
            }
            _ => {
                let now = Tree::load(rows, t, &path, usize::MAX)?;
                if now.is_absent() {
                    // Edits of what is gone would be seen by nobody.
                    if matches!(action, Action::EditText(_)) && named.is_some_and(|named| !named.is_empty()) {
                        return Err(WriteError::Absent(path));
                    }
                    // A text that was here stays gone: with all of it seen, what is made now is another one.
                    base = None;
                }
                let (mime, edits) = match action {
                    Action::PutText { mime, text } => (mime, if text.is_empty() { Vec::new() } else { edits_between("", &text) }),
                    Action::EditText(_) if !now.is_absent() => return Err(TextError::NotAText(path).into()),
                    Action::EditText(TextEdits::Sequence(edits)) => (Mime::plain_text(), compact(edits)),
                    Action::EditText(TextEdits::Ranges(ranges)) => (Mime::plain_text(), in_sequence(&ranges, 0)?),
                    _ => (Mime::plain_text(), Vec::new()),
                };
                check_fit(&edits, 0)?;
                let count: u64 = edits.iter().map(events).sum();
                // Where something is that the caller had not seen, his text may be one that was here before.
                let before = texts.text(rows, t, &ObjectId::of_path(Kind::Text, &path.key()))?;
                counted = session.map(|(agent, _)| session_for(rows, t, before, (&self.inner.device, &path.key()), agent, asker)).transpose()?;
                let (agent, seq) = match counted.clone().zip(session.map(|(_, seq)| seq)) {
                    Some(session) => session,
                    None => (new_session(before, &device, &path.key()), count.saturating_sub(1)),
                };
                if seq + 1 < count {
                    return Err(TextError::TooFewEvents { label: label_of(&agent, seq), events: count }.into());
                }
                let tree = match &base {
                    None => now.clone(),
                    Some(base) => {
                        let view = View::of(rows, t, base)?;
                        let bodies = &mut self.pipeline.bodies;
                        Tree::load_at(rows, t, &path, &view, usize::MAX, |a, index| {
                            let id = OpId { change: summary(rows, t, a)?.id, index };
                            bodies.write_at(rows, t, id)?.map(|(_, write)| write).ok_or(StorageError::Damaged { table: Table::History.name() })
                        })?
                    }
                };
                let made = plan.make(&path, &tree, Value::text(mime));
                (count > 0).then(|| (made, TextDraft { base: TextVersion::new(), agent: agent.into(), seq, edits }))
            }
        };
        check_condition(&condition, existed, &version, None, &path, |wanted| {
            super::version::same_version(wanted, &version, rows, t, &node, &t_key).unwrap_or(false)
        })?;
        // Under the name of somebody else's session the version is known to him alone.
        let is_beside = counted.is_some() && counted.as_deref() != session.map(|(agent, _)| agent);
        let mut name = label.clone().filter(|_| !is_beside);
        if let Some((made, draft)) = draft {
            name.get_or_insert_with(|| format!("{}-{}", draft.agent, draft.seq));
            plan.push_text(made, draft);
        }
        may_name.map_or(Ok(()), |may_name| check_keeps_off(&plan, &may_name, space.key))?;
        // Names are one namespace in a timeline; where one is taken, the text knows the version by it all the same.
        if let Some(taken) = &name
            && !labelled(rows, t, taken)?.is_empty()
        {
            name = None;
        }
        let bodies = plan.into_bodies()?;
        if bodies.is_empty() {
            return Ok(done(None));
        }
        let base = base.filter(|base| is_partial || !node.touch.is(base));
        let base_ids = base.map(|base| super::version::ids_of(&self.pipeline.rows, t, &base)).transpose()?;
        let last = self.stage(t, bodies, &caps, Called { name, wanted: label, asker, behalf }, base_ids, time_ms)?;
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        Ok(Written { version, change: Some(last), created: None, existed, durable: true })
    }

    /// Works out and stages an addition to a counter.
    pub(super) fn decide_inc(&mut self, request: Request) -> Result<Written, WriteError> {
        let Request { space, path, action, label, condition, time_ms, may_name, .. } = request;
        let (asker, behalf) = whom(may_name.as_ref());
        let Action::Inc(delta) = action else { return Err(TextError::NotACounter(path).into()) };
        let space = space.unwrap_or_else(|| self.pipeline.at(self.inner.own, &path));
        let t = space.main();
        let caps = self.caps(space, &path)?;
        check_reserved(&path, &action)?;
        self.merge_heads(t, &caps, time_ms)?;
        let taken = self.labelled(t, label.as_deref())?;
        let known = self.known_here(t, &path, label.as_deref(), &taken, asker)?;
        let rows = &self.pipeline.rows;
        let t_key = node_key(t, &path.key());
        let node = Node::load(rows, &t_key)?;
        let existed = node.count() > 0 || node.below > 0;
        let version = names_at(rows, t, &t_key, &node)?;
        if let Some(label) = &label
            && let Some(a) = known
        {
            let loaded = self.pipeline.bodies.load(&self.pipeline.rows, t, a)?;
            let added: Vec<i64> = loaded.1.ops.iter().filter_map(|op| if let Op::Inc { delta, .. } = op { Some(*delta) } else { None }).collect();
            return if added == [delta] {
                Ok(Written { version, change: Some(loaded.0.id), created: None, existed, durable: true })
            } else {
                Err(WriteError::LabelTaken(label.clone()))
            };
        }
        check_condition(&condition, existed, &version, None, &path, |wanted| {
            super::version::same_version(wanted, &version, rows, t, &node, &t_key).unwrap_or(false)
        })?;
        let tree = Tree::load(rows, t, &path, usize::MAX)?;
        let mut plan = Plan::new(space.key, move |list| Order::load(rows, t, list).unwrap_or_default(), Box::new(|_, _| Ok(None)));
        let made = match (tree.shape(), tree.writes.first()) {
            (Shape::Absent, _) => plan.make(&path, &tree, Value::Counter(0)),
            (Shape::Scalar, Some(Write { id, value: Value::Counter(_), .. })) => Target::Known(*id),
            (Shape::Scalar, Some(Write { value: Value::Int(number), .. })) => plan.make(&path, &tree, Value::Counter(*number)),
            _ => return Err(TextError::NotACounter(path).into()),
        };
        plan.push_inc(made, delta.clamp(-INT_MAX, INT_MAX));
        may_name.map_or(Ok(()), |may_name| check_keeps_off(&plan, &may_name, space.key))?;
        let bodies = plan.into_bodies()?;
        let wanted = label.clone();
        let label = self.unless_taken(t, &path, label, &taken)?.filter(|label| !version.contains(label));
        let last = self.stage(t, bodies, &caps, Called { name: label, wanted, asker, behalf }, None, time_ms)?;
        let node = Node::load(&self.pipeline.rows, &t_key)?;
        let version = names_at(&self.pipeline.rows, t, &t_key, &node)?;
        Ok(Written { version, change: Some(last), created: None, existed, durable: true })
    }
}

/// The changes that names stand for.
pub(super) fn base_of(named: &[Named]) -> Result<Vec<u64>, WriteError> {
    let mut base: Vec<u64> = named.iter().map(|name| name.a).collect();
    base.sort_unstable();
    base.dedup();
    if base.len() > crate::change::PARENTS_MAX { Err(WriteError::TooManyParents(base.len())) } else { Ok(base) }
}

fn version_error(error: VersionError) -> WriteError {
    match error {
        VersionError::DoesNotFit => TextError::Range { chars: TEXT_CHARS_MAX }.into(),
        VersionError::OverBudget(_) => TextError::Busy.into(),
        // What has no effect is in nobody's text.
        VersionError::Unknown => WriteError::UnknownVersion(Vec::new()),
    }
}

fn check_fit(edits: &[TextEdit], mut len: u64) -> Result<(), TextError> {
    let chars = len;
    for edit in edits {
        if edit.pos > len || edit.del > len - edit.pos {
            return Err(TextError::Range { chars });
        }
        len = len - edit.del + edit.ins.chars().count() as u64;
    }
    if len > TEXT_CHARS_MAX { Err(TextError::Range { chars }) } else { Ok(()) }
}

/// Ranges of one text as edits on top of each other.
fn in_sequence(ranges: &[(Pos, Pos, String)], chars: u64) -> Result<Vec<TextEdit>, TextError> {
    let wrong = TextError::Range { chars };
    let at = |pos: &Pos| match pos {
        Pos::FromStart(at) => Some(*at),
        Pos::FromEnd(at) => chars.checked_sub(*at),
    };
    let mut found = Vec::with_capacity(ranges.len());
    for (start, end, ins) in ranges {
        let (start, end) = at(start).zip(at(end)).filter(|(start, end)| start <= end && *end <= chars).ok_or_else(|| wrong.clone())?;
        found.push((start, end, ins));
    }
    found.sort_by_key(|(start, end, _)| (*start, *end));
    if found.windows(2).any(|pair| pair[1].0 < pair[0].1) {
        return Err(wrong);
    }
    let mut edits = Vec::with_capacity(found.len());
    let (mut grown, mut shrunk) = (0, 0);
    for (start, end, ins) in found {
        let edit = TextEdit { pos: start + grown - shrunk, del: end - start, ins: ins.as_str().into() };
        grown += edit.ins.chars().count() as u64;
        shrunk += edit.del;
        if events(&edit) > 0 {
            edits.push(edit);
        }
    }
    Ok(edits)
}

/// Whether an op has these edits.
fn said_before(text: &TextObject, change: &ChangeId, edits: &[TextEdit]) -> bool {
    text.update_of(change).is_some_and(|update| {
        let first = (update.name.seq + 1).saturating_sub(update.edits.iter().map(events).sum());
        text.known(&update.name.agent, first, edits) == Known::Same
    })
}

/// The edits of a session that names its events. `None` if all of them are known.
fn draft_of_session(
    text: &mut TextObject,
    device: &PublicKey,
    (agent, seq): (&str, u64),
    label: &str,
    at: TextVersion,
    edits: Vec<TextEdit>,
    budget: &mut Budget,
) -> Result<Option<TextDraft>, WriteError> {
    let label = || label.to_owned();
    let count: u64 = edits.iter().map(events).sum();
    let Some(first) = seq.checked_add(1).and_then(|end| end.checked_sub(count)) else {
        return Err(TextError::TooFewEvents { label: label(), events: count }.into());
    };
    let (base, edits) = match text.known(agent, first, &edits) {
        Known::New => (at, edits),
        Known::Same => return Ok(None),
        Known::Begun { last, rest } => (vec![last], rest),
        // What another author calls so is his: from here on the events of both have the names of their changes.
        Known::Other if text.author_of(agent).is_some_and(|author| author != *device) => (at, edits),
        Known::Other => return Err(WriteError::LabelTaken(label())),
    };
    let draft = TextDraft { base, agent: agent.into(), seq, edits };
    let op =
        TextOp { change: ChangeId([0; 32]), author: *device, base: draft.base.clone(), agent: draft.agent.clone(), seq, edits: draft.edits.clone() };
    text.would_admit(&op, |_| true).map_err(|reason| TextError::Refused { label: label(), reason })?;
    if draft.base == text.version() {
        check_fit(&draft.edits, text.len())?;
    } else {
        // Finds out whether the edits fit where they were made. What is too entangled for that is taken as it is: merging
        // finds it out.
        match text.transform(&draft.base, agent, seq, &draft.edits, budget) {
            Ok(_) | Err(VersionError::OverBudget(_)) => {}
            Err(VersionError::Unknown) if text.is_parked() => {}
            Err(error) => return Err(version_error(error)),
        }
    }
    Ok(Some(draft))
}
