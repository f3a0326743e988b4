//! A file that comes in one request.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Method, Response, StatusCode, header};
use hyper::body::Incoming;
use timebus_store::blobs::{BlobHash, Lease, SaveError, Writer};
use timebus_store::json::Json;
use timebus_store::node::{Node, node_key};
use timebus_store::store::StorageError;
use timebus_store::value::{INLINE_BYTES_MAX, Mime, Value};
use timebus_store::writer::Action;
use tokio::sync::Notify;

use super::{PIECE_BYTES, beside, save_problem};
use crate::accept::Mime as Media;
use crate::authority::Verb;
use crate::body::{Body, BodyReader};
use crate::ledger::Hosts;
use crate::peer::{Of, OriginCount};
use crate::problem::Problem;
use crate::route::{Ask, storage_problem};
use crate::who::{BodyCheck, CONTENT_DIGEST, REPR_DIGEST, Who, text};
use crate::write;

/// Whether a request brings a file: PUT or POST with a media type that is neither JSON nor a text that merges.
pub(crate) fn is_file(head: &http::request::Parts) -> bool {
    let headers = &head.headers;
    if !matches!(head.method, Method::PUT | Method::POST) || headers.contains_key("patches") || headers.contains_key(header::CONTENT_RANGE) {
        return false;
    }
    let Some(media) = text(headers, header::CONTENT_TYPE).and_then(|kind| Media::parse(kind).ok()) else { return false };
    let essence = media.essence();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    !is_json && !matches!(essence, "" | "application/x-www-form-urlencoded" | "application/timebus-ops" | "text/plain" | "text/markdown")
}

/// Takes a file: a small one becomes a value like any other, a large one a blob that the value names.
pub(crate) async fn take(ask: Ask, body: Incoming) -> Result<Response<Body>, Problem> {
    ask.peer.others().has_time(ask.reader)?;
    let mut check = ask.who.body_check(&ask.head.headers, &[CONTENT_DIGEST, REPR_DIGEST])?;
    // Who waits to be told that he may send is told that he need not.
    if ask.head.headers.contains_key(header::EXPECT)
        && let Some(refusal) = write::fails_already(&ask).await?
    {
        return Ok(refusal);
    }
    let mut body = BodyReader::new(body);
    if let Some(len) = body.announced().filter(|len| *len > INLINE_BYTES_MAX as u64) {
        crate::behalf::check_limit(&ask.peer, &ask.who, ask.space, &ask.path, len)?;
        crate::route::ask_room(&ask.peer, &ask.who, &ask.space.key, len)?;
    }
    let mut first = BytesMut::new();
    while first.len() <= INLINE_BYTES_MAX {
        let Some(bytes) = body.next().await? else {
            check.update(&first);
            check.finish()?;
            let _writing = crate::route::begin_for_guest(&ask)?;
            crate::route::is_wanted(&ask.peer, &ask.who, &ask.space.key)?;
            return write::answer(ask, first.freeze()).await;
        };
        first.extend_from_slice(&bytes);
    }
    let mime = media_type(&ask)?;
    let blobs = super::of(&ask.peer)?.clone();
    let announced = body.announced().map(|rest| rest + first.len() as u64);
    let is_guest = !ask.who.is_owner() && !matches!(ask.who, Who::App(_));
    let max = if is_guest { ask.peer.config.body_bytes_max as u64 } else { u64::MAX };
    if announced.is_some_and(|announced| announced > max) {
        return Err(save_problem(&SaveError::TooLarge { max }));
    }
    // Whoever does not say how much it is brings no more than there is room for.
    let (ledger, payer) = (ask.peer.ledger(), ask.who.payer());
    let hosts = payer.as_ref().map_or_else(Hosts::default, |payer| ledger.hosts(ask.peer.store(), &ask.space.key, payer));
    let room = payer.as_ref().map_or(u64::MAX, |payer| ledger.room(payer, &hosts));
    let counted = ask.who.guest().into_iter().chain(hosts.members.clone()).map(|key| ask.peer.count_origin(Of::Uploads, &key.to_string()));
    let _counted: Vec<OriginCount> = counted.collect::<Result<_, _>>()?;
    if ask.who.guest().is_none() {
        super::make_room(&ask.peer, announced.unwrap_or(0)).await;
    }
    let writer = beside(move || {
        let mut writer = blobs.writer()?;
        announced.map_or(Ok(()), |len| writer.expect(len))?;
        Ok(writer)
    });
    let writer = writer.await?.map_err(|error| save_problem(&error))?;
    // What a guest sends slowly keeps nobody from restarting the peer.
    let cut = if ask.who.guest().is_some() { ask.peer.quiet.cut() } else { Arc::default() };
    let writer = match pour(writer, first, &mut body, &mut check, max.min(room), &cut).await {
        Ok(writer) => writer,
        Err((_, problem)) if room < max && problem.status == StatusCode::PAYLOAD_TOO_LARGE => {
            crate::route::ask_room(&ask.peer, &ask.who, &ask.space.key, room.saturating_add(1))?;
            return Err(problem);
        }
        Err((_, problem)) => return Err(ask.peer.quiet.look().err().unwrap_or(problem)),
    };
    check.finish()?;
    let _writing = crate::route::begin_for_guest(&ask)?;
    let blob = beside(move || writer.finish()).await?.map_err(|error| save_problem(&error))?;
    refer(ask, blob, mime).await
}

/// Writes what `first` holds and what comes after it, at most `max` bytes, until `enough` is told. What was written is handed back also
/// when it ends early.
pub(super) async fn pour(
    mut writer: Writer,
    first: BytesMut,
    body: &mut BodyReader,
    check: &mut BodyCheck,
    max: u64,
    enough: &Notify,
) -> Result<Writer, (Option<Box<Writer>>, Problem)> {
    let mut piece = first;
    let mut problem = None;
    let mut is_over = false;
    while !is_over {
        while piece.len() < PIECE_BYTES {
            let next = tokio::select! {
                next = body.next() => next,
                () = enough.notified() => Err(Problem::new(StatusCode::CONFLICT, "upload", "another request goes on with this upload", "it was begun later")),
            };
            match next {
                Ok(Some(bytes)) => piece.extend_from_slice(&bytes),
                Ok(None) => {
                    is_over = true;
                    break;
                }
                Err(error) => {
                    problem = Some(error);
                    is_over = true;
                    break;
                }
            }
        }
        if piece.is_empty() {
            continue;
        }
        let bytes: Bytes = piece.split().freeze();
        if writer.len() + bytes.len() as u64 > max {
            return Err((Some(Box::new(writer)), save_problem(&SaveError::TooLarge { max })));
        }
        check.update(&bytes);
        let written = beside(move || {
            let result = writer.write(&bytes);
            (writer, result)
        });
        let (back, result) = written.await.map_err(|problem| (None, problem))?;
        writer = back;
        if let Err(error) = result {
            return Err((Some(Box::new(writer)), save_problem(&error)));
        }
    }
    match problem {
        None => Ok(writer),
        Some(problem) => Err((Some(Box::new(writer)), problem)),
    }
}

/// Writes the value that names a blob. The blob is kept until that is on disk.
pub(super) async fn refer(ask: Ask, (hash, len, _lease): (BlobHash, u64, Lease), mime: Mime) -> Result<Response<Body>, Problem> {
    ask.who.may(&ask.peer, Verb::Write, &ask.space.key, &ask.path)?;
    let value = Value::Blob { hash: *hash.as_bytes(), len, mime };
    // What is there already costs nothing: whoever did not hear the answer sends it again.
    let charged = match is_there(&ask, &value).map_err(|error| storage_problem(&error))? {
        true => None,
        false => crate::behalf::charge_file(&ask.peer, &ask.who, ask.space, &ask.path, len)?,
    };
    let action = if ask.head.method == Method::POST {
        let Json::Object(members) = timebus_store::tree::value_json(&value, &ask.space.key) else {
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", "the file cannot be named", "a blob has no JSON form"));
        };
        Action::Post { name: write::time_sorted_id(), value: Json::Object(members) }
    } else {
        Action::PutValue(value)
    };
    let peer = ask.peer.clone();
    let response = write::perform(ask, action, hash).await;
    if !response.as_ref().is_ok_and(|response| response.status().is_success()) {
        charged.into_iter().for_each(|charged| charged.give_back(&peer));
    }
    response
}

/// Whether a request puts what is at its path.
fn is_there(ask: &Ask, value: &Value) -> Result<bool, StorageError> {
    let (rows, t_key) = (ask.peer.store().snapshot(), node_key(ask.space.main(), &ask.path.key()));
    let there = Node::load(&*rows, &t_key)?.winner(&*rows, &t_key)?;
    Ok(ask.head.method == Method::PUT && there.is_some_and(|write| write.value == *value))
}

/// Under which media type the file is kept.
pub(super) fn media_type(ask: &Ask) -> Result<Mime, Problem> {
    let kind = text(&ask.head.headers, header::CONTENT_TYPE).unwrap_or("application/octet-stream").trim();
    Mime::new(kind).ok_or_else(|| {
        Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "this media type cannot be kept",
            "a media type has at most 127 printable characters",
        )
    })
}
