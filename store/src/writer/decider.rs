//! The deciding thread: what it takes in, in which order, and when a group goes to the syncer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use timebus_identity::Verified;
use tokio::sync::oneshot;

use super::syncer::{Entry, Failure, Reply, fail};
use super::{Group, Job, Offered, Parked, WriteError, names, names_at};
use crate::change::Change;
use crate::fold::Effect;
use crate::ids::GrantId;
use crate::log::{Form, Place};
use crate::node::{Node, node_key};
use crate::objects::{Lent, TextName};
use crate::pipeline::{Pipeline, Refusal, is_auth};
use crate::store::{Inner, Stated, StorageError};
use crate::summary::summary;
use crate::update::{Update, patches};

/// Most changes that become durable at once; bounds how long a sync takes.
const GROUP_CHANGES_MAX: usize = 4096;

/// How long changes of others are taken in before it is the turn of what this home writes; longer where it takes longer to settle
/// what came, or that would be most of the work.
const TURN: Duration = Duration::from_millis(10);

/// Most staged rows, in bytes, before the decider waits for the syncer.
const GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Changes of others that are being taken in.
pub(crate) struct Offer {
    changes: std::vec::IntoIter<Verified<Change>>,
    offered: Offered,
    reply: oneshot::Sender<Result<Offered, WriteError>>,
}

/// The deciding thread.
pub(crate) struct Decider {
    pub(crate) inner: Arc<Inner>,
    pub(crate) pipeline: Pipeline,
    /// Whether this home may not write, because it is a copy of another and its root key is not here.
    pub(crate) is_barred: bool,
    /// The grants in whose name this device writes to the own space, the best first, once they were looked for.
    pub(crate) own_caps: Vec<GrantId>,
    pub(crate) to_syncer: SyncSender<Group>,
    pub(crate) group: Group,
    /// Of the request at hand: the bytes that it may write, and that it does.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) syncing: bool,
    pub(crate) read_only: Option<Arc<str>>,
    /// Jobs that wait for the syncer because the group at hand is full. As few as there are requests that wait.
    pub(crate) aside: VecDeque<Job>,
    /// What others wrote and this thread has yet to take in, in turns with all else. As few as there are requests that wait.
    pub(crate) offers: VecDeque<Offer>,
    /// How long it took to settle the latest of it.
    settling: Duration,
    pub(crate) fences: Vec<oneshot::Sender<Place>>,
    pub(crate) stopping: bool,
    /// Who merges texts that have too much to merge; without anybody, whoever drives this does.
    pub(crate) resumer: Option<Sender<Parked>>,
}

impl Decider {
    /// Goes on from what is in the tables.
    pub(crate) fn new(inner: Arc<Inner>, mut pipeline: Pipeline, is_barred: bool, to_syncer: SyncSender<Group>) -> Self {
        let group = Group { start: pipeline.next_place(), ..Group::default() };
        for t in crate::pipeline::timelines(&pipeline.rows) {
            if let Err(error) = pipeline.bodies.texts.find_parked(&pipeline.rows, t) {
                tracing::warn!(%error, "parked texts stay so until somebody edits them");
            }
        }
        Self {
            inner,
            pipeline,
            is_barred,
            own_caps: Vec::new(),
            to_syncer,
            group,
            bytes_max: None,
            bytes: 0,
            syncing: false,
            read_only: None,
            aside: VecDeque::new(),
            offers: VecDeque::new(),
            settling: Duration::ZERO,
            fences: Vec::new(),
            stopping: false,
            resumer: None,
        }
    }

    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        // Since when it has been the turn of this home.
        let mut own_turn = Instant::now();
        while !self.is_stopped() {
            let next = match self.next_aside() {
                Some(job) => Ok(job),
                None if self.may_dispatch() || self.may_offer() => jobs.try_recv(),
                None => jobs.recv().map_err(|_| TryRecvError::Disconnected),
            };
            if next.is_ok() && self.may_dispatch() && self.is_full() {
                self.dispatch();
            }
            let is_more = next.is_ok();
            match next {
                Ok(Job::Offer(changes, reply)) => {
                    self.offers.push_back(Offer { changes: changes.into_iter(), offered: Offered::default(), reply });
                }
                Ok(job) => self.take_job(job),
                // The syncer is free: send what is here as soon as nobody else is waiting to join.
                Err(TryRecvError::Empty) if self.may_dispatch() => self.dispatch(),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.take_job(Job::Stop),
            }
            // Whoever waits for this home to stop waits for no more than what is decided; the rest is asked for again.
            if self.stopping {
                self.offers.clear();
            }
            let turn = self.settling.max(TURN);
            if self.may_offer()
                && (!is_more || own_turn.elapsed() >= turn)
                && let Some(offer) = self.offers.pop_front()
            {
                if let Some(rest) = self.go_on(offer, Some(turn)) {
                    self.offers.push_front(rest);
                }
                own_turn = Instant::now();
            }
        }
        // The next start has then no texts to put together.
        if self.read_only.is_none() {
            self.pipeline.bodies.texts.save(&mut self.pipeline.rows);
            let rest = self.pipeline.rows.seal();
            if let Err(error) = self.inner.tables.commit(&rest) {
                tracing::warn!(%error, "texts were not saved; the next reader puts them together");
            }
        }
    }

    /// Whether there is something of others to take in, and room for it.
    fn may_offer(&self) -> bool {
        !(self.offers.is_empty() || self.syncing && self.is_full())
    }

    /// A job that was put aside and can be done now.
    pub(crate) fn next_aside(&mut self) -> Option<Job> {
        if self.syncing && self.is_full() { None } else { self.aside.pop_front() }
    }

    /// Does one job, as far as it can be done before it is durable.
    pub(crate) fn take_job(&mut self, job: Job) {
        match job {
            job @ (Job::Write(..) | Job::Offer(..) | Job::State(..) | Job::Root(..)) if self.syncing && self.is_full() => self.aside.push_back(job),
            Job::Write(request, reply, decided) => self.write(*request, reply, decided),
            Job::Offer(changes, reply) => {
                let offer = Offer { changes: changes.into_iter(), offered: Offered::default(), reply };
                let rest = self.go_on(offer, None);
                debug_assert!(rest.is_none(), "nothing ends it before");
            }
            Job::State(stated, time_ms, reply) => self.state(*stated, time_ms, reply),
            Job::Root(said, time_ms, reply) => {
                let (root, ops, revoked) = *said;
                match self.say_as_root(&root, ops, revoked, time_ms) {
                    Ok(()) => self.group.replies.push(Reply::Stated(reply, Vec::new())),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Job::Fence(reply) => self.fences.push(reply),
            Job::Synced(result) => self.synced(result),
            Job::Lend(name) => {
                let lent = self.lend_named(name);
                if let Some(resumer) = &self.resumer {
                    let _ = resumer.send(Parked::Lent(lent));
                }
            }
            Job::Resumed(lent) => self.resumed(*lent),
            Job::Stop => self.stopping = true,
        }
        if let Some(resumer) = &self.resumer {
            let names = std::iter::from_fn(|| self.pipeline.bodies.texts.next_parked());
            names.for_each(|name| drop(resumer.send(Parked::Waits(name))));
        }
        if self.is_settled() {
            let place = self.pipeline.next_place();
            self.fences.drain(..).for_each(|fence| {
                let _ = fence.send(place);
            });
        }
    }

    /// A text that has too much to merge, for whoever has time.
    pub(crate) fn lend(&mut self) -> Option<Box<Lent>> {
        while let Some(name) = self.pipeline.bodies.texts.next_parked() {
            if let Some(lent) = self.lend_named(name) {
                return Some(lent);
            }
        }
        None
    }

    fn lend_named(&mut self, name: TextName) -> Option<Box<Lent>> {
        if self.stopping {
            return None;
        }
        let Pipeline { rows, bodies, .. } = &mut self.pipeline;
        let lent = bodies.texts.lend(rows, name).inspect_err(|error| tracing::error!(%error, "a text cannot be merged"));
        lent.ok().flatten().map(Box::new)
    }

    /// Takes a text back that was merged beside.
    fn resumed(&mut self, lent: Lent) {
        if self.read_only.is_some() || self.stopping {
            return;
        }
        if let Err(error) = self.take_back(lent) {
            tracing::error!(%error, "a merged text cannot be taken over");
        }
    }

    fn take_back(&mut self, lent: Lent) -> Result<(), StorageError> {
        let Pipeline { rows, bodies, .. } = &mut self.pipeline;
        let Some((t, path)) = bodies.texts.give_back(rows, lent)? else { return Ok(()) };
        let rows = &self.pipeline.rows;
        let t_key = node_key(t, &path.key());
        let node = Node::load(rows, &t_key)?;
        let Some(a) = node.version(rows, &t_key)?.pop() else { return Ok(()) };
        let own = summary(rows, t, a)?;
        let version = names_at(rows, t, &t_key, &node)?.into_iter().map(Into::into).collect();
        self.group.updates.push(Arc::new(Update {
            space: self.pipeline.space_of(t).with(t),
            // Later than all that anybody has read: it has to be read again.
            a: u64::MAX,
            id: own.id,
            name: own.name().into(),
            author: own.author,
            behalf: own.behalf,
            time_ms: own.time_ms,
            patches: None,
            texts: Vec::new(),
            versions: BTreeMap::from([(path.key(), version)]),
            unnamed: BTreeSet::new(),
            asked: None,
            touched: vec![path],
            moved: Vec::new(),
        }));
        Ok(())
    }

    /// Whether nothing waits to become durable.
    fn is_settled(&self) -> bool {
        self.may_rest() && self.aside.is_empty()
    }

    fn may_rest(&self) -> bool {
        self.idle() && self.group.entries.is_empty() && self.group.replies.is_empty() && self.group.updates.is_empty()
    }

    /// Whether there is something to make durable, and the syncer is free.
    pub(crate) fn may_dispatch(&self) -> bool {
        self.idle() && !self.may_rest()
    }

    /// Whether the group at hand takes no more before it is dispatched.
    pub(crate) fn is_full(&self) -> bool {
        self.group.entries.len() >= GROUP_CHANGES_MAX || self.pipeline.rows.staged.bytes() >= GROUP_BYTES_MAX
    }

    fn is_stopped(&self) -> bool {
        self.stopping && self.is_settled()
    }

    fn idle(&self) -> bool {
        !self.syncing
    }

    /// Hands the group at hand to the syncer, which has to be free.
    pub(crate) fn dispatch(&mut self) {
        let mut group = std::mem::take(&mut self.group);
        group.staged = self.pipeline.rows.seal();
        for (space, rights) in &mut group.stated {
            *rights = Some(Stated::of(&self.pipeline, *space));
        }
        self.pipeline.bodies.seal();
        self.group.start = self.pipeline.next_place();
        self.syncing = true;
        // The syncer lives as long as this thread: it ends when `to_syncer` is dropped.
        let _ = self.to_syncer.send(group);
    }

    pub(super) fn synced(&mut self, result: Result<(), Failure>) {
        self.syncing = false;
        let committed = self.inner.tables.snapshot();
        self.pipeline.bodies.synced();
        if result.is_ok() {
            self.pipeline.rows.rebase(committed);
            return;
        }
        self.pipeline.rows.abandon(committed);
        if let Err(failure) = result {
            // What was decided on top of the lost group is lost with it.
            for reply in std::mem::take(&mut self.group).replies {
                fail(reply, &failure.message);
            }
            let is_begun = |offer: &Offer| !offer.offered.admitted.is_empty() || !offer.offered.known.is_empty();
            let (begun, rest): (VecDeque<Offer>, _) = std::mem::take(&mut self.offers).into_iter().partition(is_begun);
            self.offers = rest;
            for offer in begun {
                fail(Reply::Offered(offer.reply, offer.offered), &failure.message);
            }
            self.read_only = (!failure.recovered).then(|| Arc::clone(&failure.message));
            self.own_caps.clear();
            if let Err(error) = self.pipeline.reset() {
                self.read_only = Some(error.to_string().into());
            }
            self.group.start = self.pipeline.next_place();
        }
    }

    pub(super) fn take(&mut self, entry: Entry, body: Option<crate::change::Body>) -> Result<(), StorageError> {
        let change = match &entry {
            Entry::Own(change) => change,
            Entry::Other(change) => change,
        };
        let form = Form::of(change);
        let author = change.header().author;
        let taken = self.pipeline.take(change, body, form.payload_len())?;
        self.group.wrote.insert((author, self.pipeline.space_of(taken.t).key));
        if is_auth(taken.t) {
            self.group.stated.insert(self.pipeline.space_of(taken.t), None);
            self.own_caps.clear();
        }
        self.tell((taken.t, taken.a), taken.effects, true)?;
        self.group.entries.push((taken.place, taken.a, entry, form));
        Ok(())
    }

    /// Has what came together take effect where that waits for all of it.
    pub(super) fn settle(&mut self) -> Result<(), StorageError> {
        if self.pipeline.is_settled() {
            return Ok(());
        }
        let began = Instant::now();
        for (t, a, effect) in self.pipeline.settle()? {
            self.tell((t, a), vec![(t, effect)], false)?;
        }
        self.settling = began.elapsed();
        Ok(())
    }

    /// Tells whoever watches what a change did in some timelines; also later than what came after it, when it has to be read again.
    fn tell(&mut self, (of, a): (u32, u64), effects: Vec<(u32, Effect)>, is_latest: bool) -> Result<(), StorageError> {
        for (t, effect) in effects {
            // A change is told whatever it did; a statement only if it hid something, or showed it again.
            if is_auth(of) && effect.touched.is_empty() {
                continue;
            }
            let space = self.pipeline.space_of(t).with(t);
            let rows = &self.pipeline.rows;
            let own = summary(rows, of, a)?;
            let lists = &mut self.pipeline.bodies.lists;
            lists.touched(t, &effect);
            let patches = if is_latest && self.inner.feeds.is_watched() { patches(rows, t, &space.key, &effect, lists)? } else { None };
            lists.settle(t);
            let mut versions = BTreeMap::new();
            for (key, touch) in &effect.versions {
                versions.insert(key.clone(), names(rows, t, touch)?.into_iter().map(Into::into).collect());
            }
            // At a text's path its readers' names are used.
            for path in effect.touched.iter().filter(|(_, touched)| touched.text.is_some()).map(|(path, _)| path) {
                if effect.many.contains(&path.key()) {
                    continue;
                }
                let t_key = node_key(t, &path.key());
                let node = Node::load(rows, &t_key)?;
                versions.insert(path.key(), names_at(rows, t, &t_key, &node)?.into_iter().map(Into::into).collect());
            }
            let mut texts = Vec::new();
            for (path, touched) in effect.touched.iter().filter(|_| patches.is_some()) {
                if let Some((object, _)) = &touched.text {
                    let text = self.pipeline.bodies.texts.text(rows, t, object)?;
                    texts.extend(text.update_of(&own.id).map(|update| (path.clone(), update)));
                }
            }
            self.group.updates.push(Arc::new(Update {
                space,
                texts,
                a: if is_latest { a } else { u64::MAX },
                id: own.id,
                name: own.name().into(),
                author: own.author,
                behalf: own.behalf,
                time_ms: own.time_ms,
                patches,
                moved: effect.touched.iter().filter(|(_, touched)| touched.moved).map(|(path, _)| path.clone()).collect(),
                touched: effect.touched.into_keys().collect(),
                versions,
                unnamed: effect.many,
                asked: None,
            }));
        }
        Ok(())
    }

    /// Takes changes of others in, for so long at most. Answers what is left of them.
    fn go_on(&mut self, mut offer: Offer, turn: Option<Duration>) -> Option<Offer> {
        if let Some(reason) = &self.read_only {
            let _ = offer.reply.send(Err(WriteError::ReadOnly(Arc::clone(reason))));
            return None;
        }
        let admitted = self.admit_all(&mut offer, turn);
        if self.pipeline.is_settled() {
            self.settling = Duration::ZERO;
        }
        // Also what came before something failed.
        if let Err(error) = self.settle().and(admitted) {
            let _ = offer.reply.send(Err(error.into()));
            return None;
        }
        if offer.changes.len() > 0 {
            return Some(offer);
        }
        let Offer { offered, reply, .. } = offer;
        if !offered.admitted.is_empty() || self.syncing || !self.group.entries.is_empty() {
            self.group.replies.push(Reply::Offered(reply, offered));
        } else {
            let _ = reply.send(Ok(offered));
        }
        None
    }

    fn admit_all(&mut self, Offer { changes, offered, .. }: &mut Offer, turn: Option<Duration>) -> Result<(), StorageError> {
        let began = Instant::now();
        while turn.is_none_or(|turn| began.elapsed() < turn)
            && let Some(change) = changes.next()
        {
            let id = change.id();
            match self.admit(change)? {
                Ok(true) => offered.admitted.push(id),
                Ok(false) => offered.known.push(id),
                Err(refusal) => offered.refused.push(refusal),
            }
        }
        Ok(())
    }

    fn admit(&mut self, change: Verified<Change>) -> Result<Result<bool, Refusal>, StorageError> {
        if self.pipeline.knows(&change.id())? {
            return Ok(Ok(false));
        }
        if let Err(refusal) = self.pipeline.check(&change)? {
            return Ok(Err(refusal));
        }
        self.take(Entry::Other(change), None)?;
        Ok(Ok(true))
    }
}
