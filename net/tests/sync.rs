//! The sync protocol on a simulated network: real sessions, a store in memory, virtual time, a printed seed.
//!
//! `TIMEBUS_SYNC_SEED=n` runs one seed, `TIMEBUS_SYNC_SEEDS=n` so many of each kind.

#[path = "sync/costs.rs"]
mod costs;
#[path = "sync/dag.rs"]
mod dag;
#[path = "sync/dice.rs"]
mod dice;
#[path = "sync/liars.rs"]
mod liars;
#[path = "sync/sim.rs"]
mod sim;
#[path = "sync/toy.rs"]
mod toy;
#[path = "sync/worlds.rs"]
mod worlds;
