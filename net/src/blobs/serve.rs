//! Files handed out: checked while they are read, by ranges, and so that a browser shows them but never runs them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use timebus_store::blobs::partial::{PIECE_BYTES as PIECE, Partial, pieces_of};
use timebus_store::blobs::{Blob, BlobHash, Blobs, Damage, SaveError};
use timebus_store::summary::summary;
use timebus_store::tree::{Shape, Tree};
use timebus_store::value::{Mime, Value};

use super::PIECE_BYTES;
use super::fetch::{Fetch, named};
use super::named::belongs;
use super::wishes::Wishes;
use crate::accept::{Mime as Media, negotiate};
use crate::body::Body;
use crate::byte_range::{ByteRange, content_range, content_range_unsatisfiable, parse_range};
use crate::problem::Problem;
use crate::read::insert;
use crate::route::{Ask, storage_problem};
use crate::target::View;
use crate::who::{Who, text};

/// How long nothing may come of a blob that somebody has.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Stretches that are told of what is here of a file; there may be as many as half its pieces.
const HERE_RANGES_MAX: usize = 64;

/// A blob that a request asks for as what it is, not as the JSON that names it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) hash: BlobHash,
    len: u64,
    mime: Mime,
    /// Which change names it.
    a: u64,
}

impl Wanted {
    /// Of a value and the media types that the caller takes.
    pub(crate) fn of(ask: &Ask, tree: &Tree) -> Option<Self> {
        if ask.query.view == View::All || tree.shape() != Shape::Scalar {
            return None;
        }
        let write = tree.writes.first()?;
        let Value::Blob { hash, len, mime } = &write.value else { return None };
        let own = Media::parse(mime.as_str()).unwrap_or(Media::BYTES);
        let offers = [own.clone(), Media::JSON];
        let chosen = negotiate(text(&ask.head.headers, header::ACCEPT), &offers).unwrap_or(&own);
        (*chosen == own).then(|| Self { hash: BlobHash::from_bytes(*hash), len: *len, mime: mime.clone(), a: write.a })
    }

    /// Whether what is here of it may be handed out to who asks: see [`super::named`].
    fn is_for(&self, ask: &Ask) -> Result<bool, Problem> {
        if ask.who.is_owner() {
            return Ok(true);
        }
        let store = ask.peer.store();
        // Files of others that the owner keeps back go to nobody, whichever way they are asked for.
        if ask.who.is_guest() && ask.space.key != store.space() && !Wishes::of(&ask.peer).hands_on(&ask.space.key) {
            return Ok(false);
        }
        let own = summary(&*store.snapshot(), ask.space.main(), self.a).map_err(|error| storage_problem(&error))?;
        Ok(belongs(store, &self.hash, &store.timeline(ask.space), &own.author))
    }

    /// Its entity tag: who has the content knows that it is the same.
    pub(crate) fn tag(&self) -> String {
        format!("\"{}\"", self.hash)
    }
}

/// Adds a blob to an answer that has its other headers.
pub(crate) fn serve(ask: &Ask, mut response: Response<Body>, wanted: &Wanted) -> Result<Response<Body>, Problem> {
    let blob = if wanted.is_for(ask)? {
        super::of(&ask.peer)?.open_blob(wanted.hash).map_err(|error| damaged(ask, wanted, &Damage::Io(error)))?
    } else {
        None
    };
    let Some(blob) = blob else {
        if ask.head.method == Method::HEAD {
            media_headers(ask, response.headers_mut(), wanted.mime.as_str());
            insert(response.headers_mut(), SOURCE, "not here");
            if let Some(here) = bytes_here(ask, wanted)? {
                response.headers_mut().insert(HERE, HeaderValue::from(here));
            }
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(wanted.len));
            return Ok(response);
        }
        response.extensions_mut().insert(wanted.clone());
        return Ok(response);
    };
    ask.peer.uses.count(wanted.hash);
    if blob.len() != wanted.len {
        // The writer said another length than the hash stands for; the hash counts.
        tracing::debug!(hash = %wanted.hash, said = wanted.len, is = blob.len(), "a value says a wrong length");
    }
    let len = blob.len();
    media_headers(ask, response.headers_mut(), wanted.mime.as_str());
    let Some(range) = ranged(&ask.head, &wanted.tag(), &mut response, len) else { return Ok(response) };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if ask.head.method != Method::HEAD {
        *response.body_mut() = body(super::of(&ask.peer)?, blob, range).map_err(|damage| damaged(ask, wanted, &damage))?;
    }
    Ok(response)
}

/// The range that is asked for, with the headers that say so; `None` if there is no such range. `tag` is the entity tag. Nothing but
/// GET has ranges (RFC 9110 §14.2).
pub(crate) fn ranged(asked: &http::request::Parts, tag: &str, response: &mut Response<Body>, len: u64) -> Option<Range<u64>> {
    let range = match text(&asked.headers, header::RANGE) {
        Some(range) if asked.method == Method::GET && if_range_holds(&asked.headers, tag) => parse_range(range, len),
        _ => ByteRange::Whole,
    };
    match range {
        ByteRange::Whole => Some(0..len),
        ByteRange::Satisfiable(range) => {
            insert(response.headers_mut(), header::CONTENT_RANGE.as_str(), &content_range(&range, len));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            Some(range)
        }
        ByteRange::Unsatisfiable => {
            insert(response.headers_mut(), header::CONTENT_RANGE.as_str(), &content_range_unsatisfiable(len));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            None
        }
    }
}

/// Says where the bytes of an answer come from, if not from here.
const SOURCE: &str = "timebus-blob";
/// Says how many bytes are here of a file that is not all here.
const HERE: &str = "timebus-bytes-here";

/// How much is here of a file that is not all here; nothing is told to those for whom the rest would not be fetched.
fn bytes_here(ask: &Ask, wanted: &Wanted) -> Result<Option<u64>, Problem> {
    if !(ask.who.is_owner() || matches!(ask.who, Who::App(_))) || !wanted.is_for(ask)? {
        return Ok(None);
    }
    let blobs = super::of(&ask.peer)?;
    let part = if blobs.has_partial(&wanted.hash) { blobs.open_partial(&wanted.hash) } else { None };
    Ok(Some(part.map_or(0, |part| part.bytes_here())))
}

/// Where [`serve`] found that the bytes are not here: gets them from others, and hands them on as they come.
pub(crate) async fn from_others(ask: &Ask, mut response: Response<Body>) -> Result<Response<Body>, Problem> {
    let Some(wanted) = response.extensions_mut().remove::<Wanted>() else { return Ok(response) };
    // For guests nothing is fetched: it is the owner's disk and line.
    let is_guest = !ask.who.is_owner() && !matches!(ask.who, Who::App(_));
    if is_guest {
        return Err(missing(ask, &wanted));
    }
    let Some(network) = ask.peer.network() else { return from_part(ask, response, &wanted, missing(ask, &wanted)).await };
    if let Err(why) = network.blobs().may_fetch(&wanted.hash) {
        return from_part(ask, response, &wanted, super::stuck_problem(&why, wanted.hash)).await;
    }
    let fetching = network.blobs().fetch(&ask.peer.store, ask.space, wanted.hash, wanted.len).await;
    let mut fetch = match fetching {
        // What is here needs no room.
        Err(error @ (SaveError::Full { .. } | SaveError::OverTotal { .. })) => {
            let refused = super::save_problem(&error).with_fix("free space, as with `timebus files free`, then read it again");
            return from_part(ask, response, &wanted, refused).await;
        }
        fetching => fetching.map_err(|error| super::save_problem(&error))?.ok_or_else(|| missing(ask, &wanted))?,
    };
    media_headers(ask, response.headers_mut(), wanted.mime.as_str());
    let Some(range) = ranged(&ask.head, &wanted.tag(), &mut response, wanted.len) else { return Ok(response) };
    let piece_of = |at: u64| u32::try_from(at / PIECE).unwrap_or(u32::MAX);
    let first = piece_of(range.start);
    // Of a part, also of the rest of what was cut off, the order of reading counts. Who plays a film asks for the range of all of it.
    let in_order = response.status() == StatusCode::PARTIAL_CONTENT;
    fetch.reads(first..piece_of(range.end.saturating_sub(1)) + 1, in_order);
    let mut is_here = fetch.piece(first, crate::remote::patience(&ask.head.headers)).await;
    if !is_here && !fetch.progress.borrow().sources.is_empty() {
        // Somebody has it and is slow.
        is_here = fetch.piece(first, STALL_MAX).await;
    }
    if !is_here {
        return Err(crate::remote::denied(&ask.peer, ask.space.key).await.unwrap_or_else(|| unavailable(ask, &wanted, &fetch)));
    }
    ask.peer.uses.count(wanted.hash);
    let sources = fetch.progress.borrow().sources.clone();
    // Where the beginning is here already, it may not be known yet who has the rest.
    let from = if sources.is_empty() { "others".to_owned() } else { named(&sources) };
    insert(response.headers_mut(), SOURCE, &format!("from {from}"));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    let stream = futures_util::stream::unfold((fetch, range.start), move |(mut fetch, at)| {
        let end = range.end;
        async move {
            if at >= end {
                return None;
            }
            let piece = piece_of(at);
            // The first piece is here, so that it is worth waiting for the rest; the length was promised.
            let Some(bytes) = fetch.read(piece, STALL_MAX).await else {
                tracing::warn!(hash = %fetch.partial.hash(), at, "a file that others have was cut short");
                return None;
            };
            let begin = u64::from(piece) * PIECE;
            let until = end.min(begin + bytes.len() as u64);
            let bytes = Bytes::from(bytes).slice((at - begin) as usize..(until - begin) as usize);
            // What lies before need not come first any more.
            fetch.reads(piece + 1..piece_of(end.saturating_sub(1)) + 1, in_order);
            Some((bytes, (fetch, until)))
        }
    });
    *response.body_mut() = Body::stream(stream);
    Ok(response)
}

/// Of a file that does not come now, hands out what is asked for if all of that is here.
async fn from_part(ask: &Ask, mut response: Response<Body>, wanted: &Wanted, refused: Problem) -> Result<Response<Body>, Problem> {
    if !wanted.is_for(ask)? {
        return Err(refused);
    }
    let (blobs, hash) = (super::of(&ask.peer)?.clone(), wanted.hash);
    let len = wanted.len;
    let part = super::beside(move || blobs.open_partial_of(&hash, len)).await?;
    let Some(part) = part else { return Err(refused) };
    media_headers(ask, response.headers_mut(), wanted.mime.as_str());
    let Some(range) = ranged(&ask.head, &wanted.tag(), &mut response, wanted.len) else { return Ok(response) };
    let piece_of = |at: u64| u32::try_from(at / PIECE).unwrap_or(u32::MAX);
    let pieces = piece_of(range.start)..piece_of(range.end.saturating_sub(1)) + 1;
    if let Some(piece) = pieces.clone().find(|piece| !part.has(*piece)) {
        return Err(lacking(refused, &part, range.start.max(u64::from(piece) * PIECE)));
    }
    let Some(first) = read_part(&part, pieces.start).await else { return Err(lacking(refused, &part, range.start)) };
    ask.peer.uses.count(wanted.hash);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    let cut = move |piece: u32, bytes: Vec<u8>| {
        let (begin, end) = (u64::from(piece) * PIECE, u64::from(piece) * PIECE + bytes.len() as u64);
        Bytes::from(bytes).slice((range.start.max(begin) - begin) as usize..(range.end.min(end) - begin) as usize)
    };
    let stream = futures_util::stream::unfold((part, pieces.start, Some(first)), move |(part, piece, ready)| {
        let (end, cut) = (pieces.end, cut);
        async move {
            let bytes = match ready {
                Some(bytes) => bytes,
                None if piece < end => read_part(&part, piece).await?,
                None => return None,
            };
            Some((cut(piece, bytes), (part, piece + 1, None)))
        }
    });
    *response.body_mut() = Body::stream(stream);
    Ok(response)
}

/// A piece of a file of which a part is here. If it is damaged, it is not here any more.
async fn read_part(part: &Arc<Partial>, piece: u32) -> Option<Vec<u8>> {
    let reading = Arc::clone(part);
    let read =
        tokio::task::spawn_blocking(move || reading.bytes(piece).inspect_err(|damage| super::fetch::lose(&reading, piece, damage))).await.ok()?;
    read.inspect_err(|damage| tracing::error!(hash = %part.hash(), %damage, "a part of a file is damaged, and has to come again")).ok()
}

/// Why what is asked for of a file is not handed out, with what is here of it and the first byte that is missing.
fn lacking(refused: Problem, part: &Partial, missing_from: u64) -> Problem {
    let here = part.bytes_here();
    let detail = format!("{}; byte {missing_from} is the first that is missing, {here} of {} are here", refused.detail, part.len());
    let ranges = serde_json::json!(here_ranges(part));
    Problem { detail, ..refused }.with("bytes_total", part.len()).with("bytes_here", here).with("missing_from", missing_from).with("here", ranges)
}

/// The first stretches of bytes that are here, each from its first byte to behind its last one.
fn here_ranges(part: &Partial) -> Vec<[u64; 2]> {
    let mut ranges: Vec<[u64; 2]> = Vec::new();
    for piece in (0..u32::try_from(pieces_of(part.len())).unwrap_or(u32::MAX)).filter(|piece| part.has(*piece)) {
        let (begin, end) = (u64::from(piece) * PIECE, (u64::from(piece + 1) * PIECE).min(part.len()));
        if let Some(last) = ranges.last_mut().filter(|last| last[1] == begin) {
            last[1] = end;
        } else if ranges.len() < HERE_RANGES_MAX {
            ranges.push([begin, end]);
        } else {
            break;
        }
    }
    ranges
}

/// Nobody who is there has the bytes.
fn unavailable(ask: &Ask, wanted: &Wanted, fetch: &Fetch) -> Problem {
    let progress = fetch.progress.borrow().clone();
    if let Some(why) = progress.problem {
        return super::stuck_problem(&why, wanted.hash);
    }
    let detail = format!(
        "{} names {} bytes ({}) that are not here; {} connected peers were asked, and what is missing has {}",
        ask.path,
        wanted.len,
        wanted.hash,
        progress.asked,
        named(&progress.sources)
    );
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "blob-unavailable", "nobody who has these bytes is there", detail)
        .with_fix("ask again later, or with `Prefer: wait=60`; `timebus peers` says who is connected; what has come is kept")
        .with("blob", wanted.hash.to_string())
        .with("bytes_total", wanted.len)
        .with("asked", progress.asked)
        .with("sources", progress.sources)
}

/// Streams a range. The first piece is read before anything is answered, so that damage there has an answer of its
/// own; damage further on cuts the stream, and the client sees that bytes are missing.
fn body(blobs: &Blobs, blob: Blob, range: Range<u64>) -> Result<Body, Damage> {
    let piece = |at: u64| at..range.end.min(at - at % PIECE_BYTES as u64 + PIECE_BYTES as u64);
    let first = piece(range.start);
    let bytes = blob.read(first.clone())?;
    if first.end == range.end {
        return Ok(Body::ready(bytes));
    }
    let (blobs, blob) = (blobs.clone(), Arc::new(blob));
    let end = range.end;
    let stream = futures_util::stream::unfold((blob, first.end, Some(Bytes::from(bytes))), move |(blob, at, ready)| {
        let blobs = blobs.clone();
        async move {
            if let Some(bytes) = ready {
                return Some((bytes, (blob, at, None)));
            }
            if at >= end {
                return None;
            }
            let next = end.min(at + PIECE_BYTES as u64);
            let reading = Arc::clone(&blob);
            match tokio::task::spawn_blocking(move || reading.read(at..next)).await {
                Ok(Ok(bytes)) => Some((Bytes::from(bytes), (blob, next, None))),
                Ok(Err(damage)) => {
                    tracing::error!(hash = %blob.hash(), %damage, "a file was cut short");
                    mend(&blobs, blob.hash(), &damage);
                    None
                }
                Err(_) => None,
            }
        }
    });
    Ok(Body::stream(stream))
}

/// The headers with which stored media is served: a browser shows it, and runs nothing of it.
pub(crate) fn media_headers(ask: &Ask, headers: &mut HeaderMap, mime: &str) {
    insert(headers, header::CONTENT_TYPE.as_str(), mime);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !is_passive(mime) && ask.query.view != View::Raw {
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
}

/// Whether a browser only shows what has this media type. What is not known to be passive is offered for saving.
fn is_passive(mime: &str) -> bool {
    let mime = mime.to_ascii_lowercase();
    let essence = mime.split(';').next().unwrap_or_default().trim();
    match essence.split_once('/') {
        Some(("image", kind)) => !kind.contains("svg") && !kind.contains("xml"),
        Some(("audio" | "video" | "font", kind)) => !kind.contains("xml"),
        _ => matches!(essence, "text/plain" | "text/markdown" | "text/csv" | "application/json" | "application/octet-stream"),
    }
}

/// Whether a range may be served (RFC 9110 §13.1.5): if the caller's copy is of the same content.
fn if_range_holds(headers: &HeaderMap, tag: &str) -> bool {
    match headers.get(header::IF_RANGE) {
        None => true,
        Some(value) => value.as_bytes().trim_ascii() == tag.as_bytes(),
    }
}

/// The value is known and its bytes are not here.
fn missing(ask: &Ask, wanted: &Wanted) -> Problem {
    let detail = format!("{} names {} bytes ({}) that are not on this peer", ask.path, wanted.len, wanted.hash);
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "blob-missing", "the bytes of this file are not here", detail)
        .with_fix("put the file again, or restore it from a backup; with `Accept: application/json` the value that names it is shown")
        .with("blob", wanted.hash.to_string())
        .with("bytes_total", wanted.len)
}

/// Lets what is damaged of a file come again from others who have it.
pub(super) fn mend(blobs: &Blobs, hash: BlobHash, damage: &Damage) {
    match damage {
        Damage::Io(error) => mend_if_unreadable(blobs, hash, error),
        _ => look_through(blobs, hash),
    }
}

/// Makes anew what the bytes of a file are checked by, if it is that which cannot be read. Where there is nothing to open files with,
/// nothing is wrong with this one.
pub(super) fn mend_if_unreadable(blobs: &Blobs, hash: BlobHash, error: &std::io::Error) {
    if !crate::files::are_too_many_open(error) {
        look_through(blobs, hash);
    }
}

fn look_through(blobs: &Blobs, hash: BlobHash) {
    let blobs = blobs.clone();
    tokio::task::spawn_blocking(move || match blobs.break_up_in_time(&hash, std::time::Instant::now()) {
        Ok(true) => tracing::warn!(%hash, "what is damaged of a file has to come again"),
        Ok(false) => {}
        Err(error) => tracing::error!(%hash, %error, "a damaged file could not be looked through"),
    });
}

fn damaged(ask: &Ask, wanted: &Wanted, damage: &Damage) -> Problem {
    if let Damage::Io(error) = damage
        && crate::files::are_too_many_open(error)
    {
        return super::too_many_open(format!("{}: {error}", wanted.hash));
    }
    if let (Some(_), Ok(blobs)) = (ask.peer.network(), super::of(&ask.peer)) {
        mend(blobs, wanted.hash, damage);
    }
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "blob-damaged", "the bytes of this file are damaged", format!("{}: {damage}", wanted.hash))
        .with_fix("ask again: what is damaged is fetched from others who have the file; if nobody has, putting it again mends it")
        .with("blob", wanted.hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passive_media_is_shown() {
        for shown in ["image/png", "IMAGE/JPEG", "video/mp4", "audio/ogg; codecs=opus", "text/plain; charset=utf-8", "font/woff2"] {
            assert!(is_passive(shown), "{shown}");
        }
        let saved =
            ["text/html", "TEXT/HTML", " text/html ;x", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/pdf", "text/javascript"];
        for saved in saved.into_iter().chain(["application/wasm", "multipart/x-mixed-replace", "message/rfc822", "x", "", "image", "model/x3d+xml"]) {
            assert!(!is_passive(saved), "{saved}");
        }
    }
}
