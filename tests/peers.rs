mod away;
mod devices;
mod files;
mod joining;
mod namespaces;
mod neighbours;
mod private;
mod rights;
