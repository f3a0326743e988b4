//! What others may cost, what they cost, and what waits for the owner's word.
//!
//! Everybody who writes into the spaces held here has a budget of bytes on this disk, by what he is to the owner: a
//! friend (followed, or called by a name), invited, or a stranger. Changes over it are held back where they come in: not
//! stored, remembered by their number and size, and asked for again when the owner allows it. That is a decision of this
//! peer alone and no rule of the space, so it is nobody else's business, and whoever holds the changes keeps them.
//!
//! What was decided is kept in `limits.json`. What others cost is read off their chains, which count their own bytes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use timebus_identity::{PublicKey, Verified, hash, z32};
use timebus_store::change::{Change, Kind};
use timebus_store::ids::ChangeId;
use timebus_store::store::{StorageError, Store};

use crate::peer::lock;

/// Bytes that a friend may keep here. Default 1 GB.
const FRIEND_BYTES: u64 = 1_000_000_000;
/// Bytes that somebody who took an invite may keep here. Default 256 MB.
const INVITED_BYTES: u64 = 256_000_000;
/// Bytes that somebody may keep here of whom nothing else is known, in a space that is followed. Default 64 MB.
const STRANGER_BYTES: u64 = 64_000_000;
/// Requests at once and each second, of one key that is not the owner's.
const REQUESTS_BURST: f64 = 200.0;
const REQUESTS_PER_S: f64 = 50.0;
/// Keys whose requests are counted; the one that was quiet longest is forgotten.
const CALLERS_MAX: usize = 4096;
/// Requests to the owner that wait; more are held back without one.
const HELD_MAX: usize = 1024;

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
}

impl Relation {
    /// How many bytes he may keep here, if nothing else was said.
    fn bytes_max(self) -> u64 {
        match self {
            Self::Own => u64::MAX,
            Self::Friend => FRIEND_BYTES,
            Self::Invited => INVITED_BYTES,
            Self::Stranger => STRANGER_BYTES,
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

/// Something that waits for the owner's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose it is.
    pub who: String,
    /// The key that he signs with.
    pub author: String,
    /// The timeline that it is for.
    pub timeline: String,
    /// What he is to the owner.
    pub relation: Relation,
    /// Changes, as far as is known.
    pub changes: u64,
    /// Bytes, as far as is known.
    pub bytes: u64,
    /// Since when; Unix milliseconds.
    pub since_ms: u64,
}

/// What the owner says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Room for what is held, and no more.
    Once,
    /// Room for so many bytes in all.
    UpTo(u64),
    /// None, and no more requests.
    Never,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Settings {
    /// Bytes that somebody may keep here, by his space or key.
    #[serde(default)]
    limits: BTreeMap<String, u64>,
    /// Whose requests are not wanted.
    #[serde(default)]
    never: Vec<String>,
    /// What waits, by its id.
    #[serde(default)]
    held: BTreeMap<String, Held>,
    /// Bytes that keys had this peer write for them.
    #[serde(default)]
    guests: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    /// Bytes that authors have here, once they were looked up.
    used: HashMap<PublicKey, u64>,
    callers: HashMap<PublicKey, Caller>,
}

#[derive(Clone, Copy, Debug)]
struct Caller {
    tokens: f64,
    at_ms: u64,
    requests: u64,
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
}

/// Keeps count.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    state: Mutex<State>,
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
        Self { file: file.into(), state: Mutex::new(State { settings, used: HashMap::new(), callers: HashMap::new() }) }
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

    /// Sorts changes of others into those that there is room for and those that are held back. `author` says whose a
    /// change is.
    ///
    /// # Errors
    ///
    /// [`StorageError`].
    pub fn sort(
        &self,
        store: &Store,
        changes: Vec<Verified<Change>>,
        author: impl Fn(&PublicKey) -> Author,
        now_ms: u64,
    ) -> Result<(Vec<Verified<Change>>, Vec<ChangeId>), StorageError> {
        let mut state = lock(&self.state);
        let State { settings, used, .. } = &mut *state;
        let mut good = Vec::with_capacity(changes.len());
        let mut held = Vec::new();
        let mut over: HashSet<PublicKey> = HashSet::new();
        let mut is_new = false;
        let mut authors: HashMap<PublicKey, Author> = HashMap::new();
        for change in changes {
            let header = change.header();
            let key = header.author;
            let by = authors.entry(key).or_insert_with(|| author(&key));
            // What is said about rights is small, and everybody has to know it.
            if by.relation == Relation::Own || header.kind == Kind::Auth {
                good.push(change);
                continue;
            }
            let person = by.person.to_string();
            let bytes_max = settings.limits.get(&person).copied().unwrap_or(by.relation.bytes_max());
            let bytes = match used.entry(key) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(free) => free.insert(bytes_of(store, &key)?.0),
            };
            let size = header.body_len + timebus_store::change::OVERHEAD_BYTES;
            if !over.contains(&key) && bytes.saturating_add(size) <= bytes_max && !settings.never.contains(&person) {
                *bytes += size;
                good.push(change);
                continue;
            }
            over.insert(key);
            held.push(change.id());
            if settings.never.contains(&person) {
                continue;
            }
            let id = held_id(&key, &header.timeline.to_string());
            if !settings.held.contains_key(&id) && settings.held.len() >= HELD_MAX {
                continue;
            }
            let entry = settings.held.entry(id).or_insert_with(|| {
                is_new = true;
                Held {
                    who: person,
                    author: key.to_string(),
                    timeline: header.timeline.to_string(),
                    relation: by.relation,
                    changes: 0,
                    bytes: 0,
                    since_ms: now_ms,
                }
            });
            // His chain counts its own bytes, so the last of it tells how much all of it is.
            let (bytes, changes) = (header.cum.saturating_sub(*bytes), entry.changes.max(1));
            is_new |= bytes > entry.bytes.saturating_mul(2);
            entry.bytes = entry.bytes.max(bytes);
            entry.changes = changes.max(held.len() as u64);
        }
        if is_new {
            self.save(settings);
        }
        Ok((good, held))
    }

    /// What waits for the owner's word, by id.
    #[must_use]
    pub fn held(&self) -> BTreeMap<String, Held> {
        lock(&self.state).settings.held.clone()
    }

    /// The owner's word about a request, by its id or the beginning of that. Answers what it was about.
    #[must_use]
    pub fn allow(&self, id: &str, answer: Answer) -> Option<Held> {
        let mut state = lock(&self.state);
        let State { settings, used, .. } = &mut *state;
        let mut fitting = settings.held.keys().filter(|known| known.starts_with(id));
        let (Some(found), None) = (fitting.next().cloned(), fitting.next()) else { return None };
        let held = settings.held.remove(&found)?;
        let here = held.author.parse().ok().and_then(|key: PublicKey| used.get(&key).copied()).unwrap_or(0);
        let before = settings.limits.get(&held.who).copied().unwrap_or(held.relation.bytes_max());
        settings.never.retain(|who| *who != held.who);
        match answer {
            Answer::Once => drop(settings.limits.insert(held.who.clone(), before.max(here.saturating_add(held.bytes)))),
            Answer::UpTo(bytes) => drop(settings.limits.insert(held.who.clone(), bytes)),
            Answer::Never => settings.never.push(held.who.clone()),
        }
        self.save(settings);
        Some(held)
    }

    /// Sets how many bytes somebody may keep here.
    pub fn limit(&self, person: &PublicKey, bytes: u64) {
        let mut state = lock(&self.state);
        let person = person.to_string();
        state.settings.never.retain(|who| *who != person);
        state.settings.held.retain(|_, held| held.who != person);
        state.settings.limits.insert(person, bytes);
        self.save(&state.settings);
    }

    /// How many bytes somebody may keep here.
    #[must_use]
    pub fn limit_of(&self, person: &PublicKey, relation: Relation) -> u64 {
        let state = lock(&self.state);
        let person = person.to_string();
        if state.settings.never.contains(&person) { 0 } else { state.settings.limits.get(&person).copied().unwrap_or(relation.bytes_max()) }
    }

    /// Counts a request of a key that is not the owner's. `Err` has the milliseconds after which there is room for one.
    ///
    /// # Errors
    ///
    /// When he asks too often.
    pub fn request(&self, key: &PublicKey, now_ms: u64) -> Result<(), u64> {
        let mut state = lock(&self.state);
        if state.callers.len() >= CALLERS_MAX && !state.callers.contains_key(key) {
            let quiet = state.callers.iter().min_by_key(|(_, caller)| caller.at_ms).map(|(key, _)| *key);
            if let Some(quiet) = quiet {
                state.callers.remove(&quiet);
            }
        }
        let caller = state.callers.entry(*key).or_insert(Caller { tokens: REQUESTS_BURST, at_ms: now_ms, requests: 0 });
        let since_s = now_ms.saturating_sub(caller.at_ms) as f64 / 1000.0;
        caller.tokens = (caller.tokens + since_s * REQUESTS_PER_S).min(REQUESTS_BURST);
        caller.at_ms = now_ms;
        caller.requests += 1;
        if caller.tokens < 1.0 {
            return Err(((1.0 - caller.tokens) / REQUESTS_PER_S * 1000.0).ceil() as u64);
        }
        caller.tokens -= 1.0;
        Ok(())
    }

    /// Counts bytes that this peer is to write for a key.
    ///
    /// # Errors
    ///
    /// The id of the request to the owner, when there is no room for them.
    pub fn charge(&self, key: &PublicKey, bytes: u64, now_ms: u64) -> Result<(), String> {
        let mut state = lock(&self.state);
        let settings = &mut state.settings;
        let who = key.to_string();
        let used = settings.guests.get(&who).copied().unwrap_or(0);
        // Whoever may write here was granted that by name.
        let relation = Relation::Invited;
        let bytes_max = settings.limits.get(&who).copied().unwrap_or(relation.bytes_max());
        let is_over = used.saturating_add(bytes) > bytes_max || settings.never.contains(&who);
        let id = held_id(key, "http");
        if !is_over {
            settings.guests.insert(who, used + bytes);
        } else if !settings.never.contains(&who) && (settings.held.contains_key(&id) || settings.held.len() < HELD_MAX) {
            let timeline = "http".to_owned();
            let held = Held { who: who.clone(), author: who, timeline, relation, changes: 1, bytes: used + bytes, since_ms: now_ms };
            settings.held.insert(id.clone(), held);
        }
        self.save(settings);
        if is_over { Err(id) } else { Ok(()) }
    }

    /// Has what authors have here looked up again: some of what was counted is not here, or was before.
    pub fn recount(&self) {
        lock(&self.state).used.clear();
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
                for tip in timebus_store::tips::tips(&*rows, t, None, usize::MAX)? {
                    let own = timebus_store::summary::summary(&*rows, t, tip.a)?;
                    let cost = all.entry(tip.author).or_default();
                    cost.bytes += own.cum;
                    cost.changes += own.seq;
                }
            }
        }
        for (key, bytes) in &lock(&self.state).settings.guests {
            if let Ok(key) = key.parse() {
                all.entry(key).or_default().bytes += bytes;
            }
        }
        for (key, caller) in &lock(&self.state).callers {
            all.entry(*key).or_default().requests = caller.requests;
        }
        Ok(all)
    }
}

/// Bytes and changes that an author has here.
fn bytes_of(store: &Store, author: &PublicKey) -> Result<(u64, u64), StorageError> {
    let rows = store.snapshot();
    let (mut bytes, mut changes) = (0, 0);
    for space in store.spaces() {
        for t in std::iter::once(space.auth()).chain(store.values(space).into_iter().map(|(t, _)| t)) {
            for tip in timebus_store::tips::tips_of(&*rows, t, author)? {
                bytes += timebus_store::summary::summary(&*rows, t, tip.a)?.cum;
                changes += tip.seq;
            }
        }
    }
    Ok((bytes, changes))
}

/// Names what somebody wants to bring into a timeline.
fn held_id(author: &PublicKey, timeline: &str) -> String {
    z32::encode(&hash("held", &[author.as_bytes(), timeline.as_bytes()])[..10])
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;

    use super::*;

    #[test]
    fn requests_are_slowed_down_and_not_for_long() {
        let ledger = Ledger::open(Path::new(""));
        let (busy, other) = (SecretKey::from_seed([1; 32]).public(), SecretKey::from_seed([2; 32]).public());
        let passed = (0..1000).filter(|_| ledger.request(&busy, 1_000_000).is_ok()).count();
        assert_eq!(passed, 200);
        assert_eq!(ledger.request(&busy, 1_000_000), Err(20));
        assert_eq!(ledger.request(&other, 1_000_000), Ok(()), "each has a budget of his own");
        assert_eq!(ledger.request(&busy, 1_000_020), Ok(()));
        let passed = (0..1000).filter(|_| ledger.request(&busy, 1_060_000).is_ok()).count();
        assert_eq!(passed, 200, "a minute later there is room for a burst again and no more");
    }

    #[test]
    fn an_answer_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("limits.json");
        let who = SecretKey::from_seed([1; 32]).public();
        let ledger = Ledger::open(&file);
        assert_eq!(ledger.limit_of(&who, Relation::Stranger), STRANGER_BYTES);
        let held = Held {
            who: who.to_string(),
            author: who.to_string(),
            timeline: "t".to_owned(),
            relation: Relation::Stranger,
            changes: 3,
            bytes: 31_000_000_000,
            since_ms: 1,
        };
        lock(&ledger.state).settings.held.insert("abc".to_owned(), held.clone());
        assert_eq!(ledger.allow("x", Answer::Once), None);
        assert_eq!(ledger.allow("ab", Answer::Once), Some(held.clone()));
        assert_eq!(Ledger::open(&file).limit_of(&who, Relation::Stranger), 31_000_000_000);
        lock(&ledger.state).settings.held.insert("abc".to_owned(), held);
        assert!(ledger.allow("abc", Answer::Never).is_some());
        assert_eq!(Ledger::open(&file).limit_of(&who, Relation::Friend), 0);
        ledger.limit(&who, 5);
        assert_eq!(Ledger::open(&file).limit_of(&who, Relation::Friend), 5);
        assert!(Ledger::open(&file).held().is_empty());
    }
}
