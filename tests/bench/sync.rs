//! `sync`: two replicas with much in common and some changes that only one of them has, beside the sync of
//! automerge and of iroh-docs.
//!
//! Both replicas are in this process, with real stores on disk, and each frame is handed from one to the other: what
//! is counted is what would go over a wire. A second table has real peers on loopback: see [`measure_links`].

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path as File;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use timebus_identity::{Keys, PublicKey, SecretKey, Signed, Verified};
use timebus_store::change::Change;
use timebus_store::grant::{Actions, Audience, Grant, Scope, Timelines};
use timebus_store::json::Json;
use timebus_store::op::Op;
use timebus_store::path::Path;
use timebus_store::store::{Config, Store, lock_home};
use timebus_store::writer::{Action, Condition, Offered, Request, Statement};

use crate::Options;
use crate::histogram::Histogram;
use crate::load::on_one_thread;
use crate::meeting::{Cost, Site, Takes, meet};
use crate::peer::{Flush, Peer};
use crate::publisher::{Publisher, Update, clock};
use crate::report::{Cell, Report, verdict};
use crate::server::Server;
use crate::subscriber::{Subscriber, TOPIC};

/// Changes that both replicas have.
const COMMON: usize = 100_000;
const COMMON_QUICK: usize = 5_000;
/// Changes that only one has, half of them here and half there.
const DIFFERENT: [usize; 3] = [10, 1_000, 10_000];
/// Most bytes on the wire for each byte of the missing changes, first meeting.
const RATIO_AIMS: [f64; 3] = [3.0, 1.05, 1.02];
/// The same for replicas that met before.
const RATIO_AIM_AGAIN: f64 = 1.02;
/// Signed changes a core takes in each second.
const INTAKE_AIM: f64 = 15_000.0;
/// Changes that are offered to a store at once, as frames bring them.
const OFFERED: usize = 256;
/// Entries that a fresh peer fetches.
const ENTRIES: usize = 1_000;
/// Lone updates from one peer to a subscriber of another.
const UPDATES: u64 = 500;
/// How long anything on loopback may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store on disk, and what its futures run on.
struct Kept {
    store: Store,
    runtime: tokio::runtime::Handle,
}

impl Takes for Kept {
    fn store(&self) -> &Store {
        &self.store
    }

    fn offer(&mut self, changes: Vec<Verified<Change>>) -> Offered {
        self.runtime.block_on(self.store.offer(changes)).expect("the disk takes it")
    }
}

fn open(home: &File, runtime: &tokio::runtime::Runtime) -> anyhow::Result<(Kept, SecretKey)> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(home)?;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700))?;
    let store = Store::open(home, lock_home(home)?, &Config::default(), 1, &mut |_| {})?;
    let keys = Keys::create_or_open(&home.join("keys"))?;
    Ok((Kept { store, runtime: runtime.handle().clone() }, SecretKey::from_seed(*keys.device().seed())))
}

/// Writes so many values, each in a change of its own.
fn write(kept: &Kept, space: &PublicKey, who: &str, first: usize, count: usize) -> anyhow::Result<()> {
    let held = kept.store.held(space).context("the space is not here")?;
    kept.runtime.block_on(async {
        for number in first..first + count {
            let request = Request {
                space: Some(held),
                path: Path::parse(&format!("/{who}/{}/{}", number / 1000, number % 1000))?,
                action: Action::Put(Json::String(format!("value {number}"))),
                parents: None,
                label: None,
                condition: Condition::None,
                time_ms: 1_800_000_000_000 + number as u64,
                // The last one waits for the disk, and so for all of them.
                durable: number + 1 == first + count,
                may_name: None,
            };
            kept.store.write(request).await?;
        }
        Ok(())
    })
}

/// The changes of a space from an arrival number on, as signed.
fn records(kept: &Kept, space: &PublicKey, from: u64) -> anyhow::Result<(Vec<Vec<u8>>, u64)> {
    let held = kept.store.held(space).context("the space is not here")?;
    let rows = kept.store.snapshot();
    let (mut records, mut end) = (Vec::new(), from);
    for change in kept.store.changes(&rows, held.main(), from) {
        let (a, _) = change?;
        records.push(kept.store.record(&rows, held.main(), a)?);
        end = a + 1;
    }
    Ok((records, end))
}

/// CPU time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// Two replicas of one space.
struct Pair {
    sites: [Site<Kept>; 2],
    devices: [SecretKey; 2],
    space: PublicKey,
    written: usize,
    ends: [u64; 2],
    meetings: u64,
    _runtime: tokio::runtime::Runtime,
}

impl Pair {
    /// With so many common changes. Also how many of these the second took in each second, and each second of CPU.
    fn new(options: &Options, common: usize) -> anyhow::Result<(Self, [f64; 2])> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (one, one_device) = open(&options.home(Peer::Timebus), &runtime)?;
        let (other, other_device) = open(&options.home(Peer::Timebus), &runtime)?;
        let space = one.store.space();
        let grant = Grant {
            audience: Audience::Key(other_device.public()),
            scope: Scope::everything(),
            timelines: Timelines::All,
            actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: 0,
            depth: 0,
            label: "writer".into(),
        };
        runtime.block_on(one.store.state(Statement::Ops(vec![Op::Grant(grant)]), 1))?;
        let devices = [one_device, other_device];
        let sites = [Site::new(one, &devices[0]), Site::new(other, &devices[1])];
        let mut pair = Self { sites, devices, space, written: 0, ends: [1; 2], meetings: 0, _runtime: runtime };
        pair.forget();
        pair.meet();
        write(&pair.sites[0].keeps, &space, "common", 0, common)?;
        let (records, end) = records(&pair.sites[0].keeps, &space, 1)?;
        let (begun, cpu_begun) = (Instant::now(), cpu());
        for some in records.chunks(OFFERED) {
            let changes: Result<Vec<Signed<Change>>, _> = some.iter().map(|record| Change::decode(record)).collect();
            let good: Result<Vec<Verified<Change>>, _> = changes?.into_iter().map(Signed::verify).collect();
            let offered = pair.sites[1].keeps.offer(good?);
            ensure!(offered.admitted.len() == some.len(), "{} of {} changes were taken in", offered.admitted.len(), some.len());
        }
        let rate = |time: Duration| records.len() as f64 / time.as_secs_f64();
        let intake = [rate(begun.elapsed()), rate(cpu() - cpu_begun)];
        pair.ends = [end, crate::sync::records(&pair.sites[1].keeps, &space, 1)?.1];
        Ok((pair, intake))
    }

    fn meet(&mut self) -> Cost {
        self.meetings += 1;
        let [one, other] = &mut self.sites;
        meet(one, other, self.meetings)
    }

    /// Takes from both sides what they remember of each other.
    fn forget(&mut self) {
        let keys = [self.sites[0].node_key(), self.sites[1].node_key()];
        let [one, other] = &mut self.sites;
        for (site, device) in [one, other].into_iter().zip(&self.devices) {
            site.node = crate::meeting::newcomer(self.space, device);
            site.follow(self.space, &keys);
        }
    }

    /// Lets each side write half of so many changes, and both meet. Also the bytes of these changes, and the time.
    fn differ_and_meet(&mut self, different: usize) -> anyhow::Result<(Cost, u64, Duration)> {
        let mut bytes = 0;
        let half = different / 2;
        let mut ends = [0; 2];
        for (side, who) in ["left", "right"].into_iter().enumerate() {
            write(&self.sites[side].keeps, &self.space, who, self.written, half)?;
            let (records, _) = records(&self.sites[side].keeps, &self.space, self.ends[side])?;
            ensure!(records.len() == half, "{} changes were made, not {half}", records.len());
            bytes += records.iter().map(|record| record.len() as u64).sum::<u64>();
        }
        self.written += half;
        let begun = Instant::now();
        let cost = self.meet();
        let took = begun.elapsed();
        ensure!(cost.admitted == 2 * half as u64, "{} changes went over, not {}", cost.admitted, 2 * half);
        for (end, site) in ends.iter_mut().zip(&self.sites) {
            let held = site.store().held(&self.space).context("the space is not here")?;
            let rows = site.store().snapshot();
            *end = timebus_store::tips::heads(&*rows, held.main())?.into_iter().max().unwrap_or(0) + 1;
        }
        self.ends = ends;
        Ok((cost, bytes, took))
    }
}

/// Bytes, round trips and time until two replicas have the same.
pub(crate) fn measure(options: &Options) -> Report {
    let common = if options.is_quick { COMMON_QUICK } else { COMMON };
    let mut report = Report::new(
        "sync",
        format!("two replicas with {common} common changes and some that only one has, half on each side"),
        &["different", "met before", "what", "bytes missing", "bytes sent", "ratio", "aim", "round trips", "ms", "changes/s"],
    );
    options.progress("sync: timebus");
    if let Err(error) = timebus(options, common, &mut report) {
        report.errors.push(format!("timebus: {error:#}"));
    }
    for other in ["automerge", "iroh-docs"] {
        options.progress(&format!("sync: {other}"));
        if let Err(error) = beside(options, other, common, &mut report) {
            report.notes.push(format!("skipped: {other} ({error:#})"));
        }
    }
    report.notes.push(
        "timebus checks signatures, writes and syncs to disk, and keeps an index; automerge merges in memory and signs nothing; iroh-docs checks \
         signatures, keeps its entries in memory and remembers nothing of whom it met. A round trip is counted from the first request, after the \
         handshake, to the last change that was stored"
            .to_owned(),
    );
    report
}

/// What one meeting took.
struct Meeting {
    different: usize,
    /// Whether both had met before.
    again: bool,
    /// Bytes of the changes that were missing.
    missing: f64,
    /// Bytes that went over the wire.
    sent: f64,
    round_trips: f64,
    took: Duration,
}

fn row(report: &mut Report, what: &str, meeting: &Meeting) {
    let Meeting { different, again, missing, sent, round_trips, took } = *meeting;
    let at = DIFFERENT.iter().position(|number| *number == different).unwrap_or(0);
    let aim = if again { RATIO_AIM_AGAIN } else { RATIO_AIMS[at] };
    let ratio = sent / missing;
    report.rows.push(vec![
        Cell::whole(different as f64),
        Cell::Text(if again { "yes" } else { "no" }.to_owned()),
        Cell::Text(what.to_owned()),
        Cell::whole(missing),
        Cell::whole(sent),
        Cell::Number(ratio, 3),
        Cell::Text(format!("{aim:.2} {}", verdict(ratio <= aim))),
        Cell::Number(round_trips, 1),
        Cell::Number(took.as_secs_f64() * 1e3, 1),
        Cell::whole(different as f64 / took.as_secs_f64()),
    ]);
}

fn timebus(options: &Options, common: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut pair, [rate, rate_cpu]) = Pair::new(options, common)?;
    for again in [false, true] {
        for different in DIFFERENT {
            if !again {
                pair.forget();
            }
            let (cost, missing, took) = pair.differ_and_meet(different)?;
            let (missing, sent, round_trips) = (missing as f64, cost.bytes as f64, cost.flights as f64 / 2.0);
            row(report, "timebus", &Meeting { different, again, missing, sent, round_trips, took });
        }
    }
    report.notes.push(format!(
        "timebus took in {rate:.0} signed changes a second, {rate_cpu:.0} for each second of CPU (aim {INTAKE_AIM}: {})",
        verdict(rate_cpu >= INTAKE_AIM)
    ));
    Ok(())
}

/// Builds and runs another system's program beside this file, which is no part of the workspace: its dependencies would
/// change those of everything else.
fn beside(options: &Options, other: &str, common: usize, report: &mut Report) -> anyhow::Result<()> {
    let manifest = File::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench").join(other).join("Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = File::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{other}-sync"));
    let mut command = Command::new(cargo);
    command
        .args(["run", "--release", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", target)
        .current_dir(&options.folder);
    command.arg("--").arg(common.to_string()).args(DIFFERENT.map(|number| number.to_string()));
    let output = command.output()?;
    ensure!(output.status.success(), "it does not build here: {}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default());
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let number = |name: &str| line[name].as_f64().with_context(|| format!("no {name}"));
        let took = Duration::from_secs_f64(number("ms")? / 1e3);
        let again = line["again"] == true;
        let (different, missing) = (number("different")? as usize, number("missing")?);
        row(report, other, &Meeting { different, again, missing, sent: number("sent")?, round_trips: number("round_trips")?, took });
    }
    Ok(())
}

/// Two peers on loopback: how long until a fresh one has everything, and until a subscriber sees a write.
pub(crate) fn measure_links(options: &Options) -> Report {
    let mut report = Report::new("sync-links", "two peers, each a process, on loopback", &["what", "p50 ms", "p99 ms", "aim"]);
    options.progress("sync-links: timebus");
    if options.installed(&[Peer::Timebus], &mut report).is_empty() {
        return report;
    }
    if let Err(error) = links(options, &mut report) {
        report.errors.push(format!("{error:#}"));
    }
    report
}

/// A request and the JSON of its answer, on a connection of its own.
fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let kind = "Content-Type: application/json";
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok((status, body.to_owned()))
}

fn post(server: &Server, path: &str, body: &Value) -> anyhow::Result<Value> {
    let (status, answer) = ask(server.address, "POST", path, &body.to_string())?;
    ensure!(status == 200, "{path}: {status} {answer}");
    Ok(serde_json::from_str(&answer)?)
}

fn links(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let one = Peer::Timebus.start(&options.home(Peer::Timebus), Flush::Always)?;
    for number in 0..ENTRIES {
        let (status, answer) = ask(one.address, "PUT", &format!("/bench/small/{number}"), &number.to_string())?;
        ensure!(status < 300, "{status} {answer}");
    }
    ask(one.address, "PUT", TOPIC, "\"\"")?;
    let other = Peer::Timebus.start(&options.home(Peer::Timebus), Flush::Always)?;
    let invite = post(&one, "/.sys/invites", &json!({"role": "read"}))?;
    let link = invite["link"].as_str().context("no link")?;
    let begun = Instant::now();
    let card = post(&other, "/.sys/join", &json!({"link": link, "confirm": true}))?;
    let space = card["space"].as_str().context("no space")?;
    let last = format!("/@{space}/bench/small/{}", ENTRIES - 1);
    while ask(other.address, "GET", &last, "")?.0 != 200 {
        ensure!(begun.elapsed() < PATIENCE, "the last entry does not come");
    }
    let fetched = begun.elapsed().as_secs_f64() * 1e3;
    report.rows.push(vec![
        Cell::Text(format!("{ENTRIES} entries to a peer that was just invited")),
        Cell::Number(fetched, 1),
        Cell::Absent,
        Cell::Text(format!("300 {}", verdict(fetched < 300.0))),
    ]);
    let latency = updates(&one, &other, &format!("/@{space}{TOPIC}"))?;
    let ms = |share| latency.quantile(share).map(|time| time.as_secs_f64() * 1e3);
    report.rows.push(vec![
        Cell::Text(format!("{UPDATES} lone updates to a subscriber of the other peer")),
        Cell::maybe(ms(0.5), 2),
        Cell::maybe(ms(0.99), 2),
        Cell::Text(format!("p50 5 {}", verdict(ms(0.5).is_some_and(|ms| ms < 5.0)))),
    ]);
    Ok(())
}

fn updates(one: &Server, other: &Server, topic: &str) -> anyhow::Result<Histogram> {
    on_one_thread(async {
        let mut subscriber = Subscriber::watch(other.address, topic).await?;
        let mut publisher = Publisher::open(Peer::Timebus, one.address).await?;
        let mut latency = Histogram::default();
        for number in 1..=UPDATES {
            publisher.publish(number, 1, number == UPDATES).await?;
            let mut came = 0;
            while came < number {
                let read = subscriber.updates(|message| {
                    if let Some(at) = crate::connection::find(message, Update::MARK) {
                        let update = Update::parse(&message[at..])?;
                        came = update.number;
                        latency.add(clock().saturating_sub(update.at));
                    }
                    Ok(())
                });
                tokio::time::timeout(PATIENCE, read).await.context("an update does not come")??;
            }
        }
        Ok(latency)
    })
}
