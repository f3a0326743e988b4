//! The program itself, for whoever was invited and has none: `GET /.join/timebus`.
//!
//! It is there where links can be made that any browser opens, whether or not one can be taken now: who has none of them learns nothing
//! of that. What is handed out is the program that runs, for machines of its own kind.

use std::io::SeekFrom;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::blobs::serve::ranged;
use crate::body::Body;
use crate::peer::Peer;
use crate::problem::Problem;
use crate::read::insert;
use crate::target::Target;

/// Bytes read at once.
const PIECE_BYTES: u64 = 64 * 1024;
/// The header that says what kind of machine the program is for: `linux x86_64`.
const PLATFORM: &str = "timebus-platform";

/// Whether a request asks for the program.
pub(crate) fn is_wanted(target: &Target) -> bool {
    matches!(target.segments.as_slice(), [join, name] if join == ".join" && name == "timebus")
}

/// Hands it out, whole or a range of it.
pub(crate) async fn answer(peer: &Peer, head: &Parts) -> Result<Response<Body>, Problem> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "the program is read", "use GET or HEAD"));
    }
    let path = peer.config.program.as_ref().filter(|_| !peer.config.hosts.is_empty()).ok_or_else(|| {
        let detail = "it is there where invites can be made that any browser opens";
        Problem::new(StatusCode::NOT_FOUND, "program", "this peer does not hand out its program", detail)
            .with_fix("the owner starts it with `timebus up --host NAME`")
    })?;
    let unreadable =
        |error: std::io::Error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "program", "the program could not be read", error.to_string());
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let len = file.metadata().await.map_err(unreadable)?.len();
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    insert(headers, PLATFORM, &format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"timebus\""));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    let tag = format!("\"{}-{len}\"", env!("CARGO_PKG_VERSION"));
    insert(headers, header::ETAG.as_str(), &tag);
    let Some(range) = ranged(head, &tag, &mut response, len) else { return Ok(response) };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if head.method == Method::HEAD {
        return Ok(response);
    }
    file.seek(SeekFrom::Start(range.start)).await.map_err(unreadable)?;
    let stream = futures_util::stream::unfold((file, range.end - range.start), |(mut file, left)| async move {
        let mut bytes = vec![0; left.min(PIECE_BYTES) as usize];
        let read = if left == 0 { 0 } else { file.read(&mut bytes).await.ok()? };
        bytes.truncate(read);
        (read > 0).then(|| (Bytes::from(bytes), (file, left - read as u64)))
    });
    *response.body_mut() = Body::stream(stream);
    Ok(response)
}
