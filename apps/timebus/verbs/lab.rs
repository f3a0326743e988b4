//! lab: several peers in one process, in a world where everything goes wrong, and whether they agree afterwards.

use std::fmt::Write as _;

use timebus_net::blobs::simulation::{self, Crowd, Outcome};
use timebus_net::lab::feed::{self, Crowd as Readers, Outcome as FeedOutcome};
use timebus_net::lab::{Config, NAMES, Report, run as run_lab};
use timebus_store::blobs::partial::pieces_of;

use crate::Context;
use crate::cli::{Feed, Groups, Lab, LabVerb, Swarm};
use crate::failure::Failure;
use crate::progress::Progress;

/// What a megabit is in bytes.
const BYTES_OF_MBIT: u64 = 125_000;
/// What small files may take longer: who is gone comes back after 10 seconds, and who says nothing is waited for.
const SLACK_MS: u64 = 20_000;

/// Runs a lab and tells what happened.
pub(crate) fn run(context: &Context, args: Lab) -> anyhow::Result<()> {
    match &args.what {
        Some(LabVerb::Swarm(args)) => return swarm(context, args),
        Some(LabVerb::Feed(args)) => return follow(context, args),
        None => {}
    }
    let seed = args.seed.unwrap_or_else(any_seed);
    let mut config = Config::new(seed);
    config.nodes = args.nodes;
    config.evil = args.evil;
    config.seconds = args.seconds;
    config.writes = args.writes.unwrap_or(2 * args.seconds as usize);
    config.skew_ms = args.skew.map_or(0, |skew| skew.0);
    (config.devices, config.invites, config.is_partial) = (args.devices, args.invites, args.partial);
    config.room = args.room;
    config.partition = args.partition.map(|Groups(groups)| groups);
    let report = run_lab(&config).map_err(|error| Failure::usage(error.to_string()).fix("`timebus lab --help` says what can be asked for"))?;
    context.out.result(&report, || told(&config, &report))?;
    if report.is_good() { Ok(()) } else { Err(Failure::told().into()) }
}

/// What chance comes from, if that was not said.
fn any_seed() -> u64 {
    u64::from_le_bytes(timebus_identity::random_bytes()) % 1_000_000
}

/// Many peers follow one.
fn follow(context: &Context, args: &Feed) -> anyhow::Result<()> {
    let lines = &args.crowd;
    let seed = lines.seed.unwrap_or_else(any_seed);
    let crowd = Readers {
        readers: args.readers,
        posts: args.posts,
        post_bytes: usize::try_from(args.size).unwrap_or(usize::MAX),
        live: args.live,
        origin_up: lines.origin_up * BYTES_OF_MBIT,
        up: lines.up * BYTES_OF_MBIT,
        down: lines.down * BYTES_OF_MBIT,
        delay_ms: args.delay,
        arrive_ms: args.arrive * 1000,
        free_riders: lines.free_riders.into(),
        churn: args.churn,
        slow: args.slow,
        old: args.old,
        ..Readers::new(seed)
    };
    if lines.seed.is_none() {
        context.out.note(format!("the same again: --seed {seed}"));
    }
    let progress = Progress::things(context.out, "readers", Some(args.readers as u64));
    let outcome = feed::run(&crowd, |have| progress.set(have as u64))
        .map_err(|error| Failure::usage(error.to_string()).fix("`timebus lab feed --help` says what can be asked for"))?;
    progress.done();
    context.out.result(&outcome, || follow_told(&crowd, &outcome))?;
    if outcome.is_good() { Ok(()) } else { Err(Failure::told().into()) }
}

/// The same for people.
fn follow_told(crowd: &Readers, outcome: &FeedOutcome) -> String {
    let size = indicatif::DecimalBytes(outcome.bytes);
    let mut out = format!("seed {}: {} readers of {} posts, {size} in all\n\n", crowd.seed, crowd.readers, crowd.posts);
    let seconds = |ms: u64| format!("{:8.2} s", ms as f64 / 1000.0);
    let times = format!("   {:.2} times the best", outcome.times_bound);
    let rows = [
        ("everything, at best", seconds(outcome.bound_ms), ""),
        ("half of them", seconds(outcome.median_ms), ""),
        ("all", seconds(outcome.all_ms), times.as_str()),
        ("a new post, half", seconds(outcome.post_median_ms), ""),
        ("99 of 100", seconds(outcome.post_p99_ms), ""),
        ("all", seconds(outcome.post_max_ms), ""),
    ];
    for (what, time, more) in rows {
        // Writing to a string does not fail.
        let _ = writeln!(out, "  {what:<20}{time}{more}");
    }
    let _ = write!(
        out,
        "\n  copies of everything: {:.2} sent by the first one, {:.2} received by each\n  copies of a new post: {:.2} sent by the first one, {:.2} received \
         by each",
        outcome.origin_copies, outcome.reader_copies, outcome.post_origin_copies, outcome.post_reader_copies
    );
    if outcome.left_out > 0 {
        let _ = write!(out, "\n  ✗ {} readers did not get everything", outcome.left_out);
    }
    for problem in &outcome.problems {
        let _ = write!(out, "\n  ✗ {problem}");
    }
    out
}

/// Many peers want one file at once.
fn swarm(context: &Context, args: &Swarm) -> anyhow::Result<()> {
    let lines = &args.crowd;
    if args.peers == 0 || args.size == 0 || lines.origin_up == 0 || lines.down == 0 {
        return Err(Failure::usage("a swarm needs peers, a file, and lines that carry something").into());
    }
    let seed = lines.seed.unwrap_or_else(any_seed);
    let crowd = Crowd {
        seed,
        peers: args.peers,
        bytes: args.size,
        origin_up: lines.origin_up * BYTES_OF_MBIT,
        up: lines.up * BYTES_OF_MBIT,
        down: lines.down * BYTES_OF_MBIT,
        delay_ms: args.delay,
        links_max: args.links.into(),
        arrive_ms: args.arrive * 1000,
        free_riders: lines.free_riders * 10,
        leavers: args.leave * 10,
        churn: args.churn * 10,
        mute: args.mute * 10,
        liars: args.liars * 10,
        plays: args.play,
        ..Crowd::default()
    };
    if lines.seed.is_none() {
        context.out.note(format!("the same again: --seed {seed}"));
    }
    let progress = Progress::things(context.out, "pieces", Some(u64::from(args.peers) * pieces_of(args.size)));
    let outcome = simulation::run(&crowd, |at| progress.set(at.pieces));
    progress.done();
    let times = outcome.all_ms as f64 / outcome.bound_ms.max(1) as f64;
    let json = serde_json::json!({
        "seed": seed,
        "peers": crowd.peers,
        "bytes": crowd.bytes,
        "all_ms": outcome.all_ms,
        "median_ms": outcome.median_ms,
        "p95_ms": outcome.most_ms,
        "last_ms": outcome.last_ms,
        "first_ms": outcome.first_ms,
        "began_ms": outcome.began_ms,
        "bound_ms": outcome.bound_ms,
        "times_bound": times,
        "lines_ms": outcome.lines_ms,
        "times_lines": outcome.all_ms as f64 / outcome.lines_ms.max(1) as f64,
        "origin_copies": outcome.origin_copies,
        "wasted_per_mille": outcome.wasted,
        "talk_per_mille": outcome.talk,
        "links": outcome.links,
        "left_out": outcome.left_out,
        "blamed": outcome.blamed,
        "events": outcome.events,
    });
    let within_ms = outcome.lines_ms.saturating_mul(args.within).saturating_add(SLACK_MS);
    context.out.result(&json, || swarm_told(&crowd, &outcome, times, within_ms))?;
    if outcome.left_out == 0 && outcome.blamed == 0 && outcome.all_ms <= within_ms { Ok(()) } else { Err(Failure::told().into()) }
}

/// The same for people.
fn swarm_told(crowd: &Crowd, outcome: &Outcome, times: f64, within_ms: u64) -> String {
    let size = indicatif::DecimalBytes(crowd.bytes);
    let when = if crowd.arrive_ms == 0 { "at once".to_owned() } else { format!("within {} s", crowd.arrive_ms / 1000) };
    let mut out = format!("seed {}: {} peers want {size} {when}\n\n", crowd.seed, crowd.peers);
    let rows = [
        ("at best", outcome.bound_ms, String::new()),
        (
            "their lines",
            outcome.lines_ms,
            "   at best with the lines that were there: less those of who was away, sent nothing or had nothing yet".to_owned(),
        ),
        ("the first", outcome.first_ms, "   until the last one had the first MiB".to_owned()),
        ("it began", outcome.began_ms, "   until the last one had the first 4 MiB".to_owned()),
        ("half of them", outcome.median_ms, String::new()),
        ("95 of 100", outcome.most_ms, String::new()),
        ("the last one", outcome.last_ms, String::new()),
        (
            "all",
            outcome.all_ms,
            format!("   {times:.2} times the best, {:.2} times that with the lines", outcome.all_ms as f64 / outcome.lines_ms.max(1) as f64),
        ),
    ];
    for (what, ms, more) in rows {
        // Writing to a string does not fail.
        let _ = writeln!(out, "  {what:<13}{:8.1} s{more}", ms as f64 / 1000.0);
    }
    let _ = write!(
        out,
        "\n  the origin sent it {:.2} times; of a thousand pieces {} came twice; of a thousand bytes {} were talk; {:.0} links each",
        outcome.origin_copies, outcome.wasted, outcome.talk, outcome.links
    );
    if outcome.left_out > 0 {
        let _ = write!(out, "\n  ✗ {} peers did not get it", outcome.left_out);
    }
    if outcome.all_ms > within_ms {
        let _ = write!(out, "\n  ✗ it took longer than {:.1} s", within_ms as f64 / 1000.0);
    }
    if outcome.blamed > 0 {
        let _ = write!(out, "\n  ✗ {} times a peer that keeps the rules was taken for one that does not", outcome.blamed);
    }
    out
}

/// The account for people.
fn told(config: &Config, report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "seed {}: {} peers, {} of them dishonest, {} s of trouble\n", report.seed, config.nodes, config.evil, config.seconds);
    for line in &report.story {
        let _ = writeln!(out, "{:8.1} s  {}", line.ms as f64 / 1000.0, line.text);
    }
    if let Some(ms) = report.agreed_ms {
        let _ = writeln!(out, "{:8.1} s  all honest peers hold the same", config.seconds as f64 + ms as f64 / 1000.0);
    }
    let _ = writeln!(out, "\n  peer      clock off    writes   refused     taken   refused   crashes     holds");
    for peer in &report.peers {
        let _ = writeln!(
            out,
            "  {:<8} {:>8.1} s {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}{}",
            peer.name,
            peer.skew_ms as f64 / 1000.0,
            peer.writes,
            peer.refused_writes,
            peer.admitted,
            peer.refused,
            peer.crashes,
            peer.changes,
            if peer.is_evil { "  dishonest, switched off at the end" } else { "" }
        );
    }
    let _ = writeln!(out, "\n  space of   changes  state");
    for space in &report.spaces {
        let _ = writeln!(out, "  {:<8} {:>9}  {}", space.owner, space.changes, space.state);
    }
    let totals = &report.totals;
    let _ = writeln!(
        out,
        "\n  {} writes acknowledged, {} changes passed on, {} updates told in causal order, {} links, {} kB sent",
        totals.promises,
        totals.admitted,
        totals.told,
        totals.links,
        totals.bytes / 1000
    );
    if totals.invites > 0 {
        let _ = writeln!(out, "  {} invites, taken {} times by those who wanted them, {} let in", totals.invites, totals.joins, totals.guests);
    }
    if config.room.is_some() {
        let _ = writeln!(
            out,
            "  {} times a change was held back for which there was no room, {} times whoever built on one paid",
            totals.held, totals.lent
        );
    }
    let _ = writeln!(
        out,
        "  {}, {}, {}, {}, {}, {}, {}, {}\n",
        many(totals.crashes, "crash", "crashes"),
        many(totals.cuts, "cut", "cuts"),
        many(totals.partitions, "partition", "partitions"),
        many(totals.disk_faults, "disk fault", "disk faults"),
        many(totals.revocations, "revocation", "revocations"),
        many(totals.forks, "fork", "forks"),
        many(totals.tricks, "other trick", "other tricks"),
        many(totals.bans, "ban", "bans"),
    );
    for problem in &report.problems {
        let _ = writeln!(out, "  ✗ {problem}");
    }
    let _ = if report.is_good() {
        write!(out, "  ✓ nothing acknowledged was lost, and who holds the same changes shows the same")
    } else {
        write!(out, "  the same again: timebus lab --seed {}{}", report.seed, options(config))
    };
    out
}

/// "1 crash", "2 crashes".
fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// The options that a run was made with.
fn options(config: &Config) -> String {
    let mut out = format!(" --nodes {} --seconds {} --writes {}", config.nodes, config.seconds, config.writes);
    if config.evil > 0 {
        let _ = write!(out, " --evil {}", config.evil);
    }
    if let Some(room) = config.room {
        let _ = write!(out, " --room {room}B");
    }
    if config.skew_ms > 0 {
        let _ = write!(out, " --skew {}ms", config.skew_ms);
    }
    for (option, count) in [("devices", config.devices), ("invites", config.invites)].into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(out, " --{option} {count}");
    }
    if config.is_partial {
        out.push_str(" --partial");
    }
    if let Some(groups) = &config.partition {
        let text: Vec<String> = groups.iter().map(|group| group.iter().map(|peer| &NAMES[*peer][..1]).collect::<Vec<_>>().join(",")).collect();
        let _ = write!(out, " --partition {}", text.join("/"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_how_to_run_the_same_again() {
        let mut config = Config::new(7);
        config.partition = Some(vec![vec![0, 1], vec![2, 3, 4]]);
        config.skew_ms = 1500;
        config.evil = 1;
        (config.invites, config.is_partial) = (2, true);
        assert_eq!(options(&config), " --nodes 5 --seconds 30 --writes 60 --evil 1 --skew 1500ms --invites 2 --partial --partition a,b/c,d,e");
    }
}
