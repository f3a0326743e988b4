//! Verbs, media types, listings, conditions, time travel and errors of one peer without disturbance.

mod conditions;
mod errors;
mod history;
mod listings;
mod media;
mod texts;
mod verbs;
