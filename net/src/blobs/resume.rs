//! Files that come in several requests, and go on where they were cut off.
//!
//! In the shape of the IETF's resumable uploads (draft-ietf-httpbis-resumable-upload): a PUT with `Upload-Complete: ?0`
//! begins one and is answered with its place below `/.sys/uploads/`; PATCH appends there, HEAD says how much has come,
//! DELETE gives it up. The last PATCH does what the PUT would have done. Interim answers (104) are not sent, so a client
//! that wants to resume begins with an empty PUT. With `Idempotency-Key` the same PUT finds the upload that it began,
//! also after both sides were started anew.
//!
//! What came over a signed request counts when it is known to be what was signed, that is when all of the request has come. What was
//! answered at the end is kept for a while: whoever did not hear it asks again, and sends nothing twice.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use timebus_store::blobs::{BlobHash, Blobs, Lease, SaveError, UPLOADS, Writer};
use timebus_store::value::Value;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::upload::{media_type, pour, refer};
use super::{PIECE_BYTES, beside, save_problem};
use crate::authority::Verb;
use crate::body::{Body, BodyReader};
use crate::peer::{Peer, lock};
use crate::problem::Problem;
use crate::read::insert;
use crate::route::{Ask, storage_problem};
use crate::who::{BodyCheck, CONTENT_DIGEST, REPR_DIGEST, Who, digest_of, text};

/// Uploads at once; each holds a place in a folder and, while bytes come, a few pieces in memory.
const UPLOADS_MAX: usize = 256;
/// How long an upload to which nothing is added is kept.
const UPLOAD_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long is known what came of an upload of which all has come: as long as somebody may be without a line and try again.
const ENDED_LIFETIME: Duration = Duration::from_secs(3600);
/// Of so many. Each is a small file; the oldest go first.
const ENDED_MAX: usize = 256;
/// Bytes of an `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 256;
/// How often whoever has an upload open is told that it is somebody else's turn.
const TAKEOVER_PAUSE: Duration = Duration::from_millis(100);
/// Ends the name of the file that says what an upload is for.
const ABOUT: &str = ".json";
/// Headers of the first request that count when the last one comes.
const KEPT_HEADERS: [&str; 9] = ["content-type", "if-match", "if-none-match", "parents", "version", "prefer", "put-mode", "merge-type", REPR_DIGEST];

/// What an upload is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct About {
    /// The target of the PUT.
    target: String,
    /// Its headers that count.
    headers: Vec<(String, String)>,
    /// What the client calls it.
    key: Option<String>,
    /// Bytes that it will have, if the client said so.
    length: Option<u64>,
    /// How much had come before a signed request began of which it is not known yet whether it is what was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unchecked_from: Option<u64>,
    /// The blob that it became, or was about to become, when all had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole: Option<Whole>,
}

/// An upload of which all has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Whole {
    hash: String,
    len: u64,
    /// What was answered when the value was written; nothing as long as that was not, or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Answered>,
}

/// The answer to the last part.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answered {
    status: u16,
    headers: Vec<(String, String)>,
}

/// One upload.
struct Upload {
    /// Changed by whoever has the writer.
    about: Mutex<About>,
    file: PathBuf,
    /// Who adds to it; nothing until somebody does, and again once it is over.
    writer: AsyncMutex<Option<Writer>>,
    /// Told when somebody else wants to add: the connection before is taken for broken.
    takeover: Notify,
}

impl Upload {
    fn about(&self) -> About {
        lock(&self.about).clone()
    }

    /// Writes down something about it.
    fn note(&self, change: impl FnOnce(&mut About)) -> std::io::Result<()> {
        let mut about = self.about();
        change(&mut about);
        crate::files::write_whole(&with_ending(&self.file), &serde_json::to_vec(&about)?)?;
        *lock(&self.about) = about;
        Ok(())
    }
}

async fn note(upload: &Arc<Upload>, change: impl FnOnce(&mut About) + Send + 'static) -> Result<(), Problem> {
    let upload = Arc::clone(upload);
    beside(move || upload.note(change)).await?.map_err(|error| save_problem(&timebus_store::blobs::SaveError::Io(error)))
}

/// The uploads of a peer that were looked at since it was started.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, Arc<Upload>>>);

impl Uploads {
    /// Ends what comes now of all of them: they go on later where they were.
    pub(crate) fn cut(&self) {
        lock(&self.0).values().for_each(|upload| upload.takeover.notify_waiters());
    }
}

/// An upload that did not come to its end, as people see it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Begun {
    id: String,
    /// Where the file is to be.
    path: String,
    bytes_here: u64,
    /// None if who sends it did not say so.
    bytes_total: Option<u64>,
    /// When something came last; Unix milliseconds.
    changed_ms: u64,
    /// Whether all of it came, and the value was refused: the same upload asks for that again.
    is_refused: bool,
}

/// The uploads that did not come to their end: they go on, or go away after a week.
///
/// # Errors
///
/// What the system says.
pub(crate) fn begun(blobs: &Blobs) -> std::io::Result<Vec<Begun>> {
    let folder = folder(blobs);
    let all = match list(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        all => all?,
    };
    let mut found = Vec::new();
    for (id, about) in all.into_iter().filter(|(_, about)| about.answer().is_none()) {
        let file = folder.join(&id);
        let changed = changed_at(&file, &about).duration_since(SystemTime::UNIX_EPOCH);
        let path = crate::target::Target::parse(&about.target).map_or(about.target.clone(), |target| format!("/{}", target.segments.join("/")));
        let whole = blob_of(blobs, &about).map(|(_, len, _)| len);
        found.push(Begun {
            path,
            is_refused: whole.is_some(),
            bytes_here: whole.unwrap_or_else(|| std::fs::metadata(&file).map_or(0, |about| about.len())),
            bytes_total: about.length,
            changed_ms: changed.map_or(0, |since| since.as_millis() as u64),
            id,
        });
    }
    found.sort_by(|one, other| (&one.path, one.changed_ms).cmp(&(&other.path, other.changed_ms)));
    Ok(found)
}

/// Gives up the uploads to a path, or the one of this name; with `below` also those to paths below it. Answers with those.
pub(crate) async fn cancel(peer: &Peer, which: &str, below: bool) -> Result<Vec<Begun>, Problem> {
    let blobs = super::of(peer)?.clone();
    let all = beside(move || begun(&blobs)).await?.map_err(|error| storage_problem(&error.into()))?;
    // Whoever types an id may have it taken for a path.
    let name = which.trim_matches('/');
    let path = format!("/{name}");
    let is_below = |at: &str| at == path || below && at.strip_prefix(&path).is_some_and(|rest| rest.starts_with('/'));
    let mut gone = Vec::new();
    for one in all.into_iter().filter(|one| one.id == name || is_below(&one.path)) {
        let Some(upload) = open(peer, &one.id).await? else { continue };
        let mut writer = take_over(&upload).await;
        // It may have come to its end meanwhile.
        if upload.about().answer().is_none() {
            drop(writer.take());
            forget(peer, &one.id, &upload).await?;
            gone.push(one);
        }
    }
    Ok(gone)
}

/// Whether a request begins an upload.
pub(crate) fn is_begin(head: &http::request::Parts) -> bool {
    text(&head.headers, "upload-complete").is_some_and(|complete| complete.trim() == "?0")
}

/// The answer to who begins one in another way than by PUT: what it is for is a path.
pub(crate) fn begins_by_put() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "upload", "uploads in several parts begin with PUT", "only a PUT has `Upload-Complete: ?0`")
        .with_fix("send the first part by PUT to the path where the file is to be")
}

/// Begins an upload, or finds the one that the client's key names.
pub(crate) async fn begin(ask: Ask, body: Incoming) -> Result<Response<Body>, Problem> {
    outlive(begin_now(ask, body)).await
}

/// Goes on when the connection breaks, until it is known what came over it.
async fn outlive(work: impl Future<Output = Result<Response<Body>, Problem>> + Send + 'static) -> Result<Response<Body>, Problem> {
    let failed = |error: tokio::task::JoinError| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "upload", "the upload failed", error.to_string());
    tokio::spawn(work).await.map_err(failed)?
}

/// The part of `/.sys` that an upload is.
fn part(id: &str) -> [String; 2] {
    ["uploads".to_owned(), id.to_owned()]
}

async fn begin_now(ask: Ask, body: Incoming) -> Result<Response<Body>, Problem> {
    // Who may write at a path and not here sends his file in one piece.
    ask.who.may_sys(&ask.peer, Verb::Write, &part(""))?;
    media_type(&ask)?;
    let blobs = super::of(&ask.peer)?.clone();
    let headers = &ask.head.headers;
    digest_of(headers, REPR_DIGEST)?;
    let key = text(headers, "idempotency-key").map(str::to_owned);
    if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        return Err(malformed(format!("an Idempotency-Key has at most {KEY_BYTES_MAX} bytes")));
    }
    let length = number(headers, "upload-length")?;
    let target = ask.head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let kept = KEPT_HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), text(headers, *name)?.to_owned()))).collect();
    let about = About { target, headers: kept, key, length, unchecked_from: None, whole: None };
    let (found, upload) = match find(&ask, &blobs, &about).await {
        // A new one has no room yet.
        Err(problem) if matches!(problem.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::INSUFFICIENT_STORAGE) => {
            super::make_room(&ask.peer, length.unwrap_or(0)).await;
            find(&ask, &blobs, &about).await?
        }
        found => found?,
    };
    let mut body = BodyReader::new(body);
    let check = ask.who.body_check(&ask.head.headers, &[CONTENT_DIGEST])?;
    let first = body.next().await?.unwrap_or_default();
    // The connection over which it was begun before may be broken, and nobody heard of it.
    let mut writer = take_over(&upload).await;
    let before = upload.about();
    if before.whole.is_none()
        && first.is_empty()
        && let Some(refusal) = crate::write::fails_already(&ask).await?
    {
        if length_now(&blobs, &upload, &mut writer).await? == 0 {
            drop(writer.take());
            forget(&ask.peer, &found, &upload).await?;
        }
        return Ok(refusal);
    }
    if before.headers != about.headers && before.answer().is_none() {
        note(&upload, |kept| kept.headers = about.headers).await?;
    }
    if before.whole.is_none()
        && let Some(length) = length
    {
        let came = length_now(&blobs, &upload, &mut writer).await?;
        super::make_room(&ask.peer, length.saturating_sub(came)).await;
    }
    if let (Some(begun), Some(length)) = (writer.as_mut().filter(|begun| begun.is_empty()), length) {
        begun.expect(length).map_err(|error| save_problem(&error))?;
    }
    if first.is_empty() {
        check.finish()?;
    } else {
        if length_now(&blobs, &upload, &mut writer).await? != 0 {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "upload-offset",
                "this upload has begun already",
                "go on with it by PATCH at its Location",
            ));
        }
        let begun = writer.take().ok_or_else(|| gone(&found))?;
        pour_part(&ask.peer, &ask.who, &upload, &mut writer, begun, (BytesMut::from(&first[..]), body), check).await?;
    }
    let offset = length_now(&blobs, &upload, &mut writer).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    insert(response.headers_mut(), header::LOCATION.as_str(), &format!("/.sys/uploads/{found}"));
    describe(response.headers_mut(), &blobs, &upload.about(), offset);
    Ok(response)
}

/// The upload that a request begins or goes on with.
async fn find(ask: &Ask, blobs: &Blobs, about: &About) -> Result<(String, Arc<Upload>), Problem> {
    loop {
        let found = {
            let (about, folder, blobs) = (about.clone(), folder(blobs), blobs.clone());
            beside(move || find_or_make(&blobs, &folder, &about)).await??
        };
        let upload = open(&ask.peer, &found).await?.ok_or_else(|| gone(&found))?;
        // What was written and is not there any more is meant to be written again.
        match upload.about().whole.filter(|whole| whole.answer.is_some()) {
            Some(whole) if !names(ask, &whole)? => forget(&ask.peer, &found, &upload).await?,
            _ => return Ok((found, upload)),
        }
    }
}

/// Whether the value that a request is about is the file that came.
fn names(ask: &Ask, whole: &Whole) -> Result<bool, Problem> {
    let store = ask.peer.store();
    let reading = store.read(&store.snapshot(), ask.space, &ask.path).map_err(|error| storage_problem(&error))?;
    let is_it = |value: &Value| matches!(value, Value::Blob { hash, .. } if BlobHash::from_bytes(*hash).to_string() == whole.hash);
    Ok(reading.tree.writes.iter().any(|write| is_it(&write.value)))
}

/// Answers what is asked of one upload.
pub(crate) async fn answer(peer: &Peer, who: Who, head: http::request::Parts, body: Incoming, id: &str) -> Result<Response<Body>, Problem> {
    if crate::who::is_browser(&head.headers) && !crate::who::is_same_origin(&head) {
        return Err(crate::who::foreign_origin());
    }
    who.may_sys(peer, Verb::Write, &part(id))?;
    let blobs = super::of(peer)?.clone();
    let upload = open(peer, id).await?.ok_or_else(|| gone(id))?;
    match head.method {
        Method::HEAD | Method::GET => {
            let mut writer = take_over(&upload).await;
            let offset = length_now(&blobs, &upload, &mut writer).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            describe(response.headers_mut(), &blobs, &upload.about(), offset);
            Ok(response)
        }
        Method::DELETE => {
            give_up(peer, id, &upload).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Method::PATCH => outlive(append(peer.clone(), who, head.headers, body, id.to_owned(), upload)).await,
        _ => Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "uploads take HEAD, PATCH and DELETE", "PATCH adds bytes to an upload")),
    }
}

async fn append(peer: Peer, who: Who, headers: HeaderMap, body: Incoming, id: String, upload: Arc<Upload>) -> Result<Response<Body>, Problem> {
    let (peer, headers, id, upload) = (&peer, &headers, &id[..], &upload);
    if !text(headers, header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/partial-upload")) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "this is no part of an upload",
            "send `Content-Type: application/partial-upload`; the file's own type was said when the upload began",
        ));
    }
    let offset = number(headers, "upload-offset")?.ok_or_else(|| malformed("send Upload-Offset: how much came before".to_owned()))?;
    let is_last = text(headers, "upload-complete").is_some_and(|complete| complete.trim() == "?1");
    let blobs = super::of(peer)?.clone();
    let check = who.body_check(headers, &[CONTENT_DIGEST])?;
    let mut writer = take_over(upload).await;
    let have = length_now(&blobs, upload, &mut writer).await?;
    if have != offset {
        let detail = format!("{have} bytes have come, these are for {offset}");
        return Err(Problem::new(StatusCode::CONFLICT, "upload-offset", "these bytes do not follow those that came before", detail)
            .with_fix("ask with HEAD where to go on")
            .with("expected-offset", have)
            .with("provided-offset", offset));
    }
    let mut body = BodyReader::new(body);
    let about = upload.about();
    // All of it has come, and the answer got lost, or was a refusal.
    let came = writer.is_none().then(|| about.whole.clone()).flatten();
    let length = came.as_ref().map(|whole| whole.len).or(about.length);
    let too_long = |len: u64| malformed(format!("the upload was to have {} bytes, and would have {len}", length.unwrap_or(0)));
    if let Some(coming) = body.announced()
        && length.is_some_and(|length| offset.saturating_add(coming) > length)
    {
        return Err(too_long(offset + coming));
    }
    if let Some(whole) = came {
        if let Some(more) = body.next().await?.filter(|more| !more.is_empty()) {
            return Err(too_long(offset + more.len() as u64));
        }
        check.finish()?;
        if !is_last {
            return Ok(part_taken(&blobs, &about, offset));
        }
        if let Some(answer) = &whole.answer {
            return answer.again();
        }
        let blob = blob_of(&blobs, &about).ok_or_else(|| gone(id))?;
        let response = complete(peer, who, &about, blob, Some(&whole)).await;
        return ended(peer, upload, response).await;
    }
    let mut begun = writer.take().ok_or_else(|| gone(id))?;
    super::make_room(peer, body.announced().unwrap_or(0)).await;
    if let Err(error) = begun.expect(body.announced().map_or(offset, |coming| offset + coming)) {
        *writer = Some(begun);
        return Err(save_problem(&error));
    }
    pour_part(peer, &who, upload, &mut writer, begun, (BytesMut::new(), body), check).await?;
    let offset = length_now(&blobs, upload, &mut writer).await?;
    if !is_last {
        return Ok(part_taken(&blobs, &about, offset));
    }
    if about.length.is_some_and(|length| length != offset) {
        return Err(malformed(format!("the upload was to have {} bytes, and has {offset}", about.length.unwrap_or(0))));
    }
    let done = writer.take().ok_or_else(|| gone(id))?;
    let noting = Arc::clone(upload);
    // Written down before the bytes go to their place, so that they are found there after a crash.
    let finishing = move || {
        done.finish_told(|hash, len| {
            let whole = Whole { hash: hash.to_string(), len, answer: None };
            noting.note(|about| about.whole = Some(whole))
        })
    };
    let blob = beside(finishing).await?.map_err(|error| save_problem(&error))?;
    let response = complete(peer, who, &about, blob, None).await;
    ended(peer, upload, response).await
}

/// Adds a part. What a signed request brings counts once all of it has come and is what was signed.
async fn pour_part(
    peer: &Peer,
    who: &Who,
    upload: &Arc<Upload>,
    slot: &mut Option<Writer>,
    writer: Writer,
    (first, mut body): (BytesMut, BodyReader),
    mut check: BodyCheck,
) -> Result<(), Problem> {
    let is_signed = matches!(who, Who::Signed { .. });
    if is_signed {
        let from = writer.len();
        note(upload, move |about| about.unchecked_from = Some(from)).await?;
    }
    let length = upload.about().length;
    let blob_bytes_max = super::of(peer)?.limits().blob_bytes_max;
    let poured = pour(writer, first, &mut body, &mut check, length.unwrap_or(u64::MAX), &upload.takeover).await;
    let poured = poured.map_err(|(writer, problem)| match (&writer, length) {
        (Some(_), Some(length)) if problem.kind == "too-large" && length < blob_bytes_max => {
            (writer, malformed(format!("the upload was to have {length} bytes, and more came")))
        }
        _ => (writer, problem),
    });
    let came = finish_part(peer, slot, poured).and_then(|()| check.finish());
    if is_signed && came.is_ok() {
        note(upload, |about| about.unchecked_from = None).await?;
    } else if is_signed {
        // Whoever opens it next cuts it.
        drop(slot.take());
    }
    came
}

/// The answer to a part that is not the last one.
fn part_taken(blobs: &Blobs, about: &About, offset: u64) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    describe(response.headers_mut(), blobs, about, offset);
    response
}

/// Keeps what is answered at the end. Where the value was refused it can be tried again as long as the bytes are here: they are
/// collected like any that nothing refers to.
async fn ended(peer: &Peer, upload: &Arc<Upload>, response: Result<Response<Body>, Problem>) -> Result<Response<Body>, Problem> {
    let mut response = response?;
    response.headers_mut().insert("upload-complete", HeaderValue::from_static("?1"));
    if response.status().is_success() {
        let headers = response.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect();
        let answer = Answered { status: response.status().as_u16(), headers };
        let noted = note(upload, move |about| about.whole.iter_mut().for_each(|whole| whole.answer = Some(answer.clone()))).await;
        if let Err(problem) = noted {
            tracing::warn!(detail = problem.detail, "what an upload was answered with is not known later");
        }
        forget_oldest(peer).await?;
    }
    Ok(response)
}

impl About {
    /// What was answered at the end.
    fn answer(&self) -> Option<&Answered> {
        self.whole.as_ref()?.answer.as_ref()
    }
}

impl Answered {
    fn again(&self) -> Result<Response<Body>, Problem> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(self.status).map_err(|error| malformed(error.to_string()))?;
        self.headers.iter().for_each(|(name, value)| insert_named(response.headers_mut(), name, value));
        Ok(response)
    }
}

fn insert_named(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// The blob that an upload has become, if that is here.
fn blob_of(blobs: &Blobs, about: &About) -> Option<(BlobHash, u64, Lease)> {
    let whole = about.whole.as_ref()?;
    let hash = BlobHash::parse(&whole.hash)?;
    let lease = blobs.lease(hash);
    (blobs.len_of(&hash) == Some(whole.len)).then_some((hash, whole.len, lease))
}

/// Does what the first request asked for; `again` if that may have been done before.
async fn complete(peer: &Peer, who: Who, about: &About, blob: (BlobHash, u64, Lease), again: Option<&Whole>) -> Result<Response<Body>, Problem> {
    let mut request = Request::builder().method(Method::PUT).uri(&about.target);
    for (name, value) in &about.headers {
        request = request.header(name, value);
    }
    let (head, ()) = request.body(()).map_err(|error| malformed(error.to_string()))?.into_parts();
    let target = crate::target::Target::parse(&about.target).map_err(|error| malformed(error.to_string()))?;
    let (space, path, _) = crate::remote::reach(peer, &head.headers, &target.segments, &who, Verb::Write).await?;
    let mut ask = Ask { peer: peer.clone(), head, who, space, path, query: target.query, unread: Arc::default(), reader: None, sent: None };
    // It was written, and the peer stopped before it could say so: the conditions held then.
    if again.map_or(Ok(false), |whole| names(&ask, whole))? {
        ["if-match", "if-none-match"].iter().for_each(|name| drop(ask.head.headers.remove(*name)));
    }
    let mime = media_type(&ask)?;
    if let Some(digest) = digest_of(&ask.head.headers, REPR_DIGEST)? {
        let (blobs, hash) = (super::of(peer)?.clone(), blob.0);
        let found = beside(move || sha256_of(&blobs, hash)).await?.map_err(|error| save_problem(&SaveError::Io(error)))?;
        if found != digest {
            return Err(crate::write::digest_differs("the file"));
        }
    }
    refer(ask, blob, mime).await
}

fn sha256_of(blobs: &Blobs, hash: BlobHash) -> std::io::Result<[u8; 32]> {
    let blob = blobs.open_blob(hash)?.ok_or(std::io::ErrorKind::NotFound)?;
    let mut hasher = Sha256::new();
    for at in (0..blob.len()).step_by(PIECE_BYTES) {
        hasher.update(blob.read(at..at + PIECE_BYTES as u64).map_err(std::io::Error::other)?);
    }
    Ok(hasher.finalize().into())
}

/// Keeps the writer for the next part, whatever became of this one.
fn finish_part(peer: &Peer, slot: &mut Option<Writer>, poured: Result<Writer, (Option<Box<Writer>>, Problem)>) -> Result<(), Problem> {
    match poured {
        Ok(writer) => {
            *slot = Some(writer);
            Ok(())
        }
        Err((writer, problem)) => {
            *slot = writer.map(|writer| *writer);
            // Who was cut off because the peer is about to be restarted hears that.
            Err(peer.quiet.look().err().unwrap_or(problem))
        }
    }
}

/// Waits for whoever adds to an upload now, after telling him that his time is over.
async fn take_over(upload: &Upload) -> tokio::sync::MutexGuard<'_, Option<Writer>> {
    if let Ok(writer) = upload.writer.try_lock() {
        return writer;
    }
    loop {
        // Who has it may not be listening just now.
        upload.takeover.notify_waiters();
        if let Ok(writer) = tokio::time::timeout(TAKEOVER_PAUSE, upload.writer.lock()).await {
            return writer;
        }
    }
}

/// How much has come; opens the file if nobody has it open and there is more to come.
async fn length_now(blobs: &Blobs, upload: &Arc<Upload>, writer: &mut Option<Writer>) -> Result<u64, Problem> {
    if let Some(writer) = writer.as_ref() {
        return Ok(writer.len());
    }
    let about = upload.about();
    if let Some(whole) = &about.whole
        && (whole.answer.is_some() || blob_of(blobs, &about).is_some())
    {
        return Ok(whole.len);
    }
    let (blobs, upload) = (blobs.clone(), Arc::clone(upload));
    let opened = beside(move || {
        if let Some(len) = about.unchecked_from {
            blobs.cut_in(&upload.file, len)?;
        }
        let opened = blobs.resume_in(&upload.file)?;
        if about.unchecked_from.is_some() || about.whole.is_some() {
            upload.note(|about| (about.unchecked_from, about.whole) = (None, None)).map_err(timebus_store::blobs::SaveError::Io)?;
        }
        Ok(opened)
    });
    let opened = opened.await?.map_err(|error| save_problem(&error))?;
    Ok(writer.insert(opened).len())
}

/// The upload of this name, if there is one.
async fn open(peer: &Peer, id: &str) -> Result<Option<Arc<Upload>>, Problem> {
    let is_name = id.len() <= 64 && !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_name {
        return Ok(None);
    }
    if let Some(upload) = lock(&peer.uploads.0).get(id) {
        return Ok(Some(Arc::clone(upload)));
    }
    let file = folder(super::of(peer)?).join(id);
    let about_file = with_ending(&file);
    let Ok(bytes) = beside(move || std::fs::read(about_file)).await? else { return Ok(None) };
    let Ok(about) = serde_json::from_slice(&bytes) else { return Ok(None) };
    let upload = Arc::new(Upload { about: Mutex::new(about), file, writer: AsyncMutex::default(), takeover: Notify::new() });
    Ok(Some(Arc::clone(lock(&peer.uploads.0).entry(id.to_owned()).or_insert(upload))))
}

/// The name of the upload with the key, or of a new one.
fn find_or_make(blobs: &Blobs, folder: &std::path::Path, about: &About) -> Result<String, Problem> {
    let failed = |error: std::io::Error| save_problem(&timebus_store::blobs::SaveError::Io(error));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let (mut count, mut begun) = (0, None);
    for (name, found) in list(folder).map_err(failed)? {
        count += usize::from(found.whole.is_none());
        let is_same = about.key.is_some() && found.key == about.key && found.target == about.target && found.length == about.length;
        match found.answer() {
            // Under other conditions it is asked for anew.
            Some(_) if is_same && found.headers == about.headers => return Ok(name),
            None if is_same => begun = Some(name),
            _ => {}
        }
    }
    if let Some(name) = begun {
        return Ok(name);
    }
    if count >= UPLOADS_MAX {
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "uploads",
            "too many uploads are under way",
            format!("{UPLOADS_MAX} at once are possible"),
        )
        .with_fix("`timebus files` lists them; finish some, or `timebus files cancel PATH`; those that nothing is added to go after a week"));
    }
    let name = timebus_identity::z32::encode(&timebus_identity::random_bytes::<20>());
    let file = folder.join(&name);
    let mut writer = blobs.writer_in(&file).map_err(|error| save_problem(&error))?;
    writer.expect(about.length.unwrap_or(0)).map_err(|error| {
        remove(blobs, &file);
        save_problem(&error)
    })?;
    crate::files::write_whole(&with_ending(&file), &serde_json::to_vec(about).unwrap_or_default()).map_err(|error| {
        remove(blobs, &file);
        failed(error)
    })?;
    Ok(name)
}

fn list(folder: &std::path::Path) -> std::io::Result<Vec<(String, About)>> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let file = file?.path();
        let name = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(ABOUT)).map(str::to_owned);
        if let Some(name) = name
            && let Ok(bytes) = std::fs::read(&file)
            && let Ok(about) = serde_json::from_slice(&bytes)
        {
            found.push((name, about));
        }
    }
    Ok(found)
}

/// Ends an upload, whoever adds to it now.
async fn give_up(peer: &Peer, id: &str, upload: &Upload) -> Result<(), Problem> {
    let mut writer = take_over(upload).await;
    drop(writer.take());
    forget(peer, id, upload).await
}

/// Removes what is left of an upload.
async fn forget(peer: &Peer, id: &str, upload: &Upload) -> Result<(), Problem> {
    lock(&peer.uploads.0).remove(id);
    let (blobs, file) = (super::of(peer)?.clone(), upload.file.clone());
    beside(move || remove(&blobs, &file)).await
}

fn remove(blobs: &Blobs, file: &std::path::Path) {
    let _ = std::fs::remove_file(with_ending(file));
    if let Err(error) = blobs.remove_in(file) {
        tracing::warn!(%error, "what came of an upload could not be removed");
    }
}

/// Removes what is known of the uploads that ended first, if it is known of too many.
async fn forget_oldest(peer: &Peer) -> Result<(), Problem> {
    let blobs = super::of(peer)?.clone();
    let gone = beside(move || {
        let folder = folder(&blobs);
        let ended = list(&folder).unwrap_or_default().into_iter().filter(|(_, about)| about.whole.is_some());
        let mut ended: Vec<(SystemTime, String)> = ended.map(|(name, about)| (changed_at(&folder.join(&name), &about), name)).collect();
        ended.sort();
        ended.truncate(ended.len().saturating_sub(ENDED_MAX));
        ended.iter().for_each(|(_, name)| remove(&blobs, &folder.join(name)));
        ended
    });
    let gone = gone.await?;
    let mut uploads = lock(&peer.uploads.0);
    gone.iter().for_each(|(_, name)| drop(uploads.remove(name)));
    Ok(())
}

/// When something was added to an upload, or it ended.
fn changed_at(file: &std::path::Path, about: &About) -> SystemTime {
    let last = if about.whole.is_some() { with_ending(file) } else { file.to_owned() };
    std::fs::metadata(last).and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Removes uploads that nothing was added to for long.
pub(crate) async fn expire(peer: &Peer, missed_ms: u64) {
    let Some(blobs) = peer.store.blobs() else { return };
    let (folder, blobs) = (folder(blobs), blobs.clone());
    let busy: Vec<String> =
        lock(&peer.uploads.0).iter().filter(|(_, upload)| upload.writer.try_lock().is_err()).map(|(name, _)| name.clone()).collect();
    let gone = beside(move || {
        let mut gone = Vec::new();
        for (name, about) in list(&folder).unwrap_or_default() {
            let file = folder.join(&name);
            let changed = changed_at(&file, &about);
            let lifetime = if about.whole.is_some() { ENDED_LIFETIME } else { UPLOAD_LIFETIME };
            if missed_ms > 0 && about.whole.is_none() && !busy.contains(&name) {
                let open = std::fs::OpenOptions::new().write(true).open(&file);
                if let Err(error) = open.and_then(|open| open.set_modified(changed + Duration::from_millis(missed_ms))) {
                    tracing::warn!(%error, name, "an upload that was begun could not be kept longer");
                }
                continue;
            }
            if !busy.contains(&name) && changed.elapsed().is_ok_and(|since| since > lifetime) {
                remove(&blobs, &file);
                gone.push(name);
            }
        }
        gone
    });
    let gone = gone.await.unwrap_or_default();
    let mut uploads = lock(&peer.uploads.0);
    gone.iter().for_each(|name| drop(uploads.remove(name)));
}

fn folder(blobs: &Blobs) -> PathBuf {
    blobs.folder().join(UPLOADS)
}

fn with_ending(file: &std::path::Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ABOUT);
    name.into()
}

fn describe(headers: &mut HeaderMap, blobs: &Blobs, about: &About, offset: u64) {
    headers.insert("upload-complete", HeaderValue::from_static(if about.answer().is_some() { "?1" } else { "?0" }));
    headers.insert("upload-offset", HeaderValue::from(offset));
    if let Some(length) = about.length {
        headers.insert("upload-length", HeaderValue::from(length));
    }
    insert(headers, "upload-limit", &format!("max-size={}", blobs.limits().blob_bytes_max));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Problem> {
    match text(headers, name) {
        None => Ok(None),
        Some(value) => value.trim().parse().map(Some).map_err(|_| malformed(format!("{name}: {value:?} is not a number"))),
    }
}

fn malformed(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "upload", "this is not how an upload goes on", detail)
}

fn gone(id: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "upload", "there is no such upload", format!("{id} is over, was given up, or is too old"))
        .with_fix("begin again with a PUT that has `Upload-Complete: ?0`")
}
