//! Braid patches: the ranges they replace, the body of a request with several of them, and the
//! updates of a subscription stream (braid.md §1.3 and §1.4).
//!
//! Reading is lenient where clients differ (LF or CRLF, blank lines, header case) and strict where
//! leniency could change which bytes are meant. Writing is what the oldest stock client can parse:
//! a parse error there ends the subscription without a retry.
//!
//! Deliberately not: deciding whether ranges fit. Only the document at `Parents` can tell, so
//! positions that count from its end stay as they are until [`Position::resolve`].

use bytes::Bytes;

mod range;
mod update;

use range::{BLANKS, parse_digits};
pub use range::{ContentRange, Position, RangeError, STEPS_MAX, Span, Step, print_json_range};
pub use update::{Update, UpdateBody, around_snapshot, write_deleted, write_update};

/// Patches in one request (threats.md H14).
pub const PATCHES_MAX: usize = 4096;

/// Bytes of one patch's header block. A JSON range names at most 1 024 key bytes, six times that
/// when all are escaped.
pub const HEADER_BYTES_MAX: usize = 8 * 1024;

/// A range and what comes in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// What is replaced.
    pub range: ContentRange,
    /// The new text, or JSON. In a JSON range empty content deletes the field.
    pub content: Bytes,
}

/// Why a body with several patches was refused. Patches are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchesError {
    /// More than [`PATCHES_MAX`].
    #[error("{count} patches are announced, more than {PATCHES_MAX}")]
    TooMany {
        /// The number in `Patches`.
        count: usize,
    },
    /// The body ends inside a patch.
    #[error("body ends inside patch {patch}")]
    Truncated {
        /// Which one.
        patch: usize,
    },
    /// No empty line within [`HEADER_BYTES_MAX`].
    #[error("headers of patch {patch} have more than {HEADER_BYTES_MAX} bytes")]
    HeadersTooLong {
        /// Which one.
        patch: usize,
    },
    /// A line that is not `name: value`, or not UTF-8, or has control characters.
    #[error("cannot read a header of patch {patch}")]
    BadHeader {
        /// Which one.
        patch: usize,
    },
    /// `Content-Length` or `Content-Range` is missing.
    #[error("patch {patch} has no {header}")]
    MissingHeader {
        /// Which one.
        patch: usize,
        /// The header.
        header: &'static str,
    },
    /// A header that must be there once is there twice.
    #[error("patch {patch} has two {header}")]
    DoubleHeader {
        /// Which one.
        patch: usize,
        /// The header.
        header: &'static str,
    },
    /// Not digits.
    #[error("Content-Length of patch {patch} is not a number")]
    BadLength {
        /// Which one.
        patch: usize,
    },
    /// The `Content-Range` cannot be read.
    #[error("bad Content-Range in patch {patch}")]
    BadRange {
        /// Which one.
        patch: usize,
        /// Why.
        source: RangeError,
    },
}

/// Parses the body of a request with `Patches: count`. Contents share the body's memory.
///
/// Bytes behind the last patch are ignored, as all servers do.
///
/// # Errors
///
/// A [`PatchesError`].
pub fn parse_patches(body: &Bytes, count: usize) -> Result<Vec<Patch>, PatchesError> {
    if count > PATCHES_MAX {
        return Err(PatchesError::TooMany { count });
    }
    let mut patches = Vec::new();
    let mut at = 0;
    for patch in 1..=count {
        at += body[at..].iter().take_while(|&&byte| byte == b'\r' || byte == b'\n').count();
        let (headers, behind) = parse_headers(patch, body, at)?;
        let end = behind.checked_add(headers.content_bytes).filter(|&end| end <= body.len()).ok_or(PatchesError::Truncated { patch })?;
        patches.push(Patch { range: headers.range, content: body.slice(behind..end) });
        at = end;
    }
    Ok(patches)
}

struct PatchHeaders {
    content_bytes: usize,
    range: ContentRange,
}

/// Reads a header block from `at` on, and returns where the content begins.
fn parse_headers(patch: usize, body: &[u8], at: usize) -> Result<(PatchHeaders, usize), PatchesError> {
    let block = &body[at..body.len().min(at + HEADER_BYTES_MAX)];
    let mut length = None;
    let mut range = None;
    let mut from = 0;
    loop {
        let Some(line_bytes) = block[from..].iter().position(|&byte| byte == b'\n') else {
            return Err(if block.len() == HEADER_BYTES_MAX { PatchesError::HeadersTooLong { patch } } else { PatchesError::Truncated { patch } });
        };
        let line = &block[from..from + line_bytes];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        from += line_bytes + 1;
        if line.is_empty() {
            break;
        }
        let (name, value) = split_header(line).ok_or(PatchesError::BadHeader { patch })?;
        let (slot, header) = match name.to_ascii_lowercase().as_str() {
            "content-length" => (&mut length, "Content-Length"),
            "content-range" => (&mut range, "Content-Range"),
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(PatchesError::DoubleHeader { patch, header });
        }
    }
    let missing = |header| PatchesError::MissingHeader { patch, header };
    let length = length.ok_or_else(|| missing("Content-Length"))?;
    let range = range.ok_or_else(|| missing("Content-Range"))?;
    // A length that no machine word holds is certainly longer than the body.
    let content_bytes = parse_digits(length)
        .ok_or(PatchesError::BadLength { patch })?
        .ok()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or(PatchesError::Truncated { patch })?;
    let range = ContentRange::parse(range).map_err(|source| PatchesError::BadRange { patch, source })?;
    let headers = PatchHeaders { content_bytes, range };
    Ok((headers, at + from))
}

fn split_header(line: &[u8]) -> Option<(&str, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    if line.chars().any(|c| c.is_ascii_control() && c != '\t') {
        return None;
    }
    let (name, value) = line.split_once(':')?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (!name.is_empty() && name.bytes().all(legal)).then_some((name, value.trim_matches(BLANKS)))
}

#[cfg(test)]
mod tests;
