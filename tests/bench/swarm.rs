//! `swarm`: one file that many want at once, all on slow lines, beside aria2 and transmission as BitTorrent clients.
//!
//! Every peer is a process on a network of its own (`networks.rs`). What the first one sends is counted on its cable.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sha1::{Digest as _, Sha1};

use crate::Options;
use crate::networks::Street;
use crate::peer::{Peer, on_search_path};
use crate::report::{Cell, Report, verdict};
use crate::server::Server;

/// What every line sends at most, in bits.
const KBIT_PER_S: u32 = 8000;
const FILE_BYTES: usize = 32 << 20;
const FILE_BYTES_QUICK: usize = 2 << 20;
/// Peers that want it, and how often the bound they may take.
const WANT: [(usize, f64); 3] = [(4, 1.2), (8, 1.25), (16, 1.3)];
const WANT_QUICK: [(usize, f64); 1] = [(4, 1.2)];
/// Copies that the first one may send.
const COPIES_AIM: f64 = 1.2;
/// How often the bound it may take before we stop waiting, and as much again for small files.
const PATIENCE: f64 = 10.0;
const PATIENCE_MIN: Duration = Duration::from_secs(120);
/// Bytes of a piece, for BitTorrent.
const TORRENT_PIECE_BYTES: usize = 256 * 1024;
/// As an argument, makes this program a tracker.
pub(crate) const TRACKER: &str = "--swarm-tracker";

/// How one program fared.
struct Race {
    took: Duration,
    /// Bytes that the first one sent.
    sent: u64,
}

/// Has a program bring a file to so many peers on a street, which takes so long at least.
type Racer = fn(&Options, &Street, usize, &Path, Duration) -> anyhow::Result<Race>;

/// Time until the last one has all of it, and copies that the first one sent.
pub(crate) fn measure(options: &Options) -> Report {
    let bytes = if options.is_quick { FILE_BYTES_QUICK } else { FILE_BYTES };
    let mut report = Report::new(
        "swarm",
        format!("a file of {} MiB that all want at once, each on a line that sends {} Mbit/s", bytes >> 20, KBIT_PER_S / 1000),
        &["peers", "program", "s", "bound s", "times bound", "aim", "copies sent", "copies aim"],
    );
    if options.installed(&[Peer::Timebus], &mut report).is_empty() {
        return report;
    }
    let want: &[(usize, f64)] = if options.is_quick { &WANT_QUICK } else { &WANT };
    for (count, aim) in want.iter().copied() {
        let bound = bound(count, bytes);
        for (program, race) in [("timebus", timebus as Racer), ("aria2", aria2), ("transmission", transmission)] {
            options.progress(&format!("swarm: {count} peers, {program}"));
            let raced = (|| {
                let name = format!("s{count}{}", &program[program.len() - 1..]);
                let street = Street::build(&name, count + 1).context("networks cannot be made here; it takes root and ip")?;
                let file = options.home(Peer::Timebus);
                fs::write(&file, content(bytes))?;
                race(options, &street, count, &file, bound)
            })();
            match raced {
                Ok(race) => row(&mut report, count, program, bytes, bound, aim, &race),
                Err(error) if program == "timebus" => report.errors.push(format!("{count} peers: {error:#}")),
                Err(error) => report.notes.push(format!("skipped: {program} with {count} peers ({error:#})")),
            }
        }
    }
    report.notes.push(
        "no way is faster than the bound: the first one has to send everything once, and all together have to send what all receive. Copies are \
         bytes on the cable, with all headers"
            .to_owned(),
    );
    report
}

/// The time below which nobody can be.
fn bound(count: usize, bytes: usize) -> Duration {
    let once = bytes as f64 * 8.0 / (f64::from(KBIT_PER_S) * 1000.0);
    Duration::from_secs_f64(once.max(once * count as f64 / (count + 1) as f64))
}

fn row(report: &mut Report, count: usize, program: &str, bytes: usize, bound: Duration, aim: f64, race: &Race) {
    let times = race.took.as_secs_f64() / bound.as_secs_f64();
    let copies = race.sent as f64 / bytes as f64;
    report.rows.push(vec![
        Cell::whole(count as f64),
        Cell::Text(program.to_owned()),
        Cell::Number(race.took.as_secs_f64(), 1),
        Cell::Number(bound.as_secs_f64(), 1),
        Cell::Number(times, 2),
        Cell::Text(format!("{aim:.2} {}", verdict(times <= aim))),
        Cell::Number(copies, 2),
        Cell::Text(format!("{COPIES_AIM:.1} {}", verdict(copies <= COPIES_AIM))),
    ]);
}

/// Bytes that no two stretches of are alike.
fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"swarm").finalize_xof().fill(&mut bytes);
    bytes
}

fn slow_down(street: &Street, count: usize) -> anyhow::Result<()> {
    ensure!((0..=count).all(|at| street.slow_down(at, KBIT_PER_S)), "lines cannot be made slow here; it takes tc");
    Ok(())
}

/// Waits for all, and takes the time.
fn race(mut waiting: Vec<Waiting>, street: &Street, bound: Duration, begun: Instant, sent_before: u64) -> anyhow::Result<Race> {
    let patience = PATIENCE_MIN.max(bound.mul_f64(PATIENCE));
    while !waiting.is_empty() {
        let mut left = Vec::new();
        for mut one in waiting {
            match one.ended()? {
                Some(status) => ensure!(status.success(), "a peer did not get it: {status}"),
                None => left.push(one),
            }
        }
        waiting = left;
        ensure!(begun.elapsed() < patience, "{} peers do not have it after {patience:?}", waiting.len());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Race { took: begun.elapsed(), sent: street.sent_bytes(0) - sent_before })
}

/// A process that ends when its peer has everything; killed when dropped.
struct Waiting(Child);

impl Waiting {
    fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn timebus(options: &Options, street: &Street, count: usize, file: &Path, bound: Duration) -> anyhow::Result<Race> {
    let program = Peer::Timebus.program().context("the program is gone")?;
    let program = program.to_str().context("a path that is text")?;
    let homes: Vec<PathBuf> = (0..=count).map(|_| options.home(Peer::Timebus)).collect();
    let mut peers = Vec::new();
    for (at, home) in homes.iter().enumerate() {
        let mut command = street.inside(at, program);
        command.arg("--home").arg(home).args(["--json", "up", "--http", "127.0.0.1:0", "--no-lan"]);
        peers.push(Server::start_announced(&mut command, &home.with_extension("log"), crate::peer::announced_address)?);
    }
    let run = |at: usize, args: &[&str]| -> anyhow::Result<String> {
        let output = street.inside(at, program).arg("--home").arg(&homes[at]).args(args).output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    for at in 1..=count {
        let link = run(0, &["invite"])?;
        run(at, &["join", &link, "--yes", "--as", "ada"])?;
    }
    run(0, &["put", "/film", &format!("@{}", file.display())])?;
    let begun = Instant::now();
    for at in 1..=count {
        loop {
            let status: Value = serde_json::from_str(&run(at, &["peers", "--json"])?)?;
            let links = status["peers"].as_array().map_or(0, |peers| peers.iter().filter(|peer| peer["state"] == "connected").count());
            if links >= count.min(4) && run(at, &["tree", "@ada"])?.contains("film") {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE_MIN, "peer {at} knows {links} others and not the file");
        }
    }
    slow_down(street, count)?;
    let sent_before = street.sent_bytes(0);
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for (at, home) in homes.iter().enumerate().skip(1) {
        let mut command = street.inside(at, program);
        command.arg("--home").arg(home).args(["get", "@ada/film", "-o"]).arg(home.with_extension("film"));
        waiting.push(Waiting(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?));
    }
    race(waiting, street, bound, begun, sent_before)
}

fn aria2(options: &Options, street: &Street, count: usize, file: &Path, bound: Duration) -> anyhow::Result<Race> {
    let start = |home: &Path, is_seed: bool| {
        let fixed = "--no-conf --enable-dht=false --enable-dht6=false --disable-ipv6=true --file-allocation=none --listen-port=6881 \
                     --seed-ratio=0.0 --bt-tracker-interval=1 --seed-time=100000 --dir";
        let mut args: Vec<OsString> = fixed.split_whitespace().map(OsString::from).collect();
        args.push(home.into());
        args.extend(is_seed.then(|| "--check-integrity=true".into()));
        args
    };
    bittorrent(options, street, count, file, bound, &Client { program: "aria2c", package: "aria2", whole: "SEED", start: &start })
}

fn transmission(options: &Options, street: &Street, count: usize, file: &Path, bound: Duration) -> anyhow::Result<Race> {
    let start = |home: &Path, is_seed: bool| {
        let mut args: Vec<OsString> = ["-M", "-D", "-U", "-p", "6881", "-g"].map(OsString::from).into();
        args.extend([home.join("config").into(), "-w".into(), home.into()]);
        args.extend(is_seed.then(|| "-v".into()));
        args
    };
    let client = Client { program: "transmission-cli", package: "transmission-cli", whole: "Seeding", start: &start };
    bittorrent(options, street, count, file, bound, &client)
}

/// A BitTorrent client.
struct Client<'a> {
    program: &'a str,
    /// What brings it.
    package: &'a str,
    /// What it says when it has everything.
    whole: &'a str,
    /// How it is started with a folder, before the torrent; with the file in it or without.
    start: &'a dyn Fn(&Path, bool) -> Vec<OsString>,
}

fn bittorrent(options: &Options, street: &Street, count: usize, file: &Path, bound: Duration, client: &Client<'_>) -> anyhow::Result<Race> {
    ensure!(on_search_path(client.program).is_some(), "{} not installed (apt-get install {})", client.program, client.package);
    slow_down(street, count)?;
    let homes: Vec<PathBuf> = (0..=count).map(|_| options.home(Peer::Timebus)).collect();
    for home in &homes {
        // Of several clients one reads this: it is to ask nobody but the tracker.
        fs::create_dir_all(home.join("config"))?;
        fs::write(home.join("config/settings.json"), r#"{"dht-enabled": false, "lpd-enabled": false, "port-forwarding-enabled": false}"#)?;
    }
    let port = 6969;
    let mut tracker = street.inside(0, std::env::current_exe()?.to_str().context("a path that is text")?);
    let tracker = Waiting(tracker.args([TRACKER, &port.to_string()]).stdout(Stdio::piped()).spawn()?);
    let torrent = homes[0].join("torrent");
    let content = fs::read(file)?;
    fs::write(&torrent, torrent_of(&content, &format!("http://10.77.0.1:{port}/announce")))?;
    fs::write(homes[0].join("film"), &content)?;
    let start = |at: usize| -> anyhow::Result<Waiting> {
        let mut command = street.inside(at, client.program);
        command.args((client.start)(&homes[at], at == 0)).arg(&torrent);
        let log = File::create(homes[at].with_extension("log"))?;
        Ok(Waiting(command.stdout(log).stderr(Stdio::null()).spawn()?))
    };
    let _seed = start(0)?;
    let sent_before = street.sent_bytes(0);
    let begun = Instant::now();
    let mut peers = Vec::new();
    for at in 1..=count {
        // They go on giving to others, as ours do.
        peers.push(start(at)?);
    }
    let patience = PATIENCE_MIN.max(bound.mul_f64(PATIENCE));
    let is_done = |home: &PathBuf| fs::read_to_string(home.with_extension("log")).is_ok_and(|log| log.contains(client.whole));
    let mut took = None;
    while took.is_none() {
        ensure!(begun.elapsed() < patience, "not all have it after {patience:?}");
        thread::sleep(Duration::from_millis(100));
        took = homes[1..].iter().all(is_done).then(|| begun.elapsed());
    }
    let sent = street.sent_bytes(0) - sent_before;
    drop(tracker);
    let took = took.context("not measured")?;
    for home in &homes[1..] {
        ensure!(fs::read(home.join("film"))? == content, "another content came");
    }
    Ok(Race { took, sent })
}

/// The file that says to BitTorrent clients what there is and who knows others that want it.
fn torrent_of(content: &[u8], announce: &str) -> Vec<u8> {
    let pieces: Vec<u8> = content.chunks(TORRENT_PIECE_BYTES).flat_map(|piece| Sha1::digest(piece).to_vec()).collect();
    let mut out = format!("d8:announce{}:{announce}4:infod6:lengthi{}e4:name4:film", announce.len(), content.len()).into_bytes();
    out.extend(format!("12:piece lengthi{TORRENT_PIECE_BYTES}e6:pieces{}:", pieces.len()).into_bytes());
    out.extend(pieces);
    out.extend(b"ee");
    out
}

/// Tells every BitTorrent client that asks about all that asked before, until it is killed.
pub(crate) fn track(port: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.parse::<u16>()?))?;
    let mut known: Vec<SocketAddr> = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream?;
        let SocketAddr::V4(from) = stream.peer_addr()? else { bail!("not an IPv4 client") };
        let mut line = String::new();
        BufReader::new((&stream).take(4096)).read_line(&mut line)?;
        let port = line.split_once("port=").and_then(|(_, rest)| rest.split(['&', ' ']).next()?.parse::<u16>().ok());
        let Some(port) = port else { continue };
        let client = SocketAddr::from((*from.ip(), port));
        if !known.contains(&client) {
            known.push(client);
        }
        let mut peers = Vec::new();
        for other in known.iter().filter(|other| **other != client) {
            if let SocketAddr::V4(other) = other {
                peers.extend(other.ip().octets());
                peers.extend(other.port().to_be_bytes());
            }
        }
        let mut body = format!("d8:intervali5e12:min intervali1e5:peers{}:", peers.len()).into_bytes();
        body.extend(peers);
        body.extend(b"e");
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        // A client that does not wait for its answer asks again.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }
    Ok(())
}
