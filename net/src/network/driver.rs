//! The task that owns the node: hands it what happens, and does what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey, Signed, Verified, random_bytes};
use timebus_store::change::Change;
use timebus_store::ids::ChangeId;
use timebus_store::inbox::{Inbox, LeaveError};
use timebus_store::store::Store;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::authors::{counted_as, guest_of};
use super::storing::{Strangers, ToStore, keep};
use super::{Command, Holding};
use crate::blobs::fetch::{Fetcher, is_frame};
use crate::community::holding::{given_of, held_of};
use crate::held::Held;
use crate::invites::{Invites, RedeemError};
use crate::ledger::{Author, Ledger, Relation};
use crate::link::address::Address;
use crate::link::endpoint::Endpoint;
use crate::link::{Arrivals, Link, LinkReceiver, LinkSender, SEND_BYTES_MAX};
use crate::node::{Act, Event, Heard, LinkId, Node};
use crate::people::profile_name;
use crate::sync::frame::{Redemption, Taking};
use crate::sync::{Binding, RedeemAnswer, Role};
use crate::who::now_ms;

/// How long changes of the book wait to be written together.
const SAVE_DELAY: Duration = Duration::from_millis(500);

pub(super) struct Driver {
    pub(super) node: Node,
    pub(super) store: Store,
    pub(super) device: Arc<SecretKey>,
    /// The root key of the own space, if it is on this disk.
    pub(super) root: Option<Arc<SecretKey>>,
    pub(super) incarnation: [u8; 16],
    pub(super) endpoint: Endpoint,
    pub(super) invites: Arc<Invites>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) file: PathBuf,
    pub(super) outbox_file: PathBuf,
    pub(super) is_outbox_new: bool,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) links: BTreeMap<LinkId, Running>,
    pub(super) next_link: LinkId,
    pub(super) calls: JoinSet<(PublicKey, Result<Link, String>)>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) fetched: broadcast::Sender<Signed<Change>>,
    pub(super) heard: broadcast::Sender<Heard>,
    pub(super) holdings: broadcast::Sender<Holding>,
    pub(super) timer: Option<Instant>,
    pub(super) save: Option<Instant>,
    pub(super) clock: Clock,
    pub(super) blobs: Fetcher,
    pub(super) strangers: Arc<Strangers>,
}

impl Driver {
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>, mut arrivals: Arrivals) {
        let mut arrived = self.store.arrivals();
        let mut addresses = self.endpoint.watch_addresses();
        self.handle(Event::Addresses(texts(&self.endpoint.addresses())));
        let far = Duration::from_secs(24 * 3600);
        loop {
            let timer = self.timer.unwrap_or_else(|| Instant::now() + far);
            let save = self.save.unwrap_or_else(|| Instant::now() + far);
            tokio::select! {
                command = queue.recv() => match command {
                    Some(Command::Event(event)) => self.handle(event),
                    Some(Command::Ask(question)) => {
                        // Files go past the node.
                        self.links.iter().for_each(|(name, running)| self.node.carried(*name, running.sender.carried()));
                        question(&self.node);
                    }
                    Some(Command::Save(reply)) => {
                        self.write_book();
                        let _ = reply.send(());
                    }
                    Some(Command::Again) => {
                        // The next link begins without what this one has refused.
                        let links: Vec<LinkId> = self.links.keys().copied().collect();
                        links.into_iter().for_each(|link| self.handle(Event::StoreFailed { link }));
                    }
                    Some(Command::Leave(reply)) => {
                        self.handle(Event::Stop);
                        self.write_book();
                        let _ = reply.send(());
                        return;
                    }
                    None => return,
                },
                Some(link) = arrivals.accept() => self.up(link, None),
                Some(called) = self.calls.join_next() => match called {
                    Ok((node, Ok(link))) => self.up(link, Some(node)),
                    Ok((node, Err(why))) => self.handle(Event::NotReached { node, why }),
                    Err(_) => {}
                },
                Ok(()) = arrived.changed() => {
                    arrived.borrow_and_update();
                    self.handle(Event::Arrived);
                    if self.node.know_profile(profile_name(&self.store, &self.store.space())) {
                        self.handle(Event::Renamed);
                    }
                }
                Ok(()) = addresses.changed() => {
                    let now = texts(&addresses.borrow_and_update());
                    self.handle(Event::Addresses(now));
                }
                () = tokio::time::sleep_until(timer) => {
                    self.timer = None;
                    self.handle(Event::Timer);
                }
                () = tokio::time::sleep_until(save) => self.write_book(),
            }
        }
    }

    /// What is known of whoever signs with a key.
    fn author(&self, key: &PublicKey) -> Author {
        counted_as(&self.store, self.node.book(), |key| self.invites.guest(key), key)
    }

    fn write_book(&mut self) {
        self.save = None;
        if let Err(error) = self.node.book().save(&self.file) {
            tracing::error!(%error, "what is known of other peers was not written");
        }
        if std::mem::take(&mut self.is_outbox_new)
            && let Err(error) = self.node.outbox().save(&self.outbox_file)
        {
            tracing::error!(%error, "what waits to be delivered was not written");
        }
    }

    fn up(&mut self, link: Link, called: Option<PublicKey>) {
        let name = self.next_link;
        self.next_link += 1;
        let (sender, receiver) = link.split();
        self.blobs.up(name, sender.clone());
        let (frames, frame_queue) = mpsc::unbounded_channel();
        let (to_store, store_queue) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(read(name, receiver, self.commands.clone(), self.blobs.clone()));
        tasks.spawn(write(name, sender.clone(), frame_queue, self.commands.clone()));
        tasks.spawn(keep(name, self.store.clone(), Arc::clone(&self.ledger), Arc::clone(&self.strangers), store_queue, self.commands.clone()));
        let device = Arc::clone(&self.device);
        // Who gets a space back by its root key has no other right in it yet. On websockets peers are told apart by their
        // keys, and devices of one owner must not look like one.
        let root = self.root.clone().filter(|_| sender.remote().is_some());
        let prove = move |message: &[u8]| {
            let keys = std::iter::once(&device).chain(&root);
            keys.map(|key| (key.public(), key.sign(message))).collect()
        };
        let event = Event::LinkUp {
            link: name,
            // A websocket that we called is the peer that we called, or it cannot prove it below.
            node: sender.remote(),
            called,
            role: if sender.is_initiator() { Role::Initiator } else { Role::Responder },
            binding: Binding(*sender.binding()),
            nonce: random_bytes(),
            prove: Box::new(prove),
            way: sender.way().to_string(),
        };
        if let Some(node) = called.filter(|_| sender.remote().is_none()) {
            tracing::debug!(?node, "reached by websocket");
        }
        self.links.insert(name, Running { frames, to_store, sender, tasks });
        self.node.know_profile(profile_name(&self.store, &self.store.space()));
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        let now_ms = self.clock.now_ms();
        if matches!(event, Event::Join { .. }) {
            self.node.know_profile(profile_name(&self.store, &self.store.space()));
        }
        if let Event::LinkDown { link, .. } = &event {
            self.blobs.down(*link);
            if let Some(Running { mut tasks, .. }) = self.links.remove(link) {
                // What came before it broke is still stored.
                tokio::spawn(async move { while tasks.join_next().await.is_some() {} });
            }
        }
        let held = Held::now(&self.store, self.incarnation, now_ms).letting_in(&self.node.book().agreed);
        let acts = self.node.handle(now_ms, event, &held);
        for act in acts {
            self.act(act);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send { link, bytes } => {
                if let Some(running) = self.links.get(&link) {
                    let _ = running.frames.send(bytes);
                }
            }
            Act::Store { link, ticket, space, timeline, changes } => {
                let authors: BTreeSet<PublicKey> = changes.iter().map(|change| change.content().header().author).chain([space]).collect();
                let authors = self.ledger.authors(&self.store, &space, authors, |author| self.author(author));
                // Who was let in here, or was said to have it, brings it as fast as he can.
                let is_let_in = |key: &PublicKey| self.store.rights(&space).is_some_and(|rights| rights.is_member(key));
                let is_stranger = |key: &PublicKey| self.author(key).relation == Relation::Stranger && !is_let_in(key);
                let is_by_stranger = !self.node.is_via(link, &space) && self.node.keys_on(link).iter().all(is_stranger);
                if let Some(running) = self.links.get(&link) {
                    let _ = running.to_store.send(ToStore { ticket, space, timeline, changes, is_by_stranger, authors, weights: Vec::new() });
                }
            }
            Act::Weigh { link, space, timeline, heads } => {
                let authors: BTreeSet<PublicKey> =
                    heads.iter().flat_map(|(head, by)| by.iter().copied().chain([head.content().header().author])).collect();
                let authors = self.ledger.authors(&self.store, &space, authors, |author| self.author(author));
                if let Some(running) = self.links.get(&link) {
                    let _ = running.to_store.send(ToStore {
                        ticket: 0,
                        space,
                        timeline,
                        changes: Vec::new(),
                        is_by_stranger: false,
                        authors,
                        weights: heads,
                    });
                }
            }
            Act::Fetched { changes } => {
                for change in changes {
                    // Nobody may be waiting for it any more.
                    let _ = self.fetched.send(change);
                }
            }
            Act::AskFiles { link, space, files } => {
                let (store, commands, wishes) = (self.store.clone(), self.commands.clone(), self.blobs.wishes().clone());
                tokio::task::spawn_blocking(move || {
                    let files = if space == store.space() { held_of(&store, &space, files) } else { given_of(&store, &wishes, &space, files) };
                    let files = files.unwrap_or_default();
                    let _ = commands.blocking_send(Command::Event(Event::Files { link, space, files }));
                });
            }
            Act::Files { node, space, files } => {
                // Nobody may be asking any more.
                let _ = self.holdings.send((node, space, files));
            }
            Act::Presence(heard) => {
                // Nobody may be looking here.
                let _ = self.heard.send(heard);
            }
            Act::Call { node, addresses } => {
                let endpoint = self.endpoint.clone();
                let addresses: Vec<Address> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
                self.calls.spawn(async move { (node, endpoint.dial(Some(&node), &addresses).await.map_err(|error| error.to_string())) });
            }
            Act::Stand { link, standing } => {
                if self.links.get(&link).is_some_and(|running| !running.sender.stand(standing)) {
                    let commands = self.commands.clone();
                    tokio::spawn(async move { drop(commands.send(Command::Event(Event::NoRoom { link })).await) });
                }
            }
            Act::Close { link, code, text } => {
                if let Some(running) = self.links.remove(&link) {
                    self.blobs.down(link);
                    tokio::spawn(close(running, code, text));
                }
            }
            Act::Redeem { link, token, device, mut remote } => {
                remote.space = guest_of(&self.store, self.node.book(), &device, remote.space);
                let (invites, commands, now) = (Arc::clone(&self.invites), self.commands.clone(), self.clock.now_ms());
                let space = self.store.space();
                tokio::spawn(async move {
                    let answer = match invites.redeem(token, device, &remote, now).await {
                        Ok(space) => RedeemAnswer { result: Redemption::Granted, space, text: String::new() },
                        Err(RedeemError::Invalid) => {
                            RedeemAnswer { result: Redemption::Invalid, space: PublicKey::from_bytes([0; 32]), text: String::new() }
                        }
                        Err(error) => RedeemAnswer { result: Redemption::Busy, space, text: error.to_string() },
                    };
                    let is_new = answer.result == Redemption::Granted;
                    let _ = commands.send(Command::Event(Event::RedeemAnswer { link, answer })).await;
                    if is_new && let Err(error) = invites.tell_devices().await {
                        tracing::warn!(%error, "other devices of the owner were not told who took an invite");
                    }
                });
            }
            Act::Notices { link, notices, .. } => {
                let (inbox, commands, now_ms) = (Arc::clone(&self.inbox), self.commands.clone(), self.clock.now_ms());
                let store = self.store.clone();
                tokio::task::spawn_blocking(move || {
                    let space = inbox.space();
                    let results = take_notices(&store, &inbox, notices, now_ms);
                    let _ = commands.blocking_send(Command::Event(Event::Took { link, space, results }));
                });
            }
            Act::SaveOutbox => {
                self.is_outbox_new = true;
                self.save.get_or_insert_with(|| Instant::now() + SAVE_DELAY);
            }
            Act::Sign(record) => {
                let (key, commands) = (timebus_identity::node_key(&self.device), self.commands.clone());
                let Ok(record) = Verified::sign(*record, &key) else { return };
                tokio::spawn(async move { drop(commands.send(Command::Event(Event::Signed(Box::new(record)))).await) });
            }
            Act::Save => {
                self.save.get_or_insert_with(|| Instant::now() + SAVE_DELAY);
            }
            Act::Timer { at_ms } => self.timer = Some(self.clock.at(at_ms)),
            Act::Changed => self.changes.send_modify(|count| *count += 1),
        }
    }
}

/// What is kept of a link; its tasks are stopped when they are dropped, and end by themselves when the rest is.
pub(super) struct Running {
    frames: mpsc::UnboundedSender<Bytes>,
    to_store: mpsc::UnboundedSender<ToStore>,
    sender: LinkSender,
    tasks: JoinSet<()>,
}

/// How far the clock of the machine may be ahead at once; of more it has to have been so for a while.
const JUMP_MS: u64 = 60_000;
const SURE_AFTER: Duration = Duration::from_secs(60);

/// Unix time that does not go back while the peer runs, whatever is done to the clock. It goes forward with the clock of the machine:
/// what is counted in between stands while the machine sleeps, and some machines are set right only after they began.
pub(super) struct Clock {
    known_ms: u64,
    known: Instant,
    /// Since when the clock of the machine is far ahead.
    ahead: Option<Instant>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { known_ms: now_ms(), known: Instant::now(), ahead: None }
    }

    fn now_ms(&mut self) -> u64 {
        self.after(now_ms())
    }

    /// What time it is where the clock of the machine says so.
    fn after(&mut self, wall_ms: u64) -> u64 {
        let reckoned_ms = self.known_ms + self.known.elapsed().as_millis() as u64;
        if wall_ms <= reckoned_ms + JUMP_MS {
            self.ahead = None;
        } else if self.ahead.get_or_insert_with(Instant::now).elapsed() < SURE_AFTER {
            return reckoned_ms;
        }
        if wall_ms > reckoned_ms {
            *self = Self { known_ms: wall_ms, known: Instant::now(), ahead: None };
        }
        wall_ms.max(reckoned_ms)
    }

    fn at(&self, at_ms: u64) -> Instant {
        self.known + Duration::from_millis(at_ms.saturating_sub(self.known_ms))
    }
}

/// Checks and keeps notices.
fn take_notices(store: &Store, inbox: &Inbox, notices: Vec<Signed<Change>>, now_ms: u64) -> Vec<(ChangeId, Taking)> {
    let mut results = Vec::with_capacity(notices.len());
    let mut good = Vec::with_capacity(notices.len());
    for notice in notices {
        let id = notice.content().id();
        match notice.verify() {
            Ok(notice) => good.push(notice),
            Err(_) => results.push((id, Taking::Refused)),
        }
    }
    let left = inbox.leave(&good, now_ms);
    // Of many those go first that nobody could confirm: so that is found out now, and not when somebody reads them.
    crate::refs::judge_new(store, inbox, left.iter().filter_map(|left| left.as_ref().ok()), now_ms);
    results.extend(good.iter().map(|notice| notice.id()).zip(left.into_iter().map(|left| match left {
        Ok(_) => Taking::Kept,
        Err(LeaveError::Closed) => Taking::NotHere,
        Err(LeaveError::Full { .. }) => Taking::Full,
        Err(LeaveError::Io(error)) => {
            tracing::error!(%error, "a notice was not kept");
            Taking::Busy
        }
        Err(error) => {
            tracing::debug!(%error, "a notice was refused");
            Taking::Refused
        }
    })));
    results
}

fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// Lets what was sent go out, then closes.
async fn close(running: Running, code: u8, text: String) {
    let Running { frames, sender, to_store, mut tasks } = running;
    drop((frames, to_store));
    // The writer ends when everything is handed over, the others with it.
    let flushed = async { while tasks.len() > 1 && tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(crate::link::CLOSE_TIMEOUT, flushed).await;
    sender.close(code, &text);
    sender.until_ended().await;
}

/// Hands on what comes in.
async fn read(link: LinkId, mut receiver: LinkReceiver, commands: mpsc::Sender<Command>, blobs: Fetcher) {
    while let Some(frame) = receiver.recv().await {
        if is_frame(&frame) {
            blobs.frame(link, frame.into()).await;
            continue;
        }
        if commands.send(Command::Event(Event::Frame { link, bytes: frame.into() })).await.is_err() {
            return;
        }
    }
    let why = receiver.sender().until_ended().await.to_string();
    let _ = commands.send(Command::Event(Event::LinkDown { link, why })).await;
}

/// Sends what is to go out, and says when more may come. The queue holds no more than the node was told is taken.
async fn write(link: LinkId, sender: LinkSender, mut frames: mpsc::UnboundedReceiver<Bytes>, commands: mpsc::Sender<Command>) {
    while let Some(frame) = frames.recv().await {
        if sender.send(frame.into()).await.is_err() {
            return;
        }
        if !frames.is_empty() {
            continue;
        }
        if !sender.has_room(SEND_BYTES_MAX / 2).await {
            return;
        }
        let bytes = sender.room() as u64;
        if commands.send(Command::Event(Event::Writable { link, bytes })).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_time_it_is_is_known_after_sleep_and_never_goes_back() {
        let mut clock = Clock::new();
        let begun_ms = clock.known_ms;
        assert_eq!(clock.after(begun_ms + 1000), begun_ms + 1000);
        // What is wrong for a moment is not believed.
        assert_eq!(clock.after(begun_ms + 400 * 24 * 3_600_000), begun_ms + 1000);
        assert_eq!(clock.after(begun_ms), begun_ms + 1000);
        // The machine slept, and nothing that is counted went on meanwhile.
        let woken_ms = begun_ms + 16 * 3_600_000;
        assert_eq!(clock.after(woken_ms), begun_ms + 1000);
        tokio::time::advance(SURE_AFTER).await;
        let woken_ms = woken_ms + 60_000;
        assert_eq!(clock.after(woken_ms), woken_ms);
        assert!(clock.at(woken_ms) <= Instant::now(), "what was to be done meanwhile is done now");
        assert_eq!(clock.at(woken_ms + 3_600_000) - Instant::now(), Duration::from_secs(3600));
        // Somebody sets it back.
        assert!(clock.after(begun_ms) >= woken_ms);
    }
}
