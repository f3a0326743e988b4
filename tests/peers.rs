mod away;
mod costs;
mod devices;
mod joining;
mod namespaces;
pub(crate) mod neighbours;
mod notices;
mod private;
mod rights;
