//! import: files and folders into the tree, in few requests, resumable.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

use anyhow::Context as _;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;

use crate::Context;
use crate::cli::{Format, Import};
use crate::client::{Client, Home, JSON, Request, Session};
use crate::clock::span;
use crate::failure::Failure;
use crate::folder::{Entry, list};
use crate::home::write_private;
use crate::media;
use crate::output::Output;
use crate::pieces::{Content, Piece, cut, is_name, leaves, patch, size};
use crate::progress::Progress;
use crate::target::Target;
use crate::transfer::{LARGE_BYTES, Line, upload};
use crate::value::{Json, counted, member, parse, text};

/// JSON written by one request; also the size from which a value is cut.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Values written by one request: what is touched by it costs the peer memory, too.
const BATCH_PIECES: usize = 20_000;
/// Files of one wave, and their bytes.
const WAVE_FILES: usize = 256;
const WAVE_BYTES: usize = 16 * 1024 * 1024;
/// Files under way at once: enough for the peer to put many into one sync of the disk.
const CONNECTIONS: usize = 16;
/// Largest text that the store keeps as such; longer ones become JSON strings.
const FILE_BYTES_MAX: usize = 64 * 1024;
/// Largest text that fits a JSON string; longer ones are files like any other.
const TEXT_BYTES_MAX: usize = 700 * 1024;
/// Refused files that are named one by one.
const REFUSED_SHOWN: usize = 20;

/// How far an import got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    source: String,
    target: String,
    /// Tells whether the source is still the same.
    fingerprint: u64,
    /// Pieces that are written.
    done: u64,
}

/// What an import did.
#[derive(Debug, Default)]
struct Tally {
    files: u64,
    values: u64,
    refused: Vec<(String, String)>,
}

pub(crate) async fn run(context: &Context, args: Import) -> anyhow::Result<()> {
    let began = Instant::now();
    let out = context.out;
    let source = Source::open(&args)?;
    let skipped = source.skipped.clone();
    for skipped in &skipped {
        out.note(format!("skipped  {skipped}"));
    }
    let mut session = Session::open(context, Home::MayBegin).await?;
    let state_file = source.fingerprint.map(|_| state_file(context, &args));
    let mut state =
        State { source: args.source.display().to_string(), target: args.path.to_string(), fingerprint: source.fingerprint.unwrap_or(0), done: 0 };
    let old = state_file.as_deref().filter(|_| !args.restart).and_then(read_state);
    if let Some(old) = old.filter(|old| *old == State { done: old.done, ..state.clone() }) {
        out.note(format!("going on with an interrupted import: {} are done", counted(old.done as usize, "part")));
        state.done = old.done;
    }
    let resumed = state.done;

    let progress = Progress::bytes(out, "importing", source.bytes);
    let mut writer = Writer { target: args.path.clone(), clients: Vec::new(), tally: Tally::default() };
    let mut pieces = source.pieces;
    let mut skip = state.done;
    let mut wave = Wave::default();
    loop {
        let next = pieces.next().transpose()?;
        let is_end = next.is_none();
        if let Some(Part { piece, bytes }) = next {
            if skip > 0 {
                skip -= 1;
                progress.add(bytes);
                continue;
            }
            if wave.clashes(&piece) {
                flush(&mut wave, &mut writer, &mut session, &mut state, &progress).await?;
            }
            wave.push(piece, bytes);
        }
        if wave.is_full() || is_end {
            flush(&mut wave, &mut writer, &mut session, &mut state, &progress).await?;
            if let Some(file) = state_file.as_deref().filter(|_| !is_end) {
                save(file, &state)?;
            }
        }
        if is_end {
            break;
        }
    }
    progress.done();
    if let Some(file) = &state_file {
        let _ = fs::remove_file(file);
    }
    drop(writer.clients);
    session.close().await;
    report(out, &args, &writer.tally, &skipped, resumed, began)
}

async fn flush(wave: &mut Wave, writer: &mut Writer, session: &mut Session, state: &mut State, progress: &Progress) -> anyhow::Result<()> {
    let (count, bytes) = (wave.count(), wave.progress);
    let shown = writer.write(session, std::mem::take(wave), progress).await?;
    progress.add(bytes.saturating_sub(shown));
    state.done += count;
    Ok(())
}

fn report(out: Output, args: &Import, tally: &Tally, skipped: &[String], resumed: u64, began: Instant) -> anyhow::Result<()> {
    let refused: Vec<_> = tally.refused.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect();
    let json = json!({
        "path": args.path.to_string(),
        "source": args.source.display().to_string(),
        "files": tally.files,
        "values": tally.values,
        "resumed_at": resumed,
        "skipped": skipped,
        "refused": refused,
        "elapsed_ms": began.elapsed().as_millis() as u64,
    });
    out.result(&json, || {
        let values = (tally.values > 0 || tally.files == 0).then(|| counted(tally.values as usize, "value"));
        let files = (tally.files > 0).then(|| counted(tally.files as usize, "file"));
        let what = [values, files].into_iter().flatten().collect::<Vec<_>>().join(" and ");
        let took = span(began.elapsed().as_millis() as u64);
        format!("imported {what} into {} in {took}", args.path)
    })?;
    if tally.refused.is_empty() {
        return Ok(());
    }
    for (path, reason) in tally.refused.iter().take(REFUSED_SHOWN) {
        out.note(format!("refused  {path} ({reason})"));
    }
    let title = format!("{} could not be imported; everything else was", counted(tally.refused.len(), "part"));
    Err(Failure::refused(title).into())
}

/// What is written together.
#[derive(Debug, Default)]
struct Wave {
    /// Merged in one request.
    values: Vec<(Vec<String>, Json)>,
    /// Written after them, each by itself.
    files: Vec<File>,
    /// Written after those, one by one, in parts.
    large: Vec<(Vec<String>, String, PathBuf)>,
    /// Where those go.
    places: BTreeSet<Vec<String>>,
    value_bytes: usize,
    file_bytes: usize,
    /// Bytes of the source that it stands for.
    progress: u64,
}

/// What replaces a value.
#[derive(Debug)]
struct File {
    names: Vec<String>,
    mime: String,
    bytes: Vec<u8>,
    /// Values in it, if it is JSON.
    values: Option<u64>,
}

impl Wave {
    /// Whether a piece is for a place that something in this wave is for, so that the order counts.
    fn clashes(&self, piece: &Piece) -> bool {
        let names = &piece.names;
        let above = (0..=names.len()).any(|len| self.places.contains(&names[..len]));
        above || self.places.range(names.clone()..).next().is_some_and(|place| place.starts_with(names))
    }

    fn push(&mut self, piece: Piece, progress: u64) {
        self.progress += progress;
        match piece.content {
            Content::Json(json) => {
                self.value_bytes += size(&json) + 64;
                self.values.push((piece.names, json));
            }
            Content::Whole(json) => {
                let mut bytes = Vec::new();
                json.write(&mut bytes);
                self.push_file(File { names: piece.names, mime: JSON.to_owned(), bytes, values: Some(leaves(&json)) });
            }
            Content::File { mime, bytes } => self.push_file(File { names: piece.names, mime, bytes, values: None }),
            Content::Large { mime, file } => {
                self.places.insert(piece.names.clone());
                self.large.push((piece.names, mime, file));
            }
        }
    }

    fn push_file(&mut self, file: File) {
        self.file_bytes += file.bytes.len();
        self.places.insert(file.names.clone());
        self.files.push(file);
    }

    fn count(&self) -> u64 {
        (self.values.len() + self.files.len() + self.large.len()) as u64
    }

    fn is_full(&self) -> bool {
        self.value_bytes >= BATCH_BYTES
            || self.values.len() >= BATCH_PIECES
            || self.files.len() >= WAVE_FILES
            || self.file_bytes >= WAVE_BYTES
            || !self.large.is_empty()
    }
}

/// Writes waves.
struct Writer {
    target: Target,
    /// Connections that are free.
    clients: Vec<Client>,
    tally: Tally,
}

/// Whether one piece was refused, which need not stop the others.
fn is_refusal(failure: &Failure) -> bool {
    matches!(failure.status, Some(400 | 403 | 409 | 413 | 415))
}

fn reason(failure: &Failure) -> String {
    failure.detail.clone().unwrap_or_else(|| failure.title.clone())
}

impl Writer {
    fn target(&self, names: &[String]) -> Target {
        names.iter().fold(self.target.clone(), |target, name| target.child(name))
    }

    async fn client(&mut self, session: &mut Session) -> anyhow::Result<Client> {
        match self.clients.pop() {
            Some(client) => Ok(client),
            None => session.connect().await,
        }
    }

    /// Writes a wave. Answers how many bytes the progress shows already.
    async fn write(&mut self, session: &mut Session, wave: Wave, progress: &Progress) -> anyhow::Result<u64> {
        let mut client = self.client(session).await?;
        let mut batches = VecDeque::from([wave.values]);
        while let Some(mut values) = batches.pop_front() {
            match self.write_values(&mut client, &values).await {
                Ok(()) => self.tally.values += values.iter().map(|(_, json)| leaves(json)).sum::<u64>(),
                Err(error) => {
                    let failure = Failure::of(&error);
                    if !is_refusal(&failure) {
                        return Err(error);
                    }
                    // One request is all or nothing: halves of it find the value that is refused.
                    match values.len() {
                        1 => self.tally.refused.push((self.target(&values[0].0).to_string(), reason(&failure))),
                        len => {
                            let second = values.split_off(len / 2);
                            batches.push_front(second);
                            batches.push_front(values);
                        }
                    }
                }
            }
        }
        self.clients.push(client);
        self.write_files(session, wave.files).await?;
        self.write_large(session, wave.large, progress).await
    }

    async fn write_large(&mut self, session: &mut Session, files: Vec<(Vec<String>, String, PathBuf)>, progress: &Progress) -> anyhow::Result<u64> {
        let mut shown = 0;
        for (names, mime, file) in files {
            let target = self.target(&names);
            let request = Request::new(Method::PUT, target.encoded());
            match upload(&mut Line::new(session), request, &mime, &file, progress).await {
                Ok(answer) => {
                    answer.bytes().await?;
                    self.tally.files += 1;
                    shown += fs::metadata(&file).map_or(0, |about| about.len());
                }
                Err(error) => {
                    let failure = Failure::of(&error);
                    if !is_refusal(&failure) {
                        return Err(error);
                    }
                    self.tally.refused.push((target.to_string(), reason(&failure)));
                }
            }
        }
        Ok(shown)
    }

    async fn write_values(&self, client: &mut Client, values: &[(Vec<String>, Json)]) -> anyhow::Result<()> {
        let Some((names, merged)) = patch(values) else { return Ok(()) };
        let mut body = Vec::new();
        merged.write(&mut body);
        let request = Request::new(Method::PATCH, self.target(&names).encoded());
        client.send(request.body("application/merge-patch+json", body)?).await?.bytes().await?;
        Ok(())
    }

    async fn write_files(&mut self, session: &mut Session, files: Vec<File>) -> anyhow::Result<()> {
        let mut files = VecDeque::from(files);
        let mut running = JoinSet::new();
        while !files.is_empty() || !running.is_empty() {
            while running.len() < CONNECTIONS
                && let Some(file) = files.pop_front()
            {
                let mut client = self.client(session).await?;
                let target = self.target(&file.names);
                let values = file.values;
                let request = Request::new(Method::PUT, target.encoded()).body(&file.mime, file.bytes)?;
                running.spawn(async move {
                    let result = match client.send(request).await {
                        Ok(answer) => answer.bytes().await.map(drop),
                        Err(error) => Err(error),
                    };
                    (client, target, values, result)
                });
            }
            let Some(ended) = running.join_next().await else { break };
            let (client, target, values, result) = ended.context("a write was lost")?;
            match result {
                Ok(()) => {
                    match values {
                        Some(values) => self.tally.values += values,
                        None => self.tally.files += 1,
                    }
                    self.clients.push(client);
                }
                Err(error) => {
                    let failure = Failure::of(&error);
                    if !is_refusal(&failure) {
                        return Err(error);
                    }
                    self.tally.refused.push((target.to_string(), reason(&failure)));
                    self.clients.push(client);
                }
            }
        }
        Ok(())
    }
}

/// A piece and the bytes of the source that it was made from.
struct Part {
    piece: Piece,
    bytes: u64,
}

type Parts = Box<dyn Iterator<Item = anyhow::Result<Part>> + Send>;

/// What is imported.
struct Source {
    pieces: Parts,
    /// Bytes, if that is known.
    bytes: Option<u64>,
    /// Tells whether it is still the same; without one an import cannot go on later.
    fingerprint: Option<u64>,
    skipped: Vec<String>,
}

impl Source {
    fn open(args: &Import) -> anyhow::Result<Self> {
        let path = &args.source;
        if path.as_os_str() == "-" {
            return match args.format.unwrap_or(Format::Json) {
                Format::Json => {
                    let mut bytes = Vec::new();
                    std::io::stdin().lock().read_to_end(&mut bytes).context("could not read standard input")?;
                    Ok(Self { pieces: of_json("standard input", &bytes)?, bytes: None, fingerprint: None, skipped: Vec::new() })
                }
                Format::Ndjson => {
                    Ok(Self { pieces: of_lines(Box::new(BufReader::new(std::io::stdin()))), bytes: None, fingerprint: None, skipped: Vec::new() })
                }
                Format::Dir => Err(Failure::usage("a folder cannot come over standard input").fix("name the folder").into()),
            };
        }
        let metadata = fs::metadata(path).map_err(|error| Failure::refused(format!("could not read {}", path.display())).detail(error))?;
        let format = args.format.or_else(|| format_of(path, metadata.is_dir())).ok_or_else(|| {
            Failure::usage(format!("what is {}?", path.display()))
                .fix("say --format json or --format ndjson; one file that is neither is written with `timebus put PATH @FILE`")
        })?;
        if format == Format::Dir {
            let listing = list(path)?;
            let bytes = listing.entries.iter().map(|entry| entry.bytes).sum();
            let fingerprint = Some(fingerprint(&(&listing.entries, args.strip_json)));
            let strip = args.strip_json;
            let pieces = listing.entries.into_iter().flat_map(move |entry| of_entry(&entry, strip));
            return Ok(Self { pieces: Box::new(pieces), bytes: Some(bytes), fingerprint, skipped: listing.skipped });
        }
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|time| time.as_nanos());
        let fingerprint = Some(fingerprint(&(metadata.len(), modified)));
        let failed = || format!("could not read {}", path.display());
        let pieces = match format {
            Format::Ndjson => of_lines(Box::new(BufReader::new(fs::File::open(path).with_context(failed)?))),
            _ => of_json(&path.display().to_string(), &fs::read(path).with_context(failed)?)?,
        };
        Ok(Self { pieces, bytes: Some(metadata.len()), fingerprint, skipped: Vec::new() })
    }
}

pub(crate) fn format_of(path: &Path, is_folder: bool) -> Option<Format> {
    if is_folder {
        return Some(Format::Dir);
    }
    match path.extension()?.to_str()? {
        "json" | "geojson" | "webmanifest" => Some(Format::Json),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        _ => None,
    }
}

fn fingerprint(source: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    hasher.finish()
}

fn of_json(name: &str, bytes: &[u8]) -> anyhow::Result<Parts> {
    let json = parse(bytes).map_err(|error| Failure::refused(format!("{name} is not JSON that can be kept")).detail(error))?;
    let mut pieces = Vec::new();
    cut(Vec::new(), json, BATCH_BYTES / 4, &mut pieces);
    Ok(Box::new(measured(pieces, bytes.len() as u64).into_iter().map(Ok)))
}

/// Shares the bytes of a source among its pieces.
fn measured(pieces: Vec<Piece>, bytes: u64) -> Vec<Part> {
    let count = pieces.len().max(1) as u64;
    let share = |at: u64| bytes * (at + 1) / count - bytes * at / count;
    pieces.into_iter().enumerate().map(|(at, piece)| Part { piece, bytes: share(at as u64) }).collect()
}

/// Lines of `{"path","value"}`; others are numbered.
fn of_lines(mut input: Box<dyn BufRead + Send>) -> Parts {
    let mut number = 0u64;
    let lines = std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            number += 1;
            match input.read_until(b'\n', &mut line) {
                Err(error) => return Some(Err(anyhow::Error::from(error).context("could not read the source"))),
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(of_line(&line, number)),
            }
        }
    });
    Box::new(lines.flat_map(|parts| match parts {
        Ok(parts) => parts.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    }))
}

fn of_line(line: &[u8], number: u64) -> anyhow::Result<Vec<Part>> {
    let wrong = |detail: String| {
        Failure::refused(format!("line {number} cannot be imported")).detail(detail).fix("mend the line; what is before it may be there already")
    };
    let json = parse(line).map_err(|error| wrong(error.to_string()))?;
    let is_pair = matches!(&json, Json::Object(members) if members.len() == 2);
    let (names, value) = match (text(&json, "path"), member(&json, "value")) {
        (Some(path), Some(value)) if is_pair && path.starts_with('/') => (names_of(path).map_err(wrong)?, value.clone()),
        // Zeros in front keep the order.
        _ => (vec![format!("{number:09}")], json),
    };
    let mut pieces = Vec::new();
    cut(names, value, usize::MAX, &mut pieces);
    Ok(measured(pieces, line.len() as u64))
}

/// The names of a path in its text form.
fn names_of(path: &str) -> Result<Vec<String>, String> {
    let inner = path.trim_matches('/');
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let name = |segment: &str| match segment.strip_prefix('@') {
        None => Ok(segment.to_owned()),
        Some(name) if name.starts_with('@') => Ok(name.to_owned()),
        Some(_) => Err(format!("{path} is an element of a list; export the list as one value")),
    };
    let names = inner.split('/').map(name).collect::<Result<Vec<_>, _>>()?;
    match names.iter().find(|name| !is_name(name)) {
        Some(bad) => Err(format!("{path} is no path: {bad:?} cannot be a name")),
        None => Ok(names),
    }
}

/// The pieces of a file or empty folder.
fn of_entry(entry: &Entry, strip_json: bool) -> Vec<anyhow::Result<Part>> {
    let one = |names: Vec<String>, content: Content| vec![Ok(Part { piece: Piece { names, content }, bytes: entry.bytes })];
    if entry.is_folder {
        return one(entry.names.clone(), Content::Json(Json::Object(Default::default())));
    }
    let of_name = media::of_name(&entry.path);
    if entry.bytes >= LARGE_BYTES && of_name != Some(JSON) {
        let mime = of_name.unwrap_or("application/octet-stream").to_owned();
        return one(entry.names.clone(), Content::Large { mime, file: entry.path.clone() });
    }
    let bytes = match fs::read(&entry.path) {
        Ok(bytes) => bytes,
        Err(error) => return vec![Err(anyhow::Error::from(error).context(format!("could not read {}", entry.path.display())))],
    };
    let stem = entry.names.last().and_then(|name| name.strip_suffix(".json"));
    if let Some(stem) = stem
        && let Ok(json) = parse(&bytes)
    {
        let mut names = entry.names.clone();
        if strip_json && is_name(stem) {
            names.pop();
            names.push(stem.to_owned());
        }
        let mut pieces = Vec::new();
        cut(names, json, BATCH_BYTES / 4, &mut pieces);
        return measured(pieces, entry.bytes).into_iter().map(Ok).collect();
    }
    let names = entry.names.clone();
    match media::is_text(&bytes) {
        true if bytes.len() > TEXT_BYTES_MAX => {
            one(names, Content::Large { mime: of_name.unwrap_or("text/plain").to_owned(), file: entry.path.clone() })
        }
        true if bytes.len() > FILE_BYTES_MAX => one(names, Content::Json(Json::String(String::from_utf8_lossy(&bytes).into_owned()))),
        true => {
            let mime = of_name.filter(|mime| mime.starts_with("text/")).unwrap_or("text/plain");
            one(names, Content::File { mime: mime.to_owned(), bytes })
        }
        false => one(
            names,
            Content::File {
                mime: of_name
                    .filter(|mime| !mime.starts_with("text/") && *mime != "application/json")
                    .unwrap_or("application/octet-stream")
                    .to_owned(),
                bytes,
            },
        ),
    }
}

/// Where an import of this source into this path remembers how far it got.
fn state_file(context: &Context, args: &Import) -> PathBuf {
    let source = fs::canonicalize(&args.source).unwrap_or_else(|_| args.source.clone());
    let name = fingerprint(&(source, args.path.to_string()));
    context.home.of_persona().folder().join("imports").join(format!("{name:016x}.json"))
}

fn read_state(file: &Path) -> Option<State> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

fn save(file: &Path, state: &State) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
        write_private(file, &serde_json::to_vec(state)?)
    };
    write().context("could not remember how far the import got")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(temp: &Path, name: &str, content: &[u8]) -> Entry {
        let path = temp.join(name);
        fs::write(&path, content).expect("a file");
        Entry { path, names: vec![name.to_owned()], is_folder: false, bytes: content.len() as u64, modified: 0 }
    }

    fn pieces(temp: &Path, name: &str, content: &[u8], strip: bool) -> Vec<Piece> {
        let parts = of_entry(&entry(temp, name, content), strip);
        parts.into_iter().map(|part| part.expect("a good file").piece).collect()
    }

    #[test]
    fn files_become_what_they_are() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str, content: &[u8], strip| pieces(temp.path(), name, content, strip);
        let as_file = |mime: &str, bytes: &[u8]| Content::File { mime: mime.into(), bytes: bytes.into() };
        let json = |text: &str| Content::Json(parse(text.as_bytes()).expect("JSON"));

        assert_eq!(file("a.json", b"[1]", false), [Piece { names: vec!["a.json".into()], content: json("[1]") }]);
        assert_eq!(file("a.json", b"[1]", true), [Piece { names: vec!["a".into()], content: json("[1]") }]);
        assert_eq!(file("b.json", b"// no", true)[0], Piece { names: vec!["b.json".into()], content: as_file("text/plain", b"// no") });
        assert_eq!(file("c.md", b"# hi", false)[0].content, as_file("text/markdown", b"# hi"));
        assert_eq!(file("d.png", b"\x89\0", false)[0].content, as_file("image/png", b"\x89\0"));
        assert_eq!(file("e", b"\0", false)[0].content, as_file("application/octet-stream", b"\0"));
        let long = "x".repeat(FILE_BYTES_MAX + 1);
        assert_eq!(file("f.txt", long.as_bytes(), false)[0].content, Content::Json(Json::String(long)));
    }

    #[test]
    fn lines_are_pairs_or_numbered() {
        let text = "{\"path\":\"/a/@@b\",\"value\":null}\n\n{\"x\":1}\n{\"path\":\"/a\",\"value\":1,\"more\":2}\n";
        let parts = of_lines(Box::new(BufReader::new(text.as_bytes())));
        let names: Vec<String> = parts.map(|part| part.expect("a good line").piece.names.join("|")).collect();
        assert_eq!(names, ["a|@b", "000000003", "000000004"]);
        for bad in ["{", "{\"path\":\"/@abc\",\"value\":1}", "{\"path\":\"/a//b\",\"value\":1}"] {
            let parts = of_lines(Box::new(std::io::Cursor::new(bad.to_owned())));
            assert!(parts.last().is_some_and(|part| part.is_err()), "{bad}");
        }
    }

    #[test]
    fn waves_keep_the_order_that_counts() {
        let piece = |path: &str, content| Piece { names: path.split('/').map(str::to_owned).collect(), content };
        let mut wave = Wave::default();
        wave.push(piece("a/b", Content::Whole(Json::Null)), 0);
        for (path, clashes) in [("a/b", true), ("a", true), ("a/b/c", true), ("a/bc", false), ("a/a", false), ("b", false)] {
            assert_eq!(wave.clashes(&piece(path, Content::Json(Json::Null))), clashes, "{path}");
        }
    }

    #[test]
    fn bytes_are_shared_without_loss() {
        let piece = Piece { names: Vec::new(), content: Content::Json(Json::Null) };
        for (count, bytes) in [(1, 10), (3, 10), (7, 3), (2, 0)] {
            let parts = measured(vec![piece.clone(); count], bytes);
            assert_eq!(parts.iter().map(|part| part.bytes).sum::<u64>(), bytes);
        }
    }

    #[test]
    fn formats_are_told_by_names() {
        let table = [("a.json", Some(Format::Json)), ("a.jsonl", Some(Format::Ndjson)), ("a.txt", None), ("a", None)];
        for (name, format) in table {
            assert_eq!(format_of(Path::new(name), false), format, "{name}");
        }
        assert_eq!(format_of(Path::new("a.json"), true), Some(Format::Dir));
    }
}
