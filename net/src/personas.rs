//! Personas: further identities of the owner, served by the same peer.
//!
//! A persona is a peer of its own within this one: below `personas/` it has a home with keys, store, address book, inbox,
//! limits and apps of its own, and it takes part in the network with a node key and a port of its own. Nothing that one of
//! them sends names another, so that others have only what the machine gives away: the address, and when it is there.
//! Its root key is derived from the owner's by a keyed hash, so one recovery kit covers them all.
//!
//! The owner reaches a persona as `/@name/…`: what follows is asked of that peer, `/@work/.sys/peers` too. To everybody
//! else there is no such name, nor is the space held here. An app of a persona runs at an origin like others, and sees
//! that peer alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, Weak};

use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use timebus_identity::{Keys, KeysError, Kit, KitError, PublicKey, SecretKey, Token, human_name, persona_root};
use timebus_store::blobs::{Blobs, Limits};
use timebus_store::store::{Config, OpenError, Store, lock_home};
use tokio::task::JoinSet;

use crate::apps::manifest::is_name;
use crate::body::Body;
use crate::network::{Network, NetworkConfig, NetworkError};
use crate::peer::{Inner, Peer, PeerConfig, lock};
use crate::problem::Problem;
use crate::who::{Who, now_ms};

/// Below a home, the homes of its personas.
pub const FOLDER: &str = "personas";
/// What a home that is being removed is called until it is gone.
const REMOVED: &str = ".removed-";
/// Most personas of a peer: each is a store with threads, sockets and some ten MB.
const PERSONAS_MAX: usize = 32;
/// Memory for ready answers of one persona.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Memory of the tables of one persona: blocks that were read, and rows that are new.
const TABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Parts of `/.sys` that are the whole peer's.
const WHOLE: [&str; 6] = ["down", "quiet", "login", "login-code", "personas", "output"];

/// The personas of a peer, or what a persona knows of the peer that it is one of.
#[derive(Debug, Default)]
pub(crate) struct Personas {
    open: RwLock<BTreeMap<String, Peer>>,
    /// Those that could not be opened, and why.
    closed: Mutex<BTreeMap<String, String>>,
    /// Of a persona: the peer that it is one of.
    of: OnceLock<Weak<Inner>>,
    /// How they take part in the network, once the peer does.
    network: OnceLock<NetworkConfig>,
    /// One at a time comes or goes.
    making: tokio::sync::Mutex<()>,
    tasks: Mutex<JoinSet<()>>,
}

/// Why there is no new persona.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersonaError {
    /// The name cannot be one.
    #[error("{0:?} cannot be the name of a persona: lower-case letters, digits and dashes, a letter first")]
    Name(String),
    /// There is one.
    #[error("there is a persona called {0} already")]
    Taken(String),
    /// Too many.
    #[error("{PERSONAS_MAX} personas are the most")]
    TooMany,
    /// A persona has none.
    #[error("a persona has no personas of its own")]
    Nested,
    /// The keys that it would be derived from are on paper.
    #[error("the root key is not on this disk: the kit was confirmed")]
    Cold,
    /// Other words.
    #[error("these words are not of the root key that this space has now")]
    OtherWords,
    /// Something is wrong with the words.
    #[error(transparent)]
    Words(#[from] KitError),
    /// The keys cannot be read or written.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The home does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No sockets.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The disk failed.
    #[error("the disk does not take it: {0}")]
    Io(#[from] std::io::Error),
}

/// From which keys a new persona gets its own.
#[derive(Debug)]
pub(crate) enum Seed {
    /// Those of the owner, on this disk.
    Root,
    /// Those of the owner, which the words of his kit say.
    Words(String),
    /// None: it has a kit of its own.
    Apart,
}

/// The root key of a persona and the one after it, from those of its owner. Neither tells anything of the others.
#[must_use]
pub fn keys_from(root: &SecretKey, next: &SecretKey, name: &str) -> (SecretKey, SecretKey) {
    (persona_root(root, name), persona_root(next, name))
}

/// The home of a persona, below its owner's.
#[must_use]
pub fn home_of(home: &FilePath, name: &str) -> PathBuf {
    home.join(FOLDER).join(name)
}

/// The names of the personas that have a home below this one.
#[must_use]
pub fn names_in(home: &FilePath) -> Vec<String> {
    let entries = std::fs::read_dir(home.join(FOLDER)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_name(name)).collect();
    names.sort();
    names
}

/// The UDP port at which others knew the peer of a home last.
#[must_use]
pub fn udp_port(home: &FilePath) -> Option<u16> {
    std::fs::read_to_string(home.join("udp-port")).ok()?.trim_end().parse().ok().filter(|port| *port != 0)
}

/// Remembers at which UDP port others know the peer of a home. Without it they find it by what else they know.
pub fn set_udp_port(home: &FilePath, sockets: &[SocketAddr]) {
    let v4 = sockets.iter().find(|socket| socket.is_ipv4());
    if let Some(socket) = v4.or(sockets.first())
        && let Err(error) = crate::files::write_whole(&home.join("udp-port"), format!("{}\n", socket.port()).as_bytes())
    {
        tracing::warn!(%error, "the UDP port was not remembered");
    }
}

impl Personas {
    fn all(&self) -> Vec<(String, Peer)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(name, peer)| (name.clone(), peer.clone())).collect()
    }
}

impl Peer {
    /// Opens the personas that have a home below this peer's. One that does not open is told about and left alone. Call it
    /// where it may take a while.
    pub fn open_personas(&self) {
        let home = self.store().home();
        for entry in std::fs::read_dir(home.join(FOLDER)).into_iter().flatten().flatten() {
            // What was being removed when the peer was killed.
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(REMOVED)) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        for name in names_in(home) {
            // Without keys it never came to be.
            if !home_of(home, &name).join("keys/space").exists() {
                continue;
            }
            if let Err(error) = self.open_persona(&name) {
                tracing::error!(%error, persona = %name, "a persona could not be opened");
                lock(&self.personas.closed).insert(name, error.to_string());
            }
        }
    }

    /// Lets files take so many bytes: those of this peer and of all its personas together.
    pub fn limit_files(&self, total_bytes_max: u64) {
        let personas = self.personas.all();
        for peer in std::iter::once(self).chain(personas.iter().map(|(_, persona)| persona)) {
            if let Some(blobs) = peer.store().blobs() {
                blobs.set_limits(Limits { total_bytes_max, ..blobs.limits() });
            }
        }
    }

    fn open_persona(&self, name: &str) -> Result<Peer, PersonaError> {
        let home = home_of(self.store().home(), name);
        let held = lock_home(&home)?;
        let config = Config {
            cache_bytes: TABLE_BYTES,
            memtable_bytes: TABLE_BYTES,
            blobs: self.store().blobs().map(Blobs::limits).unwrap_or_default(),
            ..Config::default()
        };
        let store = Store::open(&home, held, &config, now_ms(), &mut |_| {})?;
        if let (Some(blobs), Some(all)) = (store.blobs(), self.store().blobs()) {
            blobs.share_limit(all);
        }
        // A name that leads to the owner's peer is none of the persona's, and its token is told to nobody.
        let config = PeerConfig { hosts: Vec::new(), cache_bytes: CACHE_BYTES, ..self.config.clone() };
        let persona = Self::new(store, Token::generate(), config);
        let _ = persona.personas.of.set(self.weak());
        self.personas.open.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), persona.clone());
        lock(&self.personas.closed).remove(name);
        Ok(persona)
    }

    /// Has the personas take part in the network: those that are here, and those that come.
    pub async fn enter_personas(&self, config: NetworkConfig) {
        let _ = self.personas.network.set(config);
        for (name, persona) in self.personas.all() {
            if let Err(error) = self.start_persona(&persona).await {
                tracing::error!(%error, persona = %name, "a persona takes no part in the network");
            }
        }
    }

    /// Boxed, because the types of a whole network do not go into that of every request.
    fn start_persona<'a>(&'a self, persona: &'a Peer) -> BoxFuture<'a, Result<(), PersonaError>> {
        Box::pin(async move {
            let Some(config) = self.personas.network.get() else { return Ok(()) };
            let home = persona.store().home();
            let port = udp_port(home).unwrap_or(0);
            // At the interfaces that the owner named, at a port of its own. The local network is told nothing: two peers that
            // one machine calls out side by side are known to be one's.
            let bind = config.endpoint.bind.iter().map(|address| {
                let last = SocketAddr::new(address.ip(), port);
                if std::net::UdpSocket::bind(last).is_ok() { last } else { SocketAddr::new(address.ip(), 0) }
            });
            let endpoint =
                crate::link::endpoint::EndpointConfig { bind: bind.collect(), port, lan: None, advertise: Vec::new(), ..config.endpoint.clone() };
            let name = human_name(&persona.space());
            let keys = Keys::create_or_open(&home.join("keys"))?;
            let network = Network::join(persona.store().clone(), &keys, NetworkConfig { endpoint, name, links_max: config.links_max }).await?;
            set_udp_port(home, &network.endpoint().sockets());
            persona.enter(network);
            let mut tasks = lock(&self.personas.tasks);
            tasks.spawn(crate::scrub::run(persona.clone()));
            tasks.spawn(crate::ends::keep(persona.clone()));
            tasks.spawn(crate::blobs::collect(persona.clone()));
            tasks.spawn(crate::blobs::wishes::keep(persona.clone()));
            tasks.spawn(crate::community::keeping::keep(persona.clone()));
            tasks.spawn(crate::community::holding::keep(persona.clone()));
            tasks.spawn(crate::dht::keep(persona.clone()));
            Ok(())
        })
    }

    /// Makes a persona.
    pub(crate) async fn new_persona(&self, name: &str, seed: Seed) -> Result<Peer, PersonaError> {
        let _making = self.personas.making.lock().await;
        if self.front().is_some() {
            return Err(PersonaError::Nested);
        }
        if !is_name(name) {
            return Err(PersonaError::Name(name.to_owned()));
        }
        if self.persona(name).is_some() || lock(&self.personas.closed).contains_key(name) {
            return Err(PersonaError::Taken(name.to_owned()));
        }
        if self.personas.all().len() >= PERSONAS_MAX {
            return Err(PersonaError::TooMany);
        }
        let (front, called) = (self.clone(), name.to_owned());
        let made = tokio::task::spawn_blocking(move || {
            let home = front.store().home();
            let (root, next) = match seed {
                Seed::Apart => (SecretKey::generate(), SecretKey::generate()),
                seed => {
                    // The store holds the lock of the home, so the keys are ours.
                    let keys = Keys::create_or_open(&home.join("keys"))?;
                    match (seed, keys.root(), keys.next()) {
                        (Seed::Words(words), ..) => {
                            let (root, next) = Kit::recover(&words)?;
                            if root.public() != keys.root_public() {
                                return Err(PersonaError::OtherWords);
                            }
                            keys_from(&root, &next, &called)
                        }
                        (_, Some(root), Some(next)) => keys_from(root, next, &called),
                        _ => return Err(PersonaError::Cold),
                    }
                }
            };
            let home = home_of(home, &called);
            let held = lock_home(&home)?;
            Keys::create_from(&home.join("keys"), &root, &next)?;
            drop(held);
            front.open_persona(&called)
        });
        let persona = made.await.map_err(std::io::Error::other)??;
        self.start_persona(&persona).await?;
        Ok(persona)
    }

    /// Removes a persona and all that it has. Says whether there was one.
    pub(crate) async fn remove_persona(&self, name: &str) -> Result<bool, PersonaError> {
        let _making = self.personas.making.lock().await;
        let home = home_of(self.store().home(), name);
        let persona = self.personas.open.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let was_closed = lock(&self.personas.closed).remove(name).is_some();
        if persona.is_none() && !was_closed {
            return Ok(false);
        }
        let aside = self.store().home().join(FOLDER).join(format!("{REMOVED}{name}-{}", now_ms()));
        std::fs::rename(&home, &aside)?;
        if let Some(persona) = persona {
            persona.stop();
            if let Some(network) = persona.network() {
                network.leave().await;
            }
            let _ = tokio::task::spawn_blocking(move || drop(persona)).await;
        }
        // What somebody still has open goes with the name.
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(aside)).await;
        Ok(true)
    }

    /// Closes all personas, which leaves their locks.
    pub async fn close_personas(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.personas.tasks));
        tasks.shutdown().await;
        let open = std::mem::take(&mut *self.personas.open.write().unwrap_or_else(PoisonError::into_inner));
        for persona in open.into_values() {
            persona.stop();
            if let Some(network) = persona.network() {
                network.leave().await;
            }
            let _ = tokio::task::spawn_blocking(move || drop(persona)).await;
        }
    }

    /// The persona of a name.
    pub(crate) fn persona(&self, name: &str) -> Option<Peer> {
        self.personas.open.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All personas by name.
    pub(crate) fn all_personas(&self) -> Vec<(String, Peer)> {
        self.personas.all()
    }

    /// Those that could not be opened, and why.
    pub(crate) fn closed_personas(&self) -> BTreeMap<String, String> {
        lock(&self.personas.closed).clone()
    }

    /// Of a persona, the peer that it is one of.
    pub(crate) fn front(&self) -> Option<Peer> {
        self.personas.of.get().and_then(Peer::of_weak)
    }

    /// The other identities of the owner: of a peer its personas, of a persona the peer and its siblings.
    pub(crate) fn family(&self) -> Vec<Peer> {
        let own = self.space();
        let front = self.front();
        let personas = front.as_ref().unwrap_or(self).personas.all().into_iter().map(|(_, persona)| persona);
        personas.chain(front.clone()).filter(|peer| peer.space() != own).collect()
    }

    /// Bytes of files of others that may stay here: what the other identities of the owner leave of what all may have, and in any
    /// case as much as it is for each if all have the same.
    pub(crate) fn cached_bytes_max(&self) -> u64 {
        let (max, family) = (self.config.cached_files_bytes_max, self.family());
        let theirs: u64 = family.iter().map(|peer| peer.cached.load(Ordering::Relaxed)).sum();
        max.saturating_sub(theirs).max(max / (family.len() as u64 + 1))
    }

    /// Whether a space is another one of the owner's. What is asked of others about it would tell them so.
    pub(crate) fn is_family(&self, space: &PublicKey) -> bool {
        self.family().iter().any(|peer| peer.space() == *space)
    }

    /// The peer whose app this is: this one, or a persona.
    pub(crate) fn peer_of_app(&self, alias: &str) -> Peer {
        let has = |peer: &Peer| peer.apps().find(alias).is_some();
        if has(self) {
            return self.clone();
        }
        self.personas.all().into_iter().map(|(_, persona)| persona).find(has).unwrap_or_else(|| self.clone())
    }
}

/// Other identities of the owner's of which apps believe that they are followed, as they do of any key: as long as one that is followed,
/// also after a start. They are named by what stands in for them, so that the file names nobody.
#[derive(Debug)]
pub(crate) struct Pretended {
    /// None of a peer without a folder.
    file: Option<PathBuf>,
    all: Mutex<BTreeSet<PublicKey>>,
}

impl Pretended {
    pub(crate) fn open(home: &FilePath) -> Self {
        let file = (!home.as_os_str().is_empty()).then(|| home.join("pretended.json"));
        let read = file.as_ref().and_then(|file| std::fs::read(file).ok());
        let texts: Vec<String> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file, all: Mutex::new(texts.iter().filter_map(|text| text.parse().ok()).collect()) }
    }

    pub(crate) fn all(&self) -> BTreeSet<PublicKey> {
        lock(&self.all).clone()
    }

    /// # Errors
    ///
    /// What the system says: then it is not remembered.
    pub(crate) fn add(&self, space: PublicKey) -> std::io::Result<()> {
        let mut all = lock(&self.all);
        if all.contains(&space) {
            return Ok(());
        }
        let texts: Vec<String> = all.iter().chain([&space]).map(ToString::to_string).collect();
        if let Some(file) = &self.file {
            crate::files::write_whole(file, &serde_json::to_vec(&texts)?)?;
        }
        all.insert(space);
        Ok(())
    }
}

/// The kind of problem that [`is_own`] is.
pub(crate) const IS_OWN: &str = "persona";

/// The answer to who would tell others that two spaces are his.
pub(crate) fn is_own(space: &PublicKey) -> Problem {
    let detail = format!("{} is another one of your own identities, and asking others for it would tell them so", human_name(space));
    Problem::new(StatusCode::CONFLICT, IS_OWN, "this is you, too", detail)
        .with_fix("`timebus personas` lists them; `timebus --persona NAME …` asks one of them")
}

/// The persona that a request of the owner names with its first segment, by name or key, and how it is called there.
pub(crate) fn named(peer: &Peer, who: &Who, first: Option<&str>) -> Option<(String, Peer)> {
    let name = first?.strip_prefix('@').filter(|_| who.is_owner())?;
    match name.parse::<PublicKey>() {
        Err(_) => peer.persona(name).map(|persona| (name.to_owned(), persona)),
        Ok(key) => peer.all_personas().into_iter().find(|(_, persona)| persona.space() == key),
    }
}

/// Whether a persona can be asked this; the segments are those behind its name.
pub(crate) fn check(rest: &[impl AsRef<str>]) -> Result<(), Problem> {
    match rest {
        [sys, part, ..] if sys.as_ref() == ".sys" && WHOLE.contains(&part.as_ref()) => {
            let detail = format!("/.sys/{} is not a persona's but the whole peer's", part.as_ref());
            Err(Problem::new(StatusCode::NOT_FOUND, "sys", "a persona has no such part", detail).with_fix("ask without the persona in front"))
        }
        _ => Ok(()),
    }
}

/// A request target without its first segment.
pub(crate) fn behind(uri: &Uri) -> Option<Uri> {
    let raw = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let end = raw[1..].find(['/', '?']).map_or(raw.len(), |at| at + 1);
    let rest = &raw[end..];
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The answer of a persona, with what it says of its places as the asker has to name them.
pub(crate) fn answered(mut response: Response<Body>, name: &str) -> Response<Body> {
    let place = response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok()).filter(|place| place.starts_with('/'));
    if let Some(place) = place.and_then(|place| HeaderValue::from_str(&format!("/@{name}{place}")).ok()) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn files_of_all_identities_have_one_limit_and_of_those_of_others_each_may_keep_its_part() {
        let home = tempfile::tempdir().expect("a folder");
        let lock = lock_home(home.path()).expect("a free home");
        let store = Store::open(home.path(), lock, &Config::default(), 1, &mut |_| {}).expect("a new store");
        let config = PeerConfig { cached_files_bytes_max: 900, ..PeerConfig::default() };
        let peer = Peer::new(store, Token::generate(), config);
        let max = |peers: &[&Peer]| peers.iter().map(|peer| peer.cached_bytes_max()).collect::<Vec<_>>();
        assert_eq!(max(&[&peer]), [900]);
        let work = peer.new_persona("work", Seed::Apart).await.expect("a persona");
        let club = peer.new_persona("club", Seed::Apart).await.expect("a persona");
        assert_eq!(max(&[&peer, &work, &club]), [900; 3], "what the others do not use");
        work.cached.store(500, Ordering::Relaxed);
        assert_eq!(max(&[&peer, &work, &club]), [400, 900, 400]);
        club.cached.store(400, Ordering::Relaxed);
        assert_eq!(max(&[&peer, &work, &club]), [300, 500, 400], "a third for sure");

        peer.limit_files(1000);
        let keep = async |peer: &Peer, byte: u8| crate::blobs::keep(peer, vec![byte; 400].into()).await;
        keep(&work, 1).await.expect("room");
        keep(&club, 2).await.expect("room");
        assert_eq!(keep(&peer, 3).await.expect_err("no room").status, StatusCode::PAYLOAD_TOO_LARGE);
        peer.remove_persona("club").await.expect("removes");
        drop(club);
        keep(&peer, 3).await.expect("room");
    }
}
