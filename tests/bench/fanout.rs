//! `fanout`: one publisher, many subscribers, each of which must get every update.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::Options;
use crate::connection::{Connection, Endpoint, Protocol, find};
use crate::histogram::Histogram;
use crate::load::{Measured, THREADS, on_one_thread};
use crate::peer::{Flush, Peer};
use crate::publisher::{Publisher, UPDATE_BYTES, Update, clock};
use crate::report::{Cell, Report, verdict};
use crate::server::Server;
use crate::subscriber::{Subscriber, TOPIC};

/// Updates sent and not yet seen by everyone, counted once for each subscriber. Without a bound
/// the latency would only say how long a queue we built; with one subscriber or many, this much
/// keeps every server busy.
const OUTSTANDING_MAX: u64 = 16_000;
/// Updates on their way at most, which bounds the queue when there are few subscribers.
const UPDATES_OUTSTANDING_MAX: u64 = 256;
/// Updates published one by one before the crowd, each when everyone got the one before.
const LONE_UPDATES: u64 = 50;
/// How long the last update may take to reach everyone.
const LAST_UPDATE_TIME_MAX: Duration = Duration::from_secs(30);

/// What one row of the table says.
struct FanOut {
    deliveries: Measured,
    published: Published,
    /// The server's memory for each subscriber, connected and idle.
    subscriber_bytes: Option<f64>,
    /// Until one had connected and subscribed.
    join_time: Duration,
    resident_bytes: Option<f64>,
}

/// What the publisher did.
struct Published {
    /// Updates after the [`LONE_UPDATES`].
    count: u64,
    /// Time until a lone update had reached every subscriber.
    lone: Histogram,
    /// When the updates began that are counted, and the server's CPU time then.
    start: Instant,
    cpu: Option<Duration>,
}

/// What the publisher and the subscribers know of each other.
#[derive(Default)]
struct Progress {
    /// Updates seen, added up over all subscribers; one that was skipped counts as seen when a
    /// later one comes.
    seen: AtomicU64,
    /// The publisher sleeps until `seen` gets here.
    wake_at: AtomicU64,
    wake: Notify,
    /// A subscriber gave up, so the publisher may too.
    failed: AtomicBool,
}

impl Progress {
    fn add(&self, updates: u64) {
        let seen = self.seen.fetch_add(updates, Ordering::SeqCst) + updates;
        if seen >= self.wake_at.load(Ordering::SeqCst) {
            self.wake_at.store(u64::MAX, Ordering::SeqCst);
            self.wake.notify_one();
        }
    }

    /// Says that there will be no more from one subscriber.
    fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Waits until at least `enough` were seen.
    async fn until(&self, enough: u64) -> anyhow::Result<()> {
        while self.seen.load(Ordering::SeqCst) < enough {
            self.wake_at.store(enough, Ordering::SeqCst);
            if self.seen.load(Ordering::SeqCst) < enough {
                self.wake.notified().await;
            }
            ensure!(!self.failed.load(Ordering::SeqCst), "a subscriber gave up");
        }
        Ok(())
    }
}

/// Measures all peers with 1, 100 and 1 000 subscribers.
pub(crate) fn measure(options: &Options) -> Report {
    let mut report = Report::new(
        "fanout",
        format!("one publisher, {UPDATE_BYTES}-byte updates, every subscriber gets every one"),
        &[
            "subscribers",
            "peer",
            "deliveries/s",
            "x nats",
            "updates/s",
            "got %",
            "alone ms",
            "p50 ms",
            "p99 ms",
            "cpu us/delivery",
            "us to join",
            "kB/subscriber",
            "rss MB",
        ],
    );
    let peers = [Peer::Nats, Peer::Redis, Peer::YWebsocket, Peer::Timebus];
    let peers = options.installed(&peers, &mut report);
    report.notes.push(format!(
        "alone: until an update sent by itself had reached everyone; p50, p99: one delivery, with \
         up to {UPDATES_OUTSTANDING_MAX} updates or {OUTSTANDING_MAX} deliveries on their way"
    ));
    for &subscribers in &options.subscribers {
        let mut reference = None;
        for &peer in &peers {
            options.progress(&format!("fanout: {peer}, {subscribers} subscribers"));
            let row = match fan_out(options, peer, subscribers) {
                Ok(row) => row,
                Err(error) => {
                    report.errors.push(format!("{peer}, {subscribers} subscribers: {error:#}"));
                    continue;
                }
            };
            let rate = row.deliveries.rate();
            if peer == Peer::Nats {
                reference = Some(rate);
            }
            let complete = (row.published.count * subscribers as u64) as f64;
            let p99_ms = row.deliveries.latency_us(0.99).map(|micros| micros / 1e3);
            let alone = row.published.lone.quantile(0.5);
            let alone_ms = alone.map(|alone| alone.as_secs_f64() * 1e3);
            if peer == Peer::Timebus
                && subscribers == 1
                && let Some(alone) = alone_ms
            {
                report.notes.push(format!("aim: write to subscriber < 2 ms at the median ({alone:.2} ms): {}", verdict(alone < 2.0)));
            }
            let subscriber_kb = row.subscriber_bytes.map(|bytes| bytes / 1e3);
            if peer == Peer::Timebus && subscribers >= 1_000 {
                note_aims(&mut report, rate, reference, p99_ms, subscriber_kb);
            }
            report.rows.push(vec![
                Cell::whole(subscribers as f64),
                Cell::Text(peer.to_string()),
                Cell::whole(rate),
                Cell::maybe(reference.map(|reference| rate / reference), 2),
                Cell::whole(row.published.count as f64 / row.deliveries.elapsed.as_secs_f64()),
                Cell::whole(row.deliveries.operations as f64 / complete * 100.0),
                Cell::maybe(alone_ms, 2),
                Cell::maybe(row.deliveries.latency_us(0.5).map(|micros| micros / 1e3), 2),
                Cell::maybe(p99_ms, 2),
                Cell::maybe(row.deliveries.cpu_us(), 2),
                Cell::whole(row.join_time.as_secs_f64() * 1e6),
                Cell::maybe(subscriber_kb, 1),
                Cell::maybe(row.resident_bytes.map(|bytes| bytes / 1e6), 0),
            ]);
        }
    }
    report
}

fn note_aims(report: &mut Report, rate: f64, nats: Option<f64>, p99_ms: Option<f64>, subscriber_kb: Option<f64>) {
    let mut aims = Vec::new();
    if let Some(nats) = nats {
        aims.push(format!("level with NATS ({:.2} x): {}", rate / nats, verdict(rate >= nats)));
    }
    if let Some(p99) = p99_ms {
        aims.push(format!("p99 < 40 ms ({p99:.1} ms): {}", verdict(p99 < 40.0)));
    }
    if let Some(kb) = subscriber_kb {
        aims.push(format!("<= 16 kB a subscriber ({kb:.1} kB): {}", verdict(kb <= 16.0)));
    }
    report.notes.push(format!("aim at 1 000 subscribers: {}", aims.join("; ")));
}

fn fan_out(options: &Options, peer: Peer, subscribers: usize) -> anyhow::Result<FanOut> {
    let server = peer.start(&options.home(peer), Flush::Never)?;
    let address = server.address;
    if peer == Peer::Timebus {
        // Something to watch, and the first request out of the way.
        let endpoint = Endpoint { address, protocol: Protocol::Http };
        on_one_thread(async move { Connection::open(endpoint).await?.put(TOPIC, b"\"\"").await })?;
    }
    let idle_bytes = server.resident_bytes();
    let progress = Arc::new(Progress::default());
    let time_max = options.row_time + LAST_UPDATE_TIME_MAX;
    let begun = Instant::now();
    let audience = Audience::gather(peer, address, subscribers, &progress, time_max);
    let join_time = begun.elapsed() / subscribers as u32;
    let full_bytes = server.resident_bytes();
    let work = publish(peer, &server, &progress, subscribers as u64, options.row_time);
    let published = match on_one_thread(work) {
        Ok(published) => published,
        Err(error) => {
            let subscriber_failed = progress.failed.load(Ordering::SeqCst);
            // Nothing more will come, and this tells the subscribers.
            drop(server);
            let heard = audience.join();
            let theirs = heard.err().filter(|_| subscriber_failed);
            return Err(theirs.unwrap_or(error));
        }
    };
    let mut deliveries = audience.join()?;
    deliveries.elapsed = published.start.elapsed();
    deliveries.cpu = server.cpu().zip(published.cpu).map(|(after, before)| after - before);
    let grown = full_bytes.zip(idle_bytes).map(|(full, idle)| (full - idle).max(0.0));
    Ok(FanOut {
        deliveries,
        published,
        subscriber_bytes: grown.map(|bytes| bytes / subscribers as f64),
        join_time,
        resident_bytes: server.resident_bytes(),
    })
}

/// All subscribers of one row, on a few threads.
struct Audience {
    threads: Vec<JoinHandle<anyhow::Result<Measured>>>,
}

impl Audience {
    /// Subscribes them all and returns when everyone has, or when someone failed to.
    fn gather(peer: Peer, address: SocketAddr, subscribers: usize, progress: &Arc<Progress>, time_max: Duration) -> Self {
        let threads = THREADS.min(subscribers);
        let ready = Arc::new(Barrier::new(threads + 1));
        let start = |thread| {
            let (ready, progress) = (Arc::clone(&ready), Arc::clone(progress));
            let mine = (thread..subscribers).step_by(threads).count();
            thread::spawn(move || {
                let work = async {
                    let opened = subscribe_all(peer, address, mine).await;
                    if opened.is_err() {
                        progress.fail();
                    }
                    // Looked at only behind the barrier, where the others wait.
                    ready.wait();
                    follow_all(opened?, &progress, time_max).await
                };
                on_one_thread(work)
            })
        };
        let threads = (0..threads).map(start).collect();
        ready.wait();
        Self { threads }
    }

    /// Waits until everyone had the last update.
    fn join(self) -> anyhow::Result<Measured> {
        let mut total = Measured::default();
        let mut failed = None;
        for thread in self.threads {
            match thread.join().map_err(|_| anyhow!("a subscriber thread panicked"))? {
                Ok(measured) => total.merge(&measured),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(total), Err)
    }
}

async fn subscribe_all(peer: Peer, address: SocketAddr, count: usize) -> anyhow::Result<Vec<Subscriber>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let subscribe = timeout(LAST_UPDATE_TIME_MAX, Subscriber::subscribe(peer, address));
        all.push(subscribe.await.context("subscribing takes too long")??);
    }
    Ok(all)
}

async fn follow_all(subscribers: Vec<Subscriber>, progress: &Arc<Progress>, time_max: Duration) -> anyhow::Result<Measured> {
    let total = Rc::new(RefCell::new(Measured::default()));
    let follow_one = |subscriber| {
        let (progress, total) = (Arc::clone(progress), Rc::clone(&total));
        tokio::task::spawn_local(async move {
            let work = timeout(time_max, follow(subscriber, &progress, &total));
            let result = work.await.context("the last update did not come").flatten();
            if result.is_err() {
                progress.fail();
            }
            result
        })
    };
    let tasks: Vec<_> = subscribers.into_iter().map(follow_one).collect();
    for task in tasks {
        task.await??;
    }
    Ok(total.take())
}

/// Takes updates until the last one.
async fn follow(mut subscriber: Subscriber, progress: &Progress, total: &RefCell<Measured>) -> anyhow::Result<()> {
    let (mut newest, mut ended) = (0, false);
    // Where updates begin in messages, which hardly moves.
    let mut usual = 0;
    while !ended {
        let before = newest;
        // `updates` reads only when it has nothing to hand out, so what it hands out is here now.
        let now = clock();
        let take = |message: &[u8]| {
            if !message[usual.min(message.len())..].starts_with(Update::MARK) {
                match find(message, Update::MARK) {
                    Some(at) => usual = at,
                    None => return Ok(()),
                }
            }
            let update = Update::parse(&message[usual..])?;
            ensure!(update.number >= newest, "update {} after {newest}", update.number);
            newest = update.number;
            ended |= update.last;
            if update.number > LONE_UPDATES {
                let mut total = total.borrow_mut();
                total.operations += 1;
                total.latency.add(now.saturating_sub(update.at));
            }
            Ok(())
        };
        subscriber.updates(take).await?;
        if newest > before {
            progress.add(newest - before);
        }
    }
    Ok(())
}

/// Publishes some updates one by one, as many as go through for `time`, and then the last.
async fn publish(peer: Peer, server: &Server, progress: &Progress, subscribers: u64, time: Duration) -> anyhow::Result<Published> {
    let mut publisher = Publisher::open(peer, server.address).await?;
    let seen = async |updates: u64| {
        let seen = timeout(LAST_UPDATE_TIME_MAX, progress.until(updates * subscribers));
        seen.await.context("the subscribers stopped getting updates")?
    };
    let mut lone = Histogram::default();
    for number in 1..=LONE_UPDATES {
        let sent = Instant::now();
        publisher.publish(number, 1, false).await?;
        seen(number).await?;
        lone.add(sent.elapsed());
    }
    // Bursts of half a window: when one is through, the next is on its way already.
    let window = (OUTSTANDING_MAX / subscribers).clamp(2, UPDATES_OUTSTANDING_MAX);
    let burst = window / 2;
    let (start, cpu) = (Instant::now(), server.cpu());
    let mut number = LONE_UPDATES;
    while start.elapsed() < time {
        publisher.publish(number + 1, burst, false).await?;
        number += burst;
        seen(number + burst - window).await?;
    }
    publisher.publish(number + 1, 1, true).await?;
    // Closing earlier could take back what the server has not read yet.
    seen(number + 1).await?;
    Ok(Published { count: number + 1 - LONE_UPDATES, lone, start, cpu })
}
