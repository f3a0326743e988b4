//! Whom the owner follows, and what he calls them, on all his devices.
//!
//! The node of each device has its own list of spaces that it keeps, the book; the list in the space is what the devices
//! agree on. What was added, renamed or taken off on one side since both said the same goes to the other side; when both did
//! something to the same entry, the list has it.

use std::collections::BTreeMap;
use std::time::Duration;

use timebus_identity::PublicKey;
use timebus_store::json::Json;
use timebus_store::store::Store;
use timebus_store::tree::Tree;
use timebus_store::value::Value;
use timebus_store::writer::WriteError;

use super::List;
use crate::network::{Asker, Network};
use crate::node::Event;
use crate::node::book::{Book, is_petname};

/// How long changes are collected before the two are compared.
const PAUSE: Duration = Duration::from_millis(200);
/// The file that remembers what both said last.
const FILE: &str = "followed.json";

/// The spaces that are followed, and what each is called.
type Followed = BTreeMap<PublicKey, Option<String>>;

/// What one side lacks of the other.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    /// For the node: to follow under a name, or not any more.
    node: Vec<(PublicKey, Option<Option<String>>)>,
    /// The same for the list.
    list: Vec<(PublicKey, Option<Option<String>>)>,
    /// What both say, or said before one of them changed it.
    agreed: Followed,
}

/// Compares what the list and the node say with what both said last.
fn compare(list: &Followed, node: &Followed, last: &Followed) -> Differences {
    let mut found = Differences::default();
    let mut keys: Vec<&PublicKey> = list.keys().chain(node.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (listed, known, agreed) = (list.get(key), node.get(key), last.get(key));
        let both = if listed == known { listed } else { agreed };
        found.agreed.extend(both.map(|name| (*key, name.clone())));
        if listed == known {
            continue;
        }
        if listed == agreed {
            found.list.push((*key, known.cloned()));
        } else {
            found.node.push((*key, listed.cloned()));
        }
    }
    found
}

/// Keeps the list of the own space and that of the node the same, for as long as both are there.
pub(crate) fn share(store: &Store, network: &Network) {
    let (store, asker) = (store.clone(), network.asker());
    let (mut arrivals, mut changed) = (store.arrivals(), network.changed());
    tokio::spawn(async move {
        let mut last = remembered(&store);
        loop {
            match even_out(&store, &asker, &last).await {
                Ok(Some(agreed)) => {
                    if agreed != last
                        && let Err(error) = remember(&store, &agreed)
                    {
                        tracing::warn!(%error, "{FILE} was not written");
                    }
                    last = agreed;
                }
                Ok(None) => return,
                // As on a device that has no rights yet, or none any more.
                Err(error) => tracing::debug!(%error, "the list of those who are followed was not read or written"),
            }
            let is_over = tokio::select! {
                arrived = arrivals.changed() => arrived.is_err(),
                changed = changed.changed() => changed.is_err(),
            };
            if is_over {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
}

/// Tells each side what it lacks, and answers what both say; `None` when the network was left.
async fn even_out(store: &Store, asker: &Asker, last: &Followed) -> Result<Option<Followed>, WriteError> {
    let Some(book) = asker.ask(|node| node.book().clone()).await else { return Ok(None) };
    let mut list = super::read_with(store, List::Followed, name_of)?.unwrap_or_default();
    list.remove(&store.space());
    // A name that means somebody else here already stays his.
    for (space, name) in &mut list {
        if name.as_ref().is_some_and(|name| book.named(name).is_some_and(|other| other != *space)) {
            *name = book.petnames.get(space).cloned();
        }
    }
    let Differences { node, list, agreed } = compare(&list, &known(&book), last);
    for (space, wanted) in node {
        match wanted {
            None => asker.tell(Event::Unfollow { space }),
            Some(name) => {
                if !book.following.contains_key(&space) {
                    asker.tell(Event::Follow { space, via: Vec::new() });
                }
                if let Some(name) = name {
                    asker.tell(Event::Petname { space, name });
                }
            }
        }
    }
    for (space, wanted) in list {
        let entry = wanted.map(|name| name.map(|name| ("name".to_owned(), Json::String(name))).into_iter().collect());
        super::put(store, List::Followed, &space, entry).await?;
    }
    Ok(Some(agreed))
}

fn known(book: &Book) -> Followed {
    book.following.keys().map(|space| (*space, book.petnames.get(space).cloned())).collect()
}

/// The name in an entry of the list.
fn name_of(entry: &Tree) -> Option<String> {
    match &entry.names.get("name")?.writes.first()?.value {
        Value::String(name) if is_petname(name) => Some(name.to_string()),
        _ => None,
    }
}

fn remembered(store: &Store) -> Followed {
    let read = || -> Option<BTreeMap<String, Option<String>>> { serde_json::from_slice(&std::fs::read(store.home().join(FILE)).ok()?).ok() };
    read().unwrap_or_default().into_iter().filter_map(|(space, name)| Some((space.parse().ok()?, name))).collect()
}

fn remember(store: &Store, agreed: &Followed) -> std::io::Result<()> {
    let text: BTreeMap<String, &Option<String>> = agreed.iter().map(|(space, name)| (space.to_string(), name)).collect();
    crate::files::write_whole(&store.home().join(FILE), &serde_json::to_vec(&text).map_err(std::io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;

    use super::*;

    /// Spaces by letters, each with its name behind a colon.
    fn followed(text: &str) -> Followed {
        let entry = |word: &str| {
            let (who, name) = word.split_once(':').unwrap_or((word, ""));
            let space = SecretKey::from_seed([who.as_bytes()[0]; 32]).public();
            (space, Some(name.to_owned()).filter(|name| !name.is_empty()))
        };
        text.split_whitespace().map(entry).collect()
    }

    #[test]
    fn what_one_side_did_goes_to_the_other() {
        // List, node and what both said; then what both say after they were told.
        for (list, node, last, both) in [
            ("", "a:ada", "", "a:ada"),
            ("a:ada", "", "", "a:ada"),
            ("", "a:ada b", "a:ada b", ""),
            ("a:ada", "", "a:ada", ""),
            ("a:ada", "a:countess", "a:ada", "a:countess"),
            ("a:countess", "a:ada", "a:ada", "a:countess"),
            // Both did something: the list has it.
            ("a:ada", "a:countess", "a", "a:ada"),
            ("", "a:countess", "a:ada", ""),
            // As it was before there was a list.
            ("a:ada", "b", "", "a:ada b"),
        ] {
            let found = compare(&followed(list), &followed(node), &followed(last));
            let apply = |to: &str, what: &[(PublicKey, Option<Option<String>>)]| {
                let mut to = followed(to);
                for (space, wanted) in what {
                    match wanted {
                        Some(name) => drop(to.insert(*space, name.clone())),
                        None => drop(to.remove(space)),
                    }
                }
                to
            };
            let (list_then, node_then) = (apply(list, &found.list), apply(node, &found.node));
            assert_eq!((&list_then, &node_then), (&followed(both), &followed(both)), "{list} and {node}, before {last}");
            // Before both have heard of it, nothing is taken for the opposite.
            let half = compare(&followed(list), &followed(node), &found.agreed);
            assert_eq!((&half.list, &half.node), (&found.list, &found.node), "{list} and {node}, before {last}");
            assert_eq!(compare(&list_then, &node_then, &found.agreed), Differences { agreed: followed(both), ..Differences::default() });
        }
    }
}
