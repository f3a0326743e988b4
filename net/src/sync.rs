//! The protocol between peers, without IO: what to send and what to store, given what came in and what is here.
//!
//! A [`Session`] runs over one *link*, an ordered and reliable stream of [`frame::Frame`]s. Both sides first prove who
//! they are; then each timeline that both hold is synced on a channel of its own, both ways, until the link ends. What
//! a session knows of the store it reads through a [`Replica`]; everything else goes in as an [`Input`] and comes out
//! as [`Output`]s. `PROTOCOL.md` has every byte.
//!
//! Deliberately not here: no socket, no clock (milliseconds are an argument), no randomness (the nonce is one), no
//! thread, and no signature of a change is checked: that is slow, and whoever runs the session does it elsewhere.
//! Whom to call, whom to ban and which timelines to open is decided above.

mod arrivals;
mod channel;
pub mod frame;
mod handshake;
mod pending;
pub mod replica;
mod session;

pub use handshake::{Binding, Prove, Remote, Role};
pub use replica::{Cursor, Past, Replica, ReplicaError, Tip};
pub use session::{CHANNELS_MAX, CONTROL_BYTES_MAX, HANDSHAKE_MS, REDEEMS_MAX};
pub use session::{Config, Counters, End, Fault, Input, Output, RedeemAnswer, Session, Standing, Start, Stored};
