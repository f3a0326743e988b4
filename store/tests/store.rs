//! The store from outside: what is written is read, and is there again after a restart.

use timebus_store::json::{Json, Limits};
use timebus_store::path::Path;
use timebus_store::store::{Config, Store, lock_home};
use timebus_store::tree::Show;
use timebus_store::writer::{Action, Condition, Request, WriteError, Written};

fn open(home: &std::path::Path) -> Store {
    let lock = lock_home(home).expect("free");
    Store::open(home, lock, &Config::default(), 1, &mut |_| {}).expect("opens")
}

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), Limits::default()).expect("JSON")
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("path")
}

fn request(at: &str, action: Action) -> Request {
    Request { space: None, path: path(at), action, parents: None, label: None, condition: Condition::None, time_ms: 1, durable: true, may_name: None }
}

async fn put(store: &Store, at: &str, value: &str) -> Written {
    store.write(request(at, Action::Put(json(value)))).await.expect("written")
}

fn get(store: &Store, at: &str) -> Option<String> {
    let rows = store.snapshot();
    let tree = store.read(&rows, store.own(), &path(at)).expect("read").tree;
    let mut out = Vec::new();
    tree.write_json(Show { space: &store.space(), all: false }, &mut out).then(|| String::from_utf8(out).expect("UTF-8"))
}

fn get_at(store: &Store, at: &str, version: &[String]) -> Option<String> {
    let tree = store.read_at(&store.snapshot(), store.own(), &path(at), version).expect("read");
    tree.to_json(&store.space()).map(|json| {
        let mut out = Vec::new();
        json.write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    })
}

#[tokio::test]
async fn what_is_written_is_read_and_outlives_a_restart() {
    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    let document = r#"{"a":1,"b":{"c":[1,{"d":null},[],"x"]},"empty":{},"text":"hi"}"#;
    put(&store, "/doc", document).await;
    put(&store, "/doc/b/c2", "2.5").await;
    let expected = r#"{"a":1,"b":{"c":[1,{"d":null},[],"x"],"c2":2.5},"empty":{},"text":"hi"}"#;
    assert_eq!(get(&store, "/doc").as_deref(), Some(expected));
    assert_eq!(get(&store, "/nothing"), None);
    store.close();
    let store = open(home.path());
    assert_eq!(store.opened().replayed, 0, "a clean stop leaves nothing to replay");
    assert_eq!(get(&store, "/doc").as_deref(), Some(expected));
    put(&store, "/doc/a", "2").await;
    assert_eq!(get(&store, "/doc/a").as_deref(), Some("2"));
}

#[tokio::test]
async fn a_clean_stop_leaves_no_journal_to_read() {
    let home = tempfile::tempdir().expect("folder");
    let journals = || {
        let files = std::fs::read_dir(home.path().join("index")).expect("folder").map(|file| file.expect("entry").path());
        let journals = files.filter(|file| file.extension().is_some_and(|extension| extension == "jnl"));
        journals.map(|file| std::fs::metadata(file).expect("file").len()).sum::<u64>()
    };
    let mark = home.path().join("index/flushed");
    // Numbers of rows go on from one start to the next: the newest shows, and none is lost.
    for round in 0..4 {
        let store = open(home.path());
        assert!(!mark.exists(), "round {round}: journals of this run count");
        assert_eq!((store.opened().replayed, &store.opened().rebuilt), (0, &None), "round {round}");
        assert!(round == 0 || journals() == 0, "round {round}: {} bytes", journals());
        assert_eq!(get(&store, "/last"), (round > 0).then(|| (round - 1).to_string()));
        put(&store, "/last", &round.to_string()).await;
        put(&store, &format!("/all/{round}"), "true").await;
        assert_eq!(get(&store, "/last"), Some(round.to_string()));
        store.close();
        assert!(mark.exists() && journals() > 0, "round {round}");
    }
    assert_eq!(get(&open(home.path()), "/all").as_deref(), Some(r#"{"0":true,"1":true,"2":true,"3":true}"#));
}

#[tokio::test]
async fn a_stale_document_does_not_undo_what_others_wrote() {
    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    let seen = put(&store, "/doc", r#"{"title":"old","body":"b","tags":["x","y"]}"#).await.version;
    put(&store, "/doc/body", r#""better""#).await;
    put(&store, "/doc/new", "1").await;
    let mut stale = request("/doc", Action::Put(json(r#"{"title":"new","body":"b","tags":["x","z","y"]}"#)));
    stale.parents = Some(seen.clone());
    store.write(stale).await.expect("written");
    assert_eq!(get(&store, "/doc").as_deref(), Some(r#"{"body":"better","new":1,"tags":["x","z","y"],"title":"new"}"#));
    assert_eq!(get_at(&store, "/doc", &seen).as_deref(), Some(r#"{"body":"b","tags":["x","y"],"title":"old"}"#));
}

#[tokio::test]
async fn concurrent_values_are_both_kept_until_somebody_has_seen_both() {
    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    let seen = put(&store, "/x", "1").await.version;
    for value in ["2", "3"] {
        let mut other = request("/x", Action::Put(json(value)));
        other.parents = Some(seen.clone());
        store.write(other).await.expect("written");
    }
    let reading = store.read(&store.snapshot(), store.own(), &path("/x")).expect("read");
    assert_eq!((reading.tree.conflicts(), reading.version.len()), (1, 2));
    put(&store, "/x", "4").await;
    let reading = store.read(&store.snapshot(), store.own(), &path("/x")).expect("read");
    assert_eq!((reading.tree.conflicts(), reading.version.len()), (0, 1));
}

#[tokio::test]
async fn a_removed_tree_keeps_what_the_remover_had_not_seen() {
    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    let seen = put(&store, "/t", r#"{"a":1,"l":[1,2]}"#).await.version;
    put(&store, "/t/b", "2").await;
    let mut delete = request("/t", Action::Delete);
    delete.parents = Some(seen);
    store.write(delete).await.expect("written");
    assert_eq!(get(&store, "/t").as_deref(), Some(r#"{"b":2}"#));
    store.write(request("/t", Action::Delete)).await.expect("written");
    assert_eq!(get(&store, "/t"), None);
    assert!(matches!(store.write(request("/t", Action::Delete)).await, Err(WriteError::Absent(_))));
}

#[tokio::test]
async fn a_large_request_is_one_atomic_run() {
    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    let members: Vec<String> = (0..60_000).map(|n| format!(r#""key{n:06}":{{"n":{n},"list":[{n}]}}"#)).collect();
    let document = format!("{{{}}}", members.join(","));
    let value = Json::parse(document.as_bytes(), Limits { bytes_max: 64 << 20, ..Limits::default() }).expect("JSON");
    let written = store.write(request("/big", Action::Put(value.clone()))).await.expect("written");
    assert_eq!(store.read(&store.snapshot(), store.own(), &path("/big")).expect("read").tree.to_json(&store.space()), Some(value.clone()));
    assert_eq!(store.read_at(&store.snapshot(), store.own(), &path("/big"), &written.version).expect("read").to_json(&store.space()), Some(value));
}

#[tokio::test]
async fn a_large_request_becomes_changes_that_are_soon_handed_on() {
    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    // Large and small ones in turn fill the parts worst.
    for (members, bytes, most) in [(64, 40_000, 70_000), (500, 100_000, 700_000)] {
        let rows = store.snapshot();
        let before = store.changes(&rows, store.own().main(), 0).count();
        let member = |n: usize| format!(r#""k{n:04}":"{}""#, "x".repeat(if n.is_multiple_of(2) { bytes } else { 30 }));
        let document = format!("{{{}}}", (0..members).map(member).collect::<Vec<_>>().join(","));
        let value = Json::parse(document.as_bytes(), Limits { bytes_max: 64 << 20, ..Limits::default() }).expect("JSON");
        store.write(request(&format!("/big/{members}"), Action::Put(value))).await.expect("written");
        let rows = store.snapshot();
        let all = store.changes(&rows, store.own().main(), 0).map(|change| change.expect("a row").0).skip(before);
        let sizes: Vec<usize> = all.map(|a| store.record(&rows, store.own().main(), a).expect("a record").len()).collect();
        assert!(sizes.len() > 20 && sizes.len() <= 256 && sizes.iter().all(|size| *size <= most), "{members}: {sizes:?}");
    }
}

/// A full disk or a folder that is gone stops the thread that writes the tables, and closing waited for it for ever.
#[tokio::test]
async fn closing_ends_when_the_tables_cannot_be_written() {
    let home = tempfile::tempdir().expect("temporary folder");
    let store = open(home.path());
    put(&store, "/a", "1").await;
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let (done, closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        store.close();
        let _ = done.send(());
    });
    closed.recv_timeout(std::time::Duration::from_secs(20)).expect("closes");
    // What was acknowledged is in the log.
    assert_eq!(get(&open(home.path()), "/a").as_deref(), Some("1"));
}

/// Behind damage the log is searched for the next record. What a stranger wrote into a value so that it looks like
/// a record must not be taken for one: nobody signed it.
#[tokio::test]
async fn a_record_planted_in_a_value_is_not_found_behind_damage() {
    use timebus_identity::Signature;
    use timebus_store::change::{Body, Change, Header, Kind};
    use timebus_store::ids::TimelineId;
    use timebus_store::op::{Op, PathStep};
    use timebus_store::value::{Mime, Value};

    let home = tempfile::tempdir().expect("temporary folder");
    let store = open(home.path());
    let set = Op::Set { path: vec![PathStep::Name("planted".into())], value: Value::Bool(true), preds: Vec::new() };
    let body = Body { ops: vec![set], ..Body::default() }.encode();
    let header = Header {
        kind: Kind::Data,
        timeline: TimelineId::named(&store.space(), "main"),
        author: store.space(),
        seq: 1,
        prev: None,
        cap: None,
        parents: Vec::new(),
        lamport: 1,
        time_ms: 0,
        cum: 512 + body.len() as u64,
        body_len: body.len() as u64,
        body_root: *blake3::hash(&body).as_bytes(),
        encryption: None,
    };
    let mut payload = Vec::new();
    Change::new(header, body.into()).expect("fits").write(&Signature::from_bytes([0; 64]), &mut payload);
    let mut record = Vec::new();
    timebus_store::log::frame(3, &payload, &mut record);
    // With so much noise before it the change gets no shorter, so it stands in the log as it is.
    let noise = (0..2000u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes());
    let bytes: Vec<u8> = noise.chain(record.iter().copied()).collect();
    let value = Value::Bytes { mime: Mime::new("application/x-trap").expect("valid"), bytes: bytes.into() };
    store.write(request("/trap", Action::PutValue(value))).await.expect("written");
    put(&store, "/after", "1").await;
    store.close();
    // The record that holds the trap loses a bit of its frame, and the index is gone.
    let log = home.path().join("log/00000001.log");
    let mut bytes = std::fs::read(&log).expect("read");
    let trap = bytes.windows(record.len()).position(|window| window == record).expect("it is there");
    let frame = bytes[..trap].windows(4).rposition(|window| window == b"tbr1").expect("its record");
    bytes[frame] ^= 1;
    std::fs::write(&log, bytes).expect("written");
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let store = open(home.path());
    assert_eq!(get(&store, "/planted"), None);
    assert_eq!(get(&store, "/after").as_deref(), Some("1"));
    assert!(!store.opened().damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_first_version_opens_and_goes_on() {
    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    for number in 0..20 {
        put(&store, &format!("/n/{number}"), &number.to_string()).await;
    }
    let mut old = Vec::new();
    for item in store.log().walk(timebus_store::log::Place::START).expect("readable") {
        match item.expect("readable") {
            timebus_store::log::Item::Record(record) => timebus_store::log::frame(record.a, &record.payload, &mut old),
            timebus_store::log::Item::Damaged(damage) => panic!("{damage:?}"),
        }
    }
    store.close();
    let log = home.path().join("log/00000001.log");
    let new = std::fs::read(&log).expect("read");
    assert!(new.len() < old.len(), "{} bytes, {} before", new.len(), old.len());
    std::fs::write(&log, old).expect("written");
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let store = open(home.path());
    put(&store, "/n/5", "\"new\"").await;
    store.close();
    let store = open(home.path());
    assert_eq!(get(&store, "/n/19").as_deref(), Some("19"));
    assert_eq!(get(&store, "/n/5").as_deref(), Some("\"new\""));
    assert!(store.opened().damaged.is_empty() && store.opened().rebuilt.is_none());
}

/// A home that was restored, or is a copy, has another key.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_key_before_wrote_is_the_owners_still() {
    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    put(&store, "/a", "1").await;
    let (before, root) = (store.device(), store.space());
    store.close();
    std::fs::write(home.path().join("needs-device"), b"").expect("written");
    let store = open(home.path());
    assert!(store.opened().new_device && store.device() != before);
    assert!([before, root, store.device()].iter().all(|key| store.is_by_owner(key, || false)));
    assert!(!store.is_by_owner(&timebus_identity::SecretKey::generate().public(), || true));
}

/// One change of the log is damaged, and the index is gone: nothing that is known names the only copy of a picture.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_damaged_change_may_name_stays_until_the_log_is_whole() {
    use timebus_store::blobs::collect::Retention;
    use timebus_store::blobs::references;
    use timebus_store::value::{Mime, Value};

    let home = tempfile::tempdir().expect("folder");
    let store = open(home.path());
    let blobs = store.blobs().expect("on disk");
    let mut writer = blobs.writer().expect("begins");
    writer.write(b"a picture").expect("writes");
    let (hash, len, lease) = writer.finish().expect("finishes");
    let value = Value::Blob { hash: *hash.as_bytes(), len, mime: Mime::new("image/png").expect("valid") };
    store.write(request("/photo", Action::PutValue(value))).await.expect("written");
    put(&store, "/after", "1").await;
    drop(lease);
    store.close();
    let log = home.path().join("log/00000001.log");
    let whole = std::fs::read(&log).expect("read");
    let mut damaged = whole.clone();
    let named = damaged.windows(32).position(|window| window == hash.as_bytes()).expect("it is named");
    damaged[named] ^= 1;
    std::fs::write(&log, damaged).expect("written");
    std::fs::remove_dir_all(home.path().join("index")).expect("removed");
    let removed = |store: &Store| {
        let hours = (0..3).map(|hour| hour * 3600 * 1000);
        hours.map(|now_ms| store.collect_blobs(Retention::default(), now_ms, &|_| Ok(false)).expect("looks").removed).sum::<u64>()
    };
    let store = open(home.path());
    assert!(references(&*store.snapshot(), &hash).next().is_none() && store.log_lacks());
    assert_eq!(removed(&store), 0);
    store.close();
    // The next start finds no damage: it does not read what is in the index.
    let store = open(home.path());
    assert_eq!((store.opened().damaged.len(), removed(&store)), (0, 0));
    store.close();
    std::fs::write(&log, whole).expect("written");
    std::fs::write(home.path().join("index.old"), "the log was mended").expect("written");
    let store = open(home.path());
    assert!(!store.log_lacks() && references(&*store.snapshot(), &hash).next().is_some());
    store.write(request("/photo", Action::Delete)).await.expect("written");
    assert_eq!((removed(&store), store.blobs().expect("on disk").len_of(&hash)), (0, Some(9)), "an older version names it");
}
