//! The timebus program.

fn main() {}
