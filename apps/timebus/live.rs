//! A folder and a subtree that are kept the same, so that any editor is a collaborator.
//!
//! Each file is compared with what both sides agreed on last ([`journal`]), and `decide` says what to do. A text that
//! was edited on both sides is sent as written upon the version that was agreed on, and the peer merges it; of other files
//! the one here is set aside under a second name. [`disk`] puts files there in one step and only in place of what was
//! read, [`remote`] speaks with the peer.
//!
//! Deliberately not: hidden files, links, empty folders, and what editors leave beside a file for a while.

pub(crate) mod decide;
pub(crate) mod disk;
pub(crate) mod journal;
pub(crate) mod remote;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value as Event, json};

use crate::client::Client;
use crate::failure::{Failure, UNREACHABLE};
use crate::folder::through_no_link;
use crate::media;
use crate::output::Output;
use crate::target::Target;
use decide::{Here, Step, There, decide};
use disk::{Placed, Prepared, Read, Recovered, Stamp};
use journal::{Agreed, Journal, Kind, Known};
use remote::{Leaf, Value};

/// How long a replaced file is kept, in case an editor that had opened it before writes to it still.
const KEPT: Duration = Duration::from_secs(2);
/// How often one file is tried again in a row when somebody is faster.
const TRIES_MAX: usize = 8;
/// How long to wait for somebody who writes a file: all tries together are longer than a file has to rest.
const BUSY: Duration = Duration::from_millis(25);

/// A file that was replaced.
#[derive(Debug)]
struct Replaced {
    aside: PathBuf,
    stamp: Stamp,
    file: String,
    since: Instant,
}

/// A folder and a subtree.
#[derive(Debug)]
pub(crate) struct Live {
    root: PathBuf,
    target: Target,
    journal: Journal,
    out: Output,
    /// What the folder held when it was looked at last, as far as it is complete.
    files: BTreeMap<String, Stamp>,
    /// Files that looked different at the last look, and may still be being written.
    unsettled: BTreeMap<String, Option<Stamp>>,
    /// Values as the peer showed them last.
    leaves: BTreeMap<String, Leaf>,
    /// Files that the peer refused, as they were then.
    refused: HashMap<String, String>,
    replaced: Vec<Replaced>,
    skipped: BTreeSet<String>,
}

/// What was found of values above and below a place.
enum Cleared {
    /// None.
    Free,
    /// Something was done about them: look again.
    Changed,
    /// There are some, and they stay.
    Taken,
}

/// What came of one try.
enum Tried {
    Done,
    /// Somebody was faster: look again.
    Again,
}

impl Live {
    pub(crate) fn new(root: PathBuf, target: Target, journal: Journal, out: Output) -> Self {
        Self {
            root,
            target,
            journal,
            out,
            files: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            leaves: BTreeMap::new(),
            refused: HashMap::new(),
            replaced: Vec::new(),
            skipped: BTreeSet::new(),
        }
    }

    pub(crate) fn tell(&self, event: &Event, human: impl FnOnce() -> String) {
        // A reader who has gone away is noticed by whoever runs this.
        let _ = self.out.result(event, human);
        let _ = self.out.flush();
    }

    fn skip(&mut self, what: Vec<String>) {
        for what in what {
            if self.skipped.insert(what.clone()) {
                self.tell(&json!({"event": "skipped", "what": what}), || format!("skipped    {what}"));
            }
        }
    }

    /// Brings both sides together, whatever happened while nobody looked. Answers how many files there are.
    pub(crate) async fn settle(&mut self, client: &mut Client) -> anyhow::Result<usize> {
        let mut skipped = Vec::new();
        self.leaves = remote::list(client, &self.target, &[], &mut skipped).await?;
        let scan = disk::scan(&self.root)?;
        // Nobody has seen yet whether they are complete.
        self.files.clear();
        self.unsettled.clear();
        skipped.extend(scan.skipped);
        self.skip(skipped);
        let files: BTreeSet<String> = self.journal.files().chain(scan.files.keys()).chain(self.leaves.keys()).cloned().collect();
        // What is below a place comes before what is at it: a folder has to be empty before a file can stand there.
        for file in files.iter().rev() {
            let agreed = self.journal.get(file);
            let is_asked = agreed.sending.is_some() || agreed.taking.is_some();
            let agreed = agreed.agreed.as_ref();
            let is_same = agreed.is_some_and(|agreed| self.leaves.get(file).is_some_and(|leaf| leaf.shown == agreed.shown));
            if is_same
                && !is_asked
                && let Some(Ok(Some(read))) = scan.files.contains_key(file).then(|| disk::read(&self.root.join(file), None))
                && agreed.is_some_and(|agreed| agreed.hash == remote::hash(&read.bytes))
            {
                continue;
            }
            self.sync(client, file).await?;
            if self.unsettled.contains_key(file) {
                self.skip(vec![format!("{file} (somebody is writing it)")]);
            }
        }
        // What was set aside is a file that the peer lacks.
        let now = disk::scan(&self.root)?.files;
        for file in now.keys().filter(|file| !files.contains(*file)) {
            self.sync(client, file).await?;
        }
        for (file, stamp) in scan.files {
            self.files.entry(file).or_insert(stamp);
        }
        Ok(now.len())
    }

    /// Whether something is being written, so that the folder should be looked at soon.
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty() || !self.replaced.is_empty()
    }

    /// Looks at the folder.
    pub(crate) async fn look(&mut self, client: &mut Client) -> anyhow::Result<()> {
        self.recheck_replaced()?;
        let scan = disk::scan(&self.root)?;
        self.skip(scan.skipped);
        let names: BTreeSet<&String> = scan.files.keys().chain(self.files.keys()).chain(self.unsettled.keys()).collect();
        let mut settled = Vec::new();
        let mut unsettled = BTreeMap::new();
        for file in names {
            let now = scan.files.get(file).copied();
            if now == self.files.get(file).copied() && !self.unsettled.contains_key(file) {
                continue;
            }
            // Only what looks the same twice is finished.
            match self.unsettled.get(file) {
                Some(before) if *before == now => settled.push(file.clone()),
                _ => drop(unsettled.insert(file.clone(), now)),
            }
        }
        self.unsettled = unsettled;
        for file in &settled {
            match scan.files.get(file) {
                Some(stamp) => drop(self.files.insert(file.clone(), *stamp)),
                None => drop(self.files.remove(file)),
            }
        }
        for file in settled {
            self.sync(client, &file).await?;
        }
        Ok(())
    }

    /// Looks at what the peer has at and below a place.
    pub(crate) async fn hear(&mut self, client: &mut Client, names: &[String]) -> anyhow::Result<()> {
        // A change inside of a value that is one file concerns that file.
        let leaf = self.leaves.values().find(|leaf| names.starts_with(&leaf.names)).map(|leaf| leaf.names.clone());
        let names = leaf.as_deref().unwrap_or(names);
        let mut skipped = Vec::new();
        let found = remote::list(client, &self.target, names, &mut skipped).await?;
        self.skip(skipped);
        let mut files: BTreeSet<String> = found.keys().cloned().collect();
        let below = |leaf: &Leaf| leaf.names.starts_with(names);
        files.extend(self.leaves.iter().filter(|(_, leaf)| below(leaf)).map(|(file, _)| file.clone()));
        self.leaves.retain(|_, leaf| !leaf.names.starts_with(names));
        self.leaves.extend(found);
        for file in files.into_iter().rev() {
            let agreed = self.journal.get(&file).agreed;
            if agreed.as_ref().map(|agreed| &agreed.shown) != self.leaves.get(&file).map(|leaf| &leaf.shown) {
                self.sync(client, &file).await?;
            }
        }
        Ok(())
    }

    /// Brings one file and its value together.
    async fn sync(&mut self, client: &mut Client, file: &str) -> anyhow::Result<()> {
        for _ in 0..TRIES_MAX {
            match self.try_sync(client, file).await {
                Ok(Tried::Done) => return Ok(()),
                Ok(Tried::Again) => {}
                Err(error) if is_busy(&error) => tokio::time::sleep(BUSY).await,
                Err(error) => return self.refuse(file, error),
            }
        }
        // Somebody writes all the time; the next look goes on.
        self.unsettled.insert(file.to_owned(), None);
        Ok(())
    }

    /// Goes on without a file that cannot be synced; what concerns all of them ends it.
    fn refuse(&mut self, file: &str, error: anyhow::Error) -> anyhow::Result<()> {
        let failure = Failure::of(&error);
        let is_of_file = error.downcast_ref::<io::Error>().is_some() || failure.status.is_some_and(|status| status < 500 && status != 401);
        if failure.code == UNREACHABLE || !is_of_file {
            return Err(error);
        }
        let reason = failure.detail.clone().unwrap_or_else(|| failure.title.clone());
        let event = json!({"event": "refused", "file": file, "reason": reason, "fix": failure.fix});
        self.tell(&event, || format!("refused    {file}  ({reason})"));
        Ok(())
    }

    async fn try_sync(&mut self, client: &mut Client, file: &str) -> anyhow::Result<Tried> {
        let path = self.root.join(file);
        through_no_link(&self.root, &path)?;
        let known = self.recall(client, file).await?;
        let here = disk::read(&path, self.files.get(file).copied())?;
        if here.is_none() && self.files.contains_key(file) {
            // Some editors move a file away before they write the new one: that it is gone shows at the next look.
            return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
        }
        let hash = here.as_ref().map(|here| remote::hash(&here.bytes));
        if hash.is_some() && self.refused.get(file) == hash.as_ref() {
            return Ok(Tried::Done);
        }
        let kind = self.kind_of(file, known.agreed.as_ref());
        let names = remote::names_of(file, kind);
        let there = remote::read(client, &self.target, &names, kind == Kind::Json, None).await?;
        let is_text = here.as_ref().is_some_and(|here| kind != Kind::Json && media::is_text(&here.bytes));
        let step = decide(
            known.agreed.as_ref(),
            hash.as_deref().map(|hash| Here { hash, is_text }),
            there.as_ref().map(|there| There { version: &there.agreed.version, shown: &there.agreed.shown, kind: there.agreed.kind }),
            here.as_ref().zip(there.as_ref()).is_some_and(|(here, there)| is_same(&here.bytes, there)),
        );
        let agreed = known.agreed;
        let step = match step {
            Step::SendNew => match self.clear(client, &names).await? {
                Cleared::Free => step,
                Cleared::Changed => return Ok(Tried::Again),
                Cleared::Taken => Step::SetAside,
            },
            step => step,
        };
        match (step, here, there) {
            (Step::Rest, ..) => Ok(Tried::Done),
            (Step::Agree, Some(here), Some(there)) => {
                self.files.insert(file.to_owned(), here.stamp);
                self.agree(file, Agreed { hash: remote::hash(&here.bytes), ..there.agreed })
            }
            (Step::Forget, ..) => {
                self.files.remove(file);
                self.journal.set(file, Known::default())?;
                Ok(Tried::Done)
            }
            (Step::Send, Some(here), there) => self.send(client, file, (kind, is_text), here, agreed, there).await,
            (Step::SendNew, Some(here), there) => self.send(client, file, (kind, is_text), here, None, there).await,
            (Step::Take, here, Some(there)) => self.take(file, here, there, agreed),
            (Step::Remove, Some(here), _) => {
                if !disk::remove(&path, here.stamp)? {
                    return Ok(Tried::Again);
                }
                disk::remove_empty(&self.root, path.parent().unwrap_or(&self.root));
                self.files.remove(file);
                self.journal.set(file, Known::default())?;
                self.tell(&json!({"event": "removed", "file": file}), || format!("removed    {file}"));
                Ok(Tried::Done)
            }
            (Step::Delete, _, Some(_)) => {
                let parents = agreed.map(|agreed| agreed.version).unwrap_or_default();
                remote::delete(client, &self.target, &names, &parents).await?;
                self.leaves.remove(file);
                self.journal.set(file, Known::default())?;
                self.tell(&json!({"event": "deleted", "file": file}), || format!("deleted    {file}"));
                // What others did to it meanwhile survives, and comes back.
                Ok(Tried::Again)
            }
            (Step::SetAside, Some(here), _) => {
                let Some(copy) = disk::set_aside(&path, here.stamp)? else { return Ok(Tried::Again) };
                self.files.remove(file);
                self.journal.set(file, Known::default())?;
                self.tell_aside(file, &copy);
                Ok(Tried::Again)
            }
            // No other step is decided for these.
            _ => Ok(Tried::Again),
        }
    }

    /// Looks whether the peer has values above or below a place, which writing there would replace. What was deleted here is
    /// deleted there first; a folder here gives way to a value that is above.
    async fn clear(&mut self, client: &mut Client, names: &[String]) -> anyhow::Result<Cleared> {
        let is_other = |leaf: &Leaf| leaf.names != names && (leaf.names.starts_with(names) || names.starts_with(&leaf.names));
        let others: Vec<(String, Leaf)> =
            self.leaves.iter().filter(|(_, leaf)| is_other(leaf)).map(|(file, leaf)| (file.clone(), leaf.clone())).collect();
        let is_deleted = |file: &str, leaf: &Leaf| {
            self.journal.get(file).agreed.is_some_and(|agreed| agreed.shown == leaf.shown) && !self.root.join(file).is_file()
        };
        let deleted: Vec<String> = others.iter().filter(|(file, leaf)| is_deleted(file, leaf)).map(|(file, _)| file.clone()).collect();
        if !deleted.is_empty() {
            for file in deleted {
                self.files.remove(&file);
                Box::pin(self.sync(client, &file)).await?;
            }
            return Ok(Cleared::Changed);
        }
        let Some((_, other)) = others.first() else { return Ok(Cleared::Free) };
        if other.names.len() > names.len() {
            return Ok(Cleared::Taken);
        }
        let folder = self.root.join(other.names.join("/"));
        let copy = disk::copy_name(&folder);
        std::fs::rename(&folder, &copy)?;
        self.tell_aside(&other.names.join("/"), &copy);
        self.files.retain(|file, _| !remote::names_of(file, Kind::Text).starts_with(&other.names));
        Ok(Cleared::Changed)
    }

    fn tell_aside(&self, file: &str, copy: &Path) {
        let copy = copy.strip_prefix(&self.root).unwrap_or(copy).display().to_string();
        self.tell(&json!({"event": "conflict", "file": file, "copy": copy}), || {
            format!("conflict   {file}  (both sides changed it; the one here is now {copy})")
        });
    }

    /// What a file's value is, before it was looked at.
    fn kind_of(&self, file: &str, agreed: Option<&Agreed>) -> Kind {
        match (self.leaves.get(file), agreed) {
            (Some(leaf), _) if leaf.is_json => Kind::Json,
            (Some(_), Some(agreed)) if agreed.kind != Kind::Json => agreed.kind,
            (Some(_), _) => Kind::Text,
            (None, Some(agreed)) => agreed.kind,
            (None, None) => Kind::Text,
        }
    }

    /// What is known of a file, after finding out what became of something that was about to be done.
    async fn recall(&mut self, client: &mut Client, file: &str) -> anyhow::Result<Known> {
        let mut known = self.journal.get(file);
        let (taking, aside) = (known.taking.take(), known.aside.take());
        if let (Some(taking), Some(aside)) = (taking, &aside) {
            let old = known.agreed.as_ref().map(|agreed| agreed.hash.as_str());
            if let Recovered::Placed(copy) = disk::recover(&self.root.join(file), aside, &taking.hash, old)? {
                known.agreed = Some(taking);
                if let Some(copy) = copy {
                    self.tell_late(file, &copy);
                }
            }
        }
        if let Some(label) = known.sending.take() {
            let kind = self.kind_of(file, known.agreed.as_ref());
            let names = remote::names_of(file, kind);
            match remote::read(client, &self.target, &names, kind == Kind::Json, Some(&label)).await {
                Ok(Some(sent)) => known.agreed = Some(Agreed { version: vec![label], ..sent.agreed }),
                Ok(None) => {}
                // It never arrived.
                Err(error) if Failure::of(&error).status == Some(309) => {}
                Err(error) => return Err(error),
            }
        }
        self.journal.set(file, known.clone())?;
        if let Some(aside) = aside {
            let _ = std::fs::remove_file(self.root.join(file).with_file_name(aside));
        }
        Ok(known)
    }

    fn agree(&mut self, file: &str, agreed: Agreed) -> anyhow::Result<Tried> {
        self.journal.set(file, Known { agreed: Some(agreed), ..Known::default() })?;
        Ok(Tried::Done)
    }

    /// Sends a file, upon what was agreed, and takes what came of it.
    async fn send(
        &mut self,
        client: &mut Client,
        file: &str,
        (kind, is_text): (Kind, bool),
        here: Read,
        agreed: Option<Agreed>,
        there: Option<Value>,
    ) -> anyhow::Result<Tried> {
        let names = remote::names_of(file, kind);
        let is_json = kind == Kind::Json;
        if is_json && crate::value::parse(&here.bytes).is_err() {
            self.refused.insert(file.to_owned(), remote::hash(&here.bytes));
            return Err(Failure { status: Some(400), ..Failure::refused("this is not JSON, so it is not sent") }.into());
        }
        // What stays of its kind keeps its media type.
        let kept = there.as_ref().filter(|there| match there.agreed.kind {
            Kind::Text => is_text && there.mime.starts_with("text/"),
            Kind::Bytes => !is_text,
            Kind::Json => false,
        });
        let mime = match kept {
            Some(there) => there.mime.clone(),
            None if is_json => crate::client::JSON.to_owned(),
            None => remote::mime_of(file, is_text).to_owned(),
        };
        // Every character of both may be taken out or put in.
        let events = here.bytes.len() as u64 + there.as_ref().map_or(0, |there| there.content.len() as u64) + 1;
        let label = self.journal.label(events);
        self.journal.set(file, Known { agreed: agreed.clone(), sending: Some(label.clone()), ..Known::default() })?;
        let parents = agreed.as_ref().map(|agreed| agreed.version.as_slice());
        let sent = remote::send(client, &self.target, &names, (&mime, here.bytes.clone()), parents, &label).await;
        if let Err(error) = sent {
            // Without an answer it may have arrived all the same: the next try asks.
            let failure = Failure::of(&error);
            if failure.status == Some(309) {
                // The version is not known any more: as if nothing had ever been agreed on.
                self.journal.set(file, Known::default())?;
                return Ok(Tried::Again);
            }
            if failure.status.is_some() {
                self.refused.insert(file.to_owned(), remote::hash(&here.bytes));
            }
            return Err(error);
        }
        self.refused.remove(file);
        self.files.insert(file.to_owned(), here.stamp);
        let Some(now) = remote::read(client, &self.target, &names, is_json, None).await? else {
            // Somebody deleted it just now; the next try sees that it was edited here.
            self.journal.set(file, Known::default())?;
            return Ok(Tried::Again);
        };
        self.leaves.insert(file.to_owned(), Leaf { names, is_json, shown: now.agreed.shown.clone() });
        let is_merged = !is_same(&here.bytes, &now);
        let event = json!({"event": "sent", "file": file, "version": now.agreed.version, "merged": is_merged});
        self.tell(&event, || format!("{}  {file}", if is_merged { "merged   " } else { "sent     " }));
        if is_merged {
            // What is here is the version that was sent, whatever the answer is.
            let sent = Agreed { version: vec![label], hash: remote::hash(&here.bytes), ..now.agreed.clone() };
            self.journal.set(file, Known { agreed: Some(sent.clone()), ..Known::default() })?;
            return self.take(file, Some(here), now, Some(sent));
        }
        self.agree(file, Agreed { hash: remote::hash(&here.bytes), ..now.agreed })
    }

    /// Puts a value into the folder.
    fn take(&mut self, file: &str, here: Option<Read>, there: Value, agreed: Option<Agreed>) -> anyhow::Result<Tried> {
        self.make_way(file)?;
        let mut prepared = Prepared::write(&self.root.join(file), &there.content)?;
        let taking = Some(there.agreed.clone());
        self.journal.set(file, Known { agreed: agreed.clone(), sending: None, taking, aside: prepared.name() })?;
        let placed = prepared.place(here.as_ref().map(|here| here.stamp));
        let Ok(Placed::Done(aside)) = placed else {
            // What lies beside the place goes last, since it is what says that nothing was put there.
            self.journal.set(file, Known { agreed, ..Known::default() })?;
            drop(prepared);
            return Ok(placed.map(|_| Tried::Again)?);
        };
        // Not what is there now: that may have been saved since.
        self.files.insert(file.to_owned(), prepared.stamp);
        if let (Some(aside), Some(here)) = (aside, here) {
            self.replaced.push(Replaced { aside, stamp: here.stamp, file: file.to_owned(), since: Instant::now() });
        }
        self.tell(&json!({"event": "taken", "file": file, "version": there.agreed.version}), || format!("taken      {file}"));
        self.agree(file, there.agreed)
    }

    /// Sets files aside that stand where a folder has to be.
    fn make_way(&mut self, file: &str) -> anyhow::Result<()> {
        for (at, _) in file.match_indices('/') {
            let path = self.root.join(&file[..at]);
            if let Some(stamp) = Stamp::at(&path)
                && let Some(copy) = disk::set_aside(&path, stamp)?
            {
                self.files.remove(&file[..at]);
                self.tell_aside(&file[..at], &copy);
            }
        }
        Ok(())
    }

    /// Looks at files that were replaced: what was written to them since is kept under another name.
    fn recheck_replaced(&mut self) -> anyhow::Result<()> {
        let (due, waiting) = std::mem::take(&mut self.replaced).into_iter().partition(|replaced| replaced.since.elapsed() >= KEPT);
        self.replaced = waiting;
        let due: Vec<Replaced> = due;
        for replaced in due {
            self.let_go(replaced)?;
        }
        Ok(())
    }

    fn let_go(&self, replaced: Replaced) -> anyhow::Result<()> {
        if Stamp::at(&replaced.aside).is_none_or(|stamp| stamp == replaced.stamp) {
            let _ = std::fs::remove_file(&replaced.aside);
            // Whatever was deleted there meanwhile left its folder behind because of this.
            disk::remove_empty(&self.root, replaced.aside.parent().unwrap_or(&self.root));
            return Ok(());
        }
        let copy = disk::copy_name(&self.root.join(&replaced.file));
        std::fs::rename(&replaced.aside, &copy)?;
        self.tell_late(&replaced.file, &copy);
        Ok(())
    }

    fn tell_late(&self, file: &str, copy: &Path) {
        let copy = copy.strip_prefix(&self.root).unwrap_or(copy).display().to_string();
        self.tell(&json!({"event": "conflict", "file": file, "copy": copy}), || {
            format!("conflict   {file}  (an editor wrote to it while it was replaced; what it wrote is in {copy})")
        });
    }

    /// Ends: nothing temporary is left.
    pub(crate) fn finish(&mut self) {
        for replaced in std::mem::take(&mut self.replaced) {
            let _ = self.let_go(replaced);
        }
    }
}

/// Whether a file holds what a value is: JSON may be laid out in many ways.
fn is_same(here: &[u8], there: &Value) -> bool {
    let parsed = |bytes: &[u8]| crate::value::parse(bytes).ok();
    here == there.content || there.agreed.kind == Kind::Json && parsed(here).is_some_and(|here| Some(here) == parsed(&there.content))
}

/// Whether somebody was writing the file just then.
fn is_busy(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// The names below `target` that an event is about; empty for all of it.
pub(crate) fn names_below(target: &Target, path: &str) -> Vec<String> {
    let below = path.strip_prefix(target.in_space().trim_end_matches('/')).unwrap_or_default();
    below.split('/').filter(|name| !name.is_empty()).map(|name| name.strip_prefix('@').unwrap_or(name).to_owned()).collect()
}

/// The folder as it is named in what is remembered.
pub(crate) fn canonical(folder: &Path) -> anyhow::Result<PathBuf> {
    use anyhow::Context as _;
    std::fs::create_dir_all(folder).with_context(|| format!("could not make the folder {}", folder.display()))?;
    let path = std::fs::canonicalize(folder).with_context(|| format!("could not open {}", folder.display()))?;
    if !path.is_dir() {
        return Err(Failure::usage(format!("{} is not a folder", folder.display())).into());
    }
    Ok(path)
}
