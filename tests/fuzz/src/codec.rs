//! The canonical codec: whatever is accepted is the only spelling of what it says.

use timebus_store::change::{Body, Change, Header};
use timebus_store::codec::{DecodeError, Reader, Writer};
use timebus_store::node::{Entry, Node, split_history_key};
use timebus_store::path::Path;
use timebus_store::summary::Summary;
use timebus_store::value::Value;

/// A header, and bytes behind it.
pub(crate) fn header(data: &[u8]) -> bool {
    let mut input = Reader::new(data);
    let Ok(header) = Header::decode(&mut input) else { return false };
    let read = &data[..data.len() - input.rest().len()];
    assert_eq!(header.encode(), read, "a second spelling");
    assert!(read.len() <= timebus_store::change::HEADER_BYTES_MAX, "a header is larger than the limit says");
    let deps: Vec<_> = header.deps().collect();
    assert!(deps.iter().enumerate().all(|(at, id)| !deps[..at].contains(id)), "a change twice below another");
    true
}

/// A whole body.
pub(crate) fn body(data: &[u8]) -> bool {
    let Ok(body) = Body::decode(data) else { return false };
    assert_eq!(body.encode(), data, "a second spelling");
    true
}

/// A whole change: header, signature, body. The body's hash is put in, for nobody guesses it.
pub(crate) fn change(data: &[u8]) -> bool {
    if let Ok(change) = Change::decode(data) {
        check_change(data, &change);
    }
    let mut input = Reader::new(data);
    let Ok(mut header) = Header::decode(&mut input) else { return false };
    let Ok(signature) = input.array::<64>("signature") else { return false };
    let body = input.rest();
    header.body_len = body.len() as u64;
    header.body_root = *blake3::hash(body).as_bytes();
    let bytes = [header.encode().as_slice(), &signature, body].concat();
    let result = Change::decode(&bytes);
    if body.len() <= timebus_store::change::BODY_BYTES_MAX {
        check_change(&bytes, &result.expect("a valid header and its body"));
    }
    true
}

fn check_change(data: &[u8], signed: &timebus_identity::Signed<Change>) {
    let mut out = Vec::new();
    signed.content().write(signed.signature(), &mut out);
    assert_eq!(out, data, "a second spelling");
    assert_eq!(signed.content().encoded_len(), data.len());
    assert!(signed.clone().verify().is_err(), "a signature came out of nowhere");
}

/// A value, and bytes behind it.
pub(crate) fn value(data: &[u8]) -> bool {
    let mut input = Reader::new(data);
    let Ok(value) = Value::decode(&mut input) else { return false };
    let mut out = Writer::new();
    value.encode(&mut out);
    assert_eq!(out.into_bytes(), &data[..data.len() - input.rest().len()], "a second spelling");
    true
}

/// Rows of the tables; the first byte says which.
pub(crate) fn rows(data: &[u8]) -> bool {
    let Some((kind, data)) = data.split_first() else { return false };
    let check = |encoded: Result<Vec<u8>, DecodeError>| {
        let Ok(encoded) = encoded else { return false };
        assert_eq!(encoded, data, "a second spelling");
        true
    };
    match kind % 4 {
        0 => check(Summary::decode(data).map(|row| row.encode())),
        1 => check(Node::decode(data).map(|row| row.encode())),
        2 => check(Entry::decode(data).map(|row| row.encode())),
        _ => {
            let Some((t_key, a, index)) = split_history_key(data) else { return false };
            assert_eq!(timebus_store::node::history_key(t_key, a, index), data, "a second spelling");
            true
        }
    }
}

/// The key of a path in a table.
pub(crate) fn key(data: &[u8]) -> bool {
    let Some(path) = Path::from_key(data) else { return false };
    assert_eq!(path.key(), data, "a second key of one path");
    assert_eq!(Path::parse(&path.to_string()), Ok(path.clone()), "the text form says something else");
    assert!(data.len() <= Path::KEY_BYTES_MAX && path.segments().len() <= Path::SEGMENTS_MAX);
    let mut above = path;
    while let Some(parent) = above.parent() {
        assert!(above.key().starts_with(&parent.key()) && parent.contains(&above));
        above = parent;
    }
    true
}
