//! Copies outside the store: imports, exports, folders, backups, and repair.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::target::{Target, Versions};

/// Keep a folder and a subtree the same, both ways, until you end it
///
/// Edit the files with whatever you like: what you save goes to the subtree, and what others write there comes into the
/// folder. Texts that are edited on both sides are merged, also when you were away; of other files that changed on both
/// sides, the one here is kept under a second name. Values that are no texts or files are shown as .json files.
#[derive(Debug, Args)]
#[command(after_help = "\
A new file becomes a text if it is one, also if it is called .json; `timebus import` makes values of JSON. Once it is
a value, what you save in its .json file goes into that value.
Left alone: names that begin with a dot, links, empty folders, files of more than 64 MiB, and what editors leave beside
a file for a while.
With --json a line for each thing done: {\"event\",\"file\",…} with event ready, sent, taken, removed, deleted, conflict,
refused or skipped.

Examples:
  timebus folder /notes ~/notes
  timebus folder @alice/table ~/table       edit what is alice's, as far as she lets you
  timebus folder /notes ~/notes --once      bring both together, then stop")]
pub(crate) struct Folder {
    /// Whose members become files, as in /notes
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,

    /// Bring both sides together, then stop
    #[arg(long)]
    pub(crate) once: bool,
}

/// Form of imported and exported data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON value.
    Json,
    /// One {"path","value"} a line.
    Ndjson,
    /// A folder of files.
    Dir,
}

/// Bring a file or folder into the tree
///
/// Adds and replaces, never removes. Interrupted, it goes on where it was when started again.
#[derive(Debug, Args)]
#[command(after_help = "\
From a folder, .json files become trees, texts become texts, and other files keep their bytes, each under its
file name. From ndjson, lines are {\"path\",\"value\"}, with paths below PATH; other lines are numbered.

Examples:
  timebus import /cldr ./cldr
  timebus import /cldr ./cldr --strip-json       a.json becomes /cldr/a
  timebus import /data data.json
  timebus import /data events.ndjson
  curl https://example.org/data.json | timebus import /data -")]
pub(crate) struct Import {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// A file, a folder, or - for standard input
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,

    /// What it is [default: told by its name]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,

    /// Leave .json out of names
    #[arg(long)]
    pub(crate) strip_json: bool,

    /// Begin anew instead of going on where an interrupted import of the same source was
    #[arg(long)]
    pub(crate) restart: bool,
}

/// Write a subtree into a file or folder
#[derive(Debug, Args)]
#[command(after_help = "\
Into a folder, objects become folders, texts become text files, names that end in .json become JSON files, and
other values become NAME.json: the inverse of import. Files that are right already are left alone, so that an
interrupted export goes on when started again; nothing is removed.

Examples:
  timebus export /notes notes.json
  timebus export /notes notes.ndjson
  timebus export /notes ./notes --format dir
  timebus export /notes - | jq .")]
pub(crate) struct Export {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// A file, a folder, or - for standard output
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,

    /// What to make [default: told by its name]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,

    /// As it was at this version
    #[arg(long, value_name = "VERSION")]
    pub(crate) at: Option<Versions>,
}

/// Write a consistent copy of everything, also while the peer runs
///
/// Keys, values, files, apps, invites, limits, and whom you know, for you and your personas. It holds your keys: keep it as
/// safe as the home itself. What live folders remember stays behind: `timebus folder` brings both sides together anew.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus backup > timebus.tar
  timebus backup timebus.tar
  timebus backup | ssh elsewhere 'cat > timebus.tar'")]
pub(crate) struct Backup {
    /// File to write; `-` is standard output [default: standard output]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Make a home from a backup
///
/// The home gets a device key of its own, so the original may go on. What others granted to the original, its communities
/// among it, the original hands on while it runs. If it is gone, `timebus rotate --without` says so, and friends who hold your
/// space let this one do the same; ask communities for a new invite.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus restore < timebus.tar
  timebus restore timebus.tar --home ~/restored")]
pub(crate) struct Restore {
    /// File to read; `-` is standard input [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Check the change log, the index and all files, and repair what can be repaired
#[derive(Debug, Args)]
#[command(after_help = "\
Without --repair nothing is changed. With it, damaged stretches of the change log are filled with what other peers who
are connected have of them, and an index that does not fit the log is made anew at the next start. Of a damaged file what is
good stays, and the rest comes from whoever has it, now or when somebody who has it is there.

Examples:
  timebus fsck
  timebus fsck --repair")]
pub(crate) struct Fsck {
    /// Fetch what is damaged from others, and put it back
    #[arg(long)]
    pub(crate) repair: bool,
}
