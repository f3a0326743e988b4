//! What can be typed about apps.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Can;
use crate::amounts::Lifetime;
use crate::target::Target;

/// Make, install, open, share and remove apps: web pages that run on your peer and keep their data in your space
///
/// An app is a folder with an `app.json`. It runs at an address of its own and can do what you agreed to when you
/// installed it, and nothing else. Removing an app leaves what it wrote.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus app install chirp                   one that comes with timebus
  timebus app open chirp                      in the browser
  timebus app share chirp                     a link for a friend: the app, and your space
  timebus app install @alice/chirp            one that alice published, from whoever has it
  timebus app new notes                       a folder with an app of your own
  timebus app dev notes                       install it, and load its page anew whenever a file changes
  timebus app publish notes                   let others install it who read your space

app.json:
  { \"name\": \"notes\", \"title\": \"Notes\", \"entry\": \"index.html\", \"icon\": \"icon.svg\",
    \"wants\": [{ \"path\": \"/notes\", \"may\": [\"read\", \"write\"], \"why\": \"your notes\" }],
    \"network\": [] }
`\"of\": \"others\"` asks for the path in spaces of others. Of the system an app can be given /.sys/spaces, /.sys/refs,
/.sys/follow, /.sys/lists, /.sys/mute and /.drop. Its pages use /sdk.js, which every peer serves.")]
pub(crate) struct App {
    #[command(subcommand)]
    pub(crate) action: Option<AppAction>,
}

/// What to do with apps.
#[derive(Debug, Subcommand)]
pub(crate) enum AppAction {
    /// Make a folder with a small app in it
    #[command(after_help = "Examples:\n  timebus app new notes\n  timebus app new notes --in ~/apps/notes")]
    New {
        /// Lower-case letters, digits and dashes
        #[arg(value_name = "NAME")]
        name: String,

        /// The folder [default: one called like the app]
        #[arg(long = "in", value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Install an app from a folder, and follow its files until Ctrl-C
    #[command(after_help = "Examples:\n  timebus app dev notes")]
    Dev {
        /// The folder of the app
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Write an app into your space, from where those who read it can install it
    #[command(after_help = "Examples:\n  timebus app publish notes\n  timebus app publish ./notes")]
    Publish {
        /// A folder, or an app that is installed
        #[arg(value_name = "DIR|APP")]
        what: String,
    },
    /// Install an app, or another version of it; shows what it may do and asks
    #[command(after_help = "\
Examples:
  timebus app install chirp                     comes with timebus
  timebus app install @alice/notes              published by alice
  timebus app install ./notes                   a folder
  timebus app install notes                     what your own space publishes, on another device of yours
  timebus app install @alice/notes --space @alice   to work in alice's space, where she lets you
  timebus app install timebus://join/ASLa…      an invite that brings an app: joins, then installs it")]
    Install {
        /// The name of one that comes with timebus, @who/name, a folder, or an invite link
        #[arg(value_name = "APP")]
        from: String,

        /// Do not ask
        #[arg(long, short)]
        yes: bool,

        /// What it is called here, which is its address [default: its name]
        #[arg(long = "as", value_name = "NAME")]
        alias: Option<String>,

        /// Whose space it gets, where it may do what you may; @me is yours [default: the one that it has, else yours]
        #[arg(long, value_name = "@WHO")]
        space: Option<String>,
    },
    /// List what is installed and in whose space, what comes with timebus, and what your space publishes
    #[command(after_help = "Examples:\n  timebus app ls\n  timebus app ls --json | jq '.apps[].url'")]
    Ls {},
    /// Open an app in the browser, and print its address
    #[command(after_help = "\
Examples:
  timebus app open chirp
  timebus app open chirp --print        only print the address; it works once, for a quarter of an hour
  timebus app open chirp --port         at a port of its own, for browsers that know no *.localhost")]
    Open {
        /// An installed app
        #[arg(value_name = "APP")]
        alias: String,

        /// Start no browser
        #[arg(long)]
        print: bool,

        /// Use a port of its own
        #[arg(long)]
        port: bool,
    },
    /// Publish an app and print an invite that brings it along
    #[command(after_help = "\
Examples:
  timebus app share chirp                               a friend reads along, with chirp
  timebus app share board --to /boards --can write      and may write there")]
    Share {
        /// An installed app
        #[arg(value_name = "APP")]
        alias: String,

        /// Where the bearer may write, with --can write
        #[arg(long, value_name = "PATH", default_value = "/")]
        to: Target,

        /// What the bearer may do
        #[arg(long, value_enum, default_value_t = Can::Read)]
        can: Can,

        /// How many may take it
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        uses: u64,

        /// How long it can be taken, as in 30m, 12h, 7d or never
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = crate::amounts::lifetime)]
        expires: Lifetime,

        /// What is shown to the bearer before anything was fetched; it is part of the link
        #[arg(long, value_name = "TEXT", default_value = "")]
        hello: String,

        /// Show it as a QR code, also where stderr is no terminal
        #[arg(long)]
        qr: bool,
    },
    /// Remove an app; what it wrote stays
    #[command(after_help = "Examples:\n  timebus app remove chirp")]
    Remove {
        /// An installed app
        #[arg(value_name = "APP")]
        alias: String,
    },
}
