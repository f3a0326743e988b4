//! Apps: how they come and go, what their origins keep apart, and what a browser makes of them.

mod browser;
mod lifecycle;
pub(crate) mod origins;
