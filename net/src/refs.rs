//! Who points at what: the references that this peer knows, from three sources.
//!
//! A reference is an object with the members `kind` (a word) and `target` (`/@<key>/path`, or a link), wherever it
//! stands; with `body` it says a few words more. That is what apps write in the space of their user, and what makes it
//! true. References are found in the spaces that are held here; in the inbox, by notices that say where such an object
//! is; and in spaces that the owner chose as an index, whose objects also have a `source`: what points, elsewhere.
//!
//! The table is derived and in memory. It is brought up to date when somebody asks, from what has arrived since: who
//! never asks pays nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use timebus_identity::PublicKey;
use timebus_store::inbox::{Inbox, Kept, Truth};
use timebus_store::json::Json;
use timebus_store::keyspace::{Committed, Rows as _, Table};
use timebus_store::node::{Node, node_key};
use timebus_store::notice::{NOTICE_BYTES_MAX, Pointer, is_kind};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::summary;
use timebus_store::tree::Tree;
use timebus_store::value::Value;

use crate::peer::lock;

/// References that are found in held spaces; more than anybody reads in a lifetime, and some hundred MB.
const FOUND_MAX: usize = 1_000_000;

/// An object that points somewhere.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reference {
    pub(crate) kind: Box<str>,
    pub(crate) target: Pointer,
    /// In an index: what points.
    source: Option<Pointer>,
    body: Option<Json>,
    at_ms: u64,
}

/// A reference to be shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) kind: Box<str>,
    pub(crate) source: Pointer,
    pub(crate) body: Option<Json>,
    pub(crate) at_ms: u64,
    /// Where this is known from.
    pub(crate) from: BTreeSet<String>,
    /// Whether what points was seen here.
    pub(crate) is_confirmed: bool,
}

/// Where an object is: in which space, and at which path.
type Place = (PublicKey, Path);

#[derive(Debug, Default)]
struct State {
    /// Up to which arrival number each timeline was looked at.
    upto: HashMap<u32, u64>,
    targets: BTreeMap<Pointer, BTreeSet<Place>>,
    places: BTreeMap<Place, Pointer>,
}

/// The references that were found in held spaces.
#[derive(Debug, Default)]
pub(crate) struct Refs(Mutex<State>);

fn child(path: &Path, name: &str) -> Option<Path> {
    path.join(Segment::name(name).ok()?).ok()
}

/// The reference at a path, if there is one.
pub(crate) fn reference(rows: &Committed, space: Space, path: &Path) -> Result<Option<Reference>, StorageError> {
    let t = space.main();
    let leaf = |name: &str| -> Result<Option<timebus_store::node::Write>, StorageError> {
        let Some(path) = child(path, name) else { return Ok(None) };
        let t_key = node_key(t, &path.key());
        Node::load(rows, &t_key)?.winner(rows, &t_key)
    };
    let pointer = |value: &Value| match value {
        Value::String(text) => Pointer::parse(text),
        Value::Link { space, path } => Some(Pointer { space: *space, path: path.clone() }),
        _ => None,
    };
    let Some(target) = leaf("target")? else { return Ok(None) };
    let Some(to) = pointer(&target.value) else { return Ok(None) };
    let kind = match leaf("kind")?.map(|write| write.value) {
        Some(Value::String(kind)) if is_kind(&kind) => kind,
        _ => return Ok(None),
    };
    let source = leaf("source")?.and_then(|write| pointer(&write.value));
    let body = match child(path, "body") {
        Some(at) if Node::load(rows, &node_key(t, &at.key()))?.below <= 64 => Tree::load(rows, t, &at, 1)?.to_json(&space.key),
        _ => None,
    };
    let is_short = |json: &Json| {
        let mut bytes = Vec::new();
        json.write(&mut bytes);
        bytes.len() <= NOTICE_BYTES_MAX
    };
    let at_ms = summary(rows, t, target.a)?.time_ms;
    Ok(Some(Reference { kind, target: to, source, body: body.filter(is_short), at_ms }))
}

impl State {
    fn forget(&mut self, place: &Place) {
        let Some(target) = self.places.remove(place) else { return };
        if let Some(places) = self.targets.get_mut(&target) {
            places.remove(place);
            if places.is_empty() {
                self.targets.remove(&target);
            }
        }
    }

    /// Looks at one place again.
    fn look(&mut self, rows: &Committed, space: Space, path: &Path) -> Result<(), StorageError> {
        let place = (space.key, path.clone());
        self.forget(&place);
        if self.places.len() < FOUND_MAX
            && let Some(found) = reference(rows, space, path)?
        {
            self.targets.entry(found.target.clone()).or_default().insert(place.clone());
            self.places.insert(place, found.target);
        }
        Ok(())
    }

    /// Looks at what has come into a timeline since the last time.
    fn refresh(&mut self, store: &Store, rows: &Committed, space: Space) -> Result<(), StorageError> {
        let t = space.main();
        let end = timebus_store::tips::heads(rows, t)?.into_iter().max().unwrap_or(0);
        let Some(upto) = self.upto.insert(t, end) else { return self.scan(rows, space) };
        if end <= upto {
            return Ok(());
        }
        let mut named: BTreeSet<Path> = BTreeSet::new();
        for change in store.latest(rows, t, None) {
            let (a, _, paths) = change?;
            if a <= upto {
                break;
            }
            named.extend(paths);
        }
        let mut places: BTreeSet<Path> = BTreeSet::new();
        for path in named {
            // What was removed or replaced as a whole may have held several.
            let below = self.places.range((space.key, path.clone())..);
            places.extend(
                below.map(|(place, _)| place).take_while(|place| place.0 == space.key && path.contains(&place.1)).map(|place| place.1.clone()),
            );
            let mut above = path.segments().to_vec();
            above.pop();
            places.extend([Path::new(above).unwrap_or_default(), path]);
        }
        places.iter().try_for_each(|path| self.look(rows, space, path))
    }

    /// Looks at everything of a timeline: names stand in order of their paths, so this is one walk.
    fn scan(&mut self, rows: &Committed, space: Space) -> Result<(), StorageError> {
        const NAME: &[u8] = b"\0target\0";
        for row in rows.scan(Table::Node, &space.main().to_be_bytes(), None) {
            let (key, node) = row?;
            if key.ends_with(NAME)
                && Node::decode(&node)?.count() > 0
                && let Some(path) = Path::from_key(&key[4..key.len() - NAME.len() + 1])
            {
                self.look(rows, space, &path)?;
            }
        }
        Ok(())
    }
}

/// What is known here of whether a notice says the truth.
pub(crate) fn truth(store: &Store, rows: &Committed, kept: &Kept) -> Result<Truth, StorageError> {
    let source = &kept.notice.source;
    let (Some(space), Some(rights)) = (store.held(&source.space), store.rights(&source.space)) else { return Ok(Truth::Unknown) };
    if kept.author != source.space && rights.device_grant(&kept.author).is_none() {
        return Ok(if rights.genesis().is_some() { Truth::Refuted } else { Truth::Unknown });
    }
    let space = store.at(space, &source.path);
    Ok(match reference(rows, space, &source.path)? {
        Some(found) if found.kind == kept.notice.kind && found.target == kept.notice.target => Truth::Confirmed,
        Some(_) => Truth::Refuted,
        // What is not here at all may come yet.
        None if timebus_store::tips::heads(rows, space.main())?.is_empty() => Truth::Unknown,
        None => Truth::Refuted,
    })
}

/// Whose word counts, and whose does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Spaces that tell what is in others.
    pub(crate) indexes: Vec<PublicKey>,
    /// Spaces and keys that are not listened to.
    pub(crate) blocked: Vec<PublicKey>,
}

impl Refs {
    /// Everything that is known to point at something, the oldest first.
    pub(crate) fn about(&self, store: &Store, inbox: &Inbox, target: &Pointer, trust: &Trust) -> Result<Vec<Shown>, StorageError> {
        let mut all: BTreeMap<(Pointer, Box<str>), Shown> = BTreeMap::new();
        let rows = store.snapshot();
        let places: Vec<Place> = {
            let mut state = lock(&self.0);
            for held in store.spaces() {
                for space in store.values(held.key) {
                    state.refresh(store, &rows, space)?;
                }
            }
            state.targets.get(target).into_iter().flatten().cloned().collect()
        };
        for (key, path) in places {
            let Some(space) = store.held(&key).map(|space| store.at(space, &path)) else { continue };
            // Rights may have hidden it since, so it is read again.
            let Some(found) = reference(&rows, space, &path)?.filter(|found| found.target == *target) else { continue };
            let own = Pointer { space: key, path };
            let (source, from) = match found.source {
                Some(source) if source != own => (source, format!("index:{key}")),
                _ => (own, "followed".to_owned()),
            };
            if from != "followed" && !trust.indexes.contains(&key) {
                continue;
            }
            add(&mut all, source, found.kind, found.body, found.at_ms, from.clone(), from == "followed");
        }
        for kept in inbox.about(target) {
            if trust.blocked.contains(&kept.author) {
                continue;
            }
            let truth = truth(store, &rows, &kept)?;
            inbox.judge(&kept.author, &kept.slot, truth);
            if truth != Truth::Refuted {
                let is_confirmed = truth == Truth::Confirmed;
                add(&mut all, kept.notice.source, kept.notice.kind, kept.notice.body, kept.at_ms, "inbox".to_owned(), is_confirmed);
            }
        }
        let mut shown: Vec<Shown> = all.into_values().filter(|shown| !trust.blocked.contains(&shown.source.space)).collect();
        shown.sort_by(|a, b| (a.at_ms, &a.source, &a.kind).cmp(&(b.at_ms, &b.source, &b.kind)));
        Ok(shown)
    }
}

fn add(
    all: &mut BTreeMap<(Pointer, Box<str>), Shown>,
    source: Pointer,
    kind: Box<str>,
    body: Option<Json>,
    at_ms: u64,
    from: String,
    is_confirmed: bool,
) {
    let new = || Shown { kind: kind.clone(), source: source.clone(), body: None, at_ms, from: BTreeSet::new(), is_confirmed: false };
    let shown = all.entry((source.clone(), kind.clone())).or_insert_with(new);
    shown.body = shown.body.take().or(body);
    shown.at_ms = shown.at_ms.min(at_ms);
    shown.from.insert(from);
    shown.is_confirmed |= is_confirmed;
}
