mod away;
mod devices;
mod joining;
mod namespaces;
pub(crate) mod neighbours;
mod private;
mod rights;
