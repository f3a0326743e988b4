//! relay: runs a relay for peers that cannot reach each other directly.

use std::num::NonZeroU32;

use serde_json::json;
use timebus_net::link::relay::{Relay, RelayConfig};

use crate::Context;
use crate::failure::Failure;

pub(crate) async fn run(context: &Context, args: crate::cli::Relay) -> anyhow::Result<()> {
    let out = context.out;
    let stop = super::up::stop_signal()?;
    let mut config = RelayConfig::new(args.listen);
    config.allow = args.allow;
    config.peers_max = args.peers;
    config.peer_bytes_per_s = NonZeroU32::new(args.rate);
    let started = Relay::start(config).await;
    let mut relay = started.map_err(|error| Failure::refused(error.to_string()).fix("name another address, as in --listen 127.0.0.1:3341"))?;
    let listen = relay.address();
    let url = format!("http://{listen}");
    let address = format!("relay:{url}");
    if out.json {
        out.line(json!({"ready": true, "url": url, "address": address, "pid": std::process::id()}).to_string())?;
    } else {
        out.line(format!("  relay      {address}"))?;
        if listen.ip().is_unspecified() {
            out.line("  note       others use an address of this machine instead of that")?;
        } else if !listen.ip().is_loopback() {
            out.line("  note       without TLS; put a web server with TLS in front before the internet uses it")?;
        }
        out.line("  stop       Ctrl-C")?;
    }
    out.flush()?;
    tokio::select! {
        () = stop => {}
        error = relay.failed() => return Err(error.into()),
    }
    relay.stop().await?;
    Ok(())
}
