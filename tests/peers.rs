mod away;
mod devices;
mod joining;
mod mending;
mod namespaces;
mod neighbours;
mod relays;
mod rights;
