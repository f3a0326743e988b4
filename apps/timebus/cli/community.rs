//! What can be typed about communities.

use clap::{Args, Subcommand, ValueEnum};

use super::{Answer, Join};

/// Found, join and leave communities: spaces of many people with a board, members and rules of their own
///
/// A community belongs to nobody alone. Whoever founds one organizes it, lets others in, and can make others organizers.
/// In each community you carry a name of its own. Members keep all of it, and find each other through it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus community new 'The choir' --about 'We sing on Mondays' --as choir
  timebus invite --to @choir --can member --uses 20     a link that lets twenty people in
  timebus community join LINK --called Ada              on their machines
  timebus community post choir 'No singing this week'
  timebus community board choir
  timebus community members choir
  timebus community                                     those that you are in")]
pub(crate) struct Community {
    #[command(subcommand)]
    pub(crate) verb: Option<CommunityVerb>,
}

/// Who writes on a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    /// Every member.
    Members,
    /// Organizers alone.
    Organizers,
}

impl Board {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Organizers => "organizers",
        }
    }
}

/// Something that is done, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// From now on.
    On,
    /// Not, or no longer.
    Off,
}

/// An amount of bytes, of which there may be none.
fn room(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { crate::amounts::bytes(text) }
}

/// Rules of a community.
#[derive(Debug, Args)]
pub(crate) struct RuleArgs {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) about: Option<String>,

    /// Who writes on its board, of those who are let in from now on [default: members]
    #[arg(long, value_enum, value_name = "WHO")]
    pub(crate) board: Option<Board>,

    /// How many levels of members those may bring whom you let in from now on; with 0 they cannot use a second device there either
    /// [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=3))]
    pub(crate) guests: Option<u8>,

    /// How many members who offered storage are to hold everything [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) copies: Option<u8>,

    /// Hours after which one of them who is away does not count, and others step in [default: 24]
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) away: Option<u32>,
}

/// What to do with communities.
#[derive(Debug, Subcommand)]
pub(crate) enum CommunityVerb {
    /// List the communities that you are in (what plain `community` does)
    #[command(after_help = "Examples:\n  timebus community list")]
    List,
    /// Found a community, which you organize
    #[command(
        after_help = "Examples:\n  timebus community new 'The choir' --called Ada\n  timebus community new garden --copies 2 --board organizers"
    )]
    New {
        /// What it is called
        #[arg(value_name = "TITLE")]
        title: String,

        /// The name that you carry in it [default: what your peer calls itself]
        #[arg(long, value_name = "NAME")]
        called: Option<String>,

        /// What you call it in paths, as in @choir/board [default: its title, if that can be one]
        #[arg(long = "as", value_name = "NAME")]
        petname: Option<String>,

        #[command(flatten)]
        rules: RuleArgs,
    },
    /// Take an invite to a community (the same as `timebus join`)
    #[command(after_help = "Examples:\n  timebus community join timebus://join/ASLa… --called Ada --yes")]
    Join(Join),
    /// Hand over what is held here, say that you are gone, and get nothing new of a community any more; what is here stays
    #[command(after_help = "\
What this machine holds for the others, and what you put there, is with as many of them as have room for it before you leave. Your peer
sees to that also when this command is ended; it leaves after the hours in any case after which who is away does not count.

Examples:
  timebus community leave choir
  timebus community leave choir --now        at once, whatever others lack then
  timebus community offer 10GB choir         stay after all, as long as it hands over")]
    Leave {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,

        /// Hand nothing over
        #[arg(long)]
        now: bool,

        /// Leave without being asked, also as the only organizer
        #[arg(long, short)]
        yes: bool,
    },
    /// Show a community, its rules, and what you are in it
    #[command(after_help = "Examples:\n  timebus community show choir\n  timebus community show choir --json")]
    Show {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,
    },
    /// Show who is in a community, by the names that they carry there
    #[command(after_help = "Examples:\n  timebus community members choir")]
    Members {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,
    },
    /// Show the notices of a community, the newest first
    #[command(after_help = "\
Examples:
  timebus community board choir
  timebus watch @choir/board                              every notice as it comes
  curl localhost:7007/.sys/communities/choir/board        the same for programs")]
    Board {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,

        /// How many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Put a notice on the board of a community
    #[command(after_help = "\
Examples:
  timebus community post choir 'No singing this week'
  curl localhost:7007/.sys/communities/choir/board -H 'Content-Type: application/json' -d '{\"text\": \"the same by HTTP\"}'")]
    Post {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,

        /// The notice
        #[arg(value_name = "TEXT")]
        text: String,
    },
    /// Change the name that you carry in a community, and, if you organize it, its rules
    #[command(after_help = "\
Examples:
  timebus community set choir --called 'Ada, alto'
  timebus community set choir --copies 4 --about 'We sing on Tuesdays now'
  timebus community set choir --told yes               who hears where your peer is, hears that you are in it")]
    Set {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,

        /// The name that you carry in it
        #[arg(long, value_name = "NAME")]
        called: Option<String>,

        /// Whether everybody who hears where your peer is may hear that you are in it
        #[arg(long, value_enum, value_name = "ANSWER")]
        told: Option<Answer>,

        /// What it is called
        #[arg(long, value_name = "TITLE")]
        title: Option<String>,

        /// A first node of its DHT; may be repeated
        #[arg(long, value_name = "HOST:PORT")]
        dht: Vec<String>,

        #[command(flatten)]
        rules: RuleArgs,
    },
    /// Offer room on this machine for files of a community, or take the offer back
    #[command(after_help = "\
Members who offer storage hold the files of the community between them, each file as often as its rules say, and see to it
that it stays so when some of them are away. What is offered is a limit; 0 ends it, and what is held stays until others have it, or
for as many hours as who is away still counts.

Examples:
  timebus community offer 10GB
  timebus community offer 10GB choir
  timebus community offer 0 choir")]
    Offer {
        /// How much
        #[arg(value_name = "SIZE", value_parser = room)]
        size: u64,

        /// Its title, your name for it, or its key [default: the one that you are in]
        #[arg(value_name = "COMMUNITY")]
        name: Option<String>,
    },
    /// Show which files of a community, and which spaces of its members, lie where, and what has too few copies
    #[command(after_help = "Examples:\n  timebus community placement choir\n  timebus community placement choir --json")]
    Placement {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,
    },
    /// Take part in the DHT of a community, where its members say where they are, or no longer
    #[command(after_help = "\
A DHT helps members find each other who reach nobody who could tell. Each community has one of its own, with first nodes that its
organizers name; nothing of it gets into the public one of BitTorrent (see `timebus public-dht`). Who takes part is seen by all
others in it. It is one of IPv4: a machine that has IPv6 alone takes no part in it, and is found in the other ways.

Examples:
  timebus community dht choir on
  timebus community dht choir on --bind 192.168.1.7 --port 6881
  timebus community set choir --dht dht.example.org:6881        an organizer names a first node
  timebus community dht choir off")]
    Dht {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,

        /// Whether
        #[arg(value_name = "ON|OFF")]
        answer: Switch,

        /// The IPv4 address of this machine to listen at
        #[arg(long, value_name = "IP", default_value = "0.0.0.0", value_parser = dht_address)]
        bind: std::net::Ipv4Addr,

        /// The port to listen at; 0 for any that is free
        #[arg(long, value_name = "PORT", default_value_t = 0)]
        port: u16,
    },
    /// Make a member an organizer, who may do what you may
    #[command(after_help = "Examples:\n  timebus community organizer choir Bob")]
    Organizer {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,

        /// The member: the name that he carries there, or the beginning of his key
        #[arg(value_name = "WHO")]
        who: String,
    },
    /// Take all rights of a member back; what he wrote so far stays
    #[command(after_help = "Examples:\n  timebus community remove choir Bob")]
    Remove {
        /// Its title, your name for it, or its key
        #[arg(value_name = "COMMUNITY")]
        name: String,

        /// The member: the name that he carries there, or the beginning of his key
        #[arg(value_name = "WHO")]
        who: String,
    },
}

/// Where a DHT can listen.
fn dht_address(text: &str) -> Result<std::net::Ipv4Addr, String> {
    text.parse().map_err(|_| match text.parse::<std::net::Ipv6Addr>() {
        Ok(_) => "a DHT is one of IPv4; name an IPv4 address of this machine, or leave --bind out".to_owned(),
        Err(_) => "write an IPv4 address of this machine, as in 192.168.1.7".to_owned(),
    })
}
