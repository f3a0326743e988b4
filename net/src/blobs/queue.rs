//! In which order files are fetched that are to be here: some at once, first what somebody who is there says that he has, and
//! what is new. What was tried in vain is tried again after pauses that grow, or at once when somebody says that he has it. So
//! thousands of files of somebody who is away keep none of the others from coming, and thousands that are new none of those
//! that could not be had for a while.
//!
//! Deliberately not: no network and no clock. Whoever drives it says what is missing, and fetches.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use timebus_identity::PublicKey;
use timebus_store::blobs::BlobHash;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Files that are fetched at once.
pub(crate) const AT_ONCE: usize = 8;
/// Of these, those that somebody says he has, as long as there are others: whoever says so and gives nothing does not keep out
/// what is new.
const HELD_AT_ONCE: usize = AT_ONCE / 2;
/// How long a file that nobody gave waits until it is tried again; twice as long each time.
const PAUSE: Duration = Duration::from_secs(10);
/// How long one file is fetched until others that wait have their turn.
const TURN: Duration = Duration::from_secs(30);
/// How often it is looked whether others wait.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file that is missing: for the sake of a space, with the length that somebody says it has. What is named with several lengths
/// is tried with each, one after the other; the true one proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Which {
    pub(crate) space: PublicKey,
    pub(crate) hash: BlobHash,
    pub(crate) len: u64,
}

/// What became of fetching a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It is here, or not to come.
    Done,
    /// It came until its turn was over.
    GoesOn,
    /// Nobody who has it is there, or it cannot be kept.
    InVain,
}

/// How long one of them may be fetched.
#[derive(Clone, Debug)]
pub(crate) struct Until {
    at: Instant,
    do_others_wait: Arc<AtomicBool>,
    is_missing: Arc<AtomicBool>,
}

impl Until {
    /// Whether it is the turn of others, or this one is not to be here any more.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_missing.load(Ordering::Relaxed) || self.do_others_wait.load(Ordering::Relaxed) && Instant::now() >= self.at
    }

    /// What comes of something within the turn; `None` if that is over before.
    pub(crate) async fn within<T>(until: Option<&Self>, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            while !until.is_some_and(Self::is_over) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = over => None,
        }
    }
}

/// Some files that were asked for, and those of them that somebody says he has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) files: Vec<Which>,
    pub(crate) held: BTreeSet<(PublicKey, BlobHash)>,
}

/// What comes first: what was not tried for longest, then what was named last, then in the order in which it was named.
type Turn = (u64, Reverse<u64>, usize);

#[derive(Clone, Debug)]
struct File<T> {
    file: T,
    /// When it was told first, and where it was then, counted.
    told: u64,
    at: usize,
    /// When it was tried last, counted.
    tried: u64,
    /// How often in vain, one time after the other.
    in_vain: u32,
    due: Instant,
    /// Whether somebody says that he has it.
    is_held: bool,
}

impl<T> File<T> {
    fn turn(&self) -> Turn {
        (self.tried, Reverse(self.told), self.at)
    }
}

/// Why a file is fetched now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Somebody says that he has it.
    Held,
    /// It was not tried in vain yet.
    New,
    /// It was, some time ago.
    Again,
}

/// Files that are to be fetched.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    files: BTreeMap<Which, File<T>>,
    /// Those that are fetched, and why.
    running: BTreeMap<Which, Why>,
    /// Those that wait: that somebody says he has, and that nobody does; each was never tried in vain.
    held: BTreeSet<(Turn, Which)>,
    others: BTreeSet<(Turn, Which)>,
    /// Those that were, and can be tried again, or later.
    again: BTreeSet<(Turn, Which)>,
    later: BTreeSet<(Instant, Which)>,
    told: u64,
    tries: u64,
    pause_max: Duration,
}

impl<T: Clone> Queue<T> {
    /// Of no files yet. What nobody gives is tried again after so long at most.
    pub(crate) fn new(pause_max: Duration) -> Self {
        let (files, running, held, others, again, later) = Default::default();
        Self { files, running, held, others, again, later, told: 0, tries: 0, pause_max }
    }

    /// These are missing now, and no others.
    pub(crate) fn told(&mut self, missing: Vec<(Which, T)>, now: Instant) {
        self.told += 1;
        let mut before = std::mem::take(&mut self.files);
        for waiting in [&mut self.held, &mut self.others, &mut self.again] {
            waiting.clear();
        }
        self.later.clear();
        for (at, (which, file)) in missing.into_iter().enumerate() {
            if self.files.contains_key(&which) {
                continue;
            }
            let known = match before.remove(&which) {
                Some(known) => File { file, ..known },
                None => File { file, told: self.told, at, tried: 0, in_vain: 0, due: now, is_held: false },
            };
            self.files.insert(which, known);
            self.wait(&which);
        }
    }

    /// Others were asked for some files.
    pub(crate) fn asked(&mut self, asked: &Asked, now: Instant) {
        for which in &asked.files {
            let Some(file) = self.files.get_mut(which) else { continue };
            let is_held = asked.held.contains(&(which.space, which.hash));
            if is_held == file.is_held {
                continue;
            }
            file.is_held = is_held;
            let is_waiting = self.stop_waiting(which);
            if let Some(file) = self.files.get_mut(which).filter(|_| is_held) {
                (file.in_vain, file.due) = (0, now);
            }
            if is_waiting {
                self.wait(which);
            }
        }
    }

    /// What to fetch now, if one more can be.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(Which, T)> {
        while let Some((_, which)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.later.pop_first();
            let turn = self.files.get(&which)?.turn();
            self.again.insert((turn, which));
        }
        if self.running.len() >= AT_ONCE {
            return None;
        }
        let count = |why: Why| self.running.values().filter(|it| **it == why).count();
        let [first, second] = if count(Why::Held) >= HELD_AT_ONCE { [&self.others, &self.held] } else { [&self.held, &self.others] };
        // The last place is for those that were tried before, unless one of them has one.
        let is_for_again = self.running.len() == AT_ONCE - 1 && count(Why::Again) == 0;
        let order = if is_for_again { [&self.again, first, second] } else { [first, second, &self.again] };
        // Of one content one length at a time.
        let is_free = |which: &Which| !self.running.keys().any(|running| running.hash == which.hash);
        let (_, which) = *order.into_iter().flatten().find(|(_, which)| is_free(which))?;
        self.stop_waiting(&which);
        self.tries += 1;
        let file = self.files.get_mut(&which)?;
        file.tried = self.tries;
        let why = match (file.in_vain, file.is_held) {
            (0, true) => Why::Held,
            (0, false) => Why::New,
            _ => Why::Again,
        };
        self.running.insert(which, why);
        Some((which, file.file.clone()))
    }

    /// Says what became of one.
    pub(crate) fn done(&mut self, which: &Which, tried: Tried, now: Instant) {
        self.running.remove(which);
        let Some(file) = self.files.get_mut(which) else { return };
        match tried {
            // If it is missing all the same, that is told.
            Tried::Done => (file.in_vain, file.due) = (0, now),
            Tried::GoesOn => (file.in_vain, file.due, file.is_held) = (0, now, true),
            Tried::InVain => {
                file.in_vain = file.in_vain.saturating_add(1);
                file.due = now + self.pause_max.min(PAUSE.saturating_mul(2u32.saturating_pow(file.in_vain - 1)));
            }
        }
        if tried != Tried::Done {
            self.wait(which);
        }
    }

    /// Whether there are some that could be fetched now.
    fn is_more(&self) -> bool {
        [&self.held, &self.others, &self.again].iter().any(|waiting| !waiting.is_empty())
    }

    /// When to come back although nothing was told.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.later.first().map(|(due, _)| *due)
    }

    fn wait(&mut self, which: &Which) {
        let Some(file) = self.files.get(which).filter(|_| !self.running.contains_key(which)) else { return };
        match (file.in_vain, file.is_held) {
            (0, true) => self.held.insert((file.turn(), *which)),
            (0, false) => self.others.insert((file.turn(), *which)),
            _ => self.later.insert((file.due, *which)),
        };
    }

    /// Whether it waited.
    fn stop_waiting(&mut self, which: &Which) -> bool {
        let Some(file) = self.files.get(which) else { return false };
        let (turn, due) = ((file.turn(), *which), (file.due, *which));
        let waited = [&mut self.held, &mut self.others, &mut self.again].map(|waiting| waiting.remove(&turn));
        self.later.remove(&due) || waited.contains(&true)
    }
}

/// Fetches what is missing, as it is told, until nobody tells any more. What nobody gives is tried again after so long at most.
pub(crate) async fn run<T: Clone, F: Future<Output = Tried>>(
    mut told: watch::Receiver<Vec<(Which, T)>>,
    mut asked: mpsc::Receiver<Asked>,
    pause_max: Duration,
    fetch: impl Fn(Which, T, Until) -> F,
) {
    let mut queue = Queue::new(pause_max);
    let mut running = FuturesUnordered::new();
    let do_others_wait = Arc::new(AtomicBool::new(false));
    let mut missing: BTreeMap<Which, Arc<AtomicBool>> = BTreeMap::new();
    queue.told(told.borrow_and_update().clone(), Instant::now());
    loop {
        let now = Instant::now();
        while let Some((which, file)) = queue.next(now) {
            let is_missing = Arc::new(AtomicBool::new(true));
            missing.insert(which, Arc::clone(&is_missing));
            let fetched = fetch(which, file, Until { at: now + TURN, do_others_wait: Arc::clone(&do_others_wait), is_missing });
            running.push(async move { (which, fetched.await) });
        }
        do_others_wait.store(queue.is_more(), Ordering::Relaxed);
        let next_at = queue.next_at();
        tokio::select! {
            Some((which, tried)) = running.next() => {
                missing.remove(&which);
                queue.done(&which, tried, Instant::now());
            }
            changed = told.changed() => match changed {
                Ok(()) => {
                    queue.told(told.borrow_and_update().clone(), Instant::now());
                    missing.iter().for_each(|(which, is)| is.store(queue.files.contains_key(which), Ordering::Relaxed));
                }
                Err(_) => return,
            },
            Some(asked) = asked.recv() => queue.asked(&asked, Instant::now()),
            () = tokio::time::sleep_until(next_at.unwrap_or(now)), if next_at.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn which(number: u32) -> Which {
        let hash = BlobHash::from_bytes(timebus_identity::hash("test file", &[&number.to_be_bytes()]));
        Which { space: PublicKey::from_bytes([1; 32]), hash, len: 1 }
    }

    fn missing(numbers: impl IntoIterator<Item = u32>) -> Vec<(Which, u32)> {
        numbers.into_iter().map(|number| (which(number), number)).collect()
    }

    fn held(numbers: impl IntoIterator<Item = u32>, are: bool) -> Asked {
        let files: Vec<Which> = numbers.into_iter().map(which).collect();
        Asked { held: files.iter().filter(|_| are).map(|which| (which.space, which.hash)).collect(), files }
    }

    fn queue() -> Queue<u32> {
        Queue::new(seconds(600))
    }

    /// Somebody says that he has it, and gives nothing.
    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_has_its_turn_and_no_more() {
        let began = Instant::now();
        let (do_others_wait, is_missing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let until = Until { at: began + TURN, do_others_wait: Arc::clone(&do_others_wait), is_missing };
        let waits = |until| tokio::time::timeout(10 * TURN, Until::within(until, std::future::pending::<()>()));
        assert!(waits(Some(&until)).await.is_err() && waits(None).await.is_err(), "nobody else waits");
        do_others_wait.store(true, Ordering::Relaxed);
        let began = Instant::now();
        assert_eq!(waits(Some(&until)).await, Ok(None));
        assert!(began.elapsed() <= LOOK_EVERY);
        assert_eq!(Until::within(Some(&until), async { 7 }).await, Some(7), "what is there is taken");
    }

    /// What is fetched at once now.
    fn all(queue: &mut Queue<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| queue.next(now)).map(|(_, number)| number).collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The owner of ten thousand files is away, and somebody who is there posts one more.
    #[test]
    fn what_nobody_has_keeps_neither_what_is_new_waiting_nor_what_somebody_has() {
        let (mut queue, mut now) = (queue(), Instant::now());
        queue.told(missing(0..10_000), now);
        assert_eq!(all(&mut queue, now), Vec::from_iter(0..8));
        queue.told(missing(0..10_001), now);
        queue.asked(&held(9000..9002, true), now);
        let mut tried = Vec::new();
        for done in 0..3 {
            now += seconds(3);
            queue.done(&which(done), Tried::InVain, now);
            tried.extend(all(&mut queue, now));
        }
        assert_eq!(tried, [9000, 9001, 10_000], "what somebody has, and what is new");
        queue.done(&which(3), Tried::InVain, now);
        assert_eq!(all(&mut queue, now), [8]);
    }

    #[test]
    fn what_was_tried_in_vain_is_tried_again_after_growing_pauses_or_when_somebody_has_it() {
        let (mut queue, mut now) = (queue(), Instant::now());
        queue.told(missing([1]), now);
        for pause in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert_eq!(all(&mut queue, now), [1]);
            queue.done(&which(1), Tried::InVain, now);
            assert_eq!(queue.next_at(), Some(now + seconds(pause)));
            // That it is still missing changes nothing.
            queue.told(missing([1]), now);
            assert_eq!(all(&mut queue, now + seconds(pause - 1)), [] as [u32; 0]);
            now += seconds(pause);
        }
        all(&mut queue, now);
        queue.done(&which(1), Tried::InVain, now);
        queue.asked(&held([1], false), now);
        assert_eq!(all(&mut queue, now), [] as [u32; 0], "nobody has it");
        queue.asked(&held([1], true), now);
        assert_eq!(all(&mut queue, now), [1], "somebody came who has it");
        queue.done(&which(1), Tried::InVain, now);
        queue.asked(&held([1], true), now);
        assert_eq!(all(&mut queue, now), [] as [u32; 0], "who says so and gives nothing is no news");
        assert_eq!(all(&mut queue, now + seconds(10)), [1]);
        queue.done(&which(1), Tried::Done, now);
        assert_eq!((all(&mut queue, now + seconds(9999)), queue.next_at()), (vec![], None));
        queue.told(missing([1]), now);
        assert_eq!(all(&mut queue, now), [1], "it is missing all the same");
        queue.told(vec![], now);
        queue.done(&which(1), Tried::InVain, now);
        assert_eq!((all(&mut queue, now + seconds(9999)), queue.next_at()), (vec![], None), "it is not wanted any more");
    }

    #[test]
    fn who_says_that_he_has_everything_takes_half_of_the_turns() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.told(missing(0..100), now);
        queue.asked(&held(50..100, true), now);
        assert_eq!(all(&mut queue, now), [50, 51, 52, 53, 0, 1, 2, 3]);
        queue.done(&which(0), Tried::Done, now);
        queue.done(&which(50), Tried::InVain, now);
        assert_eq!(all(&mut queue, now), [54, 4]);
        queue.told(missing(50..100), now);
        for number in 1..5 {
            queue.done(&which(number), Tried::Done, now);
        }
        assert_eq!(all(&mut queue, now), [55, 56, 57, 58], "all of them, if there are no others");
    }

    /// What is new never ends, and somebody comes back who does not say what he has.
    #[test]
    fn what_was_tried_in_vain_has_one_place_beside_what_is_new() {
        let (mut queue, mut now) = (queue(), Instant::now());
        queue.told(missing([0, 1]), now);
        assert_eq!(all(&mut queue, now), [0, 1]);
        queue.done(&which(0), Tried::InVain, now);
        queue.done(&which(1), Tried::InVain, now);
        queue.told(missing(0..1000), now);
        queue.asked(&held(500..1000, true), now);
        assert_eq!(all(&mut queue, now).len(), AT_ONCE, "nothing is due yet");
        now += seconds(10);
        queue.done(&which(2), Tried::Done, now);
        assert_eq!(all(&mut queue, now), [0]);
        queue.done(&which(3), Tried::Done, now);
        assert_eq!(all(&mut queue, now), [6], "one at a time");
        queue.done(&which(0), Tried::InVain, now);
        assert_eq!(all(&mut queue, now), [1]);
    }

    #[test]
    fn large_files_take_turns() {
        let (mut queue, now) = (queue(), Instant::now());
        queue.told(missing(0..10), now);
        all(&mut queue, now);
        for number in 0..8 {
            queue.done(&which(number), Tried::GoesOn, now);
        }
        assert_eq!(all(&mut queue, now), [0, 1, 2, 3, 8, 9, 4, 5], "what comes goes on, and what was not tried yet comes, too");
    }

    #[test]
    fn of_one_content_one_length_is_tried_at_a_time() {
        let (mut queue, now) = (queue(), Instant::now());
        let other = Which { len: 2, ..which(1) };
        queue.told(vec![(which(1), 1), (other, 2), (which(3), 3), (which(1), 4)], now);
        assert_eq!(all(&mut queue, now), [1, 3]);
        queue.done(&which(1), Tried::InVain, now);
        assert_eq!(all(&mut queue, now), [2]);
        assert_eq!(all(&mut queue, now + seconds(10)), [] as [u32; 0]);
        queue.done(&other, Tried::InVain, now);
        assert_eq!(all(&mut queue, now + seconds(10)), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_meanwhile_is_fetched_meanwhile() {
        let (tell, told) = watch::channel(missing(0..100));
        let (say, asked) = mpsc::channel(1);
        let began = Instant::now();
        let tried = Mutex::new(Vec::new());
        let fetch = |_, file: u32, _| {
            tried.lock().expect("nobody panics").push((file, began.elapsed().as_secs()));
            async move {
                tokio::time::sleep(seconds(3)).await;
                if file >= 100 { Tried::Done } else { Tried::InVain }
            }
        };
        let drive = async {
            tokio::time::sleep(seconds(1)).await;
            tell.send(missing(0..101)).expect("it listens");
            say.send(held([90], true)).await.expect("it listens");
            tokio::time::sleep(seconds(60)).await;
            drop(tell);
        };
        tokio::join!(run(told, asked, seconds(600), fetch), drive);
        let tried = tried.into_inner().expect("nobody panics");
        let first = |file: u32| tried.iter().find(|(other, _)| *other == file).map(|(_, at)| *at);
        assert_eq!((first(100), first(90), first(0)), (Some(3), Some(3), Some(0)));
        assert!(first(99).is_some_and(|at| (36..45).contains(&at)), "seven of eight places are for what was not tried");
        let times: Vec<u64> = tried.iter().filter(|(file, _)| *file == 0).map(|(_, at)| *at).collect();
        assert_eq!(times[0], 0);
        assert!(times.len() > 1 && (13..36).contains(&times[1]), "{times:?}: one of eight places is for what was tried before");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_fetched_makes_room_when_others_wait_and_not_before() {
        let (tell, told) = watch::channel(missing(0..8));
        let (_say, asked) = mpsc::channel(1);
        let began = Instant::now();
        let ended = Mutex::new(Vec::new());
        let fetch = |_, file: u32, until: Until| {
            let ended = &ended;
            async move {
                while !until.is_over() {
                    tokio::time::sleep(seconds(1)).await;
                }
                ended.lock().expect("nobody panics").push((file, began.elapsed().as_secs()));
                Tried::GoesOn
            }
        };
        let drive = async {
            tokio::time::sleep(seconds(100)).await;
            assert!(ended.lock().expect("nobody panics").is_empty(), "nobody else waits");
            tell.send(missing(0..9)).expect("it listens");
            tokio::time::sleep(seconds(20)).await;
            drop(tell);
        };
        tokio::join!(run(told, asked, seconds(600), fetch), drive);
        let ended = ended.lock().expect("nobody panics");
        assert!(ended.len() >= 8 && ended.iter().all(|(_, at)| (100..=102).contains(at)), "{ended:?}");
    }
    /// The picture of a profile was replaced while the old one came.
    #[tokio::test(start_paused = true)]
    async fn who_is_fetched_and_not_missing_any_more_ends_at_once_and_the_others_go_on() {
        let (tell, told) = watch::channel(missing(0..3));
        let (_say, asked) = mpsc::channel(1);
        let began = Instant::now();
        let ended = Mutex::new(Vec::new());
        let fetch = |_, file: u32, until: Until| {
            let ended = &ended;
            async move {
                while !until.is_over() && began.elapsed() < seconds(200) {
                    tokio::time::sleep(seconds(1)).await;
                }
                ended.lock().expect("nobody panics").push((file, began.elapsed().as_secs()));
                Tried::Done
            }
        };
        let drive = async {
            tokio::time::sleep(seconds(100)).await;
            tell.send(missing([0, 2, 3])).expect("it listens");
            tokio::time::sleep(seconds(20)).await;
            assert_eq!(*ended.lock().expect("nobody panics"), [(1, 101)], "the one that is not to be here any more");
            tell.send(missing([])).expect("it listens");
            tokio::time::sleep(seconds(20)).await;
            drop(tell);
        };
        tokio::join!(run(told, asked, seconds(600), fetch), drive);
        let mut ended = ended.into_inner().expect("nobody panics");
        ended.sort_unstable();
        assert!(ended.iter().map(|(file, _)| *file).eq(0..4) && ended.iter().all(|(_, at)| *at <= 122), "{ended:?}");
    }
}
