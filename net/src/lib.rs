//! timebus net.

pub mod accept;
pub mod byte_range;
pub mod etag;
pub mod host;
pub mod owner;
pub mod patches;
pub mod problem;
pub mod signature;
pub mod target;
pub mod versions;
