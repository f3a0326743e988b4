//! Data that nobody here wrote goes in and comes out the same: trees, histories, hostile files.

mod git;
mod git_in_networks;
mod git_on_peers;
mod histories;
mod hostile;
mod json_suite;
mod social;
mod trees;
