//! Whom the owner follows, has muted and has blocked: lists in his own space, at `/lists/followed/<key>`, `/lists/muted/<key>`
//! and `/lists/blocked/<key>`, so that all his devices have them. The path is kept apart from the first entry on: whom one
//! wants to hear, and whom not, is nobody else's business. Devices that begin a list without knowing of each other keep it in
//! a timeline each; what is in any of them counts.
//!
//! What the owner calls his devices is at `/lists/devices/<key>`: see [`crate::devices::names`].
//!
//! Who took invites, and what he called himself then, is at `/lists/guests/<device>`, if the owner has several devices: see
//! [`crate::invites::elsewhere`].
//!
//! Whose name went to a new key is at `/lists/moved/<old key>`: see [`moved`].
//!
//! Who is **followed** on one device is so on the others, under the same name: see [`followed`].
//!
//! Who is **muted** is still fetched, served and let in; only what comes of him is not shown: his notices, likes and answers
//! here, and by apps that ask for the lists. Who is **blocked** is also not called, not synced with and not answered; that the
//! node does by its own list, which follows this one ([`follow`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use timebus_identity::PublicKey;
use timebus_store::json::Json;
use timebus_store::op::{Op, PathStep};
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::{StorageError, Store};
use timebus_store::tree::Tree;
use timebus_store::value::Value;
use timebus_store::writer::{Action, Condition, Request, Statement, WriteError};

use crate::network::Network;
use crate::node::Event;
use crate::who::now_ms;
use crate::whose::spaces_of;

pub(crate) mod followed;
pub(crate) mod moved;

/// Where the lists are.
const LISTS: &str = "/lists";
/// Most entries of one list that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// One of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Kept here, with everything new.
    Followed,
    /// Not shown.
    Muted,
    /// Nothing to do with.
    Blocked,
    /// With a new key, by the old one.
    Moved,
    /// A device of the owner, with its name.
    Devices,
    /// A device that took an invite of one of the owner's, with what it said of itself.
    Guests,
    /// An invite that was taken back on another device than the one that made it, by its id.
    Invites,
}

impl List {
    fn name(self) -> &'static str {
        match self {
            Self::Followed => "followed",
            Self::Muted => "muted",
            Self::Blocked => "blocked",
            Self::Moved => "moved",
            Self::Devices => "devices",
            Self::Guests => "guests",
            Self::Invites => "invites",
        }
    }

    fn path(self) -> Option<Path> {
        Path::parse(&format!("{LISTS}/{}", self.name())).ok()
    }
}

/// Who is on a list of the own space; `None` if there never was one.
pub(crate) fn read(store: &Store, list: List) -> Result<Option<BTreeSet<PublicKey>>, StorageError> {
    Ok(read_with(store, list, |_| ())?.map(|found| found.into_keys().collect()))
}

/// Who is on a list of the own space, and something of his entry.
pub(crate) fn read_with<T>(store: &Store, list: List, of: impl Fn(&Tree) -> T) -> Result<Option<BTreeMap<PublicKey, T>>, StorageError> {
    let Some(path) = list.path() else { return Ok(None) };
    let rows = store.snapshot();
    let mut found = BTreeMap::new();
    // A list that was emptied is one, too; one in which nothing was ever written is not.
    let mut was_written = false;
    for at in store.at_all(store.own(), &path) {
        let tree = store.tree(&rows, at, &path)?;
        for (name, entry) in tree.names.iter().take(ENTRIES_MAX) {
            // What is written goes where the list shows, so what is said there is the latest.
            if let Ok(who) = name.parse::<PublicKey>() {
                found.entry(who).or_insert_with(|| of(entry));
            }
        }
        was_written |= !found.is_empty() || !store.version(&rows, at, &path)?.is_empty();
    }
    Ok(was_written.then_some(found))
}

/// Whether somebody, or something by its name, is on a list of the own space.
pub(crate) fn has(store: &Store, list: List, who: &(impl Display + ?Sized)) -> Result<bool, StorageError> {
    Ok(!entries(store, list, who)?.is_empty())
}

/// Where somebody's entries in a list are.
fn entries(store: &Store, list: List, who: &(impl Display + ?Sized)) -> Result<Vec<(Space, Path)>, StorageError> {
    let Ok(path) = Path::parse(&format!("{LISTS}/{}/{who}", list.name())) else { return Ok(Vec::new()) };
    let rows = store.snapshot();
    let mut found = Vec::new();
    for at in store.at_all(store.own(), &path) {
        if !store.tree(&rows, at, &path)?.is_absent() {
            found.push((at, path.clone()));
        }
    }
    Ok(found)
}

/// Those of whom nothing is shown: who is muted, and who is blocked.
pub(crate) fn quiet(store: &Store) -> Result<BTreeSet<PublicKey>, StorageError> {
    let mut all = read(store, List::Muted)?.unwrap_or_default();
    all.extend(read(store, List::Blocked)?.unwrap_or_default());
    Ok(all)
}

/// Whether the owner wants nothing to do with whoever has a key: with it, or with the space whose device it is.
pub(crate) fn is_blocked(store: &Store, key: &PublicKey) -> bool {
    let is_on = |who: &PublicKey| has(store, List::Blocked, who).unwrap_or(false);
    is_on(key) || spaces_of(store, key, true).iter().any(is_on)
}

/// Puts somebody on a list, or takes him off.
pub(crate) async fn set(store: &Store, list: List, who: &PublicKey, is_on: bool) -> Result<(), WriteError> {
    put(store, list, who, is_on.then(BTreeMap::new)).await
}

/// Puts somebody on a list with the keys that said that they are his, or takes all of them off that were put there for him. Whose
/// space is not here is not known to have them otherwise.
pub(crate) async fn set_person(store: &Store, list: List, who: &PublicKey, keys: &[PublicKey], is_on: bool) -> Result<(), WriteError> {
    let of = who.to_string();
    if is_on {
        for key in keys.iter().filter(|key| *key != who) {
            put(store, list, key, Some([("of".to_owned(), Json::String(of.clone()))].into())).await?;
        }
    } else {
        for (key, _) in read_with(store, list, said_of)?.unwrap_or_default().into_iter().filter(|(_, said)| said.as_ref() == Some(who)) {
            set(store, list, &key, false).await?;
        }
    }
    set(store, list, who, is_on).await
}

/// For whom an entry is on a list, if that is somebody else.
pub(crate) fn said_of(entry: &Tree) -> Option<PublicKey> {
    match &entry.names.get("of")?.writes.first()?.value {
        Value::String(of) => of.parse().ok(),
        _ => None,
    }
}

/// Puts somebody on a list, or something by its name, with what is to be said of him there, or takes him off.
pub(crate) async fn put(
    store: &Store,
    list: List,
    who: &(impl Display + Sync + ?Sized),
    entry: Option<BTreeMap<String, Json>>,
) -> Result<(), WriteError> {
    let Some(mut entry) = entry else {
        for (space, path) in entries(store, list, who)? {
            write(store, space, path, Action::Delete).await?;
        }
        return Ok(());
    };
    if let Ok(lists) = Path::parse(LISTS)
        && store.rights(&store.space()).is_some_and(|rights| rights.mount_of(&lists).is_none())
        && store.tree(&store.snapshot(), store.own(), &lists)?.is_absent()
    {
        let mount = Op::Mount { path: vec![PathStep::Name("lists".into())], mode: timebus_store::auth::mounts::MODE_DAG, params: Box::default() };
        store.state(Statement::Ops(vec![mount]), now_ms()).await?;
    }
    let Ok(path) = Path::parse(&format!("{LISTS}/{}/{who}", list.name())) else { return Ok(()) };
    entry.entry("at".to_owned()).or_insert_with(|| Json::Int(i64::try_from(now_ms()).unwrap_or(i64::MAX)));
    let space = store.at(store.own(), &path);
    write(store, space, path, Action::Put(Json::Object(entry))).await
}

/// Whether the lists are kept apart.
#[cfg(test)]
pub(crate) fn is_apart(store: &Store) -> bool {
    let lists = Path::parse(LISTS).expect("a path");
    store.rights(&store.space()).is_some_and(|rights| rights.mount_of(&lists).is_some())
}

/// Writes a word of the owner's.
pub(crate) async fn write(store: &Store, space: Space, path: Path, action: Action) -> Result<(), WriteError> {
    let (space, condition) = (Some(space), Condition::None);
    let request = Request { space, path, action, parents: None, label: None, condition, time_ms: now_ms(), durable: true, may_name: None };
    match store.write(request).await {
        Ok(_) | Err(WriteError::Absent(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the list said when the node was told of it the last time, so that what another device takes off it meanwhile is noticed.
fn remembered(file: &std::path::Path) -> Option<BTreeSet<PublicKey>> {
    let text: Vec<String> = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    Some(text.iter().filter_map(|key| key.parse().ok()).collect())
}

/// Has the node block whom the list says, for as long as both are there; also what another device of the owner's wrote.
pub(crate) fn follow(store: &Store, network: &Network) {
    let (store, asker) = (store.clone(), network.asker());
    let mut arrivals = store.arrivals();
    let mut ends = network.changed();
    tokio::spawn(async move {
        let file = store.home().join("blocked.json");
        let mut last: Option<BTreeSet<PublicKey>> = remembered(&file);
        loop {
            match read(&store, List::Blocked) {
                Err(error) => tracing::warn!(%error, "the list of those who are blocked could not be read"),
                Ok(list) if list == last => {}
                Ok(None) => {}
                Ok(Some(list)) => {
                    let Some(known) = asker.ask(|node| node.book().blocked.clone()).await else { return };
                    let known: BTreeSet<PublicKey> = known.into_iter().collect();
                    list.difference(&known).for_each(|who| asker.tell(Event::Block { who: *who, is_blocked: true }));
                    // What was blocked before there were lists stays until somebody says something else.
                    let before: &BTreeSet<PublicKey> = last.as_ref().unwrap_or(&list);
                    before.difference(&list).for_each(|who| asker.tell(Event::Block { who: *who, is_blocked: false }));
                    let text: Vec<String> = list.iter().map(ToString::to_string).collect();
                    let saved = serde_json::to_vec(&text).map_err(std::io::Error::other).and_then(|bytes| crate::files::write_whole(&file, &bytes));
                    if let Err(error) = saved {
                        tracing::warn!(%error, "blocked.json was not written");
                    }
                    last = Some(list);
                }
            }
            tokio::select! {
                arrived = arrivals.changed() => if arrived.is_err() { return },
                // The network was left.
                _ = async { while ends.changed().await.is_ok() {} } => return,
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;
    use timebus_store::change::Change;
    use timebus_store::store::{Config, lock_home};
    use timebus_store::writer::verify_all;

    use super::*;

    fn open(home: &std::path::Path) -> Store {
        Store::open(home, lock_home(home).expect("a free home"), &Config::default(), 1, &mut |_| {}).expect("a new store")
    }

    fn key(number: u8) -> PublicKey {
        SecretKey::from_seed([number; 32]).public()
    }

    /// Two devices that do not know of each other mount a timeline each, and one of them shows.
    #[tokio::test(flavor = "multi_thread")]
    async fn lists_that_were_begun_apart_are_one() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let store = open(home.path());
        for number in [1, 2] {
            let mount = Op::Mount { path: vec![PathStep::Name("lists".into())], mode: timebus_store::auth::mounts::MODE_DAG, params: Box::default() };
            store.state(Statement::Ops(vec![mount]), 1).await.expect("mounted");
            set(&store, List::Muted, &key(number), true).await.expect("set");
        }
        let path = List::Muted.path().expect("a path");
        assert_eq!(store.at_all(store.own(), &path).len(), 2);
        assert_eq!(store.tree(&store.snapshot(), store.at(store.own(), &path), &path).expect("read").names.len(), 1, "one shows");
        assert_eq!(read(&store, List::Muted).expect("read"), Some([key(1), key(2)].into()));
        assert!(has(&store, List::Muted, &key(1)).expect("read") && !has(&store, List::Blocked, &key(1)).expect("read"));
        set(&store, List::Muted, &key(1), false).await.expect("set");
        assert_eq!(read(&store, List::Muted).expect("read"), Some([key(2)].into()));
        set(&store, List::Muted, &key(2), false).await.expect("set");
        assert_eq!(read(&store, List::Muted).expect("read"), Some(BTreeSet::new()), "an emptied list is one");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_blocked_is_so_with_each_of_his_devices() {
        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let (alice, bob) = (open(homes[0].path()), open(homes[1].path()));
        let rows = bob.snapshot();
        let records =
            bob.changes(&rows, bob.own().auth(), 0).map(|change| bob.record(&rows, bob.own().auth(), change.expect("read").0).expect("read"));
        let changes = verify_all(records.map(|record| Change::decode(&record).expect("a change")).collect()).expect("signed");
        alice.offer(changes).await.expect("taken");
        let (space, device) = (bob.space(), bob.device());
        assert!(!is_blocked(&alice, &space) && !is_blocked(&alice, &device));
        set(&alice, List::Blocked, &space, true).await.expect("set");
        assert!(is_blocked(&alice, &space) && is_blocked(&alice, &device) && !is_blocked(&alice, &key(1)));
        set(&alice, List::Blocked, &space, false).await.expect("set");
        assert!(!is_blocked(&alice, &space) && !is_blocked(&alice, &device));
    }
}
