//! Updates of a subscription stream, as the oldest stock client can parse them.

use super::Patch;
use crate::accept::Mime;
use crate::signature::print_digest;
use crate::versions::print_versions;

/// One update of a subscription stream.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The version the update leads to.
    pub version: &'a [String],
    /// The version it starts from: what this stream was sent last, or nothing for the root.
    pub parents: &'a [String],
    /// SHA-256 of the whole new representation. Only if `version` is the tip: clients that compute
    /// another one stop for good.
    pub repr_sha256: Option<[u8; 32]>,
    /// What the update brings.
    pub body: UpdateBody<'a>,
}

/// What an update brings.
#[derive(Clone, Copy, Debug)]
pub enum UpdateBody<'a> {
    /// The whole representation.
    Snapshot {
        /// Its media type.
        content_type: &'a Mime,
        /// Its bytes.
        content: &'a [u8],
    },
    /// What changed, in coordinates of the document at `parents`.
    Patches(&'a [Patch]),
}

/// Appends one update. It has exactly one of `Content-Length` and `Patches`, whatever is in it.
pub fn write_update(out: &mut Vec<u8>, update: &Update<'_>) {
    write_head(out, "200 OK", update.version, update.parents);
    if let Some(digest) = &update.repr_sha256 {
        write_header(out, "Repr-Digest", &print_digest(digest));
    }
    match update.body {
        UpdateBody::Snapshot { content_type, content } => {
            write_snapshot_head(out, content_type, content.len());
            write_content(out, content);
        }
        UpdateBody::Patches([patch]) => write_patch(out, patch),
        UpdateBody::Patches(patches) => {
            let count = patches.len();
            let content_type = format!("application/http-patches; count={count}");
            write_header(out, "Content-Type", &content_type);
            write_header(out, "Patches", &count.to_string());
            out.extend_from_slice(b"\r\n");
            for patch in patches {
                write_patch(out, patch);
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// What stands before and behind the content of an update that is a snapshot of so many bytes: many are sent the same content, and
/// none of them needs it for himself.
pub fn around_snapshot(version: &[String], content_type: &Mime, bytes: usize) -> (Vec<u8>, &'static [u8]) {
    let mut before = Vec::new();
    write_head(&mut before, "200 OK", version, &[]);
    write_snapshot_head(&mut before, content_type, bytes);
    before.extend_from_slice(BEFORE_CONTENT);
    (before, BEHIND_CONTENT)
}

/// Appends the update that says the resource is gone: 404 inside the stream. `content` is what stands for nothing in the
/// stream's media type: some clients parse the body before they look at the status.
pub fn write_deleted(out: &mut Vec<u8>, version: &[String], parents: &[String], content: &[u8]) {
    write_head(out, "404 Not Found", version, parents);
    write_header(out, "Content-Length", &content.len().to_string());
    write_content(out, content);
}

/// The status line comes first because some clients take a first header that begins with "e" for
/// something else; an empty `Parents` keeps its space because they swallow the next line without.
fn write_head(out: &mut Vec<u8>, status: &str, version: &[String], parents: &[String]) {
    out.extend_from_slice(format!("HTTP {status}\r\n").as_bytes());
    write_header(out, "Version", &print_versions(version));
    write_header(out, "Parents", &print_versions(parents));
}

fn write_patch(out: &mut Vec<u8>, patch: &Patch) {
    write_header(out, "Content-Length", &patch.content.len().to_string());
    write_header(out, "Content-Range", &patch.range.to_string());
    write_content(out, &patch.content);
}

fn write_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
}

fn write_snapshot_head(out: &mut Vec<u8>, content_type: &Mime, bytes: usize) {
    write_header(out, "Content-Type", content_type.as_str());
    write_header(out, "Content-Length", &bytes.to_string());
}

const BEFORE_CONTENT: &[u8] = b"\r\n";
const BEHIND_CONTENT: &[u8] = b"\r\n\r\n";

fn write_content(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(BEFORE_CONTENT);
    out.extend_from_slice(content);
    out.extend_from_slice(BEHIND_CONTENT);
}
