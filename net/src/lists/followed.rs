//! Whom the owner follows, and what he calls them, on all his devices.
//!
//! The node of each device has its own list of spaces that it keeps, the book; the list in the space is what the devices
//! agree on. What was added, renamed or taken off on one side since the two were compared last goes to the other side; when
//! both did something to the same entry, the list has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use timebus_identity::PublicKey;
use timebus_store::json::Json;
use timebus_store::store::Store;
use timebus_store::tree::Tree;
use timebus_store::value::Value;
use timebus_store::writer::WriteError;

use super::List;
use crate::network::{Asker, Network};
use crate::node::Event;
use crate::node::book::{Book, by_key, is_petname};

/// How long changes are collected before the two are compared.
const PAUSE: Duration = Duration::from_millis(200);
/// The file that remembers what each of them said last.
const FILE: &str = "followed.json";

/// The spaces that are followed, and what each is called.
type Followed = BTreeMap<PublicKey, Option<String>>;

/// What each side said when they were compared last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    #[serde(with = "by_key")]
    list: Followed,
    #[serde(with = "by_key")]
    node: Followed,
}

/// What one side lacks of the other: spaces to follow under a name, or not any more.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lacks {
    node: Vec<(PublicKey, Option<Option<String>>)>,
    list: Vec<(PublicKey, Option<Option<String>>)>,
}

/// Compares what the list and the node say, with what each said last.
fn compare(list: &Followed, node: &Followed, last: &Last, is_taken: impl Fn(&PublicKey, &str) -> bool) -> Lacks {
    let mut lacks = Lacks::default();
    let keys: BTreeSet<&PublicKey> = list.keys().chain(node.keys()).collect();
    for key in keys {
        let (listed, known) = (list.get(key), node.get(key));
        if listed == known {
            continue;
        }
        // A name that means somebody else here stays his, and whoever is listed under it has here what name he has.
        let name = listed.and_then(Option::as_deref);
        let is_masked = name.is_some_and(|name| is_taken(key, name));
        let has_no_name = is_masked && known == Some(&None);
        if known != last.node.get(key) && listed == last.list.get(key) && !has_no_name {
            lacks.list.push((*key, known.cloned()));
        } else if is_masked && known.is_none() {
            lacks.node.push((*key, Some(None)));
        } else if !is_masked {
            // Also when it was told and is not known yet.
            lacks.node.push((*key, listed.cloned()));
        }
    }
    lacks
}

/// Keeps the list of the own space and that of the node the same, for as long as both are there.
pub(crate) fn share(store: &Store, network: &Network) {
    let (store, asker) = (store.clone(), network.asker());
    let (mut arrivals, mut changed) = (store.arrivals(), network.changed());
    tokio::spawn(async move {
        let mut last = remembered(&store);
        loop {
            match even_out(&store, &asker, &last).await {
                Ok(Some(now)) => {
                    if now != last
                        && let Err(error) = remember(&store, &now)
                    {
                        tracing::warn!(%error, "{FILE} was not written");
                    }
                    last = now;
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

/// Tells each side what it lacks, and answers what they said; `None` when the network was left.
async fn even_out(store: &Store, asker: &Asker, last: &Last) -> Result<Option<Last>, WriteError> {
    let Some(book) = asker.ask(|node| node.book().clone()).await else { return Ok(None) };
    let mut list = super::read_with(store, List::Followed, name_of)?.unwrap_or_default();
    let mut node = known(&book);
    // A device that joined follows the owner's space in its book, which is nobody's choice.
    list.remove(&store.space());
    node.remove(&store.space());
    let mut now = Last { list, node };
    let is_taken = |space: &PublicKey, name: &str| book.named(name).is_some_and(|other| other != *space);
    let lacks = compare(&now.list, &now.node, last, is_taken);
    for (space, wanted) in lacks.node {
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
    for (space, wanted) in lacks.list {
        let entry = wanted.clone().map(|name| name.map(|name| ("name".to_owned(), Json::String(name))).into_iter().collect());
        super::put(store, List::Followed, &space, entry).await?;
        match wanted {
            Some(name) => drop(now.list.insert(space, name)),
            None => drop(now.list.remove(&space)),
        }
    }
    Ok(Some(now))
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

fn remembered(store: &Store) -> Last {
    let read = || serde_json::from_slice(&std::fs::read(store.home().join(FILE)).ok()?).ok();
    read().unwrap_or_default()
}

fn remember(store: &Store, last: &Last) -> std::io::Result<()> {
    crate::files::write_whole(&store.home().join(FILE), &serde_json::to_vec(last).map_err(std::io::Error::other)?)
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
        // List and node, what each had said before, and what both say after they were told.
        for (list, node, list_before, node_before, both) in [
            ("", "a:ada", "", "", "a:ada"),
            ("a:ada", "", "", "", "a:ada"),
            ("", "a:ada b", "a:ada b", "a:ada b", ""),
            ("a:ada", "", "a:ada", "a:ada", ""),
            ("a:ada", "a:countess", "a:ada", "a:ada", "a:countess"),
            ("a:countess", "a:ada", "a:ada", "a:ada", "a:countess"),
            // Both did something: the list has it.
            ("a:ada", "a:countess", "a", "a", "a:ada"),
            ("", "a:countess", "a:ada", "a:ada", ""),
            // As it was before there was a list.
            ("a:ada", "b", "", "", "a:ada b"),
            // The node was told, and has not heard; then the owner ends it before it was looked at again.
            ("a:countess", "a:ada", "a:countess", "a:ada", "a:countess"),
            ("a:countess", "", "a:countess", "a:ada", ""),
        ] {
            let last = Last { list: followed(list_before), node: followed(node_before) };
            let (mut list_now, mut node_now) = (followed(list), followed(node));
            let lacks = compare(&list_now, &node_now, &last, |_, _| false);
            for (to, what) in [(&mut list_now, lacks.list), (&mut node_now, lacks.node)] {
                for (space, wanted) in what {
                    match wanted {
                        Some(name) => drop(to.insert(space, name)),
                        None => drop(to.remove(&space)),
                    }
                }
            }
            assert_eq!((&list_now, &node_now), (&followed(both), &followed(both)), "{list} and {node}, before {list_before} and {node_before}");
        }
    }

    /// Somebody has a new key, and his name goes there: "bob" means another one than in the list until all have heard.
    #[test]
    fn a_name_that_goes_to_somebody_else_goes_there_on_all_devices() {
        let taken_by = |text: &str| {
            let node = followed(text);
            move |space: &PublicKey, name: &str| node.iter().any(|(other, known)| other != space && known.as_deref() == Some(name))
        };
        let last = Last { list: followed("o:bob"), node: followed("o:bob") };
        // Where it was said: the old one was renamed, and is not followed any more a moment later.
        let renamed = "o:before n:bob";
        let lacks = compare(&followed("o:bob"), &followed(renamed), &last, taken_by(renamed));
        assert_eq!(lacks.list.into_iter().collect::<BTreeMap<_, _>>(), followed(renamed).into_iter().map(|(who, name)| (who, Some(name))).collect());
        assert_eq!(lacks.node, []);
        let (old, new) = (*followed("o").keys().next().expect("one"), *followed("n").keys().next().expect("one"));
        let lacks = compare(&followed("o:bob"), &followed("n:bob"), &last, taken_by("n:bob"));
        assert_eq!(lacks.list.into_iter().collect::<BTreeMap<_, _>>(), BTreeMap::from([(old, None), (new, Some(Some("bob".to_owned())))]));
        // On another device, which hears of the new one first.
        let heard = compare(&followed("o:bob n:bob"), &followed("o:bob"), &last, taken_by("o:bob"));
        assert_eq!((heard.list, heard.node), (vec![], vec![(new, Some(None))]));
        let last = Last { list: followed("o:bob n:bob"), node: followed("o:bob") };
        let heard = compare(&followed("o:bob n:bob"), &followed("o:bob n"), &last, taken_by("o:bob"));
        assert_eq!(heard, Lacks::default(), "it has no name before the other has lost it");
        let last = Last { list: followed("o:bob n:bob"), node: followed("o:bob n") };
        let heard = compare(&followed("o:before n:bob"), &followed("o:bob n"), &last, taken_by("o:bob n"));
        assert_eq!((heard.list, heard.node), (vec![], vec![(old, Some(Some("before".to_owned())))]));
        let last = Last { list: followed("o:before n:bob"), node: followed("o:bob n") };
        let heard = compare(&followed("o:before n:bob"), &followed("o:before n"), &last, taken_by("o:before n"));
        assert_eq!((heard.list, heard.node), (vec![], vec![(new, Some(Some("bob".to_owned())))]));
    }
}
