//! The programs we compare, and how each is started so that the comparison is fair.

use std::env;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use anyhow::Context as _;
use serde_json::Value;

use crate::connection::Protocol;
use crate::server::{Server, free_port};

/// A program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// A server that does nothing but answer with 200 constant bytes: what HTTP itself costs.
    Hyper,
    Redis,
    Etcd,
    Nats,
    YWebsocket,
    Timebus,
}

/// When Redis flushes its log; the other peers are always started as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Keep nothing on disk.
    Never,
    /// Once a second, nobody waits for it.
    Later,
    /// Before every answer.
    Always,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` keeps the width that a caller asks for.
        f.pad(match self {
            Self::Hyper => "hyper",
            Self::Redis => "redis",
            Self::Etcd => "etcd",
            Self::Nats => "nats",
            Self::YWebsocket => "y-websocket",
            Self::Timebus => "timebus",
        })
    }
}

impl Peer {
    /// What to tell someone who has not installed it; `None` when it is there.
    pub(crate) fn missing(self) -> Option<&'static str> {
        if self.program().is_some() {
            return None;
        }
        Some(match self {
            Self::Redis => "redis-server not installed (apt-get install redis-server)",
            Self::Etcd => "etcd not installed (apt-get install etcd-server)",
            Self::Nats => "nats-server not installed (apt-get install nats-server)",
            Self::YWebsocket => {
                "y-websocket-server not installed (npm install -g @y/websocket-server@0.1.1 \
                 yjs@13, or name its file in Y_WEBSOCKET_SERVER)"
            }
            Self::Hyper => "this program cannot find itself",
            Self::Timebus => "no timebus program (cargo build --release, or name it in TIMEBUS_BIN)",
        })
    }

    /// Which protocol its connections speak.
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Redis => Protocol::Redis,
            Self::Etcd => Protocol::Etcd,
            Self::Hyper | Self::Nats | Self::YWebsocket | Self::Timebus => Protocol::Http,
        }
    }

    /// Starts it with its data in `home`, which may hold data from an earlier start.
    pub(crate) fn start(self, home: &Path, flush: Flush) -> anyhow::Result<Server> {
        self.launch(home, flush).with_context(|| format!("could not start {self}"))
    }

    fn launch(self, home: &Path, flush: Flush) -> anyhow::Result<Server> {
        fs::create_dir_all(home)?;
        // Our own peer refuses a home that others can read.
        fs::set_permissions(home, fs::Permissions::from_mode(0o700))?;
        let log = home.with_extension("log");
        let mut command = Command::new(self.program().context("the program is gone")?);
        match self {
            Self::Hyper => {
                command.arg(crate::bare_hyper::ARGUMENT);
                return Server::start_announced(&mut command, &log, |line| Ok(line.parse()?));
            }
            Self::Timebus => {
                command.arg("--home").arg(home).args(["--json", "up", "--http", "127.0.0.1:0"]);
                return Server::start_announced(&mut command, &log, announced_address);
            }
            _ => {}
        }
        let port = free_port()?;
        match self {
            Self::Redis => {
                let (append, when) = match flush {
                    Flush::Never => ("no", "no"),
                    Flush::Later => ("yes", "everysec"),
                    Flush::Always => ("yes", "always"),
                };
                command.arg("--port").arg(port.to_string()).arg("--dir").arg(home);
                command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", append]);
                command.args(["--appendfsync", when]);
            }
            Self::Etcd => {
                let client_url = format!("http://127.0.0.1:{port}");
                let peer_url = format!("http://127.0.0.1:{}", free_port()?);
                command.arg("--data-dir").arg(home);
                command.args(["--name", "bench", "--log-level", "error"]);
                command.args(["--listen-client-urls", &client_url]);
                command.args(["--advertise-client-urls", &client_url]);
                command.args(["--listen-peer-urls", &peer_url]);
                command.args(["--initial-advertise-peer-urls", &peer_url]);
                command.args(["--initial-cluster", &format!("bench={peer_url}")]);
            }
            Self::Nats => {
                command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
            }
            Self::YWebsocket => {
                command.env("HOST", "127.0.0.1").env("PORT", port.to_string());
            }
            Self::Hyper | Self::Timebus => {}
        }
        Server::start_at(&mut command, &log, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Its file; `None` when it is not there.
    pub(crate) fn program(self) -> Option<PathBuf> {
        match self {
            Self::Hyper => env::current_exe().ok(),
            Self::Redis => on_search_path("redis-server"),
            Self::Etcd => on_search_path("etcd"),
            Self::Nats => on_search_path("nats-server"),
            Self::YWebsocket => match env::var_os("Y_WEBSOCKET_SERVER") {
                Some(file) => Some(file.into()),
                None => on_search_path("y-websocket-server"),
            },
            Self::Timebus => {
                let built = || env!("CARGO_BIN_EXE_timebus").into();
                let file: PathBuf = env::var_os("TIMEBUS_BIN").unwrap_or_else(built).into();
                file.is_file().then_some(file)
            }
        }
    }
}

/// Reads `{"ready":true,"http":"http://127.0.0.1:7007",..}`.
pub(crate) fn announced_address(line: &str) -> anyhow::Result<SocketAddr> {
    let ready: Value = serde_json::from_str(line)?;
    let url = ready["http"].as_str().context("no \"http\" in it")?;
    let address = url.strip_prefix("http://").context("not an http URL")?;
    Ok(address.trim_end_matches('/').parse()?)
}

pub(crate) fn on_search_path(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// What one durable write costs here at best: appends 4 KiB and waits for the disk, in `folder`.
pub(crate) fn flush_time(folder: &Path) -> io::Result<std::time::Duration> {
    use std::io::Write as _;
    const ROUNDS: usize = 50;
    let file = folder.join("flush-time");
    let mut out = fs::File::create(&file)?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = std::time::Instant::now();
        out.write_all(&[b'x'; 4096])?;
        out.sync_data()?;
        times.push(start.elapsed());
    }
    fs::remove_file(file)?;
    times.sort();
    Ok(times[ROUNDS / 2])
}
