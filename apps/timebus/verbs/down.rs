//! down: stops the running peer.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::Context;
use crate::client::{Request, Session};
use crate::failure::Failure;
use crate::peer::try_lock;

/// How long a peer may take to stop: open requests get some seconds, then the index is flushed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(context: &Context) -> anyhow::Result<()> {
    let out = context.out;
    let nothing = || "no peer is running here".to_owned();
    let is_free = !context.home.exists() || try_lock(&context.home)?.is_some();
    if is_free {
        context.home.clear_running();
        return out.result(&json!({"stopped": false}), nothing);
    }
    let mut session = Session::open(context, crate::client::Home::MustExist).await?;
    let Some(running) = session.is_running().cloned() else {
        session.close().await;
        return out.result(&json!({"stopped": false}), nothing);
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
    out.result(&json!({"stopped": true, "pid": running.pid, "http": running.http}), || format!("stopped {}", running.http))
}
