//! up: runs the peer.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;
use timebus_identity::human_name;
use timebus_net::link::endpoint::{EndpointConfig, LAN_SERVICE};
use timebus_net::network::NetworkConfig;
use timebus_net::peer::PeerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::Context;
use crate::cli::{Net, Up};
use crate::failure::Failure;
use crate::home::{Home, Running};
use crate::peer::{Local, try_lock};

/// Where peers listen unless that is taken.
pub(crate) const PORT: u16 = 7007;
/// Ports tried after it.
const PORTS_TRIED: u16 = 100;
/// How long another command may hold the home, or a peer take to start.
const PATIENCE: Duration = Duration::from_secs(10);
/// Files and connections that are open at once, where the system lets the user decide: all connections that a peer takes, and what
/// is read for them.
const FILES_MAX: u64 = 65_536;
/// The same on systems where that is too much.
const FILES_MAX_LESS: u64 = 10_240;
/// Of these, so many are not for connections, or three of four where there are fewer.
const FILES_FOR_THE_DISK: u64 = 256;
/// How long closing the store may take.
const CLOSING_MAX: Duration = Duration::from_secs(45);

/// Has the system let this process open as many files as it may, and says how many that are. What it lets do by itself is for
/// programs that need few.
fn open_many_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = [FILES_MAX, FILES_MAX_LESS].into_iter().map(|max| maximum.map_or(max, |maximum| maximum.min(max)));
    for max in raised.filter(|max| current.is_some_and(|current| current < *max)) {
        if setrlimit(Resource::Nofile, Rlimit { current: Some(max), maximum }).is_ok() {
            return max;
        }
    }
    current.unwrap_or(FILES_MAX)
}

/// How many connections fit in where so many files may be open.
fn connections_of(files_max: u64) -> usize {
    let room = files_max.saturating_sub(FILES_FOR_THE_DISK).max(files_max / 4);
    usize::try_from(room).unwrap_or(usize::MAX).min(PeerConfig::default().connections_max)
}

/// Bytes of other people's files that are kept where nothing is said of that: a film should be, and no disk be filled.
fn cache_for(home: &Path) -> u64 {
    let free = rustix::fs::statvfs(home).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    PeerConfig::default().cached_files_bytes_max.max(free / 10)
}

pub(crate) async fn run(context: &Context, args: Up) -> anyhow::Result<()> {
    let connections_max = connections_of(open_many_files());
    let is_new = !context.home.exists();
    let deadline = Instant::now() + PATIENCE;
    let lock = loop {
        if let Some(lock) = try_lock(&context.home)? {
            break lock;
        }
        if let Some(running) = context.home.running() {
            return already(context, &running).await;
        }
        if Instant::now() > deadline {
            let title = format!("{} is in use by another timebus, which is no peer", context.home.folder().display());
            return Err(Failure::unreachable(title).fix("wait until that command has ended").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    context.home.clear_running();
    let listening = listen(args.http.as_deref()).await?;
    let (hosts, apps) = (args.hosts.clone(), crate::builtin::APPS);
    let config = PeerConfig {
        hosts,
        connections_max,
        gui: Some(page),
        output: Some(crate::output::recent),
        apps,
        cached_files_bytes_max: args.cache.unwrap_or_else(|| cache_for(context.home.folder())),
        spot_check_every: Duration::from_secs(args.spot_check),
        program: program(),
        build: build(),
        ..PeerConfig::default()
    };
    let local = Local::open(&context.home, lock, context.out, config).await?;
    if let Some(max) = args.blob_limit {
        local.limit_files(max);
    }
    if let Some(name) = &args.name
        && let Err(error) = timebus_net::devices::names::give_first(local.store(), name).await
    {
        tracing::warn!(%error, "this device is not called so among your devices");
    }
    let name = args.name.clone().unwrap_or_else(|| human_name(&local.store().space()));
    let network_config = NetworkConfig { links_max: usize::from(args.links), ..network_config(&context.home, &args.net, args.offline, name)? };
    let network = local.enter(&context.home, network_config.clone()).await?;
    context.home.set_udp_port(&network.endpoint().sockets());
    local.enter_personas(network_config).await;
    let node = network.endpoint().node().to_string();
    let stop = stop_signal()?;

    let first = listening.address;
    let space = local.store().space();
    let running = Running { pid: std::process::id(), http: format!("http://{first}"), id: space.to_string() };
    context.home.set_running(&running)?;
    let mut serving = Box::pin(local.serve(listening.listeners, stop));
    // The first poll makes the peer know its names, so that it answers whoever reads the banner.
    let early = tokio::select! {
        biased;
        ended = &mut serving => Some(ended),
        () = std::future::ready(()) => None,
    };
    let announced = match early {
        None => announce(context, &args, &local, &running, &node, is_new, listening.note.as_deref()),
        Some(_) => Ok(()),
    };
    let ended = match (early, &announced) {
        (Some(ended), _) => ended,
        (None, Ok(())) => serving.as_mut().await,
        // Nobody reads what we say: a pipe that was closed is no reason to live.
        (None, Err(_)) => Ok(()),
    };
    drop(serving);
    context.home.clear_running();
    tracing::info!("stopping");
    watch_closing();
    local.close().await;
    announced?;
    ended.context("the peer could not be served")
}

/// How the peer takes part in the network.
pub(crate) fn network_config(home: &Home, net: &Net, is_offline: bool, name: String) -> anyhow::Result<NetworkConfig> {
    let relay = |url: &String| {
        url.parse().map_err(|_| Failure::usage(format!("{url:?} is no URL of a relay")).fix("write it like http://relay.example:3340"))
    };
    // Others know the port that this peer had.
    let port = home.udp_port().unwrap_or(0);
    let last = |address: &SocketAddr| match address.port() {
        0 => Some(SocketAddr::new(address.ip(), port)).filter(|last| std::net::UdpSocket::bind(last).is_ok()).unwrap_or(*address),
        _ => *address,
    };
    let defaults = EndpointConfig::default();
    let public_relays = match (net.no_public, net.public_relays.as_slice()) {
        (true, _) => None,
        (false, []) => defaults.public_relays.clone(),
        (false, relays) => Some(relays.iter().map(relay).collect::<Result<_, _>>()?),
    };
    let public_dht = match (net.no_public, net.public_dht.as_slice()) {
        (true, _) => None,
        (false, []) => defaults.public_dht.clone(),
        (false, first) => Some(first.to_vec()),
    };
    let endpoint = EndpointConfig {
        is_offline,
        relays: net.relays.iter().map(relay).collect::<Result<_, _>>()?,
        public_relays,
        public_dht,
        bind: net.udp.iter().map(last).collect(),
        port,
        lan: (!net.no_lan).then(|| LAN_SERVICE.to_owned()),
        ..defaults
    };
    Ok(NetworkConfig { endpoint, name, links_max: 256 })
}

/// Says where the peer of this home runs, with a new login link.
async fn already(context: &Context, running: &Running) -> anyhow::Result<()> {
    let home = context.home.folder().display().to_string();
    let (_session, mut client) = crate::client::open(context, crate::client::Home::MustExist).await?;
    let code = client.json(crate::client::Request::post("/.sys/login-code")).await?;
    let code = match &code {
        crate::value::Json::Object(members) => members.get("code"),
        _ => None,
    };
    let link = match code {
        Some(crate::value::Json::String(code)) => format!("http://{}/#login={code}", browsed(running)),
        _ => running.http.clone(),
    };
    let json =
        json!({"ready": true, "already": true, "id": running.id, "node": null, "http": running.http, "home": home, "pid": running.pid, "open": link});
    context.out.result(&json, || {
        let stop = context.home.command("down");
        format!("  running    {}   already, as process {}\n  open       {link}   works once\n  stop       {stop}", running.http, running.pid)
    })
}

/// The name of a peer for browsers.
fn browsed(running: &Running) -> String {
    match running.authority().parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => format!("localhost:{}", address.port()),
        _ => running.authority().to_owned(),
    }
}

fn announce(context: &Context, args: &Up, local: &Local, running: &Running, node: &str, is_new: bool, note: Option<&str>) -> anyhow::Result<()> {
    let out = context.out;
    let home = context.home.folder().display().to_string();
    if out.json {
        let ready = json!({"ready": true, "id": running.id, "node": node, "http": running.http, "home": home, "pid": running.pid});
        out.line(ready.to_string())?;
        return Ok(out.flush()?);
    }
    let space = local.store().space();
    let id: String = running.id.chars().take(6).collect();
    let browsed = browsed(running);
    let link = format!("http://{browsed}/#login={}", local.login_code());
    let born = if is_new { "   a new identity" } else { "" };
    let notes = super::status::notes(&local_status(local));
    for note in note.iter().copied().chain(notes.iter().map(String::as_str)) {
        out.line(format!("  note       {note}"))?;
    }
    out.line(format!("  you are    {}   ({id}…){born}", human_name(&space)))?;
    out.line(format!("  open       {link}   works once"))?;
    // Where others reach this peer by a name, programs show that they are the owner's.
    let token =
        if args.hosts.is_empty() { String::new() } else { format!("-H \"Authorization: Bearer $({})\" ", context.home.command("id --token")) };
    out.line(format!("  try        curl {token}-X PUT {browsed}/notes/hi -d '\"hello\"'"))?;
    out.line(format!("             {}", context.home.command("watch /notes")))?;
    out.line(format!("  invite     {}", context.home.command("invite")))?;
    out.line(format!("  home       {home}"))?;
    out.line(format!("  stop       Ctrl-C, or {}", context.home.command("down")))?;
    if is_new {
        out.line(format!("  keep       {}   shows your recovery words, once the peer is stopped", context.home.command("kit")))?;
    }
    if args.qr
        && let Ok(code) = QrCode::new(&link)
    {
        out.line("")?;
        // Most terminals are dark, and what is drawn on them is light.
        out.line(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())?;
    }
    Ok(out.flush()?)
}

/// What the peer would say in its status about how it was opened.
fn local_status(local: &Local) -> crate::value::Json {
    use crate::value::{Json, object};
    let opened = local.opened();
    let count = |count: u64| Json::Int(i64::try_from(count).unwrap_or(i64::MAX));
    let opened = object([
        ("damaged", count(opened.damaged.len() as u64)),
        ("torn_bytes", count(opened.torn_bytes)),
        ("new_device", Json::Bool(opened.new_device)),
        ("rebuilt", opened.rebuilt.clone().map_or(Json::Null, Json::String)),
    ]);
    object([("opened", opened)])
}

/// Ends when the process is asked to stop. Asked again, the process ends at once.
///
/// Signals are heard on a thread of their own, so that the second one works even while the first is being obeyed.
pub(crate) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let (ready, started) = std::sync::mpsc::channel();
    let listen = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async move {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [mut interrupt, mut terminate, mut hangup] = match kinds.map(signal) {
                [Ok(interrupt), Ok(terminate), Ok(hangup)] => {
                    drop(ready.send(Ok(())));
                    [interrupt, terminate, hangup]
                }
                [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => return drop(ready.send(Err(error))),
            };
            let mut sender = Some(sender);
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                match sender.take() {
                    Some(sender) => drop(sender.send(())),
                    // What was acknowledged is on disk whatever happens.
                    None => std::process::exit(130),
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    started.recv().context("nobody listens to signals")?.context("signals cannot be listened to")?;
    Ok(async move {
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Ends the process if closing the store takes longer than any disk does: what was acknowledged is in the log.
fn watch_closing() {
    let give_up = || {
        std::thread::sleep(CLOSING_MAX);
        tracing::error!("the index could not be closed; the next start makes up for it");
        std::process::exit(1);
    };
    let _ = std::thread::Builder::new().name("closing".to_owned()).spawn(give_up);
}

/// Sockets that accept connections.
#[derive(Debug)]
struct Listening {
    listeners: Vec<TcpListener>,
    /// Where programs on this machine reach them.
    address: SocketAddr,
    note: Option<String>,
}

/// Where the user wants the peer to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// On this machine, on this port.
    Loopback(u16),
    /// At this address alone.
    Exactly(SocketAddr),
}

impl Wish {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self::Exactly(address));
        }
        let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
        port.parse().ok().map(Self::Loopback)
    }
}

async fn listen(http: Option<&str>) -> anyhow::Result<Listening> {
    let Some(text) = http else { return listen_near(PORT).await };
    let text = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let taken = |error: io::Error| {
        let title = format!("cannot listen at {text}");
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                Failure::refused(title).detail("another program does").fix("name another port, or leave --http out for one that is free")
            }
            _ => Failure::refused(title).detail(error).fix("name an address of this machine, as in 127.0.0.1:7007"),
        }
    };
    match Wish::parse(text) {
        None => Err(Failure::usage(format!("{text:?} is no address to listen at")).fix("write it like 127.0.0.1:7007, [::1]:7007 or :7007").into()),
        Some(Wish::Loopback(port)) => {
            let (listeners, address) = bind_loopback(port).await.map_err(taken)?;
            Ok(Listening { listeners, address, note: None })
        }
        Some(Wish::Exactly(address)) => {
            let listener = TcpListener::bind(address).await.map_err(taken)?;
            let bound = listener.local_addr()?;
            let reached = match bound.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                ip => ip,
            };
            let note = (!reached.is_loopback() || bound.ip().is_unspecified())
                .then(|| "others on your network can reach this peer; they need a token, and a name given with --host".to_owned());
            Ok(Listening { listeners: vec![listener], address: SocketAddr::new(reached, bound.port()), note })
        }
    }
}

/// Listens on the first of some ports that is free.
async fn listen_near(port: u16) -> anyhow::Result<Listening> {
    for tried in port..=port.saturating_add(PORTS_TRIED) {
        match bind_loopback(tried).await {
            Ok((listeners, address)) => {
                let note = (tried != port).then(|| format!("port {port} is taken, so this peer is at {tried}"));
                return Ok(Listening { listeners, address, note });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).context("could not listen on this machine"),
        }
    }
    Err(Failure::refused(format!("the ports {port} to {} are all taken", port + PORTS_TRIED)).fix("name one with --http 127.0.0.1:PORT").into())
}

/// Listens on both loopback addresses; on machines without IPv6, on one.
async fn bind_loopback(port: u16) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    /// Any port that is free for IPv4 is rarely taken for IPv6.
    const TRIES: usize = 16;
    let mut tries = 0;
    loop {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = v4.local_addr()?;
        match TcpListener::bind((Ipv6Addr::LOCALHOST, address.port())).await {
            Ok(v6) => return Ok((vec![v4, v6], address)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tries += 1;
                if port != 0 || tries == TRIES {
                    return Err(error);
                }
            }
            Err(_) => return Ok((vec![v4], address)),
        }
    }
}

/// What tells the file of this program from another one, also from one of the same version: its length, and when it was written.
fn build() -> Option<String> {
    let about = std::fs::metadata("/proc/self/exe").or_else(|_| std::fs::metadata(std::env::current_exe()?)).ok()?;
    let written = about.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let hash = blake3::hash(format!("{} {}", about.len(), written.as_nanos()).as_bytes());
    Some(hash.to_hex()[..16].to_owned())
}

/// Where this program is. Linux has it also after an upgrade took its place.
fn program() -> Option<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Some(running) } else { std::env::current_exe().ok() }
}

/// A file of the pages.
fn page(path: &str) -> Option<timebus_net::peer::GuiFile> {
    timebus_gui::file(path).map(|(mime, bytes)| timebus_net::peer::GuiFile { mime, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_files() {
        let fit = [0, 256, 300, 1024, 4300, FILES_MAX, u64::MAX].map(connections_of);
        assert_eq!(fit, [0, 64, 75, 768, 4044, 4096, 4096]);
    }

    #[test]
    fn reads_addresses() {
        let exactly = |text: &str| Some(Wish::Exactly(text.parse().expect("an address")));
        assert_eq!(Wish::parse("127.0.0.1:80"), exactly("127.0.0.1:80"));
        assert_eq!(Wish::parse("[::1]:0"), exactly("[::1]:0"));
        for text in ["7008", ":7008", "localhost:7008"] {
            assert_eq!(Wish::parse(text), Some(Wish::Loopback(7008)));
        }
        for text in ["", "example.org:80", "127.0.0.1", ":70080"] {
            assert_eq!(Wish::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_left_alone() {
        let (held, address) = bind_loopback(0).await.expect("a free port");
        let near = listen_near(address.port()).await.expect("a free port nearby");
        assert_ne!(near.address.port(), address.port());
        assert!(near.note.is_some());
        let refused = listen(Some(&address.to_string())).await.expect_err("it is taken");
        assert_eq!(Failure::of(&refused).code, crate::failure::REFUSED);
        drop(held);
    }
}
