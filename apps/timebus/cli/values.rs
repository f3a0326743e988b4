//! Values: reading, writing, watching and editing them.

use clap::{Args, ValueEnum};

use crate::target::{Target, Versions};

/// Read a value
///
/// Objects and lists are printed as JSON, texts as they are, files as their bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus get /notes
  timebus get @alice/notes                the space that you call alice
  timebus get /notes --at 4f3kq…          as it was then; `timebus log` lists versions
  timebus get /notes --view all           every value where people wrote at the same time
  timebus get /notes --view meta          who wrote which leaf when, one a line
  timebus get /logo > logo.png
  timebus get /films/holiday -o h.mp4     with progress; given again after a cut, it goes on
  timebus get /notes --json               {\"path\",\"version\",\"conflicts\",\"type\",\"value\"}")]
pub(crate) struct Get {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// As it was at this version
    #[arg(long, value_name = "VERSION")]
    pub(crate) at: Option<Versions>,

    /// Another side of the value
    #[arg(long, value_enum)]
    pub(crate) view: Option<View>,

    /// Write it to this file; what came before a cut is kept beside it and not fetched again. `-` is standard output
    #[arg(long, short, value_name = "FILE", conflicts_with = "view")]
    pub(crate) output: Option<std::path::PathBuf>,
}

/// Which side of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// Every concurrent value.
    All,
    /// The bytes exactly as the peer sends them.
    Raw,
    /// Who wrote what when.
    Meta,
}

/// Under which condition something is written.
#[derive(Debug, Args)]
pub(crate) struct Conditions {
    /// The version that your value is based on: what others wrote since then survives beside it
    #[arg(long, value_name = "VERSION")]
    pub(crate) parents: Option<Versions>,

    /// Only if this is the version now; else exit code 4
    #[arg(long, value_name = "VERSION")]
    pub(crate) if_version: Option<Versions>,
}

/// Write a value, replacing what is there
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus put /notes/hi '\"hello\"'           JSON, so a string needs its quotes
  timebus put /notes/hi --text hello        the same as text, without them
  timebus put /profile '{\"name\":\"Ada\"}'
  timebus put /profile @profile.json        from a file
  timebus put /logo @logo.png               other files keep their media type
  timebus put /films/holiday @h.mp4         any size; given again after a cut, it goes on
  date | timebus put /now - --text          from standard input

A text that begins with @ is written with @@.")]
pub(crate) struct Put {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// JSON, @FILE, or - for standard input
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) value: String,

    /// The value is text, not JSON
    #[arg(long)]
    pub(crate) text: bool,

    /// The value is a file of this media type
    #[arg(long = "type", value_name = "MIME", conflicts_with = "text")]
    pub(crate) mime: Option<String>,

    #[command(flatten)]
    pub(crate) conditions: Conditions,

    /// Only if nothing is there; else exit code 4
    #[arg(long, conflicts_with = "if_version")]
    pub(crate) if_absent: bool,
}

/// Change parts of a value, in one step
#[derive(Debug, Args)]
#[command(after_help = "\
An object is a merge patch (RFC 7396): members are set, null removes. An array of operations is a JSON Patch
(RFC 6902). With --range, the value replaces that part. In a text the range counts characters.

Examples:
  timebus patch /profile '{\"name\":\"Ada\",\"age\":null}'
  timebus patch /profile '[{\"op\":\"replace\",\"path\":\"/name\",\"value\":\"Ada\"}]'
  timebus patch /todo '[\"buy milk\"]' --range '[-0:-0]'      append to a list
  timebus patch /notes/hi 'Hello' --range 'text [0:5]'        edit a text
  timebus patch /profile @patch.json")]
pub(crate) struct Patch {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// The patch: JSON, @FILE, or - for standard input
    #[arg(value_name = "PATCH", allow_hyphen_values = true)]
    pub(crate) patch: String,

    /// The part to replace, as in '[0:2]', '.name' or 'text [0:5]'
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub(crate) range: Option<String>,

    #[command(flatten)]
    pub(crate) conditions: Conditions,
}

/// Add a value under a new name that sorts by time, or to the end of a list
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus post /posts '{\"text\":\"hello\"}'        prints where it went
  echo '\"hello\"' | timebus post /posts -")]
pub(crate) struct Post {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// JSON, @FILE, or - for standard input
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    pub(crate) value: String,
}

/// Add to a counter
///
/// What several people add at once adds up. Where nothing is, a counter begins at 0.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus inc /likes                        prints what it has come to
  timebus inc /stock/tea -3")]
pub(crate) struct Inc {
    /// Where, as in /likes
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// How much
    #[arg(value_name = "NUMBER", default_value_t = 1, allow_hyphen_values = true)]
    pub(crate) by: i64,
}

/// Take what is at a path to another one: a value, a file, or all that is below
///
/// It is one change, which others see at once, or not yet. Nothing may be at TO, and no list or value above it, and where several
/// values stand side by side somebody has to choose one first (`timebus conflicts`). What was written before stays in the history of FROM:
/// `timebus log FROM` shows it, and `timebus undo FROM` brings what was there back to it. Both paths are of one space, and neither is
/// kept apart from the other.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus mv /notes/hi /notes/hello
  timebus mv /films/holiday /films/2026/holiday        a file; none of its bytes is copied
  timebus mv @ada/table/plan @ada/table/old            where Ada lets you write")]
pub(crate) struct Mv {
    /// What, as in /notes/hi
    #[arg(value_name = "FROM")]
    pub(crate) from: Target,

    /// Where it is to be
    #[arg(value_name = "TO")]
    pub(crate) to: Target,
}

/// Remove what is at a path and below
///
/// What is removed stays in the history: `timebus undo PATH` brings it back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus rm /notes/hi
  timebus rm / --yes           everything; asked for, because it is much")]
pub(crate) struct Rm {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    #[command(flatten)]
    pub(crate) conditions: Conditions,

    /// Yes, all of it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// List what is right below a path
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus ls
  timebus ls /notes
  timebus ls /posts --last 10
  timebus ls /notes --match 'apple pie'
  timebus ls /notes --json           {\"path\",\"version\",\"entries\":[{\"name\",\"value\"} or {\"name\",\"below\"}]}")]
pub(crate) struct Ls {
    /// Where, as in /notes
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,

    /// Only the last N
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<u32>,

    /// Only what has all of these words in its texts, small letters or capitals
    #[arg(long = "match", value_name = "WORDS")]
    pub(crate) words: Option<String>,
}

/// Draw what is below a path
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus tree
  timebus tree /notes --depth 2")]
pub(crate) struct TreeArgs {
    /// Where, as in /notes
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,

    /// Only so many levels
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) depth: Option<u32>,
}

/// Edit a value in your editor
///
/// Saving writes it on top of what you had read: what others wrote meanwhile survives. A text is sent each time you save,
/// and merged with what others type.
#[derive(Debug, Args)]
#[command(after_help = "\
The editor is $VISUAL, else $EDITOR, else vi. Leave it without changes, or save an empty file, to write nothing.

Examples:
  timebus edit /profile
  EDITOR='code --wait' timebus edit /notes/hi
  timebus edit /notes/new --text            begin a text")]
pub(crate) struct Edit {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// Begin a text instead of JSON, if nothing is there
    #[arg(long)]
    pub(crate) text: bool,
}

/// Print a value and then every change to it, as JSON lines
///
/// Goes on by itself, without gaps, when the peer was away, or the one whose space it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Lines: {\"snapshot\",\"version\"}, {\"caught_up\"}, {\"put\",\"value\",\"version\",\"parents\",\"by\",\"time_ms\"},
{\"delete\",…}, {\"splice\",…}, {\"edit\",\"edits\",…}, {\"behind\"}, {\"closed\"}.

Examples:
  timebus watch /notes
  timebus watch /notes --from 4f3kq…        only what changed since that version
  timebus watch /notes --once               up to now, then stop
  timebus watch @alice/notes                the space that you call alice
  timebus watch /posts --depth 1 --last 50  the latest 50, without looking into them
  timebus watch /notes | jq -r 'select(.put) | .put'")]
pub(crate) struct Watch {
    /// Where, as in /notes
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,

    /// Begin behind this version, instead of with a snapshot
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: Option<Versions>,

    /// Show only so many levels; what is deeper is told by its size
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<u32>,

    /// Show only the last N names or elements
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<u32>,

    /// Stop when everything up to now was printed
    #[arg(long)]
    pub(crate) once: bool,
}
