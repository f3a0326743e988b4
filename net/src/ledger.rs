//! What others may cost, what they cost, and what waits for the owner's word.
//!
//! Everybody who writes into the spaces held here has a budget of bytes on this disk, by what he is to the owner: a
//! friend (followed, or called by a name), invited, or a stranger. Changes over it are held back where they come in: not
//! stored, remembered by their number and size, and asked for again when the owner allows it. That is a decision of this
//! peer alone and no rule of the space, so it is nobody else's business, and whoever holds the changes keeps them.
//!
//! How much is held back is read off one signed head of each author: it commits to the number and bytes of all that leads up
//! to it. More heads would say no more, and bodies are what is not wanted; so nothing else of what is held comes or is kept.
//! Somebody else may have built on it, and cannot be had without it. Then it comes at his expense, if he may write there and
//! has room for it: nobody is locked out of a space because a member of it writes too much, and who builds on a flood pays
//! for it.
//!
//! Keys are made at will. So those of whom nothing else is known share a room with all whom the same member let in, and with all
//! in the same space: see `pools`.
//!
//! An app of the owner has a budget, too, for what it writes as him: of bytes, and of requests a second. Who would have him
//! write over it is refused, and asks.
//!
//! What was decided is kept in `limits.json`. What others cost is read off their chains, which count their own bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use timebus_identity::{PublicKey, Verified, hash, z32};
use timebus_store::auth::Rights;
use timebus_store::change::{Body, Change, Head, Kind};
use timebus_store::grant::{Actions, Audience, Grant};
use timebus_store::ids::ChangeId;
use timebus_store::op::Op;
use timebus_store::pipeline::forked;
use timebus_store::store::{StorageError, Store};
use timebus_store::value::Value;
use timebus_store::{summary, tips};

use self::http::Caller;
pub use self::http::{Hosts, Payer};
use self::pools::{Spaces, is_unknown, size_in, space_max, together_max};
pub(crate) use self::pools::{group, groups, sponsors};
use crate::lists::moved;
use crate::peer::lock;

mod http;
mod pools;

/// Bytes that a friend may keep here. Default 1 GB.
const FRIEND_BYTES: u64 = 1_000_000_000;
/// Bytes that somebody who took an invite may keep here. Default 256 MB.
const INVITED_BYTES: u64 = 256_000_000;
/// Bytes that somebody may keep here of whom nothing else is known, in a space that is followed. Default 64 MB.
const STRANGER_BYTES: u64 = 64_000_000;
/// Bytes of what is said about rights, which everybody has to know, that somebody may bring however much else of his is here, and no
/// more, as all of it is kept in memory. It is thousands of statements. Default 16 MB.
const STATEMENTS_BYTES: u64 = 16_000_000;
/// So many times that for friends and the owner of a space, for all together whom a member let in, and for all of a space.
const STATEMENTS_OF_FRIENDS: u64 = 4;
const STATEMENTS_TOGETHER: u64 = 2;
const STATEMENTS_IN_SPACE: u64 = 8;
/// Bytes that a statement counts for itself: a change may hold thousands, and each takes as much memory.
const STATEMENT_BYTES: u64 = 1000;
/// So many times its bytes counts what is said about rights where it is not known how many statements that is.
const PACKED: u64 = 16;
/// Bytes that an app of the owner may write. Default 1 GB; what it overwrites counts, as it stays in the log.
const APP_BYTES: u64 = 1_000_000_000;
/// Bytes of apps that are counted before the count is written down: one for each write would cost as much as the write.
const UNSAVED_BYTES_MAX: u64 = 1_000_000;
/// Changes for which room was lent that are remembered; for more none is lent before the next start.
const LENT_MAX: usize = 65_536;
/// How often room is lent for one change.
const LENDS_MAX: u32 = 8;
/// Requests to the owner that wait. With more, those of whom most wait make way, so that nobody's are kept from him by whoever
/// makes keys at will.
const HELD_MAX: usize = 1024;
/// The same of those that come over HTTP, which cost nobody anything to make.
const HELD_HTTP_MAX: usize = HELD_MAX / 2;

/// Stands for the timeline of what is brought over HTTP.
const HTTP: &str = "http";

/// What somebody is to the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// One of the owner's devices.
    Own,
    /// Followed, or called by a name.
    Friend,
    /// He took an invite.
    Invited,
    /// Nothing of this.
    Stranger,
    /// No person: an app that the owner installed.
    App,
}

impl Relation {
    /// How many bytes he may keep here, if nothing else was said.
    fn bytes_max(self) -> u64 {
        match self {
            Self::Own => u64::MAX,
            Self::Friend => FRIEND_BYTES,
            Self::Invited => INVITED_BYTES,
            Self::Stranger => STRANGER_BYTES,
            Self::App => APP_BYTES,
        }
    }
}

/// Who wrote something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// His space if it is known, else the key that he signs with.
    pub person: PublicKey,
    /// What he is to the owner.
    pub relation: Relation,
}

/// Changes that there is room for, and those that are held back with their authors.
pub type Sorted = (Vec<Verified<Change>>, Vec<(ChangeId, PublicKey)>);

/// Something that waits for the owner's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose it is.
    pub who: String,
    /// The key that he signs with.
    pub author: String,
    /// With whose it is counted: his own, or that of those with whom he was let in, unless he is a friend.
    #[serde(default)]
    pub counted: String,
    /// The timeline that it is for.
    pub timeline: String,
    /// What he is to the owner.
    pub relation: Relation,
    /// Changes, as far as is known.
    pub changes: u64,
    /// Bytes, as far as is known. Of what was to be brought over HTTP those of the last request that was refused.
    pub bytes: u64,
    /// Of what was to be brought over HTTP: bytes that were written for him, and that there was no room beside.
    #[serde(default)]
    pub used: u64,
    /// Files that they name, or that were to be brought, as far as is known.
    #[serde(default)]
    pub files: u64,
    /// Bytes of these.
    #[serde(default)]
    pub file_bytes: u64,
    /// Whether the numbers of changes and bytes are all that there is, and no more than what was met.
    #[serde(default)]
    pub is_whole: bool,
    /// The number, in his chain, of the latest change that was met.
    #[serde(default)]
    pub upto: u64,
    /// Since when; Unix milliseconds.
    pub since_ms: u64,
}

impl Held {
    /// Whether it is what he wanted to have written over HTTP. It was refused, and nothing of it waits anywhere.
    pub(crate) fn is_http(&self) -> bool {
        self.timeline == HTTP
    }
}

/// What the owner says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Room for what is held, and no more, if that is no more than so many bytes: what the owner saw when he said so.
    Once(u64),
    /// Room for so many bytes in all.
    UpTo(u64),
    /// None, and no more requests.
    Never,
}

/// Why the owner's word about a request changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsaid {
    /// Nothing that waits is called so, or several are.
    Unknown,
    /// It is more by now than he saw.
    More(Box<Held>),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Settings {
    /// Bytes that somebody may keep here, by his space or key.
    #[serde(default)]
    limits: BTreeMap<String, u64>,
    /// Those of them whose limit is what was allowed once: that is for them alone, and not for those whom they let in.
    #[serde(default)]
    once: BTreeSet<String>,
    /// Whose requests are not wanted.
    #[serde(default)]
    never: Vec<String>,
    /// What waits, by its id.
    #[serde(default)]
    held: BTreeMap<String, Held>,
    /// Bytes that keys and apps had this peer write for them.
    #[serde(default)]
    guests: BTreeMap<String, u64>,
    /// Those of them that count for the quotas of grants, by key and timeline: values and files that this peer wrote for a key, and not
    /// what it signed. A key alone stands for `main`, as before timelines were told apart.
    #[serde(default)]
    guest_values: BTreeMap<String, u64>,
    /// What may still come of somebody over his budget, since others built on it and have room; by his key and the timeline.
    #[serde(default)]
    lent_to: BTreeMap<String, Lent>,
    /// Bytes of others that somebody built on, which count as his.
    #[serde(default)]
    paid: BTreeMap<String, u64>,
    /// As much of these as is said about rights.
    #[serde(default)]
    paid_stated: BTreeMap<String, u64>,
    /// Bytes of others on which those built whom a member let in, by his key.
    #[serde(default)]
    paid_together: BTreeMap<String, Used>,
    /// By their old keys, those whose room went to a new one, and what that had before.
    #[serde(default)]
    moved: BTreeMap<String, RoomBefore>,
}

/// Room that somebody has for a part of his chain in one timeline, at the expense of others who built on that.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Lent {
    bytes: u64,
    /// The number of the last change that it is for.
    upto: u64,
}

/// What was said of a key before the room of another one went to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RoomBefore {
    to: String,
    limit: Option<u64>,
    never: bool,
}

impl Settings {
    /// Counts what this peer wrote for somebody, or took from him; also where it counts for quotas, if it does.
    fn count(&mut self, payer: &str, hosts: &Hosts, bytes: u64, quota: Option<String>) {
        if let Some(quota) = quota {
            let values = self.guest_values.entry(quota).or_default();
            *values = values.saturating_add(bytes);
        }
        let written = self.guests.entry(payer.to_owned()).or_default();
        *written = written.saturating_add(bytes);
        for host in &hosts.members {
            self.paid_together.entry(host.to_string()).or_default().add(Used::values(bytes));
        }
    }

    fn set(&mut self, person: &str, bytes_max: Option<u64>, never: bool) {
        self.never.retain(|who| who != person);
        self.once.remove(person);
        if never {
            self.never.push(person.to_owned());
        }
        match bytes_max {
            Some(bytes) => drop(self.limits.insert(person.to_owned(), bytes)),
            None => drop(self.limits.remove(person)),
        }
    }
}

/// Bytes that somebody has here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    all: u64,
    /// What of that is said about rights, with what each statement counts for itself.
    stated: u64,
}

/// Bytes that somebody may have here.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// In all.
    all: u64,
    /// Of what is said about rights.
    stated: u64,
}

impl Room {
    /// Room for so many bytes in all, and so many times [`STATEMENTS_BYTES`].
    fn new(all: u64, times: u64) -> Self {
        Self { all, stated: STATEMENTS_BYTES.saturating_mul(times) }
    }

    /// What somebody may have here of whom that may be so many bytes, in a space. If the owner said how many, that is for
    /// statements, too, unless it is less than others may have.
    fn of(settings: &Settings, who: &Author, space: &PublicKey) -> Self {
        let said = settings.limits.get(&who.person.to_string()).copied();
        let is_known = who.relation == Relation::Friend || who.person == *space;
        let room = Self::new(said.unwrap_or(who.relation.bytes_max()), if is_known { STATEMENTS_OF_FRIENDS } else { 1 });
        Self { stated: room.stated.max(said.unwrap_or(0)), ..room }
    }
}

impl Used {
    fn add(&mut self, other: Self) {
        self.all = self.all.saturating_add(other.all);
        self.stated = self.stated.saturating_add(other.stated);
    }

    fn take(&mut self, other: Self) {
        self.all = self.all.saturating_sub(other.all);
        self.stated = self.stated.saturating_sub(other.stated);
    }

    /// So many bytes of values.
    fn values(bytes: u64) -> Self {
        Self { all: bytes, stated: 0 }
    }

    /// So many bytes with so many statements about rights.
    fn statements(bytes: u64, statements: u64) -> Self {
        Self { all: bytes, stated: bytes.saturating_add(statements.saturating_mul(STATEMENT_BYTES)) }
    }

    /// What a change is.
    fn of(change: &Change) -> Self {
        let bytes = change.header().body_len + timebus_store::change::OVERHEAD_BYTES;
        match change.header().kind {
            Kind::Auth => Self::statements(bytes, Body::decode(change.body_bytes()).map_or(0, |body| body.ops.len() as u64)),
            _ => Self::values(bytes),
        }
    }

    /// Whether there is room for more: who may keep no values may still take rights back.
    fn takes(self, more: Self, room: Room) -> bool {
        if more.stated > 0 { self.stated.saturating_add(more.stated) <= room.stated } else { self.all.saturating_add(more.all) <= room.all }
    }
}

/// What a change took of what is lent to its author.
#[derive(Debug)]
struct Took {
    id: String,
    space: PublicKey,
    author: PublicKey,
    more: Used,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    /// What authors have here, once they were looked up.
    used: HashMap<PublicKey, Used>,
    spaces: Spaces,
    /// The keys of each person, as far as they were met.
    persons: HashMap<PublicKey, HashSet<PublicKey>>,
    callers: HashMap<Payer, Caller>,
    /// Bytes of apps since the settings were written.
    unsaved_bytes: u64,
    /// Changes for which room was lent since the start, and how often: what was used up by another branch of a forked chain
    /// is lent again, but if they do not come then, more room is of no use.
    lent_for: HashMap<ChangeId, u32>,
    /// Changes that there was room for by what was lent to their authors.
    took: HashMap<ChangeId, Took>,
}

/// What one person costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Bytes of his changes here.
    pub bytes: u64,
    /// His changes here.
    pub changes: u64,
    /// His requests since the peer was started.
    pub requests: u64,
    /// Bytes that he may keep here.
    pub bytes_max: u64,
    /// What of the bytes this peer wrote or took for him over HTTP, where another limit counts.
    pub http_bytes: u64,
}

/// Keeps count.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    state: Mutex<State>,
    /// Files are counted one after the other: else two would be taken where there is room for one.
    files: Mutex<()>,
}

impl Ledger {
    /// Goes on with what was decided; a file that cannot be read begins anew beside it.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        let settings = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(%error, "limits.json is damaged; it is put aside as limits.json.damaged");
                let _ = std::fs::rename(file, file.with_extension("json.damaged"));
                Settings::default()
            }),
            Err(_) => Settings::default(),
        };
        Self {
            file: file.into(),
            state: Mutex::new(State {
                settings,
                used: HashMap::new(),
                spaces: Spaces::default(),
                persons: HashMap::new(),
                callers: HashMap::new(),
                unsaved_bytes: 0,
                lent_for: HashMap::new(),
                took: HashMap::new(),
            }),
            files: Mutex::new(()),
        }
    }

    /// What is known after a start.
    pub(crate) fn again(self) -> Self {
        let again = Self::open(Path::new(""));
        lock(&again.state).settings = self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).settings;
        Self { file: self.file, ..again }
    }

    /// Bytes that came, or may come, of those who have no room, since others built on them.
    pub(crate) fn paid(&self) -> u64 {
        lock(&self.state).settings.paid.values().sum()
    }

    fn save(&self, settings: &Settings) {
        // A store in memory has no folder.
        if self.file.parent().is_none_or(|folder| folder.as_os_str().is_empty()) {
            return;
        }
        let saved =
            serde_json::to_vec_pretty(settings).map_err(std::io::Error::other).and_then(|bytes| crate::files::write_whole(&self.file, &bytes));
        if let Err(error) = saved {
            tracing::error!(%error, "limits.json was not written");
        }
    }

    /// What is known of those who sign with these keys, and of those whose room they share in a space: its owner, and who let
    /// them in.
    pub fn authors(
        &self,
        store: &Store,
        space: &PublicKey,
        keys: BTreeSet<PublicKey>,
        author: impl Fn(&PublicKey) -> Author,
    ) -> BTreeMap<PublicKey, Author> {
        let rights = store.rights(space);
        let hosts = keys.iter().flat_map(|key| rights.iter().flat_map(|rights| sponsors(rights, key)));
        let hosts: BTreeSet<PublicKey> = hosts.chain([*space]).collect();
        keys.union(&hosts).map(|key| (*key, author(key))).collect()
    }

    /// Sorts changes of a space into those that there is room for and those of others that are held back. `author` says whose a
    /// change is, and whose room he shares ([`Ledger::authors`]). What is held back is named with its author.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn sort(
        &self,
        store: &Store,
        space: &PublicKey,
        changes: Vec<Verified<Change>>,
        author: impl Fn(&PublicKey) -> Author,
        now_ms: u64,
    ) -> Result<Sorted, StorageError> {
        let mut state = lock(&self.state);
        let State { settings, used, spaces, persons, took, .. } = &mut *state;
        let rights = store.rights(space);
        let mut good = Vec::with_capacity(changes.len());
        let mut held = Vec::new();
        let mut over: HashSet<(PublicKey, bool)> = HashSet::new();
        // Files, and their bytes, that what is held names.
        let mut named: HashMap<PublicKey, (u64, u64)> = HashMap::new();
        let mut is_new = false;
        let mut authors: HashMap<PublicKey, (Author, Vec<PublicKey>)> = HashMap::new();
        for change in changes {
            let header = change.header();
            let key = header.author;
            let (by, sponsors) = authors.entry(key).or_insert_with(|| {
                let by = author(&key);
                let sponsors = sponsors_of(settings, rights.as_deref(), &by, &key);
                (by, sponsors)
            });
            let is_statement = header.kind == Kind::Auth;
            let more = Used::of(&change);
            let size = more.all;
            if by.relation == Relation::Own {
                spaces.add(space, key, more);
                good.push(change);
                continue;
            }
            let person = by.person.to_string();
            let total = total(settings, persons, used, store, &by.person, &key)?;
            let here = count(used, store, &key)?;
            let mut is_wanted = total.takes(more, Room::of(settings, by, space));
            is_wanted &= is_statement || !settings.never.contains(&person);
            is_wanted &= have_room(settings, spaces, store, sponsors, more, &author)?;
            // Also of those who share no room, so that all that comes is counted.
            let together = spaces.used(store, space)?;
            let has_own = by.person == *space || !is_unknown(settings, by);
            is_wanted &= has_own || together.takes(more, Room::new(space_max(settings, &author(space)), STATEMENTS_IN_SPACE));
            let has_room = is_wanted && !over.contains(&(by.person, is_statement));
            let id = held_id(key.as_bytes(), &header.timeline.to_string());
            let lent = settings.lent_to.get_mut(&id).filter(|lent| !has_room && header.seq <= lent.upto && lent.bytes >= size);
            if has_room || lent.is_some() {
                spaces.add(space, key, more);
                took.remove(&change.id());
                if let Some(lent) = lent {
                    lent.bytes -= size;
                    is_new = true;
                    if took.len() < LENT_MAX {
                        took.insert(change.id(), Took { id, space: *space, author: key, more });
                    }
                }
                used.entry(key).or_default().add(more);
                good.push(change);
                continue;
            }
            over.insert((by.person, is_statement));
            held.push((change.id(), key));
            if settings.never.contains(&person) {
                continue;
            }
            // Whom the owner of a space let in of whom nothing is known is his matter.
            let counted = match by.relation {
                _ if is_unknown(settings, by) => *sponsors.first().unwrap_or(space),
                Relation::Invited => PublicKey::from_bytes(group(store, &key)),
                _ => by.person,
            };
            let counted = counted.to_string();
            if !settings.held.contains_key(&id) && !make_way(&mut settings.held, &counted, false) {
                continue;
            }
            let entry = settings.held.entry(id).or_insert_with(|| {
                is_new = true;
                Held {
                    who: person,
                    author: key.to_string(),
                    counted,
                    timeline: header.timeline.to_string(),
                    relation: by.relation,
                    changes: 0,
                    bytes: 0,
                    used: 0,
                    files: 0,
                    file_bytes: 0,
                    is_whole: false,
                    upto: 0,
                    since_ms: now_ms,
                }
            });
            // His chain counts its own bytes, so the last of it tells how much all of it is.
            let (bytes, changes) = (header.cum.saturating_sub(here.all), entry.changes.max(1));
            is_new |= bytes > entry.bytes.saturating_mul(2);
            entry.is_whole &= bytes <= entry.bytes;
            entry.upto = entry.upto.max(header.seq);
            entry.bytes = entry.bytes.max(bytes);
            entry.changes = changes.max(held.len() as u64);
            let (files, file_bytes) = named.entry(key).or_default();
            for len in files_in(&change) {
                *files += 1;
                *file_bytes = file_bytes.saturating_add(len);
            }
            (entry.files, entry.file_bytes) = (entry.files.max(*files), entry.file_bytes.max(*file_bytes));
        }
        if is_new {
            self.save(settings);
        }
        Ok((good, held))
    }

    /// Learns from a signed head how much is held back of its author; and whether somebody who built on that change has room
    /// for all that leads up to it, which then may come at his expense.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn weigh(
        &self,
        store: &Store,
        space: &PublicKey,
        head: &Verified<Head>,
        builders: &BTreeSet<PublicKey>,
        author: impl Fn(&PublicKey) -> Author,
        now_ms: u64,
    ) -> Result<bool, StorageError> {
        let mut state = lock(&self.state);
        let State { settings, used, spaces, persons, lent_for, .. } = &mut *state;
        let rights = store.rights(space);
        let header = head.header();
        let by = author(&header.author);
        if by.relation == Relation::Own {
            return Ok(false);
        }
        let rows = store.snapshot();
        let is_here = summary::find(&*rows, &head.id())?.is_some();
        let (here, is_forked) = match store.number_of(space, &header.timeline) {
            Some(t) => (tips::size_of(&*rows, t, &header.author)?, forked(&*rows, t, &header.author)?.is_some()),
            None => ((0, 0), false),
        };
        // Of another branch of his chain than what is here nobody knows where it parts from that: so it is all that leads up to it.
        let is_branch = !is_here && (is_forked || header.seq <= here.1);
        let here = if is_branch { (0, 0) } else { here };
        let (bytes, changes) = (header.cum.saturating_sub(here.0), header.seq.saturating_sub(here.1));
        let id = held_id(header.author.as_bytes(), &header.timeline.to_string());
        let mut is_lent = false;
        // What is lent already has not come yet, or was used up by another branch.
        let lent = settings.lent_to.get(&id).copied().unwrap_or_default();
        let lacking = bytes.saturating_sub(lent.bytes);
        let lends = lent_for.get(&head.id()).copied().unwrap_or(0);
        let is_enough = lends > 0 && lacking == 0 && lent.upto >= header.seq;
        // Over the link where that was learnt it did not come, as if whoever is there had forged some of it. So it may come over this
        // one, where it was held back before.
        if is_enough && !is_here && lends < LENDS_MAX && builders.iter().any(|builder| may_write(store, space, builder)) {
            lent_for.insert(head.id(), lends + 1);
            return Ok(true);
        }
        for builder in builders {
            let payer = author(builder);
            if payer.person == by.person
                || !may_write(store, space, builder)
                || is_enough
                || is_lent
                || lends >= LENDS_MAX
                || lent_for.len() >= LENT_MAX
            {
                continue;
            }
            let name = payer.person.to_string();
            let total = total(settings, persons, used, store, &payer.person, builder)?;
            let more = if header.kind == Kind::Auth { Used { all: lacking, stated: lacking.saturating_mul(PACKED) } } else { Used::values(lacking) };
            if settings.never.contains(&name) || !total.takes(more, Room::of(settings, &payer, space)) {
                continue;
            }
            let has_own = payer.person == *space || !is_unknown(settings, &payer);
            let in_space = Room::new(space_max(settings, &author(space)), STATEMENTS_IN_SPACE);
            if !has_own && !spaces.used(store, space)?.takes(more, in_space) {
                continue;
            }
            let sponsors = sponsors_of(settings, rights.as_deref(), &payer, builder);
            if !have_room(settings, spaces, store, &sponsors, more, &author)? {
                continue;
            }
            for sponsor in sponsors {
                settings.paid_together.entry(sponsor.to_string()).or_default().add(more);
            }
            if payer.relation != Relation::Own {
                *settings.paid.entry(name.clone()).or_default() += more.all;
                *settings.paid_stated.entry(name).or_default() += more.stated;
            }
            let lent = settings.lent_to.entry(id.clone()).or_default();
            (lent.bytes, lent.upto) = (lent.bytes.saturating_add(lacking), lent.upto.max(header.seq));
            lent_for.insert(head.id(), lends + 1);
            spaces.lend(space, header.author, more);
            is_lent = true;
            // What was asked for comes now.
            settings.held.retain(|known, held| *known != id || held.bytes > bytes);
        }
        if is_lent {
            self.save(settings);
            return Ok(true);
        }
        let Some(entry) = settings.held.get_mut(&id) else {
            // Of whom everything was taken meanwhile, or nothing is wanted, nothing waits.
            return Ok(false);
        };
        let known = (entry.bytes, entry.changes, entry.is_whole, entry.upto);
        // A head of a change before others says less than what was met already.
        if header.seq < entry.upto || known == (bytes, changes, true, header.seq) {
            return Ok(false);
        }
        if changes == 0 {
            // All of it came some other way.
            settings.held.remove(&id);
        } else {
            // Some of it may have come, at somebody else's expense.
            (entry.bytes, entry.changes, entry.is_whole, entry.upto) = (bytes, changes, true, header.seq);
            entry.since_ms = entry.since_ms.min(now_ms);
        }
        self.save(settings);
        Ok(false)
    }

    /// What waits for the owner's word, by id.
    #[must_use]
    pub fn held(&self) -> BTreeMap<String, Held> {
        lock(&self.state).settings.held.clone()
    }

    /// The owner's word about a request, by its id or the beginning of that. Answers what it was about.
    ///
    /// # Errors
    ///
    /// [`Unsaid`].
    pub fn allow(&self, store: &Store, id: &str, answer: Answer) -> Result<Held, Unsaid> {
        let mut state = lock(&self.state);
        let State { settings, used, persons, .. } = &mut *state;
        let mut fitting = settings.held.keys().filter(|known| known.starts_with(id));
        let (Some(found), None) = (fitting.next().cloned(), fitting.next()) else { return Err(Unsaid::Unknown) };
        let held = settings.held.remove(&found).ok_or(Unsaid::Unknown)?;
        if let Answer::Once(seen) = answer
            && held.bytes > seen
        {
            settings.held.insert(found, held.clone());
            return Err(Unsaid::More(Box::new(held)));
        }
        let (here, before) = http::account(settings, store, &held);
        // What a peer of his own brings is counted apart; where that cannot be read he asks once more.
        let mut keep = |who: &PublicKey| total(settings, persons, used, store, who, &held.author.parse().unwrap_or(*who)).unwrap_or_default().all;
        let here = here.max(held.who.parse().ok().map_or(0, |who| keep(&who)));
        settings.never.retain(|who| *who != held.who);
        match answer {
            Answer::Once(_) => {
                let is_said = settings.limits.insert(held.who.clone(), before.max(here.saturating_add(held.bytes))).is_some();
                if !is_said {
                    settings.once.insert(held.who.clone());
                }
            }
            Answer::UpTo(bytes) => settings.set(&held.who, Some(bytes), false),
            Answer::Never => settings.never.push(held.who.clone()),
        }
        self.save(settings);
        Ok(held)
    }

    /// Sets how many bytes somebody may keep here, or an app write.
    pub fn limit(&self, who: &Payer, bytes: u64) {
        let mut state = lock(&self.state);
        let person = who.name();
        state.settings.held.retain(|_, held| held.who != person);
        state.settings.set(&person, Some(bytes), false);
        self.save(&state.settings);
    }

    /// How many bytes somebody may keep here, or an app write.
    #[must_use]
    pub fn limit_of(&self, who: &Payer, relation: Relation) -> u64 {
        let state = lock(&self.state);
        let person = who.name();
        if state.settings.never.contains(&person) { 0 } else { state.settings.limits.get(&person).copied().unwrap_or(relation.bytes_max()) }
    }

    /// What the owner said about somebody: how many bytes he may keep here, and whether his requests are not wanted.
    #[must_use]
    pub fn settings_of(&self, who: &Payer) -> (Option<u64>, bool) {
        let state = lock(&self.state);
        let person = who.name();
        (state.settings.limits.get(&person).copied(), state.settings.never.contains(&person))
    }

    /// Says that about somebody, in place of what was said before.
    pub fn set(&self, who: &Payer, bytes_max: Option<u64>, never: bool) {
        let mut state = lock(&self.state);
        state.settings.set(&who.name(), bytes_max, never);
        self.save(&state.settings);
    }

    /// Has the room that somebody has here go with his name from an old key to a new one, and back when that is not said any
    /// more; once each, so that what the owner says of either in between stays. The moves are in order.
    pub(crate) fn settle(&self, moves: impl Iterator<Item = (PublicKey, PublicKey)>) {
        let mut state = lock(&self.state);
        let settings = &mut state.settings;
        let moves: Vec<(String, String)> = moves.map(|(from, to)| (from.to_string(), to.to_string())).collect();
        let done: BTreeMap<String, String> = settings.moved.iter().map(|(from, before)| (from.clone(), before.to.clone())).collect();
        let (back, due) = moved::steps(&moves, &done, false, |to| to);
        if back.is_empty() && due.is_empty() {
            return;
        }
        for before in back.into_iter().filter_map(|from| settings.moved.remove(from)).collect::<Vec<_>>() {
            settings.set(&before.to, before.limit, before.never);
        }
        for (from, to) in due {
            let said = |who: &String| (settings.limits.get(who).copied(), settings.never.contains(who));
            let ((limit, never), (now_limit, now_never)) = (said(to), said(from));
            settings.set(to, now_limit, now_never);
            settings.moved.insert(from.clone(), RoomBefore { to: to.clone(), limit, never });
        }
        self.save(&state.settings);
    }

    /// These changes are here: what they took of what is lent is gone.
    pub fn kept<'a>(&self, changes: impl IntoIterator<Item = &'a ChangeId>) {
        let mut state = lock(&self.state);
        if !state.took.is_empty() {
            changes.into_iter().for_each(|change| drop(state.took.remove(change)));
        }
    }

    /// These changes, that there was room for, did not come to be here, or were before: what they took of what is lent to their
    /// authors is for them still.
    pub fn give_back(&self, changes: impl IntoIterator<Item = ChangeId>) {
        let mut state = lock(&self.state);
        let State { settings, took, spaces, .. } = &mut *state;
        let mut is_new = false;
        for Took { id, space, author, more } in changes.into_iter().filter_map(|change| took.remove(&change)) {
            if let Some(lent) = settings.lent_to.get_mut(&id) {
                lent.bytes = lent.bytes.saturating_add(more.all);
                spaces.lend(&space, author, more);
                is_new = true;
            }
        }
        if is_new {
            self.save(settings);
        }
    }

    /// Has what these authors have here looked up again: some of what was counted is not here, or was before.
    pub fn recount(&self, authors: impl IntoIterator<Item = PublicKey>) {
        let mut state = lock(&self.state);
        for author in authors {
            state.used.remove(&author);
            state.spaces.forget(author);
        }
    }

    /// What everybody who wrote or asked anything costs, by key.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn costs(&self, store: &Store) -> Result<BTreeMap<PublicKey, Cost>, StorageError> {
        let mut all: BTreeMap<PublicKey, Cost> = BTreeMap::new();
        let rows = store.snapshot();
        for space in store.spaces() {
            for t in std::iter::once(space.auth()).chain(store.values(space).into_iter().map(|(t, _)| t)) {
                let authors: HashSet<PublicKey> = tips::tips(&*rows, t, None, usize::MAX)?.into_iter().map(|tip| tip.author).collect();
                for author in authors {
                    let (bytes, changes) = tips::size_of(&*rows, t, &author)?;
                    let cost = all.entry(author).or_default();
                    cost.bytes += bytes;
                    cost.changes += changes;
                }
            }
        }
        for (key, bytes) in &lock(&self.state).settings.guests {
            if let Ok(key) = key.parse() {
                let cost = all.entry(key).or_default();
                (cost.bytes, cost.http_bytes) = (cost.bytes.saturating_add(*bytes), cost.http_bytes.saturating_add(*bytes));
            }
        }
        for (who, caller) in &lock(&self.state).callers {
            if let Payer::Key(key) = who {
                all.entry(*key).or_default().requests = caller.requests;
            }
        }
        Ok(all)
    }
}

/// Whether one more request may wait that is counted with somebody's. Where there is no room the latest one goes of whoever has
/// most, if that is more than he would have.
fn make_way(held: &mut BTreeMap<String, Held>, counted: &str, is_http: bool) -> bool {
    let http = held.values().filter(|held| held.timeline == HTTP).count();
    let is_full = held.len() >= HELD_MAX;
    if !is_full && (!is_http || http < HELD_HTTP_MAX) {
        return true;
    }
    let of = |held: &Held| if held.counted.is_empty() { held.who.clone() } else { held.counted.clone() };
    // Where those over HTTP have all their room, others lose nothing to them.
    let is_rival = |rival: &Held| !is_http || http < HELD_HTTP_MAX || rival.timeline == HTTP;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for rival in held.values().filter(|rival| is_rival(rival)) {
        *counts.entry(of(rival)).or_default() += 1;
    }
    let own = counts.get(counted).copied().unwrap_or(0);
    let Some((most, _)) = counts.iter().max_by_key(|(_, count)| **count).filter(|(_, count)| **count > own + 1) else { return false };
    let latest = held.iter().filter(|(_, rival)| is_rival(rival) && of(rival) == *most).max_by_key(|(_, rival)| rival.since_ms);
    let latest = latest.map(|(id, _)| id.clone());
    latest.is_some_and(|id| held.remove(&id).is_some())
}

/// Lengths of the files that a change names.
fn files_in(change: &Change) -> Vec<u64> {
    let body = Body::decode(change.body_bytes()).unwrap_or_default();
    let values = body.ops.iter().filter_map(|op| match op {
        Op::Set { value, .. } | Op::Ins { value, .. } => Some(value),
        _ => None,
    });
    values.filter_map(|value| if let Value::Blob { len, .. } = value { Some(*len) } else { None }).collect()
}

/// The keys with which somebody writes, as far as his space is here: all that are or were his devices.
fn keys_of(store: &Store, person: &PublicKey) -> HashSet<PublicKey> {
    let rights = store.rights(person);
    let audiences = rights.iter().flat_map(|rights| rights.grants()).filter_map(|(_, held)| match held.grant.audience {
        Audience::Key(audience) => Some(audience),
        Audience::Anyone => None,
    });
    let devices = audiences.filter(|audience| rights.as_ref().is_some_and(|rights| rights.was_device(audience)));
    devices.chain([*person]).collect()
}

/// Whether somebody may write anything in a space. Keys are made at will, and one that may write nothing brings nothing.
fn may_write(store: &Store, space: &PublicKey, key: &PublicKey) -> bool {
    let is_for_him = |grant: &Grant| grant.audience == Audience::Key(*key) && grant.actions.contains(Actions::WRITE);
    store.rights(space).is_some_and(|rights| rights.grants_for(key).any(|(_, held)| held.is_live() && is_for_him(&held.grant)))
}

/// Bytes that somebody has here: by all his keys, so that whoever makes himself another has no more room; and those of others
/// that he built on.
fn total(
    settings: &Settings,
    persons: &mut HashMap<PublicKey, HashSet<PublicKey>>,
    used: &mut HashMap<PublicKey, Used>,
    store: &Store,
    person: &PublicKey,
    key: &PublicKey,
) -> Result<Used, StorageError> {
    let known = persons.entry(*person).or_insert_with(|| keys_of(store, person));
    known.insert(*key);
    let paid = |paid: &BTreeMap<String, u64>| paid.get(&person.to_string()).copied().unwrap_or(0);
    let mut total = Used { all: paid(&settings.paid), stated: paid(&settings.paid_stated) };
    for key in &*known {
        total.add(count(used, store, key)?);
    }
    Ok(total)
}

/// The members who let somebody into a space, when nothing else is known of him.
fn sponsors_of(settings: &Settings, rights: Option<&Rights>, who: &Author, key: &PublicKey) -> Vec<PublicKey> {
    rights.filter(|_| is_unknown(settings, who)).map_or_else(Vec::new, |rights| sponsors(rights, key))
}

/// Whether one of those who let somebody in has room for more.
fn have_room(
    settings: &Settings,
    spaces: &mut Spaces,
    store: &Store,
    sponsors: &[PublicKey],
    more: Used,
    author: impl Fn(&PublicKey) -> Author,
) -> Result<bool, StorageError> {
    for sponsor in sponsors {
        let mut together = spaces.together(store, sponsor)?;
        together.add(settings.paid_together.get(&sponsor.to_string()).copied().unwrap_or_default());
        if together.takes(more, Room::new(together_max(settings, &author(sponsor)), STATEMENTS_TOGETHER)) {
            return Ok(true);
        }
    }
    Ok(sponsors.is_empty())
}

/// Bytes that an author has here, counted once.
fn count(used: &mut HashMap<PublicKey, Used>, store: &Store, key: &PublicKey) -> Result<Used, StorageError> {
    match used.get(key) {
        Some(bytes) => Ok(*bytes),
        None => {
            let bytes = bytes_of(store, key)?;
            used.insert(*key, bytes);
            Ok(bytes)
        }
    }
}

/// Bytes that an author has here.
fn bytes_of(store: &Store, author: &PublicKey) -> Result<Used, StorageError> {
    let rows = store.snapshot();
    let mut used = Used::default();
    for space in store.wrote_in(author)?.iter().filter_map(|space| store.held(space)) {
        used.add(size_in(store, &rows, space, author)?);
    }
    Ok(used)
}

/// Names what somebody wants to bring into a timeline.
fn held_id(author: &[u8], timeline: &str) -> String {
    z32::encode(&hash("held", &[author, timeline.as_bytes()])[..10])
}

#[cfg(test)]
mod tests;
