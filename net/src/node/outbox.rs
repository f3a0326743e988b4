//! Notices of the owner on their way to inboxes of others.
//!
//! Each waits here until a peer of that space has it on disk, however long that takes. What was delivered is remembered
//! for a while, so that the owner can look, and so that a later notice in the same slot is later for everybody.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value as Serde;
use timebus_identity::PublicKey;
use timebus_store::change::Change;

use crate::sync::frame::Taking;

/// Notices that may wait; they are small, but somebody has to take them one day.
pub const WAITING_MAX: usize = 10_000;
/// Notices that are remembered after that; the oldest are forgotten.
pub const DONE_MAX: usize = 2_000;

/// Why a notice waits although somebody is linked who says that he is of that space.
const UNPROVEN: &str = "who is connected says that he is of this space, and nothing here proves it; once you have read something of it, it will";

/// How a notice is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Standing {
    /// Nobody of that space has it yet.
    Waiting {
        /// What the last one said who was offered it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<String>,
    },
    /// It is in the inbox.
    Delivered {
        /// Unix milliseconds.
        at_ms: u64,
    },
    /// It will not be taken.
    Refused {
        /// Why.
        problem: String,
    },
}

/// A notice of the owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// The id of its change.
    pub id: String,
    /// Whose inbox it is for.
    pub space: String,
    /// Its slot there.
    pub slot: String,
    /// What it says.
    pub notice: Serde,
    /// Whether it takes back what was there.
    pub is_gone: bool,
    /// Unix milliseconds.
    pub since_ms: u64,
    /// Its clock.
    pub clock: u64,
    /// The change as signed, in base64; gone once it was delivered.
    #[serde(default)]
    change: String,
    /// How it is.
    #[serde(flatten)]
    pub standing: Standing,
}

impl Sent {
    /// A notice that is to be delivered, with its change as it was signed.
    #[must_use]
    pub fn new(change: &Change, space: PublicKey, slot: String, notice: Serde, is_gone: bool, now_ms: u64, signed: &[u8]) -> Self {
        Self {
            id: change.id().to_string(),
            space: space.to_string(),
            slot,
            notice,
            is_gone,
            since_ms: now_ms,
            clock: change.header().lamport,
            change: STANDARD.encode(signed),
            standing: Standing::Waiting { problem: None },
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.standing, Standing::Waiting { .. })
    }
}

/// All notices that were sent, by space and slot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbox {
    all: BTreeMap<(PublicKey, String), Sent>,
}

/// The outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING_MAX} notices wait to be delivered; take some back first")]
pub struct OutboxFull;

impl Outbox {
    /// Reads an outbox; there is nothing in it if the file does not exist.
    ///
    /// # Errors
    ///
    /// What the system says, or that the file is none.
    pub fn load(file: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let all: Vec<Sent> = serde_json::from_slice(&bytes)?;
        Ok(Self { all: all.into_iter().filter_map(|sent| Some(((sent.space.parse().ok()?, sent.slot.clone()), sent))).collect() })
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        crate::files::write_whole(file, &serde_json::to_vec(&self.list())?)
    }

    /// All notices, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<&Sent> {
        let mut all: Vec<&Sent> = self.all.values().collect();
        all.sort_by_key(|sent| sent.since_ms);
        all
    }

    /// The latest notice in a slot.
    #[must_use]
    pub fn find(&self, space: &PublicKey, slot: &str) -> Option<&Sent> {
        self.all.get(&(*space, slot.to_owned()))
    }

    /// Whether one more can wait. Half of the room is for what the owner sends himself, and not an app of his.
    ///
    /// # Errors
    ///
    /// [`OutboxFull`].
    pub fn has_room(&self, for_owner: bool) -> Result<(), OutboxFull> {
        let max = if for_owner { WAITING_MAX } else { WAITING_MAX / 2 };
        if self.all.values().filter(|sent| sent.is_waiting()).count() >= max { Err(OutboxFull) } else { Ok(()) }
    }

    /// Sends a notice, instead of one in the same slot.
    pub(super) fn send(&mut self, sent: Sent) {
        let Ok(space) = sent.space.parse() else { return };
        self.all.insert((space, sent.slot.clone()), sent);
        let mut done: Vec<((PublicKey, String), u64)> =
            self.all.iter().filter(|(_, sent)| !sent.is_waiting()).map(|(slot, sent)| (slot.clone(), sent.since_ms)).collect();
        if done.len() > DONE_MAX {
            done.sort_by_key(|(_, since_ms)| *since_ms);
            for (slot, _) in done.iter().take(done.len() - DONE_MAX) {
                self.all.remove(slot);
            }
        }
    }

    /// The spaces that notices wait for.
    pub(super) fn spaces(&self) -> impl Iterator<Item = PublicKey> + '_ {
        let mut last = None;
        self.all.iter().filter(|(_, sent)| sent.is_waiting()).map(|((space, _), _)| *space).filter(move |space| last.replace(*space) != Some(*space))
    }

    /// Notices that wait for a space: some of them, those first that nobody has turned down yet.
    pub(super) fn waiting(&self, space: &PublicKey, max: usize) -> Vec<Bytes> {
        let own = self.all.range((*space, String::new())..).take_while(|((of, _), _)| of == space).map(|(_, sent)| sent);
        let mut own: Vec<&Sent> = own.filter(|sent| sent.is_waiting()).collect();
        own.sort_by_key(|sent| (matches!(sent.standing, Standing::Waiting { problem: Some(_) }), sent.since_ms));
        own.into_iter().filter_map(|sent| STANDARD.decode(&sent.change).ok()).take(max).map(Into::into).collect()
    }

    /// Remembers why notices for a space wait although somebody is linked who says that he is of it; says whether that is new.
    pub(super) fn is_unproven(&mut self, space: &PublicKey) -> bool {
        let mut is_new = false;
        for sent in self.all.range_mut((*space, String::new())..).take_while(|((of, _), _)| of == space).map(|(_, sent)| sent) {
            if let Standing::Waiting { problem: problem @ None } = &mut sent.standing {
                *problem = Some(UNPROVEN.to_owned());
                is_new = true;
            }
        }
        is_new
    }

    /// What somebody said who was offered a notice. Answers whether there is nothing to wait for.
    pub(super) fn answered(&mut self, space: &PublicKey, id: &str, taking: Taking, now_ms: u64) -> bool {
        let Some(sent) = self.all.iter_mut().find(|((of, _), sent)| of == space && sent.id == id).map(|(_, sent)| sent) else { return true };
        let waits = |problem: &str| Standing::Waiting { problem: Some(problem.to_owned()) };
        sent.standing = match taking {
            Taking::Kept => Standing::Delivered { at_ms: now_ms },
            Taking::Refused => Standing::Refused { problem: "their peer says that this is no notice it could keep".to_owned() },
            Taking::NotHere => waits("their peer takes no notices, or none of ours"),
            Taking::Full => waits("what we left there takes up all the room that one sender has"),
            Taking::Busy => waits("their peer was busy"),
        };
        if !sent.is_waiting() {
            sent.change.clear();
        }
        !sent.is_waiting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_room_is_for_what_the_owner_sends_himself() {
        let space = PublicKey::from_bytes([7; 32]);
        let mut outbox = Outbox::default();
        let mut fill = |from: usize, to: usize| {
            for slot in (from..to).map(|number| number.to_string()) {
                let standing = Standing::Waiting { problem: None };
                let (id, change, notice) = (String::new(), String::new(), Serde::Null);
                outbox.send(Sent { id, space: space.to_string(), slot, notice, is_gone: false, since_ms: 0, clock: 0, change, standing });
            }
            [true, false].map(|for_owner| outbox.has_room(for_owner).is_ok())
        };
        assert_eq!(fill(0, WAITING_MAX / 2 - 1), [true, true]);
        assert_eq!(fill(WAITING_MAX / 2 - 1, WAITING_MAX / 2), [true, false]);
        assert_eq!(fill(WAITING_MAX / 2, WAITING_MAX), [false, false]);
    }
}
