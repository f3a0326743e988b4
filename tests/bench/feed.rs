//! `feed`: what one has posted and many want at once, and what he posts while they are there, all on slow lines.
//!
//! Every peer is a process on a network of its own (`networks.rs`). What the first one sends is counted on its cable; a
//! copy is what one reader alone costs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::Options;
use crate::networks::Street;
use crate::peer::Peer;
use crate::report::{Cell, Report, verdict};
use crate::server::Server;

/// What every line sends at most, in bits.
const KBIT_PER_S: u32 = 8000;
const READERS: usize = 8;
const READERS_QUICK: usize = 4;
const POSTS: usize = 3_000;
const POSTS_QUICK: usize = 500;
const POST_BYTES: usize = 1_500;
/// Posts while the readers are there.
const LIVE: usize = 10;
/// Aims: times the bound, copies that the first one sends, and seconds until all have a post.
const TIMES_AIM: f64 = 1.5;
const COPIES_AIM: f64 = 2.0;
const LIVE_AIM_S: f64 = 1.0;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A process that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Race {
    bytes: u64,
    took: Duration,
    sent: u64,
    live: Vec<Duration>,
    live_sent: u64,
}

/// Time until the last one has all of it, copies that the first one sent, and how soon a new post is everywhere.
pub(crate) fn measure(options: &Options) -> Report {
    let (count, posts) = if options.is_quick { (READERS_QUICK, POSTS_QUICK) } else { (READERS, POSTS) };
    let mut report = Report::new(
        "feed",
        format!("{posts} posts that all readers want at once, each on a line that sends {} Mbit/s, and {LIVE} new ones", KBIT_PER_S / 1000),
        &["readers", "MB", "s", "times bound", "aim", "copies sent", "aim", "new post s", "at most", "aim", "copies sent"],
    );
    if options.installed(&[Peer::Timebus], &mut report).is_empty() {
        return report;
    }
    options.progress(&format!("feed: {count} readers"));
    match race(options, count, posts) {
        Ok(race) => {
            let bound = race.bytes as f64 * 8.0 / (f64::from(KBIT_PER_S) * 1000.0);
            let (times, copies) = (race.took.as_secs_f64() / bound, race.sent as f64 / race.bytes as f64);
            let mut live: Vec<f64> = race.live.iter().map(Duration::as_secs_f64).collect();
            live.sort_unstable_by(f64::total_cmp);
            let (median, most) = (live[live.len() / 2], live[live.len() - 1]);
            report.rows.push(vec![
                Cell::whole(count as f64),
                Cell::Number(race.bytes as f64 / 1e6, 1),
                Cell::Number(race.took.as_secs_f64(), 1),
                Cell::Number(times, 2),
                Cell::Text(format!("{TIMES_AIM:.1} {}", verdict(times <= TIMES_AIM))),
                Cell::Number(copies, 2),
                Cell::Text(format!("{COPIES_AIM:.1} {}", verdict(copies <= COPIES_AIM))),
                Cell::Number(median, 3),
                Cell::Number(most, 3),
                Cell::Text(format!("{LIVE_AIM_S:.1} {}", verdict(most <= LIVE_AIM_S))),
                Cell::Number(race.live_sent as f64 / (LIVE * POST_BYTES) as f64, 2),
            ]);
        }
        Err(error) => report.errors.push(format!("{error:#}")),
    }
    report
        .notes
        .push("copies are bytes on the cable, with all headers and everything else that is said; of new posts by the bytes of their text".to_owned());
    report
}

/// A text of which no two are alike.
fn post(number: usize) -> String {
    let mut text = blake3::hash(&number.to_le_bytes()).to_hex().to_string();
    while text.len() < POST_BYTES {
        text.push_str(&blake3::hash(text.as_bytes()).to_hex());
    }
    text.truncate(POST_BYTES);
    text
}

fn race(options: &Options, count: usize, posts: usize) -> anyhow::Result<Race> {
    // The last one reads alone, before the others.
    let street = Street::build("feed", count + 2).context("networks cannot be made here; it takes root and ip")?;
    let program = Peer::Timebus.program().context("the program is gone")?;
    let program = program.to_str().context("a path that is text")?;
    let homes: Vec<PathBuf> = (0..=count + 1).map(|_| options.home(Peer::Timebus)).collect();
    let start = |at: usize| -> anyhow::Result<Server> {
        let mut command = street.inside(at, program);
        command.arg("--home").arg(&homes[at]).args(["--json", "up", "--http", "127.0.0.1:0", "--no-lan"]);
        Server::start_announced(&mut command, &homes[at].with_extension("log"), crate::peer::announced_address)
    };
    let mut peers = (0..=count).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let verb = |at: usize, args: &[&str]| {
        let mut command = street.inside(at, program);
        command.arg("--home").arg(&homes[at]).args(args);
        command
    };
    let run = |at: usize, args: &[&str]| -> anyhow::Result<String> {
        let output = verb(at, args).output()?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let lines: String = (0..posts).map(|number| format!("{}\n", serde_json::json!(post(number)))).collect();
    let file = homes[0].with_extension("ndjson");
    std::fs::write(&file, lines)?;
    run(0, &["import", "/posts", file.to_str().context("a path that is text")?])?;
    run(0, &["put", "/last", "1"])?;
    let link = run(0, &["invite", "--uses", &(count + 1).to_string()])?;
    let has =
        |at: usize, path: &str| verb(at, &["get", path]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    let join = |at: usize| -> anyhow::Result<Running> {
        Ok(Running(verb(at, &["join", &link, "--yes", "--as", "ada"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    };
    let until_all = |readers: std::ops::RangeInclusive<usize>| -> anyhow::Result<()> {
        let began = Instant::now();
        for at in readers {
            while !has(at, "@ada/last") {
                ensure!(began.elapsed() < PATIENCE, "reader {at} does not have it after {PATIENCE:?}");
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    };
    let before = street.sent_bytes(0);
    let alone = start(count + 1)?;
    let joining = join(count + 1)?;
    until_all(count + 1..=count + 1)?;
    drop((joining, alone));
    let bytes = street.sent_bytes(0) - before;
    ensure!((0..=count).all(|at| street.slow_down(at, KBIT_PER_S)), "lines cannot be made slow here; it takes tc");
    let before = street.sent_bytes(0);
    let begun = Instant::now();
    let joining = (1..=count).map(join).collect::<anyhow::Result<Vec<_>>>()?;
    until_all(1..=count)?;
    let (took, sent) = (begun.elapsed(), street.sent_bytes(0) - before);
    drop(joining);
    let (seen, sees) = mpsc::channel();
    let mut watching = Vec::new();
    for at in 1..=count {
        let mut child = verb(at, &["--json", "watch", "@ada/live"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        watching.push(Running(child));
        let seen = seen.clone();
        thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(seen.send((at, line, Instant::now())))));
    }
    // What is still said about the end of the history, and the first word of each watcher.
    thread::sleep(Duration::from_secs(2));
    let mut live = Vec::new();
    let before = street.sent_bytes(0);
    for number in 0..LIVE {
        let text = post(posts + number);
        let mut child = verb(0, &["put", "/live", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        child.stdin.take().context("a pipe")?.write_all(serde_json::json!(text).to_string().as_bytes())?;
        ensure!(child.wait()?.success(), "a post was not written");
        let wrote = Instant::now();
        let mut left: Vec<usize> = (1..=count).collect();
        while !left.is_empty() {
            let (at, line, when) = sees.recv_timeout(PATIENCE).context("a post did not come")?;
            if line.contains(&text[..64]) && left.contains(&at) {
                left.retain(|other| *other != at);
                live.push(when.saturating_duration_since(wrote));
            }
        }
    }
    let live_sent = street.sent_bytes(0) - before;
    peers.clear();
    Ok(Race { bytes, took, sent, live, live_sent })
}
