//! Other people and other devices: invites, following, finding, blocking, files of others.

use clap::{Args, Subcommand, ValueEnum};

use super::Net;
use crate::amounts::{Lifetime, Speed};
use crate::target::Target;

/// Make a link that lets somebody read your space, and write where you say
///
/// Whoever has the link may take it: send it as you would send a key. Who may read, reads all of the space that is not
/// kept apart (`timebus private`). Writing is limited to PATH; and if PATH is one that is kept apart, reading is, too.
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

    /// Let him read the whole space although a path is named that is not kept apart: what is read is never a part of it
    #[arg(long)]
    pub(crate) whole: bool,

    /// How many may take it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) uses: u64,

    /// How long it can be taken, as in 30m, 12h, 7d or never
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = crate::amounts::lifetime)]
    pub(crate) expires: Lifetime,

    /// How many levels of guests each of them may bring in turn, as you could; 0 for nobody [default: 3, or what is left]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub(crate) guests: Option<u8>,

    /// How much each of those who take it may write, as in 50MB; over HTTP files count, too [default: no limit]
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
  timebus join timebus://join/ASLa… --called Bob           and be called Bob, by her and all who read you
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

    /// What you are called: the name that you carry in a community [default: what your peer calls itself], or the one that your
    /// profile says from now on [default: as before]
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
///
/// Machines that were not met for 30 days, or whose owner has linked another one since, are only counted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus peers
  timebus peers --all                           also machines that are gone, and strangers who only called
  timebus peers --json | jq '.peers[] | select(.state == \"connected\")'
  timebus peers name orchard-llama-26 carol     what you call somebody, whether you follow him or not
  timebus doctor                                why two peers do not talk")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Peers {
    #[command(subcommand)]
    pub(crate) action: Option<PeersAction>,

    /// Also machines that are gone, and strangers who only called
    #[arg(long)]
    pub(crate) all: bool,
}

/// What to do with who is known.
#[derive(Debug, Subcommand)]
pub(crate) enum PeersAction {
    /// Say what you call somebody
    ///
    /// He is called so in all that you are shown, and by you wherever somebody is named; he is not followed for that.
    #[command(after_help = "Examples:
  timebus peers name orchard-llama-26 carol
  timebus peers name carol ''                   as he calls himself again")]
    Name {
        /// Whom: a name that `timebus peers` or `timebus grants` shows, or a key
        #[arg(value_name = "WHO")]
        who: String,
        /// What you call him
        #[arg(value_name = "NAME")]
        name: String,
    },
}

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
members of common communities, in the DHTs of those that you take part in, and, once you said yes (`timebus public-dht`), in
the public one. It says which of these found somebody, and which are off.

Examples:
  timebus find @alice
  timebus find Bob@choir                        a member of a community, by the name that he carries there
  timebus find @alice --json")]
pub(crate) struct Find {
    /// Whom: a name, a space, the key of a peer, or NAME@COMMUNITY
    #[arg(value_name = "WHO")]
    pub(crate) who: String,
}

/// Be found, and find others, through the public DHT of BitTorrent, or no longer
///
/// Off until you say on: nothing is ever asked of it, or said to it, before.
#[derive(Debug, Args)]
#[command(after_help = "\
On, your peer says there where it is, and looks there for those whom nobody nearer knows. That is two exposures, both to
everybody who takes part in that network:
  - whoever has your key, or looks at what is kept there, sees your addresses, which machines are yours and take your notices,
    and the communities that you say you are in (`timebus community set NAME --told yes`), as it is signed in your record;
  - whom you look for is seen by those whose part it is to answer, and that it is your address that asks.
Nobody can change what you say there. What was said is forgotten there about two hours after you said off.

A persona is asked for itself, and is off, whatever you said for yourself. All are at one address: who sees both there can
guess that they are one.

Examples:
  timebus public-dht                              whether it is on, and what was said there
  timebus public-dht on
  timebus --persona work public-dht on            for this persona alone
  timebus find se7tu1sk…                          asks there if nobody nearer knows
  timebus public-dht off
  timebus up --public-dht dht.example.org:6881    another DHT in its place
  timebus up --no-public                          never, whatever was said")]
pub(crate) struct PublicDht {
    /// Whether [default: show how it is]
    #[arg(value_name = "ON|OFF")]
    pub(crate) answer: Option<super::Switch>,
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

/// Show which files are kept and on their way, keep, pause or cancel files of others, set their speed, or stop handing them on
///
/// A file of somebody else comes when you read it, from everybody who has some of it, stays as long as there is room
/// for it, and goes on from here to others who may read it. Downloads by `timebus get -o` that were cut off are shown, too, with
/// the command that goes on; `cancel` removes what had come.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus files                          what comes from whom, what goes, and how fast
  timebus files pause @alice/film        nothing more comes of it; what has come stays, also over a restart
  timebus files resume @alice/film       it comes to its end, whether somebody reads it or not
  timebus files cancel @alice/film       it does not come, and what has come goes
  timebus files limit --up 1MB/s --down 5MB/s
  timebus files limit --up none          as fast as the line is
  timebus files pin @alice/photos        fetch all that is there, now and from now on, and keep it
  timebus files unpin @alice/photos      it makes room for others again
  timebus files free --preview           how much of what came from others can go, and come again
  timebus files share @alice no          take files of alice, and hand none on")]
pub(crate) struct Files {
    #[command(subcommand)]
    pub(crate) verb: Option<FilesVerb>,
}

/// What to do with files.
#[derive(Debug, Subcommand)]
pub(crate) enum FilesVerb {
    /// Show what is kept, pinned and on its way (what plain `files` does)
    #[command(after_help = "Examples:\n  timebus files ls")]
    Ls,
    /// Fetch all files at and below a path, of somebody else or of another own device, also those to come, and keep them
    #[command(after_help = "Examples:\n  timebus files pin @alice/photos")]
    Pin {
        /// The path, as @alice/photos or /photos
        #[arg(value_name = "PATH")]
        path: Target,
    },
    /// Let files make room for others again
    #[command(after_help = "Examples:\n  timebus files unpin @alice/photos")]
    Unpin {
        /// The path that was pinned
        #[arg(value_name = "PATH")]
        path: Target,
    },
    /// Remove files of others that are here only because somebody read them; they come again when they are read
    ///
    /// What is pinned stays, and what you said something of (paused, wanted), what a community placed here, what your guests keep in
    /// your space, and all that is yours.
    #[command(after_help = "Examples:\n  timebus files free --preview\n  timebus files free @alice/films\n  timebus files free --history --preview")]
    Free {
        /// Those at and below it, as @alice/films [default: of everybody]
        #[arg(value_name = "PATH")]
        path: Option<Target>,
        /// Instead, those that were removed or replaced, and are kept for 30 days so that you can take that back
        #[arg(long, conflicts_with = "path")]
        history: bool,
        /// Only say how much it is
        #[arg(long)]
        preview: bool,
    },
    /// Let nothing more come of files until you say so, whoever reads them; what has come is kept
    ///
    /// Of a path it is all files at and below it that are not here, also those that nobody has asked for yet. Whoever waits for one
    /// hears that it is paused. Others still get what is here of it.
    #[command(after_help = "Examples:\n  timebus files pause @alice/films")]
    Pause {
        /// A file, as @alice/film or by its hash, or a path above several
        #[arg(value_name = "WHICH", value_parser = which)]
        which: String,
    },
    /// Let files come that were paused or cancelled, or of which a part is here, to their end
    #[command(after_help = "Examples:\n  timebus files resume @alice/films/holiday")]
    Resume {
        /// A file, as @alice/film or by its hash, or a path above several
        #[arg(value_name = "WHICH", value_parser = which)]
        which: String,
    },
    /// Let files not come, and keep nothing of what has come of them
    ///
    /// Whoever waits for one hears so, and if it is read again later it comes after all. A pin of this path goes; if one above it
    /// is pinned, or a community placed the file here, this file is left out. What had come of downloads of it by `timebus get -o`
    /// that were cut off goes, too; one that goes on is left alone. An upload of yours to just this path that has not ended is given up.
    #[command(after_help = "Examples:\n  timebus files cancel @alice/films/holiday")]
    Cancel {
        /// A file, as @alice/film or by its hash, or a path above several
        #[arg(value_name = "WHICH", value_parser = which)]
        which: String,
    },
    /// Show or set how fast files may go to others and come from them; it is kept over restarts
    ///
    /// All other machines count, also your own. What you read from this peer on this machine does not, nor does anything but
    /// files. A persona has a speed of its own.
    #[command(after_help = "\
Examples:
  timebus files limit                    how it is
  timebus files limit --up 1MB/s --down 5MB/s
  timebus files limit --up none          as fast as the line is")]
    Limit {
        /// What all others together are given, at most: bytes a second, at least 16kB/s, or none
        #[arg(long, value_name = "SPEED", value_parser = crate::amounts::speed)]
        up: Option<Speed>,
        /// What is asked of all others together, at most
        #[arg(long, value_name = "SPEED", value_parser = crate::amounts::speed)]
        down: Option<Speed>,
    },
    /// Hand on files of a space of somebody else, or no longer; your own devices get them anyway
    #[command(after_help = "Examples:\n  timebus files share @alice no")]
    Share {
        /// Whose: a name or a key
        #[arg(value_name = "WHO")]
        who: String,
        /// Whether
        #[arg(value_name = "YES|NO")]
        share: Answer,
    },
}

/// A file that is meant: a hash stays what it is, a path is checked.
fn which(text: &str) -> Result<String, String> {
    match timebus_store::blobs::BlobHash::parse(text) {
        Some(hash) => Ok(hash.to_string()),
        None => text.parse::<Target>().map(|path| path.to_string()),
    }
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
  timebus devices name laptop                           what you call this one, on all your devices
  timebus devices name og1oxkdq phone                   and another one
  timebus devices remove phone                          one that was lost or sold")]
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
    /// Say what you call a device: all your devices know it, and nobody else does
    ///
    /// The name is good wherever a device is named, as in `timebus rotate --without laptop`, and stays with one that is thrown out.
    /// Each device goes by the name that it was given on itself, or that you gave it where you look: what any other one says
    /// of it is shown as that, since a stolen one could say anything.
    #[command(after_help = "Examples:
  timebus devices name laptop                           this device
  timebus devices name og1oxkdq phone                   another one, by its key or the name that it has
  timebus devices name phone ''                         the name of its key again")]
    Name {
        /// The device, and what to call it; with one argument, this device is called so
        #[arg(value_name = "[DEVICE] NAME", num_args = 1..=2, required = true)]
        names: Vec<String>,
    },
    /// Take all rights from a device
    ///
    /// In your space, and what your devices handed on to it in others. What friends granted to that device itself they take back
    /// when your root key says that it is gone, and give it to the device on which you say so: `timebus rotate --without DEVICE`.
    ///
    /// Which device that is, since when, and who named it is said. Where only another device says that it is called so you are asked.
    ///
    /// Devices that it made yours are named and stay; `--made` takes them, too, as when it was stolen.
    #[command(after_help = "Examples:\n  timebus devices remove og1oxkdq\n  timebus devices remove og1oxkdq --made             it was stolen")]
    Remove {
        /// Its key, the beginning of it, or its name
        #[arg(value_name = "DEVICE")]
        device: String,
        /// Also the devices that it made yours, and those that these made
        #[arg(long)]
        made: bool,
        /// It is this one, also where only another device calls it so
        #[arg(long, short)]
        yes: bool,
    },
}
