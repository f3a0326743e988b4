//! Many connections that each ask again as soon as they were answered.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::connection::{Connection, Endpoint};
use crate::documents::{self, Dice, PATHS};
use crate::histogram::Histogram;
use crate::server::Server;

/// Threads that make load. The servers run on the same cores, so more would only get in their way.
pub(crate) const THREADS: usize = 2;

/// What each connection asks for, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Read a random document.
    Get,
    /// Write a random document with new content; at the end read back what was written last.
    Put { read_back: bool },
}

/// What a run came to.
#[derive(Clone, Default)]
pub(crate) struct Measured {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Histogram,
    /// CPU time of the server meanwhile.
    pub(crate) cpu: Option<Duration>,
}

impl Measured {
    /// Adds another run of the same work.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.operations += other.operations;
        self.elapsed += other.elapsed;
        self.latency.merge(&other.latency);
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
/// Each connection works on documents of its own.
pub(crate) fn run(
    server: &Server,
    endpoint: Endpoint,
    work: Work,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Measured> {
    let threads = THREADS.min(connections);
    // Everyone has connected, then the server's CPU time is read, then all begin.
    let ready = Arc::new(Barrier::new(threads + 1));
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let ready = Arc::clone(&ready);
            let mine: Vec<usize> = (thread..connections).step_by(threads).collect();
            thread::spawn(move || {
                on_one_thread(async move {
                    let mut opened = Vec::new();
                    for lane in mine {
                        opened.push(Connection::open(endpoint).await.map(|open| (lane, open)));
                    }
                    ready.wait();
                    ready.wait();
                    // Looked at only now: who does not come to the barrier leaves all others there.
                    let opened = opened.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
                    let end = Instant::now() + time;
                    let lanes = opened.into_iter().map(|(lane, connection)| {
                        tokio::task::spawn_local(ask_until(
                            end,
                            connection,
                            work,
                            lane,
                            connections,
                        ))
                    });
                    let lanes: Vec<_> = lanes.collect();
                    let mut total = Measured::default();
                    for lane in lanes {
                        total.merge(&lane.await??);
                    }
                    Ok::<_, anyhow::Error>(total)
                })
            })
        })
        .collect();
    ready.wait();
    let (start, cpu) = (Instant::now(), server.cpu());
    ready.wait();
    let mut total = Measured::default();
    let mut failed = None;
    for thread in running {
        match thread
            .join()
            .map_err(|_| anyhow!("a load thread panicked"))?
        {
            Ok(measured) => total.merge(&measured),
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    total.elapsed = start.elapsed();
    total.cpu = server.cpu().zip(cpu).map(|(after, before)| after - before);
    ensure!(total.operations > 0, "no operation finished in {time:?}");
    Ok(total)
}

/// One connection's part of [`run`]: the documents of `lane`, out of `lanes`.
async fn ask_until(
    end: Instant,
    mut connection: Connection,
    work: Work,
    lane: usize,
    lanes: usize,
) -> anyhow::Result<Measured> {
    let paths: Vec<String> = (lane..PATHS).step_by(lanes).map(documents::path).collect();
    let mut dice = Dice::new(lane as u64);
    let mut document = Vec::new();
    let mut measured = Measured::default();
    let mut last = &paths[0];
    let mut body_bytes = None;
    let mut now = Instant::now();
    while now < end {
        let roll = dice.roll();
        last = &paths[roll as usize % paths.len()];
        match work {
            Work::Get => {
                let length = connection.get(last).await?.len();
                // A store may write the same JSON in another length, but not now so and now so.
                let usual = *body_bytes.get_or_insert(length);
                ensure!(
                    length == usual,
                    "{length} bytes at {last}, {usual} elsewhere"
                );
            }
            Work::Put { .. } => {
                documents::document(roll >> 20, &mut document);
                connection.put(last, &document).await?;
            }
        }
        let before = std::mem::replace(&mut now, Instant::now());
        measured.latency.add(now - before);
        measured.operations += 1;
    }
    if work == (Work::Put { read_back: true }) && measured.operations > 0 {
        expect_document(&mut connection, last, &document).await?;
    }
    Ok(measured)
}

/// Writes the documents of all [`PATHS`] and checks that they read back.
pub(crate) fn store_documents(endpoint: Endpoint) -> anyhow::Result<()> {
    /// Enough for a store that flushes to disk for many writers at once.
    const WRITERS: usize = 32;
    on_one_thread(async move {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::task::spawn_local(async move {
                    let mut connection = Connection::open(endpoint).await?;
                    let mut document = Vec::new();
                    for index in (writer..PATHS).step_by(WRITERS) {
                        documents::document(index as u64, &mut document);
                        connection.put(&documents::path(index), &document).await?;
                    }
                    for index in (writer..PATHS).step_by(WRITERS * 10) {
                        documents::document(index as u64, &mut document);
                        expect_document(&mut connection, &documents::path(index), &document)
                            .await?;
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
async fn expect_document(
    connection: &mut Connection,
    path: &str,
    document: &[u8],
) -> anyhow::Result<()> {
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
