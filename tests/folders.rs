//! Live folders: the program keeps a folder and a subtree the same while both are written to.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peer::{DEADLINE, PROGRAM, Peer, wait};

const TEXT: (&str, &str) = ("Content-Type", "text/plain");

/// How often both sides are compared while nothing is heard; only how soon a test ends depends on it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

fn command(peer: &Peer, path: &str, folder: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--home").arg(peer.home().folder()).args(["--json", "folder", path]).arg(folder).stdin(Stdio::null());
    command
}

/// Brings both sides together once; what it did.
fn once(peer: &Peer, path: &str, folder: &Path) -> Vec<Value> {
    let output = command(peer, path, folder).arg("--once").output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A folder that is kept the same as a subtree, until it is dropped.
struct Kept {
    child: Child,
    events: mpsc::Receiver<Value>,
    heard: Vec<Value>,
}

impl Kept {
    fn start(peer: &Peer, path: &str, folder: &Path) -> Self {
        let mut child = command(peer, path, folder).stdout(Stdio::piped()).spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (sender, events) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).expect("JSON")).is_err() {
                    return;
                }
            }
        });
        let mut kept = Self { child, events, heard: Vec::new() };
        kept.until("ready", |heard| heard.iter().any(|event| event["event"] == "ready"));
        kept
    }

    /// Waits until something holds that depends on what the program does.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&[Value]) -> bool) {
        let began = Instant::now();
        while !is_so(&self.heard) {
            match self.events.recv_timeout(LOOK_EVERY) {
                Ok(event) => self.heard.push(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("the program ended before {what}; it said {:#?}", self.heard),
            }
            assert!(began.elapsed() < DEADLINE, "{what} never came about; the program said {:#?}", self.heard);
        }
    }

    /// Asks it to end, or pulls the plug.
    fn stop(mut self, softly: bool) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = if softly { rustix::process::Signal::TERM } else { rustix::process::Signal::KILL };
        rustix::process::kill_process(pid, signal).expect("it lives");
        let status = wait(&mut self.child).expect("it ends");
        assert!(!softly || status.success(), "{status}");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder(peer: &Peer) -> PathBuf {
    let folder = peer.home().beside("folder");
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn text(peer: &Peer, path: &str) -> Option<String> {
    let answer = peer.send("GET", path, &[], "");
    (answer.status == 200).then(|| answer.text())
}

/// The files of a folder that take part, by name.
fn files(folder: &Path) -> Vec<String> {
    fn into(folder: &Path, below: &str, out: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = format!("{below}{}", entry.file_name().into_string().expect("Unicode"));
            match entry.file_type().expect("a type").is_dir() {
                true => into(&entry.path(), &format!("{name}/"), out),
                false if entry.file_name().to_string_lossy().starts_with('.') => {}
                false => out.push(name),
            }
        }
    }
    let mut out = Vec::new();
    into(folder, "", &mut out);
    out.sort();
    out
}

#[test]
fn both_sides_get_what_they_lack() {
    let peer = Peer::start();
    let folder = folder(&peer);
    peer.put("/f", &json!({"n": 1, "list": [1, 2], "deep": {"s": "a string"}, "x.json": "{\"not\": \"parsed\"}"}));
    peer.send("PUT", "/f/deep/t.md", &[("Content-Type", "text/markdown")], "# Title");
    peer.send("PUT", "/f/logo", &[("Content-Type", "image/png")], [0, 1, 2]);
    fs::create_dir(folder.join("own")).expect("a folder");
    fs::write(folder.join("own/note.txt"), "from here").expect("a file");
    fs::write(folder.join("own/data"), [0u8, 255]).expect("a file");
    fs::write(folder.join(".hidden"), "mine").expect("a file");
    let said = once(&peer, "/f", &folder);
    assert_eq!(said.last().expect("a line"), &json!({"event": "ready", "files": 8}));
    assert_eq!(files(&folder), ["deep/s", "deep/t.md", "list.json", "logo", "n.json", "own/data", "own/note.txt", "x.json"]);
    let read = |name: &str| fs::read(folder.join(name)).expect("a file");
    assert_eq!((read("deep/t.md"), read("deep/s"), read("n.json")), (b"# Title".to_vec(), b"a string".to_vec(), b"1\n".to_vec()));
    assert_eq!((read("logo"), read("x.json")), (vec![0, 1, 2], b"{\"not\": \"parsed\"}".to_vec()));
    assert_eq!(text(&peer, "/f/own/note.txt").as_deref(), Some("from here"));
    assert_eq!(peer.send("GET", "/f/own/data", &[], "").body, [0, 255]);
    peer.send("GET", "/f/.hidden", &[], "").problem(404);
    assert_eq!(once(&peer, "/f", &folder), [json!({"event": "ready", "files": 8})], "nothing is left to do");
    // Each kind is edited, on each side.
    fs::write(folder.join("n.json"), "[2]").expect("a file");
    fs::write(folder.join("logo"), [3u8, 0]).expect("a file");
    fs::write(folder.join("deep/s"), "a text now").expect("a file");
    peer.send("PUT", "/f/own/data", &[("Content-Type", "application/octet-stream")], [9, 0]);
    peer.put("/f/list", &json!([3]));
    once(&peer, "/f", &folder);
    let logo = peer.send("GET", "/f/logo", &[], "");
    assert_eq!((peer.value("/f/n"), logo.header("content-type"), logo.body.clone()), (json!([2]), Some("image/png"), vec![3, 0]));
    let edited = peer.send("GET", "/f/deep/s", &[], "");
    assert_eq!((edited.text().as_str(), edited.header("merge-type")), ("a text now", Some("simpleton")));
    assert_eq!((read("own/data"), read("list.json")), (vec![9, 0], b"[\n  3\n]\n".to_vec()));
    fs::write(folder.join("n.json"), "[2").expect("a file");
    let refused = once(&peer, "/f", &folder);
    assert_eq!((&refused[0]["event"], &refused[0]["file"]), (&json!("refused"), &json!("n.json")));
    assert_eq!((peer.value("/f/n"), read("n.json")), (json!([2]), b"[2".to_vec()));
}

#[test]
fn what_happens_to_both_while_nobody_looks_is_merged_or_kept() {
    let peer = Peer::start();
    let folder = folder(&peer);
    for name in ["both", "kept-here", "kept-there", "gone-here", "gone-there", "same"] {
        fs::write(folder.join(name), "one two three").expect("a file");
    }
    fs::write(folder.join("bytes.bin"), [0u8, 1]).expect("a file");
    once(&peer, "/f", &folder);
    let edit = |path: &str, range: &str, content: &str| {
        let range = format!("text {range}");
        assert_eq!(peer.send("PATCH", path, &[("Content-Range", &range)], content).status, 200);
    };
    edit("/f/both", "[0:3]", "ONE");
    fs::write(folder.join("both"), "one two THREE").expect("a file");
    // One side deletes, the other edits: what was edited stays.
    fs::write(folder.join("kept-here"), "edited here").expect("a file");
    peer.send("DELETE", "/f/kept-here", &[], "");
    fs::remove_file(folder.join("kept-there")).expect("a file");
    edit("/f/kept-there", "[0:0]", "edited there ");
    fs::remove_file(folder.join("gone-here")).expect("a file");
    peer.send("DELETE", "/f/gone-there", &[], "");
    edit("/f/same", "[0:3]", "1");
    fs::write(folder.join("same"), "1 two three").expect("a file");
    fs::write(folder.join("bytes.bin"), [0u8, 2]).expect("a file");
    peer.send("PUT", "/f/bytes.bin", &[("Content-Type", "application/octet-stream")], [0, 3]);
    let said = once(&peer, "/f", &folder);
    let read = |name: &str| fs::read(folder.join(name)).ok();
    for (name, content) in
        [("both", "ONE two THREE"), ("kept-here", "edited here"), ("kept-there", "edited there one two three"), ("same", "1 two three")]
    {
        assert_eq!(read(name).as_deref(), Some(content.as_bytes()), "{name}: {said:#?}");
        assert_eq!(text(&peer, &format!("/f/{name}")).as_deref(), Some(content), "{name}: {said:#?}");
    }
    for name in ["gone-here", "gone-there"] {
        assert_eq!((read(name), text(&peer, &format!("/f/{name}"))), (None, None), "{name}");
    }
    // Bytes do not merge: the ones of here have a second name, on both sides.
    assert_eq!((read("bytes.bin"), read("bytes (conflict).bin")), (Some(vec![0, 3]), Some(vec![0, 2])), "{said:#?}");
    assert_eq!(peer.send("GET", "/f/bytes%20(conflict).bin", &[], "").body, [0, 2]);
    assert_eq!(once(&peer, "/f", &folder).len(), 1, "nothing is left to do");
}

#[test]
fn a_save_reaches_the_peer_and_a_write_reaches_the_folder() {
    let peer = Peer::start();
    let folder = folder(&peer);
    let mut kept = Kept::start(&peer, "/f", &folder);
    let second = command(&peer, "/f", &folder).output().expect("the program runs");
    assert_eq!(second.status.code(), Some(1), "one at a time");
    fs::write(folder.join("a.txt"), "written").expect("a file");
    kept.until("the file is there", |_| text(&peer, "/f/a.txt").as_deref() == Some("written"));
    // As vim saves: what it had is moved away, the new one is put in its place, and leftovers lie around for a while.
    fs::write(folder.join("4913"), "").expect("a file");
    fs::write(folder.join(".a.txt.swp"), "vim").expect("a file");
    fs::rename(folder.join("a.txt"), folder.join("a.txt~")).expect("a move");
    fs::write(folder.join("a.txt"), "written again").expect("a file");
    fs::remove_file(folder.join("a.txt~")).expect("a file");
    kept.until("the save is there", |_| text(&peer, "/f/a.txt").as_deref() == Some("written again"));
    assert_eq!(peer.value("/f"), json!({"a.txt": "written again"}), "nothing but that");
    peer.send("PUT", "/f/new/b.txt", &[TEXT], "from the peer");
    kept.until("the write is there", |_| fs::read(folder.join("new/b.txt")).is_ok_and(|bytes| bytes == b"from the peer"));
    peer.put("/f/new/n", &json!({"deep": 1}));
    kept.until("the value is there", |_| fs::read(folder.join("new/n/deep.json")).is_ok_and(|bytes| bytes == b"1\n"));
    // A change inside of a value that is one file.
    peer.put("/f/new/n/deep", &json!([1, {"in": 2}]));
    let holds = |name: &str, wanted: &Value| {
        fs::read(folder.join(name)).is_ok_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value == *wanted))
    };
    kept.until("the list is there", |_| holds("new/n/deep.json", &json!([1, {"in": 2}])));
    assert_eq!(peer.send("PATCH", "/f/new/n/deep", &[("Content-Range", "json [1].in")], "3").status, 200);
    kept.until("what changed in it is there", |_| holds("new/n/deep.json", &json!([1, {"in": 3}])));
    // Renames, deletes, and a folder that goes.
    fs::rename(folder.join("a.txt"), folder.join("c.txt")).expect("a move");
    kept.until("the new name is there", |_| text(&peer, "/f/c.txt").is_some() && text(&peer, "/f/a.txt").is_none());
    peer.send("DELETE", "/f/new", &[], "");
    kept.until("the folder is gone", |_| !folder.join("new").exists());
    fs::remove_file(folder.join("c.txt")).expect("a file");
    kept.until("the text is gone", |_| text(&peer, "/f/c.txt").is_none());
    kept.stop(true);
    assert_eq!(
        fs::read_dir(&folder)
            .expect("a folder")
            .filter(|entry| entry.as_ref().is_ok_and(|e| e.file_name() != ".a.txt.swp" && e.file_name() != "4913"))
            .count(),
        0
    );
}

/// An editor that has a file open writes to what it opened, also after another one was put into its place.
#[test]
fn what_is_written_to_a_file_that_was_just_replaced_is_kept() {
    let peer = Peer::start();
    let folder = folder(&peer);
    fs::write(folder.join("a.txt"), "one").expect("a file");
    let mut kept = Kept::start(&peer, "/f", &folder);
    let mut open = fs::OpenOptions::new().append(true).open(folder.join("a.txt")).expect("a file");
    assert_eq!(peer.send("PATCH", "/f/a.txt", &[("Content-Range", "text [0:3]")], "two").status, 200);
    kept.until("the edit is there", |_| fs::read(folder.join("a.txt")).is_ok_and(|bytes| bytes == b"two"));
    open.write_all(b" late").expect("written");
    kept.until("both are there", |_| fs::read(folder.join("a (conflict).txt")).is_ok_and(|bytes| bytes == b"one late"));
    assert_eq!(fs::read(folder.join("a.txt")).expect("a file"), b"two");
    kept.until("it has a name there too", |_| text(&peer, "/f/a%20(conflict).txt").as_deref() == Some("one late"));
    kept.stop(true);
}

/// On one side a file has the name that a folder has on the other.
#[test]
fn a_file_and_a_folder_of_one_name_do_not_replace_each_other() {
    let peer = Peer::start();
    let folder = folder(&peer);
    peer.put("/f", &json!({"x": {"y": "theirs"}}));
    peer.send("PUT", "/f/d", &[TEXT], "their text");
    fs::write(folder.join("x"), "mine").expect("a file");
    fs::create_dir(folder.join("d")).expect("a folder");
    fs::write(folder.join("d/e"), "mine too").expect("a file");
    let said = once(&peer, "/f", &folder);
    assert_eq!(said.iter().filter(|event| event["event"] == "conflict").count(), 2, "{said:#?}");
    assert_eq!(files(&folder), ["d", "d (conflict)/e", "x (conflict)", "x/y"], "{said:#?}");
    assert_eq!((text(&peer, "/f/d").as_deref(), peer.value("/f/x")), (Some("their text"), json!({"y": "theirs"})));
    let all = json!({"d": "their text", "d (conflict)": {"e": "mine too"}, "x": {"y": "theirs"}, "x (conflict)": "mine"});
    assert_eq!(peer.value("/f"), all);
    // The same while it runs, where what is new here is all that is looked at.
    let mut kept = Kept::start(&peer, "/f", &folder);
    peer.put("/f/late/y", &json!("theirs"));
    kept.until("it is there", |_| folder.join("late/y").exists());
    fs::rename(folder.join("late"), folder.join("moved")).expect("a move");
    fs::write(folder.join("late"), "a file now").expect("a file");
    kept.until("the file is there", |_| text(&peer, "/f/late").as_deref() == Some("a file now"));
    kept.until("the folder is there", |_| text(&peer, "/f/moved/y").as_deref() == Some("theirs"));
    fs::remove_file(folder.join("late")).expect("a file");
    fs::create_dir(folder.join("late")).expect("a folder");
    fs::write(folder.join("late/z"), "a folder now").expect("a file");
    kept.until("the folder is back", |_| text(&peer, "/f/late/z").as_deref() == Some("a folder now"));
    assert!(!kept.heard.iter().any(|event| event["event"] == "conflict"), "{:#?}", kept.heard);
    kept.stop(true);
    // And while it does not.
    fs::remove_dir_all(folder.join("late")).expect("a folder");
    fs::write(folder.join("late"), "again").expect("a file");
    fs::remove_file(folder.join("d")).expect("a file");
    fs::create_dir(folder.join("d")).expect("a folder");
    fs::write(folder.join("d/e"), "new").expect("a file");
    let said = once(&peer, "/f", &folder);
    assert_eq!((text(&peer, "/f/late").as_deref(), peer.value("/f/d")), (Some("again"), json!({"e": "new"})), "{said:#?}");
    // A folder of there that became a text: it has to go here first.
    peer.send("PUT", "/f/d", &[TEXT], "a text");
    once(&peer, "/f", &folder);
    assert_eq!(fs::read(folder.join("d")).expect("a file"), b"a text");
}

/// A small generator of numbers, so that a run can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

/// Puts a word into a file at some place, as one editor or another does.
fn edit_file(dice: &mut Dice, path: &Path, word: &str) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let chars: Vec<char> = text.chars().collect();
    let at = dice.below(chars.len() + 1);
    let new: String = chars[..at].iter().copied().chain(word.chars()).chain(chars[at..].iter().copied()).collect();
    if dice.below(2) == 0 {
        let aside = path.with_extension("tmp");
        fs::write(&aside, new).expect("a file");
        fs::rename(aside, path).expect("a move");
    } else {
        fs::File::create(path).and_then(|mut file| file.write_all(new.as_bytes())).expect("a file");
    }
}

#[test]
fn nothing_that_anybody_types_is_lost() {
    let seed = std::env::var("TIMEBUS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    eprintln!("TIMEBUS_SEED={seed}");
    let mut dice = Dice(seed);
    let peer = Peer::start();
    let folder = folder(&peer);
    let both = |file: usize| {
        let here = fs::read_to_string(folder.join(format!("{file}.txt"))).ok();
        (here, text(&peer, &format!("/f/{file}.txt")))
    };
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut kept = Some(Kept::start(&peer, "/f", &folder));
    let rounds: u32 = if crate::peer::is_full_run() { 40 } else { 8 };
    for round in 0..rounds {
        for step in 0..6 {
            let file = dice.below(3);
            // Each is one character, since others are put between any two.
            let word = char::from_u32(0x4e00 + round * 6 + step).expect("a character").to_string();
            if dice.below(2) == 0 {
                // Whoever saves what he read before the other side's words came takes them out, whatever program keeps
                // the folder. So what he edits is what is there.
                if let Some(kept) = &mut kept {
                    kept.until("both are the same", |_| both(file).0 == both(file).1);
                }
                edit_file(&mut dice, &folder.join(format!("{file}.txt")), &word);
                if let Some(kept) = &mut kept {
                    let path = format!("/f/{file}.txt");
                    kept.until("the save is there", |_| text(&peer, &path).is_some_and(|text| text.contains(&word)));
                }
            } else {
                let at = text(&peer, &format!("/f/{file}.txt")).map_or(0, |text| dice.below(text.chars().count() + 1));
                let range = format!("text [{at}:{at}]");
                let answer = peer.send("PATCH", &format!("/f/{file}.txt"), &[("Content-Range", &range)], &word);
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            words.push((file, word));
        }
        // Now and then the program stops, softly or not, and both sides go on without it.
        match dice.below(4) {
            0 | 1 => {
                if let Some(kept) = kept.take() {
                    kept.stop(dice.below(2) == 0);
                }
            }
            _ => {}
        }
        if kept.is_none() && dice.below(2) == 0 {
            kept = Some(Kept::start(&peer, "/f", &folder));
        }
    }
    let mut kept = kept.unwrap_or_else(|| Kept::start(&peer, "/f", &folder));
    kept.until("both are the same", |_| (0..3).all(|file| both(file).0 == both(file).1));
    for (file, word) in words {
        // Two texts that were begun without knowledge of each other have two names.
        let all: String = files(&folder)
            .iter()
            .filter(|name| name.starts_with(&file.to_string()))
            .map(|name| fs::read_to_string(folder.join(name)).expect("a file"))
            .collect();
        assert_eq!(all.matches(&word).count(), 1, "{word} in {all}");
    }
}

#[test]
fn an_editor_that_stays_open_takes_part() {
    let peer = Peer::start();
    let go = peer.home().beside("go");
    let editor = peer.home().beside("editor");
    let script = format!("printf 'one' > \"$1\"\nwhile [ ! -e '{}' ]; do sleep 0.05; done\nprintf 'one two' > \"$1\"\n", go.display());
    fs::write(&editor, script).expect("a file");
    let mut child = Command::new(PROGRAM)
        .arg("--home")
        .arg(peer.home().folder())
        .args(["--json", "edit", "/doc", "--text"])
        .env("EDITOR", format!("sh '{}'", editor.display()))
        .env_remove("VISUAL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let began = Instant::now();
    while text(&peer, "/doc").as_deref() != Some("one") {
        assert!(began.elapsed() < DEADLINE, "the first save was never sent");
        std::thread::yield_now();
    }
    // Somebody else types meanwhile. The editor does not know of it, and takes nothing back.
    assert_eq!(peer.send("PATCH", "/doc", &[("Content-Range", "text [0:0]")], "zero ").status, 200);
    fs::write(&go, "").expect("a file");
    assert!(wait(&mut child).expect("it ends").success());
    assert_eq!(text(&peer, "/doc").as_deref(), Some("zero one two"));
    let said: Value = serde_json::from_reader(child.stdout.take().expect("a pipe")).expect("JSON");
    assert_eq!((&said["written"], &said["merged"]), (&json!(true), &json!(true)), "{said}");
}
