//! The lab: many peers in one process, on a network that misbehaves.

use clap::{Args, Subcommand};

/// Let several peers go through bad times in one process, and see whether they agree afterwards
///
/// Time, network and disks are simulated, and all of it comes from the seed: a run takes seconds and can be repeated.
/// The peers are the real ones below their sockets. They write while links break, parts of the network lose each
/// other, disks fill up, and peers crash; then everything is mended.
#[derive(Debug, Args)]
#[command(after_help = "\
The run fails (exit code 1) if an acknowledged write is lost, if peers that hold the same changes show different
values, if somebody is told an effect before its cause, if the peers do not agree in time, if they keep more of
somebody than there is room for, or if too little happened.

Examples:
  timebus lab                                          5 peers, 30 s of trouble, another seed each time
  timebus lab --nodes 5 --partition a,b/c,d,e --skew 5m    two parts that do not see each other, wrong clocks
  timebus lab --nodes 7 --evil 2 --seconds 120         two peers that lie, flood, forge and sign twice
  timebus lab --evil 1 --room 100kB                    one writes more than there is room for
  timebus lab --seed 17 --json                         the same run for a program
  timebus lab swarm --peers 10000                      how fast a file reaches very many at once
  timebus lab feed --readers 100                       how fast posts of one reach all who follow")]
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

    /// How much the others keep of each who cheats, and alice twice as much; these write more
    #[arg(long, value_name = "SIZE", requires = "evil", value_parser = crate::amounts::bytes)]
    pub(crate) room: Option<u64>,
}

/// What else a lab can show.
#[derive(Debug, Subcommand)]
pub(crate) enum LabVerb {
    Swarm(Swarm),
    Feed(Feed),
}

/// Let many peers want one file at once, and compare with the shortest time that is possible
///
/// What they say to each other and whom they ask for what is decided as in real peers; lines and time are simulated,
/// and all chance comes from the seed. The shortest time is what the slowest of these takes: the first one sends it once,
/// each receives it, and all together send what all receive. Ends with 1 if somebody did not get it, or it took much longer.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus lab swarm                                    16 peers, 32 MB, every line sends 8 Mbit/s
  timebus lab swarm --peers 1000 --arrive 60           they begin to want it within a minute
  timebus lab swarm --peers 200 --free-riders 20 --churn 30 --leave 50
  timebus lab swarm --play --peers 4 --size 40MB       a film that four play: when does it begin
  timebus lab swarm --mute 30 --within 3               some never say what came; ends with 1 if the others wait long
  timebus lab swarm --peers 10000 --json               takes minutes; a second or two for a hundred peers")]
pub(crate) struct Swarm {
    /// How many want it
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) peers: u32,

    /// How large it is
    #[arg(long, value_name = "SIZE", default_value = "32MB", value_parser = crate::amounts::bytes)]
    pub(crate) size: u64,

    #[command(flatten)]
    pub(crate) crowd: Crowd,

    /// Milliseconds from one to another, at most
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub(crate) delay: u64,

    /// Links that each lets others open
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(2..))]
    pub(crate) links: u16,

    /// Seconds over which they begin to want it
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) arrive: u64,

    /// Per cent of them that are gone for 10 seconds before they have it
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) churn: u32,

    /// Per cent of them that leave as soon as they have it
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) leave: u32,

    /// Per cent of them that take what they get and never say what has come
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) mute: u32,

    /// Per cent of them that say they have nearly all of it, and give nothing
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) liars: u32,

    /// They play it while it comes, as a film
    #[arg(long)]
    pub(crate) play: bool,

    /// Ends with 1 if it takes so many times what their lines could, and 20 seconds more
    #[arg(long, value_name = "TIMES", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) within: u64,
}

/// Let many peers follow one on a slow line: first all want what he has posted, then each new post
///
/// The peers are the real ones below their sockets, each with a store; lines and time are simulated, and all chance comes
/// from the seed. The shortest time is what the slowest of these takes: the first one sends everything once, each receives
/// it, and all together send what all receive. Ends with 1 if somebody did not get everything.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  timebus lab feed                                     100 readers, 10 MB of posts, every line sends 8 Mbit/s
  timebus lab feed --up 20 --posts 10000 --size 1000   small posts, and readers with better lines
  timebus lab feed --readers 30 --free-riders 20 --churn 20 --slow 10
  timebus lab feed --old 100 --readers 20              as it was with peers that send everything to everybody
  timebus lab feed --seed 17 --json                    the same run for a program")]
pub(crate) struct Feed {
    /// How many follow
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) readers: usize,

    /// What is posted before they come
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(crate) posts: usize,

    /// How large a post is
    #[arg(long, value_name = "SIZE", default_value = "5000", value_parser = crate::amounts::bytes)]
    pub(crate) size: u64,

    /// Posts while they are there
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) live: usize,

    #[command(flatten)]
    pub(crate) crowd: Crowd,

    /// Milliseconds from one to another
    #[arg(long, value_name = "MS", default_value_t = 25, value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub(crate) delay: u64,

    /// Seconds over which they come
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) arrive: u64,

    /// Per cent of them that go for 10 seconds, once before they have everything and once while there are posts
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) churn: u64,

    /// Per cent of them whose line carries an eighth
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) slow: u64,

    /// Per cent of them that send everything to everybody, as peers did before; with 100 the one they follow does too
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) old: u64,
}

/// What the lines of a crowd carry, who gives nothing, and what chance comes from.
#[derive(Debug, Args)]
pub(crate) struct Crowd {
    /// What the first one sends, who has it all, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 8)]
    pub(crate) origin_up: u64,

    /// What each other one sends, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 8)]
    pub(crate) up: u64,

    /// What each one receives, in Mbit/s
    #[arg(long, value_name = "MBIT", default_value_t = 100)]
    pub(crate) down: u64,

    /// Per cent of them that give nothing to others
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) free_riders: u32,

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
