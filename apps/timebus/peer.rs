//! A peer in this process: the only file that knows how to open a store and serve it.

use std::fs::File;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use timebus_identity::Keys;
use timebus_net::network::{Network, NetworkConfig, NetworkError};
use timebus_net::peer::{Peer, PeerConfig};
use timebus_store::auth::Rights;
use timebus_store::store::{Config, OpenError, Opened, Store, lock_home};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::home::Home;
use crate::output::Output;
use crate::progress::Progress;

/// Bytes on their way between a command and the peer in its process.
const DUPLEX_BYTES: usize = 256 * 1024;

/// How long opening may take before people are told what takes so long.
const OPENED_SILENTLY: Duration = Duration::from_millis(700);

/// How long a store is waited for that something still holds.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Takes the lock of a home; `None` when another process has it.
pub(crate) fn try_lock(home: &Home) -> anyhow::Result<Option<File>> {
    match lock_home(home.folder()) {
        Ok(lock) => Ok(Some(lock)),
        Err(OpenError::InUse(_)) => Ok(None),
        Err(error) => Err(explain(error, home)),
    }
}

/// A peer in this process.
#[derive(Debug)]
pub(crate) struct Local {
    peer: Peer,
    serving: JoinSet<()>,
}

impl Local {
    /// Opens the home whose lock is held; a new one if nobody lives there.
    pub(crate) async fn open(home: &Home, lock: File, out: Output, config: PeerConfig) -> anyhow::Result<Self> {
        let at = home.clone();
        let replayed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&replayed);
        let mut opening = tokio::task::spawn_blocking(move || open_store(&at, lock, &counted));
        let mut progress: Option<Progress> = None;
        let opened = loop {
            match tokio::time::timeout(OPENED_SILENTLY, &mut opening).await {
                Ok(opened) => break opened,
                Err(_) => {
                    let bar = progress.get_or_insert_with(|| Progress::things(out, "reading the log", None));
                    bar.set(replayed.load(Ordering::Relaxed));
                }
            }
        };
        drop(progress);
        let (store, token) = opened.context("opening the store failed")??;
        let peer = Peer::new(store, token, config);
        let personas = peer.clone();
        tokio::task::spawn_blocking(move || personas.open_personas()).await.context("opening the personas failed")?;
        Ok(Self { peer, serving: JoinSet::new() })
    }

    /// A connection to it, trusted as the owner.
    pub(crate) fn connect(&mut self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        self.serving.spawn(timebus_net::server::serve_owner(self.peer.clone(), theirs));
        ours
    }

    /// Serves it on sockets until `stop` ends or somebody asks it over HTTP to stop.
    pub(crate) fn serve<S: Future<Output = ()>>(&self, listeners: Vec<TcpListener>, stop: S) -> impl Future<Output = std::io::Result<()>> + use<S> {
        timebus_net::server::serve(self.peer.clone(), listeners, stop)
    }

    /// Takes part in the network.
    pub(crate) async fn enter(&self, home: &Home, config: NetworkConfig) -> anyhow::Result<&Network> {
        let joined = Network::join(self.peer.store().clone(), &keys_of(home)?, config).await;
        let network = joined.map_err(|error| {
            let failure = Failure::refused("could not take part in the network").detail(&error);
            match error {
                NetworkError::Book(_) => failure.fix(format!("`{}` says how", home.command("doctor"))),
                NetworkError::Bind(_) => failure.fix("name another address with --udp, or start with --offline"),
                _ => failure.fix(format!("`{}` looks into it", home.command("doctor"))),
            }
        })?;
        self.peer.enter(network);
        self.peer.network().context("the network was left at once")
    }

    /// Has the personas of this home take part in the network, too.
    pub(crate) async fn enter_personas(&self, config: NetworkConfig) {
        self.peer.enter_personas(config).await;
    }

    pub(crate) fn login_code(&self) -> String {
        self.peer.login_code()
    }

    /// Lets files take so many bytes, here and in the homes of the personas.
    pub(crate) fn limit_files(&self, bytes_max: u64) {
        self.peer.limit_files(bytes_max);
    }

    pub(crate) fn store(&self) -> &Store {
        self.peer.store()
    }

    /// What was found and done when the store was opened.
    pub(crate) fn opened(&self) -> &Opened {
        self.peer.store().opened()
    }

    /// Ends open connections and closes the store, which leaves the lock.
    pub(crate) async fn close(mut self) {
        self.serving.shutdown().await;
        self.peer.close_personas().await;
        if let Some(network) = self.peer.network() {
            network.leave().await;
        }
        let home = self.peer.store().home().to_owned();
        // The last handle waits for the threads of the store; what was begun beside may hold one a moment longer.
        let peer = self.peer;
        let closed = move || {
            drop(peer);
            let end = Instant::now() + CLOSE_MAX;
            while matches!(lock_home(&home), Err(OpenError::InUse(_))) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        let _ = tokio::task::spawn_blocking(closed).await;
    }
}

/// What was stated about the rights in the own space of a home, for which its store is opened and closed again. For whoever holds
/// the lock, which is left.
pub(crate) async fn rights_of(home: &Home, lock: File) -> anyhow::Result<Option<Arc<Rights>>> {
    let home = home.clone();
    let read = move || {
        let (store, _) = open_store(&home, lock, &AtomicU64::new(0))?;
        let rights = store.rights(&store.space());
        store.close();
        Ok(rights)
    };
    tokio::task::spawn_blocking(read).await.context("opening the store failed")?
}

fn open_store(home: &Home, lock: File, replayed: &AtomicU64) -> anyhow::Result<(Store, timebus_identity::Token)> {
    let mut count = |changes: u64| replayed.store(changes, Ordering::Relaxed);
    let opened = Store::open(home.folder(), lock, &Config::default(), crate::clock::now_ms(), &mut count);
    let store = opened.map_err(|error| explain(error, home))?;
    // The store holds the lock of the home, so the keys are ours.
    let token = keys_of(home)?.owner_token().map_err(|error| explain(error.into(), home))?;
    Ok((store, token))
}

/// Opens the keys of a home. For whoever holds the lock.
pub(crate) fn keys_of(home: &Home) -> anyhow::Result<Keys> {
    Keys::create_or_open(&home.folder().join("keys")).map_err(|error| explain(error.into(), home))
}

/// Says what can be done about a home that does not open.
fn explain(error: OpenError, home: &Home) -> anyhow::Error {
    let doctor = format!("`{}` says more about this home", home.command("doctor"));
    let failure = match &error {
        OpenError::InUse(_) => Failure::unreachable(error.to_string()).fix(home.command("status")),
        OpenError::Keys(keys) => Failure::refused(keys.to_string()).fix(doctor),
        _ => Failure::refused(error.to_string()).fix(doctor),
    };
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !failure.title.contains(&text) {
            causes.push(text);
        }
        cause = error.source();
    }
    match causes.is_empty() {
        true => failure.into(),
        false => failure.detail(causes.join(": ")).into(),
    }
}
