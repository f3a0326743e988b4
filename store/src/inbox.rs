//! The inbox of a space: notices that anybody may leave, within bounds that no number of strangers can exceed.
//!
//! Notices are no part of the change log, which keeps everything for ever. They have a file of their own, to which they
//! are appended and which is written anew without those that were replaced, taken back, thrown out or pushed out. What
//! counts is what is *live*: a slot that is filled again frees what was there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Mutex, PoisonError};

use timebus_identity::{PublicKey, Verified};
use tokio::sync::watch;

use crate::change::{Change, encode};
use crate::ids::ChangeId;
use crate::json::Json;
use crate::log::{Appender, Item, LogReader, Place, frame};
use crate::notice::{Left, Notice, NoticeError, Pointer};

/// Live bytes of one sender: some dozens of notices, so that nobody fills an inbox alone.
pub const SENDER_BYTES_MAX: u64 = 64 * 1024;
/// Live bytes of what one person says by all his devices and that is known to be true, which stay when others go: he names his
/// devices himself, as many as he likes, and so nobody else's notices make way for more of his.
pub const PERSON_BYTES_MAX: u64 = 4 * SENDER_BYTES_MAX;
/// Live bytes of an inbox: some ten thousand notices, all of which are in memory. Beyond that the oldest are pushed out.
pub const INBOX_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What a notice takes beside its own bytes, roughly.
const ENTRY_BYTES: u64 = 256;
/// Bytes of the file that may be dead before it is written anew, beside as many as are live.
const DEAD_BYTES_MAX: u64 = 1024 * 1024;

/// How much an inbox takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Live bytes of one sender. Default [`SENDER_BYTES_MAX`].
    pub sender_bytes_max: u64,
    /// Live bytes in all. Default [`INBOX_BYTES_MAX`].
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sender_bytes_max: SENDER_BYTES_MAX, bytes_max: INBOX_BYTES_MAX }
    }
}

/// What is known of whether a notice says the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truth {
    /// The space that it says it comes from is not here.
    #[default]
    Unknown,
    /// What it says points is there, and points at the target.
    Confirmed,
    /// It is not there, or points elsewhere, or somebody else signed the notice.
    Refuted,
}

/// What goes first when there is no room: what is known not to be true, then what nobody could confirm, then what stays longest.
const FALSE: u8 = 0;
const OPEN: u8 = 1;
const TRUE: u8 = 2;

/// A notice in an inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Who signed it.
    pub author: PublicKey,
    /// Its slot.
    pub slot: Box<str>,
    /// What it says.
    pub notice: Notice,
    /// When it came; Unix milliseconds.
    pub at_ms: u64,
    /// What is known of it.
    pub truth: Truth,
    /// When that was found out: how much had come of the space that it is from, see [`Inbox::judge`].
    pub as_of: u64,
}

/// Why a notice was not kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// The owner takes none.
    #[error("this inbox is closed")]
    Closed,
    /// Its sender has no room left.
    #[error("one sender may leave {max} bytes here, and this would be {found}")]
    Full {
        /// What he may.
        max: u64,
        /// What it would be.
        found: u64,
    },
    /// It is none.
    #[error(transparent)]
    Notice(#[from] NoticeError),
    /// The disk.
    #[error("the inbox could not be written")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
struct Entry {
    id: ChangeId,
    clock: u64,
    at_ms: u64,
    /// When it came, as a number that grows.
    order: u64,
    record: Box<[u8]>,
    notice: Option<Notice>,
    truth: Truth,
    as_of: u64,
    rank: u8,
}

impl Entry {
    fn bytes(&self) -> u64 {
        self.record.len() as u64 + ENTRY_BYTES
    }
}

type Slot = (PublicKey, Box<str>);

#[derive(Default)]
struct State {
    entries: BTreeMap<Slot, Entry>,
    /// Entries by what is pushed out first ([`Entry::rank`]), then by age.
    ages: BTreeMap<(u8, u64), Slot>,
    senders: HashMap<PublicKey, u64>,
    /// Bytes of what is true and stays longest, by whose it is.
    persons: HashMap<PublicKey, u64>,
    bytes: u64,
    next_order: u64,
    is_closed: bool,
    file: Option<Appender>,
    file_bytes: u64,
}

/// The inbox of one space.
pub struct Inbox {
    space: PublicKey,
    folder: PathBuf,
    limits: Limits,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({})", self.space)
    }
}

impl Inbox {
    /// Opens the inbox of a space in a folder, which is made when the first notice comes.
    ///
    /// # Errors
    ///
    /// Of the file system. What is damaged in the file is left out.
    pub fn open(folder: &FilePath, space: PublicKey, limits: Limits) -> io::Result<Self> {
        let mut state = State { is_closed: folder.join(CLOSED).exists(), ..State::default() };
        let mut end = Place::START;
        if folder.join(FILE).exists() {
            for item in LogReader::new(folder).walk(Place::START)? {
                let Item::Record(record) = item? else { continue };
                end = record.end;
                let (at_ms, payload) = (record.a, record.payload);
                let Ok(change) = Change::decode(&payload) else { continue };
                // What is on disk may have been put there by a faulty one: it is believed like what comes over a link.
                if let Ok(left) = change.verify().map_err(|_| NoticeError::Change).and_then(|change| Left::check(&space, &change)) {
                    state.put(left, payload.into(), at_ms);
                    state.push_out(limits.bytes_max);
                }
            }
            state.file = Some(Appender::open(folder, end)?);
        }
        state.file_bytes = end.offset;
        Ok(Self { space, folder: folder.to_owned(), limits, state: Mutex::new(state), changes: watch::Sender::new(0) })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose inbox it is.
    #[must_use]
    pub fn space(&self) -> PublicKey {
        self.space
    }

    /// Tells whenever something came or went.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Keeps notices. When it answers, those that were kept are on disk. `now_ms` is Unix time.
    pub fn leave(&self, notices: &[Verified<Change>], now_ms: u64) -> Vec<Result<Left, LeaveError>> {
        let mut state = self.state();
        let mut buffer = Vec::new();
        let mut results: Vec<Result<Left, LeaveError>> = Vec::with_capacity(notices.len());
        for change in notices {
            let checked = Left::check(&self.space, change).map_err(LeaveError::from);
            results.push(checked.and_then(|left| {
                let record = encode(change);
                if state.take(&left, record.len(), self.limits)? {
                    frame(now_ms, &record, &mut buffer);
                    state.put(left.clone(), record.into(), now_ms);
                }
                Ok(left)
            }));
        }
        if buffer.is_empty() {
            return results;
        }
        if let Err(error) = state.append(&self.folder, &buffer) {
            // Nothing of it is acknowledged. What is in memory all the same goes with the next start, or comes again.
            let failed = || LeaveError::Io(io::Error::new(error.kind(), error.to_string()));
            return results.into_iter().map(|result| result.and_then(|_| Err(failed()))).collect();
        }
        state.push_out(self.limits.bytes_max);
        if let Err(error) = state.tidy(&self.folder) {
            tracing::warn!(%error, "the file of the inbox was not written anew");
        }
        drop(state);
        self.changed();
        results
    }

    /// All notices, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Kept> {
        let state = self.state();
        let mut all: Vec<(u64, Kept)> = state.entries.iter().filter_map(|(slot, entry)| Some((entry.order, kept(slot, entry)?))).collect();
        all.sort_unstable_by_key(|(order, _)| *order);
        all.into_iter().map(|(_, kept)| kept).collect()
    }

    /// The spaces that notices say they are from.
    #[must_use]
    pub fn sources(&self) -> BTreeSet<PublicKey> {
        self.state().entries.values().filter_map(|entry| entry.notice.as_ref()).map(|notice| notice.source.space).collect()
    }

    /// Notices of these spaces of which nothing is known yet, or was found out when another amount of their space had come than
    /// this.
    #[must_use]
    pub fn unjudged(&self, come: &HashMap<PublicKey, u64>) -> Vec<Kept> {
        let state = self.state();
        let is_due = |entry: &Entry| {
            let now = entry.notice.as_ref().and_then(|notice| come.get(&notice.source.space));
            now.is_some_and(|now| entry.truth == Truth::Unknown || entry.as_of != *now)
        };
        state.entries.iter().filter(|(_, entry)| is_due(entry)).filter_map(|(slot, entry)| kept(slot, entry)).collect()
    }

    /// Notices about one thing, the oldest first.
    #[must_use]
    pub fn about(&self, target: &Pointer) -> Vec<Kept> {
        let state = self.state();
        let of_it = |entry: &&Entry| entry.notice.as_ref().is_some_and(|notice| notice.target == *target);
        let found = state.entries.iter().filter(|(_, entry)| of_it(entry));
        let mut found: Vec<(u64, Kept)> = found.filter_map(|(slot, entry)| Some((entry.order, kept(slot, entry)?))).collect();
        found.sort_unstable_by_key(|(order, _)| *order);
        found.into_iter().map(|(_, kept)| kept).collect()
    }

    /// What shows at a path below `/.drop`: by sender, then by slot.
    #[must_use]
    pub fn json(&self, path: &[&str]) -> Option<Json> {
        let state = self.state();
        let of = |slot: &Slot, entry: &Entry| kept(slot, entry).map(|kept| kept.to_json());
        match path {
            [] => {
                let mut senders: BTreeMap<String, BTreeMap<String, Json>> = BTreeMap::new();
                for (slot, entry) in &state.entries {
                    if let Some(json) = of(slot, entry) {
                        senders.entry(slot.0.to_string()).or_default().insert(slot.1.to_string(), json);
                    }
                }
                Some(Json::Object(senders.into_iter().map(|(sender, slots)| (sender, Json::Object(slots))).collect()))
            }
            [sender] => {
                let sender: PublicKey = sender.parse().ok()?;
                let own = state.entries.range((sender, "".into())..).take_while(|(slot, _)| slot.0 == sender);
                let slots: BTreeMap<String, Json> = own.filter_map(|(slot, entry)| Some((slot.1.to_string(), of(slot, entry)?))).collect();
                (!slots.is_empty()).then_some(Json::Object(slots))
            }
            [sender, slot, below @ ..] => {
                let slot = (sender.parse().ok()?, (*slot).into());
                let json = of(&slot, state.entries.get(&slot)?)?;
                below.iter().try_fold(json, |json, name| match json {
                    Json::Object(mut members) => members.remove(*name),
                    _ => None,
                })
            }
        }
    }

    /// Live bytes, and how many senders they are from.
    #[must_use]
    pub fn size(&self) -> (u64, usize) {
        let state = self.state();
        (state.bytes, state.senders.len())
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.state().file_bytes
    }

    /// Whether notices are taken.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Takes notices from now on, or none any more. What is there stays.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn close(&self, is_closed: bool) -> io::Result<()> {
        let mut state = self.state();
        make(&self.folder)?;
        let mark = self.folder.join(CLOSED);
        match is_closed {
            true => std::fs::File::create(&mark)?.sync_all()?,
            false if mark.exists() => std::fs::remove_file(&mark)?,
            false => {}
        }
        state.is_closed = is_closed;
        drop(state);
        self.changed();
        Ok(())
    }

    /// Throws out what `is_unwanted` says, for good: bytes of it are not on disk any more when it answers. Says how many.
    ///
    /// # Errors
    ///
    /// Of the file system.
    pub fn throw_out(&self, is_unwanted: impl Fn(&PublicKey, &str, Option<&Notice>) -> bool) -> io::Result<usize> {
        let mut state = self.state();
        let unwanted: Vec<Slot> = state
            .entries
            .iter()
            .filter(|((author, slot), entry)| is_unwanted(author, slot, entry.notice.as_ref()))
            .map(|(slot, _)| slot.clone())
            .collect();
        if unwanted.is_empty() {
            return Ok(0);
        }
        for slot in &unwanted {
            state.remove(slot);
        }
        state.rewrite(&self.folder)?;
        drop(state);
        self.changed();
        Ok(unwanted.len())
    }

    /// Remembers, until the next start, what is known of a notice. `as_of` grows with what has come of the space that it is from: what
    /// was found out by less of it than is known already is of before, however late it is told.
    pub fn judge(&self, author: &PublicKey, slot: &str, truth: Truth, as_of: u64) {
        let mut state = self.state();
        let slot: Slot = (*author, slot.into());
        if state.judge(&slot, truth, as_of) {
            drop(state);
            self.changed();
        }
    }
}

fn kept(slot: &Slot, entry: &Entry) -> Option<Kept> {
    let notice = entry.notice.clone()?;
    Some(Kept { author: slot.0, slot: slot.1.clone(), notice, at_ms: entry.at_ms, truth: entry.truth, as_of: entry.as_of })
}

impl Kept {
    /// As it shows below `/.drop`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut json = self.notice.to_json();
        if let Json::Object(members) = &mut json {
            members.insert("at_ms".to_owned(), Json::Int(self.at_ms as i64));
            members.insert("from".to_owned(), Json::String(self.author.to_string()));
            let truth = match self.truth {
                Truth::Unknown => Json::Null,
                Truth::Confirmed => Json::Bool(true),
                Truth::Refuted => Json::Bool(false),
            };
            members.insert("confirmed".to_owned(), truth);
        }
        json
    }
}

/// The file, named as the first segment of a log is, since it has its form.
const FILE: &str = "00000001.log";
/// Marks an inbox that takes nothing.
const CLOSED: &str = "closed";

fn make(folder: &FilePath) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl State {
    /// Whether a notice says something new that there is room for.
    fn take(&self, left: &Left, record_bytes: usize, limits: Limits) -> Result<bool, LeaveError> {
        if self.is_closed {
            return Err(LeaveError::Closed);
        }
        let old = self.entries.get(&(left.author, left.slot.clone()));
        if old.is_some_and(|old| (old.clock, old.id) >= (left.clock, left.id)) {
            return Ok(false);
        }
        let own = self.senders.get(&left.author).copied().unwrap_or(0);
        let found = own - old.map_or(0, Entry::bytes) + record_bytes as u64 + ENTRY_BYTES;
        // What takes something back there is always taken, or a full slot could never be emptied.
        if found > limits.sender_bytes_max && (left.notice.is_some() || old.is_none()) {
            return Err(LeaveError::Full { max: limits.sender_bytes_max, found });
        }
        Ok(true)
    }

    fn put(&mut self, left: Left, record: Box<[u8]>, at_ms: u64) {
        let Left { id, author, slot, clock, notice } = left;
        let slot: Slot = (author, slot);
        if self.entries.get(&slot).is_some_and(|old| (old.clock, old.id) >= (clock, id)) {
            return;
        }
        self.remove(&slot);
        let order = self.next_order;
        self.next_order += 1;
        let entry = Entry { id, clock, at_ms, order, record, notice, truth: Truth::Unknown, as_of: 0, rank: OPEN };
        self.bytes += entry.bytes();
        *self.senders.entry(author).or_default() += entry.bytes();
        self.ages.insert((entry.rank, order), slot.clone());
        self.entries.insert(slot, entry);
    }

    fn remove(&mut self, slot: &Slot) {
        let Some(entry) = self.entries.remove(slot) else { return };
        self.bytes -= entry.bytes();
        self.ages.remove(&(entry.rank, entry.order));
        self.count_true(&entry, false);
        if let Some(own) = self.senders.get_mut(&slot.0) {
            *own -= entry.bytes();
            if *own == 0 {
                self.senders.remove(&slot.0);
            }
        }
    }

    /// Whether it is another one than before.
    fn judge(&mut self, slot: &Slot, truth: Truth, as_of: u64) -> bool {
        let Some(mut entry) = self.entries.remove(slot) else { return false };
        let (before, is_later) = (entry.truth, as_of >= entry.as_of);
        if is_later {
            self.ages.remove(&(entry.rank, entry.order));
            self.count_true(&entry, false);
            (entry.truth, entry.as_of) = (truth, as_of);
            entry.rank = match truth {
                Truth::Refuted => FALSE,
                Truth::Confirmed if self.has_room(&entry) => TRUE,
                Truth::Unknown | Truth::Confirmed => OPEN,
            };
            self.count_true(&entry, true);
            self.ages.insert((entry.rank, entry.order), slot.clone());
        }
        self.entries.insert(slot.clone(), entry);
        is_later && before != truth
    }

    /// Whether one more that is true of this person stays longest.
    fn has_room(&self, entry: &Entry) -> bool {
        let person = entry.notice.as_ref().map(|notice| notice.source.space);
        person.is_some_and(|person| self.persons.get(&person).copied().unwrap_or(0) + entry.bytes() <= PERSON_BYTES_MAX)
    }

    fn count_true(&mut self, entry: &Entry, comes: bool) {
        let Some(person) = entry.notice.as_ref().filter(|_| entry.rank == TRUE).map(|notice| notice.source.space) else { return };
        let own = self.persons.entry(person).or_default();
        *own = if comes { *own + entry.bytes() } else { own.saturating_sub(entry.bytes()) };
        if *own == 0 {
            self.persons.remove(&person);
        }
    }

    /// Makes room: what is known not to be true goes first, then what nobody could confirm, and of that the oldest.
    fn push_out(&mut self, bytes_max: u64) {
        while self.bytes > bytes_max
            && let Some((_, slot)) = self.ages.first_key_value().map(|(age, slot)| (*age, slot.clone()))
        {
            self.remove(&slot);
        }
    }

    fn append(&mut self, folder: &FilePath, records: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            make(folder)?;
            self.file = Some(Appender::open(folder, Place { offset: self.file_bytes, ..Place::START })?);
        }
        let place = Place { offset: self.file_bytes, ..Place::START };
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write(place, records).and_then(|()| file.sync());
        if let Err(error) = written {
            // Opened again, and cut off there, before the next write.
            self.file = None;
            return Err(error);
        }
        self.file_bytes += records.len() as u64;
        Ok(())
    }

    /// Writes the file anew if too much of it is dead.
    fn tidy(&mut self, folder: &FilePath) -> io::Result<()> {
        if self.file_bytes > 2 * self.bytes + DEAD_BYTES_MAX { self.rewrite(folder) } else { Ok(()) }
    }

    /// Writes the file anew, with what is live.
    fn rewrite(&mut self, folder: &FilePath) -> io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut live: Vec<&Entry> = self.entries.values().collect();
        live.sort_unstable_by_key(|entry| entry.order);
        let mut buffer = Vec::new();
        live.iter().for_each(|entry| frame(entry.at_ms, &entry.record, &mut buffer));
        make(folder)?;
        let new = folder.join("new");
        let mut out = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        out.write_all(&buffer)?;
        out.sync_all()?;
        self.file = None;
        std::fs::rename(&new, folder.join(FILE))?;
        std::fs::File::open(folder)?.sync_all()?;
        self.file_bytes = buffer.len() as u64;
        Ok(())
    }
}
