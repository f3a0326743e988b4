//! A subscriber who has read once and from then on only applies the patches of the updates he is sent has, after
//! every change, what a reader sees.
//!
//! `TIMEBUS_CASES=5000` draws more cases, `TIMEBUS_SEED=17` begins at another one.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/home.rs"]
mod home;
#[path = "model/world.rs"]
mod world;

use std::sync::Arc;

use dice::{Dice, setting, text};
use home::{open, path, request};
use timebus_store::feed::{Feed, Next};
use timebus_store::json::Json;
use timebus_store::op::TextEdit;
use timebus_store::path::{Path, Segment};
use timebus_store::store::Store;
use timebus_store::update::{Edit, Step};
use timebus_store::value::Mime;
use timebus_store::writer::{Action, TextEdits, WriteError};
use world::World;

fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = setting("TIMEBUS_SEED", 0);
    first..first + setting("TIMEBUS_CASES", default)
}

/// Somebody who watches a path.
struct Subscriber {
    feed: Arc<Feed>,
    next: u64,
    value: Option<Json>,
    /// Patches applied, and updates after which he had to read again.
    patched: usize,
    reread: usize,
    versions: Vec<String>,
}

impl Subscriber {
    fn new(store: &Store, at: &Path) -> Self {
        let feed = store.feed(store.own(), at);
        let next = feed.end();
        let reading = store.read(&store.snapshot(), store.own(), at).expect("read");
        Self { feed, next, value: reading.tree.to_json(&store.space()), patched: 0, reread: 0, versions: reading.version }
    }

    /// Takes in what the feed has. Answers what went wrong.
    fn follow(&mut self, store: &Store) -> Result<(), String> {
        let Next::Entries(entries) = self.feed.from(self.next, usize::MAX) else { return Err("fell behind".to_owned()) };
        for entry in entries {
            self.next = entry.number + 1;
            let own = self.feed.path.segments();
            let patches = entry.update.patches.as_deref();
            let below = patches.filter(|patches| patches.iter().all(|patch| !is_above(&patch.path, &self.feed.path)));
            match below {
                Some(patches) => {
                    for patch in patches.iter().filter(|patch| self.feed.path.contains(&patch.path) && patch.shown_from <= own.len()) {
                        apply(&mut self.value, &patch.steps[own.len()..], &patch.edit).map_err(|why| format!("{why} with {patch:?}"))?;
                        self.patched += 1;
                    }
                }
                None => {
                    self.value = store.read(&store.snapshot(), store.own(), &self.feed.path).expect("read").tree.to_json(&store.space());
                    self.reread += 1;
                }
            }
            if entry.update.touched.iter().any(|path| self.feed.path.contains(path)) {
                self.versions = entry.update.version(self.feed.key()).iter().map(ToString::to_string).collect();
            }
        }
        Ok(())
    }

    /// Takes in what the feed has, and compares with what a reader sees.
    fn check(&mut self, store: &Store, what: &str) {
        let before = self.value.clone();
        let followed = self.follow(store);
        let reading = store.read(&store.snapshot(), store.own(), &self.feed.path).expect("read");
        let show = |json: &Option<Json>| json.as_ref().map_or_else(|| "absent".to_owned(), text);
        let now = show(&reading.tree.to_json(&store.space()));
        assert_eq!(followed, Ok(()), "{what}: {} should become {now}", show(&before));
        assert_eq!(show(&self.value), now, "{what}: from {}", show(&before));
        assert_eq!(self.versions, reading.version, "{what}: the version that the update tells");
    }
}

fn is_above(path: &Path, other: &Path) -> bool {
    path != other && path.contains(other)
}

/// What a client does with a patch.
fn apply(value: &mut Option<Json>, steps: &[Step], edit: &Edit) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        match edit {
            Edit::Put(json) => *value = Some(json.clone()),
            Edit::Delete => *value = None,
            Edit::Text(edits) => {
                let Some(Json::String(text)) = value else { return Err("edits of no text".to_owned()) };
                let mut chars: Vec<char> = text.chars().collect();
                for edit in edits {
                    let (start, end) = (edit.pos as usize, (edit.pos + edit.del) as usize);
                    if end > chars.len() {
                        return Err(format!("an edit of {start}..{end} in {} characters", chars.len()));
                    }
                    chars.splice(start..end, edit.ins.chars());
                }
                *text = chars.into_iter().collect();
            }
            Edit::Splice { start, end, items } => {
                let Some(Json::Array(array)) = value else { return Err("a splice of no array".to_owned()) };
                if start > end || *end > array.len() {
                    return Err(format!("a splice of {start}..{end} in {} elements", array.len()));
                }
                array.splice(start..end, items.iter().cloned());
            }
        }
        return Ok(());
    };
    match (value, step) {
        (Some(Json::Object(members)), Step::Key(key)) => {
            let mut member = members.remove(&**key);
            apply(&mut member, rest, edit)?;
            members.extend(member.map(|member| (key.to_string(), member)));
        }
        (Some(Json::Array(items)), Step::Index(at)) if *at < items.len() => {
            let mut item = Some(items[*at].clone());
            apply(&mut item, rest, edit)?;
            match item {
                Some(item) => items[*at] = item,
                None => drop(items.remove(*at)),
            }
        }
        (value, step) => return Err(format!("no {step:?} in {value:?}")),
    }
    Ok(())
}

/// Paths of everything in a subtree.
fn places(store: &Store, at: &Path, into: &mut Vec<Path>) {
    let tree = store.read(&store.snapshot(), store.own(), at).expect("read").tree;
    into.push(at.clone());
    for name in tree.names.keys() {
        places(store, &at.join(Segment::Name(name.clone())).expect("fits"), into);
    }
    for (id, _) in &tree.elements {
        places(store, &at.join(Segment::Element(*id)).expect("fits"), into);
    }
}

/// Some request at some place, on top of now or of some version before.
async fn write(store: &Store, dice: &mut Dice, versions: &mut Vec<String>) -> String {
    let mut all = Vec::new();
    places(store, &Path::root(), &mut all);
    let mut at = dice.pick(&all).expect("at least the root").clone();
    if dice.percent(30) {
        for _ in 0..1 + dice.below(2) {
            at = at.join(Segment::name(["a", "b", "c"][dice.below(3)]).expect("valid")).expect("fits");
        }
    }
    if at.is_root() && dice.percent(80) {
        at = path("/a");
    }
    let now = store.read(&store.snapshot(), store.own(), &at).expect("read").tree.to_json(&store.space());
    let action = match dice.below(13) {
        10 => Action::PutText { mime: Mime::plain_text(), text: "word ".repeat(dice.below(3)) },
        11 | 12 => {
            let chars = if let Some(Json::String(text)) = &now { text.chars().count() as u64 } else { 0 };
            let pos = dice.below(chars as usize + 1) as u64;
            let edit = TextEdit { pos, del: (chars - pos).min(2), ins: ["", "x", "\u{1f98a}"][dice.below(3)].into() };
            Action::EditText(TextEdits::Sequence(vec![edit]))
        }
        0 => Action::Delete,
        1 => Action::Post { name: "p".to_owned(), value: dice.json(2) },
        2 => Action::Merge(dice.json(2)),
        3..=6 => Action::Put(match now {
            Some(now) => dice.edited(&now, 3),
            None => dice.json(3),
        }),
        _ => Action::Put(dice.json(3)),
    };
    let mut request = request("/", action);
    request.path = at;
    if dice.percent(25) {
        request.parents = Some(dice.pick(versions).into_iter().chain(dice.pick(versions).filter(|_| dice.clone().percent(30))).cloned().collect());
    }
    let what = format!("{:?} at {} on {:?}", request.action, request.path, request.parents);
    match store.write(request).await {
        Ok(written) => versions.extend(written.change.map(|id| id.to_string())),
        Err(WriteError::Absent(_) | WriteError::NotACollection(_) | WriteError::Text(_)) => {}
        Err(error) => panic!("{what}: {error}"),
    }
    what
}

#[tokio::test]
async fn patches_alone_keep_a_subscriber_up_to_date() {
    let (mut patched, mut reread) = (0, 0);
    for seed in seeds(15) {
        let mut dice = Dice::new(seed);
        let home = home::home(50);
        let store = open(home.path());
        let mut watchers = vec![Subscriber::new(&store, &Path::root()), Subscriber::new(&store, &path("/a")), Subscriber::new(&store, &path("/a/b"))];
        let mut versions = Vec::new();
        for step in 0..25 {
            let what = write(&store, &mut dice, &mut versions).await;
            for watcher in &mut watchers {
                let what = format!("seed {seed} step {step}, watching {}: {what}", watcher.feed.path);
                watcher.check(&store, &what);
            }
        }
        patched += watchers[0].patched;
        reread += watchers[0].reread;
    }
    assert!(patched > 10 * reread, "a subscriber has to read again after {reread} updates beside {patched} patches");
}

#[tokio::test]
async fn patches_tell_what_others_changes_do() {
    let (mut patched, mut reread) = (0, 0);
    for seed in seeds(25) {
        let world = World::new(&home::root(), seed);
        let home = home::home(50);
        let store = open(home.path());
        let mut root = Subscriber::new(&store, &Path::root());
        let mut below = Subscriber::new(&store, &path("/b"));
        for (number, change) in world.changes.iter().enumerate() {
            store.offer(vec![change.clone()]).await.expect("the disk works");
            root.check(&store, &format!("seed {seed}, change {number}, watching /"));
            below.check(&store, &format!("seed {seed}, change {number}, watching /b"));
        }
        patched += root.patched;
        reread += root.reread;
    }
    assert!(patched > 10 * reread, "a subscriber has to read again after {reread} updates beside {patched} patches");
}

#[tokio::test]
async fn an_update_that_touches_nothing_watched_reaches_nobody() {
    let home = home::home(50);
    let store = open(home.path());
    home::put(&store, "/", &home::json(r#"{"a":{},"b":0}"#)).await;
    let watcher = Subscriber::new(&store, &path("/a"));
    home::put(&store, "/b", &Json::Int(1)).await;
    home::put(&store, "/", &home::json(r#"{"a":{},"b":2}"#)).await;
    assert_eq!(watcher.feed.end(), 0);
    home::put(&store, "/a/x", &Json::Int(1)).await;
    assert_eq!(watcher.feed.end(), 1);
}

/// Lists that are written much are not read for each update: what is remembered of them stays what they show, whoever comes
/// between.
#[tokio::test]
async fn a_list_that_is_appended_to_is_told_as_it_is() {
    for seed in seeds(25) {
        let mut dice = Dice::new(seed);
        let home = home::home(50);
        let store = open(home.path());
        let at = path("/log");
        home::put(&store, "/log", &home::json(r#"[1, {"x": 2}, 3]"#)).await;
        let mut watcher = Some(Subscriber::new(&store, &path("/")));
        let mut versions = Vec::new();
        for step in 0..60 {
            let tree = store.read(&store.snapshot(), store.own(), &at).expect("read").tree;
            let element = dice.pick(&tree.elements).map(|(id, _)| at.join(Segment::Element(*id)).expect("fits"));
            let (place, action) = match (dice.below(20), element) {
                (0..10, _) => (at.clone(), Action::Post { name: "p".to_owned(), value: dice.json(2) }),
                (10..13, Some(element)) => (element, Action::Delete),
                (13 | 14, Some(element)) => (element, Action::Put(dice.json(2))),
                (15, Some(element)) => (element.join(Segment::name("x").expect("valid")).expect("fits"), Action::Put(dice.json(1))),
                (16, _) => {
                    let mut items = tree.to_json(&store.space());
                    if let Some(Json::Array(items)) = &mut items {
                        items.insert(dice.below(items.len() + 1), Json::Int(step));
                        let len = items.len();
                        items.swap(dice.clone().below(len), len / 2);
                    }
                    (at.clone(), Action::Put(items.unwrap_or(Json::Array(Vec::new()))))
                }
                (17, _) if dice.percent(30) => (at.clone(), Action::Put(dice.json(1))),
                (18, _) => (path("/other"), Action::Put(dice.json(1))),
                _ => (at.clone(), Action::Put(Json::Array((0..dice.below(4) as i64).map(Json::Int).collect()))),
            };
            let mut request = request("/", action);
            request.path = place;
            if dice.percent(20) {
                request.parents = Some(dice.pick(&versions).into_iter().cloned().collect());
            }
            let what = format!("seed {seed} step {step}: {:?} at {} on {:?}", request.action, request.path, request.parents);
            match store.write(request).await {
                Ok(written) => versions.extend(written.change.map(|id| id.to_string())),
                Err(WriteError::Absent(_) | WriteError::NotACollection(_)) => {}
                Err(error) => panic!("{what}: {error}"),
            }
            if let Some(watcher) = &mut watcher {
                watcher.check(&store, &what);
            }
            // Nobody is told for a while, and then somebody is again.
            if dice.percent(10) {
                watcher = if watcher.is_some() { None } else { Some(Subscriber::new(&store, &path("/"))) };
            }
        }
    }
}
