//! down: stops the running peer.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::Context;
use crate::client::{Request, Session};
use crate::failure::Failure;
use crate::home::Running;
use crate::peer::try_lock;

/// How long a peer may take to stop: open requests get some seconds, then the index is flushed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    let out = context.out;
    match stop(context).await? {
        None => out.result(&json!({"stopped": false}), || "no peer is running here".to_owned()),
        Some(running) => out.result(&json!({"stopped": true, "pid": running.pid, "http": running.http}), || format!("stopped {}", running.http)),
    }
}

/// Stops the peer of a home, and waits until it has; `None` if none runs.
pub(crate) async fn stop(context: &Context) -> anyhow::Result<Option<Running>> {
    let is_free = !context.home.exists() || try_lock(&context.home)?.is_some();
    if is_free {
        context.home.clear_running();
        return Ok(None);
    }
    let mut session = Session::open(context, crate::client::Home::MustExist).await?;
    let Some(running) = session.is_running().cloned() else {
        session.close().await;
        return Ok(None);
    };
    let mut client = session.connect().await?;
    client.send(Request::post("/.sys/down")).await?;
    drop(client);
    let deadline = Instant::now() + PATIENCE;
    while try_lock(&context.home)?.is_none() {
        if Instant::now() > deadline {
            let title = format!("the peer was asked to stop and has not yet (process {})", running.pid);
            return Err(Failure::refused(title).fix(format!("wait, or end it with: kill {}", running.pid)).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(Some(running))
}
