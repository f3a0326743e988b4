//! The same git history on eight peers that share one space: each commit is written where its author is, and two
//! peers meet when one of them builds on what the other has.
//!
//! Beside them one store takes all commits itself. At every merge and at the end everybody sees what it sees.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde_json::Value;
use timebus_identity::{PublicKey, SecretKey, hash};
use timebus_store::engine::{Engine, MemoryHome};
use timebus_store::grant::{Actions, Audience, Grant, Scope, Timelines};
use timebus_store::json::{Json, Limits};
use timebus_store::op::Op;
use timebus_store::path::{Path, Segment};
use timebus_store::store::{Config, Store};
use timebus_store::tree::Tree;
use timebus_store::writer::{Action, Condition, Request, Statement, Written};

use super::git::{Account, History, Past, Step, history, label, nested, without_empty_folders};
use crate::data;
use crate::meeting::{Cost, Site, meet};

const PEERS: usize = 8;
/// Commits between two moments at which all peers meet and everything that they see is compared.
const COMPARE_EVERY: usize = 30;
/// Commits that are replayed unless `TIMEBUS_FULL` says all, which takes a debug build a minute.
const COMMITS: usize = 330;

fn key(number: usize, what: &str) -> SecretKey {
    SecretKey::from_seed(hash("git peer", &[&(number as u64).to_be_bytes(), what.as_bytes()]))
}

fn engine(number: usize, now_ms: u64) -> Engine {
    let mut home = MemoryHome::new(key(number, "root"), &key(number, "next"), key(number, "device"));
    Engine::open(&mut home, &Config::default(), now_ms).expect("a new home opens")
}

/// Which peer each author writes on: whoever has least to do takes the next busiest.
fn homes(history: &History, count: usize) -> HashMap<u64, usize> {
    let mut commits: BTreeMap<u64, usize> = BTreeMap::new();
    history.commits[..count].iter().for_each(|commit| *commits.entry(commit.author).or_default() += 1);
    let mut authors: Vec<(usize, u64)> = commits.into_iter().map(|(author, commits)| (commits, author)).collect();
    authors.sort_by(|one, other| other.cmp(one));
    let mut load = [0; PEERS];
    let place = |(commits, author): (usize, u64)| {
        let peer = (0..PEERS).min_by_key(|peer| load[*peer]).unwrap_or(0);
        load[peer] += commits;
        (author, peer)
    };
    authors.into_iter().map(place).collect()
}

fn commit(engine: &mut Engine, space: &PublicKey, number: usize, parents: &[usize], step: &Step, time_ms: u64) -> Written {
    let patch = nested(step.changes.iter().map(|(path, value)| (path, value.clone().unwrap_or(Value::Null))));
    let store = engine.store().clone();
    let request = Request {
        space: Some(store.held(space).expect("every peer holds the space")),
        path: repo(),
        action: Action::Merge(Json::parse(patch.to_string().as_bytes(), Limits::default()).expect("JSON")),
        parents: Some(parents.iter().copied().map(label).collect()),
        label: Some(label(number)),
        condition: Condition::None,
        time_ms,
        durable: true,
        may_name: None,
    };
    let written = engine.finish(async move { store.write(request).await }).expect("the engine answers");
    let written = written.unwrap_or_else(|error| panic!("commit {number}: {error}"));
    engine.settle();
    written
}

fn repo() -> Path {
    Path::parse("/repo").expect("a path")
}

/// What is seen at and below a path: for people who compare stores, the values; for copies of one store, the writes
/// too. Whatever shows only once is told from what shows as a conflict.
struct Seen {
    values: String,
    writes: String,
    conflicts: usize,
}

fn seen(tree: Tree, path: Path) -> Seen {
    let mut seen = Seen { values: String::new(), writes: String::new(), conflicts: tree.conflicts() };
    let mut queue = vec![(path, tree)];
    while let Some((path, tree)) = queue.pop() {
        let text = |write: &timebus_store::node::Write| blake3::hash(format!("{:?}", write.value).as_bytes()).to_hex()[..12].to_owned();
        let mut values: Vec<String> = tree.writes.iter().map(text).collect();
        let writes: Vec<String> = tree.writes.iter().zip(&values).map(|(write, value)| format!("{}={value}", write.id)).collect();
        values.sort_unstable();
        // Writing to a string does not fail.
        let _ = writeln!(seen.values, "{path}\t{values:?}");
        let _ = writeln!(seen.writes, "{path}\t{writes:?}");
        assert!(tree.hidden.is_empty() && tree.elements.is_empty(), "files are texts in folders");
        queue.extend(tree.names.into_iter().map(|(name, child)| (path.join(Segment::Name(name)).expect("it is there"), child)));
    }
    seen
}

fn now(store: &Store, space: &PublicKey) -> Seen {
    let space = store.held(space).expect("every peer holds the space");
    let tree = Tree::load(&*store.snapshot(), space.main(), &repo(), usize::MAX).expect("memory does not fail");
    seen(tree, repo())
}

fn at(store: &Store, space: &PublicKey, path: &Path, commits: &[usize]) -> Seen {
    let space = store.held(space).expect("every peer holds the space");
    let versions: Vec<String> = commits.iter().copied().map(label).collect();
    let tree = store.read_at(&store.snapshot(), space, path, &versions).unwrap_or_else(|error| panic!("{versions:?}: {error}"));
    seen(tree, path.clone())
}

struct World {
    space: PublicKey,
    sites: Vec<Site<Engine>>,
    /// The commits that each peer has.
    has: Vec<Past>,
    meetings: u64,
    total: Cost,
}

impl World {
    /// The first peer owns the space and lets the others write.
    fn new(commits: usize, now_ms: u64) -> Self {
        let mut engines: Vec<Engine> = (0..PEERS).map(|number| engine(number, now_ms)).collect();
        let space = engines[0].store().space();
        let grants = (1..PEERS).map(|number| {
            Op::Grant(Grant {
                audience: Audience::Key(key(number, "device").public()),
                scope: Scope::everything(),
                timelines: Timelines::All,
                actions: Actions(Actions::SYNC.0 | Actions::READ.0 | Actions::WRITE.0),
                bytes_max: 0,
                change_bytes_max: 0,
                not_after_ms: 0,
                depth: 0,
                label: "author".into(),
            })
        });
        let grants = Statement::Ops(grants.collect());
        let store = engines[0].store().clone();
        engines[0].finish(async move { store.state(grants, now_ms).await }).expect("the engine answers").expect("the owner may");
        let mut sites: Vec<Site<Engine>> =
            engines.into_iter().enumerate().map(|(number, engine)| Site::new(engine, &key(number, "device"))).collect();
        let keys: Vec<PublicKey> = sites.iter().map(Site::node_key).collect();
        sites.iter_mut().for_each(|site| site.follow(space, &keys));
        let mut world = Self { space, sites, has: vec![Past::empty(commits); PEERS], meetings: 0, total: Cost::default() };
        (1..PEERS).for_each(|other| world.meet(other, 0));
        world
    }

    fn meet(&mut self, one: usize, other: usize) {
        let (low, high) = (one.min(other), one.max(other));
        let (left, right) = self.sites.split_at_mut(high);
        self.meetings += 1;
        let (caller, called) = if one < other { (&mut left[low], &mut right[0]) } else { (&mut right[0], &mut left[low]) };
        let cost = meet(caller, called, self.meetings);
        assert_eq!(cost.refused, 0, "peers {one} and {other} take what the other has");
        self.total.bytes += cost.bytes;
        self.total.admitted += cost.admitted;
        let both = self.has[one].clone();
        self.has[other].join(&both);
        let both = self.has[other].clone();
        self.has[one].join(&both);
    }

    /// Everything goes around until everybody has it.
    fn meet_all(&mut self) {
        (1..PEERS).for_each(|peer| self.meet(peer - 1, peer));
        (0..PEERS - 1).rev().for_each(|peer| self.meet(peer, peer + 1));
    }

    /// All peers show the same, and what one store shows that took all writes itself.
    fn compare(&mut self, single: &Engine, number: usize) -> usize {
        self.meet_all();
        let wanted = now(single.store(), &single.store().space());
        let first = now(self.sites[0].store(), &self.space);
        for (peer, site) in self.sites.iter().enumerate() {
            let own = now(site.store(), &self.space);
            assert!(own.values == wanted.values, "after commit {number} peer {peer} shows other values than the single store");
            assert!(own.writes == first.writes, "after commit {number} peers 0 and {peer} differ");
            assert_eq!(own.conflicts, wanted.conflicts, "conflicts at peer {peer} after commit {number}");
        }
        wanted.conflicts
    }
}

#[test]
fn a_git_history_on_eight_peers_ends_as_in_one_store() {
    let Some(history) = history() else { return };
    let count = if crate::peer::is_full_run() { history.commits.len() } else { COMMITS };
    let homes = homes(&history, count);
    let begin_ms = history.commits[0].time_ms;
    let mut world = World::new(count, begin_ms);
    let mut single = engine(PEERS, begin_ms);
    let single_space = single.store().space();
    let mut account = Account::new(&history);
    let mut settled = 0;
    let mut open_conflicts = 0;
    for (number, now) in history.commits[..count].iter().enumerate() {
        let step = account.step(|_| true, |text| Value::from(text));
        let peer = homes[&now.author];
        for parent in &now.parents {
            if !world.has[peer].has(*parent) {
                world.meet(peer, homes[&history.commits[*parent].author]);
            }
        }
        commit(&mut single, &single_space, number, &now.parents, &step, now.time_ms);
        let space = world.space;
        commit(&mut world.sites[peer].keeps, &space, number, &now.parents, &step, now.time_ms);
        world.has[peer].add(number);
        for (path, values) in &step.conflicts {
            let file = Path::parse(&format!("/repo/{path}")).expect("a path");
            let wanted = at(single.store(), &single_space, &file, &now.parents);
            let own = at(world.sites[peer].store(), &space, &file, &now.parents);
            assert_eq!(wanted.conflicts, 1, "{path} before {number}: {} values", values.len());
            assert_eq!(own.values, wanted.values, "{path} before {number}");
            assert_eq!(own.conflicts, 1, "{path} before {number}");
            settled += 1;
        }
        if (number + 1) % COMPARE_EVERY == 0 {
            open_conflicts += world.compare(&single, number);
        }
    }
    open_conflicts += world.compare(&single, count - 1);
    // The last commit of all was made on everything; of a part of the history only it and what it builds on are asked.
    for site in &world.sites {
        let held = site.store().held(&world.space).expect("every peer holds the space");
        let tree = site.store().read_at(&site.store().snapshot(), held, &repo(), &[label(count - 1)]).expect("every peer has it");
        assert_eq!(tree.conflicts(), 0, "what met in it is settled");
        let mut text = Vec::new();
        tree.to_json(&world.space).expect("files").write(&mut text);
        let mut own: Value = serde_json::from_slice(&text).expect("JSON");
        without_empty_folders(&mut own);
        assert!(data::same(&own, &account.files(count - 1, |text| Value::from(text))), "the last commit is what git has");
    }
    assert!(settled > 0 && open_conflicts > 0, "conflicts were there to be compared");
    let Cost { bytes, admitted, .. } = world.total;
    eprintln!(
        "{count} commits on {PEERS} peers; {} meetings, {admitted} changes went over, {bytes} bytes; {settled} conflicts settled, {open_conflicts} seen open",
        world.meetings
    );
}
