//! The network of a timebus peer: HTTP with Braid subscriptions, the websocket, and links to other peers.
//!
//! [`peer::Peer`] is a store with what serving it needs; [`server::serve`] listens. The modules below them each
//! do one part of the wire and, where they can, without IO: [`target`], [`host`], [`versions`], [`patches`],
//! [`signature`], [`accept`], [`byte_range`], [`etag`], [`problem`].
//!
//! [`link`] carries frames between peers, [`sync`] is what they say to each other, [`node`] decides whom to call and
//! what to sync with whom, and [`network`] brings these, the store and the clock together.
//!
//! Deliberately not: no rule about values or merging lives here; what HTTP can do, the store can do.

pub mod accept;
pub mod app_token;
pub mod apps;
pub mod authority;
pub mod backup;
mod behalf;
pub mod blobs;
mod body;
pub mod byte_range;
mod cache;
pub mod community;
mod computed;
pub mod devices;
pub mod dht;
mod drop;
mod ends;
pub mod etag;
mod files;
mod fsck;
pub mod held;
pub mod host;
pub mod invite;
pub mod invites;
pub mod lab;
pub mod ledger;
pub mod link;
mod lists;
mod merge_type;
mod multiplex;
pub mod network;
pub mod node;
mod others;
mod over;
pub mod owner;
pub mod patches;
pub mod peer;
mod people;
pub mod personas;
mod places;
mod presence;
pub mod problem;
mod program;
mod quiet;
mod read;
pub mod record;
mod refs;
mod remote;
mod route;
mod scrub;
mod senders;
pub mod server;
pub mod signature;
pub mod sync;
mod sys;
pub mod target;
mod unread;
mod used;
pub mod versions;
mod waiting;
mod watch;
mod websocket;
mod who;
mod whose;
mod window;
pub mod words;
mod write;
