//! cluster: a handful of peers of one's own, by reading and writing paths on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value as Serde, json};
use timebus_identity::SecretKey;

use crate::Context;
use crate::cli::ClusterAction as Action;
use crate::client::{Client, JSON, Request};
use crate::clock::span;
use crate::cluster::{Cluster, Member, container, example, unit};
use crate::failure::{Failure, UNREACHABLE};
use crate::home::{Home, quoted};
use crate::output::Output;
use crate::peer::try_lock;
use crate::standing::table;
use crate::value::{Json, counted, items, member as part, number, text};

/// How long a peer may take to answer a question.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long one may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How often is looked whether what is waited for has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// In the home of a peer that keeps all files of the space since it is one of a cluster: so that who says otherwise later is heard.
const PINNED: &str = "cluster-pinned";
/// Lines of its log that are shown of a peer that did not start.
const LOG_LINES: usize = 5;

pub(crate) async fn run(context: &Context, args: crate::cli::Cluster) -> anyhow::Result<()> {
    let out = context.out;
    if let Action::Init { peers, port } = args.action {
        return init(out, &args.file, peers.into(), port);
    }
    let cluster = Cluster::load(&args.file)?;
    match args.action {
        Action::Init { .. } => Ok(()),
        Action::Up { names } => up(out, &cluster, &names).await,
        Action::Add { name } => add(out, &cluster, &name).await,
        Action::Status {} => status(out, &cluster).await,
        Action::Unit { name } => print(out, "unit", &unit(cluster.member(&name)?, &cluster.folder)),
        Action::Container { name } => print(out, "container", &container(cluster.member(&name)?)),
        Action::Upgrade { names, patience } => upgrade(out, &cluster, &names, Duration::from_secs(patience)).await,
        Action::Down { names } => down(out, &cluster, &names).await,
        Action::Gen(args) => {
            let peers = cluster.peer.iter().map(|member| member.http.clone()).collect();
            super::r#gen::run_anywhere(context, args, peers, &cluster.key()?).await
        }
    }
}

fn init(out: Output, file: &std::path::Path, peers: usize, port: u16) -> anyhow::Result<()> {
    if file.exists() {
        let title = format!("{} is there already", file.display());
        return Err(Failure::refused(title).fix("change it with an editor, or name another with --file").into());
    }
    fs::write(file, example(peers, port)).with_context(|| format!("could not write {}", file.display()))?;
    let next = format!("timebus cluster up --file {}", quoted(file));
    out.result(&json!({"file": file.display().to_string(), "peers": peers}), || {
        format!("{} names {}; change it as you like, then: {next}", file.display(), crate::value::counted(peers, "peer"))
    })
}

fn print(out: Output, what: &str, content: &str) -> anyhow::Result<()> {
    out.result(&json!({ what: content }), || content.trim_end().to_owned())
}

/// Those of this machine that are meant.
fn here<'c>(cluster: &'c Cluster, names: &[String]) -> anyhow::Result<Vec<&'c Member>> {
    let mut named = cluster.named(names)?;
    if let Some(other) = named.iter().find(|member| member.elsewhere && !names.is_empty()) {
        let fix = format!("there: systemctl start timebus-{0}, or `podman start timebus-{0}`", other.name);
        return Err(Failure::usage(format!("{} is on another machine", other.name)).fix(fix).into());
    }
    named.retain(|member| !member.elsewhere);
    if named.is_empty() {
        return Err(Failure::usage("all peers of this cluster are on other machines").fix("`timebus cluster status` asks them how they are").into());
    }
    Ok(named)
}

/// One question to a peer, with the key of the cluster.
async fn ask(member: &Member, key: &Arc<SecretKey>, request: Request) -> anyhow::Result<Json> {
    let asked = async { Client::with_key(&member.http, key).await?.json(request).await };
    let late = || Failure::unreachable(format!("{} does not answer at {}", member.name, member.http));
    tokio::time::timeout(ANSWER_MAX, asked).await.map_err(|_| late())?.map_err(|error| {
        let mut failure = Failure::of(&error);
        failure.title = format!("{}: {}", member.name, failure.title);
        if matches!(failure.status, Some(401 | 403)) {
            failure.fix = Some("`timebus cluster up` lets the key of the cluster look after the peers".to_owned());
        }
        failure.into()
    })
}

/// A question to a peer of this machine as its owner.
async fn ask_as_owner(out: Output, member: &Member, request: Request) -> anyhow::Result<Json> {
    let context = Context { home: member.home_here()?, out };
    let (_session, mut client) = crate::client::open_running(&context).await?;
    client.json(request).await
}

fn is_running(home: &Home) -> anyhow::Result<bool> {
    Ok(home.exists() && try_lock(home)?.is_none())
}

/// Starts a peer of this machine, and waits until it answers. Says whether it was not running.
async fn start(out: Output, member: &Member) -> anyhow::Result<bool> {
    let home = member.home_here()?;
    if is_running(&home)? {
        let port = |authority: &str| authority.rsplit_once(':').map(|(_, port)| port.to_owned());
        if let Some(running) = home.running().filter(|running| port(running.authority()) != port(&member.http)) {
            let fix = format!("`timebus --home {} down`, then again; or mend its http", quoted(&member.home));
            return Err(Failure::refused(format!("{} runs at {}, not at {}", member.name, running.http, member.http)).fix(fix).into());
        }
        return Ok(false);
    }
    home.clear_running();
    let program = match member.program.as_str() {
        crate::output::PROGRAM => std::env::current_exe().context("this program is gone")?,
        other => other.into(),
    };
    let log_file = member.home.with_extension("log");
    if let Some(folder) = member.home.parent() {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(&log_file).with_context(|| format!("could not write {}", log_file.display()))?;
    let mut command = std::process::Command::new(&program);
    command.args(member.arguments()).env_remove("TIMEBUS_HOME").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // Ctrl-C is for this command, not for the peers that it started.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().with_context(|| format!("could not start {}", program.display()))?;
    let deadline = Instant::now() + START_MAX;
    loop {
        let told = fs::read_to_string(&log_file).unwrap_or_default();
        let lines: Vec<&str> = told.lines().collect();
        let last = || lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        if let Some(status) = child.try_wait()? {
            return Err(Failure::refused(format!("{} did not start ({status})", member.name)).detail(last()).into());
        }
        let answers = home.running().is_some() && ask_as_owner(out, member, Request::get("/.sys/status")).await.is_ok();
        if answers {
            return Ok(true);
        }
        if Instant::now() > deadline {
            let title = format!("{} does not answer yet (process {})", member.name, child.id());
            return Err(Failure::unreachable(title).detail(last()).fix(format!("look into {}", log_file.display())).into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A link that makes a new home a device of the space.
async fn device_link(out: Output, founder: &Member, member: &Member) -> anyhow::Result<String> {
    let wish = json!({"role": "device", "uses": 1, "expires_ms": crate::clock::now_ms() + 24 * 3600 * 1000, "note": member.name});
    let made = ask_as_owner(out, founder, Request::post("/.sys/invites").body(JSON, wish.to_string())?).await?;
    Ok(text(&made, "link").context("the peer made no link")?.to_owned())
}

/// Lets the key of the cluster look after all peers, and write.
async fn let_in(out: Output, founder: &Member, key: &SecretKey) -> anyhow::Result<()> {
    for (path, can) in [("/.sys", "admin"), ("/", "write")] {
        let wish = json!({"who": key.public().to_string(), "path": path, "can": can, "label": "cluster", "depth": 0});
        ask_as_owner(out, founder, Request::post("/.sys/grant").body(JSON, wish.to_string())?).await?;
    }
    Ok(())
}

/// The peer of this machine that has the space, or will have it.
fn founder<'c>(here: &[&'c Member]) -> anyhow::Result<&'c Member> {
    for member in here {
        if member.home_here()?.exists() {
            return Ok(member);
        }
    }
    Ok(here[0])
}

async fn up(out: Output, cluster: &Cluster, names: &[String]) -> anyhow::Result<()> {
    let key = cluster.key()?;
    let founder = founder(&here(cluster, &[])?)?;
    let mut told = Vec::new();
    let mut meant = here(cluster, names)?;
    // The others join it.
    meant.retain(|member| member.name != founder.name);
    for member in std::iter::once(founder).chain(meant) {
        let home = member.home_here()?;
        let joins = member.name != founder.name && !home.exists();
        if joins {
            join(out, founder, member).await?;
        }
        let is_new = start(out, member).await?;
        if member.name == founder.name {
            let_in(out, founder, &key).await?;
        }
        // Changes come by themselves, files do not. What the owner says of it later holds.
        let pinned = home.folder().join(PINNED);
        if !pinned.exists() {
            ask_as_owner(out, member, Request::post("/.sys/blobs/pin").body(JSON, json!({"path": "/"}).to_string())?).await?;
            std::fs::write(&pinned, "").with_context(|| format!("could not write {}", pinned.display()))?;
        }
        let did = match (is_new, joins) {
            (true, true) => "joined and started",
            (true, false) => "started",
            (false, _) => "runs already",
        };
        out.note(format!("{:<12} {did} at http://{}", member.name, member.http));
        told.push(json!({"name": member.name, "http": member.http, "started": is_new, "joined": joins}));
    }
    out.result(&json!({"key": key.public().to_string(), "peers": told}), String::new)
}

/// Makes the home of a new peer a device of the founder's space.
async fn join(out: Output, founder: &Member, member: &Member) -> anyhow::Result<()> {
    let link = device_link(out, founder, member).await?;
    let program = std::env::current_exe().context("this program is gone")?;
    let mut command = std::process::Command::new(program);
    command.arg("--home").arg(&member.home).args(["--json", "join", &link, "--yes"]).env_remove("TIMEBUS_HOME").stdin(Stdio::null());
    let joined = tokio::task::spawn_blocking(move || command.output()).await?.context("could not join")?;
    let said: Serde = serde_json::from_slice(&joined.stdout).unwrap_or_default();
    if joined.status.success() && said["result"] == "connected" {
        return Ok(());
    }
    let why = said["why"].as_str().map_or_else(|| String::from_utf8_lossy(&joined.stderr).trim().to_owned(), str::to_owned);
    let title = format!("{} could not become a device of the space of {}", member.name, founder.name);
    Err(Failure::refused(title).detail(why).fix(format!("`timebus --home {} status` says how that one is", quoted(&founder.home))).into())
}

async fn add(out: Output, cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let member = cluster.member(name)?;
    if !member.elsewhere {
        let fix = format!("`timebus cluster up {name}`; for another machine say `elsewhere = true` in {}", cluster.file.display());
        return Err(Failure::usage(format!("{name} is on this machine")).fix(fix).into());
    }
    let founder = founder(&here(cluster, &[])?)?;
    let link = device_link(out, founder, member).await?;
    let program = format!("{} --home {}", member.program_path(&cluster.folder), quoted(&member.home));
    let join = format!("{program} join '{link}' --yes && {program} files pin /");
    let file = quoted(&cluster.file);
    out.result(&json!({"name": name, "link": link, "join": join, "unit": unit(member, &cluster.folder)}), || {
        format!(
            "on the machine of {name}, with the program at {}:\n\n  {join}\n\nthen let systemd start it, and start it anew whenever it ends:\n\n  \
             timebus cluster unit {name} --file {file}          prints the unit\n  timebus cluster container {name} --file {file}     or a file \
             for a container\n\nthe link is good once, for a day; who has it has your whole space",
            member.program_path(&cluster.folder)
        )
    })
}

/// How far each chain of each timeline has come.
type Tips = BTreeMap<(String, String), u64>;

async fn tips(member: &Member, key: &Arc<SecretKey>) -> anyhow::Result<Tips> {
    let told = ask(member, key, Request::get("/.sys/tips")).await?;
    let mut tips = Tips::new();
    let Some(Json::Object(timelines)) = part(&told, "timelines") else { return Ok(tips) };
    for (timeline, authors) in timelines {
        let Json::Object(authors) = authors else { continue };
        for (author, seq) in authors {
            if let Json::Int(seq) = seq {
                tips.insert((timeline.to_string(), author.to_string()), u64::try_from(*seq).unwrap_or(0));
            }
        }
    }
    Ok(tips)
}

/// Changes that are in one and not in the other.
fn lacks(own: &Tips, other: &Tips) -> u64 {
    other.iter().map(|(chain, seq)| seq.saturating_sub(own.get(chain).copied().unwrap_or(0))).sum()
}

/// The tips of all of them together.
fn union<'t>(all: impl Iterator<Item = &'t Tips>) -> Tips {
    let mut union = Tips::new();
    for (chain, seq) in all.flatten() {
        let known = union.entry(chain.clone()).or_default();
        *known = (*known).max(*seq);
    }
    union
}

/// What a peer says of its files.
struct Files {
    /// Whether all are to be there.
    is_pinned: bool,
    /// How many are not.
    lacking: u64,
    /// How many are not since the owner paused or cancelled them there.
    stopped: u64,
    /// Which ones, by numbers that are the same at all peers.
    lacks: BTreeSet<String>,
}

async fn files_of(member: &Member, key: &Arc<SecretKey>) -> anyhow::Result<Files> {
    let told = ask(member, key, Request::get("/.sys/kept")).await?;
    let lacks = if let Some(Json::Array(lacks)) = part(&told, "lacks") { lacks.as_slice() } else { &[] };
    let count = |name| number(&told, name).unwrap_or(0);
    Ok(Files {
        is_pinned: part(&told, "pinned") == Some(&Json::Bool(true)),
        lacking: count("files").saturating_sub(count("files_here")).saturating_sub(count("stopped")),
        stopped: count("stopped"),
        lacks: lacks.iter().filter_map(|lack| if let Json::String(lack) = lack { Some(lack.to_string()) } else { None }).collect(),
    })
}

/// Whether each of the others that is to have all files has those that one of them has: what it lacks, too, is with nobody, or
/// comes from elsewhere.
fn have_files_of(one: &Files, others: &[Files]) -> bool {
    others.iter().filter(|other| other.is_pinned).all(|other| other.lacks.is_subset(&one.lacks) && other.lacks.len() as u64 == other.lacking)
}

async fn status(out: Output, cluster: &Cluster) -> anyhow::Result<()> {
    let key = cluster.key()?;
    let asked = cluster.peer.iter().map(|member| {
        let (member, key) = (member.clone(), Arc::clone(&key));
        tokio::spawn(async move {
            let status = ask(&member, &key, Request::get("/.sys/status")).await?;
            let peers = ask(&member, &key, Request::get("/.sys/peers")).await?;
            anyhow::Ok((status, peers, tips(&member, &key).await?, files_of(&member, &key).await?))
        })
    });
    let mut answers = Vec::new();
    for answer in asked.collect::<Vec<_>>() {
        answers.push(answer.await.context("a question was lost")?);
    }
    let all = union(answers.iter().flatten().map(|(_, _, tips, _)| tips));
    let mut rows = vec![["name", "", "version", "for", "changes", "lacks", "files", "links"].map(str::to_owned).to_vec()];
    let (mut told, mut problems) = (Vec::new(), Vec::new());
    for (member, answer) in cluster.peer.iter().zip(&answers) {
        match answer {
            Ok((status, peers, tips, files)) => {
                let links = items(peers, "peers").iter().filter(|peer| text(peer, "state") == Some("connected")).count();
                let (version, uptime_ms) = (text(status, "version").unwrap_or("?"), number(status, "uptime_ms").unwrap_or(0));
                let (changes, lacks) = (number(status, "changes").unwrap_or(0), lacks(tips, &all));
                let (files, stopped) = (files.is_pinned.then_some(files.lacking), files.stopped);
                let files_lack = match (files, stopped) {
                    (Some(0), 0) => "all".to_owned(),
                    (Some(0), stopped) => format!("all but {stopped} that you stopped"),
                    (Some(count), _) => format!("lacks {count}"),
                    (None, _) => "not pinned".to_owned(),
                };
                let (changed, lack, linked) = (changes.to_string(), lacks.to_string(), links.to_string());
                let cells = [member.name.as_str(), "running", version, &span(uptime_ms), &changed, &lack, &files_lack, &linked];
                rows.push(cells.map(str::to_owned).to_vec());
                told.push(json!({"name": member.name, "http": member.http, "state": "running", "version": version, "uptime_ms": uptime_ms,
                    "changes": changes, "lacks": lacks, "files_lack": files, "files_stopped": stopped, "links": links, "problem": null}));
            }
            Err(error) => {
                let failure = Failure::of(error);
                let state = if failure.code == UNREACHABLE { "silent" } else { "refused" };
                rows.push(vec![member.name.clone(), state.to_owned()]);
                told.push(json!({"name": member.name, "http": member.http, "state": state, "problem": failure.title}));
                problems.push(failure.to_string());
            }
        }
    }
    out.result(&json!({ "peers": told }), || table(&rows).join("\n"))?;
    problems.iter().for_each(|problem| out.note(format!("note: {problem}")));
    if problems.is_empty() { Ok(()) } else { Err(Failure::told().into()) }
}

async fn down(out: Output, cluster: &Cluster, names: &[String]) -> anyhow::Result<()> {
    let mut told = Vec::new();
    for member in here(cluster, names)? {
        let home = member.home_here()?;
        let was_running = is_running(&home)?;
        if was_running {
            super::down::stop(&Context { home, out }).await?;
        }
        out.note(format!("{:<12} {}", member.name, if was_running { "stopped" } else { "was not running" }));
        told.push(json!({"name": member.name, "stopped": was_running}));
    }
    out.result(&json!({ "peers": told }), String::new)
}

async fn upgrade(out: Output, cluster: &Cluster, names: &[String], patience: Duration) -> anyhow::Result<()> {
    let key = cluster.key()?;
    // Before anything is stopped: all have to be there, or what one has could be missing.
    for member in &cluster.peer {
        ask(member, &key, Request::get("/.sys/status")).await.map_err(|error| {
            Failure::of(&error)
                .fix("nothing was restarted; `timebus cluster status` shows how they are, `timebus cluster up` starts those of this machine")
        })?;
    }
    let mut told = Vec::new();
    for member in cluster.named(names)? {
        let others: Vec<&Member> = cluster.peer.iter().filter(|other| other.name != member.name).collect();
        let restarted = match restart(out, member, &others, &key, patience).await {
            Ok(restarted) => restarted,
            Err(error) => {
                // What was done is told all the same.
                if out.json {
                    out.line(json!({ "peers": told }).to_string())?;
                }
                return Err(stopped_at(member, &told, &error).into());
            }
        };
        out.note(format!(
            "{:<12} {} → {}, away for {:.1} s, has all that the others have after {:.1} s more",
            member.name,
            restarted.before,
            restarted.after,
            restarted.away.as_secs_f64(),
            restarted.behind.as_secs_f64()
        ));
        if restarted.is_same_program {
            out.note(format!("note: {} runs the same program as before; {}", member.name, how_to_renew(cluster, member)));
        }
        told.push(json!({"name": member.name, "before": restarted.before, "after": restarted.after, "same_program": restarted.is_same_program,
            "away_ms": restarted.away.as_millis() as u64, "behind_ms": restarted.behind.as_millis() as u64}));
    }
    out.result(&json!({ "peers": told }), String::new)
}

/// Where an upgrade ended, and how it goes on.
fn stopped_at(member: &Member, told: &[serde_json::Value], error: &anyhow::Error) -> Failure {
    let failure = Failure::of(error);
    let done: Vec<&str> = told.iter().filter_map(|one| one["name"].as_str()).collect();
    let done = if done.is_empty() { "none is upgraded yet".to_owned() } else { format!("done: {}", done.join(", ")) };
    let detail = failure.detail.iter().cloned().chain([format!("it stopped at {}; {done}", member.name)]).collect::<Vec<_>>().join("\n");
    let fix = failure.fix.clone().unwrap_or_else(|| {
        "`timebus cluster status` shows how they are, `timebus cluster up NAME` starts one of this machine; then `timebus cluster upgrade` goes on, \
         or upgrades the rest by name"
            .to_owned()
    });
    failure.detail(detail).fix(fix)
}

/// Waits until the other peers have the files that this one may be the only one to have. What nobody has does not come.
async fn wait_for_files(member: &Member, others: &[&Member], key: &Arc<SecretKey>, patience: Duration, is_quiet: bool) -> anyhow::Result<Option<()>> {
    wait(patience, async || {
        if is_quiet {
            be_quiet(member, key, true).await?;
        }
        let mut of_others = Vec::new();
        for other in others {
            of_others.push(files_of(other, key).await?);
        }
        Ok(have_files_of(&files_of(member, key).await?, &of_others))
    })
    .await
}

/// Has a peer take nothing new for a while, or take everything again. Answers how many writes that began before are under way.
async fn be_quiet(member: &Member, key: &Arc<SecretKey>, is_quiet: bool) -> anyhow::Result<u64> {
    let body = if is_quiet { json!({}) } else { json!({"seconds": 0}) };
    match ask(member, key, Request::post("/.sys/quiet").body(JSON, body.to_string())?).await {
        Ok(told) => Ok(number(&told, "writing").unwrap_or(0)),
        // One of a release that does not know this goes as ever.
        Err(error) if matches!(Failure::of(&error).status, Some(403 | 404)) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Where a new program goes, in words.
fn how_to_renew(cluster: &Cluster, member: &Member) -> String {
    let program = member.program_path(&cluster.folder);
    let again = format!("then `timebus cluster upgrade {}`", member.name);
    match member.elsewhere {
        true => format!("for a new one: there, put it at {program}, or build the image again (`timebus cluster container {}`), {again}", member.name),
        false => format!("for a new one: put it at {program}, {again}"),
    }
}

struct Restarted {
    before: String,
    after: String,
    /// Whether what came back is the program that was there before; `false` where it says nothing of that.
    is_same_program: bool,
    away: Duration,
    behind: Duration,
}

/// Restarts one peer. The others have what it has before, and it has what the others have afterwards.
async fn restart(out: Output, member: &Member, others: &[&Member], key: &Arc<SecretKey>, patience: Duration) -> anyhow::Result<Restarted> {
    let version = |status: &Json| text(status, "version").unwrap_or("?").to_owned();
    let program = |status: &Json| text(status, "build").map(str::to_owned);
    let status = ask(member, key, Request::get("/.sys/status")).await?;
    let (before, program_before) = (version(&status), program(&status));
    let late = |what: &str| {
        Failure::refused(format!("{}: {what} within {} s", member.name, patience.as_secs()))
            .detail("the peers that were not restarted yet were left alone")
            .fix("`timebus cluster status` shows how they are; `timebus cluster upgrade` goes on, --patience waits longer")
    };
    let others_have_all = async |is_quiet: bool| {
        let own = tips(member, key).await?;
        for other in others {
            let has_all = async || {
                if is_quiet {
                    be_quiet(member, key, true).await?;
                }
                anyhow::Ok(lacks(&tips(other, key).await?, &own) == 0)
            };
            wait(patience, has_all).await?.ok_or_else(|| late("the others did not get what it has"))?;
        }
        if wait_for_files(member, others, key, patience, is_quiet).await?.is_none() {
            let mut lacking = Vec::new();
            let own = files_of(member, key).await?;
            for other in others {
                let files = files_of(other, key).await?;
                if !have_files_of(&own, std::slice::from_ref(&files)) {
                    lacking.push(format!("{} lacks {}", other.name, counted(files.lacking as usize, "file")));
                }
            }
            let fix = "`timebus files` there says why they do not come, `timebus files cancel PATH` there does without one; then `timebus cluster \
                       upgrade` goes on, --patience waits longer";
            let late = late("the others did not get the files that it has");
            return Err(if lacking.is_empty() { late } else { late.detail(lacking.join(", ")).fix(fix) }.into());
        }
        anyhow::Ok(())
    };
    // Most of it can take long, and meanwhile it is written to as ever.
    others_have_all(false).await?;
    let hand_over = async {
        // What it acknowledges while the others are asked could be with it alone. What had begun goes on to its end.
        wait(patience, async || Ok(be_quiet(member, key, true).await? == 0)).await?.ok_or_else(|| late("what somebody is writing did not end"))?;
        others_have_all(true).await
    };
    if let Err(error) = hand_over.await {
        // It goes on as before; by itself after a minute, if it does not hear of this.
        let _ = be_quiet(member, key, false).await;
        return Err(error);
    }
    let stopped = Instant::now();
    ask(member, key, Request::post("/.sys/down")).await?;
    if !member.elsewhere {
        let home = member.home_here()?;
        wait(patience, async || Ok(try_lock(&home)?.is_some())).await?.ok_or_else(|| late("it did not stop"))?;
        start(out, member).await?;
    }
    // What answers has to be a new process: one that stops may answer for a while.
    let status = wait_for(patience, async || {
        let status = ask(member, key, Request::get("/.sys/status")).await.ok()?;
        (Duration::from_millis(number(&status, "uptime_ms").unwrap_or(u64::MAX)) < stopped.elapsed()).then_some(status)
    });
    let status = status.await.ok_or_else(|| late("it was stopped and did not come back").fix(fix_away(member)))?;
    let away = stopped.elapsed();
    let mut wanted = Vec::new();
    for other in others {
        wanted.push(tips(other, key).await?);
    }
    let wanted = union(wanted.iter());
    wait(patience, async || Ok(lacks(&tips(member, key).await?, &wanted) == 0)).await?.ok_or_else(|| late("it did not get what the others have"))?;
    let is_same_program = program_before.is_some() && program_before == program(&status);
    Ok(Restarted { before, after: version(&status), is_same_program, away, behind: stopped.elapsed().saturating_sub(away) })
}

fn fix_away(member: &Member) -> String {
    match member.elsewhere {
        true => format!("there: systemctl status timebus-{}; the unit has to say Restart=always", member.name),
        false => format!("look into {}", member.home.with_extension("log").display()),
    }
}

/// Waits until something is so; `None` if it takes too long.
async fn wait(patience: Duration, is_so: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<Option<()>> {
    let deadline = Instant::now() + patience;
    while !is_so().await? {
        if Instant::now() > deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(Some(()))
}

/// Waits until there is something.
async fn wait_for<T>(patience: Duration, look: impl AsyncFn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            None if Instant::now() > deadline => return None,
            None => tokio::time::sleep(LOOK_EVERY).await,
            found => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_alone_has_is_waited_for_and_what_nobody_has_is_not() {
        let files = |is_pinned: bool, lacks: &[&str]| Files {
            is_pinned,
            lacking: lacks.len() as u64,
            stopped: 0,
            lacks: lacks.iter().map(|lack| (*lack).to_owned()).collect(),
        };
        // The others lack x, and this one y: as many, but not the same.
        assert!(!have_files_of(&files(true, &["y"]), &[files(true, &["x"]), files(true, &["x"])]));
        assert!(have_files_of(&files(true, &["y"]), &[files(true, &[]), files(true, &["y"])]));
        assert!(have_files_of(&files(true, &["y", "z"]), &[files(true, &["y", "z"])]), "nobody has them");
        assert!(!have_files_of(&files(false, &[]), &[files(true, &["x"])]), "also if it is not to have all itself");
        assert!(have_files_of(&files(true, &[]), &[files(false, &["x"])]), "who is not to have all is not waited for");
        let more = Files { lacking: 20_000, ..files(true, &["x"]) };
        assert!(!have_files_of(&files(true, &["x"]), &[more]), "not all of it was told");
    }

    #[test]
    fn counts_what_one_lacks() {
        let tips = |chains: &[(&str, u64)]| chains.iter().map(|(author, seq)| (("main".to_owned(), (*author).to_owned()), *seq)).collect::<Tips>();
        let (one, other) = (tips(&[("a", 5), ("b", 2)]), tips(&[("a", 3), ("b", 2), ("c", 4)]));
        assert_eq!((lacks(&one, &other), lacks(&other, &one)), (4, 2));
        let all = union([&one, &other].into_iter());
        assert_eq!(all, tips(&[("a", 5), ("b", 2), ("c", 4)]));
        assert_eq!(lacks(&all, &one), 0);
    }
}
