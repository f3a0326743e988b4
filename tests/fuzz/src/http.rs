//! Paths and header values.

use timebus_net::accept::{MIME_BYTES_MAX, Mime, negotiate};
use timebus_net::byte_range::{ByteRange, parse_range};
use timebus_net::etag::{Condition, TAGS_MAX};
use timebus_net::host::{HostKind, HostList};
use timebus_net::signature::{RequestHead, UncheckedSignature, content_digest_matches, parse_digest, print_digest, read_signature};
use timebus_net::target::{SEGMENT_BYTES_MAX, SEGMENTS_MAX, Target, encode_parameter, encode_path};
use timebus_net::versions::print_versions;
use timebus_store::path::Path;

/// A path as people and patches write it.
pub(crate) fn path(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(path) = Path::parse(text) else { return false };
    let printed = path.to_string();
    assert!(text == printed || text.strip_suffix('/') == Some(&printed), "two texts of one path");
    assert_eq!(Path::parse(&printed).as_ref(), Ok(&path), "printed and not read back");
    check_path(&path);
    true
}

fn check_path(path: &Path) {
    let key = path.key();
    assert_eq!(Path::from_key(&key).as_ref(), Some(path), "another path has this key");
    assert!(key.len() <= Path::KEY_BYTES_MAX && path.segments().len() <= Path::SEGMENTS_MAX);
    let text = path.to_string();
    assert!(!text.split('/').any(|name| name == "." || name == ".."), "a way out");
    assert!(!text.bytes().any(|byte| byte < b' ' || byte == 0x7f), "a control character");
}

/// A request target.
pub(crate) fn target(data: &[u8]) -> bool {
    let Ok(raw) = std::str::from_utf8(data) else { return false };
    let Ok(target) = Target::parse(raw) else { return false };
    assert!(target.segments.len() <= SEGMENTS_MAX && target.segments.iter().all(|segment| (1..=SEGMENT_BYTES_MAX).contains(&segment.len())));
    let encoded = encode_path(&target.segments);
    assert!(encoded.bytes().all(|byte| (0x21..0x7f).contains(&byte)), "not safe in a request line");
    assert_eq!(Target::parse(&encoded).map(|target| target.segments).as_ref(), Ok(&target.segments), "printed and not read back");
    // Decoded once by somebody else, the path has the same names at the same places.
    let path = raw.split('?').next().unwrap_or_default();
    let slashes = path.bytes().filter(|byte| *byte == b'/').count();
    assert_eq!(slashes, target.segments.len().max(1) + usize::from(target.trailing_slash), "an escaped slash counts");
    let decoded = percent_decode(path);
    let joined = format!("/{}{}", target.segments.join("/"), if target.trailing_slash { "/" } else { "" });
    assert_eq!(decoded, joined.as_bytes(), "decoded more or less than once");
    if let Some(after) = &target.query.after {
        let again = format!("/?after={}", encode_parameter(after));
        assert_eq!(Target::parse(&again).map(|target| target.query.after).as_ref(), Ok(&target.query.after), "printed and not read back");
    }
    if let Ok(path) = Path::from_text_segments(target.segments.iter().map(String::as_str)) {
        check_path(&path);
        // The text form of the path and the target mean the same, so no two targets meet in one key by accident.
        let shown: Vec<String> = path.segments().iter().map(ToString::to_string).collect();
        assert_eq!(shown, target.segments, "two targets of one key");
    }
    true
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first == b'%' {
            let (digits, behind) = rest.split_at(2);
            let digits = std::str::from_utf8(digits).expect("two hex digits");
            out.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
            rest = behind;
        } else {
            out.push(*first);
        }
    }
    out
}

/// An `If-Match`.
pub(crate) fn etag(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(condition) = Condition::parse(text) else { return false };
    let Condition::Tags(tags) = &condition else {
        assert_eq!(text.trim_matches([' ', '\t']), "*");
        return true;
    };
    assert!(tags.len() <= TAGS_MAX);
    let printed: Vec<String> = tags.iter().map(|tag| format!("{}\"{}\"", if tag.weak { "W/" } else { "" }, tag.opaque)).collect();
    assert_eq!(Condition::parse(&printed.join(", ")).as_ref(), Ok(&condition), "printed and not read back");
    for tag in tags {
        assert!(condition.matches_weak(&tag.opaque));
        assert!(tag.weak || condition.matches_strong(&tag.opaque));
    }
    if let Some(ids) = condition.version() {
        assert!(condition.matches_version(&ids), "does not match itself");
        let printed = Condition::parse(&print_versions(&ids));
        if let Ok(printed) = printed {
            assert!(printed.matches_version(&ids), "a printed version does not match itself");
        }
    }
    true
}

/// A length in eight bytes, and a `Range`.
pub(crate) fn byte_range(data: &[u8]) -> bool {
    let Some((len, text)) = data.split_first_chunk::<8>() else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    // Lengths near the numbers in the header are the interesting ones.
    let len = u64::from_le_bytes(*len);
    let mut accepted = false;
    for len in [len, len & 0xff, 0, 1] {
        if let ByteRange::Satisfiable(range) = parse_range(text, len) {
            assert!(range.start < range.end && range.end <= len, "outside of what is there");
            let again = format!("bytes={}-{}", range.start, range.end - 1);
            assert_eq!(parse_range(&again, len), ByteRange::Satisfiable(range), "printed and not read back");
            accepted = true;
        }
    }
    accepted
}

/// An `Accept`, which is sometimes a media type too.
pub(crate) fn accept(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let offers = [Mime::JSON, Mime::NDJSON, Mime::TEXT, Mime::HTML, Mime::EVENT_STREAM, Mime::OPS];
    if let Some(chosen) = negotiate(Some(text), &offers) {
        assert!(offers.contains(chosen));
        assert!(negotiate(Some(text), std::slice::from_ref(chosen)).is_some(), "chosen among several, refused alone");
    }
    let Ok(mime) = Mime::parse(text) else { return false };
    assert!(mime.as_str().len() <= MIME_BYTES_MAX && mime.as_str().bytes().all(|byte| (0x20..0x7f).contains(&byte)), "not safe in a header");
    assert_eq!(Mime::parse(mime.as_str()).as_ref(), Ok(&mime), "printed and not read back");
    assert_eq!(mime.as_str().split(';').next(), Some(mime.essence()));
    if mime.parameter("q").is_none() {
        assert_eq!(negotiate(Some(mime.essence()), std::slice::from_ref(&mime)), Some(&mime), "not acceptable to those who ask for it");
    }
    true
}

/// An authority.
pub(crate) fn host(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let list = HostList::new(7007, &[]).expect("no names");
    let kind = list.check(text);
    let accepted = kind.is_some();
    match kind {
        None => {}
        Some(HostKind::Root) => assert!(["localhost:7007", "127.0.0.1:7007", "[::1]:7007"].contains(&text), "a foreign name"),
        Some(HostKind::App(label)) => {
            assert_eq!(text, format!("{label}.localhost:7007"));
            assert!(!label.is_empty() && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
        }
    }
    // Whatever can be configured is then ours, in lower case, and nothing else is.
    let odd_port = text.contains(":0") || text.contains(":+");
    if let Ok(list) = HostList::new(7007, &[text.to_owned()])
        && !odd_port
    {
        let name = text.to_ascii_lowercase();
        let ours = [format!("{name}:7007"), name].iter().any(|name| list.check(name) == Some(HostKind::Root));
        assert!(ours, "configured and not ours");
        assert_eq!(
            list.check("evil.example"),
            (text.eq_ignore_ascii_case("evil.example:80") || text.eq_ignore_ascii_case("evil.example:443")).then_some(HostKind::Root)
        );
    }
    accepted
}

/// `Signature-Input`, `Signature` and `Content-Digest`, on three lines.
pub(crate) fn signature(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut lines = text.splitn(3, '\n');
    let fields: Vec<Option<String>> = ["signature-input", "signature", "content-digest"].iter().map(|_| lines.next().map(str::to_owned)).collect();
    if let Some(digest) = &fields[2]
        && let Ok(sha256) = parse_digest(digest)
    {
        assert_eq!(parse_digest(&print_digest(&sha256)), Ok(sha256), "printed and not read back");
        assert_eq!(content_digest_matches(digest, b"somebody's guess"), Ok(false), "a digest came out of nowhere");
    }
    let read = |method, query, has_body| -> Option<UncheckedSignature> {
        let field = |name: &str| match name {
            "signature-input" => fields[0].clone(),
            "signature" => fields[1].clone(),
            "content-digest" => fields[2].clone(),
            "x-note" => Some("a note".to_owned()),
            _ => None,
        };
        let head = RequestHead { method, scheme: "http", authority: "localhost:7007", path: "/a", query, has_body, field: &field };
        read_signature(&head, NOW_S).ok().flatten()
    };
    let mut accepted = false;
    for (query, has_body) in [(None, false), (Some("x"), false), (None, true)] {
        let Some(signed) = read("PUT", query, has_body) else { continue };
        accepted = true;
        let base = std::str::from_utf8(&signed.base).expect("ASCII");
        assert!(base.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "bytes that nobody can see are signed");
        assert!(base.contains("\"@method\": PUT\n") && base.lines().last().is_some_and(|line| line.starts_with("\"@signature-params\": (")));
        assert!(!has_body || signed.body_sha256.is_some(), "a body that nobody signed");
        // Another request has another base: nothing that was signed for one fits the other.
        assert_ne!(read("GET", query, has_body).map(|other| other.base), Some(signed.base.clone()), "the method is not covered");
        assert_ne!(read("PUT", Some("y"), has_body).map(|other| other.base), Some(signed.base.clone()), "the query is not covered");
    }
    accepted
}

/// The time at which the corpus was signed.
pub(crate) const NOW_S: i64 = 1_700_000_000;
