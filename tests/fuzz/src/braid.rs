//! Braid headers and patches.

use bytes::Bytes;
use timebus_net::patches::{
    ContentRange, HEADER_BYTES_MAX, PATCHES_MAX, Patch, STEPS_MAX, Span, Step, Update, UpdateBody, parse_patches, write_update,
};
use timebus_net::versions::{ID_BYTES_MAX, IDS_MAX, parse_versions, print_versions};

/// A list of versions.
pub(crate) fn versions(data: &[u8]) -> bool {
    let Ok(ids) = parse_versions(data) else { return false };
    assert!(ids.len() <= IDS_MAX && ids.iter().all(|id| (1..=ID_BYTES_MAX).contains(&id.len())));
    assert!(ids.windows(2).all(|pair| pair[0].encode_utf16().lt(pair[1].encode_utf16())), "not sorted as clients sort, or a double");
    let printed = print_versions(&ids);
    assert!(printed.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "not safe in a header");
    assert_eq!(parse_versions(printed.as_bytes()).ok(), Some(ids.clone()), "printed and not read back");
    let backwards: Vec<&String> = ids.iter().rev().collect();
    assert_eq!(print_versions(&backwards), printed, "the order means something");
    true
}

/// A `Content-Range`.
pub(crate) fn range(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(range) = ContentRange::parse(text) else { return false };
    let printed = range.to_string();
    assert!(printed.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "not safe in a header");
    if printed.len() <= HEADER_BYTES_MAX {
        assert_eq!(ContentRange::parse(&printed).as_ref(), Ok(&range), "printed and not read back");
    }
    match &range {
        ContentRange::Json(steps) => {
            assert!(steps.len() <= STEPS_MAX);
            for (at, step) in steps.iter().enumerate() {
                if let Step::Splice(span) = step {
                    assert_eq!(at + 1, steps.len(), "a step behind a splice");
                    resolve(*span);
                }
                let _ = step.index();
            }
        }
        ContentRange::Text(span) => resolve(*span),
    }
    true
}

fn resolve(span: Span) {
    for len in [0, 1, 7, u64::MAX] {
        if let Some(range) = span.resolve(len) {
            assert!(range.start <= range.end && range.end <= len, "outside of what is there");
        }
    }
}

/// How many patches, in two bytes, and the body with them.
pub(crate) fn patches(data: &[u8]) -> bool {
    let Some((count, body)) = data.split_first_chunk::<2>() else { return false };
    let count = usize::from(u16::from_le_bytes(*count));
    let body = Bytes::copy_from_slice(body);
    let Ok(patches) = parse_patches(&body, count) else { return false };
    assert!(patches.len() == count && count <= PATCHES_MAX);
    // What is written is a stream; behind its head it is a body again.
    let mut out = Vec::new();
    for patch in &patches {
        let inside = body.as_ptr_range();
        let content = patch.content.as_ptr_range();
        assert!(patch.content.is_empty() || inside.start <= content.start && content.end <= inside.end, "copied");
        write_one(patch, &mut out);
    }
    if patches.iter().all(|patch| patch.range.to_string().len() < HEADER_BYTES_MAX - 256) {
        assert_eq!(parse_patches(&Bytes::from(out), count), Ok(patches), "printed and not read back");
    }
    true
}

fn write_one(patch: &Patch, out: &mut Vec<u8>) {
    let mut update = Vec::new();
    write_update(&mut update, &Update { version: &[], parents: &[], repr_sha256: None, body: UpdateBody::Patches(std::slice::from_ref(patch)) });
    // A status line is no header of a patch.
    out.extend_from_slice(update.strip_prefix(b"HTTP 200 OK\r\n").expect("a status line"));
}
