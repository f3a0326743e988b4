//! Homes for tests: in memory where the system has that, with the same keys every time.
#![allow(dead_code, reason = "every test binary has its own copy and uses what it needs")]

use std::path::Path as FilePath;

use timebus_identity::{Keys, SecretKey};
use timebus_store::json::{Json, Limits};
use timebus_store::path::Path;
use timebus_store::store::{Config, OpenError, Store, lock_home};
use timebus_store::writer::{Action, Condition, Request, Written};

/// The root key of every test's space.
pub(crate) fn root() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

/// A folder that goes away with its handle; in memory, since most tests ask for thousands of syncs.
pub(crate) fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let memory = FilePath::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new()
        .prefix("timebus-test")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .expect("a temporary folder")
}

/// A new home of the test space in which device `number` writes, so that ids repeat from run to run.
pub(crate) fn home(number: u8) -> tempfile::TempDir {
    let home = folder();
    let keys = home.path().join("keys");
    let made = Keys::create_from(&keys, &root(), &SecretKey::from_seed([2; 32])).expect("keys");
    let drawn = made.device().public().to_string();
    drop(made);
    let device = SecretKey::from_seed([number; 32]);
    std::fs::write(keys.join("device.key"), device.seed()).expect("written");
    let incarnation = std::fs::read_to_string(keys.join("incarnation")).expect("text");
    std::fs::write(keys.join("incarnation"), incarnation.replace(&drawn, &device.public().to_string())).expect("written");
    home
}

/// Small caches: opening is what these tests do most.
pub(crate) fn config() -> Config {
    Config { cache_bytes: 4 << 20, memtable_bytes: 4 << 20, ..Config::default() }
}

/// Opens a store that may refuse.
pub(crate) fn try_open(home: &FilePath) -> Result<Store, OpenError> {
    Store::open(home, lock_home(home).expect("free"), &config(), 1, &mut |_| {})
}

/// Opens a store.
pub(crate) fn open(home: &FilePath) -> Store {
    try_open(home).unwrap_or_else(|error| panic!("{} does not open: {error:?}", home.display()))
}

/// Copies a folder with everything in it, sparing what `skip` names.
pub(crate) fn copy(from: &FilePath, to: &FilePath, skip: &[&str]) {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let mode = std::fs::metadata(from).expect("folder").permissions().mode();
    std::fs::DirBuilder::new().recursive(true).mode(mode & 0o777).create(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        if skip.iter().any(|skip| entry.file_name() == *skip) {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target, &[]);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// A path from its text form.
pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).expect("path")
}

/// JSON from its text.
pub(crate) fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), Limits::default()).expect("JSON")
}

/// A plain request.
pub(crate) fn request(at: &str, action: Action) -> Request {
    Request { space: None, path: path(at), action, parents: None, label: None, condition: Condition::None, time_ms: 1, durable: true, may_name: None }
}

/// A request of somebody who had seen `parents`.
pub(crate) fn after(parents: &[String], at: &str, action: Action) -> Request {
    Request { parents: Some(parents.to_vec()), ..request(at, action) }
}

/// Writes JSON.
pub(crate) async fn put(store: &Store, at: &str, value: &Json) -> Written {
    store.write(request(at, Action::Put(value.clone()))).await.expect("written")
}

/// Reads JSON.
pub(crate) fn get(store: &Store, at: &str) -> Option<Json> {
    store.read(&store.snapshot(), store.own(), &path(at)).expect("read").tree.to_json(&store.space())
}
