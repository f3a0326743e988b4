//! Bodies of requests and answers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};

use crate::others::Coming;
use crate::problem::Problem;

/// Handed on at once of what is ready: a connection keeps what it was handed until that is read.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Body of an answer: ready, or a stream that is only asked for more when the socket takes more.
pub(crate) enum Body {
    Ready(Option<Bytes>),
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, Cut>> + Send>>),
}

/// An answer ends before all of it was said, and is not to be taken for whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut short")]
pub(crate) struct Cut;

impl Body {
    pub(crate) fn ready(bytes: impl Into<Bytes>) -> Self {
        Self::Ready(Some(bytes.into()))
    }

    /// What comes, piece by piece, to its end.
    pub(crate) fn stream(stream: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Stream(Box::pin(futures_util::StreamExt::map(stream, Ok)))
    }

    pub(crate) fn empty() -> Self {
        Self::Ready(None)
    }

    /// The same, holding something until it ends if it is a stream.
    pub(crate) fn holding(self, held: impl Send + 'static) -> Self {
        match self {
            Self::Ready(bytes) => Self::Ready(bytes),
            Self::Stream(stream) => Self::Stream(Box::pin(futures_util::stream::unfold((stream, held), |(mut stream, held)| async move {
                let bytes = futures_util::StreamExt::next(&mut stream).await?;
                Some((bytes, (stream, held)))
            }))),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Ready(Some(bytes)) if bytes.len() > PIECE_BYTES => Poll::Ready(Some(Ok(Frame::data(bytes.split_to(PIECE_BYTES))))),
            Self::Ready(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.as_mut().poll_next(cx).map(|next| next.map(|bytes| bytes.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Ready(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ready(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// After this time a body has to come at [`RATE_BYTES_MIN`] a second.
const GRACE: Duration = Duration::from_secs(10);
const RATE_BYTES_MIN: u64 = 1024;

/// How long a body of others may take that is held in memory.
const OF_OTHERS_MAX: Duration = Duration::from_secs(600);

/// Reads a whole request body.
pub(crate) async fn read_body(body: Incoming, bytes_max: usize) -> Result<Bytes, Problem> {
    read_counted(body, bytes_max, None).await
}

/// The same of somebody, of whom it is counted what comes.
pub(crate) async fn read_counted(mut body: Incoming, bytes_max: usize, mut coming: Option<&mut Coming>) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the body is too large", format!("a request may have {bytes_max} bytes"))
            .with_fix("write smaller parts: a PATCH adds to what is there")
    };
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let began = tokio::time::Instant::now();
    let end = began + if coming.as_ref().is_some_and(|coming| coming.is_of_others()) { OF_OTHERS_MAX } else { Duration::from_secs(1 << 32) };
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let deadline = began + GRACE + Duration::from_secs((whole.len() as u64 + first.as_ref().map_or(0, |b| b.len() as u64)) / RATE_BYTES_MIN);
        let silent = tokio::time::Instant::now() + SILENCE_MAX;
        let frame = match tokio::time::timeout_at(deadline.min(silent).min(end), body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(Problem::new(StatusCode::BAD_REQUEST, "body", "the body could not be read", error.to_string()));
            }
            Ok(None) => break,
            Err(_) => {
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body came too slowly", "a body has to come at 1 KiB a second"));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        coming.as_mut().map_or(Ok(()), |coming| coming.more(data.len()))?;
        if whole.is_empty() && first.is_none() {
            // Most bodies are one frame, which needs no copy.
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
            whole.extend_from_slice(&first);
        }
        if whole.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    match first {
        Some(first) if first.len() > bytes_max => Err(too_large()),
        Some(first) => Ok(first),
        None => Ok(whole.freeze()),
    }
}

/// Longest silence inside of a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Reads a request body piece by piece, and gives it up when it comes too slowly. Time in which nobody asks for the
/// next piece does not count.
pub(crate) struct BodyReader {
    body: Incoming,
    waited: Duration,
    len: u64,
}

impl BodyReader {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, waited: Duration::ZERO, len: 0 }
    }

    /// How many bytes are still to come, if the client said so.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next piece; `None` behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let allowed = (GRACE + Duration::from_secs(self.len / RATE_BYTES_MIN)).saturating_sub(self.waited);
            let began = tokio::time::Instant::now();
            let frame = match tokio::time::timeout(allowed.min(SILENCE_MAX), self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(Problem::new(StatusCode::BAD_REQUEST, "body", "the body could not be read", error.to_string()));
                }
                Ok(None) => return Ok(None),
                Err(_) => {
                    return Err(Problem::new(
                        StatusCode::REQUEST_TIMEOUT,
                        "slow",
                        "the body came too slowly",
                        "a body has to come at 1 KiB a second",
                    ));
                }
            };
            self.waited += began.elapsed();
            if let Ok(data) = frame.into_data() {
                self.len += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }
}

/// Turns a problem into an answer.
pub(crate) fn refuse(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::ready(problem.to_bytes()));
    *response.status_mut() = problem.status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if problem.status == StatusCode::SERVICE_UNAVAILABLE || problem.status.as_u16() == 309 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(wait_ms) = problem.extra.get(crate::route::WAIT_MS).and_then(serde_json::Value::as_u64) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1000)));
    }
    // Braid clients read in the head which versions are missing.
    if let Some(missing) = problem.extra.get("versions").and_then(serde_json::Value::as_array) {
        let missing: Vec<&str> = missing.iter().filter_map(serde_json::Value::as_str).collect();
        if let Some(missing) = header_value(&crate::versions::print_versions(&missing)) {
            response.headers_mut().insert("version", missing);
        }
    }
    response
}

/// `Some` of a header value made of text that may hold anything; not valid becomes no header.
pub(crate) fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok()
}
