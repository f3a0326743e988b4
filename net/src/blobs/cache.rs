//! How much of other people's files is kept: a budget, and what goes first when it is used up.
//!
//! What the owner himself wrote, in his own space or that of somebody else, is not part of this: it may be the only copy. Nor is
//! what his guests name in his own space, for each as much as he may keep here; nor what the owner pinned, or what a community
//! placed here. All else came from somebody who has
//! it, and can come again.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use timebus_identity::PublicKey;
use timebus_store::blobs::{BlobHash, Blobs, references};
use timebus_store::keyspace::Committed;
use timebus_store::store::{Places, StorageError, Store};
use timebus_store::summary::summary;

use super::wishes::Wishes;
use crate::peer::lock;

/// Bytes of files of others that are kept. Default 1 GB, as `up --cache` has it.
pub(crate) const CACHE_BYTES_MAX: u64 = 1_000_000_000;
/// Files whose uses are counted; more than that were not used for long.
const COUNTED_MAX: usize = 100_000;
/// After this time a use counts for half, so that what many read last month goes before what some read today.
const HALF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long what is new stays, whatever it is worth: nobody had the time to read it.
const NEW_FOR: Duration = Duration::from_secs(6 * 3600);
/// Which part of the budget what is new takes in this way.
const NEW_PART: u64 = 2;

/// How often files were used: read here, or given to others.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<HashMap<BlobHash, (f64, Instant)>>);

impl Uses {
    /// Counts one.
    pub(crate) fn count(&self, hash: BlobHash) {
        self.count_part(hash, 1.0, Instant::now());
    }

    /// Counts a piece of a file of so many bytes that somebody is given: all pieces together are one use.
    pub(crate) fn give(&self, hash: BlobHash, piece_bytes: usize, len: u64) {
        self.count_part(hash, piece_bytes as f64 / len.max(1) as f64, Instant::now());
    }

    fn count_part(&self, hash: BlobHash, part: f64, now: Instant) {
        let mut uses = lock(&self.0);
        if uses.len() >= COUNTED_MAX && !uses.contains_key(&hash) {
            uses.clear();
        }
        let (count, at) = uses.entry(hash).or_insert((0.0, now));
        (*count, *at) = (faded(*count, *at, now) + part, now);
    }

    /// How long ago a file was used last, if that is known.
    fn ago(&self, hash: &BlobHash, now: Instant) -> Option<Duration> {
        lock(&self.0).get(hash).map(|(_, at)| now.saturating_duration_since(*at))
    }

    /// What the uses of a file count for now.
    fn of(&self, hash: &BlobHash, now: Instant) -> f64 {
        lock(&self.0).get(hash).map_or(0.0, |(count, at)| faded(*count, *at, now))
    }
}

/// What uses count for some time later.
fn faded(count: f64, at: Instant, now: Instant) -> f64 {
    count * (-now.saturating_duration_since(at).as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
}

/// A file of somebody else.
#[derive(Clone, Copy, Debug)]
struct Kept {
    hash: BlobHash,
    len: u64,
    uses: f64,
    /// How long it is here; of a part, since when nothing of it came.
    age: Duration,
    /// How long ago it came or was used last.
    rest: Duration,
    is_part: bool,
}

/// What became of files of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trimmed {
    /// Bytes that went.
    pub(crate) gone: u64,
    /// Bytes of those that are here only for the time being.
    pub(crate) kept: u64,
}

/// The files that came from somebody who has them, and are no guest's here. `room` says how many bytes a guest may keep here.
fn of_others(store: &Store, blobs: &Blobs, rows: &Committed, room: impl Fn(&PublicKey) -> u64) -> Result<Vec<(BlobHash, u64, bool)>, StorageError> {
    let mut named = store.places(rows);
    let mut found = Vec::new();
    // What guests have of their room.
    let mut of_guests: HashMap<PublicKey, u64> = HashMap::new();
    let whole = blobs.list()?.into_iter().map(|(hash, len)| (hash, len, false));
    let parts = blobs.partials()?.into_iter().map(|(hash, len)| (hash, len, true));
    for (hash, len, is_part) in whole.chain(parts) {
        let is_ours = match whose(store, rows, &mut named, &hash, (!is_part).then_some(len))? {
            Whose::Own => true,
            Whose::Guests(guests) => {
                // Who named it first pays for it, or the next one who has room.
                let pays = guests.iter().find(|guest| of_guests.get(guest).copied().unwrap_or_default().saturating_add(len) <= room(guest));
                pays.into_iter().for_each(|guest| *of_guests.entry(*guest).or_default() += len);
                pays.is_some()
            }
            Whose::Others => false,
        };
        if !is_ours {
            found.push((hash, len, is_part));
        }
    }
    Ok(found)
}

/// Removes files of others until they fit the budget: first those that were used least for their size. As long as it is not known
/// what is placed here, nothing goes. `room` says how many bytes a guest may keep here. The file that came or
/// was used last stays for some hours also beyond the budget, if it is no longer than `spare`: a film is read again, and handed on.
///
/// # Errors
///
/// [`StorageError`]; what was removed so far is gone.
pub(crate) fn trim(
    store: &Store,
    uses: &[&Uses],
    wishes: &Wishes,
    (bytes_max, spare): (u64, u64),
    room: impl Fn(&PublicKey) -> u64,
) -> Result<Trimmed, StorageError> {
    let Some(blobs) = store.blobs().filter(|_| wishes.are_known()) else { return Ok(Trimmed::default()) };
    let (rows, now) = (store.snapshot(), Instant::now());
    let mut named = store.places(&rows);
    let mut of_others = Vec::new();
    let mut total = 0;
    for (hash, len, is_part) in self::of_others(store, blobs, &rows, room)? {
        if !wishes.stays(&mut named, &hash)? {
            total += len;
            let (age, rest) = (Duration::MAX, uses.iter().filter_map(|uses| uses.ago(&hash, now)).min().unwrap_or(Duration::MAX));
            of_others.push(Kept { hash, len, uses: uses.iter().map(|uses| uses.of(&hash, now)).sum(), age, rest, is_part });
        }
    }
    if total <= bytes_max {
        return Ok(Trimmed { gone: 0, kept: total });
    }
    for file in &mut of_others {
        let age = age(blobs, &file.hash, file.is_part);
        file.rest = file.rest.min(age);
        // Of a part nobody knows whether it is ever read.
        file.age = if file.is_part { Duration::MAX } else { age };
    }
    least_first(&mut of_others, bytes_max);
    let mut bytes_max = bytes_max;
    if let Some((last, len)) = last(&of_others).filter(|last| last.len <= spare).map(|last| (last.hash, last.len)) {
        of_others.retain(|file| file.hash != last);
        // What is larger than the budget stays beside it, or all else would have to go.
        if len > bytes_max {
            bytes_max += len;
        }
    }
    let mut gone = 0;
    for Kept { hash, len, is_part, .. } in of_others {
        if total - gone <= bytes_max {
            break;
        }
        // A part that is being fetched stays.
        if remove(store, blobs, &hash, (!is_part).then_some(len), |named| wishes.stays(named, &hash))? {
            gone += len;
        }
    }
    Ok(Trimmed { gone, kept: total - gone })
}

/// Removes files of others, as far as `is_meant` says so; those that are pinned, or of which the owner said something, stay. Answers
/// how many there are and their bytes; of those that somebody reads just now nothing goes. With `preview` nothing goes at all.
///
/// # Errors
///
/// [`StorageError`]; what was removed so far is gone.
pub(crate) fn free(
    store: &Store,
    wishes: &Wishes,
    is_meant: impl Fn(&BlobHash) -> bool,
    room: impl Fn(&PublicKey) -> u64,
    preview: bool,
) -> Result<(u64, u64), StorageError> {
    let Some(blobs) = store.blobs().filter(|_| wishes.are_known()) else { return Ok((0, 0)) };
    let rows = store.snapshot();
    let mut named = store.places(&rows);
    let (mut files, mut bytes) = (0, 0);
    for (hash, len, is_part) in of_others(store, blobs, &rows, room)? {
        if !is_meant(&hash) || wishes.wish_of(&hash).is_some() || wishes.is_pinned(&mut named, &hash)? {
            continue;
        }
        let stays = |named: &mut Places<'_>| Ok(wishes.wish_of(&hash).is_some() || wishes.is_pinned(named, &hash)?);
        if preview || remove(store, blobs, &hash, (!is_part).then_some(len), stays)? {
            (files, bytes) = (files + 1, bytes + len);
        }
    }
    Ok((files, bytes))
}

/// Removes a file, or a part of one, unless it became the owner's since it was looked at, or is to stay.
fn remove(
    store: &Store,
    blobs: &Blobs,
    hash: &BlobHash,
    whole: Option<u64>,
    stays: impl FnOnce(&mut Places<'_>) -> Result<bool, StorageError>,
) -> Result<bool, StorageError> {
    let may = || {
        let rows = store.snapshot();
        let mut named = store.places(&rows);
        Ok(!matches!(whose(store, &rows, &mut named, hash, whole)?, Whose::Own) && !stays(&mut named)?)
    };
    if whole.is_some() { blobs.remove_if(hash, may) } else { blobs.remove_partial_if(hash, may) }
}

/// The file that came or was used last, if that is not long ago.
fn last(files: &[Kept]) -> Option<Kept> {
    files.iter().filter(|file| file.rest < NEW_FOR).min_by_key(|file| file.rest).copied()
}

/// How long a file is here, or nothing of it came.
fn age(blobs: &Blobs, hash: &BlobHash, is_part: bool) -> Duration {
    if is_part {
        let came = blobs.part_ms(hash).ok().flatten().and_then(|came_ms| crate::who::now_ms().checked_sub(came_ms));
        return came.map_or(Duration::MAX, Duration::from_millis);
    }
    let files = blobs.files_of(hash).unwrap_or_default();
    let came = files.last().and_then(|(_, file)| file.metadata().ok()?.modified().ok());
    // What came in the future came when a clock was wrong.
    came.and_then(|came| SystemTime::now().duration_since(came).ok()).unwrap_or(Duration::MAX)
}

/// Sorts files by how often each was used for each byte that it takes: the least goes first. What is new goes last, as far as
/// it has room in its part of the budget.
fn least_first(files: &mut [Kept], bytes_max: u64) {
    files.sort_by_key(|file| file.age);
    let (mut stay, mut room) = (HashSet::new(), bytes_max / NEW_PART);
    for file in files.iter().filter(|file| file.age < NEW_FOR) {
        if file.len <= room {
            room -= file.len;
            stay.insert(file.hash);
        }
    }
    let worth = |file: &Kept| (file.uses + 1.0) / file.len.max(1) as f64;
    files.sort_by(|one, other| stay.contains(&one.hash).cmp(&stay.contains(&other.hash)).then(worth(one).total_cmp(&worth(other))));
}

/// Whose a file is.
enum Whose {
    /// It may have to come from here.
    Own,
    /// Guests named it in the own space, in this order.
    Guests(Vec<PublicKey>),
    Others,
}

/// Whose a file is. Where its length is known, a guest who says another one has nothing to do with it.
fn whose(store: &Store, rows: &Committed, named: &mut Places<'_>, hash: &BlobHash, len: Option<u64>) -> Result<Whose, StorageError> {
    let own: Vec<u32> = store.timelines_of(&store.space()).into_iter().map(|(_, t)| t).collect();
    // What nothing names yet somebody is about to.
    let mut found = Whose::Own;
    for reference in references(rows, hash) {
        let reference = reference?;
        if store.is_by_owner(&summary(rows, reference.t, reference.a)?.author, || own.contains(&reference.t)) {
            return Ok(Whose::Own);
        }
        if own.contains(&reference.t) {
            found = Whose::Guests(Vec::new());
        } else if matches!(found, Whose::Own) {
            found = Whose::Others;
        }
    }
    if let Whose::Guests(guests) = &mut found {
        named.is_named_where(hash, |place| {
            if place.space.key == store.space() && len.is_none_or(|len| len == place.len) && !guests.contains(&place.author) {
                guests.push(place.author);
            }
            false
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Where not even the last one is spared.
    fn trim(store: &Store, uses: &[&Uses], wishes: &Wishes, bytes_max: u64, room: impl Fn(&PublicKey) -> u64) -> Result<Trimmed, StorageError> {
        super::trim(store, uses, wishes, (bytes_max, 0), room)
    }

    fn hash(number: u8) -> BlobHash {
        BlobHash::from_bytes([number; 32])
    }

    fn kept(number: u8, len: u64, uses: f64, age: Duration) -> Kept {
        Kept { hash: hash(number), len, uses, age, rest: age, is_part: false }
    }

    fn order(files: &[Kept], bytes_max: u64) -> Vec<u8> {
        let mut files = files.to_vec();
        least_first(&mut files, bytes_max);
        files.iter().map(|file| file.hash.as_bytes()[0]).collect()
    }

    #[test]
    fn what_is_large_and_little_used_goes_first() {
        let files = [kept(1, 10, 0.0, DAY), kept(2, 1000, 50.0, DAY), kept(3, 1000, 0.0, DAY), kept(4, 0, 0.0, DAY)];
        assert_eq!(order(&files, 0), [3, 2, 1, 4]);
    }

    #[test]
    fn what_is_new_stays_for_some_hours_within_its_part_of_the_budget() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let files = [kept(1, 10, 9.0, hours(7)), kept(2, 100, 0.0, hours(1)), kept(3, 90, 0.0, hours(2)), kept(4, 20, 0.0, hours(3))];
        assert_eq!(order(&files, 1000), [1, 2, 3, 4]);
        // Of 240 bytes 120 are for what is new: the newest, and what fits beside it.
        assert_eq!(order(&files, 240), [3, 1, 2, 4]);
        assert_eq!(order(&files, 0), [2, 3, 4, 1], "where there is no room at all, it is as worthless as it is");
    }

    #[test]
    fn old_uses_fade_and_what_others_are_given_is_one() {
        let (uses, began) = (Uses::default(), Instant::now());
        for _ in 0..40 {
            uses.count_part(hash(1), 1.0, began);
        }
        uses.count_part(hash(2), 1.0, began + 6 * DAY);
        let count = |number: u8, days: u32| uses.of(&hash(number), began + days * DAY);
        assert!((count(1, 1) - 20.0).abs() < 1e-9 && count(1, 6) < count(2, 6), "{} {}", count(1, 6), count(2, 6));
        assert_eq!(count(3, 6), 0.0);
        for _ in 0..8 {
            uses.give(hash(4), 128 * 1024, 1024 * 1024);
        }
        assert!((uses.of(&hash(4), Instant::now()) - 1.0).abs() < 0.01);
    }

    fn store(home: &std::path::Path) -> Store {
        let lock = timebus_store::store::lock_home(home).expect("a free home");
        Store::open(home, lock, &timebus_store::store::Config::default(), 1, &mut |_| {}).expect("a new store")
    }

    /// A store that has files which the space of somebody else names.
    async fn with_files(theirs: &std::path::Path, home: &std::path::Path, contents: &[&[u8]]) -> (Store, Vec<BlobHash>) {
        use timebus_store::log::{Item, Place};
        use timebus_store::value::{Mime, Value};

        let peer = crate::peer::Peer::new(store(theirs), timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let store = store(home);
        let mut hashes = Vec::new();
        for content in contents {
            let mut writer = store.blobs().expect("on disk").writer().expect("begins");
            writer.write(content).expect("writes");
            let (hash, len, _lease) = writer.finish().expect("finishes");
            let (path, mime) = (timebus_store::path::Path::parse(&format!("/{len}")).expect("a path"), Mime::new("audio/ogg").expect("a media type"));
            let put = |_| timebus_store::writer::Action::PutValue(Value::Blob { hash: *hash.as_bytes(), len, mime });
            let (own, null) = (peer.store().own(), serde_json::Value::Null);
            crate::community::keeping::write(&peer, own, path, put, &null).await.expect("writes");
            hashes.push(hash);
        }
        for item in peer.store().log().walk(Place::START).expect("reads") {
            let Item::Record(record) = item.expect("reads") else { panic!("a whole log") };
            let change = timebus_store::change::Change::decode(&record.payload).expect("a change").verify().expect("signed");
            store.offer(vec![change]).await.expect("taken");
        }
        (store, hashes)
    }

    #[tokio::test]
    async fn nothing_goes_as_long_as_it_is_not_known_what_is_placed_here_and_that_takes_none_of_the_budget() {
        let (theirs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (store, hashes) = with_files(theirs.path(), home.path(), &[b"placed here", b"read once"]).await;
        let (placed, read) = (hashes[0], hashes[1]);
        let len_of = |hash: &BlobHash| store.blobs().expect("on disk").len_of(hash);
        let (wishes, uses) = (Wishes::open(home.path()), Uses::default());
        assert_eq!(trim(&store, &[&uses], &wishes, 0, |_| 0).expect("reads").gone, 0);
        wishes.place(HashSet::from([placed]));
        assert_eq!(trim(&store, &[&uses], &wishes, 9, |_| 0).expect("reads").gone, 0, "the other one has room");
        assert_eq!(trim(&store, &[&uses], &wishes, 8, |_| 0).expect("reads").gone, 9);
        assert_eq!((len_of(&placed), len_of(&read)), (Some(11), None));
        wishes.place(HashSet::new());
        assert_eq!(trim(&store, &[&uses], &wishes, 8, |_| 0).expect("reads").gone, 11);
    }

    /// The owner asked for a film that is larger than the cache.
    #[tokio::test]
    async fn what_is_wanted_stays_until_it_is_here_and_for_a_while() {
        use crate::blobs::wishes::{Wish, Wished};

        let (theirs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (store, hashes) = with_files(theirs.path(), home.path(), &[b"a film", b"read once"]).await;
        let (wishes, uses) = (Wishes::open(home.path()), Uses::default());
        wishes.place(HashSet::new());
        let file = Wished { hash: hashes[0], space: store.space(), path: timebus_store::path::Path::root(), len: 6 };
        let gone = || trim(&store, &[&uses], &wishes, 0, |_| 0).expect("reads").gone;
        wishes.wish(std::slice::from_ref(&file), Some(Wish::Wanted)).expect("writes");
        assert_eq!(gone(), 9);
        wishes.have_come(std::slice::from_ref(&file));
        wishes.wish(std::slice::from_ref(&file), None).expect("writes");
        assert_eq!(gone(), 0);
        let wishes = Wishes::open(home.path());
        wishes.place(HashSet::new());
        assert_eq!(trim(&store, &[&uses], &wishes, 0, |_| 0).expect("reads").gone, 6);
    }

    /// He names it between the look at all files and the moment in which its turn is.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_becomes_the_owners_meanwhile_stays() {
        use timebus_store::value::{Mime, Value};
        use timebus_store::writer::{Action, Condition, Request};

        let (theirs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (store, hashes) = with_files(theirs.path(), home.path(), &[b"a film", b"read once"]).await;
        let wishes = Wishes::open(home.path());
        wishes.place(HashSet::new());
        let name = || {
            let value = Value::Blob { hash: *hashes[0].as_bytes(), len: 6, mime: Mime::new("audio/ogg").expect("a media type") };
            let path = timebus_store::path::Path::parse("/mine").expect("a path");
            let (space, parents, label, condition, may_name) = (None, None, None, Condition::None, None);
            let request = Request { space, path, action: Action::PutValue(value), parents, label, condition, time_ms: 1, durable: true, may_name };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(store.write(request))).expect("written");
            true
        };
        let freed = free(&store, &wishes, |hash| *hash != hashes[0] || name(), |_| 0, false).expect("reads");
        assert_eq!(freed, (1, 9));
        assert_eq!(store.blobs().expect("on disk").len_of(&hashes[0]), Some(6));
    }

    #[tokio::test]
    async fn the_owner_frees_what_he_means_and_said_nothing_of() {
        use crate::blobs::wishes::{Wish, Wished};

        let (theirs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (store, hashes) = with_files(theirs.path(), home.path(), &[b"placed here", b"paused", b"read once", b"another one"]).await;
        let wishes = Wishes::open(home.path());
        let all = |preview| free(&store, &wishes, |_| true, |_| 0, preview).expect("reads");
        assert_eq!(all(true), (0, 0), "it is not known yet what is placed here");
        wishes.place(HashSet::from([hashes[0]]));
        let paused = Wished { hash: hashes[1], space: store.space(), path: timebus_store::path::Path::root(), len: 6 };
        wishes.wish(std::slice::from_ref(&paused), Some(Wish::Paused)).expect("writes");
        assert_eq!(all(true), (2, 20));
        assert_eq!(free(&store, &wishes, |hash| *hash == hashes[2], |_| 0, false).expect("reads"), (1, 9));
        let here = |number: usize| store.blobs().expect("on disk").len_of(&hashes[number]).is_some();
        assert_eq!((here(2), here(3)), (false, true));
        // Somebody reads it.
        let lease = store.blobs().expect("on disk").lease(hashes[3]);
        assert_eq!(all(false), (0, 0));
        drop(lease);
        assert_eq!(all(false), (1, 11));
        assert_eq!((here(0), here(1)), (true, true));
    }

    /// A film of two gigabytes comes to a peer that keeps one of them, and has a disk of hundreds.
    #[tokio::test]
    async fn the_last_one_stays_however_large_it_is_for_some_hours_and_until_the_next_one_comes() {
        let (theirs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (store, hashes) = with_files(theirs.path(), home.path(), &[b"a film", b"the next one"]).await;
        let (blobs, wishes, uses) = (store.blobs().expect("on disk"), Wishes::open(home.path()), Uses::default());
        wishes.place(HashSet::new());
        let came = |number: usize, hours: u64| {
            let files = blobs.files_of(&hashes[number]).expect("opens");
            let at = SystemTime::now() - Duration::from_secs(hours * 3600);
            files.last().expect("a file").1.set_modified(at).expect("its own");
        };
        let here = || [0, 1].map(|number| blobs.len_of(&hashes[number]).is_some());
        let gone = |spare| super::trim(&store, &[&uses], &wishes, (3, spare), |_| 0).expect("reads").gone;
        came(0, 1);
        came(1, 2);
        assert_eq!((gone(6), here()), (12, [true, false]));
        came(0, 7);
        uses.count(hashes[0]);
        assert_eq!(gone(6), 0, "it is read again");
        assert_eq!(gone(5), 6, "something else needs the room");
        let (theirs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (store, hashes) = with_files(theirs.path(), home.path(), &[b"a film"]).await;
        let (blobs, wishes) = (store.blobs().expect("on disk"), Wishes::open(home.path()));
        wishes.place(HashSet::new());
        let long_ago = SystemTime::now() - Duration::from_secs(7 * 3600);
        blobs.files_of(&hashes[0]).expect("opens").last().expect("a file").1.set_modified(long_ago).expect("its own");
        assert_eq!(super::trim(&store, &[&Uses::default()], &wishes, (3, 6), |_| 0).expect("reads").gone, 6, "nobody reads it any more");
    }

    #[tokio::test]
    async fn parts_take_room_too_and_stay_while_they_are_fetched() {
        let (theirs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (store, hashes) = with_files(theirs.path(), home.path(), &[&[7; 300_000]]).await;
        let (blobs, wishes, uses) = (store.blobs().expect("on disk"), Wishes::open(home.path()), Uses::default());
        wishes.place(HashSet::new());
        // One of its three pieces is damaged.
        let name = hashes[0].to_string();
        let file = blobs.folder().join(&name[..2]).join(&name);
        let file = std::fs::OpenOptions::new().write(true).open(file).expect("opens");
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 200_000).expect("writes");
        assert!(blobs.break_up(&hashes[0]).expect("reads"));
        let here = 300_000 - 128 * 1024;
        assert_eq!(trim(&store, &[&uses], &wishes, here, |_| 0).expect("reads").gone, 0);
        let part = blobs.partial(hashes[0], 300_000).expect("room");
        assert_eq!(trim(&store, &[&uses], &wishes, here - 1, |_| 0).expect("reads").gone, 0);
        drop(part);
        assert_eq!(trim(&store, &[&uses], &wishes, here - 1, |_| 0).expect("reads").gone, here);
        assert_eq!(blobs.partials().expect("a list"), []);
    }

    /// Bob may write in the own space, and names what he brought.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_guests_name_stays_as_far_as_they_have_room() {
        use timebus_store::grant::Actions;
        use timebus_store::value::{Mime, Value};

        use crate::whose::tests::{grant_key, tell};

        let (theirs, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let bob = crate::peer::Peer::new(store(theirs.path()), timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let store = store(home.path());
        grant_key(&store, bob.store().device(), Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0)).await;
        tell(&store, &store.space(), bob.store()).await;
        let there = bob.store().held(&store.space()).expect("held");
        for content in [&b"a picture"[..], b"another"] {
            let mut writer = store.blobs().expect("on disk").writer().expect("begins");
            writer.write(content).expect("writes");
            let (hash, len, _lease) = writer.finish().expect("finishes");
            let (path, mime) = (timebus_store::path::Path::parse(&format!("/{len}")).expect("a path"), Mime::new("image/png").expect("a media type"));
            let put = |_| timebus_store::writer::Action::PutValue(Value::Blob { hash: *hash.as_bytes(), len, mime });
            crate::community::keeping::write(&bob, there, path, put, &serde_json::Value::Null).await.expect("writes");
        }
        tell(bob.store(), &store.space(), &store).await;
        let (wishes, uses) = (Wishes::open(home.path()), Uses::default());
        wishes.place(HashSet::new());
        let gone = |room: u64| trim(&store, &[&uses], &wishes, 0, |who| if *who == bob.store().device() { room } else { 0 }).expect("reads").gone;
        assert_eq!(gone(16), 0);
        let one = gone(9);
        assert!(one == 9 || one == 7, "one of them has room: {one}");
        assert_eq!(gone(0), 16 - one);
    }

    /// Ann brought a picture, and bob names it after her: with another length, or as it is.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_names_a_file_of_another_guest_does_not_push_it_out() {
        use timebus_store::grant::Actions;
        use timebus_store::value::{Mime, Value};

        use crate::whose::tests::{grant_key, tell};

        let (anns, bobs, home) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let new =
            |home: &std::path::Path| crate::peer::Peer::new(store(home), timebus_identity::Token::generate(), crate::peer::PeerConfig::default());
        let (ann, bob, store) = (new(anns.path()), new(bobs.path()), store(home.path()));
        let write = |content: &[u8]| {
            let mut writer = store.blobs().expect("on disk").writer().expect("begins");
            writer.write(content).expect("writes");
            writer.finish().expect("finishes").0
        };
        let (picture, other) = (write(b"a picture"), write(b"another"));
        let name = async |peer: &crate::peer::Peer, path: &str, hash: BlobHash, len: u64| {
            grant_key(&store, peer.store().device(), Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0)).await;
            tell(&store, &store.space(), peer.store()).await;
            let there = peer.store().held(&store.space()).expect("held");
            let (path, mime) = (timebus_store::path::Path::parse(path).expect("a path"), Mime::new("image/png").expect("a media type"));
            let put = |_| timebus_store::writer::Action::PutValue(Value::Blob { hash: *hash.as_bytes(), len, mime });
            crate::community::keeping::write(peer, there, path, put, &serde_json::Value::Null).await.expect("writes");
            tell(peer.store(), &store.space(), &store).await;
        };
        name(&bob, "/lie", other, 1).await;
        name(&ann, "/another", other, 7).await;
        name(&ann, "/picture", picture, 9).await;
        name(&bob, "/lie", picture, 1).await;
        let (wishes, uses) = (Wishes::open(home.path()), Uses::default());
        wishes.place(HashSet::new());
        let ann_key = ann.store().device();
        let gone =
            |anns: u64, others: u64| trim(&store, &[&uses], &wishes, 0, |who| if *who == ann_key { anns } else { others }).expect("reads").gone;
        assert_eq!(gone(16, 0), 0);
        name(&bob, "/true", picture, 9).await;
        assert_eq!(gone(16, 0), 0);
        assert_eq!(gone(0, 16), 7, "who has room pays for the picture, and nobody else said how long the other one is");
        assert_eq!(gone(8, 8), 9);
    }
}
