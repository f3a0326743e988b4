//! Who points at what: the references that this peer knows, from three sources.
//!
//! A reference is a *pointer*, `/@<key>/path` as a string or a link, where its place says what for: named `target`
//! beside a `kind`; named like, reply, quote, repost, mention or follow; or named `to` below one of these, or in an
//! item of likes, replies and so on. That is what apps write in the space of their user, and what makes it true.
//! References are found in the spaces that are held here; in the inbox, by notices that say where such a thing is; and in
//! spaces that the owner chose as an index, where beside `target` there is a `source`: what points, elsewhere.
//!
//! The table is derived and in memory. It is brought up to date when somebody asks, from what has arrived since: who
//! never asks pays nothing.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use timebus_identity::PublicKey;
use timebus_store::auth::Rights;
use timebus_store::inbox::{Inbox, Kept, Truth};
use timebus_store::json::Json;
use timebus_store::keyspace::{Committed, Rows as _, Table};
use timebus_store::node::{Node, node_key};
use timebus_store::notice::{Left, NOTICE_BYTES_MAX, Pointer, is_kind};
use timebus_store::path::{Path, Segment};
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::summary;
use timebus_store::tree::Tree;
use timebus_store::value::Value;

use crate::peer::lock;

/// References that are found in held spaces; more than anybody reads in a lifetime, and some hundred MB. Those of the owner of this
/// peer are found also beside so many of others.
const FOUND_MAX: usize = 1_000_000;
/// The same of one space, so that none keeps those of others from being found.
const FOUND_IN_SPACE_MAX: usize = 200_000;
/// Those of them that are by all others together than the space's owner: guests, and the members of a community.
const OF_OTHERS_MAX: usize = FOUND_IN_SPACE_MAX / 2;
/// And by each of them.
const OF_OTHER_MAX: usize = FOUND_IN_SPACE_MAX / 20;
/// References of one space to one thing: each is read when somebody looks at it.
const POINTERS_MAX: usize = 1000;
/// Those of them that are by others than the space's owner.
const POINTERS_OF_OTHERS_MAX: usize = POINTERS_MAX / 2;

/// References that are remembered as not taken; of more it is not counted whose they are.
const REFUSED_MAX: usize = FOUND_IN_SPACE_MAX;

/// What a reference can be for without saying so, and what collections of such are called.
const WORDS: [(&str, &str); 6] =
    [("like", "likes"), ("reply", "replies"), ("quote", "quotes"), ("repost", "reposts"), ("mention", "mentions"), ("follow", "follows")];
/// Rows of a body that are read at most, in bytes: it is shown up to [`NOTICE_BYTES_MAX`] as JSON, and rows say more than that.
const BODY_ROWS_BYTES_MAX: usize = 16 * NOTICE_BYTES_MAX;
/// Kinds that a person says once about a thing.
const ONCE: [&str; 3] = ["like", "repost", "follow"];
/// Values of a thing that are looked through to see whether it points somewhere.
const VALUES_MAX: u64 = 256;

/// Something that points somewhere.
#[derive(Clone, Debug, PartialEq)]
struct Reference {
    kind: Box<str>,
    target: Pointer,
    /// The object that points.
    source: Pointer,
    /// Whether that is the word of somebody else: an index.
    is_index: bool,
    body: Option<Json>,
    at_ms: u64,
    /// Who wrote it.
    by: PublicKey,
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
    /// The keys of those who say so in notices that nobody can check here.
    pub(crate) by: BTreeSet<PublicKey>,
}

/// How many there are of each kind. Of what a person says once about a thing, as that he likes it, each person counts once,
/// however many objects of his say so, and whoever signs notices for spaces that nobody can look into.
pub(crate) fn count<'a>(all: impl Iterator<Item = &'a Shown>) -> BTreeMap<String, i64> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    let mut heard: BTreeSet<(&str, PublicKey)> = BTreeSet::new();
    // What was seen here counts whatever anybody else says.
    let (confirmed, others): (Vec<&Shown>, Vec<&Shown>) = all.partition(|shown| shown.is_confirmed);
    for shown in confirmed.into_iter().chain(others) {
        let count = counts.entry(shown.kind.to_string()).or_default();
        let kind = &*shown.kind;
        if ONCE.contains(&kind) {
            let by = if shown.is_confirmed { BTreeSet::new() } else { shown.by.clone() };
            let is_new = |key: &PublicKey| !heard.contains(&(kind, *key));
            if !is_new(&shown.source.space) || !by.is_empty() && !by.iter().any(is_new) {
                continue;
            }
            heard.extend(by.into_iter().chain([shown.source.space]).map(|key| (kind, key)));
        }
        *count += 1;
    }
    counts
}

/// Where an object is: in which space, and at which path.
type Place = (PublicKey, Path);

#[derive(Debug, Default)]
struct State {
    /// Up to which arrival number each timeline was looked at.
    upto: HashMap<u32, u64>,
    targets: BTreeMap<Pointer, BTreeSet<Place>>,
    /// What is pointed at from where, and by whom, if that is not the space's owner.
    places: BTreeMap<Place, (Pointer, Option<PublicKey>)>,
    /// What was looked at and not taken, as enough points there, and by whom it is.
    refused: BTreeMap<Place, PublicKey>,
    /// How many of them are in each space.
    found: BTreeMap<PublicKey, Found>,
    /// How many of one space point at one thing: all, and those by others than the space's owner.
    pointers: HashMap<(Pointer, PublicKey), (usize, usize)>,
    /// What had arrived when everything was looked at the last time.
    arrivals: Option<u64>,
    /// To whom nobody listened then.
    blocked: BTreeSet<PublicKey>,
}

/// Who is not listened to.
struct Deaf<'a> {
    store: &'a Store,
    blocked: &'a BTreeSet<PublicKey>,
    known: HashMap<PublicKey, bool>,
}

impl<'a> Deaf<'a> {
    fn new(store: &'a Store, blocked: &'a BTreeSet<PublicKey>) -> Self {
        Self { store, blocked, known: HashMap::new() }
    }

    /// Whether that is so of a key, or of the space of somebody whose device it is.
    fn is_to(&mut self, key: &PublicKey) -> bool {
        let Self { store, blocked, known } = self;
        let theirs = || crate::whose::spaces_of(store, key, true);
        !blocked.is_empty() && *known.entry(*key).or_insert_with(|| blocked.contains(key) || theirs().iter().any(|space| blocked.contains(space)))
    }
}

/// What is needed to look at a space.
struct Looking<'a> {
    rows: &'a Committed,
    space: Space,
    /// Whose peer this is.
    own: PublicKey,
    /// The statements of the space.
    rights: Option<&'a Rights>,
    deaf: Deaf<'a>,
}

/// How many references were found in a space.
#[derive(Debug, Default)]
struct Found {
    all: usize,
    /// By others than its owner.
    of_others: usize,
    by: HashMap<PublicKey, usize>,
    /// How many of others were looked at and not taken, as enough points there: they take from what these may have, or looking at
    /// theirs would never end.
    refused: HashMap<PublicKey, usize>,
}

/// Takes one away from what is counted of somebody.
fn take_one(count: &mut HashMap<PublicKey, usize>, of: &PublicKey) {
    if let Some(own) = count.get_mut(of) {
        *own -= 1;
        if *own == 0 {
            count.remove(of);
        }
    }
}

impl Found {
    /// Whether there is room for one more, of the owner or of somebody else.
    fn has_room(&self, other: Option<&PublicKey>) -> bool {
        // What others have is no room that the owner lacks.
        match other {
            None => self.all - self.of_others < FOUND_IN_SPACE_MAX - OF_OTHERS_MAX || self.all < FOUND_IN_SPACE_MAX,
            Some(by) => {
                let own = [&self.by, &self.refused].into_iter().filter_map(|count| count.get(by)).sum::<usize>();
                self.of_others < OF_OTHERS_MAX && self.all < FOUND_IN_SPACE_MAX && own < OF_OTHER_MAX
            }
        }
    }

    fn count(&mut self, other: Option<&PublicKey>) {
        self.all += 1;
        if let Some(by) = other {
            self.of_others += 1;
            *self.by.entry(*by).or_default() += 1;
        }
    }

    fn forget(&mut self, other: Option<&PublicKey>) {
        self.all -= 1;
        if let Some(by) = other {
            self.of_others -= 1;
            take_one(&mut self.by, by);
        }
    }
}

/// The references that were found in held spaces.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    state: Mutex<State>,
}

fn child(path: &Path, name: &str) -> Option<Path> {
    path.join(Segment::name(name).ok()?).ok()
}

/// A path with its last segments left out.
fn above(path: &Path, levels: usize) -> Path {
    let segments = path.segments();
    Path::new(segments[..segments.len().saturating_sub(levels)].to_vec()).unwrap_or_default()
}

/// The name that many segments before the last.
fn name(path: &Path, levels: usize) -> &str {
    let at = path.segments().len().checked_sub(levels + 1);
    match at.and_then(|at| path.segments().get(at)) {
        Some(Segment::Name(name)) => name,
        _ => "",
    }
}

/// Whether references can be at places of this name.
pub(crate) fn is_leaf(name: &str) -> bool {
    matches!(name, "target" | "to") || WORDS.iter().any(|(word, _)| *word == name)
}

/// Who wrote the pointer at a place, if there is one.
fn writer(rows: &Committed, space: Space, leaf: &Path) -> Result<Option<PublicKey>, StorageError> {
    if !is_leaf(name(leaf, 0)) {
        return Ok(None);
    }
    let t_key = node_key(space.main(), &leaf.key());
    let write = Node::load(rows, &t_key)?.winner(rows, &t_key)?.filter(|write| write.value.pointer().is_some());
    write.map(|write| Ok(summary(rows, space.main(), write.a)?.author)).transpose()
}

/// Whether somebody is another one than the owner of the space of some statements.
fn is_other(rights: Option<&Rights>, key: &PublicKey) -> bool {
    rights.is_none_or(|rights| rights.root() != *key && !rights.was_device(key))
}

/// The small value at a path as JSON, and what it is made of.
fn body(rows: &Committed, space: Space, at: &Path) -> Result<Option<(Json, Tree)>, StorageError> {
    let t_key = node_key(space.main(), &at.key());
    if Node::load(rows, &t_key)?.below > VALUES_MAX {
        return Ok(None);
    }
    let mut bytes = 0;
    for row in rows.scan(Table::Node, &t_key, None) {
        bytes += row?.1.len();
        if bytes > BODY_ROWS_BYTES_MAX {
            return Ok(None);
        }
    }
    let tree = Tree::load(rows, space.main(), at, 1)?;
    let json = tree.to_json(&space.key).filter(|json| {
        let mut bytes = Vec::new();
        json.write(&mut bytes);
        bytes.len() <= NOTICE_BYTES_MAX
    });
    Ok(json.map(|json| (json, tree)))
}

/// The reference at a place, if there is one, with its body if that is asked for. It is the word of its owner if all of it is.
fn reference(rows: &Committed, space: Space, rights: Option<&Rights>, leaf: &Path, with_body: bool) -> Result<Option<Reference>, StorageError> {
    let t = space.main();
    // Who signed it, and for whom he says that he did: that is his word, so it makes nothing anybody else's.
    let by = |write: &timebus_store::node::Write| {
        let summary = summary(rows, t, write.a)?;
        Ok::<_, StorageError>(std::iter::once(summary.author).chain(summary.behalf))
    };
    let value = |path: &Path| -> Result<Option<timebus_store::node::Write>, StorageError> {
        let t_key = node_key(t, &path.key());
        Node::load(rows, &t_key)?.winner(rows, &t_key)
    };
    if !is_leaf(name(leaf, 0)) {
        return Ok(None);
    }
    let Some(write) = value(leaf)? else { return Ok(None) };
    let mut authors: Vec<PublicKey> = by(&write)?.collect();
    let Some(target) = write.value.pointer() else { return Ok(None) };
    let holder = above(leaf, 1);
    let (mut source, mut is_index, mut said) = (None, false, None);
    let (kind, at): (Box<str>, Path) = match name(leaf, 0) {
        "target" => {
            let beside = |name: &str| child(&holder, name).map_or(Ok(None), |path| value(&path));
            let (written, other) = (beside("kind")?, beside("source")?);
            for write in written.iter().chain(&other) {
                authors.extend(by(write)?);
            }
            let kind = match written.map(|write| write.value) {
                Some(Value::String(kind)) if is_kind(&kind) => kind,
                _ => return Ok(None),
            };
            source = other.and_then(|write| write.value.pointer());
            is_index = source.is_some();
            if let Some((json, tree)) = child(&holder, "body").filter(|_| with_body).map(|at| body(rows, space, &at)).transpose()?.flatten() {
                let mut writes = Vec::new();
                tree.all_writes(&mut writes);
                for write in writes {
                    authors.extend(by(write)?);
                }
                said = Some(json);
            }
            (kind, holder)
        }
        "to" => match WORDS.iter().find(|(one, many)| *one == name(leaf, 1) || *many == name(leaf, 2)) {
            Some((one, _)) if *one == name(leaf, 1) => ((*one).into(), above(leaf, 2)),
            Some((one, _)) => ((*one).into(), holder),
            None => return Ok(None),
        },
        word => (word.into(), holder),
    };
    let source = source.unwrap_or(Pointer { space: space.key, path: at });
    let summary = summary(rows, t, write.a)?;
    let by = authors.into_iter().find(|by| is_other(rights, by)).unwrap_or(summary.author);
    Ok(Some(Reference { kind, target, source, is_index, body: said, at_ms: summary.time_ms, by }))
}

impl State {
    fn forget(&mut self, place: &Place) {
        if let Some(by) = self.refused.remove(place)
            && let Some(found) = self.found.get_mut(&place.0)
        {
            take_one(&mut found.refused, &by);
        }
        let Some((target, other)) = self.places.remove(place) else { return };
        if let Some(found) = self.found.get_mut(&place.0) {
            found.forget(other.as_ref());
        }
        if let MapEntry::Occupied(mut there) = self.pointers.entry((target.clone(), place.0)) {
            let (all, of_others) = there.get_mut();
            *all -= 1;
            *of_others -= usize::from(other.is_some());
            if *all == 0 {
                there.remove();
            }
        }
        if let Some(places) = self.targets.get_mut(&target) {
            places.remove(place);
            if places.is_empty() {
                self.targets.remove(&target);
            }
        }
    }

    /// Looks at one place again.
    fn look(&mut self, at: &mut Looking<'_>, path: &Path) -> Result<(), StorageError> {
        let (rows, space, rights) = (at.rows, at.space, at.rights);
        let place = (space.key, path.clone());
        self.forget(&place);
        let Some(by) = writer(rows, space, path)? else { return Ok(()) };
        let other = Some(by).filter(|by| is_other(rights, by));
        let is_owner = space.key == at.own && other.is_none();
        let in_space = self.found.entry(space.key).or_default();
        if !is_owner && self.places.len() >= FOUND_MAX || !in_space.has_room(other.as_ref()) || other.is_some_and(|other| at.deaf.is_to(&other)) {
            return Ok(());
        }
        let Some(found) = reference(rows, space, rights, path, false)? else { return Ok(()) };
        let (all, of_others) = self.pointers.entry((found.target.clone(), space.key)).or_default();
        if *all >= POINTERS_MAX || other.is_some() && *of_others >= POINTERS_OF_OTHERS_MAX {
            if let Some(other) = other.filter(|_| self.refused.len() < REFUSED_MAX) {
                *in_space.refused.entry(other).or_default() += 1;
                self.refused.insert(place, other);
            }
            return Ok(());
        }
        *all += 1;
        *of_others += usize::from(other.is_some());
        in_space.count(other.as_ref());
        self.targets.entry(found.target.clone()).or_default().insert(place.clone());
        self.places.insert(place, (found.target, other));
        Ok(())
    }

    /// Looks at what has come into a timeline since the last time.
    fn refresh(&mut self, store: &Store, rows: &Committed, space: Space, blocked: &BTreeSet<PublicKey>) -> Result<(), StorageError> {
        let t = space.main();
        let end = timebus_store::tips::heads(rows, t)?.into_iter().max().unwrap_or(0);
        let rights = store.rights(&space.key);
        let mut at = Looking { rows, space, own: store.space(), rights: rights.as_deref(), deaf: Deaf::new(store, blocked) };
        let Some(upto) = self.upto.insert(t, end) else { return self.scan(&mut at) };
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
            let below = below.map(|(place, _)| place).take_while(|place| place.0 == space.key && path.contains(&place.1));
            places.extend(below.map(|place| place.1.clone()));
            let refused = self.refused.range((space.key, path.clone())..);
            let refused = refused.map(|(place, _)| place).take_while(|place| place.0 == space.key && path.contains(&place.1));
            places.extend(refused.map(|place| place.1.clone()));
            if matches!(name(&path, 0), "kind" | "source") {
                places.extend(child(&above(&path, 1), "target"));
            }
            places.insert(path);
        }
        places.iter().try_for_each(|path| self.look(&mut at, path))
    }

    /// Looks at everything of a timeline: names stand in order of their paths, so this is one walk.
    fn scan(&mut self, at: &mut Looking<'_>) -> Result<(), StorageError> {
        for row in at.rows.scan(Table::Node, &at.space.main().to_be_bytes(), None) {
            let (key, node) = row?;
            let Some(body) = key.strip_suffix(&[0]) else { continue };
            let last = body.rsplit(|byte| *byte == 0).next().unwrap_or_default();
            if std::str::from_utf8(last).is_ok_and(is_leaf)
                && Node::decode(&node)?.count() > 0
                && let Some(path) = Path::from_key(&key[4..])
            {
                self.look(at, &path)?;
            }
        }
        Ok(())
    }
}

/// Whether a thing points at a target: it holds a pointer to it. Who is followed or mentioned may be named by his key alone,
/// in a value or in the name of the thing.
fn points(tree: &Tree, kind: &str, path: &Path, target: &Pointer) -> bool {
    let key = target.space.to_string();
    let by_key = matches!(kind, "follow" | "mention");
    let mut writes = Vec::new();
    tree.all_writes(&mut writes);
    writes
        .iter()
        .any(|write| write.value.pointer().as_ref() == Some(target) || by_key && matches!(&write.value, Value::String(text) if **text == *key))
        || by_key && path.segments().iter().any(|segment| matches!(segment, Segment::Name(name) if name.contains(&key)))
}

/// What is known here of whether a notice says the truth.
pub(crate) fn truth(store: &Store, rows: &Committed, kept: &Kept) -> Result<Truth, StorageError> {
    let source = &kept.notice.source;
    let (Some(space), Some(rights)) = (store.held(&source.space), store.rights(&source.space)) else { return Ok(Truth::Unknown) };
    if kept.author != source.space && rights.device_grant(&kept.author).is_none() {
        return Ok(if rights.genesis().is_some() { Truth::Refuted } else { Truth::Unknown });
    }
    let space = store.at(space, &source.path);
    let t = space.main();
    let node = Node::load(rows, &node_key(t, &source.path.key()))?;
    if node.count() == 0 && node.below == 0 {
        // What is not here at all may come yet.
        let is_here = !timebus_store::tips::heads(rows, t)?.is_empty();
        return Ok(if is_here { Truth::Refuted } else { Truth::Unknown });
    }
    if node.below > VALUES_MAX {
        return Ok(Truth::Unknown);
    }
    let tree = Tree::load(rows, t, &source.path, 1)?;
    Ok(if points(&tree, &kept.notice.kind, &source.path, &kept.notice.target) { Truth::Confirmed } else { Truth::Refuted })
}

/// Judges notices that have just been left.
pub(crate) fn judge_new<'a>(store: &Store, inbox: &Inbox, left: impl Iterator<Item = &'a Left>, now_ms: u64) {
    let rows = store.snapshot();
    for left in left {
        let Some(notice) = left.notice.clone() else { continue };
        let Some(space) = store.held(&notice.source.space) else { continue };
        let kept = Kept { author: left.author, slot: left.slot.clone(), notice, at_ms: now_ms, truth: Truth::Unknown, as_of: 0 };
        match truth(store, &rows, &kept).and_then(|truth| Ok((truth, how_much(store, &rows, space)?))) {
            Ok((truth, as_of)) => inbox.judge(&kept.author, &kept.slot, truth, as_of),
            Err(error) => tracing::error!(%error, "a notice was not judged"),
        }
    }
}

/// How much of a space has come, as the number of what came last: it grows, and is the same as long as nothing new comes.
fn how_much(store: &Store, rows: &Committed, space: Space) -> Result<u64, StorageError> {
    let mut last = 0;
    for t in std::iter::once(space.auth()).chain(store.values(space).into_iter().map(|(t, _)| t)) {
        last = timebus_store::tips::heads(rows, t)?.into_iter().max().unwrap_or(0).max(last);
    }
    Ok(last)
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
    /// Finds out what can be found out about notices: of those about which nothing is known, and of all from a space of which
    /// something has come since.
    pub(crate) fn judge(&self, store: &Store, inbox: &Inbox) -> Result<(), StorageError> {
        let rows = store.snapshot();
        let mut come = HashMap::new();
        for space in inbox.sources().iter().filter_map(|space| store.held(space)) {
            come.insert(space.key, how_much(store, &rows, space)?);
        }
        for kept in inbox.unjudged(&come) {
            let as_of = come.get(&kept.notice.source.space).copied().unwrap_or(0);
            inbox.judge(&kept.author, &kept.slot, truth(store, &rows, &kept)?, as_of);
        }
        Ok(())
    }

    /// Everything that is known to point at something, the oldest first.
    pub(crate) fn about(&self, store: &Store, inbox: &Inbox, target: &Pointer, trust: &Trust) -> Result<Vec<Shown>, StorageError> {
        let mut all: BTreeMap<(Pointer, Box<str>), Shown> = BTreeMap::new();
        let arrivals = *store.arrivals().borrow();
        let rows = store.snapshot();
        let blocked: BTreeSet<PublicKey> = trust.blocked.iter().copied().collect();
        let mut deaf = Deaf::new(store, &blocked);
        let places: Vec<Place> = {
            let mut state = lock(&self.state);
            // What those say takes no room from others, and is found again once they are listened to.
            if state.blocked != blocked {
                *state = State { blocked: blocked.clone(), ..State::default() };
            }
            // Many ask after each change, and one look does for all of them.
            if state.arrivals != Some(arrivals) {
                for held in store.spaces() {
                    for space in store.shown(held.key) {
                        state.refresh(store, &rows, space, &blocked)?;
                    }
                }
                state.arrivals = Some(arrivals);
            }
            state.targets.get(target).into_iter().flatten().cloned().collect()
        };
        for (key, path) in places {
            let Some(space) = store.held(&key).map(|space| store.at(space, &path)) else { continue };
            // Rights may have hidden it since, so it is read again.
            let rights = store.rights(&key);
            let Some(found) = reference(&rows, space, rights.as_deref(), &path, true)?.filter(|found| found.target == *target) else { continue };
            let from = if found.is_index && found.source.space != key { format!("index:{key}") } else { "followed".to_owned() };
            let is_own = from == "followed";
            // What a guest or a member wrote there is his word, and not that of the space's owner.
            let is_of_owner = !is_other(rights.as_deref(), &found.by);
            if !is_of_owner && deaf.is_to(&found.by) {
                continue;
            }
            let is_confirmed = is_own && is_of_owner;
            if is_own || trust.indexes.contains(&key) {
                let by = Some(found.by).filter(|_| is_own && !is_confirmed);
                add(&mut all, found.source, found.kind, found.body, found.at_ms, from, is_confirmed, by);
            }
        }
        // Of what points here, and not of all that waits: many ask, each for something else.
        for kept in inbox.about(target) {
            if let Some(space) = store.held(&kept.notice.source.space) {
                inbox.judge(&kept.author, &kept.slot, truth(store, &rows, &kept)?, how_much(store, &rows, space)?);
            }
        }
        for kept in inbox.about(target) {
            if deaf.is_to(&kept.author) {
                continue;
            }
            if kept.truth != Truth::Refuted {
                let is_confirmed = kept.truth == Truth::Confirmed;
                add(
                    &mut all,
                    kept.notice.source,
                    kept.notice.kind,
                    kept.notice.body,
                    kept.at_ms,
                    "inbox".to_owned(),
                    is_confirmed,
                    Some(kept.author).filter(|_| !is_confirmed),
                );
            }
        }
        let mut shown: Vec<Shown> = all.into_values().filter(|shown| !blocked.contains(&shown.source.space)).collect();
        shown.sort_by(|a, b| (a.at_ms, &a.source, &a.kind).cmp(&(b.at_ms, &b.source, &b.kind)));
        Ok(shown)
    }
}

#[expect(clippy::too_many_arguments, reason = "what is known of one reference, from three sources")]
fn add(
    all: &mut BTreeMap<(Pointer, Box<str>), Shown>,
    source: Pointer,
    kind: Box<str>,
    body: Option<Json>,
    at_ms: u64,
    from: String,
    is_confirmed: bool,
    by: Option<PublicKey>,
) {
    let new =
        || Shown { kind: kind.clone(), source: source.clone(), body: None, at_ms, from: BTreeSet::new(), is_confirmed: false, by: BTreeSet::new() };
    let shown = all.entry((source.clone(), kind.clone())).or_insert_with(new);
    shown.body = shown.body.take().or(body);
    shown.at_ms = shown.at_ms.min(at_ms);
    shown.from.insert(from);
    shown.is_confirmed |= is_confirmed;
    shown.by.extend(by);
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;

    use super::*;

    #[test]
    fn a_person_counts_once_for_what_is_said_once() {
        let key = |n| SecretKey::from_seed([n; 32]).public();
        let shown = |kind: &str, space: u8, path: &str, by: Option<u8>| Shown {
            kind: kind.into(),
            source: Pointer { space: key(space), path: Path::parse(path).expect("a path") },
            body: None,
            at_ms: 0,
            from: BTreeSet::new(),
            is_confirmed: by.is_none(),
            by: by.into_iter().map(key).collect(),
        };
        let all = [
            shown("like", 1, "/likes/1", None),
            shown("like", 1, "/likes/2", None),
            shown("reply", 1, "/posts/1", None),
            shown("reply", 1, "/posts/2", None),
            shown("repost", 1, "/posts/2", None),
            shown("like", 2, "/likes/1", None),
            // One key signs for spaces that nobody can look into.
            shown("like", 3, "/likes/1", Some(9)),
            shown("like", 4, "/likes/1", Some(9)),
            shown("like", 5, "/likes/1", Some(5)),
        ];
        let counts = [("like", 4), ("reply", 2), ("repost", 1)].map(|(kind, count)| (kind.to_owned(), count));
        assert_eq!(count(all.iter()), counts.into());
        // Whoever says something in the name of another takes nothing from what that one says himself, however he says it.
        for own in [Some(4), None] {
            let all = [shown("like", 3, "/likes/1", Some(9)), shown("like", 4, "/likes/1", Some(9)), shown("like", 4, "/likes/2", own)];
            assert_eq!(count(all.iter()), [("like".to_owned(), 2)].into(), "{own:?}");
            assert_eq!(count(all.iter().rev()), [("like".to_owned(), 2)].into(), "{own:?}");
        }
        // Nor whoever told of what was seen here then.
        let seen = [6, 7].map(|space| Shown { is_confirmed: true, ..shown("like", space, "/likes/1", Some(9)) });
        assert_eq!(count(seen.iter()), [("like".to_owned(), 2)].into());
    }

    /// Notices were judged when somebody read them, all of them each time: until then a flood pushed out those that are true.
    #[tokio::test(flavor = "multi_thread")]
    async fn notices_are_judged_as_they_come_and_again_when_something_of_their_space_does() {
        use timebus_store::store::{Config, lock_home};
        use timebus_store::writer::{Action, Condition, Request};
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store");
        let inbox = Inbox::open(&home.path().join("inbox"), store.space(), timebus_store::inbox::Limits::default()).expect("an inbox");
        let at = |path: &str| Pointer { space: store.space(), path: Path::parse(path).expect("a path") };
        let put = async |path: &str, target: &Pointer| {
            let value =
                Json::Object([("kind", "like".to_owned()), ("target", target.to_string())].map(|(k, v)| (k.to_owned(), Json::String(v))).into());
            let (path, action, condition) = (Path::parse(path).expect("a path"), Action::Put(value), Condition::None);
            let request = Request { space: None, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
            store.write(request).await.expect("written");
        };
        let target = at("/posts/1");
        put("/likes/1", &target).await;
        let sources = ["/likes/1", "/likes/2"].map(at);
        let notices = [("like", &sources[0]), ("repost", &sources[1])].map(|(kind, source)| {
            let notice = timebus_store::notice::Notice { kind: kind.into(), target: target.clone(), source: source.clone(), body: None };
            let change = notice.change(store.device(), 1, 1, false).expect("a change");
            let bytes = store.sign_notice(&change);
            timebus_store::change::Change::decode(&bytes).map(timebus_identity::Signed::verify).expect("a change").expect("signed")
        });
        let left = inbox.leave(&notices, 1);
        let truths = || sources.clone().map(|source| inbox.list().into_iter().find(|kept| kept.notice.source == source).expect("kept").truth);
        assert_eq!(truths(), [Truth::Unknown; 2]);
        judge_new(&store, &inbox, left.iter().filter_map(|left| left.as_ref().ok()), 1);
        assert_eq!(truths(), [Truth::Confirmed, Truth::Refuted]);
        let refs = Refs::default();
        refs.judge(&store, &inbox).expect("judged");
        // As long as nothing comes nothing is looked at.
        let false_one = inbox.list().into_iter().find(|kept| kept.notice.source == sources[1]).expect("kept");
        inbox.judge(&false_one.author, &false_one.slot, Truth::Confirmed, false_one.as_of);
        refs.judge(&store, &inbox).expect("judged");
        assert_eq!(truths(), [Truth::Confirmed, Truth::Confirmed]);
        put("/likes/1", &at("/posts/2")).await;
        let about = refs.about(&store, &inbox, &target, &Trust::default()).expect("looked up");
        assert_eq!((truths(), about), ([Truth::Refuted, Truth::Refuted], Vec::new()));
        put("/likes/2", &target).await;
        refs.judge(&store, &inbox).expect("judged");
        assert_eq!(truths(), [Truth::Refuted, Truth::Confirmed]);
    }

    /// A guest who may write everywhere points at one thing from as many places as are looked at, and at others from very many.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_guests_point_at_keeps_nothing_of_the_owner_from_being_found() {
        use timebus_store::grant::Actions;
        use timebus_store::writer::{Action, Condition, Request};

        use crate::whose::tests::{grant_key, open, tell};
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        let actions = Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0);
        grant_key(&alice, bob.device(), actions).await;
        tell(&alice, &alice.space(), &bob).await;
        let target = Pointer { space: alice.space(), path: Path::parse("/posts/1").expect("a path") };
        let like =
            || Json::Object([("kind", "like".to_owned()), ("target", target.to_string())].map(|(k, v)| (k.to_owned(), Json::String(v))).into());
        let put = async |store: &Store, path: &str, value: Json| {
            let (path, action, condition) = (Path::parse(path).expect("a path"), Action::Put(value), Condition::None);
            let space = Some(store.at(store.held(&alice.space()).expect("held"), &path));
            let request = Request { space, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
            store.write(request).await.expect("written");
        };
        put(&bob, "/a", Json::Object((0..POINTERS_MAX + 100).map(|number| (number.to_string(), like())).collect())).await;
        tell(&bob, &alice.space(), &alice).await;
        let inbox = Inbox::open(&homes[0].path().join("inbox"), alice.space(), timebus_store::inbox::Limits::default()).expect("an inbox");
        let refs = Refs::default();
        let about = || refs.about(&alice, &inbox, &target, &Trust::default()).expect("looked up");
        assert_eq!(about().len(), POINTERS_OF_OTHERS_MAX);
        put(&alice, "/z", like()).await;
        assert_eq!(about().iter().filter(|shown| shown.is_confirmed).count(), 1);
        // What he writes beside a pointer of hers is not her word either.
        tell(&alice, &alice.space(), &bob).await;
        for (place, word) in [("/z/kind", "reply"), ("/z/body", "I never liked it")] {
            put(&bob, place, Json::String(word.to_owned())).await;
            tell(&bob, &alice.space(), &alice).await;
            assert_eq!(about().iter().filter(|shown| shown.is_confirmed).count(), 0, "{place}");
            put(&alice, "/z", like()).await;
            tell(&alice, &alice.space(), &bob).await;
            assert_eq!(about().iter().filter(|shown| shown.is_confirmed).count(), 1);
        }
        // To be blocked, by his key or by the space that it is a device of, leaves nothing of what he said, until he no longer is.
        let (path, action) = (Path::parse("/own").expect("a path"), Action::Put(Json::Int(1)));
        let own =
            Request { space: None, path, action, parents: None, label: None, condition: Condition::None, time_ms: 1, durable: true, may_name: None };
        bob.write(own).await.expect("written");
        tell(&bob, &bob.space(), &alice).await;
        for key in [bob.device(), bob.space()] {
            let trust = Trust { blocked: vec![key], ..Trust::default() };
            let about_him = refs.about(&alice, &inbox, &target, &trust).expect("looked up");
            assert!(about_him.len() == 1 && about_him[0].is_confirmed, "{}", about_him.len());
            assert_eq!(lock(&refs.state).found[&alice.space()].of_others, 0, "nor room");
            assert_eq!(about().len(), POINTERS_OF_OTHERS_MAX + 1);
        }
        // What was refused counts for him, and what he takes back makes room.
        assert_eq!(lock(&refs.state).found[&alice.space()].refused[&bob.device()], 600);
        assert_eq!(lock(&refs.state).pointers[&(target.clone(), alice.space())], (POINTERS_OF_OTHERS_MAX + 1, POINTERS_OF_OTHERS_MAX));
        put(&bob, "/a", Json::Object([].into())).await;
        tell(&bob, &alice.space(), &alice).await;
        assert_eq!(about().len(), 1);
        assert_eq!(lock(&refs.state).pointers[&(target.clone(), alice.space())], (1, 0));
        assert!(lock(&refs.state).refused.is_empty() && lock(&refs.state).found[&alice.space()].refused.is_empty(), "nothing of it is left");
        let mut found = Found { refused: HashMap::from([(bob.device(), OF_OTHER_MAX - 1)]), ..Found::default() };
        assert!(found.has_room(Some(&bob.device())));
        found.count(Some(&bob.device()));
        assert!(!found.has_room(Some(&bob.device())) && found.has_room(None));
        // And so of all.
        let (mut found, guests) = (Found::default(), [1, 2].map(|n| SecretKey::from_seed([n; 32]).public()));
        while found.has_room(Some(&guests[0])) {
            found.count(Some(&guests[0]));
        }
        assert!(found.all == OF_OTHER_MAX && found.has_room(Some(&guests[1])));
        let others = (0..).map(|n: u64| SecretKey::from_seed(timebus_identity::hash("guest", &[&n.to_be_bytes()])).public());
        let others: Vec<PublicKey> = others.take(FOUND_IN_SPACE_MAX / OF_OTHER_MAX).collect();
        for other in &others {
            while found.has_room(Some(other)) {
                found.count(Some(other));
            }
        }
        assert_eq!(found.all, OF_OTHERS_MAX);
        for _ in 0..FOUND_IN_SPACE_MAX - OF_OTHERS_MAX {
            assert!(found.has_room(None));
            found.count(None);
        }
        assert!(!found.has_room(None));
        others.iter().chain(&guests).for_each(|other| {
            while found.by.contains_key(other) {
                found.forget(Some(other));
            }
        });
        assert!(found.of_others == 0 && found.has_room(None) && found.has_room(Some(&guests[0])));
    }
}
