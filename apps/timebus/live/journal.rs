//! What a live folder remembers: for each file, the version that both sides agreed on last.
//!
//! Before something is sent or put into the folder, that is written down, so that a stop at any moment is not taken for
//! an edit later. The file has a line of JSON for each thing that became known; starting writes it anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What a value is in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Characters, which merge.
    Text,
    /// Any bytes.
    Bytes,
    /// A value that has no file form but JSON: its file is named `….json`, and it is not.
    Json,
}

/// A state that both sides have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agreed {
    pub(crate) version: Vec<String>,
    /// Hash of the file.
    pub(crate) hash: String,
    /// Hash of how the value shows in its folder's JSON, which says whether it changed without asking for it.
    pub(crate) shown: String,
    pub(crate) kind: Kind,
}

/// What is known of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// What both sides agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) agreed: Option<Agreed>,
    /// The name of a version that was about to be sent, in case nobody heard the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sending: Option<String>,
    /// What was about to be put into the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) taking: Option<Agreed>,
    /// The file beside its place that was about to be put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) aside: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    version: u32,
    path: String,
    folder: String,
    /// The session under which edits are sent.
    agent: String,
    seq: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known: Option<Known>,
    seq: u64,
}

/// The memory of a live folder, on disk.
#[derive(Debug)]
pub(crate) struct Journal {
    known: BTreeMap<String, Known>,
    head: Head,
    file: File,
}

impl Journal {
    /// Opens the memory of a path and a folder, for this process alone; `None` if another has it.
    pub(crate) fn open(at: &Path, path: &str, folder: &Path) -> anyhow::Result<Option<Self>> {
        let failed = || format!("could not open {}", at.display());
        if let Some(above) = at.parent() {
            std::fs::create_dir_all(above).with_context(failed)?;
        }
        // The lock is on a file of its own, since the journal is replaced.
        let lock = File::options().create(true).truncate(false).write(true).open(at.with_extension("lock")).with_context(failed)?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let (head, known) = match File::open(at) {
            Ok(file) => read(file).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error).with_context(failed),
        };
        let folder = folder.display().to_string();
        let head = head.filter(|head| head.path == path && head.folder == folder);
        let known = if head.is_some() { known } else { BTreeMap::new() };
        let head = head.unwrap_or_else(|| {
            let agent = format!("folder{}", timebus_identity::z32::encode(&timebus_identity::random_bytes::<8>()));
            Head { version: 1, path: path.to_owned(), folder, agent, seq: 0 }
        });
        let aside = at.with_extension("new");
        let mut file = File::options().create(true).truncate(true).write(true).open(&aside).with_context(failed)?;
        let mut text = serde_json::to_string(&head)? + "\n";
        for (name, known) in &known {
            text += &serde_json::to_string(&Line { file: name.clone(), known: Some(known.clone()), seq: head.seq })?;
            text.push('\n');
        }
        file.write_all(text.as_bytes()).with_context(failed)?;
        file.sync_all().with_context(failed)?;
        std::fs::rename(&aside, at).with_context(failed)?;
        // The lock lives as long as the process does.
        std::mem::forget(lock);
        Ok(Some(Self { known, head, file }))
    }

    /// The files that something is known of.
    pub(crate) fn files(&self) -> impl Iterator<Item = &String> {
        self.known.keys()
    }

    pub(crate) fn get(&self, file: &str) -> Known {
        self.known.get(file).cloned().unwrap_or_default()
    }

    /// Remembers something of a file; on disk when this returns.
    pub(crate) fn set(&mut self, file: &str, known: Known) -> anyhow::Result<()> {
        let known = (known != Known::default()).then_some(known);
        if self.known.get(file) == known.as_ref() {
            return Ok(());
        }
        let line = Line { file: file.to_owned(), known: known.clone(), seq: self.head.seq };
        let text = serde_json::to_string(&line)? + "\n";
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()).context("could not remember what was synced")?;
        match known {
            Some(known) => drop(self.known.insert(file.to_owned(), known)),
            None => drop(self.known.remove(file)),
        }
        Ok(())
    }

    /// A name for a new version which has at most so many events: the session goes on counting behind them.
    pub(crate) fn label(&mut self, events_max: u64) -> String {
        self.head.seq += events_max.max(1);
        format!("{}-{}", self.head.agent, self.head.seq)
    }
}

/// Reads what was remembered; a last line that is torn was not acted upon.
fn read(file: File) -> Option<(Option<Head>, BTreeMap<String, Known>)> {
    let mut lines = BufReader::new(file).lines();
    let mut head: Head = serde_json::from_str(&lines.next()?.ok()?).ok().filter(|head: &Head| head.version == 1)?;
    let mut known = BTreeMap::new();
    for line in lines {
        let Some(line) = line.ok().and_then(|line| serde_json::from_str::<Line>(&line).ok()) else { break };
        head.seq = head.seq.max(line.seq);
        match line.known {
            Some(entry) => drop(known.insert(line.file, entry)),
            None => drop(known.remove(&line.file)),
        }
    }
    Some((Some(head), known))
}

/// Where the memory of a path and a folder is.
pub(crate) fn place(home: &Path, path: &str, folder: &Path) -> PathBuf {
    let hash = blake3::hash(format!("{path}\n{}", folder.display()).as_bytes());
    home.join("folders").join(format!("{}.jsonl", &hash.to_hex()[..24]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_there_again_also_behind_a_torn_line() {
        let temp = tempfile::tempdir().expect("a folder");
        let at = place(temp.path(), "/notes", Path::new("/x"));
        let agreed = Agreed { version: vec!["a-1".into()], hash: "h".into(), shown: "s".into(), kind: Kind::Text };
        let known = Known { agreed: Some(agreed), sending: Some("b-1".into()), ..Known::default() };
        let label = {
            let mut journal = Journal::open(&at, "/notes", Path::new("/x")).expect("a journal").expect("nobody has it");
            journal.set("gone", known.clone()).expect("room");
            journal.set("here", known.clone()).expect("room");
            journal.set("gone", Known::default()).expect("room");
            let label = journal.label(7);
            journal.set("there", Known { sending: Some(label.clone()), ..Known::default() }).expect("room");
            assert!(Journal::open(&at, "/notes", Path::new("/x")).expect("a journal").is_none(), "one process at a time");
            label
        };
        let mut file = File::options().append(true).open(&at).expect("the journal");
        file.write_all(b"{\"file\":\"half").expect("room");
        let (head, read) = read(File::open(&at).expect("the journal")).expect("a journal");
        assert_eq!(read.keys().collect::<Vec<_>>(), ["here", "there"]);
        assert_eq!(read["here"], known);
        let head = head.expect("a head");
        assert_eq!(label, format!("{}-{}", head.agent, head.seq));
    }
}
