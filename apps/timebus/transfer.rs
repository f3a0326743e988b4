//! Large files on their way to and from a peer: in parts, going on where they were cut off.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use bytes::Bytes;
use hyper::Method;

use crate::client::{Answer, Client, Request, Session};
use crate::downloads::{Note, parts_of, remove_parts};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Files from this size on go in parts.
pub(crate) const LARGE_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of a part.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// How often the peer is called again without anything having come or gone in between.
const TRIES_MAX: u32 = 6;
/// How long before the first of these; each next one waits longer.
const PAUSE: Duration = Duration::from_millis(200);

/// A connection that is made anew when it breaks.
pub(crate) struct Line<'s> {
    session: &'s mut Session,
    client: Option<Client>,
    failures: u32,
}

impl<'s> Line<'s> {
    pub(crate) fn new(session: &'s mut Session) -> Self {
        Self { session, client: None, failures: 0 }
    }

    async fn client(&mut self) -> anyhow::Result<&mut Client> {
        if self.client.is_none() {
            self.client = Some(self.session.connect().await?);
        }
        self.client.as_mut().context("no connection")
    }

    /// Sends a request.
    async fn send(&mut self, request: Request) -> anyhow::Result<Answer> {
        self.client().await?.send(request).await
    }

    fn went_well(&mut self) {
        self.failures = 0;
    }

    /// After a failure: waits for the peer to come back, or gives up.
    async fn broke(&mut self, error: anyhow::Error) -> anyhow::Result<()> {
        let failure = Failure::of(&error);
        self.client = None;
        self.failures += 1;
        let may_pass = failure.status.is_none() || matches!(failure.status, Some(408 | 500 | 502 | 503 | 504));
        // Nobody who has the bytes is there: the peer has waited for them, too.
        let tries_max = if failure.status == Some(504) { 2 } else { TRIES_MAX };
        if !may_pass || self.failures > tries_max {
            return Err(error);
        }
        tokio::time::sleep(PAUSE * 2u32.pow(self.failures)).await;
        Ok(())
    }
}

/// Puts a large file. `request` is the PUT without a body: the same one, made again later, goes on with what it began.
pub(crate) async fn upload(line: &mut Line<'_>, request: Request, mime: &str, file: &Path, progress: &Progress) -> anyhow::Result<Answer> {
    let failed = || format!("could not read {}", file.display());
    let mut source = fs::File::open(file).map_err(|error| Failure::usage(format!("could not read {}", file.display())).detail(error))?;
    let about = source.metadata().with_context(failed)?;
    let length = about.len();
    let changed = changed_at(&about);
    let full = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let key = blake3::hash(format!("{}\n{length}\n{changed}", full.display()).as_bytes()).to_hex();
    let begin = request
        .header("upload-complete", "?0")?
        .header("upload-length", &length.to_string())?
        .header("idempotency-key", &key)?
        .body(mime, Bytes::new())?;
    let mut place: Option<String> = None;
    let mut offset = 0;
    let mut counted = 0;
    loop {
        let step = async {
            let Some(at) = place.clone() else {
                let answer = line.send(begin.clone()).await?;
                let at = answer.header("location").context("the peer takes no uploads in parts")?.to_owned();
                let have = answer.header("upload-offset").and_then(|offset| offset.parse().ok()).unwrap_or(0);
                answer.bytes().await?;
                return Ok(Step::At(at, have));
            };
            source.seek(SeekFrom::Start(offset)).with_context(failed)?;
            let mut part = Vec::new();
            (&mut source).take((PART_BYTES as u64).min(length.saturating_sub(offset))).read_to_end(&mut part).with_context(failed)?;
            let end = offset + part.len() as u64;
            let is_last = end >= length;
            // What was sent before it changed and what is sent after it would make a file that there never was.
            if is_last || part.is_empty() {
                let now = source.metadata().with_context(failed)?;
                if (now.len(), changed_at(&now)) != (length, changed) {
                    return Ok(Step::Changed(at));
                }
            }
            let request = Request::new(Method::PATCH, at.clone())
                .header("upload-offset", &offset.to_string())?
                .header("upload-complete", if is_last { "?1" } else { "?0" })?
                .body("application/partial-upload", part)?;
            let answer = line.send(request).await?;
            Ok::<_, anyhow::Error>(if is_last { Step::Done(answer) } else { Step::At(at, end) })
        };
        match step.await {
            Ok(Step::Changed(at)) => {
                // Its place would be taken for as long as uploads are kept, and nothing goes on with it.
                let _ = line.send(Request::new(Method::DELETE, at)).await;
                let title = format!("{} changed while it was sent, and nothing of it was saved", file.display());
                return Err(Failure::refused(title).fix("put it again when nothing writes to it any more, or put a copy of it").into());
            }
            Ok(Step::Done(answer)) => {
                progress.add(length.saturating_sub(counted));
                return Ok(answer);
            }
            Ok(Step::At(at, have)) => {
                line.went_well();
                // What the peer had before is there, and was not sent now.
                let more = have.saturating_sub(counted);
                if place.is_none() {
                    progress.skip(more)
                } else {
                    progress.add(more)
                }
                (place, offset) = (Some(at), have);
                counted = counted.max(offset);
            }
            // The peer has another idea of how far it is, or has forgotten: asking again tells.
            Err(error) if matches!(Failure::of(&error).status, Some(404 | 409)) && place.is_some() && line.failures == 0 => {
                line.failures += 1;
                place = None;
            }
            Err(error) => {
                line.broke(error).await?;
                place = None;
            }
        }
    }
}

/// When a file was changed last, in nanoseconds since 1970.
fn changed_at(about: &fs::Metadata) -> u128 {
    about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_nanos())
}

enum Step {
    /// The file is not what it was when this upload began.
    Changed(String),
    /// Where the upload is, and how much has come.
    At(String, u64),
    Done(Answer),
}

/// Gets a file of any size into `target`. What has come stays beside it until all of it is there, and the same
/// command, given again, goes on from there. Answers how many bytes were there already.
pub(crate) async fn download(
    out: Output,
    line: &mut Line<'_>,
    request: &Request,
    target: &Path,
    note: &mut Option<Note>,
) -> anyhow::Result<Downloaded> {
    let got = download_noted(out, line, request, target, note).await;
    let is_nothing_there = || fs::metadata(&parts_of(target)[0]).is_ok_and(|about| about.len() == 0);
    // Of what was cancelled nothing stays, here either.
    if let Err(error) = &got
        && (Failure::of(error).kind.as_deref() == Some("blob-cancelled") || is_nothing_there())
    {
        remove_parts(target).with_context(|| format!("could not remove what had come of {}", target.display()))?;
    }
    if got.is_ok() || !parts_of(target)[0].exists() {
        note.take().into_iter().for_each(Note::forget);
    }
    got
}

async fn download_noted(out: Output, line: &mut Line<'_>, request: &Request, target: &Path, note: &mut Option<Note>) -> anyhow::Result<Downloaded> {
    let [part, mark] = parts_of(target);
    let failed = || format!("could not write {}", part.display());
    let mut file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&part).with_context(failed)?;
    let mut tag = fs::read_to_string(&mark).ok().filter(|_| file.metadata().is_ok_and(|about| about.len() > 0));
    let mut have = if tag.is_some() { file.metadata().with_context(failed)?.len() } else { 0 };
    let mut done = Downloaded { resumed_at: have, ..Downloaded::default() };
    let mut progress: Option<Progress> = None;
    // Ends with this download.
    let mut telling = tokio::task::JoinSet::new();
    loop {
        let step = async {
            let mut rest = request.clone();
            if let Some(tag) = tag.as_ref().filter(|_| have > 0) {
                rest = rest.header("range", &format!("bytes={have}-"))?.header("if-range", tag)?;
            }
            let mut answer = match line.send(rest).await {
                Err(error) if Failure::of(&error).status == Some(416) => {
                    let told = line.send(request.head()).await?;
                    // All of it has come, and the end was cut off; or it is another file by now, which is shorter.
                    let is_all = told.length() == Some(have) && told.header("etag") == tag.as_deref();
                    if !is_all {
                        (have, tag) = (0, None);
                    }
                    return Ok(is_all);
                }
                answer => answer?,
            };
            if answer.status != 206 {
                have = 0;
            } else if !goes_on(&answer, tag.as_deref(), have) {
                (have, tag) = (0, None);
                return Ok(false);
            }
            done.resumed_at = done.resumed_at.min(have);
            done.mime = answer.mime().to_owned();
            done.version = answer.version();
            done.source = answer.header("timebus-blob").map(str::to_owned);
            done.before = crate::verbs::of_before(&answer);
            tag = answer.header("etag").map(str::to_owned);
            file.set_len(have).and_then(|()| file.seek(SeekFrom::Start(have))).with_context(failed)?;
            if let Some(tag) = &tag {
                fs::write(&mark, tag).with_context(failed)?;
            }
            let bar = progress.get_or_insert_with(|| Progress::bytes(out, "getting", answer.length().map(|rest| have + rest)));
            bar.begin_at(have);
            if let Some(note) = note {
                let hash = tag.as_deref().map(|tag| tag.trim_matches('"')).filter(|tag| timebus_store::blobs::BlobHash::parse(tag).is_some());
                note.say(hash, answer.length().map(|rest| have + rest)).context("could not write down what is got")?;
            }
            if telling.is_empty()
                && let Some(hash) = tag.as_deref().filter(|_| done.source.is_some())
            {
                telling.spawn(tell_sources(line.session.connect().await?, hash.trim_matches('"').to_owned(), bar.bar()));
            }
            while let Some(piece) = answer.next().await? {
                file.write_all(&piece).with_context(failed)?;
                have += piece.len() as u64;
                bar.set(have);
                line.went_well();
            }
            Ok::<_, anyhow::Error>(true)
        };
        match step.await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => line.broke(error).await?,
        }
    }
    done.bytes = have;
    if let Some(hash) = tag.as_deref().and_then(|tag| timebus_store::blobs::BlobHash::parse(tag.trim_matches('"'))) {
        check(&mut file, &hash, &part, &mark)?;
    }
    if let Some(hash) = tag.as_deref().filter(|_| done.source.is_some())
        && let Ok(mut client) = line.session.connect().await
    {
        done.sources = sources_of(&mut client, hash.trim_matches('"')).await;
        if !done.sources.is_empty() {
            done.source = Some(crate::verbs::files::shares(&done.sources));
        }
    }
    file.sync_all().with_context(failed)?;
    fs::rename(&part, target).with_context(|| format!("could not write {}", target.display()))?;
    let _ = fs::remove_file(&mark);
    Ok(done)
}

/// Whether an answer goes on with the file of which so much is here.
fn goes_on(answer: &Answer, tag: Option<&str>, have: u64) -> bool {
    let begins =
        |range: &str| range.strip_prefix("bytes ").and_then(|range| range.strip_prefix(&have.to_string())).is_some_and(|rest| rest.starts_with('-'));
    answer.header("etag") == tag && answer.header("content-range").is_some_and(begins)
}

/// From whom how much came of a file that is here, or was just about to be.
async fn sources_of(client: &mut Client, hash: &str) -> Vec<crate::value::Json> {
    let Ok(status) = client.json(Request::get("/.sys/blobs")).await else { return Vec::new() };
    let all = [crate::value::items(&status, "came"), crate::value::items(&status, "transfers")].concat();
    let found = all.iter().find(|one| crate::value::text(one, "hash") == Some(hash) && !crate::value::items(one, "sources").is_empty());
    found.map_or_else(Vec::new, |one| crate::value::items(one, "sources").to_vec())
}

/// Says beside the bar from whom a file comes, and how fast.
async fn tell_sources(mut client: Client, hash: String, bar: indicatif::ProgressBar) {
    loop {
        let Ok(status) = client.json(Request::get("/.sys/blobs")).await else { return };
        let transfers = crate::value::member(&status, "transfers");
        if let Some(crate::value::Json::Array(transfers)) = transfers
            && let Some(transfer) = transfers.iter().find(|transfer| crate::value::text(transfer, "hash") == Some(&hash))
            && let Some(text) = crate::value::text(transfer, "text")
        {
            // How fast it is said behind the bar.
            bar.set_message(text.rsplit_once(", ").filter(|(_, speed)| speed.ends_with("/s")).map_or(text, |(from, _)| from).to_owned());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Makes sure that a file put together from parts is the one that the peer has.
fn check(file: &mut fs::File, hash: &timebus_store::blobs::BlobHash, part: &Path, mark: &Path) -> anyhow::Result<()> {
    file.rewind()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut *file).with_context(|| format!("could not read {}", part.display()))?;
    if hasher.finalize().as_bytes() == hash.as_bytes() {
        return Ok(());
    }
    for file in [part, mark] {
        let _ = fs::remove_file(file);
    }
    Err(Failure::refused("what has come is not the file that the peer has")
        .detail("the part that was here before was changed")
        .fix("get it again")
        .into())
}

/// What a download was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Downloaded {
    pub(crate) bytes: u64,
    pub(crate) resumed_at: u64,
    pub(crate) mime: String,
    pub(crate) version: crate::target::Versions,
    /// Where the peer has it from.
    pub(crate) source: Option<String>,
    /// From whom how much came, as the peer says.
    pub(crate) sources: Vec<crate::value::Json>,
    /// Who took it back, if it is of before.
    pub(crate) before: Option<serde_json::Value>,
}
