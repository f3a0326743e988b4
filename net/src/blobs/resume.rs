//! Files that come in several requests, and go on where they were cut off.
//!
//! In the shape of the IETF's resumable uploads (draft-ietf-httpbis-resumable-upload): a PUT with `Upload-Complete: ?0`
//! begins one and is answered with its place below `/.sys/uploads/`; PATCH appends there, HEAD says how much has come,
//! DELETE gives it up. The last PATCH does what the PUT would have done. Interim answers (104) are not sent, so a client
//! that wants to resume begins with an empty PUT. With `Idempotency-Key` the same PUT finds the upload that it began,
//! also after both sides were started anew.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use timebus_store::blobs::{Blobs, UPLOADS, Writer};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::upload::{media_type, pour, refer};
use super::{beside, save_problem};
use crate::authority::Verb;
use crate::body::{Body, BodyReader};
use crate::peer::{Peer, lock};
use crate::problem::Problem;
use crate::read::insert;
use crate::route::Ask;
use crate::who::{Who, text};

/// Uploads at once; each holds a place in a folder and, while bytes come, a few pieces in memory.
const UPLOADS_MAX: usize = 256;
/// How long an upload to which nothing is added is kept.
const UPLOAD_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes of an `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 256;
/// How often whoever has an upload open is told that it is somebody else's turn.
const TAKEOVER_PAUSE: Duration = Duration::from_millis(100);
/// Ends the name of the file that says what an upload is for.
const ABOUT: &str = ".json";
/// Headers of the first request that count when the last one comes.
const KEPT_HEADERS: [&str; 8] = ["content-type", "if-match", "if-none-match", "parents", "version", "prefer", "put-mode", "merge-type"];

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
}

/// One upload.
struct Upload {
    about: About,
    file: PathBuf,
    /// Who adds to it; nothing until somebody does, and again once it is over.
    writer: AsyncMutex<Option<Writer>>,
    /// Told when somebody else wants to add: the connection before is taken for broken.
    takeover: Notify,
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

/// Whether a request begins an upload.
pub(crate) fn is_begin(head: &http::request::Parts) -> bool {
    text(&head.headers, "upload-complete").is_some_and(|complete| complete.trim() == "?0")
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
    let key = text(headers, "idempotency-key").map(str::to_owned);
    if key.as_ref().is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        return Err(malformed(format!("an Idempotency-Key has at most {KEY_BYTES_MAX} bytes")));
    }
    let length = number(headers, "upload-length")?;
    let target = ask.head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let kept = KEPT_HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), text(headers, *name)?.to_owned()))).collect();
    let about = About { target, headers: kept, key, length };
    let folder = folder(&blobs);
    let found = {
        let (about, folder, blobs) = (about.clone(), folder.clone(), blobs.clone());
        beside(move || find_or_make(&blobs, &folder, &about)).await??
    };
    let upload = open(&ask.peer, &found).await?.ok_or_else(|| gone(&found))?;
    let mut body = BodyReader::new(body);
    let mut check = ask.who.body_check();
    let first = body.next().await?.unwrap_or_default();
    // The connection over which it was begun before may be broken, and nobody heard of it.
    let mut writer = take_over(&upload).await;
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
        let poured = pour(begun, BytesMut::from(&first[..]), &mut body, &mut check, u64::MAX, &upload.takeover).await;
        finish_part(&ask.peer, &mut writer, poured)?;
    }
    let offset = length_now(&blobs, &upload, &mut writer).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    insert(response.headers_mut(), header::LOCATION.as_str(), &format!("/.sys/uploads/{found}"));
    describe(response.headers_mut(), &blobs, &upload.about, offset);
    Ok(response)
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
            describe(response.headers_mut(), &blobs, &upload.about, offset);
            Ok(response)
        }
        Method::DELETE => {
            let mut writer = take_over(&upload).await;
            drop(writer.take());
            forget(peer, id, &upload).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Method::PATCH => outlive(append(peer.clone(), who, head.headers, body, id.to_owned(), upload)).await,
        _ => Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "uploads take HEAD, PATCH and DELETE", "PATCH adds bytes to an upload")),
    }
}

async fn append(peer: Peer, who: Who, headers: HeaderMap, body: Incoming, id: String, upload: Arc<Upload>) -> Result<Response<Body>, Problem> {
    let (peer, headers, id, upload) = (&peer, &headers, &id[..], &*upload);
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
    let mut check = who.body_check();
    let mut writer = take_over(upload).await;
    let have = length_now(&blobs, upload, &mut writer).await?;
    if have != offset {
        let detail = format!("{have} bytes have come, these are for {offset}");
        return Err(Problem::new(StatusCode::CONFLICT, "upload-offset", "these bytes do not follow those that came before", detail)
            .with_fix("ask with HEAD where to go on")
            .with("expected-offset", have)
            .with("provided-offset", offset));
    }
    let mut begun = writer.take().ok_or_else(|| gone(id))?;
    let mut body = BodyReader::new(body);
    if let Some(length) = upload.about.length
        && let Some(coming) = body.announced()
        && offset.saturating_add(coming) > length
    {
        *writer = Some(begun);
        return Err(malformed(format!("the upload was to have {length} bytes, and would have {}", offset + coming)));
    }
    if let Err(error) = begun.expect(body.announced().map_or(offset, |coming| offset + coming)) {
        *writer = Some(begun);
        return Err(save_problem(&error));
    }
    let poured = pour(begun, BytesMut::new(), &mut body, &mut check, u64::MAX, &upload.takeover).await;
    finish_part(peer, &mut writer, poured)?;
    let offset = length_now(&blobs, upload, &mut writer).await?;
    check.finish()?;
    if !is_last {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        describe(response.headers_mut(), &blobs, &upload.about, offset);
        return Ok(response);
    }
    if upload.about.length.is_some_and(|length| length != offset) {
        return Err(malformed(format!("the upload was to have {} bytes, and has {offset}", upload.about.length.unwrap_or(0))));
    }
    let done = writer.take().ok_or_else(|| gone(id))?;
    let blob = beside(move || done.finish()).await?.map_err(|error| save_problem(&error))?;
    let response = complete(peer, who, upload, blob).await;
    // Where the value was refused the bytes are collected like any that nothing refers to.
    forget(peer, id, upload).await?;
    let mut response = response?;
    response.headers_mut().insert("upload-complete", HeaderValue::from_static("?1"));
    Ok(response)
}

/// Does what the first request asked for.
async fn complete(
    peer: &Peer,
    who: Who,
    upload: &Upload,
    blob: (timebus_store::blobs::BlobHash, u64, timebus_store::blobs::Lease),
) -> Result<Response<Body>, Problem> {
    let mut request = Request::builder().method(Method::PUT).uri(&upload.about.target);
    for (name, value) in &upload.about.headers {
        request = request.header(name, value);
    }
    let (head, ()) = request.body(()).map_err(|error| malformed(error.to_string()))?.into_parts();
    let target = crate::target::Target::parse(&upload.about.target).map_err(|error| malformed(error.to_string()))?;
    let (space, path, _) = crate::remote::reach(peer, &head.headers, &target.segments, &who, Verb::Write).await?;
    let ask = Ask { peer: peer.clone(), head, who, space, path, query: target.query, unread: Arc::default(), reader: None };
    let mime = media_type(&ask)?;
    refer(ask, blob, mime).await
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

/// How much has come; opens the file if nobody has it open.
async fn length_now(blobs: &Blobs, upload: &Upload, writer: &mut Option<Writer>) -> Result<u64, Problem> {
    if writer.is_none() {
        let (blobs, file) = (blobs.clone(), upload.file.clone());
        let opened = beside(move || blobs.resume_in(&file)).await?;
        *writer = Some(opened.map_err(|error| save_problem(&error))?);
    }
    Ok(writer.as_ref().map_or(0, Writer::len))
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
    let upload = Arc::new(Upload { about, file, writer: AsyncMutex::default(), takeover: Notify::new() });
    Ok(Some(Arc::clone(lock(&peer.uploads.0).entry(id.to_owned()).or_insert(upload))))
}

/// The name of the upload with the key, or of a new one.
fn find_or_make(blobs: &Blobs, folder: &std::path::Path, about: &About) -> Result<String, Problem> {
    let failed = |error: std::io::Error| save_problem(&timebus_store::blobs::SaveError::Io(error));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut count = 0;
    for (name, found) in list(folder).map_err(failed)? {
        if about.key.is_some() && found.key == about.key && found.target == about.target && found.length == about.length {
            return Ok(name);
        }
        count += 1;
    }
    if count >= UPLOADS_MAX {
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "uploads",
            "too many uploads are under way",
            format!("{UPLOADS_MAX} at once are possible"),
        )
        .with_fix("finish or DELETE some; those that nothing is added to go after a week"));
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

/// Removes uploads that nothing was added to for long.
pub(crate) async fn expire(peer: &Peer, missed_ms: u64) {
    let Some(blobs) = peer.store.blobs() else { return };
    let (folder, blobs) = (folder(blobs), blobs.clone());
    let busy: Vec<String> =
        lock(&peer.uploads.0).iter().filter(|(_, upload)| upload.writer.try_lock().is_err()).map(|(name, _)| name.clone()).collect();
    let gone = beside(move || {
        let mut gone = Vec::new();
        for (name, _) in list(&folder).unwrap_or_default() {
            let file = folder.join(&name);
            let changed = std::fs::metadata(&file).and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if missed_ms > 0 && !busy.contains(&name) {
                let open = std::fs::OpenOptions::new().write(true).open(&file);
                if let Err(error) = open.and_then(|open| open.set_modified(changed + Duration::from_millis(missed_ms))) {
                    tracing::warn!(%error, name, "an upload that was begun could not be kept longer");
                }
                continue;
            }
            if !busy.contains(&name) && changed.elapsed().is_ok_and(|since| since > UPLOAD_LIFETIME) {
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
    headers.insert("upload-complete", HeaderValue::from_static("?0"));
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
