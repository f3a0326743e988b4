//! What can be typed.

#![allow(rustdoc::broken_intra_doc_links, reason = "these comments are help texts, in which brackets are brackets")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::amounts::Lifetime;
use crate::generator::Shape;
use crate::target::{Target, Versions};

mod app;
mod cluster;
mod community;
mod keys;
mod personas;

pub(crate) use app::{App, AppAction};
pub(crate) use cluster::{Cluster, ClusterAction};
pub(crate) use community::{Community, CommunityVerb, RuleArgs, Switch};
pub(crate) use keys::{Guardians, GuardiansAction, Recover, Rotate};
pub(crate) use personas::{Personas, PersonasAction};

/// A tree of values that you keep, share and watch: a local-first hierarchical key-value store
#[derive(Debug, Parser)]
#[command(
    name = "timebus",
    version,
    max_term_width = 100,
    after_help = "\
Without a verb, timebus starts your peer, like `timebus up`.

Examples:
  timebus                                          start, and print a link to open
  timebus put /notes/hi '\"hello\"'                  write a value
  timebus get /notes                               read it back
  timebus watch /notes                             see every change as it happens
  timebus invite                                   a link that lets somebody read along
  timebus join LINK                                read along with somebody

A path that begins with @ is of another space: @alice/notes, by the name you gave it or by its key.

Exit codes: 0 done, 1 refused or absent, 2 usage, 3 peer not reachable, 4 conflict.
Verbs about other peers need a running one; all others work without it, too."
)]
pub(crate) struct Cli {
    /// Folder of the peer [env: TIMEBUS_HOME] [default: timebus in the platform's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,

    /// Be one of your personas, see `timebus personas`: every verb about data, people, rights and keys takes it
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) persona: Option<String>,

    /// Print JSON for programs, also for errors (on stderr)
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Verb {
    Up(Up),
    Down(Down),
    Status(Status),
    Doctor(Doctor),
    Get(Get),
    Put(Put),
    Patch(Patch),
    Post(Post),
    Inc(Inc),
    Rm(Rm),
    Ls(Ls),
    Tree(TreeArgs),
    Edit(Edit),
    Watch(Watch),
    Log(Log),
    Diff(Diff),
    Blame(Blame),
    Conflicts(Conflicts),
    Undo(Undo),
    Import(Import),
    Export(Export),
    Folder(Folder),
    Files(Files),
    Id(Id),
    Kit(Kit),
    Rotate(Rotate),
    Guardians(Guardians),
    Recover(Recover),
    Personas(Personas),
    Backup(Backup),
    Restore(Restore),
    Fsck(Fsck),
    Gen(Gen),
    Invite(Invite),
    Join(Join),
    Invites(Invites),
    Private(Private),
    Community(Community),
    Inbox(Inbox),
    Refs(Refs),
    Peers(Peers),
    Find(Find),
    Follow(Follow),
    Unfollow(Unfollow),
    Block(Block),
    Unblock(Unblock),
    Mute(Mute),
    Unmute(Unmute),
    Devices(Devices),
    Grant(Grant),
    Grants(Grants),
    Revoke(Revoke),
    Why(Why),
    WhyHidden(WhyHidden),
    Quarantine(Quarantine),
    Held(HeldArgs),
    Allow(Allow),
    Limits(Limits),
    Top(Top),
    App(App),
    Cluster(Cluster),
    Lab(Lab),
    Relay(Relay),
    Completions(Completions),
}

impl Default for Verb {
    fn default() -> Self {
        // As if it had been typed, so that its options have the values that its help says.
        let cli = Cli::try_parse_from(["timebus", "up"]).expect("`up` can be said without arguments");
        cli.verb.expect("a verb was named")
    }
}

/// Links that others may open at once if nothing is said; each costs up to 4 MiB while it is busy.
const LINKS_MAX: u16 = 256;

/// Start the peer (what plain `timebus` does)
///
/// The first start makes an identity and asks nothing. Nothing beyond the local network is contacted, unless you
/// take an invite that leads there. A second `up` on the same home says where the first one runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus up                              port 7007, or the next one that is free
  timebus up --http 127.0.0.1:8080        exactly there, or an error
  timebus up --http 127.0.0.1:0 --json    any free port; one line of JSON when ready
  timebus up --name Alice                 what others see
  timebus up --udp 0.0.0.0:4433           at a port that your router forwards to this machine
  timebus up --relay https://relay.example.org     reachable through a relay of your own
  timebus up --no-lan                     neither search the local network nor be found there
  timebus up --qr                         show the login link as a QR code, too
  RUST_LOG=debug timebus up               say more on stderr

Stop it with Ctrl-C, SIGTERM or `timebus down`.")]
pub(crate) struct Up {
    /// Where to listen; port 0 means any [default: 127.0.0.1 and [::1], port 7007 or the next free one]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) http: Option<String>,

    /// A name, beside localhost, under which this peer is reached, as behind a reverse proxy; may be repeated
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,

    /// Open no sockets but the HTTP one: call nobody, let nobody in
    #[arg(long)]
    pub(crate) offline: bool,

    #[command(flatten)]
    pub(crate) net: Net,

    /// What this peer calls itself, to others and in invites [default: its three-part name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Show the login link as a QR code
    #[arg(long)]
    pub(crate) qr: bool,

    /// Most bytes of large files that are kept, as in 100GB [default: what the disk takes]
    #[arg(long, value_name = "SIZE", value_parser = crate::amounts::bytes)]
    pub(crate) blob_limit: Option<u64>,

    /// Most bytes of other people's files that stay here once they were fetched, to be read and given to others
    #[arg(long, value_name = "SIZE", default_value = "1GB", value_parser = crate::amounts::bytes)]
    pub(crate) cache: u64,

    /// Links that others may open at once; who comes when nearly all are taken is told who else has what he wants
    #[arg(long, value_name = "COUNT", default_value_t = LINKS_MAX, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) links: u16,

    /// How to write logs on stderr
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// How a peer takes part in the network.
#[derive(Debug, Default, Args)]
pub(crate) struct Net {
    /// Neither look for peers on the local network nor let them find this one
    #[arg(long)]
    pub(crate) no_lan: bool,

    /// Where other peers reach this one by UDP, one address a family; port 0 means the last one, or any
    /// [default: port 0 of every interface]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) udp: Vec<std::net::SocketAddr>,

    /// A relay of your own (`timebus relay`) through which others reach this peer; may be repeated
    #[arg(long = "relay", value_name = "URL")]
    pub(crate) relays: Vec<String>,

    /// Never use public relays, whatever was said before
    #[arg(long)]
    pub(crate) no_public: bool,

    /// A relay that counts as public: it is used once you said yes to public relays; may be repeated [default: those of n0]
    #[arg(long = "public-relay", value_name = "URL")]
    pub(crate) public_relays: Vec<String>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Stop the peer
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus down            returns when the peer has stopped and everything is on disk")]
pub(crate) struct Down {}

/// Say how the peer is
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus status
  timebus status --json | jq .changes")]
pub(crate) struct Status {}

/// Look for what is wrong, and say what to do about it
#[derive(Debug, Args)]
#[command(after_help = "\
Checks the folder and its keys, the lock, the port, disk space and speed, the change log and its index, the clock,
the address book, and why other peers are not reached. Exit code 1 if something needs you.

Examples:
  timebus doctor")]
pub(crate) struct Doctor {}

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

    /// Write it to this file; what came before a cut is kept beside it and not fetched again
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
  timebus ls /notes --json           {\"path\",\"version\",\"entries\":[{\"name\",\"value\"} or {\"name\",\"below\"}]}")]
pub(crate) struct Ls {
    /// Where, as in /notes
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,

    /// Only the last N
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<u32>,
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

/// Keep a folder and a subtree the same, both ways, until you end it
///
/// Edit the files with whatever you like: what you save goes to the subtree, and what others write there comes into the
/// folder. Texts that are edited on both sides are merged, also when you were away; of other files that changed on both
/// sides, the one here is kept under a second name. Values that are no texts or files are shown as .json files.
#[derive(Debug, Args)]
#[command(after_help = "\
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

/// Say who you are
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus id
  curl -H \"Authorization: Bearer $(timebus id --token)\" http://localhost:7007/notes")]
pub(crate) struct Id {
    /// Print the token that lets its bearer do everything you can
    #[arg(long)]
    pub(crate) token: bool,
}

/// Show your recovery kit: 48 words that are your identity
///
/// Write them on paper. With them you can make a new home for the same space when this disk is gone; so can
/// everybody who has them. The peer must be stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus kit                 show the words
  timebus kit --confirm       type them, as proof that you have them; the root key then leaves this disk
  timebus kit --recover       type them, to bring the root key back, or into a new home")]
pub(crate) struct Kit {
    /// Ask for the words, then erase the root key from this disk
    #[arg(long)]
    pub(crate) confirm: bool,

    /// Ask for the words and write the root key to this disk
    #[arg(long, conflicts_with = "confirm")]
    pub(crate) recover: bool,
}

/// Write a consistent copy of everything, also while the peer runs
///
/// It holds your keys: keep it as safe as the home itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus backup > timebus.tar
  timebus backup timebus.tar
  timebus backup | ssh elsewhere 'cat > timebus.tar'")]
pub(crate) struct Backup {
    /// File to write [default: standard output]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Make a home from a backup
///
/// The home gets a device key of its own, so the original may go on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus restore < timebus.tar
  timebus restore timebus.tar --home ~/restored")]
pub(crate) struct Restore {
    /// File to read [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Check the change log and the index, and repair what can be repaired
#[derive(Debug, Args)]
#[command(after_help = "\
Without --repair nothing is changed. With it, damaged stretches of the change log are filled with what other peers who
are connected have of them, and an index that does not fit the log is made anew at the next start.

Examples:
  timebus fsck
  timebus fsck --repair")]
pub(crate) struct Fsck {
    /// Fetch what is damaged from others, and put it back
    #[arg(long)]
    pub(crate) repair: bool,
}

/// Write random data, to feel how it behaves
#[derive(Debug, Args)]
#[command(after_help = "\
The same seed writes the same values. Stop with Ctrl-C; the summary is printed then, too.

Examples:
  timebus gen /demo                                     10 tweets a second
  timebus gen /demo --shape sensors --rate 1000
  timebus gen /demo --shape tree --count 10000 --rate 0      as fast as it goes")]
pub(crate) struct Gen {
    /// Where, as in /notes/hi
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// Writes a second; 0 for as many as possible
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    pub(crate) rate: f64,

    /// What to write
    #[arg(long, value_enum, default_value_t = Shape::Tweets)]
    pub(crate) shape: Shape,

    /// Writes until it stops by itself [default: never]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// Beginning of the random numbers
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Writes under way at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: u16,
}

/// Make a link that lets somebody read your space, and write where you say
///
/// Whoever has the link may take it: send it as you would send a key. Reading is always the whole space in this
/// version; only writing is limited to PATH.
#[derive(Debug, Args)]
#[command(after_help = "\
The link is printed on stdout, what it means on stderr.

Examples:
  timebus invite                                        read, once, within 7 days
  timebus invite --to /wall --can write                 and write at and below /wall
  timebus invite --uses 20 --expires 12h --note 'the choir'
  timebus invite --to /photos --can write --quota 50MB  each of them at most so much
  timebus invite --hello 'Our recipes, come in'         shown before anything was fetched
  timebus invite --to @ada/table --can write            to what Ada let you into, if she let you bring guests
  timebus invite --to @choir --can member --uses 20     into a community of yours
  timebus invites                                       who took which

Two machines that only meet through the internet need an address of yours in the link: `timebus up --udp` with a
forwarded port, or `timebus up --relay`.")]
pub(crate) struct Invite {
    /// Where the bearer may write, with --can write; if the path is kept apart, all that he may read
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub(crate) to: Target,

    /// What the bearer may do
    #[arg(long, value_enum, default_value_t = Role::Read)]
    pub(crate) can: Role,

    /// How many may take it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) uses: u64,

    /// How long it can be taken, as in 30m, 12h, 7d or never
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = crate::amounts::lifetime)]
    pub(crate) expires: Lifetime,

    /// How many levels of guests each of them may bring in turn, as you could; 0 for nobody [default: 3, or what is left]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub(crate) guests: Option<u8>,

    /// How much each of those who take it may write, as in 50MB [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = crate::amounts::bytes)]
    pub(crate) quota: Option<u64>,

    /// For yourself, to remember whom it was for
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) note: String,

    /// What is shown to the bearer before anything was fetched; it is part of the link
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) hello: String,

    /// Whether others may reach you through public relays, which then see who talks to whom, but not what is said;
    /// remembered [default: asked once]
    #[arg(long, value_enum, value_name = "ANSWER")]
    pub(crate) public: Option<Answer>,

    /// Show it as a QR code, also where stderr is no terminal
    #[arg(long)]
    pub(crate) qr: bool,
}

/// An answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Answer {
    /// From now on.
    Yes,
    /// Not, or no longer.
    No,
}

/// What an invite lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Can {
    /// Read your space, or the path if it is kept apart.
    Read,
    /// The same, and write at and below the path.
    Write,
}

/// What an invite lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Read your space, or the path if it is kept apart.
    Read,
    /// The same, and write at and below the path.
    Write,
    /// Be a member of the community that --to names.
    Member,
}

/// Take an invite: read the space of somebody else, live, and write where you may
///
/// Shows what the invite says and asks. Then it tells what is going on until the first data is here, for 10 s at
/// most; the peer goes on by itself. A device link (`timebus devices add`) makes a new home of the same space.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus join timebus://join/ASLa…
  timebus join timebus://join/ASLa… --yes --as alice       ask nothing, call the space alice
  timebus ls @alice                                        what is there
  timebus watch @alice/notes                               every change from now on
  timebus --home ~/second join timebus://join/ASLa…        with a link of `timebus devices add`

Exit code 0 means that the invite is taken or that the peer goes on trying, and the output says which; 1 that it was
refused.")]
pub(crate) struct Join {
    /// The whole link
    #[arg(value_name = "LINK")]
    pub(crate) link: String,

    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,

    /// What you call the space [default: what its owner calls himself]
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The name that you carry in a community [default: what your peer calls itself]
    #[arg(long, value_name = "NAME")]
    pub(crate) called: Option<String>,

    #[command(flatten, next_help_heading = "For a new home")]
    pub(crate) net: Net,
}

/// List the invites you gave, who took them, and take them back
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus invites
  timebus invites --tree                        who came by whom, over all levels
  timebus invites --tree --of @ada
  timebus invites revoke s8sohz                 nobody else can take it
  timebus invites revoke s8sohz --grants        and whoever took it loses what it gave")]
pub(crate) struct Invites {
    /// Show who came by whom: whom you let in, whom they let in, and so on
    #[arg(long)]
    pub(crate) tree: bool,

    /// The tree of somebody else's space
    #[arg(long, value_name = "@WHO", requires = "tree")]
    pub(crate) of: Option<String>,

    #[command(subcommand)]
    pub(crate) action: Option<InvitesAction>,
}

/// What to do with an invite.
#[derive(Debug, Subcommand)]
pub(crate) enum InvitesAction {
    /// Take an invite back
    #[command(after_help = "Examples:\n  timebus invites revoke s8sohz --grants")]
    Revoke {
        /// Its id, or the beginning of it
        #[arg(value_name = "ID")]
        id: String,

        /// Take back, too, what those got who took it
        #[arg(long)]
        grants: bool,
    },
}

/// Show who is known and connected, and how the spaces of others are here
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus peers
  timebus peers --json | jq '.peers[] | select(.state == \"connected\")'
  timebus doctor                                why two peers do not talk")]
pub(crate) struct Peers {}

/// Keep the space of somebody else here, with everything new in it
///
/// WHO is a key of 52 characters, or a name that `timebus peers` shows.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus follow @alice
  timebus follow se7tu1sk… --as alice                                    and call it alice
  timebus follow se7tu1sk… --node rmpdfmiz… --at 192.168.1.7:4433        where it can be had")]
pub(crate) struct Follow {
    /// Whose space
    #[arg(value_name = "WHO")]
    pub(crate) who: String,

    /// The node key of a peer that has it
    #[arg(long, value_name = "KEY", requires = "at")]
    pub(crate) node: Option<timebus_identity::PublicKey>,

    /// Where that peer may be: an address, relay:URL or wss://HOST; may be repeated
    #[arg(long, value_name = "ADDR", requires = "node")]
    pub(crate) at: Vec<String>,

    /// What you call it
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Show where somebody is, as far as you and the peers that you are connected to know
///
/// Peers say where they are, signed and numbered, to all they are connected to, and those hand it on to others who
/// read the same. A peer that is not reached where it was is looked for like this by itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Looked for in this order: in the address book, by invites, on the local network, by the peers that are connected, by
members of common communities, in the DHTs of those that you take part in. It says which of these found somebody, and which are off.

Examples:
  timebus find @alice
  timebus find Bob@choir                        a member of a community, by the name that he carries there
  timebus find @alice --json")]
pub(crate) struct Find {
    /// Whom: a name, a space, the key of a peer, or NAME@COMMUNITY
    #[arg(value_name = "WHO")]
    pub(crate) who: String,
}

/// Get nothing new of a space any more
///
/// What is here of it stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus unfollow @alice")]
pub(crate) struct Unfollow {
    /// Whose space
    #[arg(value_name = "WHO")]
    pub(crate) who: String,
}

/// Show which files are kept and on their way, keep files of others, or stop handing them on
///
/// A file of somebody else comes when you read it, from everybody who has some of it, stays as long as there is room
/// for it, and goes on from here to others who may read it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus files                          what comes from whom, and how fast
  timebus files pin @alice/photos        fetch all that is there, now and from now on, and keep it
  timebus files unpin @alice/photos      it makes room for others again
  timebus files share @alice no          take files of alice, and hand none on")]
pub(crate) struct Files {
    #[command(subcommand)]
    pub(crate) verb: Option<FilesVerb>,
}

/// What to do with files.
#[derive(Debug, Subcommand)]
pub(crate) enum FilesVerb {
    /// Show what is kept, pinned and on its way (what plain `files` does)
    Ls,
    /// Fetch all files at and below a path of somebody else, also those to come, and keep them
    Pin {
        /// The path, as @alice/photos
        #[arg(value_name = "PATH")]
        path: Target,
    },
    /// Let files make room for others again
    Unpin {
        /// The path that was pinned
        #[arg(value_name = "PATH")]
        path: Target,
    },
    /// Hand on files of a space of somebody else, or no longer; your own devices get them anyway
    Share {
        /// Whose: a name or a key
        #[arg(value_name = "WHO")]
        who: String,
        /// Whether
        #[arg(value_name = "YES|NO")]
        share: Answer,
    },
}

/// Keep a path apart, so that only those read it whom you let in there
///
/// Who may read your space reads all of it, but not what is kept apart: that never leaves this peer until you let
/// somebody in, and then goes to him alone. Without a path, lists what is kept apart and who may read it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus private /diary                       from now on, nobody reads what you write there
  timebus invite --to /diary --can write       let somebody read it, and nothing else of yours, and write there
  timebus private                              what is kept apart, and who reads it
  timebus private /photos --move               also what is there already; whoever had it keeps what he had
  timebus private /diary --undo --move         put it back, for all who read around it

Its name is no secret: all whom you let in anywhere see which paths are kept apart, and who may read them.")]
pub(crate) struct Private {
    /// The path; without one, all are listed
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<Target>,

    /// Take along what is there now
    #[arg(long, requires = "path")]
    pub(crate) r#move: bool,

    /// Leave no pointer to it where it was, for those who read what is above
    #[arg(long, requires = "path", conflicts_with = "undo")]
    pub(crate) hidden: bool,

    /// Keep it apart no longer, and take back what was granted of it
    #[arg(long, requires = "path")]
    pub(crate) undo: bool,
}

/// What others leave for you: likes, replies, mentions
///
/// Anybody who reaches this peer may leave short notices, which point at something of theirs and something of yours. One
/// sender has room for 64 kB, all together for 16 MB; beyond that the oldest are pushed out. Nothing else of yours is touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus inbox                                    who left what, and whether it is true
  timebus inbox purge @mallory                     throw out everything of one sender
  timebus inbox send like @alice/posts/1 --from /likes/1
  timebus inbox sent                               what you left with others, and whether they have it")]
pub(crate) struct Inbox {
    #[command(subcommand)]
    pub(crate) verb: Option<InboxVerb>,
}

/// What to do with notices.
#[derive(Debug, Subcommand)]
pub(crate) enum InboxVerb {
    /// List what is there (what plain `inbox` does)
    Ls,
    /// Throw one notice out
    Rm {
        /// The sender's key, as `inbox ls` shows it
        #[arg(value_name = "KEY")]
        who: String,
        /// Its slot, as `inbox ls` shows it
        #[arg(value_name = "SLOT")]
        slot: String,
    },
    /// Throw out everything of one sender
    Purge {
        /// A name, a space or a key
        #[arg(value_name = "WHO")]
        who: String,
    },
    /// Take notices again
    Open,
    /// Take no notices any more; what is there stays
    Close,
    /// Leave a notice with somebody, or take it back
    Send {
        /// like, reply, mention, follow, repost, quote or another word
        #[arg(value_name = "KIND")]
        kind: String,
        /// What it is about, as @alice/posts/1
        #[arg(value_name = "TARGET")]
        target: String,
        /// What of yours points there: an object with kind and target
        #[arg(long = "from", value_name = "PATH")]
        source: String,
        /// A few words that come with it, as JSON or text
        #[arg(long, value_name = "VALUE")]
        body: Option<String>,
        /// Take it back
        #[arg(long)]
        undo: bool,
    },
    /// What you left with others, and whether they have it
    Sent,
}

/// Who points at a path: likes, replies, links, from all sources that you have
///
/// Three sources: spaces that are here, your inbox, and spaces that you chose as an index.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus refs /posts/1                   who liked it, who replied
  timebus refs @alice/posts/1 --kind reply")]
pub(crate) struct Refs {
    /// What is pointed at
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// Only this kind
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) limit: u64,
}

/// Have nothing to do with a peer or a space
///
/// Its links are closed, it is not called, and when it calls it is turned away; its signed requests are not answered. All
/// your devices do so. `timebus mute` without a name shows whom you blocked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus block @mallory
  timebus block rmpdfmiz              the beginning of a key that `timebus peers` shows
  timebus unblock @mallory")]
pub(crate) struct Block {
    /// A name, a space or a peer
    #[arg(value_name = "WHO")]
    pub(crate) who: String,
}

/// Have to do with a peer or a space again
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus unblock @mallory")]
pub(crate) struct Unblock {
    /// A name, a space or a peer
    #[arg(value_name = "WHO")]
    pub(crate) who: String,
}

/// See nothing of somebody any more, or list whom you muted and blocked
///
/// Your peer goes on syncing with him and serving him; only his notices, likes and answers are left out here, and by apps
/// that honour the list. All your devices have it. It is kept apart from what others read of your space.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus mute                        whom you muted, and whom you blocked
  timebus mute @bob
  timebus unmute @bob
  timebus mute --json | jq -r '.muted[].who'
  timebus block @mallory              have nothing to do with him at all")]
pub(crate) struct Mute {
    /// A name or a space [default: list them]
    #[arg(value_name = "WHO")]
    pub(crate) who: Option<String>,
}

/// Hear somebody again
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus unmute @bob")]
pub(crate) struct Unmute {
    /// A name or a space
    #[arg(value_name = "WHO")]
    pub(crate) who: String,
}

/// List your devices, add one, remove one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus devices
  timebus devices add                                   a link for the new device
  timebus --home ~/second join timebus://join/ASLa…     there, with a home that does not exist yet
  timebus devices remove og1oxkdq                       one that was lost or sold")]
pub(crate) struct Devices {
    #[command(subcommand)]
    pub(crate) action: Option<DevicesAction>,
}

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesAction {
    /// Make a link that makes a new home a device of yours
    #[command(after_help = "Examples:\n  timebus devices add\n  timebus devices add --expires 10m --qr")]
    Add {
        /// How long it can be taken, as in 10m or 1h
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::amounts::lifetime)]
        expires: Lifetime,

        /// For yourself, to remember which device it was for
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,

        /// Show it as a QR code, also where stderr is no terminal
        #[arg(long)]
        qr: bool,
    },
    /// Take all rights from a device
    #[command(after_help = "Examples:\n  timebus devices remove og1oxkdq")]
    Remove {
        /// Its key, the beginning of it, or its name
        #[arg(value_name = "DEVICE")]
        device: String,
    },
}

/// Let somebody read or write a path and everything below it
///
/// What somebody can read is a timeline, not a path: a grant says in words what it comes to, and --preview says only
/// that. Rights are statements that everybody who holds the space has; `timebus revoke` takes them back.
#[derive(Debug, Args)]
#[command(after_help = "\
WHO is what you call somebody, a key (see `timebus id`), the name that a key has, or `anyone`.

Examples:
  timebus grant /table bob --can write              bob writes at and below /table
  timebus grant /table bob --can write --quota 50MB --until 2026-12-31
  timebus grant /public anyone --can read           everybody can read it by HTTP at this peer
  timebus grant / bob --can admin --depth 2         he may give rights on, and whoever he lets in, too
  timebus grant @alice/table carol --can write      in a space in which you are an admin
  timebus grant / bob --can read --preview          only say what it would mean")]
pub(crate) struct Grant {
    /// Where; @alice/path in the space of somebody else
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// Whom: a name, a key, or `anyone`
    #[arg(value_name = "WHO")]
    pub(crate) who: String,

    /// What he may do
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) can: May,

    /// How much he may write in all, as in 50MB [default: no limit that everybody keeps]
    #[arg(long, value_name = "SIZE", value_parser = crate::amounts::bytes)]
    pub(crate) quota: Option<u64>,

    /// Until when: a day as in 2026-12-31, or a span as in 7d [default: until it is taken back]
    #[arg(long, value_name = "DATE", value_parser = crate::amounts::until)]
    pub(crate) until: Option<u64>,

    /// How often it may be handed on; for admins 1 if not said
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<u8>,

    /// Only say what it would mean
    #[arg(long)]
    pub(crate) preview: bool,
}

/// What a grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum May {
    /// Read
    Read,
    /// Read and write
    Write,
    /// Read, write, give rights on and take them back
    Admin,
    /// Take plain members' rights back
    Moderate,
}

/// Show who may do what at a path
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus grants                    all grants of your space
  timebus grants /table             those that reach there
  timebus grants --all              also those that were taken back")]
pub(crate) struct Grants {
    /// Where
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,

    /// Also grants that are not in force
    #[arg(long)]
    pub(crate) all: bool,
}

/// Take rights back
///
/// What was written in good faith stays, and what nobody here has seen is hidden, whatever date it carries. --preview
/// says who loses what and how many changes would be hidden.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus revoke bob --preview          say what would happen
  timebus revoke bob                    all that he was granted
  timebus revoke bob /table             only what is at and below /table
  timebus revoke k7f3q2ab               one grant, by the beginning of its id (`timebus grants`)
  timebus revoke bob --cascade          also what he handed on to others
  timebus revoke bob --drop-unseen      also hide what he wrote and nobody else has gone on with")]
pub(crate) struct Revoke {
    /// A grant, or whose
    #[arg(value_name = "GRANT|WHO")]
    pub(crate) what: String,

    /// Only grants at and below this path
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,

    /// Take back also what was handed on, seen or not
    #[arg(long)]
    pub(crate) cascade: bool,

    /// Keep what is here and shows (the default)
    #[arg(long, conflicts_with = "drop_unseen")]
    pub(crate) keep: bool,

    /// Hide also what is here, where nobody entitled has gone on with it
    #[arg(long)]
    pub(crate) drop_unseen: bool,

    /// Only say what would happen
    #[arg(long)]
    pub(crate) preview: bool,
}

/// Why somebody may, or may not, do something
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus why write /table/menu --as bob
  timebus why read / --as anyone
  timebus why write @alice/table        whether, and why, this device may

The exit code is 0 if he may and 1 if he may not.")]
pub(crate) struct Why {
    /// To do what
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) can: May,

    /// Where
    #[arg(value_name = "PATH")]
    pub(crate) path: Target,

    /// Who [default: this device]
    #[arg(long = "as", value_name = "WHO")]
    pub(crate) who: Option<String>,
}

/// Why something that was written does not show
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus why-hidden /table             what is hidden at and below it, and why
  timebus why-hidden OP                 one change or op, by its id")]
pub(crate) struct WhyHidden {
    /// A path, or the id of a change or op
    #[arg(value_name = "OP|PATH")]
    pub(crate) what: String,
}

/// What removed members wrote that nobody had seen, and keeping some of it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus quarantine                    list what is hidden
  timebus quarantine ls @alice          in a space of somebody else
  timebus quarantine keep k7f3q2ab      this change counts after all, with those it stands on")]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) action: Option<QuarantineAction>,
}

/// What to do with what is hidden.
#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineAction {
    /// List it
    Ls {
        /// At and below this path
        #[arg(value_name = "PATH", default_value = "/")]
        path: Target,
    },
    /// Give a change its effect back
    Keep {
        /// The change, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,

        /// In the space of this path
        #[arg(long = "in", value_name = "PATH", default_value = "/")]
        path: Target,
    },
}

/// Show what others want to bring here and is more than they may
///
/// Friends may keep 1 GB here, those who took an invite 256 MB, others 64 MB; `timebus limits` sets another size for
/// somebody. What is over it stays where it is until you say so.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  timebus held\n  timebus allow ID once")]
pub(crate) struct HeldArgs {}

/// Answer a request of somebody who wants to keep more here
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus allow k7f3q2ab once           what he wants to bring now, and no more
  timebus allow k7f3q2ab up to 1GB      so much in all
  timebus allow k7f3q2ab never          nothing more, and no more requests")]
pub(crate) struct Allow {
    /// The request, or the beginning of its id (`timebus held`)
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// once, never, or up to SIZE
    #[arg(value_name = "ANSWER", default_value = "once", num_args = 1..=3)]
    pub(crate) answer: Vec<String>,
}

/// Set how much somebody may keep here, or an app write for you; or list what was set
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus limits                      who may keep how much, and what is used of it
  timebus limits bob 1GB
  timebus limits app:chirp 5GB        what an app may write; also what it writes over counts
  timebus top                         what everybody costs")]
pub(crate) struct Limits {
    /// Whom: a name, a key, or app:NAME [default: list them]
    #[arg(value_name = "WHO", requires = "size")]
    pub(crate) who: Option<String>,

    /// How much in all
    #[arg(value_name = "SIZE", value_parser = crate::amounts::bytes)]
    pub(crate) size: Option<u64>,
}

/// Show who costs you what: bytes, changes, requests, traffic
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  timebus top\n  timebus top --json")]
pub(crate) struct Top {}

/// Let several peers go through bad times in one process, and see whether they agree afterwards
///
/// Time, network and disks are simulated, and all of it comes from the seed: a run takes seconds and can be repeated.
/// The peers are the real ones below their sockets. They write while links break, parts of the network lose each
/// other, disks fill up, and peers crash; then everything is mended.
#[derive(Debug, Args)]
#[command(after_help = "\
The run fails (exit code 1) if an acknowledged write is lost, if peers that hold the same changes show different
values, if somebody is told an effect before its cause, if the peers do not agree in time, or if too little happened.

Examples:
  timebus lab                                          5 peers, 30 s of trouble, another seed each time
  timebus lab --nodes 5 --partition a,b/c,d,e --skew 5m    two parts that do not see each other, wrong clocks
  timebus lab --nodes 7 --evil 2 --seconds 120         two peers that lie, flood, forge and sign twice
  timebus lab --seed 17 --json                         the same run for a program
  timebus lab swarm --peers 10000                      how fast a file reaches very many at once")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Lab {
    #[command(subcommand)]
    pub(crate) what: Option<LabVerb>,

    /// How many peers: alice, bob, carol and so on
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) nodes: usize,

    /// What chance comes from [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Seconds of trouble, in the time of the lab
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub(crate) seconds: u64,

    /// Writes that are tried [default: 2 a second]
    #[arg(long, value_name = "N")]
    pub(crate) writes: Option<usize>,

    /// Peers that do not reach each other for most of the time, by first letters [default: left to chance]
    #[arg(long, value_name = "a,b/c,d")]
    pub(crate) partition: Option<Groups>,

    /// How wrong clocks are at most, as in 5m, 30s, 2h, 10ms
    #[arg(long, value_name = "TIME")]
    pub(crate) skew: Option<Span>,

    /// How many of the peers cheat; the last ones
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) evil: usize,

    /// How many of the honest peers are second devices of the first ones
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) devices: usize,

    /// Invites that are given out meanwhile, for which several race
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) invites: usize,

    /// Everybody follows only some of the others
    #[arg(long)]
    pub(crate) partial: bool,
}

/// What else a lab can show.
#[derive(Debug, Subcommand)]
pub(crate) enum LabVerb {
    Swarm(Swarm),
}

/// Let many peers want one file at once, and compare with the shortest time that is possible
///
/// What they say to each other and whom they ask for what is decided as in real peers; lines and time are simulated,
/// and all chance comes from the seed. The shortest time is what the slowest of these takes: the first one sends it once,
/// each receives it, and all together send what all receive. Ends with 1 if somebody did not get it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus lab swarm                                    16 peers, 32 MB, every line sends 8 Mbit/s
  timebus lab swarm --peers 1000 --arrive 60           they begin to want it within a minute
  timebus lab swarm --peers 200 --free-riders 20 --churn 30 --leave 50
  timebus lab swarm --peers 10000 --json               takes minutes; a second or two for a hundred peers")]
pub(crate) struct Swarm {
    /// How many want it
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) peers: u32,

    /// How large it is
    #[arg(long, value_name = "SIZE", default_value = "32MB", value_parser = crate::amounts::bytes)]
    pub(crate) size: u64,

    /// What the origin sends, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 8)]
    pub(crate) origin_up: u64,

    /// What each other peer sends, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 8)]
    pub(crate) up: u64,

    /// What each peer receives, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 100)]
    pub(crate) down: u64,

    /// Milliseconds from one to another, at most
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub(crate) delay: u64,

    /// Links that each lets others open
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) links: u16,

    /// Seconds over which they begin to want it
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) arrive: u64,

    /// Per cent of them that send nothing
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) free_riders: u32,

    /// Per cent of them that are gone for 10 seconds before they have it
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) churn: u32,

    /// Per cent of them that leave as soon as they have it
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) leave: u32,

    /// What chance comes from [default: another one each time]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

/// Groups of peers of a lab, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Groups(pub(crate) Vec<Vec<usize>>);

impl std::str::FromStr for Groups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let peer = |name: &str| {
            let found = timebus_net::lab::NAMES.iter().position(|known| *known == name || known[..1] == *name);
            found.ok_or_else(|| format!("{name:?} is no peer; say a for alice, b for bob, as in a,b/c,d,e"))
        };
        text.split('/').map(|group| group.split(',').map(peer).collect()).collect::<Result<_, _>>().map(Self)
    }
}

/// A span of time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) u64);

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit_ms = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let span = number.parse::<u64>().ok().zip(unit_ms).and_then(|(number, unit_ms)| number.checked_mul(unit_ms));
        // Clocks are never wrong by more than the time since 1970.
        span.filter(|ms| *ms <= 50 * 365 * 86_400_000).map(Self).ok_or_else(|| format!("{text:?} is no time; say 5m, 30s, 2h, 1d or 10ms"))
    }
}

/// Run a relay: it carries packets between peers that cannot reach each other directly
///
/// A relay cannot read what it carries. It has no home and keeps nothing on disk.
#[derive(Debug, Args)]
#[command(after_help = "\
It speaks HTTP without TLS, for this machine or a local network. For the internet put a web server with TLS in front
that passes websocket upgrades on, as Caddy does with:

  relay.example.org {
      reverse_proxy 127.0.0.1:3340
  }

Peers then use relay:https://relay.example.org as an address.

Examples:
  timebus relay                                   127.0.0.1, port 3340
  timebus relay --listen 0.0.0.0:3340             for the local network
  timebus relay --allow 4f3kq…                    only for these node keys; may be repeated
  timebus relay --listen 127.0.0.1:0 --json       any free port; one line of JSON when ready

Stop it with Ctrl-C or SIGTERM.")]
pub(crate) struct Relay {
    /// Where to listen; port 0 means any
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:3340")]
    pub(crate) listen: std::net::SocketAddr,

    /// A node key that may use it [default: everybody may]
    #[arg(long, value_name = "KEY")]
    pub(crate) allow: Vec<timebus_identity::PublicKey>,

    /// Peers connected at once
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(crate) peers: usize,

    /// Bytes a second taken from each peer; 0 for as many as come
    #[arg(long, value_name = "BYTES", default_value_t = 4 * 1024 * 1024)]
    pub(crate) rate: u32,
}

/// Print a completion script for your shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus completions bash > ~/.local/share/bash-completion/completions/timebus
  timebus completions zsh > ~/.zfunc/_timebus
  timebus completions fish > ~/.config/fish/completions/timebus.fish")]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn reads_groups_and_spans_of_a_lab() {
        let parse = |args: &[&str]| match Cli::try_parse_from([&["timebus", "lab"], args].concat()).map(|cli| cli.verb) {
            Ok(Some(Verb::Lab(lab))) => Ok((lab.partition.map(|groups| groups.0), lab.skew.map(|span| span.0))),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(parse(&["--partition", "a,bob/c", "--skew", "5m"]), Ok((Some(vec![vec![0, 1], vec![2]]), Some(300_000))));
        assert_eq!(parse(&["--skew", "10ms"]), Ok((None, Some(10))));
        for bad in [["--partition", "a,z"], ["--partition", "a//b"], ["--skew", "5"], ["--skew", "-5m"], ["--skew", "99999999999d"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("timebus {}", verb.get_name());
            assert!(help.contains("Examples:") && help.contains(&example), "{}", verb.get_name());
        }
    }

    #[test]
    fn no_verb_means_up() {
        let cli = Cli::try_parse_from(["timebus", "--json"]).expect("good arguments");
        let (is_json, verb) = (cli.json, cli.verb.unwrap_or_default());
        assert!(is_json && matches!(verb, Verb::Up(up) if up.cache == 1_000_000_000 && up.links == LINKS_MAX && up.name.is_none()));
    }

    #[test]
    fn values_may_look_like_flags() {
        for value in ["-", "-1", "-0.5"] {
            let cli = Cli::try_parse_from(["timebus", "put", "/a", value]).expect("good arguments");
            assert!(matches!(cli.verb, Some(Verb::Put(put)) if put.value == value));
        }
    }
}
