//! Compares timebus with other servers on this machine, all in one run: `cargo bench`.
//!
//! Each server is a process of its own on 127.0.0.1 with its data in a temporary folder on the
//! disk that holds `target`. The load comes from this process. Rates depend on what else the
//! machine does; the ratios within one run, CPU time per operation and operations per flush do
//! much less.
//!
//! ```text
//! cargo bench                                   everything, some ten minutes and what building others' programs takes
//! cargo bench --bench peers -- --quick          a smoke test, half a minute
//! cargo bench --bench peers -- --only get,put   some scenarios
//! cargo bench --bench peers -- --json           one JSON document in place of tables
//! cargo bench --bench peers -- --help           the rest
//! ```
//!
//! A server that is not installed is named and left out. Being slow is reported and no failure;
//! a wrong answer is.
//!
//! `sync` also builds and runs `tests/bench/automerge`, and `texts` `tests/bench/editors`, which have workspaces of their own.
//!
//! It does not say how timebus does under faults, with many peers or over a real network.

mod bare_hyper;
mod connection;
mod documents;
mod fanout;
mod feed;
mod histogram;
mod load;
#[path = "../meeting.rs"]
mod meeting;
mod million;
#[path = "../networks.rs"]
mod networks;
mod pages;
mod peer;
mod publisher;
mod report;
mod requests;
mod revoke;
mod server;
mod subscriber;
mod swarm;
mod sync;
mod texts;

use std::cell::Cell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, io, thread};

use clap::{Parser, ValueEnum};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::peer::Peer;
use crate::report::Report;
use crate::requests::Requests;

/// As in the program that is measured: stores that run in this process would be slower than there with another one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Enough for a thousand subscribers at both ends, and for servers that ask for more.
const OPEN_FILES: u64 = 16_384;

/// Compares timebus with other servers on this machine.
#[derive(Parser)]
#[command(name = "peers")]
struct Arguments {
    /// Only these scenarios
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Only these peers
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// A smoke test: short rows, few connections, few paths
    #[arg(long)]
    quick: bool,
    /// Seconds for each row
    #[arg(long)]
    seconds: Option<f64>,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',')]
    connections: Option<Vec<usize>>,
    /// Numbers of subscribers
    #[arg(long, value_delimiter = ',')]
    subscribers: Option<Vec<usize>>,
    /// Paths for the scenario `million`, a multiple of 1 000
    #[arg(long)]
    paths: Option<u64>,
    /// One JSON document on standard output in place of tables
    #[arg(long)]
    json: bool,
    /// Where the servers keep their data meanwhile
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    folder: PathBuf,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Get,
    Put,
    PutAsync,
    Fanout,
    Million,
    Sync,
    SyncLinks,
    Texts,
    Revoke,
    Pages,
    Swarm,
    Feed,
}

/// What the scenarios need to know of the command line.
struct Options {
    row_time: Duration,
    is_quick: bool,
    peers: Vec<Peer>,
    connections: Vec<usize>,
    subscribers: Vec<usize>,
    paths: u64,
    folder: PathBuf,
    homes: Cell<usize>,
}

impl Options {
    fn new(arguments: &Arguments, folder: &Path) -> Self {
        let or = |quick, thorough| if arguments.quick { quick } else { thorough };
        let seconds = arguments.seconds.unwrap_or(or(0.3, 3.0));
        let all = |numbers: &Option<Vec<usize>>, quick: &[usize], thorough: &[usize]| {
            let default = if arguments.quick { quick } else { thorough };
            numbers.clone().unwrap_or_else(|| default.to_vec())
        };
        Self {
            row_time: Duration::from_secs_f64(seconds),
            is_quick: arguments.quick,
            peers: arguments.peers.clone(),
            connections: all(&arguments.connections, &[1, 16], &[1, 16, 64, 256]),
            subscribers: all(&arguments.subscribers, &[1, 20], &[1, 100, 1_000]),
            paths: arguments.paths.unwrap_or(if arguments.quick { 10_000 } else { 1_000_000 }),
            folder: folder.to_owned(),
            homes: Cell::new(0),
        }
    }

    /// Those of `peers` that were asked for and are there; says in `report` who is not.
    fn installed(&self, peers: &[Peer], report: &mut Report) -> Vec<Peer> {
        let wanted = |peer: &Peer| self.peers.is_empty() || self.peers.contains(peer);
        let mut there: Vec<Peer> = peers.iter().copied().filter(wanted).collect();
        there.retain(|peer| match peer.missing() {
            // There is no benchmark without the one it is for.
            Some(why) if *peer == Peer::Timebus => {
                report.errors.push(why.to_owned());
                false
            }
            Some(why) => {
                report.notes.push(format!("skipped: {why}"));
                false
            }
            None => true,
        });
        there
    }

    /// A new place for a server's data.
    fn home(&self, peer: Peer) -> PathBuf {
        self.homes.set(self.homes.get() + 1);
        self.folder.join(format!("{}-{peer}", self.homes.get()))
    }

    /// Says what is going on to whoever waits.
    fn progress(&self, what: &str) {
        // Without a terminal there is nobody to tell.
        let _ = writeln!(io::stderr(), "{what}");
    }
}

fn main() -> anyhow::Result<ExitCode> {
    if env::args().nth(1).is_some_and(|argument| argument == bare_hyper::ARGUMENT) {
        bare_hyper::serve()?;
    }
    if let (Some(swarm::TRACKER), Some(port)) = (env::args().nth(1).as_deref(), env::args().nth(2)) {
        swarm::track(&port)?;
    }
    let arguments = Arguments::parse();
    raise_open_files()?;
    fs::create_dir_all(&arguments.folder)?;
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    clean_up_when_interrupted(folder.path().to_owned());
    let options = Options::new(&arguments, folder.path());

    let cores = thread::available_parallelism()?;
    let flush_us = peer::flush_time(folder.path())?.as_micros();
    let machine = format!("{cores} cores, shared by servers and load; 4 KiB on disk takes {flush_us} us; {} a row", humane(options.row_time),);
    if !arguments.json {
        writeln!(io::stdout(), "{machine}")?;
    }
    let mut reports = Vec::new();
    for scenario in Scenario::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(scenario) {
            continue;
        }
        let report = match scenario {
            Scenario::Get => Requests::Get.measure(&options),
            Scenario::Put => Requests::Put.measure(&options),
            Scenario::PutAsync => Requests::PutAsync.measure(&options),
            Scenario::Fanout => fanout::measure(&options),
            Scenario::Million => million::measure(&options),
            Scenario::Sync => sync::measure(&options),
            Scenario::SyncLinks => sync::measure_links(&options),
            Scenario::Texts => texts::measure(&options),
            Scenario::Revoke => revoke::measure(&options),
            Scenario::Pages => pages::measure(&options),
            Scenario::Swarm => swarm::measure(&options),
            Scenario::Feed => feed::measure(&options),
        };
        if !arguments.json {
            write!(io::stdout(), "{}", report.text())?;
        }
        reports.push(report);
    }
    if arguments.json {
        let reports_json: Vec<_> = reports.iter().map(Report::json).collect();
        let all = json!({ "machine": machine, "scenarios": reports_json });
        writeln!(io::stdout(), "{all:#}")?;
    }
    let failed = reports.iter().any(|report| !report.errors.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `3 s` or `0.3 s`.
fn humane(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// A thousand subscribers need more files than many systems allow by default.
fn raise_open_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < OPEN_FILES) {
        limit.current = Some(limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES)));
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

/// Ctrl-C and SIGTERM drop nothing, so what dropping would do is done here.
fn clean_up_when_interrupted(folder: PathBuf) {
    thread::spawn(move || {
        load::on_one_thread(async move {
            let mut terminated = signal(SignalKind::terminate())?;
            tokio::select! {
                pressed = tokio::signal::ctrl_c() => pressed?,
                _ = terminated.recv() => {}
            }
            let _no_more = server::kill_all();
            // What cannot be removed stays; there is nobody left to do more.
            let _ = fs::remove_dir_all(folder);
            std::process::exit(130);
            #[expect(unreachable_code, reason = "gives the block its type")]
            Ok(())
        })
    });
}
