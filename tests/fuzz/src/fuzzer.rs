//! One target under libFuzzer: `TARGET=json timebus-fuzz tests/fuzz/corpus/json`. README.md has the whole command.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use timebus_fuzz::{TARGETS, Target, find};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    find(&name).unwrap_or_else(|| panic!("set TARGET to one of {:?}", TARGETS.iter().map(|target| target.name).collect::<Vec<_>>()))
});

fuzz_target!(|data: &[u8]| {
    (TARGET.run)(data);
});
