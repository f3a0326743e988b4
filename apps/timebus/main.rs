//! The timebus program: a peer, and the commands to talk to one.
//!
//! [`cli`] says what can be typed; each verb has its file in [`verbs`]. All verbs speak HTTP through [`client`],
//! to the peer that runs on this home, or, when none runs, to one inside this process ([`peer`]). Whatever is
//! printed goes through [`output`], whatever goes wrong is a [`failure::Failure`].
//!
//! Deliberately not here: anything that the HTTP API cannot do, except what concerns this home's folder itself
//! (keys, restoring, health).

mod amounts;
mod builtin;
mod cli;
mod client;
mod clock;
mod cluster;
mod downloads;
mod failure;
mod folder;
mod generator;
mod home;
mod live;
mod media;
mod output;
mod peer;
mod pieces;
mod pretty;
mod progress;
mod standing;
mod target;
mod transfer;
mod value;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, LogFormat, Verb};
use crate::failure::Failure;
use crate::home::Home;
use crate::output::Output;

/// Writing makes and drops many small values in several threads at once, which this allocator is best at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What every verb needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The home folder.
    pub(crate) home: Home,
    /// Where to print.
    pub(crate) out: Output,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    let out = Output { json: cli.json };
    match run(cli, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let failure = Failure::of(&error);
            out.failure(&failure);
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli, out: Output) -> anyhow::Result<()> {
    // A variable that is set to nothing says nothing.
    let of_environment = || std::env::var_os("TIMEBUS_HOME").filter(|home| !home.is_empty()).map(Into::into);
    let home = match cli.home.or_else(of_environment) {
        Some(folder) => Home::new(&folder)?,
        None => Home::of_platform()?,
    };
    let home = match cli.persona {
        Some(name) => home.with_persona(&name)?,
        None => home,
    };
    let verb = cli.verb.unwrap_or_default();
    match &verb {
        // How the tables are put on disk is of no interest to who runs a peer.
        // What others send is no news to who runs a relay.
        Verb::Relay(_) => output::log("warn,iroh_relay=error", LogFormat::Text),
        // A part of the network that ends says so to its other parts as an error. Where there is no local network, what would be
        // said there fails again and again; `doctor` tells it once.
        Verb::Up(args) => output::log("info,fjall=warn,lsm_tree=warn,swarm_discovery=off,iroh::socket::transports::relay=off", args.log_format),
        // The account tells who misbehaved.
        Verb::Lab(_) => output::log("error", LogFormat::Text),
        _ => output::log("warn,swarm_discovery=off,iroh::socket::transports::relay=off", LogFormat::Text),
    }
    let context = Context { home, out };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Dropping the runtime closes a store that is open in this process.
    runtime.block_on(verbs::run(context, verb))
}

/// Prints what clap says about the arguments, or the help that was asked for.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    let asked_for_json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if !error.use_stderr() || !asked_for_json {
        error.exit();
    }
    let text = error.to_string();
    let mut parts = text.split("\n\n");
    let title = parts.next().unwrap_or_default().trim_start_matches("error: ").replace('\n', " ");
    let failure = Failure::usage(title).fix(format!("see `{} --help`", output::PROGRAM));
    Output { json: true }.failure(&failure);
    ExitCode::from(failure.code)
}
