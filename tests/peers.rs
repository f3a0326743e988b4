mod away;
mod devices;
mod joining;
mod namespaces;
mod neighbours;
pub(crate) mod neighbours;
mod notices;
mod private;
mod rights;
