//! Many connections that each ask again as soon as they were answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::connection::{Connection, Endpoint};
use crate::documents::{self, Dice, PATHS, Shape};
use crate::histogram::Histogram;
use crate::server::Server;

/// Threads that make load. The servers run on the same cores, so more would only get in their way.
pub(crate) const THREADS: usize = 2;

/// What each connection asks for, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Read a random document.
    Get,
    /// Write a random document with new content.
    Put { shape: Shape, read_back: ReadBack },
}

/// Whether each connection reads what it wrote last when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadBack {
    /// The server keeps nothing, or we cannot ask.
    Never,
    AtOnce,
    /// What is acknowledged before it is on disk may be seen a moment later.
    Soon,
}

/// How long that moment may be.
const SOON: Duration = Duration::from_secs(10);
/// Counts runs, so that no run writes what another one wrote before: that would be no change.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// What a run came to.
#[derive(Clone, Default)]
pub(crate) struct Measured {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Histogram,
    /// Until a connection was open and had its first answer.
    pub(crate) connect_time: Duration,
    /// CPU time of the server meanwhile.
    pub(crate) cpu: Option<Duration>,
}

impl Measured {
    /// Adds what another connection did at the same time.
    fn join(&mut self, other: &Self) {
        let elapsed = self.elapsed.max(other.elapsed);
        self.merge(other);
        self.elapsed = elapsed;
    }

    /// Adds another run of the same work.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.operations += other.operations;
        self.elapsed += other.elapsed;
        self.latency.merge(&other.latency);
        self.connect_time = self.connect_time.max(other.connect_time);
        self.cpu = match (self.cpu, other.cpu) {
            (Some(mine), Some(theirs)) => Some(mine + theirs),
            (mine, theirs) => mine.or(theirs),
        };
    }

    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// Server CPU time for one operation, in microseconds.
    pub(crate) fn cpu_us(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() * 1e6 / self.operations as f64)
    }

    /// A quantile of the latency in microseconds.
    pub(crate) fn latency_us(&self, share: f64) -> Option<f64> {
        Some(self.latency.quantile(share)?.as_secs_f64() * 1e6)
    }
}

/// Keeps `connections` busy with `work` for `time`.
///
/// Each connection works on documents of its own, and has had one answer before the time begins.
pub(crate) fn run(server: &Server, endpoint: Endpoint, work: Work, connections: usize, time: Duration) -> anyhow::Result<Measured> {
    let threads = THREADS.min(connections);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    // Everyone has connected, then the server's CPU time is read, then all begin.
    let ready = Arc::new(Barrier::new(threads + 1));
    let start = |thread| {
        let ready = Arc::clone(&ready);
        thread::spawn(move || {
            on_one_thread(async move {
                let lanes = (thread..connections).step_by(threads);
                let opened = Lane::open_all(endpoint, work, run, lanes, connections).await;
                ready.wait();
                ready.wait();
                // Looked at only now: who does not come to the barrier leaves all others there.
                let (lanes, connect_time) = opened?;
                let end = Instant::now() + time;
                let lanes = lanes.into_iter().map(|lane| lane.ask_until(end));
                let lanes: Vec<_> = lanes.map(tokio::task::spawn_local).collect();
                let mut total = Measured { connect_time, ..Measured::default() };
                for lane in lanes {
                    total.join(&lane.await??);
                }
                Ok::<_, anyhow::Error>(total)
            })
        })
    };
    let running: Vec<_> = (0..threads).map(start).collect();
    ready.wait();
    let cpu = server.cpu();
    ready.wait();
    let mut total = Measured::default();
    let mut failed = None;
    for thread in running {
        match thread.join().map_err(|_| anyhow!("a load thread panicked"))? {
            Ok(measured) => total.join(&measured),
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    total.cpu = server.cpu().zip(cpu).map(|(after, before)| after - before);
    ensure!(total.operations > 0, "no operation finished in {time:?}");
    Ok(total)
}

/// One connection's part of [`run`].
struct Lane {
    connection: Connection,
    work: Work,
    paths: Vec<String>,
    dice: Dice,
    document: Vec<u8>,
    /// Which of `paths` was used last.
    last: usize,
    body_bytes: Option<usize>,
}

impl Lane {
    /// Opens those of `lanes` out of `count`; returns also how long one took at the median.
    async fn open_all(
        endpoint: Endpoint,
        work: Work,
        run: u64,
        lanes: impl Iterator<Item = usize>,
        count: usize,
    ) -> anyhow::Result<(Vec<Self>, Duration)> {
        let mut opened = Vec::new();
        let mut times = Histogram::default();
        for lane in lanes {
            let start = Instant::now();
            let mut lane = Self {
                connection: Connection::open(endpoint).await?,
                work,
                paths: (lane..PATHS).step_by(count).map(documents::path).collect(),
                dice: Dice::new(run << 32 | lane as u64),
                document: Vec::new(),
                last: 0,
                body_bytes: None,
            };
            lane.ask().await?;
            times.add(start.elapsed());
            opened.push(lane);
        }
        Ok((opened, times.quantile(0.5).unwrap_or_default()))
    }

    async fn ask_until(mut self, end: Instant) -> anyhow::Result<Measured> {
        let mut measured = Measured::default();
        let start = Instant::now();
        let mut now = start;
        while now < end {
            self.ask().await?;
            let before = std::mem::replace(&mut now, Instant::now());
            measured.latency.add(now - before);
            measured.operations += 1;
        }
        measured.elapsed = now - start;
        self.read_back().await?;
        Ok(measured)
    }

    async fn ask(&mut self) -> anyhow::Result<()> {
        let roll = self.dice.roll();
        self.last = roll as usize % self.paths.len();
        let path = &self.paths[self.last];
        match self.work {
            Work::Get => {
                let length = self.connection.get(path).await?.len();
                // A store may write the same JSON in another length, but not now so and now so.
                let usual = *self.body_bytes.get_or_insert(length);
                ensure!(length == usual, "{length} bytes at {path}, {usual} elsewhere");
                Ok(())
            }
            Work::Put { shape, .. } => {
                documents::document(shape, roll >> 20, &mut self.document);
                self.connection.put(path, &self.document).await
            }
        }
    }

    async fn read_back(&mut self) -> anyhow::Result<()> {
        let patience = match self.work {
            Work::Get | Work::Put { read_back: ReadBack::Never, .. } => return Ok(()),
            Work::Put { read_back: ReadBack::AtOnce, .. } => Duration::ZERO,
            Work::Put { read_back: ReadBack::Soon, .. } => SOON,
        };
        let start = Instant::now();
        let path = &self.paths[self.last];
        loop {
            match expect_document(&mut self.connection, path, &self.document).await {
                Err(_) if start.elapsed() < patience => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                result => return result,
            }
        }
    }
}

/// Writes the documents of all [`PATHS`] and checks that they read back.
pub(crate) fn store_documents(endpoint: Endpoint, shape: Shape) -> anyhow::Result<()> {
    /// Enough for a store that flushes to disk for many writers at once.
    const WRITERS: usize = 32;
    on_one_thread(async move {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::task::spawn_local(async move {
                    let mut connection = Connection::open(endpoint).await?;
                    let mut document = Vec::new();
                    for index in (writer..PATHS).step_by(WRITERS) {
                        documents::document(shape, index as u64, &mut document);
                        connection.put(&documents::path(index), &document).await?;
                    }
                    for index in (writer..PATHS).step_by(WRITERS * 10) {
                        documents::document(shape, index as u64, &mut document);
                        expect_document(&mut connection, &documents::path(index), &document).await?;
                    }
                    Ok::<_, anyhow::Error>(())
                })
            })
            .collect();
        for writer in writers {
            writer.await??;
        }
        Ok(())
    })
}

/// Reads `path` and compares it with `document` as JSON.
async fn expect_document(connection: &mut Connection, path: &str, document: &[u8]) -> anyhow::Result<()> {
    let found: serde_json::Value = serde_json::from_slice(connection.get(path).await?)?;
    let expected: serde_json::Value = serde_json::from_slice(document)?;
    ensure!(found == expected, "{path} is {found}, not {expected}");
    Ok(())
}

/// Runs `work` and what it spawns locally on this thread.
pub(crate) fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Boxed, because it may be large and this frame outlives it.
    let work: Pin<Box<dyn Future<Output = anyhow::Result<T>>>> = Box::pin(work);
    LocalSet::new().block_on(&runtime, work)
}
