mod away;
mod devices;
mod joining;
mod namespaces;
mod neighbours;
mod private;
mod rights;
