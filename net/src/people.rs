//! Who is meant by a name, and what to call a key.
//!
//! Grants are for device keys; people are spaces. Which devices belong to whom is known from the spaces held here and
//! from invites that were taken.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use serde_json::Value as Serde;
use timebus_identity::{PublicKey, human_name};
use timebus_store::auth::Rights;
use timebus_store::grant::Audience;
use timebus_store::path::Path;
use timebus_store::store::Store;
use timebus_store::summary::Summary;

use crate::invites::{Record, firsts};
use crate::ledger::Relation;
use crate::node::book::{Book, Contact, PETNAME_BYTES_MAX};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::who::Who;
use crate::whose::rightly;

/// The names and keys that are known here.
#[derive(Debug, Default)]
pub(crate) struct People {
    own: Option<PublicKey>,
    /// What the owner says that he is called, if whoever asks may know it.
    own_name: Option<String>,
    /// Whether it is the owner who asks.
    is_for_owner: bool,
    /// What each space is called.
    names: BTreeMap<PublicKey, String>,
    /// What else each calls itself, or did.
    also: BTreeMap<PublicKey, BTreeSet<String>>,
    /// Those names that the owner gave, which are understood in paths.
    petnames: BTreeMap<PublicKey, String>,
    /// The space of each device.
    spaces: BTreeMap<PublicKey, PublicKey>,
    /// Spaces that are followed or called by a name.
    friends: BTreeSet<PublicKey>,
    /// Spaces of those who took an invite.
    guests: BTreeSet<PublicKey>,
    /// Whose each device that took an invite is, by its own word.
    said: BTreeMap<PublicKey, PublicKey>,
    /// The spaces of others whose devices these were and are no more.
    former: BTreeMap<PublicKey, PublicKey>,
    /// Keys that were proven by one peer together: that of a space, and one that its device signs with.
    proven: BTreeSet<(PublicKey, PublicKey)>,
    /// By that the space of each device of which nothing else says whose it is.
    proven_of: BTreeMap<PublicKey, PublicKey>,
    /// Root keys that took over: each is of its space, and no device that anything is granted to.
    roots: BTreeSet<PublicKey>,
}

/// Whom somebody means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// What to call him.
    pub(crate) name: String,
    /// His space, if it is known.
    pub(crate) space: Option<PublicKey>,
    /// His keys; none for anyone.
    pub(crate) keys: Vec<PublicKey>,
    /// Whether everybody is meant.
    pub(crate) is_anyone: bool,
}

/// Whom a name means.
enum Meant {
    /// Whoever has a space.
    Space(PublicKey),
    /// One device, or everybody.
    Person(Person),
}

impl Person {
    /// Whom grants for him are for.
    pub(crate) fn audiences(&self) -> Vec<Audience> {
        if self.is_anyone { vec![Audience::Anyone] } else { self.keys.iter().map(|key| Audience::Key(*key)).collect() }
    }
}

impl People {
    /// Everybody who is known now.
    pub(crate) async fn now(peer: &Peer) -> Self {
        let store = peer.store();
        let book = match peer.network() {
            Some(network) => network.ask(|node| node.book().clone()).await.unwrap_or_default(),
            None => Book::load(&store.home().join("peers.json")).unwrap_or_default(),
        };
        Self::of(store, book, &crate::invites::known(peer))
    }

    /// Everybody of whom these say something.
    fn of(store: &Store, book: Book, records: &[Record]) -> Self {
        let mut people = Self { own: Some(store.space()), own_name: profile_name(store, &store.space()), is_for_owner: true, ..Self::default() };
        people.friends = book.petnames.keys().chain(book.following.keys()).copied().collect();
        let mut redeemed: Vec<_> = records.iter().flat_map(|record| &record.redeemed).collect();
        redeemed.sort_by_key(|redeemed| (redeemed.at_ms, &redeemed.device));
        let firsts = firsts(records);
        for redeemed in redeemed {
            if let (Ok(device), Ok(said)) = (redeemed.device.parse(), redeemed.space.parse()) {
                // Who takes another link after the owner follows him stays who he was: of whom something is known, no device is believed
                // that it is his.
                let said: PublicKey = if said == device { people.said.get(&device).copied().unwrap_or(said) } else { said };
                // By his own word nobody is who is known here.
                let is_free = store.rights(&said).is_none() && firsts.get(said.to_string().as_str()) == Some(&redeemed.device.as_str());
                let space = if is_free { said } else { device };
                people.guests.insert(space);
                people.said.insert(device, said);
                people.spaces.insert(device, space);
                if may_be_called(&redeemed.name) {
                    people.call(space, &redeemed.name);
                }
            }
        }
        let mut named: BTreeMap<PublicKey, BTreeSet<PublicKey>> = BTreeMap::new();
        let spaces = store.spaces();
        for space in &spaces {
            for device in store.rights(&space.key).iter().flat_map(|rights| rights.devices()) {
                named.entry(device).or_default().insert(space.key);
            }
        }
        for (device, named) in named {
            let spaces = rightly(store, &device, named.into_iter().collect());
            people.spaces.extend(spaces.iter().find(|space| people.friends.contains(*space)).or(spaces.first()).map(|space| (device, *space)));
        }
        for space in spaces {
            if let Some(rights) = store.rights(&space.key) {
                people.know(&rights, &space.key);
                people.know_former(store, &rights, &space.key);
            }
        }
        people.petnames = book.petnames;
        people.learn_names(store, &book.contacts);
        // By his own word nobody is called what the owner calls another one.
        let given: BTreeMap<String, PublicKey> = people.petnames.iter().map(|(space, name)| (name.to_lowercase(), *space)).collect();
        people.names.retain(|space, name| given.get(&name.to_lowercase()).is_none_or(|is| is == space));
        people.names.extend(people.petnames.clone());
        people
    }

    /// What those call themselves who were connected, or say that they are called in their spaces. That is their own word: it is no
    /// name of anybody else, and of who has rights here only what he proves is heeded.
    fn learn_names(&mut self, store: &Store, contacts: &BTreeMap<PublicKey, Contact>) {
        for contact in contacts.values() {
            if let Some(space) = contact.space.filter(|space| contact.keys.contains(space)) {
                self.proven.extend(contact.keys.iter().map(|key| (space, *key)));
            }
        }
        // Whoever has both keys is one, as long as his space says nothing else here: so he has one name among the rights and as a
        // peer. Nothing is granted to a key because of that.
        let nobodys = |(space, key): &&(PublicKey, PublicKey)| !self.spaces.contains_key(key) && store.rights(space).is_none();
        self.proven_of = self.proven.iter().filter(nobodys).map(|(space, key)| (*key, *space)).collect();
        let own = store.rights(&store.space());
        let granted =
            own.iter().flat_map(|rights| rights.grants()).filter(|(_, held)| held.is_live()).filter_map(|(_, held)| match held.grant.audience {
                Audience::Key(key) => Some(*self.owner_of(&key)),
                Audience::Anyone => None,
            });
        let somebody: BTreeSet<PublicKey> = granted.chain(self.friends.iter().copied()).chain(self.guests.iter().copied()).collect();
        let said = contacts.values().filter_map(|contact| Some((contact.space?, contact))).filter(|(_, contact)| may_be_called(&contact.name));
        let (his, others): (Vec<_>, Vec<_>) = said.partition(|(space, contact)| {
            contact.keys.contains(space) || contact.keys.iter().any(|key| *key != *space && self.spaces.get(key) == Some(space))
        });
        let (of_somebody, of_strangers): (Vec<_>, Vec<_>) = his.into_iter().partition(|(space, _)| somebody.contains(space));
        for (space, contact) in of_somebody {
            self.call(space, &contact.name);
        }
        let profiles = somebody.iter().filter(|space| !self.names.contains_key(*space) && !self.petnames.contains_key(*space));
        let profiles: Vec<(PublicKey, String)> = profiles.filter_map(|space| Some((*space, profile_name(store, space)?))).collect();
        for (space, name) in &profiles {
            let is_other = |(other, also): &(PublicKey, String)| other != space && also.to_lowercase() == name.to_lowercase();
            if may_be_called(name) && !is_of_a_key(name) && !profiles.iter().any(is_other) && !self.is_taken(name, space) {
                self.call(*space, name);
            }
        }
        let others = others.into_iter().filter(|(space, _)| !somebody.contains(space) && store.rights(space).is_none());
        for (space, contact) in of_strangers.into_iter().chain(others) {
            if !somebody.iter().any(|other| *other != space && self.is_called_so(other, &contact.name)) {
                self.call(space, &contact.name);
            }
        }
    }

    /// Somebody is called so, unless he has a name.
    fn call(&mut self, space: PublicKey, name: &str) {
        self.also.entry(space).or_default().insert(name.to_owned());
        // Of his machines some may have the name of their key.
        if !is_of_a_key(name) {
            self.names.entry(space).or_insert_with(|| name.to_owned());
        }
    }

    /// Whether anybody else has a name.
    fn is_taken(&self, name: &str, except: &PublicKey) -> bool {
        let all = self.names.keys().chain(self.also.keys()).chain(self.petnames.keys());
        all.filter(|space| *space != except).any(|space| self.is_called_so(space, name))
    }

    fn is_called_so(&self, space: &PublicKey, name: &str) -> bool {
        let lower = name.to_lowercase();
        let names = self.names.get(space).into_iter().chain(self.petnames.get(space)).chain(self.also.get(space).into_iter().flatten());
        names.into_iter().any(|name| name.to_lowercase() == lower)
    }

    /// Those whom somebody may know by name: what the owner calls people, and whose devices are whose, is told to no
    /// others.
    pub(crate) async fn known_to(peer: &Peer, who: &Who) -> Self {
        if who.is_owner() {
            return Self::now(peer).await;
        }
        let own = peer.space();
        let mut people = Self { own: Some(own), ..Self::default() };
        if let Some(rights) = peer.store().rights(&own) {
            people.spaces.extend(rights.devices().map(|device| (device, own)));
            people.know(&rights, &own);
        }
        people
    }

    fn know(&mut self, rights: &Rights, space: &PublicKey) {
        self.spaces.insert(*space, *space);
        let root = rights.root();
        if root != *space {
            self.spaces.insert(root, *space);
            self.roots.insert(root);
        }
    }

    fn know_former(&mut self, store: &Store, rights: &Rights, space: &PublicKey) {
        if Some(*space) == self.own {
            return;
        }
        for (_, held) in rights.grants().filter(|(_, held)| !held.is_live() && held.allows_everything()) {
            let Audience::Key(key) = held.grant.audience else { continue };
            // Who took an invite with it is known as somebody of his own.
            let is_free = self.spaces.get(&key).is_none_or(|of| *of == key) && rights.device_grant(&key).is_none() && store.held(&key).is_none();
            if is_free && rightly(store, &key, vec![*space]) == [*space] {
                self.spaces.remove(&key);
                self.former.insert(key, *space);
            }
        }
    }

    /// What to call whoever has a key.
    pub(crate) fn name(&self, key: &PublicKey) -> String {
        let space = self.owner_of(key);
        if Some(*space) == self.own {
            return "you".to_owned();
        }
        self.names.get(space).cloned().unwrap_or_else(|| human_name(space))
    }

    /// The space of whoever has a key as far as it is called by its name, or the key.
    pub(crate) fn owner_of<'a>(&'a self, key: &'a PublicKey) -> &'a PublicKey {
        self.spaces.get(key).or_else(|| self.proven_of.get(key)).unwrap_or(key)
    }

    /// A problem with the name of a space in the place of its key.
    pub(crate) fn named(&self, problem: Problem, space: &PublicKey) -> Problem {
        let detail = problem.detail.replace(&format!("the space {space}"), &format!("the space of {}", self.name(space)));
        Problem { detail, ..problem }
    }

    /// The same for who wrote something: the owner is one of many there, and has a name like all.
    pub(crate) fn author(&self, key: &PublicKey) -> String {
        match self.spaces.get(key) {
            Some(space) if Some(*space) == self.own => self.own_name.clone().unwrap_or_else(|| human_name(space)),
            _ => self.name(key),
        }
    }

    /// Whether a space is the owner's own.
    pub(crate) fn is_own(&self, space: &PublicKey) -> bool {
        self.own.as_ref() == Some(space)
    }

    /// Who wrote something that a device signed for somebody who asked it to by HTTP, in words. That he did is the word of that device.
    pub(crate) fn writer(&self, change: &Summary) -> Option<String> {
        let asked_by = self.author(change.behalf.as_ref()?);
        let of = self.space_of(&change.author).or_else(|| self.former.get(&change.author).copied());
        let is_own = self.is_for_owner && self.own.is_some() && of == self.own;
        Some(match is_own {
            true => format!("{asked_by}, over HTTP (signed by your device)"),
            false => format!("{asked_by}, over HTTP (says {})", self.author(&change.author)),
        })
    }

    /// The same, or what to call its author.
    pub(crate) fn wrote(&self, change: &Summary) -> String {
        self.writer(change).unwrap_or_else(|| self.name(&change.author))
    }

    /// Adds to what is told of a change who wrote it, and when.
    pub(crate) fn tell_writer(&self, change: &Summary, told: &mut Serde) {
        told["author"] = change.author.to_string().into();
        told["author_name"] = self.author(&change.author).into();
        if let Some(key) = &change.behalf {
            told["asked_by"] = key.to_string().into();
            told["asked_by_name"] = self.author(key).into();
            told["writer"] = self.writer(change).into();
        }
        told["time_ms"] = change.time_ms.into();
    }

    /// The words that somebody is called by his own word alone, with the name that follows from his key, which is nobody else's.
    pub(crate) fn by_his_own_word(&self, person: &Person) -> Option<String> {
        let space = person.space.filter(|space| Some(*space) != self.own && !self.petnames.contains_key(space))?;
        self.names.get(&space).map(|name| format!("{name} is what {} calls himself", human_name(&space)))
    }

    /// What the owner calls a space in paths, if he gave it a name.
    pub(crate) fn petname(&self, space: &PublicKey) -> Option<String> {
        self.petnames.get(space).cloned()
    }

    /// Whether a space is followed or called by a name.
    pub(crate) fn is_friend(&self, space: &PublicKey) -> bool {
        Some(*space) != self.own && self.friends.contains(space)
    }

    /// Whether a space is somebody's whom the owner knows: a friend, a guest, or one that called itself something.
    pub(crate) fn is_contact(&self, space: &PublicKey) -> bool {
        Some(*space) != self.own && (self.friends.contains(space) || self.guests.contains(space) || self.names.contains_key(space))
    }

    /// What a person is to the owner.
    pub(crate) fn relation(&self, person: &PublicKey) -> Relation {
        if Some(*person) == self.own {
            Relation::Own
        } else if self.friends.contains(person) {
            Relation::Friend
        } else if self.guests.contains(person) {
            Relation::Invited
        } else {
            Relation::Stranger
        }
    }

    /// What to call whom a grant is for.
    pub(crate) fn audience(&self, audience: &Audience) -> String {
        match audience {
            Audience::Anyone => "anyone".to_owned(),
            Audience::Key(key) => match self.former.get(key) {
                Some(space) => format!("{} (a device of before)", self.name(space)),
                None => self.name(key),
            },
        }
    }

    /// Whether a key is of a device that is somebody's no more.
    pub(crate) fn is_former(&self, key: &PublicKey) -> bool {
        self.former.contains_key(key)
    }

    /// The keys of somebody that are of devices of his no more.
    pub(crate) fn former<'a>(&'a self, space: &'a PublicKey) -> impl Iterator<Item = PublicKey> + 'a {
        self.former.iter().filter(move |(_, of)| *of == space).map(|(key, _)| *key)
    }

    /// The space of whoever has a key.
    pub(crate) fn space_of(&self, key: &PublicKey) -> Option<PublicKey> {
        self.spaces.get(key).copied()
    }

    /// Whether a key is a space's own, or one of its devices', as far as is known here.
    pub(crate) fn is_his(&self, key: &PublicKey, space: &PublicKey) -> bool {
        key == space || self.space_of(key) == Some(*space) || self.proven.contains(&(*space, *key))
    }

    /// The devices that say of themselves that they are somebody's. He loses nothing by that, and they lose with him.
    pub(crate) fn who_say_they_are<'a>(&'a self, space: &'a PublicKey) -> impl Iterator<Item = PublicKey> + 'a {
        self.said.iter().filter(move |(_, said)| *said == space).map(|(device, _)| *device)
    }

    /// Whether all the devices that are known of somebody are meant, and not one of several.
    pub(crate) fn is_whole(&self, person: &Person) -> bool {
        person.space.is_none_or(|space| self.person(space).is_ok_and(|whole| whole.keys == person.keys))
    }

    /// Whether the owner calls somebody so.
    pub(crate) fn is_called(&self, who: &str) -> bool {
        let name = who.strip_prefix('@').unwrap_or(who).to_lowercase();
        self.petnames.values().any(|petname| petname.to_lowercase() == name)
    }

    /// Whom a name, a key, the beginning of one, or `anyone` means.
    pub(crate) fn find(&self, who: &str) -> Result<Person, Problem> {
        match self.meant(who)? {
            Meant::Space(space) => self.person(space),
            Meant::Person(person) => Ok(person),
        }
    }

    /// The space of whom a name means, or his key while that is all that is known of him.
    pub(crate) fn find_space(&self, who: &str) -> Result<Option<PublicKey>, Problem> {
        Ok(match self.meant(who)? {
            Meant::Space(space) => Some(space),
            Meant::Person(person) => person.space.or(person.keys.first().copied()),
        })
    }

    fn meant(&self, who: &str) -> Result<Meant, Problem> {
        let name = who.strip_prefix('@').unwrap_or(who);
        if name == "anyone" {
            return Ok(Meant::Person(Person { name: name.to_owned(), space: None, keys: Vec::new(), is_anyone: true }));
        }
        if matches!(name, "me" | "you") {
            return Ok(Meant::Space(self.own.unwrap_or_else(|| PublicKey::from_bytes([0; 32]))));
        }
        if let Ok(key) = name.parse::<PublicKey>() {
            // A device's key means this device, a space's key all of somebody's devices.
            if self.spaces.get(&key).is_some_and(|space| *space != key) || !self.spaces.values().any(|space| *space == key) {
                return Ok(Meant::Person(Person { name: self.name(&key), space: self.space_of(&key), keys: vec![key], is_anyone: false }));
            }
            return Ok(Meant::Space(key));
        }
        let fits = |key: &PublicKey| human_name(key) == name || (name.len() >= 4 && key.to_string().starts_with(name));
        let lower = name.to_lowercase();
        let by = |names: &BTreeMap<PublicKey, String>, is_it: &dyn Fn(&str) -> bool| -> BTreeSet<PublicKey> {
            names.iter().filter(|(_, other)| is_it(other)).map(|(space, _)| *space).collect()
        };
        // As it is written, else in whatever letters.
        let called = |names: &BTreeMap<PublicKey, String>| {
            let found = by(names, &|other: &str| other == name);
            if found.is_empty() { by(names, &|other: &str| other.to_lowercase() == lower) } else { found }
        };
        // Whom the owner calls so is meant, whatever others call themselves.
        let mut found = called(&self.petnames);
        if found.is_empty() {
            found = called(&self.names);
        }
        // The name of a key is that of whoever has the key, whatever others call themselves.
        let is_key_first = is_of_a_key(name);
        let by_key = || self.spaces.values().chain(self.names.keys()).copied().filter(fits).collect::<BTreeSet<_>>();
        let devices = || self.spaces.keys().filter(|key| fits(key)).copied().collect::<Vec<_>>();
        if found.is_empty() && is_key_first {
            found = by_key();
        }
        if found.is_empty() && (!is_key_first || devices().is_empty()) {
            found.extend(self.also.iter().filter(|(_, names)| names.contains(name)).map(|(space, _)| *space));
        }
        if found.is_empty() {
            found = by_key();
        }
        if found.is_empty()
            && name.len() >= 4
            && let [device] = devices()[..]
        {
            return Ok(Meant::Person(Person { name: self.name(&device), space: self.space_of(&device), keys: vec![device], is_anyone: false }));
        }
        // Who says that he is one of those is no other than he.
        let all = found.clone();
        found.retain(|space| self.said.get(space).is_none_or(|said| said == space || !all.contains(said)));
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(space), None) => Ok(Meant::Space(space)),
            (None, _) => Err(Problem::new(
                StatusCode::NOT_FOUND,
                "who",
                "nobody is known by this name",
                format!("{name:?} is no key, none of your names, and nobody who took an invite is called so"),
            )
            .with_fix("`timebus peers` shows who is known; write a key, or `anyone` for everybody")),
            (Some(one), Some(two)) => {
                let told = |key: &PublicKey| format!("{key} ({})", human_name(key));
                let detail = format!("{name:?} can be {} or {}", told(&one), told(&two));
                Err(Problem::new(StatusCode::CONFLICT, "who", "this name can mean several", detail).with_fix("write the key of the one you mean"))
            }
        }
    }

    fn person(&self, space: PublicKey) -> Result<Person, Problem> {
        // Whoever signs with the key of his space is granted what he is by that.
        let is_device = |key: &PublicKey| (*key != space || self.guests.contains(key)) && !self.roots.contains(key);
        let keys: Vec<PublicKey> = self.spaces.iter().filter(|(key, of)| **of == space && is_device(key)).map(|(key, _)| *key).collect();
        let name = self.name(&space);
        if keys.is_empty() {
            let detail = format!("{name} is known, but none of the device keys that he signs with");
            return Err(Problem::new(StatusCode::CONFLICT, "who", "no key of this person is known yet", detail)
                .with_fix("send an invite, which finds it out: timebus invite --to PATH --can write; or write his key, as `timebus id` tells him"));
        }
        Ok(Person { name, space: Some(space), keys, is_anyone: false })
    }
}

/// What somebody says in his space that he is called, if it is here.
pub(crate) fn profile_name(store: &Store, space: &PublicKey) -> Option<String> {
    let path = Path::parse("/profile/name").ok()?;
    let value = crate::community::leaf(&store.snapshot(), store.held(space)?, &path).ok()??;
    let name = value.as_str().map(str::trim)?;
    crate::community::is_name(name, PETNAME_BYTES_MAX).then(|| name.to_owned())
}

/// Whether somebody may be called what he calls himself: not by the words for the owner and for everybody.
fn may_be_called(name: &str) -> bool {
    !name.is_empty() && !crate::node::book::is_word(name)
}

/// Whether a name looks like those that follow from keys, as `river-otter-61`.
pub(crate) fn is_of_a_key(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let is_word = |word: &str| word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    matches!(parts[..], [nature, animal, number] if is_word(nature) && is_word(animal) && number.len() == 2 && number.parse::<u8>().is_ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::grant::Actions;
    use timebus_store::json::Json;
    use timebus_store::store::{Config, lock_home};
    use timebus_store::writer::{Action, Condition, Request};

    use super::*;
    use crate::node::book::Follow;
    use crate::whose::tests::{grant_key, open, tell};

    fn key(n: u8) -> PublicKey {
        SecretKey::from_seed([n; 32]).public()
    }

    pub(crate) fn of(store: &Store, records: &[Record]) -> People {
        People::of(store, Book::default(), records)
    }

    /// An invite that devices took, each saying whose it is and what it is called.
    fn taken(by: &[(u8, PublicKey, &str)]) -> Vec<Record> {
        let redeemed: Vec<_> = (by.iter().zip(1..))
            .map(|((device, space, name), at)| serde_json::json!({"device": key(*device).to_string(), "space": space.to_string(), "name": name, "at_ms": at}))
            .collect();
        let record = serde_json::json!({
            "id": "i", "role": "read", "path": "/", "uses_max": 9, "bytes_max": 0, "expires_ms": 0, "created_ms": 1, "is_revoked": false,
            "redeemed": redeemed,
        });
        vec![serde_json::from_value(record).expect("a record")]
    }

    /// Somebody who was connected, proved these keys, and says whose he is and what he is called.
    fn contact(name: &str, space: PublicKey, keys: &[PublicKey]) -> Contact {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let contact = serde_json::json!({"source": "came", "name": name, "space": space.to_string(), "keys": keys, "met_ms": 1});
        serde_json::from_value(contact).expect("a contact")
    }

    /// Eve comes from everywhere, with keys that she makes for it. She says that she is Bob and called otherwise, that she is Carol
    /// and called Bob, and of herself that she is called as Carol is.
    #[tokio::test(flavor = "multi_thread")]
    async fn strangers_rename_nobody_and_take_nobodys_name() {
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [store, dave] = homes.each_ref().map(|home| open(home.path()));
        let (bob, carol) = (1, 2);
        grant_key(&store, dave.device(), Actions::READ).await;
        grant_key(&dave, dave.device(), Actions::ALL).await;
        tell(&dave, &dave.space(), &store).await;
        let mut book = Book::default();
        let eve =
            [(20, "bobby", key(10), key(30)), (21, "bob", key(11), key(31)), (22, "Carol", key(32), key(32)), (23, "mallory", dave.space(), key(33))];
        for (node, name, space, proves) in eve {
            book.contacts.insert(key(node), contact(name, space, &[proves]));
        }
        // The name of a key is nobody else's either.
        book.contacts.insert(key(24), contact(&human_name(&key(10)), key(34), &[key(34)]));
        let people = People::of(&store, book.clone(), &taken(&[(bob, key(10), "bob"), (carol, key(11), "carol")]));
        assert_eq!([bob, carol].map(|n| people.name(&key(n))), ["bob", "carol"]);
        let of_his_key = human_name(&key(10));
        for (name, device) in [("bob", bob), ("carol", carol), ("Carol", carol), (of_his_key.as_str(), bob)] {
            assert_eq!(people.find(name).expect("one").keys, [key(device)], "{name}");
        }
        for name in ["bobby", "mallory"] {
            assert!(people.find(name).is_err(), "{name}");
        }
        assert_eq!(people.name(&dave.device()), human_name(&dave.space()));
        // What she signs for a space that is not hers is not its owner's; what she signs for her own is hers.
        assert!(people.is_his(&key(bob), &key(10)) && people.is_his(&key(32), &key(32)));
        assert!(!people.is_his(&key(30), &key(10)) && !people.is_his(&key(33), &dave.space()));
        // Who has the key that took the invite is believed, but has his name already; who has none has that one.
        book.contacts.insert(key(25), contact("robert", key(10), &[key(bob)]));
        book.contacts.insert(key(26), contact("dave", dave.space(), &[dave.device()]));
        let people = People::of(&store, book, &taken(&[(bob, key(10), "bob"), (carol, key(11), "carol")]));
        assert_eq!(people.name(&key(bob)), "bob");
        assert_eq!(people.find("robert").expect("one").keys, [key(bob)]);
        assert_eq!(people.find("dave").expect("one").keys, [dave.device()]);
    }

    /// Dan was brought by Bob: his device has a grant, his peer proves its key and that of his space, and nothing else is known.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_was_brought_by_a_guest_has_one_name_among_the_rights_and_as_a_peer() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = open(home.path());
        grant_key(&store, key(1), Actions::READ).await;
        let mut book = Book::default();
        book.contacts.insert(key(20), contact("Dan", key(10), &[key(10), key(1)]));
        let people = People::of(&store, book.clone(), &[]);
        assert_eq!([key(1), key(10)].map(|key| people.name(&key)), ["Dan", "Dan"]);
        book.petnames.insert(key(10), "danny".to_owned());
        assert_eq!(People::of(&store, book.clone(), &[]).name(&key(1)), "danny");
        // Who only says so is not he, and by what he proves nothing is granted to a key.
        book.contacts.insert(key(20), contact("Dan", key(10), &[key(1)]));
        let people = People::of(&store, book, &[]);
        assert_eq!(people.name(&key(1)), human_name(&key(1)));
        assert!(people.find("danny").is_err());
    }

    /// Bob says in his space that he is called Bob. It is the name of nobody who has another one, nor of two who say the same.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_has_no_name_is_called_what_his_profile_says_where_nobody_else_is() {
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [store, bob, eve] = homes.each_ref().map(|home| open(home.path()));
        for (of, name) in [(&bob, "Bob"), (&eve, "bob")] {
            grant_key(&store, of.device(), Actions::READ).await;
            grant_key(of, of.device(), Actions::ALL).await;
            let (path, action, condition) =
                (Path::parse("/profile/name").expect("a path"), Action::Put(Json::String(name.to_owned())), Condition::None);
            let request = Request { space: None, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
            of.write(request).await.expect("written");
        }
        tell(&bob, &bob.space(), &store).await;
        let people = People::of(&store, Book::default(), &[]);
        assert_eq!((people.name(&bob.device()), people.find("Bob").expect("one").keys), ("Bob".to_owned(), vec![bob.device()]));
        let mut book = Book::default();
        book.petnames.insert(key(10), "bob".to_owned());
        assert_eq!(People::of(&store, book.clone(), &[]).name(&bob.device()), human_name(&bob.space()));
        book.petnames = BTreeMap::from([(bob.space(), "robert".to_owned())]);
        assert_eq!(People::of(&store, book, &[]).name(&bob.device()), "robert");
        tell(&eve, &eve.space(), &store).await;
        let people = People::of(&store, Book::default(), &[]);
        assert_eq!([&bob, &eve].map(|of| people.name(&of.device())), [&bob, &eve].map(|of| human_name(&of.space())));
    }

    /// Eve takes an invite and says that she is Bob: what is granted to him is not for her, and what she does is not his.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_is_somebody_else_by_his_own_word() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(home.path(), lock_home(home.path()).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store");
        let (bob, eve) = (1, 2);
        // Of whom nothing is known, who says so first is he; the other one is somebody of his own.
        let people = People::of(&store, Book::default(), &taken(&[(bob, key(10), "bob"), (eve, key(10), "bob")]));
        assert_eq!((people.space_of(&key(bob)), people.space_of(&key(eve))), (Some(key(10)), Some(key(eve))));
        assert_eq!(people.find(&key(10).to_string()).expect("known").keys, [key(bob)]);
        // Of a space that is here it is known which devices it has.
        let people = People::of(&store, Book::default(), &taken(&[(eve, store.space(), "you")]));
        assert_eq!(people.space_of(&key(eve)), Some(key(eve)));
        assert_ne!(people.name(&key(eve)), "you");
        // One of his machines carries the name of its key, and is his all the same.
        let mut book = Book::default();
        for (node, name) in [(3, "carol"), (4, "hedge-badger-76")] {
            book.contacts.insert(key(node), contact(name, key(10), &[key(bob)]));
        }
        let people = People::of(&store, book, &taken(&[(bob, key(10), "caro")]));
        assert_eq!(people.name(&key(bob)), "caro");
        for name in ["carol", "caro", "hedge-badger-76"] {
            assert_eq!(people.find(name).expect("one").keys, [key(bob)], "{name}");
        }
        // Whom the owner calls by a name is meant by it, whatever others call themselves.
        let mut book = Book::default();
        book.petnames.insert(key(10), "bob".to_owned());
        book.following.insert(key(10), Follow { since_ms: 1, via: vec![] });
        let people = People::of(&store, book, &taken(&[(bob, key(10), "robert"), (eve, key(11), "bob")]));
        assert_eq!(people.find("bob").expect("one").keys, [key(bob)]);
    }

    /// Several say of a device that wrote nothing yet that it is theirs.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_new_device_is_a_friends_if_a_friend_says_so() {
        let homes = [(); 3].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, one, other] = homes.each_ref().map(|home| open(home.path()));
        for owner in [&one, &other] {
            grant_key(owner, key(1), Actions::ALL).await;
            tell(owner, &owner.space(), &alice).await;
        }
        for friend in [one.space(), other.space()] {
            let mut book = Book::default();
            book.petnames.insert(friend, "bob".to_owned());
            assert_eq!(People::of(&alice, book, &[]).space_of(&key(1)), Some(friend));
        }
    }
}
