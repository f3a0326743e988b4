//! The store of a timebus peer: paths, signed changes, the change log, the state folded from it, and
//! subscriptions.
//!
//! Start with [`store::Store`]: it opens a home folder, takes [`writer::Request`]s and answers readings. Below it,
//! [`change`] has the signed unit and [`op`] its effects; [`plan`] turns requests into ops; [`pipeline`] admits and
//! numbers changes; [`auth`] knows who may do what, and [`vouch`] what is left of the changes of those who no longer
//! may, and [`quarantine`] what is not; [`fold`] turns changes into rows of [`keyspace`]; [`tree`] puts rows together
//! again; [`update`] and [`feed`] tell subscribers. [`text`] merges texts that several people edit at once. [`inbox`] keeps
//! [`notice`]s of strangers beside all that, and [`blobs`] files of any size. [`engine`] is the same store without threads
//! and without a disk, for simulations. `FORMAT.md` pins every byte.
//!
//! Deliberately not: no socket, no clock (time is an argument), no knowledge of HTTP.

pub mod asked;
pub mod auth;
pub mod behalf;
pub mod blobs;
pub mod change;
pub mod codec;
pub mod engine;
pub mod feed;
pub mod fold;
pub mod founding;
pub mod grant;
pub mod ids;
pub mod inbox;
pub mod json;
pub mod keyspace;
pub mod list;
pub mod log;
pub mod mend;
pub mod node;
pub mod notice;
pub mod objects;
pub mod op;
pub mod path;
pub mod pipeline;
pub mod plan;
pub mod quarantine;
pub mod store;
pub mod succession;
pub mod summary;
pub mod text;
pub mod tips;
mod traces;
pub mod tree;
mod turns;
pub mod update;
pub mod value;
pub mod view;
pub mod vouch;
pub mod writer;
