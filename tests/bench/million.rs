//! `million`: memory, and the time from `exec` to the first answer, with a million paths.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::Options;
use crate::connection::{Connection, Endpoint};
use crate::documents::{self, Dice, VALUE_BYTES};
use crate::load::on_one_thread;
use crate::peer::{Flush, Peer};
use crate::report::{Cell, Report, verdict};
use crate::server::folder_bytes;

/// Leaves in one PUT, and SETs in one Redis pipeline.
const PIECE: u64 = 1_000;
/// How long a server may load before its first answer.
const FIRST_GET_TIME_MAX: Duration = Duration::from_secs(120);
/// Random reads after the first, to see memory in use and not only at rest.
const READS: u64 = 10_000;

/// What one row says; times from `exec` after the restart.
struct Million {
    load_time: Duration,
    loaded_bytes: Option<f64>,
    disk_bytes: f64,
    stop_time: Duration,
    /// Until it took connections, or said so.
    ready_time: Duration,
    first_get_time: Duration,
    first_get_bytes: Option<f64>,
    read_bytes: Option<f64>,
}

/// Measures Redis with its append-only file, and us.
pub(crate) fn measure(options: &Options) -> Report {
    let paths = options.paths;
    let mut report = Report::new(
        "million",
        format!(
            "{paths} paths of {VALUE_BYTES} bytes, loaded {PIECE} at a time, stopped and started \
             again with files in the page cache"
        ),
        &[
            "peer",
            "paths/s loaded",
            "rss MB loaded",
            "disk MB",
            "stop ms",
            "ready ms",
            "first GET ms",
            "x redis",
            "rss MB at first GET",
            "rss MB after 10k GETs",
        ],
    );
    let mut redis = None;
    for peer in options.installed(&[Peer::Redis, Peer::Timebus], &mut report) {
        options.progress(&format!("million: loading {paths} paths into {peer}"));
        let row = match million(options, peer, paths) {
            Ok(row) => row,
            Err(error) => {
                report.errors.push(format!("{peer}: {error:#}"));
                continue;
            }
        };
        let first_get_ms = row.first_get_time.as_secs_f64() * 1e3;
        if peer == Peer::Redis {
            redis = Some(first_get_ms);
        }
        let megabytes = |bytes: Option<f64>| Cell::maybe(bytes.map(|bytes| bytes / 1e6), 0);
        report.rows.push(vec![
            Cell::Text(peer.to_string()),
            Cell::whole(paths as f64 / row.load_time.as_secs_f64()),
            megabytes(row.loaded_bytes),
            megabytes(Some(row.disk_bytes)),
            Cell::whole(row.stop_time.as_secs_f64() * 1e3),
            Cell::Number(row.ready_time.as_secs_f64() * 1e3, 1),
            Cell::Number(first_get_ms, 1),
            Cell::maybe(redis.map(|redis| first_get_ms / redis), 3),
            megabytes(row.first_get_bytes),
            megabytes(row.read_bytes),
        ]);
        if peer == Peer::Timebus && paths >= 1_000_000 {
            let mut aims = vec![format!("first GET within 100 ms ({first_get_ms:.0} ms): {}", verdict(first_get_ms <= 100.0))];
            if let Some(bytes) = row.read_bytes.or(row.first_get_bytes) {
                let met = verdict(bytes < 150e6);
                aims.push(format!("under 150 MB ({:.0} MB): {met}", bytes / 1e6));
            }
            report.notes.push(format!("aim with 1 000 000 paths: {}", aims.join("; ")));
        }
    }
    report
}

fn million(options: &Options, peer: Peer, paths: u64) -> anyhow::Result<Million> {
    let home = options.home(peer);
    let server = peer.start(&home, Flush::Later)?;
    let endpoint = Endpoint { address: server.address, protocol: peer.protocol() };
    let begun = Instant::now();
    on_one_thread(load(peer, endpoint, paths))?;
    let load_time = begun.elapsed();
    let loaded_bytes = server.resident_bytes();
    let stop_time = server.stop()?;
    let disk_bytes = folder_bytes(&home)?;

    let server = peer.start(&home, Flush::Later)?;
    let endpoint = Endpoint { address: server.address, protocol: peer.protocol() };
    let ready_time = server.start_time;
    on_one_thread(first_get(peer, endpoint, paths))?;
    let first_get_time = server.age();
    let first_get_bytes = server.resident_bytes();
    on_one_thread(read(peer, endpoint, paths))?;
    let read_bytes = server.resident_bytes();
    server.stop()?;
    Ok(Million { load_time, loaded_bytes, disk_bytes, stop_time, ready_time, first_get_time, first_get_bytes, read_bytes })
}

/// `/bench/million/042/007`.
fn path(index: u64) -> String {
    format!("/bench/million/{:03}/{:03}", index / PIECE, index % PIECE)
}

async fn load(peer: Peer, endpoint: Endpoint, paths: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(endpoint).await?;
    let mut piece = String::new();
    for first in (0..paths).step_by(PIECE as usize) {
        piece.clear();
        for index in first..first + PIECE {
            if peer == Peer::Redis {
                let key = path(index);
                let key_bytes = key.len();
                write!(piece, "*3\r\n$3\r\nSET\r\n${key_bytes}\r\n{key}\r\n${VALUE_BYTES}\r\n")?;
                documents::leaf(index, &mut piece);
                piece.push_str("\r\n");
            } else {
                let before = if index == first { '{' } else { ',' };
                write!(piece, "{before}\"{:03}\":\"", index % PIECE)?;
                documents::leaf(index, &mut piece);
                piece.push('"');
            }
        }
        if peer == Peer::Redis {
            connection.pipeline(piece.as_bytes(), PIECE as usize).await?;
        } else {
            piece.push('}');
            let node = format!("/bench/million/{:03}", first / PIECE);
            connection.put(&node, piece.as_bytes()).await?;
        }
    }
    Ok(())
}

/// Asks until there is an answer; a server that is still loading may refuse.
async fn first_get(peer: Peer, endpoint: Endpoint, paths: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut connection = Connection::open(endpoint).await?;
    loop {
        match check(peer, &mut connection, paths / 2).await {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > FIRST_GET_TIME_MAX => return Err(error),
            Err(error) if format!("{error:#}").contains("LOADING") => {
                // Redis answers like this and has taken the question off the connection.
                tokio::time::sleep(Duration::from_millis(1)).await;
                connection = Connection::open(endpoint).await?;
            }
            Err(error) => return Err(error.context("after the restart")),
        }
    }
}

async fn read(peer: Peer, endpoint: Endpoint, paths: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(endpoint).await?;
    let mut dice = Dice::new(1);
    for _ in 0..READS {
        check(peer, &mut connection, dice.roll() % paths).await?;
    }
    Ok(())
}

/// Reads one leaf and compares it with what was written.
async fn check(peer: Peer, connection: &mut Connection, index: u64) -> anyhow::Result<()> {
    let path = path(index);
    let found = connection.get(&path).await?;
    let found: String = match peer {
        Peer::Redis => String::from_utf8(found.to_vec())?,
        _ => serde_json::from_slice(found).with_context(|| format!("{path} is no string"))?,
    };
    let mut expected = String::new();
    documents::leaf(index, &mut expected);
    if found != expected {
        bail!("{path} is {found:?}, not {expected:?}");
    }
    Ok(())
}
