//! What can be said to a cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Gen;

/// Look after a handful of peers of your own that all hold your space
///
/// A cluster is a file that names its peers. They are devices of one space: what is written to one of them is on all of
/// them. `timebus cluster up` starts those of this machine and lets a key look after all of them, the file `cluster.key`:
/// with an admin grant at /.sys, which lets it see how they are and stop them, and a write grant for the whole space.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus cluster init                        write cluster.toml, with three peers on this machine
  timebus cluster up                          start them, and make them devices of one space
  timebus cluster status
  timebus cluster add attic                   how to bring in the one that is on another machine
  timebus cluster unit attic                  print a systemd unit for it; `container` for a container file
  timebus cluster upgrade                     the new program, one peer after the other; writes go on
  timebus cluster gen /demo --rate 100        random writes to all of them
  timebus cluster down

Requests are signed and go over plain HTTP: to other machines through a network of your own, or a tunnel.")]
pub(crate) struct Cluster {
    /// The file that names the peers
    #[arg(long, global = true, value_name = "FILE", default_value = "cluster.toml")]
    pub(crate) file: PathBuf,

    #[command(subcommand)]
    pub(crate) action: ClusterAction,
}

/// What to do with it.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum ClusterAction {
    /// Write a file to begin with
    #[command(after_help = "\
Examples:
  timebus cluster init
  timebus cluster init --peers 5 --port 9000 --file lab/cluster.toml")]
    Init {
        /// How many peers on this machine
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
        peers: u16,

        /// Port of the first; the others follow
        #[arg(long, value_name = "PORT", default_value_t = 7101, value_parser = clap::value_parser!(u16).range(1..=65000))]
        port: u16,
    },

    /// Start the peers of this machine, and make them devices of one space
    ///
    /// The first one that has a home already has the space; new ones join it. Does nothing for those that run.
    #[command(after_help = "\
Examples:
  timebus cluster up
  timebus cluster up two three")]
    Up {
        /// Which [default: all of this machine]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },

    /// Say how to bring in a peer that is on another machine
    ///
    /// Makes a link that is good once: send it to nobody but that machine.
    #[command(after_help = "\
Examples:
  timebus cluster add attic")]
    Add {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
    },

    /// Show how the peers are, and whether each has what the others have
    ///
    /// Ends with 1 if one of them does not answer.
    #[command(after_help = "\
Examples:
  timebus cluster status
  timebus cluster status --json | jq '.peers[] | {name, lacks}'")]
    Status {},

    /// Print a systemd unit that starts a peer
    #[command(after_help = "\
Examples:
  timebus cluster unit attic > timebus-attic.service")]
    Unit {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
    },

    /// Print a file to make a container of a peer from
    #[command(after_help = "\
Examples:
  timebus cluster container attic > Containerfile")]
    Container {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
    },

    /// Restart the peers, one after the other, so that a new program runs
    ///
    /// A peer takes nothing new first, so that who writes goes to another one or tries again. It is stopped when what had begun
    /// is done and the others have all that it has, and the next one is not touched before this one is back and has all that
    /// the others have. On this machine the program is started anew; elsewhere systemd or the container does it. Put the new
    /// program in its place before.
    #[command(after_help = "\
Examples:
  timebus cluster upgrade
  timebus cluster upgrade two --patience 600")]
    Upgrade {
        /// Which [default: all]
        #[arg(value_name = "NAME")]
        names: Vec<String>,

        /// Seconds that each step may take
        #[arg(long, value_name = "S", default_value_t = 120)]
        patience: u64,
    },

    /// Stop the peers of this machine
    #[command(after_help = "\
Examples:
  timebus cluster down
  timebus cluster down two")]
    Down {
        /// Which [default: all of this machine]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },

    /// Write random data to all of them, each write to whoever answers
    ///
    /// A write that was not acknowledged is made again at another peer, so with `--shape tweets` it may be there twice.
    #[command(after_help = "\
Examples:
  timebus cluster gen /demo --rate 100
  timebus cluster gen /demo --shape tree --count 10000 --rate 0")]
    Gen(Gen),
}
