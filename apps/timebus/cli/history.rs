//! What was written when, by whom, and taking it back.

use clap::Args;

use crate::target::{Target, Versions};

/// List the changes to a path and below, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus log
  timebus log /notes --limit 5
  timebus log /notes --limit 0 --json      all of them, one JSON object a line")]
pub(crate) struct Log {
    /// Where, as in /notes
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,

    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,

    /// Only changes older than this version
    #[arg(long, value_name = "VERSION")]
    pub(crate) after: Option<Versions>,
}

/// Show what changed at a path between two versions
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus diff /notes                      what the latest change did
  timebus diff /notes 4f3kq…               from that version until now
  timebus diff /notes 4f3kq… 7c2mp…        between two")]
pub(crate) struct Diff {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// The older version [default: the one before the latest change]
    #[arg(value_name = "FROM")]
    pub(crate) from: Option<Versions>,

    /// The newer version [default: now]
    #[arg(value_name = "TO")]
    pub(crate) to: Option<Versions>,
}

/// Show who wrote which value when
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus blame /profile")]
pub(crate) struct Blame {
    /// Where, as in /notes
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,
}

/// List values that people wrote at the same time
///
/// Nothing is lost in a conflict: every value is kept until somebody who has seen them writes again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus conflicts
  timebus conflicts /notes
  timebus put /notes/hi '\"this one\"'       settles it")]
pub(crate) struct Conflicts {
    /// Where, as in /notes
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,
}

/// Take back a change, by writing its opposite
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus undo /notes                      the latest change at or below /notes
  timebus undo /notes 4f3kq…               that change, and nothing since
  timebus undo /notes                      again: takes back the taking back")]
pub(crate) struct Undo {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// The change to take back [default: the latest one here]
    #[arg(value_name = "VERSION")]
    pub(crate) version: Option<Versions>,
}
