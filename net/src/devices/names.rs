//! What the owner calls his devices: at `/lists/devices/<key>`, so that all of them know it and nobody else does. Who is no device
//! any more keeps his name, by which he is known as the one that was thrown out.
//!
//! Each device can write all of that, also one that was stolen, which would call itself as another one is called so that the owner
//! throws out that one. So a device goes by a name only if that device wrote it itself, or the one at which the owner looks. What
//! any other one says it is called is shown as that, and nothing is done by it without a question.

use std::collections::BTreeMap;

use timebus_identity::{PublicKey, human_name};
use timebus_store::json::Json;
use timebus_store::node::Write;
use timebus_store::store::{StorageError, Store};
use timebus_store::summary::{find, summary};
use timebus_store::tree::Tree;
use timebus_store::value::Value;
use timebus_store::writer::WriteError;

use crate::lists::{self, List};
use crate::node::book::is_petname;

/// Words that mean something else where a device is named.
const TAKEN: [&str; 2] = ["all", "this"];

/// Whether a device can be called so.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_word = TAKEN.iter().any(|word| name.eq_ignore_ascii_case(word));
    is_petname(name) && name.trim() == name && !crate::people::is_of_a_key(name) && !is_word
}

/// A name that a device was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The name.
    pub name: String,
    /// The device that wrote it.
    pub by: PublicKey,
    /// When, as that one says; Unix milliseconds.
    pub time_ms: u64,
}

impl Said {
    /// Whether the device goes by it: it said so itself, or this one did.
    #[must_use]
    pub fn is_heeded(&self, store: &Store, device: &PublicKey) -> bool {
        self.by == *device || self.by == store.device()
    }
}

/// The names that were given, by the keys of the devices, whoever gave them.
///
/// # Errors
///
/// [`StorageError`].
pub fn said(store: &Store) -> Result<BTreeMap<PublicKey, Said>, StorageError> {
    let rows = store.snapshot();
    let names = |entry: &Tree| -> Vec<Said> {
        let one = |write: &Write| match &write.value {
            Value::String(name) if is_name(name) => {
                let (t, a) = find(&*rows, &write.id.change).ok()??;
                let change = summary(&*rows, t, a).ok()?;
                Some(Said { name: name.to_string(), by: change.author, time_ms: change.time_ms })
            }
            _ => None,
        };
        entry.names.get("name").into_iter().flat_map(|name| &name.writes).filter_map(one).collect()
    };
    let listed = lists::read_with(store, List::Devices, names)?.unwrap_or_default();
    let best = |device: &PublicKey, all: Vec<Said>| {
        let heeded = all.iter().find(|said| said.is_heeded(store, device)).cloned();
        heeded.or_else(|| all.into_iter().next())
    };
    Ok(listed.into_iter().filter_map(|(device, all)| Some((device, best(&device, all)?))).collect())
}

/// The names by which devices go.
///
/// # Errors
///
/// [`StorageError`].
pub fn given(store: &Store) -> Result<BTreeMap<PublicKey, String>, StorageError> {
    let heeded = said(store)?.into_iter().filter(|(device, said)| said.is_heeded(store, device));
    Ok(heeded.map(|(device, said)| (device, said.name)).collect())
}

/// What to call a device: the name by which it goes, or that of its key.
#[must_use]
pub fn called(store: &Store, device: &PublicKey) -> String {
    let given = given(store).ok().and_then(|mut given| given.remove(device));
    given.unwrap_or_else(|| human_name(device))
}

/// Gives a device a name, or takes its name away.
///
/// # Errors
///
/// [`WriteError`].
pub async fn give(store: &Store, device: &PublicKey, name: Option<&str>) -> Result<(), WriteError> {
    let entry = name.map(|name| BTreeMap::from([("name".to_owned(), Json::String(name.into()))]));
    lists::put(store, List::Devices, device, entry).await
}

/// Gives this device a name, unless it has one, or another device is called so.
///
/// # Errors
///
/// [`WriteError`].
pub async fn give_first(store: &Store, name: &str) -> Result<(), WriteError> {
    let device = store.device();
    let is_device = store.rights(&store.space()).is_some_and(|rights| rights.device_grant(&device).is_some());
    let all = said(store)?;
    let is_taken = all.iter().any(|(other, said)| *other == device || said.name.eq_ignore_ascii_case(name));
    if is_device && is_name(name) && !is_taken { give(store, &device, Some(name)).await } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whose::tests::open;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_device_has_the_name_that_it_was_given() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = open(home.path());
        let device = store.device();
        assert_eq!(called(&store, &device), human_name(&device));
        give_first(&store, "laptop").await.expect("named");
        give_first(&store, "another").await.expect("nothing to do");
        assert_eq!(called(&store, &device), "laptop");
        give(&store, &device, Some("desk")).await.expect("named");
        assert_eq!(given(&store).expect("read"), [(device, "desk".to_owned())].into());
        give(&store, &device, None).await.expect("taken away");
        assert_eq!(called(&store, &device), human_name(&device));
        assert!(lists::is_apart(&store), "nobody else is told");
    }

    #[test]
    fn names_are_no_keys_and_no_words_for_others() {
        for (name, is_good) in [
            ("laptop", true),
            ("old phone", true),
            ("river-otter-61", false),
            ("all", false),
            ("This", false),
            ("a/b", false),
            ("", false),
            ("  ", false),
            (" x", false),
        ] {
            assert_eq!(is_name(name), is_good, "{name:?}");
        }
    }
}
