//! The lab: several peers in one thread, in a world whose time, network, disks and bad luck come from a seed.
//!
//! Every peer is the real one below its sockets: [`Node`], its sessions, and a store that is driven step by step on a
//! disk in memory ([`Engine`]). [`run`] starts them, lets them write while links break, parts of the network lose
//! each other, disks fill up, clocks are wrong, peers crash and some of them cheat, then mends everything and checks
//! what must hold: who holds the same changes shows the same, what was acknowledged is everywhere, subscribers were
//! told causes before effects, nobody held more than the limits say, and all of it in bounded time.
//!
//! Deliberately not: no socket, thread or clock. The same seed gives the same run.
//!
//! [`Node`]: crate::node::Node
//! [`Engine`]: timebus_store::engine::Engine

mod check;
mod dice;
mod evil;
pub mod feed;
mod peer;
mod wire;
mod world;

use serde::Serialize;

use world::World;

/// What the peers are called.
pub const NAMES: [&str; 9] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan"];
/// Fewest peers of a lab.
pub const NODES_MIN: usize = 3;
/// Longest time of trouble, in seconds: labs are made of short runs.
pub const SECONDS_MAX: u64 = 3600;
/// How long after everything is mended the peers may take to agree, in milliseconds: a link that died unnoticed,
/// twice the longest pause between two calls that the trouble can have led to, and for each peer that a space travels
/// over the pause after which it is asked for again where it was not yet.
const AGREE_MS: u64 = 60_000;
const AGREE_MS_PER_SECOND: u64 = 3_000;
const AGREE_MS_PER_PEER: u64 = 65_000;

/// What happens in a lab.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything that is left to chance comes from this number.
    pub seed: u64,
    /// Peers, [`NODES_MIN`] to as many as there are [`NAMES`]. Default 5.
    pub nodes: usize,
    /// How many of them, the last ones, cheat. At least two do not. Default 0.
    pub evil: usize,
    /// How long there is trouble, in seconds. Default 30.
    pub seconds: u64,
    /// How many writes are tried. Default 60.
    pub writes: usize,
    /// Groups of peers that do not reach each other from one fifth to nine tenths of the time; left to chance if not
    /// said.
    pub partition: Option<Vec<Vec<usize>>>,
    /// How far clocks are off at most, in milliseconds. Default 0.
    pub skew_ms: u64,
    /// How many of the honest peers are second devices of the first ones. Default 0.
    pub devices: usize,
    /// How many invites are given out meanwhile, each to one or more peers that race for it. Default 0.
    pub invites: usize,
    /// Whether everybody follows only some of the others. Default no.
    pub is_partial: bool,
    /// How many bytes honest peers keep of each who cheats, and the first one twice as many; these write more than that. Default as
    /// many as come.
    pub room: Option<u64>,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, nodes: 5, evil: 0, seconds: 30, writes: 60, partition: None, skew_ms: 0, devices: 0, invites: 0, is_partial: false, room: None }
    }

    /// Something small that a seed says all of: for running thousands.
    #[must_use]
    pub fn small(seed: u64) -> Self {
        let mut dice = dice::Dice::new(seed ^ 0xc0ff_ee00);
        let nodes = 3 + dice.below(3).min(dice.below(3));
        let evil = usize::from(nodes > 3 && dice.percent(60));
        let skew_ms = [0, 1000, 300_000, 86_400_000][dice.below(4)];
        Self { nodes, evil, seconds: dice.between(3, 25), writes: 6 + dice.below(14), skew_ms, ..Self::new(seed) }
    }

    /// The same with one or two who write more than there is room for, and fork their chains.
    #[must_use]
    pub fn crowded(seed: u64) -> Self {
        let small = Self::small(seed);
        let mut dice = dice::Dice::new(seed ^ 0xf100_d000);
        let nodes = small.nodes.max(4);
        Self { nodes, evil: 1 + dice.below(nodes - 3), room: Some(dice.between(30_000, 120_000)), ..small }
    }

    /// The same with people who come later by invites, second devices, and spaces that only some follow.
    #[must_use]
    pub fn sociable(seed: u64) -> Self {
        let small = Self::small(seed);
        let mut dice = dice::Dice::new(seed ^ 0x50c1_ab1e);
        let nodes = small.nodes + dice.below(2) + 1;
        let devices = dice.below(3).min((nodes - small.evil) / 2);
        Self { nodes, devices, invites: dice.below(4), is_partial: dice.percent(60), ..small }
    }
}

/// What the numbers of a config cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Too few or too many.
    #[error("a lab has {NODES_MIN} to {max} peers, not {nodes}", max = NAMES.len())]
    Nodes {
        /// As many as were asked for.
        nodes: usize,
    },
    /// Nobody would be left to agree with.
    #[error("at least two of {nodes} peers have to be honest, so {evil} cannot cheat")]
    Evil {
        /// Peers.
        nodes: usize,
        /// Those that are to cheat.
        evil: usize,
    },
    /// Each of them belongs to a peer of its own.
    #[error("of {honest} honest peers {devices} cannot be second devices of others")]
    Devices {
        /// Peers that do not cheat.
        honest: usize,
        /// Those that are to be second devices.
        devices: usize,
    },
    /// Too long or no time at all.
    #[error("trouble lasts 1 to {SECONDS_MAX} seconds, not {0}")]
    Seconds(u64),
    /// A group names a peer that is not there, or one twice.
    #[error("each of the peers has to be in exactly one group")]
    Partition,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Milliseconds since the beginning.
    pub ms: u64,
    /// What.
    pub text: String,
}

/// What was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Writes that were carried out.
    pub writes: u64,
    /// Of these, durable ones that were acknowledged and made a change.
    pub promises: u64,
    /// Changes that peers took from others.
    pub admitted: u64,
    /// Changes that were offered and refused.
    pub refused: u64,
    /// Updates that subscribers were told of.
    pub told: u64,
    /// Calls.
    pub calls: u64,
    /// Links that came to be.
    pub links: u64,
    /// Frames that were sent.
    pub frames: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Frames of a length that no frame has.
    pub oversized: u64,
    /// Crashes.
    pub crashes: u64,
    /// Times that nothing came through between two peers.
    pub cuts: u64,
    /// Times that the network fell apart.
    pub partitions: u64,
    /// Times that a disk was full or failed.
    pub disk_faults: u64,
    /// Rights that were taken back.
    pub revocations: u64,
    /// Invites that were given out.
    pub invites: u64,
    /// Times that somebody took one.
    pub joins: u64,
    /// Grants that came of them.
    pub guests: u64,
    /// Second changes in one place of a chain.
    pub forks: u64,
    /// Frames and answers that dishonest peers tampered with.
    pub tricks: u64,
    /// Changes that there was no room for.
    pub held: u64,
    /// Times that somebody paid for what he built on.
    pub lent: u64,
    /// Dishonest peers that were found out.
    pub bans: u64,
    /// States that were compared.
    pub comparisons: u64,
    /// Most bytes that waited in the queue of one link.
    pub queued_bytes_max: u64,
    /// Most bytes of changes that one peer had taken and not stored.
    pub taken_bytes_max: u64,
}

/// How a peer fared.
#[derive(Clone, Debug, Serialize)]
pub struct PeerReport {
    /// Its name.
    pub name: &'static str,
    /// Whether it cheated.
    pub is_evil: bool,
    /// How far its clock was off.
    pub skew_ms: i64,
    /// Writes that it carried out.
    pub writes: u64,
    /// Writes that it refused: no right, nothing there, disk full.
    pub refused_writes: u64,
    /// Changes that it took from others.
    pub admitted: u64,
    /// Changes of others that it refused.
    pub refused: u64,
    /// How often it crashed.
    pub crashes: u64,
    /// Changes that it holds at the end.
    pub changes: usize,
}

/// How a space is at the end.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceReport {
    /// Whose it is.
    pub owner: &'static str,
    /// Changes in it.
    pub changes: usize,
    /// Names the state that the honest peers show.
    pub state: String,
}

/// How a lab went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it came from.
    pub seed: u64,
    /// How each peer fared.
    pub peers: Vec<PeerReport>,
    /// How each space is at the end.
    pub spaces: Vec<SpaceReport>,
    /// What was counted.
    pub totals: Totals,
    /// What happened.
    pub story: Vec<Line>,
    /// How long after everything was mended all honest peers held the same, in milliseconds; `None` if they never did.
    pub agreed_ms: Option<u64>,
    /// What should not have been. Empty if all is well.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether all is well.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks what was asked for.
fn check(config: &Config) -> Result<(), ConfigError> {
    let Config { nodes, evil, seconds, .. } = *config;
    if !(NODES_MIN..=NAMES.len()).contains(&nodes) {
        return Err(ConfigError::Nodes { nodes });
    }
    if evil + 2 > nodes {
        return Err(ConfigError::Evil { nodes, evil });
    }
    if 2 * config.devices > nodes - evil {
        return Err(ConfigError::Devices { honest: nodes - evil, devices: config.devices });
    }
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return Err(ConfigError::Seconds(seconds));
    }
    if let Some(groups) = &config.partition {
        let mut all: Vec<usize> = groups.iter().flatten().copied().collect();
        all.sort_unstable();
        if all != (0..nodes).collect::<Vec<_>>() {
            return Err(ConfigError::Partition);
        }
    }
    Ok(())
}

/// Runs a lab.
///
/// # Errors
///
/// [`ConfigError`]. What goes wrong inside is in [`Report::problems`].
pub fn run(config: &Config) -> Result<Report, ConfigError> {
    check(config)?;
    let mut world = World::new(config);
    world.begin();
    world.plan();
    let end = config.seconds * 1000;
    // Now and then in the middle of it: who holds the same shows the same.
    for part in 1..=4 {
        world.run(end * part / 4);
        world.compare();
    }
    world.check_all_bans();
    world.heal();
    let healed = world.now_ms;
    let limit = healed + AGREE_MS + AGREE_MS_PER_SECOND * config.seconds + AGREE_MS_PER_PEER * config.nodes as u64;
    let mut agreed_ms = None;
    let mut pause = 250;
    while world.now_ms < limit {
        world.run(world.now_ms + pause);
        if world.disagreement().is_none() {
            agreed_ms = Some(world.now_ms - healed);
            break;
        }
        pause = (pause * 2).min(5000);
    }
    if let Some(disagreement) = world.disagreement() {
        world.tell_situation();
        world.problem(format!("the peers do not agree {} s after everything was mended: {disagreement}", (world.now_ms - healed) / 1000));
    }
    let digests = world.compare();
    world.check_all_promises();
    world.check_room();
    world.check_invites();
    world.check_all_bans();
    let mut totals = world.totals.clone();
    let mut peers = Vec::new();
    for peer in &world.peers {
        totals.admitted += peer.admitted;
        totals.refused += peer.refused;
        totals.told += peer.told;
        peers.push(PeerReport {
            name: peer.name,
            is_evil: peer.evil.is_some(),
            skew_ms: peer.skew_ms,
            writes: peer.writes,
            refused_writes: peer.failed_writes,
            admitted: peer.admitted,
            refused: peer.refused,
            crashes: peer.crashes,
            changes: peer.store().and_then(|store| check::everything(&store).ok()).map_or(0, |all| all.len()),
        });
    }
    // A run in which nothing happens shows nothing.
    let pairs = if config.is_partial || config.invites > 0 { 1 } else { config.nodes - 1 };
    let least_admitted = (config.nodes * pairs) as u64;
    let least = [
        (totals.writes >= config.writes as u64 / 4, "writes were carried out"),
        (totals.promises >= config.writes as u64 / 8, "writes were acknowledged"),
        (totals.admitted >= least_admitted, "changes went from peer to peer"),
        (totals.told > 0, "updates were told to subscribers"),
        (totals.links as usize >= config.nodes - 1, "links came to be"),
    ];
    for (_, what) in least.iter().filter(|(is, _)| !is) {
        world.problem(format!("too few {what} for this run to show anything"));
    }
    Ok(Report {
        seed: config.seed,
        peers,
        spaces: digests.into_iter().map(|(owner, state, changes)| SpaceReport { owner: NAMES[owner], changes, state }).collect(),
        totals,
        story: world.story,
        agreed_ms,
        problems: world.problems,
    })
}
