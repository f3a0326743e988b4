//! Streams of values that are worked out, as lists of references and the inbox are: whenever something changed that they
//! are made of, they are made again, and if they are different the new value is sent whole.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, header};
use timebus_store::json::{Json, write_string};

use crate::accept::Mime;
use crate::body::Body;
use crate::patches::{Update, UpdateBody, write_update};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::read::multiresponse;
use crate::who::text;

/// Shortest time between two values of one stream, so that a busy store is not looked through for every change.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether a request is for a stream.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    headers.contains_key("subscribe") || text(headers, header::ACCEPT).is_some_and(|accept| accept.starts_with("text/event-stream"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Braid,
    Events,
    Lines,
}

struct Stream<F> {
    peer: Peer,
    path: String,
    form: Form,
    make: F,
    arrivals: tokio::sync::watch::Receiver<u64>,
    inbox: tokio::sync::watch::Receiver<u64>,
    stop: tokio::sync::watch::Receiver<bool>,
    last: Option<Option<Json>>,
    version: Vec<String>,
}

/// Answers with a stream of what `make` works out.
pub(crate) fn stream<F>(peer: &Peer, headers: &HeaderMap, path: String, make: F) -> Result<Response<Body>, Problem>
where
    F: Fn(&Peer) -> Result<Option<Json>, Problem> + Send + Sync + Clone + 'static,
{
    let accept = text(headers, header::ACCEPT).unwrap_or_default();
    let form = match accept {
        accept if accept.starts_with("text/event-stream") => Form::Events,
        accept if accept.contains("application/x-ndjson") => Form::Lines,
        _ => Form::Braid,
    };
    let stream = Stream {
        peer: peer.clone(),
        path,
        form,
        make,
        arrivals: peer.store().arrivals(),
        inbox: peer.inbox()?.changes(),
        stop: peer.stop.subscribe(),
        last: None,
        version: Vec::new(),
    };
    let mut response = Response::new(Body::Stream(Box::pin(futures_util::stream::unfold(stream, |mut stream| async move {
        let bytes = stream.next().await?;
        Some((bytes.into(), stream))
    }))));
    let kind = match form {
        Form::Braid => "application/http-history",
        Form::Events => "text/event-stream",
        Form::Lines => "application/x-ndjson",
    };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform, no-store"));
    out.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if form == Form::Braid {
        out.insert("subscribe", HeaderValue::from_static("true"));
        *response.status_mut() = multiresponse();
    }
    Ok(response)
}

impl<F> Stream<F>
where
    F: Fn(&Peer) -> Result<Option<Json>, Problem> + Send + Sync + Clone + 'static,
{
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            self.arrivals.borrow_and_update();
            self.inbox.borrow_and_update();
            let (peer, make) = (self.peer.clone(), self.make.clone());
            let made = tokio::task::spawn_blocking(move || make(&peer)).await.ok()?.ok()?;
            if self.last.as_ref() != Some(&made) {
                let is_first = self.last.is_none();
                self.last = Some(made.clone());
                return Some(self.write(made.as_ref(), is_first));
            }
            tokio::select! {
                changed = self.arrivals.changed() => changed.ok()?,
                changed = self.inbox.changed() => changed.ok()?,
                _ = self.stop.wait_for(|stops| *stops) => return None,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn write(&mut self, value: Option<&Json>, is_first: bool) -> Vec<u8> {
        let mut json = Vec::new();
        value.unwrap_or(&Json::Null).write(&mut json);
        let digest = blake3::hash(&json);
        let version = vec![timebus_identity::z32::encode(&digest.as_bytes()[..15])];
        let parents = std::mem::replace(&mut self.version, version);
        let mut out = Vec::new();
        if self.form == Form::Braid {
            let mime = Mime::JSON;
            let body = UpdateBody::Snapshot { content_type: &mime, content: &json };
            write_update(&mut out, &Update { version: &self.version, parents: &parents, repr_sha256: None, body });
            return out;
        }
        let mut line = |members: &mut dyn FnMut(&mut Vec<u8>)| {
            out.extend_from_slice(if self.form == Form::Events { b"data: {" } else { b"{" });
            members(&mut out);
            out.extend_from_slice(if self.form == Form::Events { b"}\n\n" } else { b"}\n" });
        };
        line(&mut |out| {
            match is_first {
                true => out.extend_from_slice(b"\"snapshot\":"),
                false => {
                    out.extend_from_slice(if value.is_some() { b"\"put\":" } else { b"\"delete\":" });
                    write_string(&self.path, out);
                    if value.is_some() {
                        out.extend_from_slice(b",\"value\":");
                    }
                }
            }
            if is_first || value.is_some() {
                out.extend_from_slice(&json);
            }
            if is_first && value.is_none() {
                out.extend_from_slice(b",\"absent\":true");
            }
            out.extend_from_slice(b",\"version\":[");
            write_string(&self.version[0], out);
            out.push(b']');
        });
        if is_first {
            line(&mut |out| out.extend_from_slice(b"\"caught_up\":true"));
        }
        out
    }
}
