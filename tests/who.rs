//! Who may do what: hosts, origins, tokens, signatures, other users of the machine.

mod behalf;
mod browsers;
mod files;
mod guests;
mod hosts;
pub(crate) mod signed;
