//! watch: a value and every change to it, through restarts of the peer.

use std::time::{Duration, SystemTime};

use crate::Context;
use crate::cli::Watch;
use crate::client::{Client, Home, Lines, NDJSON, Request, Session};
use crate::failure::{Failure, UNREACHABLE};
use crate::peer::try_lock;
use crate::target::Versions;
use crate::value::{Json, member, text, versions};

/// How often to look for a peer while there is none.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where a stream of events stands.
#[derive(Debug, Default)]
struct Cursor {
    /// The version behind which everything was printed.
    settled: Option<Versions>,
    /// The version of the last change that came whole.
    latest: Option<Versions>,
}

impl Cursor {
    fn event(&mut self, event: &Json) {
        let versions = versions(member(event, "version"));
        // A change that goes on in the next event is not whole yet.
        if !versions.is_empty() && member(event, "more") != Some(&Json::Bool(true)) {
            self.latest = Some(Versions::new(versions));
        }
    }

    /// Everything that came was printed.
    fn pause(&mut self) {
        if self.latest.is_some() {
            self.settled = self.latest.take();
        }
    }
}

/// Why a stream ended.
enum End {
    /// What there was until now has been printed, and that is all that was wanted.
    CaughtUp,
    /// The peer ends it and says why.
    Closed(String),
    /// The peer went away.
    Lost,
}

pub(crate) async fn run(context: &Context, args: Watch) -> anyhow::Result<()> {
    let mut cursor = Cursor { settled: args.from.clone(), latest: None };
    let mut told = false;
    let mut is_first = true;
    let mut said = String::new();
    loop {
        // Other commands may write while no peer runs; that shows in the log.
        let log_before = log_modified(context);
        let mut session = match Session::open(context, Home::MustExist).await {
            Ok(session) => session,
            Err(error) if is_first || Failure::of(&error).code != UNREACHABLE => return Err(error),
            Err(_) => continue,
        };
        let is_running = session.is_running().is_some();
        let end = follow(context, &args, &mut session, &mut cursor, args.once || !is_running).await;
        session.close().await;
        match end {
            Ok(End::CaughtUp) if args.once => return Ok(()),
            Ok(End::CaughtUp | End::Lost) => {}
            // Whose space it is cannot be reached now, which is no reason to give up.
            Err(error) if Failure::of(&error).status.is_some_and(is_away) && !args.once => {
                let Failure { title, detail, .. } = Failure::of(&error);
                // Times change with every try; what is said does not.
                if said != title {
                    let detail = detail.unwrap_or_default();
                    context.out.note(format!("{title}: {}; waiting", detail.lines().next().unwrap_or_default().trim_end_matches(':')));
                    said = title;
                }
                is_first = false;
                if is_running {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
            }
            Ok(End::Closed(reason)) => return Err(Failure::refused(format!("the peer closed this subscription: {reason}")).into()),
            Err(error) if is_first || Failure::of(&error).code != UNREACHABLE => return Err(error),
            Err(_) => {}
        }
        is_first = false;
        if is_running {
            told = true;
            context.out.note("the peer went away; waiting until it is back");
        } else if !std::mem::replace(&mut told, true) {
            context.out.note(format!("no peer is running; waiting for `{}`", context.home.command("up")));
        }
        while !is_running && log_modified(context) == log_before && try_lock(&context.home)?.is_some() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if is_running {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether a status says that something is on its way or nobody who has it can be reached.
fn is_away(status: u16) -> bool {
    matches!(status, 503 | 504)
}

/// Prints events until the stream ends.
async fn follow(context: &Context, args: &Watch, session: &mut Session, cursor: &mut Cursor, once: bool) -> anyhow::Result<End> {
    let mut client = session.connect().await?;
    let mut lines = subscribe(&mut client, args, cursor).await?;
    let mut batch: Vec<u8> = Vec::new();
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) | Err(_) => return Ok(End::Lost),
        };
        let Ok(event) = crate::value::parse(&line) else { return Ok(End::Lost) };
        cursor.event(&event);
        batch.extend_from_slice(&line);
        batch.push(b'\n');
        let caught_up = member(&event, "caught_up").is_some();
        let closed = text(&event, "closed");
        if lines.is_drained() || caught_up || closed.is_some() {
            context.out.bytes(&batch)?;
            context.out.flush()?;
            batch.clear();
            cursor.pause();
        }
        if let Some(reason) = closed {
            return Ok(End::Closed(reason.to_owned()));
        }
        if caught_up && once {
            return Ok(End::CaughtUp);
        }
    }
}

async fn subscribe(client: &mut Client, args: &Watch, cursor: &Cursor) -> anyhow::Result<Lines> {
    let mut request = Request::get(args.path.encoded()).header("accept", NDJSON)?.header("subscribe", "true")?;
    if let Some(depth) = args.depth {
        request = request.query("depth", depth);
    }
    if let Some(last) = args.last {
        request = request.query("last", last);
    }
    let request = request.versions("parents", cursor.settled.as_ref())?;
    Ok(client.send(request).await?.lines())
}

/// When the change log was last written.
fn log_modified(context: &Context) -> Option<(SystemTime, u64)> {
    let files = std::fs::read_dir(context.home.of_persona().folder().join("log")).ok()?;
    let state = |file: std::fs::DirEntry| file.metadata().ok().and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
    files.filter_map(Result::ok).filter_map(state).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(version: &str) -> Json {
        crate::value::parse(format!(r#"{{"put":"/a","value":1,"version":["{version}"]}}"#).as_bytes()).expect("JSON")
    }

    #[test]
    fn resumes_behind_whole_changes_only() {
        let mut cursor = Cursor::default();
        let settled = |cursor: &Cursor| cursor.settled.as_ref().map(ToString::to_string);
        cursor.event(&event("a"));
        assert_eq!(settled(&cursor), None);
        cursor.pause();
        assert_eq!(settled(&cursor).as_deref(), Some("a"));
        cursor.event(&event("b"));
        assert_eq!(settled(&cursor).as_deref(), Some("a"), "the rest of b may be missing");
        cursor.pause();
        cursor.pause();
        assert_eq!(settled(&cursor).as_deref(), Some("b"));
        cursor.event(&crate::value::parse(br#"{"put":"/a","value":1,"version":["c"],"more":true}"#).expect("JSON"));
        cursor.pause();
        assert_eq!(settled(&cursor).as_deref(), Some("b"), "c goes on");
    }
}
