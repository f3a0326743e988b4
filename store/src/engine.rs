//! The store without threads and without a disk: the same code, driven step by step.
//!
//! An [`Engine`] does what the two threads of a [`Store`] do, one step after another and in the order its owner
//! chooses, so a simulation sees every moment in which a crash can happen. It keeps its log and tables in a
//! [`MemoryHome`], which outlives it as a disk outlives a process. Everything else goes through the engine's
//! [`Store`]: its futures come to an end while the engine is driven.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use timebus_identity::{PublicKey, SecretKey, hash};

use crate::fold::Bodies;
use crate::keyspace::{Layered, MemoryTables, Tables};
use crate::log::{Appender, LogReader, MemoryDisk};
use crate::pipeline::Pipeline;
use crate::store::{Config, OpenError, Opened, Parts, Signers, StorageError, Store, ahead_of_log, found, replay};
use crate::writer::{Decider, Group, Job, Syncer};

/// A home in memory: keys, a disk with the change log, and tables.
#[derive(Debug)]
pub struct MemoryHome {
    root: SecretKey,
    next_hash: [u8; 32],
    device: SecretKey,
    /// Where the change log is.
    pub disk: MemoryDisk,
    /// The tables.
    pub tables: MemoryTables,
    /// Whether a new device key is needed before anything is written.
    needs_device: bool,
}

/// What a crash does to a home.
pub struct Crash<'a> {
    /// Cuts or damages what was written to the log and not synced.
    pub lose: &'a mut dyn FnMut(&mut Vec<u8>),
    /// How many of the last commits the tables lose, see [`COMMITS_LOST_MAX`].
    ///
    /// [`COMMITS_LOST_MAX`]: crate::keyspace::COMMITS_LOST_MAX
    pub commits_lost: u64,
}

impl std::fmt::Debug for Crash<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crash({} commits)", self.commits_lost)
    }
}

impl MemoryHome {
    /// A new home of the space of `root`, which `next` may succeed, and in which `device` writes.
    #[must_use]
    pub fn new(root: SecretKey, next: &SecretKey, device: SecretKey) -> Self {
        let next_hash = hash("next root", &[next.public().as_bytes()]);
        Self { root, next_hash, device, disk: MemoryDisk::default(), tables: MemoryTables::default(), needs_device: false }
    }

    /// The space of this home.
    #[must_use]
    pub fn space(&self) -> PublicKey {
        self.root.public()
    }

    /// The key that this home writes with.
    #[must_use]
    pub fn device(&self) -> &SecretKey {
        &self.device
    }

    /// The home that a crash at this moment would leave. This one goes on as if there had been none.
    #[must_use]
    pub fn after(&self, crash: Crash<'_>) -> Self {
        Self {
            root: copy(&self.root),
            next_hash: self.next_hash,
            device: copy(&self.device),
            disk: self.disk.surviving(crash.lose),
            tables: self.tables.surviving(crash.commits_lost),
            needs_device: self.needs_device,
        }
    }

    /// Loses the tables as a whole. They are made again from the log.
    pub fn lose_tables(&mut self) {
        self.tables = MemoryTables::default();
    }

    fn open_tables(&mut self, log: &LogReader, opened: &mut Opened) -> Result<Tables, StorageError> {
        let tables = Tables::in_memory(self.tables.clone());
        if let Some(table) = tables.straggler()? {
            opened.rebuilt = Some(format!("rows of the table {} are missing", table.name()));
        } else if let Some(reason) = ahead_of_log(&tables, log)? {
            self.needs_device = true;
            opened.rebuilt = Some(reason);
        } else {
            return Ok(tables);
        }
        self.lose_tables();
        Ok(Tables::in_memory(self.tables.clone()))
    }
}

fn copy(key: &SecretKey) -> SecretKey {
    SecretKey::from_seed(*key.seed())
}

/// What a step of an [`Engine`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do.
    Idle,
    /// One request was worked out, or the end of a sync was taken note of.
    Decided,
    /// A group was closed; what is asked from now on becomes durable after it.
    Dispatched,
    /// The records of the group were written to the log, not synced.
    Appended,
    /// The log was synced. The group is durable now.
    Synced,
    /// The rows of the group were committed.
    Committed,
    /// The new state is visible, and those who asked and those who watch were told; or the group failed.
    Told,
}

/// How far the group that is being made durable is.
enum Stage {
    Waiting(Group),
    Appended(Group),
    Synced(Group),
    Done(Group, Result<(), StorageError>),
}

/// A store that does something only while it is told to.
pub struct Engine {
    store: Store,
    decider: Decider,
    syncer: Syncer,
    jobs: mpsc::Receiver<Job>,
    groups: mpsc::Receiver<Group>,
    stage: Option<Stage>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.store.space())
    }
}

impl Engine {
    /// Opens the store in a home, as [`Store::open`] does in a folder: what is in the log and not in the tables is
    /// taken in again, and a new home gets its first statement. `now_ms` is Unix time.
    ///
    /// # Errors
    ///
    /// [`OpenError::Storage`].
    pub fn open(home: &mut MemoryHome, config: &Config, now_ms: u64) -> Result<Self, OpenError> {
        let log = LogReader::in_memory(home.disk.clone());
        let mut opened = Opened::default();
        let tables = home.open_tables(&log, &mut opened)?;
        let mut bodies = Bodies::new(log.clone());
        bodies.texts = crate::objects::Texts::new(config.text_steps_max);
        let mut pipeline = Pipeline::new(Layered::new(tables.snapshot(), None), bodies, home.space())?;
        let end = replay(&mut pipeline, &tables, &log, &mut opened, &mut |_| {})?;
        let mut appender = Appender::in_memory(home.disk.clone(), end).map_err(StorageError::from)?;
        if home.needs_device {
            home.device = SecretKey::from_seed(hash("next device of a simulation", &[home.device.seed()]));
            opened.new_device = true;
        }
        let signers = Signers { root: Some(&home.root), next_hash: home.next_hash, device: &home.device };
        found(&signers, &mut pipeline, &tables, &mut appender, now_ms)?;
        home.needs_device = false;
        let device = copy(&home.device);
        let Parts { inner, decider, syncer, jobs, job_queue, groups } = Parts::new(tables, pipeline, log, appender, device, false);
        let store = Store::handle(inner, jobs, opened, config.requests_max);
        Ok(Self { store, decider, syncer, jobs: job_queue, groups, stage: None })
    }

    /// The store, for reading and asking. What is asked of it is done when the engine is driven.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Does what the deciding thread does next: one job, if there is one and the group at hand is not full.
    pub fn decide(&mut self) -> Step {
        if self.decider.may_dispatch() && self.decider.is_full() {
            return self.dispatch();
        }
        match self.decider.next_aside().map_or_else(|| self.jobs.try_recv(), Ok) {
            Ok(job) => {
                self.decider.take_job(job);
                Step::Decided
            }
            Err(_) => Step::Idle,
        }
    }

    /// Does what the syncing thread does next. Closes the group at hand, if there is one and none is under way.
    pub fn sync(&mut self) -> Step {
        let Some(stage) = self.stage.take().or_else(|| self.groups.try_recv().ok().map(Stage::Waiting)) else {
            return if self.decider.may_dispatch() { self.dispatch() } else { Step::Idle };
        };
        let (stage, step) = match stage {
            Stage::Waiting(group) => match self.syncer.append(&group) {
                Ok(()) => (Stage::Appended(group), Step::Appended),
                Err(error) => (Stage::Done(group, Err(error)), Step::Appended),
            },
            Stage::Appended(group) => match self.syncer.sync(&group) {
                Ok(()) => (Stage::Synced(group), Step::Synced),
                Err(error) => (Stage::Done(group, Err(error)), Step::Synced),
            },
            Stage::Synced(group) => {
                let result = self.syncer.commit(&group);
                (Stage::Done(group, result), Step::Committed)
            }
            Stage::Done(group, result) => {
                self.syncer.finish(group, result);
                return Step::Told;
            }
        };
        self.stage = Some(stage);
        step
    }

    fn dispatch(&mut self) -> Step {
        self.decider.dispatch();
        Step::Dispatched
    }

    /// Does what the thread does that merges texts which have too much to merge: one of them, if there is one.
    pub fn merge(&mut self) -> Step {
        match self.decider.lend() {
            Some(lent) => {
                self.decider.take_job(Job::Resumed(Box::new(lent.resume())));
                Step::Decided
            }
            None => Step::Idle,
        }
    }

    /// Does the next thing: decides while there is something to decide, else makes durable, else merges.
    pub fn step(&mut self) -> Step {
        match self.decide() {
            Step::Idle => match self.sync() {
                Step::Idle => self.merge(),
                step => step,
            },
            step => step,
        }
    }

    /// Goes on until nothing is left to do.
    pub fn settle(&mut self) {
        while self.step() != Step::Idle {}
    }

    /// Drives the engine until a future of its store comes to an end; `None` if that does not happen.
    pub fn finish<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        // Inside a runtime it would else be asked to yield to others, for whom nobody waits here.
        let mut future = pin!(tokio::task::unconstrained(future));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return Some(done);
            }
            if self.step() == Step::Idle {
                return None;
            }
        }
    }
}
