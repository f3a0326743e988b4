//! Texts against what others compute: recorded editing sessions, the vectors of diamond-types, diamond-types itself,
//! and a slow model that follows the definition.
//!
//! `TIMEBUS_TEXTS=1000000` makes so many random histories (a release build does 20 000 a second), `TIMEBUS_SEED=17`
//! begins at another one. `cargo test --release -p timebus-store --test text -- --ignored --nocapture` prints timings.

#[path = "text/attacks.rs"]
mod attacks;
#[path = "text/dags.rs"]
mod dags;
#[allow(dead_code, reason = "shared with tests that draw more")]
#[path = "support/dice.rs"]
mod dice;
#[path = "text/history.rs"]
mod history;
#[path = "text/model.rs"]
mod model;
#[path = "text/rules.rs"]
mod rules;
#[path = "text/snapshots.rs"]
mod snapshots;
#[path = "text/traces.rs"]
mod traces;
#[path = "text/vectors.rs"]
mod vectors;
