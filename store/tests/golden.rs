//! The bytes of the formats in `FORMAT.md`, one vector for each. Each is read both ways: the value gives the
//! bytes, the bytes give the value. Whoever has to change bytes here makes a new version of the format.
//!
//! In a vector, `#` begins a comment and `aa*32` stands for 32 bytes `aa`.

use std::collections::BTreeMap;
use std::sync::Arc;

use timebus_identity::{PublicKey, SecretKey, Signable, Signature, Verified, hash};
use timebus_store::change::{self, Body, Change, Encryption, Head, Header, Kind, Part};
use timebus_store::codec::{Reader, Writer};
use timebus_store::grant::{Actions, Audience, Authority, Genesis, Grant, Revoke, Scope, ScopeSegment, Succeed, Timelines};
use timebus_store::ids::{ChangeId, GrantId, OpId, TimelineId};
use timebus_store::json::Json;
use timebus_store::log::{Form, LogReader, Place, frame};
use timebus_store::op::{Op, OpRef, PathStep, Side, TextEdit};
use timebus_store::path::{Path, Segment};
use timebus_store::succession::{Answer, Request};
use timebus_store::value::{INT_MAX, Mime, Value};

/// Reads hex digits with comments.
fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace()) {
        let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
        assert!(digits.len().is_multiple_of(2), "half a byte in {word}");
        let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
        let once: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect();
        bytes.extend(once.repeat(times.parse().expect("a number")));
    }
    bytes
}

/// So that a failure shows what to compare.
fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn assert_bytes(found: &[u8], expected: &str) {
    assert_eq!(digits(found), digits(&hex(expected)));
}

fn root() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

fn device() -> SecretKey {
    SecretKey::from_seed([8; 32])
}

fn name(text: &str) -> PathStep {
    PathStep::Name(text.into())
}

fn at(change: u32, index: u32) -> OpRef {
    OpRef { change, index }
}

#[test]
fn keys_and_timelines() {
    assert_bytes(root().public().as_bytes(), "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c");
    let space = root().public();
    // H("timeline", space ‖ "auth") and H("timeline", space ‖ "main")
    assert_bytes(TimelineId::named(&space, "auth").as_bytes(), "f432e60373277cf34c3dad4c35f955385a2c839a2fff38beb19f2c49e9d5b598");
    assert_bytes(TimelineId::named(&space, "main").as_bytes(), "557a572d6dc03861e01710fbd00860d2b464a61b94ce157a88dacbad789da65b");
}

#[test]
fn a_header_with_every_field() {
    let header = Header {
        kind: Kind::Data,
        timeline: TimelineId([0x11; 32]),
        author: PublicKey::from_bytes([0x22; 32]),
        seq: 2,
        prev: Some(ChangeId([0x33; 32])),
        cap: Some(GrantId([0x44; 32])),
        parents: vec![ChangeId([0x55; 32]), ChangeId([0x66; 32])],
        lamport: 300,
        time_ms: 1000,
        cum: 1029,
        body_len: 5,
        body_root: [0x77; 32],
        encryption: Some(Encryption { epoch: [0x88; 16], nonce: [0x99; 24] }),
    };
    let expected = hex("
        01           # version
        00           # kind: data
        11*32        # timeline
        22*32        # author
        02           # seq
        01 33*32     # prev: there is one
        01 44*32     # cap: there is one
        02           # two parents follow
        55*32 66*32  # their ids, ascending
        ac02         # lamport 300
        e807         # 1 000 ms after 1970
        8508         # 1 029 bytes of the chain so far
        05           # five bytes of body
        77*32        # BLAKE3 of the body
        01           # flags: the body is encrypted
        88*16        # with which key
        99*24        # with which nonce
    ");
    assert_eq!(digits(&header.encode()), digits(&expected));
    let mut input = Reader::new(&expected);
    assert_eq!(Header::decode(&mut input), Ok(header));
    assert_eq!(input.finish(), Ok(()));
}

#[test]
fn the_kinds_of_a_header() {
    for (kind, byte) in [(Kind::Data, 0), (Kind::Auth, 1), (Kind::Drop, 2)] {
        let header = first_header(kind, Body::default().encode());
        assert_eq!(header.encode()[1], byte);
        assert_eq!(Header::decode(&mut Reader::new(&header.encode())), Ok(header));
    }
}

#[test]
fn the_least_body() {
    assert_bytes(
        &Body::default().encode(),
        "00 00 00  # no label, no base, no part
         00        # no references
         00        # no ops",
    );
    assert_eq!(Body::decode(&hex("00 00 00 00 00")), Ok(Body::default()));
}

#[test]
fn a_body_with_every_kind_of_op() {
    let ops = vec![
        Op::Set { path: vec![name("a")], value: Value::Null, preds: vec![] },
        Op::Set { path: vec![name("a"), name("b")], value: Value::Int(1), preds: vec![at(1, 0), at(2, 3)] },
        Op::Set { path: vec![name("a"), PathStep::Element(at(1, 5)), name("c")], value: Value::String("é".into()), preds: vec![] },
        Op::Del { path: vec![name("a")], preds: vec![at(0, 0), at(1, 300)] },
        Op::Inc { obj: at(1, 2), delta: -3 },
        Op::Text {
            obj: at(2, 0),
            base: vec![(1, 4), (2, 9)],
            agent: "bob".into(),
            seq: 12,
            edits: vec![TextEdit { pos: 3, del: 2, ins: "hi".into() }],
        },
        Op::Ins { list: at(1, 6), at: None, side: Side::Right, value: Value::Bool(true) },
        Op::Ins { list: at(1, 6), at: Some(at(0, 6)), side: Side::Left, value: Value::Map },
        Op::Move { elem: at(0, 6), at: Some(at(2, 8)), side: Side::Left },
        Op::Mount { path: vec![name("a"), name("m")], mode: 1, params: Box::from([0xf0, 0x0d]) },
        Op::Link { space: [0x33; 32], timeline: [0x44; 32], change: [0x55; 32] },
        Op::Grant(Grant {
            audience: Audience::Key(PublicKey::from_bytes([0x66; 32])),
            scope: Scope { segments: vec![ScopeSegment::Name("wiki".into()), ScopeSegment::Author], deep: true },
            timelines: Timelines::Only(vec![TimelineId([0x77; 32])]),
            actions: Actions(7),
            bytes_max: 1_000_000,
            change_bytes_max: 4096,
            not_after_ms: 0,
            depth: 2,
            label: "bob".into(),
        }),
        Op::Grant(Grant {
            audience: Audience::Anyone,
            scope: Scope { segments: vec![], deep: false },
            timelines: Timelines::Main,
            actions: Actions::WRITE,
            bytes_max: 0,
            change_bytes_max: 0,
            not_after_ms: 1000,
            depth: 0,
            label: "".into(),
        }),
        Op::Revoke(Revoke { grant: GrantId([0x88; 32]), cascade: true, keep: vec![ChangeId([0x99; 32])] }),
        Op::Genesis(Genesis {
            next: Some([0xaa; 32]),
            guardians: Some((2, vec![PublicKey::from_bytes([0xbb; 32]), PublicKey::from_bytes([0xcc; 32])])),
        }),
        Op::Succeed(Succeed {
            from: [0xa1; 32],
            root: PublicKey::from_bytes([0xa2; 32]),
            plan: Genesis { next: None, guardians: None },
            authority: Authority::Root(Signature::from_bytes([0xa3; 64])),
        }),
        Op::Succeed(Succeed {
            from: [0xa1; 32],
            root: PublicKey::from_bytes([0xa2; 32]),
            plan: Genesis { next: Some([0xaa; 32]), guardians: None },
            authority: Authority::Guardians(vec![(PublicKey::from_bytes([0xbb; 32]), Signature::from_bytes([0xa4; 64]))]),
        }),
        Op::Unknown { tag: 200, bytes: Box::from([0xde, 0xad]) },
    ];
    let body = Body {
        label: Some("draft".into()),
        base: Some(vec![ChangeId([0xaa; 32])]),
        part: Some(Part { number: 2, count: 3, first: Some(ChangeId([0xbb; 32])) }),
        references: vec![ChangeId([0x11; 32]), ChangeId([0x22; 32])],
        ops,
    };
    let expected = hex("
        01 05 6472616674        # label: 5 bytes, draft
        01 01 aa*32             # base: one change
        01 02 03 bb*32          # part 2 of 3, and the first part
        02 11*32 22*32          # two changes that the ops refer to; the ops call them 1 and 2, and this one 0
        12                      # eighteen ops follow, each behind its length

        08 01                   # op 0, eight bytes: Set
           00 01 00 01 61       #   path: shares nothing, one segment more, a name of 1 byte, a
           00                   #   value: null
           00                   #   replaces nothing
        0d 01                   # op 1: Set
           01 01 00 01 62       #   path: shares /a, one segment more, the name b
           03 02                #   value: the integer 1
           02 0100 0203         #   replaces op 0 of change 1 and op 3 of change 2
        0e 01                   # op 2: Set
           01 02                #   path: shares /a, two segments more:
           01 0105 00 01 63     #     the element that op 5 of change 1 inserted, the name c
           05 02 c3a9           #   value: the string é
           00                   #   replaces nothing
        09 02                   # op 3: Del
           01 00                #   path: shares /a, nothing more
           02 0000 01ac02       #   removes op 0 of this change and op 300 of change 1
        04 03                   # op 4: Inc
           0102                 #   the counter that op 2 of change 1 made
           05                   #   by -3
        13 04                   # op 5: Text
           0200                 #   the text that op 0 of change 2 made
           02 0104 0209         #   on event 4 of change 1 and event 9 of change 2
           03 626f62            #   session bob
           0c                   #   its last event is number 12
           01 03 02 02 6869     #   one edit: at 3, two out, hi in
        06 05                   # op 6: Ins
           0106                 #   the list that op 6 of change 1 made
           00 01                #   at its start, right
           02                   #   value: true
        08 05                   # op 7: Ins
           0106                 #   the same list
           01 0006 00           #   at the position that op 6 of this change made, left
           08                   #   value: a map
        07 06                   # op 8: Move
           0006                 #   the element that op 6 of this change inserted
           01 0208 00           #   to the position that op 8 of change 2 made, left
        0a 07                   # op 9: Mount
           01 01 00 01 6d       #   path: shares /a with op 3, one segment more, the name m
           01                   #   mode: drop
           02 f00d              #   two bytes of parameters
        61 08                   # op 10: Link
           33*32 44*32 55*32    #   space, timeline, change
        59 10                   # op 11: Grant
           01 66*32             #   to this key
           02 00 04 77696b69    #   scope: two segments, the name wiki
              01 01             #     and the author; everything below too
           02 01 77*32          #   for one timeline
           07                   #   SYNC, READ, WRITE
           c0843d 8020 00       #   1 000 000 bytes in all, 4 096 for a body, no end
           02                   #   may be handed on twice
           03 626f62            #   label: bob
        0c 10                   # op 12: Grant
           00                   #   to anyone
           00 00                #   scope: the root and nothing below
           00                   #   for main
           04                   #   WRITE
           00 00 e807           #   no limits, ends 1 000 ms after 1970
           00                   #   may not be handed on
           00                   #   no label
        43 11                   # op 13: Revoke
           88*32                #   which grant
           01                   #   and all handed on from it
           01 99*32             #   but one change stays
        65 12                   # op 14: Genesis
           01 aa*32             #   hash of the root that may follow
           01 02 02             #   guardians: two of these two
              bb*32 cc*32       #     keys, ascending
        8401 13                 # op 15: Succeed
           a1*32 a2*32          #   the state it follows, the new root
           00 00                #   names no next root and no guardians
           00 a3*64             #   signed by the old root
        c501 13                 # op 16: Succeed
           a1*32 a2*32
           01 aa*32 00          #   names the next root by hash
           01 01 bb*32 a4*64    #   signed by one guardian
        03 c8 dead              # op 17: tag 200, which this version does not know
    ");
    assert_eq!(digits(&body.encode()), digits(&expected));
    assert_eq!(Body::decode(&expected), Ok(body));
}

/// Who asked for a change is told to all who read it.
#[test]
fn on_whose_behalf_a_change_was_made() {
    let body = Body { ops: vec![Op::Unknown { tag: timebus_store::behalf::TAG, bytes: Box::from([0x77; 32]) }], ..Body::default() };
    let expected = hex("
        00 00 00 00  # no base, label, part or references
        01           # one op
        21 0a        # on behalf of
           77*32     #   this key
    ");
    assert_eq!(digits(&body.encode()), digits(&expected));
    assert_eq!(timebus_store::behalf::in_body(&Body::decode(&expected).expect("a body")), Some(PublicKey::from_bytes([0x77; 32])));
}

/// What goes to guardians and back is typed, read aloud and kept: its bytes stay what they are.
#[test]
fn a_request_to_guardians_and_their_answer() {
    let request = Request { space: PublicKey::from_bytes([0xa1; 32]), root: PublicKey::from_bytes([0xa2; 32]), next: [0xa3; 32] };
    assert_bytes(
        &request.encode(),
        "
        01              # version
        a1*32           # whose space
        a2*32           # its new root
        a3*32           # what that commits to: the hash of the root after it
    ",
    );
    let plan = Genesis { next: Some([0xa3; 32]), guardians: Some((1, vec![PublicKey::from_bytes([0xbb; 32])])) };
    let authority = Authority::Guardians(vec![(PublicKey::from_bytes([0xbb; 32]), Signature::from_bytes([0xa4; 64]))]);
    let answer = Answer { space: request.space, succeed: Succeed { from: [0xa5; 32], root: request.root, plan, authority } };
    assert_bytes(
        &answer.encode(),
        "
        01              # version
        a1*32           # whose space
        a5*32 a2*32     # a Succeed: the state it follows, the new root
        01 a3*32        #   the root after it, by hash
        01 01 01 bb*32  #   guardians stay who they were
        01 01 bb*32 a4*64 # signed by one of them
    ",
    );
    // Then four bytes of H(\"recovery\", fields), all in z-base-32.
    let check = hash("recovery", &[&request.encode()]);
    let whole = [&request.encode()[..], &check[..4]].concat();
    assert_eq!(request.text(), format!("timebus://recover/{}", timebus_identity::z32::encode(&whole)));
    assert_eq!(Request::parse(&request.text()).ok(), Some(request));
    assert_eq!(Answer::parse(&answer.text()).ok(), Some(answer));
}

#[test]
fn other_spellings_of_a_body_are_refused() {
    let two_sets = |second_path: &str| format!("00 00 00 00  02  08 01 00 01 00 01 61 00 00  {second_path}");
    let refused = [
        (two_sets("08 01 00 01 00 01 61 00 00  # /a again, and it does not share it"), "shared segments"),
        ("00 00 00 00  01  0c 01 00 01 00 01 61 00  02 0001 0000  # preds in descending order".into(), "predecessors"),
        ("00 00 00 00  01  0c 01 00 01 00 01 61 00  02 0000 0000  # the same pred twice".into(), "predecessors"),
        ("00 00 00 00  01  0a 01 00 01 00 01 61 00  01 0100  # change 1 of no references".into(), "reference"),
        ("00 00 00 00  01  09 01 00 01 00 01 61 00 00  00  # a byte behind the last field".into(), "1 bytes"),
        ("00 00 00 00  8000  # a padded number of ops".into(), "ops"),
    ];
    for (bytes, field) in refused {
        let error = Body::decode(&hex(&bytes)).expect_err(&bytes).to_string();
        assert!(error.contains(field), "{error} for {bytes}");
    }
    let shared = two_sets("05 01 01 00 00 00  # /a again, shared");
    assert!(Body::decode(&hex(&shared)).is_ok());
}

#[test]
fn every_kind_of_value() {
    let png = Mime::new("image/png").expect("a media type");
    let other = Mime::new("a/b").expect("a media type");
    let element = Segment::Element(OpId { change: ChangeId([0xe5; 32]), index: 300 });
    let opaque = Json::Object(BTreeMap::from([
        (String::new(), Json::Array(vec![Json::Null, Json::Bool(false), Json::Bool(true), Json::Int(1), Json::String("x".into())])),
        ("a/b".into(), Json::Float(0.5)),
    ]));
    let vectors = [
        (Value::Null, "00"),
        (Value::Bool(false), "01"),
        (Value::Bool(true), "02"),
        (Value::Int(-1), "03 01        # zigzag: 0, -1, 1, -2 are 0, 1, 2, 3"),
        (Value::Int(150), "03 ac02     # 300, seven bits per byte, the lowest first"),
        (Value::Int(INT_MAX), "03 feffffffffffff1f"),
        (Value::Float(1.5), "04 000000000000f83f  # IEEE 754, the lowest byte first"),
        (Value::String("é".into()), "05 02 c3a9   # two bytes of UTF-8"),
        (Value::Bytes { mime: png, bytes: Box::from([0x89, 0x50]) }, "06 0b 02 8950  # media type 11 of the table, two bytes"),
        (Value::Bytes { mime: other, bytes: Box::from([]) }, "06 00 03 612f62 00  # a media type that is not in the table, no bytes"),
        (
            Value::Opaque(opaque),
            "07
             07 02              # an object of two members, keys ascending
             00                 # the empty key
                06 05           # an array of five
                00 01 02        # null, false, true
                03 02           # 1
                05 01 78        # x
             03 612f62          # the key a/b
                04 000000000000e03f  # 0.5",
        ),
        (Value::Map, "08"),
        (Value::text(Mime::markdown()), "09 03       # media type 3 of the table"),
        (Value::Counter(-2), "0a 03       # it starts at -2"),
        (Value::List, "0b"),
        (Value::Blob { hash: [0xcc; 32], len: 300, mime: Mime::plain_text() }, "0c cc*32 ac02 02  # hash, length, media type 2 of the table"),
        (
            Value::Link { space: PublicKey::from_bytes([0xdd; 32]), path: Path::new(vec![Segment::Name("a".into()), element]).expect("a path") },
            "0d dd*32          # the space
             02                # two segments
             00 01 61          # the name a
             01 e5*32 ac02     # the element that op 300 of a change inserted",
        ),
    ];
    for (value, bytes) in vectors {
        let mut out = Writer::new();
        value.encode(&mut out);
        assert_bytes(&out.into_bytes(), bytes);
        let bytes = hex(bytes);
        let mut input = Reader::new(&bytes);
        assert_eq!(Value::decode(&mut input), Ok(value));
        assert_eq!(input.finish(), Ok(()));
    }
}

/// The header of the first change of a space, by its root.
fn first_header(kind: Kind, body: Vec<u8>) -> Header {
    Header {
        kind,
        timeline: TimelineId::named(&root().public(), "auth"),
        author: root().public(),
        seq: 1,
        prev: None,
        cap: None,
        parents: vec![],
        lamport: 1,
        time_ms: 1000,
        cum: 512 + body.len() as u64,
        body_len: body.len() as u64,
        body_root: *blake3::hash(&body).as_bytes(),
        encryption: None,
    }
}

#[test]
fn the_first_change_of_a_space() {
    let next = SecretKey::from_seed([9; 32]).public();
    let body = Body {
        ops: vec![
            Op::Genesis(Genesis { next: Some(hash("next root", &[next.as_bytes()])), guardians: None }),
            Op::Grant(Grant {
                audience: Audience::Key(device().public()),
                scope: Scope::everything(),
                timelines: Timelines::All,
                actions: Actions::ALL,
                bytes_max: 0,
                change_bytes_max: 0,
                not_after_ms: 0,
                depth: 7,
                label: "device".into(),
            }),
        ],
        ..Body::default()
    };
    let header = first_header(Kind::Auth, body.encode());
    let change = Change::new(header.clone(), Arc::from(body.encode())).expect("they fit");
    let signed = Verified::sign(change, &root()).expect("the root's own");
    let expected = hex("
        01                      # version
        01                      # kind: auth
        f432e60373277cf34c3dad4c35f955385a2c839a2fff38beb19f2c49e9d5b598  # timeline: H('timeline', space ‖ 'auth')
        ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c  # author: the root key
        01 00 00 00             # seq 1, no prev, no cap, no parents
        01                      # lamport
        e807                    # 1 000 ms after 1970
        db04 5b                 # 512 + 91 bytes in the chain, 91 of them the body
        d1db58ac96f1d1ea031a848084aae192e4a10949ea33d0c51ea89456490e1b5f  # BLAKE3 of the body
        00                      # not encrypted

        18bb2484e2d6f36f109fd5d3f7acbeefb0a6aabd098a8cc6f6afc88ba2eb26a6  # the root's signature of the id, see below
        ab23b79721f1a873356858172faae60fb32ef148a54e3101803500babd940d0d

        00 00 00 00             # no label, base, part, references
        02                      # two ops
        23 12                   # op 0: Genesis
           01                   #   H('next root', next root key)
           dcc9ac12413602bbcf70a2996fca5d822397b4306f00516cfec15f288ab57f7c
           00                   #   no guardians
        31 10                   # op 1: Grant
           01                   #   to the device key
           1398f62c6d1a457c51ba6a4b5f3dbd2f69fca93216218dc8997e416bd17d93ca
           00 01                #   scope: the root and everything below
           01                   #   for all timelines
           7f                   #   everything
           00 00 00             #   no limits
           07                   #   may be handed on seven times
           06 646576696365      #   label: device
    ");
    assert_eq!(digits(&change::encode(&signed)), digits(&expected));

    // The head alone: the same bytes up to the body, with the same name and signature.
    let record = change::encode(&signed);
    let head = &record[..record.len() - signed.body_bytes().len()];
    assert_eq!(Head::part_of(&record), Some(head));
    let read = Head::decode(head).expect("a head").verify().expect("the author's signature");
    assert_eq!((read.id(), read.header()), (signed.id(), signed.header()));
    assert_eq!((Head::decode(&head[1..]).is_err(), Head::decode(&record).is_err()), (true, true));

    // H("change", header), and what is signed.
    let id = "98f136362dfcfccff17b3a8c88a4c7f4f62d38304c9d103f26a2bb2141206ce6";
    assert_bytes(signed.id().as_bytes(), id);
    assert_bytes(&signed.signing_message(), &format!("74696d656275732e7631206368616e676520736967 00 {id}  # timebus.v1 change sig, a zero, the id"));
    let text = "udaucptp9u6c9hm58kgetjg86u5n4qboj1qtyx3gwk71nojypuuy";
    assert_eq!(signed.id().to_string(), text);
    assert_eq!(text.parse(), Ok(signed.id()));
    // H("grant", change ‖ varint of the op's index)
    let op = OpId { change: signed.id(), index: 1 };
    assert_bytes(op.grant().as_bytes(), "61a0aee7308d001faf4f66a11a06935bc585c9125915b4aad7999e3f76babc7f");
    assert_eq!(op.to_string(), format!("{text}.1"));
    assert_eq!(format!("{text}.1").parse(), Ok(op));

    let read = Change::decode(&expected).expect("canonical").verify().expect("signed by the root");
    assert_eq!(*read.header(), header);
    assert_eq!(Body::decode(read.body_bytes()), Ok(body));
    assert_eq!(read.id(), signed.id());
}

#[test]
fn a_record_of_the_change_log() {
    let mut record = Vec::new();
    frame(5, b"hi", &mut record);
    let expected = hex("
        74627231                  # magic: tbr1
        02000000                  # two bytes of payload, the lowest byte first
        0500000000000000          # arrival number 5, the lowest byte first
        6869                      # the payload; here hi, else an encoded change
        17f1f63013aa648c1b629abe65e1331a  # the first 16 bytes of BLAKE3 of all before
    ");
    assert_eq!(digits(&record), digits(&expected));

    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("00000001.log"), &expected).expect("written");
    let read = LogReader::new(folder.path()).read(Place::START).expect("a good record");
    assert_eq!((read.a, read.payload), (5, b"hi".to_vec()));
    assert_eq!(read.end, Place { segment: 1, offset: 34 });
}

/// The same change in a record of this version. What compresses it must go on giving these bytes: records that were lost
/// are written again where they stood.
#[test]
fn a_packed_change_in_the_change_log() {
    let body = Body { label: Some("spring".into()), ..Body::default() }.encode();
    let id = |byte: u8| ChangeId([byte; 32]);
    let header = Header {
        kind: Kind::Data,
        timeline: TimelineId([1; 32]),
        author: PublicKey::from_bytes([2; 32]),
        seq: 2,
        prev: Some(id(3)),
        cap: None,
        parents: vec![id(4)],
        lamport: 5,
        time_ms: 6,
        cum: 7,
        body_len: body.len() as u64,
        body_root: *blake3::hash(&body).as_bytes(),
        encryption: None,
    };
    let change = Change::new(header, body.into()).expect("a change");
    let signature = Signature::from_bytes([9; 64]);
    let mut record = Vec::new();
    Form::of(&change).frame(5, &change, &signature, &mut record);
    let expected = hex("
        74627232                  # magic: tbr2
        70000000                  # 112 bytes of payload
        0500000000000000          # arrival number 5
        09*64                     # signature
        8a01                      # the body's hash stands behind 138 bytes of the header
        97 01                     # 151 bytes are compressed, as an LZ4 block:
        3f 010001 0100 0c           # version, kind and the first byte of the timeline, which repeats
        1f 02 0100 0d               # author
        2f 0103 0100 0c             # seq 2, prev
        3f 000104 0100 0c           # no cap, one parent
        f002 0506 070c 00           # lamport, time, cum, body length, flags
        0106 737072696e67           # body: label spring
        0000 0000                   #   no base, no part, no references, no ops
        01b0d6fe273046804b19193ee98bba36  # check
    ");
    assert_eq!(digits(&record), digits(&expected));

    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("00000001.log"), &expected).expect("written");
    let read = LogReader::new(folder.path()).read(Place::START).expect("a good record");
    let mut payload = Vec::new();
    change.write(&signature, &mut payload);
    assert_eq!((read.a, read.payload), (5, payload));
}

#[test]
fn keys_of_paths() {
    let zeros = "y".repeat(52);
    let vectors = [
        ("/".to_owned(), "# the root has no bytes"),
        ("/a/bc".to_owned(), "61 00  6263 00  # each name and a zero"),
        ("/@@x".to_owned(), "4078 00  # the name @x"),
        (
            format!("/list/@{zeros}.300/é"),
            "6c697374 00     # list
             01              # an element, named by the op that inserted it:
             30*64           #   the change, as 64 hex digits
             61633032 00     #   the op's index 300, as the hex digits of its varint: ac02
             c3a9 00         # é",
        ),
    ];
    for (text, bytes) in vectors {
        let path = Path::parse(&text).expect("a path");
        assert_bytes(&path.key(), bytes);
        assert_eq!(Path::from_key(&hex(bytes)), Some(path.clone()));
        assert_eq!(path.to_string(), text);
    }
}

#[test]
fn root_states_are_named_by_what_they_say() {
    let (space, root) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
    let plan = Genesis { next: Some([3; 32]), guardians: None };
    assert_eq!(plan.state(&space), hash("genesis state", &[&hex("01*32  01 03*32 00  # space, next, no guardians")]));
    let by = |authority| Succeed { from: [4; 32], root, plan: plan.clone(), authority };
    let state = hash("root state", &[&hex("04*32 02*32  01 03*32 00  # from, root, next, no guardians")]);
    let succeed = by(Authority::Root(Signature::from_bytes([5; 64])));
    assert_eq!((succeed.state(), by(Authority::Guardians(vec![])).state()), (state, state));
    assert_eq!(succeed.signing_message(), [b"timebus.v1 succeed\0".as_slice(), &state].concat());
}
