//! `get`, `put` and `put-async`: single documents over 1, 16, 64 and 256 connections.

use std::time::Duration;

use crate::Options;
use crate::connection::{Connection, Endpoint, Protocol};
use crate::documents::{PATHS, Shape, VALUE_BYTES};
use crate::load::{self, Measured, ReadBack, Work, on_one_thread};
use crate::peer::{Flush, Peer};
use crate::report::{Cell, Report, verdict};
use crate::server::Server;

/// What every row of the three tables says.
const COLUMNS: &[&str] =
    &["connections", "peer", "ops/s", "x reference", "p50 us", "p99 us", "cpu us/op", "cpu x reference", "ops/flush", "connect us", "rss MB"];
/// Each row is measured in turns with the others, so that a noisy minute hits all alike.
const TURNS: u32 = 3;

/// One of the three scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requests {
    Get,
    /// Acknowledged means on disk.
    Put,
    /// Acknowledged means accepted.
    PutAsync,
}

/// A server with its documents in place, and what was measured of it.
struct Contender {
    peer: Peer,
    shape: Shape,
    server: Server,
    endpoint: Endpoint,
    measured: Measured,
    flushes: Option<f64>,
    failed: bool,
}

impl Requests {
    fn report(self) -> Report {
        let paths = format!("{VALUE_BYTES}-byte JSON at {PATHS} nested paths, keep-alive");
        match self {
            Self::Get => Report::new("get", format!("{paths}; reference: bare hyper"), COLUMNS),
            Self::Put => Report::new("put", format!("{paths}, answered when on disk; reference: Redis appendfsync always"), COLUMNS),
            Self::PutAsync => Report::new("put-async", format!("{paths}, answered before it is on disk; reference: bare hyper"), COLUMNS),
        }
    }

    /// The reference comes first.
    fn peers(self) -> &'static [Peer] {
        match self {
            Self::Get | Self::PutAsync => &[Peer::Hyper, Peer::Redis, Peer::Timebus],
            Self::Put => &[Peer::Redis, Peer::Etcd, Peer::Timebus],
        }
    }

    fn flush(self) -> Flush {
        match self {
            Self::Get => Flush::Never,
            Self::Put => Flush::Always,
            Self::PutAsync => Flush::Later,
        }
    }

    /// What documents are to a server. Ours writes both kinds: those with members, each of which it keeps as a value of
    /// its own, and for a fair comparison with servers that keep bytes those of one value.
    fn shapes(self, peer: Peer) -> &'static [Shape] {
        if peer == Peer::Timebus && self != Self::Get { &[Shape::Object, Shape::Leaf] } else { &[Shape::Object] }
    }

    fn work(self, peer: Peer, shape: Shape) -> Work {
        let read_back = match peer {
            Peer::Redis | Peer::Timebus if self == Self::PutAsync => ReadBack::Soon,
            Peer::Redis | Peer::Timebus => ReadBack::AtOnce,
            _ => ReadBack::Never,
        };
        match self {
            Self::Get => Work::Get,
            Self::Put | Self::PutAsync => Work::Put { shape, read_back },
        }
    }

    /// Measures all peers at all numbers of connections.
    pub(crate) fn measure(self, options: &Options) -> Report {
        let mut report = self.report();
        let peers = options.installed(self.peers(), &mut report);
        let mut contenders = Vec::new();
        for peer in peers {
            options.progress(&format!("{}: starting {peer}", report.name));
            for &shape in self.shapes(peer) {
                match self.prepare(options, peer, shape) {
                    Ok(contender) => contenders.push(contender),
                    Err(error) => report.errors.push(format!("{peer}: {error:#}")),
                }
            }
        }
        report.notes.push("connect: until a new connection had its first answer; not in the other columns".to_owned());
        if self != Self::Get {
            let note = "timebus: each document is an object with five values, all of which change; timebus, 1 leaf: it is one string";
            report.notes.push(note.to_owned());
        }
        let mut aims = Vec::new();
        for &connections in &options.connections {
            options.progress(&format!("{}: {connections} connections", report.name));
            self.measure_all(options, connections, &mut contenders, &mut report);
            aims.extend(self.aim(connections, &contenders));
            for row in rows(connections, self.peers()[0], &contenders) {
                report.rows.push(row);
            }
        }
        if !aims.is_empty() {
            let aim = match self {
                Self::Get => "aim: at least 0.75 x bare hyper",
                Self::Put => "aim: at least level with Redis at 64 connections",
                Self::PutAsync => "aim: at least 20 000/s",
            };
            report.notes.push(format!("{aim}: {}", aims.join(", ")));
        }
        report
    }

    fn prepare(self, options: &Options, peer: Peer, shape: Shape) -> anyhow::Result<Contender> {
        let server = peer.start(&options.home(peer), self.flush())?;
        let endpoint = |protocol| Endpoint { address: server.address, protocol };
        if matches!(peer, Peer::Redis | Peer::Timebus) {
            load::store_documents(endpoint(peer.protocol()), shape)?;
        }
        let protocol = match peer.protocol() {
            Protocol::Http if self == Self::PutAsync => Protocol::HttpAsync,
            protocol => protocol,
        };
        let endpoint = endpoint(protocol);
        let measured = Measured::default();
        Ok(Contender { peer, shape, server, endpoint, measured, flushes: None, failed: false })
    }

    fn measure_all(self, options: &Options, connections: usize, contenders: &mut [Contender], report: &mut Report) {
        for contender in contenders.iter_mut() {
            contender.measured = Measured::default();
            contender.flushes = None;
        }
        for _ in 0..TURNS {
            for contender in contenders.iter_mut().filter(|contender| !contender.failed) {
                let work = self.work(contender.peer, contender.shape);
                let turn = options.row_time / TURNS;
                if let Err(error) = contender.take_turn(work, connections, turn) {
                    let peer = contender.peer;
                    report.errors.push(format!("{peer}, {connections} connections: {error:#}"));
                    contender.failed = true;
                }
            }
        }
    }

    /// Whether we met the aim with this many connections, where there is one.
    fn aim(self, connections: usize, contenders: &[Contender]) -> Option<String> {
        // Of ours the last: it writes what the others write.
        let of = |peer| contenders.iter().rfind(|c| c.peer == peer && !c.failed);
        let ours = of(Peer::Timebus)?.measured.rate();
        let met = match self {
            Self::PutAsync => ours >= 20_000.0,
            Self::Get => ours >= 0.75 * of(Peer::Hyper)?.measured.rate(),
            Self::Put if connections >= 64 => ours >= of(Peer::Redis)?.measured.rate(),
            Self::Put => return None,
        };
        Some(format!("{} at {connections}", verdict(met)))
    }
}

impl Contender {
    fn name(&self) -> String {
        match self.shape {
            Shape::Object => self.peer.to_string(),
            Shape::Leaf => format!("{}, 1 leaf", self.peer),
        }
    }

    fn take_turn(&mut self, work: Work, connections: usize, time: Duration) -> anyhow::Result<()> {
        let before = flushes(self.peer, &self.server);
        let measured = load::run(&self.server, self.endpoint, work, connections, time)?;
        let after = flushes(self.peer, &self.server);
        if let Some((before, after)) = before.zip(after) {
            *self.flushes.get_or_insert(0.0) += after - before;
        }
        self.measured.merge(&measured);
        Ok(())
    }
}

fn rows(connections: usize, reference: Peer, contenders: &[Contender]) -> Vec<Vec<Cell>> {
    let standing = || contenders.iter().filter(|contender| !contender.failed);
    let reference = standing().find(|contender| contender.peer == reference);
    let row = |contender: &Contender| {
        let measured = &contender.measured;
        let rate = reference.map(|reference| measured.rate() / reference.measured.rate());
        let cpu = reference.and_then(|reference| reference.measured.cpu_us()).zip(measured.cpu_us());
        let flushes = contender.flushes.filter(|flushes| *flushes > 0.0);
        vec![
            Cell::whole(connections as f64),
            Cell::Text(contender.name()),
            Cell::whole(measured.rate()),
            Cell::maybe(rate, 2),
            Cell::maybe(measured.latency_us(0.5), 0),
            Cell::maybe(measured.latency_us(0.99), 0),
            Cell::maybe(measured.cpu_us(), 1),
            Cell::maybe(cpu.map(|(reference, own)| own / reference), 2),
            Cell::maybe(flushes.map(|flushes| measured.operations as f64 / flushes), 1),
            Cell::whole(measured.connect_time.as_secs_f64() * 1e6),
            Cell::maybe(contender.server.resident_bytes().map(|bytes| bytes / 1e6), 0),
        ]
    };
    standing().map(row).collect()
}

/// How often the server flushed its log so far, where it says so in Prometheus' text form.
fn flushes(peer: Peer, server: &Server) -> Option<f64> {
    let (path, name) = match peer {
        Peer::Timebus => ("/.sys/metrics", "timebus_log_syncs_total"),
        Peer::Etcd => ("/metrics", "etcd_disk_wal_fsync_duration_seconds_count"),
        _ => return None,
    };
    let endpoint = Endpoint { address: server.address, protocol: Protocol::Http };
    let text = on_one_thread(async move { Ok(Connection::open(endpoint).await?.get(path).await?.to_vec()) });
    let text = String::from_utf8(text.ok()?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}
