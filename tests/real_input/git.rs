//! A git history with its true merges. Each commit is one write that says which commits it was made on; the test
//! keeps its own account of what has to be visible in every one of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};

use crate::data;
use crate::http::print_versions;
use crate::peer::Peer;

pub(super) struct Commit {
    pub(super) author: u64,
    /// Unix milliseconds.
    pub(super) time_ms: u64,
    pub(super) parents: Vec<usize>,
    /// Path and blob; no blob where a file was deleted.
    changes: Vec<(String, Option<String>)>,
}

pub(super) struct History {
    pub(super) commits: Vec<Commit>,
    blobs: HashMap<String, String>,
}

pub(super) fn history() -> Option<History> {
    let commits = data::lines("03-tree/gitdag-json-schema-test-suite.commits.ndjson.gz")?;
    let blobs = data::lines("03-tree/gitdag-json-schema-test-suite.blobs.ndjson.gz")?;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let commits = commits.iter().map(|commit| Commit {
        author: commit["author"].as_u64().expect("a number"),
        time_ms: 1000 * commit["t"].as_u64().expect("a time"),
        parents: commit["parents"].as_array().expect("parents").iter().map(|parent| parent.as_u64().expect("a number") as usize).collect(),
        changes: commit["changes"]
            .as_array()
            .expect("changes")
            .iter()
            .map(|change| (text(&change[0]), (change[1] != "D").then(|| text(&change[2]))))
            .collect(),
    });
    Some(History { commits: commits.collect(), blobs: blobs.iter().map(|blob| (text(&blob["b"]), text(&blob["text"]))).collect() })
}

/// A set of commits.
#[derive(Clone)]
pub(super) struct Past(Vec<u64>);

impl Past {
    pub(super) fn empty(commits: usize) -> Self {
        Self(vec![0; commits.div_ceil(64)])
    }

    pub(super) fn has(&self, commit: usize) -> bool {
        self.0[commit / 64] >> (commit % 64) & 1 == 1
    }

    pub(super) fn add(&mut self, commit: usize) {
        self.0[commit / 64] |= 1 << (commit % 64);
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own |= other);
    }
}

/// Folders and files as JSON.
pub(super) fn nested<'a>(files: impl IntoIterator<Item = (&'a String, Value)>) -> Value {
    let mut whole = Map::new();
    for (path, value) in files {
        let mut at = &mut whole;
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            at = at.entry(folder).or_insert_with(|| Value::Object(Map::new())).as_object_mut().expect("a folder");
        }
        at.insert(name.to_owned(), value);
    }
    Value::Object(whole)
}

/// Takes out folders that became empty, which git does not know.
pub(super) fn without_empty_folders(value: &mut Value) {
    if let Value::Object(members) = value {
        members.values_mut().for_each(without_empty_folders);
        members.retain(|_, member| member.as_object().is_none_or(|members| !members.is_empty()));
    }
}

pub(super) fn label(commit: usize) -> String {
    format!("git-{commit}")
}

/// Writes that are visible at a path for somebody who has seen `past`.
fn visible<'a>(writes: &'a [(usize, Option<Value>)], past: &Past, pasts: &[Past]) -> Vec<&'a Value> {
    let seen: Vec<&(usize, Option<Value>)> = writes.iter().filter(|(commit, _)| past.has(*commit)).collect();
    let is_dead = |commit: usize| seen.iter().any(|(later, _)| *later != commit && pasts[*later].has(commit));
    seen.iter().filter(|(commit, _)| !is_dead(*commit)).filter_map(|(_, value)| value.as_ref()).collect()
}

/// Files that were changed on both sides of a merge; only some, since all of them take minutes.
fn met(history: &History) -> BTreeSet<String> {
    let files_max = if crate::peer::is_full_run() { usize::MAX } else { 3 };
    let count = history.commits.len();
    let mut pasts: Vec<Past> = Vec::with_capacity(count);
    let mut writers: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut met = BTreeSet::new();
    for (number, commit) in history.commits.iter().enumerate() {
        let mut past = Past::empty(count);
        commit.parents.iter().for_each(|parent| past.join(&pasts[*parent]));
        let is_merge = commit.parents.len() > 1;
        for (path, _) in &commit.changes {
            let writers = writers.entry(path).or_default();
            if !is_merge {
                writers.push(number);
            } else if met.len() < files_max {
                let seen: Vec<usize> = writers.iter().copied().filter(|writer| past.has(*writer)).collect();
                let heads = seen.iter().filter(|own| !seen.iter().any(|later| later != *own && pasts[*later].has(**own)));
                if heads.count() > 1 {
                    met.insert(path.clone());
                }
            }
        }
        past.add(number);
        pasts.push(past);
    }
    met
}

/// What has to be visible in every commit, by what the commits before it wrote.
pub(super) struct Account<'a> {
    history: &'a History,
    pasts: Vec<Past>,
    /// What git has after each commit: path and blob.
    trees: Vec<BTreeMap<String, String>>,
    /// Who wrote what at a path; nothing where it was deleted.
    writes: HashMap<String, Vec<(usize, Option<Value>)>>,
}

/// What one commit has to do.
pub(super) struct Step {
    /// Values that meet in its parents, where they are not all the same.
    pub(super) conflicts: BTreeMap<String, Vec<Value>>,
    /// What has to be written, as the merge of what its parents have is not what git made of it.
    pub(super) changes: Vec<(String, Option<Value>)>,
}

impl<'a> Account<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        Self { history, pasts: Vec::new(), trees: Vec::new(), writes: HashMap::new() }
    }

    /// Goes on to the next commit, as far as it touches paths of `wanted`. `value_of` makes a value of a blob.
    pub(super) fn step(&mut self, wanted: impl Fn(&str) -> bool, value_of: impl Fn(&str) -> Value) -> Step {
        let Self { history, pasts, trees, writes } = self;
        let number = pasts.len();
        let commit = &history.commits[number];
        let mut tree = commit.parents.first().map_or_else(BTreeMap::new, |first| trees[*first].clone());
        for (path, blob) in commit.changes.iter().filter(|(path, _)| wanted(path)) {
            match blob {
                Some(blob) => drop(tree.insert(path.clone(), blob.clone())),
                None => drop(tree.remove(path)),
            }
        }
        let mut past = Past::empty(history.commits.len());
        commit.parents.iter().for_each(|parent| past.join(&pasts[*parent]));
        let candidates: BTreeSet<&String> = match commit.parents.len() {
            0 | 1 => commit.changes.iter().map(|(path, _)| path).filter(|path| wanted(path)).collect(),
            _ => tree.keys().chain(commit.parents.iter().flat_map(|parent| trees[*parent].keys())).collect(),
        };
        let mut changes: Vec<(String, Option<Value>)> = Vec::new();
        let mut conflicts = BTreeMap::new();
        for path in candidates {
            let wanted = tree.get(path).map(|blob| value_of(history.blobs.get(blob).map_or(blob, |text| text)));
            let own = writes.get(path).map(Vec::as_slice).unwrap_or_default();
            let found = visible(own, &past, pasts);
            let is_conflict = found.iter().any(|value| *value != found[0]);
            if is_conflict {
                conflicts.insert(path.clone(), found.iter().map(|value| (*value).clone()).collect::<Vec<_>>());
            }
            let is_right = match &wanted {
                Some(value) => !found.is_empty() && found.iter().all(|own| *own == value),
                None => found.is_empty(),
            };
            if !is_right {
                changes.push((path.clone(), wanted));
            }
        }
        for (path, value) in &changes {
            writes.entry(path.clone()).or_default().push((number, value.clone()));
        }
        past.add(number);
        pasts.push(past);
        trees.push(tree);
        Step { conflicts, changes }
    }

    /// The files of a commit, as JSON.
    pub(super) fn files(&self, number: usize, value_of: impl Fn(&str) -> Value) -> Value {
        nested(self.trees[number].iter().map(|(path, blob)| (path, value_of(self.history.blobs.get(blob).map_or(blob, |text| text)))))
    }
}

struct Counts {
    merges_with_conflict: usize,
    conflicts: usize,
    resolved_like_git: usize,
}

/// Replays commits, as far as they touch paths of `wanted`. `value_of` makes a value of a blob.
fn replay(history: &History, wanted: impl Fn(&str) -> bool, value_of: impl Fn(&str) -> Value, whole_values: bool) -> Option<Counts> {
    let peer = Peer::start();
    let mut client = peer.connect();
    let count = history.commits.len();
    let mut account = Account::new(history);
    // The commit whose version a commit has: its own, unless nothing had to be written.
    let mut written: Vec<usize> = Vec::with_capacity(count);
    let mut counts = Counts { merges_with_conflict: 0, conflicts: 0, resolved_like_git: 0 };
    for (number, commit) in history.commits.iter().enumerate() {
        let Step { conflicts, changes } = account.step(&wanted, &value_of);
        let parents: BTreeSet<usize> = commit.parents.iter().map(|parent| written[*parent]).collect();
        let only_parent = parents.first().copied().filter(|_| parents.len() == 1);
        let parents = print_versions(&parents.into_iter().map(label).collect::<Vec<_>>());
        if !conflicts.is_empty() {
            counts.merges_with_conflict += 1;
            counts.conflicts += conflicts.len();
            let merged = client.send("GET", "/repo", &[("Version", &parents)], "");
            assert_eq!(merged.status, 200, "{}", merged.text());
            let merged_json = merged.json();
            for (path, values) in &conflicts {
                let target = format!("/repo/{}?view=all", crate::http::encode(path));
                if whole_values {
                    // Texts do not mix: both sides are there, and somebody has to decide.
                    let all = client.send("GET", &target, &[("Version", &parents)], "");
                    assert_eq!(all.header("conflicts"), Some("1"), "{path} in {number}");
                    let mut shown: Vec<String> = all.json()["@conflict"]
                        .as_array()
                        .unwrap_or_else(|| panic!("{}", all.text()))
                        .iter()
                        .map(|shown| shown["value"].to_string())
                        .collect();
                    let mut values: Vec<String> = values.iter().map(ToString::to_string).collect();
                    shown.sort();
                    values.sort();
                    assert!(shown == values, "{path} in {number} shows {} values, not {}", shown.len(), values.len());
                } else {
                    let wanted = account.trees[number].get(path).map(|blob| value_of(history.blobs.get(blob).map_or(blob, |text| text)));
                    let own = path.split('/').try_fold(&merged_json, |at, name| at.get(name));
                    counts.resolved_like_git += usize::from(own == wanted.as_ref());
                }
            }
            if whole_values {
                assert_eq!(merged.header("conflicts"), Some(conflicts.len().to_string().as_str()), "before commit {number}");
            }
        }
        if let Some(parent) = only_parent.filter(|_| !whole_values && changes.is_empty()) {
            // Of some files only the commits that concern them are replayed.
            written.push(parent);
            continue;
        }
        written.push(number);
        let patch = nested(changes.iter().map(|(path, value)| (path, value.clone().unwrap_or(Value::Null))));
        let headers = [("Content-Type", "application/merge-patch+json"), ("Version", &format!("\"{}\"", label(number))), ("Parents", &parents)];
        let answer = client.send("PATCH", "/repo", &headers.map(|(name, value)| (name, value as &str)), patch.to_string());
        assert_eq!(answer.status, 200, "commit {number}: {}", answer.text());
    }
    peer.put("/done", &Value::Bool(true));
    let check = |client: &mut crate::http::Client, number: usize| {
        let answer = client.send("GET", "/repo", &[("Version", &print_versions(&[label(written[number])]))], "");
        let mut own = match answer.status {
            404 => Value::Object(Map::new()),
            _ => answer.json(),
        };
        let git = account.files(number, &value_of);
        without_empty_folders(&mut own);
        if !data::same(&own, &git) {
            let (own, git) = (own.to_string(), git.to_string());
            let at = own.bytes().zip(git.bytes()).position(|(own, git)| own != git).unwrap_or(own.len().min(git.len()));
            let near = |text: &str| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(100)..text.len().min(at + 100)]).into_owned();
            panic!("commit {number} differs from git:\n  ours: {}\n  git:  {}", near(&own), near(&git));
        }
        assert_eq!(answer.header("conflicts"), None, "every conflict was settled before commit {number}");
    };
    for number in (0..count).step_by(10).chain([count - 1]) {
        check(&mut client, number);
    }
    let peer = peer.restart();
    let mut client = peer.connect();
    check(&mut client, count / 2);
    check(&mut client, count - 1);
    Some(counts)
}

#[test]
fn a_git_history_of_texts_is_reproduced_and_its_conflicts_are_shown() {
    let Some(history) = history() else { return };
    let Some(counts) = replay(&history, |_| true, |text| Value::from(text), true) else { return };
    eprintln!("{} commits; {} merges had conflicts, at {} files", history.commits.len(), counts.merges_with_conflict, counts.conflicts);
    assert!(counts.conflicts > 0);
}

#[test]
fn a_git_history_of_json_files_merges_inside_them() {
    let Some(history) = history() else { return };
    // Files that two people changed at once, and all their history.
    let met = met(&history);
    let wanted = |path: &str| met.contains(path);
    let value_of = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let Some(counts) = replay(&history, wanted, value_of, false) else { return };
    eprintln!(
        "{} merges met, at {} files; {} files came out as git's authors made them",
        counts.merges_with_conflict, counts.conflicts, counts.resolved_like_git
    );
}
