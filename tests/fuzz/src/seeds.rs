//! Where the corpus comes from: what encoders write, and texts of every kind that parsers take. Names that begin with
//! `good-` are accepted, `bad-` are refused for one reason each.

use bytes::Bytes;
use timebus_identity::{PublicKey, SecretKey, Signable as _, Signature, Signed, z32};
use timebus_net::record::PeerRecord;
use timebus_net::sync::frame::{
    Ack, Auth, Close, Code, FRAME_BYTES_MAX, Feature, Frame, Hello, Holding, Lacks, Open, Opened, Page, Part as ChangesPart, Provider, Redemption,
    Seat, Taking, Wants,
};
use timebus_net::sync::{Cursor, Tip};
use timebus_store::blobs::BlobHash;
use timebus_store::change::{Body, Change, Encryption, Header, Kind, Part};
use timebus_store::codec::Writer;
use timebus_store::grant::{Actions, Audience, Authority, Genesis, Grant, Revoke, Scope, ScopeSegment, Succeed, Timelines};
use timebus_store::ids::{ChangeId, GrantId, OpId, TimelineId};
use timebus_store::json::Json;
use timebus_store::log::{Form, Place, frame};
use timebus_store::node::{Entry, Node, Write, Writes, history_key, node_key};
use timebus_store::op::{Op, OpRef, PathStep, Side, TextEdit};
use timebus_store::path::{Path, Segment};
use timebus_store::succession::{Answer, Request};
use timebus_store::summary::Summary;
use timebus_store::value::{Mime, Value};

/// The seeds of a target, by file name.
#[must_use]
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "header" => good(headers().iter().map(Header::encode)),
        "body" => good(bodies().iter().map(Body::encode)),
        "change" => good(changes()),
        "value" => good(values().iter().map(encode_value)),
        "rows" => good(rows()),
        "key" => good(paths().iter().map(Path::key)),
        "log" => good(segments()),
        "recovery" => good(recovery()),
        "blob_frame" => good(blob_frames()),
        "record" => good(records()),
        "frame" => good(peer_frames().iter().map(|frame| frame.encode().to_vec())),
        _ => texts(target),
    }
}

fn good(inputs: impl IntoIterator<Item = Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    inputs.into_iter().enumerate().map(|(at, input)| (format!("good-{at:02}"), input)).collect()
}

fn id(byte: u8) -> ChangeId {
    ChangeId([byte; 32])
}

fn key() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

fn recovery() -> Vec<Vec<u8>> {
    let request = Request { space: key().public(), root: SecretKey::from_seed([8; 32]).public(), next: [9; 32] };
    let answer = |guardians: u8| {
        let mut keys: Vec<SecretKey> = (20..20 + guardians).map(|n| SecretKey::from_seed([n; 32])).collect();
        keys.sort_unstable_by_key(SecretKey::public);
        let plan = Genesis { next: Some(request.next), guardians: Some((1, keys.iter().map(SecretKey::public).collect())) };
        let mut succeed = Succeed { from: [1; 32], root: request.root, plan, authority: Authority::Guardians(Vec::new()) };
        let message = succeed.signing_message();
        succeed.authority = Authority::Guardians(keys.iter().map(|key| (key.public(), key.sign(&message))).collect());
        Answer { space: request.space, succeed }.encode()
    };
    vec![request.encode(), answer(1), answer(3)]
}

fn headers() -> Vec<Header> {
    let first = Header {
        kind: Kind::Data,
        timeline: TimelineId([1; 32]),
        author: key().public(),
        seq: 1,
        prev: None,
        cap: None,
        parents: Vec::new(),
        lamport: 1,
        time_ms: 1_700_000_000_000,
        cum: 600,
        body_len: 5,
        body_root: [9; 32],
        encryption: None,
    };
    let later = Header { seq: 300, prev: Some(id(2)), cap: Some(GrantId([3; 32])), parents: vec![id(4), id(5)], lamport: 70_000, ..first.clone() };
    let secret = Header { kind: Kind::Drop, encryption: Some(Encryption { epoch: [6; 16], nonce: [7; 24] }), ..later.clone() };
    let merge = Header { kind: Kind::Auth, parents: (10..42).map(id).collect(), ..later.clone() };
    vec![first, later, secret, merge]
}

fn name(text: &str) -> PathStep {
    PathStep::Name(text.into())
}

fn values() -> Vec<Value> {
    let object =
        Json::Object([("a".to_owned(), Json::Array(vec![Json::Null, Json::Float(0.5)])), ("b/".to_owned(), Json::String("é".into()))].into());
    vec![
        Value::Null,
        Value::Bool(true),
        Value::Int(-9_007_199_254_740_991),
        Value::Float(0.1),
        Value::String("hällo".into()),
        Value::Bytes { mime: Mime::plain_text(), bytes: (*b"bytes").into() },
        Value::Bytes { mime: Mime::new("application/x-own").expect("a media type"), bytes: (*b"\xff\x00").into() },
        Value::Opaque(object),
        Value::Map,
        Value::text(Mime::plain_text()),
        Value::Counter(-3),
        Value::List,
        Value::Blob { hash: [8; 32], len: 1 << 30, mime: Mime::new("video/mp4").expect("a media type") },
        Value::Link { space: key().public(), path: Path::parse("/a/@@b").expect("a path") },
    ]
}

fn encode_value(value: &Value) -> Vec<u8> {
    let mut out = Writer::new();
    value.encode(&mut out);
    out.into_bytes()
}

fn bodies() -> Vec<Body> {
    let own = |index| OpRef { change: 0, index };
    let other = OpRef { change: 2, index: 7 };
    let path = vec![name("notes"), name("hi")];
    let sets =
        values().into_iter().enumerate().map(|(at, value)| Op::Set { path: vec![name("values"), name(&at.to_string())], value, preds: Vec::new() });
    let rights = Grant {
        audience: Audience::Key(key().public()),
        scope: Scope { segments: vec![ScopeSegment::Name("inbox".into()), ScopeSegment::Author], deep: true },
        timelines: Timelines::Only(vec![TimelineId([1; 32]), TimelineId([2; 32])]),
        actions: Actions::ALL,
        bytes_max: 1 << 20,
        change_bytes_max: 0,
        not_after_ms: 1_800_000_000_000,
        depth: 2,
        label: "phone".into(),
    };
    let open = Grant { audience: Audience::Anyone, scope: Scope::everything(), timelines: Timelines::Main, ..rights.clone() };
    let refs = Body { references: vec![id(1), id(2)], ..Body::default() };
    vec![
        Body::default(),
        Body { label: Some("alice-5".into()), base: Some(vec![id(1), id(2)]), ops: sets.collect(), ..Body::default() },
        Body {
            part: Some(Part { number: 2, count: 3, first: Some(id(9)) }),
            ops: vec![
                Op::Set { path: path.clone(), value: Value::List, preds: vec![own(3), other] },
                Op::Ins { list: own(0), at: None, side: Side::Right, value: Value::Int(1) },
                Op::Ins { list: own(0), at: Some(own(1)), side: Side::Left, value: Value::Map },
                Op::Set { path: vec![name("notes"), name("hi"), PathStep::Element(own(2)), name("x")], value: Value::Null, preds: Vec::new() },
                Op::Move { elem: own(1), at: Some(other), side: Side::Right },
                Op::Del { path, preds: vec![other] },
            ],
            ..refs.clone()
        },
        Body {
            ops: vec![
                Op::Inc { obj: other, delta: -5 },
                Op::Text {
                    obj: other,
                    base: vec![(1, 4), (2, 0)],
                    agent: "alice".into(),
                    seq: 9,
                    edits: vec![TextEdit { pos: 3, del: 1, ins: "é".into() }, TextEdit { pos: 0, del: 0, ins: "".into() }],
                },
                Op::Mount { path: vec![name("shared")], mode: 1, params: (*b"p").into() },
                Op::Link { space: [1; 32], timeline: [2; 32], change: [3; 32] },
                Op::Unknown { tag: 200, bytes: (*b"later").into() },
            ],
            ..refs
        },
        Body {
            ops: vec![
                Op::Genesis(Genesis {
                    next: Some([5; 32]),
                    guardians: Some((2, vec![PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32])])),
                }),
                Op::Genesis(Genesis { next: None, guardians: None }),
                Op::Grant(rights),
                Op::Grant(open),
                Op::Revoke(Revoke { grant: GrantId([4; 32]), cascade: true, keep: vec![id(1), id(2)] }),
                Op::Succeed(Succeed {
                    from: [6; 32],
                    root: PublicKey::from_bytes([7; 32]),
                    plan: Genesis { next: Some([8; 32]), guardians: None },
                    authority: Authority::Root(Signature::from_bytes([9; 64])),
                }),
                Op::Succeed(Succeed {
                    from: [6; 32],
                    root: PublicKey::from_bytes([7; 32]),
                    plan: Genesis { next: None, guardians: None },
                    authority: Authority::Guardians(vec![(PublicKey::from_bytes([1; 32]), Signature::from_bytes([2; 64]))]),
                }),
            ],
            ..Body::default()
        },
    ]
}

fn changes() -> Vec<Vec<u8>> {
    let write = |(header, body): (Header, Body)| {
        let body = body.encode();
        let header = Header { body_len: body.len() as u64, body_root: *blake3::hash(&body).as_bytes(), ..header };
        let change = Change::new(header, body.into()).expect("a header and its body");
        // Not its own signature: the target asserts that none ever fits.
        let signature = key().sign(&[&change.signing_message()[..], b"!"].concat());
        let mut out = Vec::new();
        change.write(&signature, &mut out);
        out
    };
    headers().into_iter().zip(bodies()).map(write).collect()
}

fn element() -> OpId {
    OpId { change: id(0xab), index: 300 }
}

fn paths() -> Vec<Path> {
    let texts = ["/", "/a", "/notes/hi", "/@@alice/.profile", "/é/\u{1f600}/ "];
    let mut paths: Vec<Path> = texts.iter().map(|text| Path::parse(text).expect("a path")).collect();
    paths.push(Path::new(vec![Segment::Name("list".into()), Segment::Element(element()), Segment::Name("x".into())]).expect("a path"));
    paths
}

fn rows() -> Vec<Vec<u8>> {
    let summary = Summary {
        id: id(1),
        place: Place { segment: 3, offset: 70_000 },
        author: key().public(),
        cap: None,
        seq: 2,
        lamport: 300,
        time_ms: 1_700_000_000_000,
        cum: 900,
        deps: vec![4, 5],
        refs: vec![2],
        base: Some(vec![3]),
        total: false,
        except: Vec::new(),
        part: Some((2, 3)),
        folded: true,
        label: Some("alice-5".into()),
        behalf: None,
    };
    let plain = Summary { deps: Vec::new(), base: None, total: true, part: None, folded: false, label: None, ..summary.clone() };
    let write = Write { lamport: 9, a: 4, id: element(), list: Some(element()), value: Value::String("x".into()) };
    let entry = Entry { writes: true, list: Some(element()), preds: vec![(1, 0), (300, 70_000)], hidden: false };
    let node = |writes| Node { writes, below: 300, loose: true, touch: timebus_store::node::Touch::Here(vec![1, 400]) };
    let with = |kind: u8, row: Vec<u8>| [&[kind][..], &row].concat();
    vec![
        with(0, summary.encode()),
        with(0, plain.encode()),
        with(1, Node::default().encode()),
        with(1, node(Writes::One(write)).encode()),
        with(1, node(Writes::Many(3)).encode()),
        with(2, entry.encode()),
        with(2, Entry { writes: false, list: None, preds: Vec::new(), hidden: true }.encode()),
        with(3, history_key(&node_key(1, &Path::parse("/a").expect("a path").key()), 7, 2)),
        with(0, Summary { behalf: Some(key().public()), ..plain }.encode()),
    ]
}

fn segments() -> Vec<Vec<u8>> {
    let log = |payloads: &[&[u8]]| {
        let mut out = Vec::new();
        payloads.iter().zip(1..).for_each(|(payload, a)| frame(a, payload, &mut out));
        out
    };
    let inner = log(&[b"planted"]);
    let mut cut = log(&[b"one", b"two"]);
    cut.truncate(cut.len() - 5);
    let mut hurt = log(&[&inner, b"two"]);
    hurt[5] ^= 1;
    let mut packed = Vec::new();
    for (bytes, a) in changes().iter().zip(1..) {
        let signed = Change::decode(bytes).expect("a change");
        Form::of(signed.content()).frame(a, signed.content(), signed.signature(), &mut packed);
    }
    vec![log(&[b"one", b"", b"three"]), log(&[&inner, b"x"]), cut, hurt, packed]
}

/// Texts, one to a file.
fn texts(target: &str) -> Vec<(String, Vec<u8>)> {
    let op = element().to_string();
    let key = key().public().to_string();
    let (accepted, refused): (Vec<String>, Vec<&str>) = match target {
        "path" => (paths().iter().map(ToString::to_string).chain(["/a/".into(), "/a%2Fb".into()]).collect(), vec!["a", "//", "/a/..", "/@x"]),
        "target" => (
            own(&[
                "/",
                "/notes/caf%C3%A9/?depth=1&limit=20",
                "/%40%40a/%25?after=a%2Fb+c&first=3",
                "/@@a/~_-.!$&'()*+,;=:",
                "/c?inc=-5&view=meta",
                "/l?last=2&view=raw",
            ]),
            vec!["/%2e%2e", "/a%2Fb", "/%C0%AF", "/%00", "/a#b", "/?depth=+1", "/?x=1"],
        ),
        "json" => (
            own(&[
                "{\"a\":[1,2.5,-3e-7,\"\\u00e9\\ud83d\\ude00\\n\"],\"b\":{},\"c\":[],\"d\":null}",
                "[true,false,0,-0,1.0,1e2,9007199254740991,0.1,1.7976931348623157e308,5e-324]",
                "\"\u{7f}\u{ffff}\u{10ffff}\\\\\\/\\\"\"",
                "[[[[[[[[1]]]]]]]]",
                " {\"\" : {\"\" : \"\"}} ",
            ]),
            vec!["{\"a\":1,\"a\":2}", "[9007199254740993]", "\"\\ud800\"", "[1,]", "01", "\u{feff}1", "[1e400]"],
        ),
        "json_patch" => (
            own(&[
                "{\"a\":[1,2,3],\"b\":{\"c\":\"d\"}}\n[{\"op\":\"add\",\"path\":\"/a/1\",\"value\":9},{\"op\":\"remove\",\"path\":\"/b/c\"}]",
                "{\"a\":[1,2,3],\"~/\":1}\n[{\"op\":\"move\",\"from\":\"/a/0\",\"path\":\"/a/-\"},{\"op\":\"test\",\"path\":\"/~0~1\",\"value\":1}]",
                "{\"a\":{\"b\":1}}\n[{\"op\":\"copy\",\"from\":\"/a\",\"path\":\"/a/c\"},{\"op\":\"replace\",\"path\":\"/a/b\",\"value\":[]}]",
                "[[1],[2]]\n[{\"op\":\"replace\",\"path\":\"\",\"value\":{\"a\":0}}]",
            ]),
            vec!["{\"a\":{}}\n[{\"op\":\"move\",\"from\":\"/a\",\"path\":\"/a/b\"}]", "[1]\n[{\"op\":\"add\",\"path\":\"/01\",\"value\":0}]"],
        ),
        "splice" => (
            own(&[
                "{\"a\":[1,2,3]}\njson .a[1:2]\n[7,8]",
                "{\"a\":{\"b\":1}}\njson [\"a\"][\"b\"]\n{\"c\":2}",
                "{\"a\":{\"b\":1}}\njson .a.b",
                "[1,[2,3]]\njson [1][-1]\n0",
                "[1,2]\njson [-0]\n3",
                "[1,2]\njson [\"2\"]\n3",
                "{\"t\":\"a\u{1f600}c\"}\njson .t[1:-1]\n\"xy\"",
                "1\njson\n{}",
            ]),
            vec!["[1]\njson [2]\n1", "[1]\njson [1:0]\n[]"],
        ),
        "merge_patch" => (
            own(&["{\"a\":{\"b\":1,\"c\":2},\"d\":[1]}\n{\"a\":{\"b\":null,\"e\":{\"f\":null}},\"d\":{\"x\":1}}", "[1]\n{\"a\":null}", "{}\n[1]"]),
            vec!["{"],
        ),
        "versions" => (
            own(&["", "\"alice-5\"", "\"b\", \"a\",\"a\"", "\"jos\\u00e9-2\", \"\\ud83d\\ude00\", \"\u{ff41}\"", " \"a, \\\"b\\\"\" "]),
            vec!["alice-5", "\"\"", "\"a\"],[\"b\""],
        ),
        "range" => (
            own(&[
                "json",
                "json .a.b[3]",
                "json [\"a\\\"]\"][\"\\u00e9\"]",
                "json .list[1:2]",
                "json [-0]",
                "json [-2:-1]",
                "json [0:-0]",
                "text [0:12]",
                " text  [ 3 : 3 ] ",
                "text [-0:-0]",
            ]),
            vec!["json .", "json [1:2][3]", "text [2:1]", "bytes 0-5/10"],
        ),
        "patches" => (
            own(&[
                "\u{1}\0Content-Length: 1\r\nContent-Range: text [0:1]\r\n\r\nJ\r\n\r\n",
                "\u{2}\0content-length: 3\ncontent-range: json .a[0:0]\n\n[1]\n\nX: y\nContent-Range: json\nContent-Length:0\n\n",
                "\0\0rubbish",
            ]),
            vec!["\u{1}\0Content-Length: 9\r\nContent-Range: json\r\n\r\nx", "\u{1}\0Content-Length: 0\r\nContent-Length: 0\r\n\r\n"],
        ),
        "etag" => (own(&["*", "", "\"a\"", "W/\"a\" ,, \"b c\",\"*\"", "\"a\\\"b\", \"jos\\u00e9\""]), vec!["a", "\"a", "\"a\" \"b\""]),
        "byte_range" => (
            own(&[
                "\u{64}\0\0\0\0\0\0\0bytes=0-49",
                "\u{64}\0\0\0\0\0\0\0bytes=50-",
                "\u{64}\0\0\0\0\0\0\0BYTES= -5 ",
                "\u{64}\0\0\0\0\0\0\u{7f}bytes=0-18446744073709551616",
            ]),
            vec!["\u{64}\0\0\0\0\0\0\0bytes=0-1,5-6", "\0\0\0\0\0\0\0\0bytes=-0"],
        ),
        "accept" => (
            own(&["text/plain; charset=utf-8", "Text/PLAIN ;Charset=\"utf-8\"", "a/b; x=\"1 2\"; y=\"\\\"\"", "application/vnd.x+json"]),
            vec!["text/html,application/xml;q=0.9,*/*;q=0.8", "text/*, text/plain;q=0", "a/b; x=\"a\"b\""],
        ),
        "host" => (
            own(&["localhost:7007", "127.0.0.1:7007", "[::1]:7007", "chirp.localhost:7007"]),
            vec!["example.org", "example.org:443", "[2001:db8::1]", "-a.localhost:7007", "localhost:7007."],
        ),
        "signature" => {
            let made = crate::http::NOW_S;
            let end = format!(";created={made};keyid=\"{key}\";alg=\"ed25519\"\nsig1=:{}:", "A".repeat(86) + "==");
            let digest = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
            (
                vec![
                    format!("sig1=(\"@method\" \"@authority\" \"@path\"){end}"),
                    format!("sig1=(\"@method\" \"@target-uri\" \"x-note\"){end}"),
                    format!("sig1=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\"){end}\n{digest}"),
                ],
                vec!["sig1=(\"@method\");created=1\nsig1=:AAAA:"],
            )
        }
        "identity" => (vec![key, op, z32::encode(b"yes mani !"), String::new()], vec!["Yy", "yl", "é"]),
        "wire" => (
            own(&[
                "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\r\n{\"a\":1}GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET /.sys/status HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\nGET /a HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "PUT /a/b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"c\":[1,2,3]}GET /a/b/c HTTP/1.1\r\nHost: localhost\r\nSubscribe: true\r\n\r\n",
                "PUT /t HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "PATCH /a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/merge-patch+json\r\nContent-Length: 7\r\n\r\n{\"x\":1}",
                "PUT /a HTTP/1.1\r\nHost: localhost\r\nVersion: \"w-1\"\r\nPatches: 1\r\nContent-Length: 53\r\n\r\nContent-Length: 1\r\nContent-Range: json .x\r\n\r\n2        ",
                "PUT /l HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n[]POST /l HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1DELETE /l HTTP/1.1\r\nHost: localhost\r\n\r\n",
                "GET /.sys/log/a?limit=2 HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\nIf-None-Match: \"x\"\r\n\r\n",
            ]),
            vec!["GET / HTTP/1.0\r\n\r\n", "BREW /pot HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n"],
        ),
        other => panic!("no seeds for {other}"),
    };
    // What a peer answers depends on what it was sent before.
    let numbered = |kind: &str, at: usize| if target == "wire" { format!("http-{kind}-{at:02}") } else { format!("{kind}-{at:02}") };
    let accepted = accepted.into_iter().enumerate().map(|(at, text)| (numbered("good", at), text.into_bytes()));
    let mut all: Vec<_> = accepted.chain(refused.into_iter().enumerate().map(|(at, text)| (numbered("bad", at), text.as_bytes().to_vec()))).collect();
    if target == "wire" {
        all.extend(frames());
    }
    all
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// Seeds of the wire that are no text.
fn frames() -> Vec<(String, Vec<u8>)> {
    let masked = |first: u8, text: &str| [&[first, 0x80 | text.len() as u8, 0, 0, 0, 0][..], text.as_bytes()].concat();
    let socket = [
        &[1][..],
        &masked(0x81, "{\"id\":1,\"watch\":\"/a\"}"),
        &masked(0x81, "{\"id\":2,\"put\":\"/a\",\"value\":{\"b\":1}}"),
        &masked(0x01, "{\"id\":3,\"get\""),
        &masked(0x89, "ping"),
        &masked(0x80, ":\"/a\",\"version\":[\"x\"]}"),
        &masked(0x88, "\u{3}\u{68}"),
    ]
    .concat();
    // GET / as HPACK writes it from its static table, and a path of its own.
    let head = b"\x82\x86\x84\x41\x09localhost";
    let own_path = b"\x82\x86\x04\x02/a\x41\x09localhost";
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream][..], payload].concat();
    let requests = [&[2][..], &frame(1, 5, 1, head), &frame(1, 5, 3, own_path), &frame(8, 0, 0, &[0, 1, 0, 0]), &frame(6, 0, 0, &[7; 8])].concat();
    let parts =
        [&[2][..], &frame(1, 1, 1, &head[..3]), &frame(9, 4, 1, &head[3..]), &frame(3, 0, 1, &[0, 0, 0, 8]), &frame(7, 0, 0, &[0; 8])].concat();
    vec![("socket-00".into(), socket), ("h2-00".into(), requests), ("h2-01".into(), parts)]
}

/// Peer records: one that says nothing, one that is full, and one that another key signed.
fn records() -> Vec<Vec<u8>> {
    let keys = |count: u8| (1..=count).map(|byte| PublicKey::from_bytes([byte; 32])).collect::<Vec<_>>();
    let bare = PeerRecord {
        node: key().public(),
        space: PublicKey::from_bytes([2; 32]),
        seq: 1,
        addresses: vec![],
        mirrors: vec![],
        inbox: vec![],
        communities: vec![],
    };
    let full = PeerRecord {
        seq: u64::MAX,
        addresses: vec!["[2001:db8::1]:7007".to_owned(); 8],
        mirrors: keys(8),
        inbox: keys(8),
        communities: keys(16),
        ..bare.clone()
    };
    let forged = PeerRecord { node: PublicKey::from_bytes([3; 32]), ..bare.clone() };
    [bare, full, forged].map(|record| PeerRecord::encode(&Signed::new(record.clone(), key().sign(&record.signing_message())))).to_vec()
}

/// One frame about blobs of each kind.
fn blob_frames() -> Vec<Vec<u8>> {
    use timebus_net::blobs::frame::{BlobFrame, Not};
    let (space, hash) = (timebus_identity::PublicKey::from_bytes([1; 32]), timebus_store::blobs::BlobHash::from_bytes([2; 32]));
    let frames = [
        BlobFrame::Have { space, hash, len: 1 << 20, asks: true, pieces: vec![(0, 3), (5, 8)] },
        BlobFrame::Have { space, hash, len: 0, asks: false, pieces: vec![] },
        BlobFrame::Want { hash, id: 300, any_of: vec![(1, 2), (4, 4000)] },
        BlobFrame::Piece { hash, id: 1, piece: 7, slice: vec![3; 100].into() },
        BlobFrame::Not { hash, id: 1, reason: Not::Elsewhere },
        BlobFrame::Not { hash, id: 1, reason: Not::Busy },
    ];
    frames.iter().map(|frame| frame.encode().to_vec()).collect()
}

/// One frame between peers of each kind, and of each option.
fn peer_frames() -> Vec<Frame> {
    let other = PublicKey::from_bytes([2; 32]);
    let holding =
        Holding { heads: vec![id(1), id(2)], more: true, incarnation: [3; 16], end: 300, cursor: Some(Cursor { incarnation: [4; 16], upto: 7 }) };
    let features = vec![Feature { id: 1, required: false }, Feature { id: 300, required: true }];
    let tip = |author, seq| Tip { author: PublicKey::from_bytes([author; 32]), seq, id: id(9) };
    let changes = vec![Bytes::from_static(b"header, signature, body"), Bytes::new()];
    vec![
        Frame::Hello(Hello { major: 1, minor: 2, patch: 300, features, frame_bytes_max: FRAME_BYTES_MAX as u64, nonce: [5; 32] }),
        Frame::Auth(Auth {
            space: other,
            proofs: vec![(other, Signature::from_bytes([6; 64]))],
            name: "bö".to_owned(),
            addresses: vec!["127.0.0.1:1".to_owned(), String::new()],
        }),
        Frame::Open(Open { channel: 1, space: other, timeline: TimelineId([7; 32]), mode: 0, holding, credit: 1 << 18 }),
        Frame::Opened(Opened { channel: 300, holding: Holding::default(), credit: 0, lacks: Lacks::TipsFollow }),
        Frame::Tips { channel: 1, page: Page::More, tips: vec![tip(1, 1), tip(1, 300), tip(2, 1)] },
        Frame::Tips { channel: 1, page: Page::LacksNothing, tips: Vec::new() },
        Frame::Need { channel: 1, ids: vec![id(1)], have: vec![id(2), id(3)] },
        Frame::Changes { channel: 1, part: ChangesPart::Stream, upto: 9, changes },
        Frame::Changes { channel: 1, part: ChangesPart::AnswerEnds, upto: 0, changes: Vec::new() },
        Frame::Ack(Ack { channel: 1, bytes: 4096, durable: 9, upto: 300 }),
        Frame::Live { channel: 1, upto: 300 },
        Frame::Close(Close { channel: 0, code: Code::Busy, retry_after_s: 60, text: "é".to_owned() }),
        Frame::Redeem { token: [8; 16], device: other },
        Frame::Redeemed { result: Redemption::Later, space: other, text: "wait".to_owned() },
        Frame::Feed { channel: 1, wants: Wants::All, is_busy: true, more: false, bytes: 300, heads: vec![id(1), id(2)] },
        Frame::Providers { channel: 1, providers: vec![Provider { node: other, addresses: vec!["a:1".to_owned()] }] },
        Frame::Put { space: other, notices: vec![b"a notice".to_vec().into()] },
        Frame::Records(vec![b"a record".to_vec().into()]),
        Frame::AskRecords(vec![PublicKey::from_bytes([1; 32]), other]),
        Frame::AskFiles { space: other, files: vec![BlobHash::from_bytes([1; 32]), BlobHash::from_bytes([2; 32])] },
        Frame::Files { space: other, files: vec![] },
        Frame::Took { space: other, results: vec![(id(1), Taking::Kept), (id(2), Taking::Refused)] },
        Frame::Weigh { channel: 1, authors: vec![other], ids: vec![id(1), id(2)], heads: vec![Bytes::from_static(&[7; 70])] },
        Frame::Presence {
            channel: 1,
            path: Path::parse("/notes/plan").unwrap_or_else(|_| Path::root()),
            seats: vec![Seat { name: [1; 8], value: Some(Bytes::from_static(b"{\"at\":[1,2]}")) }, Seat { name: [2; 8], value: None }],
        },
    ]
}
