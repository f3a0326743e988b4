//! What those begin with who watch one path in one form, made once for all of them.
//!
//! A long one is kept as long as somebody has not read all of it, and whoever comes meanwhile, with nothing new, gets the same
//! bytes. So many who read slowly, or nothing, cost what one of them does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use timebus_identity::PublicKey;
use timebus_store::feed::Version;
use timebus_store::path::Path;
use timebus_store::pipeline::Space;

use super::Form;
use crate::others::{LARGE_BYTES, Reader};
use crate::peer::lock;

/// What is watched, in which form, and by whom: it is counted for whom it was made, so nobody shares what was made for a guest.
pub(super) type Key = (Space, Path, Form, Whose);

/// The owner's, nobody's in particular, or a guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Owner,
    Nobody,
    Guest(PublicKey),
}

impl From<Option<Reader>> for Whose {
    fn from(reader: Option<Reader>) -> Self {
        match reader {
            None => Self::Owner,
            Some(Reader::Address(_)) => Self::Nobody,
            Some(Reader::Key(key)) => Self::Guest(key),
        }
    }
}

/// All that is at a path, as it is sent.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The latest change in it.
    pub(super) upto: u64,
    /// How often something had been told by then that has to be read again.
    pub(super) again: u64,
    pub(super) version: Version,
    /// The media type, if it is a text.
    pub(super) media: Option<Box<str>>,
    pub(super) text: Bytes,
}

/// Somebody has a snapshot.
pub(super) struct Shared(Arc<Snapshot>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.text
    }
}

impl std::ops::Deref for Shared {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// The long snapshots that somebody has.
#[derive(Debug, Default)]
pub(crate) struct Snapshots(Mutex<HashMap<Key, Weak<Snapshot>>>);

impl Snapshots {
    pub(super) fn find(&self, key: &Key) -> Option<Shared> {
        lock(&self.0).get(key).and_then(Weak::upgrade).map(Shared)
    }

    /// Has others share a snapshot, if it is long.
    pub(super) fn share(&self, key: Key, snapshot: Snapshot) -> Bytes {
        if snapshot.text.len() < LARGE_BYTES {
            return snapshot.text;
        }
        let snapshot = Arc::new(snapshot);
        let mut all = lock(&self.0);
        // There are few: each is long, and somebody has it.
        all.retain(|_, other| other.strong_count() > 0);
        all.insert(key, Arc::downgrade(&snapshot));
        Bytes::from_owner(Shared(snapshot))
    }
}

#[cfg(test)]
mod tests {
    use timebus_store::path::Path;
    use timebus_store::writer::{Action, Condition, Request};

    use crate::others::{LARGE_BYTES, Reader};
    use crate::peer::{Peer, PeerConfig};
    use crate::problem::Problem;
    use crate::watch::{Form, Start, Watch};
    use crate::who::Who;

    fn at(last: u8) -> Reader {
        Reader::Address([192, 0, 2, last].into())
    }

    fn watch(peer: &Peer, reader: Option<Reader>, path: &str, form: Form) -> Result<Watch, Problem> {
        let (space, path) = (peer.store().own(), Path::parse(path).expect("a path"));
        let (client, merge, from, window, origin) = Default::default();
        Watch::start(peer, Start { who: &Who::Owner, reader, space, path: &path, form, client, merge, is_whole: false, from, window, origin })
    }

    fn first(watch: &mut Watch) -> bytes::Bytes {
        watch.take().ok().flatten().expect("a snapshot")
    }

    async fn put(peer: &Peer, path: &str, text: String) {
        let (action, path) = (Action::Put(timebus_store::json::Json::String(text)), Path::parse(path).expect("a path"));
        let condition = Condition::None;
        let request = Request { space: None, path, action, parents: None, label: None, condition, time_ms: 1, durable: true, may_name: None };
        peer.store().write(request).await.expect("written");
    }

    fn peer(home: &std::path::Path, config: PeerConfig) -> Peer {
        let lock = timebus_store::store::lock_home(home).expect("a free home");
        let store = timebus_store::store::Store::open(home, lock, &Default::default(), 1, &mut |_| {}).expect("a new store");
        Peer::new(store, timebus_identity::Token::generate(), config)
    }

    /// Each stream had a snapshot of its own, and a thousand who read nothing had all the memory there is.
    #[tokio::test]
    async fn many_who_read_nothing_have_one_snapshot() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(home.path(), PeerConfig::default());
        let others = peer.others();
        put(&peer, "/long", "x".repeat(LARGE_BYTES)).await;
        put(&peer, "/short", "x".to_owned()).await;
        let mut all: Vec<Watch> = (0..20).map(|number| watch(&peer, Some(at(number)), "/long", Form::Events).expect("room")).collect();
        let bytes = all.iter().map(|watch| watch.first.iter().map(bytes::Bytes::len).sum::<usize>()).max().expect("some");
        assert!((LARGE_BYTES..bytes).contains(&others.kept()), "{} is kept of {bytes} for each", others.kept());
        let (one, other) = all.split_at_mut(1);
        let (one, other) = (first(&mut one[0]), first(&mut other[0]));
        assert_eq!((one.as_ptr(), one.len()), (other.as_ptr(), others.kept()));
        // It tells the version as that of who came first does, and what comes then.
        let told = |watch: &mut Watch| String::from_utf8(first(watch).to_vec()).expect("text");
        let caught_up = told(&mut all[0]);
        assert!(caught_up.contains("\"caught_up\":true") && caught_up == told(&mut all[1]), "{caught_up}");
        // In another form it is another one, and the owner's is not counted.
        let before = others.kept();
        let lines = watch(&peer, Some(at(1)), "/long", Form::Lines).expect("room");
        assert!(others.kept() > before + LARGE_BYTES);
        drop(lines);
        let mut own = watch(&peer, None, "/long", Form::Events).expect("room");
        assert_eq!((others.kept(), first(&mut own) == one), (before, true));
        // What is new is another one.
        put(&peer, "/long", "y".repeat(LARGE_BYTES)).await;
        let mut new = watch(&peer, Some(at(1)), "/long", Form::Events).expect("room");
        let new = first(&mut new);
        assert_ne!(new, one);
        assert_eq!(others.kept(), one.len() + new.len());
        assert_eq!(told(&mut all[0]).matches("\"put\":\"/long\"").count(), 1);
        drop((all, one, other));
        assert_eq!(others.kept(), new.len());
        drop(new);
        assert_eq!(others.kept(), 0);
        peer.stop();
    }

    #[tokio::test]
    async fn when_too_much_waits_nothing_long_begins_but_for_the_owner() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(home.path(), PeerConfig::default());
        put(&peer, "/long", "x".repeat(LARGE_BYTES)).await;
        put(&peer, "/short", "x".to_owned()).await;
        let waits = peer.others().keep(Some(at(1)), vec![0; 32 << 20].into());
        let refused = watch(&peer, Some(at(1)), "/long", Form::Braid).err().expect("no room");
        assert_eq!((refused.status.as_u16(), refused.kind), (429, "unread"));
        assert!(watch(&peer, Some(at(1)), "/short", Form::Braid).is_ok());
        assert!(watch(&peer, None, "/long", Form::Braid).is_ok());
        // What others have made costs nothing more.
        let shared = watch(&peer, Some(at(2)), "/long", Form::Braid).expect("room");
        assert!(watch(&peer, Some(at(1)), "/long", Form::Braid).is_ok());
        drop((shared, waits));
        assert!(watch(&peer, Some(at(1)), "/long", Form::Lines).is_ok());
        peer.stop();
    }

    #[tokio::test]
    async fn nobody_has_so_many_streams_at_one_address_or_with_one_key() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let peer = peer(home.path(), PeerConfig { address_subscriptions_max: 2, key_subscriptions_max: 3, ..PeerConfig::default() });
        let guest = Reader::Key(timebus_identity::PublicKey::from_bytes([1; 32]));
        let other = Reader::Key(timebus_identity::PublicKey::from_bytes([2; 32]));
        let mut open: Vec<Watch> = (0..2).map(|_| watch(&peer, Some(at(1)), "/x", Form::Events).expect("room")).collect();
        let refused = watch(&peer, Some(at(1)), "/x", Form::Events).err().expect("no room");
        assert_eq!((refused.status.as_u16(), refused.kind), (429, "subscriptions"));
        for (reader, count) in [(Some(at(2)), 2), (Some(guest), 3), (None, 4)] {
            open.extend((0..count).map(|_| watch(&peer, reader, "/x", Form::Events).expect("room")));
        }
        // Nor with one key, by whatever connections.
        let refused = watch(&peer, Some(guest), "/x", Form::Events).err().expect("no room");
        assert_eq!((refused.status.as_u16(), refused.kind), (429, "subscriptions"));
        assert!(watch(&peer, Some(other), "/x", Form::Events).is_ok());
        open.remove(0);
        assert!(watch(&peer, Some(at(1)), "/x", Form::Events).is_ok());
        peer.stop();
    }
}
