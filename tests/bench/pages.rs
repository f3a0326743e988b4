//! `pages`: chirp in a real browser, from a peer that holds many posts, and a like between two peers.
//!
//! The script `tests/web/speed.mjs` does it, with Debian's Chromium and the packages of `tests/web/package.json`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::Options;
use crate::peer::{Flush, Peer};
use crate::report::{Cell, Report, verdict};

/// Posts of one person.
const POSTS: usize = 100_000;
const POSTS_QUICK: usize = 2_000;
/// What the script measures, and how many milliseconds it may take.
const AIMS: [(&str, f64); 3] = [("newest 40 posts over HTTP", 10.0), ("first paint", 300.0), ("a like on its author's screen", 100.0)];

/// How long a person waits for what.
pub(crate) fn measure(options: &Options) -> Report {
    let posts = if options.is_quick { POSTS_QUICK } else { POSTS };
    let title = format!("chirp in Chromium, with {posts} posts held");
    let mut report = Report::new("pages", title, &["what", "best ms", "median ms", "most ms", "aim"]);
    if options.installed(&[Peer::Timebus], &mut report).is_empty() {
        return report;
    }
    options.progress("pages: timebus");
    match script(options, posts) {
        Ok(None) => report.notes.push("skipped: needs node, /usr/bin/chromium and the packages of tests/web/package.json".to_owned()),
        Ok(Some(lines)) => lines.iter().for_each(|line| row(&mut report, line)),
        Err(error) => report.errors.push(format!("{error:#}")),
    }
    report
}

fn row(report: &mut Report, line: &Value) {
    let what = line["what"].as_str().unwrap_or_default();
    let median = line["median"].as_f64();
    let aim = AIMS.iter().find(|(name, _)| *name == what).zip(median);
    report.rows.push(vec![
        Cell::Text(what.to_owned()),
        Cell::maybe(line["best"].as_f64(), 1),
        Cell::maybe(median, 1),
        Cell::maybe(line["most"].as_f64(), 1),
        aim.map_or(Cell::Absent, |((_, aim), median)| Cell::Text(format!("{aim} {}", verdict(median <= *aim)))),
    ]);
}

/// What the script says; `None` where something that it needs is not installed.
fn script(options: &Options, posts: usize) -> anyhow::Result<Option<Vec<Value>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = std::env::var_os("TIMEBUS_NODE_MODULES").map_or_else(|| root.join("target/web/node_modules"), PathBuf::from);
    if !packages.join("playwright-core").is_dir() || !Path::new("/usr/bin/chromium").exists() {
        return Ok(None);
    }
    let mut peers = Vec::new();
    let mut told = Vec::new();
    for _ in 0..2 {
        let home = options.home(Peer::Timebus);
        let server = Peer::Timebus.start(&home, Flush::Always)?;
        told.push(json!({"home": home, "port": server.address.port()}));
        peers.push(server);
    }
    let output = Command::new("node")
        .arg(root.join("tests/web/speed.mjs"))
        .env("TIMEBUS_NODE_MODULES", packages)
        .env("TIMEBUS", Peer::Timebus.program().context("the program is gone")?)
        .env("TIMEBUS_PEERS", Value::from(told).to_string())
        .env("TIMEBUS_POSTS", posts.to_string())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Result<Vec<Value>, _> = String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect();
    Ok(Some(lines?))
}
