//! The file that says which peers are one's own cluster, and the key that looks after them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::Deserialize;
use timebus_identity::SecretKey;

use crate::failure::Failure;
use crate::home::{Home, quoted, write_private};

/// Most peers of a cluster; it is for a handful, which all know each other.
pub(crate) const PEERS_MAX: usize = 16;

/// Peers that are devices of one space.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cluster {
    /// What is read from the file.
    pub(crate) peer: Vec<Member>,
    /// The file of the key, beside this one if it is relative.
    #[serde(default = "key_file")]
    key: PathBuf,
    /// Where the file lies.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
    #[serde(skip)]
    pub(crate) file: PathBuf,
}

fn key_file() -> PathBuf {
    PathBuf::from("cluster.key")
}

/// One of its peers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// What it is called, here and by others.
    pub(crate) name: String,
    /// Host and port at which it listens and is asked.
    pub(crate) http: String,
    /// Its folder on its machine.
    pub(crate) home: PathBuf,
    /// Whether it runs on another machine, where systemd or a container starts it.
    #[serde(default)]
    pub(crate) elsewhere: bool,
    /// Where other peers reach it by UDP.
    pub(crate) udp: Option<SocketAddr>,
    /// The program on its machine.
    #[serde(default = "program")]
    pub(crate) program: String,
    /// What else `timebus up` is told.
    #[serde(default)]
    pub(crate) options: Vec<String>,
}

fn program() -> String {
    crate::output::PROGRAM.to_owned()
}

impl Cluster {
    /// Reads the file.
    pub(crate) fn load(file: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let fix = format!("write one with `timebus cluster init --file {}`, or name another with --file", quoted(file));
                return Err(Failure::usage(format!("there is no {}", file.display())).fix(fix).into());
            }
            Err(error) => return Err(error).with_context(|| format!("could not read {}", file.display())),
        };
        let file = std::path::absolute(file)?;
        let mut cluster =
            Self::parse(&text).map_err(|why| Failure::usage(format!("{} does not say what a cluster is", file.display())).detail(why))?;
        cluster.folder = file.parent().map(Path::to_owned).unwrap_or_default();
        cluster.file = file;
        for member in cluster.peer.iter_mut().filter(|member| !member.elsewhere) {
            member.home = cluster.folder.join(&member.home);
        }
        for (at, member) in cluster.peer.iter().enumerate() {
            if let Some((other, what)) = cluster.peer[..at].iter().find_map(|other| Some((other, member.shares_with(other)?))) {
                let title = format!("{} and {} have the same {what}", other.name, member.name);
                let fix = format!("give each its own {what} in {}", cluster.file.display());
                return Err(Failure::usage(title).fix(fix).into());
            }
        }
        Ok(cluster)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let cluster: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if cluster.peer.is_empty() || cluster.peer.len() > PEERS_MAX {
            return Err(format!("a cluster has 1 to {PEERS_MAX} peers, each in a table [[peer]]; here are {}", cluster.peer.len()));
        }
        for (at, member) in cluster.peer.iter().enumerate() {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if member.name.is_empty() || !member.name.chars().all(is_plain) {
                return Err(format!("{:?} is no name of a peer: letters, digits and - make one", member.name));
            }
            let port = member.http.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port)?.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) || member.http.contains('/') {
                return Err(format!("http of {} is host and port, as in 127.0.0.1:7101; {:?} is not", member.name, member.http));
            }
            if let Some(other) = cluster.peer[..at].iter().find(|other| other.name == member.name || other.http == member.http) {
                return Err(format!("{} and {} have the same name or the same http", other.name, member.name));
            }
            let is_line = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
            let home = member.home.to_str().unwrap_or_default();
            if !is_line(home) || member.elsewhere && !member.home.is_absolute() {
                return Err(format!("home of {} is a folder; on another machine a whole path", member.name));
            }
            if !is_line(&member.program) || !member.options.iter().all(|option| is_line(option)) {
                return Err(format!("program and options of {} are words without line breaks", member.name));
            }
        }
        Ok(cluster)
    }

    /// The members with these names; all, if none are named.
    pub(crate) fn named(&self, names: &[String]) -> anyhow::Result<Vec<&Member>> {
        if names.is_empty() {
            return Ok(self.peer.iter().collect());
        }
        names.iter().map(|name| self.member(name)).collect()
    }

    pub(crate) fn member(&self, name: &str) -> anyhow::Result<&Member> {
        let known: Vec<&str> = self.peer.iter().map(|member| member.name.as_str()).collect();
        let found = self.peer.iter().find(|member| member.name == name);
        found.ok_or_else(|| {
            Failure::usage(format!("no peer of this cluster is called {name}"))
                .fix(format!("it has {}; another one is written into cluster.toml first, as a [[peer]] with its name and home", known.join(", ")))
                .into()
        })
    }

    /// The key that looks after the peers; made when there is none.
    pub(crate) fn key(&self) -> anyhow::Result<Arc<SecretKey>> {
        let file = self.folder.join(&self.key);
        match fs::read(&file) {
            Ok(bytes) => {
                let seed = <[u8; 32]>::try_from(bytes.as_slice());
                let seed = seed
                    .map_err(|_| Failure::refused(format!("{} is no key", file.display())).fix("move it away; `timebus cluster up` makes another"))?;
                Ok(Arc::new(SecretKey::from_seed(seed)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = SecretKey::generate();
                write_private(&file, key.seed()).with_context(|| format!("could not write {}", file.display()))?;
                Ok(Arc::new(key))
            }
            Err(error) => Err(error).with_context(|| format!("could not read {}", file.display())),
        }
    }
}

impl Member {
    /// What it cannot share with another one on the same machine, and does: which word of the file says that.
    fn shares_with(&self, other: &Self) -> Option<&'static str> {
        let (host, port) = self.http.rsplit_once(':').unwrap_or_default();
        let (of_other, port_of_other) = other.http.rsplit_once(':').unwrap_or_default();
        let is_same_machine = match (self.elsewhere, other.elsewhere) {
            (false, false) => true,
            (true, true) => host == of_other,
            _ => false,
        };
        let is_any = |host: &str| matches!(host, "0.0.0.0" | "[::]");
        let local = |host: &str| if host == "localhost" { "127.0.0.1".to_owned() } else { host.to_owned() };
        let same_host = is_any(host) || is_any(of_other) || local(host) == local(of_other);
        let same_udp = |one: SocketAddr, two: SocketAddr| {
            one.port() != 0 && one.port() == two.port() && (one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified())
        };
        match is_same_machine {
            false => None,
            _ if plain(&self.home) == plain(&other.home) => Some("home"),
            _ if port == port_of_other && same_host => Some("http"),
            _ if self.udp.zip(other.udp).is_some_and(|(one, two)| same_udp(one, two)) => Some("udp"),
            _ => None,
        }
    }

    /// What starts it, in words.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut words = vec!["--home".to_owned(), self.home.display().to_string(), "up".to_owned()];
        let (host, port) = self.http.rsplit_once(':').unwrap_or((&self.http, ""));
        // A name is one that it answers to, and says nothing about where it listens.
        let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok();
        let listen = if is_address { self.http.clone() } else { format!("0.0.0.0:{port}") };
        words.extend(["--http".to_owned(), listen, "--name".to_owned(), self.name.clone()]);
        if !is_address && host != "localhost" {
            words.extend(["--host".to_owned(), host.to_owned()]);
        }
        if let Some(udp) = self.udp {
            words.extend(["--udp".to_owned(), udp.to_string()]);
        }
        words.extend(self.options.iter().cloned());
        words
    }

    /// The same for what keeps what it says: without the link that logs in.
    fn words(&self) -> Vec<String> {
        std::iter::once("--json".to_owned()).chain(self.arguments()).collect()
    }

    /// Its folder, if it is on this machine.
    pub(crate) fn home_here(&self) -> anyhow::Result<Home> {
        Home::new(&self.home)
    }

    /// Where the program is, as what starts it at boot has to be told: it looks in no folders of anybody's.
    pub(crate) fn program_path(&self, folder: &Path) -> String {
        const BESIDE: &str = "/usr/local/bin";
        let program = Path::new(&self.program);
        let is_bare = program.components().count() == 1 && !self.program.contains('/');
        let path = match (self.elsewhere, is_bare) {
            _ if program.is_absolute() => program.to_owned(),
            (true, _) => Path::new(BESIDE).join(&self.program),
            (false, true) if self.program == crate::output::PROGRAM => std::env::current_exe().unwrap_or_else(|_| Path::new(BESIDE).join(program)),
            (false, true) => found(&self.program).unwrap_or_else(|| Path::new(BESIDE).join(program)),
            (false, false) => folder.join(program),
        };
        path.display().to_string()
    }
}

/// A path without what leads nowhere else, so that two for one folder are the same; what is a link is not looked at.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            component => plain.push(component),
        }
    }
    plain
}

/// A program in the folders where a shell looks for one.
fn found(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|file| file.is_absolute() && file.is_file())
}

/// A file to begin with: peers on this machine.
pub(crate) fn example(peers: usize, port: u16) -> String {
    let mut out = String::from(
        "# A cluster: peers of your own that all hold your space. `timebus cluster --help` says what to do with it.\n\
         # Who has the key can read and write your whole space, and stop these peers. Relative paths begin at this file.\n\
         key = \"cluster.key\"\n",
    );
    for at in 0..peers {
        out.push_str(&format!("\n[[peer]]\nname = \"{}\"\nhttp = \"127.0.0.1:{}\"\nhome = \"{}\"\n", name(at), usize::from(port) + at, name(at)));
    }
    out.push_str(
        "\n# One on another machine, where a systemd unit or a container starts it; `timebus cluster add attic` says how.\n\
         # [[peer]]\n\
         # name = \"attic\"\n\
         # http = \"attic.example.org:7007\"    host and port at which this machine reaches it\n\
         # home = \"/var/lib/timebus\"\n\
         # elsewhere = true\n\
         # udp = \"0.0.0.0:4433\"               where the other peers reach it\n\
         # program = \"/usr/local/bin/timebus\"\n\
         # options = [\"--no-lan\"]\n",
    );
    out
}

fn name(at: usize) -> String {
    const NAMES: [&str; 8] = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
    NAMES.get(at).map_or_else(|| format!("peer-{}", at + 1), |name| (*name).to_owned())
}

/// A unit for systemd that starts a peer, and starts it anew whenever it ends.
pub(crate) fn unit(member: &Member, folder: &Path) -> String {
    // In units a percent sign has a meaning of its own, and in commands a dollar.
    let word = |word: &str| {
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:,=[]".contains(c));
        let word = word.replace('%', "%%");
        if plain { word } else { format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")) }
    };
    let words = std::iter::once(member.program_path(folder)).chain(member.words());
    let words: Vec<String> = words.map(|text| word(&text).replace('$', "$$")).collect();
    format!(
        "# /etc/systemd/system/timebus-{name}.service, then: systemctl enable --now timebus-{name}\n\
         [Unit]\n\
         Description=timebus peer {name}\n\
         Wants=network-online.target\n\
         After=network-online.target time-sync.target\n\
         \n\
         [Service]\n\
         # Whoever ran `timebus join` there, if that was not root, so that both may write in the folder.\n\
         # User=timebus\n\
         ExecStart={start}\n\
         # Also after a clean stop: that is how `timebus cluster upgrade` gets a new program started.\n\
         Restart=always\n\
         RestartSec=1\n\
         # What is open is closed and the index is flushed before it ends.\n\
         TimeoutStopSec=60\n\
         LimitNOFILE=65536\n\
         UMask=0077\n\
         NoNewPrivileges=true\n\
         ProtectSystem=strict\n\
         PrivateTmp=true\n\
         ReadWritePaths={home}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        name = member.name,
        start = words.join(" "),
        home = word(&member.home.display().to_string()),
    )
}

/// A file that a container of a peer is made from. The home is a volume; the program is what lies beside the file.
pub(crate) fn container(member: &Member) -> String {
    let port = member.http.rsplit(':').next().unwrap_or_default();
    let mut inside = member.clone();
    inside.home = PathBuf::from("/home/timebus/data");
    let mut words = vec!["timebus".to_owned()];
    words.extend(inside.words());
    let udp = member.udp.map_or(4433, |udp| udp.port());
    // Inside, every address is its own: what comes to those of the machine comes to all of these.
    for (option, port) in [("--http", port.to_owned()), ("--udp", udp.to_string())] {
        if let Some(at) = words.iter().position(|word| word == option) {
            words[at + 1] = format!("0.0.0.0:{port}");
        }
    }
    if member.udp.is_none() {
        words.extend(["--udp".to_owned(), format!("0.0.0.0:{udp}")]);
    }
    let words = serde_json::Value::from(words).to_string();
    format!(
        "# Containerfile: `timebus` is a release build of the program, in the same folder\n\
         #   podman build --format docker -t timebus .\n\
         # /etc/systemd/system/timebus-{name}.service, then: systemctl enable --now timebus-{name}\n\
         #   [Unit]\n\
         #   Wants=network-online.target\n\
         #   After=network-online.target time-sync.target\n\
         #   [Service]\n\
         #   ExecStart=/usr/bin/podman run --replace --rm --name timebus-{name} -v {home}:/home/timebus/data:U \\\n\
         #     -p {port}:{port} -p {udp}:{udp}/udp timebus\n\
         #   ExecStop=/usr/bin/podman stop -t 60 timebus-{name}\n\
         #   Restart=always\n\
         #   TimeoutStopSec=70\n\
         #   [Install]\n\
         #   WantedBy=multi-user.target\n\
         # Each start makes the container anew, from the newest image: a container that is only started again (`--restart always`)\n\
         # keeps the program that it was made with.\n\
         # With U the folder is given to the user inside, without whom nothing could be written there. Docker has no U: there\n\
         # it has to be of user 1000 before.\n\
         # After a new program: build again first, then `timebus cluster upgrade`, which stops the peer and waits until it is back;\n\
         # it says if the program that came back is the one of before.\n\
         FROM docker.io/library/debian:trixie-slim\n\
         RUN useradd --uid 1000 --create-home --home-dir /home/timebus timebus && install -d -o timebus -m 0700 /home/timebus/data\n\
         COPY timebus /usr/local/bin/timebus\n\
         USER timebus\n\
         VOLUME /home/timebus/data\n\
         EXPOSE {port} {udp}/udp\n\
         STOPSIGNAL SIGTERM\n\
         # It fails unless the peer runs and answers. Without `--format docker` podman leaves it out.\n\
         HEALTHCHECK --interval=30s --start-period=60s CMD [\"timebus\",\"--home\",\"/home/timebus/data\",\"peers\"]\n\
         CMD {words}\n",
        name = member.name,
        home = quoted(&member.home),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_to_begin_with_is_one() {
        for peers in [1, 3, PEERS_MAX] {
            let cluster = Cluster::parse(&example(peers, 7101)).expect("a cluster");
            assert_eq!(cluster.peer.len(), peers);
            assert_eq!(cluster.peer[0].arguments(), ["--home", "one", "up", "--http", "127.0.0.1:7101", "--name", "one"]);
        }
        // What it shows as a comment is one, too.
        let example = example(1, 7101);
        let (_, attic) = example.split_once("says how.\n").expect("the peer that is a comment");
        let attic: Vec<&str> = attic.lines().filter_map(|line| line.strip_prefix("# ")?.split("    ").next()).collect();
        let whole = Cluster::parse(&format!("{example}\n{}", attic.join("\n"))).expect("a cluster");
        let attic = &whole.peer[1];
        let told = ["--home", "/var/lib/timebus", "up", "--http", "0.0.0.0:7007", "--name", "attic", "--host", "attic.example.org"];
        assert_eq!(attic.arguments()[..9], told);
        assert_eq!(attic.arguments()[9..], ["--udp", "0.0.0.0:4433", "--no-lan"]);
        let started = unit(attic, Path::new("/c"));
        assert!(started.contains("ExecStart=/usr/local/bin/timebus --json --home /var/lib/timebus up --http 0.0.0.0:7007 "), "{started}");
        // What starts it at boot looks in no folders of anybody's.
        let begins = |member: &Member, words: &str| {
            let unit = unit(member, Path::new("/c"));
            assert!(unit.contains(&format!("ExecStart={words} --json ")), "{unit}");
        };
        begins(&whole.peer[0], &std::env::current_exe().expect("this program").display().to_string());
        begins(&Member { program: "timebus".to_owned(), ..attic.clone() }, "/usr/local/bin/timebus");
        begins(&Member { program: "bin/mine".to_owned(), ..whole.peer[0].clone() }, "/c/bin/mine");
        begins(&Member { program: "sh".to_owned(), ..whole.peer[0].clone() }, &found("sh").expect("a shell").display().to_string());
        assert!(
            container(attic).contains(r#"CMD ["timebus","--json","--home","/home/timebus/data","up","--http","0.0.0.0:7007","#),
            "{}",
            container(attic)
        );
        // An address of the machine is none of the container's.
        let bound = Member { udp: Some("203.0.113.5:4433".parse().expect("an address")), ..attic.clone() };
        assert!(container(&bound).contains(r#""--udp","0.0.0.0:4433""#), "{}", container(&bound));
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let peer = |more: &str| format!("[[peer]]\nname = \"a\"\nhttp = \"127.0.0.1:7101\"\nhome = \"a\"\n{more}");
        let why = |text: &str| Cluster::parse(text).expect_err("wrong");
        assert!(Cluster::parse(&peer("")).is_ok());
        assert!(why("").contains("peer"));
        assert!(why(&format!("{}{}", peer(""), peer(""))).contains("the same name"));
        assert!(why(&peer("elsewhere = true")).contains("a whole path"));
        assert!(why(&peer("colour = 1")).contains("colour"));
        assert!(why(&peer("").replace("7101", "0")).contains("host and port"));
        assert!(why(&peer("").replace("\"a\"\nhttp", "\"a b\"\nhttp")).contains("no name"));
        assert!(why(&peer("options = [\"a\\nb\"]")).contains("line breaks"));
        assert!(why(&peer("").repeat(PEERS_MAX + 1)).contains("1 to 16"));
    }

    /// Tables are copied, and not all of what has to differ is changed.
    #[test]
    fn two_peers_of_one_machine_share_no_folder_and_no_port() {
        let folder = tempfile::tempdir().expect("a folder");
        let why = |one: &str, two: &str| {
            let file = folder.path().join("cluster.toml");
            fs::write(&file, format!("[[peer]]\nname = \"a\"\n{one}\n[[peer]]\nname = \"b\"\n{two}\n")).expect("writes");
            Cluster::load(&file).err().map(|error| Failure::of(&error).to_string())
        };
        let here = |http: &str, home: &str, udp: &str| format!("http = \"{http}\"\nhome = \"{home}\"\nudp = \"{udp}\"");
        let away = |http: &str, home: &str, udp: &str| format!("elsewhere = true\n{}", here(http, home, udp));
        let shares = |one: &str, two: &str, what: &str| {
            let why = why(one, two).unwrap_or_default();
            assert!(why.contains(&format!("a and b have the same {what}")), "{why}");
        };
        let one = here("127.0.0.1:7101", "one", "127.0.0.1:4433");
        shares(&one, &here("127.0.0.1:7102", "./x/../one", "127.0.0.1:0"), "home");
        shares(&one, &here("127.0.0.1:7102", &folder.path().join("one").display().to_string(), "127.0.0.1:0"), "home");
        shares(&one, &here("localhost:7101", "two", "127.0.0.1:0"), "http");
        shares(&one, &here("0.0.0.0:7101", "two", "127.0.0.1:0"), "http");
        shares(&one, &here("127.0.0.1:7102", "two", "0.0.0.0:4433"), "udp");
        let attic = away("attic:7101", "/var/one", "0.0.0.0:4433");
        shares(&attic, &away("attic:7102", "/var/one", "0.0.0.0:4434"), "home");
        shares(&attic, &away("attic:7102", "/var/two", "0.0.0.0:4433"), "udp");
        for other in [away("cellar:7101", "/var/one", "0.0.0.0:4433"), here("127.0.0.1:7101", "/var/one", "0.0.0.0:4433")] {
            assert_eq!(why(&attic, &other), None);
        }
        assert_eq!(why(&one, &here("127.0.0.1:7102", "two", "127.0.0.1:0")), None);
        assert_eq!(why(&here("127.0.0.1:7101", "one", "127.0.0.1:0"), &here("127.0.0.1:7102", "two", "127.0.0.1:0")), None, "any free port");
    }

    #[test]
    fn a_container_is_made_anew_at_each_start() {
        let member = Cluster::parse(&example(1, 7101)).expect("a cluster").peer.remove(0);
        let file = container(&member);
        assert!(file.contains("#   ExecStart=/usr/bin/podman run --replace --rm --name timebus-one "), "{file}");
        let comments: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
        assert!(comments.contains(&"Restart=always") && !comments.iter().any(|line| line.contains("--restart")), "{file}");
    }

    #[test]
    fn words_of_a_unit_are_quoted() {
        let mut member = Cluster::parse(&example(1, 7101)).expect("a cluster").peer.remove(0);
        member.home = PathBuf::from("/var/50% \"x\"");
        let unit = unit(&member, Path::new("/c"));
        assert!(unit.contains(r#"--home "/var/50%% \"x\"" up"#), "{unit}");
        member.home = PathBuf::from("/var/5$");
        let unit = super::unit(&member, Path::new("/c"));
        assert!(unit.contains(r#"--home "/var/5$$" up"#) && unit.contains("ReadWritePaths=\"/var/5$\"\n"), "{unit}");
    }

    /// Where systemd is not, there is nobody to ask.
    #[test]
    fn systemd_has_nothing_to_say_against_a_unit() {
        let mut member = Cluster::parse(&example(1, 7101)).expect("a cluster").peer.remove(0);
        (member.program, member.home) = ("/bin/sh".to_owned(), PathBuf::from("/var/50% \"x\" $5"));
        let folder = tempfile::tempdir().expect("a folder");
        let said = |text: &str| {
            let file = folder.path().join("timebus-one.service");
            fs::write(&file, text).expect("writes");
            let done = std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
            done.ok().map(|done| (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned()))
        };
        let Some(told) = said(&unit(&member, Path::new("/c"))) else { return };
        assert_eq!(told, (true, String::new()));
        let bad = said(&unit(&member, Path::new("/c")).replace("Restart=always", "Restart=ever")).expect("it was here");
        assert!(!bad.1.is_empty(), "it reads what it is given");
    }
}
