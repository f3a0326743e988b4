//! What a peer remembers of other peers: where they are, what it follows, and how far it has read them.
//!
//! It is kept as one JSON file, since people may want to look into it, and it is small.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use timebus_identity::PublicKey;
use timebus_store::ids::TimelineId;

use super::records::Records;
use crate::community::holding::Tried;
use crate::community::{HandOver, Membership};
use crate::dht::Pointer;
use crate::sync::Cursor;

/// Most peers that are remembered; those introduced by others are forgotten first.
pub const CONTACTS_MAX: usize = 4096;
/// Most addresses that are remembered of one peer.
pub const ADDRESSES_MAX: usize = 16;
/// Most logs of others of which it is remembered how far they were read; those of whom is known least go first, and are read anew.
const CURSORS_MAX: usize = 16 * 1024;
/// Most relays of others that are remembered.
pub const RELAYS_MAX: usize = 256;
/// Most names like "bob (before)" that are tried.
const BEFORE_MAX: usize = 1024;
/// Longest name that a person gives to another.
pub const PETNAME_BYTES_MAX: usize = 64;

/// Whether it is a word for the owner or for everybody, and nobody's name: rights are granted by names.
pub(crate) fn is_word(name: &str) -> bool {
    ["anyone", "me", "you"].iter().any(|word| name.trim().eq_ignore_ascii_case(word))
}

/// Whether somebody can be called so: it stands in paths behind an `@`, and is no key.
pub(crate) fn is_petname(name: &str) -> bool {
    let fits = (1..=PETNAME_BYTES_MAX).contains(&name.len()) && !is_word(name);
    fits && !name.contains(['/', '.', '@', '%', '?', '#']) && !name.chars().any(crate::words::is_unseen) && name.parse::<PublicKey>().is_err()
}

/// How a peer became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It called us.
    Came,
    /// Another peer named it as somebody who holds what we follow.
    Introduced,
    /// The owner typed its address.
    Typed,
    /// It took an invite of ours: whoever of both has moved, the other one calls.
    Guest,
    /// It gave us an invite that we took.
    Invite,
    /// It is another device of ours.
    Device,
}

/// Another peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// How it became known.
    pub source: Source,
    /// What it calls itself.
    #[serde(default)]
    pub name: String,
    /// The space it calls its own.
    #[serde(default, with = "key_text", skip_serializing_if = "Option::is_none")]
    pub space: Option<PublicKey>,
    /// The keys that it proved to have when it was connected last.
    #[serde(default, with = "keys_text", skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PublicKey>,
    /// Where it was reached or says it can be, the latest first.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// When it was met first; Unix milliseconds.
    pub met_ms: u64,
    /// When it was connected last; Unix milliseconds, 0 for never.
    #[serde(default)]
    pub seen_ms: u64,
}

/// Why a space of somebody else is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// Since when; Unix milliseconds.
    pub since_ms: u64,
    /// Peers that hold it, as far as is known, by node key.
    #[serde(default, with = "keys_text")]
    pub via: Vec<PublicKey>,
}

/// What hangs on a contact on all devices of the owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What he is called.
    pub petname: Option<String>,
    /// Whether his space is followed.
    #[serde(default)]
    pub is_followed: bool,
    /// Whether nothing of him is shown.
    #[serde(default)]
    pub is_muted: bool,
    /// Whether he is not talked to.
    #[serde(default)]
    pub is_blocked: bool,
}

/// What went from a contact to his new key, and how both were before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The new key.
    #[serde(with = "one_key_text")]
    pub to: PublicKey,
    /// What the old one was called, for people.
    pub name: String,
    /// How the old one was.
    pub from_before: Kept,
    /// How the new one was.
    pub to_before: Kept,
}

/// An invite that was taken and not answered yet, or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Whom to ask, by node key.
    #[serde(with = "one_key_text")]
    pub node: PublicKey,
    /// The secret of the invite, as hex; gone once it was answered.
    pub token: Option<String>,
    /// What the other side said, when it refused.
    pub refused: Option<String>,
    /// Unix milliseconds.
    pub since_ms: u64,
}

impl Moved {
    /// What the new key is called where both are so.
    fn called(&self, from: &PublicKey, book: &Book) -> Option<String> {
        let said = self.from_before.petname.as_ref().or(self.to_before.petname.as_ref()).unwrap_or(&self.name);
        // Where this was confirmed it may not have been known that a name had come to the old one. What that is called since its
        // name went on is none.
        let has_come = |name: &&String| book.moved.values().any(|moved| moved.to == *from) && !name.starts_with(&format!("{said} (before"));
        let name = book.petnames.get(from).filter(has_come).unwrap_or(said);
        let name = Some(name).filter(|name| book.is_free(name, from) || book.is_free(name, &self.to));
        name.cloned()
    }
}

/// All that is remembered. Keys of the maps are in text form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// Peers, by node key; those that were only ever met on a websocket by one of their device keys.
    #[serde(default, with = "by_key")]
    pub contacts: BTreeMap<PublicKey, Contact>,
    /// Spaces that are followed.
    #[serde(default, with = "by_key")]
    pub following: BTreeMap<PublicKey, Follow>,
    /// Invites taken, by the space they lead to.
    #[serde(default, with = "by_key")]
    pub joins: BTreeMap<PublicKey, Join>,
    /// What the owner calls spaces.
    #[serde(default, with = "by_key")]
    pub petnames: BTreeMap<PublicKey, String>,
    /// Contacts whose names are with a new key here, by the old one.
    #[serde(default, with = "by_key")]
    pub moved: BTreeMap<PublicKey, Moved>,
    /// Peers and spaces that are not talked to.
    #[serde(default, with = "keys_text")]
    pub blocked: Vec<PublicKey>,
    /// New roots that the owner agreed to as a guardian, by the space.
    #[serde(default, with = "by_key")]
    pub agreed: BTreeMap<PublicKey, Vec<String>>,
    /// Relays that invites named which the owner took.
    #[serde(default)]
    pub relays: BTreeSet<String>,
    /// Whether the owner allows public relays; nothing if he was not asked yet.
    #[serde(default)]
    pub public: Option<bool>,
    /// Whether the owner allows that the public DHT hears where he is and whom he looks for; nothing if he has not said.
    #[serde(default)]
    pub public_dht: Option<bool>,
    /// What leads there from the key of his space to this machine; nothing if the root key was never at hand since it has its key.
    #[serde(default)]
    pub pointer: Option<Pointer>,
    /// What the owner is in communities, by their spaces.
    #[serde(default, with = "by_key")]
    pub communities: BTreeMap<PublicKey, Membership>,
    /// Communities for which this peer holds nothing any more, and others do not have all of it yet.
    #[serde(default, with = "by_key", skip_serializing_if = "BTreeMap::is_empty")]
    pub handing: BTreeMap<PublicKey, HandOver>,
    /// Spaces that were opened for members of communities on the word of a machine alone, by the first keys of those members.
    #[serde(default, with = "by_key")]
    pub tried: BTreeMap<PublicKey, Tried>,
    /// Where peers say they are.
    #[serde(default)]
    pub records: Records,
    /// How far logs of others were read: by `node key/timeline`, the incarnation as hex and the arrival number.
    #[serde(default)]
    cursors: BTreeMap<String, (String, u64)>,
}

/// Why a book cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BookError {
    /// The file cannot be read or written.
    #[error("the address book could not be read or written")]
    Io(#[from] io::Error),
    /// The file is not a book.
    #[error("the address book is damaged: {0}; move it away to start with an empty one")]
    Damaged(#[from] serde_json::Error),
}

/// "bob (before)", or what is free like it.
pub(crate) fn name_before(name: &str, of: &PublicKey, is_free: impl Fn(&str) -> bool) -> String {
    let cut = &name[..name.floor_char_boundary(PETNAME_BYTES_MAX - 16)];
    let mut names = std::iter::once(format!("{cut} (before)")).chain((2..=BEFORE_MAX).map(|n| format!("{cut} (before {n})")));
    names.find(|name| is_free(name)).unwrap_or_else(|| of.to_string().chars().take(8).collect())
}

/// Whether a name is one that [`name_before`] gave.
pub(crate) fn is_name_before(name: &str) -> bool {
    name.ends_with(')') && name.contains(" (before")
}

impl Book {
    /// Reads a book; an empty one where there is none.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn load(file: &Path) -> Result<Self, BookError> {
        match std::fs::read(file) {
            Ok(bytes) => {
                let mut book: Self = serde_json::from_slice(&bytes)?;
                // Of before these could be no names.
                book.petnames.retain(|_, name| !is_word(name));
                Ok(book)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the book, so that after a crash there is the old or the new one.
    ///
    /// # Errors
    ///
    /// [`BookError`].
    pub fn save(&self, file: &Path) -> Result<(), BookError> {
        crate::files::write_whole(file, &serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }

    /// Remembers a peer, or more of one that is known.
    pub fn meet(&mut self, id: PublicKey, source: Source, addresses: &[String], now_ms: u64) -> &mut Contact {
        if !self.contacts.contains_key(&id) && self.contacts.len() >= CONTACTS_MAX {
            let least = self.contacts.iter().min_by_key(|(id, contact)| self.known_as(id, contact)).map(|(id, _)| *id);
            if let Some(least) = least {
                self.contacts.remove(&least);
                let of = format!("{least}/");
                self.cursors.retain(|log, _| !log.starts_with(&of));
            }
        }
        let contact = self.contacts.entry(id).or_insert_with(|| Contact {
            source,
            name: String::new(),
            space: None,
            keys: Vec::new(),
            addresses: Vec::new(),
            met_ms: now_ms,
            seen_ms: 0,
        });
        contact.source = contact.source.max(source);
        let mut all: Vec<String> = addresses.to_vec();
        all.extend(contact.addresses.iter().filter(|known| !addresses.contains(known)).cloned());
        all.truncate(ADDRESSES_MAX);
        contact.addresses = all;
        contact
    }

    /// How well a peer is known: whom the owner gave a name, follows or blocked, whom he met in which way, and who was there last.
    fn known_as(&self, id: &PublicKey, contact: &Contact) -> (bool, Source, u64) {
        let is_noted = |key: &PublicKey| self.petnames.contains_key(key) || self.following.contains_key(key) || self.blocked.contains(key);
        (is_noted(id) || contact.space.as_ref().is_some_and(is_noted), contact.source, contact.seen_ms)
    }

    /// Remembers a peer of whom another one told. What is said goes behind what the owner typed or he said himself: nobody can say so
    /// much that this is lost.
    pub fn hear_of(&mut self, id: PublicKey, addresses: &[String], now_ms: u64) {
        let known = self.contacts.get(&id).filter(|known| known.source != Source::Introduced || known.seen_ms > 0);
        let mut all = known.map(|known| known.addresses.clone()).unwrap_or_default();
        let contact = self.meet(id, Source::Introduced, addresses, now_ms);
        if !all.is_empty() {
            all.extend(addresses.iter().filter(|address| !all.contains(address)).cloned().collect::<Vec<_>>());
            all.truncate(ADDRESSES_MAX);
            contact.addresses = all;
        }
    }

    /// The space that the owner calls by a name.
    #[must_use]
    pub fn named(&self, petname: &str) -> Option<PublicKey> {
        self.petnames.iter().find(|(_, name)| *name == petname).map(|(space, _)| *space)
    }

    /// The space that somebody means who types a name: the one that is called so, else the only one whose name differs in
    /// nothing but large and small letters.
    #[must_use]
    pub fn meant(&self, typed: &str) -> Option<PublicKey> {
        let lower = typed.to_lowercase();
        let mut alike = self.petnames.iter().filter(|(_, name)| name.to_lowercase() == lower).map(|(space, _)| *space);
        self.named(typed).or_else(|| alike.next().filter(|_| alike.next().is_none()))
    }

    /// Whether the owner can call a space so: nobody else has the name.
    fn is_free(&self, name: &str, of: &PublicKey) -> bool {
        is_petname(name) && self.named(name).is_none_or(|other| other == *of)
    }

    /// Has the name of a contact go to his new key and its space be followed in place of the old one; or back, with `None`.
    /// Done once, however often it is said. A name that meanwhile means somebody else stays his. Answers which spaces it
    /// changed; `None` if it is so already.
    pub fn shift(&mut self, from: PublicKey, moved: Option<&Moved>, now_ms: u64) -> Option<Vec<PublicKey>> {
        if self.moved.get(&from) == moved {
            return None;
        }
        let mut changed = BTreeSet::new();
        let mut keep = |book: &mut Self, space: PublicKey, petname: Option<&str>, is_followed: bool| {
            match petname {
                Some(name) if book.is_free(name, &space) => drop(book.petnames.insert(space, name.to_owned())),
                Some(_) => {}
                None => drop(book.petnames.remove(&space)),
            }
            if is_followed {
                book.following.entry(space).or_insert_with(|| Follow { since_ms: now_ms, via: Vec::new() });
            } else {
                book.following.remove(&space);
            }
            changed.insert(space);
        };
        if let Some(Moved { to, from_before, to_before, .. }) = self.moved.remove(&from) {
            // The name is free before it goes back.
            keep(self, to, to_before.petname.as_deref(), to_before.is_followed);
            keep(self, from, from_before.petname.as_deref(), from_before.is_followed);
        }
        if let Some(moved) = moved {
            let called = moved.called(&from, self);
            let old = match (&called, self.petnames.get(&from)) {
                // He has another name here already.
                (Some(name), Some(other)) if name != other => Some(other.clone()),
                (Some(name), _) => Some(self.name_before(name, &from)),
                (None, other) => other.cloned(),
            };
            let is_followed = moved.from_before.is_followed || moved.to_before.is_followed || self.following.contains_key(&from);
            keep(self, from, old.as_deref(), false);
            let new = called.or_else(|| self.petnames.get(&moved.to).cloned());
            keep(self, moved.to, new.as_deref(), is_followed);
            self.moved.insert(from, moved.clone());
        }
        Some(changed.into_iter().collect())
    }

    /// "bob (before)", or what is free like it.
    fn name_before(&self, name: &str, of: &PublicKey) -> String {
        name_before(name, of, |name| self.is_free(name, of))
    }

    /// How far a timeline was read at a peer.
    #[must_use]
    pub fn cursor(&self, peer: &PublicKey, timeline: &TimelineId) -> Option<Cursor> {
        let (incarnation, upto) = self.cursors.get(&format!("{peer}/{timeline}"))?;
        let incarnation = u128::from_str_radix(incarnation, 16).ok()?.to_be_bytes();
        Some(Cursor { incarnation, upto: *upto })
    }

    /// Remembers how far a timeline was read at a peer.
    pub fn set_cursor(&mut self, peer: &PublicKey, timeline: &TimelineId, cursor: Option<Cursor>) {
        let key = format!("{peer}/{timeline}");
        match cursor {
            Some(cursor) => {
                if self.cursors.len() >= CURSORS_MAX && !self.cursors.contains_key(&key) {
                    self.forget_least();
                }
                drop(self.cursors.insert(key, (format!("{:032x}", u128::from_be_bytes(cursor.incarnation)), cursor.upto)));
            }
            None => drop(self.cursors.remove(&key)),
        }
    }

    /// Forgets how far the logs were read of all who are no contacts, or else of the one that is known least.
    fn forget_least(&mut self) {
        let peer = |log: &str| log.split_once('/').and_then(|(peer, _)| peer.parse::<PublicKey>().ok());
        let (before, contacts) = (self.cursors.len(), &self.contacts);
        self.cursors.retain(|log, _| peer(log).is_some_and(|peer| contacts.contains_key(&peer)));
        if self.cursors.len() < before {
            return;
        }
        let rank = |log: &str| {
            let peer = peer(log)?;
            Some(self.known_as(&peer, self.contacts.get(&peer)?))
        };
        let least = self.cursors.keys().min_by_key(|log| rank(log)).and_then(|log| log.split_once('/')).map(|(peer, _)| format!("{peer}/"));
        if let Some(of) = least {
            self.cursors.retain(|log, _| !log.starts_with(&of));
        }
    }

    /// Forgets how far any log was read, as when the own log is another one.
    pub fn forget_cursors(&mut self) {
        self.cursors.clear();
    }
}

/// A key as text.
pub(crate) mod one_key_text {
    use super::PublicKey;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(key: &PublicKey, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(key)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<PublicKey, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

/// A key that may be missing, as text.
mod key_text {
    use super::PublicKey;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(key: &Option<PublicKey>, out: S) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => out.collect_str(key),
            None => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<PublicKey>, D::Error> {
        Option::<String>::deserialize(input)?.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// Keys as texts.
mod keys_text {
    use super::PublicKey;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(keys: &[PublicKey], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(keys.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<PublicKey>, D::Error> {
        Vec::<String>::deserialize(input)?.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// A map whose keys are keys.
pub(crate) mod by_key {
    use std::collections::BTreeMap;

    use super::PublicKey;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer, T: Serialize>(map: &BTreeMap<PublicKey, T>, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(map.iter().map(|(key, value)| (key.to_string(), value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<BTreeMap<PublicKey, T>, D::Error> {
        let map = BTreeMap::<String, T>::deserialize(input)?;
        map.into_iter().map(|(key, value)| Ok((key.parse().map_err(D::Error::custom)?, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timebus_identity::SecretKey;

    fn key(n: u8) -> PublicKey {
        SecretKey::from_seed([n; 32]).public()
    }

    #[test]
    fn words_for_the_owner_and_for_everybody_are_nobodys_names() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("peers.json");
        let mut book = Book::default();
        for (n, name) in [(1, "Anyone"), (2, "you"), (3, "ME"), (4, "any one")] {
            book.petnames.insert(key(n), name.to_owned());
        }
        book.save(&file).expect("saved");
        assert_eq!(Book::load(&file).expect("loaded").petnames, [(key(4), "any one".to_owned())].into());
        assert!(!is_petname("Anyone") && !is_petname(" you"));
    }

    #[test]
    fn hearsay_takes_no_place_of_what_is_known() {
        let mut book = Book::default();
        let (id, other) = (PublicKey::from_bytes([9; 32]), PublicKey::from_bytes([8; 32]));
        let places = |from: usize| (from..from + ADDRESSES_MAX).map(|at| format!("10.0.0.{at}:9")).collect::<Vec<_>>();
        // Of whom nothing else is known what was said last counts.
        book.hear_of(id, &places(0), 1);
        book.hear_of(id, &places(20), 2);
        assert_eq!(book.contacts[&id].addresses, places(20));
        book.meet(id, Source::Typed, &["192.0.2.1:9".to_owned()], 3);
        book.hear_of(id, &places(40), 4);
        let known = &book.contacts[&id];
        assert_eq!(
            (known.source, known.addresses[0].as_str(), &known.addresses[1..]),
            (Source::Typed, "192.0.2.1:9", &places(20)[..ADDRESSES_MAX - 1])
        );
        book.meet(other, Source::Came, &["192.0.2.3:9".to_owned()], 6).seen_ms = 6;
        book.hear_of(other, &places(0), 7);
        assert_eq!(book.contacts[&other].addresses[..2], ["192.0.2.3:9", "10.0.0.0:9"]);
    }

    #[test]
    fn what_is_remembered_is_there_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("peers.json");
        let mut book = Book::load(&file).expect("empty");
        book.meet(key(1), Source::Invite, &["10.0.0.1:7".into()], 5).space = Some(key(2));
        book.following.insert(key(2), Follow { since_ms: 6, via: vec![key(1)] });
        book.petnames.insert(key(2), "alice".into());
        let cursor = Cursor { incarnation: [9; 16], upto: 12 };
        book.set_cursor(&key(1), &TimelineId([3; 32]), Some(cursor));
        book.save(&file).expect("saved");
        let mut again = Book::load(&file).expect("read");
        assert_eq!(again, book);
        assert_eq!(again.cursor(&key(1), &TimelineId([3; 32])), Some(cursor));
        assert_eq!(again.named("alice"), Some(key(2)));
        assert_eq!((again.named("Alice"), again.meant("Alice")), (None, Some(key(2))), "as people type");
        again.petnames.insert(key(8), "ALICE".into());
        assert_eq!((again.meant("Alice"), again.meant("ALICE")), (None, Some(key(8))), "one of two, and nobody says which");
    }

    #[test]
    fn the_latest_addresses_come_first_and_old_ones_are_forgotten() {
        let mut book = Book::default();
        for n in 0..40 {
            book.meet(key(1), Source::Came, &[format!("10.0.0.{n}:7")], 1);
        }
        let contact = book.meet(key(1), Source::Typed, &["10.0.0.30:7".into()], 1);
        assert_eq!((contact.addresses.len(), contact.addresses[0].as_str(), contact.source), (ADDRESSES_MAX, "10.0.0.30:7", Source::Typed));
    }

    #[test]
    fn a_full_book_forgets_strangers_first() {
        let mut book = Book::default();
        book.meet(key(1), Source::Invite, &[], 1);
        for n in 0..CONTACTS_MAX {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(n as u64 + 1000).to_be_bytes());
            book.meet(PublicKey::from_bytes(seed), Source::Came, &[], 1);
        }
        assert!(book.contacts.len() <= CONTACTS_MAX && book.contacts.contains_key(&key(1)));
        // Whom the owner gave a name is none, though he only came.
        let named = *book.contacts.keys().find(|id| **id != key(1)).expect("one");
        book.petnames.insert(named, "carol".into());
        for n in 0..20u32 {
            book.meet(PublicKey::from_bytes(timebus_identity::hash("stranger", &[&n.to_be_bytes()])), Source::Came, &[], 1).seen_ms = 9;
        }
        assert!(book.contacts.len() <= CONTACTS_MAX && [key(1), named].iter().all(|id| book.contacts.contains_key(id)));
    }

    /// Each time with another key somebody has a log of his read.
    #[test]
    fn how_far_the_logs_of_strangers_were_read_takes_a_bounded_room() {
        let mut book = Book::default();
        let (friend, log) = (key(1), TimelineId([3; 32]));
        let cursor = Cursor { incarnation: [9; 16], upto: 12 };
        book.meet(friend, Source::Typed, &[], 1);
        book.set_cursor(&friend, &log, Some(cursor));
        for n in 0..CURSORS_MAX + 3 {
            let stranger = PublicKey::from_bytes(timebus_identity::hash("stranger", &[&n.to_be_bytes()]));
            if n % 64 == 0 {
                book.meet(stranger, Source::Came, &[], 1);
            }
            book.set_cursor(&stranger, &log, Some(cursor));
        }
        assert!(book.cursors.len() <= CURSORS_MAX, "{}", book.cursors.len());
        assert_eq!(book.cursor(&friend, &log), Some(cursor));
        // Who is forgotten leaves nothing.
        let came = *book.contacts.keys().find(|id| **id != friend && book.cursor(id, &log).is_some()).expect("one");
        for n in 0..CONTACTS_MAX - 200 {
            book.meet(PublicKey::from_bytes(timebus_identity::hash("another", &[&n.to_be_bytes()])), Source::Came, &[], 1).seen_ms = 9;
        }
        assert!(!book.contacts.contains_key(&came) && book.cursor(&came, &log).is_none());
    }
}
