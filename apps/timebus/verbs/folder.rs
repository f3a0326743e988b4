//! folder: a folder and a subtree that are kept the same.

use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use notify::Watcher as _;
use serde_json::json;
use tokio::sync::mpsc;

use crate::Context;
use crate::cli::Folder;
use crate::client::{Client, Home, NDJSON, Request, Session};
use crate::failure::{Failure, UNREACHABLE};
use crate::live::journal::{Journal, place};
use crate::live::{Live, canonical, names_below};
use crate::value::{Json, member, text};

/// How long a save may take before the folder is looked at.
const SETTLING: Duration = Duration::from_millis(60);
/// How long something that is being written may rest before it counts as finished.
const RESTING: Duration = Duration::from_millis(150);
/// How often the folder is looked at although nothing was heard of it: not every file system tells.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A look may take this part of the time, so that a large folder does not keep the machine busy.
const LOOK_SHARE: u32 = 20;
/// How often to look for a peer that went away.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// Why following a peer ended.
enum End {
    /// All that was wanted is done.
    Done,
    /// The peer went away.
    Lost,
}

pub(crate) async fn run(context: &Context, args: Folder) -> anyhow::Result<()> {
    let root = canonical(&args.folder)?;
    let home = std::fs::canonicalize(context.home.folder()).unwrap_or_else(|_| context.home.folder().to_owned());
    if home.starts_with(&root) || root.starts_with(&home) {
        let title = format!("{} and the peer's own folder {} lie in each other", root.display(), home.display());
        return Err(Failure::usage(title).fix("name another folder").into());
    }
    if !context.home.exists() {
        let fix = format!("start a peer with `{}`, then try again", context.home.command("up"));
        return Err(Failure::unreachable(format!("there is no timebus home at {}", home.display())).fix(fix).into());
    }
    let path = args.path.to_string();
    let Some(journal) = Journal::open(&place(context.home.of_persona().folder(), &path, &root), &path, &root)? else {
        let title = format!("another timebus keeps {path} and {} the same", root.display());
        return Err(Failure::refused(title).fix("stop it first").into());
    };
    let mut live = Live::new(root.clone(), args.path.clone(), journal, context.out);
    let (ping, mut pings) = mpsc::channel(1);
    let _watcher = listen(&root, ping);
    let mut stop = pin!(super::up::stop_signal()?);
    let mut said = String::new();
    let mut is_first = true;
    let result = loop {
        let followed = async {
            let mut session = Session::open(context, Home::MustExist).await?;
            if session.is_running().is_none() && !args.once {
                session.close().await;
                let fix = format!("`{}` in another terminal; or --once brings both together and ends", context.home.command("up"));
                return Err(Failure::unreachable("no peer is running").fix(fix).into());
            }
            let end = follow(&args, &mut live, &mut session, &mut pings).await;
            session.close().await;
            end
        };
        let end = tokio::select! {
            end = followed => end,
            () = &mut stop => break Ok(()),
        };
        let why = match end {
            Ok(End::Done) => break Ok(()),
            Ok(End::Lost) => "the peer went away".to_owned(),
            Err(error) if is_first || args.once || Failure::of(&error).code != UNREACHABLE => break Err(error),
            Err(error) => Failure::of(&error).title,
        };
        is_first = false;
        if said != why {
            context.out.note(format!("{why}; waiting"));
            said = why;
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_EVERY) => {}
            () = &mut stop => break Ok(()),
        }
    };
    live.finish();
    result
}

/// Says when something happened in a folder. Without it, the folder is looked at now and then.
fn listen(root: &Path, ping: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let tell = move |event: notify::Result<notify::Event>| {
        // Being read changes nothing, and we read ourselves.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = ping.try_send(());
        }
    };
    let watched = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(root, notify::RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    watched.inspect_err(|error| tracing::warn!(%error, "changes in the folder are noticed later")).ok()
}

/// Keeps both sides the same until the peer goes away.
async fn follow(args: &Folder, live: &mut Live, session: &mut Session, pings: &mut mpsc::Receiver<()>) -> anyhow::Result<End> {
    let mut client = session.connect().await?;
    check_place(args, &mut client).await?;
    let mut stream = session.connect().await?;
    let request = Request::get(args.path.encoded()).header("accept", NDJSON)?.header("subscribe", "true")?;
    let mut lines = stream.send(request).await?.lines();
    // What changes from here on is heard of; what changed before is found by looking.
    let files = live.settle(&mut client).await?;
    if args.once {
        live.told_ready(files, true);
        return Ok(End::Done);
    }
    live.told_ready(files, false);
    let mut next_look = Instant::now();
    let mut is_first = true;
    loop {
        tokio::select! {
            line = lines.next() => {
                let Ok(Some(line)) = line else { return Ok(End::Lost) };
                let Ok(event) = crate::value::parse(&line) else { return Ok(End::Lost) };
                if let Some(reason) = text(&event, "closed") {
                    return Err(Failure::refused(format!("the peer closed this subscription: {reason}")).into());
                }
                let names = match place_of(&event) {
                    Some(path) => names_below(&args.path, path),
                    // What the first one shows was looked at.
                    None if member(&event, "snapshot").is_some() && !std::mem::replace(&mut is_first, false) => Vec::new(),
                    None => continue,
                };
                live.hear(&mut client, &names).await?;
                if live.is_unsettled() {
                    next_look = next_look.min(Instant::now() + RESTING);
                }
            }
            Some(()) = pings.recv() => next_look = next_look.min(Instant::now() + SETTLING),
            () = tokio::time::sleep_until(next_look.into()) => {
                let began = Instant::now();
                live.look(&mut client).await?;
                let pause = if live.is_unsettled() { RESTING } else { LOOK_EVERY };
                next_look = Instant::now() + pause.max(began.elapsed() * LOOK_SHARE);
            }
        }
    }
}

/// A folder shows an object, or nothing yet.
async fn check_place(args: &Folder, client: &mut Client) -> anyhow::Result<()> {
    let request = Request::get(args.path.encoded()).header("accept", crate::client::JSON)?.query("depth", 0);
    match client.send(request).await {
        Ok(answer) => {
            let bytes = answer.bytes().await?;
            let json = crate::value::parse(&bytes)?;
            let is_object = matches!(&json, Json::Object(_)) && crate::value::file(&json).is_none() && member(&json, "@list").is_none();
            if is_object {
                return Ok(());
            }
            Err(Failure::refused(format!("{} is a single value", args.path)).fix("name the path above it, whose members become files").into())
        }
        Err(error) if Failure::of(&error).status == Some(404) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where something changed.
fn place_of(event: &Json) -> Option<&str> {
    ["put", "delete", "splice", "edit"].into_iter().find_map(|verb| text(event, verb))
}

impl Live {
    fn told_ready(&self, files: usize, is_all: bool) {
        let event = json!({"event": "ready", "files": files});
        self.tell(&event, || {
            let files = crate::value::counted(files, "file");
            if is_all { format!("both sides are the same: {files}") } else { format!("both sides are the same: {files}; Ctrl-C ends it") }
        });
    }
}
