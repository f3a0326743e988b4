//! What the owner calls his devices: at `/lists/devices/<key>`, so that all of them know it and nobody else does. Who is no device
//! any more keeps his name, by which he is known as the one that was thrown out.

use std::collections::BTreeMap;

use timebus_identity::{PublicKey, human_name};
use timebus_store::json::Json;
use timebus_store::store::{StorageError, Store};
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

/// The names that were given, by the keys of the devices.
///
/// # Errors
///
/// [`StorageError`].
pub fn given(store: &Store) -> Result<BTreeMap<PublicKey, String>, StorageError> {
    let name = |entry: &Tree| match &entry.names.get("name")?.writes.first()?.value {
        Value::String(name) if is_name(name) => Some(name.to_string()),
        _ => None,
    };
    let listed = lists::read_with(store, List::Devices, name)?.unwrap_or_default();
    Ok(listed.into_iter().filter_map(|(device, name)| Some((device, name?))).collect())
}

/// What to call a device: the name that it was given, or that of its key.
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
    let all = given(store)?;
    let is_taken = all.iter().any(|(other, called)| *other == device || called.eq_ignore_ascii_case(name));
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
