//! Who is looking at a path, and where: cursors and the like, told to others who watch it here or at another peer, and
//! never stored.
//!
//! Who takes part has a seat in the room of the path. A seat holds one value, the latest; who is told takes the latest
//! of everybody when he can. So nothing waits for anybody, and a value that is not renewed is gone after a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use timebus_identity::{PublicKey, hash, random_bytes, z32};
use timebus_store::feed::Signal;
use timebus_store::ids::TimelineId;
use timebus_store::json::{Json, Limits, write_string};
use timebus_store::path::Path;
use timebus_store::pipeline::Space;
use timebus_store::store::Store;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::network::Network;
use crate::node::{Event, Heard};
use crate::peer::lock;
use crate::problem::Problem;
use crate::sync::frame;

/// Largest value, as JSON: a name, a colour and some cursors.
const VALUE_BYTES_MAX: usize = frame::SEAT_BYTES_MAX;
/// Most values at one path, and as many of other peers: as many people as a page can show.
const VALUES_MAX: usize = frame::SEATS_MAX;
/// As many of these as one person may have, and all whom he let in: a quarter, so that nobody takes the place of all others. The
/// owner of the space may have all, and beside those of others.
const EACH_MAX: usize = VALUES_MAX / 4;
/// News for other peers that wait to be told; of more, the latest are left out, and told when they are renewed.
const NEWS_MAX: usize = 1024;
/// How long news for other peers wait for later ones.
const PACE: Duration = Duration::from_millis(40);
/// How long a value lasts that is not renewed.
const LIFETIME: Duration = Duration::from_secs(30);

/// All rooms in which somebody is.
#[derive(Debug, Default)]
pub(crate) struct Presences {
    rooms: Mutex<HashMap<Place, Weak<Room>>>,
    /// What is for other peers.
    news: OnceLock<mpsc::Sender<(Place, Option<frame::Seat>)>>,
}

type Place = (Space, Path);
/// What is seen of each seat.
type Latest = BTreeMap<[u8; 8], Option<Bytes>>;

/// A path, and who is there.
#[derive(Debug)]
struct Room {
    place: Place,
    state: Mutex<State>,
    presences: Weak<Presences>,
}

#[derive(Debug, Default)]
struct State {
    /// By the name of the seat.
    values: BTreeMap<String, Value>,
    /// Counts changes.
    count: u64,
    signals: Vec<Weak<Signal>>,
}

#[derive(Debug)]
struct Value {
    by: PublicKey,
    /// With whose it is counted.
    counted: PublicKey,
    /// `None` when it is gone and others have to be told.
    json: Option<Vec<u8>>,
    /// The change that made it so.
    number: u64,
    until: Instant,
    /// The seat, if it is here and not at another peer.
    own: Option<[u8; 8]>,
}

/// Somebody's place in a room.
#[derive(Debug)]
pub(crate) struct Seat {
    room: Arc<Room>,
    id: [u8; 8],
    name: String,
    by: PublicKey,
    /// With whose it is counted.
    counted: PublicKey,
    /// Changes up to here were told.
    told: u64,
}

impl Presences {
    /// Takes a seat, for whom others are told, and with whose it is counted. `signal` is raised when there is something new.
    pub(crate) fn enter(self: &Arc<Self>, space: Space, path: &Path, (by, counted): (PublicKey, PublicKey), signal: &Arc<Signal>) -> Seat {
        let place = (space, path.clone());
        let mut rooms = lock(&self.rooms);
        let known = rooms.get(&place).and_then(Weak::upgrade);
        let is_first = known.is_none();
        let room = known.unwrap_or_else(|| {
            let room = Arc::new(Room { place: place.clone(), state: Mutex::default(), presences: Arc::downgrade(self) });
            rooms.insert(place, Arc::downgrade(&room));
            room
        });
        drop(rooms);
        if is_first {
            self.tell(&room.place, None);
        }
        let mut state = lock(&room.state);
        state.signals.retain(|signal| signal.strong_count() > 0);
        state.signals.push(Arc::downgrade(signal));
        drop(state);
        let id = random_bytes();
        Seat { room, id, name: z32::encode(&id), by, counted, told: 0 }
    }

    /// Tells other peers what is seen of somebody, or asks them who is there.
    fn tell(&self, place: &Place, seat: Option<frame::Seat>) {
        if let Some(news) = self.news.get() {
            let _ = news.try_send((place.clone(), seat));
        }
    }

    /// Takes what another peer said.
    fn hear(&self, timeline_of: impl Fn(Space) -> TimelineId, counted_as: impl Fn(Space, &PublicKey) -> PublicKey, heard: &Heard) {
        let rooms: Vec<Arc<Room>> = lock(&self.rooms).values().filter_map(Weak::upgrade).collect();
        for room in rooms.iter().filter(|room| room.place.1 == heard.path && timeline_of(room.place.0) == heard.timeline) {
            if heard.seats.is_empty() {
                for (id, json) in room.own() {
                    self.tell(&room.place, Some(frame::Seat { name: id, value: Some(json.into()) }));
                }
            }
            for seat in &heard.seats {
                // A name is its peer's, so that nobody speaks for others.
                let name = z32::encode(&hash("presence seat", &[heard.device.as_bytes(), &seat.name])[..8]);
                let json = seat.value.as_ref().map(|value| Json::parse(value, Limits::default()));
                let json = match json.transpose() {
                    Ok(json) => json.map(|json| written(&json)),
                    Err(_) => continue,
                };
                // What was said before is only renewed.
                if json.is_some()
                    && let Some(value) = lock(&room.state).values.get_mut(&name).filter(|value| value.json == json)
                {
                    value.until = Instant::now() + LIFETIME;
                    continue;
                }
                let is_new = json.is_some() && !lock(&room.state).values.contains_key(&name);
                let counted = counted_as(room.place.0, &heard.by);
                let is_full = || !lock(&room.state).has_room(room.place.0, &counted, false);
                let is_gone = json.is_none() && !lock(&room.state).values.contains_key(&name);
                let is_large = json.as_ref().is_some_and(|json| json.len() > VALUE_BYTES_MAX);
                if is_gone || is_large || is_new && is_full() {
                    continue;
                }
                room.put(&name, (heard.by, counted), json, None);
            }
        }
    }
}

/// Lets other peers know who looks at what here, and the other way round.
pub(crate) fn tell_others(presences: &Arc<Presences>, store: &Store, network: &Network) {
    let (out, mut news) = mpsc::channel(NEWS_MAX);
    if presences.news.set(out).is_err() {
        return;
    }
    let (asker, ours) = (network.asker(), store.clone());
    tokio::spawn(async move {
        while let Some(first) = news.recv().await {
            tokio::time::sleep(PACE).await;
            let mut all: BTreeMap<(TimelineId, Vec<u8>), (Path, bool, Latest)> = BTreeMap::new();
            for ((space, path), seat) in std::iter::once(first).chain(std::iter::from_fn(|| news.try_recv().ok())) {
                let timeline = ours.timeline(space);
                let (_, asks, seats) = all.entry((timeline, path.key())).or_insert_with(|| (path, false, Latest::new()));
                match seat {
                    Some(seat) => drop(seats.insert(seat.name, seat.value)),
                    None => *asks = true,
                }
            }
            for ((timeline, _), (path, asks, seats)) in all {
                if asks {
                    asker.tell(Event::Presence { timeline, path: path.clone(), seats: Vec::new() });
                }
                let seats: Vec<_> = seats.into_iter().map(|(name, value)| frame::Seat { name, value }).collect();
                for seats in seats.chunks(frame::SEATS_MAX) {
                    asker.tell(Event::Presence { timeline, path: path.clone(), seats: seats.to_vec() });
                }
            }
        }
    });
    let (presences, store, mut heard) = (Arc::downgrade(presences), store.clone(), network.heard());
    tokio::spawn(async move {
        loop {
            match heard.recv().await {
                Ok(heard) => {
                    let Some(presences) = presences.upgrade() else { return };
                    presences.hear(|space| store.timeline(space), |space, key| counted_as(&store, space, key), &heard);
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
}

/// With whose places in a space those of somebody are counted: those of who let him in. Keys are made at will, so all that nobody let
/// in are one.
pub(crate) fn counted_as(store: &Store, space: Space, key: &PublicKey) -> PublicKey {
    let rights = store.rights(&space.key);
    let let_in_by = || crate::ledger::sponsors(rights.as_deref()?, key).into_iter().min();
    // Of other peers it is told whose they are, where that one's space is here: rights are given to keys of devices.
    let is_person = || *key == space.key || store.held(key).is_some();
    let is_known = || is_person() || rights.as_ref().is_some_and(|rights| rights.was_device(key) || rights.is_member(key));
    crate::devices::first(store, key).or_else(let_in_by).unwrap_or_else(|| if is_known() { *key } else { PublicKey::from_bytes([0; 32]) })
}

fn written(json: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    json.write(&mut out);
    out
}

impl State {
    /// Whether one more may be seen here, of those who are here or of others.
    fn has_room(&self, space: Space, counted: &PublicKey, is_own: bool) -> bool {
        let mut all = self.values.values().filter(|value| value.own.is_some() == is_own && (!is_own || value.json.is_some()));
        let (mut seen, mut his) = (0, 0);
        all.by_ref().for_each(|value| (seen, his) = (seen + 1, his + usize::from(value.counted == *counted)));
        if *counted == space.key { his < VALUES_MAX } else { seen < VALUES_MAX && his < EACH_MAX }
    }
}

impl Room {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let signals: Vec<_> = {
            let mut state = lock(&self.state);
            state.count += 1;
            change(&mut state);
            state.signals.iter().filter_map(Weak::upgrade).collect()
        };
        for signal in signals {
            signal.raise();
        }
    }

    /// What is seen of those who are here.
    fn own(&self) -> Vec<([u8; 8], Vec<u8>)> {
        let state = lock(&self.state);
        state.values.values().filter_map(|value| Some((value.own?, value.json.clone()?))).collect()
    }

    /// What is seen of somebody from now on.
    fn put(self: &Arc<Self>, name: &str, (by, counted): (PublicKey, PublicKey), json: Option<Vec<u8>>, own: Option<[u8; 8]>) {
        let is_first = lock(&self.state).values.is_empty();
        self.change(|state| {
            let value = Value { by, counted, json, number: state.count, until: Instant::now() + LIFETIME, own };
            state.values.insert(name.to_owned(), value);
            if state.values.len() > 4 * VALUES_MAX {
                // Many came and went at once; who is told late only keeps seeing them a little longer.
                state.values.retain(|_, value| value.json.is_some());
            }
        });
        if is_first {
            let room = Arc::downgrade(self);
            tokio::spawn(async move {
                while let Some(next) = room.upgrade().and_then(|room| room.expire()) {
                    tokio::time::sleep_until(next).await;
                }
            });
        }
    }

    /// Takes out what was not renewed; says when to look again.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let is_due = |value: &Value| value.json.is_some() && value.until <= now;
        if lock(&self.state).values.values().any(is_due) {
            self.change(|state| {
                for value in state.values.values_mut().filter(|value| is_due(value)) {
                    (value.json, value.number, value.until) = (None, state.count, now + LIFETIME);
                }
            });
        }
        let mut state = lock(&self.state);
        // Whoever did not hear of it within that time is told everything anew.
        state.values.retain(|_, value| value.json.is_some() || value.until > now);
        state.values.values().map(|value| value.until).min()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(presences) = self.presences.upgrade() {
            let mut rooms = lock(&presences.rooms);
            if rooms.get(&self.place).is_some_and(|room| room.strong_count() == 0) {
                rooms.remove(&self.place);
            }
        }
    }
}

impl Seat {
    /// Says what others see here; nothing takes it away.
    ///
    /// # Errors
    ///
    /// What is too large, and who comes to a full room.
    pub(crate) fn set(&self, value: Option<&Json>) -> Result<(), Problem> {
        let json = value.map(written);
        if json.as_ref().is_some_and(|json| json.len() > VALUE_BYTES_MAX) {
            let detail = format!("a presence has at most {VALUE_BYTES_MAX} bytes of JSON");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "presence", "the presence is too large", detail));
        }
        {
            let state = lock(&self.room.state);
            if json.is_some() && !state.values.contains_key(&self.name) && !state.has_room(self.room.place.0, &self.counted, true) {
                let detail = format!("{VALUES_MAX} people can be seen at one path, and {EACH_MAX} of them who are one, or came by one");
                return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "presence", "too many are here", detail));
            }
            if json.is_none() && !state.values.contains_key(&self.name) {
                return Ok(());
            }
        }
        if let Some(presences) = self.room.presences.upgrade() {
            let value = json.clone().map(Into::into);
            presences.tell(&self.room.place, Some(frame::Seat { name: self.id, value }));
        }
        self.room.put(&self.name, (self.by, self.counted), json, Some(self.id));
        Ok(())
    }

    /// Whether there is something new.
    pub(crate) fn has_news(&self) -> bool {
        lock(&self.room.state).count > self.told
    }

    /// Writes what is new of others, as a member of an event; says whether there is anything.
    pub(crate) fn write_news(&mut self, out: &mut Vec<u8>) -> bool {
        let state = lock(&self.room.state);
        let news = state.values.iter().filter(|(name, value)| value.number > self.told && **name != self.name);
        let mut is_empty = true;
        for (name, value) in news {
            out.extend_from_slice(if is_empty { b"\"presence\":[{\"who\":" } else { b",{\"who\":" });
            is_empty = false;
            write_string(name, out);
            match &value.json {
                Some(json) => {
                    out.extend_from_slice(format!(",\"by\":\"{}\",\"value\":", value.by).as_bytes());
                    out.extend_from_slice(json);
                    out.push(b'}');
                }
                None => out.extend_from_slice(b",\"gone\":true}"),
            }
        }
        if !is_empty {
            out.push(b']');
        }
        self.told = state.count;
        !is_empty
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.set(None);
    }
}

#[cfg(test)]
mod tests {
    use timebus_identity::SecretKey;

    use super::*;

    fn room() -> (Arc<Presences>, Space, PublicKey, Arc<Signal>) {
        let key = SecretKey::generate().public();
        (Arc::default(), Space::new(key, 0), key, Arc::default())
    }

    fn news(seat: &mut Seat) -> String {
        let mut out = Vec::new();
        seat.write_news(&mut out);
        String::from_utf8(out).expect("JSON")
    }

    #[tokio::test(start_paused = true)]
    async fn others_see_the_latest_until_it_is_gone() {
        let (presences, space, key, signal) = room();
        let path = Path::root();
        let a = presences.enter(space, &path, (key, key), &signal);
        let mut b = presences.enter(space, &path, (key, key), &signal);
        assert!(!b.has_news());
        a.set(Some(&Json::Int(1))).expect("room");
        a.set(Some(&Json::Int(2))).expect("room");
        assert_eq!(news(&mut b), format!("\"presence\":[{{\"who\":\"{}\",\"by\":\"{key}\",\"value\":2}}]", a.name));
        assert!(!b.has_news());
        // Who comes later sees who is there.
        let mut c = presences.enter(space, &path, (key, key), &signal);
        assert!(news(&mut c).contains("\"value\":2"));
        tokio::time::sleep(LIFETIME + Duration::from_secs(1)).await;
        assert_eq!(news(&mut b), format!("\"presence\":[{{\"who\":\"{}\",\"gone\":true}}]", a.name));
        a.set(Some(&Json::Int(3))).expect("room");
        assert!(news(&mut b).contains("\"value\":3"));
        drop(a);
        assert!(news(&mut b).contains("\"gone\":true"));
        drop((b, c));
        assert!(lock(&presences.rooms).is_empty());
    }

    #[tokio::test]
    async fn it_is_bounded() {
        let (presences, space, key, signal) = room();
        let seats: Vec<Seat> = (0..=VALUES_MAX).map(|_| presences.enter(space, &Path::root(), (key, key), &signal)).collect();
        for seat in &seats[..VALUES_MAX] {
            seat.set(Some(&Json::Null)).expect("room");
        }
        assert_eq!(seats[VALUES_MAX].set(Some(&Json::Null)).expect_err("full").status, StatusCode::TOO_MANY_REQUESTS);
        seats[0].set(Some(&Json::Int(1))).expect("who is there may go on");
        let large = Json::String("x".repeat(VALUE_BYTES_MAX));
        assert_eq!(seats[0].set(Some(&large)).expect_err("large").status, StatusCode::PAYLOAD_TOO_LARGE);
    }
    /// What a peer says of seats of its own at the root.
    fn heard(device: u8, seats: &[(u8, Option<&str>)]) -> Heard {
        let key = PublicKey::from_bytes([device; 32]);
        let seat = |(name, value): &(u8, Option<&str>)| frame::Seat { name: [*name; 8], value: value.map(|value| Bytes::from(value.to_owned())) };
        Heard { timeline: TimelineId([1; 32]), path: Path::root(), by: key, device: key, seats: seats.iter().map(seat).collect() }
    }

    fn here(_: Space) -> TimelineId {
        TimelineId([1; 32])
    }

    fn alone(_: Space, key: &PublicKey) -> PublicKey {
        *key
    }

    /// Bob's peer speaks for his space, and his right is his device's. Keys are made at will.
    #[tokio::test(flavor = "multi_thread")]
    async fn whom_nobody_let_in_and_who_is_not_known_is_one_with_all_others() {
        use timebus_store::grant::Actions;

        use crate::whose::tests::{grant_key, open, tell};

        let homes = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let [alice, bob] = homes.each_ref().map(|home| open(home.path()));
        let counted = |key: PublicKey| counted_as(&alice, alice.own(), &key);
        let [one, other] = [1, 2].map(|number| PublicKey::from_bytes([number; 32]));
        assert!(counted(one) == counted(other) && counted(bob.space()) == counted(one));
        assert_eq!(counted(alice.space()), alice.space());
        grant_key(&alice, bob.device(), Actions(Actions::SYNC.0 | Actions::READ.0)).await;
        grant_key(&bob, PublicKey::from_bytes([7; 32]), Actions::READ).await;
        tell(&bob, &bob.space(), &alice).await;
        assert_eq!([counted(bob.device()), counted(bob.space())], [bob.device(), bob.space()]);
    }

    /// A guest sits on all places, and nobody is seen any more.
    #[tokio::test]
    async fn nobody_takes_the_places_of_all_others() {
        let (presences, space, owner, signal) = room();
        let [guest, second, friend] = [1, 2, 3].map(|device| PublicKey::from_bytes([device; 32]));
        let seats: Vec<Seat> = (0..=EACH_MAX)
            .map(|number| presences.enter(space, &Path::root(), (if number % 2 == 0 { guest } else { second }, guest), &signal))
            .collect();
        for seat in &seats[..EACH_MAX] {
            seat.set(Some(&Json::Int(1))).expect("room");
        }
        assert_eq!(seats[EACH_MAX].set(Some(&Json::Int(1))).expect_err("full").status, StatusCode::TOO_MANY_REQUESTS);
        let other = presences.enter(space, &Path::root(), (friend, friend), &signal);
        other.set(Some(&Json::Int(1))).expect("room for others");
        // The owner has as many windows as he likes.
        let others = (0..VALUES_MAX as u8).map(|key| PublicKey::from_bytes([100 + key; 32]));
        let others: Vec<Seat> = others.map(|other| presences.enter(space, &Path::root(), (other, other), &signal)).collect();
        let taken = others.iter().filter(|seat| seat.set(Some(&Json::Int(1))).is_ok()).count();
        assert!(taken >= EACH_MAX, "{taken}");
        let windows: Vec<Seat> = (0..=EACH_MAX).map(|_| presences.enter(space, &Path::root(), (owner, owner), &signal)).collect();
        windows.iter().for_each(|seat| seat.set(Some(&Json::Int(1))).expect("room"));
        // The same of those who are at other peers.
        let mut seat = presences.enter(space, &Path::root(), (owner, owner), &signal);
        news(&mut seat);
        for name in 0..2 * EACH_MAX as u8 {
            presences.hear(here, |_, _| guest, &heard(4 + name % 2, &[(name, Some("2"))]));
        }
        presences.hear(here, alone, &heard(9, &[(0, Some("3"))]));
        let news = news(&mut seat);
        assert_eq!((news.matches("\"value\":2").count(), news.matches("\"value\":3").count()), (EACH_MAX, 1));
    }

    #[tokio::test]
    async fn who_comes_first_asks_other_peers_and_is_told_to_those_who_ask() {
        let (presences, space, key, signal) = room();
        let (out, mut told) = mpsc::channel(10);
        presences.news.set(out).expect("nobody is told yet");
        let seat = presences.enter(space, &Path::root(), (key, key), &signal);
        assert_eq!(told.try_recv().expect("a question").1, None);
        let other = presences.enter(space, &Path::root(), (key, key), &signal);
        assert!(told.try_recv().is_err(), "who is there was asked already");
        seat.set(Some(&Json::Int(1))).expect("room");
        let mine = Some(frame::Seat { name: seat.id, value: Some(Bytes::from_static(b"1")) });
        assert_eq!(told.try_recv().expect("news").1, mine);
        presences.hear(here, alone, &heard(1, &[(7, Some("2"))]));
        assert!(told.try_recv().is_err(), "what others say is not said again");
        presences.hear(here, alone, &heard(1, &[]));
        assert_eq!(told.try_recv().expect("an answer").1, mine);
        assert!(told.try_recv().is_err(), "whoever is at another peer is told by that");
        drop(seat);
        assert_eq!(told.try_recv().expect("news").1.expect("a seat").value, None);
        drop(other);
    }

    #[tokio::test]
    async fn no_peer_speaks_for_those_at_another_one() {
        let (presences, space, key, signal) = room();
        let mut seat = presences.enter(space, &Path::root(), (key, key), &signal);
        presences.hear(here, alone, &heard(1, &[(7, Some("1"))]));
        presences.hear(here, alone, &heard(2, &[(7, Some("2"))]));
        let both = news(&mut seat);
        assert!(both.contains("\"value\":1") && both.contains("\"value\":2"), "{both}");
        presences.hear(here, alone, &heard(2, &[(7, None)]));
        let gone = news(&mut seat);
        assert_eq!((gone.matches("gone").count(), gone.matches("who").count()), (1, 1), "{gone}");
        // Another timeline has another such path.
        presences.hear(|_| TimelineId([9; 32]), alone, &heard(3, &[(7, Some("3"))]));
        presences.hear(here, alone, &Heard { path: Path::parse("/x").expect("a path"), ..heard(3, &[(7, Some("3"))]) });
        assert!(!seat.has_news());
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_peer_says_again_lasts_on() {
        let (presences, space, key, signal) = room();
        let mut seat = presences.enter(space, &Path::root(), (key, key), &signal);
        presences.hear(here, alone, &heard(1, &[(7, Some("1"))]));
        news(&mut seat);
        for _ in 0..3 {
            tokio::time::sleep(LIFETIME * 2 / 3).await;
            presences.hear(here, alone, &heard(1, &[(7, Some(" 1"))]));
            assert!(!seat.has_news(), "it is the same and still there");
        }
        tokio::time::sleep(LIFETIME + Duration::from_secs(1)).await;
        assert!(news(&mut seat).contains("gone"));
    }

    #[tokio::test]
    async fn what_other_peers_say_is_bounded() {
        let (presences, space, key, signal) = room();
        let mut seat = presences.enter(space, &Path::root(), (key, key), &signal);
        // It is written out in full, and then it is no longer what may be said.
        let long = format!("[{}1]", "1e15,".repeat(200));
        assert!(long.len() <= VALUE_BYTES_MAX);
        presences.hear(here, alone, &heard(1, &[(0, Some(&long)), (0, Some("no JSON"))]));
        assert!(!seat.has_news());
        for device in 1..=5 {
            for name in 0..VALUES_MAX as u8 / 2 {
                presences.hear(here, alone, &heard(device, &[(name, Some("1"))]));
            }
        }
        assert_eq!(news(&mut seat).matches("\"value\":1").count(), VALUES_MAX);
        presences.hear(here, alone, &heard(1, &[(0, Some("2"))]));
        assert!(news(&mut seat).contains("\"value\":2"), "who is there may go on");
    }
}
