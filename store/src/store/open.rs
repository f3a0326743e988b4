//! Opening a home: its lock, keys and tables, and what of the log is not in them yet.

use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use timebus_identity::{Keys, KeysError, PublicKey, SecretKey};
use tokio::sync::Semaphore;

use super::{Parts, StorageError, Store, Threads};
use crate::blobs::{Blobs, Limits};
use crate::change::{Body, Change};
use crate::fold::Bodies;
use crate::grant::{Actions, Audience, Genesis, Grant, Scope, Timelines};
use crate::keyspace::{Layered, Rows as _, Table, Tables};
use crate::log::{Appender, Form, Item, LogReader, Place};
use crate::objects::Texts;
use crate::op::Op;
use crate::pipeline::{APPLIED, AUTH, Pipeline, decode_applied};
use crate::summary::Summary;
use crate::writer::{Job, Parked};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another timebus", .0.display())]
    InUse(PathBuf),
    /// There is a change log and no keys; new ones would make another space of it.
    #[error("{} has a change log but no keys: put the folder `keys` back from a backup, or recover them with the kit", .0.display())]
    NoKeys(PathBuf),
    /// Others on this machine may look into it, and into all that is read there without a lock of its own.
    #[error("{} is open to others (mode {mode:04o}): run `chmod 700 {}`", path.display(), quoted(path))]
    OpenToOthers {
        /// The home.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The keys are not usable.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The disk or what is on it failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How a store is run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of table blocks kept in memory. Default 32 MiB; more makes reads of large trees faster.
    pub cache_bytes: u64,
    /// Bytes of recent rows kept in memory. Default 32 MiB; more makes writing faster and starting slower.
    pub memtable_bytes: u64,
    /// Requests that may wait to be written. Default 8 192; more use memory, fewer make bursts wait outside.
    pub requests_max: usize,
    /// Steps of merging, of 20 ns each, that one text may take while everything else waits; with more it is parked and
    /// merged beside. Default 5 000 000; more lets an entangled text hold others up, fewer park texts that are not.
    pub text_steps_max: u64,
    /// How much of blobs may be kept. Default as much as the disk takes.
    pub blobs: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * 1024 * 1024,
            memtable_bytes: 32 * 1024 * 1024,
            requests_max: 8192,
            text_steps_max: crate::objects::STEPS_MAX,
            blobs: Limits::default(),
        }
    }
}

/// What was found and done while opening.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Changes that were in the log and not in the tables.
    pub replayed: u64,
    /// Stretches of the log that are damaged.
    pub damaged: Vec<crate::log::Damage>,
    /// Bytes at the end of the log that were never acknowledged and are cut off.
    pub torn_bytes: u64,
    /// Whether the tables were made anew, and why.
    pub rebuilt: Option<String>,
    /// Whether this home got a new device key, because it is a copy or lost changes.
    pub new_device: bool,
}

/// What is in a home as folders. Values are in several of them, and some are made by libraries that know no modes.
const FOLDERS: [&str; 9] = ["apps", "blobs", "folders", "inbox", "index", "invites", "log", "personas", "restoring"];

/// Takes the lock that keeps a second process out. It is free again when the file is dropped. Others cannot look into the
/// home from here on.
///
/// # Errors
///
/// [`OpenError::InUse`], [`OpenError::OpenToOthers`], [`OpenError::Storage`].
pub fn lock_home(home: &FilePath) -> Result<std::fs::File, OpenError> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(StorageError::from)?;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(home.join("lock"))
        .map_err(StorageError::from)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => close_to_others(home).map(|()| file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(home.to_owned())),
        Err(error) => Err(StorageError::Io(error.into()).into()),
    }
}

/// Makes sure that nobody else can look into a home. A folder that was there and is empty becomes ours; of any other that
/// is open the owner has to hear, because its values may have been read.
fn close_to_others(home: &FilePath) -> Result<(), OpenError> {
    use std::os::unix::fs::PermissionsExt as _;
    let set = |path: &FilePath| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    let mode = std::fs::metadata(home).map_err(StorageError::from)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let mut inside = std::fs::read_dir(home).map_err(StorageError::from)?.flatten();
        if inside.any(|entry| entry.file_name() != "lock") || set(home).is_err() {
            return Err(OpenError::OpenToOthers { path: home.to_owned(), mode });
        }
    }
    for folder in FOLDERS.map(|name| home.join(name)) {
        // A link leads to where other rules hold.
        let is_open = std::fs::symlink_metadata(&folder).is_ok_and(|is| is.is_dir() && is.permissions().mode() & 0o077 != 0);
        if is_open {
            set(&folder).map_err(StorageError::from)?;
        }
    }
    Ok(())
}

/// A path as one word of a shell command.
fn quoted(path: &FilePath) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Says that this home needs a new device key before it writes.
const NEW_DEVICE_MARK: &str = "needs-device";

/// Says that the tables are damaged, or were made from a log that has been mended since: the next start makes them anew.
pub(super) const OLD_INDEX_MARK: &str = "index.old";

/// Says that the tables were made from a log that is damaged, or that ends earlier than it did. Files that nothing names any more may
/// be named there, and stay until the log is whole.
pub(super) const LACKING_MARK: &str = "log.lacking";
/// What it says if the log became shorter: nothing in the log tells when what was lost is here again.
pub(super) const SHORTER: &str = "shorter";

/// Opens the tables; if that is not possible, or if they know more than the log, they are put aside and made anew.
fn open_tables(home: &FilePath, config: &Config, log: &LogReader, opened: &mut Opened) -> Result<Tables, OpenError> {
    let open = || Tables::open(&home.join("index"), config.cache_bytes, config.memtable_bytes);
    let mark = home.join(OLD_INDEX_MARK);
    if let Ok(reason) = std::fs::read_to_string(&mark) {
        if home.join("index").exists() {
            put_aside(home, reason.trim(), opened)?;
        }
        let tables = open()?;
        std::fs::remove_file(&mark).map_err(StorageError::from)?;
        return Ok(tables);
    }
    let reason = match open() {
        Ok(tables) => {
            let straggler = tables.straggler()?;
            // What tables know that lack rows may not be told; what they tell counts.
            let ahead = match ahead_of_log(&tables, log) {
                Err(_) if straggler.is_some() => None,
                ahead => ahead?,
            };
            if let Some(reason) = ahead {
                let mark = std::fs::File::create(home.join(NEW_DEVICE_MARK)).map_err(StorageError::from)?;
                mark.sync_all().map_err(StorageError::from)?;
                reason
            } else if let Some(table) = straggler {
                format!("rows of the table {} are missing", table.name())
            } else {
                return Ok(tables);
            }
        }
        Err(error) => format!("the index could not be opened: {error:?}"),
    };
    put_aside(home, &reason, opened)?;
    Ok(open()?)
}

/// Lets the next start make the tables in a home anew; a store in memory has none.
pub(super) fn distrust(home: &FilePath, reason: &str) {
    let mark = home.join(OLD_INDEX_MARK);
    if home.as_os_str().is_empty() || mark.exists() {
        return;
    }
    tracing::error!(reason, "the index is made anew at the next start");
    let written = std::fs::File::create(&mark).and_then(|mut file| {
        use std::io::Write as _;
        file.write_all(reason.as_bytes())?;
        file.sync_all()
    });
    if let Err(error) = written {
        tracing::error!(%error, "that could not be written down; remove the folder `index` before the next start");
    }
}

/// Moves the tables out of the way.
fn put_aside(home: &FilePath, reason: &str, opened: &mut Opened) -> Result<(), OpenError> {
    tracing::warn!(reason, "making the index anew from the change log");
    let mut aside = home.join("index.damaged");
    for number in 1.. {
        if !aside.exists() {
            break;
        }
        aside = home.join(format!("index.damaged.{number}"));
    }
    std::fs::rename(home.join("index"), &aside).map_err(StorageError::from)?;
    opened.rebuilt = Some(reason.to_owned());
    Ok(())
}

/// Whether the tables hold changes that the log does not.
pub(crate) fn ahead_of_log(tables: &Tables, log: &LogReader) -> Result<Option<String>, StorageError> {
    let rows = tables.snapshot();
    let Some(row) = rows.get(Table::Meta, APPLIED)? else { return Ok(None) };
    let (next_a, end) = decode_applied(&row)?;
    let Some(a) = next_a.checked_sub(1) else { return Ok(None) };
    // Numbers go over all timelines, so it is not known in which one the last change is.
    for t in crate::pipeline::timelines(&rows) {
        if let Some(row) = rows.get(Table::Change, &crate::summary::change_key(t, a))? {
            let last = Summary::decode(&row)?;
            return Ok(match log.read(last.place) {
                Ok(record)
                    if record.end == end && record.a == a && Change::decode(&record.payload).is_ok_and(|change| change.content().id() == last.id) =>
                {
                    None
                }
                Ok(_) => Some("the change log is another one".to_owned()),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::NotFound) => {
                    Some("the change log ends earlier than it did".to_owned())
                }
                Err(error) => return Err(error.into()),
            });
        }
    }
    Ok(None)
}

/// Commits what was taken in from the log.
fn commit(pipeline: &mut Pipeline, tables: &Tables) -> Result<(), StorageError> {
    pipeline.settle()?;
    let sealed = pipeline.rows.seal();
    pipeline.bodies.seal();
    tables.commit(&sealed)?;
    pipeline.rows.rebase(tables.snapshot());
    pipeline.bodies.synced();
    Ok(())
}

/// Whether a record that was found behind damage is one that was written there.
fn is_genuine(record: &crate::log::Record, next_a: u64, lost_bytes: u64) -> bool {
    let lost_max = lost_bytes / crate::log::record_bytes(0) + 1;
    record.a >= next_a && record.a - next_a <= lost_max && Change::decode(&record.payload).is_ok_and(|change| change.verify().is_ok())
}

/// Rows staged at once while the log is replayed.
const REPLAY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Takes in what is in the log and not in the tables. Answers where the log ends.
pub(crate) fn replay(
    pipeline: &mut Pipeline,
    tables: &Tables,
    log: &LogReader,
    opened: &mut Opened,
    progress: &mut dyn FnMut(u64),
) -> Result<Place, StorageError> {
    let mut end = pipeline.next_place();
    let mut torn: Option<crate::log::Damage> = None;
    // Behind damage, what looks like a record may be part of a change's body, put there to be found. So from there
    // on signatures are checked, and no more numbers are skipped than records can have been lost.
    let mut is_damaged = false;
    let mut lost_bytes = 0;
    for item in log.walk(end)? {
        match item? {
            Item::Damaged(damage) => {
                is_damaged = true;
                lost_bytes += damage.bytes;
                opened.damaged.extend(torn.replace(damage));
            }
            Item::Record(record) if is_damaged && !is_genuine(&record, pipeline.next_a(), lost_bytes) => {
                let bytes = record.end.offset - record.place.offset;
                lost_bytes += bytes;
                opened.damaged.extend(torn.replace(crate::log::Damage { place: record.place, bytes }));
            }
            Item::Record(record) => {
                opened.damaged.extend(torn.take());
                pipeline.skip_to(record.a, record.place);
                end = record.end;
                let Ok(change) = Change::decode(&record.payload) else {
                    opened.damaged.push(crate::log::Damage { place: record.place, bytes: record.end.offset - record.place.offset });
                    continue;
                };
                let change = change.content();
                if !pipeline.is_held(change.header()) {
                    // The first change of its space was damaged, so nobody can tell which space it is.
                    opened.damaged.push(crate::log::Damage { place: record.place, bytes: record.end.offset - record.place.offset });
                    pipeline.skip_to(record.a + 1, record.end);
                    continue;
                }
                if pipeline.knows(&change.id())? {
                    pipeline.skip_to(record.a + 1, record.end);
                    continue;
                }
                pipeline.take(change, None, record.payload_len)?;
                opened.replayed += 1;
                progress(opened.replayed);
                if pipeline.rows.staged.bytes() > REPLAY_BYTES_MAX {
                    commit(pipeline, tables)?;
                }
            }
        }
    }
    // Damage with nothing good behind it is a record that was being written and never acknowledged.
    if let Some(torn) = torn {
        opened.torn_bytes = torn.bytes;
    }
    commit(pipeline, tables)?;
    Ok(end)
}

/// The keys that a store makes its first statement with.
pub(crate) struct Signers<'a> {
    /// Of the space, unless it is kept elsewhere.
    pub(crate) root: Option<&'a SecretKey>,
    /// Hash of the root key that may come next.
    pub(crate) next_hash: [u8; 32],
    pub(crate) device: &'a SecretKey,
}

/// The statement of a root that makes a key one of the owner's devices.
#[must_use]
pub fn device_grant(device: &PublicKey) -> Op {
    Op::Grant(Grant {
        audience: Audience::Key(*device),
        scope: Scope::everything(),
        timelines: Timelines::All,
        actions: Actions::ALL,
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 7,
        label: "device".into(),
    })
}

/// Makes sure that the space has its first statement and this device its grant, if the root key is here.
pub(crate) fn found(keys: &Signers<'_>, pipeline: &mut Pipeline, tables: &Tables, appender: &mut Appender, now_ms: u64) -> Result<(), StorageError> {
    let device = keys.device.public();
    if pipeline.rights(AUTH).device_grant(&device).is_some() {
        return Ok(());
    }
    // A root key that is none, or not yet as far as is known here, could say nothing that counts.
    let Some(root) = keys.root.filter(|root| root.public() == pipeline.rights(AUTH).root()) else { return Ok(()) };
    let mut ops = Vec::new();
    if pipeline.rights(AUTH).genesis().is_none() {
        ops.push(Op::Genesis(Genesis { next: Some(keys.next_hash), guardians: None }));
    }
    ops.push(device_grant(&device));
    let change = pipeline.author(AUTH, root.public(), None, now_ms, &Body { ops, ..Body::default() })?;
    let form = Form::of(&change);
    let taken = pipeline.take(&change, None, form.payload_len())?;
    use timebus_identity::Signable as _;
    let mut bytes = Vec::new();
    form.frame(taken.a, &change, &root.sign(&change.signing_message()), &mut bytes);
    appender.write(taken.place, &bytes)?;
    appender.sync()?;
    commit(pipeline, tables)
}

impl Store {
    /// Opens the store in a home folder, and makes one where there is none. `lock` is from [`lock_home`];
    /// `now_ms` is Unix time.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(home: &FilePath, lock: std::fs::File, config: &Config, now_ms: u64, progress: &mut dyn FnMut(u64)) -> Result<Self, OpenError> {
        let log_folder = home.join("log");
        let log = LogReader::new(&log_folder);
        let has_keys = home.join("keys/space").exists();
        if !has_keys && !log.segments().map_err(StorageError::from)?.is_empty() {
            return Err(OpenError::NoKeys(home.to_owned()));
        }
        let mut keys = Keys::create_or_open(&home.join("keys"))?;
        let mut opened = Opened::default();
        let attempt = |opened: &mut Opened, progress: &mut dyn FnMut(u64)| -> Result<_, OpenError> {
            let tables = open_tables(home, config, &log, opened)?;
            let rows = Layered::new(tables.snapshot(), None);
            let mut bodies = Bodies::new(log.clone());
            bodies.texts = Texts::new(config.text_steps_max);
            let mut pipeline = Pipeline::new(rows, bodies, keys.space())?;
            let end = replay(&mut pipeline, &tables, &log, opened, progress)?;
            Ok((tables, pipeline, end))
        };
        let (tables, mut pipeline, end) = match attempt(&mut opened, progress) {
            Err(OpenError::Storage(error @ (StorageError::Index(_) | StorageError::Damaged { .. } | StorageError::Row(_))))
                if opened.rebuilt.is_none() =>
            {
                // The tables are damaged, and they can be made anew.
                put_aside(home, &format!("the index is damaged: {error}"), &mut opened)?;
                attempt(&mut opened, progress)?
            }
            result => result?,
        };
        let mark = home.join(LACKING_MARK);
        let is_shorter = opened.rebuilt.is_some() && home.join(NEW_DEVICE_MARK).exists();
        if is_shorter || !opened.damaged.is_empty() {
            let why = if is_shorter { SHORTER } else { "damaged" };
            let write = |mut mark: std::fs::File| std::io::Write::write_all(&mut mark, why.as_bytes()).and_then(|()| mark.sync_all());
            std::fs::File::create(&mark).and_then(write).map_err(StorageError::from)?;
        } else if opened.rebuilt.is_some() && std::fs::read_to_string(&mark).is_ok_and(|why| why != SHORTER) {
            // The log was mended, and read from its beginning.
            std::fs::remove_file(&mark).map_err(StorageError::from)?;
        }
        let blobs = Blobs::open(&home.join("blobs"), config.blobs.clone()).map_err(StorageError::from)?;
        let mut appender = Appender::open(&log_folder, end).map_err(StorageError::from)?;
        // A rotation that was cut short when the new root had been written.
        if keys.rotation()?.is_some_and(|(root, _)| pipeline.rights(AUTH).root() == root.public()) {
            keys.finish_rotation()?;
        }
        // A home that lost changes, or is a copy of another, must not go on in its old chain. The mark outlives a
        // crash in the middle, and stays as long as the root key is not there to grant a new device key.
        let mark = home.join(NEW_DEVICE_MARK);
        let renew = keys.is_copy() || mark.exists();
        if renew && keys.root().is_some() {
            keys.renew_device()?;
            opened.new_device = true;
        }
        let signers = Signers { root: keys.root(), next_hash: keys.next_hash(), device: keys.device() };
        found(&signers, &mut pipeline, &tables, &mut appender, now_ms)?;
        if opened.new_device && mark.exists() {
            std::fs::remove_file(&mark).map_err(StorageError::from)?;
        }
        let device = SecretKey::from_seed(*keys.device().seed());
        let is_barred = renew && !opened.new_device;
        let Parts { inner, mut decider, syncer, jobs, job_queue, groups } = Parts::new(tables, pipeline, log, appender, device, is_barred);
        let (resumer, parked) = mpsc::channel();
        decider.resumer = Some(resumer);
        let merged = jobs.clone();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).stack_size(16 * 1024 * 1024).spawn(run).map_err(StorageError::from)
        };
        // Ends when the decider does, or one text later: nobody waits for it, and it holds nothing but that text.
        let merge = move || {
            let mut turns = crate::turns::Turns::new();
            // Whether one was asked for that has its turn: only so there is one copy at a time.
            let mut is_asked = false;
            loop {
                let now = std::time::Instant::now();
                if !is_asked && let Some((name, ())) = turns.take(now) {
                    is_asked = merged.send(Job::Lend(name)).is_ok();
                    continue;
                }
                let next = match turns.next().filter(|_| !is_asked) {
                    Some(at) => parked.recv_timeout(at.saturating_duration_since(now)),
                    None => parked.recv().map_err(Into::into),
                };
                match next {
                    Ok(Parked::Waits(name)) => turns.add(now, name, ()),
                    Ok(Parked::Lent(lent)) => {
                        is_asked = false;
                        let Some(lent) = lent else { continue };
                        let (name, began) = (lent.name(), std::time::Instant::now());
                        let text = lent.resume();
                        turns.took(std::time::Instant::now(), name, began.elapsed());
                        let _ = merged.send(Job::Resumed(Box::new(text)));
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        drop(spawn("merge", Box::new(merge))?);
        let handles = vec![spawn("decide", Box::new(move || decider.run(&job_queue)))?, spawn("sync", Box::new(move || syncer.run(&groups)))?];
        let threads =
            Threads { jobs: jobs.clone(), handles: Mutex::new(handles), inner: Arc::clone(&inner), home: home.to_owned(), _lock: Some(lock) };
        Ok(Self {
            inner,
            jobs,
            waiting: Arc::new(Semaphore::new(config.requests_max)),
            threads: Arc::new(threads),
            opened: Arc::new(opened),
            home: home.into(),
            blobs: Some(blobs),
            asker: None,
        })
    }
}
