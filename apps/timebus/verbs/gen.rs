//! gen: random data at some rate, and how long the writes took.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::Method;
use serde_json::json;
use timebus_identity::SecretKey;
use tokio::task::JoinSet;

use crate::Context;
use crate::cli::Gen;
use crate::client::{Client, Home, JSON, Request, Session};
use crate::failure::{Failure, UNREACHABLE};
use crate::generator::{Generator, Made};
use crate::progress::Progress;
use crate::target::Target;

/// How long nobody may answer before a write is given up.
const NOBODY_MAX: Duration = Duration::from_secs(60);
/// How long is waited when nobody answered.
const NOBODY_PAUSE: Duration = Duration::from_millis(100);
/// Writes a second that one connection certainly does.
const RATE_OF_ONE: f64 = 20.0;

/// How often latencies fell into which span; spans grow by a sixteenth of an octave.
#[derive(Debug)]
struct Latencies(Vec<u64>);

impl Latencies {
    const SPANS: usize = 16 * 40;

    fn new() -> Self {
        Self(vec![0; Self::SPANS])
    }

    fn add(&mut self, took: Duration) {
        let us = took.as_micros().max(1) as f64;
        let at = (us.log2() * 16.0).round() as usize;
        self.0[at.min(Self::SPANS - 1)] += 1;
    }

    /// Milliseconds that a share of all writes did not exceed.
    fn percentile_ms(&self, share: f64) -> f64 {
        let total: u64 = self.0.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return (2f64.powf(at as f64 / 16.0) / 10.0).round() / 100.0;
            }
        }
        0.0
    }
}

/// What the connections share.
struct Work {
    generator: Mutex<(Generator, u64)>,
    target: Target,
    rate: f64,
    count: u64,
    began: Instant,
    stopped: AtomicBool,
    latencies: Mutex<Latencies>,
}

impl Work {
    /// The next write and when it is due.
    fn next(&self) -> Option<(Made, Instant)> {
        let mut generator = self.generator.lock().unwrap_or_else(PoisonError::into_inner);
        if generator.1 == self.count || self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let due = match self.rate > 0.0 {
            true => self.began + Duration::from_secs_f64(generator.1 as f64 / self.rate),
            false => self.began,
        };
        generator.1 += 1;
        Some((generator.0.next()?, due))
    }
}

/// Who is written to.
enum Writer {
    /// One peer.
    One(Client),
    /// Whoever answers.
    Any(Anywhere),
}

/// Some peers that have the same, in turn.
struct Anywhere {
    peers: Vec<String>,
    key: Arc<SecretKey>,
    at: usize,
    client: Option<Client>,
}

pub(crate) async fn run(context: &Context, args: Gen) -> anyhow::Result<()> {
    let mut session = Session::open(context, Home::MayBegin).await?;
    let mut writers = Vec::new();
    for _ in 0..connections(&args)? {
        writers.push(Writer::One(session.connect().await?));
    }
    write_all(context, args, writers).await
}

/// The same to several peers, each write to one that answers.
pub(crate) async fn run_anywhere(context: &Context, args: Gen, peers: Vec<String>, key: &Arc<SecretKey>) -> anyhow::Result<()> {
    let count = connections(&args)?.max(peers.len() as u64);
    let writer = |at: u64| Writer::Any(Anywhere { peers: peers.clone(), key: Arc::clone(key), at: at as usize, client: None });
    write_all(context, args, (0..count).map(writer).collect()).await
}

/// Connections that it takes.
fn connections(args: &Gen) -> anyhow::Result<u64> {
    if !args.rate.is_finite() || args.rate < 0.0 {
        return Err(Failure::usage("the rate is a number of writes a second, or 0 for as many as possible").into());
    }
    let needed = if args.rate > 0.0 { (args.rate / RATE_OF_ONE).ceil().max(1.0) as u64 } else { u64::MAX };
    Ok(needed.min(args.connections.into()).min(args.count.unwrap_or(u64::MAX).max(1)))
}

async fn write_all(context: &Context, args: Gen, all: Vec<Writer>) -> anyhow::Result<()> {
    let work = Arc::new(Work {
        generator: Mutex::new((Generator::new(args.shape, args.seed), 0)),
        target: args.path.clone(),
        rate: args.rate,
        count: args.count.unwrap_or(u64::MAX),
        began: Instant::now(),
        stopped: AtomicBool::new(false),
        latencies: Mutex::new(Latencies::new()),
    });
    let progress = Arc::new(Progress::things(context.out, "writing", args.count));
    if args.count.is_none() {
        context.out.note("writing until Ctrl-C");
    }
    let mut writers = JoinSet::new();
    for writer in all {
        writers.spawn(write(writer, Arc::clone(&work), Arc::clone(&progress)));
    }
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut written = 0;
    let mut failed = None;
    loop {
        tokio::select! {
            ended = writers.join_next() => match ended {
                None => break,
                Some(ended) => {
                    let (count, result) = ended.context("a writer was lost")?;
                    written += count;
                    if let Err(error) = result {
                        work.stopped.store(true, Ordering::Relaxed);
                        failed = Some(error);
                    }
                }
            },
            _ = &mut interrupt, if !work.stopped.load(Ordering::Relaxed) => work.stopped.store(true, Ordering::Relaxed),
        }
    }
    progress.done();
    let seconds = work.began.elapsed().as_secs_f64();
    let per_second = (written as f64 / seconds.max(0.001)).round();
    let latencies = work.latencies.lock().unwrap_or_else(PoisonError::into_inner);
    let (p50, p99) = (latencies.percentile_ms(0.5), latencies.percentile_ms(0.99));
    let json = json!({
        "path": args.path.to_string(),
        "written": written,
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "per_second": per_second,
        "latency_ms": {"p50": p50, "p99": p99},
    });
    context.out.result(&json, || format!("wrote {written} in {seconds:.1} s: {per_second} a second, half within {p50} ms, 99 % within {p99} ms"))?;
    match failed {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Writes on one connection until there is nothing to write. Answers how much that was.
async fn write(mut writer: Writer, work: Arc<Work>, progress: Arc<Progress>) -> (u64, anyhow::Result<()>) {
    let mut written = 0;
    while let Some((made, due)) = work.next() {
        tokio::time::sleep_until(due.into()).await;
        if work.stopped.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        if let Err(error) = writer.send(&work.target, &made).await {
            return (written, Err(error));
        }
        work.latencies.lock().unwrap_or_else(PoisonError::into_inner).add(began.elapsed());
        written += 1;
        progress.add(1);
    }
    (written, Ok(()))
}

impl Writer {
    async fn send(&mut self, target: &Target, made: &Made) -> anyhow::Result<()> {
        match self {
            Self::One(client) => send(client, target, made).await,
            Self::Any(anywhere) => anywhere.send(target, made).await,
        }
    }
}

impl Anywhere {
    /// Writes to the peer of the last time, or the next one that answers.
    async fn send(&mut self, target: &Target, made: &Made) -> anyhow::Result<()> {
        let began = Instant::now();
        for tried in 1.. {
            let error = match self.send_to_one(target, made).await {
                Ok(()) => break,
                Err(error) => error,
            };
            self.client = None;
            self.at += 1;
            let failure = Failure::of(&error);
            // Each takes so many a second; with one of them gone the others may get more than that.
            let is_too_fast = failure.status == Some(429);
            if failure.code != UNREACHABLE && !is_too_fast || began.elapsed() > NOBODY_MAX {
                return Err(error);
            }
            if is_too_fast || tried % self.peers.len() == 0 {
                tokio::time::sleep(NOBODY_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn send_to_one(&mut self, target: &Target, made: &Made) -> anyhow::Result<()> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(Client::with_key(&self.peers[self.at % self.peers.len()], &self.key).await?),
        };
        send(client, target, made).await
    }
}

async fn send(client: &mut Client, target: &Target, made: &Made) -> anyhow::Result<()> {
    let method = if made.names.is_empty() { Method::POST } else { Method::PUT };
    let target = made.names.iter().fold(target.clone(), |target, name| target.child(name));
    let mut body = Vec::new();
    made.value.write(&mut body);
    client.send(Request::new(method, target.encoded()).body(JSON, body)?).await?.bytes().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_within_a_few_percent() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentile_ms(0.5), 0.0);
        (1..=1000).for_each(|ms| latencies.add(Duration::from_millis(ms)));
        assert!((480.0..520.0).contains(&latencies.percentile_ms(0.5)));
        assert!((960.0..1020.0).contains(&latencies.percentile_ms(0.99)));
    }
}
