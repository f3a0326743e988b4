//! `revoke`: a member's changes are hidden by a revocation and shown again by its withdrawal, beside writing them, taking
//! them in, and working everything out from nothing, in the same minute and through the same stores on disk.
//!
//! The member writes each value in a change of its own that nobody builds on, so that a revocation hides all of them, and a
//! second one, which keeps the last of them, shows all of them again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use timebus_identity::{PublicKey, Verified};
use timebus_store::change::Change;
use timebus_store::grant::{Actions, Audience, Grant, Revoke, Scope, ScopeSegment, Timelines};
use timebus_store::ids::ChangeId;
use timebus_store::json::Json;
use timebus_store::op::Op;
use timebus_store::path::Path;
use timebus_store::store::Store;
use timebus_store::writer::{Action, Condition, Request, Statement, verify_all};

use crate::Options;
use crate::report::{Cell, Report, verdict};
use crate::texts::open;

/// The member's changes.
const CHANGES: usize = 10_000;
/// Objects that his values are in.
const OBJECTS: usize = 50;
/// Hiding all of them, and showing them again.
const AIM: Duration = Duration::from_secs(1);

const COLUMNS: &[&str] = &["what", "changes", "ms", "/ taking them in"];

/// Revokes, and withdraws that.
pub(crate) fn measure(options: &Options) -> Report {
    let mut report = Report::new("revoke", "revoke: a member's changes hidden and shown again, beside writing them and taking them in", COLUMNS);
    if let Err(error) = run(options, &mut report) {
        report.errors.push(format!("{error:#}"));
    }
    report
}

/// All changes of a space, as they go to another store; their signatures are checked.
fn changes(store: &Store, space: &PublicKey) -> anyhow::Result<Vec<Verified<Change>>> {
    let rows = store.snapshot();
    let held = store.held(space).context("a space that is held")?;
    let mut signed = Vec::new();
    for t in [held.auth(), held.main()] {
        for change in store.changes(&rows, t, 0) {
            signed.push(Change::decode(&store.record(&rows, t, change?.0)?)?);
        }
    }
    verify_all(signed).map_err(|at| anyhow::anyhow!("the signature of change {at} is wrong"))
}

async fn take(store: &Store, changes: Vec<Verified<Change>>) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let offered = store.offer(changes).await?;
    ensure!(offered.refused.is_empty(), "changes were refused: {:?}", offered.refused.first());
    Ok(began.elapsed())
}

fn shown(store: &Store, space: &PublicKey) -> anyhow::Result<Option<Json>> {
    let held = store.held(space).context("a space that is held")?;
    Ok(store.read(&store.snapshot(), held, &Path::root())?.tree.to_json(space))
}

fn put(at: &str, value: i64) -> anyhow::Result<Request> {
    Ok(Request {
        space: None,
        path: Path::parse(at)?,
        action: Action::Put(Json::Int(value)),
        parents: None,
        label: None,
        condition: Condition::None,
        time_ms: 1,
        durable: true,
        may_name: None,
    })
}

fn run(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let count = if options.is_quick { CHANGES / 20 } else { CHANGES };
    options.progress(&format!("revoke: {count} changes"));
    let homes = ["owner", "member", "fresh"].map(|name| options.folder.join(format!("revoke-{name}")));
    let rows = runtime.block_on(measured(&homes, count))?;
    let taking = rows.iter().find(|(what, _)| *what == TAKING).map_or(1.0, |(_, took)| took.as_secs_f64());
    for (what, took) in &rows {
        report.rows.push(vec![
            Cell::Text((*what).to_owned()),
            Cell::whole(count as f64),
            Cell::Number(took.as_secs_f64() * 1e3, 1),
            Cell::Number(took.as_secs_f64() / taking, 2),
        ]);
    }
    let slowest = rows.iter().filter(|(what, _)| [HIDING, SHOWING].contains(what)).map(|(_, took)| *took).max().unwrap_or_default();
    report.notes.push(format!("each within {AIM:?}, slowest {slowest:?}: {}", verdict(slowest <= AIM)));
    homes.iter().try_for_each(std::fs::remove_dir_all)?;
    Ok(())
}

const WRITING: &str = "writing them, each on disk";
const TAKING: &str = "taking them in, signatures checked before";
const HIDING: &str = "hiding them: the right is taken back";
const SHOWING: &str = "showing them again: they are kept";
const SCRATCH: &str = "the same from nothing, in a new store";

async fn measured([owners, members, fresh]: &[std::path::PathBuf; 3], count: usize) -> anyhow::Result<Vec<(&'static str, Duration)>> {
    let (owner, member) = (open(owners)?, open(members)?);
    let space = owner.space();
    owner.write(put("/wall/hello", 1)?).await?;
    let right = Grant {
        audience: Audience::Key(member.device()),
        scope: Scope { segments: vec![ScopeSegment::Name("wall".into())], deep: true },
        timelines: Timelines::Main,
        actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
        bytes_max: 0,
        change_bytes_max: 0,
        not_after_ms: 0,
        depth: 0,
        label: "".into(),
    };
    let right = *owner.state(Statement::Ops(vec![Op::Grant(right)]), 1).await?.first().context("a grant")?;
    take(&member, changes(&owner, &space)?).await?;
    let before = shown(&owner, &space)?;

    let began = Instant::now();
    let mut last: Option<ChangeId> = None;
    for n in 0..count {
        let request = put(&format!("/wall/{}/{n}", n % OBJECTS), n as i64)?;
        last = member.write(Request { space: member.held(&space), ..request }).await?.change;
    }
    let writing = began.elapsed();
    let taking = take(&owner, changes(&member, &space)?).await?;
    let full = shown(&owner, &space)?;
    ensure!(full != before, "nothing was written");

    let revoke = async |keep: Vec<ChangeId>| {
        let began = Instant::now();
        owner.state(Statement::Ops(vec![Op::Revoke(Revoke { grant: right, cascade: false, keep })]), 1).await?;
        anyhow::Ok(began.elapsed())
    };
    let hiding = revoke(Vec::new()).await?;
    ensure!(shown(&owner, &space)? == before, "something is still shown");
    let showing = revoke(last.into_iter().collect()).await?;
    ensure!(shown(&owner, &space)? == full, "something else is shown");

    let other = open(fresh)?;
    let scratch = take(&other, changes(&owner, &space)?).await?;
    ensure!(shown(&other, &space)? == full, "a new store shows something else");
    Ok(vec![(WRITING, writing), (TAKING, taking), (HIDING, hiding), (SHOWING, showing), (SCRATCH, scratch)])
}
