use super::range::parse_span;
use super::*;
use crate::accept::Mime;
use crate::target::tests::captured_values;
use proptest::prelude::*;

fn key(text: &str) -> Step {
    Step::Key(text.to_owned())
}

fn span(start: Position, end: Position) -> Span {
    Span { start, end }
}

fn text_range(start: u64, end: u64) -> ContentRange {
    ContentRange::Text(span(Position::Start(start), Position::Start(end)))
}

#[test]
fn reads_json_ranges() {
    use Position::{End, Start};
    let table: &[(&str, &[Step])] = &[
        ("json", &[]),
        ("json ", &[]),
        ("json .a.b", &[key("a"), key("b")]),
        ("json a.b", &[key("a"), key("b")]),
        ("json  [\"a\"].b[3] ", &[key("a"), key("b"), Step::Index(Start(3))]),
        ("json [\"list\"][\"1\"]", &[key("list"), key("1")]),
        ("json [1:2]", &[Step::Splice(span(Start(1), Start(2)))]),
        ("json .l[-0:-0]", &[key("l"), Step::Splice(span(End(0), End(0)))]),
        ("json [-2:-1]", &[Step::Splice(span(End(2), End(1)))]),
        ("json [0:-0]", &[Step::Splice(span(Start(0), End(0)))]),
        ("json [-1]", &[Step::Index(End(1))]),
        ("json [-0]", &[Step::Index(End(0))]),
        ("json [\"a\\\"]b\"]", &[key("a\"]b")]),
        ("json [\"a\\\\\"].b", &[key("a\\"), key("b")]),
        ("json [\"\\ud83d\\ude00\"]", &[key("😀")]),
        ("json [\"\"]", &[key("")]),
        ("json .hello world]", &[key("hello world]")]),
        ("json [\"a\"]b", &[key("a"), key("b")]),
    ];
    for (header, steps) in table {
        assert_eq!(ContentRange::parse(header), Ok(ContentRange::Json(steps.to_vec())), "{header}");
    }
}

#[test]
fn reads_text_ranges() {
    use Position::{End, Start};
    assert_eq!(ContentRange::parse("text [0:1]"), Ok(text_range(0, 1)));
    assert_eq!(ContentRange::parse(" text  [ 3 : 3 ] "), Ok(text_range(3, 3)));
    assert_eq!(ContentRange::parse("text [-0:-0]"), Ok(ContentRange::Text(span(End(0), End(0)))));
    assert_eq!(ContentRange::parse("text [2:-1]"), Ok(ContentRange::Text(span(Start(2), End(1)))));
}

#[test]
fn reads_captured_ranges() {
    for value in captured_values("content-range") {
        let range = ContentRange::parse(&value).expect(&value);
        assert_eq!(ContentRange::parse(&range.to_string()), Ok(range));
    }
}

#[test]
fn refuses_bad_ranges() {
    use RangeError as E;
    let deep = format!("json {}", ".a".repeat(STEPS_MAX + 1));
    let long = format!("json .{}", "a".repeat(HEADER_BYTES_MAX));
    let unit = |unit: &str| E::UnknownUnit { unit: unit.into() };
    let table = [
        ("", unit("")),
        ("bytes 0-5/10", unit("bytes")),
        ("yjs-text (a-1:b-2)", unit("yjs-text")),
        ("JSON .a", unit("JSON")),
        ("text[0:1]", unit("text[0:1]")),
        ("text", E::Syntax { at: 4 }),
        ("text 0:1", E::Syntax { at: 5 }),
        ("text [0:1", E::Syntax { at: 5 }),
        ("text [0]", E::Syntax { at: 5 }),
        ("text [0:+1]", E::Syntax { at: 5 }),
        ("text [0:1:2]", E::Syntax { at: 5 }),
        ("text [0:1][2:3]", E::Syntax { at: 5 }),
        ("text [:]", E::Syntax { at: 5 }),
        ("text [2:1]", E::Backwards),
        ("text [-1:-2]", E::Backwards),
        ("text [0:18446744073709551616]", E::NumberTooLarge),
        ("json .", E::Syntax { at: 5 }),
        ("json .a..b", E::Syntax { at: 7 }),
        ("json []", E::Syntax { at: 5 }),
        ("json [a]", E::Syntax { at: 5 }),
        ("json [\"a]", E::Syntax { at: 5 }),
        ("json [\"a\"", E::Syntax { at: 5 }),
        ("json .x[\"a\"x]", E::Syntax { at: 7 }),
        ("json [\"\\x\"]", E::Syntax { at: 5 }),
        ("json [\"\\ud83d\"]", E::Syntax { at: 5 }),
        ("json [1:2][3]", E::StepBehindSplice),
        ("json [99999999999999999999]", E::NumberTooLarge),
        (&deep, E::TooManySteps),
        (&long, E::TooLong { bytes: HEADER_BYTES_MAX + 6 }),
    ];
    for (header, expected) in table {
        assert_eq!(ContentRange::parse(header), Err(expected), "{header}");
    }
}

#[test]
fn resolves_positions() {
    use Position::{End, Start};
    assert_eq!(span(End(0), End(0)).resolve(5), Some(5..5));
    assert_eq!(span(Start(1), End(1)).resolve(5), Some(1..4));
    assert_eq!(span(Start(5), Start(5)).resolve(5), Some(5..5));
    assert_eq!(span(Start(0), Start(6)).resolve(5), None);
    assert_eq!(span(End(6), End(0)).resolve(5), None);
    assert_eq!(span(Start(4), End(3)).resolve(5), None, "crossed");
}

#[test]
fn takes_quoted_indices_for_arrays() {
    assert_eq!(key("1").index(), Some(Position::Start(1)));
    assert_eq!(key("0").index(), Some(Position::Start(0)));
    for other in ["", "01", "-1", "a", "99999999999999999999", "1.0"] {
        assert_eq!(key(other).index(), None, "{other}");
    }
}

/// The request of braid.md §1.3, as stock clients send it.
const TWO_PATCHES: &str =
    concat!("content-length: 1\r\ncontent-range: text [0:1]\r\n\r\nJ\r\n\r\n", "content-length: 1\r\ncontent-range: text [11:11]\r\n\r\n!\r\n",);

fn patches(body: &str, count: usize) -> Result<Vec<Patch>, PatchesError> {
    parse_patches(&Bytes::copy_from_slice(body.as_bytes()), count)
}

fn two() -> Vec<Patch> {
    vec![Patch { range: text_range(0, 1), content: Bytes::from_static(b"J") }, Patch { range: text_range(11, 11), content: Bytes::from_static(b"!") }]
}

#[test]
fn reads_bodies_of_both_generations() {
    assert_eq!(TWO_PATCHES.len(), 106, "as captured");
    assert_eq!(patches(TWO_PATCHES, 2), Ok(two()));
    assert_eq!(patches(&TWO_PATCHES.replace("\r\n", "\n"), 2), Ok(two()));
    assert_eq!(patches(&format!("\r\n\n{TWO_PATCHES}rubbish"), 2), Ok(two()));
    assert_eq!(patches(TWO_PATCHES, 1), Ok(two()[..1].to_vec()));
    assert_eq!(patches("rubbish", 0), Ok(vec![]));
    let extra = "X-Other: 1\nContent-Range:json .a\nContent-Length:0\n\n";
    assert_eq!(patches(extra, 1), Ok(vec![Patch { range: ContentRange::Json(vec![key("a")]), content: Bytes::new() }]));
    // The content is counted in bytes, and may look like anything.
    let odd = "Content-Length: 8\r\nContent-Range: text [0:0]\r\n\r\n😀\r\n\r\n";
    let content = patches(odd, 1).expect("one patch")[0].content.clone();
    assert_eq!(&content[..], "😀\r\n\r\n".as_bytes());
}

#[test]
fn refuses_bad_bodies() {
    use PatchesError as E;
    let range = "Content-Range: text [0:0]\r\n";
    let missing = |header| E::MissingHeader { patch: 1, header };
    let double = |header| E::DoubleHeader { patch: 1, header };
    let table = [
        (String::new(), E::Truncated { patch: 1 }),
        ("\r\n\r\n".into(), E::Truncated { patch: 1 }),
        (format!("{range}Content-Length: 2\r\n\r\nx"), E::Truncated { patch: 1 }),
        (format!("{range}Content-Length: 99999999999999999999\r\n\r\nx"), E::Truncated { patch: 1 }),
        (format!("{range}Content-Length: {}\r\n\r\nx", u64::MAX), E::Truncated { patch: 1 }),
        (format!("{range}Content-Length: 1"), E::Truncated { patch: 1 }),
        (format!("{range}\r\n"), missing("Content-Length")),
        ("Content-Length: 0\r\n\r\n".into(), missing("Content-Range")),
        (format!("{range}{range}\r\n"), double("Content-Range")),
        ("Content-Length: 0\r\ncontent-length: 5\r\n\r\n".into(), double("Content-Length")),
        (format!("{range}Content-Length: -1\r\n\r\n"), E::BadLength { patch: 1 }),
        (format!("{range}Content-Length: +1\r\n\r\n"), E::BadLength { patch: 1 }),
        (format!("{range}Content-Length:\r\n\r\n"), E::BadLength { patch: 1 }),
        ("rubbish\r\n\r\n".into(), E::BadHeader { patch: 1 }),
        ("a b: c\r\n\r\n".into(), E::BadHeader { patch: 1 }),
        ("a: b\rc\r\n\r\n".into(), E::BadHeader { patch: 1 }),
        (format!("{}\n", "a".repeat(9000)), E::HeadersTooLong { patch: 1 }),
        ("a: b\n".repeat(9000), E::HeadersTooLong { patch: 1 }),
        ("Content-Length: 0\r\nContent-Range: x\r\n\r\n".into(), E::BadRange { patch: 1, source: RangeError::UnknownUnit { unit: "x".into() } }),
    ];
    for (body, expected) in table {
        assert_eq!(patches(&body, 1), Err(expected), "{body:.80}");
    }
    assert_eq!(patches(TWO_PATCHES, 3), Err(E::Truncated { patch: 3 }));
    assert_eq!(patches("", 4097), Err(E::TooMany { count: 4097 }));
}

fn ids(list: &[&str]) -> Vec<String> {
    list.iter().map(|&id| id.to_owned()).collect()
}

fn update(version: &[&str], parents: &[&str], body: UpdateBody<'_>) -> String {
    let mut out = Vec::new();
    write_update(&mut out, &Update { version: &ids(version), parents: &ids(parents), repr_sha256: None, body });
    String::from_utf8(out).expect("the contents are UTF-8")
}

#[test]
fn writes_a_snapshot() {
    let snapshot = UpdateBody::Snapshot { content_type: &Mime::TEXT, content: b"Jello world!" };
    assert_eq!(
        update(&["alice-8"], &[], snapshot),
        concat!(
            "HTTP 200 OK\r\n",
            "Version: \"alice-8\"\r\n",
            "Parents: \r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Content-Length: 12\r\n",
            "\r\n",
            "Jello world!\r\n",
            "\r\n",
        )
    );
}

#[test]
fn writes_the_digest_of_the_tip() {
    let mut out = Vec::new();
    write_update(&mut out, &Update { version: &ids(&["b", "a"]), parents: &[], repr_sha256: Some([0; 32]), body: UpdateBody::Patches(&two()[..1]) });
    let text = String::from_utf8(out).expect("UTF-8");
    assert!(text.starts_with(concat!(
        "HTTP 200 OK\r\nVersion: \"a\", \"b\"\r\nParents: \r\n",
        "Repr-Digest: sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\r\n",
        "Content-Length: 1\r\n",
    )));
}

#[test]
fn writes_one_patch_inline() {
    let patch = [Patch { range: text_range(0, 0), content: Bytes::from("😀é") }];
    assert_eq!(
        update(&["bob-1"], &["alice-8"], UpdateBody::Patches(&patch)),
        concat!(
            "HTTP 200 OK\r\n",
            "Version: \"bob-1\"\r\n",
            "Parents: \"alice-8\"\r\n",
            "Content-Length: 6\r\n",
            "Content-Range: text [0:0]\r\n",
            "\r\n",
            "😀é\r\n",
            "\r\n",
        )
    );
}

#[test]
fn writes_several_patches() {
    assert_eq!(
        update(&["bob-5"], &["bob-1"], UpdateBody::Patches(&two())),
        concat!(
            "HTTP 200 OK\r\n",
            "Version: \"bob-5\"\r\n",
            "Parents: \"bob-1\"\r\n",
            "Content-Type: application/http-patches; count=2\r\n",
            "Patches: 2\r\n",
            "\r\n",
            "Content-Length: 1\r\n",
            "Content-Range: text [0:1]\r\n",
            "\r\n",
            "J\r\n",
            "\r\n",
            "Content-Length: 1\r\n",
            "Content-Range: text [11:11]\r\n",
            "\r\n",
            "!\r\n",
            "\r\n",
            "\r\n",
        )
    );
}

#[test]
fn writes_a_deletion() {
    let mut out = Vec::new();
    write_deleted(&mut out, &ids(&["a-2"]), &ids(&["a-1"]), b"null");
    assert_eq!(
        String::from_utf8(out).as_deref(),
        Ok(concat!("HTTP 404 Not Found\r\n", "Version: \"a-2\"\r\n", "Parents: \"a-1\"\r\n", "Content-Length: 4\r\n", "\r\n", "null\r\n\r\n",))
    );
}

/// What a client made of one update: status line, headers, and either a body or patches.
type Seen = (String, Vec<(String, String)>, Result<Bytes, Vec<Patch>>);

/// A client that frames the stream by the rules of braid.md §1.4.
fn read_stream(stream: &Bytes) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut at = 0;
    loop {
        while stream.get(at).is_some_and(|byte| b"\r\n".contains(byte)) {
            at += 1;
        }
        if at == stream.len() {
            return seen;
        }
        let head_bytes = stream[at..].windows(4).position(|window| window == b"\r\n\r\n").expect("a complete head");
        let head = std::str::from_utf8(&stream[at..at + head_bytes]).expect("ASCII");
        let inline_at = at;
        at += head_bytes + 4;
        let mut lines = head.split("\r\n");
        let status = lines.next().expect("a status line").to_owned();
        assert!(status.starts_with("HTTP "));
        let headers: Vec<(String, String)> =
            lines.map(|line| line.split_once(": ").expect("a header")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let header = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        assert!(header("Version").is_some() && header("Parents").is_some());
        let content = match (header("Content-Length"), header("Patches")) {
            (Some(length), None) => {
                let end = at + length.parse::<usize>().expect("a length");
                let content = stream.slice(at..end);
                at = end;
                match header("Content-Range") {
                    None => Ok(content),
                    Some(range) => Err(vec![Patch { range: ContentRange::parse(&range).expect("a range"), content }]),
                }
            }
            (None, Some(count)) => {
                let count = count.parse().expect("a count");
                let rest = stream.slice(at..);
                let patches = parse_patches(&rest, count).expect("patches");
                if let Some(last) = patches.last() {
                    at = last.content.as_ptr() as usize - stream.as_ptr() as usize;
                    at += last.content.len();
                }
                Err(patches)
            }
            _ => panic!("both or neither length at {inline_at}"),
        };
        seen.push((status, headers, content));
    }
}

fn any_position() -> impl Strategy<Value = Position> {
    prop_oneof![(0u64..50).prop_map(Position::Start), (0u64..50).prop_map(Position::End),]
}

fn any_span() -> impl Strategy<Value = Span> {
    (any_position(), any_position()).prop_filter_map("backwards", |(start, end)| parse_span(&start.to_string(), &end.to_string())?.ok())
}

fn any_range() -> impl Strategy<Value = ContentRange> {
    let step = prop_oneof![".{0,8}".prop_map(Step::Key), any_position().prop_map(Step::Index),];
    let steps = (prop::collection::vec(step, 0..5), prop::option::of(any_span()));
    prop_oneof![
        any_span().prop_map(ContentRange::Text),
        steps.prop_map(|(mut steps, splice)| {
            steps.extend(splice.map(Step::Splice));
            ContentRange::Json(steps)
        }),
    ]
}

fn any_patch() -> impl Strategy<Value = Patch> {
    (any_range(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(range, content)| Patch { range, content: Bytes::from(content) })
}

proptest! {
    #[test]
    fn a_printed_range_is_read_as_it_was(range in any_range()) {
        let printed = range.to_string();
        prop_assert!(printed.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        prop_assert_eq!(ContentRange::parse(&printed), Ok(range));
    }

    #[test]
    fn no_range_panics(header in "(json|text)? ?([.a1\\[\\]\":\\\\ -]|\\PC){0,30}") {
        let _ = ContentRange::parse(&header);
    }

    #[test]
    fn no_body_panics(
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "(Content-Length: [0-9]{0,3}\r?\n|Content-Range: text \\[0:1\\]\n|\r|\n|.){0,12}"
                .prop_map(String::into_bytes),
        ],
        count in 0usize..4,
    ) {
        let _ = parse_patches(&Bytes::from(body), count);
    }

    #[test]
    fn a_client_reads_what_was_written(
        updates in prop::collection::vec(
            (prop::collection::vec(any_patch(), 0..4), any::<bool>()),
            0..6,
        ),
    ) {
        let mut out = Vec::new();
        for (patches, whole) in &updates {
            let body = if *whole {
                UpdateBody::Snapshot {
                    content_type: &Mime::JSON,
                    content: b"\r\n\r\nPatches: 1\r\n",
                }
            } else {
                UpdateBody::Patches(patches)
            };
            let (version, parents) = (ids(&["b-1", "é"]), ids(&[]));
            let update = Update {
                version: &version,
                parents: &parents,
                repr_sha256: None,
                body,
            };
            write_update(&mut out, &update);
            out.extend_from_slice(b"\r\n"); // a heartbeat
        }
        write_deleted(&mut out, &[], &[], b"");
        let seen = read_stream(&Bytes::from(out));
        prop_assert_eq!(seen.len(), updates.len() + 1);
        for ((status, _, content), (patches, whole)) in seen.iter().zip(&updates) {
            prop_assert_eq!(status, "HTTP 200 OK");
            match content {
                Ok(body) => prop_assert!(*whole && &body[..] == b"\r\n\r\nPatches: 1\r\n"),
                Err(seen) => prop_assert!(!whole && seen == patches),
            }
        }
        prop_assert_eq!(&seen[updates.len()].0, "HTTP 404 Not Found");
    }
}
