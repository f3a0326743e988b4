//! What may be spent on what others ask for: time, memory, and threads that write for them.
//!
//! Others are guests, each by his key, and nobody, by the address that he asks from; the owner and his apps are none. What they
//! read is worked out in turns, beside the threads that serve sockets and links: half as many as cores for guests, and for nobody. A
//! request costs the time of its turn, which is what it takes from everybody else: a difference of two long lists costs a thousand
//! times what a short value does. Each of them has [`BURST_MS`] of that, and gets [`MS_PER_S`] a second; who has used his up
//! waits until he is out of debt. So a turn is never longer for who asks for many at once, and those who ask for
//! little are not kept waiting by them.
//!
//! What they write is decided on in the same turns.
//!
//! What was made for others and is not read yet, and what comes from them and is not carried out yet, is counted for as long as anybody
//! here has it, on whatever way it is to them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::StatusCode;
use timebus_identity::PublicKey;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::peer::{Of, OriginCount, Peer, lock};
use crate::problem::Problem;
use crate::route::too_fast;
use crate::who::{Who, now_ms};
use crate::words::size;

/// Milliseconds of turns that one of them has at once, and gets each second.
const BURST_MS: f64 = 2000.0;
const MS_PER_S: f64 = 200.0;
/// What a turn costs beside its time: what went before it and comes after it.
const TURN_MS: f64 = 1.0;
/// Requests of one of them that wait for a turn: as many as an HTTP/2 connection has streams.
const WAITING_MAX: usize = 256;
/// Of how many it is known what they used; who has nothing waiting and asked longest ago is forgotten.
const ACCOUNTS_MAX: usize = 4096;
/// What is shorter is not counted as unread: a connection keeps as much by itself.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;
/// Unread bytes of all of them together, of those who are nobody, and of a single one; with as much nothing large is made.
const KEPT_BYTES_MAX: usize = 128 * 1024 * 1024;
const KEPT_OF_NOBODY_MAX: usize = 64 * 1024 * 1024;
const KEPT_OF_ONE_MAX: usize = 32 * 1024 * 1024;
/// Bytes of bodies that come, or that wait to be carried out: of all of them together, and of a single one, who may always have one
/// body.
const COMING_BYTES_MAX: usize = 128 * 1024 * 1024;
const COMING_OF_ONE_MAX: usize = 16 * 1024 * 1024;
/// Long answers that are written as they are read, each by a thread: of all of them, and of a single one.
const WRITERS_MAX: usize = 32;
const WRITERS_OF_ONE_MAX: usize = 8;
/// How long such a thread waits for somebody who takes nothing.
const TAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// Somebody else than the owner and his apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reader {
    /// A guest. Keys are made at will, so who has no grant is nobody, whatever he signs.
    Key(PublicKey),
    /// Nobody in particular, by where he asks from.
    Address(IpAddr),
}

impl Reader {
    /// Whoever asks over a connection between these ends, if it is one of them.
    pub(crate) fn of(peer: &Peer, who: &Who, ends: Option<(SocketAddr, SocketAddr)>) -> Option<Self> {
        let has_grants = |key: &PublicKey| peer.store().granted_to(key).is_ok_and(|spaces| !spaces.is_empty());
        match who.guest() {
            Some(key) if has_grants(&key) => Some(Self::Key(key)),
            _ if who.is_guest() => Some(Self::Address(home_of(ends.map_or(Ipv6Addr::UNSPECIFIED.into(), |(_, from)| from.ip())))),
            _ => None,
        }
    }

    /// Counts a stream of his, over whatever connection.
    ///
    /// # Errors
    ///
    /// 429 when as many are open for his key, or at the address of nobody in particular, as may be.
    pub(crate) fn count_stream(self, peer: &Peer) -> Result<OriginCount, Problem> {
        match self {
            Self::Key(key) => peer.count_origin(Of::KeyStreams, &key.to_string()),
            Self::Address(address) => peer.count_origin(Of::Streams, &address.to_string()),
        }
    }

    fn is_nobody(self) -> bool {
        matches!(self, Self::Address(_))
    }
}

/// What one household has: an address, or 64 bits of one of IPv6.
fn home_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// What others use, all together and each.
#[derive(Debug)]
pub(crate) struct Others {
    /// Of those who are nobody, and of guests, of whom these keep none waiting.
    turns: Arc<Semaphore>,
    turns_of_guests: Arc<Semaphore>,
    /// Of guests who write, and of apps: one at a time each, as all that writes is decided one by one.
    writes_of_guests: Arc<Semaphore>,
    writes_of_apps: Arc<Semaphore>,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    accounts: HashMap<Reader, Account>,
    kept: usize,
    kept_of_nobody: usize,
    coming: usize,
    writers: usize,
}

#[derive(Debug)]
struct Account {
    /// Milliseconds of turns; less than none after one that took longer.
    left_ms: f64,
    at_ms: u64,
    waiting: usize,
    kept: usize,
    coming: usize,
    writers: usize,
}

impl Account {
    fn new(now_ms: u64) -> Self {
        Self { left_ms: BURST_MS, at_ms: now_ms, waiting: 0, kept: 0, coming: 0, writers: 0 }
    }

    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.kept == 0 && self.coming == 0 && self.writers == 0
    }
}

impl Used {
    fn account(&mut self, reader: Reader, now_ms: u64) -> &mut Account {
        if self.accounts.len() >= ACCOUNTS_MAX && !self.accounts.contains_key(&reader) {
            let idle = self.accounts.iter().filter(|(_, account)| account.is_idle());
            if let Some(quiet) = idle.min_by_key(|(_, account)| account.at_ms).map(|(reader, _)| *reader) {
                self.accounts.remove(&quiet);
            }
        }
        let account = self.accounts.entry(reader).or_insert_with(|| Account::new(now_ms));
        let since_s = now_ms.saturating_sub(account.at_ms) as f64 / 1000.0;
        account.left_ms = (account.left_ms + since_s * MS_PER_S).min(BURST_MS);
        account.at_ms = now_ms.max(account.at_ms);
        account
    }

    /// Whether somebody has time left; else after how many milliseconds he has.
    fn may(&mut self, reader: Reader, now_ms: u64) -> Result<(), u64> {
        let left_ms = self.account(reader, now_ms).left_ms;
        if left_ms > 0.0 { Ok(()) } else { Err(((1.0 - left_ms) / MS_PER_S * 1000.0).ceil() as u64) }
    }

    fn pay(&mut self, reader: Reader, took: Duration, now_ms: u64) {
        self.account(reader, now_ms).left_ms -= took.as_secs_f64() * 1000.0 + TURN_MS;
    }

    /// Whether something large may be made for somebody.
    fn has_room(&mut self, reader: Reader, now_ms: u64) -> bool {
        let own = self.account(reader, now_ms).kept;
        own < KEPT_OF_ONE_MAX && self.kept < KEPT_BYTES_MAX && !(reader.is_nobody() && self.kept_of_nobody >= KEPT_OF_NOBODY_MAX)
    }

    fn keep(&mut self, reader: Reader, bytes: usize, now_ms: u64) {
        self.account(reader, now_ms).kept += bytes;
        self.kept += bytes;
        self.kept_of_nobody += if reader.is_nobody() { bytes } else { 0 };
    }

    fn let_go(&mut self, reader: Reader, bytes: usize) {
        if let Some(account) = self.accounts.get_mut(&reader) {
            account.kept -= bytes;
        }
        self.kept -= bytes;
        self.kept_of_nobody -= if reader.is_nobody() { bytes } else { 0 };
    }
}

/// A body that comes from somebody, counted until this is dropped.
pub(crate) struct Coming {
    of: Option<(Arc<Others>, Reader)>,
    bytes: usize,
}

impl Coming {
    /// Counts bytes more of it.
    ///
    /// # Errors
    ///
    /// 429 when more of his, or of all, comes than there is room for.
    pub(crate) fn more(&mut self, bytes: usize) -> Result<(), Problem> {
        let Some((others, reader)) = &self.of else { return Ok(()) };
        let mut used = lock(&others.used);
        let before = used.account(*reader, now_ms()).coming;
        let is_only = before == self.bytes;
        // Large ones leave room for others.
        let (is_large, all) = (before + bytes > COMING_OF_ONE_MAX, used.coming + bytes);
        // What is short always goes: there are not so many connections.
        let is_short = before + bytes <= LARGE_BYTES;
        if !is_short && all > COMING_BYTES_MAX || is_large && (!is_only || all > COMING_BYTES_MAX / 2) {
            let detail = format!(
                "{} of what {} sends may be under way, and {} of all",
                size(COMING_OF_ONE_MAX as u64),
                name(*reader),
                size(COMING_BYTES_MAX as u64)
            );
            return Err(too_fast(detail, 1000));
        }
        used.coming += bytes;
        used.account(*reader, now_ms()).coming += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Whether it is of somebody else than the owner and his apps.
    pub(crate) fn is_of_others(&self) -> bool {
        self.of.is_some()
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let Some((others, reader)) = &self.of else { return };
        let mut used = lock(&others.used);
        used.coming -= self.bytes;
        if let Some(account) = used.accounts.get_mut(reader) {
            account.coming -= self.bytes;
        }
    }
}

/// Somebody waits for a turn until this is dropped.
struct Waits(Arc<Others>, Reader);

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some(account) = lock(&self.0.used).accounts.get_mut(&self.1) {
            account.waiting -= 1;
        }
    }
}

/// A turn, paid for when it is dropped.
struct Turn {
    others: Arc<Others>,
    reader: Reader,
    began: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    fn begin(others: &Arc<Others>, reader: Reader, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { others: Arc::clone(others), reader, began: Instant::now(), _permit: permit }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.others.used).pay(self.reader, self.began.elapsed(), now_ms());
    }
}

/// The turn of somebody to have something written, paid for when it is dropped.
pub(crate) struct WriteTurn {
    of: Option<(Arc<Others>, Reader)>,
    took: Duration,
    _permit: Option<OwnedSemaphorePermit>,
}

impl WriteTurn {
    /// It took so long.
    pub(crate) fn took(&mut self, took: Duration) {
        self.took += took;
    }
}

impl Drop for WriteTurn {
    fn drop(&mut self) {
        if let Some((others, reader)) = &self.of {
            lock(&others.used).pay(*reader, self.took, now_ms());
        }
    }
}

/// A thread writes for somebody until this is dropped.
struct Writing(Arc<Others>, Reader);

impl Drop for Writing {
    fn drop(&mut self) {
        let mut used = lock(&self.0.used);
        used.writers -= 1;
        if let Some(account) = used.accounts.get_mut(&self.1) {
            account.writers -= 1;
        }
    }
}

/// Bytes that are counted until nobody here has them any more.
struct Kept {
    bytes: Bytes,
    others: Arc<Others>,
    reader: Reader,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        lock(&self.others.used).let_go(self.reader, self.bytes.len());
    }
}

/// A task that ends when nobody waits for it any more.
struct Task<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Default for Others {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with_turns((cores / 2).max(1))
    }
}

impl Others {
    fn with_turns(turns: usize) -> Self {
        let turns = || Arc::new(Semaphore::new(turns));
        let one = || Arc::new(Semaphore::new(1));
        let (writes_of_guests, writes_of_apps) = (one(), one());
        Self { turns: turns(), turns_of_guests: turns(), writes_of_guests, writes_of_apps, used: Mutex::default() }
    }

    /// Whether somebody has time left for anything.
    ///
    /// # Errors
    ///
    /// As [`Others::in_turn`].
    pub(crate) fn has_time(&self, reader: Option<Reader>) -> Result<(), Problem> {
        reader.map_or(Ok(()), |reader| self.may(reader))
    }

    /// The turn of somebody to have something written, behind all who wait already when this is called. Apps have time without end.
    ///
    /// # Errors
    ///
    /// As [`Others::in_turn`].
    pub(crate) fn turn_to_write(self: &Arc<Self>, reader: Option<Reader>) -> Result<BoxFuture<'static, Result<WriteTurn, Problem>>, Problem> {
        let waits = reader.map(|reader| self.wait(reader)).transpose()?;
        let turns = if reader.is_some() { &self.writes_of_guests } else { &self.writes_of_apps };
        let mut permit = Box::pin(Arc::clone(turns).acquire_owned());
        // From now on it has its place in the row.
        let ready = (&mut permit).now_or_never();
        let others = Arc::clone(self);
        Ok(Box::pin(async move {
            let permit = match ready {
                Some(permit) => permit,
                None => permit.await,
            };
            drop(waits);
            // Others of his may have had their turns meanwhile.
            others.has_time(reader)?;
            Ok(WriteTurn { of: reader.map(|reader| (others, reader)), took: Duration::ZERO, _permit: permit.ok() })
        }))
    }

    /// Counts a body that somebody sends.
    pub(crate) fn coming(self: &Arc<Self>, reader: Option<Reader>) -> Coming {
        Coming { of: reader.map(|reader| (Arc::clone(self), reader)), bytes: 0 }
    }

    /// Does something for somebody in a turn of his; what is for the owner is done at once.
    ///
    /// # Errors
    ///
    /// 429 with the time to wait, when he had all the turns that he has.
    pub(crate) async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        reader: Option<Reader>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let Some(reader) = reader else { return Ok(work.await) };
        let waits = self.wait(reader)?;
        let others = Arc::clone(self);
        // It is a task of its own: a turn that came to who does not look would be lost to all others.
        let mut task = Task(tokio::spawn(async move {
            let permit = others.permit(reader).await;
            drop(waits);
            // Others of his may have had their turns meanwhile.
            others.may(reader)?;
            let turn = Turn::begin(&others, reader, permit);
            let runtime = Handle::current();
            let work = move || {
                let _turn = turn;
                runtime.block_on(work)
            };
            tokio::task::spawn_blocking(work).await.map_err(|error| failed(&error))
        }));
        (&mut task.0).await.map_err(|error| failed(&error))?
    }

    /// Has a thread write something long for somebody, in turns, whenever he takes more. `run` ends when it is told that he
    /// does not. It is given to `send`. Answers what says, once there is no more, whether that was all.
    ///
    /// # Errors
    ///
    /// 429 when too many are.
    pub(crate) fn write_long(
        self: &Arc<Self>,
        reader: Reader,
        sender: tokio::sync::mpsc::Sender<Bytes>,
        run: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> bool) + Send + 'static,
    ) -> Result<Arc<AtomicBool>, Problem> {
        let writing = self.writing(reader)?;
        let runtime = Handle::current();
        let is_whole = Arc::new(AtomicBool::new(true));
        let answer = Arc::clone(&is_whole);
        tokio::task::spawn_blocking(move || {
            let others = Arc::clone(&writing.0);
            let mut turn = Some(runtime.block_on(others.turn(reader)));
            run(&mut |chunk| {
                // Waiting for him is no turn.
                drop(turn.take());
                let chunk = others.keep(Some(reader), chunk.into());
                let taken = runtime.block_on(async { tokio::time::timeout(TAKE_TIMEOUT, sender.send(chunk)).await });
                turn = Some(runtime.block_on(others.turn(reader)));
                let is_taken = matches!(taken, Ok(Ok(())));
                if !is_taken {
                    is_whole.store(false, Ordering::Release);
                }
                is_taken
            });
            // Only now is it over.
            drop(sender);
        });
        Ok(answer)
    }

    /// Whether something of this length may be made for somebody, and kept until it is read.
    ///
    /// # Errors
    ///
    /// 429 when too much of what was made for others waits to be read.
    pub(crate) fn room(&self, reader: Option<Reader>, bytes: usize) -> Result<(), Problem> {
        let Some(reader) = reader.filter(|_| bytes >= LARGE_BYTES) else { return Ok(()) };
        if lock(&self.used).has_room(reader, now_ms()) {
            return Ok(());
        }
        let detail = "what was made for you, or for all who are not the owner of this peer, was not read yet, and there is no room for more";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "unread", "too much waits to be read", detail);
        Err(problem.with_fix("read the other answers first, or ask for less: `?limit=` gives a part").with(crate::route::WAIT_MS, 10_000))
    }

    /// The same bytes, counted for as long as somebody has them, if they are for others than the owner.
    pub(crate) fn keep(self: &Arc<Self>, reader: Option<Reader>, bytes: Bytes) -> Bytes {
        let Some(reader) = reader.filter(|_| bytes.len() >= LARGE_BYTES) else { return bytes };
        lock(&self.used).keep(reader, bytes.len(), now_ms());
        Bytes::from_owner(Kept { bytes, others: Arc::clone(self), reader })
    }

    /// Bytes that others have not read yet.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        lock(&self.used).kept
    }

    fn wait(self: &Arc<Self>, reader: Reader) -> Result<Waits, Problem> {
        let mut used = lock(&self.used);
        used.may(reader, now_ms()).map_err(|wait_ms| spent(reader, wait_ms))?;
        let account = used.account(reader, now_ms());
        if account.waiting >= WAITING_MAX {
            return Err(too_fast(format!("{} has {WAITING_MAX} requests that wait for their turn", name(reader)), 1000));
        }
        account.waiting += 1;
        Ok(Waits(Arc::clone(self), reader))
    }

    fn may(&self, reader: Reader) -> Result<(), Problem> {
        lock(&self.used).may(reader, now_ms()).map_err(|wait_ms| spent(reader, wait_ms))
    }

    /// Waits until there is a turn; they are never closed.
    async fn permit(&self, reader: Reader) -> Option<OwnedSemaphorePermit> {
        let turns = if reader.is_nobody() { &self.turns } else { &self.turns_of_guests };
        Arc::clone(turns).acquire_owned().await.ok()
    }

    async fn turn(self: &Arc<Self>, reader: Reader) -> Turn {
        Turn::begin(self, reader, self.permit(reader).await)
    }

    fn writing(self: &Arc<Self>, reader: Reader) -> Result<Writing, Problem> {
        let mut used = lock(&self.used);
        let own = used.account(reader, now_ms()).writers;
        if own >= WRITERS_OF_ONE_MAX || used.writers >= WRITERS_MAX {
            return Err(too_fast(format!("{} may have {WRITERS_OF_ONE_MAX} long answers at once, and all {WRITERS_MAX}", name(reader)), 1000));
        }
        used.writers += 1;
        used.account(reader, now_ms()).writers += 1;
        Ok(Writing(Arc::clone(self), reader))
    }
}

fn name(reader: Reader) -> String {
    match reader {
        Reader::Key(key) => key.to_string(),
        Reader::Address(address) => format!("nobody in particular at {address}"),
    }
}

/// The answer to who has no time left.
fn spent(reader: Reader, wait_ms: u64) -> Problem {
    too_fast(format!("what is done for {} may take {MS_PER_S} ms of each second here, and {BURST_MS} ms at once", name(reader)), wait_ms)
}

fn failed(error: &tokio::task::JoinError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the store failed", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> Reader {
        Reader::Address(IpAddr::from([192, 0, 2, last]))
    }

    fn guest(seed: u8) -> Reader {
        Reader::Key(PublicKey::from_bytes([seed; 32]))
    }

    #[test]
    fn who_costs_much_waits_and_nobody_else_does() {
        let mut used = Used::default();
        let (ada, bob) = (at(1), at(2));
        let second = Duration::from_secs(1);
        for reader in [ada, ada, bob] {
            assert_eq!(used.may(reader, 0), Ok(()));
            used.pay(reader, second, 0);
        }
        // What he had at once is used up: 2 002 ms of it.
        assert_eq!(used.may(ada, 0), Err(15));
        assert_eq!((used.may(ada, 5), used.may(ada, 15)), (Err(10), Ok(())), "and comes back with time");
        assert_eq!(used.may(bob, 0), Ok(()));
        // A turn that took longer than what he had is paid for later.
        used.pay(bob, 5 * second, 0);
        assert_eq!(used.may(bob, 0), Err(20_015));
        // Many short ones are one long one.
        let carol = at(3);
        let turns = (0..).take_while(|_| used.may(carol, 0).inspect(|()| used.pay(carol, Duration::ZERO, 0)).is_ok()).count();
        assert_eq!(turns, 2000);
        // Nobody saves more than that up.
        assert_eq!(used.may(carol, 3_600_000), Ok(()));
        assert!((used.account(carol, 3_600_000).left_ms - BURST_MS).abs() < 1e-6);
        // Clocks go back, and that gives nothing.
        used.pay(carol, 3 * second, 3_600_000);
        let wait = used.may(carol, 3_600_000);
        assert_eq!(used.may(carol, 0), wait);
    }

    #[test]
    fn neighbours_of_ipv6_are_one() {
        let home = |text: &str| home_of(text.parse().expect("an address"));
        assert_eq!(home("2001:db8::1"), home("2001:db8::ffff:0:2"));
        assert_ne!(home("2001:db8::1"), home("2001:db8:0:1::1"));
        assert_eq!(home("::ffff:192.0.2.1"), home("192.0.2.1"));
        assert_ne!(home("192.0.2.1"), home("192.0.2.2"));
    }

    #[tokio::test]
    async fn keys_that_nobody_knows_give_nobody_more() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let lock = timebus_store::store::lock_home(home.path()).expect("a free home");
        let store = timebus_store::store::Store::open(home.path(), lock, &Default::default(), 1, &mut |_| {}).expect("a new store");
        let peer = Peer::new(store, timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let ends = Some((SocketAddr::from(([192, 0, 2, 9], 80)), SocketAddr::from(([192, 0, 2, 1], 1234))));
        let signed = |is_owner: bool| {
            let key = *timebus_identity::SecretKey::from_seed([7; 32]).public().as_bytes();
            Who::Signed { signer: crate::signature::Signer::of(key), is_owner }
        };
        for nobody in [Who::Anyone, signed(false)] {
            assert_eq!(Reader::of(&peer, &nobody, ends), Some(at(1)));
        }
        for owner in [Who::Owner, signed(true)] {
            assert_eq!(Reader::of(&peer, &owner, ends), None);
        }
        peer.stop();
    }

    #[test]
    fn who_uses_something_is_not_forgotten() {
        let mut used = Used::default();
        used.keep(at(1), 5, 0);
        used.pay(at(2), Duration::from_secs(9), 1);
        for number in 0..ACCOUNTS_MAX as u32 {
            let _ = used.may(Reader::Address(IpAddr::from(number.to_be_bytes())), 2);
        }
        assert_eq!(used.accounts.len(), ACCOUNTS_MAX);
        assert!(used.accounts.contains_key(&at(1)) && !used.accounts.contains_key(&at(2)), "the one who asked longest ago goes");
        used.let_go(at(1), 5);
        assert_eq!((used.kept, used.kept_of_nobody), (0, 0));
    }

    #[test]
    fn what_is_not_read_has_room_for_everybody_a_part() {
        let others = Arc::new(Others::default());
        let part = || Bytes::from(vec![0; KEPT_OF_ONE_MAX]);
        let room = |reader: Reader, bytes: usize| others.room(Some(reader), bytes).map_err(|problem| problem.kind);
        let mut kept = vec![others.keep(Some(at(1)), part())];
        assert_eq!(room(at(1), LARGE_BYTES), Err("unread"), "he has his part");
        assert_eq!(room(at(1), LARGE_BYTES - 1), Ok(()), "what is short always goes");
        assert_eq!(room(at(2), usize::MAX), Ok(()), "however long it is, one goes");
        kept.push(others.keep(Some(at(2)), part()));
        assert_eq!(room(at(3), LARGE_BYTES), Err("unread"), "those who are nobody have half");
        for seed in [1, 2] {
            assert_eq!(room(guest(seed), LARGE_BYTES), Ok(()));
            kept.push(others.keep(Some(guest(seed)), part()));
        }
        assert_eq!(room(guest(3), LARGE_BYTES), Err("unread"));
        assert!(others.room(None, usize::MAX).is_ok(), "the owner has all the room there is");
        // A piece of it is all of it, and what several share is one.
        let piece = kept.pop().expect("the last").slice(..1);
        let again = piece.clone();
        drop(piece);
        assert_eq!(others.kept(), KEPT_BYTES_MAX);
        drop(again);
        assert_eq!(others.kept(), KEPT_BYTES_MAX - KEPT_OF_ONE_MAX);
        assert_eq!(room(guest(3), LARGE_BYTES), Ok(()));
        drop(kept);
        assert_eq!(others.kept(), 0);
        assert!(others.keep(None, part()).len() == KEPT_OF_ONE_MAX && others.kept() == 0, "what is the owner's is not counted");
    }

    #[test]
    fn bodies_have_room_for_everybody_a_part() {
        let others = Arc::new(Others::default());
        let more = |coming: &mut Coming, bytes: usize| coming.more(bytes).map_err(|problem| problem.status.as_u16());
        let mut first = others.coming(Some(guest(1)));
        assert_eq!(more(&mut first, 4 * COMING_OF_ONE_MAX), Ok(()), "one body is taken however long it is");
        let mut second = others.coming(Some(guest(1)));
        assert_eq!(more(&mut second, 1), Err(429), "and no second one beside it");
        assert_eq!(more(&mut others.coming(Some(guest(8))), 4 * COMING_OF_ONE_MAX), Err(429), "nor one as long of somebody else");
        let mut bodies: Vec<Coming> = (2..5).map(|seed| others.coming(Some(guest(seed)))).collect();
        assert!(bodies.iter_mut().all(|body| more(body, COMING_OF_ONE_MAX) == Ok(())));
        let mut last = others.coming(Some(guest(9)));
        assert_eq!((more(&mut last, COMING_OF_ONE_MAX), more(&mut last, 1)), (Ok(()), Err(429)), "all of them together have so much");
        assert_eq!(more(&mut others.coming(Some(guest(10))), LARGE_BYTES), Ok(()), "and what is short");
        assert_eq!(more(&mut others.coming(None), usize::MAX), Ok(()), "the owner's is not counted");
        drop(first);
        assert_eq!(more(&mut second, COMING_OF_ONE_MAX), Ok(()));
        drop((second, bodies, last));
        let mut used = lock(&others.used);
        assert_eq!((used.coming, used.account(guest(1), 0).coming), (0, 0));
    }

    /// Who hangs up, or takes no answers, keeps nobody else from his turn, and those of one are in order.
    #[tokio::test]
    async fn writes_wait_in_the_order_in_which_they_came() {
        let others = Arc::new(Others::default());
        let turn = |reader: Option<Reader>| others.turn_to_write(reader).expect("he may wait");
        let first = turn(Some(guest(1))).await.expect("nobody else writes");
        let [mut second, left, mut third] = [turn(Some(guest(1))), turn(Some(guest(2))), turn(Some(guest(1)))];
        assert!((&mut third).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert!(turn(None).now_or_never().is_some_and(|turn| turn.is_ok()), "apps wait for no guest");
        drop(left);
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "it came later");
        let mut second = second.await.expect("his turn");
        second.took(Duration::from_secs(60));
        drop(second);
        assert_eq!(third.await.err().map(|problem| problem.status.as_u16()), Some(429), "he has used up his time");
        assert!(others.turn_to_write(Some(guest(1))).is_err());
        assert!(turn(Some(guest(2))).await.is_ok());
        assert_eq!(lock(&others.used).account(guest(1), 0).waiting, 0);
    }

    fn permits(others: &Others) -> usize {
        others.turns.available_permits()
    }

    /// Whoever asked for hard things at many connections had every core, and the owner none.
    #[tokio::test]
    async fn others_work_in_turns_and_the_owner_whenever_he_likes() {
        let others = Arc::new(Others::with_turns(1));
        let (begun, is_begun) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::current().id();
        let first = tokio::spawn({
            let others = Arc::clone(&others);
            async move {
                let work = async move {
                    begun.send(std::thread::current().id()).expect("somebody waits");
                    let _ = ends.recv();
                };
                others.in_turn(Some(at(1)), work).await
            }
        });
        // It is beside the threads of the runtime, of which there is one here, and this is it.
        let other = loop {
            tokio::task::yield_now().await;
            if let Ok(id) = is_begun.try_recv() {
                break id;
            }
        };
        assert_ne!(other, thread);
        assert_eq!(permits(&others), 0);
        assert_eq!(others.in_turn(Some(guest(1)), async { 1 }).await, Ok(1), "a guest waits for nobody");
        let mut second = Box::pin(others.in_turn(Some(at(3)), async { 2 }));
        assert!((&mut second).now_or_never().is_none(), "one at a time");
        assert_eq!(others.in_turn(None, async { std::thread::current().id() }).await, Ok(thread), "the owner waits for nobody");
        // Who is not looked at keeps nobody else from his turn.
        let third = others.in_turn(Some(at(2)), async { 3 });
        end.send(()).expect("it runs");
        assert_eq!(third.await, Ok(3));
        first.await.expect("no panic").expect("a turn");
        assert_eq!(second.await, Ok(2));
        while permits(&others) == 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_asks_for_much_at_once_pays_before_his_next_turn() {
        let others = Arc::new(Others::with_turns(1));
        let turn = others.turn(at(9)).await;
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(others.in_turn(Some(at(1)), async {}))).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        assert_eq!(others.in_turn(Some(at(1)), async {}).await.map_err(|problem| problem.status.as_u16()), Err(429), "no more of one wait");
        let other = waiting.pop().expect("the last");
        drop(other);
        // He is in debt by what he asked for elsewhere.
        lock(&others.used).pay(at(1), Duration::from_secs(1000), now_ms());
        drop(turn);
        for one in waiting {
            let problem = one.await.expect_err("he has to wait");
            assert_eq!((problem.kind, problem.status.as_u16()), ("rate", 429));
            assert!(problem.extra[crate::route::WAIT_MS].as_u64().is_some_and(|wait_ms| wait_ms > 1_000_000));
        }
        assert_eq!(others.in_turn(Some(at(2)), async { 1 }).await, Ok(1));
        assert_eq!(lock(&others.used).accounts[&at(1)].waiting, 0);
    }

    /// Who takes nothing for long is cut off, and that is not the end of his answer.
    #[tokio::test(start_paused = true)]
    async fn what_is_cut_off_is_not_whole() {
        let others = Arc::new(Others::with_turns(1));
        let write = |times: usize| {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let run = move |send: &mut dyn FnMut(Vec<u8>) -> bool| {
                for _ in 0..times {
                    if !send(vec![0; LARGE_BYTES]) {
                        return;
                    }
                }
            };
            (receiver, others.write_long(at(1), sender, run).expect("a thread"))
        };
        let (mut receiver, is_whole) = write(5);
        let mut count = 0;
        while receiver.recv().await.is_some() {
            count += 1;
        }
        assert!(count == 5 && is_whole.load(Ordering::Acquire));
        let (mut receiver, is_whole) = write(5);
        while lock(&others.used).writers > 0 {
            tokio::time::advance(TAKE_TIMEOUT / 2).await;
            tokio::task::yield_now().await;
        }
        while receiver.recv().await.is_some() {}
        assert!(!is_whole.load(Ordering::Acquire));
    }

    /// A thread that writes waits for its reader, and there are not so many of them.
    #[tokio::test]
    async fn who_takes_nothing_has_few_threads_wait_for_him_and_no_turn() {
        let others = Arc::new(Others::with_turns(1));
        let write = |reader: Reader| {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let run = |send: &mut dyn FnMut(Vec<u8>) -> bool| while send(vec![0; LARGE_BYTES]) {};
            others.write_long(reader, sender, run).map(|_| receiver).map_err(|problem| problem.status.as_u16())
        };
        let mut receivers = Vec::new();
        for reader in [1, 2, 3, 4].map(at) {
            for _ in 0..WRITERS_OF_ONE_MAX {
                receivers.push(write(reader).expect("a thread"));
            }
            assert_eq!(write(reader).map(drop), Err(429));
        }
        assert_eq!(write(guest(1)).map(drop), Err(429));
        // Each has made two, of which one waits in the channel, and holds no turn.
        while others.kept() < 2 * WRITERS_MAX * LARGE_BYTES || permits(&others) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(others.in_turn(Some(guest(1)), async { 1 }).await, Ok(1));
        receivers.truncate(1);
        while others.kept() > 2 * LARGE_BYTES {
            tokio::task::yield_now().await;
        }
        assert!(receivers[0].recv().await.is_some_and(|chunk| chunk.len() == LARGE_BYTES));
        while write(guest(1)).is_err() {
            tokio::task::yield_now().await;
        }
        receivers.clear();
        while others.kept() > 0 || lock(&others.used).writers > 0 {
            tokio::task::yield_now().await;
        }
    }
}
