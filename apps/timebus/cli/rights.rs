//! Who may read and write what, why, and what it may cost.

use clap::{Args, Subcommand, ValueEnum};

use crate::target::Target;

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
    #[command(after_help = "Examples:\n  timebus inbox ls")]
    Ls,
    /// Throw one notice out
    #[command(after_help = "Examples:\n  timebus inbox rm carol 3f")]
    Rm {
        /// The sender's name, or the beginning of his key, as `inbox ls` shows it
        #[arg(value_name = "KEY")]
        who: String,
        /// The beginning of its slot, as `inbox ls` shows it
        #[arg(value_name = "SLOT")]
        slot: String,
    },
    /// Throw out everything of one sender
    #[command(after_help = "Examples:\n  timebus inbox purge @mallory")]
    Purge {
        /// A name, a space or a key
        #[arg(value_name = "WHO")]
        who: String,
    },
    /// Take notices again
    #[command(after_help = "Examples:\n  timebus inbox open")]
    Open,
    /// Take no notices any more; what is there stays
    #[command(after_help = "Examples:\n  timebus inbox close")]
    Close,
    /// Leave a notice with somebody, or take it back
    #[command(
        after_help = "Examples:\n  timebus inbox send like @alice/posts/1 --from /likes/1\n  timebus inbox send like @alice/posts/1 --from /likes/1 --undo"
    )]
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
    #[command(after_help = "Examples:\n  timebus inbox sent")]
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

/// Let somebody read or write a path and everything below it
///
/// What somebody can read is a timeline, not a path: a grant says in words what it comes to, and --preview says only
/// that. Rights are statements that everybody who holds the space has; `timebus revoke` takes them back.
#[derive(Debug, Args)]
#[command(after_help = "\
WHO is what you call somebody, a key (see `timebus id`), the name that a key or one of your devices has, or `anyone`. In your own
space your devices may do everything as it is.

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

    /// How much he may write in all with each of his devices, as in 50MB; over HTTP files count, too [default: no limit that everybody keeps]
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
///
/// A grant is for one device. When the root key of its owner says that it is gone, your peer gives the same to the device that he has
/// instead, and takes it from the old one; that is shown with the grant.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus grants                    all grants of your space
  timebus grants /table             those that reach there, and those by which it is read
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
/// A person loses what he has with all his devices; one of them alone is named by its key, or as `timebus grants` calls it.
/// What was written in good faith stays, and what nobody here has seen is hidden, whatever date it carries. --preview
/// says who loses what and how many changes would be hidden.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus revoke bob --preview          say what would happen
  timebus revoke bob                    all that he was granted, with all his devices
  timebus revoke bob /table             only what is at and below /table
  timebus revoke k7f3q2ab               one grant, by the beginning of its id (`timebus grants`)
  timebus revoke bob --cascade          also those whom he let in
  timebus revoke bob --with-invite      also the link by which he came, if others can still take it
  timebus revoke bob --drop-unseen      also hide what he wrote and nobody else has gone on with")]
pub(crate) struct Revoke {
    /// A grant, or whose
    #[arg(value_name = "GRANT|WHO")]
    pub(crate) what: String,

    /// Only grants at and below this path
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: Target,

    /// Take back also what was handed on to others, seen or not
    #[arg(long)]
    pub(crate) cascade: bool,

    /// Keep what is here and shows (the default)
    #[arg(long, conflicts_with = "drop_unseen")]
    pub(crate) keep: bool,

    /// Hide also what is here, where nobody entitled has gone on with it. What was kept when a right was taken back stays for good
    #[arg(long)]
    pub(crate) drop_unseen: bool,

    /// Take back also the invites by which he came and that can still be taken: he has the link
    #[arg(long)]
    pub(crate) with_invite: bool,

    /// Only say what would happen
    #[arg(long)]
    pub(crate) preview: bool,
}

/// What is asked about somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Asked {
    /// Whether he may read
    Read,
    /// Whether he may write
    Write,
    /// Whether he may give rights on and take them back
    Admin,
    /// Whether he may take plain members' rights back
    Moderate,
    /// Whether it shows here, and its file is here; what was counted of it
    Shown,
}

/// Why somebody may, or may not, do something; and why something shows, or does not
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus why write /table/menu --as bob
  timebus why read / --as anyone
  timebus why write /chirp --as app:chirp
  timebus why read /.sys/status --as bob
  timebus why write @alice/table        whether, and why, this device may
  timebus why write /notes --as laptop  one device, as `timebus devices` and `timebus grants` call it
  timebus why shown @carol/posts/1      why it does not show, or its picture is not here
  timebus why shown /likes/1            whether it was told to whom it is about, and taken

The exit code is 0 if he may, or it shows, and 1 if not.")]
pub(crate) struct Why {
    /// To do what
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) can: Asked,

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
    #[command(after_help = "Examples:\n  timebus quarantine ls /wall")]
    Ls {
        /// At and below this path
        #[arg(value_name = "PATH", default_value = "/")]
        path: Target,
    },
    /// Give a change its effect back
    #[command(after_help = "Examples:\n  timebus quarantine keep 7hfk2mqe")]
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
/// somebody. Those of whom you know nothing have together 8 times what he may keep who let them in, or whose space it is.
/// What is over it stays where it is until you say so.
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
  timebus limits bob                  how much Bob may keep here, and what is used of it
  timebus limits bob 1GB
  timebus limits app:chirp 5GB        what an app may write; also what it writes over counts
  timebus top                         what everybody costs")]
pub(crate) struct Limits {
    /// Whom: a name, a key, or app:NAME [default: list all]
    #[arg(value_name = "WHO")]
    pub(crate) who: Option<String>,

    /// How much in all [default: say how much it is]
    #[arg(value_name = "SIZE", value_parser = crate::amounts::bytes)]
    pub(crate) size: Option<u64>,
}

/// Show who costs you what: bytes, changes, requests, traffic
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  timebus top\n  timebus top --json")]
pub(crate) struct Top {}
