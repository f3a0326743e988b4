//! doctor: what is wrong with this home, and what to do about it.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::DecimalBytes;
use serde_json::json;

use crate::Context;
use crate::client::{Home, Request, Session};
use crate::clock::{now_ms, span, utc};
use crate::failure::Failure;
use crate::home::quoted;
use crate::output::printable;
use crate::peer::try_lock;
use crate::standing::short;
use crate::value::{Json, counted, items, member, number, text};
use crate::verbs::status::notes;
use crate::verbs::succession::is_gone;
use crate::verbs::up::PORT;

/// Below this, writes will soon fail.
const SPACE_BYTES_MIN: u64 = 100 * 1024 * 1024;
/// Above this, every write is slow.
const SYNC_SLOW: Duration = Duration::from_millis(50);
const SYNCS: usize = 5;
/// Nobody ran this program before 2026.
const YEAR_2026_MS: u64 = 1_767_225_600_000;
/// So long it is told that a right went over to a new device.
const NEWS_MS: u64 = 30 * 24 * 3_600_000;
/// How one gets a device again.
const RECOVER: &str = "timebus --home FOLDER recover";
const ADD: &str = "timebus devices add";
/// A clock that is behind what it wrote by less than this was merely corrected.
const CLOCK_SLACK_MS: u64 = 60_000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    Good,
    /// Worth knowing.
    Note,
    /// Somebody must act.
    Bad,
}

/// What a check found.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    check: &'static str,
    grade: Grade,
    detail: String,
    fix: Option<String>,
}

pub(super) fn good(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Good, detail: detail.into(), fix: None }
}

pub(super) fn note(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Note, detail: detail.into(), fix: Some(fix.into()) }
}

fn bad(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Bad, detail: detail.into(), fix: Some(fix.into()) }
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    let mut findings = vec![home(context)];
    if context.home.exists() {
        findings.extend(modes(context.home.folder()));
        findings.push(space(context.home.folder()));
        findings.push(sync(context.home.folder()));
        findings.push(book(context));
        findings.extend(peer(context).await);
    }
    findings.push(port(context));
    let out = context.out;
    let is_well = findings.iter().all(|finding| finding.grade != Grade::Bad);
    if out.json {
        let checks: Vec<_> = findings
            .iter()
            .map(|found| json!({"check": found.check, "ok": found.grade != Grade::Bad, "detail": found.detail, "fix": found.fix}))
            .collect();
        out.line(json!({"ok": is_well, "checks": checks}).to_string())?;
    } else {
        for found in &findings {
            let mark = match found.grade {
                Grade::Good => "ok  ",
                Grade::Note => "note",
                Grade::Bad => "BAD ",
            };
            out.line(format!("{mark}  {:<6}  {}", found.check, found.detail.replace('\n', "\n              ")))?;
            if let Some(fix) = &found.fix {
                out.line(format!("              -> {fix}"))?;
            }
        }
    }
    match is_well {
        true => Ok(()),
        false => Err(Failure::told().into()),
    }
}

fn home(context: &Context) -> Finding {
    let folder = context.home.folder();
    match context.home.exists() {
        true => good("home", folder.display().to_string()),
        false => note("home", format!("nobody lives in {} yet", folder.display()), context.home.command("up")),
    }
}

/// A right that went over to a new device of somebody lately.
fn went_over(context: &Context, grant: &Json, now_ms: u64) -> Option<Finding> {
    text(grant, "instead_of")?;
    let since = number(grant, "time_ms")?;
    let is_news = member(grant, "live") == Some(&Json::Bool(true)) && now_ms.saturating_sub(since) < NEWS_MS;
    let take_back = context.home.command(&format!("revoke {}", short(text(grant, "id")?)));
    let detail = format!("{}, since {}: his root key says so", printable(text(grant, "says")?), utc(since));
    is_news.then(|| note("rights", detail, format!("`{take_back}` if he knows nothing of that")))
}

/// Guardians who were named by a device that is theirs no more, and of whom one was oneself so.
fn lost_guardians(context: &Context, guardians: &Json) -> Vec<Finding> {
    let names = |list: &str| -> Vec<String> {
        let gone = items(guardians, list).iter().filter(|one| is_gone(one));
        gone.map(|one| printable(text(one, "name").unwrap_or("?"))).collect()
    };
    let (own, of) = (names("guardians"), names("of"));
    let mut found = Vec::new();
    if !own.is_empty() {
        let detail = format!("who is your guardian by a device that he has no more cannot agree: {}", own.join(", "));
        found.push(note("rights", detail, context.home.command("rotate --guardian WHO --guardian WHO")));
    }
    if !of.is_empty() {
        let detail = format!("you are a guardian of {} by a device that is yours no more, and cannot agree to anything", of.join(", "));
        found.push(note("rights", detail, "ask them to name you anew"));
    }
    found
}

/// What others on this machine may look into.
fn modes(home: &Path) -> Vec<Finding> {
    let keys = home.join("keys");
    let mut open = Vec::new();
    let mut check = |path: &Path, wanted: u32| {
        if let Ok(metadata) = fs::symlink_metadata(path)
            && metadata.mode() & 0o077 != 0
        {
            open.push(bad(
                "keys",
                format!("{} can be read or changed by others (mode {:04o})", path.display(), metadata.mode() & 0o7777),
                format!("chmod {wanted:o} {}", quoted(path)),
            ));
        }
    };
    check(&keys, 0o700);
    for file in fs::read_dir(&keys).into_iter().flatten().flatten() {
        check(&file.path(), 0o600);
    }
    if let Ok(metadata) = fs::metadata(home)
        && metadata.mode() & 0o077 != 0
    {
        let detail = format!("{} can be looked into by others (mode {:04o})", home.display(), metadata.mode() & 0o7777);
        open.push(bad("home", detail, format!("chmod 700 {}", quoted(home))));
    }
    if open.is_empty() {
        open.push(good("keys", "for their owner alone"));
    }
    open
}

fn space(home: &Path) -> Finding {
    match rustix::fs::statvfs(home) {
        Ok(stat) => {
            let free = stat.f_bavail * stat.f_frsize;
            let detail = format!("{} free", DecimalBytes(free));
            match free < SPACE_BYTES_MIN {
                true => bad("space", detail, "make room: without any, nothing more is written"),
                false => good("space", detail),
            }
        }
        Err(error) => note("space", format!("could not be told: {error}"), "look with df"),
    }
}

/// How long the disk takes to make a write last.
fn sync(home: &Path) -> Finding {
    let measure = || -> std::io::Result<Duration> {
        let mut file = tempfile::NamedTempFile::new_in(home)?;
        let mut times = Vec::new();
        for _ in 0..SYNCS {
            file.write_all(&[0; 4096])?;
            let begun = Instant::now();
            file.as_file().sync_data()?;
            times.push(begun.elapsed());
        }
        times.sort();
        Ok(times[SYNCS / 2])
    };
    match measure() {
        Ok(time) if time > SYNC_SLOW => {
            note("disk", format!("a sync takes {time:.1?}"), "writes wait for it; a faster disk, or fewer and larger writes, would help")
        }
        Ok(time) => good("disk", format!("a sync takes {time:.1?}")),
        Err(error) => bad("disk", format!("could not be written: {error}"), "check the disk and who owns the folder"),
    }
}

/// What is remembered of other peers.
fn book(context: &Context) -> Finding {
    let file = context.home.book();
    match timebus_net::node::book::Book::load(&file) {
        Ok(book) => good("book", format!("{} known, {} followed", counted(book.contacts.len(), "peer"), counted(book.following.len(), "space"))),
        Err(error) => {
            let aside = file.with_extension("json.damaged");
            bad("book", error.to_string(), format!("mv {} {}, then join or follow again", quoted(&file), quoted(&aside)))
        }
    }
}

/// The peer, or the store when none runs, and what its log says.
async fn peer(context: &Context) -> Vec<Finding> {
    let mut session = match Session::open(context, Home::MustExist).await {
        Ok(session) => session,
        Err(error) => {
            let failure = Failure::of(&error);
            let detail = [Some(failure.title), failure.detail].into_iter().flatten().collect::<Vec<_>>().join(": ");
            let fix = match context.home.running() {
                Some(running) => format!("kill {}, then `{}`", running.pid, context.home.command("up")),
                None => "see the other findings".to_owned(),
            };
            return vec![bad("peer", detail, fix)];
        }
    };
    let mut findings = vec![match session.is_running() {
        Some(running) => good("peer", format!("runs at {}, process {}", running.http, running.pid)),
        None => good("peer", format!("does not run; start it with `{}`", context.home.command("up"))),
    }];
    let asked = async {
        let mut client = session.connect().await?;
        let status = client.json(Request::get("/.sys/status")).await?;
        let latest = client.json(Request::get("/.sys/log").query("limit", 1)).await?;
        let grants = client.json(Request::get("/.sys/grants")).await?;
        let guardians = client.json(Request::get("/.sys/guardians")).await?;
        let network = match session.is_running() {
            Some(_) => Some((
                client.json(Request::get("/.sys/peers")).await?,
                client.json(Request::get("/.sys/spaces")).await?,
                client.json(Request::get("/.sys/communities")).await?,
            )),
            None => None,
        };
        anyhow::Ok((status, latest, grants, guardians, network))
    };
    match asked.await {
        Ok((status, latest, grants, guardians, network)) => {
            if let Some((peers, spaces, communities)) = &network {
                findings.extend(items(communities, "communities").iter().flat_map(|one| unshown(context, one)));
                findings.extend(no_room(context, items(communities, "communities")));
                findings.extend(super::doctor_network::findings(context, peers, spaces, now_ms()));
                let said = items(spaces, "spaces").iter().filter_map(|space| member(space, "rebind")).flat_map(super::rebind::says);
                findings.extend(said.map(|line| note("people", line, context.home.command("rebind"))));
            }
            findings.extend(text(&status, "lost").map(|lost| {
                let fix =
                    format!("what is here can be read; for a device of yours begin with a new folder: `{RECOVER}`, or `{ADD}` on another device");
                bad("device", printable(lost), fix)
            }));
            findings.extend(items(&grants, "grants").iter().filter_map(|grant| went_over(context, grant, now_ms())));
            findings.extend(lost_guardians(context, &guardians));
            let remarks = notes(&status);
            let damaged = remarks.iter().any(|remark| remark.contains("damaged"));
            let sizes = format!(
                "{} changes, {}; index {}",
                number(&status, "changes").unwrap_or(0),
                DecimalBytes(number(&status, "log_bytes").unwrap_or(0)),
                DecimalBytes(number(&status, "index_bytes").unwrap_or(0))
            );
            findings.push(good("log", sizes));
            findings.extend(remarks.into_iter().map(|remark| match damaged {
                true => bad("log", remark, context.home.command("fsck")),
                false => note("log", remark, "nothing to do"),
            }));
            findings.push(clock(now_ms(), items(&latest, "changes").first().and_then(|change| number(change, "time_ms"))));
        }
        Err(error) => {
            let failure = Failure::of(&error);
            let fix = failure.fix.unwrap_or_else(|| context.home.command("fsck"));
            findings.push(bad("peer", format!("does not say how it is: {}", failure.title), fix));
        }
    }
    session.close().await;
    findings
}

/// Who says that he holds files of a community, and could not show them.
fn unshown(context: &Context, community: &Json) -> Vec<Finding> {
    let name = text(community, "petname").or_else(|| text(community, "community")).unwrap_or("?");
    let see = context.home.command(&format!("community placement {}", crate::home::quoted_text(name)));
    let one = |one: &Json| {
        let is_own = member(one, "you") == Some(&Json::Bool(true));
        let says = printable(text(one, "says").unwrap_or("?"));
        if is_own && number(one, "by") == Some(0) {
            note("files", says, context.home.command("files"))
        } else if is_own && number(one, "by").is_some_and(|by| by < 2) {
            // One alone may say so without a reason.
            note("files", says, context.home.command("fsck"))
        } else if is_own {
            bad("files", says, context.home.command("fsck"))
        } else {
            note("files", says, format!("nothing to do; `{see}` shows what lies where"))
        }
    };
    items(community, "unshown").iter().map(one).collect()
}

/// That there is no room for what this machine offered to communities, or for what they placed with it.
fn no_room(context: &Context, communities: &[Json]) -> Vec<Finding> {
    let name = |one| printable(text(one, "title").unwrap_or("a community"));
    let short = communities.iter().filter_map(|one| Some(format!("{}: {}", name(one), super::community::short_of_room(one)?)));
    // Each of them says it of all together.
    let not_kept = communities.iter().find_map(super::community::not_kept);
    short.chain(not_kept).map(|says| note("files", says, context.home.command("files"))).collect()
}

fn clock(now_ms: u64, latest_ms: Option<u64>) -> Finding {
    let set = "set the clock of this machine, best by turning on network time";
    match latest_ms {
        _ if now_ms < YEAR_2026_MS => bad("clock", format!("says {}, which has long passed", utc(now_ms)), set),
        Some(latest) if latest > now_ms + CLOCK_SLACK_MS => {
            let detail = format!("says {}; the latest change is from {} after that", utc(now_ms), span(latest - now_ms));
            bad("clock", detail, set)
        }
        _ => good("clock", utc(now_ms)),
    }
}

fn port(context: &Context) -> Finding {
    let free = try_lock(&context.home).ok().flatten().is_some();
    match TcpListener::bind(("127.0.0.1", PORT)) {
        Ok(_) => good("port", format!("{PORT} is free")),
        Err(_) if !free => good("port", format!("{PORT} is in use")),
        Err(error) => note("port", format!("{PORT} cannot be used: {error}"), "`timebus up` takes the next one that is free"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_behind_its_own_writes_is_wrong() {
        let now = YEAR_2026_MS + 1_000_000_000;
        assert_eq!(clock(now, None).grade, Grade::Good);
        assert_eq!(clock(now, Some(now + 1000)).grade, Grade::Good);
        assert_eq!(clock(now, Some(now + 3_600_000)).grade, Grade::Bad);
        assert_eq!(clock(5000, None).grade, Grade::Bad);
    }

    #[test]
    fn open_keys_are_found() {
        use std::os::unix::fs::PermissionsExt as _;
        let temp = tempfile::tempdir().expect("a temporary folder");
        let keys = temp.path().join("keys");
        fs::create_dir(&keys).expect("a folder");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).expect("ours");
        fs::write(keys.join("root.key"), "x").expect("a file");
        let set_of = |path: &std::path::Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        let set = |mode| set_of(&keys.join("root.key"), mode);
        set(0o600);
        set_of(temp.path(), 0o755);
        let fix = modes(temp.path()).into_iter().find(|found| found.grade == Grade::Bad).and_then(|found| found.fix);
        assert!(fix.expect("a finding").starts_with("chmod 700 "));
        set_of(temp.path(), 0o700);
        assert!(modes(temp.path()).iter().all(|found| found.grade != Grade::Bad));
        set(0o644);
        let found = modes(temp.path());
        let fix = found.iter().find(|found| found.grade == Grade::Bad).and_then(|found| found.fix.clone());
        assert!(fix.expect("a finding").starts_with("chmod 600 "));
    }
}
