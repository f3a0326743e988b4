//! Who is who in timebus: keys, signatures, names, and the files they live in.
//!
//! - [`SecretKey`] signs, [`PublicKey`] verifies, [`Signature`] travels between them.
//! - [`Signed`] is a claim, [`Verified`] is a checked one; only checking leads from one to the other.
//! - [`Keys`] is the keys folder of one home: the *root key* of the space, the *next root key* that
//!   may succeed it, the *device key* that signs changes, and the *incarnation* it is bound to.
//! - [`Kit`] is the owner's recovery kit, 24 words per root key. Once he has confirmed it, the root
//!   key leaves the disk: it is *cold*.
//! - [`node_key`] and [`persona_root`] derive further keys from these.
//! - [`z32`] and [`human_name`] are how keys are written and spoken, [`spoken`] how hashes are compared by voice.
//! - [`Token`] is a secret whose bearer is let in.
//! - [`hash`] is the one hash of timebus, a different function for each context.
//!
//! Deliberately not here: no secret is printed or logged, and there is one way to verify, the
//! strict one, one signature at a time, so that no two peers disagree about a signature. This
//! crate knows nothing of spaces' contents, rights or the network. It does no locking: whoever
//! opens [`Keys`] holds the lock of the home.

mod derived;
mod hash;
mod human_name;
mod keys;
mod kit;
mod public_key;
mod random;
mod secret_key;
mod signature;
mod signed;
mod spoken;
mod token;
pub mod z32;

pub use derived::{node_key, persona_root};
pub use hash::hash;
pub use human_name::human_name;
pub use keys::{Keys, KeysError};
pub use kit::{Kit, KitError};
pub use public_key::PublicKey;
pub use random::random_bytes;
pub use secret_key::SecretKey;
pub use signature::{BadSignature, Signature};
pub use signed::{Signable, Signed, Verified, WrongKey};
pub use spoken::spoken;
pub use token::Token;
pub use z32::Z32Error;
