//! The peer itself: starting it, asking how it is, who it is, and trying it.

use clap::{Args, ValueEnum};

use crate::generator::Shape;
use crate::target::Target;

/// Links that others may open at once if nothing is said; each costs up to 4 MiB while it is busy.
pub(super) const LINKS_MAX: u16 = 256;

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
  timebus up --name Alice                 what you are called, if your profile does not say it
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

    /// A name, beside localhost, under which this peer is reached, as behind a reverse proxy; programs of your user need the token then
    /// (`id --token`), since a proxy is one of them; may be repeated. `localhost` in a container, whose apps are for the machine around it
    #[arg(long = "host", value_name = "NAME")]
    pub(crate) hosts: Vec<String>,

    /// Open no sockets but the HTTP one: call nobody, let nobody in
    #[arg(long)]
    pub(crate) offline: bool,

    #[command(flatten)]
    pub(crate) net: Net,

    /// What you are called by this peer, to others and in invites; the name of your profile (`timebus put /profile/name`) goes first in
    /// invites. What a device is called says `timebus devices name` [default: your three-part name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Show the login link as a QR code
    #[arg(long)]
    pub(crate) qr: bool,

    /// Most bytes of large files that are kept, with those of all personas, as in 100GB [default: what the disk takes]
    #[arg(long, value_name = "SIZE", value_parser = crate::amounts::bytes)]
    pub(crate) blob_limit: Option<u64>,

    /// Most bytes of other people's files that stay here once they were fetched, to be read and given to others; with personas each
    /// has an equal part of it, and what the others do not use. The one that was read last stays, too, for some hours, as long as as much
    /// as it takes and 1 GB are free [default: 1GB, or a tenth of what is free on the disk if that is more]
    #[arg(long, value_name = "SIZE", value_parser = crate::amounts::bytes)]
    pub(crate) cache: Option<u64>,

    /// About how many seconds apart some machine of a community is asked to show a piece of a file that it says it holds, 0 never
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) spot_check: u64,

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

    /// Never use public relays and the public DHT, whatever was said before
    #[arg(long)]
    pub(crate) no_public: bool,

    /// A relay that counts as public: it is used once you said yes to public relays; may be repeated [default: those of n0]
    #[arg(long = "public-relay", value_name = "URL")]
    pub(crate) public_relays: Vec<String>,

    /// A first node of the public DHT, which is asked once you said yes to that; may be repeated [default: those of BitTorrent]
    #[arg(long = "public-dht", value_name = "HOST:PORT", value_parser = first_node)]
    pub(crate) public_dht: Vec<String>,
}

/// Where a node of a DHT is.
fn first_node(text: &str) -> Result<String, String> {
    let is_one = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if is_one { Ok(text.to_owned()) } else { Err("write it like dht.example.org:6881".to_owned()) }
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
