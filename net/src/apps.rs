//! Installed apps: their files, what they may do, and the tokens that say so.
//!
//! An app is installed under an alias, which is its host: `http://<alias>.localhost:<port>/`. Its files are kept by the
//! hash that is their version, so what runs is what was looked at; only an upgrade, which the owner asks for, changes
//! it. What the app may do is a list of paths and verbs that the owner saw on a card, and a token that can do that and
//! nothing else. Values that an app writes are the space's, not the app's: neither an upgrade nor a removal touches them.
//!
//! In the home: `apps.json` says what is installed, `apps/<version>` holds files.
//!
//! Deliberately not: nothing here serves (`origin` does) or knows how apps travel (`sys::apps` does).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timebus_identity::{PublicKey, Token, random_bytes, z32};
use timebus_store::path::{Path, Segment};
use tokio::sync::watch;

use crate::app_token::{Allowance, AppScope, AppSpace, AppTokens};
use crate::peer::lock;

pub mod bundle;
pub mod manifest;
pub(crate) mod origin;

use bundle::{Bundle, BundleError};
use manifest::{Of, Want};

/// Most apps at once: each may hold its files in memory.
pub const APPS_MAX: usize = 64;
/// Most aliases that are remembered after their apps were removed.
const RETIRED_MAX: usize = 1024;

/// How long the owner has to open an app that he asked to open.
const CODE_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Most codes at once.
const CODES_MAX: usize = 256;

/// An app that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Its name, as in its `app.json`.
    pub name: &'static str,
    /// Its files by path.
    pub files: &'static [(&'static str, &'static [u8])],
}

impl BuiltIn {
    /// Its files, put together.
    ///
    /// # Errors
    ///
    /// [`BundleError`], which a test rules out for those that ship.
    pub fn bundle(&self) -> Result<Bundle, BundleError> {
        Bundle::new(self.files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes::Bytes::from_static(bytes))))
    }
}

/// Where an app came from. An alias never changes hands between two of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// Part of the program.
    Builtin,
    /// Published in a space.
    Space(String),
    /// A folder of this machine.
    Folder(String),
}

/// What is known of an installed app; a line of `apps.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) alias: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) source: Source,
    /// The space in which `Of::Me` is.
    pub(crate) space: String,
    /// What it was given.
    pub(crate) given: Vec<Want>,
    pub(crate) network: Vec<String>,
    pub(crate) installed_ms: u64,
    /// Whether its files are being worked on, so that its pages load themselves anew.
    #[serde(default)]
    pub(crate) is_dev: bool,
    /// A port of its own, for browsers that know no `*.localhost`.
    #[serde(default)]
    pub(crate) port: Option<u16>,
    token: String,
}

/// An installed app. A change makes a new one.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) record: Record,
    pub(crate) space: PublicKey,
    /// For pages of its own origin.
    pub(crate) token: Token,
    files: OnceLock<Result<Arc<Bundle>, String>>,
    folder: PathBuf,
}

impl App {
    fn new(record: Record, folder: &FilePath) -> Option<Arc<Self>> {
        let (space, token) = (record.space.parse().ok()?, record.token.parse().ok()?);
        Some(Arc::new(Self { record, space, token, files: OnceLock::new(), folder: folder.to_owned() }))
    }

    /// Its files, read from the disk when they are wanted first.
    pub(crate) fn bundle(&self) -> Result<Arc<Bundle>, String> {
        let load = || {
            let bytes = std::fs::read(self.folder.join(&self.record.version)).map_err(|error| error.to_string())?;
            let bundle = Bundle::from_json(&bytes).map_err(|error| error.to_string())?;
            match bundle.version() == self.record.version {
                true => Ok(Arc::new(bundle)),
                false => Err("the files are not those that were installed".to_owned()),
            }
        };
        self.files.get_or_init(load).clone()
    }

    /// What its token is good for: what its card said.
    pub(crate) fn scope(&self) -> AppScope {
        let mut allowances = Vec::new();
        let mut sys = Vec::new();
        for given in &self.record.given {
            let Ok(path) = Path::parse(&given.path) else { continue };
            let verbs: Vec<_> = given.may.iter().map(|verb| verb.authority()).collect();
            match path.segments().first() {
                Some(Segment::Name(name)) if &**name == ".sys" => sys.push((path, verbs)),
                _ => {
                    let space = match given.of {
                        Of::Me => AppSpace::One(self.space),
                        Of::Others => AppSpace::Others,
                    };
                    allowances.push(Allowance { space, path, verbs });
                }
            }
        }
        AppScope::new(self.record.alias.clone(), allowances, sys)
    }
}

/// `apps.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    apps: Vec<Record>,
    /// Aliases of removed apps and whose they were: what a browser keeps for an origin outlives the app, and must not
    /// become another's.
    #[serde(default)]
    retired: BTreeMap<String, Source>,
}

/// The installed apps of a home.
#[derive(Debug)]
pub(crate) struct Apps {
    home: PathBuf,
    state: Mutex<State>,
    /// Codes with which the owner opens an app, for which, and since when.
    codes: Mutex<HashMap<String, (String, Instant)>>,
    /// Counts changes, for pages that load themselves anew.
    pub(crate) changed: watch::Sender<u64>,
    /// Aliases of apps of the owner's other identities: an origin is one app's.
    elsewhere: OnceLock<Elsewhere>,
}

/// Tells the aliases that are or were used elsewhere.
struct Elsewhere(Box<dyn Fn() -> BTreeSet<String> + Send + Sync>);

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Elsewhere(..)")
    }
}

#[derive(Debug, Default)]
struct State {
    apps: BTreeMap<String, Arc<App>>,
    retired: BTreeMap<String, Source>,
}

/// What to install.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) bundle: Bundle,
    pub(crate) source: Source,
    pub(crate) space: PublicKey,
    pub(crate) alias: Option<String>,
    pub(crate) is_dev: bool,
    pub(crate) now_ms: u64,
}

/// Why an app was not installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("{0:?} cannot be the name of an app here: lower-case letters, digits and dashes, a letter first")]
    Alias(String),
    #[error("{0:?} is or was another app here")]
    Taken(String),
    #[error("{APPS_MAX} apps are installed, which is the most")]
    TooMany,
    #[error("the disk does not take it: {0}")]
    Io(#[from] io::Error),
}

impl Apps {
    /// Reads what is installed in a home, and makes the tokens good. A file that cannot be read means no apps, and is told.
    pub(crate) fn open(home: &FilePath, tokens: &AppTokens) -> Self {
        let stored: Stored = match std::fs::read(home.join("apps.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(%error, "apps.json is damaged; the apps have to be installed again");
                Stored::default()
            }),
            Err(_) => Stored::default(),
        };
        let folder = home.join("apps");
        let apps: BTreeMap<_, _> = stored.apps.into_iter().filter_map(|record| Some((record.alias.clone(), App::new(record, &folder)?))).collect();
        for app in apps.values() {
            let _ = tokens.insert(&app.token, Arc::new(app.scope()));
        }
        let state = Mutex::new(State { apps, retired: stored.retired });
        Self { home: home.to_owned(), state, codes: Mutex::default(), changed: watch::Sender::new(0), elsewhere: OnceLock::new() }
    }

    /// Says who tells which aliases are or were used by the owner's other identities.
    pub(crate) fn beside(&self, tell: impl Fn() -> BTreeSet<String> + Send + Sync + 'static) {
        let _ = self.elsewhere.set(Elsewhere(Box::new(tell)));
    }

    /// Aliases that are or were used here.
    pub(crate) fn aliases(&self) -> BTreeSet<String> {
        let state = lock(&self.state);
        state.apps.keys().chain(state.retired.keys()).cloned().collect()
    }

    /// The app of an alias.
    pub(crate) fn find(&self, alias: &str) -> Option<Arc<App>> {
        lock(&self.state).apps.get(alias).cloned()
    }

    /// All of them, by alias.
    pub(crate) fn all(&self) -> Vec<Arc<App>> {
        lock(&self.state).apps.values().cloned().collect()
    }

    /// A code that a page of an app can exchange for its token, once and soon.
    pub(crate) fn code(&self, alias: &str) -> String {
        let code = z32::encode(&random_bytes::<20>());
        let mut codes = lock(&self.codes);
        codes.retain(|_, (_, made)| made.elapsed() < CODE_LIFETIME);
        if codes.len() < CODES_MAX {
            codes.insert(code.clone(), (alias.to_owned(), Instant::now()));
        }
        code
    }

    /// Uses a code up; says whether it was good for an app.
    pub(crate) fn redeem_code(&self, alias: &str, code: &str) -> bool {
        lock(&self.codes).remove(code).is_some_and(|(of, made)| of == alias && made.elapsed() < CODE_LIFETIME)
    }

    /// The alias that an app would get, and the app that it would replace there.
    pub(crate) fn place(&self, name: &str, source: &Source, alias: Option<&str>) -> Result<(String, Option<Arc<App>>), InstallError> {
        let elsewhere = self.elsewhere.get().map(|elsewhere| elsewhere.0()).unwrap_or_default();
        let state = lock(&self.state);
        let was_other = |alias: &str| state.retired.get(alias).is_some_and(|was| was != source);
        let is_free = |alias: &str| !state.apps.contains_key(alias) && !was_other(alias) && !elsewhere.contains(alias);
        // The same app from the same place is an upgrade, whatever it is called here.
        let same = |app: &&Arc<App>| app.record.name == name && app.record.source == *source && alias.is_none_or(|alias| alias == app.record.alias);
        if let Some(app) = state.apps.values().find(same) {
            return Ok((app.record.alias.clone(), Some(Arc::clone(app))));
        }
        match alias {
            Some(alias) if !manifest::is_name(alias) => Err(InstallError::Alias(alias.to_owned())),
            Some(alias) if !is_free(alias) => Err(InstallError::Taken(alias.to_owned())),
            Some(alias) => Ok((alias.to_owned(), None)),
            None => {
                let numbered = (2..).map(|number| format!("{name}-{number}"));
                let mut tried = std::iter::once(name.to_owned()).chain(numbered);
                Ok((tried.find(|alias| is_free(alias)).unwrap_or_default(), None))
            }
        }
    }

    /// Installs an app, or another version of it. Its owner has seen what it wants.
    pub(crate) fn install(&self, tokens: &AppTokens, wish: Wish) -> Result<Arc<App>, InstallError> {
        let (alias, old) = self.place(&wish.bundle.manifest.name, &wish.source, wish.alias.as_deref())?;
        let version = wish.bundle.version();
        let folder = self.home.join("apps");
        std::fs::create_dir_all(&folder)?;
        crate::files::write_whole(&folder.join(&version), &wish.bundle.to_json())?;
        let mut state = lock(&self.state);
        if old.is_none() && state.apps.len() >= APPS_MAX {
            return Err(InstallError::TooMany);
        }
        let manifest = &wish.bundle.manifest;
        // Pages go on with the token that they have, unless what it can do changes.
        let kept = old.as_ref().filter(|old| old.record.given == manifest.wants && old.space == wish.space);
        let record = Record {
            alias: alias.clone(),
            name: manifest.name.clone(),
            version,
            source: wish.source,
            space: wish.space.to_string(),
            given: manifest.wants.clone(),
            network: manifest.network.clone(),
            installed_ms: wish.now_ms,
            is_dev: wish.is_dev,
            port: old.as_ref().and_then(|old| old.record.port),
            token: kept.map_or_else(|| Token::generate().text().to_string(), |old| old.record.token.clone()),
        };
        let app = App::new(record, &folder).ok_or_else(|| io::Error::other("a key that was just made does not parse"))?;
        let _ = app.files.set(Ok(Arc::new(wish.bundle)));
        let old = state.apps.insert(alias.clone(), Arc::clone(&app));
        if let Err(error) = self.save(&state) {
            match old {
                Some(old) => state.apps.insert(alias, old),
                None => state.apps.remove(&alias),
            };
            return Err(error.into());
        }
        drop(state);
        if old.as_ref().is_none_or(|old| old.token != app.token) {
            tokens.remove(&alias);
            if !tokens.insert(&app.token, Arc::new(app.scope())) {
                return Err(InstallError::TooMany);
            }
        }
        if let Some(old) = old {
            self.forget_files(&old.record.version);
        }
        self.changed.send_modify(|count| *count += 1);
        Ok(app)
    }

    /// Removes an app and takes its token back. What it wrote stays.
    pub(crate) fn remove(&self, tokens: &AppTokens, alias: &str) -> io::Result<Option<Arc<App>>> {
        let mut state = lock(&self.state);
        let Some(app) = state.apps.remove(alias) else { return Ok(None) };
        // From here on the token is dead, whatever the disk says.
        tokens.remove(alias);
        if state.retired.len() >= RETIRED_MAX {
            state.retired.pop_first();
        }
        state.retired.insert(alias.to_owned(), app.record.source.clone());
        self.save(&state)?;
        drop(state);
        self.forget_files(&app.record.version);
        self.changed.send_modify(|count| *count += 1);
        Ok(Some(app))
    }

    /// Remembers the port that an app has for itself.
    pub(crate) fn set_port(&self, alias: &str, port: u16) -> io::Result<()> {
        let mut state = lock(&self.state);
        let Some(app) = state.apps.get(alias) else { return Ok(()) };
        let record = Record { port: Some(port), ..app.record.clone() };
        let Some(new) = App::new(record, &self.home.join("apps")) else { return Ok(()) };
        state.apps.insert(alias.to_owned(), new);
        self.save(&state)
    }

    fn forget_files(&self, version: &str) {
        if !self.all().iter().any(|app| app.record.version == version) {
            let _ = std::fs::remove_file(self.home.join("apps").join(version));
        }
    }

    fn save(&self, state: &State) -> io::Result<()> {
        let apps = state.apps.values().map(|app| app.record.clone()).collect();
        let stored = Stored { apps, retired: state.retired.clone() };
        crate::files::write_whole(&self.home.join("apps.json"), &serde_json::to_vec_pretty(&stored)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Verb;

    fn wish(wants: &str, source: Source, alias: Option<&str>) -> Wish {
        let manifest = format!(r#"{{"name":"board","title":"Board","wants":{wants}}}"#);
        let files = [("app.json".to_owned(), bytes::Bytes::from(manifest)), ("index.html".to_owned(), bytes::Bytes::from_static(b"x"))];
        let bundle = Bundle::new(files).expect("an app");
        Wish { bundle, source, space: PublicKey::from_bytes([1; 32]), alias: alias.map(str::to_owned), is_dev: false, now_ms: 1 }
    }

    const WANTS: &str = r#"[{"path":"/boards","may":["read","write"]},{"path":"/boards","may":["read"],"of":"others"},
        {"path":"/.sys/spaces","may":["read"]}]"#;

    /// A home with its apps and the tokens that are good.
    struct Place(tempfile::TempDir, Apps, AppTokens);

    impl Place {
        fn new() -> Self {
            Self::at(tempfile::tempdir().expect("a folder"))
        }

        fn at(home: tempfile::TempDir) -> Self {
            let tokens = AppTokens::default();
            let apps = Apps::open(home.path(), &tokens);
            Self(home, apps, tokens)
        }

        fn again(self) -> Self {
            Self::at(self.0)
        }

        fn install(&self, wants: &str, source: Source) -> Arc<App> {
            self.1.install(&self.2, wish(wants, source, None)).expect("installed")
        }

        fn may(&self, token: &str, verb: Verb, space: u8, path: &str) -> bool {
            let (space, own) = (PublicKey::from_bytes([space; 32]), PublicKey::from_bytes([1; 32]));
            self.2.find(token).is_some_and(|scope| scope.allows(verb, &space, &own, &Path::parse(path).expect("a path")))
        }
    }

    #[test]
    fn an_app_may_do_what_the_card_said_and_nothing_else() {
        let place = Place::new();
        let token = place.install(WANTS, Source::Builtin).token.text().to_string();
        let may = |verb, space, path| place.may(&token, verb, space, path);
        assert!(may(Verb::Write, 1, "/boards") && may(Verb::Write, 1, "/boards/a/b") && may(Verb::Read, 2, "/boards/a"));
        for (verb, space, path) in [
            (Verb::Write, 2, "/boards"),
            (Verb::Read, 1, "/"),
            (Verb::Read, 1, "/board"),
            (Verb::Read, 1, "/boardsx"),
            (Verb::Read, 1, "/.auth"),
            (Verb::Read, 2, "/"),
            (Verb::Grant, 1, "/boards"),
        ] {
            assert!(!may(verb, space, path), "{verb:?} {path}");
        }
        let scope = place.2.find(&token).expect("it is good");
        let sys = |path| scope.allows_sys(Verb::Read, &Path::parse(path).expect("a path"));
        assert!(sys("/.sys/spaces") && !sys("/.sys/log") && !sys("/.sys"));
    }

    #[test]
    fn a_home_that_is_opened_again_has_its_apps_and_a_removed_one_is_gone() {
        let place = Place::new();
        let token = place.install(WANTS, Source::Builtin).token.text().to_string();
        let place = place.again();
        let app = place.1.find("board").expect("installed");
        assert_eq!(app.bundle().expect("files").file("index.html").map(|bytes| &bytes[..]), Some(&b"x"[..]));
        assert!(place.may(&token, Verb::Read, 1, "/boards"));
        assert!(place.1.remove(&place.2, "board").expect("written").is_some());
        assert!(!place.may(&token, Verb::Read, 1, "/boards"), "the token is dead");
        let place = place.again();
        assert!(place.1.find("board").is_none() && place.2.find(&token).is_none());
        assert_eq!(std::fs::read_dir(place.0.path().join("apps")).expect("a folder").count(), 0);
    }

    #[test]
    fn two_apps_of_one_name_get_two_aliases_and_none_inherits_an_origin() {
        let place = Place::new();
        let alias = |source: &str| place.install(WANTS, Source::Space(source.to_owned())).record.alias.clone();
        assert_eq!((alias("a"), alias("b"), alias("a")), ("board".into(), "board-2".into(), "board".into()));
        place.1.remove(&place.2, "board").expect("written");
        assert_eq!(alias("c"), "board-3", "what the browser keeps for board is the first one's");
        assert_eq!(alias("a"), "board");
        let taken = place.1.install(&place.2, wish(WANTS, Source::Builtin, Some("board-2")));
        assert!(matches!(taken, Err(InstallError::Taken(_))), "{taken:?}");
    }

    #[test]
    fn an_upgrade_that_wants_the_same_keeps_the_token_and_another_one_does_not() {
        let place = Place::new();
        let install = |wants: &str| place.install(wants, Source::Builtin).token.text().to_string();
        let first = install(WANTS);
        assert_eq!(install(WANTS), first);
        let other = install(r#"[{"path":"/boards","may":["read"]}]"#);
        assert!(place.may(&other, Verb::Read, 1, "/boards") && !place.may(&other, Verb::Write, 1, "/boards"));
        assert!(!place.may(&first, Verb::Read, 1, "/boards"));
    }

    #[test]
    fn files_that_were_changed_on_disk_do_not_run() {
        let place = Place::new();
        let version = place.install(WANTS, Source::Builtin).record.version.clone();
        let file = place.0.path().join("apps").join(version);
        let text = std::fs::read_to_string(&file).expect("a file").replace("eA==", "eQ==");
        std::fs::write(&file, text).expect("written");
        assert!(place.again().1.find("board").expect("installed").bundle().is_err());
    }
}
