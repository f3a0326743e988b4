//! The same git history on five real peers, each in a network of its own, where packets are lost and the network falls
//! apart meanwhile: each commit is written where its author is, once what it builds on has come there.
//!
//! Needs root, `ip`, `nft` and `curl`; skipped otherwise.
//! `TIMEBUS_FULL=1 cargo test --release --test main git_in_networks -- --ignored` takes the whole history.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::git::{Account, History, Step, history, label, nested, without_empty_folders};
use crate::data;
use crate::http::print_versions;
use crate::peer::{Home, PROGRAM, Peer};

const PEERS: usize = 5;
/// Commits of the short run.
const COMMITS: usize = 80;
/// Of a hundred packets so many are lost, in each direction.
const LOSS: usize = 8;
/// After so many commits of a hundred the network falls apart, and after the others it is whole again at the latest.
const APART: (usize, usize) = (30, 60);
/// A silent link is believed in for 20 s, and calls are repeated after longer and longer pauses.
const PATIENCE: Duration = Duration::from_secs(180);

fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).output().is_ok_and(|output| output.status.success())
}

/// Networks that hang on one switch, which is in a network of its own; gone when dropped.
struct Networks {
    names: Vec<String>,
    switch: String,
}

impl Networks {
    fn lay() -> Option<Self> {
        let name = |what: &str| format!("tb{}g{what}", std::process::id());
        let networks = Self { names: (0..PEERS).map(|peer| name(&peer.to_string())).collect(), switch: name("s") };
        let switch = &networks.switch;
        let has_tools = ["nft", "curl"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success()));
        if !has_tools || !ip(&format!("netns add {switch}")) || !ip(&format!("-n {switch} link add br0 type bridge")) {
            eprintln!("skipped: networks cannot be made here; it takes root, ip, nft and curl");
            return None;
        }
        assert!(ip(&format!("-n {switch} link set br0 up")));
        for (peer, own) in networks.names.iter().enumerate() {
            assert!(ip(&format!("netns add {own}")), "{own}");
            assert!(ip(&format!("link add eth0 netns {own} type veth peer name port{peer} netns {switch}")), "{own}");
            assert!(ip(&format!("-n {switch} link set port{peer} master br0 up")) && ip(&format!("-n {own} link set lo up")), "{own}");
            assert!(ip(&format!("-n {own} link set eth0 up")) && ip(&format!("-n {own} addr add 10.78.0.{}/24 dev eth0", peer + 1)), "{own}");
        }
        if !networks.filter(&[]) {
            eprintln!("skipped: nft cannot filter here");
            return None;
        }
        Some(networks)
    }

    /// Lets packets be lost by chance, and all that go from one group to another.
    fn filter(&self, groups: &[&[usize]]) -> bool {
        let mut all = true;
        for (peer, own) in self.names.iter().enumerate() {
            let others = groups.iter().filter(|group| !group.contains(&peer)).flat_map(|group| group.iter());
            let cut: String = others.map(|other| format!("ip saddr 10.78.0.{} drop\n", other + 1)).collect();
            let lost = format!("iifname \"eth0\" numgen random mod 100 < {LOSS} drop\n");
            let table = format!("table ip lab {{\nchain in {{\ntype filter hook input priority 0;\n{cut}{lost}}}\n}}");
            let rules = format!("table ip lab\ndelete table ip lab\n{table}\n");
            let mut nft = Command::new("ip").args(["netns", "exec", own, "nft", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("ip runs");
            nft.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("nft reads");
            all &= nft.wait().expect("nft ends").success();
        }
        all
    }

    fn inside(&self, peer: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[peer], program]);
        command
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.switch]) {
            ip(&format!("netns del {name}"));
        }
    }
}

struct World {
    peers: Vec<Peer>,
    space: String,
    // The networks go last.
    networks: Networks,
}

impl World {
    fn new(networks: Networks) -> Self {
        let start = |peer: usize| {
            Peer::launch_as(Home::new(), &mut networks.inside(peer, PROGRAM), &["--no-lan"])
                .unwrap_or_else(|(home, status)| panic!("{status}\n{}", home.log()))
        };
        let peers: Vec<Peer> = (0..PEERS).map(start).collect();
        let space = peers[0].ready["id"].as_str().expect("an id").to_owned();
        let world = Self { peers, space, networks };
        let others = (PEERS - 1).to_string();
        let link = world.verb(0, &["invite", "--to", "/repo", "--can", "write", "--uses", &others]);
        for peer in 1..PEERS {
            world.verb(peer, &["join", link.trim(), "--yes", "--as", "repo"]);
        }
        world
    }

    /// Runs a verb that must succeed.
    fn verb(&self, peer: usize, args: &[&str]) -> String {
        let mut command = self.networks.inside(peer, PROGRAM);
        command.arg("--home").arg(self.peers[peer].home().folder()).args(args).env_remove("TIMEBUS_HOME").stdin(Stdio::null());
        let output = command.output().expect("the program runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// A request, by a program in the network of the peer. The status and the body of the answer.
    fn ask(&self, peer: usize, method: &str, query: &str, headers: &[String], body: &str) -> (u16, String) {
        let place = if peer == 0 { String::new() } else { format!("/@{}", self.space) };
        let url = format!("http://{}{place}/repo{query}", self.peers[peer].authority());
        let mut curl = self.networks.inside(peer, "curl");
        curl.args(["-s", "-X", method, "-w", "\n%{http_code}", "--data-binary", "@-", &url]);
        curl.args(headers.iter().flat_map(|header| ["-H", header]));
        let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("curl runs");
        curl.stdin.take().expect("a pipe").write_all(body.as_bytes()).expect("curl reads");
        let output = curl.wait_with_output().expect("curl ends");
        let text = String::from_utf8(output.stdout).expect("text");
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    fn get(&self, peer: usize, query: &str, headers: &[String]) -> (u16, String) {
        self.ask(peer, "GET", query, headers, "")
    }

    /// Whether a peer has commits.
    fn has(&self, peer: usize, commits: &[usize]) -> bool {
        commits.is_empty() || self.get(peer, "?depth=1", &[at(commits)]).0 != 309
    }

    fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            let doctor = || (0..PEERS).map(|peer| self.verb_anyhow(peer)).collect::<Vec<_>>().join("\n");
            assert!(began.elapsed() < PATIENCE, "it never comes that {what}\n{}", doctor());
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn verb_anyhow(&self, peer: usize) -> String {
        let mut command = self.networks.inside(peer, PROGRAM);
        let output = command.arg("--home").arg(self.peers[peer].home().folder()).arg("doctor").output().expect("the program runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn commit(&self, peer: usize, number: usize, parents: &[usize], step: &Step) {
        let patch = nested(step.changes.iter().map(|(path, value)| (path, value.clone().unwrap_or(Value::Null))));
        let headers = [
            "Content-Type: application/merge-patch+json".to_owned(),
            format!("Version: \"{}\"", label(number)),
            format!("Parents: {}", versions(parents)),
        ];
        let (status, body) = self.ask(peer, "PATCH", "", &headers, &patch.to_string());
        assert_eq!(status, 200, "commit {number} at peer {peer}: {body}");
    }
}

fn versions(commits: &[usize]) -> String {
    print_versions(&commits.iter().copied().map(label).collect::<Vec<_>>())
}

fn at(commits: &[usize]) -> String {
    format!("Version: {}", versions(commits))
}

/// Which peer each author writes on.
fn homes(history: &History, count: usize) -> HashMap<u64, usize> {
    let mut homes = HashMap::new();
    for commit in &history.commits[..count] {
        let next = homes.len() % PEERS;
        homes.entry(commit.author).or_insert(next);
    }
    homes
}

fn replay(count: usize, history: &History) {
    let Some(networks) = Networks::lay() else { return };
    let world = World::new(networks);
    let homes = homes(history, count);
    let mut account = Account::new(history);
    let (mut is_apart, mut waited) = (false, 0);
    for (number, now) in history.commits[..count].iter().enumerate() {
        if number == count * APART.0 / 100 {
            assert!(world.networks.filter(&[&[0, 1, 2], &[3, 4]]));
            is_apart = true;
        }
        let step = account.step(|_| true, |text| Value::from(text));
        let peer = homes[&now.author];
        if !world.has(peer, &now.parents) {
            waited += 1;
            // What it builds on may be on the other side.
            let is_across = is_apart && now.parents.iter().any(|parent| (homes[&history.commits[*parent].author] < 3) != (peer < 3));
            if is_across || number >= count * APART.1 / 100 {
                assert!(world.networks.filter(&[]));
                is_apart = false;
            }
            world.until(&format!("peer {peer} has what commit {number} builds on"), || world.has(peer, &now.parents).then_some(()));
        }
        world.commit(peer, number, &now.parents, &step);
    }
    assert!(world.networks.filter(&[]));
    let all = |peer: usize| world.get(peer, "?view=all", &[]);
    let wanted = world.until("all peers show the same", || {
        let first = all(0);
        (first.0 == 200 && (1..PEERS).all(|peer| all(peer) == first)).then_some(first)
    });
    let conflicts = wanted.1.matches("@conflict").count();
    for peer in 0..PEERS {
        let (status, body) = world.get(peer, "", &[at(&[count - 1])]);
        assert_eq!(status, 200, "{body}");
        let mut own: Value = serde_json::from_str(&body).expect("JSON");
        without_empty_folders(&mut own);
        assert!(data::same(&own, &account.files(count - 1, |text| Value::from(text))), "peer {peer} shows what git has in the last commit");
    }
    eprintln!("{count} commits on {PEERS} peers, {LOSS} % lost; {waited} waited for what they build on, {conflicts} conflicts open at the end");
    assert!(waited > 0, "peers had to wait for each other");
}

#[test]
fn a_git_history_on_five_peers_with_loss_and_partition_ends_the_same_everywhere() {
    let Some(history) = history() else { return };
    replay(COMMITS, &history);
}

#[test]
#[ignore = "the whole history takes minutes"]
fn the_whole_git_history_on_five_peers() {
    let Some(history) = history() else { return };
    replay(history.commits.len(), &history);
}
