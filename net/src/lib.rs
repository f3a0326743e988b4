//! The network of a timebus peer: HTTP with Braid subscriptions, and the websocket.
//!
//! [`peer::Peer`] is a store with what serving it needs; [`server::serve`] listens. The modules below them each
//! do one part of the wire and, where they can, without IO: [`target`], [`host`], [`versions`], [`patches`],
//! [`signature`], [`accept`], [`byte_range`], [`etag`], [`problem`].
//!
//! Deliberately not: no rule about values or merging lives here; what HTTP can do, the store can do.

pub mod accept;
mod backup;
mod body;
pub mod byte_range;
mod cache;
pub mod etag;
pub mod host;
pub mod owner;
pub mod patches;
pub mod peer;
pub mod problem;
mod read;
mod route;
pub mod server;
pub mod signature;
mod sys;
pub mod target;
pub mod versions;
mod watch;
mod websocket;
mod who;
mod window;
mod write;
