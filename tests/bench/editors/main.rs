//! Recorded editing sessions in automerge, loro and yrs: what replaying, writing and loading them takes, and what a
//! process takes that holds one.
//!
//! ```text
//! other-editors automerge|loro|yrs TRACE.json.gz
//! ```
//!
//! Prints a line of JSON. Nothing is signed, and nothing goes to a disk.

use std::collections::HashMap;
use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use serde_json::Value;

type Anything<T> = Result<T, Box<dyn Error>>;

/// What one agent did in one go: on top of what, and position, deletion and insertion of each edit.
struct Txn {
    agent: usize,
    parents: Vec<usize>,
    edits: Vec<(usize, usize, String)>,
}

fn read(file: &str) -> Anything<(Vec<Txn>, String)> {
    let trace: Value = serde_json::from_reader(flate2::read::GzDecoder::new(std::fs::File::open(file)?))?;
    let number = |value: &Value| value.as_u64().unwrap_or(0) as usize;
    let is_concurrent = trace["kind"] == "concurrent";
    let txns = trace["txns"].as_array().ok_or("no transactions")?;
    let txns = txns.iter().enumerate().map(|(at, txn)| {
        let edits = txn["patches"].as_array().map(Vec::as_slice).unwrap_or_default();
        let edits = edits.iter().map(|edit| (number(&edit[0]), number(&edit[1]), edit[2].as_str().unwrap_or_default().to_owned())).collect();
        let parents = match txn["parents"].as_array() {
            Some(parents) if is_concurrent => parents.iter().map(number).collect(),
            _ => at.checked_sub(1).into_iter().collect(),
        };
        Txn { agent: number(&txn["agent"]), parents, edits }
    });
    Ok((txns.collect(), trace["endContent"].as_str().ok_or("no text")?.to_owned()))
}

/// A document that one agent edits.
trait Document: Sized {
    fn new(agent: usize) -> Anything<Self>;
    fn edit(&mut self, pos: usize, del: usize, ins: &str) -> Anything<()>;
    /// Ends a transaction. Answers what others are sent of it.
    fn commit(&mut self) -> Anything<Vec<u8>>;
    /// Takes what was sent.
    fn take(&mut self, update: &[u8]) -> Anything<()>;
    fn text(&self) -> Anything<String>;
    fn save(&mut self) -> Anything<Vec<u8>>;
    fn load(bytes: &[u8]) -> Anything<Self>;
}

struct Automerge(automerge::AutoCommit, automerge::ObjId);

impl Document for Automerge {
    fn new(agent: usize) -> Anything<Self> {
        use automerge::transaction::Transactable as _;
        // The text is made by nobody of them, so that it is the same one.
        let mut begun = automerge::AutoCommit::new().with_actor(automerge::ActorId::from([255u8; 16]));
        let text = begun.put_object(automerge::ROOT, "text", automerge::ObjType::Text)?;
        begun.commit_with(automerge::transaction::CommitOptions::default().with_time(0));
        Ok(Self(begun.with_actor(automerge::ActorId::from([agent as u8; 16])), text))
    }

    fn edit(&mut self, pos: usize, del: usize, ins: &str) -> Anything<()> {
        use automerge::transaction::Transactable as _;
        Ok(self.0.splice_text(&self.1, pos, del as isize, ins)?)
    }

    fn commit(&mut self) -> Anything<Vec<u8>> {
        self.0.commit();
        Ok(self.0.get_last_local_change().ok_or("no change")?.raw_bytes().to_vec())
    }

    fn take(&mut self, update: &[u8]) -> Anything<()> {
        self.0.load_incremental(update)?;
        Ok(())
    }

    fn text(&self) -> Anything<String> {
        use automerge::ReadDoc as _;
        Ok(self.0.text(&self.1)?)
    }

    fn save(&mut self) -> Anything<Vec<u8>> {
        Ok(self.0.save())
    }

    fn load(bytes: &[u8]) -> Anything<Self> {
        use automerge::ReadDoc as _;
        let loaded = automerge::AutoCommit::load(bytes)?;
        let (_, text) = loaded.get(automerge::ROOT, "text")?.ok_or("no text")?;
        Ok(Self(loaded, text))
    }
}

struct Loro(loro::LoroDoc, loro::LoroText, loro::VersionVector);

impl Document for Loro {
    fn new(agent: usize) -> Anything<Self> {
        let document = loro::LoroDoc::new();
        document.set_peer_id(agent as u64 + 1)?;
        let text = document.get_text("text");
        Ok(Self(document, text, loro::VersionVector::default()))
    }

    fn edit(&mut self, pos: usize, del: usize, ins: &str) -> Anything<()> {
        if del > 0 {
            self.1.delete(pos, del)?;
        }
        if !ins.is_empty() {
            self.1.insert(pos, ins)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Anything<Vec<u8>> {
        self.0.commit();
        let update = self.0.export(loro::ExportMode::updates(&self.2))?;
        self.2 = self.0.oplog_vv();
        Ok(update)
    }

    fn take(&mut self, update: &[u8]) -> Anything<()> {
        self.0.import(update)?;
        self.2 = self.0.oplog_vv();
        Ok(())
    }

    fn text(&self) -> Anything<String> {
        Ok(self.1.to_string())
    }

    fn save(&mut self) -> Anything<Vec<u8>> {
        Ok(self.0.export(loro::ExportMode::Snapshot)?)
    }

    fn load(bytes: &[u8]) -> Anything<Self> {
        let document = loro::LoroDoc::new();
        document.import(bytes)?;
        let text = document.get_text("text");
        Ok(Self(document, text, loro::VersionVector::default()))
    }
}

struct Yrs(yrs::Doc, yrs::TextRef, yrs::StateVector);

impl Document for Yrs {
    fn new(agent: usize) -> Anything<Self> {
        let options = yrs::Options { client_id: yrs::block::ClientID::new(agent as u64 + 1), offset_kind: yrs::OffsetKind::Bytes, ..Default::default() };
        let document = yrs::Doc::with_options(options);
        let text = document.get_or_insert_text("text");
        Ok(Self(document, text, yrs::StateVector::default()))
    }

    fn edit(&mut self, pos: usize, del: usize, ins: &str) -> Anything<()> {
        use yrs::{GetString as _, Text as _, Transact as _};
        let mut txn = self.0.transact_mut();
        // Its positions are bytes or UTF-16; these sessions are ASCII but for some characters.
        let (mut start, mut end) = (pos, pos + del);
        if self.1.len(&txn) as usize != start.max(end) && !self.1.get_string(&txn).is_ascii() {
            let text = self.1.get_string(&txn);
            let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
            (start, end) = (byte(pos), byte(pos + del));
        }
        if end > start {
            self.1.remove_range(&mut txn, start as u32, (end - start) as u32);
        }
        if !ins.is_empty() {
            self.1.insert(&mut txn, start as u32, ins);
        }
        Ok(())
    }

    fn commit(&mut self) -> Anything<Vec<u8>> {
        use yrs::{ReadTxn as _, Transact as _};
        let txn = self.0.transact();
        let update = txn.encode_diff_v1(&self.2);
        self.2 = txn.state_vector();
        Ok(update)
    }

    fn take(&mut self, update: &[u8]) -> Anything<()> {
        use yrs::updates::decoder::Decode as _;
        use yrs::{ReadTxn as _, Transact as _};
        self.0.transact_mut().apply_update(yrs::Update::decode_v1(update)?)?;
        self.2 = self.0.transact().state_vector();
        Ok(())
    }

    fn text(&self) -> Anything<String> {
        use yrs::{GetString as _, Transact as _};
        Ok(self.1.get_string(&self.0.transact()))
    }

    fn save(&mut self) -> Anything<Vec<u8>> {
        use yrs::{ReadTxn as _, Transact as _};
        Ok(self.0.transact().encode_state_as_update_v2(&yrs::StateVector::default()))
    }

    fn load(bytes: &[u8]) -> Anything<Self> {
        use yrs::Transact as _;
        use yrs::updates::decoder::Decode as _;
        let document = yrs::Doc::new();
        let text = document.get_or_insert_text("text");
        document.transact_mut().apply_update(yrs::Update::decode_v2(bytes)?)?;
        Ok(Self(document, text, yrs::StateVector::default()))
    }
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// Each agent has a document of its own, which hears of what the session says that he had seen, and of no more.
fn measure<D: Document>(name: &str, file: &str) -> Anything<()> {
    let (txns, end) = read(file)?;
    let is_shared = txns.iter().any(|txn| txn.agent != txns[0].agent);
    let resident_before = resident_bytes();
    let began = Instant::now();
    let mut documents: HashMap<usize, (D, Vec<bool>)> = HashMap::new();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    // Gives a document what it lacks of some transactions and what they stand on, in order.
    let hear = |(document, known): &mut (D, Vec<bool>), sent: &[Vec<u8>], of: &[usize]| -> Anything<()> {
        let (mut waiting, mut lacking) = (of.to_vec(), Vec::new());
        while let Some(at) = waiting.pop() {
            if !std::mem::replace(&mut known[at], true) {
                lacking.push(at);
                waiting.extend(&txns[at].parents);
            }
        }
        lacking.sort_unstable();
        lacking.into_iter().filter(|at| !txns[*at].edits.is_empty()).try_for_each(|at| document.take(&sent[at]))
    };
    for (at, txn) in txns.iter().enumerate() {
        if let std::collections::hash_map::Entry::Vacant(free) = documents.entry(txn.agent) {
            free.insert((D::new(txn.agent)?, vec![false; txns.len()]));
        }
        let own = documents.get_mut(&txn.agent).ok_or("a document")?;
        if is_shared {
            hear(own, &sent, &txn.parents)?;
            own.1[at] = true;
        }
        for (pos, del, ins) in &txn.edits {
            own.0.edit(*pos, *del, ins)?;
        }
        sent.push(if is_shared && !txn.edits.is_empty() { own.0.commit()? } else { Vec::new() });
    }
    let last = documents.keys().min().copied().ok_or("nobody")?;
    let mut own = documents.remove(&last).ok_or("a document")?;
    if is_shared {
        hear(&mut own, &sent, &(0..txns.len()).collect::<Vec<_>>())?;
    } else {
        own.0.commit()?;
    }
    let (mut first, _) = own;
    let replay_ms = began.elapsed().as_secs_f64() * 1e3;
    let memory = resident_bytes().saturating_sub(resident_before);
    let is_right = first.text()? == end;
    let bytes = first.save()?;
    let mut load_ms = f64::INFINITY;
    for _ in 0..3 {
        let began = Instant::now();
        let loaded = D::load(&bytes)?;
        let text = loaded.text()?;
        load_ms = load_ms.min(began.elapsed().as_secs_f64() * 1e3);
        if text != first.text()? {
            return Err("it loads another text".into());
        }
    }
    let line = serde_json::json!({
        "name": name, "replay_ms": replay_ms, "load_ms": load_ms, "bytes": bytes.len(), "memory": memory, "is_right": is_right,
    });
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn main() -> Anything<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, file] = &words[..] else { return Err("other-editors automerge|loro|yrs TRACE.json.gz".into()) };
    match name.as_str() {
        "automerge" => measure::<Automerge>(name, file),
        "loro" => measure::<Loro>(name, file),
        "yrs" => measure::<Yrs>(name, file),
        _ => Err("unknown library".into()),
    }
}
